# chaos.pl
#	  Everything at once: writers of all kinds, endpoints that misbehave, kills, locks,
#	  pauses, commands, changes of tables and of webhooks.  Then it is checked, against
#	  the receivers' own logs, that nothing was lost, doubled or invented.
#
# SEED in the environment repeats a run's decisions, though not its timing; MINUTES
# is how long it goes on (default 10).  Nothing is killed in the last quarter, so that
# what one worker piles up can be seen.

use strict;
use warnings;
use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep time);
use WebhookEvents::Node;
use WebhookEvents::Receiver;

my $seed = $ENV{SEED} || int(time) % 1_000_000;
my $minutes = $ENV{MINUTES} || 10;
my $nclients = 3;
my $max_in_flight = 64;

# What the worker may have called and not recorded when it is killed: what is under way,
# and what was answered within a flush.
my $unrecorded_limit = 1024;

diag("SEED=$seed MINUTES=$minutes");
srand($seed);

# What our own sessions lock must not keep us from letting it go.
$ENV{PGOPTIONS} = '-c lock_timeout=1s';

# Silences make a host rest, so each kind of endpoint has a receiver of its own.
my %life = (max_seconds => 60 * $minutes + 1200);
my $good = WebhookEvents::Receiver->new(%life);
my $moody = WebhookEvents::Receiver->new(%life);
my $bad = WebhookEvents::Receiver->new(%life);
my $node = new_node('chaos', conf => <<CONF);
restart_after_crash = on
webhook_events.poll_interval = '200ms'
webhook_events.retry_delay = '20ms'
webhook_events.max_retries = 11
webhook_events.request_timeout = '10s'
webhook_events.max_in_flight = $max_in_flight
webhook_events.max_in_flight_per_host = 16
CONF
my %count;

create_platform($node);

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
		(my $code, $result, $notice) = $node->psql('postgres', $sql);
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

	$node->psql('postgres', $sql);
	return;
}

# Those of the first kind are never touched: they get every event.
my $types = 'ACTOR.RUN.CREATED,ACTOR.RUN.SUCCEEDED,ACTOR.RUN.FAILED,ACTOR.RUN.RESURRECTED';
my $steady = create_webhook($node, $good->url('/ok?steady'), $types);
my $ordered = create_webhook($node, $good->url('/ok?ordered'), $types, ordering => "'resource'");
my $random = create_webhook($node, $moody->url("/random/$seed/100"), $types);
my @hopeless = map { create_webhook($node, $bad->url($_), 'ACTOR.RUN.SUCCEEDED', actor_id => "'rare'") }
  qw(/hang /reset /reset-early /close /garbage /half /cut/10 /slow/3000 /redirect);
push @hopeless, create_webhook($node, 'http://127.0.0.1:9/', 'ACTOR.RUN.SUCCEEDED', actor_id => "'rare'");
push @hopeless, create_webhook($node, $bad->url('/hang?once'), 'ACTOR.RUN.SUCCEEDED', actor_id => "'rare'", do_not_retry => 'true');
my @victims;

$node->safe_psql('postgres', <<SQL);
SET client_min_messages = warning;
CREATE TABLE transitions (client int, run text, event_type text);
CREATE TABLE ending (ends boolean);
CREATE SEQUENCE runs;
CREATE PROCEDURE transition(client int, run text, status text, event_type text)
LANGUAGE plpgsql AS \$\$
BEGIN
	UPDATE actor_runs SET status = transition.status WHERE id = run;
	INSERT INTO transitions VALUES (client, run, event_type);
END \$\$;
CREATE PROCEDURE work(client int, seed int) LANGUAGE plpgsql AS \$\$
DECLARE
	run text;
	chance float;
