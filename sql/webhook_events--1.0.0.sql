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

CREATE FUNCTION webhook_events.new_secret() RETURNS text
    LANGUAGE c VOLATILE PARALLEL RESTRICTED
    AS 'MODULE_PATHNAME', 'webhook_events_new_secret';
COMMENT ON FUNCTION webhook_events.new_secret() IS
    'a new signing secret: "whsec_" and base64 of 24 random bytes';
REVOKE ALL ON FUNCTION webhook_events.new_secret() FROM PUBLIC;

CREATE FUNCTION webhook_events.verify_signature(secrets text[], headers jsonb, body text,
        tolerance interval DEFAULT '5 minutes') RETURNS boolean
    LANGUAGE c VOLATILE STRICT PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'webhook_events_verify_signature';
COMMENT ON FUNCTION webhook_events.verify_signature(text[], jsonb, text, interval) IS
    'was a request signed with one of these secrets, and not too long ago?';
REVOKE ALL ON FUNCTION webhook_events.verify_signature(text[], jsonb, text, interval)
    FROM PUBLIC;

CREATE FUNCTION webhook_events.may_see(user_id text) RETURNS boolean
    LANGUAGE sql STABLE PARALLEL SAFE
BEGIN ATOMIC
    SELECT coalesce(pg_catalog.current_setting('webhook_events.user_id', true), '') = ''
        OR coalesce(user_id
            = pg_catalog.current_setting('webhook_events.user_id', true), false);
END;
COMMENT ON FUNCTION webhook_events.may_see(text) IS
    'may this session see what belongs to this user?  By the setting user_id';
REVOKE ALL ON FUNCTION webhook_events.may_see(text) FROM PUBLIC;

CREATE FUNCTION webhook_events.dispatch_id(event_id text, webhook_id text) RETURNS text
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'webhook_events_dispatch_id';
COMMENT ON FUNCTION webhook_events.dispatch_id(text, text) IS
    'the id of the dispatch of an event to a webhook, as routing makes it';
REVOKE ALL ON FUNCTION webhook_events.dispatch_id(text, text) FROM PUBLIC;

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
    max_rate double precision,
    secret text DEFAULT webhook_events.new_secret(),
    old_secrets text[],
    old_secrets_until timestamptz[],
    disabled_reason text,
    is_retired boolean NOT NULL DEFAULT false,
    run_ended boolean NOT NULL DEFAULT false,
    run_changed_at timestamptz,
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
COMMENT ON COLUMN webhook_events.webhooks.max_rate IS
    'calls for each second, further ones wait; NULL: no limit';
COMMENT ON COLUMN webhook_events.webhooks.secret IS
    'signs its requests; NULL: they are not signed';
COMMENT ON COLUMN webhook_events.webhooks.old_secrets IS
    'sign its requests as well, each until its time in old_secrets_until';
COMMENT ON COLUMN webhook_events.webhooks.disabled_reason IS
    'why it was disabled by other than a person';
COMMENT ON COLUMN webhook_events.webhooks.is_retired IS
    'was disabled because its run has ended; a resurrected run enables it again';
COMMENT ON COLUMN webhook_events.webhooks.run_ended IS
    'an ad-hoc webhook''s run has ended; it retires when nothing waits for it';
COMMENT ON COLUMN webhook_events.webhooks.run_changed_at IS
    'when that run ended or was resurrected last';

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
-- For the end of ad-hoc webhooks.
CREATE INDEX webhooks_retired_idx ON webhook_events.webhooks (modified_at)
    WHERE is_ad_hoc AND NOT is_enabled;

--
-- Events, dispatches, calls: logs by day
--
-- An id holds its time, so each table is partitioned by the id alone.  The
-- partitions have indexes of their own and the parents have none: pg_dump
-- restores the partitions of a table that an extension made, but not the ties
-- of their indexes to those of such a table.
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
    resource json
) PARTITION BY RANGE (id);
COMMENT ON TABLE webhook_events.outbox IS
    'the log of events: rows are only added, whole days are dropped';
COMMENT ON COLUMN webhook_events.outbox.xid IS
    'the transaction that raised the event';
COMMENT ON COLUMN webhook_events.outbox.webhook_id IS
    'the only webhook that gets a TEST event';
CREATE TABLE webhook_events.outbox_default PARTITION OF webhook_events.outbox (
    CONSTRAINT outbox_default_pkey PRIMARY KEY (id)
) DEFAULT;
CREATE INDEX outbox_default_xid_id_idx ON webhook_events.outbox_default (xid, id);
COMMENT ON TABLE webhook_events.outbox_default IS
    'events of days that have no table of their own';

CREATE VIEW webhook_events.events WITH (security_invoker = true) AS
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
    replay_of text COLLATE "C"
) PARTITION BY RANGE (id);
COMMENT ON TABLE webhook_events.dispatches IS
    'one event for one webhook, until it is delivered or given up';
COMMENT ON COLUMN webhook_events.dispatches.next_attempt_at IS
    'of one that is ACTIVE; NULL: when its host has nothing else to get';
COMMENT ON COLUMN webhook_events.dispatches.replay_of IS
    'of one that repeats another: the dispatch_id() of its event and webhook';
CREATE TABLE webhook_events.dispatches_default PARTITION OF webhook_events.dispatches (
    CONSTRAINT dispatches_default_pkey PRIMARY KEY (id)
) DEFAULT;
CREATE INDEX dispatches_default_due_idx
    ON webhook_events.dispatches_default (next_attempt_at, id)
    WHERE status = 'ACTIVE' AND next_attempt_at IS NOT NULL;
CREATE INDEX dispatches_default_webhook_due_idx
    ON webhook_events.dispatches_default (webhook_id, next_attempt_at, id)
    WHERE status = 'ACTIVE';
CREATE INDEX dispatches_default_replay_of_idx
    ON webhook_events.dispatches_default (replay_of) WHERE replay_of IS NOT NULL;
COMMENT ON TABLE webhook_events.dispatches_default IS
    'dispatches of days that have no table of their own';

CREATE TABLE webhook_events.calls (
    dispatch_id text COLLATE "C" NOT NULL,
    attempt integer NOT NULL,
    started_at timestamptz NOT NULL,
    finished_at timestamptz NOT NULL,
    response_status integer,
    response_body text,
    error_message text
) PARTITION BY RANGE (dispatch_id);
COMMENT ON TABLE webhook_events.calls IS 'HTTP attempts of dispatches';
CREATE TABLE webhook_events.calls_default PARTITION OF webhook_events.calls (
    CONSTRAINT calls_default_pkey PRIMARY KEY (dispatch_id, attempt)
) DEFAULT;
COMMENT ON TABLE webhook_events.calls_default IS
    'calls of days that have no table of their own';

-- A busy webhook's counts must neither be counted anew nor be a row that is
-- updated with every delivery: they are logged along with the results, and
-- added up now and then.
CREATE TABLE webhook_events.webhook_stats (
    webhook_id text COLLATE "C" NOT NULL,
    total_dispatches bigint NOT NULL,
    last_dispatch_id text COLLATE "C" NOT NULL,
    last_status webhook_events.dispatch_status NOT NULL,
    last_finished_at timestamptz,
    failing_since timestamptz,
    CONSTRAINT webhook_stats_pkey PRIMARY KEY (webhook_id)
);
CREATE INDEX webhook_stats_failing_since_idx ON webhook_events.webhook_stats (failing_since)
    WHERE failing_since IS NOT NULL;
COMMENT ON COLUMN webhook_events.webhook_stats.failing_since IS
    'since when no call has succeeded; NULL: the last ones have';
COMMENT ON TABLE webhook_events.webhook_stats IS
    'how many dispatches webhooks had, and the newest one; see webhook_stats_log';

CREATE TABLE webhook_events.webhook_stats_log (
    id text COLLATE "C" NOT NULL DEFAULT webhook_events.new_id(),
    webhook_ids text[] NOT NULL,
    dispatches integer[] NOT NULL,
    last_dispatch_ids text[] NOT NULL,
    last_statuses webhook_events.dispatch_status[] NOT NULL,
    last_finished_at timestamptz[] NOT NULL,
    CONSTRAINT webhook_stats_log_pkey PRIMARY KEY (id)
);
COMMENT ON TABLE webhook_events.webhook_stats_log IS
    'what is still to be added to webhook_stats';

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

CREATE TABLE webhook_events.pauses (
    reason text,
    paused_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp()
);
COMMENT ON TABLE webhook_events.pauses IS
    'while there is a row, nothing is delivered';

SELECT pg_catalog.pg_extension_config_dump('webhook_events.webhooks', '');
SELECT pg_catalog.pg_extension_config_dump('webhook_events.outbox_default', '');
SELECT pg_catalog.pg_extension_config_dump('webhook_events.dispatches_default', '');
SELECT pg_catalog.pg_extension_config_dump('webhook_events.calls_default', '');
SELECT pg_catalog.pg_extension_config_dump('webhook_events.webhook_stats', '');
SELECT pg_catalog.pg_extension_config_dump('webhook_events.webhook_stats_log', '');
SELECT pg_catalog.pg_extension_config_dump('webhook_events.cursors', '');
SELECT pg_catalog.pg_extension_config_dump('webhook_events.origins', '');
SELECT pg_catalog.pg_extension_config_dump('webhook_events.pauses', '');

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
                'CREATE TABLE webhook_events.%I (LIKE webhook_events.%I INCLUDING INDEXES)',
                child, parent || '_default');
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

CREATE FUNCTION webhook_events.wake_worker() RETURNS void
    LANGUAGE c VOLATILE
    AS 'MODULE_PATHNAME', 'webhook_events_wake_worker';
COMMENT ON FUNCTION webhook_events.wake_worker() IS
    'makes the worker look, at commit, at everything that waits';
REVOKE ALL ON FUNCTION webhook_events.wake_worker() FROM PUBLIC;

-- Not when the extension is created: a dump is then about to be restored, maybe.
CREATE FUNCTION webhook_events.claim_outbox() RETURNS void
    LANGUAGE sql VOLATILE
    SET search_path = pg_catalog, pg_temp
AS $function$
    INSERT INTO webhook_events.origins (database, outbox)
        SELECT oid, 'webhook_events.outbox'::regclass
        FROM pg_database
        WHERE datname = current_database()
            AND NOT EXISTS (SELECT FROM webhook_events.origins)
        ON CONFLICT DO NOTHING;
    SELECT webhook_events.wake_worker();
