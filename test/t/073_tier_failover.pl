# 073_tier_failover.pl
#	  The platform of a delivery tier has two standbys and fails over twice, by the steps of
#	  src/doc/scale-out.md: once while the new primary has what the tier lacks, and once
#	  while the tier would have what the new primary lacks.

use strict;
use warnings;
use IPC::Run ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use WebhookEvents::Node;
use WebhookEvents::Page qw(page_block);
use WebhookEvents::Receiver;
use WebhookEvents::Tier;

my $receiver = WebhookEvents::Receiver->new;
my $logical = "wal_level = logical\nmax_wal_senders = 10\nmax_replication_slots = 10\nwal_retrieve_retry_interval = '100ms'\n";
my $primary = new_node('platform', init => { allows_streaming => 'logical' },
	conf => $logical . "webhook_events.delivery = off\n");
my $tier = new_node('tier', conf => $logical . "webhook_events.poll_interval = '1s'\nmax_worker_processes = 16\n");
# From 17 on standbys have the slots as well.
my $has_failover_slots = $primary->safe_psql('postgres', 'SHOW server_version_num') >= 170000;

sub tier { return $tier->safe_psql('postgres', $_[0]); }
sub platform { return $primary->safe_psql('postgres', $_[0]); }

my $table = 'CREATE TABLE actor_runs (id text PRIMARY KEY, actor_id text, user_id text, status text)';

platform('CREATE EXTENSION webhook_events');
platform($table);
platform("SELECT webhook_events.create_webhook('" . $receiver->url('/ok') . "', '{ACTOR.RUN.CREATED, ACTOR.RUN.SUCCEEDED}')");
publish_platform($primary, 'platform', 'actor_runs');
tier('CREATE EXTENSION webhook_events');
tier($table);
tier("SELECT webhook_events.attach('actor_runs', on_replica => true)");
subscribe($tier, 'tier', $primary, 'platform', $has_failover_slots ? 'failover = true' : '');
wait_for_sql($tier, "SELECT count(*) = 2 AND bool_and(srsubstate = 'r') FROM pg_subscription_rel", 't');

sub standby_conf
{
	my ($name, $of) = @_;

	return "primary_conninfo = '" . connection($of) . " application_name=$name'\n"
	  . "hot_standby_feedback = on\nprimary_slot_name = '$name'\nrecovery_target_timeline = 'latest'\n"
	  . ($has_failover_slots ? "sync_replication_slots = on\n" : '');
}

# Whom a primary waits for.
sub primary_conf
{
	my @standbys = @_;
	my $names = join ', ', @standbys;

	return $has_failover_slots
	  ? "synchronized_standby_slots = '$names'\nsynchronous_standby_names = 'ANY 1 ($names)'\n"
	  : 'synchronous_standby_names = ' . "'FIRST " . (@standbys + 1) . " ($names, tier)'\n";
}

sub follows
{
	my ($standby, $of) = @_;
	my $name = $standby->name;

	wait_for_sql($of, "SELECT count(*) FROM pg_stat_replication WHERE application_name = '$name' AND state = 'streaming'", 1);
	wait_for_sql($standby, page_block('scale-out', qr/AS is_ready FROM pg_replication_slots/) =~ s/;\s*\z/ WHERE slot_name = 'tier'/r, 'tier|t')
	  if $has_failover_slots;
	return;
}

$primary->backup('base');
my %standby;
foreach my $name ('one', 'two')
{
	platform("SELECT pg_create_physical_replication_slot('$name')");
	$standby{$name} = PostgreSQL::Test::Cluster->new($name);
	$standby{$name}->init_from_backup($primary, 'base', has_streaming => 1);
	$standby{$name}->append_conf('postgresql.conf', standby_conf($name, $primary));
	$standby{$name}->start;
	follows($standby{$name}, $primary);
}
$primary->append_conf('postgresql.conf', primary_conf('one', 'two'));
$primary->reload;

my %expected;

sub write_run
{
	my ($id) = @_;

	platform("INSERT INTO actor_runs VALUES ('$id', 'x', 'u', 'READY')");
	platform("UPDATE actor_runs SET status = 'SUCCEEDED' WHERE id = '$id'");
	$expected{"$_ $id"} = 1 foreach 'ACTOR.RUN.CREATED', 'ACTOR.RUN.SUCCEEDED';
	return;
}

