-- Who may do what.
\set VERBOSITY terse
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS webhook_events;
CREATE ROLE rights_reader; CREATE ROLE rights_manager; CREATE ROLE rights_tenant;
CREATE ROLE rights_monitor; CREATE ROLE rights_dump; CREATE ROLE rights_nobody;
RESET client_min_messages;
CREATE VIEW roles AS SELECT rolname, substr(rolname, 8) AS access FROM pg_roles WHERE rolname ~ '^rights_';
SELECT webhook_events.grant_access(rolname::regrole, access, CASE access WHEN 'tenant' THEN 'a' END)
    FROM roles WHERE access <> 'nobody' ORDER BY rolname;

-- views and functions, and which access opens them
\pset format unaligned
\pset footer off
SELECT c.relname, (SELECT string_agg(access, ' ' ORDER BY access) FROM roles
        WHERE has_table_privilege(rolname, c.oid, 'SELECT')) AS may_select
    FROM pg_class AS c WHERE c.relnamespace = 'webhook_events'::regnamespace ORDER BY c.relname;
SELECT DISTINCT p.proname, (SELECT string_agg(access, ' ' ORDER BY access) FROM roles
        WHERE has_function_privilege(rolname, p.oid, 'EXECUTE')) AS may_execute
    FROM pg_proc AS p WHERE p.pronamespace = 'webhook_events'::regnamespace ORDER BY p.proname;
\pset format aligned
\pset footer on

-- nothing more: no other privilege, none on what is inside, but to dump it
SELECT c.oid::regclass, r.access FROM roles AS r, pg_class AS c
    WHERE c.relnamespace::regnamespace::text ~ '^webhook_events' AND c.relkind IN ('r', 'p', 'v')
        AND has_table_privilege(r.rolname, c.oid, 'INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER');
SELECT r.access, has_schema_privilege(r.rolname, 'webhook_events', 'USAGE') AS outside,
        has_schema_privilege(r.rolname, 'webhook_events_internal', 'USAGE') AS inside,
        has_schema_privilege(r.rolname, 'webhook_events', 'CREATE')
            OR has_schema_privilege(r.rolname, 'webhook_events_internal', 'CREATE') AS creates,
        bool_or(has_table_privilege(r.rolname, c.oid, 'SELECT')) AS some_tables,
        bool_and(has_table_privilege(r.rolname, c.oid, 'SELECT')) AS all_tables
    FROM roles AS r, pg_class AS c
    WHERE c.relnamespace = 'webhook_events_internal'::regnamespace AND c.relkind IN ('r', 'p')
    GROUP BY r.access, r.rolname ORDER BY r.access;
SELECT p.oid::regprocedure AS inside_and_executable FROM pg_proc AS p
    WHERE p.pronamespace = 'webhook_events_internal'::regnamespace
        AND has_function_privilege('rights_nobody', p.oid, 'EXECUTE') ORDER BY p.oid::regprocedure::text;

-- no function looks up names in a path that is not its own, and each view is a barrier
SELECT p.oid::regprocedure AS without_path FROM pg_proc AS p JOIN pg_language AS l ON l.oid = p.prolang
    WHERE p.pronamespace::regnamespace::text ~ '^webhook_events' AND l.lanname <> 'c' AND p.prosqlbody IS NULL AND p.prokind <> 'a'
        AND NOT coalesce(p.proconfig @> '{"search_path=pg_catalog, pg_temp"}', false);
SELECT c.relname AS without_barrier FROM pg_class AS c
    WHERE c.relnamespace = 'webhook_events'::regnamespace AND c.relkind = 'v'
        AND NOT coalesce(c.reloptions @> '{security_barrier=true}', false);
SELECT p.oid::regprocedure AS with_rights_of_owner FROM pg_proc AS p
    WHERE p.pronamespace::regnamespace::text ~ '^webhook_events' AND p.prosecdef ORDER BY p.oid::regprocedure::text;
-- every function outside is a door, but for those that read no table and the platform's triggers
SELECT p.proname AS no_door FROM pg_proc AS p
    WHERE p.pronamespace = 'webhook_events'::regnamespace AND p.prosrc <> 'webhook_events_door' ORDER BY 1;

-- roles of PostgreSQL's own that reach all tables call nothing inside but what reads
-- none, and see nothing by that; who writes all tables reads none of them
SET client_min_messages = warning;
CREATE ROLE pre_connect; CREATE ROLE pre_monitor; CREATE ROLE pre_read; CREATE ROLE pre_write;
GRANT pg_monitor TO pre_monitor; GRANT pg_read_all_data TO pre_read; GRANT pg_write_all_data TO pre_write;
RESET client_min_messages;
SELECT r.rolname, has_schema_privilege(r.oid, n.oid, 'USAGE') AS reaches,
        (SELECT count(*) FROM pg_proc AS p WHERE p.pronamespace = n.oid
            AND has_function_privilege(r.oid, p.oid, 'EXECUTE')) AS executes,
        (SELECT count(*) FROM pg_class AS c WHERE c.relnamespace = n.oid AND c.relkind IN ('r', 'p', 'S', 'v')
            AND has_table_privilege(r.oid, c.oid, 'SELECT')) > 0 AS reads
    FROM pg_roles AS r, pg_namespace AS n
    WHERE r.rolname ~ '^pre_' AND n.nspname = 'webhook_events_internal' ORDER BY r.rolname;
