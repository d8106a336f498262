--
-- Defining webhooks
--

CREATE FUNCTION webhook_events_internal.check_webhook() RETURNS trigger
    LANGUAGE c AS 'MODULE_PATHNAME', 'webhook_events_check_webhook';
COMMENT ON FUNCTION webhook_events_internal.check_webhook() IS
    'refuses a webhook that could not be delivered to';
REVOKE ALL ON FUNCTION webhook_events_internal.check_webhook() FROM PUBLIC;
CREATE TRIGGER check_on_insert BEFORE INSERT ON webhook_events_internal.webhooks
    FOR EACH ROW EXECUTE FUNCTION webhook_events_internal.check_webhook();
CREATE TRIGGER check_on_update BEFORE UPDATE ON webhook_events_internal.webhooks
    FOR EACH ROW WHEN (OLD.* IS DISTINCT FROM NEW.*)
    EXECUTE FUNCTION webhook_events_internal.check_webhook();

CREATE FUNCTION webhook_events_internal.webhook_ended() RETURNS trigger
    LANGUAGE c
    SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'webhook_events_webhook_ended';
COMMENT ON FUNCTION webhook_events_internal.webhook_ended() IS
    'has the worker give up what waits for a webhook that is gone or disabled';
REVOKE ALL ON FUNCTION webhook_events_internal.webhook_ended() FROM PUBLIC;
-- What retires has nothing that waits.
CREATE TRIGGER ended_by_update AFTER UPDATE ON webhook_events_internal.webhooks
    FOR EACH ROW WHEN (OLD.is_enabled AND NOT NEW.is_enabled AND NOT NEW.is_retired)
    EXECUTE FUNCTION webhook_events_internal.webhook_ended();
CREATE TRIGGER ended_by_delete AFTER DELETE ON webhook_events_internal.webhooks
    REFERENCING OLD TABLE AS ended
    FOR EACH STATEMENT EXECUTE FUNCTION webhook_events_internal.webhook_ended();
CREATE FUNCTION webhook_events_internal.webhook_arrived() RETURNS trigger
    LANGUAGE c
    SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'webhook_events_webhook_arrived';
COMMENT ON FUNCTION webhook_events_internal.webhook_arrived() IS
    'keeps what this server has decided about a webhook that replication brings';
REVOKE ALL ON FUNCTION webhook_events_internal.webhook_arrived() FROM PUBLIC;
CREATE TRIGGER arrived BEFORE INSERT OR UPDATE ON webhook_events_internal.webhooks
    FOR EACH ROW EXECUTE FUNCTION webhook_events_internal.webhook_arrived();
ALTER TABLE webhook_events_internal.webhooks ENABLE REPLICA TRIGGER arrived;
-- Whoever writes the row, also replication from where the webhook is defined.
ALTER TABLE webhook_events_internal.webhooks ENABLE ALWAYS TRIGGER ended_by_update;
ALTER TABLE webhook_events_internal.webhooks ENABLE ALWAYS TRIGGER ended_by_delete;

CREATE FUNCTION webhook_events_internal.nearest(word text, words text[]) RETURNS text
    LANGUAGE c IMMUTABLE
    AS 'MODULE_PATHNAME', 'webhook_events_nearest';
COMMENT ON FUNCTION webhook_events_internal.nearest(text, text[]) IS
    'which of these words may have been meant; NULL: none is near';
REVOKE ALL ON FUNCTION webhook_events_internal.nearest(text, text[]) FROM PUBLIC;

CREATE FUNCTION webhook_events_internal.hint(word text, words text[], what text) RETURNS text
    LANGUAGE sql IMMUTABLE
    SET search_path = pg_catalog, pg_temp
AS $function$
    SELECT coalesce('Perhaps you meant "' || webhook_events_internal.nearest(word, words) || '".',
        format('The %s are %s.', what, array_to_string(words, ', ')))
$function$;
COMMENT ON FUNCTION webhook_events_internal.hint(text, text[], text) IS
    'which word may have been meant, or which there are';
