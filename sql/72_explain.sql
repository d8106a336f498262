
--
-- The story of one run or build
--

CREATE FUNCTION webhook_events_internal.nearly(a text, b text) RETURNS boolean
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'webhook_events_nearly';
COMMENT ON FUNCTION webhook_events_internal.nearly(text, text) IS
    'do two ids differ, but by one letter alone or by upper and lower case?';
REVOKE ALL ON FUNCTION webhook_events_internal.nearly(text, text) FROM PUBLIC;

-- Why the row of a run or build has raised no event that tells of its status.
CREATE FUNCTION webhook_events_internal.why_no_event(relation regclass, kind text, status text,
        has_created boolean) RETURNS text
    LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    normal text := replace(status, '_', '-');
    broken text;
    off text;
BEGIN
    IF status IS NULL THEN
        RETURN 'the status is null, which raises nothing';
    END IF;
    IF normal NOT IN ('READY', 'RUNNING', 'TIMING-OUT', 'ABORTING', 'SUCCEEDED', 'FAILED',
        'TIMED-OUT', 'ABORTED')
    THEN
        RETURN format('status %s is none of the platform''s, so it raises nothing', status);
    END IF;
    SELECT b.problem INTO broken
    FROM unnest(webhook_events_internal.broken_tables()) AS b (problem)
    WHERE starts_with(b.problem, relation::text || ':')
    LIMIT 1;
    IF broken IS NOT NULL THEN
        RETURN broken;
    END IF;
    SELECT string_agg(s.setting, ', ') INTO off
    FROM unnest(webhook_events_internal.emit_off()) AS s (setting);
    IF normal IN ('SUCCEEDED', 'FAILED', 'TIMED-OUT', 'ABORTED') OR NOT has_created THEN
        RETURN 'it was written before the table was attached, with webhook_events.emit off, or without triggers'
            || ', or its events are older than webhook_events.retention'
            || coalesce('; raises none now: ' || off, '');
    END IF;
    RETURN format('status %s is no end, so it raises nothing', status);
END
$function$;
COMMENT ON FUNCTION webhook_events_internal.why_no_event(regclass, text, text, boolean) IS
    'why a row of an attached table has raised no event that tells of its status';
REVOKE ALL ON FUNCTION webhook_events_internal.why_no_event(regclass, text, text, boolean) FROM PUBLIC;

-- Why an event that a webhook gets by its rules has no dispatch for it.
CREATE FUNCTION webhook_events_internal.why_no_dispatch(event_id text, created_at timestamptz,
        webhook_id text, is_unrouted boolean) RETURNS text
    LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    worker record;
    changed_at timestamptz;
BEGIN
    SELECT r.running, r.reason, r.in_flight INTO worker FROM webhook_events_internal.worker_report() AS r;
    IF is_unrouted THEN
        RETURN coalesce(worker.reason, 'the event is about to be routed');
    END IF;
    SELECT w.modified_at INTO changed_at FROM webhook_events_internal.webhooks AS w
    WHERE w.id = why_no_dispatch.webhook_id;
    IF EXISTS (SELECT FROM webhook_events_internal.live_flights() AS f
        WHERE f.dispatch_id = webhook_events_internal.dispatch_id(why_no_dispatch.event_id, why_no_dispatch.webhook_id))
    THEN
        RETURN 'it is being sent';
    ELSIF changed_at > created_at THEN
        RETURN format('the webhook was changed or enabled at %s, after the event', changed_at);
    ELSIF worker.in_flight > 0
        OR EXISTS (SELECT FROM webhook_events_internal.live_hosts() AS h WHERE h.queued > 0)
    THEN
        RETURN 'it is in the worker''s memory and about to be sent, or was skipped by resume(''skip'')';
    END IF;
    RETURN 'it was skipped by resume(''skip''), or its dispatch was deleted';
