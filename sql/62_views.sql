
--
-- What is going on, seen at a glance
--
-- The functions that the views call have EXECUTE for PUBLIC, as those in
-- 10_rules.sql: nobody can name them, and the views say who sees what.
--

CREATE FUNCTION webhook_events_internal.url_host(url text) RETURNS text
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'webhook_events_url_host';
COMMENT ON FUNCTION webhook_events_internal.url_host(text) IS
    'the "host:port" whose share of requests a URL takes; NULL if the URL is not valid';

-- A path can be a secret: that of a chat's incoming webhook is.  It sets nothing,
-- so that it becomes part of the query that calls it.
CREATE FUNCTION webhook_events_internal.mask_url(url text) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN pg_catalog.regexp_replace(url, '^(?:([A-Za-z]+://)([^/?#]*@)?([^/?#]*))?.*$', E'\\1\\3');
COMMENT ON FUNCTION webhook_events_internal.mask_url(text) IS
    'of a URL what is no secret: scheme, host and port; nothing of what is none';

CREATE FUNCTION webhook_events_internal.live_flights(OUT dispatch_id text, OUT webhook_id text,
        OUT host text, OUT attempt integer, OUT started_at timestamptz) RETURNS SETOF record
    LANGUAGE c STABLE STRICT COST 10 ROWS 16
    AS 'MODULE_PATHNAME', 'webhook_events_live_flights';
COMMENT ON FUNCTION webhook_events_internal.live_flights() IS
    'the requests that this database''s worker has under way';

CREATE FUNCTION webhook_events_internal.live_hosts(OUT host text, OUT in_flight integer,
        OUT queued integer, OUT silences integer, OUT rests_until timestamptz,
        OUT is_probed boolean, OUT is_slow boolean, OUT is_congested boolean,
        OUT calls bigint, OUT failures bigint, OUT p50_ms double precision,
        OUT p95_ms double precision, OUT behind_since timestamptz, OUT waits_for text) RETURNS SETOF record
    LANGUAGE c STABLE STRICT COST 10 ROWS 16
    AS 'MODULE_PATHNAME', 'webhook_events_live_hosts';
COMMENT ON FUNCTION webhook_events_internal.live_hosts() IS
    'the hosts that this database''s worker met last';

CREATE FUNCTION webhook_events_internal.work_time() RETURNS timestamptz
    LANGUAGE c STABLE STRICT
    AS 'MODULE_PATHNAME', 'webhook_events_work_time';
COMMENT ON FUNCTION webhook_events_internal.work_time() IS
    'the worker''s time, which next_attempt_at is compared with: the clock''s, unless that was set';

CREATE FUNCTION webhook_events_internal.delivers() RETURNS boolean
    LANGUAGE c STABLE STRICT
    AS 'MODULE_PATHNAME', 'webhook_events_delivers';
COMMENT ON FUNCTION webhook_events_internal.delivers() IS
    'does status() know no reason why nothing is delivered?';

CREATE FUNCTION webhook_events_internal.live_tally() RETURNS bigint[]
    LANGUAGE c VOLATILE STRICT
    AS 'MODULE_PATHNAME', 'webhook_events_live_tally';
COMMENT ON FUNCTION webhook_events_internal.live_tally() IS
    'what this database''s worker has counted, as in tallies; NULL if it does not run';

CREATE FUNCTION webhook_events_internal.tally_bounds() RETURNS double precision[]
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'webhook_events_tally_bounds';
COMMENT ON FUNCTION webhook_events_internal.tally_bounds() IS
    'the upper bounds, in seconds, of the classes of histograms; one more class has the rest';

-- OFFSET keeps conditions of a query behind the view's own.
CREATE VIEW webhook_events.in_flight WITH (security_barrier = true) AS
    SELECT f.dispatch_id, f.webhook_id, f.host, f.attempt, f.started_at,
        pg_catalog.clock_timestamp() - f.started_at AS age
    FROM webhook_events_internal.live_flights() AS f
    WHERE (SELECT webhook_events_internal.sees_all(false))
        OR EXISTS (SELECT FROM webhook_events_internal.webhooks AS w WHERE w.id = f.webhook_id
            AND w.user_id = (SELECT webhook_events_internal.own_user(false)))
    OFFSET 0;
