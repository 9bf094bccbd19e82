"""The hub and the services it leans on: who gets in, how a seat's server is closed in, what survives what."""

import base64
import hashlib
import http.client
import http.cookiejar
import json
import os
import re
import shutil
import subprocess
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

import pytest
from websockets.sync.client import ClientConnection, connect

from tests.conftest import ROOT, docker
from wodctl.adapters import configuration
from wodctl.adapters.builder import Builder
from wodctl.adapters.hub import Hub as WorkersHub
from wodctl.adapters.state import DB, DOORMAN, FOLDERS, GATE, HUB, PROXY
from wodctl.model import seat_pass
from wodctl.model.appliance import SeatPlan

PASSWORD = "correct-horse-7"  # noqa: S105
STARTS = 2
TRIED = range(11, 16)
"""Seats for which wrong passwords are given."""
SUBNET = f"10.233.{os.getpid() % 250}.0/24"
SETTINGS = {
    "WODUSERMIN": 1,
    "WODUSERMAX": 20,
    "UIDBASE": 2000,
    "GIDBASE": 2000,
    "WODSEATMEMORY": "1G",
    "WODSEATCPUS": 1.5,
    "WODSEATPIDS": 300,
    "WODSEATSTARTS": STARTS,
    "WODCOOKIEDAYS": 0.17,
    "WODLEASEWARNING": 15,
    "WODBEEXTPROTO": "http",
    "WODBEEXTFQDN": "localhost",
    "WODBEEXTPORT": 8000,
    "WODTLS": "off",
    "seat_origin": "",
    "WODTRUSTEDPROXIES": [],
    "WODAPPLIANCEPRIVILEGES": [],
    "BRANDING": "Grapevine Workshops",
    "BRANDINGWOD": "Grapevine & Friends",
    "BRANDINGURL": "https://grapevine.example",
    "BRANDINGCOLOR": "#ff8300",
    "logo": "data:image/svg+xml;base64,PHN2Zy8+",
}

# What the worker's migrations make, as far as the hub knows of it.
SEATS = """
CREATE SCHEMA wod AUTHORIZATION wod; SET ROLE wod;
CREATE TABLE wod.seat (number int PRIMARY KEY, state text, password_hash text);
CREATE FUNCTION wod.seat_login(name text) RETURNS TABLE (password_hash text)
    LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog AS
    'SELECT s.password_hash FROM wod.seat s WHERE name = ''student'' || s.number AND s.state = ''ready''';
GRANT USAGE ON SCHEMA wod TO hub; GRANT EXECUTE ON FUNCTION wod.seat_login TO hub;
"""


@dataclass(frozen=True)
class Page:
    """What a browser sees after following all redirects."""

    status: int
    path: str
    text: str
    headers: http.client.HTTPMessage

    @property
    def alert(self) -> str:
        """The words of the page's warning."""
        found = re.search(r'role="alert">(.*?)</div>', self.text, re.DOTALL)
        return " ".join(re.sub(r"<[^>]+>", " ", found[1]).split()) if found else ""


def xsrf_of(page: Page) -> str:
    """The word that a login form must send along."""
    found = re.search(r'name="_xsrf" value="([^"]+)"', page.text)
    assert found, page.text
    return found[1]


class Browser:
    """Follows redirects and keeps cookies."""

    def __init__(self, url: str) -> None:
        self._url = url
        self.cookies = http.cookiejar.CookieJar()
        processor = urllib.request.HTTPCookieProcessor(self.cookies)
        self._opener = urllib.request.build_opener(processor)

    def claim(self, address: str) -> None:
        """From now on pretend to hand on the requests of somebody else."""
        self._opener.addheaders += [("X-Forwarded-For", address), ("X-Real-Ip", address)]

    @property
    def cookies_domain(self) -> str:
        """Whom the cookies are for."""
        return str(urllib.parse.urlsplit(self._url).hostname)

    def get(self, path: str, form: dict[str, str] | None = None, accept: str = "text/html") -> Page:
        data = urllib.parse.urlencode(form).encode() if form else None
        request = urllib.request.Request(self._url + path, data, {"Accept": accept})  # noqa: S310
        try:
            with self._opener.open(request, timeout=60) as answer:
                return self._page(answer)
        except urllib.error.HTTPError as error:
            return self._page(error)

    def log_in(self, name: str, password: str) -> Page:
        form = {"_xsrf": xsrf_of(self.get("/hub/login")), "username": name, "password": password}
        return self.get("/hub/login", form)

    @staticmethod
    def _page(answer: Any) -> Page:
        path = urllib.parse.urlsplit(answer.url).path
        return Page(answer.status, path, answer.read().decode(), answer.headers)


