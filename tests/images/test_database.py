"""The database as the worker prepares it: what each service may do there, and that mails and logins are safe
in it.
"""

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import ROOT, docker
from wodctl.adapters.builder import Builder
from wodctl.adapters.configuration import load
from wodctl.adapters.database import connect_as_operator
from wodctl.adapters.state import DATA, FOLDERS, StateDirectory
from wodctl.errors import Unavailable

DB, HUB, MAIL, WORKER = 1800, 1801, 1802, 1804
ROLES = {HUB: "hub", MAIL: "mail", WORKER: "wod"}
ACCEPT = "SELECT wod.accept_mail('{}', 'a@example.net', '192.0.2.1', {})"
A_CREATE = "'CREATE', 3, 3, 17, 'WKSHP-X', NULL, 'raw'"


@dataclass(frozen=True)
class Backstage:
    """A database in a container, the state directory that its socket is in, and the images of the stack."""

    name: str
    state: Path
    images: dict[str, str]

    def sql(self, query: str, *, uid: int = WORKER) -> list[str]:
        """The lines of the answer, | between columns, to whoever has that uid. Or CalledProcessError."""
        words = ("psql", "--no-psqlrc", "-qAt", "-v", "ON_ERROR_STOP=1", "-h", "/run/postgresql", "-d", "wod")
        done = subprocess.run(
            ["docker", "exec", f"--user={uid}:{DATA}", self.name, *words, "-U", ROLES[uid], "-c", query],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        return done.stdout.splitlines()

    def refuses(self, query: str, *, uid: int) -> str:
        """What the database says to somebody who may not do that."""
        with pytest.raises(subprocess.CalledProcessError) as refusal:
            self.sql(query, uid=uid)
        return str(refusal.value.stderr)

    def migration(self, name: str) -> list[str]:
        """Words that run the migrations in a container of that name, as the worker does."""
        return [
            *("docker", "run", "--rm", f"--name={name}", f"--user={WORKER}:{DATA}", "--network=none"),
            *(f"--volume={self.state}/run/db:/run/postgresql", "--entrypoint=python"),
            *(self.images["worker"], "-m", "wodctl.adapters.migrations"),
        ]

    def migrate(self) -> None:
        """Bring the database to the worker's structure."""
        subprocess.run(self.migration(f"{self.name}-migrate"), check=True, timeout=120)

    def empty(self) -> None:
        """Remove all that migrations made, and forget that they ran."""
        self.sql("DROP SCHEMA IF EXISTS wod CASCADE; DROP SCHEMA public CASCADE; CREATE SCHEMA public")


def backstage(name: str, state: Path) -> Iterator[Backstage]:
    """A database that runs under that name, in a fresh state directory; gone afterwards."""
    settings, _ = load(ROOT, state, {"WODUSERMAX": "60"}, {})
    builder = Builder(ROOT, state, settings)
    images = {image: builder.tag(image) for image in ("base", "db", "worker")}
    builder.build([image for image in images if image in builder.missing()])
    folders = StateDirectory(state, ROOT)
    folders.ensure_folders(images["base"])
    folders.render(settings)
    made = Backstage(f"{name}-db", state, images)
    docker("rm", "--force", "--volumes", made.name)
    docker("run", "--detach", f"--name={made.name}", "--network=none", "--restart=no",
           f"--group-add={DATA}", f"--volume={state}/run/db:/run/postgresql", images["db"])  # fmt: skip
    try:
        wait_for(lambda: docker("inspect", "-f", "{{.State.Health.Status}}", made.name).strip() == "healthy")
        yield made
    finally:
        docker("rm", "--force", "--volumes", made.name)


def wait_for(happens: Callable[[], object], timeout: float = 60) -> None:
    """Return when it is true; fail when it is not within so many seconds."""
    end = time.monotonic() + timeout
    while not happens():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.05)


def reaches(uid: int, path: Path) -> bool:
    """Whether that user of the host, in no group of ours, may connect to a socket, or make something in a folder."""
    done = subprocess.run(["test", "-w", path], user=uid, group=uid, extra_groups=[], check=False)
    return done.returncode == 0


@pytest.fixture(scope="module")
def state() -> Iterator[Path]:
    # Not below pytest's own directories: the way to the socket must be open to the services' users.
    path = Path("/var/lib/wod-test-database")
    subprocess.run(["rm", "-rf", path], check=True)
    assert {folder.path for folder in FOLDERS} >= {"run/db", "data/students"}
    yield path
    subprocess.run(["rm", "-rf", path], check=True)


