"""Logins: whoever knows the password of a seat that is ready is its participant."""

import asyncio
import ipaddress
import math
import re
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import Any

import psycopg
from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from jupyterhub import orm
from jupyterhub.auth import Authenticator
from tornado import web
from traitlets import Float, Integer, List, Unicode

from wod_hub.failures import Failures, Guesser
from wod_hub.login import SeatLoginHandler, SeatLogoutHandler
from wod_hub.notices import Register, SeatHandler
from wod_hub.origin import RefusedLog, client_address
from wod_hub.spawner import SeatTokenHandler
from wodctl.model.seat import new_password, password_hash

CHECKS_AT_ONCE = 2
"""More would only take each other's processor, and that of the hub itself."""

CHECKS_WAITING = 100
"""A big class at the door; a check takes some 20 ms, so that the last of them waits a second or two."""

SEAT = re.compile(r"student([1-9][0-9]{0,4})")


class SeatAuthenticator(Authenticator):
    """Lets in `student<n>` with the password of seat n, while that seat is ready, and nobody else.

    The hash comes from the database function wod.seat_login(name), which gives no row for any other seat. An
    unknown name costs the same work as a wrong password. While the database is away, the login page says so.

    Passwords are checked a few at a time, and not too many wait for that: beyond it the answer is 429 at once. So
    it is, for a growing pause, to the place from where wrong passwords for a seat come one after the other; the
    seat's participant elsewhere, and others at the same place, do not notice.
    """

    first_seat = Integer(1, help="The first seat of this backend.").tag(config=True)
    last_seat = Integer(100, help="The last seat of this backend.").tag(config=True)
    database = Unicode(help="Where seat_login() is: a connection string of PostgreSQL.").tag(config=True)

    seat_key = Unicode(help="What passes to seats are signed with; the doorman has it too.").tag(config=True)
    login_days = Float(0.17, help="Days that a login lasts.").tag(config=True)
    lease_warning = Integer(15, help="Minutes before the end of a lease to warn at; 0: never.").tag(
        config=True
    )

    trusted_proxies = List(Unicode(), help="Networks of proxies in front of ours.").tag(config=True)
    seat_network = Unicode("192.0.2.0/32", help="Where seats are, who speak for themselves alone.").tag(
        config=True
    )
    proxy_address = Unicode(help="The address of our proxy in that network.").tag(config=True)
    refused_log = Unicode(help="The file in which fail2ban looks; empty: none.").tag(config=True)

    _turns = asyncio.Semaphore(CHECKS_AT_ONCE)
    _threads = ThreadPoolExecutor(CHECKS_AT_ONCE, thread_name_prefix="login")
    _waiting = 0
    _failures = Failures()
    _hasher = PasswordHasher()
    # Checking takes as much work as the hash says: this one says what those of seats say.
    _nobody = password_hash(new_password())

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        # At once: fail2ban wants the file to be there.
        self._refused = RefusedLog(Path(self.refused_log)) if self.refused_log else None

    def get_handlers(self, app: Any) -> list[tuple[str, type[web.RequestHandler]]]:
        """Login and logout in our way, which is found before the hub's; and what pages and servers of seats ask."""
        return [
            (r"/login", SeatLoginHandler),
            (r"/logout", SeatLogoutHandler),
            (r"/seat", SeatHandler),
            (r"/seat-token", SeatTokenHandler),
        ]

    @cached_property
    def register(self) -> Register:
        """The leases and notices of the seats."""
        return Register(self.database)

    @cached_property
    def _trusted(self) -> list[Any]:
        return [ipaddress.ip_network(network) for network in self.trusted_proxies]

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

    def add_user(self, user: Any) -> None:
        """Raises ValueError for a user who is not a seat, unless he is in the database already.

        When the site has fewer seats than before, the servers of those that are gone can still be stopped.
        """
        # At its start JupyterHub comes with rows of its database; new users it wraps up first.
        if isinstance(user, orm.User) and not self.is_seat(user.name):
            self.log.warning("%s is not a seat of this backend any more.", user.name)
        else:
            super().add_user(user)

    async def authenticate(self, handler: web.RequestHandler, data: dict[str, Any]) -> str | None:
        """The seat's name if the password is right, else None.

        Raises HTTPError(429) when the password was not looked at, because too many wait or too many were wrong, and
        HTTPError(503) while the database is away.
        """
        name, password = self.normalize_username(data.get("username", "")), data.get("password", "")
        # All names that no seat has are one: whoever makes them up has no more tries.
        peer, client = self._origin(handler)
        guesser = Guesser(name if self.is_seat(name) else "", f"{peer} {client}")
        self._need_no_pause(guesser)
        if self._waiting >= CHECKS_WAITING:
            raise web.HTTPError(
                429, "Too many are logging in at the moment. Please try again in a few seconds."
            )
        self._waiting += 1
        try:
            async with self._turns:
                # What waited in front of this one may have been wrong.
                self._need_no_pause(guesser)
                known = await asyncio.get_running_loop().run_in_executor(
                    self._threads, self._is_right, name, password
                )
        except psycopg.Error as error:
            self.log.error("Nobody can log in: the database does not answer: %s", str(error).strip())
            raise web.HTTPError(
                503, "Logging in is not possible at the moment. Please try again in a minute."
            ) from None
        finally:
            self._waiting -= 1
        if not known:
            self._failures.add(guesser)
            self._note(guesser)
            return None
        self._failures.forget(guesser)
        return name

    def _need_no_pause(self, guesser: Guesser) -> None:
        if seconds := math.ceil(self._failures.pause(guesser)):
            self._note(guesser)
            raise web.HTTPError(
                429, f"Too many wrong passwords for this user name. Please try again in {seconds} s."
            )

    def _note(self, guesser: Guesser) -> None:
        """Write down who was refused, unless it looks like typing errors, or nobody but himself says who he is."""
        peer, client = guesser.place.split(" ")
        by_proxy = peer == self.proxy_address or ipaddress.ip_address(peer) not in self._seats
        if self._refused and by_proxy and self._failures.tries_on(guesser):
            self._refused.add(client, guesser.seat)

    @cached_property
    def _seats(self) -> ipaddress.IPv4Network:
        return ipaddress.IPv4Network(self.seat_network)

    def _origin(self, handler: web.RequestHandler) -> tuple[str, str]:
        """The address that the connection has, and the one that it was handed on for.

        Both, because a seat can reach us without the proxy and claim to have been handed on for anybody.
        """
        connection: Any = handler.request.connection
        peer = str(connection.context.address[0])
        forwarded = handler.request.headers.get("X-Forwarded-For", peer)
        return peer, client_address(peer, forwarded, self._trusted)

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
