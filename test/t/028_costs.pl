# 028_costs.pl
#	  What a statement touches depends on its result: not on what lies in the
#	  tables, what waits, how many webhooks there are, or when it was planned.
#
# Every statement in src/ is run in two databases of which one holds twenty times
# as much, with the same result in both: with a plan that was made when ANALYZE had seen
# that the tables were empty, and with generic and custom plans, before and after ANALYZE;
# and what people call also with plans that their session has made when there was little.

use strict;
use warnings;
use JSON::PP;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use WebhookEvents::Node;

my $growth = 20;
my $root = __FILE__ =~ s{[^/]*$}{}r . '../..';

# The statements as the sources have them, with string macros filled in.
my (%statement, %settings, %macro);
my $string = qr/"((?:[^"\\]|\\.)*)"/;
my $text;
$text = sub {
	my ($tokens) = @_;
	my $sql = '';

	$sql .= defined $1 ? $1 =~ s/\\(.)/$1/gr : $text->($macro{$2}) while $tokens =~ /$string|(\w+)/g;
	return $sql;
};
my %source = map { ($_ => slurp_file($_)) } glob "$root/src/*/*.[ch]";
foreach my $source (values %source)
{
	while ($source =~ /^#define (\w+)[ \t]((?:[^\n]*\\\n)*[^\n]*)$/mg)
	{
		my ($name, $tokens) = ($1, $2);

		$macro{$name} = $tokens =~ s/\\\n/ /gr;
	}
}
foreach my $file (sort keys %source)
{
	my $source = $source{$file};
	my ($room) = $file =~ m{(\w+)\.\w$};
	my $declared = () = $source =~ /^static Statement \w+ =/mg;
	my $found = 0;

	while ($source =~ /^static Statement (\w+)_statement = \{\s*((?:$string|\w+|\s)+?),\s*\w+,\s*\{([^}]*)\},\s*NULL\s*\};/msg)
	{
		my ($name, $sql, $types) = ($1, $2, $4);
		my @types = map { /^(\w+)ARRAYOID$/ ? lc "$1\[]" : /^(\w+)OID$/ ? lc $1 : () } split /,\s*/, $types;

		$statement{"$room.$name"} = { sql => $text->($sql), types => \@types };
		$found++;
	}
	is($found, $declared, "$room: all statements are read") if $declared;
	%settings = $source =~ /\{"(\w+)", "([^"]*)"\}/g if $file =~ /statement\.c$/;
}
ok(keys %settings > 10, 'the settings that they are made for are read');

