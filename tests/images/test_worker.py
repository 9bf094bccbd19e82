"""The worker: homes that are whole and safe, seats that are ready once, whatever is killed meanwhile."""

import itertools
import json
import os
import re
import stat
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT, docker
from tests.images.test_database import Backstage, backstage, wait_for
from wodctl.adapters.database import Action, Database, connect_as_operator
from wodctl.model.seat import Seat

NAME = "wodtestworker"
STATE = Path("/var/lib/wod-test-worker")
CAPABILITIES = ("CHOWN", "DAC_OVERRIDE", "FOWNER", "SETGID", "SETUID")
PHASES = ("claim", "close", "password", "home", "server", "answer")
TITLE = {"cell_type": "markdown", "metadata": {}, "source": ["# Seat {{ STDID }} of {{ BRANDING }}"]}
NOTEBOOK = {"cells": [TITLE], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}


@dataclass(frozen=True)
class Worker:
    """The worker as the stack runs it, beside a database and a stand-in for hub and proxy."""

    behind: Backstage
    database: Database
    hub: str

    def start(
        self, *more: str, name: str = NAME, students: str = f"--volume={STATE}/data/students:/student"
    ) -> None:
        """Start it as compose/stack.yml does."""
        state = self.behind.state
        docker(
            *("run", "--detach", f"--name={name}", f"--network={NAME}", "--read-only", "--cap-drop=ALL"),
            *(f"--cap-add={capability}" for capability in CAPABILITIES),
            *("--security-opt=no-new-privileges", "--restart=unless-stopped", students),
            *(
                f"--volume={state}/run/db:/run/postgresql",
                f"--volume={state}/hub-token:/run/secrets/hub-token:ro",
                f"--volume={state}/seat-key:/run/secrets/seat-key:ro",
            ),
            *(f"--volume={state}/rendered/settings.json:/etc/wod/settings.json:ro", "--pids-limit=512"),
            *(f"--volume={state}/workshops:/srv/workshops/public:ro", "--tmpfs=/tmp:mode=1777,size=64m"),
            *("--tmpfs=/run/wod:mode=1777,size=1m", *more, self.behind.images["worker"]),
        )

    def order(self, action: str, seat: int, customer: int, workshop: str = "WKSHP-Sample") -> int:
        """Queue an action; returns its number."""
        return self.database.submit_action(action, seat, seat, customer, workshop, "cli")

    def ended(self, number: int, timeout: float = 60) -> Action:
        """The action once it has ended."""
        wait_for(lambda: self.action(number).state in ("done", "failed", "rejected"), timeout)
        return self.action(number)

    def action(self, number: int) -> Action:
        """The action as it is now."""
        found = self.database.action(number)
        assert found
        return found

    def seat(self, number: int) -> Seat:
        """The seat as it is now."""
        found = self.database.seat(number)
        assert found
        return found

    def done(self, action: str, seat: int, customer: int) -> Action:
        """Carry an action out that must succeed."""
        ended = self.ended(self.order(action, seat, customer))
        assert ended.state == "done", ended
        return ended

    def ask_hub(self, method: str, path: str) -> Any:
        """What the stand-in answers."""
        request = urllib.request.Request(f"http://{self.hub}:8081/{path}", method=method)
        with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310 - our own container
            return json.loads(answer.read() or b"null")

    def kill(self) -> None:
        """SIGKILL, and another start: the engine would do that by itself, but ever later."""
        docker("kill", "--signal=KILL", NAME)
        docker("start", NAME)

    def process_status(self) -> str:
        """What the kernel says of the worker's own process."""
        return docker("exec", NAME, "sh", "-c", "cat /proc/$(pidof -s python)/status")


