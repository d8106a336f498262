# 074_streams.pl
#	  Subscriptions to the outbox of each kind that PostgreSQL has: what comes prepared, in
#	  streams, with some columns or rows only, by way of another server; disabled, refreshed,
#	  dropped and made again; and what status() says of them.

use strict;
use warnings;
use JSON::PP qw(decode_json);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use WebhookEvents::Node;
use WebhookEvents::Receiver;
use WebhookEvents::Tier;

my $receiver = WebhookEvents::Receiver->new;
my $logical = "max_wal_senders = 10\nmax_replication_slots = 20\nmax_worker_processes = 20\nmax_logical_replication_workers = 12\n"
  . "wal_retrieve_retry_interval = '100ms'\n";
my $platform = new_node('platform', init => { allows_streaming => 'logical' },
	conf => $logical . "webhook_events.delivery = off\nlogical_decoding_work_mem = '64kB'\n");
my $tier = new_node('tier', init => { allows_streaming => 'logical' }, conf => $logical);
my $last = new_node('last', init => { allows_streaming => 1 }, conf => $logical);

sub platform { return $platform->safe_psql('postgres', $_[0]); }
sub tier { return $tier->safe_psql('postgres', $_[0]); }

create_platform($platform);
foreach my $node ($tier, $last)
{
	$node->safe_psql('postgres', 'CREATE EXTENSION webhook_events; SELECT webhook_events.resume()');
	create_webhook($node, $receiver->url('/ok?' . $node->name), 'ACTOR.RUN.CREATED, ACTOR.RUN.SUCCEEDED, ACTOR.RUN.FAILED');
}
platform("CREATE PUBLICATION events FOR TABLE webhook_events_internal.outbox WITH (publish = 'insert', publish_via_partition_root)");

# Nobody polls within the hour, so each event arrives because something woke the worker.
my $parallel = $tier->safe_psql('postgres', 'SHOW server_version_num') >= 160000 ? 'parallel' : 'on';
subscribe($tier, 'events', $platform, 'events', "copy_data = off, two_phase = true, streaming = $parallel");
wait_for_sql($tier, "SELECT subtwophasestate FROM pg_subscription WHERE subname = 'events'", 'e');

sub arrives
{
	my ($what, @events) = @_;
	my %expected = map { $_ => 1 } @events;

	wait_until { has_arrived($receiver, \%expected, '/ok?tier') } $what;
	my $seen = arrived($receiver, '/ok?tier');
	is_deeply([ grep { $seen->{$_} > 1 } @events ], [], $what);
	return;
}

# What is prepared on the platform is prepared on the tier, and its commit there is no statement.
my $prepared = 'SELECT count(*) FROM pg_prepared_xacts';

foreach my $id ('p1', 'p2')
{
	platform("BEGIN; INSERT INTO actor_runs (id) VALUES ('$id'); PREPARE TRANSACTION '$id'");
	wait_for_sql($tier, $prepared, $id eq 'p1' ? 1 : 2);
}
platform("COMMIT PREPARED 'p1'");
arrives('an event that was prepared arrives', 'ACTOR.RUN.CREATED p1');

# By a process that knows nothing of what was prepared.
$tier->restart;
platform("BEGIN; INSERT INTO actor_runs (id) VALUES ('undone'); PREPARE TRANSACTION 'undone'");
platform("COMMIT PREPARED 'p2'; ROLLBACK PREPARED 'undone'");
arrives('one that was before a restart', 'ACTOR.RUN.CREATED p2');
wait_for_sql($tier, $prepared, 0);

