--
-- Sources
--

CREATE FUNCTION webhook_events_internal.wake_worker() RETURNS void
    LANGUAGE c VOLATILE
    AS 'MODULE_PATHNAME', 'webhook_events_wake_worker';
COMMENT ON FUNCTION webhook_events_internal.wake_worker() IS
    'makes the worker look, at commit, at everything that waits';
REVOKE ALL ON FUNCTION webhook_events_internal.wake_worker() FROM PUBLIC;

-- Not when the extension is created: a dump is then about to be restored, maybe.
CREATE FUNCTION webhook_events_internal.claim_outbox() RETURNS void
    LANGUAGE sql VOLATILE
    SET search_path = pg_catalog, pg_temp
AS $function$
    INSERT INTO webhook_events_internal.origins (database, outbox, system)
        SELECT oid, 'webhook_events_internal.outbox'::regclass,
            (webhook_events_internal.current_place())[1]
        FROM pg_database
        WHERE datname = current_database()
            AND NOT EXISTS (SELECT FROM webhook_events_internal.origins)
        ON CONFLICT DO NOTHING;
    -- Not of the transaction, but of what may be a part of it.
    UPDATE webhook_events_internal.origins SET xid = xmin WHERE xid IS NULL;
    SELECT webhook_events_internal.wake_worker();
$function$;
COMMENT ON FUNCTION webhook_events_internal.claim_outbox() IS
    'notes that this database writes the outbox, unless another one has';
REVOKE ALL ON FUNCTION webhook_events_internal.claim_outbox() FROM PUBLIC;

-- Of an outbox that replication writes, of another server's.
CREATE FUNCTION webhook_events_internal.event_landed() RETURNS trigger
    LANGUAGE c AS 'MODULE_PATHNAME', 'webhook_events_event_landed';
COMMENT ON FUNCTION webhook_events_internal.event_landed() IS
    'makes an event that replication brings one of this server''s transaction, and wakes the worker';
REVOKE ALL ON FUNCTION webhook_events_internal.event_landed() FROM PUBLIC;
CREATE TRIGGER landed BEFORE INSERT ON webhook_events_internal.outbox
    FOR EACH ROW EXECUTE FUNCTION webhook_events_internal.event_landed();
ALTER TABLE webhook_events_internal.outbox ENABLE REPLICA TRIGGER landed;

CREATE FUNCTION webhook_events.run_changed() RETURNS trigger
    LANGUAGE c AS 'MODULE_PATHNAME', 'webhook_events_run_changed';
COMMENT ON FUNCTION webhook_events.run_changed() IS
    'writes the events of a table of runs; put on it by attach()';
REVOKE ALL ON FUNCTION webhook_events.run_changed() FROM PUBLIC;

CREATE FUNCTION webhook_events.build_changed() RETURNS trigger
    LANGUAGE c AS 'MODULE_PATHNAME', 'webhook_events_build_changed';
COMMENT ON FUNCTION webhook_events.build_changed() IS
    'writes the events of a table of builds; put on it by attach()';
REVOKE ALL ON FUNCTION webhook_events.build_changed() FROM PUBLIC;

-- Known by their names: what has such a name is meant to raise events, whatever happened
-- to its triggers.  Not part of dumps: there the triggers tell, until resume().
CREATE TABLE webhook_events_internal.attached (
    schema_name name NOT NULL,
    table_name name NOT NULL,
    kind text NOT NULL,
    CONSTRAINT attached_pkey PRIMARY KEY (schema_name, table_name)
);
COMMENT ON TABLE webhook_events_internal.attached IS
    'the tables that attach() was called for, and detach() was not';

CREATE FUNCTION webhook_events_internal.attach(relation regclass, kind text DEFAULT NULL,
        columns jsonb DEFAULT '{}', exclude text[] DEFAULT '{}',
        resource regprocedure DEFAULT NULL, on_replica boolean DEFAULT NULL) RETURNS void
    LANGUAGE c VOLATILE
    SET search_path = pg_catalog, pg_temp
    SET default_tablespace = ''
    SET default_table_access_method = heap
    AS 'MODULE_PATHNAME', 'webhook_events_attach';
COMMENT ON FUNCTION webhook_events_internal.attach(regclass, text, jsonb, text[], regprocedure,
        boolean) IS
    'makes a table of runs or builds raise events; again: with another mapping';
REVOKE ALL ON FUNCTION webhook_events_internal.attach(regclass, text, jsonb, text[], regprocedure,
        boolean)
    FROM PUBLIC;

CREATE FUNCTION webhook_events_internal.detach(relation regclass) RETURNS void
    LANGUAGE c VOLATILE
    SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'webhook_events_detach';
