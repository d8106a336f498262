# delivery.pm
#	  How fast the worker delivers, and what does not slow it down.

package parts::delivery;

use strict;
use warnings;
use feature 'state';

use Bench;
use IPC::Run ();
use PostgreSQL::Test::Utils;
use Time::HiRes qw(sleep time);
use WebhookEvents::Node;

my $created = 'ACTOR.RUN.CREATED';

# The worker against libcurl alone, in turns, with the requests that the worker
# makes.
sub drain_part
{
	with_node('drain', '', sub {
		my $node = shift;
		my $nginx = start_nginx() or return;
		my $webhook = create_webhook($node, $nginx->{url}, $created);
		my (@rates, @reference, @cpu, @rows, @wal);
		my @request = warm_up($node, $webhook);

		foreach my $round (1 .. $scale{rounds})
		{
			progress("drain: round $round of $scale{rounds}");
			push @reference, post_rate($nginx->{url}, @request, $scale{events}, 64);
			add_events($node, $scale{events}, "'a'");
			my $rows = rows_written($node);
			my ($seconds, $cpu, $wal) = drain($node, $scale{events});
			push @rates, $scale{events} / $seconds;
			push @cpu, $cpu;
			push @rows, (rows_written($node) - $rows) / $scale{events};
			push @wal, $wal;
		}
		result(what => "$scale{events} events, one webhook",
			figure => sprintf('%.0f/s', median(@rates)), number => median(@rates), bar => '>= 20000');
		compare_turns('  of libcurl alone', \@rates, 'libcurl alone', \@reference, '>= 0.30');
		result(what => "  worker's CPU for one delivery", figure => sprintf('%.1f us', median(@cpu)),
			number => median(@cpu), bar => '<= 45');
		result(what => '  rows written for one delivery', figure => sprintf('%.2f', median(@rows)),
			number => sprintf('%.1f', median(@rows)), bar => '<= 2');
		result(what => '  WAL for one delivery', figure => sprintf('%.0f B', median(@wal)),
			number => median(@wal), bar => '<= 700');
		stop_nginx($nginx);
	});
	return;
}

# Adds lives of three events each while delivery is paused, a few hundred at a time, as
# they mix in a platform.
sub add_lives
{
	my ($node, $runs) = @_;

	sql($node, <<"SQL");
SELECT webhook_events.pause('benchmark');
DO \$\$
DECLARE
	prefix text := webhook_events_internal.new_id();
BEGIN
	FOR start IN 1 .. $runs BY 500 LOOP
		INSERT INTO actor_runs (id, actor_id)
			SELECT prefix || i, 'a' FROM generate_series(start, least(start + 499, $runs)) AS i;
		UPDATE actor_runs SET status = 'FAILED'
			FROM generate_series(start, least(start + 499, $runs)) AS i WHERE id = prefix || i;
		UPDATE actor_runs SET status = 'READY'
			FROM generate_series(start, least(start + 499, $runs)) AS i WHERE id = prefix || i;
		COMMIT;
	END LOOP;
END \$\$;
SQL
	return;
}

# What goes out in the order of each run, against the same without order, in turns.
sub ordering
{
	my $nginx = start_nginx() or return;

	with_nodes('', sub {
		my @nodes = @_;
		my @orders = qw(none resource);
		my $count = 3 * $scale{ordered_runs};
		my (@rates, @cpu);

		foreach my $i (0, 1)
		{
			create_webhook($nodes[$i], $nginx->{url}, 'ACTOR.RUN.CREATED, ACTOR.RUN.FAILED, ACTOR.RUN.RESURRECTED',
				ordering => "'$orders[$i]'");
			add_lives($nodes[$i], 500);
			drain($nodes[$i], 1500);
		}
		foreach my $turn (1 .. $scale{turns})
		{
			progress("ordering: turn $turn of $scale{turns}");
			foreach my $i ($turn % 2 ? (0, 1) : (1, 0))
			{
				add_lives($nodes[$i], $scale{ordered_runs});
				my ($seconds, $cpu) = drain($nodes[$i], $count);
				push @{ $rates[$i] }, $count / $seconds;
				push @{ $cpu[$i] }, $cpu;
			}
		}
		compare_turns("$count events in the order of their runs", $rates[1], 'in none', $rates[0], '>= 0.8');
		result(what => "  worker's CPU for one delivery", figure => sprintf('%.1f us', median(@{ $cpu[1] })),
			reference => sprintf('in none %.1f us', median(@{ $cpu[0] })));
	}, qw(plain ordered));
	stop_nginx($nginx);
	return;
}

