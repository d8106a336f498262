# 024_maintenance.pl
#	  The process that looks after the tables of days: it comes and goes, leaves
#	  deliveries alone when it fails, and never keeps a database in use.

use strict;
use warnings;
use PostgreSQL::Test::Utils;
use Test::More;
use WebhookEvents::Node;
use WebhookEvents::Receiver;

my $receiver = WebhookEvents::Receiver->new;
my $node = new_node('main', conf => <<'CONF');
max_logical_replication_workers = 0
webhook_events.databases = 'postgres'
CONF
my $process = "FROM pg_stat_activity WHERE backend_type = 'webhook_events maintenance'";
my $last_day = "to_regclass(format('webhook_events_internal.outbox_%s',"
  . " to_char((now() AT TIME ZONE 'UTC')::date + 3, 'YYYYMMDD')))";

sub log_count
{
	my $pattern = shift;
	my $log = slurp_file($node->logfile);

	return scalar(() = $log =~ /$pattern/g);
}

# Ends the worker; the one that follows starts the process anew.
sub restart_worker
{
	$node->safe_psql('postgres', 'SELECT pg_terminate_backend(pid) FROM pg_stat_activity'
		  . " WHERE backend_type = 'webhook_events worker' AND datname = 'postgres'");
	return;
}

sub deliver
{
	my $id = shift;
	my $count = $receiver->requests;

	$node->safe_psql('postgres', "INSERT INTO actor_runs (id) VALUES ('$id')");
	wait_until { $receiver->requests > $count } "run $id is delivered";
	return;
}

create_platform($node);
create_webhook($node, $receiver->url('/ok'), 'ACTOR.RUN.CREATED');
deliver('first');

# It makes what is missing, and ends.
wait_for_sql($node, "SELECT count(*) $process", 0);
my $missing = $node->safe_psql('postgres', "SELECT $last_day");
$node->safe_psql('postgres', "DROP TABLE $missing");
restart_worker();
wait_for_sql($node, "SELECT $last_day IS NOT NULL", 't');
wait_for_sql($node, "SELECT count(*) $process", 0);
pass('a missing day was made and the process has ended');

# What it can't lock it tries again later.
$node->safe_psql('postgres', "DROP TABLE $missing");
$node->safe_psql('postgres', 'BEGIN; LOCK TABLE webhook_events_internal.outbox IN SHARE UPDATE EXCLUSIVE MODE;'
	  . " PREPARE TRANSACTION 'locks'");
restart_worker();
wait_for_sql($node, "SELECT wait_event_type $process", 'Extension');
is(log_count('could not make or drop the tables of days: canceling statement due to lock timeout'),
	1, 'a failure is logged');
deliver('beside a failure');
pass('deliveries go on beside a failure');
$node->safe_psql('postgres', "COMMIT PREPARED 'locks'");

# It waits for its next try then, but never keeps its database in use.
my $pid = $node->safe_psql('postgres', "SELECT pid $process");
$node->safe_psql('template1', 'CREATE DATABASE copy TEMPLATE postgres');
is($node->safe_psql('template1', "SELECT count(*) FROM pg_stat_activity WHERE pid = $pid"), 0,
	'it made way for a copy of its database');
wait_for_sql($node, "SELECT $last_day IS NOT NULL", 't');
pass('its successor did what it could not do');

# Without a slot for it deliveries go on.
$node->append_conf('postgresql.conf', 'max_worker_processes = 2');
$node->restart;
deliver('without a slot');
wait_until { log_count('no free background worker slot to look after the tables of days') > 0 }
	'the lack of a slot is logged';
deliver('without a slot, later');
is(log_count('no free background worker slot to look after the tables of days'), 1,
	'the lack of a slot is logged once');

$node->stop;
done_testing();
