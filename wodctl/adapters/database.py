"""PostgreSQL, over its Unix socket: seats and actions. The uid of the process is its password."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Protocol

import psycopg
from psycopg.rows import class_row, scalar_row
from psycopg.types.json import Jsonb

from wodctl.errors import Unavailable
from wodctl.model.registration import Owed, Update
from wodctl.model.seat import Seat

WORKER_CONNECTION = "host=/run/postgresql dbname=wod user=wod connect_timeout=5"
"""How the worker reaches its database from within its container."""

WORKER_UID = 1804
"""The worker's user, whom the database knows as its owner; root on the host becomes it to be let in."""

DATA_GID = 1808
"""The group whose members reach the database's socket."""

_ACTION_COLUMNS = """id, action, seat, last_seat, customer, workshop, source, state, reason, phases,
    created, started, finished, sender, client, completion, arrived,
    ARRAY(SELECT concat_ws(' ', kind, key, (SELECT string_agg(name, ', ') FROM jsonb_object_keys(body) AS name),
                           CASE WHEN refused THEN '(refused)' END, problem)
          FROM wod.owed WHERE owed.action = action.id ORDER BY id) AS owed"""
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
    completion: int | None
    arrived: datetime
    owed: list[str]
    """What the registration database has not been told yet, or refused; each with the reason."""


@dataclass(frozen=True)
class Step:
    """What an action, ordered for the seats `first` to `last`, is about to do to one of them.

    `attempts` counts this one too. `overtaken_by` is an action that was ordered later and, carried out
    already, forbids this one: a CREATE, or where this is one, the end of the same customer's lease.
    `leaver` is the customer whose lease ends here: for a CREATE, a range or an order by hand the one who held
    the seat when the step was first begun. `ended_before` tells that another action has ended that lease.
    """

    action: int
    kind: str
    seat: int
    first: int
    last: int
    customer: int
    workshop: str | None
    attempts: int
    completion: int | None
    overtaken_by: int | None
    leaver: int | None
    ended_before: bool


@dataclass(frozen=True)
class Round:
    """The last round of a watchdog: when it ended, how many seconds it took, what it found, or why nothing."""

    name: str
    ran: datetime
    seconds: float
    found: list[str]
    problem: str | None


