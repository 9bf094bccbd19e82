"""The database service: who may be which role, and that it heals whenever and however it was stopped."""

import contextlib
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import ROOT, docker
from wodctl.adapters import configuration
from wodctl.adapters.builder import Builder
from wodctl.adapters.state import DB, HUB, MAIL, WORKER

OPERATOR, STUDENT = 1000, 2003


@dataclass(frozen=True)
class Database:
    """A database container of the test's own, run as the stack runs it."""

    image: str
    name: str
    folder: Path

    def start(self, operator: int | None = OPERATOR) -> None:
        docker(
            *["run", "--detach", "--name", self.name, "--network=none", "--read-only", "--cap-drop=ALL"],
            *[
                "--security-opt=no-new-privileges",
                "--tmpfs=/tmp:mode=1777",
                "--tmpfs=/var/lib/extrausers:mode=1777",
            ],
            *(["--env", f"WOD_OPERATOR_UID={operator}"] if operator is not None else []),
            *["--volume", f"{self.folder}/run:/run/postgresql"],
            *["--volume", f"{self.folder}/data:/var/lib/postgresql/data", self.image],
        )

    def start_and_wait(self) -> None:
        self.remove()
        self.start()
        self.wait_until_healthy()

    def wait_until_healthy(self) -> None:
        deadline = time.monotonic() + 60
        while docker("inspect", "--format", "{{.State.Health.Status}}", self.name).strip() != "healthy":
            assert time.monotonic() < deadline, docker("logs", self.name)
            time.sleep(0.2)

    def remove(self) -> None:
        docker("rm", "--force", self.name, check=False)

    def log(self) -> str:
        done = subprocess.run(["docker", "logs", self.name], capture_output=True, text=True, check=True)
        return done.stdout + done.stderr

    def query(self, uid: int, role: str, database: str, sql: str = "SELECT current_user") -> str:
        """What psql, run under a uid in a container of its own, prints, its complaints included."""
        client = ["docker", "run", "--rm", "--network=none", f"--user={uid}:{uid}", "--entrypoint=psql"]
        socket = ["--volume", f"{self.folder}/run:/run/postgresql"]
        words = ["--no-psqlrc", "--tuples-only", "--no-align", "--quiet", f"--command={sql}"]
        done = subprocess.run(
            [*client, *socket, self.image, *words, f"--username={role}", f"--dbname={database}"],
            capture_output=True,
            text=True,
            check=False,
        )
        return (done.stdout + done.stderr).strip()


@pytest.fixture(scope="module")
def image() -> str:
    state = Path("/var/lib/wod-tests")
    builder = Builder(ROOT, state, configuration.load(ROOT, state, {}, {})[0])
    if "db" in builder.missing():
        builder.build(["db"])
    return builder.tag("db")


@contextlib.contextmanager
def a_database(image: str, folder: Path) -> Iterator[Database]:
    for name in ("run", "data"):
        (folder / name).mkdir()
        os.chown(folder / name, DB, DB)
    database = Database(image, f"wodtestdb-{os.getpid()}-{folder.name[-12:]}", folder)
    try:
        yield database
    finally:
        database.remove()
        shutil.rmtree(folder)


