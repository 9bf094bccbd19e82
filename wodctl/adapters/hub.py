"""JupyterHub's REST API, and the proxy in front of the students' servers.

Protocol: https://jupyterhub.readthedocs.io/en/stable/reference/rest-api.html
"""

import http.client
import json
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from wodctl.adapters.labs import PLAIN
from wodctl.errors import ActionFailed, Unavailable
from wodctl.model import seat_pass

HUB_API = "http://hub:8081/hub/api"
PROXY = "http://proxy:8001"

CALL_TIMEOUT = 30.0
"""Seconds for the hub's answer to a call that starts or stops nothing."""

SERVER_TIMEOUT = 300.0
"""Seconds until a server has started or stopped: others may be before it, a few at a time."""

ANSWER_TIMEOUT = 30.0
"""Seconds from the hub's word that a server is up until the proxy passes its answer on."""

_AWAY = {403, 429, 502, 503, 504}
"""Answers of a hub that starts, stops, has too much to do, or has lost its database and with it what it knew of our
token."""


_LONGEST_ANSWER = 1024 * 1024
"""Bytes that are read of what a seat's server says: the participant may have put another in its place."""


@dataclass(frozen=True)
class Kernel:
    """A kernel as a seat's server tells of it, which is as true as its participant is honest."""

    id: str
    busy: bool
    connections: int


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A seat leads us nowhere else."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


