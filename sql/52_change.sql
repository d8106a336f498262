--
-- Changing webhooks
--

CREATE FUNCTION webhook_events_internal.find_webhook(id text) RETURNS webhook_events_internal.webhooks
    LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp
AS $function$
BEGIN
    PERFORM FROM webhook_events_internal.webhooks AS w
    WHERE w.id = find_webhook.id AND webhook_events_internal.may_see(w.user_id) FOR UPDATE;
    RETURN webhook_events_internal.get_webhook(id);
END
$function$;
COMMENT ON FUNCTION webhook_events_internal.find_webhook(text) IS
    'the row of a webhook, locked; an error if there is none';
REVOKE ALL ON FUNCTION webhook_events_internal.find_webhook(text) FROM PUBLIC;

CREATE FUNCTION webhook_events_internal.update_webhook(id text, changes jsonb)
    RETURNS webhook_events_internal.webhooks
    LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    old webhook_events_internal.webhooks := webhook_events_internal.find_webhook(id);
    new webhook_events_internal.webhooks :=
        webhook_events_internal.apply_definition(old, changes);
    same_run CONSTANT boolean :=
        (new.actor_run_id, new.user_id) IS NOT DISTINCT FROM (old.actor_run_id, old.user_id);
    result webhook_events_internal.webhooks;
BEGIN
    IF (old.event_types, old.actor_run_id, old.actor_task_id, old.is_ad_hoc,
            old.payload_template, old.headers_template, old.should_interpolate_strings)
        IS DISTINCT FROM (new.event_types, new.actor_run_id, new.actor_task_id, new.is_ad_hoc,
            new.payload_template, new.headers_template, new.should_interpolate_strings) THEN
        PERFORM webhook_events_internal.check_purpose(new);
    END IF;
    IF (old.event_types, old.user_id, old.actor_id, old.actor_task_id, old.actor_run_id, old.api_keys)
        IS DISTINCT FROM (new.event_types, new.user_id, new.actor_id, new.actor_task_id,
            new.actor_run_id, new.api_keys) THEN
        PERFORM webhook_events_internal.check_sizes(new);
    END IF;
    UPDATE webhook_events_internal.webhooks AS w
    SET user_id = new.user_id, is_enabled = new.is_enabled, is_ad_hoc = new.is_ad_hoc,
        event_types = new.event_types, actor_id = new.actor_id,
        actor_task_id = new.actor_task_id, actor_run_id = new.actor_run_id,
        request_url = new.request_url, payload_template = new.payload_template,
        headers_template = new.headers_template,
        should_interpolate_strings = new.should_interpolate_strings,
        ignore_ssl_errors = new.ignore_ssl_errors, do_not_retry = new.do_not_retry,
        description = new.description, idempotency_key = new.idempotency_key,
        ordering = new.ordering, api_keys = new.api_keys,
        -- Who says nothing else means it, whatever the row says: a server to which it is
        -- replicated may have decided otherwise.
        turned = CASE WHEN changes - 'isEnabled' = '{}' AND changes ? 'isEnabled'
            THEN coalesce(w.turned, 0) + 1 ELSE w.turned END,
        disabled_reason = CASE WHEN NOT new.is_enabled THEN w.disabled_reason END,
        is_retired = w.is_retired AND NOT new.is_enabled,
        -- One that was enabled after its end stays so, whatever looks for ends.  Another
        -- user's run of that id is another run.
        run_ended = w.run_ended AND NOT (w.is_retired AND new.is_enabled) AND same_run,
        run_changed_at = CASE WHEN same_run THEN w.run_changed_at END
    WHERE w.id = new.id
    RETURNING w.* INTO result;
    -- Nobody has told it what happened to its run meanwhile.
    IF result.is_ad_hoc AND result.is_enabled
        AND (NOT same_run OR NOT old.is_ad_hoc
            OR NOT old.is_enabled AND NOT old.is_retired) THEN
        PERFORM webhook_events_internal.check_run(result.actor_run_id);
    END IF;
    IF (result.user_id, result.is_ad_hoc, result.actor_run_id)
            IS DISTINCT FROM (old.user_id, old.is_ad_hoc, old.actor_run_id) THEN
        PERFORM webhook_events_internal.check_limit(result);
    END IF;
    RETURN result;
END
$function$;
COMMENT ON FUNCTION webhook_events_internal.update_webhook(text, jsonb) IS
    'changes what the given keys of the platform''s API name';
REVOKE ALL ON FUNCTION webhook_events_internal.update_webhook(text, jsonb) FROM PUBLIC;

CREATE FUNCTION webhook_events_internal.enable_webhook(id text) RETURNS webhook_events_internal.webhooks
    LANGUAGE sql VOLATILE
    SET search_path = pg_catalog, pg_temp
