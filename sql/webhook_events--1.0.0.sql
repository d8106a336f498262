/* sql/webhook_events--1.0.0.sql */

\echo Use "CREATE EXTENSION webhook_events" to load this file. \quit

-- Whoever owns the schema could have put anything into it, and still can.
DO $$
BEGIN
    IF NOT EXISTS (
        SELECT FROM pg_catalog.pg_namespace AS n
            JOIN pg_catalog.pg_roles AS r ON r.oid OPERATOR(pg_catalog.=) n.nspowner
        WHERE n.nspname OPERATOR(pg_catalog.=) 'webhook_events'
            AND (r.rolsuper OR r.rolname OPERATOR(pg_catalog.=) CURRENT_USER)
    ) THEN
        RAISE EXCEPTION 'schema "webhook_events" belongs to somebody else'
            USING ERRCODE = 'insufficient_privilege',
                HINT = 'Drop the schema, then create the extension again.';
    END IF;
END
$$;

--
-- Types and rules
--

CREATE TYPE webhook_events.event_type AS ENUM (
    'ACTOR.RUN.CREATED', 'ACTOR.RUN.SUCCEEDED', 'ACTOR.RUN.FAILED',
    'ACTOR.RUN.ABORTED', 'ACTOR.RUN.TIMED_OUT', 'ACTOR.RUN.RESURRECTED',
    'ACTOR.BUILD.CREATED', 'ACTOR.BUILD.SUCCEEDED', 'ACTOR.BUILD.FAILED',
    'ACTOR.BUILD.ABORTED', 'ACTOR.BUILD.TIMED_OUT', 'TEST'
);
COMMENT ON TYPE webhook_events.event_type IS
    'what happened to a run or a build; TEST is raised by a person';

CREATE TYPE webhook_events.dispatch_status AS ENUM ('ACTIVE', 'SUCCEEDED', 'FAILED');
COMMENT ON TYPE webhook_events.dispatch_status IS
    'where a dispatch stands: still to be called, delivered, or given up';

CREATE FUNCTION webhook_events.new_id() RETURNS text
    LANGUAGE c VOLATILE STRICT PARALLEL RESTRICTED
    AS 'MODULE_PATHNAME', 'webhook_events_new_id';
COMMENT ON FUNCTION webhook_events.new_id() IS
    'a new id: 17 letters and digits that sort by time of creation';
REVOKE ALL ON FUNCTION webhook_events.new_id() FROM PUBLIC;

CREATE FUNCTION webhook_events.id_time(id text) RETURNS timestamptz
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'webhook_events_id_time';
COMMENT ON FUNCTION webhook_events.id_time(text) IS
    'the time at which an id was made';
REVOKE ALL ON FUNCTION webhook_events.id_time(text) FROM PUBLIC;

CREATE FUNCTION webhook_events.render_template(template text, variables json[],
        interpolate boolean) RETURNS text
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'webhook_events_render_template';
COMMENT ON FUNCTION webhook_events.render_template(text, json[], boolean) IS
    'a template filled with userId, createdAt, eventType, eventData, resource and globals';
REVOKE ALL ON FUNCTION webhook_events.render_template(text, json[], boolean) FROM PUBLIC;

CREATE FUNCTION webhook_events.id_lower_bound(at timestamptz) RETURNS text
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'webhook_events_id_lower_bound';
COMMENT ON FUNCTION webhook_events.id_lower_bound(timestamptz) IS
    'no id that is made at this time or later sorts before this text';
REVOKE ALL ON FUNCTION webhook_events.id_lower_bound(timestamptz) FROM PUBLIC;

--
-- Webhooks
--

CREATE TABLE webhook_events.webhooks (
    id text COLLATE "C" NOT NULL DEFAULT webhook_events.new_id(),
    user_id text,
    is_enabled boolean NOT NULL DEFAULT true,
    is_ad_hoc boolean NOT NULL DEFAULT false,
    event_types webhook_events.event_type[] NOT NULL,
    actor_id text,
    actor_task_id text,
    actor_run_id text,
    request_url text NOT NULL,
    payload_template text,
    headers_template text,
    should_interpolate_strings boolean NOT NULL DEFAULT false,
    ignore_ssl_errors boolean NOT NULL DEFAULT false,
    do_not_retry boolean NOT NULL DEFAULT false,
    description text,
    idempotency_key text,
    disabled_reason text,
    created_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    modified_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    created_xid xid8 NOT NULL DEFAULT pg_catalog.pg_current_xact_id(),
    CONSTRAINT webhooks_pkey PRIMARY KEY (id)
);
COMMENT ON TABLE webhook_events.webhooks IS
    'who wants which events where, and how the request looks';
