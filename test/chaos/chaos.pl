# chaos.pl
#	  Everything at once: writers of all kinds, endpoints that misbehave, kills, locks,
#	  clocks that are set, disks that are full, pauses, commands, changes of tables and of
#	  webhooks.  Then it is checked, against the receivers' own logs, that nothing was lost,
#	  doubled or invented, and that what an operator can act on was said once.
#
# SEED in the environment repeats a run's decisions, though not its timing; MINUTES
# is how long it goes on (default 10); ACTIONS="lock_day restart" leaves out all others.
# Nothing is killed in the last quarter, so that what one worker piles up can be seen.

use strict;
use warnings;
use Cwd qw(abs_path);
use File::Basename qw(dirname);
use File::Copy qw(copy);
use HTTP::Tiny;
use POSIX qw(strftime);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep time);
use WebhookEvents::Node;
use WebhookEvents::Obstacles qw(drop_packets_to find_nginx start_nginx);
use WebhookEvents::Receiver;
use WebhookEvents::Writers;
use lib abs_path(dirname(__FILE__));
use Reckoning;

my $seed = $ENV{SEED} || int(time) % 1_000_000;
my $minutes = $ENV{MINUTES} || 10;
my $nclients = 3;
my $max_in_flight = 64;
my $hour = 3600;

diag("SEED=$seed MINUTES=$minutes");
srand($seed);

# What our own sessions lock must not keep us from letting it go.
$ENV{PGOPTIONS} = '-c lock_timeout=1s';

# Silences make a host rest, so each kind of endpoint has a receiver of its own.
my %life = (max_seconds => 60 * $minutes + 1200);
my $good = WebhookEvents::Receiver->new(%life);
my $moody = WebhookEvents::Receiver->new(%life);
my $bad = WebhookEvents::Receiver->new(%life);
my $secure = WebhookEvents::Receiver::tls_available() ? WebhookEvents::Receiver->new(%life, tls => 1) : undef;
my @receivers = grep { defined } $good, $moody, $bad, $secure;
my @dropping = map { drop_packets_to("127.0.1.$_", $bad->port) } 1 .. 2;
my ($nginx_pid, $nginx_port);

my $preload = WebhookEvents::Obstacles->new(qw(clock disk resolver));
$preload->set_names('two.test 127.0.1.1 127.0.0.1');

# The server's time is noon when it begins, so that no day ends in between unless the
# clock is set to it.
my $noon = 12 * $hour - time % (24 * $hour);
my $clock_step = 0;
$preload->set_clock($noon);

my $node = new_node('chaos', start => 0, conf => <<CONF);
log_line_prefix = '%m [%p] %b: '
restart_after_crash = on
webhook_events.poll_interval = '200ms'
webhook_events.retry_delay = '20ms'
webhook_events.max_retries = 11
webhook_events.connect_timeout = '1s'
webhook_events.request_timeout = '6s'
webhook_events.max_in_flight = $max_in_flight
webhook_events.max_in_flight_per_host = 16
CONF
$preload->with(sub { $node->start });
my %count;

create_platform($node);
create_writers($node);

# Sessions that keep something open for a while.
my @sessions;

sub close_sessions
{
	my ($all) = @_;

	foreach my $open (@sessions)
	{
		next if !$all && $open->{until} > time;
		eval { $open->{session}->query($open->{ends}) };
		eval { $open->{session}->quit };
		$open = undef;
	}
	@sessions = grep { defined } @sessions;
	return;
}

# Goes on when the server is just not there, or somebody has locked something.
my $notice;    # what the last one said beside its result

sub query
{
	my ($sql) = @_;
	my $result;

	wait_until {
		(my $code, $result, $notice) = try_psql($node, 'postgres', $sql);
		close_sessions(0) if $code != 0;
		$code == 0;
	}
	"\"$sql\" can be run";
	return $result;
}

# What may fail.
sub try
{
	my ($sql) = @_;

	try_psql($node, 'postgres', $sql);
	return;
}

# Every transaction from here on begins after what has been committed.
sub next_xid
{
	return query('SELECT pg_snapshot_xmax(pg_current_snapshot())');
}

# Those of the first kind are never touched: they get every event.
my $types = 'ACTOR.RUN.CREATED,ACTOR.RUN.SUCCEEDED,ACTOR.RUN.FAILED,ACTOR.RUN.RESURRECTED';
my %trusting = (ignore_ssl_errors => 'true');
my %steady = (
	plain => create_webhook($node, $good->url('/ok?steady'), $types),
	ordered => create_webhook($node, $good->url('/ok?ordered'), $types, ordering => "'resource'"));
