"""What callers may say, and what they are told: the original's field names, texts for numbers and truth values too.

Fields that are not named here are ignored, whatever a caller adds.
"""

from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field

from wod_api import tables

Number = Annotated[int, Field(ge=0, le=2**31 - 1)]
"""A whole number that the database can store."""


def _plain(text: str) -> str:
    text.encode()  # a lone surrogate is no text
    if any(
        (ord(character) < 32 and character not in "\t\n\r") or ord(character) == 127 for character in text
    ):
        raise ValueError("control characters are not allowed")
    return text


def _one_line(text: str) -> str:
    if any(character in text for character in "\t\n\r\x85\u2028\u2029"):
        raise ValueError("must be one line")
    return text.strip()


def _listed(value: Any) -> Any:
    """Two forms of a range are about: [1, 20] and "1-20"; lists also come as text "1,20"."""
    if isinstance(value, str):
        return [part.strip() for part in value.strip("[]{} ").replace("-", ",").split(",") if part.strip()]
    return value


Words = Annotated[str, Field(max_length=20_000), AfterValidator(_plain)]
Line = Annotated[str, Field(max_length=300), AfterValidator(_plain), AfterValidator(_one_line)]
Range = Annotated[
    list[Annotated[int, Field(ge=1, le=999_999)]], Field(min_length=2, max_length=2), BeforeValidator(_listed)
]


class Said(BaseModel):
    """A body of a request."""

    model_config = ConfigDict(extra="ignore", protected_namespaces=())


class Login(Said):
    """POST /login."""

    username: Annotated[str, Field(max_length=300)]
    password: Annotated[str, Field(max_length=300)]


class NewCustomer(Said):
    """POST /customer: a registration. `notebook` and `location` are the workshop's, whatever is said here."""

    name: Annotated[Line, Field(min_length=1, max_length=100)]
    email: Annotated[str, Field(max_length=400)]
    title: Line
    company: Line | None = None
    notebook: Any = None
    sessionType: Line | None = None
    location: Any = None
    termsAndConditions: bool = False
    proxy: Line | None = None


class CustomerChange(Said):
    """PUT /customer/:id."""

    name: Line | None = None
    company: Line | None = None
    active: bool | None = None
    cleaned: bool | None = None
    completionPercentage: Annotated[int, Field(ge=0, le=100)] | None = None
    endDate: AwareDatetime | None = None


class StudentChange(Said):
    """PUT /student/:id by a backend."""

    assigned: bool | None = None
    password: Annotated[str, Field(max_length=300), AfterValidator(_plain)] | None = None


class StudentData(StudentChange):
    """POST /student and PUT /student/:id by an admin."""

    url: Line | None = None
    username: Line | None = None
    location: Line | None = None


class WorkshopData(Said):
    """POST /workshop and PUT /workshop/:id."""

    name: Annotated[Line, Field(min_length=1)] | None = None
    notebook: Annotated[str, Field(pattern=r"^(WKSHP|CHLG)-[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")] | None = None
    description: Words | None = None
    active: bool | None = None
    capacity: Number | None = None
    priority: Number | None = None
    range: Range | None = None
    reset: bool | None = None
    ldap: bool | None = None
    sessionId: Number | None = None
    sessionType: Line | None = None
    location: Line | None = None
    avatar: Line | None = None
    role: Line | None = None
    presenter: Line | None = None
    preRequisite: Words | None = None
    replayLink: Words | None = None
    compile: Annotated[str, Field(max_length=1234), AfterValidator(_plain)] | None = None
    varpass: bool | None = None
    replayId: Number | None = None
    workshopImg: Line | None = None
    badgeImg: Line | None = None
    monoappliance: bool | None = None
    multiappliance: bool | None = None
    beta: bool | None = None
    category: Annotated[list[Line], BeforeValidator(_listed)] | None = None
    alternateLocation: Annotated[list[Line], BeforeValidator(_listed)] | None = None
    duration: Annotated[float, Field(gt=0, le=8760)] | None = None


class NewWorkshop(WorkshopData):
    """POST /workshop."""

    name: Annotated[Line, Field(min_length=1)]


class LocationData(Said):
    """PUT /location/:id."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9]([A-Za-z0-9.-]{0,252}[A-Za-z0-9])?$")] | None = None
    basestdid: Number | None = None
    proto: Literal["http", "https"] | None = None
    port: Annotated[int, Field(ge=1, le=65535)] | None = None


class NewUser(Said):
    """POST /user."""

    username: Annotated[Line, Field(min_length=1, max_length=100)]
    password: Annotated[str, Field(min_length=12, max_length=300), AfterValidator(_plain)]
    email: Line | None = None
    roles: list[Line] = []


class UserChange(Said):
    """PUT /user/:id."""

    username: Annotated[Line, Field(min_length=1, max_length=100)] | None = None
    password: Annotated[str, Field(min_length=12, max_length=300), AfterValidator(_plain)] | None = None
    email: Line | None = None
    roles: list[Line] | None = None


class Feedback(Said):
    """POST /email/send-feedback."""

    email: Line
    message: Annotated[str, Field(min_length=1, max_length=10_000), AfterValidator(_plain)]
    proxy: Line | None = None


class MailingList(Said):
    """POST /emails."""

    email: Line
    listId: Any = None


def date(value: datetime | None) -> str | None:
    """As existing clients know it: 2026-01-31T12:00:00.000Z."""
    if value is None:
        return None
    return value.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


_OURS = {
    "customers": {"address", "workshop", "began", "due", "purge_after"},
    "students": {"holder", "sealed"},
    "users": {"password"},
    "workshops": {"seeded"},
}


def row(entry: tables.Base) -> dict[str, Any]:
    """A row as callers see it, without what is ours alone. A student's password is always null."""
    table = entry.__table__
    hidden = _OURS.get(str(table.name), set())
    values = {
        column.name: getattr(entry, column.name) for column in table.columns if column.name not in hidden
    }
    shown = {name: date(value) if isinstance(value, datetime) else value for name, value in values.items()}
    if isinstance(entry, tables.Student):
        shown["password"] = None
    if isinstance(entry, tables.Workshop) and float(entry.duration).is_integer():
        shown["duration"] = int(entry.duration)
    if isinstance(entry, tables.User):
        shown["roles"] = [role.name for role in entry.roles]
    return shown
