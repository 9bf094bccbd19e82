"""A registration API with its database in containers, and a mail server of the test's own to receive what it sends."""

import contextlib
import email
import email.policy
import json
import os
import signal
import socketserver
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.message import EmailMessage
from pathlib import Path
from typing import Any

from tests.conftest import ROOT, docker
from wodctl.adapters.builder import Builder
from wodctl.adapters.configuration import load
from wodctl.adapters.state import DATA, StateDirectory

API = 1810
BACKENDS = [
    {"name": "one.example.net", "proto": "http", "port": 8000, "base": 0, "first": 1, "last": 60},
    {"name": "two.example.net", "proto": "https", "port": 8443, "base": 60, "first": 1, "last": 60},
]


def workshop(name: str, first: int, last: int, **more: Any) -> dict[str, Any]:
    """A workshop as `wodctl` reads it from a wod.yml."""
    return {
        "name": name, "notebook": f"WKSHP-{name.replace(' ', '')}", "description": f"All of {name}", "active": True,
        "capacity": last - first + 1, "priority": 1, "range": [first, last], "reset": False, "ldap": False,
        "replayId": 31, "varpass": False, "compile": "false", "workshopImg": "", "badgeImg": "badge.jpg",
        "beta": False, "category": ["Open Source"], "duration": 2.0, "presenter": "", "role": "", "avatar": "",
        "replayLink": "https://video.example.net/31", "monoappliance": False, "multiappliance": False,
    } | more  # fmt: skip


@dataclass(frozen=True)
class Answer:
    """What the API answered."""

    status: int
    body: Any
    headers: dict[str, str]


@dataclass
class Receiver:
    """A mail server: what it took over, and what it does at each step of a dialogue, told by the test."""

    taken: list[EmailMessage] = field(default_factory=list)
    at: Callable[[str, str], str | None] = lambda _step, _line: None
    """Called with a step (greeting, helo, mail, rcpt, data, dot, taken) and the line; may give the answer."""

    port: int = 0
    one_at_a_time: threading.Lock = field(default_factory=threading.Lock)
    """So that a scheduler is killed in one dialogue, and not just after another one was taken over."""

    def subjects(self) -> list[str]:
        """Of the mails taken over, in order."""
        return [str(mail["Subject"]) for mail in self.taken]

    def of(self, subject: str) -> list[EmailMessage]:
        """The mails whose subject begins so."""
        return [mail for mail in self.taken if str(mail["Subject"]).startswith(subject)]

    def serve(self, stream: Any) -> None:
        """One dialogue."""
        say = lambda text: (stream.wfile.write(text.encode() + b"\r\n"), stream.wfile.flush())  # noqa: E731
        say(self.at("greeting", "") or "220 receiver.example.net")
        while line := stream.rfile.readline().decode().rstrip("\r\n"):
            verb = line.split(":")[0].split(" ")[0].lower()
            step = {"ehlo": "helo", "helo": "helo"}.get(verb, verb)
            answer = self.at(step, line)
            if verb == "quit":
                say("221 bye")
                return
            if verb != "data" or (answer and not answer.startswith("354")):
                say(answer or "250 fine")
                continue
            say("354 go on")
            content = b""
            while not content.endswith(b"\r\n.\r\n"):
                more = stream.rfile.readline()
                if not more:
                    return
                content += more
            answer = self.at("dot", "")
            say(answer or "250 taken")
            if not answer or answer.startswith("250"):
                raw = content[:-3].replace(b"\r\n..", b"\r\n.")
                message = email.message_from_bytes(raw, policy=email.policy.default)
                assert isinstance(message, EmailMessage)
                self.taken.append(message)
                self.at("taken", "")


@contextmanager
def receiver() -> Iterator[Receiver]:
    """A mail server on a port of its own, until the end of the `with`."""
    made = Receiver()

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            with contextlib.suppress(OSError), made.one_at_a_time:
                made.serve(self)

    class Server(socketserver.ThreadingTCPServer):
        allow_reuse_address = True
        daemon_threads = True

    with Server(("0.0.0.0", 0), Handler) as server:
        made.port = server.server_address[1]
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield made
        server.shutdown()


