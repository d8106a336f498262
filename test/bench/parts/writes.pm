# writes.pm
#	  What the platform's own statements pay: heartbeat and transition.

package parts::writes;

use strict;
use warnings;

use Bench;
use File::Temp qw(tempdir);
use IPC::Run ();
use PostgreSQL::Test::Utils;

my $rows = 10000;

# Fills tables like actor_runs, one for each name.
sub fill_tables
{
	my ($node, @names) = @_;

	foreach my $name (@names)
	{
		sql($node, <<"SQL");
CREATE TABLE $name (LIKE actor_runs INCLUDING ALL);
INSERT INTO $name (id, actor_id, user_id, actor_task_id, status, status_message, build_id,
	build_number, default_key_value_store_id, default_dataset_id, default_request_queue_id,
	usage, usage_total_usd)
SELECT 'run' || lpad(i::text, 14, '0'), 'janeDoeCrawler001', 'userOfThePlatform', 'taskEveryMorning1',
	'RUNNING', 'Crawled 20 of 30 pages', 'buildNumber000022', '0.1.22', 'keyValueStore0001',
	'datasetOfTheRun01', 'requestQueue00001', '{"DATASET_READS": 3, "ACTOR_COMPUTE_UNITS": 0.0123}', 0.0123
FROM generate_series(1, $rows) AS i;
SQL
	}
	return;
}

# Milliseconds of one transaction of two clients of pgbench, medians by table.
sub transactions_in_turns
{
	my ($node, $rounds, $statement, @tables) = @_;
	my $directory = tempdir('pgbench_XXXXXX', TMPDIR => 1, CLEANUP => 1);
	my %times;

	append_to_file("$directory/$_", "\\set i random(1, $rows)\n" . $statement->($_)
		  . " WHERE id = 'run' || lpad(:i::text, 14, '0');\n")
	  foreach @tables;
	foreach my $round (1 .. $rounds)
	{
		foreach my $table (@tables)
		{
			sql($node, "VACUUM $table");
			my ($tps) = run_tool('pgbench', '-n', '-M', 'prepared', '-c', 2, '-T', $scale{pgbench_seconds},
				'-f', "$directory/$table", '-h', $node->host, '-p', $node->port, 'postgres') =~ /tps = ([0-9.]+)/
			  or die "pgbench failed\n";
			push @{ $times{$table} }, 2e3 / $tps;
		}
	}
	return map { $_ => median(@{ $times{$_} }) } @tables;
}

# Instructions that a server of its own spends on each of several lists of statements, one
# after the other in one process under callgrind, which notes its counts at each call of mark().
sub instructions
{
	my ($node, @segments) = @_;
	my $sql = join "\n", 'SELECT mark();', (map { (@$_, 'SELECT mark();') } [], @segments), '';
	my $directory = tempdir('callgrind_XXXXXX', TMPDIR => 1, CLEANUP => 1);
	my ($postgres) = grep { -x } map { "$_/postgres" } split /:/, $ENV{PATH};
	my $errors = '';

	IPC::Run::run([ 'valgrind', '--tool=callgrind', "--callgrind-out-file=$directory/out", '--dump-before=mark', $postgres, '--single',
			'-D', $node->data_dir, 'postgres' ], '<', \$sql, '>', '/dev/null', '2>', \$errors)
	  or die $errors;
	my ($mark, @counts) = map { slurp_file("$directory/out.$_") =~ /^summary: (\d+)/m ? $1 : die $errors } 2 .. 2 + @segments;

	return map { $_ - $mark } @counts;
}

# The same for tables, in turns: the medians by table of what statements cost, which the
# callback makes for a table and a turn.  The first turn does not count.
sub instructions_in_turns
{
	my ($node, $rounds, $statements, @tables) = @_;
	my @counts = instructions($node, map { my $round = $_; map { $statements->($_, $round) } @tables } 0 .. $rounds);

	return map { my $i = $_; $tables[$i] => median(map { $counts[ $i + $_ * @tables ] } 1 .. $rounds) } 0 .. $#tables;
}

