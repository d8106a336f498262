--
-- Who may do what
--
-- A session with the setting user_id sees and changes what is that user's.
-- Partitions need no policies: nobody is granted anything on them.  Policies and
-- views say what may_see() says without calling it, so that a plain GRANT on a
-- table is enough.
--

CREATE VIEW webhook_events.webhooks WITH (security_barrier = true) AS
    SELECT * FROM webhook_events_internal.webhooks
    WHERE (pg_catalog.current_setting('webhook_events.user_id', true) <> '') IS NOT TRUE
        OR user_id = pg_catalog.current_setting('webhook_events.user_id', true);
COMMENT ON VIEW webhook_events.webhooks IS
    'who wants which events where, and how the request looks';

CREATE VIEW webhook_events.dispatches WITH (security_barrier = true) AS
    SELECT * FROM webhook_events_internal.dispatches
    WHERE (pg_catalog.current_setting('webhook_events.user_id', true) <> '') IS NOT TRUE
        OR user_id = pg_catalog.current_setting('webhook_events.user_id', true);
COMMENT ON VIEW webhook_events.dispatches IS
    'one event for one webhook, until it is delivered or given up';

CREATE VIEW webhook_events.calls WITH (security_barrier = true) AS
    SELECT * FROM webhook_events_internal.calls AS c
    WHERE (pg_catalog.current_setting('webhook_events.user_id', true) <> '') IS NOT TRUE
        OR EXISTS (SELECT FROM webhook_events_internal.dispatches AS d WHERE d.id = c.dispatch_id
            AND d.user_id = pg_catalog.current_setting('webhook_events.user_id', true));
COMMENT ON VIEW webhook_events.calls IS 'HTTP attempts of dispatches';

CREATE VIEW webhook_events.webhooks_masked WITH (security_barrier = true) AS
    SELECT id, user_id, is_enabled, is_ad_hoc, event_types, actor_id, actor_task_id,
        actor_run_id, pg_catalog.regexp_replace(pg_catalog.regexp_replace(request_url,
            '^([A-Za-z]+://)[^/?#]*@', '\1***@'), '[?#].*$', '?***') AS request_url,
        should_interpolate_strings, ignore_ssl_errors, do_not_retry, description, max_rate,
        disabled_reason, is_retired, created_at, modified_at
    FROM webhook_events_internal.webhooks
    WHERE (pg_catalog.current_setting('webhook_events.user_id', true) <> '') IS NOT TRUE
        OR user_id = pg_catalog.current_setting('webhook_events.user_id', true);
COMMENT ON VIEW webhook_events.webhooks_masked IS
    'webhooks without templates, secrets, credentials and queries, for readers';

CREATE FUNCTION webhook_events.grant_access(role regrole, access text) RETURNS void
    LANGUAGE plpgsql VOLATILE STRICT
    SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    reads constant text[] := ARRAY['id_time(text)', 'id_lower_bound(timestamptz)',
        'dispatch_id(text, text)', 'api_time(timestamptz)'];
    manages constant text[] := reads || ARRAY['may_see(text)', 'new_id()', 'new_secret()', 'new_webhook()',
        'insert_webhook(webhook_events_internal.webhooks)', 'find_webhook(text)', 'get_webhook(text)',
        'definition_value(jsonb, text, text)',
        'apply_definition(webhook_events_internal.webhooks, jsonb)',
        'create_webhook(text, webhook_events.event_type[], text, text, text, text, text, text,'
            ' boolean, boolean, boolean, boolean, text, text, boolean)',
        'create_webhook(jsonb)', 'update_webhook(text, jsonb)', 'enable_webhook(text)',
        'disable_webhook(text)', 'delete_webhook(text)',
        'create_ad_hoc_webhooks(text, jsonb, text)', 'create_ad_hoc_webhooks(text, text, text)',
        'set_max_rate(text, double precision)', 'set_secret(text, text, interval)',
        'rotate_secret(text, interval)', 'webhook_secret(text)',
        'refusal(webhook_events_internal.webhooks, webhook_events.event_type, text, text, text, text,'
            ' timestamptz, xid8, text)',
        'build_request(webhook_events_internal.webhooks, text)', 'preview(text, text)',
        'explain_event(text)', 'backtest(text, timestamptz, timestamptz)',
        'source_event(regclass, text, text)', 'source_mapping(oid, bytea)',
        'raise_test(text, text, text, text, text, text, json)', 'test_webhook(text, text)',
        'redeliver(text)', 'unrouted_events()', 'queue_dispatches(text, text[], timestamptz)',
        'replay(text, timestamptz, timestamptz, webhook_events.event_type[], boolean)',
        'wake_worker()', 'stats_of_webhook(text)', 'webhook_json(text)', 'dispatch_json(text)'];
    signature text;
BEGIN
    IF access NOT IN ('reader', 'manager') THEN
        RAISE EXCEPTION 'access "%" is neither "reader" nor "manager"', access
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    EXECUTE format('GRANT USAGE ON SCHEMA webhook_events TO %s', role);
    EXECUTE format('GRANT SELECT ON webhook_events.webhooks_masked,'
        ' webhook_events.events, webhook_events.dispatches, webhook_events.calls TO %s', role);
    IF access = 'manager' THEN
        EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON webhook_events_internal.webhooks TO %s',
            role);
        EXECUTE format('GRANT SELECT ON webhook_events.sources TO %s', role);
    END IF;
    FOREACH signature IN ARRAY CASE access WHEN 'reader' THEN reads ELSE manages END LOOP
        EXECUTE format('GRANT EXECUTE ON FUNCTION webhook_events.%s TO %s', signature, role);
    END LOOP;
END
$function$;
COMMENT ON FUNCTION webhook_events.grant_access(regrole, text) IS
    'grants a role what a reader or a manager of webhooks needs';
REVOKE ALL ON FUNCTION webhook_events.grant_access(regrole, text) FROM PUBLIC;

CREATE FUNCTION webhook_events_internal.announce() RETURNS void
    LANGUAGE c VOLATILE
    AS 'MODULE_PATHNAME', 'webhook_events_announce';
COMMENT ON FUNCTION webhook_events_internal.announce() IS
    'tells the launcher, at commit, that this database has the extension';
REVOKE ALL ON FUNCTION webhook_events_internal.announce() FROM PUBLIC;
SELECT webhook_events_internal.announce();
