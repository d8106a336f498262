# 029_lookups.pl
#	  Looking up what belongs to a run, an Actor, a webhook or a user on days that
#	  are over touches few buffers, however much there is; and few of what there is on
#	  the day that is being written.

use strict;
use warnings;
use IPC::Run ();
use JSON::PP;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use WebhookEvents::Node;

my $days = 10;
my $node = new_node('lookups', conf => <<'CONF');
webhook_events.databases = ''
autovacuum = off
CONF

# So many events on each of the days before today, one dispatch each; of what is
# looked for ten on each, whatever the size, or a twentieth of all.
sub make_database
{
	my ($name, $size) = @_;

	$node->safe_psql('postgres', "CREATE DATABASE $name");
	$node->safe_psql($name, <<"SQL");
CREATE EXTENSION webhook_events;
SELECT webhook_events_internal.create_days((now() AT TIME ZONE 'UTC')::date - $days, (now() AT TIME ZONE 'UTC')::date + 3);
CREATE TABLE day AS SELECT n AS number,
	webhook_events.id_lower_bound(((now() AT TIME ZONE 'UTC')::date - n)::timestamp AT TIME ZONE 'UTC') AS lower
	FROM generate_series(1, $days) AS n;
INSERT INTO webhook_events_internal.outbox (id, created_at, xid, event_type, actor_run_id, actor_build_id, actor_task_id, actor_id, user_id, resource)
	SELECT lower || to_char(n, 'FM00000000'), now(), '1', 'ACTOR.RUN.CREATED', key, key, CASE key WHEN 'wanted' THEN key ELSE 'many' || n % 20 END, key, key, to_json(repeat('x', 200))
	FROM day, generate_series(1, $size) AS n, LATERAL (SELECT CASE n % ($size / 10) WHEN 0 THEN 'wanted' ELSE 'other' || n END) AS k (key);
INSERT INTO webhook_events_internal.dispatches (id, event_id, webhook_id, user_id, event_type, status, created_at, finished_at, attempts, last_status, last_duration)
	SELECT o.id, CASE o.id WHEN d.lower || to_char($size, 'FM00000000') THEN 'wanted' || d.number ELSE o.id END, o.actor_id, o.actor_task_id, o.event_type,
		CASE o.actor_id WHEN 'wanted' THEN 'FAILED' ELSE 'SUCCEEDED' END::webhook_events.dispatch_status, now(), now(), 1, 200, '1 ms'
	FROM webhook_events_internal.outbox AS o JOIN day AS d ON o.id ^@ d.lower;
INSERT INTO webhook_events_internal.calls (dispatch_id, attempt, started_at, finished_at, response_status)
	SELECT id, 1, now(), now(), 200 FROM webhook_events_internal.dispatches;
SQL
	return;
}

# As the maintenance process does it.
sub index_days
{
	my ($name) = @_;
	my $made = $node->safe_psql($name, 'SELECT count(*) FILTER (WHERE webhook_events_internal.index_day(u.kind, u.day))'
		  . " FROM webhook_events_internal.unindexed_days((now() AT TIME ZONE 'UTC')::date) AS u");

	is($made, $days * 8, "$name: the indexes of each day are made");
	is($node->safe_psql($name, "SELECT count(*) FROM webhook_events_internal.unindexed_days((now() AT TIME ZONE 'UTC')::date)"),
		0, "$name: and all of them");
	return;
}