COMMENT ON VIEW webhook_events.in_flight IS
    'the calls that are under way now, up to as many as max_in_flight was when the server started';
COMMENT ON COLUMN webhook_events.in_flight.dispatch_id IS
    'the dispatch that is called; it may have no row yet';
COMMENT ON COLUMN webhook_events.in_flight.webhook_id IS 'its webhook';
COMMENT ON COLUMN webhook_events.in_flight.host IS 'host and port that are called';
COMMENT ON COLUMN webhook_events.in_flight.attempt IS 'which call of the dispatch it is, from 1';
COMMENT ON COLUMN webhook_events.in_flight.started_at IS 'when the call started';
COMMENT ON COLUMN webhook_events.in_flight.age IS 'for how long it has been under way';

-- Who may see one user's webhooks only sees nothing of what others share with it.
CREATE VIEW webhook_events.hosts WITH (security_barrier = true) AS
    SELECT h.host,
        CASE WHEN h.rests_until IS NOT NULL THEN 'resting'
            WHEN h.is_probed THEN 'probed'
            WHEN h.waits_for IS NOT NULL THEN 'share full'
            WHEN h.is_congested THEN 'congested'
            WHEN h.is_slow THEN 'slow'
            ELSE 'ready' END AS state,
        CASE WHEN h.rests_until IS NOT NULL OR h.is_probed
            THEN pg_catalog.format('the last %s calls got no answer, so it gets one at a time',
                h.silences)
            WHEN h.waits_for IS NOT NULL
                THEN pg_catalog.format('its %s has all the calls under way that it may have', h.waits_for)
            WHEN h.is_congested THEN 'it answers slower than new dispatches come, so they wait in the table'
            WHEN h.is_slow THEN 'its last answer was late or did not come' END AS state_reason,
        h.rests_until AS state_until, h.in_flight, h.queued,
        (SELECT pg_catalog.count(*) FROM (
            SELECT d.webhook_id FROM webhook_events_internal.dispatches AS d
            WHERE d.status = 'ACTIVE' LIMIT 10000) AS d
            JOIN webhook_events_internal.webhooks AS w ON w.id = d.webhook_id
            WHERE webhook_events_internal.url_host(w.request_url) = h.host) AS waiting,
        h.calls, h.failures, h.silences,
        pg_catalog.round(h.p50_ms::numeric, 1) AS p50_ms,
        pg_catalog.round(h.p95_ms::numeric, 1) AS p95_ms, h.behind_since
    FROM webhook_events_internal.live_hosts() AS h
    WHERE (SELECT webhook_events_internal.sees_all(false));
COMMENT ON VIEW webhook_events.hosts IS
    'the hosts that the worker met last, up to 256, and how they stand since it started';
COMMENT ON COLUMN webhook_events.hosts.host IS 'host and port';
COMMENT ON COLUMN webhook_events.hosts.state IS
    'ready, slow, congested, share full (its address or a user has all that it may take), probed (one call at a time until it answers) or resting';
COMMENT ON COLUMN webhook_events.hosts.state_reason IS 'why it is not ready';
COMMENT ON COLUMN webhook_events.hosts.state_until IS 'when its rest ends and it is called again';
COMMENT ON COLUMN webhook_events.hosts.in_flight IS 'calls under way';
COMMENT ON COLUMN webhook_events.hosts.queued IS 'dispatches in the worker''s memory that wait for room';
COMMENT ON COLUMN webhook_events.hosts.waiting IS
    'those of up to 10,000 dispatches that wait in the table which are for it';
COMMENT ON COLUMN webhook_events.hosts.calls IS 'calls that ended since the worker started';
COMMENT ON COLUMN webhook_events.hosts.failures IS 'those of them that failed';
COMMENT ON COLUMN webhook_events.hosts.silences IS 'calls in a row that got no answer';
COMMENT ON COLUMN webhook_events.hosts.p50_ms IS 'half of the calls took less, in milliseconds';
COMMENT ON COLUMN webhook_events.hosts.p95_ms IS '95 of 100 calls took less, in milliseconds';
COMMENT ON COLUMN webhook_events.hosts.behind_since IS
    'since when something waits for room there; NULL: nothing does';

