--
-- Days
--
-- Each table is made and dropped for itself, so that one which somebody uses
-- keeps no other one from it.
--

CREATE FUNCTION webhook_events_internal.has_own_outbox() RETURNS boolean
    LANGUAGE sql STABLE
    SET search_path = pg_catalog, pg_temp
AS $function$
    SELECT bool_and(o.outbox = 'webhook_events_internal.outbox'::regclass
        AND o.database = (SELECT oid FROM pg_database WHERE datname = current_database())
        AND (o.system IS NULL OR o.system = (webhook_events_internal.current_place())[1]
            OR o.xmin = o.xid))
    FROM webhook_events_internal.origins AS o
$function$;
COMMENT ON FUNCTION webhook_events_internal.has_own_outbox() IS
    'whether this database writes the outbox, and is no restored copy; NULL: none does yet';
REVOKE ALL ON FUNCTION webhook_events_internal.has_own_outbox() FROM PUBLIC;

CREATE FUNCTION webhook_events_internal.day_table(kind text, day date) RETURNS text
    LANGUAGE sql IMMUTABLE STRICT
    SET search_path = pg_catalog, pg_temp
AS $function$
    SELECT 'webhook_events_internal.' || quote_ident(kind || to_char(day::timestamp, '_YYYYMMDD'))
$function$;
COMMENT ON FUNCTION webhook_events_internal.day_table(text, date) IS
    'the name of the table of a kind (outbox, dispatches or calls) for a day (UTC)';
REVOKE ALL ON FUNCTION webhook_events_internal.day_table(text, date) FROM PUBLIC;

CREATE FUNCTION webhook_events_internal.day_tables() RETURNS TABLE (kind text, day date)
    LANGUAGE sql STABLE ROWS 30
    SET search_path = pg_catalog, pg_temp
AS $function$
    SELECT p.relname::text, to_date(right(c.relname, 8), 'YYYYMMDD')
    FROM pg_inherits AS i
        JOIN pg_class AS p ON p.oid = i.inhparent
        JOIN pg_class AS c ON c.oid = i.inhrelid
    WHERE i.inhparent IN ('webhook_events_internal.outbox'::regclass,
            'webhook_events_internal.dispatches'::regclass, 'webhook_events_internal.calls'::regclass)
        AND c.relname ~ '^(outbox|dispatches|calls)_[0-9]{8}$'
$function$;
COMMENT ON FUNCTION webhook_events_internal.day_tables() IS
    'the tables of days (UTC) that are attached to their parents';
REVOKE ALL ON FUNCTION webhook_events_internal.day_tables() FROM PUBLIC;

-- A day that is being written has no statistics, or those of its first minutes, and
-- plans of look-ups need some: it begins with those of the last day that has them.  Of
-- what follows the time they would be wrong.
CREATE FUNCTION webhook_events_internal.inherit_statistics(kind text, day date) RETURNS void
    LANGUAGE plpgsql VOLATILE STRICT
    SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    child constant regclass := webhook_events_internal.day_table(kind, day)::regclass;
    source oid;
BEGIN
    -- attach() can be called by others, when there is no day to take them from.
    IF NOT (SELECT r.rolsuper FROM pg_roles AS r WHERE r.rolname = current_user) THEN
        RETURN;
    END IF;
    SELECT c.oid INTO source
    FROM webhook_events_internal.day_tables() AS t
        JOIN pg_class AS c ON c.oid = to_regclass(webhook_events_internal.day_table(t.kind, t.day))
    WHERE t.kind = inherit_statistics.kind AND t.day < inherit_statistics.day
        AND c.reltuples >= 1000
        AND EXISTS (SELECT FROM pg_statistic AS s WHERE s.starelid = c.oid)
    ORDER BY t.day DESC LIMIT 1;
    IF source IS NULL THEN
        RETURN;
    END IF;
    EXECUTE (SELECT format('INSERT INTO pg_statistic (%s) SELECT %s FROM pg_statistic AS s'
            ' JOIN pg_attribute AS o ON o.attrelid = s.starelid AND o.attnum = s.staattnum'
            ' JOIN pg_attribute AS n ON n.attrelid = $1 AND n.attname = o.attname'
            ' WHERE s.starelid = $2 AND o.attname IN (''actor_run_id'', ''actor_build_id'','
            ' ''actor_task_id'', ''actor_id'', ''user_id'', ''event_id'', ''webhook_id'', ''event_type'')',
            string_agg(quote_ident(a.attname), ', ' ORDER BY a.attnum),
            string_agg(CASE
                WHEN a.attname = 'starelid' THEN '$1'
                WHEN a.attname = 'staattnum' THEN 'n.attnum'
                ELSE 's.' || quote_ident(a.attname) END, ', ' ORDER BY a.attnum))
        FROM pg_attribute AS a
        WHERE a.attrelid = 'pg_statistic'::regclass AND a.attnum > 0 AND NOT a.attisdropped)
    USING child, source;
    PERFORM webhook_events_internal.order_statistics(child);
