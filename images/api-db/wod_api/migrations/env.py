"""Alembic's entry point: all missing steps in one transaction, one process at a time."""

import sqlalchemy
from alembic import context

from wod_api.settings import DATABASE

LOCK = 0x776F_6461
"""Key of the advisory lock ("woda"): two services that start at once must not both create the tables."""

engine = sqlalchemy.create_engine(DATABASE, poolclass=sqlalchemy.NullPool)
with engine.connect() as connection:
    context.configure(connection=connection)
    with context.begin_transaction():
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({LOCK})")
        context.run_migrations()
