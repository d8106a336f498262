# 039_stream.pl
#	  The outbox as a stream: to a server that delivers for another one, by logical
#	  replication, and to whoever reads changes.

use strict;
use warnings;
use JSON::PP qw(decode_json);
use PostgreSQL::Test::Utils;
use Test::More;
use WebhookEvents::Node;
use WebhookEvents::Receiver;

my $receiver = WebhookEvents::Receiver->new;
my $platform = new_node('platform', init => { allows_streaming => 'logical' },
	conf => "webhook_events.delivery = off\n");
my $tier = new_node('tier');

create_platform($platform);
$tier->safe_psql('postgres', 'CREATE EXTENSION webhook_events; SELECT webhook_events.resume()');
create_webhook($tier, $receiver->url('/ok'), 'ACTOR.RUN.CREATED, ACTOR.RUN.SUCCEEDED');

# An event of before is not brought; those that follow are.
$platform->safe_psql('postgres', "INSERT INTO actor_runs (id) VALUES ('before')");
$platform->safe_psql('postgres', 'CREATE PUBLICATION events FOR TABLE webhook_events_internal.outbox'
	  . " WITH (publish = 'insert', publish_via_partition_root)");
$tier->safe_psql('postgres', "CREATE SUBSCRIPTION events CONNECTION '" . $platform->connstr
	  . " dbname=postgres' PUBLICATION events WITH (copy_data = off)");

# Both servers poll once an hour, so each is delivered because its commit woke the worker.
# Of each run, the types of its events that were delivered.
my %delivered;
my $nread = 0;

sub delivered
{
	my @requests = $receiver->requests;

	foreach my $request (@requests[ $nread .. $#requests ])
	{
		my $body = decode_json($request->{body});

		$delivered{ $body->{eventData}{actorRunId} }{ $body->{eventType} }++;
	}
	$nread = @requests;
	return \%delivered;
}

$platform->safe_psql('postgres', "INSERT INTO actor_runs (id) VALUES ('first')");
wait_until { delivered()->{first} } 'an event is delivered by the tier';
$platform->safe_psql('postgres', "UPDATE actor_runs SET status = 'SUCCEEDED' WHERE id = 'first'");
wait_until { delivered()->{first}{'ACTOR.RUN.SUCCEEDED'} } 'and so is the next one';
pass('events of the platform are delivered by the tier');

# Their transaction is the one in which they landed, whatever numbers the platform has.
is($tier->safe_psql('postgres', 'SELECT count(*) FROM webhook_events_internal.outbox'
	  . ' WHERE xid >= pg_snapshot_xmax(pg_current_snapshot())'), 0, 'a transaction of the tier');
my $xids = 'SELECT string_agg(xid::text, chr(32) ORDER BY id) FROM webhook_events_internal.outbox WHERE actor_run_id = ' . "'first'";
isnt($tier->safe_psql('postgres', $xids), $platform->safe_psql('postgres', $xids), 'and not one of the platform');

# The clock of the platform is far behind: ids that are older than all that the tier has read.
$platform->safe_psql('postgres', q{INSERT INTO webhook_events_internal.outbox (id, created_at, xid, event_type, actor_run_id, resource)
	SELECT webhook_events.id_lower_bound(now() - '3 days'::interval) || 'slow' || lpad(i::text, 4, '0'), now() - '3 days'::interval,
		'9223372036854775807', 'ACTOR.RUN.CREATED', 'slow-' || i, '{}' FROM generate_series(1, 20) AS i});
wait_until { 20 == grep { /^slow-/ } keys %{ delivered() } } 'events of a slow clock are delivered';
pass('no event is lost for the clock of the other server');

# Many transactions, some of which are rolled back, while the tier stops and goes on.
foreach my $round (1 .. 6)
{
	$platform->safe_psql('postgres', join "\n", map {
		"BEGIN; INSERT INTO actor_runs (id) SELECT 'many-$round-$_-' || i FROM generate_series(1, 10) AS i; "
		  . ($_ % 3 ? 'COMMIT;' : 'ROLLBACK;')
	} 1 .. 12);
	next if $round != 3;
	$tier->stop('immediate');
	$tier->start;
}
wait_until { 480 == grep { /^many-/ } keys %{ delivered() } } 'all are delivered';
is((grep { /^many-\d-(3|6|9|12)-/ } keys %{ delivered() }), 0, 'none is lost in a crash of the tier, and none was rolled back');
is(delivered()->{before}, undef, 'what was before the subscription is not sent');
is($tier->safe_psql('postgres', "SELECT string_agg(DISTINCT t.tgenabled::text, '') FROM pg_trigger AS t"
	  . " JOIN pg_inherits AS i ON i.inhrelid = t.tgrelid WHERE i.inhparent = 'webhook_events_internal.outbox'::regclass"),
	'R', 'the trigger is on all days, for replication alone');

# Whoever reads changes sees one table, whatever the day.
my $changes = $platform->safe_psql('postgres', q{SELECT pg_create_logical_replication_slot('pgoutput', 'pgoutput') IS NOT NULL;
	INSERT INTO actor_runs (id) VALUES ('changed');
	SELECT count(*), bool_and(('x' || encode(substr(data, 2, 4), 'hex'))::bit(32)::integer = 'webhook_events_internal.outbox'::regclass::oid::integer)
	FROM pg_logical_slot_get_binary_changes('pgoutput', NULL, NULL, 'proto_version', '1', 'publication_names', 'events')
	WHERE get_byte(data, 0) = ascii('I')});
is($changes, "t\n1|t", 'pgoutput has one row for an event, of the table as a whole');

SKIP:
{
	# Some minor versions have a list of the libraries that may be asked for.
	my $allowed = $platform->safe_psql('postgres', "SELECT current_setting('output_plugin_libraries', true)");
	if ($allowed ne '')
	{
		$platform->safe_psql('postgres', "ALTER SYSTEM SET output_plugin_libraries = $allowed, wal2json");
		$platform->restart;
	}
	my ($status) = $platform->psql('postgres', "SELECT pg_create_logical_replication_slot('wal2json', 'wal2json')");

	skip 'wal2json is not installed', 1 if $status != 0;
	$platform->safe_psql('postgres', "INSERT INTO actor_runs (id) VALUES ('json')");
	like($platform->safe_psql('postgres', q{SELECT data FROM pg_logical_slot_get_changes('wal2json', NULL, NULL,
			'format-version', '2', 'add-tables', 'webhook_events_internal.*') WHERE data LIKE '%"json"%' AND data LIKE '%"table":"outbox%'}),
		qr/"name":"event_type".*"ACTOR\.RUN\.CREATED"/, 'wal2json has the event by its columns');
}

$tier->stop;
$platform->stop;
done_testing();
