"""The worker: homes that are whole and safe, seats that are ready once, whatever is killed meanwhile."""

import contextlib
import itertools
import json
import os
import random
import re
import socketserver
import stat
import subprocess
import threading
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import argon2
import pytest

from tests.conftest import ROOT, docker
from tests.images import test_directory
from tests.images.test_database import ACCEPT, Backstage, backstage, queue_id, wait_for
from wodctl.adapters.database import Action, Database, connect_as_operator
from wodctl.model import registration
from wodctl.model.seat import Seat

NAME = "wodtestworker"
STATE = Path("/var/lib/wod-test-worker")
CAPABILITIES = ("CHOWN", "DAC_OVERRIDE", "FOWNER", "SETGID", "SETUID")
PHASES = ("claim", "close", "password", "prepare", "egress", "home", "server", "answer")
PORTAL = {
    "WODAPIDB": "on",
    "WODAPIDBEXTFQDN": "portal",
    "WODBASESTDID": "100",
    "WODBEFQDN": "backend.example.net",
    "WODLDAPSRVNAME": "directory",
    "WODLDAPDMN": "example.org",
    "WODLDAPBINDDN": "cn=keeper,dc=example,dc=org",
}
TITLE = {"cell_type": "markdown", "metadata": {}, "source": ["# Seat {{ STDID }} of {{ BRANDING }}"]}
CODE = {"cell_type": "code", "metadata": {}, "source": ["x = 1"], "outputs": [], "execution_count": 7}
NOTEBOOK = {"cells": [TITLE, CODE, CODE, CODE], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}


@dataclass(frozen=True)
class Worker:
    """The worker as the stack runs it, beside a database and a stand-in for hub and proxy."""

    behind: Backstage
    database: Database

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
                f"--volume={state}/api-password:/run/secrets/api-password:ro",
                f"--volume={state}/seat-key:/run/secrets/seat-key:ro",
                f"--volume={state}/ldap-password:/run/secrets/ldap-password:ro",
                f"--volume={state}/fixed-password:/run/secrets/fixed-password:ro",
                f"--volume={state}/directory/ca.pem:/etc/wod/ca.crt:ro",
            ),
            f"--volume={state}/egress:/run/egress",
            *(f"--volume={state}/rendered/worker.json:/etc/wod/settings.json:ro", "--pids-limit=512"),
            *(f"--volume={state}/workshops:/srv/workshops/public:ro", "--tmpfs=/tmp:mode=1777,size=64m"),
            *(f"--env=WOD_PROJECT={NAME}", f"--env=WOD_STATE={STATE}", "--env=WOD_COMPILER_IMAGE=none"),
            "--env=WOD_EXPORT_IMAGE=none",
            *("--env=WOD_LABS=lab=wod/lab:1", "--env=WOD_LAB_KERNELS=lab=python3,bash jvm=java"),
            "--env=WOD_SEAT_SUBNET=10.213.0.0/20",
            *("--tmpfs=/run/wod:mode=1777,size=1m", *more, self.behind.images["worker"]),
        )

    def order(
        self,
        action: str,
        seat: int,
        customer: int,
        workshop: str = "WKSHP-Sample",
        *,
        last: int | None = None,
    ) -> int:
        """Queue an action; returns its number."""
        name = None if action == "PURGE" else workshop
        return self.database.submit_action(action, seat, last or seat, customer, name, "cli")

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

    def done(self, action: str, seat: int, customer: int, *more: str, last: int | None = None) -> Action:
        """Carry an action out that must succeed."""
        ended = self.ended(self.order(action, seat, customer, *more, last=last))
        assert ended.state == "done", ended
        return ended

    def ask_hub(self, method: str, path: str) -> Any:
        """What the stand-in for the hub answers."""
        return self._ask(f"{NAME}-hub", 8081, method, path)

    def ask_portal(self, method: str, path: str) -> Any:
        """What the stand-in for the registration API answers."""
        return self._ask(f"{NAME}-portal", 8021, method, path)

    def _ask(self, name: str, port: int, method: str, path: str) -> Any:
        form = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}"
        address = docker("inspect", "-f", form, name).strip()
        request = urllib.request.Request(f"http://{address}:{port}/{path}", method=method)
        with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310 - our own container
            return json.loads(answer.read() or b"null")

    def kill(self) -> None:
        """SIGKILL, and another start: the engine would do that by itself, but ever later."""
        docker("kill", "--signal=KILL", NAME)
        docker("start", NAME)

    def process_status(self) -> str:
        """What the kernel says of the worker's own process."""
        return docker("exec", NAME, "sh", "-c", "cat /proc/$(pidof -s python)/status")


@pytest.fixture
def worker(at_work: Worker) -> Worker:
    """The worker, with all seats free and the portal told so."""
    held = [seat.number for seat in at_work.database.seats() if seat.state != "free"]
    numbers = [at_work.order("PURGE", seat, 0) for seat in held]
    assert {at_work.ended(number).state for number in numbers} <= {"done"}
    told_everything(at_work)
    return at_work


