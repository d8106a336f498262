-- Defining webhooks.
\set VERBOSITY terse
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS webhook_events;
RESET client_min_messages;
CREATE FUNCTION shown(webhook_events.webhooks) RETURNS jsonb LANGUAGE sql AS
    $$SELECT jsonb_strip_nulls(to_jsonb($1) - '{id,created_at,modified_at,created_xid,created_in,begun_at,epoch,is_retired,run_ended,secret,turned}'::text[])$$;
-- what a definition is refused for, or "accepted"
CREATE FUNCTION try(definition jsonb) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    PERFORM webhook_events.create_webhook(
        '{"requestUrl": "https://example.com/", "eventTypes": ["ACTOR.RUN.CREATED"]}' || definition);
    RETURN 'accepted';
EXCEPTION WHEN OTHERS THEN
    RETURN SQLSTATE || ' ' || left(SQLERRM, 120);
END $$;

-- both forms, and defaults
SELECT shown(webhook_events.create_webhook('https://example.com/hook', '{ACTOR.RUN.SUCCEEDED, ACTOR.RUN.FAILED}'));
SELECT shown(webhook_events.create_webhook('https://example.com/hook', '{ACTOR.RUN.FAILED, ACTOR.BUILD.FAILED}', actor_id => 'a',
    actor_task_id => 't', actor_run_id => 'r', user_id => 'u', payload_template => '{"x": {{resource.id}}}',
    headers_template => '{"X-Token": "s"}', should_interpolate_strings => true, ignore_ssl_errors => true,
    do_not_retry => true, is_ad_hoc => true, idempotency_key => 'k', description => 'd', is_enabled => false));
