"""Login and logout with the seat's pass, without which the doorman lets no browser through to a seat."""

import re
import time

from jupyterhub.handlers.login import LoginHandler, LogoutHandler
from jupyterhub.user import User

from wodctl.model import seat_pass

DAY = 86400.0
_SEAT = re.compile(r"/user/([^/?#]+)")


class SeatLoginHandler(LoginHandler):
    """Hands out the pass of the seat. Whoever asks for another's seat is asked to log in as its participant."""

    async def get(self) -> None:
        """The login form, also for those who are logged in as somebody else than the page asks for."""
        if self.current_user and not self._leads_home(self.current_user):
            self.finish(await self._render(username=""))
        else:
            await super().get()

    def get_next_url(self, user: User | None = None, default: str | None = None) -> str:
        """The page that was asked for, or his own seat for him who logged in as somebody else."""
        if user and not self._leads_home(user):
            self.request.arguments.pop("next", None)
        return super().get_next_url(user, default)

    def set_login_cookie(self, user: User) -> None:
        """The hub's cookies, and the pass in place of that of any other seat."""
        super().set_login_cookie(user)
        expiry = time.time() + self.authenticator.login_days * DAY
        word = seat_pass.issue(self.authenticator.seat_key, user.name, expiry)
        self._set_cookie(seat_pass.COOKIE, word, encrypted=False, path="/", samesite="Lax")

    def _leads_home(self, user: User) -> bool:
        """Whether the page after the login is one of his own seat, or of no seat."""
        seat = _SEAT.match(self.get_argument("next", default=""))
        return seat is None or seat[1] == user.name


class SeatLogoutHandler(LogoutHandler):
    """Takes the pass back."""

    async def handle_logout(self) -> None:
        """Part of JupyterHub's logout, whether there was a login or not."""
        self.clear_cookie(seat_pass.COOKIE, path="/")
