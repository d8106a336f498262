# 022_resources.pl
#	  What the worker takes of the system, and how it shows.

use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use WebhookEvents::Node;
use WebhookEvents::Receiver;

my $receiver = WebhookEvents::Receiver->new;

# More requests are wanted than there are descriptors for.
my $node = new_node('resources', conf => <<'CONF');
max_files_per_process = 110
shared_preload_libraries = 'webhook_events, pg_stat_statements'
webhook_events.max_in_flight = 10000
webhook_events.max_in_flight_per_host = 10000
CONF

create_platform($node);
$node->safe_psql('postgres', 'CREATE EXTENSION pg_stat_statements');

sub query
{
	my ($sql) = @_;

	return $node->safe_psql('postgres', $sql);
}

my $webhook = create_webhook($node, $receiver->url('/hold/descriptors'), 'ACTOR.RUN.CREATED');
insert_runs($node, 300, 'a');
wait_for_sql($node, 'SELECT dispatches_active FROM webhook_events.status()', 300);
my ($name, $wait_event) = split /\|/, query('SELECT application_name, wait_event FROM pg_stat_activity'
	  . ' WHERE pid = (SELECT worker_pid FROM webhook_events.status())');
is($name, 'webhook_events worker', 'the worker has a name');
is($wait_event, $node->pg_version >= 17 ? 'WebhookEventsAnswer' : 'Extension', 'and says that it waits for answers');
my $in_flight = query('SELECT in_flight FROM webhook_events.status()');
cmp_ok($in_flight, '>', 1, 'requests are under way');
cmp_ok($in_flight, '<', 35, 'no more than there are descriptors for');
my $log = slurp_file($node->logfile);
is(() = $log =~ /max_in_flight is 10000, but the worker of database "postgres" has descriptors for only \d+ requests/g, 1, 'which is logged once');
$receiver->release('descriptors');
wait_for_end($node);
is(query("SELECT count(*), max(attempts) FROM webhook_events.dispatches WHERE status = 'SUCCEEDED'"), '300|1',
	'nothing fails for lack of descriptors');
wait_for_sql($node, 'SELECT in_flight FROM webhook_events.status()', 0);
wait_for_sql($node, 'SELECT wait_event FROM pg_stat_activity WHERE pid = (SELECT worker_pid FROM webhook_events.status())',
	$node->pg_version >= 17 ? 'WebhookEventsWorkerMain' : 'Extension');
pass('then it waits for work');

# A batch of any size is the same statement: there are no two that differ only in how long
# their lists of parameters are.
my $statements = q{(SELECT DISTINCT query, regexp_replace(regexp_replace(regexp_replace(query, '\$\d+', '?', 'g'),
		'\?(\s*,\s*\?)+', '?', 'g'), '\(\?\)(\s*,\s*\(\?\))+', '(?)', 'g') AS kind
	FROM pg_stat_statements WHERE toplevel AND query LIKE '%webhook\_events\_internal.%') AS s};
cmp_ok(query("SELECT count(*) FROM $statements"), '>', 3, 'the statements of the worker are seen');
foreach my $count (1, 2, 3, 17, 200)
{
	insert_runs($node, $count, 'a');
	wait_for_end($node);
}
is(query("SELECT kind FROM $statements GROUP BY kind HAVING count(*) > 1"), '', 'and none comes in several sizes');

$node->append_conf('postgresql.conf', 'webhook_events.max_in_flight = 9000');
$node->reload;
insert_runs($node, 1, 'a');
wait_for_end($node);
$log = slurp_file($node->logfile);
is(() = $log =~ /max_in_flight is 9000, but/g, 1, 'a new setting is judged anew');

# A generated column that is not stored: its value is nowhere in the row.
SKIP:
{
	skip 'version 18 has them', 2 if $node->pg_version < 18;
	query(q{CREATE TABLE virtual_runs (id text, actor_id text, phase text, status text GENERATED ALWAYS AS (CASE phase WHEN 'over' THEN 'SUCCEEDED' ELSE 'RUNNING' END) VIRTUAL);
		CREATE TABLE partly_virtual_runs (id text, actor_id text, status text, twice text GENERATED ALWAYS AS (id || id) VIRTUAL)});
	sql_fails($node, q{SELECT webhook_events.attach('virtual_runs')}, qr/0A000: column "status" of table "virtual_runs" is generated and not stored/, 'can not be the status');
	query(q{SELECT webhook_events.attach('partly_virtual_runs'); INSERT INTO partly_virtual_runs VALUES ('virtual', 'v', 'READY')});
	is(query(q{SELECT resource FROM webhook_events.events WHERE actor_run_id = 'virtual'}), '{"id":"virtual","actId":"v","status":"READY"}', 'and is not in the resource');
}

