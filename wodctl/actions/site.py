"""What actions work with: the parts of a site, as they need them; a test has stand-ins that fit as well."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

from wodctl.model.registration import Owed, Update
from wodctl.model.seat import Seat, new_password
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
    def set_password_of(self, number: int, customer: int, password_hash: str) -> bool: ...


class Hub(Protocol):
    """Servers and login sessions of the students."""

    def ensure_absent(self, user: str) -> None: ...
    def start_server(self, user: str) -> None: ...
    def wait_for_answer(self, user: str) -> None: ...


class Homes(Protocol):
    """The students' homes."""

    def is_there(self, user: str) -> bool: ...
    def build(self, user: str, uid: int, gid: int, fill: Callable[[Path], None]) -> None: ...
    def replace(self, user: str, folder: str, fill: Callable[[Path], None]) -> None: ...
    def ensure_absent(self, user: str) -> None: ...
    def completion(self, user: str, folder: str) -> int: ...


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
    def shows_password(self, workshop: Any) -> bool: ...
    def fill(
        self, home: Path, workshop: Any, mode: str, seat: int, uid: int, gid: int, password: str | None
    ) -> Sequence[str]: ...
    def deliver(
        self, home: Path, workshop: Any, mode: str, seat: int, uid: int, gid: int, password: str | None
    ) -> Sequence[str]: ...


class Directory(Protocol):
    """The LDAP directory whose entries open the students' appliances."""

    def set_password(self, seat: int, password: str) -> None: ...


class Passwords(Protocol):
    """Passwords that the registration database is still to be told, each for a seat and a customer."""

    def keep(self, seat: int, customer: int, password: str) -> None: ...
    def kept(self, seat: int, customer: int) -> str | None: ...
    def forget(self, seat: int) -> None: ...


class Registration(Protocol):
    """The registration database of a portal."""

    def workshop(self, name: str) -> Mapping[str, Any] | None: ...
    def deliver(self, update: Update) -> None: ...


class Actions(Protocol):
    """The record of actions, of their steps on seats, and of what the registration database is owed."""

    def begin_step(self, seat: int) -> Any: ...
    def note_phases(self, number: int, phases: Sequence[dict[str, Any]]) -> None: ...
    def note_completion(self, number: int, seat: int, percentage: int) -> None: ...
    def owe(self, number: int, seat: int, updates: Sequence[Update]) -> None: ...
    def owe_holder(self, seat: int, customer: int, updates: Sequence[Update]) -> None: ...
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
    """A site's parts; `registration` and `directory` are None for a site without one.

    `fixed_password`, where there is one, is that of every lease: for a test event.
    """

    settings: Settings
    seats: Seats
    actions: Actions
    hub: Hub
    homes: Homes
    workshops: Workshops
    passwords: Passwords
    registration: Registration | None = None
    directory: Directory | None = None
    fixed_password: str | None = None

    def password_for_a_lease(self) -> str:
        """A fresh one by chance, unless the site has a fixed one."""
        return self.fixed_password or new_password()
