"""Machines that a site has already, without Docker: a student's account on one is prepared and closed by ssh.

The account exists there, as the original wants it; CREATE empties its home, gives it a password and the seat's key;
the end takes both away. Names are checked before they get into a command, everything else goes through standard input.
"""

import ipaddress
import json
import re
import shlex
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wodctl.errors import ActionFailed, Unavailable

PATIENCE = 60
"""Seconds for one visit."""

_NO_CONNECTION = 255
_NO_ACCOUNT = 3

# Runs there as root: a name as its argument, the password and the key as two lines on standard input. What runs as
# the participant ends first, so that nobody can lead us astray with links; find follows none.
_OPEN = """set -eu
cd /
user=$1
IFS= read -r password
IFS= read -r key
home=$(getent passwd "$user" | cut -d: -f6) && [ -n "$home" ] && [ "$home" != / ] && [ -d "$home" ] || exit 3
pkill -KILL -u "$user" || true
printf '%s:%s\\n' "$user" "$password" | chpasswd
find "$home" -xdev -mindepth 1 -delete
runuser -u "$user" -- cp -r /etc/skel/. "$home"/
[ -n "$key" ] || exit 0
printf '%s\\n' "$key" | runuser -u "$user" -- sh -c \
    'umask 077 && mkdir "$1/.ssh" && cat > "$1/.ssh/authorized_keys"' sh "$home"
"""


@dataclass(frozen=True)
class Machine:
    """The account of a seat on a machine; `address` is what the seat knows as IP-WKSHP-…."""

    workshop: str
    address: str
    seat: int

    @property
    def user(self) -> str:
        """The account."""
        return f"student{self.seat}"


class Machines:
    """Visits machines as `admin`, who may use sudo there without a password, with a key of ours.

    `known_hosts` holds their host keys, as ssh writes them: a machine that is not there, or has another one, is not
    talked to. Methods raise Unavailable while a machine is away, and ActionFailed for what does not go away by itself.
    """

    def __init__(self, admin: str, key: Path, known_hosts: Path) -> None:
        self._admin = admin
        self._key = key
        self.known_hosts = known_hosts

    @property
    def has_key(self) -> bool:
        """Whether the site has given a key: without one, its own scripts look after its machines."""
        return self._key.is_file() and self._key.stat().st_size > 1

    def open(self, machine: Machine, password: str, authorized_key: bytes) -> None:
        """The account is empty and fresh, and has this password and this key."""
        self._visit(machine, password, authorized_key.decode().strip())

    def close(self, machine: Machine, password: str) -> None:
        """The account is empty, nobody has its password (one that is told to nobody), and no key opens it."""
        self._visit(machine, password, "")

    def _visit(self, machine: Machine, password: str, key: str) -> None:
        if not self.has_key:
            raise ActionFailed(
                f"{machine.workshop} needs the machine {machine.address}, but there is no key to open it.",
                hint="Write one for the site's administrator there into <state>/secrets/worker/machine-key.",
            )
        command = ["sudo", "-n", "/bin/sh", "-c", _OPEN, "wod", machine.user]
        words = [
            "ssh", "-F", "none", "-i", str(self._key), "-o", "BatchMode=yes", "-o", "IdentitiesOnly=yes",
            "-o", "StrictHostKeyChecking=yes", "-o", f"UserKnownHostsFile={self.known_hosts}",
            "-o", "GlobalKnownHostsFile=none", "-o", "ConnectTimeout=10", "-l", self._admin, machine.address,
            "--", shlex.join(command),
        ]  # fmt: skip
        try:
            done = subprocess.run(
                words,
                input=f"{password}\n{key}\n",
                capture_output=True,
                text=True,
                timeout=PATIENCE,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise Unavailable(f"The machine {machine.address} did not answer within {PATIENCE} s.") from None
        said = " ".join(done.stderr.split())[-300:]
        if done.returncode == _NO_ACCOUNT:
            raise ActionFailed(f"The machine {machine.address} has no account {machine.user} with a home.")
        if done.returncode == _NO_CONNECTION:
            if "verification failed" in said or "CHANGED" in said:
                raise ActionFailed(
                    f"The machine {machine.address} has another host key than the site knows, if it knows one.",
                    hint="Check its key, and write it into <state>/secrets/worker/machine-hosts as ssh-keyscan does.",
                )
            if "Permission denied" in said:
                raise ActionFailed(
                    f"The machine {machine.address} does not let {self._admin} in with our key."
                )
            raise Unavailable(f"The machine {machine.address} does not answer: {said}")
        if done.returncode != 0:
            raise ActionFailed(f"The machine {machine.address} could not prepare {machine.user}: {said}")


def address_of(workshop: str, seat: int, variables: Mapping[str, Any], metadata: Any) -> str | None:
    """Where the site says that a seat's machine for a workshop is (IP-WKSHP-…); None for an appliance of ours.

    One for all, or where `multiappliance` is set one for each seat, counting up from the first; or a list. Raises
    ActionFailed for what is no address, such as the original's placeholder x.y.z.t.
    """
    configured = variables.get(f"IP-{workshop}")
    if configured is None:
        return None
    first = metadata.range[0] if metadata.range else 1
    if isinstance(configured, list) and configured:
        configured = configured[(seat - first) % len(configured)]
    text = str(configured)
    with suppress(ValueError):
        base = ipaddress.IPv4Address(text)
        return str(base + (seat - first)) if metadata.multiappliance else text
    if not re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?", text) or text == "x.y.z.t":
        raise ActionFailed(
            f"IP-{workshop} is {text[:60]!r}, which is no address.",
            hint="Set it to that of the machine, or leave it out for an appliance on this host.",
        )
    return text


def known_keys(known_hosts: Path, address: str) -> bytes:
    """The lines of a file of host keys that are about this address."""
    lines = known_hosts.read_text().splitlines() if known_hosts.is_file() else []
    return "".join(f"{line}\n" for line in lines if address in line.partition(" ")[0].split(",")).encode()


MACHINES_OPENED = ".machines"
"""Folder beside the homes with the notes of Opened."""


class Opened:
    """Which seats have an account open on which machine: files in a folder of the worker's own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def note(self, machine: Machine) -> None:
        """Before it is opened."""
        self._folder.mkdir(mode=0o700, exist_ok=True)
        self._file(machine.seat).write_text(json.dumps([machine.workshop, machine.address]))

    def of(self, seat: int) -> Machine | None:
        """The one that has to be closed."""
        try:
            workshop, address = json.loads(self._file(seat).read_text())
        except (FileNotFoundError, ValueError):
            return None
        return Machine(workshop, address, seat)

    def forget(self, seat: int) -> None:
        """After it was closed."""
        self._file(seat).unlink(missing_ok=True)

    def _file(self, seat: int) -> Path:
        return self._folder / f"student{seat}"