END
$function$;
COMMENT ON FUNCTION webhook_events_internal.inherit_statistics(text, date) IS
    'gives the table of a kind for a day (UTC), which is new, the planner''s statistics of the last day that has some';
REVOKE ALL ON FUNCTION webhook_events_internal.inherit_statistics(text, date) FROM PUBLIC;

CREATE FUNCTION webhook_events_internal.create_day(kind text, day date) RETURNS boolean
    LANGUAGE plpgsql VOLATILE STRICT
    SET search_path = pg_catalog, pg_temp
    SET client_min_messages = warning
    SET default_table_access_method = heap
AS $function$
DECLARE
    child constant text := webhook_events_internal.day_table(kind, day);
    lower constant text := webhook_events.id_lower_bound(day::timestamp AT TIME ZONE 'UTC');
    upper constant text := webhook_events.id_lower_bound((day + 1)::timestamp AT TIME ZONE 'UTC');
    occupied boolean;
BEGIN
    IF to_regclass(child) IS NOT NULL THEN
        RETURN false;
    END IF;
    -- A day that has begun in the default table stays there.
    EXECUTE format(
        'SELECT EXISTS (SELECT FROM webhook_events_internal.%I WHERE %I >= %L AND %2$I < %4$L)',
        kind || '_default', CASE kind WHEN 'calls' THEN 'dispatch_id' ELSE 'id' END,
        lower, upper) INTO occupied;
    IF occupied THEN
        RETURN false;
    END IF;
    EXECUTE format('CREATE TABLE %s (LIKE webhook_events_internal.%I INCLUDING INDEXES)',
        child, kind || '_default');
    PERFORM webhook_events_internal.own_table(child::regclass);
    EXECUTE format(
        'ALTER TABLE webhook_events_internal.%I ATTACH PARTITION %s FOR VALUES FROM (%L) TO (%L)',
        kind, child, lower, upper);
    -- A day is worth more than its statistics.
    BEGIN
        PERFORM webhook_events_internal.inherit_statistics(kind, day);
    EXCEPTION WHEN OTHERS THEN
        RAISE LOG 'table % of database "%" has no statistics yet: %', child, current_database(), SQLERRM;
    END;
    RETURN true;
END
$function$;
COMMENT ON FUNCTION webhook_events_internal.create_day(text, date) IS
    'makes the table of a kind for a day (UTC), unless it is there or the default table has rows of it';
REVOKE ALL ON FUNCTION webhook_events_internal.create_day(text, date) FROM PUBLIC;

CREATE FUNCTION webhook_events_internal.missing_days(first date, last date)
    RETURNS TABLE (kind text, day date)
    LANGUAGE sql STABLE STRICT ROWS 12
    SET search_path = pg_catalog, pg_temp
AS $function$
    SELECT k.kind, d.day::date
    -- At most a year's, and none for infinite days.
    FROM generate_series(CASE WHEN isfinite(first) THEN first END, least(last, first + 366),
            '1 day') AS d (day)
        CROSS JOIN unnest(ARRAY['outbox', 'dispatches', 'calls']) WITH ORDINALITY AS k (kind, number)
    WHERE to_regclass(webhook_events_internal.day_table(k.kind, d.day::date)) IS NULL
    ORDER BY d.day, k.number
