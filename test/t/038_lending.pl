# 038_lending.pl
#	  More databases than workers: these are lent by turns, and no event waits long.

use strict;
use warnings;
use List::Util qw(max);
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);
use WebhookEvents::Node;
use WebhookEvents::Receiver;

my $ndatabases = $ENV{TEST_DATABASES} // 12;
my $nworkers = $ENV{TEST_WORKERS} // 2;
my $receiver = WebhookEvents::Receiver->new;
my $node = new_node('lending', conf => <<"CONF");
webhook_events.max_workers = $nworkers
webhook_events.retry_delay = '2s'
webhook_events.request_timeout = '1h'
webhook_events.retry_jitter = 0
webhook_events.lending_patience = '1s'
autovacuum = off
CONF
my @names = map { "db$_" } 1 .. $ndatabases;
my $workers = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'webhook_events worker'";

sub subscribe
{
	my ($name, $path, $actor) = @_;

	$node->safe_psql($name, "SELECT webhook_events.create_webhook('" . $receiver->url($path)
		  . "', '{ACTOR.RUN.CREATED}', actor_id => '$actor')");
	return;
}

sub insert_run
{
	my ($name, $actor) = @_;

	$node->safe_psql($name, 'INSERT INTO actor_runs (id, actor_id) VALUES'
		  . " (webhook_events_internal.new_id(), '$actor')");
	return;
}

sub requests_of
{
	my $path = shift;

	return scalar grep { $_->{target} eq $path } $receiver->requests;
}

create_platform($node, 'postgres');
$node->safe_psql('postgres', 'CREATE DATABASE template_platform');
create_platform($node, 'template_platform');
$node->safe_psql('postgres', "CREATE DATABASE $_ TEMPLATE template_platform") foreach @names;
$node->safe_psql('postgres', 'DROP DATABASE template_platform');
foreach my $name (@names)
{
	$node->safe_psql($name, 'SELECT webhook_events.resume()');
	subscribe($name, "/ok?$name", 'a');
}