AS $function$
    SELECT webhook_events_internal.update_webhook(id, '{"isEnabled": true}')
$function$;
COMMENT ON FUNCTION webhook_events_internal.enable_webhook(text) IS
    'lets a webhook get events again, from now on';
REVOKE ALL ON FUNCTION webhook_events_internal.enable_webhook(text) FROM PUBLIC;

CREATE FUNCTION webhook_events_internal.disable_webhook(id text) RETURNS webhook_events_internal.webhooks
    LANGUAGE sql VOLATILE
    SET search_path = pg_catalog, pg_temp
AS $function$
    SELECT webhook_events_internal.update_webhook(id, '{"isEnabled": false}')
$function$;
COMMENT ON FUNCTION webhook_events_internal.disable_webhook(text) IS
    'stops a webhook; its waiting dispatches fail';
REVOKE ALL ON FUNCTION webhook_events_internal.disable_webhook(text) FROM PUBLIC;

CREATE FUNCTION webhook_events_internal.delete_webhook(id text) RETURNS void
    LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp
AS $function$
BEGIN
    PERFORM webhook_events_internal.find_webhook(id);
    DELETE FROM webhook_events_internal.webhooks AS w WHERE w.id = delete_webhook.id;
END
$function$;
COMMENT ON FUNCTION webhook_events_internal.delete_webhook(text) IS
    'removes a webhook; its waiting dispatches fail, its history stays';
REVOKE ALL ON FUNCTION webhook_events_internal.delete_webhook(text) FROM PUBLIC;

CREATE FUNCTION webhook_events_internal.set_max_rate(id text, max_rate double precision)
    RETURNS webhook_events_internal.webhooks
    LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    webhook webhook_events_internal.webhooks := webhook_events_internal.find_webhook(id);
BEGIN
    UPDATE webhook_events_internal.webhooks AS w SET max_rate = set_max_rate.max_rate
    WHERE w.id = webhook.id RETURNING w.* INTO webhook;
    PERFORM webhook_events_internal.wake_worker();
    RETURN webhook;
END
$function$;
COMMENT ON FUNCTION webhook_events_internal.set_max_rate(text, double precision) IS
    'limits how many calls a webhook gets each second; NULL: no limit';
REVOKE ALL ON FUNCTION webhook_events_internal.set_max_rate(text, double precision) FROM PUBLIC;

CREATE FUNCTION webhook_events_internal.set_secret(id text, secret text,
        grace interval DEFAULT '24 hours') RETURNS void
    LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    webhook webhook_events_internal.webhooks := webhook_events_internal.find_webhook(id);
    old text[] := '{}';
    until timestamptz[] := '{}';
BEGIN
    IF grace IS NULL OR grace < interval '0' OR grace > interval '100 years' THEN
        RAISE EXCEPTION 'grace period of a secret can''t be %', coalesce(grace::text, 'null')
            USING ERRCODE = 'invalid_parameter_value',
                HINT = 'It is between 0 and 100 years.';
    END IF;
    SELECT coalesce(array_agg(o.secret ORDER BY o.n), '{}'),
        coalesce(array_agg(o.until ORDER BY o.n), '{}')
    INTO old, until
    FROM (SELECT webhook.secret, now() + grace, 0
        UNION ALL
        SELECT * FROM unnest(webhook.old_secrets, webhook.old_secrets_until)
            WITH ORDINALITY) AS o (secret, until, n)
    WHERE o.secret IS NOT NULL AND o.until > clock_timestamp() AND o.n < 10;
    UPDATE webhook_events_internal.webhooks AS w
    SET secret = set_secret.secret, old_secrets = old, old_secrets_until = until
    WHERE w.id = webhook.id;
END
$function$;
COMMENT ON FUNCTION webhook_events_internal.set_secret(text, text, interval) IS
    'gives a webhook another signing secret, or none; the old one signs along for a while';
REVOKE ALL ON FUNCTION webhook_events_internal.set_secret(text, text, interval) FROM PUBLIC;

CREATE FUNCTION webhook_events_internal.rotate_secret(id text, grace interval DEFAULT '24 hours')
    RETURNS text
    LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    secret text := webhook_events_internal.new_secret();
BEGIN
    PERFORM webhook_events_internal.set_secret(id, secret, grace);
    RETURN secret;
END
$function$;
COMMENT ON FUNCTION webhook_events_internal.rotate_secret(text, interval) IS
    'gives a webhook a new signing secret and returns it; the old one signs along for a while';
REVOKE ALL ON FUNCTION webhook_events_internal.rotate_secret(text, interval) FROM PUBLIC;