@pytest.fixture(scope="module")
def bare(state: Path) -> Iterator[Backstage]:
    yield from backstage("wodtestdatabase", state)


@pytest.fixture
def database(bare: Backstage) -> Backstage:
    """A database with the structure, and nothing in it."""
    bare.empty()
    bare.migrate()
    return bare


def test_three_workers_that_start_at_once_prepare_the_database_once(bare: Backstage) -> None:
    """All of them end well, and so does one that comes later."""
    bare.empty()
    started = [subprocess.Popen(bare.migration(f"{bare.name}-{n}")) for n in range(3)]
    assert [one.wait(120) for one in started] == [0, 0, 0]
    bare.migrate()
    assert bare.sql("SELECT version_num FROM alembic_version") == ["0001"]


@pytest.mark.parametrize("seconds", [0.9, 1.1, 1.3, 1.5])
def test_a_worker_killed_while_it_prepares_leaves_nothing_half_done(bare: Backstage, seconds: float) -> None:
    """Whenever it dies, the next one prepares the whole."""
    bare.empty()
    name = f"{bare.name}-killed"
    killed = subprocess.Popen(bare.migration(name))
    time.sleep(seconds)
    docker("kill", "--signal=KILL", name, check=False)
    killed.wait(60)
    bare.migrate()
    assert bare.sql(ACCEPT.format("q1", A_CREATE), uid=MAIL) == ["1"]


def test_a_mail_becomes_an_action_and_a_job_once(database: Backstage) -> None:
    """The same queue id again gives the same action, and no second job; another one is another action."""
    first = database.sql(ACCEPT.format("q1", A_CREATE), uid=MAIL)
    assert database.sql(ACCEPT.format("q1", A_CREATE), uid=MAIL) == first
    assert database.sql(ACCEPT.format("q2", A_CREATE), uid=MAIL) != first
    assert (
        database.sql("SELECT source, state, action, seat, customer, workshop FROM wod.action")
        == ["mail|queued|CREATE|3|17|WKSHP-X"] * 2
    )
    assert (
        database.sql("SELECT task_name, lock, queue_name, status FROM procrastinate_jobs")
        == ["wod.carry_out|seat-3|actions|todo"] * 2
    )


def test_a_rejected_mail_is_filed_and_never_carried_out(database: Backstage) -> None:
    """It has its reason, the first 64 KiB of its text, and no job."""
    words = "NULL, NULL, NULL, NULL, NULL, 'No such action.', convert_to(repeat('x', 100000), 'UTF8')"
    database.sql(ACCEPT.format("q1", words), uid=MAIL)
    found = database.sql("SELECT state, reason, length(raw), finished IS NOT NULL FROM wod.action")
    assert found == ["rejected|No such action.|65536|t"]
    assert database.sql("SELECT count(*) FROM procrastinate_jobs") == ["0"]


@pytest.mark.parametrize(
    "query",
    [
        "SELECT * FROM wod.seat",
        "SELECT * FROM wod.action",
        "UPDATE wod.seat SET password_hash = 'x'",
        "SELECT * FROM public.procrastinate_jobs",
        "SELECT wod.submit_action('CREATE', 3, 3, 17, 'WKSHP-X', 'cli')",
        "SELECT wod.retry_action(1)",
        "CREATE TABLE wod.mine (x int)",
        "CREATE TABLE public.mine (x int)",
    ],
)
@pytest.mark.parametrize("uid", [MAIL, HUB])
def test_mail_and_hub_reach_no_table(database: Backstage, query: str, uid: int) -> None:
    """Whoever takes over one of them can call the one function that it has, and nothing else."""
    assert "permission denied" in database.refuses(query, uid=uid)


def test_neither_may_call_the_function_of_the_other(database: Backstage) -> None:
    """The hub files no mails, the mail service learns no hash."""
    assert "permission denied" in database.refuses(ACCEPT.format("q1", A_CREATE), uid=HUB)
    assert "permission denied" in database.refuses("SELECT * FROM wod.seat_login('student3')", uid=MAIL)


def test_a_function_with_rights_cannot_be_led_astray_by_temporary_tables(database: Backstage) -> None:
    """Nobody can make a table of his own with the name of ours."""
    assert "permission denied" in database.refuses("CREATE TEMP TABLE seat (password_hash text)", uid=HUB)


