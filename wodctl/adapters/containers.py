"""Containers that the worker starts for a while: the engine's API, as far as the gate lets it through.

Protocol: https://docs.docker.com/reference/api/engine/version/v1.45/, sections Container.
"""

import http.client
import json
import socket
import struct
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from wodctl.errors import ActionFailed, Unavailable

SOCKET = Path("/run/gate/docker.sock")

CALL_TIMEOUT = 30.0
"""Seconds for the engine's answer to a call that waits for nothing."""

_LINES, _BYTES = 200, 64 * 1024
"""How much of a container's output is asked for and read: its end."""


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
    """The containers that the gate lets us have. Methods raise Unavailable while gate or engine are away."""

    def __init__(self, path: Path = SOCKET) -> None:
        self._path = path

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

    def _expect(
        self, method: str, target: str, expected: tuple[int, ...], document: Mapping[str, Any] | None = None
    ) -> None:
        status, body = self._call(method, target, document)
        if status not in expected:
            try:
                message = json.loads(body)["message"]
            except (ValueError, KeyError, TypeError):
                message = body.decode(errors="replace")
            raise ActionFailed(f"The engine refuses {method} {target}: {message} (status {status}).")

    def _call(
        self,
        method: str,
        target: str,
        document: Mapping[str, Any] | None = None,
        *,
        timeout: float = CALL_TIMEOUT,
    ) -> tuple[int, bytes]:
        connection = _Connection(self._path, timeout)
        try:
            connection.request(
                method,
                target,
                body=None if document is None else json.dumps(document),
                headers={"Connection": "close"},
            )
            answer = connection.getresponse()
            status, body = answer.status, answer.read()
        except (OSError, http.client.HTTPException) as error:
            raise Unavailable(
                f"The gate does not answer: {error}.", hint="`wodctl status` shows the services."
            ) from None
        finally:
            connection.close()
        if status in (502, 503, 504):
            raise Unavailable(
                f"The engine cannot do {method} {target}: {body.decode(errors='replace')[:300]}"
            )
        return status, body


def _unframed(raw: bytes) -> bytes:
    """What a container wrote, without the frames of the engine: stream, three zeros, length, so many bytes."""
    pieces, at = [], 0
    while at + 8 <= len(raw):
        (length,) = struct.unpack(">I", raw[at + 4 : at + 8])
        pieces.append(raw[at + 8 : at + 8 + length])
        at += 8 + length
    return b"".join(pieces)