REVOKE ALL ON FUNCTION webhook_events_internal.hint(text, text[], text) FROM PUBLIC;

CREATE FUNCTION webhook_events_internal.inert_variable(template text) RETURNS text
    LANGUAGE sql IMMUTABLE
    SET search_path = pg_catalog, pg_temp
AS $function$
    SELECT substring(t.token[1] FROM v.pattern)
    FROM (SELECT format('[{][{](?:%s)(?:[.][a-zA-Z0-9.]*)?[}][}]',
                array_to_string(webhook_events_internal.template_variables(), '|'))) AS v (pattern)
        CROSS JOIN LATERAL regexp_matches(template, E'"((?:[^"\\\\]|\\\\.)*)"([[:space:]]*:)?', 'g') AS t (token)
    WHERE template ~ v.pattern AND t.token[1] ~ v.pattern AND t.token[2] IS NULL
    LIMIT 1
$function$;
COMMENT ON FUNCTION webhook_events_internal.inert_variable(text) IS
    'the first variable that stands in a string of a template; NULL: none does';
REVOKE ALL ON FUNCTION webhook_events_internal.inert_variable(text) FROM PUBLIC;

-- What the worker keeps of each webhook, and indexes can hold.  Like the following not
-- in the table's trigger: what an earlier version took must be restorable.
CREATE FUNCTION webhook_events_internal.check_sizes(webhook webhook_events_internal.webhooks)
    RETURNS void
    LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    longest constant integer := 255;
    types constant integer := cardinality(enum_range(NULL::webhook_events.event_type));
    value record;
BEGIN
    IF cardinality(webhook.event_types) > types THEN
        RAISE EXCEPTION 'webhook has % event types, more than the % that there are',
                cardinality(webhook.event_types), types
            USING ERRCODE = 'program_limit_exceeded';
    END IF;
    IF greatest(length(webhook.user_id), length(webhook.actor_id), length(webhook.actor_task_id),
            length(webhook.actor_run_id), length(webhook.api_keys ->> 'actionType')) > longest THEN
        SELECT v.name, v.length INTO value
        FROM (VALUES (1, 'user_id', length(webhook.user_id)),
            (2, 'actor_id', length(webhook.actor_id)),
            (3, 'actor_task_id', length(webhook.actor_task_id)),
            (4, 'actor_run_id', length(webhook.actor_run_id)),
            (5, 'actionType', length(webhook.api_keys ->> 'actionType'))) AS v (n, name, length)
        WHERE v.length > longest
        ORDER BY v.n LIMIT 1;
        RAISE EXCEPTION '% of a webhook has % characters, more than %', value.name, value.length,
                longest
            USING ERRCODE = 'program_limit_exceeded';
    END IF;
END
$function$;
COMMENT ON FUNCTION webhook_events_internal.check_sizes(webhook_events_internal.webhooks) IS
    'refuses a webhook with ids or lists that are longer than any that could match';
REVOKE ALL ON FUNCTION webhook_events_internal.check_sizes(webhook_events_internal.webhooks) FROM PUBLIC;

CREATE FUNCTION webhook_events_internal.check_purpose(webhook webhook_events_internal.webhooks)
    RETURNS void
    LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    variable text;
