"""The life of a registration: what has to happen next, decided and written down in one transaction.

NULL, welcome, credentials, expiring, expired are the states that existing portals know (`lastEmailSent`), beside
`error` (no seat in time) and `unregister` (to be ended at once).
"""

from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy
from sqlalchemy.orm import Session

from wod_api import outbox
from wod_api.settings import Settings
from wod_api.tables import Customer, Kept, Location, Mail, SpecialBadge, Student, Workshop

WHOLE_RANGE = ("WKSHP-OneView", "WKSHP-OneView-Advanced")
"""Workshops whose appliance is reset for all seats together, once they are all given out and over."""

BADGES = ((15, 5), (10, 4), (7, 3), (5, 2), (3, 1))
"""Workshops finished, and the number of the badge for them."""

PURGE_AFTER = timedelta(minutes=2)
"""How long a backend may take to give a seat back before it is told to PURGE it."""


def advance(session: Session, settings: Settings, customer: Customer) -> None:
    """Do what is due for him now, and set when he is due next. The row is locked by the caller's transaction."""
    now = datetime.now(UTC)
    state = customer.lastEmailSent
    if state is None:
        _welcome(session, settings, customer, now)
    elif state == "welcome" and customer.active and _has_password(session, customer):
        _send_credentials(session, settings, customer, now)
    elif state == "welcome" and now >= customer.startDate + settings.patience:
        _finish(session, settings, customer, now, "error")
    elif state == "unregister" or (
        state in ("credentials", "expiring") and (customer.cleaned or now >= customer.endDate)
    ):
        _finish(session, settings, customer, now, "expired")
    elif state == "credentials" and _warned(settings, customer) and now >= customer.endDate - settings.hour:
        _letter(session, settings, customer, "expiring", **_seat_facts(session, customer))
        customer.lastEmailSent = "expiring"
    elif state in ("expired", "error") and customer.purge_after and now >= customer.purge_after:
        _purge(session, settings, customer)
    customer.due = _next_due(settings, customer)


def release(session: Session, customer: Customer, settings: Settings) -> None:
    """Give back what he holds: the place in the workshop now, the seat now if the backend never heard of him, else
    by the backend, which is ordered to clean it."""
    workshop = _workshop(session, customer)
    whole = customer.notebook in WHOLE_RANGE
    if outbox.never_offered(session, f"customer-{customer.id}-create"):
        _free(session, customer)
        if workshop:
            workshop.capacity += 1
        return
    if workshop and not (whole and workshop.reset):
        workshop.capacity += 1
    if not _knows_seat(session, customer):
        return
    if not customer.cleaned:
        _order(session, settings, customer, "CLEANUP")
    if workshop and workshop.reset:
        _order_reset(session, settings, customer, workshop)
    if not (whole and workshop and workshop.reset):
        customer.purge_after = datetime.now(UTC) + PURGE_AFTER


def _welcome(session: Session, settings: Settings, customer: Customer, now: datetime) -> None:
    customer.startDate = now
    if not _knows_seat(session, customer):
        _finish(session, settings, customer, now, "error")
        return
    _letter(session, settings, customer, "welcome")
    customer.specialBadgeId = 0
    _order(session, settings, customer, "CREATE")
    customer.lastEmailSent = "welcome"


def _send_credentials(session: Session, settings: Settings, customer: Customer, now: datetime) -> None:
    student = session.get_one(Student, customer.studentId, with_for_update=True)
    workshop = _workshop(session, customer)
    customer.startDate = customer.began = now
    customer.endDate = now + settings.hour * (workshop.duration if workshop else customer.hours or 4)
    _letter(
        session, settings, customer, "credentials", sealed=student.sealed, **_seat_facts(session, customer)
    )
    student.sealed = None
    customer.lastEmailSent = "credentials"


def _finish(session: Session, settings: Settings, customer: Customer, now: datetime, state: str) -> None:
    customer.active = False
    customer.endDate = min(customer.endDate, now)
    release(session, customer, settings)
    if state == "error":
        _letter(session, settings, customer, "error")
    elif customer.began:
        _letter(session, settings, customer, "expired")
    customer.lastEmailSent = state
    session.flush()
    if state == "expired":
        _award(session, settings, customer)
    # What our own mailbox keeps of a password has no use any more.
    session.execute(
        sqlalchemy.delete(Kept).where(
            Kept.id.in_(sqlalchemy.select(Mail.id).where(Mail.event == f"customer-{customer.id}-credentials"))
        )
    )


def _purge(session: Session, settings: Settings, customer: Customer) -> None:
    """The backend has not given the seat back: it shall, whatever became of the CLEANUP."""
    customer.purge_after = None
    held = sqlalchemy.select(Student.id).where(Student.holder == customer.id, Student.assigned)
    if session.scalar(held):
        _order(session, settings, customer, "PURGE")


