"""What the operator's `wodctl` asks of us: `python -m wod_api.operator VERB` with JSON in and JSON out.

Whoever may start programs in our container may do all of it. A refusal is {"problem": …}.
"""

import json
import sys
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import pydantic
import sqlalchemy
from sqlalchemy.orm import Session

from wod_api import catalogue, importing, registration, store
from wod_api import tables as t
from wod_api.fields import NewCustomer, NewUser, date, row
from wod_api.seals import unseal
from wod_api.settings import Settings
from wod_api.tokens import hashed


class Problem(Exception):
    """What was asked cannot be done; the text says why."""


def update_catalogue(session: Session, said: Any, _: Settings) -> Any:
    """Backends, seats and workshops as given; what has changed."""
    return asdict(catalogue.update(session, said["backends"], said["workshops"]))


def registrations(session: Session, said: Any, _: Settings) -> Any:
    """Registrations, newest first: the open ones, or all."""
    asked = sqlalchemy.select(t.Customer).order_by(t.Customer.id.desc()).limit(said.get("limit", 1000))
    if not said.get("all"):
        asked = asked.where(
            sqlalchemy.func.coalesce(t.Customer.lastEmailSent, "new").not_in(("expired", "error"))
        )
    return [_registration(session, one) for one in session.scalars(asked)]


def register(session: Session, said: Any, settings: Settings) -> Any:
    """Register a person, as POST /customer does."""
    wanted = NewCustomer.model_validate(said | {"termsAndConditions": True})
    named = sqlalchemy.select(t.Workshop.name).where(t.Workshop.notebook == wanted.title)
    wanted.title = session.scalar(named) or wanted.title
    answer = registration.register(session, wanted, settings)
    if answer.reason != "registered":
        told = {"not-wanted": "This address is none, or not wanted (WODDENYLIST).",
                "already-registered": "This person has a workshop already."}  # fmt: skip
        said_so = answer.body.get("error") if isinstance(answer.body, dict) else answer.body
        raise Problem(told.get(answer.reason) or str(said_so))
    return _registration(session, session.get_one(t.Customer, answer.body["id"]))


def cancel(session: Session, said: Any, _: Settings) -> Any:
    """End a registration at once."""
    found = session.get(t.Customer, said["id"], with_for_update=True)
    if found is None:
        raise Problem(f"There is no registration {said['id']}.")
    registration.unregister(session, found)
    session.commit()
    return _registration(session, found)


def add_user(session: Session, said: Any, _: Settings) -> Any:
    """Make a user with roles."""
    wanted = NewUser.model_validate(said)
    roles = list(session.scalars(sqlalchemy.select(t.Role).where(t.Role.name.in_(wanted.roles))))
    if len(roles) != len(set(wanted.roles)) or not roles:
        raise Problem("Roles are user, moderator and admin.")
    if session.scalar(sqlalchemy.select(t.User.id).where(t.User.username == wanted.username)):
        raise Problem(f"There is a user {wanted.username} already.")
    made = t.User(username=wanted.username, email=wanted.email, password=hashed(wanted.password), roles=roles)
    session.add(made)
    session.commit()
    return row(made)


def users(session: Session, _said: Any, _: Settings) -> Any:
    """All users with their roles."""
    return [row(one) for one in session.scalars(sqlalchemy.select(t.User).order_by(t.User.id))]


def mails(session: Session, said: Any, _: Settings) -> Any:
    """Mails of the outbox, newest first."""
    asked = sqlalchemy.select(t.Mail).order_by(t.Mail.id.desc()).limit(said.get("limit", 50))
    if said.get("customer"):
        asked = asked.where(t.Mail.customer == said["customer"])
    return [_mail(one) for one in session.scalars(asked)]


def mail(session: Session, said: Any, _: Settings) -> Any:
    """One mail; with its content where our own mailbox keeps it."""
    found = session.get(t.Mail, said["id"])
    if found is None:
        raise Problem(f"There is no mail {said['id']}.")
    kept = session.get(t.Kept, found.id)
    return _mail(found) | {"content": unseal(kept.sealed) if kept else None}


def import_rows(session: Session, said: Any, _: Settings) -> Any:
    """Rows of an original's database; how many were taken over, and what was odd."""
    try:
        return importing.take_over(session, said["tables"])
    except importing.Clash as clash:
        raise Problem(f"{clash} Nothing was taken over: import before anybody registers here.") from None


VERBS: dict[str, Callable[[Session, Any, Settings], Any]] = {
    "update-catalogue": update_catalogue,
    "registrations": registrations,
    "register": register,
    "cancel": cancel,
    "add-user": add_user,
    "users": users,
    "mails": mails,
    "mail": mail,
    "import": import_rows,
}


def _registration(session: Session, customer: t.Customer) -> dict[str, Any]:
    student = session.get(t.Student, customer.studentId) if customer.studentId else None
    return {
        "id": customer.id,
        "name": customer.name,
        "email": customer.email,
        "workshop": customer.sessionName,
        "state": customer.lastEmailSent or "new",
        "location": customer.location,
        "seat": student.username if student else None,
        "active": customer.active,
        "cleaned": customer.cleaned,
        "completion": customer.completionPercentage,
        "start": date(customer.startDate),
        "end": date(customer.endDate),
    }


def _mail(entry: t.Mail) -> dict[str, Any]:
    names = (
        "id",
        "kind",
        "event",
        "state",
        "recipient",
        "subject",
        "customer",
        "attempts",
        "problem",
        "message_id",
    )
    return {name: getattr(entry, name) for name in names} | {
        "created": date(entry.created),
        "finished": date(entry.finished),
    }


def main() -> None:
    """Do one thing, and print its answer."""
    settings = Settings.load()
    try:
        said = json.load(sys.stdin)
        with store.sessions(store.engine(1))() as session:
            answer = VERBS[sys.argv[1]](session, said, settings)
    except Problem as problem:
        answer = {"problem": str(problem)}
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        answer = {"problem": f"{'.'.join(map(str, first['loc']))}: {first['msg']}."}
    except sqlalchemy.exc.OperationalError as error:
        answer = {"problem": f"The database does not answer: {str(error.orig).splitlines()[0]}"}
    json.dump(answer, sys.stdout)


if __name__ == "__main__":
    main()