$function$;
COMMENT ON FUNCTION webhook_events_internal.missing_days(date, date) IS
    'the tables that these days (UTC) lack';
REVOKE ALL ON FUNCTION webhook_events_internal.missing_days(date, date) FROM PUBLIC;

CREATE FUNCTION webhook_events_internal.create_days(first date, last date) RETURNS integer
    LANGUAGE sql VOLATILE STRICT
    SET search_path = pg_catalog, pg_temp
AS $function$
    SELECT count(*) FILTER (WHERE webhook_events_internal.create_day(m.kind, m.day))::integer
    FROM webhook_events_internal.missing_days(first, last) AS m
$function$;
COMMENT ON FUNCTION webhook_events_internal.create_days(date, date) IS
    'makes the tables of these days (UTC) and returns how many were missing';
REVOKE ALL ON FUNCTION webhook_events_internal.create_days(date, date) FROM PUBLIC;

CREATE FUNCTION webhook_events_internal.last_day_ahead(today date) RETURNS date
    LANGUAGE sql IMMUTABLE STRICT
    SET search_path = pg_catalog, pg_temp
AS $function$ SELECT today + 3 $function$;
COMMENT ON FUNCTION webhook_events_internal.last_day_ahead(date) IS
    'the last day (UTC) that has its tables today';
REVOKE ALL ON FUNCTION webhook_events_internal.last_day_ahead(date) FROM PUBLIC;

CREATE FUNCTION webhook_events_internal.begin_log() RETURNS void
    LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    today date := (now() AT TIME ZONE 'UTC')::date;
BEGIN
    PERFORM webhook_events_internal.claim_outbox();
    PERFORM webhook_events_internal.create_days(today, webhook_events_internal.last_day_ahead(today));
END
$function$;
COMMENT ON FUNCTION webhook_events_internal.begin_log() IS
    'makes this database the one of its events, with tables for them';
REVOKE ALL ON FUNCTION webhook_events_internal.begin_log() FROM PUBLIC;

-- A node of Citus gets parts of attached tables, with their triggers, and nobody calls
-- attach() there.  A dump that was restored, of a node too, has no shards.
CREATE FUNCTION webhook_events_internal.claim_shards() RETURNS boolean
    LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    found boolean := false;
BEGIN
    IF to_regclass('pg_catalog.pg_dist_placement') IS NOT NULL THEN
        -- shard_name() leaves out schemas, and pg_class some shards.
        EXECUTE 'SELECT EXISTS (SELECT FROM pg_trigger AS t JOIN pg_dist_placement AS p'
            '     ON p.shardid = substring(t.tgrelid::regclass::text FROM ''_([0-9]{1,18})"?$'')::bigint'
            ' WHERE t.tgfoid IN (''webhook_events.run_changed()''::regprocedure,'
            '         ''webhook_events.build_changed()''::regprocedure)'
            '     AND p.groupid = (SELECT l.groupid FROM pg_dist_local_group AS l))' INTO found;
    END IF;
    IF found THEN
        PERFORM webhook_events_internal.begin_log();
    END IF;
    RETURN found;
END
$function$;
COMMENT ON FUNCTION webhook_events_internal.claim_shards() IS
    'makes this database one that delivers if it has shards of an attached table; whether it has';
REVOKE ALL ON FUNCTION webhook_events_internal.claim_shards() FROM PUBLIC;

CREATE FUNCTION webhook_events_internal.past_days(before date) RETURNS TABLE (kind text, day date)
    LANGUAGE sql STABLE STRICT ROWS 3
    SET search_path = pg_catalog, pg_temp
AS $function$
    SELECT t.kind, t.day
    FROM webhook_events_internal.day_tables() AS t
    WHERE t.day < before
        -- Events that nobody has routed are kept, and all that comes after them.
        AND (t.day + 1)::timestamp AT TIME ZONE 'UTC' <= coalesce(
            (SELECT oldest_at FROM webhook_events_internal.waiting_events()), 'infinity')
    ORDER BY t.day, t.kind
