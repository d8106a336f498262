-- The platform's tables, types and functions change, and its writes never notice.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS webhook_events;
RESET client_min_messages;

-- the events since the last look
CREATE TEMP TABLE seen (id text COLLATE "C");
INSERT INTO seen VALUES (webhook_events_internal.new_id());
CREATE FUNCTION look() RETURNS TABLE (event text, id text, actor text, resource json, problem text)
LANGUAGE plpgsql AS $$
DECLARE
    last text := (SELECT max(seen.id) FROM seen);
BEGIN
    INSERT INTO seen VALUES (webhook_events_internal.new_id());
    RETURN QUERY SELECT replace(e.event_type::text, 'ACTOR.', ''),
        coalesce(e.actor_run_id, e.actor_build_id), e.actor_id, e.resource, e.problem
    FROM webhook_events.events AS e WHERE e.id > last ORDER BY e.id;
END $$;

-- composite types below a column change, and tables whose rows are values
CREATE TYPE inner_type AS (a int);
CREATE DOMAIN inner_domain AS inner_type;
CREATE TABLE row_table (x int);
CREATE TABLE composite_runs (id int, actor_id text, status text, c inner_type, d inner_domain[], t row_table);
SELECT webhook_events.attach('composite_runs');
INSERT INTO composite_runs VALUES (1, 'a', 'READY', ROW(1), ARRAY[ROW(2)::inner_type], ROW(3));
ALTER TYPE inner_type ADD ATTRIBUTE b text;
ALTER TABLE row_table ADD COLUMN y int;
UPDATE composite_runs SET status = 'FAILED';
ALTER TYPE inner_type RENAME ATTRIBUTE a TO renamed_one;
UPDATE composite_runs SET status = 'SUCCEEDED';
ALTER TYPE inner_type DROP ATTRIBUTE b;
INSERT INTO composite_runs VALUES (2, 'a', 'READY', ROW(4), NULL, ROW(5, 6));
SELECT * FROM look();
DROP TABLE composite_runs;

-- a resource function that fails, under a savepoint
CREATE TABLE own_runs (id int, parent int, actor_id text, status text);
CREATE FUNCTION own_resource(own_runs) RETURNS json LANGUAGE sql STABLE AS
    $$SELECT json_build_object('run', $1.id, 'inverse', 1 / nullif($1.id, 100))$$;
SELECT webhook_events.attach('own_runs', resource => 'own_resource(own_runs)');
INSERT INTO own_runs VALUES (0, NULL, 'a', 'READY');
BEGIN;
SAVEPOINT s;
INSERT INTO own_runs VALUES (0, NULL, 'a', 'READY');
ROLLBACK TO s;
INSERT INTO own_runs VALUES (1, NULL, 'a', 'READY');
COMMIT;
SELECT * FROM look();

-- one that changes the same table: a parent aborts its children
CREATE OR REPLACE FUNCTION own_resource(own_runs) RETURNS json LANGUAGE sql VOLATILE AS $$
    UPDATE own_runs SET status = 'ABORTED' WHERE parent = $1.id AND $1.status = 'ABORTED' AND status <> 'ABORTED';
    SELECT json_build_object('run', $1.id)
$$;
INSERT INTO own_runs VALUES (2, 1, 'a', 'READY'), (3, 1, 'a', 'READY'), (4, 2, 'a', 'READY'), (5, 4, 'a', 'READY');
SELECT * FROM look();
UPDATE own_runs SET status = 'ABORTED' WHERE id = 1;
SELECT * FROM look() ORDER BY id;

-- one that changes the table's shape while it is called
CREATE OR REPLACE FUNCTION own_resource(own_runs) RETURNS json LANGUAGE plpgsql AS $$
BEGIN
    IF $1.id = 6 THEN
        COMMENT ON COLUMN own_runs.parent IS 'changed';
        INSERT INTO own_runs VALUES (7, 6, 'a', 'READY');
    END IF;
    RETURN json_build_object('run', $1.id);
END $$;
INSERT INTO own_runs VALUES (6, NULL, 'a', 'READY');
SELECT * FROM look() ORDER BY id;

