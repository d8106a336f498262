--
-- Sending again
--

CREATE FUNCTION webhook_events_internal.active_events(webhook_id text) RETURNS SETOF text
    LANGUAGE c VOLATILE STRICT
    SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'webhook_events_active_events';
COMMENT ON FUNCTION webhook_events_internal.active_events(text) IS
    'the events that wait for a webhook now, whatever the transaction sees';
REVOKE ALL ON FUNCTION webhook_events_internal.active_events(text) FROM PUBLIC;

CREATE FUNCTION webhook_events_internal.count_due(webhook_id text, most bigint) RETURNS bigint
    LANGUAGE c VOLATILE STRICT
    SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'webhook_events_count_due';
COMMENT ON FUNCTION webhook_events_internal.count_due(text, bigint) IS
    'how many dispatches wait for a webhook now, but for those behind all others, whatever the transaction sees; counted no further than told';
REVOKE ALL ON FUNCTION webhook_events_internal.count_due(text, bigint) FROM PUBLIC;

CREATE FUNCTION webhook_events_internal.queue_dispatches(webhook_id text, event_ids text[],
        next_attempt_at timestamptz) RETURNS SETOF text
    LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp
AS $function$
BEGIN
    PERFORM webhook_events_internal.wake_worker();
    RETURN QUERY INSERT INTO webhook_events_internal.dispatches (id, event_id, webhook_id, user_id, event_type,
        status, created_at, attempts, next_attempt_at, replay_of, order_key, epoch)
    SELECT webhook_events_internal.new_id(), e.id, w.id, w.user_id, e.event_type, 'ACTIVE',
        clock_timestamp(), 0, queue_dispatches.next_attempt_at, webhook_events_internal.dispatch_id(e.id, w.id),
        -- As the worker does it: a test never waits for others.
        CASE WHEN e.event_type = 'TEST' THEN NULL
            WHEN w.ordering = 'resource' THEN
                webhook_events_internal.order_key(coalesce(e.actor_run_id, e.actor_build_id))
            WHEN w.ordering = 'webhook' THEN '' END,
        w.epoch
    FROM webhook_events_internal.webhooks AS w
        CROSS JOIN unnest(event_ids) WITH ORDINALITY AS u (event_id, number)
        JOIN webhook_events_internal.outbox AS e ON e.id = u.event_id
    WHERE w.id = queue_dispatches.webhook_id AND webhook_events_internal.may_see(w.user_id)
        AND webhook_events_internal.may_see(e.user_id)
    ORDER BY u.number
    RETURNING id;
END
$function$;
COMMENT ON FUNCTION webhook_events_internal.queue_dispatches(text, text[], timestamptz) IS
    'adds dispatches of past events to a webhook; returns their ids';
REVOKE ALL ON FUNCTION webhook_events_internal.queue_dispatches(text, text[], timestamptz) FROM PUBLIC;

CREATE FUNCTION webhook_events_internal.redeliver(dispatch_id text) RETURNS text
    LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    dispatch webhook_events_internal.dispatches;
    webhook webhook_events_internal.webhooks;
    -- A redelivery waits beside what it was made of, so a loop would have no end.
    max_waiting CONSTANT integer := 10000;
BEGIN
    SELECT d.* INTO dispatch FROM webhook_events_internal.dispatches AS d
    WHERE d.id = redeliver.dispatch_id AND webhook_events_internal.may_see(d.user_id);
    IF dispatch_id IS NULL THEN
        RAISE EXCEPTION 'the id of a dispatch is null' USING ERRCODE = 'no_data_found';
    ELSIF NOT FOUND THEN
        RAISE EXCEPTION 'dispatch "%" does not exist', dispatch_id
            USING ERRCODE = 'no_data_found';
    END IF;
    -- Of two sessions with one webhook the second waits here, for what it will count.
    webhook := webhook_events_internal.find_webhook(dispatch.webhook_id);
    PERFORM FROM webhook_events_internal.outbox AS o
    WHERE o.id = dispatch.event_id AND webhook_events_internal.may_see(o.user_id);
    IF NOT FOUND THEN
        RAISE EXCEPTION 'event "%" of dispatch "%" does not exist any more',
                dispatch.event_id, dispatch.id
            USING ERRCODE = 'no_data_found';
    END IF;
    IF NOT (webhook.is_enabled OR webhook.is_retired) AND dispatch.event_type <> 'TEST' THEN
        RAISE EXCEPTION 'webhook "%" is disabled', webhook.id
            USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;

    IF webhook_events_internal.count_due(webhook.id, max_waiting) = max_waiting THEN
        RAISE EXCEPTION 'webhook "%" has % dispatches waiting already', webhook.id, max_waiting
            USING ERRCODE = 'program_limit_exceeded',
                HINT = 'Redeliver when some of them have ended, or call webhook_events.replay(), which queues no event twice.';
    END IF;

    SELECT q.* INTO dispatch.id FROM webhook_events_internal.queue_dispatches(webhook.id,
        ARRAY[dispatch.event_id], webhook_events_internal.work_time()) AS q;
    RETURN dispatch.id;
