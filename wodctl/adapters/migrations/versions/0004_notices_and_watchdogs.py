"""What participants are told in JupyterLab and take home, and what the watchdogs found."""

from alembic import op

revision = "0004"
down_revision = "0003"
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
CREATE INDEX action_seat ON wod.action (seat, id);

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
    CHECK (action IN ('CREATE', 'CLEANUP', 'RESET', 'PURGE', 'REPORT', 'STOP', 'EXPORT')
           OR action = 'DELIVER' AND source <> 'mail');
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

-- Orders the workshop of a seat that is lent as documents; no row for any other. One that is under way already serves.
CREATE FUNCTION wod.order_export(number integer, source text) RETURNS bigint
LANGUAGE plpgsql SET search_path = wod, pg_temp
AS $$
DECLARE
    lent wod.seat;
    made bigint;
BEGIN
    SELECT * INTO lent FROM wod.seat
    WHERE seat.number = order_export.number AND seat.state = 'ready' AND seat.workshop IS NOT NULL FOR UPDATE;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    SELECT id INTO made FROM wod.action
    WHERE action.action = 'EXPORT' AND action.seat = lent.number AND action.state IN ('queued', 'running')
    ORDER BY id LIMIT 1;
    IF made IS NULL THEN
        INSERT INTO wod.action (action, seat, last_seat, customer, workshop, source, state)
        VALUES ('EXPORT', lent.number, lent.number, coalesce(lent.customer, 0), lent.workshop,
                order_export.source, 'queued')
        RETURNING id INTO made;
        -- Two at a time: a class that leaves must not keep the worker from all else.
        PERFORM wod.queue_job('wod.export', 'export-' || lent.number % 2, jsonb_build_object('action', made));
    END IF;
    RETURN made;
END;
$$;

-- The same for a participant, whom the hub knows by name.
CREATE FUNCTION wod.order_take_home(name text) RETURNS bigint
LANGUAGE sql SECURITY DEFINER SET search_path = wod, pg_temp
AS $$
    SELECT wod.order_export(seat.number, 'api') FROM wod.seat WHERE 'student' || seat.number = name;
$$;

-- What the page of a participant asks the hub for: no row unless the seat is lent.
CREATE FUNCTION wod.seat_notices(name text)
RETURNS TABLE (seconds_left double precision, notices jsonb, take_home jsonb)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = wod, pg_temp
AS $$
    SELECT extract(epoch FROM seat.lease_until - now())::double precision,
           coalesce((SELECT jsonb_agg(jsonb_build_object('id', latest.id, 'text', latest.text) ORDER BY latest.id)
                     FROM (SELECT notice.id, notice.text FROM wod.notice WHERE notice.seat = seat.number
                           ORDER BY notice.id DESC LIMIT 3) AS latest), '[]'),
           (SELECT jsonb_build_object('id', export.id, 'state', export.state, 'reason', export.reason,
                                      'workshop', 'WKSHP-' || substr(export.workshop, strpos(export.workshop, '-') + 1))
            FROM wod.action AS export
            WHERE export.action = 'EXPORT' AND export.seat = seat.number AND export.id > coalesce(
                (SELECT max(made.id) FROM wod.action AS made
                 WHERE made.action = 'CREATE' AND made.seat = seat.number), 0)
            ORDER BY export.id DESC LIMIT 1)
    FROM wod.seat
    WHERE 'student' || seat.number = name AND seat.state = 'ready';
$$;
"""

RIGHTS = """
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA wod FROM PUBLIC;
GRANT EXECUTE ON FUNCTION wod.seat_notices(text), wod.order_take_home(text) TO hub;
"""


def upgrade() -> None:
    """Run the statements as they stand: SQLAlchemy would take their colons and percent signs for its own."""
    connection = op.get_bind().connection.driver_connection
    assert connection
    for statements in (SCHEMA, FUNCTIONS, RIGHTS):
        connection.execute(statements)
