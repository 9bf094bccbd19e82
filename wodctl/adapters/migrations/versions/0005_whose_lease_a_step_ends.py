"""Whose lease a step ends, known from its beginning: what becomes of the seat meanwhile does not change it."""

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

SCHEMA = """
ALTER TABLE wod.step
    -- The customer whose seat it was when the step was first begun.
    ADD holder bigint,
    ADD completion integer CHECK (completion BETWEEN 0 AND 100);
"""


def upgrade() -> None:
    """Run the statements as they stand: SQLAlchemy would take their colons and percent signs for its own."""
    connection = op.get_bind().connection.driver_connection
    assert connection
    connection.execute(SCHEMA)
