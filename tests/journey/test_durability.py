"""Nothing is lost: every acknowledged mail ends in exactly one ready seat, whatever dies meanwhile."""

import time

import pytest

from tests.conftest import docker
from tests.journey.portal import actions, seat, send, wait_for_action
from wodctl.adapters.database import connect_as_operator


def cleaned(stack, *seats: int) -> None:
    for number in seats:
        stack.wodctl("action", "submit", "CLEANUP", str(number), "0", "-w", "WKSHP-Welcome101", "--wait")
        assert seat(stack, number)["state"] == "free"


def latest(stack, customer: int):
    """The customer's action as the database has it now, or None: without the time that a command takes."""
    found = [
        a
        for a in connect_as_operator(stack.state).actions(only_rejected=False, limit=20)
        if a.customer == customer
    ]
    return found[0] if found else None


@pytest.mark.parametrize("phase", ["claim", "close", "home", "server"])
def test_a_worker_killed_in_any_phase_leaves_one_ready_seat(stack, phase):
    """A CREATE whose worker dies by SIGKILL is carried on by the next worker, once."""
    number = 40 + ["claim", "close", "home", "server"].index(phase)
    for attempt in range(5):
        customer = 7000 + 10 * number + attempt
        send(stack, f"CREATE {number} {customer}", "WKSHP-Welcome101")
        end = time.monotonic() + 30
        while time.monotonic() < end:
            found = latest(stack, customer)
            if found and (found.finished or phase in [begun["name"] for begun in found.phases]):
                break
        docker("kill", "--signal=KILL", stack.container("worker"))
        unfinished = latest(stack, customer).finished is None
        docker("start", stack.container("worker"), check=False)
        ended = wait_for_action(stack, customer, "CREATE")
        assert ended["state"] == "done", ended
        assert len([a for a in actions(stack) if a["customer"] == customer]) == 1
        assert (seat(stack, number)["state"], seat(stack, number)["customer"]) == ("ready", customer)
        cleaned(stack, number)
        if unfinished:
            return
    raise AssertionError(f"in five attempts the worker was never killed while the phase {phase} lasted")


def test_mails_that_arrive_while_the_database_is_away_are_kept(stack):
    """Postfix keeps what cannot become a row yet; every mail becomes one action when the database is back."""
    docker("stop", stack.container("db"))
    try:
        for number in (30, 31, 32):
            send(stack, f"CREATE {number} {8000 + number}", "WKSHP-Welcome101")
        time.sleep(3)
    finally:
        docker("start", stack.container("db"))
    for number in (30, 31, 32):
        assert wait_for_action(stack, 8000 + number, "CREATE")["state"] == "done"
        assert len([a for a in actions(stack) if a["customer"] == 8000 + number]) == 1
    cleaned(stack, 30, 31, 32)


def test_a_restarted_mail_service_loses_nothing(stack):
    """A SIGKILL of the mail service with mails in its queue: each acknowledged mail becomes exactly one action."""
    acknowledged = [9000 + number for number in range(30, 36)]
    docker("stop", stack.container("intake"))
    try:
        for customer in acknowledged:
            send(stack, f"CREATE {customer - 9000} {customer}", "WKSHP-Welcome101")
        docker("kill", "--signal=KILL", stack.container("mail"))
        assert all(latest(stack, customer) is None for customer in acknowledged)
    finally:
        docker("start", stack.container("intake"))
        docker("start", stack.container("mail"), check=False)
    for customer in acknowledged:
        assert wait_for_action(stack, customer, "CREATE")["state"] == "done"
        assert len([a for a in actions(stack) if a["customer"] == customer]) == 1
    cleaned(stack, *range(30, 36))
