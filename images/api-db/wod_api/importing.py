"""Taking over what an original's database holds: rows under their own numbers, without passwords."""

from collections import Counter
from datetime import UTC, datetime
from typing import Any

import sqlalchemy
from sqlalchemy.orm import Session

from wod_api import tables as t
from wod_api.registration import comparable
from wod_api.settings import Settings

TABLES: dict[str, type[t.Base]] = {
    "locations": t.Location,
    "workshops": t.Workshop,
    "students": t.Student,
    "customers": t.Customer,
    "special_badges": t.SpecialBadge,
}
"""In the order in which they refer to each other."""

_OURS = {"address", "workshop", "began", "due", "purge_after", "holder", "sealed", "seeded", "password"}


def take_over(session: Session, rows: dict[str, list[dict[str, Any]]], settings: Settings) -> dict[str, Any]:
    """Insert or update the rows of these tables; all of them or, if one cannot be, none.

    Registrations that are open go on here: their times stay, mails that they have had are not sent again. Of a person
    with several open ones the newest stays open. What was taken over before, and has changed here, stays so.
    """
    counts: Counter[str] = Counter()
    for name, table in TABLES.items():
        # Newest first: of two open registrations of a person, the later one is taken.
        for given in sorted(rows.get(name, []), key=lambda one: -int(one["id"])):
            _take_row(session, table, given)
            counts[name] += 1
        session.flush()
        session.execute(
            sqlalchemy.text(
                f"SELECT setval(pg_get_serial_sequence('{name}', 'id'), "  # noqa: S608 - one of our names
                f"greatest((SELECT max(id) FROM {name}), 1))"
            )
        )
    # The original loses many a RESET, and with it the seat. What is left in one, the next CREATE removes.
    session.execute(
        sqlalchemy.update(t.Student)
        .where(t.Student.assigned, t.Student.holder.is_(None))
        .values(assigned=False)
    )
    session.commit()
    return {"taken": dict(counts)}


def _take_row(session: Session, table: type[t.Base], given: dict[str, Any]) -> None:
    columns = {column.name: column for column in table.__table__.columns if column.name not in _OURS}
    values = {name: _typed(columns[name], value) for name, value in given.items() if name in columns}
    values = {name: value for name, value in values.items() if value is not None or columns[name].nullable}
    number = int(values["id"])
    if table is t.Location:
        # Backends are known by their names; settings may have made this one under another number.
        known = session.scalar(sqlalchemy.select(t.Location).where(t.Location.name == values["name"]))
        number = known.id if known else number
        values["id"] = number
    elif table is t.Workshop:
        known_workshop = session.scalar(
            sqlalchemy.select(t.Workshop).where(t.Workshop.name == values["name"])
        )
        if known_workshop and known_workshop.id != number:
            session.delete(known_workshop)
            session.flush()
    elif table is t.Customer:
        if session.get(t.Customer, number):
            return  # taken over before: his life goes on here
        values |= _of_customer(session, values)
    entry = session.get(table, number)
    if isinstance(entry, t.Student) and entry.holder is not None:
        values.pop("assigned", None)
    if entry is None:
        session.add(table(**values))
    else:
        for name, value in values.items():
            setattr(entry, name, value)
    session.flush()
    if table is t.Customer and values.get("studentId") and _is_open(values):
        seat = session.get(t.Student, values["studentId"])
        if seat:
            seat.assigned, seat.holder = True, number


def _of_customer(session: Session, values: dict[str, Any]) -> dict[str, Any]:
    """What we know of a participant beside the original's columns."""
    address = comparable(str(values.get("email") or f"unknown-{values['id']}@invalid"))
    named = sqlalchemy.select(t.Workshop.id).where(t.Workshop.name == values.get("sessionName"))
    found: dict[str, Any] = {"address": address, "workshop": session.scalar(named)}
    state = values.get("lastEmailSent")
    if state in ("credentials", "expiring", "expired"):
        found["began"] = values.get("startDate")
    if values.get("studentId") and session.get(t.Student, values["studentId"]) is None:
        found["studentId"] = None
    if _is_open(values):
        other = sqlalchemy.select(t.Customer.id).where(
            t.Customer.address == address,
            t.Customer.id != values["id"],
            sqlalchemy.func.coalesce(t.Customer.lastEmailSent, "welcome").in_(t.OPEN),
        )
        if session.scalar(other):
            return found | {"lastEmailSent": "expired", "active": False}
        found["due"] = datetime.now(UTC)
    return found


def _is_open(values: dict[str, Any]) -> bool:
    return (values.get("lastEmailSent") or t.OPEN[0]) in t.OPEN


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
    import csv

    return next(csv.reader([text.strip("{}")], quotechar='"', escapechar="\\", doublequote=False), [])