sub tls
{
	drain_over_tls('HTTP/1.1 over TLS, kept connections');
	drain_over_tls('HTTP/2', http2 => 1);
	return;
}

sub drain_over_tls
{
	my ($what, %options) = @_;
	my $nginx = start_nginx(tls => 1, %options) or return;

	local $ENV{CA} = $nginx->{ca};
	with_node('tls' . keys %options, "webhook_events.ca_file = '$nginx->{ca}'\n", sub {
		my $node = shift;
		my (@rates, @reference);
		my @request = warm_up($node, create_webhook($node, $nginx->{url}, $created));

		foreach my $round (1 .. $scale{rounds})
		{
			progress("$what: round $round of $scale{rounds}");
			push @reference, post_rate($nginx->{url}, @request, $scale{events}, 64);
			push @rates, drain_rates($node, $scale{events}, 1, "'a'");
		}
		compare_turns($what, \@rates, 'libcurl alone', \@reference, '>= 0.30');
	});
	stop_nginx($nginx);
	return;
}

# Delivers a few events, and returns the files of a request as it was made then.
sub warm_up
{
	my ($node, $webhook) = @_;

	drain_rates($node, 1000, 1, "'a'");
	return reference_files($node, $webhook);
}

# Prints percentiles of delays.
sub report_delays
{
	my ($what, $delays, $p50, $p99, $reference) = @_;

	foreach my $case ([ 0.5, 'p50', $p50 ], [ 0.99, 'p99', $p99 ])
	{
		my ($fraction, $name, $bar) = @$case;

		result(what => "$what, $name", figure => sprintf('%.2f ms', percentile($fraction, @$delays)),
			number => percentile($fraction, @$delays), bar => $bar && "<= $bar",
			reference => $reference && sprintf('%.2f ms', percentile($fraction, @$reference)));
	}
	return;
}

sub latency
{
	with_node('latency', '', sub {
		my $node = shift;
		my $sink = start_sink('ok');
		my $webhook = create_webhook($node, $sink->{url}{ok}, $created);

		commit_times($node, 'w', 100, 100, 'live', 1);
		progress("latency: $scale{samples} commits on an idle system");
		my $idle = commit_times($node, 'i', $scale{samples}, 100, 'live', 1);
		progress('latency: at 2000 events a second');
		my $load = commit_times($node, 'l', $scale{load_events}, 2000, 'live', 4);
		my ($headers, $body) = reference_files($node, $webhook);
		my $text = slurp_file($body);
		$text =~ s/("actorRunId": ?")[^"]*/$1\@KEY\@/;
		open(my $file, '>', $body) or die $!;
		print $file $text;
		close $file;
		run_tool(tool('post'), $sink->{url}{ok}, $headers, $body, 1000, 1, "$body.log");
		sleep 0.5;
		my $arrivals = stop_sink($sink);
		my %posted = map { split ' ' } split /\n/, slurp_file("$body.log");
		my @bare = map { exists $arrivals->{$_} ? ($arrivals->{$_} - $posted{$_}) / 1e6 : () } keys %posted;

		foreach my $case ([ 'idle', $idle, 0.4, 2 ], [ 'at 2,000/s', $load, 2, 20 ])
		{
			my ($what, $times, $p50, $p99) = @$case;
			my ($sent, $returned) = delays($times, $arrivals);
			my $missing = keys(%$times) - @$sent;

			die "$missing events did not arrive\n" if $missing;
			report_delays("$what, from COMMIT's return to arrival", $returned, $p50, $p99, \@bare);
			report_delays("$what, from COMMIT's start", $sent);
			if ($what eq 'at 2,000/s')
			{
				my @starts = sort { $a <=> $b } map { $_->[0] } values %$times;

				note(sprintf('offered: %.0f events a second', @starts / (($starts[-1] - $starts[0]) / 1e9)));
			}
		}
		note('the reference is one loopback POST by libcurl, from its start to its arrival');
	});
	return;
}

