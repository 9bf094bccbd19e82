"""Deliveries that are measured: the workshop that is made up, and what is said when there is no comparison."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from wodctl.adapters import configuration
from wodctl.adapters.delivery_trial import BYTES, NAME, NOTEBOOKS, DeliveryTrial
from wodctl.errors import ContentProblem

ROOT = Path(__file__).resolve().parents[2]


def test_the_workshop_is_of_the_promised_size_and_leaves_nothing_behind(tmp_path: Path):
    """Ten notebooks and 5 MB; homes are removed as they are made, everything else at the end."""
    with DeliveryTrial.prepared(tmp_path, configuration.load(ROOT, tmp_path, {}, {})[0]) as trial:
        files = [path for path in (trial.folder / "workshops" / NAME).rglob("*") if path.is_file()]
        assert len([path for path in files if path.suffix == ".ipynb"]) == NOTEBOOKS
        assert abs(sum(path.stat().st_size for path in files) - BYTES) < BYTES / 100
        assert 0 < trial.seconds(3) < trial.seconds_of_all(20)
        assert [path.name for path in trial.folder.iterdir()] == ["workshops"]
    assert list(tmp_path.iterdir()) == []


def test_a_comparison_with_other_results_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """What is faster because it does something else is no yardstick."""
    program = tmp_path / "bin" / "ansible-playbook"
    program.parent.mkdir()
    copy = "import json, shutil, sys; v = json.load(open(sys.argv[6][1:])); shutil.copytree(v['source'], v['target'])"
    program.write_text(f"#!{sys.executable}\n{copy}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    with (
        DeliveryTrial.prepared(tmp_path, configuration.load(ROOT, tmp_path, {}, {})[0]) as trial,
        pytest.raises(ContentProblem, match=r"renders .* otherwise than we do"),
    ):
        trial.seconds_of_ansible(3)


def test_bench_delivery_needs_no_stack_and_no_ansible(tmp_path: Path):
    """Where ansible-core fails, our own figures are printed and the reason is said."""
    program = tmp_path / "bin" / "ansible-playbook"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\nexit 2\n")
    program.chmod(0o755)
    done = subprocess.run(
        [sys.executable, "-m", "wodctl", "--state", str(tmp_path / "state"), "bench", "delivery", "--json"],
        cwd=ROOT, env=os.environ | {"PATH": f"{program.parent}:{os.environ['PATH']}"},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    names = [result["name"] for result in json.loads(done.stdout)["results"]]
    assert names == [
        "delivery, one seat", "delivery, one seat, 665 expressions a notebook", "delivery, 100 seats",
        "delivery, memory at most",
    ]  # fmt: skip
    assert "Not compared with ansible-core" in done.stderr
