# 041_replay.pl
#	  Sending again: one dispatch, or all events of a span of time.

use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use WebhookEvents::Node;
use WebhookEvents::Receiver;

my $receiver = WebhookEvents::Receiver->new;
my $node = new_node('replay', conf => "webhook_events.retry_delay = '1h'\n");

create_platform($node);

sub query
{
	my ($sql) = @_;

	return $node->safe_psql('postgres', $sql);
}

# The runs of the requests to a path since the last call.
my %seen;

sub sent
{
	my ($path) = @_;
	my @requests = grep { $_->{target} eq $path } $receiver->requests;
	my @runs = map { $_->{body} =~ /"actorRunId":"([^"]+)"/ } splice @requests, $seen{$path} // 0;

	$seen{$path} += @runs;
	return join ' ', @runs;
}

# One dispatch.
my $webhook = create_webhook($node, $receiver->url('/ok?a'), 'ACTOR.RUN.CREATED, ACTOR.RUN.FAILED', user_id => "'ada'");
my $types = "'{ACTOR.RUN.FAILED}'";
query(q{INSERT INTO actor_runs (id, actor_id, user_id) SELECT 'r' || n, 'x', 'ada' FROM generate_series(1, 3) AS n});
query(q{INSERT INTO actor_runs (id, actor_id, user_id) VALUES ('other', 'x', 'bob')});
query(q{UPDATE actor_runs SET status = 'FAILED' WHERE id = 'r2'});
wait_for_end($node);
is(join(' ', sort split / /, sent('/ok?a')), 'r1 r2 r2 r3', 'events are delivered');
my $first = query("SELECT d.id FROM webhook_events.dispatches AS d JOIN webhook_events.events AS e ON e.id = d.event_id"
	  . " WHERE e.actor_run_id = 'r1'");
is(query("BEGIN; SELECT webhook_events.redeliver('$first') <> ''; ROLLBACK; SELECT webhook_events.dispatch_json('$first') ->> 'status'"),
	"t\nSUCCEEDED", 'a redelivery that is rolled back');
my $second = query("SELECT webhook_events.redeliver('$first')");
wait_for_sql($node, "SELECT status, attempts, replay_of = '$first' FROM webhook_events.dispatches WHERE id = '$second'", 'SUCCEEDED|1|t');
is(sent('/ok?a'), 'r1', 'is not sent, and one that commits is');
isnt($second, $first, 'as a dispatch of its own');
my ($old, $new) = map { my $id = $_; grep { $_->{headers}{'x-apify-webhook-dispatch-id'} eq $id } $receiver->requests } $first, $second;
is($new->{body}, $old->{body}, 'with the same body');
my $third = query("SELECT webhook_events.redeliver('$second')");
wait_for_sql($node, "SELECT status, replay_of FROM webhook_events.dispatches WHERE id = '$third'", "SUCCEEDED|$first");
is(sent('/ok?a'), 'r1', 'a redelivery can be redelivered');
sql_fails($node, "SELECT webhook_events.redeliver('nope')", qr/P0002: dispatch "nope" does not exist/, 'unknown dispatches are errors');
# Redeliveries are no way to fill the queue.
query(<<"SQL");
BEGIN;
INSERT INTO webhook_events_internal.dispatches (id, event_id, webhook_id, user_id, event_type, status, created_at, attempts, next_attempt_at)
SELECT webhook_events_internal.new_id(), event_id, webhook_id, user_id, event_type, 'ACTIVE', now(), 0, now() + interval '1 day'
FROM webhook_events_internal.dispatches, generate_series(1, 9999) WHERE id = '$first';
SELECT webhook_events.redeliver('$first');
DO \$\$ BEGIN
	PERFORM webhook_events.redeliver('$first');
	RAISE EXCEPTION 'there is no limit';
EXCEPTION WHEN program_limit_exceeded THEN
	IF SQLERRM !~ '^webhook "\\w{17}" has 10000 dispatches waiting already\$' THEN RAISE; END IF;
END \$\$;
ROLLBACK;
SQL
pass('while ten thousand wait for its webhook nothing is redelivered');

