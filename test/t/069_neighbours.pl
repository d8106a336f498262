# 069_neighbours.pl
#	  Beside other extensions that hook into statements, before and behind them: the
#	  same events as alone, and deliveries.  Those that the server lacks are left out.

use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use WebhookEvents::Node;
use WebhookEvents::Receiver;

my $node = new_node('main', conf => "max_worker_processes = 30\n");
my @known = qw(pg_stat_statements auto_explain pgaudit pg_cron pg_stat_kcache);

# Some can only be preloaded, but what lacks is told first.
my @found = grep { ($node->psql('postgres', "LOAD '$_'"))[2] !~ /could not access file/ } @known;

if (!@found)
{
	$node->stop;
	plan skip_all => 'there is none of ' . join(', ', @known);
}
diag("neighbours: @found");

my $receiver = WebhookEvents::Receiver->new;

create_platform($node);
$node->safe_psql('postgres', <<'SQL');
CREATE TABLE parted_runs (id text, actor_id text, status text, p int) PARTITION BY LIST (p);
CREATE TABLE parted_one PARTITION OF parted_runs FOR VALUES IN (1);
CREATE TABLE parted_two (p int, status text, id text, actor_id text);
ALTER TABLE parted_runs ATTACH PARTITION parted_two FOR VALUES IN (2);
SELECT webhook_events.attach('parted_runs');
CREATE TABLE others (i int, status text);
-- Ends a run for each row of another table, in a statement of its own.
CREATE FUNCTION end_run() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	UPDATE actor_runs SET status = 'ABORTED' WHERE id = NEW.status || NEW.i;
	RETURN NULL;
END $$;
CREATE TRIGGER end_run AFTER INSERT ON others FOR EACH ROW EXECUTE FUNCTION end_run();
CREATE PROCEDURE live(run text) LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO actor_runs (id, status) VALUES (run, 'READY');
	COMMIT;
	UPDATE actor_runs SET status = 'RUNNING' WHERE id = run;
	COMMIT;
	BEGIN
		UPDATE actor_runs SET status = 'FAILED' WHERE id = run;
		RAISE 'undone';
	EXCEPTION WHEN raise_exception THEN
		UPDATE actor_runs SET status = 'SUCCEEDED' WHERE id = run;
	END;
END $$;
CREATE DATABASE other;
SQL
$node->safe_psql('other', 'CREATE TABLE t (i int PRIMARY KEY, status text); INSERT INTO t SELECT i FROM generate_series(1, 100) AS i');

# Statements of every kind, of runs whose ids begin with this.
sub statements
{
	my ($run) = @_;

	return <<"SQL";
CALL live('${run}0');
INSERT INTO actor_runs (id, status) SELECT '$run' || i, 'READY' FROM generate_series(1, 5) AS i;
UPDATE actor_runs SET heartbeat_at = now() WHERE id LIKE '$run%';
INSERT INTO actor_runs (id, status) VALUES ('${run}1', 'X'), ('${run}6', 'FAILED')
	ON CONFLICT (id) DO UPDATE SET status = 'TIMED-OUT';
MERGE INTO actor_runs AS r USING (VALUES ('${run}2'), ('${run}7')) AS v (id) ON r.id = v.id
	WHEN MATCHED THEN UPDATE SET status = 'FAILED' WHEN NOT MATCHED THEN INSERT (id) VALUES (v.id);
COPY actor_runs (id, status) FROM stdin;
${run}8	SUCCEEDED
\\.
INSERT INTO others VALUES (3, '$run'), (8, '$run');
WITH u AS (UPDATE actor_runs SET status = 'SUCCEEDED' WHERE id = '${run}4' RETURNING id)
	INSERT INTO actor_runs (id) SELECT id || 'b' FROM u;
EXPLAIN (ANALYZE, COSTS off) UPDATE actor_runs SET status = 'FAILED' WHERE id = '${run}5';
PREPARE p(text, text) AS UPDATE actor_runs SET status = \$2 WHERE id = \$1;
SET plan_cache_mode = force_generic_plan;
EXECUTE p('${run}4b', 'RUNNING');
ALTER TABLE actor_runs ALTER exit_code SET DEFAULT 0;
EXECUTE p('${run}4b', 'ABORTED');
BEGIN;
DECLARE c CURSOR FOR SELECT FROM actor_runs WHERE id = '${run}7' FOR UPDATE;
FETCH c;
UPDATE actor_runs SET status = 'SUCCEEDED' WHERE CURRENT OF c;
SAVEPOINT s;
UPDATE actor_runs SET status = 'FAILED' WHERE id LIKE '$run%';
ROLLBACK TO s;
COMMIT;
INSERT INTO parted_runs VALUES ('${run}p', 'a', 'READY', 1), ('${run}q', 'a', 'READY', 2);
UPDATE parted_runs SET p = 3 - p, status = 'SUCCEEDED' WHERE id LIKE '$run%';
UPDATE parted_two SET status = 'READY' WHERE id LIKE '$run%';
DELETE FROM parted_runs WHERE id LIKE '$run%';
SQL
}

