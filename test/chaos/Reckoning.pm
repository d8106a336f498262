# Reckoning.pm
#	  What must hold after a chaos run: of the tables, of what the receivers saw, of the
#	  server's log, and of the worker's memory and descriptors.

package Reckoning;

use strict;
use warnings;

use Exporter 'import';
use PostgreSQL::Test::Utils;
use Test::More;
use WebhookEvents::Node;
use WebhookEvents::Writers;

our @EXPORT = qw(reckon check_log check_growth);

# What the worker may have called and not recorded when it is killed: what is under way,
# and what was answered within a flush.
my $unrecorded_limit = 1024;

# A stop and what a proxy passes on after it, in seconds.
my $late = 1;

# Arguments: query (a function), receivers, steady (name => webhook that was never touched and
# whose endpoint answers), random (one whose endpoint does now and then), once (those that are not
# to be retried), stops ([from, to, whether it was a kill]), nskips, skipped_events and skipped_dispatches (as was said), skipped_until
# (transactions from there on were not skipped), max_retries, nclock (how often the clock was set).
sub reckon
{
	my (%run) = @_;
	my $query = $run{query};

	is_done($query);
	check_routing(%run);
	check_rules(%run);
	my $summary = check_requests(%run);
	check_order(%run);
	check_audit(%run);

	wait_until {
		$query->('SELECT count(*) FROM webhook_events.webhooks AS w JOIN actor_runs AS r ON r.id = w.actor_run_id'
			  . " WHERE w.is_ad_hoc AND w.is_enabled AND r.status = 'SUCCEEDED'") eq '0'
	}
	'ad-hoc webhooks of runs that ended have retired';
	pass('ad-hoc webhooks of runs that ended have retired');
	isnt($query->('SELECT count(*) FROM webhook_events.webhooks WHERE is_ad_hoc'), 0, 'and there were some');
	diag($query->('SELECT count(*) FROM webhook_events.events') . ' events, '
		  . $query->('SELECT count(*) FROM webhook_events.dispatches') . ' dispatches, '
		  . $query->('SELECT count(*) FROM webhook_events.calls') . " calls, $summary,"
		  . " $run{skipped_events} events and $run{skipped_dispatches} dispatches skipped");
	return;
}

# What one endpoint was slow to take can be very much: as long as it gets less there is no fault.
sub is_done
{
	my ($query) = @_;
	my $done = q{SELECT running AND events_waiting = 0 AND dispatches_active = 0 AND in_flight = 0 AND troubles IS NULL}
	  . ' FROM webhook_events.status()';
	my ($left, $before, $is_done);

	do
	{
		$before = $left;
		$is_done = eval { wait_until { $query->($done) eq 't' } 'all is delivered', 300; 1 };
		$left = $query->(q{SELECT count(*) FROM webhook_events.dispatches WHERE status = 'ACTIVE'});
	} until ($is_done || (defined $before && $left >= $before));

	ok($is_done, 'all that waits comes to its end') or diag($query->(q{SELECT row_to_json(s) FROM webhook_events.status() AS s}));
	return;
}

sub check_routing
{
	my (%run) = @_;
	my $query = $run{query};
	my %wants_all = (%{ $run{steady} }, random => $run{random});

	is($query->(untrue_transitions()), 0, 'every committed transition has one event, and no other has');

	# An event that was skipped before it was routed has no dispatch; or only those that a
	# worker which was killed then had recorded.
	$query->('CREATE TABLE skipped AS SELECT e.id, e.actor_run_id FROM webhook_events.events AS e'
		  . ' LEFT JOIN (SELECT event_id, count(DISTINCT webhook_id) AS webhooks FROM webhook_events.dispatches'
		  . " WHERE webhook_id IN ('" . join("', '", values %wants_all) . "') AND replay_of IS NULL GROUP BY 1) AS d ON d.event_id = e.id"
		  . ' WHERE coalesce(d.webhooks, 0) < ' . keys %wants_all);
	cmp_ok($query->('SELECT count(*) FROM skipped'), '<=', $run{skipped_events},
		'every event was routed, but for those that were said to be skipped');
	foreach my $name (sort keys %wants_all)
	{
		is($query->(<<SQL), 0, "each by one dispatch to one who wants them all: $name");
SELECT count(*) FROM (
	SELECT FROM webhook_events.events AS e
		LEFT JOIN webhook_events.dispatches AS d ON d.event_id = e.id AND d.webhook_id = '$wants_all{$name}' AND d.replay_of IS NULL
		LEFT JOIN skipped AS s ON s.id = e.id
	WHERE s.id IS NULL
	GROUP BY e.id HAVING count(d.id) <> 1) AS e
SQL
	}
	is($query->(<<'SQL'), 0, 'and to nobody by two');
SELECT count(*) FROM (SELECT FROM webhook_events.dispatches WHERE replay_of IS NULL
	GROUP BY event_id, webhook_id HAVING count(*) > 1) AS d
SQL
	# What had been called by then and was not recorded yet counts as what it came to.
	is($query->('SELECT count(*) FROM said_skipped'), $run{skipped_dispatches}, 'as many dispatches were skipped as was said');
	is($query->(<<'SQL'), 0, 'and no others');
SELECT count(*) FROM (SELECT id FROM webhook_events.dispatches WHERE error_message = 'Skipped by resume().'
	EXCEPT SELECT dispatch_id FROM said_skipped) AS d
SQL
	is($query->(<<'SQL'), 0, 'what was not in the end had been called');
SELECT count(*) FROM said_skipped AS s LEFT JOIN webhook_events.dispatches AS d ON d.id = s.dispatch_id
WHERE d.error_message IS DISTINCT FROM 'Skipped by resume().' AND (d.attempts > 0) IS NOT TRUE
SQL
	cmp_ok($query->(<<'SQL'), '<=', $unrecorded_limit * $run{nskips}, 'and was being recorded then');
SELECT count(*) FROM said_skipped AS s JOIN webhook_events.dispatches AS d ON d.id = s.dispatch_id
WHERE d.error_message IS DISTINCT FROM 'Skipped by resume().'
SQL
	return;
}

