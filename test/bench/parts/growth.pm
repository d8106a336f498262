# growth.pm
#	  What the second day costs: looking things up in much history, comparing all of it, and a
#	  mixture of everything, by the minute, on tables that are full already.

package parts::growth;

use strict;
use warnings;

use Bench;
use IPC::Run ();
use JSON::PP;
use PostgreSQL::Test::Utils;
use Time::HiRes qw(sleep time);
use WebhookEvents::Node;

# Adds so many events and dispatches that ended, spread over the time, to a day that is so
# many before today.  A run has two, an Actor one of 5,000 and a user one of 1,000.
sub fill_day
{
	my ($node, $day, $count) = @_;
	my $start = "((now() AT TIME ZONE 'UTC')::date - $day)::timestamp AT TIME ZONE 'UTC'";

	sql($node, <<"SQL");
SELECT webhook_events_internal.create_days((now() AT TIME ZONE 'UTC')::date - $day, (now() AT TIME ZONE 'UTC')::date - $day);
INSERT INTO webhook_events_internal.outbox (id, created_at, xid, event_type, actor_run_id, actor_build_id, actor_id, actor_task_id, user_id, resource)
	SELECT webhook_events.id_lower_bound($start + n * interval '1 day' / ($count + 1)) || to_char(n, 'FM00000000'), $start + n * interval '1 day' / ($count + 1),
		'1', 'ACTOR.RUN.CREATED', CASE WHEN n % 100 > 0 THEN 'run' || $day || '-' || md5((n / 2)::text) END,
		CASE WHEN n % 100 = 0 THEN 'build' || $day || '-' || md5((n / 2)::text) END, 'actor' || (hashint4(n) & 8191) % 5000,
		'task' || (hashint4(n + 1) & 65535), 'user' || (hashint4(n + 2) & 1023), to_json(repeat('x', 200))
	FROM generate_series(1, $count) AS n;
INSERT INTO webhook_events_internal.dispatches (id, event_id, webhook_id, user_id, event_type, status, created_at, finished_at, attempts, last_status, last_duration)
	SELECT left(o.id, 9) || right(md5(o.id), 8), o.id, 'hook' || (hashtext(o.id) & 2047), o.user_id, o.event_type,
		CASE WHEN hashtext(o.id) % 1000 = 0 THEN 'FAILED' ELSE 'SUCCEEDED' END::webhook_events.dispatch_status, o.created_at, o.created_at, 1, 200, '3 ms'
	FROM webhook_events_internal.outbox AS o
	WHERE o.id >= webhook_events.id_lower_bound($start) AND o.id < webhook_events.id_lower_bound($start + interval '1 day');
SQL
	return;
}

sub fill_days
{
	my ($node, $days, $count) = @_;

	fill_day($node, $_, $count) foreach 1 .. $days;
	return;
}

# Buffers that a look-up of up to fifty rows touches.
sub buffers_of
{
	my ($node, $query) = @_;
	my $explain = "EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) $query ORDER BY id DESC LIMIT 50";
	my $plan = decode_json(sql($node, "EXPLAIN (ANALYZE) $query ORDER BY id DESC LIMIT 50 \\g /dev/null\n$explain"))->[0]{Plan};

	return $plan->{'Shared Hit Blocks'} + $plan->{'Shared Read Blocks'};
}

