"""What a registration database is told of seats and participants, in its own words.

Its rows: `student` by the seat's number plus WODBASESTDID, `customer` by the portal's number, `workshop` by
name. Its values are texts, numbers and truth values too: that is what existing portals are used to.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone


@dataclass(frozen=True)
class Update:
    """New values of one row. The value None stands for a fresh password, made when the update is delivered."""

    kind: str
    key: str
    body: Mapping[str, str | None]


@dataclass(frozen=True)
class Owed:
    """An update that has not been delivered yet; `action` on `seat` for `customer` made it."""

    id: int
    action: int
    seat: int | None
    customer: int
    kind: str
    key: str
    body: Mapping[str, str | None]


def fresh_password(seat: int, base: int) -> Update:
    """The seat has another password; `base` is WODBASESTDID here and below."""
    return Update("student", str(base + seat), {"password": None})


def assigned(seat: int, base: int, *, taken: bool) -> Update:
    """Whether the seat is somebody's."""
    return Update("student", str(base + seat), {"assigned": _text(taken)})


def released(seat: int, base: int) -> Update:
    """The seat is nobody's, and its password another one."""
    return Update("student", str(base + seat), {"assigned": "false", "password": None})


def active(customer: int, *, now: bool) -> Update:
    """Whether the participant has a seat that he can work on."""
    return Update("customer", str(customer), {"active": _text(now)})


def ends(customer: int, when: datetime) -> Update:
    """When the participant's lease ends: until then the portal leaves him his seat."""
    return Update("customer", str(customer), {"endDate": when.astimezone(timezone.utc).isoformat()})


def completed(customer: int, percentage: int) -> Update:
    """How much of the workshop the participant has carried out."""
    return Update("customer", str(customer), {"completionPercentage": str(percentage)})


def cleaned(customer: int) -> Update:
    """The participant's lease has ended and left nothing."""
    return Update("customer", str(customer), {"cleaned": "true"})


def capacity(workshop: str, places: int) -> Update:
    """So many places of the workshop can be given away."""
    return Update("workshop", workshop, {"capacity": str(places)})


def _text(truth: bool) -> str:
    return "true" if truth else "false"