# Defines webhooks that match nothing here.
sub add_webhooks
{
	my ($node, $count, $url) = @_;

	sql($node, <<"SQL");
SET session_replication_role = replica;
INSERT INTO webhook_events_internal.webhooks (id, request_url, event_types, actor_id)
SELECT webhook_events_internal.new_id(), '$url', '{$created}', 'other' || i FROM generate_series(1, $count) AS i;
ANALYZE webhook_events_internal.webhooks;
SQL
	return;
}

sub webhooks
{
	with_nodes('', sub {
		my ($one, $thousand, $million, $hundred) = @_;
		my $nginx = start_nginx() or return;

		foreach my $node ($one, $thousand, $million)
		{
			create_webhook($node, $nginx->{url}, $created, actor_id => "'a'");
			drain_rates($node, 2000, 1, "'a'");
		}
		create_webhook($hundred, $nginx->{url} . $_, $created, actor_id => "'a'") foreach 1 .. 100;
		progress("webhooks: defining $scale{webhooks}");
		add_webhooks($thousand, 999, $nginx->{url});
		add_webhooks($million, $scale{webhooks} - 1, $nginx->{url});
		my ($base, @rates) = drains_in_turns([ $one, 1 ], [ $thousand, 1 ], [ $million, 1 ],
			[ $hundred, 100 ]);
		foreach my $what ('1000 webhooks, one matching', "$scale{webhooks} webhooks, one matching",
			'100 matching each event, dispatches')
		{
			compare_turns($what, shift @rates, 'with one', $base, '>= 0.9');
		}
		stop_nginx($nginx);
	}, qw(one thousand million hundred));
	return;
}

# A statement, with the nanoseconds of CPU that its session took for it.
sub session_cpu
{
	my ($node, $statement) = @_;
	my $cpu = q{SELECT split_part(pg_read_file('/proc/self/schedstat'), ' ', 1)};
	my ($before, $after) = split /\n/, sql($node, "$cpu;\nDO \$do\$ BEGIN $statement; END \$do\$;\n$cpu;");

	return $after - $before;
}

# The lives of so many runs with two webhooks each, shared ones or their own; for one
# delivery: of their ends, retiring included, the worker's CPU in microseconds, bytes of
# WAL and rows written; and of all, with the sessions that make runs and webhooks, end the
# runs, and delete the webhooks, CPU and WAL.
sub lives_with_webhooks
{
	my ($node, $kind, $count, $url) = @_;
	state $turn = 0;
	my $name = $kind . ++$turn;
	my $sessions = 0;
	my $lsn = sub { sql($node, 'SELECT pg_current_wal_insert_lsn()') };
	my $bytes = sub { sql($node, "SELECT '$_[1]'::pg_lsn - '$_[0]'") };

	my ($start, $cpu) = ($lsn->(), worker_cpu($node));
	# One after the other, with their webhooks, as a platform makes them.
	my $webhook = qq({"requestUrl": "$url", "eventTypes": ["ACTOR.RUN.SUCCEEDED"]});
	my $make = "INSERT INTO actor_runs (id, actor_id, status) VALUES ('$name-' || n, '$kind', 'RUNNING')";
	$make .= "; PERFORM count(*) FROM webhook_events.create_ad_hoc_webhooks('$name-' || n, '[$webhook, $webhook]'::jsonb)"
	  if $kind eq 'own';
	$make = "FOR n IN 1 .. $count LOOP $make; END LOOP";

	$sessions += session_cpu($node, $make);
	sql($node, 'ANALYZE webhook_events_internal.webhooks');
	wait_for($node, 'SELECT events_waiting = 0 FROM webhook_events.status()');
	sql($node, "SELECT webhook_events.pause('benchmark')");
	$sessions += session_cpu($node, "UPDATE actor_runs SET status = 'SUCCEEDED' WHERE actor_id = '$kind' AND status = 'RUNNING'");
	my ($rows, $cpu_of_end, $end) = (rows_written($node), worker_cpu($node), $lsn->());
	drain($node, 2 * $count);
	wait_for($node, 'SELECT NOT EXISTS (SELECT FROM webhook_events_internal.webhooks WHERE is_ad_hoc AND is_enabled)');
	my ($after, $ended) = (worker_cpu($node), $lsn->());
	$rows = rows_written($node) - $rows;
	$sessions += session_cpu($node, 'DELETE FROM webhook_events_internal.webhooks WHERE is_ad_hoc') if $kind eq 'own';

	return map { $_ / (2 * $count) } ($after - $cpu_of_end) / 1e3, $bytes->($end, $ended), $rows,
	  ($after - $cpu + $sessions) / 1e3, $bytes->($start, $lsn->());
}