@pytest.fixture(scope="module")
def at_work() -> Iterator[Worker]:
    subprocess.run(["rm", "-rf", STATE], check=True)
    remove()
    docker("network", "create", NAME)
    try:
        for behind in backstage(NAME, STATE, **PORTAL):
            for workshop in ("WKSHP-Sample", "WKSHP-Lab", "WKSHP-Ldap", "WKSHP-Broken"):
                make_workshop(STATE / "workshops" / workshop)
            show_password(STATE / "workshops" / "WKSHP-Ldap")
            (STATE / "workshops/WKSHP-Broken/2-Second.ipynb").write_text("{{ NOBODY_KNOWS_THIS }}")
            test_directory.prepare(STATE / "directory")
            for name, content in (
                ("hub-token", "the-token\n"),
                ("seat-key", "the-key\n"),
                ("api-password", "the-password\n"),
                ("ldap-password", f"{test_directory.PASSWORD}\n"),
                ("fixed-password", ""),
            ):
                (STATE / name).write_text(content)
                os.chown(STATE / name, 1804, 1804)
                (STATE / name).chmod(0o400)
            docker("run", "--detach", f"--name={NAME}-portal", f"--network={NAME}", "--network-alias=portal",
                   f"--volume={ROOT}/tests/images/stand_in_registration.py:/api.py:ro",
                   behind.images["base"], "tini", "python3", "/api.py")  # fmt: skip
            slapd = test_directory.images(STATE)["directory"]
            docker("run", "--detach", f"--name={NAME}-directory", f"--network={NAME}", "--network-alias=directory",
                   f"--volume={STATE}/directory:/etc/directory:ro", slapd)  # fmt: skip
            docker("run", "--detach", f"--name={NAME}-hub", f"--network={NAME}", "--network-alias=hub",
                   "--network-alias=proxy", f"--volume={ROOT}/tests/images/stand_in_hub.py:/hub.py:ro",
                   behind.images["base"], "tini", "python3", "/hub.py")  # fmt: skip
            serve_egress(STATE / "egress")
            made = Worker(behind, connect_as_operator(STATE))
            made.start()
            wait_for(lambda: docker("inspect", "-f", "{{.State.Health.Status}}", NAME).strip() == "healthy")
            yield made
    finally:
        remove()
        subprocess.run(["rm", "-rf", STATE], check=True)


class _Content(socketserver.StreamRequestHandler):
    """In the place of the service egress, which has tests of its own: content with every policy."""

    def handle(self) -> None:
        self.rfile.readline()
        self.wfile.write(b'{"unknown": []}\n')


def serve_egress(folder: Path) -> None:
    folder.mkdir()
    server = socketserver.ThreadingUnixStreamServer(str(folder / "egress.sock"), _Content)
    (folder / "egress.sock").chmod(0o666)
    threading.Thread(target=server.serve_forever, daemon=True).start()


def remove() -> None:
    helpers = [f"{NAME}-{name}" for name in ("hub", "small", "portal", "directory")]
    docker("rm", "--force", "--volumes", NAME, *helpers, check=False)
    docker("network", "rm", NAME, check=False)


def make_workshop(path: Path) -> None:
    (path / "Pictures").mkdir(parents=True)
    (path / "Pictures" / "large.png").write_bytes(b"x" * 400_000)
    (path / "0-ReadMeFirst.ipynb").write_text(json.dumps(NOTEBOOK))
    (path / "wod.yml").write_text("name: Sample\nduration: 3\n")


def show_password(path: Path) -> None:
    """Let a workshop show the participant his password."""
    cell = {"cell_type": "markdown", "metadata": {}, "source": ["Your password: {{ PASSSTU }}"]}
    (path / "1-Secret.ipynb").write_text(json.dumps(NOTEBOOK | {"cells": [cell]}))


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
    wait_for(lambda: worker.behind.sql("SELECT count(*) FROM procrastinate_jobs") == ["0"])
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
        worker.done("PURGE", 4, 0)
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
    assert all(phase["seconds"] >= 0 for phase in ended.phases)
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
    """A CREATE for somebody else is refused while he works; once his lease is over it removes home and sessions."""
    worker.done("CREATE", 9, 107)
    (STATE / "data/students/student9/private.txt").write_text("mine")
    refused = worker.ended(worker.order("CREATE", 9, 108))
    assert (refused.state, worker.seat(9).customer) == ("rejected", 107)
    assert "lent to customer 107" in str(refused.reason)
    worker.behind.sql("UPDATE wod.seat SET lease_until = now() + interval '50 milliseconds' WHERE number = 9")
    time.sleep(0.1)
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
    assert found["Groups"].split() == ["1808"]
    assert int(found["CapAmb"], 16) == 0
    assert found["NoNewPrivs"] == "1"


@pytest.mark.parametrize("phase", PHASES)
def test_a_worker_killed_in_any_phase_leaves_one_ready_seat(worker: Worker, phase: str) -> None:
    """The next worker begins the action again, and removes what lay about half-made."""
    seat = 20 + PHASES.index(phase)
    worker.ask_hub("PUT", f"slowness/{1.0 if phase in ('server', 'answer') else 0.05}")
    number = worker.order("CREATE", seat, 200 + seat)
    wait_for(lambda: phase in [one["name"] for one in worker.action(number).phases])
    worker.kill()
    ended = worker.ended(number)
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
    wait_for(lambda: worker.action(number).phases)
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
    wait_for(lambda: "To be tried again" in (worker.action(number).reason or ""))
    docker("start", f"{NAME}-hub")
    ended = worker.ended(number)
    assert (ended.state, ended.reason) == ("done", None)