BEGIN
	PERFORM setseed(1.0 / (seed + client));
	WHILE NOT EXISTS (SELECT FROM ending) LOOP
		run := client || '-' || nextval('runs');
		chance := random();
		INSERT INTO actor_runs (id, actor_id, user_id)
			VALUES (run, CASE WHEN random() < 0.02 THEN 'rare' ELSE 'a' || client END, 'u');
		INSERT INTO transitions VALUES (client, run, 'ACTOR.RUN.CREATED');
		IF chance BETWEEN 0.6 AND 0.7 THEN
			PERFORM webhook_events.create_ad_hoc_webhooks(run,
				'[{"eventTypes": ["ACTOR.RUN.SUCCEEDED"], "requestUrl": "${\ $good->url('/ok?adhoc')}"}]'::jsonb, 'u');
		END IF;
		IF chance < 0.3 THEN
			COMMIT;
		END IF;
		UPDATE actor_runs SET status = 'RUNNING' WHERE id = run;
		BEGIN
			CALL transition(client, run, 'FAILED', 'ACTOR.RUN.FAILED');
			IF chance < 0.5 THEN
				RAISE EXCEPTION 'to the savepoint';
			END IF;
			CALL transition(client, run, 'RUNNING', 'ACTOR.RUN.RESURRECTED');
		EXCEPTION WHEN raise_exception THEN NULL;
		END;
		CALL transition(client, run, 'SUCCEEDED', 'ACTOR.RUN.SUCCEEDED');
		IF chance > 0.95 THEN
			PERFORM pg_sleep(random());
		END IF;
		IF chance BETWEEN 0.1 AND 0.2 THEN
			ROLLBACK;
		ELSE
			COMMIT;
		END IF;
		PERFORM pg_sleep(0.1 * random());
		COMMIT;
	END LOOP;
END \$\$;
SQL
my $began_at = query('SELECT clock_timestamp()');

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
		$clients[$client] = IPC::Run::start([ 'psql', '-XAtq', '-d', $node->connstr('postgres'), '-c', "CALL work($client, $seed)" ],
			'<', \undef, '>', '/dev/null', '2>', '/dev/null');
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
my ($skipped_events, $skipped_dispatches, $is_paused, $paused_until) = (0, 0, 0, 0);
my $skipped_until = $began_at;
my @stops;    # [from, to, whether it was a kill]
my $day = q{(SELECT tableoid::regclass FROM webhook_events_internal.dispatches ORDER BY id DESC LIMIT 1)};

sub resume
{
	my ($backlog) = @_;

	query("SELECT webhook_events.resume('$backlog')");
	if ($backlog eq 'skip' && $notice =~ /NOTICE:  (\d+) events that were not routed and (\d+) dispatches that waited are skipped/)
	{
		$skipped_events += $1;
		$skipped_dispatches += $2;
		$skipped_until = query('SELECT clock_timestamp()');
	}
	$is_paused = 0;
	return;
}

# Whoever stops the worker may have it called again for what was under way.
sub stops
{
	my ($is_kill, $how) = @_;
	my $from = time;

	$how->();
	push @stops, [ $from, time, $is_kill ];
	return;
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
	return $victims[ rand @victims ] // $steady;
}