-- a writer who may not use the function's schema; an owner who may not execute it
CREATE SCHEMA hidden;
CREATE FUNCTION hidden.make(own_runs) RETURNS jsonb LANGUAGE sql AS $$SELECT jsonb_build_object('hidden', $1.id)$$;
CREATE ROLE capture_writer;
GRANT SELECT, INSERT, UPDATE ON own_runs TO capture_writer;
SELECT webhook_events.attach('own_runs', resource => 'hidden.make(own_runs)');
\c -
SET ROLE capture_writer;
INSERT INTO own_runs VALUES (8, NULL, 'a', 'READY');
RESET ROLE;
SELECT event_type, resource, problem FROM webhook_events.events ORDER BY id DESC LIMIT 1;
-- a text that is too long for an event is left out of it, and the write goes on
INSERT INTO own_runs (id, status) VALUES (8, repeat('s', 1000001));
SELECT event_type, new_status, problem FROM webhook_events.events ORDER BY id DESC LIMIT 1;
UPDATE own_runs SET status = 'FAILED' WHERE id = 8;
SELECT event_type, old_status, new_status, problem FROM webhook_events.events ORDER BY id DESC LIMIT 1;

-- its names are followed, and what is gone is said
ALTER FUNCTION hidden.make(own_runs) RENAME TO made;
ALTER SCHEMA hidden RENAME TO seen_now;
INSERT INTO own_runs VALUES (9, NULL, 'a', 'READY');
SELECT event_type, resource, problem FROM webhook_events.events ORDER BY id DESC LIMIT 1;
SELECT pg_get_triggerdef(oid) ~ '\["seen_now", "made", \d+\]' AS followed FROM pg_trigger
    WHERE tgrelid = 'own_runs'::regclass AND tgname = 'webhook_events_insert';
DROP FUNCTION seen_now.made;
INSERT INTO own_runs VALUES (10, NULL, 'a', 'READY');
SELECT event_type, resource, problem FROM webhook_events.events ORDER BY id DESC LIMIT 1;
CREATE FUNCTION seen_now.made(own_runs) RETURNS text LANGUAGE sql AS $$SELECT 'text'$$;
INSERT INTO own_runs VALUES (11, NULL, 'a', 'READY');
SELECT event_type, resource, problem FROM webhook_events.events ORDER BY id DESC LIMIT 1;
DROP FUNCTION seen_now.made;
CREATE FUNCTION seen_now.made(own_runs) RETURNS json LANGUAGE sql AS $$SELECT '{"again": true}'::json$$;
INSERT INTO own_runs VALUES (12, NULL, 'a', 'READY');
SELECT event_type, resource, problem FROM webhook_events.events ORDER BY id DESC LIMIT 1;
ALTER TABLE own_runs OWNER TO capture_writer;
REVOKE ALL ON FUNCTION seen_now.made FROM PUBLIC;
INSERT INTO own_runs VALUES (13, NULL, 'a', 'READY');
SELECT event_type, resource, problem FROM webhook_events.events ORDER BY id DESC LIMIT 1;
DROP TABLE own_runs CASCADE;
DROP SCHEMA seen_now CASCADE;

-- columns are renamed and dropped, by name, and heartbeats go on
CREATE TEMP TABLE seen (id text COLLATE "C");
INSERT INTO seen VALUES (webhook_events_internal.new_id());
CREATE TABLE shape_runs (gone int, id int, actor_id text, status text, secret text, n int DEFAULT 0);
CREATE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
CREATE TRIGGER nothing BEFORE UPDATE ON shape_runs FOR EACH ROW EXECUTE FUNCTION nothing();
ALTER TABLE shape_runs DROP COLUMN gone;
SELECT webhook_events.attach('shape_runs', exclude => '{secret, n}');
ALTER TABLE shape_runs RENAME secret TO hidden;
ALTER TABLE shape_runs RENAME actor_id TO act;
SELECT pg_get_triggerdef(oid) ~ '"actor_id": \["act", 3\].*"exclude": \[\["hidden", 5\], \["n", 6\]\]' AS followed
FROM pg_trigger WHERE tgrelid = 'shape_runs'::regclass ORDER BY tgname;
INSERT INTO shape_runs VALUES (1, 'a', 'READY', 'x');
ALTER TABLE shape_runs ADD COLUMN secret text DEFAULT 'no secret', DROP COLUMN hidden;
ALTER TABLE shape_runs DROP COLUMN act;
UPDATE shape_runs SET n = 1;
UPDATE shape_runs SET n = 2 WHERE id = 1;
UPDATE shape_runs SET status = 'FAILED';
SELECT * FROM look();
-- a restored dump: names only, and a secret that is not found is withheld
SELECT pg_get_triggerdef(oid) AS definition FROM pg_trigger
    WHERE tgrelid = 'shape_runs'::regclass AND tgname = 'webhook_events_insert' \gset
