# 027_ordering.pl
#	  What goes out in order: whatever is answered, and however often the worker is
#	  killed, a dispatch is called only when those before it have been delivered.
#
# SEED in the environment is that of the answers, ROUNDS how often the worker is
# killed.

use strict;
use warnings;
use PostgreSQL::Test::Utils;
use Test::More;
use WebhookEvents::Node;
use WebhookEvents::Receiver;

my $seed = $ENV{SEED} // 7;
my $rounds = $ENV{ROUNDS} // 4;
my $receiver = WebhookEvents::Receiver->new;
my $node = new_node('ordering', conf => <<'CONF');
restart_after_crash = on
webhook_events.retry_delay = '20ms'
webhook_events.max_retries = 20
webhook_events.ordering_patience = '10h'
webhook_events.poll_interval = '1s'
CONF

create_platform($node);

sub query
{
	my ($sql) = @_;

	return $node->safe_psql('postgres', $sql);
}

# A webhook with this ordering that answers so.
sub create_ordered
{
	my ($ordering, $path, $actor, $types) = @_;
	my $url = $receiver->url($path);

	return query(qq{SELECT id FROM webhook_events.create_webhook('{"requestUrl": "$url", "eventTypes": [$types],
		"condition": {"actorId": "$actor"}, "ordering": "$ordering"}'::jsonb)});
}

my $types = join ', ', map { "\"ACTOR.RUN.$_\"" } qw(CREATED SUCCEEDED FAILED RESURRECTED);
my %webhook = (
	resource => create_ordered('resource', "/random/$seed/20", 'a', $types),
	map { ($_ => create_ordered('webhook', '/random/' . ($seed + $_) . '/3', "b$_", $types)) } 1 .. 4);

# Two more of them are disabled and replayed meanwhile.
my %troubled = map { ($_ => create_ordered($_, '/random/' . ($seed + 9) . '/20', "t-$_", $types)) } qw(resource webhook);

# Lives of runs: each statement is a transaction of its own, and they are mixed.
sub live
{
	my ($round) = @_;
	my $sql = '';

	foreach my $status (qw(READY FAILED RUNNING SUCCEEDED))
	{
		foreach my $number (1 .. 34)
		{
			my $actor = $number <= 10 ? 'a' : $number <= 30 ? 'b' . ($number % 4 + 1)
			  : $number % 2 ? 't-resource' : 't-webhook';

			$sql .= $status eq 'READY'
			  ? "INSERT INTO actor_runs (id, actor_id) VALUES ('r$round-$number', '$actor');\n"
			  : "UPDATE actor_runs SET status = '$status' WHERE id = 'r$round-$number';\n";
		}
	}
	query($sql);
	return;
}

# The lives happen while delivery is paused, so that they are read at once; all changes
# but the first are made by a transaction that began before the first one.
sub live_at_once
{
	my ($round) = @_;
	my $session = $node->background_psql('postgres', on_error_stop => 1);

	query('SELECT webhook_events.pause()');
	$session->query_safe("BEGIN; INSERT INTO actor_runs (id, actor_id) VALUES ('r$round', 'nobody')");
	query(qq{INSERT INTO actor_runs (id, actor_id) SELECT 'r$round-n' || n, 'nobody' FROM generate_series(1, 700) AS n});
	query(qq{INSERT INTO actor_runs (id, actor_id) SELECT 'r$round-' || n, 'a' FROM generate_series(1, 10) AS n});
	$session->query_safe("UPDATE actor_runs SET status = '$_' WHERE id LIKE 'r$round-%' AND actor_id = 'a'")
	  foreach qw(FAILED RUNNING);
	$session->query_safe('COMMIT');
	$session->quit;
	query("UPDATE actor_runs SET status = 'SUCCEEDED' WHERE id LIKE 'r$round-%' AND actor_id = 'a'");
	query("SELECT webhook_events.resume('send')");
	return;
}

# What waits for some of the webhooks is given up, and some of it sent again.
sub trouble
{
	my ($round) = @_;

	foreach my $id (values %troubled)
	{
		query("SELECT webhook_events.disable_webhook('$id')") if $round % 2;
		query("SELECT webhook_events.enable_webhook('$id')");
		query("SELECT webhook_events.replay('$id', now() - interval '1 day', only_failed => true)");
		query("SELECT webhook_events.redeliver(max(id)) FROM webhook_events.dispatches WHERE webhook_id = '$id' HAVING count(*) > 0");
	}
	return;
}

# The worker ends, in a crash or because it is told to.
sub kill_worker
{
	my ($round) = @_;
	my $worker = q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'webhook_events worker'};
	my $pid = '';

	wait_until { ($pid = query($worker)) ne '' } 'there is a worker';
	if ($round % 2)
	{
		kill 'KILL', $pid;
		wait_until
		{
			my (undef, $stdout) = try_psql($node, 'postgres', $worker);

			$stdout ne '' && $stdout ne $pid;
		}
		'the server has started anew', 120;
	}
	else
	{
		query("SELECT pg_terminate_backend($pid, 60000)");
	}
	return;
}

foreach my $round (1 .. $rounds)
{
	live($round);
	trouble($round);
	live_at_once("$round-paused") if $round % 4 == $seed % 4;
	kill_worker($round);
}
live(0);
wait_until
{
	query("SELECT events_waiting = 0 AND dispatches_active = 0 AND in_flight = 0 FROM webhook_events.status()") eq 't'
}
'all is delivered', 300;

# Which event a request was for, and how it was answered, in order of arrival.
my %event = map { split /\|/ } split /\n/, query('SELECT id, event_id FROM webhook_events.dispatches');
my @arrivals = map {
	{ event => $event{ $_->{headers}{'x-apify-webhook-dispatch-id'} }, answer => $_->{answer} }
} $receiver->requests;

# Of these events, in order: which was called before the one before it was delivered?
sub overtaking
{
	my (@events) = @_;
	my (%before, %delivered, @found);

	$before{ $events[$_] } = $events[ $_ - 1 ] foreach 1 .. $#events;
	foreach my $arrival (@arrivals)
	{
		my $before = $before{ $arrival->{event} };

		push @found, $arrival->{event} if defined $before && !$delivered{$before};
		$delivered{ $arrival->{event} } = 1 if $arrival->{answer} eq '200';
	}
	return @found;
}

my @runs = map { [ split / / ] } split /\n/,
  query(q{SELECT string_agg(id, ' ' ORDER BY id) FROM webhook_events.events WHERE actor_id = 'a' GROUP BY actor_run_id});
my $at_once = grep { $_ % 4 == $seed % 4 } 1 .. $rounds;
is(scalar @runs, 10 * ($rounds + 1 + $at_once), 'all runs have lived');
is_deeply([ map { overtaking(@$_) } @runs ], [], 'the events of a run come in order');
is_deeply(
	[ map { overtaking(split / /, query("SELECT string_agg(id, ' ' ORDER BY id) FROM webhook_events.events WHERE actor_id = 'b$_'")) } 1 .. 4 ],
	[], 'and so do all of a webhook that wants it so');
my $steady = 'FROM webhook_events.dispatches WHERE webhook_id <> ALL (ARRAY['
  . join(', ', map { "'$_'" } values %troubled) . '])';
is(query("SELECT string_agg(id || ': ' || error_message, ', ') $steady AND status <> 'SUCCEEDED'"),
	'', 'none is given up');
is(query("SELECT count(*) $steady"), 30 * 4 * ($rounds + 1) + 40 * $at_once, 'and none is lost');

# Which was called for the first time before one that stands before it in its lane, and
# was made no later?  What was disabled meanwhile has ended, and holds nobody back.
foreach my $ordering (sort keys %troubled)
{
	my (%lane, %is_new, %last, @found);

	foreach my $row (split /\n/, query(qq{SELECT d.id, d.event_id, d.replay_of IS NULL,
		CASE '$ordering' WHEN 'resource' THEN e.actor_run_id ELSE '' END
		FROM webhook_events.dispatches AS d JOIN webhook_events.events AS e ON e.id = d.event_id
		WHERE d.webhook_id = '$troubled{$ordering}'}))
	{
		my ($id, $event, $is_new, $key) = split /\|/, $row, 4;

		$lane{$id} = $key;
		$is_new{$id} = $is_new eq 't';
	}
	foreach my $arrival ($receiver->requests)
	{
		my $id = $arrival->{headers}{'x-apify-webhook-dispatch-id'};

		next if !delete $is_new{$id};
		push @found, $id if ($last{ $lane{$id} } // '') gt $event{$id};
		$last{ $lane{$id} } = $event{$id};
	}
	is_deeply(\@found, [], "what is left of a webhook that is disabled and replayed comes in order ($ordering)");
}

# Patience.  The first event fails for good, or for now; the second waits for it.
my $bad = create_ordered('resource', '/status/500', 'bad', $types);
my $waiting = "FROM webhook_events.dispatches WHERE webhook_id = '$bad'";

sub set
{
	my ($name, $value) = @_;

	$node->append_conf('postgresql.conf', "webhook_events.$name = '$value'");
	$node->reload;
	return;
}

set(retry_delay => '1h');
wait_for_sql($node, 'SHOW webhook_events.retry_delay', '1h');
query(q{INSERT INTO actor_runs (id, actor_id) VALUES ('held', 'bad')});
wait_for_sql($node, "SELECT count(*) $waiting AND attempts = 1 AND holds_until > next_attempt_at", 1);
query(q{UPDATE actor_runs SET status = 'SUCCEEDED' WHERE id = 'held'});
query(q{INSERT INTO actor_runs (id, actor_id) VALUES ('other', 'bad')});
wait_for_sql($node, "SELECT count(*) $waiting AND attempts = 1", 2);
wait_for_sql($node, "SELECT count(*) $waiting AND attempts = 0 AND next_attempt_at = 'infinity'", 1);
pass('who waits behind one that failed is not called, while other runs are');
is(query("SELECT string_agg(state, ', ' ORDER BY id) FROM webhook_events.deliveries WHERE webhook_id = '$bad' AND actor_run_id = 'held'"),
	'waiting for a retry, waiting for its turn', 'and its state says so');

# What was written down counts: the worker would wait for ten hours.
query("UPDATE webhook_events_internal.dispatches SET holds_until = now() WHERE webhook_id = '$bad' AND holds_until IS NOT NULL");
kill_worker(0);
wait_for_sql($node, "SELECT count(*) $waiting AND attempts = 1", 3);
is(query("SELECT count(*) $waiting AND order_key IS NULL AND holds_until IS NOT NULL AND status = 'ACTIVE'"), 2,
	'it is when the other one has held it back for long enough, which the row says');
is(query("SELECT state FROM webhook_events.deliveries WHERE webhook_id = '$bad' AND actor_run_id = 'held' ORDER BY id LIMIT 1"),
	'waiting for a retry, passed by those behind it', 'and its state as well');

# One that is given up lets the next one go at once.
query(qq{SELECT webhook_events.update_webhook('$bad', '{"doNotRetry": true}')});
query(q{INSERT INTO actor_runs (id, actor_id, status) VALUES ('given-up', 'bad', 'SUCCEEDED')});
wait_for_sql($node, "SELECT count(*) $waiting AND status = 'FAILED'", 2);
pass('one that is given up holds nobody back');

# A replay keeps the order of the past, and what is new comes after it.
my $good = create_ordered('webhook', '/ok', 'past', $types);
query(q{INSERT INTO actor_runs (id, actor_id, status) SELECT 'past-' || n, 'past', 'SUCCEEDED' FROM generate_series(1, 50) AS n});
wait_for_sql($node, "SELECT count(*) FROM webhook_events.dispatches WHERE webhook_id = '$good' AND status = 'SUCCEEDED'", 100);
my $seen = scalar $receiver->requests;
is(query("SELECT webhook_events.replay('$good', now() - interval '1 day')"), 100, 'the past is queued again');
wait_for_sql($node, "SELECT count(*) FROM webhook_events.dispatches WHERE webhook_id = '$good' AND status = 'SUCCEEDED'", 200);
my %replayed = map { split /\|/ } split /\n/, query("SELECT id, event_id FROM webhook_events.dispatches WHERE webhook_id = '$good'");
my @all = $receiver->requests;
my @past = map { $replayed{ $_->{headers}{'x-apify-webhook-dispatch-id'} } } @all[ $seen .. $#all ];
is_deeply(\@past, [ sort @past ], 'and arrives in its order');

# One of them that has held the others back for long enough is followed by the next.
my $patient = create_ordered('webhook', '/ok', 'patient', $types);
query(q{INSERT INTO actor_runs (id, actor_id, status) SELECT 'patient-' || n, 'patient', 'SUCCEEDED' FROM generate_series(1, 3) AS n});
wait_for_sql($node, "SELECT count(*) FROM webhook_events.dispatches WHERE webhook_id = '$patient' AND status = 'SUCCEEDED'", 6);
query(sprintf q{SELECT webhook_events.update_webhook('%s', '{"requestUrl": "%s"}')}, $patient, $receiver->url('/status/503'));
set(ordering_patience => '1s');
wait_for_sql($node, 'SHOW webhook_events.ordering_patience', '1s');
query("SELECT webhook_events.replay('$patient', now() - interval '1 day')");
wait_for_sql($node, "SELECT count(*) FROM webhook_events.dispatches WHERE webhook_id = '$patient' AND status = 'ACTIVE' AND attempts > 0", 6);
pass('replays that fail pass the turn on');
set(ordering_patience => '10h');
wait_for_sql($node, 'SHOW webhook_events.ordering_patience', '10h');

# What waits when a webhook is disabled ends; what happens after that is sent.
my $off = create_ordered('webhook', '/hold/off', 'off', $types);
query(q{INSERT INTO actor_runs (id, actor_id, status) SELECT 'off-' || n, 'off', 'SUCCEEDED' FROM generate_series(1, 40) AS n});
wait_for_sql($node, "SELECT count(*) FROM webhook_events.dispatches WHERE webhook_id = '$off' AND next_attempt_at = 'infinity'", 79);
query("SELECT webhook_events.disable_webhook('$off')");
wait_for_sql($node, "SELECT count(*) FROM webhook_events.dispatches WHERE webhook_id = '$off' AND status = 'FAILED'", 79);
query("SELECT webhook_events.enable_webhook('$off')");
query(q{INSERT INTO actor_runs (id, actor_id, status) VALUES ('off-again', 'off', 'SUCCEEDED')});
$receiver->release('off');
wait_for_sql($node, "SELECT count(*) FROM webhook_events.dispatches WHERE webhook_id = '$off' AND status = 'SUCCEEDED'", 3);
pass('a webhook that is disabled and enabled goes on in order');

# A change of the ordering leaves what waits in its order.
my $changed = create_ordered('webhook', '/hold/changed', 'changed', $types);
query(q{INSERT INTO actor_runs (id, actor_id, status) SELECT 'changed-' || n, 'changed', 'SUCCEEDED' FROM generate_series(1, 10) AS n});
wait_for_sql($node, "SELECT count(*) FROM webhook_events.dispatches WHERE webhook_id = '$changed' AND next_attempt_at = 'infinity'", 19);
query(qq{SELECT webhook_events.update_webhook('$changed', '{"ordering": "none"}')});
$receiver->release('changed');
wait_for_sql($node, "SELECT count(*) FROM webhook_events.dispatches WHERE webhook_id = '$changed' AND status = 'SUCCEEDED'", 20);
pass('and one whose ordering is changed sends what waited');

# The outbox is read by the ids of transactions, in steps.  One that began first and
# changed the run last is read long before the one that it had to wait for.
my %overlapped = map { ($_ => create_ordered($_, '/ok', 'overlapped', $types)) } qw(resource webhook);
query(q{INSERT INTO actor_runs (id, actor_id) SELECT 'overlapped-' || n, 'overlapped' FROM generate_series(1, 30) AS n});
wait_for_sql($node, "SELECT count(*) FROM webhook_events.dispatches WHERE webhook_id IN ('$overlapped{resource}', '$overlapped{webhook}') AND status = 'SUCCEEDED'", 60);
query('SELECT webhook_events.pause()');
my $first = $node->background_psql('postgres', on_error_stop => 1);
$first->query_safe(q{BEGIN; INSERT INTO actor_runs (id, actor_id) VALUES ('overlapping', 'nobody')});
query(q{INSERT INTO actor_runs (id, actor_id) SELECT 'between-' || n, 'nobody' FROM generate_series(1, 1200) AS n});
query(q{UPDATE actor_runs SET status = 'FAILED' WHERE actor_id = 'overlapped'});
$first->query_safe(q{UPDATE actor_runs SET status = 'RUNNING' WHERE actor_id = 'overlapped'});
# So long that the first step ends in it, and is followed by what it came after.
$first->query_safe(q{INSERT INTO actor_runs (id, actor_id) SELECT 'last-' || n, 'nobody' FROM generate_series(1, 700) AS n; COMMIT});
$first->quit;
query(q{UPDATE actor_runs SET status = 'SUCCEEDED' WHERE actor_id = 'overlapped'});
query("SELECT webhook_events.resume('send')");
wait_for_sql($node, "SELECT count(*) FROM webhook_events.dispatches WHERE webhook_id IN ('$overlapped{resource}', '$overlapped{webhook}') AND status = 'SUCCEEDED'", 240);
foreach my $ordering (sort keys %overlapped)
{
	my $id = $overlapped{$ordering};
	my %event_of = map { split /\|/ } split /\n/, query("SELECT id, event_id FROM webhook_events.dispatches WHERE webhook_id = '$id'");
	my %run_of = map { split /\|/ } split /\n/, query(q{SELECT id, actor_run_id FROM webhook_events.events WHERE actor_id = 'overlapped'});
	my %arrived;

	foreach my $request ($receiver->requests)
	{
		my $event = $event_of{ $request->{headers}{'x-apify-webhook-dispatch-id'} } // next;

		push @{ $arrived{ $run_of{$event} } }, $event;
	}
	is_deeply([ grep { "@{ $arrived{$_} }" ne join ' ', sort @{ $arrived{$_} } } sort keys %arrived ],
		[], "a run's events come in order whatever the ids of transactions say (ordering $ordering)");
}

$node->stop;
$receiver->stop;
done_testing();
