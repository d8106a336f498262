--
-- Audit
--

CREATE FUNCTION webhook_events_internal.read_as_owner(relation regclass, query text,
        since timestamptz, until timestamptz, ids text[], kind text, ends bytea[])
    RETURNS TABLE (resource_id text, status text)
    LANGUAGE c STABLE STRICT
    SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'webhook_events_read_as_owner';
COMMENT ON FUNCTION webhook_events_internal.read_as_owner(regclass, text, timestamptz, timestamptz, text[], text, bytea[]) IS
    'what a query about an attached table returns, run as that table''s owner: what of this kind has ended and is not among ends, as wanted_sums() has them';
REVOKE ALL ON FUNCTION webhook_events_internal.read_as_owner(regclass, text, timestamptz, timestamptz, text[], text, bytea[])
    FROM PUBLIC;

-- Its rows are in shards, here or on other nodes, and each node has the events of its own.
CREATE FUNCTION webhook_events_internal.is_distributed(relation regclass) RETURNS boolean
    LANGUAGE plpgsql STABLE STRICT
    SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    found boolean := false;
BEGIN
    IF to_regclass('pg_catalog.pg_dist_partition') IS NOT NULL THEN
        EXECUTE 'SELECT EXISTS (SELECT FROM pg_dist_partition AS p WHERE p.logicalrelid = $1)'
        INTO found USING relation;
    END IF;
    RETURN found;
END
$function$;
COMMENT ON FUNCTION webhook_events_internal.is_distributed(regclass) IS
    'whether Citus keeps the rows of this table in shards';
REVOKE ALL ON FUNCTION webhook_events_internal.is_distributed(regclass) FROM PUBLIC;

-- A cast is its author's, who need not own the table: who owns no more than a type could make
-- one and have it called with the rights of the table's owner.  What types print is nobody's.
CREATE FUNCTION webhook_events_internal.text_of(relation regclass, name text) RETURNS text
    LANGUAGE sql STABLE STRICT
    SET search_path = pg_catalog, pg_temp
