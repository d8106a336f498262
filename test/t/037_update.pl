# 037_update.pl
#	  From version 1.0.0 to this one: what waits is kept and sent, and afterwards
#	  the catalog is that of a fresh installation.  Until the update is run the
#	  platform's writes are recorded and nothing is sent.

use strict;
use warnings;
use File::Basename qw(dirname);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use WebhookEvents::Node;
use WebhookEvents::Receiver;

my $receiver = WebhookEvents::Receiver->new;
my $node = new_node('main');

sub query { return $node->safe_psql('updated', $_[0]); }

# Every object of the extension and of its days, as text that doesn't depend on
# OIDs, on when it was made, nor on the order in which it was.
my $catalog = q{
SET search_path = pg_catalog;
SELECT o.kind || ' ' || o.name || E'\n' || coalesce(o.text, '') FROM (
	SELECT 'function', p.oid::regprocedure::text, concat_ws(E'\n', CASE p.prokind WHEN 'f' THEN pg_get_functiondef(p.oid) END,
		obj_description(p.oid, 'pg_proc'), (SELECT string_agg(concat_ws(' ', x.grantee::regrole, x.privilege_type, x.is_grantable), ', ' ORDER BY x.grantee, x.privilege_type) FROM aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) AS x WHERE x.grantee <> p.proowner), p.proowner::regrole)
	FROM pg_proc AS p WHERE p.pronamespace::regnamespace::text ~ '^webhook_events'
	UNION ALL
	SELECT 'relation', c.oid::regclass::text, concat_ws(E'\n', c.relkind, c.relowner::regrole, (SELECT string_agg(concat_ws(' ', x.grantee::regrole, x.privilege_type, x.is_grantable), ', ' ORDER BY x.grantee, x.privilege_type) FROM aclexplode(coalesce(c.relacl, acldefault('r', c.relowner))) AS x WHERE x.grantee <> c.relowner),
		c.reloptions, c.relrowsecurity, c.relreplident, obj_description(c.oid, 'pg_class'),
		pg_get_expr(c.relpartbound, c.oid), CASE c.relkind WHEN 'v' THEN pg_get_viewdef(c.oid) END,
		(SELECT string_agg(concat_ws(' ', a.attname, format_type(a.atttypid, a.atttypmod),
			a.attnotnull, a.attcollation::regcollation, pg_get_expr(d.adbin, d.adrelid),
			a.attacl, a.attstorage, a.attidentity, col_description(c.oid, a.attnum)), E'\n' ORDER BY a.attnum)
		FROM pg_attribute AS a LEFT JOIN pg_attrdef AS d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
		WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped))
	FROM pg_class AS c WHERE c.relnamespace::regnamespace::text ~ '^webhook_events' AND c.relkind <> 'i'
	UNION ALL
	SELECT 'index', i.indexrelid::regclass::text, concat_ws(E'\n', pg_get_indexdef(i.indexrelid),
		i.indisunique, i.indisprimary, i.indisreplident, obj_description(i.indexrelid, 'pg_class'))
	FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indexrelid
	WHERE c.relnamespace::regnamespace::text ~ '^webhook_events'
		-- The maintenance process may have indexed a day that is over.
		AND (c.relname !~ '^[a-z]+_[0-9]{8}_[a-z]+$' OR c.relname ~ 'pkey$')
	UNION ALL
	SELECT 'constraint', n.conrelid::regclass || ' ' || n.conname, pg_get_constraintdef(n.oid)
	FROM pg_constraint AS n WHERE n.connamespace::regnamespace::text ~ '^webhook_events'
	UNION ALL
	SELECT 'trigger', t.tgrelid::regclass || ' ' || t.tgname, concat_ws(E'\n', pg_get_triggerdef(t.oid), t.tgenabled)
	FROM pg_trigger AS t JOIN pg_class AS c ON c.oid = t.tgrelid
	WHERE c.relnamespace::regnamespace::text ~ '^webhook_events' AND NOT t.tgisinternal
	UNION ALL
	SELECT 'policy', p.polrelid::regclass || ' ' || p.polname, pg_get_expr(p.polqual, p.polrelid)
	FROM pg_policy AS p JOIN pg_class AS c ON c.oid = p.polrelid
	WHERE c.relnamespace::regnamespace::text ~ '^webhook_events'
	UNION ALL
	SELECT 'schema', n.nspname, concat_ws(E'\n', (SELECT string_agg(concat_ws(' ', x.grantee::regrole, x.privilege_type, x.is_grantable), ', ' ORDER BY x.grantee, x.privilege_type) FROM aclexplode(coalesce(n.nspacl, acldefault('n', n.nspowner))) AS x WHERE x.grantee <> n.nspowner), n.nspowner::regrole, obj_description(n.oid, 'pg_namespace'))
	FROM pg_namespace AS n WHERE n.nspname ~ '^webhook_events'
	UNION ALL
	SELECT 'type', t.oid::regtype::text, concat_ws(E'\n', t.typacl, obj_description(t.oid, 'pg_type'),
		(SELECT string_agg(e.enumlabel, ' ' ORDER BY e.enumsortorder) FROM pg_enum AS e WHERE e.enumtypid = t.oid))
	FROM pg_type AS t WHERE t.typnamespace::regnamespace::text ~ '^webhook_events' AND t.typtype = 'e'
	UNION ALL
	SELECT 'member', identity.type, identity.identity
	FROM pg_depend AS d CROSS JOIN LATERAL pg_identify_object(d.classid, d.objid, 0) AS identity
	WHERE d.deptype = 'e' AND d.refclassid = 'pg_extension'::regclass
		AND d.refobjid = (SELECT oid FROM pg_extension WHERE extname = 'webhook_events')
	UNION ALL
	SELECT 'dumped', c.relation::regclass::text, c.condition
	FROM pg_extension AS e CROSS JOIN LATERAL unnest(e.extconfig, e.extcondition) AS c (relation, condition)
	WHERE e.extname = 'webhook_events'
) AS o (kind, name, text)
ORDER BY o.kind COLLATE "C", o.name COLLATE "C", o.text COLLATE "C"};

