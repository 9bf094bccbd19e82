"""The role of the host in a container with systemd as its first process: applied, applied again, taken back."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import ROOT, docker
from wodctl.adapters import configuration, rootfs
from wodctl.adapters.builder import Builder
from wodctl.adapters.rootfs import PACKAGES, Rootfs
from wodctl.adapters.state import StateDirectory

NAME = f"wodtests-host-{os.getpid()}"
OURS = (
    "/etc/sysctl.d/60-wod.conf /etc/security/limits.d/60-wod.conf /etc/sudoers.d/60-wod /usr/local/sbin/wod "
    "/etc/wod/host.nft"
)
KERNEL = ("net.ipv4.tcp_keepalive_time", "kernel.threads-max", "kernel.pid_max", "vm.max_map_count")
# The second version of control groups alone: of the first, systemd would add hierarchies to this machine's, which its
# own engine does not find then.
INIT = (
    "umount -R /sys/fs/cgroup && mount -t cgroup2 cgroup2 /sys/fs/cgroup && mkdir -p /sys/fs/cgroup/host && "
    "echo $$ > /sys/fs/cgroup/host/cgroup.procs; exec /sbin/init"
)
CHANGES = {
    "the-role-was-applied": ("mv /var/lib/wod-host /var/lib/away", "it was not"),
    "something-keeps-the-time": ("systemctl stop chrony", "none of"),
    "kernel-values-are-in-force": (
        "sysctl -qw net.ipv4.tcp_keepalive_time=7200",
        "tcp_keepalive_time is 7200",
    ),
    "kernel-values-are-kept": ("sed -i s/4096000/1000/ /etc/sysctl.d/60-wod.conf", "kernel.threads-max"),
    "packets-are-forwarded": ("sysctl -qw net.ipv4.ip_forward=0", "0"),
    "limits-of-the-administrator": (
        "sed -i s/800000/100/ /etc/security/limits.d/60-wod.conf",
        "nproc 800000",
    ),
    "tasks-of-a-logged-in-user": ("rm /etc/systemd/system/user-.slice.d/60-wod.conf", "is not there"),
    "security-updates-come-by-themselves": ("chmod 666 /etc/apt/apt.conf.d/60-wod", "0666"),
    "the-host-knows-its-name": (
        "grep -v lab.example.net /etc/hosts > /tmp/hosts; cat /tmp/hosts > /etc/hosts",
        "lab.example.net has no address",
    ),
    "packet-rules-of-the-host-are-loaded": (
        "nft insert rule inet wod_host strangers tcp dport 9999 accept",
        "open to strangers: tcp dport 9999",
    ),
    "packet-rules-are-loaded-at-boot": ("systemctl disable wod-host-firewall", "not started at boot"),
    "only-our-ports-are-open": (
        "systemd-run --unit=stranger /opt/ansible/bin/python -m http.server 9998",
        "open: 9998",
    ),
    "the-administrator-has-few-rights": ("usermod -aG docker wodadmin", "docker, which is as good as root"),
    "the-command-for-every-day-is-there": ("chmod 777 /usr/local/sbin/wod", "0777"),
    "the-engine-has-the-roles-settings": (
        """sed -i 's/"icc": false/"icc": true/' /etc/docker/daemon.json""",
        "icc differ",
    ),
    "all-starts-at-boot": ("systemctl disable --now wod-check.timer", "wod-check.timer"),
}
"""How a host is changed behind the role's back, and what its check says; for every check of the host."""

MENDED_BY_HAND = (
    "mv /var/lib/away /var/lib/wod-host; sysctl -qw net.ipv4.ip_forward=1; systemctl stop stranger; "
    "gpasswd -d wodadmin docker"
)
"""What is not the role's business."""

DAEMON = {"log-level": "warn", "storage-driver": "vfs", "icc": True}


def on_host(*words: str, check: bool = True, timeout: float = 300) -> str:
    return docker("exec", NAME, *words, check=check, timeout=timeout)


def wodctl_host(*words: str, check: bool = True) -> str:
    """`wodctl host …` on that host; returns what Ansible says at its end of what changed."""
    return on_host(
        *(
            "env",
            "PYTHONPATH=/srv/wod:/srv/wod/notebooks-loader",
            "WODBEFQDN=lab.example.net",
            "LC_ALL=C.UTF-8",
        ),
        *("/opt/ansible/bin/python", "-m", "wodctl", "host", *words),
        check=check,
    )


