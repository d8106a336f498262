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
        -- Each is looked up, however few transactions the planner knows of.
        SELECT o.id, o.created_at, o.xid FROM place
            CROSS JOIN LATERAL pg_snapshot_xip(place.seen) AS late (xid)
            CROSS JOIN LATERAL (SELECT e.id, e.created_at, e.xid
                FROM webhook_events_internal.outbox AS e WHERE e.xid = late.xid OFFSET 0) AS o
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

-- What attach() has put on tables and is not in force any more.
CREATE FUNCTION webhook_events_internal.broken_tables() RETURNS text[]
    LANGUAGE c STABLE STRICT
    AS 'MODULE_PATHNAME', 'webhook_events_broken_tables';
COMMENT ON FUNCTION webhook_events_internal.broken_tables() IS
    'attached tables that lack a trigger or have one that is disabled, and what inherits from one and is not attached';
REVOKE ALL ON FUNCTION webhook_events_internal.broken_tables() FROM PUBLIC;

-- Who raises no events because of the configuration, ALTER DATABASE or ALTER ROLE.
CREATE FUNCTION webhook_events_internal.emit_off() RETURNS text[]
    LANGUAGE c STABLE STRICT
    AS 'MODULE_PATHNAME', 'webhook_events_emit_off';
COMMENT ON FUNCTION webhook_events_internal.emit_off() IS
    'the databases and roles whose settings let them raise no events: emit off, or triggers that do not fire';
REVOKE ALL ON FUNCTION webhook_events_internal.emit_off() FROM PUBLIC;

CREATE FUNCTION webhook_events_internal.lost_accesses() RETURNS text[]
    LANGUAGE c STABLE STRICT
    AS 'MODULE_PATHNAME', 'webhook_events_lost_accesses';
COMMENT ON FUNCTION webhook_events_internal.lost_accesses() IS
    'roles that may query what an access opens but have none, as in a restored copy: they see nothing';
REVOKE ALL ON FUNCTION webhook_events_internal.lost_accesses() FROM PUBLIC;

CREATE FUNCTION webhook_events_internal.status(OUT running boolean, OUT reason text,
        OUT worker_pid integer, OUT started_at timestamptz, OUT events_waiting bigint,
        OUT oldest_event_at timestamptz, OUT lag_seconds numeric,
        OUT dispatches_active bigint, OUT in_flight integer, OUT delivered bigint,
        OUT failed bigint, OUT last_error text, OUT last_error_at timestamptz,
        OUT oldest_due_at timestamptz, OUT delivery_lag_seconds numeric,
        OUT failed_calls bigint, OUT failing_webhooks bigint, OUT resting_hosts bigint,
        OUT broken_tables text[], OUT emit_off text[], OUT unreadable_files text[],
        OUT subscriptions_down text[], OUT troubles text[],
        OUT maintenance_at timestamptz, OUT maintenance_error text,
        OUT oldest_dispatch_at timestamptz, OUT held_webhooks bigint,
        OUT problem_events bigint, OUT routing_behind_since timestamptz,
        OUT delivery_behind_since timestamptz, OUT maintenance_did text,
        OUT lost_accesses text[], OUT held_dispatches bigint, OUT held_since timestamptz,
        OUT full_shares text[], OUT calls_cut_short bigint, OUT left_out bigint,
        OUT subscriptions jsonb) RETURNS record
    LANGUAGE c VOLATILE STRICT
    AS 'MODULE_PATHNAME', 'webhook_events_status';
COMMENT ON FUNCTION webhook_events_internal.status() IS
    'whether events of this database are delivered, and if not, why';
REVOKE ALL ON FUNCTION webhook_events_internal.status() FROM PUBLIC;
