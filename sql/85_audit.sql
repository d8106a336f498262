--
-- Audit
--

CREATE FUNCTION webhook_events_internal.missing_events(since timestamptz, until timestamptz)
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
                THEN 'r.%2$I::text IN (SELECT o.%5$I FROM webhook_events_internal.outbox AS o'
                    ' WHERE o.id >= webhook_events.id_lower_bound($1)'
                    '     AND o.id < webhook_events.id_lower_bound($2))'
                ELSE '%6$s >= $1 AND %6$s < $2' END
            || ' AND NOT EXISTS (SELECT FROM webhook_events_internal.outbox AS o'
            ' WHERE o.id >= webhook_events.id_lower_bound($1 - interval ''1 hour'')'
            '     AND o.%5$I = r.%2$I::text AND o.event_type::text'
            '         = ''ACTOR.%7$s.'' || replace(r.%4$I::text, ''-'', ''_''))',
            source.relation, source.columns ->> 'id', source.relation,
            source.columns ->> 'status', resource_column, finished, upper(source.kind))
        USING since, until;
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
        AND (w.modified_at <= e.created_at
            OR w.created_xid = e.xid AND w.modified_at = w.created_at)
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
            AND d.next_attempt_at < clock_timestamp() - patience;
END
$function$;
COMMENT ON FUNCTION webhook_events_internal.audit(timestamptz, timestamptz) IS
    'what is missing or late in a span of time; no row when all is well';
REVOKE ALL ON FUNCTION webhook_events_internal.audit(timestamptz, timestamptz) FROM PUBLIC;

