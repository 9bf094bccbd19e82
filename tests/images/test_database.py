"""The database as the worker prepares it: what each service may do there, and that mails and logins are safe
in it.
"""

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest

from tests.conftest import ROOT, docker
from wodctl.actions.site import Outcome
from wodctl.adapters.builder import Builder
from wodctl.adapters.configuration import load
from wodctl.adapters.database import connect_as_operator
from wodctl.adapters.state import DATA, FOLDERS, StateDirectory
from wodctl.errors import Unavailable
from wodctl.model.registration import active, capacity, fresh_password

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


def backstage(name: str, state: Path, **chosen: str) -> Iterator[Backstage]:
    """A database that runs under that name, in a fresh state directory with those settings; gone afterwards."""
    settings, _ = load(ROOT, state, {"WODUSERMAX": "60"} | chosen, {})
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


def wait_for(happens: Callable[[], object], timeout: float = 120) -> None:
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
    assert bare.sql("SELECT version_num FROM alembic_version") == ["0006"]


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
    operator.end_step(number, 3, "failed", Outcome("It rained."))
    assert operator.action(number).state == "failed"
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
    operator.end_step(number, 3, "failed", Outcome("Cannot remove 'a\udcff\0b'."))
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


def queue_id(seconds_ago: float) -> str:
    """The long queue id of a mail that Postfix took so long ago (postconf(5), enable_long_queue_ids)."""
    digits = "0123456789BCDFGHJKLMNPQRSTVWXYZbcdfghjklmnpqrstvwxyz"

    def written(number: int, places: int) -> str:
        text = ""
        for _ in range(places):
            number, digit = divmod(number, 52)
            text = digits[digit] + text
        return text

    when = time.time() - seconds_ago
    return f"{written(int(when), 6)}{written(int(when % 1 * 1e6), 4)}z8F"


def order(database: Backstage, mail: str, words: str) -> int:
    return int(database.sql(ACCEPT.format(mail, words), uid=MAIL)[0])


def test_a_mail_arrived_when_postfix_took_it(database: Backstage) -> None:
    """However long it waited in the queue; a queue id that tells no time, or a silly one, is of now."""
    for mail, ago in (
        (queue_id(3600), 3600),
        ("q1", 0),
        ("3F8A91", 0),
        (queue_id(-900), 0),
        ("0000000001z1", 0),
    ):
        number = order(database, mail, A_CREATE)
        arrived = connect_as_operator(database.state).action(number).arrived
        assert abs(time.time() - arrived.timestamp() - ago) < 5, mail


def test_a_seat_carries_out_first_what_arrived_first(database: Backstage) -> None:
    """Three deliveries run at once, and retries come in any order: the order of insertion is no matter."""
    operator = connect_as_operator(database.state)
    last = order(database, queue_id(10), "'CREATE', 3, 3, 18, 'WKSHP-X', NULL, 'raw'")
    first = order(database, queue_id(30), A_CREATE)
    second = order(database, queue_id(20), "'CLEANUP', 3, 3, 17, 'WKSHP-X', NULL, 'raw'")
    found = []
    while step := operator.begin_step(3):
        assert (step.overtaken_by, step.attempts) == (None, 1)
        found.append(step.action)
        operator.end_step(step.action, 3, "done", Outcome())
    assert found == [first, second, last]


@pytest.mark.parametrize(
    ("carried_out", "late", "overtaken"),
    [
        (("CREATE", 18), ("CLEANUP", 17), True),
        (("CREATE", 18), ("PURGE", 17), True),
        (("CREATE", 18), ("CREATE", 17), True),
        (("CREATE", 17), ("RESET", 17), True),
        (("CREATE", 17), ("CLEANUP", 0), True),
        (("CLEANUP", 17), ("CREATE", 17), True),
        (("PURGE", 17), ("CREATE", 18), False),
        (("PURGE", 17), ("CLEANUP", 17), False),
    ],
)
def test_an_order_that_comes_too_late_is_overtaken(
    database: Backstage, carried_out: tuple[str, int], late: tuple[str, int], overtaken: bool
) -> None:
    """By a later CREATE; and a CREATE also by the end of the same customer's lease."""
    operator = connect_as_operator(database.state)
    numbers = []
    for (action, customer), ago in ((carried_out, 10), (late, 20)):
        workshop = "NULL" if action == "PURGE" else "'WKSHP-X'"
        numbers.append(
            order(database, queue_id(ago), f"'{action}', 3, 3, {customer}, {workshop}, NULL, 'raw'")
        )
        step = operator.begin_step(3)
        assert step
        assert step.action == numbers[-1]
        operator.end_step(step.action, 3, "done", Outcome())
    assert step.overtaken_by == (numbers[0] if overtaken else None)


