# 067_memory.pl
#	  What a session remembers of events does not grow with their number, whatever
#	  raises them: no more than with a trigger that does nothing.  And a value that is
#	  too large is left out.  Nor does the launcher grow.

use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use WebhookEvents::Node;

# More rows show smaller leaks: MEMORY_ROWS=1000000.
my $rows = $ENV{MEMORY_ROWS} // 60000;
my $few = 5000;
my $most = 5 * 1024 * 1024;
my $node = new_node('main', conf => "webhook_events.delivery = off\nautovacuum = off\n");

# The bytes of a session's memory, those aside in which PostgreSQL queues triggers.
my $bytes = "SELECT sum(total_bytes) FROM pg_backend_memory_contexts WHERE name <> 'AfterTriggerEvents'";

create_platform($node);
$node->safe_psql('postgres', <<"SQL");
CREATE TABLE parted_runs (id int, actor_id text, status text, p int) PARTITION BY LIST (p);
CREATE TABLE parted_one PARTITION OF parted_runs FOR VALUES IN (1);
CREATE TABLE parted_two PARTITION OF parted_runs FOR VALUES IN (2);
SELECT webhook_events.attach('parted_runs');
CREATE TABLE memory (what text, bytes bigint);
CREATE FUNCTION swallow() RETURNS trigger LANGUAGE plpgsql AS
	'BEGIN IF NEW.id % 2 = 0 THEN RETURN NULL; END IF; RETURN NEW; END';
CREATE TRIGGER swallow BEFORE INSERT ON parted_two FOR EACH ROW EXECUTE FUNCTION swallow();
-- At the end of a statement, when what it raised is still in memory.
CREATE FUNCTION measure() RETURNS trigger LANGUAGE plpgsql AS \$\$
BEGIN
	INSERT INTO memory SELECT TG_OP, ($bytes);
	RETURN NULL;
END \$\$;
CREATE TABLE bare_runs (LIKE actor_runs INCLUDING ALL);
CREATE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
CREATE TRIGGER nothing AFTER INSERT OR UPDATE ON bare_runs FOR EACH ROW EXECUTE FUNCTION nothing();
CREATE TRIGGER zz_insert AFTER INSERT ON actor_runs FOR EACH STATEMENT EXECUTE FUNCTION measure();
CREATE TRIGGER zz_update AFTER UPDATE ON actor_runs FOR EACH STATEMENT EXECUTE FUNCTION measure();
CREATE TRIGGER zz_insert AFTER INSERT ON bare_runs FOR EACH STATEMENT EXECUTE FUNCTION measure();
CREATE TRIGGER zz_update AFTER UPDATE ON bare_runs FOR EACH STATEMENT EXECUTE FUNCTION measure();
-- Runs a statement so many times, noting the memory after \$2 and at the end.
CREATE PROCEDURE repeat_statement(statement text, few int, many int) LANGUAGE plpgsql AS \$\$
BEGIN
	FOR i IN 1 .. many LOOP
		EXECUTE replace(statement, '%i', i::text);
		IF i IN (few, many) THEN
			INSERT INTO memory SELECT 'repeated', ($bytes);
		END IF;
	END LOOP;
END \$\$;
SQL

# How much more memory the larger of two amounts took.
sub growth
{
	my ($sql) = @_;

	return $node->safe_psql('postgres', "TRUNCATE memory;\n$sql;\nSELECT max(bytes) - min(bytes) FROM memory");
}

# A test: our triggers make it no more than PostgreSQL does by itself.
sub grows_no_more
{
	my ($sql, $name) = @_;
	my ($ours, $bare) = map { growth($sql =~ s/actor_runs/$_/gr) } qw(actor_runs bare_runs);

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	cmp_ok($ours - $bare, '<', $most, $name);
	return;
}

my $insert = q{INSERT INTO actor_runs (id, status) SELECT '%s-' || i, 'READY' FROM generate_series(%d, %d) AS i};
my $upsert = $insert . q{ ON CONFLICT (id) DO UPDATE SET status = 'SUCCEEDED'};

grows_no_more(sprintf("$insert;\n$insert", 'a', 1, $few, 'b', 1, $rows), 'one statement that inserts rows');
grows_no_more(q{UPDATE actor_runs SET status = 'FAILED' WHERE id LIKE 'a-%'; UPDATE actor_runs SET status = 'FAILED' WHERE id LIKE 'b-%'},
	'one that updates them');
