"""Containers that the worker starts for a while: the engine's API, as far as the gate lets it through.

Protocol: https://docs.docker.com/reference/api/engine/version/v1.45/, sections Container.
"""

import http.client
import json
import socket
import struct
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from wodctl.errors import ActionFailed, Unavailable
from wodctl.model.watchdogs import Look, Process

SOCKET = Path("/run/gate/docker.sock")

CALL_TIMEOUT = 30.0
"""Seconds for the engine's answer to a call that waits for nothing."""

_LINES, _BYTES = 200, 64 * 1024
"""How much of a container's output is asked for and read: its end."""


_PS = "-eopid,ppid,etimes,cputimes,stat,args"
"""What is asked of a process: the fields of Process. The gate lets exactly this through."""


class _Connection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: Path, timeout: float) -> None:
        super().__init__("gate", timeout=timeout)
        self._path = str(path)

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class Containers:
    """The containers that the gate lets us have. Methods raise Unavailable while gate or engine are away.

    `host` is the name of another Docker host, where it is one; `connect` the way to it where that is no socket.
    """

    def __init__(
        self,
        path: Path = SOCKET,
        *,
        host: str = "",
        connect: Callable[[float], http.client.HTTPConnection] | None = None,
    ) -> None:
        self._connect = connect or partial(_Connection, path)
        self._host = host

    def create(self, name: str, document: Mapping[str, Any]) -> None:
        """Make a container that does not run yet. Raises ActionFailed if gate or engine refuse it."""
        self._expect("POST", "/containers/create", (201,), document, query={"name": name})

    def set_going(self, name: str) -> None:
        """Start a container that was made. Raises ActionFailed if the engine cannot."""
        self._expect("POST", f"/containers/{name}/start", (204, 304))

    def hand_over(self, name: str, folder: str, archive: bytes) -> None:
        """Unpack a tar archive into a folder of a container that does not run yet."""
        self._expect("PUT", f"/containers/{name}/archive", (200,), archive, query={"path": folder})

    def inspect(self, name: str) -> dict[str, Any] | None:
        """The engine's description of a container; None if there is none of that name."""
        status, body = self._call("GET", f"/containers/{name}/json")
        return dict(json.loads(body)) if status == 200 else None

    def stop(self, name: str, seconds: int) -> None:
        """Ask a container to end, and end it after so many seconds."""
        self._expect(
            "POST",
            f"/containers/{name}/stop",
            (204, 304, 404),
            timeout=CALL_TIMEOUT + seconds,
            query={"t": str(seconds)},
        )

    def read_out(self, name: str, path: str, limit: int) -> bytes:
        """A file or folder of a container as a tar archive, its first `limit` bytes; nothing if it is not there."""
        status, body = self._call("GET", f"/containers/{name}/archive", limit=limit, query={"path": path})
        return body if status == 200 else b""

    def start(self, name: str, document: Mapping[str, Any]) -> None:
        """Create a container of that name and start it; a former one of the same name is removed.

        `document` is the body of the engine's ContainerCreate. Raises ActionFailed if gate or engine refuse it.
        """
        self.ensure_absent(name)
        self._expect("POST", f"/containers/create?name={name}", (201,), document)
        self._expect("POST", f"/containers/{name}/start", (204,))

    def wait(self, name: str, seconds: float) -> int | None:
        """The exit status of a container, once it has ended; None if it still runs after so many seconds."""
        end = time.monotonic() + seconds
        try:
            _, body = self._call("POST", f"/containers/{name}/wait", timeout=max(1.0, seconds))
        except Unavailable:
            if time.monotonic() < end:
                raise
            return None
        return int(json.loads(body)["StatusCode"])

    def output(self, name: str) -> str:
        """The end of what a container has written, at most 64 KiB of it."""
        _, raw = self._call("GET", f"/containers/{name}/logs?stdout=True&stderr=True&tail={_LINES}")
        return _unframed(raw)[-_BYTES:].decode(errors="replace")

    def ensure_absent(self, name: str) -> None:
        """The container runs no more and is gone."""
        self._expect("DELETE", f"/containers/{name}?v=True&force=True", (204, 404))

    def identity(self, name: str) -> str | None:
        """The engine's id of the container that has this name at the moment; None if there is none."""
        status, body = self._call("GET", f"/containers/{name}/json")
        return str(json.loads(body)["Id"]) if status == 200 else None

    def look(self, name: str) -> Look | None:
        """What a container has used; None if it does not run."""
        status, body = self._call("GET", f"/containers/{name}/stats?stream=false&one-shot=true")
        figures = json.loads(body) if status == 200 else {}
        if not figures.get("pids_stats", {}).get("current"):
            return None
        used = figures["cpu_stats"]["cpu_usage"]["total_usage"] / 1e9
        return Look(at=time.monotonic(), used=used)

    def processes(self, name: str) -> list[Process]:
        """The processes of a container, as `ps` on the host tells them; none if it does not run."""
        status, body = self._call("GET", f"/containers/{name}/top?ps_args={_PS}")
        if status != 200:
            return []
        rows = json.loads(body)["Processes"] or []
        return [
            Process(int(pid), int(parent), int(age), int(used), state.startswith("R"), command)
            for pid, parent, age, used, state, command in rows
        ]

    def _expect(
        self,
        method: str,
        path: str,
        expected: tuple[int, ...],
        document: Mapping[str, Any] | bytes | None = None,
        timeout: float = CALL_TIMEOUT,
        query: Mapping[str, str] | None = None,
    ) -> None:
        status, body = self._call(method, path, document, timeout, query=query)
        if status not in expected:
            whose = f"The engine of {self._host}" if self._host else "The engine"
            raise ActionFailed(f"{whose} refuses {method} {path}: {_message(body)} (status {status}).")

    def _call(
        self,
        method: str,
        path: str,
        document: Mapping[str, Any] | bytes | None = None,
        timeout: float = CALL_TIMEOUT,
        limit: int | None = None,
        query: Mapping[str, str] | None = None,
    ) -> tuple[int, bytes]:
        connection = self._connect(timeout)
        kind = "application/x-tar" if isinstance(document, bytes) else "application/json"
        target = path + ("?" + urlencode(query, safe="/") if query else "")
        try:
            connection.request(
                method,
                target,
                body=document if isinstance(document, bytes | None) else json.dumps(document),
                headers={"Connection": "close", "Content-Type": kind},
            )
            answer = connection.getresponse()
            status, body = answer.status, answer.read(limit)
        except (OSError, http.client.HTTPException) as error:
            who = f"The way to the Docker host {self._host}" if self._host else "The gate"
            raise Unavailable(
                f"{who} does not answer: {error}.", hint="`wodctl status` shows the services."
            ) from None
        finally:
            connection.close()
        if status in (502, 503, 504):
            if self._host:
                raise Unavailable(f"The Docker host {self._host} is away: {_message(body)}")
            raise Unavailable(f"The engine cannot do {method} {path}: {body.decode(errors='replace')[:300]}")
        return status, body


def _message(body: bytes) -> str:
    """What gate or engine say is wrong."""
    try:
        return str(json.loads(body)["message"])
    except (ValueError, KeyError, TypeError):
        return body.decode(errors="replace")[:300]


def _unframed(raw: bytes) -> bytes:
    """What a container wrote, without the frames of the engine: stream, three zeros, length, so many bytes."""
    pieces, at = [], 0
    while at + 8 <= len(raw):
        (length,) = struct.unpack(">I", raw[at + 4 : at + 8])
        pieces.append(raw[at + 8 : at + 8 + length])
        at += 8 + length
    return b"".join(pieces)
