# demo.pl
#	  Shows the extension at work on a server of its own: "make demo".
#
# The argument is a directory for the server's data; it is emptied.

use strict;
use warnings;
use Cwd qw(abs_path);
use File::Basename qw(dirname);
use File::Path qw(remove_tree);
use File::Temp qw(tempdir);
use IO::Handle;
use JSON::PP;
use Time::HiRes qw(sleep time);
use WebhookEvents::Receiver;

my $here = abs_path(dirname(__FILE__));
my $data = "$ARGV[0]/data";
my $log = "$ARGV[0]/server.log";
my $socket = tempdir('demo_XXXXXX', TMPDIR => 1, CLEANUP => 1);
my $receiver;
my $is_running = 0;

STDOUT->autoflush(1);

sub run
{
	my @command = @_;

	system(join(' ', map { quotemeta } @command) . " >>$log 2>&1") == 0
	  or die "\"@command\" failed; see $log\n";
	return;
}

# Runs SQL and returns what psql prints.
sub query
{
	my ($sql, @options) = @_;

	open(my $psql, '-|', 'psql', '-X', '-h', $socket, '-d', 'postgres', '-v',
		'ON_ERROR_STOP=1', '-q', '-P', 'footer=off', '-P', 'null=-', @options, '-c', $sql)
	  or die "could not start psql: $!\n";
	local $/;
	my $output = <$psql>;
	close($psql) or die "query failed: $sql\n";
	return $output;
}

# Shows SQL and what it gives.
sub show
{
	my ($sql, @options) = @_;
	my $shown = $sql =~ s/^/    /gmr;

	print "$shown;\n";
	my $output = query($sql, @options);
	print "\n", $output =~ s/^/    /gmr, "\n" if $output =~ /\S/;
	return;
}

sub title
{
	print "\n== $_[0]\n\n";
	return;
}

sub wait_for
{
	my ($sql, $what) = @_;
	my $deadline = time + 20;

	until (query($sql, '-At') eq "t\n")
	{
		die "timed out waiting until $what\n" if time > $deadline;
		sleep 0.02;
	}
	return;
}

sub start_server
{
	remove_tree($data);
	unlink $log;
	run('initdb', '-D', $data, '-A', 'trust', '-N', '--no-locale', '-E', 'UTF8',
		'-U', scalar getpwuid($<));
	open(my $conf, '>>', "$data/postgresql.conf") or die $!;
	print $conf <<"CONF";
shared_preload_libraries = 'webhook_events'
webhook_events.allowed_networks = '127.0.0.0/8'
webhook_events.retry_delay = '500ms'
listen_addresses = ''
unix_socket_directories = '$socket'
CONF
	close $conf;
	run('pg_ctl', '-D', $data, '-l', "$log.postgres", '-w', 'start');
	$is_running = 1;
	return;
}

END
{
	my $status = $?;

	system("pg_ctl -D \Q$data\E -m fast -w stop >>\Q$log\E 2>&1") if $is_running;
	undef $receiver;
	remove_tree($data);
	$? = $status;
}

# One line for each request, and the whole of the first.
sub show_requests
{
	my @requests = @_;
	my $json = JSON::PP->new->pretty->canonical;
	my $start = $requests[0]{at};
	my ($first) = @requests;

	foreach my $request (@requests)
	{
		my $body = decode_json($request->{body});
		my $type = $body->{eventType} // $body->{text};

		printf "    +%5.3f s  POST %-16s %-24s -> %s\n", $request->{at} - $start,
		  $request->{target}, $type, $request->{answer};
	}
	print "\n    the first one in full:\n\n";
	print "    POST $first->{target}\n";
	print "    $_: $first->{headers}{lc $_}\n" foreach @{ $first->{header_names} };
	print "\n", $first->{body} =~ s/^/    /gmr, "\n";
	return;
}

title('A server of its own, with webhook_events in shared_preload_libraries');
start_server();
$receiver = WebhookEvents::Receiver->new;
print "    the server is up, and a receiver listens at ", $receiver->url(''), "\n";

