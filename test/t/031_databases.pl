# 031_databases.pl
#	  Databases are dropped, copied, renamed and restored while workers deliver.

use strict;
use warnings;
use PostgreSQL::Test::Utils;
use Test::More;
use WebhookEvents::Node;
use WebhookEvents::Receiver;

my $receiver = WebhookEvents::Receiver->new;
my $node = new_node('main');

# Makes a database with one webhook, under whose path requests are counted.
sub make_database
{
	my $name = shift;

	$node->safe_psql('postgres', "CREATE DATABASE $name");
	create_platform($node, $name);
	$node->safe_psql($name, "SELECT webhook_events.create_webhook('"
		  . $receiver->url("/ok?$name") . "', '{ACTOR.RUN.CREATED}')");
	return;
}

sub insert_run
{
	my ($name, $id) = @_;

	$node->safe_psql($name, "INSERT INTO actor_runs (id) VALUES ('$id')");
	return;
}

sub requests_of
{
	my $name = shift;

	return grep { $_->{target} eq "/ok?$name" } $receiver->requests;
}

sub wait_for_request
{
	my ($name, $count) = @_;

	wait_until { requests_of($name) >= $count } "$name has delivered $count";
	return;
}

sub is_running
{
	my $name = shift;

	wait_for_sql($node, 'SELECT running AND reason IS NULL FROM webhook_events.status()',
		't', $name);
	return;
}

make_database('one');
make_database('two');
insert_run('one', 1);
insert_run('two', 1);
wait_for_request('one', 1);
wait_for_request('two', 1);
pass('two databases deliver side by side');

# A request that hangs does not keep a database from being dropped.
foreach my $force ('', ' WITH (FORCE)')
{
	my $path = '/hang?doomed' . length $force;

	make_database('doomed');
	$node->safe_psql('doomed', "SELECT webhook_events.create_webhook('"
		  . $receiver->url($path) . "', '{ACTOR.RUN.CREATED}')");
	insert_run('doomed', 1);
	wait_until { grep { $_->{target} eq $path } $receiver->requests } 'a request hangs';
	$node->safe_psql('postgres', "DROP DATABASE doomed$force");
	pass("DROP DATABASE$force goes through in the middle of delivery");
}

# Nor the extension from being dropped, and created again.
make_database('again');
$node->safe_psql('again', "SELECT webhook_events.create_webhook('"
	  . $receiver->url('/hang?again') . "', '{ACTOR.RUN.CREATED}')");
foreach my $round (1 .. 3)
{
	$node->safe_psql('again', "INSERT INTO actor_runs (id)"
		  . " SELECT '$round-' || i FROM generate_series(1, 50) AS i");
	wait_until { grep { $_->{target} eq '/hang?again' } $receiver->requests } 'a request hangs';
	$node->safe_psql('again', 'DROP EXTENSION webhook_events CASCADE');
	$node->safe_psql('again', "INSERT INTO actor_runs (id) VALUES ('$round-unseen')");
	$node->safe_psql('again', "CREATE EXTENSION webhook_events;"
		  . " SELECT webhook_events.attach('actor_runs'); SELECT webhook_events.create_webhook('"
		  . $receiver->url("/ok?again$round") . "', '{ACTOR.RUN.CREATED}')");
	$node->safe_psql('again', "INSERT INTO actor_runs (id) VALUES ('$round-new')");
	wait_until { grep { $_->{target} eq "/ok?again$round" } $receiver->requests }
	'the new extension delivers';
	is($node->safe_psql('again', "SELECT string_agg(actor_run_id, ' ') FROM webhook_events.events"),
		"$round-new", "DROP and CREATE EXTENSION go through while delivering ($round)");
}
$node->safe_psql('postgres', 'DROP DATABASE again');

$node->safe_psql('postgres', 'CREATE DATABASE copy TEMPLATE one');
is_running('one');
pass('CREATE DATABASE copies a database that has a worker, which comes back');
wait_for_sql($node, "SELECT running AND reason LIKE '%recorded in another database%'"
	  . ' FROM webhook_events.status()', 't', 'copy');
insert_run('copy', 2);
insert_run('one', 2);
wait_for_request('one', 2);
is($node->safe_psql('copy', 'SELECT events_waiting FROM webhook_events.status()'), 1,
	'the copy keeps silent');
is(scalar requests_of('one'), 2, 'only the original has delivered');

$node->safe_psql('copy', "SELECT webhook_events.resume()");
wait_for_sql($node, "SELECT events_waiting = 0 AND dispatches_active = 0"
	  . " FROM webhook_events.status()", 't', 'copy');