COMMENT ON COLUMN webhook_events.webhooks.created_xid IS
    'the transaction that defined it, whose own events it gets';
COMMENT ON COLUMN webhook_events.webhooks.modified_at IS
    'changes with every change of the row; the worker knows a version by it';
COMMENT ON COLUMN webhook_events.webhooks.disabled_reason IS
    'why it was disabled by other than a person';

-- One for each kind of condition, by what is most special in it.
CREATE INDEX webhooks_actor_run_id_idx ON webhook_events.webhooks (actor_run_id)
    WHERE actor_run_id IS NOT NULL;
CREATE INDEX webhooks_actor_task_id_idx ON webhook_events.webhooks (actor_task_id)
    WHERE actor_run_id IS NULL AND actor_task_id IS NOT NULL;
CREATE INDEX webhooks_actor_id_user_id_idx ON webhook_events.webhooks (actor_id, user_id)
    WHERE actor_run_id IS NULL AND actor_task_id IS NULL AND actor_id IS NOT NULL;
CREATE INDEX webhooks_user_id_idx ON webhook_events.webhooks (user_id)
    WHERE actor_run_id IS NULL AND actor_task_id IS NULL AND actor_id IS NULL;
CREATE UNIQUE INDEX webhooks_idempotency_key_idx
    ON webhook_events.webhooks (user_id, idempotency_key) NULLS NOT DISTINCT
    WHERE idempotency_key IS NOT NULL;
-- For the limit on webhooks per user.
CREATE INDEX webhooks_user_id_not_ad_hoc_idx ON webhook_events.webhooks (user_id)
    WHERE NOT is_ad_hoc;

--
-- Events, dispatches, calls: logs by day
--
-- An id holds its time, so each table is partitioned by the id alone.
--

CREATE TABLE webhook_events.outbox (
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
    CONSTRAINT outbox_pkey PRIMARY KEY (id)
) PARTITION BY RANGE (id);
COMMENT ON TABLE webhook_events.outbox IS
    'the log of events: rows are only added, whole days are dropped';
COMMENT ON COLUMN webhook_events.outbox.xid IS
    'the transaction that raised the event';
COMMENT ON COLUMN webhook_events.outbox.webhook_id IS
    'the only webhook that gets a TEST event';
CREATE INDEX outbox_xid_id_idx ON webhook_events.outbox (xid, id);
CREATE TABLE webhook_events.outbox_default PARTITION OF webhook_events.outbox DEFAULT;
COMMENT ON TABLE webhook_events.outbox_default IS
    'events of days that have no table of their own';

CREATE VIEW webhook_events.events AS
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
        xid, webhook_id
    FROM webhook_events.outbox;
COMMENT ON VIEW webhook_events.events IS
    'what happened to runs and builds, newest ids last';

CREATE TABLE webhook_events.dispatches (
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
    CONSTRAINT dispatches_pkey PRIMARY KEY (id)
) PARTITION BY RANGE (id);
COMMENT ON TABLE webhook_events.dispatches IS
    'one event for one webhook, until it is delivered or given up';
CREATE INDEX dispatches_due_idx ON webhook_events.dispatches (next_attempt_at, id)
    WHERE status = 'ACTIVE';
CREATE INDEX dispatches_webhook_due_idx
    ON webhook_events.dispatches (webhook_id, next_attempt_at, id)
    WHERE status = 'ACTIVE';
CREATE TABLE webhook_events.dispatches_default
    PARTITION OF webhook_events.dispatches DEFAULT;
COMMENT ON TABLE webhook_events.dispatches_default IS
    'dispatches of days that have no table of their own';