grows_no_more(sprintf("$upsert;\n$upsert", 'a', $few / 2, $few * 3 / 2, 'b', $rows / 2, $rows * 3 / 2), 'one that does both');
$node->safe_psql('postgres', 'DROP TRIGGER zz_insert ON actor_runs; DROP TRIGGER zz_update ON actor_runs;
	DROP TRIGGER zz_insert ON bare_runs; DROP TRIGGER zz_update ON bare_runs');
my $lives = int($rows / 10);
grows_no_more(qq{DO \$\$BEGIN
	CALL repeat_statement('INSERT INTO actor_runs (id, status) VALUES (''c-%i'', ''READY'')', @{[$lives / 10]}, $lives);
	CALL repeat_statement('UPDATE actor_runs SET status = ''SUCCEEDED'' WHERE id = ''c-%i''', @{[$lives / 10]}, $lives);
	CALL repeat_statement('WITH i AS (INSERT INTO actor_runs (id, status) VALUES (''d-%i'', ''READY'')) UPDATE actor_runs SET status = ''FAILED'' WHERE id = ''c-%i''', @{[$lives / 10]}, $lives);
	END\$\$}, 'many statements in one transaction, of both kinds in turns');
$node->safe_psql('postgres', "INSERT INTO parted_runs SELECT i, 'a', 'READY', 1 FROM generate_series(1, $lives * 2) AS i");
cmp_ok(growth(qq{DO \$\$BEGIN
	CALL repeat_statement('UPDATE parted_runs SET p = 3 - p, status = ''RUNNING'' WHERE id = %i', @{[$lives / 10]}, $lives);
	END\$\$}), '<', $most, 'moves between partitions, half of which end nowhere');
is($node->safe_psql('postgres', q{SELECT count(*) FROM webhook_events.events WHERE new_status = 'RUNNING'}), 0,
	'which raise nothing');

# Values that would make a resource of more than a gigabyte
$node->safe_psql('postgres', 'CREATE TABLE large_runs (id int, actor_id text, status text, t text, b bytea, j jsonb)');
$node->safe_psql('postgres', q{SELECT webhook_events.attach('large_runs');
	INSERT INTO large_runs VALUES (1, 'large', 'READY', repeat(chr(1), 200000000)), (2, 'large', 'READY', repeat('x', 9000000));
	INSERT INTO large_runs (id, actor_id, status, j) SELECT 3, 'large', 'READY', jsonb_agg(1e131071::numeric) FROM generate_series(1, 500);
	INSERT INTO large_runs (id, actor_id, status, b) SELECT 4, 'large', 'READY', convert_to(repeat('x', 9000000), 'UTF8');
	UPDATE large_runs SET status = 'SUCCEEDED'});
is($node->safe_psql('postgres', q{SELECT actor_run_id, count(*), min(length(resource::text)) > 9000000, min(problem) FROM webhook_events.events
	WHERE actor_run_id IN ('1', '2', '3', '4') AND actor_id = 'large' GROUP BY 1 ORDER BY 1}), <<'TEXT' =~ s/\n\z//r, 'are recorded without one');
1|2||resource is longer than resource_limit, 16777216 bytes
2|2|t|
3|2||resource is longer than resource_limit, 16777216 bytes
4|2||resource is longer than resource_limit, 16777216 bytes
TEXT
$node->append_conf('postgresql.conf', "webhook_events.resource_limit = '1kB'");
$node->reload;
wait_for_sql($node, 'SHOW webhook_events.resource_limit', '1kB');
$node->safe_psql('postgres', q{INSERT INTO large_runs VALUES (5, 'large', 'READY', repeat('x', 900)), (6, 'large', 'READY', repeat('x', 1000)),
	(7, 'large', 'READY', repeat(chr(2), 170))});
is($node->safe_psql('postgres', q{SELECT string_agg(actor_run_id || (problem IS NULL)::text, ' ' ORDER BY id) FROM webhook_events.events
	WHERE actor_run_id IN ('5', '6', '7') AND actor_id = 'large'}), '5true 6false 7false', 'the limit is a setting');

# The launcher looks through all databases, again and again, for as long as the server runs.
sub launcher_bytes
{
	my $offset = -s $node->logfile;
	my $bytes;

	$node->safe_psql('postgres', q{SELECT pg_log_backend_memory_contexts(pid) FROM pg_stat_activity WHERE backend_type = 'webhook_events launcher'});
	wait_until { ($bytes) = slurp_file($node->logfile, $offset) =~ /TopMemoryContext: (\d+) total in .*?; \d+ free \(\d+ chunks\); \d+ used/ }
	'the launcher tells of its memory';
	return $bytes;
}

my $turn = q{SELECT state_change FROM pg_stat_activity WHERE backend_type = 'webhook_events launcher'};
my $before = launcher_bytes();
for (1 .. 40)
{
	my $last = $node->safe_psql('postgres', $turn);

	$node->safe_psql('postgres', 'SELECT webhook_events_internal.announce()');
	wait_until { $node->safe_psql('postgres', $turn) ne $last } 'the launcher has looked';
}
cmp_ok(launcher_bytes() - $before, '<', 200000, 'the launcher does not grow');

$node->stop;
done_testing();
