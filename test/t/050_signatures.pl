# 050_signatures.pl
#	  Signed requests, by the Standard Webhooks specification: with our own check,
#	  with its vectors, and with its published library where there is one.

use strict;
use warnings;
use Cwd qw(abs_path);
use File::Basename qw(dirname);
use JSON::PP;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use WebhookEvents::Node;
use WebhookEvents::Receiver;

my $here = abs_path(dirname(__FILE__));
my $receiver = WebhookEvents::Receiver->new;
my $node = new_node('signatures', conf => "webhook_events.retry_delay = '10ms'\n");
my $json = JSON::PP->new->utf8->canonical;
my $count = 0;

create_platform($node);

sub query
{
	my ($sql) = @_;

	return $node->safe_psql('postgres', $sql);
}

# Quotes anything.
sub literal
{
	my ($text) = @_;

	utf8::encode($text) if utf8::is_utf8($text);
	$text =~ s/'/''/g;
	return "'$text'";
}

sub verify
{
	my ($secrets, $headers, $body, $tolerance) = @_;

	return query('SELECT webhook_events.verify_signature(ARRAY[' . join(',', map { literal($_) } @$secrets) . ']::text[], '
		  . literal($json->encode($headers)) . ', ' . literal($body) . (defined $tolerance ? ", '$tolerance'" : '') . ')');
}

# Raises an event and returns the request that comes of it.
sub next_request
{
	$count++;
	query("INSERT INTO actor_runs (id, actor_id, status_message) VALUES ('r$count', 'a', U&'\\017Elu\\0165 ''\"')");
	return ($receiver->wait_for_requests($count, path => '/ok'))[-1];
}

