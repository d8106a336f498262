-- Whoever looks for the newest rows of a day that is being written gets what a scan by id gets.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS webhook_events;
RESET client_min_messages;
SELECT webhook_events_internal.create_days('2021-06-01', '2021-06-01');
ALTER TABLE webhook_events_internal.outbox_20210601 SET (fillfactor = 50, autovacuum_enabled = off);

-- Rows come in the order of their ids but for some minutes.
CREATE FUNCTION pg_temp.write(first integer, last integer, name text, shift integer DEFAULT 0) RETURNS void LANGUAGE sql AS $$
    INSERT INTO webhook_events_internal.outbox (id, created_at, xid, event_type, user_id, actor_id, actor_run_id, new_status)
    SELECT webhook_events.id_lower_bound('2021-06-01 00:00+00'::timestamptz + (2 * n + (hashint4(n) & 255)) * interval '1 second') || to_char(n + shift, 'FM00000000'),
        now(), '1', 'ACTOR.RUN.CREATED',
        CASE WHEN n % 997 = 0 THEN 'seldom' WHEN n % 100 < 95 THEN name || n % 7 END,
        CASE WHEN n % 499 = 0 THEN 'seldom' ELSE 'actor' || n % 11 END, 'run' || n / 2, repeat('x', n % 50)
    FROM generate_series(first, last) AS n