END
$function$;
COMMENT ON FUNCTION webhook_events_internal.redeliver(text) IS
    'sends the event of a dispatch to its webhook once more; returns the new dispatch''s id';
REVOKE ALL ON FUNCTION webhook_events_internal.redeliver(text) FROM PUBLIC;

-- What replay() was called for.  A call's dispatches lie between two ids, with others.
CREATE TABLE webhook_events_internal.replay_calls (
    id text COLLATE "C" NOT NULL DEFAULT webhook_events_internal.new_id(),
    webhook_id text COLLATE "C" NOT NULL,
    user_id text,
    created_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    dispatches bigint NOT NULL,
    first_dispatch_id text COLLATE "C" NOT NULL,
    last_dispatch_id text COLLATE "C" NOT NULL,
    CONSTRAINT replay_calls_pkey PRIMARY KEY (id)
);
COMMENT ON TABLE webhook_events_internal.replay_calls IS
    'the last calls of replay(), for those who want to see how far they are';
-- One user's calls are no matter of another's.
CREATE INDEX replay_calls_user_idx ON webhook_events_internal.replay_calls (user_id, id);

CREATE VIEW webhook_events.replays WITH (security_barrier = true) AS
    SELECT r.id, r.webhook_id, r.user_id, r.created_at, r.dispatches, s.succeeded, s.failed, s.waiting,
        pg_catalog.round(s.rate, 1) AS rate,
        CASE WHEN s.waiting > 0 THEN pg_catalog.clock_timestamp() + pg_catalog.make_interval(
            secs => s.waiting / nullif(s.rate, 0)::double precision) END AS ends_at
    FROM webhook_events_internal.replay_calls AS r CROSS JOIN LATERAL (
        SELECT pg_catalog.count(*) FILTER (WHERE d.status = 'SUCCEEDED') AS succeeded,
            pg_catalog.count(*) FILTER (WHERE d.status = 'FAILED') AS failed,
            pg_catalog.count(*) FILTER (WHERE d.status = 'ACTIVE') AS waiting,
            pg_catalog.count(*) FILTER (WHERE d.finished_at > pg_catalog.clock_timestamp() - interval '1 minute')
                / least(greatest(EXTRACT(epoch FROM pg_catalog.clock_timestamp() - r.created_at), 0.001), 60)
                AS rate
        FROM webhook_events_internal.dispatches AS d
        WHERE d.id >= r.first_dispatch_id AND d.id <= r.last_dispatch_id
            AND d.webhook_id = r.webhook_id AND d.replay_of IS NOT NULL) AS s
    WHERE (SELECT webhook_events_internal.sees_all(false))
        OR r.user_id = (SELECT webhook_events_internal.own_user(false));
COMMENT ON VIEW webhook_events.replays IS
    'the last 1,000 calls of replay() for each user''s webhooks and how far they are; counted when asked, so ask for those you mean';
COMMENT ON COLUMN webhook_events.replays.id IS 'of the call; newest last';
COMMENT ON COLUMN webhook_events.replays.webhook_id IS 'the webhook that gets events once more';
COMMENT ON COLUMN webhook_events.replays.user_id IS 'its user';
COMMENT ON COLUMN webhook_events.replays.created_at IS 'when replay() was called';
COMMENT ON COLUMN webhook_events.replays.dispatches IS 'how many events it has queued';
COMMENT ON COLUMN webhook_events.replays.succeeded IS 'those of them that were delivered';
COMMENT ON COLUMN webhook_events.replays.failed IS 'those that were given up';
COMMENT ON COLUMN webhook_events.replays.waiting IS
    'those that wait; what is in none of the three is older than the days that are kept';
COMMENT ON COLUMN webhook_events.replays.rate IS
    'how many ended in a second, within the last minute';
COMMENT ON COLUMN webhook_events.replays.ends_at IS
    'when all will have ended at this rate; NULL: they have, or none did within the last minute';

CREATE FUNCTION webhook_events_internal.replay(webhook_id text, since timestamptz,
        until timestamptz DEFAULT now(), event_types webhook_events.event_type[] DEFAULT NULL,
        only_failed boolean DEFAULT false) RETURNS bigint
    LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    -- Of two sessions with one webhook the second waits here, for what it would queue again.
    webhook webhook_events_internal.webhooks := webhook_events_internal.find_webhook(webhook_id);
    failed_only boolean := coalesce(only_failed, false);
    wrong text;
    events text[];
    queued record;
