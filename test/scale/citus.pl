# citus.pl
#	  On Citus, by the steps of src/doc/scale-out.md: every node records and sends the
#	  events of its own shards, while tables are distributed, shards move and split, nodes
#	  are added and killed; then what arrived is counted.
#
# Citus is no package of Debian, so this is run by hand, where the server has it:
#
#	  make test-tap PG_CONFIG=.../pg_config PROVE_TESTS=test/scale/citus.pl PROVE_FLAGS=-v

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
my %node;

sub start_node
{
	my ($name) = @_;
	my $node = new_node($name, start => 0, conf => <<'CONF');
shared_preload_libraries = 'citus,webhook_events'
listen_addresses = '127.0.0.1'
wal_level = logical
max_wal_senders = 30
max_replication_slots = 30
max_worker_processes = 40
max_logical_replication_workers = 20
max_sync_workers_per_subscription = 4
max_prepared_transactions = 100
max_connections = 200
wal_retrieve_retry_interval = '100ms'
citus.node_conninfo = 'sslmode=disable'
citus.shard_count = 8
citus.enable_statistics_collection = off
citus.recover_2pc_interval = '2s'
webhook_events.retry_delay = '100ms'
CONF
	$node->start;
	$node{$name} = $node;
	return $node;
}

my $co = start_node('coordinator');

if ($co->safe_psql('postgres', "SELECT count(*) FROM pg_available_extensions WHERE name = 'citus'") == 0)
{
	$co->stop;
	plan skip_all => 'there is no Citus';
}

sub query
{
	my ($node, $sql) = @_;

	return $node->safe_psql('postgres', "SET client_min_messages = warning; $sql");
}

sub co { return query($co, $_[0]); }

# The statement of the page for definitions.
sub subscribe_node
{
	my ($name) = @_;

	subscribe($node{$name}, "definitions_$name", $co, 'definitions');
	return;
}

sub subscribed
{
	my ($name) = @_;

	wait_for_sql($node{$name}, "SELECT count(*) > 0 AND bool_and(srsubstate = 'r') FROM pg_subscription_rel", 't');
	return;
}

# How many events all nodes have recorded.
sub events_of
{
	my ($pattern) = @_;
	my $sum = 0;

	$sum += query($_, "SELECT count(*) FROM webhook_events.events WHERE actor_run_id LIKE '$pattern'") foreach values %node;
	return $sum;
}

my %expected;

sub expect
{
	my ($type, @runs) = @_;

	$expected{"ACTOR.RUN.$type $_"} = 1 foreach @runs;
	return;
}