BEGIN
    IF webhook.is_ad_hoc AND webhook.actor_run_id IS NULL THEN
        RAISE EXCEPTION 'an ad-hoc webhook needs the id of a run'
            USING ERRCODE = 'invalid_parameter_value',
                HINT = 'Set actor_run_id (condition.actorRunId), or leave out is_ad_hoc (isAdHoc).';
    END IF;
    IF (webhook.actor_run_id IS NOT NULL OR webhook.actor_task_id IS NOT NULL)
            AND cardinality(webhook.event_types) > 0
            AND NOT EXISTS (SELECT FROM unnest(webhook.event_types) AS t (type)
                WHERE t.type IS NULL OR t.type::text NOT LIKE 'ACTOR.BUILD.%') THEN
        RAISE EXCEPTION 'a webhook for events of builds can''t have the id of a %',
                CASE WHEN webhook.actor_run_id IS NOT NULL THEN 'run' ELSE 'task' END
            USING ERRCODE = 'invalid_parameter_value',
                DETAIL = 'Builds belong to no run and to no task, so it would never fire.',
                HINT = 'Leave out the id, or add event types of runs.';
    END IF;
    IF webhook.should_interpolate_strings THEN
        RETURN;
    END IF;
    variable := coalesce(webhook_events_internal.inert_variable(webhook.payload_template),
        webhook_events_internal.inert_variable(webhook.headers_template));
    IF variable IS NOT NULL THEN
        RAISE NOTICE '% stands inside a string and is sent as it is', variable
            USING HINT = 'With should_interpolate_strings variables in strings are filled in.';
    END IF;
END
$function$;
COMMENT ON FUNCTION webhook_events_internal.check_purpose(webhook_events_internal.webhooks) IS
    'refuses a webhook that could never fire, and tells of variables that are not filled in';
REVOKE ALL ON FUNCTION webhook_events_internal.check_purpose(webhook_events_internal.webhooks) FROM PUBLIC;

CREATE FUNCTION webhook_events_internal.check_limit(webhook webhook_events_internal.webhooks)
    RETURNS void
    LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    most integer := current_setting('webhook_events.max_webhooks_per_user')::integer;
BEGIN
    IF webhook.user_id IS NULL THEN
        RETURN;
    END IF;

    -- Without a lock, for a platform defines some with every run: sessions at
    -- once may get a run a few more.
    IF webhook.is_ad_hoc THEN
        IF (SELECT count(*) FROM webhook_events_internal.webhooks AS w
                WHERE w.actor_run_id = webhook.actor_run_id AND w.user_id = webhook.user_id
                    AND w.is_ad_hoc) > most THEN
            RAISE EXCEPTION 'user "%" has % webhooks for run "%" already', webhook.user_id, most,
                    webhook.actor_run_id
                USING ERRCODE = 'configuration_limit_exceeded',
                    DETAIL = 'Setting webhook_events.max_webhooks_per_user is the limit.';
        END IF;
        RETURN;
    END IF;

    -- Of two sessions with one user the second waits here.
    INSERT INTO webhook_events_internal.webhook_users VALUES (webhook.user_id)
    ON CONFLICT DO NOTHING;
    PERFORM FROM webhook_events_internal.webhook_users AS u
    WHERE u.user_id = webhook.user_id FOR NO KEY UPDATE;
    IF (SELECT count(*) FROM webhook_events_internal.webhooks AS w
            WHERE w.user_id = webhook.user_id AND NOT w.is_ad_hoc) > most THEN
        RAISE EXCEPTION 'user "%" has % webhooks already', webhook.user_id, most
            USING ERRCODE = 'configuration_limit_exceeded',
                DETAIL = 'Setting webhook_events.max_webhooks_per_user is the limit.',
                HINT = 'Delete some, or make them for one run each (ad-hoc): those don''t count.';
    END IF;
END
$function$;
COMMENT ON FUNCTION webhook_events_internal.check_limit(webhook_events_internal.webhooks) IS
    'refuses a webhook that is one too many for its user, or for its run';
REVOKE ALL ON FUNCTION webhook_events_internal.check_limit(webhook_events_internal.webhooks) FROM PUBLIC;

CREATE FUNCTION webhook_events_internal.check_run(run_id text) RETURNS void
    LANGUAGE c VOLATILE STRICT
    SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'webhook_events_check_run';
COMMENT ON FUNCTION webhook_events_internal.check_run(text) IS
    'has the worker look, after the commit, whether a run has ended that this transaction has not made';
REVOKE ALL ON FUNCTION webhook_events_internal.check_run(text) FROM PUBLIC;

CREATE FUNCTION webhook_events_internal.insert_webhook(webhook webhook_events_internal.webhooks)
    RETURNS webhook_events_internal.webhooks
    LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    result webhook_events_internal.webhooks;
