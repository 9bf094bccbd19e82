"""The gate in front of a real engine: seats' servers can be driven through it, and the host cannot be had."""

import copy
import io
import ipaddress
import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from http.client import HTTPResponse
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT, docker
from wodctl.adapters import configuration
from wodctl.adapters.builder import Builder

PROJECT = f"gatetest{os.getpid()}"
LAB = f"wod/{PROJECT}:1"
SERVER = f"{PROJECT}-student3"
SUBNET = ipaddress.ip_network(f"10.232.{os.getpid() % 250}.0/24")
CREATE = f"POST /v1.45/containers/create?name={SERVER}"

# What a client container runs: its input goes to the gate, what comes back within a while is its output.
RELAY = """
import socket, sys
gate = socket.socket(socket.AF_UNIX)
gate.connect("/run/gate/docker.sock")
gate.settimeout(float(sys.argv[1]))
try:
    gate.sendall(sys.stdin.buffer.read())
    while piece := gate.recv(65536):
        sys.stdout.buffer.write(piece)
except (TimeoutError, ConnectionError):
    pass
"""

# One connection for many calls, one after the other; the answers' statuses.
SERIES = """
import http.client, socket, sys
gate = http.client.HTTPConnection("gate")
gate.sock = socket.socket(socket.AF_UNIX)
gate.sock.connect("/run/gate/docker.sock")
gate.auto_open = 0
statuses = []
for path in ("/_ping", "/info", "/version", "/containers/json") * 25:
    gate.request("GET", path)
    answer = gate.getresponse()
    answer.read()
    statuses.append(answer.status)
print(*sorted({(s, statuses.count(s)) for s in statuses}))
"""

# Many connections at once, each waiting for the end of the same server; then one that is served beside them.
CROWD = """
import socket, sys
def connect():
    gate = socket.socket(socket.AF_UNIX)
    gate.settimeout(30)
    gate.connect("/run/gate/docker.sock")
    return gate
def call(gate, line):
    gate.sendall(f"{line} HTTP/1.1\\r\\nHost: gate\\r\\nConnection: close\\r\\n\\r\\n".encode())
server, count = sys.argv[1], int(sys.argv[2])
crowd = [connect() for _ in range(count)]
for i, gate in enumerate(crowd):
    long = ("POST", "wait") if i % 2 else ("GET", "logs?follow=1&stdout=1")
    call(gate, f"{long[0]} /containers/{server}/{long[1]}")
beside = connect()
call(beside, f"GET /containers/{server}/json")
assert beside.makefile("rb").read().startswith(b"HTTP/1.1 200"), "not served beside the crowd"
if len(sys.argv) > 3:
    sys.exit()
kill = connect()
call(kill, f"POST /containers/{server}/kill")
assert kill.makefile("rb").read().startswith(b"HTTP/1.1 204"), "not killed"
answers = [gate.makefile("rb").read() for gate in crowd]
print(sum(answer.startswith(b"HTTP/1.1 200") and answer.endswith(b"0\\r\\n\\r\\n") for answer in answers))
"""


@dataclass(frozen=True)
class Answer:
    """What the gate answered."""

    status: int
    text: str

    @property
    def message(self) -> str:
        """The sentence that docker-py shows."""
        return str(json.loads(self.text)["message"])


@dataclass(frozen=True)
class Gate:
    """A gate with a client container, as Compose sets them up."""

    name: str
    client: str
    state: Path

    def raw(self, data: bytes, *, user: str = "1801:1801", seconds: float = 3) -> bytes:
        """Send bytes as a process of the client's container, and return what comes back."""
        words = ["docker", "exec", "-i", "-u", user, self.client, "python3", "-c", RELAY, str(seconds)]
        return subprocess.run(words, input=data, capture_output=True, timeout=60, check=False).stdout

    def call(self, line: str, document: object = None, *headers: str) -> Answer:
        """Make one call, with a document as its body."""
        body = b"" if document is None else json.dumps(document).encode()
        head = [
            f"{line} HTTP/1.1",
            "Host: gate",
            "Connection: close",
            f"Content-Length: {len(body)}",
            *headers,
        ]
        return answer(self.raw("\r\n".join(head).encode() + b"\r\n\r\n" + body, seconds=30))

    @property
    def document(self) -> dict[str, Any]:
        """What the hub's spawner sends for seat 3."""
        return {
            "Image": LAB,
            "Hostname": "student3",
            "User": "2003:2003",
            "WorkingDir": "/student/student3",
            "Env": ["TOKEN=very-secret"],
            "Labels": {"wod.project": PROJECT, "wod.seat": "3"},
            "NetworkingConfig": {
                "EndpointsConfig": {
                    f"{PROJECT}_seats": {"IPAMConfig": {"IPv4Address": str(SUBNET[128 + 16 + 2])}}
                }
            },
            "HostConfig": {
                "NetworkMode": f"{PROJECT}_seats",
                "Mounts": [
                    {
                        "Type": "bind",
                        "Source": f"{self.state}/data/students/student3",
                        "Target": "/student/student3",
                    }
                ],
                "CapDrop": ["ALL"],
                "SecurityOpt": ["no-new-privileges:true"],
                "CgroupnsMode": "private",
                "ReadonlyRootfs": True,
                "Tmpfs": {"/tmp": "exec,nosuid,nodev,mode=1777"},
                "Memory": 64 << 20,
                "MemorySwap": 64 << 20,
                "CpuPeriod": 100_000,
                "CpuQuota": 100_000,
                "CpuShares": 16,
                "PidsLimit": 64,
                "LogConfig": {"Type": "json-file", "Config": {"max-size": "1m", "max-file": "2"}},
            },
        }

    def log(self) -> list[dict[str, Any]]:
        """What the gate has logged."""
        done = subprocess.run(["docker", "logs", self.name], capture_output=True, text=True, check=True)
        return [json.loads(line) for line in done.stderr.splitlines()]