@dataclass(frozen=True)
class Hub:
    """A hub with database, gate and proxy of its own, run as the stack runs them."""

    project: str
    state: Path
    images: dict[str, str]

    def container(self, name: str) -> str:
        return f"{self.project}-{name}"

    def seat(self, number: int) -> str:
        return f"{self.project}-student{number}"

    def address(self, name: str) -> str:
        words = [
            "inspect",
            "--format",
            f'{{{{(index .NetworkSettings.Networks "{self.project}_seats").IPAddress}}}}',
        ]
        return docker(*words, self.container(name)).strip()

    @property
    def url(self) -> str:
        """Where participants come in."""
        return f"http://{self.address('proxy')}:8000"

    def browser(self) -> Browser:
        return Browser(self.url)

    @property
    def other_lab(self) -> str:
        """The image of a workshop's own lab."""
        return f"wod/labs/{self.project}:1"

    @property
    def token(self) -> str:
        return (self.state / "secrets" / "admin-token").read_text()

    def call(self, method: str, path: str, token: str = "", body: Any = None) -> tuple[int, Any]:
        """Ask the hub's API, as the worker does unless another token is given."""
        request = urllib.request.Request(
            f"http://{self.address('hub')}:8081/hub/api{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"token {token or self.token}"},
        )
        try:
            with urllib.request.urlopen(request, timeout=120) as answer:  # noqa: S310
                return answer.status, json.loads(answer.read() or b"null")
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def start(self, seat: int) -> int:
        """Status of the start of a seat's server."""
        self.call("POST", f"/users/student{seat}")
        return self.call("POST", f"/users/student{seat}/server")[0]

    def stop(self, seat: int) -> None:
        """End a seat's server; its user stays."""
        while self.call("DELETE", f"/users/student{seat}/server")[0] not in (204, 404):
            time.sleep(0.2)

    def server(self, seat: int, path: str, method: str = "GET", body: bytes | None = None) -> Any:
        """Ask a seat's server through the proxy."""
        request = urllib.request.Request(  # noqa: S310
            f"{self.url}/user/student{seat}{path}",
            method=method,
            data=body,
            headers=self.headers(seat),
        )
        with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
            return json.loads(answer.read())

    def headers(self, seat: int) -> dict[str, str]:
        """What the doorman and the seat's server want to see."""
        key = (self.state / "secrets" / "seat-key").read_text()
        word = seat_pass.issue(key, f"student{seat}", time.time() + 600)
        return {"Authorization": f"token {self.token}", "Cookie": f"{seat_pass.COOKIE}={word}"}

    def sql(self, statement: str) -> None:
        docker(
            *["exec", "--user", f"{DB}:{DB}", self.container("db"), "psql", "--quiet", "--no-psqlrc"],
            *["--set=ON_ERROR_STOP=1", "--username=postgres", "--dbname=wod", f"--command={statement}"],
        )

    def run_hub(self) -> None:
        docker("rm", "--force", self.container("hub"), check=False)
        self.run(
            "hub",
            *["--network-alias=hub", "--tmpfs=/tmp", "--env=DOCKER_HOST=unix:///run/gate/docker.sock"],
            *["--volume", f"{self.project}_routes:/var/lib/traefik"],
            *["--volume", f"{self.state}/secrets:/run/secrets:ro"],
            *["--volume", f"{self.state}/run/gate/hub:/run/gate"],
            *["--volume", f"{self.state}/run/db:/run/postgresql", "--group-add=1808"],
            *["--volume", f"{self.state}/run/logins:/var/log/wod"],
        )

    def run(self, name: str, *options: str, network: str = "") -> None:
        """Start a service with what all of them have in common."""
        docker(
            *["run", "--detach", "--name", self.container(name), "--read-only", "--cap-drop=ALL"],
            *["--security-opt=no-new-privileges", f"--network={network or self.project + '_seats'}"],
            *["--env", f"WOD_PROJECT={self.project}", "--env", f"WOD_STATE={self.state}"],
            *["--env", f"WOD_LABS=lab={self.images['lab']} other={self.other_lab}"],
            *(["--env", f"WOD_PROXY_ADDRESS={self.address('proxy')}"] if name == "hub" else []),
            *["--env", f"WOD_SEAT_SUBNET={SUBNET}", "--env", f"WOD_COMPILER_IMAGE={self.images['lab']}"],
            *["--env", f"WOD_EXPORT_IMAGE={self.images['lab']}"],
            *["--volume", f"{self.state}/settings.json:/etc/wod/settings.json:ro"],
            *[*options, self.images[name]],
        )

    def wait_until_healthy(self, *names: str) -> None:
        deadline = time.monotonic() + 90
        for name in names:
            word = ["inspect", "--format", "{{.State.Health.Status}}", self.container(name)]
            while docker(*word).strip() != "healthy":
                assert time.monotonic() < deadline, docker("logs", self.container(name))
                time.sleep(0.2)

    def wait_until_api_answers(self) -> None:
        deadline = time.monotonic() + 60
        while True:
            try:
                if self.call("GET", "/")[0] == 200:
                    return
            except OSError:
                assert time.monotonic() < deadline, docker("logs", self.container("hub"))
            time.sleep(0.1)


def exists(container: str) -> bool:
    return bool(docker("ps", "--all", "--quiet", "--filter", f"name=^{container}$").strip())


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    state = Path("/var/lib/wod-tests")
    builder = Builder(ROOT, state, configuration.load(ROOT, state, {}, {})[0])
    names = ["db", "doorman", "gate", "hub", "lab", "proxy"]
    builder.build([name for name in builder.missing() if name in names])
    # The path of a socket is known to the kernel in at most 108 characters.
    folder = Path(f"/tmp/wodtesthub-{os.getpid()}")
    made = Hub(f"wodtesthub{os.getpid()}", folder, {name: builder.tag(name) for name in names})
    prepare(folder)
    try:
        docker("network", "create", f"--subnet={SUBNET}", f"{made.project}_seats")
        docker("tag", made.images["lab"], made.other_lab)
        database = [
            f"--volume={folder}/run/db:/run/postgresql",
            "--group-add=1808",
            f"--volume={folder}/data/db:/var/lib/postgresql/data",
        ]
        made.run("db", *database, "--tmpfs=/tmp", "--tmpfs=/var/lib/extrausers:mode=1777", network="none")
        group = os.stat("/var/run/docker.sock").st_gid
        sockets = [
            f"--volume={folder}/run/gate:/run/gate",
            "--volume=/var/run/docker.sock:/var/run/docker.sock",
        ]
        made.run("gate", f"--group-add={group}", *sockets, network="none")
        device = ["--opt=type=none", "--opt=o=bind", f"--opt=device={folder}/data/routes"]
        docker("volume", "create", *device, f"{made.project}_routes")
        made.run("proxy", "--network-alias=proxy", f"--volume={made.project}_routes:/var/lib/traefik:ro")
        key = f"--volume={folder}/doorman:/run/secrets:ro"
        made.run("doorman", "--network-alias=doorman", key)
        made.wait_until_healthy("db", "doorman", "gate", "proxy")
        made.run_hub()
        made.wait_until_healthy("hub")
        made.sql(SEATS)
        hashing = f"from wodctl.model.seat import password_hash as h; print(h({PASSWORD!r}))"
        stored = docker("exec", made.container("hub"), "python", "-c", hashing).strip()
        made.sql(
            "INSERT INTO wod.seat VALUES"
            f"(1, 'ready', '{stored}'), (2, 'ready', '{stored}'), (3, 'cleaning', '{stored}'),"
            f"(4, 'ready', NULL), (21, 'ready', '{stored}'),"
            + ", ".join(f"({n}, 'ready', '{stored}')" for n in TRIED)
        )
        yield made
    finally:
        left = docker("ps", "--all", "--quiet", "--filter", f"name=^{made.project}-").split()
        docker("rm", "--force", "--volumes", *left, check=False)
        docker("network", "rm", f"{made.project}_seats", check=False)
        docker("volume", "rm", f"{made.project}_routes", check=False)
        docker("image", "rm", made.other_lab, check=False)
        shutil.rmtree(folder)