# Instructions of an UPDATE, by table: of a row of a large one, or of a statement for one row.
sub instructions_of_update
{
	my ($node, $in_bulk, $assignments, @tables) = @_;
	my $statements = $in_bulk ? 1 : 200;
	my %count = instructions_in_turns($node, $in_bulk ? 1 : 5, sub {
		my ($table, $round) = @_;
		my $update = "UPDATE $table SET $assignments";

		return [$update] if $in_bulk;
		return [ map { "$update WHERE id = 'run" . sprintf('%014d', $_ + $round * $statements) . "'" } 1 .. $statements ];
	}, @tables);

	return map { $_ => $count{$_} / ($in_bulk ? $rows : $statements) } @tables;
}

# Stops the server to count instructions, if there is valgrind.
sub can_count_instructions
{
	my $node = shift;

	if (!grep { -x "$_/valgrind" } split /:/, $ENV{PATH})
	{
		note('instructions not counted: there is no valgrind');
		return 0;
	}
	progress('counting instructions with callgrind');
	$node->stop;
	return 1;
}

sub create_noop_trigger
{
	my $node = shift;
	my $noop = tool('noop');

	sql($node, <<"SQL");
CREATE FUNCTION noop() RETURNS trigger LANGUAGE c AS '$noop';
CREATE FUNCTION mark() RETURNS void LANGUAGE c AS '$noop';
CREATE FUNCTION cpu_seconds() RETURNS float8 LANGUAGE c AS '$noop';
CREATE TRIGGER noop AFTER UPDATE ON noop_runs FOR EACH ROW
	WHEN (OLD.status IS DISTINCT FROM NEW.status) EXECUTE FUNCTION noop();
SQL
	return;
}

# A trigger that does in PL/pgSQL what ours do, for statuses that raise an event.
sub create_plpgsql_outbox
{
	my $node = shift;

	sql($node, <<"SQL");
CREATE TABLE plpgsql_outbox (id bigserial PRIMARY KEY, at timestamptz DEFAULT now(),
	kind text, run text, payload jsonb);
CREATE INDEX ON plpgsql_outbox (at);
CREATE FUNCTION record() RETURNS trigger LANGUAGE plpgsql AS \$\$
BEGIN
	INSERT INTO plpgsql_outbox (kind, run, payload) VALUES (NEW.status, NEW.id, to_jsonb(NEW));
	RETURN NULL;
END \$\$;
CREATE TRIGGER record AFTER UPDATE ON plpgsql_runs FOR EACH ROW
	WHEN (OLD.status IS DISTINCT FROM NEW.status AND NEW.status IN ('SUCCEEDED', 'FAILED', 'ABORTED', 'TIMED-OUT'))
	EXECUTE FUNCTION record();
SQL
	return;
}

