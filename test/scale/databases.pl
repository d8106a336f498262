# databases.pl
#	  Two hundred databases with max_worker_processes = 8: how long events wait, how long
#	  they do while endpoints hang, and what idle databases cost.
#
# By hand, since it takes minutes and tells figures:
#
#	  make test-tap PROVE_TESTS=test/scale/databases.pl PROVE_FLAGS=-v
#
# TEST_DATABASES and TEST_SECONDS (for which an idle server is watched) change its size.

use strict;
use warnings;
use List::Util qw(max shuffle sum);
use POSIX qw(sysconf _SC_CLK_TCK);
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep time);
use WebhookEvents::Node;
use WebhookEvents::Receiver;

my $ndatabases = $ENV{TEST_DATABASES} // 200;
my $seconds = $ENV{TEST_SECONDS} // 60;
my $receiver = WebhookEvents::Receiver->new;
my $node = new_node('databases', conf => <<'CONF');
webhook_events.lending_patience = '2s'
max_worker_processes = 8
autovacuum = off
log_statement = none
CONF
my @names = map { "db$_" } 1 .. $ndatabases;

create_platform($node, 'postgres');
$node->safe_psql('postgres', 'CREATE DATABASE template_platform');
create_platform($node, 'template_platform');
$node->safe_psql('postgres', "CREATE DATABASE $_ TEMPLATE template_platform") foreach @names;
$node->safe_psql('postgres', 'DROP DATABASE template_platform');
foreach my $name (@names)
{
	$node->safe_psql($name, 'SELECT webhook_events.resume(); SELECT webhook_events.create_webhook(' . "'" . $receiver->url("/ok?$name")
		  . "', '{ACTOR.RUN.CREATED}')");
}

my %inserted;
my $round = 0;

# An event of each of these databases, so many seconds apart.
sub insert_all
{
	my ($pause, @databases) = @_;

	$round++;
	%inserted = ();
	foreach my $name (@databases)
	{
		$node->safe_psql($name, "INSERT INTO actor_runs (id) VALUES ('$round')");
		$inserted{$name} = time;
		sleep $pause;
	}
	return;
}

# The delays of all of them, in s, the longest one last.
sub delays
{
	my %at;

	wait_until
	{
		%at = ();
		foreach my $request ($receiver->requests)
		{
			my ($name) = $request->{target} =~ /\?(db\d+)$/;

			$at{$name} = $request->{at} if defined $name && $request->{body} =~ /"actorRunId":"$round"/;
		}
		keys %at == keys %inserted;
	}
	"the events of round $round";
	return sort { $a <=> $b } map { max(0, $at{$_} - $inserted{$_}) } keys %at;
}

sub check_delays
{
	my ($what, @delays) = @_;

	note(sprintf '%s: median %.2f s, 95 %% within %.2f s, longest %.2f s', $what, $delays[ @delays / 2 ], $delays[ @delays * 0.95 ], $delays[-1]);
	cmp_ok($delays[-1], '<', 5, "$what: none waits for 5 s");
	return;
}

# Processor time of the server with all that has ended below it, in s.
sub cpu
{
	my ($pid) = split /\n/, slurp_file($node->data_dir . '/postmaster.pid');
	my @live = split /\n/, $node->safe_psql('postgres', "SELECT pid FROM pg_stat_activity WHERE backend_type LIKE 'webhook_events%'");
	my $ticks = 0;

	foreach my $process ($pid, @live)
	{
		my $stat = eval { slurp_file("/proc/$process/stat") } // next;
		my @fields = split / /, $stat =~ s/.*\) //sr;

		# utime and stime; of the postmaster also its children's.
		$ticks += sum(@fields[ $process == $pid ? (11 .. 14) : (11, 12) ]);
	}
	return $ticks / sysconf(_SC_CLK_TCK);
}

insert_all(0, shuffle @names);
delays();
insert_all(0.1, shuffle @names);
check_delays('events of one database after the other', delays());
insert_all(0, shuffle @names);
check_delays('events of all databases at once', delays());

# More endpoints that hang than there are workers, each of which one keeps until somebody
# has waited for lending_patience.
my @hanging = @names[ 0 .. 5 ];
foreach my $name (@hanging)
{
	$node->safe_psql($name, 'SELECT webhook_events.create_webhook(' . "'" . $receiver->url("/hang?$name") . "', '{ACTOR.RUN.CREATED}', actor_id => 'hang');"
		  . "INSERT INTO actor_runs (id, actor_id) VALUES ('hang', 'hang')");
}
insert_all(0.1, shuffle @names[ 6 .. $#names ]);
check_delays('beside endpoints that hang', delays());

$node->safe_psql($_, "SELECT webhook_events.delete_webhook(id) FROM webhook_events.webhooks WHERE actor_id = 'hang'") foreach @hanging;

is($node->safe_psql($names[-1], 'SELECT running AND reason IS NULL FROM webhook_events.status()'), 't', 'status() is green');

my $before = cpu();
sleep $seconds;
my $share = (cpu() - $before) / $seconds * 100;
note(sprintf 'idle: %.2f %% of a core for %d databases, over %d s', $share, $ndatabases, $seconds);
cmp_ok($share, '<', 1, 'idle databases take less than 1 % of a core');

$node->stop;
done_testing();
