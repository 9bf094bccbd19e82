"""A seat: the place of one participant, lent for the time of a workshop, and the password that opens it."""

import functools
import secrets
import string
import threading
from dataclasses import dataclass
from datetime import datetime
from typing import Any

BY_HAND = 0
"""The customer number of an operator's own orders: nobody's lease."""

PASSWORD_LENGTH = 14
_ALPHABET = "".join(c for c in string.ascii_letters + string.digits if c not in "0O1lI")
_ONE_HASH_AT_A_TIME = threading.Lock()


@dataclass(frozen=True)
class Seat:
    """What is known of a seat. `state` is free, preparing, ready, cleaning, or failed for that `reason`."""

    number: int
    state: str
    workshop: str | None = None
    mode: str | None = None
    customer: int | None = None
    lease_until: datetime | None = None
    reason: str | None = None

    def is_ready_for(self, customer: int, workshop: str | None, now: datetime) -> bool:
        """Whether that customer holds the seat, ready with that workshop, for a lease that is not over."""
        return (
            self.state == "ready"
            and customer != BY_HAND
            and (self.customer, self.workshop) == (customer, workshop)
            and self.lease_until is not None
            and self.lease_until > now
        )

    def is_lent_to_another(self, customer: int, now: datetime) -> bool:
        """Whether a different customer works there, whose lease is not over; what was made by hand is nobody's."""
        holder = self.customer or BY_HAND
        return (
            self.state == "ready"
            and holder not in (BY_HAND, customer)
            and self.lease_until is not None
            and self.lease_until > now
        )

    def belongs_to_another(self, customer: int) -> bool:
        """Whether a different customer holds the seat; what was made by hand belongs to nobody."""
        holder = self.customer or BY_HAND
        return self.state != "free" and BY_HAND not in (customer, holder) and holder != customer


def user_name(number: int) -> str:
    """The seat's user at the hub, in the operating system and in the name of its home."""
    return f"student{number}"


def new_password() -> str:
    """A password for one lease: letters and digits without those that look alike, 81 bits of chance."""
    return "".join(secrets.choice(_ALPHABET) for _ in range(PASSWORD_LENGTH))


def password_hash(password: str) -> str:
    """The password's argon2id hash.

    Cheaper than a password that somebody thought of would need: these are made by chance, nobody tries them
    all, and a class of fifty logs in at once on a small host. One at a time, to bound the memory.
    """
    with _ONE_HASH_AT_A_TIME:
        return str(_hasher().hash(password))


@functools.cache
def _hasher() -> Any:
    from argon2 import PasswordHasher  # not needed by most commands that know seats

    return PasswordHasher(time_cost=2, memory_cost=8 * 1024, parallelism=1)
