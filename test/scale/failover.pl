# failover.pl
#	  A drill: two servers under repmgr, the standby synchronous, are written to while the
#	  primary is killed, repmgrd promotes the standby, the old primary joins again, and the
#	  same once more the other way; then what arrived is counted.
#
# By hand, where repmgr is installed (Debian: postgresql-15-repmgr):
#
#	  make test-tap PROVE_TESTS=test/scale/failover.pl PROVE_FLAGS=-v

use strict;
use warnings;
use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep time);
use WebhookEvents::Node;
use WebhookEvents::Receiver;
use WebhookEvents::Tier;

my ($staged) = grep { -x "$_/postgres" } split /:/, $ENV{PATH};
my ($repmgr, $repmgrd) = map { "$staged/$_" } 'repmgr', 'repmgrd';

plan skip_all => 'there is no repmgr' if !-x $repmgr || !-x $repmgrd;

my $receiver = WebhookEvents::Receiver->new;
my $conf = <<'CONF';
shared_preload_libraries = 'repmgr,webhook_events'
wal_log_hints = on
hot_standby = on
wal_keep_size = '256MB'
webhook_events.retry_delay = '100ms'
CONF
my $one = new_node('one', init => { allows_streaming => 1 }, conf => $conf, start => 0);
my $two = PostgreSQL::Test::Cluster->new('two');
my %number = (one => 1, two => 2);
my %daemon;

sub conf_of { return $_[0]->basedir . '/repmgr.conf'; }

sub conninfo
{
	my ($node) = @_;

	return 'host=' . $node->host . ' port=' . $node->port . ' dbname=repmgr connect_timeout=2';
}

sub write_conf
{
	my ($node) = @_;
	my $file = conf_of($node);

	append_to_file($file, join "\n", "node_id = $number{$node->name}", "node_name = '" . $node->name . "'", "conninfo = '" . conninfo($node) . "'",
		"data_directory = '" . $node->data_dir . "'", "pg_bindir = '$staged'", 'failover = automatic',
		"promote_command = '$repmgr -f $file standby promote'", "follow_command = '$repmgr -f $file standby follow --upstream-node-id=%n'",
		'reconnect_attempts = 3', 'reconnect_interval = 1', 'monitor_interval_secs = 1', '');
	return;
}

# repmgr on a node; dies with what it says if it fails.
sub repmgr
{
	my ($node, @arguments) = @_;
	my $output = '';

	IPC::Run::run([ $repmgr, '-f', conf_of($node), @arguments ], '>&', \$output) or die "repmgr @arguments: $output";
	return;
}

sub watch
{
	my ($node) = @_;

	$daemon{ $node->name } = IPC::Run::start([ $repmgrd, '-f', conf_of($node), '--daemonize=false', '--no-pid-file' ], '>&', $node->basedir . '/repmgrd.log');
	return;
}

sub unwatch
{
	my ($node) = @_;
	my $daemon = delete $daemon{ $node->name } or return;

	$daemon->kill_kill;
	return;
}

END
{
	my $status = $?;

	$_->kill_kill foreach values %daemon;
	$? = $status;
}

# Commits wait for the other one, while there is one.
sub be_synchronous
{
	my ($node) = @_;

	$node->safe_psql('postgres', "ALTER SYSTEM SET synchronous_standby_names = '*'");
	$node->reload;
	wait_for_sql($node, "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'", 1);
	return;
}

$one->start;
$one->safe_psql('postgres', 'CREATE DATABASE repmgr');
write_conf($_) foreach $one, $two;
repmgr($one, 'primary', 'register', '--superuser=postgres');
create_platform($one);
create_webhook($one, $receiver->url('/ok'), 'ACTOR.RUN.CREATED, ACTOR.RUN.SUCCEEDED');
repmgr($two, '-h', $one->host, '-p', $one->port, '-U', 'postgres', '-d', 'repmgr', 'standby', 'clone', '--fast-checkpoint');
append_to_file($two->data_dir . '/postgresql.conf', "port = " . $two->port . "\nunix_socket_directories = '" . $two->host . "'\n");
$two->start;
repmgr($two, 'standby', 'register', '--wait-sync=60');
be_synchronous($one);