SELECT shown(webhook_events.create_webhook('{"requestUrl": "https://example.com/", "eventTypes": ["ACTOR.RUN.CREATED"],
    "condition": {"actorId": "a", "actorTaskId": null}, "userId": "u", "description": "d", "shouldInterpolateStrings": true,
    "id": "ignored", "createdAt": "ignored", "lastDispatch": {}, "stats": {"totalDispatches": 3}, "isApifyIntegration": true}'));

-- refused
SELECT d, try(d) FROM unnest('{
    "{\"requestUrl\": \"ftp://example.com/\"}", "{\"requestUrl\": \"example.com\"}", "{\"requestUrl\": \"http://\"}",
    "{\"requestUrl\": \"http://exa mple.com/\"}", "{\"requestUrl\": \"http://example.com/\\n\"}", "{\"requestUrl\": null}",
    "{\"requestUrl\": \"http://example.com:99999/\"}", "{\"requestUrl\": \"http://example.com:0/\"}", "{\"requestUrl\": \"http://10.0.0.1/\"}",
    "{\"requestUrl\": \"http://0x0a.1/\"}", "{\"requestUrl\": \"http://[fe80::1]/\"}", "{\"requestUrl\": \"http://[fe80::1%25eth0]/\"}",
    "{\"requestUrl\": \"http://169.254.169.254/latest\"}", "{\"requestUrl\": \"http://[::ffff:10.0.0.1]/\"}", "{\"requestUrl\": \"http://example.com\\\\@x/\"}",
    "{\"eventTypes\": []}", "{\"eventTypes\": [\"TEST\"]}", "{\"eventTypes\": [\"ACTOR.RUN.NOPE\"]}", "{\"eventTypes\": [null]}", "{\"eventTypes\": \"ACTOR.RUN.CREATED\"}", "{\"eventTypes\": null}",
    "{\"condition\": {\"actorName\": \"x\"}}", "{\"condition\": {\"actorId\": 1}}", "{\"condition\": {\"actorId\": \"\"}}", "{\"condition\": []}",
    "{\"isEnabled\": \"yes\"}", "{\"requestUri\": \"x\"}", "{\"idempotencyKey\": \"\"}", "{\"description\": 3}",
    "{\"payloadTemplate\": \"{\\\"a\\\": {{nope}}}\"}", "{\"payloadTemplate\": \"{\\\"a\\\": }\"}", "{\"payloadTemplate\": \"\"}", "{\"payloadTemplate\": \"{{resource}}\"}",
    "{\"headersTemplate\": \"[]\"}", "{\"headersTemplate\": \"{\\\"a b\\\": \\\"x\\\"}\"}", "{\"headersTemplate\": \"{\\\"a\\\": 1}\"}", "{\"headersTemplate\": \"{\\\"a\\\": \\\"x\\\\r\\\\nb: y\\\"}\"}",
    "{\"headersTemplate\": \"{\\\"host\\\": \\\"evil\\\"}\"}", "{\"headersTemplate\": \"{\\\"a\\\": {{resource.token}}}\"}"}'::jsonb[]) AS d;
SELECT try('[]'), try('1'), webhook_events.create_webhook(NULL::jsonb);

-- limits
SELECT try(jsonb_build_object('requestUrl', 'http://example.com/' || repeat('x', 2029))),
    try(jsonb_build_object('requestUrl', 'http://example.com/' || repeat('x', 2030)));
SELECT try(jsonb_build_object('description', repeat('é', 320))), try(jsonb_build_object('description', repeat('é', 321)));
SELECT try(jsonb_build_object('idempotencyKey', repeat('k', 128))), try(jsonb_build_object('idempotencyKey', repeat('k', 129)));
SELECT try(jsonb_build_object('payloadTemplate', '"' || repeat('x', 999998) || '"')),
    try(jsonb_build_object('payloadTemplate', '"' || repeat('x', 999999) || '"'));
SELECT count(*) FROM (SELECT try(jsonb_build_object('userId', 'many', 'n', NULL) - 'n') FROM generate_series(1, 100)) AS s (result)
    WHERE result = 'accepted';
SELECT try('{"userId": "many"}'), try('{"userId": "many", "isAdHoc": true}'), try('{"userId": "many", "isAdHoc": true, "condition": {"actorRunId": "r"}}'), try('{"userId": "other"}');

-- an idempotency key is unique for a user, and finds the webhook as it is
SELECT a.id = b.id AS same, b.request_url FROM
    webhook_events.create_webhook('http://example.com/1', '{ACTOR.RUN.CREATED}', idempotency_key => 'key', user_id => 'u1') AS a,
    webhook_events.create_webhook('http://example.com/2', '{ACTOR.RUN.CREATED}', idempotency_key => 'key', user_id => 'u1') AS b;
SELECT request_url FROM webhook_events.create_webhook('http://example.com/3', '{ACTOR.RUN.CREATED}', idempotency_key => 'key', user_id => 'u2');
SELECT request_url FROM webhook_events.create_webhook('http://example.com/4', '{ACTOR.RUN.CREATED}', idempotency_key => 'key');
SELECT request_url FROM webhook_events.create_webhook('http://example.com/5', '{ACTOR.RUN.CREATED}', idempotency_key => 'key');
SELECT webhook_events.create_webhook('nonsense', '{ACTOR.RUN.CREATED}', idempotency_key => 'key');

-- changing
SELECT id FROM webhook_events.webhooks WHERE request_url = 'http://example.com/1' \gset
SELECT shown(webhook_events.update_webhook(:'id', '{"description": "new", "condition": {"actorTaskId": "t"}}'));
SELECT shown(webhook_events.update_webhook(:'id', '{"description": null, "condition": {"actorId": "a"}, "requestUrl": "https://example.com/1"}'));
SELECT shown(webhook_events.update_webhook(:'id', '{"condition": null}'));
SELECT webhook_events.update_webhook(:'id', '{"requestUrl": "nonsense"}');
SELECT (webhook_events.disable_webhook(:'id')).is_enabled, (webhook_events.enable_webhook(:'id')).is_enabled;
SELECT modified_at AS before FROM webhook_events.webhooks WHERE id = :'id' \gset
UPDATE webhook_events_internal.webhooks SET description = description WHERE id = :'id' RETURNING modified_at = :'before' AS unchanged;
UPDATE webhook_events_internal.webhooks SET description = 'other' WHERE id = :'id' RETURNING modified_at > :'before' AS changed;
\set VERBOSITY sqlstate
UPDATE webhook_events_internal.webhooks SET id = webhook_events_internal.new_id() WHERE id = :'id';
\set VERBOSITY terse
UPDATE webhook_events_internal.webhooks SET event_types = '{}' WHERE id = :'id';
INSERT INTO webhook_events_internal.webhooks (request_url, event_types) VALUES ('http://127.1.1.1:9/', '{ACTOR.RUN.CREATED}') RETURNING request_url;
INSERT INTO webhook_events_internal.webhooks (request_url, event_types) VALUES ('http://172.16.0.1/', '{ACTOR.RUN.CREATED}');
SELECT webhook_events.delete_webhook(:'id');
\set VERBOSITY sqlstate
SELECT webhook_events.delete_webhook(:'id');
\set VERBOSITY terse
SELECT webhook_events.update_webhook('nope', '{}');
SELECT webhook_events.enable_webhook(NULL);

-- ad-hoc webhooks, by JSON and by base64; all or none
SELECT request_url, is_ad_hoc, actor_run_id, user_id FROM webhook_events.create_ad_hoc_webhooks('run',
    '[{"eventTypes": ["ACTOR.RUN.CREATED"], "requestUrl": "http://example.com/a"}, {"eventTypes": ["ACTOR.RUN.FAILED"], "requestUrl": "http://example.com/b"}]');
SELECT request_url, user_id FROM webhook_events.create_ad_hoc_webhooks('run',
    encode('[{"eventTypes": ["ACTOR.RUN.CREATED"], "requestUrl": "http://example.com/c", "doNotRetry": true}]', 'base64'), 'u');
SELECT webhook_events.create_ad_hoc_webhooks('run', '[{"eventTypes": ["ACTOR.RUN.CREATED"], "requestUrl": "http://example.com/d"}, {}]');
SELECT count(*) FROM webhook_events.webhooks WHERE request_url = 'http://example.com/d';
SELECT webhook_events.create_ad_hoc_webhooks('run', '[{"condition": {}}]');
SELECT webhook_events.create_ad_hoc_webhooks('run', '{}'::jsonb);
SELECT webhook_events.create_ad_hoc_webhooks('run', 'not base64!');
SELECT webhook_events.create_ad_hoc_webhooks('', '[]');
SELECT count(*) FROM webhook_events.create_ad_hoc_webhooks('run', '[]');

-- rows that replication brings: what was decided here stays, until it is said there anew
BEGIN;
INSERT INTO webhook_events_internal.origins SELECT oid, 'webhook_events_internal.outbox'::regclass FROM pg_database
    WHERE datname = current_database() ON CONFLICT DO NOTHING;
CREATE VIEW here AS SELECT is_enabled, disabled_reason, is_retired, run_ended, run_changed_at IS NOT NULL AS changed,
    epoch, turned, turned_there, description FROM webhook_events_internal.webhooks WHERE id = 'ARRIVED0000000001';
SET session_replication_role = replica;
INSERT INTO webhook_events_internal.webhooks (id, request_url, event_types, is_ad_hoc, actor_run_id, turned, description)
    VALUES ('ARRIVED0000000001', 'https://example.com/', '{ACTOR.RUN.CREATED}', true, 'gone', 4, 'new');
RESET session_replication_role;
TABLE here;
SELECT count(*) AS to_check FROM webhook_events_internal.runs_to_check WHERE run_id = 'gone';
UPDATE webhook_events_internal.webhooks SET is_enabled = false, disabled_reason = 'gone' WHERE id = 'ARRIVED0000000001';
SELECT modified_at AS before FROM webhook_events_internal.webhooks WHERE id = 'ARRIVED0000000001' \gset
SET session_replication_role = replica;
-- another description
UPDATE webhook_events_internal.webhooks SET is_enabled = true, disabled_reason = NULL, turned = 4, turned_there = NULL, epoch = NULL,
    description = 'changed' WHERE id = 'ARRIVED0000000001' RETURNING modified_at > :'before' AS is_another;
TABLE here;
-- disabled there as well
UPDATE webhook_events_internal.webhooks SET turned = 5, disabled_reason = NULL, epoch = 1 WHERE id = 'ARRIVED0000000001';
TABLE here;
-- enabled there
UPDATE webhook_events_internal.webhooks SET is_enabled = true, disabled_reason = NULL, turned = 6, epoch = 1 WHERE id = 'ARRIVED0000000001';
TABLE here;
SELECT count(*) AS to_check FROM webhook_events_internal.runs_to_check WHERE run_id = 'gone';
-- disabled there, and enabled
UPDATE webhook_events_internal.webhooks SET is_enabled = false, turned = 7, epoch = 2 WHERE id = 'ARRIVED0000000001';
TABLE here;
UPDATE webhook_events_internal.webhooks SET is_enabled = true, turned = 8, epoch = 2 WHERE id = 'ARRIVED0000000001';
-- retired here; of another description; of another run; enabled there
RESET session_replication_role;
UPDATE webhook_events_internal.webhooks SET is_enabled = false, is_retired = true, run_ended = true, run_changed_at = now(),
    disabled_reason = 'over' WHERE id = 'ARRIVED0000000001';
SET session_replication_role = replica;
UPDATE webhook_events_internal.webhooks SET is_enabled = true, is_retired = false, run_ended = false, run_changed_at = NULL,
    disabled_reason = NULL, turned = 8, description = 'retired' WHERE id = 'ARRIVED0000000001';
TABLE here;
SAVEPOINT before;
UPDATE webhook_events_internal.webhooks SET is_enabled = true, is_retired = false, run_ended = false, run_changed_at = NULL,
    disabled_reason = NULL, turned = 8, actor_run_id = 'other' WHERE id = 'ARRIVED0000000001';
TABLE here;
ROLLBACK TO before;
UPDATE webhook_events_internal.webhooks SET is_enabled = true, is_retired = false, run_ended = false, run_changed_at = NULL,
    disabled_reason = NULL, turned = 9 WHERE id = 'ARRIVED0000000001';
TABLE here;
-- retired there
UPDATE webhook_events_internal.webhooks SET is_enabled = false, is_retired = true, run_ended = true, run_changed_at = now() + interval '1 hour',
    disabled_reason = 'over there', turned = 10 WHERE id = 'ARRIVED0000000001';
TABLE here;
RESET session_replication_role;
-- what counts as said: to enable or disable it, also again, but not to repeat it with other changes
SELECT turned FROM webhook_events.enable_webhook('ARRIVED0000000001');
SELECT turned FROM webhook_events.enable_webhook('ARRIVED0000000001');
SELECT turned FROM webhook_events.update_webhook('ARRIVED0000000001', '{"isEnabled": true, "description": "d"}');
SELECT turned FROM webhook_events.update_webhook('ARRIVED0000000001', '{"isEnabled": false, "description": "d"}');
SELECT turned FROM webhook_events.disable_webhook('ARRIVED0000000001');
-- nothing is noted of runs where nothing is attached
DELETE FROM webhook_events_internal.runs_to_check;
DELETE FROM webhook_events_internal.origins;
SELECT count(*) FROM webhook_events.create_ad_hoc_webhooks('run',
    '[{"eventTypes": ["ACTOR.RUN.CREATED"], "requestUrl": "http://example.com/e"}]'::jsonb);
SELECT count(*) AS to_check FROM webhook_events_internal.runs_to_check;
ROLLBACK;

-- nothing is granted to everybody
SELECT p.oid::regprocedure FROM pg_proc AS p
    WHERE pronamespace = 'webhook_events'::regnamespace AND has_function_privilege('public', p.oid, 'EXECUTE');
SELECT oid::regclass FROM pg_class WHERE relnamespace = 'webhook_events'::regnamespace AND relkind IN ('r', 'p', 'v')
    AND has_table_privilege('public', oid, 'SELECT, INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER');
-- everything has a comment
SELECT pg_describe_object(classid, objid, objsubid) FROM pg_depend
    WHERE refobjid = (SELECT oid FROM pg_extension WHERE extname = 'webhook_events') AND deptype = 'e'
        AND classid IN ('pg_proc'::regclass, 'pg_class'::regclass, 'pg_type'::regclass)
        AND obj_description(objid, classid::regclass::text) IS NULL
        AND NOT EXISTS (SELECT FROM pg_type WHERE oid = objid AND (typrelid <> 0 OR typelem <> 0));

SET client_min_messages = warning;
DELETE FROM webhook_events_internal.webhooks;
DROP FUNCTION shown, try;