# Each with its weight.
my %actions = (
	kill_worker => [ 1, sub { kill_process(query('SELECT worker_pid FROM webhook_events.status()')) } ],
	kill_launcher => [ 1, sub {
		kill_process(query("SELECT pid FROM pg_stat_activity WHERE backend_type = 'webhook_events launcher'"));
	} ],
	crash => [ 1, sub { stops(1, sub { $node->stop('immediate'); $node->start }) } ],
	restart => [ 1, sub { stops(0, sub { $node->restart }) } ],
	terminate_worker => [ 3, sub {
		stops(0, sub { try('SELECT pg_terminate_backend(worker_pid, 60000) FROM webhook_events.status()') });
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
	late => [ 4, sub {
		my $run = "late-" . int(rand 1e9);

		leave_open("INSERT INTO actor_runs (id, actor_id, user_id) VALUES ('$run', 'late', 'u');"
			  . " INSERT INTO transitions VALUES (0, '$run', 'ACTOR.RUN.CREATED')");
	} ],
	prepare => [ 4, sub {
		my $run = 'two-phase-' . ++$nprepared;

		try("BEGIN; INSERT INTO actor_runs (id, actor_id, user_id) VALUES ('$run', 'late', 'u');"
			  . " INSERT INTO transitions VALUES (0, '$run', 'ACTOR.RUN.CREATED'); PREPARE TRANSACTION '$run'");
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
		try("SELECT webhook_events.replay('$steady', now() - interval '2 seconds')");
		try("SELECT webhook_events.replay('$random', now() - interval '1 seconds')");
	} ],
	redeliver => [ 4, sub {
		try("SELECT webhook_events.redeliver(id) FROM (SELECT id FROM webhook_events.dispatches WHERE webhook_id = '$steady' ORDER BY id DESC LIMIT 3) AS d");
	} ],
	days => [ 2, sub { try('SELECT webhook_events_internal.look_after_days()') } ],
	far_days => [ 3, sub { try('SELECT webhook_events_internal.create_days(current_date + 20, current_date + 22)') } ],
	detach_day => [ 2, sub {
		my $table = query(q{SELECT webhook_events_internal.day_table('outbox', current_date + 21)});

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
	define => [ 4, sub {
		my $url = rand() < 0.8 ? $moody->url("/random/$seed/50?victim") : $moody->url('/gone');

		push @victims, query("SELECT id FROM webhook_events.create_webhook('$url', '{$types}', actor_id => 'a" . int(1 + rand 3) . "')");
	} ],
	change => [ 4, sub { try("SELECT webhook_events.update_webhook('" . victim() . "', '{\"requestUrl\": \"" . $moody->url('/slow/20?changed') . "\"}')") if @victims } ],
	disable => [ 4, sub { try("SELECT webhook_events.disable_webhook('" . victim() . "')") if @victims } ],
	enable => [ 4, sub { try("SELECT webhook_events.enable_webhook('" . victim() . "')") if @victims } ],
	delete => [ 3, sub { try("SELECT webhook_events.delete_webhook('" . splice(@victims, rand @victims, 1) . "')") if @victims > 3 } ],
	publish => [ 2, sub { try('SET client_min_messages = error; CREATE PUBLICATION everything FOR ALL TABLES') } ],
	unpublish => [ 1, sub { try('DROP PUBLICATION everything') } ],
	delivery => [ 2, sub {
		try('ALTER SYSTEM SET webhook_events.delivery = off');
		try('SELECT pg_reload_conf()');
		sleep rand(1);
		query('ALTER SYSTEM RESET webhook_events.delivery');
		query('SELECT pg_reload_conf()');
	} ]);
my @bag = map { ($_) x $actions{$_}[0] } sort keys %actions;

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
	$actions{$name}[1]->();
	sleep rand(0.5);
}

# The end: everything is let go, and what has no hope is given up.
close_sessions(1);
resume('send') if $is_paused;
query('INSERT INTO ending VALUES (true)');
foreach my $client (grep { defined } @clients)
{
	eval { $client->finish };
}
query("COMMIT PREPARED '$_'") foreach split /\n/, query('SELECT gid FROM pg_prepared_xacts');
query("SELECT webhook_events.delete_webhook('$_')") foreach @hopeless;
diag(join ', ', map { "$count{$_} $_" } sort keys %count);

my $is_done = eval {
	wait_until {
		query('SELECT running AND events_waiting = 0 AND dispatches_active = 0 AND in_flight = 0 AND troubles IS NULL'
			  . ' FROM webhook_events.status()') eq 't'
	}
	'all is delivered', 300;
	1;
};
ok($is_done, 'all that waits comes to its end') or diag(query(q{SELECT row_to_json(s) FROM webhook_events.status() AS s}));

is(query(<<'SQL'), 0, 'every committed transition has one event, and no other has');
SELECT count(*) FROM (
	SELECT run, event_type, count(*) FROM transitions GROUP BY 1, 2) AS t
FULL JOIN (
	SELECT actor_run_id AS run, event_type::text, count(*)
	FROM webhook_events.events GROUP BY 1, 2) AS e USING (run, event_type)
WHERE t.count IS DISTINCT FROM e.count
SQL

# An event that was skipped before it was routed has no dispatch; or only those that a
# worker which was killed then had recorded.
query(<<SQL);
CREATE TABLE skipped AS SELECT e.id, e.actor_run_id FROM webhook_events.events AS e
	LEFT JOIN (SELECT event_id, count(DISTINCT webhook_id) AS webhooks FROM webhook_events.dispatches
		WHERE webhook_id IN ('$steady', '$ordered', '$random') AND replay_of IS NULL GROUP BY 1) AS d ON d.event_id = e.id
WHERE coalesce(d.webhooks, 0) < 3
SQL
cmp_ok(query('SELECT count(*) FROM skipped'), '<=', $skipped_events, 'every event was routed, but for those that were said to be skipped');
foreach my $webhook ($steady, $ordered, $random)
{
	is(query(<<SQL), 0, 'each by one dispatch to one who wants them all');
SELECT count(*) FROM (
	SELECT FROM webhook_events.events AS e
		LEFT JOIN webhook_events.dispatches AS d ON d.event_id = e.id AND d.webhook_id = '$webhook' AND d.replay_of IS NULL
	WHERE e.id NOT IN (SELECT id FROM skipped)
	GROUP BY e.id HAVING count(d.id) <> 1) AS e
SQL
}
is(query(q{SELECT count(*) FROM webhook_events.dispatches WHERE error_message = 'Skipped by resume().'}), $skipped_dispatches,
	'as many dispatches are skipped as was said');
is(query(<<SQL), 0, 'what can be delivered was');
SELECT count(*) FROM webhook_events.dispatches WHERE webhook_id IN ('$steady', '$ordered')
	AND status <> 'SUCCEEDED' AND error_message <> 'Skipped by resume().'
SQL
is(query(<<'SQL'), 0, 'every dispatch has ended, and those that failed say why');
SELECT count(*) FROM webhook_events.dispatches
WHERE status = 'ACTIVE' OR finished_at IS NULL OR (status = 'FAILED' AND error_message IS NULL)
SQL

# Against what the receivers saw.
my %seen;
foreach my $request (map { $_->requests } $good, $moody, $bad)
{
	my $id = $request->{headers}{'x-apify-webhook-dispatch-id'} // next;

	push @{ $seen{$id} }, $request->{at};
}
my %calls = map { split /\|/ } split /\n/, query('SELECT dispatch_id, count(*) FROM webhook_events.calls GROUP BY 1');
my %answers = map { split /\|/ } split /\n/,
  query('SELECT dispatch_id, count(*) FROM webhook_events.calls WHERE response_status IS NOT NULL GROUP BY 1');
my %known = map { $_ => 1 } split /\n/, query('SELECT id FROM webhook_events.dispatches');
my %delivered = map { $_ => 1 } split /\n/,
  query("SELECT id FROM webhook_events.dispatches WHERE webhook_id IN ('$steady', '$ordered') AND status = 'SUCCEEDED'");

# Of an event that is skipped what was under way at a kill has no row.
is(scalar(grep {
	my $at = $seen{$_}[-1];
	!$known{$_} && !($skipped_events && grep { $_->[2] && $at < $_->[1] && $at > $_->[0] - 30 } @stops);
} keys %seen), 0, 'no request is of a dispatch that there is not');
is(scalar(grep { @{ $seen{$_} // [] } < $answers{$_} } keys %answers), 0, 'no answer was recorded that was not given');
is(scalar(grep { !$seen{$_} } keys %delivered), 0, 'what was delivered has reached its receiver');

# What was called and not recorded is called again, once for each time that the worker went.
my ($nkills, $repeated, $unexplained, $killed) = (scalar(grep { $_->[2] } @stops), 0, 0, 0);
foreach my $id (grep { @{ $seen{$_} } > ($calls{$_} // 0) } keys %seen)
{
	my @at = sort { $a <=> $b } @{ $seen{$id} };
	my $more = @at - ($calls{$id} // 0);
	my $explained = 0;

	foreach my $i (1 .. $#at)
	{
		my @between = grep { $at[ $i - 1 ] < $_->[1] && $at[$i] > $_->[0] } @stops;

		$explained++ if @between;
		$killed++ if $delivered{$id} && grep { $_->[2] } @between;
	}

	# One that was given up while it was under way is not called again.
	$explained++ if !$delivered{$id} && grep { $at[-1] < $_->[1] && $at[-1] > $_->[0] - 30 } @stops;
	$repeated += $more;
	$unexplained++, note("dispatch $id: requests at @at, " . ($calls{$id} // 0) . ' calls') if $more > $explained;
}
is($unexplained, 0, 'none was called more often than recorded but around a stop of the worker');
cmp_ok($repeated, '<=', @stops * $unrecorded_limit, 'and then only what was under way');

# Of those skipped, audit() misses also what webhooks that come and go would have got.
# And it can't know of an event that was routed before its webhook was committed.
query("CREATE TABLE findings AS SELECT a.* FROM webhook_events.audit('$began_at') AS a LEFT JOIN webhook_events_internal.webhooks AS w ON w.id = a.webhook_id"
	  . " WHERE (a.problem = 'dispatch is missing' AND webhook_events.id_time(a.event_id) < w.created_at + interval '2 s') IS NOT TRUE");
is(query(<<SQL), '', 'audit() finds nothing but what was skipped');
SELECT * FROM findings WHERE problem <> 'dispatch is missing' OR event_id >= webhook_events.id_lower_bound('$skipped_until')
SQL
cmp_ok(query(q{SELECT count(*) FROM (SELECT event_id FROM findings WHERE problem = 'dispatch is missing' UNION SELECT id FROM skipped) AS e}),
	'<=', $skipped_events, 'and no more of that than was said');
wait_for_sql($node, <<'SQL', '');
SELECT string_agg(w.id, ' ') FROM webhook_events.webhooks AS w JOIN actor_runs AS r ON r.id = w.actor_run_id
WHERE w.is_ad_hoc AND w.is_enabled AND r.status = 'SUCCEEDED'
SQL
pass('ad-hoc webhooks of runs that ended have retired');
isnt(query('SELECT count(*) FROM webhook_events.webhooks WHERE is_ad_hoc'), 0, 'and there were some');

# Files of tables come and go; the rest are connections, of which there is a limit.
SKIP:
{
	my $pid = query('SELECT worker_pid FROM webhook_events.status()');

	skip 'no descriptors are told of here', 1 unless -d "/proc/$pid/fd";
	my @other = grep { defined && !m{/(?:base|global|pg_\w+)/} } map { readlink } glob "/proc/$pid/fd/*";
	cmp_ok(scalar @other, '<=', $max_in_flight + 32, "the worker's descriptors have not grown");
	diag(scalar(@other) . ' descriptors of the worker at the end');
}
diag(query('SELECT count(*) FROM webhook_events.events') . ' events, ' . keys(%known) . ' dispatches, '
	  . query('SELECT count(*) FROM webhook_events.calls') . " calls, $nkills kills, " . (@stops - $nkills)
	  . " stops, $repeated called again ($killed deliveries after a kill), $skipped_events events and $skipped_dispatches dispatches skipped");

$node->stop;
done_testing();