def test_a_job_whose_end_could_not_be_stored_is_begun_again(worker: Worker) -> None:
    """A job that is begun in the database but not in the worker does not keep its seat for ever."""
    number = worker.order("CREATE", 49, 501)
    assert worker.ended(number).state == "done"
    worker.behind.sql(
        f"UPDATE wod.action SET state = 'running' WHERE id = {number};"  # noqa: S608
        f"UPDATE wod.step SET state = 'running' WHERE action = {number};"
        "INSERT INTO procrastinate_jobs (queue_name, task_name, lock, args, status)"
        f"VALUES ('actions', 'wod.carry_out', 'seat-49', '{{\"seat\": 49}}', 'doing')"
    )
    assert worker.ended(number).state == "done"


def test_a_job_taken_for_abandoned_while_it_runs_does_not_run_twice(worker: Worker) -> None:
    """What comes after it on that seat waits for its end, too."""
    worker.ask_hub("PUT", "slowness/3")
    create = worker.order("CREATE", 51, 503)
    wait_for(lambda: "server" in [one["name"] for one in worker.action(create).phases])
    worker.behind.sql(
        "UPDATE procrastinate_jobs SET status = 'todo' WHERE lock = 'seat-51' AND status = 'doing'"
    )
    purge = worker.order("PURGE", 51, 503)
    ended = [worker.ended(number) for number in (create, purge)]
    worker.ask_hub("PUT", "slowness/0.05")
    assert [one.state for one in ended] == ["done"] * 2
    assert ended[0].finished <= ended[1].started  # type: ignore[operator]
    assert worker.seat(51) == Seat(51, "free")
    assert worker.ask_hub("GET", "said")["said"].count("POST users/student51/server") == 1
    worker.done("CREATE", 52, 504)


def test_asked_to_stop_the_worker_ends_what_it_does(worker: Worker) -> None:
    """On SIGTERM a running action is carried to its end, and the worker leaves with exit code 0."""
    worker.ask_hub("PUT", "slowness/2")
    number = worker.order("CREATE", 50, 502)
    wait_for(lambda: "server" in [one["name"] for one in worker.action(number).phases])
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


def test_a_workshop_is_delivered_into_the_home_of_somebody_who_works(worker: Worker) -> None:
    """Whatever he has laid in its place: his new folder is whole and his, the rest of his home as it was."""
    worker.done("CREATE", 56, 0)
    home = STATE / "data/students/student56"
    (home / "notes.txt").write_text("mine")
    for lay in (
        lambda place: (place / "more.txt").write_text("x"),
        lambda place: (place.rename(home / "aside"), place.symlink_to("/etc")),
    ):
        lay(home / "WKSHP-Sample")
        ended = worker.done("DELIVER", 56, 0, "CHLG-Sample")
        assert [phase["name"] for phase in ended.phases] == ["home"]
        found = [home / "WKSHP-Sample", *(home / "WKSHP-Sample").rglob("*")]
        assert {(path.lstat().st_uid, path.lstat().st_gid) for path in found} == {(2056, 2056)}
        assert {path.name for path in found} == {
            "WKSHP-Sample", "0-ReadMeFirst.ipynb", "Pictures", "large.png", "wod.yml", "wod-generate-pdf.sh",
            ".ipynb_checkpoints", "0-ReadMeFirst-checkpoint.ipynb",
        }  # fmt: skip
    assert (home / "notes.txt").read_text() == "mine"
    assert worker.seat(56).state == "ready"
    assert worker.ask_hub("GET", "said")["running"]["student56"] is True
    worker.done("PURGE", 56, 0)
    refused = worker.ended(worker.order("DELIVER", 56, 0))
    assert (refused.state, "Seat 56 is free" in str(refused.reason)) == ("rejected", True)
    assert not home.exists()


def test_hostile_workshops_are_refused_with_a_reason_and_harm_nobody(worker: Worker) -> None:
    """Escapes, gigabytes, endless loops, links to secrets, pipes: by file; who works meanwhile notices nothing."""
    hostile = {
        "Escape": ("a.sh", "{{ ''.__class__.__mro__ }}", "a.sh, line 1: not allowed"),
        "Gigabyte": ("a.ipynb", "{{ 'a' * 10 ** 9 }}", "a.ipynb"),
        "Loop": (
            "a.sh",
            "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
            "a.sh",
        ),
        "Value": ("a.sh", "{{ EVIL }}", "a.sh"),
        "Shadow": ("a.sh", "/etc/shadow", "a.sh is a link to '/etc/shadow'"),
        "Pipe": ("a.sh", None, "a.sh is a device, socket or pipe"),
        "Many": ("deep", None, "more than 20000 files"),
    }
    root = STATE / "workshops"
    for name, (file, content, _) in hostile.items():
        make_workshop(root / f"WKSHP-{name}")
        path = root / f"WKSHP-{name}" / file
        if name == "Shadow":
            path.symlink_to(str(content))
        elif name == "Pipe":
            os.mkfifo(path)
        elif name == "Many":
            for folder in range(100):
                (path / str(folder)).mkdir(parents=True)
                for number in range(1000):
                    (path / str(folder) / str(number)).touch()
        else:
            path.write_text(str(content))
    (root / "ansible/production").mkdir(parents=True)
    endless = "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"
    (root / "ansible/production/variables_WKSHP-Value.yml").write_text(json.dumps({"EVIL": endless}))
    before = docker("exec", NAME, "sh", "-c", "ls -la /etc /srv /usr/share/wod")
    started = docker("inspect", "-f", "{{.State.StartedAt}}", NAME)
    try:
        orders = {name: worker.order("CREATE", 10 + n, 0, f"WKSHP-{name}") for n, name in enumerate(hostile)}
        worker.done("CREATE", 57, 0)
        for name, number in orders.items():
            ended = worker.ended(number, 120)
            # Rejected: what shows before anything is begun, such as a link out of the workshop.
            assert ended.state in ("failed", "rejected") and f"WKSHP-{name}" in str(ended.reason), ended
            assert hostile[name][2] in str(ended.reason), ended.reason
            assert not (STATE / f"data/students/student{ended.seat}").exists()
    finally:
        for name in [f"WKSHP-{one}" for one in hostile] + ["ansible"]:
            subprocess.run(["rm", "-rf", root / name], check=True)
    assert docker("inspect", "-f", "{{.State.StartedAt}}", NAME) == started
    assert docker("exec", NAME, "sh", "-c", "ls -la /etc /srv /usr/share/wod") == before
    assert os.listdir(STATE / "data/students/.staging") == os.listdir(STATE / "data/students/.trash") == []
    peak = docker("exec", NAME, "sh", "-c", "grep VmHWM /proc/$(pidof -s python)/status")
    assert int(peak.split()[1]) < 200_000
    for seat in [57, *range(10, 10 + len(hostile))]:
        worker.done("PURGE", seat, 0)