class Outcome(Protocol):
    """What is stored of a step's end."""

    @property
    def reason(self) -> str | None: ...
    @property
    def touched(self) -> bool: ...
    @property
    def updates(self) -> Sequence[Update]: ...


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

    def set_password_of(self, number: int, customer: int, password_hash: str) -> bool:
        """Change the password of a seat that is ready for that customer; False, and nothing happens, for any other."""
        with self._session() as session:
            changed = session.execute(
                "UPDATE wod.seat SET password_hash = %s WHERE number = %s AND state = 'ready'"
                " AND customer = %s",
                [password_hash, number, customer],
            )
            return changed.rowcount == 1

    def extend_lease(self, number: int, time: timedelta) -> datetime | None:
        """Let the lease of a seat that is ready last longer; returns its new end, None unless it is ready."""
        with self._session() as session, session.cursor(row_factory=scalar_row) as cursor:
            return cursor.execute(
                "UPDATE wod.seat SET lease_until = greatest(lease_until, now()) + %s"
                " WHERE number = %s AND state = 'ready' RETURNING lease_until",
                [time, number],
            ).fetchone()

    # Notices

    def add_notice(self, first: int, last: int, source: str, text: str) -> list[int]:
        """Tell the participants of these seats something; returns the seats, those that are ready.

        What the same source told them before is replaced, unless it is the operator.
        """
        with self._session() as session, session.transaction():
            session.execute(
                "DELETE FROM wod.notice WHERE seat BETWEEN %s AND %s AND source = %s AND source <> 'operator'",
                [first, last, source],
            )
            with session.cursor(row_factory=scalar_row) as cursor:
                return cursor.execute(
                    "INSERT INTO wod.notice (seat, source, text) SELECT number, %s, %s FROM wod.seat"
                    " WHERE number BETWEEN %s AND %s AND state = 'ready' ORDER BY number RETURNING seat",
                    [source, text, first, last],
                ).fetchall()

    def remove_notices(self, first: int, last: int, source: str) -> None:
        """Take back what these seats' participants were told by `source`."""
        with self._session() as session:
            session.execute(
                "DELETE FROM wod.notice WHERE seat BETWEEN %s AND %s AND source = %s", [first, last, source]
            )

    def notices(self, number: int) -> list[str]:
        """What the participant of a seat is told at present."""
        with self._session() as session, session.cursor(row_factory=scalar_row) as cursor:
            return cursor.execute(
                "SELECT text FROM wod.notice WHERE seat = %s ORDER BY id", [number]
            ).fetchall()

    def order_export(self, number: int) -> int | None:
        """Order documents of a seat's workshop; returns the action, None unless the seat is ready."""
        with self._session() as session, session.cursor(row_factory=scalar_row) as cursor:
            return cursor.execute("SELECT wod.order_export(%s, 'cli')", [number]).fetchone()

    # Watchdogs

    def report(self, kind: str, seat: Seat, text: str) -> None:
        """Put what a watchdog saw (REPORT) or did (STOP) among the actions."""
        with self._session() as session:
            session.execute(
                "INSERT INTO wod.action (action, seat, last_seat, customer, workshop, source, state, reason, started,"
                " finished) VALUES (%s, %s, %s, %s, %s, 'watchdog', 'done', %s, now(), now())",
                [kind, seat.number, seat.number, seat.customer or 0, seat.workshop, _storable(text)],
            )

    def note_round(self, name: str, seconds: float, found: Sequence[str], problem: str | None) -> None:
        """Store what a watchdog's round found, or why there was none."""
        with self._session() as session:
            session.execute(
                "INSERT INTO wod.watch (name, ran, seconds, found, problem) VALUES (%s, now(), %s, %s, %s)"
                " ON CONFLICT (name) DO UPDATE SET ran = excluded.ran, seconds = excluded.seconds,"
                " found = excluded.found, problem = excluded.problem",
                [name, seconds, Jsonb([_storable(text) for text in found]), _storable(problem)],
            )

    def rounds(self) -> dict[str, Round]:
        """The last round of each watchdog that has made one, by name."""
        with self._session() as session, session.cursor(row_factory=class_row(Round)) as cursor:
            rounds = cursor.execute("SELECT name, ran, seconds, found, problem FROM wod.watch").fetchall()
            return {one.name: one for one in rounds}

    def order_round(self, name: str) -> None:
        """Send a watchdog on a round now."""
        with self._session() as session:
            session.execute(
                "SELECT wod.queue_job('wod.watch', 'watchdog-' || %s, jsonb_build_object('name', %s::text))",
                [name, name],
            )

    def is_waited_for(self, number: int) -> bool:
        """Whether an order about this seat has not been carried out yet."""
        with self._session() as session, session.cursor(row_factory=scalar_row) as cursor:
            return bool(
                cursor.execute(
                    "SELECT count(*) FROM wod.step WHERE seat = %s AND state IN ('queued', 'running')",
                    [number],
                ).fetchone()
            )

    def forget_actions(self, rejected_days: int, other_days: int) -> int:
        """Remove actions that ended so many days ago (0: none) and are not owed to anybody; returns how many."""
        with self._session() as session, session.transaction():
            session.execute(
                "CREATE TEMPORARY TABLE old ON COMMIT DROP AS SELECT id FROM wod.action WHERE finished IS NOT NULL"
                " AND NOT EXISTS (SELECT FROM wod.owed WHERE owed.action = action.id AND NOT refused)"
                " AND CASE WHEN state = 'rejected' THEN %(rejected)s ELSE %(other)s END > 0 AND finished < now() -"
                " interval '1 day' * CASE WHEN state = 'rejected' THEN %(rejected)s ELSE %(other)s END",
                {"rejected": rejected_days, "other": other_days},
            )
            session.execute("DELETE FROM wod.owed USING old WHERE owed.action = old.id")
            session.execute("DELETE FROM wod.step USING old WHERE step.action = old.id")
            return session.execute("DELETE FROM wod.action USING old WHERE action.id = old.id").rowcount

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

    def begin_step(self, seat: int) -> Step | None:
        """Mark the step of that seat as running which arrived first of those that have not ended; or None."""
        with self._session() as session, session.cursor(row_factory=class_row(Step)) as cursor:
            return cursor.execute(_BEGIN_STEP, [seat]).fetchone()

    def note_phases(self, number: int, phases: Sequence[dict[str, Any]]) -> None:
        """Store how far a running action has come."""
        with self._session() as session:
            session.execute("UPDATE wod.action SET phases = %s WHERE id = %s", [Jsonb(phases), number])

    def note_completion(self, number: int, seat: int, percentage: int) -> None:
        """Store how much of his workshop the participant had carried out when the action ended his lease."""
        with self._session() as session, session.transaction():
            session.execute(
                "UPDATE wod.step SET completion = %s WHERE action = %s AND seat = %s",
                [percentage, number, seat],
            )
            session.execute(
                "UPDATE wod.action SET completion = %s WHERE id = %s AND seat = last_seat",
                [percentage, number],
            )

    def owe(self, number: int, seat: int, updates: Sequence[Update]) -> None:
        """The registration database is owed these updates already, before the step has ended; once only."""
        with self._session() as session, session.transaction():
            _owe(session, number, seat, updates, first=-len(updates))

    def owe_holder(self, seat: int, customer: int, updates: Sequence[Update]) -> None:
        """The registration database is owed these updates about the one who has the seat now: with his CREATE."""
        with self._session() as session, session.transaction():
            row = session.execute(
                "SELECT action.id, 1 + coalesce((SELECT max(position) FROM wod.owed"
                "  WHERE owed.action = action.id AND owed.seat = step.seat), 99)"
                " FROM wod.action JOIN wod.step ON step.action = action.id"
                " WHERE step.seat = %s AND action.customer = %s AND action.action = 'CREATE'"
                " ORDER BY action.id DESC LIMIT 1 FOR UPDATE OF action",
                [seat, customer],
            ).fetchone()
            if row:
                _owe(session, row[0], seat, updates, first=max(row[1], 100))

    def put_back_step(self, number: int, seat: int, reason: str) -> None:
        """The step waits to be tried again, for that reason."""
        with self._session() as session, session.transaction():
            session.execute(
                "UPDATE wod.step SET state = 'queued', reason = %s WHERE action = %s AND seat = %s",
                [_storable(reason), number, seat],
            )
            session.execute(
                "UPDATE wod.action SET reason = %s, state = CASE WHEN seat = last_seat THEN 'queued' ELSE state END"
                " WHERE id = %s",
                [_storable(reason), number],
            )

    def end_step(self, number: int, seat: int, state: str, outcome: Outcome) -> None:
        """The step is done, failed or rejected, for good, and so is the action with the last of its steps.

        What the registration database is to be told of it is owed from the same moment on.
        """
        with self._session() as session, session.transaction():
            # Two steps that end at the same time must not each take the other for unfinished.
            session.execute("SELECT FROM wod.action WHERE id = %s FOR UPDATE", [number])
            session.execute(
                "UPDATE wod.step SET state = %s, reason = %s, touched = %s, finished = now()"
                " WHERE action = %s AND seat = %s",
                [state, _storable(outcome.reason), outcome.touched, number, seat],
            )
            _owe(session, number, seat, outcome.updates)
            session.execute(_END_STEP, [number, seat])
            session.execute(_END_ACTION, {"action": number})

    def begin_range(self, number: int) -> Action | None:
        """An action on several seats that has not been made into steps yet, marked as running; or None."""
        with self._session() as session, session.cursor(row_factory=class_row(Action)) as cursor:
            return cursor.execute(
                "UPDATE wod.action SET state = 'running', started = coalesce(started, now())"  # noqa: S608
                " WHERE id = %s AND state IN ('queued', 'running')"
                " AND NOT EXISTS (SELECT FROM wod.step WHERE step.action = action.id)"
                f" RETURNING {_ACTION_COLUMNS}",
                [number],
            ).fetchone()

    def fan_out(self, number: int, places: int, updates: Sequence[Update]) -> None:
        """One step for each seat of the action; so many places of its workshop can be given away again."""
        with self._session() as session, session.transaction():
            session.execute(
                "INSERT INTO wod.capacity (workshop, capacity) SELECT workshop, %s FROM wod.action WHERE id = %s"
                " ON CONFLICT (workshop) DO UPDATE SET capacity = excluded.capacity, changed = now()",
                [places, number],
            )
            _owe(session, number, None, updates)
            # From the last seat to the first, as it has always been.
            session.execute(
                "SELECT wod.queue_step(action.id, number) FROM wod.action,"
                " generate_series(last_seat, seat, -1) AS number WHERE id = %s",
                [number],
            )

    def end_range(self, number: int, state: str, reason: str | None) -> None:
        """An action on several seats ends without any step."""
        with self._session() as session:
            session.execute(
                "UPDATE wod.action SET state = %s, reason = %s, finished = now() WHERE id = %s",
                [state, _storable(reason), number],
            )

    def capacity(self, workshop: str) -> int | None:
        """How many places the last RESET of a range of that workshop left; None before any."""
        with self._session() as session, session.cursor(row_factory=scalar_row) as cursor:
            return cursor.execute(
                "SELECT capacity FROM wod.capacity WHERE workshop = %s", [workshop]
            ).fetchone()

    def end_leases(self, patience_minutes: int) -> list[int]:
        """Order the end of leases that are over and of seats that are stuck; returns the new actions."""
        with self._session() as session, session.cursor(row_factory=scalar_row) as cursor:
            return cursor.execute(
                "SELECT wod.end_leases(%s)", [timedelta(minutes=patience_minutes)]
            ).fetchall()

    # What the registration database is owed

    def next_owed(self) -> Owed | None:
        """The update to be delivered next, or None."""
        with self._session() as session, session.cursor(row_factory=class_row(Owed)) as cursor:
            return cursor.execute(
                "SELECT owed.id, owed.action, owed.seat, coalesce(customer, 0) AS customer, kind, key, body"
                " FROM wod.owed JOIN wod.action ON action.id = owed.action"
                " WHERE NOT refused ORDER BY owed.id LIMIT 1"
            ).fetchone()

    def debts(self) -> list[tuple[int, str | None, bool]]:
        """How many updates are owed, with each problem that was met, and whether those were refused for good."""
        with self._session() as session:
            return session.execute(
                "SELECT count(*), problem, refused FROM wod.owed GROUP BY problem, refused ORDER BY refused, problem"
            ).fetchall()

    def note_owed(self, number: int, problem: str, *, refused: bool) -> None:
        """The update could not be delivered, for that reason; refused ones are not tried again."""
        with self._session() as session:
            session.execute(
                "UPDATE wod.owed SET attempts = attempts + 1, problem = %s, refused = %s WHERE id = %s",
                [_storable(problem), refused, number],
            )

    def settle_owed(self, number: int) -> None:
        """The update was delivered."""
        with self._session() as session:
            session.execute("DELETE FROM wod.owed WHERE id = %s", [number])

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