def prepare(folder: Path) -> None:
    """The state directory that these services need, owned as `wodctl up` does it."""
    for owned in FOLDERS:
        (folder / owned.path).mkdir(parents=True)
        (folder / owned.path).chmod(owned.mode)
        os.chown(folder / owned.path, owned.uid, owned.gid)
    folder.chmod(0o711)
    (folder / "settings.json").write_text(json.dumps(SETTINGS))
    (folder / "secrets").chmod(0o755)
    for name in ("admin-token", "cookie-secret", "proxy-password", "seat-key"):
        secret = folder / "secrets" / name
        secret.write_text(uuid.uuid4().hex * 2)
        secret.chmod(0o400)
        os.chown(secret, HUB, HUB)
    (folder / "doorman").mkdir()
    shutil.copy(folder / "secrets" / "seat-key", folder / "doorman")
    os.chown(folder / "doorman" / "seat-key", DOORMAN, DOORMAN)
    for seat in range(1, 16):
        home = folder / "data" / "students" / f"student{seat}"
        home.mkdir(mode=0o700)
        os.chown(home, 2000 + seat, 2000 + seat)


@pytest.fixture
def seat_one(hub: Hub) -> Iterator[dict[str, Any]]:
    """The running server of seat 1, as the engine sees it."""
    assert hub.start(1) == 201
    yield json.loads(docker("inspect", hub.seat(1)))[0]
    hub.call("DELETE", "/users/student1")


# --- who gets in ---


def test_a_participant_lands_in_jupyterlab(hub: Hub, seat_one: dict[str, Any]) -> None:
    """With the right password, whatever his phone made of the name, a participant is in his JupyterLab."""
    for name in ("student1", " Student1 "):
        page = hub.browser().log_in(name, PASSWORD)
        assert (page.status, page.path) == (200, "/user/student1/lab")


@pytest.mark.parametrize(
    ("name", "password"),
    [
        ("student1", "wrong"),
        ("student1", ""),
        ("student3", PASSWORD),
        ("student4", PASSWORD),
        ("student5", PASSWORD),
        ("student21", PASSWORD),
        ("student01", PASSWORD),
        ("root", PASSWORD),
        ("student1' OR '1'='1", PASSWORD),
        ("stüdent1", PASSWORD),
    ],
)
def test_nobody_else_gets_in(hub: Hub, name: str, password: str) -> None:
    """A wrong password, a seat that is not ready or none of ours: all get the same helpful refusal."""
    page = hub.browser().log_in(name, password)
    assert page.status == 403
    assert page.path == "/hub/login"
    assert "If the time of your workshop is over" in page.alert


def test_unknown_users_cost_the_same_work(hub: Hub) -> None:
    """How long a refusal takes does not tell whether the seat is taken."""

    def seconds(name: str) -> float:
        browser = hub.browser()
        browser.get("/hub/login")
        began = time.monotonic()
        assert browser.log_in(name, "wrong").status == 403
        return time.monotonic() - began

    # The fastest of some, in turns: what else the machine does only adds. No more than may be tried freely.
    pairs = [("student11", "student9")] * 4 + [("student12", "student10")] * 4
    spent = [(seconds(taken), seconds(free)) for taken, free in pairs]
    taken, free = (min(times) for times in zip(*spent, strict=True))
    print(f"taken {taken:.4f} s, free {free:.4f} s")
    assert 0.5 < taken / free < 2


def test_a_free_seats_check_is_as_hard_as_a_taken_ones(hub: Hub) -> None:
    """What unknown names are compared with was hashed as the worker hashes passwords."""
    script = (
        "from argon2 import extract_parameters as p; from wod_hub.authenticator import SeatAuthenticator as A; "
        "from wodctl.model.seat import password_hash as h; print(p(A._nobody) == p(h('x')))"
    )
    assert docker("exec", hub.container("hub"), "python", "-c", script).strip() == "True"