# One writer: each run is created and ends, and what was acknowledged is written down.
sub write_to
{
	my ($node, $name) = @_;
	my $file = $node->basedir . "/$name";

	append_to_file("$file.sql", join '', map { "INSERT INTO actor_runs (id) VALUES ('$name-$_') RETURNING id;\nUPDATE actor_runs SET status = 'SUCCEEDED' WHERE id = '$name-$_';\nDO 'BEGIN PERFORM pg_sleep(0.02); END';\n" } 1 .. 50_000);
	return IPC::Run::start([ 'psql', '-XqAt', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr('postgres'), '-f', "$file.sql" ], '>', "$file.acknowledged", '2>', "$file.errors");
}

my %acknowledged;

sub collect
{
	my ($node, $name) = @_;

	$acknowledged{$_} = 1 foreach split /\n/, slurp_file($node->basedir . "/$name.acknowledged");
	return;
}

# Kills the primary under load and returns when the other one has taken over.
sub fail_over
{
	my ($primary, $standby, $round) = @_;

	watch($standby);
	wait_until { -e $standby->basedir . '/repmgrd.log' && slurp_file($standby->basedir . '/repmgrd.log') =~ /monitoring/ } 'repmgrd watches';
	my @writers = map { write_to($primary, "$round-$_") } 'a' .. 'c';
	my $before = $receiver->requests;
	wait_until { $receiver->requests >= $before + 500 } 'there is load';
	my $killed_at = time;
	$primary->stop('immediate');
	eval { $_->finish } foreach @writers;
	collect($primary, "$round-$_") foreach 'a' .. 'c';
	wait_for_sql($standby, 'SELECT pg_is_in_recovery()', 'f');
	my $promoted_at = time;
	wait_for_sql($standby, "SELECT type FROM repmgr.nodes WHERE node_name = '" . $standby->name . "'", 'primary', 'repmgr');
	unwatch($standby);

	# repmgr's copy of the settings is of a primary that waits for another one.
	$standby->safe_psql('postgres', "ALTER SYSTEM SET synchronous_standby_names = ''");
	$standby->reload;
	my %expected;
	foreach my $row (split /\n/, $standby->safe_psql('postgres', 'SELECT id, status FROM actor_runs'))
	{
		my ($id, $status) = split /\|/, $row;

		$expected{"ACTOR.RUN.CREATED $id"} = 1;
		$expected{"ACTOR.RUN.SUCCEEDED $id"} = 1 if $status eq 'SUCCEEDED';
	}
	is((grep { !$expected{"ACTOR.RUN.CREATED $_"} } keys %acknowledged), 0, "$round: nothing that was acknowledged is gone");
	wait_until { has_arrived($receiver, \%expected) } "all events of the new primary arrive";
	wait_for_end($standby);
	my $seen = arrived($receiver);
	my $repeated = grep { $seen->{$_} > 1 } keys %expected;
	is((grep { !$seen->{$_} } keys %expected), 0, "$round: 0 lost");
	is((grep { !$expected{$_} } keys %$seen), 0, "$round: nothing arrived that was not committed");
	cmp_ok($repeated, '<', 2000, "$round: few arrived twice");
	note(sprintf '%s: %d events, 0 lost, %d repeated; promoted %.1f s after the kill', $round, scalar(keys %expected), $repeated, $promoted_at - $killed_at);
	return;
}

fail_over($one, $two, 'first');
# pg_rewind would do this with the server that belongs to it, which has no webhook_events.
IPC::Run::run([ "$staged/postgres", '--single', '-F', '-D', $one->data_dir, 'template1' ], '<', '/dev/null', '>&', '/dev/null');
repmgr($one, 'node', 'rejoin', '-d', conninfo($two), '--force-rewind', '--config-files=postgresql.conf');
$one->_update_pid(1);
# repmgrd ends at once if the standby still has the row of before, which says that it is none.
repmgr($one, 'standby', 'register', '--force', '--wait-sync=60');
be_synchronous($two);
fail_over($two, $one, 'second');
is($one->safe_psql('postgres', 'SELECT running AND reason IS NULL AND troubles IS NULL FROM webhook_events.status()'), 't', 'status() is green');
is($one->safe_psql('postgres', "SELECT count(*) FROM webhook_events.audit(now() - interval '1 hour')"), 0, 'audit() finds nothing amiss');
$one->stop;
done_testing();
