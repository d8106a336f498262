--
-- Pausing and resuming
--

CREATE FUNCTION webhook_events_internal.stand_still(patience integer) RETURNS boolean
    LANGUAGE c VOLATILE STRICT
    AS 'MODULE_PATHNAME', 'webhook_events_stand_still';
COMMENT ON FUNCTION webhook_events_internal.stand_still(integer) IS
    'has the worker start no request before the transaction ends; false: it has not answered within so many milliseconds';
REVOKE ALL ON FUNCTION webhook_events_internal.stand_still(integer) FROM PUBLIC;

CREATE FUNCTION webhook_events_internal.pause(reason text DEFAULT NULL) RETURNS void
    LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp
AS $function$
BEGIN
    IF NOT webhook_events_internal.stand_still(10000) THEN
        RAISE WARNING 'the worker has not answered within 10 seconds'
            USING DETAIL = 'It may start requests until it does.',
                HINT = 'See webhook_events.status().';
    END IF;
    DELETE FROM webhook_events_internal.pauses;
    INSERT INTO webhook_events_internal.pauses (reason) VALUES (pause.reason);
    PERFORM webhook_events_internal.wake_worker();
END
$function$;
COMMENT ON FUNCTION webhook_events_internal.pause(text) IS
    'stops all delivery of this database; events are recorded and wait';
REVOKE ALL ON FUNCTION webhook_events_internal.pause(text) FROM PUBLIC;

-- Transaction ids of another server mean nothing here: what it had routed becomes older
-- than everything (3 is the first transaction that PostgreSQL gives), what it had not
-- becomes new.  Its cursor saw no event that is younger than itself.
CREATE FUNCTION webhook_events_internal.adopt_copy(skips boolean) RETURNS bigint
    LANGUAGE plpgsql VOLATILE STRICT
    SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    before_all CONSTANT xid8 := '3';
    now_on CONSTANT xid8 := pg_current_xact_id();
    seen record;
    nevents bigint;
BEGIN
    SELECT coalesce(CASE WHEN position_xid IS NULL THEN window_to ELSE window_from END,
            '1:1:') AS snapshot,
        window_to, position_xid, position_id, created_at
    INTO seen FROM webhook_events_internal.cursors ORDER BY number DESC LIMIT 1;
    UPDATE webhook_events_internal.outbox AS o
    SET xid = CASE
        WHEN o.created_at <= seen.created_at
            AND (pg_visible_in_snapshot(o.xid, seen.snapshot)
                OR pg_visible_in_snapshot(o.xid, seen.window_to)
                    AND (o.xid, o.id) <= (seen.position_xid, seen.position_id))
        THEN before_all ELSE now_on END,
        next_xid = now_on;
    SELECT count(*) INTO nevents FROM webhook_events_internal.outbox AS o WHERE o.xid = now_on;
    IF skips THEN
        UPDATE webhook_events_internal.outbox AS o SET xid = before_all WHERE o.xid = now_on;
    END IF;
    -- Events that come from now on are younger than all webhooks; for the
    -- others clocks tell.
    UPDATE webhook_events_internal.webhooks AS w
    SET created_in = ARRAY[(webhook_events_internal.current_place())[1],
        before_all::text::bigint, now_on::text::bigint + 1];
    DELETE FROM webhook_events_internal.cursors;
    DELETE FROM webhook_events_internal.origins;
    PERFORM webhook_events_internal.claim_outbox();
    INSERT INTO webhook_events_internal.attached (schema_name, table_name, kind)
        SELECT n.nspname, c.relname, s.kind
        FROM webhook_events.sources AS s JOIN pg_class AS c ON c.oid = s.relation
            JOIN pg_namespace AS n ON n.oid = c.relnamespace
        ON CONFLICT DO NOTHING;
    RETURN nevents;
END
$function$;
COMMENT ON FUNCTION webhook_events_internal.adopt_copy(boolean) IS
    'makes a restored or copied outbox this database''s own; returns how many events nobody had routed, which skips makes as old as the others';
REVOKE ALL ON FUNCTION webhook_events_internal.adopt_copy(boolean) FROM PUBLIC;

CREATE FUNCTION webhook_events_internal.keep_ended_runs(snapshot pg_snapshot) RETURNS void
    LANGUAGE sql VOLATILE STRICT
    SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    INSERT INTO webhook_events_internal.ended_runs (run_id, user_id, time)
        SELECT e.actor_run_id, CASE WHEN octet_length(e.user_id) <= 1020 THEN e.user_id END, e.created_at
        FROM (SELECT DISTINCT ON (o.actor_run_id, o.user_id) o.actor_run_id, o.user_id, o.created_at, o.event_type
            FROM webhook_events_internal.unrouted_events() AS u
                JOIN webhook_events_internal.outbox AS o ON o.id = u.id
            WHERE o.event_type IN ('ACTOR.RUN.SUCCEEDED', 'ACTOR.RUN.FAILED', 'ACTOR.RUN.ABORTED',
                    'ACTOR.RUN.TIMED_OUT', 'ACTOR.RUN.RESURRECTED')
                AND o.actor_run_id IS NOT NULL AND pg_visible_in_snapshot(o.xid, keep_ended_runs.snapshot)
            ORDER BY o.actor_run_id, o.user_id, o.id DESC) AS e
        WHERE e.event_type <> 'ACTOR.RUN.RESURRECTED'
            AND EXISTS (SELECT FROM webhook_events_internal.webhooks AS w
                WHERE w.actor_run_id = e.actor_run_id AND (w.user_id IS NULL OR w.user_id = e.user_id)
                    AND w.is_ad_hoc AND w.is_enabled);
