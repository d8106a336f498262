--
-- Status
--

CREATE FUNCTION webhook_events_internal.worker_report(OUT running boolean, OUT reason text,
        OUT worker_pid integer, OUT started_at timestamptz, OUT in_flight integer,
        OUT delivered bigint, OUT failed bigint, OUT last_error text,
        OUT last_error_at timestamptz) RETURNS record
    LANGUAGE c VOLATILE STRICT
    AS 'MODULE_PATHNAME', 'webhook_events_worker_report';
COMMENT ON FUNCTION webhook_events_internal.worker_report() IS
    'what the server knows about the worker of this database';
REVOKE ALL ON FUNCTION webhook_events_internal.worker_report() FROM PUBLIC;

CREATE FUNCTION webhook_events_internal.days_report(OUT looked_at timestamptz,
        OUT error text) RETURNS record
    LANGUAGE c VOLATILE STRICT
    AS 'MODULE_PATHNAME', 'webhook_events_days_report';
COMMENT ON FUNCTION webhook_events_internal.days_report() IS
    'when the tables of days were looked after last, and what was in the way; it is tried again';
REVOKE ALL ON FUNCTION webhook_events_internal.days_report() FROM PUBLIC;

CREATE FUNCTION webhook_events_internal.look_after_days() RETURNS void
    LANGUAGE c VOLATILE STRICT
    AS 'MODULE_PATHNAME', 'webhook_events_look_after_days';
COMMENT ON FUNCTION webhook_events_internal.look_after_days() IS
    'has the tables of days looked after now, and not within the hour';
REVOKE ALL ON FUNCTION webhook_events_internal.look_after_days() FROM PUBLIC;

CREATE FUNCTION webhook_events_internal.worker_troubles()
    RETURNS TABLE (what text, since timestamptz, error text)
    LANGUAGE c VOLATILE STRICT
    AS 'MODULE_PATHNAME', 'webhook_events_worker_troubles';
COMMENT ON FUNCTION webhook_events_internal.worker_troubles() IS
    'what keeps failing in the worker of this database, which goes on all the same';
REVOKE ALL ON FUNCTION webhook_events_internal.worker_troubles() FROM PUBLIC;

CREATE FUNCTION webhook_events_internal.unrouted_events() RETURNS TABLE (id text, created_at timestamptz)
    LANGUAGE sql STABLE ROWS 100
    SET search_path = pg_catalog, pg_temp
    SET enable_seqscan = off
    SET enable_hashjoin = off
    SET enable_mergejoin = off
AS $function$
    WITH cursor AS MATERIALIZED (
        SELECT coalesce(window_from, '1:1:'::pg_snapshot) AS window_from, window_to,
            position_xid, position_id
        FROM webhook_events_internal.cursors ORDER BY number DESC LIMIT 1
    ), place AS MATERIALIZED (
        SELECT window_from, window_to, position_xid, position_id,
            CASE WHEN position_xid IS NULL THEN window_to ELSE window_from END AS seen
        FROM cursor
        UNION ALL
        SELECT '1:1:', '1:1:', NULL, NULL, '1:1:'
        WHERE NOT EXISTS (SELECT FROM cursor)
    ), waiting AS (
        SELECT o.id, o.created_at, o.xid FROM place CROSS JOIN webhook_events_internal.outbox AS o
        WHERE o.xid >= pg_snapshot_xmax(place.seen)
        UNION ALL
        SELECT o.id, o.created_at, o.xid FROM place
            CROSS JOIN LATERAL pg_snapshot_xip(place.seen) AS late (xid)
            JOIN webhook_events_internal.outbox AS o ON o.xid = late.xid
    )
    SELECT w.id, w.created_at FROM waiting AS w CROSS JOIN place
    WHERE place.position_xid IS NULL
        OR NOT pg_visible_in_snapshot(w.xid, place.window_to)
        OR (w.xid, w.id) > (place.position_xid, place.position_id)
$function$;
COMMENT ON FUNCTION webhook_events_internal.unrouted_events() IS
    'events that were not routed yet';
REVOKE ALL ON FUNCTION webhook_events_internal.unrouted_events() FROM PUBLIC;

CREATE FUNCTION webhook_events_internal.waiting_events(OUT events bigint, OUT oldest_at timestamptz)
    RETURNS record
    LANGUAGE sql STABLE
    SET search_path = pg_catalog, pg_temp