class _Received:
    """Bytes that http.client takes for a connection."""

    def __init__(self, raw: bytes) -> None:
        self._raw = raw

    def makefile(self, _: str) -> io.BytesIO:
        return io.BytesIO(self._raw)


def answer(raw: bytes) -> Answer:
    """The first answer in these bytes."""
    response = HTTPResponse(_Received(raw))  # type: ignore[arg-type]
    response.begin()
    return Answer(response.status, response.read().decode())


@cache
def image(name: str) -> str:
    """The image of ours with this name, as it is built now."""
    state = Path("/var/lib/wod-tests")
    builder = Builder(ROOT, state, configuration.load(ROOT, state, {}, {})[0])
    if name in builder.missing():
        builder.build([name])
    return builder.tag(name)


def wait_until(promise: Callable[[], bool], seconds: float = 60) -> None:
    """Wait until it is so."""
    end = time.monotonic() + seconds
    while not promise():
        assert time.monotonic() < end, "It did not happen in time."
        time.sleep(0.1)


def started(name: str, state: Path, engine: str = "/var/run/docker.sock") -> str:
    """Start a gate as Compose does, over this socket of an engine."""
    group = docker(
        "run", "--rm", "--network=none", f"-v={engine}:/s", image("base"), "stat", "-c", "%g", "/s"
    ).strip()
    docker(
        *("run", "-d", f"--name={name}", "--network=none", "--read-only", "--cap-drop=ALL"),
        *("--security-opt=no-new-privileges", f"--group-add={group}", "--memory=64m", "--pids-limit=64"),
        *("-e", f"WOD_PROJECT={PROJECT}", "-e", f"WOD_STATE={state}", "-e", f"WOD_LABS=lab={LAB}"),
        *("-e", f"WOD_COMPILER_IMAGE={LAB}", "-e", f"WOD_EXPORT_IMAGE={LAB}"),
        *("-e", f"WOD_SEAT_SUBNET={SUBNET}"),
        *("-v", f"{engine}:/var/run/docker.sock", "-v", f"{state}/run/gate:/run/gate"),
        *("-v", f"{state}/rendered/settings.json:/etc/wod/settings.json:ro", image("gate")),
    )
    return name


def prepared(state: Path) -> Path:
    """A state directory as `wodctl up` prepares it for the gate."""
    settings = {
        "WODSEATMEMORY": "64M",
        "WODSEATCPUS": 1.0,
        "WODSEATPIDS": 64,
        "UIDBASE": 2000,
        "GIDBASE": 2000,
        "WODAPPLIANCEPRIVILEGES": [],
    }
    (state / "rendered").mkdir(parents=True)
    (state / "rendered" / "settings.json").write_text(
        json.dumps(settings | {"WODUSERMIN": 1, "WODUSERMAX": 9})
    )
    (state / "rendered" / "settings.json").chmod(0o644)
    make = (
        "cd /state && install -d -m 0711 run data && install -d -m 0755 run/gate rendered && chmod 0711 . && "
    )
    make += "install -d -o 1805 -g 1801 -m 2750 run/gate/hub && "
    make += "install -d -o 1805 -g 1804 -m 2750 run/gate/worker && "
    make += "install -d -o 2003 -g 2003 -m 0700 data/students/student3"
    docker("run", "--rm", "--network=none", "-v", f"{state}:/state", image("base"), "sh", "-c", make)
    return state