END;
COMMENT ON FUNCTION webhook_events_internal.keep_ended_runs(pg_snapshot) IS
    'notes the ends of runs in events that are skipped, so that their webhooks retire';
REVOKE ALL ON FUNCTION webhook_events_internal.keep_ended_runs(pg_snapshot) FROM PUBLIC;

CREATE FUNCTION webhook_events_internal.resume(backlog text DEFAULT 'send') RETURNS void
    LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    skips boolean := (backlog = 'skip');
    is_foreign boolean;
    nevents bigint := 0;
    ndispatches bigint;
    own_xid xid8 := pg_current_xact_id();
    snapshot pg_snapshot;
BEGIN
    IF backlog IS NULL THEN
        RAISE EXCEPTION 'resume needs to know what becomes of what waited, and backlog is null'
            USING ERRCODE = 'null_value_not_allowed', HINT = 'It is ''send'' or ''skip''.';
    END IF;
    IF backlog NOT IN ('send', 'skip') THEN
        RAISE EXCEPTION 'backlog "%" is neither "send" nor "skip"', backlog
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    is_foreign := webhook_events_internal.has_own_outbox() IS NOT TRUE;
    IF skips AND NOT is_foreign AND NOT EXISTS (SELECT FROM webhook_events_internal.pauses) THEN
        RAISE EXCEPTION 'delivery is not paused'
            USING ERRCODE = 'object_not_in_prerequisite_state',
                HINT = 'Call webhook_events.pause() first.';
    END IF;

    IF is_foreign THEN
        LOCK TABLE webhook_events_internal.outbox IN SHARE ROW EXCLUSIVE MODE;
    END IF;
    -- Then all that the worker had in memory lies in the tables, but for what is
    -- under way, which comes to its end.
    IF (skips OR is_foreign) AND NOT webhook_events_internal.stand_still(10000) THEN
        RAISE EXCEPTION 'the worker has not answered within 10 seconds'
            USING ERRCODE = 'object_not_in_prerequisite_state',
                HINT = 'See webhook_events.status(), and try again.';
    END IF;
    -- What is counted is what this snapshot sees.  It does not count its own
    -- transaction among those in progress, whose events are sent.
    SELECT pg_current_snapshot(),
        (SELECT count(*) FROM webhook_events_internal.dispatches WHERE status = 'ACTIVE'),
        CASE WHEN is_foreign THEN 0 ELSE (SELECT count(*)
            FROM webhook_events_internal.unrouted_events() AS u
            WHERE NOT skips OR NOT EXISTS (SELECT FROM webhook_events_internal.outbox AS o
                WHERE o.id = u.id AND o.xid = own_xid)) END
    INTO snapshot, ndispatches, nevents;
    IF own_xid < pg_snapshot_xmax(snapshot) THEN
        snapshot := format('%s:%s:%s', least(own_xid, pg_snapshot_xmin(snapshot)),
            pg_snapshot_xmax(snapshot),
            (SELECT string_agg(t.xip::text, ',' ORDER BY t.xip)
            FROM (SELECT pg_snapshot_xip(snapshot) UNION SELECT own_xid) AS t (xip)));
    END IF;

    IF is_foreign THEN
        nevents := webhook_events_internal.adopt_copy(skips);
    ELSIF skips AND nevents > 0 THEN
        PERFORM webhook_events_internal.keep_ended_runs(snapshot);
    END IF;
    IF is_foreign OR skips THEN
        INSERT INTO webhook_events_internal.cursors (number, window_from, window_to)
            SELECT coalesce(max(number), 0) + 1, snapshot, snapshot
            FROM webhook_events_internal.cursors;
    END IF;

    IF skips THEN
        UPDATE webhook_events_internal.dispatches
        SET status = 'FAILED', finished_at = clock_timestamp(), next_attempt_at = NULL,
            error_message = 'Skipped by resume().'
        WHERE status = 'ACTIVE'
            AND id NOT IN (SELECT f.dispatch_id FROM webhook_events_internal.live_flights() AS f);
        GET DIAGNOSTICS ndispatches = ROW_COUNT;
    END IF;
    DELETE FROM webhook_events_internal.pauses;
    IF nevents > 0 OR ndispatches > 0 THEN
        RAISE NOTICE '% events that were not routed and % dispatches that waited are %',
            nevents, ndispatches, CASE WHEN skips THEN 'skipped' ELSE 'sent' END;
    END IF;
    -- A dump has them not, and nobody who lacks one is told why.
    IF is_foreign AND NOT EXISTS (SELECT FROM webhook_events_internal.grants) THEN
        RAISE NOTICE 'no role has an access in this database: those of the one that it is a copy of are no part of dumps'
            USING HINT = 'Grant them again with webhook_events.grant_access().';
    END IF;
    IF webhook_events_internal.lost_accesses() IS NOT NULL THEN
        RAISE WARNING 'roles that had an access have none here: %',
            array_to_string(webhook_events_internal.lost_accesses(), ', ')
            USING HINT = 'Call webhook_events.grant_access() for them again.';
    END IF;
    PERFORM webhook_events_internal.wake_worker();
END
$function$;
COMMENT ON FUNCTION webhook_events_internal.resume(text) IS
    'ends a pause, or lets a restored copy deliver; send or skip what waited';
REVOKE ALL ON FUNCTION webhook_events_internal.resume(text) FROM PUBLIC;