END
$function$;
COMMENT ON FUNCTION webhook_events_internal.why_no_dispatch(text, timestamptz, text, boolean) IS
    'why an event that a webhook gets by its rules has no dispatch for it';
REVOKE ALL ON FUNCTION webhook_events_internal.why_no_dispatch(text, timestamptz, text, boolean) FROM PUBLIC;

-- Who has locked the row of a dispatch or changes it, but for the worker.
CREATE FUNCTION webhook_events_internal.who_locks(id text) RETURNS text
    LANGUAGE sql VOLATILE
    SET search_path = pg_catalog, pg_temp
AS $function$
    SELECT coalesce('a transaction of the session with PID ' || l.pid, 'a prepared transaction')
    FROM webhook_events_internal.dispatches AS d
        JOIN pg_locks AS l ON l.locktype = 'transactionid' AND l.transactionid = d.xmax AND l.granted
    WHERE d.id = who_locks.id AND l.pid IS DISTINCT FROM pg_backend_pid()
        AND l.pid IS DISTINCT FROM (SELECT r.worker_pid FROM webhook_events_internal.worker_report() AS r)
    LIMIT 1
$function$;
COMMENT ON FUNCTION webhook_events_internal.who_locks(text) IS
    'who has locked the row of a dispatch or changes it, but for the worker';
REVOKE ALL ON FUNCTION webhook_events_internal.who_locks(text) FROM PUBLIC;

-- Why a dispatch that waits is not sent now.
CREATE FUNCTION webhook_events_internal.why_waiting(dispatch webhook_events_internal.dispatches)
    RETURNS text
    LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp
    SET jit = off
AS $function$
DECLARE
    worker record;
    host record;
    webhook webhook_events_internal.webhooks;
    head webhook_events_internal.dispatches;
    before bigint;
    locker text;
BEGIN
    IF EXISTS (SELECT FROM webhook_events_internal.live_flights() AS f WHERE f.dispatch_id = dispatch.id) THEN
        RETURN 'it is being sent';
    END IF;
    SELECT r.running, r.reason INTO worker FROM webhook_events_internal.worker_report() AS r;
    IF worker.reason IS NOT NULL THEN
        RETURN worker.reason;
    END IF;
    SELECT w.* INTO webhook FROM webhook_events_internal.webhooks AS w WHERE w.id = dispatch.webhook_id;
    IF NOT FOUND THEN
        RETURN 'its webhook is gone, so it is about to be given up';
    END IF;
    SELECT h.* INTO host FROM webhook_events_internal.live_hosts() AS h
    WHERE h.host = webhook_events_internal.url_host(webhook.request_url);

    -- In a lane only the head has a reason of its own.
    IF dispatch.next_attempt_at = 'infinity' THEN
        SELECT count(*) INTO before FROM (
            SELECT FROM webhook_events_internal.dispatches AS d
            WHERE d.order_key = dispatch.order_key AND d.webhook_id = dispatch.webhook_id
                AND d.status = 'ACTIVE' AND (d.event_id, d.id) < (dispatch.event_id, dispatch.id)
            LIMIT 10000) AS d;
        SELECT d.* INTO head FROM webhook_events_internal.dispatches AS d
        WHERE d.order_key = dispatch.order_key AND d.webhook_id = dispatch.webhook_id
            AND d.status = 'ACTIVE' AND (d.event_id, d.id) < (dispatch.event_id, dispatch.id)
        ORDER BY d.event_id, d.id LIMIT 1;
        IF head.id IS NULL OR head.next_attempt_at = 'infinity' THEN
            RETURN format('%s that are to come before it have not ended yet',
                CASE before WHEN 10000 THEN '10000 or more' ELSE before::text END);
        END IF;
        RETURN format('%s to come before it; dispatch %s is first, and of that: %s',
            CASE before WHEN 1 THEN 'one is' WHEN 10000 THEN '10000 or more are' ELSE before || ' are' END,
            head.id, webhook_events_internal.why_waiting(head));
    END IF;
    locker := webhook_events_internal.who_locks(dispatch.id);
    IF locker IS NOT NULL THEN
        RETURN format('%s has locked its row or changes it', locker);
    END IF;
    IF host.rests_until IS NOT NULL OR host.is_probed THEN
        RETURN format('host %s rests: its last %s calls got no answer', host.host, host.silences);
    END IF;
    IF dispatch.next_attempt_at > webhook_events_internal.work_time() THEN
        RETURN format('it is called again at %s', dispatch.next_attempt_at);
    END IF;
    SELECT count(*) INTO before FROM (
        SELECT FROM webhook_events_internal.dispatches AS d
        WHERE d.status = 'ACTIVE' AND d.webhook_id = dispatch.webhook_id
            AND (d.next_attempt_at, d.id) < (coalesce(dispatch.next_attempt_at, 'infinity'), dispatch.id)
        LIMIT 10000) AS d;
    RETURN concat_ws(', ', CASE WHEN dispatch.next_attempt_at IS NULL
            THEN 'it is a replay, which is sent when its host has nothing else to get' END,
        CASE WHEN webhook.max_rate IS NOT NULL
            THEN format('the webhook gets %s calls a second at most', webhook.max_rate) END,
        CASE WHEN host.waits_for IS NOT NULL
            THEN format('its %s has all the calls under way that it may have', host.waits_for) END,
        format('%s of this webhook are before it', CASE before WHEN 10000 THEN '10000 or more'
            WHEN 0 THEN 'none' ELSE before::text END),
        CASE WHEN host.host IS NOT NULL THEN format('its host has %s under way and %s queued',
            host.in_flight, host.queued) END);
