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

-- Volatile, so that it sees what the same statement has just created.
CREATE FUNCTION webhook_events_internal.webhook_json(id text) RETURNS jsonb
    LANGUAGE sql VOLATILE
    SET search_path = pg_catalog, pg_temp
AS $function$
    SELECT jsonb_build_object('id', w.id, 'createdAt', webhook_events_internal.api_time(w.created_at),
        'modifiedAt', webhook_events_internal.api_time(w.modified_at), 'userId', w.user_id,
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
            'finishedAt', webhook_events_internal.api_time(s.last_finished_at)) END,
        'stats', jsonb_build_object('totalDispatches', s.total_dispatches))
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
        'eventType', d.event_type, 'eventData', e.event_data,
        'webhook', CASE WHEN w.id IS NOT NULL THEN jsonb_build_object(
            'requestUrl', w.request_url,
            'condition', jsonb_build_object('actorId', w.actor_id,
                'actorTaskId', w.actor_task_id, 'actorRunId', w.actor_run_id),
            'isAdHoc', w.is_ad_hoc, 'actionType', 'HTTP_REQUEST') END,
        'calls', coalesce((SELECT jsonb_agg(jsonb_build_object(
                'startedAt', webhook_events_internal.api_time(c.started_at),
                'finishedAt', webhook_events_internal.api_time(c.finished_at),
                'errorMessage', c.error_message, 'responseStatus', c.response_status,
                'responseBody', c.response_body) ORDER BY c.attempt)
            FROM webhook_events_internal.calls AS c WHERE c.dispatch_id = d.id), '[]'))
    INTO result
    FROM webhook_events_internal.dispatches AS d
        LEFT JOIN webhook_events.events AS e ON e.id = d.event_id
        LEFT JOIN webhook_events_internal.webhooks AS w
            ON w.id = d.webhook_id AND webhook_events_internal.may_see(w.user_id)
    WHERE d.id = dispatch_json.id AND webhook_events_internal.may_see(d.user_id);
    IF NOT FOUND THEN
        RAISE EXCEPTION 'dispatch "%" does not exist', id USING ERRCODE = 'no_data_found';
    END IF;
    RETURN result;
END
$function$;
COMMENT ON FUNCTION webhook_events_internal.dispatch_json(text) IS
    'a dispatch with its calls as a WebhookDispatch object of the platform''s API';
REVOKE ALL ON FUNCTION webhook_events_internal.dispatch_json(text) FROM PUBLIC;

CREATE FUNCTION webhook_events_internal.webhook_secret(id text) RETURNS text
    LANGUAGE sql VOLATILE
    SET search_path = pg_catalog, pg_temp
AS $function$
    SELECT w.secret FROM webhook_events_internal.get_webhook(id) AS w
$function$;
COMMENT ON FUNCTION webhook_events_internal.webhook_secret(text) IS
    'the secret that signs a webhook''s requests; NULL: they are not signed';
REVOKE ALL ON FUNCTION webhook_events_internal.webhook_secret(text) FROM PUBLIC;

