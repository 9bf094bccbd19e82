"""What the watchdogs hold of the figures that they see, and what they do about it."""

import os
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT
from wodctl.actions import watchdogs
from wodctl.actions.watchdogs import Watchdogs
from wodctl.adapters import configuration, usage
from wodctl.adapters.homes import copy_from_home
from wodctl.errors import ActionFailed, Unavailable
from wodctl.model.seat import Seat
from wodctl.model.watchdogs import (
    WATCHDOGS,
    Look,
    Process,
    Usage,
    is_one_of,
    kernels,
    unexplained,
    wants_more,
)

SETTINGS = configuration.load(ROOT, Path("/nonexistent"), {}, {})[0]
KERNEL = "0a1b2c3d-0000-4000-8000-0123456789ab"
SERVER = Process(10, 1, 600, 5, True, "/opt/wod/bin/python -I -m wod_lab")
WORKING = Process(20, 10, 600, 0, False, f"python -m ipykernel_launcher -f /run/jupyter/kernel-{KERNEL}.json")


def burning(pid: int, used: int, command: str, parent: int = 1, age: int = 600) -> Process:
    """A process that has used so many seconds of a processor."""
    return Process(pid, parent, age, used, True, command)


def looks(*pairs: tuple[Process, Process]) -> tuple[Look, Look]:
    """Two looks, a minute apart, at the server, a kernel and these processes; the container used what they used."""
    used = [sum(pair[which].used for pair in pairs) for which in (0, 1)]
    first, second = ([SERVER, WORKING, *(pair[which] for pair in pairs)] for which in (0, 1))
    return Look(0.0, used[0], first), Look(60.0, used[1], second)


def test_what_nobody_is_at_work_on_is_unexplained():
    """A program in a terminal that uses a processor while the kernel has nothing to do."""
    before, now = looks((burning(30, 100, "sort"), burning(30, 160, "sort")))
    assert unexplained(before, now, busy=(), allowed=()) == pytest.approx(1.0)


def test_programs_that_come_and_go_between_two_looks_count_too():
    """The container's figure tells of them, whatever the list of processes shows."""
    before, now = looks()
    assert unexplained(before, Look(60.0, 60.0, now.processes), busy=(), allowed=()) == pytest.approx(1.0)


def test_a_busy_kernel_and_all_that_it_started_are_explained():
    """What it starts may itself start others; a program beside it is explained by nothing."""
    child = [burning(21, used, "bash -c make", parent=20) for used in (0, 30)]
    grandchild = [burning(22, used, "cc1", parent=21) for used in (0, 30)]
    before, now = looks((child[0], child[1]), (grandchild[0], grandchild[1]))
    assert unexplained(before, now, busy=(KERNEL,), allowed=()) == 0
    before, now = looks((child[0], child[1]), (burning(40, 0, "sort"), burning(40, 60, "sort")))
    assert unexplained(before, now, busy=(KERNEL,), allowed=()) == pytest.approx(1.0)


def test_an_allowed_program_is_explained_and_only_as_far_as_it_used_something_itself():
    """One that rests beside a runaway excuses nothing."""
    solver = (burning(30, 0, "/opt/solver --all"), burning(30, 60, "/opt/solver --all"))
    before, now = looks(solver)
    assert unexplained(before, now, busy=(), allowed=("solver",)) == 0
    before, now = looks(
        (burning(30, 0, "solver"), burning(30, 0, "solver")), (burning(31, 0, "x"), burning(31, 60, "x"))
    )
    assert unexplained(before, now, busy=(), allowed=("solver",)) == pytest.approx(1.0)


def test_where_processors_are_short_a_runaway_is_known_by_waiting_for_one():
    """At every look it is ready to run; the server waits there too, and so does what a busy kernel has started."""
    _, now = looks()
    assert not wants_more(now, busy=(), allowed=())
    _, now = looks((burning(30, 0, "sort"), burning(30, 6, "sort")))
    assert wants_more(now, busy=(), allowed=())
    assert not wants_more(now, busy=(), allowed=("sort",))
    _, now = looks((burning(30, 0, "sort", parent=20), burning(30, 6, "sort", parent=20)))
    assert not wants_more(now, busy=(KERNEL,), allowed=())


@pytest.mark.parametrize(
    ("command", "denied"),
    [
        ("/tmp/XMRig -o pool.example.net", True),
        ("python3 ./xmrig-6.py", True),
        ("./renamed -o stratum+tcp://pool.example.net:3333", True),
        ("python3 -m ipykernel_launcher -f kernel.json", False),
        ("vim about-xmrig.txt.md", False),
        ("cat notes about stratum", False),
    ],
)
def test_denied_programs_are_known_by_name_and_by_what_they_connect_to(command: str, denied: bool):
    """Names of the program or the script it runs; patterns with a colon are about the whole command."""
    assert is_one_of(burning(1, 0, command), ("xmrig", "xmrig-*", "*stratum+tcp:*")) is denied


