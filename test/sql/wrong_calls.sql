-- What wrong calls are told: each with its SQLSTATE, detail and hint, none with our
-- inner statements.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS webhook_events;
CREATE TABLE wrong_runs (id text, actor_id text, status text);
CREATE TABLE wrong_things (name text);
CREATE TABLE no_columns ();
SELECT format('CREATE TABLE wide_runs (id text, actor_id text, status text, %s)', string_agg('c' || n || ' int', ', ')) FROM generate_series(1, 50) AS n \gexec
CREATE VIEW wrong_view AS SELECT * FROM wrong_runs;
CREATE TABLE calls (n serial, sql text);
SELECT id AS webhook FROM webhook_events.create_webhook('https://example.com/', '{ACTOR.RUN.CREATED}', user_id => 'u') \gset
SELECT id AS disabled FROM webhook_events.create_webhook('https://example.com/', '{ACTOR.RUN.CREATED}', is_enabled => false) \gset
SELECT set_config('wrong.webhook', :'webhook', false), set_config('wrong.disabled', :'disabled', false) \g /dev/null
RESET client_min_messages;

CREATE FUNCTION wrong(call text, OUT state text, OUT message text, OUT context text) LANGUAGE plpgsql AS $$
DECLARE
    detail text;
    hint text;
BEGIN
    EXECUTE replace(replace(call, '<webhook>', current_setting('wrong.webhook')), '<disabled>', current_setting('wrong.disabled'));
    state := 'accepted';
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL,
        hint = PG_EXCEPTION_HINT, context = PG_EXCEPTION_CONTEXT;
    message := replace(replace(concat_ws(' | ', message, nullif(detail, ''), nullif(hint, '')),
        current_setting('wrong.webhook'), '<webhook>'), current_setting('wrong.disabled'), '<disabled>');
END $$;

-- Definitions: each of these laid over one that is right.
CREATE FUNCTION wrong_definition(definition jsonb, OUT state text, OUT message text, OUT context text) LANGUAGE sql AS
    $$SELECT * FROM wrong(format('SELECT webhook_events.create_webhook(%L::jsonb)',
        '{"requestUrl": "https://example.com/", "eventTypes": ["ACTOR.RUN.CREATED"]}'::jsonb || definition))$$;

