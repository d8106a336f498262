# 059_long_bodies.pl
#	  Requests that are made in slices, a turn of the worker for each: they are what they
#	  would be if they were made at once, whatever their length and however it is stored, and
#	  whatever becomes of them half-made.

use strict;
use warnings;
use MIME::Base64 qw(encode_base64);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use WebhookEvents::Node;
use WebhookEvents::Receiver;

my $key = 'a key of twenty-four byt';
my $digest = 'digest=' . unpack('H*', $key);
my $receiver = WebhookEvents::Receiver->new;
my $node = new_node('main', conf => <<'CONF');
webhook_events.payload_limit = '64MB'
webhook_events.retry_delay = '100ms'
CONF
create_platform($node);

sub query { return $node->safe_psql('postgres', $_[0]); }

# Text of a kind, so long: what packs to nearly nothing, well, badly, and not at all.
query(<<'SQL');
CREATE FUNCTION text_of(kind integer, length integer) RETURNS text LANGUAGE sql AS $$
	SELECT left(CASE kind
		WHEN 0 THEN repeat('a', length)
		WHEN 1 THEN (SELECT string_agg('{"n": ' || i || ', "text": "' || md5(i::text) || '"}', ', ') FROM generate_series(1, length / 50 + 1) AS i)
		WHEN 2 THEN (SELECT string_agg(md5(i::text), '') FROM generate_series(1, length / 32 + 1) AS i)
		ELSE (SELECT string_agg(encode(sha512(i::text::bytea), 'base64'), '') FROM generate_series(1, length / 80 + 1) AS i)
		END, length) $$;
CREATE TABLE known (dispatch_id text PRIMARY KEY);
SQL

sub create
{
	my ($path, @options) = @_;
	my $webhook = create_webhook($node, $receiver->url("$path?$digest"), 'ACTOR.RUN.CREATED', @options);

	query("SELECT webhook_events.set_secret('$webhook', 'whsec_" . encode_base64($key, '') . "')");
	return $webhook;
}

sub add_runs
{
	my ($prefix, $actor, $kinds, @lengths) = @_;

	query("INSERT INTO actor_runs (id, actor_id, status_message) SELECT '$prefix-' || kind || '-' || length, '$actor', text_of(kind, length)"
		  . " FROM generate_series(0, $kinds - 1) AS kind, unnest(ARRAY[" . join(',', @lengths) . ']) AS length');
	return;
}

# By dispatch, what has arrived since the last time; and, of those that have, what should have.
my $taken = 0;