# What a run takes that finds the same in both databases; see fill() for the ids.
# The maintenance process's, which keep nobody waiting, are not looked at here.
my $time = q{now() + interval '1 hour'};
my $old = q{'epoch'::timestamptz};
my $ids = q{ARRAY['day2-00000000000001', 'day2-00000000000007']};
my $hooks = q{ARRAY['hook0000000000001', 'hook0000000000002']};
my $versions = q{ARRAY[now(), now()]};
my %arguments = (
	'counters.read' => [],
	'counters.insert' => [1000000, q{'{1,2}'}],
	'counters.delete' => [1, 3],
	'cursor.newest' => [],
	'cursor.snapshot' => [],
	'cursor.late' => [q{'100:200:150,160'}, q{'170:220:'}],
	'cursor.late_events' => [q{'{9000060,9000061}'}, q{'0'}, q{''}, q{''}, 500],
	'cursor.events' => [q{'1000050'}, q{''}, q{''}, q{'1000060:1000060:'}, 500, q{'1000060'}],
	'cursor.next_xid' => [q{'1000050'}, q{''}, q{'1000060:1000060:'}],
	'outbox_rows.find' => [q{ARRAY[:day || 'event005', :day || 'event007']}, q{:day || 'event005'}, q{:day || 'event007'}],
	'outbox_rows.resource' => [q{:day || 'event005'}],
	'cursor.write' => [1000000, q{'1:1:'}, q{'1:1:'}, 'NULL', 'NULL'],
	'cursor.prune' => [1, 3],
	'dispatch_order.first' => [q{'{few,none}'}, q{'{key1,key1}'}, q{'{"",""}'}, q{'{"",""}'}, 5],
	'dispatch_order.any' => [],
	'dispatch_order.next' => [q{'few'}, q{'key3'}, 5],
	'dispatch_order.overdue' => [q{now() - interval '1 hour'}, 5],
	'dispatch_order.next_overdue' => [q{now() - interval '1 minute'}],
	'dispatch_order.let_pass' => [q{ARRAY[:day || 'later05']}, q{:day || 'later05'}, q{:day || 'later05'}],
	'dispatch_rows.waits_below' => [q{:today}],
	'dispatch_writer.update' =>
	  [q{ARRAY[:day || 'later05']}, q{'{FAILED}'}, 'ARRAY[now()]', q{'{3}'}, q{'{NULL}'}, q{'{x}'}, q{'{NULL}'}, q{'{0}'}],
	'dispatch_writer.open' => [q{ARRAY[:day || 'later05', :day || 'absent05']}, q{'{FAILED,FAILED}'}, 'ARRAY[now(), now()]', q{'{3,3}'},
		q{'{NULL,NULL}'}, q{'{x,x}'}, q{'{NULL,NULL}'}, q{'{0,0}'}],
	'dispatch_rows.last_attempt' => [q{:day || 'later05'}],
	'dispatch_rows.last_id' => [],
	'dispatch_rows.existing' => [q{ARRAY[:day || 'later05', :day || 'later15', :day || 'absent05']}],
	'dispatch_rows.due' => [q{now() - interval '2 days'}, q{''}, 'now()', 100],
	'dispatch_rows.due_of' => [$old, q{''}, 'now()', 100, q{'few'}],
	'dispatch_rows.next_due' => ['now()', q{''}],
	'dispatch_rows.replays_of' => [q{'many'}, q{''}, 10],
	'dispatch_rows.webhooks' => [q{''}, 50],
	'dispatch_rows.waiting_of' => [q{'few'}, 'false', 100, 1],
	'webhook_counting.new' => [q{'hook0000000000003'}, 5],
	'webhook_counting.logged' => [q{'~'}, 5],
	'webhook_counting.write' => [1000000, q{'~'}, q{'~'}],
	'webhook_counting.count' => [q{'hook0000000000003'}, q{'hook0000000000006'}, 10],
	'statistics.log' => [q{'{a,b}'}, q{'{1,1}'}, q{'{a,b}'}, q{'{ACTIVE,ACTIVE}'}, q{'{NULL,NULL}'}],
	'statistics.exist' => [q{'{actor,none}'}],
	'statistics.newest' => [],
	'statistics.logged' => [q{'log00005'}, q{'~'}, 10],
	'statistics.take' => [q{'{log00005,log00006}'}],
	'statistics.lock' => [$hooks],
	'statistics.add' => [$hooks, q{'{1,1}'}, q{'{a,b}'}, q{'{ACTIVE,ACTIVE}'}, q{'{NULL,NULL}'}],
	'health.write' => [$hooks, 'ARRAY[now(), now()]'],
	'health.forgive' => [q{now() - interval '9 days'}, 10],
	'health.disable' => [q{now() - interval '9 days'}, 10, 5],
	'jobs.disable' => [$hooks, $versions, 5],
	'jobs.left' => [$hooks, $versions],
	'retiring.add' => [q{'{run3,run4}'}, q{'{user3,user4}'}, q{ARRAY[now(), now()]}],
	'retiring.keep' => [q{'{run3,run4}'}, q{'{user3,user4}'}, q{ARRAY[now(), now()]}, 'false'],
	'retiring.kept' => [q{''}, 10],
	'retiring.forget' => [q{'{ended00001,ended00002}'}],
	'retiring.forget_runs' => [$hooks],
	'retiring.locked' => [q{'{ended00001,ended00002}'}],
	'retiring.retire' => [q{'{run3,run4}'}, q{'{user3,user4}'}, q{ARRAY[now(), now()]}, q{'{hook0000000000005}'}],
	'look_back.arrived' => [q{'{run3,run4,absent}'}, 1],
	'look_back.events' => [q{:day || 'event005'}, q{:day || 'event008'}, q{'{run,absent}'}],
	'run_checks.checks' => [q{''}, 10],
	'run_checks.runs' => [q{'{run3,run4,absent}'}],
	'run_checks.keep_late' => [q{'{run3,run4}'}, q{'{user3,user4}'}],
	'run_checks.retire_late' => [q{'{run3,run4}'}, q{'{user3,user4}'}, q{'{run7}'}],
	'run_checks.revive_late' => [q{'{}'}, q{'{}'}, q{'{run3,run4}'}, q{'{user3,user4}'}],
	'run_checks.checked' => [q{'{gone,run3}'}, q{'{NULL,user3}'}, q{'{run4}'}, q{'{user4}'}, q{'{check00001,check00002,check00003}'}],
	'recording.prove' => [q{'1'}],
	'recording.forget_starts' => [],
	'reviving.revive' => [q{'{run3,run4}'}, q{'{user3,user4}'}, q{ARRAY[now(), now()]}],
	'reviving.forget_ends' => [q{'{run3,run4}'}, q{'{user3,user4}'}, q{ARRAY[now(), now()]}],
	'reviving.not_revived' => [q{'{run3,run4}'}, q{'{user3,user4}'}, q{ARRAY[now(), now()]}],
	'subscribers.versions' => [$hooks],
	'subscribers.rows' => [$hooks],
	'matching.candidates' => [q{'{run3}'}, q{'{task3}'}, q{'{actor3}'}, q{'{user3}'}, q{'{hook0000000000009}'}],
	'matching.slice' => [q{'run3'}, q{'task3'}, q{'actor3'}, q{'user3'}, q{''}, 5],
	'times.find' => [],
	'times.waits' => [],
	'times.write' => ['now()'],
	'worker.claim' => [],
	'worker.hold' => [],
);