sub ad_hoc
{
	with_node('ad_hoc', '', sub {
		my $node = shift;
		my $nginx = start_nginx() or return;

		create_webhook($node, $nginx->{url}, 'ACTOR.RUN.SUCCEEDED', actor_id => "'shared'") foreach 1 .. 2;
		lives_with_webhooks($node, $_, 500, $nginx->{url}) foreach qw(shared own);
		foreach my $count (1000, $scale{ad_hoc_runs})
		{
			progress("ad_hoc: $count runs");
			my @shared = lives_with_webhooks($node, 'shared', $count, $nginx->{url});
			my @own = lives_with_webhooks($node, 'own', $count, $nginx->{url});

			foreach my $case ([ "worker's CPU", '%.1f us' ], [ 'WAL', '%.0f B' ], [ 'rows written', '%.2f' ],
				[ 'CPU of all, from creation to deletion', '%.1f us' ], [ 'WAL of all that', '%.0f B' ])
			{
				my ($what, $format) = @$case;
				my ($shared, $own) = (shift @shared, shift @own);

				result(what => "$count runs, two ad-hoc webhooks each: $what", figure => sprintf($format, $own),
					reference => sprintf("ordinary ones $format", $shared), number => $own / $shared, bar => '<= 2');
			}
		}
		stop_nginx($nginx);
	});
	return;
}

# Retention needs the same day full of events, so it is measured here too.
sub history
{
	my $gigabytes = $scale{history} / 1e6 * 2.2 + 4;

	if (free_disk() < $gigabytes)
	{
		note(sprintf('skipped: needs %.0f GB of disk, %.0f are free', $gigabytes, free_disk()));
		return;
	}
	with_nodes("max_wal_size = 2GB\nmin_wal_size = 80MB\ncheckpoint_timeout = 5min\n", sub {
		my ($node, $empty) = @_;
		my $nginx = start_nginx() or return;
		my $million = sprintf '%.3g million', $scale{history} / 1e6;

		foreach ($node, $empty)
		{
			create_webhook($_, $nginx->{url}, $created, actor_id => "'a'");
			drain_rates($_, 2000, 1, "'a'");
		}
		for (my $done = 0; $done < $scale{history}; $done += $scale{history} / 5)
		{
			progress("history: $done of $scale{history} events");
			add_history_slice($node, $done, $scale{history} / 5);
		}
		sql($node, 'CHECKPOINT');
		my ($rates, $base) = drains_in_turns([ $node, 1 ], [ $empty, 1 ]);
		compare_turns("drain with $million events in the tables", $rates, 'empty', $base, '>= 0.9');
		retention($node, $million);
		stop_nginx($nginx);
	}, qw(history empty));
	return;
}

# Fills the tables with events of today that were delivered, in slices, so that a
# temporary table is never large.
sub add_history_slice
{
	my ($node, $from, $count) = @_;

	sql($node, <<"SQL");
CREATE TEMP TABLE h AS SELECT webhook_events.id_lower_bound(date_trunc('day', now(), 'UTC') + i * interval '1 us')
	|| lpad(i::text, 8, '0') AS id, i FROM generate_series($from + 1, $from + $count) AS i;
INSERT INTO webhook_events_internal.outbox (id, created_at, xid, event_type, user_id, actor_id, actor_run_id, new_status, resource)
SELECT id, date_trunc('day', now(), 'UTC'), '3', '$created', 'user', 'past', 'H' || i, 'READY',
	'{"id": "H", "status": "READY", "startedAt": "2026-01-01T00:00:00.000Z", "meta": {"origin": "API"}}' FROM h;
INSERT INTO webhook_events_internal.dispatches (id, event_id, webhook_id, event_type, status, created_at, finished_at, attempts)
SELECT h.id, h.id, w.id, '$created', 'SUCCEEDED', now(), now(), 1
FROM h, (SELECT id FROM webhook_events.webhooks LIMIT 1) AS w;
INSERT INTO webhook_events_internal.calls (dispatch_id, attempt, started_at, finished_at, response_status, response_body)
SELECT id, 1, now(), now(), 200, 'ok' FROM h;
SQL
	return;
}