def told(worker: Worker, action: Action) -> None:
    """Return when the registration API has been told all that it is owed of an action."""
    wait_for(lambda: not worker.action(action.id).owed)


def told_everything(worker: Worker) -> None:
    """Return when no action is left and the registration database is owed nothing, of whomever.

    A seat is free a moment before what there is to tell of it is owed.
    """
    busy = (
        "SELECT (SELECT count(*) FROM wod.action WHERE state IN ('queued', 'running'))"
        " + (SELECT count(*) FROM wod.owed WHERE NOT refused)"
    )
    wait_for(lambda: worker.behind.sql(busy) == ["0"])


def updates(worker: Worker, seat: int, customer: int) -> list[tuple[str, dict[str, str]]]:
    """What the registration API was told of a seat and a customer, in order; passwords as PASSWORD."""
    found = []
    for method, path, body in worker.ask_portal("GET", "said")["said"]:
        if method == "PUT" and path in (f"student/{100 + seat}", f"customer/{customer}"):
            shown = {name: "PASSWORD" if name == "password" else value for name, value in body.items()}
            if (path, shown) not in found[-1:]:  # told twice, when the token had expired
                found.append((path, shown))
    return found


def opens(worker: Worker, seat: int, password: str) -> bool:
    """Whether that password is the seat's."""
    hashes = worker.behind.sql(f"SELECT * FROM wod.seat_login('student{seat}')", uid=1801)  # noqa: S608
    with contextlib.suppress(argon2.exceptions.VerifyMismatchError):
        return bool(hashes) and argon2.PasswordHasher().verify(hashes[0], password)
    return False


def work_in(seat: int, workshop: str = "WKSHP-Sample") -> None:
    """Execute one of the three code cells, as JupyterLab leaves it."""
    path = STATE / f"data/students/student{seat}" / workshop / "0-ReadMeFirst.ipynb"
    notebook = json.loads(path.read_text())
    notebook["cells"][1]["execution_count"] = 7
    path.write_text(json.dumps(notebook))


def test_the_portal_hears_of_a_lease_in_the_order_it_knows(worker: Worker) -> None:
    """A password that works before `active`; completion, release, `cleaned` at the end; texts as values."""
    created = worker.done("CREATE", 3, 600)
    told(worker, created)
    password = worker.ask_portal("GET", "said")["rows"]["student/103"]["password"]
    assert opens(worker, 3, password)
    work_in(3)
    cleaned = worker.done("CLEANUP", 3, 600)
    told(worker, cleaned)
    assert cleaned.completion == 33
    assert not opens(worker, 3, password)
    assert updates(worker, 3, 600)[-6:] == [
        ("student/103", {"password": "PASSWORD"}),
        ("customer/600", {"active": "true"}),
        ("student/103", {"password": "PASSWORD"}),
        ("customer/600", {"completionPercentage": "33"}),
        ("student/103", {"assigned": "false"}),
        ("customer/600", {"cleaned": "true"}),
    ]
    assert worker.ask_portal("GET", "said")["rows"]["student/103"]["password"] != password


def test_an_untouched_workshop_is_at_0_percent(worker: Worker) -> None:
    """Though its notebooks came with execution counts."""
    worker.done("CREATE", 3, 601)
    assert worker.done("CLEANUP", 3, 601).completion == 0


def test_a_seat_that_needs_a_reset_is_kept_for_it(worker: Worker) -> None:
    """After the CLEANUP nobody can log in, but the seat stays assigned; the RESET frees it."""
    worker.done("CREATE", 4, 602, "WKSHP-Lab")
    told(worker, worker.done("CLEANUP", 4, 602, "WKSHP-Lab"))
    assert worker.seat(4).state == "cleaning"
    assert (STATE / "data/students/student4").exists()
    assert updates(worker, 4, 602)[-3:] == [
        ("student/104", {"assigned": "true"}),
        ("customer/602", {"active": "false"}),
        ("customer/602", {"cleaned": "true"}),
    ]
    told(worker, worker.done("RESET", 4, 602, "WKSHP-Lab"))
    assert worker.seat(4) == Seat(4, "free")
    assert not (STATE / "data/students/student4").exists()
    assert updates(worker, 4, 602)[-2:] == [
        ("student/104", {"password": "PASSWORD"}),
        ("student/104", {"assigned": "false"}),
    ]