# Many events.
my $hour = "now() - interval '1 hour'";
is(query("BEGIN; SELECT webhook_events.replay('$webhook', $hour); ROLLBACK"), 4, 'a replay that is rolled back');
my $made = q{SELECT 'w', u, 1, 'd', 'd' FROM unnest('{bob,NULL,ada}'::text[]) AS u CROSS JOIN generate_series(1, 1000)};
is(query("BEGIN; INSERT INTO webhook_events_internal.replay_calls (webhook_id, user_id, dispatches, first_dispatch_id, last_dispatch_id) $made;"
	  . " SELECT webhook_events.replay('$webhook', $hour);"
	  . " SELECT string_agg(c.calls, ' ') FROM (SELECT coalesce(user_id, 'nobody') || ' ' || count(*) FROM webhook_events_internal.replay_calls GROUP BY user_id ORDER BY user_id) AS c (calls); ROLLBACK"),
	"4\nada 1000 bob 1000 nobody 1000", 'so many calls of each user are remembered, whatever others do');
query(q{INSERT INTO actor_runs (id, actor_id, user_id) VALUES ('r4', 'x', 'ada')});
wait_for_end($node);
is(sent('/ok?a'), 'r4', 'sends nothing');
is(query("SELECT webhook_events.replay('$webhook', $hour)"), 5, 'one that commits');
wait_for_end($node);
is(join(' ', sort split / /, sent('/ok?a')), 'r1 r2 r2 r3 r4', 'sends all of it');
is(query("SELECT webhook_events.replay('$webhook', $hour, event_types => $types)"), 1, 'it can be limited to types');
wait_for_end($node);
is(sent('/ok?a'), 'r2', 'of events');
is(query("SELECT webhook_events.replay('$webhook', now() - interval '2 hours', $hour)"), 0, 'and to a span of time');
is(query("SELECT webhook_events.replay('$webhook', $hour, only_failed => true)"), 0, 'nothing has failed');
query(q{SELECT webhook_events.test_webhook(id) FROM webhook_events.webhooks});
wait_for_end($node);
sent('/ok?a');
my $late = create_webhook($node, $receiver->url('/ok?late'), 'ACTOR.RUN.CREATED', user_id => "'bob'");
is(query("SELECT webhook_events.replay('$late', $hour)"), 1, 'a webhook can be sent what was before it');
wait_for_end($node);
is(sent('/ok?late'), 'other', 'if it would get it now');

# What failed, after the endpoint was put right.
my $failing = create_webhook($node, $receiver->url('/status/500'), 'ACTOR.RUN.ABORTED', do_not_retry => 'true');
query(q{UPDATE actor_runs SET status = 'ABORTED' WHERE id IN ('r1', 'r3')});
wait_for_end($node);
is(query("SELECT string_agg(status::text, ' ') FROM webhook_events.dispatches WHERE webhook_id = '$failing'"), 'FAILED FAILED', 'two fail');
is(query("SELECT webhook_events.replay('$failing', $hour, only_failed => true)"), 2, 'they are sent again');
wait_for_end($node);
is(query("SELECT count(*) FROM webhook_events.dispatches WHERE webhook_id = '$failing' AND status = 'FAILED'"), 4, 'and fail again');
query(sprintf q{SELECT webhook_events.update_webhook('%s', '{"requestUrl": "%s"}')}, $failing, $receiver->url('/ok?fixed'));
query(q{UPDATE actor_runs SET status = 'ABORTED' WHERE id = 'r4'});
wait_for_end($node);
is(sent('/ok?fixed'), 'r4', 'the URL is put right');
is(query("SELECT webhook_events.replay('$failing', $hour, only_failed => true)"), 2, 'what never succeeded is sent again');
wait_for_end($node);
is(join(' ', sort split / /, sent('/ok?fixed')), 'r1 r3', 'and nothing else');
is(query("SELECT webhook_events.replay('$failing', $hour, only_failed => true)"), 0, 'then there is nothing left');

# Live events come first, even if their host is slow.
my $slow = create_webhook($node, $receiver->url('/slow/100'), 'ACTOR.RUN.CREATED', user_id => "'ada'");
query(q{INSERT INTO actor_runs (id, actor_id, user_id) SELECT 'm' || n, 'x', 'ada' FROM generate_series(1, 60) AS n});
wait_for_end($node);
sent('/slow/100');
query(qq{BEGIN; SELECT webhook_events.replay('$slow', $hour);
	INSERT INTO actor_runs (id, actor_id, user_id) VALUES ('live', 'x', 'ada'); COMMIT});
