# 059_broken_calls.pl
#	  Each place at which the worker calls something that can raise an error does so once,
#	  while it has all kinds of work.  What is in its memory stays whole: nothing crashes,
#	  and everything is delivered, in its order.
#
# It goes on until enough places have failed: how long that takes depends on the machine.

use strict;
use warnings;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep time);
use WebhookEvents::Node;
use WebhookEvents::Receiver;

my $enough = 200;
my $most_seconds = 50;
my $nruns = 12;
my $many = 2100;    # more than are matched at once
my $short = q('{"event": {{eventType}}}');
my $receiver = WebhookEvents::Receiver->new;
my $ordered_receiver = WebhookEvents::Receiver->new;
my $node = new_node('broken', conf => <<'CONF');
shared_preload_libraries = 'webhook_events,calls'
restart_after_crash = off
log_min_messages = log
webhook_events.retry_delay = '20ms'
webhook_events.max_retries = 20
webhook_events.ordering_patience = '100d'
webhook_events.poll_interval = '200ms'
webhook_events.max_in_flight_per_host = 8
webhook_events.webhook_memory = '1MB'
webhook_events.max_webhooks_per_user = 10000
CONF

sub query { return $node->safe_psql('postgres', $_[0]); }

create_platform($node);
query(<<'SQL');
CREATE FUNCTION calls_arm(text, text, integer) RETURNS void LANGUAGE c AS 'calls';
CREATE FUNCTION calls_broken() RETURNS integer LANGUAGE c AS 'calls';
CREATE FUNCTION calls_pass(integer) RETURNS void LANGUAGE c AS 'calls';
SQL

# Those that fail come again until they succeed.
my $types = 'ACTOR.RUN.CREATED,ACTOR.RUN.SUCCEEDED';
my $long = "'{\"a\": \"" . 'x' x 20_000 . "\", \"event\": {{eventType}}}'";
my %webhook = (
	steady => create_webhook($node, $receiver->url('/ok?steady'), $types, actor_id => "'a'"),
	moody => create_webhook($node, $receiver->url('/random/1/20'), $types, actor_id => "'a'"),
	limited => create_webhook($node, $receiver->url('/ok?limited'), $types, actor_id => "'a'"),
	long => create_webhook($node, $receiver->url('/ok?long'), $types, actor_id => "'a'", payload_template => $long),
	of_runs => create_webhook($node, $ordered_receiver->url('/ok?runs'), $types, actor_id => "'a'", payload_template => $short, ordering => "'resource'"),
	of_all => create_webhook($node, $ordered_receiver->url('/random/1/20?all'), 'ACTOR.RUN.CREATED', actor_id => "'a'", payload_template => $short, ordering => "'webhook'"));
my $base = $receiver->url('');

query("SELECT webhook_events.set_max_rate('$webhook{limited}', 150)");
query('INSERT INTO webhook_events_internal.webhooks (user_id, event_types, actor_id, request_url)'
	  . " SELECT 'many', '{ACTOR.RUN.CREATED}', 'b', '$base/ok?many' FROM generate_series(1, $many)");

# Whoever waits for a while after a failure has waited.
sub let_time_pass
{
	query('SELECT calls_pass(CASE WHEN worker_pid IS NULL THEN 600 ELSE 2 END),'
		  . ' CASE WHEN worker_pid IS NULL THEN pg_reload_conf() END FROM webhook_events.status()');
	return;
}

# Runs with a webhook of their own, one with a long resource, some with very many that want
# their events; and what people do meanwhile.
my $start = time;
my $rounds = 0;
my $nreplays = 0;

sub work
{
	my $round = ++$rounds;

	query(<<SQL);
INSERT INTO actor_runs (id, actor_id, options) SELECT 'run-$round-' || n, 'a',
	CASE WHEN n = 1 AND $round % 4 = 1 THEN jsonb_build_object('text', (SELECT string_agg(md5(i::text), '') FROM generate_series(1, 10000) AS i)) ELSE '{}' END
	FROM generate_series(1, $nruns) AS n;
SELECT count(*) FROM generate_series(1, $nruns, 3) AS n CROSS JOIN LATERAL webhook_events.create_ad_hoc_webhooks('run-$round-' || n,
	'[{"eventTypes": ["ACTOR.RUN.SUCCEEDED"], "requestUrl": "$base/ok?adhoc"}]'::jsonb);
UPDATE actor_runs SET status = 'RUNNING' WHERE id LIKE 'run-$round-%';
SQL
	query("INSERT INTO actor_runs (id, actor_id, user_id) VALUES ('big-$round', 'b', 'many')") if $round % 12 == 2;
	query("SELECT webhook_events.pause('a test')") if $round % 5 == 3;
	query("UPDATE actor_runs SET status = 'SUCCEEDED' WHERE id = 'run-$round-$_'") foreach 1 .. $nruns;
	query("SELECT webhook_events.update_webhook('$webhook{steady}', '{\"requestUrl\": \"$base/ok?round$round\"}')") if $round % 3 == 0;
	query("SELECT webhook_events.resume('send')") if $round % 5 == 3;
	$nreplays += query("SELECT webhook_events.replay('$webhook{steady}', '-infinity', 'infinity')") if $round == 4;
	foreach (1 .. 4)
	{
		let_time_pass();
		sleep 0.1;
	}
	return;
}

