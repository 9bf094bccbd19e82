"""What participants are told in JupyterLab, and what the watchdogs found."""

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

SCHEMA = """
-- What the participant of a seat is told. It is about his lease, and goes with it.
CREATE TABLE wod.notice (
    id      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    seat    integer NOT NULL REFERENCES wod.seat ON DELETE CASCADE,
    source  text NOT NULL,
    text    text NOT NULL CHECK (length(text) BETWEEN 1 AND 1000),
    created timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX notice_seat ON wod.notice (seat);

-- The last round of each watchdog.
CREATE TABLE wod.watch (
    name    text PRIMARY KEY,
    ran     timestamptz NOT NULL,
    seconds real NOT NULL,
    found   jsonb NOT NULL,
    problem text
);

-- What a watchdog did by itself stands among the actions, though no order and no step belongs to it.
ALTER TABLE wod.action DROP CONSTRAINT action_action_check;
ALTER TABLE wod.action ADD CONSTRAINT action_action_check
    CHECK (action IN ('CREATE', 'CLEANUP', 'RESET', 'PURGE', 'REPORT', 'STOP'));
"""

FUNCTIONS = """
CREATE FUNCTION wod.forget_notices() RETURNS trigger
LANGUAGE plpgsql SET search_path = wod, pg_temp
AS $$
BEGIN
    DELETE FROM wod.notice WHERE seat = NEW.number;
    RETURN NULL;
END;
$$;
CREATE TRIGGER forget_notices AFTER UPDATE OF state ON wod.seat
    FOR EACH ROW WHEN (NEW.state <> 'ready') EXECUTE FUNCTION wod.forget_notices();

-- What the page of a participant asks the hub for: no row unless the seat is lent.
CREATE FUNCTION wod.seat_notices(name text) RETURNS TABLE (seconds_left double precision, notices jsonb)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = wod, pg_temp
AS $$
    SELECT extract(epoch FROM seat.lease_until - now())::double precision,
           coalesce((SELECT jsonb_agg(jsonb_build_object('id', latest.id, 'text', latest.text) ORDER BY latest.id)
                     FROM (SELECT notice.id, notice.text FROM wod.notice WHERE notice.seat = seat.number
                           ORDER BY notice.id DESC LIMIT 3) AS latest), '[]')
    FROM wod.seat
    WHERE 'student' || seat.number = name AND seat.state = 'ready';
$$;
"""

RIGHTS = """
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA wod FROM PUBLIC;
GRANT EXECUTE ON FUNCTION wod.seat_notices(text) TO hub;
"""


def upgrade() -> None:
    """Run the statements as they stand: SQLAlchemy would take their colons and percent signs for its own."""
    connection = op.get_bind().connection.driver_connection
    assert connection
    for statements in (SCHEMA, FUNCTIONS, RIGHTS):
        connection.execute(statements)
