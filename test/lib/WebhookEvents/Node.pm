# Node.pm
#	  A PostgreSQL server with the extension, for tests.

package WebhookEvents::Node;

use strict;
use warnings;

use Carp;
use Cwd qw(abs_path);
use Exporter 'import';
use File::Basename qw(dirname);
use List::Util qw(max min);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More ();
use Time::HiRes qw(sleep time);

our @EXPORT = qw(new_node create_platform wait_until wait_for_sql wait_for_end create_webhook
  insert_runs try_psql sql_fails);

my $platform = abs_path(dirname(__FILE__) . '/../../platform.sql');

my $has_copied = 0;

# Whatever the environment says of languages.  initdb is a fifth of what a short test costs, so
# a test's first server is a copy of what "make test-tap" has made once.  Further ones are not:
# each has an identifier of its own.
sub init_node
{
	my ($node, @options) = @_;
	my $run = \&PostgreSQL::Test::Utils::system_or_bail;

	no warnings 'redefine';
	local *PostgreSQL::Test::Utils::system_or_bail = sub {
		return $run->(@_) if $_[0] ne 'initdb' || !defined $ENV{INITDB_TEMPLATE} || $has_copied++;
		return $run->('cp', '-RPp', $ENV{INITDB_TEMPLATE}, $node->data_dir);
	};
	$node->init(extra => [ '--encoding=UTF8', '--no-locale' ], @options);
	return;
}

# Makes and starts a server.  Nothing is polled for within an hour, so that
# what happens is what a wake-up caused.  Options: conf (lines of settings),
# init (arguments of init), start (0: don't start).
sub new_node
{
	my ($name, %options) = @_;
	my $node = PostgreSQL::Test::Cluster->new($name);

	init_node($node, %{ $options{init} // {} });
	$node->append_conf('postgresql.conf', <<'CONF');
shared_preload_libraries = 'webhook_events'
webhook_events.allowed_networks = '127.0.0.0/8, ::1/128'
webhook_events.poll_interval = '1h'
max_prepared_transactions = 10
CONF
	$node->append_conf('postgresql.conf', $options{conf}) if $options{conf};
	$node->start if $options{start} // 1;
	return $node;
}

# Creates the extension and the platform's tables, and attaches them.
sub create_platform
{
	my ($node, $database) = @_;
	$database //= 'postgres';

	$node->safe_psql($database, 'CREATE EXTENSION webhook_events');
	$node->safe_psql($database, slurp_file($platform));
	$node->safe_psql($database,
		"SELECT webhook_events.attach('actor_runs'), webhook_events.attach('actor_builds')");
	return;
}

# Defines a webhook and returns its id.  Further arguments are those of
# create_webhook(), as SQL: do_not_retry => 'true'.
sub create_webhook
{
	my ($node, $url, $types, %arguments) = @_;
	my $list = join '', map { ", $_ => $arguments{$_}" } sort keys %arguments;

	return $node->safe_psql('postgres',
		"SELECT id FROM webhook_events.create_webhook('$url', '{$types}'$list)");
}

# Inserts so many runs of an Actor in one transaction.
sub insert_runs
{
	my ($node, $count, $actor) = @_;

	$node->safe_psql('postgres', 'INSERT INTO actor_runs (id, actor_id)'
		  . " SELECT webhook_events_internal.new_id(), '$actor' FROM generate_series(1, $count)");
	return;
}

# Waits until a condition holds; dies with what was waited for after 180 s, long
# enough for a machine that others are busy with.  To ask costs a process or two, and is
# done less often the longer it takes.
sub wait_until(&$;$)
{
	my ($condition, $what, $timeout) = @_;
	my $start = time;
	my $deadline = $start + ($timeout // $ENV{PG_TEST_TIMEOUT_DEFAULT} // 180);

	while (!$condition->())
	{
		my $now = time;

		croak "timed out waiting until $what" if $now > $deadline;
		sleep min(max(($now - $start) / 20, 0.02), 0.2);
	}
	return;
}

# Waits until a query of a server returns what is expected.
sub wait_for_sql
{
	my ($node, $query, $expected, $database) = @_;
	my $last = '';
	my $ok = eval {
		wait_until {
			$last = $node->safe_psql($database // 'postgres', $query);
			$last eq $expected
		}
		"\"$query\" is \"$expected\"";
		1;
	};

	return if $ok;
	croak $@ . "last result: $last\nstatus: "
	  . $node->safe_psql($database // 'postgres', 'SELECT * FROM webhook_events.status()')
	  . "\n";
}

# Waits until all events were routed and all dispatches have ended.
sub wait_for_end
{
	my ($node) = @_;

	wait_for_sql($node, 'SELECT events_waiting = 0 AND dispatches_active = 0 AND in_flight = 0'
		  . ' FROM webhook_events.status()', 't');
	return;
}

# psql() of a server that may refuse: psql then ends before it has read what it is to run, which
# breaks the pipe.
sub try_psql
{
	my ($node, $database, $sql) = @_;
	my ($status, $stdout, $stderr) = eval { $node->psql($database, $sql) };

	croak $@ if !defined $status && $@ !~ /Broken pipe/;
	return ($status // 2, $stdout // '', $stderr // '');
}

# A test: SQL fails with a message, its SQLSTATE before it, that matches.
sub sql_fails
{
	my ($node, $sql, $pattern, $name) = @_;
	my ($status, $stdout, $stderr) = $node->psql('postgres', "\\set VERBOSITY verbose\n$sql");

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	Test::More::like($stderr, $pattern, $name);
	return;
}

1;
