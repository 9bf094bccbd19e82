"""The registration API as a client, against a server that answers as the original's does, and at its worst."""

import json
import ssl
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from wodctl.actions.tell import tell
from wodctl.adapters.registration import Registration, trust
from wodctl.errors import ActionFailed, Unavailable
from wodctl.model import registration
from wodctl.model.registration import Owed, Update

WORKSHOPS = [
    {"id": 7, "notebook": "WKSHP-X", "location": "other.example.net", "reset": False},
    {"id": 8, "notebook": "WKSHP-X", "location": "jup.example.net", "reset": True},
    {"id": 9, "notebook": "WKSHP-X", "location": "third.example.net", "reset": False},
]


class Api(ThreadingHTTPServer):
    """Records what it is asked; `answers` are given instead of the right ones, first come first served."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.said: list[tuple[str, str, Any]] = []
        self.answers: list[tuple[str, int]] = []
        self.valid = "no token yet"
        self.tokens = 0


class Handler(BaseHTTPRequestHandler):
    """One call, answered as O's API answers."""

    server: Api

    def answer(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or b"null")
        path = self.path.removeprefix("/api")
        self.server.said.append((self.command, path, body))
        for number, (start, status) in enumerate(self.server.answers):
            if f"{self.command} {path}".startswith(start):
                del self.server.answers[number]
                return self.say(status, {"message": "as you wish"})
        if path == "/login":
            if body != {"username": "moderator", "password": "the-password"}:
                return self.say(401, {"accessToken": None, "message": "Invalid Password!"})
            self.server.tokens += 1
            self.server.valid = f"token-{self.server.tokens}"
            return self.say(200, {"id": 1, "roles": ["ROLE_MODERATOR"], "accessToken": self.server.valid})
        if self.headers["x-access-token"] != self.server.valid:
            return self.say(401, {"message": "Unauthorized!"})
        return self.say(200, WORKSHOPS if path == "/workshops" else {"id": 1})

    do_GET = do_POST = do_PUT = answer

    def say(self, status: int, body: Any) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        if status in (301, 302, 307):
            self.send_header("Location", "/api/stolen")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Keep quiet."""


@pytest.fixture
def api() -> Iterator[Api]:
    with Api() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def client(api: Api, password: str = "the-password") -> Registration:
    anybody = trust(Path("/nowhere"), any_certificate=False)
    url = f"http://127.0.0.1:{api.server_port}/api"
    return Registration(url, "moderator", password, "jup.example.net", anybody)


def test_the_first_call_logs_in_and_the_next_ones_use_the_token(api: Api) -> None:
    """Values are texts, under the names that the API knows."""
    one = client(api)
    one.deliver(Update("student", "103", {"password": "p4ss"}))
    one.deliver(registration.active(17, now=True))
    one.deliver(registration.completed(17, 42))
    assert api.said == [
        ("POST", "/login", {"username": "moderator", "password": "the-password"}),
        ("PUT", "/student/103", {"password": "p4ss"}),
        ("PUT", "/customer/17", {"active": "true"}),
        ("PUT", "/customer/17", {"completionPercentage": "42"}),
    ]


def test_an_expired_token_is_renewed_and_the_call_repeated(api: Api) -> None:
    """Three minutes later nothing is lost."""
    one = client(api)
    one.deliver(registration.cleaned(17))
    api.valid = "expired"
    one.deliver(registration.cleaned(18))
    assert [path for _, path, _ in api.said] == [
        "/login",
        "/customer/17",
        "/customer/18",
        "/login",
        "/customer/18",
    ]


def test_of_several_jobs_whose_token_has_expired_one_logs_in(api: Api) -> None:
    """Seats are worked on side by side; what is asked does not depend on who comes first."""
    one = client(api)
    one.deliver(registration.cleaned(1))
    api.valid = "expired"
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(one.deliver, map(registration.cleaned, range(8))))
    assert [path for _, path, _ in api.said].count("/login") == 2


def test_a_workshop_is_found_by_name_and_place(api: Api) -> None:
    """Where several backends have one of that name, the capacity of ours is changed."""
    client(api).deliver(registration.capacity("WKSHP-X", 20))
    assert api.said[1:] == [("GET", "/workshops", None), ("PUT", "/workshop/8", {"capacity": "20"})]
    assert client(api).workshop("WKSHP-X") == WORKSHOPS[1]
    assert client(api).workshop("WKSHP-Y") is None


@pytest.mark.parametrize("status", [500, 502, 503, 429, 403, 404, 302])
def test_what_may_pass_is_worth_another_attempt(api: Api, status: int) -> None:
    """The database's troubles, and an account without its role, are not the update's fault."""
    api.answers = [("PUT", status)]
    one = client(api)
    with pytest.raises(Unavailable, match=str(status)):
        one.deliver(registration.cleaned(17))
    one.deliver(registration.cleaned(17))
    assert ("PUT", "/api/stolen") not in [(method, path) for method, path, _ in api.said]


def test_a_row_that_is_not_there_is_refused(api: Api) -> None:
    """The original answers 400; trying again would not help."""
    api.answers = [("PUT", 400)]
    with pytest.raises(ActionFailed, match="400"):
        client(api).deliver(registration.cleaned(17))


@pytest.mark.parametrize("status", [401, 404, 400, 500])
def test_a_refused_login_says_so_and_not_the_password(api: Api, status: int) -> None:
    """It may be corrected: nothing is given up."""
    api.answers = [("POST", status)]
    with pytest.raises(Unavailable) as away:
        client(api).deliver(registration.cleaned(17))
    assert "the-password" not in away.value.message


def test_a_wrong_password_is_told_in_time(api: Api) -> None:
    """The sentence names the account."""
    with pytest.raises(Unavailable, match="refuses the login as moderator"):
        client(api, "wrong").deliver(registration.cleaned(17))


def test_a_token_that_never_works_ends(api: Api) -> None:
    """A database that forgets its own tokens is away; we do not log in for ever."""
    api.answers = [("PUT", 401)] * 5
    with pytest.raises(Unavailable, match="does not accept the token"):
        client(api).deliver(registration.cleaned(17))
    assert len(api.said) == 4


def test_nobody_there_is_unavailable(api: Api) -> None:
    """The sentence names the address."""
    one = client(api)
    api.shutdown()
    api.server_close()
    with pytest.raises(Unavailable, match=r"http://127\.0\.0\.1:.* does not answer"):
        one.deliver(registration.cleaned(17))


def test_a_certificate_is_checked_unless_told_otherwise(api: Api, tmp_path: Path) -> None:
    """A self-signed one is taken with -k, or better with its authority; else nothing is said to the server."""
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost",
         "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", certificate],
        check=True, capture_output=True,
    )  # fmt: skip
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate, key)
    api.socket = tls.wrap_socket(api.socket, server_side=True)
    url = f"https://127.0.0.1:{api.server_port}/api"

    def deliver(context: ssl.SSLContext) -> None:
        Registration(url, "moderator", "the-password", "", context).deliver(registration.cleaned(17))

    with pytest.raises(Unavailable, match="certificate"):
        deliver(trust(Path("/etc/ssl/certs/ca-certificates.crt"), any_certificate=False))
    assert api.said == []
    deliver(trust(certificate, any_certificate=False))
    deliver(trust(Path("/nowhere"), any_certificate=True))
    assert len(api.said) == 4


class Debts:
    """Updates that are owed, and the hashes that seats were given."""

    def __init__(self, *updates: Update) -> None:
        self.owed = [
            Owed(n, 5, 3, 17, update.kind, update.key, update.body) for n, update in enumerate(updates, 1)
        ]
        self.problems: list[tuple[int, bool]] = []
        self.hashes: list[tuple[int, int, str]] = []
        self.kept_one: str | None = None
        self.is_ready = True

    def kept(self, seat: int, customer: int) -> str | None:
        return self.kept_one

    def next_owed(self) -> Owed | None:
        refused = {number for number, refused in self.problems if refused}
        return next((one for one in self.owed if one.id not in refused), None)

    def note_owed(self, number: int, problem: str, *, refused: bool) -> None:
        self.problems.append((number, refused))

    def settle_owed(self, number: int) -> None:
        self.owed = [one for one in self.owed if one.id != number]

    def set_password_of(self, number: int, customer: int, password_hash: str) -> bool:
        self.hashes.append((number, customer, password_hash))
        return self.is_ready


def site(debts: Debts, api: Api) -> Any:
    return SimpleNamespace(actions=debts, seats=debts, registration=client(api), passwords=debts)


def test_what_is_owed_is_told_in_order_and_settled(api: Api) -> None:
    """Nothing is left over."""
    debts = Debts(registration.fresh_password(3, 100), registration.active(17, now=True))
    tell(site(debts, api))
    assert [path for _, path, _ in api.said] == ["/login", "/student/103", "/customer/17"]
    assert debts.owed == []


def test_a_password_is_made_when_it_is_told_and_opens_the_seat(api: Api) -> None:
    """It is in nobody's store before; the seat's hash is that of the very password that was told."""
    from argon2 import PasswordHasher

    debts = Debts(registration.fresh_password(3, 100))
    tell(site(debts, api))
    told = api.said[-1][2]["password"]
    (number, customer, hashed), = debts.hashes  # fmt: skip
    assert (number, customer) == (3, 17)
    assert PasswordHasher().verify(hashed, told)


def test_a_password_that_is_known_elsewhere_is_told_as_it_is(api: Api) -> None:
    """Once the lease is over it is not told any more, whatever was kept of it."""
    debts = Debts(registration.fresh_password(3, 100), registration.fresh_password(3, 100))
    debts.kept_one = "in the notebook"
    tell(site(debts, api))
    assert [said[2]["password"] for said in api.said[1:]] == ["in the notebook"] * 2
    debts = Debts(registration.fresh_password(3, 100))
    debts.kept_one, debts.is_ready = "in the notebook", False
    tell(site(debts, api))
    assert api.said[-1][2]["password"] not in ("", "in the notebook")


def test_while_the_api_is_away_everything_stays_owed_in_order(api: Api) -> None:
    """The first one that cannot be told holds the others back: `active` never comes before the password."""
    debts = Debts(registration.fresh_password(3, 100), registration.active(17, now=True))
    api.answers = [("PUT", 503)]
    with pytest.raises(Unavailable):
        tell(site(debts, api))
    assert len(debts.owed) == 2
    assert debts.problems == [(1, False)]
    tell(site(debts, api))
    assert debts.owed == []


def test_a_refused_update_stays_visible_and_holds_nobody_back(api: Api) -> None:
    """It is marked, and the others are told."""
    debts = Debts(registration.cleaned(17), registration.cleaned(18))
    api.answers = [("PUT", 400)]
    tell(site(debts, api))
    assert debts.problems == [(1, True)]
    assert [one.key for one in debts.owed] == ["17"]