def changed(output: str) -> int:
    return int(output.rpartition("changed=")[2].split()[0])


def kernel() -> dict[str, str]:
    return dict(zip(KERNEL, on_host("sysctl", "-n", *KERNEL).split("\n"), strict=False))


def base_image(suite: str, state: Path) -> str:
    """The image of this Debian that everything is built on, made as the product makes its own."""
    settings = configuration.load(ROOT, state, {}, {})[0]
    kind = Rootfs(ROOT, state, settings).kind()
    if kind != PACKAGES:
        return kind.replace("trixie", suite)
    StateDirectory(state, ROOT).remember("rootfs", PACKAGES)
    return Rootfs(ROOT, state, settings).ensure_image(print)


@pytest.fixture(scope="module", params=["trixie", "bookworm"])
def host(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, str]]:
    """A host with an engine that the site has settings for; its kernel's values as they were at first."""
    state = tmp_path_factory.mktemp("host")
    options = {}
    with pytest.MonkeyPatch.context() as patch:
        if request.param != rootfs.SUITE:
            patch.setattr(rootfs, "SUITE", request.param)
            options["WODBASEIMAGE"] = base_image(request.param, state)
        builder = Builder(ROOT, state, configuration.load(ROOT, state, {}, options)[0])
        builder.build(["bare-host"])
    sources = state / "build/debian.sources"
    mounts = [f"--volume={ROOT}:/srv/wod:ro"]
    if sources.exists():
        mounts.append(f"--volume={sources}:/etc/apt/sources.list.d/debian.sources:ro")
    # The engine inside needs a file system of its own for its layers.
    docker(
        *("run", "--detach", f"--name={NAME}", "--privileged", "--cgroupns=private", "--hostname=lab"),
        *(
            "--tmpfs=/run",
            "--tmpfs=/run/lock",
            "--tmpfs=/var/lib/docker:exec",
            *mounts,
            "--entrypoint=sh",
            *(builder.tag("bare-host"), "-c", INIT),
        ),
    )
    try:
        for _ in range(120):
            if on_host("systemctl", "is-active", "multi-user.target", check=False).strip() == "active":
                break
            time.sleep(0.5)
        on_host("mkdir", "-p", "/etc/docker")
        docker("cp", _file(state / "daemon.json", json.dumps(DAEMON)), f"{NAME}:/etc/docker/daemon.json")
        on_host("systemctl", "restart", "docker")
        on_host("sh", "-c", "tar -C /usr -c bin/busybox | docker import - busybox")
        serve = ("sh", "-c", "while :; do echo here | /bin/busybox nc -l -p 80; done")
        for name, port in (("web", 8000), ("hidden", 8001)):
            on_host(
                "docker", "run", "-d", f"--name={name}", f"-p={port}:80", "busybox", "/bin/busybox", *serve
            )
        yield kernel()
    finally:
        # Some of the kernel's values are this machine's.
        wodctl_host("revert", "--yes", check=False)
        on_host("systemctl", "stop", "docker", check=False)
        docker("rm", "--force", "--volumes", NAME)


def reaches(port: int) -> bool:
    """Whether a published port of that host's containers answers to a stranger, which we are."""
    where = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}"
    address = docker("inspect", "--format", where, NAME).strip()
    for _ in range(3):
        try:
            with socket.create_connection((address, port), 2) as connection:
                connection.settimeout(2)
                if connection.recv(10) == b"here\n":
                    return True
        except OSError:
            time.sleep(0.5)
    return False


def gets_out() -> bool:
    """Whether a container on that host reaches something outside of it, which is this machine."""
    where = "{{range .NetworkSettings.Networks}}{{.Gateway}}{{end}}"
    with socket.create_server((docker("inspect", "--format", where, NAME).strip(), 0)) as outside:
        # Nobody answers: that it has come as far as here is enough.
        address, port = outside.getsockname()
        attempt = ("/bin/busybox", "timeout", "2", "/bin/busybox", "nc", address, str(port))
        on_host("docker", "exec", "web", *attempt, check=False)
        outside.settimeout(0.1)
        try:
            outside.accept()[0].close()
        except TimeoutError:
            return False
    return True


def _file(path: Path, text: str) -> str:
    path.write_text(text)
    return str(path)


@dataclass(frozen=True)
class Former:
    """How the host was before the role came."""

    kernel: dict[str, str]
    hosts: str


