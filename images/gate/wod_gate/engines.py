"""The ways to an engine: the socket of this host's own, and another host's by TLS or through ssh."""

import asyncio
import ssl
from pathlib import Path
from typing import Protocol

from wodctl.model.docker_host import DockerHost

PIECE = 64 * 1024
"""Bytes that are read at once."""

PATIENCE = 10.0
"""Seconds until a host that does not answer is away."""

PAUSE = 2.0
"""Seconds until a way that broke down is tried again."""

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class EngineProblem(Exception):
    """The engine does not answer, or not in a way that we understand."""


class EngineGone(EngineProblem):
    """Nobody listens at the engine's socket any more, and no new one will ever be seen there."""


class Engine(Protocol):
    """An engine that can be called."""

    async def call(self) -> Streams:
        """A fresh connection. Raises EngineProblem."""


class Local:
    """The engine of this host: one that starts anew makes a new socket, which a container sees after a restart only."""

    def __init__(self, socket: Path) -> None:
        self._socket = socket

    async def call(self) -> Streams:
        """A fresh connection. Raises EngineProblem, EngineGone when there can be none any more."""
        try:
            return await asyncio.open_unix_connection(str(self._socket), limit=PIECE)
        except (ConnectionRefusedError, FileNotFoundError) as problem:
            raise EngineGone(f"nobody listens at {self._socket}: {problem.strerror}") from problem
        except OSError as problem:
            raise EngineProblem(f"its socket cannot be used: {problem.strerror}") from problem


class Tls:
    """Another host's engine by TLS, each side with a certificate of the site's own authority.

    The files in `folder` are read for each connection, so that new ones need no restart.
    """

    def __init__(self, host: DockerHost, folder: Path) -> None:
        self._host = host
        self._folder = folder

    async def call(self) -> Streams:
        """A fresh connection. Raises EngineProblem."""
        try:
            context = ssl.create_default_context(cafile=str(self._folder / "ca.pem"))
            context.load_cert_chain(self._folder / "cert.pem", self._folder / "key.pem")
            async with asyncio.timeout(PATIENCE):
                return await asyncio.open_connection(
                    self._host.name, self._host.port, ssl=context, limit=PIECE
                )
        except TimeoutError as problem:
            raise EngineProblem(f"no answer within {PATIENCE:.0f} s") from problem
        except OSError as problem:  # ssl.SSLError is one, too
            raise EngineProblem(f"{problem.strerror or problem}") from problem


class Tunnelled:
    """Another host's engine through ssh: one ssh at a time keeps a socket that leads there."""

    def __init__(self, host: DockerHost, folder: Path, socket: Path) -> None:
        self._words = host.tunnel(folder, socket)
        self._socket = socket
        self._said = "ssh has not connected yet"

    async def keep(self) -> None:
        """Keep the tunnel, for ever."""
        while True:
            ssh = await asyncio.create_subprocess_exec(
                *self._words, stdin=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE
            )
            try:
                async for line in ssh.stderr or ():
                    self._said = line.decode(errors="replace").strip()[-200:]
                await ssh.wait()
            finally:
                if ssh.returncode is None:
                    ssh.kill()
            # One that is not served any more would be mistaken for an engine that refuses.
            self._socket.unlink(missing_ok=True)
            await asyncio.sleep(PAUSE)

    async def call(self) -> Streams:
        """A fresh connection. Raises EngineProblem with what ssh said last."""
        try:
            return await asyncio.open_unix_connection(str(self._socket), limit=PIECE)
        except OSError as problem:
            raise EngineProblem(self._said) from problem