foreach my $name (sort keys %statement)
{
	next if $name =~ /^maintenance_process\./;
	is($arguments{$name} && @{ $arguments{$name} }, scalar @{ $statement{$name}{types} }, "it is said how $name is to be run");
}
is(join(' ', grep { !$statement{$_} } sort keys %arguments), '', 'and of nothing that there is not');

# The same for what people call.  Left out is what is to read all there is, or all of a
# span of time, or all webhooks: audit(), report(), backtest(), replay(), explain_event(),
# explain_run(), resume().
my $hook = q{'hook0000000000001'};
my $ad_hoc = q{'hook0000000000003'};
my %call = (
	'webhook_json' => "webhook_events.webhook_json($hook)",
	'webhooks_json of all' => q{webhook_events.webhooks_json("limit" => 5)},
	'webhooks_json of all, behind the first' => q{webhook_events.webhooks_json("limit" => 5, "offset" => 20, "desc" => true)},
	'webhooks_json of a user' => q{webhook_events.webhooks_json('user3')},
	'webhooks_json of an Actor' => q{webhook_events.webhooks_json(actor_id => 'actor5')},
	'webhooks_json of a task' => q{webhook_events.webhooks_json(actor_task_id => 'task6')},
	'dispatch_json' => q{webhook_events.dispatch_json(:day || 'later05')},
	'dispatches_json' => q{webhook_events.dispatches_json('hook0000000000002', 5)},
	'dispatches_json, newest first' => q{webhook_events.dispatches_json('hook0000000000002', 5, 3, true)},
	'preview' => "webhook_events.preview($hook, :day || 'event005')",
	'redeliver' => q{webhook_events.redeliver(:day || 'wanted03')},
	'create_webhook' => q{webhook_events.create_webhook('http://127.0.0.1/', '{ACTOR.RUN.CREATED}', user_id => 'user3')},
	'create_ad_hoc_webhooks' => q{count(*) FROM webhook_events.create_ad_hoc_webhooks('run3', '[{"requestUrl": "http://127.0.0.1/", "eventTypes": ["ACTOR.RUN.CREATED"]}]', 'user3')},
	'update_webhook' => qq{webhook_events.update_webhook($hook, '{"description": "x"}')},
	'disable_webhook' => "webhook_events.disable_webhook($hook)",
	'enable_webhook' => "webhook_events.enable_webhook($hook)",
	'delete_webhook' => "webhook_events.delete_webhook($hook)",
	'delete_webhook, ad-hoc' => "webhook_events.delete_webhook($ad_hoc)",
	'set_max_rate' => "webhook_events.set_max_rate($hook, 3)",
	'set_secret' => "webhook_events.set_secret($hook, 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw')",
	'rotate_secret' => "webhook_events.rotate_secret($hook)",
	'webhook_secret' => "webhook_events.webhook_secret($hook)",
	'test_webhook' => "webhook_events.test_webhook($hook)",
	'webhook_health' => "count(*) FROM webhook_events.webhook_health WHERE webhook_id = $hook",
	'deliveries' => q{count(*) FROM webhook_events.deliveries WHERE id = :day || 'later05'},
	'in_flight' => 'count(*) FROM webhook_events.in_flight',
	'hosts' => 'count(*) FROM webhook_events.hosts',
	'stat_delivery' => 'count(*) FROM webhook_events.stat_delivery',
	'pause' => 'webhook_events.pause()',
);