# A transaction that is larger than the memory for decoding is sent before it ends.
sub is_streamed
{
	return platform("SELECT stream_txns > 0 FROM pg_stat_replication_slots WHERE slot_name = 'events'") eq 't';
}
my $long = $platform->background_psql('postgres', on_error_stop => 1);
$long->query_safe('BEGIN');
$long->query_safe("INSERT INTO actor_runs (id) SELECT 'long-' || i FROM generate_series(1, 1000) AS i");
$long->query_safe("SAVEPOINT s; INSERT INTO actor_runs (id) SELECT 'undone-' || i FROM generate_series(1, 1000) AS i; ROLLBACK TO s");
$long->query_safe("UPDATE actor_runs SET status = 'FAILED' WHERE id LIKE 'long-%'");
platform("INSERT INTO actor_runs (id) VALUES ('beside')");
arrives('an event beside a long transaction', 'ACTOR.RUN.CREATED beside');
$long->query_safe('COMMIT');
$long->quit;
arrives('what was streamed', map { my $run = "long-$_"; map { "ACTOR.RUN.$_ $run" } 'CREATED', 'FAILED' } 1 .. 1000);
wait_until { is_streamed() } 'it was streamed';
platform("BEGIN; INSERT INTO actor_runs (id) SELECT 'both-' || i FROM generate_series(1, 1000) AS i; PREPARE TRANSACTION 'both'");
wait_for_sql($tier, $prepared, 1);
platform("COMMIT PREPARED 'both'");
arrives('what was streamed and prepared', map { "ACTOR.RUN.CREATED both-$_" } 1 .. 1000);
is((grep { /undone/ } keys %{ arrived($receiver) }), 0, 'and nothing that was rolled back');

# What status() says of a subscription.
sub subscription
{
	my ($name) = @_;
	my ($found) = grep { $_->{name} eq $name } @{ decode_json(tier("SELECT coalesce(subscriptions, '[]') FROM webhook_events.status()")) };

	return $found;
}

