"""The outbox: a mail is written down in the transaction that makes it due, and sent from there until it is taken.

An event is written once, and keeps its Message-ID through every attempt. A row is marked as sent when the receiver
has taken the mail over (250 after its last dot): a service that is killed before sends it again, under the same name.
"""

import secrets
import smtplib
import ssl
from collections.abc import Callable
from datetime import timedelta
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import sqlalchemy
from sqlalchemy.dialects.postgresql import distinct_on
from sqlalchemy.orm import Session, sessionmaker

from wod_api import letters
from wod_api.seals import seal, unseal
from wod_api.settings import SECRETS, Settings
from wod_api.tables import Kept, Mail

TIMEOUT = 30.0
"""Seconds for each answer of a mail server."""

LONGEST_PAUSE = 60
"""Seconds between two attempts, at most."""

GIVE_UP = timedelta(days=2)
"""How long a letter is tried."""

AUTHORITIES = Path("/etc/wod/ca.crt")
_POLICY = SMTP.clone(max_line_length=998)


class Refused(Exception):
    """The mail server will never take this letter."""


def order(
    session: Session, settings: Settings, event: str, customer: int, location: str, subject: str, text: str
) -> None:
    """Write an order to a backend down: `subject` is what its mail API understands, `text` the workshop's name."""
    _write(
        session, settings, event, customer,
        kind="order", destination=location, recipient=f"{settings.WODUSER}@{location}", subject=subject, body=text,
    )  # fmt: skip


def letter(
    session: Session, settings: Settings, event: str, customer: int | None, recipient: str, template: str,
    facts: dict[str, Any], *, sealed: bytes | None = None,
) -> None:  # fmt: skip
    """Write a letter to a person down; `sealed` is the password that belongs into it, encrypted."""
    _write(
        session, settings, event, customer, kind="letter", destination="", recipient=recipient,
        subject=letters.subject(template, facts, settings), body=template, facts=facts, sealed=sealed,
    )  # fmt: skip


def never_offered(session: Session, event: str) -> bool:
    """Whether no server has ever been offered this mail; if it waits, it is withdrawn and never will be."""
    if session.scalar(sqlalchemy.select(Mail.id).where(Mail.event == event)) is None:
        return True
    taken = session.execute(
        sqlalchemy.update(Mail)
        .where(Mail.event == event, Mail.state == "waiting", Mail.attempts == 0)
        .values(state="withdrawn", sealed=None, finished=sqlalchemy.func.now())
        .returning(Mail.id)
    )
    return taken.first() is not None


def _write(session: Session, settings: Settings, event: str, customer: int | None, **columns: Any) -> None:
    name = f"<{event}.{secrets.token_hex(6)}@{settings.WODAPIDBFQDN}>"
    session.add(Mail(event=event, message_id=name, customer=customer, **columns))
    session.flush()


def waiting_destinations(session: Session) -> list[str]:
    """Where mails have to go now: names of backends, and "" for letters."""
    first = (
        sqlalchemy.select(Mail.destination, Mail.due)
        .ext(distinct_on(Mail.destination))
        .where(Mail.state == "waiting", Mail.kind == "order")
        .order_by(Mail.destination, Mail.id)
        .subquery()
    )
    now = sqlalchemy.func.now()
    found = list(session.scalars(sqlalchemy.select(first.c.destination).where(first.c.due <= now)))
    letters_due = sqlalchemy.select(Mail.id).where(
        Mail.kind == "letter", Mail.state == "waiting", Mail.due <= now
    )
    return [*found, *([""] if session.scalar(letters_due.limit(1)) else [])]


