# 021_crash.pl
#	  Nothing is lost and nothing invented while clients write, roll back and
#	  commit late, and the server and its worker are killed.
#
# ROWS in the environment is the number of transitions (default 2000).

use strict;
use warnings;
use PostgreSQL::Test::Utils;
use Test::More;
use WebhookEvents::Node;
use WebhookEvents::Receiver;
use WebhookEvents::Writers;

my $rows = $ENV{ROWS} // 2000;
my $nclients = 4;

# What the worker may have called and not recorded when it is killed.
my $unrecorded_limit = 1024;

my $receiver = WebhookEvents::Receiver->new;
my $node = new_node('main', conf => <<'CONF');
restart_after_crash = on
webhook_events.retry_delay = '20ms'
webhook_events.max_retries = 50
CONF

create_platform($node);
create_webhook($node, $receiver->url('/ok'), 'ACTOR.RUN.CREATED,ACTOR.RUN.SUCCEEDED,'
	  . 'ACTOR.RUN.FAILED,ACTOR.RUN.RESURRECTED');
create_webhook($node, $receiver->url('/ok'), 'ACTOR.RUN.FAILED');

# Each client makes its share of transitions.
create_writers($node);
$node->safe_psql('postgres', <<'SQL');
CREATE PROCEDURE work(client int, rows bigint) LANGUAGE plpgsql AS $$
BEGIN
	WHILE (SELECT count(*) FROM transitions AS t WHERE t.client = work.client) < rows LOOP
		CALL write_run(client, 0.02);
	END LOOP;
END $$;
SQL

sub start_clients
{
	my $share = int($rows / $nclients);

	return map { start_writer($node, "work($_, $share)") } 1 .. $nclients;
}

sub finish_clients
{
	$_->finish foreach @_;
	return;
}

sub count_of
{
	return $node->safe_psql('postgres', "SELECT count(*) FROM $_[0]");
}

# Waits until a part of the work is done, in the middle of delivery.
sub wait_for_part
{
	my $part = shift;

	wait_until { count_of('transitions') >= $rows * $part } "$part of the work is done";
	return;
}

my @clients = start_clients();

foreach my $crash (1 .. 3)
{
	wait_for_part($crash * 0.25);
	if ($crash == 2)
	{
		my $pid = $node->safe_psql('postgres',
			'SELECT worker_pid FROM webhook_events.status()');

		kill 'KILL', $pid;
		finish_clients(@clients);
		wait_until { (try_psql($node, 'postgres', 'SELECT 1'))[0] == 0 } 'the server is back';
	}
	else
	{
		$node->stop('immediate');
		finish_clients(@clients);
		$node->start;
	}
	@clients = start_clients();
}
finish_clients(@clients);

wait_for_sql($node, "SELECT running AND events_waiting = 0 AND dispatches_active = 0"
	  . " AND in_flight = 0 FROM webhook_events.status()", 't');

is($node->safe_psql('postgres', untrue_transitions()), 0, 'every committed transition has one event, and no other has');
cmp_ok(count_of('webhook_events.events'), '>=', $rows, 'all the work was done');

my $missing = $node->safe_psql('postgres', <<'SQL');
SELECT count(*) FROM webhook_events.events AS e
	JOIN webhook_events.webhooks AS w ON e.event_type = ANY (w.event_types)
	LEFT JOIN webhook_events.dispatches AS d
		ON d.event_id = e.id AND d.webhook_id = w.id AND d.status = 'SUCCEEDED'
WHERE d.id IS NULL
SQL
is($missing, 0, 'every event was delivered to every webhook that wants it');
is($node->safe_psql('postgres', <<'SQL'), 0, 'by one dispatch');
SELECT count(*) FROM (SELECT FROM webhook_events.dispatches
	GROUP BY event_id, webhook_id HAVING count(*) > 1) AS s
SQL

my %seen;
$seen{ $_->{headers}{'x-apify-webhook-dispatch-id'} }++ foreach $receiver->requests;
my @unseen = grep { !$seen{$_} }
  split /\n/, $node->safe_psql('postgres', 'SELECT id FROM webhook_events.dispatches');
is(scalar @unseen, 0, 'the receiver saw each of them');
is(scalar keys %seen, count_of('webhook_events.dispatches'), 'and no others');

my $duplicates = 0;
$duplicates += $_ - 1 foreach values %seen;
diag("$rows transitions, " . keys(%seen) . " dispatches, $duplicates calls made twice"
	  . ' in 3 crashes');
cmp_ok($duplicates, '<=', 3 * $unrecorded_limit, 'only what was under way was called twice');

# The postmaster signals a process and its group, so it can be told to stop twice at once.
my $worker = q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'webhook_events worker'};
my $offset = -s $node->logfile;
foreach my $round (1 .. 10)
{
	my $pid = '';

	wait_until { ($pid = $node->safe_psql('postgres', $worker)) ne '' } 'there is a worker';
	$node->safe_psql('postgres', "INSERT INTO actor_runs (id, actor_id) SELECT 'twice-$round-' || n, 'twice' FROM generate_series(1, 50) AS n");
	kill 'TERM', $pid, $pid;
	wait_for_sql($node, "SELECT count(*) FROM pg_stat_activity WHERE pid = $pid AND backend_type = 'webhook_events worker'", 0);
}
my $log = slurp_file($node->logfile, $offset);
unlike($log, qr/terminating background worker "webhook_events worker"/, 'a worker that is told twice to stop ends as if once');
is(() = $log =~ /worker of database "postgres" has ended: it was asked to/g, 10, 'each time');

# An event is marked as routed when all of its dispatches have rows, and not when one has: here the
# row of one that is under way can't be written, before the crash.
my $first = create_webhook($node, $receiver->url('/ok?first'), 'ACTOR.RUN.CREATED', actor_id => "'marked'");
my $last = create_webhook($node, $receiver->url('/hold/last'), 'ACTOR.RUN.CREATED', actor_id => "'marked'");
my $table = $node->safe_psql('postgres', 'SELECT tableoid::regclass FROM webhook_events_internal.dispatches ORDER BY id DESC LIMIT 1');
my $status_of = "FROM webhook_events.dispatches AS d JOIN webhook_events.events AS e ON e.id = d.event_id WHERE e.actor_run_id = 'marked' AND d.webhook_id =";
$node->safe_psql('postgres', "CREATE INDEX broken ON $table ((1 / (webhook_id <> '$last')::int))");
$node->safe_psql('postgres', "INSERT INTO actor_runs (id, actor_id) VALUES ('marked', 'marked')");
$receiver->wait_for_requests(1, path => '/hold/last');
wait_for_sql($node, "SELECT d.status $status_of '$first'", 'SUCCEEDED');
is($node->safe_psql('postgres', "SELECT count(*) $status_of '$last'"), 0, 'one dispatch of an event has a row, the other has none');
$node->safe_psql('postgres', 'CHECKPOINT');
$node->stop('immediate');
$node->start;
$node->safe_psql('postgres', 'DROP INDEX webhook_events_internal.broken');
$receiver->release('last');
wait_for_sql($node, "SELECT d.status $status_of '$last'", 'SUCCEEDED');
pass('which is not lost by a crash');

$node->stop;
done_testing();