wait_for_end($node);
my @order = split / /, sent('/slow/100');
is(scalar @order, 65, 'past events are sent along with a live one');
cmp_ok((grep { $order[$_] eq 'live' } 0 .. $#order)[0], '<', 16, 'which does not wait for them');

# What waits is not queued twice, and survives a crash.
my $held = create_webhook($node, $receiver->url('/hold/later'), 'ACTOR.RUN.CREATED', user_id => "'ada'");
is(query("SELECT webhook_events.replay('$held', $hour)"), 65, 'a replay to an endpoint that hangs');
is(query("SELECT webhook_events.replay('$held', $hour)"), 0, 'is not queued twice');
is(query("SELECT count(*), count(next_attempt_at) FROM webhook_events.dispatches WHERE webhook_id = '$held' AND status = 'ACTIVE'"), '65|0', 'all of it waits');
$receiver->wait_for_requests(8, path => '/hold/later');
$node->stop('immediate');
$receiver->release('later');
$node->start;
wait_for_end($node);
is(query("SELECT count(*), count(DISTINCT event_id) FROM webhook_events.dispatches WHERE webhook_id = '$held' AND status = 'SUCCEEDED'"),
	'65|65', 'after a crash all of it is sent');
is(query("SELECT count(*) FROM webhook_events.audit($hour)"), 0, 'and all is well');

# A webhook that ends takes its replays with it.
$receiver->hold('later');
query("SELECT webhook_events.replay('$held', $hour)");
$receiver->wait_for_requests(8 + 65 + 8, path => '/hold/later');
query("SELECT webhook_events.disable_webhook('$held')");
$receiver->release('later');
wait_for_end($node);
is(query("SELECT error_message, count(*) > 40 FROM webhook_events.dispatches WHERE webhook_id = '$held' AND status = 'FAILED' GROUP BY 1"),
	'Webhook was disabled.|t', 'replays of a disabled webhook fail');
sql_fails($node, "SELECT webhook_events.replay('$held', $hour)", qr/55000: webhook "$held" is disabled/, 'none can be queued for it');
my ($any) = split /\n/, query("SELECT id FROM webhook_events.dispatches WHERE webhook_id = '$held' LIMIT 1");
sql_fails($node, "SELECT webhook_events.redeliver('$any')", qr/55000: webhook "$held" is disabled/, 'and nothing be sent again');
sql_fails($node, "SELECT webhook_events.replay('nope', $hour)", qr/42704: webhook "nope" does not exist/, 'unknown webhooks are errors');
sql_fails($node, "SELECT webhook_events.replay('$slow', NULL)", qr/22004: a span of time needs its beginning/, 'so is no time');
query("SELECT webhook_events.delete_webhook('$held')");
sql_fails($node, "SELECT webhook_events.redeliver('$any')", qr/42704: webhook "$held" does not exist/, 'or a webhook that is gone');

# How far they are.
my $watched = create_webhook($node, $receiver->url('/ok?watched'), 'ACTOR.RUN.CREATED', actor_id => "'watched'", user_id => "'ada'");
query(q{INSERT INTO actor_runs (id, actor_id, user_id) SELECT 'watched' || n, 'watched', 'ada' FROM generate_series(1, 3) AS n});
wait_for_sql($node, "SELECT count(*) FROM webhook_events.dispatches WHERE webhook_id = '$watched' AND status = 'SUCCEEDED'", 3);
query('SELECT webhook_events.pause()');
is(query("SELECT webhook_events.replay('$watched', now() - interval '1 day')"), 3, 'a replay while delivery is paused');
my $far = "SELECT user_id, dispatches, succeeded, failed, waiting, ends_at FROM webhook_events.replays WHERE webhook_id = '$watched'";
is(query($far), 'ada|3|0|0|3|', 'waits, and nobody knows for how long');
is(query('SELECT dispatches_active, oldest_due_at FROM webhook_events.status()'), '3|', 'status() counts them, and none is due');
is(query("SELECT DISTINCT state FROM webhook_events.deliveries WHERE webhook_id = '$watched' AND attempts = 0"), 'paused', 'as its deliveries say');
query('SELECT webhook_events.resume()');
wait_for_sql($node, $far, 'ada|3|3|0|0|');
query(q{CREATE ROLE ada; CREATE ROLE bob; SELECT webhook_events.grant_access('ada', 'tenant', 'ada'), webhook_events.grant_access('bob', 'tenant', 'bob')});
is(query("SET ROLE ada; SELECT count(*) FROM webhook_events.replays WHERE webhook_id = '$watched'"), 1, 'its user sees it');
is(query("SET ROLE bob; SELECT count(*) FROM webhook_events.replays WHERE user_id = 'ada'"), 0, 'and no other one');

is(query('SELECT last_error FROM webhook_events.status()'), '', 'the worker never failed');
$node->stop;
done_testing();