my $page = 'ORDER BY id DESC LIMIT 50';
my $lower = sub { q{webhook_events.id_lower_bound((now() AT TIME ZONE 'UTC')::date::timestamp AT TIME ZONE 'UTC' - interval '} . "$_[0] hours')" };
my $hour = 'AND id >= ' . $lower->(72) . ' AND id < ' . $lower->(71);
my $second = 'AND id < ' . $lower->(96);
my %lookup = (
	(map { ("events by $_" => [ 'webhook_events.events', "$_ = \$1", 'wanted' ]) }
		  qw(actor_run_id actor_build_id actor_id user_id)),
	(map { ("dispatches by $_" => [ 'webhook_events.dispatches', "$_ = \$1", 'wanted' ]) } qw(webhook_id)),
	'events by a task that has many' => [ 'webhook_events.events', 'actor_task_id = $1', 'many7' ],
	'dispatches by a user who has many' => [ 'webhook_events.dispatches', 'user_id = $1', 'many7' ],
	'dispatches by event_id' => [ 'webhook_events.dispatches', 'event_id = $1', 'wanted5' ],
	'dispatches that failed' => [ 'webhook_events.dispatches', q{is_failed AND $1 <> ''}, 'wanted' ],
	(map { ("deliveries by $_" => [ 'webhook_events.deliveries', "$_ = \$1", 'wanted' ]) } qw(webhook_id)),
	'deliveries to a user who has many' => [ 'webhook_events.deliveries', 'user_id = $1', 'many7' ],
	'the newest deliveries' => [ 'webhook_events.deliveries', q{$1 <> ''}, 'wanted' ],
	'calls by webhook_id' => [ 'webhook_events.calls AS c JOIN webhook_events.dispatches AS d ON d.id = c.dispatch_id', 'webhook_id = $1', 'wanted' ],
);

# Buffers and rows of each look-up.
sub look_up
{
	my ($database, %lookup) = @_;
	my $sql = '';
	my %result;

	foreach my $mode (qw(force_custom_plan force_generic_plan))
	{
		$sql .= "SET plan_cache_mode = $mode;\n";
		foreach my $name (sort keys %lookup)
		{
			my ($relation, $condition, $value) = @{ $lookup{$name} };
			my %case = ('' => '', ', within a stretch of time' => $hour, ', next page' => $second);

			foreach my $case (sort keys %case)
			{
				$sql .= "PREPARE q(text) AS SELECT * FROM $relation WHERE $condition $case{$case} $page;\n";
				# Once before, so that the catalogs are known.
				$sql .= "EXPLAIN (ANALYZE, BUFFERS) EXECUTE q('$value') \\g /dev/null\n";
				$sql .= "\\echo $name$case, $mode\nEXPLAIN (ANALYZE, BUFFERS, TIMING off, FORMAT JSON) EXECUTE q('$value');\nDEALLOCATE q;\n";
			}
		}
	}
	my $output = $node->safe_psql($database, $sql);
	while ($output =~ /^([a-z][^\n]*)\n(\[.*?^\])/msg)
	{
		my ($name, $json) = ($1, $2);
		my $plan = decode_json($json)->[0]{Plan};

		$result{$name} = {
			buffers => $plan->{'Shared Hit Blocks'} + $plan->{'Shared Read Blocks'},
			rows => $plan->{'Actual Rows'}, plan => $json };
	}
	return \%result;
}

sub compare
{
	my ($what, @names) = @_;
	my ($small, $large) = map { look_up($_, map { ($_ => $lookup{$_}) } @names) } qw(small large);

	is(keys %$small, 2 * 3 * @names, "$what: all is looked up");
	foreach my $name (sort keys %$small)
	{
		my ($before, $after) = ($small->{$name}, $large->{$name});
		# A row of these comes from three tables, or from two.
		my $bar = $name =~ /deliveries/ ? 330 : ($name =~ /stretch/ ? 60 : 300) * ($name =~ /calls/ ? 1.5 : 1);

		is($after->{rows}, $before->{rows}, "$name, $what: the same result");
		# Indexes of ten times the rows can have a level more, and each row of deliveries goes down two.
		cmp_ok($after->{buffers}, '<=', 1.5 * $before->{buffers} + ($name =~ /deliveries/ ? 110 : 10), "$name, $what: nearly the same buffers") or diag($after->{plan});
		note("$after->{buffers} buffers, $before->{buffers} of a tenth: $name, $what") if $name =~ /deliveries/;
		cmp_ok($after->{buffers}, '<=', $bar, "$name, $what: no more than $bar") or diag($after->{plan});
	}
	return;
}

# The day that is being written begins with what the planner knows of the last one, and
# has summaries of the ranges of pages that are full.
sub look_at_today
{
	my $day = $node->safe_psql('large', q{SELECT (now() AT TIME ZONE 'UTC')::date});
	my ($name) = $day =~ s/-//gr;
	my %table = map { ($_ => "webhook_events_internal.${_}_$name") } qw(outbox dispatches);
	my $pages = sub { $node->safe_psql('large', "SELECT pg_relation_size('$table{$_[0]}') / 8192") };

	$node->safe_psql('large', <<"SQL");
DROP TABLE $table{outbox}, $table{dispatches};
SELECT webhook_events_internal.create_day(kind, '$day') FROM unnest('{outbox,dispatches}'::text[]) AS kind;
INSERT INTO $table{outbox} (id, created_at, xid, event_type, actor_run_id, actor_build_id, actor_id, user_id, resource)
	SELECT webhook_events.id_lower_bound('$day'::timestamp AT TIME ZONE 'UTC' + n * interval '1 second') || to_char(n, 'FM00000000'), now(), '1', 'ACTOR.RUN.CREATED',
		CASE WHEN n % 1000 > 0 THEN 'today' || n / 2 * 2 END, CASE WHEN n % 1000 = 0 THEN 'build' || n END,
		CASE n % 400 WHEN 3 THEN 'seldom' ELSE 'often' || n END, CASE n % 400 WHEN 4 THEN 'seldom' ELSE 'often' || n END, to_json(repeat('x', 200))
	FROM generate_series(1, 40000) AS n;
INSERT INTO $table{dispatches} (id, event_id, webhook_id, user_id, event_type, status, created_at, finished_at, attempts, last_status, last_duration)
	SELECT left(o.id, 9) || right(md5(o.id), 8), o.id, o.actor_id, o.user_id, o.event_type,
		CASE WHEN o.actor_build_id IS NULL THEN 'SUCCEEDED' ELSE 'FAILED' END::webhook_events.dispatch_status, now(), now(), 1, 200, '1 ms'
	FROM $table{outbox} AS o;
SQL
	foreach my $kind (qw(outbox dispatches))
	{
		is($node->safe_psql('large', "SELECT webhook_events_internal.summarize_day('$kind', '$day')"), $_->[0], "$kind: $_->[1]")
		  foreach [ 't', 'full ranges of today are summarized' ], [ 'f', 'once' ];
	}
	my $event = $node->safe_psql('large', "SELECT id FROM $table{outbox} WHERE actor_run_id = 'today20000' LIMIT 1");
	my $found = look_up('large',
		'build' => [ 'webhook_events.events', 'actor_build_id = $1', 'build20000' ],
		'run' => [ 'webhook_events.events', 'actor_run_id = $1', 'today20002' ],
		'an Actor' => [ 'webhook_events.events', 'actor_id = $1', 'seldom' ],
		# Of one day alone, which the planner knows.
		'an Actor in a third of the day' => [ 'webhook_events.events', "actor_id = \$1 AND id >= webhook_events.id_lower_bound('$day 02:00+00')"
			  . " AND id < webhook_events.id_lower_bound('$day 08:00+00')", 'seldom' ],
		'an Actor in half an hour' => [ 'webhook_events.events', "actor_id = \$1 AND id >= webhook_events.id_lower_bound('$day 05:00+00')"
			  . " AND id < webhook_events.id_lower_bound('$day 05:30+00')", 'seldom' ],
		'user' => [ 'webhook_events.events', 'user_id = $1', 'seldom' ],
		'webhook' => [ 'webhook_events.dispatches', 'webhook_id = $1', 'seldom' ],
		# Those whom the planner knows of yesterday had many each: the newest would soon be fifty.
		'dispatches of a user' => [ 'webhook_events.dispatches', 'user_id = $1', 'seldom' ],
		(map { ("deliveries by $_" => [ 'webhook_events.deliveries', "$_ = \$1", 'seldom' ]) } qw(webhook_id user_id)),
		'event' => [ 'webhook_events.dispatches', 'event_id = $1', $event ],
		'failed' => [ 'webhook_events.dispatches', q{is_failed AND id > $1}, $event ]);
	my %rows = (build => 1, event => 1, failed => 20, run => 2, 'an Actor' => 50, 'an Actor in a third of the day' => 50, 'an Actor in half an hour' => 5, user => 50, webhook => 50, 'dispatches of a user' => 50,
		'deliveries by webhook_id' => 50, 'deliveries by user_id' => 50);

	foreach my $mode (qw(force_custom_plan force_generic_plan))
	{
		foreach my $what (sort keys %rows)
		{
			my $result = $found->{"$what, $mode"};

			is($result->{rows}, $rows{$what}, "today by $what, $mode: what there is");
			note("$result->{buffers} buffers: today by $what, $mode");
			# Each row of these is looked for in two more tables.
			cmp_ok($result->{buffers}, '<=', $what =~ /deliveries/ ? 400 : 150, "today by $what, $mode: reads little of it") or diag($result->{plan});
		}
	}
	cmp_ok($pages->($_), '>', 400, "of many pages of $_") foreach sort keys %table;
	$node->safe_psql('large', "TRUNCATE $table{outbox}, $table{dispatches}");
	return;
}

make_database('small', 1000);
make_database('large', 10000);
index_days($_) foreach qw(small large);
compare('analyzed', sort keys %lookup);
look_at_today();
foreach my $database (qw(small large))
{
	# As if nobody had ever analyzed them.
	$node->safe_psql($database, q{DELETE FROM pg_statistic WHERE starelid::regclass::text ~ '_[0-9]{8}$';
		UPDATE pg_class SET reltuples = -1, relpages = 0 WHERE relname ~ '^(outbox|dispatches)_[0-9]{8}$'});
}
# Who has many is then not known to.
compare('not analyzed', grep { !/many/ } sort keys %lookup);

# Rows that come into ranges which have a summary are found as well: we tell a BRIN index of
# no others.  An operator's has them, too.
my $written = 'written';
$node->safe_psql('postgres', "CREATE DATABASE $written");
create_platform($node, $written);
my $insert = sub { $node->safe_psql($written, "INSERT INTO actor_runs (id, actor_id, user_id) SELECT 'run' || n, repeat('x', 200), 'user' FROM generate_series($_[0], $_[1]) AS n") };
my $day_sql = q{SELECT to_char(id_time(max(id)) AT TIME ZONE 'UTC', 'YYYY-MM-DD') FROM webhook_events_internal.outbox};

$insert->(1, 3000);
my $day = $node->safe_psql($written, "SET search_path = webhook_events, pg_catalog; $day_sql");
my $table = 'webhook_events_internal.outbox_' . $day =~ s/-//gr;
my $summarize = "SELECT webhook_events_internal.summarize_day('outbox', '$day')";
$node->safe_psql($written, "CREATE INDEX by_run ON $table USING brin (upper(actor_run_id) text_bloom_ops) WITH (pages_per_range = 8)");
$insert->(3001, 6000);
is($node->safe_psql($written, $summarize), 't', 'what triggers have written is summarized');
is($node->safe_psql($written, "SELECT bool_and(correlation = 1) FROM pg_stats WHERE schemaname || '.' || tablename = '$table' AND attname IN ('actor_run_id', 'actor_id', 'user_id')"),
	't', 'and the planner has statistics that fit');
$node->safe_psql($written, "DELETE FROM $table WHERE ctid < (SELECT max(ctid) FROM $table)");
$node->safe_psql($written, "VACUUM $table");
$insert->(6001, 7000);
$node->safe_psql($written, $summarize);
$insert->(7001, 9000);
$insert->($_, $_) foreach 9001 .. 9020;
cmp_ok($node->safe_psql($written, "SELECT count(*) FROM $table WHERE ctid < '(100,1)'"), '>', 100, 'new rows come into old pages');

# By each of the two indexes.
sub all_are_found
{
	my ($what) = @_;

	foreach my $case ([ 'actor_run_id', 'actor_run_id_idx' ], [ 'upper(actor_run_id)', 'by_run' ])
	{
		my ($expression, $index) = @$case;

		is($node->safe_psql($written, <<"SQL"), '', "$what: each row is found by $index");
SET enable_seqscan = off;
SET enable_indexscan = off;
SELECT w.run FROM (SELECT $expression AS run FROM $table WHERE ctid IS NOT NULL OFFSET 0) AS w
WHERE NOT EXISTS (SELECT FROM $table AS o WHERE $expression = w.run LIMIT 1);
SQL
		like($node->safe_psql($written, "SET enable_seqscan = off; EXPLAIN SELECT FROM $table WHERE $expression = 'run4000'"),
			qr/Bitmap Index Scan on \S*$index/, 'by that');
	}
	return;
}

all_are_found('wherever it came to lie');

# While others write, one by one, pages are summarized, those that are being filled as well,
# and an index goes to another place and back.
$node->safe_psql($written, $_) foreach "SET allow_in_place_tablespaces = on; CREATE TABLESPACE elsewhere LOCATION ''", <<'SQL';
CREATE PROCEDURE write_runs(name text, count integer) LANGUAGE plpgsql AS $$
BEGIN
	FOR n IN 1 .. count LOOP
		INSERT INTO actor_runs (id, actor_id, user_id) VALUES (name || n, repeat('x', 200), 'user');
		COMMIT;
	END LOOP;
END $$;
SQL
my ($own) = $node->safe_psql($written, "SELECT indexrelid::regclass FROM pg_index WHERE indrelid = '$table'::regclass AND indexrelid::regclass::text LIKE '%actor\\_run\\_id\\_idx'") =~ /(\S+)/;
my @writers = map { IPC::Run::start([ 'psql', '-Xqd', $node->connstr($written), '-c', "CALL write_runs('$_', 4000)" ], '<', \undef) } qw(a b);
my $turns = 0;
while ($turns < 5 || $node->safe_psql($written, q{SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'CALL write_runs%' AND state <> 'idle'}) > 0)
{
	$node->safe_psql($written, $_) foreach $summarize,
	  "SELECT brin_summarize_new_values('$own'), brin_summarize_new_values('webhook_events_internal.by_run')",
	  "ALTER INDEX $own SET TABLESPACE " . (qw(elsewhere pg_default))[ $turns % 2 ];
	$turns++;
}
$_->finish foreach @writers;
note("$turns turns");
is($node->safe_psql($written, "SELECT count(*) FROM $table WHERE actor_run_id ~ '^[ab]'"), 8000, 'all was written meanwhile');
all_are_found("while it was summarized");

# An index that is made CONCURRENTLY is known before it has a page.
my $session = $node->background_psql($written, on_error_stop => 1);
$session->query_safe("BEGIN; LOCK TABLE $table IN ROW EXCLUSIVE MODE;");
my $maker = IPC::Run::start([ 'psql', '-Xqd', $node->connstr($written), '-c', "CREATE INDEX CONCURRENTLY being_made ON $table USING brin (actor_run_id text_bloom_ops) WHERE old_status IS NULL" ], '<', \undef);
$node->poll_query_until($written, q{SELECT count(*) = 1 FROM pg_stat_activity WHERE query LIKE 'CREATE INDEX CONCURRENTLY%' AND wait_event_type = 'Lock'})
  or die 'nobody waits';
is($node->safe_psql($written, "SELECT indisready FROM pg_index WHERE indexrelid = 'webhook_events_internal.being_made'::regclass"), 'f', 'an index that is being made is empty');
$insert->(9101, 9200);
$session->query_safe('COMMIT');
$session->quit;
$maker->finish;
is($node->safe_psql($written, "SELECT indisvalid FROM pg_index WHERE indexrelid = 'webhook_events_internal.being_made'::regclass"), 't', 'and rows that are added then are no trouble');

$node->stop;
done_testing();