def test_a_purge_without_a_cleanup_does_its_work(worker: Worker) -> None:
    """Completion and `cleaned` reach the portal all the same."""
    worker.done("CREATE", 5, 603)
    work_in(5)
    purged = worker.done("PURGE", 5, 603)
    told(worker, purged)
    assert purged.completion == 33
    assert worker.seat(5) == Seat(5, "free")
    assert updates(worker, 5, 603)[-3:] == [
        ("customer/603", {"completionPercentage": "33"}),
        ("student/105", {"assigned": "false", "password": "PASSWORD"}),
        ("customer/603", {"cleaned": "true"}),
    ]


def test_a_range_is_reset_seat_by_seat_and_disturbs_nobody(worker: Worker) -> None:
    """Kept seats become free and the capacity is restored; who is at work keeps his seat."""
    for seat in (53, 54, 55):
        worker.done("CREATE", seat, 650 + seat, "WKSHP-Lab")
    for seat in (53, 55):
        worker.done("CLEANUP", seat, 650 + seat, "WKSHP-Lab")
    ended = worker.done("RESET", 53, 33, "WKSHP-Lab", last=56)
    told(worker, ended)
    assert [worker.seat(seat).state for seat in range(53, 57)] == ["free", "ready", "free", "free"]
    assert "Seat 54 is customer 704's now" in str(ended.reason)
    assert sorted(phase["name"] for phase in ended.phases) == ["seat 53", "seat 54", "seat 55", "seat 56"]
    assert worker.database.capacity("WKSHP-Lab") == 4
    assert worker.ask_portal("GET", "said")["rows"]["workshop/8"] == {"capacity": "4"}
    worker.done("CLEANUP", 54, 0, "WKSHP-Lab")


def test_a_portal_that_is_away_keeps_nobody_from_his_seat(worker: Worker) -> None:
    """What it should have heard is owed, visible with the action, and told in order when it is back."""
    worker.ask_portal("PUT", "answer/503")
    try:
        created = worker.done("CREATE", 6, 604)
        wait_for(lambda: "status 503" in " ".join(worker.action(created.id).owed))
        cleaned = worker.done("CLEANUP", 6, 604)
        assert len(worker.action(created.id).owed) == 2
        assert len(worker.action(cleaned.id).owed) == 4
        assert "password" not in " ".join(worker.behind.sql("SELECT body FROM wod.owed")).replace(
            '"password": null', ""
        )
        worker.kill()
    finally:
        worker.ask_portal("PUT", "answer/0")
    wait_for(lambda: not worker.action(cleaned.id).owed)
    assert not worker.action(created.id).owed
    assert [list(body) for path, body in updates(worker, 6, 604) if path.startswith("customer")][-3:] == [
        ["active"], ["completionPercentage"], ["cleaned"],
    ]  # fmt: skip


def test_a_lease_that_is_over_ends_by_itself(worker: Worker) -> None:
    """Within seconds, by an order of our own, without any mail; what was done is counted and told."""
    worker.done("CREATE", 7, 605)
    work_in(7)
    worker.behind.sql("UPDATE wod.seat SET lease_until = now() WHERE number = 7")
    wait_for(lambda: worker.seat(7).state == "free")
    ours = next(one for one in worker.database.actions(only_rejected=False, limit=9) if one.seat == 7)
    assert (ours.action, ours.customer, ours.source, ours.completion) == ("CLEANUP", 605, "lease", 33)
    told(worker, ours)
    assert updates(worker, 7, 605)[-1] == ("customer/605", {"cleaned": "true"})


def test_a_stuck_seat_is_cleaned(worker: Worker) -> None:
    """Ten minutes in the making, or waiting for a RESET that never comes, and it is made free."""
    worker.done("CREATE", 8, 606, "WKSHP-Lab")
    worker.done("CLEANUP", 8, 606, "WKSHP-Lab")
    worker.done("CREATE", 9, 607)
    worker.behind.sql(
        "UPDATE wod.seat SET changed = now() - interval '11 minutes' WHERE number = 8;"
        "UPDATE wod.seat SET changed = now() - interval '11 minutes', state = 'preparing', password_hash = NULL"
        " WHERE number = 9"
    )
    wait_for(lambda: {worker.seat(8).state, worker.seat(9).state} == {"free"})


LIST, LOGIN = ("GET", "workshops", None, 200), ("POST", "login", "ACCOUNT", 200)


def put(path: str, status: int = 200, **body: str) -> tuple[str, str, Any, int]:
    """One update as it is written down."""
    return ("PUT", path, body, status)


def exchanges(worker: Worker, since: int) -> list[tuple[str, str, Any, int]]:
    """All that the registration API was asked after so many questions; secrets by what they are."""
    answer = worker.ask_portal("GET", "said")
    found = []
    for (method, path, body), status in zip(answer["said"], answer["statuses"], strict=True):
        if path == "login":
            body = "ACCOUNT"
        elif isinstance(body, dict) and "password" in body:
            body = body | {"password": "PASSWORD"}
        found.append((method, path, body, status))
    return found[since:]


