--
-- Who may do what
--
-- A view shows what its reader may see: the two functions that tell are called
-- once for each query, so that conditions on ids still find their index and day.
--

CREATE VIEW webhook_events.webhooks WITH (security_barrier = true) AS
    SELECT * FROM webhook_events_internal.webhooks
    WHERE (SELECT webhook_events_internal.sees_all(true))
        OR user_id = (SELECT webhook_events_internal.own_user(true));
COMMENT ON VIEW webhook_events.webhooks IS
    'who wants which events where, and how the request looks';

-- An enum is never compared before the view's own condition, nor by an index, if the
-- query does it; a column that is true or false is.
CREATE VIEW webhook_events.dispatches WITH (security_barrier = true) AS
    SELECT id, event_id, webhook_id, user_id, event_type, status, created_at, finished_at, attempts,
        next_attempt_at, error_message, replay_of, order_key, holds_until, epoch,
        status = 'FAILED'::webhook_events.dispatch_status AS is_failed
    FROM webhook_events_internal.dispatches
    WHERE (SELECT webhook_events_internal.sees_all(false))
        OR user_id = (SELECT webhook_events_internal.own_user(false));
COMMENT ON VIEW webhook_events.dispatches IS
    'one event for one webhook, until it is delivered or given up';
COMMENT ON COLUMN webhook_events.dispatches.is_failed IS
    'whether status is FAILED, and quick to look for';

CREATE VIEW webhook_events.calls WITH (security_barrier = true) AS
    SELECT dispatch_id, attempt, started_at, finished_at, response_status, response_body,
        error_message, pg_catalog.regexp_replace(url,
            '^(?:([A-Za-z]+://)([^/?#]*@)?([^/?#]*))?.*$', E'\\1\\3') AS url, duration, address
    FROM webhook_events_internal.calls AS c
    WHERE (SELECT webhook_events_internal.sees_all(false))
        OR EXISTS (SELECT FROM webhook_events_internal.dispatches AS d WHERE d.id = c.dispatch_id
            AND d.user_id = (SELECT webhook_events_internal.own_user(false)));
COMMENT ON VIEW webhook_events.calls IS 'HTTP attempts of dispatches';

-- A path can be a secret as well: of a URL only its scheme and host are shown.
CREATE VIEW webhook_events.webhooks_masked WITH (security_barrier = true) AS
    SELECT id, user_id, is_enabled, is_ad_hoc, event_types, actor_id, actor_task_id,
        actor_run_id, pg_catalog.regexp_replace(request_url,
            '^(?:([A-Za-z]+://)([^/?#]*@)?([^/?#]*))?.*$', E'\\1\\3') AS request_url,
        should_interpolate_strings, ignore_ssl_errors, do_not_retry, description, max_rate,
        disabled_reason, is_retired, created_at, modified_at, turned, turned_there
    FROM webhook_events_internal.webhooks
    WHERE (SELECT webhook_events_internal.sees_all(false))
        OR user_id = (SELECT webhook_events_internal.own_user(false));
COMMENT ON VIEW webhook_events.webhooks_masked IS
    'webhooks without templates, secrets and what follows the host, for readers';

--
-- Accesses
--
-- The names of "offers" stand for views, and for documented functions whatever
-- their arguments; those without an access are for the extension's owner, who can
-- grant them one by one.
--

CREATE TABLE webhook_events_internal.offers (
    name text NOT NULL,
    accesses text[] NOT NULL,
    CONSTRAINT offers_pkey PRIMARY KEY (name)
);
COMMENT ON TABLE webhook_events_internal.offers IS
    'which accesses open which views and functions of schema webhook_events';
