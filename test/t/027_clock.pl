# 027_clock.pl
#	  Clocks that are set, in either direction: every event gets its id and its webhooks,
#	  what waits does not wait longer, and nothing is dropped.

use strict;
use warnings;
use Cwd qw(abs_path);
use File::Basename qw(dirname);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);
use WebhookEvents::Node;
use WebhookEvents::Receiver;

my $here = abs_path(dirname(__FILE__));
my $directory = PostgreSQL::Test::Utils::tempdir();
my $clock = "$directory/clock";
my $cc = (grep { defined && $_ ne '' } $ENV{CC}, 'cc')[0];
my $library = "$directory/clock.so";
my $hour = 3600;
my $year = 365 * 24 * $hour;

# Far longer than a retry takes, far shorter than the steps of the clock.
my $timeout = 240;

system_or_bail($cc, '-shared', '-fPIC', '-o', $library, "$here/../clock.c", '-ldl');

# The server's time is noon when the test begins, so that no day ends meanwhile.
my $noon = 12 * $hour - time % (24 * $hour);
my $passed = 0;

# Writes what a clock file holds, in one write to the same file, which is mapped.
sub write_clock
{
	my ($name, $step) = @_;
	my $mode = -e $name ? '+<' : '>';

	open(my $file, $mode, $name) or die $!;
	binmode $file;
	syswrite($file, pack('q2', map { int($_ * 1e6) } $noon + $step + $passed, $passed)) or die $!;
	close $file;
	return;
}

# Sets the clock so many seconds away from the right time.
sub set_clock
{
	my $step = shift;

	write_clock($clock, $step);
	return;
}

sub with_clock
{
	my $do = shift;

	local $ENV{LD_PRELOAD} = $library;
	local $ENV{TEST_CLOCK} = $clock;
	return $do->();
}

set_clock(0);
my $receiver = WebhookEvents::Receiver->new;
my $node = new_node('clock', start => 0, conf => <<'CONF');
webhook_events.retry_delay = '4s'
webhook_events.retry_jitter = 0
CONF
with_clock(sub { $node->start });
create_platform($node);

sub query
{
	return $node->safe_psql('postgres', shift);
}

sub insert_run
{
	my $id = shift;

	query("INSERT INTO actor_runs (id, actor_id) VALUES ('$id', '$id')");
	return;
}

# A webhook for the runs of one Actor.
sub subscribe
{
	my ($path, $actor) = @_;

	return create_webhook($node, $receiver->url($path), 'ACTOR.RUN.CREATED', actor_id => "'$actor'");
}

sub requests_of
{
	my $path = shift;

	return scalar grep { $_->{target} eq $path } $receiver->requests;
}

sub wait_for_requests_of
{
	my ($path, $count) = @_;

	wait_until { requests_of($path) >= $count } "$count requests of $path", $timeout;
	return;
}

sub look_after_days
{
	my $year = shift;

	wait_for_sql($node, "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'webhook_events maintenance'", 0);
	my $last = query('SELECT looked_at FROM webhook_events_internal.days_report()');
	query('SELECT webhook_events_internal.look_after_days()');
	wait_for_sql($node, "SELECT looked_at::text IS DISTINCT FROM nullif('$last', '') AND error IS NULL"
		  . " AND extract(year FROM looked_at) = $year FROM webhook_events_internal.days_report()", 't');
	return;
}

# Is the clock where the test thinks it is?
my $now = query('SELECT extract(epoch FROM clock_timestamp())');
cmp_ok(abs($now - time - $noon), '<', 600, 'the server has the clock of the test');
my $this_year = query("SELECT extract(year FROM clock_timestamp())");

# The server ends while a request is under way, and starts where the clock is behind.
foreach my $mode ('immediate', 'fast')
{
	subscribe("/hold/$mode", $mode);
	insert_run($mode);
	wait_for_requests_of("/hold/$mode", 1);
	if ($mode eq 'immediate')
	{
		wait_for_sql($node, 'SELECT dispatches_active FROM webhook_events.status()', 1);
		wait_for_sql($node, q{SELECT count(*) FROM webhook_events_internal.clocks WHERE name = 'work'}, 1);
	}
	else
	{
		query('DELETE FROM webhook_events_internal.clocks');
	}
	$node->stop($mode);
	set_clock(-75 * 60);
	with_clock(sub { $node->start });
	$receiver->release($mode);
	wait_for_requests_of("/hold/$mode", 2);
	wait_for_end($node);
	pass("$mode shutdown: what was under way does not wait for the time that comes again");
	set_clock(0);
}

# Set back while a retry waits; and an event of the time that comes twice has its webhooks.
subscribe('/flaky/back/1', 'back');
subscribe('/ok?after', 'after');
insert_run('back');
wait_for_requests_of('/flaky/back/1', 1);
set_clock(-75 * 60);
insert_run('after');
wait_for_requests_of('/ok?after', 1);
pass('an event after the clock was set back has the webhook that was there');
wait_for_requests_of('/flaky/back/1', 2);
pass('a retry does not wait for the time that comes again');
wait_for_end($node);
is(query(q{SELECT count(*) FROM webhook_events.audit('-infinity', 'infinity')}), 0, 'nothing is missing');

