"""CREATE: make a seat ready for a participant."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from wodctl.actions.cleanup import close_directory, count_completion, take_back
from wodctl.actions.flags import Flags, flags_of
from wodctl.actions.hooks import AT_CREATE, occasion_of, run_scripts
from wodctl.actions.phases import Phases
from wodctl.actions.site import Outcome, Site, Workshop
from wodctl.errors import ActionFailed, ContentProblem, Unavailable, WodError
from wodctl.model import registration
from wodctl.model.order import Order, Rejected
from wodctl.model.registration import Update
from wodctl.model.seat import BY_HAND, Seat, password_hash, user_name

PATIENCE = 4
"""Attempts, over ten seconds, for a seat that is lent: the mail that ends that lease may have been held up."""


def create(order: Order, step: Any, site: Site, phase: Phases) -> Outcome:
    """Give the participant a fresh seat: new password, new home, his workshop in it, a server that answers.

    A seat that is his already, ready with that workshop, keeps what he has done: mails come twice. One that is
    lent to somebody else is refused. Whatever else the seat was before is taken back first, and who had it is
    told so. Only at the very end can anybody log in, and only then is the registration database told. Raises
    Rejected for an unknown workshop and a seat that is lent, ContentProblem for a workshop that cannot be
    delivered, ActionFailed or Unavailable.
    """
    number, user = order.first, user_name(order.first)
    seat = site.seats.seat(number) or Seat(number, "free")
    if seat.is_ready_for(order.customer, order.workshop, _now()):
        if step.attempts > 1:  # it was this very action, and the worker died before it could say so
            return Outcome(updates=_updates(order, site))
        return Outcome(
            f"Seat {number} was ready for customer {order.customer} already; nothing was touched.",
            touched=False,
        )
    if seat.is_lent_to_another(order.customer, _now()):
        lent = (
            f"Seat {number} is lent to customer {seat.customer} until {seat.lease_until:%Y-%m-%d %H:%M} UTC."
        )
        if order.customer != BY_HAND and step.attempts < PATIENCE:
            raise Unavailable(lent)
        raise Rejected(f"{lent} Nothing was touched; `wodctl student wipe {number}` takes it from him.")
    workshop, lab = _workshop(order, site)
    flags = flags_of(order.workshop, site)
    uid, gid = site.settings.UIDBASE + number, site.settings.GIDBASE + number

    former = _former(order, step, seat, site, phase)
    if seat.workshop and not flags.ldap and flags_of(seat.workshop, site).ldap:
        close_directory(number, site, phase)
    with phase("claim"):
        site.seats.set_preparing(number, order.customer, order.workshop, order.mode)
    with phase("close"):
        take_back(number, site)
        if former and site.registration:
            site.actions.owe(step.action, number, former)
    with phase("password"):
        password = site.password_for_a_lease()
        hashed = password_hash(password)
        # The others' passwords are made when they are told; this one is in the participant's files, in the
        # directory, told to scripts of the site, or everybody's, and it must be the same everywhere.
        if _is_shared(flags) or _has_scripts(workshop, site) or site.fixed_password:
            site.passwords.keep(number, order.customer, password)
    with phase("prepare"):
        needed = site.appliances.needed(workshop, number)
        prepared = site.appliances.prepare(needed, number) if needed else None
        key_pair = site.homes.new_key_pair()
    # Before anything of this lease runs: server, appliance, scripts in the home.
    with phase("egress"):
        allowed = workshop.metadata.egress
        if allowed is not None and prepared:
            allowed = (*allowed, *prepared.outside)
        unknown = site.egress.allow(number, allowed)
    warnings = [f"{name}, which the workshop may reach, has no address at the moment." for name in unknown]

    def start_appliance() -> None:
        if prepared:
            site.appliances.start(prepared, key_pair[1])

    def fill(home: Path) -> None:
        shown = {"PASSSTU": password} if _is_shared(flags) else {}
        warnings.extend(_fill(home, order, workshop, password, shown, key_pair, prepared, site, phase))

    def take_appliance_away() -> None:
        if prepared:
            site.appliances.ensure_absent(number)

    with _meanwhile(start_appliance, undo=take_appliance_away) as wait_for_appliance:
        with phase("home"):
            site.homes.build(user, uid, gid, fill)
        if flags.ldap:
            with phase("ldap"):
                set_directory_password(number, password, site)
        with phase("server"):
            site.hub.start_server(user, lab)
        with phase("answer"):
            site.hub.wait_for_answer(user)
        if prepared:
            with phase("appliance"):
                wait_for_appliance()
    site.seats.set_ready(number, hashed, _now() + timedelta(hours=workshop.duration_hours))
    return Outcome(" ".join(warnings) or None, updates=_updates(order, site))


@contextmanager
def _meanwhile(work: Callable[[], None], undo: Callable[[], None]) -> Iterator[Callable[[], None]]:
    """Do the work beside what is in the `with`, which is given a function that waits for it and raises what it raised.

    Nothing goes on after the end, however that comes about; `undo` is done when it is by an exception.
    """
    try:
        with ThreadPoolExecutor(1) as executor:
            doing = executor.submit(work)
            yield doing.result
    except BaseException:
        with suppress(WodError):
            undo()
        raise


def _fill(
    home: Path,
    order: Order,
    workshop: Workshop,
    password: str,
    shown: Mapping[str, str],
    key_pair: tuple[bytes, bytes],
    prepared: Any,
    site: Site,
    phase: Phases,
) -> Sequence[str]:
    """Everything that a new home has, in the order in which the site's scripts expect it; returns what is odd.

    `shown` are the variables that only the workshop's own files may know: the password, if they show it.
    """
    name, mode = str(order.workshop), str(order.mode)
    occasion = occasion_of(name, order.first, site, password, AT_CREATE)
    seat, uid, gid = occasion.seat, occasion.uid, occasion.gid
    values = {**shown, **(prepared.values if prepared else {})}
    with site.scripts.at(occasion) as desk:

        def run(kind: str) -> None:
            run_scripts(kind, desk, workshop, home, site, phase)

        site.workshops.furnish(home, uid, gid)
        site.homes.install_keys(home, uid, gid, key_pair, prepared.ssh_files if prepared else {})
        site.workshops.give_secrets(home, workshop, mode, seat, uid, gid)
        if workshop.metadata.compile:
            with phase("compile"):
                desk.compile(workshop.metadata.compile, workshop, home)
        run("create")
        content = workshop
        if site.scripts.named("pre-templating", occasion.folder):
            content = desk.lend(workshop)
            run("pre-templating")
        warnings = site.workshops.fill(home, content, mode, seat, uid, gid, desk.made, values)
        run("post-templating")
        run("post-copy")
    return warnings


def set_directory_password(number: int, password: str, site: Site) -> None:
    """The directory's entry of that seat opens with this password. Raises ActionFailed or Unavailable."""
    if site.directory is None:
        raise ActionFailed(
            "The workshop is flagged `ldap`, but this site has no directory: set WODLDAPSRVNAME, or correct the flag."
        )
    site.directory.set_password(number, password)


