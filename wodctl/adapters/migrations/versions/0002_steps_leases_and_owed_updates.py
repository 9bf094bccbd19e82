"""One step for each seat of an action, in order of arrival; leases that end by themselves; owed updates."""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

SCHEMA = """
ALTER TABLE wod.action
    -- When the order reached us: a mail may wait in Postfix's queue and be filed after a later one.
    ADD arrived timestamptz NOT NULL DEFAULT clock_timestamp(),
    ADD completion integer CHECK (completion BETWEEN 0 AND 100);
UPDATE wod.action SET arrived = created;

-- What an action does to one seat. A job of a seat carries out the step of that seat that arrived first.
CREATE TABLE wod.step (
    action    bigint NOT NULL REFERENCES wod.action,
    seat      integer NOT NULL,
    state     text NOT NULL DEFAULT 'queued'
              CHECK (state IN ('queued', 'running', 'done', 'failed', 'rejected')),
    reason    text,
    attempts  integer NOT NULL DEFAULT 0,
    -- False for a step that was carried out and found that the seat is none of its business.
    touched   boolean NOT NULL DEFAULT true,
    started   timestamptz,
    finished  timestamptz,
    PRIMARY KEY (action, seat)
);
CREATE INDEX step_unfinished ON wod.step (seat) WHERE state IN ('queued', 'running');
CREATE INDEX step_finished ON wod.step (seat, finished);

INSERT INTO wod.step (action, seat, state, reason, started, finished)
    SELECT id, seat, state, reason, started, finished FROM wod.action WHERE seat = last_seat;
-- Jobs of the former structure name an action; those of ranges were rejected by it anyway.
UPDATE public.procrastinate_jobs AS job
    SET args = jsonb_build_object('seat', action.seat)
    FROM wod.action
    WHERE job.task_name = 'wod.carry_out' AND action.id = (job.args ->> 'action_id')::bigint;
UPDATE wod.action SET state = 'rejected', reason = 'Ordered before this version, which carries out ranges.',
    finished = now() WHERE seat <> last_seat AND state IN ('queued', 'running');

-- Places of a workshop that may be given away: our own record for a site without a registration database.
CREATE TABLE wod.capacity (
    workshop text PRIMARY KEY,
    capacity integer NOT NULL CHECK (capacity >= 0),
    changed  timestamptz NOT NULL DEFAULT now()
);

-- What the registration database is still to be told, in this order. No password is ever in here: where one
-- is to be told, it is made when it is told.
CREATE TABLE wod.owed (
    id       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    action   bigint NOT NULL REFERENCES wod.action,
    seat     integer,
    position integer NOT NULL,
    kind     text NOT NULL CHECK (kind IN ('student', 'customer', 'workshop')),
    key      text NOT NULL,
    body     jsonb NOT NULL,
    attempts integer NOT NULL DEFAULT 0,
    problem  text,
    refused  boolean NOT NULL DEFAULT false,
    UNIQUE NULLS NOT DISTINCT (action, seat, position)
);
CREATE INDEX owed_waiting ON wod.owed (id) WHERE NOT refused;
"""

