# faults.pl
#	  Statements and commits of the worker fail at random, with errors that come and
#	  go.  What is in its memory stays right: everything is delivered, once, in its
#	  order, and nothing is given up.
#
# SEED in the environment is that of the faults and of the answers.

use strict;
use warnings;
use IPC::Run;
use PostgreSQL::Test::Utils;
use Test::More;
use WebhookEvents::Node;
use WebhookEvents::Receiver;

my $seed = $ENV{SEED} || 1;
my $nruns = 30;
my $enough = 20;
my $receiver = WebhookEvents::Receiver->new;
my $ordered_receiver = WebhookEvents::Receiver->new;
my $node = new_node('faults', conf => <<CONF);
shared_preload_libraries = 'webhook_events,plans'
plans.fault_seed = $seed
webhook_events.retry_delay = '20ms'
webhook_events.max_retries = 20
webhook_events.ordering_patience = '10h'
webhook_events.poll_interval = '200ms'
webhook_events.max_in_flight_per_host = 8
webhook_events.webhook_memory = '1MB'
CONF

create_platform($node);

sub query
{
	my ($sql) = @_;

	return $node->safe_psql('postgres', $sql);
}

sub set_chance
{
	my ($chance) = @_;

	$node->append_conf('postgresql.conf', "plans.fault_chance = $chance\n");
	$node->reload;
	return;
}

my $types = 'ACTOR.RUN.CREATED,ACTOR.RUN.SUCCEEDED';
my $long = "'{\"a\": \"" . 'x' x 20_000 . "\", \"event\": {{eventType}}}'";
my %webhook = (
	steady => create_webhook($node, $receiver->url('/ok?steady'), $types),
	moody => create_webhook($node, $receiver->url("/random/$seed/20"), $types),
	limited => create_webhook($node, $receiver->url('/ok?limited'), $types),
	long => create_webhook($node, $receiver->url('/ok?long'), $types, payload_template => $long),
	of_runs => create_webhook($node, $ordered_receiver->url('/ok?runs'), $types, ordering => "'resource'"),
	of_all => create_webhook($node, $ordered_receiver->url("/random/$seed/20?all"), 'ACTOR.RUN.CREATED', ordering => "'webhook'"));
query("SELECT webhook_events.set_max_rate('$webhook{limited}', 150)");
my $victim = create_webhook($node, $receiver->url('/slow/50?victim'), $types);
my $base = $receiver->url('');

sub nfaults
{
	return scalar(() = slurp_file($node->logfile) =~ /LOG:  a fault /g);
}

# Runs with a webhook of their own, some retired and back; disabling in between.  A quick
# machine makes fewer statements of them, so the faults are counted.
my $rounds = 0;
set_chance(0.02);
while ($rounds < 5 || ($rounds < 100 && nfaults() < $enough))
{
	my $round = ++$rounds;

	query(<<SQL);
INSERT INTO actor_runs (id, actor_id) SELECT 'run-$round-' || n, 'a' FROM generate_series(1, $nruns) AS n;
SELECT count(*) FROM generate_series(1, $nruns, 3) AS n CROSS JOIN LATERAL webhook_events.create_ad_hoc_webhooks('run-$round-' || n,
	'[{"eventTypes": ["ACTOR.RUN.SUCCEEDED"], "requestUrl": "$base/ok?adhoc"}]'::jsonb);
UPDATE actor_runs SET status = 'RUNNING' WHERE id LIKE 'run-$round-%';
SQL
	query("SELECT webhook_events.@{[ $round % 2 ? 'disable' : 'enable' ]}_webhook('$victim')");
	query("UPDATE actor_runs SET status = 'SUCCEEDED' WHERE id = 'run-$round-$_'") foreach 1 .. $nruns;
	wait_until { query("SELECT count(*) FROM webhook_events.calls") >= 150 * $round } 'some are called';
}
set_chance(0);