sub retention
{
	my ($node, $million) = @_;

	sql($node, "SELECT webhook_events.pause('benchmark')");
	progress('retention: DELETE, for reference');
	my ($delete) = sql($node, <<'SQL');
BEGIN;
SELECT clock_timestamp() AS started \gset
DELETE FROM webhook_events_internal.calls;
DELETE FROM webhook_events_internal.dispatches;
DELETE FROM webhook_events_internal.outbox;
SELECT extract(epoch FROM clock_timestamp() - :'started');
ROLLBACK;
SQL
	# What is as old as that was written to disk long ago.
	sql($node, 'CHECKPOINT');
	run_tool('sync');
	progress('retention: dropping the day');
	# Another session waits for the first lock, so for the moment at which all are free.
	my $other = IPC::Run::start([ 'psql', '-qAtX', '-d', $node->connstr('postgres'), '-c', <<'SQL', '-c', <<'SQL' ], '<', \undef, '>', \my $free_at);
DO $$
BEGIN
	WHILE NOT EXISTS (SELECT FROM pg_locks WHERE relation = 'webhook_events.calls'::regclass
		AND mode = 'AccessExclusiveLock' AND granted) LOOP
		PERFORM pg_sleep(0.001);
	END LOOP;
END $$
SQL
BEGIN;
LOCK TABLE webhook_events_internal.calls IN ROW EXCLUSIVE MODE;
SELECT extract(epoch FROM clock_timestamp());
COMMIT;
SQL
	my ($started, $statement, $drop, $dead) = split /\n/, sql($node, <<'SQL');
BEGIN;
SELECT clock_timestamp() AS started \gset
SELECT extract(epoch FROM :'started'::timestamptz);
SELECT webhook_events_internal.drop_days(((now() AT TIME ZONE 'UTC') + interval '1 day')::date) \g /dev/null
SELECT extract(epoch FROM clock_timestamp() - :'started');
COMMIT;
SELECT extract(epoch FROM clock_timestamp() - :'started');
SELECT count(*) FROM webhook_events_internal.outbox;
SQL
	die "the day was not dropped\n" if $dead > 0;
	result(what => "dropping a day of $million events", figure => sprintf('%.2f s', $drop),
		reference => sprintf('DELETE %.1f s', $delete), number => $drop, bar => '< 1');
	$other->finish;
	result(what => '  until it is gone for others, and all locks are free', figure => sprintf('%.2f s', $free_at - $started));
	result(what => '  before the commit, which removes the files', figure => sprintf('%.2f s', $statement));
	return;
}

# Adds events as fast as they are delivered for so many seconds; returns how many
# were delivered in each tenth of the time, per second.
sub full_rate
{
	my ($node, $seconds) = @_;

	sql($node, "SELECT webhook_events.resume()");
	my @samples = map { [ split /[|]/ ] } split /\n/, sql($node, <<"SQL");
CREATE TEMP TABLE samples (at timestamptz, delivered bigint);
CREATE TEMP SEQUENCE s;
DO \$\$
DECLARE
	finish timestamptz := clock_timestamp() + interval '$seconds s';
	added bigint := 0;
	before bigint := (SELECT delivered FROM webhook_events_internal.worker_report());
	done bigint := 0;
	prefix text := webhook_events_internal.new_id();
BEGIN
	WHILE clock_timestamp() < finish LOOP
		done := (SELECT delivered FROM webhook_events_internal.worker_report()) - before;
		IF added - done < 30000 THEN
			INSERT INTO actor_runs (id, actor_id) SELECT prefix || nextval('s'), 'a' FROM generate_series(1, 10000);
			added := added + 10000;
			INSERT INTO samples VALUES (clock_timestamp(), done);
		ELSE
			PERFORM pg_sleep(0.01);
		END IF;
		COMMIT;
	END LOOP;
END \$\$;
WITH b AS (SELECT min(at) AS first, max(at) AS last FROM samples)
SELECT width_bucket(extract(epoch FROM at - first), 0, extract(epoch FROM last - first)::numeric + 0.001, 10) AS tenth,
	(max(delivered) - min(delivered)) / nullif(extract(epoch FROM max(at) - min(at)), 0)
FROM samples, b GROUP BY tenth ORDER BY tenth;
SQL
	wait_for($node, 'SELECT events_waiting = 0 FROM webhook_events.status()');
	return map { $_->[1] || () } @samples;
}

