# 040_inspection.pl
#	  What SQL shows of deliveries, before and after: previews, explanations,
#	  tests, objects of the platform's API, and the audit.

use strict;
use warnings;
use JSON::PP;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use WebhookEvents::Node;
use WebhookEvents::Receiver;

my $receiver = WebhookEvents::Receiver->new;
my $node = new_node('inspection', conf => "webhook_events.retry_delay = '1h'\n");
my $json = JSON::PP->new->utf8->allow_nonref;

create_platform($node);

sub query
{
	my ($sql) = @_;

	return $node->safe_psql('postgres', $sql);
}

# Previews.
my $all = create_webhook($node, $receiver->url('/echo?all'), 'ACTOR.RUN.CREATED, ACTOR.RUN.FAILED',
	user_id => "'ada'",
	should_interpolate_strings => 'true',
	headers_template => q('{"Authorization": "Bearer s3cret", "X-Run": "run {{resource.id}}", "User-Agent": "mine"}'));
my $plain = create_webhook($node, $receiver->url('/ok?plain'), 'ACTOR.RUN.CREATED', actor_run_id => "'r1'");
my $user_url = $receiver->url('/ok?user');
$user_url =~ s{//}{//us%2Fer:pass\@};
my $credentials = create_webhook($node, $user_url, 'ACTOR.RUN.CREATED', actor_run_id => "'r1'");
query(q{INSERT INTO actor_runs (id, actor_id, user_id, status_message)
	VALUES ('r1', 'scraper', 'ada', U&'"quoted" \\\\ \017Elu\0165 \+01F600')});
wait_for_end($node);
my $event = query("SELECT id FROM webhook_events.events WHERE event_type = 'ACTOR.RUN.CREATED'");
foreach my $id ($all, $plain, $credentials)
{
	my ($request) = grep { $_->{headers}{'x-apify-webhook'} eq $id } $receiver->requests;
	my $preview = $json->decode(query(
			"SELECT to_json(p) FROM webhook_events.preview('$id', '$event') AS p"));
	my %headers = map { lc $_ => $preview->{headers}{$_} } keys %{ $preview->{headers} };

	is($preview->{method}, $request->{method}, 'the preview has the method');
	is($preview->{url}, query("SELECT request_url FROM webhook_events.webhooks WHERE id = '$id'"), 'the URL');
	is($preview->{body}, $request->{body}, 'and the body that were sent, to the byte');
	is(query("SELECT webhook_events.verify_signature(ARRAY[webhook_events.webhook_secret('$id')], p.headers, p.body)"
		  . " FROM webhook_events.preview('$id', '$event') AS p"), 't', 'is signed');
	delete @{$_}{qw(webhook-timestamp webhook-signature)} foreach \%headers, $request->{headers};
	is_deeply(\%headers, $request->{headers}, 'and has all headers, but for those that tell the time');
}
sql_fails($node, "SELECT webhook_events.preview('$all', 'nope')", qr/ERROR:  P0002: event "nope" does not exist/, 'unknown events');
sql_fails($node, "SELECT webhook_events.preview('nope', '$event')", qr/ERROR:  42704: webhook "nope" does not exist/, 'and webhooks are errors');
sql_fails($node, "SELECT webhook_events.preview(NULL, NULL)", qr/ERROR:  P0002/, 'and NULLs');
query(q{ALTER SYSTEM SET webhook_events.payload_limit = '1kB'});
$node->reload;
query(qq{SELECT webhook_events.update_webhook('$plain', '{"payloadTemplate": "[{{resource}}, {{resource}}, {{resource}}]"}')});
sql_fails($node, "SELECT webhook_events.preview('$plain', '$event')", qr/22023: request can't be built: payload is longer than 1024 bytes/,
	'what can not be built is said by preview()');
is(query("SELECT fires, reason, body FROM webhook_events.backtest('$plain', now() - interval '1 hour') ORDER BY event_id LIMIT 1"),
	't|payload is longer than 1024 bytes|', 'and by backtest()');
query(q{ALTER SYSTEM RESET webhook_events.payload_limit});
$node->reload;

# Explanations.
my $disabled = create_webhook($node, $receiver->url('/ok'), 'ACTOR.RUN.CREATED', user_id => "'ada'", is_enabled => 'false');
my $other = create_webhook($node, $receiver->url('/ok'), 'ACTOR.RUN.CREATED', user_id => "'ada'", actor_id => "'crawler'");
my $task = create_webhook($node, $receiver->url('/ok'), 'ACTOR.RUN.CREATED', actor_id => "'scraper'", actor_task_id => "'t'");
my $types = create_webhook($node, $receiver->url('/ok'), 'ACTOR.RUN.FAILED, ACTOR.BUILD.CREATED', actor_id => "'scraper'");
my $late = create_webhook($node, $receiver->url('/ok'), 'ACTOR.RUN.CREATED');
my $user = create_webhook($node, $receiver->url('/ok'), 'ACTOR.RUN.CREATED', actor_id => "'scraper'", user_id => "'bob'");
my $stranger = create_webhook($node, $receiver->url('/ok'), 'ACTOR.RUN.CREATED', user_id => "'carol'");
my %explained = map { /^(\w+)\|(.*)$/ ? ($1 => $2) : () }
  split /\n/, query("SELECT webhook_id, fires, split_part(reason, '; ', 1) FROM webhook_events.explain_event('$event')");
is_deeply(\%explained, {
		$all => 't|event type and condition match',
		$plain => 't|event type and condition match',
		$credentials => 't|event type and condition match',
		$disabled => 'f|disabled',
		$other => "f|condition: Actor is crawler, event's is scraper",
		$task => 'f|condition: task is t, event has none',
		$types => 'f|event type not in {ACTOR.RUN.FAILED,ACTOR.BUILD.CREATED}',
		$late => 'f|created after the event',
		$user => "f|user is bob, event's is ada"
	}, 'every webhook that could be thought to match is explained, and no other');
sql_fails($node, "SELECT webhook_events.explain_event('nope')", qr/ERROR:  P0002: event "nope" does not exist/, 'unknown events are errors');
query("DELETE FROM webhook_events_internal.webhooks WHERE id IN ('$disabled', '$other', '$task', '$types', '$late', '$user', '$stranger')");

# Backtests need neither a webhook that is old enough nor an enabled one.
my $new = create_webhook($node, $receiver->url('/ok'), 'ACTOR.RUN.FAILED, ACTOR.RUN.CREATED',
	is_enabled => 'false', payload_template => q('{"run": {{resource.id}}}'), actor_id => "'scraper'");
query(q{INSERT INTO actor_runs (id, actor_id) VALUES ('r2', 'other')});
is(query("SELECT event_type, fires, reason, body FROM webhook_events.backtest('$new', now() - interval '1 hour')"),
	qq{ACTOR.RUN.CREATED|t||{"run": "r1"}\nACTOR.RUN.CREATED|f|condition: Actor is scraper, event's is other|},
	'a backtest shows what would have been sent, and why not');
is(query("SELECT count(*) FROM webhook_events.backtest('$new', now() - interval '1 hour', now() - interval '30 minutes')"),
	0, 'within its span');
sql_fails($node, "SELECT * FROM webhook_events.backtest('nope', now())", qr/ERROR:  42704: webhook "nope" does not exist/, 'unknown webhooks are errors');
is(query("SELECT count(*) FROM webhook_events.dispatches WHERE webhook_id = '$new'"), 0, 'nothing was sent');
like(query("EXPLAIN SELECT * FROM webhook_events.backtest('$new', now() - interval '1 hour') LIMIT 1"),
	qr/^Limit.*ProjectSet/s, 'and its query is part of the one that calls it');

# Tests.
my $test = query("SELECT webhook_events.test_webhook('$new')");
wait_for_sql($node, "SELECT status FROM webhook_events.dispatches WHERE id = '$test'", 'SUCCEEDED');
my ($request) = grep { $_->{headers}{'x-apify-webhook-dispatch-id'} eq $test } $receiver->requests;
is($request->{body}, '{"run": "dummyRunId"}', 'a test goes to a disabled webhook, with a dummy');
my $build = do { query(q{INSERT INTO actor_builds (id, actor_id, user_id) VALUES ('b1', 'scraper', 'ada')});
	query("SELECT webhook_events.test_webhook('$all', 'b1')") };
wait_for_sql($node, "SELECT status FROM webhook_events.dispatches WHERE id = '$build'", 'SUCCEEDED');
($request) = grep { $_->{headers}{'x-apify-webhook-dispatch-id'} eq $build } $receiver->requests;
my $body = $json->decode($request->{body});
is("$body->{eventType} $body->{userId} $body->{eventData}{actorBuildId} $body->{resource}{id}", 'TEST ada b1 b1',
	'or with a real build');
is(query("SELECT count(*) FROM webhook_events.dispatches WHERE event_type = 'TEST'"), 2, 'nobody else gets it');
is(query("SELECT webhook_id || fires || split_part(reason, '; ', 1) FROM webhook_events.explain_event("
	  . "(SELECT event_id FROM webhook_events.dispatches WHERE id = '$test')) WHERE fires"),
	"${new}truethe event is a test of it", 'which its explanation says');
sql_fails($node, "SELECT webhook_events.test_webhook('$new', 'r9')", qr/P0002: no attached table has a run or build "r9"/, 'unknown resources');
sql_fails($node, "SELECT webhook_events.test_webhook('nope')", qr/42704: webhook "nope" does not exist/, 'and webhooks are errors');
query(q{CREATE TABLE numbered_runs (id bigint PRIMARY KEY, actor_id text, status text, gone text);
	ALTER TABLE numbered_runs DROP COLUMN gone; ALTER TABLE numbered_runs ADD later text DEFAULT 'later';
	SELECT webhook_events.attach('numbered_runs');
	INSERT INTO numbered_runs VALUES (7, 'scraper', 'READY')});
$test = query("SELECT webhook_events.test_webhook('$all', '7')");
wait_for_sql($node, "SELECT status FROM webhook_events.dispatches WHERE id = '$test'", 'SUCCEEDED');
is(query("SELECT resource FROM webhook_events.events WHERE id = (SELECT event_id FROM webhook_events.dispatches WHERE id = '$test')"),
	'{"id":7,"actId":"scraper","status":"READY","later":"later"}', 'a table can have ids of another type and dropped columns');
is(query("BEGIN; SELECT webhook_events.test_webhook('$all') <> ''; ROLLBACK; SELECT count(*) FROM webhook_events.events WHERE event_type = 'TEST'"),
	"t\n3", 'a test that is rolled back never was');
my $failing = create_webhook($node, $receiver->url('/status/500'), 'ACTOR.BUILD.FAILED');
query(q{ALTER SYSTEM SET webhook_events.retry_delay = '10ms'});
$node->reload;
$test = query("SELECT webhook_events.test_webhook('$failing')");
wait_for_sql($node, "SELECT status, attempts FROM webhook_events.dispatches WHERE id = '$test'", 'FAILED|4');
pass('a test is tried four times');

# Objects of the API.
my $webhook = $json->decode(query("SELECT webhook_events.webhook_json('$all')"));
my $time = qr/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/;
is(join(' ', sort keys %$webhook), 'condition createdAt description doNotRetry eventTypes headersTemplate id'
	  . ' ignoreSslErrors isAdHoc isEnabled lastDispatch modifiedAt payloadTemplate requestUrl'
	  . ' shouldInterpolateStrings stats userId', 'a Webhook object has the keys of the API');
like($webhook->{$_}, $time, "$_ is a time as the API writes it") foreach qw(createdAt modifiedAt);
like($webhook->{lastDispatch}{finishedAt}, $time, 'so is that of the last dispatch');
is($webhook->{lastDispatch}{status}, 'SUCCEEDED', 'which has its status');
is_deeply($webhook->{condition}, { actorId => undef, actorTaskId => undef, actorRunId => undef }, 'and a condition');
is($webhook->{stats}{totalDispatches}, query("SELECT count(*) FROM webhook_events.dispatches WHERE webhook_id = '$all'"),
	'the dispatches are counted');
is_deeply($json->decode(query("SELECT webhook_events.webhook_json('$new')"))->{eventTypes},
	[ 'ACTOR.RUN.FAILED', 'ACTOR.RUN.CREATED' ], 'event types keep their order');
my $never = create_webhook($node, $receiver->url('/ok'), 'ACTOR.BUILD.FAILED');
is(query("SELECT j -> 'lastDispatch', j -> 'stats' FROM webhook_events.webhook_json('$never') AS j"),
	'null|{"totalDispatches": 0}', 'a webhook without dispatches has none');
is(query("SELECT (webhook_events.webhook_json((webhook_events.create_webhook(j)).id)"
	  . " - '{id,createdAt,modifiedAt,lastDispatch,stats}'::text[]) = (j - '{id,createdAt,modifiedAt,lastDispatch,stats}'::text[])"
	  . " FROM webhook_events.webhook_json('$all') AS j"), 't', 'what it returns can be given back to create_webhook()');
my ($delivered) = query("SELECT id FROM webhook_events.dispatches WHERE webhook_id = '$all' AND event_id = '$event'");
my $dispatch = $json->decode(query("SELECT webhook_events.dispatch_json('$delivered')"));
like(delete $dispatch->{createdAt}, $time, 'a WebhookDispatch object has a time');
like(delete $dispatch->{calls}[0]{$_}, $time, "its call too: $_") foreach qw(startedAt finishedAt);
($request) = grep { $_->{headers}{'x-apify-webhook-dispatch-id'} eq $delivered } $receiver->requests;
is(delete $dispatch->{calls}[0]{responseBody}, $request->{body}, 'the answer is there');
is_deeply($dispatch, {
		id => $delivered, userId => 'ada', webhookId => $all, status => 'SUCCEEDED',
		eventType => 'ACTOR.RUN.CREATED', eventData => { actorId => 'scraper', actorRunId => 'r1' },
		webhook => { requestUrl => $receiver->url('/echo?all'), isAdHoc => JSON::PP::false,
			actionType => 'HTTP_REQUEST',
			condition => { actorId => undef, actorTaskId => undef, actorRunId => undef } },
		calls => [ { errorMessage => undef, responseStatus => 200 } ]
	}, 'and so is all else');
is(query("SELECT jsonb_array_length(webhook_events.dispatch_json('$test') -> 'calls')"), 4, 'all calls are listed');
query("SELECT webhook_events.delete_webhook('$failing')");
is(query("SELECT webhook_events.dispatch_json('$test') -> 'webhook'"), 'null', 'a webhook that is gone is null');
sql_fails($node, "SELECT webhook_events.$_('nope')", qr/does not exist/, "$_ refuses unknown ids") foreach qw(webhook_json dispatch_json);

# The statistics are the same after they were added up, and after a crash.
my $counts = "SELECT webhook_events.webhook_json('$all') ->> 'lastDispatch', webhook_events.webhook_json('$all') ->> 'stats'";
my $before = query($counts);
$node->stop('immediate');
$node->start;
is(query($counts), $before, 'a crash does not change the statistics');
$test = query("SELECT webhook_events.test_webhook('$all')");
wait_for_sql($node, "SELECT status FROM webhook_events.dispatches WHERE id = '$test'", 'SUCCEEDED');
is(query("SELECT s.total_dispatches, s.last_dispatch_id FROM webhook_events_internal.webhook_stats AS s WHERE webhook_id = '$all'"),
	query("SELECT count(*), max(id) FROM webhook_events.dispatches WHERE webhook_id = '$all'"), 'nor does adding them up');
is(query("SELECT webhook_events.webhook_json('$all') -> 'stats' ->> 'totalDispatches'"),
	query("SELECT count(*) FROM webhook_events.dispatches WHERE webhook_id = '$all'"), 'and nothing is counted twice');
query("UPDATE webhook_events_internal.webhooks SET event_types = '{ACTOR.RUN.CREATED}' WHERE id = '$all'");

# The audit: nothing, until something is taken away.
my $audit = "SELECT problem, relation, resource_id, event_id = '$event', webhook_id FROM webhook_events.audit(now() - interval '1 hour', now() + interval '1 hour')";
wait_for_end($node);
is(query($audit), '', 'all is well');
query("UPDATE actor_runs SET status = 'SUCCEEDED', finished_at = now() WHERE id = 'r2'");
wait_for_end($node);
is(query($audit), '', 'and is when a run has ended');
query("SET webhook_events.emit = off; INSERT INTO actor_runs (id, actor_id, status, finished_at) VALUES ('r3', 'x', 'TIMED_OUT', now())");
is(query($audit), 'event is missing|actor_runs|r3||', 'a run that ended without an event is found');
query("SET webhook_events.emit = off; DELETE FROM actor_runs WHERE id = 'r3'");
my $missed = create_webhook($node, $receiver->url('/ok'), 'ACTOR.RUN.CREATED', user_id => "'eve'");
query(q{INSERT INTO actor_runs (id, actor_id, user_id) VALUES ('r4', 'x', 'eve')});
wait_for_end($node);
query("DELETE FROM webhook_events_internal.dispatches WHERE webhook_id = '$missed'");
is(query($audit), "dispatch is missing||r4|f|$missed", 'an event without its dispatch is found');
query("SELECT webhook_events.delete_webhook('$missed')");
query(q{SELECT webhook_events.pause('audit')});
query(q{INSERT INTO actor_runs (id, actor_id, user_id) VALUES ('r5', 'x', 'eve')});
query("UPDATE webhook_events_internal.outbox SET created_at = created_at - interval '5 minutes' WHERE actor_run_id = 'r5'");
is(query("SELECT problem, resource_id FROM webhook_events.audit(now() - interval '1 hour')"), 'event waits to be routed|r5', 'one that is not routed is found');
query("INSERT INTO webhook_events_internal.dispatches (id, event_id, webhook_id, event_type, status, created_at, attempts, next_attempt_at)"
	  . " SELECT webhook_events_internal.new_id(), '$event', '$all', 'ACTOR.RUN.CREATED', 'ACTIVE', now(), 1, now() - interval '10 minutes'");
like(query("SELECT problem, resource_id, webhook_id FROM webhook_events.audit(now() - interval '1 hour', now() + interval '1 hour') WHERE problem LIKE 'dispatch%'"),
	qr/^dispatch \w{17} was due at .*\|r1\|$all$/, 'and one that is late');
sql_fails($node, 'SELECT webhook_events.audit(NULL)', qr/22004/, 'an audit needs a time');
sql_fails($node, "SELECT webhook_events.audit(now(), now() - interval '1 hour')", qr/22023: audit can't start at/, 'that is not after its end');
my (undef, undef, $notices) = $node->psql('postgres', "SELECT webhook_events.audit('2020-01-01')");
like($notices, qr/not checked: what was before .*beyond webhook_events.retention/, 'what could not be checked is said');

$node->stop;
done_testing();