def test_kernels_are_known_by_the_file_that_jupyter_names():
    """With their age; a process that merely speaks of kernels is none."""
    assert kernels([SERVER, WORKING, burning(9, 0, "less kernel-notes.json")]) == {KERNEL: 600}


class Stage:
    """A site on which one seat is lent; keeps what was told, reported, stopped and ordered."""

    def __init__(self, state: str = "ready") -> None:
        self.lent = Seat(3, state, "WKSHP-Welcome101", "WKSHP", 17)
        self.look_now: Look | None = None
        self.used = Usage(0, 0)
        self.names: list[str] = []
        self.known: dict[str, datetime | None] = {}
        self.done: list[tuple[Any, ...]] = []
        self.last: tuple[Any, ...] = ()

    def seats(self) -> list[Seat]:
        return [self.lent]

    def seat(self, number: int) -> Seat | None:
        return self.lent

    def is_waited_for(self, number: int) -> bool:
        return False

    def submit_action(self, *words: Any) -> int:
        self.done.append(words)
        return 1

    def add_notice(self, first: int, last: int, source: str, text: str) -> list[int]:
        self.done.append(("told", text))
        return [first]

    def remove_notices(self, first: int, last: int, source: str) -> None:
        self.done.append(("untold", source))

    def report(self, kind: str, seat: Seat, text: str) -> None:
        self.done.append((kind, text))

    def note_round(self, name: str, seconds: float, found: Any, problem: str | None) -> None:
        self.last = (name, found, problem)

    def forget_actions(self, rejected_days: int, other_days: int) -> int:
        return 0

    def users(self) -> dict[str, datetime | None]:
        return self.known

    def ensure_stopped(self, user: str) -> None:
        self.done.append(("stopped", user))

    def kernels(self, user: str) -> list[Any]:
        raise ActionFailed("no answer")

    def end_kernel(self, user: str, kernel: Any) -> None: ...

    def identity(self, name: str) -> str | None:
        return None

    def look(self, name: str) -> Look | None:
        return self.look_now

    def processes(self, name: str) -> list[Process]:
        assert self.look_now
        return [SERVER, burning(30, int(self.look_now.used), "sort")]

    def ensure_absent(self, name: str) -> None: ...

    def present(self) -> list[str]:
        return self.names

    def usage(self, user: str, most_files: int) -> Usage:
        return self.used

    def free(self) -> int:
        return 2**40

    def dogs(self, **settings: Any) -> Watchdogs:
        changed = SETTINGS.__class__(**{**vars(SETTINGS), **settings})
        return Watchdogs(changed, register=self, servers=self, containers=self, disk=self, project="wod")

    def kinds(self) -> list[str]:
        return [done[0] for done in self.done]


def rounds(stage: Stage, dogs: Watchdogs, minutes: int) -> None:
    """So many rounds, a minute apart, in each of which the seat uses a whole processor."""
    start = stage.look_now.at / 60 if stage.look_now else 0.0
    for minute in range(minutes):
        at = (start + minute + 1) * 60
        stage.look_now = Look(at, at)
        dogs.make_round("runaways")


def test_a_runaway_is_told_first_and_stopped_when_it_goes_on():
    """Reported once after the set minutes, its server stopped after as many again."""
    stage = Stage()
    dogs = stage.dogs(WODRUNAWAYS="stop", WODRUNAWAYMINUTES=10.0)
    rounds(stage, dogs, 10)
    assert stage.done == []
    rounds(stage, dogs, 9)
    assert stage.kinds() == ["told", "REPORT"]
    rounds(stage, dogs, 2)
    assert stage.kinds() == ["told", "REPORT", "told", "stopped", "STOP"]


def test_a_watchdog_that_may_only_report_touches_nothing():
    """With `report` there is one report, no word to the participant, no stop; with `ignore` there is no round."""
    stage = Stage()
    rounds(stage, stage.dogs(WODRUNAWAYS="report", WODRUNAWAYMINUTES=10.0), 40)
    assert stage.kinds() == ["REPORT"]
    stage = Stage()
    rounds(stage, stage.dogs(WODRUNAWAYS="ignore"), 40)
    assert (stage.done, stage.last) == ([], ())