@pytest.fixture(scope="module")
def lab() -> Iterator[str]:
    """An image that stands for the lab: it writes a line and stays."""
    command = ["sh", "-c", "echo here; exec sleep infinity"]
    docker("create", "--name", f"{PROJECT}-image", image("base"), "true")
    docker("commit", f"--change=CMD {json.dumps(command)}", f"{PROJECT}-image", LAB)
    docker("rm", f"{PROJECT}-image")
    yield LAB
    docker("image", "rm", LAB)


@pytest.fixture(scope="module")
def gate(lab: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gate]:
    """A running gate, its client and the seats' network."""
    state = prepared(tmp_path_factory.mktemp("gate") / "state")
    made = Gate(f"{PROJECT}-gate", f"{PROJECT}-client", state)
    try:
        docker("network", "create", f"--subnet={SUBNET}", f"{PROJECT}_seats")
        started(made.name, state)
        docker(
            *("run", "-d", f"--name={made.client}", "--init", "--network=none", "-u=1801:1801"),
            *("-v", f"{state}/run/gate/hub:/run/gate:ro", image("base"), "sleep", "infinity"),
        )
        wait_until(lambda: (state / "run/gate/hub/docker.sock").exists())
        yield made
    finally:
        docker("rm", "-f", "-v", made.name, made.client, SERVER, check=False)
        docker("network", "rm", f"{PROJECT}_seats", check=False)


@pytest.fixture
def server(gate: Gate) -> Iterator[str]:
    """Id of a server of seat 3 that runs."""
    created = gate.call(CREATE, gate.document)
    assert created.status == 201, created
    name = json.loads(created.text)["Id"]
    assert gate.call(f"POST /v1.45/containers/{name}/start").status == 204
    yield name
    docker("rm", "-f", "-v", SERVER, check=False)


def exists(name: str) -> bool:
    """Whether the engine knows a container of this name."""
    return bool(docker("ps", "-aq", "--filter", f"name=^/{name}$").strip())


def test_the_gate_is_healthy(gate: Gate) -> None:
    """Its health check goes through the gate to the engine."""
    wait_until(lambda: docker("inspect", "-f", "{{.State.Health.Status}}", gate.name).strip() == "healthy")


def test_a_server_lives_through_the_gate(gate: Gate) -> None:
    """The hub can create, start, look at, read, stop and remove a seat's server."""
    created = gate.call(CREATE, gate.document)
    assert created.status == 201, created
    name = json.loads(created.text)["Id"]
    assert gate.call(f"POST /v1.45/containers/{name}/start").status == 204
    inspected = json.loads(gate.call(f"GET /v1.45/containers/{SERVER}/json").text)
    assert inspected["State"]["Running"]
    assert inspected["HostConfig"]["CapDrop"] == ["ALL"]
    wait_until(lambda: "here" in gate.call(f"GET /v1.45/containers/{name}/logs?stdout=True").text)
    assert gate.call(f"POST /v1.45/containers/{name}/stop?t=0").status == 204
    assert gate.call(f"DELETE /v1.45/containers/{name}?v=True&link=False&force=True").status == 204
    assert gate.call(f"GET /v1.45/containers/{SERVER}/json").status == 404
    assert gate.call(f"GET /v1.45/containers/{name}/json").status == 404


ATTACKS: dict[str, dict[str, Any]] = {
    "privileged": {"Privileged": True},
    "privileged in small letters": {"privileged": True},
    "a capability": {"CapAdd": ["SYS_ADMIN"]},
    "the processes of the host": {"PidMode": "host"},
    "the network of the host": {"NetworkMode": "host"},
    "the cgroups of the host": {"CgroupnsMode": "host"},
    "the root of the host": {"Binds": ["/:/host"]},
    "the engine's socket": {"Mounts": [{"Type": "bind", "Source": "/var/run/docker.sock", "Target": "/s"}]},
    "a device": {
        "Devices": [{"PathOnHost": "/dev/kmsg", "PathInContainer": "/k", "CgroupPermissions": "rwm"}]
    },
    "no seccomp": {"SecurityOpt": ["no-new-privileges:true", "seccomp=unconfined"]},
    "unmasked paths": {"MaskedPaths": []},
    "a writable root": {"ReadonlyRootfs": False},
    "no limit of memory": {"Memory": 0},
    "a published port": {"PortBindings": {"8888/tcp": [{"HostPort": "18888"}]}},
}