# Each database has an event, and then each has another one.
foreach my $round (1 .. 2)
{
	my %inserted;

	foreach my $name (@names)
	{
		insert_run($name, 'a');
		$inserted{$name} = time;
	}
	wait_until
	{
		my %count;

		$count{ $_->{target} }++ foreach $receiver->requests;
		!grep { ($count{"/ok?$_"} // 0) < $round } @names;
	}
	"round $round is delivered everywhere";
	pass("events of $ndatabases databases are delivered with $nworkers workers ($round)");
	note(sprintf('the longest delay was %.2f s',
		max map { $_->{at} - $inserted{ $_->{target} =~ s/.*\?//r } } ($receiver->requests)[ -$ndatabases .. -1 ]));
}
# One that has made room is still seen for a moment.
wait_for_sql($node, "SELECT ($workers) <= $nworkers", 't');
pass('no more workers run than may');
is(scalar $receiver->requests, 2 * $ndatabases, 'each event was sent once');

# A database without a worker of its own is well.
foreach my $name (@names)
{
	wait_for_sql($node, 'SELECT running AND reason IS NULL AND events_waiting = 0 AND dispatches_active = 0'
		  . ' FROM webhook_events.status()', 't', $name);
}
pass('status() is green, with a worker or without one');

# Retries come although nothing announces them.
subscribe($_, "/flaky/$_/1", 'flaky') foreach @names;
insert_run($_, 'flaky') foreach @names;
wait_until { !grep { requests_of("/flaky/$_/1") < 2 } @names } 'retries are made';
pass('a database gets its worker back for a retry');

# One that always has work lets others have their turns; a pause and its end are seen.
$node->safe_psql('db1', 'INSERT INTO actor_runs (id, actor_id)'
	  . " SELECT webhook_events_internal.new_id(), 'a' FROM generate_series(1, 20000)");
insert_run('db2', 'a');
insert_run('db3', 'a');
insert_run('db4', 'a');
wait_until { !grep { requests_of("/ok?$_") < 3 } qw(db2 db3 db4) } 'others have their turn';
pass('others have their turn beside one that always has work');
$node->safe_psql('db5', 'SELECT webhook_events.pause()');
insert_run('db5', 'a');
wait_for_sql($node, "SELECT reason LIKE 'paused%' FROM webhook_events.status()", 't', 'db5');
$node->safe_psql('db5', 'SELECT webhook_events.resume()');
wait_until { requests_of('/ok?db5') == 3 } 'the end of a pause is seen';
pass('a pause of a database without a worker ends');
wait_for_sql($node, 'SELECT events_waiting = 0 AND dispatches_active = 0 FROM webhook_events.status()', 't', 'db1');
is(scalar(grep { $_->{target} eq '/ok?db1' } $receiver->requests), 20002,
	'what was under way at the end of a turn was not sent again');

# Databases come and go while all workers are lent.
$node->safe_psql('postgres', 'DROP DATABASE db6');
$node->safe_psql('postgres', 'CREATE DATABASE late TEMPLATE db7');
$node->safe_psql('late', 'SELECT webhook_events.resume()');
insert_run('late', 'a');
wait_until { requests_of('/ok?db7') == 3 } 'a copy delivers';
insert_run('db7', 'a');
wait_until { requests_of('/ok?db7') == 4 } 'and so does its origin';
pass('databases are dropped and copied meanwhile');

# One whose worker is away is renamed, closed for all but superusers, closed altogether and
# opened again; events come before and after.
my @named;

# A run of a name of its own in each of these databases.
sub insert_named
{
	foreach my $database (@_)
	{
		my $run = 'named-' . (@named + 1);

		$node->safe_psql($database, "INSERT INTO actor_runs (id, actor_id) VALUES ('$run', 'a')");
		push @named, $run;
	}
	return;
}

# All of them have been told of, whatever was told twice.
sub named_arrive
{
	my ($what) = @_;
	my $pattern = join '|', @named;

	wait_until
	{
		my %seen = map { $_->{body} =~ /"actorRunId":"($pattern)"/ ? ($1 => 1) : () } $receiver->requests;
		keys %seen == @named;
	}
	$what;
	pass($what);
	return;
}
$node->safe_psql('postgres', 'ALTER DATABASE late RENAME TO later');
insert_named('later');
named_arrive('a database is renamed meanwhile');
$node->safe_psql('postgres', 'ALTER DATABASE later CONNECTION LIMIT 0');
insert_named('later');
named_arrive('and closed for all but superusers');
insert_named('later');
$node->safe_psql('postgres', 'ALTER DATABASE later ALLOW_CONNECTIONS false');
insert_named('db8', 'db9');
$node->safe_psql('postgres', 'ALTER DATABASE later ALLOW_CONNECTIONS true');
insert_named('later');
named_arrive('closed altogether and opened again');

# The extension comes and goes while workers are lent.
foreach my $round (1 .. 5)
{
	$node->safe_psql('later', "DROP EXTENSION webhook_events CASCADE; CREATE EXTENSION webhook_events; SELECT webhook_events.attach('actor_runs')");
	insert_named('db8', 'db9');
}
subscribe('later', '/ok?db7', 'a');
insert_named('later');
named_arrive('the extension is dropped and created again and again, and others go on beside that');

# Endpoints that hang, one more than there are workers, keep none for long: each is
# called, and nobody else's events wait for them, nor do those of the same database.
my @hanging = @names[ -$nworkers - 1 .. -1 ];
my %before = map { $_ => requests_of("/ok?$_") } @names;
subscribe($_, "/hang?$_", 'hang') foreach @hanging;
insert_run($_, 'hang') foreach @hanging;
insert_run($_, 'a') foreach grep { $_ ne 'db6' } @names;
wait_until { !grep { requests_of("/hang?$_") == 0 } @hanging } 'those that hang are called';
wait_until { !grep { requests_of("/ok?$_") == $before{$_} } grep { $_ ne 'db6' } @names } 'the others are called as well';
pass('requests that hang keep no worker for which others wait');
wait_until
{
	grep { $node->safe_psql($_, "SELECT count(*) FROM webhook_events.calls WHERE error_message LIKE 'given up, for another database waited%'") > 0 } @hanging;
}
'their calls say that they were given up';
pass('what was given up is a failed call that says why');
wait_until { grep { $node->safe_psql($_, 'SELECT calls_cut_short FROM webhook_events.status()') > 0 } @hanging } 'it is counted';
like(slurp_file($node->logfile), qr/worker of database "db\d+" gave up \d+ calls, since another database has waited too long for a worker$/m, 'and in the log');

# The only attempt of a dispatch keeps its time; its database's other events go on.
$receiver->hold('last');
$node->safe_psql('db1', "SELECT webhook_events.create_webhook('" . $receiver->url('/hold/last') . "', '{ACTOR.RUN.CREATED}', actor_id => 'last', do_not_retry => true)");
insert_run('db1', 'last');
wait_until { requests_of('/hold/last') == 1 } 'it is called';
foreach my $round (1 .. 3)
{
	%before = map { $_ => requests_of("/ok?$_") } qw(db1 db2 db3);
	insert_run($_, 'a') foreach keys %before;
	wait_until { !grep { requests_of("/ok?$_") == $before{$_} } keys %before } 'others are called';
}
$receiver->release('last');
wait_for_sql($node, q{SELECT string_agg(d.status || ' ' || d.attempts, ',') FROM webhook_events.dispatches AS d JOIN webhook_events.webhooks AS w ON w.id = d.webhook_id WHERE w.actor_id = 'last'},
	'SUCCEEDED 1', 'db1');
is(requests_of('/hold/last'), 1, 'the only attempt is not given up');
$node->safe_psql($_, "SELECT webhook_events.delete_webhook(id) FROM webhook_events.webhooks WHERE actor_id = 'hang'") foreach @hanging;

# More workers than databases: each has its own.
$node->append_conf('postgresql.conf', 'webhook_events.max_workers = 1000');
$node->append_conf('postgresql.conf', 'max_worker_processes = ' . ($ndatabases + 8));
$node->restart;
wait_for_sql($node, $workers, $ndatabases + 1);
pass('with enough of them each database has a worker of its own');

# Fewer from now on: they make room, and still nobody waits for long.
$node->append_conf('postgresql.conf', "webhook_events.max_workers = $nworkers");
$node->reload;
wait_for_sql($node, "SELECT ($workers) <= $nworkers", 't');
insert_named(grep { $_ ne 'db6' } @names);
named_arrive('workers that are too many since the settings changed make room');
wait_for_sql($node, "SELECT ($workers) <= $nworkers", 't');

$node->stop;
done_testing();
