# tier.pm
#	  A delivery tier: what is written to one server is recorded and sent by another,
#	  beside one server that does all of it.

package parts::tier;

use strict;
use warnings;

use Bench;
use PostgreSQL::Test::Utils;
use Time::HiRes qw(time);
use WebhookEvents::Node;
use WebhookEvents::Tier qw(publish_platform subscribe);

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

# Runs a second that one server takes and the other one, or the same, has sent: written
# by transactions of $batch, until the last answer.
sub rate
{
	my ($writer, $sender, $prefix, $count) = @_;
	my $before = sql($sender, 'SELECT delivered + failed FROM webhook_events_internal.worker_report()');
	my $started = time;

	sql($writer, <<"SQL");
DO \$\$
BEGIN
	FOR i IN 1 .. $count / $batch LOOP
		INSERT INTO actor_runs (id, actor_id) SELECT '$prefix-' || i || '-' || j, 'a' FROM generate_series(1, $batch) AS j;
		COMMIT;
	END LOOP;
END \$\$;
SQL
	sql($sender, "CALL wait_delivered($before + $count)");
	return $count / (time - $started);
}

sub tier
{
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
		my @delays = map {
			my (undef, $returned) = delays($_, $arrivals);
			my $missing = keys(%$_) - @$returned;

			die "$missing events did not arrive\n" if $missing;
			$returned;
		} @times;
		foreach my $case ([ 0.5, 'p50' ], [ 0.99, 'p99' ])
		{
			my ($fraction, $name) = @$case;
			my ($alone, $by_tier) = map { percentile($fraction, @$_) } @delays;

			result(what => "idle, from COMMIT's return to arrival by way of a tier, $name", figure => sprintf('%.2f ms', $by_tier),
				reference => sprintf('one server %.2f ms', $alone), number => $by_tier / $alone);
		}
		stop_nginx($nginx);
	}, qw(one platform tier));
	return;
}

1;
