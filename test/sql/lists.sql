-- The lists of the platform's API.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS webhook_events;
RESET client_min_messages;
SELECT count(*) FROM generate_series(1, 5) AS n, webhook_events.create_webhook('https://example.com/' || n, '{ACTOR.RUN.CREATED}',
    user_id => CASE WHEN n < 4 THEN 'ada' ELSE 'bob' END, actor_id => 'actor-' || n % 2, description => 'number ' || n);
SELECT webhook_events.create_webhook('{"requestUrl": "https://example.com/6", "eventTypes": ["ACTOR.RUN.FAILED"], "userId": "eve", "ordering": "resource",
    "isApifyIntegration": true, "actionType": "RUN_ACTOR", "payloadTemplate": "{}", "condition": {"actorTaskId": "t"}}') IS NOT NULL AS created;
CREATE FUNCTION page(list jsonb) RETURNS text LANGUAGE sql AS $$
    SELECT concat_ws(' ', list -> 'total', list -> 'offset', list -> 'limit', list -> 'count', list -> 'desc',
        (SELECT string_agg(right(item ->> 'requestUrl', 1), ',' ORDER BY n) FROM jsonb_array_elements(list -> 'items') WITH ORDINALITY AS i (item, n))) $$;
SELECT page(webhook_events.webhooks_json()), page(webhook_events.webhooks_json("desc" => true)), page(webhook_events.webhooks_json("limit" => 2, "offset" => 3));
SELECT page(webhook_events.webhooks_json('ada')), page(webhook_events.webhooks_json('ada', "limit" => 1, "desc" => true)), page(webhook_events.webhooks_json('nobody'));
SELECT page(webhook_events.webhooks_json(actor_id => 'actor-1')), page(webhook_events.webhooks_json('ada', 'actor-1')), page(webhook_events.webhooks_json(actor_task_id => 't')), page(webhook_events.webhooks_json("offset" => 100));
SELECT jsonb_object_keys(webhook_events.webhooks_json('eve') #> '{items, 0}') ORDER BY 1;
SELECT item ->> 'isApifyIntegration' AS integration, item ->> 'actionType' AS action, item ->> 'ordering' AS ordering, item ->> 'isEnabled' AS enabled, item -> 'stats' AS stats
    FROM jsonb_array_elements(webhook_events.webhooks_json() -> 'items') WITH ORDINALITY AS i (item, n) WHERE n IN (1, 6) ORDER BY n;
-- what is given back can be given again
SELECT id FROM webhook_events.webhooks WHERE user_id = 'eve' \gset
SELECT webhook_events.webhook_json(c.id) - '{id, createdAt, modifiedAt}'::text[] = webhook_events.webhook_json(:'id') - '{id, createdAt, modifiedAt}'::text[] AS same
    FROM webhook_events.create_webhook(webhook_events.webhook_json(:'id')) AS c;
-- dispatches
INSERT INTO webhook_events_internal.dispatches (id, event_id, webhook_id, user_id, event_type, status, created_at, finished_at, attempts)
    SELECT webhook_events_internal.new_id(), 'e', :'id', 'eve', 'ACTOR.RUN.FAILED', 'FAILED', now(), now(), n FROM generate_series(1, 4) AS n;
INSERT INTO webhook_events_internal.webhook_stats (webhook_id, total_dispatches, last_dispatch_id, last_status) VALUES (:'id', 4, '', 'FAILED');
SELECT l -> 'total' AS total, l -> 'count' AS count, l -> 'limit' AS "limit", l -> 'offset' AS "offset", l -> 'desc' AS "desc",
    (SELECT bool_and(i ->> 'webhookId' = :'id') FROM jsonb_array_elements(l -> 'items') AS i) AS own
    FROM (VALUES (webhook_events.dispatches_json(:'id')), (webhook_events.dispatches_json(:'id', 3, 2, true)), (webhook_events.dispatches_json(:'id', 3, 9))) AS v (l);
SELECT webhook_events.dispatches_json(:'id') -> 'items' -> 0 ->> 'id' = webhook_events.dispatches_json(:'id', "limit" => 1, "offset" => 3, "desc" => true) -> 'items' -> 0 ->> 'id' AS turned;
SELECT jsonb_object_keys(webhook_events.dispatches_json(:'id') #> '{items, 0}') ORDER BY 1;
-- a tenant sees its own
CREATE ROLE lists_tenant;
SELECT webhook_events.grant_access('lists_tenant', 'tenant', 'ada');
SET ROLE lists_tenant;
SELECT page(webhook_events.webhooks_json()), page(webhook_events.webhooks_json('ada')), page(webhook_events.webhooks_json('eve')), page(webhook_events.webhooks_json(actor_task_id => 't'));
\set VERBOSITY sqlstate
SELECT webhook_events.dispatches_json(:'id');
RESET ROLE;

SET client_min_messages = warning;
SELECT webhook_events.revoke_access('lists_tenant');
DROP ROLE lists_tenant;
DELETE FROM webhook_events_internal.webhooks;
DELETE FROM webhook_events_internal.webhook_stats;
DELETE FROM webhook_events_internal.dispatches WHERE event_id = 'e';
DROP FUNCTION page;
