"""Bans that are told to the site's OPNsense: fail2ban as the stack runs it, and a stand-in that has its API."""

import base64
import json
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import jinja2
import pytest

from tests.conftest import ROOT, docker
from wodctl.adapters import configuration
from wodctl.adapters.builder import Builder
from wodctl.adapters.state import FAIL2BAN

NAME = "wodtests-opnsense"
KEY, SECRET = "a-key-of-the-api", "the-secret-of-the-key"
ADDRESS = "203.0.113.7"


@dataclass
class StandIn:
    """What was asked of the firewall, and where it listens."""

    port: int = 0
    asked: list[tuple[str, str, object]] = field(default_factory=list)


def certificate(folder: Path, host: str) -> tuple[Path, Path]:
    """A certificate of its own for this address, and its key."""
    made = folder / f"{host}.crt", folder / f"{host}.key"
    words = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-days",
        "2",
        "-subj",
        "/CN=firewall",
    ]
    words += ["-addext", f"subjectAltName=IP:{host}", "-out", str(made[0]), "-keyout", str(made[1])]
    subprocess.run(words, check=True, capture_output=True)
    return made


@pytest.fixture(scope="module")
def host() -> str:
    """The address of this host in containers of the default network."""
    return docker("network", "inspect", "--format", "{{(index .IPAM.Config 0).Gateway}}", "bridge").strip()


@pytest.fixture(scope="module")
def opnsense(tmp_path_factory: pytest.TempPathFactory, host: str) -> Iterator[StandIn]:
    made = StandIn()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            words = base64.b64decode(self.headers["Authorization"].removeprefix("Basic ")).decode()
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            made.asked.append((self.path, words, body))
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b'{"status":"done"}')

        def log_message(self, *words: object) -> None:
            pass

    folder = tmp_path_factory.mktemp("opnsense")
    server = ThreadingHTTPServer((host, 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate(folder, host))
    server.socket = context.wrap_socket(server.socket, server_side=True)
    made.port = server.server_port
    threading.Thread(target=server.serve_forever, daemon=True).start()
    (folder / "ca.crt").write_bytes((folder / f"{host}.crt").read_bytes())
    fail2ban(folder, host, made.port)
    try:
        yield made
    finally:
        docker("rm", "--force", "--volumes", NAME)
        server.shutdown()


def fail2ban(folder: Path, host: str, port: int) -> None:
    """The service, with the jails that `wodctl up` renders."""
    state = Path("/var/lib/wod-tests")
    builder = Builder(ROOT, state, configuration.load(ROOT, state, {}, {})[0])
    if "fail2ban" in builder.missing():
        builder.build(["fail2ban"])
    template = jinja2.Template((ROOT / "conf/fail2ban/jail.local.j2").read_text())
    rendered = template.render(OPNSENSEIP=host, OPNSENSEPORT=port, never_banned=["127.0.0.0/8"])
    files = {"jail.local": rendered, "opnsense-key": KEY + "\n", "opnsense-secret": SECRET + "\n", "own": ""}
    for name, text in files.items():
        (folder / name).write_text(text)
    for name in ("hub", "mail"):
        (folder / name).mkdir()
        (folder / name / "refused.log").write_text("")
    folder.chmod(0o755)
    where = {"jail.local": "/etc/wod/fail2ban/jail.local", "own": "/run/firewall/own", "ca.crt": "/etc/wod/ca.crt",
             "hub": "/var/log/wod/hub", "mail": "/var/log/wod/mail",
             "opnsense-key": "/run/secrets/opnsense-key",
             "opnsense-secret": "/run/secrets/opnsense-secret"}  # fmt: skip
    mounts = [f"--volume={folder / name}:{place}:ro" for name, place in where.items()]
    places = [
        f"--tmpfs={place}:mode=700,uid={FAIL2BAN},gid={FAIL2BAN}"
        for place in ("/run/bans", "/var/lib/fail2ban")
    ]
    docker("rm", "--force", NAME, check=False)
    docker(
        *("run", "--detach", f"--name={NAME}", "--read-only", "--cap-drop=ALL"),
        *("--security-opt=no-new-privileges", "--tmpfs=/run/fail2ban:mode=1777", "--tmpfs=/tmp"),
        *(*places, *mounts, builder.tag("fail2ban")),
    )
    wait_until(lambda: "pong" in client("ping"))


def client(*words: str) -> str:
    return docker("exec", NAME, "fail2ban-client", *words, check=False)


def wait_until(promise: Callable[[], bool]) -> None:
    end = time.monotonic() + 90
    while not promise():
        assert time.monotonic() < end, docker("logs", NAME)
        time.sleep(0.2)


def test_a_ban_goes_into_the_alias_and_its_end_takes_it_out(opnsense: StandIn) -> None:
    """As its API wants it: verb and alias in the path, the address as JSON, key and secret as basic authentication."""
    client("set", "operator", "banip", ADDRESS)
    wait_until(lambda: len(opnsense.asked) == 1)
    client("unban", ADDRESS)
    wait_until(lambda: len(opnsense.asked) == 2)
    path = "/api/firewall/alias_util/{}/Fail2ban"
    assert opnsense.asked == [
        (path.format(verb), f"{KEY}:{SECRET}", {"address": ADDRESS}) for verb in ("add", "delete")
    ]


def test_key_and_secret_are_in_no_log_and_no_argument(opnsense: StandIn) -> None:
    said = subprocess.run(["docker", "logs", NAME], capture_output=True, text=True, check=True)
    for text in (said.stdout + said.stderr, docker("inspect", NAME), client("-d")):
        assert KEY not in text and SECRET not in text


def test_nobody_else_is_told(opnsense: StandIn, host: str, tmp_path: Path) -> None:
    """A firewall whose certificate our authorities have not signed hears neither addresses nor credentials."""
    heard: list[bytes] = []
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate(tmp_path, host))

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            heard.append(self.path.encode())

    server = ThreadingHTTPServer((host, 0), Handler)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        words = ["docker", "exec", NAME, "wod-opnsense", "add", host, str(server.server_port), ADDRESS]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
    finally:
        server.shutdown()
    assert done.returncode == 1
    assert (
        f"did not add {ADDRESS}" in done.stderr and "certificate" in done.stderr and SECRET not in done.stderr
    )
    assert heard == []