# What counts all that waits is asked when as much waits in both.
my %watch = (
	'status' => 'webhook_events.status()',
	'metrics' => 'webhook_events.metrics()',
	'progress' => 'count(*) FROM webhook_events.progress',
);

my $node = new_node('costs', conf => <<'CONF');
webhook_events.databases = ''
autovacuum = off
CONF

# Rows for three days: so many events, dispatches that ended, that wait, and that
# replay on each; and so many webhooks of each kind, with what belongs to them.
# Beside them there is, whatever the size, what the statements look for.
my $fill = <<'SQL';
INSERT INTO webhook_events_internal.outbox (id, created_at, xid, event_type, actor_run_id, resource)
	SELECT lower || to_char(n, 'FM00000000'), now(), (1000000 + n + 1000000 * (3 - number))::text::xid8, 'ACTOR.RUN.CREATED'::webhook_events.event_type, 'run', '{}'::json
	FROM day, generate_series(1, :size) AS n
	UNION ALL SELECT :day || to_char(n, '"event"FM000'), now(), (1000000 + n)::text::xid8, 'ACTOR.RUN.CREATED'::webhook_events.event_type, 'run', '{}'::json
	FROM generate_series(50, 60) AS n
	UNION ALL SELECT :day || to_char(n, '"event"FM000'), now(), (1000000 + n)::text::xid8, 'ACTOR.RUN.CREATED'::webhook_events.event_type, 'run', '{}'::json
	FROM generate_series(5, 7) AS n
	UNION ALL SELECT :day || 'wanted0' || n, now(), (1000070 + n)::text::xid8, 'ACTOR.RUN.CREATED'::webhook_events.event_type, 'wanted', '{}'::json
	FROM generate_series(1, 3) AS n
	UNION ALL SELECT lower || to_char(n, '"late"FM000'), now(), (9000000 + n)::text::xid8, 'ACTOR.RUN.CREATED'::webhook_events.event_type, 'run', '{}'::json
	FROM day, generate_series(60, 61) AS n WHERE number = 0;
INSERT INTO webhook_events_internal.dispatches (id, event_id, webhook_id, event_type, status, created_at, finished_at, attempts, next_attempt_at, order_key, holds_until)
	SELECT lower || kind || n, lower || n, webhook, 'ACTOR.RUN.CREATED'::webhook_events.event_type, status::webhook_events.dispatch_status, now(),
		CASE status WHEN 'ACTIVE' THEN NULL ELSE now() END, 0, at, CASE kind WHEN 'future' THEN 'key' || n END, CASE kind WHEN 'future' THEN now() + interval '1 hour' END
	FROM day, generate_series(1, :size) AS n, (VALUES
		('done', 'hook0' || 'x', 'SUCCEEDED', NULL::timestamptz),
		('past', 'many', 'ACTIVE', now() - interval '3 days'),
		('future', 'many', 'ACTIVE', now() + interval '1 hour'),
		('replay', 'many', 'ACTIVE', NULL)) AS k (kind, webhook, status, at)
	UNION ALL SELECT :day || to_char(n, '"few"FM00000'), :day || 'event005', 'few', 'ACTOR.RUN.CREATED'::webhook_events.event_type, 'ACTIVE'::webhook_events.dispatch_status, now(), NULL, 0, now() - interval '1 hour', 'key' || n % 5, now() + interval '1 hour'
	FROM generate_series(1, 10) AS n
	UNION ALL SELECT :day || to_char(n, '"later"FM00'), :day || 'event005', 'few', 'ACTOR.RUN.CREATED'::webhook_events.event_type, 'ACTIVE'::webhook_events.dispatch_status, now(), NULL, 0, now() + interval '1 hour', NULL, NULL
	FROM generate_series(1, 20) AS n;
