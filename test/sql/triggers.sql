-- Which write raises what.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS webhook_events;
RESET client_min_messages;
CREATE TABLE actor_runs (id text PRIMARY KEY, actor_id text, user_id text, actor_task_id text,
    status text, n int DEFAULT 0);
CREATE TABLE actor_builds (id text PRIMARY KEY, actor_id text, status text);
SELECT webhook_events.attach('actor_runs'), webhook_events.attach('actor_builds');

-- the events since the last look, in the order in which they were raised
CREATE TEMP TABLE seen (id text COLLATE "C");
INSERT INTO seen VALUES (webhook_events_internal.new_id());
CREATE FUNCTION look() RETURNS TABLE (event text, id text, old_status text, new_status text)
LANGUAGE plpgsql AS $$
DECLARE
    last text := (SELECT max(seen.id) FROM seen);
BEGIN
    INSERT INTO seen VALUES (webhook_events_internal.new_id());
    RETURN QUERY SELECT replace(e.event_type::text, 'ACTOR.', ''),
        coalesce(e.actor_run_id, e.actor_build_id), e.old_status, e.new_status
    FROM webhook_events.events AS e WHERE e.id > last ORDER BY e.id;
END $$;

-- the life of a run
INSERT INTO actor_runs VALUES ('r1', 'a1', 'u1', 't1', 'READY');
UPDATE actor_runs SET status = 'RUNNING';
UPDATE actor_runs SET status = 'RUNNING', n = 1;
UPDATE actor_runs SET n = 2;
UPDATE actor_runs SET status = 'TIMING-OUT';
UPDATE actor_runs SET status = 'TIMED-OUT';
UPDATE actor_runs SET status = 'RUNNING';
UPDATE actor_runs SET status = 'SUCCEEDED';
UPDATE actor_runs SET status = 'FAILED';
UPDATE actor_runs SET status = 'READY';
UPDATE actor_runs SET status = 'ABORTING';
UPDATE actor_runs SET status = 'ABORTED';
DELETE FROM actor_runs;
SELECT * FROM look();
SELECT event_data, user_id, resource FROM webhook_events.events ORDER BY id DESC LIMIT 1;

-- the life of a build: it is never resurrected
INSERT INTO actor_builds VALUES ('b1', 'a1', 'READY');
UPDATE actor_builds SET status = 'ABORTED';
UPDATE actor_builds SET status = 'RUNNING';
UPDATE actor_builds SET status = 'TIMED_OUT';
SELECT * FROM look();
SELECT event_data FROM webhook_events.events ORDER BY id DESC LIMIT 1;

-- inserted in a terminal status; unknown, missing and misspelt statuses
INSERT INTO actor_runs (id, status) VALUES ('done', 'SUCCEEDED'), ('odd', 'ODD'), ('none', NULL);
UPDATE actor_runs SET status = 'FAILED' WHERE id = 'odd';
UPDATE actor_runs SET status = NULL WHERE id = 'odd';
UPDATE actor_runs SET status = 'TIMED_OUT' WHERE id = 'none';
UPDATE actor_runs SET status = 'TIMED-OUT' WHERE id = 'none';
SELECT * FROM look();
SELECT event_data FROM webhook_events.events ORDER BY id DESC LIMIT 1;
DELETE FROM actor_runs;

-- many rows, and all kinds of statements
INSERT INTO actor_runs (id, status) SELECT 'm' || i, 'READY' FROM generate_series(1, 3) i;
UPDATE actor_runs AS r SET status = v.status
    FROM (VALUES ('m1', 'FAILED'), ('m2', 'RUNNING'), ('m3', 'SUCCEEDED')) AS v (id, status)
    WHERE r.id = v.id;
SELECT event, id FROM look() ORDER BY 2, 1;
INSERT INTO actor_runs (id, status) VALUES ('m2', 'X'), ('m4', 'X')
    ON CONFLICT (id) DO UPDATE SET status = 'ABORTED';
SELECT * FROM look();
MERGE INTO actor_runs AS r USING (VALUES ('m4', 'RUNNING'), ('m5', 'READY'), ('m1', '')) AS v (id, status)
    ON r.id = v.id
    WHEN MATCHED AND v.status = '' THEN DELETE
    WHEN MATCHED THEN UPDATE SET status = v.status
    WHEN NOT MATCHED THEN INSERT (id, status) VALUES (v.id, v.status);