class Hub:
    """Servers and login sessions of the students, by user name. Raises Unavailable if the hub is away."""

    def __init__(self, token: str, seat_key: str, *, api: str = HUB_API, proxy: str = PROXY) -> None:
        self._token = token
        self._seat_key = seat_key
        self._api = api
        self._proxy = proxy
        # Whatever proxies the site has for the internet, these two are next door.
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        self._seat_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), _NoRedirect())

    def ensure_absent(self, user: str) -> None:
        """The user has no server and no login session or token, and the hub does not know him."""
        self.ensure_stopped(user)
        status, message = self._call("DELETE", f"/users/{user}", timeout=SERVER_TIMEOUT)
        if status not in (204, 404):
            raise ActionFailed(f"The hub did not forget {user}: {message} (status {status}).")

    def ensure_stopped(self, user: str) -> None:
        """The user has no server; he may start another by visiting the hub."""
        end = time.monotonic() + SERVER_TIMEOUT
        while True:
            status, message = self._call("DELETE", f"/users/{user}/server", timeout=SERVER_TIMEOUT)
            if status in (204, 404):
                return
            if status not in (202, 400) or time.monotonic() > end:
                raise ActionFailed(f"The server of {user} did not stop: {message} (status {status}).")
            time.sleep(0.2)

    def start_server(self, user: str, lab: str) -> None:
        """Make the user known to the hub and start his server in that lab; returns when the hub finds it to answer."""
        status, message = self._call("POST", f"/users/{user}", timeout=CALL_TIMEOUT)
        if status not in (201, 409):
            raise ActionFailed(f"The hub did not take {user} as a user: {message} (status {status}).")
        if lab != PLAIN:
            self._put_into(user, lab)
        status, message = self._call("POST", f"/users/{user}/server", timeout=SERVER_TIMEOUT)
        if status == 202:
            self._wait_for_start(user)
        elif status != 201:
            raise ActionFailed(f"The server of {user} did not start: {message} (status {status}).")

    def _put_into(self, user: str, lab: str) -> None:
        """The user is in the group of that lab, by which the hub knows its image; he leaves it when he is forgotten."""
        group = f"/groups/lab-{lab}"
        status, message = self._call("POST", group, timeout=CALL_TIMEOUT)
        if status in (201, 409):
            status, message = self._call("POST", f"{group}/users", {"users": [user]}, timeout=CALL_TIMEOUT)
        if status != 200:
            raise ActionFailed(f"The hub did not put {user} into the lab {lab}: {message} (status {status}).")

    def _wait_for_start(self, user: str) -> None:
        end = time.monotonic() + SERVER_TIMEOUT
        while time.monotonic() < end:
            time.sleep(0.2)
            status, body = self._call("GET", f"/users/{user}", timeout=CALL_TIMEOUT)
            server = json.loads(body).get("servers", {}).get("") if status == 200 else None
            if server is None:
                raise ActionFailed(f"The server of {user} did not start.", hint="`wodctl logs hub` says why.")
            if server["ready"]:
                return
        raise ActionFailed(f"The server of {user} did not start within {SERVER_TIMEOUT:.0f} s.")

    def wait_for_answer(self, user: str) -> None:
        """Return once the user's server answers where a browser would ask, through the proxy."""
        end = time.monotonic() + ANSWER_TIMEOUT
        word = seat_pass.issue(self._seat_key, user, time.time() + 2 * ANSWER_TIMEOUT)
        request = urllib.request.Request(  # noqa: S310 - always the address above
            f"{self._proxy}/user/{user}/api", headers={"Cookie": f"{seat_pass.COOKIE}={word}"}
        )
        while True:
            try:
                with self._opener.open(request, timeout=5) as answer:
                    if answer.status == 200:
                        return
                    found = f"status {answer.status}"
            except (OSError, http.client.HTTPException) as error:
                found = str(error)
            if time.monotonic() > end:
                raise ActionFailed(
                    f"The server of {user} started, but does not answer through the proxy: {found}."
                )
            time.sleep(0.05)

    def users(self) -> dict[str, datetime | None]:
        """All users that the hub knows: the last activity of each one's server, None where none is ready."""
        found: dict[str, datetime | None] = {}
        while True:
            status, body = self._call("GET", f"/users?limit=200&offset={len(found)}", timeout=CALL_TIMEOUT)
            if status != 200:
                raise ActionFailed(f"The hub does not list its users: {body} (status {status}).")
            page = json.loads(body)
            for user in page:
                server = user.get("servers", {}).get("") or {}
                active = server.get("last_activity") if server.get("ready") else None
                found[user["name"]] = (
                    datetime.fromisoformat(active.replace("Z", "+00:00")) if active else None
                )
            if len(page) < 200:
                return found

    def kernels(self, user: str) -> list[Kernel]:
        """The kernels of a user's server. Raises ActionFailed where it gives no sensible answer."""
        status, body = self._ask_seat(user, "GET", "kernels")
        try:
            if status == 200:
                return [
                    Kernel(str(one["id"]), one["execution_state"] == "busy", int(one["connections"]))
                    for one in json.loads(body)
                ]
        except (ValueError, KeyError, TypeError):
            pass
        raise ActionFailed(f"The server of {user} does not tell its kernels (status {status}).")

    def end_kernel(self, user: str, kernel: Kernel) -> None:
        """End a kernel; where its notebook is open, a fresh one takes its place. Raises ActionFailed."""
        if kernel.connections > 0:
            status, _ = self._ask_seat(user, "POST", f"kernels/{kernel.id}/restart")
        else:
            status, _ = self._ask_seat(user, "DELETE", f"kernels/{kernel.id}")
        if status not in (200, 204, 404):
            raise ActionFailed(f"The server of {user} did not end a kernel (status {status}).")

    def _ask_seat(self, user: str, method: str, path: str) -> tuple[int, bytes]:
        """Ask a seat's server with a token that opens this seat alone: never with ours, which it could keep."""
        status, body = self._call(
            "POST",
            f"/users/{user}/tokens",
            {"note": "watchdog", "expires_in": 60, "scopes": [f"access:servers!server={user}/"]},
            timeout=CALL_TIMEOUT,
        )
        if status != 201:
            raise ActionFailed(f"The hub gives no token for {user}: {body} (status {status}).")
        word = seat_pass.issue(self._seat_key, user, time.time() + 60)
        request = urllib.request.Request(  # noqa: S310 - always one of the two addresses above
            f"{self._proxy}/user/{user}/api/{path}",
            method=method,
            data=b"{}" if method == "POST" else None,
            headers={
                "Authorization": f"token {json.loads(body)['token']}",
                "Cookie": f"{seat_pass.COOKIE}={word}",
                "Content-Type": "application/json",
            },
        )
        try:
            with self._seat_opener.open(request, timeout=10) as answer:
                return answer.status, answer.read(_LONGEST_ANSWER)
        except urllib.error.HTTPError as error:
            return error.code, b""
        except (OSError, http.client.HTTPException) as error:
            raise ActionFailed(f"The server of {user} does not answer: {error}.") from None

    def _call(
        self, method: str, path: str, document: Mapping[str, Any] | None = None, *, timeout: float
    ) -> tuple[int, str]:
        """The answer's status, and its body or the hub's message."""
        request = urllib.request.Request(  # noqa: S310 - always one of the two addresses above
            self._api + path,
            method=method,
            data=json.dumps(document or {}).encode() if method == "POST" else None,
            headers={"Authorization": f"token {self._token}", "Content-Type": "application/json"},
        )
        try:
            with self._opener.open(request, timeout=timeout) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            message = _message(error)
            # A server that did not start is a 500 as well, but with the reason in its own words.
            if error.code in _AWAY or (error.code, message) == (500, "Internal Server Error"):
                raise Unavailable(f"The hub has no time for us: {message} (status {error.code}).") from None
            return error.code, message
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "reason", error)
            raise Unavailable(
                f"The hub does not answer: {reason}.", hint="`wodctl status` shows the services."
            ) from None


def _message(error: urllib.error.HTTPError) -> str:
    """What the hub says in its JSON body {"status", "message"}, else the status line's words."""
    try:
        body: Any = json.loads(error.read())
        return str(body["message"])
    except (OSError, ValueError, KeyError, TypeError, http.client.HTTPException):
        return error.reason
