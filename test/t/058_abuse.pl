# 058_abuse.pl
#	  What a role can do within its rights at the cost of others: names without
#	  end, tables that fail or are locked when others ask, objects that hang on
#	  tables of days, arguments that nobody wrote, objects that were there first.

use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use WebhookEvents::Node;

my $node = new_node('abuse', conf => "webhook_events.databases = 'postgres'\nlog_statement = none\n");
my $url = 'http://127.0.0.1:1/';

create_platform($node);

sub query { return $node->safe_psql('postgres', $_[0]); }

# Runs SQL as a role: what it prints, or its error with what follows.
sub as
{
	my ($role, $sql, $database) = @_;
	my ($status, $stdout, $stderr) = $node->psql($database // 'postgres', "\\set VERBOSITY verbose\n$sql",
		extra_params => [ '-U', $role ]);

	return $status == 0 && $stderr !~ /ERROR/ ? $stdout : $stderr =~ /ERROR:  (.*)/s ? $1 : $stderr;
}

query(<<'SQL');
CREATE ROLE manager LOGIN; CREATE ROLE monitor LOGIN; CREATE ROLE dumper LOGIN; CREATE ROLE tenant_a LOGIN; CREATE ROLE mallory LOGIN;
CREATE ROLE all_reader LOGIN; GRANT pg_read_all_data TO all_reader;
SELECT webhook_events.grant_access('manager', 'manager');
SELECT webhook_events.grant_access('monitor', 'monitor');
SELECT webhook_events.grant_access('dumper', 'dump');
SELECT webhook_events.grant_access('tenant_a', 'tenant', 'a');
CREATE SCHEMA mine AUTHORIZATION mallory;
GRANT USAGE ON SCHEMA webhook_events TO mallory;
GRANT EXECUTE ON FUNCTION webhook_events.attach, webhook_events.detach TO mallory;
CREATE SCHEMA work; GRANT CREATE, USAGE ON SCHEMA work TO dumper, all_reader;
SQL
my $webhook = as('tenant_a', "SELECT id FROM webhook_events.create_webhook('$url', '{ACTOR.RUN.FAILED}', is_enabled => false)");

# Whatever is kept of a webhook has an end, and the error says which.
my %too_long = (
	"actor_id => repeat('x', 256)" => 'actor_id of a webhook has 256 characters, more than 255',
	"actor_task_id => repeat('x', 10000000), actor_id => 'a'" => 'actor_task_id of a webhook has 10000000 characters, more than 255',
	"actor_run_id => repeat('x', 256), is_ad_hoc => true" => 'actor_run_id of a webhook has 256 characters, more than 255',
	"user_id => repeat('x', 256)" => 'user_id of a webhook has 256 characters, more than 255',
	"idempotency_key => repeat('x', 129)" => 'idempotency key has 129 characters, more than 128',
	"description => repeat('x', 321)" => 'description has 321 characters, more than 320',
	"payload_template => repeat(' ', 1000001)" => 'payload template has 1000001 characters, more than 1000000',
	q{headers_template => format('{"X": "%s"}', repeat('y', 40000))} => 'headers template is not valid: headers are longer than 32768 bytes');
foreach my $argument (sort keys %too_long)
{
	like(as('manager', "SELECT id FROM webhook_events.create_webhook('$url', '{ACTOR.RUN.FAILED}', $argument)"),
		qr/^(?:54000|22023): \Q$too_long{$argument}\E\n/, "refused: $too_long{$argument}");
}
like(as('tenant_a', "SELECT id FROM webhook_events.create_webhook('$url', array_fill('ACTOR.RUN.FAILED'::webhook_events.event_type, ARRAY[13]))"),
	qr/^54000: webhook has 13 event types, more than the 12 that there are/, 'nor more event types than there are');