$function$;
COMMENT ON FUNCTION webhook_events.claim_outbox() IS
    'notes that this database writes the outbox, unless another one has';
REVOKE ALL ON FUNCTION webhook_events.claim_outbox() FROM PUBLIC;

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

CREATE FUNCTION webhook_events.check_webhook() RETURNS trigger
    LANGUAGE c AS 'MODULE_PATHNAME', 'webhook_events_check_webhook';
COMMENT ON FUNCTION webhook_events.check_webhook() IS
    'refuses a webhook that could not be delivered to';
REVOKE ALL ON FUNCTION webhook_events.check_webhook() FROM PUBLIC;
CREATE TRIGGER check_on_insert BEFORE INSERT ON webhook_events.webhooks
    FOR EACH ROW EXECUTE FUNCTION webhook_events.check_webhook();
CREATE TRIGGER check_on_update BEFORE UPDATE ON webhook_events.webhooks
    FOR EACH ROW WHEN (OLD.* IS DISTINCT FROM NEW.*)
    EXECUTE FUNCTION webhook_events.check_webhook();

CREATE FUNCTION webhook_events.webhook_ended() RETURNS trigger
    LANGUAGE c SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'webhook_events_webhook_ended';
COMMENT ON FUNCTION webhook_events.webhook_ended() IS
    'has the worker give up what waits for a webhook that is gone or disabled';
REVOKE ALL ON FUNCTION webhook_events.webhook_ended() FROM PUBLIC;
CREATE TRIGGER ended_by_update AFTER UPDATE ON webhook_events.webhooks
    FOR EACH ROW WHEN (OLD.is_enabled AND NOT NEW.is_enabled)
    EXECUTE FUNCTION webhook_events.webhook_ended();
CREATE TRIGGER ended_by_delete AFTER DELETE ON webhook_events.webhooks
    FOR EACH ROW EXECUTE FUNCTION webhook_events.webhook_ended();

CREATE FUNCTION webhook_events.insert_webhook(webhook webhook_events.webhooks)
    RETURNS webhook_events.webhooks
    LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    result webhook_events.webhooks;
    most integer := current_setting('webhook_events.max_webhooks_per_user')::integer;
BEGIN
    -- Of two sessions with one key the second waits here, and gets the first's.
    INSERT INTO webhook_events.webhooks AS w SELECT webhook.*
    ON CONFLICT (user_id, idempotency_key) WHERE idempotency_key IS NOT NULL
        DO UPDATE SET id = w.id
    RETURNING w.* INTO result;
    IF result.id <> webhook.id OR webhook.is_ad_hoc OR webhook.user_id IS NULL THEN
        RETURN result;
    END IF;

    PERFORM pg_advisory_xact_lock(hashtextextended('webhook_events ' || webhook.user_id, 0));
    IF (SELECT count(*) FROM webhook_events.webhooks AS w
            WHERE w.user_id = webhook.user_id AND NOT w.is_ad_hoc) > most THEN
        RAISE EXCEPTION 'user "%" has % webhooks already', webhook.user_id, most
            USING ERRCODE = 'configuration_limit_exceeded',
                DETAIL = 'Setting webhook_events.max_webhooks_per_user is the limit.';
    END IF;
    RETURN result;
END
$function$;
COMMENT ON FUNCTION webhook_events.insert_webhook(webhook_events.webhooks) IS
    'adds a webhook, or finds the one with its idempotency key';
REVOKE ALL ON FUNCTION webhook_events.insert_webhook(webhook_events.webhooks) FROM PUBLIC;

CREATE FUNCTION webhook_events.new_webhook() RETURNS webhook_events.webhooks
    LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    webhook webhook_events.webhooks;
BEGIN
    webhook.id := webhook_events.new_id();
    webhook.user_id := nullif(current_setting('webhook_events.user_id', true), '');
    webhook.is_enabled := true;
    webhook.is_ad_hoc := false;
    webhook.is_retired := false;
    webhook.run_ended := false;
    webhook.should_interpolate_strings := false;
    webhook.ignore_ssl_errors := false;
    webhook.do_not_retry := false;
    webhook.secret := webhook_events.new_secret();
    webhook.created_at := clock_timestamp();
    webhook.modified_at := webhook.created_at;
    webhook.created_xid := pg_current_xact_id();
    RETURN webhook;
END
$function$;
COMMENT ON FUNCTION webhook_events.new_webhook() IS
    'a row of webhooks with its defaults, not yet in the table';
REVOKE ALL ON FUNCTION webhook_events.new_webhook() FROM PUBLIC;

CREATE FUNCTION webhook_events.create_webhook(request_url text,
        event_types webhook_events.event_type[], actor_id text DEFAULT NULL,
        actor_task_id text DEFAULT NULL, actor_run_id text DEFAULT NULL,
        user_id text DEFAULT NULL, payload_template text DEFAULT NULL,
        headers_template text DEFAULT NULL,
        should_interpolate_strings boolean DEFAULT false,
        ignore_ssl_errors boolean DEFAULT false, do_not_retry boolean DEFAULT false,
        is_ad_hoc boolean DEFAULT false, idempotency_key text DEFAULT NULL,
        description text DEFAULT NULL, is_enabled boolean DEFAULT true)
    RETURNS webhook_events.webhooks
    LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    webhook webhook_events.webhooks := webhook_events.new_webhook();
BEGIN
    webhook.request_url := request_url;
    webhook.event_types := event_types;
    webhook.actor_id := actor_id;
    webhook.actor_task_id := actor_task_id;
    webhook.actor_run_id := actor_run_id;
    webhook.user_id := coalesce(user_id, webhook.user_id);
    webhook.payload_template := payload_template;
    webhook.headers_template := headers_template;
    webhook.should_interpolate_strings := coalesce(should_interpolate_strings, false);
    webhook.ignore_ssl_errors := coalesce(ignore_ssl_errors, false);
    webhook.do_not_retry := coalesce(do_not_retry, false);
    webhook.is_ad_hoc := coalesce(is_ad_hoc, false);
    webhook.idempotency_key := idempotency_key;
    webhook.description := description;
    webhook.is_enabled := coalesce(is_enabled, true);
    RETURN webhook_events.insert_webhook(webhook);
END
$function$;
COMMENT ON FUNCTION webhook_events.create_webhook(text, webhook_events.event_type[], text,
        text, text, text, text, text, boolean, boolean, boolean, boolean, text, text, boolean) IS
    'defines a webhook';
REVOKE ALL ON FUNCTION webhook_events.create_webhook(text, webhook_events.event_type[], text,
        text, text, text, text, text, boolean, boolean, boolean, boolean, text, text, boolean)
    FROM PUBLIC;

CREATE FUNCTION webhook_events.definition_value(definition jsonb, key text, type text)
    RETURNS text
    LANGUAGE plpgsql IMMUTABLE
    SET search_path = pg_catalog, pg_temp
AS $function$
BEGIN
    IF jsonb_typeof(definition -> key) NOT IN (type, 'null') THEN
        RAISE EXCEPTION '% of a webhook must be % %, not %', key,
                CASE type WHEN 'object' THEN 'an' WHEN 'array' THEN 'an' ELSE 'a' END, type,
                jsonb_typeof(definition -> key)
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    RETURN definition ->> key;
END
$function$;
COMMENT ON FUNCTION webhook_events.definition_value(jsonb, text, text) IS
    'a member of a definition, which must be of this JSON type or null';
REVOKE ALL ON FUNCTION webhook_events.definition_value(jsonb, text, text) FROM PUBLIC;

CREATE FUNCTION webhook_events.apply_definition(webhook webhook_events.webhooks,
        definition jsonb) RETURNS webhook_events.webhooks
    LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    key text;
    part text;
    value text;
    label text;
BEGIN
    IF jsonb_typeof(definition) IS DISTINCT FROM 'object' THEN
        RAISE EXCEPTION 'definition of a webhook must be an object, not %',
                coalesce(jsonb_typeof(definition), 'null')
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    FOR key IN SELECT jsonb_object_keys(definition) LOOP
        CASE
            WHEN key IN ('requestUrl', 'userId', 'payloadTemplate', 'headersTemplate',
                    'description', 'idempotencyKey') THEN
                value := webhook_events.definition_value(definition, key, 'string');
            WHEN key IN ('shouldInterpolateStrings', 'ignoreSslErrors', 'doNotRetry',
                    'isAdHoc', 'isEnabled') THEN
                value := webhook_events.definition_value(definition, key, 'boolean');
            WHEN key = 'eventTypes' THEN
                value := webhook_events.definition_value(definition, key, 'array');
            WHEN key = 'condition' THEN
                value := webhook_events.definition_value(definition, key, 'object');
            WHEN key IN ('id', 'createdAt', 'modifiedAt', 'lastDispatch', 'stats',
                    'actionType', 'isApifyIntegration') THEN
                CONTINUE;
            ELSE
                RAISE EXCEPTION 'a webhook has no "%"', key
                    USING ERRCODE = 'invalid_parameter_value';
        END CASE;
        CASE key
            WHEN 'requestUrl' THEN webhook.request_url := value;
            WHEN 'userId' THEN webhook.user_id := value;
            WHEN 'payloadTemplate' THEN webhook.payload_template := value;
            WHEN 'headersTemplate' THEN webhook.headers_template := value;
            WHEN 'description' THEN webhook.description := value;
            WHEN 'idempotencyKey' THEN webhook.idempotency_key := value;
            WHEN 'shouldInterpolateStrings' THEN
                webhook.should_interpolate_strings := coalesce(value::boolean, false);
            WHEN 'ignoreSslErrors' THEN
                webhook.ignore_ssl_errors := coalesce(value::boolean, false);
            WHEN 'doNotRetry' THEN webhook.do_not_retry := coalesce(value::boolean, false);
            WHEN 'isAdHoc' THEN webhook.is_ad_hoc := coalesce(value::boolean, false);
            WHEN 'isEnabled' THEN webhook.is_enabled := coalesce(value::boolean, true);
            WHEN 'eventTypes' THEN
                webhook.event_types := '{}';
                FOR label IN SELECT jsonb_array_elements_text(
                        CASE jsonb_typeof(definition -> key) WHEN 'array'
                            THEN definition -> key ELSE '[]' END) LOOP
                    IF label IS NULL OR label <> ALL
                            (enum_range(NULL::webhook_events.event_type)::text[]) THEN
                        RAISE EXCEPTION 'event type "%" does not exist', label
                            USING ERRCODE = 'invalid_parameter_value';
                    END IF;
                    webhook.event_types :=
                        webhook.event_types || label::webhook_events.event_type;
                END LOOP;
            WHEN 'condition' THEN
                IF value IS NULL THEN
                    webhook.actor_id := NULL;
                    webhook.actor_task_id := NULL;
                    webhook.actor_run_id := NULL;
                    CONTINUE;
                END IF;
                FOR part IN SELECT jsonb_object_keys(definition -> key) LOOP
                    value := webhook_events.definition_value(definition -> key, part, 'string');
                    CASE part
                        WHEN 'actorId' THEN webhook.actor_id := value;
                        WHEN 'actorTaskId' THEN webhook.actor_task_id := value;
                        WHEN 'actorRunId' THEN webhook.actor_run_id := value;
                        ELSE
                            RAISE EXCEPTION 'condition of a webhook has no "%"', part
                                USING ERRCODE = 'invalid_parameter_value';
                    END CASE;
                END LOOP;
        END CASE;
    END LOOP;
    RETURN webhook;
