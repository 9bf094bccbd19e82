"""DELIVER: an order of the operator's alone, which no mail can give."""

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

SCHEMA = """
ALTER TABLE wod.action
    DROP CONSTRAINT action_action_check,
    ADD CONSTRAINT action_action_check CHECK (
        action IN ('CREATE', 'CLEANUP', 'RESET', 'PURGE') OR action = 'DELIVER' AND source <> 'mail'
    );
"""


def upgrade() -> None:
    """Run the statements as they stand: SQLAlchemy would take their colons and percent signs for its own."""
    connection = op.get_bind().connection.driver_connection
    assert connection
    connection.execute(SCHEMA)