BEGIN
    PERFORM webhook_events_internal.check_sizes(webhook);
    PERFORM webhook_events_internal.check_purpose(webhook);
    -- Of two sessions with one key the second waits here, and gets the first's.
    INSERT INTO webhook_events_internal.webhooks AS w SELECT webhook.*
    ON CONFLICT (user_id, idempotency_key) WHERE idempotency_key IS NOT NULL
        DO UPDATE SET id = w.id
    RETURNING w.* INTO result;
    IF result.id = webhook.id THEN
        PERFORM webhook_events_internal.check_limit(result);
        IF result.is_ad_hoc THEN
            PERFORM webhook_events_internal.check_run(result.actor_run_id);
        END IF;
    END IF;
    RETURN result;
END
$function$;
COMMENT ON FUNCTION webhook_events_internal.insert_webhook(webhook_events_internal.webhooks) IS
    'adds a webhook, or finds the one with its idempotency key';
REVOKE ALL ON FUNCTION webhook_events_internal.insert_webhook(webhook_events_internal.webhooks) FROM PUBLIC;

CREATE FUNCTION webhook_events_internal.current_place() RETURNS bigint[]
    LANGUAGE c VOLATILE STRICT
    AS 'MODULE_PATHNAME', 'webhook_events_current_place';
COMMENT ON FUNCTION webhook_events_internal.current_place() IS
    'the server''s identifier, and xmin and xmax of the statement''s snapshot';
REVOKE ALL ON FUNCTION webhook_events_internal.current_place() FROM PUBLIC;

CREATE FUNCTION webhook_events_internal.new_webhook() RETURNS webhook_events_internal.webhooks
    LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    webhook webhook_events_internal.webhooks;
BEGIN
    webhook.id := webhook_events_internal.new_id();
    webhook.user_id := webhook_events_internal.own_user(true);
    webhook.is_enabled := true;
    webhook.is_ad_hoc := false;
    webhook.is_retired := false;
    webhook.run_ended := false;
    webhook.should_interpolate_strings := false;
    webhook.ignore_ssl_errors := false;
    webhook.do_not_retry := false;
    webhook.secret := webhook_events_internal.new_secret();
    webhook.created_at := clock_timestamp();
    webhook.modified_at := webhook.created_at;
    webhook.created_xid := pg_current_xact_id();
    webhook.ordering := 'none';
    webhook.created_in := webhook_events_internal.current_place();
    RETURN webhook;
END
$function$;
COMMENT ON FUNCTION webhook_events_internal.new_webhook() IS
    'a row of webhooks with its defaults, not yet in the table';
REVOKE ALL ON FUNCTION webhook_events_internal.new_webhook() FROM PUBLIC;

CREATE FUNCTION webhook_events_internal.create_webhook(request_url text,
        event_types webhook_events.event_type[], actor_id text DEFAULT NULL,
        actor_task_id text DEFAULT NULL, actor_run_id text DEFAULT NULL,
        user_id text DEFAULT NULL, payload_template text DEFAULT NULL,
        headers_template text DEFAULT NULL,
        should_interpolate_strings boolean DEFAULT false,
        ignore_ssl_errors boolean DEFAULT false, do_not_retry boolean DEFAULT false,
        is_ad_hoc boolean DEFAULT false, idempotency_key text DEFAULT NULL,
        description text DEFAULT NULL, is_enabled boolean DEFAULT true,
        ordering text DEFAULT 'none')
    RETURNS webhook_events_internal.webhooks
    LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    webhook webhook_events_internal.webhooks := webhook_events_internal.new_webhook();
