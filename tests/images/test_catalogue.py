"""The catalogue's definitions, and those two whose programs only a public registry has: with stand-ins for these."""

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT, docker
from wodctl.adapters import configuration
from wodctl.adapters.appliance_folder import ApplianceFolder
from wodctl.adapters.builder import Builder
from wodctl.adapters.homes import new_key_pair

FOLDERS = sorted(path.parent for path in (ROOT / "images" / "appliances").glob("*/appliance.yml"))
STATE = Path("/var/lib/wod-tests")
UID = 2017

# Says what it was told, and answers as Concourse does once its database is there.
CONCOURSE = """#!/bin/sh
env | grep ^CONCOURSE_ > /run/concourse/environment
until python3 -c 'import socket; socket.create_connection(("127.0.0.1", 5432))' 2> /dev/null; do sleep 0.1; done
mkdir -p /run/pages/api/v1 && echo '{"version":"0"}' > /run/pages/api/v1/info
exec python3 -m http.server --directory /run/pages 8080
"""
FLY = """#!/bin/sh
echo "$@" >> /run/concourse/fly
"""
STACKSTORM = """#!/bin/sh
echo "$0 $@" >> /run/st2/started
case "$*" in *st2auth*) port=9100 ;; *st2api*) port=9101 ;; *register*) exit 0 ;; *) exec sleep 600 ;; esac
exec python3 -m http.server $port --directory /run/wod-appliance
"""


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_a_definition_is_whole_and_asks_for_what_sites_allow(folder):
    """Schema, Compose's own check, and by default allowed privileges, each with its reason."""
    settings = configuration.load(ROOT, STATE, {}, {})[0]
    read = ApplianceFolder(folder, ROOT / "compose" / "appliance.yml")
    images = {service: f"wod/appliance/{service}:0" for service in read.services}
    definition = read.definition(images, settings.WODAPPLIANCEPRIVILEGES)
    assert definition.workshop == f"WKSHP-{folder.name}"
    assert (ROOT / "notebooks-loader" / "workshops" / f"WKSHP-{folder.name}" / "wod.yml").is_file()


@pytest.fixture(scope="module")
def bases() -> dict[str, str]:
    """Our own images that the two stand on, built."""
    builder = Builder(ROOT, STATE, configuration.load(ROOT, STATE, {}, {})[0])
    names = ["base", "db", "appliance-base"]
    builder.build(names)
    ansible = ROOT / "images" / "appliances" / "Ansible101"
    builder.build_appliance(ansible)
    # It has all that StackStorm101 adds to an image of somebody else, so that nothing is to be fetched.
    like_ubuntu = builder.appliance_images(ansible)["appliance"]
    return {name: builder.tag(name) for name in names} | {"like-ubuntu": like_ubuntu}


def build(folder: Path, tag: str, contexts: dict[str, str], file: str = "Dockerfile") -> None:
    """Build a folder with these images in place of the names."""
    words = [f"--build-context={name}=docker-image://{image}" for name, image in contexts.items()]
    docker(
        *("buildx", "build", "--builder=default", "--load", *words),
        *(f"--tag={tag}", f"--file={folder / file}", str(folder)),
        timeout=600,
    )


@pytest.fixture
def lease(tmp_path) -> Path:
    """What an appliance finds in /run/wod-appliance."""
    private, public = new_key_pair()
    (tmp_path / "lease/secrets").mkdir(parents=True)
    (tmp_path / "lease/authorized_keys").write_bytes(public)
    (tmp_path / "lease/ssh_host_ed25519_key").write_bytes(private)
    for name in ("CONCOURSETOK", "CONCOURSEADMINTOK", "PASSSTU"):
        (tmp_path / "lease/secrets" / name).write_text(f"of-{name}")
    for path in [tmp_path, *tmp_path.rglob("*")]:
        path.chmod(0o755 if path.is_dir() else 0o644)
    return tmp_path / "lease"


@pytest.fixture
def containers() -> Iterator[list[str]]:
    started: list[str] = []
    yield started
    docker("rm", "--force", "--volumes", *started, check=False)


