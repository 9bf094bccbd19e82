"""Carrying out an action of the record, and writing down truthfully what became of it."""

import logging
from typing import Any

from wodctl.actions.cleanup import cleanup
from wodctl.actions.create import create
from wodctl.actions.phases import Phases
from wodctl.actions.site import Site
from wodctl.errors import ActionFailed, Unavailable, WodError
from wodctl.model.order import Order, Rejected, check_order

ATTEMPTS = 30
"""How often an action is begun before it is given up: with growing pauses, after a quarter of an hour."""

log = logging.getLogger("wod")


def carry_out(number: int, site: Site, *, attempt: int) -> None:
    """Carry out an action of the record, unless it has ended already; `attempt` counts from 0.

    Afterwards its state is done, failed or rejected, with the reason. Raises Unavailable where it is worth
    another attempt; the state is then queued.
    """
    action = site.actions.begin_action(number)
    if action is None:
        return
    phases = Phases(lambda done: site.actions.note_phases(number, done))
    reason: str | None
    try:
        state, reason = "done", _do(action, site, phases, attempt)
    except Rejected as refusal:
        state, reason = "rejected", refusal.message
    except Unavailable as error:
        if attempt < ATTEMPTS:
            site.actions.put_back_action(number, f"{error.message} To be tried again.")
            log.info("action %d: put back: %s", number, error.message)
            raise
        state, reason = "failed", error.message
    except WodError as error:
        state, reason = "failed", error.message
    except Exception as error:
        log.exception("action %d: not foreseen", number)
        state, reason = "failed", f"Not foreseen: {type(error).__name__}: {error}. The log says where."
    if state == "failed":
        site.seats.set_failed(action.seat, str(reason))
    site.actions.end_action(number, state, reason, phases.list)
    what = f"{action.action} of seat {action.seat} for customer {action.customer} with {action.workshop}"
    log.info("action %d: %s: %s", number, what, "; ".join(filter(None, (state, reason, str(phases)))))


def _do(action: Any, site: Site, phases: Phases, attempt: int) -> str | None:
    """Do what the record says. Raises Rejected for what cannot be done at all."""
    order = Order(action.action, action.seat, action.last_seat, action.customer, action.workshop)
    check_order(order, seat_min=site.settings.WODUSERMIN, seat_max=site.settings.WODUSERMAX)
    if attempt > ATTEMPTS:
        raise ActionFailed(f"It was begun {attempt} times and never ended: the worker was lost each time.")
    match order.action:
        case "CREATE":
            return create(order, site, phases)
        case "CLEANUP":
            return cleanup(order, site, phases)
    raise Rejected(f"This version does not carry out {order.action} yet; a CREATE makes a seat new as well.")