CREATE TABLE definitions (n serial, definition jsonb);
INSERT INTO definitions (definition) VALUES
    ('{"requestUrl": null}'), ('{"requestUrl": ""}'), ('{"requestUrl": 5}'), ('{"requestUrl": "ftp://example.com/"}'),
    ('{"requestUrl": "example.com"}'), ('{"requestUrl": "http://"}'), ('{"requestUrl": "http:///x"}'), ('{"requestUrl": "http://exa mple.com/"}'),
    ('{"requestUrl": "http://example.com/\n"}'), ('{"requestUrl": "http://example.com:99999/"}'), ('{"requestUrl": "http://example.com:0/"}'),
    ('{"requestUrl": "http://example.com:x/"}'), ('{"requestUrl": "http://10.0.0.1/"}'), ('{"requestUrl": "http://192.168.1.1/"}'),
    ('{"requestUrl": "http://169.254.169.254/latest"}'), ('{"requestUrl": "http://[fe80::1]/"}'), ('{"requestUrl": "http://[::ffff:10.0.0.1]/"}'),
    ('{"requestUrl": "http://0x0a.1/"}'), ('{"requestUrl": "http://[fe80::1%25eth0]/"}'), ('{"requestUrl": "https://user@/"}'),
    ('{"requestURL": "x"}'), ('{"request_url": "x"}'), ('{"requestUri": "x"}'), ('{"url": "x"}'), ('{"eventType": []}'), ('{"event_types": []}'),
    ('{"EventTypes": []}'), ('{"conditions": {}}'), ('{"payLoadTemplate": "x"}'), ('{"payload": "x"}'), ('{"header_template": "x"}'),
    ('{"isEnable": true}'), ('{"enabled": true}'), ('{"ignoreSSLErrors": true}'), ('{"doNotRetries": true}'), ('{"idempotency": "x"}'),
    ('{"shouldInterpolateString": true}'), ('{"order": "x"}'), ('{"": 1}'), ('{"title": "x"}'),
    ('{"eventTypes": []}'), ('{"eventTypes": null}'), ('{"eventTypes": "ACTOR.RUN.CREATED"}'), ('{"eventTypes": {}}'), ('{"eventTypes": [null]}'),
    ('{"eventTypes": [5]}'), ('{"eventTypes": ["TEST"]}'), ('{"eventTypes": ["ACTOR.RUN.SUCCEDED"]}'), ('{"eventTypes": ["ACTOR.RUN.TIMED-OUT"]}'),
    ('{"eventTypes": ["actor.run.failed"]}'), ('{"eventTypes": ["RUN.FAILED"]}'), ('{"eventTypes": ["ACTOR.BUILD.RESURRECTED"]}'), ('{"eventTypes": ["nonsense"]}'),
    ('{"eventTypes": [["ACTOR.RUN.CREATED"]]}'),
    ('{"condition": []}'), ('{"condition": "x"}'), ('{"condition": {"actorName": "x"}}'), ('{"condition": {"actorTaskID": "x"}}'), ('{"condition": {"runId": "x"}}'),
    ('{"condition": {"actorId": 1}}'), ('{"condition": {"actorId": ""}}'), ('{"condition": {"actorTaskId": ""}}'), ('{"condition": {"actorRunId": ""}}'),
    ('{"isAdHoc": true}'), ('{"isAdHoc": "yes"}'), ('{"isEnabled": "yes"}'), ('{"isEnabled": 1}'), ('{"doNotRetry": "x"}'), ('{"ignoreSslErrors": 0}'),
    ('{"shouldInterpolateStrings": "true"}'), ('{"isApifyIntegration": "x"}'), ('{"actionType": 3}'),
    ('{"eventTypes": ["ACTOR.BUILD.FAILED"], "condition": {"actorRunId": "r"}}'), ('{"eventTypes": ["ACTOR.BUILD.FAILED"], "condition": {"actorTaskId": "t"}}'),
    ('{"eventTypes": ["ACTOR.BUILD.CREATED"], "isAdHoc": true, "condition": {"actorRunId": "r"}}'),
    ('{"description": 3}'), ('{"description": true}'), (jsonb_build_object('isEnabled', repeat('long ', 20))), ('{"idempotencyKey": ""}'), ('{"idempotencyKey": 3}'), ('{"userId": ""}'), ('{"userId": 3}'),
    ('{"ordering": "strict"}'), ('{"ordering": 1}'), ('{"ordering": "Resource"}'), ('{"ordering": ""}'),
    ('{"payloadTemplate": 3}'), ('{"payloadTemplate": ""}'), ('{"payloadTemplate": "{\"a\": }"}'), ('{"payloadTemplate": "{\"a\": {{nope}}}"}'),
    ('{"payloadTemplate": "{\"a\": {{ resource }}}"}'), ('{"payloadTemplate": "{\"a\": {{resource}}"}'), ('{"payloadTemplate": "{\"a\": {{}}}"}'),
    ('{"payloadTemplate": "{a: 1}"}'), ('{"payloadTemplate": "{\"a\": 1,}"}'), ('{"payloadTemplate": "[1 2]"}'), ('{"payloadTemplate": "{\"a\": {{resources}}}"}'),
    ('{"headersTemplate": 3}'), ('{"headersTemplate": "[]"}'), ('{"headersTemplate": "{\"a\": 1}"}'), ('{"headersTemplate": "{\"a b\": \"x\"}"}'),
    ('{"actorRunId": "r"}'), ('{"condition": {"nested": {}}}'), ('{"condition": {"actor_id": 5}}'), (jsonb_build_object(repeat('key ', 16), 1)), (jsonb_build_object('eventTypes', jsonb_build_array(repeat('TYPE ', 14)))),
    ('{"headersTemplate": "{\"\": \"x\"}"}'), ('{"headersTemplate": "{\"a\": \"x\\r\\nb: y\"}"}'), ('{"headersTemplate": "x"}'), ('{"headersTemplate": "{\"a\": {\"b\": 1}}"}');
