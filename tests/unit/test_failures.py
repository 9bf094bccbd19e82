"""Wrong passwords: how long who has to pause, and whom it does not concern."""

import sys
from collections.abc import Iterator

import pytest

from tests.conftest import ROOT

sys.path.insert(0, str(ROOT / "images" / "hub"))

from wod_hub.failures import FORGOTTEN_AFTER, KEPT, Failures, Guesser

STRANGER = Guesser("student3", "198.51.100.7")


class Clock:
    """Time that passes when it is told to."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Iterator[Clock]:
    yield Clock()


def after(count: int, clock: Clock) -> Failures:
    """So many wrong passwords of the stranger."""
    failures = Failures(clock)
    for _ in range(count):
        failures.add(STRANGER)
    return failures


@pytest.mark.parametrize(
    ("count", "pause"),
    [(0, 0), (4, 0), (5, 1), (6, 2), (7, 4), (8, 8), (9, 16), (10, 30), (11, 30), (5000, 30)],
)
def test_pauses_grow_up_to_half_a_minute(clock: Clock, count: int, pause: float) -> None:
    """Four wrong passwords are nobody's business, the fifth costs a second, the tenth thirty."""
    assert after(count, clock).pause(STRANGER) == pause


def test_a_pause_ends(clock: Clock) -> None:
    """When its seconds are over the next password is looked at."""
    failures = after(6, clock)
    clock.now += 1.5
    assert failures.pause(STRANGER) == 0.5
    clock.now += 1
    assert failures.pause(STRANGER) == 0


def test_a_pause_concerns_one_seat_from_one_place(clock: Clock) -> None:
    """Neither the participant elsewhere nor his neighbours at the stranger's place have to wait."""
    failures = after(20, clock)
    assert failures.pause(Guesser("student3", "203.0.113.9")) == 0
    assert failures.pause(Guesser("student4", "198.51.100.7")) == 0


def test_the_right_password_ends_the_count(clock: Clock) -> None:
    """Who got in starts from nothing."""
    failures = after(4, clock)
    failures.forget(STRANGER)
    failures.add(STRANGER)
    assert failures.pause(STRANGER) == 0


def test_old_failures_are_forgotten(clock: Clock) -> None:
    """Ten minutes after the last pause a wrong password is the first one."""
    failures = after(9, clock)
    clock.now += 16 + FORGOTTEN_AFTER + 1
    failures.add(STRANGER)
    assert failures.pause(STRANGER) == 0


def test_what_is_remembered_is_bounded(clock: Clock) -> None:
    """However many places there are, memory is not theirs; the newest are the ones that are known."""
    failures = after(20, clock)
    for number in range(KEPT):
        failures.add(Guesser("student3", str(number)))
    assert failures.pause(STRANGER) == 0
    assert len(failures._known) == KEPT