PASSWORD: dict[str, Any] = {"password": "PASSWORD"}
WRITTEN_DOWN = {
    "CREATE": [
        LIST, put("student/114", 401, **PASSWORD), LOGIN, put("student/114", **PASSWORD),
        put("customer/700", active="true"),
    ],
    "CLEANUP": [
        LIST, put("student/114", 401, **PASSWORD), LOGIN, put("student/114", **PASSWORD),
        put("customer/700", completionPercentage="33"), put("student/114", assigned="false"),
        put("customer/700", cleaned="true"),
    ],
    "PURGE after it": [put("customer/700", 401, cleaned="true"), LOGIN, put("customer/700", cleaned="true")],
    "CLEANUP before a RESET": [
        LIST, put("student/115", 401, **PASSWORD), LOGIN, put("student/115", **PASSWORD),
        put("customer/701", completionPercentage="0"), put("student/115", assigned="true"),
        put("customer/701", active="false"), put("customer/701", cleaned="true"),
    ],
    "RESET": [
        LIST, put("student/115", 401, **PASSWORD), LOGIN, put("student/115", **PASSWORD),
        put("student/115", assigned="false"),
    ],
    "PURGE alone": [
        LIST, put("customer/702", 401, completionPercentage="0"), LOGIN,
        put("customer/702", completionPercentage="0"), put("student/116", assigned="false", **PASSWORD),
        put("customer/702", cleaned="true"),
    ],
    "RESET of a range": [
        LIST, put("workshop/8", 401, capacity="2"), LOGIN, put("workshop/8", capacity="2"),
        LIST, put("student/118", **PASSWORD), put("student/118", assigned="false"),
        LIST, put("student/117", **PASSWORD), put("student/117", assigned="false"),
    ],
    "unregistered before he began": [
        LIST, put("student/119", 401, **PASSWORD), LOGIN, put("student/119", **PASSWORD),
        put("student/119", assigned="false"), put("customer/703", cleaned="true"),
    ],
}  # fmt: skip


def test_the_portal_is_asked_and_told_what_is_written_down(worker: Worker) -> None:
    """Every exchange of each action in its order, beginning with a token that has expired, as after three minutes.

    The API refuses unknown paths, columns and values other than texts.
    """

    def asked(name: str, action: str, seat: int, customer: int, *more: str, last: int | None = None) -> None:
        told_everything(worker)  # what is told of others would be the first to meet the expired token
        worker.ask_portal("PUT", "lifetime/86400")
        since = len(worker.ask_portal("GET", "said")["said"])
        told(worker, worker.done(action, seat, customer, *more, last=last))
        found = exchanges(worker, since)
        if last:  # seats are reset side by side, and the worker asks for the workshop's number once more
            found, expected = sorted(map(str, found)), sorted(map(str, [*WRITTEN_DOWN[name], LIST]))
            assert found == expected
        else:
            assert found == WRITTEN_DOWN[name]

    worker.done("PURGE", 14, 0)  # the worker has a token, once it has told that
    try:
        asked("CREATE", "CREATE", 14, 700)
        work_in(14)
        asked("CLEANUP", "CLEANUP", 14, 700)
        asked("PURGE after it", "PURGE", 14, 700)
        told(worker, worker.done("CREATE", 15, 701, "WKSHP-Lab"))
        asked("CLEANUP before a RESET", "CLEANUP", 15, 701, "WKSHP-Lab")
        asked("RESET", "RESET", 15, 701, "WKSHP-Lab")
        told(worker, worker.done("CREATE", 16, 702, "CHLG-Sample"))
        asked("PURGE alone", "PURGE", 16, 702)
        asked("RESET of a range", "RESET", 17, 33, "WKSHP-Lab", last=18)
        asked("unregistered before he began", "CLEANUP", 19, 703)
    finally:
        worker.ask_portal("PUT", "lifetime/1")


def shown_password(seat: int) -> str:
    """The password that the participant of WKSHP-Ldap finds in his notebook."""
    text = (STATE / f"data/students/student{seat}/WKSHP-Ldap/1-Secret.ipynb").read_text()
    return re.findall(r"Your password: (\w+)", text)[0]


def opens_entry(seat: int, password: str) -> bool:
    """Whether an appliance would let the seat's user in with it."""
    return test_directory.Served("", f"{NAME}-directory").opens(seat, password)


def test_one_password_in_notebook_directory_seat_and_portal(worker: Worker) -> None:
    """For a workshop flagged `ldap` or showing it; the lease's end makes it worthless everywhere."""
    told(worker, worker.done("CREATE", 5, 710, "WKSHP-Ldap"))
    password = shown_password(5)
    assert opens(worker, 5, password)
    assert opens_entry(5, password)
    assert worker.ask_portal("GET", "said")["rows"]["student/105"]["password"] == password
    told(worker, worker.done("CLEANUP", 5, 710, "WKSHP-Ldap"))
    assert not opens(worker, 5, password)
    assert not opens_entry(5, password)
    rotated = worker.ask_portal("GET", "said")["rows"]["student/105"]["password"]
    assert password != rotated
    assert not opens_entry(5, rotated)
    assert os.listdir(STATE / "data/students/.passwords") == []


def test_a_shown_password_survives_an_api_that_is_away_and_a_killed_worker(worker: Worker) -> None:
    """It is told when the API is back, and has never been in the database or a log."""
    worker.ask_portal("PUT", "answer/503")
    try:
        created = worker.done("CREATE", 6, 711, "WKSHP-Ldap")
        password = shown_password(6)
        worker.kill()
        dump = subprocess.run(
            ["docker", "exec", "--user=1804:1808", worker.behind.name,
             "pg_dump", "-h", "/run/postgresql", "-U", "wod", "wod"],
            capture_output=True, text=True, check=True,
        ).stdout  # fmt: skip
        log = subprocess.run(["docker", "logs", NAME], capture_output=True, text=True, check=True)
        assert "CREATE" in dump
        assert password not in dump + log.stdout + log.stderr
    finally:
        worker.ask_portal("PUT", "answer/0")
    told(worker, created)
    assert worker.ask_portal("GET", "said")["rows"]["student/106"]["password"] == password
    assert opens(worker, 6, password)
    worker.done("PURGE", 6, 711)
    assert not opens_entry(6, password)