# Version 1.0.0 as its users have it: tables attached, a webhook, events routed
# and not, a dispatch that waits, a day's table, all as its own attach() and
# worker wrote them.
$node->safe_psql('postgres', 'CREATE DATABASE updated');
$node->safe_psql('postgres', 'CREATE DATABASE fresh');
$node->safe_psql('fresh', 'CREATE EXTENSION webhook_events');
query(q{CREATE EXTENSION webhook_events VERSION '1.0.0'});
query(slurp_file(dirname(__FILE__) . '/../platform.sql'));
query(q{
DO $$
DECLARE
    source record;
    operation text;
BEGIN
    FOR source IN SELECT 'actor_runs'::regclass AS relation, 'run_changed' AS function, '"actor_task_id": ["actor_task_id", 4], ' AS task
        UNION ALL SELECT 'actor_builds', 'build_changed', ''
    LOOP
        FOREACH operation IN ARRAY ARRAY['insert', 'update'] LOOP
            EXECUTE format('CREATE TRIGGER webhook_events_%s AFTER %1$s ON %s FOR EACH ROW %s EXECUTE FUNCTION webhook_events.%I(%L)',
                operation, source.relation,
                CASE operation WHEN 'update' THEN 'WHEN (OLD.status IS DISTINCT FROM NEW.status)' END, source.function,
                format('{"database": %s, "relation": %s, "columns": {"id": ["id", 1], "actor_id": ["actor_id", 2], %s"user_id": ["user_id", 3], "status": ["status", %s]}, "exclude": []}',
                    (SELECT oid FROM pg_database WHERE datname = current_database()), source.relation::oid, source.task,
                    (SELECT attnum FROM pg_attribute WHERE attrelid = source.relation AND attname = 'status')));
        END LOOP;
    END LOOP;
END
$$;
INSERT INTO webhook_events.origins (database, outbox)
    SELECT oid, 'webhook_events.outbox'::regclass FROM pg_database WHERE datname = current_database();
SELECT webhook_events.create_days(today - 1, today + 3) FROM (SELECT (now() AT TIME ZONE 'UTC')::date) AS t (today);
});
query(sprintf q{ALTER TABLE webhook_events.webhooks DISABLE TRIGGER USER;
INSERT INTO webhook_events.webhooks (id, event_types, request_url) VALUES ('0kept0kept0kept00', '{ACTOR.RUN.CREATED}', '%s');
ALTER TABLE webhook_events.webhooks ENABLE TRIGGER USER}, $receiver->url('/ok'));

