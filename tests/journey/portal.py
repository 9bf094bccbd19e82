"""The registration portal as the backend sees it: action mails, as existing portals send them and as they should."""

import json
import smtplib
import socket
import time
from email.message import EmailMessage

from tests.conftest import Stack


def send_as_the_original(stack: Stack, subject: str, content: str) -> None:
    """Send an action mail with the very bytes of the original portal.

    Everything in one write right after connect, bare LF line ends, no angle brackets, no blank line after the
    subject, no QUIT, and the socket is destroyed at the first byte that comes back.
    """
    dialogue = (
        f"HELO portal.example.net\nMAIL FROM: wodadmin@localhost\nRCPT TO: wodadmin@127.0.0.1\n"
        f"DATA\nSubject: {subject}\n{content}\n.\n"
    )
    with socket.create_connection(("127.0.0.1", stack.mail_port), timeout=60) as connection:
        connection.sendall(dialogue.encode())
        assert connection.recv(1) == b"2"


def send(stack: Stack, subject: str, content: str, *, sender: str = "wodadmin@localhost") -> None:
    """Send an action mail by a real SMTP dialogue; returns when the mail is acknowledged with 250."""
    mail = EmailMessage()
    mail["Subject"] = subject
    mail.set_content(content)
    with smtplib.SMTP("127.0.0.1", stack.mail_port, timeout=30) as connection:
        connection.send_message(mail, sender, ["wodadmin@127.0.0.1"])


def actions(stack: Stack, *words: str) -> list[dict]:
    """The actions that the backend knows, newest first."""
    return json.loads(stack.wodctl("action", "list", "--json", "--limit", "1000", *words).stdout)


def wait_for_action(stack: Stack, customer: int, action: str, *, timeout: float = 120) -> dict:
    """The action of that customer once it has ended, however it ended."""
    end = time.monotonic() + timeout
    while time.monotonic() < end:
        found = [a for a in actions(stack) if a["customer"] == customer and a["action"] == action]
        if found and found[0]["state"] in ("done", "failed", "rejected"):
            return found[0]
        time.sleep(0.3)
    raise AssertionError(f"{action} for customer {customer} did not end within {timeout} s: {found}")


def seat(stack: Stack, number: int) -> dict:
    """What the backend says of a seat."""
    return json.loads(stack.wodctl("student", "show", str(number), "--json").stdout)
