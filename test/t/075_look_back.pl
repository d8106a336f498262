# 075_look_back.pl
#	  Ad-hoc webhooks are defined on one server, in the transaction that makes their runs
#	  on another one, as on Citus: when they arrive by replication the runs' first events
#	  were routed, and are looked for.

use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use WebhookEvents::Node;
use WebhookEvents::Receiver;
use WebhookEvents::Tier;

my $receiver = WebhookEvents::Receiver->new;
my $coordinator = new_node('coordinator', init => { allows_streaming => 'logical' }, conf => "webhook_events.delivery = off\n");
my $node = new_node('node', conf => "wal_retrieve_retry_interval = '100ms'\n");
my $log = "SELECT count(*) FROM pg_subscription_rel WHERE srsubstate = 'r'";

$coordinator->safe_psql('postgres', 'CREATE EXTENSION webhook_events');
publish_webhooks($coordinator, 'definitions');
create_platform($node);
subscribe($node, 'definitions', $coordinator, 'definitions');
wait_for_sql($node, $log, 1);

sub node { return $node->safe_psql('postgres', $_[0]); }

# What defines such a webhook.
sub definition
{
	my ($run, $path, $more) = @_;
	my $url = $receiver->url($path);

	return qq{SELECT count(*) FROM webhook_events.create_ad_hoc_webhooks('$run',
		'[{"requestUrl": "$url", "eventTypes": ["ACTOR.RUN.CREATED", "ACTOR.RUN.SUCCEEDED"]$more}]'::jsonb)};
}

# All events are routed; not all that waits need be delivered.
sub wait_for_routing
{
	wait_for_sql($node, 'SELECT events_waiting FROM webhook_events.status()', 0);
	return;
}

# The run is made, on the node, in the transaction on the coordinator, before the webhook.
sub run_with_webhook
{
	my ($run, $path) = @_;
	my $session = $coordinator->background_psql('postgres', on_error_stop => 1);

	$session->query_safe('BEGIN; SELECT 1');
	node("INSERT INTO actor_runs (id, status) VALUES ('$run', 'READY')");
	wait_for_routing();
	$session->query_safe(definition($run, $path, ''));
	$session->query_safe('COMMIT');
	$session->quit;
	return;
}

# Its events in the table, and what has become of them.
sub told
{
	my ($run) = @_;

	return node(qq{SELECT string_agg(d.event_type || ' ' || d.status, ', ' ORDER BY d.id)
		FROM webhook_events.dispatches AS d JOIN webhook_events.events AS e ON e.id = d.event_id WHERE e.actor_run_id = '$run'});
}

sub wait_for_told
{
	my ($run, $expected) = @_;

	wait_until { told($run) eq $expected } "$run: $expected";
	return;
}

# All webhooks that were defined have come, and their runs were looked at.
sub wait_for_checks
{
	my $count = $coordinator->safe_psql('postgres', 'SELECT count(*) FROM webhook_events.webhooks');

	wait_for_sql($node, 'SELECT count(*) FROM webhook_events.webhooks', $count);
	wait_for_sql($node, 'SELECT count(*) FROM webhook_events_internal.runs_to_check', 0);
	return;
}

run_with_webhook('made', '/ok');
wait_for_told('made', 'ACTOR.RUN.CREATED SUCCEEDED');
pass('a webhook gets what its run has raised before it arrived');
wait_for_sql($node, "SELECT webhook_events.dispatches_json(id) ->> 'total' FROM webhook_events.webhooks WHERE actor_run_id = 'made'", 1);
node("UPDATE actor_runs SET status = 'SUCCEEDED' WHERE id = 'made'");
wait_for_told('made', 'ACTOR.RUN.CREATED SUCCEEDED, ACTOR.RUN.SUCCEEDED SUCCEEDED');
wait_for_sql($node, "SELECT is_retired FROM webhook_events.webhooks WHERE actor_run_id = 'made'", 't');
pass('and retires after the end');

# A run that is over when the webhook comes.
my $session = $coordinator->background_psql('postgres', on_error_stop => 1);
$session->query_safe('BEGIN; SELECT 1');
node("INSERT INTO actor_runs (id, status) VALUES ('short', 'READY'); UPDATE actor_runs SET status = 'SUCCEEDED' WHERE id = 'short'");
wait_for_routing();
$session->query_safe(definition('short', '/ok', ''));
$session->query_safe('COMMIT');
$session->quit;
wait_for_told('short', 'ACTOR.RUN.CREATED SUCCEEDED, ACTOR.RUN.SUCCEEDED SUCCEEDED');
wait_for_sql($node, "SELECT is_retired FROM webhook_events.webhooks WHERE actor_run_id = 'short'", 't');
pass('one of a run that has ended gets all of it, and retires');

