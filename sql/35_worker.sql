--
-- The worker's memory
--

CREATE TABLE webhook_events_internal.cursors (
    number bigint NOT NULL,
    window_from pg_snapshot,
    window_to pg_snapshot NOT NULL,
    position_xid xid8,
    position_id text COLLATE "C",
    created_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    CONSTRAINT cursors_pkey PRIMARY KEY (number)
);
COMMENT ON TABLE webhook_events_internal.cursors IS
    'how far the outbox was routed; the row with the highest number counts';
COMMENT ON COLUMN webhook_events_internal.cursors.window_from IS
    'events visible in this snapshot are done; NULL: none is';
COMMENT ON COLUMN webhook_events_internal.cursors.window_to IS
    'events visible in this snapshot and not in window_from are under way';
COMMENT ON COLUMN webhook_events_internal.cursors.position_xid IS
    'up to which of those, in the order of xid and id, they are done; NULL: all are';

CREATE TABLE webhook_events_internal.origins (
    database oid NOT NULL,
    outbox oid NOT NULL,
    created_at timestamptz NOT NULL DEFAULT pg_catalog.now(),
    system bigint,
    xid xid,
    CONSTRAINT origins_pkey PRIMARY KEY (database, outbox)
);
COMMENT ON TABLE webhook_events_internal.origins IS
    'the databases that wrote the outbox; another than this one means a restored copy';
COMMENT ON COLUMN webhook_events_internal.origins.system IS
    'the server''s identifier, since a copy on another one can have the same numbers; NULL: of version 1.0.0';
COMMENT ON COLUMN webhook_events_internal.origins.xid IS
    'that of the row''s xmin, which a dump or replication does not keep, while pg_upgrade does, which gives the server another identifier';

CREATE TABLE webhook_events_internal.pauses (
    reason text,
    paused_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    CONSTRAINT pauses_pkey PRIMARY KEY (paused_at)
);
COMMENT ON TABLE webhook_events_internal.pauses IS
    'while there is a row, nothing is delivered';

CREATE TABLE webhook_events_internal.ended_runs (
    id text COLLATE "C" NOT NULL DEFAULT webhook_events_internal.new_id(),
    run_id text NOT NULL,
    time timestamptz NOT NULL,
    user_id text,
    CONSTRAINT ended_runs_pkey PRIMARY KEY (id)
);
CREATE INDEX ended_runs_run_id_idx ON webhook_events_internal.ended_runs (run_id);
COMMENT ON TABLE webhook_events_internal.ended_runs IS
    'runs that have ended and whose ad-hoc webhooks could not retire then: dispatches wait for them, or somebody had locked them';
COMMENT ON COLUMN webhook_events_internal.ended_runs.time IS
    'of the event that says so';
COMMENT ON COLUMN webhook_events_internal.ended_runs.user_id IS
    'whose run it is: to another user''s webhook its end says nothing';

CREATE TABLE webhook_events_internal.runs_to_check (
    id text COLLATE "C" NOT NULL DEFAULT webhook_events_internal.new_id(),
    run_id text NOT NULL,
    CONSTRAINT runs_to_check_pkey PRIMARY KEY (id)
);
COMMENT ON TABLE webhook_events_internal.runs_to_check IS
    'runs whose ad-hoc webhooks may not know that they have ended or were resurrected: the worker looks at the attached table';

-- Not dumped: elsewhere other clocks go.
CREATE TABLE webhook_events_internal.clocks (
    name text NOT NULL,
    time timestamptz NOT NULL,
    CONSTRAINT clocks_pkey PRIMARY KEY (name)
);
COMMENT ON TABLE webhook_events_internal.clocks IS
    'work: the worker''s time, which is never set back; retention: the latest time that was believed';

-- A row as long as a page: if there is no room for it there is none for results.
CREATE TABLE webhook_events_internal.worker_starts (
    id text COLLATE "C" NOT NULL DEFAULT webhook_events_internal.new_id(),
    started_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    version text NOT NULL,
    filler text NOT NULL,
    CONSTRAINT worker_starts_pkey PRIMARY KEY (id)
);
ALTER TABLE webhook_events_internal.worker_starts ALTER COLUMN filler SET STORAGE PLAIN;
COMMENT ON TABLE webhook_events_internal.worker_starts IS
    'when workers sent their first request, the last ones: that they could write it down was the proof that results can be';
COMMENT ON COLUMN webhook_events_internal.worker_starts.filler IS
    'nothing but its length counts';

SELECT pg_catalog.pg_extension_config_dump('webhook_events_internal.webhooks', '');
SELECT pg_catalog.pg_extension_config_dump('webhook_events_internal.outbox_default', '');
SELECT pg_catalog.pg_extension_config_dump('webhook_events_internal.dispatches_default', '');
SELECT pg_catalog.pg_extension_config_dump('webhook_events_internal.calls_default', '');
SELECT pg_catalog.pg_extension_config_dump('webhook_events_internal.webhook_stats', '');
SELECT pg_catalog.pg_extension_config_dump('webhook_events_internal.webhook_stats_log', '');
SELECT pg_catalog.pg_extension_config_dump('webhook_events_internal.cursors', '');
SELECT pg_catalog.pg_extension_config_dump('webhook_events_internal.origins', '');
SELECT pg_catalog.pg_extension_config_dump('webhook_events_internal.pauses', '');
SELECT pg_catalog.pg_extension_config_dump('webhook_events_internal.ended_runs', '');
SELECT pg_catalog.pg_extension_config_dump('webhook_events_internal.runs_to_check', '');