# What the worker knows of webhooks is bounded by its bytes.
SKIP:
{
	my $templates = 300;
	my $pid = query('SELECT worker_pid FROM webhook_events.status()');

	skip 'no memory is told of here', 4 unless -r "/proc/$pid/status";
	my $peak = sub {
		my ($kilobytes) = slurp_file("/proc/$pid/status") =~ /^VmHWM:\s+(\d+) kB/m;
		return $kilobytes / 1024;
	};

	# Also those that something waits for again and again, all in memory at once.
	my $waiting = 2000;
	$node->append_conf('postgresql.conf',
		"webhook_events.webhook_memory = 2MB\nwebhook_events.retry_delay = '1s'\nwebhook_events.max_retries = 100\n");
	$node->reload;
	# Long to name, and short to send.
	my $names = q[SELECT string_agg('{{resource.' || repeat('x', 140) || i || '}}', ', ') FROM generate_series(1, 100) AS i];
	query(qq[SELECT count(webhook_events.create_webhook('] . $receiver->url('/status/500')
		  . qq[', '{ACTOR.RUN.CREATED}', actor_id => 'waiting', payload_template => '{"n": [' || ($names) || ']}'))]
		  . " FROM generate_series(1, $waiting)");
	my $before = $peak->();
	insert_runs($node, 1, 'waiting');
	my $waits = qq[FROM webhook_events.dispatches AS d JOIN webhook_events.webhooks AS w ON w.id = d.webhook_id WHERE w.actor_id = 'waiting'];
	wait_for_sql($node, "SELECT count(*) FILTER (WHERE attempts >= 2) $waits", $waiting);
	cmp_ok($peak->() - $before, '<', 48, "the templates of $waiting webhooks that something waits for, 70 MB when they are compiled, are not kept");
	query("SELECT webhook_events.disable_webhook(id) FROM webhook_events.webhooks WHERE actor_id = 'waiting'");
	wait_for_end($node);

	$node->append_conf('postgresql.conf', "webhook_events.webhook_memory = 8MB\nwebhook_events.payload_limit = 1kB\n");
	$node->reload;
	my $url = $receiver->url('/ok');
	query("SELECT count(webhook_events.create_webhook('$url', '{ACTOR.RUN.CREATED}', actor_id => 'large',"
		  . qq[ payload_template => '{"large": "' || repeat('x', 999000) || '"}')) FROM generate_series(1, $templates)]);
	$before = $peak->();
	insert_runs($node, 1, 'large');
	wait_for_end($node);
	is(query(q{SELECT count(*) FROM webhook_events.dispatches WHERE error_message LIKE 'payload is longer than%'}), $templates,
		'the template of each webhook is used');
	cmp_ok($peak->() - $before, '<', $templates / 2, "without memory for $templates MB of them");
	is(query("SELECT worker_pid FROM webhook_events.status()"), $pid, 'by the same worker');
}

# An old transaction keeps what was deleted: a new run to check is not looked for among it.
# Now and then all is looked at, but not three times in a row.
query("INSERT INTO actor_runs (id, status) SELECT 'check' || n, 'RUNNING' FROM generate_series(1, 3) AS n");
my $old = $node->background_psql('postgres');
$old->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM actor_runs');
query(q{INSERT INTO webhook_events_internal.runs_to_check (id, run_id)
	SELECT webhook_events.id_lower_bound(now() - interval '1 hour') || lpad(n::text, 8, '0'), 'gone' || n FROM generate_series(1, 50000) AS n});
query('DELETE FROM webhook_events_internal.runs_to_check');
my $definition = sprintf '{"requestUrl": "%s", "eventTypes": ["ACTOR.RUN.SUCCEEDED"]}', $receiver->url('/ok');
my @buffers;
foreach my $n (1 .. 3)
{
	query('SELECT pg_stat_statements_reset()');
	query("SELECT count(*) FROM webhook_events.create_ad_hoc_webhooks('check$n', '[$definition]')");
	wait_for_sql($node, 'SELECT count(*) FROM webhook_events_internal.runs_to_check', 0);
	push @buffers, query(q{SELECT sum(shared_blks_hit + shared_blks_read) / sum(calls) FROM pg_stat_statements
		WHERE query LIKE '%FROM webhook\_events\_internal.runs\_to\_check WHERE id > %'});
}
cmp_ok((sort { $a <=> $b } @buffers)[0], '<', 100, 'new runs to check are found without reading what was deleted') or diag("buffers: @buffers");
$old->quit;

$node->stop;
$receiver->stop;
done_testing();
