"""What this host is: read from its files and its engine, never changed."""

import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

from wodctl.adapters import process
from wodctl.errors import EngineProblem


def facts(state: Path) -> dict[str, Any]:
    """Distribution, kernel, engine, file system of the state directory, firewall …; what is unknown is None."""
    release = _os_release()
    return {
        "distribution": release.get("PRETTY_NAME"),
        "kernel": os.uname().release,
        "processors": os.cpu_count(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "init": "systemd"
        if Path("/run/systemd/system").is_dir()
        else Path("/proc/1/comm").read_text().strip(),
        "cgroups": 2 if Path("/sys/fs/cgroup/cgroup.controllers").exists() else 1,
        "security_module": _security_module(),
        "engine": _engine(),
        "state": _file_system(state),
        "firewall": _firewall(),
        "devices": [name for name in ("/dev/fuse", "/dev/net/tun") if Path(name).exists()],
        "role_applied": Path("/var/lib/wod-host").is_dir(),
    }


def abilities(found: dict[str, Any]) -> list[tuple[str, bool, str]]:
    """What of ours works on a host with these facts: (what, whether, why it does or does not)."""
    engine, disk = found["engine"], found["state"]
    family = bool(re.match(r"Debian|Ubuntu|Rocky", found["distribution"] or ""))
    return [
        (
            "run the stack",
            bool(engine),
            f"Docker Engine {engine['version']}" if engine else "no Docker Engine answers; `./wod up` installs one",
        ),
        (
            "apply the host's role",
            family and found["init"] == "systemd",
            f"{found['distribution']} with {found['init']}"
            + ("" if family and found["init"] == "systemd" else "; it needs Debian, Ubuntu or Rocky with systemd"),
        ),
        (
            "limit the disk of each seat",
            disk["project_quota"],
            f"{disk['type']} at {disk['mounted_at']}"
            + (" with project quotas" if disk["project_quota"] else " without project quotas (mount option prjquota)"),
        ),
        (
            "rootless engines in appliances",
            len(found["devices"]) == 2,
            "/dev/fuse and /dev/net/tun are there" if len(found["devices"]) == 2
            else f"of /dev/fuse and /dev/net/tun there is {' and '.join(found['devices']) or 'neither'}",
        ),
        (
            "restart the engine under running seats",
            bool(engine and engine["live_restore"]),
            "live-restore is on" if engine and engine["live_restore"] else "live-restore is off; the role sets it",
        ),
    ]  # fmt: skip


def _os_release() -> dict[str, str]:
    try:
        text = Path("/etc/os-release").read_text()
    except OSError:
        return {}
    return {name: value.strip('"') for name, value in re.findall(r"^(\w+)=(.*)$", text, re.MULTILINE)}


def _security_module() -> str | None:
    if Path("/sys/module/apparmor/parameters/enabled").exists():
        text = Path("/sys/module/apparmor/parameters/enabled").read_text().strip()
        return "apparmor" if text == "Y" else None
    return "selinux" if Path("/sys/fs/selinux/enforce").exists() else None


def _engine() -> dict[str, Any] | None:
    try:
        found = json.loads(process.run(["docker", "info", "--format", "{{json .}}"], timeout=20))
    except (EngineProblem, ValueError):
        return None
    if not found.get("ServerVersion"):
        return None
    return {
        "version": found["ServerVersion"],
        "storage": found["Driver"],
        "live_restore": found["LiveRestoreEnabled"],
        "security_options": found["SecurityOptions"],
        "data": found["DockerRootDir"],
    }


def _file_system(path: Path) -> dict[str, Any]:
    """The file system that holds a path, which need not exist yet."""
    while not path.exists():
        path = path.parent
    device = os.stat(path).st_dev
    number = f"{os.major(device)}:{os.minor(device)}"
    mounted_at, kind, options = "/", "unknown", ""
    # Fields of proc_pid_mountinfo(5); the last mount on a place is the one that is seen.
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        before, _, after = line.partition(" - ")
        words = before.split()
        if words[2] == number:
            kind, _, options = after.split(" ", 2)
            mounted_at = words[4]
    free = shutil.disk_usage(path)
    return {
        "type": kind,
        "mounted_at": mounted_at,
        "project_quota": bool({"prjquota", "pquota"} & set(re.split(r"[ ,]", options))),
        "bytes": free.total,
        "free_bytes": free.free,
    }


def _firewall() -> str | None:
    """Who looks after packets: ufw or firewalld if they are in force, else nftables if our table is loaded."""
    ufw = Path("/etc/ufw/ufw.conf")
    if ufw.exists() and re.search(r"^ENABLED=yes", ufw.read_text(), re.MULTILINE):
        return "ufw"
    try:
        if process.run(["firewall-cmd", "--state"], timeout=10).strip() == "running":
            return "firewalld"
    except EngineProblem:
        pass
    try:
        process.run(["nft", "list", "table", "inet", "wod_host"], timeout=10)
    except EngineProblem:
        return None
    return "nftables"
