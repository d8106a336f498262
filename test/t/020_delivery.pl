# 020_delivery.pl
#	  From a change of status to the POST, and what every kind of answer does.

use strict;
use warnings;
use JSON::PP;
use PostgreSQL::Test::Utils;
use Test::More;
use WebhookEvents::Node;
use WebhookEvents::Receiver;

my $receiver = WebhookEvents::Receiver->new(listen => [ '127.0.0.1', '::1' ]);
my $node = new_node('main', conf => <<'CONF');
webhook_events.retry_delay = '50ms'
webhook_events.retry_jitter = 0
webhook_events.max_retries = 3
webhook_events.request_timeout = '1s'
CONF
my $nrun = 0;

create_platform($node);

# Inserts a run of an Actor and returns its id.
sub insert_run
{
	my ($actor, %columns) = @_;
	my $id = 'run' . ++$nrun;

	$node->safe_psql('postgres',
		"INSERT INTO actor_runs (id, actor_id, user_id) VALUES ('$id', '$actor', 'u1')");
	return $id;
}

# Defines a webhook for the runs of an Actor of its own, inserts such a run, and
# returns what became of it: webhook's id, dispatch and calls.
sub deliver
{
	my ($path, $status, %arguments) = @_;
	my $actor = 'actor' . ($nrun + 1);
	my $url = $path =~ /^http/ ? $path : $receiver->url($path);
	my $webhook = create_webhook($node, $url, 'ACTOR.RUN.CREATED',
		actor_id => "'$actor'", %arguments);
	my $where = "FROM webhook_events.dispatches WHERE webhook_id = '$webhook'";

	insert_run($actor);
	wait_for_sql($node, "SELECT status $where", $status) if $status;
	return $webhook;
}

sub dispatch
{
	my ($webhook, $columns) = @_;

	return $node->safe_psql('postgres',
		"SELECT $columns FROM webhook_events.dispatches WHERE webhook_id = '$webhook'");
}

sub calls
{
	my ($webhook, $columns) = @_;

	return $node->safe_psql('postgres', "SELECT $columns FROM webhook_events.calls"
		  . " WHERE dispatch_id IN (SELECT id FROM webhook_events.dispatches"
		  . " WHERE webhook_id = '$webhook') ORDER BY attempt");
}

# The request
my $webhook = create_webhook($node, $receiver->url('/ok'),
	'ACTOR.RUN.CREATED, ACTOR.RUN.SUCCEEDED', user_id => "'u1'",
	headers_template => q('{"X-Token": "secret", "content-type": "text/plain"}'));
my $run = insert_run('a1');
my ($request) = $receiver->wait_for_requests(1);
my $body = decode_json($request->{body});

is($request->{method}, 'POST', 'the request is a POST');
is_deeply([ sort keys %$body ],
	[qw(createdAt eventData eventType resource userId)],
	'the default payload has its five fields');
