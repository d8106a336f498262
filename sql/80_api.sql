--
-- In the shape of the platform's API
--

CREATE FUNCTION webhook_events_internal.api_time(at timestamptz) RETURNS text
    LANGUAGE sql STABLE STRICT PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
AS $function$
    SELECT to_char(at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')
$function$;
COMMENT ON FUNCTION webhook_events_internal.api_time(timestamptz) IS
    'a time as the platform''s API writes it';
REVOKE ALL ON FUNCTION webhook_events_internal.api_time(timestamptz) FROM PUBLIC;

CREATE FUNCTION webhook_events_internal.stats_of_webhook(id text, OUT total_dispatches bigint,
        OUT last_status webhook_events.dispatch_status, OUT last_finished_at timestamptz)
    RETURNS record
    LANGUAGE sql VOLATILE
    SET search_path = pg_catalog, pg_temp
AS $function$
    WITH entry AS MATERIALIZED (
        SELECT s.total_dispatches AS dispatches, s.last_dispatch_id, s.last_status,
            s.last_finished_at
        FROM webhook_events_internal.webhook_stats AS s WHERE s.webhook_id = stats_of_webhook.id
        UNION ALL
        SELECT u.dispatches, u.last_dispatch_id, u.last_status, u.last_finished_at
        FROM webhook_events_internal.webhook_stats_log AS l
            CROSS JOIN LATERAL unnest(l.webhook_ids, l.dispatches, l.last_dispatch_ids,
                l.last_statuses, l.last_finished_at)
                AS u (webhook_id, dispatches, last_dispatch_id, last_status, last_finished_at)
        WHERE u.webhook_id = stats_of_webhook.id
    ), visible AS (
        SELECT e.* FROM entry AS e
        WHERE EXISTS (SELECT FROM webhook_events_internal.webhooks AS w
            WHERE w.id = stats_of_webhook.id AND webhook_events_internal.may_see(w.user_id))
    )
    SELECT total.dispatches, newest.last_status, newest.last_finished_at
    FROM (SELECT coalesce(sum(v.dispatches), 0)::bigint AS dispatches FROM visible AS v) AS total
        LEFT JOIN (SELECT v.last_status, v.last_finished_at FROM visible AS v
            ORDER BY v.last_dispatch_id COLLATE "C" DESC, v.last_status <> 'ACTIVE' DESC
            LIMIT 1) AS newest ON true
$function$;
COMMENT ON FUNCTION webhook_events_internal.stats_of_webhook(text) IS
    'how many dispatches a webhook had, and how the newest one stands';
REVOKE ALL ON FUNCTION webhook_events_internal.stats_of_webhook(text) FROM PUBLIC;

CREATE FUNCTION webhook_events_internal.condition_object(webhook webhook_events_internal.webhooks)
    RETURNS jsonb
    LANGUAGE sql IMMUTABLE
    SET search_path = pg_catalog, pg_temp
AS $function$
    SELECT jsonb_build_object('actorId', webhook.actor_id,
        'actorTaskId', webhook.actor_task_id, 'actorRunId', webhook.actor_run_id)
$function$;
COMMENT ON FUNCTION webhook_events_internal.condition_object(webhook_events_internal.webhooks) IS
    'a webhook''s condition as the platform''s API has it';
REVOKE ALL ON FUNCTION webhook_events_internal.condition_object(webhook_events_internal.webhooks)
    FROM PUBLIC;

CREATE FUNCTION webhook_events_internal.webhook_object(webhook webhook_events_internal.webhooks,
        total_dispatches bigint, last_status webhook_events.dispatch_status,
        last_finished_at timestamptz) RETURNS jsonb
    LANGUAGE sql STABLE
    SET search_path = pg_catalog, pg_temp
AS $function$
    SELECT jsonb_build_object('id', webhook.id,
        'createdAt', webhook_events_internal.api_time(webhook.created_at),
        'modifiedAt', webhook_events_internal.api_time(webhook.modified_at),
        'userId', webhook.user_id,
        'isAdHoc', webhook.is_ad_hoc,
        'shouldInterpolateStrings', webhook.should_interpolate_strings,
        'eventTypes', webhook.event_types,
        'condition', webhook_events_internal.condition_object(webhook),
        'ignoreSslErrors', webhook.ignore_ssl_errors, 'doNotRetry', webhook.do_not_retry,
        'requestUrl', webhook.request_url, 'description', webhook.description,
        'isEnabled', webhook.is_enabled,
        'lastDispatch', CASE WHEN last_status IS NOT NULL THEN jsonb_build_object(
            'status', last_status,
            'finishedAt', webhook_events_internal.api_time(last_finished_at)) END,
        'stats', jsonb_build_object('totalDispatches', total_dispatches))
        || CASE WHEN webhook.ordering <> 'none'
            THEN jsonb_build_object('ordering', webhook.ordering) ELSE '{}' END
        || coalesce(webhook.api_keys, '{}')
$function$;
COMMENT ON FUNCTION webhook_events_internal.webhook_object(webhook_events_internal.webhooks, bigint,
        webhook_events.dispatch_status, timestamptz) IS
    'a webhook as the platform''s API has it, without templates';
REVOKE ALL ON FUNCTION webhook_events_internal.webhook_object(webhook_events_internal.webhooks, bigint,
        webhook_events.dispatch_status, timestamptz) FROM PUBLIC;

-- Volatile, so that it sees what the same statement has just created.
CREATE FUNCTION webhook_events_internal.webhook_json(id text) RETURNS jsonb
    LANGUAGE sql VOLATILE
    SET search_path = pg_catalog, pg_temp
AS $function$
    SELECT webhook_events_internal.webhook_object(w, s.total_dispatches, s.last_status,
            s.last_finished_at)
        || jsonb_build_object('payloadTemplate', w.payload_template,
            'headersTemplate', w.headers_template)
    FROM webhook_events_internal.get_webhook(id) AS w
        CROSS JOIN LATERAL webhook_events_internal.stats_of_webhook(w.id) AS s
$function$;
COMMENT ON FUNCTION webhook_events_internal.webhook_json(text) IS
    'a webhook as a Webhook object of the platform''s API';
REVOKE ALL ON FUNCTION webhook_events_internal.webhook_json(text) FROM PUBLIC;

CREATE FUNCTION webhook_events_internal.dispatch_json(id text) RETURNS jsonb
    LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    result jsonb;
BEGIN
    SELECT jsonb_build_object('id', d.id, 'userId', d.user_id, 'webhookId', d.webhook_id,
        'createdAt', webhook_events_internal.api_time(d.created_at), 'status', d.status,
        -- No join, which could become one that reads all events of a day.
        'eventType', d.event_type, 'eventData', (SELECT e.event_data
            FROM webhook_events.events AS e WHERE e.id = d.event_id),
        'webhook', CASE WHEN w.id IS NOT NULL THEN jsonb_build_object(
            'requestUrl', w.request_url,
            'condition', webhook_events_internal.condition_object(w),
            'isAdHoc', w.is_ad_hoc, 'actionType', 'HTTP_REQUEST') END,
        'calls', coalesce((SELECT jsonb_agg(jsonb_build_object(
                'startedAt', webhook_events_internal.api_time(c.started_at),
                'finishedAt', webhook_events_internal.api_time(c.finished_at),
                'errorMessage', c.error_message, 'responseStatus', c.response_status,
                'responseBody', c.response_body) ORDER BY c.attempt)
            FROM webhook_events_internal.calls AS c WHERE c.dispatch_id = d.id), '[]'))
    INTO result
    FROM webhook_events_internal.dispatches AS d
        LEFT JOIN webhook_events_internal.webhooks AS w
            ON w.id = d.webhook_id AND webhook_events_internal.may_see(w.user_id)
    WHERE d.id = dispatch_json.id AND webhook_events_internal.may_see(d.user_id);
    IF id IS NULL THEN
        RAISE EXCEPTION 'the id of a dispatch is null' USING ERRCODE = 'no_data_found';
    ELSIF NOT FOUND THEN
        RAISE EXCEPTION 'dispatch "%" does not exist', id USING ERRCODE = 'no_data_found';
    END IF;
    RETURN result;
END
$function$;
COMMENT ON FUNCTION webhook_events_internal.dispatch_json(text) IS
    'a dispatch with its calls as a WebhookDispatch object of the platform''s API';
REVOKE ALL ON FUNCTION webhook_events_internal.dispatch_json(text) FROM PUBLIC;

CREATE FUNCTION webhook_events_internal.check_page("limit" integer, "offset" integer, "desc" boolean)
    RETURNS void
    LANGUAGE plpgsql IMMUTABLE
    SET search_path = pg_catalog, pg_temp
AS $function$
BEGIN
    IF "limit" IS NULL OR "offset" IS NULL OR "desc" IS NULL THEN
        RAISE EXCEPTION 'limit, offset and desc of a list can''t be null'
            USING ERRCODE = 'null_value_not_allowed',
                HINT = 'Leave them out for 1000, 0 and false.';
    END IF;
    IF "limit" NOT BETWEEN 1 AND 1000 THEN
        RAISE EXCEPTION 'limit % of a list is not between 1 and 1000', "limit"
            USING ERRCODE = 'invalid_parameter_value',
                HINT = 'Read on with offset.';
    END IF;
    IF "offset" < 0 THEN
        RAISE EXCEPTION 'offset % of a list is negative', "offset"
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
END
$function$;
COMMENT ON FUNCTION webhook_events_internal.check_page(integer, integer, boolean) IS
    'an error for a page that no list has';
REVOKE ALL ON FUNCTION webhook_events_internal.check_page(integer, integer, boolean) FROM PUBLIC;

CREATE FUNCTION webhook_events_internal.page_object(total bigint, "limit" integer, "offset" integer,
        "desc" boolean, items jsonb) RETURNS jsonb
    LANGUAGE sql IMMUTABLE
    SET search_path = pg_catalog, pg_temp
AS $function$
    SELECT jsonb_build_object('total', total, 'offset', "offset", 'limit', "limit",
        'count', jsonb_array_length(coalesce(items, '[]')), 'desc', "desc",
        'items', coalesce(items, '[]'))
$function$;
COMMENT ON FUNCTION webhook_events_internal.page_object(bigint, integer, integer, boolean, jsonb) IS
    'a page of a list as the platform''s API has it';
REVOKE ALL ON FUNCTION webhook_events_internal.page_object(bigint, integer, integer, boolean, jsonb)
    FROM PUBLIC;

-- Their statistics are read once for all of the page.
CREATE FUNCTION webhook_events_internal.webhooks_json(user_id text DEFAULT NULL,
        actor_id text DEFAULT NULL, actor_task_id text DEFAULT NULL,
        "limit" integer DEFAULT 1000, "offset" integer DEFAULT 0, "desc" boolean DEFAULT false)
    RETURNS jsonb
    LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    sees_all boolean := webhook_events_internal.sees_all(true);
    owner text := CASE WHEN sees_all THEN user_id ELSE webhook_events_internal.own_user(true) END;
    condition text := concat_ws(' AND ', 'true',
        CASE WHEN owner IS NOT NULL OR NOT sees_all THEN 'coalesce(w.user_id, '''') = $1' END,
        CASE WHEN actor_id IS NOT NULL
            THEN 'w.actor_id IS NOT NULL AND coalesce(w.actor_id, '''') = $2' END,
        CASE WHEN actor_task_id IS NOT NULL
            THEN 'w.actor_task_id IS NOT NULL AND coalesce(w.actor_task_id, '''') = $3' END);
    total bigint := 0;
    ids text[];
    items jsonb;
BEGIN
    PERFORM webhook_events_internal.check_page("limit", "offset", "desc");
    IF sees_all OR (owner IS NOT NULL AND (user_id IS NULL OR user_id = owner)) THEN
        -- What was counted, what has changed there since, and those behind it: they are few,
        -- which the planner only believes of what has two ends.
        EXECUTE format('SELECT coalesce((SELECT sum(w.webhooks)'
            '     FROM webhook_events_internal.webhook_counts AS w'
            '     WHERE w.key = hash_record_extended(ROW ($1, $2, $3), 0)'
            '         AND (w.user_id, w.actor_id, w.actor_task_id) IS NOT DISTINCT FROM ($1, $2, $3)), 0)'
            ' + coalesce((SELECT sum(w.change) FROM webhook_events_internal.webhook_counts_log AS w'
            '     WHERE w.up_to <= p.counted AND %1$s), 0)'
            ' + (SELECT count(*) FROM webhook_events_internal.webhooks AS w'
            '     WHERE w.id > p.counted AND w.id <= (SELECT max(l.id) FROM webhook_events_internal.webhooks AS l)'
            '         AND %1$s)'
            ' FROM (SELECT coalesce((SELECT c.counted FROM webhook_events_internal.webhook_counts_positions AS c'
            '     ORDER BY c.number DESC LIMIT 1), '''') AS counted OFFSET 0) AS p', condition)
            INTO total USING owner, actor_id, actor_task_id;
        EXECUTE format('SELECT array_agg(p.id) FROM (SELECT w.id'
            ' FROM webhook_events_internal.webhooks AS w WHERE %s'
            ' ORDER BY w.id %s LIMIT %s OFFSET %s) AS p', condition,
            CASE WHEN "desc" THEN 'DESC' ELSE 'ASC' END, "limit", "offset")
            INTO ids USING owner, actor_id, actor_task_id;
    END IF;
    WITH entry AS MATERIALIZED (
        SELECT s.webhook_id, s.total_dispatches AS dispatches, s.last_dispatch_id, s.last_status,
            s.last_finished_at
        FROM webhook_events_internal.webhook_stats AS s WHERE s.webhook_id = ANY (ids)
        UNION ALL
        SELECT u.webhook_id, u.dispatches, u.last_dispatch_id, u.last_status, u.last_finished_at
        FROM webhook_events_internal.webhook_stats_log AS l
            CROSS JOIN LATERAL unnest(l.webhook_ids, l.dispatches, l.last_dispatch_ids,
                l.last_statuses, l.last_finished_at)
                AS u (webhook_id, dispatches, last_dispatch_id, last_status, last_finished_at)
        WHERE u.webhook_id = ANY (ids)
    ), totals AS (
        SELECT e.webhook_id, sum(e.dispatches)::bigint AS dispatches FROM entry AS e
        GROUP BY e.webhook_id
    ), newest AS (
        SELECT DISTINCT ON (e.webhook_id) e.* FROM entry AS e
        ORDER BY e.webhook_id, e.last_dispatch_id COLLATE "C" DESC, e.last_status <> 'ACTIVE' DESC
    )
    SELECT jsonb_agg(webhook_events_internal.webhook_object(w, coalesce(t.dispatches, 0),
            n.last_status, n.last_finished_at)
        || jsonb_build_object('actionType', coalesce(w.api_keys ->> 'actionType', 'HTTP_REQUEST'),
            'isApifyIntegration', coalesce((w.api_keys ->> 'isApifyIntegration')::boolean, false))
        ORDER BY p.number)
    INTO items
    FROM unnest(ids) WITH ORDINALITY AS p (id, number)
        JOIN webhook_events_internal.webhooks AS w ON w.id = p.id
        LEFT JOIN totals AS t ON t.webhook_id = p.id
        LEFT JOIN newest AS n ON n.webhook_id = p.id;
    RETURN webhook_events_internal.page_object(total, "limit", "offset", "desc", items);
END
$function$;
COMMENT ON FUNCTION webhook_events_internal.webhooks_json(text, text, text, integer, integer, boolean) IS
    'webhooks in order of creation, of a user, an Actor or a task, as a list of the platform''s API';
REVOKE ALL ON FUNCTION webhook_events_internal.webhooks_json(text, text, text, integer, integer, boolean)
    FROM PUBLIC;

CREATE FUNCTION webhook_events_internal.dispatches_json(webhook_id text,
        "limit" integer DEFAULT 1000, "offset" integer DEFAULT 0, "desc" boolean DEFAULT false)
    RETURNS jsonb
    LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    webhook webhook_events_internal.webhooks := webhook_events_internal.get_webhook(webhook_id);
    ids text[];
    items jsonb;
BEGIN
    PERFORM webhook_events_internal.check_page("limit", "offset", "desc");
    -- A webhook that was another user's has dispatches of that one.
    EXECUTE format('SELECT array_agg(p.id) FROM (SELECT d.id'
        ' FROM webhook_events_internal.dispatches AS d WHERE d.webhook_id = $1 %s'
        ' ORDER BY d.id %s LIMIT %s OFFSET %s) AS p',
        CASE WHEN NOT webhook_events_internal.sees_all(true)
            THEN 'AND webhook_events_internal.may_see(d.user_id)' END,
        CASE WHEN "desc" THEN 'DESC' ELSE 'ASC' END, "limit", "offset")
        INTO ids USING webhook.id;
    SELECT jsonb_agg(webhook_events_internal.dispatch_json(p.id) - 'webhook' ORDER BY p.number)
    INTO items FROM unnest(ids) WITH ORDINALITY AS p (id, number);
    RETURN webhook_events_internal.page_object(
        (SELECT s.total_dispatches FROM webhook_events_internal.stats_of_webhook(webhook.id) AS s),
        "limit", "offset", "desc", items);
END
$function$;
COMMENT ON FUNCTION webhook_events_internal.dispatches_json(text, integer, integer, boolean) IS
    'the dispatches of a webhook in order of creation, as a list of the platform''s API';
REVOKE ALL ON FUNCTION webhook_events_internal.dispatches_json(text, integer, integer, boolean) FROM PUBLIC;

CREATE FUNCTION webhook_events_internal.webhook_secret(id text) RETURNS text
    LANGUAGE sql VOLATILE
    SET search_path = pg_catalog, pg_temp
AS $function$
    SELECT w.secret FROM webhook_events_internal.get_webhook(id) AS w
$function$;
COMMENT ON FUNCTION webhook_events_internal.webhook_secret(text) IS
    'the secret that signs a webhook''s requests; NULL: they are not signed';
REVOKE ALL ON FUNCTION webhook_events_internal.webhook_secret(text) FROM PUBLIC;