# Vectors.
foreach my $vector (@{ $json->decode(slurp_file("$here/../data/standard_webhooks_vectors.json"))->{vectors} })
{
	my %headers = ('webhook-id' => $vector->{id}, 'webhook-timestamp' => "$vector->{timestamp}",
		'webhook-signature' => $vector->{signature});
	my %other = (%headers, 'webhook-signature' => "v1,x v2,$vector->{signature} $vector->{signature} v1,");

	is(verify([ $vector->{secret} ], \%headers, $vector->{body}, '100 years'), $vector->{valid} ? 't' : 'f', 'vector');
	is(verify([ $vector->{secret} ], \%other, $vector->{body}, '100 years'), $vector->{valid} ? 't' : 'f', 'among others');
	is(verify([ $vector->{secret} ], \%headers, $vector->{body}), 'f', 'it is too old');
	next unless $vector->{valid};
	is(verify([ $vector->{secret} ], \%headers, "$vector->{body} ", '100 years'), 'f', 'another body');
	is(verify([ 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSx', $vector->{secret} ], { map { uc $_ => $headers{$_} } keys %headers },
			$vector->{body}, '100 years'), 't', 'several secrets, and names in capitals');
	foreach my $name (keys %headers)
	{
		is(verify([ $vector->{secret} ], { map { $_ ne $name ? ($_ => $headers{$_}) : () } keys %headers }, $vector->{body}, '100 years'),
			'f', "without $name");
		is(verify([ $vector->{secret} ], { %headers, $name => 'v1,' }, $vector->{body}, '100 years'), 'f', "with an empty $name");
	}
}
sql_fails($node, "SELECT webhook_events.verify_signature('$_', '{}', '')", qr/22023/, "secrets $_ are refused")
  foreach '{}', '{whsec_}', '{whsec_*}', '{NULL}';
is(query("SELECT webhook_events.verify_signature('{MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw}', $_, 'x')"), 'f', "headers $_ verify nothing")
  foreach map { "'$_'" } '[]', '"webhook-id"', '{"webhook-id": {"webhook-id": "x"}}', '{"webhook-id": "x", "webhook-timestamp": "999999999999", "webhook-signature": "v1,x"}';

# What we send.
my $webhook = create_webhook($node, $receiver->url('/ok'), 'ACTOR.RUN.CREATED',
	headers_template => q('{"webhook-id": "forged", "Webhook-Signature": "v1,forged", "X": "y"}'));
my $secret = query("SELECT webhook_events.webhook_secret('$webhook')");
my $request = next_request();
my @checks = ([ $secret, $request ]);
like($secret, qr/^whsec_[A-Za-z0-9+\/]{32}$/, 'a webhook has a secret');
is($request->{headers}{'webhook-id'}, $request->{headers}{'x-apify-webhook-dispatch-id'}, "webhook-id is the dispatch's id");
is(verify([$secret], $request->{headers}, $request->{body}), 't', 'the request is signed with it');
is(verify([$secret], $request->{headers}, "$request->{body}."), 'f', 'it and no other');
unlike(query("SELECT webhook_events.webhook_json('$webhook')"), qr/whsec/, 'the API does not show it');

# Rotation.
my $new = query("SELECT webhook_events.rotate_secret('$webhook')");
isnt($new, $secret, 'a new secret');
is($new, query("SELECT webhook_events.webhook_secret('$webhook')"), 'is the current one');
$request = next_request();
push @checks, [ $secret, $request ], [ $new, $request ];
is(verify([$_], $request->{headers}, $request->{body}), 't', 'both sign during the rotation') foreach $secret, $new;
query(q{UPDATE webhook_events_internal.webhooks SET old_secrets_until = ARRAY[now()]});
$request = next_request();
push @checks, [ $new, $request ];
is(verify([$secret], $request->{headers}, $request->{body}), 'f', 'then the old one does not any more');
is(verify([$new], $request->{headers}, $request->{body}), 't', 'and the new one does');
query("SELECT webhook_events.rotate_secret('$webhook', '0')");
is(query("SELECT old_secrets FROM webhook_events.webhooks"), '{}', 'without a grace period the old one is gone at once');

# A secret of one's own.
my $own = 'whsec_' . 'QUJD' x 20;
query("SELECT webhook_events.set_secret('$webhook', '$own', '0')");
$request = next_request();
push @checks, [ $own, $request ];
is(verify([$own], $request->{headers}, $request->{body}), 't', 'a secret can be given');
query("SELECT webhook_events.set_secret('$webhook', NULL, '0')");
$request = next_request();
is(scalar(grep { /^webhook-/ } keys %{ $request->{headers} }), 0, 'or taken away: nothing is signed');
sql_fails($node, "SELECT webhook_events.set_secret('$webhook', $_->[0])", $_->[1], "refused: $_->[0]")
  foreach [ "'whsec_QUJD'", qr/22023: secret must have 24 to 64 bytes/ ], [ "'whsec_" . 'QUJD' x 22 . "'", qr/22023: secret must have 24 to 64 bytes/ ],
  [ "''", qr/22023: secret must have/ ], [ "'whsec_!'", qr/22023: secret is not "whsec_" and base64/ ], [ "'$own', '-1 s'", qr/22023: grace period of a secret can't be -00:00:01/ ],
  [ "repeat('QUJD', 10000)", qr/22023: secret must have/ ];
sql_fails($node, "SELECT webhook_events.$_('nope')", qr/42704: webhook "nope" does not exist/, "$_ of an unknown webhook") foreach qw(rotate_secret webhook_secret);

# A retry has the same id, and is signed anew.
query("UPDATE webhook_events_internal.webhooks SET is_enabled = false");
my $flaky = create_webhook($node, $receiver->url('/flaky/x/2'), 'ACTOR.RUN.CREATED');
query("INSERT INTO actor_runs (id, actor_id) VALUES ('retried', 'a')");
my @requests = $receiver->wait_for_requests(3, path => '/flaky/x/2');
is($requests[2]{headers}{'webhook-id'}, $requests[0]{headers}{'webhook-id'}, 'a retry has the same id');
$secret = query("SELECT webhook_events.webhook_secret('$flaky')");
is(verify([$secret], $_->{headers}, $_->{body}), 't', 'and is signed') foreach @requests;
push @checks, map { [ $secret, $_ ] } @requests;

# The published library.
SKIP:
{
	my $lines = join '', map {
		$json->encode({ secret => $_->[0], headers => $_->[1]{headers}, body => $_->[1]{body} }) . "\n" } @checks;
	my ($stdout, $stderr);

	skip 'the library standardwebhooks is not there (npm, with NODE_PATH)', 1
	  unless $ENV{NODE_PATH} && -d "$ENV{NODE_PATH}/standardwebhooks";
	IPC::Run::run([ 'node', "$here/../verify.js" ], '<', \$lines, '>', \$stdout, '2>', \$stderr);
	is($stdout . $stderr, "ok\n" x @checks, 'the published library verifies all of them');
}

is(query('SELECT last_error FROM webhook_events.status()'), '', 'the worker never failed');
$node->stop;
done_testing();
