-- Attaching tables: which columns mean what.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS webhook_events;
RESET client_min_messages;
CREATE VIEW attached AS SELECT relation, kind, columns, exclude, resource
    FROM webhook_events.sources ORDER BY relation::text;

-- usual names are found, others are mapped
CREATE TABLE runs (id uuid PRIMARY KEY, "actId" text, "userId" text, task_id int, status varchar, secret text);
CREATE TABLE my_builds (number bigint, actor text, state text);
SELECT webhook_events.attach('runs', exclude => '{secret}');
SELECT webhook_events.attach('my_builds', columns => '{"id": "number", "actor_id": "actor", "status": "state"}');
TABLE attached;

-- attaching again replaces
SELECT webhook_events.attach('runs', kind => 'build', columns => '{"user_id": null}');
SELECT * FROM attached WHERE relation = 'runs'::regclass;
SELECT tgname FROM pg_trigger WHERE tgrelid = 'runs'::regclass ORDER BY 1;
SELECT webhook_events.attach('runs');

-- what can't be attached
CREATE TABLE things (id int, actor_id int, status text);
CREATE TABLE run_builds (id int, actor_id int, status text);
CREATE VIEW view_of_runs AS TABLE runs;
CREATE TEMP TABLE temp_runs (id int, actor_id int, status text);
CREATE TABLE bad_runs (id int, status text);
SELECT webhook_events.attach('things');
SELECT webhook_events.attach('run_builds');
SELECT webhook_events.attach('things', kind => 'task');
SELECT webhook_events.attach('view_of_runs');
SELECT webhook_events.attach('temp_runs');
SELECT webhook_events.attach('bad_runs');
SELECT webhook_events.attach('webhook_events_internal.outbox', kind => 'run');
SELECT webhook_events.attach('pg_class', kind => 'run');
SELECT webhook_events.attach('runs', columns => '{"status": "nope"}');
SELECT webhook_events.attach('runs', columns => '{"stauts": "status"}');
SELECT webhook_events.attach('runs', columns => '{"status": null}');
SELECT webhook_events.attach('runs', columns => '{"status": 1}');
SELECT webhook_events.attach('runs', columns => '[]');
SELECT webhook_events.attach('runs', exclude => '{nope}');
SELECT webhook_events.attach('runs', exclude => '{NULL}');
SELECT webhook_events.attach('runs', exclude => NULL);
SELECT webhook_events.attach(NULL);
SELECT webhook_events.attach('runs', resource => 'now()');
SELECT webhook_events.detach('things');

-- only the owner of a table may attach it, and nobody the functions beneath
CREATE ROLE stranger;
GRANT USAGE ON SCHEMA webhook_events TO stranger;
GRANT EXECUTE ON FUNCTION webhook_events.attach TO stranger;
GRANT CREATE ON SCHEMA public TO stranger;
SET ROLE stranger;
SELECT webhook_events.attach('runs');
CREATE TABLE own_runs (id int, actor_id int, status text);
SELECT webhook_events.attach('own_runs');
CREATE TRIGGER forged AFTER INSERT ON own_runs FOR EACH ROW EXECUTE FUNCTION webhook_events.run_changed('{}');
RESET ROLE;
SELECT relation, kind FROM attached WHERE relation = 'own_runs'::regclass;
CREATE TRIGGER forged AFTER INSERT ON things FOR EACH ROW EXECUTE FUNCTION webhook_events.run_changed();
INSERT INTO things VALUES (1, 1, 'READY');
DROP TRIGGER forged ON things;
CREATE TRIGGER forged AFTER INSERT ON things FOR EACH ROW EXECUTE FUNCTION webhook_events.run_changed('{}');
INSERT INTO things VALUES (1, 1, 'READY');
DROP TRIGGER forged ON things;
CREATE TRIGGER forged BEFORE INSERT ON things FOR EACH ROW EXECUTE FUNCTION webhook_events.run_changed('{}');
INSERT INTO things VALUES (1, 1, 'READY');