@pytest.mark.parametrize("wish", ATTACKS)
def test_no_server_is_created_with_more(gate: Gate, wish: str) -> None:
    """A server with a privilege or without a limit is refused, and the engine never hears of it."""
    document = copy.deepcopy(gate.document)
    document["HostConfig"].update(ATTACKS[wish])
    refusal = gate.call(CREATE, document)
    assert refusal.status == 403
    assert refusal.message.startswith("The gate refuses this: HostConfig.")
    assert not exists(SERVER)


@pytest.mark.parametrize(
    "line",
    [
        "GET /containers/json",
        "GET /info",
        "POST /containers/{}/exec",
        "POST /containers/{}/attach",
        "GET /containers/{}/archive?path=/etc/passwd",
        "POST /containers/{}/update",
        "GET /containers/{}/json",
        "GET /containers/{}/logs?stdout=1",
        "POST /containers/{}/kill",
        "POST /containers/{}/stop",
        "DELETE /containers/{}?force=True",
        "POST /build",
        "POST /volumes/create",
        "GET /containers/student3/../{}/json",
        "GET /containers/%2e%2e/json",
        "GET //containers/json",
        "GET /v1.24/containers/json",
    ],
)
def test_other_containers_and_calls_are_out_of_reach(gate: Gate, line: str) -> None:
    """No call reaches a container that is not a seat's server, by whatever name."""
    client = docker("inspect", "-f", "{{.Id}}", gate.client).strip()
    for name in {gate.client, client, client[:12]} if "{}" in line else {""}:
        assert gate.call(line.format(name)).status == 403
    assert docker("inspect", "-f", "{{.State.Running}}", gate.client).strip() == "true"


def test_a_container_without_our_labels_is_not_taken_for_a_server(gate: Gate) -> None:
    """A container that only has the name of a seat's server is out of reach."""
    docker("create", "--name", SERVER, LAB)
    try:
        assert gate.call(f"POST /containers/{SERVER}/start").status == 403
        assert gate.call(f"DELETE /containers/{SERVER}?force=True").status == 403
        assert exists(SERVER)
    finally:
        docker("rm", "-f", SERVER)


def test_a_server_cannot_be_entered(gate: Gate, server: str) -> None:
    """Not even in a seat's server the hub may run commands or fetch files."""
    for line in (
        "POST /containers/{}/exec",
        "POST /containers/{}/attach?stream=1",
        "GET /containers/{}/export",
    ):
        assert gate.call(line.format(server)).status == 403


def test_connections_are_not_upgraded(gate: Gate, server: str) -> None:
    """A connection never becomes a raw stream to the engine."""
    line = f"GET /containers/{server}/logs?stdout=1"
    assert gate.call(line, None, "Upgrade: tcp").status == 403
    assert gate.call("CONNECT /_ping").status in (400, 403)
    assert gate.call("POST /session", None, "Connection: Upgrade", "Upgrade: h2c").status == 403


def test_a_chunked_body_is_read_like_any_other(gate: Gate) -> None:
    """Whichever way a body is sent, the gate sees all of it."""
    good, bad = copy.deepcopy(gate.document), copy.deepcopy(gate.document)
    bad["HostConfig"]["Privileged"] = True
    for document, status in ((bad, 403), (good, 201)):
        body = json.dumps(document).encode()
        pieces = [body[i : i + 100] for i in range(0, len(body), 100)]
        chunks = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"
        head = f"{CREATE} HTTP/1.1\r\nHost: gate\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
        assert answer(gate.raw(head.encode() + chunks, seconds=30)).status == status
    docker("rm", "-f", SERVER)


HIDDEN = b"POST /containers/create?name=evil HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}"
SMUGGLED = {
    "two lengths": b"Content-Length: 4\r\nContent-Length: %d\r\n\r\n" % len(HIDDEN) + HIDDEN,
    "two ways": b"Content-Length: %d\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" % (5 + len(HIDDEN))
    + HIDDEN,
    "unknown way": b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n" + HIDDEN,
    "white space": b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n" + HIDDEN,
    "odd number": b"Content-Length: +4\r\n\r\n0\r\n\r\n" + HIDDEN,
    "odd chunk": b"Transfer-Encoding: chunked\r\n\r\n0x0\r\n\r\n" + HIDDEN,
    "zero byte": b"X: a\x00b\r\nContent-Length: 0\r\n\r\n" + HIDDEN,
    "body of a call without one": b"Content-Length: %d\r\n\r\n" % len(HIDDEN) + HIDDEN,
    "beside": b"Content-Length: 0\r\n\r\n" + HIDDEN,
}


