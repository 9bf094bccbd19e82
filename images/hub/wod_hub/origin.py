"""Where a request comes from, told by those whom we believe."""

import ipaddress
import logging
import time
from collections.abc import Sequence
from logging.handlers import RotatingFileHandler
from pathlib import Path

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

LARGEST_LOG = 2**20
"""Bytes of the log of refused logins; there is one former file beside it."""


def client_address(peer: str, forwarded_for: str, trusted: Sequence[Network]) -> str:
    """The address of the browser: the last in X-Forwarded-For that is none of the trusted proxies.

    Each proxy adds who spoke to it at the end, so that what stands before the last stranger is his invention. Our own
    proxy starts the list anew unless a trusted one spoke to it. What is no address stands for the peer itself.
    """
    found = peer
    for hop in reversed(forwarded_for.split(",")):
        try:
            address = ipaddress.ip_address(hop.strip())
        except ValueError:
            return found
        found = str(address)
        if not any(address in network for network in trusted):
            return found
    return found


class RefusedLog:
    """The file in which fail2ban looks for whom to ban: a line for each login that was more than a typing error."""

    def __init__(self, path: Path) -> None:
        self._log = logging.Logger("refused")
        handler = RotatingFileHandler(path, maxBytes=LARGEST_LOG, backupCount=1)
        handler.setFormatter(logging.Formatter("%(message)s"))
        self._log.addHandler(handler)

    def add(self, address: str, seat: str) -> None:
        """Note a refused login; `seat` is empty for a name that no seat has. A full disk stops nobody's login."""
        self._log.info("%d refused %s %s", time.time(), address, seat or "-")
