# neighbours.pm
#	  What healthy endpoints notice of bad ones.

package parts::neighbours;

use strict;
use warnings;

use Bench;
use IPC::Run ();
use PostgreSQL::Test::Utils;
use Time::HiRes qw(sleep time);
use WebhookEvents::Node;

my $created = 'ACTOR.RUN.CREATED';

# Arrivals a second of the ids that match, until nearly all are there.
sub arrival_rate
{
	my ($arrivals, $pattern) = @_;
	my @at = sort { $a <=> $b } map { $arrivals->{$_} } grep { /$pattern/ } keys %$arrivals;

	return @at / (($at[-1] - $at[0]) / 1e9);
}

sub create_all
{
	my ($node, $sink) = @_;

	create_webhook($node, $sink->{url}{$_}, $created, actor_id => "'$_'") foreach qw(ok slow hang reset);
	return;
}

# Lets go of what waits for the bad ones, so that each round begins alike.
sub forget_waiting
{
	my $node = shift;
	my $bad = "FROM webhook_events.webhooks WHERE actor_id <> 'ok'";

	sql($node, "SELECT webhook_events.disable_webhook(id) $bad");
	wait_for($node, 'SELECT dispatches_active = in_flight FROM webhook_events.status()');
	sql($node, "SELECT webhook_events.enable_webhook(id) $bad");
	return;
}

# Of a hundred events one goes to an endpoint that hangs, one to one that resets,
# and ten to a slow one.
my $mixture = join ',', 'hang', 'reset', ('slow', ('ok') x 8) x 10, ('ok') x 8;

sub neighbours
{
	with_node('neighbours', "webhook_events.request_timeout = '10s'\n", sub {
		my $node = shift;
		my $sink = start_sink(qw(ok slow hang reset));
		my $events = $scale{turn_events};
		my $healthy = int $events * 0.88;
		my %rate;

		create_all($node, $sink);
		commit_times($node, 'w', 100, 100, 'ok', 1);
		progress('neighbours: delays at 1000 events a second');
		my $alone = commit_times($node, 'alone', $scale{load_events} * 0.88, 880, 'ok', 4);
		my $mixed = commit_times($node, 'mixed', $scale{load_events}, 1000, $mixture, 4);
		my @cases = ([ 'A', $healthy, "'ok'" ],
			[ 'B', $events, "CASE WHEN i % 100 = 0 THEN 'hang' WHEN i % 100 = 50 THEN 'reset'"
				. " WHEN i % 10 = 1 THEN 'slow' ELSE 'ok' END" ]);
		foreach my $round (1 .. $scale{drain_turns})
		{
			progress("neighbours: turn $round of $scale{drain_turns}");
			foreach my $case ($round % 2 ? @cases : reverse @cases)
			{
				my ($name, $count, $actor) = @$case;
				my $prefix = "$name$round";

				forget_waiting($node);
				sql($node, "SELECT webhook_events.pause('benchmark');"
					. "INSERT INTO actor_runs (id, actor_id) SELECT '$prefix-' || CASE WHEN $actor = 'ok' THEN 'h' ELSE 'b' END || i,"
					. " $actor FROM generate_series(1, $count) AS i; SELECT webhook_events.resume()");
				wait_for_arrivals($sink, "^$prefix-h", $healthy);
			}
		}
		sleep 1;
		my $arrivals = stop_sink($sink);
		foreach my $round (1 .. $scale{drain_turns})
		{
			push @{ $rate{$_} }, arrival_rate($arrivals, "^$_$round-h") foreach qw(A B);
		}
		compare_turns('healthy part of a drain', $rate{B}, 'alone', $rate{A}, '>= 0.95');
		my @names = split /,/, $mixture;
		delete @$mixed{ grep { /-(\d+)$/ && $names[ $1 % @names ] ne 'ok' } keys %$mixed };
		my ($with) = (delays($mixed, $arrivals))[1];
		my ($without) = (delays($alone, $arrivals))[1];
		die "healthy events are missing\n" if @$with < keys %$mixed;
		foreach my $fraction (0.5, 0.99)
		{
			result(what => sprintf('healthy delay, p%.0f', $fraction * 100),
				figure => sprintf('%.2f ms', percentile($fraction, @$with)),
				reference => sprintf('alone %.2f ms', percentile($fraction, @$without)),
				number => percentile($fraction, @$with) / percentile($fraction, @$without),
				bar => $fraction > 0.5 ? '<= 2' : undef);
		}
	});
	return;
}

# Events of a few megabytes, one committed every so often, for so many seconds.
sub add_big_events
{
	my ($node, $name, $seconds, $megabytes) = @_;

	return IPC::Run::start([ 'psql', '-Xqd', $node->connstr('postgres'), '-c', "CALL add_big('$name', $seconds, $megabytes)" ], '<', \undef);
}

