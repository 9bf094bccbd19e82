"""The watchdogs: which there are, when they make their rounds, and what is to be held of the figures they see."""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import PurePosixPath

from wodctl.model.settings import Settings

_KERNEL = re.compile(r"kernel-([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})\.json(?:\s|$)")
"""The connection file, which Jupyter names in the command of every kernel that it starts."""


_SERVER = "/opt/wod/bin/python -I -m wod_lab"
"""How the image starts a seat's server."""


@dataclass(frozen=True)
class Watchdog:
    """One of them: `every` so many seconds at the times that `cron` says; `looks_for` is for the operator."""

    name: str
    every: int
    cron: str
    looks_for: str

    def setting(self, settings: Settings) -> str:
        """The setting that it obeys, as `NAME: value`; nothing where it is off."""
        values = {
            "runaways": ("WODRUNAWAYS", settings.WODRUNAWAYS, settings.WODRUNAWAYS != "ignore"),
            "kernels": ("WODKERNELHOURS", settings.WODKERNELHOURS, settings.WODKERNELHOURS > 0),
            "idle": ("WODIDLEHOURS", settings.WODIDLEHOURS, settings.WODIDLEHOURS > 0),
            "disk": ("WODSEATDISK", settings.WODSEATDISK, settings.WODSEATDISK != "0" or settings.WODSEATFILES > 0),
            "orphans": ("WODORPHANS", "on" if settings.WODORPHANS else "off", settings.WODORPHANS),
            "tidy": ("WODKEEPACTIONS", settings.WODKEEPACTIONS,
                     settings.WODKEEPACTIONS > 0 or settings.WODKEEPREJECTED > 0),
        }  # fmt: skip
        name, value, on = values[self.name]
        return f"{name}: {value}" if on else ""


WATCHDOGS = (
    Watchdog("runaways", 60, "* * * * *", "programs of WODDENIED, and processors used with nobody at work"),
    Watchdog("kernels", 300, "*/5 * * * *", "kernels older than WODKERNELHOURS"),
    Watchdog("idle", 300, "2-59/5 * * * *", "servers that nobody has used for WODIDLEHOURS"),
    Watchdog(
        "disk", 30, "* * * * * */30", "homes larger than WODSEATDISK or with more files than WODSEATFILES"
    ),
    Watchdog("orphans", 3600, "17 * * * *", "containers, homes and hub users of seats that are free"),
    Watchdog(
        "tidy", 604800, "23 4 * * 0", "actions older than WODKEEPACTIONS, rejected ones than WODKEEPREJECTED"
    ),
)


@dataclass(frozen=True)
class Process:
    """A process of a seat: `age` and processor time `used` in seconds; `ready` if it runs, or would if it could."""

    pid: int
    parent: int
    age: int
    used: int
    ready: bool
    command: str

    @property
    def names(self) -> tuple[str, ...]:
        """What it is called: its program, and the script where the program runs one."""
        return tuple(
            PurePosixPath(word).name for word in self.command.split()[:2] if not word.startswith("-")
        )

    @property
    def kernel(self) -> str | None:
        """The kernel that it is, by Jupyter's id."""
        found = _KERNEL.search(self.command)
        return found[1] if found else None


@dataclass(frozen=True)
class Look:
    """What a seat's container has used up to now: processor time in seconds since it was made."""

    at: float
    used: float
    processes: Sequence[Process] | None = None


@dataclass(frozen=True)
class Usage:
    """What a home takes up on disk. `whole` is false for one that is nested too deeply to be measured."""

    size: int
    files: int
    whole: bool = True


def is_one_of(process: Process, patterns: Collection[str]) -> bool:
    """Whether a list names the process. Patterns with a blank or a colon are about its whole command."""
    for pattern in (pattern.lower() for pattern in patterns):
        if " " in pattern or ":" in pattern:
            if fnmatchcase(process.command.lower(), f"*{pattern}*"):
                return True
        elif any(fnmatchcase(name.lower(), pattern) for name in process.names):
            return True
    return False


def unexplained(before: Look, now: Look, busy: Collection[str], allowed: Collection[str]) -> float:
    """How many processors a seat used between two looks that neither busy kernels nor allowed programs explain.

    With no kernel at work, all that the container used counts, processes that came and went between the looks
    included. With one at work, what it starts is its own, and of the rest only what is still there can be told apart.
    """
    processes = now.processes or ()
    former = {process.pid: process.used for process in before.processes or ()}
    # One that was not seen then has used at most what it has used since, and at most what its age allows.
    used = {
        p.pid: max(0, p.used - former.get(p.pid, 0 if p.age <= now.at - before.at + 1 else p.used))
        for p in processes
    }
    excused = _excused(processes, busy, allowed)
    seconds = max(now.at - before.at, 1e-3)
    if busy:
        return sum(used[p.pid] for p in processes if p.pid not in excused) / seconds
    return max(0.0, now.used - before.used - sum(used[pid] for pid in excused)) / seconds


def wants_more(now: Look, busy: Collection[str], allowed: Collection[str]) -> bool:
    """Whether a program beside busy kernels and allowed ones waits for a processor.

    Where there are too few of them, a runaway uses less than it would, but is found so at every look. Servers and
    kernels wait there as well, and so does what has just begun, such as a check of the server's health.
    """
    processes = now.processes or ()
    excused = _excused(processes, busy, allowed)
    return any(
        p.ready and p.used >= 1 and p.pid not in excused and not p.kernel and _SERVER not in p.command
        for p in processes
    )


def _excused(processes: Sequence[Process], busy: Collection[str], allowed: Collection[str]) -> set[int]:
    return _families(processes, [p.pid for p in processes if p.kernel in busy or is_one_of(p, allowed)])


def _families(processes: Sequence[Process], heads: Sequence[int]) -> set[int]:
    """These processes and all that descend from them."""
    children: dict[int, list[int]] = {}
    for process in processes:
        children.setdefault(process.parent, []).append(process.pid)
    found: set[int] = set()
    left = list(heads)
    while left:
        pid = left.pop()
        if pid not in found:
            found.add(pid)
            left += children.get(pid, [])
    return found


def kernels(processes: Sequence[Process]) -> Mapping[str, int]:
    """The age in seconds of each kernel among the processes, by Jupyter's id."""
    ages: dict[str, int] = {}
    for process in processes:
        if process.kernel:
            ages[process.kernel] = max(process.age, ages.get(process.kernel, 0))
    return ages