INSERT INTO webhook_events_internal.dispatches (id, event_id, webhook_id, event_type, status, created_at, finished_at, attempts)
	SELECT :day || 'wanted0' || n, :day || 'wanted0' || n, 'hook0000000000002', 'ACTOR.RUN.CREATED', 'FAILED', now(), now(), 1
	FROM generate_series(1, 3) AS n;
SET session_replication_role = replica;
INSERT INTO webhook_events_internal.webhooks (id, user_id, event_types, request_url, actor_run_id, actor_task_id, actor_id, is_ad_hoc, is_enabled)
	SELECT to_char(n, '"hook0"FM000000000000'), 'user' || n, '{ACTOR.RUN.CREATED}'::webhook_events.event_type[], 'http://127.0.0.1/',
		CASE n % 4 WHEN 3 THEN 'run' || n WHEN 0 THEN 'run' || n END, CASE n % 4 WHEN 2 THEN 'task' || n END,
		CASE n % 4 WHEN 1 THEN 'actor' || n END, n % 4 IN (3, 0), true
	FROM generate_series(1, 3 * :size) AS n
	UNION ALL SELECT 'task', 'user', '{ACTOR.RUN.CREATED}'::webhook_events.event_type[], 'http://127.0.0.1/', NULL, 'task3', NULL, false, true
	UNION ALL SELECT 'actor', 'user3', '{ACTOR.RUN.CREATED}'::webhook_events.event_type[], 'http://127.0.0.1/', NULL, NULL, 'actor3', false, true;
RESET session_replication_role;
INSERT INTO webhook_events_internal.webhook_stats (webhook_id, total_dispatches, last_dispatch_id, last_status, failing_since)
	SELECT id, 1, 'a', 'ACTIVE', CASE WHEN id < 'hook0000000000006' THEN now() - interval '10 days' ELSE now() - interval '1 day' END
	FROM webhook_events_internal.webhooks;
INSERT INTO webhook_events_internal.webhook_counts (key, user_id, actor_id, actor_task_id, webhooks)
	SELECT hash_record_extended(ROW (w.user_id, w.actor_id, w.actor_task_id), 0), w.user_id, w.actor_id, w.actor_task_id, count(*)
	FROM webhook_events_internal.webhooks AS w GROUP BY 2, 3, 4
	UNION ALL SELECT hash_record_extended(ROW (NULL::text, w.actor_id, w.actor_task_id), 0), NULL, w.actor_id, w.actor_task_id, count(*)
	FROM webhook_events_internal.webhooks AS w GROUP BY 3, 4;
INSERT INTO webhook_events_internal.webhook_counts_positions SELECT n, '~', '~' FROM generate_series(1, :size) AS n;
INSERT INTO webhook_events_internal.ended_runs (id, run_id, time, user_id)
	SELECT to_char(n, '"ended"FM00000'), CASE WHEN n < 3 THEN 'gone' ELSE 'run' || n END, now(), 'user' || n FROM generate_series(1, :size) AS n;
INSERT INTO webhook_events_internal.runs_to_check (id, run_id)
	SELECT to_char(n, '"check"FM00000'), CASE WHEN n < 3 THEN 'gone' ELSE 'run' || n END FROM generate_series(1, :size) AS n;
SET webhook_events.emit = off;
INSERT INTO public.costs_runs (id, status) SELECT 'run' || n, CASE n % 2 WHEN 0 THEN 'SUCCEEDED' ELSE 'RUNNING' END FROM generate_series(1, :size) AS n;
RESET webhook_events.emit;
INSERT INTO webhook_events_internal.tallies (number, counters) SELECT n, '{}' FROM generate_series(1, 10 * :size) AS n;
INSERT INTO webhook_events_internal.cursors (number, window_from, window_to)
	SELECT n, '1:1:', '1:1:' FROM generate_series(1, :size) AS n;
SQL

my $fill_log = <<'SQL';
INSERT INTO webhook_events_internal.webhook_stats_log (id, webhook_ids, dispatches, last_dispatch_ids, last_statuses, last_finished_at)
	SELECT to_char(n, '"log"FM00000'), '{hook0000000000001,hook0000000000003}', '{1,1}', '{b,b}', '{ACTIVE,ACTIVE}', '{NULL,NULL}'
	FROM generate_series(1, :size) AS n;
