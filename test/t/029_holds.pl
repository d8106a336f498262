# 029_holds.pl
#	  Pausing, resuming, skipping, disabling: nothing new starts, nothing that is
#	  under way is sent again, and what is said to be skipped is.

use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use WebhookEvents::Node;
use WebhookEvents::Receiver;

my $receiver = WebhookEvents::Receiver->new;
my $other_receiver = WebhookEvents::Receiver->new;    # another port is another host
my $node = new_node('holds', conf => <<'CONF');
webhook_events.retry_delay = '1h'
webhook_events.max_in_flight_per_host = 2
CONF
my $status = 'FROM webhook_events.status()';

create_platform($node);

sub query
{
	my ($sql) = @_;

	return $node->safe_psql('postgres', $sql);
}

# What SQL says beside its result.
sub notices
{
	my ($sql) = @_;
	my ($code, $stdout, $stderr) = $node->psql('postgres', $sql, on_error_die => 1);

	return $stderr;
}

# What became of a webhook's dispatches, as "2 SUCCEEDED 1, 3 FAILED 0" with their attempts.
sub fates
{
	my ($webhook) = @_;

	return "SELECT string_agg(n || ' ' || status || ' ' || attempts, ', ' ORDER BY status, attempts)"
	  . " FROM (SELECT count(*) AS n, status, attempts FROM webhook_events.dispatches"
	  . " WHERE webhook_id = '$webhook' GROUP BY 2, 3) AS d";
}

sub sent_to
{
	my ($path) = @_;

	return scalar grep { $_->{target} eq $path } $receiver->requests;
}

# A webhook whose requests are held, and so many runs for it: two are under way.
sub hold_back
{
	my ($name, $count) = @_;
	my $webhook = create_webhook($node, $receiver->url("/hold/$name"), 'ACTOR.RUN.CREATED', actor_id => "'$name'");

	insert_runs($node, $count, $name);
	wait_for_sql($node, "SELECT count(*) FROM webhook_events.in_flight WHERE webhook_id = '$webhook'", 2);
	return $webhook;
}

my $ok = create_webhook($node, $other_receiver->url('/ok'), 'ACTOR.RUN.CREATED', actor_id => "'ok'");

# Under way while delivery stops and goes on, in each way there is.
my $webhook = hold_back('stops', 5);
query('SELECT webhook_events.pause()');
is(query("SELECT in_flight $status"), 2, 'what is under way goes on when delivery is paused');
query('SELECT webhook_events.resume()');
query('ALTER SYSTEM SET webhook_events.delivery = off; SELECT pg_reload_conf()');
wait_for_sql($node, "SELECT reason $status", 'webhook_events.delivery is off');
query('ALTER SYSTEM RESET webhook_events.delivery; SELECT pg_reload_conf()');
wait_for_sql($node, "SELECT reason IS NULL $status", 't');
insert_runs($node, 1, 'ok');
wait_for_sql($node, fates($ok), '1 SUCCEEDED 1');
$receiver->release('stops');
wait_for_sql($node, fates($webhook), '5 SUCCEEDED 1');
is(sent_to('/hold/stops'), 5, 'and is not sent again when it is resumed');

# Once pause() has returned nothing starts, however much there is to be sent.
insert_runs($node, 500, 'ok');
my $paused_at = query('SELECT webhook_events.pause(); SELECT clock_timestamp()') =~ s/^\s+//r;
insert_runs($node, 5, 'ok');
wait_for_sql($node, "SELECT in_flight = 0 AND reason ~ '^paused' $status", 't');
my $resumed_at = query('SELECT clock_timestamp()');
my $before = query('SELECT count(*) FROM webhook_events.calls');
query('SELECT webhook_events.resume()');
wait_for_sql($node, fates($ok), '506 SUCCEEDED 1');
is(query("SELECT count(*) FROM webhook_events.calls WHERE started_at > '$paused_at' AND started_at < '$resumed_at'"),
	0, 'nothing has started between pause() and resume()');
is(scalar(grep { $_->{target} eq '/ok' } $other_receiver->requests), 506, 'each was sent once');

