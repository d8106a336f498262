# 070_tier.pl
#	  A delivery tier, by the steps of src/doc/scale-out.md: a server that subscribes
#	  to the tables and the webhooks of two platforms, records their events and sends
#	  them, while the platforms write and servers are killed.

use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use WebhookEvents::Node;
use WebhookEvents::Page qw(page_block);
use WebhookEvents::Receiver;
use WebhookEvents::Tier;

my $receiver = WebhookEvents::Receiver->new;
my $logical = "wal_level = logical\nmax_wal_senders = 10\nmax_replication_slots = 10\n";
my %platform = map { $_ => new_node($_, conf => $logical . "webhook_events.delivery = off\n") } 'a', 'b';
my $tier = new_node('tier', conf => $logical . "webhook_events.poll_interval = '1s'\nwebhook_events.retry_delay = '100ms'\n"
	  . "wal_retrieve_retry_interval = '100ms'\nmax_logical_replication_workers = 8\nmax_worker_processes = 20\n");

sub tier { return $tier->safe_psql('postgres', $_[0]); }

# The platforms' rows of before, which raise nothing on the tier.
foreach my $name (sort keys %platform)
{
	my $node = $platform{$name};

	$node->safe_psql('postgres', 'CREATE EXTENSION webhook_events');
	$node->safe_psql('postgres', "CREATE SCHEMA $name; CREATE TABLE $name.actor_runs (id text PRIMARY KEY, actor_id text, user_id text, status text)");
	$node->safe_psql('postgres', "INSERT INTO $name.actor_runs SELECT 'old-' || i, 'x', '$name', 'SUCCEEDED' FROM generate_series(1, 50) AS i");
	$node->safe_psql('postgres', "SELECT webhook_events.create_webhook('" . $receiver->url("/ok?platform=$name")
		  . "', '{ACTOR.RUN.CREATED, ACTOR.RUN.SUCCEEDED}', user_id => '$name')");
	publish_platform($node, "platform_$name", "$name.actor_runs");
}

tier('CREATE EXTENSION webhook_events');
foreach my $name (sort keys %platform)
{
	tier("CREATE SCHEMA $name; CREATE TABLE $name.actor_runs (id text PRIMARY KEY, actor_id text, user_id text, status text)");
	tier("SELECT webhook_events.attach('$name.actor_runs', on_replica => true)");
	subscribe($tier, "tier_$name", $platform{$name}, "platform_$name");
}

sub synchronized
{
	wait_for_sql($tier, "SELECT count(*) = 4 AND bool_and(srsubstate = 'r') FROM pg_subscription_rel", 't');
	return;
}
synchronized();
is(tier('SELECT count(*) FROM a.actor_runs'), 50, 'the rows of before are copied');
is(tier('SELECT count(*) FROM webhook_events.events'), 0, 'and raise nothing');
is(tier('SELECT count(*) FROM webhook_events.webhooks'), 2, 'definitions flow to the tier');
my $states = q{SELECT string_agg((s ->> 'name') || ' ' || (s ->> 'state') || ' ' || (s ? 'lagSeconds')::text, ', ')
	FROM webhook_events.status(), jsonb_array_elements(subscriptions) AS s};