# Small events while big ones go to another host; big ones cost what adds them a
# multiple of what they cost the worker, so they are few.
sub big
{
	with_node('big', "webhook_events.payload_limit = '8MB'\n", sub {
		my $node = shift;
		my $small = start_sink('ok');
		my $large = start_sink('ok');
		my ($seconds, $rate) = ($scale{big_seconds}, 500);
		my (%times, @ratios);

		create_webhook($node, $small->{url}{ok}, $created, actor_id => "'ok'");
		create_webhook($node, $large->{url}{ok}, $created, actor_id => "'big'");
		sql($node, <<'SQL');
ALTER TABLE actor_runs ADD COLUMN output text;
SELECT webhook_events.attach('actor_runs');
CREATE PROCEDURE add_big(name text, seconds integer, megabytes integer) LANGUAGE plpgsql AS $$
DECLARE
	until timestamptz := clock_timestamp() + seconds * interval '1 second';
	value text := (SELECT left(string_agg('{"n": ' || i || ', "isDone": false, "text": "' || md5(i::text) || '"}', ', '), 1048576)
		FROM generate_series(1, 15000) AS i);
	n integer := 0;
BEGIN
	WHILE clock_timestamp() < until LOOP
		n := n + 1;
		INSERT INTO actor_runs (id, actor_id, output) VALUES (name || n, 'big', repeat(value, megabytes));
		COMMIT;
		PERFORM pg_sleep(0.1);
	END LOOP;
END $$;
SQL
		commit_times($node, 'w', 100, 100, 'ok', 1);
		foreach my $turn (1 .. $scale{big_turns})
		{
			foreach my $megabytes (0, 1, 5)
			{
				my $name = "$megabytes-$turn-";
				my $beside = $megabytes ? add_big_events($node, "big$name", $seconds, $megabytes) : undef;

				progress("big: turn $turn of $scale{big_turns}, $megabytes MB");
				$times{$name} = commit_times($node, $name, $seconds * $rate, $rate, 'ok', 2);
				$beside->finish if $beside;
				wait_for($node, 'SELECT events_waiting = 0 AND dispatches_active = 0 FROM webhook_events.status()');
			}
		}
		sleep 1;
		my $arrivals = stop_sink($small);
		my $arrived = stop_sink($large);
		foreach my $megabytes (1, 5)
		{
			my (@with, @without);

			foreach my $turn (1 .. $scale{big_turns})
			{
				push @with, percentile(0.99, @{ (delays($times{"$megabytes-$turn-"}, $arrivals))[1] });
				push @without, percentile(0.99, @{ (delays($times{"0-$turn-"}, $arrivals))[1] });
			}
			result(what => "small events beside those of $megabytes MB, p99", figure => sprintf('%.2f ms', median(@with)),
				reference => sprintf('alone %.2f ms', median(@without)),
				number => median(map { $with[$_] / $without[$_] } 0 .. $#with), bar => '<= 5');
		}
		note(scalar(grep { /big/ } keys %$arrived) . ' big events arrived');
	});
	return;
}

# Dispatches a second while so many of those that wait are delivered.
sub part_of_backlog
{
	my ($node, $count) = @_;
	my ($seconds) = drain($node, $count);

	sql($node, "SELECT webhook_events.pause('benchmark')");
	wait_for($node, 'SELECT in_flight = 0 FROM webhook_events_internal.worker_report()');
	return $count / $seconds;
}

# Waits until so many requests of the ids that match are in a sink's log.
sub wait_for_arrivals
{
	my ($sink, $pattern, $count) = @_;
	my $deadline = time + 120;

	while (1)
	{
		my ($seen) = `grep -c '$pattern' $sink->{log}`;

		return if $seen >= $count;
		die "only $seen of $count events arrived\n" if time > $deadline;
		sleep 0.5;
	}
}

# The worker's own memory, in megabytes.
sub memory
{
	my $node = shift;
	my ($kilobytes) = slurp_file('/proc/' . worker_pid($node) . '/status') =~ /RssAnon:\s+(\d+)/;

	return $kilobytes / 1024;
}

sub backlog
{
	with_nodes("webhook_events.retry_delay = '1h'\nwebhook_events.request_timeout = '10s'\n", sub {
		my ($node, $empty) = @_;
		my $nginx = start_nginx() or return;
		my $count = $scale{backlog};
		my $dead = start_sink('hang');
		my @memory;

		foreach ($node, $empty)
		{
			create_webhook($_, $nginx->{url}, $created, actor_id => "'a'");
			drain_rates($_, 2000, 1, "'a'");
		}
		create_webhook($node, $dead->{url}{hang}, $created, actor_id => "'dead'");
		progress("backlog: adding $count events for a dead endpoint");
		add_events($node, $count, "'dead'");
		sql($node, 'SELECT webhook_events.resume()');
		wait_for($node, 'SELECT events_waiting = 0 FROM webhook_events.status()');
		sql($node, 'CHECKPOINT');
		push @memory, memory($node);
		result(what => 'waiting for a dead endpoint', figure => sql($node,
				'SELECT dispatches_active FROM webhook_events.status()'));
		my ($rates, $base) = drains_in_turns([ $node, 1 ], [ $empty, 1 ]);
		push @memory, memory($node);
		compare_turns('live events beside it', $rates, 'without', $base, '>= 0.95');
		progress('backlog: the endpoint is back');
		stop_sink($dead);
		sql($node, "SELECT webhook_events.pause('benchmark')");
		my $back = start_nginx(port => $dead->{port}{hang});
		my (@backlog, @drain);
		foreach my $turn (1 .. $scale{drain_turns})
		{
			push @drain, drain_rates($empty, $scale{turn_events}, 1, "'a'");
			push @backlog, part_of_backlog($node, $scale{turn_events});
			push @memory, memory($node);
		}
		compare_turns('the backlog when it is back', \@backlog, 'drain', \@drain, '>= 0.9');
		my $largest = percentile(1, @memory);
		result(what => "worker's own memory, at most", figure => sprintf('%.1f MB', $largest),
			number => $largest, bar => '<= 64');
		stop_nginx($_) foreach $nginx, $back;
	}, qw(backlog empty));
	return;
}

1;
