# 072_tier_changes.pl
#	  A delivery tier whose platform changes while it is written to, by the steps of
#	  src/doc/scale-out.md: columns are added and renamed, the platform fails over
#	  to its standby, ad-hoc webhooks retire on the tier.

use strict;
use warnings;
use IPC::Run ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use WebhookEvents::Node;
use WebhookEvents::Receiver;
use WebhookEvents::Tier;

my $receiver = WebhookEvents::Receiver->new;
my $logical = "wal_level = logical\nmax_wal_senders = 10\nmax_replication_slots = 10\n";
my $platform = new_node('platform', init => { allows_streaming => 'logical' },
	conf => $logical . "webhook_events.delivery = off\n");
my $tier = new_node('tier', conf => $logical . "webhook_events.poll_interval = '1s'\nwal_retrieve_retry_interval = '100ms'\nmax_worker_processes = 16\n");
# From 17 on a standby has the slots as well.
my $has_failover_slots = $platform->safe_psql('postgres', 'SHOW server_version_num') >= 170000;

sub tier { return $tier->safe_psql('postgres', $_[0]); }
sub platform { return $platform->safe_psql('postgres', $_[0]); }

my $table = 'CREATE TABLE actor_runs (id text PRIMARY KEY, actor_id text, user_id text, status text)';

platform('CREATE EXTENSION webhook_events');
platform($table);
platform("SELECT webhook_events.create_webhook('" . $receiver->url('/ok') . "', '{ACTOR.RUN.CREATED, ACTOR.RUN.SUCCEEDED}', actor_id => 'x')");
publish_platform($platform, 'platform', 'actor_runs');
tier('CREATE EXTENSION webhook_events');
tier($table);
tier("SELECT webhook_events.attach('actor_runs', on_replica => true)");
subscribe($tier, 'tier', $platform, 'platform', $has_failover_slots ? 'failover = true' : '');
wait_for_sql($tier, "SELECT count(*) = 2 AND bool_and(srsubstate = 'r') FROM pg_subscription_rel", 't');

# Someone who writes one run after the other, by position, until it is told to stop or its
# server is gone.  What psql prints was acknowledged.
my $series = 0;

sub start_writer
{
	my $prefix = 'w' . ++$series;
	my $script = join '', map {
		"INSERT INTO actor_runs VALUES ('$prefix-$_', 'x', 'u', 'READY') RETURNING 'ACTOR.RUN.CREATED ' || id;\n"
		  . "UPDATE actor_runs SET status = 'SUCCEEDED' WHERE id = '$prefix-$_' RETURNING 'ACTOR.RUN.SUCCEEDED ' || id;\n"
		  # It must not come to its end before it is told to.
		  . "DO 'BEGIN PERFORM pg_sleep(0.005); END';\n"
	} 1 .. 20000;
	my $writer = { in => $script, out => '', err => '' };

	$writer->{handle} = IPC::Run::start([ 'psql', '-XAtq', '-d', $platform->connstr('postgres'), '-v', 'ON_ERROR_STOP=1' ],
		'<', \$writer->{in}, '>', \$writer->{out}, '2>', \$writer->{err});
	wait_for_written($writer, 20);
	return $writer;
}

# Waits until so many more writes were acknowledged.
sub wait_for_written
{
	my ($writer, $more) = @_;
	my $before = () = $writer->{out} =~ /\n/g;

	wait_until { $writer->{handle}->pump_nb; my $now = () = $writer->{out} =~ /\n/g; $now >= $before + $more } "$more more writes";
	return;
}

my %expected;

sub stop_writer
{
	my $writer = shift;

	$writer->{handle}->kill_kill;
	# A line that was cut off was not seen to be acknowledged.
	$expected{$_} = 1 foreach $writer->{out} =~ /^(\S+ \S+)\n/mg;
	return;
}

sub nothing_is_lost
{
	my $what = shift;

	wait_until { has_arrived($receiver, \%expected) } $what;
	pass("$what: all of " . keys(%expected) . ' acknowledged writes have arrived');
	return;
}

# A column that is added: on the tier first.
my $writer = start_writer();
tier('ALTER TABLE actor_runs ADD COLUMN note text');
platform("ALTER TABLE actor_runs ADD COLUMN note text DEFAULT 'new'");
wait_for_written($writer, 20);

# One that is renamed: on the platform first, and on the tier when it has come so far.
my $errors = 'SELECT apply_error_count FROM pg_stat_subscription_stats';
my $before = tier($errors);
platform('ALTER TABLE actor_runs RENAME COLUMN actor_id TO actor');
wait_until { $writer->{handle}->pump_nb; tier($errors) > $before } 'the tier can not go on without the new name';
tier('ALTER TABLE actor_runs RENAME COLUMN actor_id TO actor');
wait_for_written($writer, 20);
stop_writer($writer);
nothing_is_lost('columns added and renamed');
is_deeply([ grep { arrived($receiver)->{$_} > 1 } keys %expected ], [], 'each once');
is(tier(q{SELECT count(*) FROM webhook_events.events WHERE actor_id IS DISTINCT FROM 'x'}), 0, 'events still have the column under its new name');