SELECT event, id FROM look() ORDER BY 2;
COPY actor_runs (id, status) FROM stdin;
c1	READY
c2	FAILED
\.
SELECT * FROM look();
WITH changed AS (UPDATE actor_runs SET status = 'SUCCEEDED' WHERE id = 'c1' RETURNING id)
    INSERT INTO actor_runs (id, status) SELECT id || '+', 'READY' FROM changed;
SELECT event, id FROM look() ORDER BY 2;
TRUNCATE actor_runs;
SELECT * FROM look();

-- several statements on one run in one transaction
BEGIN;
INSERT INTO actor_runs (id, status) VALUES ('s', 'READY');
UPDATE actor_runs SET status = 'FAILED';
UPDATE actor_runs SET status = 'READY';
UPDATE actor_runs SET status = 'SUCCEEDED';
COMMIT;
SELECT * FROM look();

-- rolled back: whole, to a savepoint, by an error, in a function
BEGIN;
UPDATE actor_runs SET status = 'READY';
ROLLBACK;
BEGIN;
SAVEPOINT one;
UPDATE actor_runs SET status = 'READY';
ROLLBACK TO one;
UPDATE actor_runs SET status = 'FAILED';
COMMIT;
DO $$
BEGIN
    UPDATE actor_runs SET status = 'READY';
    RAISE EXCEPTION 'never mind';
EXCEPTION WHEN raise_exception THEN
    UPDATE actor_runs SET status = 'ABORTED';
END $$;
SELECT * FROM look();

-- prepared: the event is there when it is committed
BEGIN;
UPDATE actor_runs SET status = 'SUCCEEDED';
PREPARE TRANSACTION 'later';
SELECT * FROM look();
COMMIT PREPARED 'later';
SELECT count(*) FROM webhook_events.events WHERE actor_run_id = 's' AND new_status = 'SUCCEEDED';
SELECT * FROM look();

-- a BEFORE trigger has the last word
CREATE FUNCTION change_status() RETURNS trigger LANGUAGE plpgsql
    AS $$BEGIN NEW.status := 'ABORTED'; RETURN NEW; END$$;
CREATE TRIGGER change BEFORE INSERT OR UPDATE ON actor_runs FOR EACH ROW EXECUTE FUNCTION change_status();
INSERT INTO actor_runs (id, status) VALUES ('before', 'READY');
UPDATE actor_runs SET status = 'FAILED';
SELECT * FROM look();
UPDATE actor_runs SET status = 'READY' WHERE status = 'ABORTED';
ALTER TABLE actor_runs DISABLE TRIGGER change;
UPDATE actor_runs SET status = 'READY';
ALTER TABLE actor_runs ENABLE TRIGGER change;
SELECT * FROM look();
UPDATE actor_runs SET n = n + 1;
SELECT * FROM look();
DROP TRIGGER change ON actor_runs;

-- an update that can't change the status spares nobody else's trigger
CREATE FUNCTION note_update() RETURNS trigger LANGUAGE plpgsql
    AS $$BEGIN RAISE NOTICE '% was updated', NEW.id; RETURN NULL; END$$;
CREATE TRIGGER note AFTER UPDATE ON actor_runs FOR EACH ROW EXECUTE FUNCTION note_update();
UPDATE actor_runs SET n = n + 1 WHERE id = 'before';
PREPARE beat AS UPDATE actor_runs SET n = n + 1 WHERE id = 'before' RETURNING status;
EXECUTE beat;
WITH beat AS (UPDATE actor_runs SET n = n + 1 WHERE id = 's' RETURNING id)
    UPDATE actor_runs SET status = 'FAILED' FROM beat WHERE actor_runs.id = 'before';
WITH fail AS (UPDATE actor_runs SET status = 'FAILED' WHERE id = 's' RETURNING id)
    UPDATE actor_runs SET n = 0 FROM fail WHERE actor_runs.id = 'before';
DROP TRIGGER note ON actor_runs;
EXECUTE beat;
ALTER TABLE actor_runs RENAME COLUMN status TO state;
ALTER TABLE actor_runs RENAME COLUMN n TO status;
UPDATE actor_runs SET status = 5 WHERE id = 'before';
UPDATE actor_runs SET state = 'SUCCEEDED' WHERE id = 'before';
ALTER TABLE actor_runs RENAME COLUMN status TO n;
ALTER TABLE actor_runs RENAME COLUMN state TO status;
EXECUTE beat;
SELECT * FROM look();