BEGIN
    webhook.request_url := request_url;
    webhook.event_types := event_types;
    webhook.actor_id := actor_id;
    webhook.actor_task_id := actor_task_id;
    webhook.actor_run_id := actor_run_id;
    webhook.user_id := coalesce(user_id, webhook.user_id);
    webhook.payload_template := payload_template;
    webhook.headers_template := headers_template;
    webhook.should_interpolate_strings := coalesce(should_interpolate_strings, false);
    webhook.ignore_ssl_errors := coalesce(ignore_ssl_errors, false);
    webhook.do_not_retry := coalesce(do_not_retry, false);
    webhook.is_ad_hoc := coalesce(is_ad_hoc, false);
    webhook.idempotency_key := idempotency_key;
    webhook.description := description;
    webhook.is_enabled := coalesce(is_enabled, true);
    webhook.ordering := coalesce(ordering, 'none');
    RETURN webhook_events_internal.insert_webhook(webhook);
END
$function$;
COMMENT ON FUNCTION webhook_events_internal.create_webhook(text, webhook_events.event_type[], text,
        text, text, text, text, text, boolean, boolean, boolean, boolean, text, text, boolean, text) IS
    'defines a webhook';
REVOKE ALL ON FUNCTION webhook_events_internal.create_webhook(text, webhook_events.event_type[], text,
        text, text, text, text, text, boolean, boolean, boolean, boolean, text, text, boolean, text)
    FROM PUBLIC;

CREATE FUNCTION webhook_events_internal.definition_value(definition jsonb, key text, type text)
    RETURNS text
    LANGUAGE plpgsql IMMUTABLE
    SET search_path = pg_catalog, pg_temp
AS $function$
BEGIN
    IF jsonb_typeof(definition -> key) NOT IN (type, 'null') THEN
        RAISE EXCEPTION '% of a webhook must be % %, not %', key,
                CASE type WHEN 'object' THEN 'an' WHEN 'array' THEN 'an' ELSE 'a' END, type,
                jsonb_typeof(definition -> key)
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    RETURN definition ->> key;
END
$function$;
COMMENT ON FUNCTION webhook_events_internal.definition_value(jsonb, text, text) IS
    'a member of a definition, which must be of this JSON type or null';
REVOKE ALL ON FUNCTION webhook_events_internal.definition_value(jsonb, text, text) FROM PUBLIC;

CREATE FUNCTION webhook_events_internal.apply_definition(webhook webhook_events_internal.webhooks,
        definition jsonb) RETURNS webhook_events_internal.webhooks
    LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    -- What each key must be; json, since that keeps their order for the hint.
    keys constant json := '{"requestUrl": "string", "eventTypes": "array", "condition": "object",
        "userId": "string", "payloadTemplate": "string", "headersTemplate": "string",
        "shouldInterpolateStrings": "boolean", "ignoreSslErrors": "boolean",
        "doNotRetry": "boolean", "isAdHoc": "boolean", "isEnabled": "boolean",
        "description": "string", "idempotencyKey": "string", "ordering": "string"}';
    -- Those that are kept and given back, and those that the platform alone sets.
    kept constant json := '{"actionType": "string", "isApifyIntegration": "boolean"}';
    ignored constant text[] := '{id, createdAt, modifiedAt, lastDispatch, stats}';
    types constant text[] := enum_range(NULL::webhook_events.event_type);
    key text;
    part text;
    value text;
    label text;