def _award(session: Session, settings: Settings, customer: Customer) -> None:
    """A badge for several workshops, with one mail for each badge that a person gets."""
    finished = session.scalar(
        sqlalchemy.select(sqlalchemy.func.count(sqlalchemy.distinct(Customer.sessionName))).where(
            Customer.address == customer.address,
            Customer.lastEmailSent == "expired",
            Customer.began.is_not(None),
        )
    )
    badge = next((number for least, number in BADGES if (finished or 0) >= least), 0)
    former = session.scalar(
        sqlalchemy.select(sqlalchemy.func.max(Customer.specialBadgeId)).where(
            Customer.address == customer.address
        )
    )
    customer.specialBadgeId = badge
    found = session.get(SpecialBadge, badge) if badge > (former or 0) else None
    if found:
        facts = {"badge": found.name, "badgeId": badge, "picture": found.badgeImg, "finished": finished}
        _letter(session, settings, customer, "badge", **facts)


def _order(session: Session, settings: Settings, customer: Customer, action: str) -> None:
    more = f" {customer.email}" if action == "CREATE" else ""
    seat = _local_seat(session, customer)
    outbox.order(
        session, settings, f"customer-{customer.id}-{action.lower()}", customer.id, str(customer.location),
        f"{action} {seat} {customer.id}{more}", str(customer.notebook),
    )  # fmt: skip


def _order_reset(session: Session, settings: Settings, customer: Customer, workshop: Workshop) -> None:
    if customer.notebook not in WHOLE_RANGE:
        _order(session, settings, customer, "RESET")
        return
    others = sqlalchemy.select(sqlalchemy.func.count()).where(
        Customer.workshop == workshop.id,
        Customer.id != customer.id,
        sqlalchemy.func.coalesce(Customer.lastEmailSent, "welcome").in_(
            ("welcome", "credentials", "expiring", "unregister")
        ),
    )
    if workshop.capacity == 0 and workshop.range and not session.scalar(others):
        first, last = workshop.range
        outbox.order(
            session, settings, f"customer-{customer.id}-reset", customer.id, str(customer.location),
            f"RESET {first},{last} {customer.id}", str(customer.notebook),
        )  # fmt: skip


def _letter(session: Session, settings: Settings, customer: Customer, template: str, **more: Any) -> None:
    workshop = _workshop(session, customer)
    sealed = more.pop("sealed", None)
    hours = workshop.duration if workshop else customer.hours or 4
    facts = {
        "name": customer.name,
        "title": customer.sessionName,
        "hours": "1 hour" if hours == 1 else f"{hours:g} hours",
        "sessionType": customer.sessionType or "Workshops-on-Demand",
        "replayLink": workshop.replayLink if workshop else None,
        "replayId": workshop.replayId if workshop else None,
        "badgeImg": workshop.badgeImg if workshop else None,
    }
    outbox.letter(
        session, settings, f"customer-{customer.id}-{template}", customer.id, str(customer.email), template,
        facts | more, sealed=sealed,
    )  # fmt: skip


def _seat_facts(session: Session, customer: Customer) -> dict[str, Any]:
    student = session.get_one(Student, customer.studentId)
    place = session.scalars(sqlalchemy.select(Location).where(Location.name == customer.location)).one()
    return {
        "userName": student.username,
        "seatUrl": student.url,
        "loginUrl": f"{place.proto or 'http'}://{place.name}:{place.port or 8000}/hub/login",
    }


def _knows_seat(session: Session, customer: Customer) -> bool:
    place = sqlalchemy.select(Location.basestdid).where(Location.name == customer.location)
    return customer.studentId is not None and session.scalar(place) is not None


def _local_seat(session: Session, customer: Customer) -> int:
    base = session.scalars(
        sqlalchemy.select(Location.basestdid).where(Location.name == customer.location)
    ).one()
    return int(customer.studentId or 0) - int(base or 0)


def _workshop(session: Session, customer: Customer) -> Workshop | None:
    """His workshop, locked: its capacity is about to change, or read."""
    return session.get(Workshop, customer.workshop, with_for_update=True) if customer.workshop else None


def _has_password(session: Session, customer: Customer) -> bool:
    sealed = sqlalchemy.select(Student.sealed).where(
        Student.id == customer.studentId, Student.holder == customer.id
    )
    return session.scalar(sealed) is not None


def _free(session: Session, customer: Customer) -> None:
    session.execute(
        sqlalchemy.update(Student)
        .where(Student.id == customer.studentId, Student.holder == customer.id)
        .values(assigned=False, holder=None, sealed=None)
    )


def _warned(settings: Settings, customer: Customer) -> bool:
    """Whether he is told when an hour is left: not where the session lasts no longer than that."""
    return customer.endDate - customer.startDate > settings.hour


def _next_due(settings: Settings, customer: Customer) -> datetime | None:
    if customer.lastEmailSent == "welcome":
        return customer.startDate + settings.patience
    if customer.lastEmailSent == "credentials":
        return customer.endDate - settings.hour if _warned(settings, customer) else customer.endDate
    if customer.lastEmailSent == "expiring":
        return customer.endDate
    return customer.purge_after