END
$function$;
COMMENT ON FUNCTION webhook_events_internal.why_waiting(webhook_events_internal.dispatches) IS
    'why a dispatch that waits is not sent now';
REVOKE ALL ON FUNCTION webhook_events_internal.why_waiting(webhook_events_internal.dispatches) FROM PUBLIC;

CREATE FUNCTION webhook_events_internal.explain_event(event_id text)
    RETURNS TABLE (webhook_id text, fires boolean, reason text)
    LANGUAGE sql VOLATILE
    SET search_path = pg_catalog, pg_temp
    SET jit = off
AS $function$
    SELECT x.webhook_id, x.fires, webhook_events_internal.on_a_line(CASE WHEN NOT x.fires THEN x.reason
        ELSE concat(x.reason, '; ', (SELECT CASE
                WHEN d.id IS NULL THEN 'no dispatch: '
                    || webhook_events_internal.why_no_dispatch(e.id, e.created_at, x.webhook_id,
                        (SELECT explain_event.event_id IN (SELECT u.id FROM webhook_events_internal.unrouted_events() AS u)))
                WHEN d.status = 'SUCCEEDED' THEN 'delivered'
                WHEN d.status = 'FAILED' THEN 'given up: ' || d.error_message
                ELSE 'waits: ' || webhook_events_internal.why_waiting(d) END
            FROM webhook_events_internal.outbox AS e LEFT JOIN webhook_events_internal.dispatches AS d
                ON d.id = webhook_events_internal.dispatch_id(e.id, x.webhook_id)
            WHERE e.id = explain_event.event_id)) END)
    FROM webhook_events_internal.explain_match(explain_event.event_id) AS x
    ORDER BY x.webhook_id
$function$;
COMMENT ON FUNCTION webhook_events_internal.explain_event(text) IS
    'which webhooks get an event and what became of that, and which don''t, and why';
REVOKE ALL ON FUNCTION webhook_events_internal.explain_event(text) FROM PUBLIC;

CREATE FUNCTION webhook_events_internal.explain_run(id text)
    RETURNS TABLE (at timestamptz, what text, event_id text, webhook_id text, dispatch_id text,
        detail text)
    LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp
    SET jit = off