@pytest.fixture(scope="module")
def former(host: dict[str, str]) -> Former:
    """The role was applied, beside containers that live on; what the host was before."""
    found = Former(host, on_host("cat", "/etc/hosts"))
    began = on_host("docker", "inspect", "-f", "{{.State.StartedAt}}", "web")
    assert reaches(8000) and reaches(8001) and gets_out()
    assert changed(wodctl_host("apply")) > 10
    assert on_host("docker", "inspect", "-f", "{{.State.StartedAt}}", "web") == began, "containers live on"
    return found


def test_the_role_holds(former: Former) -> None:
    """Once it changes the host, twice it changes nothing, with --check neither; what somebody changed is repaired."""
    _is_as_wanted()
    assert reaches(8000), "what the stack publishes is open"
    assert not reaches(8001), "another container's port is closed to strangers"
    assert gets_out(), "containers reach the network"
    assert changed(wodctl_host("apply")) == 0
    assert changed(wodctl_host("apply", "--check")) == 0

    on_host("sysctl", "-qw", "vm.max_map_count=65536")
    assert changed(wodctl_host("apply")) == 1, "what somebody changed is repaired, and nothing else"
    assert kernel()["vm.max_map_count"] == "600000"


def test_what_is_changed_on_a_host_is_found_by_its_own_check(former: Former) -> None:
    """Each change by one check, which names it; the role mends what is its own, and then nothing is found."""
    made, failed = checks()
    assert failed == {}
    assert made == len(CHANGES), "a check of the host has no change here"
    for change, _ in CHANGES.values():
        on_host("sh", "-c", change)
    _, failed = checks()
    assert set(failed) == set(CHANGES)
    for name, (_, said) in CHANGES.items():
        assert said in failed[name]
    on_host("sh", "-c", MENDED_BY_HAND)
    wodctl_host("apply")
    assert checks()[1] == {}


def test_all_can_be_taken_back(former: Former) -> None:
    """The host is as it was, and its engine's containers are reached as before."""
    wodctl_host("revert", "--yes")
    # The site's engine had no live-restore, so its last restart has stopped them.
    on_host("docker", "start", "web", "hidden")
    assert reaches(8001) and gets_out()
    assert kernel() == former.kernel
    assert json.loads(on_host("cat", "/etc/docker/daemon.json")) == DAEMON
    assert on_host("cat", "/etc/hosts") == former.hosts
    assert on_host("ls", *OURS.split(), check=False) == ""
    assert on_host("getent", "passwd", "wodadmin", check=False) == ""
    assert "wod_host" not in on_host("nft", "list", "ruleset")
    assert "wod" not in on_host("systemctl", "list-unit-files", "wod*", "--no-legend", check=False)


def checks() -> tuple[int, dict[str, str]]:
    """How many checks were made of that host, and what they say that fail."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.images.host_checks", NAME],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    said = json.loads(done.stdout)
    return said["made"], said["failed"]


def _is_as_wanted() -> None:
    assert kernel() == {
        "net.ipv4.tcp_keepalive_time": "1800",
        "kernel.threads-max": "4096000",
        "kernel.pid_max": "200000",
        "vm.max_map_count": "600000",
    }
    daemon = json.loads(on_host("cat", "/etc/docker/daemon.json"))
    assert daemon["icc"] is False and daemon["live-restore"] is True
    assert daemon["log-level"] == "warn", "what the site has set beside ours stays"
    assert "true" in on_host("docker", "info", "--format", "{{.LiveRestoreEnabled}}")
    assert on_host("sysctl", "-n", "net.ipv4.ip_forward").strip() == "1", "containers need it"
    assert "lab.example.net" in on_host("getent", "hosts", "lab.example.net")
    rules = on_host("nft", "list", "table", "inet", "wod_host")
    assert "policy drop" in rules and "ct original proto-dst 8000 accept" in rules
    assert "ct original proto-dst 10025 ip saddr" in rules, "the mail port is for those who may send"
    assert on_host("systemctl", "is-enabled", "wod.service").strip() == "enabled"
    for timer in ("wod-backup.timer", "wod-check.timer"):
        assert on_host("systemctl", "is-active", timer).strip() == "active"
    on_host(
        "systemd-analyze",
        "verify",
        *(f"/etc/systemd/system/wod-{u}" for u in ("backup.service", "check.service")),
    )
    may = on_host("sudo", "-l", "-U", "wodadmin")
    assert "/usr/local/sbin/wod status" in may and "(ALL" not in may
