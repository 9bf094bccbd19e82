"""What actions work with: the parts of a site, as they need them; a test has stand-ins that fit as well."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

from wodctl.model.registration import Owed, Update
from wodctl.model.seat import Seat
from wodctl.model.settings import Settings


@dataclass(frozen=True)
class Outcome:
    """What became of an action on a seat, beside "done".

    `reason` is what there is to say; `touched` is False where the seat was none of its business; `updates` is
    what the registration database must be told.
    """

    reason: str | None = None
    touched: bool = True
    updates: tuple[Update, ...] = ()


class Seats(Protocol):
    """The register of seats. Each method stores one state of a seat; only `set_ready` lets anybody log in."""

    def seat(self, number: int) -> Seat | None: ...
    def set_preparing(self, number: int, customer: int, workshop: str | None, mode: str | None) -> None: ...
    def set_ready(self, number: int, password_hash: str, lease_until: datetime) -> None: ...
    def set_cleaning(self, number: int) -> None: ...
    def set_failed(self, number: int, reason: str) -> None: ...
    def set_free(self, number: int) -> None: ...
    def set_password_of(self, number: int, customer: int, password_hash: str) -> None: ...


class Hub(Protocol):
    """Servers and login sessions of the students."""

    def ensure_absent(self, user: str) -> None: ...
    def start_server(self, user: str) -> None: ...
    def wait_for_answer(self, user: str) -> None: ...


class Homes(Protocol):
    """The students' homes."""

    def new_key_pair(self) -> tuple[bytes, bytes]: ...
    def build(
        self,
        user: str,
        uid: int,
        gid: int,
        fill: Callable[[Path], None],
        key_pair: tuple[bytes, bytes],
        ssh_files: Mapping[str, bytes],
    ) -> None: ...
    def replace(self, user: str, folder: str, fill: Callable[[Path], None]) -> None: ...
    def ensure_absent(self, user: str) -> None: ...
    def completion(self, user: str, folder: str, more: Sequence[bytes]) -> int: ...


class Appliances(Protocol):
    """What seats have beside their servers."""

    def needed(self, workshop: Any, seat: int) -> Any: ...
    def prepare(self, needed: Any, seat: int) -> Any: ...
    def start(self, prepared: Any, authorized_key: bytes) -> None: ...
    def ensure_absent(self, seat: int) -> None: ...
    def notebooks(self, seat: int) -> Sequence[bytes]: ...


class Workshop(Protocol):
    """A workshop as the catalogue knows it."""

    @property
    def name(self) -> str: ...
    @property
    def duration_hours(self) -> float: ...
    @property
    def metadata(self) -> Any: ...


class Workshops(Protocol):
    """The site's workshops."""

    def workshop(self, name: str) -> Any: ...
    def fill(
        self,
        home: Path,
        workshop: Any,
        mode: str,
        seat: int,
        uid: int,
        gid: int,
        values: Mapping[str, object],
    ) -> Sequence[str]: ...
    def deliver(
        self, home: Path, workshop: Any, mode: str, seat: int, uid: int, gid: int
    ) -> Sequence[str]: ...


class Registration(Protocol):
    """The registration database of a portal."""

    def workshop(self, name: str) -> Mapping[str, Any] | None: ...
    def deliver(self, update: Update) -> None: ...


class Actions(Protocol):
    """The record of actions, of their steps on seats, and of what the registration database is owed."""

    def begin_step(self, seat: int) -> Any: ...
    def note_phases(self, number: int, phases: Sequence[dict[str, Any]]) -> None: ...
    def note_completion(self, number: int, percentage: int) -> None: ...
    def put_back_step(self, number: int, seat: int, reason: str) -> None: ...
    def end_step(self, number: int, seat: int, state: str, outcome: Any) -> None: ...
    def begin_range(self, number: int) -> Any: ...
    def fan_out(self, number: int, places: int, updates: Sequence[Update]) -> None: ...
    def end_range(self, number: int, state: str, reason: str) -> None: ...
    def end_leases(self, patience_minutes: int) -> list[int]: ...
    def next_owed(self) -> Owed | None: ...
    def note_owed(self, number: int, problem: str, *, refused: bool) -> None: ...
    def settle_owed(self, number: int) -> None: ...


@dataclass(frozen=True)
class Site:
    """A site's parts; `registration` is None for a site without a registration database."""

    settings: Settings
    seats: Seats
    actions: Actions
    hub: Hub
    homes: Homes
    workshops: Workshops
    appliances: Appliances
    registration: Registration | None = None