CREATE TABLE webhook_events.calls (
    dispatch_id text COLLATE "C" NOT NULL,
    attempt integer NOT NULL,
    started_at timestamptz NOT NULL,
    finished_at timestamptz NOT NULL,
    response_status integer,
    response_body text,
    error_message text,
    CONSTRAINT calls_pkey PRIMARY KEY (dispatch_id, attempt)
) PARTITION BY RANGE (dispatch_id);
COMMENT ON TABLE webhook_events.calls IS 'HTTP attempts of dispatches';
CREATE TABLE webhook_events.calls_default PARTITION OF webhook_events.calls DEFAULT;
COMMENT ON TABLE webhook_events.calls_default IS
    'calls of days that have no table of their own';

--
-- The worker's memory
--

CREATE TABLE webhook_events.cursors (
    number bigint NOT NULL,
    window_from pg_snapshot,
    window_to pg_snapshot NOT NULL,
    position_xid xid8,
    position_id text COLLATE "C",
    created_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    CONSTRAINT cursors_pkey PRIMARY KEY (number)
);
COMMENT ON TABLE webhook_events.cursors IS
    'how far the outbox was routed; the row with the highest number counts';
COMMENT ON COLUMN webhook_events.cursors.window_from IS
    'events visible in this snapshot are done; NULL: none is';
COMMENT ON COLUMN webhook_events.cursors.window_to IS
    'events visible in this snapshot and not in window_from are under way';
COMMENT ON COLUMN webhook_events.cursors.position_xid IS
    'up to which of those, in the order of xid and id, they are done; NULL: all are';

CREATE TABLE webhook_events.origins (
    database oid NOT NULL,
    outbox oid NOT NULL,
    created_at timestamptz NOT NULL DEFAULT pg_catalog.now(),
    CONSTRAINT origins_pkey PRIMARY KEY (database, outbox)
);
COMMENT ON TABLE webhook_events.origins IS
    'the databases that wrote the outbox; another than this one means a restored copy';
INSERT INTO webhook_events.origins (database, outbox)
    SELECT oid, 'webhook_events.outbox'::pg_catalog.regclass
    FROM pg_catalog.pg_database
    WHERE datname OPERATOR(pg_catalog.=) pg_catalog.current_database();

SELECT pg_catalog.pg_extension_config_dump(relation, '') FROM (VALUES
    ('webhook_events.webhooks'::pg_catalog.regclass),
    ('webhook_events.outbox'), ('webhook_events.outbox_default'),
    ('webhook_events.dispatches'), ('webhook_events.dispatches_default'),
    ('webhook_events.calls'), ('webhook_events.calls_default'),
    ('webhook_events.cursors'), ('webhook_events.origins')) AS t (relation);

--
-- Days
--

CREATE FUNCTION webhook_events.create_days(first date, last date) RETURNS integer
    LANGUAGE plpgsql VOLATILE STRICT
    SET search_path = pg_catalog, pg_temp
    SET client_min_messages = warning
AS $function$
DECLARE
    day date;
    parent text;
    child text;
    lower text;
    upper text;
    occupied boolean;
    created integer := 0;
BEGIN
    FOR day IN SELECT generate_series(first, last, '1 day')::date LOOP
        lower := webhook_events.id_lower_bound(day::timestamp AT TIME ZONE 'UTC');
        upper := webhook_events.id_lower_bound((day + 1)::timestamp AT TIME ZONE 'UTC');
        FOREACH parent IN ARRAY ARRAY['outbox', 'dispatches', 'calls'] LOOP
            child := parent || to_char(day, '_YYYYMMDD');
            CONTINUE WHEN to_regclass('webhook_events.' || child) IS NOT NULL;
            -- A day that has begun in the default table stays there.
            EXECUTE format(
                'SELECT EXISTS (SELECT FROM webhook_events.%I WHERE %I >= %L AND %2$I < %4$L)',
                parent || '_default',
                CASE parent WHEN 'calls' THEN 'dispatch_id' ELSE 'id' END,
                lower, upper) INTO occupied;
            CONTINUE WHEN occupied;
            EXECUTE format(
                'CREATE TABLE webhook_events.%I (LIKE webhook_events.%I INCLUDING DEFAULTS INCLUDING CONSTRAINTS)',
                child, parent);
            EXECUTE format(
                'ALTER TABLE webhook_events.%I ATTACH PARTITION webhook_events.%I FOR VALUES FROM (%L) TO (%L)',
                parent, child, lower, upper);
            created := created + 1;
        END LOOP;
    END LOOP;
    RETURN created;
