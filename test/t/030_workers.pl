# 030_workers.pl
#	  Each database that has the extension gets a worker, and only those.

use strict;
use warnings;
use PostgreSQL::Test::Utils;
use Test::More;
use WebhookEvents::Node;

my $node = new_node('main', conf => 'restart_after_crash = on');

my $workers = q{SELECT string_agg(coalesce(datname, ''), ',' ORDER BY datname)
	FROM pg_stat_activity WHERE backend_type = 'webhook_events worker'};

# Waits until exactly these databases have a worker that found the extension.
sub workers_are
{
	my ($expected, $name) = @_;

	ok($node->poll_query_until('postgres', $workers, $expected), $name);
	return;
}

sub runs_in
{
	my ($database, $name) = @_;

	ok($node->poll_query_until($database,
			"SELECT running AND reason LIKE 'no table is attached yet%' FROM webhook_events.status()"),
		$name)
	  or diag($node->safe_psql($database, 'SELECT * FROM webhook_events.status()'));
	return;
}

sub worker_pid
{
	my ($database) = @_;

	return $node->safe_psql($database,
		'SELECT worker_pid FROM webhook_events.status()');
}

#
# CREATE and DROP EXTENSION
#
ok($node->poll_query_until('postgres', q{SELECT count(*) = 1
	FROM pg_stat_activity WHERE backend_type = 'webhook_events launcher'}),
	'the launcher runs');
workers_are('', 'no database has the extension, and none has a worker');

$node->safe_psql('postgres', 'CREATE DATABASE one');
$node->safe_psql('postgres', 'CREATE DATABASE two');
foreach my $database ('one', 'two')
{
	my ($status, $out, $err) =
	  $node->psql($database, 'CREATE EXTENSION webhook_events');

	is($err, '', "CREATE EXTENSION in $database has nothing to complain about");
	runs_in($database, "and a worker comes to $database");
}
workers_are('one,two', 'each has one worker');

is($node->safe_psql('one', q{SELECT state, backend_xmin IS NULL, xact_start IS NULL
	FROM pg_stat_activity WHERE pid = (SELECT worker_pid FROM webhook_events.status())}),
	'idle|t|t', 'a worker at rest has no transaction open');

$node->safe_psql('one', 'DROP EXTENSION webhook_events');
workers_are('two', 'DROP EXTENSION sends the worker home');
$node->safe_psql('one', 'CREATE EXTENSION webhook_events');
runs_in('one', 'CREATE EXTENSION brings it back');

my $pid = worker_pid('one');
$node->safe_psql('one', q{
	BEGIN;
	DROP EXTENSION webhook_events;
	CREATE EXTENSION webhook_events;
	COMMIT;});
ok($node->poll_query_until('one', qq{SELECT running AND worker_pid <> $pid
	FROM webhook_events.status()}), 'another extension gets another worker');
$pid = worker_pid('one');
$node->safe_psql('one', q{
	BEGIN;
	DROP EXTENSION webhook_events;
	ROLLBACK;});
is(worker_pid('one'), $pid, 'a DROP that is rolled back changes nothing');

#
# Workers that end
#
$node->safe_psql('two', "SELECT pg_terminate_backend($pid)");
ok($node->poll_query_until('one', qq{SELECT running AND worker_pid <> $pid
	AND last_error IS NULL FROM webhook_events.status()}),
	'a terminated worker comes back, and has not failed');

$pid = $node->safe_psql('one', q{SELECT pid FROM pg_stat_activity
	WHERE backend_type = 'webhook_events launcher'});
$node->safe_psql('one', "SELECT pg_terminate_backend($pid)");
ok($node->poll_query_until('one', qq{SELECT count(*) = 1 FROM pg_stat_activity
	WHERE backend_type = 'webhook_events launcher' AND pid <> $pid}),
	'so does a terminated launcher');
workers_are('one,two', 'and the workers did not notice');

$pid = worker_pid('one');
kill 'KILL', $pid;
wait_until { (try_psql($node, 'one', "SELECT running AND worker_pid <> $pid FROM webhook_events.status()"))[1] eq 't' } 'a killed worker comes back';
pass('a killed worker comes back with the server');
workers_are('one,two', 'and with all the others');

#
# Settings
#
$node->append_conf('postgresql.conf', "webhook_events.databases = 'postgres, two'");
$node->reload;
workers_are('two', 'a database that is not named loses its worker');
is($node->safe_psql('one', 'SELECT running, reason FROM webhook_events.status()'),
	'f|the database is not in webhook_events.databases', 'and says so');
$node->append_conf('postgresql.conf', "webhook_events.databases = '*'");
$node->reload;
runs_in('one', 'named again, it gets one');

$node->append_conf('postgresql.conf', 'webhook_events.delivery = off');
$node->reload;
ok($node->poll_query_until('one', q{SELECT running
	AND reason = 'webhook_events.delivery is off' FROM webhook_events.status()}),
	'delivery can be turned off');
$node->append_conf('postgresql.conf', 'webhook_events.delivery = on');
$node->reload;
runs_in('one', 'and on again');

$node->stop('fast');
my $log = slurp_file($node->logfile);
unlike($log, qr/FATAL:  (?!the database system is|terminating connection)/,
	'the log holds no word of a worker that could not end');
done_testing();
