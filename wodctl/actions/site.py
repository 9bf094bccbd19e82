"""What actions work with: the parts of a site, as they need them; a test has stand-ins that fit as well."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

from wodctl.model.seat import Seat
from wodctl.model.settings import Settings


class Seats(Protocol):
    """The register of seats. Each method stores one state of a seat; only `set_ready` lets anybody log in."""

    def seat(self, number: int) -> Seat | None: ...
    def set_preparing(self, number: int, customer: int, workshop: str | None, mode: str | None) -> None: ...
    def set_ready(self, number: int, password_hash: str, lease_until: datetime) -> None: ...
    def set_cleaning(self, number: int) -> None: ...
    def set_failed(self, number: int, reason: str) -> None: ...
    def set_free(self, number: int) -> None: ...


class Hub(Protocol):
    """Servers and login sessions of the students."""

    def ensure_absent(self, user: str) -> None: ...
    def start_server(self, user: str) -> None: ...
    def wait_for_answer(self, user: str) -> None: ...


class Homes(Protocol):
    """The students' homes."""

    def build(self, user: str, uid: int, gid: int, fill: Callable[[Path], None]) -> None: ...
    def ensure_absent(self, user: str) -> None: ...


class Workshop(Protocol):
    """A workshop as the catalogue knows it."""

    @property
    def duration_hours(self) -> float: ...


class Workshops(Protocol):
    """The workshops of the site, and what makes one a participant's own."""

    def workshop(self, name: str) -> Workshop: ...
    def fill(self, home: Path, workshop: Any, mode: str, seat: int, uid: int, gid: int) -> Sequence[str]: ...


class Actions(Protocol):
    """The record of actions."""

    def begin_action(self, number: int) -> Any: ...
    def note_phases(self, number: int, phases: Sequence[dict[str, Any]]) -> None: ...
    def put_back_action(self, number: int, reason: str) -> None: ...
    def end_action(
        self, number: int, state: str, reason: str | None, phases: Sequence[dict[str, Any]]
    ) -> None: ...


@dataclass(frozen=True)
class Site:
    """A site's parts."""

    settings: Settings
    seats: Seats
    actions: Actions
    hub: Hub
    homes: Homes
    workshops: Workshops
