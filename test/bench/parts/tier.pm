# tier.pm
#	  A delivery tier: what is written to one server is recorded and sent by another,
#	  beside one server that does all of it; and the same on Citus, with one node and with
#	  three, where the server has it.

package parts::tier;

use strict;
use warnings;

use Bench;
use PostgreSQL::Test::Utils;
use Time::HiRes qw(time);
use WebhookEvents::Node;
use WebhookEvents::Tier qw(publish_platform publish_webhooks subscribe);

my $created = 'ACTOR.RUN.CREATED';
my $batch = 500;    # runs of a transaction

# The steps of src/doc/scale-out.md.
sub connect_tier
{
	my ($platform, $tier) = @_;

	sql($platform, "SELECT webhook_events.detach('actor_runs'), webhook_events.detach('actor_builds')");
	publish_platform($platform, 'platform', 'actor_runs');
	sql($tier, "SELECT webhook_events.attach('actor_runs', on_replica => true)");
	subscribe($tier, 'tier', $platform, 'platform');
	wait_for($tier, "SELECT count(*) = 2 AND bool_and(srsubstate = 'r') FROM pg_subscription_rel");
	return;
}

# Writes runs by transactions of $batch.
sub write_runs
{
	my ($node, $prefix, $count) = @_;

	sql($node, <<"SQL");
DO \$\$
BEGIN
	FOR i IN 1 .. $count / $batch LOOP
		INSERT INTO actor_runs (id, actor_id) SELECT '$prefix-' || i || '-' || j, 'a' FROM generate_series(1, $batch) AS j;
		COMMIT;
	END LOOP;
END \$\$;
SQL
	return;
}

# Runs a second that one server takes and the other one, or the same, has sent, until the
# last answer.
sub rate
{
	my ($writer, $sender, $prefix, $count) = @_;
	my $before = done($sender);
	my $started = time;

	write_runs($writer, $prefix, $count);
	sql($sender, "CALL wait_delivered($before + $count)");
	return $count / (time - $started);
}

# How many dispatches have ended on a server.
sub done
{
	my ($node) = @_;

	return sql($node, 'SELECT delivered + failed FROM webhook_events_internal.worker_report()');
}

# Milliseconds from COMMIT's return to arrival, of commits on an idle server.
sub report_delays
{
	my ($what, $name, $times, $reference, $arrivals) = @_;
	my @delays = map {
		my (undef, $returned) = delays($_, $arrivals);
		my $missing = keys(%$_) - @$returned;

		die "$missing events did not arrive\n" if $missing;
		$returned;
	} $times, $reference;

	foreach my $case ([ 0.5, 'p50' ], [ 0.99, 'p99' ])
	{
		my ($fraction, $percentile) = @$case;
		my ($figure, $other) = map { percentile($fraction, @$_) } @delays;

		result(what => "idle, from COMMIT's return to arrival $what, $percentile", figure => sprintf('%.2f ms', $figure),
			reference => sprintf('%s %.2f ms', $name, $other), number => $figure / $other);
	}
	return;
}

