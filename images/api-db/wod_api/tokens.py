"""Who calls: passwords of users, tokens that tell of a login, and what slows down who tries too often."""

import threading
import time
from collections import OrderedDict
from dataclasses import dataclass

import argon2
import jwt

LIFETIME = 180
"""Seconds that a token lasts, as existing clients are used to."""

_hasher = argon2.PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)
_at_a_time = threading.BoundedSemaphore(2)
_nobody = _hasher.hash("a password that nobody has")


def hashed(password: str) -> str:
    """Its argon2id hash."""
    return _hasher.hash(password)


def is_right(stored: str | None, password: str) -> bool:
    """Whether the password is the one that was hashed; takes as long where there is no user (None)."""
    with _at_a_time:
        try:
            return _hasher.verify(stored or _nobody, password) and stored is not None
        except (argon2.exceptions.VerificationError, argon2.exceptions.InvalidHashError):
            return False


def token(user: int, key: str, *, purpose: str = "api", lifetime: int = LIFETIME) -> str:
    """Tells who has logged in; it is of no use for another purpose."""
    now = int(time.time())
    return jwt.encode({"id": user, "iat": now, "exp": now + lifetime, "aud": purpose}, key, algorithm="HS256")


def user_of(text: str, key: str, *, purpose: str = "api") -> int | None:
    """The user's number; None for a token that is forged, expired or for another purpose."""
    try:
        claims = jwt.decode(
            text, key, algorithms=["HS256"], audience=purpose, options={"require": ["exp", "id", "aud"]}
        )
    except (jwt.InvalidTokenError, ValueError):
        return None
    return claims["id"] if isinstance(claims["id"], int) else None


@dataclass
class _Bucket:
    left: float
    seen: float


class Rate:
    """So many calls a minute for each caller, as many at once; 0: no limit. Forgets the callers of long ago."""

    def __init__(self, per_minute: int) -> None:
        self._rate = per_minute
        self._callers: OrderedDict[str, _Bucket] = OrderedDict()
        self._lock = threading.Lock()

    def allows(self, caller: str) -> bool:
        """Count this call; False if it is one too many."""
        if not self._rate:
            return True
        now = time.monotonic()
        with self._lock:
            bucket = self._callers.pop(caller, None) or _Bucket(self._rate, now)
            bucket.left = min(self._rate, bucket.left + (now - bucket.seen) * self._rate / 60)
            bucket.seen = now
            allowed = bucket.left >= 1
            if allowed:
                bucket.left -= 1
            self._callers[caller] = bucket
            while len(self._callers) > 10_000:
                self._callers.popitem(last=False)
        return allowed


class Failures:
    """After five wrong passwords in a row a caller has to pause: a second, and up to half a minute."""

    FREE, LONGEST = 5, 30.0

    def __init__(self) -> None:
        self._failed: OrderedDict[str, tuple[int, float]] = OrderedDict()
        self._lock = threading.Lock()

    def pause(self, caller: str) -> float:
        """Seconds that the caller still has to wait."""
        with self._lock:
            count, last = self._failed.get(caller, (0, 0.0))
        if count < self.FREE:
            return 0.0
        return max(0.0, last + min(self.LONGEST, 2.0 ** (count - self.FREE)) - time.monotonic())

    def note(self, caller: str, *, right: bool) -> None:
        """Remember how the attempt went."""
        with self._lock:
            count, _ = self._failed.pop(caller, (0, 0.0))
            if not right:
                self._failed[caller] = (count + 1, time.monotonic())
            while len(self._failed) > 10_000:
                self._failed.popitem(last=False)