CREATE FUNCTION webhook_events_internal.under_way(OUT what text, OUT since timestamptz,
        OUT done bigint, OUT total bigint) RETURNS SETOF record
    LANGUAGE c VOLATILE STRICT COST 1000 ROWS 3
    AS 'MODULE_PATHNAME', 'webhook_events_under_way';
COMMENT ON FUNCTION webhook_events_internal.under_way() IS
    'what this database''s worker is behind with, and what its maintenance does';

CREATE VIEW webhook_events.progress WITH (security_barrier = true) AS
    SELECT u.what, u.since, u.done, u.total, pg_catalog.round(u.rate, 1) AS rate,
        pg_catalog.clock_timestamp() + pg_catalog.make_interval(secs =>
            (u.total - u.done) / nullif(u.rate, 0)::double precision) AS ends_at
    FROM (SELECT w.what, w.since, w.done, w.total, w.done / greatest(EXTRACT(
            epoch FROM pg_catalog.clock_timestamp() - w.since), 0.001) AS rate
        FROM webhook_events_internal.under_way() AS w OFFSET 0) AS u;
COMMENT ON VIEW webhook_events.progress IS
    'what takes long: a backlog that drains, after a pause or an overload, and the making, dropping and indexing of tables of days';
COMMENT ON COLUMN webhook_events.progress.what IS
    'routing events, calling, or what maintenance does';
COMMENT ON COLUMN webhook_events.progress.since IS 'since when';
COMMENT ON COLUMN webhook_events.progress.done IS
    'how many events, dispatches or tables were done since then';
COMMENT ON COLUMN webhook_events.progress.total IS
    'those and what waits, of which 100,000 are counted at most';
COMMENT ON COLUMN webhook_events.progress.rate IS 'how many of them in a second';
COMMENT ON COLUMN webhook_events.progress.ends_at IS
    'when all will be done at this rate, if nothing is added; NULL: nothing was done yet';

-- What has ended has what is shown of its last call in its own row, as a rule.  Else that call has the
-- number of its attempts, so that one look-up finds it.  Every join is by a key, so filters on any id reach their index.  Nothing in it is
-- volatile, so that it can become a part of the query that asks for the newest fifty.
CREATE VIEW webhook_events.deliveries WITH (security_barrier = true) AS
    SELECT d.id, d.created_at, d.event_id, d.event_type, d.user_id, e.actor_id,
        e.actor_task_id, e.actor_run_id, e.actor_build_id, d.webhook_id,
        webhook_events_internal.mask_url(w.request_url) AS request_url,
        webhook_events_internal.url_host(w.request_url) AS host,
        CASE d.status WHEN 'SUCCEEDED' THEN 'succeeded' WHEN 'FAILED' THEN 'failed'
            ELSE CASE
                WHEN d.id IN (SELECT f.dispatch_id FROM webhook_events_internal.live_flights() AS f)
                    THEN 'sending'
                WHEN (SELECT EXISTS (SELECT FROM webhook_events_internal.pauses)) THEN 'paused'
                WHEN NOT (SELECT webhook_events_internal.delivers()) THEN 'no delivery'
                WHEN d.next_attempt_at = 'infinity' THEN 'waiting for its turn'
                WHEN d.attempts > 0 AND d.next_attempt_at > webhook_events_internal.work_time()
                    THEN CASE WHEN d.order_key IS NULL AND d.holds_until IS NOT NULL
                        THEN 'waiting for a retry, passed by those behind it'
                        ELSE 'waiting for a retry' END
                WHEN webhook_events_internal.url_host(w.request_url) IN (
                    SELECT h.host FROM webhook_events_internal.live_hosts() AS h
                    WHERE h.rests_until IS NOT NULL OR h.is_probed)
                    THEN 'host rests'
                WHEN webhook_events_internal.url_host(w.request_url) IN (
                    SELECT h.host FROM webhook_events_internal.live_hosts() AS h
                    WHERE h.waits_for IS NOT NULL)
                    THEN 'share full'
                WHEN w.max_rate IS NOT NULL THEN 'held back by the rate'
                ELSE 'queued' END
            END AS state,
        d.attempts, nullif(coalesce(c.response_status, d.last_status), 0) AS last_status,
        coalesce(CASE d.status WHEN 'FAILED' THEN d.error_message END, c.error_message, d.error_message) AS last_error,
        coalesce(c.duration, c.finished_at - c.started_at, d.last_duration) AS last_duration, d.next_attempt_at, d.finished_at
    FROM webhook_events_internal.dispatches AS d
        LEFT JOIN webhook_events_internal.outbox AS e ON e.id = d.event_id
        LEFT JOIN webhook_events_internal.webhooks AS w ON w.id = d.webhook_id
        LEFT JOIN webhook_events_internal.calls AS c
            ON c.dispatch_id = CASE WHEN d.attempts > 0 AND (d.last_status IS NULL OR d.status = 'ACTIVE') THEN d.id END
                AND c.attempt = d.attempts
    WHERE (SELECT webhook_events_internal.sees_all(false))
        OR d.user_id = (SELECT webhook_events_internal.own_user(false));
