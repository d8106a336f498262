--
-- Events, dispatches, calls: logs by day
--
-- An id holds its time, so each table is partitioned by the id alone.  The
-- partitions have indexes of their own and the parents have none: pg_dump
-- restores the partitions of a table that an extension made, but not the ties
-- of their indexes to those of such a table.
--

CREATE TABLE webhook_events_internal.outbox (
    id text COLLATE "C" NOT NULL,
    created_at timestamptz NOT NULL,
    xid xid8 NOT NULL,
    event_type webhook_events.event_type NOT NULL,
    user_id text,
    actor_id text,
    actor_task_id text,
    actor_run_id text,
    actor_build_id text,
    old_status text,
    new_status text,
    webhook_id text COLLATE "C",
    resource json,
    problem text,
    next_xid xid8
) PARTITION BY RANGE (id);
COMMENT ON TABLE webhook_events_internal.outbox IS
    'the log of events: rows are only added, whole days are dropped';
COMMENT ON COLUMN webhook_events_internal.outbox.xid IS
    'the transaction that raised the event';
COMMENT ON COLUMN webhook_events_internal.outbox.next_xid IS
    'above all transactions that had been committed when the event was raised; NULL: unknown';
COMMENT ON COLUMN webhook_events_internal.outbox.webhook_id IS
    'the only webhook that gets a TEST event';
COMMENT ON COLUMN webhook_events_internal.outbox.problem IS
    'why the resource could not be made, or not all of the event; NULL: nothing is wrong';
CREATE TABLE webhook_events_internal.outbox_default PARTITION OF webhook_events_internal.outbox (
    CONSTRAINT outbox_default_pkey PRIMARY KEY (id)
) DEFAULT;
CREATE INDEX outbox_default_xid_id_idx ON webhook_events_internal.outbox_default (xid, id);
-- Builds are few, and an event of a run pays nothing for this one.  No id is too long for it.
CREATE INDEX outbox_default_build_idx ON webhook_events_internal.outbox_default USING hash (actor_build_id)
    WHERE actor_build_id IS NOT NULL;
-- What else events are looked for by while their day is written: a Bloom filter for some pages
-- each, made by the maintenance process when these are full, so that an event pays next to nothing.
-- A range has as many pages as few events of one value are spread over; filters are for events
-- of 200 bytes of JSON or more, of which 24 fit on a page.
CREATE INDEX outbox_default_run_idx ON webhook_events_internal.outbox_default
    USING brin (actor_run_id text_bloom_ops (n_distinct_per_range = 320, false_positive_rate = 0.002))
    WITH (pages_per_range = 16) WHERE actor_run_id IS NOT NULL;
CREATE INDEX outbox_default_task_idx ON webhook_events_internal.outbox_default
    USING brin (actor_task_id text_bloom_ops (n_distinct_per_range = 200, false_positive_rate = 0.002))
    WITH (pages_per_range = 8) WHERE actor_task_id IS NOT NULL;
-- One index for both costs an event half of two, and the third tells which ids a range has, for
-- who wants the newest.
CREATE INDEX outbox_default_who_idx ON webhook_events_internal.outbox_default
    USING brin (actor_id text_bloom_ops (n_distinct_per_range = 28, false_positive_rate = 0.005),
        user_id text_bloom_ops (n_distinct_per_range = 28, false_positive_rate = 0.005))
    WITH (pages_per_range = 1);
CREATE INDEX outbox_default_ids_idx ON webhook_events_internal.outbox_default USING brin (id)
    WITH (pages_per_range = 64);
-- For audit(), which looks for the few that are not whole and for those of test_webhook().
CREATE INDEX outbox_default_problem_idx ON webhook_events_internal.outbox_default (id)
    WHERE problem IS NOT NULL;
CREATE INDEX outbox_default_test_idx ON webhook_events_internal.outbox_default (id)
    WHERE webhook_id IS NOT NULL;
COMMENT ON TABLE webhook_events_internal.outbox_default IS
    'events of days that have no table of their own';

