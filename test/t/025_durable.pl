# 025_durable.pl
#	  Nothing is sent before it is on disk, although sessions and the worker commit
#	  asynchronously.

use strict;
use warnings;
use PostgreSQL::Test::Utils;
use Test::More;
use WebhookEvents::Node;
use WebhookEvents::Receiver;

my $receiver = WebhookEvents::Receiver->new;

# Nobody but sessions and the worker flushes.
my $node = new_node('main', conf => <<'CONF');
wal_writer_delay = 10s
wal_writer_flush_after = 1GB
bgwriter_lru_maxpages = 0
autovacuum = off
CONF

create_platform($node);
create_webhook($node, $receiver->url('/hold/answer'), 'ACTOR.RUN.CREATED');
$node->safe_psql('postgres', "INSERT INTO actor_runs (id) VALUES ('first')");
wait_until { $receiver->requests == 1 } 'a worker runs';

# Commits asynchronously, and returns how far WAL was inserted then.
sub commit
{
	my $sql = shift;

	return (split /\n/, $node->safe_psql('postgres',
			"SET synchronous_commit = off; $sql; SELECT pg_current_wal_insert_lsn()"))[-1];
}

# Waits for one more request, and tells whether WAL was flushed up to a place, give or
# take the header of a page, when it came.  Until its answer is released nothing of it is recorded for a while.
sub is_flushed_when_sent
{
	my ($lsn, $count) = @_;

	wait_until { $receiver->requests == $count } "request $count is sent";
	return $node->safe_psql('postgres', "SELECT '$lsn'::pg_lsn - pg_current_wal_flush_lsn() <= 40");
}

# Waits until nothing is left to be written: so many dispatches have a row.
sub settle
{
	my $count = shift;

	wait_for_sql($node, 'SELECT count(*) FROM webhook_events.dispatches', $count);
	wait_for_sql($node, 'SELECT pg_current_wal_insert_lsn() - pg_current_wal_flush_lsn() <= 40', 't');
	return;
}

foreach my $i (1 .. 3)
{
	settle($i);
	my $lsn = commit("INSERT INTO actor_runs (id) VALUES ('run $i')");

	is(is_flushed_when_sent($lsn, 1 + $i), 't', "event $i of an asynchronous commit is on disk when it is sent");
}

# Results are flushed soon, although nobody else does.
$receiver->release('answer');
wait_for_sql($node, 'SELECT delivered FROM webhook_events_internal.worker_report()', 4);
settle(4);
pass('results are flushed soon');

# So are commands before they are obeyed.
$receiver->hold('answer');
my $id = $node->safe_psql('postgres', 'SELECT min(id) FROM webhook_events.dispatches');
my $lsn = commit("SELECT webhook_events.redeliver('$id')");
is(is_flushed_when_sent($lsn, 5), 't', 'a dispatch that is queued by a command is on disk when it is sent');
$receiver->release('answer');
wait_for_end($node);

$node->stop;
done_testing();