# Not what was there before the transaction, which clocks tell to a second.
node("INSERT INTO actor_runs (id, status) VALUES ('before', 'READY')");
wait_for_sql($node, "SELECT clock_timestamp() > created_at + interval '2 seconds' FROM webhook_events.events WHERE actor_run_id = 'before'", 't');
$coordinator->safe_psql('postgres', definition('before', '/ok', ''));
wait_for_checks();
node("UPDATE actor_runs SET status = 'SUCCEEDED' WHERE id = 'before'");
wait_for_told('before', 'ACTOR.RUN.SUCCEEDED SUCCEEDED');
pass('but not what was raised before the transaction that has defined it');

# Nor what another kind of webhook has missed, or one that was not there for it.
my %other = (
	disabled => ['"isAdHoc": true, "isEnabled": false', "SELECT count(webhook_events.enable_webhook(id)) FROM webhook_events.webhooks WHERE actor_run_id = 'disabled'"],
	ordinary => ['"isAdHoc": false', 'SELECT 1']);
foreach my $run (sort keys %other)
{
	my ($keys, $then) = @{ $other{$run} };
	my $definer = $coordinator->background_psql('postgres', on_error_stop => 1);

	$definer->query_safe('BEGIN; SELECT 1');
	node("INSERT INTO actor_runs (id, status) VALUES ('$run', 'READY')");
	wait_for_routing();
	$definer->query_safe(sprintf q{SELECT count(*) FROM webhook_events.create_webhook('{"requestUrl": "%s", %s,
		"eventTypes": ["ACTOR.RUN.CREATED", "ACTOR.RUN.SUCCEEDED"], "condition": {"actorRunId": "%s"}}'::jsonb)}, $receiver->url('/ok'), $keys, $run);
	$definer->query_safe($then);
	$definer->query_safe('COMMIT');
	$definer->quit;
}
wait_for_checks();
wait_for_sql($node, "SELECT count(*) FROM webhook_events.webhooks WHERE actor_run_id = 'disabled' AND is_enabled", 1);
node("UPDATE actor_runs SET status = 'SUCCEEDED' WHERE id IN ('disabled', 'ordinary')");
wait_for_told($_, 'ACTOR.RUN.SUCCEEDED SUCCEEDED') foreach sort keys %other;
pass('nor what one missed that was disabled at first, or is not ad-hoc');

# Both ways to the same event: the webhook comes while nothing is read, and when the worker goes
# on it finds both the event and the run that is to be looked at.  It is killed in between.
foreach my $round (1 .. 5)
{
	my $run = "both-$round";

	node('SELECT webhook_events.pause()');
	my $definer = $coordinator->background_psql('postgres', on_error_stop => 1);

	$definer->query_safe('BEGIN; SELECT 1');
	node("INSERT INTO actor_runs (id, status) VALUES ('$run', 'READY')");
	$definer->query_safe(definition($run, '/ok', ', "ordering": "resource"'));
	$definer->query_safe('COMMIT');
	$definer->quit;
	wait_for_sql($node, "SELECT count(*) FROM webhook_events.webhooks WHERE actor_run_id = '$run'", 1);
	node('SELECT webhook_events.resume()');
	if ($round % 2)
	{
		$node->stop('immediate');
		$node->start;
	}
	wait_for_told($run, 'ACTOR.RUN.CREATED SUCCEEDED');
}
wait_for_sql($node, 'SELECT count(*) FROM webhook_events_internal.runs_to_check', 0);
wait_for_end($node);
is(node(q{SELECT count(*) FROM webhook_events.dispatches AS d JOIN webhook_events.events AS e ON e.id = d.event_id
	WHERE e.actor_run_id LIKE 'both-%'}), 5, 'what both the router and the look back find is dispatched once');

# One whose endpoint answers later is not made again by the looks that follow.
run_with_webhook('slow', '/hold/slow');
wait_for_told('slow', 'ACTOR.RUN.CREATED ACTIVE');
$coordinator->safe_psql('postgres', definition('slow', '/ok?second', ''));
wait_for_checks();
$receiver->release('slow');
wait_until { told('slow') !~ /ACTIVE/ } 'it is delivered';
is((grep { $_->{target} eq '/hold/slow' } $receiver->requests), 1, 'and is sent once');

is(node("SELECT count(*) FROM webhook_events.audit(now() - interval '1 hour')"), 0, 'audit() finds nothing amiss');
is(node('SELECT troubles IS NULL AND last_error IS NULL FROM webhook_events.status()'), 't', 'nor has the worker');

$_->stop foreach $node, $coordinator;
$receiver->stop;
done_testing();
