-- Tables of days: made ahead, dropped when they are old and nothing waits.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS webhook_events;
RESET client_min_messages;
SELECT webhook_events_internal.create_days('2021-03-01', '2021-03-03');
SELECT webhook_events_internal.create_days('2021-03-01', '2021-03-03');
SELECT relname FROM pg_class WHERE relname ~ '_2021030[12]' ORDER BY relname COLLATE "C";
SELECT pg_get_expr(relpartbound, oid) = format('FOR VALUES FROM (''%s'') TO (''%s'')',
    webhook_events.id_lower_bound('2021-03-02 00:00+00'), webhook_events.id_lower_bound('2021-03-03 00:00+00'))
    FROM pg_class WHERE relname = 'calls_20210302';

-- a dispatch that waits keeps its day
INSERT INTO webhook_events_internal.dispatches (id, event_id, webhook_id, event_type, status, created_at, attempts, next_attempt_at)
    VALUES (rpad(webhook_events.id_lower_bound('2021-03-02 12:00+00'), 17, '0'), 'e', 'w', 'ACTOR.RUN.CREATED', 'ACTIVE', now(), 1, 'infinity');
SELECT webhook_events_internal.drop_days('2021-03-01');
SELECT webhook_events_internal.drop_days('2021-03-03');
SELECT relname FROM pg_class WHERE relname ~ '^(calls|dispatches|outbox)_2021030[0-9]$' ORDER BY relname COLLATE "C";
UPDATE webhook_events_internal.dispatches SET status = 'FAILED' WHERE event_id = 'e';
SELECT webhook_events_internal.drop_days('2021-04-01');
SELECT count(*) FROM pg_class WHERE relname ~ '_2021030[0-9]';

-- what is in the default tables stays there
INSERT INTO webhook_events_internal.calls (dispatch_id, attempt, started_at, finished_at)
    VALUES (rpad(webhook_events.id_lower_bound('2021-05-05 12:00+00'), 17, '0'), 1, now(), now());
SELECT webhook_events_internal.create_days('2021-05-05', '2021-05-05');
SELECT relname FROM pg_class WHERE relname ~ '^(calls|dispatches|outbox)_20210505$' ORDER BY relname COLLATE "C";
DELETE FROM webhook_events_internal.calls;
SELECT webhook_events_internal.drop_days('2021-06-01');

-- each table for itself: one that somebody has made something of keeps no other one
SELECT webhook_events_internal.create_day('dispatches', '2021-05-01'), webhook_events_internal.create_day('dispatches', '2021-05-01');
SELECT * FROM webhook_events_internal.missing_days('2021-05-01', '2021-05-01');
SELECT webhook_events_internal.create_days('2021-05-01', '2021-05-01');
DROP TABLE webhook_events_internal.outbox_20210501;
SELECT * FROM webhook_events_internal.past_days('2021-05-02');
CREATE TEMP TABLE copy (row webhook_events_internal.calls_20210501);
INSERT INTO webhook_events_internal.calls (dispatch_id, attempt, started_at, finished_at)
    VALUES (rpad(webhook_events.id_lower_bound('2021-05-01 12:00+00'), 17, '0'), 1, now(), now());
SELECT webhook_events_internal.drop_day('dispatches', '2021-05-01');
-- it is kept, but nothing in it
SELECT webhook_events_internal.drop_day('calls', '2021-05-01');
SELECT count(*) FROM webhook_events_internal.calls_20210501;
DROP TABLE copy;
SELECT webhook_events_internal.drop_day('calls', '2021-05-01');
SELECT * FROM webhook_events_internal.past_days('2021-05-02');

-- nobody else has a privilege on a new table, whatever is granted by default
ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO PUBLIC;
ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO pg_monitor WITH GRANT OPTION;
SELECT webhook_events_internal.create_day('outbox', '2021-05-01');
SELECT count(*) FROM pg_class AS c CROSS JOIN LATERAL aclexplode(c.relacl) AS a
    WHERE c.relname = 'outbox_20210501' AND a.grantee <> c.relowner;