sub tier
{
	my $has_citus;

	with_nodes("wal_level = logical\nmax_wal_senders = 10\nmax_replication_slots = 10\n", sub {
		my ($one, $platform, $tier) = @_;
		my @cases = ([ $one, $one ], [ $platform, $tier ]);
		my $nginx = start_nginx() or return;
		my $sink = start_sink('ok');
		my @rates = ([], []);
		my @times;

		connect_tier($platform, $tier);
		foreach my $node ($one, $platform)
		{
			create_webhook($node, $nginx->{url}, $created, actor_id => "'a'");
			create_webhook($node, $sink->{url}{ok}, $created, actor_id => "'live'");
		}
		wait_for($tier, 'SELECT count(*) = 2 FROM webhook_events.webhooks');
		rate(@$_, 'w', 5000) foreach @cases;
		foreach my $turn (1 .. $scale{drain_turns})
		{
			progress("tier: turn $turn of $scale{drain_turns}");
			foreach my $i ($turn % 2 ? (0, 1) : (1, 0))
			{
				push @{ $rates[$i] }, rate(@{ $cases[$i] }, "t$turn", $scale{turn_events});
			}
		}
		progress("tier: $scale{samples} commits on an idle system");
		foreach my $i (0, 1)
		{
			commit_times($cases[$i][0], "x$i-", 100, 100, 'live', 1);
			$times[$i] = commit_times($cases[$i][0], "i$i-", $scale{samples}, 100, 'live', 1);
		}
		# The last ones may be on their way.
		wait_for($tier, 'SELECT events_waiting = 0 AND dispatches_active = 0 AND in_flight = 0 AND (SELECT count(*) FROM actor_runs) = '
			  . sql($platform, 'SELECT count(*) FROM actor_runs') . ' FROM webhook_events.status()');
		my $arrivals = stop_sink($sink);
		compare_turns("$scale{turn_events} runs written and delivered by way of a tier", $rates[1], 'by one server', $rates[0]);
		report_delays('by way of a tier', 'one server', $times[1], $times[0], $arrivals);
		stop_nginx($nginx);
		$has_citus = sql($one, "SELECT count(*) > 0 FROM pg_available_extensions WHERE name = 'citus'") eq 't';
	}, qw(one platform tier));
	if ($has_citus)
	{
		citus();
	}
	else
	{
		note('Citus skipped: the server has none, and Debian no package of it');
	}
	return;
}