INSERT INTO webhook_events_internal.offers (name, accesses) VALUES
    ('webhooks', '{manager, tenant}'),
    ('webhooks_masked', '{reader, manager, tenant}'),
    ('events', '{reader, manager, tenant}'),
    ('dispatches', '{reader, manager, tenant}'),
    ('calls', '{reader, manager, tenant}'),
    ('sources', '{manager}'),
    ('id_time', '{reader, manager, tenant}'),
    ('id_lower_bound', '{reader, manager, tenant}'),
    ('create_webhook', '{manager, tenant}'),
    ('update_webhook', '{manager, tenant}'),
    ('enable_webhook', '{manager, tenant}'),
    ('disable_webhook', '{manager, tenant}'),
    ('delete_webhook', '{manager, tenant}'),
    ('create_ad_hoc_webhooks', '{manager, tenant}'),
    ('set_max_rate', '{manager, tenant}'),
    ('set_secret', '{manager, tenant}'),
    ('rotate_secret', '{manager, tenant}'),
    ('webhook_secret', '{manager, tenant}'),
    ('webhook_json', '{manager, tenant}'),
    ('dispatch_json', '{manager, tenant}'),
    ('webhooks_json', '{manager, tenant}'),
    ('dispatches_json', '{manager, tenant}'),
    ('preview', '{manager, tenant}'),
    ('explain_event', '{manager, tenant}'),
    ('explain_run', '{manager, tenant}'),
    ('backtest', '{manager, tenant}'),
    ('backtest_rows', '{manager, tenant}'),
    ('test_webhook', '{manager, tenant}'),
    ('redeliver', '{manager, tenant}'),
    ('replay', '{manager, tenant}'),
    ('status', '{monitor}'),
    ('deliveries', '{reader, manager, tenant}'),
    ('in_flight', '{reader, manager, tenant}'),
    ('hosts', '{reader, manager}'),
    ('webhook_health', '{reader, manager, tenant}'),
    ('stat_delivery', '{reader, manager, monitor}'),
    ('progress', '{reader, manager, monitor}'),
    ('replays', '{reader, manager, tenant}'),
    ('stat_reset', '{}'),
    ('metrics', '{monitor}'),
    ('report', '{reader, manager}'),
    ('pause', '{}'),
    ('resume', '{}'),
    ('audit', '{}'),
    ('attach', '{}'),
    ('detach', '{}'),
    ('grant_access', '{}'),
    ('revoke_access', '{}');

-- Not part of dumps: oids of roles mean nothing elsewhere, so in a restored copy
-- nobody has an access until it is granted again.
CREATE TABLE webhook_events_internal.grants (
    role oid NOT NULL,
    access text NOT NULL,
    user_id text,
    CONSTRAINT grants_pkey PRIMARY KEY (role, access)
);
COMMENT ON TABLE webhook_events_internal.grants IS
    'which accesses roles have, and of which user a tenant''s role is';

CREATE FUNCTION webhook_events_internal.grants_changed() RETURNS trigger
    LANGUAGE c AS 'MODULE_PATHNAME', 'webhook_events_grants_changed';
COMMENT ON FUNCTION webhook_events_internal.grants_changed() IS
    'has all sessions forget what roles may do';
REVOKE ALL ON FUNCTION webhook_events_internal.grants_changed() FROM PUBLIC;
CREATE TRIGGER changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE
    ON webhook_events_internal.grants
    FOR EACH STATEMENT EXECUTE FUNCTION webhook_events_internal.grants_changed();

CREATE FUNCTION webhook_events_internal.grant_objects(role regrole, access text) RETURNS void
    LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    object record;
BEGIN
    EXECUTE format('GRANT USAGE ON SCHEMA webhook_events TO %s', role);
    FOR object IN
        SELECT 'SELECT ON TABLE ' || c.oid::regclass AS privilege
        FROM pg_class AS c JOIN webhook_events_internal.offers AS o ON o.name = c.relname
        WHERE c.relnamespace = 'webhook_events'::regnamespace AND c.relkind = 'v'
            AND access = ANY (o.accesses)
        UNION ALL
        SELECT 'EXECUTE ON FUNCTION ' || p.oid::regprocedure
        FROM pg_proc AS p JOIN webhook_events_internal.offers AS o ON o.name = p.proname
        WHERE p.pronamespace = 'webhook_events'::regnamespace AND access = ANY (o.accesses)
        UNION ALL
        SELECT 'SELECT ON TABLE ' || c.oid::regclass FROM pg_class AS c
        WHERE c.relnamespace = 'webhook_events_internal'::regnamespace
            AND c.relkind IN ('r', 'p', 'S') AND access = 'dump'
        UNION ALL
        SELECT 'USAGE ON SCHEMA webhook_events_internal' WHERE access = 'dump'
    LOOP
        EXECUTE format('GRANT %s TO %s', object.privilege, role);
    END LOOP;
END
$function$;
COMMENT ON FUNCTION webhook_events_internal.grant_objects(regrole, text) IS
    'grants a role what an access opens';
REVOKE ALL ON FUNCTION webhook_events_internal.grant_objects(regrole, text) FROM PUBLIC;

-- A role has what it was granted and what "grants" says of it.  DROP OWNED BY takes the one
-- and leaves the other, which must not come back with the next access.
CREATE FUNCTION webhook_events_internal.forget_lost_grants() RETURNS void
    LANGUAGE sql VOLATILE
    SET search_path = pg_catalog, pg_temp
