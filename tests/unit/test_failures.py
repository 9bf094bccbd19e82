"""Wrong passwords: how long who has to pause, and whom it does not concern."""

import sys
from collections.abc import Iterator
from ipaddress import ip_network

import pytest

from tests.conftest import ROOT

sys.path.insert(0, str(ROOT / "images" / "hub"))

from wod_hub.failures import FORGOTTEN_AFTER, FREE_TRIES, KEPT, SEATS_TRIED, Failures, Guesser
from wod_hub.origin import client_address

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


def test_typing_errors_are_not_noted_and_trying_on_is(clock: Clock) -> None:
    """What is free is nobody's business; from then on each try counts, the participant's elsewhere does not."""
    assert not after(FREE_TRIES - 1, clock).tries_on(STRANGER)
    failures = after(FREE_TRIES, clock)
    assert failures.tries_on(STRANGER)
    assert not failures.tries_on(Guesser("student4", STRANGER.place))
    assert not failures.tries_on(Guesser(STRANGER.seat, "203.0.113.9"))


def test_who_tries_seat_after_seat_is_noted(clock: Clock) -> None:
    """However few passwords he gives for each; a class, of whom somebody gets in now and then, is not taken for him."""
    failures, school = Failures(clock), Failures(clock)
    for number in range(SEATS_TRIED):
        failures.add(Guesser(f"student{number}", STRANGER.place))
        school.add(Guesser(f"student{number}", STRANGER.place))
        if number == 30:
            school.forget(Guesser("student1", STRANGER.place))
    assert failures.tries_on(Guesser("student99", STRANGER.place))
    assert not school.tries_on(Guesser("student99", STRANGER.place))


@pytest.mark.parametrize(
    ("forwarded", "client"),
    [
        ("198.51.100.7", "198.51.100.7"),
        ("198.51.100.7, 10.0.0.2", "198.51.100.7"),
        ("192.0.2.66, 198.51.100.7, 10.0.0.3, 10.0.0.2", "198.51.100.7"),
        ("192.0.2.66, 198.51.100.7", "198.51.100.7"),
        ("10.0.0.3, 10.0.0.2", "10.0.0.3"),
        ("student3\n, 10.0.0.2", "10.0.0.2"),
        ("", "172.18.0.5"),
        ("nonsense", "172.18.0.5"),
    ],
)
def test_the_address_of_a_browser_is_told_by_those_whom_we_trust(forwarded: str, client: str) -> None:
    """What anybody before the last stranger claims does not count, and text that is no address is nobody's."""
    assert client_address("172.18.0.5", forwarded, [ip_network("10.0.0.0/8")]) == client