# A server with both transactions and one without, in turns of a tenth of the time, so
# that each tenth has a reference of its own.
sub old_transaction
{
	with_nodes("max_wal_size = 2GB\n", sub {
		my ($old, $free) = @_;
		my $nginx = start_nginx() or return;
		my $slice = int($scale{old_seconds} / 10) || 1;
		my (@rates, @base);

		foreach my $node ($old, $free)
		{
			create_webhook($node, $nginx->{url}, $created, actor_id => "'a'");
			full_rate($node, 3);
		}
		sql($old, 'CREATE TABLE other (i int)');
		my ($reader, $writer) = map { $old->background_psql('postgres') } 1, 2;

		$reader->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM actor_runs;');
		$writer->query_safe('BEGIN; INSERT INTO other VALUES (1);');
		foreach my $turn (1 .. 10)
		{
			progress("old transaction: $slice s each, turn $turn of 10");
			push @base, median(full_rate($free, $slice));
			push @rates, median(full_rate($old, $slice));
		}
		$_->quit foreach $reader, $writer;
		compare_turns('full rate for ' . 10 * $slice . ' s, both open', \@rates, 'without', \@base, '>= 0.9');
		my ($first, $last) = map { median(map { $rates[$_] / $base[$_] } @$_) } [ 0 .. 2 ], [ 7 .. 9 ];
		result(what => '  the ratio in the last three tenths of the time', figure => sprintf('%.3f', $last),
			reference => sprintf('in the first %.3f', $first), number => $last / $first, bar => '>= 0.95');
		stop_nginx($nginx);
	}, qw(old free));
	return;
}

# Live events while many past ones are sent again.
sub replay
{
	with_node('replay', '', sub {
		my $node = shift;
		my $nginx = start_nginx() or return;
		my $sink = start_sink('ok');
		my $events = $scale{events};
		my $live = sub { commit_times($node, $_[0], $scale{samples} / 2, 100, 'live', 1) };

		sql($node, "INSERT INTO actor_runs (id, actor_id) SELECT i, 'past' FROM generate_series(1, $events) AS i");
		create_webhook($node, $sink->{url}{ok} . 'live', $created, actor_id => "'live'");
		my $other = create_webhook($node, $nginx->{url}, $created, actor_id => "'past'");
		my $same = create_webhook($node, $sink->{url}{ok}, $created, actor_id => "'past'");
		wait_for_sql($node, 'SELECT events_waiting FROM webhook_events.status()', 0);
		my $alone = $live->('a');
		my ($count, $seconds) = split /\n/, sql($node, <<"SQL");
SELECT clock_timestamp() AS started \\gset
SELECT webhook_events.replay('$other', now() - interval '1 day');
SELECT extract(epoch FROM clock_timestamp() - :'started');
SQL
		result(what => "replay() of $count events", figure => sprintf('%.2f s', $seconds));
		my $beside = $live->('b');
		wait_for($node, 'SELECT dispatches_active = 0 FROM webhook_events.status()');
		sql($node, "SELECT webhook_events.replay('$same', now() - interval '1 day')");
		my $together = $live->('c');
		sleep 0.5;
		my $arrivals = stop_sink($sink);
		report_delays('live events, nothing else', (delays($alone, $arrivals))[1]);
		report_delays('  while another host gets the past', (delays($beside, $arrivals))[1]);
		report_delays('  while the same host does', (delays($together, $arrivals))[1]);
		stop_nginx($nginx);
	});
	return;
}

1;
