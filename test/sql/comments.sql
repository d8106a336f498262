-- Everything that a user can see says what it is.
CREATE EXTENSION webhook_events;
SELECT 'view ' || c.relname AS without_comment FROM pg_class AS c
WHERE c.relnamespace = 'webhook_events'::regnamespace AND c.relkind IN ('v', 'r')
    AND obj_description(c.oid, 'pg_class') IS NULL
UNION ALL
SELECT 'column ' || c.relname || '.' || a.attname
FROM pg_class AS c JOIN pg_attribute AS a ON a.attrelid = c.oid
WHERE c.relnamespace = 'webhook_events'::regnamespace AND c.relkind IN ('v', 'r')
    AND a.attnum > 0 AND NOT a.attisdropped AND col_description(c.oid, a.attnum) IS NULL
UNION ALL
SELECT 'function ' || p.oid::regprocedure FROM pg_proc AS p
WHERE p.pronamespace IN ('webhook_events'::regnamespace, 'webhook_events_internal'::regnamespace)
    AND obj_description(p.oid, 'pg_proc') IS NULL
UNION ALL
SELECT 'type ' || t.typname FROM pg_type AS t
WHERE t.typnamespace = 'webhook_events'::regnamespace AND t.typtype IN ('e', 'd')
    AND obj_description(t.oid, 'pg_type') IS NULL
UNION ALL
SELECT 'table ' || c.relname FROM pg_class AS c
WHERE c.relnamespace = 'webhook_events_internal'::regnamespace AND c.relkind IN ('r', 'p')
    AND obj_description(c.oid, 'pg_class') IS NULL
UNION ALL
SELECT 'schema ' || n.nspname FROM pg_namespace AS n
WHERE n.nspname LIKE 'webhook_events%' AND obj_description(n.oid, 'pg_namespace') IS NULL
UNION ALL
SELECT 'setting ' || s.name FROM pg_settings AS s
WHERE s.name LIKE 'webhook\_events.%' AND coalesce(s.short_desc, '') = ''
ORDER BY 1;
-- and the query would find what does not.
SELECT count(*) > 100 AS has_columns FROM pg_class AS c JOIN pg_attribute AS a ON a.attrelid = c.oid
WHERE c.relnamespace = 'webhook_events'::regnamespace AND a.attnum > 0
    AND col_description(c.oid, a.attnum) IS NOT NULL;
DROP EXTENSION webhook_events;