AS $function$
#variable_conflict use_column
DECLARE
    source record;
    found_row record;
    status text;
    events text[];
    seen boolean := false;
    most CONSTANT integer := 1000;
BEGIN
    IF id IS NULL THEN
        RAISE EXCEPTION 'the id of a run or build is null' USING ERRCODE = 'no_data_found';
    END IF;
    events := ARRAY(
        SELECT o.id FROM webhook_events_internal.outbox AS o
        WHERE o.actor_run_id = explain_run.id AND webhook_events_internal.may_see(o.user_id)
        UNION
        SELECT o.id FROM webhook_events_internal.outbox AS o
        WHERE o.actor_build_id = explain_run.id AND webhook_events_internal.may_see(o.user_id));

    -- The row as it is now.
    FOR source IN SELECT s.relation, s.kind FROM webhook_events.sources AS s LOOP
        found_row := webhook_events_internal.read_source(source.relation, source.kind, explain_run.id);
        IF found_row.failure IS NOT NULL AND webhook_events_internal.sees_all(false) THEN
            RETURN QUERY SELECT NULL::timestamptz, 'not read', NULL::text, NULL::text, NULL::text,
                webhook_events_internal.on_a_line(found_row.failure);
        END IF;
        CONTINUE WHEN NOT found_row.is_found OR NOT webhook_events_internal.may_see(found_row.user_id);
        seen := true;
        status := found_row.resource ->> 'status';
        RETURN QUERY SELECT NULL::timestamptz, 'row', NULL::text, NULL::text, NULL::text,
            webhook_events_internal.on_a_line(format('%s of %s, status %s now', source.kind, source.relation,
                coalesce(status, 'null')));
        IF NOT EXISTS (SELECT FROM webhook_events_internal.outbox AS o
            WHERE o.id = ANY (events) AND (replace(o.new_status, '_', '-') = replace(status, '_', '-')
                OR o.event_type::text LIKE '%.' || replace(status, '-', '_')))
        THEN
            RETURN QUERY SELECT NULL::timestamptz, 'no event', NULL::text, NULL::text, NULL::text,
                webhook_events_internal.on_a_line(webhook_events_internal.why_no_event(source.relation,
                    source.kind, status, EXISTS (SELECT FROM webhook_events_internal.outbox AS o
                        WHERE o.id = ANY (events) AND o.event_type::text LIKE '%.CREATED')));
        END IF;
    END LOOP;
    IF NOT seen AND events = '{}' THEN
        RAISE EXCEPTION 'no attached table has a run or build "%", and no event is about one', id
            USING ERRCODE = 'no_data_found',
                -- What was written to one of these has left nothing here.
                DETAIL = coalesce(CASE WHEN webhook_events_internal.sees_all(false)
                        THEN array_to_string(webhook_events_internal.broken_tables(), E'\n') END,
                    'It was looked for by exactly this id.'),
                HINT = 'Events older than webhook_events.retention are gone.';
    END IF;

    IF NOT seen THEN
        RETURN QUERY SELECT NULL::timestamptz, 'row', NULL::text, NULL::text, NULL::text,
            'no attached table has it now: it was deleted, or its table detached'::text;
    END IF;

    RETURN QUERY
        WITH event AS MATERIALIZED (
            SELECT o.* FROM webhook_events_internal.outbox AS o WHERE o.id = ANY (events)
        ), dispatch AS MATERIALIZED (
            SELECT d AS whole, d.*, row_number() OVER (PARTITION BY d.event_id
                ORDER BY d.status = 'SUCCEEDED', d.id) AS number
            FROM webhook_events_internal.dispatches AS d
            WHERE d.event_id = ANY (events) AND webhook_events_internal.may_see(d.user_id)
        ), told AS (
            -- Of thousands, those that are not delivered first.
            SELECT d.* FROM dispatch AS d WHERE d.number <= most
        ), explained AS MATERIALIZED (
            SELECT e.id, e.created_at, x.webhook_id, x.fires, x.reason, e.id IN (SELECT u.id
                FROM webhook_events_internal.unrouted_events() AS u) AS is_unrouted
            FROM event AS e CROSS JOIN LATERAL webhook_events_internal.explain_match(e.id, most) AS x
        ), story (at, step, what, event_id, webhook_id, dispatch_id, detail) AS (
            SELECT e.created_at, 1, 'event', e.id, NULL::text, NULL::text,
                concat(e.event_type, CASE WHEN e.new_status IS NOT NULL THEN format(': status %s',
                    concat_ws(' to ', e.old_status, e.new_status)) END, '; ' || e.problem)
            FROM event AS e
            UNION ALL
            SELECT x.created_at, 2, 'not sent', x.id, x.webhook_id, NULL, x.reason
            FROM explained AS x
            WHERE NOT x.fires AND NOT EXISTS (SELECT FROM dispatch AS d
                WHERE d.event_id = x.id AND d.webhook_id = x.webhook_id)
            UNION ALL
            SELECT x.created_at, 2, 'no dispatch', x.id, x.webhook_id, NULL,
                webhook_events_internal.why_no_dispatch(x.id, x.created_at, x.webhook_id, x.is_unrouted)
            FROM explained AS x
            WHERE x.fires AND NOT EXISTS (SELECT FROM dispatch AS d
                WHERE d.event_id = x.id AND d.webhook_id = x.webhook_id)
            UNION ALL
            SELECT d.created_at, 3, 'dispatch', d.event_id, d.webhook_id, d.id,
                concat_ws(' ', CASE WHEN d.replay_of IS NOT NULL THEN 'again' END, 'to',
                    coalesce(webhook_events_internal.mask_url(w.request_url), 'a webhook that is gone'))
            FROM told AS d
                LEFT JOIN webhook_events_internal.webhooks AS w ON w.id = d.webhook_id
            UNION ALL
            SELECT c.started_at, 4, 'call', d.event_id, d.webhook_id, d.id,
                format('call %s: %s, in %s ms', c.attempt,
                    coalesce(c.error_message, 'HTTP status ' || c.response_status),
                    round(extract(epoch FROM coalesce(c.duration, c.finished_at - c.started_at)) * 1000))
            FROM told AS d JOIN webhook_events_internal.calls AS c ON c.dispatch_id = d.id
            UNION ALL
            SELECT d.finished_at, 5, CASE d.status WHEN 'SUCCEEDED' THEN 'delivered' ELSE 'given up' END,
                d.event_id, d.webhook_id, d.id,
                concat_ws(', ', 'calls: ' || d.attempts, d.error_message)
            FROM told AS d WHERE d.status <> 'ACTIVE'
            UNION ALL
            SELECT clock_timestamp(), 6, 'waits', d.event_id, d.webhook_id, d.id,
                webhook_events_internal.why_waiting(d.whole)
            FROM told AS d WHERE d.status = 'ACTIVE'
            UNION ALL
            SELECT min(d.created_at), 7, 'more', d.event_id, NULL, NULL,
                format('%s more dispatches: %s delivered, %s given up, %s wait', count(*),
                    count(*) FILTER (WHERE d.status = 'SUCCEEDED'), count(*) FILTER (WHERE d.status = 'FAILED'),
                    count(*) FILTER (WHERE d.status = 'ACTIVE'))
            FROM dispatch AS d WHERE d.number > most GROUP BY d.event_id
        )
        SELECT s.at, s.what, s.event_id, s.webhook_id, s.dispatch_id,
            webhook_events_internal.on_a_line(s.detail)
        FROM story AS s ORDER BY s.at, s.event_id, s.step, s.webhook_id, s.dispatch_id;
END
$function$;
COMMENT ON FUNCTION webhook_events_internal.explain_run(text) IS
    'the story of one run or build, from its row to its last call, in order of time';
REVOKE ALL ON FUNCTION webhook_events_internal.explain_run(text) FROM PUBLIC;