sub history_lookup
{
	with_node('lookup', "autovacuum = off\n", sub {
		my $node = shift;
		my ($days, $count) = (10, $scale{lookup_events});
		my $midnight = "date_trunc('day', now() AT TIME ZONE 'UTC') AT TIME ZONE 'UTC'";
		my $over = "AND id < webhook_events.id_lower_bound($midnight)";
		my ($hour, $todays_hour) = map { "AND id >= webhook_events.id_lower_bound($midnight $_->[0]) AND id < webhook_events.id_lower_bound($midnight $_->[1])" }
		  [ q{- interval '72 hours'}, q{- interval '71 hours'} ], [ q{+ interval '20 hours'}, q{+ interval '21 hours'} ];
		my $started;

		if (free_disk() < 3 + ($days + 1) * $count * 1.5e3 / 2**30)
		{
			note('no room for ' . ($days + 1) * $count . ' events');
			return;
		}
		progress("history_lookup: adding $days days of $count events");
		fill_days($node, $days, $count);
		progress('history_lookup: making indexes');
		$started = time;
		sql($node, 'SELECT count(webhook_events_internal.index_day(u.kind, u.day))'
			  . " FROM webhook_events_internal.unindexed_days((now() AT TIME ZONE 'UTC')::date) AS u");
		result(what => 'indexes of a day', figure => sprintf('%.1f s', (time - $started) / $days), reference => "$count events");
		progress('history_lookup: adding as many of today');
		sql($node, "DO \$\$ BEGIN EXECUTE (SELECT string_agg('DROP TABLE ' || webhook_events_internal.day_table(kind, (now() AT TIME ZONE 'UTC')::date), '; ')"
			  . " FROM unnest('{outbox,dispatches}'::text[]) AS kind); END \$\$");
		fill_day($node, 0, $count);
		$started = time;
		my $lsn = sql($node, 'SELECT pg_current_wal_insert_lsn()');
		sql($node, "SELECT webhook_events_internal.summarize_day(kind, (now() AT TIME ZONE 'UTC')::date) FROM unnest('{outbox,dispatches}'::text[]) AS kind");
		result(what => 'summaries of today', figure => sprintf('%.1f s, %.0f B of WAL for an event', time - $started,
			sql($node, "SELECT pg_current_wal_insert_lsn() - '$lsn'") / $count), reference => "$count events");

		my ($run, $build, $event) = map { sql($node, "SELECT $_->[1] FROM webhook_events_internal.$_->[0]"
				  . " WHERE id >= webhook_events.id_lower_bound($midnight - interval '72 hours') AND $_->[1] IS NOT NULL ORDER BY id LIMIT 1") }
		  [ 'outbox', 'actor_run_id' ], [ 'outbox', 'actor_build_id' ], [ 'dispatches', 'event_id' ];
		foreach my $case ([ 'events of a run', 'events', "actor_run_id = '$run'" ], [ 'events of a build', 'events', "actor_build_id = '$build'" ],
			[ 'events of an Actor', 'events', "actor_id = 'actor7'" ], [ 'events of a task', 'events', "actor_task_id = 'task7'" ],
			[ 'events of a user', 'events', "user_id = 'user7'" ], [ 'dispatches of a webhook', 'dispatches', "webhook_id = 'hook7'" ],
			[ 'dispatches of a user', 'dispatches', "user_id = 'user7'" ], [ 'dispatches of an event', 'dispatches', "event_id = '$event'" ],
			[ 'dispatches that failed', 'dispatches', 'is_failed' ], [ 'deliveries to a webhook', 'deliveries', "webhook_id = 'hook7'" ],
			[ 'deliveries to a user', 'deliveries', "user_id = 'user7'" ], [ 'all deliveries', 'deliveries', 'true' ])
		{
			my ($what, $view, $condition) = @$case;
			my $query = "SELECT * FROM webhook_events.$view WHERE $condition";

			foreach my $part ([ "$what, of days that are over", $over, 300 ], [ "$what, of an hour of them", $hour, 60 ], [ "$what, today as well", '', 300 ], [ "$what, of an hour of today", $todays_hour, 60 ])
			{
				my $buffers = buffers_of($node, "$query $part->[1]");

				result(what => $part->[0], figure => "$buffers buffers", number => $buffers, bar => "<= $part->[2]");
			}
		}
	});
	return;
}

# Adds so many events of half as many runs that ended, of yesterday, and a dispatch of each for
# one of so many webhooks.
my %audited_by = (1 => [ user_id => 'user', 1 ], 5 => [ actor_task_id => 'task', 5 ], 200 => [ actor_id => 'actor', 200 ]);

sub fill_audited
{
	my ($node, $count) = @_;
	my $start = "((now() AT TIME ZONE 'UTC')::date - 1)::timestamp AT TIME ZONE 'UTC'";

	sql($node, <<"SQL");
SET session_replication_role = replica;
SELECT webhook_events_internal.create_days((now() AT TIME ZONE 'UTC')::date - 1, (now() AT TIME ZONE 'UTC')::date);
CREATE TABLE audited AS SELECT n, k, $start + n * interval '80 ms' * (1000000.0 / $count) + k * interval '1 hour' AS at
	FROM generate_series(1, $count / 2) AS n, generate_series(0, 1) AS k;
INSERT INTO actor_runs (id, actor_id, actor_task_id, user_id, status, started_at, finished_at)
	SELECT left(md5(n::text), 17), 'actor' || n % 200, 'task' || n % 5, 'user0', 'SUCCEEDED', at, at + interval '1 hour' FROM audited WHERE k = 0;
INSERT INTO webhook_events_internal.outbox (id, created_at, xid, event_type, actor_run_id, actor_id, actor_task_id, user_id, old_status, new_status, resource)
	SELECT webhook_events.id_lower_bound(at) || to_char(n, 'FM00000000'), at, '1000', CASE k WHEN 0 THEN 'ACTOR.RUN.CREATED' ELSE 'ACTOR.RUN.SUCCEEDED' END::webhook_events.event_type,
		left(md5(n::text), 17), 'actor' || n % 200, 'task' || n % 5, 'user0', CASE k WHEN 1 THEN 'RUNNING' END, CASE k WHEN 0 THEN 'READY' ELSE 'SUCCEEDED' END, to_json(repeat('x', 400))
	FROM audited ORDER BY at;
INSERT INTO webhook_events_internal.cursors (number, window_from, window_to) VALUES (1000, '5000:5000:', '5000:5000:');
SQL
	return;
}