def start(containers: list[str], name: str, image: str, *words: str) -> str:
    """A container with the rights of an appliance."""
    containers.append(name)
    tmpfs = [f"--tmpfs={path}:mode=0755,uid={UID},gid={UID}" for path in ("/run", "/var/lib/extrausers")]
    docker(
        *(
            "run",
            "--detach",
            f"--name={name}",
            f"--user={UID}:{UID}",
            "--read-only",
            "--cap-drop=ALL",
            *tmpfs,
        ),
        *("--security-opt=no-new-privileges", "--tmpfs=/tmp", "--env=WOD_USER=student17", *words, image),
    )
    return name


def wait_until_healthy(name: str) -> None:
    for _ in range(240):
        health = docker("inspect", "--format", "{{.State.Health.Status}}", name).strip()
        if health == "healthy":
            return
        time.sleep(0.25)
    raise AssertionError(f"{name} is {health}: {docker('logs', name)}")


def stand_in(folder: Path, tag: str, base: str, files: dict[str, str]) -> None:
    """An image of ours with these programs, under the name of one that only a registry has."""
    for path, text in files.items():
        (folder / "root" / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / "root" / path).write_text(text)
        (folder / "root" / path).chmod(0o755)
    (folder / "Dockerfile").write_text("FROM base\nUSER 0\nCOPY root /\n")
    build(folder, tag, {"base": base})


def test_concourse101_has_a_database_and_the_participants_own_team(bases, lease, containers, tmp_path):
    """Started with its real database: his user and team are made, and no password is in its description."""
    files = {"usr/local/concourse/bin/concourse": CONCOURSE, "fly": FLY}
    stand_in(tmp_path, "wodtests/concourse", bases["base"], files)
    assets = tmp_path / "root/usr/local/concourse/fly-assets"
    assets.mkdir()
    subprocess.run(
        ["tar", "-czf", assets / "fly-linux-amd64.tgz", "-C", tmp_path / "root", "fly"], check=True
    )
    build(tmp_path, "wodtests/concourse", {"base": bases["base"]})
    folder = ROOT / "images" / "appliances" / "Concourse101"
    build(folder, "wodtests/concourse101", bases | {"concourse/concourse:7.11.2": "wodtests/concourse"})
    build(folder, "wodtests/concourse101-db", bases, "db.Dockerfile")

    mounts = ("--volume=/student", f"--volume={lease}:/run/wod-appliance:ro")
    name = start(containers, "wodtests-concourse", "wodtests/concourse101", "--network=none", *mounts)
    database = ("--volume=/srv/database", f"--network=container:{name}")
    wait_until_healthy(start(containers, "wodtests-concourse-db", "wodtests/concourse101-db", *database))
    wait_until_healthy(name)
    fly = docker("exec", name, "cat", "/run/concourse/fly")
    assert "--team-name student17 --local-user student17" in fly
    told = docker("exec", name, "cat", "/run/concourse/environment")
    assert "student17:of-CONCOURSETOK" in told and "CONCOURSE_WORKER_RUNTIME=houdini" in told
    assert "of-CONCOURSE" not in docker("inspect", name)


def test_stackstorm101_starts_its_services_with_the_participants_account(bases, lease, containers, tmp_path):
    """What StackStorm's image has is started; the account's password is kept as a hash."""
    services = ("st2actionrunner", "st2scheduler", "st2workflowengine", "st2notifier")
    programs = ("gunicorn", "st2-register-content", *services)
    files = {f"opt/stackstorm/st2/bin/{name}": STACKSTORM for name in programs}
    stand_in(tmp_path, "wodtests/st2", bases["like-ubuntu"], files)
    folder = ROOT / "images" / "appliances" / "StackStorm101"
    build(folder, "wodtests/stackstorm101", bases | {"stackstorm/st2actionrunner:3.8": "wodtests/st2"})

    mounts = ("--volume=/student", f"--volume={lease}:/run/wod-appliance:ro")
    name = start(containers, "wodtests-stackstorm", "wodtests/stackstorm101", "--network=none", *mounts)
    wait_until_healthy(name)
    started = docker("exec", name, "cat", "/run/st2/started")
    assert all(program in started for program in programs)
    passwords = docker("exec", name, "cat", "/run/st2/htpasswd")
    assert passwords.startswith("student17:$2y$") and "of-PASSSTU" not in passwords
    assert "file_path" in docker("exec", name, "cat", "/run/st2/st2.conf")
