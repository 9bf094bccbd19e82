"""The catalogue: backends, seats and workshops as the site's settings and its workshops' wod.yml say."""

from dataclasses import dataclass, field
from typing import Any

import sqlalchemy
from sqlalchemy.orm import Session

from wod_api.tables import Customer, Location, Student, Workshop

SESSION_TYPE = "Workshops-on-Demand"
KEPT = ("capacity",)
"""What is not taken over from a wod.yml once the workshop is known: seats are given out against it."""


@dataclass
class Report:
    """What has changed, by name; `notes` tell what is odd."""

    new: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def update(session: Session, backends: list[dict[str, Any]], workshops: list[dict[str, Any]]) -> Report:
    """Bring backends, their seats, and the workshops that came from a wod.yml to what is given.

    `backends` are {name, proto, port, base, first, last}, the first one serves what does not say otherwise. Seats
    that somebody has, and registrations, are left alone. Running it again changes nothing.
    """
    report = Report()
    _ensure_backends(session, backends, report)
    known = {entry.name: entry for entry in session.scalars(sqlalchemy.select(Workshop).with_for_update())}
    by_folder = {entry.notebook: entry for entry in known.values() if entry.seeded}
    names = [backend["name"] for backend in backends]
    for given in workshops:
        values = dict(given) | {
            "location": names[0],
            "alternateLocation": names[1:] or None,
            "sessionType": SESSION_TYPE,
            "seeded": True,
        }
        entry = by_folder.get(given["notebook"]) or known.get(given["name"])
        if entry is None:
            session.add(Workshop(**values))
            report.new.append(given["name"])
        else:
            different = [
                name for name, value in values.items() if name not in KEPT and getattr(entry, name) != value
            ]
            for name in different:
                setattr(entry, name, values[name])
            if different:
                report.changed.append(f"{given['name']} ({', '.join(sorted(different))})")
        _note_what_is_odd(given, backends, report)
    folders = {given["notebook"] for given in workshops}
    for entry in known.values():
        if entry.seeded and entry.notebook not in folders:
            session.delete(entry)
            report.removed.append(entry.name)
    session.commit()
    return report


def _ensure_backends(session: Session, backends: list[dict[str, Any]], report: Report) -> None:
    places = {place.name: place for place in session.scalars(sqlalchemy.select(Location).with_for_update())}
    for backend in backends:
        values = {"basestdid": backend["base"], "proto": backend["proto"], "port": str(backend["port"])}
        place = places.get(backend["name"])
        if place is None:
            session.add(Location(name=backend["name"], **values))
        else:
            for name, value in values.items():
                if getattr(place, name) != value:
                    setattr(place, name, value)
        _ensure_seats(session, backend, report)
    gone = [place for name, place in places.items() if name not in {backend["name"] for backend in backends}]
    for place in gone:
        if session.scalar(
            sqlalchemy.select(Student.id).where(Student.location == place.name, Student.assigned).limit(1)
        ):
            report.notes.append(
                f"{place.name} is no backend any more, but seats of it are given out: it stays."
            )
            continue
        _remove_seats(session, Student.location == place.name)
        session.delete(place)


def _ensure_seats(session: Session, backend: dict[str, Any], report: Report) -> None:
    base, name = backend["base"], backend["name"]
    wanted = range(base + backend["first"], base + backend["last"] + 1)
    there = sqlalchemy.or_(Student.location == name, Student.id.in_(list(wanted)))
    present = {seat.id: seat for seat in session.scalars(sqlalchemy.select(Student).where(there))}
    root = f"{backend['proto']}://{name}:{backend['port']}"
    for number in wanted:
        values = {"location": name, "username": f"student{number - base}",
                  "url": f"{root}/user/student{number - base}/lab?"}  # fmt: skip
        seat = present.get(number)
        if seat is None:
            session.add(Student(id=number, **values))
        elif not seat.assigned or seat.location == name:
            for column, value in values.items():
                if getattr(seat, column) != value:
                    setattr(seat, column, value)
        else:
            report.notes.append(
                f"Seat {number} is given out at {seat.location}: it stays there until it is free."
            )
    session.flush()
    # What the backend has no longer goes, unless somebody has it or had it.
    surplus = [number for number, seat in present.items() if seat.location == name and number not in wanted]
    _remove_seats(session, Student.id.in_(surplus))
    session.execute(
        sqlalchemy.text(
            "SELECT setval(pg_get_serial_sequence('students', 'id'), greatest((SELECT max(id) FROM students), 1))"
        )
    )


def _remove_seats(session: Session, which: Any) -> None:
    used = sqlalchemy.select(Customer.studentId).where(Customer.studentId.is_not(None))
    session.execute(
        sqlalchemy.update(Student).where(which, Student.assigned.is_(False)).values(location=None)
    )
    session.execute(
        sqlalchemy.delete(Student).where(
            Student.location.is_(None), Student.assigned.is_(False), Student.id.not_in(used)
        )
    )


def _note_what_is_odd(given: dict[str, Any], backends: list[dict[str, Any]], report: Report) -> None:
    if not given["active"] or not given["range"]:
        return
    first, last = given["range"]
    seats = sum(max(0, min(last, backend["last"]) - max(first, backend["first"]) + 1) for backend in backends)
    if not seats:
        report.notes.append(f"{given['name']}: no backend has seats {first} to {last}.")
    elif seats < given["capacity"]:
        report.notes.append(
            f"{given['name']}: {given['capacity']} places, but only {seats} seats ({first} to {last})."
        )
