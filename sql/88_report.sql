
--
-- For machines: metrics
--

CREATE FUNCTION webhook_events_internal.metric_label(value text) RETURNS text
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    RETURN pg_catalog.replace(pg_catalog.replace(pg_catalog.replace(value, E'\\', E'\\\\'), '"', E'\\"'),
        E'\n', E'\\n');
COMMENT ON FUNCTION webhook_events_internal.metric_label(text) IS
    'a label''s value as OpenMetrics writes it';
REVOKE ALL ON FUNCTION webhook_events_internal.metric_label(text) FROM PUBLIC;

CREATE FUNCTION webhook_events_internal.metrics() RETURNS text
    LANGUAGE sql VOLATILE
    SET search_path = pg_catalog, pg_temp
    SET extra_float_digits = 1
    SET jit = off
AS $function$
    WITH status AS MATERIALIZED (
        SELECT * FROM webhook_events_internal.status()
    ), stat AS MATERIALIZED (
        SELECT * FROM webhook_events.stat_delivery
    ), host AS MATERIALIZED (
        SELECT h.*, format('{host="%s"}', webhook_events_internal.metric_label(h.host)) AS labels
        FROM webhook_events_internal.live_hosts() AS h
    ), family (number, name, type, help) AS (VALUES
        (1, 'worker_running', 'gauge', 'Whether a worker runs for the database.'),
        (2, 'delivering', 'gauge', 'Whether what is due is sent: a worker runs and nothing holds it.'),
        (3, 'worker_starts', 'counter', 'Starts of workers.'),
        (4, 'events_waiting', 'gauge', 'Events that were not routed yet, counted up to 100000.'),
        (5, 'routing_lag_seconds', 'gauge', 'Age of the oldest event that was not routed yet.'),
        (6, 'dispatches_active', 'gauge', 'Dispatches that wait or are sent, counted up to 100000.'),
        (7, 'delivery_lag_seconds', 'gauge', 'For how long the oldest dispatch that waits has been due.'),
        (8, 'in_flight', 'gauge', 'Calls under way.'),
        (9, 'failing_webhooks', 'gauge', 'Webhooks whose last calls have all failed.'),
        (10, 'resting_hosts', 'gauge', 'Hosts that are not called because they do not answer.'),
        (11, 'problems', 'gauge', 'What status() says is broken, by kind.'),
        (12, 'events_routed', 'counter', 'Events for which webhooks were looked for.'),
        (13, 'dispatches', 'counter', 'Dispatches that were made.'),
        (14, 'dispatches_ended', 'counter', 'Dispatches that were delivered or given up.'),
        (15, 'calls', 'counter', 'Calls that ended, by class of the status or kind of error.'),
        (16, 'retries', 'counter', 'Calls that were not the first of a dispatch.'),
        (17, 'webhooks_disabled', 'counter', 'Webhooks disabled because they answered 410 or kept failing.'),
        (18, 'bytes', 'counter', 'Bytes of bodies, sent and received.'),
        (19, 'delay_seconds', 'histogram', 'From an event to the start of its first call.'),
        (20, 'call_duration_seconds', 'histogram', 'How long calls took.'),
        (21, 'host_in_flight', 'gauge', 'Calls under way to a host.'),
        (22, 'host_queued', 'gauge', 'Dispatches in memory that wait for room at a host.'),
        (23, 'host_resting', 'gauge', 'Whether a host is not called because it does not answer.'),
        (24, 'host_calls', 'counter', 'Calls to a host since the worker started.'),
        (25, 'host_failures', 'counter', 'Those of them that failed.'),
        (26, 'table_bytes', 'gauge', 'Size of the logs of events, dispatches and calls.'),
        (27, 'held_dispatches', 'gauge', 'Dispatches that wait behind another one of their lane.'),
        (28, 'full_shares', 'gauge', 'Users and addresses with all the calls under way that they may have.'),
        (29, 'problem_events', 'counter', 'Events of those routed that lack something.'),
        (30, 'calls_cut_short', 'counter', 'Calls given up so that another database got a worker.'),
        (31, 'left_out', 'counter', 'Events and dispatches that could not be routed or recorded.'),
        (32, 'behind_seconds', 'gauge', 'For how long more has been due than could be done at once.')
    ), histogram AS (
        SELECT h.family, h.place, h.count, h.total_count,
            sum(h.count) OVER (PARTITION BY h.family ORDER BY h.place) AS below,
            (SELECT s.bounds[h.place] FROM stat AS s) AS bound
        FROM (SELECT 19 AS family, u.place, u.count, NULL AS total_count
                FROM stat AS s CROSS JOIN LATERAL unnest(s.delay) WITH ORDINALITY AS u (count, place)
            UNION ALL
            SELECT 20, u.place, u.count, NULL
                FROM stat AS s CROSS JOIN LATERAL unnest(s.duration) WITH ORDINALITY AS u (count, place)) AS h
    ), sample (family, number, suffix, labels, value) AS (
        SELECT 1, 1, '', '', s.running::integer::numeric FROM status AS s
        UNION ALL SELECT 2, 1, '', '', (s.running AND s.reason IS NULL)::integer FROM status AS s
        UNION ALL SELECT 3, 1, '_total', '', s.worker_starts FROM stat AS s
        UNION ALL SELECT 4, 1, '', '', s.events_waiting FROM status AS s
        UNION ALL SELECT 5, 1, '', '', s.lag_seconds FROM status AS s
        UNION ALL SELECT 6, 1, '', '', s.dispatches_active FROM status AS s
        UNION ALL SELECT 7, 1, '', '', s.delivery_lag_seconds FROM status AS s
        UNION ALL SELECT 8, 1, '', '', coalesce(s.in_flight, 0) FROM status AS s
        UNION ALL SELECT 9, 1, '', '', s.failing_webhooks FROM status AS s
        UNION ALL SELECT 10, 1, '', '', s.resting_hosts FROM status AS s
        UNION ALL SELECT 11, p.number, '', format('{kind="%s"}', p.kind), coalesce(cardinality(p.problems), 0)
            FROM status AS s CROSS JOIN LATERAL (VALUES (1, 'trigger', s.broken_tables),
                (2, 'emit_off', s.emit_off), (3, 'file', s.unreadable_files),
                (4, 'subscription', s.subscriptions_down), (5, 'trouble', s.troubles),
                (6, 'maintenance', CASE WHEN s.maintenance_error IS NOT NULL THEN '{1}'::text[] END),
                (7, 'access', s.lost_accesses)) AS p (number, kind, problems)
        UNION ALL SELECT 12, 1, '_total', '', s.events_routed FROM stat AS s
        UNION ALL SELECT 13, 1, '_total', '', s.dispatches FROM stat AS s
        UNION ALL SELECT 14, c.number, '_total', format('{result="%s"}', c.result), c.count
            FROM stat AS s CROSS JOIN LATERAL (VALUES (1, 'succeeded', s.succeeded),
                (2, 'failed', s.given_up)) AS c (number, result, count)
        UNION ALL SELECT 15, c.number, '_total', format('{result="%s"}', c.result), c.count
            FROM stat AS s CROSS JOIN LATERAL (VALUES (1, '1xx', s.status_1xx), (2, '2xx', s.status_2xx),
                (3, '3xx', s.status_3xx), (4, '4xx', s.status_4xx), (5, '5xx', s.status_5xx),
                (6, 'name', s.errors_name), (7, 'connection', s.errors_connection),
                (8, 'tls', s.errors_tls), (9, 'timeout', s.errors_timeout),
                (10, 'not_allowed', s.errors_not_allowed), (11, 'broken', s.errors_broken))
                AS c (number, result, count)
        UNION ALL SELECT 16, 1, '_total', '', s.retries FROM stat AS s
        UNION ALL SELECT 17, 1, '_total', '', s.webhooks_disabled FROM stat AS s
        UNION ALL SELECT 18, c.number, '_total', format('{direction="%s"}', c.direction), c.count
            FROM stat AS s CROSS JOIN LATERAL (VALUES (1, 'sent', s.bytes_sent),
                (2, 'received', s.bytes_received)) AS c (number, direction, count)
        UNION ALL SELECT h.family, h.place, '_bucket',
                format('{le="%s"}', coalesce(h.bound::text, '+Inf')), h.below FROM histogram AS h
        UNION ALL SELECT h.family, 1000, '_count', '', sum(h.count) FROM histogram AS h GROUP BY h.family
        UNION ALL SELECT 19, 1001, '_sum', '', s.delay_sum FROM stat AS s
        UNION ALL SELECT 20, 1001, '_sum', '', s.duration_sum FROM stat AS s
        UNION ALL SELECT 21, 1, '', h.labels, h.in_flight FROM host AS h
        UNION ALL SELECT 22, 1, '', h.labels, h.queued FROM host AS h
        UNION ALL SELECT 23, 1, '', h.labels, (h.rests_until IS NOT NULL OR h.is_probed)::integer FROM host AS h
        UNION ALL SELECT 24, 1, '_total', h.labels, h.calls FROM host AS h
        UNION ALL SELECT 25, 1, '_total', h.labels, h.failures FROM host AS h
        UNION ALL SELECT 26, 1, '', format('{table="%s"}', replace(c.relname, 'outbox', 'events')),
                sum(pg_total_relation_size(i.inhrelid))
            FROM pg_inherits AS i JOIN pg_class AS c ON c.oid = i.inhparent
            WHERE c.oid IN ('webhook_events_internal.outbox'::regclass,
                'webhook_events_internal.dispatches'::regclass, 'webhook_events_internal.calls'::regclass)
            GROUP BY c.relname
        UNION ALL SELECT 27, 1, '', '', s.held_dispatches FROM status AS s
        UNION ALL SELECT 28, 1, '', '', coalesce(cardinality(s.full_shares), 0) FROM status AS s
        UNION ALL SELECT 29, 1, '_total', '', s.problem_events FROM stat AS s
        UNION ALL SELECT 30, 1, '_total', '', s.calls_cut_short FROM stat AS s
        UNION ALL SELECT 31, 1, '_total', '', s.left_out FROM stat AS s
        UNION ALL SELECT 32, q.number, '', format('{queue="%s"}', q.queue),
                coalesce(round(greatest(extract(epoch FROM clock_timestamp() - q.since), 0), 3), 0)
            FROM status AS s CROSS JOIN LATERAL (VALUES (1, 'routing', s.routing_behind_since),
                (2, 'delivery', s.delivery_behind_since)) AS q (number, queue, since)
    )
    SELECT string_agg(format(E'# HELP webhook_events_%1$s %2$s\n# TYPE webhook_events_%1$s %3$s\n%4$s',
            f.name, f.help, f.type, s.samples), '' ORDER BY f.number) || E'# EOF\n'
    FROM family AS f JOIN (
        SELECT v.family, string_agg(format(E'webhook_events_%s%s%s %s\n', n.name, v.suffix, v.labels,
            trim_scale(v.value)), '' ORDER BY v.number, v.labels COLLATE "C") AS samples
        FROM sample AS v JOIN family AS n ON n.number = v.family GROUP BY v.family) AS s
        ON s.family = f.number
