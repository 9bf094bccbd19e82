"""PostgreSQL, over its Unix socket: seats and actions. The uid of the process is its password."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import psycopg
from psycopg.rows import class_row
from psycopg.types.json import Jsonb

from wodctl.errors import Unavailable
from wodctl.model.seat import Seat

WORKER_CONNECTION = "host=/run/postgresql dbname=wod user=wod connect_timeout=5"
"""How the worker reaches its database from within its container."""

WORKER_UID = 1804
"""The worker's user, whom the database knows as its owner; root on the host becomes it to be let in."""

DATA_GID = 1808
"""The group whose members reach the database's socket."""

_ACTION_COLUMNS = """id, action, seat, last_seat, customer, workshop, source, state, reason, phases,
    created, started, finished, sender, client"""
_SEAT_COLUMNS = "number, state, workshop, mode, customer, lease_until, reason"

Connect = Callable[[], AbstractContextManager[psycopg.Connection]]


@dataclass(frozen=True)
class Action:
    """An action on a seat, or on a range of them, and how far it has come; `phases` are {name, seconds}."""

    id: int
    action: str | None
    seat: int | None
    last_seat: int | None
    customer: int | None
    workshop: str | None
    source: str
    state: str
    reason: str | None
    phases: list[dict[str, Any]]
    created: datetime
    started: datetime | None
    finished: datetime | None
    sender: str | None
    client: str | None


