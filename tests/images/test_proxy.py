"""The proxy: what it tells and what not, how fast routes are live, and who may ask it."""

import http.client
import json
import os
import time
import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT, docker
from wodctl.adapters import configuration
from wodctl.adapters.builder import Builder
from wodctl.adapters.state import PROXY

# Answers with the headers that it was asked with.
ECHO = """
import json
from http.server import BaseHTTPRequestHandler, HTTPServer
class Echo(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps(dict(self.headers)).encode())
HTTPServer(("", 8888), Echo).serve_forever()
"""


@dataclass(frozen=True)
class Proxy:
    """A proxy with a server behind it, and the folder that the hub would write routes into."""

    name: str
    image: str
    address: str
    server: str
    routes: Path

    def get(self, path: str, port: int = 8000, **headers: str) -> tuple[int, str]:
        connection = http.client.HTTPConnection(self.address, port, timeout=60)
        connection.request(
            "GET", path, headers={name.replace("_", "-"): text for name, text in headers.items()}
        )
        answer = connection.getresponse()
        return answer.status, answer.read().decode()

    def write_route(self, prefix: str) -> None:
        service = {"loadBalancer": {"servers": [{"url": f"http://{self.server}:8888"}]}}
        router = {"rule": f"PathPrefix(`{prefix}`)", "service": "echo", "entryPoints": ["web"]}
        new = self.routes / "hub.new"
        new.write_text(json.dumps({"http": {"services": {"echo": service}, "routers": {"echo": router}}}))
        new.rename(self.routes / "hub.yaml")

    def wait_for_route(self, prefix: str) -> None:
        began = time.monotonic()
        while self.get(prefix)[0] != 200:
            assert time.monotonic() - began < 60, docker("logs", self.name)
            time.sleep(0.01)

    def access_log(self) -> list[dict[str, Any]]:
        lines = docker("logs", self.name).splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]


def address_of(container: str) -> str:
    return docker("inspect", "--format", "{{.NetworkSettings.IPAddress}}", container).strip()


@pytest.fixture(scope="module")
def container(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    state = Path("/var/lib/wod-tests")
    builder = Builder(ROOT, state, configuration.load(ROOT, state, {}, {})[0])
    builder.build([name for name in builder.missing() if name in ("base", "proxy")])
    name, echo = f"wodtestproxy-{os.getpid()}", f"wodtestecho-{os.getpid()}"
    # Not below the temporary folder of pytest, which is closed to other users.
    routes = Path(f"/tmp/{name}")
    routes.mkdir(mode=0o755)
    try:
        docker("run", "--detach", "--name", echo, "--entrypoint=python3", builder.tag("base"), "-c", ECHO)
        docker(
            *[
                "run",
                "--detach",
                "--name",
                name,
                "--read-only",
                "--cap-drop=ALL",
                "--security-opt=no-new-privileges",
            ],
            *["--volume", f"{routes}:/var/lib/traefik:ro", builder.tag("proxy")],
        )
        made = Proxy(name, builder.tag("proxy"), address_of(name), address_of(echo), routes)
        deadline = time.monotonic() + 30
        while docker("inspect", "--format", "{{.State.Health.Status}}", name).strip() != "healthy":
            assert time.monotonic() < deadline, docker("logs", name)
            time.sleep(0.1)
        made.write_route("/echo")
        made.wait_for_route("/echo")
        yield made
    finally:
        docker("rm", "--force", name, echo, check=False)
        for file in routes.iterdir():
            file.unlink()
        routes.rmdir()


def test_it_starts_without_any_route(container: Proxy) -> None:
    """The proxy is healthy before the hub has ever written a route, and answers 404 to the unknown."""
    assert container.get("/nowhere")[0] == 404


def test_a_new_route_is_live_without_a_restart(container: Proxy) -> None:
    """Also when many are written in a row."""
    for number in range(10):
        container.write_route(f"/route{number}")
        container.wait_for_route(f"/route{number}")
    container.write_route("/echo")
    container.wait_for_route("/echo")


def test_the_log_says_who_asked_for_what(container: Proxy) -> None:
    """The access log has the client's address, path and answer of each request, and no query string."""
    query = urllib.parse.urlencode({"code": "very-secret"})
    container.get(f"/echo/path?{query}", Authorization="token very-secret", Cookie="very-secret")
    time.sleep(0.5)
    entry = [
        entry for entry in container.access_log() if entry.get("RequestPath", "").startswith("/echo/path")
    ][-1]
    assert (entry["RequestMethod"], entry["DownstreamStatus"]) == ("GET", 200)
    assert entry["ClientHost"].count(".") == 3
    assert "very-secret" not in docker("logs", container.name)


def test_nobody_can_pretend_another_address(container: Proxy) -> None:
    """Addresses that a client claims are believed neither in the log nor by the servers behind."""
    claimed = "198.51.100.7"
    _, text = container.get(
        "/echo/claim", X_Forwarded_For=claimed, X_Real_Ip=claimed, X_Forwarded_Proto="https"
    )
    seen = json.loads(text)
    assert claimed not in text
    assert seen["X-Forwarded-Proto"] == "http"
    connection = http.client.HTTPConnection(container.address, 8000, timeout=60)
    connection.request("GET", "/echo/claim", headers={"X_Forwarded_For": claimed})
    assert claimed not in connection.getresponse().read().decode()
    time.sleep(0.5)
    assert all(entry.get("ClientHost") != claimed for entry in container.access_log())


def test_its_api_is_closed_without_the_hubs_password(container: Proxy) -> None:
    """Neither port gives away the routes to somebody who has no password."""
    for port in (8000, 8099):
        for path in ("/api/overview", "/api/rawdata", "/dashboard/"):
            assert container.get(path, port, Host="proxy")[0] in (401, 404), (port, path)


def test_it_runs_as_its_own_user(container: Proxy) -> None:
    """The proxy's process belongs to wod-proxy, has no capability and a read-only root file system."""
    status = docker("exec", container.name, "cat", "/proc/1/status")
    assert f"Uid:\t{PROXY}\t{PROXY}" in status
    assert "CapEff:\t0000000000000000" in status


def test_a_route_file_that_is_broken_changes_nothing(container: Proxy) -> None:
    """After half a file the former routes go on answering."""
    (container.routes / "hub.new").write_text('{"http": {"routers"')
    (container.routes / "hub.new").rename(container.routes / "hub.yaml")
    time.sleep(0.5)
    assert container.get("/echo")[0] == 200
    container.write_route("/echo")
