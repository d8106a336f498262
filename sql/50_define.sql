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
    'has the worker give up what waits for a webhook that is gone, disabled or another user''s';
REVOKE ALL ON FUNCTION webhook_events_internal.webhook_ended() FROM PUBLIC;
-- What retires has nothing that waits.
CREATE TRIGGER ended_by_update AFTER UPDATE ON webhook_events_internal.webhooks
    FOR EACH ROW WHEN (OLD.is_enabled AND NOT NEW.is_enabled AND NOT NEW.is_retired
        OR OLD.user_id IS DISTINCT FROM NEW.user_id)
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

CREATE FUNCTION webhook_events_internal.webhook_counted() RETURNS trigger
    LANGUAGE c
    SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'webhook_events_webhook_counted';
COMMENT ON FUNCTION webhook_events_internal.webhook_counted() IS
    'keeps the number of webhooks right where it has been counted';
REVOKE ALL ON FUNCTION webhook_events_internal.webhook_counted() FROM PUBLIC;
CREATE TRIGGER counted_by_insert AFTER INSERT ON webhook_events_internal.webhooks
    FOR EACH ROW EXECUTE FUNCTION webhook_events_internal.webhook_counted();
CREATE TRIGGER counted_by_update AFTER UPDATE ON webhook_events_internal.webhooks
    FOR EACH ROW WHEN (OLD.id <> NEW.id OR OLD.user_id IS DISTINCT FROM NEW.user_id
        OR OLD.actor_id IS DISTINCT FROM NEW.actor_id
        OR OLD.actor_task_id IS DISTINCT FROM NEW.actor_task_id)
    EXECUTE FUNCTION webhook_events_internal.webhook_counted();
CREATE TRIGGER counted_by_truncate AFTER TRUNCATE ON webhook_events_internal.webhooks
    FOR EACH STATEMENT EXECUTE FUNCTION webhook_events_internal.webhook_counted();
ALTER TABLE webhook_events_internal.webhooks ENABLE ALWAYS TRIGGER counted_by_insert;
ALTER TABLE webhook_events_internal.webhooks ENABLE ALWAYS TRIGGER counted_by_update;
ALTER TABLE webhook_events_internal.webhooks ENABLE ALWAYS TRIGGER counted_by_truncate;
-- Replication deletes without statements; theirs are counted by ended_by_delete.
CREATE TRIGGER counted_by_delete AFTER DELETE ON webhook_events_internal.webhooks
    FOR EACH ROW EXECUTE FUNCTION webhook_events_internal.webhook_counted();
ALTER TABLE webhook_events_internal.webhooks ENABLE REPLICA TRIGGER counted_by_delete;

CREATE FUNCTION webhook_events_internal.hint(word text, words text[], what text) RETURNS text
    LANGUAGE c IMMUTABLE
    SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'webhook_events_hint';
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
    LANGUAGE c VOLATILE STRICT
    SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'webhook_events_check_sizes';
COMMENT ON FUNCTION webhook_events_internal.check_sizes(webhook_events_internal.webhooks) IS
    'refuses a webhook with ids or lists that are longer than any that could match';
REVOKE ALL ON FUNCTION webhook_events_internal.check_sizes(webhook_events_internal.webhooks) FROM PUBLIC;

CREATE FUNCTION webhook_events_internal.check_purpose(webhook webhook_events_internal.webhooks)
    RETURNS void
    LANGUAGE c VOLATILE STRICT
    SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'webhook_events_check_purpose';
COMMENT ON FUNCTION webhook_events_internal.check_purpose(webhook_events_internal.webhooks) IS
    'refuses a webhook that could never fire, and tells of variables that are not filled in';
REVOKE ALL ON FUNCTION webhook_events_internal.check_purpose(webhook_events_internal.webhooks) FROM PUBLIC;

CREATE FUNCTION webhook_events_internal.check_limit(webhook webhook_events_internal.webhooks)
    RETURNS void
    LANGUAGE c VOLATILE STRICT
    SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'webhook_events_check_limit';
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
    LANGUAGE c VOLATILE STRICT
    SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'webhook_events_insert_webhook';
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
    LANGUAGE c VOLATILE
    SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'webhook_events_new_webhook';
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
    'defines a webhook; a mistyped label of an event type is refused by PostgreSQL, as of any enum, and without the nearest right one, which create_webhook(jsonb) does name: enum_range(NULL::webhook_events.event_type) has them all';
REVOKE ALL ON FUNCTION webhook_events_internal.create_webhook(text, webhook_events.event_type[], text,
        text, text, text, text, text, boolean, boolean, boolean, boolean, text, text, boolean, text)
    FROM PUBLIC;

CREATE FUNCTION webhook_events_internal.apply_definition(webhook webhook_events_internal.webhooks,
        definition jsonb) RETURNS webhook_events_internal.webhooks
    LANGUAGE c STABLE
    SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'webhook_events_apply_definition';
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
    LANGUAGE c VOLATILE
    SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'webhook_events_create_ad_hoc_webhooks';
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
    reason text;
BEGIN
    BEGIN
        IF bare ~ '^([[{"]|(null|true|false|-?[0-9]+)$)' THEN
            json := definitions::jsonb;
        ELSE
            -- The alphabet of URLs as well, and without padding.
            bare := translate(rtrim(bare, '='), '-_', '+/');
            json := convert_from(decode(rpad(bare, (length(bare) + 3) / 4 * 4, '='), 'base64'),
                'UTF8')::jsonb;
        END IF;
    EXCEPTION WHEN data_exception THEN
        -- Where JSON breaks off it has more to say.
        GET STACKED DIAGNOSTICS reason = PG_EXCEPTION_DETAIL;
        RAISE EXCEPTION 'definitions of ad-hoc webhooks are neither JSON nor its base64'
            USING ERRCODE = 'invalid_parameter_value',
                DETAIL = coalesce(nullif(reason, ''),
                    upper(left(SQLERRM, 1) COLLATE "C") || substr(SQLERRM, 2) || '.');
    END;
    RETURN QUERY SELECT * FROM webhook_events_internal.create_ad_hoc_webhooks(actor_run_id, json, user_id);
END
$function$;
COMMENT ON FUNCTION webhook_events_internal.create_ad_hoc_webhooks(text, text, text) IS
    'defines webhooks for one run, by a JSON array or its base64';
REVOKE ALL ON FUNCTION webhook_events_internal.create_ad_hoc_webhooks(text, text, text) FROM PUBLIC;