-- a generated status, and one that is written through a view
CREATE TABLE generated_runs (id text, actor_id text, phase text, n int DEFAULT 0,
    status text GENERATED ALWAYS AS (CASE phase WHEN 'over' THEN 'SUCCEEDED' ELSE 'RUNNING' END) STORED);
SELECT webhook_events.attach('generated_runs');
CREATE VIEW view_of_runs AS SELECT id AS run, n AS status, status AS n FROM actor_runs;
INSERT INTO generated_runs VALUES ('g');
UPDATE generated_runs SET n = 1;
UPDATE generated_runs SET phase = 'over';
UPDATE view_of_runs SET status = 7 WHERE run = 's';
UPDATE view_of_runs SET n = 'ABORTED' WHERE run = 's';
SELECT * FROM look();
DROP VIEW view_of_runs;
DROP TABLE generated_runs;
DROP FUNCTION note_update;

-- switched off: for replicas, for a session
SET session_replication_role = replica;
UPDATE actor_runs SET status = 'FAILED';
RESET session_replication_role;
SET webhook_events.emit = off;
UPDATE actor_runs SET status = 'READY';
RESET webhook_events.emit;
SELECT * FROM look();

-- partitions: a row that moves changes its status and is no new one
CREATE TABLE parted_runs (id int, actor_id text, note text, status text, PRIMARY KEY (id, status))
    PARTITION BY LIST (status);
CREATE TABLE parted_active PARTITION OF parted_runs FOR VALUES IN ('READY', 'RUNNING');
CREATE TABLE parted_done (status text NOT NULL, gone int, id int NOT NULL, note text, actor_id text);
ALTER TABLE parted_done DROP COLUMN gone;
ALTER TABLE parted_runs ATTACH PARTITION parted_done FOR VALUES IN ('SUCCEEDED', 'FAILED');
SELECT webhook_events.attach('parted_runs', exclude => '{note}');
SELECT webhook_events.attach('parted_done');
INSERT INTO parted_runs VALUES (1, 'a', 'x', 'READY'), (2, 'a', 'x', 'READY');
UPDATE parted_runs SET status = 'RUNNING';
UPDATE parted_runs SET status = 'SUCCEEDED';
SELECT * FROM look();
SELECT actor_id, resource FROM webhook_events.events ORDER BY id DESC LIMIT 1;
UPDATE parted_runs SET status = 'READY' WHERE id = 1;
DELETE FROM parted_runs WHERE id = 1;
INSERT INTO parted_runs VALUES (1, 'a', 'x', 'FAILED');
UPDATE parted_runs SET id = 3 WHERE id = 1;
SELECT * FROM look();
SELECT relation, kind FROM webhook_events.sources WHERE relation::text LIKE 'parted%';

-- other types of status and ids
CREATE TYPE run_status AS ENUM ('READY', 'RUNNING', 'TIMED-OUT');
CREATE TABLE typed_runs (id uuid, actor_id bigint, status run_status);
SELECT webhook_events.attach('typed_runs');
INSERT INTO typed_runs VALUES ('00000000-0000-0000-0000-000000000001', 7, 'READY');
UPDATE typed_runs SET status = 'TIMED-OUT';
SELECT * FROM look();
SELECT event_data, resource FROM webhook_events.events ORDER BY id DESC LIMIT 1;

-- the events of a statement are inserted together, more than fit at once too; those
-- of statements inside it have a fate of their own
CREATE FUNCTION meddle() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.n > 0 THEN
        BEGIN
            UPDATE actor_runs SET status = 'RUNNING', n = 0 WHERE id = NEW.id;
            UPDATE actor_runs SET status = 'FAILED' WHERE id = NEW.id;
            PERFORM webhook_events.test_webhook((SELECT id FROM meddled));
            RAISE EXCEPTION 'undone';
        EXCEPTION WHEN raise_exception THEN
            NULL;
        END;
    ELSIF NEW.n < 0 THEN
        UPDATE actor_runs SET status = 'RUNNING', n = 0 WHERE id = NEW.id;
    END IF;
    RETURN NULL;
END $$;
CREATE TABLE meddled AS
    SELECT id FROM webhook_events.create_webhook('https://example.com/', '{ACTOR.RUN.CREATED}');