@pytest.mark.parametrize(
    ("later", "overtaken"),
    [
        ("'CLEANUP', 3, 3, 17, 'WKSHP-X', NULL", True),
        ("'PURGE', 3, 3, 17, NULL, NULL", True),
        ("'RESET', 3, 3, 17, 'WKSHP-X', NULL", False),
        ("'CLEANUP', 3, 3, 18, 'WKSHP-X', NULL", False),
        ("'CREATE', 3, 3, 18, 'WKSHP-X', NULL", False),
    ],
)
def test_of_what_touched_nothing_only_a_customers_own_end_overtakes_his_create(
    database: Backstage, later: str, overtaken: bool
) -> None:
    """The seat was another's then, but he has gone; no other order that was left alone keeps him from his seat."""
    operator = connect_as_operator(database.state)
    number = order(database, queue_id(10), f"{later}, 'raw'")
    operator.end_step(operator.begin_step(3).action, 3, "done", Outcome("Not his.", touched=False))
    order(database, queue_id(20), A_CREATE)
    assert operator.begin_step(3).overtaken_by == (number if overtaken else None)


def test_a_range_is_one_action_that_ends_with_its_last_seat(database: Backstage) -> None:
    """A step and a job for each seat; one that failed makes the action failed, with its seat in the reason."""
    operator = connect_as_operator(database.state)
    number = order(database, "q1", "'RESET', 3, 5, 33, 'WKSHP-X', NULL, 'raw'")
    assert operator.begin_step(3) is None
    for _ in range(2):
        action = operator.begin_range(number)
        if action:
            operator.fan_out(number, 3, [capacity("WKSHP-X", 3)])
    assert operator.capacity("WKSHP-X") == 3
    assert database.sql("SELECT lock FROM procrastinate_jobs WHERE task_name = 'wod.carry_out' ORDER BY lock") == [
        "seat-3", "seat-4", "seat-5",
    ]  # fmt: skip
    for seat, state in ((5, "done"), (3, "failed"), (4, "done")):
        assert operator.action(number).state == "running"
        assert operator.begin_step(seat).action == number
        operator.end_step(number, seat, state, Outcome("It rained." if state == "failed" else None))
    ended = operator.action(number)
    assert (ended.state, ended.reason) == ("failed", "Seat 3: It rained.")
    assert [phase["name"] for phase in ended.phases] == ["seat 5", "seat 3", "seat 4"]
    assert ended.owed == ["workshop WKSHP-X capacity"]
    assert operator.retry_action(number)
    assert [operator.begin_step(seat) is not None for seat in (3, 4, 5)] == [True, False, False]
    operator.end_step(number, 3, "done", Outcome())
    assert operator.action(number).state == "done"


def test_a_step_that_was_begun_is_begun_again(database: Backstage) -> None:
    """Its worker died: the next one has it, and knows how often it was begun."""
    operator = connect_as_operator(database.state)
    order(database, "q1", A_CREATE)
    assert [operator.begin_step(3).attempts for _ in range(3)] == [1, 2, 3]


def test_what_is_owed_is_kept_in_order_and_once(database: Backstage) -> None:
    """A step that ends twice owes once; no password is stored; a refused update is shown, not tried again."""
    operator = connect_as_operator(database.state)
    number = order(database, "q1", A_CREATE)
    updates = (fresh_password(3, 100), active(17, now=True))
    for _ in range(2):
        operator.end_step(number, 3, "done", Outcome(updates=updates))
    assert database.sql("SELECT kind, key, body FROM wod.owed ORDER BY id") == [
        'student|103|{"password": null}', 'customer|17|{"active": "true"}',
    ]  # fmt: skip
    assert len(database.sql("SELECT id FROM procrastinate_jobs WHERE task_name = 'wod.tell'")) == 1
    first = operator.next_owed()
    assert (first.kind, first.seat, first.customer) == ("student", 3, 17)
    operator.note_owed(first.id, "It is away.", refused=False)
    assert operator.next_owed().id == first.id
    operator.note_owed(first.id, "It was answered with status 400.", refused=True)
    operator.settle_owed(operator.next_owed().id)
    assert operator.next_owed() is None
    assert operator.action(number).owed == ["student 103 password (refused) It was answered with status 400."]