sub is_state
{
	my ($name, $state) = @_;

	wait_until { (subscription($name) // { state => 'gone' })->{state} eq $state } "the subscription is $state";
	return;
}
my $report = subscription('events');
is($report->{state}, 'applying', 'a subscription that is applied');
cmp_ok($report->{lagSeconds}, '>=', 0, 'has a lag');
is(tier("SELECT ('$report->{committedAt}'::timestamptz BETWEEN now() - interval '1 hour' AND now())"), 't', 'and a commit that came last');

# What is locked out is late, though nothing has failed.
my $lock = $tier->background_psql('postgres', on_error_stop => 1);
$lock->query_safe('BEGIN; LOCK TABLE webhook_events_internal.outbox IN SHARE MODE');
platform("INSERT INTO actor_runs (id) VALUES ('locked')");
wait_until { subscription('events')->{lagSeconds} > 1 } 'its lag grows';
$lock->query_safe('COMMIT');
$lock->quit;
arrives('what was locked out', 'ACTOR.RUN.CREATED locked');

# Disabled, and then enabled again: what was written meanwhile follows.
tier('ALTER SUBSCRIPTION events DISABLE');
is_state('events', 'disabled');
is(tier('SELECT subscriptions_down FROM webhook_events.status()'), '', 'one that was disabled is not down');
platform("INSERT INTO actor_runs (id) VALUES ('meanwhile')");
tier('ALTER SUBSCRIPTION events ENABLE');
arrives('what was written while it was disabled', 'ACTOR.RUN.CREATED meanwhile');
cmp_ok(subscription('events')->{lagSeconds}, '>', 0, 'late');
tier('ALTER SUBSCRIPTION events REFRESH PUBLICATION WITH (copy_data = false)');
platform("INSERT INTO actor_runs (id) VALUES ('refreshed')");
arrives('after a refresh', 'ACTOR.RUN.CREATED refreshed');

# An event that is there already can't be applied.  That disables a subscription which is to be
# disabled by errors.
tier('ALTER SUBSCRIPTION events SET (disable_on_error = true)');
my $columns = '(id, created_at, xid, event_type, actor_run_id, resource)';
my $values = "(webhook_events_internal.new_id(), now(), '3', 'ACTOR.RUN.CREATED', 'poison', '{}')";
my $poison = tier("INSERT INTO webhook_events_internal.outbox $columns VALUES $values RETURNING id" =~ s/'poison'/'other'/r);
platform("INSERT INTO webhook_events_internal.outbox $columns VALUES $values" =~ s/webhook_events_internal\.new_id\(\)/'$poison'/r);
is_state('events', 'down');
is(tier('SELECT subscriptions_down FROM webhook_events.status()'), '{events}', 'one that an error has disabled is down');
tier("DELETE FROM webhook_events_internal.outbox WHERE id = '$poison'");
tier('ALTER SUBSCRIPTION events ENABLE');
arrives('it goes on when the row is out of the way', 'ACTOR.RUN.CREATED poison');

# Published without the root, days are tables of their own, and one that comes later is unknown.
my $broken = "SELECT coalesce(broken_tables::text, '') FROM webhook_events.status()";

my $days = q{SELECT inhrelid::regclass FROM pg_inherits WHERE inhparent = 'webhook_events_internal.outbox'::regclass ORDER BY inhrelid::regclass::text};
my $day;

is(tier($broken), '', 'nothing is wrong with the tables');
wait_until
{
	my %here = map { $_ => 1 } split /\n/, tier($days);

	($day) = grep { /_\d{8}$/ && $here{$_} } split /\n/, platform($days);
	defined $day;
}
'both have a day';
platform("CREATE PUBLICATION days FOR TABLE $day WITH (publish = 'insert')");
subscribe($tier, '"by days"', $platform, 'days', "copy_data = off, slot_name = 'days'");
like(tier($broken), qr/^\{"subscription \\"by days\\": the outbox is published without publish_via_partition_root, so the events of later days are missing"\}$/,
	'a subscription to the days themselves is told of');
tier('DROP SUBSCRIPTION "by days"');
is(tier($broken), '', 'and no more when it is gone');

# Some columns and some rows; the tier is itself one that is subscribed to.
tier('DROP SUBSCRIPTION events');
is_state('events', 'gone');
platform("INSERT INTO actor_runs (id) VALUES ('missed')");
platform(q{CREATE PUBLICATION parts FOR TABLE webhook_events_internal.outbox
	(id, created_at, event_type, user_id, actor_id, actor_run_id, old_status, new_status, resource)
	WHERE (new_status IN ('READY', 'SUCCEEDED')) WITH (publish = 'insert', publish_via_partition_root)});
tier("CREATE PUBLICATION events FOR TABLE webhook_events_internal.outbox WITH (publish = 'insert', publish_via_partition_root)");
subscribe($last, 'last', $tier, 'events', 'copy_data = off');
subscribe($tier, 'partly', $platform, 'parts', 'copy_data = off, streaming = on');
platform("INSERT INTO actor_runs (id) VALUES ('some')");
platform("UPDATE actor_runs SET status = 'FAILED' WHERE id = 'some'; INSERT INTO actor_runs (id) VALUES ('more')");
arrives('events with some columns', 'ACTOR.RUN.CREATED some', 'ACTOR.RUN.CREATED more');
is(arrived($receiver)->{'ACTOR.RUN.FAILED some'}, undef, 'and some rows');
is(arrived($receiver)->{'ACTOR.RUN.CREATED missed'}, undef, 'one that is made again begins where it is made');
my %both = map { $_ => 1 } 'ACTOR.RUN.CREATED some', 'ACTOR.RUN.CREATED more';
wait_until { has_arrived($receiver, \%both, '/ok?last') } 'they arrive by way of the tier';
is_deeply([ grep { arrived($receiver, '/ok?last')->{$_} > 1 } keys %both ], [], 'each once, by way of the tier');

# With the rows of before: those that the tier has already can't be copied, which status() tells.
$last->safe_psql('postgres', 'DROP SUBSCRIPTION last; TRUNCATE webhook_events_internal.outbox');
subscribe($last, 'again', $tier, 'events', 'copy_data = on');
my %again = map { $_ => 1 } 'ACTOR.RUN.CREATED p1', 'ACTOR.RUN.CREATED long-1000', 'ACTOR.RUN.FAILED long-1000';
wait_until { has_arrived($receiver, \%again, '/ok?last') } 'copied events are sent';
pass('with copy_data all that is kept is sent');
tier('DROP SUBSCRIPTION partly');
subscribe($tier, 'twice', $platform, 'parts', 'copy_data = on');
is_state('twice', 'copying');
$tier->wait_for_log(qr/duplicate key value violates unique constraint "outbox_(?:\d|default)/);
is_state('twice', 'copying');
pass('a copy of what is there already does not end');

$_->stop foreach $last, $tier, $platform;
done_testing();
