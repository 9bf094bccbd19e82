"""The REST API of a portal's registration database (wod-api-db), as a client that may change seats and customers.

Protocol: POST /login {username, password} gives an accessToken, which lasts three minutes and goes into the
header x-access-token; 401 tells that it has expired. PUT /student/<id>, /customer/<id>, /workshop/<id> take
the columns to change. GET /workshops lists all workshops, with the folder's name as `notebook`.
"""

import http.client
import json
import ssl
import threading
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from wodctl.errors import ActionFailed, Unavailable
from wodctl.model.registration import Update

TIMEOUT = 10.0
"""Seconds for an answer. Nobody waits for it: what cannot be told now is told later."""

_MAY_PASS = {401, 403, 404, 408, 425, 429}
"""Answers that say nothing of the update itself: the account, an unfinished set-up, too much to do."""

_LARGEST_ANSWER = 20 * 2**20


class Registration:
    """A registration database at `api`, such as https://portal.example.net:8021/api.

    `location` is this backend's name there. Methods raise Unavailable where another attempt may succeed.
    """

    def __init__(self, api: str, user: str, password: str, location: str, trust: ssl.SSLContext) -> None:
        self._api = api
        self._account = {"username": user, "password": password}
        self._location = location
        self._token: str | None = None
        self._one_login = threading.Lock()
        handlers = [urllib.request.HTTPSHandler(context=trust), _StayThere()]
        self._opener = urllib.request.build_opener(*handlers)

    def workshop(self, name: str) -> Mapping[str, Any] | None:
        """The row of that workshop or challenge, ours where backends share the name; None without any."""
        rows = self._ask("GET", "/workshops")
        if not isinstance(rows, list):
            raise Unavailable(f"{self._api}/workshops gave no list of workshops.")
        named = [row for row in rows if isinstance(row, dict) and row.get("notebook") == name]
        ours = [row for row in named if row.get("location") == self._location]
        return next(iter(ours or named), None)

    def token(self) -> str:
        """A fresh token for a script of the site: it lasts three minutes."""
        with self._one_login:
            return self._log_in()

    def deliver(self, update: Update) -> None:
        """Change the row. Raises ActionFailed if the database refuses these values or has no such row."""
        key = update.key
        if update.kind == "workshop":
            row = self.workshop(key)
            if row is None:
                raise ActionFailed(f"The registration database has no workshop {key}.")
            key = str(row["id"])
        self._ask("PUT", f"/{update.kind}/{key}", update.body)

    def _ask(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """The answer to a call; logged in anew, once, if the token has expired."""
        token = self._token_after(None)
        try:
            return self._call(method, path, body, token)
        except _Expired:
            token = self._token_after(token)
        try:
            return self._call(method, path, body, token)
        except _Expired:
            raise Unavailable(f"{self._api} does not accept the token that it has just given us.") from None

    def _token_after(self, expired: str | None) -> str:
        """A token other than the expired one: of several seats' jobs that need one at once, one logs in."""
        with self._one_login:
            if self._token is None or self._token == expired:
                return self._log_in()
            return self._token

    def _log_in(self) -> str:
        try:
            answer = self._call("POST", "/login", self._account, None)
        except _Expired:
            answer = {}
        except ActionFailed as error:
            raise Unavailable(f"The login as {self._account['username']} failed: {error.message}") from None
        token = answer.get("accessToken") if isinstance(answer, dict) else None
        if not isinstance(token, str) or not token.isascii() or not token.isprintable():
            raise Unavailable(
                f"{self._api} refuses the login as {self._account['username']}.",
                hint="Correct WODAPIDBUSER, or the password in secrets/worker/api-password; that of an API on this "
                "host is made anew by `wodctl up` once secrets/api-db/moderator-password is removed.",
            )
        self._token = token
        return token

    def _call(self, method: str, path: str, body: Mapping[str, Any] | None, token: str | None) -> Any:
        request = urllib.request.Request(  # noqa: S310 - WODAPIDBEXTPROTO is http or https
            self._api + path,
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Content-Type": "application/json"} | ({"x-access-token": token} if token else {}),
        )
        try:
            with self._opener.open(request, timeout=TIMEOUT) as answer:
                return json.loads(answer.read(_LARGEST_ANSWER))
        except urllib.error.HTTPError as error:
            if error.code == 401:
                raise _Expired from None
            said = f"{method} {self._api}{path} was answered with status {error.code}."
            if error.code >= 500 or error.code < 400 or error.code in _MAY_PASS:
                raise Unavailable(said) from None
            raise ActionFailed(said) from None
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "reason", error)
            raise Unavailable(f"The registration database {self._api} does not answer: {reason}.") from None
        except ValueError:
            raise Unavailable(f"{method} {self._api}{path} was not answered with JSON.") from None


class _Expired(Exception):
    """The token is not, or no longer, accepted."""


class _StayThere(urllib.request.HTTPRedirectHandler):
    """Follow no redirection: what we say holds passwords and is for this address only."""

    def redirect_request(self, *_: Any) -> None:
        return None


def trust(authorities: Path, *, any_certificate: bool) -> ssl.SSLContext:
    """Whom to believe: servers that these authorities vouch for or, if so told, any at all."""
    context = ssl.create_default_context(cafile=authorities if authorities.is_file() else None)
    if any_certificate:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