INSERT INTO webhook_events_internal.webhook_counts_log (up_to, user_id, change) SELECT '!', 'user' || n % 5, 1 FROM generate_series(1, :size) AS n;
INSERT INTO webhook_events_internal.webhook_counts_log (up_to, user_id, change) SELECT 'hook0000000000003', 'user1', 1 FROM generate_series(1, 5) AS n;
SQL

# All but this has been routed, was delivered, and is healthy again.
my $settle = <<'SQL';
UPDATE webhook_events_internal.outbox SET xid = '3' WHERE id !~ 'late';
INSERT INTO webhook_events_internal.cursors (number, window_from, window_to) VALUES (1000000, '100:100:', '100:100:');
UPDATE webhook_events_internal.dispatches SET status = 'SUCCEEDED', finished_at = now(), next_attempt_at = NULL
	WHERE status = 'ACTIVE' AND id !~ 'few|later';
UPDATE webhook_events_internal.webhook_stats SET failing_since = NULL WHERE webhook_id > 'hook0000000000006';
VACUUM ANALYZE;
SQL

# Has a session plan what people call, and keep these plans, when there is little.
my $clear = join '', map { "DELETE FROM webhook_events_internal.$_;\n" } qw(outbox dispatches webhooks webhook_stats
	webhook_counts webhook_counts_log webhook_counts_positions ended_runs runs_to_check tallies cursors);

# In one session; prints a line with name and mode before each plan.
sub script
{
	my ($size) = @_;
	my $as_people = "RESET ALL;\n";
	my $as_worker = join '', map { "SELECT CASE WHEN current_setting('$_', true) IS NOT NULL THEN set_config('$_', '$settings{$_}', false) END AS set \\gset\n" }
	  grep { $_ ne 'client_encoding' } sort keys %settings;
	my $run = sub {
		my ($mode) = @_;
		my $sql = '';

		foreach my $name (grep { $arguments{$_} } sort keys %statement)
		{
			my $prepared = '"' . $name . '"';
			my @arguments = @{ $arguments{$name} };
			my $call = $prepared . (@arguments ? '(' . join(', ', @arguments) . ')' : '');

			if ($mode !~ /kept/)
			{
				$sql .= "DEALLOCATE $prepared;\n" if $mode ne 'empty';
				$sql .= "PREPARE $prepared"
				  . (@arguments ? '(' . join(', ', @{ $statement{$name}{types} }) . ')' : '')
				  . " AS $statement{$name}{sql};\n";
			}
			$sql .= "\\echo $name, $mode\nBEGIN;\nEXPLAIN (ANALYZE, BUFFERS, TIMING off, FORMAT JSON) EXECUTE $call;\nROLLBACK;\n";
		}
		return $sql;
	};
	# Each twice, because the first time reads catalogs.
	my $call_all = sub {
		my ($mode, $call) = (@_, \%call);
		my $explain = 'EXPLAIN (ANALYZE, BUFFERS, TIMING off, FORMAT JSON)';
		my $plans = $mode =~ /^(custom|generic) plan/ ? "SET plan_cache_mode = force_$1_plan;\n" : '';

		return $as_people . $plans . join '', map {
			"BEGIN;\n$explain SELECT $call->{$_} \\g /dev/null\nROLLBACK;\n"
			  . "\\echo $_(), $mode\nBEGIN;\n$explain SELECT $call->{$_};\nROLLBACK;\n"
		} sort keys %$call;
	};
	my $sql = <<"SQL";
\\set QUIET 1
\\set ON_ERROR_STOP 1
\\pset tuples_only on
\\pset format unaligned
\\set size $size
CREATE EXTENSION webhook_events;
SELECT webhook_events_internal.create_days((now() AT TIME ZONE 'UTC')::date - 2, (now() AT TIME ZONE 'UTC')::date) \\gset
SELECT count(webhook_events_internal.claim_outbox()) \\gset
CREATE TABLE public.costs_runs (id text PRIMARY KEY, actor_id text, status text);
SELECT count(webhook_events.attach('public.costs_runs', 'run')) \\gset
CREATE TEMP TABLE day AS SELECT n AS number, webhook_events.id_lower_bound(((now() AT TIME ZONE 'UTC')::date - n)::timestamp AT TIME ZONE 'UTC') AS lower
	FROM generate_series(0, 2) AS n;
SELECT count(webhook_events_internal.index_day(u.kind, u.day)) FROM webhook_events_internal.unindexed_days((now() AT TIME ZONE 'UTC')::date + 1) AS u \\gset
SELECT quote_literal(lower) AS day FROM day WHERE number = 2 \\gset
SELECT quote_literal(lower) AS today FROM day WHERE number = 0 \\gset
SQL

	my $custom = "SET plan_cache_mode = force_custom_plan;\n";

	my $little = '';

	foreach my $name (sort keys %call)
	{
		$little .= "BEGIN;\nSELECT $call{$name} \\g /dev/null\nROLLBACK;\n" x 6;
	}
	$little = "\\set size 5\n${fill}ANALYZE;\n${little}SET session_replication_role = replica;\n$clear"
	  . "DELETE FROM public.costs_runs;\nRESET session_replication_role;\n\\set size $size\n";

	# What people call reads all of the statistics that are not added up yet, so there are
	# none of these then.
	$sql .= "ANALYZE;\n$as_worker" . $run->('empty') . $as_people . $little . $fill . $call_all->('plan kept since there was little');
	$sql .= $call_all->('no statistics') . $call_all->('custom plan, no statistics');
	$sql .= $as_worker . $fill_log . $run->('plan kept since the tables were empty') . $run->('generic plan, no statistics');
	$sql .= $custom . $run->('custom plan, no statistics') . "ANALYZE;\n" . $run->('custom plan, statistics');
	$sql .= $as_worker . $run->('generic plan, statistics');
	$sql .= "TRUNCATE webhook_events_internal.webhook_stats_log, webhook_events_internal.webhook_counts_log;\n";
	$sql .= $call_all->('generic plan, statistics') . $call_all->('custom plan, statistics');
	$sql .= $settle . $call_all->('settled', \%watch);
	return $sql;
}