is($body->{eventType}, 'ACTOR.RUN.CREATED', 'the type of the event');
is_deeply($body->{eventData}, { actorId => 'a1', actorRunId => $run }, 'the event data');
is($body->{resource}{actId}, 'a1', 'the resource is the row as the API shows it');
like($body->{createdAt}, qr/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/, 'the time');
is($request->{headers}{'content-type'}, 'application/json', 'forced headers win');
is($request->{headers}{'x-token'}, 'secret', 'others are sent');
is($request->{headers}{'x-apify-request-origin'}, 'WEBHOOK', 'the origin');
like($request->{headers}{'user-agent'}, qr/^webhook_events\//, 'the user agent');
wait_for_sql($node, "SELECT status FROM webhook_events.dispatches"
	  . " WHERE id = '$request->{headers}{'x-apify-webhook-dispatch-id'}'", 'SUCCEEDED');
is(calls($webhook, 'attempt, response_status, response_body, error_message'),
	'1|200|ok|', 'the call is recorded');

$node->safe_psql('postgres', "UPDATE actor_runs SET status = 'RUNNING' WHERE id = '$run';"
	  . "UPDATE actor_runs SET status = 'SUCCEEDED' WHERE id = '$run'");
my @requests = $receiver->wait_for_requests(2);
is(decode_json($requests[1]{body})->{eventType}, 'ACTOR.RUN.SUCCEEDED',
	'a terminal status is sent, a transitional one is not');
$node->safe_psql('postgres', "SELECT webhook_events.delete_webhook('$webhook')");

# Answers
my $failed = deliver('/flaky/a/2', 'SUCCEEDED');
is(calls($failed, 'attempt, response_status'), "1|500\n2|500\n3|200",
	'a failed call is made again until it succeeds');
is(dispatch($failed, 'attempts, error_message IS NULL'), '3|t',
	'the dispatch counts its calls');

$failed = deliver('/status/503?body=busy', 'FAILED');
is(dispatch($failed, 'attempts, error_message, finished_at IS NOT NULL, next_attempt_at IS NULL'),
	'4|HTTP status 503|t|t', 'after the last retry the dispatch has failed');
is(calls($failed, 'response_body'), "busy\nbusy\nbusy\nbusy",
	'with all its calls');

$failed = deliver('/status/500', 'FAILED', do_not_retry => 'true');
is(dispatch($failed, 'attempts'), 1, 'do_not_retry means one call');

$failed = deliver('/redirect?to=/ok', 'FAILED', do_not_retry => 'true');
is(dispatch($failed, 'error_message'), 'HTTP status 302', 'redirects are not followed');

foreach my $case (
	[ '/reset', qr/reset|recv|receive/i, 'a connection that is reset' ],
	[ '/close', qr/empty reply/i, 'a connection that is closed' ],
	[ '/garbage', qr/HTTP/, 'an answer that is not HTTP' ],
	[ '/hang', qr/timed out/i, 'no answer in time' ],
	[ '/half', qr/reply|closed|transfer/i, 'half an answer' ],
	[ 'http://127.0.0.1:1/', qr/connect/i, 'a connection that is refused' ],
	[ 'http://no-such-host.invalid/', qr/resolve/i, 'a name that does not resolve' ])
{
	my ($path, $message, $what) = @$case;

	$failed = deliver($path, 'FAILED', do_not_retry => 'true');
	like(dispatch($failed, 'error_message'), $message, "$what is a failed call");
}

my $big = deliver('/big/10000000', 'SUCCEEDED');
is(calls($big, 'length(response_body)'), 2048, 'of a big answer the beginning is kept');
my $slow = deliver('/slow/400', 'SUCCEEDED');
is(dispatch($slow, 'attempts'), 1, 'a slow answer counts');
my $bytes = deliver('/nul', 'SUCCEEDED');
ok(calls($bytes, 'length(response_body) > 0'), 'an answer with zeros can be stored');
my $v6 = deliver('http://[::1]:' . $receiver->port . '/ok', 'SUCCEEDED');
is(dispatch($v6, 'attempts'), 1, 'IPv6 works');

# Bodies that take their time are built when all else has been sent, whatever came first.
$node->safe_psql('postgres', "SELECT webhook_events.pause('to have all in one batch')");
my @weights = map {
	my ($name, $host) = @$_;
	create_webhook($node, "http://$host:" . $receiver->port . '/ok', 'ACTOR.RUN.CREATED', actor_id => "'$name'");
} [ heavy => '[::1]' ], [ light => '127.0.0.1' ];
$node->safe_psql('postgres', "INSERT INTO actor_runs (id, actor_id, meta)"
	  . " VALUES ('heavy', 'heavy', to_jsonb(repeat('x', 300000))), ('light', 'light', 'null')");
$node->safe_psql('postgres', "SELECT webhook_events.resume()");
wait_for_sql($node, "SELECT status FROM webhook_events.dispatches WHERE webhook_id = '$_'", 'SUCCEEDED') foreach @weights;
is($node->safe_psql('postgres', "SELECT string_agg(w.actor_id, ' ' ORDER BY c.started_at)"
		  . " FROM webhook_events.calls AS c JOIN webhook_events.dispatches AS d ON d.id = c.dispatch_id"
		  . " JOIN webhook_events.webhooks AS w ON w.id = d.webhook_id WHERE w.actor_id IN ('heavy', 'light')"),
	'light heavy', 'a small event is sent before a big one that came first');

# 410, disabled, removed
my $gone = deliver('/gone', 'FAILED');
is(dispatch($gone, 'attempts'), 1, '410 fails the dispatch for good');
is($node->safe_psql('postgres', "SELECT is_enabled, disabled_reason"
		  . " FROM webhook_events.webhooks WHERE id = '$gone'"),
	'f|The endpoint answered 410 Gone.', 'and disables the webhook, with the reason');

$node->append_conf('postgresql.conf', "webhook_events.retry_delay = '1h'");
$node->reload;
wait_for_sql($node, 'SHOW webhook_events.retry_delay', '1h');
my $disabled = deliver('/status/500', 'ACTIVE');
my $removed = deliver('/status/500', 'ACTIVE');
wait_for_sql($node, "SELECT sum(attempts) FROM webhook_events.dispatches"
	  . " WHERE webhook_id IN ('$disabled', '$removed')", 2);
$node->safe_psql('postgres', "SELECT webhook_events.disable_webhook('$disabled')");
$node->safe_psql('postgres', "SELECT webhook_events.delete_webhook('$removed')");
wait_for_sql($node, "SELECT error_message FROM webhook_events.dispatches"
	  . " WHERE webhook_id = '$disabled'", 'Webhook was disabled.');
wait_for_sql($node, "SELECT error_message FROM webhook_events.dispatches"
	  . " WHERE webhook_id = '$removed'", 'Webhook was removed.');
pass('what waits for a disabled or removed webhook fails at once');

# Settings
my $denied = create_webhook($node, $receiver->url('/ok'), 'ACTOR.RUN.CREATED', actor_id => "'denied'");
$node->append_conf('postgresql.conf', "webhook_events.allowed_networks = '127.0.0.2'");
$node->reload;
wait_for_sql($node, 'SHOW webhook_events.allowed_networks', '127.0.0.2');
insert_run('denied');
wait_for_sql($node, "SELECT status FROM webhook_events.dispatches"
	  . " WHERE webhook_id = '$denied'", 'FAILED');
is(dispatch($denied, 'error_message'), 'address 127.0.0.1 is not allowed',
	'an address that was allowed once is not called any more');
my ($status, $out, $err) = $node->psql('postgres',
	"SELECT webhook_events.create_webhook('http://127.0.0.1/', '{ACTOR.RUN.CREATED}')");
like($err, qr/address 127\.0\.0\.1 is not allowed/, 'an address is refused at once');

$node->append_conf('postgresql.conf',
	"webhook_events.allowed_networks = '127.0.0.0/8, ::1'\nwebhook_events.delivery = off");
$node->reload;
wait_for_sql($node, 'SELECT reason FROM webhook_events.status()',
	'webhook_events.delivery is off');
my $count = scalar $receiver->requests;
my $late = deliver('/ok?late', undef);
is($node->safe_psql('postgres', 'SELECT events_waiting FROM webhook_events.status()'), 1,
	'events wait while delivery is off');
$node->append_conf('postgresql.conf', 'webhook_events.delivery = on');
$node->reload;
wait_for_sql($node, "SELECT status FROM webhook_events.dispatches"
	  . " WHERE webhook_id = '$late'", 'SUCCEEDED');
is(scalar $receiver->requests, $count + 1, 'and are delivered, once, when it is on again');

SKIP:
{
	skip 'no TLS server here', 8 unless WebhookEvents::Receiver->tls_available;
	my $tls = WebhookEvents::Receiver->new(tls => 1);

	$failed = deliver($tls->url('/ok'), 'FAILED', do_not_retry => 'true');
	like(dispatch($failed, 'error_message'), qr/certificate/,
		'a certificate that nobody vouches for is refused');
	my $trusted = deliver($tls->url('/ok'), 'SUCCEEDED', ignore_ssl_errors => 'true');
	is(dispatch($trusted, 'attempts'), 1, 'unless the webhook ignores it');
	$node->append_conf('postgresql.conf', "webhook_events.ca_file = '" . $tls->certificate . "'");
	$node->reload;
	$trusted = deliver($tls->url('/ok', 'localhost'), 'SUCCEEDED');
	is(dispatch($trusted, 'attempts'), 1, 'or the server is told whom to trust');
	$node->append_conf('postgresql.conf', "webhook_events.client_certificate_file = '/nonexistent'");
	$node->reload;
	$failed = deliver($tls->url('/ok', 'localhost'), 'FAILED', do_not_retry => 'true');
	like(dispatch($failed, 'error_message'), qr/certificate.*\/nonexistent/, 'a certificate of our own that is not there is named');

	my $strict = WebhookEvents::Receiver->new(tls => 1, client_ca => $tls->certificate);
	my $old = WebhookEvents::Receiver->new(tls => 1, tls_version => 'TLSv1_2');
	$node->append_conf('postgresql.conf', "webhook_events.client_certificate_file = ''\nwebhook_events.ca_file = ''");
	$node->reload;
	$failed = deliver($strict->url('/ok'), 'FAILED', do_not_retry => 'true', ignore_ssl_errors => 'true');
	isnt(dispatch($failed, 'error_message'), '', 'a server that wants a certificate gets none');
	$node->append_conf('postgresql.conf', "webhook_events.client_certificate_file = '" . $tls->certificate . "'\n"
		  . "webhook_events.client_key_file = '" . $tls->key . "'");
	$node->reload;
	$trusted = deliver($strict->url('/ok'), 'SUCCEEDED', ignore_ssl_errors => 'true');
	is(dispatch($trusted, 'attempts'), 1, 'until there is one');
	$trusted = deliver($old->url('/ok'), 'SUCCEEDED', ignore_ssl_errors => 'true');
	is(dispatch($trusted, 'attempts'), 1, 'TLS 1.2 is spoken');
	$node->append_conf('postgresql.conf', "webhook_events.tls_min_version = 'TLSv1.3'");
	$node->reload;
	wait_for_sql($node, 'SHOW webhook_events.tls_min_version', 'TLSv1.3');
	$failed = deliver($old->url('/ok'), 'FAILED', do_not_retry => 'true', ignore_ssl_errors => 'true');
	isnt(dispatch($failed, 'error_message'), '', 'unless that is too old');
}

is($node->safe_psql('postgres', 'SELECT last_error FROM webhook_events.status()'), '',
	'the worker never failed');
$node->stop;
done_testing();
