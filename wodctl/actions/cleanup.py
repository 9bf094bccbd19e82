"""CLEANUP, RESET and PURGE: take a seat back at the end of its lease."""

import logging
from typing import Any

from wodctl.actions.phases import Phases
from wodctl.actions.site import Outcome, Site
from wodctl.errors import ContentProblem, Unavailable
from wodctl.model import registration
from wodctl.model.order import Order
from wodctl.model.registration import Update
from wodctl.model.seat import BY_HAND, Seat, user_name

log = logging.getLogger("wod")


def cleanup(order: Order, step: Any, site: Site, phase: Phases) -> Outcome:
    """End the lease: nobody can log in any more, server and sessions are gone, how far he came is recorded.

    The home goes too and the seat is free, unless the workshop has to be reset: then the RESET that follows
    does that. A CLEANUP that comes late, when the seat is lent to somebody else, leaves him in peace. An
    unknown workshop is no reason to leave a seat open. Raises ActionFailed or Unavailable.
    """
    kept = needs_reset(order, site)
    return _end_lease(order, step, site, phase, keep_home=kept)


def reset(order: Order, step: Any, site: Site, phase: Phases) -> Outcome:
    """Make a seat that its CLEANUP kept free; nothing at all for a workshop that needs no reset.

    If that CLEANUP never came, this does its work. Raises ActionFailed or Unavailable.
    """
    if not needs_reset(order, site):
        return Outcome(f"{order.workshop} is not flagged `reset`; nothing was touched.", touched=False)
    return _end_lease(order, step, site, phase, keep_home=False)


def purge(order: Order, step: Any, site: Site, phase: Phases) -> Outcome:
    """Make a seat free, whatever its workshop; if its CLEANUP never came, this does the work of it.

    Raises ActionFailed or Unavailable.
    """
    return _end_lease(order, step, site, phase, keep_home=False)


def needs_reset(order: Order, site: Site) -> bool:
    """Whether seats of the order's workshop need a RESET: as the registration database says, else `wod.yml`."""
    name = str(order.workshop)
    if site.registration:
        try:
            row = site.registration.workshop(name)
            if row is not None:
                return str(row.get("reset")).lower() == "true"
        except Unavailable as error:
            log.info("%s The workshop's own file is asked.", error.message)
    try:
        return bool(site.workshops.workshop(name).metadata.reset)
    except ContentProblem:
        return False


def take_back(number: int, site: Site) -> None:
    """End what the former lease left: the participant's server, his login sessions, his appliance, his home."""
    user = user_name(number)
    site.hub.ensure_absent(user)
    site.appliances.ensure_absent(number)
    site.homes.ensure_absent(user)


def _end_lease(order: Order, step: Any, site: Site, phase: Phases, *, keep_home: bool) -> Outcome:
    number, base = step.seat, site.settings.WODBASESTDID
    seat = site.seats.seat(number) or Seat(number, "free")
    told = () if order.customer == BY_HAND else (registration.cleaned(order.customer),)
    if holder := _other_holder(order, seat):
        return Outcome(
            f"Seat {number} is customer {holder}'s now, not {order.customer}'s; nothing was touched.",
            touched=False,
            updates=told if _is_his_own(order) else (),
        )
    if step.ended_before and order.customer != BY_HAND and seat.state == "free":
        # He has left already. Whose the seat is meanwhile, only the registration database knows: a second
        # "assigned: false" could take it from the next one.
        take_back(number, site)
        return Outcome(updates=told)

    home_stays = keep_home and seat.state != "free"
    with phase("claim"):
        site.seats.set_cleaning(number)
    with phase("close"):
        site.hub.ensure_absent(user_name(number))
    percentage = _completion(order, step, seat, site, phase)
    with phase("appliance"):
        site.appliances.ensure_absent(number)
    if not home_stays:
        with phase("home"):
            site.homes.ensure_absent(user_name(number))
        site.seats.set_free(number)
    return Outcome(
        reason="The seat waits for its RESET." if home_stays else None,
        updates=_updates(order, step, base, percentage, kept=home_stays),
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


def _is_his_own(order: Order) -> bool:
    return order.first == order.last and order.action != "RESET"


def _completion(order: Order, step: Any, seat: Seat, site: Site, phase: Phases) -> int | None:
    """How much of his workshop the participant carried out, counted once: before his home goes.

    None where that is known already, or where nobody worked.
    """
    if step.completion is not None:
        return int(step.completion)
    if step.ended_before or not seat.workshop or seat.customer != order.customer:
        return None
    with phase("completion"):
        folder = "WKSHP-" + seat.workshop.partition("-")[2]
        more = site.appliances.notebooks(seat.number)
        percentage = site.homes.completion(user_name(seat.number), folder, more)
        site.actions.note_completion(step.action, percentage)
    return percentage


def _updates(order: Order, step: Any, base: int, percentage: int | None, *, kept: bool) -> tuple[Update, ...]:
    """What the registration database is told, in the order in which it is used to hear it."""
    number, customer = step.seat, order.customer
    his_own = customer != BY_HAND and _is_his_own(order)
    found: list[Update] = []
    if order.action == "PURGE":
        found = [registration.released(number, base)]
    elif order.action == "RESET":
        found = [registration.fresh_password(number, base), registration.assigned(number, base, taken=False)]
    if customer != BY_HAND and percentage is not None and order.action != "CLEANUP":
        # The CLEANUP never came: its part is told as well.
        return (registration.completed(customer, percentage), *found, registration.cleaned(customer))
    if order.action == "CLEANUP":
        found = [registration.fresh_password(number, base)]
        if his_own and percentage is not None:
            found.append(registration.completed(customer, percentage))
        found.append(registration.assigned(number, base, taken=kept))
        if his_own and kept:
            found.append(registration.active(customer, now=False))
        if his_own:
            found.append(registration.cleaned(customer))
    return tuple(found)