$$;
-- Does it, which says whether it was read newest first; by id nothing is.
CREATE FUNCTION pg_temp.newest(condition text, count text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    query constant text := format('SELECT id, user_id, actor_id, new_status, resource::text FROM webhook_events_internal.outbox WHERE %s ORDER BY id DESC LIMIT %s', condition, count);
    line text;
    is_newest boolean := false;
    found text[];
    expected text[];
BEGIN
    FOR line IN EXECUTE 'EXPLAIN ' || query LOOP
        is_newest := is_newest OR line LIKE '%newest first) on outbox_20210601%';
    END LOOP;
    EXECUTE format('SELECT array_agg(q::text) FROM (%s) AS q', query) INTO found;
    PERFORM set_config('enable_bitmapscan', 'off', true);
    EXECUTE format('SELECT array_agg(q::text) FROM (%s) AS q', query) INTO expected;
    PERFORM set_config('enable_bitmapscan', 'on', true);
    RETURN format('%s rows, %s, %s', coalesce(cardinality(expected), 0), CASE WHEN found IS NOT DISTINCT FROM expected THEN 'the same' ELSE 'others' END,
        CASE WHEN is_newest THEN 'newest first' ELSE 'another way' END);
END $$;
CREATE FUNCTION pg_temp.newest() RETURNS TABLE (condition text, result text) LANGUAGE sql AS $$
    SELECT c.condition || ' ' || c.count, pg_temp.newest(c.condition, c.count)
    FROM (VALUES (1, 'user_id = ''seldom''', '5'), (2, 'user_id = ''seldom''', 'ALL'),
        (3, 'user_id = ''user3''', '5'), (4, '''user3'' = user_id', 'ALL'), (5, 'user_id = ''nobody''', '5'),
        (6, 'user_id = ''user3'' AND actor_id = ''seldom''', '5'), (7, 'actor_run_id = ''run7001''', 'ALL'),
        (8, 'user_id = ''seldom'' AND id >= webhook_events.id_lower_bound(''2021-06-01 03:00+00'') AND id < webhook_events.id_lower_bound(''2021-06-01 05:00+00'')', 'ALL'),
        (9, 'user_id = ''user3'' AND id > webhook_events.id_lower_bound(''2021-06-01 03:00+00'') AND webhook_events.id_lower_bound(''2021-06-01 03:01+00'') >= id', 'ALL'),
        (10, 'actor_id = ''seldom'' AND id < (SELECT NULL::text)', 'ALL'),
        (11, 'actor_id = (SELECT NULL::text)', 'ALL'), (12, 'user_id = ''user3'' AND length(new_status) = 41', '5')) AS c (number, condition, count)
    ORDER BY c.number
$$;

-- nothing has a summary
SELECT count(pg_temp.write(1, 20000, 'user'));
SELECT * FROM pg_temp.newest();
-- what else a row is read with
SELECT count(*), count(*) FILTER (WHERE s.y <> v.x) AS wrong FROM (VALUES ('a'), ('b')) AS v (x) LEFT JOIN LATERAL (
    SELECT e.id, v.x AS y FROM webhook_events_internal.outbox AS e
    WHERE e.user_id = 'seldom' AND e.id >= webhook_events.id_lower_bound('2021-06-01') AND e.id < webhook_events.id_lower_bound('2021-06-02')) AS s ON true;
SELECT count(*) FROM webhook_events_internal.outbox AS e TABLESAMPLE BERNOULLI (0)
    WHERE e.user_id = 'seldom' AND e.id >= webhook_events.id_lower_bound('2021-06-01') AND e.id < webhook_events.id_lower_bound('2021-06-02');
BEGIN;
DECLARE seldom CURSOR FOR SELECT e.id FROM webhook_events_internal.outbox_20210601 AS e
    WHERE e.user_id = 'seldom' AND e.id >= webhook_events.id_lower_bound('2021-06-01') AND e.id < webhook_events.id_lower_bound('2021-06-02');
FETCH 1 FROM seldom \gset
UPDATE webhook_events_internal.outbox_20210601 SET new_status = 'current' WHERE CURRENT OF seldom;
SELECT count(*) FROM webhook_events_internal.outbox_20210601 WHERE new_status = 'current' AND user_id = 'seldom';
ROLLBACK;
-- with little memory rows are read again
SET work_mem = '64kB';
SELECT pg_temp.newest('user_id = ''user3''', 'ALL');
RESET work_mem;
-- nearly all has one
SELECT webhook_events_internal.summarize_day('outbox', '2021-06-01');
SELECT * FROM pg_temp.newest();
-- rows of which the ids are named are read by these
SELECT pg_temp.newest('user_id = ''user3'' AND id = ANY (ARRAY(SELECT o.id FROM webhook_events_internal.outbox AS o WHERE o.actor_run_id IN (''run7001'', ''run9'', ''run902'')))', 'ALL');
-- rows that come into old pages, with ids of any time
ALTER TABLE webhook_events_internal.outbox_20210601 SET (fillfactor = 100);
VACUUM webhook_events_internal.outbox_20210601;
SELECT count(pg_temp.write(n, n, 'user')) FROM generate_series(20001, 24000) AS n;
SELECT count(pg_temp.write(n, n, 'later', 50000)) FROM generate_series(1001, 2000) AS n;
SELECT count(*) > 1000 FROM webhook_events_internal.outbox_20210601 WHERE ctid < '(64,1)' AND id > webhook_events.id_lower_bound('2021-06-01 11:00+00');
SELECT * FROM pg_temp.newest();
SELECT pg_temp.newest('user_id = ''later3''', '5');
-- rows that are changed, and deleted
UPDATE webhook_events_internal.outbox SET user_id = 'seldom' WHERE user_id = 'user1' AND hashtext(id) % 40 = 0 AND id < webhook_events.id_lower_bound('2021-06-02 00:00+00');
DELETE FROM webhook_events_internal.outbox WHERE user_id = 'user3' AND hashtext(id) % 3 = 0 AND id < webhook_events.id_lower_bound('2021-06-02 00:00+00');
SELECT * FROM pg_temp.newest();
-- ranges lose their summaries, and those of another index do
SELECT brin_desummarize_range('webhook_events_internal.outbox_20210601_id_idx', 128);
SELECT brin_desummarize_range('webhook_events_internal.outbox_20210601_actor_id_user_id_idx', 70);
SELECT * FROM pg_temp.newest();
SELECT count(brin_summarize_new_values(c)) FROM unnest('{webhook_events_internal.outbox_20210601_id_idx,webhook_events_internal.outbox_20210601_actor_id_user_id_idx}'::regclass[]) AS c;

-- one after the other
SELECT u.id, count(*), min(right(e.id, 8)), max(right(e.id, 8)) FROM unnest('{user2,seldom,nobody,user2}'::text[]) WITH ORDINALITY AS u (id, number),
    LATERAL (SELECT o.id FROM webhook_events_internal.outbox AS o WHERE o.user_id = u.id AND o.id < webhook_events.id_lower_bound('2021-06-02 00:00+00') ORDER BY o.id DESC LIMIT 3) AS e
    GROUP BY u.number, u.id ORDER BY u.number;
-- what a transaction has done so far, but not what it does then
BEGIN;
SELECT count(pg_temp.write(24001, 24100, 'user'));
SELECT pg_temp.newest('user_id = ''user3''', '20');
DECLARE newest CURSOR FOR SELECT right(id, 8) FROM webhook_events_internal.outbox WHERE user_id = 'user2' AND id < webhook_events.id_lower_bound('2021-06-02 00:00+00') ORDER BY id DESC LIMIT 4;
FETCH 2 FROM newest;
SELECT count(pg_temp.write(24101, 24200, 'user'));
DELETE FROM webhook_events_internal.outbox WHERE user_id = 'user2' AND id < webhook_events.id_lower_bound('2021-06-02 00:00+00');
FETCH 9 FROM newest;
CLOSE newest;
SELECT pg_temp.newest('user_id = ''user2''', '20');
ROLLBACK;
SELECT pg_temp.newest('user_id = ''user2''', '20');
-- where rows lie, and rows to be locked, are read by index
SELECT count(DISTINCT ctid) FROM (SELECT ctid FROM webhook_events_internal.outbox WHERE user_id = 'user3' ORDER BY id DESC LIMIT 7) AS o;
SELECT count(*) FROM (SELECT FROM webhook_events_internal.outbox WHERE user_id = 'user3' ORDER BY id DESC LIMIT 7 FOR UPDATE) AS o;
SELECT count(DISTINCT xmin::text), count(*) FROM (SELECT o.xmin, o FROM webhook_events_internal.outbox AS o WHERE user_id = 'user3' AND tableoid <> 0 ORDER BY id DESC LIMIT 7) AS o;
SELECT count(DISTINCT o.id) FROM (SELECT o FROM webhook_events_internal.outbox AS o WHERE user_id = 'user3' ORDER BY id DESC LIMIT 7) AS w, LATERAL (SELECT (w.o).id) AS o;
SELECT webhook_events_internal.drop_days('2021-06-02');