def test_only_a_seat_that_is_ready_lets_somebody_in(database: Backstage) -> None:
    """The hub is told a hash while the seat is ready, under its exact name, and none before or after."""
    ask = "SELECT * FROM wod.seat_login('{}')"
    database.sql("INSERT INTO wod.seat (number) VALUES (3)")
    assert database.sql(ask.format("student3"), uid=HUB) == []
    database.sql("UPDATE wod.seat SET state = 'ready', password_hash = 'hash'")
    assert database.sql(ask.format("student3"), uid=HUB) == ["hash"]
    for other in ("student03", "student33", "Student3", "student3 ", "3", ""):
        assert database.sql(ask.format(other), uid=HUB) == []
    database.sql("UPDATE wod.seat SET state = 'cleaning', password_hash = NULL")
    assert database.sql(ask.format("student3"), uid=HUB) == []


def test_only_what_has_failed_is_tried_again(database: Backstage) -> None:
    """Retrying queues a failed action with a new job, and leaves any other as it is."""
    operator = connect_as_operator(database.state)
    number = operator.submit_action("CREATE", 3, 3, 17, "WKSHP-X", "cli")
    assert not operator.retry_action(number)
    operator.end_action(number, "failed", "It rained.", [])
    assert operator.retry_action(number)
    assert operator.action(number).state == "queued"
    assert database.sql("SELECT count(*) FROM procrastinate_jobs") == ["2"]


def test_seats_follow_the_settings_but_none_in_use_is_forgotten(database: Backstage) -> None:
    """A smaller site keeps the row of a seat that is not free."""
    operator = connect_as_operator(database.state)
    operator.ensure_seats(1, 5)
    operator.set_preparing(5, 17, "WKSHP-X", "WKSHP")
    operator.ensure_seats(2, 3)
    assert [seat.number for seat in operator.seats()] == [2, 3, 5]


def test_a_reason_may_quote_anything(database: Backstage) -> None:
    """Names of files that are no text, as errors quote them, do not keep the record from being written."""
    operator = connect_as_operator(database.state)
    number = operator.submit_action("CREATE", 3, 3, 17, "WKSHP-X", "cli")
    operator.end_action(number, "failed", "Cannot remove 'a\udcff\0b'.", [])
    assert operator.action(number).reason == "Cannot remove 'a\\udcff\\0b'."


@pytest.mark.parametrize("uid", [1000, 2003, 65534])
def test_other_users_of_the_host_do_not_reach_the_sockets(database: Backstage, uid: int) -> None:
    """They can neither use up the database's connections nor order something from the intake."""
    assert reaches(0, database.state / "run/db/.s.PGSQL.5432")
    assert not reaches(uid, database.state / "run/db/.s.PGSQL.5432")
    assert reaches(MAIL, database.state / "run/intake")
    assert not reaches(uid, database.state / "run/intake")


def test_the_operator_reaches_the_socket_without_being_root(database: Backstage) -> None:
    """The folder is that of whoever runs `wodctl up`, whatever his groups are."""
    folder = database.state / "run" / "db"
    assert (folder.stat().st_uid, folder.stat().st_gid) == (os.geteuid(), DATA)
    os.chown(folder, 1000, DATA)
    try:
        assert reaches(1000, folder / ".s.PGSQL.5432")
    finally:
        os.chown(folder, os.geteuid(), DATA)


def test_the_operators_rights_are_his_own_again(database: Backstage) -> None:
    """After the database was asked, the command has the user and group that it had."""
    before = (os.geteuid(), os.getegid())
    assert connect_as_operator(database.state).seats() == []
    assert (os.geteuid(), os.getegid()) == before


def test_a_database_that_is_not_prepared_says_so(bare: Backstage) -> None:
    """Before the worker's first start there is a sentence instead of a missing table."""
    bare.empty()
    with pytest.raises(Unavailable, match="not prepared yet"):
        connect_as_operator(bare.state).seats()


def test_a_database_that_is_away_says_so(bare: Backstage, tmp_path: Path) -> None:
    """Without a socket there is a sentence, and a hint."""
    with pytest.raises(Unavailable, match="The database does not answer") as away:
        connect_as_operator(tmp_path).seats()
    assert "wodctl status" in away.value.hint
