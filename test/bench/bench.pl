# bench.pl
#	  Measures what the extension costs and how fast it delivers: "make bench".
#
# Usage: bench.pl [--mode=quick|full] [--output=DIRECTORY] [--set=NAME=NUMBER] [PART]...
#
# Figures stand beside their references, which are measured in the same run on the
# same machine, as a rule in turns; shown are medians.  Quick mode makes everything
# smaller and takes about three minutes; its figures are noisier, and what needs
# size (webhooks, history, old transactions, backlogs) it only hints at.  Each part has
# a deadline of its own, and none goes on when the time of its mode is up.
#
# --set=events=50000 changes one of the sizes that are in %modes below.
#
# In the directory are written RESULTS.md, which ends with notes.md from beside this
# file, and, if there is a gnuplot, chart.svg and one chart for each part that has figures
# by time, such as soak.svg.

use strict;
use warnings;

use Cwd qw(abs_path);
use File::Basename qw(dirname);
use Getopt::Long;
use POSIX qw(strftime);
use Time::HiRes qw(time);

use lib abs_path(dirname(__FILE__));
BEGIN { $ENV{PG_TEST_TIMEOUT_DEFAULT} //= 3600; }    # of sessions that are held open
use Bench;
use parts::delivery;
use parts::growth;
use parts::neighbours;
use parts::tier;
use parts::upkeep;
use parts::writes;

my $here = abs_path(dirname(__FILE__));
my @order = (
	[ transition => \&parts::writes::transition ],
	[ life => \&parts::writes::life ],
	[ heartbeat => \&parts::writes::heartbeat ],
	[ drain => \&parts::delivery::drain_part ],
	[ ordering => \&parts::delivery::ordering ],
	[ latency => \&parts::delivery::latency ],
	[ tls => \&parts::delivery::tls ],
	[ ad_hoc => \&parts::delivery::ad_hoc ],
	[ webhooks => \&parts::delivery::webhooks ],
	[ neighbours => \&parts::neighbours::neighbours ],
	[ big => \&parts::neighbours::big ],
	[ backlog => \&parts::neighbours::backlog ],
	[ replay => \&parts::delivery::replay ],
	[ old_transaction => \&parts::delivery::old_transaction ],
	[ history => \&parts::delivery::history ],
	[ history_lookup => \&parts::growth::history_lookup ],
	[ audit => \&parts::growth::audit ],
	[ soak => \&parts::growth::soak ],
	[ tier => \&parts::tier::tier ],
	[ idle => \&parts::upkeep::idle ],
	[ crash => \&parts::upkeep::crash ]);
my %modes = (
	quick => {
		seconds => 170, rounds => 1, turns => 3, drain_turns => 1, turn_events => 20000, events => 20000, samples => 200, ordered_runs => 5000, load_events => 4000,
		webhooks => 10000, ad_hoc_runs => 5000, backlog => 20000, history => 100000, old_seconds => 4, idle_seconds => 5,
		pgbench_seconds => 1, lives => 500, life_turns => 15, client_turns => 3, counted_lives => 60, lookup_events => 5000, audit_events => 50000, audit_turns => 1, soak_history => 50000, soak_waiting => 5000, soak_seconds => 10,
		soak_rate => 500, big_seconds => 3, big_turns => 1, part_seconds => 40
	},
	full => {
		seconds => 5400, rounds => 3, turns => 15, drain_turns => 9, turn_events => 50000, events => 200000, samples => 1000, ordered_runs => 100000, load_events => 40000,
		webhooks => 1000000, ad_hoc_runs => 100000, backlog => 1000000, history => 10000000, old_seconds => 300, idle_seconds => 60,
		pgbench_seconds => 5, lives => 2000, life_turns => 41, client_turns => 5, counted_lives => 500, lookup_events => 1000000, audit_events => 1000000, audit_turns => 5, soak_history => 5000000, soak_waiting => 500000, soak_seconds => 720,
		soak_rate => 2000, big_seconds => 10, big_turns => 9, part_seconds => 1800
	});
my ($mode, $output) = ('quick', '.');
my %set;

GetOptions('mode=s' => \$mode, 'output=s' => \$output, 'set=i' => \%set) && $modes{$mode}
  or die "usage: bench.pl [--mode=quick|full] [--output=DIRECTORY] [--set=NAME=NUMBER] [PART]...\n";
%scale = %{ $modes{$mode} };
$scale{$_} = $set{$_} foreach keys %set;

my %parts = map { @$_ } @order;
my @wanted = @ARGV ? @ARGV : grep { $mode eq 'full' || $_ ne 'crash' } map { $_->[0] } @order;
my $started = time;
my (@skipped, @failed);

foreach my $name (@wanted)
{
	my $run = $parts{$name} or die "unknown part \"$name\"; there are " . join(' ', map { $_->[0] } @order) . "\n";

	my $left = int($started + $scale{seconds} - time);
	my $limit = $left < $scale{part_seconds} ? $left : $scale{part_seconds};

	if ($limit <= 0)
	{
		push @skipped, $name;
		next;
	}
	progress($name);
	Bench::part($name);
	# What never ends must not keep the others from their results.
	local $SIG{ALRM} = sub { die "it was not done after $limit seconds\n" };
	alarm $limit;
	my $ok = eval { $run->(); 1 };
	alarm 0;
	if (!$ok)
	{
		note("failed: $@");
		push @failed, $name;
	}
	write_results();
}
progress('done');
progress("out of time for: @skipped") if @skipped;
draw_chart();
draw_series($_) foreach grep { $_->{rows} } results();
exit(@failed ? 1 : 0);

sub first_line
{
	my ($command) = @_;
	my ($line) = split /\n/, `$command 2>/dev/null`;

	return $line // 'unknown';
}

sub write_results
{
	my @models = `cat /proc/cpuinfo` =~ /^model name\s*:\s*(.*)/mg;
	my $commit = $ENV{COMMIT} || 'unknown';
	my $part = '';

	open(my $file, '>', "$output/RESULTS.md") or die "$output/RESULTS.md: $!\n";
	printf $file "# Results\n\nOf `make bench MODE=%s`, %s, commit %s, %s, on %d cores (%s) with everything on one\nmachine,"
	  . " PostgreSQL's default durability. Each figure stands beside a reference from the same run.\n",
	  $mode, strftime('%Y-%m-%d', gmtime), $commit, first_line('postgres --version'), scalar @models, $models[0];
	foreach my $r (results())
	{
		if ($r->{part} ne $part)
		{
			$part = $r->{part};
			print $file "\n## $part\n\n";
			print $file "| what | figure | reference | ratio or value | bar | |\n|---|---|---|---|---|---|\n"
			  unless defined $r->{note};
		}
		if (defined $r->{note})
		{
			print $file "\n$r->{note}\n";
			next;
		}
		printf $file "| %s | %s | %s | %s | %s | %s |\n", $r->{what} =~ s/^\s+/… /r, $r->{figure}, $r->{reference},
		  defined $r->{number} ? Bench::format_number($r->{number}) : '', $r->{bar}, $r->{verdict};
	}
	if (open(my $notes, '<', "$here/notes.md"))
	{
		print $file "\n", <$notes>;
	}
	close $file;
	return;
}

# One bar for each figure that has a bar to meet: how it compares to that.
sub draw_chart
{
	my @bars = grep { $_->{verdict} && $_->{number} > 0 } results();
	my $height = 80 + 18 * @bars;
	my $data = '';

	return unless @bars;
	foreach my $r (reverse @bars)
	{
		my ($relation, $limit) = split ' ', $r->{bar};
		my $share = $limit == 0 ? 1 : $relation =~ /</ ? $r->{number} / $limit : $limit / $r->{number};

		$data .= sprintf "\"%s: %s\" %.4f\n", $r->{part}, $r->{what} =~ s/^\s+//r, $share;
	}
	plot('chart', $height, <<"GNUPLOT");
set title 'Share of what each bar allows (left of 1 is met; less is better)'
set xrange [0:1.5]
set yrange [-1:*]
set grid x
set arrow from 1, graph 0 to 1, graph 1 nohead lw 2 lc rgb '#aa0000'
set style fill solid 0.7
unset key
\$data << END
${data}END
plot \$data using (\$2 > 1.5 ? 0.75 : \$2/2):0:(\$2 > 1.5 ? 0.75 : \$2/2):(0.4):ytic(1) with boxxyerror lc rgb '#336791'
GNUPLOT
	return;
}

# Figures by time, a panel for each.
sub draw_series
{
	my ($r) = @_;
	my @names = @{ $r->{names} };
	my $script = "unset key\nset multiplot layout " . @names . ",1 margins 0.09,0.98,0.07,0.97 spacing 0,0.035\nset format x ''\n\$data << END\n"
	  . join('', map { join(' ', $_ + 1, @{ $r->{rows}[$_] }) . "\n" } 0 .. $#{ $r->{rows} }) . "END\n";

	foreach my $n (0 .. $#names)
	{
		my ($most) = sort { $b <=> $a } map { $_->[$n] } @{ $r->{rows} };

		$script .= "set format x '%g'\nset xlabel '$r->{unit}'\n" if $n == $#names;
		$script .= sprintf "set title '%s' offset 0,-0.8\nset yrange [0:%g]\nset ytics (0, %g)\n", $names[$n], $most * 1.1 || 1, $most;
		$script .= sprintf "plot \$data using 1:%d with lines lw 1.5 lc rgb '#336791'\n", $n + 2;
	}
	plot($r->{part}, 100 * @names, "${script}unset multiplot\n");
	return;
}

# Has gnuplot draw NAME.svg, if there is a gnuplot.
sub plot
{
	my ($name, $height, $script) = @_;

	return unless grep { -x "$_/gnuplot" } split /:/, $ENV{PATH};
	open(my $gnuplot, '|-', 'gnuplot') or return;
	print $gnuplot "set terminal svg size 900,$height font 'sans-serif,11' background rgb 'white'\nset output '$output/$name.svg'\n$script";
	close $gnuplot;
	return;
}