-- a table changes its shape
CREATE FUNCTION last_event() RETURNS TABLE (type text, run text, actor text, resource json)
    LANGUAGE sql AS 'SELECT event_type::text, actor_run_id, actor_id, resource
        FROM webhook_events.events ORDER BY id DESC LIMIT 1';
CREATE TABLE shape_runs (gone int, id int, actor_id text, status text, secret text, n int);
ALTER TABLE shape_runs DROP COLUMN gone;
SELECT webhook_events.attach('shape_runs', exclude => '{secret}');
INSERT INTO shape_runs VALUES (1, 'a', 'READY', 'x', 1);
SELECT * FROM last_event();
ALTER TABLE shape_runs RENAME TO reshaped;
ALTER TABLE reshaped RENAME COLUMN id TO run_number;
ALTER TABLE reshaped RENAME COLUMN secret TO hidden;
ALTER TABLE reshaped RENAME COLUMN status TO state;
ALTER TABLE reshaped ADD COLUMN started_at timestamptz DEFAULT '2020-01-01 00:00+00';
ALTER TABLE reshaped ALTER COLUMN n TYPE text, ALTER COLUMN run_number TYPE bigint;
UPDATE reshaped SET state = 'SUCCEEDED';
SELECT * FROM last_event();
SELECT columns, exclude FROM attached WHERE relation = 'reshaped'::regclass;
ALTER TABLE reshaped DROP COLUMN n;
INSERT INTO reshaped VALUES (2, 'b', 'READY', 'y');
SELECT * FROM last_event();
ALTER TABLE reshaped DROP COLUMN actor_id;
INSERT INTO reshaped VALUES (3, 'READY', 'y');

-- A column's name can change by that of its type, and it can go with what it depends on; a
-- child keeps what its parent drops; one that comes back is excluded again.
CREATE FUNCTION argument_of(relation regclass) RETURNS text LANGUAGE sql AS
    $$SELECT regexp_replace(encode(tgargs, 'escape'), '.*("columns".*)[^}]*$', '\1') FROM pg_trigger WHERE tgrelid = relation AND tgtype = 5$$;
CREATE TYPE shape AS (id text, actor_id text, status text, secret text);
CREATE TABLE shaped_runs OF shape;
SELECT webhook_events.attach('shaped_runs', exclude => '{secret}');
ALTER TYPE shape RENAME ATTRIBUTE status TO state CASCADE;
ALTER TYPE shape RENAME ATTRIBUTE secret TO hidden CASCADE;
INSERT INTO shaped_runs VALUES ('shaped', 'a', 'READY', 'x');
SELECT * FROM last_event();
SELECT argument_of('shaped_runs');
ALTER TYPE shape DROP ATTRIBUTE hidden CASCADE;
SELECT argument_of('shaped_runs');
CREATE TABLE parent_runs (id text, actor_id text, status text, secret text);
CREATE TABLE child_runs () INHERITS (parent_runs);
CREATE TABLE wild_runs () INHERITS (parent_runs);
SELECT webhook_events.attach('child_runs', exclude => '{secret}');
SELECT webhook_events.attach('parent_runs');
SELECT webhook_events.detach('parent_runs');
ALTER TABLE parent_runs RENAME secret TO hidden;
ALTER TABLE ONLY parent_runs DROP COLUMN hidden;
INSERT INTO child_runs VALUES ('child', 'a', 'READY', 'x');
SELECT * FROM last_event();
SELECT argument_of('child_runs');
ALTER TABLE child_runs DROP COLUMN hidden, ADD COLUMN hidden text;
INSERT INTO child_runs VALUES ('again', 'a', 'READY', 'x');
SELECT * FROM last_event();
ALTER TABLE child_runs RENAME hidden TO unseen;
INSERT INTO child_runs VALUES ('unseen', 'a', 'READY', 'x');
SELECT * FROM last_event();
CREATE DOMAIN kind_of_secret AS text;
CREATE TABLE domain_runs (id text, actor_id text, status text, secret kind_of_secret);
SELECT webhook_events.attach('domain_runs', exclude => '{secret}');
DROP DOMAIN kind_of_secret CASCADE;
SELECT argument_of('domain_runs');
DO $$BEGIN EXECUTE 'ALTER TABLE domain_runs RENAME actor_id TO act'; EXECUTE 'ALTER TABLE domain_runs RENAME act TO actor'; END$$;
SELECT argument_of('domain_runs');
BEGIN;
SAVEPOINT s;
ALTER TABLE domain_runs RENAME actor TO lost;
ROLLBACK TO s;
ALTER TABLE domain_runs RENAME status TO state;
COMMIT;
SELECT argument_of('domain_runs');
SELECT webhook_events.detach(r::regclass) FROM unnest('{shaped_runs, child_runs, domain_runs}'::text[]) AS r;
DROP TABLE parent_runs, child_runs, wild_runs, domain_runs;
DROP TYPE shape CASCADE;

