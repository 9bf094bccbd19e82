"""Nothing is lost: every acknowledged mail ends in exactly one ready seat, whatever dies meanwhile."""

import time

import pytest

from tests.conftest import docker
from tests.journey.portal import actions, seat, send, wait_for_action


def cleaned(stack, *seats: int) -> None:
    for number in seats:
        stack.wodctl("action", "submit", "CLEANUP", str(number), "0", "-w", "WKSHP-Welcome101", "--wait")
        assert seat(stack, number)["state"] == "free"


def phases_of(stack, customer: int) -> int:
    found = [a for a in actions(stack) if a["customer"] == customer]
    return len(found[0]["phases"]) if found else -1


@pytest.mark.parametrize("phase", range(5))
def test_a_worker_killed_in_any_phase_leaves_one_ready_seat(stack, phase):
    """A CREATE whose worker dies by SIGKILL is carried on by the next worker, once."""
    customer, number = 7000 + phase, 40 + phase
    send(stack, f"CREATE {number} {customer}", "WKSHP-Welcome101")
    end = time.monotonic() + 30
    while phases_of(stack, customer) < phase and time.monotonic() < end:
        pass
    docker("kill", "--signal=KILL", stack.container("worker"))
    docker("start", stack.container("worker"), check=False)
    ended = wait_for_action(stack, customer, "CREATE")
    assert ended["state"] == "done", ended
    assert len([a for a in actions(stack) if a["customer"] == customer]) == 1
    assert (seat(stack, number)["state"], seat(stack, number)["customer"]) == ("ready", customer)
    cleaned(stack, number)


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
    """A SIGKILL of the mail service in a burst: each acknowledged mail becomes exactly one action."""
    acknowledged = []
    for number in range(30, 36):
        send(stack, f"CREATE {number} {9000 + number}", "WKSHP-Welcome101")
        acknowledged.append(9000 + number)
    docker("kill", "--signal=KILL", stack.container("mail"))
    docker("start", stack.container("mail"), check=False)
    for customer in acknowledged:
        assert wait_for_action(stack, customer, "CREATE")["state"] == "done"
        assert len([a for a in actions(stack) if a["customer"] == customer]) == 1
    cleaned(stack, *range(30, 36))