# How dispatches have ended.
sub check_rules
{
	my (%run) = @_;
	my $query = $run{query};
	my $once = '{' . join(',', @{ $run{once} }) . '}';

	foreach my $name (sort keys %{ $run{steady} })
	{
		is($query->(<<SQL), '', "what can be delivered was: $name");
SELECT string_agg(DISTINCT concat_ws(' ', status, error_message), ', ') FROM webhook_events.dispatches
WHERE webhook_id = '$run{steady}{$name}' AND status <> 'SUCCEEDED' AND error_message <> 'Skipped by resume().'
SQL
	}
	is($query->(<<SQL), '', 'every dispatch has ended by the rules');
SELECT string_agg(concat_ws(' ', d.id, d.status, d.attempts, d.error_message), ', ') FROM (
	SELECT d.*, d.webhook_id = ANY ('$once') AS is_once, c.calls, c.last_status
	FROM webhook_events.dispatches AS d LEFT JOIN (SELECT dispatch_id, count(*) AS calls, (array_agg(response_status ORDER BY attempt DESC))[1] AS last_status
			FROM webhook_events.calls GROUP BY 1) AS c ON c.dispatch_id = d.id) AS d
WHERE finished_at IS NULL OR attempts <> coalesce(calls, 0) OR CASE status
	WHEN 'SUCCEEDED' THEN last_status IS NULL OR last_status NOT BETWEEN 200 AND 299
	WHEN 'FAILED' THEN error_message IS NULL OR error_message NOT IN (
			'Webhook was removed.', 'Webhook was disabled.', 'Skipped by resume().')
		AND attempts <> CASE WHEN is_once THEN 1 ELSE $run{max_retries} + 1 END AND last_status IS DISTINCT FROM 410
	ELSE true END
SQL
	is($query->("SELECT count(*) FROM webhook_events.dispatches WHERE webhook_id = ANY ('$once') AND attempts > 1"),
		0, 'what is not to be retried is not');
	return;
}

