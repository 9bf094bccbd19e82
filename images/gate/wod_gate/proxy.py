"""Between clients and engine: reads a call, has it judged, carries it out and hands the answer back."""

import asyncio
import json
import os
import socket
import struct
import sys
import time
from collections.abc import AsyncIterator, Coroutine, Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any

import h11

from wod_gate.engines import PIECE, Engine, EngineGone, EngineProblem
from wod_gate.policy import Policy, Refused

HEAD_LIMIT = 16 * 1024
"""Bytes of the head of a request or an answer."""

BACKLOG = 1024
"""Connections that may wait to be accepted: beyond that clients are not told to wait but fail."""

KNOWN_CONTAINERS = 4096
"""Containers whose kind is remembered."""


class _ClientGone(Exception):
    """There is nobody any more who could be answered."""


class Gate:
    """Serves each client of the policy on a socket of its own, and speaks with the engine for it."""

    def __init__(self, policy: Policy, sockets: Mapping[str, Path], engine: Engine) -> None:
        self._policy = policy
        self._sockets = sockets
        self._engine = engine
        self._known: set[tuple[str, str]] = set()
        self._engine_gone: asyncio.Future[EngineGone] = asyncio.Future()

    async def serve(self) -> None:
        """Serve until the engine is gone for good, then raise EngineGone."""
        for client, path in self._sockets.items():
            listening = listening_socket(path)
            serve = _Client(self, client).serve
            await asyncio.start_unix_server(serve, sock=listening, limit=PIECE, backlog=BACKLOG)
        log("ready", clients=sorted(self._policy.uids))
        gone = await self._engine_gone
        await asyncio.sleep(0.2)  # For those who are just being told.
        raise gone

    def admits(self, client: str, uid: int) -> bool:
        """Whether processes of this user may use the client's socket; our own health check may."""
        return uid in (self._policy.uids[client], os.geteuid())

    @property
    def body_limit(self) -> int:
        """Bytes of a request's body that are accepted."""
        return self._policy.body_limit

    async def carry_out(self, client: str, request: h11.Request, body: bytes) -> "EngineAnswer":
        """The engine's answer to a client's request. Raises Refused or EngineProblem."""
        headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in request.headers]
        call = self._policy.check(client, _text(request.method), _text(request.target), headers, body)
        container = call.container
        if container is not None and call.kind is not None and (call.kind, container) not in self._known:
            answer = await self._ask("GET", f"/containers/{container}/json")
            if answer.status != 200:
                return answer
            # From here on it is this one, whatever the name may stand for in the next moment.
            container = self._checked(json.loads(await answer.body()), call.kind)
        return await self._ask(call.method, call.target(container), call.body)

    def _checked(self, inspected: dict[str, Any], kind: str) -> str:
        """Id of a container that is of this kind."""
        self._policy.check_container(inspected, kind)
        if len(self._known) >= KNOWN_CONTAINERS:
            self._known.clear()
        self._known.add((kind, inspected["Id"]))
        return str(inspected["Id"])

    async def _ask(self, method: str, target: str, body: bytes = b"") -> "EngineAnswer":
        try:
            reader, writer = await self._engine.call()
        except EngineGone as gone:
            if not self._engine_gone.done():
                self._engine_gone.set_result(gone)
            raise
        answer = EngineAnswer(reader, writer)
        try:
            await answer.ask(method, target, body)
        except (OSError, h11.RemoteProtocolError) as problem:
            answer.close()
            raise EngineProblem(f"it did not answer: {problem}") from problem
        except asyncio.CancelledError:
            answer.close()
            raise
        return answer