# A pause that is rolled back, and one that is not yet committed.
my $session = $node->background_psql('postgres', on_error_stop => 1);
$session->query_safe('BEGIN; SELECT webhook_events.pause()');
is(query("SELECT reason $status"), 'a session that pauses or resumes delivery has not committed', 'an open pause() is shown');
insert_runs($node, 1, 'ok');
$session->query_safe('ROLLBACK');
wait_for_sql($node, fates($ok), '507 SUCCEEDED 1');
pass('one that is rolled back is over');

# Paused and resumed before the worker can look.
$webhook = hold_back('skips', 5);
like(notices(q{BEGIN; SELECT webhook_events.pause(); SELECT webhook_events.resume('skip'); COMMIT}),
	qr/NOTICE:  0 events that were not routed and 3 dispatches that waited are skipped/, 'what waits is skipped');
$receiver->release('skips');
insert_runs($node, 1, 'ok');
wait_for_sql($node, fates($ok), '508 SUCCEEDED 1');
wait_for_sql($node, fates($webhook), '2 SUCCEEDED 1, 3 FAILED 0');
is(sent_to('/hold/skips'), 2, 'and never sent, while what was under way is recorded');

# Under way when the worker is stopped, with or without a row by then.
$webhook = create_webhook($node, $receiver->url('/hold/stopped'), 'ACTOR.RUN.CREATED', actor_id => "'stopped'");
insert_runs($node, 2, 'stopped');
$receiver->wait_for_requests(2, path => '/hold/stopped');
query("SELECT pg_terminate_backend(worker_pid, 60000) $status");
is(query("SELECT count(*) FROM webhook_events.dispatches WHERE webhook_id = '$webhook'"), 2, 'what was sent is in the table');
query('SELECT webhook_events.pause()');
like(notices(q{SELECT webhook_events.resume('skip')}), qr/^(?!.*[1-9]\d* events)/, 'and not skipped as an event that nobody has seen');
$receiver->release('stopped');
wait_for_end($node);

# Events that were not routed.
query('SELECT webhook_events.pause()');
insert_runs($node, 4, 'ok');
like(notices(q{BEGIN; INSERT INTO actor_runs (id, actor_id) VALUES ('own', 'ok'); SELECT webhook_events.resume('skip'); COMMIT}),
	qr/NOTICE:  4 events that were not routed and 0 dispatches that waited are skipped/, 'events are skipped, those of others');
wait_for_sql($node, fates($ok), '509 SUCCEEDED 1');
is(query("SELECT events_waiting $status"), 0, 'nothing is left that waits');
is(query("SELECT webhook_events.replay('$ok', now() - interval '1 day')"), 513, 'all of it can be replayed');
wait_for_end($node);

# Disabled and enabled at once: what waited then is given up, what comes later is not.
query("SELECT webhook_events.update_webhook('$ok', '{\"isEnabled\": false}')");
query("SELECT webhook_events.enable_webhook('$ok')");
$webhook = hold_back('again', 1500);
wait_for_sql($node, fates($webhook), '1500 ACTIVE 0');
query("BEGIN; SELECT webhook_events.disable_webhook('$webhook'); SELECT webhook_events.enable_webhook('$webhook'); COMMIT");
insert_runs($node, 3, 'again');
$receiver->release('again');
wait_for_end($node);
is(query(fates($webhook)), '5 SUCCEEDED 1, 1498 FAILED 0', 'what waits when a webhook is disabled fails, all of it and no more');
is(query("SELECT DISTINCT error_message FROM webhook_events.dispatches WHERE webhook_id = '$webhook' AND status = 'FAILED'"),
	'Webhook was disabled.', 'and says why');
insert_runs($node, 1, 'ok');
wait_for_end($node);
is(query("SELECT count(*) FROM webhook_events.dispatches WHERE webhook_id = '$ok' AND status = 'FAILED'"), 0,
	'one for which nothing waited has lost nothing');