END
$function$;
COMMENT ON FUNCTION webhook_events.apply_definition(webhook_events.webhooks, jsonb) IS
    'a webhook changed as the keys of the platform''s API say';
REVOKE ALL ON FUNCTION webhook_events.apply_definition(webhook_events.webhooks, jsonb)
    FROM PUBLIC;

CREATE FUNCTION webhook_events.create_webhook(definition jsonb)
    RETURNS webhook_events.webhooks
    LANGUAGE sql VOLATILE
    SET search_path = pg_catalog, pg_temp
AS $function$
    SELECT webhook_events.insert_webhook(
        webhook_events.apply_definition(webhook_events.new_webhook(), definition))
$function$;
COMMENT ON FUNCTION webhook_events.create_webhook(jsonb) IS
    'defines a webhook by a Webhook object of the platform''s API';
REVOKE ALL ON FUNCTION webhook_events.create_webhook(jsonb) FROM PUBLIC;

CREATE FUNCTION webhook_events.find_webhook(id text) RETURNS webhook_events.webhooks
    LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    webhook webhook_events.webhooks;
BEGIN
    SELECT w.* INTO webhook FROM webhook_events.webhooks AS w
    WHERE w.id = find_webhook.id FOR UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'webhook "%" does not exist', id USING ERRCODE = 'undefined_object';
    END IF;
    RETURN webhook;
END
$function$;
COMMENT ON FUNCTION webhook_events.find_webhook(text) IS
    'the row of a webhook, locked; an error if there is none';
REVOKE ALL ON FUNCTION webhook_events.find_webhook(text) FROM PUBLIC;

CREATE FUNCTION webhook_events.update_webhook(id text, changes jsonb)
    RETURNS webhook_events.webhooks
    LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    new webhook_events.webhooks :=
        webhook_events.apply_definition(webhook_events.find_webhook(id), changes);
    result webhook_events.webhooks;
BEGIN
    UPDATE webhook_events.webhooks AS w
    SET user_id = new.user_id, is_enabled = new.is_enabled, is_ad_hoc = new.is_ad_hoc,
        event_types = new.event_types, actor_id = new.actor_id,
        actor_task_id = new.actor_task_id, actor_run_id = new.actor_run_id,
        request_url = new.request_url, payload_template = new.payload_template,
        headers_template = new.headers_template,
        should_interpolate_strings = new.should_interpolate_strings,
        ignore_ssl_errors = new.ignore_ssl_errors, do_not_retry = new.do_not_retry,
        description = new.description, idempotency_key = new.idempotency_key,
        disabled_reason = CASE WHEN NOT new.is_enabled THEN w.disabled_reason END,
        is_retired = w.is_retired AND NOT new.is_enabled
    WHERE w.id = new.id
    RETURNING w.* INTO result;
    RETURN result;
END
$function$;
COMMENT ON FUNCTION webhook_events.update_webhook(text, jsonb) IS
    'changes what the given keys of the platform''s API name';
REVOKE ALL ON FUNCTION webhook_events.update_webhook(text, jsonb) FROM PUBLIC;

CREATE FUNCTION webhook_events.enable_webhook(id text) RETURNS webhook_events.webhooks
    LANGUAGE sql VOLATILE
    SET search_path = pg_catalog, pg_temp
AS $function$
    SELECT webhook_events.update_webhook(id, '{"isEnabled": true}')
$function$;
COMMENT ON FUNCTION webhook_events.enable_webhook(text) IS
    'lets a webhook get events again, from now on';
REVOKE ALL ON FUNCTION webhook_events.enable_webhook(text) FROM PUBLIC;

CREATE FUNCTION webhook_events.disable_webhook(id text) RETURNS webhook_events.webhooks
    LANGUAGE sql VOLATILE
    SET search_path = pg_catalog, pg_temp
AS $function$
    SELECT webhook_events.update_webhook(id, '{"isEnabled": false}')
$function$;
COMMENT ON FUNCTION webhook_events.disable_webhook(text) IS
    'stops a webhook; its waiting dispatches fail';
REVOKE ALL ON FUNCTION webhook_events.disable_webhook(text) FROM PUBLIC;

CREATE FUNCTION webhook_events.delete_webhook(id text) RETURNS void
    LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp
AS $function$
BEGIN
    PERFORM webhook_events.find_webhook(id);
    DELETE FROM webhook_events.webhooks AS w WHERE w.id = delete_webhook.id;
END
$function$;
COMMENT ON FUNCTION webhook_events.delete_webhook(text) IS
    'removes a webhook; its waiting dispatches fail, its history stays';
REVOKE ALL ON FUNCTION webhook_events.delete_webhook(text) FROM PUBLIC;

CREATE FUNCTION webhook_events.set_max_rate(id text, max_rate double precision)
    RETURNS webhook_events.webhooks
    LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    webhook webhook_events.webhooks := webhook_events.find_webhook(id);
BEGIN
    UPDATE webhook_events.webhooks AS w SET max_rate = set_max_rate.max_rate
    WHERE w.id = webhook.id RETURNING w.* INTO webhook;
    PERFORM webhook_events.wake_worker();
    RETURN webhook;
END
$function$;
COMMENT ON FUNCTION webhook_events.set_max_rate(text, double precision) IS
    'limits how many calls a webhook gets each second; NULL: no limit';
REVOKE ALL ON FUNCTION webhook_events.set_max_rate(text, double precision) FROM PUBLIC;

CREATE FUNCTION webhook_events.set_secret(id text, secret text,
        grace interval DEFAULT '24 hours') RETURNS void
    LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    webhook webhook_events.webhooks := webhook_events.find_webhook(id);
    old text[] := '{}';
    until timestamptz[] := '{}';
BEGIN
    IF grace IS NULL OR grace < interval '0' THEN
        RAISE EXCEPTION 'grace period of a secret can''t be %', coalesce(grace::text, 'null')
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    SELECT coalesce(array_agg(o.secret ORDER BY o.n), '{}'),
        coalesce(array_agg(o.until ORDER BY o.n), '{}')
    INTO old, until
    FROM (SELECT webhook.secret, now() + grace, 0
        UNION ALL
        SELECT * FROM unnest(webhook.old_secrets, webhook.old_secrets_until)
            WITH ORDINALITY) AS o (secret, until, n)
    WHERE o.secret IS NOT NULL AND o.until > clock_timestamp() AND o.n < 10;
    UPDATE webhook_events.webhooks AS w
    SET secret = set_secret.secret, old_secrets = old, old_secrets_until = until
    WHERE w.id = webhook.id;
END
$function$;
COMMENT ON FUNCTION webhook_events.set_secret(text, text, interval) IS
    'gives a webhook another signing secret, or none; the old one signs along for a while';
REVOKE ALL ON FUNCTION webhook_events.set_secret(text, text, interval) FROM PUBLIC;

CREATE FUNCTION webhook_events.rotate_secret(id text, grace interval DEFAULT '24 hours')
    RETURNS text
    LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    secret text := webhook_events.new_secret();
BEGIN
    PERFORM webhook_events.set_secret(id, secret, grace);
    RETURN secret;
END
$function$;
COMMENT ON FUNCTION webhook_events.rotate_secret(text, interval) IS
    'gives a webhook a new signing secret and returns it; the old one signs along for a while';
REVOKE ALL ON FUNCTION webhook_events.rotate_secret(text, interval) FROM PUBLIC;

CREATE FUNCTION webhook_events.create_ad_hoc_webhooks(actor_run_id text, definitions jsonb,
        user_id text DEFAULT NULL) RETURNS SETOF webhook_events.webhooks
    LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    definition jsonb;
    key text;
    webhook webhook_events.webhooks;
BEGIN
    IF coalesce(actor_run_id, '') = '' THEN
        RAISE EXCEPTION 'ad-hoc webhooks need the id of a run'
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF jsonb_typeof(definitions) IS DISTINCT FROM 'array' THEN
        RAISE EXCEPTION 'definitions of ad-hoc webhooks must be an array, not %',
                coalesce(jsonb_typeof(definitions), 'null')
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    FOR definition IN SELECT jsonb_array_elements(definitions) LOOP
        webhook := webhook_events.apply_definition(webhook_events.new_webhook(), definition);
        FOR key IN SELECT jsonb_object_keys(definition) LOOP
            IF key IN ('condition', 'userId', 'isAdHoc', 'isEnabled') THEN
                RAISE EXCEPTION 'an ad-hoc webhook can''t have "%"', key
                    USING ERRCODE = 'invalid_parameter_value';
            END IF;
        END LOOP;
        webhook.is_ad_hoc := true;
        webhook.actor_run_id := actor_run_id;
        webhook.user_id := coalesce(user_id, webhook.user_id);
        RETURN NEXT webhook_events.insert_webhook(webhook);
    END LOOP;
END
$function$;
COMMENT ON FUNCTION webhook_events.create_ad_hoc_webhooks(text, jsonb, text) IS
    'defines webhooks for one run, by a JSON array';
REVOKE ALL ON FUNCTION webhook_events.create_ad_hoc_webhooks(text, jsonb, text) FROM PUBLIC;

CREATE FUNCTION webhook_events.create_ad_hoc_webhooks(actor_run_id text, definitions text,
        user_id text DEFAULT NULL) RETURNS SETOF webhook_events.webhooks
    LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    json jsonb;