AS $function$
    DELETE FROM webhook_events_internal.grants AS g
    WHERE NOT EXISTS (SELECT FROM pg_roles AS r WHERE r.oid = g.role)
        OR NOT EXISTS (SELECT FROM pg_namespace AS n CROSS JOIN LATERAL aclexplode(n.nspacl) AS a
            WHERE n.nspname = 'webhook_events' AND a.grantee = g.role)
$function$;
COMMENT ON FUNCTION webhook_events_internal.forget_lost_grants() IS
    'forgets the accesses of roles that are gone, or have no right on our schema any more';
REVOKE ALL ON FUNCTION webhook_events_internal.forget_lost_grants() FROM PUBLIC;

CREATE FUNCTION webhook_events_internal.grant_access(role regrole, access text,
        user_id text DEFAULT NULL) RETURNS void
    LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp
AS $function$
BEGIN
    IF role IS NULL OR access IS NULL THEN
        RAISE EXCEPTION 'grant_access needs a role and an access'
            USING ERRCODE = 'null_value_not_allowed';
    END IF;
    IF access NOT IN ('reader', 'manager', 'tenant', 'monitor', 'dump') THEN
        RAISE EXCEPTION 'access "%" does not exist', access
            USING ERRCODE = 'invalid_parameter_value',
                HINT = webhook_events_internal.hint(access,
                    '{reader, manager, tenant, monitor, dump}', 'accesses');
    END IF;
    IF NOT EXISTS (SELECT FROM pg_roles AS r WHERE r.oid = role) THEN
        RAISE EXCEPTION 'role "%" does not exist', role USING ERRCODE = 'undefined_object';
    END IF;
    IF access = 'tenant' AND coalesce(user_id, '') = '' THEN
        RAISE EXCEPTION 'a tenant needs a user'
            USING ERRCODE = 'invalid_parameter_value',
                HINT = 'Say whose webhooks the role may see: user_id => ''...''.';
    END IF;
    IF access <> 'tenant' AND user_id IS NOT NULL THEN
        RAISE EXCEPTION 'access "%" is not limited to a user', access
            USING ERRCODE = 'invalid_parameter_value',
                HINT = 'Only a tenant has a user_id.';
    END IF;
    PERFORM webhook_events_internal.forget_lost_grants();
    INSERT INTO webhook_events_internal.grants AS g (role, access, user_id)
        VALUES (role, access, user_id)
        ON CONFLICT ON CONSTRAINT grants_pkey DO UPDATE SET user_id = excluded.user_id;
    PERFORM webhook_events_internal.grant_objects(role, access);
END
$function$;
COMMENT ON FUNCTION webhook_events_internal.grant_access(regrole, text, text) IS
    'gives a role an access: reader, manager, tenant (of a user), monitor or dump';
REVOKE ALL ON FUNCTION webhook_events_internal.grant_access(regrole, text, text) FROM PUBLIC;

CREATE FUNCTION webhook_events_internal.revoke_access(role regrole) RETURNS void
    LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    schema text;
    kind text;
BEGIN
    IF role IS NULL THEN
        RAISE EXCEPTION 'revoke_access needs a role' USING ERRCODE = 'null_value_not_allowed';
    END IF;
    IF NOT EXISTS (SELECT FROM pg_roles AS r WHERE r.oid = role) THEN
        RAISE EXCEPTION 'role "%" does not exist', role USING ERRCODE = 'undefined_object';
    END IF;
    DELETE FROM webhook_events_internal.grants AS g WHERE g.role = revoke_access.role;
    FOREACH schema IN ARRAY '{webhook_events, webhook_events_internal}'::text[] LOOP
        FOREACH kind IN ARRAY '{TABLES, SEQUENCES, FUNCTIONS}'::text[] LOOP
            EXECUTE format('REVOKE ALL ON ALL %s IN SCHEMA %I FROM %s', kind, schema, role);
        END LOOP;
        EXECUTE format('REVOKE ALL ON SCHEMA %I FROM %s', schema, role);
    END LOOP;
    -- It is no access to make partitions of a table of one's own.
    PERFORM webhook_events_internal.grant_triggers(s.relation) FROM webhook_events.sources AS s;
END
$function$;
COMMENT ON FUNCTION webhook_events_internal.revoke_access(regrole) IS
    'takes from a role all that it was granted of this extension';
REVOKE ALL ON FUNCTION webhook_events_internal.revoke_access(regrole) FROM PUBLIC;

