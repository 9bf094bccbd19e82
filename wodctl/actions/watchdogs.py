"""The watchdogs: what goes wrong on seats without anybody ordering it is found, told, and ended.

Each makes its rounds as a periodic job. What it does is put among the actions (source `watchdog`), what it saw last is
kept for `wodctl watchdog list`. They look at seats that are ready only: all others are an action's business.
"""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from typing import Any, Protocol

from wodctl.errors import ActionFailed, WodError
from wodctl.model.seat import BY_HAND, Seat, user_name
from wodctl.model.settings import Settings, size_in_bytes
from wodctl.model.watchdogs import (
    WATCHDOGS,
    Look,
    Process,
    Usage,
    is_one_of,
    kernels,
    unexplained,
    wants_more,
)

DISK_GRACE = 600.0
"""Seconds that a participant has to make room in a home that has grown too large."""

LEAST_FREE = 2 * 2**30
"""Bytes that must be left on the disk of the homes; less is reported at each round."""

WORTH_A_LOOK = 0.05
"""Processors: a seat that uses less is not asked for its processes."""

_DENIED = "You ran a program that is not allowed here."
_TO_END = (
    "A program of yours has been using a processor for long while no notebook is at work. "
    "Please end it: otherwise your server is stopped soon."
)
_ENDED = "A program of yours used a processor for long while no notebook was at work."

log = logging.getLogger("wod")


class Register(Protocol):
    """What is known of seats, what their participants are told, and what is put on record."""

    def seats(self) -> list[Seat]: ...
    def seat(self, number: int) -> Seat | None: ...
    def is_waited_for(self, number: int) -> bool: ...
    def submit_action(
        self, action: str, first: int, last: int, customer: int, workshop: str | None, source: str
    ) -> int: ...
    def add_notice(self, first: int, last: int, source: str, text: str) -> list[int]: ...
    def remove_notices(self, first: int, last: int, source: str) -> None: ...
    def report(self, kind: str, seat: Seat, text: str) -> None: ...
    def note_round(self, name: str, seconds: float, found: Sequence[str], problem: str | None) -> None: ...
    def forget_actions(self, rejected_days: int, other_days: int) -> int: ...


class Servers(Protocol):
    """The participants' servers, as the hub knows them."""

    def users(self) -> Mapping[str, datetime | None]: ...
    def ensure_stopped(self, user: str) -> None: ...
    def kernels(self, user: str) -> Sequence[Any]: ...
    def end_kernel(self, user: str, kernel: Any) -> None: ...


class Containers(Protocol):
    """The participants' containers, as the engine knows them."""

    def identity(self, name: str) -> str | None: ...
    def look(self, name: str) -> Look | None: ...
    def processes(self, name: str) -> Sequence[Process]: ...
    def ensure_absent(self, name: str) -> None: ...


class Disk(Protocol):
    """The homes on disk."""

    def present(self) -> Sequence[str]: ...
    def usage(self, user: str, most_files: int) -> Usage: ...
    def free(self) -> int: ...


@dataclass(frozen=True)
class _Burning:
    """A seat's last look, since when it has used too much (None: it has not), and whether that was told."""

    look: Look
    since: float | None = None
    told: bool = False


@dataclass(frozen=True)
class _TooLarge:
    """Since when a home is too large, and how large it was last."""

    since: float
    size: int


