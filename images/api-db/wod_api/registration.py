"""A participant registers, and is taken off again: each in one transaction."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import email_validator
import sqlalchemy
from disposable_email_domains import blocklist
from sqlalchemy.orm import Session

from wod_api.fields import NewCustomer, date
from wod_api.lives import release
from wod_api.settings import Settings
from wod_api.store import wake
from wod_api.tables import OPEN, Customer, Mail, Student, Workshop

_ROBOT = re.compile(r"[0-9]+\.[0-9]+@(gmail|googlemail)\.com")
_SAYS_NO = {
    "closed": "Registration closed, this workshop is not offered at the moment...",
    "full": "Registration full, capacity exceeded. Please try again later...",
    "no-location": "Registration impossible, no backend serves this workshop...",
    "no-seat": "Registration full, no student account is available. Please try again later...",
}
_REGISTER = sqlalchemy.text(
    "SELECT outcome, customer, student, until, title FROM"
    " register(:name, :email, :address, :company, :title, :type, :proxy, :hour)"
)


@dataclass(frozen=True)
class Answer:
    """The status and the body of an answer, and in one word why; a body of None is an empty one."""

    status: int
    body: Any
    reason: str


def register(session: Session, said: NewCustomer, settings: Settings) -> Answer:
    """Give the participant a seat for the workshop, if there is one and he may have it.

    Who is not wanted is told nothing (200, empty), who has a workshop already which one (202), and why there is no
    seat (202, a text). Commits, or changes nothing.
    """
    address = _address(said.email, settings.WODDENYLIST)
    if address is None:
        return Answer(200, None, "not-wanted")
    if not said.termsAndConditions:
        return Answer(
            400, {"error": "The terms and conditions must be accepted (termsAndConditions)."}, "terms"
        )
    values = {
        "name": " ".join(word[:1].upper() + word[1:].lower() for word in said.name.split()),
        "email": address,
        "address": comparable(address),
        "company": said.company,
        "title": said.title,
        "type": said.sessionType,
        "proxy": said.proxy,
        "hour": settings.hour,
    }
    found = session.execute(_REGISTER, values).one()
    session.commit()
    if found.outcome == "registered":
        body = {
            "id": found.customer,
            "name": values["name"],
            "email": address,
            "studentId": found.student,
            "proxy": said.proxy,
        }
        return Answer(200, body, "registered")
    if found.outcome == "known":
        body = {"id": found.customer, "title": found.title, "endDate": date(found.until)}
        return Answer(202, body, "already-registered")
    if found.outcome == "no-workshop":
        return Answer(400, {"error": "There is no workshop with this title."}, "no-workshop")
    return Answer(202, _SAYS_NO[found.outcome], found.outcome)


def unregister(session: Session, customer: Customer) -> None:
    """End his registration: the scheduler takes the seat back at once."""
    if (customer.lastEmailSent or OPEN[0]) in OPEN:
        customer.active = False
        customer.lastEmailSent = "unregister"
        customer.endDate = customer.due = datetime.now(UTC)
        wake(session)


def delete(session: Session, customer: Customer, settings: Settings) -> None:
    """Remove his row. A seat that he holds is ordered back, and free once the backend says so."""
    if (customer.lastEmailSent or OPEN[0]) in (*OPEN, "unregister"):
        release(session, customer, settings)
        wake(session)
    session.execute(
        sqlalchemy.update(Mail)
        .where(Mail.customer == customer.id, Mail.kind == "letter", Mail.state == "waiting")
        .values(state="withdrawn", sealed=None, finished=sqlalchemy.func.now())
    )
    session.execute(sqlalchemy.update(Student).where(Student.holder == customer.id).values(holder=None))
    session.delete(customer)


def comparable(address: str) -> str:
    """The address as one person has it: no capitals, no +tag, for Gmail no dots."""
    local, _, domain = address.lower().rpartition("@")
    local = local.partition("+")[0] or local
    if domain in ("gmail.com", "googlemail.com"):
        local, domain = local.replace(".", ""), "gmail.com"
    return f"{local}@{domain}"


def popular(session: Session) -> set[str]:
    """The ten workshops that most people have registered for."""
    people = sqlalchemy.func.count(sqlalchemy.distinct(Customer.address))
    names = (
        sqlalchemy.select(Customer.sessionName)
        .group_by(Customer.sessionName)
        .order_by(people.desc())
        .limit(10)
    )
    return {name for name in session.scalars(names) if name}


def _address(text: str, denied: list[str]) -> str | None:
    """The address in its usual form; None for one that is none, or not wanted."""
    try:
        found = email_validator.validate_email(
            text.strip(), check_deliverability=False, allow_smtputf8=False, globally_deliverable=False
        )
    except email_validator.EmailNotValidError:
        return None
    address = str(found.ascii_email).lower()
    unwanted = (
        len(address) > 200
        or _ROBOT.fullmatch(address)
        or "mailstop" in address
        or address.rpartition("@")[2] in blocklist
        or any(entry.lower() in address for entry in denied)
    )
    return None if unwanted else address


def workshops(session: Session, *conditions: Any) -> list[Workshop]:
    """The workshops in the order in which they are shown."""
    return list(
        session.scalars(
            sqlalchemy.select(Workshop).where(*conditions).order_by(Workshop.priority, Workshop.id)
        )
    )
