"""Taking over what an original's database holds: rows under their own numbers, without passwords."""

import csv
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

import sqlalchemy
from sqlalchemy.orm import Session

from wod_api import tables as t
from wod_api.registration import comparable

TABLES: dict[str, type[t.Base]] = {
    "locations": t.Location,
    "workshops": t.Workshop,
    "students": t.Student,
    "customers": t.Customer,
    "special_badges": t.SpecialBadge,
}
"""In the order in which they refer to each other."""

ALIVE = (*t.OPEN, "unregister")
"""States of a registration for which something still has to be done, beside NULL."""

_OURS = {"address", "workshop", "began", "due", "purge_after", "holder", "sealed", "seeded", "password"}
_CALLED = {t.Workshop: "name", t.Student: "url", t.Customer: "email", t.SpecialBadge: "badgeImg"}
_DEFAULTS = {"capacity": 0, "duration": 4.0, "completionPercentage": 0}


class Clash(Exception):
    """A number here belongs to somebody else; nothing was taken over."""


@dataclass
class Report:
    """How many rows are new here and how many were here already; what was odd; the rows that could not be taken."""

    new: dict[str, int] = field(default_factory=dict)
    known: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    left: list[dict[str, Any]] = field(default_factory=list)


def take_over(session: Session, rows: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """Insert the rows of these tables. What was taken over before is left as it is: it goes on here.

    Registrations that are open go on: their times stay, mails that they have had are not sent again. What a row says
    that cannot be is mended and noted, and a row that cannot be mended is given back. Raises Clash, and changes
    nothing, where a registration has the number of another one here.
    """
    report = Report()
    for name, table in TABLES.items():
        _make_room(session, name, rows.get(name, []))
        named: set[str] = set()
        # Newest first: of two open registrations of a person, the later one goes on.
        for given in sorted(rows.get(name, []), key=_number, reverse=table is t.Customer):
            if table is t.Location and given.get("name") in named:
                report.notes.append(
                    f"locations {given.get('id')}: {given['name']} is there twice, the first is taken."
                )
                continue
            named.add(str(given.get("name")))
            try:
                with session.begin_nested():
                    taken = _take_row(session, table, given, report)
                    session.flush()
                counted = report.new if taken else report.known
                counted[name] = counted.get(name, 0) + 1
            except (ValueError, KeyError, sqlalchemy.exc.DataError, sqlalchemy.exc.IntegrityError) as error:
                why = str(getattr(error, "orig", error)).splitlines()[0]
                report.left.append({"table": name, "row": given, "why": f"{type(error).__name__}: {why}"})
    _free_the_lost(session, rows.get("students", []), report)
    session.commit()
    return asdict(report)


def _number(given: dict[str, Any]) -> int:
    return int(given["id"]) if str(given.get("id")).isdigit() else 0


def _make_room(session: Session, name: str, rows: list[dict[str, Any]]) -> None:
    """What gets a new number from now on gets none that is to be taken."""
    highest = max(map(_number, rows), default=0)
    session.execute(
        sqlalchemy.text(
            f"SELECT setval(pg_get_serial_sequence('{name}', 'id'), "  # noqa: S608 - one of our names
            f"greatest((SELECT max(id) FROM {name}), :highest, 1))"
        ),
        {"highest": highest},
    )


def _take_row(session: Session, table: type[t.Base], given: dict[str, Any], report: Report) -> bool:
    """True if it is new here, False if it was here already."""
    who = f"{table.__tablename__} {given.get('id')}"
    odd: list[str] = []
    values = _values(table, given, odd)
    number = values["id"]
    entry: Any = session.get(table, number)
    if table is not t.Location and entry is not None and _is_the_same(entry, values):
        return False
    if table is t.Location:
        # Backends are known by their names; settings may have made this one, under any number.
        entry = session.scalar(sqlalchemy.select(t.Location).where(t.Location.name == values["name"]))
        values = {name: values.get(name) for name in ("name", "basestdid", "proto", "port")}
        if entry is not None and all(getattr(entry, name) == value for name, value in values.items()):
            return False
    elif table is t.Workshop:
        _mend_workshop(session, values, odd)
        entry = _with_this_number(session, entry, values, odd)
    elif table is t.Student:
        # Whose it is, the registrations tell.
        values["assigned"] = isinstance(entry, t.Student) and entry.assigned
    elif table is t.Customer:
        if entry is not None:
            raise Clash(f"Registration {number} is {entry.email}'s here, and {values.get('email')}'s there.")
        _mend_customer(session, values, odd)
    if entry is None:
        session.add(table(**values))
    else:
        for name, value in values.items():
            setattr(entry, name, value)
    session.flush()
    if table is t.Customer and values.get("studentId") and _is_alive(values):
        _hold_seat(session, values)
    report.notes += [f"{who}: {problem}." for problem in odd]
    return True


def _values(table: type[t.Base], given: dict[str, Any], odd: list[str]) -> dict[str, Any]:
    """What the row says in our columns' types. Raises ValueError without a number."""
    columns = {column.name: column for column in table.__table__.columns if column.name not in _OURS}
    values: dict[str, Any] = {}
    for name, value in given.items():
        if name not in columns:
            continue
        try:
            typed = _typed(columns[name], value)
        except (ValueError, TypeError, OverflowError):
            odd.append(f"{name} cannot be {value!r}, it is left empty")
            typed = None
        if typed is not None or columns[name].nullable:
            values[name] = typed
    if not isinstance(values.get("id"), int) or values["id"] < 1:
        raise ValueError("it has no number")
    for name, usual in _DEFAULTS.items():
        if name in columns:
            values.setdefault(name, usual)
    return values


def _is_the_same(entry: t.Base, values: dict[str, Any]) -> bool:
    """Whether this row was taken over before: rows keep the moment in which they were made.

    To the millisecond, as a live API tells it; a row without one is known by what it is called.
    """
    made = values.get("createdAt")
    if made is None:
        name = _CALLED[type(entry)]
        return bool(getattr(entry, name) == values.get(name))
    here: datetime = entry.createdAt  # type: ignore[attr-defined]
    return abs((here - made).total_seconds()) < 0.001


def _mend_workshop(session: Session, values: dict[str, Any], odd: list[str]) -> None:
    values["seeded"] = False  # until a wod.yml claims it, it is not removed for want of one
    if not values.get("name"):
        values["name"] = values.get("notebook") or f"Workshop {values['id']}"
        odd.append(f"it has no name, and is {values['name']} here")
    if values["capacity"] < 0:
        odd.append(f"capacity {values['capacity']} is 0 here")
        values["capacity"] = 0
    if not 0 < values["duration"] <= 8760:
        odd.append(f"duration {values['duration']:g} is 4 here")
        values["duration"] = 4.0
    seats = values.get("range")
    if seats is not None and not (len(seats) == 2 and 1 <= seats[0] <= seats[1]):
        odd.append(f"its range {seats} is none: no seat can be given until it is corrected")
        values["range"] = None
    named = sqlalchemy.select(t.Location.id).where(t.Location.name == values.get("location"))
    if session.scalar(named) is None:
        odd.append(f"its backend {values.get('location')} is not known")


def _with_this_number(
    session: Session, entry: Any, values: dict[str, Any], odd: list[str]
) -> t.Workshop | None:
    """Make the number and the name of the workshop free, which one of a wod.yml may have here."""
    named = session.scalar(sqlalchemy.select(t.Workshop).where(t.Workshop.name == values["name"]))
    if named is not None and not named.seeded:
        name = f"{values['name']} ({values['id']})"  # registrations name the first one
        odd.append(f"another one is called {values['name']}: it is {name} here")
        values["name"] = name
        named = None
    if entry is not None and entry is not named:
        columns = {c.name: getattr(entry, c.name) for c in t.Workshop.__table__.columns if c.name != "id"}
        session.delete(_replaced(session, entry, t.Workshop(**columns)))
        session.flush()
    if named is not None and named is not entry:
        session.delete(_replaced(session, named, t.Workshop(**values)))
        session.flush()
        named = session.get_one(t.Workshop, values["id"])
    return named


def _replaced(session: Session, former: t.Workshop, other: t.Workshop) -> t.Workshop:
    """The former one, whose name and registrations the other one has now."""
    former.name = f"{former.name} (former)"
    session.flush()
    session.add(other)
    session.flush()
    session.execute(
        sqlalchemy.update(t.Customer).where(t.Customer.workshop == former.id).values(workshop=other.id)
    )
    return former


def _mend_customer(session: Session, values: dict[str, Any], odd: list[str]) -> None:
    """What we know of a participant beside the original's columns, and what cannot be."""
    percentage = values["completionPercentage"]
    values["completionPercentage"] = min(100, max(0, percentage))
    if percentage != values["completionPercentage"]:
        odd.append(f"completionPercentage {percentage} is {values['completionPercentage']} here")
    for name in ("startDate", "endDate"):
        if name not in values:
            values[name] = values.get("createdAt") or datetime.now(UTC)
            odd.append(f"{name} was missing, and is {values[name]:%Y-%m-%d %H:%M} here")
    if not values.get("email"):
        odd.append("it has no address")
    values["address"] = comparable(str(values.get("email") or f"unknown-{values['id']}@invalid"))
    named = sqlalchemy.select(t.Workshop.id).where(t.Workshop.name == values.get("sessionName"))
    values["workshop"] = session.scalar(named)
    state = values.get("lastEmailSent")
    if state in ("credentials", "expiring", "expired"):
        values["began"] = values["startDate"]
    if state not in (None, *ALIVE, "expired", "error"):
        odd.append(f"nothing is done for the state {state!r}")
    seat = session.get(t.Student, values["studentId"]) if values.get("studentId") else None
    if values.get("studentId") and seat is None:
        odd.append(f"seat {values['studentId']} is not known")
        values["studentId"] = None
    if not _is_alive(values):
        return
    values["due"] = datetime.now(UTC)
    backend = session.scalar(
        sqlalchemy.select(t.Location.id).where(t.Location.name == values.get("location"))
    )
    other = session.scalar(
        sqlalchemy.select(t.Customer.id).where(
            t.Customer.address == values["address"],
            sqlalchemy.func.coalesce(t.Customer.lastEmailSent, "welcome").in_(t.OPEN),
        )
    )
    if seat is not None and seat.holder is not None:
        # Given twice: the later CREATE has made it the other one's, whom a CLEANUP would throw out.
        odd.append(f"seat {seat.id} is that of registration {seat.holder}: this one is over")
        values |= {"lastEmailSent": "expired", "active": False, "due": None}
    elif seat is None or backend is None:
        odd.append("it is open without a seat or a backend: it ends now")
        values |= {"lastEmailSent": "unregister", "active": False}
    elif other is not None and state != "unregister":
        odd.append(f"this person has registration {other} too, a later one: this one ends now")
        values |= {"lastEmailSent": "unregister", "active": False}


def _hold_seat(session: Session, values: dict[str, Any]) -> None:
    """The seat is his, and his backend knows him: the original has ordered it, which a CLEANUP at the end follows."""
    session.execute(
        sqlalchemy.update(t.Student)
        .where(t.Student.id == values["studentId"])
        .values(assigned=True, holder=values["id"])
    )
    if values.get("lastEmailSent") is None:
        return
    event = f"customer-{values['id']}-create"
    session.add(
        t.Mail(event=event, message_id=f"<{event}@original>", customer=values["id"], kind="order",
               destination=str(values["location"]), recipient="", subject="CREATE, ordered by the original",
               state="sent", created=values["startDate"], finished=values["startDate"])
    )  # fmt: skip


def _is_alive(values: dict[str, Any]) -> bool:
    return (values.get("lastEmailSent") or t.OPEN[0]) in ALIVE


def _free_the_lost(session: Session, rows: list[dict[str, Any]], report: Report) -> None:
    """Note the seats that are nobody's. The original loses many a RESET, and with it the seat; what is left in one, the
    next CREATE removes."""
    given = [_number(one) for one in rows if one.get("assigned") in (True, "t", "true")]
    lost = sqlalchemy.select(t.Student.id).where(t.Student.id.in_(given), t.Student.assigned.is_(False))
    numbers = sorted(session.scalars(lost)) if report.new.get("students") else []
    if numbers:
        report.notes.append(
            f"students {', '.join(map(str, numbers))}: assigned, but to nobody who is there: free now."
        )


def _typed(column: Any, value: Any) -> Any:
    """A value of JSON, or the text of a dump, in the column's type."""
    if value is None:
        return None
    kind = column.type.python_type
    if kind is bool:
        return value if isinstance(value, bool) else str(value).lower() in ("t", "true", "1")
    if kind is int:
        return int(float(value))
    if kind is float:
        return float(value)
    if kind is datetime:
        text = str(value).replace("Z", "+00:00")
        moment = datetime.fromisoformat(text + ":00" if text[-3:-2] in "+-" else text)
        return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    if kind is list:
        parts = value if isinstance(value, list) else _array(str(value))
        inner = int if column.type.item_type.python_type is int else str
        return [inner(part) for part in parts] or None
    return str(value)


def _array(text: str) -> list[str]:
    """PostgreSQL's text of an array: {1,20} or {"Open Source",x}."""
    return next(csv.reader([text.strip("{}")], quotechar='"', escapechar="\\", doublequote=False), [])