$function$;
COMMENT ON FUNCTION webhook_events_internal.past_days(date) IS
    'the tables of days (UTC) before this one in which all was routed';
REVOKE ALL ON FUNCTION webhook_events_internal.past_days(date) FROM PUBLIC;

CREATE FUNCTION webhook_events_internal.is_needed(kind text, day date) RETURNS boolean
    LANGUAGE plpgsql VOLATILE STRICT
    SET search_path = pg_catalog, pg_temp
    SET enable_seqscan = off
AS $function$
DECLARE
    lower constant text := webhook_events.id_lower_bound(day::timestamp AT TIME ZONE 'UTC');
    upper constant text := webhook_events.id_lower_bound((day + 1)::timestamp AT TIME ZONE 'UTC');
BEGIN
    -- A dispatch that was made later can wait for an event of this day.
    IF kind = 'outbox' THEN
        RETURN EXISTS (SELECT FROM webhook_events_internal.dispatches AS d
            WHERE d.status = 'ACTIVE' AND d.event_id >= lower AND d.event_id < upper);
    END IF;
    RETURN EXISTS (SELECT FROM webhook_events_internal.dispatches AS d
        WHERE d.status = 'ACTIVE' AND d.id >= lower AND d.id < upper);
END
$function$;
COMMENT ON FUNCTION webhook_events_internal.is_needed(text, date) IS
    'whether a dispatch waits that a table of this kind and day has to do with';
REVOKE ALL ON FUNCTION webhook_events_internal.is_needed(text, date) FROM PUBLIC;

CREATE FUNCTION webhook_events_internal.drop_day(kind text, day date) RETURNS boolean
    LANGUAGE plpgsql VOLATILE STRICT
    SET search_path = pg_catalog, pg_temp
    SET client_min_messages = warning
AS $function$
DECLARE
    child constant text := webhook_events_internal.day_table(kind, day);
    dependents text;
    is_empty boolean;
BEGIN
    IF webhook_events_internal.is_needed(kind, day) THEN
        RETURN false;
    END IF;
    -- Somebody can have come before the lock: to replay one of its events, say.
    EXECUTE format('LOCK TABLE %s IN ACCESS EXCLUSIVE MODE', child);
    IF webhook_events_internal.is_needed(kind, day) THEN
        RETURN false;
    END IF;
    -- Who may read it, to dump it, can have made a view on it or a column of its type.
    -- That keeps the table, but nothing that was in it.
    BEGIN
        EXECUTE format('DROP TABLE %s', child);
    EXCEPTION WHEN dependent_objects_still_exist THEN
        GET STACKED DIAGNOSTICS dependents = PG_EXCEPTION_DETAIL;
        EXECUTE format('SELECT NOT EXISTS (SELECT FROM %s)', child) INTO is_empty;
        IF is_empty THEN
            RAISE EXCEPTION 'table % is kept, and empty, because others depend on it: %', child,
                split_part(dependents, E'\n', 1)
                USING DETAIL = dependents, ERRCODE = 'dependent_objects_still_exist';
        END IF;
        EXECUTE format('TRUNCATE %s', child);
        RETURN NULL;
    END;
    RETURN true;
END
$function$;
COMMENT ON FUNCTION webhook_events_internal.drop_day(text, date) IS
    'drops the table of a kind and a day (UTC), unless a dispatch waits that needs it; empties one that others depend on (null), and says so when it is empty';
REVOKE ALL ON FUNCTION webhook_events_internal.drop_day(text, date) FROM PUBLIC;

CREATE FUNCTION webhook_events_internal.drop_days(before date) RETURNS integer
    LANGUAGE sql VOLATILE STRICT
    SET search_path = pg_catalog, pg_temp
AS $function$
    SELECT count(*) FILTER (WHERE webhook_events_internal.drop_day(p.kind, p.day))::integer
    FROM webhook_events_internal.past_days(before) AS p
