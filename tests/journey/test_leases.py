"""Whatever is ordered, in whatever order, and whatever dies meanwhile: every lease is one person's, and ends.

The scenarios are Hypothesis's. WOD_TEST_SEED repeats one of them (it is printed), WOD_TEST_SCENARIOS makes more of them
than one, WOD_TEST_ORDERS longer ones. A failing scenario is not shrunk: each takes more than a minute.
"""

import collections
import contextlib
import itertools
import json
import os
import random
import subprocess
import threading
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from tests.conftest import ROOT, Stack, docker
from tests.images.test_hub import Browser
from tests.journey.portal import send, send_as_the_original, wait_for_action
from wodctl.adapters.builder import Builder
from wodctl.adapters.configuration import load
from wodctl.adapters.database import connect_as_operator

SEED = int(os.environ.get("WOD_TEST_SEED", "0")) or random.randrange(1, 10**6)  # noqa: S311
SCENARIOS = int(os.environ.get("WOD_TEST_SCENARIOS", "1"))
ORDERS = int(os.environ.get("WOD_TEST_ORDERS", "45"))
SEATS = range(1, 21)
FIRST = 6_000_000
"""Customers of the random orders: FIRST + 10 * seat + 0 to 2."""

OTHERS = 6_100_000
"""Customers of the other tests."""
FILING = timedelta(seconds=2)
"""How long it may take on a busy host until a mail that is being filed can be seen."""

WORKSHOPS = ("WKSHP-Welcome101", "CHLG-Welcome101")
"""The portal says that the second one needs a RESET."""

PORTAL_ROWS = [
    {"id": 1, "notebook": WORKSHOPS[0], "location": "127.0.0.1", "reset": False},
    {"id": 2, "notebook": WORKSHOPS[1], "location": "127.0.0.1", "reset": True},
]

an_order = st.tuples(
    st.sampled_from(["CREATE", "CREATE", "CREATE", "CLEANUP", "CLEANUP", "RESET", "PURGE"]),
    st.sampled_from(SEATS),
    st.integers(0, 2),
    st.sampled_from([1, 1, 1, 2]),  # how often the mail is sent
    st.sampled_from([""] * 10 + ["visit"] * 3 + ["kill worker", "database away", "portal away"]),
    st.floats(0, 0.5),  # seconds until the next
)
scenarios = st.one_of(st.just([]), st.lists(an_order, min_size=ORDERS, max_size=ORDERS))


@dataclass
class Portal:
    """The registration database of these tests, which records what it is told."""

    stack: Stack
    container: str

    def ask(self, method: str, path: str) -> Any:
        form = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}"
        address = docker("inspect", "-f", form, self.container).strip()
        request = urllib.request.Request(f"http://{address}:8021/{path}", method=method)
        with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310 - our own container
            return json.loads(answer.read() or b"null")

    def rows(self) -> dict[str, dict[str, str]]:
        return self.ask("GET", "said")["rows"]


@pytest.fixture(scope="module")
def portal(stack: Stack) -> Iterator[Portal]:
    """The stack with a registration database, and without one again at the end."""
    with registered(stack) as made:
        yield made


@contextlib.contextmanager
def registered(stack: Stack) -> Iterator[Portal]:
    """A registration database for the stack, for the time of the `with`."""
    name = f"{stack.project}-portal"
    builder = Builder(ROOT, stack.state, load(ROOT, stack.state, {}, {})[0])
    rows = stack.state / "portal.json"
    rows.write_text(json.dumps(PORTAL_ROWS))
    docker("rm", "--force", name, check=False)
    docker("run", "--detach", f"--name={name}", f"--network={stack.project}_outside", "--network-alias=portal",
           f"--volume={ROOT}/tests/images/stand_in_registration.py:/api.py:ro", f"--volume={rows}:/rows.json:ro",
           builder.tag("base"), "tini", "python3", "/api.py", "/rows.json")  # fmt: skip
    site, secret = stack.state / "conf/production.yml", stack.state / "secrets/worker/api-password"
    site.write_text("WODAPIDB: on\nWODAPIDBEXTFQDN: portal\nWODBASESTDID: 100\n")
    secret.write_text("the-password\n")
    stack.wodctl("up")
    stack.wodctl("student", "wipe", f"{SEATS[0]}-{SEATS[-1]}", "--yes")
    try:
        yield Portal(stack, name)
    finally:
        site.unlink()
        stack.wodctl("up")
        docker("rm", "--force", name, check=False)


