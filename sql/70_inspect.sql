--
-- Looking closer, and sending again
--

CREATE FUNCTION webhook_events_internal.get_webhook(id text) RETURNS webhook_events_internal.webhooks
    LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    webhook webhook_events_internal.webhooks;
BEGIN
    SELECT w.* INTO webhook FROM webhook_events_internal.webhooks AS w
    WHERE w.id = get_webhook.id AND webhook_events_internal.may_see(w.user_id);
    IF id IS NULL THEN
        RAISE EXCEPTION 'the id of a webhook is null' USING ERRCODE = 'undefined_object';
    ELSIF NOT FOUND THEN
        RAISE EXCEPTION 'webhook "%" does not exist', id USING ERRCODE = 'undefined_object';
    END IF;
    RETURN webhook;
END
$function$;
COMMENT ON FUNCTION webhook_events_internal.get_webhook(text) IS
    'the row of a webhook; an error if there is none';
REVOKE ALL ON FUNCTION webhook_events_internal.get_webhook(text) FROM PUBLIC;

-- It looks nothing up by a name, and a setting would take longer than the function.
CREATE FUNCTION webhook_events_internal.refusal(webhook webhook_events_internal.webhooks,
        event_type webhook_events.event_type, user_id text, actor_id text,
        actor_task_id text, actor_run_id text, created_at timestamptz DEFAULT NULL,
        xid xid8 DEFAULT NULL, test_of text DEFAULT NULL) RETURNS text
    LANGUAGE c STABLE
    AS 'MODULE_PATHNAME', 'webhook_events_refusal';
COMMENT ON FUNCTION webhook_events_internal.refusal(webhook_events_internal.webhooks, webhook_events.event_type,
        text, text, text, text, timestamptz, xid8, text) IS
    'why a webhook does not get such an event, or NULL; without a time as if it were enabled and old enough';
REVOKE ALL ON FUNCTION webhook_events_internal.refusal(webhook_events_internal.webhooks, webhook_events.event_type,
        text, text, text, text, timestamptz, xid8, text) FROM PUBLIC;

CREATE FUNCTION webhook_events_internal.build_request(webhook webhook_events_internal.webhooks, event_id text,
        OUT method text, OUT url text, OUT headers jsonb, OUT body text, OUT error text)
    RETURNS record
    LANGUAGE c STABLE STRICT
    SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'webhook_events_build_request';
COMMENT ON FUNCTION webhook_events_internal.build_request(webhook_events_internal.webhooks, text) IS
    'the request that takes an event to a webhook, or why there can be none';
REVOKE ALL ON FUNCTION webhook_events_internal.build_request(webhook_events_internal.webhooks, text) FROM PUBLIC;

-- Volatile, so that it sees what the same statement has just created.
CREATE FUNCTION webhook_events_internal.preview(webhook_id text, event_id text, OUT method text,
        OUT url text, OUT headers jsonb, OUT body text) RETURNS record
    LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    error text;
BEGIN
    PERFORM FROM webhook_events_internal.outbox AS o
    WHERE o.id = preview.event_id AND webhook_events_internal.may_see(o.user_id);
    IF event_id IS NULL THEN
        RAISE EXCEPTION 'the id of an event is null' USING ERRCODE = 'no_data_found';
    ELSIF NOT FOUND THEN
        RAISE EXCEPTION 'event "%" does not exist', event_id USING ERRCODE = 'no_data_found';
    END IF;
    SELECT r.* INTO method, url, headers, body, error
    FROM webhook_events_internal.build_request(webhook_events_internal.get_webhook(webhook_id), event_id) AS r;
    IF error IS NOT NULL THEN
        RAISE EXCEPTION 'request can''t be built: %', error
            USING ERRCODE = 'invalid_parameter_value',
                DETAIL = 'A dispatch of this event to this webhook fails with this reason.';
    END IF;
END
$function$;
COMMENT ON FUNCTION webhook_events_internal.preview(text, text) IS
    'the request that would be sent for an event, without sending it';
REVOKE ALL ON FUNCTION webhook_events_internal.preview(text, text) FROM PUBLIC;