$function$;
COMMENT ON FUNCTION webhook_events_internal.drop_days(date) IS
    'drops the tables of the days (UTC) before this one, but for what is needed; returns how many';
REVOKE ALL ON FUNCTION webhook_events_internal.drop_days(date) FROM PUBLIC;

-- Who looks for the events of a run or the dispatches of a webhook needs indexes
-- that no transition and no delivery should pay for: they are made of days that are
-- over, where nothing is written any more.
CREATE FUNCTION webhook_events_internal.lookup_indexes()
    RETURNS TABLE (kind text, name text, definition text)
    LANGUAGE sql IMMUTABLE ROWS 8
    SET search_path = pg_catalog, pg_temp
AS $function$
    VALUES ('outbox', 'run', '(actor_run_id, id) WHERE actor_run_id IS NOT NULL'),
        ('outbox', 'build', '(actor_build_id, id) WHERE actor_build_id IS NOT NULL'),
        ('outbox', 'task', '(actor_task_id, id) WHERE actor_task_id IS NOT NULL'),
        ('outbox', 'actor', '(actor_id, id) WHERE actor_id IS NOT NULL'),
        ('outbox', 'user', '(user_id, id) WHERE user_id IS NOT NULL'),
        ('dispatches', 'event', '(event_id, id)'),
        ('dispatches', 'webhook', '(webhook_id, id)'),
        ('dispatches', 'user', '(user_id, id) WHERE user_id IS NOT NULL')
$function$;
COMMENT ON FUNCTION webhook_events_internal.lookup_indexes() IS
    'what tables of days that are over have indexes on beside what they had before';
REVOKE ALL ON FUNCTION webhook_events_internal.lookup_indexes() FROM PUBLIC;

CREATE FUNCTION webhook_events_internal.unindexed_days(before date) RETURNS TABLE (kind text, day date)
    LANGUAGE sql STABLE STRICT ROWS 10
    SET search_path = pg_catalog, pg_temp
AS $function$
    SELECT t.kind, t.day
    FROM webhook_events_internal.day_tables() AS t
        JOIN webhook_events_internal.lookup_indexes() AS l ON l.kind = t.kind
    WHERE t.day < before
        AND to_regclass(webhook_events_internal.day_table(t.kind, t.day) || '_' || l.name) IS NULL
        -- What waits is still to be written in its own table.
        AND (t.kind = 'outbox' OR NOT webhook_events_internal.is_needed(t.kind, t.day))
    ORDER BY t.day DESC, t.kind
$function$;
COMMENT ON FUNCTION webhook_events_internal.unindexed_days(date) IS
    'tables of days (UTC) before this one that lack an index for looking things up, once for each';
REVOKE ALL ON FUNCTION webhook_events_internal.unindexed_days(date) FROM PUBLIC;

CREATE FUNCTION webhook_events_internal.index_day(kind text, day date) RETURNS boolean
    LANGUAGE plpgsql VOLATILE STRICT
    SET search_path = pg_catalog, pg_temp
    SET max_parallel_maintenance_workers = 0
AS $function$
DECLARE
    child constant text := webhook_events_internal.day_table(kind, day);
    missing text[];
BEGIN
    SELECT array_agg(format('CREATE INDEX %I ON %s %s', i.name, child, i.definition))
    INTO missing
    FROM (SELECT index_day.kind || to_char(day::timestamp, '_YYYYMMDD_') || l.name AS name, l.definition
        FROM webhook_events_internal.lookup_indexes() AS l WHERE l.kind = index_day.kind) AS i
    WHERE to_regclass('webhook_events_internal.' || quote_ident(i.name)) IS NULL;
    IF missing IS NULL THEN
        RETURN false;
    END IF;
    BEGIN
        EXECUTE missing[1];
    EXCEPTION WHEN program_limit_exceeded THEN
        -- Somebody has ids that are too long for an index in order.
        EXECUTE regexp_replace(missing[1], '[(]([a-z_]+), id[)]', E'USING hash (\\1)');
    END;
    -- With the last one the planner learns how much there is of each.
    IF cardinality(missing) = 1 THEN
        EXECUTE format('ANALYZE %s', child);
    END IF;
    RETURN true;