query("SELECT calls_arm('webhook_events worker', '53200', 1)");
work() while $rounds < 10 || (query('SELECT calls_broken()') < $enough && time < $start + $most_seconds);
query("SELECT calls_arm('', '', 1)");
note(sprintf '%.0f s, %d rounds, %s places', time - $start, $rounds, query('SELECT calls_broken()'));
cmp_ok(query('SELECT calls_broken()'), '>=', 40, 'much has failed');

# Nobody has to look for it in the tables: time goes as it does.
wait_until
{
	let_time_pass() if query('SELECT worker_pid IS NULL FROM webhook_events.status()') eq 't';
	query('SELECT events_waiting = 0 AND dispatches_active = 0 AND in_flight = 0 FROM webhook_events.status()') eq 't'
}
'all is delivered', 240;
wait_for_sql($node, 'SELECT count(*) FROM webhook_events.webhooks WHERE is_ad_hoc AND is_enabled', 0);
pass('all that waits comes to its end, and ad-hoc webhooks retire');
my $nevents = 2 * $rounds * $nruns;
my $nbig = query("SELECT count(*) FROM actor_runs WHERE actor_id = 'b'");

is(query('SELECT count(*) FROM webhook_events.events'), $nevents + $nbig, 'there were so many events');
foreach my $name (sort keys %webhook)
{
	is(query("SELECT count(DISTINCT event_id), string_agg(DISTINCT status || coalesce(': ' || error_message, ''), ', ')"
			. " FROM webhook_events.dispatches WHERE webhook_id = '$webhook{$name}'"),
		($name eq 'of_all' ? $nevents / 2 : $nevents) . '|SUCCEEDED', "$name: each event was delivered");
}
is(query("SELECT count(*) FROM webhook_events.dispatches WHERE webhook_id = '$webhook{steady}'"), $nevents + $nreplays,
	'once, and what was to be replayed once more');
is(query("SELECT count(*) FROM webhook_events.dispatches AS d JOIN webhook_events.webhooks AS w ON w.id = d.webhook_id"
		. " WHERE w.is_ad_hoc AND d.status = 'SUCCEEDED'"), $rounds * $nruns / 3, 'and so was each to the webhook of its run');
is(query("SELECT count(*) FROM webhook_events.dispatches AS d JOIN webhook_events.webhooks AS w ON w.id = d.webhook_id"
		. " WHERE w.user_id = 'many' AND d.status = 'SUCCEEDED'"), $nbig * $many, 'and to the very many');
is(query("SELECT count(*) FROM webhook_events.audit(now() - interval '1 hour')"), 0, 'audit() finds nothing');

# What was under way when a worker ended is sent again; nothing else is.
my %requests;
$requests{ $_->[0] }++ foreach map { $_->values_of('x-apify-webhook-dispatch-id') } $receiver, $ordered_receiver;
my %calls = map { split /\|/ } split /\n/, query('SELECT dispatch_id, count(*) FROM webhook_events.calls GROUP BY 1');
my $ends = () = slurp_file($node->logfile) =~ /has ended: an error/g;
my $repeated = grep { ($calls{$_} // 0) < $requests{$_} } keys %requests;

is_deeply([ grep { $calls{$_} > ($requests{$_} // 0) } sort keys %calls ], [], 'each call that was recorded was made');
cmp_ok($repeated, '<=', 16 * $ends, 'and each that was made was recorded, but for what was under way when a worker ended');
cmp_ok($ends, '>', 0, 'a worker that ends says why, also in a log that has no errors');
like(query('SELECT last_error FROM webhook_events.status()'), qr/was broken$/, 'and so does status()');
note("$ends workers ended, and sent $repeated again");

# A request of these events may come when the one before it has been delivered.
my %event = map { split /\|/ } split /\n/, query("SELECT id, event_id FROM webhook_events.dispatches WHERE webhook_id IN ('$webhook{of_runs}', '$webhook{of_all}')");
my %run = map { split /\|/ } split /\n/, query('SELECT id, actor_run_id FROM webhook_events.events');
my (%last, %seen, @overtaking);
foreach my $request ($ordered_receiver->requests)
{
	my $event = $event{ $request->{headers}{'x-apify-webhook-dispatch-id'} };
	my $lane = $request->{target} =~ /all/ ? '' : $run{$event};

	push @overtaking, $event if ($last{$lane} // '') gt $event && !$seen{"$lane $event"};
	$seen{"$lane $event"} = 1;
	$last{$lane} = $event;
}
is_deeply(\@overtaking, [], 'in order');
unlike(slurp_file($node->logfile), qr/terminated by signal|PANIC/, 'nothing has crashed');

$node->stop;
$receiver->stop;
$ordered_receiver->stop;
done_testing();
