"""The doorman and a real proxy: a browser reaches the seat of its pass, by whatever address, and no other."""

import http.client
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT, docker
from wodctl.adapters import configuration
from wodctl.adapters.builder import Builder
from wodctl.adapters.state import DOORMAN
from wodctl.model import seat_pass

sys.path.insert(0, str(ROOT / "images" / "hub"))

from wod_hub.guard import guarded

KEY = "the-key-of-these-tests"
NAME = f"wodtestdoorman-{os.getpid()}"
SEATS = ("student3", "student4")
GONE = "student5"
"""A seat with a route whose server is no more."""

# Stands for a seat's server or the hub: says its name, and the path and headers that it was asked with.
SERVER = """
import json, sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
class Server(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        said = {"name": sys.argv[1], "path": self.path, "headers": dict(self.headers)}
        self.wfile.write(json.dumps(said).encode())
    do_POST = do_GET
ThreadingHTTPServer(("", 8888), Server).serve_forever()
"""


@dataclass(frozen=True)
class Answer:
    """What came back; `said` is what the server behind was asked, if it was asked."""

    status: int
    location: str | None
    said: dict[str, Any]
    text: str


@dataclass(frozen=True)
class House:
    """Proxy, doorman, the servers of two seats, and one in the place of the hub."""

    address: str

    def get(self, path: str, user: str = "", method: str = "GET", **headers: str) -> Answer:
        """Ask with the pass of that user's, with the path byte by byte as it is given."""
        connection = http.client.HTTPConnection(self.address, 8000, timeout=60)
        connection.putrequest(method, path, skip_accept_encoding=True)
        if user:
            connection.putheader("Cookie", f"_xsrf=2; {seat_pass.COOKIE}={pass_of(user)}")
        for name, text in headers.items():
            connection.putheader(name.replace("_", "-"), text)
        connection.endheaders()
        answer = connection.getresponse()
        text = answer.read().decode()
        said = json.loads(text) if text[:1] == "{" else {}
        return Answer(answer.status, answer.getheader("Location"), said, text)


def pass_of(user: str) -> str:
    return seat_pass.issue(KEY, user, time.time() + 600)


def written_by(name: str) -> str:
    """What a container wrote to its standard output and error."""
    done = subprocess.run(["docker", "logs", name], capture_output=True, text=True, check=True)
    return done.stdout + done.stderr


def wait_for_health(name: str) -> None:
    deadline = time.monotonic() + 90
    while docker("inspect", "--format", "{{.State.Health.Status}}", name).strip() != "healthy":
        assert time.monotonic() < deadline, docker("logs", name)
        time.sleep(0.1)


def routes() -> dict[str, Any]:
    """As the hub writes them."""
    found: dict[str, Any] = {"http": {"routers": {}, "services": {}}, "jupyterhub": {"routes": {}}}
    for spec, server in [("/", "hub"), *((f"/user/{seat}/", seat) for seat in (*SEATS, GONE))]:
        bare = f" || Path(`{spec.rstrip('/')}`)" if spec != "/" else ""
        found["http"]["routers"][server] = {
            "rule": f"PathPrefix(`{spec}`){bare}",
            "service": server,
            "entryPoints": ["web"],
        }
        url = f"http://{NAME}-{server}:8888"
        found["http"]["services"][server] = {"loadBalancer": {"servers": [{"url": url}]}}
        found["jupyterhub"]["routes"][server] = {"routespec": spec}
    return guarded(found)


@pytest.fixture(scope="module")
def house() -> Iterator[House]:
    state = Path("/var/lib/wod-tests")
    builder = Builder(ROOT, state, configuration.load(ROOT, state, {}, {})[0])
    builder.build([name for name in builder.missing() if name in ("base", "doorman", "proxy")])
    # Not below the temporary folder of pytest, which is closed to other users.
    folder = Path(f"/tmp/{NAME}")
    (folder / "routes").mkdir(parents=True)
    (folder / "routes" / "hub.yaml").write_text(json.dumps(routes()))
    (folder / "settings.json").write_text(json.dumps({"BRANDING": "Workshops of Ours", "BRANDINGCOLOR": ""}))
    (folder / "seat-key").write_text(KEY + "\n")
    (folder / "seat-key").chmod(0o400)
    os.chown(folder / "seat-key", DOORMAN, DOORMAN)
    closed = [
        "--detach",
        "--read-only",
        "--cap-drop=ALL",
        "--security-opt=no-new-privileges",
        f"--network={NAME}",
    ]
    try:
        docker("network", "create", NAME)
        for server in ("hub", *SEATS):
            name = f"{NAME}-{server}"
            docker("run", *closed, "--name", name, builder.tag("base"), "python3", "-c", SERVER, server)
        docker(
            *("run", *closed, f"--name={NAME}-doorman", "--network-alias=doorman"),
            f"--volume={folder}/seat-key:/run/secrets/seat-key:ro",
            f"--volume={folder}/settings.json:/etc/wod/settings.json:ro",
            builder.tag("doorman"),
        )
        docker(
            *("run", *closed, f"--name={NAME}-proxy", f"--volume={folder}/routes:/var/lib/traefik:ro"),
            builder.tag("proxy"),
        )
        wait_for_health(f"{NAME}-doorman")
        wait_for_health(f"{NAME}-proxy")
        form = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}"
        yield House(docker("inspect", "--format", form, f"{NAME}-proxy").strip())
    finally:
        left = docker("ps", "--all", "--quiet", "--filter", f"name=^{NAME}-").split()
        docker("rm", "--force", *left, check=False)
        docker("network", "rm", NAME, check=False)
        shutil.rmtree(folder)


