# 065_plans.pl
#	  Plans of other extensions, with our library loaded before theirs and after:
#	  where nothing is attached nothing is done, and where something is, events
#	  are raised.

use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use WebhookEvents::Node;

my $node = new_node('main', start => 0);
my @statements = (
	[ "INSERT INTO actor_runs (id, status) VALUES ('1', 'READY'), ('2', 'READY')" => 'CREATED CREATED' ],
	[ "UPDATE actor_runs SET heartbeat_at = now()" => '' ],
	[ "UPDATE actor_runs SET status = 'RUNNING' WHERE id = '1'" => '' ],
	[ "UPDATE actor_runs SET status = 'SUCCEEDED' WHERE id = '1'" => 'SUCCEEDED' ],
	[ "UPDATE actor_runs SET status = 'FAILED' RETURNING id, status" => 'FAILED FAILED' ],
	[ "INSERT INTO actor_runs (id, status) VALUES ('2', ''), ('3', '') ON CONFLICT (id) DO UPDATE SET status = 'ABORTED'" => 'ABORTED CREATED' ],
	[ "WITH u AS (UPDATE actor_runs SET status = 'SUCCEEDED' WHERE id = '3' RETURNING id) UPDATE actor_runs SET heartbeat_at = NULL FROM u" => 'SUCCEEDED' ],
	[ "MERGE INTO actor_runs AS r USING (VALUES ('3'), ('4')) AS v (id) ON r.id = v.id WHEN MATCHED THEN UPDATE SET status = 'READY' WHEN NOT MATCHED THEN INSERT (id) VALUES (v.id)" => 'CREATED RESURRECTED' ],
	[ "EXPLAIN UPDATE actor_runs SET status = 'FAILED'" => '' ],
	[ "EXPLAIN ANALYZE UPDATE actor_runs SET status = 'ABORTED' WHERE id = '4'" => 'ABORTED' ],
	[ "PREPARE s AS UPDATE actor_runs SET status = \$1 WHERE id = '4'; EXECUTE s ('READY'); EXECUTE s ('READY'); EXECUTE s ('FAILED')" => 'FAILED RESURRECTED' ],
	[ "DO \$\$BEGIN FOR i IN 1 .. 7 LOOP UPDATE actor_runs SET status = 'RUNNING', heartbeat_at = now() WHERE id = '3'; END LOOP; END\$\$" => '' ],
	[ "UPDATE actor_runs SET status = 'FAILED' WHERE false" => '' ],
	[ "DELETE FROM actor_runs" => '' ]);

# The types of the events that a statement raised, by name.
sub events_of
{
	my ($database, $shape, $statement) = @_;

	return $node->safe_psql($database, <<"SQL");
LOAD 'plans';
SET plans.shape = $shape;
SELECT webhook_events_internal.new_id() AS last \\gset
\\o /dev/null
$statement;
\\o
SET plans.shape = plain;
SELECT string_agg(split_part(event_type::text, '.', 3), ' ' ORDER BY split_part(event_type::text, '.', 3))
FROM webhook_events.events WHERE id > :'last';
SQL
}

# Together with others that hook into the same places.
foreach my $libraries ('plans, pg_stat_statements, auto_explain, webhook_events', 'webhook_events, auto_explain, pg_stat_statements, plans')
{
	$node->append_conf('postgresql.conf', "shared_preload_libraries = '$libraries'\nauto_explain.log_min_duration = 0\nauto_explain.log_analyze = on\nauto_explain.log_nested_statements = on\n");
	$node->start;
	if ($libraries =~ /^plans/)
	{
		create_platform($node);
		$node->safe_psql('postgres', 'CREATE DATABASE other');
		$node->safe_psql('other', 'CREATE TABLE t (id int PRIMARY KEY, v int); INSERT INTO t VALUES (1, 1)');
	}
	foreach my $shape (qw(plain above deep hidden))
	{
		foreach my $case (@statements)
		{
			my ($statement, $expected) = @$case;

			is(events_of('postgres', $shape, $statement), $expected, "$libraries, $shape: $statement");
		}
		is($node->safe_psql('other', "SET plans.shape = $shape; UPDATE t SET v = v + 1 RETURNING id; UPDATE t SET v = 0 WHERE false;"
			  . ' EXPLAIN (COSTS off) UPDATE t SET v = 1 WHERE id = 1; INSERT INTO t VALUES (1) ON CONFLICT DO NOTHING;') =~ /^1\n.*Update on t/s,
			1, "$libraries, $shape: a database that never heard of us");
	}
	$node->stop;
}