# The events that they raise, without what the ids begin with.
sub events
{
	my ($run) = @_;

	$node->safe_psql('postgres', statements($run));
	return $node->safe_psql('postgres', qq{SELECT string_agg(substr(actor_run_id, length('$run') + 1) || ' ' || split_part(event_type::text, '.', 3), ', ' ORDER BY id)
		FROM webhook_events.events WHERE starts_with(actor_run_id, '$run') AND resource IS NOT NULL AND problem IS NULL});
}

my $alone = events('alone');
my $round = 0;

like($alone, qr/^0 CREATED, 0 SUCCEEDED, 1 CREATED, .*p CREATED, q CREATED, .*RESURRECTED$/, 'alone: every kind of statement raises events');
create_webhook($node, $receiver->url('/ok'), 'ACTOR.RUN.TIMED_OUT');
$node->stop;
$node->append_conf('postgresql.conf', <<'CONF');
compute_query_id = on
track_io_timing = on
CONF
foreach my $order ([ @found, 'webhook_events' ], [ 'webhook_events', @found ])
{
	my $libraries = join ', ', @$order;
	my $run = 'run' . ++$round . 'x';

	$node->append_conf('postgresql.conf', "shared_preload_libraries = '$libraries'");
	$node->append_conf('postgresql.conf', <<'CONF') if grep { $_ eq 'auto_explain' } @found;
auto_explain.log_min_duration = 0
auto_explain.log_analyze = on
auto_explain.log_buffers = on
auto_explain.log_triggers = on
auto_explain.log_nested_statements = on
CONF
	$node->append_conf('postgresql.conf', "pgaudit.log = 'all'\npgaudit.log_relation = on\n") if grep { $_ eq 'pgaudit' } @found;
	$node->append_conf('postgresql.conf', "pg_stat_statements.track = all\n") if grep { $_ eq 'pg_stat_statements' } @found;
	$node->append_conf('postgresql.conf', "cron.use_background_workers = on\n") if grep { $_ eq 'pg_cron' } @found;
	$node->start;
	$node->safe_psql('postgres', "SET client_min_messages = error; CREATE EXTENSION IF NOT EXISTS $_ CASCADE")
	  foreach grep { $_ ne 'auto_explain' } @found;

	is(events($run), $alone, "$libraries: the same events as alone");
	wait_for_sql($node, "SELECT d.status FROM webhook_events.dispatches AS d JOIN webhook_events.events AS e ON e.id = d.event_id"
		  . " WHERE e.actor_run_id = '${run}1'", 'SUCCEEDED');
	pass("$libraries: one is delivered");
	is($node->safe_psql('other', 'UPDATE t SET status = i; UPDATE t SET status = 0 WHERE i > 90; SELECT count(*) FROM t WHERE status IS NOT NULL'), 100,
		"$libraries: a database that never heard of us");
	is($node->safe_psql('postgres', 'SELECT broken_tables IS NULL FROM webhook_events.status()'), 't', "$libraries: nothing is broken");
	if (grep { $_ eq 'pg_cron' } @found)
	{
		# Older versions count in minutes.
		my ($status) = $node->psql('postgres', "INSERT INTO actor_runs (id) VALUES ('${run}job');"
			  . " SELECT cron.schedule('end', '1 second', \$\$UPDATE actor_runs SET status = 'FAILED' WHERE id = '${run}job'\$\$)");

		$node->safe_psql('postgres', "SELECT cron.schedule('end', '* * * * *', \$\$UPDATE actor_runs SET status = 'FAILED' WHERE id = '${run}job'\$\$)")
		  if $status != 0;
		wait_for_sql($node, "SELECT count(*) FROM webhook_events.events WHERE actor_run_id = '${run}job' AND new_status = 'FAILED'", 1);
		$node->safe_psql('postgres', "SELECT cron.unschedule('end')");
		pass("$libraries: a job raises an event");
	}
	$node->stop;
}

done_testing();
