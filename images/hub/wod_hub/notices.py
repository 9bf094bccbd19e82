"""What a participant's page asks from time to time: how long the seat is his, and what he is to know."""

import asyncio
import json
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from typing import Any

import psycopg
from jupyterhub.handlers.base import BaseHandler

LAST_WARNING = 5
"""Minutes before the end of a lease at which a participant is warned again."""


class Register:
    """The leases and notices of the seats, as the database tells the hub; one question at a time."""

    def __init__(self, connection: str) -> None:
        self._where = connection
        self._connection: psycopg.Connection | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="notices")

    async def ask(self, user: str) -> tuple[float, list[dict[str, Any]]] | None:
        """Seconds until the end of the user's lease, and his notices; None unless he has one. Raises psycopg.Error."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._ask, user)

    def _ask(self, user: str) -> tuple[float, list[dict[str, Any]]] | None:
        if self._connection is None or self._connection.closed:
            self._connection = psycopg.connect(
                self._where, connect_timeout=3, options="-c statement_timeout=3000", autocommit=True
            )
        try:
            return self._connection.execute(
                "SELECT seconds_left, notices FROM wod.seat_notices(%s)", [user]
            ).fetchone()
        except psycopg.Error:
            self._connection.close()
            raise


class SeatHandler(BaseHandler):
    """`/hub/seat`: 200 and what there is to know, 401 without a login, 410 if the seat is not his any more."""

    async def get(self) -> None:
        """Answer about the seat of whoever asks."""
        self.set_header("Cache-Control", "no-store")
        self.set_header("Content-Type", "application/json")
        user = self.current_user
        if user is None:
            self.set_status(HTTPStatus.UNAUTHORIZED)
            self.finish("{}")
            return
        authenticator = self.authenticator
        try:
            found = await authenticator.register.ask(user.name)
        except psycopg.Error as error:
            self.log.warning("No notices: the database does not answer: %s", str(error).strip())
            self.set_status(HTTPStatus.SERVICE_UNAVAILABLE)
            self.finish("{}")
            return
        if found is None:
            self.set_status(HTTPStatus.GONE)
            self.finish("{}")
            return
        first = authenticator.lease_warning
        answer = {
            "user": user.name,
            "seconds_left": round(found[0]),
            "warnings": sorted({first, min(first, LAST_WARNING)}, reverse=True) if first else [],
            "notices": found[1],
            "running": bool(user.spawner.ready),
        }
        self.finish(json.dumps(answer))