@pytest.fixture(scope="module")
def worker() -> Iterator[Worker]:
    subprocess.run(["rm", "-rf", STATE], check=True)
    remove()
    docker("network", "create", NAME)
    try:
        for behind in backstage(NAME, STATE):
            make_workshop(STATE / "workshops" / "WKSHP-Sample")
            for name, text in (("hub-token", "the-token\n"), ("seat-key", "the-key\n")):
                (STATE / name).write_text(text)
                os.chown(STATE / name, 1804, 1804)
                (STATE / name).chmod(0o400)
            docker("run", "--detach", f"--name={NAME}-hub", f"--network={NAME}", "--network-alias=hub",
                   "--network-alias=proxy", f"--volume={ROOT}/tests/images/stand_in_hub.py:/hub.py:ro",
                   behind.images["base"], "tini", "python3", "/hub.py")  # fmt: skip
            address = docker(
                "inspect", "-f", "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", f"{NAME}-hub"
            )
            made = Worker(behind, connect_as_operator(STATE), address.strip())
            made.start()
            wait_for(lambda: docker("inspect", "-f", "{{.State.Health.Status}}", NAME).strip() == "healthy")
            yield made
    finally:
        remove()
        subprocess.run(["rm", "-rf", STATE], check=True)


def remove() -> None:
    docker("rm", "--force", "--volumes", NAME, f"{NAME}-hub", f"{NAME}-small", check=False)
    docker("network", "rm", NAME, check=False)


def make_workshop(path: Path) -> None:
    (path / "Pictures").mkdir(parents=True)
    (path / "Pictures" / "large.png").write_bytes(b"x" * 400_000)
    (path / "0-ReadMeFirst.ipynb").write_text(json.dumps(NOTEBOOK))
    (path / "wod.yml").write_text("name: Sample\nduration: 3\n")


def ssh_keygen(*words: str | Path) -> str:
    done = subprocess.run(["ssh-keygen", *words], capture_output=True, text=True, check=True)
    return done.stdout


def is_ready_once(worker: Worker, action: Action, seat: int, customer: int) -> None:
    """Done, one ready seat of that customer, a whole home, a running server, nothing left over."""
    assert action.state == "done", action
    assert (worker.seat(seat).state, worker.seat(seat).customer) == ("ready", customer)
    assert worker.behind.sql(f"SELECT number FROM wod.seat WHERE customer = {customer}") == [str(seat)]  # noqa: S608
    students = STATE / "data/students"
    assert (students / f"student{seat}" / "WKSHP-Sample" / "0-ReadMeFirst.ipynb").is_file()
    assert worker.ask_hub("GET", "said")["running"][f"student{seat}"] is True
    wait_for(lambda: worker.behind.sql("SELECT count(*) FROM procrastinate_jobs") == ["0"], 5)
    assert os.listdir(students / ".staging") == os.listdir(students / ".trash") == []


def test_create_makes_a_home_that_is_wholly_the_participants(worker: Worker) -> None:
    """Skeleton, keys and the workshop rendered for the seat, all of it with the seat's uid and gid."""
    worker.done("CREATE", 3, 100)
    home = STATE / "data/students/student3"
    assert stat.S_IMODE(home.stat().st_mode) == 0o750
    everything = [home, *home.rglob("*")]
    assert {(path.lstat().st_uid, path.lstat().st_gid) for path in everything} == {(2003, 2003)}
    assert "# Seat 3 of" in (home / "WKSHP-Sample/0-ReadMeFirst.ipynb").read_text()
    assert (home / "WKSHP-Sample/Pictures/large.png").stat().st_size == 400_000