class Watchdogs:
    """All of them. What they saw in former rounds they keep in mind only: a new worker begins afresh."""

    def __init__(
        self,
        settings: Settings,
        *,
        register: Register,
        servers: Servers,
        containers: Containers,
        disk: Disk,
        project: str,
    ) -> None:
        self._settings = settings
        self._register = register
        self._servers = servers
        self._containers = containers
        self._disk = disk
        self._project = project
        self._burning: dict[int, _Burning] = {}
        self._too_large: dict[int, _TooLarge] = {}
        self._rounds: dict[str, Callable[[], list[str]]] = {
            "runaways": self._find_runaways,
            "kernels": self._find_old_kernels,
            "idle": self._find_idle_servers,
            "disk": self._find_large_homes,
            "orphans": self._find_orphans,
            "tidy": self._tidy,
        }

    def make_round(self, name: str) -> None:
        """Let the watchdog of that name look at all seats, unless it is off. Raises Unavailable without a database."""
        dog = next((dog for dog in WATCHDOGS if dog.name == name), None)
        if dog is None or not dog.setting(self._settings):
            return
        start = time.monotonic()
        found: list[str] = []
        problem = None
        try:
            found = self._rounds[name]()
        except WodError as error:
            problem = error.message
        for line in found:
            log.info("watchdog %s: %s", name, line)
        self._register.note_round(name, time.monotonic() - start, found, problem)

    # Runaways and miners

    def _find_runaways(self) -> list[str]:
        found: list[str] = []
        looks: dict[int, _Burning] = {}
        for seat in self._lent():
            name = self._container(seat.number)
            look = self._containers.look(name)
            if look is None:
                continue
            before = self._burning.get(seat.number)
            if before and look.used < before.look.used:
                before = None  # the server that was looked at is gone
            spent = (
                look.used / 60
                if before is None
                else (look.used - before.look.used) / (look.at - before.look.at)
            )
            if spent >= WORTH_A_LOOK:
                look = replace(look, processes=self._containers.processes(name))
            looks[seat.number] = self._judge(seat, before, look, found)
        self._burning = looks
        return found

    def _judge(self, seat: Seat, before: _Burning | None, look: Look, found: list[str]) -> _Burning:
        """What a seat's look means, after the former one; what is done about it is added to `found`."""
        settings = self._settings
        denied = [process for process in look.processes or () if is_one_of(process, settings.WODDENIED)]
        if denied:
            what = f"runs {denied[0].names[0][:60]}, which WODDENIED names"
            told = bool(before and before.told)
            if not told or settings.WODRUNAWAYS == "stop":
                self._act(seat, f"Seat {seat.number} {what}.", found, stop=True, notice=_DENIED)
            return _Burning(look, told=True)
        if before is None or not look.processes:
            return _Burning(look)
        busy: set[str] = set()
        if any(process.kernel for process in look.processes):
            busy = self._busy_kernels(seat.number)
        burnt = unexplained(before.look, look, busy, settings.WODALLOWED)
        starved = burnt >= WORTH_A_LOOK and wants_more(look, busy, settings.WODALLOWED)
        if burnt < settings.WODRUNAWAYCPUS and not starved:
            if before.told:
                self._register.remove_notices(seat.number, seat.number, "runaways")
            return _Burning(look)
        since = before.look.at if before.since is None else before.since
        minutes = (look.at - since) / 60
        what = f"Seat {seat.number}: {burnt:.1f} processors in use for {minutes:.0f} minutes without a kernel at work."
        if minutes >= 2 * settings.WODRUNAWAYMINUTES and before.told:
            if settings.WODRUNAWAYS == "stop":
                self._act(seat, what, found, stop=True, notice=_ENDED)
            return _Burning(look, since, told=True)
        if minutes >= settings.WODRUNAWAYMINUTES and not before.told:
            self._act(seat, what, found, stop=False, notice=_TO_END)
            return _Burning(look, since, told=True)
        return _Burning(look, since, before.told)

    def _busy_kernels(self, number: int) -> set[str]:
        try:
            return {kernel.id for kernel in self._servers.kernels(user_name(number)) if kernel.busy}
        except ActionFailed:
            return set()  # a server that does not answer excuses nothing

    def _act(self, seat: Seat, what: str, found: list[str], *, stop: bool, notice: str) -> None:
        """Report, tell the participant, and stop his server where that is due and wanted."""
        if stop and self._settings.WODRUNAWAYS == "stop":
            what, notice = f"{what} Its server was stopped.", f"{notice} Your server was stopped."
        if stop or self._settings.WODRUNAWAYS == "stop":
            self._register.add_notice(seat.number, seat.number, "runaways", notice)
        if stop and self._settings.WODRUNAWAYS == "stop":
            self._stop(seat, what)
        else:
            self._register.report("REPORT", seat, what)
        found.append(what)

    # Kernels, idle servers

    def _find_old_kernels(self) -> list[str]:
        found = []
        limit = self._settings.WODKERNELHOURS * 3600
        for seat in self._lent():
            user = user_name(seat.number)
            name = self._container(seat.number)
            ages = kernels(self._containers.processes(name))
            old = {kernel: age for kernel, age in ages.items() if age > limit}
            if not old:
                continue
            try:
                known = {kernel.id: kernel for kernel in self._servers.kernels(user)}
                for kernel in old.keys() & known.keys():
                    self._servers.end_kernel(user, known[kernel])
                    what = f"Seat {seat.number}: a kernel was ended that had run for {old[kernel] / 3600:.1f} hours."
                    self._register.report("REPORT", seat, what)
                    notice = (
                        f"A kernel of yours had run for {self._settings.WODKERNELHOURS:g} hours and was ended. "
                        "Your notebooks are as they were; run their cells again to have their values."
                    )
                    self._register.add_notice(seat.number, seat.number, "kernels", notice)
                    found.append(what)
            except ActionFailed as error:
                found.append(f"Seat {seat.number}: {error.message}")
        return found

    def _find_idle_servers(self) -> list[str]:
        found = []
        used = self._servers.users()
        latest = datetime.now(timezone.utc) - timedelta(hours=self._settings.WODIDLEHOURS)
        for seat in self._lent():
            active = used.get(user_name(seat.number))
            if active is not None and active < latest:
                since = f"{active:%Y-%m-%d %H:%M} UTC"
                what = f"Seat {seat.number}: nobody has used the server since {since}. It was stopped."
                self._stop(seat, what)
                found.append(what)
        return found

    # Disk

    def _find_large_homes(self) -> list[str]:
        found = []
        most, files = size_in_bytes(self._settings.WODSEATDISK), self._settings.WODSEATFILES
        too_large: dict[int, _TooLarge] = {}
        for seat in self._lent():
            used = self._disk.usage(user_name(seat.number), files)
            if used.whole and (not most or used.size <= most) and (not files or used.files <= files):
                if seat.number in self._too_large:
                    self._register.remove_notices(seat.number, seat.number, "disk")
                continue
            now = time.monotonic()
            former = self._too_large.get(seat.number)
            held = _held(used, most, files)
            if former is None:
                notice = (
                    f"Your files take up {held}. Please remove what you do not need within {DISK_GRACE / 60:.0f} "
                    "minutes: otherwise your server is stopped."
                )
                self._register.add_notice(seat.number, seat.number, "disk", notice)
                self._register.report("REPORT", seat, f"Seat {seat.number}: its files take up {held}.")
            since = former.since if former else now
            grows_fast = most > 0 and used.size > 2 * most and (former is None or used.size > former.size)
            if now - since >= DISK_GRACE or grows_fast:
                notice = f"Your files take up {held}. Your server was stopped; remove what you do not need."
                self._register.add_notice(seat.number, seat.number, "disk", notice)
                self._stop(seat, f"Seat {seat.number}: its files take up {held}. Its server was stopped.")
                since = now
            too_large[seat.number] = _TooLarge(since, used.size)
            found.append(f"Seat {seat.number}: its files take up {held}.")
        self._too_large = too_large
        free = self._disk.free()
        if free < LEAST_FREE:
            found.append(f"The disk of the homes has {free / 2**30:.1f} GiB left.")
        return found

    # Orphans, old records

    def _find_orphans(self) -> list[str]:
        """What seats have that are free. A PURGE of the seat removes it, which waits for its turn like any action."""
        homes, users = set(self._disk.present()), set(self._servers.users())
        found = []
        for seat in self._register.seats():
            name = user_name(seat.number)
            if seat.state != "free":
                continue
            container = self._containers.identity(self._container(seat.number))
            # Asked after all that was looked at: what a new lease has made meanwhile is no orphan.
            now = self._register.seat(seat.number)
            if now is None or now.state != "free" or self._register.is_waited_for(seat.number):
                continue
            left = [
                what
                for what, is_there in (
                    ("a home", name in homes),
                    ("a user of the hub", name in users),
                    ("a container", container is not None),
                )
                if is_there
            ]
            if not left:
                continue
            if container is not None and name not in users:
                self._containers.ensure_absent(self._container(seat.number))
            self._register.submit_action("PURGE", seat.number, seat.number, BY_HAND, None, "watchdog")
            found.append(f"Seat {seat.number} is free and had {' and '.join(left)}.")
        return found

    def _tidy(self) -> list[str]:
        gone = self._register.forget_actions(self._settings.WODKEEPREJECTED, self._settings.WODKEEPACTIONS)
        return [f"{gone} old actions were forgotten."] if gone else []

    def _lent(self) -> list[Seat]:
        return [seat for seat in self._register.seats() if seat.state == "ready"]

    def _container(self, number: int) -> str:
        return f"{self._project}-{user_name(number)}"

    def _stop(self, seat: Seat, what: str) -> None:
        """Stop the server of a seat that is still lent to whom it was lent when we looked, and put it on record."""
        now = self._register.seat(seat.number)
        if now is not None and (now.state, now.customer) == (seat.state, seat.customer):
            self._servers.ensure_stopped(user_name(seat.number))
            self._register.report("STOP", seat, what)


def _held(used: Usage, most: int, files: int) -> str:
    if not used.whole:
        return "folders that are nested too deeply to be measured"
    if most and used.size > most:
        return f"{used.size / 2**20:.0f} MiB, of {most / 2**20:.0f} MiB that are yours"
    return f"more than {files} files and folders, which is more than are yours"