CREATE VIEW webhook_events.events WITH (security_barrier = true) AS
    SELECT id, created_at, event_type, user_id, actor_id, actor_task_id,
        actor_run_id, actor_build_id, old_status, new_status, resource,
        CASE
            WHEN actor_build_id IS NOT NULL THEN pg_catalog.jsonb_build_object(
                'actorId', actor_id, 'actorBuildId', actor_build_id)
            WHEN actor_task_id IS NOT NULL THEN pg_catalog.jsonb_build_object(
                'actorId', actor_id, 'actorTaskId', actor_task_id,
                'actorRunId', actor_run_id)
            ELSE pg_catalog.jsonb_build_object(
                'actorId', actor_id, 'actorRunId', actor_run_id)
        END AS event_data,
        xid, webhook_id, problem
    FROM webhook_events_internal.outbox
    WHERE (SELECT webhook_events_internal.sees_all(false))
        OR user_id = (SELECT webhook_events_internal.own_user(false));
COMMENT ON VIEW webhook_events.events IS
    'what happened to runs and builds, newest ids last';
COMMENT ON COLUMN webhook_events.events.problem IS
    'why the resource could not be made, or not all of the event; NULL: nothing is wrong';

CREATE TABLE webhook_events_internal.dispatches (
    id text COLLATE "C" NOT NULL,
    event_id text COLLATE "C" NOT NULL,
    webhook_id text COLLATE "C" NOT NULL,
    user_id text,
    event_type webhook_events.event_type NOT NULL,
    status webhook_events.dispatch_status NOT NULL,
    created_at timestamptz NOT NULL,
    finished_at timestamptz,
    attempts integer NOT NULL,
    next_attempt_at timestamptz,
    error_message text,
    replay_of text COLLATE "C",
    order_key text COLLATE "C",
    holds_until timestamptz,
    epoch integer,
    last_status integer,
    last_duration interval
) PARTITION BY RANGE (id);
COMMENT ON TABLE webhook_events_internal.dispatches IS
    'one event for one webhook, until it is delivered or given up';
COMMENT ON COLUMN webhook_events_internal.dispatches.next_attempt_at IS
    'of one that is ACTIVE; NULL: when its host has nothing else to get; infinity: when its turn comes';
COMMENT ON COLUMN webhook_events_internal.dispatches.replay_of IS
    'of one that repeats another: the dispatch_id() of its event and webhook';
COMMENT ON COLUMN webhook_events_internal.dispatches.order_key IS
    'those of a webhook with the same key go out one after the other; NULL: this one waits for none and holds none back';
COMMENT ON COLUMN webhook_events_internal.dispatches.epoch IS
    'its webhook''s epoch when it was made; NULL for 0';
COMMENT ON COLUMN webhook_events_internal.dispatches.holds_until IS
    'of one whose call has failed: until when those behind it wait; with no order_key: they have passed it then';
COMMENT ON COLUMN webhook_events_internal.dispatches.last_status IS
    'of one that has ended: the HTTP status of its last call, 0: no answer; NULL: calls tell, or it had none';
COMMENT ON COLUMN webhook_events_internal.dispatches.last_duration IS
    'how long that call took; NULL where last_status is';
CREATE TABLE webhook_events_internal.dispatches_default PARTITION OF webhook_events_internal.dispatches (
    CONSTRAINT dispatches_default_pkey PRIMARY KEY (id)
) DEFAULT;
CREATE INDEX dispatches_default_due_idx
    ON webhook_events_internal.dispatches_default (next_attempt_at, id)
    WHERE status = 'ACTIVE' AND next_attempt_at IS NOT NULL;
CREATE INDEX dispatches_default_webhook_due_idx
    ON webhook_events_internal.dispatches_default (webhook_id, next_attempt_at, id)
    WHERE status = 'ACTIVE';
CREATE INDEX dispatches_default_replay_of_idx
    ON webhook_events_internal.dispatches_default (replay_of) WHERE replay_of IS NOT NULL;
-- What goes out in order: whose turn is next, and who has held others back for too long.
CREATE INDEX dispatches_default_order_idx
    ON webhook_events_internal.dispatches_default (order_key, webhook_id, event_id, id)
    WHERE order_key IS NOT NULL AND status = 'ACTIVE';
CREATE INDEX dispatches_default_holds_idx
    ON webhook_events_internal.dispatches_default (holds_until, id)
    WHERE holds_until IS NOT NULL AND order_key IS NOT NULL AND status = 'ACTIVE';