BEGIN
    IF jsonb_typeof(definition) IS DISTINCT FROM 'object' THEN
        RAISE EXCEPTION 'definition of a webhook must be an object, not %',
                coalesce(jsonb_typeof(definition), 'null')
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    FOR key IN SELECT jsonb_object_keys(definition) LOOP
        CONTINUE WHEN key = ANY (ignored);
        CASE
            WHEN keys ->> key IS NOT NULL THEN
                value := webhook_events_internal.definition_value(definition, key, keys ->> key);
            WHEN kept ->> key IS NOT NULL THEN
                value := webhook_events_internal.definition_value(definition, key, kept ->> key);
                webhook.api_keys := nullif(jsonb_strip_nulls(coalesce(webhook.api_keys, '{}')
                    || jsonb_build_object(key, definition -> key)), '{}');
                CONTINUE;
            ELSE
                RAISE EXCEPTION 'a webhook has no "%"', key
                    USING ERRCODE = 'invalid_parameter_value',
                        HINT = webhook_events_internal.hint(key,
                            ARRAY(SELECT json_object_keys(keys)), 'keys');
        END CASE;
        CASE key
            WHEN 'requestUrl' THEN webhook.request_url := value;
            WHEN 'userId' THEN webhook.user_id := value;
            WHEN 'payloadTemplate' THEN webhook.payload_template := value;
            WHEN 'headersTemplate' THEN webhook.headers_template := value;
            WHEN 'description' THEN webhook.description := value;
            WHEN 'idempotencyKey' THEN webhook.idempotency_key := value;
            WHEN 'shouldInterpolateStrings' THEN
                webhook.should_interpolate_strings := coalesce(value::boolean, false);
            WHEN 'ignoreSslErrors' THEN
                webhook.ignore_ssl_errors := coalesce(value::boolean, false);
            WHEN 'doNotRetry' THEN webhook.do_not_retry := coalesce(value::boolean, false);
            WHEN 'ordering' THEN webhook.ordering := coalesce(value, 'none');
            WHEN 'isAdHoc' THEN webhook.is_ad_hoc := coalesce(value::boolean, false);
            WHEN 'isEnabled' THEN webhook.is_enabled := coalesce(value::boolean, true);
            WHEN 'eventTypes' THEN
                webhook.event_types := '{}';
                FOR label IN SELECT jsonb_array_elements_text(
                        CASE jsonb_typeof(definition -> key) WHEN 'array'
                            THEN definition -> key ELSE '[]' END) LOOP
                    IF label IS NULL THEN
                        RAISE EXCEPTION 'an event type of a webhook is null'
                            USING ERRCODE = 'null_value_not_allowed';
                    END IF;
                    IF label <> ALL (types) THEN
                        RAISE EXCEPTION 'event type "%" does not exist', label
                            USING ERRCODE = 'invalid_parameter_value',
                                HINT = webhook_events_internal.hint(label, types, 'event types');
                    END IF;
                    webhook.event_types :=
                        webhook.event_types || label::webhook_events.event_type;
                END LOOP;
            WHEN 'condition' THEN
                IF value IS NULL THEN
                    webhook.actor_id := NULL;
                    webhook.actor_task_id := NULL;
                    webhook.actor_run_id := NULL;
                    CONTINUE;
                END IF;
                FOR part IN SELECT jsonb_object_keys(definition -> key) LOOP
                    value := webhook_events_internal.definition_value(definition -> key, part, 'string');
                    CASE part
                        WHEN 'actorId' THEN webhook.actor_id := value;
                        WHEN 'actorTaskId' THEN webhook.actor_task_id := value;
                        WHEN 'actorRunId' THEN webhook.actor_run_id := value;
                        ELSE
                            RAISE EXCEPTION 'condition of a webhook has no "%"', part
                                USING ERRCODE = 'invalid_parameter_value',
                                    HINT = webhook_events_internal.hint(part,
                                        '{actorId, actorTaskId, actorRunId}', 'parts of a condition');
                    END CASE;
                END LOOP;
        END CASE;
    END LOOP;
    RETURN webhook;
END
$function$;
COMMENT ON FUNCTION webhook_events_internal.apply_definition(webhook_events_internal.webhooks, jsonb) IS
    'a webhook changed as the keys of the platform''s API say';
REVOKE ALL ON FUNCTION webhook_events_internal.apply_definition(webhook_events_internal.webhooks, jsonb)
    FROM PUBLIC;

CREATE FUNCTION webhook_events_internal.create_webhook(definition jsonb)
    RETURNS webhook_events_internal.webhooks
    LANGUAGE sql VOLATILE
    SET search_path = pg_catalog, pg_temp
AS $function$
    SELECT webhook_events_internal.insert_webhook(
        webhook_events_internal.apply_definition(webhook_events_internal.new_webhook(), definition))
$function$;
COMMENT ON FUNCTION webhook_events_internal.create_webhook(jsonb) IS
    'defines a webhook by a Webhook object of the platform''s API';
