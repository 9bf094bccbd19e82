"""The queue: procrastinate's jobs in PostgreSQL, one at a time for each seat."""

import logging
import threading
from collections import defaultdict
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime, timezone

import procrastinate

from wodctl.model.watchdogs import WATCHDOGS

QueueLost = procrastinate.exceptions.ConnectorException
"""Raised by every method that finds the database away."""

LONGEST_PAUSE = 60
"""Seconds between two attempts of what is away for long."""

log = logging.getLogger("wod")


@dataclass(frozen=True)
class Duties:
    """What jobs do. Where one raises, its job is tried again later, in ever longer pauses."""

    carry_out: Callable[[int], None]
    """The order for that seat which arrived first."""

    fan_out: Callable[[int], None]
    """The action of that number, which is on several seats."""

    tell: Callable[[], None]
    """What the registration database is owed."""

    end_leases: Callable[[], None]
    """The leases that are over; every ten seconds."""

    watch: Callable[[str], None]
    """A round of the watchdog of that name."""

    export: Callable[[int], None]
    """The action of that number, which orders documents of a seat's workshop."""


class Pauses(procrastinate.BaseRetryStrategy):
    """1 s, 3 s, 5 s, … It is the duties that give up, and say so in the record."""

    def get_retry_decision(
        self, *, exception: BaseException, job: procrastinate.jobs.Job
    ) -> procrastinate.RetryDecision:
        """Always another attempt."""
        return procrastinate.RetryDecision(retry_in={"seconds": min(1 + 2 * job.attempts, LONGEST_PAUSE)})


class Queue:
    """The jobs in a database, each of which is one of the duties."""

    def __init__(self, connection: str, duties: Duties) -> None:
        self._app = procrastinate.App(
            connector=procrastinate.PsycopgConnector(conninfo=connection, min_size=1, max_size=4)
        )
        self._running: list[int] = []
        self._adrift: set[int] = set()
        self._locks: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)

        @self._app.task(name="wod.carry_out", pass_context=True, retry=Pauses())
        def carry_out(context: procrastinate.JobContext, seat: int) -> None:
            self._do(context, lambda: duties.carry_out(seat))

        @self._app.task(name="wod.fan_out", pass_context=True, retry=Pauses())
        def fan_out(context: procrastinate.JobContext, action: int) -> None:
            self._do(context, lambda: duties.fan_out(action))

        @self._app.task(name="wod.tell", pass_context=True, retry=Pauses())
        def tell(context: procrastinate.JobContext) -> None:
            self._do(context, duties.tell)

        @self._app.periodic(cron="* * * * * */10")
        @self._app.task(name="wod.end_leases", pass_context=True, queue="actions", lock="leases")
        def end_leases(context: procrastinate.JobContext, timestamp: int) -> None:
            self._do(context, duties.end_leases)

        @self._app.task(name="wod.watch", pass_context=True, queue="actions")
        def watch(context: procrastinate.JobContext, name: str, timestamp: int = 0) -> None:
            self._do(context, lambda: duties.watch(name))

        @self._app.task(name="wod.export", pass_context=True, retry=Pauses())
        def export(context: procrastinate.JobContext, action: int) -> None:
            self._do(context, lambda: duties.export(action))

        for dog in WATCHDOGS:
            lock = f"watchdog-{dog.name}"
            self._app.periodic(
                cron=dog.cron,
                periodic_id=dog.name,
                lock=lock,
                queueing_lock=lock,
                task_kwargs={"name": dog.name},
            )(watch)

    def _do(self, context: procrastinate.JobContext, duty: Callable[[], None]) -> None:
        number = context.job.id or 0
        self._running.append(number)
        try:
            # The database keeps two jobs on one seat apart, but not a job from itself, taken for adrift while it runs.
            with self._locks[context.job.lock or f"job {number}"]:
                duty()
        finally:
            self._running.remove(number)

    def opened(self) -> AbstractAsyncContextManager[object]:
        """For the time of the `async with`, the queue is connected to the database."""
        return self._app.open_async()

    async def work(self, concurrency: int, poll: float) -> None:
        """Carry out jobs until cancelled, so many at a time; then end when those under way have ended.

        New jobs are announced; one that waited for its seat is found after `poll` seconds. Jobs run in the
        threads of the loop's default executor.
        """
        await self._app.run_worker_async(
            queues=["actions"],
            concurrency=concurrency,
            fetch_job_polling_interval=poll,
            delete_jobs="always",
            install_signal_handlers=False,
        )

    async def tell(self) -> None:
        """Queue a job that delivers what is owed: a database that is new here may have been owed for long."""
        await self._app.configure_task("wod.tell", queue="actions", lock="registration").defer_async()

    async def take_up_abandoned(self) -> None:
        """Queue again what a former worker had begun; only for a sole worker that has begun nothing."""
        await self._retry(await self._doing())

    async def take_up_adrift(self) -> None:
        """Queue again what is begun in the database, but not here: its end could not be stored.

        Called from time to time; a job must be met twice, for it may be about to start or to end.
        """
        adrift = await self._doing() - set(self._running)
        await self._retry(adrift & self._adrift)
        self._adrift = adrift - self._adrift

    async def _doing(self) -> set[int]:
        return {job.id for job in await self._app.job_manager.list_jobs_async(status="doing") if job.id}

    async def _retry(self, jobs: set[int]) -> None:
        for number in sorted(jobs):
            log.info("job %d was begun and not ended: it begins again", number)
            await self._app.job_manager.retry_job_by_id_async(number, retry_at=datetime.now(timezone.utc))