ALTER DEFAULT PRIVILEGES REVOKE ALL ON TABLES FROM pg_monitor;
ALTER DEFAULT PRIVILEGES REVOKE ALL ON TABLES FROM PUBLIC;
SELECT webhook_events_internal.drop_days('2021-06-01');

-- but for what is old there, which is deleted in steps
CREATE FUNCTION id_at(at timestamptz) RETURNS text LANGUAGE sql AS
$$ SELECT rpad(webhook_events.id_lower_bound(at), 17, '0') $$;
INSERT INTO webhook_events_internal.outbox (id, xid, created_at, event_type)
    SELECT id_at(day), '3', day, 'ACTOR.RUN.CREATED' FROM generate_series('2021-05-01 12:00+00'::timestamptz, '2021-05-04 12:00+00', '1 day') AS day;
INSERT INTO webhook_events_internal.dispatches (id, event_id, webhook_id, event_type, status, created_at, attempts)
    SELECT id, id, 'w', event_type, 'SUCCEEDED', created_at, 1 FROM webhook_events_internal.outbox;
INSERT INTO webhook_events_internal.calls (dispatch_id, attempt, started_at, finished_at)
    SELECT id, 1, created_at, created_at FROM webhook_events.dispatches;
CREATE FUNCTION delete_undated(before date, max_rows integer) RETURNS integer LANGUAGE sql AS
$$ SELECT sum(webhook_events_internal.delete_undated(kind, before, max_rows))::integer FROM unnest('{calls,dispatches,outbox}'::text[]) AS kind $$;
CREATE VIEW kept AS SELECT (SELECT count(*) FROM webhook_events.calls) AS calls,
    (SELECT count(*) FROM webhook_events.dispatches) AS dispatches, (SELECT count(*) FROM webhook_events_internal.outbox) AS events;
-- not before it was routed
SELECT delete_undated('2021-05-10', 100);
INSERT INTO webhook_events_internal.cursors (number, window_to) VALUES (1, pg_current_snapshot());
SELECT delete_undated('2021-05-01', 100);
SELECT delete_undated('2021-05-03', 1);
SELECT * FROM kept;
SELECT delete_undated('2021-05-03', 1);
SELECT * FROM kept;
-- not what waits, nor what comes after it, nor its event
UPDATE webhook_events_internal.dispatches SET status = 'ACTIVE' WHERE id = id_at('2021-05-04 12:00+00');
SELECT delete_undated('2021-05-10', 100);
SELECT * FROM kept;
UPDATE webhook_events_internal.dispatches SET event_id = id_at('2021-05-02 12:00+00');
SELECT delete_undated('2021-05-10', 100);
SELECT * FROM kept;
UPDATE webhook_events_internal.dispatches SET status = 'SUCCEEDED';
SELECT delete_undated('2021-05-10', 100);
SELECT * FROM kept;

-- nor is the day dropped whose event a later dispatch waits for
SELECT webhook_events_internal.create_days('2021-07-01', '2021-07-01');
INSERT INTO webhook_events_internal.dispatches (id, event_id, webhook_id, event_type, status, created_at, attempts, next_attempt_at)
    VALUES (id_at('2021-07-05 12:00+00'), id_at('2021-07-01 12:00+00'), 'w', 'ACTOR.RUN.CREATED', 'ACTIVE', now(), 1, 'infinity');
SELECT webhook_events_internal.drop_days('2021-07-02');
DELETE FROM webhook_events_internal.dispatches;
SELECT webhook_events_internal.drop_days('2021-07-02');
DELETE FROM webhook_events_internal.cursors;
DROP VIEW kept;
DROP FUNCTION id_at, delete_undated;

