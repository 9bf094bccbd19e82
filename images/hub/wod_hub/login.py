"""Login and logout with the seat's pass, without which the doorman lets no browser through to a seat.

Where each seat has a host name of its own, a login elsewhere sets no cookie: it leads to the seat's name with a word
that is good once and for half a minute, and there the cookies are set, for that name alone.
"""

import re
import time
from typing import ClassVar
from urllib.parse import quote, urlsplit

from jupyterhub.handlers.login import LoginHandler, LogoutHandler
from jupyterhub.user import User

from wodctl.model import seat_pass

DAY = 86400.0

HAND_OVER = 30.0
"""Seconds from the login to the seat's own name."""

_SEAT = re.compile(r"/user/([^/?#]+)")


class SeatLoginHandler(LoginHandler):
    """Hands out the pass of the seat. Whoever asks for another's seat is asked to log in as its participant."""

    _used: ClassVar[dict[str, float]] = {}

    async def get(self) -> None:
        """The login form, also for those who are logged in as somebody else than the page asks for."""
        if (word := self.get_argument("login_key", "")) and (user := self._handed_over(word)):
            self.set_login_cookie(user)
            self.redirect(self.get_next_url(user))
        elif self.current_user and not self._leads_home(self.current_user):
            self.finish(await self._render(username=""))
        else:
            await super().get()

    def get_next_url(self, user: User | None = None, default: str | None = None) -> str:
        """The page that was asked for, or his own seat for him who logged in as somebody else."""
        if user and not self._leads_home(user):
            self.request.arguments.pop("next", None)
        path: str = super().get_next_url(user, default)
        if user and not self._is_at_home(user):
            word = seat_pass.issue(self._key, user.name, time.time() + HAND_OVER)
            # By this name JupyterHub keeps it out of its log.
            return f"{self._home(user.name)}/hub/login?login_key={word}&next={quote(path, safe='')}"
        return path

    def set_login_cookie(self, user: User) -> None:
        """The hub's cookies, and the pass in place of that of any other seat; none under the name of another."""
        if not self._is_at_home(user):
            return
        super().set_login_cookie(user)
        expiry = time.time() + self.authenticator.login_days * DAY
        word = seat_pass.issue(self.authenticator.seat_key, user.name, expiry)
        self._set_cookie(seat_pass.COOKIE, word, encrypted=False, path="/", samesite="Lax")

    @property
    def _key(self) -> str:
        # Another one than that of passes: none of those is a word for a login.
        return f"hand-over {self.authenticator.seat_key}"

    def _home(self, name: str) -> str:
        """Where this seat is shown; empty where all are under every name."""
        return str(self.authenticator.seat_origin).format(user=name)

    def _is_at_home(self, user: User) -> bool:
        """Whether this is the host of his seat, or seats have none of their own."""
        home = self._home(user.name)
        return not home or self.request.host == urlsplit(home).netloc

    def _handed_over(self, word: str) -> User | None:
        """Who has logged in elsewhere and comes with this word, for the first time and to his own host."""
        now = time.time()
        for used in [used for used, expiry in self._used.items() if expiry < now]:
            del self._used[used]
        name = word.partition(".")[0]
        if word in self._used or not self._home(name) or not seat_pass.is_valid(self._key, word, name, now):
            return None
        self._used[word] = now + HAND_OVER
        user = self.find_user(name)
        return user if user and self._is_at_home(user) else None

    def _leads_home(self, user: User) -> bool:
        """Whether the page after the login is one of his own seat, or of no seat."""
        seat = _SEAT.match(self.get_argument("next", default=""))
        return seat is None or seat[1] == user.name


class SeatLogoutHandler(LogoutHandler):
    """Takes the pass back."""

    async def handle_logout(self) -> None:
        """Part of JupyterHub's logout, whether there was a login or not."""
        self.clear_cookie(seat_pass.COOKIE, path="/")