-- PostgreSQL asks whoever makes a partition for this right, to copy the triggers of the
-- attached table, and so does TimescaleDB for a chunk.  Triggers of his own making are
-- refused all the same.
CREATE FUNCTION webhook_events_internal.grant_triggers(relation regclass) RETURNS void
    LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    trigger_function regprocedure;
    owner regrole;
BEGIN
    FOR trigger_function, owner IN
        SELECT DISTINCT t.tgfoid, c.relowner
        FROM pg_trigger AS t JOIN pg_class AS c ON c.oid = t.tgrelid
        WHERE t.tgrelid = grant_triggers.relation
            AND (c.relkind = 'p'
                OR EXISTS (SELECT FROM pg_extension AS e WHERE e.extname = 'timescaledb'))
            AND t.tgfoid IN ('webhook_events.run_changed()'::regprocedure,
                'webhook_events.build_changed()'::regprocedure)
            AND NOT has_function_privilege(c.relowner, t.tgfoid, 'EXECUTE')
    LOOP
        EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO %s', trigger_function, owner);
    END LOOP;
END
$function$;
COMMENT ON FUNCTION webhook_events_internal.grant_triggers(regclass) IS
    'lets the owner of an attached partitioned table make partitions';
REVOKE ALL ON FUNCTION webhook_events_internal.grant_triggers(regclass) FROM PUBLIC;

CREATE FUNCTION webhook_events_internal.refresh_grants() RETURNS void
    LANGUAGE sql VOLATILE
    SET search_path = pg_catalog, pg_temp
AS $function$
    SELECT webhook_events_internal.forget_lost_grants();
    SELECT webhook_events_internal.grant_objects(g.role, g.access)
    FROM webhook_events_internal.grants AS g;
    SELECT webhook_events_internal.grant_triggers(s.relation) FROM webhook_events.sources AS s;
$function$;
COMMENT ON FUNCTION webhook_events_internal.refresh_grants() IS
    'grants what accesses open of views, functions and tables that are new, and what owners of tables need';
REVOKE ALL ON FUNCTION webhook_events_internal.refresh_grants() FROM PUBLIC;

-- A new object takes what ALTER DEFAULT PRIVILEGES says; ours are nobody's but for
-- those who dump.
CREATE FUNCTION webhook_events_internal.revoke_all(object text, owner oid, privileges aclitem[])
    RETURNS void
    LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    grantee text;
BEGIN
    FOR grantee IN
        SELECT DISTINCT CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE a.grantee::regrole::text END
        FROM aclexplode(privileges) AS a WHERE a.grantee <> owner
    LOOP
        EXECUTE format('REVOKE ALL ON %s FROM %s', object, grantee);
    END LOOP;
END
$function$;
COMMENT ON FUNCTION webhook_events_internal.revoke_all(text, oid, aclitem[]) IS
    'takes an object with these privileges from everybody but its owner';
REVOKE ALL ON FUNCTION webhook_events_internal.revoke_all(text, oid, aclitem[]) FROM PUBLIC;

CREATE FUNCTION webhook_events_internal.own_table(relation regclass) RETURNS void
    LANGUAGE plpgsql VOLATILE STRICT
    SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    dumper text;
BEGIN
    PERFORM webhook_events_internal.revoke_all('TABLE ' || relation::text, c.relowner, c.relacl)
    FROM pg_class AS c WHERE c.oid = relation;
    FOR dumper IN
        SELECT r.oid::regrole
        FROM webhook_events_internal.grants AS g JOIN pg_roles AS r ON r.oid = g.role
        WHERE g.access = 'dump'
    LOOP
        EXECUTE format('GRANT SELECT ON TABLE %s TO %s', relation, dumper);
    END LOOP;
END
$function$;
COMMENT ON FUNCTION webhook_events_internal.own_table(regclass) IS
    'takes a new table from everybody but its owner and those who dump';
REVOKE ALL ON FUNCTION webhook_events_internal.own_table(regclass) FROM PUBLIC;

CREATE FUNCTION webhook_events_internal.own_objects() RETURNS void
    LANGUAGE sql VOLATILE
    SET search_path = pg_catalog, pg_temp
