-- 1.0.0--1.1.0.sql
--	  What update.pl can't derive of the way from 1.0.0 to 1.1.0.

-- before
-- anew: webhook_events.sources

-- Version 1.0.0 could be created where others can create objects, under names that are
-- new in this one as well.
-- as created: others can create objects in schema

-- What grant_access() of 1.0.0 gave: a manager could write webhooks, a reader read
-- dispatches; somebody who watches needed EXECUTE on status() alone.
SELECT pg_catalog.set_config('webhook_events_update.accesses', a.accesses, true)
FROM (SELECT COALESCE(pg_catalog.jsonb_object_agg(g.grantee,
        CASE WHEN g.writes THEN 'manager' WHEN g.reads THEN 'reader' ELSE 'monitor' END), '{}')::pg_catalog.text
    FROM (SELECT a.grantee,
            pg_catalog.bool_or(a.name OPERATOR(pg_catalog.=) 'webhooks'
                AND a.privilege_type OPERATOR(pg_catalog.=) 'INSERT') AS writes,
            pg_catalog.bool_or(a.name OPERATOR(pg_catalog.=) 'dispatches') AS reads
        FROM (SELECT c.relname, acl.grantee, acl.privilege_type, c.relowner
            FROM pg_catalog.pg_class AS c
                CROSS JOIN LATERAL pg_catalog.aclexplode(c.relacl) AS acl
            WHERE c.relnamespace OPERATOR(pg_catalog.=) 'webhook_events'::pg_catalog.regnamespace
            UNION ALL
            SELECT p.proname, acl.grantee, acl.privilege_type, p.proowner
            FROM pg_catalog.pg_proc AS p
                CROSS JOIN LATERAL pg_catalog.aclexplode(p.proacl) AS acl
            WHERE p.pronamespace OPERATOR(pg_catalog.=) 'webhook_events'::pg_catalog.regnamespace
                AND p.proname OPERATOR(pg_catalog.=) 'status') AS a (name, grantee, privilege_type, owner)
        WHERE a.grantee OPERATOR(pg_catalog.<>) a.owner AND a.grantee OPERATOR(pg_catalog.<>) 0
        GROUP BY a.grantee) AS g) AS a (accesses);
-- tables
-- after
-- What waits for these kept them from retiring; the worker looks for such runs here now.
INSERT INTO webhook_events_internal.ended_runs (run_id, user_id, time)
    SELECT w.actor_run_id, w.user_id, COALESCE(pg_catalog.max(w.run_changed_at), pg_catalog.now())
    FROM webhook_events_internal.webhooks AS w
    WHERE w.is_ad_hoc AND w.run_ended AND w.is_enabled AND w.actor_run_id IS NOT NULL
    GROUP BY w.actor_run_id, w.user_id;

-- Each has the access of that name now, and none has privileges on tables any more.
-- A session that was bound to a user by the setting user_id still is.
DO $$
DECLARE
    grantee record;
BEGIN
    FOR grantee IN
        SELECT a.key::pg_catalog.oid::pg_catalog.regrole AS role, a.value AS access
        FROM pg_catalog.jsonb_each_text(pg_catalog.current_setting('webhook_events_update.accesses')::pg_catalog.jsonb) AS a
    LOOP
        PERFORM webhook_events_internal.revoke_access(grantee.role);
        PERFORM webhook_events_internal.grant_access(grantee.role, grantee.access);
    END LOOP;
END
$$;
SELECT webhook_events_internal.modernise_mappings();
INSERT INTO webhook_events_internal.attached (schema_name, table_name, kind)
    SELECT n.nspname, c.relname, s.kind
    FROM webhook_events.sources AS s JOIN pg_catalog.pg_class AS c ON c.oid OPERATOR(pg_catalog.=) s.relation
        JOIN pg_catalog.pg_namespace AS n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace
    ON CONFLICT DO NOTHING;

-- Who wrote the outbox is known by more than its numbers from now on.
UPDATE webhook_events_internal.origins
    SET system = (webhook_events_internal.current_place())[1]
    WHERE webhook_events_internal.has_own_outbox();
UPDATE webhook_events_internal.origins SET xid = xmin WHERE system IS NOT NULL;

-- Ad-hoc webhooks that were made after the end of their runs never retired.
INSERT INTO webhook_events_internal.runs_to_check (run_id)
    SELECT DISTINCT w.actor_run_id FROM webhook_events_internal.webhooks AS w
    WHERE w.is_ad_hoc AND w.is_enabled AND NOT w.run_ended AND w.actor_run_id IS NOT NULL;

SELECT webhook_events_internal.wake_worker();