CREATE TRIGGER zz AFTER UPDATE ON actor_runs FOR EACH ROW EXECUTE FUNCTION meddle();
INSERT INTO actor_runs (id, status) VALUES ('n1', 'READY'), ('n2', 'READY');
UPDATE actor_runs SET status = 'SUCCEEDED', n = 1 WHERE id IN ('n1', 'n2');
UPDATE actor_runs SET status = 'ABORTED', n = -1 WHERE id IN ('n1', 'n2');
SELECT * FROM look();
INSERT INTO actor_runs (id, status) SELECT 'many' || i, 'READY' FROM generate_series(1, 1234) i;
SELECT count(DISTINCT id), min(event), max(event) FROM look();
BEGIN;
SAVEPOINT s;
UPDATE actor_runs SET status = 'FAILED' WHERE id LIKE 'many%';
ROLLBACK TO s;
UPDATE actor_runs SET status = 'ABORTED' WHERE id = 'many1';
SELECT * FROM look();
COMMIT;
DROP TRIGGER zz ON actor_runs;
DROP FUNCTION meddle;
SELECT webhook_events.delete_webhook(id) FROM meddled;
DROP TABLE meddled;
DELETE FROM actor_runs;

-- a status that is assigned and stays raises nothing, in one row as in many
INSERT INTO actor_runs (id, status) SELECT 'same' || i, 'RUNNING' FROM generate_series(1, 100) AS i;
DELETE FROM webhook_events_internal.outbox;
UPDATE actor_runs SET status = 'RUNNING' WHERE id = 'same1';
UPDATE actor_runs SET status = 'RUNNING';
SELECT count(*) AS of_what_stays FROM webhook_events_internal.outbox;
UPDATE actor_runs SET status = 'SUCCEEDED' WHERE id = 'same1';
UPDATE actor_runs SET status = 'SUCCEEDED' WHERE id <> 'same1';
SELECT event_type, count(*) FROM webhook_events_internal.outbox GROUP BY event_type;
DELETE FROM webhook_events_internal.outbox;

-- a WHEN clause that says more than attach() wrote is heard
SELECT replace(pg_get_triggerdef(oid), 'WHEN (', 'WHEN (new.id <> ''same2'' AND ') AS definition
FROM pg_trigger WHERE tgrelid = 'actor_runs'::regclass AND tgname = 'webhook_events_update' \gset
DROP TRIGGER webhook_events_update ON actor_runs;
:definition;
UPDATE actor_runs SET status = 'FAILED' WHERE id = 'same2';
UPDATE actor_runs SET status = 'FAILED' WHERE id = 'same3';
SELECT actor_run_id FROM webhook_events_internal.outbox;
SELECT webhook_events.attach('actor_runs');
DELETE FROM actor_runs;
DELETE FROM webhook_events_internal.outbox;

-- days have their tables, and each event is in that of its day
SELECT count(*) >= 4 AS made_ahead FROM pg_inherits
    WHERE inhparent = 'webhook_events_internal.outbox'::regclass;
SELECT count(*) AS in_default FROM webhook_events_internal.outbox_default;
SELECT count(*) AS in_wrong_day FROM webhook_events_internal.outbox
    WHERE tableoid::regclass::text <> 'webhook_events_internal.outbox_' || to_char(created_at AT TIME ZONE 'UTC', 'YYYYMMDD');
SELECT webhook_events_internal.create_days(today, today) FROM (SELECT (now() AT TIME ZONE 'UTC')::date) AS t (today);

-- without a table for the day the default one takes it
DO $$
BEGIN
    EXECUTE format('ALTER TABLE webhook_events_internal.outbox DETACH PARTITION webhook_events_internal.outbox_%s',
        to_char(now() AT TIME ZONE 'UTC', 'YYYYMMDD'));
END $$;
INSERT INTO actor_runs (id, status) VALUES ('default', 'READY');
SELECT actor_run_id FROM webhook_events_internal.outbox_default;
DELETE FROM webhook_events_internal.outbox;
DO $$
DECLARE
    day timestamp := date_trunc('day', now() AT TIME ZONE 'UTC');
BEGIN
    EXECUTE format('ALTER TABLE webhook_events_internal.outbox ATTACH PARTITION webhook_events_internal.outbox_%s FOR VALUES FROM (%L) TO (%L)',
        to_char(day, 'YYYYMMDD'), webhook_events.id_lower_bound(day AT TIME ZONE 'UTC'),
        webhook_events.id_lower_bound((day + '1 day') AT TIME ZONE 'UTC'));
END $$;

SET client_min_messages = warning;
DROP FUNCTION look, change_status;
DROP TABLE actor_runs, actor_builds, parted_runs, typed_runs, seen;
DROP TYPE run_status;
