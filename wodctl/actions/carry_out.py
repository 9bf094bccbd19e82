"""Carrying out what the record orders, seat by seat, and writing down truthfully what became of it."""

import logging
from functools import partial
from typing import Any

from wodctl.actions.cleanup import cleanup, purge, reset
from wodctl.actions.create import create
from wodctl.actions.deliver import deliver
from wodctl.actions.flags import flags_of
from wodctl.actions.phases import Phases
from wodctl.actions.site import Outcome, Site
from wodctl.errors import ActionFailed, Unavailable, WodError
from wodctl.model import registration
from wodctl.model.order import DELIVER, Order, Rejected, check_order

ATTEMPTS = 24
"""How often a step is begun before it is given up: with growing pauses, after about ten minutes."""

_VERBS = {"CREATE": create, "CLEANUP": cleanup, "RESET": reset, "PURGE": purge, DELIVER: deliver}

log = logging.getLogger("wod")


def carry_out(seat: int, site: Site) -> None:
    """Carry out the order for that seat which arrived first, if any waits.

    Afterwards its state is done, failed or rejected, with the reason. Raises Unavailable where it is worth
    another attempt; the state is then queued.
    """
    step = site.actions.begin_step(seat)
    if step is None:
        return
    number = step.action
    note = partial(site.actions.note_phases, number) if step.first == step.last else _note_nothing
    phases = Phases(note)
    outcome: Outcome
    try:
        state, outcome = "done", _do(step, site, phases)
    except Rejected as refusal:
        state, outcome = "rejected", Outcome(_said(refusal), touched=False)
    except Unavailable as error:
        if step.attempts <= ATTEMPTS:
            site.actions.put_back_step(number, seat, f"{error.message} To be tried again.")
            log.info("action %d: put back: %s", number, error.message)
            raise
        state, outcome = "failed", Outcome(_said(error))
    except WodError as error:
        state, outcome = "failed", Outcome(_said(error))
    except Exception as error:
        log.exception("action %d: not foreseen", number)
        what = f"Not foreseen: {type(error).__name__}: {error}. The log says where."
        state, outcome = "failed", Outcome(what)
    if state == "failed" and step.kind != DELIVER:
        site.seats.set_failed(seat, str(outcome.reason))
    note(phases.list)
    site.actions.end_step(number, seat, state, outcome if site.registration else _untold(outcome))
    what = f"{step.kind} of seat {seat} for customer {step.customer} with {step.workshop}"
    log.info("action %d: %s: %s", number, what, "; ".join(filter(None, (state, outcome.reason, str(phases)))))


def fan_out(number: int, site: Site) -> None:
    """Make an order on a range of seats into one step for each of them, and restore the workshop's capacity.

    One that names seats which the site does not have is rejected as a whole. Raises Unavailable.
    """
    action = site.actions.begin_range(number)
    if action is None:
        return
    try:
        order = Order(action.action, action.seat, action.last_seat, action.customer, action.workshop)
        _check(order, site)
    except Rejected as refusal:
        site.actions.end_range(number, "rejected", refusal.message)
        return
    if not flags_of(order.workshop, site).reset:
        site.actions.end_range(
            number, "done", f"{order.workshop} is not flagged `reset`; nothing was touched."
        )
        return
    places = order.last - order.first + 1
    told = [registration.capacity(str(order.workshop), places)] if site.registration else []
    site.actions.fan_out(number, places, told)
    log.info("action %d: %s of seats %d to %d", number, order.action, order.first, order.last)


def _do(step: Any, site: Site, phases: Phases) -> Outcome:
    """Do what the record says. Raises Rejected for what cannot be done at all."""
    order = Order(step.kind, step.first, step.last, step.customer, step.workshop)
    _check(order, site)
    if step.attempts > ATTEMPTS + 1:
        raise ActionFailed(
            f"It was begun {step.attempts} times and never ended: the worker was lost each time."
        )
    if step.overtaken_by is not None:
        gone = order.action != "CREATE" and order.customer != 0 and order.first == order.last
        return Outcome(
            f"Action {step.overtaken_by} was ordered later and is carried out already; nothing was touched.",
            touched=False,
            updates=(registration.cleaned(order.customer),) if gone else (),
        )
    return _VERBS[order.action](order, step, site, phases)


def _check(order: Order, site: Site) -> None:
    # A seat that the site has given up since it was lent is taken back all the same; it is forgotten once it is free.
    if order.action != "CREATE" and order.first == order.last and site.seats.seat(order.first) is not None:
        return
    check_order(order, seat_min=site.settings.WODUSERMIN, seat_max=site.settings.WODUSERMAX)


def _said(error: WodError) -> str:
    """What failed, and what the operator can do about it."""
    return f"{error.message} {error.hint}".strip()


def _note_nothing(_: Any) -> None:
    """An action on several seats has their times as its phases, not those within each of them."""


def _untold(outcome: Outcome) -> Outcome:
    return Outcome(outcome.reason, outcome.touched)
