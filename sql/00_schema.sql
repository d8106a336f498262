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
END
$$;

DO $$
BEGIN
    IF EXISTS (
        SELECT FROM pg_catalog.pg_namespace AS n
            CROSS JOIN LATERAL pg_catalog.aclexplode(n.nspacl) AS a
        WHERE n.nspname OPERATOR(pg_catalog.=) 'webhook_events'
            AND a.privilege_type OPERATOR(pg_catalog.=) 'CREATE'
            AND a.grantee OPERATOR(pg_catalog.<>) n.nspowner
    ) THEN
        RAISE EXCEPTION 'others can create objects in schema "webhook_events"'
            USING ERRCODE = 'insufficient_privilege',
                HINT = 'Revoke CREATE on it from all but its owner, look at what is in it, then try again.';
    END IF;
END
$$;

DO $$
BEGIN
    -- What somebody put there before would be found under names like ours.
    IF EXISTS (
        SELECT FROM pg_catalog.pg_depend AS d
            JOIN pg_catalog.pg_namespace AS n ON n.oid OPERATOR(pg_catalog.=) d.refobjid
        WHERE d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_namespace'::pg_catalog.regclass
            AND n.nspname OPERATOR(pg_catalog.=) 'webhook_events'
            AND d.deptype OPERATOR(pg_catalog.=) 'n'
            AND d.classid OPERATOR(pg_catalog.<>) 'pg_catalog.pg_extension'::pg_catalog.regclass
    ) THEN
        RAISE EXCEPTION 'schema "webhook_events" is not empty'
            USING ERRCODE = 'object_not_in_prerequisite_state',
                HINT = 'Drop the schema, then create the extension again.';
    END IF;
END
$$;

-- Rows are written where they lie, which no other kind of table allows.
SET LOCAL default_table_access_method = heap;

-- Tables, tables of days and what is not documented: nobody has USAGE, so nobody
-- can name any of it, nor the row types.
CREATE SCHEMA webhook_events_internal;
COMMENT ON SCHEMA webhook_events_internal IS
    'inner tables and functions of the extension webhook_events; nobody needs USAGE';