EXCEPTION
    -- A transaction that has written there is still open.
    WHEN lock_not_available THEN
        RETURN false;
END
$function$;
COMMENT ON FUNCTION webhook_events_internal.index_day(text, date) IS
    'makes the next index that the table of a kind for a day (UTC) lacks; returns whether it did';
REVOKE ALL ON FUNCTION webhook_events_internal.index_day(text, date) FROM PUBLIC;

-- While a day is written its BRIN indexes know nothing of ranges of pages that are new:
-- a look-up reads these.  Those that are full get a summary; of one that is not each
-- row to come would have to change it.  The last pages may be those that sessions still fill.
CREATE FUNCTION webhook_events_internal.summarize(index regclass, pages bigint) RETURNS bigint
    LANGUAGE c VOLATILE STRICT
    SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'webhook_events_summarize';
COMMENT ON FUNCTION webhook_events_internal.summarize(regclass, bigint) IS
    'has a BRIN index summarize ranges of so many first pages of its table that have no summary; returns how many';
REVOKE ALL ON FUNCTION webhook_events_internal.summarize(regclass, bigint) FROM PUBLIC;

CREATE FUNCTION webhook_events_internal.open_days(over date) RETURNS TABLE (kind text, day date)
    LANGUAGE sql STABLE STRICT ROWS 2
    SET search_path = pg_catalog, pg_temp
AS $function$
    SELECT t.kind, t.day
    FROM webhook_events_internal.day_tables() AS t
    WHERE t.day >= over AND t.kind IN ('outbox', 'dispatches')
        AND pg_relation_size(to_regclass(webhook_events_internal.day_table(t.kind, t.day))) > 0
    ORDER BY t.day DESC, t.kind
$function$;
COMMENT ON FUNCTION webhook_events_internal.open_days(date) IS
    'tables of events and dispatches of days (UTC) from this one on that have rows';
REVOKE ALL ON FUNCTION webhook_events_internal.open_days(date) FROM PUBLIC;

-- The planner takes a BRIN index to be the worse the less its column is in order, which means
-- nothing where summaries are Bloom filters: they are told to be in order.
CREATE FUNCTION webhook_events_internal.order_statistics(relation regclass) RETURNS void
    LANGUAGE sql VOLATILE STRICT
    SET search_path = pg_catalog, pg_temp
AS $function$
    UPDATE pg_statistic AS s SET
        stanumbers1 = CASE s.stakind1 WHEN 3 THEN '{1}' ELSE s.stanumbers1 END,
        stanumbers2 = CASE s.stakind2 WHEN 3 THEN '{1}' ELSE s.stanumbers2 END,
        stanumbers3 = CASE s.stakind3 WHEN 3 THEN '{1}' ELSE s.stanumbers3 END,
        stanumbers4 = CASE s.stakind4 WHEN 3 THEN '{1}' ELSE s.stanumbers4 END,
        stanumbers5 = CASE s.stakind5 WHEN 3 THEN '{1}' ELSE s.stanumbers5 END
    WHERE s.starelid = relation AND s.staattnum = ANY (ARRAY(
            SELECT unnest(x.indkey::smallint[]) FROM pg_index AS x
                JOIN pg_class AS c ON c.oid = x.indexrelid
                JOIN pg_am AS a ON a.oid = c.relam AND a.amname = 'brin'
            WHERE x.indrelid = relation))
        AND (s.stakind1 = 3 AND s.stanumbers1 <> '{1}' OR s.stakind2 = 3 AND s.stanumbers2 <> '{1}'
            OR s.stakind3 = 3 AND s.stanumbers3 <> '{1}' OR s.stakind4 = 3 AND s.stanumbers4 <> '{1}'
            OR s.stakind5 = 3 AND s.stanumbers5 <> '{1}')
$function$;
COMMENT ON FUNCTION webhook_events_internal.order_statistics(regclass) IS
    'has the planner believe that what a table has BRIN indexes on is in order';