@dataclass
class Run:
    """One scenario on the stack: what was sent, what was seen."""

    stack: Stack
    portal: Portal
    sent: collections.Counter = field(default_factory=collections.Counter)
    sessions: list[tuple[int, int, str, Browser]] = field(default_factory=list)
    doubles: list[str] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.database = connect_as_operator(self.stack.state)
        self.first = max((a.id for a in self.database.actions(only_rejected=False, limit=1)), default=0) + 1

    def mail(self, action: str, seat: int, customer: int) -> None:
        workshop = "" if action == "PURGE" else WORKSHOPS[customer % 2]
        how = send if (sum(self.sent.values()) % 2) else send_as_the_original
        how(self.stack, f"{action} {seat} {customer} somebody@example.net", workshop or "none")
        self.sent[action, seat, customer] += 1

    def happen(self, event: str, seat: int) -> None:
        """What the world does to the stack, for a while."""
        if event == "visit":
            self.visit(seat)
        elif event == "kill worker":
            docker("kill", "--signal=KILL", self.stack.container("worker"), check=False)
            docker("start", self.stack.container("worker"))
        elif event == "database away":
            docker("kill", "--signal=KILL", self.stack.container("db"), check=False)
            time.sleep(2)
            docker("start", self.stack.container("db"))
        elif event == "portal away":
            self.portal.ask("PUT", "answer/503")
            threading.Timer(5, self.portal.ask, ("PUT", "answer/0")).start()

    def visit(self, seat: int) -> None:
        """Log in with what the portal has been told, if that opens the seat; keep the session's cookies."""
        password = self.portal.rows().get(f"student/{100 + seat}", {}).get("password")
        browser = Browser(self.stack.url)
        if password and browser.log_in(f"student{seat}", password).status == 200:
            page = browser.get("/hub/api/user", accept="application/json")
            if page.status == 200:
                found = self.database.seat(seat)
                self.sessions.append((seat, (found and found.customer) or 0, password, browser))

    def watch(self) -> None:
        """Note what must never be seen: two containers of one seat, a customer with two seats."""
        while not self.over.wait(0.3):
            shown = docker("ps", "--filter", f"label=wod.project={self.stack.project}", "--filter", "label=wod.seat",
                           "--format", '{{.Label "wod.seat"}}', check=False).split()  # fmt: skip
            self.doubles += [f"seat {seat} has two servers" for seat in shown if shown.count(seat) > 1]

    def actions(self) -> list[Any]:
        return [a for a in self.database.actions(only_rejected=False, limit=5000) if a.id >= self.first]

    def is_quiet(self) -> bool:
        """Every mail is filed, every order has ended, nothing is owed."""
        found = self.actions()
        filed = sum(a.source == "mail" for a in found) >= sum(self.sent.values())
        return filed and all(a.finished for a in found) and not self.database.debts()

    def wait_until_quiet(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while True:
            try:
                if self.is_quiet():
                    return
            except Exception:  # noqa: S110 - the database may still be coming back
                pass
            assert time.monotonic() < end, [a for a in self.actions() if not a.finished or a.owed]
            time.sleep(0.5)


def check_record(run: Run) -> None:
    """Every acknowledged mail was carried out exactly once, or its action says why not; in order of arrival."""
    found = run.actions()
    filed = collections.Counter((a.action, a.seat, a.customer) for a in found if a.source == "mail")
    assert filed == run.sent
    assert {a.state for a in found} <= {"done", "rejected"}, [a for a in found if a.state == "failed"]
    assert all(a.reason for a in found if a.state == "rejected")
    for seat in SEATS:
        of_seat = sorted((a for a in found if a.seat == seat), key=lambda a: (a.arrived, a.id))
        for earlier, later in itertools.combinations(of_seat, 2):
            # One that was still being filed when the later one began comes after it: `created` is when that started.
            late = earlier.created + FILING > later.started
            assert earlier.finished <= later.started or late, (earlier, later)


def check_leases(run: Run) -> None:
    """Nobody got a seat that another one had: read from the record, as it was carried out."""
    for seat in SEATS:
        holder = None
        done = [a for a in run.actions() if a.seat == seat and a.state == "done" and touched(a)]
        for action in sorted(done, key=lambda a: a.finished):
            if action.action == "CREATE":
                assert holder in (None, action.customer), action
                holder = action.customer
            elif action.customer in (0, holder):
                holder = None
        found = run.database.seat(seat)
        assert found.state in ("free", "ready", "cleaning"), found
        if found.state == "ready":
            assert found.customer == holder, (found, [a for a in run.actions() if a.seat == seat])


def touched(action: Any) -> bool:
    return "othing was touched" not in (action.reason or "")


def check_state(run: Run) -> None:
    """Who has a seat can work on it; of all others there is no process, file, password, session or container."""
    rows, stack = run.portal.rows(), run.stack
    running = set(docker("ps", "--all", "--filter", f"label=wod.project={stack.project}", "--filter",
                         "label=wod.seat", "--format", '{{.Label "wod.seat"}}').split())  # fmt: skip
    students = stack.state / "data/students"
    lent = {}
    for number in SEATS:
        seat = run.database.seat(number)
        has_home = (students / f"student{number}").exists()
        if seat.state == "ready":
            lent[number] = seat.customer
            assert has_home and str(number) in running
            password = rows[f"student/{100 + number}"]["password"]
            assert rows[f"customer/{seat.customer}"]["active"] == "true"
            assert Browser(stack.url).log_in(f"student{number}", password).status == 200
        else:
            assert str(number) not in running
            assert has_home is (seat.state == "cleaning"), seat
            assert not processes_of(stack, number)
    assert os.listdir(students / ".staging") == os.listdir(students / ".trash") == []
    for number, customer, password, browser in run.sessions:
        if lent.get(number) != customer:
            assert browser.get("/hub/api/user", accept="application/json").status in (401, 403), (
                number,
                customer,
            )
            assert browser.get(f"/user/student{number}/api/contents", accept="application/json").status != 200
            assert Browser(stack.url).log_in(f"student{number}", password).status == 403
    for action in run.actions():
        ended = action.action in ("CLEANUP", "PURGE") and action.state == "done" and action.source == "mail"
        if ended and action.customer not in lent.values():
            assert rows[f"customer/{action.customer}"]["cleaned"] == "true", action


def processes_of(stack: Stack, number: int) -> list[str]:
    """The processes of this host that have the seat's uid, but for those in containers of others."""
    words = ("ps", "--quiet", "--no-trunc")
    ours = set(docker(*words, "--filter", f"label=wod.project={stack.project}").split())
    others = set(docker(*words).split()) - ours
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if path.stat().st_uid == 2000 + number:
                group = (path / "cgroup").read_text()
                if not any(other in group for other in others):
                    found.append((path / "cmdline").read_text().replace("\0", " "))
        except OSError:
            continue
    return found


def test_whatever_is_ordered_every_lease_is_one_persons_and_ends(portal: Portal) -> None:
    """Random orders on twenty seats, some twice, while worker, database and portal die and come back."""
    print(f"WOD_TEST_SEED={SEED}")
    failures: list[Exception] = []

    @seed(SEED)
    @settings(max_examples=SCENARIOS + 1, deadline=None, database=None, phases=[Phase.generate],
              suppress_health_check=list(HealthCheck))  # fmt: skip
    @given(scenarios)
    def holds(orders: list[Any]) -> None:
        if (
            failures
        ):  # Hypothesis begins a failing scenario again, to report it: the stack will not do the same twice
            raise failures[0]
        portal.stack.wodctl("student", "wipe", f"{SEATS[0]}-{SEATS[-1]}", "--yes")
        run = Run(portal.stack, portal)
        watching = threading.Thread(target=run.watch)
        watching.start()
        try:
            for action, seat, who, times, event, pause in orders:
                for _ in range(times):
                    run.mail(action, seat, FIRST + 10 * seat + who)
                run.happen(event, seat)
                time.sleep(pause)
            run.wait_until_quiet(240)
            check_record(run)
            check_leases(run)
            check_state(run)
            for seat in SEATS:  # and now everybody leaves
                if customer := run.database.seat(seat).customer:
                    run.mail("CLEANUP", seat, customer)
                    run.mail("PURGE", seat, customer)
            run.wait_until_quiet(120)
            check_record(run)
            check_state(run)
            assert all(run.database.seat(seat).state == "free" for seat in SEATS)
            assert run.doubles == []
        except Exception as failure:
            failures.append(failure)
            raise
        finally:
            run.over.set()
            watching.join()

    holds()


def test_what_the_portal_is_owed_is_shown_until_it_is_told(portal: Portal) -> None:
    """By `status` and with the action; nobody waits for his seat meanwhile."""
    run = Run(portal.stack, portal)
    run.wait_until_quiet(60)
    portal.ask("PUT", "answer/503")
    try:
        run.mail("CREATE", 5, OTHERS + 50)
        ended = wait_for_action(portal.stack, OTHERS + 50, "CREATE")
        assert ended["state"] == "done"
        debts = [
            d for d in json.loads(portal.stack.wodctl("status", "--json").stdout)["owed"] if d["updates"]
        ]
        assert sum(debt["updates"] for debt in debts) == 2
        assert len(run.database.action(ended["id"]).owed) == 2
    finally:
        portal.ask("PUT", "answer/0")
    run.wait_until_quiet(60)
    assert json.loads(portal.stack.wodctl("status", "--json").stdout)["owed"] == []
    assert portal.rows()[f"customer/{OTHERS + 50}"] == {"active": "true"}


def test_clean_takes_back_every_seat_when_the_stack_starts(portal: Portal) -> None:
    """And those whose lease it ends are told."""
    run = Run(portal.stack, portal)
    run.mail("CREATE", 6, OTHERS + 60)
    run.wait_until_quiet(60)
    assert run.database.seat(6).state == "ready"
    site = portal.stack.state / "conf/production.yml"
    before = site.read_text()
    site.write_text(before + "CLEAN: on\n")
    try:
        portal.stack.wodctl("up")
    finally:
        site.write_text(before)
    assert all(seat.state == "free" for seat in run.database.seats())
    assert not list((portal.stack.state / "data/students").glob("student*"))
    run.wait_until_quiet(60)
    assert portal.rows()[f"customer/{OTHERS + 60}"]["cleaned"] == "true"


class Processes(threading.Thread):
    """The command lines of all processes of this host, as anybody sees them, looked at again and again."""

    def __init__(self) -> None:
        super().__init__()
        self.over = threading.Event()
        self.seen: set[str] = set()

    def run(self) -> None:
        while not self.over.wait(0.02):
            for path in Path("/proc").glob("[0-9]*/cmdline"):
                with contextlib.suppress(OSError):
                    self.seen.add(path.read_text(errors="replace"))


def secrets_of(stack: Stack, portal: Portal, browser: Browser) -> dict[str, str]:
    """Every secret of the run that there is, by the name of where it is kept."""
    found = {str(path.relative_to(stack.state)): path.read_text().strip()
             for path in (stack.state / "secrets").rglob("*") if path.is_file()}  # fmt: skip
    said = portal.ask("GET", "said")
    for number, (_, path, body) in enumerate(said["said"]):
        if path.startswith("student/") and "password" in body:
            found[f"password {number} of {path}"] = body["password"]
    found |= {f"token {number} of the API": token for number, token in enumerate(said["tokens"])}
    # But for the session's id, which opens nothing: by it JupyterHub finds, in log and database, what a logout ends.
    found |= {f"cookie {cookie.name} of {cookie.path}": str(cookie.value) for cookie in browser.cookies
              if cookie.name != "jupyterhub-session-id"}  # fmt: skip
    for path in (stack.state / "data/students").glob("student*/.ssh/id_rsa"):
        found[str(path)] = "".join(path.read_text().splitlines()[2:4])
    return {name: text for name, text in found.items() if len(text) >= 8}


def places(stack: Stack) -> Iterator[tuple[str, str]]:
    """All that others may get to see, by name: logs, what the engine tells, what the databases hold."""
    ours = docker("ps", "--all", "--quiet", "--filter", f"name=^{stack.project}-").split()
    for container in ours:
        name = docker("inspect", "--format", "{{.Name}}", container).strip()
        yield f"log of {name}", docker_all("logs", container)
        yield f"inspection of {name}", docker("inspect", container)
    images = set(docker("inspect", "--format", "{{.Config.Image}}", *ours).split())
    for image in images:
        yield (
            f"history of {image}",
            docker("history", "--no-trunc", image) + docker("image", "inspect", image),
        )
    for database, user, uid in (("wod", "wod", 1804), ("hub", "hub", 1801)):
        words = ("pg_dump", "--host=/run/postgresql", f"--username={user}", database)
        yield f"database {database}", docker("exec", f"--user={uid}:1808", stack.container("db"), *words)
    for path in (stack.state / "rendered").rglob("*"):
        if path.is_file():
            yield str(path), path.read_text(errors="replace")


def docker_all(*words: str) -> str:
    """What the engine's client says on both of its outputs."""
    done = subprocess.run(["docker", *words], capture_output=True, text=True, errors="replace", check=True)
    return done.stdout + done.stderr


def test_no_secret_of_a_run_is_seen_anywhere(portal: Portal) -> None:
    """Two leases with all that belongs to them; then the real values are looked for where others look."""
    stack, run = portal.stack, Run(portal.stack, portal)
    processes = Processes()
    processes.start()
    try:
        for seat in (1, 2):
            run.mail("CREATE", seat, OTHERS + 10 * seat)
        run.wait_until_quiet(120)
        run.visit(1)
        [(_, _, _, browser)] = run.sessions
        browser.get("/user/student1/lab")
        stack.wodctl("student", "password", "2")
        run.wait_until_quiet(60)
        kept = secrets_of(stack, portal, browser)
        for seat in (1, 2):
            run.mail("CLEANUP", seat, OTHERS + 10 * seat)
        run.wait_until_quiet(120)
        kept |= secrets_of(stack, portal, browser)
    finally:
        processes.over.set()
        processes.join()
    assert sum(name.startswith("password") for name in kept) >= 5
    assert {"secrets/hub/admin-token", "secrets/worker/api-password", "token 0 of the API"} <= set(kept)
    seen = {"processes": "\n".join(processes.seen)} | dict(places(stack))
    assert "postgres" in seen["processes"]
    found = {
        (name, place) for name, text in kept.items() for place, content in seen.items() if text in content
    }
    assert not found, found
