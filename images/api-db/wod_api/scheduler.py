"""Does what is due for each registration, and sends what the outbox holds: `python -m wod_api.scheduler`.

One works at a time: it holds an advisory lock for as long as its connection lives. What is due is known to the
database; it is woken by whoever makes something due earlier, and may be killed at any moment.
"""

import os
import signal
import sys
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import sqlalchemy
from sqlalchemy.dialects.postgresql import distinct_on
from sqlalchemy.orm import Session, sessionmaker

from wod_api import store
from wod_api.lives import advance
from wod_api.outbox import Sender, waiting_destinations
from wod_api.settings import DATABASE, Settings
from wod_api.tables import Customer, Mail

LEADER = 0x776F_6473
"""Key of the advisory lock ("wods") that the working scheduler holds."""

ALIVE = Path("/run/wod/alive")
"""Touched every second by a scheduler that reaches its database; the health check looks at its age."""

LONGEST_WAIT = 20.0
"""Seconds between two looks at what is due, however little happens."""

TROUBLE_PAUSE = 60.0
"""Seconds until a registration that could not be advanced is tried again."""


class Scheduler:
    """Works until it is stopped or the database is lost; then its process ends."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._sessions = store.sessions(store.engine(6))
        self._ended = threading.Event()
        self._sender = Sender(self._sessions, settings, lambda: not self._ended.is_set())
        self._sending: dict[str, Future[None]] = {}
        self._woken = threading.Event()

    def work(self) -> None:
        """Wait until we are the one who works, then work."""
        guard = psycopg.connect(DATABASE.replace("+psycopg", ""), autocommit=True)
        while not guard.execute("SELECT pg_try_advisory_lock(%s)", [LEADER]).fetchone()[0]:  # type: ignore[index]
            ALIVE.touch()
            time.sleep(0.2)
        guard.execute(f"LISTEN {store.CHANNEL}")
        threading.Thread(target=self._watch, args=[guard], daemon=True).start()
        print("at work", flush=True)
        with ThreadPoolExecutor(4) as pool:
            while not self._ended.is_set():
                self._woken.clear()
                self._advance_all()
                self._send_all(pool)
                self._woken.wait(self._until_next())

    def stop(self) -> None:
        """End after the mail at hand."""
        self._ended.set()
        self._woken.set()

    def _watch(self, guard: psycopg.Connection) -> None:
        """Hear of what happens, and end at once when the database, and with it our lock, is lost."""
        try:
            while True:
                for _ in guard.notifies(timeout=1, stop_after=1):
                    self._woken.set()
                guard.execute("SELECT 1")
                ALIVE.touch()
        except psycopg.Error as error:
            print(f"the database is lost: {str(error).strip()}", flush=True)
            os._exit(1)

    def _advance_all(self) -> None:
        while not self._ended.is_set() and self._advance_one():
            pass

    def _advance_one(self) -> bool:
        """Advance whoever is due longest; False if nobody is."""
        with self._sessions() as session:
            now = sqlalchemy.func.now()
            due = sqlalchemy.select(Customer).where(Customer.due <= now).order_by(Customer.due).limit(1)
            customer = session.scalar(due.with_for_update(skip_locked=True))
            if customer is None:
                return False
            number = customer.id
            try:
                advance(session, self._settings, customer)
                session.commit()
            except sqlalchemy.exc.OperationalError:
                raise
            except Exception as error:
                # One registration that is not as it should be must not keep the others waiting.
                session.rollback()
                print(f"customer {number} could not be advanced: {type(error).__name__}: {error}", flush=True)
                _put_off(session, number)
        return True

    def _send_all(self, pool: ThreadPoolExecutor) -> None:
        with self._sessions() as session:
            destinations = waiting_destinations(session)
        for destination in destinations:
            former = self._sending.get(destination)
            if former is None or former.done():
                self._sending[destination] = pool.submit(self._send, destination)

    def _send(self, destination: str) -> None:
        try:
            self._sender.send_all(destination)
        except sqlalchemy.exc.OperationalError as error:
            print(f"the database is lost: {error}", flush=True)
            os._exit(1)
        except Exception as error:
            print(f"mails for {destination or 'people'}: {type(error).__name__}: {error}", flush=True)
            time.sleep(5)
        self._woken.set()  # something may have come due meanwhile

    def _until_next(self) -> float:
        with self._sessions() as session:
            return min(LONGEST_WAIT, max(0.02, _seconds_until_due(session, self._sending)))


def _seconds_until_due(session: Session, sending: dict[str, Future[None]]) -> float:
    """Until the next registration or mail; orders to a backend go one after the other, so its first one counts."""
    busy = [destination for destination, future in sending.items() if not future.done()]
    waiting = sqlalchemy.select(Mail.due).where(Mail.state == "waiting", Mail.destination.not_in(busy))
    first = (
        waiting.where(Mail.kind == "order")
        .ext(distinct_on(Mail.destination))
        .order_by(Mail.destination, Mail.id)
        .subquery()
    )
    questions = (
        sqlalchemy.select(sqlalchemy.func.min(first.c.due)),
        waiting.where(Mail.kind == "letter").order_by(Mail.due).limit(1),
        sqlalchemy.select(sqlalchemy.func.min(Customer.due)),
    )
    moments = [moment for moment in map(session.scalar, questions) if moment]
    if not moments:
        return LONGEST_WAIT
    return (min(moments) - datetime.now(UTC)).total_seconds()


def _put_off(session: Session, number: int) -> None:
    later = sqlalchemy.func.now() + sqlalchemy.text(f"interval '{TROUBLE_PAUSE} seconds'")
    session.execute(sqlalchemy.update(Customer).where(Customer.id == number).values(due=later))
    session.commit()


def main() -> None:
    """Work until SIGTERM; exit code 1 when the database is lost."""
    settings = Settings.load()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    store.wait_for_database()
    while not _is_prepared():
        ALIVE.touch()
        time.sleep(0.3)
    scheduler = Scheduler(settings)
    signal.signal(signal.SIGTERM, lambda *_: scheduler.stop())
    try:
        scheduler.work()
    except (psycopg.OperationalError, sqlalchemy.exc.OperationalError) as error:
        sys.exit(f"the database is lost: {error}")


def _is_prepared() -> bool:
    """Whether the API, which does that when it starts, has brought the database to its structure."""
    pool: sqlalchemy.Engine = store.engine(1)
    try:
        sessions: sessionmaker[Session] = store.sessions(pool)
        with sessions() as session:
            session.execute(sqlalchemy.text("SELECT 1 FROM outbox LIMIT 1"))
        return True
    except sqlalchemy.exc.SQLAlchemyError:
        return False
    finally:
        pool.dispose()


if __name__ == "__main__":
    main()