-- a resource of the platform's own making
CREATE TABLE own_resource_runs (id int, actor_id text, status text);
CREATE FUNCTION make_resource(own_resource_runs) RETURNS jsonb
    LANGUAGE sql AS $$SELECT CASE WHEN $1.id > 0 THEN jsonb_build_object('number', $1.id) END$$;
SELECT webhook_events.attach('own_resource_runs', resource => 'make_resource(own_resource_runs)');
INSERT INTO own_resource_runs VALUES (1, 'a', 'READY');
SELECT * FROM last_event();
INSERT INTO own_resource_runs VALUES (-1, 'a', 'READY');
SELECT * FROM last_event();
SELECT resource FROM attached WHERE relation = 'own_resource_runs'::regclass;
-- a part of it that lies elsewhere with columns of other types is no row for that function
CREATE TABLE own_resource_runs_1 (actor_id text, id text, status text);
DO $$DECLARE definition text; BEGIN
    FOR definition IN SELECT pg_get_triggerdef(oid) FROM pg_trigger WHERE tgrelid = 'own_resource_runs'::regclass LOOP
        EXECUTE replace(definition, 'own_resource_runs ', 'own_resource_runs_1 ');
    END LOOP;
END$$;
INSERT INTO own_resource_runs_1 VALUES ('a', 'text', 'READY');
SELECT * FROM last_event();
SELECT problem FROM webhook_events.events WHERE actor_run_id = 'text';
ALTER TABLE own_resource_runs_1 ALTER id TYPE int USING 7;
INSERT INTO own_resource_runs_1 VALUES ('a', 7, 'READY');
SELECT * FROM last_event();
DROP TABLE own_resource_runs_1;
DROP FUNCTION make_resource;
INSERT INTO own_resource_runs VALUES (2, 'a', 'READY');
SELECT * FROM last_event();
-- one that has what is known of its table forgotten, and writes to another one
CREATE TABLE other_runs (id text, actor_id text, status text);
SELECT webhook_events.attach('other_runs');
CREATE FUNCTION make_resource(own_resource_runs) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
    CREATE SCHEMA of_resource;
    INSERT INTO other_runs VALUES ('other', 'o', 'READY');
    RETURN '{"made": true}';
END$$;
INSERT INTO own_resource_runs VALUES (30, 'a', 'READY');
SELECT * FROM last_event();
SELECT actor_id, resource FROM webhook_events.events WHERE actor_run_id IN ('30', 'other') ORDER BY actor_run_id;
DROP SCHEMA of_resource;
DROP FUNCTION make_resource;
SELECT webhook_events.detach('other_runs');
DROP TABLE other_runs;

-- detaching
SELECT webhook_events.detach('own_resource_runs');
INSERT INTO own_resource_runs VALUES (3, 'a', 'READY');
SELECT run FROM last_event();
SELECT webhook_events.detach('own_resource_runs');

SET client_min_messages = warning;
DROP VIEW attached, view_of_runs;
DROP FUNCTION last_event;
DROP TABLE runs, my_builds, things, run_builds, temp_runs, bad_runs, own_runs, reshaped, own_resource_runs;
DROP OWNED BY stranger;
DROP ROLE stranger;