def test_a_directory_that_is_away_is_waited_for(worker: Worker) -> None:
    """By CREATE, and by the lease's end: no seat is free whose entry is open."""
    worker.done("CREATE", 7, 712, "WKSHP-Ldap")
    password = shown_password(7)
    docker("stop", "--time=1", f"{NAME}-directory")
    try:
        number = worker.order("CLEANUP", 7, 712, "WKSHP-Ldap")
        wait_for(lambda: "does not answer" in (worker.action(number).reason or ""))
        assert worker.seat(7).state == "cleaning"
    finally:
        docker("start", f"{NAME}-directory")
    wait_for(test_directory.Served("", f"{NAME}-directory").answers)
    assert worker.ended(number).state == "done"
    assert worker.seat(7) == Seat(7, "free")
    assert not opens_entry(7, password)


def test_what_an_operator_changes_reaches_everybody_who_must_know(worker: Worker) -> None:
    """A new password opens seat and entry and is told; so is the lease's new end."""
    told(worker, worker.done("CREATE", 8, 713, "WKSHP-Ldap"))
    give = [
        "docker",
        "exec",
        "--interactive",
        "--user=1804:1808",
        NAME,
        "python",
        "-m",
        "wodctl.worker",
        "password",
    ]
    former = shown_password(8)
    subprocess.run([*give, "8"], input="operators-choice\n", text=True, check=True, capture_output=True)
    created = next(
        one for one in worker.database.actions(only_rejected=False, limit=9) if one.customer == 713
    )
    told(worker, created)
    assert (
        worker.ask_portal("GET", "said")["rows"]["student/108"].items()
        >= {"password": "operators-choice"}.items()
    )
    assert opens(worker, 8, "operators-choice")
    assert opens_entry(8, "operators-choice")
    assert not opens(worker, 8, former)
    until = worker.database.extend_lease(8, timedelta(minutes=30))
    assert until
    worker.database.owe_holder(8, 713, [registration.ends(713, until)])
    told(worker, created)
    assert worker.ask_portal("GET", "said")["rows"]["customer/713"]["endDate"] == until.isoformat()
    worker.done("PURGE", 8, 713)
    refused = subprocess.run([*give, "8"], input="too-late\n", text=True, capture_output=True, check=False)
    assert (refused.returncode, "Seat 8 is free" in refused.stderr) == (6, True)
    assert not opens_entry(8, "operators-choice")
    assert not opens_entry(8, "too-late")


def test_who_is_driven_out_is_counted_and_told(worker: Worker) -> None:
    """By the operator's CLEANUP for nobody, and by the next one's CREATE after his lease."""
    told(worker, worker.done("CREATE", 9, 720))
    work_in(9)
    told(worker, worker.done("CLEANUP", 9, 0))
    told(worker, worker.done("CREATE", 10, 721))
    work_in(10)
    worker.behind.sql("UPDATE wod.seat SET state = 'failed', password_hash = NULL WHERE number = 10")
    told(worker, worker.done("CREATE", 10, 722))
    rows = worker.ask_portal("GET", "said")["rows"]
    for gone in (720, 721):
        assert rows[f"customer/{gone}"]["completionPercentage"] == "33"
        assert rows[f"customer/{gone}"]["cleaned"] == "true"
    assert rows["customer/722"] == {"active": "true"}
    worker.done("PURGE", 10, 0)


@pytest.mark.parametrize(
    ("action", "seat", "workshop", "state", "said"),
    [
        (
            "CREATE",
            11,
            "WKSHP-Unknown",
            "rejected",
            ["No workshop called WKSHP-Unknown", "wodctl workshop list"],
        ),
        ("CREATE", 61, "WKSHP-Sample", "rejected", ["Seat 61 is not on this backend", "1 to 60"]),
        ("CLEANUP", 61, "WKSHP-Sample", "rejected", ["Seat 61 is not on this backend", "1 to 60"]),
        ("PURGE", 61, "", "rejected", ["Seat 61 is not on this backend", "1 to 60"]),
        ("CREATE", 12, "WKSHP-Broken", "failed", ["WKSHP-Broken/2-Second.ipynb", "NOBODY_KNOWS_THIS"]),
    ],
)
def test_what_cannot_be_done_says_why_and_what_to_do(
    worker: Worker, action: str, seat: int, workshop: str, state: str, said: list[str]
) -> None:
    """With the action, for the operator who looks there."""
    ended = worker.ended(worker.order(action, seat, 730, workshop))
    assert ended.state == state
    assert all(part in str(ended.reason) for part in said), ended.reason
    if seat < 61:
        worker.done("PURGE", seat, 0)


def test_an_unknown_customer_is_named_with_the_action_and_holds_nobody_up(worker: Worker) -> None:
    """The API knows no such row and says 400: what could not be told stays visible, the rest is told."""
    worker.ask_portal("PUT", "unknown/customer/740")
    created = worker.done("CREATE", 11, 740)
    other = worker.done("CREATE", 12, 741)
    told(worker, other)
    [owed] = worker.action(created.id).owed
    assert owed.startswith("customer 740 active (refused)")
    assert "status 400" in owed
    assert [refused for _, _, refused in worker.database.debts()] == [True]
    for seat in (11, 12):
        worker.done("PURGE", seat, 0)
    worker.behind.sql("DELETE FROM wod.owed")