def test_a_home_that_is_too_large_has_ten_minutes_unless_it_grows_fast(monkeypatch: pytest.MonkeyPatch):
    """Told at first sight, stopped after the time of grace; at once where it is twice too large and still grows."""
    now = [0.0]
    monkeypatch.setattr(watchdogs.time, "monotonic", lambda: now[0])
    stage = Stage()
    dogs = stage.dogs(WODSEATDISK="100M", WODSEATFILES=0)
    stage.used = Usage(150 * 2**20, 10)
    for now[0] in (1.0, 300.0, 599.0):
        dogs.make_round("disk")
    assert stage.kinds() == ["told", "REPORT"]
    now[0] = 700.0
    dogs.make_round("disk")
    assert stage.kinds()[2:] == ["told", "stopped", "STOP"]
    stage.used = Usage(10, 10)
    dogs.make_round("disk")
    assert stage.kinds()[-1] == "untold"
    stage.done.clear()
    stage.used = Usage(250 * 2**20, 10)
    dogs.make_round("disk")
    assert "stopped" in stage.kinds()


def test_who_has_not_been_there_for_long_finds_his_server_stopped():
    """Only a server that runs, and only after the hours that the site allows."""
    stage = Stage()
    dogs = stage.dogs(WODIDLEHOURS=2.0)
    stage.known = {"student3": datetime.now(timezone.utc) - timedelta(hours=1)}
    dogs.make_round("idle")
    assert stage.done == []
    stage.known = {"student3": datetime.now(timezone.utc) - timedelta(hours=3)}
    dogs.make_round("idle")
    assert stage.kinds() == ["stopped", "STOP"]


def test_what_a_free_seat_still_has_is_purged_in_its_turn():
    """By an action like any other; a seat that is lent, or has nothing, is left alone."""
    stage = Stage("free")
    stage.names, stage.known = ["student3"], {"student3": None}
    stage.dogs().make_round("orphans")
    assert stage.done == [("PURGE", 3, 3, 0, None, "watchdog")]
    assert stage.last[1] == ["Seat 3 is free and had a home and a user of the hub."]
    stage = Stage("ready")
    stage.names = ["student3"]
    stage.dogs().make_round("orphans")
    assert stage.done == []


def test_a_round_that_fails_says_so(monkeypatch: pytest.MonkeyPatch):
    """The operator sees why nothing was looked at."""
    stage = Stage()

    def away(_: str) -> Look:
        raise Unavailable("The gate does not answer.")

    monkeypatch.setattr(stage, "look", away)
    stage.dogs(WODRUNAWAYS="stop").make_round("runaways")
    assert stage.last == ("runaways", [], "The gate does not answer.")


def test_each_watchdog_names_the_setting_that_switches_it():
    """With the value at which it is off, it is off."""
    off = {"WODRUNAWAYS": "ignore", "WODKERNELHOURS": 0, "WODIDLEHOURS": 0, "WODSEATDISK": "0", "WODSEATFILES": 0,
           "WODORPHANS": False, "WODKEEPACTIONS": 0, "WODKEEPREJECTED": 0}  # fmt: skip
    quiet = SETTINGS.__class__(**{**vars(SETTINGS), **off})
    assert [dog.setting(quiet) for dog in WATCHDOGS] == [""] * len(WATCHDOGS)


def test_a_home_is_measured_whatever_its_participant_laid_into_it(tmp_path: Path):
    """Links lead nowhere, a file with two names counts once, a bottomless folder is told as such."""
    home = tmp_path / "student3"
    home.mkdir()
    (home / "large").write_bytes(b"x" * 2**20)
    os.link(home / "large", home / "again")
    (home / "away").symlink_to("/usr")
    found = usage.of(tmp_path, "student3", 0)
    assert found.files == 3 and 2**20 <= found.size < 2**21 and found.whole
    assert usage.of(tmp_path, "student3", 1).files == 2
    assert usage.of(tmp_path, "student4", 0) == Usage(0, 0)
    deep = home
    for _ in range(usage.DEPTH + 2):
        deep = deep / "d"
    deep.mkdir(parents=True)
    assert not usage.of(tmp_path, "student3", 0).whole


def test_nothing_but_plain_files_leaves_a_home(tmp_path: Path):
    """A link in place of the file, or of its folder, is not followed."""
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "a.pdf").write_text("not his")
    home = tmp_path / "home"
    (home / "Take-home").mkdir(parents=True)
    (home / "Take-home" / "a.pdf").write_text("his")
    copy_from_home(home, ("Take-home", "a.pdf"), tmp_path / "out.pdf")
    assert (tmp_path / "out.pdf").read_text() == "his"
    (home / "Link").symlink_to(secret)
    (home / "Take-home" / "b.pdf").symlink_to(secret / "a.pdf")
    os.mkfifo(home / "Take-home" / "c.pdf")
    for parts in (("Link", "a.pdf"), ("Take-home", "b.pdf"), ("Take-home", "c.pdf"), ("Take-home", "none")):
        with pytest.raises(ActionFailed):
            copy_from_home(home, parts, tmp_path / "stolen")