SELECT d.definition, w.state, w.message FROM definitions AS d, wrong_definition(d.definition) AS w ORDER BY d.n;

-- Limits, in long values.
SELECT l.what, w.state, w.message FROM (VALUES
    ('URL', jsonb_build_object('requestUrl', 'http://example.com/' || repeat('x', 2030))),
    ('description', jsonb_build_object('description', repeat('x', 321))),
    ('key', jsonb_build_object('idempotencyKey', repeat('k', 129))),
    ('payload', jsonb_build_object('payloadTemplate', '"' || repeat('x', 1000000) || '"')),
    ('headers', jsonb_build_object('headersTemplate', '{"a": "' || repeat('x', 1000000) || '"}'))) AS l (what, definition),
    wrong_definition(l.definition) AS w;

-- Calls.
INSERT INTO calls (sql) VALUES
    ('create_webhook(NULL::jsonb)'), ('create_webhook(''[]''::jsonb)'), ('create_webhook(''1''::jsonb)'), ('create_webhook(''"x"''::jsonb)'), ('create_webhook(''{}''::jsonb)'),
    ('create_webhook(NULL, ''{ACTOR.RUN.CREATED}'')'), ('create_webhook(''https://example.com/'', NULL)'), ('create_webhook(''https://example.com/'', ''{}'')'),
    ('create_webhook(''https://example.com/'', ''{NULL}'')'), ('create_webhook(''https://example.com/'', ''{{ACTOR.RUN.CREATED}, {ACTOR.RUN.FAILED}}'')'), ('create_webhook(''https://example.com/'', ''{ACTOR.RUN.NOPE}'')'),
    ('create_webhook(''https://example.com/'', ''{ACTOR.RUN.CREATED}'', is_ad_hoc => true)'),
    ('create_webhook(''https://example.com/'', ''{ACTOR.BUILD.CREATED}'', actor_task_id => ''t'')'),
    ('create_webhook(''https://example.com/'', ''{ACTOR.RUN.CREATED}'', ordering => ''all'')'),
    ('create_webhook(''https://example.com/'', ''{ACTOR.RUN.CREATED}'', actor_id => '''')'),
    ('update_webhook(NULL, ''{}'')'), ('update_webhook(''nope'', ''{}'')'), ('update_webhook(''<webhook>'', NULL)'), ('update_webhook(''<webhook>'', ''[]'')'),
    ('update_webhook(''<webhook>'', ''{"isEnabeld": true}'')'), ('update_webhook(''<webhook>'', ''{"requestUrl": "nonsense"}'')'),
    ('update_webhook(''<webhook>'', ''{"isAdHoc": true}'')'), ('update_webhook(''<webhook>'', ''{"eventTypes": ["ACTOR.BUILD.FAILED"], "condition": {"actorTaskId": "t"}}'')'),
    ('enable_webhook(NULL)'), ('enable_webhook(''nope'')'), ('disable_webhook(NULL)'), ('disable_webhook(''nope'')'), ('delete_webhook(NULL)'), ('delete_webhook(''nope'')'),
    ('set_max_rate(''nope'', 1)'), ('set_max_rate(NULL, 1)'), ('set_max_rate(''<webhook>'', 0)'), ('set_max_rate(''<webhook>'', -1)'), ('set_max_rate(''<webhook>'', ''NaN'')'), ('set_max_rate(''<webhook>'', 1e9)'),
    ('set_secret(''nope'', NULL)'), ('set_secret(NULL, NULL)'), ('set_secret(''<webhook>'', ''x'')'), ('set_secret(''<webhook>'', ''whsec_x'')'), ('set_secret(''<webhook>'', NULL, NULL)'), ('set_secret(''<webhook>'', NULL, ''-1 day'')'),
    ('rotate_secret(NULL)'), ('rotate_secret(''nope'')'), ('rotate_secret(''<webhook>'', ''-1 s'')'), ('webhook_secret(NULL)'), ('webhook_secret(''nope'')'),
    ('create_ad_hoc_webhooks(NULL, ''[]'')'), ('create_ad_hoc_webhooks('''', ''[]'')'), ('create_ad_hoc_webhooks(''r'', NULL::jsonb)'), ('create_ad_hoc_webhooks(''r'', NULL::text)'),
    ('create_ad_hoc_webhooks(''r'', ''{"eventTypes": []}''::jsonb)'), ('create_ad_hoc_webhooks(''r'', ''{"eventTypes": []}'')'), ('create_ad_hoc_webhooks(''r'', ''"x"''::jsonb)'),
    ('create_ad_hoc_webhooks(''r'', ''[1]'')'), ('create_ad_hoc_webhooks(''r'', ''[{}]'')'), ('create_ad_hoc_webhooks(''r'', ''[{"condition": {}}]'')'), ('create_ad_hoc_webhooks(''r'', ''[{"isAdHoc": true}]'')'),
    ('create_ad_hoc_webhooks(''r'', ''[{"eventTypes": ["ACTOR.RUN.FAILD"], "requestUrl": "https://example.com/"}]'')'), ('create_ad_hoc_webhooks(''r'', ''[{"eventTypes"'')'),
    ('create_ad_hoc_webhooks(''r'', ''not base64!'')'), ('create_ad_hoc_webhooks(''r'', ''bm90IEpTT04'')'), ('create_ad_hoc_webhooks(''r'', ''e30='')'), ('create_ad_hoc_webhooks(''r'', ''null'')'), ('create_ad_hoc_webhooks(''r'', ''"x"'')'), ('create_ad_hoc_webhooks(''r'', '''')'),
    ('create_ad_hoc_webhooks(''r'', ''5'')'), ('create_ad_hoc_webhooks(''r'', ''-12'')'), ('create_ad_hoc_webhooks(''r'', ''[1,]'')'), ('create_ad_hoc_webhooks(''r'', ''[{}, [[]]]'')'),
    ('test_webhook(NULL)'), ('test_webhook(''nope'')'), ('test_webhook(''<webhook>'', ''no such run'')'),
    ('preview(NULL, ''x'')'), ('preview(''<webhook>'', NULL)'), ('preview(''<webhook>'', ''nope'')'), ('explain_event(NULL)'), ('explain_event(''nope'')'),
    ('explain_run(NULL)'), ('explain_run(''nope'')'), ('report(NULL)'), ('report(''-infinity'', NULL)'), ('report(''infinity'', ''-infinity'')'), ('report(''infinity'', ''2024-01-01 UTC'')'),
    ('audit(''infinity'', ''2024-01-01 UTC'')'), ('backtest(''<webhook>'', ''infinity'', ''2024-01-01 UTC'')'),
    ('redeliver(NULL)'), ('redeliver(''nope'')'),
    ('replay(NULL, ''-infinity'')'), ('replay(''nope'', ''-infinity'')'), ('replay(''<webhook>'', NULL)'), ('replay(''<webhook>'', ''-infinity'', NULL)'),
    ('replay(''<webhook>'', ''2024-01-02 UTC'', ''2024-01-01 UTC'')'), ('replay(''<disabled>'', ''-infinity'')'), ('replay(''<webhook>'', ''infinity'', ''-infinity'')'),
    ('backtest(NULL, ''-infinity'')'), ('backtest(''nope'', ''-infinity'')'), ('backtest(''<webhook>'', NULL)'), ('backtest(''<webhook>'', ''-infinity'', NULL)'), ('backtest(''<webhook>'', ''2024-01-02 UTC'', ''2024-01-01 UTC'')'),
    ('replay(''<webhook>'', ''-infinity'', ''infinity'', ''{}'')'), ('replay(''<webhook>'', ''-infinity'', ''infinity'', ''{NULL}'')'), ('replay(''<webhook>'', ''-infinity'', ''infinity'', ''{ACTOR.RUN.FAILED, TEST}'')'),
    ('audit(NULL)'), ('audit(''-infinity'', NULL)'), ('audit(''2024-01-02 UTC'', ''2024-01-01 UTC'')'),
    ('webhook_json(NULL)'), ('webhook_json(''nope'')'), ('dispatch_json(NULL)'), ('dispatch_json(''nope'')'),
    ('webhooks_json("limit" => 0)'), ('webhooks_json("limit" => 1001)'), ('webhooks_json("limit" => NULL)'), ('webhooks_json("offset" => -1)'), ('webhooks_json("offset" => NULL)'), ('webhooks_json("desc" => NULL)'),
    ('dispatches_json(NULL)'), ('dispatches_json(''nope'')'), ('dispatches_json(''<webhook>'', 1001)'), ('dispatches_json(''<webhook>'', 10, -1)'),
    ('verify_signature(NULL, ''{}'', '''')'), ('verify_signature(''{}'', ''{}'', '''')'), ('verify_signature(''{NULL}'', ''{}'', '''')'), ('verify_signature(''{whsec_!}'', ''{}'', '''')'),
    ('verify_signature(''{whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw}'', NULL, '''')'), ('verify_signature(''{whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw}'', ''{}'', NULL)'),
    ('verify_signature(''{whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw}'', ''{}'', '''', NULL)'), ('verify_signature(''{whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw}'', ''{}'', '''', ''-1 s'')'),
    ('set_secret(''<webhook>'', NULL, ''178000000 years'')'), ('rotate_secret(''<webhook>'', ''101 years'')'),
    ('report(''9999-01-01 UTC'', ''1970-01-01 UTC'')'), ('report(''-infinity'', ''1960-01-01 UTC'')'), ('report(''4714-11-24 00:00 UTC BC'', ''1960-01-01 UTC'')'),
    ('resume(NULL)'), ('resume(''maybe'')'), ('resume(''SEND'')'),
    ('attach(NULL)'), ('attach(''wrong_things'')'), ('attach(''wrong_view'')'), ('attach(''wrong_runs'', ''walk'')'), ('attach(''wrong_runs'', ''run'', ''[]'')'), ('attach(''wrong_runs'', ''run'', ''{"actor": "x"}'')'),
    ('attach(''wrong_runs'', ''run'', ''{"id": "nope"}'')'), ('attach(''wrong_runs'', ''run'', ''{"id": 1}'')'), ('attach(''wrong_runs'', ''run'', ''{}'', ''{nope}'')'), ('attach(''wrong_runs'', ''run'', ''{}'', ''{Status}'')'), ('attach(''wrong_runs'', ''run'', ''{"id": "actorId"}'')'),
    ('attach(''wrong_runs'', ''run'', ''{"actorId": "x"}'')'), ('attach(''wrong_runs'', ''run'', ''5'')'), ('attach(''wide_runs'', ''run'', ''{}'', ''{nope}'')'), ('attach(''no_columns'', ''run'', ''{}'', ''{nope}'')'), ('attach(''wrong_runs'', ''run'', resource => ''now()'')'),
    ('attach(''pg_class'')'), ('detach(NULL)'), ('detach(''wrong_runs'')'), ('detach(''pg_class'')'),
    ('grant_access(NULL, ''reader'')'), ('grant_access(current_user::regrole, NULL)'), ('grant_access(current_user::regrole, ''readers'')'), ('grant_access(current_user::regrole, ''admin'')'),
    ('grant_access(current_user::regrole, ''tenant'')'), ('grant_access(current_user::regrole, ''tenant'', '''')'), ('grant_access(current_user::regrole, ''reader'', ''u'')'), ('grant_access(0::oid::regrole, ''reader'')'),
    ('revoke_access(NULL)'), ('revoke_access(0::oid::regrole)'), ('id_time(''x'')'), ('id_time('''')');