COMMENT ON VIEW webhook_events.deliveries IS
    'each dispatch with its event, its webhook and its last call';
COMMENT ON COLUMN webhook_events.deliveries.id IS 'of the dispatch; newest last';
COMMENT ON COLUMN webhook_events.deliveries.created_at IS 'when the dispatch was made';
COMMENT ON COLUMN webhook_events.deliveries.event_id IS 'the event that it takes to the webhook';
COMMENT ON COLUMN webhook_events.deliveries.event_type IS 'the type of that event';
COMMENT ON COLUMN webhook_events.deliveries.user_id IS 'the webhook''s user';
COMMENT ON COLUMN webhook_events.deliveries.actor_id IS 'the event''s Actor';
COMMENT ON COLUMN webhook_events.deliveries.actor_task_id IS 'the event''s task, if one was used';
COMMENT ON COLUMN webhook_events.deliveries.actor_run_id IS 'the event''s run, if it is about one';
COMMENT ON COLUMN webhook_events.deliveries.actor_build_id IS 'the event''s build, if it is about one';
COMMENT ON COLUMN webhook_events.deliveries.webhook_id IS 'who gets the event';
COMMENT ON COLUMN webhook_events.deliveries.request_url IS
    'the webhook''s URL as it is now, without what could be secret in it';
COMMENT ON COLUMN webhook_events.deliveries.host IS 'host and port of that URL';
COMMENT ON COLUMN webhook_events.deliveries.state IS
    'sending, paused, no delivery (status() has the reason), queued, waiting for its turn, waiting for a retry (passed by those behind it, if it held them back for too long), held back by the rate, host rests, share full (its address or a user has all that it may take), succeeded or failed';
COMMENT ON COLUMN webhook_events.deliveries.attempts IS 'calls that have ended';
COMMENT ON COLUMN webhook_events.deliveries.last_status IS
    'HTTP status of the last call; NULL: it got no answer, or there was none';
COMMENT ON COLUMN webhook_events.deliveries.last_error IS
    'why it was given up; of one that waits why the last call failed';
COMMENT ON COLUMN webhook_events.deliveries.last_duration IS 'how long the last call took';
COMMENT ON COLUMN webhook_events.deliveries.next_attempt_at IS
    'when it is called next, at the earliest; NULL: not at all, or when nothing else waits; infinity: when its turn comes';
COMMENT ON COLUMN webhook_events.deliveries.finished_at IS 'when it was delivered or given up';

