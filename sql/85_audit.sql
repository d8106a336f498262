--
-- Audit
--

CREATE FUNCTION webhook_events_internal.read_as_owner(relation regclass, query text,
        since timestamptz, until timestamptz, ids text[])
    RETURNS TABLE (resource_id text, status text)
    LANGUAGE c STABLE STRICT
    SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'webhook_events_read_as_owner';
COMMENT ON FUNCTION webhook_events_internal.read_as_owner(regclass, text, timestamptz, timestamptz, text[]) IS
    'what a query about an attached table returns, run as that table''s owner';
REVOKE ALL ON FUNCTION webhook_events_internal.read_as_owner(regclass, text, timestamptz, timestamptz, text[])
    FROM PUBLIC;

CREATE FUNCTION webhook_events_internal.missing_events(since timestamptz, until timestamptz)
    RETURNS TABLE (relation regclass, resource_id text)
    LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    source record;
    finished text;
    ids text[];
BEGIN
    FOR source IN SELECT s.relation, s.kind, s.columns FROM webhook_events.sources AS s LOOP
        SELECT format(CASE a.atttypid WHEN 'timestamp'::regtype
                THEN '(r.%I AT TIME ZONE ''UTC'')' ELSE 'r.%I' END, a.attname)
        INTO finished FROM pg_attribute AS a
        WHERE a.attrelid = source.relation AND NOT a.attisdropped
            AND a.attname IN ('finished_at', 'finishedAt', 'ended_at', 'endedAt')
            AND a.atttypid IN ('timestamptz'::regtype, 'timestamp'::regtype)
        ORDER BY a.attnum LIMIT 1;
        -- A table that does not say when a row ended is asked about the rows
        -- that had an event in the span.
        ids := CASE WHEN finished IS NULL THEN ARRAY(
            SELECT DISTINCT CASE source.kind WHEN 'run' THEN o.actor_run_id ELSE o.actor_build_id END
            FROM webhook_events_internal.outbox AS o
            WHERE o.id >= webhook_events.id_lower_bound(since)
                AND o.id < webhook_events.id_lower_bound(until)) ELSE '{}' END;
        RETURN QUERY
            SELECT source.relation, r.resource_id
            FROM webhook_events_internal.read_as_owner(source.relation, format(
                'SELECT r.%I::text, replace(r.%I::text, ''-'', ''_'') FROM %s AS r'
                ' WHERE replace(r.%2$I::text, ''_'', ''-'')'
                '     IN (''SUCCEEDED'', ''FAILED'', ''ABORTED'', ''TIMED-OUT'') AND %4$s',
                source.columns ->> 'id', source.columns ->> 'status', source.relation,
                CASE WHEN finished IS NULL
                    THEN format('r.%I::text = ANY ($3)', source.columns ->> 'id')
                    ELSE format('%1$s >= $1 AND %1$s < $2', finished) END),
                since, until, ids) AS r
            WHERE NOT EXISTS (SELECT FROM webhook_events_internal.outbox AS o
                WHERE o.id >= webhook_events.id_lower_bound(since - interval '1 hour')
                    AND r.resource_id = CASE source.kind WHEN 'run' THEN o.actor_run_id
                        ELSE o.actor_build_id END
                    AND o.event_type::text = format('ACTOR.%s.%s', upper(source.kind), r.status));
    END LOOP;
END
$function$;
COMMENT ON FUNCTION webhook_events_internal.missing_events(timestamptz, timestamptz) IS
    'rows of attached tables that ended in this span and have no event that says so';
REVOKE ALL ON FUNCTION webhook_events_internal.missing_events(timestamptz, timestamptz) FROM PUBLIC;

CREATE FUNCTION webhook_events_internal.missing_dispatches(since timestamptz, until timestamptz)
    RETURNS TABLE (event_id text, webhook_id text)
    LANGUAGE sql STABLE
    SET search_path = pg_catalog, pg_temp
