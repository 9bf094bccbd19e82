"""A backup of a whole service that runs, brought back as another one from an empty state directory."""

import dataclasses
import http.cookiejar
import json
import os
import re
import shutil
import socket
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Stack

SEAT = 12
GRACE = f"grace{os.getpid()}@example.net"


def free_port() -> int:
    with socket.create_server(("0.0.0.0", 0)) as probe:
        return int(probe.getsockname()[1])


def whole(stack: Stack, **changes: Any) -> Stack:
    """The same kind of stack with a registration API."""
    api_port = free_port()

    class Whole(type(stack)):  # type: ignore[misc]
        @property
        def environment(self) -> dict[str, str]:
            return super().environment | {"WODTYPE": "all", "WODAPIDBPORT": str(api_port)}

    values = {field.name: getattr(stack, field.name) for field in dataclasses.fields(stack)}
    return Whole(**(values | changes))


@pytest.fixture
def former(stack: Stack) -> Iterator[Stack]:
    made = whole(stack)
    made.wodctl("up", timeout=900)
    yield made
    for one in documents(made, "registration", "list"):
        if one["email"] == GRACE:
            made.wodctl("registration", "cancel", str(one["id"]))
    made.wodctl("action", "submit", "PURGE", str(SEAT), "0", "--wait")
    stack.wodctl("up", "-t", "backend", timeout=900)


@pytest.fixture
def other(stack: Stack) -> Iterator[Stack]:
    """A stack of its own that has never run."""
    made = whole(stack, state=stack.state.with_name(stack.state.name + "-restored"),
                 project=stack.project + "restored", port=free_port(), mail_port=free_port())  # fmt: skip
    shutil.rmtree(made.state, ignore_errors=True)
    yield made
    made.wodctl("down", "--volumes", "--yes", check=False)
    shutil.rmtree(made.state, ignore_errors=True)


def documents(stack: Stack, *words: str) -> Any:
    return json.loads(stack.wodctl(*words, "--json").stdout)


def logs_in(stack: Stack, name: str, password: str) -> bool:
    """Whether the hub takes this password."""
    opener = urllib.request.build_opener(
        urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar()),
    )
    with opener.open(f"{stack.url}/hub/login", timeout=30) as page:
        word = re.search(r'name="_xsrf" value="([^"]+)"', page.read().decode())[1]  # type: ignore[index]
    form = urllib.parse.urlencode({"_xsrf": word, "username": name, "password": password}).encode()
    try:
        with opener.open(f"{stack.url}/hub/login", form, timeout=60) as answer:
            return f"/user/{name}" in answer.url or f"/hub/spawn-pending/{name}" in answer.url
    except urllib.error.HTTPError as refusal:
        assert refusal.code == 403, refusal
        return False


def test_what_a_backup_holds_comes_back_elsewhere(former: Stack, other: Stack, tmp_path: Path) -> None:
    """Lease, password, home, registrations, secrets, into an empty place alone; half a file is none."""
    former.wodctl("action", "submit", "CREATE", str(SEAT), "0", "-w", "WKSHP-Welcome101", "--wait")
    password = former.wodctl("student", "password", str(SEAT)).stdout.split()[-1]
    work = Path(f"data/students/student{SEAT}/my-work.txt")
    (former.state / work).write_text("an hour of work")
    shutil.chown(former.state / work, 2000 + SEAT, 2000 + SEAT)
    former.wodctl("registration", "add", "WKSHP-Welcome101", GRACE, "--name", "Grace Hopper")
    people = {one["email"]: one["id"] for one in documents(former, "registration", "list")}
    lease = documents(former, "student", "show", str(SEAT))["lease_until"]

    for _ in range(3):
        said = former.wodctl("backup", "--to", str(tmp_path), "--keep", "2").stdout
    file = Path(said.splitlines()[-1].split(" (")[0])
    assert sorted(tmp_path.iterdir())[-1] == file and len(list(tmp_path.iterdir())) == 2
    assert file.stat().st_mode & 0o777 == 0o600

    refused = former.wodctl("restore", str(file), check=False)
    assert refused.returncode == 2 and "is not empty" in refused.stderr
    half = tmp_path / "half.tar.gz"
    half.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    assert other.wodctl("restore", str(half), check=False).returncode != 0
    refused = other.wodctl("up", check=False, timeout=900)
    assert refused.returncode == 5 and "has not ended" in refused.stderr, "half a backup is none"

    other.wodctl("restore", str(file), timeout=600)
    other.wodctl("up", timeout=900)
    seat = documents(other, "student", "show", str(SEAT))
    assert (seat["state"], seat["workshop"], seat["lease_until"]) == ("ready", "WKSHP-Welcome101", lease)
    assert (other.state / work).read_text() == "an hour of work"
    assert (other.state / work).stat().st_uid == 2000 + SEAT
    assert people == {one["email"]: one["id"] for one in documents(other, "registration", "list")}
    assert GRACE in people
    assert logs_in(other, f"student{SEAT}", password)
    assert not logs_in(other, f"student{SEAT}", "another")
    assert not (other.state / "databases").exists()
    for name in ("secrets/hub/cookie-secret", "secrets/api-db/seal-key"):
        assert (other.state / name).read_text() == (former.state / name).read_text()
    compared = ["stat", "-c", "%u:%g %a", str(other.state / "secrets/hub"), str(former.state / "secrets/hub")]
    assert (
        len(set(subprocess.run(compared, capture_output=True, text=True, check=True).stdout.split("\n")[:2]))
        == 1
    )
