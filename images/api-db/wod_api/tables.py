"""The tables. Their names, and the columns that callers see, are those that existing portals and backends know.

Columns below a line of their own are ours alone and leave through no answer.
"""

from datetime import datetime
from typing import Any, ClassVar

from sqlalchemy import BigInteger, DateTime, ForeignKey, Identity, LargeBinary, func
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship
from sqlalchemy.types import Integer, Text

OPEN = ("welcome", "credentials", "expiring")
"""States (`lastEmailSent`) of a participant who holds or will hold a seat, beside NULL: not even welcomed yet."""


class Base(DeclarativeBase):
    """All tables: texts are of any length, times have a zone."""

    type_annotation_map: ClassVar = {
        str: Text,
        datetime: DateTime(timezone=True),
        list[str]: ARRAY(Text),
        list[int]: ARRAY(Integer),
        dict[str, Any]: JSONB,
        bytes: LargeBinary,
    }


class Dated:
    """A row that knows when it was made and last changed."""

    createdAt: Mapped[datetime] = mapped_column(server_default=func.now())
    updatedAt: Mapped[datetime] = mapped_column(server_default=func.now(), onupdate=func.now())


class Workshop(Dated, Base):
    """A workshop as portals show it; `capacity` is what is left, `range` the first and last seat on its backend."""

    __tablename__ = "workshops"
    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    name: Mapped[str]
    notebook: Mapped[str | None]
    description: Mapped[str | None]
    active: Mapped[bool] = mapped_column(default=False)
    capacity: Mapped[int] = mapped_column(default=0)
    priority: Mapped[int | None]
    range: Mapped[list[int] | None]
    reset: Mapped[bool] = mapped_column(default=False)
    ldap: Mapped[bool] = mapped_column(default=False)
    sessionId: Mapped[int | None]
    sessionType: Mapped[str | None]
    location: Mapped[str | None]
    avatar: Mapped[str | None]
    role: Mapped[str | None]
    presenter: Mapped[str | None]
    preRequisite: Mapped[str | None]
    replayLink: Mapped[str | None]
    compile: Mapped[str | None]
    varpass: Mapped[bool] = mapped_column(default=False)
    replayId: Mapped[int | None]
    workshopImg: Mapped[str | None]
    badgeImg: Mapped[str | None]
    monoappliance: Mapped[bool] = mapped_column(default=False)
    multiappliance: Mapped[bool] = mapped_column(default=False)
    beta: Mapped[bool] = mapped_column(default=False)
    category: Mapped[list[str] | None]
    alternateLocation: Mapped[list[str] | None]
    duration: Mapped[float] = mapped_column(default=4)
    # ---
    seeded: Mapped[bool] = mapped_column(default=False)
    """It came from a wod.yml, and goes when that is gone."""


class Location(Dated, Base):
    """A backend by the name that participants and mails use; its seat n is the student `basestdid` + n."""

    __tablename__ = "locations"
    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    basestdid: Mapped[int | None]
    proto: Mapped[str | None]
    port: Mapped[str | None]


class Student(Dated, Base):
    """A seat of a backend."""

    __tablename__ = "students"
    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    url: Mapped[str | None]
    username: Mapped[str | None]
    assigned: Mapped[bool] = mapped_column(default=False)
    location: Mapped[str | None]
    # ---
    holder: Mapped[int | None]
    """The customer whom it was given to."""
    sealed: Mapped[bytes | None]
    """Its password, encrypted, from the moment in which the backend tells it until the mail with it is written."""


class Customer(Dated, Base):
    """A participant in one workshop; `lastEmailSent` is the state of his registration."""

    __tablename__ = "customers"
    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    name: Mapped[str | None]
    email: Mapped[str | None]
    company: Mapped[str | None]
    sessionName: Mapped[str | None]
    sessionType: Mapped[str | None]
    location: Mapped[str | None]
    notebook: Mapped[str | None]
    active: Mapped[bool] = mapped_column(default=False)
    cleaned: Mapped[bool] = mapped_column(default=False)
    lastEmailSent: Mapped[str | None]
    hours: Mapped[int | None]
    startDate: Mapped[datetime] = mapped_column(server_default=func.now())
    endDate: Mapped[datetime]
    studentId: Mapped[int | None] = mapped_column(ForeignKey("students.id"))
    proxy: Mapped[str | None]
    specialBadgeId: Mapped[int | None]
    completionPercentage: Mapped[int] = mapped_column(default=0)
    # ---
    address: Mapped[str]
    """The e-mail address as it is compared: of one person, one."""
    workshop: Mapped[int | None] = mapped_column(ForeignKey("workshops.id", ondelete="SET NULL"))
    """By number: a workshop may be given another name."""
    began: Mapped[datetime | None]
    """When his credentials were sent."""
    due: Mapped[datetime | None]
    """When the scheduler has to look at him next."""
    purge_after: Mapped[datetime | None]
    """When his seat, if it still is his, has to be purged."""


class SpecialBadge(Dated, Base):
    """A badge for several workshops."""

    __tablename__ = "special_badges"
    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    name: Mapped[str | None]
    title: Mapped[str | None]
    description: Mapped[str | None]
    badgeImg: Mapped[str | None]


class Role(Dated, Base):
    """user, moderator, admin."""

    __tablename__ = "roles"
    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)


class UserRole(Dated, Base):
    """A user's role."""

    __tablename__ = "user_roles"
    roleId: Mapped[int] = mapped_column(ForeignKey("roles.id", ondelete="CASCADE"), primary_key=True)
    userId: Mapped[int] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), primary_key=True)


class User(Dated, Base):
    """Who may call what is not open to everybody."""

    __tablename__ = "users"
    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    username: Mapped[str] = mapped_column(unique=True)
    email: Mapped[str | None]
    # ---
    password: Mapped[str]
    """Its argon2 hash."""
    roles: Mapped[list[Role]] = relationship(secondary="user_roles", lazy="selectin", order_by=Role.id)


class Mail(Base):
    """A mail that has to be sent, written in the transaction that makes it due, once for each `event`."""

    __tablename__ = "outbox"
    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    event: Mapped[str] = mapped_column(unique=True)
    message_id: Mapped[str]
    customer: Mapped[int | None]
    kind: Mapped[str]
    """`order` for a backend, or `letter` for a person."""
    destination: Mapped[str]
    """The backend's name; of letters, empty."""
    recipient: Mapped[str]
    subject: Mapped[str]
    body: Mapped[str | None]
    """Of an order, its text; of a letter, the template's name."""
    facts: Mapped[dict[str, Any]] = mapped_column(default=dict)
    sealed: Mapped[bytes | None]
    """The password that belongs into it, encrypted; nothing once it is sent."""
    state: Mapped[str] = mapped_column(default="waiting")
    """waiting, sent, kept (in our own mailbox), failed, withdrawn."""
    attempts: Mapped[int] = mapped_column(default=0)
    problem: Mapped[str | None]
    created: Mapped[datetime] = mapped_column(server_default=func.now())
    due: Mapped[datetime] = mapped_column(server_default=func.now())
    finished: Mapped[datetime | None]


class Kept(Base):
    """A letter of a site that sends none: encrypted, as it would have been sent."""

    __tablename__ = "mailbox"
    id: Mapped[int] = mapped_column(BigInteger, ForeignKey("outbox.id", ondelete="CASCADE"), primary_key=True)
    sealed: Mapped[bytes]