def test_a_home_that_is_missing_is_no_obstacle_and_is_told(worker: Worker) -> None:
    """The lease ends all the same: nothing is left to count, and the portal hears of its end."""
    worker.done("CREATE", 13, 742)
    subprocess.run(["rm", "-rf", STATE / "data/students/student13"], check=True)
    ended = worker.done("CLEANUP", 13, 742)
    told(worker, ended)
    assert "The home of student13 was gone" in str(ended.reason)
    assert worker.ask_portal("GET", "said")["rows"]["customer/742"]["cleaned"] == "true"
    assert worker.seat(13) == Seat(13, "free")


def test_who_has_gone_before_his_seat_was_ready_gets_none(worker: Worker) -> None:
    """The end of a lease that is filed first of all, while another has the seat, still comes after its CREATE."""
    worker.done("CREATE", 53, 4001)
    # In the order of the portal: one gives the seat back, another gets it and gives it back. They are filed backwards.
    orders = [("PURGE", 4002, "NULL"), ("CREATE", 4002, "'WKSHP-Sample'"), ("PURGE", 4001, "NULL")]
    now = time.time()
    numbers = []
    for late, (action, customer, workshop) in enumerate(orders):
        mail = queue_id(time.time() - now + late / 20)
        filed = ACCEPT.format(mail, f"'{action}', 53, 53, {customer}, {workshop}, NULL, 'raw'")
        numbers.append(int(worker.behind.sql(filed, uid=1802)[0]))
        if action == "PURGE":
            worker.ended(numbers[-1])
    created = worker.ended(numbers[1])
    assert (created.state, worker.seat(53)) == ("done", Seat(53, "free")), created
    assert f"Action {numbers[0]} was ordered later" in str(created.reason)


SEED = int(os.environ.get("WOD_TEST_SEED", "0")) or random.randrange(10**6)  # noqa: S311


def test_random_orders_kills_and_outages_leave_every_seat_as_its_last_order_says(worker: Worker) -> None:
    """Orders on six seats in the order of a portal, delivered twice and out of order, while worker and portal die.

    In the end every order is carried out, nobody has a seat whose lease was ended, everybody else has his, and
    nothing is owed. The seed is in the environment variable WOD_TEST_SEED, or printed.
    """
    print(f"WOD_TEST_SEED={SEED}")
    chance = random.Random(SEED)  # noqa: S311 - a test's dice
    seats, customer, mails, holder = range(20, 26), itertools.count(5000), [], {}
    now = time.time() - 60
    for _ in range(40):
        seat = chance.choice(seats)
        if seat not in holder:
            holder[seat] = next(customer)
            mails.append(("CREATE", seat, holder[seat], "WKSHP-Sample"))
        else:
            ends = chance.choice(
                (["CLEANUP"], ["PURGE"], ["CLEANUP", "PURGE"], ["CLEANUP", "RESET", "PURGE"])
            )
            gone = holder.pop(seat)
            mails += [(end, seat, gone, None if end == "PURGE" else "WKSHP-Sample") for end in ends]
    for seat in seats:
        worker.done("PURGE", seat, 0)
    marked = [(queue_id(time.time() - now - number / 10), *mail) for number, mail in enumerate(mails)]
    # Three deliveries at a time, and each mail perhaps again: out of order by a few places.
    ranked = [(number + chance.uniform(0, 6), one) for number, one in enumerate(marked)]
    ranked += [
        (number + chance.uniform(0, 12), one) for number, one in enumerate(marked) if chance.random() < 0.3
    ]
    kills = set(chance.sample(range(len(ranked)), 4))
    for number, (_, (mail, action, seat, who, workshop)) in enumerate(sorted(ranked)):
        name = f"'{workshop}'" if workshop else "NULL"
        worker.behind.sql(
            ACCEPT.format(mail, f"'{action}', {seat}, {seat}, {who}, {name}, NULL, 'raw'"), uid=1802
        )
        if number in kills:
            worker.ask_portal("PUT", f"answer/{chance.choice((0, 503))}")
            worker.kill()
        time.sleep(chance.uniform(0, 0.3))
    worker.ask_portal("PUT", "answer/0")
    ids = ", ".join(f"'{mail}'" for mail, *_ in marked)
    of_mails = f"FROM wod.action WHERE queue_id IN ({ids})"
    wait_for(
        lambda: worker.behind.sql(f"SELECT count(*) {of_mails} AND state = 'done'") == [str(len(mails))], 120
    )
    for seat in seats:
        found = worker.seat(seat)
        assert (found.state, found.customer) == (
            ("ready", holder[seat]) if seat in holder else ("free", None)
        )
        assert (STATE / f"data/students/student{seat}").exists() is (seat in holder)
        assert worker.ask_hub("GET", "said")["running"].get(f"student{seat}", False) is (seat in holder)
    wait_for(lambda: worker.behind.sql("SELECT count(*) FROM wod.owed") == ["0"])
    rows = worker.ask_portal("GET", "said")["rows"]
    for action, _, who, _ in mails:
        assert action != "CLEANUP" or rows[f"customer/{who}"]["cleaned"] == "true"
    for seat in holder:
        assert opens(worker, seat, rows[f"student/{100 + seat}"]["password"])
    for seat in seats:
        worker.done("PURGE", seat, 0)