my $random = create_webhook($node, $moody->url("/random/$seed/100"), $types);
my (@hopeless, @once);

sub hopeless
{
	my ($url, %arguments) = @_;

	push @hopeless, create_webhook($node, $url, 'ACTOR.RUN.SUCCEEDED', actor_id => "'rare'", %trusting, %arguments);
	push @once, $hopeless[-1] if $arguments{do_not_retry};
	return;
}

hopeless($bad->url($_)) foreach qw(/hang /reset /reset-early /close /garbage /half /cut/10 /slow/3000 /slow/7000 /drip/700 /redirect);
hopeless('http://127.0.0.1:9/');
hopeless("http://127.0.1.$_:" . $bad->port) foreach 1 .. 2;
hopeless('http://two.test:' . $bad->port . '/close?two');
hopeless('http://nobody.test/');
hopeless($bad->url('/hang?once'), do_not_retry => 'true');
hopeless($bad->url('/reset?once'), do_not_retry => 'true');
if ($secure)
{
	$steady{tls} = create_webhook($node, $secure->url('/ok?tls'), $types, %trusting);
	hopeless($secure->url($_)) foreach qw(/reset /garbage /cut/10 /slow/7000);
	hopeless($bad->url('/ok') =~ s/^http:/https:/r);
	hopeless($secure->url('/ok') =~ s/^https:/http:/r);
}
if ($secure && find_nginx())
{
	my $directory = PostgreSQL::Test::Utils::tempdir();

	$nginx_port = PostgreSQL::Test::Cluster::get_free_port();
	$nginx_pid = start_nginx($directory, <<"CONF");
	keepalive_requests 100;
	proxy_http_version 1.1;
	proxy_next_upstream off;
	server {
		listen 127.0.0.1:$nginx_port ssl http2;
		ssl_certificate @{[ $secure->certificate ]};
		ssl_certificate_key @{[ $secure->key ]};
		location / { proxy_pass http://127.0.0.1:@{[ $good->port ]}; }
		location /bad/ { proxy_pass http://127.0.0.1:@{[ $bad->port ]}/; }
	}
CONF
	$steady{http2} = create_webhook($node, "https://127.0.0.1:$nginx_port/ok?http2", $types, %trusting);
	hopeless("https://127.0.0.1:$nginx_port/bad$_") foreach qw(/hang /reset /garbage /cut/10);
}
diag('endpoints: ' . join(' ', sort keys %steady));
my @victims;

$node->safe_psql('postgres', <<SQL);
SET client_min_messages = warning;
CREATE TABLE ending (ends boolean);
-- From which transaction on it is certain that a webhook was there as it is.
CREATE TABLE known_since (webhook_id text PRIMARY KEY, xid xid8);
-- Dispatches that a resume() has skipped.
CREATE TABLE said_skipped (dispatch_id text PRIMARY KEY);
CREATE PROCEDURE work(client int, seed float) LANGUAGE plpgsql AS \$\$
BEGIN
	PERFORM setseed(seed);
	WHILE NOT EXISTS (SELECT FROM ending) LOOP
		CALL write_run(client, 1.0, '${\ $good->url('/ok?adhoc')}');
		CALL nap(0.1 * random());
		COMMIT;
	END LOOP;
END \$\$;
SQL

# Webhooks become known when they are seen after their commit; so do changes.
sub note_webhooks
{
	my ($changed) = @_;

	query("DELETE FROM known_since WHERE webhook_id = '$changed'") if $changed;
	query(<<'SQL');
INSERT INTO known_since SELECT w.id, pg_snapshot_xmax(pg_current_snapshot())
FROM webhook_events_internal.webhooks AS w
WHERE NOT w.is_ad_hoc AND NOT EXISTS (SELECT FROM known_since AS k WHERE k.webhook_id = w.id)
SQL
	return;
}

# The writers; a killed server takes them along.
my @clients;

sub keep_writing
{
	foreach my $client (1 .. $nclients)
	{
		if ($clients[$client])
		{
			next if eval { $clients[$client]->pump_nb; $clients[$client]->pumpable };
			eval { $clients[$client]->finish };
		}
		$clients[$client] = start_writer($node, "work($client, " . rand() . ')');
	}
	return;
}

sub leave_open
{
	my ($sql) = @_;
	my $session = eval { $node->background_psql('postgres', on_error_stop => 1, timeout => 60) } or return;

	if (eval { $session->query("BEGIN; $sql"); 1 })
	{
		push @sessions, { session => $session, until => time + rand(3), ends => rand() < 0.5 ? 'COMMIT' : 'ROLLBACK' };
	}
	else
	{
		eval { $session->quit };
	}
	return;
}

my $nprepared = 0;
my ($nskips, $skipped_events, $skipped_dispatches, $is_paused, $paused_until) = (0, 0, 0, 0, 0);
my $skipped_until = 0;
my @stops;    # [from, to, whether it was a kill]
my %workers;    # those that were seen at work
my $day = q{(SELECT tableoid::regclass FROM webhook_events_internal.dispatches ORDER BY id DESC LIMIT 1)};

# Days that no event will ever be of.
my @far = map { strftime('%Y-%m-%d', gmtime(time + (400 + $_) * 24 * $hour)) } 0 .. 2;

sub resume
{
	my ($backlog) = @_;

	query(<<SQL);
BEGIN;
SELECT webhook_events.resume('$backlog');
INSERT INTO said_skipped SELECT id FROM webhook_events.dispatches WHERE error_message = 'Skipped by resume().'
	ON CONFLICT DO NOTHING;
COMMIT
SQL
	if ($backlog eq 'skip' && $notice =~ /NOTICE:  (\d+) events that were not routed and (\d+) dispatches that waited are skipped/)
	{
		$nskips++;
		$skipped_events += $1;
		$skipped_dispatches += $2;
		$skipped_until = next_xid();
	}
	$is_paused = 0;
	return;
}

# What was sent by now has been seen by its receiver: each answers one after the other.
sub settle
{
	my $client = HTTP::Tiny->new(timeout => 180, verify_SSL => 0, keep_alive => 0, map { $_ => undef } qw(proxy http_proxy https_proxy));

	foreach my $url (($nginx_port ? "https://127.0.0.1:$nginx_port/ok?settle" : ()), map { $_->url('/ok?settle') } @receivers, @receivers)
	{
		my $answer = $client->get($url);

		diag("$url: $answer->{status} $answer->{content}") if !$answer->{success};
	}
	return;
}

# Whoever stops the worker may have it called again for what was under way.
sub stops
{
	my ($is_kill, $how) = @_;
	my $from = time;

	$how->();
	settle();
	push @stops, [ $from, time, $is_kill ];
	return;
}

# The worker, if there is one at work.
sub worker
{
	my $pid = query('SELECT worker_pid FROM webhook_events.status() WHERE running');

	$workers{$pid} = 1 if $pid;
	return $pid;
}

# The server follows the process.
sub kill_process
{
	my ($pid) = @_;

	return if !$pid;
	stops(1, sub {
		kill 'KILL', $pid;
		wait_until { !kill 0, $pid } 'a process is gone';
		query('SELECT');
	});
	return;
}

sub victim
{
	return $victims[ rand @victims ] // $steady{plain};
}

# A statement about a victim that changes what it gets.
sub change_victim
{
	my ($sql) = @_;

	return if !@victims;
	my $id = victim();
	try($sql =~ s/VICTIM/$id/r);
	note_webhooks($id);
	return;
}

sub new_run
{
	my ($name) = @_;

	return "INSERT INTO actor_runs (id, actor_id, user_id) VALUES ('$name', 'late', 'u');"
	  . " INSERT INTO transitions (client, run, event_type) VALUES (0, '$name', 'ACTOR.RUN.CREATED');";
}

sub new_webhook
{
	my $url = rand() < 0.8 ? $moody->url("/random/$seed/50?victim") : $moody->url('/gone');

	return "SELECT id FROM webhook_events.create_webhook('$url', '{$types}', actor_id => '" . (qw(a1 a2 a3 late))[ rand 4 ] . "');";
}

# Each with its weight.
my %actions = (
	kill_worker => [ 1, sub { kill_process(worker()) } ],
	kill_launcher => [ 1, sub {
		kill_process(query("SELECT pid FROM pg_stat_activity WHERE backend_type = 'webhook_events launcher'"));
	} ],
	crash => [ 1, sub { stops(1, sub { $node->stop('immediate'); $preload->with(sub { $node->start }) }) } ],
	restart => [ 1, sub { stops(0, sub { $node->stop; $preload->with(sub { $node->start }) }) } ],
	terminate_worker => [ 3, sub {
		my $pid = worker() or return;

		stops(0, sub { try("SELECT pg_terminate_backend($pid, 60000)") });
	} ],
	terminate_launcher => [ 2, sub {
		try("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'webhook_events launcher'");
	} ],
	cancel_worker => [ 3, sub { try('SELECT pg_cancel_backend(worker_pid) FROM webhook_events.status()') } ],
	lock_row => [ 4, sub { leave_open("SELECT id FROM webhook_events_internal.dispatches WHERE status = 'ACTIVE' ORDER BY random() LIMIT 5 FOR UPDATE SKIP LOCKED") } ],
	lock_day => [ 2, sub {
		my $table = query("SELECT $day");

		leave_open("LOCK TABLE $table IN SHARE MODE") if $table;
	} ],
	lock_statistics => [ 2, sub { leave_open('LOCK TABLE webhook_events_internal.webhook_stats IN EXCLUSIVE MODE') } ],
	lock_webhooks => [ 1, sub { leave_open('LOCK TABLE webhook_events_internal.webhooks IN EXCLUSIVE MODE') } ],
	open_delete => [ 3, sub { leave_open("SELECT webhook_events.delete_webhook('" . victim() . "')") if @victims } ],
	open_define => [ 2, sub { leave_open(new_webhook()) } ],
	late => [ 4, sub { leave_open(new_run('late-' . int(rand 1e9))) } ],
	prepare => [ 4, sub {
		my $run = 'two-phase-' . ++$nprepared;

		try('BEGIN; ' . new_run($run) . (rand() < 0.3 ? new_webhook() : '') . " PREPARE TRANSACTION '$run'");
	} ],
	finish_prepared => [ 4, sub {
		foreach my $gid (split /\n/, query('SELECT gid FROM pg_prepared_xacts'))
		{
			try((rand() < 0.7 ? 'COMMIT' : 'ROLLBACK') . " PREPARED '$gid'") if rand() < 0.5;
		}
	} ],
	pause => [ 3, sub {
		return if $is_paused;
		query("SELECT webhook_events.pause('chaos')");
		$is_paused = 1;
		$paused_until = time + rand(2);
	} ],
	replay => [ 2, sub {
		try("SELECT webhook_events.replay('$steady{plain}', now() - interval '2 seconds')");
		try("SELECT webhook_events.replay('$random', now() - interval '1 seconds')");
	} ],
	redeliver => [ 4, sub {
		my $webhook = (values %steady)[ rand keys %steady ];

		try("SELECT webhook_events.redeliver(id) FROM (SELECT id FROM webhook_events.dispatches WHERE webhook_id = '$webhook' ORDER BY id DESC LIMIT 3) AS d");
	} ],
	days => [ 2, sub { try('SELECT webhook_events_internal.look_after_days()') } ],
	far_days => [ 3, sub { try("SELECT webhook_events_internal.create_days('$far[0]', '$far[2]')") } ],
	detach_day => [ 2, sub {
		my $table = query("SELECT webhook_events_internal.day_table('outbox', '$far[1]')");

		try("BEGIN; ALTER TABLE webhook_events_internal.outbox DETACH PARTITION $table; DROP TABLE $table; COMMIT");
	} ],
	rewrite => [ 2, sub {
		my $table = query("SELECT $day");

		try("VACUUM FULL $table") if $table;
	} ],
	index => [ 2, sub {
		my $table = query("SELECT $day");

		try("CREATE INDEX chaos ON $table (attempts); DROP INDEX webhook_events_internal.chaos") if $table;
	} ],
	define => [ 4, sub { push @victims, query(new_webhook()) } ],
	change => [ 4, sub { change_victim("SELECT webhook_events.update_webhook('VICTIM', '{\"requestUrl\": \"" . $moody->url('/slow/20?changed') . "\"}')") } ],
	disable => [ 4, sub { change_victim("SELECT webhook_events.disable_webhook('VICTIM')") } ],
	enable => [ 4, sub { change_victim("SELECT webhook_events.enable_webhook('VICTIM')") } ],
	delete => [ 3, sub { try("SELECT webhook_events.delete_webhook('" . splice(@victims, rand @victims, 1) . "')") if @victims > 3 } ],
	publish => [ 2, sub { try('SET client_min_messages = error; CREATE PUBLICATION everything FOR ALL TABLES') } ],
	unpublish => [ 1, sub { try('DROP PUBLICATION everything') } ],
	delivery => [ 2, sub {
		try('ALTER SYSTEM SET webhook_events.delivery = off');
		try('SELECT pg_reload_conf()');
		sleep rand(1);
		query('ALTER SYSTEM RESET webhook_events.delivery');
		query('SELECT pg_reload_conf()');
	} ],
	http2 => [ 2, sub {
		try('ALTER SYSTEM SET webhook_events.http2 = ' . (rand() < 0.7 ? 'on' : 'off'));
		try('SELECT pg_reload_conf()');
	} ],
	reload_nginx => [ 2, sub { kill 'HUP', $nginx_pid if $nginx_pid } ],
	outage => [ 2, sub {
		my $receiver = $receivers[ rand @receivers ];

		$receiver->stop;
		sleep rand(0.7);
		$receiver->start;
	} ],
	clock => [ 4, sub {
		$clock_step = -2 * $hour + rand(4 * $hour);
		$preload->set_clock($noon + $clock_step);
	} ],
	clock_by_days => [ 1, sub {
		$preload->set_clock($noon + (rand() < 0.5 ? -1 : 1) * (1 + rand 10) * 24 * $hour);
		sleep rand(1);
		$preload->set_clock($noon + $clock_step);
	} ],
	full_disk => [ 3, sub {
		$preload->fill_disk(1);
		sleep rand(2);
		$preload->fill_disk(0);
	} ]);
my $chosen = $ENV{ACTIONS} ? join '|', split ' ', $ENV{ACTIONS} : '.*';
my @bag = map { ($_) x $actions{$_}[0] } grep { /^($chosen)$/ } sort keys %actions;

note_webhooks();
my $ends_at = time + 60 * $minutes;
my $kills_end_at = time + 45 * $minutes;
while (time < $ends_at)
{
	my $name = $bag[ rand @bag ];

	next if $name =~ /^(kill|crash|restart|terminate)/ && time > $kills_end_at;

	keep_writing();
	close_sessions(0);
	resume(rand() < 0.3 ? 'skip' : 'send') if $is_paused && time > $paused_until;
	$count{$name}++;
	note(sprintf '%.3f %s', time, $name);
	$actions{$name}[1]->();
	note_webhooks();
	sleep rand(0.3);
}

# The end: everything is let go, and what has no hope is given up, when some of it was said to rest.
close_sessions(1);
resume('send') if $is_paused;
wait_until { keep_writing(); worker() && slurp_file($node->logfile) =~ /LOG:  host \S+ does not answer/ } 'a host rests';
query('INSERT INTO ending VALUES (true)');
foreach my $client (grep { defined } @clients)
{
	eval { $client->finish };
}
query("COMMIT PREPARED '$_'") foreach split /\n/, query('SELECT gid FROM pg_prepared_xacts');
note_webhooks();
query("SELECT webhook_events.delete_webhook('$_')") foreach @hopeless;
diag(join ', ', map { "$count{$_} $_" } sort keys %count);

reckon(
	query => \&query,
	receivers => \@receivers,
	steady => \%steady,
	random => $random,
	once => \@once,
	stops => \@stops,
	nskips => $nskips,
	skipped_events => $skipped_events,
	skipped_dispatches => $skipped_dispatches,
	skipped_until => $skipped_until,
	nclock => ($count{clock} // 0) + 2 * ($count{clock_by_days} // 0),
	max_retries => 11);
my $nobstacles = 0;
$nobstacles += $count{$_} // 0
  foreach qw(cancel_worker clock clock_by_days days detach_day full_disk index lock_day lock_row lock_statistics lock_webhooks open_delete rewrite);
check_log($node->logfile, \&query, workers => [ keys %workers ], stops => \@stops, nobstacles => $nobstacles);
check_growth($node, \&query, $max_in_flight);

# What is wrong can be looked for in the receivers' logs.
if (!Test::More->builder->is_passing)
{
	copy($receivers[$_]->log_file, "$PostgreSQL::Test::Utils::log_path/receiver-$_.log") foreach 0 .. $#receivers;
}
$node->stop;
done_testing();

END
{
	local $?;
	kill 'TERM', $nginx_pid if $nginx_pid;
}