AS $function$
    SELECT count(*), min(created_at) FROM webhook_events_internal.unrouted_events()
$function$;
COMMENT ON FUNCTION webhook_events_internal.waiting_events() IS
    'how many events were not routed yet, and the oldest of them';
REVOKE ALL ON FUNCTION webhook_events_internal.waiting_events() FROM PUBLIC;

CREATE FUNCTION webhook_events_internal.least_new_id(xid xid8) RETURNS text
    LANGUAGE c VOLATILE STRICT
    AS 'MODULE_PATHNAME', 'webhook_events_least_new_id';
COMMENT ON FUNCTION webhook_events_internal.least_new_id(xid8) IS
    'no event of transactions from this one on has an id below the one that is returned';
REVOKE ALL ON FUNCTION webhook_events_internal.least_new_id(xid8) FROM PUBLIC;

CREATE FUNCTION webhook_events_internal.oldest_active_id() RETURNS text
    LANGUAGE c VOLATILE STRICT
    AS 'MODULE_PATHNAME', 'webhook_events_oldest_active_id';
COMMENT ON FUNCTION webhook_events_internal.oldest_active_id() IS
    'no dispatch that waits has an id below the one that is returned';
REVOKE ALL ON FUNCTION webhook_events_internal.oldest_active_id() FROM PUBLIC;

CREATE FUNCTION webhook_events_internal.unreadable_files() RETURNS text[]
    LANGUAGE c VOLATILE STRICT
    AS 'MODULE_PATHNAME', 'webhook_events_unreadable_files';
COMMENT ON FUNCTION webhook_events_internal.unreadable_files() IS
    'the settings that name files which the server can''t read, and why';
REVOKE ALL ON FUNCTION webhook_events_internal.unreadable_files() FROM PUBLIC;

-- What attach() has put on tables and is not in force any more.
CREATE FUNCTION webhook_events_internal.broken_tables() RETURNS text[]
    LANGUAGE sql STABLE
    SET search_path = pg_catalog, pg_temp
AS $function$
    WITH ours AS MATERIALIZED (
        SELECT t.tgrelid, t.tgtype, t.tgenabled, t.tgname, t.tgargs, t.tgparentid
        FROM pg_trigger AS t
        WHERE t.tgfoid IN ('webhook_events.run_changed()'::regprocedure,
            'webhook_events.build_changed()'::regprocedure) AND t.tgnargs = 1
    ), source AS (
        SELECT o.tgrelid AS oid FROM ours AS o WHERE o.tgparentid = 0
        UNION
        SELECT c.oid FROM webhook_events_internal.attached AS a
            JOIN pg_namespace AS n ON n.nspname = a.schema_name
            JOIN pg_class AS c ON c.relnamespace = n.oid AND c.relname = a.table_name
        WHERE c.relkind IN ('r', 'p')
    ), wanted AS (
        SELECT c.oid, w.operation, w.tgtype
        FROM source AS s JOIN pg_class AS c ON c.oid = s.oid
            CROSS JOIN LATERAL (VALUES ('INSERT', 5), ('UPDATE', 17),
                (CASE WHEN c.relkind = 'p' OR c.relispartition THEN 'DELETE' END, 9))
                AS w (operation, tgtype)
        WHERE w.operation IS NOT NULL
    )
    SELECT array_agg(b.problem ORDER BY b.problem) FROM (
        SELECT format('%s: no trigger raises its events any more', s.oid::regclass) AS problem
        FROM source AS s WHERE NOT EXISTS (SELECT FROM ours AS o WHERE o.tgrelid = s.oid)
        UNION ALL
        SELECT format('%s: trigger for %s is missing', w.oid::regclass, w.operation)
        FROM wanted AS w
        WHERE EXISTS (SELECT FROM ours AS o WHERE o.tgrelid = w.oid)
            AND NOT EXISTS (SELECT FROM ours AS o WHERE o.tgrelid = w.oid AND o.tgtype = w.tgtype)
        UNION ALL
        SELECT format('%s: trigger %s is disabled', o.tgrelid::regclass, o.tgname)
        FROM ours AS o WHERE o.tgenabled = 'D'
        UNION ALL
        SELECT format('%s: %s', o.tgrelid::regclass, g.problem)
        FROM ours AS o CROSS JOIN LATERAL jsonb_array_elements_text(
            webhook_events_internal.source_mapping(o.tgrelid, o.tgargs) -> 'gone') AS g (problem)
        WHERE o.tgtype = 5 AND o.tgparentid = 0) AS b