sub heartbeat
{
	with_node('heartbeat', '', sub {
		my $node = shift;
		my @tables = ('bare_runs', 'attached_runs');

		fill_tables($node, @tables);
		sql($node, "SELECT webhook_events.attach('attached_runs')");
		my %bulk = medians_in_turns($node, $scale{turns}, sub { "UPDATE $_[0] SET heartbeat_at = now()" }, @tables);
		result(what => 'one statement, a row',
			figure => sprintf('%.2f us', $bulk{attached_runs}[0] * 1e6 / $rows),
			reference => sprintf('bare %.2f us', $bulk{bare_runs}[0] * 1e6 / $rows),
			number => $bulk{attached_runs}[0] / $bulk{bare_runs}[0], bar => '<= 1.1');
		my %single = transactions_in_turns($node, $scale{rounds}, sub { "UPDATE $_[0] SET heartbeat_at = now()" }, @tables);
		result(what => 'committed one by one, 2 clients',
			figure => sprintf('%.3f ms', $single{attached_runs}),
			reference => sprintf('bare %.3f ms', $single{bare_runs}),
			number => $single{attached_runs} / $single{bare_runs}, bar => '<= 1.05');

		fill_tables($node, 'noop_runs');
		create_noop_trigger($node);
		sql($node, 'VACUUM ANALYZE');
		return unless can_count_instructions($node);
		foreach my $case ([ 'instructions, one statement, a row', 1 ], [ 'instructions of one statement for one row', 0 ])
		{
			my ($what, $in_bulk) = @$case;
			my %count = instructions_of_update($node, $in_bulk, 'heartbeat_at = now()', @tables, 'noop_runs');

			result(what => $what, figure => sprintf('%.0f', $count{attached_runs}),
				reference => sprintf('bare %.0f', $count{bare_runs}),
				number => sprintf('%.4f', $count{attached_runs} / $count{bare_runs}), bar => '<= 1.02');
			result(what => '  of a C trigger that does nothing with this WHEN', figure => sprintf('%.0f', $count{attached_runs}),
				reference => sprintf('%.0f', $count{noop_runs}),
				number => sprintf('%.4f', $count{attached_runs} / $count{noop_runs}), bar => '<= 1.02');
		}
		$node->start;
	});
	return;
}

