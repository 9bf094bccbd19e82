"""Who may pass to a seat: the browser that has logged in as the seat's participant.

Traefik's forwardAuth asks `GET /student3` for each request that it routes to the server of student3, with the
headers Accept, Cookie and Sec-Fetch-Mode of that request and its address in X-Forwarded-Method and -Uri. The seat is
told by the route that Traefik took and not read from the participant's address, so that there are no two readings of
an address (encoded, doubled slashes, dots) to play against each other. The answers: 200 and the cookies without the
pass, for the seat's server; a redirection to the login for pages; 403 for what a page loads.

Where the server of a seat, its appliance's page or the hub does not answer, Traefik asks `GET /away/seat` (`appliance`,
`hub`) and shows the participant that page in place of its own bare line.

Protocol: https://doc.traefik.io/traefik/reference/routing-configuration/http/middlewares/forwardauth/
"""

import asyncio
import time
from http import HTTPStatus
from urllib.parse import quote

from wodctl.model import seat_pass

HEAD_LIMIT = 64 * 1024
"""Bytes of the head of a question; it has no body."""

Headers = dict[str, str]
"""By name in small letters; cookies of several lines in one."""


class Unreadable(Exception):
    """This is no question of Traefik's."""


def judge(key: str, target: str, headers: Headers, now: float) -> tuple[HTTPStatus, Headers]:
    """Status and headers of the answer to the question for `target`, that is `/` and a seat's user name."""
    if target == "/health":
        return HTTPStatus.OK, {}
    user = target[1:]
    cookies = [cookie.strip() for cookie in headers.get("cookie", "").split(";")]
    passes = [cookie for cookie in cookies if cookie.partition("=")[0].strip() == seat_pass.COOKIE]
    # Two of them: somebody has laid one beside the hub's.
    if len(passes) == 1 and seat_pass.is_valid(key, passes[0].partition("=")[2], user, now):
        others = "; ".join(cookie for cookie in cookies if cookie not in passes)
        return HTTPStatus.OK, {"Cookie": others} if others else {}
    if _is_page(headers):
        return HTTPStatus.FOUND, {"Location": f"/hub/login?next={quote(_page(user, headers), safe='')}"}
    return HTTPStatus.FORBIDDEN, {}


def _is_page(headers: Headers) -> bool:
    """Whether the browser would show the answer: it says so, or, where it came by plain HTTP, wants HTML."""
    if headers.get("x-forwarded-method") not in ("GET", "HEAD"):
        return False
    mode = headers.get("sec-fetch-mode")
    return mode == "navigate" if mode else "text/html" in headers.get("accept", "")


def _page(user: str, headers: Headers) -> str:
    """Where to go after the login: the page that was asked for, or the seat if its address is a strange one."""
    asked = headers.get("x-forwarded-uri", "")
    return asked if asked.startswith(f"/user/{user}/") else f"/user/{user}/"


class Door(asyncio.Protocol):
    """One connection of Traefik's: questions one after the other."""

    def __init__(self, key: str, pages: dict[str, bytes]) -> None:
        self._key = key
        self._pages = pages
        self._heard = b""
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Part of asyncio.Protocol."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Answer the questions that are complete; whoever does not speak like Traefik is sent away."""
        self._heard += data
        try:
            while (end := self._heard.find(b"\r\n\r\n")) >= 0:
                head, self._heard = self._heard[:end], self._heard[end + 4 :]
                target, headers = read(head)
                answer = self._pages.get(target)
                self._transport.write(answer or written(*judge(self._key, target, headers, time.time())))
            if len(self._heard) > HEAD_LIMIT:
                raise Unreadable
        except Unreadable:
            self._transport.write(written(HTTPStatus.BAD_REQUEST, {"Connection": "close"}))
            self._transport.close()


def read(head: bytes) -> tuple[str, Headers]:
    """Target and headers of a question without body. Raises Unreadable."""
    first, *lines = head.decode("latin-1").split("\r\n")
    method, _, rest = first.partition(" ")
    target, _, version = rest.partition(" ")
    if method != "GET" or version != "HTTP/1.1" or not target.startswith("/"):
        raise Unreadable
    headers: Headers = {}
    for line in lines:
        name, colon, text = line.partition(":")
        name, text = name.lower(), text.strip()
        if not colon or not name or name != name.strip() or name in ("content-length", "transfer-encoding"):
            raise Unreadable
        headers[name] = f"{headers[name]}; {text}" if name in headers else text
    return target, headers


def written(status: HTTPStatus, headers: Headers, body: bytes = b"") -> bytes:
    """An answer as it goes over the wire."""
    lines = [
        f"HTTP/1.1 {status.value} {status.phrase}",
        f"Content-Length: {len(body)}",
        "Cache-Control: no-store",
    ]
    lines += [f"{name}: {text}" for name, text in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


async def serve(key: str, pages: dict[str, bytes], port: int) -> None:
    """Answer on all addresses, for ever; `pages` are whole answers by target."""
    server = await asyncio.get_running_loop().create_server(lambda: Door(key, pages), "0.0.0.0", port)  # noqa: S104
    await server.serve_forever()
