"""Procrastinate's tables, and ours: seats, actions, and the few functions that other services may call."""

from alembic import op
from procrastinate.schema import SchemaManager

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

SCHEMA = """
CREATE SCHEMA wod;

CREATE TABLE wod.seat (
    number        integer PRIMARY KEY CHECK (number > 0),
    state         text NOT NULL DEFAULT 'free'
                  CHECK (state IN ('free', 'preparing', 'ready', 'cleaning', 'failed')),
    workshop      text,
    mode          text CHECK (mode IN ('WKSHP', 'CHLG')),
    customer      bigint,
    lease_until   timestamptz,
    password_hash text,
    reason        text,
    changed       timestamptz NOT NULL DEFAULT now(),
    -- A password opens a seat only while the seat is ready.
    CHECK (state = 'ready' OR password_hash IS NULL)
);

CREATE TABLE wod.action (
    id        bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    action    text CHECK (action IN ('CREATE', 'CLEANUP', 'RESET', 'PURGE')),
    seat      integer,
    last_seat integer,
    customer  bigint,
    workshop  text,
    source    text NOT NULL CHECK (source IN ('mail', 'cli', 'lease', 'watchdog', 'api')),
    state     text NOT NULL CHECK (state IN ('queued', 'running', 'done', 'failed', 'rejected')),
    reason    text,
    phases    jsonb NOT NULL DEFAULT '[]',
    created   timestamptz NOT NULL DEFAULT now(),
    started   timestamptz,
    finished  timestamptz,
    queue_id  text UNIQUE,
    sender    text,
    client    text,
    raw       bytea,
    -- Only what was rejected unread may lack what a worker has to know.
    CHECK (state = 'rejected' OR (action IS NOT NULL AND seat IS NOT NULL AND last_seat IS NOT NULL))
);
"""

FUNCTIONS = """
-- Puts an action into the worker's queue; one seat's actions are carried out one after the other.
CREATE FUNCTION wod.queue_action(id bigint, seat integer) RETURNS void
LANGUAGE sql SET search_path = public, pg_temp
AS $$
    SELECT procrastinate_defer_jobs_v1(ARRAY[ROW(
        'actions', 'wod.carry_out', 0, 'seat-' || seat, NULL, jsonb_build_object('action_id', id), NULL
    )::procrastinate_job_to_defer_v1]);
$$;

CREATE FUNCTION wod.submit_action(
    action text, first integer, last integer, customer bigint, workshop text, source text
) RETURNS bigint
LANGUAGE plpgsql SET search_path = wod, public, pg_temp
AS $$
DECLARE
    made bigint;
BEGIN
    INSERT INTO wod.action (action, seat, last_seat, customer, workshop, source, state)
    VALUES (submit_action.action, first, last, submit_action.customer, submit_action.workshop,
            submit_action.source, 'queued')
    RETURNING id INTO made;
    PERFORM wod.queue_action(made, first);
    RETURN made;
END;
$$;

-- Files a mail, once for each of Postfix's queue ids, as an action to carry out or, with its reason, as
-- rejected.
CREATE FUNCTION wod.accept_mail(
    queue_id text, sender text, client text, action text, first integer, last integer,
    customer bigint, workshop text, rejected text, raw bytea
) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = wod, public, pg_temp
AS $$
DECLARE
    made bigint;
BEGIN
    INSERT INTO wod.action (action, seat, last_seat, customer, workshop, source, state, reason, finished,
                            queue_id, sender, client, raw)
    VALUES (accept_mail.action, first, last, accept_mail.customer, accept_mail.workshop, 'mail',
            CASE WHEN rejected IS NULL THEN 'queued' ELSE 'rejected' END, rejected,
            CASE WHEN rejected IS NOT NULL THEN now() END,
            accept_mail.queue_id, accept_mail.sender, accept_mail.client,
            CASE WHEN rejected IS NOT NULL THEN substring(accept_mail.raw FROM 1 FOR 65536) END)
    ON CONFLICT ON CONSTRAINT action_queue_id_key DO NOTHING
    RETURNING id INTO made;
    IF made IS NULL THEN
        RETURN (SELECT id FROM wod.action AS former WHERE former.queue_id = accept_mail.queue_id);
    END IF;
    IF rejected IS NULL THEN
        PERFORM wod.queue_action(made, first);
    END IF;
    RETURN made;
END;
$$;

-- Queues an action again that has failed; false if it has not.
CREATE FUNCTION wod.retry_action(id bigint) RETURNS boolean
LANGUAGE plpgsql SET search_path = wod, public, pg_temp
AS $$
DECLARE
    its_seat integer;
BEGIN
    UPDATE wod.action AS failed
    SET state = 'queued', reason = NULL, phases = '[]', started = NULL, finished = NULL
    WHERE failed.id = retry_action.id AND failed.state = 'failed'
    RETURNING failed.seat INTO its_seat;
    IF its_seat IS NULL THEN
        RETURN false;
    END IF;
    PERFORM wod.queue_action(retry_action.id, its_seat);
    RETURN true;
END;
$$;

-- What the hub needs to check a login, and nothing else: no row unless the seat is ready.
CREATE FUNCTION wod.seat_login(name text) RETURNS TABLE (password_hash text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = wod, pg_temp
AS $$
    SELECT seat.password_hash FROM wod.seat
    WHERE 'student' || seat.number = name AND seat.state = 'ready' AND seat.password_hash IS NOT NULL;
$$;
"""

RIGHTS = """
-- Procrastinate's tables and functions are the worker's alone.
REVOKE ALL ON SCHEMA public FROM PUBLIC;
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA wod FROM PUBLIC;
GRANT USAGE ON SCHEMA wod TO mail, hub;
GRANT EXECUTE ON FUNCTION
    wod.accept_mail(text, text, text, text, integer, integer, bigint, text, text, bytea) TO mail;
GRANT EXECUTE ON FUNCTION wod.seat_login(text) TO hub;
"""


def upgrade() -> None:
    """Run the statements as they stand: SQLAlchemy would take their colons and percent signs for its own."""
    connection = op.get_bind().connection.driver_connection
    assert connection
    for statements in (SchemaManager.get_schema(), SCHEMA, FUNCTIONS, RIGHTS):
        connection.execute(statements)