def test_a_crowd_of_wrong_logins_locks_nobody_out(hub: Hub, seat_one: dict[str, Any]) -> None:
    """Whoever gives 150 wrong passwords at once is answered, and a right one is let in within seconds."""
    names = [f"student{2 + i % 9}" if i % 9 else f"nobody{i}" for i in range(150)]
    browsers = [hub.browser() for _ in names]
    for browser in browsers:
        browser.get("/hub/login")
    right = hub.browser()
    began = time.monotonic()
    with ThreadPoolExecutor(len(names)) as pool:
        wrong = [pool.submit(b.log_in, name, "wrong") for b, name in zip(browsers, names, strict=True)]
        time.sleep(0.2)
        page, tries = right.log_in("student1", PASSWORD), 1
        while page.status == 429:
            assert "in a few seconds" in page.alert
            time.sleep(1)
            page, tries = right.log_in("student1", PASSWORD), tries + 1
        let_in = time.monotonic() - began
        statuses = [attempt.result().status for attempt in wrong]
    answered = time.monotonic() - began
    print(f"let in after {let_in:.2f} s ({tries} tries), all answered after {answered:.2f} s")
    assert page.path == "/user/student1/lab"
    assert set(statuses) <= {403, 429} and statuses.count(429) > 50
    assert let_in < 25


# 150 logins in one moment, each of another place, while a check takes a while.
QUEUE = """
import asyncio, time
from types import SimpleNamespace as Some
from tornado.web import HTTPError
from wod_hub.authenticator import SeatAuthenticator
class Slow(SeatAuthenticator):
    def _is_right(self, name, password):
        time.sleep(0.01)
        return password == "right"
async def attempt(door, number):
    began = time.monotonic()
    context = Some(address=("192.0.2.1", 1))
    headers = {"X-Forwarded-For": f"198.51.100.{number}"}
    request = Some(headers=headers, connection=Some(context=context))
    try:
        await door.authenticate(Some(request=request), {"username": "student1", "password": "right"})
        return "in"
    except HTTPError as error:
        return f"{error.status_code} {'at once' if time.monotonic() - began < 0.1 else 'late'}"
async def crowd():
    door = Slow()
    answers = await asyncio.gather(*(attempt(door, number) for number in range(150)))
    answers += [await attempt(door, 1)]
    print(sorted((answer, answers.count(answer)) for answer in set(answers)))
asyncio.run(crowd())
"""


def test_no_more_than_a_hundred_logins_wait(hub: Hub) -> None:
    """Those beyond are told at once to come again, and when the others are through there is room again."""
    said = docker("exec", hub.container("hub"), "python", "-c", QUEUE).strip()
    assert said == "[('429 at once', 50), ('in', 101)]"


def test_wrong_passwords_make_a_place_pause(hub: Hub) -> None:
    """After five wrong passwords for a seat its next one is not looked at for a while, and then it is."""
    answers = [hub.browser().log_in("student15", "wrong").status for _ in range(6)]
    assert answers == [403] * 5 + [429]
    page = hub.browser().log_in("student15", PASSWORD)
    assert page.status == 429
    assert "Too many wrong passwords for this user name" in page.alert
    assert 'name="password"' in page.text
    # Others at the same place, and the same seat from elsewhere: not by the proxy, so from another address.
    assert hub.browser().log_in("student14", "wrong").status == 403
    directly = Browser(f"http://{hub.address('hub')}:8081")
    assert directly.log_in("student15", "wrong").status == 403
    time.sleep(2.1)
    assert hub.browser().log_in("student15", "wrong").status == 403


def test_a_seat_cannot_make_others_pause(hub: Hub) -> None:
    """Who reaches the hub without the proxy and claims the address of a participant stops only himself."""
    form = Browser(f"http://{hub.address('hub')}:8081")
    here = docker(
        "network", "inspect", "--format", "{{(index .IPAM.Config 0).Gateway}}", f"{hub.project}_seats"
    )
    form.claim(here.strip())
    answers = [form.log_in("student13", "wrong").status for _ in range(6)]
    assert answers[-1] == 429
    assert hub.browser().log_in("student13", "wrong").status == 403


def test_a_database_that_is_away_is_said_on_the_login_page(hub: Hub, seat_one: dict[str, Any]) -> None:
    """While the database is away the login page says so, and when it is back everything goes on."""
    docker("stop", hub.container("db"))
    try:
        page = hub.browser().log_in("student1", PASSWORD)
        assert page.status == 503
        assert "try again in a minute" in page.alert
        assert 'name="password"' in page.text
    finally:
        docker("start", hub.container("db"))
        hub.wait_until_healthy("db")
    assert hub.browser().log_in("student1", PASSWORD).path == "/user/student1/lab"
    assert hub.call("GET", "/users/student1")[1]["servers"][""]["ready"]


def test_only_seats_can_be_users(hub: Hub) -> None:
    """The API makes no user who is not a seat of this backend."""
    for name in ("admin", "student0", "student21", "student1x"):
        assert hub.call("POST", f"/users/{name}")[0] == 400, name


def test_a_login_lasts_as_long_as_the_site_says(hub: Hub, seat_one: dict[str, Any]) -> None:
    """The login cookie ends after WODCOOKIEDAYS."""
    connection = http.client.HTTPConnection(hub.address("proxy"), 8000, timeout=60)
    connection.request("GET", "/hub/login")
    answer = connection.getresponse()
    xsrf = re.search(r'name="_xsrf" value="([^"]+)"', answer.read().decode())
    assert xsrf
    cookies = "; ".join(line.split(";")[0] for line in answer.headers.get_all("Set-Cookie", []))
    form = urllib.parse.urlencode({"_xsrf": xsrf[1], "username": "student1", "password": PASSWORD})
    headers = {"Cookie": cookies, "Content-Type": "application/x-www-form-urlencoded"}
    connection.request("POST", "/hub/login", form, headers)
    given = [
        line
        for line in connection.getresponse().headers.get_all("Set-Cookie", [])
        if "jupyterhub-hub-login" in line
    ]
    expires = re.search(r"expires=([^;]+)", given[0])
    assert expires and "HttpOnly" in given[0]
    left = time.mktime(time.strptime(expires[1], "%a, %d %b %Y %H:%M:%S GMT")) - time.mktime(time.gmtime())
    assert left == pytest.approx(0.17 * 86400, abs=120)