SELECT c.sql, w.state, w.message FROM calls AS c, wrong('SELECT * FROM webhook_events.' || c.sql) AS w ORDER BY c.n;

-- None tells of what is inside.
SELECT count(*) >= 150 AS many FROM (SELECT sql FROM calls UNION ALL SELECT definition::text FROM definitions) AS a;
SELECT c.sql, w.context FROM calls AS c, wrong('SELECT * FROM webhook_events.' || c.sql) AS w
    WHERE w.context ~ 'webhook_events_internal' OR w.message ~ 'webhook_events_internal' ORDER BY c.n;
SELECT d.definition, w.context FROM definitions AS d, wrong_definition(d.definition) AS w
    WHERE w.context ~ 'webhook_events_internal' OR w.message ~ 'webhook_events_internal' ORDER BY d.n;

-- The keys that are told are those that webhook_json() writes.
SELECT k.key AS told, j.key AS written FROM (SELECT regexp_split_to_table((regexp_match(w.message, 'The keys are (.*)\.'))[1], ', ')
        FROM wrong_definition('{"nonsense": 1}') AS w) AS k (key)
    FULL JOIN (SELECT jsonb_object_keys(webhook_events.webhook_json(id)) FROM webhook_events.create_webhook('{"requestUrl": "https://example.com/",
        "eventTypes": ["ACTOR.RUN.CREATED"], "ordering": "resource", "idempotencyKey": "k"}'::jsonb)) AS j (key) ON j.key = k.key
    WHERE j.key IS NULL OR k.key IS NULL ORDER BY 1, 2;

-- Nothing is written below the level of SQL where nothing may be.
BEGIN READ ONLY;
SELECT c.sql, w.state, w.message FROM (VALUES
    ('create_webhook(''https://example.com/'', ''{ACTOR.RUN.CREATED}'')'),
    ('create_webhook(''{"requestUrl": "https://example.com/", "eventTypes": ["ACTOR.RUN.CREATED"]}''::jsonb)'),
    ('create_ad_hoc_webhooks(''r'', ''[{"requestUrl": "https://example.com/", "eventTypes": ["ACTOR.RUN.CREATED"]}]''::jsonb)'),
    ('test_webhook(''<webhook>'')'), ('update_webhook(''<webhook>'', ''{}'')'),
    ('attach(''wrong_runs'')'), ('pause()')) AS c (sql), wrong('SELECT webhook_events.' || c.sql) AS w;
ROLLBACK;

-- No signature is older than that.
SELECT webhook_events.verify_signature('{whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw}', '{"webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
    "webhook-timestamp": "1614265330", "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="}', '{"test": 2432232314}', t.tolerance)
    FROM (VALUES ('5 minutes'::interval), ('200 years'), ('178000000 years')) AS t (tolerance);

-- Told, and accepted all the same.
\set VERBOSITY default
SELECT is_enabled FROM webhook_events.create_webhook('https://example.com/', '{ACTOR.RUN.CREATED}', payload_template => '{"text": "Run {{resource.id}}", "{{userId}}": {{resource}}}');
SELECT is_enabled FROM webhook_events.create_webhook('https://example.com/', '{ACTOR.RUN.CREATED}', headers_template => '{"X-Run": "{{resource.id}}"}');
SELECT is_enabled FROM webhook_events.create_webhook('https://example.com/', '{ACTOR.RUN.CREATED}', payload_template => '{"{{userId}}": {{resource}}, "a": "{{other}} \" {{nope"}');
SELECT is_enabled FROM webhook_events.create_webhook('https://example.com/', '{ACTOR.RUN.CREATED}', payload_template => '{"text": "Run {{resource.id}}"}', should_interpolate_strings => true);
-- Infinite times where they make sense.
SELECT webhook_events.replay(:'webhook', '-infinity', 'infinity');
SELECT count(*) FROM webhook_events.backtest(:'webhook', '-infinity', 'infinity');
-- The alphabet of URLs, and no padding.
SELECT request_url, description FROM webhook_events.create_ad_hoc_webhooks('r',
    rtrim(translate(encode(convert_to('[{"eventTypes": ["ACTOR.RUN.CREATED"], "requestUrl": "https://example.com/?>>>", "description": "ÿþ?"}]', 'UTF8'), 'base64'), '+/' || E'\n', '-_'), '='));

SET client_min_messages = warning;
DELETE FROM webhook_events_internal.webhooks;
DROP FUNCTION wrong, wrong_definition;
DROP VIEW wrong_view;
DROP TABLE wrong_runs, wrong_things, wide_runs, no_columns, calls, definitions;