sub buffers
{
	my ($plan) = @_;

	return $plan->{'Shared Hit Blocks'} + $plan->{'Shared Read Blocks'};
}

# Buffers and rows of each run.
sub measure
{
	my ($database, $size) = @_;
	my %result;

	$node->safe_psql('postgres', "CREATE DATABASE $database");
	my $file = PostgreSQL::Test::Utils::tempdir() . '/script.sql';
	append_to_file($file, script($size));
	my ($output, $errors) = run_command(['psql', '-X', '-d', $node->connstr($database), '-f', $file]);
	is($errors, '', "database $database: every statement runs");
	while ($output =~ /^([a-z_]+\.[a-z_]+|[^\n]+\(\)), ([^\n]+)\n(\[.*?^\])/msg)
	{
		my ($name, $mode, $json) = ($1, $2, $3);
		my $plan = decode_json($json)->[0]{Plan};

		$result{$mode}{$name} = { buffers => buffers($plan), rows => $plan->{'Actual Rows'}, plan => $json };
	}
	return \%result;
}

my $small = measure('small', 100);
my $large = measure('large', 100 * $growth);

foreach my $mode (grep { $_ ne 'empty' } sort keys %$small)
{
	foreach my $name (sort keys %{ $small->{$mode} })
	{
		my ($before, $after) = ($small->{$mode}{$name}, $large->{$mode}{$name});

		is($after->{rows}, $before->{rows}, "$name, $mode: the same result");
		cmp_ok($after->{buffers}, '<=', 1.5 * $before->{buffers} + 10, "$name, $mode: nearly the same buffers")
		  or diag($after->{plan});
	}
}

# Nor does the table of locks fill up with those whose webhooks are counted.
is($node->safe_psql('small', <<'SQL'), 't', 'webhooks of many users in one transaction take few locks');
BEGIN;
SELECT count(webhook_events.create_webhook('http://127.0.0.1/', '{ACTOR.RUN.CREATED}', user_id => 'one of many ' || n))
	FROM generate_series(1, 200) AS n \gset
SELECT count(*) < 100 FROM pg_locks WHERE pid = pg_backend_pid();
SQL

$node->stop;
done_testing();