def test_a_participant_sees_nobody_else(hub: Hub, seat_one: dict[str, Any]) -> None:
    """A participant can neither list users, nor look into another seat's server, nor start it."""
    browser = hub.browser()
    browser.log_in("student1", PASSWORD)
    assert hub.start(2) == 201
    try:
        assert browser.get("/hub/api/users").status == 403
        assert browser.get("/user/student2/api/contents", accept="*/*").status in (403, 404)
        assert browser.get("/hub/spawn/student2").status in (403, 404)
        assert browser.get("/hub/admin").status in (403, 404)
    finally:
        hub.call("DELETE", "/users/student2")


def test_a_servers_token_is_good_for_its_seat_only(hub: Hub, seat_one: dict[str, Any]) -> None:
    """With the token that a participant finds in his kernel's environment nothing can be had of the hub."""
    own = token_of(hub, 1)
    assert hub.call("GET", "/user", own)[1]["name"] == "student1"
    for method, path in [("GET", "/users"), ("POST", "/users/student2"), ("POST", "/users/student1/tokens")]:
        assert hub.call(method, path, own)[0] in (403, 404), path


def test_metrics_are_not_public(hub: Hub) -> None:
    """The hub tells nobody without a token how it is doing."""
    assert hub.browser().get("/hub/metrics").status == 403


def test_a_login_opens_the_own_seat_only(hub: Hub, seat_one: dict[str, Any]) -> None:
    """Who is logged in as student1 gets the login instead of student2's page, and with it student2's seat."""
    assert hub.start(2) == 201
    try:
        browser = hub.browser()
        assert browser.log_in("student1", PASSWORD).path == "/user/student1/lab"
        page = browser.get("/user/student2/lab")
        assert (page.status, page.path) == (200, "/hub/login")
        assert 'name="password"' in page.text
        # His own name and password lead him home and not round in a circle.
        form = {"_xsrf": xsrf_of(page), "username": "student1", "password": PASSWORD}
        assert browser.get("/hub/login?next=%2Fuser%2Fstudent2%2Flab", form).path == "/user/student1/lab"
        page = browser.get("/user/student2/lab")
        form = {"_xsrf": xsrf_of(page), "username": "student2", "password": PASSWORD}
        assert browser.get("/hub/login?next=%2Fuser%2Fstudent2%2Flab", form).path == "/user/student2/lab"
        # The pass of the former seat is gone.
        assert browser.get("/user/student1/lab", accept="*/*").status == 403
    finally:
        hub.call("DELETE", "/users/student2")


def test_the_pass_is_the_browsers_alone(hub: Hub, seat_one: dict[str, Any]) -> None:
    """No script can read the pass, no other site's page sends it along, and logging out takes it back."""
    browser = hub.browser()
    browser.log_in("student1", PASSWORD)
    (cookie,) = [cookie for cookie in browser.cookies if cookie.name == seat_pass.COOKIE]
    assert cookie.path == "/" and not cookie.secure
    assert cookie.has_nonstandard_attr("HttpOnly")
    assert cookie.get_nonstandard_attr("SameSite") == "Lax"
    assert cookie.expires is not None
    assert abs(cookie.expires - time.time() - SETTINGS["WODCOOKIEDAYS"] * 86400) < 60
    browser.get("/hub/logout")
    assert not [cookie for cookie in browser.cookies if cookie.name == seat_pass.COOKIE]


def test_a_lost_pass_is_given_again(hub: Hub, seat_one: dict[str, Any]) -> None:
    """Who is logged in at the hub but has no pass any more gets a new one without being asked."""
    browser = hub.browser()
    browser.log_in("student1", PASSWORD)
    browser.cookies.clear(browser.cookies_domain, "/", seat_pass.COOKIE)
    assert browser.get("/user/student1/lab").path == "/user/student1/lab"


# --- pages ---


def test_pages_are_the_sites_own(hub: Hub) -> None:
    """The login page carries the site's names, loads nothing from elsewhere and can be read by a phone."""
    page = hub.browser().get("/")
    assert page.path == "/hub/login"
    assert "Grapevine Workshops" in page.text and "Grapevine &amp; Friends" in page.text
    loaded = re.findall(r'<(?:link|script|img)\b[^>]*?(?:href|src)="([^"]+)"', page.text)
    assert loaded.count(SETTINGS["logo"]) == 2  # in the page, and in the browser's tab
    ours = [source for source in loaded if source != SETTINGS["logo"]]
    assert ours and all(source.startswith("/hub/") for source in ours)
    assert all(hub.browser().get(source).status == 200 for source in ours)
    assert 'name="viewport"' in page.text
    assert "JupyterHub" not in page.text
    policy = page.headers["Content-Security-Policy"]
    style = re.search(r"<style>(:root\{--accent:#[0-9a-f]{6};.*)</style>", page.text)
    digest = base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
    assert f"style-src 'self' 'sha256-{digest}';" in policy
    assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy and "unsafe" not in policy


def test_a_participant_whose_login_is_over_is_told_so(hub: Hub) -> None:
    """Whoever comes to a seat without a login is told that it may have ended with the workshop."""
    page = hub.browser().get("/user/student2/lab")
    assert page.path == "/hub/login"
    assert "Your session is over" in page.text and "https://grapevine.example" in page.text


@pytest.mark.parametrize("path", ["/hub/home", "/hub/token", "/hub/nowhere", "/user/student2/lab"])
def test_every_page_is_dressed(hub: Hub, seat_one: dict[str, Any], path: str) -> None:
    """No page of the hub is left in the looks of the original."""
    browser = hub.browser()
    browser.log_in("student1", PASSWORD)
    page = browser.get(path)
    assert "Grapevine Workshops" in page.text and "JupyterHub" not in page.text
    assert "<style>:root{--accent:#" in page.text and SETTINGS["logo"] in page.text