class Database:
    """Seats and actions as they are stored. Every method raises Unavailable if the database is away."""

    def __init__(self, connect: Connect) -> None:
        self._connect = connect

    # Seats

    def ensure_seats(self, first: int, last: int) -> None:
        """A row for every seat of the site; seats beyond it are forgotten once they are free."""
        with self._session() as session, session.transaction():
            session.execute(
                "INSERT INTO wod.seat (number) SELECT generate_series(%s::int, %s::int)"
                " ON CONFLICT DO NOTHING",
                [first, last],
            )
            session.execute(
                "DELETE FROM wod.seat WHERE state = 'free' AND number NOT BETWEEN %s AND %s", [first, last]
            )

    def seats(self) -> list[Seat]:
        """All seats, by number."""
        with self._session() as session, session.cursor(row_factory=class_row(Seat)) as cursor:
            return cursor.execute(f"SELECT {_SEAT_COLUMNS} FROM wod.seat ORDER BY number").fetchall()  # noqa: S608

    def seat(self, number: int) -> Seat | None:
        """One seat, or None if the site has no such seat."""
        with self._session() as session, session.cursor(row_factory=class_row(Seat)) as cursor:
            return cursor.execute(
                f"SELECT {_SEAT_COLUMNS} FROM wod.seat WHERE number = %s",  # noqa: S608
                [number],
            ).fetchone()

    def set_preparing(self, number: int, customer: int, workshop: str | None, mode: str | None) -> None:
        """The seat is being made for that customer: nobody can log in."""
        self._change_seat(number, state="preparing", customer=customer, workshop=workshop, mode=mode)

    def set_ready(self, number: int, password_hash: str, lease_until: datetime) -> None:
        """The seat is its customer's until `lease_until`; the password opens it."""
        with self._session() as session:
            session.execute(
                "UPDATE wod.seat SET state = 'ready', password_hash = %s, lease_until = %s, changed = now()"
                " WHERE number = %s",
                [password_hash, lease_until, number],
            )

    def set_cleaning(self, number: int) -> None:
        """The lease is over: nobody can log in; whose seat it was is still known."""
        self._close_seat(number, "cleaning", None)

    def set_failed(self, number: int, reason: str) -> None:
        """The last action on the seat failed: nobody can log in."""
        self._close_seat(number, "failed", reason)

    def set_free(self, number: int) -> None:
        """The seat is nobody's."""
        self._change_seat(number, state="free", customer=None, workshop=None, mode=None)

    def set_password(self, number: int, password_hash: str) -> bool:
        """Change the password of a seat; False, and nothing is changed, unless the seat is ready."""
        with self._session() as session:
            changed = session.execute(
                "UPDATE wod.seat SET password_hash = %s, changed = now()"
                " WHERE number = %s AND state = 'ready'",
                [password_hash, number],
            )
            return changed.rowcount == 1

    def _change_seat(
        self, number: int, *, state: str, customer: int | None, workshop: str | None, mode: str | None
    ) -> None:
        with self._session() as session:
            session.execute(
                "UPDATE wod.seat SET state = %s, customer = %s, workshop = %s, mode = %s,"
                " password_hash = NULL, lease_until = NULL, reason = NULL, changed = now() WHERE number = %s",
                [state, customer, workshop, mode, number],
            )

    def _close_seat(self, number: int, state: str, reason: str | None) -> None:
        with self._session() as session:
            session.execute(
                "UPDATE wod.seat SET state = %s, reason = %s, password_hash = NULL, changed = now()"
                " WHERE number = %s",
                [state, _storable(reason), number],
            )

    # Actions

    def submit_action(
        self, action: str, first: int, last: int, customer: int, workshop: str | None, source: str
    ) -> int:
        """Queue an action for the worker; returns its id."""
        with self._session() as session:
            row = session.execute(
                "SELECT wod.submit_action(%s, %s, %s, %s, %s, %s)",
                [action, first, last, customer, workshop, source],
            ).fetchone()
            return int(row[0]) if row else 0

    def retry_action(self, number: int) -> bool:
        """Queue a failed action again; False if it has not failed."""
        with self._session() as session:
            row = session.execute("SELECT wod.retry_action(%s)", [number]).fetchone()
            return bool(row and row[0])

    def action(self, number: int) -> Action | None:
        """One action, or None if there is no such action."""
        with self._session() as session, session.cursor(row_factory=class_row(Action)) as cursor:
            return cursor.execute(
                f"SELECT {_ACTION_COLUMNS} FROM wod.action WHERE id = %s",  # noqa: S608
                [number],
            ).fetchone()

    def actions(self, *, only_rejected: bool, limit: int) -> list[Action]:
        """The latest actions, newest first."""
        with self._session() as session, session.cursor(row_factory=class_row(Action)) as cursor:
            return cursor.execute(
                f"SELECT {_ACTION_COLUMNS} FROM wod.action WHERE state = 'rejected' OR NOT %s"  # noqa: S608
                " ORDER BY id DESC LIMIT %s",
                [only_rejected, limit],
            ).fetchall()

    def begin_action(self, number: int) -> Action | None:
        """Mark a queued action as running (again, where a worker died); None if it has ended already."""
        with self._session() as session, session.cursor(row_factory=class_row(Action)) as cursor:
            return cursor.execute(
                "UPDATE wod.action"  # noqa: S608
                " SET state = 'running', started = coalesce(started, now()), reason = NULL, phases = '[]'"
                f" WHERE id = %s AND state IN ('queued', 'running') RETURNING {_ACTION_COLUMNS}",
                [number],
            ).fetchone()

    def note_phases(self, number: int, phases: Sequence[dict[str, Any]]) -> None:
        """Store how far a running action has come."""
        with self._session() as session:
            session.execute("UPDATE wod.action SET phases = %s WHERE id = %s", [Jsonb(phases), number])

    def put_back_action(self, number: int, reason: str) -> None:
        """The action waits to be tried again, for that reason."""
        with self._session() as session:
            session.execute(
                "UPDATE wod.action SET state = 'queued', reason = %s WHERE id = %s", [reason, number]
            )

    def end_action(
        self, number: int, state: str, reason: str | None, phases: Sequence[dict[str, Any]]
    ) -> None:
        """The action is done, failed or rejected, for good."""
        with self._session() as session:
            session.execute(
                "UPDATE wod.action SET state = %s, reason = %s, phases = %s, finished = now() WHERE id = %s",
                [state, _storable(reason), Jsonb(phases), number],
            )

    @contextmanager
    def _session(self) -> Iterator[psycopg.Connection]:
        try:
            with self._connect() as connection:
                yield connection
        except psycopg.OperationalError as error:
            raise Unavailable(
                f"The database does not answer: {_first_line(error)}.",
                hint="`wodctl status` shows the services.",
            ) from None
        except (
            psycopg.errors.InvalidSchemaName,
            psycopg.errors.UndefinedTable,
            psycopg.errors.UndefinedFunction,
        ):
            raise Unavailable(
                "The database is not prepared yet; the worker does that when it starts.",
                hint="`wodctl status` shows the services, `wodctl logs worker` what the worker does.",
            ) from None


def connect_as_operator(state: Path) -> Database:
    """The stack's database, for a command on the host: root enters as the worker, others as themselves."""

    @contextmanager
    def connect() -> Iterator[psycopg.Connection]:
        with _as_worker():
            connection = psycopg.connect(
                f"host={state}/run/db dbname=wod user=wod connect_timeout=5", autocommit=True
            )
        with connection:
            yield connection

    return Database(connect)


@contextmanager
def _as_worker() -> Iterator[None]:
    """PostgreSQL asks the kernel for the effective uid when one connects; root has no account there.

    The group opens the socket's folder, which root no longer gets into once it is the worker.
    """
    if os.geteuid() != 0:
        yield
        return
    former = os.getegid()
    os.setegid(DATA_GID)
    os.seteuid(WORKER_UID)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(former)


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")


def _storable(text: str | None) -> str | None:
    """The text as the database takes it: names of files may hold what is no UTF-8, and errors quote them."""
    return text and text.encode("utf-8", "backslashreplace").decode().replace("\0", "\\0")