# The steps of src/doc/scale-out.md on a coordinator, whose shards lie on these nodes, or on
# itself.
sub connect_citus
{
	my ($coordinator, @nodes) = @_;
	my $where = @nodes ? 'false' : 'true';

	foreach my $node ($coordinator, @nodes)
	{
		sql($node, 'DROP EXTENSION webhook_events CASCADE; CREATE EXTENSION citus');
		sql($node, 'DROP TABLE actor_runs, actor_builds') if $node != $coordinator;
	}
	sql($coordinator, "SELECT citus_set_coordinator_host('127.0.0.1', " . $coordinator->port . ')');
	sql($coordinator, "SELECT citus_set_node_property('127.0.0.1', " . $coordinator->port . ", 'shouldhaveshards', $where)");
	sql($coordinator, "SELECT citus_add_node('127.0.0.1', " . $_->port . ')') foreach @nodes;
	sql($coordinator, 'CREATE EXTENSION webhook_events');
	sql($coordinator, "SET citus.enable_unsafe_triggers = on; SELECT create_distributed_table('actor_runs', 'id'); SELECT webhook_events.attach('actor_runs')");
	return if !@nodes;
	publish_webhooks($coordinator, 'definitions');
	foreach my $i (0 .. $#nodes)
	{
		subscribe($nodes[$i], "definitions_$i", $coordinator, 'definitions');
		wait_for($nodes[$i], "SELECT bool_and(srsubstate = 'r') FROM pg_subscription_rel");
	}
	return;
}

# How many of the runs that write_runs() will write go to each of these nodes.
sub shares
{
	my ($coordinator, $nodes, $prefix, $count) = @_;

	return map {
		sql($coordinator, "SELECT count(*) FROM generate_series(1, $count / $batch) AS i, generate_series(1, $batch) AS j, citus_shards AS s"
			  . " WHERE s.shardid = get_shard_id_for_distribution_column('actor_runs', '$prefix-' || i || '-' || j) AND s.nodeport = " . $_->port)
	} @$nodes;
}

# Writes runs while they are delivered, then others while delivery is paused and delivers
# these.  Returns the rates, by seconds, and the workers' CPU for each of the second ones in
# microseconds.
sub citus_rates
{
	my ($writer, $nodes, $prefix, $count) = @_;
	my $is_alone = ($writer == $nodes->[0]);
	my @rates;
	my $cpu = 0;

	foreach my $is_paused (0, 1)
	{
		my $name = "$prefix-$is_paused";
		my @share = $is_alone ? ($count) : shares($writer, $nodes, $name, $count);
		my @before = map { done($_) } @$nodes;

		if ($is_paused)
		{
			sql($_, "SELECT webhook_events.pause('benchmark')") foreach @$nodes;
		}
		my $started = time;
		write_runs($writer, $name, $count);
		if ($is_paused)
		{
			$cpu -= worker_cpu($_) foreach @$nodes;
			$started = time;
			sql($writer, $is_alone ? 'SELECT webhook_events.resume()' : "SELECT run_command_on_workers('SELECT webhook_events.resume()')");
		}
		sql($nodes->[$_], "CALL wait_delivered($before[$_] + $share[$_])") foreach 0 .. $#$nodes;
		push @rates, $count / (time - $started);
	}
	$cpu += worker_cpu($_) foreach @$nodes;
	return (@rates, $cpu / 1e3 / $count);
}

# One server without Citus, one with all shards on itself, and three under a coordinator.
sub citus
{
	my $conf = <<'CONF';
shared_preload_libraries = 'citus,webhook_events'
listen_addresses = '127.0.0.1'
wal_level = logical
max_wal_senders = 20
max_replication_slots = 20
max_worker_processes = 20
max_logical_replication_workers = 8
max_prepared_transactions = 100
max_connections = 200
citus.node_conninfo = 'sslmode=disable'
citus.shard_count = 12
citus.enable_statistics_collection = off
CONF
	with_nodes($conf, sub {
		my ($one, $alone, $coordinator, @nodes) = @_;
		my @cases = ([ 'one server', $one, $one ], [ 'one Citus node', $alone, $alone ], [ 'three Citus nodes', $coordinator, @nodes ]);
		my $nginx = start_nginx() or return;
		my $sink = start_sink('ok');
		my (@written, @drained, @cpu, @times);

		connect_citus($alone);
		connect_citus($coordinator, @nodes);
		foreach my $case (@cases)
		{
			create_webhook($case->[1], $nginx->{url}, $created, actor_id => "'a'");
			create_webhook($case->[1], $sink->{url}{ok}, $created, actor_id => "'live'");
			foreach my $node (@$case[ 2 .. $#$case ])
			{
				wait_for($node, 'SELECT count(*) = 2 FROM webhook_events.webhooks');
				wait_for($node, 'SELECT running AND reason IS NULL FROM webhook_events.status()');
			}
		}
		foreach my $turn (0 .. $scale{drain_turns})
		{
			progress("Citus: turn $turn of $scale{drain_turns}");
			foreach my $i ($turn % 2 ? (0, 1, 2) : (2, 1, 0))
			{
				my (undef, $writer, @senders) = @{ $cases[$i] };
				my @figures = citus_rates($writer, \@senders, "t$turn", $scale{turn_events});

				next if $turn == 0;
				push @{ $written[$i] }, $figures[0];
				push @{ $drained[$i] }, $figures[1];
				push @{ $cpu[$i] }, $figures[2];
			}
		}
		progress("Citus: $scale{samples} commits on an idle system");
		foreach my $i (0 .. $#cases)
		{
			commit_times($cases[$i][1], "x$i-", 100, 100, 'live', 1);
			$times[$i] = commit_times($cases[$i][1], "i$i-", $scale{samples}, 100, 'live', 1);
		}
		foreach my $case (@cases)
		{
			wait_for($_, 'SELECT events_waiting = 0 AND dispatches_active = 0 AND in_flight = 0 FROM webhook_events.status()')
			  foreach @$case[ 2 .. $#$case ];
		}
		my $arrivals = stop_sink($sink);
		foreach my $i (1, 2)
		{
			my $by = "by $cases[$i][0]";

			compare_turns("$scale{turn_events} runs written and delivered $by", $written[$i], 'one server', $written[0]);
			compare_turns("$scale{turn_events} runs that waited, delivered $by", $drained[$i], 'one server', $drained[0]);
			result(what => "workers' CPU for each, $by", figure => sprintf('%.1f us', median(@{ $cpu[$i] })),
				reference => sprintf('one server %.1f us', median(@{ $cpu[0] })),
				number => median(map { $cpu[$i][$_] / $cpu[0][$_] } 0 .. $#{ $cpu[0] }));
			report_delays($by, 'one server', $times[$i], $times[0], $arrivals);
		}
		stop_nginx($nginx);
	}, qw(one_server one_node coordinator node_1 node_2 node_3));
	return;
}

1;
