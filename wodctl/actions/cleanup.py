"""CLEANUP, RESET and PURGE: take a seat back at the end of its lease."""

from typing import Any

from wodctl.actions.flags import Flags, flags_of
from wodctl.actions.hooks import run_scripts_at_the_end
from wodctl.actions.phases import Phases
from wodctl.actions.site import Outcome, Site
from wodctl.model import registration
from wodctl.model.order import Order
from wodctl.model.registration import Update
from wodctl.model.seat import BY_HAND, Seat, new_password, user_name


def cleanup(order: Order, step: Any, site: Site, phase: Phases) -> Outcome:
    """End the lease: nobody can log in any more, server and sessions are gone, how far he came is recorded.

    The home goes too and the seat is free, unless the workshop has to be reset: then the RESET that follows
    does that. A CLEANUP that comes late, when the seat is lent to somebody else, leaves him in peace. An
    unknown workshop is no reason to leave a seat open. Raises ActionFailed or Unavailable.
    """
    flags = flags_of(order.workshop, site)
    return _end_lease(order, step, site, phase, flags, keep_home=flags.reset)


def reset(order: Order, step: Any, site: Site, phase: Phases) -> Outcome:
    """Make a seat that its CLEANUP kept free; nothing at all for a workshop that needs no reset.

    If that CLEANUP never came, this does its work. Raises ActionFailed or Unavailable.
    """
    flags = flags_of(order.workshop, site)
    if not flags.reset:
        return Outcome(f"{order.workshop} is not flagged `reset`; nothing was touched.", touched=False)
    return _end_lease(order, step, site, phase, flags, keep_home=False)


def purge(order: Order, step: Any, site: Site, phase: Phases) -> Outcome:
    """Make a seat free, whatever its workshop; if its CLEANUP never came, this does the work of it.

    Raises ActionFailed or Unavailable.
    """
    return _end_lease(order, step, site, phase, None, keep_home=False)


def take_back(number: int, site: Site) -> None:
    """End what the former lease left: the participant's server, his login sessions, appliance, home and password."""
    user = user_name(number)
    site.passwords.forget(number)
    site.hub.ensure_absent(user)
    site.appliances.ensure_absent(number)
    site.homes.ensure_absent(user)


def close_directory(number: int, site: Site, phase: Phases) -> None:
    """The seat's entry in the directory, if there is one, opens with no password that anybody knows.

    Raises ActionFailed or Unavailable: then somebody may still get in there, and the seat must not be lent.
    """
    if site.directory:
        with phase("ldap"):
            site.directory.set_password(number, new_password())


def count_completion(step: Any, seat: Seat, site: Site, phase: Phases) -> int | None:
    """How much of his workshop the leaver carried out, counted once: before his home goes.

    None where that is known already, or where nobody worked.
    """
    if step.completion is not None:
        return int(step.completion)
    if step.ended_before or not seat.workshop or seat.customer != step.leaver:
        return None
    with phase("completion"):
        folder = "WKSHP-" + seat.workshop.partition("-")[2]
        more = site.appliances.notebooks(seat.number)
        percentage = site.homes.completion(user_name(seat.number), folder, more)
        site.actions.note_completion(step.action, seat.number, percentage)
    return percentage


def _end_lease(
    order: Order, step: Any, site: Site, phase: Phases, flags: Flags | None, *, keep_home: bool
) -> Outcome:
    """End it; `flags` are those of the order's workshop, None where it names none."""
    number = step.seat
    seat = site.seats.seat(number) or Seat(number, "free")
    if holder := _other_holder(order, seat):
        gone = () if order.action == "RESET" else (registration.cleaned(order.customer),)
        return Outcome(
            f"Seat {number} is customer {holder}'s now, not {order.customer}'s; nothing was touched.",
            touched=False,
            updates=gone,
        )
    leaver = step.leaver or BY_HAND
    if step.ended_before and leaver != BY_HAND and seat.state == "free":
        # He has left already. Whose the seat is meanwhile, only the registration database knows: a second
        # "assigned: false" could take it from the next one.
        take_back(number, site)
        return Outcome(updates=(registration.cleaned(leaver),))

    # Not by its state: the first attempt on a seat that nobody had may have changed that.
    home_stays = keep_home and seat.customer is not None
    said = ["The seat waits for its RESET."] if home_stays else []
    if seat.state == "ready" and site.homes.existing(user_name(number)) is None:
        said.append(
            f"The home of {user_name(number)} was gone, so that nothing could be counted: "
            "look who removed it, or whether its disk is mounted."
        )
    with phase("claim"):
        site.seats.set_cleaning(number)
        site.passwords.forget(number)
    with phase("close"):
        site.hub.ensure_absent(user_name(number))
    if flags is None or seat.workshop not in (None, order.workshop):
        flags = flags_of(seat.workshop, site)
    if flags.ldap:
        close_directory(number, site, phase)
    run_scripts_at_the_end(order, step, seat, site, phase)
    percentage = count_completion(step, seat, site, phase)
    with phase("appliance"):
        site.appliances.ensure_absent(number)
    if not home_stays:
        with phase("home"):
            site.homes.ensure_absent(user_name(number))
        site.seats.set_free(number)
    return Outcome(
        reason=" ".join(said) or None,
        updates=_updates(order, step, leaver, site, percentage, kept=home_stays),
    )


def _other_holder(order: Order, seat: Seat) -> int | None:
    """Who holds the seat, if the order must not touch it.

    A RESET of a range is about everybody who was there before: only who is at work is another.
    """
    if not seat.belongs_to_another(order.customer):
        return None
    if order.first != order.last and seat.state in ("cleaning", "failed"):
        return None
    return seat.customer


def _updates(
    order: Order, step: Any, leaver: int, site: Site, percentage: int | None, *, kept: bool
) -> tuple[Update, ...]:
    """What the registration database is told, in the order in which it is used to hear it."""
    number, base = step.seat, site.settings.WODBASESTDID
    found: list[Update] = []
    if order.action == "PURGE":
        found = [registration.released(number, base)]
    elif order.action == "RESET":
        found = [registration.fresh_password(number, base), registration.assigned(number, base, taken=False)]
    if leaver != BY_HAND and not step.ended_before and order.action != "CLEANUP":
        # The CLEANUP never came: its part is told as well.
        counted = [] if percentage is None else [registration.completed(leaver, percentage)]
        return (*counted, *found, registration.cleaned(leaver))
    if order.action == "CLEANUP":
        found = [registration.fresh_password(number, base)]
        if leaver != BY_HAND and percentage is not None:
            found.append(registration.completed(leaver, percentage))
        found.append(registration.assigned(number, base, taken=kept))
        if leaver != BY_HAND and kept:
            found.append(registration.active(leaver, now=False))
        if leaver != BY_HAND:
            found.append(registration.cleaned(leaver))
    return tuple(found)