$function$;
COMMENT ON FUNCTION webhook_events_internal.metrics() IS
    'counters, queues and what is broken, as OpenMetrics text';
REVOKE ALL ON FUNCTION webhook_events_internal.metrics() FROM PUBLIC;

--
-- For eyes: a report
--

CREATE FUNCTION webhook_events_internal.html(value text) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN webhook_events_internal.visible(pg_catalog.replace(pg_catalog.replace(pg_catalog.replace(pg_catalog.replace(
        pg_catalog.replace(value, '&', '&amp;'), '<', '&lt;'), '>', '&gt;'), '"', '&quot;'), '''', '&#39;'),
        '&#xFFFD;');
COMMENT ON FUNCTION webhook_events_internal.html(text) IS 'a text as HTML shows it';
REVOKE ALL ON FUNCTION webhook_events_internal.html(text) FROM PUBLIC;

CREATE FUNCTION webhook_events_internal.html_charset(encoding name) RETURNS text
    LANGUAGE sql IMMUTABLE
    SET search_path = pg_catalog, pg_temp
AS $function$
    SELECT CASE WHEN encoding ~ '^WIN125' OR encoding = 'WIN874' THEN 'windows-' || right(encoding, -3)
        WHEN encoding ~ '^ISO_8859_' THEN 'iso-8859-' || right(encoding, -9)
        ELSE coalesce('{"LATIN1": "iso-8859-1", "LATIN2": "iso-8859-2", "LATIN3": "iso-8859-3", "LATIN4": "iso-8859-4",
            "LATIN5": "iso-8859-9", "LATIN6": "iso-8859-10", "LATIN7": "iso-8859-13", "LATIN8": "iso-8859-14",
            "LATIN9": "iso-8859-15", "LATIN10": "iso-8859-16", "KOI8R": "koi8-r", "KOI8U": "koi8-u", "WIN866": "ibm866",
            "EUC_JP": "euc-jp", "EUC_JIS_2004": "euc-jp", "SJIS": "shift_jis", "SHIFT_JIS_2004": "shift_jis", "EUC_KR": "euc-kr",
            "UHC": "euc-kr", "EUC_CN": "gbk", "GBK": "gbk", "GB18030": "gb18030", "BIG5": "big5"}'::jsonb ->> encoding, 'utf-8') END
$function$;
COMMENT ON FUNCTION webhook_events_internal.html_charset(name) IS
    'an encoding as HTML names it; utf-8 where it has no name for it';
REVOKE ALL ON FUNCTION webhook_events_internal.html_charset(name) FROM PUBLIC;

-- "columns" are names of the query's; those that start with "#" stand on the right.
CREATE FUNCTION webhook_events_internal.html_table(columns text[], cells text[], nothing text)
    RETURNS text
    LANGUAGE sql IMMUTABLE
    SET search_path = pg_catalog, pg_temp
AS $function$
    SELECT CASE WHEN coalesce(cells, '{}') = '{}'
        THEN format('<p class="none">%s</p>', webhook_events_internal.html(nothing))
        ELSE format('<div class="wide"><table><thead><tr>%s</tr></thead><tbody>%s</tbody></table></div>',
            (SELECT string_agg(format('<th%s>%s</th>', CASE WHEN c.name LIKE '#%' THEN ' class="n"' END,
                webhook_events_internal.html(ltrim(c.name, '#'))), '' ORDER BY c.number)
            FROM unnest(columns) WITH ORDINALITY AS c (name, number)),
            (SELECT string_agg(r.html, '' ORDER BY r.row) FROM (
                SELECT (c.number - 1) / cardinality(columns) AS row,
                    '<tr>' || string_agg(format('<td%s>%s</td>',
                        CASE WHEN columns[(c.number - 1) % cardinality(columns) + 1] LIKE '#%' THEN ' class="n"' END,
                        coalesce(webhook_events_internal.html(c.value), '')), '' ORDER BY c.number) || '</tr>' AS html
                FROM unnest(cells) WITH ORDINALITY AS c (value, number) GROUP BY 1) AS r)) END
$function$;
COMMENT ON FUNCTION webhook_events_internal.html_table(text[], text[], text) IS
    'a table of cells, row by row, or a text if there are none';
REVOKE ALL ON FUNCTION webhook_events_internal.html_table(text[], text[], text) FROM PUBLIC;

-- Two series on one scale: as stacked bars, or as lines with gaps where nothing was.
CREATE FUNCTION webhook_events_internal.html_chart(title text, unit text, names text[],
        first double precision[], second double precision[], bars boolean, since timestamptz,
        until timestamptz) RETURNS text
    LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    width constant numeric := 720;
    height constant numeric := 140;
    count integer := cardinality(first);
    step numeric := width / greatest(count, 1);
    most numeric;
    marks text := '';
    value numeric;
    below numeric;
    path text;
    is_down boolean;
BEGIN
    SELECT max(CASE WHEN bars THEN coalesce(f.a, 0) + coalesce(f.b, 0) ELSE greatest(f.a, f.b) END)
    INTO most FROM unnest(first, second) AS f (a, b);
    IF coalesce(most, 0) = 0 THEN
        RETURN format('<figure><figcaption>%s</figcaption><p class="none">nothing in this span</p></figure>',
            webhook_events_internal.html(title));
    END IF;
    IF bars THEN
        FOR i IN 1 .. count LOOP
            below := coalesce(first[i], 0) / most * height;
            value := coalesce(second[i], 0) / most * height;
            IF below > 0 THEN
                marks := marks || format('<rect class="a" x="%s" y="%s" width="%s" height="%s"/>',
                    round((i - 1) * step, 1), round(height - below, 1), round(step * 0.85, 1), round(below, 1));
            END IF;
            IF value > 0 THEN
                marks := marks || format('<rect class="b" x="%s" y="%s" width="%s" height="%s"/>',
                    round((i - 1) * step, 1), round(height - below - greatest(value, 1), 1),
                    round(step * 0.85, 1), round(greatest(value, 1), 1));
            END IF;
        END LOOP;
    ELSE
        FOR series IN 1 .. 2 LOOP
            path := '';
            is_down := false;
            FOR i IN 1 .. count LOOP
                value := CASE series WHEN 1 THEN first[i] ELSE second[i] END;
                IF value IS NOT NULL THEN
                    path := path || format('%s%s,%s ', CASE WHEN is_down THEN 'L' ELSE 'M' END,
                        round((i - 0.5) * step, 1), round(height - value / most * height, 1))
                        -- A point by itself is a short line.
                        || CASE WHEN NOT is_down THEN 'h4 ' ELSE '' END;
                END IF;
                is_down := value IS NOT NULL;
            END LOOP;
            marks := marks || format('<path class="%s" d="%s"/>', CASE series WHEN 1 THEN 'a' ELSE 'b' END, path);
        END LOOP;
    END IF;
    RETURN format('<figure><figcaption>%s <span class="key a">%s</span> <span class="key b">%s</span></figcaption>'
        '<svg viewBox="-64 -10 800 184" role="img" aria-label="%1$s"><line x1="0" y1="%4$s" x2="%5$s" y2="%4$s"/>'
        '<line class="grid" x1="0" y1="0" x2="%5$s" y2="0"/><line class="grid" x1="0" y1="%6$s" x2="%5$s" y2="%6$s"/>'
        '<text x="-6" y="4" class="e">%7$s</text><text x="-6" y="%8$s" class="e">%9$s</text>'
        '<text x="-6" y="%4$s" class="e">0</text>%10$s'
        '<text x="0" y="162">%11$s</text><text x="%12$s" y="162" class="m">%13$s</text>'
        '<text x="%5$s" y="162" class="e">%14$s</text></svg></figure>',
        webhook_events_internal.html(title), names[1], names[2], height, width, height / 2,
        trim_scale(round(most, CASE WHEN most < 1 THEN 3 WHEN most < 10 THEN 2 ELSE 0 END)) || unit, height / 2 + 4,
        trim_scale(round(most / 2, CASE WHEN most < 1 THEN 3 WHEN most < 20 THEN 2 ELSE 0 END)) || unit, marks,
        to_char(since, 'MM-DD HH24:MI'), width / 2, to_char(since + (until - since) / 2, 'MM-DD HH24:MI'),
        to_char(until, 'MM-DD HH24:MI'));
END
$function$;
COMMENT ON FUNCTION webhook_events_internal.html_chart(text, text, text[], double precision[],
        double precision[], boolean, timestamptz, timestamptz) IS
    'two series as a chart in SVG';
REVOKE ALL ON FUNCTION webhook_events_internal.html_chart(text, text, text[], double precision[],
        double precision[], boolean, timestamptz, timestamptz) FROM PUBLIC;

CREATE FUNCTION webhook_events_internal.report_style() RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN ':root{color-scheme:light dark;--bg:#fff;--fg:#1b1f24;--dim:#59636e;--line:#d5dae0;--card:#f5f7f9;--a:#1f77b4;--b:#d1483a}'
    || '@media(prefers-color-scheme:dark){:root{--bg:#14171b;--fg:#e6e9ec;--dim:#9aa4af;--line:#343b43;--card:#1d2127;--a:#5aa9e6;--b:#ff7b6b}}'
    || '*{box-sizing:border-box}body{margin:0 auto;padding:1.5rem;max-width:60rem;background:var(--bg);color:var(--fg);font:15px/1.5 system-ui,sans-serif}'
    || 'h1{font-size:1.5rem;margin:0}h2{font-size:1.1rem;margin:2rem 0 .5rem}p{margin:.25rem 0}.dim,.none,figcaption{color:var(--dim)}'
    || '.cards{display:grid;grid-template-columns:repeat(auto-fill,minmax(9rem,1fr));gap:.75rem;margin:1rem 0}'
    || '.card{background:var(--card);border:1px solid var(--line);border-radius:.5rem;padding:.6rem .8rem;overflow-wrap:anywhere}.card b{display:block;font-size:1.3rem;font-weight:600}'
    || '.bad{color:var(--b)}figure{margin:1rem 0}svg{width:100%;height:auto;display:block}svg text{fill:var(--dim);font-size:11px}svg .e{text-anchor:end}svg .m{text-anchor:middle}'
    || 'svg line{stroke:var(--dim)}svg .grid{stroke:var(--line)}rect.a{fill:var(--a)}rect.b{fill:var(--b)}path{fill:none;stroke-width:2;stroke-linecap:round;stroke-linejoin:round}path.a{stroke:var(--a)}path.b{stroke:var(--b)}'
    || '.key::before{content:"";display:inline-block;width:.7em;height:.7em;margin:0 .3em 0 .6em;border-radius:2px;background:var(--a)}.key.b::before{background:var(--b)}'
    || '.wide{overflow-x:auto}table{border-collapse:collapse;width:100%;font-size:.85rem}th,td{text-align:left;vertical-align:top;padding:.3rem .6rem .3rem 0;border-bottom:1px solid var(--line);overflow-wrap:break-word;max-width:22rem}'
    || 'th{color:var(--dim);font-weight:500;white-space:nowrap}.n{text-align:right;font-variant-numeric:tabular-nums}details{border-bottom:1px solid var(--line);padding:.4rem 0}summary{cursor:pointer;overflow-wrap:anywhere}'
    || 'pre{background:var(--card);border:1px solid var(--line);border-radius:.4rem;padding:.6rem;margin:.4rem 0;white-space:pre-wrap;overflow-wrap:anywhere;font-size:.8rem}'
    || '@media print{:root{--bg:#fff;--fg:#000;--dim:#444;--line:#bbb;--card:#fff;--a:#1f77b4;--b:#b03020}body{max-width:none;padding:0;font-size:11px}figure,.card,tr,details{break-inside:avoid}.wide{overflow:visible}}';
COMMENT ON FUNCTION webhook_events_internal.report_style() IS 'the style of report()';
REVOKE ALL ON FUNCTION webhook_events_internal.report_style() FROM PUBLIC;

-- Calls are read once and counted by 96 steps of time and by classes of duration and
-- of lag, two for each factor of two; an id tells its event's time, so the lag needs no join.
-- The planner thinks of as many groups as calls; they are few, so processes may share the work.
CREATE FUNCTION webhook_events_internal.report_calls(since timestamptz, until timestamptz, webhook_id text)
    RETURNS TABLE (step integer, failed boolean, duration integer, lag integer, calls bigint)
    LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp
    SET jit = off
    SET enable_nestloop = off
    SET enable_mergejoin = off
    SET work_mem = '64MB'
    SET parallel_tuple_cost = 0
AS $function$
BEGIN
    -- The last retry comes about 34 hours after the first call.
    RETURN QUERY EXECUTE 'SELECT least(1 + trunc(96 * date_part(''epoch'', c.started_at - $1)'
        '     / date_part(''epoch'', $2 - $1))::integer, 96), c.error_message IS NOT NULL,'
        ' ceil(2 / ln(2.0::float8) * ln(greatest(1000 * date_part(''epoch'','
        '     coalesce(c.duration, c.finished_at - c.started_at)), 0.25)))::integer,'
        ' CASE WHEN c.attempt = 1 THEN ceil(2 / ln(2.0::float8) * ln(greatest(1000 * date_part(''epoch'','
        '     c.started_at - webhook_events.id_time(c.dispatch_id)), 0.25)))::integer END,'
        ' count(*) FROM webhook_events_internal.calls AS c'
        || CASE WHEN webhook_id IS NOT NULL THEN
            ' JOIN webhook_events_internal.dispatches AS d ON d.id = c.dispatch_id AND d.webhook_id = $3' ELSE '' END
        || format(' WHERE c.dispatch_id >= %L AND c.started_at >= $1 AND c.started_at < $2 GROUP BY 1, 2, 3, 4',
            webhook_events.id_lower_bound(since - interval '36 hours'))
    USING since, until, webhook_id;
END
$function$;
COMMENT ON FUNCTION webhook_events_internal.report_calls(timestamptz, timestamptz, text) IS
    'calls of a span, counted by time, result, duration and lag';
REVOKE ALL ON FUNCTION webhook_events_internal.report_calls(timestamptz, timestamptz, text) FROM PUBLIC;

CREATE FUNCTION webhook_events_internal.newest_failures(since timestamptz, until timestamptz,
        webhook_id text) RETURNS SETOF webhook_events_internal.calls
    LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp
    SET jit = off
    SET enable_nestloop = off
    SET enable_mergejoin = off
    SET work_mem = '64MB'
AS $function$
BEGIN
    RETURN QUERY EXECUTE 'SELECT c.* FROM webhook_events_internal.calls AS c'
        || CASE WHEN webhook_id IS NOT NULL THEN
            ' JOIN webhook_events_internal.dispatches AS d ON d.id = c.dispatch_id AND d.webhook_id = $3' ELSE '' END
        || format(' WHERE c.dispatch_id >= %L AND c.error_message IS NOT NULL'
            ' AND c.started_at >= $1 AND c.started_at < $2 ORDER BY c.finished_at DESC LIMIT 20',
            webhook_events.id_lower_bound(since - interval '36 hours'))
    USING since, until, webhook_id;
END
$function$;
COMMENT ON FUNCTION webhook_events_internal.newest_failures(timestamptz, timestamptz, text) IS
    'the newest calls of a span that failed';
REVOKE ALL ON FUNCTION webhook_events_internal.newest_failures(timestamptz, timestamptz, text) FROM PUBLIC;

CREATE FUNCTION webhook_events_internal.report(since timestamptz DEFAULT now() - interval '1 day',
        until timestamptz DEFAULT now(), webhook_id text DEFAULT NULL) RETURNS text
    LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp
    SET extra_float_digits = 1
    SET DateStyle = 'ISO'
    SET jit = off
AS $function$
#variable_conflict use_column
DECLARE
    status record;
    webhook webhook_events_internal.webhooks;
    counts jsonb;
    ok double precision[];
    failed double precision[];
    p50 double precision[];
    p95 double precision[];
    lag50 double precision[];
    lag95 double precision[];
    ncalls bigint;
    nfailed bigint;
    ended record;
    failing text[];
    page text;
    problem text;
    audited text[];
BEGIN
    IF since IS NULL OR until IS NULL THEN
        RAISE EXCEPTION 'report needs a time to start from and one to end at'
            USING ERRCODE = 'null_value_not_allowed';
    END IF;
    IF NOT webhook_events_internal.sees_all(false) THEN
        RAISE EXCEPTION 'report is for those who see everybody''s events'
            USING ERRCODE = 'insufficient_privilege';
    END IF;
    -- From the first event that there is, none of which is older than ids can be, until now.
    until := CASE until WHEN 'infinity' THEN now() ELSE until END;
    IF since >= until OR until < '1970-01-02 00:00+00' THEN
        RAISE EXCEPTION '%', CASE WHEN since >= until
                THEN format('report can''t start at %s, not before its end at %s', since, until)
                ELSE format('report can''t end at %s, before there was any event', until) END
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF since < '1970-01-01 00:00+00' THEN
        since := least((SELECT webhook_events.id_time(min(o.id)) FROM webhook_events_internal.outbox AS o),
            until - interval '1 hour');
    END IF;
    IF webhook_id IS NOT NULL THEN
        SELECT w.* INTO webhook FROM webhook_events_internal.webhooks AS w WHERE w.id = report.webhook_id;
        IF NOT FOUND THEN
            RAISE EXCEPTION 'webhook "%" does not exist', webhook_id USING ERRCODE = 'undefined_object';
        END IF;
    END IF;
    SELECT * INTO status FROM webhook_events_internal.status();

    -- Series: sums for each step, and percentiles from the classes.
    WITH call AS MATERIALIZED (
        SELECT * FROM webhook_events_internal.report_calls(since, until, webhook_id)
    ), duration AS (
        SELECT c.step, c.duration AS class, sum(sum(c.calls)) OVER (PARTITION BY c.step ORDER BY c.duration)
            / sum(sum(c.calls)) OVER (PARTITION BY c.step) AS share
        FROM call AS c GROUP BY 1, 2
    ), lag AS (
        SELECT c.step, c.lag AS class, sum(sum(c.calls)) OVER (PARTITION BY c.step ORDER BY c.lag)
            / sum(sum(c.calls)) OVER (PARTITION BY c.step) AS share
        FROM call AS c WHERE c.lag IS NOT NULL GROUP BY 1, 2
    )
    SELECT array_agg(coalesce(s.ok, 0) ORDER BY n.step), array_agg(coalesce(s.failed, 0) ORDER BY n.step),
        array_agg(s.p50 ORDER BY n.step), array_agg(s.p95 ORDER BY n.step),
        array_agg(s.lag50 / 1000 ORDER BY n.step), array_agg(s.lag95 / 1000 ORDER BY n.step),
        coalesce(sum(s.ok + s.failed), 0), coalesce(sum(s.failed), 0)
    INTO ok, failed, p50, p95, lag50, lag95, ncalls, nfailed
    FROM generate_series(1, 96) AS n (step) LEFT JOIN (
        SELECT c.step, sum(c.calls) FILTER (WHERE NOT c.failed) AS ok,
            coalesce(sum(c.calls) FILTER (WHERE c.failed), 0) AS failed,
            (SELECT 2 ^ (min(d.class) / 2.0) FROM duration AS d WHERE d.step = c.step AND d.share >= 0.5) AS p50,
            (SELECT 2 ^ (min(d.class) / 2.0) FROM duration AS d WHERE d.step = c.step AND d.share >= 0.95) AS p95,
            (SELECT 2 ^ (min(l.class) / 2.0) FROM lag AS l WHERE l.step = c.step AND l.share >= 0.5) AS lag50,
            (SELECT 2 ^ (min(l.class) / 2.0) FROM lag AS l WHERE l.step = c.step AND l.share >= 0.95) AS lag95
        FROM call AS c GROUP BY c.step) AS s ON s.step = n.step;

    EXECUTE format('SELECT count(*) AS made, count(*) FILTER (WHERE d.status = ''SUCCEEDED'') AS succeeded,'
        ' count(*) FILTER (WHERE d.status = ''FAILED'') AS failed,'
        ' count(*) FILTER (WHERE d.status = ''ACTIVE'') AS active'
        ' FROM webhook_events_internal.dispatches AS d WHERE d.id >= %L AND d.id < %L %s',
        webhook_events.id_lower_bound(since), webhook_events.id_lower_bound(until),
        CASE WHEN webhook_id IS NOT NULL THEN 'AND d.webhook_id = $1' END)
    INTO ended USING webhook_id;

    page := format('<!DOCTYPE html><html lang="en"><head><meta charset="%7$s">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        '<title>Webhooks of %1$s</title><style>%2$s</style></head><body><h1>Webhooks of %1$s</h1>'
        '<p class="dim">%3$s to %4$s%5$s; made %6$s</p>',
        webhook_events_internal.html(current_database()), webhook_events_internal.report_style(),
        since, until, CASE WHEN webhook_id IS NOT NULL THEN format(', webhook %s, %s',
            webhook_events_internal.html(webhook_id), webhook_events_internal.html(
                webhook_events_internal.mask_url(webhook.request_url))) END, clock_timestamp(),
        webhook_events_internal.html_charset(pg_client_encoding()));
    page := page || format('<p>%s</p>', CASE WHEN status.running AND status.reason IS NULL
        THEN 'Delivering.' ELSE format('<b class="bad">Not delivering:</b> %s',
            webhook_events_internal.html(status.reason)) END);
    FOR problem IN
        SELECT unnest(status.broken_tables || status.unreadable_files || status.troubles)
        UNION ALL SELECT 'maintenance: ' || status.maintenance_error
            WHERE status.maintenance_error IS NOT NULL
        UNION ALL SELECT 'emit is off for ' || unnest(status.emit_off)
        UNION ALL SELECT 'subscription ' || unnest(status.subscriptions_down) || ' has no apply worker'
        UNION ALL SELECT status.last_error WHERE status.last_error_at > since
    LOOP
        page := page || format('<p class="bad">%s</p>', webhook_events_internal.html(problem));
    END LOOP;

    page := page || '<div class="cards">' || (
        SELECT string_agg(format('<div class="card"><b%s>%s</b>%s</div>',
            CASE WHEN c.bad THEN ' class="bad"' END, c.value, c.name), '' ORDER BY c.number)
        FROM (VALUES
            (1, 'dispatches made', ended.made::text, false),
            (2, 'delivered', ended.succeeded::text, false),
            (3, 'given up', ended.failed::text, ended.failed > 0),
            (4, 'still waiting', ended.active::text, false),
            (5, 'calls', ncalls::text, false),
            (6, 'of them succeeded', CASE ncalls WHEN 0 THEN '-' ELSE
                trim_scale(round(100.0 * (ncalls - nfailed) / ncalls, 2)) || ' %' END, false),
            (7, 'routing behind, now', status.lag_seconds || ' s', status.lag_seconds > 60),
            (8, 'delivery behind, now', status.delivery_lag_seconds || ' s', status.delivery_lag_seconds > 60),
            (9, 'calls under way, now', coalesce(status.in_flight, 0)::text, false),
            (10, 'failing webhooks, now', status.failing_webhooks::text, status.failing_webhooks > 0))
            AS c (number, name, value, bad)) || '</div>';

    page := page || '<h2>Over time</h2>'
        || webhook_events_internal.html_chart('Calls', '', '{succeeded, failed}', ok, failed, true, since, until)
        || webhook_events_internal.html_chart('Duration of calls, ms', '', '{half took less, 95 % took less}',
            p50, p95, false, since, until)
        || webhook_events_internal.html_chart('From the event to its first call, s', '',
            '{half took less, 95 % took less}', lag50, lag95, false, since, until);

    -- Their ids first: joined with others the view would count for each webhook that there is.
    failing := ARRAY(SELECT f.webhook_id FROM webhook_events_internal.webhook_stats AS f
            JOIN webhook_events_internal.webhooks AS w ON w.id = f.webhook_id
        WHERE f.failing_since IS NOT NULL
            AND (report.webhook_id IS NULL OR f.webhook_id = report.webhook_id)
        ORDER BY f.failing_since LIMIT 30);
    page := page || '<h2>Failing webhooks</h2>' || webhook_events_internal.html_table(
        '{Webhook,User,Host,Failing since,State,Last error,#Calls 24 h,#Failed,#Waiting}',
        ARRAY(SELECT u.cell FROM (
                SELECT h.* FROM webhook_events.webhook_health AS h
                WHERE h.webhook_id = ANY (failing)) AS h
            CROSS JOIN LATERAL unnest(ARRAY[h.webhook_id, h.user_id, h.host,
                to_char(h.failing_since, 'YYYY-MM-DD HH24:MI:SS'), coalesce(h.disabled_reason, 'enabled'),
                h.last_error, h.calls_24h::text, h.failures_24h::text, h.waiting::text])
                WITH ORDINALITY AS u (cell, number)
            ORDER BY h.failing_since, h.webhook_id, u.number), 'No webhook is failing.');

    page := page || '<h2>Slow and resting hosts</h2>' || webhook_events_internal.html_table(
        '{Host,State,Why,#Calls,#Failed,#p50 ms,#p95 ms,#In flight,#Queued}',
        ARRAY(SELECT u.cell FROM (
                SELECT s.* FROM webhook_events.hosts AS s
                WHERE report.webhook_id IS NULL
                    OR s.host = webhook_events_internal.url_host(webhook.request_url)
                ORDER BY s.state <> 'resting', s.state <> 'probed', s.p95_ms DESC NULLS LAST, s.host LIMIT 20) AS h
            CROSS JOIN LATERAL unnest(ARRAY[h.host, h.state, h.state_reason, h.calls::text, h.failures::text,
                h.p50_ms::text, h.p95_ms::text, h.in_flight::text, h.queued::text])
                WITH ORDINALITY AS u (cell, number)
            ORDER BY h.state <> 'resting', h.state <> 'probed', h.p95_ms DESC NULLS LAST, h.host, u.number),
        'The worker has called no host since it started.');

    page := page || '<h2>Newest failures</h2>' || coalesce((
        SELECT string_agg(format('<details%s><summary>%s %s to %s: %s</summary>'
            '<p class="dim">Sent: call %s of dispatch %s, webhook %s, event %s</p><pre>%s</pre>'
            '<p class="dim">Answered: %s</p>%s</details>',
            CASE WHEN f.number <= 3 THEN ' open' END,
            to_char(f.finished_at, 'YYYY-MM-DD HH24:MI:SS'), d.event_type,
            coalesce(webhook_events_internal.html(webhook_events_internal.mask_url(w.request_url)), 'a webhook that is gone'),
            webhook_events_internal.html(f.error_message), f.attempt, webhook_events_internal.html(f.dispatch_id),
            webhook_events_internal.html(d.webhook_id), webhook_events_internal.html(d.event_id),
            webhook_events_internal.html(coalesce(left(e.resource::text, 1000), 'no resource')),
            coalesce('HTTP status ' || f.response_status, 'nothing'),
            format('<pre>%s</pre>', webhook_events_internal.html(nullif(left(f.response_body, 1000), '')))),
            '' ORDER BY f.finished_at DESC, f.dispatch_id)
        FROM (SELECT n.*, row_number() OVER (ORDER BY n.finished_at DESC, n.dispatch_id) AS number
            FROM webhook_events_internal.newest_failures(since, until, webhook_id) AS n) AS f
            JOIN webhook_events_internal.dispatches AS d ON d.id = f.dispatch_id
            LEFT JOIN webhook_events_internal.outbox AS e ON e.id = d.event_id
            LEFT JOIN webhook_events_internal.webhooks AS w ON w.id = d.webhook_id),
        '<p class="none">No call has failed.</p>');

    audited := ARRAY(SELECT u.cell FROM (
            SELECT a.*, row_number() OVER () AS row FROM webhook_events_internal.audit(since, until) AS a
            WHERE report.webhook_id IS NULL OR a.webhook_id = report.webhook_id LIMIT 50) AS a
        CROSS JOIN LATERAL unnest(ARRAY[a.problem, a.relation::text, a.resource_id, a.event_id, a.webhook_id])
            WITH ORDINALITY AS u (cell, number)
        ORDER BY a.row, u.number);
    page := page || '<h2>Audit</h2>' || webhook_events_internal.html_table(
        '{Problem,Table,Run or build,Event,Webhook}', audited, 'Nothing is missing or late.');
    RETURN page || '</body></html>' || E'\n';
END
$function$;
COMMENT ON FUNCTION webhook_events_internal.report(timestamptz, timestamptz, text) IS
    'one HTML page: what was sent in a span of time, how it went, and what is wrong';
REVOKE ALL ON FUNCTION webhook_events_internal.report(timestamptz, timestamptz, text) FROM PUBLIC;