_BEGIN_STEP = """
WITH next AS (
    SELECT step.action, step.seat FROM wod.step JOIN wod.action ON action.id = step.action
    WHERE step.seat = %s AND step.state IN ('queued', 'running')
    ORDER BY action.arrived, action.id LIMIT 1
), begun AS (
    UPDATE wod.step SET state = 'running', attempts = attempts + 1, reason = NULL,
        started = coalesce(step.started, now()),
        holder = CASE WHEN attempts > 0 THEN holder
                      ELSE (SELECT nullif(seat.customer, 0) FROM wod.seat WHERE seat.number = step.seat) END
    FROM next WHERE step.action = next.action AND step.seat = next.seat
    RETURNING step.action, step.seat, step.attempts, step.holder, step.completion
), noted AS (
    UPDATE wod.action SET state = 'running', started = coalesce(action.started, now()),
        reason = NULL, phases = CASE WHEN action.seat = last_seat THEN '[]' ELSE phases END
    FROM begun WHERE action.id = begun.action
    RETURNING action.*
)
SELECT noted.id AS action, noted.action AS kind, begun.seat, noted.seat AS first, noted.last_seat AS last,
    coalesce(noted.customer, 0) AS customer, noted.workshop, begun.attempts, begun.completion, leaving.leaver,
    (SELECT later.id FROM wod.step JOIN wod.action AS later ON later.id = step.action
     WHERE step.seat = begun.seat AND step.state IN ('done', 'failed')
       AND (later.arrived, later.id) > (noted.arrived, noted.id)
       AND (step.touched AND (later.action = 'CREATE' OR noted.action = 'CREATE' AND later.customer = noted.customer)
            -- His end found the seat in another's hands, and so touched nothing: he has gone all the same.
            OR noted.action = 'CREATE' AND later.customer = noted.customer AND later.action IN ('CLEANUP', 'PURGE'))
     ORDER BY later.id LIMIT 1) AS overtaken_by,
    -- The last that was done about him is his own CREATE, unless his lease is over. A CREATE for another one
    -- ended it even where it failed.
    coalesce(
        (SELECT former.action <> 'CREATE' OR former.customer <> leaving.leaver
         FROM wod.step JOIN wod.action AS former ON former.id = step.action
         WHERE step.seat = begun.seat AND step.touched AND former.id <> noted.id
           AND leaving.leaver IN (former.customer, step.holder)
           AND (step.state = 'done'
                OR step.state = 'failed' AND former.action = 'CREATE' AND former.customer <> leaving.leaver)
         ORDER BY step.finished DESC LIMIT 1), false) AS ended_before
FROM begun, noted, LATERAL (
    SELECT CASE WHEN noted.action = 'CREATE' OR noted.seat <> noted.last_seat OR coalesce(noted.customer, 0) = 0
                THEN begun.holder ELSE noted.customer END AS leaver
) AS leaving
"""