is(scalar requests_of('one'), 3, 'until it is resumed; then it sends what waited, and no more');

$node->safe_psql('postgres', 'ALTER DATABASE copy RENAME TO renamed');
is_running('renamed');
insert_run('renamed', 3);
wait_for_request('one', 4);
pass('a database can be renamed');

# One that nobody may connect to is left alone, until that is allowed again.
my $worker = q{SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'webhook_events worker' AND datname = 'renamed'};
$node->safe_psql('postgres', 'ALTER DATABASE renamed ALLOW_CONNECTIONS false');
wait_for_sql($node, $worker, 0);
$node->safe_psql('postgres', 'ALTER DATABASE renamed IS_TEMPLATE true');
$node->safe_psql('postgres', 'ALTER DATABASE renamed ALLOW_CONNECTIONS true');
$node->safe_psql('postgres', 'ALTER DATABASE renamed IS_TEMPLATE false');
is_running('renamed');
insert_run('renamed', 4);
wait_for_request('one', 5);
pass('a database can be closed and opened again');

my ($status, $out, $err) = $node->psql('postgres',
	'CREATE ROLE nobody; SET ROLE nobody; DROP DATABASE two');
like($err, qr/must be owner/, 'DROP DATABASE by somebody who may not fails');
is_running('two');

# Nor does anybody stop a worker who may do neither.  It can end by itself, for another database.
$node->safe_psql('postgres', 'CREATE ROLE maker CREATEDB');
foreach my $attempt ('nobody; CREATE DATABASE taken TEMPLATE two', 'maker; CREATE DATABASE taken TEMPLATE two', 'nobody; ALTER DATABASE two RENAME TO taken',
	'nobody; ALTER DATABASE two SET TABLESPACE pg_default')
{
	wait_until
	{
		my $pid = $node->safe_psql('two', 'SELECT worker_pid FROM webhook_events.status()');

		($status, $out, $err) = $node->psql('postgres', "SET ROLE $attempt");
		$pid ne '' && $node->safe_psql('two', 'SELECT worker_pid FROM webhook_events.status()') eq $pid;
	}
	"the worker goes on when this is refused: $attempt";
	like($err, qr/permission denied|must be owner/, "refused, and no worker has ended: $attempt");
}

# Pausing
$node->safe_psql('two', "SELECT webhook_events.pause('maintenance')");
wait_for_sql($node, "SELECT reason LIKE 'paused since%: maintenance' FROM webhook_events.status()",
	't', 'two');
insert_run('two', 2);
$node->restart;
wait_for_sql($node, "SELECT running AND reason LIKE 'paused%' AND events_waiting = 1"
	  . ' FROM webhook_events.status()', 't', 'two');
pass('a pause survives a restart, and events wait');
$node->safe_psql('two', "SELECT webhook_events.resume('skip')");
is_running('two');
insert_run('two', 3);
wait_for_sql($node, "SELECT string_agg(e.actor_run_id, ' ' ORDER BY e.id) FROM webhook_events.dispatches d"
	  . " JOIN webhook_events.events e ON e.id = d.event_id", '1 3', 'two');
pass('what waited can be skipped');

# Dumping and restoring
my $dump = $node->basedir . '/one.sql';
$node->command_ok([ 'pg_dump', '-f', $dump, $node->connstr('one') ], 'a database can be dumped');
$node->safe_psql('postgres', 'CREATE DATABASE restored');
$node->command_ok([ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr('restored'),
	'-f', $dump ], 'and restored');
my $tables = q{SELECT count(*), max(id) FROM webhook_events.events};
is($node->safe_psql('restored', $tables), $node->safe_psql('one', $tables),
	'loading the rows raised no event, and the log is there');
is($node->safe_psql('restored', 'SELECT relation, kind FROM webhook_events.sources ORDER BY relation::text'),
	"actor_builds|build\nactor_runs|run", 'the tables are attached');
my $before = requests_of('one');
insert_run('restored', 4);
wait_for_sql($node, "SELECT running AND reason LIKE '%recorded in another database%'"
	  . ' FROM webhook_events.status()', 't', 'restored');
$node->safe_psql('restored', "SELECT webhook_events.resume()");
wait_for_sql($node, "SELECT events_waiting = 0 AND dispatches_active = 0"
	  . " FROM webhook_events.status()", 't', 'restored');
is(requests_of('one') - $before, 1, 'resumed, it delivers its own new event alone');
is($node->safe_psql('restored', q{SELECT resource ->> 'id', event_data FROM webhook_events.events
		ORDER BY id DESC LIMIT 1}), '4|{"actorId": null, "actorRunId": "4"}',
	'with the mapping that was dumped');

$node->stop;
done_testing();
