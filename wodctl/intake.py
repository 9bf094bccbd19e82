"""What procmail runs for each mail: files it in the database, as an order or as rejected with the reason.

Called as `python3 -m wodctl.intake SENDER CLIENT` with the mail on standard input. Ends with 0 when the row
is committed, and with 75 (EX_TEMPFAIL) whenever it is not: Postfix then keeps the mail and tries again.
"""

import json
import os
import re
import sys
from typing import Any

from wodctl.model.order import Order, Rejected, parse_mail, split_mail

SETTINGS = "/etc/wod/settings.json"
# The database knows us by our uid: there is no password.
DATABASE = (
    "host=/run/postgresql dbname=wod user=mail application_name=wod-intake connect_timeout=10 "
    "options='-c statement_timeout=20s'"
)
LARGEST_MAIL = 128 * 1024  # twice what Postfix lets in: its own headers come on top
EX_TEMPFAIL = 75

# The line of our smtpd's Received field that names the mail in the queue; no client can write into it.
_QUEUE_ID = re.compile(r"\n[ \t]+by \S+ \(Postfix\) with \w+ id (\w+)")


class NotFromPostfix(Exception):
    """The mail does not say under which name Postfix queued it, so its repetition would go unnoticed."""


def queue_id(message: bytes) -> str:
    """The name under which Postfix queued this mail: the same in every attempt, and no other mail's."""
    received = next((value for name, value in split_mail(message)[0] if name == "Received"), "")
    found = _QUEUE_ID.search(received)
    if not found:
        raise NotFromPostfix("the topmost Received field is not our Postfix's.")
    return found[1]


def file_mail(message: bytes, sender: str, client: str, *, wodsender: str, connection: Any) -> None:
    """Commit one row for this mail, none if it has one already. Raises what the database raises."""
    order: Order | None = None
    reason: str | None = None
    try:
        if len(message) > LARGEST_MAIL:
            raise Rejected(f"The mail is longer than {LARGEST_MAIL} bytes.")
        order = parse_mail(message, sender, wodsender=wodsender)
    except Rejected as refusal:
        reason = refusal.message
    read = (order.action, order.first, order.last, order.customer, order.workshop) if order else (None,) * 5
    with connection, connection.cursor() as cursor:
        cursor.execute(
            "SELECT wod.accept_mail(%s, %s, %s, %s, %s, %s, %s, %s, %s, %s)",
            (queue_id(message), sender, client, *read, reason, message[: 64 * 1024]),
        )


def main() -> int:
    """File the mail on standard input; what goes to standard error ends up in Postfix's log."""
    try:
        import psycopg2  # in here, so that not even its absence loses a mail

        sender, client = (os.fsencode(word).decode("ascii", "replace") for word in sys.argv[1:3])
        message = sys.stdin.buffer.read(LARGEST_MAIL + 1)
        while sys.stdin.buffer.read(LARGEST_MAIL):
            pass  # procmail takes a pipe that is not read to its end for a failure
        with open(SETTINGS, encoding="utf-8") as settings:
            wodsender = json.load(settings)["WODSENDER"]
        file_mail(message, sender, client, wodsender=wodsender, connection=psycopg2.connect(DATABASE))
    except Exception as problem:
        print(f"Not filed yet, {type(problem).__name__}:", *str(problem).split(), file=sys.stderr)
        return EX_TEMPFAIL
    return 0


if __name__ == "__main__":
    sys.exit(main())
