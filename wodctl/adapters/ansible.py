"""Ansible on this host: the role of ansible-host, run by the Python environment that we run in."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from wodctl.errors import EngineProblem, StackProblem


def run_playbook(playbook: Path, variables: Mapping[str, Any], *, check: bool = False) -> None:
    """Run a playbook on this very host, its output on the terminal; with `check` it only tells what it would do.

    Raises StackProblem if a task fails, EngineProblem where Ansible is not installed.
    """
    program = Path(sys.executable).with_name("ansible-playbook")
    if not program.exists():
        raise EngineProblem(
            "Ansible is not installed in this Python environment.",
            hint="`./wod host apply` installs it there; a plain `wodctl` does not.",
        )
    with tempfile.NamedTemporaryFile("w", prefix="wod-host-", suffix=".json") as file:
        json.dump(dict(variables), file)
        file.flush()
        done = subprocess.run(
            [
                str(program),
                "--inventory=localhost,",
                "--connection=local",
                f"--extra-vars=@{file.name}",
                *(["--check", "--diff"] if check else []),
                str(playbook),
            ],
            cwd=playbook.parent,
            env=os.environ | {"ANSIBLE_CONFIG": str(playbook.parent / "ansible.cfg"), "LC_ALL": "C.UTF-8"},
            stdin=subprocess.DEVNULL,
            check=False,
        )
    if done.returncode != 0:
        raise StackProblem(
            "A task of the role failed; the lines above say which, and why.",
            hint="Once that is mended, run the same command again: what is done already is left alone.",
        )