def test_a_pass_opens_its_own_seat(house: House) -> None:
    """Every method and path of the own seat gets through, and the server does not see the pass."""
    for method, path in [
        ("GET", "/user/student3/lab?a=%2F"),
        ("POST", "/user/student3/api"),
        ("GET", "/user/student3"),
    ]:
        answer = house.get(path, "student3", method)
        assert (answer.status, answer.said["name"], answer.said["path"]) == (200, "student3", path)
        assert answer.said["headers"]["Cookie"] == "_xsrf=2"


def test_where_the_server_is_gone_a_page_says_so_and_tries_again(house: House) -> None:
    """In place of the proxy's bare line; the status tells programs, and who has no pass learns nothing of it."""
    answer = house.get(f"/user/{GONE}/lab", GONE)
    assert answer.status in (502, 504)
    assert "Your workshop does not answer" in answer.text
    assert "Workshops of Ours" in answer.text
    assert 'http-equiv="refresh"' in answer.text
    assert house.get(f"/user/{GONE}/lab", "student3").status == 403


def test_without_another_cookie_the_server_sees_none(house: House) -> None:
    """A pass that was alone leaves no cookie behind."""
    answer = house.get("/user/student3/", Cookie=f"{seat_pass.COOKIE}={pass_of('student3')}")
    assert answer.said["name"] == "student3"
    assert "Cookie" not in answer.said["headers"]


@pytest.mark.parametrize("user", ["", "student3", "student44"])
@pytest.mark.parametrize(
    "path",
    [
        "/user/student4/page.html",
        "/user/student4",
        "/user/student4/",
        "/user/student4/?x=/user/student3/",
        "/user//student4/x",
        "//user/student4/x",
        "/./user/./student4/x",
        "/user/student3/../student4/x",
        "/user/student3/%2e%2e/student4/x",
        "/user/student3/.%2E/student4/x",
        "/user/student3/..%2fstudent4/x",
        "/user/student3%2f../student4/x",
        "/user/student3/%252e%252e/student4/x",
        "/user/student3/..;/student4/x",
        "/user/student3/..\\student4/x",
        "/user/%73tudent4/x",
        "/%75ser/student%34/x",
        "/user%2fstudent4/x",
        "/user/student4%2fx",
        "/user/student4%00/x",
        "/user/student4;/x",
        "/USER/student4/x",
        "/user/Student4/x",
        "/hub/../user/student4/x",
        "http://any/user/student4/x",
    ],
)
def test_no_address_leads_into_anothers_seat(house: House, user: str, path: str) -> None:
    """However the address is written, the server of student4 is not asked without a pass of its own."""
    answer = house.get(path, user)
    assert answer.said.get("name") != "student4"
    # Where it is routed to the own seat or to the hub it is theirs to answer.
    assert answer.status in (400, 403) or answer.said["name"] in ("hub", user)


def test_headers_that_a_browser_invents_change_nothing(house: House) -> None:
    """What the doorman is told of the address comes from the proxy alone."""
    for name in ("X-Forwarded-Uri", "X_Forwarded_Uri", "X-Original-Url", "X-Rewrite-Url"):
        assert house.get("/user/student4/x", "student3", **{name: "/user/student3/x"}).status == 403


def test_a_page_leads_to_the_login(house: House) -> None:
    """A browser that would show the answer is sent to the login of this host; anything else is refused."""
    path = "/user/student4/lab?reset"
    for headers in ({"Accept": "text/html"}, {"Sec-Fetch-Mode": "navigate"}):
        answer = house.get(path, "student3", **headers)
        assert (answer.status, answer.location) == (302, "/hub/login?next=%2Fuser%2Fstudent4%2Flab%3Freset")
    assert house.get(path, "student3", Accept="text/html", Sec_Fetch_Mode="no-cors").status == 403
    assert house.get(path, "student3", "POST", Accept="text/html").status == 403


def test_the_hub_is_open_to_all(house: House) -> None:
    """Nobody needs a pass for the hub, whose pages hand them out."""
    for path in ("/", "/hub/login", "/user/student9/lab"):
        assert house.get(path).said["name"] == "hub"


def test_without_the_doorman_nobody_gets_in(house: House) -> None:
    """While it is away the seats are closed and the hub is not; when it is back they are open again at once."""
    docker("stop", "--time=1", f"{NAME}-doorman")
    try:
        assert house.get("/user/student3/x", "student3").status >= 500
        assert house.get("/hub/login").status == 200
    finally:
        docker("start", f"{NAME}-doorman")
    wait_for_health(f"{NAME}-doorman")
    assert house.get("/user/student3/x", "student3").status == 200


def test_the_proxy_has_nothing_to_complain_of(house: House) -> None:
    """The routes with the doorman before them are read without a warning, at every change of one of them."""
    assert "WRN" not in written_by(f"{NAME}-proxy")


def test_it_is_small_and_has_no_rights(house: House) -> None:
    """The doorman is a user of its own without capabilities, takes less than 32 MiB, and logs no pass."""
    status = docker("exec", f"{NAME}-doorman", "sh", "-c", "cat /proc/$(pidof -s python3)/status")
    assert f"Uid:\t{DOORMAN}\t{DOORMAN}" in status
    assert "CapEff:\t0000000000000000" in status
    stats = ("stats", "--no-stream", "--format", "{{.MemUsage}}", f"{NAME}-doorman")
    used = docker(*stats).split(" / ")[0]
    assert used.endswith("MiB") and float(used.removesuffix("MiB")) < 32, used
    assert written_by(f"{NAME}-doorman") == ""