_END_STEP = """
UPDATE wod.action SET phases = phases || jsonb_build_array(jsonb_build_object(
    'name', 'seat ' || step.seat,
    'seconds', round(extract(epoch FROM step.finished - step.started)::numeric, 3)))
FROM wod.step
WHERE action.id = %s AND step.action = action.id AND step.seat = %s AND action.seat <> action.last_seat
"""

_END_ACTION = """
UPDATE wod.action SET finished = now(), state = steps.state, reason = steps.reason
FROM (
    SELECT CASE WHEN bool_or(step.state = 'failed') THEN 'failed'
                WHEN bool_or(step.state = 'rejected') THEN 'rejected' ELSE 'done' END AS state,
           CASE WHEN count(*) = 1 THEN min(step.reason)
                ELSE string_agg('Seat ' || step.seat || ': ' || step.reason, ' ' ORDER BY step.seat) END AS reason,
           bool_and(step.state NOT IN ('queued', 'running')) AS ended
    FROM wod.step WHERE step.action = %(action)s
) AS steps
WHERE action.id = %(action)s AND steps.ended
"""


def _owe(
    session: psycopg.Connection, action: int, seat: int | None, updates: Sequence[Update], first: int = 0
) -> None:
    """The registration database is owed these updates, in this order, and a job to deliver them waits.

    Each has a position within its action, counted from `first`, which may be taken once.
    """
    for position, update in enumerate(updates, first):
        session.execute(
            "INSERT INTO wod.owed (action, seat, position, kind, key, body) VALUES (%s, %s, %s, %s, %s, %s)"
            " ON CONFLICT DO NOTHING",
            [action, seat, position, update.kind, update.key, Jsonb(dict(update.body))],
        )
    if updates:
        session.execute(
            "SELECT wod.queue_job('wod.tell', 'registration', '{}') WHERE NOT EXISTS ("
            " SELECT FROM public.procrastinate_jobs WHERE task_name = 'wod.tell' AND status = 'todo')"
        )


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