SELECT r.rolname, count(*) AS executes_outside FROM pg_roles AS r, pg_proc AS p
    WHERE r.rolname ~ '^pre_' AND p.pronamespace = 'webhook_events'::regnamespace
        AND has_function_privilege(r.oid, p.oid, 'EXECUTE') GROUP BY r.rolname ORDER BY r.rolname;
SET ROLE pre_write;
SELECT (SELECT count(*) FROM webhook_events_internal.live_flights()) AS flights,
    (SELECT count(*) FROM webhook_events_internal.live_hosts()) AS hosts,
    webhook_events_internal.own_user(true), webhook_events_internal.sees_all(false);
SELECT count(*) FROM webhook_events_internal.webhooks;
SELECT webhook_events_internal.create_days('2022-01-01', '2022-01-01');
SELECT webhook_events_internal.grant_access('pre_write', 'manager');
SET ROLE pre_read;
SELECT webhook_events_internal.resume('skip');
SELECT count(*) FROM webhook_events.webhooks WHERE false;
SELECT webhook_events.status();
RESET ROLE;
DROP ROLE pre_connect; DROP ROLE pre_monitor; DROP ROLE pre_read; DROP ROLE pre_write;

-- accesses that a restored dump lacks, where it has the privileges
BEGIN;
SELECT lost_accesses FROM webhook_events.status();
DELETE FROM webhook_events_internal.grants WHERE access IN ('tenant', 'dump', 'monitor');
SELECT lost_accesses FROM webhook_events.status();
SELECT webhook_events.grant_access('rights_tenant', 'tenant', 'a');
SELECT lost_accesses FROM webhook_events.status();
GRANT rights_tenant TO rights_dump;
SELECT lost_accesses FROM webhook_events.status();
ROLLBACK;

-- what default privileges give is taken from new objects
ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO rights_nobody;
ALTER DEFAULT PRIVILEGES IN SCHEMA webhook_events_internal GRANT SELECT ON TABLES TO PUBLIC;
SELECT webhook_events_internal.create_days('2022-01-01', '2022-01-01');
SELECT c.relname, has_table_privilege('rights_nobody', c.oid, 'SELECT, INSERT') AS nobody,
        has_table_privilege('rights_dump', c.oid, 'SELECT') AS dump
    FROM pg_class AS c WHERE c.relname ~ '_20220101$' AND c.relkind = 'r' ORDER BY c.relname;
SELECT webhook_events_internal.drop_days('2022-01-02') > 0 AS dropped;
ALTER DEFAULT PRIVILEGES REVOKE ALL ON TABLES FROM rights_nobody;
ALTER DEFAULT PRIVILEGES IN SCHEMA webhook_events_internal REVOKE SELECT ON TABLES FROM PUBLIC;

-- granting
SELECT webhook_events.grant_access('rights_nobody', 'owner');
SELECT webhook_events.grant_access('rights_nobody', 'tenant');
SELECT webhook_events.grant_access('rights_nobody', 'tenant', '');
SELECT webhook_events.grant_access('rights_nobody', 'reader', 'a');
SELECT webhook_events.grant_access(NULL, 'reader');
SELECT webhook_events.grant_access(0::regrole, 'reader');
SELECT webhook_events.grant_access('rights_tenant', 'tenant', 'b');
SELECT role::regrole, access, user_id FROM webhook_events_internal.grants ORDER BY role::regrole::text;

-- and taking it back
SELECT webhook_events.revoke_access(rolname::regrole) FROM roles ORDER BY rolname;
SELECT webhook_events.revoke_access('rights_nobody');
SELECT count(*) AS privileges FROM pg_shdepend AS d JOIN roles AS r ON d.refobjid = r.rolname::regrole;
SELECT count(*) AS grants FROM webhook_events_internal.grants;
DROP ROLE rights_reader, rights_manager, rights_tenant, rights_monitor, rights_dump, rights_nobody;

-- addresses within addresses
CREATE FUNCTION tried(address text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    PERFORM webhook_events.create_webhook(format('http://[%s]/', address), '{ACTOR.RUN.CREATED}');
    RETURN 'accepted';
EXCEPTION WHEN OTHERS THEN
    RETURN SQLERRM;
END $$;
BEGIN;
SELECT address, tried(address) FROM unnest('{::ffff:0:8.8.8.8, ::ffff:0:10.0.0.1, 64:ff9b::8.8.8.8, 64:ff9b::10.0.0.1,
    64:ff9b:1::8.8.8.8, 64:ff9b:1:ffff::1, 64:ff9b:2::1, 2606:4700::5efe:8.8.8.8, 2606:4700::5efe:10.0.0.1,
    2606:4700::200:5efe:169.254.1.1, 2606:4700:0:1:300:5efe:a00:1, 2606:4700::400:5efe:10.0.0.1}'::text[]) AS address;
ROLLBACK;
DROP FUNCTION tried(text);
DROP VIEW roles;
