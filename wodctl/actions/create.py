"""CREATE: make a seat ready for a participant."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from wodctl.actions.cleanup import take_back
from wodctl.actions.phases import Phases
from wodctl.actions.site import Outcome, Site, Workshop
from wodctl.errors import ContentProblem, WodError
from wodctl.model import registration
from wodctl.model.order import Order, Rejected
from wodctl.model.registration import Update
from wodctl.model.seat import BY_HAND, Seat, new_password, password_hash, user_name


def create(order: Order, step: Any, site: Site, phase: Phases) -> Outcome:
    """Give the participant a fresh seat: new password, new home, his workshop in it, a server that answers.

    A seat that is his already, ready with that workshop, keeps what he has done: mails come twice. Whatever
    else the seat was before is taken back first. Only at the very end can anybody log in, and only then is the
    registration database told. Raises Rejected for an unknown workshop, ContentProblem for one that cannot be
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
    workshop = _workshop(order, site)
    uid, gid = site.settings.UIDBASE + number, site.settings.GIDBASE + number

    with phase("claim"):
        site.seats.set_preparing(number, order.customer, order.workshop, order.mode)
    with phase("close"):
        take_back(number, site)
    with phase("password"):
        hashed = password_hash(new_password())
    with phase("prepare"):
        needed = site.appliances.needed(workshop, number)
        prepared = site.appliances.prepare(needed, number) if needed else None
        key_pair = site.homes.new_key_pair()
    warnings: list[str] = []

    def start_appliance() -> None:
        if prepared:
            site.appliances.start(prepared, key_pair[1])

    def fill(home: Path) -> None:
        values = prepared.values if prepared else {}
        warnings.extend(site.workshops.fill(home, workshop, str(order.mode), number, uid, gid, values))

    def take_appliance_away() -> None:
        if prepared:
            site.appliances.ensure_absent(number)

    with _meanwhile(start_appliance, undo=take_appliance_away) as wait_for_appliance:
        with phase("home"):
            site.homes.build(user, uid, gid, fill, key_pair, prepared.ssh_files if prepared else {})
        with phase("server"):
            site.hub.start_server(user)
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


def _updates(order: Order, site: Site) -> tuple[Update, ...]:
    """The password first: once the participant is active, the portal sends him what it has."""
    password = registration.fresh_password(order.first, site.settings.WODBASESTDID)
    if order.customer == BY_HAND:
        return (password,)
    return (password, registration.active(order.customer, now=True))


def _workshop(order: Order, site: Site) -> Workshop:
    try:
        return site.workshops.workshop(str(order.workshop))
    except ContentProblem as error:
        raise Rejected(error.message) from None


def _now() -> datetime:
    return datetime.now(timezone.utc)