SELECT regexp_replace(:'definition', '"system": "[0-9]+"', '"system": "1"') AS definition \gset
SELECT webhook_events.detach('shape_runs');
ALTER TABLE shape_runs RENAME n TO m;
:definition;
INSERT INTO shape_runs (id, status) VALUES (2, 'READY');
ALTER TABLE shape_runs RENAME m TO n;
INSERT INTO shape_runs (id, status) VALUES (3, 'READY');
ALTER TABLE shape_runs RENAME n TO m;
INSERT INTO shape_runs (id, status) VALUES (4, 'READY');
SELECT * FROM look();
DROP TABLE shape_runs;

-- the same in partitions, whose columns have other numbers
CREATE TABLE parted_runs (id int, actor_id text, status text, secret text, p int) PARTITION BY LIST (p);
CREATE TABLE parted_one (p int, gone int, secret text, status text, id int, actor_id text);
ALTER TABLE parted_one DROP COLUMN gone;
ALTER TABLE parted_runs ATTACH PARTITION parted_one FOR VALUES IN (1);
CREATE TABLE parted_two PARTITION OF parted_runs FOR VALUES IN (2);
CREATE FUNCTION parted_resource(parted_runs) RETURNS json LANGUAGE sql AS
    $$SELECT json_build_object('run', $1.id, 'hidden', $1.secret)$$;
SELECT webhook_events.attach('parted_runs', exclude => '{secret}');
ALTER TABLE parted_runs RENAME secret TO hidden;
INSERT INTO parted_runs VALUES (1, 'a', 'READY', 'x', 1);
INSERT INTO parted_two VALUES (2, 'a', 'READY', 'x', 2);
SELECT webhook_events.attach('parted_runs', resource => 'parted_resource(parted_runs)');
CREATE OR REPLACE FUNCTION parted_resource(parted_runs) RETURNS json LANGUAGE sql AS
    $$SELECT json_build_object('run', $1.id, 'hidden', $1.hidden)$$;
INSERT INTO parted_one VALUES (1, 'x', 'READY', 3, 'a');
SELECT * FROM look();

-- moves: with another id, without one, twice, back, swallowed, and beside new rows
SET client_min_messages = warning;
DROP FUNCTION parted_resource CASCADE;
RESET client_min_messages;
SELECT webhook_events.attach('parted_runs', exclude => '{hidden, p}');
DELETE FROM parted_runs;
INSERT INTO parted_runs VALUES (1, 'a', 'RUNNING', 'x', 1), (NULL, 'a', 'RUNNING', 'x', 1), (3, 'a', 'SUCCEEDED', 'x', 1);
SELECT count(*) FROM look();
UPDATE parted_runs SET id = id + 10, p = 2;
UPDATE parted_runs SET p = 1, status = 'SUCCEEDED';
SELECT event, id, resource FROM look();
CREATE FUNCTION swallow() RETURNS trigger LANGUAGE plpgsql AS
    $$BEGIN IF NEW.hidden = 'swallow' THEN RETURN NULL; END IF; RETURN NEW; END$$;