def _is_shared(flags: Flags) -> bool:
    return flags.ldap or flags.varpass


def _has_scripts(workshop: Workshop, site: Site) -> bool:
    return any(site.scripts.named(kind, workshop.name) for kind in AT_CREATE)


def _former(order: Order, step: Any, seat: Seat, site: Site, phase: Phases) -> tuple[Update, ...]:
    """What is told of the customer who had the seat and has not left it by an order of his own."""
    if step.leaver in (None, BY_HAND, order.customer) or step.ended_before:
        return ()
    percentage = count_completion(step, seat, site, phase)
    cleaned = registration.cleaned(step.leaver)
    return (cleaned,) if percentage is None else (registration.completed(step.leaver, percentage), cleaned)


def _updates(order: Order, site: Site) -> tuple[Update, ...]:
    """The password first: once the participant is active, the portal sends him what it has."""
    password = registration.fresh_password(order.first, site.settings.WODBASESTDID)
    if order.customer == BY_HAND:
        return (password,)
    return (password, registration.active(order.customer, now=True))


def _workshop(order: Order, site: Site) -> tuple[Workshop, str]:
    """The workshop, and the lab that it is given in."""
    try:
        workshop = site.workshops.workshop(str(order.workshop))
        return workshop, site.workshops.lab(workshop)
    except ContentProblem as error:
        raise Rejected(" ".join(filter(None, (error.message, error.hint)))) from None


def _now() -> datetime:
    return datetime.now(timezone.utc)