AS $function$
    WITH RECURSIVE type AS (
        SELECT t.typbasetype, t.typnamespace
        FROM pg_attribute AS a JOIN pg_type AS t ON t.oid = a.atttypid
        WHERE a.attrelid = text_of.relation AND a.attname = text_of.name
        UNION ALL
        SELECT t.typbasetype, t.typnamespace
        FROM type AS d JOIN pg_type AS t ON t.oid = d.typbasetype
    )
    SELECT format(CASE t.typnamespace WHEN 'pg_catalog'::regnamespace THEN 'r.%I::text'
        ELSE 'nullif(concat(r.%I), '''')' END, text_of.name)
    FROM type AS t WHERE t.typbasetype = 0
$function$;
COMMENT ON FUNCTION webhook_events_internal.text_of(regclass, text) IS
    'an expression for the text of a column of r, which calls no cast that others have made';
REVOKE ALL ON FUNCTION webhook_events_internal.text_of(regclass, text) FROM PUBLIC;

CREATE FUNCTION webhook_events_internal.missing_events(since timestamptz, until timestamptz, ended bytea[])
    RETURNS TABLE (problem text, relation regclass, resource_id text)
    LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp
    SET jit = off
    SET enable_nestloop = off
    SET enable_mergejoin = off
    SET work_mem = '64MB'
    SET lock_timeout = '5s'
AS $function$
DECLARE
    source record;
    columns jsonb;
    finished text;
    id_column text;
    id_text text;
    ids text[];
    ends webhook_events.event_type[];
    suspects text[];
    suspect_statuses text[];
    lower constant text := webhook_events.id_lower_bound(since - interval '1 hour');
BEGIN
    -- A table's owner may hold its lock, and its casts and policies can fail: that is
    -- told of it, and no reason to say nothing of others.
    FOR source IN SELECT s.relation, s.kind FROM webhook_events.sources AS s
        WHERE NOT webhook_events_internal.is_distributed(s.relation) LOOP
    BEGIN
        columns := (SELECT s.columns FROM webhook_events.sources AS s
            WHERE s.relation = source.relation LIMIT 1);
        IF columns IS NULL THEN
            RAISE EXCEPTION 'it is locked';
        END IF;
        CONTINUE WHEN NOT columns ?& '{id, status}';
        SELECT format(CASE a.atttypid WHEN 'timestamp'::regtype
                THEN '(r.%I AT TIME ZONE ''UTC'')' ELSE 'r.%I' END, a.attname)
        INTO finished FROM pg_attribute AS a
        WHERE a.attrelid = source.relation AND NOT a.attisdropped
            AND a.attname IN ('finished_at', 'finishedAt', 'ended_at', 'endedAt')
            AND a.atttypid IN ('timestamptz'::regtype, 'timestamp'::regtype)
        ORDER BY a.attnum LIMIT 1;
        -- A table that does not say when a row ended is asked about the rows
        -- that had an event in the span.
        id_text := webhook_events_internal.text_of(source.relation, columns ->> 'id');
        id_column := CASE source.kind WHEN 'run' THEN 'actor_run_id' ELSE 'actor_build_id' END;
        ids := CASE WHEN finished IS NULL THEN ARRAY(
            SELECT DISTINCT CASE source.kind WHEN 'run' THEN o.actor_run_id ELSE o.actor_build_id END
            FROM webhook_events_internal.outbox AS o
            WHERE o.id >= webhook_events.id_lower_bound(since)
                AND o.id < webhook_events.id_lower_bound(until)) ELSE '{}' END;
        ends := ARRAY(
            SELECT format('ACTOR.%s.%s', upper(source.kind COLLATE "C"), e.status)::webhook_events.event_type
            FROM unnest('{SUCCEEDED,FAILED,ABORTED,TIMED_OUT}'::text[]) WITH ORDINALITY AS e (status, number)
            ORDER BY e.number);
        -- Rows whose ends events tell of need not be compared.
        SELECT coalesce(array_agg(r.resource_id), '{}'), coalesce(array_agg(r.status), '{}')
        INTO suspects, suspect_statuses
        FROM webhook_events_internal.read_as_owner(source.relation, format(
                'SELECT %s, %s FROM %s AS r WHERE %4$s',
                id_text, webhook_events_internal.text_of(source.relation, columns ->> 'status'),
                source.relation,
                CASE WHEN finished IS NULL THEN format('%s = ANY ($3)', id_text)
                    ELSE format('%1$s >= $1 AND %1$s < $2', finished) END),
            since, until, ids, source.kind, ended) AS r;
        CONTINUE WHEN suspects = '{}';
        RETURN QUERY EXECUTE format(
            'SELECT ''event is missing'', $1, r.resource_id FROM unnest($2, $3) AS r (resource_id, status)'
            ' WHERE NOT EXISTS (SELECT FROM webhook_events_internal.outbox AS o'
            '     WHERE o.id >= $4 AND o.event_type = ANY ($5) AND o.%1$I = r.resource_id %2$s'
            '         AND o.event_type = CASE r.status WHEN ''SUCCEEDED'' THEN ($5)[1]'
            '             WHEN ''FAILED'' THEN ($5)[2] WHEN ''ABORTED'' THEN ($5)[3] ELSE ($5)[4] END)',
            id_column, CASE WHEN cardinality(suspects) < 10000 THEN format('AND o.%I = ANY ($2)', id_column) END)
        USING source.relation, suspects, suspect_statuses, lower, ends;
    EXCEPTION WHEN OTHERS THEN
        RETURN QUERY SELECT 'table can''t be read: ' || SQLERRM, source.relation, NULL::text;
    END;
    END LOOP;
END
$function$;
COMMENT ON FUNCTION webhook_events_internal.missing_events(timestamptz, timestamptz, bytea[]) IS
    'rows of attached tables that ended in this span and have no event that says so, and tables that can''t be read';
REVOKE ALL ON FUNCTION webhook_events_internal.missing_events(timestamptz, timestamptz, bytea[]) FROM PUBLIC;

-- What webhooks should have got and did get, as counts and sums of hashes; see
-- src/sql/audit_sums.c.  A span is an id from which and one up to which events count, one from which
-- on ends of runs and builds do, and ids that don't count.
CREATE FUNCTION webhook_events_internal.wanted_add(state internal, span text[], id text,
        created_at timestamptz, xid xid8, event_type webhook_events.event_type, user_id text,
        actor_id text, actor_task_id text, actor_run_id text, actor_build_id text) RETURNS internal
    LANGUAGE c STABLE PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'webhook_events_wanted_add';
COMMENT ON FUNCTION webhook_events_internal.wanted_add(internal, text[], text, timestamptz, xid8,
    webhook_events.event_type, text, text, text, text, text) IS 'adds an event for those who want it';
REVOKE ALL ON FUNCTION webhook_events_internal.wanted_add(internal, text[], text, timestamptz, xid8,
    webhook_events.event_type, text, text, text, text, text) FROM PUBLIC;

CREATE FUNCTION webhook_events_internal.made_add(state internal, span text[], id text, event_id text,
        webhook_id text) RETURNS internal
    LANGUAGE c IMMUTABLE PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'webhook_events_made_add';
COMMENT ON FUNCTION webhook_events_internal.made_add(internal, text[], text, text, text) IS 'adds a dispatch';
REVOKE ALL ON FUNCTION webhook_events_internal.made_add(internal, text[], text, text, text) FROM PUBLIC;

CREATE FUNCTION webhook_events_internal.sums_combine(state internal, other internal) RETURNS internal
    LANGUAGE c IMMUTABLE PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'webhook_events_sums_combine';
COMMENT ON FUNCTION webhook_events_internal.sums_combine(internal, internal) IS
    'adds what another process has counted';
REVOKE ALL ON FUNCTION webhook_events_internal.sums_combine(internal, internal) FROM PUBLIC;

CREATE FUNCTION webhook_events_internal.sums_write(state internal) RETURNS bytea
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'webhook_events_sums_write';
COMMENT ON FUNCTION webhook_events_internal.sums_write(internal) IS 'what was counted, as bytes';
REVOKE ALL ON FUNCTION webhook_events_internal.sums_write(internal) FROM PUBLIC;

CREATE FUNCTION webhook_events_internal.sums_read(sums bytea, state internal) RETURNS internal
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'webhook_events_sums_read';
COMMENT ON FUNCTION webhook_events_internal.sums_read(bytea, internal) IS 'reads such bytes';
REVOKE ALL ON FUNCTION webhook_events_internal.sums_read(bytea, internal) FROM PUBLIC;

CREATE AGGREGATE webhook_events_internal.wanted_sums(span text[], id text, created_at timestamptz, xid xid8,
        event_type webhook_events.event_type, user_id text, actor_id text, actor_task_id text,
        actor_run_id text, actor_build_id text) (
    SFUNC = webhook_events_internal.wanted_add, STYPE = internal,
    FINALFUNC = webhook_events_internal.sums_write,
    COMBINEFUNC = webhook_events_internal.sums_combine,
    SERIALFUNC = webhook_events_internal.sums_write,
    DESERIALFUNC = webhook_events_internal.sums_read, PARALLEL = SAFE
);
COMMENT ON AGGREGATE webhook_events_internal.wanted_sums(text[], text, timestamptz, xid8,
    webhook_events.event_type, text, text, text, text, text) IS
    'of events: what each webhook should get, and what has ended';
REVOKE ALL ON FUNCTION webhook_events_internal.wanted_sums(text[], text, timestamptz, xid8,
    webhook_events.event_type, text, text, text, text, text) FROM PUBLIC;

CREATE AGGREGATE webhook_events_internal.made_sums(span text[], id text, event_id text, webhook_id text) (
    SFUNC = webhook_events_internal.made_add, STYPE = internal,
    FINALFUNC = webhook_events_internal.sums_write,
    COMBINEFUNC = webhook_events_internal.sums_combine,
    SERIALFUNC = webhook_events_internal.sums_write,
    DESERIALFUNC = webhook_events_internal.sums_read, PARALLEL = SAFE
);
COMMENT ON AGGREGATE webhook_events_internal.made_sums(text[], text, text, text) IS
    'of dispatches: what each webhook gets';
REVOKE ALL ON FUNCTION webhook_events_internal.made_sums(text[], text, text, text) FROM PUBLIC;

CREATE FUNCTION webhook_events_internal.sums_differ(wanted bytea, made bytea, made_again bytea)
    RETURNS bigint[]
    LANGUAGE c IMMUTABLE PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'webhook_events_sums_differ';
COMMENT ON FUNCTION webhook_events_internal.sums_differ(bytea, bytea, bytea) IS
    'hashes of the ids of webhooks that did not get, not counting what was made again, what they should have got';
REVOKE ALL ON FUNCTION webhook_events_internal.sums_differ(bytea, bytea, bytea) FROM PUBLIC;

-- Found by the index of replays in the day's own table: of ids in a span the planner thinks that they are
-- few, and would look at each.
CREATE FUNCTION webhook_events_internal.replay_sums(day date, lower text, upper text) RETURNS bytea
    LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp
    SET enable_seqscan = off
AS $function$
DECLARE
    sums bytea;
BEGIN
    EXECUTE format('SELECT webhook_events_internal.made_sums($1, d.id, d.event_id, d.webhook_id)'
        ' FROM %s AS d WHERE d.replay_of IS NOT NULL',
        coalesce((SELECT webhook_events_internal.day_table(t.kind, t.day) FROM webhook_events_internal.day_tables() AS t
            WHERE t.kind = 'dispatches' AND t.day = replay_sums.day), 'webhook_events_internal.dispatches_default'))
    INTO sums USING ARRAY[lower, upper, ''];
    RETURN sums;
END
$function$;
COMMENT ON FUNCTION webhook_events_internal.replay_sums(date, text, text) IS
    'made_sums() of dispatches of a day (UTC) that repeat others, which are few as a rule';
REVOKE ALL ON FUNCTION webhook_events_internal.replay_sums(date, text, text) FROM PUBLIC;

-- A day that is read nearly whole is read as it lies, without comparing its ids with bounds.
CREATE FUNCTION webhook_events_internal.part_of_log(kind text, lower text, upper text) RETURNS text
    LANGUAGE sql STABLE STRICT
    SET search_path = pg_catalog, pg_temp
AS $function$
    SELECT coalesce((SELECT format('%s AS o', webhook_events_internal.day_table(t.kind, t.day))
            FROM webhook_events_internal.day_tables() AS t
            WHERE t.kind = part_of_log.kind
                AND webhook_events.id_lower_bound((t.day + interval '12 hours') AT TIME ZONE 'UTC') >= lower COLLATE "C"
                AND webhook_events.id_lower_bound((t.day + interval '1 day') AT TIME ZONE 'UTC') = upper),
        format('webhook_events_internal.%I AS o WHERE o.id >= %L AND o.id < %L', kind, lower, upper))
$function$;
COMMENT ON FUNCTION webhook_events_internal.part_of_log(text, text, text) IS
    'what to read for the rows of a kind whose ids are in a span within a day, and maybe others of that day';
REVOKE ALL ON FUNCTION webhook_events_internal.part_of_log(text, text, text) FROM PUBLIC;

-- For each day and webhook the dispatches that there should be are counted, and those
-- that there are, with a sum of their events' hashes; only webhooks for which the
-- two differ are looked at one by one.  Then events are joined with webhooks by what the
-- condition is about and by the type: hashes alone, so that the time grows with
-- the rows.  Kinds of conditions that no webhook has are left out, for each costs a
-- reading of the events.  Routing makes a dispatch of its event's day.  The rules of this join are
-- those of webhook_match() in src/rules/webhook.c, which is asked before.  What has ended is noted
-- on the way, from an hour before the span on: the clock of an attached table may be another one.
CREATE FUNCTION webhook_events_internal.missing_dispatches(since timestamptz, until timestamptz)
    RETURNS TABLE (event_id text, resource_id text, webhook_id text, ended bytea)
    LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp
    SET jit = off
    SET enable_nestloop = off
    SET enable_mergejoin = off
    SET enable_sort = off
    SET work_mem = '64MB'
AS $function$
DECLARE
    -- Who wanted what is known only of webhooks that are as they were then.
    wanted constant text := 'SELECT e.id AS event_id,'
        '     coalesce(e.actor_run_id, e.actor_build_id) AS resource_id, w.id AS webhook_id'
        ' FROM webhook_events_internal.outbox AS e'
        '     JOIN (SELECT h.*, unnest(h.event_types) AS type,'
        '         CASE WHEN h.created_in[1] = $5 THEN h.created_in[2]::text::xid8 END AS created_xmin,'
        '         CASE WHEN h.created_in[1] = $5 THEN h.created_in[3]::text::xid8 END AS created_xmax,'
        '         CASE WHEN h.is_ad_hoc AND h.actor_run_id IS NOT NULL AND h.created_in[1] IS DISTINCT FROM $5'
        '             THEN least(h.created_at, h.begun_at - interval ''1 second'') ELSE h.created_at END AS since'
        '         FROM webhook_events_internal.webhooks AS h WHERE h.is_enabled AND %s) AS w ON w.type = e.event_type AND %s'
        ' WHERE e.id >= $1 AND e.id < $2 AND e.webhook_id IS NULL'
        -- Of many conditions the planner thinks that next to nothing is left, and has one process
        -- add up what several read; of one that it doesn't understand it thinks of half.
        '     AND CASE WHEN (w.modified_at <= e.created_at OR w.modified_at = w.created_at)'
        '         AND (w.created_xid = e.xid OR e.xid >= w.created_xmax'
        '             OR w.since <= e.created_at AND (w.created_xmin IS NULL OR e.xid >= w.created_xmin))'
        '         AND (w.actor_task_id IS NULL OR w.actor_task_id = e.actor_task_id)'
        '         AND (w.actor_id IS NULL OR w.actor_id = e.actor_id)'
        '         AND (w.user_id IS NULL OR w.user_id = e.user_id) THEN true ELSE false END %s %s';
    kinds constant text[] := '{
        {h.actor_run_id IS NOT NULL, w.actor_run_id = e.actor_run_id},
        {h.actor_run_id IS NULL AND h.actor_task_id IS NOT NULL, w.actor_task_id = e.actor_task_id},
        {h.actor_run_id IS NULL AND h.actor_task_id IS NULL AND h.actor_id IS NOT NULL,
            w.actor_id = e.actor_id},
        {h.actor_run_id IS NULL AND h.actor_task_id IS NULL AND h.actor_id IS NULL
            AND h.user_id IS NOT NULL, w.user_id = e.user_id},
        {h.actor_run_id IS NULL AND h.actor_task_id IS NULL AND h.actor_id IS NULL
            AND h.user_id IS NULL, true}}';
    unrouted text[] := ARRAY(SELECT u.id FROM webhook_events_internal.unrouted_events() AS u);
    is_routed text := CASE WHEN unrouted <> '{}' THEN 'AND e.id <> ALL ($4)' ELSE '' END;
    server bigint := (webhook_events_internal.current_place())[1];
    kind text[];
    exists boolean;
    suspects_wanted text[] := '{}';
    suspects text[];
    wanted_sums bytea;
    made_sums bytea;
    differing bigint[];
    tests text[];
    day timestamptz;
    ends_lower constant text := webhook_events.id_lower_bound(since - interval '1 hour');
    first constant text COLLATE "C" := webhook_events.id_lower_bound(since);
    last constant text COLLATE "C" := webhook_events.id_lower_bound(until);
    day_lower text COLLATE "C";
    day_upper text COLLATE "C" := ends_lower;
    lower text COLLATE "C";
    upper text COLLATE "C";
BEGIN
    FOREACH kind SLICE 1 IN ARRAY kinds LOOP
        EXECUTE format('SELECT EXISTS (SELECT FROM webhook_events_internal.webhooks AS h'
            ' WHERE h.is_enabled AND %s)', kind[1]) INTO exists;
        CONTINUE WHEN NOT exists;
        suspects_wanted := suspects_wanted
            || format(wanted, kind[1], kind[2], 'AND w.id = ANY ($3)', is_routed);
    END LOOP;
    -- From one day that has events to the next one.
    LOOP
        SELECT min(o.id) INTO day_lower FROM webhook_events_internal.outbox AS o
        WHERE o.id >= day_upper;
        EXIT WHEN day_lower IS NULL;
        day := webhook_events.id_time(day_lower);
        day_lower := webhook_events.id_lower_bound(day);
        day_upper := webhook_events.id_lower_bound(
            (date_trunc('day', day AT TIME ZONE 'UTC') + interval '1 day') AT TIME ZONE 'UTC');
        EXIT WHEN day_upper <= day_lower;  -- a time that no id tells
        lower := greatest(day_lower, first);
        upper := least(day_upper, last);
        -- EXECUTE, since only that lets several processes read.
        EXECUTE format('SELECT webhook_events_internal.wanted_sums($1, o.id, o.created_at, o.xid, o.event_type,'
            '     o.user_id, o.actor_id, o.actor_task_id, o.actor_run_id, o.actor_build_id) FROM %s',
            webhook_events_internal.part_of_log('outbox', day_lower, day_upper))
        INTO wanted_sums USING ARRAY[lower, upper, ends_lower] || unrouted;
        RETURN QUERY SELECT NULL::text, NULL::text, NULL::text, wanted_sums;
        CONTINUE WHEN lower >= upper;
        EXECUTE format('SELECT webhook_events_internal.made_sums($1, o.id, o.event_id, o.webhook_id) FROM %s',
            webhook_events_internal.part_of_log('dispatches', lower, upper))
        INTO made_sums USING ARRAY[lower, upper, ''];
        differing := webhook_events_internal.sums_differ(wanted_sums, made_sums,
            webhook_events_internal.replay_sums((day AT TIME ZONE 'UTC')::date, lower, upper));
        suspects := CASE WHEN differing IS NOT NULL THEN (SELECT array_agg(w.id)
            FROM webhook_events_internal.webhooks AS w WHERE hashtextextended(w.id, 0) = ANY (differing)) END;
        IF suspects IS NOT NULL THEN
            RETURN QUERY EXECUTE format('SELECT e.*, NULL::bytea FROM (%s) AS e WHERE NOT EXISTS ('
                'SELECT FROM webhook_events_internal.dispatches AS d'
                ' WHERE d.event_id = e.event_id AND d.webhook_id = e.webhook_id'
                '     AND d.webhook_id = ANY ($3) AND d.id >= $1 AND d.id < $2)',
                array_to_string(suspects_wanted, ' UNION ALL '))
            USING lower, upper, suspects, unrouted, server;
        END IF;
        -- The events of test_webhook() are few, and so is what they are compared with.
        tests := ARRAY(SELECT e.id FROM webhook_events_internal.outbox AS e
            WHERE e.id >= lower AND e.id < upper AND e.webhook_id IS NOT NULL AND e.event_type = 'TEST'
                AND e.id <> ALL (unrouted));
        IF tests <> '{}' THEN
            RETURN QUERY SELECT e.id, coalesce(e.actor_run_id, e.actor_build_id), e.webhook_id, NULL::bytea
            FROM webhook_events_internal.outbox AS e
                JOIN webhook_events_internal.webhooks AS w ON w.id = e.webhook_id
            WHERE e.id >= lower AND e.id < upper AND e.id = ANY (tests)
                AND webhook_events_internal.refusal(w, e.event_type, e.user_id, e.actor_id,
                    e.actor_task_id, e.actor_run_id, e.created_at, e.xid, e.webhook_id) IS NULL
                AND NOT EXISTS (
                SELECT FROM webhook_events_internal.dispatches AS d
                WHERE d.event_id = e.id AND d.webhook_id = w.id AND d.id >= lower AND d.id < upper
                    AND d.event_id = ANY (tests));
        END IF;
    END LOOP;
END
$function$;
COMMENT ON FUNCTION webhook_events_internal.missing_dispatches(timestamptz, timestamptz) IS
    'events of this span that were routed without a dispatch that they should have, and for each day, in ended, what had ended';
REVOKE ALL ON FUNCTION webhook_events_internal.missing_dispatches(timestamptz, timestamptz) FROM PUBLIC;

-- Few, as a rule, so each one's event is looked up.
CREATE FUNCTION webhook_events_internal.late_dispatches(since timestamptz, until timestamptz,
        due_before timestamptz)
    RETURNS TABLE (id text, next_attempt_at timestamptz, resource_id text, event_id text,
        webhook_id text)
    LANGUAGE sql STABLE
    SET search_path = pg_catalog, pg_temp
    SET jit = off
    SET enable_hashjoin = off
    SET enable_mergejoin = off
    SET enable_seqscan = off
AS $function$
    SELECT d.id, d.next_attempt_at, coalesce(e.actor_run_id, e.actor_build_id), d.event_id,
        d.webhook_id
    FROM webhook_events_internal.dispatches AS d
        LEFT JOIN webhook_events_internal.outbox AS e ON e.id = d.event_id
    WHERE d.status = 'ACTIVE' AND d.created_at >= since AND d.created_at < until
        AND d.next_attempt_at < due_before
$function$;
COMMENT ON FUNCTION webhook_events_internal.late_dispatches(timestamptz, timestamptz, timestamptz) IS
    'dispatches of this span that should have been called before';
REVOKE ALL ON FUNCTION webhook_events_internal.late_dispatches(timestamptz, timestamptz, timestamptz) FROM PUBLIC;

-- What audit() can't tell of a span, lest its silence be taken for an answer.
CREATE FUNCTION webhook_events_internal.not_audited(since timestamptz, until timestamptz, kept_since timestamptz)
    RETURNS TABLE (what text)
    LANGUAGE sql STABLE
    SET search_path = pg_catalog, pg_temp
    SET jit = off
AS $function$
    SELECT format('what was before %s, beyond webhook_events.retention', kept_since)
    WHERE since < kept_since
    UNION ALL
    SELECT format('rows of %s that ended without any event, for it has no column that says when',
        s.relation)
    FROM webhook_events.sources AS s
    WHERE NOT webhook_events_internal.is_distributed(s.relation)
        AND NOT EXISTS (SELECT FROM pg_attribute AS a
        WHERE a.attrelid = s.relation AND NOT a.attisdropped
            AND a.attname IN ('finished_at', 'finishedAt', 'ended_at', 'endedAt')
            AND a.atttypid IN ('timestamptz'::regtype, 'timestamp'::regtype))
    UNION ALL
    SELECT format('what %s webhooks should have got before they were changed last or are disabled',
        count(*))
    FROM webhook_events_internal.webhooks AS w
    WHERE w.created_at < until AND w.modified_at > since
        AND (NOT w.is_enabled OR w.modified_at > w.created_at)
    HAVING count(*) > 0
$function$;
COMMENT ON FUNCTION webhook_events_internal.not_audited(timestamptz, timestamptz, timestamptz) IS
    'what audit() can''t check in this span';
REVOKE ALL ON FUNCTION webhook_events_internal.not_audited(timestamptz, timestamptz, timestamptz) FROM PUBLIC;

CREATE FUNCTION webhook_events_internal.audit(since timestamptz, until timestamptz DEFAULT now())
    RETURNS TABLE (problem text, relation regclass, resource_id text, event_id text,
        webhook_id text)
    LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp
    SET jit = off
AS $function$
DECLARE
    retention interval;
    patience interval;
    first timestamptz;
    found record;
    ended bytea[] := '{}';
    unchecked text;
BEGIN
    IF since IS NULL OR until IS NULL THEN
        RAISE EXCEPTION 'audit needs a time to start from and one to end at'
            USING ERRCODE = 'null_value_not_allowed';
    END IF;
    IF since > until THEN
        RAISE EXCEPTION 'audit can''t start at %, after its end at %', since, until
            USING ERRCODE = 'invalid_parameter_value';
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
        ELSE greatest(since, '2020-01-01 00:00+00') END;
    -- Days are looked at one after the other, so there must be a last one.
    until := least(until, greatest(now(), (SELECT o.created_at
        FROM webhook_events_internal.outbox AS o ORDER BY o.id DESC LIMIT 1)) + interval '1 day');
    FOR found IN SELECT * FROM webhook_events_internal.missing_dispatches(first, until) LOOP
        IF found.event_id IS NULL THEN
            ended := ended || found.ended;
        ELSE
            RETURN QUERY SELECT 'dispatch is missing', NULL::regclass, found.resource_id, found.event_id,
                found.webhook_id;
        END IF;
    END LOOP;
    RETURN QUERY
        SELECT m.problem, m.relation, m.resource_id, NULL::text, NULL::text
        FROM webhook_events_internal.missing_events(first, until, ended) AS m;
    RETURN QUERY
        SELECT b.problem, NULL::regclass, NULL::text, NULL::text, NULL::text
        FROM unnest(webhook_events_internal.broken_tables()) AS b (problem);
    RETURN QUERY
        SELECT 'event is not whole: ' || e.problem, NULL::regclass,
            coalesce(e.actor_run_id, e.actor_build_id), e.id, NULL::text
        FROM webhook_events_internal.outbox AS e
        WHERE e.id >= webhook_events.id_lower_bound(first)
            AND e.id < webhook_events.id_lower_bound(until) AND e.problem IS NOT NULL;
    RETURN QUERY
        SELECT 'event waits to be routed', NULL::regclass,
            coalesce(e.actor_run_id, e.actor_build_id), e.id, NULL::text
        FROM webhook_events_internal.unrouted_events() AS u
            JOIN webhook_events_internal.outbox AS e ON e.id = u.id
        WHERE e.created_at >= first AND e.created_at < until
            AND e.created_at < clock_timestamp() - interval '1 minute';
    RETURN QUERY
        SELECT format('dispatch %s was due at %s', d.id, d.next_attempt_at), NULL::regclass,
            d.resource_id, d.event_id, d.webhook_id
        FROM webhook_events_internal.late_dispatches(first, until,
            webhook_events_internal.work_time() - patience) AS d;
    FOR unchecked IN SELECT n.what FROM webhook_events_internal.not_audited(since, until, first) AS n LOOP
        RAISE NOTICE 'not checked: %', unchecked;
    END LOOP;
END
$function$;
COMMENT ON FUNCTION webhook_events_internal.audit(timestamptz, timestamptz) IS
    'what is missing or late in a span of time; no row when all is well, a notice of what could not be checked';
REVOKE ALL ON FUNCTION webhook_events_internal.audit(timestamptz, timestamptz) FROM PUBLIC;