@pytest.fixture(scope="module")
def container(image: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    with a_database(image, tmp_path_factory.mktemp("shared")) as database:
        database.start_and_wait()
        yield database


@pytest.fixture
def fresh(image: str, tmp_path: Path) -> Iterator[Database]:
    with a_database(image, tmp_path) as database:
        yield database


@pytest.mark.parametrize(
    ("uid", "role", "database"),
    [
        (WORKER, "wod", "wod"),
        (HUB, "hub", "wod"),
        (HUB, "hub", "hub"),
        (MAIL, "mail", "wod"),
        (OPERATOR, "wod", "wod"),
    ],
)
def test_a_service_is_known_by_its_uid(container: Database, uid: int, role: str, database: str) -> None:
    """Each service, and the operator, gets the role that is his by his uid, without a password."""
    assert container.query(uid, role, database) == role


@pytest.mark.parametrize("role", ["postgres", "wod", "hub", "mail"])
@pytest.mark.parametrize("uid", [0, STUDENT])
def test_root_and_strangers_are_nobody(container: Database, uid: int, role: str) -> None:
    """Neither root nor a participant's uid gets any role, although the socket is open to them."""
    assert f'Peer authentication failed for user "{role}"' in container.query(uid, role, "wod")


@pytest.mark.parametrize(
    ("uid", "role"), [(MAIL, "wod"), (HUB, "wod"), (HUB, "postgres"), (WORKER, "postgres"), (OPERATOR, "hub")]
)
def test_a_service_gets_no_role_of_another(container: Database, uid: int, role: str) -> None:
    """A service that asks for somebody else's role is refused."""
    assert "Peer authentication failed" in container.query(uid, role, "wod")


@pytest.mark.parametrize(
    ("uid", "role", "database"),
    [(MAIL, "mail", "hub"), (MAIL, "mail", "postgres"), (WORKER, "wod", "hub"), (HUB, "hub", "template1")],
)
def test_databases_are_closed_to_others(container: Database, uid: int, role: str, database: str) -> None:
    """A role may connect only to the databases that it needs."""
    assert "permission denied for database" in container.query(uid, role, database)


@pytest.mark.parametrize(("uid", "role"), [(HUB, "hub"), (MAIL, "mail")])
def test_tables_of_the_worker_are_closed_to_hub_and_mail(container: Database, uid: int, role: str) -> None:
    """What the worker's role owns, the hub and the mail service may neither read nor add to."""
    made = container.query(WORKER, "wod", "wod", f"CREATE TABLE IF NOT EXISTS seats_of_{role} (number int)")
    assert made == ""
    assert "permission denied" in container.query(uid, role, "wod", f"TABLE public.seats_of_{role}")
    assert "permission denied" in container.query(uid, role, "wod", "CREATE TABLE public.mine (number int)")
    assert "permission denied" in container.query(uid, role, "wod", "CREATE SCHEMA mine")


def test_no_role_is_more_than_it_must_be(container: Database) -> None:
    """None of the services' roles is a superuser or may make databases and roles."""
    rights = "SELECT rolname FROM pg_roles WHERE rolcanlogin AND (rolsuper OR rolcreatedb OR rolcreaterole)"
    assert container.query(DB, "postgres", "postgres", rights) == "postgres"


def test_each_role_has_a_share_of_the_connections(container: Database) -> None:
    """The shares of all roles fit into what there is: none of them can keep another one out."""
    shares = "SELECT rolname, rolconnlimit FROM pg_roles WHERE rolcanlogin AND NOT rolsuper ORDER BY 1"
    assert container.query(DB, "postgres", "postgres", shares).split() == [
        "api|20",
        "hub|40",
        "mail|10",
        "wod|27",
    ]
    most = "SELECT current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int"
    assert container.query(DB, "postgres", "postgres", most) == str(20 + 40 + 10 + 27)


def test_a_role_that_takes_all_it_can_keeps_nobody_out(container: Database) -> None:
    """The eleventh connection of the mail service is refused; the others get theirs meanwhile."""
    hold = 'for n in 1 2 3 4 5 6 7 8 9 10; do psql -U mail -d wod -c "SELECT pg_sleep(20)" & done; wait'
    name = f"{container.name}-greedy"
    words = ["--rm", f"--name={name}", "--network=none", f"--user={MAIL}", "--entrypoint=sh"]
    folder = f"--volume={container.folder}/run:/run/postgresql"
    docker("run", "--detach", *words, folder, container.image, "-c", hold)
    try:
        deadline = time.monotonic() + 15
        while "too many connections for role" not in container.query(MAIL, "mail", "wod"):
            assert time.monotonic() < deadline
        assert container.query(HUB, "hub", "hub") == "hub"
        assert container.query(WORKER, "wod", "wod") == "wod"
    finally:
        docker("rm", "--force", name)
        end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'mail'"
        container.query(DB, "postgres", "wod", end)


@pytest.mark.parametrize("call", ["lo_create(0)", "lo_creat(-1)", "lo_from_bytea(0, 'x')", "lowrite(0, 'x')"])
@pytest.mark.parametrize(("uid", "role"), [(HUB, "hub"), (MAIL, "mail")])
def test_nobody_stores_large_objects(container: Database, uid: int, role: str, call: str) -> None:
    """The rights on tables do not cover them, and they would fill the disk."""
    assert "permission denied for function" in container.query(uid, role, "wod", f"SELECT {call}")


def test_whoever_says_nothing_is_dismissed(container: Database) -> None:
    """A connection that does not say who it is ends within seconds."""
    assert container.query(DB, "postgres", "wod", "SHOW authentication_timeout") == "5s"


def test_it_listens_on_no_port(container: Database) -> None:
    """The server has no TCP port, and checks its pages against their checksums."""
    assert container.query(DB, "postgres", "wod", "SHOW listen_addresses") == ""
    assert container.query(DB, "postgres", "wod", "SHOW data_checksums") == "on"


def test_without_an_operator_nobody_is_the_operator(fresh: Database) -> None:
    """Without WOD_OPERATOR_UID, and with that of root, the name wod-operator belongs to nobody."""
    fresh.start(operator=0)
    fresh.wait_until_healthy()
    assert "Peer authentication failed" in fresh.query(OPERATOR, "wod", "wod")
    assert "Peer authentication failed" in fresh.query(0, "wod", "wod")


@pytest.mark.parametrize("pause", [0.0, 0.3, 0.6, 0.9, 1.3])
def test_a_kill_while_it_is_made_heals(fresh: Database, pause: float) -> None:
    """Killed at any moment of its first start, the next start ends with all roles and databases in place."""
    fresh.start()
    time.sleep(pause)
    docker("kill", "--signal=KILL", fresh.name, check=False)
    fresh.start_and_wait()
    for uid, role, database in ((WORKER, "wod", "wod"), (HUB, "hub", "hub"), (MAIL, "mail", "wod")):
        assert fresh.query(uid, role, database) == role
    assert sorted(path.name for path in (fresh.folder / "data").iterdir()) == ["17", "lock"]


def test_a_commit_survives_a_kill(fresh: Database) -> None:
    """A committed row is there after the server was killed, in the same container and in a new one."""
    fresh.start_and_wait()
    assert fresh.query(WORKER, "wod", "wod", "CREATE TABLE kept AS SELECT 17 AS n") == ""
    docker("kill", "--signal=KILL", fresh.name)
    docker("start", fresh.name)
    fresh.wait_until_healthy()
    assert fresh.query(WORKER, "wod", "wod", "SELECT n FROM kept") == "17"
    docker("kill", "--signal=KILL", fresh.name)
    fresh.start_and_wait()
    assert fresh.query(WORKER, "wod", "wod", "SELECT n FROM kept") == "17"


def test_a_stop_is_fast_and_clean(fresh: Database) -> None:
    """`docker stop` ends the server although a client is connected, and leaves nothing to recover."""
    fresh.start_and_wait()
    with subprocess.Popen(
        [
            "docker",
            "exec",
            fresh.name,
            "psql",
            "--username=postgres",
            "--dbname=wod",
            "--command=SELECT pg_sleep(60)",
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ):
        time.sleep(1)
        docker("stop", "--time=30", fresh.name)
    assert docker("inspect", "--format", "{{.State.ExitCode}}", fresh.name).strip() == "0"
    assert "database system is shut down" in fresh.log()
    fresh.start_and_wait()
    assert "was shut down at" in fresh.log()


def test_two_servers_never_share_their_files(fresh: Database) -> None:
    """A second container on the same data waits, and takes over only when the first has ended."""
    fresh.start_and_wait()
    second = Database(fresh.image, fresh.name + "-second", fresh.folder)
    try:
        second.start()
        time.sleep(3)
        assert "starting PostgreSQL" not in second.log()
        assert fresh.query(WORKER, "wod", "wod") == "wod"
        docker("kill", "--signal=KILL", fresh.name)
        second.wait_until_healthy()
        assert second.query(WORKER, "wod", "wod") == "wod"
    finally:
        second.remove()


def test_a_folder_of_somebody_else_is_refused_with_a_sentence(fresh: Database) -> None:
    """Where the data folder is not wod-db's, the service ends at once and says whose it must be."""
    os.chown(fresh.folder / "data", 0, 0)
    os.chmod(fresh.folder / "data", 0o700)
    fresh.start()
    assert docker("wait", fresh.name).strip() == "1"
    assert "uid 1800 cannot write to /var/lib/postgresql/data" in fresh.log()


def test_the_image_keeps_nothing_of_the_site(image: str) -> None:
    """No mirror, certificate authority or other secret of the host where it was built is in the image."""
    search = ["find", "/etc/apt/sources.list", "/etc/apt/sources.list.d", "/run", "-type", "f", "-size", "+0"]
    found = docker("run", "--rm", f"--entrypoint={search[0]}", image, *search[1:], check=False)
    assert found == ""