title('The extension, and the two tables of the platform (test/platform.sql)');
query(do { local (@ARGV, $/) = "$here/../platform.sql"; <> });
show('CREATE EXTENSION webhook_events');
show("SELECT webhook_events.attach('actor_runs')", '-At');
show("SELECT webhook_events.attach('actor_builds')", '-At');
show('SELECT relation, kind, columns FROM webhook_events.sources');

title('Three webhooks: everything of one user; failures as a message; one that fails first');
my ($ok, $chat, $flaky) = map { $receiver->url($_) } '/ok', '/status/202', '/flaky/demo/1';
show("SELECT id FROM webhook_events.create_webhook('$ok',
    '{ACTOR.RUN.CREATED, ACTOR.RUN.SUCCEEDED, ACTOR.RUN.FAILED, ACTOR.RUN.RESURRECTED}',
    user_id => 'ada')", '-At');
show("SELECT id FROM webhook_events.create_webhook('$chat', '{ACTOR.RUN.FAILED}',
    should_interpolate_strings => true,
    payload_template => '{\"text\": \"{{resource.id}} failed: {{resource.statusMessage}}\"}')", '-At');
show("SELECT id FROM webhook_events.create_webhook('$flaky',
    '{ACTOR.BUILD.CREATED, ACTOR.BUILD.SUCCEEDED}')", '-At');

title('The platform goes about its work');
foreach my $sql (
	"INSERT INTO actor_runs (id, actor_id, user_id) VALUES ('run-1', 'scraper', 'ada')",
	"INSERT INTO actor_runs (id, actor_id, user_id) VALUES ('run-2', 'scraper', 'ada')",
	"INSERT INTO actor_builds (id, actor_id, user_id) VALUES ('build-1', 'scraper', 'ada')",
	"UPDATE actor_runs SET status = 'RUNNING'",
	"UPDATE actor_runs SET heartbeat_at = now()",
	"UPDATE actor_runs SET status = 'FAILED', status_message = 'out of memory' WHERE id = 'run-2'",
	"UPDATE actor_runs SET status = 'SUCCEEDED', exit_code = 0, finished_at = now() WHERE id = 'run-1'",
	"UPDATE actor_runs SET status = 'RUNNING', status_message = NULL WHERE id = 'run-2'",
	"UPDATE actor_builds SET status = 'SUCCEEDED'",
	"BEGIN; UPDATE actor_runs SET status = 'ABORTED' WHERE id = 'run-1'; ROLLBACK",
	"UPDATE actor_runs SET status = 'SUCCEEDED' WHERE id = 'run-2'")
{
	show($sql, '-At');
}
wait_for('SELECT events_waiting = 0 AND dispatches_active = 0 FROM webhook_events.status()',
	'everything was delivered');

title('The POSTs as they arrived');
show_requests($receiver->requests);

title('What happened, by SQL');
show('SELECT id, event_type, old_status, new_status, event_data FROM webhook_events.events ORDER BY id');
show('SELECT d.event_type, w.request_url, d.status, d.attempts, d.error_message
FROM webhook_events.dispatches AS d JOIN webhook_events.webhooks AS w ON w.id = d.webhook_id
ORDER BY d.id');
show('SELECT d.event_type, c.attempt, c.response_status, c.error_message,
    c.finished_at - c.started_at AS took
FROM webhook_events.calls AS c JOIN webhook_events.dispatches AS d ON d.id = c.dispatch_id
ORDER BY c.started_at');
show('SELECT * FROM webhook_events.status()', '-x');
title('The story of one run');
show("SELECT what, detail FROM webhook_events.explain_run('run-2')");

my $report = "$ARGV[0]/report.html";
open(my $page, '>', $report) or die "could not write $report: $!\n";
print $page query("SELECT webhook_events.report(now() - interval '10 minutes')", '-At');
close $page;
print "\nThe server is stopped and its data removed. A page of what it did, to be looked at:\n$report\n";