-- Ids and names are whatever somebody has written.  What steers a terminal or turns the direction of writing
-- would let one of them rewrite what stands around it; in a database without an encoding as the bytes of UTF-8.
CREATE FUNCTION webhook_events_internal.visible(value text, instead text) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN pg_catalog.regexp_replace(value, E'[\\u0001-\\u0008\\u000B\\u000C\\u000E-\\u001F\\u007F]'
        || CASE WHEN pg_catalog.getdatabaseencoding() = 'UTF8'
            THEN E'|[\\u0080-\\u009F\\u061C\\u200E\\u200F\\u2028-\\u202E\\u2066-\\u2069]'
            WHEN pg_catalog.getdatabaseencoding() ~ '^(LATIN|ISO_8859_)' THEN E'|[\\u0080-\\u009F]'
            WHEN pg_catalog.getdatabaseencoding() = 'SQL_ASCII' THEN E'|\\u00C2[\\u0080-\\u009F]|\\u00D8\\u009C'
                '|\\u00E2(?:\\u0080[\\u008E\\u008F\\u00AA-\\u00AE]|\\u0081[\\u00A6-\\u00A9])'
            ELSE '' END, instead, 'g');
COMMENT ON FUNCTION webhook_events_internal.visible(text, text) IS
    'a text with something else instead of characters that are not seen, but for ends of lines and tabs';
REVOKE ALL ON FUNCTION webhook_events_internal.visible(text, text) FROM PUBLIC;

CREATE FUNCTION webhook_events_internal.on_a_line(value text) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN pg_catalog.regexp_replace(webhook_events_internal.visible(value, '?'), E'[\\n\\r\\t]+', ' ', 'g');
COMMENT ON FUNCTION webhook_events_internal.on_a_line(text) IS
    'a text as a part of a sentence: on one line, and without what is not seen';
REVOKE ALL ON FUNCTION webhook_events_internal.on_a_line(text) FROM PUBLIC;

-- By the rules alone; explain_event() in 72_explain.sql adds what became of it.  A user can
-- have any number of webhooks: of so many at most those that get the event come first, and
-- of the others no more than are returned are asked why not.
CREATE FUNCTION webhook_events_internal.explain_match(event_id text, max_rows integer DEFAULT NULL)
    RETURNS TABLE (webhook_id text, fires boolean, reason text)
    LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    event webhook_events_internal.outbox;
    nfiring bigint;
BEGIN
    SELECT o.* INTO event FROM webhook_events_internal.outbox AS o
    WHERE o.id = event_id AND webhook_events_internal.may_see(o.user_id);
    IF event_id IS NULL THEN
        RAISE EXCEPTION 'the id of an event is null' USING ERRCODE = 'no_data_found';
    ELSIF NOT FOUND THEN
        RAISE EXCEPTION 'event "%" does not exist', event_id USING ERRCODE = 'no_data_found';
    END IF;
    RETURN QUERY
        SELECT w.id, true, CASE WHEN event.webhook_id IS NULL
            THEN 'event type and condition match' ELSE 'the event is a test of it' END
        FROM (SELECT w AS whole, w.id FROM webhook_events_internal.webhooks AS w
            WHERE webhook_events_internal.may_see(w.user_id)
                AND (w.id = event.webhook_id
                    OR event.webhook_id IS NULL AND event.event_type = ANY (w.event_types)
                        AND (w.user_id = event.user_id OR w.user_id IS NULL)
                        AND (w.actor_id = event.actor_id OR w.actor_id IS NULL)
                        AND (w.actor_task_id = event.actor_task_id OR w.actor_task_id IS NULL)
                        AND (w.actor_run_id = event.actor_run_id OR w.actor_run_id IS NULL))
            ORDER BY w.id OFFSET 0) AS w
        WHERE webhook_events_internal.refusal(w.whole, event.event_type,
            event.user_id, event.actor_id, event.actor_task_id, event.actor_run_id,
            event.created_at, event.xid, event.webhook_id) IS NULL
        LIMIT max_rows;
    GET DIAGNOSTICS nfiring = ROW_COUNT;
    RETURN QUERY
        SELECT w.id, false, r.refusal
        FROM (SELECT w AS whole, w.id FROM webhook_events_internal.webhooks AS w
            WHERE webhook_events_internal.may_see(w.user_id)
                AND (w.id = event.webhook_id OR w.user_id = event.user_id
                    OR w.actor_id = event.actor_id OR w.actor_task_id = event.actor_task_id
                    OR w.actor_run_id = event.actor_run_id
                    OR (w.user_id IS NULL AND w.actor_id IS NULL AND w.actor_task_id IS NULL
                        AND w.actor_run_id IS NULL)
                    -- Who mistyped an id, or took one for another, looks for it here.
                    OR NOT w.is_ad_hoc AND (webhook_events_internal.nearly(w.actor_id, event.actor_id)
                        OR webhook_events_internal.nearly(w.actor_task_id, event.actor_task_id)
                        OR webhook_events_internal.nearly(w.user_id, event.user_id)
                        OR w.actor_id IN (event.actor_task_id, event.actor_run_id, event.actor_build_id)
                        OR w.actor_task_id IN (event.actor_id, event.actor_run_id))
                    OR webhook_events_internal.nearly(w.actor_run_id, event.actor_run_id)
                    OR w.actor_run_id IN (event.actor_id, event.actor_task_id, event.actor_build_id))
            ORDER BY w.id OFFSET 0) AS w
            CROSS JOIN LATERAL (SELECT webhook_events_internal.refusal(w.whole, event.event_type,
                event.user_id, event.actor_id, event.actor_task_id, event.actor_run_id,
                event.created_at, event.xid, event.webhook_id) OFFSET 0) AS r (refusal)
        WHERE r.refusal IS NOT NULL
        LIMIT max_rows - nfiring;
