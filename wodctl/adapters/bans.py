"""Who is banned: decided by the service `fail2ban`, kept as files that the service `firewall` obeys."""

import time
from dataclasses import dataclass
from datetime import UTC, datetime
from ipaddress import IPv4Address
from pathlib import Path

from wodctl.adapters import process
from wodctl.adapters.engine import Engine
from wodctl.errors import StackProblem

LONGEST_WAIT = 10.0
"""Seconds from an order to fail2ban until it is carried out."""

_FOR_EVER = datetime(2100, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Ban:
    """An address that is banned, the jail that says so, and until when; None: until somebody takes it back."""

    address: str
    jail: str
    until: datetime | None


class Bans:
    """The bans of a stack; only changing them needs a running service."""

    def __init__(self, state: Path, engine: Engine) -> None:
        self._folder = state / "run" / "bans"
        self._own = state / "run" / "firewall" / "own"
        self._engine = engine

    def all(self) -> list[Ban]:
        """The bans in force, by address."""
        found = []
        for file in self._folder.glob("*/*"):
            until = datetime.fromtimestamp(file.lstat().st_mtime, UTC)
            if until > datetime.now(UTC):
                found.append(Ban(file.name, file.parent.name, None if until >= _FOR_EVER else until))
        return sorted(found, key=lambda ban: (ban.address, ban.jail))

    def is_own(self, address: IPv4Address) -> bool:
        """Whether it is an address of this host, gateways of its containers among them."""
        return self._own.exists() and str(address) in self._own.read_text().split()

    def add(self, address: IPv4Address) -> None:
        """Ban an address until it is removed; returns when that is in force but for the firewall's next look.

        Raises StackProblem if the service does not run, or does not do it.
        """
        self._ask("set", "operator", "banip", str(address))
        self._wait_until(str(address), banned=True)

    def remove(self, address: IPv4Address) -> None:
        """Take every ban of an address back. Raises StackProblem as `add` does."""
        self._ask("unban", str(address))
        self._wait_until(str(address), banned=False)

    def _ask(self, *words: str) -> None:
        process.run(["docker", "exec", self._engine.running("fail2ban"), "fail2ban-client", *words])

    def _wait_until(self, address: str, *, banned: bool) -> None:
        end = time.monotonic() + LONGEST_WAIT
        while (address in [ban.address for ban in self.all()]) != banned:
            if time.monotonic() > end:
                raise StackProblem(
                    f"fail2ban did not do it within {LONGEST_WAIT:.0f} s.",
                    hint="`wodctl logs fail2ban` may say why.",
                )
            time.sleep(0.2)
