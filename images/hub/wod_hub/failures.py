"""Wrong passwords: who has given too many has to pause, and nobody else with him; who tries on regardless is noted."""

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

FREE_TRIES = 5
"""Wrong passwords in a row that cost nothing but the check."""

LONGEST_PAUSE = 30.0
"""Seconds; the pauses before it are 1, 2, 4, 8 and 16."""

FORGOTTEN_AFTER = 600.0
"""Seconds without another wrong password after which all is as before the first."""

SEATS_TRIED = 50
"""Wrong passwords in a row for whatever seats, that one place may give; a right one there ends the row."""

KEPT = 10_000
"""How many we remember, some 2 MB: beyond that the one whose last try is longest ago is forgotten."""


ANY = "*"
"""In place of a seat: whichever."""


@dataclass(frozen=True)
class Guesser:
    """Who tries: a seat from a place. The same place may try other seats, and other places this seat."""

    seat: str
    place: str


class Failures:
    """Counts wrong passwords by guesser, in memory. `clock` tells seconds and never goes back."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._known: OrderedDict[Guesser, tuple[int, float]] = OrderedDict()

    def pause(self, guesser: Guesser) -> float:
        """Seconds until this one may try again; 0 if now."""
        _, until = self._known.get(guesser, (0, 0.0))
        return max(0.0, until - self._clock())

    def tries_on(self, guesser: Guesser) -> bool:
        """Whether what he tries now is more than typing errors: his own beyond what is free, or one of many at his
        place, none of which was right. Fifty people who sit behind one address are not taken for this."""
        own, _ = self._known.get(guesser, (0, 0.0))
        place, _ = self._known.get(Guesser(ANY, guesser.place), (0, 0.0))
        return own >= FREE_TRIES or place >= SEATS_TRIED

    def add(self, guesser: Guesser) -> None:
        """Count a wrong password."""
        self._count(guesser)
        self._count(Guesser(ANY, guesser.place))

    def _count(self, guesser: Guesser) -> None:
        now = self._clock()
        count, until = self._known.pop(guesser, (0, now))
        count = 1 if now - until > FORGOTTEN_AFTER else count + 1
        self._known[guesser] = count, now + _pause_after(count)
        if len(self._known) > KEPT:
            self._known.popitem(last=False)

    def forget(self, guesser: Guesser) -> None:
        """The password was right."""
        self._known.pop(guesser, None)
        self._known.pop(Guesser(ANY, guesser.place), None)


def _pause_after(count: int) -> float:
    if count < FREE_TRIES:
        return 0.0
    # The exponent is bounded, because the count is not.
    return float(min(LONGEST_PAUSE, 2 ** min(count - FREE_TRIES, 10)))
