-- Triggers of the platform change the row again: its events come in the order of the changes.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS webhook_events;
RESET client_min_messages;
CREATE SCHEMA firing;
SET search_path = firing, public;

CREATE FUNCTION again() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'INSERT' AND NEW.actor_id = 'over quota' THEN
        EXECUTE format('UPDATE %I SET status = ''ABORTED'' WHERE id = $1', TG_ARGV[0]) USING NEW.id;
    ELSIF TG_OP = 'UPDATE' AND NEW.status = 'FAILED' AND NEW.tries < 2 THEN
        EXECUTE format('UPDATE %I SET status = ''RUNNING'', tries = tries + 1 WHERE id = $1', TG_ARGV[0]) USING NEW.id;
        EXECUTE format('UPDATE %I SET status = ''FAILED'' WHERE id = $1', TG_ARGV[0]) USING NEW.id;
    END IF;
    RETURN NULL;
END $$;
CREATE FUNCTION told(pattern text) RETURNS TABLE (run text, told text) LANGUAGE sql AS $$
    SELECT e.actor_run_id, string_agg(substr(e.event_type::text, 11), ' ' ORDER BY e.id)
    FROM webhook_events.events AS e WHERE e.actor_run_id LIKE pattern GROUP BY 1 ORDER BY e.actor_run_id COLLATE "C"
$$;

-- whatever the statement, and though its name stands before those of ours
CREATE TABLE actor_runs (id text PRIMARY KEY, actor_id text, status text NOT NULL DEFAULT 'READY', tries int NOT NULL DEFAULT 0);
SELECT webhook_events.attach('actor_runs');
CREATE TRIGGER again AFTER INSERT OR UPDATE ON actor_runs FOR EACH ROW EXECUTE FUNCTION again('actor_runs');
CREATE TRIGGER "AGAIN" AFTER DELETE ON actor_runs FOR EACH ROW EXECUTE FUNCTION again('actor_runs');
INSERT INTO actor_runs VALUES ('firing-1', 'over quota'), ('firing-2', 'a');
UPDATE actor_runs SET status = 'FAILED' WHERE id = 'firing-2';
INSERT INTO actor_runs VALUES ('firing-2', 'a'), ('firing-3', 'over quota')
    ON CONFLICT (id) DO UPDATE SET status = 'FAILED', tries = 0;
WITH made AS (INSERT INTO actor_runs VALUES ('firing-4', 'over quota') RETURNING id) SELECT * FROM made;
MERGE INTO actor_runs AS r USING (VALUES ('firing-5'), ('firing-1')) AS v (id) ON v.id = r.id
    WHEN NOT MATCHED THEN INSERT VALUES (v.id, 'over quota')
    WHEN MATCHED THEN UPDATE SET status = 'FAILED', tries = 1;
PREPARE fail(text) AS UPDATE actor_runs SET status = 'FAILED', tries = 1 WHERE id = $1;
EXECUTE fail('firing-4');
EXECUTE fail('firing-5');
SELECT * FROM told('firing-_');

-- the platform's own keep their order, and that of ours is PostgreSQL's to tell
CREATE TRIGGER again_too AFTER UPDATE ON actor_runs FOR EACH ROW EXECUTE FUNCTION again('actor_runs');
DO $$
DECLARE
    line text;
BEGIN
    FOR line IN EXECUTE 'EXPLAIN (ANALYZE) UPDATE actor_runs SET status = $a$SUCCEEDED$a$ WHERE id = $a$firing-1$a$' LOOP
        IF line LIKE 'Trigger %' THEN
            RAISE INFO '%', substring(line, '^Trigger ([a-z_]+)');
        END IF;
    END LOOP;
END $$;
DROP TRIGGER again_too ON actor_runs;

-- a resource function may read what other triggers write: names tell there
CREATE TABLE told_runs (id text PRIMARY KEY, note text);
CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO told_runs VALUES (NEW.id, 'noted') ON CONFLICT DO NOTHING;
    RETURN NULL;
END $$;
CREATE FUNCTION with_note(actor_runs) RETURNS json LANGUAGE sql SET search_path = firing AS
    $$SELECT json_build_object('id', $1.id, 'note', (SELECT note FROM told_runs WHERE id = $1.id))$$;
CREATE TRIGGER a_note AFTER INSERT ON actor_runs FOR EACH ROW EXECUTE FUNCTION note();
SELECT webhook_events.attach('actor_runs', resource => 'with_note(actor_runs)');
INSERT INTO actor_runs VALUES ('firing-noted', 'a');
SELECT resource FROM webhook_events.events WHERE actor_run_id = 'firing-noted';
SELECT webhook_events.attach('actor_runs');
INSERT INTO actor_runs VALUES ('firing-quota', 'over quota');
SELECT * FROM told('firing-quota');

-- rows that find their partition, or come by COPY, go by names too
CREATE TABLE parted_runs (id text, actor_id text, status text NOT NULL DEFAULT 'READY', tries int NOT NULL DEFAULT 0) PARTITION BY LIST (actor_id);
CREATE TABLE parted_quota PARTITION OF parted_runs FOR VALUES IN ('over quota');
CREATE TABLE parted_others PARTITION OF parted_runs DEFAULT;
SELECT webhook_events.attach('parted_runs');
CREATE TRIGGER again AFTER INSERT OR UPDATE ON parted_runs FOR EACH ROW EXECUTE FUNCTION again('parted_runs');
INSERT INTO parted_runs VALUES ('parted-1', 'over quota'), ('parted-2', 'a');
UPDATE parted_runs SET status = 'FAILED' WHERE id = 'parted-2';
SELECT * FROM told('parted-%');
ALTER TRIGGER webhook_events_insert ON parted_runs RENAME TO "_webhook_events_insert";
INSERT INTO parted_runs VALUES ('parted-3', 'over quota');
COPY parted_runs (id, actor_id) FROM stdin;
parted-4	over quota
\.
SELECT * FROM told('parted-%');

SET client_min_messages = warning;
DROP SCHEMA firing CASCADE;