$function$;
COMMENT ON FUNCTION webhook_events_internal.broken_tables() IS
    'attached tables that lack a trigger or have one that is disabled';
REVOKE ALL ON FUNCTION webhook_events_internal.broken_tables() FROM PUBLIC;

-- Who raises no events because of ALTER DATABASE or ALTER ROLE.
CREATE FUNCTION webhook_events_internal.emit_off() RETURNS text[]
    LANGUAGE sql STABLE
    SET search_path = pg_catalog, pg_temp
AS $function$
    SELECT array_agg(concat_ws(', ', 'database ' || quote_ident(d.datname),
        'role ' || quote_ident(r.rolname)))
    FROM pg_db_role_setting AS s LEFT JOIN pg_database AS d ON d.oid = s.setdatabase
        LEFT JOIN pg_roles AS r ON r.oid = s.setrole
    WHERE s.setdatabase IN (0, (SELECT o.oid FROM pg_database AS o
            WHERE o.datname = current_database()))
        AND EXISTS (SELECT FROM unnest(s.setconfig) AS c (setting)
            WHERE lower(c.setting) IN ('webhook_events.emit=off', 'webhook_events.emit=false',
                'webhook_events.emit=no', 'webhook_events.emit=0'))
$function$;
COMMENT ON FUNCTION webhook_events_internal.emit_off() IS
    'the databases and roles for which webhook_events.emit is set to off';
REVOKE ALL ON FUNCTION webhook_events_internal.emit_off() FROM PUBLIC;

-- Queries are put together with the bounds on ids in them, so that they are planned
-- for the few days in which there can be something, and not for a year.
CREATE FUNCTION webhook_events_internal.queue_report(OUT events bigint, OUT oldest_event_at timestamptz,
        OUT dispatches bigint, OUT oldest_due_at timestamptz) RETURNS record
    LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp
    SET enable_seqscan = off
    SET jit = off
AS $function$
DECLARE
    most constant integer := 100000;
    place record;
    seen pg_snapshot := '1:1:';
    late xid8[];
    bound text;
BEGIN
    SELECT c.window_from, c.window_to, c.position_xid, c.position_id INTO place
    FROM webhook_events_internal.cursors AS c ORDER BY c.number DESC LIMIT 1;
    IF FOUND THEN
        seen := coalesce(CASE WHEN place.position_xid IS NULL THEN place.window_to
            ELSE place.window_from END, seen);
    END IF;
    IF pg_snapshot_xmin(seen) < pg_snapshot_xmax(seen) THEN
        SELECT array_agg(x.xid) INTO late FROM pg_snapshot_xip(seen) AS x (xid)
        WHERE pg_visible_in_snapshot(x.xid, pg_current_snapshot());
    END IF;
    IF late IS NULL AND pg_snapshot_xmax(pg_current_snapshot()) = pg_snapshot_xmax(seen) THEN
        events := 0;
    ELSE
        bound := webhook_events_internal.least_new_id(pg_snapshot_xmin(seen));
        EXECUTE format('SELECT count(*), min(w.created_at) FROM ('
            'SELECT o.created_at FROM ('
            'SELECT o.xid, o.id, o.created_at FROM webhook_events_internal.outbox AS o'
            ' WHERE o.xid >= $1 AND o.id >= %1$L'
            || CASE WHEN late IS NOT NULL
                THEN ' UNION ALL SELECT o.xid, o.id, o.created_at'
                    ' FROM webhook_events_internal.outbox AS o'
                    ' WHERE o.xid = ANY ($2) AND o.id >= %1$L' ELSE '' END
            || ') AS o'
            || CASE WHEN place.position_xid IS NOT NULL
                THEN ' WHERE NOT pg_visible_in_snapshot(o.xid, $3) OR (o.xid, o.id) > ($4, $5)'
                ELSE '' END
            || ' LIMIT %2$s) AS w', bound, most)
        INTO events, oldest_event_at
        USING pg_snapshot_xmax(seen), late, place.window_to, place.position_xid, place.position_id;
    END IF;
    EXECUTE format('SELECT count(*), nullif(min(w.next_attempt_at), ''infinity'') FROM ('
        'SELECT d.next_attempt_at FROM webhook_events_internal.dispatches AS d'
        ' WHERE d.status = ''ACTIVE'' AND d.id >= %L LIMIT %s) AS w',
        webhook_events_internal.oldest_active_id(), most)
    INTO dispatches, oldest_due_at;