END
$function$;
COMMENT ON FUNCTION webhook_events_internal.explain_match(text, integer) IS
    'which webhooks get an event by its rules and which don''t, and why; so many at most, those that get it first';
REVOKE ALL ON FUNCTION webhook_events_internal.explain_match(text, integer) FROM PUBLIC;

-- Its body is bound when it is created and it sets nothing, so that it can return
-- row by row; see webhook_events.backtest().
CREATE FUNCTION webhook_events_internal.check_span(since timestamptz, until timestamptz)
    RETURNS boolean
    LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp
AS $function$
BEGIN
    IF since IS NULL OR until IS NULL THEN
        RAISE EXCEPTION 'a span of time needs its beginning and its end, and % is null',
                CASE WHEN since IS NULL THEN 'since' ELSE 'until' END
            USING ERRCODE = 'null_value_not_allowed',
                HINT = 'For no limit write ''-infinity'' or ''infinity''.';
    END IF;
    IF since > until THEN
        RAISE EXCEPTION 'since (%) is after until (%)', since, until
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    RETURN true;
END
$function$;
COMMENT ON FUNCTION webhook_events_internal.check_span(timestamptz, timestamptz) IS
    'true; an error for what is no span of time';
REVOKE ALL ON FUNCTION webhook_events_internal.check_span(timestamptz, timestamptz) FROM PUBLIC;

-- Errors for an unknown webhook or span, even if there are no events: what prunes
-- partitions is asked for in any case, and no planner may take it for NULL.
CREATE FUNCTION webhook_events_internal.backtest_start(webhook_id text, since timestamptz,
        until timestamptz) RETURNS text
    LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp
AS $function$
BEGIN
    PERFORM webhook_events_internal.get_webhook(webhook_id);
    PERFORM webhook_events_internal.check_span(since, until);
    RETURN webhook_events.id_lower_bound(since);
END
$function$;
COMMENT ON FUNCTION webhook_events_internal.backtest_start(text, timestamptz, timestamptz) IS
    'where the ids of a span of time begin; an error for what is no webhook or no span';
REVOKE ALL ON FUNCTION webhook_events_internal.backtest_start(text, timestamptz, timestamptz)
    FROM PUBLIC;

