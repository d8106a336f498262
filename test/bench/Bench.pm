# Bench.pm
#	  What the parts of the benchmark share: a server, receivers, tools, and how
#	  figures are taken and reported.

package Bench;

use strict;
use warnings;

use Cwd qw(abs_path);
use Exporter 'import';
use File::Basename qw(dirname);
use File::Temp qw(tempdir);
use IO::Handle;
use IPC::Run ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Time::HiRes qw(sleep time);
use WebhookEvents::Node;

our @EXPORT = qw(%scale result compare_turns note series progress median percentile with_node with_nodes tool start_sink
  stop_sink arrivals start_nginx stop_nginx add_events drain drain_rates drains_in_turns rows_written delays commit_times
  reference_files post_rate wait_for worker_cpu worker_pid free_disk run_tool medians_in_turns sql
  results);

# How large things are; set by the driver.
our %scale;

# PostgreSQL's test library sends standard output to a log.
my $out;
BEGIN { open($out, '>&', \*STDOUT) or die $!; $out->autoflush(1) }

my $here = abs_path(dirname(__FILE__));
my $started = time;
my (@results, $part, $tools);
my (%nginxes, %sinks);    # those that run

sub median
{
	my @sorted = sort { $a <=> $b } @_;

	return $sorted[ $#sorted / 2 ];
}

sub percentile
{
	my ($fraction, @values) = @_;
	my @sorted = sort { $a <=> $b } @values;

	return $sorted[ $fraction * $#sorted ];
}

sub progress
{
	my ($text) = @_;

	printf $out "[%4d s] %s\n", time - $started, $text;
	return;
}

# Names the part that the next results belong to.
sub part
{
	$part = shift;
	return;
}

# A figure beside its reference: what is measured, the figure, the reference, their
# ratio, the bar (such as "<= 0.33") and the number that it is for.
sub result
{
	my (%r) = @_;
	my $verdict = '';

	if (defined $r{bar})
	{
		my ($relation, $limit) = $r{bar} =~ /^(<=|>=|<) ([0-9.]+)/ or die "bar $r{bar}";
		my $ok = $relation eq '<=' ? $r{number} <= $limit
		  : $relation eq '<' ? $r{number} < $limit : $r{number} >= $limit;

		$verdict = $ok ? 'met' : 'not met';
	}
	$r{$_} //= '' foreach qw(figure reference bar);
	push @results, { part => $part, verdict => $verdict, %r };
	printf $out "         %-44s %-18s %s%s\n", $r{what}, $r{figure},
	  $r{reference} ? "against $r{reference}" : '',
	  $r{bar} ? sprintf(': %s, bar %s, %s', format_number($r{number}), $r{bar}, $verdict) : '';
	return;
}

# Rates beside those of a reference, measured in turns: the median of the ratios of each
# turn, so that what slows the machine for a while hits both.
sub compare_turns
{
	my ($what, $rates, $name, $reference, $bar) = @_;

	result(what => $what, figure => sprintf('%.0f/s', median(@$rates)),
		reference => sprintf('%s %.0f/s', $name, median(@$reference)),
		number => median(map { $rates->[$_] / $reference->[$_] } 0 .. $#$rates), bar => $bar);
	return;
}

# A line of text among the results.
sub note
{
	my ($text) = @_;

	push @results, { part => $part, note => $text };
	print $out "         $text\n";
	return;
}

# Figures by time: a table of rows, whose columns have these names and which are counted in
# the first one, of which the driver draws a chart as well.
sub series
{
	my ($unit, $names, @rows) = @_;
	my $table = join ' | ', '| ' . $unit, @$names;

	$table .= " |\n" . '|---' x (@$names + 1) . "|\n";
	$table .= join('', map { '| ' . join(' | ', $_ + 1, @{ $rows[$_] }) . " |\n" } 0 .. $#rows);
	push @results, { part => $part, note => $table, unit => $unit, names => $names, rows => \@rows };
	print $out $table;
	return;
}

sub format_number
{
	my $number = shift;

	return $number >= 1000 ? sprintf('%.0f', $number) : sprintf('%.3g', $number);
}

sub results
{
	return @results;
}

# Runs code with a server of PostgreSQL's default durability that has the extension
# and the platform's tables.
sub with_node
{
	my ($name, $conf, $code) = @_;
	my $node = new_node($name, conf => <<"CONF");
fsync = on
synchronous_commit = on
log_statement = none
log_min_messages = warning
shared_buffers = 256MB
max_wal_size = 4GB
min_wal_size = 2GB
checkpoint_timeout = 1h
autovacuum = off
max_connections = 50
webhook_events.poll_interval = '1s'
$conf
CONF

	create_platform($node);
	sql($node, <<'SQL');
-- Waits until so many dispatches have ended since the server started.  No
-- transaction stays open meanwhile.
CREATE PROCEDURE wait_delivered(target bigint) LANGUAGE plpgsql AS $$
BEGIN
	WHILE (SELECT delivered + failed < target FROM webhook_events_internal.worker_report()) LOOP
		PERFORM pg_sleep(0.01);
		COMMIT;
	END LOOP;
END $$;
SQL
	run_tool('sync');
	eval { $code->($node); 1 } or do {
		my $error = $@;

		$node->stop('immediate');
		die $error;
	};
	$node->stop('fast');
	$node->clean_node;
	return;
}

# The same with several servers, which the code gets in this order.
sub with_nodes
{
	my ($conf, $code, $name, @others) = @_;

	with_node($name, $conf, sub {
		my $node = shift;

		return $code->($node) if !@others;
		with_nodes($conf, sub { $code->($node, @_) }, @others);
	});
	return;
}

# Runs statements in one session and returns what they print.
sub sql
{
	my ($node, $sql) = @_;

	return $node->safe_psql('postgres', "SET client_min_messages = error;\n$sql");
}

# Compiles the C programs, and says where they are.
sub tool
{
	my $name = shift;

	if (!$tools)
	{
		my ($include, $server, $libdir) = map { my $o = `pg_config --$_`; chomp $o; $o }
		  qw(includedir includedir-server libdir);
		my $curl = `curl-config --cflags --libs`;
		my @cc = qw(cc -O2 -Wall -Wextra -D_GNU_SOURCE);

		$curl =~ s/\s+/ /g;
		$tools = tempdir('tools_XXXXXX', TMPDIR => 1, CLEANUP => 1);
		chmod 0755, $tools;
		foreach my $command (
			"@cc -o $tools/sink $here/tools/sink.c",
			"@cc -o $tools/post $here/tools/post.c $curl",
			"@cc -I$include -o $tools/commit $here/tools/commit.c -L$libdir -lpq",
			"@cc -fPIC -shared -I$server -o $tools/noop.so $here/tools/noop.c")
		{
			system($command) == 0 or die "failed: $command\n";
		}
	}
	return "$tools/$name";
}

# Runs a program to its end and returns its output.
sub run_tool
{
	my @command = @_;
	my ($stdout, $stderr) = ('', '');

	IPC::Run::run(\@command, '<', \undef, '>', \$stdout, '2>', \$stderr,
		IPC::Run::timeout(600))
	  or die "failed: @command\n$stderr";
	return $stdout;
}

# Starts a sink; arguments are behaviours, or "ok=8080" for one at this port.
# Returns it, with a port and a URL for each.
sub start_sink
{
	my @behaviours = @_;
	my $directory = tempdir('sink_XXXXXX', TMPDIR => 1, CLEANUP => 1);
	my %port = map { my ($name, $port) = split /=/; $name => $port // PostgreSQL::Test::Cluster::get_free_port() } @behaviours;
	my $sink = { log => "$directory/log", port => \%port };

	$sink->{handle} = IPC::Run::start([ tool('sink'), $sink->{log},
			map { "$_=$port{$_}" } keys %port ], '<', \undef);
	$sink->{url} = { map { $_ => "http://127.0.0.1:$port{$_}/" } keys %port };
	sleep 0.2;
	$sinks{$sink} = $sink;
	return $sink;
}

# Ends a sink and returns its log: nanoseconds by key.
sub stop_sink
{
	my $sink = shift;

	delete $sinks{$sink};
	$sink->{handle}->signal('TERM');
	$sink->{handle}->finish;
	return arrivals($sink->{log});
}

sub arrivals
{
	my %at = map { split ' ' } split /\n/, slurp_file(shift);

	return \%at;
}

# Starts nginx from Debian; undef if there is none.  Options: tls, http2, port.
sub start_nginx
{
	my %options = @_;
	my $nginx = (grep { -x } '/usr/sbin/nginx', '/usr/bin/nginx')[0];
	my $directory = tempdir('nginx_XXXXXX', TMPDIR => 1, CLEANUP => 1);
	my $port = $options{port} // PostgreSQL::Test::Cluster::get_free_port();
	my $scheme = $options{tls} ? 'https' : 'http';
	my $listen = $options{tls} ? ' ssl' . ($options{http2} ? ' http2' : '') : '';
	my $answer = "return 200 'ok';";
	my $modules = '';
	my $tls = '';

	if (!defined $nginx)
	{
		note('skipped: there is no nginx (Debian: nginx-light)');
		return;
	}
	if ($options{http2})
	{
		# "return" does not read the body, and resets streams of HTTP/2 therefore.
		my $echo = '/usr/lib/nginx/modules/ngx_http_echo_module.so';

		if (!-e $echo)
		{
			note('HTTP/2 skipped: nginx has no echo module (Debian: libnginx-mod-http-echo)');
			return;
		}
		$modules = "load_module $echo;\n";
		$answer = 'echo_read_request_body; echo ok;';
	}
	if ($options{tls})
	{
		run_tool('openssl', 'req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256',
			'-nodes', '-days', '2', '-subj', '/CN=127.0.0.1', '-addext', 'subjectAltName=IP:127.0.0.1',
			'-keyout', "$directory/key", '-out', "$directory/crt");
		$tls = "ssl_certificate $directory/crt; ssl_certificate_key $directory/key;";
	}
	append_to_file("$directory/nginx.conf",
		"${modules}pid $directory/pid; error_log $directory/error.log; worker_processes 1;\n"
		  . "events { worker_connections 20000; }\nworker_rlimit_nofile 30000;\n"
		  . "http { access_log off; keepalive_requests 100000000; $tls "
		  . join('', map { "${_}_temp_path $directory/$_; " } qw(client_body proxy fastcgi uwsgi scgi))
		  . "server { listen 127.0.0.1:$port$listen backlog=8192; location / { $answer } } }\n");
	system($nginx, '-c', "$directory/nginx.conf") == 0 or die "nginx did not start\n";
	my $server = { url => "$scheme://127.0.0.1:$port/", directory => $directory, ca => "$directory/crt" };
	$nginxes{$directory} = $server;
	return $server;
}

sub stop_nginx
{
	my $nginx = shift;

	delete $nginxes{ $nginx->{directory} };
	kill 'TERM', slurp_file("$nginx->{directory}/pid") =~ /(\d+)/;
	return;
}

# After a failure, too, none is left behind.
END
{
	my $status = $?;

	stop_nginx($_) foreach values %nginxes;
	stop_sink($_) foreach values %sinks;
	$? = $status;
}

# Adds runs of an Actor while delivery is paused.
my $series = 0;

sub add_events
{
	my ($node, $count, $actor) = @_;

	$series++;
	sql($node, "SELECT webhook_events.pause('benchmark');"
		  . "INSERT INTO actor_runs (id, actor_id) SELECT 'S$series-' || i, $actor"
		  . " FROM generate_series(1, $count) AS i");
	return;
}

# Not from status(), which counts what waits.
sub worker_pid
{
	my $node = shift;

	return sql($node, 'SELECT worker_pid FROM webhook_events_internal.worker_report()');
}

# Nanoseconds of CPU that the worker has used.
sub worker_cpu
{
	my $node = shift;
	my ($ns) = split ' ', slurp_file('/proc/' . worker_pid($node) . '/schedstat');

	return $ns;
}

# Waits until a query is true.
sub wait_for
{
	my ($node, $query) = @_;

	$node->poll_query_until('postgres', $query) or die "timed out waiting until $query\n";
	return;
}

# Lets the worker deliver what has been added, $count dispatches.  Returns the
# seconds, and for each dispatch the worker's CPU in microseconds, the rows and
# the bytes of WAL that were written.
sub drain
{
	my ($node, $count) = @_;
	my $cpu = worker_cpu($node);
	my ($seconds, $wal) = split /[|\n]/, sql($node,
			"SET enable_seqscan = off;\n"
		  . "SELECT delivered + failed AS before FROM webhook_events_internal.worker_report() \\gset\n"
		  # It counts what waits, and the worker starts when it commits.
		  . "SELECT webhook_events.resume() \\g /dev/null\n"
		  . "SELECT clock_timestamp() AS started, pg_current_wal_insert_lsn() AS lsn \\gset\n"
		  . "CALL wait_delivered(:before + $count);\n"
		  . "SELECT extract(epoch FROM clock_timestamp() - :'started'),"
		  . " pg_current_wal_insert_lsn() - :'lsn';");

	return ($seconds, (worker_cpu($node) - $cpu) / 1e3 / $count, $wal / $count);
}

# How many rows were written to the extension's tables until now.
sub rows_written
{
	my $node = shift;

	# The worker reports its counts when a transaction ends, but not twice in a second.
	sleep 1.3;
	sql($node, 'SELECT webhook_events_internal.wake_worker()');
	sleep 1.2;
	return sql($node, 'SELECT sum(n_tup_ins + n_tup_upd + n_tup_del) FROM pg_stat_all_tables'
		  . " WHERE schemaname = 'webhook_events_internal'");
}

# Events a second, $rounds times.
sub drain_rates
{
	my ($node, $count, $rounds, $actor) = @_;

	return map {
		add_events($node, $count, $actor);
		$count / (drain($node, $count))[0];
	} 1 .. $rounds;
}

# Deliveries a second of several cases, each a node and how many webhooks match an event
# of Actor "a", in turns; returns a list of rates for each case.
sub drains_in_turns
{
	my @cases = @_;
	my @rates = map { [] } @cases;

	foreach my $turn (1 .. $scale{drain_turns})
	{
		my @order = $turn % 2 ? 0 .. $#cases : reverse 0 .. $#cases;

		progress("turn $turn of $scale{drain_turns}");
		foreach my $i (@order)
		{
			my ($node, $matches) = @{ $cases[$i] };

			add_events($node, $scale{turn_events} / $matches, "'a'");
			push @{ $rates[$i] }, $scale{turn_events} / (drain($node, $scale{turn_events}))[0];
		}
	}
	return @rates;
}

# Commits events of Actors at a rate, and returns for each id the times before and
# after COMMIT.
sub commit_times
{
	my ($node, $prefix, $count, $rate, $actors, $clients) = @_;
	my $directory = tempdir('commit_XXXXXX', TMPDIR => 1, CLEANUP => 1);
	my $conninfo = sprintf "host=%s port=%s dbname=postgres", $node->host, $node->port;
	my @handles = map {
		IPC::Run::start([ tool('commit'), $conninfo, "$prefix$_-", int($count / $clients),
				$rate / $clients, "$directory/$_", $actors ], '<', \undef)
	} 1 .. $clients;
	my %times;

	$_->finish foreach @handles;
	foreach my $client (1 .. $clients)
	{
		foreach my $line (split /\n/, slurp_file("$directory/$client"))
		{
			my ($id, $before, $after) = split ' ', $line;

			$times{$id} = [ $before, $after ];
		}
	}
	return \%times;
}

# Milliseconds from before and from after COMMIT to the arrival of those that
# have arrived.
sub delays
{
	my ($times, $arrivals) = @_;
	my @ids = grep { exists $arrivals->{$_} } keys %$times;

	return ([ map { ($arrivals->{$_} - $times->{$_}[0]) / 1e6 } @ids ],
		[ map { ($arrivals->{$_} - $times->{$_}[1]) / 1e6 } @ids ]);
}

# Files with the headers and the body of a request as the extension makes it.
sub reference_files
{
	my ($node, $webhook) = @_;
	my $directory = tempdir('request_XXXXXX', TMPDIR => 1, CLEANUP => 1);
	my $event = sql($node, 'SELECT id FROM webhook_events.events ORDER BY id DESC LIMIT 1');

	append_to_file("$directory/headers", sql($node, "SELECT key || ': ' || value"
			  . " FROM webhook_events.preview('$webhook', '$event'), jsonb_each_text(headers)") . "\n");
	append_to_file("$directory/body", sql($node, "SELECT body"
			  . " FROM webhook_events.preview('$webhook', '$event')"));
	return ("$directory/headers", "$directory/body");
}

# Requests a second of libcurl alone.
sub post_rate
{
	my ($url, $headers, $body, $count, $in_flight) = @_;
	my ($seconds, $failed) = split ' ', run_tool(tool('post'), $url, $headers, $body, $count, $in_flight);

	die "$failed requests of the reference failed\n" if $failed;
	return $count / $seconds;
}

# Gigabytes that are free where servers keep their data.
sub free_disk
{
	my (undef, $line) = split /\n/, run_tool('df', '-Pk', $ENV{TESTDIR} // '.');

	return (split ' ', $line)[3] / 1024 / 1024;
}

# Times one statement on several tables, in turns, and returns by table medians of
# the seconds and of the bytes of WAL.  The first round does not count.
sub medians_in_turns
{
	my ($node, $rounds, $statement, @tables) = @_;
	my (%seconds, %wal);

	foreach my $round (0 .. $rounds)
	{
		foreach my $table (@tables)
		{
			my $sql = $statement->($table, $round);
			my ($seconds, $wal) = split /[|]/, sql($node, <<"SQL");
VACUUM $table;
SELECT clock_timestamp() AS started, pg_current_wal_insert_lsn() AS lsn \\gset
$sql;
SELECT extract(epoch FROM clock_timestamp() - :'started'), pg_current_wal_insert_lsn() - :'lsn';
SQL
			next if $round == 0;
			push @{ $seconds{$table} }, $seconds;
			push @{ $wal{$table} }, $wal;
		}
	}
	return map { $_ => [ median(@{ $seconds{$_} }), median(@{ $wal{$_} }) ] } @tables;
}

1;