# What webhooks of these events should have got they did get.
sub fill_audited_dispatches
{
	my ($node, $webhooks) = @_;
	my ($column, $prefix, $count) = @{ $audited_by{$webhooks} };

	sql($node, <<"SQL");
SET session_replication_role = replica;
TRUNCATE webhook_events_internal.webhooks, webhook_events_internal.dispatches;
INSERT INTO webhook_events_internal.webhooks (id, user_id, event_types, actor_id, actor_task_id, request_url, is_enabled, created_at, modified_at)
	SELECT 'hook' || lpad(n::text, 13, '0'), 'user0', '{ACTOR.RUN.CREATED,ACTOR.RUN.SUCCEEDED}', CASE '$column' WHEN 'actor_id' THEN 'actor' || n END,
		CASE '$column' WHEN 'actor_task_id' THEN 'task' || n END, 'http://127.0.0.1/', true, now() - interval '9 days', now() - interval '9 days'
	FROM generate_series(0, $count - 1) AS n;
INSERT INTO webhook_events_internal.dispatches (id, event_id, webhook_id, user_id, event_type, status, created_at, finished_at, attempts)
	SELECT webhook_events_internal.dispatch_id(o.id, w.id), o.id, w.id, o.user_id, o.event_type, 'SUCCEEDED', o.created_at, o.created_at, 1
	FROM webhook_events_internal.outbox AS o JOIN (SELECT id, '$prefix' || row_number() OVER (ORDER BY id) - 1 AS key
		FROM webhook_events_internal.webhooks) AS w ON w.key = o.$column;
SELECT sum(length(o.resource::text)) FROM webhook_events_internal.outbox AS o;
SELECT count(*) FROM webhook_events_internal.dispatches;
SQL
	return;
}

# What audit() costs beside reading what it compares: each column of events, dispatches and runs that it
# looks at is evaluated for each row, and counted, which is the least that a query can do with it. By one process's time of CPU.
sub audit
{
	with_node('audit', "autovacuum = off\nshared_buffers = '2GB'\nmax_parallel_workers_per_gather = 0\nwebhook_events.databases = ''\n", sub {
		my $node = shift;
		my $count = $scale{audit_events};
		my %statement = (
			events => 'SELECT count(id), count(created_at), count(xid), count(event_type), count(user_id), count(actor_id), count(actor_task_id), count(actor_run_id), count(actor_build_id)'
			  . ' FROM webhook_events_internal.outbox',
			dispatches => 'SELECT count(id), count(event_id), count(webhook_id) FROM webhook_events_internal.dispatches',
			runs => 'SELECT count(id), count(status), count(finished_at) FROM actor_runs',
			audit => q{SELECT count(*) FROM webhook_events.audit(now() - interval '2 days')});
		my @names = sort keys %statement;

		progress("audit: adding $count events");
		fill_audited($node, $count);
		foreach my $case (map { my $analyzed = $_; map { [ $analyzed, $_ ] } sort { $a <=> $b } keys %audited_by } 0, 1)
		{
			my ($is_analyzed, $webhooks) = @$case;
			my %times = map { ($_ => []) } @names;

			progress("audit: $webhooks webhooks");
			fill_audited_dispatches($node, $webhooks);
			sql($node, 'ANALYZE') if $is_analyzed;
			foreach my $turn (0 .. $scale{audit_turns})
			{
				my $sql = "SELECT pg_backend_pid() AS pid \\gset\n";

				$sql .= "\\set before `cut -d' ' -f1 /proc/:pid/schedstat`\n$statement{$_} \\g /dev/null\n"
				  . "\\set after `cut -d' ' -f1 /proc/:pid/schedstat`\n\\echo $_ :before :after\n" foreach @names;
				foreach my $line (split /\n/, sql($node, $sql))
				{
					my ($name, $before, $after) = split ' ', $line;

					push @{ $times{$name} }, ($after - $before) / 1e9 if $turn > 0;
				}
			}
			my %cpu = map { ($_ => median(@{ $times{$_} })) } @names;
			my $reading = $cpu{events} + $cpu{dispatches} + $cpu{runs};

			result(what => "audit() of $count events, $webhooks webhooks" . ($is_analyzed ? ', analyzed' : ''), figure => sprintf('%.2f s of CPU', $cpu{audit}),
				reference => sprintf('reading %.2f s', $reading), number => $cpu{audit} / $reading, bar => '<= 2');
		}
	});
	return;
}

# Work beside the events: writes that are rolled back, and heartbeats.
my $noise = <<'SQL';
CREATE PROCEDURE noise(seconds integer) LANGUAGE plpgsql AS $$
DECLARE
	until timestamptz := clock_timestamp() + seconds * interval '1 second';
	n integer := 0;
