"""What a participant takes home: documents of his workshop."""

import logging
from typing import Any, Protocol

from wodctl.errors import ActionFailed

log = logging.getLogger("wod")


class Record(Protocol):
    """Where exports stand among the actions."""

    def begin_range(self, number: int) -> Any: ...
    def end_range(self, number: int, state: str, reason: str | None) -> None: ...


class Exports(Protocol):
    """What makes the documents."""

    def make(self, seat: int, folder: str) -> None: ...


def export(number: int, record: Record, exports: Exports) -> None:
    """Make the documents that an action orders, and put on record what became of it. Raises Unavailable."""
    action = record.begin_range(number)
    if action is None:
        return
    try:
        exports.make(action.seat, "WKSHP-" + action.workshop.partition("-")[2])
    except ActionFailed as error:
        record.end_range(number, "failed", error.message)
        log.info("action %d: EXPORT of seat %d: failed: %s", number, action.seat, error.message)
        return
    record.end_range(number, "done", None)
    log.info("action %d: EXPORT of seat %d: done", number, action.seat)
