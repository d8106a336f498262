-- Ids and templates, the rules that need no event.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS webhook_events;
RESET client_min_messages;
SET search_path = webhook_events, webhook_events_internal;

-- ids: 17 letters and digits, in the order in which they were made
SELECT bool_and(id ~ '^[0-9A-Za-z]{17}$') AS well_formed,
       count(DISTINCT id) AS distinct_ids,
       array_agg(id ORDER BY n) = array_agg(id ORDER BY id COLLATE "C") AS in_order
FROM (SELECT n, new_id() AS id FROM generate_series(1, 1000) n) s;
SELECT abs(extract(epoch FROM id_time(new_id()) - clock_timestamp())) < 60 AS now;
SELECT id_time('no id');

-- templates
SELECT render_template('{"b": {{userId}}, "a": [{{resource.stats.n}}, {{resource.no}}]}',
                       ARRAY['"u1"', NULL, NULL, NULL, '{"stats": {"n": 1.50}}']::json[], false);
SELECT render_template('{"text": "run {{resource.id}} by {{userId}}", "r": "{{resource}}"}',
                       ARRAY['"u1"', NULL, NULL, NULL, '{"id": "{{userId}}"}']::json[], true);
SELECT render_template('{"a": {{nope.x}}}', '{}', false);
SELECT render_template('{"a": {{userId}},}', '{}', false);

-- what there is no word for has no hint
SELECT webhook_events_internal.hint('x', NULL, 'words'), webhook_events_internal.hint('x', '{a}', NULL), webhook_events_internal.hint(NULL, '{a,NULL}', 'words');
