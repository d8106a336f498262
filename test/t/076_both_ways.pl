# 076_both_ways.pl
#	  Two servers that are both written to, and have the platform's table and the webhooks from
#	  each other by logical replication.

use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use WebhookEvents::Node;
use WebhookEvents::Receiver;
use WebhookEvents::Tier;

my $conf = "wal_level = logical\nmax_wal_senders = 10\nmax_replication_slots = 10\nwal_retrieve_retry_interval = '100ms'\n";
my %node = (left => new_node('left', conf => $conf));

if ($node{left}->safe_psql('postgres', 'SHOW server_version_num') < 160000)
{
	$node{left}->stop;
	plan skip_all => 'before 16 a server sends back what it was sent';
}
$node{right} = new_node('right', conf => $conf);

my $receiver = WebhookEvents::Receiver->new;
my %other = (left => 'right', right => 'left');

sub query
{
	my ($name, $sql) = @_;

	return $node{$name}->safe_psql('postgres', $sql);
}

# Waits until it gives this on both.
sub wait_for_both
{
	my ($sql, $expected) = @_;

	wait_for_sql($node{$_}, $sql, $expected) foreach sort keys %node;
	return;
}

foreach my $name (sort keys %node)
{
	create_platform($node{$name});
	publish_platform($node{$name}, "of_$name", 'actor_runs');
}
subscribe($node{$_}, "to_$_", $node{ $other{$_} }, "of_$other{$_}", 'origin = none, copy_data = off') foreach sort keys %node;
wait_for_both("SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'", 1);

query('left', sprintf q{SELECT count(*) FROM webhook_events.create_webhook('%s', '{ACTOR.RUN.CREATED, ACTOR.RUN.SUCCEEDED}', user_id => 'one')}, $receiver->url('/ok'));
query('right', sprintf q{SELECT count(*) FROM webhook_events.create_webhook('%s', '{ACTOR.RUN.CREATED}', user_id => 'other')}, $receiver->url('/gone'));
wait_for_both('SELECT count(*) FROM webhook_events.webhooks', 2);

# Each run is made on one of them, with a webhook of its own, and ends on the other one.
my %expected;
foreach my $i (1 .. 20)
{
	my $name = (sort keys %node)[ $i % 2 ];

	query($name, sprintf q{BEGIN; INSERT INTO actor_runs (id, user_id) VALUES ('run-%1$d', 'one');
		SELECT count(*) FROM webhook_events.create_ad_hoc_webhooks('run-%1$d', '[{"requestUrl": "%2$s",
			"eventTypes": ["ACTOR.RUN.CREATED", "ACTOR.RUN.SUCCEEDED"]}]'::jsonb); COMMIT}, $i, $receiver->url('/ok?own'));
	$expected{"$_ run-$i"} = 1 foreach 'ACTOR.RUN.CREATED', 'ACTOR.RUN.SUCCEEDED';
}
wait_for_both('SELECT count(*) FROM actor_runs', 20);
wait_for_both('SELECT count(*) FROM webhook_events.webhooks WHERE is_ad_hoc', 20);
foreach my $name (sort keys %node)
{
	my @here = map { "'run-$_'" } grep { (sort keys %node)[ $_ % 2 ] ne $name } 1 .. 20;

	query($name, 'UPDATE actor_runs SET status = \'SUCCEEDED\' WHERE id IN (' . join(', ', @here) . ')');
}
foreach my $target ('/ok', '/ok?own')
{
	wait_until { has_arrived($receiver, \%expected, $target) } "$target has got all";
}
wait_for_both("SELECT count(*) FROM actor_runs WHERE status = 'SUCCEEDED'", 20);
wait_for_both('SELECT events_waiting + dispatches_active FROM webhook_events.status()', 0);
is_deeply(arrived($receiver, $_), \%expected, "$_: each event is sent by one of them, once") foreach '/ok', '/ok?own';

wait_for_both('SELECT count(*) FROM webhook_events.webhooks WHERE is_ad_hoc AND is_retired AND NOT is_enabled', 20);
pass('webhooks of single runs retire on both');
query('right', "INSERT INTO actor_runs (id, user_id) VALUES ('gone', 'other')");
wait_for_both("SELECT disabled_reason FROM webhook_events.webhooks WHERE user_id = 'other'", 'The endpoint answered 410 Gone.');
pass('what one has disabled is disabled on both');
query('left', "SELECT count(webhook_events.enable_webhook(id)) FROM webhook_events.webhooks WHERE user_id = 'other'");
wait_for_both("SELECT is_enabled AND disabled_reason IS NULL FROM webhook_events.webhooks WHERE user_id = 'other'", 't');
pass('and enabled again');
wait_for_both('SELECT running AND reason IS NULL AND troubles IS NULL AND subscriptions_down IS NULL FROM webhook_events.status()', 't');
pass('status() is green');

$_->stop foreach values %node;
$receiver->stop;
done_testing();
