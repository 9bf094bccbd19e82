"""`wodctl api-db import`: a real database of the original, dumped by pg_dump or asked through its API."""

import json
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from tests.conftest import ROOT, docker
from tests.images.registration_site import RegistrationSite, registration_site, wait_for, workshop
from wodctl.cli import wodctl
from wodctl.errors import ActionFailed, ContentProblem, Unavailable

NOTES = [
    "customers 1: completionPercentage 133 is 100 here.",
    "customers 2: this person has registration 5 too, a later one: this one ends now.",
    "customers 3: seat 54 is that of registration 4: this one is over.",
    "customers 6: it has no address.",
    "customers 6: it is open without a seat or a backend: it ends now.",
    "customers 9: nothing is done for the state 'paused'.",
    "locations 3: one.example.net is there twice, the first is taken.",
    "special_badges 1: updatedAt cannot be 'now', it is left empty.",
    "students 60, 61: assigned, but to nobody who is there: free now.",
    "workshops 2: capacity -2 is 0 here.",
    "workshops 2: duration 0 is 4 here.",
    "workshops 3: its backend gone.example.net is not known.",
    "workshops 3: its range [-4] is none: no seat can be given until it is corrected.",
    "workshops 4: another one is called Python 101: it is Python 101 (4) here.",
]
"""What is odd in original.sql, as the operator is told."""

CUSTOMERS = [
    # What of them is open, what is to be done at once, and whose seat it is.
    "1|expired|t|f|100|1|52",
    "2|unregister|t|t|0|1|53",
    "3|expired|t|f|0|1|54",
    "4|expiring|t|t|0|1|54",
    "5|credentials|t|t|0|2|1",
    "6|unregister|f|t|0||",
    "7|unregister|f|t|0|2|2",
    "8||f|t|0|2|101",
    "9|paused|f|f|0|2|3",
]


@pytest.fixture(scope="module")
def running() -> Iterator[RegistrationSite]:
    """A registration API and, in the same server, an original's database."""
    with registration_site("wodtestimport", Path("/var/lib/wod-test-import")) as site:
        psql(site, "postgres", "CREATE DATABASE original")
        psql(site, "original", (ROOT / "tests/images/original.sql").read_text())
        yield site


@pytest.fixture
def site(running: RegistrationSite) -> RegistrationSite:
    """A fresh one, with backends and a workshop of its own that the original has too, with other numbers."""
    running.fresh(workshop("Docker 101", 1, 6), workshop("Rust 101", 7, 9), workshop("Python 101", 1, 20))
    running.sql('UPDATE special_badges SET "badgeImg" = \'ours.jpg\', "createdAt" = now()')
    return running


