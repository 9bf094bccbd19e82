"""Files action mails in the database, as orders or as rejected with the reason: the server behind the mail service.

It runs beside the mail service, not in it: somebody who is root there can become any user, and must find no socket
of the database. What he finds is this server's, which files mails and does nothing else.

A connection is one mail, sent as images/mail/file_mail.py does: three lengths (`LENGTHS`), the envelope's sender,
the client's address, the mail. The answer is `FILED` when the row is committed, and else why it is not: then the
mail must be kept, and sent again. Sending it twice does no harm.
"""

import json
import re
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from wodctl.model.order import Order, Rejected, parse_mail, split_mail

SETTINGS = "/etc/wod/settings.json"
SOCKET = "/run/intake/intake.sock"
# The database knows us by our uid: there is no password.
DATABASE = (
    "host=/run/postgresql dbname=wod user=mail application_name=wod-intake connect_timeout=10 "
    "options='-c statement_timeout=10s'"
)
LENGTHS = struct.Struct("!HHI")
FILED = b"Filed."
HERE = b"Here."
"""What a connection without a mail is told: healthcheck asks so whether anybody is here."""

LARGEST_MAIL = 128 * 1024  # twice what Postfix lets in: its own headers come on top
_LARGEST = (1024, 64, LARGEST_MAIL + 1)
_SECONDS_TO_SEND = 10
_SERVERS = (
    4  # Postfix delivers three mails at once; each of us keeps a connection of the ten that `mail` may have
)

# The line of our smtpd's Received field that names the mail in the queue; no client can write into it.
_QUEUE_ID = re.compile(r"\n[ \t]+by \S+ \(Postfix\) with \w+ id (\w+)")

Row = tuple[Any, ...]


class NotFromPostfix(Exception):
    """The mail does not say under which name Postfix queued it, so its repetition would go unnoticed."""


class NotAMail(Exception):
    """What was sent to our socket is not what file_mail.py sends."""


class Filing:
    """Commits rows over one connection to the database, which is kept, and made anew once it is broken."""

    def __init__(self, connect: Callable[[], Any]) -> None:
        self._connect = connect
        self._kept: Any = None

    def commit(self, row: Row) -> None:
        """Commit one row for a mail, none if it has one already. Raises what the database raises."""
        if self._kept is not None:
            try:
                return self._commit(self._kept, row)
            except Exception as problem:  # most likely the database was restarted since the last mail
                _log(problem)
                self._drop()
        self._kept = self._connect()
        try:
            self._commit(self._kept, row)
        except Exception:
            self._drop()
            raise

    def _commit(self, connection: Any, row: Row) -> None:
        with connection, connection.cursor() as cursor:
            cursor.execute("SELECT wod.accept_mail(%s, %s, %s, %s, %s, %s, %s, %s, %s, %s)", row)

    def _drop(self) -> None:
        self._kept.close()
        self._kept = None


def queue_id(message: bytes) -> str:
    """The name under which Postfix queued this mail: the same in every attempt, and no other mail's."""
    received = next((value for name, value in split_mail(message)[0] if name == "Received"), "")
    found = _QUEUE_ID.search(received)
    if not found:
        raise NotFromPostfix("the topmost Received field is not our Postfix's.")
    return found[1]


def row_of(message: bytes, sender: str, client: str, *, wodsender: str) -> Row:
    """What wod.accept_mail is told of a mail: the order, or nothing but the reason why it is none."""
    order: Order | None = None
    reason: str | None = None
    try:
        if len(message) > LARGEST_MAIL:
            raise Rejected(f"The mail is longer than {LARGEST_MAIL} bytes.")
        order = parse_mail(message, sender, wodsender=wodsender)
    except Rejected as refusal:
        reason = refusal.message
    read = (order.action, order.first, order.last, order.customer, order.workshop) if order else (None,) * 5
    return (queue_id(message), sender, client, *read, reason, message[: 64 * 1024])


def answer(connection: socket.socket, filing: Filing, *, wodsender: str) -> bytes:
    """Read a mail from a connection and file it; returns what to say, whatever was sent and whatever fails."""
    try:
        mail = receive(connection)
        if mail is None:
            return HERE
        message, sender, client = mail
        filing.commit(row_of(message, sender, client, wodsender=wodsender))
    except Exception as problem:
        return _log(problem).encode("ascii", "backslashreplace")[:500]
    return FILED


def receive(connection: socket.socket) -> tuple[bytes, str, str] | None:
    """The mail, its sender, its client's address; None if nothing came. Raises NotAMail unless it came whole."""
    end = time.monotonic() + _SECONDS_TO_SEND
    head = _read(connection, LENGTHS.size, end)
    if not head:
        return None
    parts: list[bytes] = []
    for length, largest in zip(_lengths(head), _LARGEST, strict=True):
        part = _read(connection, length, end) if length <= largest else b""
        if len(part) != length:
            raise NotAMail(f"a part of {length} bytes is too long or did not come.")
        parts.append(part)
    sender, client, message = parts
    return message, sender.decode("ascii", "replace"), client.decode("ascii", "replace")


def _lengths(head: bytes) -> tuple[int, ...]:
    if len(head) != LENGTHS.size:
        raise NotAMail("it is shorter than the lengths of its parts.")
    return LENGTHS.unpack(head)


def _read(connection: socket.socket, length: int, end: float) -> bytes:
    """That many bytes, or fewer if the other side ends. Raises TimeoutError when they are not there in time."""
    read = bytearray()
    while len(read) < length:
        connection.settimeout(max(end - time.monotonic(), 0.001))
        some = connection.recv(length - len(read))
        if not some:
            break
        read += some
    return bytes(read)


def serve(listener: socket.socket, connect: Callable[[], Any], *, wodsender: str) -> None:
    """Answer one connection after the other, for ever."""
    filing = Filing(connect)
    while True:
        try:
            connection, _ = listener.accept()
            with connection:
                connection.sendall(answer(connection, filing, wodsender=wodsender))
        except (
            OSError
        ) as problem:  # the other side did not wait, or the system lacks means: go on with the next
            _log(problem)
            time.sleep(0.1)


def listen(path: Path) -> socket.socket:
    """Our socket. Its folder is ours alone, so nobody else needs to be kept from it."""
    path.unlink(missing_ok=True)  # of a former start
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen(64)
    return listener


def main() -> None:
    """Serve with several threads, until the service is stopped."""
    import psycopg2  # in here: only the image has it

    wodsender = json.loads(Path(SETTINGS).read_text())["WODSENDER"]
    server = partial(serve, listen(Path(SOCKET)), partial(psycopg2.connect, DATABASE), wodsender=wodsender)
    for _ in range(_SERVERS - 1):
        threading.Thread(target=server, daemon=True).start()
    server()


def _log(problem: Exception) -> str:
    """Write one line about it, and return it."""
    line = " ".join(["Not filed yet,", f"{type(problem).__name__}:", *str(problem).split()])
    print(line.encode("ascii", "backslashreplace").decode(), file=sys.stderr, flush=True)
    return line


if __name__ == "__main__":
    main()
