\echo Use "CREATE EXTENSION webhook_events" to load this file. \quit

-- Whoever owns the schema could have put anything into it, and still can.
DO $$
BEGIN
    IF NOT EXISTS (
        SELECT FROM pg_catalog.pg_namespace AS n
            JOIN pg_catalog.pg_roles AS r ON r.oid OPERATOR(pg_catalog.=) n.nspowner
        WHERE n.nspname OPERATOR(pg_catalog.=) 'webhook_events'
            AND (r.rolsuper OR r.rolname OPERATOR(pg_catalog.=) CURRENT_USER)
    ) THEN
        RAISE EXCEPTION 'schema "webhook_events" belongs to somebody else'
            USING ERRCODE = 'insufficient_privilege',
                HINT = 'Drop the schema, then create the extension again.';
    END IF;
    IF EXISTS (
        SELECT FROM pg_catalog.pg_namespace AS n
            CROSS JOIN LATERAL pg_catalog.aclexplode(n.nspacl) AS a
        WHERE n.nspname OPERATOR(pg_catalog.=) 'webhook_events'
            AND a.privilege_type OPERATOR(pg_catalog.=) 'CREATE'
            AND a.grantee OPERATOR(pg_catalog.<>) n.nspowner
    ) THEN
        RAISE EXCEPTION 'others can create objects in schema "webhook_events"'
            USING ERRCODE = 'insufficient_privilege',
                HINT = 'Drop the schema, then create the extension again.';
    END IF;
END
$$;

-- Tables, tables of days and what is not documented: nobody has USAGE, so nobody
-- can name any of it, nor the row types.
CREATE SCHEMA webhook_events_internal;
COMMENT ON SCHEMA webhook_events_internal IS
    'inner tables and functions of the extension webhook_events; nobody needs USAGE';