BEGIN
    BEGIN
        IF ltrim(definitions, E' \t\r\n') LIKE '[%' THEN
            json := definitions::jsonb;
        ELSE
            json := convert_from(decode(definitions, 'base64'), 'UTF8')::jsonb;
        END IF;
    EXCEPTION WHEN data_exception THEN
        RAISE EXCEPTION 'definitions of ad-hoc webhooks are neither JSON nor its base64'
            USING ERRCODE = 'invalid_parameter_value', DETAIL = SQLERRM;
    END;
    RETURN QUERY SELECT * FROM webhook_events.create_ad_hoc_webhooks(actor_run_id, json, user_id);
END
$function$;
COMMENT ON FUNCTION webhook_events.create_ad_hoc_webhooks(text, text, text) IS
    'defines webhooks for one run, by a JSON array or its base64';
REVOKE ALL ON FUNCTION webhook_events.create_ad_hoc_webhooks(text, text, text) FROM PUBLIC;

--
-- Status
--

CREATE FUNCTION webhook_events.worker_report(OUT running boolean, OUT reason text,
        OUT worker_pid integer, OUT started_at timestamptz, OUT in_flight integer,
        OUT delivered bigint, OUT failed bigint, OUT last_error text,
        OUT last_error_at timestamptz) RETURNS record
    LANGUAGE c VOLATILE STRICT
    AS 'MODULE_PATHNAME', 'webhook_events_worker_report';
COMMENT ON FUNCTION webhook_events.worker_report() IS
    'what the server knows about the worker of this database';
REVOKE ALL ON FUNCTION webhook_events.worker_report() FROM PUBLIC;

CREATE FUNCTION webhook_events.unrouted_events() RETURNS TABLE (id text, created_at timestamptz)
    LANGUAGE sql STABLE SECURITY DEFINER ROWS 100
    SET search_path = pg_catalog, pg_temp
    SET enable_seqscan = off
    SET enable_hashjoin = off
    SET enable_mergejoin = off
AS $function$
    WITH cursor AS MATERIALIZED (
        SELECT coalesce(window_from, '1:1:'::pg_snapshot) AS window_from, window_to,
            position_xid, position_id
        FROM webhook_events.cursors ORDER BY number DESC LIMIT 1
    ), place AS MATERIALIZED (
        SELECT window_from, window_to, position_xid, position_id,
            CASE WHEN position_xid IS NULL THEN window_to ELSE window_from END AS seen
        FROM cursor
        UNION ALL
        SELECT '1:1:', '1:1:', NULL, NULL, '1:1:'
        WHERE NOT EXISTS (SELECT FROM cursor)
    ), waiting AS (
        SELECT o.id, o.created_at, o.xid, o.user_id FROM place CROSS JOIN webhook_events.outbox AS o
        WHERE o.xid >= pg_snapshot_xmax(place.seen)
        UNION ALL
        SELECT o.id, o.created_at, o.xid, o.user_id FROM place
            CROSS JOIN LATERAL pg_snapshot_xip(place.seen) AS late (xid)
            JOIN webhook_events.outbox AS o ON o.xid = late.xid
    )
    SELECT w.id, w.created_at FROM waiting AS w CROSS JOIN place
    WHERE webhook_events.may_see(w.user_id)
        AND (place.position_xid IS NULL
            OR NOT pg_visible_in_snapshot(w.xid, place.window_to)
            OR (w.xid, w.id) > (place.position_xid, place.position_id))
$function$;
COMMENT ON FUNCTION webhook_events.unrouted_events() IS
    'events that were not routed yet';
REVOKE ALL ON FUNCTION webhook_events.unrouted_events() FROM PUBLIC;

CREATE FUNCTION webhook_events.waiting_events(OUT events bigint, OUT oldest_at timestamptz)
    RETURNS record
    LANGUAGE sql STABLE
    SET search_path = pg_catalog, pg_temp
AS $function$
    SELECT count(*), min(created_at) FROM webhook_events.unrouted_events()
$function$;
COMMENT ON FUNCTION webhook_events.waiting_events() IS
    'how many events were not routed yet, and the oldest of them';
REVOKE ALL ON FUNCTION webhook_events.waiting_events() FROM PUBLIC;

CREATE FUNCTION webhook_events.status(OUT running boolean, OUT reason text,
        OUT worker_pid integer, OUT started_at timestamptz, OUT events_waiting bigint,
        OUT oldest_event_at timestamptz, OUT lag_seconds numeric,
        OUT dispatches_active bigint, OUT in_flight integer, OUT delivered bigint,
        OUT failed bigint, OUT last_error text, OUT last_error_at timestamptz) RETURNS record
    LANGUAGE sql VOLATILE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    SET enable_seqscan = off
AS $function$
    SELECT r.running,
        CASE WHEN r.reason = 'paused' AND p.paused_at IS NOT NULL
            THEN concat('paused since ', p.paused_at, ': ' || p.reason)
            ELSE r.reason END,
        r.worker_pid, r.started_at, w.events, w.oldest_at,
        coalesce(round(extract(epoch FROM clock_timestamp() - w.oldest_at), 3), 0),
        (SELECT count(*) FROM webhook_events.dispatches WHERE status = 'ACTIVE'),
        r.in_flight, r.delivered, r.failed, r.last_error, r.last_error_at
    FROM webhook_events.worker_report() AS r
        CROSS JOIN webhook_events.waiting_events() AS w
        LEFT JOIN (SELECT * FROM webhook_events.pauses ORDER BY paused_at LIMIT 1) AS p
            ON true
$function$;
COMMENT ON FUNCTION webhook_events.status() IS
    'whether events of this database are delivered, and if not, why';
REVOKE ALL ON FUNCTION webhook_events.status() FROM PUBLIC;

CREATE FUNCTION webhook_events.pause(reason text DEFAULT NULL) RETURNS void
    LANGUAGE sql VOLATILE
    SET search_path = pg_catalog, pg_temp
AS $function$
    DELETE FROM webhook_events.pauses;
    INSERT INTO webhook_events.pauses (reason) VALUES (reason);
    SELECT webhook_events.wake_worker();
$function$;
COMMENT ON FUNCTION webhook_events.pause(text) IS
    'stops all delivery of this database; events are recorded and wait';
REVOKE ALL ON FUNCTION webhook_events.pause(text) FROM PUBLIC;

CREATE FUNCTION webhook_events.resume(backlog text DEFAULT 'send') RETURNS void
    LANGUAGE plpgsql VOLATILE STRICT
    SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    own record;
    seen record;
    skips boolean := (backlog = 'skip');
    is_foreign boolean;
    nevents bigint := 0;
    ndispatches bigint;
    xid xid8 := pg_current_xact_id();
    snapshot pg_snapshot;
BEGIN
    IF backlog NOT IN ('send', 'skip') THEN
        RAISE EXCEPTION 'backlog "%" is neither "send" nor "skip"', backlog
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    SELECT oid AS database, 'webhook_events.outbox'::regclass::oid AS outbox INTO own
    FROM pg_database WHERE datname = current_database();
    SELECT count(*) FILTER (WHERE (database, outbox) <> (own.database, own.outbox)) > 0
        OR count(*) FILTER (WHERE (database, outbox) = (own.database, own.outbox)) = 0
    INTO is_foreign FROM webhook_events.origins;
    IF skips AND NOT is_foreign AND NOT EXISTS (SELECT FROM webhook_events.pauses) THEN
        RAISE EXCEPTION 'delivery is not paused'
            USING ERRCODE = 'object_not_in_prerequisite_state',
                HINT = 'Call webhook_events.pause() first.';
    END IF;

    IF is_foreign THEN
        LOCK TABLE webhook_events.outbox IN SHARE ROW EXCLUSIVE MODE;
    END IF;
    SELECT count(*) INTO ndispatches FROM webhook_events.dispatches WHERE status = 'ACTIVE';
    IF NOT is_foreign THEN
        SELECT events INTO nevents FROM webhook_events.waiting_events();
    END IF;
    -- A snapshot does not count its own transaction among those in progress.
    snapshot := pg_current_snapshot();
    IF xid < pg_snapshot_xmax(snapshot) THEN
        snapshot := format('%s:%s:%s', least(xid, pg_snapshot_xmin(snapshot)),
            pg_snapshot_xmax(snapshot),
            (SELECT string_agg(t.xip::text, ',' ORDER BY t.xip)
            FROM (SELECT pg_snapshot_xip(snapshot) UNION SELECT xid) AS t (xip)));
    END IF;

    -- Transaction ids of another server mean nothing here: what it had routed
    -- becomes old, what it had not becomes new.  Its cursor saw no event that
    -- is younger than itself.
    IF is_foreign THEN
        SELECT coalesce(CASE WHEN position_xid IS NULL THEN window_to ELSE window_from END,
                '1:1:') AS snapshot,
            window_to, position_xid, position_id, created_at
        INTO seen FROM webhook_events.cursors ORDER BY number DESC LIMIT 1;
        UPDATE webhook_events.outbox AS o
        SET xid = CASE
            WHEN o.created_at <= seen.created_at
                AND (pg_visible_in_snapshot(o.xid, seen.snapshot)
                    OR pg_visible_in_snapshot(o.xid, seen.window_to)
                        AND (o.xid, o.id) <= (seen.position_xid, seen.position_id))
            THEN '3'::xid8 ELSE pg_current_xact_id() END;
        SELECT count(*) INTO nevents FROM webhook_events.outbox AS o
        WHERE o.xid = pg_current_xact_id();
        IF skips THEN
            UPDATE webhook_events.outbox AS o SET xid = '3'
            WHERE o.xid = pg_current_xact_id();
        END IF;
        DELETE FROM webhook_events.cursors;
        DELETE FROM webhook_events.origins;
        INSERT INTO webhook_events.origins (database, outbox)
            VALUES (own.database, own.outbox);
    END IF;
    -- The worker may still write down what it had routed before the pause, with
    -- the numbers that follow, and those must not be newer than this one.
    IF is_foreign OR skips THEN
        INSERT INTO webhook_events.cursors (number, window_from, window_to)
            SELECT coalesce(max(number), 0) + 1000, snapshot, snapshot
            FROM webhook_events.cursors;
    END IF;

    IF skips THEN
        UPDATE webhook_events.dispatches
        SET status = 'FAILED', finished_at = clock_timestamp(), next_attempt_at = NULL,
            error_message = 'Skipped by resume().'
        WHERE status = 'ACTIVE';
    END IF;
    DELETE FROM webhook_events.pauses;
    IF nevents > 0 OR ndispatches > 0 THEN
        RAISE NOTICE '% events that were not routed and % dispatches that waited are %',
            nevents, ndispatches, CASE WHEN skips THEN 'skipped' ELSE 'sent' END;
    END IF;
    PERFORM webhook_events.wake_worker();