# One event that was routed, whose dispatch waits for a retry that is due.
query(q{INSERT INTO actor_runs (id) VALUES ('routed')});
query(q{
INSERT INTO webhook_events.dispatches (id, event_id, webhook_id, event_type, status, created_at, attempts, next_attempt_at)
    SELECT webhook_events.dispatch_id(id, '0kept0kept0kept00'), id, '0kept0kept0kept00', event_type, 'ACTIVE', now(), 1, now() FROM webhook_events.outbox;
INSERT INTO webhook_events.calls (dispatch_id, attempt, started_at, finished_at, response_status)
    SELECT id, 1, now(), now(), 500 FROM webhook_events.dispatches;
INSERT INTO webhook_events.cursors (number, window_to) VALUES (1, pg_current_snapshot())});
query(q{INSERT INTO actor_runs (id) VALUES ('waiting')});

wait_for_sql($node, q{SELECT reason LIKE '%ALTER EXTENSION webhook_events UPDATE%' FROM webhook_events.status()}, 't', 'updated');
is(query('SELECT count(*) FROM webhook_events.outbox'), 2, 'writes are recorded while the library is newer than the tables');
is(scalar $receiver->requests, 0, 'nothing is sent meanwhile');

# Whoever defines webhooks goes on as well, in the tables that there are.
query(q{CREATE ROLE manages; CREATE ROLE reads; CREATE ROLE monitors;
SELECT webhook_events.grant_access('manages', 'manager'), webhook_events.grant_access('reads', 'reader');
GRANT INSERT ON actor_runs TO manages;
GRANT USAGE ON SCHEMA webhook_events TO monitors;
GRANT EXECUTE ON FUNCTION webhook_events.status() TO monitors});
my $ad_hoc = $receiver->url('/ok?ad_hoc');
query(qq{SET ROLE manages; BEGIN; INSERT INTO actor_runs (id) VALUES ('with ad-hoc');
SELECT webhook_events.create_ad_hoc_webhooks('with ad-hoc', '[{"eventTypes": ["ACTOR.RUN.CREATED"], "requestUrl": "$ad_hoc"}]'::jsonb); COMMIT});
my $disabled = query("SET ROLE manages; SELECT id FROM webhook_events.create_webhook('" . $receiver->url('/ok?disabled') . "', '{ACTOR.RUN.CREATED}')");
query(qq{INSERT INTO webhook_events.dispatches (id, event_id, webhook_id, event_type, status, created_at, attempts, next_attempt_at)
	SELECT webhook_events.dispatch_id(min(id), '$disabled'), min(id), '$disabled', 'ACTOR.RUN.CREATED', 'ACTIVE', now(), 1, now() FROM webhook_events.outbox});
is(query(qq{SET ROLE manages; SELECT length(webhook_events.rotate_secret('$disabled', '1 h')) > 0;
	SELECT (webhook_events.set_max_rate('$disabled', 5)).max_rate; SELECT (webhook_events.disable_webhook('$disabled')).is_enabled}), "t\n5\nf",
	'webhooks are changed while the library is newer than the tables');
is(query(qq{SET ROLE manages; SELECT webhook_events.delete_webhook((webhook_events.create_webhook('http://127.0.0.1/', '{ACTOR.RUN.CREATED}')).id);
	SELECT count(*) FROM webhook_events.webhooks}), "\n3", 'and deleted');
like((try_psql($node, 'updated', "SET ROLE reads; SELECT webhook_events.create_webhook('http://127.0.0.1/', '{ACTOR.RUN.CREATED}')"))[2],
	qr/permission denied/, 'by managers alone');
