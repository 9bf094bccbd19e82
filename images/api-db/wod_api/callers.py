"""Who calls, and what he may: tokens, roles, and how often."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any

import sqlalchemy
from fastapi import Depends, Request
from fastapi.security import APIKeyHeader
from sqlalchemy.orm import Session, sessionmaker

from wod_api.settings import Settings
from wod_api.tables import User
from wod_api.tokens import Failures, Rate, user_of

TOKEN = APIKeyHeader(name="x-access-token", auto_error=False, description="What POST /api/login gives.")


class Told(Exception):
    """An answer that ends the request: its status and its body, a text or JSON."""

    def __init__(self, status: int, body: Any) -> None:
        super().__init__(status)
        self.status = status
        self.body = body


@dataclass
class Means:
    """What all requests share."""

    settings: Settings
    sessions: sessionmaker[Session]
    key: str
    """The site's own, which signs tokens."""
    registrations: Rate
    failures: Failures


def means(request: Request) -> Means:
    """What all requests share."""
    return request.app.state.means


def session(its_means: Annotated[Means, Depends(means)]) -> Iterator[Session]:
    """A session for this request; what the request has not committed is undone."""
    with its_means.sessions() as opened:
        yield opened


Shared = Annotated[Means, Depends(means)]
Database = Annotated[Session, Depends(session)]


def caller(shared: Shared, database: Database, token: Annotated[str | None, Depends(TOKEN)]) -> User:
    """Whose token it is."""
    if not token:
        raise Told(403, {"message": "No token provided!"})
    number = user_of(token, shared.key)
    user = database.scalar(sqlalchemy.select(User).where(User.id == number)) if number is not None else None
    if user is None:
        raise Told(401, {"message": "Unauthorized!"})
    return user


Caller = Annotated[User, Depends(caller)]


def has(user: User, *roles: str) -> bool:
    """Whether the user has one of these roles."""
    return any(role.name in roles for role in user.roles)


def needs(*roles: str) -> Callable[[User], User]:
    """A dependency that lets only users with one of these roles pass."""
    named = " or ".join(role.capitalize() for role in roles)

    def check(user: Caller) -> User:
        if not has(user, *roles):
            raise Told(403, {"message": f"Require {named} Role!"})
        return user

    return check


Admin = Annotated[User, Depends(needs("admin"))]
Moderator = Annotated[User, Depends(needs("moderator", "admin"))]


def address(request: Request) -> str:
    """Where the request comes from."""
    return request.client.host if request.client else ""