END
$function$;
COMMENT ON FUNCTION webhook_events.resume(text) IS
    'ends a pause, or lets a restored copy deliver; send or skip what waited';
REVOKE ALL ON FUNCTION webhook_events.resume(text) FROM PUBLIC;

CREATE FUNCTION webhook_events.drop_days(before date) RETURNS integer
    LANGUAGE plpgsql VOLATILE STRICT
    SET search_path = pg_catalog, pg_temp
    SET client_min_messages = warning
    SET enable_seqscan = off
AS $function$
DECLARE
    day date;
    suffix text;
    parent text;
    waits boolean;
    oldest_waiting timestamptz := (SELECT oldest_at FROM webhook_events.waiting_events());
    dropped integer := 0;
BEGIN
    FOR day IN
        SELECT to_date(right(c.relname, 8), 'YYYYMMDD')
        FROM pg_inherits AS i JOIN pg_class AS c ON c.oid = i.inhrelid
        WHERE i.inhparent = 'webhook_events.outbox'::regclass
            AND c.relname ~ '^outbox_[0-9]{8}$'
        ORDER BY 1
    LOOP
        EXIT WHEN day >= before;
        -- Neither events that nobody has routed nor what waits is dropped.
        EXIT WHEN oldest_waiting < (day + 1)::timestamp AT TIME ZONE 'UTC';
        suffix := to_char(day, '_YYYYMMDD');
        EXECUTE format('SELECT EXISTS (SELECT FROM webhook_events.%I WHERE status = ''ACTIVE'')',
            'dispatches' || suffix) INTO waits;
        -- A dispatch that was made later can wait for an event of this day.
        CONTINUE WHEN waits OR EXISTS (SELECT FROM webhook_events.dispatches AS d
            WHERE d.status = 'ACTIVE'
                AND d.event_id >= webhook_events.id_lower_bound(day::timestamp AT TIME ZONE 'UTC')
                AND d.event_id < webhook_events.id_lower_bound((day + 1)::timestamp AT TIME ZONE 'UTC'));
        FOREACH parent IN ARRAY ARRAY['calls', 'dispatches', 'outbox'] LOOP
            EXECUTE format('DROP TABLE IF EXISTS webhook_events.%I', parent || suffix);
        END LOOP;
        dropped := dropped + 1;
    END LOOP;
    RETURN dropped;
END
$function$;
COMMENT ON FUNCTION webhook_events.drop_days(date) IS
    'drops the tables of the days (UTC) before this one, unless something in them waits';
REVOKE ALL ON FUNCTION webhook_events.drop_days(date) FROM PUBLIC;

-- Rows can't be dropped by the day here, so they are deleted, oldest first, up to
-- the first one that somebody may still need.
CREATE FUNCTION webhook_events.delete_undated(before date, max_rows integer) RETURNS integer
    LANGUAGE plpgsql VOLATILE STRICT
    SET search_path = pg_catalog, pg_temp
    SET enable_seqscan = off
AS $function$
DECLARE
    oldest_waiting timestamptz := (SELECT oldest_at FROM webhook_events.waiting_events());
    first_kept text := least(
        webhook_events.id_lower_bound(before::timestamp AT TIME ZONE 'UTC'),
        webhook_events.id_lower_bound(oldest_waiting),
        (SELECT min(w.event_id) FROM (SELECT event_id FROM webhook_events.dispatches
            WHERE status = 'ACTIVE' OFFSET 0) AS w),
        (SELECT min(w.id) FROM (SELECT id FROM webhook_events.dispatches_default
            WHERE status = 'ACTIVE' OFFSET 0) AS w)) COLLATE "C";
    deleted integer := 0;
    count integer;
BEGIN
    DELETE FROM webhook_events.calls_default WHERE (dispatch_id, attempt) IN (
        SELECT dispatch_id, attempt FROM webhook_events.calls_default
        WHERE dispatch_id < first_kept ORDER BY dispatch_id LIMIT max_rows);
    GET DIAGNOSTICS deleted = ROW_COUNT;
    DELETE FROM webhook_events.dispatches_default WHERE id IN (
        SELECT id FROM webhook_events.dispatches_default
        WHERE id < first_kept ORDER BY id LIMIT max_rows - deleted);
    GET DIAGNOSTICS count = ROW_COUNT;
    deleted := deleted + count;
    DELETE FROM webhook_events.outbox_default WHERE id IN (
        SELECT id FROM webhook_events.outbox_default
        WHERE id < first_kept ORDER BY id LIMIT max_rows - deleted);
    GET DIAGNOSTICS count = ROW_COUNT;
    RETURN deleted + count;
END
$function$;
COMMENT ON FUNCTION webhook_events.delete_undated(date, integer) IS
    'deletes so many rows at most of before this day (UTC) from the default tables; returns how many';
REVOKE ALL ON FUNCTION webhook_events.delete_undated(date, integer) FROM PUBLIC;

--
-- Looking closer, and sending again
--

CREATE FUNCTION webhook_events.get_webhook(id text) RETURNS webhook_events.webhooks
    LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    webhook webhook_events.webhooks;
BEGIN
    SELECT w.* INTO webhook FROM webhook_events.webhooks AS w WHERE w.id = get_webhook.id;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'webhook "%" does not exist', id USING ERRCODE = 'undefined_object';
    END IF;
    RETURN webhook;
END
$function$;
COMMENT ON FUNCTION webhook_events.get_webhook(text) IS
    'the row of a webhook; an error if there is none';
REVOKE ALL ON FUNCTION webhook_events.get_webhook(text) FROM PUBLIC;

CREATE FUNCTION webhook_events.refusal(webhook webhook_events.webhooks,
        event_type webhook_events.event_type, user_id text, actor_id text,
        actor_task_id text, actor_run_id text, created_at timestamptz DEFAULT NULL,
        xid xid8 DEFAULT NULL, test_of text DEFAULT NULL) RETURNS text
    LANGUAGE c STABLE
    SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'webhook_events_refusal';
COMMENT ON FUNCTION webhook_events.refusal(webhook_events.webhooks, webhook_events.event_type,
        text, text, text, text, timestamptz, xid8, text) IS
    'why a webhook does not get such an event, or NULL; without a time as if it were enabled and old enough';
REVOKE ALL ON FUNCTION webhook_events.refusal(webhook_events.webhooks, webhook_events.event_type,
        text, text, text, text, timestamptz, xid8, text) FROM PUBLIC;

CREATE FUNCTION webhook_events.build_request(webhook webhook_events.webhooks, event_id text,
        OUT method text, OUT url text, OUT headers jsonb, OUT body text, OUT error text)
    RETURNS record
    LANGUAGE c STABLE STRICT
    SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'webhook_events_build_request';
COMMENT ON FUNCTION webhook_events.build_request(webhook_events.webhooks, text) IS
    'the request that takes an event to a webhook, or why there can be none';
REVOKE ALL ON FUNCTION webhook_events.build_request(webhook_events.webhooks, text) FROM PUBLIC;

CREATE FUNCTION webhook_events.preview(webhook_id text, event_id text, OUT method text,
        OUT url text, OUT headers jsonb, OUT body text) RETURNS record
    LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    error text;
BEGIN
    IF event_id IS NULL THEN
        RAISE EXCEPTION 'event "%" does not exist', event_id USING ERRCODE = 'no_data_found';
    END IF;
    SELECT r.* INTO method, url, headers, body, error
    FROM webhook_events.build_request(webhook_events.get_webhook(webhook_id), event_id) AS r;
    IF error IS NOT NULL THEN
        RAISE EXCEPTION 'request can''t be built: %', error
            USING ERRCODE = 'invalid_parameter_value',
                DETAIL = 'A dispatch of this event to this webhook fails with this reason.';
    END IF;
END
$function$;
COMMENT ON FUNCTION webhook_events.preview(text, text) IS
    'the request that would be sent for an event, without sending it';
REVOKE ALL ON FUNCTION webhook_events.preview(text, text) FROM PUBLIC;

CREATE FUNCTION webhook_events.explain_event(event_id text)
    RETURNS TABLE (webhook_id text, fires boolean, reason text)
    LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    event webhook_events.outbox;
BEGIN
    SELECT o.* INTO event FROM webhook_events.outbox AS o WHERE o.id = event_id;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'event "%" does not exist', event_id USING ERRCODE = 'no_data_found';
    END IF;
    RETURN QUERY
        SELECT w.id, r.refusal IS NULL,
            coalesce(r.refusal, CASE WHEN event.webhook_id IS NULL
                THEN 'event type and condition match' ELSE 'the event is a test of it' END)
        FROM webhook_events.webhooks AS w
            CROSS JOIN LATERAL (SELECT webhook_events.refusal(w, event.event_type,
                event.user_id, event.actor_id, event.actor_task_id, event.actor_run_id,
                event.created_at, event.xid, event.webhook_id)) AS r (refusal)
        WHERE w.id = event.webhook_id OR w.user_id = event.user_id
            OR w.actor_id = event.actor_id OR w.actor_task_id = event.actor_task_id
            OR w.actor_run_id = event.actor_run_id
            OR (w.user_id IS NULL AND w.actor_id IS NULL AND w.actor_task_id IS NULL
                AND w.actor_run_id IS NULL)
        ORDER BY w.id;
END
$function$;
COMMENT ON FUNCTION webhook_events.explain_event(text) IS
    'which webhooks get an event and which don''t, and why';
REVOKE ALL ON FUNCTION webhook_events.explain_event(text) FROM PUBLIC;