-- Counts are of the webhook's newest dispatches, so that a busy one is read no
-- longer than others; nothing is counted for a column that nobody asks for.
CREATE VIEW webhook_events.webhook_health WITH (security_barrier = true) AS
    SELECT w.id AS webhook_id, w.user_id,
        webhook_events_internal.url_host(w.request_url) AS host, w.is_enabled,
        CASE WHEN NOT w.is_enabled THEN coalesce(w.disabled_reason, 'disabled by a person') END
            AS disabled_reason,
        s.failing_since,
        (SELECT d.finished_at FROM (SELECT r.status, r.finished_at
            FROM webhook_events_internal.dispatches AS r
            WHERE r.webhook_id = w.id ORDER BY r.id DESC LIMIT 1000) AS d
            WHERE d.status = 'SUCCEEDED' ORDER BY d.finished_at DESC LIMIT 1) AS last_success_at,
        f.finished_at AS last_failure_at, f.error_message AS last_error,
        r.calls_1h, r.failures_1h, r.calls_24h, r.failures_24h,
        (SELECT pg_catalog.count(*) FROM (SELECT FROM webhook_events_internal.dispatches AS d
            WHERE d.status = 'ACTIVE' AND d.webhook_id = w.id LIMIT 10000) AS d) AS waiting,
        (SELECT d.next_attempt_at FROM webhook_events_internal.dispatches AS d
            WHERE d.status = 'ACTIVE' AND d.webhook_id = w.id AND d.next_attempt_at < 'infinity'
            ORDER BY d.next_attempt_at LIMIT 1) AS oldest_due_at,
        pg_catalog.round(r.p50_ms::numeric, 1) AS p50_ms,
        pg_catalog.round(r.p95_ms::numeric, 1) AS p95_ms
    FROM webhook_events_internal.webhooks AS w
        LEFT JOIN webhook_events_internal.webhook_stats AS s ON s.webhook_id = w.id
        LEFT JOIN LATERAL (
            SELECT c.finished_at, c.error_message
            FROM (SELECT n.id FROM webhook_events_internal.dispatches AS n
                WHERE n.webhook_id = w.id ORDER BY n.id DESC LIMIT 1000) AS d
                JOIN webhook_events_internal.calls AS c ON c.dispatch_id = d.id
            WHERE c.error_message IS NOT NULL
            ORDER BY c.finished_at DESC LIMIT 1) AS f ON true
        LEFT JOIN LATERAL (
            SELECT pg_catalog.count(*) FILTER (WHERE c.is_recent) AS calls_1h,
                pg_catalog.count(*) FILTER (WHERE c.is_recent AND c.failed) AS failures_1h,
                pg_catalog.count(*) AS calls_24h,
                pg_catalog.count(*) FILTER (WHERE c.failed) AS failures_24h,
                pg_catalog.percentile_cont(0.5) WITHIN GROUP (ORDER BY c.took) AS p50_ms,
                pg_catalog.percentile_cont(0.95) WITHIN GROUP (ORDER BY c.took) AS p95_ms
            FROM (SELECT k.finished_at > pg_catalog.now() - interval '1 hour' AS is_recent,
                    k.error_message IS NOT NULL AS failed,
                    pg_catalog.date_part('epoch', coalesce(k.duration, k.finished_at - k.started_at)) * 1000 AS took
                FROM (SELECT n.id FROM webhook_events_internal.dispatches AS n
                    WHERE n.webhook_id = w.id ORDER BY n.id DESC LIMIT 10000) AS d
                    JOIN webhook_events_internal.calls AS k ON k.dispatch_id = d.id
                WHERE k.finished_at > pg_catalog.now() - interval '24 hours') AS c) AS r ON true
    WHERE (SELECT webhook_events_internal.sees_all(false))
        OR w.user_id = (SELECT webhook_events_internal.own_user(false));
COMMENT ON VIEW webhook_events.webhook_health IS
    'how each webhook fares; ask for one, or for those with failing_since IS NOT NULL';
COMMENT ON COLUMN webhook_events.webhook_health.webhook_id IS 'the webhook';
COMMENT ON COLUMN webhook_events.webhook_health.user_id IS 'its user';
COMMENT ON COLUMN webhook_events.webhook_health.host IS 'host and port of its URL';
COMMENT ON COLUMN webhook_events.webhook_health.is_enabled IS 'whether it gets events';
COMMENT ON COLUMN webhook_events.webhook_health.disabled_reason IS 'why it gets none';
COMMENT ON COLUMN webhook_events.webhook_health.failing_since IS
    'since when no call has succeeded, half a minute late at most; NULL: the last ones have';
COMMENT ON COLUMN webhook_events.webhook_health.last_success_at IS
    'when one of its newest 1,000 dispatches was delivered last';