like(as('tenant_a', "SELECT webhook_events.update_webhook('$webhook', jsonb_build_object($_))"), qr/^54000: /, "nor by a change: $_")
  foreach "'condition', jsonb_build_object('actorId', repeat('x', 256))", "'actionType', repeat('x', 256)",
  "'eventTypes', (SELECT jsonb_agg('ACTOR.RUN.FAILED'::text) FROM generate_series(1, 13))";
like(as('tenant_a', "SELECT webhook_events.create_ad_hoc_webhooks(repeat('x', 256), '[{\"requestUrl\": \"$url\", \"eventTypes\": [\"ACTOR.RUN.FAILED\"]}]'::jsonb)"), qr/^54000: actor_run_id/, 'nor for a run of such a name');
like(as('tenant_a', "SELECT webhook_events.set_secret('$webhook', 'whsec_' || encode(convert_to(repeat('x', 65), 'UTF8'), 'base64'))"), qr/^22023: secret must have 24 to 64 bytes/, 'nor a longer secret');
is(as('tenant_a', "SELECT length((webhook_events.update_webhook('$webhook', jsonb_build_object('condition', jsonb_build_object('actorId', repeat('x', 255))))).actor_id)"), '255', 'what is no longer is taken');
query("ALTER TABLE webhook_events_internal.webhooks DISABLE TRIGGER check_on_update; UPDATE webhook_events_internal.webhooks SET actor_id = repeat('x', 300) WHERE id = '$webhook'; ALTER TABLE webhook_events_internal.webhooks ENABLE TRIGGER check_on_update");
is(as('tenant_a', "SELECT is_enabled FROM webhook_events.enable_webhook('$webhook')"), 't', 'and what an earlier version took can be enabled as before');

# Who owns an attached table decides for nobody else whether a row is found: neither by
# what he made of it, nor by a lock.
query("INSERT INTO actor_runs (id, actor_id, user_id, status, finished_at) VALUES ('run-a', 'x', 'a', 'SUCCEEDED', now() - interval '1 minute')");
query('CREATE ROLE stranger LOGIN; GRANT USAGE ON SCHEMA webhook_events, mine TO stranger; GRANT EXECUTE ON FUNCTION webhook_events.attach, webhook_events.detach TO stranger');
is(as('mallory', <<'SQL'), '||||', 'an owner attaches tables that will fail');
CREATE TYPE mine.state AS ENUM ('SUCCEEDED');
CREATE TABLE mine.cast_runs (id text, actor_id text, status mine.state, user_id text, finished_at timestamptz DEFAULT now() - interval '1 minute');
CREATE TABLE mine.policy_runs (id text, actor_id text, status text, user_id text, finished_at timestamptz DEFAULT now() - interval '1 minute');
CREATE TABLE mine.cancelling_runs (id text, actor_id text, status text, user_id text, finished_at timestamptz DEFAULT now() - interval '1 minute');
CREATE TABLE mine.asserting_runs (id text, actor_id text, status text, user_id text, finished_at timestamptz DEFAULT now() - interval '1 minute');
CREATE TABLE mine.locked_runs (id text, actor_id text, status text, user_id text, finished_at timestamptz DEFAULT now() - interval '1 minute');
SELECT webhook_events.attach('mine.cast_runs'), webhook_events.attach('mine.policy_runs'), webhook_events.attach('mine.cancelling_runs'),
	webhook_events.attach('mine.asserting_runs'), webhook_events.attach('mine.locked_runs');