# A call that ended, and is not recorded when what waits is skipped, because whoever skips has its row.
query('ALTER SYSTEM SET webhook_events.max_in_flight_per_host = 16');
query('SELECT pg_reload_conf()');
my %of = (
	succeeds => create_webhook($node, $receiver->url('/hold/late?to=succeeds'), 'ACTOR.RUN.CREATED', actor_id => "'late'"),
	retried => create_webhook($node, $receiver->url('/hold/late?status=500&to=retried'), 'ACTOR.RUN.CREATED', actor_id => "'late'"),
	fails => create_webhook($node, $receiver->url('/hold/late?status=500&to=fails'), 'ACTOR.RUN.CREATED', actor_id => "'late'",
		do_not_retry => 'true'),
	ordered => create_webhook($node, $receiver->url('/hold/late?to=ordered'), 'ACTOR.RUN.CREATED', actor_id => "'late'",
		ordering => "'webhook'"));
my $late = q{webhook_id IN ('} . join(q{', '}, values %of) . q{')};
insert_runs($node, 2, 'late');
wait_for_sql($node, "SELECT count(*) FROM webhook_events.dispatches WHERE $late", 8);
wait_for_sql($node, "SELECT count(*) FROM webhook_events.in_flight WHERE $late", 7);
$session->query_safe("BEGIN; SELECT FROM webhook_events_internal.dispatches WHERE $late FOR UPDATE");
$receiver->release('late');
wait_until { sent_to('/hold/late?to=ordered') == 2 } 'the second one is sent';
wait_for_sql($node, "SELECT count(*) FROM webhook_events.in_flight WHERE $late", 0);
is(query("SELECT count(*) FROM webhook_events.calls AS c JOIN webhook_events.dispatches AS d ON d.id = c.dispatch_id WHERE d.$late"),
	0, 'nothing of it is recorded');
$session->query_safe(q{SET client_min_messages = warning; SELECT webhook_events.pause(); SELECT webhook_events.resume('skip'); COMMIT});
wait_for_sql($node, "SELECT count(*) FROM webhook_events.calls AS c JOIN webhook_events.dispatches AS d ON d.id = c.dispatch_id WHERE d.$late", 8);
wait_for_end($node);
is(query(fates($of{succeeds})), '2 SUCCEEDED 1', 'what was delivered is said to be, though it was skipped meanwhile');
is(query(fates($of{ordered})), '2 SUCCEEDED 1', 'in order as well');
is(query(fates($of{retried})), '2 FAILED 1', 'what failed is not called again');
is(query(fates($of{fails})), '2 FAILED 1', 'nor what would not have been');
is(query("SELECT string_agg(DISTINCT (webhook_id = '$of{fails}') || ' ' || error_message, ', ' ORDER BY (webhook_id = '$of{fails}') || ' ' || error_message)"
		. " FROM webhook_events.dispatches WHERE $late AND status = 'FAILED'"),
	'false Skipped by resume()., true HTTP status 500', 'each says why');
is(sent_to('/hold/late?to=succeeds'), 2, 'each was sent once');
wait_for_sql($node, "SELECT troubles IS NULL $status", 't');

# With many lanes in memory: what a pause forgets of one takes others along.
query('SELECT webhook_events.pause()');
$webhook = create_webhook($node, $receiver->url('/slow/50?lanes'), 'ACTOR.RUN.SUCCEEDED,ACTOR.RUN.FAILED',
	actor_id => "'lanes'", ordering => "'resource'");
insert_runs($node, 30, 'lanes');
query("UPDATE actor_runs SET status = '$_' WHERE actor_id = 'lanes'") foreach ('FAILED', 'SUCCEEDED') x 10;
query('SELECT webhook_events.resume()');
my $pid = query("SELECT worker_pid $status");
my $npauses = 0;
while ($npauses < 50 && (my $nsent = sent_to('/slow/50?lanes')) < 600)
{
	$npauses++;
	query('SELECT webhook_events.pause()');
	query('SELECT webhook_events.resume()');
	wait_until { my $n = sent_to('/slow/50?lanes'); $n > $nsent + 5 || $n >= 600 } 'some more are sent';
}
note("$npauses pauses");
wait_for_end($node);
is(query(fates($webhook)), '600 SUCCEEDED 1', 'what waits in lanes is sent once, however often there is a pause');
is(query("SELECT worker_pid $status"), $pid, 'by the same worker');

$session->quit;
$node->stop;
$receiver->stop;
$other_receiver->stop;
done_testing();