class EngineAnswer:
    """One call to the engine on a connection of its own, and what is answered."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._http = h11.Connection(h11.CLIENT, max_incomplete_event_size=HEAD_LIMIT)
        self._reader = reader
        self._writer = writer
        self.status = 0
        self.reason = b""
        self.headers: list[tuple[bytes, bytes]] = []

    async def ask(self, method: str, target: str, body: bytes) -> None:
        """Send the call, and read the head of the answer."""
        headers = [("Host", "engine"), ("Connection", "close"), ("Content-Length", str(len(body)))]
        if body:
            headers.append(("Content-Type", "application/json"))
        parts = (
            h11.Request(method=method, target=target, headers=headers),
            h11.Data(data=body),
            h11.EndOfMessage(),
        )
        self._writer.write(b"".join(self._http.send(part) or b"" for part in parts))
        head = await _next_event(self._http, self._reader)
        if not isinstance(head, h11.Response):
            raise h11.RemoteProtocolError("no response")
        self.status = head.status_code
        self.reason = head.reason
        self.headers = [pair for pair in head.headers if pair[0] in (b"content-type", b"content-length")]

    async def pieces(self) -> AsyncIterator[bytes]:
        """The body, piece by piece as it comes."""
        while isinstance(event := await _next_event(self._http, self._reader), h11.Data):
            yield bytes(event.data)

    async def body(self) -> bytes:
        """The whole body; this ends the connection."""
        try:
            return b"".join([piece async for piece in self.pieces()])
        finally:
            self.close()

    def close(self) -> None:
        """End the connection."""
        self._writer.close()


class _Client:
    """What is said on the connections of one client."""

    def __init__(self, gate: Gate, name: str) -> None:
        self._gate = gate
        self._name = name

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the requests of one connection, one after the other."""
        uid = _peer_uid(writer)
        http = h11.Connection(h11.SERVER, max_incomplete_event_size=HEAD_LIMIT)
        try:
            if not self._gate.admits(self._name, uid):
                log("refused", client=self._name, reason=f"user {uid} may not use this socket")
                return
            while await self._serve_request(http, reader, writer):
                http.start_next_cycle()
        except (OSError, _ClientGone):
            pass  # Nobody else is concerned.
        finally:
            writer.close()

    async def _serve_request(
        self, http: h11.Connection, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        """Answer the next request; False when there can be no other on this connection."""
        method = target = ""
        try:
            request = await _next_event(http, reader)
            if not isinstance(request, h11.Request):
                return False
            method, target = _text(request.method), _text(request.target)
            if request.http_version not in (b"1.0", b"1.1"):
                raise Refused("this version of HTTP is not spoken here")
            body = await self._body(http, reader)
            await _unless_gone(http, reader, self._answer(http, writer, request, body))
        except Refused as refusal:
            log("refused", client=self._name, method=method, path=target[:256], reason=str(refusal))
            await _say(http, writer, 403, f"The gate refuses this: {refusal}.")
        except h11.RemoteProtocolError as problem:
            log("refused", client=self._name, method=method, path=target[:256], reason=str(problem))
            await _say(http, writer, 400, "The gate cannot read this request.")
        except EngineProblem as problem:
            log("failed", client=self._name, method=method, path=target[:256], reason=str(problem))
            await _say(http, writer, 502, f"The gate has no answer of the Docker Engine: {problem}.")
        return http.our_state is h11.DONE and http.their_state is h11.DONE

    async def _body(self, http: h11.Connection, reader: asyncio.StreamReader) -> bytes:
        body = bytearray()
        while isinstance(event := await _next_event(http, reader), h11.Data):
            body += event.data
            if len(body) > self._gate.body_limit:
                raise Refused("the body is too long")
        return bytes(body)

    async def _answer(
        self, http: h11.Connection, writer: asyncio.StreamWriter, request: h11.Request, body: bytes
    ) -> None:
        """Have the request carried out, and hand the answer back as it comes."""
        answer = await self._gate.carry_out(self._name, request, body)
        try:
            head = h11.Response(status_code=answer.status, headers=answer.headers, reason=answer.reason)
            await _send(http, writer, head)
            async for piece in answer.pieces():
                await _send(http, writer, h11.Data(data=piece))
            await _send(http, writer, h11.EndOfMessage())
        except h11.RemoteProtocolError as problem:
            raise EngineProblem(f"it stopped in the middle: {problem}") from problem
        finally:
            answer.close()


def listening_socket(path: Path) -> socket.socket:
    """A socket at `path` for its owner and group; what was there before is replaced in one step."""
    fresh = path.with_name(".docker.sock")
    fresh.unlink(missing_ok=True)
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listening.bind(str(fresh))
    fresh.chmod(0o660)
    listening.listen(BACKLOG)
    fresh.rename(path)
    return listening


def log(event: str, **fields: object) -> None:
    """Write one line about what happened."""
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    print(json.dumps({"time": now, "event": event} | fields), file=sys.stderr, flush=True)


async def _unless_gone(
    http: h11.Connection, reader: asyncio.StreamReader, work: Coroutine[Any, Any, None]
) -> None:
    """Do the work, but leave it where it is when the client goes away meanwhile."""
    doing = asyncio.ensure_future(work)
    hearing = asyncio.ensure_future(reader.read(PIECE))
    try:
        await asyncio.wait({doing, hearing}, return_when=asyncio.FIRST_COMPLETED)
        if not doing.done() and not hearing.result():
            raise _ClientGone
        await doing
    finally:
        doing.cancel()
        hearing.cancel()
        done = await asyncio.gather(hearing, doing, return_exceptions=True)
        if isinstance(done[0], bytes) and done[0]:
            http.receive_data(done[0])  # The next request, which had to wait for its turn.


async def _say(http: h11.Connection, writer: asyncio.StreamWriter, status: int, message: str) -> None:
    """Answer with a message in the engine's form, if nothing was answered yet."""
    if http.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
        raise _ClientGone
    body = json.dumps({"message": message}).encode()
    headers = [("Content-Type", "application/json"), ("Content-Length", str(len(body)))]
    head = h11.Response(status_code=status, headers=headers, reason=HTTPStatus(status).phrase)
    for part in (head, h11.Data(data=body), h11.EndOfMessage()):
        await _send(http, writer, part)


async def _send(http: h11.Connection, writer: asyncio.StreamWriter, event: h11.Event) -> None:
    if data := http.send(event):
        writer.write(data)
        await writer.drain()


async def _next_event(http: h11.Connection, reader: asyncio.StreamReader) -> h11.Event | type[h11.PAUSED]:
    while (event := http.next_event()) is h11.NEED_DATA:
        http.receive_data(await reader.read(PIECE))
    return event


def _peer_uid(writer: asyncio.StreamWriter) -> int:
    """User of the process that connected, as the kernel knows it."""
    credentials = writer.get_extra_info("socket").getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    _, uid, _ = struct.unpack("3i", credentials)
    return int(uid)


def _text(raw: bytes) -> str:
    return raw.decode("latin-1")