# Others that want to know what changes in relations: PostgreSQL takes up to three of its ten
# places itself, and ends a session that wants an eleventh.  Citus has five.
$node->start;
create_webhook($node, 'http://127.0.0.1:9/', 'ACTOR.RUN.CREATED');
my $all = join ' ', map { "SELECT count(*) FROM webhook_events.$_;" } 'status()', "audit(now() - interval '1 hour')", qw(events dispatches deliveries webhook_health hosts in_flight sources);
is($node->safe_psql('postgres', <<"SQL"), 'CREATED FAILED', 'one place is enough');
CREATE FUNCTION pg_temp.watch_relations(integer) RETURNS void LANGUAGE c AS 'plans', 'plans_watch_relations';
SELECT webhook_events_internal.new_id() AS last \\gset
\\o /dev/null
SELECT pg_temp.watch_relations(6);
INSERT INTO actor_runs (id, status) VALUES ('watched', 'READY');
UPDATE actor_runs SET heartbeat_at = now() WHERE id = 'watched';
UPDATE actor_runs SET status = 'FAILED' WHERE id = 'watched';
$all
SELECT webhook_events.explain_run('watched');
SELECT webhook_events.create_webhook('http://127.0.0.1:9/', '{ACTOR.RUN.FAILED}', user_id => 'watched');
SELECT webhook_events.pause('test');
SELECT webhook_events.resume('skip');
SELECT pg_filenode_relation(0, pg_relation_filenode('actor_runs'));
ALTER TABLE actor_runs ADD COLUMN added int;
INSERT INTO actor_runs (id, status) VALUES ('watched too', 'RUNNING');
DELETE FROM actor_runs;
\\o
SELECT string_agg(split_part(event_type::text, '.', 3), ' ' ORDER BY id) FROM webhook_events.events WHERE id > :'last' AND actor_run_id = 'watched';
SQL

# Where the extension is not, a schema of its name is anybody's, and its tables as small as they are.
$node->safe_psql('postgres', 'CREATE DATABASE elsewhere');
is($node->safe_psql('elsewhere', <<'SQL'), 'Seq Scan on few', 'the tables of somebody else are planned as they are');
CREATE SCHEMA webhook_events;
CREATE TABLE webhook_events.few AS SELECT i FROM generate_series(1, 5) AS i;
CREATE INDEX ON webhook_events.few (i);
ANALYZE webhook_events.few;
CREATE FUNCTION first_line() RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	line text;
BEGIN
	EXECUTE 'EXPLAIN (COSTS off) SELECT FROM webhook_events.few WHERE i = 3' INTO line;
	RETURN line;
END $$;
SELECT first_line();
SQL

# Nothing is remembered of tables that come and go.
is($node->safe_psql('elsewhere', <<'SQL'), 0, 'nor is anything kept of temporary tables');
CREATE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
DO $$
BEGIN
	FOR i IN 1 .. 20 LOOP
		CREATE TEMP TABLE passing (i int);
		CREATE TRIGGER passing AFTER INSERT ON passing FOR EACH ROW EXECUTE FUNCTION nothing();
		EXECUTE 'INSERT INTO passing VALUES (1)';
		DROP TABLE passing;
	END LOOP;
END $$;
SELECT count(*) FROM pg_backend_memory_contexts WHERE name = 'webhook_events firing';
SQL
$node->stop;

done_testing();