CREATE TRIGGER swallow BEFORE INSERT ON parted_two FOR EACH ROW EXECUTE FUNCTION swallow();
BEGIN;
UPDATE parted_runs SET p = 2, hidden = 'swallow' WHERE id = 11;
INSERT INTO parted_runs VALUES (11, 'a', 'RUNNING', 'y', 1);
COMMIT;
SELECT event, id, resource FROM look();
MERGE INTO parted_runs AS r USING (VALUES (13, 2), (14, 2), (15, 1)) AS v (id, p) ON r.id = v.id
    WHEN MATCHED THEN UPDATE SET p = v.p, hidden = 'swallow'
    WHEN NOT MATCHED THEN INSERT VALUES (v.id, 'a', 'READY', 'z', v.p);
WITH moved AS (UPDATE parted_runs SET p = 3 - p, status = 'RUNNING' WHERE id IS NULL RETURNING id)
    INSERT INTO parted_runs SELECT 16, 'a', 'READY', '', 2 FROM moved;
SELECT event, id, resource FROM look();
DROP TABLE parted_runs;

-- texts of statuses
CREATE EXTENSION IF NOT EXISTS citext;
CREATE TYPE phase AS ENUM ('READY', 'SUCCEEDED');
CREATE DOMAIN phase_domain AS phase;
CREATE DOMAIN padded AS char(12);
CREATE COLLATION blind (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
CREATE TABLE padded_runs (id char(5), actor_id text, status char(20));
CREATE TABLE padded_domain_runs (id int, actor_id text, status padded);
CREATE TABLE citext_runs (id int, actor_id text, status citext);
CREATE TABLE domain_runs (id int, actor_id text, status phase_domain);
CREATE TABLE blind_runs (id int, actor_id text, status text COLLATE blind);
CREATE TABLE name_runs (id int, actor_id text, status name);
SELECT webhook_events.attach(t) FROM unnest('{padded_runs, padded_domain_runs, citext_runs, domain_runs,
    blind_runs, name_runs}'::regclass[]) AS t;
INSERT INTO padded_runs VALUES ('p', 'a', 'READY');
UPDATE padded_runs SET status = 'SUCCEEDED';
INSERT INTO padded_domain_runs VALUES (1, 'a', 'TIMED-OUT');
INSERT INTO citext_runs VALUES (2, 'a', 'succeeded');
UPDATE citext_runs SET status = 'SUCCEEDED';
UPDATE citext_runs SET status = 'succeeded' WHERE id = 2;
INSERT INTO domain_runs VALUES (3, 'a', 'READY');
UPDATE domain_runs SET status = 'SUCCEEDED';
INSERT INTO blind_runs VALUES (4, 'a', 'failed');
UPDATE blind_runs SET status = 'FAILED';
INSERT INTO name_runs VALUES (5, 'a', 'READY');
UPDATE name_runs SET status = 'ABORTED';
SELECT event, id FROM look();
CREATE TABLE number_runs (id int, actor_id text, status int);
SELECT webhook_events.attach('number_runs');
CREATE TABLE json_runs (id int, actor_id text, status jsonb);
SELECT webhook_events.attach('json_runs');

-- a query of a cursor that raises events, inside of a statement that does
CREATE TABLE test_runs (id int, actor_id text, status text);
SELECT webhook_events.attach('test_runs');
CREATE TABLE tested AS SELECT id FROM webhook_events.create_webhook('https://example.com/', '{ACTOR.RUN.CREATED}');
CREATE FUNCTION test_all() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    r record;
BEGIN
    FOR r IN SELECT webhook_events.test_webhook(t.id) AS dispatch FROM tested AS t CROSS JOIN generate_series(1, 20) LOOP
        IF r.dispatch IS NULL THEN
            RAISE 'no dispatch';
        END IF;
    END LOOP;
    RETURN NULL;
END $$;
CREATE TRIGGER z_test AFTER INSERT ON test_runs FOR EACH ROW EXECUTE FUNCTION test_all();
INSERT INTO test_runs VALUES (1, 'a', 'READY'), (2, 'a', 'READY');
SELECT event, count(*) FROM look() GROUP BY event ORDER BY event;
SELECT webhook_events.delete_webhook(id) FROM tested;

-- parents and partitions that are both attached
CREATE TABLE both_runs (id int, actor_id text, status text) PARTITION BY LIST (id);
CREATE TABLE both_one PARTITION OF both_runs FOR VALUES IN (1);
SELECT webhook_events.attach('both_one', 'run');
SELECT webhook_events.attach('both_runs');
ALTER TABLE both_runs DETACH PARTITION both_one;
SELECT webhook_events.attach('both_runs');
ALTER TABLE both_runs ATTACH PARTITION both_one FOR VALUES IN (1);
SELECT webhook_events.detach('both_one');
ALTER TABLE both_runs ATTACH PARTITION both_one FOR VALUES IN (1);
INSERT INTO both_one VALUES (1, 'a', 'READY');
SELECT event, id, problem FROM look();

-- triggers are known by what they call
ALTER TRIGGER webhook_events_insert ON test_runs RENAME TO webhook_events_insert_102008;
ALTER TRIGGER webhook_events_update ON test_runs RENAME TO b;
DROP TRIGGER z_test ON test_runs;
UPDATE test_runs SET status = 'FAILED' WHERE id = 1;
SELECT webhook_events.attach('test_runs');
SELECT tgname FROM pg_trigger WHERE tgrelid = 'test_runs'::regclass ORDER BY 1;
UPDATE test_runs SET status = 'ABORTED' WHERE id = 1;
SELECT event, id FROM look();

-- where triggers fire is kept when a table is attached again
SELECT webhook_events.attach('test_runs', on_replica => true);
SELECT webhook_events.attach('test_runs', exclude => '{id}');
SELECT tgname, tgenabled FROM pg_trigger WHERE tgrelid = 'test_runs'::regclass ORDER BY 1;
SET session_replication_role = replica;
INSERT INTO test_runs VALUES (3, 'a', 'READY');
RESET session_replication_role;
SELECT event, id FROM look();
SELECT webhook_events.attach('test_runs', on_replica => false);
SELECT tgname, tgenabled FROM pg_trigger WHERE tgrelid = 'test_runs'::regclass ORDER BY 1;

-- a session that restores a dump
SET check_function_bodies = off;
SELECT set_config('search_path', '', false);
COPY public.test_runs FROM stdin;
4	a	READY
5	a	FAILED
\.
INSERT INTO public.test_runs VALUES (6, 'a', 'READY');
UPDATE public.test_runs SET status = 'ABORTED' WHERE id = 4;
RESET check_function_bodies;
RESET search_path;
SELECT event, id FROM look();

-- what has lost a trigger or its name is named
SELECT unnest(broken_tables) FROM webhook_events.status();
DROP TRIGGER webhook_events_update ON test_runs;
ALTER TABLE citext_runs DISABLE TRIGGER webhook_events_insert;
ALTER TABLE name_runs DROP COLUMN status CASCADE;
ALTER TABLE name_runs DROP COLUMN actor_id;
ALTER TABLE blind_runs RENAME TO blind_runs_old;
CREATE TABLE blind_runs (LIKE blind_runs_old);
SELECT unnest(broken_tables) FROM webhook_events.status();
SET client_min_messages = warning;
SELECT problem FROM webhook_events.audit(now() + '1 hour', now() + '2 hours') ORDER BY 1;
INSERT INTO name_runs VALUES (6);
SELECT problem, resource_id FROM webhook_events.audit(now() - interval '1 hour', now() + interval '1 minute')
    WHERE resource_id = '6' AND problem ~ 'whole';
RESET client_min_messages;
SELECT webhook_events.detach('blind_runs'), webhook_events.attach('test_runs'), webhook_events.detach('citext_runs'),
    webhook_events.detach('name_runs');
SELECT unnest(broken_tables) FROM webhook_events.status();

SET client_min_messages = warning;
DROP TABLE row_table, padded_runs, padded_domain_runs, citext_runs, domain_runs, blind_runs, blind_runs_old, name_runs, number_runs,
    json_runs, test_runs, tested, both_runs, seen;
DROP FUNCTION look, nothing, swallow, test_all;
DROP TYPE inner_type, phase CASCADE;
DROP DOMAIN padded;
DROP COLLATION blind;
DROP ROLE capture_writer;
DELETE FROM webhook_events_internal.outbox;
