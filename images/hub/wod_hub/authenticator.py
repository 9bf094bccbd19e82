"""Logins: whoever knows the password of a seat that is ready is its participant."""

import asyncio
import re
import secrets
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from jupyterhub.auth import Authenticator
from tornado import web
from traitlets import Float, Integer, Unicode

from wod_hub.login import SeatLoginHandler, SeatLogoutHandler

SEAT = re.compile(r"student([1-9][0-9]{0,4})")


class SeatAuthenticator(Authenticator):
    """Lets in `student<n>` with the password of seat n, while that seat is ready, and nobody else.

    The hash comes from the database function wod.seat_login(name), which gives no row for any other seat. An
    unknown name costs the same work as a wrong password. While the database is away, the login page says so.
    """

    first_seat = Integer(1, help="The first seat of this backend.").tag(config=True)
    last_seat = Integer(100, help="The last seat of this backend.").tag(config=True)
    database = Unicode(help="Where seat_login() is: a connection string of PostgreSQL.").tag(config=True)

    seat_key = Unicode(help="What passes to seats are signed with; the doorman has it too.").tag(config=True)
    login_days = Float(0.17, help="Days that a login lasts.").tag(config=True)

    # A verification takes 64 MiB and some 50 ms: two at a time, or a crowd at the door would fill the memory.
    _verifiers = ThreadPoolExecutor(2, thread_name_prefix="login")
    _hasher = PasswordHasher()
    _nobody = _hasher.hash(secrets.token_urlsafe())

    def get_handlers(self, app: Any) -> list[tuple[str, type[web.RequestHandler]]]:
        """Login and logout in our way, which is found before the hub's."""
        return [(r"/login", SeatLoginHandler), (r"/logout", SeatLogoutHandler)]

    def normalize_username(self, username: str) -> str:
        """The name without what phones and copying add: capitals and spaces around it."""
        return username.strip().lower()

    def is_seat(self, name: str) -> bool:
        """Whether the name is `student<n>` with n a seat of this backend."""
        match = SEAT.fullmatch(name)
        return match is not None and self.first_seat <= int(match[1]) <= self.last_seat

    def validate_username(self, username: str) -> bool:
        """No user but a seat can come to exist, whether by login or by API."""
        return self.is_seat(username)

    async def authenticate(self, handler: web.RequestHandler, data: dict[str, Any]) -> str | None:
        """The seat's name if the password is right, else None; HTTPError(503) while the database is away."""
        name, password = self.normalize_username(data.get("username", "")), data.get("password", "")
        try:
            known = await asyncio.get_running_loop().run_in_executor(
                self._verifiers, self._is_right, name, password
            )
        except psycopg.Error as error:
            self.log.error("Nobody can log in: the database does not answer: %s", str(error).strip())
            raise web.HTTPError(
                503, "Logging in is not possible at the moment. Please try again in a minute."
            ) from None
        return name if known else None

    def _is_right(self, name: str, password: str) -> bool:
        stored = self._stored_hash(name) if self.is_seat(name) else None
        try:
            self._hasher.verify(stored or self._nobody, password)
        except InvalidHashError:
            self.log.error("The password hash of %s in the database is not one of argon2.", name)
            return False
        except VerificationError:
            return False
        return stored is not None

    def _stored_hash(self, name: str) -> str | None:
        with psycopg.connect(
            self.database, connect_timeout=3, options="-c statement_timeout=3000", autocommit=True
        ) as connection:
            row = connection.execute("SELECT password_hash FROM wod.seat_login(%s)", (name,)).fetchone()
        return row[0] if row else None
