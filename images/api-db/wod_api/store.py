"""The database: connections, its structure, and the rows that it must have."""

import time
from pathlib import Path

import psycopg
import sqlalchemy
from alembic import command
from alembic.config import Config
from sqlalchemy.orm import Session, sessionmaker

from wod_api.settings import DATABASE, Settings, secret
from wod_api.tables import Role, User
from wod_api.tokens import hashed, is_right

CHANNEL = "wod_api"
"""What the scheduler listens to."""


def engine(connections: int) -> sqlalchemy.Engine:
    """A pool of so many connections; one that the database has closed meanwhile is made anew."""
    return sqlalchemy.create_engine(
        DATABASE, pool_size=connections, max_overflow=0, pool_timeout=20, pool_pre_ping=True
    )


def sessions(pool: sqlalchemy.Engine) -> sessionmaker[Session]:
    """What makes sessions, whose rows stay readable after the commit."""
    return sessionmaker(pool, expire_on_commit=False)


def wake(session: Session) -> None:
    """Tell the scheduler, once this transaction is committed, that there is something for it."""
    session.execute(sqlalchemy.text(f"NOTIFY {CHANNEL}"))


def ensure_ready(settings: Settings) -> None:
    """Wait for the database; bring its structure and the site's own accounts to what they must be."""
    wait_for_database()
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    command.upgrade(config, "head")
    pool = engine(1)
    with sessions(pool).begin() as session:
        for name, role, file in (
            (settings.WODAPIDBUSER, "moderator", "moderator-password"),
            (settings.WODAPIDBADMIN, "admin", "admin-password"),
        ):
            _ensure_user(session, name, role, secret(file))
    pool.dispose()


def wait_for_database() -> None:
    """Return when it lets us in."""
    said = False
    while True:
        try:
            psycopg.connect(DATABASE.replace("+psycopg", "")).close()
            return
        except psycopg.OperationalError as error:
            if not said:
                print(f"waiting for the database: {str(error).strip().splitlines()[0]}", flush=True)
            said = True
            time.sleep(0.3)


def _ensure_user(session: Session, name: str, role: str, password: str) -> None:
    user = session.scalar(sqlalchemy.select(User).where(User.username == name).with_for_update())
    if user is None:
        user = User(username=name, password=hashed(password))
        session.add(user)
    elif not is_right(user.password, password):
        user.password = hashed(password)
    if role not in {one.name for one in user.roles}:
        user.roles.append(session.scalars(sqlalchemy.select(Role).where(Role.name == role)).one())
