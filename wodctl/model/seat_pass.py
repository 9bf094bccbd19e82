"""Seat passes: signed words that let a browser through to one seat. Issued by hub and worker, read by the doorman.

A pass is `<user>.<expiry>.<mac>`: the user name, the second since 1970 when it ends, and the HMAC-SHA256 of both in
hexadecimal. Standard library only: this module is part of the images of all three.
"""

import hashlib
import hmac
import re

COOKIE = "wod-seat"
"""The cookie that carries a pass."""

_PASS = re.compile(r"(?P<signed>(?P<user>[a-z0-9]+)\.(?P<expiry>[0-9]{1,12}))\.(?P<mac>[0-9a-f]{64})")


def issue(key: str, user: str, expiry: float) -> str:
    """A pass for that user's seat until `expiry` (seconds since 1970)."""
    signed = f"{user}.{int(expiry)}"
    return f"{signed}.{_mac(key, signed)}"


def is_valid(key: str, word: str, user: str, now: float) -> bool:
    """Whether `word` is a pass for that user's seat that has not ended."""
    found = _PASS.fullmatch(word)
    return (
        found is not None
        and hmac.compare_digest(_mac(key, found["signed"]), found["mac"])
        and found["user"] == user
        and now < int(found["expiry"])
    )


def _mac(key: str, signed: str) -> str:
    return hmac.new(key.encode(), b"wod-seat pass:" + signed.encode(), hashlib.sha256).hexdigest()