sub transition
{
	with_node('transition', "shared_buffers = 128MB\n", sub {
		my $node = shift;
		my @tables = qw(bare_runs noop_runs attached_runs plpgsql_runs);
		my $update = "SET status = CASE status WHEN 'SUCCEEDED' THEN 'FAILED' ELSE 'SUCCEEDED' END";

		sql($node, "SELECT webhook_events.pause('benchmark')");
		fill_tables($node, @tables, 'pgq_runs');
		create_noop_trigger($node);
		sql($node, "SELECT webhook_events.attach('attached_runs')");
		create_plpgsql_outbox($node);
		if (sql($node, "SELECT count(*) FROM pg_available_extensions WHERE name = 'pgq'") > 0)
		{
			sql($node, <<'SQL');
CREATE EXTENSION pgq;
SELECT pgq.create_queue('q');
CREATE TRIGGER pgq AFTER UPDATE ON pgq_runs FOR EACH ROW
	WHEN (OLD.status IS DISTINCT FROM NEW.status) EXECUTE FUNCTION pgq.logutriga('q');
SQL
			push @tables, 'pgq_runs';
		}
		my %name = (noop_runs => 'C trigger that does nothing', attached_runs => 'attached',
			plpgsql_runs => 'PL/pgSQL with to_jsonb', pgq_runs => "PgQ's C trigger");

		my %bulk = medians_in_turns($node, $scale{turns}, sub { "UPDATE $_[0] $update" }, @tables);
		my $added = sub { ($bulk{ $_[0] }[0] - $bulk{bare_runs}[0]) * 1e6 / $rows };
		my $wal = sub { ($bulk{ $_[0] }[1] - $bulk{bare_runs}[1]) / $rows };

		result(what => "$rows rows in one UPDATE, bare, a row",
			figure => sprintf('%.2f us', $bulk{bare_runs}[0] * 1e6 / $rows));
		foreach my $table (grep { $_ ne 'bare_runs' } @tables)
		{
			result(what => "  $name{$table} adds",
				figure => sprintf('%.2f us, %.0f B', $added->($table), $wal->($table)),
				$table ne 'attached_runs' ? () : (
					reference => sprintf('PL/pgSQL %.2f us', $added->('plpgsql_runs')),
					number => $added->($table) / $added->('plpgsql_runs'), bar => '<= 0.333'));
		}
		# What the rows cost when they are ready made: no trigger can do with less.
		sql($node, <<'SQL');
CREATE TABLE rows_ready AS SELECT * FROM webhook_events_internal.outbox WHERE new_status <> 'READY' LIMIT 10000;
CREATE TABLE rows_copied (LIKE webhook_events_internal.outbox_default INCLUDING INDEXES);
SQL
		my %copied = medians_in_turns($node, $scale{turns}, sub {
			my ($table, $round) = @_;

			return sprintf(q{INSERT INTO %s SELECT '%02d' || substr(id, 3), created_at, xid, event_type, user_id, actor_id,
				actor_task_id, actor_run_id, actor_build_id, old_status, new_status, webhook_id, resource FROM rows_ready},
				$table, $round);
		}, 'rows_copied');
		result(what => '  such rows, ready made, INSERT ... SELECT',
			figure => sprintf('%.2f us, %.0f B', $copied{rows_copied}[0] * 1e6 / $rows, $copied{rows_copied}[1] / $rows),
			reference => sprintf('PL/pgSQL %.2f us', $added->('plpgsql_runs')),
			number => $copied{rows_copied}[0] * 1e6 / $rows / $added->('plpgsql_runs'));
		result(what => '  WAL of attached', figure => sprintf('%.0f B', $wal->('attached_runs')),
			reference => sprintf('PL/pgSQL %.0f B', $wal->('plpgsql_runs')),
			number => $wal->('attached_runs') / $wal->('plpgsql_runs'), bar => '<= 1');

		sql($node, 'ALTER SYSTEM SET synchronous_commit = off; SELECT pg_reload_conf()');
		my %single = transactions_in_turns($node, $scale{rounds}, sub { "UPDATE $_[0] $update" }, @tables);
		$added = sub { ($single{ $_[0] } - $single{bare_runs}) * 1e3 };
		result(what => 'one row each, 2 clients, asynchronous, bare',
			figure => sprintf('%.1f us', $single{bare_runs} * 1e3));
		foreach my $table (grep { $_ ne 'bare_runs' } @tables)
		{
			result(what => "  $name{$table} adds", figure => sprintf('%.1f us', $added->($table)),
				$table ne 'attached_runs' ? () : (
					reference => sprintf('PL/pgSQL %.1f us', $added->('plpgsql_runs')),
					number => $added->($table) / $added->('plpgsql_runs'), bar => '<= 0.5'));
		}

		# Without the noise, and without what the kernel does.
		sql($node, 'VACUUM ANALYZE');
		return unless can_count_instructions($node);
		foreach my $case ([ 'instructions added, one UPDATE, a row', 1 ], [ 'instructions added to an UPDATE of one row', 0 ])
		{
			my ($what, $in_bulk) = @$case;
			my %count = instructions_of_update($node, $in_bulk, substr($update, 4), qw(bare_runs attached_runs plpgsql_runs));
			my ($ours, $theirs) = map { $count{$_} - $count{bare_runs} } qw(attached_runs plpgsql_runs);

			result(what => $what, figure => sprintf('%.0f', $ours), reference => sprintf('PL/pgSQL %.0f', $theirs),
				number => $ours / $theirs);
		}
		$node->start;
	});
	return;
}

# The three statements of a run's life, for the run of number i.
sub statements_of_life
{
	my ($table, $number) = (@_, 'i');
	my $id = "'run' || lpad($number\::text, 14, '0')";

	return ("INSERT INTO $table (id, actor_id, user_id, actor_task_id, status, build_id) VALUES ($id, 'janeDoeCrawler001',"
		  . " 'userOfThePlatform', 'taskEveryMorning1', 'READY', 'buildNumber000022')",
		"UPDATE $table SET status = 'RUNNING' WHERE id = $id",
		"UPDATE $table SET status = 'SUCCEEDED', finished_at = now() WHERE id = $id");
}