-- a session remembers the day's table, not longer than it is one
CREATE TABLE day_runs (id text, actor_id text, status text);
SELECT webhook_events.attach('day_runs');
CREATE FUNCTION day_of(run text) RETURNS regclass LANGUAGE plpgsql AS
$$ DECLARE day regclass; BEGIN
    EXECUTE 'SELECT tableoid FROM webhook_events_internal.outbox WHERE actor_run_id = $1' INTO day USING run;
    RETURN day;
END $$;
CREATE FUNCTION add_run(run text) RETURNS regclass LANGUAGE plpgsql AS
$$ BEGIN INSERT INTO day_runs VALUES (run, 'a', 'READY'); RETURN day_of(run); END $$;
CREATE PROCEDURE change_day(change text, day regclass) LANGUAGE plpgsql AS
$$ BEGIN EXECUTE replace(change, 'DAY', day::text); END $$;
BEGIN;
SELECT add_run('day-0')::text ~ '^webhook_events_internal.outbox_[0-9]{8}$' AS is_a_day;
CREATE TEMP TABLE remembered ON COMMIT DROP AS SELECT day_of('day-0') AS day;
SAVEPOINT s;
CALL change_day('ALTER TABLE webhook_events_internal.outbox DETACH PARTITION DAY', day_of('day-0'));
SELECT add_run('day-1') <> day AS elsewhere FROM remembered;
ROLLBACK TO s;
SELECT add_run('day-2') = day AS again FROM remembered;
CALL change_day('ALTER TABLE DAY RENAME TO outbox_renamed', day_of('day-0'));
SELECT add_run('day-3') <> day AS elsewhere FROM remembered;
ROLLBACK TO s;
CALL change_day('ALTER TABLE DAY SET SCHEMA public', day_of('day-0'));
SELECT add_run('day-4') <> day AS elsewhere FROM remembered;
ROLLBACK TO s;
CALL change_day('DROP TABLE DAY', day_of('day-0'));
SELECT add_run('day-5') <> day AS elsewhere FROM remembered;
ROLLBACK TO s;
CALL change_day('ALTER TABLE DAY ADD COLUMN IF NOT EXISTS unknown text', 'webhook_events_internal.outbox');
SELECT add_run('day-6') = day AS again FROM remembered;
ROLLBACK;
-- nor one that was made in a transaction that was undone
BEGIN;
CALL change_day('DROP TABLE DAY', to_regclass('webhook_events_internal.' || to_char(now() AT TIME ZONE 'UTC', '"outbox_"YYYYMMDD')));
SELECT webhook_events_internal.create_day('outbox', (now() AT TIME ZONE 'UTC')::date);
SELECT add_run('day-7')::text ~ '^webhook_events_internal.outbox_[0-9]{8}$' AS is_a_day;
ROLLBACK;
SELECT add_run('day-8')::text ~ '^webhook_events_internal.outbox_[0-9]{8}$' AS is_a_day;
DELETE FROM webhook_events_internal.outbox WHERE actor_run_id = 'day-8';
DROP TABLE day_runs;
DROP FUNCTION day_of, add_run;
DROP PROCEDURE change_day;

-- a day that is over gets its indexes although somebody's id is too long for one in order
SET client_min_messages = warning;
SELECT webhook_events_internal.create_day('outbox', '2021-06-01');
INSERT INTO webhook_events_internal.outbox (id, created_at, xid, event_type, user_id)
    SELECT rpad(webhook_events.id_lower_bound('2021-06-01 12:00+00'), 17, '0'), '2021-06-01 12:00+00', '3', 'ACTOR.RUN.CREATED',
        string_agg(md5(n::text), '') FROM generate_series(1, 200) AS n;
SELECT webhook_events_internal.index_day('outbox', '2021-06-01') FROM generate_series(1, 6);
SELECT regexp_replace(indexdef, '^.*ON ', '') AS index FROM pg_indexes
WHERE tablename = 'outbox_20210601' AND indexname ~ '_(user|run|actor)$' ORDER BY indexname;
DROP TABLE webhook_events_internal.outbox_20210601;
RESET client_min_messages;