END
$function$;
COMMENT ON FUNCTION webhook_events.create_days(date, date) IS
    'makes the tables of these days (UTC) and returns how many were missing';
REVOKE ALL ON FUNCTION webhook_events.create_days(date, date) FROM PUBLIC;

--
-- Sources
--

CREATE FUNCTION webhook_events.run_changed() RETURNS trigger
    LANGUAGE c AS 'MODULE_PATHNAME', 'webhook_events_run_changed';
COMMENT ON FUNCTION webhook_events.run_changed() IS
    'writes the events of a table of runs; put on it by attach()';
REVOKE ALL ON FUNCTION webhook_events.run_changed() FROM PUBLIC;

CREATE FUNCTION webhook_events.build_changed() RETURNS trigger
    LANGUAGE c AS 'MODULE_PATHNAME', 'webhook_events_build_changed';
COMMENT ON FUNCTION webhook_events.build_changed() IS
    'writes the events of a table of builds; put on it by attach()';
REVOKE ALL ON FUNCTION webhook_events.build_changed() FROM PUBLIC;

CREATE FUNCTION webhook_events.attach(relation regclass, kind text DEFAULT NULL,
        columns jsonb DEFAULT '{}', exclude text[] DEFAULT '{}',
        resource regprocedure DEFAULT NULL) RETURNS void
    LANGUAGE c VOLATILE
    AS 'MODULE_PATHNAME', 'webhook_events_attach';
COMMENT ON FUNCTION webhook_events.attach(regclass, text, jsonb, text[], regprocedure) IS
    'makes a table of runs or builds raise events; again: with another mapping';
REVOKE ALL ON FUNCTION webhook_events.attach(regclass, text, jsonb, text[], regprocedure)
    FROM PUBLIC;

CREATE FUNCTION webhook_events.detach(relation regclass) RETURNS void
    LANGUAGE c VOLATILE STRICT
    AS 'MODULE_PATHNAME', 'webhook_events_detach';
COMMENT ON FUNCTION webhook_events.detach(regclass) IS
    'makes a table raise no more events';
REVOKE ALL ON FUNCTION webhook_events.detach(regclass) FROM PUBLIC;

CREATE FUNCTION webhook_events.source_mapping(relation oid, arguments bytea) RETURNS jsonb
    LANGUAGE c STABLE STRICT
    AS 'MODULE_PATHNAME', 'webhook_events_source_mapping';
COMMENT ON FUNCTION webhook_events.source_mapping(oid, bytea) IS
    'which columns the arguments of a trigger stand for now';
REVOKE ALL ON FUNCTION webhook_events.source_mapping(oid, bytea) FROM PUBLIC;

CREATE VIEW webhook_events.sources AS
    SELECT t.tgrelid::pg_catalog.regclass AS relation,
        CASE p.proname WHEN 'run_changed' THEN 'run' ELSE 'build' END AS kind,
        m.mapping -> 'columns' AS columns,
        ARRAY(SELECT pg_catalog.jsonb_array_elements_text(m.mapping -> 'exclude')) AS exclude,
        m.mapping ->> 'resource' AS resource
    FROM pg_catalog.pg_trigger AS t
        JOIN pg_catalog.pg_proc AS p ON p.oid = t.tgfoid
        CROSS JOIN LATERAL webhook_events.source_mapping(t.tgrelid, t.tgargs) AS m (mapping)
    WHERE t.tgfoid IN ('webhook_events.run_changed()'::pg_catalog.regprocedure,
            'webhook_events.build_changed()'::pg_catalog.regprocedure)
        AND t.tgname = 'webhook_events_insert' AND t.tgparentid = 0;
COMMENT ON VIEW webhook_events.sources IS
    'the attached tables, and what their columns mean';

--
-- Defining webhooks
--

--
-- Status
--
