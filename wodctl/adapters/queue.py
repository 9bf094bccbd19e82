"""The queue of actions: procrastinate's jobs in PostgreSQL, one at a time for each seat."""

import logging
from contextlib import AbstractAsyncContextManager
from datetime import datetime, timezone
from typing import Protocol

import procrastinate

QueueLost = procrastinate.exceptions.ConnectorException
"""Raised by every method that finds the database away."""

log = logging.getLogger("wod")


class CarryOut(Protocol):
    """What a job calls: carries out the action of that number; `attempt` counts from 0."""

    def __call__(self, action: int, /, *, attempt: int) -> None: ...


class Queue:
    """The jobs in a database, each of which names an action; `carry_out(action, attempt=n)` carries it out.

    Where that raises, the job is tried again later.
    """

    def __init__(self, connection: str, carry_out: CarryOut) -> None:
        self._app = procrastinate.App(
            connector=procrastinate.PsycopgConnector(conninfo=connection, min_size=1, max_size=4)
        )
        self._running: set[int] = set()
        self._adrift: set[int] = set()
        # Ever longer pauses: 1 s, 3 s, 5 s, … It is carry_out that gives up and says so in the record.
        retry = procrastinate.RetryStrategy(wait=1, linear_wait=2)

        @self._app.task(name="wod.carry_out", pass_context=True, retry=retry)
        def job(context: procrastinate.JobContext, action_id: int) -> None:
            number = context.job.id or 0
            self._running.add(number)
            try:
                carry_out(action_id, attempt=context.job.attempts)
            finally:
                self._running.discard(number)

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
            delete_jobs="successful",
            install_signal_handlers=False,
        )

    async def take_up_abandoned(self) -> None:
        """Queue again what a former worker had begun; only for a sole worker that has begun nothing."""
        await self._retry(await self._doing())

    async def take_up_adrift(self) -> None:
        """Queue again what is begun in the database, but not here: its end could not be stored.

        Called from time to time; a job must be met twice, for it may be about to start or to end.
        """
        adrift = await self._doing() - self._running
        await self._retry(adrift & self._adrift)
        self._adrift = adrift - self._adrift

    async def _doing(self) -> set[int]:
        return {job.id for job in await self._app.job_manager.list_jobs_async(status="doing") if job.id}

    async def _retry(self, jobs: set[int]) -> None:
        for number in sorted(jobs):
            log.info("job %d was begun and not ended: it begins again", number)
            await self._app.job_manager.retry_job_by_id_async(number, retry_at=datetime.now(timezone.utc))