-- Its body is bound when it is created and it sets nothing, so that it becomes
-- part of the query that calls it, and stops with that query's LIMIT.
CREATE FUNCTION webhook_events.backtest(webhook_id text, since timestamptz,
        until timestamptz DEFAULT pg_catalog.now())
    RETURNS TABLE (event_id text, created_at timestamptz,
        event_type webhook_events.event_type, fires boolean, reason text, body text)
    LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT e.id, e.created_at, e.event_type, r.refusal IS NULL,
        coalesce(r.refusal, b.error), b.body
    FROM webhook_events.get_webhook(backtest.webhook_id) AS w
        CROSS JOIN webhook_events.outbox AS e
        CROSS JOIN LATERAL (SELECT webhook_events.refusal(w, e.event_type, e.user_id,
            e.actor_id, e.actor_task_id, e.actor_run_id) OFFSET 0) AS r (refusal)
        LEFT JOIN LATERAL (SELECT q.body, q.error
            FROM webhook_events.build_request(w, e.id) AS q
            WHERE r.refusal IS NULL OFFSET 0) AS b ON true
    WHERE e.id >= webhook_events.id_lower_bound(since)
        AND e.id < webhook_events.id_lower_bound(until)
        AND e.webhook_id IS NULL
        -- An error for an unknown webhook, even if there are no events.
        AND (webhook_events.get_webhook(backtest.webhook_id)).id IS NOT NULL
    ORDER BY e.id;
END;
COMMENT ON FUNCTION webhook_events.backtest(text, timestamptz, timestamptz) IS
    'what a webhook, were it enabled, would have sent for past events; LIMIT makes it cheap';
REVOKE ALL ON FUNCTION webhook_events.backtest(text, timestamptz, timestamptz) FROM PUBLIC;

CREATE FUNCTION webhook_events.source_event(relation regclass, kind text, id text,
        OUT found boolean, OUT user_id text, OUT actor_id text, OUT actor_task_id text, OUT resource json)
    RETURNS record
    LANGUAGE c STABLE STRICT
    SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'webhook_events_source_event';
COMMENT ON FUNCTION webhook_events.source_event(regclass, text, text) IS
    'what an event of a row of an attached table would hold now, if there is such a row';
REVOKE ALL ON FUNCTION webhook_events.source_event(regclass, text, text) FROM PUBLIC;

CREATE FUNCTION webhook_events.raise_test(webhook_id text, user_id text, actor_id text,
        actor_task_id text, actor_run_id text, actor_build_id text, resource json)
    RETURNS text
    LANGUAGE c VOLATILE
    AS 'MODULE_PATHNAME', 'webhook_events_raise_test';
COMMENT ON FUNCTION webhook_events.raise_test(text, text, text, text, text, text, json) IS
    'adds a TEST event for one webhook and returns the id of its dispatch';
REVOKE ALL ON FUNCTION webhook_events.raise_test(text, text, text, text, text, text, json)
    FROM PUBLIC;

CREATE FUNCTION webhook_events.test_webhook(id text, resource_id text DEFAULT NULL)
    RETURNS text
    LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    webhook webhook_events.webhooks := webhook_events.get_webhook(id);
    source record;
    event record;
    actor_id text := coalesce(webhook.actor_id, 'dummyActorId');
    run_id text := coalesce(webhook.actor_run_id, 'dummyRunId');
    finished_at timestamptz := now();
BEGIN
    IF resource_id IS NULL THEN
        RETURN webhook_events.raise_test(webhook.id, webhook.user_id, actor_id,
            webhook.actor_task_id, run_id, NULL,
            json_build_object('id', run_id, 'actId', actor_id, 'userId', webhook.user_id,
                'actorTaskId', webhook.actor_task_id,
                'startedAt', webhook_events.api_time(finished_at - interval '1 minute'),
                'finishedAt', webhook_events.api_time(finished_at),
                'status', 'SUCCEEDED', 'statusMessage', 'This is a test.'));
    END IF;
    FOR source IN SELECT s.relation, s.kind FROM webhook_events.sources AS s LOOP
        BEGIN
            event := webhook_events.source_event(source.relation, source.kind, resource_id);
        EXCEPTION WHEN data_exception THEN
            CONTINUE;  -- the table's ids are of another type
        END;
        CONTINUE WHEN NOT event.found;
        RETURN webhook_events.raise_test(webhook.id, event.user_id, event.actor_id,
            event.actor_task_id, CASE source.kind WHEN 'run' THEN resource_id END,
            CASE source.kind WHEN 'build' THEN resource_id END, event.resource);
    END LOOP;
    RAISE EXCEPTION 'no attached table has a run or build "%"', resource_id
        USING ERRCODE = 'no_data_found';
END
$function$;
COMMENT ON FUNCTION webhook_events.test_webhook(text, text) IS
    'sends a TEST event to one webhook, with this run or build or a dummy; returns the dispatch''s id';
REVOKE ALL ON FUNCTION webhook_events.test_webhook(text, text) FROM PUBLIC;

CREATE FUNCTION webhook_events.queue_dispatches(webhook_id text, event_ids text[],
        next_attempt_at timestamptz) RETURNS SETOF text
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $function$
BEGIN
    PERFORM webhook_events.wake_worker();
    RETURN QUERY INSERT INTO webhook_events.dispatches (id, event_id, webhook_id, user_id, event_type,
        status, created_at, attempts, next_attempt_at, replay_of)
    SELECT webhook_events.new_id(), e.id, w.id, w.user_id, e.event_type, 'ACTIVE',
        clock_timestamp(), 0, queue_dispatches.next_attempt_at, webhook_events.dispatch_id(e.id, w.id)
    FROM webhook_events.webhooks AS w
        CROSS JOIN unnest(event_ids) WITH ORDINALITY AS u (event_id, number)
        JOIN webhook_events.outbox AS e ON e.id = u.event_id
    WHERE w.id = queue_dispatches.webhook_id AND webhook_events.may_see(w.user_id)
        AND webhook_events.may_see(e.user_id)
    ORDER BY u.number
    RETURNING id;
END
$function$;
COMMENT ON FUNCTION webhook_events.queue_dispatches(text, text[], timestamptz) IS
    'adds dispatches of past events to a webhook; returns their ids';
REVOKE ALL ON FUNCTION webhook_events.queue_dispatches(text, text[], timestamptz) FROM PUBLIC;

CREATE FUNCTION webhook_events.redeliver(dispatch_id text) RETURNS text
    LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    dispatch webhook_events.dispatches;
    webhook webhook_events.webhooks;
BEGIN
    SELECT d.* INTO dispatch FROM webhook_events.dispatches AS d
    WHERE d.id = redeliver.dispatch_id;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'dispatch "%" does not exist', dispatch_id
            USING ERRCODE = 'no_data_found';
    END IF;
    webhook := webhook_events.get_webhook(dispatch.webhook_id);
    PERFORM FROM webhook_events.outbox AS o WHERE o.id = dispatch.event_id;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'event "%" of dispatch "%" does not exist any more',
                dispatch.event_id, dispatch.id
            USING ERRCODE = 'no_data_found';
    END IF;
    IF NOT (webhook.is_enabled OR webhook.is_retired) AND dispatch.event_type <> 'TEST' THEN
        RAISE EXCEPTION 'webhook "%" is disabled', webhook.id
            USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;

    SELECT q.* INTO dispatch.id FROM webhook_events.queue_dispatches(webhook.id,
        ARRAY[dispatch.event_id], clock_timestamp()) AS q;
    RETURN dispatch.id;
END
$function$;
COMMENT ON FUNCTION webhook_events.redeliver(text) IS
    'sends the event of a dispatch to its webhook once more; returns the new dispatch''s id';
REVOKE ALL ON FUNCTION webhook_events.redeliver(text) FROM PUBLIC;

CREATE FUNCTION webhook_events.replay(webhook_id text, since timestamptz,
        until timestamptz DEFAULT now(), event_types webhook_events.event_type[] DEFAULT NULL,
        only_failed boolean DEFAULT false) RETURNS bigint
    LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    webhook webhook_events.webhooks := webhook_events.get_webhook(webhook_id);
    failed_only boolean := coalesce(only_failed, false);
    events text[];
    queued bigint;
BEGIN
    IF since IS NULL OR until IS NULL THEN
        RAISE EXCEPTION 'replay needs a time to start from and one to end at'
            USING ERRCODE = 'null_value_not_allowed';
    END IF;
    IF NOT (webhook.is_enabled OR webhook.is_retired) THEN
        RAISE EXCEPTION 'webhook "%" is disabled', webhook.id
            USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;

    -- What still waits is sent anyway, and so is what is not routed yet.
    WITH active AS MATERIALIZED (
        SELECT d.event_id FROM webhook_events.dispatches AS d
        WHERE d.status = 'ACTIVE' AND d.webhook_id = webhook.id
    ), unrouted AS MATERIALIZED (
        SELECT u.id FROM webhook_events.unrouted_events() AS u
        WHERE u.created_at >= webhook.created_at
    ), event AS MATERIALIZED (
        SELECT e.id, e.event_type, webhook_events.dispatch_id(e.id, webhook.id) AS dispatch_id
        FROM webhook_events.outbox AS e
        WHERE e.id >= webhook_events.id_lower_bound(since)
            AND e.id < webhook_events.id_lower_bound(until)
            AND e.webhook_id IS NULL
            AND (replay.event_types IS NULL OR e.event_type = ANY (replay.event_types))
            AND webhook_events.refusal(webhook, e.event_type, e.user_id, e.actor_id,
                e.actor_task_id, e.actor_run_id) IS NULL
            AND e.id NOT IN (SELECT a.event_id FROM active AS a)
            AND e.id NOT IN (SELECT u.id FROM unrouted AS u)
    ), wanted AS (
        SELECT e.* FROM event AS e
        WHERE NOT failed_only
            OR (SELECT bool_and(d.status = 'FAILED') FROM (
                SELECT f.status FROM webhook_events.dispatches AS f WHERE f.id = e.dispatch_id
                UNION ALL
                SELECT f.status FROM webhook_events.dispatches AS f
                WHERE f.replay_of = e.dispatch_id) AS d)
    )
    SELECT array_agg(w.id ORDER BY w.id) INTO events FROM wanted AS w;
    IF events IS NULL THEN
        RETURN 0;
    END IF;
    SELECT count(*) INTO queued
    FROM webhook_events.queue_dispatches(webhook.id, events, NULL);
    RETURN queued;
END
$function$;
COMMENT ON FUNCTION webhook_events.replay(text, timestamptz, timestamptz,
        webhook_events.event_type[], boolean) IS
    'queues past events for one webhook, behind all others; returns how many';
REVOKE ALL ON FUNCTION webhook_events.replay(text, timestamptz, timestamptz,
        webhook_events.event_type[], boolean) FROM PUBLIC;

--
-- In the shape of the platform's API
--

CREATE FUNCTION webhook_events.api_time(at timestamptz) RETURNS text
    LANGUAGE sql STABLE STRICT PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
