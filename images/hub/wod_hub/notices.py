"""What a participant's page asks from time to time: how long the seat is his, what he is to know, what to take home."""

import asyncio
import json
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from typing import Any

import psycopg
from jupyterhub.handlers.base import BaseHandler
from tornado import web

LAST_WARNING = 5
"""Minutes before the end of a lease at which a participant is warned again."""


ORDERED_HERE = "X-WoD-Seat"
"""A header that no page of another origin can send without asking us first, and we say no to that."""


class Register:
    """The leases and notices of the seats, as the database tells the hub; one question at a time."""

    def __init__(self, connection: str) -> None:
        self._where = connection
        self._connection: psycopg.Connection | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="notices")

    async def seat(self, user: str) -> tuple[Any, ...] | None:
        """Seconds until the end of the user's lease, his notices, his latest export; None unless he has a seat.

        Raises psycopg.Error.
        """
        question = "SELECT seconds_left, notices, take_home FROM wod.seat_notices(%s)"
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._ask, question, user)

    async def order_take_home(self, user: str) -> None:
        """Order what the user takes home. Raises psycopg.Error."""
        question = "SELECT wod.order_take_home(%s)"
        await asyncio.get_running_loop().run_in_executor(self._thread, self._ask, question, user)

    def _ask(self, question: str, user: str) -> tuple[Any, ...] | None:
        if self._connection is None or self._connection.closed:
            self._connection = psycopg.connect(
                self._where, connect_timeout=3, options="-c statement_timeout=3000", autocommit=True
            )
        try:
            return self._connection.execute(question, [user]).fetchone()
        except psycopg.Error:
            self._connection.close()
            raise


class SeatHandler(BaseHandler):
    """`/hub/seat`: 200 and what there is to know, 401 without a login, 410 if the seat is not his any more."""

    async def get(self) -> None:
        """Answer about the seat of whoever asks."""
        await self._answer(order=False)

    async def post(self) -> None:
        """Order what he takes home, then answer the same."""
        await self._answer(order=True)

    def check_xsrf_cookie(self) -> None:
        """JupyterHub's cookie against forged requests is out of reach for pages of seats; the header does the same."""
        if self.request.method != "GET" and ORDERED_HERE not in self.request.headers:
            raise web.HTTPError(HTTPStatus.FORBIDDEN, f"The header {ORDERED_HERE} is missing.")

    async def _answer(self, *, order: bool) -> None:
        self.set_header("Cache-Control", "no-store")
        self.set_header("Content-Type", "application/json")
        user = self.current_user
        found = None
        status = HTTPStatus.UNAUTHORIZED if user is None else HTTPStatus.GONE
        try:
            if user is not None and order:
                await self.authenticator.register.order_take_home(user.name)
            if user is not None:
                found = await self.authenticator.register.seat(user.name)
        except psycopg.Error as error:
            self.log.warning("No notices: the database does not answer: %s", str(error).strip())
            status = HTTPStatus.SERVICE_UNAVAILABLE
        if user is None or found is None:
            self.set_status(status)
            self.finish("{}")
            return
        first = self.authenticator.lease_warning
        answer = {
            "user": user.name,
            "seconds_left": round(found[0]),
            "warnings": sorted({first, min(first, LAST_WARNING)}, reverse=True) if first else [],
            "notices": found[1],
            "take_home": found[2],
            "running": bool(user.spawner.ready),
        }
        self.finish(json.dumps(answer))