COMMENT ON COLUMN webhook_events.webhook_health.last_failure_at IS
    'when a call of one of its newest 1,000 dispatches failed last';
COMMENT ON COLUMN webhook_events.webhook_health.last_error IS 'why that call failed';
COMMENT ON COLUMN webhook_events.webhook_health.calls_1h IS
    'calls of its newest 10,000 dispatches that ended within the last hour';
COMMENT ON COLUMN webhook_events.webhook_health.failures_1h IS 'those of them that failed';
COMMENT ON COLUMN webhook_events.webhook_health.calls_24h IS
    'calls of its newest 10,000 dispatches that ended within the last 24 hours';
COMMENT ON COLUMN webhook_events.webhook_health.failures_24h IS 'those of them that failed';
COMMENT ON COLUMN webhook_events.webhook_health.waiting IS
    'dispatches that wait in the table, counted up to 10,000';
COMMENT ON COLUMN webhook_events.webhook_health.oldest_due_at IS
    'when the one that waits longest is or was due';
COMMENT ON COLUMN webhook_events.webhook_health.p50_ms IS
    'half of the calls of the last 24 hours took less, in milliseconds';
COMMENT ON COLUMN webhook_events.webhook_health.p95_ms IS
    '95 of 100 of them took less, in milliseconds';

--
-- Counters
--

CREATE FUNCTION webhook_events_internal.stat_reset() RETURNS void
    LANGUAGE sql VOLATILE
    SET search_path = pg_catalog, pg_temp
AS $function$
    DELETE FROM webhook_events_internal.tally_resets;
    INSERT INTO webhook_events_internal.tally_resets (counters)
        SELECT coalesce(webhook_events_internal.live_tally(),
            (SELECT t.counters FROM webhook_events_internal.tallies AS t
            ORDER BY t.number DESC LIMIT 1), '{}')
        ON CONFLICT DO NOTHING
$function$;
COMMENT ON FUNCTION webhook_events_internal.stat_reset() IS
    'lets the counters of stat_delivery begin anew';
REVOKE ALL ON FUNCTION webhook_events_internal.stat_reset() FROM PUBLIC;

-- Arrays of a histogram: how many were in each class, by the upper bounds in
-- bounds; the last class has what exceeds all.
CREATE VIEW webhook_events.stat_delivery WITH (security_barrier = true) AS
    SELECT t.stats_reset, t.counters[1] AS worker_starts, t.counters[2] AS events_routed,
        t.counters[3] AS dispatches, t.counters[17] AS succeeded, t.counters[18] AS given_up,
        t.counters[4] AS calls, t.counters[16] AS retries,
        t.counters[5] AS status_1xx, t.counters[6] AS status_2xx, t.counters[7] AS status_3xx,
        t.counters[8] AS status_4xx, t.counters[9] AS status_5xx,
        t.counters[10] AS errors_name, t.counters[11] AS errors_connection,
        t.counters[12] AS errors_tls, t.counters[13] AS errors_timeout,
        t.counters[14] AS errors_not_allowed, t.counters[15] AS errors_broken,
        t.counters[19] AS webhooks_disabled, t.counters[20] AS bytes_sent,
        t.counters[21] AS bytes_received,
        webhook_events_internal.tally_bounds() AS bounds,
        t.counters[27:45] AS delay, t.counters[22] / 1e6 AS delay_sum,
        t.counters[46:64] AS duration, t.counters[23] / 1e6 AS duration_sum,
        t.counters[24] AS problem_events, t.counters[25] AS calls_cut_short,
        t.counters[26] AS left_out
    FROM (SELECT b.reset_at AS stats_reset, (SELECT pg_catalog.array_agg(
                greatest(n.total - coalesce(n.base, 0), 0) ORDER BY n.place)
            FROM ROWS FROM (pg_catalog.unnest(coalesce(webhook_events_internal.live_tally(),
                    (SELECT c.counters FROM webhook_events_internal.tallies AS c
                    ORDER BY c.number DESC LIMIT 1),
                    pg_catalog.array_fill(0::bigint, ARRAY[64]))),
                pg_catalog.unnest(b.counters)) WITH ORDINALITY AS n (total, base, place))
            AS counters
        FROM (SELECT 1) AS one LEFT JOIN (SELECT * FROM webhook_events_internal.tally_resets
            ORDER BY reset_at DESC LIMIT 1) AS b ON true) AS t;