AS $function$
    SELECT to_char(at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')
$function$;
COMMENT ON FUNCTION webhook_events.api_time(timestamptz) IS
    'a time as the platform''s API writes it';
REVOKE ALL ON FUNCTION webhook_events.api_time(timestamptz) FROM PUBLIC;

CREATE FUNCTION webhook_events.stats_of_webhook(id text, OUT total_dispatches bigint,
        OUT last_status webhook_events.dispatch_status, OUT last_finished_at timestamptz)
    RETURNS record
    LANGUAGE sql VOLATILE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $function$
    WITH entry AS MATERIALIZED (
        SELECT s.total_dispatches AS dispatches, s.last_dispatch_id, s.last_status,
            s.last_finished_at
        FROM webhook_events.webhook_stats AS s WHERE s.webhook_id = stats_of_webhook.id
        UNION ALL
        SELECT u.dispatches, u.last_dispatch_id, u.last_status, u.last_finished_at
        FROM webhook_events.webhook_stats_log AS l
            CROSS JOIN LATERAL unnest(l.webhook_ids, l.dispatches, l.last_dispatch_ids,
                l.last_statuses, l.last_finished_at)
                AS u (webhook_id, dispatches, last_dispatch_id, last_status, last_finished_at)
        WHERE u.webhook_id = stats_of_webhook.id
    ), visible AS (
        SELECT e.* FROM entry AS e
        WHERE EXISTS (SELECT FROM webhook_events.webhooks AS w
            WHERE w.id = stats_of_webhook.id AND webhook_events.may_see(w.user_id))
    )
    SELECT total.dispatches, newest.last_status, newest.last_finished_at
    FROM (SELECT coalesce(sum(v.dispatches), 0)::bigint AS dispatches FROM visible AS v) AS total
        LEFT JOIN (SELECT v.last_status, v.last_finished_at FROM visible AS v
            ORDER BY v.last_dispatch_id COLLATE "C" DESC, v.last_status <> 'ACTIVE' DESC
            LIMIT 1) AS newest ON true
$function$;
COMMENT ON FUNCTION webhook_events.stats_of_webhook(text) IS
    'how many dispatches a webhook had, and how the newest one stands';
REVOKE ALL ON FUNCTION webhook_events.stats_of_webhook(text) FROM PUBLIC;

-- Volatile, so that it sees what the same statement has just created.
CREATE FUNCTION webhook_events.webhook_json(id text) RETURNS jsonb
    LANGUAGE sql VOLATILE
    SET search_path = pg_catalog, pg_temp
AS $function$
    SELECT jsonb_build_object('id', w.id, 'createdAt', webhook_events.api_time(w.created_at),
        'modifiedAt', webhook_events.api_time(w.modified_at), 'userId', w.user_id,
        'isAdHoc', w.is_ad_hoc, 'shouldInterpolateStrings', w.should_interpolate_strings,
        'eventTypes', w.event_types,
        'condition', jsonb_build_object('actorId', w.actor_id,
            'actorTaskId', w.actor_task_id, 'actorRunId', w.actor_run_id),
        'ignoreSslErrors', w.ignore_ssl_errors, 'doNotRetry', w.do_not_retry,
        'requestUrl', w.request_url, 'payloadTemplate', w.payload_template,
        'headersTemplate', w.headers_template, 'description', w.description,
        'isEnabled', w.is_enabled,
        'lastDispatch', CASE WHEN s.last_status IS NOT NULL THEN jsonb_build_object(
            'status', s.last_status,
            'finishedAt', webhook_events.api_time(s.last_finished_at)) END,
        'stats', jsonb_build_object('totalDispatches', s.total_dispatches))
    FROM webhook_events.get_webhook(id) AS w
        CROSS JOIN LATERAL webhook_events.stats_of_webhook(w.id) AS s
$function$;
COMMENT ON FUNCTION webhook_events.webhook_json(text) IS
    'a webhook as a Webhook object of the platform''s API';
REVOKE ALL ON FUNCTION webhook_events.webhook_json(text) FROM PUBLIC;

CREATE FUNCTION webhook_events.dispatch_json(id text) RETURNS jsonb
    LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    result jsonb;
BEGIN
    SELECT jsonb_build_object('id', d.id, 'userId', d.user_id, 'webhookId', d.webhook_id,
        'createdAt', webhook_events.api_time(d.created_at), 'status', d.status,
        'eventType', d.event_type, 'eventData', e.event_data,
        'webhook', CASE WHEN w.id IS NOT NULL THEN jsonb_build_object(
            'requestUrl', w.request_url,
            'condition', jsonb_build_object('actorId', w.actor_id,
                'actorTaskId', w.actor_task_id, 'actorRunId', w.actor_run_id),
            'isAdHoc', w.is_ad_hoc, 'actionType', 'HTTP_REQUEST') END,
        'calls', coalesce((SELECT jsonb_agg(jsonb_build_object(
                'startedAt', webhook_events.api_time(c.started_at),
                'finishedAt', webhook_events.api_time(c.finished_at),
                'errorMessage', c.error_message, 'responseStatus', c.response_status,
                'responseBody', c.response_body) ORDER BY c.attempt)
            FROM webhook_events.calls AS c WHERE c.dispatch_id = d.id), '[]'))
    INTO result
    FROM webhook_events.dispatches AS d
        LEFT JOIN webhook_events.events AS e ON e.id = d.event_id
        LEFT JOIN webhook_events.webhooks AS w ON w.id = d.webhook_id
    WHERE d.id = dispatch_json.id;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'dispatch "%" does not exist', id USING ERRCODE = 'no_data_found';
    END IF;
    RETURN result;
END
$function$;
COMMENT ON FUNCTION webhook_events.dispatch_json(text) IS
    'a dispatch with its calls as a WebhookDispatch object of the platform''s API';
REVOKE ALL ON FUNCTION webhook_events.dispatch_json(text) FROM PUBLIC;

CREATE FUNCTION webhook_events.webhook_secret(id text) RETURNS text
    LANGUAGE sql VOLATILE
    SET search_path = pg_catalog, pg_temp
AS $function$
    SELECT w.secret FROM webhook_events.get_webhook(id) AS w
$function$;
COMMENT ON FUNCTION webhook_events.webhook_secret(text) IS
    'the secret that signs a webhook''s requests; NULL: they are not signed';
REVOKE ALL ON FUNCTION webhook_events.webhook_secret(text) FROM PUBLIC;

--
-- Audit
--

CREATE FUNCTION webhook_events.missing_events(since timestamptz, until timestamptz)
    RETURNS TABLE (relation regclass, resource_id text)
    LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    source record;
    resource_column text;
    finished text;
BEGIN
    FOR source IN SELECT s.relation, s.kind, s.columns FROM webhook_events.sources AS s LOOP
        resource_column := 'actor_' || source.kind || '_id';
        SELECT format(CASE a.atttypid WHEN 'timestamp'::regtype
                THEN '(r.%I AT TIME ZONE ''UTC'')' ELSE 'r.%I' END, a.attname)
        INTO finished FROM pg_attribute AS a
        WHERE a.attrelid = source.relation AND NOT a.attisdropped
            AND a.attname IN ('finished_at', 'finishedAt', 'ended_at', 'endedAt')
            AND a.atttypid IN ('timestamptz'::regtype, 'timestamp'::regtype)
        ORDER BY a.attnum LIMIT 1;
        -- A table that does not say when a row ended is asked about the rows
        -- that had an event in the span.
        RETURN QUERY EXECUTE format(
            'SELECT %L::regclass, r.%I::text FROM %s AS r'
            ' WHERE replace(r.%I::text, ''_'', ''-'')'
            '     IN (''SUCCEEDED'', ''FAILED'', ''ABORTED'', ''TIMED-OUT'') AND '
            || CASE WHEN finished IS NULL
                THEN 'r.%2$I::text IN (SELECT o.%5$I FROM webhook_events.outbox AS o'
                    ' WHERE o.id >= webhook_events.id_lower_bound($1)'
                    '     AND o.id < webhook_events.id_lower_bound($2))'
                ELSE '%6$s >= $1 AND %6$s < $2' END
            || ' AND NOT EXISTS (SELECT FROM webhook_events.outbox AS o'
            ' WHERE o.id >= webhook_events.id_lower_bound($1 - interval ''1 hour'')'
            '     AND o.%5$I = r.%2$I::text AND o.event_type::text'
            '         = ''ACTOR.%7$s.'' || replace(r.%4$I::text, ''-'', ''_''))',
            source.relation, source.columns ->> 'id', source.relation,
            source.columns ->> 'status', resource_column, finished, upper(source.kind))
        USING since, until;
    END LOOP;
END
$function$;
COMMENT ON FUNCTION webhook_events.missing_events(timestamptz, timestamptz) IS
    'rows of attached tables that ended in this span and have no event that says so';
REVOKE ALL ON FUNCTION webhook_events.missing_events(timestamptz, timestamptz) FROM PUBLIC;

CREATE FUNCTION webhook_events.missing_dispatches(since timestamptz, until timestamptz)
    RETURNS TABLE (event_id text, webhook_id text)
    LANGUAGE sql STABLE
    SET search_path = pg_catalog, pg_temp
AS $function$
    -- Who wanted what is known only of webhooks that are as they were then.
    WITH event AS MATERIALIZED (
        SELECT e.id, e.event_type, e.user_id, e.actor_id, e.actor_task_id, e.actor_run_id,
            e.created_at, e.xid, e.webhook_id
        FROM webhook_events.outbox AS e
        WHERE e.id >= webhook_events.id_lower_bound(since)
            AND e.id < webhook_events.id_lower_bound(until)
            AND e.id NOT IN (SELECT u.id FROM webhook_events.unrouted_events() AS u)
    ), webhook AS (
        SELECT w AS whole, w.* FROM webhook_events.webhooks AS w WHERE w.is_enabled
    ), pair AS (
        SELECT e.id AS event_id, w.id AS webhook_id FROM event AS e
            JOIN webhook AS w ON w.actor_run_id = e.actor_run_id
        UNION ALL
        SELECT e.id, w.id FROM event AS e
            JOIN webhook AS w ON w.actor_task_id = e.actor_task_id AND w.actor_run_id IS NULL
        UNION ALL
        SELECT e.id, w.id FROM event AS e
            JOIN webhook AS w ON w.actor_id = e.actor_id AND w.actor_task_id IS NULL
                AND w.actor_run_id IS NULL
        UNION ALL
        SELECT e.id, w.id FROM event AS e
            JOIN webhook AS w ON w.user_id = e.user_id AND w.actor_id IS NULL
                AND w.actor_task_id IS NULL AND w.actor_run_id IS NULL
        UNION ALL
        SELECT e.id, w.id FROM event AS e
            JOIN webhook AS w ON w.user_id IS NULL AND w.actor_id IS NULL
                AND w.actor_task_id IS NULL AND w.actor_run_id IS NULL
    )
    SELECT e.id, w.id
    FROM pair AS p JOIN event AS e ON e.id = p.event_id
        JOIN webhook AS w ON w.id = p.webhook_id
    WHERE e.webhook_id IS NULL
        AND (w.modified_at <= e.created_at
            OR w.created_xid = e.xid AND w.modified_at = w.created_at)
        AND webhook_events.refusal(w.whole, e.event_type, e.user_id, e.actor_id,
            e.actor_task_id, e.actor_run_id, e.created_at, e.xid) IS NULL
        AND NOT EXISTS (SELECT FROM webhook_events.dispatches AS d
            WHERE d.id = webhook_events.dispatch_id(e.id, w.id))
    UNION ALL
    SELECT e.id, e.webhook_id FROM event AS e
        JOIN webhook_events.webhooks AS w ON w.id = e.webhook_id
    WHERE NOT EXISTS (SELECT FROM webhook_events.dispatches AS d
        WHERE d.id = webhook_events.dispatch_id(e.id, e.webhook_id))
$function$;
COMMENT ON FUNCTION webhook_events.missing_dispatches(timestamptz, timestamptz) IS
    'events of this span that were routed without a dispatch that they should have';
REVOKE ALL ON FUNCTION webhook_events.missing_dispatches(timestamptz, timestamptz) FROM PUBLIC;

CREATE FUNCTION webhook_events.audit(since timestamptz, until timestamptz DEFAULT now())
    RETURNS TABLE (problem text, relation regclass, resource_id text, event_id text,
        webhook_id text)
    LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    retention interval;
    patience interval;
    first timestamptz;
BEGIN
    IF since IS NULL OR until IS NULL THEN
        RAISE EXCEPTION 'audit needs a time to start from and one to end at'
            USING ERRCODE = 'null_value_not_allowed';
    END IF;
    -- This loads the library, if the server has not; then its settings are there.
    PERFORM webhook_events.id_lower_bound(since);
    retention := current_setting('webhook_events.retention')::interval;
    patience := current_setting('webhook_events.request_timeout')::interval
        + interval '1 minute';
    first := CASE WHEN retention > interval '0' THEN greatest(since, now() - retention)
        ELSE since END;
    RETURN QUERY
        SELECT 'event is missing', m.relation, m.resource_id, NULL::text, NULL::text
        FROM webhook_events.missing_events(first, until) AS m;
    RETURN QUERY
        SELECT 'event waits to be routed', NULL::regclass,
            coalesce(e.actor_run_id, e.actor_build_id), e.id, NULL::text
        FROM webhook_events.unrouted_events() AS u
            JOIN webhook_events.outbox AS e ON e.id = u.id
        WHERE e.created_at >= first AND e.created_at < until
            AND e.created_at < clock_timestamp() - interval '1 minute';
    RETURN QUERY
        SELECT 'dispatch is missing', NULL::regclass,
            coalesce(e.actor_run_id, e.actor_build_id), e.id, m.webhook_id
        FROM webhook_events.missing_dispatches(first, until) AS m
            JOIN webhook_events.outbox AS e ON e.id = m.event_id;
    RETURN QUERY
        SELECT format('dispatch %s was due at %s', d.id, d.next_attempt_at), NULL::regclass,
            coalesce(e.actor_run_id, e.actor_build_id), d.event_id, d.webhook_id
        FROM webhook_events.dispatches AS d
            LEFT JOIN webhook_events.outbox AS e ON e.id = d.event_id
        WHERE d.status = 'ACTIVE' AND d.created_at >= first AND d.created_at < until
            AND d.next_attempt_at < clock_timestamp() - patience;
END
$function$;
COMMENT ON FUNCTION webhook_events.audit(timestamptz, timestamptz) IS
    'what is missing or late in a span of time; no row when all is well';
REVOKE ALL ON FUNCTION webhook_events.audit(timestamptz, timestamptz) FROM PUBLIC;

--
-- Who may do what
--
-- A session with the setting user_id sees and changes what is that user's.
-- Partitions need no policies: nobody is granted anything on them.  Policies and
-- views say what may_see() says without calling it, so that a plain GRANT on a
-- table is enough.
--

ALTER TABLE webhook_events.webhooks ENABLE ROW LEVEL SECURITY;
CREATE POLICY user_id ON webhook_events.webhooks
    USING ((pg_catalog.current_setting('webhook_events.user_id', true) <> '') IS NOT TRUE
        OR user_id = pg_catalog.current_setting('webhook_events.user_id', true));

ALTER TABLE webhook_events.outbox ENABLE ROW LEVEL SECURITY;
CREATE POLICY user_id ON webhook_events.outbox FOR SELECT
    USING ((pg_catalog.current_setting('webhook_events.user_id', true) <> '') IS NOT TRUE
        OR user_id = pg_catalog.current_setting('webhook_events.user_id', true));

ALTER TABLE webhook_events.dispatches ENABLE ROW LEVEL SECURITY;
CREATE POLICY user_id ON webhook_events.dispatches FOR SELECT
    USING ((pg_catalog.current_setting('webhook_events.user_id', true) <> '') IS NOT TRUE
        OR user_id = pg_catalog.current_setting('webhook_events.user_id', true));
ALTER TABLE webhook_events.calls ENABLE ROW LEVEL SECURITY;
CREATE POLICY user_id ON webhook_events.calls FOR SELECT
    USING (EXISTS (SELECT FROM webhook_events.dispatches AS d WHERE d.id = dispatch_id));

CREATE VIEW webhook_events.webhooks_masked WITH (security_barrier = true) AS
    SELECT id, user_id, is_enabled, is_ad_hoc, event_types, actor_id, actor_task_id,
        actor_run_id, pg_catalog.regexp_replace(pg_catalog.regexp_replace(request_url,
            '^([A-Za-z]+://)[^/?#]*@', '\1***@'), '[?#].*$', '?***') AS request_url,
        should_interpolate_strings, ignore_ssl_errors, do_not_retry, description, max_rate,
        disabled_reason, is_retired, created_at, modified_at
    FROM webhook_events.webhooks
    WHERE (pg_catalog.current_setting('webhook_events.user_id', true) <> '') IS NOT TRUE
        OR user_id = pg_catalog.current_setting('webhook_events.user_id', true);
COMMENT ON VIEW webhook_events.webhooks_masked IS
    'webhooks without templates, secrets, credentials and queries, for readers';

CREATE FUNCTION webhook_events.grant_access(role regrole, access text) RETURNS void
    LANGUAGE plpgsql VOLATILE STRICT
    SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    reads constant text[] := ARRAY['id_time(text)', 'id_lower_bound(timestamptz)',
        'dispatch_id(text, text)', 'api_time(timestamptz)'];
    manages constant text[] := reads || ARRAY['may_see(text)', 'new_id()', 'new_secret()', 'new_webhook()',
        'insert_webhook(webhook_events.webhooks)', 'find_webhook(text)', 'get_webhook(text)',
        'definition_value(jsonb, text, text)',
        'apply_definition(webhook_events.webhooks, jsonb)',
        'create_webhook(text, webhook_events.event_type[], text, text, text, text, text, text,'
            ' boolean, boolean, boolean, boolean, text, text, boolean)',
        'create_webhook(jsonb)', 'update_webhook(text, jsonb)', 'enable_webhook(text)',
        'disable_webhook(text)', 'delete_webhook(text)',
        'create_ad_hoc_webhooks(text, jsonb, text)', 'create_ad_hoc_webhooks(text, text, text)',
        'set_max_rate(text, double precision)', 'set_secret(text, text, interval)',
        'rotate_secret(text, interval)', 'webhook_secret(text)',
        'refusal(webhook_events.webhooks, webhook_events.event_type, text, text, text, text,'
            ' timestamptz, xid8, text)',
        'build_request(webhook_events.webhooks, text)', 'preview(text, text)',
        'explain_event(text)', 'backtest(text, timestamptz, timestamptz)',
        'source_event(regclass, text, text)', 'source_mapping(oid, bytea)',
        'raise_test(text, text, text, text, text, text, json)', 'test_webhook(text, text)',
        'redeliver(text)', 'unrouted_events()', 'queue_dispatches(text, text[], timestamptz)',
        'replay(text, timestamptz, timestamptz, webhook_events.event_type[], boolean)',
        'wake_worker()', 'stats_of_webhook(text)', 'webhook_json(text)', 'dispatch_json(text)'];
    signature text;
BEGIN
    IF access NOT IN ('reader', 'manager') THEN
        RAISE EXCEPTION 'access "%" is neither "reader" nor "manager"', access
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    EXECUTE format('GRANT USAGE ON SCHEMA webhook_events TO %s', role);
    EXECUTE format('GRANT SELECT ON webhook_events.webhooks_masked, webhook_events.outbox,'
        ' webhook_events.events, webhook_events.dispatches, webhook_events.calls TO %s', role);
    IF access = 'manager' THEN
        EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON webhook_events.webhooks TO %s',
            role);
        EXECUTE format('GRANT SELECT ON webhook_events.sources TO %s', role);
    END IF;
    FOREACH signature IN ARRAY CASE access WHEN 'reader' THEN reads ELSE manages END LOOP
        EXECUTE format('GRANT EXECUTE ON FUNCTION webhook_events.%s TO %s', signature, role);
    END LOOP;
END
$function$;
COMMENT ON FUNCTION webhook_events.grant_access(regrole, text) IS
    'grants a role what a reader or a manager of webhooks needs';
REVOKE ALL ON FUNCTION webhook_events.grant_access(regrole, text) FROM PUBLIC;

CREATE FUNCTION webhook_events.announce() RETURNS void
    LANGUAGE c VOLATILE
    AS 'MODULE_PATHNAME', 'webhook_events_announce';
COMMENT ON FUNCTION webhook_events.announce() IS
    'tells the launcher, at commit, that this database has the extension';
REVOKE ALL ON FUNCTION webhook_events.announce() FROM PUBLIC;
SELECT webhook_events.announce();