sub arrived
{
	my @requests = $receiver->requests;
	my %arrived;

	foreach my $request (@requests[ $taken .. $#requests ])
	{
		my ($length, $md5, $signature) = split ' ', $request->{body};
		my $is_signed = grep { $_ eq "v1,$signature" } split ' ', $request->{headers}{'webhook-signature'};

		push @{ $arrived{ $request->{headers}{'x-apify-webhook-dispatch-id'} } },
		  "$length $md5 " . ($is_signed ? 'signed' : "not $signature");
	}
	$taken = @requests;
	return \%arrived;
}

sub as_previewed
{
	my $ids = join ',', map { "'$_'" } @_;

	return map { split / /, $_, 2 } split /\n/, query("SELECT d.id || ' ' || octet_length(p.body) || ' ' || md5(p.body) || ' signed'"
		  . " FROM webhook_events.dispatches AS d, webhook_events.preview(d.webhook_id, d.event_id) AS p WHERE d.id IN ($ids)");
}

sub expected
{
	my @new = split ' ', query('INSERT INTO known SELECT id FROM webhook_events.dispatches WHERE id NOT IN (SELECT dispatch_id FROM known) RETURNING dispatch_id');

	return { as_previewed(@new) };
}

# All have arrived as they should, and this often if it is known.
sub check
{
	my ($count, $once, $what) = @_;

	wait_for_end($node);
	my ($expected, $arrived) = (expected(), arrived());
	my @wrong = grep { my $id = $_; !$arrived->{$id} || grep { $_ ne $expected->{$id} } @{ $arrived->{$id} } } keys %$expected;

	is(scalar keys %$expected, $count, "$what: all are there");
	is(join(' ', map { "$_: $expected->{$_}, not " . join(' and ', @{ $arrived->{$_} // ['nothing'] }) } @wrong), '',
		"$what: their requests are as they should be");
	is(scalar(grep { @$_ != 1 } values %$arrived), 0, "$what: and none came twice") if $once;
	return;
}

# Lengths about those of the slices, in all ways in which they are stored.
my $inner = create('/ok/inner', actor_id => "'all'", should_interpolate_strings => 'true', payload_template =>
	q{'{"last": {{resource.statusMessage}}, "id": {{resource.id}}, "in": "of {{eventData.actorRunId}}: {{resource}}"}'});
my $plain = create('/ok/plain', actor_id => "'all'");
my @tables = split ' ', query("SELECT inhrelid::regclass FROM pg_inherits WHERE inhparent = 'webhook_events_internal.outbox'::regclass");
my @ways = ('STORAGE EXTERNAL', 'STORAGE EXTENDED');
push @ways, 'COMPRESSION lz4' if query("SELECT 'lz4' = ANY (enumvals) FROM pg_settings WHERE name = 'default_toast_compression'") eq 't';
foreach my $way (@ways)
{
	query(join ';', map { "ALTER TABLE $_ ALTER resource SET $way" } @tables);
	add_runs($way =~ /(\w+)$/, 'all', 4, 261900, 262144, 262400, 524100, 1048000);
	check(40, 1, "set to $way");
}
query(join ';', map { "ALTER TABLE $_ ALTER resource SET COMPRESSION default" } @tables);
query("SELECT webhook_events.delete_webhook('$_')") foreach $inner, $plain;

# Whoever signs with more than one secret signs each body with all of them; one that is too long is given up.
my $several = create('/ok/several', actor_id => "'several'");
query("SELECT webhook_events.rotate_secret('$several')");
add_runs('several', 'several', 2, 800000);
check(2, 1, 'with several secrets');
is(scalar(grep { $_->{target} =~ m{^/ok/several} && split(' ', $_->{headers}{'webhook-signature'}) > 1 } $receiver->requests), 2, 'more than one signature is sent');
query("SELECT webhook_events.delete_webhook('$several')");
$node->append_conf('postgresql.conf', 'webhook_events.payload_limit = 500kB');
$node->reload;
my $limited = create('/ok/limited', actor_id => "'limited'");
wait_for_sql($node, 'SHOW webhook_events.payload_limit', '500kB');
add_runs('limited', 'limited', 1, 800000);
wait_for_end($node);
is(query("SELECT status, attempts, error_message ~ 'payload is longer than' FROM webhook_events.dispatches WHERE webhook_id = '$limited'"),
	'FAILED|0|t', 'one that is too long is given up');
$node->append_conf('postgresql.conf', 'webhook_events.payload_limit = 64MB');
$node->reload;
wait_for_sql($node, 'SHOW webhook_events.payload_limit', '64MB');
query("INSERT INTO known SELECT id FROM webhook_events.dispatches WHERE webhook_id = '$limited'");

# Half-made ones, as many as the worker has hosts for: what becomes of them is done at once.
my @hosts = map { create_webhook($node, $receiver->url("/ok?$digest", $_), 'ACTOR.RUN.CREATED', actor_id => "'half'") } '127.0.0.1', 'localhost';
query("SELECT webhook_events.set_secret(id, 'whsec_" . encode_base64($key, '') . "') FROM webhook_events.webhooks WHERE actor_id = 'half'");

foreach my $how ('immediate', 'fast')
{
	add_runs($how, 'half', 4, 5000000);
	$node->stop($how);
	$node->start;
	check(8, 0, "stopped in between, $how");
}

# A pause at any moment of it, and an end of that.
add_runs('paused', 'half', 4, 5000000);
foreach (1 .. 5)
{
	query("SELECT webhook_events.pause()");
	wait_for_sql($node, 'SELECT in_flight FROM webhook_events.status()', 0);
	query("SELECT webhook_events.resume()");
}
check(8, 1, 'paused in between');

# Another template, again and again.
my $doubled = '"[{{resource}}, {{resource}}]"';
add_runs('changed', 'half', 4, 5000000);
foreach my $turn (1 .. 6)
{
	query("SELECT webhook_events.update_webhook('$hosts[0]', '{\"payloadTemplate\": "
		  . ($turn % 2 ? $doubled : 'null') . "}')");
}
wait_for_end($node);
my $arrived = arrived();
my @ids = sort keys %$arrived;
my %plain = as_previewed(@ids);
query("SELECT webhook_events.update_webhook('$hosts[0]', '{\"payloadTemplate\": $doubled}')");
my %doubled = as_previewed(@ids);
query("SELECT webhook_events.update_webhook('$hosts[0]', '{\"payloadTemplate\": null}')");
is(scalar(@ids), 8, 'changed in between: all are there');
is(scalar(grep { my $id = $_; grep { $_ ne $plain{$id} && $_ ne $doubled{$id} } @{ $arrived->{$id} } } @ids), 0,
	'changed in between: each has one of the two templates, and all of it');
is(scalar(grep { @$_ != 1 } values %$arrived), 0, 'changed in between: and none came twice');

# One whose webhook is removed: the others go on.
add_runs('removed', 'half', 4, 5000000);
query("SELECT webhook_events.delete_webhook('$hosts[0]')");
wait_for_end($node);
is(query("SELECT count(*) FROM webhook_events.dispatches AS d JOIN webhook_events.events AS e ON e.id = d.event_id"
		. " WHERE d.webhook_id = '$hosts[1]' AND d.status = 'SUCCEEDED' AND e.actor_run_id LIKE 'removed-%'"), 4, 'removed in between: another one\'s arrive');
is(query('SELECT last_error FROM webhook_events.status()'), '', 'the worker never failed');

# Small ones that take all places leave some for a big one.  Each place that is free is one
# that any of them could have.
$node->append_conf('postgresql.conf', "webhook_events.max_in_flight = 8\nwebhook_events.max_in_flight_per_host = 4\n");
$node->restart;
my @small = map { WebhookEvents::Receiver->new } 1 .. 4;
create_webhook($node, $_->url('/slow/20'), 'ACTOR.RUN.CREATED', actor_id => "'small'") foreach @small;
create_webhook($node, $receiver->url('/ok?late'), 'ACTOR.RUN.CREATED', actor_id => "'late'");
query(q{BEGIN; INSERT INTO actor_runs (id, actor_id) SELECT 'small-' || i, 'small' FROM generate_series(1, 400) AS i;
	INSERT INTO actor_runs (id, actor_id, status_message) VALUES ('late', 'late', text_of(2, 100000)); COMMIT});
wait_for_end($node);
cmp_ok(query(q{WITH called AS (SELECT e.actor_id, c.started_at FROM webhook_events.calls AS c JOIN webhook_events.dispatches AS d ON d.id = c.dispatch_id
		JOIN webhook_events.events AS e ON e.id = d.event_id)
	SELECT count(*) FROM called WHERE actor_id = 'small' AND started_at > (SELECT started_at FROM called WHERE actor_id = 'late')}),
	'>', 100, 'a big one does not wait until all small ones have gone');

$node->stop;
done_testing();