foreach my $call ("attach('actor_runs')", "detach('actor_runs')", "preview('$disabled', (SELECT min(id) FROM webhook_events.outbox))")
{
	like((try_psql($node, 'updated', "SELECT webhook_events.$call"))[2],
		qr/extension "webhook_events" is not of version \S+ as its library is\nHINT:  Run ALTER EXTENSION webhook_events UPDATE/,
		$call =~ s/\(.*//r . '() asks for the update');
}

# A dump of the older version is restored to that, and then updated.
my $dump = PostgreSQL::Test::Utils::tempdir() . '/dump';
$node->command_ok([ 'pg_dump', '-Fc', '-f', $dump, 'updated' ], 'the older version is dumped');
$node->safe_psql('postgres', 'CREATE DATABASE restored');
$node->safe_psql('restored', "CREATE EXTENSION webhook_events VERSION '1.0.0'");
$node->command_checks_all([ 'pg_restore', '-d', $node->connstr('restored'), $dump ], 1, [], [ qr/schema "webhook_events" already exists.*errors ignored on restore: 1$/s ],
	'and restored where it was created before');
$node->safe_psql('restored', 'ALTER EXTENSION webhook_events UPDATE');
my $rows = q{SELECT (SELECT count(*) FROM webhook_events.webhooks), (SELECT count(*) FROM webhook_events.events), (SELECT count(*) FROM webhook_events.dispatches)};
is($node->safe_psql('restored', $rows), query($rows), 'with all that it had');
wait_for_sql($node, q{SELECT reason LIKE '%recorded in another database%' FROM webhook_events.status()}, 't', 'restored');

# The dependent view of somebody is none of our business.
query('CREATE VIEW mine AS SELECT id, event_type FROM webhook_events.events WHERE id > webhook_events.id_lower_bound(now())');
query('ALTER EXTENSION webhook_events UPDATE');
wait_for_sql($node, "SELECT count(*) FROM webhook_events.dispatches WHERE status = 'SUCCEEDED'", 4, "updated");
$receiver->wait_for_requests(4);
is(query("SELECT count(*) FROM webhook_events.dispatches WHERE webhook_id = '$disabled' AND status = 'ACTIVE'"), 0, 'nothing waits for what was disabled');
query(q{INSERT INTO actor_runs (id) VALUES ('after')});
$receiver->wait_for_requests(5);
wait_for_sql($node, "SELECT count(*) FROM webhook_events.dispatches WHERE status = 'SUCCEEDED'", 5, 'updated');
is(scalar $receiver->requests, 5, 'what waited is sent once, and what comes afterwards');
is(query('SELECT count(*) FROM webhook_events.calls'), 6, 'the calls of before are kept');

is(query("SELECT string_agg(concat_ws(' ', schema_name, table_name, kind), ', ' ORDER BY kind) FROM webhook_events_internal.attached"),
	'public actor_builds build, public actor_runs run', 'attached tables are known');
is(query("SELECT string_agg(problem, ', ') FROM webhook_events.audit('-infinity')"), '', 'nothing is missing');
is(query('SELECT string_agg(role::regrole || \' \' || access, \', \' ORDER BY access) FROM webhook_events_internal.grants'),
	'manages manager, monitors monitor, reads reader', 'roles keep the access that they had');
is(query(q{SELECT count(*) FROM pg_class AS c CROSS JOIN LATERAL aclexplode(c.relacl) AS a
	WHERE c.relnamespace = 'webhook_events_internal'::regnamespace AND a.grantee <> c.relowner}), 0, 'nobody has a privilege on a table');
is(query('SET ROLE manages; SELECT count(*) FROM webhook_events.dispatches; SELECT webhook_events.delete_webhook(id) FROM webhook_events.webhooks WHERE false'),
	6, 'a manager sees and may do what he did');
query("SELECT webhook_events.revoke_access('manages'), webhook_events.revoke_access('reads'), webhook_events.revoke_access('monitors')");

# Days are not the extension's own objects, but they look alike as well.
$node->safe_psql('fresh', q{SELECT webhook_events_internal.create_days(today - 1, today + 3) FROM (SELECT (now() AT TIME ZONE 'UTC')::date) AS t (today)});
my ($updated, $fresh) = map { $node->safe_psql($_, $catalog) =~ s/\b(?:actor_runs|actor_builds)\b.*\n//gr } 'updated', 'fresh';
if (!is($updated eq $fresh, 1, 'the catalog is that of a fresh installation'))
{
	my $directory = PostgreSQL::Test::Utils::tempdir();

	append_to_file("$directory/updated", $updated);
	append_to_file("$directory/fresh", $fresh);
	diag(scalar `diff -u $directory/fresh $directory/updated`);
}
is($node->safe_psql('updated', q{SELECT extversion = (SELECT default_version FROM pg_available_extensions WHERE name = 'webhook_events')
	FROM pg_extension WHERE extname = 'webhook_events'}), 't', 'the version is this one');

done_testing();
