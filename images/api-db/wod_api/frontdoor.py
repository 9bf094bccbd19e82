"""What happens to each request before it is understood: its size, and the form in which some clients send it."""

import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import parse_qsl

LARGEST = 256 * 1024
"""Bytes of the largest body that anybody needs."""

MOST_FIELDS = 100
"""Of a form; one that has more is read as empty."""

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class FrontDoor:
    """Refuses bodies that are too large (413) before they are read whole; hands forms on as JSON."""

    def __init__(self, app: Callable[[Scope, Receive, Send], Awaitable[None]]) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = {name.lower(): value for name, value in scope["headers"]}
        length = headers.get(b"content-length", b"0")
        if not length.isdigit() or int(length) > LARGEST:
            await _say(send, 413)
            return
        body = b""
        if int(length) or b"transfer-encoding" in headers:
            while True:
                message = await receive()
                if message["type"] != "http.request":
                    return
                body += message.get("body", b"")
                if len(body) > LARGEST:
                    await _say(send, 413)
                    return
                if not message.get("more_body"):
                    break
        if scope["path"].startswith("/api/") and headers.get(b"content-type", b"").startswith(
            b"application/x-www-form-urlencoded"
        ):
            few = body.count(b"&") < MOST_FIELDS
            pairs = parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True) if few else []
            body = json.dumps(dict(pairs)).encode()
            others = [
                pair
                for pair in scope["headers"]
                if pair[0].lower() not in (b"content-type", b"content-length")
            ]
            scope = {**scope, "headers": [*others, (b"content-type", b"application/json"),
                                          (b"content-length", str(len(body)).encode())]}  # fmt: skip
        given = False

        async def again() -> MutableMapping[str, Any]:
            nonlocal given
            if given:
                return await receive()
            given = True
            return {"type": "http.request", "body": body, "more_body": False}

        await self._app(scope, again, send)


async def _say(send: Send, status: int) -> None:
    content = b'{"error":"The body is too large."}'
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(content)).encode()),
               (b"connection", b"close")]  # fmt: skip
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": content})