def test_the_window_of_jupyterlab_is_called_as_the_site(hub: Hub, seat_one: dict[str, Any]) -> None:
    """The name that JupyterLab puts behind each notebook's in the title of the page."""
    browser = hub.browser()
    page = browser.log_in("student1", PASSWORD)
    assert page.path == "/user/student1/lab"
    assert '"appName": "Grapevine Workshops"' in page.text


# --- servers ---


def test_a_server_is_closed_in(hub: Hub, seat_one: dict[str, Any]) -> None:
    """A seat's container has the seat's identity and home, the site's limits, and nothing else."""
    config, host = seat_one["Config"], seat_one["HostConfig"]
    assert (config["User"], config["Hostname"], config["WorkingDir"]) == (
        "2001:2001",
        "student1",
        "/student/student1",
    )
    assert config["Labels"].items() >= {"wod.project": hub.project, "wod.seat": "1"}.items()
    assert (host["Memory"], host["MemorySwap"]) == (2**30, 2**30)
    assert host["CpuShares"] == 16
    assert (host["CpuQuota"], host["CpuPeriod"], host["PidsLimit"]) == (150_000, 100_000, 300)
    assert host["CapDrop"] == ["ALL"] and not host["CapAdd"] and not host["Privileged"]
    assert host["SecurityOpt"] == ["no-new-privileges:true"]
    assert host["ReadonlyRootfs"] and host["AutoRemove"]
    assert host["LogConfig"] == {"Type": "json-file", "Config": {"max-size": "1m", "max-file": "2"}}
    assert [(mount["Type"], mount["Source"], mount["Destination"]) for mount in seat_one["Mounts"]] == [
        ("bind", f"{hub.state}/data/students/student1", "/student/student1")
    ]
    assert list(seat_one["NetworkSettings"]["Networks"]) == [f"{hub.project}_seats"]
    assert not host["PortBindings"]


def test_a_participant_gets_the_lab_of_his_workshop_and_cannot_choose(hub: Hub) -> None:
    """Whom the worker put into a lab's group has it, at each start; whoever asks for one himself is refused."""
    try:
        assert hub.start(2) == 201
        token = token_of(hub, 2)
        assert hub.call("POST", "/groups/lab-other", token)[0] in (403, 404)
        hub.stop(2)
        refused, _ = hub.call("POST", "/users/student2/server", token, body={"image": hub.other_lab})
        assert refused in (400, 403) and not exists(hub.seat(2))
        assert hub.start(2) == 201 and _image(hub.seat(2)) == hub.images["lab"]
        hub.call("DELETE", "/users/student2")

        worker = WorkersHub(hub.token, "", api=f"http://{hub.address('hub')}:8081/hub/api", proxy=hub.url)
        for _ in range(2):
            worker.start_server("student2", "other")
            assert _image(hub.seat(2)) == hub.other_lab
            hub.stop(2)
        assert hub.start(2) == 201 and _image(hub.seat(2)) == hub.other_lab
        # The next participant of that seat has a workshop of his own.
        worker.ensure_absent("student2")
        assert hub.start(2) == 201 and _image(hub.seat(2)) == hub.images["lab"]
    finally:
        hub.call("DELETE", "/users/student2")


def _image(container: str) -> str:
    return docker("inspect", "--format={{.Config.Image}}", container).strip()


def test_a_server_knows_no_secret_of_ours(hub: Hub, seat_one: dict[str, Any]) -> None:
    """A server's container is made with no secret, not even its own token, and nothing of how the site is built."""
    environment = "\n".join(seat_one["Config"]["Env"])
    assert "API_TOKEN" not in environment
    for name in ("admin-token", "cookie-secret", "proxy-password", "seat-key"):
        assert (hub.state / "secrets" / name).read_text() not in environment, name
    assert (
        "docker.sock" not in environment
        and str(hub.state) not in environment
        and "postgresql" not in environment
    )


ASK = """
import http.client, sys
hub = http.client.HTTPConnection("hub", 8081, timeout=60)
headers = {"Forwarded": f"for={sys.argv[1]}"} | dict.fromkeys(["X-Forwarded-For", "X-Real-Ip"], sys.argv[1])
hub.request("GET", "/hub/seat-token", headers=headers if sys.argv[1] else {})
answer = hub.getresponse()
print(answer.status, answer.read().decode())
"""