BEGIN
    PERFORM webhook_events_internal.check_span(since, until);
    wrong := CASE WHEN cardinality(event_types) = 0 THEN 'the list of event types of a replay is empty'
        WHEN EXISTS (SELECT FROM unnest(event_types) AS t (type) WHERE t.type IS NULL)
            THEN 'an event type of a replay is null'
        WHEN 'TEST' = ANY (event_types) THEN 'events of type TEST are not replayed' END;
    IF wrong IS NOT NULL THEN
        RAISE EXCEPTION '%', wrong
            USING ERRCODE = 'invalid_parameter_value', HINT = 'Leave event_types NULL for all.';
    END IF;
    IF NOT (webhook.is_enabled OR webhook.is_retired) THEN
        RAISE EXCEPTION 'webhook "%" is disabled', webhook.id
            USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;

    -- What still waits is sent anyway, and so is what is not routed yet.
    WITH active AS MATERIALIZED (
        SELECT a.event_id FROM webhook_events_internal.active_events(webhook.id) AS a (event_id)
    ), unrouted AS MATERIALIZED (
        SELECT u.id FROM webhook_events_internal.unrouted_events() AS u
        WHERE u.created_at >= webhook.created_at
    ), event AS MATERIALIZED (
        SELECT e.id, e.event_type, webhook_events_internal.dispatch_id(e.id, webhook.id) AS dispatch_id
        FROM webhook_events_internal.outbox AS e
        WHERE e.id >= webhook_events.id_lower_bound(since)
            AND e.id < webhook_events.id_lower_bound(until)
            AND e.webhook_id IS NULL AND webhook_events_internal.may_see(e.user_id)
            AND (replay.event_types IS NULL OR e.event_type = ANY (replay.event_types))
            AND webhook_events_internal.refusal(webhook, e.event_type, e.user_id, e.actor_id,
                e.actor_task_id, e.actor_run_id) IS NULL
            AND e.id NOT IN (SELECT a.event_id FROM active AS a)
            AND e.id NOT IN (SELECT u.id FROM unrouted AS u)
    ), wanted AS (
        SELECT e.* FROM event AS e
        WHERE NOT failed_only
            OR (SELECT bool_and(d.status = 'FAILED') FROM (
                SELECT f.status FROM webhook_events_internal.dispatches AS f WHERE f.id = e.dispatch_id
                UNION ALL
                SELECT f.status FROM webhook_events_internal.dispatches AS f
                WHERE f.replay_of = e.dispatch_id) AS d)
    )
    SELECT array_agg(w.id ORDER BY w.id) INTO events FROM wanted AS w;
    IF events IS NULL THEN
        RETURN 0;
    END IF;
    SELECT count(*) AS dispatches, min(q.id COLLATE "C") AS first, max(q.id COLLATE "C") AS last INTO queued
    FROM webhook_events_internal.queue_dispatches(webhook.id, events, NULL) AS q (id);
    INSERT INTO webhook_events_internal.replay_calls (webhook_id, user_id, dispatches,
            first_dispatch_id, last_dispatch_id)
        SELECT webhook.id, webhook.user_id, queued.dispatches, queued.first, queued.last
        WHERE queued.dispatches > 0;
    -- What another call of the same user is just deleting is left to it.  Only the one or the
    -- other condition is looked up by the index.
    EXECUTE format('DELETE FROM webhook_events_internal.replay_calls AS c WHERE c.id IN ('
        ' SELECT o.id FROM webhook_events_internal.replay_calls AS o WHERE o.user_id %1$s AND o.id < ('
        ' SELECT k.id FROM webhook_events_internal.replay_calls AS k WHERE k.user_id %1$s'
        ' ORDER BY k.id DESC OFFSET 999 LIMIT 1)'
        ' FOR UPDATE SKIP LOCKED)', CASE WHEN webhook.user_id IS NULL THEN 'IS NULL' ELSE '= $1' END)
        USING webhook.user_id;
    RETURN queued.dispatches;
END
$function$;
COMMENT ON FUNCTION webhook_events_internal.replay(text, timestamptz, timestamptz,
        webhook_events.event_type[], boolean) IS
    'queues past events for one webhook, behind all others; returns how many';
REVOKE ALL ON FUNCTION webhook_events_internal.replay(text, timestamptz, timestamptz,
        webhook_events.event_type[], boolean) FROM PUBLIC;