INSERT INTO mine.cast_runs VALUES ('c', 'x', 'SUCCEEDED', 'a'); INSERT INTO mine.policy_runs VALUES ('p', 'x', 'SUCCEEDED', 'a');
INSERT INTO mine.cancelling_runs VALUES ('n', 'x', 'SUCCEEDED', 'a'); INSERT INTO mine.asserting_runs VALUES ('s', 'x', 'SUCCEEDED', 'a');
CREATE FUNCTION mine.fail() RETURNS text LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'not today'; END $$;
CREATE FUNCTION mine.state_text(mine.state) RETURNS text LANGUAGE sql AS 'SELECT mine.fail()';
CREATE CAST (mine.state AS text) WITH FUNCTION mine.state_text(mine.state) AS ASSIGNMENT;
ALTER TABLE mine.policy_runs ENABLE ROW LEVEL SECURITY; ALTER TABLE mine.policy_runs FORCE ROW LEVEL SECURITY;
CREATE POLICY p ON mine.policy_runs USING (mine.fail() IS NULL);
-- What no handler catches: as if the caller's statement had been cancelled, or was wrong.
CREATE FUNCTION mine.cancel() RETURNS text LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'canceling statement due to user request' USING ERRCODE = 'query_canceled'; END $$;
CREATE FUNCTION mine.claim() RETURNS text LANGUAGE plpgsql SET plpgsql.check_asserts = on AS $$ BEGIN ASSERT false; RETURN NULL; END $$;
ALTER TABLE mine.cancelling_runs ENABLE ROW LEVEL SECURITY; ALTER TABLE mine.cancelling_runs FORCE ROW LEVEL SECURITY;
ALTER TABLE mine.asserting_runs ENABLE ROW LEVEL SECURITY; ALTER TABLE mine.asserting_runs FORCE ROW LEVEL SECURITY;
CREATE POLICY p ON mine.cancelling_runs USING (mine.cancel() IS NULL);
CREATE POLICY p ON mine.asserting_runs USING (mine.claim() IS NULL);
SQL