# An ad-hoc webhook retires on the tier, which the platform can ask about.
platform("SELECT webhook_events.create_ad_hoc_webhooks('own', '[{\"requestUrl\": \"" . $receiver->url('/ok?own') . "\", \"eventTypes\": [\"ACTOR.RUN.SUCCEEDED\"]}]'::jsonb)");
wait_for_sql($tier, 'SELECT count(*) FROM webhook_events.webhooks WHERE is_ad_hoc', 1);
is(tier('SELECT count(begun_at) FROM webhook_events_internal.webhooks WHERE is_ad_hoc'), 0, 'where its run arrives as well, nothing is looked for that was raised before');
platform("INSERT INTO actor_runs VALUES ('own', 'y', 'u', 'READY')");
platform("UPDATE actor_runs SET status = 'SUCCEEDED' WHERE id = 'own'");
wait_for_sql($tier, "SELECT is_retired AND NOT is_enabled FROM webhook_events_internal.webhooks WHERE is_ad_hoc", 't');
is(scalar(grep { $_->{target} eq '/ok?own' } $receiver->requests), 1, 'an ad-hoc webhook of the platform is called');
pass('and retires on the tier');

# So it stays, whatever is changed on the platform; and so does one that its run has enabled again.
sub change_own
{
	my ($description) = @_;

	platform("SELECT webhook_events.update_webhook(id, '{\"description\": \"$description\"}') FROM webhook_events.webhooks WHERE is_ad_hoc");
	wait_for_sql($tier, 'SELECT description FROM webhook_events.webhooks WHERE is_ad_hoc', $description);
	return tier('SELECT is_enabled, is_retired, run_ended FROM webhook_events.webhooks WHERE is_ad_hoc');
}
is(change_own('retired'), 'f|t|t', 'a change of its description does not enable it');
platform("UPDATE actor_runs SET status = 'RUNNING' WHERE id = 'own'");
wait_for_sql($tier, 'SELECT is_enabled FROM webhook_events.webhooks WHERE is_ad_hoc', 't');
is(change_own('resurrected'), 't|f|f', 'nor disable one whose run was resurrected');
platform("UPDATE actor_runs SET status = 'SUCCEEDED' WHERE id = 'own'");
wait_for_sql($tier, 'SELECT is_retired FROM webhook_events.webhooks WHERE is_ad_hoc', 't');

# One that is defined when its run is over retires as well.
platform("SELECT webhook_events.create_ad_hoc_webhooks('own', '[{\"requestUrl\": \"" . $receiver->url('/ok?late') . "\", \"eventTypes\": [\"ACTOR.RUN.CREATED\"]}]'::jsonb)");
wait_for_sql($tier, 'SELECT count(*) FROM webhook_events.webhooks WHERE is_ad_hoc AND is_retired', 2);
is(platform('SELECT count(*) FROM webhook_events_internal.runs_to_check'), 0, 'and the platform notes nothing that nobody reads there');

# The platform fails over while it is written to.
$platform->backup('standby');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($platform, 'standby', has_streaming => 1);
$standby->append_conf('postgresql.conf', "primary_conninfo = '" . connection($platform) . " application_name=standby'\nhot_standby_feedback = on\n");
if ($has_failover_slots)
{
	platform("SELECT pg_create_physical_replication_slot('standby')");
	$standby->append_conf('postgresql.conf', "primary_slot_name = 'standby'\nsync_replication_slots = on\n");
	$platform->append_conf('postgresql.conf', "synchronized_standby_slots = 'standby'\nsynchronous_standby_names = 'standby'\n");
}
else
{
	# Nothing is acknowledged that the tier has not got.
	$platform->append_conf('postgresql.conf', "synchronous_standby_names = 'FIRST 2 (standby, tier)'\n");
}
$standby->start;
wait_for_sql($platform, "SELECT count(*) FROM pg_stat_replication WHERE application_name = 'standby' AND state = 'streaming'", 1);
$platform->reload;
wait_for_sql($standby, "SELECT count(*) FROM pg_replication_slots WHERE slot_name = 'tier' AND synced AND NOT temporary AND invalidation_reason IS NULL", 1)
  if $has_failover_slots;
$writer = start_writer();
wait_for_written($writer, 100);
$platform->stop('immediate');
stop_writer($writer);
$standby->promote;
$standby->append_conf('postgresql.conf', "synchronous_standby_names = ''\n");
$standby->reload;
if ($has_failover_slots)
{
	tier("ALTER SUBSCRIPTION tier CONNECTION '" . connection($standby) . "'");
}
else
{
	begin_with_new_slot($tier, 'tier', $standby, sub { $_[0] =~ s/actor_id/actor/gr });
}
$platform = $standby;
$writer = start_writer();
wait_for_written($writer, 20);
stop_writer($writer);
nothing_is_lost('failover of the platform');

$tier->stop;
$platform->stop;
done_testing();