def psql(site: RegistrationSite, database: str, text: str) -> str:
    words = [
        "psql",
        "--no-psqlrc",
        "-qAt",
        "-v",
        "ON_ERROR_STOP=1",
        "-h",
        "/run/postgresql",
        "-U",
        "postgres",
    ]
    done = subprocess.run(
        ["docker", "exec", "-i", "--user=1800", f"{site.name}-db", *words, "-d", database],
        input=text, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return done.stdout


@pytest.fixture
def dump(site: RegistrationSite, tmp_path: Path) -> Path:
    """What `pg_dump --format=plain` writes."""
    path = tmp_path / "dump.sql"
    words = ("pg_dump", "--format=plain", "-h", "/run/postgresql", "-U", "postgres", "original")
    path.write_text(docker("exec", "--user=1800", f"{site.name}-db", *words))
    assert "MyNewPassword7" in path.read_text()
    return path


class Original(ThreadingHTTPServer):
    """Answers as the original's API does: dates to the millisecond, passwords of seats in clear."""

    def __init__(self, site: RegistrationSite) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        tables = ("workshops", "students", "customers", "locations", "special_badges")
        select = "SELECT coalesce(json_agg(one ORDER BY id), '[]') FROM {} AS one"
        self.rows = {
            name.replace("_", "-"): json.loads(
                psql(site, "original", select.format(name)), object_hook=as_sequelize
            )
            for name in tables
        }
        self.asked: list[str] = []


def as_sequelize(row: dict[str, Any]) -> dict[str, Any]:
    """2024-03-01T08:00:00.123456+00:00 is 2024-03-01T08:00:00.123Z there."""
    for name, value in row.items():
        if name.endswith(("At", "Date")) and isinstance(value, str) and "T" in value:
            moment, _, part = value.removesuffix("+00:00").partition(".")
            row[name] = f"{moment}.{part[:3].ljust(3, '0')}Z"
    return row


class Handler(BaseHTTPRequestHandler):
    """One call."""

    server: Original

    def do_POST(self) -> None:
        said = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if said != {"username": "moderator", "password": "the password"}:
            return self.say(401, {"accessToken": None, "message": "Invalid Password!"})
        return self.say(200, {"id": 1, "roles": ["ROLE_MODERATOR"], "accessToken": "a-token"})

    def do_GET(self) -> None:
        name = self.path.removeprefix("/api/")
        self.server.asked.append(name)
        if name in ("students", "customers") and self.headers["x-access-token"] != "a-token":
            return self.say(403, {"message": "No token provided!"})
        if name not in self.server.rows:
            return self.say(404, {})
        return self.say(200, self.server.rows[name])

    def say(self, status: int, body: Any) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Keep quiet."""


@pytest.fixture
def live(site: RegistrationSite) -> Iterator[Original]:
    with Original(site) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def command(site: RegistrationSite, monkeypatch: pytest.MonkeyPatch) -> Any:
    """`wodctl api-db import …`, which asks the API of this test."""

    class Asked:
        def ask(self, verb: str, **said: Any) -> Any:
            answer = site.ask(verb, **said)
            if set(answer) == {"problem"}:
                raise ActionFailed(answer["problem"])
            return answer

    monkeypatch.setattr("wodctl.commands.api_db.ApiDb", lambda _engine: Asked())

    def run(*words: str) -> Result:
        return CliRunner().invoke(wodctl, ["--state", str(site.state), "api-db", "import", *words])

    return run


def everything(site: RegistrationSite) -> list[str]:
    """All that is here, without the moments in which something is due."""
    tables = ("locations", "workshops", "students", "special_badges", "customers")
    return [
        line
        for name in tables
        for line in site.sql(f"SELECT to_jsonb(one) - 'due' FROM {name} AS one ORDER BY id")  # noqa: S608
    ]


def look(site: RegistrationSite) -> None:
    """What must be here, however it came."""
    assert (
        site.sql(
            'SELECT id, "lastEmailSent", began IS NOT NULL, due IS NOT NULL,'
            ' "completionPercentage", workshop, "studentId"'
            " FROM customers ORDER BY id"
        )
        == CUSTOMERS
    )
    held = site.sql("SELECT id, holder FROM students WHERE assigned ORDER BY id")
    assert held == ["1|5", "2|7", "53|2", "54|4", "101|8"]
    first = site.call("GET", "/api/workshops/1").body
    assert first["description"] == 'It\'s "all"\nof\tPython \\ 101'
    assert (first["range"], first["category"]) == ([52, 57], ["Open Source", "a, b", 'c"d'])
    assert (first["capacity"], first["createdAt"]) == (3, "2024-03-01T08:00:00.123Z")
    assert site.sql("SELECT name FROM workshops WHERE id = 4") == ["Python 101 (4)"]
    assert site.sql("SELECT id FROM workshops WHERE seeded") == ["6"]
    assert site.sql("SELECT name FROM customers WHERE id = 1") == ["O'Hara\t<b>"]
    assert site.call("GET", "/api/special-badges").body[0]["badgeImg"] == "https://portal.example.net/own.jpg"
    assert "MyNewPassword" not in "".join(everything(site))


def test_a_dump_is_taken_over_once(site: RegistrationSite, dump: Path, command: Any) -> None:
    """Rows under their numbers, odd ones mended and told; the second time changes nothing, nor does the live API."""
    first = command(str(dump))
    assert first.exit_code == 0, first.stderr
    assert first.stdout.splitlines()[0] == (
        "Taken over: 2 locations, 4 workshops, 200 students, 9 customers, 1 special badges."
    )
    assert sorted(line for line in first.stderr.splitlines() if line[0].islower()) == NOTES
    assert "WODBACKENDS: [one.example.net:8000:https:0, two.example.net:443:https:100]" in first.stdout
    look(site)
    # Ours of the same name is theirs now, the one whose number they took has another.
    named = [(one["id"], one["name"]) for one in site.call("GET", "/api/workshops").body]
    assert sorted(named) == [
        (1, "Python 101"),
        (2, "Docker 101"),
        (3, "Tensorflow 101"),
        (4, "Python 101 (4)"),
        (6, "Rust 101"),
    ]
    before = everything(site)
    second = command(str(dump))
    assert second.stdout.splitlines()[0].startswith("Here already: 2 locations, 4 workshops, 200 students")
    assert everything(site) == before
    # Somebody registers meanwhile, a seat is told of: that is not undone.
    assert site.register("new@example.net", "Python 101").body["id"] == 10
    site.call("PUT", "/api/customer/5", {"completionPercentage": "40"}, role="moderator")
    before = everything(site)
    command(str(dump))
    assert everything(site) == before


def test_a_live_api_gives_the_same(site: RegistrationSite, live: Original, dump: Path, command: Any,
                                   tmp_path: Path) -> None:  # fmt: skip
    """Logged in as its moderator, it tells what the dump holds."""
    (tmp_path / "password").write_text("the password\n")
    words = [f"http://127.0.0.1:{live.server_port}/api/", "--password-file", str(tmp_path / "password")]
    first = command(*words)
    assert first.exit_code == 0, first.stderr
    assert sorted(line for line in first.stderr.splitlines() if line[0].islower()) == NOTES
    assert sorted(live.asked) == ["customers", "locations", "special-badges", "students", "workshops"]
    look(site)
    before = everything(site)
    for source in (words, [str(dump)]):
        assert command(*source).stdout.startswith("Here already: 2 locations, 4 workshops, 200 students")
        assert everything(site) == before


def test_what_cannot_be_taken_is_printed_and_all_else_is_here(
    site: RegistrationSite, live: Original, command: Any, tmp_path: Path
) -> None:
    """The exit code tells; a row in full, so that nothing is lost."""
    live.rows["customers"] += [
        {"id": 77, "name": "nul\0", "email": "z@example.net", "endDate": "2036-01-01T00:00:00.000Z"},
        {"name": "nobody's number"},
    ]
    live.rows["students"][0]["assigned"] = "true"
    (tmp_path / "password").write_text("the password\n")
    done = command(f"http://127.0.0.1:{live.server_port}/api", "--password-file", str(tmp_path / "password"))
    assert isinstance(done.exception, ContentProblem) and "2 rows" in done.exception.message
    left = [line for line in done.stderr.splitlines() if line.startswith("Not taken over")]
    assert len(left) == 2 and "z@example.net" in "".join(left) and "nobody's number" in "".join(left)
    look(site)


def test_a_registration_of_our_own_is_never_overwritten(
    site: RegistrationSite, dump: Path, command: Any
) -> None:
    """Where a number is somebody else's here, nothing is taken over."""
    site.register("mine@example.net")
    before = everything(site)
    done = command(str(dump))
    assert isinstance(done.exception, ActionFailed)
    assert (
        "Registration 1 is mine@example.net's here, and ohara@example.net's there." in done.exception.message
    )
    assert everything(site) == before


def test_a_wrong_password_at_a_live_api_takes_nothing(live: Original, command: Any, tmp_path: Path) -> None:
    """It says which address refused, and not the password."""
    (tmp_path / "password").write_text("guessed\n")
    done = command(f"http://127.0.0.1:{live.server_port}/api", "--password-file", str(tmp_path / "password"))
    assert isinstance(done.exception, Unavailable)
    assert "/login was answered with status 401" in done.exception.message
    assert "guessed" not in done.output + done.exception.message


def test_open_registrations_go_on(site: RegistrationSite, dump: Path, command: Any) -> None:
    """Who was taken off is cleaned, who is new is welcomed and ordered a seat, nobody is sent credentials twice."""
    assert command(str(dump)).exit_code == 0
    # An hour lasts two seconds here: those at work are at their end soon, which is no matter of this test.
    site.sql("UPDATE customers SET due = NULL WHERE id IN (4, 5)")
    site.start_scheduler()
    try:
        wanted = {"CREATE 1 8 gus@example.net", "CLEANUP 53 2", "CLEANUP 2 7", "RESET 2 7"}
        wait_for(lambda: wanted <= set(site.receiver.subjects()))
        assert {one for one in site.receiver.subjects() if one.isupper() or "@" in one} - wanted == set()
        assert not site.receiver.of("WoD Developer Workshops-on-Demand credentials")
        assert site.sql('SELECT "lastEmailSent" FROM customers WHERE id IN (2, 6, 7)') == ["expired"] * 3
        assert site.sql("SELECT capacity FROM workshops WHERE id IN (1, 2) ORDER BY id") == ["4", "1"]
    finally:
        site.kill_scheduler()