# Those that are looked at before the platform's own.
query("SELECT webhook_events.detach('actor_runs'), webhook_events.attach('actor_runs')");
my $owner = $node->background_psql('postgres', on_error_stop => 1, extra_params => [ '-U', 'mallory' ]);
$owner->query_safe('BEGIN; LOCK TABLE mine.locked_runs');
like(as('tenant_a', "SELECT webhook_events.test_webhook('$webhook', 'run-a')"), qr/^\w{17}$/, 'a test finds its run behind tables that fail or are locked');
is(as('tenant_a', "SELECT webhook_events.test_webhook('$webhook', 'none')") =~ s/LOCATION.*//sr, qq{P0002: no attached table has a run or build "none"\n}, 'a tenant is not told of them');
like(as('manager', "SELECT webhook_events.test_webhook('$webhook', 'none')"), qr/^P0002: .*\nDETAIL:  Table mine\.\w+ can't be read: /, 'a manager is');
like(as('tenant_a', "SELECT count(*) FROM webhook_events.explain_run('run-a')"), qr/^[1-9]\d*$/, 'a run is explained');
like(as('manager', "SELECT string_agg(what, ' ') FROM webhook_events.explain_run('run-a')"), qr/not read/, 'a manager is told what was not read');
# Whoever waits for a lock holds up all who come behind.
like(as('stranger', "SET lock_timeout = '10s'; SELECT webhook_events.$_('mine.locked_runs')"), qr/^42501: /, "who owns no table does not wait to $_ it") foreach qw(attach detach);
is(as('monitor', 'SELECT running IS NOT NULL FROM webhook_events.status()'), 't', 'the status comes');
is(as('manager', q{SELECT string_agg(relation::text, ' ') FROM webhook_events.sources WHERE columns IS NULL}), 'mine.locked_runs', 'sources says which table is locked');
is(query(q{SELECT string_agg(relation || ': ' || problem, ', ' ORDER BY relation::text) FROM webhook_events.audit(now() - interval '1 hour') WHERE problem LIKE 'table %'}),
	"mine.asserting_runs: table can't be read: assertion failed, mine.cancelling_runs: table can't be read: canceling statement due to user request,"
	  . " mine.locked_runs: table can't be read: it is locked, mine.policy_runs: table can't be read: not today",
	'audit() tells which tables it could not read, and goes on');
query("CREATE OR REPLACE FUNCTION mine.cancel() RETURNS text LANGUAGE sql AS 'SELECT pg_sleep(1000)::text'");
sql_fails($node, "SET statement_timeout = '1s'; SELECT * FROM webhook_events.audit(now() - interval '1 hour')", qr/57014: canceling statement due to statement timeout/, 'whom a timeout ends as any statement');
query('DROP POLICY p ON mine.cancelling_runs');
$owner->query_safe('COMMIT');
$owner->quit;
is(as('manager', q{SELECT count(*) FROM webhook_events.sources WHERE columns IS NULL}), 0, 'a lock that is gone leaves nothing');

# Who reads the tables of days can make something that depends on them: it keeps the table,
# but not what is in it.
my $yesterday = query("SELECT to_char((now() AT TIME ZONE 'UTC')::date - 1, 'YYYYMMDD')");
my $day = "to_date('$yesterday', 'YYYYMMDD')";
query("SELECT webhook_events_internal.create_days($day, $day)");
is(as('dumper', "CREATE TABLE work.column_of (x webhook_events_internal.outbox_$yesterday)"), '', 'a role that dumps makes a column of a day\'s type');
is(as('all_reader', "CREATE VIEW work.view_of AS SELECT * FROM webhook_events_internal.calls_$yesterday; CREATE FUNCTION work.f(webhook_events_internal.dispatches_$yesterday) RETURNS int LANGUAGE sql AS 'SELECT 1'"), '', 'one that reads all data a view and a function');
my $days = "SELECT string_agg(relname, ' ' ORDER BY relname) FROM pg_class WHERE relkind = 'r' AND relname ~ '_$yesterday\$'";
query("INSERT INTO webhook_events_internal.calls_$yesterday (dispatch_id, attempt, started_at, finished_at) VALUES (webhook_events.id_lower_bound(now() - interval '1 day'), 1, now(), now())")
  if $yesterday eq query("SELECT to_char((now() AT TIME ZONE 'UTC')::date - 1, 'YYYYMMDD')");
is(query("SELECT webhook_events_internal.drop_day('calls', $day) IS NULL"), 't', 'one that can not be dropped');
is(query("SELECT count(*) FROM webhook_events_internal.calls_$yesterday"), 0, 'is emptied');
sql_fails($node, "SELECT webhook_events_internal.drop_days($day + 1)",
	qr/ERROR:  2BP01: table webhook_events_internal\.\w+_$yesterday is kept, and empty, because others depend on it: \w+ /, 'none of these can be dropped, which is said');
is(query($days), "calls_$yesterday dispatches_$yesterday outbox_$yesterday", 'they are there');
query('DROP SCHEMA work CASCADE');
is(query("SELECT webhook_events_internal.drop_days($day + 1)"), 3, 'when nothing depends on them any more they go');

# No mode of LOCK but the one that any reader takes, on no view, by nobody; and nothing
# waits for a lock that SQL can name.
query(<<'SQL');
CREATE ROLE reader LOGIN; CREATE ROLE nobody LOGIN;
SELECT webhook_events.grant_access('reader', 'reader');
CREATE FUNCTION public.locks_taken() RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	taken text[] := '{}';
	mode text;
	view regclass;
BEGIN
	FOR view IN SELECT c.oid FROM pg_class AS c WHERE c.relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = 'webhook_events') AND c.relkind = 'v' LOOP
		FOREACH mode IN ARRAY '{ROW SHARE, ROW EXCLUSIVE, SHARE UPDATE EXCLUSIVE, SHARE, SHARE ROW EXCLUSIVE, EXCLUSIVE, ACCESS EXCLUSIVE}'::text[] LOOP
			BEGIN
				EXECUTE format('LOCK TABLE %s IN %s MODE', view, mode);
				taken := taken || format('%s of %s', mode, view);
			EXCEPTION WHEN insufficient_privilege THEN NULL;
			END;
		END LOOP;
	END LOOP;
	RETURN array_to_string(taken, ', ');
END $$;
SQL
foreach my $role (qw(nobody reader manager monitor dumper tenant_a mallory all_reader))
{
	is(as($role, 'SELECT public.locks_taken()'), '', "$role takes no lock that others wait for");
}
like(as('manager', "BEGIN; SELECT webhook_events.create_webhook('$url', '{ACTOR.RUN.FAILED}', user_id => 'c', idempotency_key => 'k', is_enabled => false),"
	  . " webhook_events.update_webhook('$webhook', '{\"description\": \"d\"}'), webhook_events.rotate_secret('$webhook'), webhook_events.test_webhook('$webhook'),"
	  . " webhook_events.replay('$webhook', now() - interval '1 hour'), webhook_events.delete_webhook('$webhook');"
	  . " SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND database = (SELECT oid FROM pg_database WHERE datname = current_database()); ROLLBACK"),
	qr/^0$/m, 'and no function takes a lock that SQL can name');

# Arguments of triggers that nobody wrote.
foreach my $argument ('{"columns": [1, "id", 3, -5, 99999999]}', '{"columns": {"id": {"a": [1]}, "status": [[["id"]]], "user_id": ["id", -32769], "actor_id": [4294967297, "id"]}}',
	'{"columns": {}, "exclude": {"a": 1}, "resource": {"b": 2}}', '{"columns": {}, "exclude": [[], [[]], ["id"], ["id", 1e9], [null, 1]], "resource": [[], {}, "x"]}',
	'{"columns": {"id": ["id", 1e5]}, "relation": -1, "database": 1e9, "system": "99999999999999999999999"}')
{
	like(as('dumper', "SELECT jsonb_typeof(webhook_events_internal.source_mapping('public.actor_runs'::regclass, '$argument'))"), qr/^object$/, "a forged mapping is none: $argument");
}
is(as('dumper', "SELECT webhook_events_internal.source_mapping(1, '{}')"), '', 'nor is there one of no table');

# Nor are a hundred thousand webhooks made before it is said that a hundred are enough.
is(query(q{BEGIN; DO $$ BEGIN
	PERFORM webhook_events.create_ad_hoc_webhooks('many', (SELECT jsonb_agg('{"requestUrl": "http://127.0.0.1:1/", "eventTypes": ["ACTOR.RUN.CREATED"]}'::jsonb) FROM generate_series(1, 1000)), 'a');
	EXCEPTION WHEN configuration_limit_exceeded THEN END $$;
	SELECT n_tup_ins FROM pg_stat_xact_all_tables WHERE relid = 'webhook_events_internal.webhooks'::regclass}), 101, 'a list stops at the first one that is too many');

# Tests cost others' endpoints something, and room in our tables: nobody has them without end.
$node->append_conf('postgresql.conf', 'webhook_events.max_tests_per_user = 50');
$node->reload;
wait_for_sql($node, 'SHOW webhook_events.max_tests_per_user', 50);
my $other = query("SELECT id FROM webhook_events.create_webhook('$url', '{ACTOR.RUN.FAILED}', user_id => 'b', is_enabled => false)");
my $nobodys = query("SELECT id FROM webhook_events.create_webhook('$url', '{ACTOR.RUN.FAILED}', is_enabled => false)");
my $anew = q{UPDATE webhook_events_internal.webhook_users SET tests = 0, tests_since = clock_timestamp() WHERE user_id = 'a'};
my $refused = qr/^53400: webhooks of user "a" had 50 tests within a minute already\nDETAIL:  Setting webhook_events.max_tests_per_user is the limit./;
query($anew);
is(as('tenant_a', "SELECT count(webhook_events.test_webhook('$webhook')) FROM generate_series(1, 50)"), 50, 'as many tests as the setting says');
query("$anew; UPDATE webhook_events_internal.webhook_users SET tests = 50 WHERE user_id = 'a'");
like(as('tenant_a', "SELECT webhook_events.test_webhook('$webhook')"), $refused, 'not one more');
like(as('manager', "SELECT webhook_events.test_webhook('$webhook')"), $refused, 'by whomever');
query($anew);
like(as('tenant_a', "SELECT count(webhook_events.test_webhook('$webhook')) FROM generate_series(1, 51)"), $refused, 'nor in one statement');
query($anew);
like(as('tenant_a', "BEGIN; DO \$\$ BEGIN FOR i IN 1..51 LOOP BEGIN PERFORM webhook_events.test_webhook('$webhook'); EXCEPTION WHEN division_by_zero THEN END; END LOOP; END \$\$"),
	$refused, 'nor in subtransactions');
is(as('manager', "SELECT count(webhook_events.test_webhook('$other')) + count(webhook_events.test_webhook('$nobodys')) FROM generate_series(1, 40)"), 80, "another user's are not counted, nor the platform's own");
foreach my $moved ("- interval '61 seconds'", "+ interval '1 hour'")
{
	query("UPDATE webhook_events_internal.webhook_users SET tests = 50, tests_since = clock_timestamp() $moved WHERE user_id = 'a'");
	like(as('tenant_a', "SELECT webhook_events.test_webhook('$webhook')"), qr/^\w{17}$/, "another minute, $moved");
	is(query("SELECT tests, tests_since BETWEEN clock_timestamp() - interval '1 hour' AND clock_timestamp() FROM webhook_events_internal.webhook_users WHERE user_id = 'a'"), '1|t', 'begins from one');
}

# What was in the schema before the extension, or may be put there.
$node->safe_psql('postgres', 'CREATE DATABASE prepared');
my %first = (
	function => 'CREATE FUNCTION webhook_events.replay(text, date) RETURNS bigint LANGUAGE sql AS $$SELECT 1::bigint$$',
	operator => 'CREATE OPERATOR webhook_events.+ (FUNCTION = pg_catalog.date_pli, LEFTARG = date, RIGHTARG = integer)',
	type => "CREATE TYPE webhook_events.severity AS ENUM ('x')",
	table => 'CREATE TABLE webhook_events.anything ()');
foreach my $what (sort keys %first)
{
	$node->safe_psql('prepared', "CREATE SCHEMA webhook_events; $first{$what}");
	like(as('postgres', 'CREATE EXTENSION webhook_events', 'prepared'), qr/^55000: schema "webhook_events" is not empty/, "a $what in the schema is refused");
	$node->safe_psql('prepared', 'DROP SCHEMA webhook_events CASCADE');
}
$node->safe_psql('prepared', 'CREATE SCHEMA webhook_events_internal AUTHORIZATION mallory');
like(as('postgres', 'CREATE EXTENSION webhook_events', 'prepared'), qr/^42P06: schema "webhook_events_internal" already exists/, 'and so is the inner schema');
$node->safe_psql('prepared', 'DROP SCHEMA webhook_events_internal; CREATE SCHEMA webhook_events; CREATE EXTENSION webhook_events');
pass('an empty schema is taken');
$node->safe_psql('prepared', 'DROP EXTENSION webhook_events; DROP SCHEMA IF EXISTS webhook_events; CREATE EXTENSION webhook_events VERSION \'1.0.0\'; GRANT CREATE ON SCHEMA webhook_events TO mallory');
like(as('postgres', 'ALTER EXTENSION webhook_events UPDATE', 'prepared'), qr/^42501: others can create objects in schema "webhook_events"/, 'nor is it updated where others can create objects');
$node->safe_psql('prepared', 'REVOKE CREATE ON SCHEMA webhook_events FROM mallory; ALTER EXTENSION webhook_events UPDATE');
pass('it is when they can no more');

is(query('SELECT last_error FROM webhook_events.status()'), '', 'the worker never failed');
$node->stop;
done_testing();