# The other way round: an event that is older than its webhook, by all but the clock.
query("SELECT webhook_events.pause()");
set_clock(0);
insert_run('old');
set_clock(-75 * 60);
my $young = subscribe('/ok?young', 'old');
is(query("SELECT x.reason FROM webhook_events.events AS e, webhook_events.explain_event(e.id) AS x"
	  . " WHERE e.actor_run_id = 'old' AND x.webhook_id = '$young'"),
	'created after the event', 'an event is older than a webhook that was defined when it had happened');
query("SELECT webhook_events.resume()");
wait_for_end($node);
is(requests_of('/ok?young'), 0, 'and is not sent to it');

# What overlaps is judged by the clock; a webhook's own transaction is its own.
query("BEGIN; SELECT webhook_events.create_webhook('" . $receiver->url('/ok?own')
	  . "', '{ACTOR.RUN.CREATED}', actor_id => 'own'); INSERT INTO actor_runs (id, actor_id) VALUES ('own', 'own'); COMMIT");
wait_for_requests_of('/ok?own', 1);

# Many sessions write at the same times, again and again.
my $failed = 0;
my $start = time;
foreach my $round (1 .. 40)
{
	set_clock(-2 * $hour - (time - $start));
	my ($status) = $node->psql('postgres', 'INSERT INTO actor_runs (id)'
		  . " SELECT 'many-$round-' || i FROM generate_series(1, 300) AS i");

	$failed++ if $status != 0;
}
is($failed, 0, 'no write fails for an id');
is(query("SELECT count(DISTINCT id) FROM webhook_events.events WHERE actor_run_id LIKE 'many-%'"),
	12000, 'and no id comes twice');

# Ids of a transaction are in order although the clock is set back within it.
write_clock("$directory/back", -3 * $hour);
query("BEGIN; INSERT INTO actor_runs (id) VALUES ('order-1');\n"
	  . "\\! dd if=$directory/back of=$clock conv=notrunc status=none\n"
	  . "INSERT INTO actor_runs (id) VALUES ('order-2'); INSERT INTO actor_runs (id) VALUES ('order-3'); COMMIT;");
is(query("SELECT string_agg(actor_run_id, ' ' ORDER BY id) FROM webhook_events.events WHERE actor_run_id LIKE 'order-%'"),
	'order-1 order-2 order-3', 'ids of a transaction are in the order of its events');

# Before there were ids.
set_clock(-30 * $year);
subscribe('/ok?last-century', 'century');
foreach my $round (1 .. 3)
{
	query('INSERT INTO actor_runs (id, actor_id)'
		  . " SELECT 'century-$round-' || i, 'century' FROM generate_series(1, 10) AS i");
}
wait_for_requests_of('/ok?last-century', 30);
is(query("SELECT count(DISTINCT id) FROM webhook_events.events WHERE actor_id = 'century'"), 30,
	'before 2020 ids are unique as well');

# Ten years ahead, and back: what was tried meanwhile is tried again soon, and no
# history is gone.
set_clock(0);
look_after_days($this_year);
my ($kept, $last) = map { query("SELECT webhook_events_internal.create_days(day, day) FROM (SELECT ((now()"
	  . " AT TIME ZONE 'UTC')::date - $_)) AS t (day)"); query("SELECT to_char((now() AT TIME ZONE 'UTC')::date - $_, 'YYYYMMDD')") } 15, 30;
my $tables = "SELECT string_agg(right(relname, 8), ' ' ORDER BY relname) FROM pg_class WHERE relname IN ('outbox_$kept', 'outbox_$last')";
look_after_days($this_year);
is(query($tables), "$last $kept", 'what is kept, is kept');
subscribe('/flaky/ahead/2', 'ahead');
set_clock(10 * $year);
insert_run('ahead');
wait_for_requests_of('/flaky/ahead/2', 1);
my $then = query("SELECT extract(year FROM clock_timestamp())");
cmp_ok($then, '>', $this_year + 8, 'the clock is years ahead');
look_after_days($then);
is(query($tables), "$last $kept", 'no history is dropped by a clock that was just set');
set_clock(0);
wait_for_requests_of('/flaky/ahead/2', 3);
wait_for_end($node);
pass('a retry that was due in years is made');
look_after_days($this_year);
is(query($tables), "$last $kept", 'nor after it was set back');

# A clock that stays is believed after an hour, a day at a time.
set_clock(10 * $year);
look_after_days($then);
$passed += $hour;
set_clock(10 * $year);
look_after_days($then);
is(query($tables), $kept, 'a clock that has run for an hour is believed, a day more');
set_clock(0);

# The server stops, and starts on a machine that is slower.
subscribe('/flaky/restart/2', 'restart');
insert_run('restart');
wait_for_requests_of('/flaky/restart/2', 1);
$node->stop;
set_clock(-75 * 60);
with_clock(sub { $node->start });
wait_for_requests_of('/flaky/restart/2', 3);
wait_for_end($node);
pass('a retry does not wait longer when the clock was set back meanwhile');

$node->stop;
done_testing();