# Microseconds of a life when two clients of pgbench live them, by table for each turn.
sub lives_of_clients
{
	my ($node, @tables) = @_;
	my $directory = tempdir('pgbench_XXXXXX', TMPDIR => 1, CLEANUP => 1);
	my %times;

	# Ids that nobody else takes: a client's process and its own count.
	foreach my $table (@tables)
	{
		sql($node, "CREATE SEQUENCE ${table}_ids START 20000000");
		append_to_file("$directory/$table", "SELECT nextval('${table}_ids') AS i \\gset\n"
			  . join('', map { "$_;\n" } statements_of_life($table, ':i')));
	}
	foreach my $round (1 .. $scale{client_turns})
	{
		foreach my $table (@tables)
		{
			sql($node, "VACUUM $table");
			my ($tps) = run_tool('pgbench', '-n', '-M', 'prepared', '-c', 2, '-T', $scale{pgbench_seconds},
				'-f', "$directory/$table", '-h', $node->host, '-p', $node->port, 'postgres') =~ /tps = ([0-9.]+)/
			  or die "pgbench failed\n";
			push @{ $times{$table} }, 2e6 / $tps;
		}
	}
	return %times;
}

# What statements, which the callback makes for a table and a turn, take on tables, in one
# session and in turns that begin with another table each: by table for each turn the seconds
# by the clock and by the session's CPU.  The first turn does not count.
sub spent_in_turns
{
	my ($node, $rounds, $statement, @tables) = @_;
	my @order = map { my $round = $_; map { [ $tables[ ($_ + $round) % @tables ], $round ] } 0 .. $#tables } 0 .. $rounds;
	my $now = 'SELECT extract(epoch FROM clock_timestamp()) AS clock, cpu_seconds() AS cpu \gset';
	my @spent = split /\n/, sql($node, join "\n", map {
			("$now before_", $statement->(@$_) . ';', "$now after_", 'SELECT :after_clock - :before_clock, :after_cpu - :before_cpu;')
		} @order);
	my %times;

	foreach my $i (0 .. $#order)
	{
		my ($table, $round) = @{ $order[$i] };

		push @{ $times{$table} }, [ split /[|]/, $spent[$i] ] if $round > 0;
	}
	return %times;
}

# What triggers add to a loop of $count turns, against what PL/pgSQL adds: medians of what
# each turn says.
sub added
{
	my ($name, $what, $count, $bar, %times) = @_;

	foreach my $by ([ clock => 0 ], [ CPU => 1 ])
	{
		my ($unit, $i) = @$by;
		my $added = sub {
			my ($table) = @_;

			return median(map { $times{$table}[$_][$i] - $times{bare_runs}[$_][$i] } 0 .. $#{ $times{bare_runs} }) * 1e6 / $count;
		};

		result(what => "$what, by $unit, bare", figure => sprintf('%.1f us', median(map { $_->[$i] } @{ $times{bare_runs} }) * 1e6 / $count));
		foreach my $table (qw(noop_runs attached_runs plpgsql_runs))
		{
			result(what => "  $name->{$table} adds", figure => sprintf('%.1f us', $added->($table)),
				$table ne 'attached_runs' ? () : (
					reference => sprintf('PL/pgSQL %.1f us', $added->('plpgsql_runs')),
					number => $added->($table) / $added->('plpgsql_runs'), bar => $bar));
		}
	}
	return;
}

# Whole lives of runs, each write committed by itself: inserted, started, ended.
# What PL/pgSQL writes are the same two rows.
sub life
{
	with_node('life', "shared_buffers = 128MB\nsynchronous_commit = off\n", sub {
		my $node = shift;
		my @tables = qw(bare_runs noop_runs attached_runs plpgsql_runs);
		my %name = (noop_runs => 'C triggers that do nothing', attached_runs => 'attached', plpgsql_runs => 'PL/pgSQL with to_jsonb');
		my $lives = $scale{lives};

		sql($node, "SELECT webhook_events.pause('benchmark')");
		fill_tables($node, @tables);
		create_noop_trigger($node);
		create_plpgsql_outbox($node);
		sql($node, "CREATE TRIGGER noop_insert AFTER INSERT ON noop_runs FOR EACH ROW EXECUTE FUNCTION noop();"
			  . "CREATE TRIGGER record_insert AFTER INSERT ON plpgsql_runs FOR EACH ROW EXECUTE FUNCTION record();"
			  . "SELECT webhook_events.attach('attached_runs')");
		foreach my $table (@tables)
		{
			my ($insert, @updates) = statements_of_life($table);

			sql($node, <<"SQL");
CREATE PROCEDURE ${table}_lives(first int, last int) LANGUAGE plpgsql AS \$\$
BEGIN
	FOR i IN first .. last LOOP
		$insert; COMMIT;
		$updates[0]; COMMIT;
		$updates[1]; COMMIT;
	END LOOP;
END \$\$;
CREATE PROCEDURE ${table}_updates(first int, last int) LANGUAGE plpgsql AS \$\$
BEGIN
	FOR i IN first .. last LOOP
		UPDATE $table SET status = CASE status WHEN 'SUCCEEDED' THEN 'FAILED' ELSE 'SUCCEEDED' END
			WHERE id = 'run' || lpad(i::text, 14, '0');
		COMMIT;
	END LOOP;
END \$\$;
ANALYZE $table;
SQL
		}
		# A day of some size: below 45,000 events each of their index entries is looked for from the root.
		foreach my $turn (1 .. 6)
		{
			sql($node, "UPDATE $_ SET status = CASE status WHEN 'SUCCEEDED' THEN 'FAILED' ELSE 'SUCCEEDED' END; VACUUM $_")
			  foreach @tables;
		}
		my %lived = spent_in_turns($node, $scale{life_turns}, sub {
			my ($table, $round) = @_;
			my $first = $rows + 1 + $round * $lives;

			return sprintf('CALL %s_lives(%d, %d)', $table, $first, $first + $lives - 1);
		}, @tables);
		added(\%name, 'lives in a loop on the server, one', $lives, '<= 0.35', %lived);
		my %updated = spent_in_turns($node, $scale{life_turns}, sub { "CALL $_[0]_updates(1, $lives)" }, @tables);
		added(\%name, 'updates in such a loop, one', $lives, '<= 0.30', %updated);

		my %single = lives_of_clients($node, @tables);
		my $added_by_clients = sub { my ($table) = @_; median(map { $single{$table}[$_] - $single{bare_runs}[$_] } 0 .. $#{ $single{$table} }) };
		result(what => 'lives, 2 clients of pgbench, bare', figure => sprintf('%.1f us', median(@{ $single{bare_runs} })));
		foreach my $table (@tables[ 1 .. $#tables ])
		{
			result(what => "  $name{$table} adds", figure => sprintf('%.1f us', $added_by_clients->($table)),
				$table ne 'attached_runs' ? () : (
					reference => sprintf('PL/pgSQL %.1f us', $added_by_clients->('plpgsql_runs')),
					number => $added_by_clients->($table) / $added_by_clients->('plpgsql_runs'), bar => '<= 0.35'));
		}

		# Not the events: small ones would go into what room VACUUM finds on pages that are summarized.
		sql($node, join '', map { "VACUUM ANALYZE $_;" } @tables);
		return unless can_count_instructions($node);
		my $counted = $scale{counted_lives};
		foreach my $case (
			[ 'instructions added to a life', '<= 0.35', sub { sprintf('CALL %s_lives(%d, %d)', $_[0], map { 9000000 + $_[1] * $counted + $_ } 1, $counted) } ],
			[ 'instructions added to an update alone', '<= 0.30', sub { "CALL $_[0]_updates(1, $counted)" } ])
		{
			my ($what, $bar, $statement) = @$case;
			my %count = instructions_in_turns($node, 2, sub { [ $statement->(@_) ] }, @tables);
			my ($noop, $ours, $theirs) = map { ($count{$_} - $count{bare_runs}) / $counted } qw(noop_runs attached_runs plpgsql_runs);

			result(what => $what, figure => sprintf('%.0f', $ours), reference => sprintf('PL/pgSQL %.0f', $theirs),
				number => $ours / $theirs, bar => $bar);
			result(what => '  of C triggers that do nothing', figure => sprintf('%.0f', $noop));
		}
		$node->start;
	});
	return;
}

1;
