"""What the operators' console of the registration API may see of this host's seats and actions: no secret, no more."""

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

SCHEMA = """
CREATE FUNCTION wod.overview() RETURNS jsonb
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = wod, pg_temp
AS $$
    SELECT jsonb_build_object(
        'seats', (SELECT coalesce(jsonb_agg(to_jsonb(lent) ORDER BY lent.number), '[]') FROM (
            SELECT number, state, workshop, customer, lease_until, reason FROM seat WHERE state <> 'free'
        ) AS lent),
        'actions', (SELECT coalesce(jsonb_agg(to_jsonb(latest) ORDER BY latest.id DESC), '[]') FROM (
            SELECT id, action, seat, last_seat, customer, workshop, source, state, reason, created, finished
            FROM action ORDER BY id DESC LIMIT 20
        ) AS latest)
    );
$$;
REVOKE ALL ON FUNCTION wod.overview() FROM PUBLIC;
GRANT USAGE ON SCHEMA wod TO api;
GRANT EXECUTE ON FUNCTION wod.overview() TO api;
"""


def upgrade() -> None:
    """Run the statements as they stand: SQLAlchemy would take their colons and percent signs for its own."""
    connection = op.get_bind().connection.driver_connection
    assert connection
    connection.execute(SCHEMA)