BEGIN
	WHILE clock_timestamp() < until LOOP
		n := n + 1;
		INSERT INTO actor_runs (id, actor_id) VALUES ('undone' || n, 'ok');
		ROLLBACK;
		UPDATE actor_runs SET heartbeat_at = now() WHERE id = (SELECT min(id) FROM actor_runs);
		COMMIT;
		PERFORM pg_sleep(0.01);
	END LOOP;
END $$;
SQL

sub soak
{
	my $conf = "autovacuum = on\nwebhook_events.retry_delay = '1s'\nwebhook_events.max_retries = 3\n";

	with_node('soak', $conf, sub {
		my $node = shift;
		my $sink = start_sink(qw(ok slow hang reset));
		my ($seconds, $rate) = @scale{qw(soak_seconds soak_rate)};
		my $step = $seconds < 60 ? int($seconds / 2) : 60;
		my (@p50, @p99, @rows);

		progress("soak: filling tables with $scale{soak_history} events, of which $scale{soak_waiting} wait");
		create_webhook($node, $sink->{url}{$_}, 'ACTOR.RUN.CREATED', actor_id => "'$_'") foreach qw(ok slow reset);
		my $hang = create_webhook($node, $sink->{url}{hang}, 'ACTOR.RUN.CREATED', actor_id => "'hang'");
		sql($node, $noise);
		fill_days($node, 2, int($scale{soak_history} / 2));
		sql($node, 'INSERT INTO webhook_events_internal.dispatches (id, event_id, webhook_id, event_type, status, created_at, attempts, next_attempt_at)'
			  . " SELECT left(id, 9) || lpad(n::text, 8, 'w'), id, '$hang', event_type, 'ACTIVE', now(), 1, now() + interval '1 day'"
			  . ' FROM (SELECT id, event_type, row_number() OVER () AS n FROM webhook_events_internal.outbox'
			  . " WHERE id < webhook_events.id_lower_bound(now() - interval '1 day') LIMIT $scale{soak_waiting}) AS e");
		commit_times($node, 'warm', 200, 200, 'ok', 1);
		my $beside = IPC::Run::start([ 'psql', '-Xqd', $node->connstr('postgres'), '-c', "CALL noise($seconds)" ], '<', \undef);
		foreach my $n (1 .. int($seconds / $step))
		{
			my $cpu = worker_cpu($node);
			my $lsn = sql($node, 'SELECT pg_current_wal_insert_lsn()');
			my $times = commit_times($node, "m$n", $step * $rate, $rate, join(',', ('ok') x 8, 'slow', 'reset'), 4);

			# The Actors are taken in turns.
			delete @$times{ grep { /-(\d+)$/ && $1 % 10 >= 8 } keys %$times };
			push @rows, { cpu => (worker_cpu($node) - $cpu) / 1e9 / $step, wal => sql($node, "SELECT pg_current_wal_insert_lsn() - '$lsn'") / ($step * $rate),
				memory => parts::neighbours::memory($node), descriptors => scalar(() = glob '/proc/' . worker_pid($node) . '/fd/*'),
				dead => sql($node, q{SELECT sum(n_dead_tup) FROM pg_stat_user_tables WHERE schemaname = 'webhook_events_internal'}),
				times => $times };
			progress("soak: $n of " . int($seconds / $step));
		}
		$beside->finish;
		sleep 1;
		my $arrivals = stop_sink($sink);
		foreach my $row (@rows)
		{
			my ($with) = (delays($row->{times}, $arrivals))[1];

			push @p50, percentile(0.5, @$with);
			push @p99, percentile(0.99, @$with);
		}
		series("stretch of $step s", [ 'p50 ms', 'p99 ms', 'CPU, s a second', 'memory, MB', 'descriptors', 'dead rows', 'WAL, bytes an event' ],
			map { [ sprintf('%.2f', $p50[$_]), sprintf('%.2f', $p99[$_]), sprintf('%.2f', $rows[$_]{cpu}), sprintf('%.1f', $rows[$_]{memory}),
				$rows[$_]{descriptors}, $rows[$_]{dead}, sprintf('%.0f', $rows[$_]{wal}) ] } 0 .. $#rows);
		my ($slowest) = sort { $b <=> $a } @p50;
		result(what => "p50 of the slowest $step s", figure => sprintf('%.2f ms', $slowest), reference => sprintf('first %.2f ms', $p50[0]),
			number => $slowest / $p50[0], bar => '<= 1.5');
		($slowest) = sort { $b <=> $a } @p99;
		result(what => "p99 of the slowest $step s", figure => sprintf('%.2f ms', $slowest), number => $slowest, bar => '<= 20');
	});
	return;
}

1;
