"""The phases of an action: what takes how long, to be read while it happens."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any


class Phases:
    """A list of {"name", "seconds"}, None seconds for the one that lasts. `note` hears of each start.

    Scripts have their "output" too.
    """

    def __init__(self, note: Callable[[Sequence[dict[str, Any]]], None]) -> None:
        self._note = note
        self.list: list[dict[str, Any]] = []

    @contextmanager
    def __call__(self, name: str) -> Iterator[dict[str, Any]]:
        """The body of the `with` is the phase of that name, which it may tell more of."""
        start = time.monotonic()
        phase: dict[str, Any] = {"name": name, "seconds": None}
        self.list.append(phase)
        self._note(self.list)
        try:
            yield phase
        finally:
            phase["seconds"] = round(time.monotonic() - start, 3)

    def __str__(self) -> str:
        return ", ".join(f"{phase['name']} {phase['seconds']}" for phase in self.list)