def seat_is(database: Backstage, changed: str, **values: object) -> None:
    columns = {"number": 3, "customer": 17, "workshop": "WKSHP-X", **values}
    names = ", ".join(columns)
    texts = ", ".join("NULL" if value is None else f"'{value}'" for value in columns.values())
    database.sql(f"INSERT INTO wod.seat ({names}, changed) VALUES ({texts}, now() - interval '{changed}')")  # noqa: S608


PAST, FUTURE = "2020-01-01", "2099-01-01"


@pytest.mark.parametrize(
    ("changed", "seat", "ordered"),
    [
        ("1 hour", {"state": "ready", "lease_until": PAST}, "CLEANUP|17|WKSHP-X"),
        ("0", {"state": "ready", "lease_until": PAST, "customer": 0}, "CLEANUP|0|WKSHP-X"),
        ("1 hour", {"state": "ready", "lease_until": FUTURE}, None),
        ("11 minutes", {"state": "preparing"}, "CLEANUP|17|WKSHP-X"),
        ("9 minutes", {"state": "preparing"}, None),
        ("11 minutes", {"state": "failed", "lease_until": PAST}, "CLEANUP|17|WKSHP-X"),
        ("11 minutes", {"state": "failed", "workshop": None, "customer": None}, "PURGE|0|"),
        ("11 minutes", {"state": "cleaning", "lease_until": FUTURE}, "RESET|17|WKSHP-X"),
        ("9 minutes", {"state": "cleaning", "lease_until": PAST}, None),
        ("1 day", {"state": "free", "workshop": None, "customer": None}, None),
    ],
)
def test_what_no_mail_ends_is_ended_by_us(
    database: Backstage, changed: str, seat: dict[str, object], ordered: str | None
) -> None:
    """A lease that is over, at once; a seat that is stuck, or waits for its RESET in vain, after ten minutes."""
    seat_is(database, changed, **seat)
    operator = connect_as_operator(database.state)
    for _ in range(3):
        operator.end_leases(10)
    found = database.sql(
        "SELECT action, customer, workshop FROM wod.action WHERE source = 'lease' AND seat = 3"
    )
    assert found == ([ordered] if ordered else [])


def test_a_lease_whose_end_was_ordered_is_left_to_that_order(database: Backstage) -> None:
    """The CLEANUP mail that waits for its turn is enough; a CREATE that waits is not."""
    operator = connect_as_operator(database.state)
    seat_is(database, "1 hour", state="ready", lease_until=PAST)
    order(database, "q1", "'CLEANUP', 3, 3, 17, 'WKSHP-X', NULL, 'raw'")
    assert operator.end_leases(10) == []
    operator.end_step(operator.begin_step(3).action, 3, "failed", Outcome("The hub is broken."))
    order(database, "q2", A_CREATE)
    assert len(operator.end_leases(10)) == 1


def test_a_lease_is_extended_only_where_there_is_one(database: Backstage) -> None:
    """From its end or, where that has passed, from now."""
    operator = connect_as_operator(database.state)
    seat_is(database, "0", state="ready", lease_until=FUTURE)
    half_an_hour = timedelta(minutes=30)
    until = operator.extend_lease(3, half_an_hour)
    assert (until.year, until.minute) == (2099, 30)
    database.sql("UPDATE wod.seat SET lease_until = '2020-01-01'")
    assert abs(operator.extend_lease(3, half_an_hour).timestamp() - time.time() - 1800) < 5
    database.sql("UPDATE wod.seat SET state = 'cleaning'")
    assert operator.extend_lease(3, half_an_hour) is None
    assert operator.extend_lease(4, half_an_hour) is None