def test_a_servers_token_is_told_to_its_address_alone_and_while_it_starts(hub: Hub) -> None:
    """Neither a neighbour, nor the proxy, nor a header gets it; the server does, and nobody sees it in passing."""
    address = SeatPlan(hub.project, IPv4Network(SUBNET), 1, 20, 2000, 2000).seat_address(8)
    in_its_place = ["run", "--rm", f"--network=container:{hub.seat(8)}", "--entrypoint=python3"]

    def told_to_itself() -> str:
        return docker(*in_its_place, hub.images["lab"], "-c", ASK, "").strip()

    def starting(pool: ThreadPoolExecutor) -> Future[int]:
        """A start that has come as far as its container and no further."""
        start = pool.submit(hub.start, 8)
        wait_until(lambda: docker("pause", hub.seat(8), check=False).strip() == hub.seat(8))
        assert not start.done()
        return start

    assert hub.start(2) == 201
    told = []
    try:
        for _ in range(2):
            with ThreadPoolExecutor(1) as pool:
                start = starting(pool)
                try:
                    assert address in docker("inspect", hub.seat(8))
                    told.append(told_to_itself())
                    for claim in (address, ""):
                        said = docker("exec", hub.seat(2), "python3", "-c", ASK, claim)
                        assert said.startswith("403 "), said
                    browser = hub.browser()
                    browser.claim(address)
                    page = browser.get("/hub/seat-token")
                    assert page.status == 403 and page.text not in told
                    directly = Browser(f"http://{hub.address('hub')}:8081")
                    directly.claim(address)
                    assert directly.get("/hub/seat-token").status == 403
                finally:
                    docker("unpause", hub.seat(8))
                assert start.result() == 201
            assert told_to_itself().startswith("403 ")
            assert told[-1] == f"200 {token_of(hub, 8)}"
            token = told[-1].removeprefix("200 ")
            assert len(token) >= 32 and hub.call("GET", "/user", token)[1]["name"] == "student8"
            seen = [docker("inspect", hub.seat(8)), docker("top", hub.seat(8), "-eo", "pid,args")]
            seen += [log_of(hub, "1h", container) for container in (hub.seat(8), hub.container("hub"))]
            assert not [text for text in seen if token in text]
            hub.stop(8)
        first, second = (said.removeprefix("200 ") for said in told)
        assert first != second and hub.call("GET", "/user", first)[0] == 403
    finally:
        for seat in (2, 8):
            hub.call("DELETE", f"/users/student{seat}")


def test_a_server_is_ready_when_the_start_is_answered(hub: Hub) -> None:
    """When the API has answered 201 the server can be reached through the proxy at once."""
    for seat in (5, 6, 7):
        assert hub.start(seat) == 201
        assert "version" in hub.server(seat, "/api")
        assert hub.call("DELETE", f"/users/student{seat}")[0] == 204
        assert not exists(hub.seat(seat))


def test_servers_start_a_few_at_a_time(hub: Hub) -> None:
    """No more than WODSEATSTARTS servers start at the same time; the others wait and none fails."""
    seats, most, done = range(5, 12), 0, threading.Event()

    def watch() -> None:
        nonlocal most
        while not done.is_set():
            running = set(
                docker("ps", "--format", "{{.Names}}", "--filter", f"name=^{hub.project}-student").split()
            )
            answering = {hub.seat(seat) for seat in seats if hub_says_ready(hub, seat)}
            most = max(most, len(running - answering))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        with ThreadPoolExecutor(len(seats)) as pool:
            statuses = list(pool.map(hub.start, seats))
    finally:
        done.set()
        watcher.join()
        with ThreadPoolExecutor(len(seats)) as pool:
            list(pool.map(lambda seat: hub.call("DELETE", f"/users/student{seat}"), seats))
    assert set(statuses) == {201}
    # One may just have answered that the watcher saw running before.
    assert 1 <= most <= STARTS + 1


def hub_says_ready(hub: Hub, seat: int) -> bool:
    status, user = hub.call("GET", f"/users/student{seat}")
    return status == 200 and any(server["ready"] for server in user["servers"].values())


def test_logging_out_stops_the_server(hub: Hub) -> None:
    """Logging out stops the server, and logging in again starts it."""
    assert hub.start(1) == 201
    browser = hub.browser()
    browser.log_in("student1", PASSWORD)
    assert browser.get("/hub/logout").path == "/hub/login"
    wait_until(lambda: not exists(hub.seat(1)))
    assert browser.get("/user/student1/lab").path == "/hub/login"
    browser.log_in("student1", PASSWORD)
    wait_until(lambda: browser.get("/hub/").path == "/user/student1/lab")
    hub.call("DELETE", "/users/student1")


def test_a_deleted_user_is_logged_out(hub: Hub) -> None:
    """When the worker deletes a seat's user, the login in the participant's browser is worth nothing."""
    assert hub.start(1) == 201
    browser = hub.browser()
    assert browser.log_in("student1", PASSWORD).path == "/user/student1/lab"
    assert hub.call("DELETE", "/users/student1")[0] == 204
    assert hub.start(1) == 201
    assert browser.get("/user/student1/lab").path == "/hub/login"
    hub.call("DELETE", "/users/student1")


def test_a_server_that_died_can_be_started_again(hub: Hub, seat_one: dict[str, Any]) -> None:
    """After a server was killed the next start gives a new one at once."""
    docker("kill", hub.seat(1))
    wait_until(lambda: not exists(hub.seat(1)))
    assert hub.start(1) == 201
    assert "version" in hub.server(1, "/api")


def test_a_home_that_is_missing_is_not_invented(hub: Hub) -> None:
    """Without the seat's home its server does not start, and nothing is left of the attempt."""
    assert hub.start(17) == 500
    assert not exists(hub.seat(17))
    assert not (hub.state / "data" / "students" / "student17").exists()
    hub.call("DELETE", "/users/student17")


def test_a_seat_that_the_site_gave_up_can_be_cleared_away(hub: Hub) -> None:
    """A server beyond a lowered WODUSERMAX is known, stopped and removed, and no log is frightened by it."""
    assert hub.start(12) == 201
    try:
        restart_with(hub, SETTINGS | {"WODUSERMAX": 10})
        since = docker("inspect", "--format", "{{.State.StartedAt}}", hub.container("hub")).strip()
        assert hub_says_ready(hub, 12)
        assert exists(hub.seat(12))
        assert hub.call("DELETE", "/users/student12")[0] == 204
        assert not exists(hub.seat(12))
        said = log_of(hub, since)
        assert "student12 is not a seat of this backend any more" in said
        assert "Traceback" not in said, said
        assert hub.call("POST", "/users/student11")[0] == 400
    finally:
        restart_with(hub, SETTINGS)


def log_of(hub: Hub, since: str, container: str = "") -> str:
    """What the hub, or another container, has written."""
    words = ["docker", "logs", "--since", since, container or hub.container("hub")]
    return subprocess.run(
        words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=True
    ).stdout


