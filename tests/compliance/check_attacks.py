"""Behaviour: what a participant and a stranger may try, and how it must end."""

import re
from dataclasses import dataclass
from typing import Any

import pytest

from tests.compliance.fixtures import Seen

SEAT, OUTSIDE = "a seat", "outside"


@dataclass(frozen=True)
class Attempt:
    """What somebody tries, how that must end in words, and what is seen then, wholly, as an expression."""

    name: str
    where: str
    promise: str
    expected: str
    pattern: str


ATTEMPTS = (
    Attempt("neighbour", SEAT, "It connects to its neighbour's server.", "no answer", "no answer"),
    Attempt(
        "database",
        SEAT,
        "It looks for the database, its socket and its port.",
        "no answer, no socket",
        "absent, no answer",
    ),
    Attempt("gate", SEAT, "It looks for the gate's sockets.", "no socket", "absent"),
    Attempt(
        "docker-socket",
        SEAT,
        "It looks for the engine, its socket and its ports.",
        "no answer, no socket",
        "absent, no answer",
    ),
    Attempt("mail", SEAT, "It connects to the mail service, to order something.", "no answer", "no answer"),
    Attempt(
        "hub-internals",
        SEAT,
        "It connects to what hub, proxy and doorman say among themselves.",
        "no answer",
        "no answer",
    ),
    Attempt(
        "host",
        SEAT,
        "It connects to the host: sshd, published ports.",
        "no answer",
        "(No route to host, )?no answer",
    ),
    Attempt("hub-api", SEAT, "It asks the hub's API, which it reaches, for all users.", "403", "403"),
    Attempt(
        "token-of-another", SEAT, "It asks for the token of a server that is not being started.", "403", "403"
    ),
    Attempt(
        "metadata",
        SEAT,
        "It asks the cloud's metadata address 169.254.169.254.",
        "dropped by a packet rule",
        r"no answer; \d+ packets dropped by rule",
    ),
    Attempt(
        "homes-of-others",
        SEAT,
        "It looks for the site's data and for another's home.",
        "they are not there",
        "absent",
    ),
    Attempt(
        "files-of-the-system",
        SEAT,
        "It writes into its own system.",
        "read-only, or not its own",
        "Read-only file system(, Permission denied)?|Permission denied, Read-only file system",
    ),
    Attempt(
        "raw-sockets",
        SEAT,
        "It opens raw sockets, to send what it likes under any address.",
        "not permitted",
        "Operation not permitted",
    ),
    Attempt(
        "root",
        SEAT,
        "It becomes root, or makes a namespace where it would be.",
        "not permitted",
        "Operation not permitted",
    ),
    Attempt(
        "fork-bomb",
        SEAT,
        "It starts processes without end.",
        "ended by its limit of processes",
        r"Resource temporarily unavailable after \d{1,2} processes",
    ),
    Attempt(
        "full-disk",
        SEAT,
        "It writes twice its memory into /tmp.",
        "ended by its limit of memory",
        "killed at the limit of its memory|No space left on device",
    ),
    Attempt(
        "relaying",
        OUTSIDE,
        "He has a mail handed on to another server, in five notations.",
        "refused",
        "refused",
    ),
    Attempt(
        "wrong-sender",
        OUTSIDE,
        "He orders something under a sender that may not.",
        "rejected for its sender",
        "rejected: The sender .* may not order anything.*",
    ),
    Attempt(
        "wrong-passwords",
        OUTSIDE,
        "He gives six wrong passwords.",
        "403 each, then he has to pause (429)",
        r"answers (403, )*429(, 429)*",
    ),
    Attempt(
        "forged-token", OUTSIDE, "He asks the hub's API with a token that he made up.", "403", "answer 40[13]"
    ),
    Attempt(
        "forged-pass",
        OUTSIDE,
        "He opens a seat with a pass that he signed himself.",
        "403, or the login page",
        "answer (30[27]|40[13])",
    ),
)


@pytest.mark.attack
@pytest.mark.parametrize(
    "attempt",
    [pytest.param(one, id=one.name) for one in ATTEMPTS],
)
def test_attempt_fails(attempt: Attempt, seen: Seen, record_property: Any) -> None:
    """An attempt ends as it must."""
    found = seen(attempt.name)
    record_property("seen", found)
    assert re.fullmatch(attempt.pattern, found), f"expected: {attempt.expected}; seen: {found}"
