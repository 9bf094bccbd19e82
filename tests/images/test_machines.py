"""A machine that a site has already: a real ssh server in a container, visited as the worker does."""

import os
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import ROOT, docker
from wodctl.adapters import configuration
from wodctl.adapters.builder import Builder
from wodctl.adapters.machines import Machine, Machines
from wodctl.errors import ActionFailed, Unavailable

NAME = f"wodtestmachine-{os.getpid()}"

# sudo is not in the image; what it has to do is to run a command as root, whom the administrator is here.
SETUP = """set -eu
printf '#!/bin/sh\\n[ "$1" = -n ] && shift\\nexec "$@"\\n' > /usr/local/bin/sudo && chmod 755 /usr/local/bin/sudo
useradd --create-home --shell /bin/bash student3
useradd --create-home --shell /bin/bash student4
mkdir -p /run/sshd && mkdir -p -m 700 /root/.ssh
ssh-keygen -q -t ed25519 -N '' -f /etc/ssh/ssh_host_ed25519_key
exec /usr/sbin/sshd -D -f none -o HostKey=/etc/ssh/ssh_host_ed25519_key
"""


@dataclass(frozen=True)
class Site:
    """A machine with the accounts student3 and student4, and the site's keys."""

    folder: Path
    machine: Machine
    host_key: str

    @property
    def machines(self) -> Machines:
        return Machines("root", self.folder / "admin", self.folder / "hosts")

    def know(self, host_key: str) -> None:
        (self.folder / "hosts").write_text(f"{self.machine.address} {host_key}\n" if host_key else "")

    def enter(self, key: str = "student") -> str:
        """What the participant sees who comes in with his key; empty if he does not."""
        return subprocess.run(
            ["ssh", "-F", "none", "-i", str(self.folder / key), "-o", "BatchMode=yes", "-o", "IdentitiesOnly=yes",
             "-o", f"UserKnownHostsFile={self.folder / 'hosts'}", f"{self.machine.user}@{self.machine.address}",
             "echo $USER; ls -A"],
            capture_output=True, text=True, timeout=30, check=False,
        ).stdout  # fmt: skip


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    state = Path("/var/lib/wod-tests")
    builder = Builder(ROOT, state, configuration.load(ROOT, state, {}, {})[0])
    builder.build(["appliance-base"])
    folder = tmp_path_factory.mktemp("keys")
    for key in ("admin", "student", "stranger"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / key)], check=True)
    words = ["docker", "run", "--detach", "--name", NAME, "--user=0", "--entrypoint=sh"]
    subprocess.run([*words, builder.tag("appliance-base"), "-c", SETUP], check=True)
    try:
        docker(
            "exec",
            NAME,
            "sh",
            "-c",
            "mkdir -p -m 700 /root/.ssh && "
            f"echo '{(folder / 'admin.pub').read_text().strip()}' > /root/.ssh/authorized_keys",
        )
        address = docker("inspect", "--format", "{{.NetworkSettings.IPAddress}}", NAME).strip()
        end = time.monotonic() + 30
        while not (key := docker("exec", NAME, "cat", "/etc/ssh/ssh_host_ed25519_key.pub", check=False)):
            assert time.monotonic() < end
            time.sleep(0.2)
        made = Site(folder, Machine("WKSHP-Old101", address, 3), " ".join(key.split()[:2]))
        made.know(made.host_key)
        yield made
    finally:
        docker("rm", "--force", "--volumes", NAME, check=False)


def test_an_account_is_opened_for_the_seats_key_and_closed_again(site: Site) -> None:
    """What the participant before left is gone, and nobody else's account is touched."""
    docker(
        "exec", NAME, "sh", "-c", "cd /home/student3 && mkdir -p a/b && touch a/b/c && ln -s /home/student4 d"
    )
    docker("exec", NAME, "touch", "/home/student4/his")
    key = (site.folder / "student.pub").read_bytes()
    for _ in range(2):
        site.machines.open(site.machine, "pa$$w'ord", key)
    assert site.enter().split()[0] == "student3" and ".ssh" in site.enter()
    assert site.enter("stranger") == ""
    assert docker("exec", NAME, "ls", "/home/student3") == ""
    assert docker("exec", NAME, "ls", "/home/student4") == "his\n"
    shadow = docker("exec", NAME, "getent", "shadow", "student3").split(":")[1]
    assert shadow.startswith("$")
    site.machines.close(site.machine, "another")
    assert site.enter() == ""
    assert docker("exec", NAME, "getent", "shadow", "student3").split(":")[1] not in (shadow, "")


def test_a_machine_with_another_host_key_is_not_talked_to(site: Site) -> None:
    other = " ".join((site.folder / "stranger.pub").read_text().split()[:2])
    try:
        for host_key in ("", other):
            site.know(host_key)
            with pytest.raises(ActionFailed, match="another host key"):
                site.machines.open(site.machine, "secret", b"")
    finally:
        site.know(site.host_key)


def test_what_is_wrong_is_a_sentence(site: Site) -> None:
    with pytest.raises(ActionFailed, match="has no account student9 with a home"):
        site.machines.open(Machine("WKSHP-Old101", site.machine.address, 9), "x", b"")
    with pytest.raises(ActionFailed, match="there is no key to open it"):
        Machines("root", site.folder / "none", site.folder / "hosts").open(site.machine, "x", b"")
    with pytest.raises(ActionFailed, match="does not let root in with our key"):
        Machines("root", site.folder / "stranger", site.folder / "hosts").open(site.machine, "x", b"")


def test_a_machine_that_is_away_is_worth_another_attempt(site: Site) -> None:
    docker("pause", NAME)
    try:
        with pytest.raises(Unavailable, match="does not answer"):
            site.machines.open(site.machine, "x", b"")
    finally:
        docker("unpause", NAME)
