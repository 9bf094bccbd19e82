"""Orders: what a mail, the command line or a lease asks to be done with seats; the grammar of action mails.

Protocol of the registration portals: the subject is `<ACTION> <seat or min,max> <customer> [ignored words]`,
the first line of the body names the workshop. The mail's text is hostile until it is an `Order`.
"""

import re
from dataclasses import dataclass

from wodctl.errors import WodError

ACTIONS = ("CREATE", "CLEANUP", "RESET", "PURGE")
DELIVER = "DELIVER"
"""A workshop put into the home of a seat that is ready: an order of the operator, never of a mail."""

HIGHEST_SEAT = 999_999
HIGHEST_CUSTOMER = 10**18 - 1

_SEAT = re.compile(r"[1-9][0-9]{0,5}")
_RANGE = re.compile(rf"{_SEAT.pattern}(,{_SEAT.pattern})?")
_CUSTOMER = re.compile(r"[0-9]{1,18}")
_WORKSHOP = re.compile(r"(WKSHP|CHLG)-[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_FIELD = re.compile(r"([!-9;-~]+)[ \t]*:(.*)", re.DOTALL)


class Rejected(WodError):
    """An order that will never be carried out; the message is the reason, as the operator reads it."""

    exit_code = 6


@dataclass(frozen=True)
class Order:
    """One action on the seats `first` to `last`, which are the same seat but for a RESET of a range.

    `customer` is the portal's number of the participant, 0 for none. `workshop` is the name as ordered, in
    either mode; None for PURGE, which needs none. Raises `Rejected` when a value is not as it must be.
    """

    action: str
    first: int
    last: int
    customer: int
    workshop: str | None

    def __post_init__(self) -> None:
        seats = f"{self.first} to {self.last}"
        if self.action not in (*ACTIONS, DELIVER):
            raise Rejected(f"Unknown action {_shown(self.action)}: expected one of {', '.join(ACTIONS)}.")
        if not 1 <= self.first <= self.last <= HIGHEST_SEAT:
            raise Rejected(f"Seats {seats} are no range: expected the lower number first, at least 1.")
        if self.first != self.last and self.action != "RESET":
            raise Rejected(f"{self.action} of seats {seats}: only RESET takes a range.")
        if not 0 <= self.customer <= HIGHEST_CUSTOMER:
            raise Rejected(f"Customer {self.customer} is out of range: expected 0 to {HIGHEST_CUSTOMER}.")
        if self.action == "PURGE":
            if self.workshop is not None:
                raise Rejected("PURGE takes no workshop.")
        elif not self.workshop:
            raise Rejected(
                f"{self.action} without a workshop: expected its name, in a mail on the first line."
            )
        elif not _WORKSHOP.fullmatch(self.workshop) or ".." in self.workshop:
            raise Rejected(
                f"{_shown(self.workshop)} is no name of a workshop: expected WKSHP- or CHLG- and then "
                "letters, digits, '.', '_', '-' (64 at most, no '..')."
            )

    @property
    def mode(self) -> str | None:
        """`CHLG` when the workshop is taken as a challenge, else `WKSHP`; None for PURGE."""
        return self.workshop.partition("-")[0] if self.workshop else None

    @property
    def folder(self) -> str | None:
        """The name of the workshop's folder, the same for both modes; None for PURGE."""
        return "WKSHP-" + self.workshop.partition("-")[2] if self.workshop else None


def check_order(order: Order, *, seat_min: int, seat_max: int) -> None:
    """Raise `Rejected` unless every seat of the order exists on this backend, both ends included."""
    if not seat_min <= order.first <= order.last <= seat_max:
        seats = f"{order.first}" if order.first == order.last else f"{order.first} to {order.last}"
        raise Rejected(f"Seat {seats} is not on this backend: its seats are {seat_min} to {seat_max}.")


def parse_mail(message: bytes, sender: str, *, wodsender: str) -> Order:
    """Read the order out of a mail as it was delivered, whose envelope says `sender`.

    Raises `Rejected` when somebody else than `wodsender` sent it (upper and lower case are the same), or when
    the text is not exactly an order.
    """
    if sender.lower() != wodsender.lower():
        raise Rejected(f"The sender {_shown(sender)} may not order anything, only WODSENDER, {wodsender}.")
    fields, first_line = split_mail(message)
    subjects = [value for name, value in fields if name.lower() == "subject"]
    if len(subjects) != 1:
        raise Rejected(f"{len(subjects)} lines of Subject in the mail: expected exactly one.")
    action, seats, customer = (*_words(subjects[0]), "", "", "")[:3]
    if action not in ACTIONS:
        encoded = " Send it as plain text, not MIME-encoded." if action.startswith("=?") else ""
        raise Rejected(
            f"Unknown action {_shown(action)} in the subject: expected one of {', '.join(ACTIONS)}.{encoded}"
        )
    if not (_RANGE if action == "RESET" else _SEAT).fullmatch(seats):
        raise Rejected(
            f"{_shown(seats)} is no seat: expected a number from 1 to {HIGHEST_SEAT} without leading zeros, "
            "and min,max only for RESET."
        )
    if not _CUSTOMER.fullmatch(customer):
        raise Rejected(f"{_shown(customer)} is no customer's number: expected 1 to 18 digits after the seat.")
    workshop = None if action == "PURGE" else first_line.strip(" \t")
    first, _, last = seats.partition(",")
    return Order(action, int(first), int(last or first), int(customer), workshop)


def split_mail(message: bytes) -> tuple[list[tuple[str, str]], str]:
    """The header fields of a mail, topmost first, folds kept, and the first line of its body, "" without one.

    The header ends with a blank line or, as Postfix reads the portals' mails, with the first line that is no
    field.
    """
    lines = [line.rstrip("\r") for line in message.decode("latin-1").split("\n")]
    if lines[0].startswith("From "):  # the envelope in mailbox form, which a local delivery puts on top
        del lines[0]
    fields: list[tuple[str, str]] = []
    for number, line in enumerate(lines):
        field = _FIELD.fullmatch(line)
        if field:
            fields.append((field[1], field[2]))
        elif line[:1] in (" ", "\t") and fields:
            fields[-1] = (fields[-1][0], f"{fields[-1][1]}\n{line}")
        elif line:
            return fields, line
        else:
            return fields, lines[number + 1] if number + 1 < len(lines) else ""
    return fields, ""


def _words(text: str) -> list[str]:
    return [word for word in re.split(r"[ \t\n]+", text) if word]


def _shown(text: str) -> str:
    """Hostile text as an operator may safely see it: printable ASCII, in quotes, cut when it is long."""
    return ascii(text if len(text) <= 60 else text[:57] + "...")
