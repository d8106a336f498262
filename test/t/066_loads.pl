# 066_loads.pl
#	  Rows that are inserted and are no news: those of a schema and a data dump that
#	  are restored one after the other, and those that a subscription starts with.

use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use WebhookEvents::Node;

my $platform = new_node('platform', init => { allows_streaming => 'logical' });
my $tier = new_node('tier');
my $events = 'SELECT count(*) FROM webhook_events.events';

sub restore
{
	my ($database, @command) = @_;

	command_ok([ @command ], "@command[0, 1] into $database");
	return;
}

create_platform($platform);
$platform->safe_psql('postgres', q{INSERT INTO actor_runs (id, status) SELECT i, 'SUCCEEDED' FROM generate_series(1, 50) AS i});
my $raised = $platform->safe_psql('postgres', $events);
my $files = $platform->basedir;

foreach my $dump ([ '-s', "$files/schema.sql" ], [ '-a', "$files/data.sql" ], [ '-a', '-Fc', "$files/data.dump" ],
	[ '-a', '--inserts', "$files/inserts.sql" ])
{
	command_ok([ 'pg_dump', @$dump[ 0 .. $#$dump - 1 ], '-f', $dump->[-1], $platform->connstr('postgres') ], "pg_dump @$dump[0 .. $#$dump - 1]");
}
foreach my $case ([ 'by_psql', 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-f', "$files/data.sql", '-d' ],
	[ 'by_inserts', 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-f', "$files/inserts.sql", '-d' ],
	[ 'by_pg_restore', 'pg_restore', '-d' ])
{
	my ($database, @command) = @$case;
	my $target = $tier->connstr($database);

	$tier->safe_psql('postgres', "CREATE DATABASE $database");
	restore($database, 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-f', "$files/schema.sql", '-d', $target);
	restore($database, @command, $target, $database eq 'by_pg_restore' ? "$files/data.dump" : ());
	is($tier->safe_psql($database, 'SELECT count(*) FROM actor_runs'), 50, "$database: the rows are there");
	is($tier->safe_psql($database, $events), $raised, "$database: and no event but those of the dump");
	$tier->safe_psql($database, "UPDATE actor_runs SET status = 'FAILED' WHERE id = '1'");
	is($tier->safe_psql($database, $events), $raised + 1, "$database: what happens afterwards raises events");
}

# What a subscription copies at its start is old, what follows is new, also what was
# committed while the copy was made.
create_platform($tier);
$tier->safe_psql('postgres', "SELECT webhook_events.attach('actor_runs', on_replica => true)");
$platform->safe_psql('postgres', 'CREATE PUBLICATION runs FOR TABLE actor_runs');
$tier->safe_psql('postgres', "CREATE SUBSCRIPTION runs CONNECTION '" . $platform->connstr . " dbname=postgres' PUBLICATION runs");
wait_for_sql($tier, "SELECT string_agg(srsubstate::text, '') FROM pg_subscription_rel", 'r');
is($tier->safe_psql('postgres', 'SELECT count(*) FROM actor_runs'), 50, 'a subscription copies the rows');
is($tier->safe_psql('postgres', $events), 0, 'which raises nothing');
$platform->safe_psql('postgres', "INSERT INTO actor_runs (id) VALUES ('new'); UPDATE actor_runs SET status = 'ABORTED' WHERE id IN ('1', 'new')");
wait_for_sql($tier, q{SELECT string_agg(actor_run_id || ' ' || event_type, ', ' ORDER BY id) FROM webhook_events.events},
	'new ACTOR.RUN.CREATED, 1 ACTOR.RUN.ABORTED, new ACTOR.RUN.ABORTED');
pass('what follows does, once each');
$tier->safe_psql('postgres', 'DROP SUBSCRIPTION runs');

$platform->stop;
$tier->stop;
done_testing();