FUNCTIONS = """
DROP FUNCTION wod.queue_action(bigint, integer);

CREATE FUNCTION wod.queue_job(task text, lock text, args jsonb) RETURNS void
LANGUAGE sql SET search_path = public, pg_temp
AS $$
    SELECT procrastinate_defer_jobs_v1(ARRAY[ROW(
        'actions', task, 0, lock, NULL, args, NULL
    )::procrastinate_job_to_defer_v1]);
$$;

-- Puts a step into the worker's queue; one seat's steps are carried out one after the other.
CREATE FUNCTION wod.queue_step(action bigint, seat integer) RETURNS void
LANGUAGE plpgsql SET search_path = wod, pg_temp
AS $$
BEGIN
    INSERT INTO wod.step (action, seat) VALUES (queue_step.action, queue_step.seat);
    PERFORM wod.queue_job('wod.carry_out', 'seat-' || queue_step.seat,
                          jsonb_build_object('seat', queue_step.seat));
END;
$$;

-- An action on one seat is one step. What a range is made of, only the worker can tell: he knows the site.
CREATE FUNCTION wod.queue_action(id bigint, first integer, last integer) RETURNS void
LANGUAGE plpgsql SET search_path = wod, pg_temp
AS $$
BEGIN
    IF first = last THEN
        PERFORM wod.queue_step(id, first);
    ELSE
        PERFORM wod.queue_job('wod.fan_out', NULL, jsonb_build_object('action', id));
    END IF;
END;
$$;

-- The moment at which Postfix took a mail, which its long queue ids begin with: seconds and microseconds to
-- the base of 52, six and four digits. Now, where that makes no sense. See enable_long_queue_ids in postconf(5).
CREATE FUNCTION wod.arrival(queue_id text) RETURNS timestamptz
LANGUAGE plpgsql VOLATILE SET search_path = wod, pg_temp
AS $$
DECLARE
    digits constant text := '0123456789BCDFGHJKLMNPQRSTVWXYZbcdfghjklmnpqrstvwxyz';
    seconds bigint := 0;
    microseconds bigint := 0;
    found timestamptz;
BEGIN
    IF queue_id ~ '^[0-9B-DF-HJ-NP-TV-Zb-df-hj-np-tv-z]{10}z' THEN
        FOR place IN 1..6 LOOP
            seconds := seconds * 52 + strpos(digits, substr(queue_id, place, 1)) - 1;
        END LOOP;
        FOR place IN 7..10 LOOP
            microseconds := microseconds * 52 + strpos(digits, substr(queue_id, place, 1)) - 1;
        END LOOP;
        found := to_timestamp(seconds) + microseconds * interval '1 microsecond';
        IF found BETWEEN clock_timestamp() - interval '30 days' AND clock_timestamp() THEN
            RETURN found;
        END IF;
    END IF;
    RETURN clock_timestamp();
END;
$$;

CREATE OR REPLACE FUNCTION wod.submit_action(
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
    PERFORM wod.queue_action(made, first, last);
    RETURN made;
END;
$$;

CREATE OR REPLACE FUNCTION wod.accept_mail(
    queue_id text, sender text, client text, action text, first integer, last integer,
    customer bigint, workshop text, rejected text, raw bytea
) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = wod, public, pg_temp
AS $$
DECLARE
    made bigint;
BEGIN
    INSERT INTO wod.action (action, seat, last_seat, customer, workshop, source, state, reason, finished,
                            queue_id, sender, client, raw, arrived)
    VALUES (accept_mail.action, first, last, accept_mail.customer, accept_mail.workshop, 'mail',
            CASE WHEN rejected IS NULL THEN 'queued' ELSE 'rejected' END, rejected,
            CASE WHEN rejected IS NOT NULL THEN now() END,
            accept_mail.queue_id, accept_mail.sender, accept_mail.client,
            CASE WHEN rejected IS NOT NULL THEN substring(accept_mail.raw FROM 1 FOR 65536) END,
            wod.arrival(accept_mail.queue_id))
    ON CONFLICT ON CONSTRAINT action_queue_id_key DO NOTHING
    RETURNING id INTO made;
    IF made IS NULL THEN
        RETURN (SELECT id FROM wod.action AS former WHERE former.queue_id = accept_mail.queue_id);
    END IF;
    IF rejected IS NULL THEN
        PERFORM wod.queue_action(made, first, last);
    END IF;
    RETURN made;
END;
$$;

-- Queues the failed steps of an action again, as an order that arrives now; false if it has not failed.
CREATE OR REPLACE FUNCTION wod.retry_action(id bigint) RETURNS boolean
LANGUAGE plpgsql SET search_path = wod, public, pg_temp
AS $$
DECLARE
    again record;
    one integer;
BEGIN
    UPDATE wod.action AS failed
    SET state = 'queued', reason = NULL, phases = '[]', started = NULL, finished = NULL,
        arrived = clock_timestamp()
    WHERE failed.id = retry_action.id AND failed.state = 'failed'
    RETURNING failed.seat, failed.last_seat INTO again;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    FOR one IN
        UPDATE wod.step SET state = 'queued', reason = NULL, attempts = 0, started = NULL, finished = NULL
        WHERE step.action = retry_action.id AND step.state = 'failed' RETURNING step.seat
    LOOP
        PERFORM wod.queue_job('wod.carry_out', 'seat-' || one, jsonb_build_object('seat', one));
    END LOOP;
    IF NOT FOUND THEN
        PERFORM wod.queue_action(retry_action.id, again.seat, again.last_seat);
    END IF;
    RETURN true;
END;
$$;

-- Orders what no mail ordered in time, and returns the new actions: the end of leases that are over; the
-- same for seats that have been neither ready nor free for so long, unless they wait for their RESET; that
-- RESET, once so much time has passed. A seat that has such an order before it is left alone.
CREATE FUNCTION wod.end_leases(patience interval) RETURNS SETOF bigint
LANGUAGE plpgsql SET search_path = wod, public, pg_temp
AS $$
DECLARE
    due record;
BEGIN
    FOR due IN
        SELECT seat.number, seat.customer, seat.workshop, seat.state,
               seat.state = 'cleaning' AND unfinished.actions IS NULL AS waits_for_reset
        FROM wod.seat
        LEFT JOIN LATERAL (
            SELECT array_agg(action.action) AS actions
            FROM wod.step JOIN wod.action ON action.id = step.action
            WHERE step.seat = seat.number AND step.state IN ('queued', 'running')
        ) AS unfinished ON true
        WHERE seat.state <> 'free'
          AND (seat.changed < now() - patience OR seat.state = 'ready')
          AND (seat.lease_until < now() OR seat.state <> 'ready')
          AND NOT coalesce(unfinished.actions && ARRAY['CLEANUP', 'RESET', 'PURGE'], false)
          AND NOT EXISTS (
              SELECT FROM wod.action AS ours
              WHERE ours.seat = seat.number AND ours.source = 'lease' AND ours.created > now() - patience
                AND ours.created > seat.changed
          )
        FOR UPDATE OF seat
    LOOP
        RETURN NEXT wod.submit_action(
            CASE WHEN due.workshop IS NULL THEN 'PURGE' WHEN due.waits_for_reset THEN 'RESET' ELSE 'CLEANUP' END,
            due.number, due.number, coalesce(due.customer, 0), due.workshop, 'lease'
        );
    END LOOP;
END;
$$;
"""

RIGHTS = """
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA wod FROM PUBLIC;
"""


def upgrade() -> None:
    """Run the statements as they stand: SQLAlchemy would take their colons and percent signs for its own."""
    connection = op.get_bind().connection.driver_connection
    assert connection
    for statements in (SCHEMA, FUNCTIONS, RIGHTS):
        connection.execute(statements)