# Against what the receivers saw.  Returns a summary.
sub check_requests
{
	my (%run) = @_;
	my $query = $run{query};
	my @stops = @{ $run{stops} };
	my %seen;
	my $map = sub { return map { split /\|/ } split /\n/, $query->($_[0]) };

	push @{ $seen{ $_->[0] } }, $_->[1] foreach map { $_->values_of('x-apify-webhook-dispatch-id') } @{ $run{receivers} };
	my %calls = $map->('SELECT dispatch_id, count(*) FROM webhook_events.calls GROUP BY 1');

	# A proxy answers 502 and 504 by itself.
	my %answers = $map->('SELECT dispatch_id, count(*) FROM webhook_events.calls'
		  . ' WHERE response_status NOT IN (502, 504) GROUP BY 1');
	my %known = map { $_ => 1 } split /\n/, $query->('SELECT id FROM webhook_events.dispatches');
	my %delivered = map { $_ => 1 } split /\n/, $query->(q{SELECT id FROM webhook_events.dispatches WHERE status = 'SUCCEEDED'});

	# Of an event that is skipped what was under way at a kill has no row.
	is(scalar(grep {
		my $at = $seen{$_}[-1];
		!$known{$_} && !($run{skipped_events} && grep { $_->[2] && $at < $_->[1] + $late && $at > $_->[0] - 30 } @stops);
	} keys %seen), 0, 'no request is of a dispatch that there is not');
	is(join(' ', grep { @{ $seen{$_} // [] } < $answers{$_} } sort keys %answers), '', 'no answer was recorded that was not given');
	is(join(' ', grep { !$seen{$_} } sort keys %delivered), '', 'what was delivered has reached its receiver');

	# What was called and not recorded is called again, once for each time that the worker went.
	my ($nkills, $repeated, $unexplained, $killed) = (scalar(grep { $_->[2] } @stops), 0, 0, 0);
	foreach my $id (grep { @{ $seen{$_} } > ($calls{$_} // 0) } keys %seen)
	{
		my @at = sort { $a <=> $b } @{ $seen{$id} };
		my $more = @at - ($calls{$id} // 0);
		my $explained = 0;

		foreach my $i (1 .. $#at)
		{
			my @between = grep { $at[ $i - 1 ] < $_->[1] + $late && $at[$i] > $_->[0] } @stops;

			$explained++ if @between;
			$killed++ if $delivered{$id} && grep { $_->[2] } @between;
		}

		# One that was given up while it was under way is not called again.
		$explained++ if !$delivered{$id} && grep { $at[-1] < $_->[1] + $late && $at[-1] > $_->[0] - 30 } @stops;
		$repeated += $more;
		$unexplained++, diag("dispatch $id: requests at @at, " . ($calls{$id} // 0) . ' calls') if $more > $explained;
	}
	is($unexplained, 0, 'none was called more often than recorded but around a stop of the worker');
	cmp_ok($repeated, '<=', @stops * $unrecorded_limit, 'and then only what was under way');
	return "$nkills kills, " . (@stops - $nkills) . " stops, $repeated called again ($killed deliveries after a kill)";
}

# The dispatches of a run go out in the order of its events' ids, which is that in which they
# happened, unless the clock was set back in between.
sub check_order
{
	my (%run) = @_;
	my %first;

	foreach my $seen (map { $_->values_of('x-apify-webhook-dispatch-id') } @{ $run{receivers} })
	{
		my ($id, $at) = @$seen;

		$first{$id} = $at if !exists $first{$id} || $first{$id} > $at;
	}
	my ($last_run, $last_event, $last_at, $nback, @overtaking) = ('', '', 0, 0);
	foreach my $row (split /\n/, $run{query}->(<<SQL))
SELECT t.run, e.id, d.id FROM transitions AS t
	JOIN webhook_events.events AS e ON e.actor_run_id = t.run AND e.event_type::text = t.event_type
	JOIN webhook_events.dispatches AS d ON d.event_id = e.id AND d.webhook_id = '$run{steady}{ordered}' AND d.replay_of IS NULL
WHERE d.status = 'SUCCEEDED' ORDER BY t.run, t.n
SQL
	{
		my ($run, $event, $id) = split /\|/, $row;
		my $at = $first{$id} // 0;

		if ($run eq $last_run && $event lt $last_event)
		{
			$nback++;
		}
		elsif ($run eq $last_run && $at < $last_at)
		{
			push @overtaking, $run;
		}
		($last_run, $last_event, $last_at) = ($run, $event, $at);
	}
	is_deeply(\@overtaking, [], 'where order was asked for, there is one');
	cmp_ok($nback, '<=', 10 * $run{nclock}, 'but for runs in which the clock was set back');
	return;
}

# Of those skipped, audit() misses also what webhooks that come and go would have got.  An
# event may have been routed before its webhook was committed or changed: only of transactions
# that began later it is certain that they were not.
sub check_audit
{
	my (%run) = @_;
	my $query = $run{query};

	$query->('CREATE TABLE findings AS SELECT a.*, e.xid AS event_xid, k.xid AS known_xid'
		  . " FROM webhook_events.audit('-infinity', 'infinity') AS a"
		  . ' LEFT JOIN webhook_events_internal.outbox AS e ON e.id = a.event_id'
		  . ' LEFT JOIN known_since AS k ON k.webhook_id = a.webhook_id'
		  . " WHERE (a.problem = 'dispatch is missing' AND e.xid < k.xid) IS NOT TRUE");
	is($query->(<<SQL), '', 'audit() finds nothing but what was skipped');
SELECT f.*, row_to_json(w) FROM findings AS f LEFT JOIN webhook_events_internal.webhooks AS w ON w.id = f.webhook_id
WHERE f.problem <> 'dispatch is missing' OR f.event_xid >= '$run{skipped_until}' LIMIT 10
SQL
	cmp_ok($query->(q{SELECT count(*) FROM (SELECT event_id FROM findings WHERE problem = 'dispatch is missing' UNION SELECT id FROM skipped) AS e}),
		'<=', $run{skipped_events}, 'and no more of that than was said');
	return;
}

# What the extension's processes say is about what an operator can act on, and is said once:
# a trouble, a host that does not answer, a webhook that was disabled, a worker's beginning
# and end.  Anything else would be news.  A worker that is asked to stop again while it records what
# was sent obeys at once, and only then.  Maintenance always does, and PostgreSQL says so if a
# statement was under way.  Arguments: workers (process ids that were seen at work),
# stops, nobstacles (for how many reasons something may have failed).
sub check_log
{
	my ($file, $query, %run) = @_;
	my ($nrests, $nended, $nbroken, $nlost, %started, %wishes, %resuming, %open, %troubles, %disabled, @twice, @news) = (0, 0, 0, 0);
	my $process = qr/^\S+ \S+ \S+ \[(\d+)\] webhook_events (worker|launcher|maintenance): /;

	# True if the beginning of something follows its end, or the other way round.
	my $is_turn = sub {
		my ($pid, $what, $begins) = @_;
		my $was = $open{"$pid $what"} // 0;

		$open{"$pid $what"} = $begins;
		return $was != $begins;
	};

	# In an hour another process can get the number of one that is gone.
	my $forget = sub {
		my ($pid) = @_;

		delete @open{ grep { /^$pid / } keys %open };
		return;
	};

	open(my $log, '<', $file) or die "could not open $file: $!";
	while (my $line = <$log>)
	{
		# During a hold, which ends with the transaction, a worker may forget how hosts stand, and then says it again.
		$resuming{$1} = 1 if $line =~ /\[(\d+)\] client backend: LOG:  statement: SELECT webhook_events\.resume\(/;
		if ($line =~ /parameter "webhook_events\.delivery" removed/
			|| $line =~ /\[(\d+)\] client backend: LOG:  statement: COMMIT/ && delete $resuming{$1})
		{
			$open{$_} = -1 foreach grep { / \S+:\d+$/ } keys %open;
		}
		%open = () if $line =~ /postmaster: LOG:  (?:all server processes terminated; reinitializing|starting PostgreSQL )/;
		$wishes{$1}++ if $line =~ /statement: SELECT pg_terminate_backend\((\d+), /;
		$_++ foreach $line =~ /postmaster: LOG:  received fast shutdown request/ ? values %wishes : ();
		my ($pid, $kind) = $line =~ $process or next;
		my ($level, $text) = $' =~ /^([A-Z]+):  (.*)/ or next;
		my $is_once = 1;

		next if $level =~ /^(DETAIL|HINT|CONTEXT|STATEMENT)$/;
		# Its end comes in the next line.
		if ($text eq 'terminating background worker "webhook_events worker" due to administrator command'
			&& ($wishes{$pid} // 0) > 1)
		{
			$forget->($pid);
			next;
		}
		if ($text =~ /^(.*) of database "postgres" (fails and will be tried again: .*|works again)$/)
		{
			my ($what, $is_end) = ($1, $2 eq 'works again');

			$is_once = $is_turn->($pid, $what, $is_end ? 0 : 1);
			$troubles{$what}++ if !$is_end;
		}
		elsif ($text =~ /^host (\S+) (?:(does not answer webhooks of database "postgres" and rests)|answers webhooks of database "postgres" again)$/)
		{
			my ($host, $rests) = ($1, defined $2 ? 1 : 0);

			$is_once = $is_turn->($pid, $host, $rests);
			$nrests += $rests;
		}
		# Pauses follow one another, and each worker says that there is one.
		elsif ($text =~ /^webhooks of database "postgres" are (?:not delivered: (?:they are paused|webhook_events\.delivery is off)|delivered again)$/)
		{
			next;
		}
		elsif ($text =~ /^webhook "(\w+)" of database "postgres" was disabled$/)
		{
			$disabled{$1}++;
		}
		elsif ($text =~ /^webhook_events worker of database "postgres" has started$/)
		{
			$is_once = $is_turn->($pid, 'worker', 1);
			$started{$pid}++;
			$wishes{$pid} = 0;
		}
		elsif ($text =~ /^webhook_events worker of database "postgres" has ended: it was asked to$/)
		{
			$is_once = $is_turn->($pid, 'worker', 0);
			$forget->($pid);
			$nended++;
		}
		elsif ($text eq 'some of what was sent from database "postgres" could not be recorded, and will be sent again')
		{
			$nlost++;
		}
		elsif ($text =~ /^webhook_events will try again to look after the tables of days of database "postgres", after an error while /)
		{
			$troubles{days}++;
		}
		elsif ($text eq 'webhook_events looks after the tables of days of database "postgres" again')
		{
			$is_once = $troubles{days};
		}
		elsif ($text eq 'terminating background worker "webhook_events maintenance" due to administrator command')
		{
			$nbroken++;
		}
		else
		{
			push @news, "$kind: $level: $text";
		}
		push @twice, $text if !$is_once;
	}
	close $log;
	is(join("\n", @news), '', 'the log has nothing that nobody expects');
	is(join("\n", @twice), '', 'what is said is said once');
	is(join(' ', grep { !$started{$_} } @{ $run{workers} }), '', 'it tells of each worker that begins');
	cmp_ok($nended, '<=', scalar(grep { !$_->[2] } @{ $run{stops} }), 'and of those that ended because they were asked to');
	cmp_ok($nbroken, '<=', scalar(grep { !$_->[2] } @{ $run{stops} }), 'and of maintenance that was stopped at work');
	cmp_ok($nlost, '<=', $nended, 'and of results that one of them could not record');
	is($query->("SELECT string_agg(id, ' ') FROM webhook_events_internal.webhooks"
			. " WHERE disabled_reason LIKE '%410 Gone%' AND id <> ALL ('{" . join(',', keys %disabled) . "}')"),
		'', 'of each webhook that was disabled');
	cmp_ok($nrests, '>', 0, 'and of hosts that do not answer');
	foreach my $what (sort keys %troubles)
	{
		cmp_ok($troubles{$what}, '<=', 2 * $run{nobstacles}, "of what failed no more often than there was a reason: $what");
	}
	diag('log: ' . keys(%started) . " workers, $nrests rests, " . keys(%disabled) . ' webhooks disabled'
		  . join('', map { ", $_ fails: $troubles{$_}" } sort keys %troubles) . "; $run{nobstacles} obstacles");
	return;
}

sub descriptors
{
	my ($pid) = @_;
	my %kinds;

	# Files of tables come and go.
	foreach my $path (grep { defined && !m{/(?:base|global|pg_\w+)/} } map { readlink } glob "/proc/$pid/fd/*")
	{
		$kinds{ $path =~ /^(socket|pipe|anon_inode):/ ? $1 : 'file' }++;
	}
	return \%kinds;
}

sub memory
{
	my ($pid) = @_;
	my ($kilobytes) = slurp_file("/proc/$pid/status") =~ /^RssAnon:\s+(\d+) kB/m;

	return $kilobytes;
}

# After more of the same work the worker has the memory and the descriptors that it had before.
sub check_growth
{
	my ($node, $query, $max_in_flight) = @_;
	my $pid = $query->('SELECT worker_pid FROM webhook_events.status()');
	my $round = 0;
	my $work = sub {
		my ($nruns) = @_;

		$round++;
		$query->("INSERT INTO actor_runs (id, actor_id) SELECT 'growth-$round-' || n, 'growth' FROM generate_series(1, $nruns) AS n");
		$query->("UPDATE actor_runs SET status = 'SUCCEEDED' WHERE id LIKE 'growth-$round-%'");
		wait_until { $query->('SELECT events_waiting = 0 AND dispatches_active = 0 AND in_flight = 0 FROM webhook_events.status()') eq 't' }
		'all is delivered';
		return { memory => memory($pid), %{ descriptors($pid) } };
	};
	my $text = sub {
		my ($state) = @_;

		return join ', ', map { "$state->{$_} $_" } sort keys %$state;
	};

  SKIP:
	{
		skip 'nobody tells here what a process has', 4 unless -d "/proc/$pid/fd";
		my $before = $work->(400);
		$work->(400) for 1 .. 4;
		my $after = $work->(400);

		is($query->('SELECT worker_pid FROM webhook_events.status()'), $pid, 'the worker is the same');
		cmp_ok($after->{memory}, '<', $before->{memory} + 4096, 'its memory has not grown');
		cmp_ok($after->{socket}, '<=', $max_in_flight + 8, 'it has no more sockets than it may have');
		is(join(' ', map { "$after->{$_} $_" } qw(anon_inode pipe file)), join(' ', map { "$before->{$_} $_" } qw(anon_inode pipe file)),
			'and no more of anything else');
		diag('the worker after much: ' . $text->($before) . '; after more: ' . $text->($after));
	}
	return;
}

1;
