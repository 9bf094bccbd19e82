"""A workshop's notebooks run as pretend students would run them, in the participants' own image."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT, docker

STATE = Path("/var/lib/wod-tests")
PROJECT = f"wodtests{os.getpid()}"
WORDS = [sys.executable, "-m", "wodctl", "--state", str(STATE), "--project", PROJECT, "workshop", "test"]


def notebook(folder: Path, name: str, *cells: str | tuple[str, str], kernel: str = "python3") -> None:
    """A notebook with these cells; a pair is a cell and its tag."""
    made: dict[str, Any] = {
        "cells": [
            {
                "cell_type": "code",
                "id": f"c{number}",
                "execution_count": None,
                "outputs": [],
                "metadata": {} if isinstance(cell, str) else {"tags": [cell[1]]},
                "source": cell if isinstance(cell, str) else cell[0],
            }
            for number, cell in enumerate(cells)
        ],
        "metadata": {"kernelspec": {"name": kernel, "display_name": kernel}},
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(json.dumps(made))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A workshop that has its first page only."""
    notebook(tmp_path / "WKSHP-X", "0-ReadMeFirst.ipynb", "1 + 1")
    return tmp_path / "WKSHP-X"


def run(folder: Path, *words: str, **environment: str) -> tuple[int, list[dict[str, Any]], str]:
    """Exit code, the runs, and what was said beside them; nothing may be left."""
    done = subprocess.run(
        [*WORDS, str(folder), "--json", *words],
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert "Traceback" not in done.stderr, done.stderr
    assert nothing_is_left()
    return done.returncode, json.loads(done.stdout)["runs"] if done.stdout else [], done.stderr


def nothing_is_left() -> bool:
    containers = docker("ps", "--all", "--quiet", f"--filter=label=wod.rehearsal={PROJECT}")
    return not containers and not list(STATE.glob("rehearsal-*"))


def test_a_good_workshop_passes_as_each_student(folder):
    """Each seat is its own student, in a closed container, with the image's kernels, in reading order."""
    student = "{{ STDID }}"
    notebook(
        folder,
        "2-WKSHP-Python.ipynb",
        f"import os, socket; assert os.getuid() == 2000 + {student}",
        f"assert socket.gethostname() == 'student{student}' and os.environ['USER'] == 'student{student}'",
        "assert os.getcwd() == os.path.expanduser('~/WKSHP-X') and os.path.exists(os.path.expanduser('~/.bashrc'))",
        "try:\n    open('/usr/owned', 'w')\n    raise AssertionError\nexcept OSError:\n    pass",
        "os.write(1, b'to the standard output')",
    )
    notebook(folder, "10-WKSHP-Bash.ipynb", f"test $(whoami) = student{student}", kernel="bash")
    notebook(folder, ".ipynb_checkpoints/a-checkpoint.ipynb", "1 / 0")
    code, runs, said = run(folder, "--seats", "2")
    assert code == 0, (runs, said)
    names = ["0-ReadMeFirst.ipynb", "2-WKSHP-Python.ipynb", "10-WKSHP-Bash.ipynb"]
    assert [(one["seat"], one["notebook"]) for one in runs] == [
        (seat, name) for seat in (1, 2) for name in names
    ]
    assert [one["kernel"] for one in runs[:3]] == ["python3", "python3", "bash"]
    assert [one["cells"] for one in runs[:3]] == [1, 5, 1] and all(one["seconds"] > 0 for one in runs)
    assert list(runs[1]["timing"]) == ["1", "2", "3", "4", "5"]
    assert 0 < sum(runs[1]["timing"].values()) <= runs[1]["seconds"]


def test_failing_cells_are_told_with_reason_and_the_rest_still_runs(folder):
    """Python by its exception, Bash by its exit code; tags excuse a cell or leave it out."""
    notebook(
        folder,
        "1-WKSHP-A.ipynb",
        "missing",
        ("1 / 0", "raises-exception"),
        ("raise SystemError", "skip-execution"),
        "input()",
        "print('still here')",
    )
    notebook(folder, "2-WKSHP-B.ipynb", "true", "echo the last word; false", kernel="bash")
    code, runs, said = run(folder)
    assert code == 8 and "2 of 3 notebook run(s) failed" in said
    failed = {
        one["notebook"]: [(c["cell"], c["reason"].partition(":")[0]) for c in one["failed"]] for one in runs
    }
    assert failed == {
        "0-ReadMeFirst.ipynb": [],
        "1-WKSHP-A.ipynb": [(1, "NameError"), (4, "StdinNotImplementedError")],
        "2-WKSHP-B.ipynb": [(2, "ended with code 1")],
    }
    assert runs[1]["cells"] == 4
    assert "the last word" in runs[2]["failed"][0]["reason"]


def test_what_ends_a_notebook_early_is_told_and_the_next_one_runs(folder):
    """No such kernel, no notebook at all, a kernel that takes more memory than a seat has."""
    notebook(folder, "1-WKSHP-A.ipynb", "1", kernel="fortran")
    (folder / "2-WKSHP-B.ipynb").write_text("{ no notebook")
    notebook(folder, "3-WKSHP-C.ipynb", "1", "x = bytearray(10**9)")
    notebook(folder, "4-WKSHP-D.ipynb", "1")
    code, runs, _ = run(folder, WODSEATMEMORY="300M")
    assert code == 8
    problems = [one["problem"] for one in runs]
    assert problems[0] is problems[4] is None
    assert problems[1] == "The image has no kernel 'fortran'." and "JSON" in problems[2]
    assert problems[3] == "The kernel died in cell 2."


def test_java_and_kotlin_run_in_a_lab_of_their_own(folder):
    """Nobody says so: their kernels do. Both find what earlier cells defined; a failing cell is told as elsewhere."""
    notebook(
        folder, "1-WKSHP-J.ipynb", "record P(int x) {}", "if (new P(41).x() + 1 != 42) throw new Error();",
        'throw new IllegalStateException("as planned");', kernel="java",
    )  # fmt: skip
    notebook(
        folder, "2-WKSHP-K.ipynb", "data class P(val x: Int)", "check(P({{ STDID }}).x == 1)",
        'error("as planned")', kernel="kotlin",
    )  # fmt: skip
    code, runs, said = run(folder)
    assert code == 8, said
    for outcome, kernel in zip(runs[1:], ("java", "kotlin"), strict=True):
        assert outcome["kernel"] == kernel and outcome["problem"] is None and outcome["cells"] == 3, outcome
        assert [cell["cell"] for cell in outcome["failed"]] == [3] and "as planned" in str(outcome["failed"])


def test_a_challenge_is_run_as_one(folder):
    """The name CHLG-… runs the same folder as a challenge; the operator's table says what came of it."""
    notebook(folder, "1-WKSHP-A.ipynb", "assert '{{ MODEWS }}' == 'CHLG'")
    done = subprocess.run(
        [*WORDS, "CHLG-X"], cwd=ROOT, env=os.environ | {"WODNOBO": str(folder.parent)},
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert [line.split()[-1] for line in done.stdout.splitlines()] == ["RESULT", "good", "good"]
    code, runs, _ = run(folder)
    assert code == 8 and runs[1]["failed"][0]["reason"].startswith("AssertionError")


def test_what_cannot_be_delivered_is_not_run(folder):
    """A template's mistake stops it before any container starts: exit code 8."""
    (folder / "go.sh").write_text("{{ NOBODY }}")
    code, runs, said = run(folder)
    assert code == 8 and runs == [] and "'NOBODY' is not defined" in said


def test_ctrl_c_leaves_nothing(folder):
    """Whoever loses patience gets his prompt back, and no container goes on."""
    notebook(folder, "1-WKSHP-A.ipynb", "import time; time.sleep(300)")
    process = subprocess.Popen(
        [*WORDS, str(folder)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        # As in a terminal, also where the tests themselves run in the background, without Ctrl-C.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    for _ in range(100):
        if docker("ps", "--quiet", f"--filter=label=wod.rehearsal={PROJECT}"):
            break
        time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 130
    assert nothing_is_left()