def test_a_password_is_changed_only_for_the_one_whose_seat_it_is(database: Backstage) -> None:
    """What was owed to a former customer opens nothing of the present one's."""
    operator = connect_as_operator(database.state)
    seat_is(database, "0", state="ready", password_hash="old")
    operator.set_password_of(3, 16, "new")
    assert database.sql("SELECT password_hash FROM wod.seat") == ["old"]
    operator.set_password_of(3, 17, "new")
    assert database.sql("SELECT password_hash FROM wod.seat") == ["new"]


def test_an_operators_lease_is_told_of_with_the_create_of_its_holder(database: Backstage) -> None:
    """What changes while the seat is lent is owed after what its CREATE owes; for nobody else's CREATE."""
    operator = connect_as_operator(database.state)
    number = order(database, "q1", A_CREATE)
    operator.begin_step(3)
    operator.end_step(number, 3, "done", Outcome(updates=(active(17, now=True),)))
    for _ in range(2):
        operator.owe_holder(3, 17, [fresh_password(3, 100)])
    operator.owe_holder(3, 18, [fresh_password(3, 100)])
    assert operator.action(number).owed == [
        "customer 17 active",
        "student 103 password",
        "student 103 password",
    ]
    assert operator.debts() == [(3, None, False)]


def carried_out(
    database: Backstage, action: str, customer: int, *, state: str = "done", touched: bool = True
) -> None:
    """An action on seat 3 that has ended, and what it made of the seat."""
    operator = connect_as_operator(database.state)
    number = operator.submit_action(action, 3, 3, customer, None if action == "PURGE" else "WKSHP-X", "cli")
    operator.begin_step(3)
    if touched and action == "CREATE":
        operator.set_preparing(3, customer, "WKSHP-X", "WKSHP")
    elif touched and state == "done":
        operator.set_free(3)
    operator.end_step(number, 3, state, Outcome("" if state == "done" else "It rained.", touched=touched))


@pytest.mark.parametrize(
    ("history", "order_of", "leaver", "ended"),
    [
        ([("CREATE", 17)], ("CLEANUP", 17), 17, False),
        ([("CREATE", 17)], ("CLEANUP", 0), 17, False),
        ([("CREATE", 17)], ("CREATE", 18), 17, False),
        ([("CREATE", 17), ("CLEANUP", 17)], ("PURGE", 17), 17, True),
        ([("CREATE", 17), ("CLEANUP", 0)], ("CLEANUP", 17), 17, True),
        ([("CREATE", 17), ("CLEANUP", 17)], ("CLEANUP", 0), None, False),
        ([("CREATE", 17), ("CREATE", 18)], ("CLEANUP", 17), 17, True),
        ([("CREATE", 17), ("CREATE", 18, "failed")], ("CLEANUP", 17), 17, True),
        ([("CREATE", 17), ("CREATE", 18, "rejected")], ("CLEANUP", 17), 17, False),
        ([("CREATE", 17), ("CREATE", 18), ("CLEANUP", 18)], ("CLEANUP", 17), 17, True),
        ([("CREATE", 17), ("CLEANUP", 17), ("CREATE", 17)], ("CLEANUP", 17), 17, False),
        ([("CREATE", 17), ("CLEANUP", 17, "failed")], ("CLEANUP", 17), 17, False),
        ([], ("CLEANUP", 17), 17, False),
    ],
)
def test_whose_lease_an_order_ends(
    database: Backstage,
    history: list[tuple[str, ...]],
    order_of: tuple[str, int],
    leaver: int | None,
    ended: bool,
) -> None:
    """He who has the seat where the order names nobody; and whether he had left it already, in whatever way."""
    operator = connect_as_operator(database.state)
    operator.ensure_seats(1, 5)
    for action, customer, *state in history:
        ended_as = state[0] if state else "done"
        carried_out(database, action, int(customer), state=ended_as, touched=ended_as != "rejected")
    operator.submit_action(
        order_of[0], 3, 3, order_of[1], None if order_of[0] == "PURGE" else "WKSHP-X", "cli"
    )
    step = operator.begin_step(3)
    assert (step.leaver, step.ended_before) == (leaver, ended)
    operator.set_free(3)  # and the worker dies
    step = operator.begin_step(3)
    assert (step.leaver, step.attempts) == (leaver, 2)