AS $function$
    -- Who wanted what is known only of webhooks that are as they were then.
    WITH event AS MATERIALIZED (
        SELECT e.id, e.event_type, e.user_id, e.actor_id, e.actor_task_id, e.actor_run_id,
            e.created_at, e.xid, e.webhook_id
        FROM webhook_events_internal.outbox AS e
        WHERE e.id >= webhook_events.id_lower_bound(since)
            AND e.id < webhook_events.id_lower_bound(until)
            AND e.id NOT IN (SELECT u.id FROM webhook_events_internal.unrouted_events() AS u)
    ), webhook AS (
        SELECT w AS whole, w.* FROM webhook_events_internal.webhooks AS w WHERE w.is_enabled
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
        AND (w.modified_at <= e.created_at OR w.modified_at = w.created_at)
        AND webhook_events_internal.refusal(w.whole, e.event_type, e.user_id, e.actor_id,
            e.actor_task_id, e.actor_run_id, e.created_at, e.xid) IS NULL
        AND NOT EXISTS (SELECT FROM webhook_events_internal.dispatches AS d
            WHERE d.id = webhook_events_internal.dispatch_id(e.id, w.id))
    UNION ALL
    SELECT e.id, e.webhook_id FROM event AS e
        JOIN webhook_events_internal.webhooks AS w ON w.id = e.webhook_id
    WHERE NOT EXISTS (SELECT FROM webhook_events_internal.dispatches AS d
        WHERE d.id = webhook_events_internal.dispatch_id(e.id, e.webhook_id))
$function$;
COMMENT ON FUNCTION webhook_events_internal.missing_dispatches(timestamptz, timestamptz) IS
    'events of this span that were routed without a dispatch that they should have';
REVOKE ALL ON FUNCTION webhook_events_internal.missing_dispatches(timestamptz, timestamptz) FROM PUBLIC;

CREATE FUNCTION webhook_events_internal.audit(since timestamptz, until timestamptz DEFAULT now())
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
    -- It tells of everybody's rows.
    IF NOT webhook_events_internal.sees_all(false) THEN
        RAISE EXCEPTION 'audit is for those who see everybody''s events'
            USING ERRCODE = 'insufficient_privilege';
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
        FROM webhook_events_internal.missing_events(first, until) AS m;
    RETURN QUERY
        SELECT 'event waits to be routed', NULL::regclass,
            coalesce(e.actor_run_id, e.actor_build_id), e.id, NULL::text
        FROM webhook_events_internal.unrouted_events() AS u
            JOIN webhook_events_internal.outbox AS e ON e.id = u.id
        WHERE e.created_at >= first AND e.created_at < until
            AND e.created_at < clock_timestamp() - interval '1 minute';
    RETURN QUERY
        SELECT 'dispatch is missing', NULL::regclass,
            coalesce(e.actor_run_id, e.actor_build_id), e.id, m.webhook_id
        FROM webhook_events_internal.missing_dispatches(first, until) AS m
            JOIN webhook_events_internal.outbox AS e ON e.id = m.event_id;
    RETURN QUERY
        SELECT format('dispatch %s was due at %s', d.id, d.next_attempt_at), NULL::regclass,
            coalesce(e.actor_run_id, e.actor_build_id), d.event_id, d.webhook_id
        FROM webhook_events_internal.dispatches AS d
            LEFT JOIN webhook_events_internal.outbox AS e ON e.id = d.event_id
        WHERE d.status = 'ACTIVE' AND d.created_at >= first AND d.created_at < until
            AND d.next_attempt_at < webhook_events_internal.work_time() - patience;
END
$function$;
COMMENT ON FUNCTION webhook_events_internal.audit(timestamptz, timestamptz) IS
    'what is missing or late in a span of time; no row when all is well';
REVOKE ALL ON FUNCTION webhook_events_internal.audit(timestamptz, timestamptz) FROM PUBLIC;