# A write of which nobody hears that it is done, with more log than all that follows will have.
sub start_write
{
	my ($id) = @_;

	return IPC::Run::start([ 'psql', '-XAtq', '-d', $primary->connstr('postgres'),
			'-c', "SELECT pg_logical_emit_message(true, 'fill', repeat('x', 4000000)); INSERT INTO actor_runs VALUES ('$id', 'x', 'u', 'READY')" ], '&>', \my $said);
}

sub all_arrive
{
	my ($what) = @_;

	wait_until { has_arrived($receiver, \%expected) } $what;
	is_deeply([ grep { arrived($receiver)->{$_} > 1 } keys %expected ], [], "$what, each once");
	return;
}

# What the page says is to be done when a standby was promoted.
sub tier_follows
{
	my ($promoted, @standbys) = @_;

	$promoted->append_conf('postgresql.conf', @standbys ? primary_conf(@standbys)
		: "synchronous_standby_names = ''\n" . ($has_failover_slots ? "synchronized_standby_slots = ''\n" : ''));
	$promoted->reload;
	$primary = $promoted;
	if (!$has_failover_slots)
	{
		tier('DROP EXTENSION IF EXISTS postgres_fdw CASCADE; DROP SCHEMA IF EXISTS promoted');
		begin_with_new_slot($tier, 'tier', $promoted);
	}
	else
	{
		tier("ALTER SUBSCRIPTION tier CONNECTION '" . connection($promoted) . "'");
		# The test has disabled it, to be behind.
		tier('ALTER SUBSCRIPTION tier ENABLE');
	}
	return;
}

write_run("before-$_") foreach 1 .. 5;
all_arrive('with two standbys');

# The new primary has a write that the tier has not got, and that nobody has heard of.
tier('ALTER SUBSCRIPTION tier DISABLE');
wait_for_sql($primary, "SELECT count(*) FROM pg_stat_replication WHERE application_name = 'tier'", 0);
my $write = start_write('unheard');
wait_for_sql($_, "SELECT count(*) FROM actor_runs WHERE id = 'unheard'", 1) foreach values %standby;
$primary->stop('immediate');
$write->kill_kill;
$standby{one}->promote;
$standby{one}->safe_psql('postgres', "SELECT pg_create_physical_replication_slot('two')");
$standby{two}->append_conf('postgresql.conf', standby_conf('two', $standby{one}));
$standby{two}->reload;
wait_for_sql($standby{one}, "SELECT count(*) FROM pg_stat_replication WHERE application_name = 'two' AND state = 'streaming'", 1);
tier_follows($standby{one}, 'two');
$expected{'ACTOR.RUN.CREATED unheard'} = 1;
platform("UPDATE actor_runs SET status = 'SUCCEEDED' WHERE id = 'unheard'");
$expected{'ACTOR.RUN.SUCCEEDED unheard'} = 1;
write_run("first-$_") foreach 1 .. 20;
all_arrive('the first standby is promoted, ahead of the tier');
follows($standby{two}, $standby{one});

# The second standby lacks a write that the primary would have sent to the tier.
$standby{two}->stop;
$write = start_write('undone');
if ($has_failover_slots)
{
	wait_for_sql($primary, "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'", 1);
}
else
{
	wait_for_sql($tier, "SELECT count(*) FROM actor_runs WHERE id = 'undone'", 1);
}
$primary->stop('immediate');
$write->kill_kill;
$standby{two}->start;
$standby{two}->promote;
tier_follows($standby{two});
is(platform("SELECT count(*) FROM actor_runs WHERE id = 'undone'"), 0, 'a write that nobody has heard of is undone');
write_run($_) foreach map({ "second-$_" } 1 .. 20), 'undone';
if ($has_failover_slots)
{
	all_arrive('the second standby is promoted');
}
else
{
	wait_until { has_arrived($receiver, \%expected) } 'the second standby is promoted, behind the tier';
	is_deeply([ grep { arrived($receiver)->{$_} > 1 } keys %expected ], ['ACTOR.RUN.CREATED undone'], 'only what was undone, and done again, is sent twice');
}
is(tier('SELECT string_agg(r::text, $$ $$ ORDER BY id) FROM actor_runs AS r'), platform('SELECT string_agg(r::text, $$ $$ ORDER BY id) FROM actor_runs AS r'),
	'the tier has the rows of the platform');

$tier->stop;
$primary->stop;
done_testing();
