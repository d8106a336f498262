--
-- Days
--

CREATE FUNCTION webhook_events_internal.create_days(first date, last date) RETURNS integer
    LANGUAGE plpgsql VOLATILE STRICT
    SET search_path = pg_catalog, pg_temp
    SET client_min_messages = warning
AS $function$
DECLARE
    day date;
    parent text;
    child text;
    lower text;
    upper text;
    occupied boolean;
    created integer := 0;
BEGIN
    FOR day IN SELECT generate_series(first, last, '1 day')::date LOOP
        lower := webhook_events.id_lower_bound(day::timestamp AT TIME ZONE 'UTC');
        upper := webhook_events.id_lower_bound((day + 1)::timestamp AT TIME ZONE 'UTC');
        FOREACH parent IN ARRAY ARRAY['outbox', 'dispatches', 'calls'] LOOP
            child := parent || to_char(day, '_YYYYMMDD');
            CONTINUE WHEN to_regclass('webhook_events_internal.' || child) IS NOT NULL;
            -- A day that has begun in the default table stays there.
            EXECUTE format(
                'SELECT EXISTS (SELECT FROM webhook_events_internal.%I WHERE %I >= %L AND %2$I < %4$L)',
                parent || '_default',
                CASE parent WHEN 'calls' THEN 'dispatch_id' ELSE 'id' END,
                lower, upper) INTO occupied;
            CONTINUE WHEN occupied;
            EXECUTE format(
                'CREATE TABLE webhook_events_internal.%I (LIKE webhook_events_internal.%I INCLUDING INDEXES)',
                child, parent || '_default');
            EXECUTE format(
                'ALTER TABLE webhook_events_internal.%I ATTACH PARTITION webhook_events_internal.%I FOR VALUES FROM (%L) TO (%L)',
                parent, child, lower, upper);
            created := created + 1;
        END LOOP;
    END LOOP;
    RETURN created;
END
$function$;
COMMENT ON FUNCTION webhook_events_internal.create_days(date, date) IS
    'makes the tables of these days (UTC) and returns how many were missing';
REVOKE ALL ON FUNCTION webhook_events_internal.create_days(date, date) FROM PUBLIC;

CREATE FUNCTION webhook_events_internal.drop_days(before date) RETURNS integer
    LANGUAGE plpgsql VOLATILE STRICT
    SET search_path = pg_catalog, pg_temp
    SET client_min_messages = warning
    SET enable_seqscan = off
AS $function$
DECLARE
    day date;
    suffix text;
    parent text;
    waits boolean;
    oldest_waiting timestamptz := (SELECT oldest_at FROM webhook_events_internal.waiting_events());
    dropped integer := 0;
BEGIN
    FOR day IN
        SELECT to_date(right(c.relname, 8), 'YYYYMMDD')
        FROM pg_inherits AS i JOIN pg_class AS c ON c.oid = i.inhrelid
        WHERE i.inhparent = 'webhook_events_internal.outbox'::regclass
            AND c.relname ~ '^outbox_[0-9]{8}$'
        ORDER BY 1
    LOOP
        EXIT WHEN day >= before;
        -- Neither events that nobody has routed nor what waits is dropped.
        EXIT WHEN oldest_waiting < (day + 1)::timestamp AT TIME ZONE 'UTC';
        suffix := to_char(day, '_YYYYMMDD');
        EXECUTE format('SELECT EXISTS (SELECT FROM webhook_events_internal.%I WHERE status = ''ACTIVE'')',
            'dispatches' || suffix) INTO waits;
        -- A dispatch that was made later can wait for an event of this day.
        CONTINUE WHEN waits OR EXISTS (SELECT FROM webhook_events_internal.dispatches AS d
            WHERE d.status = 'ACTIVE'
                AND d.event_id >= webhook_events.id_lower_bound(day::timestamp AT TIME ZONE 'UTC')
                AND d.event_id < webhook_events.id_lower_bound((day + 1)::timestamp AT TIME ZONE 'UTC'));
        FOREACH parent IN ARRAY ARRAY['calls', 'dispatches', 'outbox'] LOOP
            EXECUTE format('DROP TABLE IF EXISTS webhook_events_internal.%I', parent || suffix);
        END LOOP;
        dropped := dropped + 1;
    END LOOP;
    RETURN dropped;
END
$function$;
COMMENT ON FUNCTION webhook_events_internal.drop_days(date) IS
    'drops the tables of the days (UTC) before this one, unless something in them waits';
REVOKE ALL ON FUNCTION webhook_events_internal.drop_days(date) FROM PUBLIC;

-- Rows can't be dropped by the day here, so they are deleted, oldest first, up to
-- the first one that somebody may still need.
CREATE FUNCTION webhook_events_internal.delete_undated(before date, max_rows integer) RETURNS integer
    LANGUAGE plpgsql VOLATILE STRICT
    SET search_path = pg_catalog, pg_temp
    SET enable_seqscan = off
AS $function$
DECLARE
    oldest_waiting timestamptz := (SELECT oldest_at FROM webhook_events_internal.waiting_events());
    first_kept text := least(
        webhook_events.id_lower_bound(before::timestamp AT TIME ZONE 'UTC'),
        webhook_events.id_lower_bound(oldest_waiting),
        (SELECT min(w.event_id) FROM (SELECT event_id FROM webhook_events_internal.dispatches
            WHERE status = 'ACTIVE' OFFSET 0) AS w),
        (SELECT min(w.id) FROM (SELECT id FROM webhook_events_internal.dispatches_default
            WHERE status = 'ACTIVE' OFFSET 0) AS w)) COLLATE "C";
    deleted integer := 0;
    count integer;
BEGIN
    DELETE FROM webhook_events_internal.calls_default WHERE (dispatch_id, attempt) IN (
        SELECT dispatch_id, attempt FROM webhook_events_internal.calls_default
        WHERE dispatch_id < first_kept ORDER BY dispatch_id LIMIT max_rows);
    GET DIAGNOSTICS deleted = ROW_COUNT;
    DELETE FROM webhook_events_internal.dispatches_default WHERE id IN (
        SELECT id FROM webhook_events_internal.dispatches_default
        WHERE id < first_kept ORDER BY id LIMIT max_rows - deleted);
    GET DIAGNOSTICS count = ROW_COUNT;
    deleted := deleted + count;
    DELETE FROM webhook_events_internal.outbox_default WHERE id IN (
        SELECT id FROM webhook_events_internal.outbox_default
        WHERE id < first_kept ORDER BY id LIMIT max_rows - deleted);
    GET DIAGNOSTICS count = ROW_COUNT;
    RETURN deleted + count;
END
$function$;
COMMENT ON FUNCTION webhook_events_internal.delete_undated(date, integer) IS
    'deletes so many rows at most of before this day (UTC) from the default tables; returns how many';
REVOKE ALL ON FUNCTION webhook_events_internal.delete_undated(date, integer) FROM PUBLIC;