END
$function$;
COMMENT ON FUNCTION webhook_events_internal.queue_report() IS
    'how many events wait to be routed and dispatches to be delivered, up to 100,000, and the oldest';
REVOKE ALL ON FUNCTION webhook_events_internal.queue_report() FROM PUBLIC;

CREATE FUNCTION webhook_events_internal.status(OUT running boolean, OUT reason text,
        OUT worker_pid integer, OUT started_at timestamptz, OUT events_waiting bigint,
        OUT oldest_event_at timestamptz, OUT lag_seconds numeric,
        OUT dispatches_active bigint, OUT in_flight integer, OUT delivered bigint,
        OUT failed bigint, OUT last_error text, OUT last_error_at timestamptz,
        OUT oldest_due_at timestamptz, OUT delivery_lag_seconds numeric,
        OUT failed_calls bigint, OUT failing_webhooks bigint, OUT resting_hosts bigint,
        OUT broken_tables text[], OUT emit_off text[], OUT unreadable_files text[],
        OUT subscriptions_down text[], OUT troubles text[],
        OUT maintenance_at timestamptz, OUT maintenance_error text) RETURNS record
    LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp
    SET enable_seqscan = off
    SET jit = off
AS $function$
DECLARE
    pause record;
    tally bigint[];
BEGIN
    SELECT r.* INTO running, reason, worker_pid, started_at, in_flight, delivered, failed,
        last_error, last_error_at
    FROM webhook_events_internal.worker_report() AS r;
    IF reason = 'paused' THEN
        SELECT p.* INTO pause FROM webhook_events_internal.pauses AS p ORDER BY p.paused_at LIMIT 1;
        IF FOUND THEN
            reason := concat('paused since ', pause.paused_at, ': ' || pause.reason);
        END IF;
    END IF;
    SELECT q.* INTO events_waiting, oldest_event_at, dispatches_active, oldest_due_at
    FROM webhook_events_internal.queue_report() AS q;
    lag_seconds := coalesce(round(extract(epoch FROM clock_timestamp() - oldest_event_at), 3), 0);
    delivery_lag_seconds := coalesce(greatest(round(extract(
        epoch FROM clock_timestamp() - oldest_due_at), 3), 0), 0);
    tally := webhook_events_internal.live_tally();
    failed_calls := coalesce(tally[4] - tally[6], 0);
    SELECT count(*) INTO failing_webhooks FROM (
        SELECT FROM webhook_events_internal.webhook_stats AS s
        WHERE s.failing_since IS NOT NULL LIMIT 10000) AS f;
    SELECT count(*) INTO resting_hosts FROM webhook_events_internal.live_hosts() AS h
    WHERE h.rests_until IS NOT NULL OR h.is_probed;
    broken_tables := webhook_events_internal.broken_tables();
    emit_off := webhook_events_internal.emit_off();
    unreadable_files := webhook_events_internal.unreadable_files();
    IF EXISTS (SELECT FROM pg_subscription) THEN
        SELECT array_agg(s.subname::text ORDER BY s.subname) INTO subscriptions_down
        FROM pg_subscription AS s
        WHERE s.subenabled AND s.subdbid = (SELECT o.oid FROM pg_database AS o
                WHERE o.datname = current_database())
            AND NOT EXISTS (SELECT FROM pg_stat_subscription AS t
                WHERE t.subid = s.oid AND t.relid IS NULL AND t.pid IS NOT NULL);
    END IF;
    SELECT array_agg(format('%s fails since %s: %s', t.what, t.since, t.error)) INTO troubles
    FROM webhook_events_internal.worker_troubles() AS t;
    SELECT d.* INTO maintenance_at, maintenance_error
    FROM webhook_events_internal.days_report() AS d;
END
$function$;
COMMENT ON FUNCTION webhook_events_internal.status() IS
    'whether events of this database are delivered, and if not, why';
REVOKE ALL ON FUNCTION webhook_events_internal.status() FROM PUBLIC;