CREATE FUNCTION webhook_events_internal.backtest_rows(webhook_id text, since timestamptz,
        until timestamptz DEFAULT pg_catalog.now())
    RETURNS TABLE (event_id text, created_at timestamptz,
        event_type webhook_events.event_type, fires boolean, reason text, body text)
    LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT e.id, e.created_at, e.event_type, r.refusal IS NULL,
        coalesce(r.refusal, b.error), b.body
    FROM webhook_events_internal.get_webhook(backtest_rows.webhook_id) AS w
        CROSS JOIN webhook_events_internal.outbox AS e
        CROSS JOIN LATERAL (SELECT webhook_events_internal.refusal(w, e.event_type, e.user_id,
            e.actor_id, e.actor_task_id, e.actor_run_id) OFFSET 0) AS r (refusal)
        LEFT JOIN LATERAL (SELECT q.body, q.error
            FROM webhook_events_internal.build_request(w, e.id) AS q
            WHERE r.refusal IS NULL OFFSET 0) AS b ON true
    WHERE e.id >= webhook_events_internal.backtest_start(backtest_rows.webhook_id, since, until)
        AND (until IS NULL OR e.id < webhook_events.id_lower_bound(until))
        AND e.webhook_id IS NULL AND webhook_events_internal.may_see(e.user_id)
    ORDER BY e.id;
END;
COMMENT ON FUNCTION webhook_events_internal.backtest_rows(text, timestamptz, timestamptz) IS
    'rows of backtest(), made one by one';
REVOKE ALL ON FUNCTION webhook_events_internal.backtest_rows(text, timestamptz, timestamptz) FROM PUBLIC;

CREATE FUNCTION webhook_events_internal.source_event(relation regclass, kind text, id text,
        OUT found boolean, OUT user_id text, OUT actor_id text, OUT actor_task_id text, OUT resource json)
    RETURNS record
    LANGUAGE c STABLE STRICT
    SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'webhook_events_source_event';
COMMENT ON FUNCTION webhook_events_internal.source_event(regclass, text, text) IS
    'what an event of a row of an attached table would hold now, if there is such a row';
REVOKE ALL ON FUNCTION webhook_events_internal.source_event(regclass, text, text) FROM PUBLIC;

-- Who looks for an id asks all attached tables, whoever they belong to: one that is locked
-- by its owner, or fails for what he made of it, must not keep the others from it.
CREATE FUNCTION webhook_events_internal.read_source(relation regclass, kind text, id text,
        OUT is_found boolean, OUT user_id text, OUT actor_id text, OUT actor_task_id text,
        OUT resource json, OUT failure text) RETURNS record
    LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp
    SET lock_timeout = '2s'
AS $function$
BEGIN
    SELECT s.* INTO is_found, user_id, actor_id, actor_task_id, resource
    FROM webhook_events_internal.source_event(relation, kind, id) AS s;
EXCEPTION
    WHEN data_exception THEN
        is_found := false;  -- the table's ids are of another type
    WHEN OTHERS THEN
        is_found := false;
        failure := format('Table %s can''t be read: %s.', relation, SQLERRM);
END
$function$;
COMMENT ON FUNCTION webhook_events_internal.read_source(regclass, text, text) IS
    'as source_event(), with what went wrong as a result';
REVOKE ALL ON FUNCTION webhook_events_internal.read_source(regclass, text, text) FROM PUBLIC;

CREATE FUNCTION webhook_events_internal.raise_test(webhook_id text, user_id text, actor_id text,
        actor_task_id text, actor_run_id text, actor_build_id text, resource json)
    RETURNS text
    LANGUAGE c VOLATILE
    AS 'MODULE_PATHNAME', 'webhook_events_raise_test';
COMMENT ON FUNCTION webhook_events_internal.raise_test(text, text, text, text, text, text, json) IS
    'adds a TEST event for one webhook and returns the id of its dispatch';
REVOKE ALL ON FUNCTION webhook_events_internal.raise_test(text, text, text, text, text, text, json)
    FROM PUBLIC;

CREATE FUNCTION webhook_events_internal.check_tests(user_id text) RETURNS void
    LANGUAGE plpgsql VOLATILE STRICT
    SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    most constant integer := current_setting('webhook_events.max_tests_per_user')::integer;
    tests integer;