@pytest.mark.parametrize("trick", SMUGGLED)
def test_no_call_is_smuggled_in(gate: Gate, trick: str) -> None:
    """A call that hides in or behind another is seen by the gate, or is none."""
    back = gate.raw(b"GET /_ping HTTP/1.1\r\nHost: gate\r\n" + SMUGGLED[trick], seconds=1)
    statuses = [int(part[:3]) for part in back.split(b"HTTP/1.1 ")[1:]]
    assert statuses, back
    assert statuses[-1] in (400, 403)
    assert not exists("evil")


@pytest.mark.parametrize(
    "data",
    [
        b"\x00\xff" * 100 + b"\r\n\r\n",
        b"GET /_ping\r\n\r\n",
        b"GET /_ping HTTP/1.1\r\n\r\n",
        b"GET /_ping HTTP/2.0\r\nHost: x\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET /_ping HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 200_000 + b"\r\n\r\n",
        b"GET /" + b"a" * 200_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        CREATE.encode() + b" HTTP/1.1\r\nHost: x\r\nContent-Length: 10000000\r\n\r\n" + b" " * 10_000_000,
    ],
)
def test_what_is_not_a_proper_request_is_not_answered_by_the_engine(gate: Gate, data: bytes) -> None:
    """Rubbish and endless heads and bodies end at the gate, which goes on serving others."""
    back = gate.raw(data)
    assert not back or answer(back).status in (400, 403)
    assert gate.call("GET /_ping") == Answer(200, "OK")


def test_only_the_client_itself_is_admitted(gate: Gate) -> None:
    """Another user cannot connect, and one with the client's group is not answered."""
    ping = b"GET /_ping HTTP/1.1\r\nHost: gate\r\nConnection: close\r\n\r\n"
    assert answer(gate.raw(ping)).status == 200
    assert gate.raw(ping, user="1802:1802") == b""
    assert gate.raw(ping, user="2003:2003") == b""
    assert gate.raw(ping, user="1802:1801") == b""
    assert any(line.get("reason") == "user 1802 may not use this socket" for line in gate.log())


def test_a_refusal_is_one_line_without_values(gate: Gate) -> None:
    """The log says who was refused what and why, and no secret of a server."""
    document = copy.deepcopy(gate.document)
    document["HostConfig"]["Privileged"] = True
    gate.call(CREATE, document)
    line = gate.log()[-1]
    assert (line["event"], line["client"], line["method"]) == ("refused", "hub", "POST")
    assert line["path"] == f"/v1.45/containers/create?name={SERVER}"
    assert line["reason"] == "HostConfig.Privileged must be false"
    assert "very-secret" not in json.dumps(gate.log())


def test_a_connection_serves_one_call_after_the_other(gate: Gate) -> None:
    """A refused call does not end the connection, and does not change what comes after it."""
    assert docker("exec", gate.client, "python3", "-c", SERIES).strip() == "(200, 50) (403, 50)"


def test_hundreds_of_long_calls_are_served_at_once(gate: Gate, server: str) -> None:
    """Those who wait for a server keep nobody else waiting, and all of them get their answer."""
    assert docker("exec", gate.client, "python3", "-c", CROWD, server, "300").strip() == "300"


def test_calls_end_when_the_client_goes(gate: Gate, server: str) -> None:
    """A client that goes away leaves no connection to the engine behind."""

    def open_files() -> int:
        return len(docker("exec", gate.name, "sh", "-c", "ls /proc/$(pidof -s python)/fd").split())

    before = open_files()
    docker("exec", gate.client, "python3", "-c", CROWD, server, "50", "leave")
    wait_until(lambda: open_files() <= before)


def test_a_gate_that_starts_again_is_found_at_the_same_place(gate: Gate) -> None:
    """The client needs no restart when the gate had one."""
    docker("restart", "-t", "1", gate.name)
    wait_until(lambda: b" 200 " in gate.raw(b"GET /_ping HTTP/1.1\r\nHost: g\r\nConnection: close\r\n\r\n"))


def test_a_gate_whose_engine_is_gone_ends(gate: Gate, tmp_path: Path) -> None:
    """An engine that was restarted has a new socket: the gate ends, and sees it when it is started again."""
    state = prepared(tmp_path / "state")
    make = "import os, socket; os.umask(0); socket.socket(socket.AF_UNIX).bind('/state/engine.sock')"
    docker("run", "--rm", "--network=none", "-v", f"{state}:/state", image("base"), "python3", "-c", make)
    name = started(f"{PROJECT}-orphan", state, f"{state}/engine.sock")
    try:
        wait_until(lambda: docker("inspect", "-f", "{{.State.Running}}", name).strip() == "false")
        assert (
            "nobody listens" in docker("logs", name, check=True) + Gate(name, "", state).log()[-1]["reason"]
        )
    finally:
        docker("rm", "-f", name)
