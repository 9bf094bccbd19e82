"""Alembic's entry point: all missing steps in one transaction, one process at a time."""

import psycopg
import sqlalchemy
from alembic import context

LOCK = 0x776F_646D
"""Key of the advisory lock ("wodm"): two workers that start at once must not both create the tables."""

engine = sqlalchemy.create_engine(
    "postgresql+psycopg://",
    creator=lambda: psycopg.connect(context.config.attributes["connection"]),
    poolclass=sqlalchemy.NullPool,
)
with engine.connect() as connection:
    context.configure(connection=connection, version_table_schema="public")
    with context.begin_transaction():
        # Held until the transaction ends, however it ends; before Alembic asks which step the database is at.
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({LOCK})")
        context.run_migrations()
