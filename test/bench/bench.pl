# bench.pl
#	  Measures what the extension costs and how fast it delivers: "make bench".
#
# Arguments are the parts to run: heartbeat, transition, latency, replay, drain,
# crash (default: all).  Each figure stands beside its reference, measured in turns
# on the same server; shown are medians and their ratio.

use strict;
use warnings;
use Cwd qw(abs_path);
use File::Basename qw(dirname);
use File::Temp qw(tempdir);
use IO::Handle;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Time::HiRes qw(sleep time);
use WebhookEvents::Node;
use WebhookEvents::Receiver;

# PostgreSQL's test library sends standard output to a log.
my $out;
BEGIN { open($out, '>&', \*STDOUT) or die $! }

my $here = abs_path(dirname(__FILE__));
my %parts = (
	heartbeat => \&heartbeat,
	transition => \&transition,
	latency => \&latency,
	replay => \&replay,
	drain => \&drain,
	crash => \&crash);
my @order = qw(heartbeat transition latency replay drain crash);
my $rows = 10000;
my $rounds = 9;
my $active;

sub median
{
	my @sorted = sort { $a <=> $b } @_;

	return $sorted[ $#sorted / 2 ];
}

# A server with PostgreSQL's default durability.
sub new_bench_node
{
	my $name = shift;

	return new_node($name, conf => <<'CONF');
fsync = on
log_statement = none
shared_buffers = 256MB
max_wal_size = 4GB
checkpoint_timeout = 1h
autovacuum = off
CONF
}

# Runs a statement and returns the seconds it took, as the server sees it.
sub seconds_of
{
	my ($node, $sql) = @_;

	return $node->safe_psql('postgres', <<"SQL");
SET client_min_messages = error;
CREATE TEMP TABLE t AS SELECT clock_timestamp() AS started;
$sql;
SELECT extract(epoch FROM clock_timestamp() - started) FROM t;
SQL
}

# Fills tables like actor_runs, one for each name.
sub fill_tables
{
	my ($node, @names) = @_;

	foreach my $name (@names)
	{
		$node->safe_psql('postgres', "CREATE TABLE $name (LIKE actor_runs INCLUDING ALL);"
			  . "INSERT INTO $name (id, actor_id, user_id) SELECT 'run' || i, 'actor', 'user'"
			  . " FROM generate_series(1, $rows) AS i");
	}
	return;
}

# Times one statement on several tables, in turns, and returns medians by table.
sub in_turns
{
	my ($node, $statement, @tables) = @_;
	my %times;

	foreach my $round (0 .. $rounds)
	{
		foreach my $table (@tables)
		{
			my $sql = $statement->($table, $round);

			$node->safe_psql('postgres', "VACUUM $table; CHECKPOINT");
			my $time = seconds_of($node, $sql);
			push @{ $times{$table} }, $time if $round > 0;
		}
	}
	return map { $_ => median(@{ $times{$_} }) } @tables;
}

sub heartbeat
{
	my $node = new_bench_node('heartbeat');

	create_platform($node);
	fill_tables($node, 'bare_runs', 'attached_runs');
	$node->safe_psql('postgres', "SELECT webhook_events.attach('attached_runs')");
	my %bulk = in_turns($node,
		sub { "UPDATE $_[0] SET heartbeat_at = now()" }, 'bare_runs', 'attached_runs');
	my %single = in_turns($node,
		sub { "DO 'BEGIN FOR i IN 1 .. $rows LOOP UPDATE $_[0] SET heartbeat_at = now()"
			  . " WHERE id = ''run'' || i; END LOOP; END'" },
		'bare_runs', 'attached_runs');

	print $out "heartbeat: UPDATE that leaves the status alone, $rows rows, $rounds rounds in turns\n";
	foreach my $case ([ 'in one statement', \%bulk ], [ 'one by one', \%single ])
	{
		my ($what, $median) = @$case;

		printf $out "  %-16s bare %6.2f, attached %6.2f us a row, ratio %.3f\n", $what,
		  (map { $median->{$_} * 1e6 / $rows } 'bare_runs', 'attached_runs'),
		  $median->{attached_runs} / $median->{bare_runs};
	}
	my %tps = transactions_in_turns($node, 'bare_runs', 'attached_runs');

	printf $out "  %-16s bare %6.0f, attached %6.0f a second,  ratio %.3f\n", 'committed, x2',
	  $tps{bare_runs}, $tps{attached_runs}, $tps{bare_runs} / $tps{attached_runs};
	$node->stop;
	return;
}

# Heartbeats of two clients, each one committed: medians of transactions a second.
sub transactions_in_turns
{
	my ($node, @tables) = @_;
	my $directory = tempdir('pgbench_XXXXXX', TMPDIR => 1, CLEANUP => 1);
	my %tps;

	foreach my $table (@tables)
	{
		open(my $script, '>', "$directory/$table") or die $!;
		print $script "\\set i random(1, $rows)\n"
		  . "UPDATE $table SET heartbeat_at = now() WHERE id = 'run' || :i;\n";
		close $script;
	}
	foreach my $round (1 .. 5)
	{
		foreach my $table (@tables)
		{
			my $log = join "\n", run_command([ 'pgbench', '-n', '-M', 'prepared', '-c', 2, '-T', 3,
				'-f', "$directory/$table", '-h', $node->host, '-p', $node->port, 'postgres' ]);

			my ($tps) = $log =~ /tps = ([0-9.]+)/ or die "pgbench failed: $log\n";
			push @{ $tps{$table} }, $tps;
		}
	}
	return map { $_ => median(@{ $tps{$_} }) } @tables;
}

sub transition
{
	my $node = new_bench_node('transition');

	create_platform($node);
	$node->safe_psql('postgres', "SELECT webhook_events.pause('benchmark')");
	fill_tables($node, 'bare_runs', 'attached_runs', 'plpgsql_runs');
	$node->safe_psql('postgres', "SELECT webhook_events.attach('attached_runs')");
	$node->safe_psql('postgres', <<'SQL');
CREATE TABLE plpgsql_outbox (id bigserial PRIMARY KEY, at timestamptz DEFAULT now(),
	kind text, run text, payload jsonb);
CREATE INDEX ON plpgsql_outbox (at);
CREATE FUNCTION record() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO plpgsql_outbox (kind, run, payload) VALUES (NEW.status, NEW.id, to_jsonb(NEW));
	RETURN NULL;
END $$;
CREATE TRIGGER record AFTER UPDATE ON plpgsql_runs FOR EACH ROW
	WHEN (OLD.status IS DISTINCT FROM NEW.status) EXECUTE FUNCTION record();
SQL
	my %median = in_turns($node,
		sub { "UPDATE $_[0] SET status = '" . ($_[1] % 2 ? 'SUCCEEDED' : 'FAILED') . "'" },
		'bare_runs', 'attached_runs', 'plpgsql_runs');
	my %added = map { $_ => ($median{$_} - $median{bare_runs}) * 1e6 / $rows } keys %median;
	printf $out "transition: UPDATE of %d rows to another status, %d rounds in turns\n", $rows, $rounds;
	printf $out "  bare table                      %7.2f us a row\n", $median{bare_runs} * 1e6 / $rows;
	printf $out "  attached                       +%7.2f us a row\n", $added{attached_runs};
	printf $out "  PL/pgSQL trigger with to_jsonb +%7.2f us a row; attached costs %.2f of it\n",
	  $added{plpgsql_runs}, $added{attached_runs} / $added{plpgsql_runs};
	$node->stop;
	return;
}

sub latency
{
	my $receiver = WebhookEvents::Receiver->new;
	my $node = new_bench_node('latency');

	create_platform($node);
	create_webhook($node, $receiver->url('/ok?live'), 'ACTOR.RUN.CREATED', actor_id => "'live'");
	print $out "latency: from INSERT, its commit included, to the receiver, 300 samples\n";
	print_delays('idle system', sample_delays($node, $receiver, 300));
	$node->stop;
	return;
}

# Inserts runs of the Actor "live", one by one, and returns how long each took to
# arrive, in milliseconds; then $active is how many dispatches waited at the end.
sub sample_delays
{
	my ($node, $receiver, $samples) = @_;
	my $live = qr{live};
	my $earlier = grep { $_->{target} =~ $live } $receiver->requests;

	$node->safe_psql('postgres', <<"SQL");
DO \$\$
BEGIN
	FOR i IN 1 .. $samples LOOP
		INSERT INTO actor_runs (id, actor_id, meta) VALUES (webhook_events.new_id(), 'live',
			jsonb_build_object('at', extract(epoch FROM clock_timestamp())));
		COMMIT;
		PERFORM pg_sleep(0.01);
	END LOOP;
END \$\$;
SQL
	$active = $node->safe_psql('postgres',
		"SELECT count(*) FROM webhook_events.dispatches WHERE status = 'ACTIVE'");
	my @requests = $receiver->wait_for_requests($earlier + $samples, path => $live);
	return map { $_->{body} =~ /"at": ?([0-9.]+)/ ? ($_->{at} - $1) * 1e3 : die "no time in $_->{body}" }
	  @requests[ $earlier .. $#requests ];
}

sub print_delays
{
	my ($what, @delays) = @_;

	@delays = sort { $a <=> $b } @delays;
	printf $out "  %-32s p50 %.2f ms, p90 %.2f ms, p99 %.2f ms\n", $what,
	  map { $delays[ $_ * $#delays ] } 0.5, 0.9, 0.99;
	return;
}

# Live events while many past ones are sent again, to another host and to the
# same one.
sub replay
{
	my ($url, $directory) = start_nginx();
	my $receiver = WebhookEvents::Receiver->new;
	my $node = new_bench_node('replay');
	my $events = $ENV{EVENTS} // 100000;

	if (!defined $url)
	{
		print $out "replay: skipped, there is no nginx (Debian: nginx-light)\n";
		return;
	}
	create_platform($node);
	$node->safe_psql('postgres', "INSERT INTO actor_runs (id, actor_id)"
		  . " SELECT i, 'past' FROM generate_series(1, $events) AS i");
	create_webhook($node, $receiver->url('/ok?live'), 'ACTOR.RUN.CREATED', actor_id => "'live'");
	my $other = create_webhook($node, $url, 'ACTOR.RUN.CREATED', actor_id => "'past'");
	my $same = create_webhook($node, $receiver->url('/ok'), 'ACTOR.RUN.CREATED', actor_id => "'past'");
	wait_for_sql($node, 'SELECT events_waiting FROM webhook_events.status()', 0);

	print $out "replay: live events, as in latency, while $events past ones are sent again\n";
	print_delays('nothing else', sample_delays($node, $receiver, 200));
	my $started = time;
	my $count = $node->safe_psql('postgres',
		"SELECT webhook_events.replay('$other', now() - interval '1 day')");
	printf $out "  replay() itself: %d events in %.2f s\n", $count, time - $started;
	print_delays('replay to another host', sample_delays($node, $receiver, 200));
	print $out "  $active of them were still to be sent at the end of it\n";
	$node->poll_query_until('postgres',
		"SELECT NOT EXISTS (SELECT FROM webhook_events.dispatches WHERE status = 'ACTIVE')");
	printf $out "  %.0f replays a second, live events included\n", $count / (time - $started);
	$node->safe_psql('postgres', "SELECT webhook_events.replay('$same', now() - interval '1 day')");
	print_delays('replay to the same host', sample_delays($node, $receiver, 200));
	print $out "  $active of them were still to be sent at the end of it\n";
	kill 'TERM', slurp_file("$directory/pid") =~ /(\d+)/;
	$node->stop;
	return;
}

# Starts nginx from Debian, which answers faster than a receiver in Perl.
sub start_nginx
{
	my $directory = tempdir('nginx_XXXXXX', TMPDIR => 1, CLEANUP => 1);
	my $port = PostgreSQL::Test::Cluster::get_free_port();

	open(my $conf, '>', "$directory/nginx.conf") or die $!;
	print $conf "pid $directory/pid; error_log $directory/error.log; worker_processes 1;\n"
	  . "events { worker_connections 4096; }\n"
	  . "http { access_log off; keepalive_requests 1000000; "
	  . join('', map { "${_}_temp_path $directory/$_; " } qw(client_body proxy fastcgi uwsgi scgi))
	  . "server { listen 127.0.0.1:$port; location / { return 200 'ok'; } } }\n";
	close $conf;
	my $nginx = (grep { -x } '/usr/sbin/nginx', '/usr/bin/nginx')[0] or return;
	system($nginx, '-c', "$directory/nginx.conf") == 0 or die "nginx did not start\n";
	return ("http://127.0.0.1:$port/", $directory);
}

sub drain
{
	my ($url, $directory) = start_nginx();
	my $events = $ENV{EVENTS} // 100000;
	my @rates;

	if (!defined $url)
	{
		print $out "drain: skipped, there is no nginx (Debian: nginx-light)\n";
		return;
	}
	my $node = new_bench_node('drain');
	create_platform($node);
	create_webhook($node, $url, 'ACTOR.RUN.CREATED');
	foreach my $round (1 .. 3)
	{
		$node->safe_psql('postgres', "SELECT webhook_events.pause()");
		$node->safe_psql('postgres', "INSERT INTO actor_runs (id, actor_id)"
			  . " SELECT '$round-' || i, 'a' FROM generate_series(1, $events) AS i");
		my $started = time;
		$node->safe_psql('postgres', "SELECT webhook_events.resume()");
		until ($node->safe_psql('postgres', 'SELECT reason IS NULL AND events_waiting = 0'
				  . ' AND dispatches_active = 0 AND in_flight = 0 FROM webhook_events.status()') eq 't')
		{
			sleep 0.05;
		}
		push @rates, $events / (time - $started);
	}
	printf $out "drain: %d events, one webhook, nginx on the same machine, 3 rounds\n", $events;
	printf $out "  %.0f deliveries a second, each recorded\n", median(@rates);
	kill 'TERM', slurp_file("$directory/pid") =~ /(\d+)/;
	$node->stop;
	return;
}

sub crash
{
	local $ENV{ROWS} = $ENV{ROWS} // 20000;

	print $out "crash: $ENV{ROWS} transitions by 4 clients, two server crashes and a worker kill\n";
	my $log = join "\n", run_command([ 'prove', '-v', "$here/../t/021_crash.pl" ]);
	print $out map { "  $_\n" } grep { /^(?:not )?ok \d|^# \d|^Result/ } split /\n/, $log;
	return;
}

$out->autoflush(1);
foreach my $part (@ARGV ? @ARGV : @order)
{
	my $run = $parts{$part} or die "unknown part \"$part\"; there are @order\n";

	$run->();
}
