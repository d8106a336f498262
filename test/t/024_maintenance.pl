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

# Has the tables looked after now, and not within the hour.
sub look_after_days
{
	$node->safe_psql('postgres', 'SELECT webhook_events_internal.look_after_days()');
	return;
}

# Is there a table of the last day that is made ahead?
sub has_table
{
	my $kind = shift;

	return "SELECT to_regclass(format('webhook_events_internal.${kind}_%s',"
	  . " to_char((now() AT TIME ZONE 'UTC')::date + 3, 'YYYYMMDD'))) IS NOT NULL";
}

sub wait_for_end_of_process
{
	wait_for_sql($node, "SELECT count(*) $process", 0);
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
wait_for_sql($node, 'SELECT error IS NULL AND looked_at IS NOT NULL FROM webhook_events_internal.days_report()', 't');
wait_for_end_of_process();
my $missing = $node->safe_psql('postgres', "SELECT $last_day");
$node->safe_psql('postgres', "DROP TABLE $missing");
look_after_days();
wait_for_sql($node, has_table('outbox'), 't');
wait_for_end_of_process();
pass('a missing day was made and the process has ended');

# What it can't lock it tries again later, and that alone: one who reads the events
# keeps neither tables of other kinds from being made, nor any delivery.
$node->safe_psql('postgres', join '; ', map { "DROP TABLE $missing" =~ s/outbox/$_/r } qw(calls dispatches outbox));
$node->safe_psql('postgres', 'SELECT webhook_events_internal.create_days(day, day)'
	  . " FROM (VALUES (date '2021-03-01')) AS t (day)");
$node->safe_psql('postgres', 'BEGIN; SELECT count(*) FROM webhook_events.events;'
	  . " PREPARE TRANSACTION 'reads'");
look_after_days();
wait_for_sql($node, has_table('dispatches'), 't');
wait_for_sql($node, has_table('calls'), 't');
wait_for_sql($node, "SELECT error LIKE '%outbox: canceling statement due to lock timeout'"
	  . ' FROM webhook_events_internal.days_report()', 't');
is($node->safe_psql('postgres', has_table('outbox')), 'f', 'what is in use is left for later');
is($node->safe_psql('postgres', "SELECT string_agg(relname, ' ') FROM pg_class WHERE relname ~ '_20210301\$'"),
	'outbox_20210301', 'each table is dropped for itself');
is(log_count('will try again to look after the tables of days of database'), 1, 'a failure is logged');
deliver('beside a failure');
pass('deliveries go on beside a failure');
wait_for_end_of_process();
look_after_days();
wait_for_end_of_process();
is(log_count('will try again to look after the tables of days of database'), 1, 'a failure that lasts is logged once');

# Also while nothing is delivered.
$node->safe_psql('postgres', "COMMIT PREPARED 'reads'; SELECT webhook_events.pause()");
look_after_days();
wait_for_sql($node, has_table('outbox'), 't');
wait_for_sql($node, "SELECT count(*) FROM pg_class WHERE relname ~ '_20210301\$'", 0);
wait_for_sql($node, 'SELECT error IS NULL FROM webhook_events_internal.days_report()', 't');
pass('it was done while delivery was paused');
$node->safe_psql('postgres', 'SELECT webhook_events.resume()');
deliver('after the pause');

# Days that are over get their indexes, a day on which something waits only its events'.
$node->safe_psql('postgres', "SELECT webhook_events_internal.create_days((now() AT TIME ZONE 'UTC')::date - 4, (now() AT TIME ZONE 'UTC')::date - 3);"
	  . ' INSERT INTO webhook_events_internal.dispatches (id, event_id, webhook_id, event_type, status, created_at, attempts, next_attempt_at)'
	  . " SELECT webhook_events.id_lower_bound(now() - interval '3 days') || 'waiting1', 'x', 'x', 'ACTOR.RUN.CREATED', 'ACTIVE', now(), 0, 'infinity'");
my $unindexed = "FROM webhook_events_internal.unindexed_days((now() AT TIME ZONE 'UTC')::date - 2)";
cmp_ok($node->safe_psql('postgres', "SELECT count(*) $unindexed"), '>', 0, 'days that are over have no indexes for looking things up');
look_after_days();
wait_for_sql($node, "SELECT count(*) $unindexed", 0);
is($node->safe_psql('postgres', q{SELECT string_agg(DISTINCT regexp_replace(tablename, '_.*', '') || ' ' || n, ', ')
	FROM (SELECT tablename, count(*) AS n FROM pg_indexes WHERE indexname ~ '_[0-9]{8}_[a-z]+$' AND indexname !~ 'pkey$' GROUP BY tablename) AS i}),
	'dispatches 3, outbox 5', 'until the process has made them');
$node->safe_psql('postgres', q{UPDATE webhook_events_internal.dispatches SET status = 'FAILED', finished_at = now(), next_attempt_at = NULL
	WHERE status = 'ACTIVE'});
cmp_ok($node->safe_psql('postgres', "SELECT count(*) $unindexed"), '>', 0, 'where nothing waits any more it is made up for');
wait_for_end_of_process();

# A process that has much to do never keeps its database in use.
$node->safe_psql('postgres', 'INSERT INTO webhook_events_internal.outbox (id, created_at, xid, event_type)'
	  . " SELECT webhook_events.id_lower_bound('2021-03-01 00:00+00') || lpad(i::text, 8, '0'), now(), '3', 'ACTOR.RUN.CREATED'"
	  . ' FROM generate_series(1, 50000) AS i');
look_after_days();
wait_until { $node->safe_psql('postgres', "SELECT count(*) $process AND wait_event_type = 'Extension'") > 0 }
	'it rests between deletions';
my $pid = $node->safe_psql('postgres', "SELECT pid $process");
$node->safe_psql('template1', 'CREATE DATABASE copy TEMPLATE postgres');
is($node->safe_psql('template1', "SELECT count(*) FROM pg_stat_activity WHERE pid = $pid"), 0,
	'it made way for a copy of its database');
is($node->safe_psql('copy', "SELECT count(*) > 0 FROM webhook_events_internal.outbox WHERE id < '1'"), 't',
	'which has what was not deleted yet');
deliver('after the copy');

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