sub all_arrive
{
	my ($what) = @_;

	eval {
		wait_until { has_arrived($receiver, \%expected, '/ok') } $what, 120;
		1;
	} or do {
		my $seen = arrived($receiver, '/ok');
		my @lost = sort grep { !$seen->{$_} } keys %expected;

		diag(scalar(@lost) . ' missing, such as ' . join ', ', @lost[ 0 .. ($#lost > 4 ? 4 : $#lost) ]);
		foreach my $name (sort keys %node)
		{
			diag("$name: " . query($node{$name}, 'SELECT running, reason, events_waiting, dispatches_active, delivered, failed, last_error FROM webhook_events.status()'));
		}
	};
	my $seen = arrived($receiver, '/ok');

	is((grep { !$seen->{$_} } keys %expected), 0, "$what: 0 lost");
	note(sprintf '%s: %d events, %d repeated', $what, scalar(keys %expected), scalar(grep { $seen->{$_} > 1 } keys %expected));
	return;
}

start_node('one');
start_node('two');
foreach my $name ('coordinator', 'one', 'two')
{
	query($node{$name}, 'CREATE EXTENSION citus');
}
co("SELECT citus_set_coordinator_host('127.0.0.1', " . $co->port . ')');
co("SELECT citus_add_node('127.0.0.1', " . $node{$_}->port . ')') foreach 'one', 'two';

# Attached first, with rows, and then distributed; and the other way round.
co('CREATE EXTENSION webhook_events');
co('CREATE TABLE actor_runs (id text PRIMARY KEY, actor_id text, user_id text, status text, stats jsonb)');
co("INSERT INTO actor_runs SELECT 'old-' || i, 'x', 'u', 'SUCCEEDED' FROM generate_series(1, 100) AS i");
co("SELECT webhook_events.attach('actor_runs')");
sql_fails($co, "SELECT create_distributed_table('actor_runs', 'id')", qr/trigger/, 'Citus refuses triggers by default');
co("SET citus.enable_unsafe_triggers = on; SELECT create_distributed_table('actor_runs', 'id')");
is(events_of('old-%'), 0, 'distributing an attached table raises nothing');

co('CREATE TABLE actor_builds (id text PRIMARY KEY, actor_id text, user_id text, status text)');
co("SELECT create_distributed_table('actor_builds', 'id')");
sql_fails($co, "SELECT webhook_events.attach('actor_builds')", qr/HINT:.*citus\.enable_unsafe_triggers/s, 'attach() names the setting');
co("SET citus.enable_unsafe_triggers = on; SELECT webhook_events.attach('actor_builds')");

# Definitions, as the page has it.
publish_webhooks($co, 'definitions');
foreach my $name ('one', 'two')
{
	subscribe_node($name);
	subscribed($name);
}
my $webhook = create_webhook($co, $receiver->url('/ok'), 'ACTOR.RUN.CREATED, ACTOR.RUN.SUCCEEDED, ACTOR.RUN.FAILED, ACTOR.BUILD.CREATED');
wait_for_sql($node{$_}, 'SELECT count(*) FROM webhook_events.webhooks', 1) foreach 'one', 'two';

# Each node serves itself, without a word to it.
foreach my $name ('one', 'two')
{
	wait_for_sql($node{$name}, 'SELECT running AND reason IS NULL FROM webhook_events.status()', 't');
}
pass('nodes with shards serve themselves');
co("INSERT INTO actor_builds VALUES ('build', 'x', 'u', 'READY')");
wait_until { grep { $_->{body} =~ /ACTOR.BUILD.CREATED/ } $receiver->requests } 'a build is told';

my $batch = 0;

sub write_some
{
	my $prefix = 'r' . ++$batch;
	my @runs = map { "$prefix-$_" } 1 .. 20;

	co("INSERT INTO actor_runs SELECT '$prefix-' || i, 'x', 'u', 'READY' FROM generate_series(1, 20) AS i");
	co("BEGIN; UPDATE actor_runs SET status = 'FAILED' WHERE id LIKE '$prefix-%'; ROLLBACK");
	co(qq{UPDATE actor_runs SET stats = '{"beat": 1}' WHERE id LIKE '$prefix-%'});
	co("UPDATE actor_runs SET status = 'SUCCEEDED' WHERE id LIKE '$prefix-%'");
	expect('CREATED', @runs);
	expect('SUCCEEDED', @runs);
	return;
}

write_some() foreach 1 .. 3;
all_arrive('writes over many shards');
is((grep { arrived($receiver, '/ok')->{$_} > 1 } keys %expected), 0, 'each once');
my %seen = %{ arrived($receiver, '/ok') };
is((grep { /FAILED/ || / old-/ } keys %seen), 0, 'nothing that was rolled back, or is old');

# A single row, by the router.
co("INSERT INTO actor_runs VALUES ('single', 'x', 'u', 'READY')");
co("UPDATE actor_runs SET stats = '{}' WHERE id = 'single'; UPDATE actor_runs SET status = 'SUCCEEDED' WHERE id = 'single'");
expect('CREATED', 'single');
expect('SUCCEEDED', 'single');
all_arrive('single rows');

# Columns renamed on the cluster.
co('ALTER TABLE actor_runs RENAME status TO state');
co("INSERT INTO actor_runs VALUES ('renamed', 'x', 'u', 'READY')");
co("UPDATE actor_runs SET state = 'SUCCEEDED' WHERE id = 'renamed'");
expect('CREATED', 'renamed');
expect('SUCCEEDED', 'renamed');
all_arrive('a column renamed on the cluster');
co('ALTER TABLE actor_runs RENAME state TO status');
is(events_of('renamed'), 2, 'in both events');

sub bodies_of
{
	my ($run) = @_;

	return join ' ', map { $_->{body} } grep { $_->{body} =~ /"actorRunId":"$run"/ } $receiver->requests;
}
like(bodies_of('renamed'), qr/"state":"SUCCEEDED"/, 'the resource has its new name');

# Shards move and split under load.
sub load
{
	my ($seconds) = @_;
	my $file = $co->basedir . '/load.sql';

	append_to_file($file, <<'SQL') if !-e $file;
\set n random(1, 1000000000)
INSERT INTO actor_runs VALUES ('load-' || :client_id || '-' || :n, 'x', 'u', 'READY');
UPDATE actor_runs SET status = 'SUCCEEDED' WHERE id = 'load-' || :client_id || '-' || :n;
SQL
	return IPC::Run::start([ 'pgbench', '-n', '-c', '2', '-T', $seconds, '-R', '40', '-f', $file, $co->connstr('postgres') ],
		'>', '/dev/null', '2>', $co->basedir . '/load.log');
}

sub expect_table
{
	%expected = ();
	foreach my $row (split /\n/, co('SELECT id, status FROM actor_runs WHERE id NOT LIKE ' . "'old-%'"))
	{
		my ($id, $status) = split /\|/, $row;

		expect('CREATED', $id);
		expect('SUCCEEDED', $id) if $status eq 'SUCCEEDED';
	}
	return;
}

my $load = load(15);
my ($shard) = split /\n/, co("SELECT min(shardid) FROM citus_shards WHERE table_name = 'actor_runs'::regclass AND nodeport = " . $node{one}->port);
co("SELECT citus_move_shard_placement($shard, '127.0.0.1', " . $node{one}->port . ", '127.0.0.1', " . $node{two}->port . ", 'force_logical')");
my ($blocked) = split /\n/, co("SELECT min(shardid) FROM citus_shards WHERE table_name = 'actor_runs'::regclass AND nodeport = " . $node{two}->port);
co("SELECT citus_move_shard_placement($blocked, '127.0.0.1', " . $node{two}->port . ", '127.0.0.1', " . $node{one}->port . ", 'block_writes')");
my ($split, $middle) = split /\|/, co("SELECT shardid, (shardminvalue::bigint + shardmaxvalue::bigint) / 2 FROM pg_dist_shard WHERE shardid = $blocked");
my $ids = co("SELECT string_agg(nodeid::text, ', ' ORDER BY nodeid DESC) FROM pg_dist_node WHERE groupid <> 0");
co("SELECT citus_split_shard_by_split_points($split, ARRAY['$middle'], ARRAY[$ids], 'block_writes')");
$load->finish;
expect_table();
all_arrive('shards that moved and split under load');
is((grep { $_ > 1 } values %{ arrived($receiver, '/ok') }), 0, 'each once');

# A node that comes later.
start_node('three');
query($node{three}, 'CREATE EXTENSION citus');
co("SELECT citus_add_node('127.0.0.1', " . $node{three}->port . ')');
is(query($node{three}, "SELECT count(*) FROM pg_extension WHERE extname = 'webhook_events'"), 1, 'a new node gets the extension');
subscribe_node('three');
subscribed('three');
my ($later) = split /\n/, co("SELECT max(shardid) FROM citus_shards WHERE table_name = 'actor_runs'::regclass AND nodeport = " . $node{two}->port);
co("SELECT citus_move_shard_placement($later, '127.0.0.1', " . $node{two}->port . ", '127.0.0.1', " . $node{three}->port . ", 'block_writes')");
wait_for_sql($node{three}, 'SELECT running AND reason IS NULL FROM webhook_events.status()', 't');
write_some() foreach 1 .. 3;
all_arrive('a node that was added');
cmp_ok(query($node{three}, 'SELECT count(*) FROM webhook_events.events'), '>', 0, 'which raises events itself');

# A node is killed under load.
$load = load(12);
foreach my $name ('two', 'coordinator')
{
	wait_until { events_of('load-%') > 0 } 'there is load';
	$node{$name}->stop('immediate');
	$node{$name}->start;
	# What loses its connection ends.
	$load->finish;
	$load = load(6);
}
$load->finish;
co('SELECT recover_prepared_transactions()');
wait_for_sql($node{$_}, 'SELECT count(*) FROM pg_prepared_xacts', 0) foreach sort keys %node;
expect_table();
all_arrive('killed nodes');

# What SQL says of it, everywhere.
foreach my $name (sort keys %node)
{
	wait_for_end($node{$name});
	is(query($node{$name}, "SELECT count(*) FROM webhook_events.audit(now() - interval '1 hour')"), 0, "$name: nothing is amiss");
	is(query($node{$name}, 'SELECT broken_tables IS NULL AND subscriptions_down IS NULL AND troubles IS NULL FROM webhook_events.status()'),
		't', "$name: status() is green");
}
is(co(page_block('scale-out', qr/SELECT row\(running/) =~ s/nodeid, //gr), join("\n", ('t|(t,,0,0)') x 4, ('t|0') x 4), 'one statement tells of all nodes');

# A webhook of one run.  It sees CREATED if the nodes have it before: its commit waits.
my ($waits, $waited) = split /^(?=BEGIN;)/m, page_block('scale-out', qr/synchronous_commit = remote_apply/)
  =~ s/FIRST 2 \(definitions_1, definitions_2\)/FIRST 3 (definitions_one, definitions_two, definitions_three)/r;
$co->safe_psql('postgres', $waits);
wait_for_sql($co, "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'", 3);
foreach my $i (1 .. 20)
{
	my $webhook = "create_webhook('" . $receiver->url('/ok?adhoc') . "', '{ACTOR.RUN.CREATED, ACTOR.RUN.SUCCEEDED}', actor_run_id => 'adhoc-$i', is_ad_hoc => true)";

	$co->safe_psql('postgres', ($waited =~ s/create_webhook\(\.\.\.\)/$webhook/r) . "INSERT INTO actor_runs VALUES ('adhoc-$i', 'x', 'u', 'READY')");
}

sub told
{
	my ($type) = @_;

	return scalar grep { $_->{target} eq '/ok?adhoc' && $_->{body} =~ /"ACTOR\.RUN\.$type"/ } $receiver->requests;
}
wait_until { told('CREATED') == 20 } 'CREATED of their runs';
pass('ad-hoc webhooks see CREATED');
co("UPDATE actor_runs SET status = 'SUCCEEDED' WHERE id LIKE 'adhoc-%'");
wait_until { told('SUCCEEDED') == 20 } 'the end of their runs';
my $retire = page_block('scale-out', qr/json_array_elements_text\(n\.result::json\)/);
wait_until { co($retire); co('SELECT count(*) FROM webhook_events.webhooks WHERE is_ad_hoc AND is_enabled') == 0 } 'the coordinator knows';
foreach my $name (sort keys %node)
{
	wait_for_sql($node{$name}, 'SELECT count(*) FROM webhook_events.webhooks WHERE is_ad_hoc AND is_enabled', 0);
}
pass('ad-hoc webhooks retire everywhere');

$_->stop foreach values %node;
done_testing();