REVOKE ALL ON FUNCTION webhook_events_internal.order_statistics(regclass) FROM PUBLIC;

CREATE FUNCTION webhook_events_internal.summarize_day(kind text, day date) RETURNS boolean
    LANGUAGE plpgsql VOLATILE STRICT
    SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    child constant regclass := to_regclass(webhook_events_internal.day_table(kind, day));
    full_pages constant bigint := pg_relation_size(child) / current_setting('block_size')::integer - 16;
    done bigint;
BEGIN
    EXECUTE format('LOCK TABLE %s IN SHARE UPDATE EXCLUSIVE MODE', child);
    done := (SELECT sum(webhook_events_internal.summarize(x.indexrelid, full_pages))
        FROM pg_index AS x
            JOIN pg_class AS c ON c.oid = x.indexrelid
            JOIN pg_am AS a ON a.oid = c.relam AND a.amname = 'brin'
        WHERE x.indrelid = child AND x.indisvalid);
    IF done > 0 AND NOT EXISTS (SELECT FROM pg_statistic AS s WHERE s.starelid = child) THEN
        EXECUTE format('ANALYZE %s', child);
    END IF;
    IF (SELECT r.rolsuper FROM pg_roles AS r WHERE r.rolname = current_user) THEN
        PERFORM webhook_events_internal.order_statistics(child);
    END IF;
    RETURN done > 0;
EXCEPTION
    -- VACUUM is at it, or another one of us; the next time will do.
    WHEN lock_not_available THEN
        RETURN false;
END
$function$;
COMMENT ON FUNCTION webhook_events_internal.summarize_day(text, date) IS
    'summarizes what is new in the BRIN indexes of the table of a kind for a day (UTC); returns whether there was something';
REVOKE ALL ON FUNCTION webhook_events_internal.summarize_day(text, date) FROM PUBLIC;

-- Rows can't be dropped by the day here, so they are deleted, oldest first, up to
-- the first one that somebody may still need.  A row that somebody has locked stays.
CREATE FUNCTION webhook_events_internal.delete_undated(kind text, before date, max_rows integer)
    RETURNS integer
    LANGUAGE plpgsql VOLATILE STRICT
    SET search_path = pg_catalog, pg_temp
    SET enable_seqscan = off
AS $function$
DECLARE
    name constant text := CASE kind WHEN 'calls' THEN 'dispatch_id' ELSE 'id' END;
    first_kept text := webhook_events.id_lower_bound(before::timestamp AT TIME ZONE 'UTC');
    found boolean;
    deleted integer;
BEGIN
    EXECUTE format('SELECT EXISTS (SELECT FROM webhook_events_internal.%I WHERE %I < $1)',
        kind || '_default', name) INTO found USING first_kept;
    IF NOT found THEN
        RETURN 0;
    END IF;
    first_kept := least(first_kept,
        webhook_events.id_lower_bound((SELECT oldest_at FROM webhook_events_internal.waiting_events())),
        (SELECT min(w.event_id) FROM (SELECT event_id FROM webhook_events_internal.dispatches
            WHERE status = 'ACTIVE' OFFSET 0) AS w),
        (SELECT min(w.id) FROM (SELECT id FROM webhook_events_internal.dispatches_default
            WHERE status = 'ACTIVE' OFFSET 0) AS w)) COLLATE "C";
    EXECUTE format('DELETE FROM webhook_events_internal.%I WHERE ctid = ANY (ARRAY('
        'SELECT ctid FROM webhook_events_internal.%1$I WHERE %2$I < $1'
        ' ORDER BY %2$I LIMIT $2 FOR UPDATE SKIP LOCKED))',
        kind || '_default', name) USING first_kept, max_rows;
    GET DIAGNOSTICS deleted = ROW_COUNT;
    RETURN deleted;
END
$function$;
COMMENT ON FUNCTION webhook_events_internal.delete_undated(text, date, integer) IS
    'deletes so many rows at most of before this day (UTC) from a kind''s default table; returns how many';
REVOKE ALL ON FUNCTION webhook_events_internal.delete_undated(text, date, integer) FROM PUBLIC;