COMMENT ON FUNCTION webhook_events_internal.detach(regclass) IS
    'makes a table raise no more events';
REVOKE ALL ON FUNCTION webhook_events_internal.detach(regclass) FROM PUBLIC;

-- The view sources calls it in the name of whoever queries.
CREATE FUNCTION webhook_events_internal.source_mapping(relation oid, arguments bytea) RETURNS jsonb
    LANGUAGE c STABLE STRICT
    AS 'MODULE_PATHNAME', 'webhook_events_source_mapping';
COMMENT ON FUNCTION webhook_events_internal.source_mapping(oid, bytea) IS
    'which columns the arguments of a trigger stand for now; NULL if the table is locked';

CREATE FUNCTION webhook_events_internal.modernise_mappings() RETURNS void
    LANGUAGE c VOLATILE
    SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'webhook_events_modernise_mappings';
COMMENT ON FUNCTION webhook_events_internal.modernise_mappings() IS
    'makes mappings that version 1.0.0 wrote say in which cluster and how columns are called today';
REVOKE ALL ON FUNCTION webhook_events_internal.modernise_mappings() FROM PUBLIC;

CREATE VIEW webhook_events.sources WITH (security_barrier = true) AS
    SELECT t.tgrelid::pg_catalog.regclass AS relation,
        CASE p.proname WHEN 'run_changed' THEN 'run' ELSE 'build' END AS kind,
        m.mapping -> 'columns' AS columns,
        ARRAY(SELECT pg_catalog.jsonb_array_elements_text(m.mapping -> 'exclude')) AS exclude,
        m.mapping ->> 'resource' AS resource
    FROM pg_catalog.pg_trigger AS t
        JOIN pg_catalog.pg_proc AS p ON p.oid = t.tgfoid
        -- Not called, nor the table locked, by who asks for neither of these columns.
        CROSS JOIN LATERAL (SELECT webhook_events_internal.source_mapping(t.tgrelid, t.tgargs)
            OFFSET 0) AS m (mapping)
    WHERE t.tgfoid IN ('webhook_events.run_changed()'::pg_catalog.regprocedure,
            'webhook_events.build_changed()'::pg_catalog.regprocedure)
        AND t.tgtype = 5 AND t.tgnargs = 1 AND t.tgparentid = 0
        -- Not those of inheriting tables, to which some extensions copy triggers.
        AND NOT EXISTS (SELECT FROM pg_catalog.pg_inherits AS i
                JOIN pg_catalog.pg_trigger AS p ON p.tgrelid = i.inhparent
            WHERE i.inhrelid = t.tgrelid AND p.tgfoid = t.tgfoid AND p.tgtype = 5);
COMMENT ON VIEW webhook_events.sources IS
    'the attached tables, and what their columns mean';

CREATE FUNCTION webhook_events_internal.run_ends(relation regclass, run_ids text[])
    RETURNS TABLE (run_id text, user_id text, has_ended boolean)
    LANGUAGE c STABLE STRICT
    AS 'MODULE_PATHNAME', 'webhook_events_run_ends';
COMMENT ON FUNCTION webhook_events_internal.run_ends(regclass, text[]) IS
    'which of these runs an attached table has, whose they are, and whether they have ended; evaluates nothing of its owner''s';
REVOKE ALL ON FUNCTION webhook_events_internal.run_ends(regclass, text[]) FROM PUBLIC;

-- A table without an index that finds a run is not asked, nor is one in shards.
CREATE FUNCTION webhook_events_internal.runs_now(run_ids text[])
    RETURNS TABLE (run_id text, user_id text, has_ended boolean)
    LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    source record;
BEGIN
    FOR source IN SELECT s.relation FROM webhook_events.sources AS s
        WHERE s.kind = 'run' AND NOT webhook_events_internal.is_distributed(s.relation) LOOP
    BEGIN
        RETURN QUERY SELECT r.run_id, r.user_id, r.has_ended
            FROM webhook_events_internal.run_ends(source.relation, run_ids) AS r;
    EXCEPTION
        WHEN lock_not_available THEN
            RETURN QUERY SELECT NULL::text, NULL::text, NULL::boolean;
        -- audit() tells what is wrong with it.
        WHEN OTHERS THEN NULL;
    END;
    END LOOP;
END
$function$;
COMMENT ON FUNCTION webhook_events_internal.runs_now(text[]) IS
    'which of these runs are in attached tables, whose they are, and whether they have ended there; a row of nulls: a table is locked';
REVOKE ALL ON FUNCTION webhook_events_internal.runs_now(text[]) FROM PUBLIC;

