"""Appliances out of folders: the page of the documentation followed to the letter, and everything that can go wrong."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import ROOT, docker

# A title `images/appliances/Redis101/NAME` in the text, and the block that follows it.
FILE = re.compile(r"^`(images/appliances/\w+/[\w.]+)`(?:.+\n)+?\n```\w+\n((?:.*\n)*?)```$", re.MULTILINE)


@dataclass(frozen=True)
class Checkout:
    """A clean checkout of what is committed or changed here, with a state directory of its own."""

    root: Path
    state: Path
    project: str

    def wodctl(self, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "wodctl", "--state", str(self.state), "--project", self.project, *words],
            cwd=self.root,
            env=os.environ | {"WODUSERMAX": "20"} | environment,
            capture_output=True,
            text=True,
            timeout=540,
            check=False,
        )

    def write(self, path: str, text: str) -> None:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def definition(self, name: str) -> str:
        path = self.state / "data" / "appliances" / f"{name}.json"
        return path.read_text() if path.exists() else ""

    def left(self) -> str:
        """Containers and networks of trials."""
        name = f"--filter=name={self.project}-trial"
        return docker("ps", "--all", "--quiet", name) + docker("network", "ls", "--quiet", name)


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Checkout]:
    root = tmp_path_factory.mktemp("checkout") / "wod"
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout.split("\n")  # fmt: skip
    for name in filter(None, listed):
        if (ROOT / name).is_file():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, root / name)
    made = Checkout(root, tmp_path_factory.mktemp("state"), f"wodbuild{os.getpid()}")
    yield made
    images = docker("image", "ls", "--filter=reference=wod/appliance/redis101*", "--quiet").split()
    docker("image", "rm", "--force", *images, check=False)


@pytest.fixture(scope="module")
def redis(checkout: Checkout) -> Checkout:
    """Redis101 made by following docs/appliances.md: its folder, nothing else."""
    files = FILE.findall((checkout.root / "docs" / "appliances.md").read_text())
    assert len(files) == 4
    for path, text in files:
        checkout.write(path, text)
    built = checkout.wodctl("build-appliance", "WKSHP-Redis101")
    assert built.returncode == 0, built.stdout + built.stderr
    assert "Redis101 is current" in built.stdout
    return checkout


def test_a_new_appliance_needs_its_folder_and_nothing_else(redis: Checkout) -> None:
    definition = json.loads(redis.definition("Redis101"))
    assert definition["privileges"] == {}
    listed = json.loads(redis.wodctl("images", "list", "--json").stdout)
    assert [image["current"] for image in listed if image["image"] in redis.definition("Redis101")] == [True]
    assert "REDISTOK: token" in redis.wodctl("appliance", "show", "Redis101").stdout
    assert redis.left() == ""


def test_what_is_unchanged_is_neither_built_nor_tried_again(redis: Checkout) -> None:
    again = redis.wodctl("build-appliance", "Redis101")
    assert (again.returncode, again.stdout) == (0, "Redis101 is up to date.\n")


def images() -> set[str]:
    """The images of Redis101 that the engine has."""
    return set(docker("image", "ls", "--filter=reference=wod/appliance/redis101", "--quiet").split())


FAILURES = {
    "a broken Dockerfile": (
        {"Dockerfile": ("redis-tools", "redis-tools && false")},
        "could not be built",
    ),
    # The kernel's own word, from a disk of 64 KiB.
    "the disk is full during the build": (
        {
            "Dockerfile": (
                "COPY --chmod=755 healthy",
                "RUN --mount=type=tmpfs,target=/full,size=65536 dd if=/dev/zero of=/full/x bs=1M count=1\n"
                "COPY --chmod=755 healthy",
            )
        },
        "The disk is full: `docker system df` tells of what",
    ),
    "never healthy": (
        {"healthy": ("PONG", "NEVER"), "appliance.yml": ("login:", "ready_seconds: 4\nlogin:")},
        "did not become healthy within 4 s",
    ),
    "ends at once": (
        {"Dockerfile": ('CMD ["sh", "-c", "exec', 'CMD ["sh", "-c", "echo no licence; false')},
        "no licence",
    ),
    "nobody can sign in": (
        {"appliance.yml": ("{ssh: ssh}", "{ssh: redis}")},
        "cannot sign in by ssh",
    ),
    "a privilege without a reason": (
        {"compose.yml": ("mem_limit", "cap_add: [SETUID]\n    mem_limit")},
        "asks for SETUID, and Redis101/appliance.yml gives no reason",
    ),
    "a mistake in the manifest": (
        {"appliance.yml": ("title", "tilte")},
        "Redis101/appliance.yml, line 1: there is no key",
    ),
    "ports used up": (
        {"appliance.yml": ("port: 6379", "port: 6379, publish: HTTPPORT")},
        "The pool of ports is used up: Redis101 needs 20 for HTTPPORT",
    ),
}


@pytest.mark.parametrize("failure", FAILURES)
def test_a_failure_is_a_sentence_and_the_former_one_stays(redis: Checkout, failure: str) -> None:
    changes, sentence = FAILURES[failure]
    folder = redis.root / "images" / "appliances" / "Redis101"
    former = {name: (folder / name).read_text() for name in changes}
    current = redis.definition("Redis101")
    before = images()
    try:
        for name, (old, new) in changes.items():
            assert old in former[name]
            (folder / name).write_text(former[name].replace(old, new))
        failed = redis.wodctl("build-appliance", "Redis101", WODPORTPOOL="20000-20010")
    finally:
        for name, text in former.items():
            (folder / name).write_text(text)
    assert failed.returncode != 0 and "Traceback" not in failed.stderr
    assert sentence in failed.stderr, failed.stderr
    assert redis.definition("Redis101") == current
    assert images() <= before
    assert redis.left() == ""


def test_an_appliance_that_there_is_not_is_a_sentence(redis: Checkout) -> None:
    failed = redis.wodctl("build-appliance", "Nothing101")
    assert failed.returncode == 2
    assert "There is no appliance 'Nothing101'" in failed.stderr and "Redis101" in failed.stderr