# Well before everything is looked for in the tables once more.
wait_until
{
	query('SELECT events_waiting = 0 AND dispatches_active = 0 AND in_flight = 0 FROM webhook_events.status()') eq 't'
}
'all is delivered', 240;
wait_for_sql($node, 'SELECT count(*) FROM webhook_events.webhooks WHERE is_ad_hoc AND is_enabled', 0);
pass('all that waits comes to its end, and ad-hoc webhooks retire');

cmp_ok(nfaults(), '>=', $enough, 'much has failed');
note(nfaults() . " faults in $rounds rounds");
my $nevents = 2 * $rounds * $nruns;
is(query('SELECT count(*) FROM webhook_events.events'), $nevents, 'there were so many events');
foreach my $name (sort keys %webhook)
{
	is(query("SELECT count(DISTINCT event_id), string_agg(DISTINCT status || coalesce(': ' || error_message, ''), ', ')"
			. " FROM webhook_events.dispatches WHERE webhook_id = '$webhook{$name}'"),
		($name eq 'of_all' ? $nevents / 2 : $nevents) . '|SUCCEEDED', "$name: each event was delivered");
}
is(query(q{SELECT count(*) FROM webhook_events.dispatches AS d JOIN webhook_events.webhooks AS w ON w.id = d.webhook_id
	WHERE w.is_ad_hoc AND d.status = 'SUCCEEDED'}), $rounds * $nruns / 3, 'and so was each to the webhook of its run');
is(query("SELECT string_agg(DISTINCT error_message, ', ') FROM webhook_events.dispatches WHERE webhook_id = '$victim' AND status = 'FAILED'") =~ s/^$/Webhook was disabled./r,
	'Webhook was disabled.', 'of one that was disabled nothing else has failed');

# Nothing ends the worker but a fault before it has sent anything.
my %requests;
$requests{$_}++ foreach map { $_->{headers}{'x-apify-webhook-dispatch-id'} } $receiver->requests, $ordered_receiver->requests;
my %calls = map { split /\|/ } split /\n/, query('SELECT dispatch_id, count(*) FROM webhook_events.calls GROUP BY 1');
is_deeply([ grep { ($calls{$_} // 0) != ($requests{$_} // 0) } sort keys %{ { %calls, %requests } } ], [],
	'each call was recorded, and each that was recorded was made');

# A request of these events may come when the one before it has been delivered.
my %event = map { split /\|/ } split /\n/, query("SELECT id, event_id FROM webhook_events.dispatches WHERE webhook_id IN ('$webhook{of_runs}', '$webhook{of_all}')");
my %run = map { split /\|/ } split /\n/, query('SELECT id, actor_run_id FROM webhook_events.events');
my (%last, @overtaking);
foreach my $request ($ordered_receiver->requests)
{
	my $event = $event{ $request->{headers}{'x-apify-webhook-dispatch-id'} };
	my $lane = $request->{target} =~ /all/ ? '' : $run{$event};

	push @overtaking, $event if ($last{$lane} // '') gt $event;
	$last{$lane} = $event;
}
is_deeply(\@overtaking, [], 'in order');
is(query("SELECT count(*) FROM webhook_events.audit(now() - interval '1 hour') WHERE webhook_id IS DISTINCT FROM '$victim'"), 0, 'audit() finds nothing');

# Room that is promised to nobody: a host's share is used in full.
query('SELECT webhook_events.pause()');
query("UPDATE webhook_events_internal.dispatches SET status = 'ACTIVE', next_attempt_at = now(), finished_at = NULL, attempts = 0 WHERE webhook_id = '$webhook{steady}'");
query("SELECT webhook_events.update_webhook('$webhook{steady}', '{\"requestUrl\": \"$base/hold/steady\"}')");
query('SELECT webhook_events.resume()');
wait_for_sql($node, 'SELECT in_flight FROM webhook_events.status()', 8);
$receiver->release('steady');
wait_for_end($node);
is(query("SELECT string_agg(DISTINCT status::text, ' ') FROM webhook_events.dispatches WHERE webhook_id = '$webhook{steady}'"),
	'SUCCEEDED', 'no room is kept for what does not come');

$node->stop;
$receiver->stop;
$ordered_receiver->stop;
done_testing();