AS $function$
    SELECT webhook_events_internal.revoke_all(o.name, o.owner, o.privileges)
    FROM (
        SELECT format('SCHEMA %s', n.oid::regnamespace), n.nspowner, n.nspacl
        FROM pg_namespace AS n WHERE n.nspname = 'webhook_events_internal'
        UNION ALL
        SELECT format('%s %s', CASE c.relkind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END,
            c.oid::regclass), c.relowner, c.relacl
        FROM pg_class AS c
        WHERE c.relnamespace IN ('webhook_events'::regnamespace,
                'webhook_events_internal'::regnamespace)
            AND c.relkind IN ('r', 'p', 'S', 'v')
        UNION ALL
        SELECT format('FUNCTION %s', p.oid::regprocedure), p.proowner, p.proacl
        FROM pg_proc AS p
        WHERE p.pronamespace IN ('webhook_events'::regnamespace,
                'webhook_events_internal'::regnamespace)
            AND p.proname NOT IN ('sees_all', 'own_user', 'source_mapping')
    ) AS o (name, owner, privileges)
$function$;
COMMENT ON FUNCTION webhook_events_internal.own_objects() IS
    'takes the extension''s new objects from everybody but its owner';
REVOKE ALL ON FUNCTION webhook_events_internal.own_objects() FROM PUBLIC;

--
-- The door
--
-- A documented function is the door to the function of the same name and arguments
-- in webhook_events_internal, whose result, defaults and comment it has.  That runs
-- as its owner, with a search_path of ours, in the name of the role that called.
--

CREATE FUNCTION webhook_events_internal.make_doors() RETURNS void
    LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    behind record;
    door text;
BEGIN
    FOR behind IN
        SELECT p.oid, p.proname, pg_get_function_arguments(p.oid) AS arguments,
            pg_get_function_identity_arguments(p.oid) AS identity,
            replace(pg_get_function_result(p.oid), 'webhook_events_internal.',
                'webhook_events.') AS result,
            CASE p.provolatile WHEN 'v' THEN 'VOLATILE' WHEN 's' THEN 'STABLE'
                ELSE 'IMMUTABLE' END || CASE WHEN p.proisstrict THEN ' STRICT' ELSE '' END
                || CASE WHEN p.proretset THEN format(' ROWS %s', p.prorows) ELSE '' END
                AS properties,
            obj_description(p.oid, 'pg_proc') AS comment
        FROM pg_proc AS p JOIN webhook_events_internal.offers AS o ON o.name = p.proname
        WHERE p.pronamespace = 'webhook_events_internal'::regnamespace
        ORDER BY p.oid
    LOOP
        door := format('FUNCTION webhook_events.%I(%s)', behind.proname, behind.identity);
        EXECUTE format('CREATE OR REPLACE FUNCTION webhook_events.%I(%s) RETURNS %s'
            ' LANGUAGE c %s AS ''MODULE_PATHNAME'', ''webhook_events_door''',
            behind.proname, behind.arguments, behind.result, behind.properties);
        EXECUTE format('COMMENT ON %s IS %L', door, behind.comment);
        EXECUTE format('REVOKE ALL ON %s FROM PUBLIC', door);
    END LOOP;
END
$function$;
COMMENT ON FUNCTION webhook_events_internal.make_doors() IS
    'makes the documented functions of those that are behind them';
REVOKE ALL ON FUNCTION webhook_events_internal.make_doors() FROM PUBLIC;
SELECT webhook_events_internal.make_doors();

-- It becomes part of the query that calls it, and stops with that query's LIMIT.
CREATE FUNCTION webhook_events.backtest(webhook_id text, since timestamptz,
        until timestamptz DEFAULT pg_catalog.now())
    RETURNS TABLE (event_id text, created_at timestamptz,
        event_type webhook_events.event_type, fires boolean, reason text, body text)
    LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT (b.r).event_id, (b.r).created_at, (b.r).event_type, (b.r).fires, (b.r).reason,
        (b.r).body
    FROM (SELECT webhook_events.backtest_rows(webhook_id, since, until) AS r) AS b;
END;
COMMENT ON FUNCTION webhook_events.backtest(text, timestamptz, timestamptz) IS
    'what a webhook, were it enabled, would have sent for past events; LIMIT makes it cheap';
REVOKE ALL ON FUNCTION webhook_events.backtest(text, timestamptz, timestamptz) FROM PUBLIC;

-- Then those who have an access already, before an update, get it back.
SELECT webhook_events_internal.own_objects();
SELECT webhook_events_internal.refresh_grants();

CREATE FUNCTION webhook_events_internal.announce() RETURNS void
    LANGUAGE c VOLATILE
    AS 'MODULE_PATHNAME', 'webhook_events_announce';
COMMENT ON FUNCTION webhook_events_internal.announce() IS
    'tells the launcher, at commit, that this database has the extension';
REVOKE ALL ON FUNCTION webhook_events_internal.announce() FROM PUBLIC;
SELECT webhook_events_internal.announce();
