"""Other Docker hosts that appliances may live on (WODAPPLIANCEHOSTS), and how they are reached.

Standard library only: this module is part of the images of worker and gate.
"""

import ipaddress
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FOLDER = "secrets/appliance-hosts"
"""Below the state directory: a folder for each host, with the files that open it."""

_ENDPOINT = re.compile(
    r"(?:ssh://(?P<user>[a-z_][a-z0-9_-]{0,31})@|tcp://)"
    r"(?P<name>[A-Za-z0-9]([A-Za-z0-9.-]{0,62}[A-Za-z0-9])?)(:(?P<port>\d{1,5}))?"
)


@dataclass(frozen=True)
class DockerHost:
    """A host and the way to its engine: as `user` by ssh, or by TLS where `user` is empty.

    `name` is its address, which IP-WKSHP-… names and seats reach.
    """

    name: str
    user: str
    port: int

    @classmethod
    def parse(cls, text: str) -> "DockerHost":
        """The host of `ssh://USER@HOST[:PORT]` or `tcp://HOST[:PORT]`. Raises ValueError for any other form."""
        match = _ENDPOINT.fullmatch(text)
        if not match:
            raise ValueError(f"{text!r} is neither ssh://USER@HOST[:PORT] nor tcp://HOST[:PORT]")
        user = match["user"] or ""
        port = int(match["port"] or (22 if user else 2376))
        if not 1 <= port <= 65535:
            raise ValueError(f"{text!r} has a port that there is not")
        return cls(match["name"], user, port)

    @property
    def files(self) -> tuple[str, ...]:
        """The files that open it: docker's own names for TLS."""
        return ("key", "known_hosts") if self.user else ("ca.pem", "cert.pem", "key.pem")

    def tunnel(self, folder: Path, socket: Path) -> list[str]:
        """The command that keeps `socket` leading to the engine, as long as it runs; `folder` holds the files."""
        return [
            "ssh", "-F", "none", "-N", "-i", str(folder / "key"), "-o", "BatchMode=yes", "-o", "IdentitiesOnly=yes",
            "-o", "StrictHostKeyChecking=yes", "-o", f"UserKnownHostsFile={folder / 'known_hosts'}",
            "-o", "GlobalKnownHostsFile=none", "-o", "ConnectTimeout=10", "-o", "ExitOnForwardFailure=yes",
            "-o", "StreamLocalBindUnlink=yes", "-o", "ServerAliveInterval=10", "-o", "ServerAliveCountMax=2",
            "-L", f"{socket}:/var/run/docker.sock", "-p", str(self.port), "-l", self.user, "--", self.name,
        ]  # fmt: skip


def hosts_of(addresses: Any, hosts: Iterable[DockerHost]) -> Sequence[DockerHost]:
    """Those that may be meant by the site's IP-WKSHP-…: one address or a list; None for a site that sets none.

    From a single IPv4 address the seats of a `multiappliance` workshop count up.
    """
    if not isinstance(addresses, list):
        first = _number(addresses)
        return [
            host for host in hosts
            if host.name == addresses or (first is not None and (_number(host.name) or 0) > first)
        ]  # fmt: skip
    return [host for host in hosts if host.name in addresses]


def _number(address: Any) -> int | None:
    try:
        return int(ipaddress.IPv4Address(str(address)))
    except ValueError:
        return None
