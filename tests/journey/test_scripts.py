"""A site with scripts of its own: they run around a seat, through the gate, and nothing is left of them."""

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Stack, docker

WORKSHOP = "WKSHP-Scripted"
SEAT = 44
HOME = f"student{SEAT}"
LANDING = '{"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}'


def write(path: Path, text: str, mode: int = 0o644) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(mode)


@pytest.fixture(scope="module")
def private(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A private repository with one workshop, which the stack has for the time of these tests."""
    folder = tmp_path_factory.mktemp("private")
    for above in (folder, folder.parent, folder.parent.parent):
        above.chmod(0o755)
    content = folder / "notebooks" / WORKSHOP
    write(content / "0-ReadMeFirst.ipynb", LANDING)
    write(content / "values.sh", "{{ HTTPPORT | default(0) }} {{ FLAG }}\n")
    write(content / "wod.yml", "compile: get-flag.shc\nsecrets: [TOKEN]\nreset: true\n")
    write(folder / "ansible/production" / f"variables_{WORKSHOP}.yml", "FLAG: captured\n")
    write(folder / "scripts/get-flag.shc", '#!/bin/bash\necho "{{ FLAG }} by $(id -un)"\n')
    conf = stack.state / "conf" / "production.yml"
    conf.write_text(f"WODPRIVDIR: {folder}\nWODSCRIPTSECONDS: 20\n")
    stack.wodctl("up")
    yield folder
    stack.wodctl("action", "submit", "PURGE", str(SEAT), "0", "--wait", check=False)
    conf.unlink()
    stack.wodctl("up")


@pytest.fixture(autouse=True)
def scripts(private: Path) -> Iterator[Callable[[str, str], None]]:
    """Gives the site a script of a kind."""

    def give(kind: str, text: str) -> None:
        write(private / "scripts" / f"{kind}-{WORKSHOP}.sh", f"#!/bin/bash\n{text}\n", 0o755)

    yield give
    for file in (private / "scripts").glob("*-WKSHP-*.sh"):
        file.unlink()


def order(stack: Stack, action: str, customer: int, *, wait: bool = True) -> dict[str, Any]:
    """An action on the seat, as `action show` tells it."""
    words = ["action", "submit", action, str(SEAT), str(customer), "-w", WORKSHOP, "--json"]
    done = stack.wodctl(*words, *(["--wait"] if wait else []), check=False)
    return dict(json.loads(done.stdout))


def shown(stack: Stack, number: int) -> dict[str, Any]:
    return dict(json.loads(stack.wodctl("action", "show", str(number), "--json").stdout))


def leftovers(stack: Stack) -> list[str]:
    """Containers and folders of scripts."""
    containers = docker("ps", "-a", "--format", "{{.Names}}").split()
    folders = (stack.state / "data/scripts").glob("[!.]*")
    return [*(name for name in containers if name.startswith(f"{stack.project}-script")), *map(str, folders)]


def in_seat(*words: str) -> str:
    return docker("exec", f"--workdir=/student/{HOME}", *words)


def test_a_lease_with_scripts_from_its_beginning_to_its_end(
    stack: Stack, scripts: Callable[[str, str], None]
) -> None:
    """CREATE, CLEANUP and RESET: what they write into the home, what they hand over, what the action shows."""
    scripts("create", 'echo "HTTPPORT: 14153" >> $WODANSIBLEPRIVDIR/$WODGROUP/pass/variables_${w}_$stdid.yml')
    scripts("post-copy", 'cat $stddir/$ws/values.sh > $stddir/seen; echo "for $stdid: $randompw"')
    scripts("cleanup", 'ls $stddir; echo "cleanup of $ws"')
    scripts("reset", 'echo "reset of $stdid"')
    created = order(stack, "CREATE", 71)
    assert created["state"] == "done", created
    server = f"{stack.project}-{HOME}"
    assert in_seat(server, "cat", "seen") == "14153 captured\n"
    assert in_seat(server, "./get-flag.shc.x") == f"captured by {HOME}\n"
    assert len(in_seat(server, "cat", ".wod/secrets/TOKEN")) == 32
    outputs = {phase["name"]: phase.get("output") for phase in created["phases"]}
    assert outputs[f"private post-copy-{WORKSHOP}.sh"] == f"for {SEAT}: (secret)\n"
    text = stack.wodctl("action", "show", str(created["id"])).stdout
    assert f"private post-copy-{WORKSHOP}.sh:\n  for {SEAT}: (secret)\n" in text
    cleaned = order(stack, "CLEANUP", 71)
    [said] = [phase["output"] for phase in cleaned["phases"] if "cleanup-" in phase["name"]]
    assert said.endswith(f"seen\ncleanup of {WORKSHOP}\n")
    [said] = [p["output"] for p in order(stack, "RESET", 71)["phases"] if "reset-" in p["name"]]
    assert said == f"reset of {SEAT}\n"
    assert not (stack.state / "data/students" / HOME).exists()
    assert leftovers(stack) == []


def test_a_script_that_fails_is_the_reason_and_the_next_action_finds_a_usable_seat(
    stack: Stack, scripts: Callable[[str, str], None]
) -> None:
    """Its last words on the job; no home, no server, nobody can log in; once it is mended the same order succeeds."""
    scripts("create", "echo half > $stddir/half; echo no such appliance >&2; exit 3")
    failed = order(stack, "CREATE", 72)
    assert failed["state"] == "failed"
    assert failed["reason"] == f"The private create-{WORKSHOP}.sh failed with status 3: no such appliance."
    assert not (stack.state / "data/students" / HOME).exists()
    assert leftovers(stack) == []
    scripts("create", "exit 0")
    stack.wodctl("action", "retry", str(failed["id"]))
    assert order(stack, "CREATE", 72)["state"] == "done"
    assert in_seat(f"{stack.project}-{HOME}", "ls").split() == [WORKSHOP, "get-flag.shc.x"]


def test_a_worker_that_is_killed_while_a_script_runs_begins_again_without_it(
    stack: Stack, scripts: Callable[[str, str], None]
) -> None:
    """The first container is gone before the second starts; the seat is ready once, and no secret was to be seen."""
    scripts(
        "create",
        'echo $RANDOM >> $stddir/begun; [ -e $stddir/begun ] && [ "$(wc -l < $stddir/begun)" = 1 ]\nsleep 8',
    )
    stack.wodctl("action", "submit", "PURGE", str(SEAT), "0", "--wait")
    number = order(stack, "CREATE", 73, wait=False)["id"]
    script = f"{stack.project}-script{SEAT}"
    # Not the compiler's, which has the same name a moment earlier.
    form = "{{.State.Running}} {{.Config.Cmd}}"
    until(
        lambda: "create-" in (said := docker("inspect", "-f", form, script, check=False)) and "true" in said
    )
    first = docker("inspect", script)
    secret = stack.state / "data/scripts" / HOME / "site/secrets/randompw"
    assert secret.read_text()
    assert secret.read_text() not in first + docker("top", script, "-eo", "pid,args")
    docker("kill", "--signal=KILL", stack.container("worker"))
    docker("start", stack.container("worker"))
    until(lambda: shown(stack, number)["state"] in ("done", "failed"), 90)
    assert shown(stack, number)["state"] == "done", shown(stack, number)
    assert in_seat(f"{stack.project}-{HOME}", "wc", "-l", "begun") == "1 begun\n"
    assert json.loads(first)[0]["Id"] not in docker("ps", "-aq", "--no-trunc")
    assert leftovers(stack) == []


def until(promise: Callable[[], bool], seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not promise():
        assert time.monotonic() < end, "It did not happen in time."
        time.sleep(0.2)