BEGIN
    -- Of two sessions with one user the second waits here.  A clock that was set back
    -- begins another minute.
    INSERT INTO webhook_events_internal.webhook_users AS u (user_id, tests, tests_since)
    VALUES (check_tests.user_id, 1, clock_timestamp())
    ON CONFLICT ON CONSTRAINT webhook_users_pkey DO UPDATE
    SET (tests, tests_since) = (SELECT CASE WHEN n.is_new THEN 1 ELSE u.tests + 1 END,
            CASE WHEN n.is_new THEN excluded.tests_since ELSE u.tests_since END
        FROM (SELECT coalesce(excluded.tests_since NOT BETWEEN u.tests_since
            AND u.tests_since + interval '1 minute', true) AS is_new) AS n)
    RETURNING u.tests INTO tests;
    IF tests > most THEN
        RAISE EXCEPTION 'webhooks of user "%" had % tests within a minute already', user_id, most
            USING ERRCODE = 'configuration_limit_exceeded',
                DETAIL = 'Setting webhook_events.max_tests_per_user is the limit.',
                HINT = 'Wait for a minute.';
    END IF;
END
$function$;
COMMENT ON FUNCTION webhook_events_internal.check_tests(text) IS
    'refuses a test that is one too many within a minute for the user''s webhooks';
REVOKE ALL ON FUNCTION webhook_events_internal.check_tests(text) FROM PUBLIC;

CREATE FUNCTION webhook_events_internal.test_webhook(id text, resource_id text DEFAULT NULL)
    RETURNS text
    LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    webhook webhook_events_internal.webhooks := webhook_events_internal.get_webhook(id);
    source record;
    event record;
    failure text;
    actor_id text := coalesce(webhook.actor_id, 'dummyActorId');
    run_id text := coalesce(webhook.actor_run_id, 'dummyRunId');
    finished_at timestamptz := now();
BEGIN
    IF resource_id IS NULL THEN
        PERFORM webhook_events_internal.check_tests(webhook.user_id);
        RETURN webhook_events_internal.raise_test(webhook.id, webhook.user_id, actor_id,
            webhook.actor_task_id, run_id, NULL,
            json_build_object('id', run_id, 'actId', actor_id, 'userId', webhook.user_id,
                'actorTaskId', webhook.actor_task_id,
                'startedAt', webhook_events_internal.api_time(finished_at - interval '1 minute'),
                'finishedAt', webhook_events_internal.api_time(finished_at),
                'status', 'SUCCEEDED', 'statusMessage', 'This is a test.'));
    END IF;
    FOR source IN SELECT s.relation, s.kind FROM webhook_events.sources AS s LOOP
        event := webhook_events_internal.read_source(source.relation, source.kind, resource_id);
        failure := coalesce(failure, event.failure);
        CONTINUE WHEN NOT (event.is_found AND webhook_events_internal.may_see(event.user_id));
        IF event.user_id <> webhook.user_id THEN
            failure := format('Table %s has one of user "%s", and the webhook is user "%s"''s.',
                source.relation, event.user_id, webhook.user_id);
            CONTINUE;
        END IF;
        -- Not before: until the end nobody else defines or tests a webhook of this user, and
        -- the table's owner decides how long it takes to read.
        PERFORM webhook_events_internal.check_tests(webhook.user_id);
        RETURN webhook_events_internal.raise_test(webhook.id, event.user_id, event.actor_id,
            event.actor_task_id, CASE source.kind WHEN 'run' THEN resource_id END,
            CASE source.kind WHEN 'build' THEN resource_id END, event.resource);
    END LOOP;
    -- Which tables there are is not for tenants.
    IF failure IS NOT NULL AND webhook_events_internal.sees_all(true) THEN
        RAISE EXCEPTION 'no attached table has a run or build "%"', resource_id
            USING ERRCODE = 'no_data_found', DETAIL = failure;
    END IF;
    RAISE EXCEPTION 'no attached table has a run or build "%"', resource_id
        USING ERRCODE = 'no_data_found';
END
$function$;
COMMENT ON FUNCTION webhook_events_internal.test_webhook(text, text) IS
    'sends a TEST event to one webhook, with this run or build or a dummy; returns the dispatch''s id';
REVOKE ALL ON FUNCTION webhook_events_internal.test_webhook(text, text) FROM PUBLIC;