REVOKE ALL ON FUNCTION webhook_events_internal.create_webhook(jsonb) FROM PUBLIC;

CREATE FUNCTION webhook_events_internal.create_ad_hoc_webhooks(actor_run_id text, definitions jsonb,
        user_id text DEFAULT NULL) RETURNS SETOF webhook_events_internal.webhooks
    LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    definition jsonb;
    key text;
    webhook webhook_events_internal.webhooks;
BEGIN
    IF coalesce(actor_run_id, '') = '' THEN
        RAISE EXCEPTION 'ad-hoc webhooks need the id of a run'
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF jsonb_typeof(definitions) IS DISTINCT FROM 'array' THEN
        RAISE EXCEPTION 'definitions of ad-hoc webhooks must be an array, not %',
                coalesce(jsonb_typeof(definitions), 'null')
            USING ERRCODE = 'invalid_parameter_value',
                HINT = CASE jsonb_typeof(definitions) WHEN 'object'
                    THEN 'Put the object into an array: [{...}].'
                    ELSE 'It looks like [{"eventTypes": ["ACTOR.RUN.SUCCEEDED"], "requestUrl": "https://..."}].' END;
    END IF;
    FOR definition IN SELECT jsonb_array_elements(definitions) LOOP
        webhook := webhook_events_internal.apply_definition(webhook_events_internal.new_webhook(), definition);
        FOR key IN SELECT jsonb_object_keys(definition) LOOP
            IF key IN ('condition', 'userId', 'isAdHoc', 'isEnabled') THEN
                RAISE EXCEPTION 'an ad-hoc webhook can''t have "%"', key
                    USING ERRCODE = 'invalid_parameter_value',
                        DETAIL = 'It is enabled, and belongs to its run and that run''s user.';
            END IF;
        END LOOP;
        webhook.is_ad_hoc := true;
        webhook.actor_run_id := actor_run_id;
        webhook.user_id := coalesce(user_id, webhook.user_id);
        RETURN NEXT webhook_events_internal.insert_webhook(webhook);
    END LOOP;
END
$function$;
COMMENT ON FUNCTION webhook_events_internal.create_ad_hoc_webhooks(text, jsonb, text) IS
    'defines webhooks for one run, by a JSON array';
REVOKE ALL ON FUNCTION webhook_events_internal.create_ad_hoc_webhooks(text, jsonb, text) FROM PUBLIC;

CREATE FUNCTION webhook_events_internal.create_ad_hoc_webhooks(actor_run_id text, definitions text,
        user_id text DEFAULT NULL) RETURNS SETOF webhook_events_internal.webhooks
    LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    bare text := regexp_replace(definitions, '[[:space:]]', '', 'g');
    json jsonb;
BEGIN
    BEGIN
        IF bare ~ '^[[{]' THEN
            json := definitions::jsonb;
        ELSE
            -- The alphabet of URLs as well, and without padding.
            bare := translate(rtrim(bare, '='), '-_', '+/');
            json := convert_from(decode(rpad(bare, (length(bare) + 3) / 4 * 4, '='), 'base64'),
                'UTF8')::jsonb;
        END IF;
    EXCEPTION WHEN data_exception THEN
        RAISE EXCEPTION 'definitions of ad-hoc webhooks are neither JSON nor its base64'
            USING ERRCODE = 'invalid_parameter_value',
                DETAIL = upper(left(SQLERRM, 1)) || substr(SQLERRM, 2) || '.';
    END;
    RETURN QUERY SELECT * FROM webhook_events_internal.create_ad_hoc_webhooks(actor_run_id, json, user_id);
END
$function$;
COMMENT ON FUNCTION webhook_events_internal.create_ad_hoc_webhooks(text, text, text) IS
    'defines webhooks for one run, by a JSON array or its base64';
REVOKE ALL ON FUNCTION webhook_events_internal.create_ad_hoc_webhooks(text, text, text) FROM PUBLIC;