@dataclass
class RegistrationSite:
    """The services, and how a test speaks to them."""

    name: str
    state: Path
    images: dict[str, str]
    receiver: Receiver
    authorities: Path | None = None
    """Whom it trusts beside those that everybody does."""
    root: str = ""
    has_usual: bool = False
    tokens: dict[str, tuple[str, float]] = field(default_factory=dict)
    """Of each role the last one, and when it was given."""

    def call(
        self, method: str, path: str, body: Any = None, *, role: str = "", token: str = "", **headers: str
    ) -> Answer:
        """Call the API, with a token of that role that lasts a minute at least, or with this token."""
        if role and time.monotonic() - self.tokens.get(role, ("", -9e9))[1] > 120:
            self.tokens[role] = self.login(role).body["accessToken"], time.monotonic()
        if role:
            token = self.tokens[role][0]
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if token:
            sent["x-access-token"] = token
        data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        if data is not None:
            sent.setdefault("content-type", "application/json")
        request = urllib.request.Request(self.root + path, data=data, method=method, headers=sent)  # noqa: S310
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310 - our own container
                return _answer(answer.status, answer.read(), answer.headers)
        except urllib.error.HTTPError as refusal:
            return _answer(refusal.code, refusal.read(), refusal.headers)

    def login(self, role: str) -> Answer:
        """Log in as the site's moderator or admin."""
        user = {"moderator": "moderator", "admin": "hackshack"}[role]
        password = (self.state / f"secrets/api-db/{role}-password").read_text()
        return self.call("POST", "/api/login", {"username": user, "password": password})

    def register(self, email: str, title: str = "Python 101", **more: Any) -> Answer:
        """Register as the portal's page does."""
        said = {
            "name": "ada lovelace", "email": email, "company": "Engines", "title": title,
            "notebook": "WKSHP-Evil", "sessionType": "Workshops-on-Demand", "location": "evil.example.net",
            "termsAndConditions": True, "proxy": "wod",
        } | more  # fmt: skip
        return self.call("POST", "/api/customer", said)

    def ask(self, verb: str, **said: Any) -> Any:
        """What the operator's commands ask."""
        done = subprocess.run(
            ["docker", "exec", "-i", f"{self.name}-api", "python", "-m", "wod_api.operator", verb],
            input=json.dumps(said), capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def sql(self, query: str) -> list[str]:
        """The lines of the answer, | between columns."""
        words = (
            "psql",
            "--no-psqlrc",
            "-qAt",
            "-v",
            "ON_ERROR_STOP=1",
            "-h",
            "/run/postgresql",
            "-d",
            "api",
            "-U",
            "api",
        )
        return docker("exec", f"--user={API}:{DATA}", f"{self.name}-db", *words, "-c", query).splitlines()

    def fresh(self, *workshops: dict[str, Any]) -> None:
        """Nobody registered, every seat free, these workshops or the usual one."""
        self.receiver.taken.clear()
        self.receiver.at = lambda _step, _line: None
        tables = ("locations", "workshops", "students")
        empty = "TRUNCATE outbox, mailbox, customers, students, workshops, locations RESTART IDENTITY CASCADE"
        if workshops or not self.has_usual:
            self.sql(empty)
            given = list(workshops) or [workshop("Python 101", 1, 20)]
            self.ask("update-catalogue", backends=BACKENDS, workshops=given)
            if not workshops:
                self.sql("; ".join(f"CREATE TABLE usual_{name} AS TABLE {name}" for name in tables))
                self.has_usual = True
        else:  # as it was made the first time: that takes a second
            copies = [f"INSERT INTO {name} SELECT * FROM usual_{name}" for name in tables]  # noqa: S608
            numbers = [f"SELECT setval('{name}_id_seq', max(id)) FROM {name}" for name in tables]  # noqa: S608
            self.sql("; ".join([empty, *copies, *numbers]))

    def start_api(self) -> None:
        """Start the API, and wait until it is healthy."""
        self._run("api", "--publish=127.0.0.1::8021")
        wait_for(lambda: _health(f"{self.name}-api") == "healthy")
        port = docker("port", f"{self.name}-api", "8021/tcp").split(":")[-1].strip()
        self.root = f"http://127.0.0.1:{port}"

    def start_scheduler(self) -> None:
        """Start the scheduler; when it ends it is started again, as the engine would."""
        again = "while :; do python -m wod_api.scheduler; done"
        self._run("scheduler", "--entrypoint=tini", words=["--", "sh", "-c", again])

    def restart_scheduler(self) -> None:
        """SIGKILL to its process, as the kernel would when memory is short; another one is started at once."""
        loop = _child(int(docker("inspect", "-f", "{{.State.Pid}}", f"{self.name}-scheduler")))
        with contextlib.suppress(ProcessLookupError):  # it has ended by itself this moment
            os.kill(_child(loop), signal.SIGKILL)

    def kill_scheduler(self) -> None:
        """SIGKILL, as a power cut would; it does not come back."""
        docker("rm", "--force", f"{self.name}-scheduler", check=False)

    def _run(self, what: str, *options: str, words: tuple[str, ...] | list[str] = ()) -> None:
        secrets = self.state / "secrets/api-db"
        docker(
            *("run", "--detach", f"--name={self.name}-{what}", "--read-only", "--cap-drop=ALL"),
            *(
                "--security-opt=no-new-privileges",
                f"--group-add={DATA}",
                "--tmpfs=/tmp",
                "--tmpfs=/run/wod:mode=1777",
            ),
            f"--volume={self.state}/run/db:/run/postgresql",
            f"--volume={self.state}/rendered/api-db.json:/etc/wod/settings.json:ro",
            *(f"--volume={path}:/run/secrets/{path.name}:ro" for path in sorted(secrets.iterdir())),
            *(f"--add-host={backend['name']}:host-gateway" for backend in BACKENDS),
            *([f"--volume={self.authorities}:/etc/wod/ca.crt:ro"] if self.authorities else []),
            *("--add-host=relay.example.net:host-gateway", *options, self.images["api-db"], *words),
        )


@contextmanager
def registration_site(
    name: str, state: Path, *, authorities: Path | None = None, **chosen: str
) -> Iterator[RegistrationSite]:
    """The services with these settings, and time compressed: an hour lasts two seconds; gone afterwards."""
    subprocess.run(["rm", "-rf", state], check=True)
    with receiver() as mails:
        usual = {
            "WODTYPE": "api-db", "WODAPIDBRATE": "0", "WODAPIDBHOUR": "2", "WODAPIDBPATIENCE": "10",
            "WODBEFQDN": "api.example.net", "WODPOSTPORT": str(mails.port), "WODSMTPHOST": "relay.example.net",
            "WODSMTPPORT": str(mails.port), "WODSMTPTLS": "none", "WODFEFQDN": "portal.example.net",
        }  # fmt: skip
        settings, _ = load(ROOT, state, usual | chosen, {})
        builder = Builder(ROOT, state, settings)
        images = {image: builder.tag(image) for image in ("base", "db", "api-db")}
        builder.build([image for image in images if image in builder.missing()])
        folders = StateDirectory(state, ROOT)
        folders.ensure_folders(images["base"])
        folders.ensure_secrets(images["base"])
        folders.ensure_api_secrets(images["base"])
        folders.render(settings)
        made = RegistrationSite(name, state, images, mails, authorities)
        _remove(name)
        try:
            docker("run", "--detach", f"--name={name}-db", "--network=none", f"--group-add={DATA}",
                   f"--volume={state}/run/db:/run/postgresql", images["db"])  # fmt: skip
            wait_for(lambda: _health(f"{name}-db") == "healthy")
            made.start_api()
            made.fresh()
            yield made
        finally:
            _remove(name)
            subprocess.run(["rm", "-rf", state], check=True)


def _remove(name: str) -> None:
    names = [f"{name}-{what}" for what in ("scheduler", "api", "db")]
    docker("rm", "--force", "--volumes", *names, check=False)


def _child(process: int) -> int:
    """The process that it has started, once it has."""
    children = Path(f"/proc/{process}/task/{process}/children")
    wait_for(children.read_text)
    return int((children.read_text().split() or ["0"])[0])


def _health(container: str) -> str:
    return docker("inspect", "-f", "{{.State.Health.Status}}", container).strip()


def _answer(status: int, content: bytes, headers: Any) -> Answer:
    text = content.decode()
    is_json = headers.get_content_type() == "application/json" and text
    return Answer(status, json.loads(text) if is_json else text, {k.lower(): v for k, v in headers.items()})


def wait_for(happens: Callable[[], object], timeout: float = 120) -> None:
    """Return when it is true; fail when it is not within so many seconds."""
    end = time.monotonic() + timeout
    while not happens():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.05)