def test_the_key_pair_is_one_that_ssh_accepts(worker: Worker) -> None:
    """RSA of 2048 bits or more, without a passphrase, the participant's alone; every lease has its own."""
    folder = STATE / "data/students/student4/.ssh"
    seen = set()
    for customer in (101, 102):
        worker.done("CREATE", 4, customer)
        public = ssh_keygen("-y", "-P", "", "-f", folder / "id_rsa").split()[:2]
        assert (folder / "id_rsa.pub").read_text().split()[:2] == public
        assert int(ssh_keygen("-l", "-f", folder / "id_rsa").split()[0]) >= 2048
        seen.add(public[1])
    assert stat.S_IMODE((folder / "id_rsa").stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert len(seen) == 2


def test_a_lease_lasts_as_long_as_the_workshop(worker: Worker) -> None:
    """Its end is stored with the seat."""
    ended = worker.done("CREATE", 5, 103)
    assert ended.finished
    lease = worker.seat(5).lease_until
    assert lease
    assert abs((lease - ended.finished).total_seconds() - 3 * 3600) < 5


def test_the_record_names_the_phases_and_no_secret(worker: Worker) -> None:
    """Phases with seconds are in the record; the log has neither password, hash nor token."""
    ended = worker.done("CREATE", 6, 104)
    assert [phase["name"] for phase in ended.phases] == list(PHASES)
    log = subprocess.run(["docker", "logs", NAME], capture_output=True, text=True, check=True)
    assert f"action {ended.id}: CREATE of seat 6" in log.stdout
    assert not re.search("argon2|the-token|the-key|BEGIN", log.stdout + log.stderr)


def test_cleanup_leaves_nothing_of_the_participant(worker: Worker) -> None:
    """Server, login sessions and home are gone; the seat is free."""
    worker.done("CREATE", 7, 105)
    worker.done("CLEANUP", 7, 105)
    assert worker.seat(7) == Seat(7, "free")
    assert not (STATE / "data/students/student7").exists()
    assert "student7" not in worker.ask_hub("GET", "said")["running"]


def test_a_mail_that_came_twice_leaves_the_work_alone(worker: Worker) -> None:
    """What the participant did meanwhile is still there."""
    worker.done("CREATE", 8, 106)
    work = STATE / "data/students/student8/work.txt"
    work.write_text("mine")
    assert "nothing was touched" in str(worker.done("CREATE", 8, 106).reason)
    assert work.read_text() == "mine"


def test_the_next_customer_finds_nothing_of_the_former(worker: Worker) -> None:
    """CREATE for somebody else, without a CLEANUP before, removes the former home and ends his sessions."""
    worker.done("CREATE", 9, 107)
    (STATE / "data/students/student9/private.txt").write_text("mine")
    worker.done("CREATE", 9, 108)
    assert not (STATE / "data/students/student9/private.txt").exists()
    said = [line for line in worker.ask_hub("GET", "said")["said"] if "student9" in line]
    assert "DELETE users/student9" in said


def test_a_hostile_home_harms_nobody(worker: Worker) -> None:
    """Links to others' files, a very deep tree, locked and sticky folders: all go, and nothing else does."""
    worker.done("CREATE", 10, 109)
    worker.done("CREATE", 11, 110)
    home, neighbour = STATE / "data/students/student10", STATE / "data/students/student11"
    (home / "to-neighbour").symlink_to("/student/student11")
    (home / "to-etc").symlink_to("/etc")
    (home / "to-all").symlink_to("..")
    os.link(neighbour / ".ssh/id_rsa.pub", home / "linked")
    os.mkfifo(home / "pipe")
    for name, mode in (("locked", 0), ("sticky", 0o1777)):
        (home / name).mkdir()
        (home / name / "x").write_text("x")
        os.chown(home / name / "x", 2011, 2011)
        (home / name).chmod(mode)
    # Deeper than a path can be long, and than a process may have files open.
    dig = "import os\nfor _ in range(20000): os.mkdir('d'); os.chdir('d')"
    subprocess.run(["python3", "-c", dig], cwd=home, check=True)
    before = {path: path.lstat().st_mtime for path in neighbour.rglob("*")}
    worker.done("CLEANUP", 10, 109)
    assert not home.exists()
    assert os.listdir(STATE / "data/students/.trash") == []
    assert {path: path.lstat().st_mtime for path in neighbour.rglob("*")} == before


def test_a_link_in_place_of_a_home_is_removed_itself(worker: Worker) -> None:
    """What it points to stays."""
    (STATE / "data/students/student12").symlink_to("/etc")
    worker.done("CREATE", 12, 111)
    assert (STATE / "data/students/student12").is_dir()
    assert not (STATE / "data/students/student12").is_symlink()


def test_a_failing_server_fails_the_action_in_the_hubs_words(worker: Worker) -> None:
    """The seat says so too, and lets nobody in; the next CREATE takes it."""
    worker.ask_hub("PUT", "broken/student14")
    ended = worker.ended(worker.order("CREATE", 14, 112))
    assert (ended.state, worker.seat(14).state) == ("failed", "failed")
    assert ended.reason == worker.seat(14).reason
    assert "no image" in str(ended.reason)
    worker.ask_hub("PUT", "broken/nobody")
    worker.done("CREATE", 14, 112)


def test_a_seat_that_the_site_does_not_have_is_rejected(worker: Worker) -> None:
    """So is a workshop that it does not have; nothing is touched."""
    for seat, workshop, reason in (
        (61, "WKSHP-Sample", "not on this backend"),
        (15, "WKSHP-No", "No workshop called"),
    ):
        ended = worker.ended(worker.order("CREATE", seat, 112, workshop))
        assert ended.state == "rejected"
        assert reason in str(ended.reason)
    assert worker.seat(15) == Seat(15, "free")


def test_actions_on_one_seat_keep_their_order(worker: Worker) -> None:
    """CREATE, CLEANUP and CREATE, queued at once, are carried out one after the other."""
    numbers = [
        worker.order("CREATE", 13, 113),
        worker.order("CLEANUP", 13, 113),
        worker.order("CREATE", 13, 114),
    ]
    ended = [worker.ended(number) for number in numbers]
    assert [one.state for one in ended] == ["done"] * 3
    for earlier, later in itertools.pairwise(ended):
        assert earlier.finished <= later.started  # type: ignore[operator]
        assert (later.started - earlier.finished).total_seconds() < 2  # type: ignore[operator]
    assert worker.seat(13).customer == 114


def test_fifty_seats_at_once_are_all_made(worker: Worker) -> None:
    """None fails, and the worker stays small."""
    numbers = [worker.order("CREATE", seat, 0) for seat in range(1, 51)]
    assert [worker.ended(number, 120).state for number in numbers] == ["done"] * 50
    peak = re.search(r"VmHWM:\s+(\d+) kB", worker.process_status())
    assert peak
    assert int(peak[1]) < 100 * 1024


def test_the_worker_has_three_rights_and_its_children_none(worker: Worker) -> None:
    """It is uid 1804 with CHOWN, DAC_OVERRIDE and FOWNER; a program that it starts inherits nothing."""
    status = worker.process_status()
    found = dict(re.findall(r"^(Uid|Gid|Groups|Cap\w+|NoNewPrivs):\s+(.*?)\s*$", status, re.MULTILINE))
    assert found["Uid"].split() == found["Gid"].split() == ["1804"] * 4
    assert int(found["CapEff"], 16) == int(found["CapPrm"], 16) == 1 << 0 | 1 << 1 | 1 << 3
    assert int(found["CapAmb"], 16) == 0
    assert found["NoNewPrivs"] == "1"


@pytest.mark.parametrize("phase", PHASES)
def test_a_worker_killed_in_any_phase_leaves_one_ready_seat(worker: Worker, phase: str) -> None:
    """The next worker begins the action again within seconds, and removes what lay about half-made."""
    seat = 20 + PHASES.index(phase)
    worker.ask_hub("PUT", f"slowness/{1.0 if phase in ('server', 'answer') else 0.05}")
    number = worker.order("CREATE", seat, 200 + seat)
    wait_for(lambda: phase in [one["name"] for one in worker.action(number).phases], 10)
    worker.kill()
    died = time.monotonic()
    ended = worker.ended(number, 30)
    assert time.monotonic() - died < 15
    worker.ask_hub("PUT", "slowness/0.05")
    is_ready_once(worker, ended, seat, 200 + seat)


@pytest.mark.parametrize("delay", [0.0, 0.05, 0.1, 0.15, 0.2, 0.3])
def test_a_worker_killed_at_any_moment_of_many_actions_loses_none(worker: Worker, delay: float) -> None:
    """Ten seats in the making: each ends as one ready seat."""
    numbers = {seat: worker.order("CREATE", seat, int(1000 + 1000 * delay + seat)) for seat in range(30, 40)}
    time.sleep(delay)
    worker.kill()
    for seat, number in numbers.items():
        is_ready_once(worker, worker.ended(number), seat, int(1000 + 1000 * delay + seat))


def test_a_killed_cleanup_is_ended(worker: Worker) -> None:
    """The seat is free in the end, and its home gone."""
    worker.done("CREATE", 41, 300)
    number = worker.order("CLEANUP", 41, 300)
    wait_for(lambda: worker.action(number).phases, 10)
    worker.kill()
    assert worker.ended(number).state == "done"
    assert worker.seat(41) == Seat(41, "free")
    assert not (STATE / "data/students/student41").exists()


def test_a_database_that_restarts_loses_no_action(worker: Worker) -> None:
    """Actions under way begin again when it is back, the others wait for it."""
    numbers = [worker.order("CREATE", seat, 400 + seat) for seat in range(42, 48)]
    docker("restart", "--time=10", worker.behind.name)
    wait_for(
        lambda: docker("inspect", "-f", "{{.State.Health.Status}}", worker.behind.name).strip() == "healthy"
    )
    for seat, number in zip(range(42, 48), numbers, strict=True):
        is_ready_once(worker, worker.ended(number), seat, 400 + seat)


def test_a_hub_that_is_away_is_waited_for(worker: Worker) -> None:
    """The action says why it waits, and is done when the hub is back."""
    docker("stop", "--time=1", f"{NAME}-hub")
    number = worker.order("CREATE", 48, 500)
    wait_for(lambda: "To be tried again" in (worker.action(number).reason or ""), 60)
    docker("start", f"{NAME}-hub")
    ended = worker.ended(number)
    assert (ended.state, ended.reason) == ("done", None)


def test_a_job_whose_end_could_not_be_stored_is_begun_again(worker: Worker) -> None:
    """A job that is begun in the database but not in the worker does not keep its seat for ever."""
    number = worker.order("CREATE", 49, 501)
    assert worker.ended(number).state == "done"
    worker.behind.sql(
        f"UPDATE wod.action SET state = 'running' WHERE id = {number};"  # noqa: S608
        "INSERT INTO procrastinate_jobs (queue_name, task_name, lock, args, status)"
        f"VALUES ('actions', 'wod.carry_out', 'seat-49', '{{\"action_id\": {number}}}', 'doing')"
    )
    assert worker.ended(number, 30).state == "done"


def test_asked_to_stop_the_worker_ends_what_it_does(worker: Worker) -> None:
    """On SIGTERM a running action is carried to its end, and the worker leaves with exit code 0."""
    worker.ask_hub("PUT", "slowness/2")
    number = worker.order("CREATE", 50, 502)
    wait_for(lambda: "server" in [one["name"] for one in worker.action(number).phases], 10)
    docker("stop", "--time=30", NAME)
    assert docker("inspect", "-f", "{{.State.ExitCode}}", NAME).strip() == "0"
    assert worker.action(number).state == "done"
    worker.ask_hub("PUT", "slowness/0.05")
    docker("start", NAME)
    worker.done("CLEANUP", 50, 502)


def test_a_second_worker_waits_until_the_first_is_gone(worker: Worker) -> None:
    """Two at once would begin each other's actions."""
    worker.start(name=f"{NAME}-small")
    try:
        wait_for(
            lambda: docker("inspect", "-f", "{{.State.Health.Status}}", f"{NAME}-small").strip() == "healthy"
        )
        worker.done("CREATE", 51, 503)
        assert "at work" not in docker("logs", f"{NAME}-small")
        docker("stop", NAME)
        worker.done("CLEANUP", 51, 503)
    finally:
        docker("rm", "--force", f"{NAME}-small")
        docker("start", NAME)


def test_a_full_disk_is_told_and_leaves_nothing_half_done(worker: Worker) -> None:
    """The action fails with that reason; neither a home nor a part of one is left."""
    docker("stop", NAME)
    worker.start(name=f"{NAME}-small", students="--tmpfs=/student:size=300k,mode=711,uid=1804,gid=1804")
    try:
        ended = worker.ended(worker.order("CREATE", 52, 504))
        assert ended.state == "failed"
        assert "The disk is full" in str(ended.reason)
        left = docker("exec", f"{NAME}-small", "find", "/student", "-mindepth", "2")
        assert left == ""
        assert worker.seat(52).state == "failed"
    finally:
        docker("rm", "--force", f"{NAME}-small")
        docker("start", NAME)
    worker.done("CREATE", 52, 504)
