# upkeep.pm
#	  What the worker costs when nothing happens, and what a crash costs.

package parts::upkeep;

use strict;
use warnings;

use Bench;
use Cwd qw(abs_path);
use File::Basename qw(dirname);
use PostgreSQL::Test::Utils;
use Time::HiRes qw(sleep);
use WebhookEvents::Node;

my $here = abs_path(dirname(__FILE__));

# Records of WAL between two places, but for those with which PostgreSQL's own
# background writer tells standbys of running transactions.
sub wal_records
{
	my ($node, $from, $to) = @_;

	return () if $from eq $to;
	my $path = $node->data_dir . '/pg_wal';

	return grep { /^rmgr: (?!Standby)/ } split /\n/, `pg_waldump -p $path -s $from -e $to 2>/dev/null`;
}

sub idle
{
	with_node('idle', '', sub {
		my $node = shift;
		my $sink = start_sink('ok');

		create_webhook($node, $sink->{url}{ok}, 'ACTOR.RUN.CREATED');
		commit_times($node, 'w', 100, 100, 'live', 1);
		sleep 1;
		sql($node, 'CHECKPOINT');
		sleep 32 if $scale{idle_seconds} >= 60;    # statistics are summed up once more
		# What looks in the end looks once now: it can tidy up pages of catalogs.
		my $look = "SELECT pg_current_wal_insert_lsn(),"
		  . " count(*) FILTER (WHERE xact_start IS NOT NULL OR backend_xmin IS NOT NULL)"
		  . " FROM pg_stat_activity WHERE pid = (SELECT worker_pid FROM webhook_events.status())";
		sql($node, $look);
		my ($lsn) = split /[|]/, sql($node, $look);
		my $cpu = worker_cpu($node);
		progress("idle: $scale{idle_seconds} s");
		sleep $scale{idle_seconds};
		$cpu = worker_cpu($node) - $cpu;
		my ($end, $open) = split /[|]/, sql($node, $look);
		my @records = wal_records($node, $lsn, $end);

		result(what => "CPU of $scale{idle_seconds} s idle, of a core", figure => sprintf('%.3f %%',
				$cpu / 1e7 / $scale{idle_seconds}),
			number => $cpu / 1e7 / $scale{idle_seconds}, bar => '< 0.1');
		result(what => '  WAL records written', figure => scalar @records, number => scalar @records, bar => '<= 0');
		note($_) foreach @records;
		result(what => '  transactions open', figure => $open, number => $open, bar => '<= 0');
		stop_sink($sink);
	});
	return;
}

sub crash
{
	local $ENV{ROWS} = 20000;
	my $log = run_tool('prove', '-v', "$here/../../t/021_crash.pl");

	note($_) foreach $log =~ /^# (\d.*)/mg;
	return;
}

1;