class Sender:
    """Sends what waits: letters by the site's relay, or into our own mailbox; orders to the backends."""

    def __init__(
        self, make_session: sessionmaker[Session], settings: Settings, still: Callable[[], bool]
    ) -> None:
        self._sessions = make_session
        self._settings = settings
        self._still = still
        """Whether it is still for us to send."""

    def send_all(self, destination: str) -> None:
        """Send all that is due there, in order; orders stop at the first that is not taken."""
        while self._still() and (number := self._next(destination)):
            if not self._send(number) and destination:
                return

    def _next(self, destination: str) -> int | None:
        with self._sessions() as session:
            waiting = sqlalchemy.select(Mail).where(Mail.destination == destination, Mail.state == "waiting")
            if not destination:
                waiting = waiting.where(Mail.due <= sqlalchemy.func.now())
            mail = session.scalar(waiting.order_by(Mail.id).limit(1))
            now = session.scalar(sqlalchemy.select(sqlalchemy.func.now()))
            return mail.id if mail and now and mail.due <= now else None

    def _send(self, number: int) -> bool:
        """One attempt; True once the mail is off our hands."""
        # Noted before anything is offered: what may have gone cannot be taken back any more.
        with self._sessions.begin() as session:
            mail = session.scalar(sqlalchemy.select(Mail).where(Mail.id == number).with_for_update())
            if mail is None or mail.state != "waiting":
                return True
            mail.attempts += 1
        try:
            message = self._message(mail)
            if mail.kind == "order":
                self._to_backend(mail, message)
            elif self._settings.WODSMTPHOST:
                self._to_relay(mail, message)
            else:
                self._note(mail, "kept", message)
            return True
        except (OSError, smtplib.SMTPException) as error:
            return self._later(mail, _told(error))
        except Refused as error:
            return self._fail(number, str(error))

    def _message(self, mail: Mail) -> EmailMessage:
        settings = self._settings
        if mail.kind == "order":
            message = EmailMessage(policy=_POLICY)
            message.set_content(f"{mail.body}\n")
        else:
            password = unseal(mail.sealed) if mail.sealed else None
            message = letters.compose(str(mail.body), mail.facts, password, settings, policy=_POLICY)
        message["Subject"] = mail.subject
        message["From"] = settings.WODSENDER
        message["To"] = mail.recipient
        message["Date"] = format_datetime(mail.created)
        message["Message-ID"] = mail.message_id
        if mail.kind == "letter":
            message["Auto-Submitted"] = "auto-generated"
        return message

    def _to_backend(self, mail: Mail, message: EmailMessage) -> None:
        settings = self._settings
        here = settings.WODTYPE == "all" and mail.destination == settings.WODBEEXTFQDN
        host, port = ("mail", 10025) if here else (mail.destination, settings.WODPOSTPORT)
        with smtplib.SMTP(host, port, local_hostname=settings.WODAPIDBFQDN, timeout=TIMEOUT) as server:
            self._deliver(server, mail, message)

    def _to_relay(self, mail: Mail, message: EmailMessage) -> None:
        settings = self._settings
        context = ssl.create_default_context(cafile=str(AUTHORITIES) if AUTHORITIES.is_file() else None)
        where: dict[str, Any] = {
            "host": settings.WODSMTPHOST,
            "port": settings.WODSMTPPORT,
            "local_hostname": settings.WODAPIDBFQDN,
            "timeout": TIMEOUT,
        }
        tls = settings.WODSMTPTLS
        with smtplib.SMTP_SSL(**where, context=context) if tls == "tls" else smtplib.SMTP(**where) as server:
            if tls == "starttls":
                server.starttls(context=context)
            if settings.WODSMTPUSER:
                server.login(settings.WODSMTPUSER, (SECRETS / "smtp-password").read_text().strip())
            try:
                self._deliver(server, mail, message)
            except smtplib.SMTPRecipientsRefused as error:
                code, said = error.recipients[mail.recipient]
                if code >= 550:
                    raise Refused(f"{code} {said.decode(errors='replace')}") from None
                raise

    def _deliver(self, server: smtplib.SMTP, mail: Mail, message: EmailMessage) -> None:
        """The dialogue, in which each answer is read. Raises SMTPException or OSError unless the mail is taken."""
        server.sendmail(self._settings.WODSENDER, [mail.recipient], message.as_bytes())
        # At once, before we even say goodbye: what was taken over must not be sent again.
        self._note(mail, "sent", message)

    def _note(self, mail: Mail, state: str, message: EmailMessage) -> None:
        with self._sessions.begin() as session:
            row = session.scalar(sqlalchemy.select(Mail).where(Mail.id == mail.id).with_for_update())
            if row is None or row.state != "waiting":
                return
            row.state, row.sealed, row.problem = state, None, None
            row.finished = sqlalchemy.func.now()
            if state == "kept":
                session.add(Kept(id=row.id, sealed=seal(message.as_string())))
        print(f"{mail.kind} {mail.event} {state} {mail.message_id}", flush=True)

    def _later(self, mail: Mail, problem: str) -> bool:
        pause = timedelta(seconds=min(2 ** min(mail.attempts - 1, 10), LONGEST_PAUSE))
        print(f"{mail.kind} {mail.event} not taken yet: {problem}", flush=True)
        with self._sessions.begin() as session:
            row = session.scalar(sqlalchemy.select(Mail).where(Mail.id == mail.id).with_for_update())
            now = session.scalar(sqlalchemy.select(sqlalchemy.func.now()))
            if row is None or row.state != "waiting" or now is None:
                return True  # it was taken, and what failed was the goodbye
            if row.kind == "letter" and now - row.created > GIVE_UP:
                row.state, row.sealed, row.finished = "failed", None, now
            row.problem, row.due = problem, now + pause
        return False

    def _fail(self, number: int, problem: str) -> bool:
        print(f"letter {number} refused: {problem}", flush=True)
        with self._sessions.begin() as session:
            session.execute(
                sqlalchemy.update(Mail)
                .where(Mail.id == number, Mail.state == "waiting")
                .values(state="failed", sealed=None, problem=problem, finished=sqlalchemy.func.now())
            )
        return True


def _told(error: Exception) -> str:
    """What went wrong, in one line, as the server put it."""
    if isinstance(error, smtplib.SMTPRecipientsRefused):
        code, said = next(iter(error.recipients.values()))
        return f"{code} {said.decode(errors='replace')}"
    if isinstance(error, smtplib.SMTPResponseException):
        said = error.smtp_error
        return f"{error.smtp_code} {said.decode(errors='replace') if isinstance(said, bytes) else said}"
    return " ".join(str(error).split()) or type(error).__name__
