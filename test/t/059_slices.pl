# 059_slices.pl
#	  An event that very many webhooks want is dealt with in slices: others' go
#	  through meanwhile, nothing of it is lost or doubled by a crash in between, and
#	  what goes out in order does not pass it.

use strict;
use warnings;
use IO::Socket::INET;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use WebhookEvents::Node;
use WebhookEvents::Receiver;

my $many = 20000;
my $receiver = WebhookEvents::Receiver->new;

# Accepts connections and answers nothing, so that what is called stays under way.
my $silent = IO::Socket::INET->new(LocalAddr => '127.0.0.3', Listen => 64) // die "could not listen: $!";
my $hole = 'http://127.0.0.3:' . $silent->sockport . '/';
my $node = new_node('main', conf => <<'CONF');
webhook_events.max_in_flight_per_host = 2
webhook_events.request_timeout = '1h'
webhook_events.connect_timeout = '1h'
webhook_events.max_webhooks_per_user = 1000000
CONF
create_platform($node);

sub query { return $node->safe_psql('postgres', $_[0]); }

# As one who may call create_webhook() does, so many times.
sub make_webhooks
{
	my ($count, $actor, $user) = @_;

	query("SET synchronous_commit = off;"
		  . " INSERT INTO webhook_events_internal.webhooks (user_id, event_types, actor_id, request_url)"
		  . " SELECT '$user', '{ACTOR.RUN.CREATED,ACTOR.RUN.SUCCEEDED}', '$actor', '$hole' FROM generate_series(1, $count)");
	return;
}

sub wait_for
{
	my ($sql, $what) = @_;

	ok($node->poll_query_until('postgres', $sql), $what);
	return;
}

my $dispatches = 'webhook_events.dispatches AS d JOIN webhook_events.events AS e ON e.id = d.event_id';

# Another user's event comes after the big one, in the same transaction.
make_webhooks($many, 'big', 'mallory');
my $other = create_webhook($node, $receiver->url('/ok'), 'ACTOR.RUN.CREATED', user_id => "'alice'");
query("BEGIN; INSERT INTO actor_runs (id, actor_id, user_id) VALUES ('big', 'big', 'mallory');"
	  . " INSERT INTO actor_runs (id, actor_id, user_id) VALUES ('small', 'small', 'alice'); COMMIT");
wait_for("SELECT count(*) = $many FROM $dispatches WHERE actor_run_id = 'big'", 'all who want an event get it');
is(query("SELECT count(DISTINCT d.webhook_id) FROM $dispatches WHERE actor_run_id = 'big'"), $many, 'each once');
is(query("SELECT count(*) FROM webhook_events.dispatches WHERE webhook_id = '$other' AND status = 'SUCCEEDED'"
		. " AND finished_at < (SELECT max(d.created_at) FROM $dispatches WHERE actor_run_id = 'big')"),
	1, 'another user\'s was delivered before the last of them was made');

# One of those who want it, the last of all, has an order, and gets a later event that
# few want.  A crash in between changes nothing of that.
my $ordered = create_webhook($node, $receiver->url('/ok'), 'ACTOR.RUN.CREATED', user_id => "'mallory'", actor_task_id => "'t'",
	ordering => "'webhook'");
my $order = "SELECT string_agg(e.actor_run_id, ' ' ORDER BY c.started_at) FROM webhook_events.calls AS c"
  . " JOIN webhook_events.dispatches AS d ON d.id = c.dispatch_id JOIN webhook_events.events AS e ON e.id = d.event_id"
  . " WHERE d.webhook_id = '$ordered' AND e.actor_run_id LIKE";

sub insert_big_and_small
{
	my ($name) = @_;

	query("BEGIN; INSERT INTO actor_runs (id, actor_id, actor_task_id, user_id) VALUES ('$name-big', 'big', 't', 'mallory');"
		  . " INSERT INTO actor_runs (id, actor_id, actor_task_id, user_id) VALUES ('$name-small', 'small', 't', 'mallory'); COMMIT");
	return;
}

insert_big_and_small('first');
wait_for("SELECT count(*) = $many + 1 FROM $dispatches WHERE actor_run_id = 'first-big'", 'all get an event, whoever has an order');
wait_for("SELECT count(*) = 2 FROM webhook_events.dispatches WHERE webhook_id = '$ordered' AND status = 'SUCCEEDED'", 'who has an order gets both');
is(query("$order 'first-%'"), 'first-big first-small', 'in order');
is(query("SELECT count(*) FROM $dispatches WHERE actor_run_id = 'first-big' AND d.webhook_id = '$ordered' AND d.created_at <"
		. " (SELECT max(d.created_at) FROM $dispatches WHERE actor_run_id = 'first-big' AND d.webhook_id <> '$ordered')"),
	1, 'and need not wait for the others');

foreach my $how ('immediate', 'fast')
{
	insert_big_and_small($how);
	wait_for("SELECT count(*) > 0 FROM $dispatches WHERE actor_run_id = '$how-big'", "slices are made before a stop: $how");
	$node->stop($how);
	$node->start;
	wait_for("SELECT count(*) >= $many + 1 FROM $dispatches WHERE actor_run_id = '$how-big'", 'the rest of them afterwards');
	wait_for("SELECT count(*) = 2 FROM $dispatches WHERE d.webhook_id = '$ordered' AND status = 'SUCCEEDED' AND actor_run_id LIKE '$how-%'",
		'who has an order gets both again');
	like(query("$order '$how-%'"), qr/^(?:$how-big )+$how-small(?: $how-small)*$/, 'in order');
	is(query("SELECT count(*) || ' ' || count(DISTINCT d.webhook_id) FROM $dispatches WHERE actor_run_id = '$how-big'"),
		($many + 1) . ' ' . ($many + 1), 'nobody gets it twice, nobody is left out');
}

# A pause lets what is in slices come to its end.
insert_big_and_small('paused');
wait_for("SELECT count(*) > 0 FROM $dispatches WHERE actor_run_id = 'paused-big'", 'slices are made before a pause');
query('SELECT webhook_events.pause()');
wait_for("SELECT count(*) = $many + 1 FROM $dispatches WHERE actor_run_id = 'paused-big'", 'all of them are made under it');
is(query("SELECT events_waiting FROM webhook_events.status()"), 0, 'and nothing is left to be routed');
$node->stop;
done_testing();
