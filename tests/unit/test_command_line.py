"""`wodctl` alone: what an operator reads when something is not as it should be."""

import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import click
import pytest

from wodctl.cli import wodctl as root_command

ROOT = Path(__file__).resolve().parents[2]


# Root without the right to pass over permissions, so that the test says the same for every user.
PLAIN = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"] if os.geteuid() == 0 else []


def wodctl(*words: str, state: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [*PLAIN, sys.executable, "-m", "wodctl", "--state", str(state), "--project", "wodnothing", *words],
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "Traceback" not in done.stdout + done.stderr
    return done


def commands(group: click.Group, path: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], click.Command]]:
    found: list[tuple[tuple[str, ...], click.Command]] = []
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            found += commands(command, (*path, name))
        else:
            found.append(((*path, name), command))
    return found


@pytest.mark.parametrize(
    ("path", "command"),
    commands(root_command),
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_every_command_has_help_with_an_example(path, command):
    """The help of each command says what it does and shows it."""
    assert command.help, path
    assert re.search(r"Examples?:", command.help), path


def test_help_names_every_command(tmp_path):
    """`wodctl --help` is the way in."""
    done = wodctl("--help", state=tmp_path / "s")
    assert done.returncode == 0
    for name in root_command.commands:
        assert name in done.stdout


@pytest.mark.parametrize(
    "words", [["frobnicate"], ["up", "--frobnicate"], ["up", "-t", "moon"], ["up", "-b", "a:b:c:d"]]
)
def test_a_wrong_word_is_a_sentence_and_exit_code_2(tmp_path, words):
    """Wrong options end with 2 and a usage line."""
    done = wodctl(*words, state=tmp_path / "s")
    assert done.returncode == 2
    assert "Usage:" in done.stderr or "wodctl:" in done.stderr


def test_several_backends_are_served_by_a_registration_api_only(tmp_path):
    """-b with a list needs -t api-db: exit code 2 and the reason, before anything is started."""
    done = wodctl("up", "-b", "one.example.net,two.example.net:8000:https", state=tmp_path / "s")
    assert done.returncode == 2
    assert "-t api-db" in done.stderr


def test_without_an_engine_the_operator_is_told_how_to_get_one(tmp_path):
    """No engine: exit code 4 and the command that installs it."""
    done = wodctl("up", state=tmp_path / "s", DOCKER_HOST=f"unix://{tmp_path}/no.sock")
    assert done.returncode == 4
    assert "No Docker Engine answers" in done.stderr and "--install-engine" in done.stderr


def test_a_socket_that_refuses_us_is_named_as_such(tmp_path):
    """An engine that answers to others only: exit code 4 and the group to join."""
    path = tmp_path / "docker.sock"
    with socket.socket(socket.AF_UNIX) as engine:
        engine.bind(str(path))
        engine.listen()
        path.chmod(0)
        done = wodctl("status", state=tmp_path / "s", DOCKER_HOST=f"unix://{path}")
    assert done.returncode == 4
    assert "permission" in done.stderr and "docker" in done.stderr


def test_a_full_disk_is_named(tmp_path):
    """A state directory on a full disk: a sentence, and exit code 1."""
    full = tmp_path / "full"
    full.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4k,nr_inodes=3", "none", full], check=True)
    try:
        (full / "state").mkdir()
        done = wodctl("up", state=full / "state", WODBEPORT="18899", WODPOSTPORT="20899")
    finally:
        subprocess.run(["umount", full], check=True)
    assert done.returncode == 1
    assert "disk is full" in done.stderr


def test_a_wrong_setting_stops_every_command_with_exit_code_3(tmp_path):
    """File and line reach the operator through any command."""
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf/production.yml").write_text("WODUSERMXA: 5\n")
    done = wodctl("config", "validate", state=tmp_path)
    assert done.returncode == 3
    assert "production.yml:1" in done.stderr and "WODUSERMAX" in done.stderr


def test_show_says_where_a_value_comes_from(tmp_path):
    """`config show --origin` names file and line, environment or option."""
    done = wodctl("config", "show", "--origin", "--json", "WODUSERMAX", state=tmp_path, WODUSERMAX="77")
    assert json.loads(done.stdout) == {"WODUSERMAX": {"value": 77, "origin": "environment"}}


def test_a_long_state_directory_is_refused_before_anything_is_made(tmp_path):
    """A path that a socket's address cannot hold is refused with the reason."""
    done = wodctl("status", state=tmp_path / ("x" * 120))
    assert done.returncode == 2
    assert "too long" in done.stderr


def test_output_into_a_closed_pipe_is_no_error_message(tmp_path):
    """`wodctl config show | head -1` is silent on the error channel."""
    words = [sys.executable, "-m", "wodctl", "--state", str(tmp_path), "config", "show"]
    with subprocess.Popen(
        words, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as running:
        assert running.stdout and running.stderr
        running.stdout.close()
        assert running.stderr.read() == ""