-- For who looks for the dispatches of an event, for the newest or for those that failed, from the first
-- day on: dispatches come nearly in the order of their events.
CREATE INDEX dispatches_default_ids_idx ON webhook_events_internal.dispatches_default
    USING brin (event_id, id) WITH (pages_per_range = 32);
CREATE INDEX dispatches_default_webhook_idx ON webhook_events_internal.dispatches_default
    USING brin (webhook_id text_bloom_ops (n_distinct_per_range = 64, false_positive_rate = 0.005))
    WITH (pages_per_range = 1);
CREATE INDEX dispatches_default_user_idx ON webhook_events_internal.dispatches_default
    USING brin (user_id text_bloom_ops (n_distinct_per_range = 64, false_positive_rate = 0.005))
    WITH (pages_per_range = 1) WHERE user_id IS NOT NULL;
CREATE INDEX dispatches_default_failed_idx ON webhook_events_internal.dispatches_default (id)
    WHERE status = 'FAILED';
COMMENT ON TABLE webhook_events_internal.dispatches_default IS
    'dispatches of days that have no table of their own';

CREATE TABLE webhook_events_internal.calls (
    dispatch_id text COLLATE "C" NOT NULL,
    attempt integer NOT NULL,
    started_at timestamptz NOT NULL,
    finished_at timestamptz NOT NULL,
    response_status integer,
    response_body text,
    error_message text,
    url text,
    duration interval,
    address text
) PARTITION BY RANGE (dispatch_id);
COMMENT ON TABLE webhook_events_internal.calls IS 'HTTP attempts of dispatches';
COMMENT ON COLUMN webhook_events_internal.calls.error_message IS
    'why it failed; or, of one that was answered with 2XX, what was odd with the answer';
COMMENT ON COLUMN webhook_events_internal.calls.url IS 'where it was sent to';
COMMENT ON COLUMN webhook_events_internal.calls.duration IS
    'from its start to its end, by a clock that nobody sets';
COMMENT ON COLUMN webhook_events_internal.calls.address IS
    'the address that it was sent to, or last tried; NULL: none was found';
CREATE TABLE webhook_events_internal.calls_default PARTITION OF webhook_events_internal.calls (
    CONSTRAINT calls_default_pkey PRIMARY KEY (dispatch_id, attempt)
) DEFAULT;
COMMENT ON TABLE webhook_events_internal.calls_default IS
    'calls of days that have no table of their own';

-- A busy webhook's counts must neither be counted anew nor be a row that is
-- updated with every delivery: they are logged along with the results, and
-- added up now and then.
CREATE TABLE webhook_events_internal.webhook_stats (
    webhook_id text COLLATE "C" NOT NULL,
    total_dispatches bigint NOT NULL,
    last_dispatch_id text COLLATE "C" NOT NULL,
    last_status webhook_events.dispatch_status NOT NULL,
    last_finished_at timestamptz,
    failing_since timestamptz,
    CONSTRAINT webhook_stats_pkey PRIMARY KEY (webhook_id)
);
CREATE INDEX webhook_stats_failing_since_idx ON webhook_events_internal.webhook_stats (failing_since)
    WHERE failing_since IS NOT NULL;
COMMENT ON COLUMN webhook_events_internal.webhook_stats.failing_since IS
    'since when no call has succeeded; NULL: the last ones have';
COMMENT ON TABLE webhook_events_internal.webhook_stats IS
    'how many dispatches webhooks had, and the newest one; see webhook_stats_log';

CREATE TABLE webhook_events_internal.webhook_stats_log (
    id text COLLATE "C" NOT NULL DEFAULT webhook_events_internal.new_id(),
    webhook_ids text[] NOT NULL,
    dispatches integer[] NOT NULL,
    last_dispatch_ids text[] NOT NULL,
    last_statuses webhook_events.dispatch_status[] NOT NULL,
    last_finished_at timestamptz[] NOT NULL,
    CONSTRAINT webhook_stats_log_pkey PRIMARY KEY (id)
);
COMMENT ON TABLE webhook_events_internal.webhook_stats_log IS
    'what is still to be added to webhook_stats';