def restart_with(hub: Hub, settings: dict[str, Any]) -> None:
    (hub.state / "settings.json").write_text(json.dumps(settings))
    docker("restart", hub.container("gate"))
    hub.wait_until_healthy("gate")
    docker("restart", hub.container("hub"))
    hub.wait_until_api_answers()


# --- restarts ---


def test_a_restart_of_the_hub_disconnects_nobody(hub: Hub, seat_one: dict[str, Any]) -> None:
    """A kernel's websocket works while the hub is away and after, and the hub knows the server again."""
    kernel = hub.server(1, "/api/kernels", "POST", b'{"name": "python3"}')["id"]
    url = f"ws://{hub.address('proxy')}:8000/user/student1/api/kernels/{kernel}/channels"
    with connect(url, additional_headers=hub.headers(1)) as channels:
        assert run_cell(channels, "x = 1; print(x)") == "1\n"
        docker("kill", hub.container("hub"))
        assert run_cell(channels, "x += 1; print(x)") == "2\n"
        docker("start", hub.container("hub"))
        hub.wait_until_api_answers()
        assert run_cell(channels, "x += 1; print(x)") == "3\n"
        wait_until(lambda: hub_says_ready(hub, 1))
    assert json.loads(docker("inspect", hub.seat(1)))[0]["Id"] == seat_one["Id"]
    assert hub.browser().log_in("student1", PASSWORD).path == "/user/student1/lab"


@pytest.mark.parametrize("seconds", [0.1, 0.3, 0.6])
def test_a_start_that_the_hub_did_not_finish_leaves_nothing_behind(hub: Hub, seconds: float) -> None:
    """Whenever the hub dies within a start, the server can be started and removed when it is back."""
    hub.call("POST", "/users/student8")
    with ThreadPoolExecutor(1) as pool:
        attempt = pool.submit(hub.call, "POST", "/users/student8/server")
        time.sleep(seconds)
        docker("kill", hub.container("hub"))
        assert attempt.exception() is not None or attempt.result()[0] == 201
    docker("start", hub.container("hub"))
    hub.wait_until_api_answers()
    if not hub_says_ready(hub, 8):
        assert hub.start(8) == 201
    assert "version" in hub.server(8, "/api")
    assert hub.call("DELETE", "/users/student8")[0] == 204
    assert not exists(hub.seat(8))


def test_the_hub_waits_for_the_engine(hub: Hub, seat_one: dict[str, Any]) -> None:
    """A hub that starts while the gate is away waits for it, and does not give up the servers that run."""
    docker("stop", hub.container("gate"))
    docker("restart", hub.container("hub"))
    time.sleep(3)
    docker("start", hub.container("gate"))
    hub.wait_until_api_answers()
    assert hub_says_ready(hub, 1)
    assert exists(hub.seat(1))


def token_of(hub: Hub, seat: int) -> str:
    """The token of a seat's server, as its participant finds it."""
    kernel = hub.server(seat, "/api/kernels", "POST", b'{"name": "python3"}')["id"]
    url = f"ws://{hub.address('proxy')}:8000/user/student{seat}/api/kernels/{kernel}/channels"
    with connect(url, additional_headers=hub.headers(seat)) as channels:
        return run_cell(channels, "import os; print(os.environ['JUPYTERHUB_API_TOKEN'])").strip()


def run_cell(channels: ClientConnection, code: str) -> str:
    """What a cell prints."""
    message = uuid.uuid4().hex
    header = {
        "msg_id": message,
        "msg_type": "execute_request",
        "username": "",
        "session": "test",
        "version": "5.3",
    }
    content = {
        "code": code,
        "silent": False,
        "store_history": False,
        "user_expressions": {},
        "allow_stdin": False,
    }
    request = {"header": header, "parent_header": {}, "metadata": {}, "content": content, "buffers": []}
    channels.send(json.dumps(request | {"channel": "shell"}))
    printed = ""
    while True:
        answer = json.loads(channels.recv(timeout=30))
        if answer["parent_header"].get("msg_id") != message:
            continue
        if answer["msg_type"] == "stream":
            printed += answer["content"]["text"]
        if answer["msg_type"] == "status" and answer["content"]["execution_state"] == "idle":
            return printed


def wait_until(holds: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_routes_are_for_the_proxy_only(hub: Hub, seat_one: dict[str, Any]) -> None:
    """What the hub writes for the proxy, a key among it, is closed to all others, from the volume's first use on."""
    folder = hub.state / "data" / "routes"
    for path, mode in ((folder, 0o2750), (folder / "hub.yaml", 0o640)):
        found = path.stat()
        assert (found.st_uid, found.st_gid, found.st_mode & 0o7777) == (HUB, PROXY, mode), path
    read = ["exec", "--user=2001:2001", hub.container("proxy"), "cat", "/var/lib/traefik/hub.yaml"]
    assert docker(*read, check=False) == ""


# --- the image ---


def test_the_image_is_small(hub: Hub) -> None:
    """The hub takes at most 300 MB of disk."""
    assert int(docker("image", "inspect", "--format", "{{.Size}}", hub.images["hub"])) < 300_000_000


def test_the_hub_runs_as_its_own_user(hub: Hub) -> None:
    """The hub's processes belong to wod-hub, and the gate and the database know it by that."""
    assert docker("exec", hub.container("hub"), "id", "-u").strip() == str(HUB)
    listed = docker("top", hub.container("hub"), "-eo", "pid,uid").split()[2:]
    owners = listed[1::2]
    assert set(owners) == {str(HUB)}
    assert os.stat(hub.state / "run" / "gate" / "hub" / "docker.sock").st_uid == GATE