COMMENT ON VIEW webhook_events.stat_delivery IS
    'what workers of this database have counted since stat_reset(), kept over restarts';
COMMENT ON COLUMN webhook_events.stat_delivery.stats_reset IS
    'when stat_reset() was called last; NULL: never';
COMMENT ON COLUMN webhook_events.stat_delivery.worker_starts IS 'how often a worker has started';
COMMENT ON COLUMN webhook_events.stat_delivery.events_routed IS
    'events for which webhooks were looked for';
COMMENT ON COLUMN webhook_events.stat_delivery.dispatches IS 'dispatches that were made of them';
COMMENT ON COLUMN webhook_events.stat_delivery.succeeded IS 'dispatches that were delivered';
COMMENT ON COLUMN webhook_events.stat_delivery.given_up IS 'dispatches that failed for good';
COMMENT ON COLUMN webhook_events.stat_delivery.calls IS 'HTTP calls that ended';
COMMENT ON COLUMN webhook_events.stat_delivery.retries IS
    'those of them that were not a dispatch''s first';
COMMENT ON COLUMN webhook_events.stat_delivery.status_1xx IS 'calls answered with a status of 1XX';
COMMENT ON COLUMN webhook_events.stat_delivery.status_2xx IS 'calls answered with a status of 2XX';
COMMENT ON COLUMN webhook_events.stat_delivery.status_3xx IS 'calls answered with a status of 3XX';
COMMENT ON COLUMN webhook_events.stat_delivery.status_4xx IS 'calls answered with a status of 4XX';
COMMENT ON COLUMN webhook_events.stat_delivery.status_5xx IS
    'calls answered with a status of 5XX or more';
COMMENT ON COLUMN webhook_events.stat_delivery.errors_name IS
    'calls that failed because the host''s name has no address';
COMMENT ON COLUMN webhook_events.stat_delivery.errors_connection IS
    'calls that failed because the host refused or could not be reached';
COMMENT ON COLUMN webhook_events.stat_delivery.errors_tls IS
    'calls that failed because of certificates or versions of TLS';
COMMENT ON COLUMN webhook_events.stat_delivery.errors_timeout IS
    'calls that failed because they took too long';
COMMENT ON COLUMN webhook_events.stat_delivery.errors_not_allowed IS
    'calls that were not made because the address or the port is not allowed';
COMMENT ON COLUMN webhook_events.stat_delivery.errors_broken IS
    'calls that failed half way, or for any other reason';
COMMENT ON COLUMN webhook_events.stat_delivery.webhooks_disabled IS
    'webhooks that were disabled because they answered 410 or kept failing';
COMMENT ON COLUMN webhook_events.stat_delivery.bytes_sent IS 'bytes of the calls'' bodies';
COMMENT ON COLUMN webhook_events.stat_delivery.bytes_received IS
    'bytes of the answers'' bodies, up to response_body_limit of each';
COMMENT ON COLUMN webhook_events.stat_delivery.bounds IS
    'upper bounds, in seconds, of the classes of delay and duration; the last class has the rest';
COMMENT ON COLUMN webhook_events.stat_delivery.delay IS
    'dispatches by the time from their event to the start of their first call';
COMMENT ON COLUMN webhook_events.stat_delivery.delay_sum IS 'the sum of those times, in seconds';
COMMENT ON COLUMN webhook_events.stat_delivery.duration IS 'calls by how long they took';
COMMENT ON COLUMN webhook_events.stat_delivery.duration_sum IS 'the sum of those times, in seconds';
COMMENT ON COLUMN webhook_events.stat_delivery.problem_events IS
    'events of those routed whose resource could not be made, or not all of the event';
COMMENT ON COLUMN webhook_events.stat_delivery.calls_cut_short IS
    'calls that were given up, to be made again, so that another database got a worker';
COMMENT ON COLUMN webhook_events.stat_delivery.left_out IS
    'events and dispatches that could not be routed or recorded, each of which is in the server''s log';