wait_for_sql($tier, $states =~ s/ \|\| ' ' \|\| \(s \?.*?text//r, 'tier_a applying, tier_b applying');

# Attached again, as after a change of the mapping: rows of replication still count.
tier("SELECT webhook_events.attach('a.actor_runs', exclude => '{status}')");

my %expected;
my $batch = 0;

sub write_some
{
	my ($name) = @_;
	my $prefix = "$name-" . ++$batch;

	$platform{$name}->safe_psql('postgres', "INSERT INTO $name.actor_runs SELECT '$prefix-' || i, 'x', '$name', 'READY' FROM generate_series(1, 20) AS i");
	$platform{$name}->safe_psql('postgres', "BEGIN; UPDATE $name.actor_runs SET status = 'FAILED' WHERE id LIKE '$prefix-%'; ROLLBACK");
	$platform{$name}->safe_psql('postgres', "UPDATE $name.actor_runs SET status = 'SUCCEEDED' WHERE id LIKE '$prefix-%'");
	$expected{"$_->[0] $prefix-$_->[1]"} = 1 foreach map { my $i = $_; map { [ $_, $i ] } 'ACTOR.RUN.CREATED', 'ACTOR.RUN.SUCCEEDED' } 1 .. 20;
	return;
}

sub all_arrive
{
	my ($what) = @_;

	wait_until { has_arrived($receiver, \%expected) } $what;
	return;
}

write_some($_) foreach 'a', 'b', 'a';
all_arrive('all of both platforms arrive');
is_deeply([ grep { arrived($receiver)->{$_} > 1 } keys %expected ], [], 'each once');

# Kills, of each of the three, with writes in between.
$tier->stop('immediate');
write_some($_) foreach 'a', 'b';
$tier->start;
$platform{a}->stop('immediate');
write_some('b');
$platform{a}->start;
write_some('a');
all_arrive('what was written around the kills arrives');
is_deeply([ grep { !$expected{$_} } keys %{ arrived($receiver) } ], [], 'and nothing that was rolled back or is old');

# A row that can't be applied stops one platform's subscription, not the other's.
tier("INSERT INTO a.actor_runs VALUES ('poison', 'x', 'a', 'READY')");
$platform{a}->safe_psql('postgres', "INSERT INTO a.actor_runs VALUES ('poison', 'x', 'a', 'READY')");
$expected{'ACTOR.RUN.CREATED poison'} = 1;
write_some('b');
all_arrive('the other platform goes on');
wait_for_sql($tier, 'SELECT subscriptions_down FROM webhook_events.status()', '{tier_a}');
tier("DELETE FROM a.actor_runs WHERE id = 'poison'");
write_some('a');
all_arrive('and the first one when the row is out of the way');
wait_for_sql($tier, $states, 'tier_a applying true, tier_b applying true');
pass('status() has the state and the lag of each subscription');

# What the tier decides can be seen on the platform, by a role that only reads.
my $platform = $platform{a};

sub platform { return $platform->safe_psql('postgres', $_[0]); }

tier("CREATE ROLE watcher LOGIN; SELECT webhook_events.grant_access('watcher', 'reader')");
platform('CREATE EXTENSION postgres_fdw; CREATE SCHEMA tier');
platform("CREATE SERVER tier FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '" . $tier->host . "', port '" . $tier->port . "', dbname 'postgres')");
platform("CREATE USER MAPPING FOR CURRENT_USER SERVER tier OPTIONS (user 'watcher')");
platform(page_block('scale-out', qr/IMPORT FOREIGN SCHEMA webhook_events/));
my $of_a = grep { / (?:a-|poison)/ } keys %expected;
wait_for_sql($platform, "SELECT count(DISTINCT (event_type, actor_run_id)) FROM tier.deliveries WHERE state = 'succeeded' AND user_id = 'a'", $of_a);
is(platform('SELECT count(*) FROM tier.webhook_health WHERE is_enabled AND waiting = 0'), 2, 'the platform sees what became of its events');

# A webhook that the tier disables stays so when the platform changes something else.
my $gone = platform("SELECT id FROM webhook_events.create_webhook('" . $receiver->url('/gone') . "', '{ACTOR.RUN.FAILED}', user_id => 'a')");
my $failed = 0;

sub tier_says
{
	my ($what, $value) = @_;

	wait_for_sql($tier, "SELECT $what FROM webhook_events.webhooks WHERE id = '$gone'", $value);
	return;
}

sub tier_disables
{
	my $id = 'gone-' . ++$failed;

	platform("INSERT INTO a.actor_runs VALUES ('$id', 'x', 'a', 'READY'); UPDATE a.actor_runs SET status = 'FAILED' WHERE id = '$id'");
	tier_says("NOT is_enabled AND disabled_reason ~ '410'", 't');
	return;
}
tier_says('is_enabled', 't');
tier_disables();
platform("SELECT webhook_events.update_webhook('$gone', '{\"description\": \"changed\", \"isEnabled\": true}')");
tier_says('description', 'changed');
tier_says("NOT is_enabled AND disabled_reason ~ '410'", 't');
is(platform("SELECT is_enabled FROM webhook_events.webhooks WHERE id = '$gone'"), 't', 'the platform has not disabled it');
platform("SELECT webhook_events.enable_webhook('$gone')");
tier_says('is_enabled', 't');
pass('what the tier has disabled stays so until the platform enables it');

# As the page has it: the platform's row says it too, and the tier's keeps its reason.
my $way_back = page_block('scale-out', qr/t\.turned_there/);
is(platform($way_back), 0, 'nothing is disabled');
tier_disables();
is(platform($way_back), 1, 'the platform takes over what the tier has disabled');
is(platform($way_back), 0, 'once');
platform("SELECT webhook_events.update_webhook('$gone', '{\"description\": \"disabled\"}')");
tier_says('description', 'disabled');
is(tier("SELECT is_enabled || ' ' || disabled_reason FROM webhook_events.webhooks WHERE id = '$gone'"),
	'false The endpoint answered 410 Gone.', 'which keeps its reason there');
platform("SELECT webhook_events.update_webhook('$gone', '{\"isEnabled\": true, \"requestUrl\": \"" . $receiver->url('/ok') . "\"}')");
tier_says('is_enabled', 't');

# One of a run that has ended retires on the tier; the platform deletes it when it is old, and so
# it is deleted on both.
my $forget = page_block('scale-out', qr/delete_webhook\(w\.id\)/);
my $everything = q{SELECT count(*) FROM webhook_events.webhooks WHERE is_ad_hoc};

platform("SELECT webhook_events.create_ad_hoc_webhooks('own', '[{\"requestUrl\": \"" . $receiver->url('/ok') . "\", \"eventTypes\": [\"ACTOR.RUN.SUCCEEDED\"]}]'::jsonb)");
platform("INSERT INTO a.actor_runs VALUES ('own', 'x', 'a', 'READY'); UPDATE a.actor_runs SET status = 'SUCCEEDED' WHERE id = 'own'");
wait_for_sql($tier, "$everything AND is_retired", 1);
is(platform($forget), 0, 'one that has retired now is kept');
is(platform($forget =~ s/now\(\) - interval '7 days'/now() + interval '1 day'/r), 1, 'one that is old is deleted');
wait_for_sql($tier, $everything, 0);

# A definition that its commit knows to be on the other server, as the page has it for Citus.
my ($waits, $waited) = split /^(?=BEGIN;)/m, page_block('scale-out', qr/synchronous_commit = remote_apply/)
  =~ s/FIRST 2 \(definitions_1, definitions_2\)/FIRST 1 (tier_a)/r
  =~ s/create_webhook\(\.\.\.\)/create_webhook('https:\/\/example.com\/', '{ACTOR.RUN.CREATED}', description => 'waited for')/r;
platform($waits);
wait_for_sql($platform, "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'", 1);
platform($waited);
is(tier("SELECT count(*) FROM webhook_events.webhooks WHERE description = 'waited for'"), 1, 'a definition is there when its commit has ended');
platform('ALTER SYSTEM RESET ALL; SELECT pg_reload_conf()');

# A webhook that the platform disables stops here.
$platform{b}->safe_psql('postgres', 'SELECT webhook_events.disable_webhook(id) FROM webhook_events.webhooks');
wait_for_sql($tier, "SELECT is_enabled FROM webhook_events.webhooks WHERE user_id = 'b'", 'f');

$tier->stop;
$_->stop foreach values %platform;
done_testing();
