# 029_counts.pl
#	  Lists know how many webhooks there are without counting them: whoever adds, changes
#	  or deletes some at the same time, commits late or never, or empties the table; and
#	  whatever becomes of the worker that keeps the numbers.

use strict;
use warnings;
use IPC::Run qw(start);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use WebhookEvents::Node;

my $timeout = 2 * $PostgreSQL::Test::Utils::timeout_default;
my $node = new_node('counts', conf => "max_prepared_transactions = 20\nwebhook_events.max_webhooks_per_user = 100000\n");

create_platform($node);
$node->safe_psql('postgres', <<'SQL');
CREATE FUNCTION public.add(ids text, number integer) RETURNS bigint LANGUAGE sql AS $$
	SELECT count(w.id) FROM generate_series(1, number) AS n
		CROSS JOIN LATERAL webhook_events.create_webhook('http://127.0.0.1:1/', '{ACTOR.RUN.FAILED}',
			user_id => CASE WHEN n % 5 > 0 THEN ids || n % 5 END, actor_id => CASE n % 2 WHEN 0 THEN 'a' || n % 3 END,
			actor_task_id => CASE WHEN n % 3 > 0 THEN 't' || n % 4 END) AS w
$$;

-- Older than any that is counted next.
CREATE FUNCTION public.add_old(ids text, number integer) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
	added bigint;
BEGIN
	INSERT INTO webhook_events_internal.webhooks (id, user_id, actor_id, event_types, request_url)
	SELECT '00' || substr(webhook_events_internal.new_id(), 3), ids || n % 5, 'a' || n % 3, '{ACTOR.RUN.FAILED}', 'http://127.0.0.1:1/'
	FROM generate_series(1, number) AS n;
	GET DIAGNOSTICS added = ROW_COUNT;
	RETURN added;
END
$$;

CREATE FUNCTION public.some(number integer) RETURNS text[] LANGUAGE sql VOLATILE AS $$
	SELECT array_agg(id) FROM (SELECT id FROM webhook_events_internal.webhooks
		WHERE id >= (SELECT id FROM webhook_events_internal.webhooks OFFSET floor(random() * 500) LIMIT 1) ORDER BY id LIMIT number) AS w
$$;

-- Of what lists tell another number than there is.  A snapshot from before TRUNCATE finds
-- the table empty: that one sees nothing right.
CREATE FUNCTION public.wrong() RETURNS SETOF text LANGUAGE sql VOLATILE AS $$
	SELECT format('user %s, Actor %s, task %s: %s, not %s', u, a, t, said, found)
	FROM unnest(ARRAY[NULL, '', 'u1', 'u02', 'v03', 'v1', 'nobody']) AS u, unnest(ARRAY[NULL, 'a0', 'a2', 'none']) AS a,
		unnest(ARRAY[NULL, 't1', 't2']) AS t
		CROSS JOIN LATERAL (SELECT (webhook_events.webhooks_json(u, a, t, 1) ->> 'total')::bigint) AS s (said)
		CROSS JOIN LATERAL (SELECT count(*) FROM webhook_events_internal.webhooks AS w
			WHERE (u IS NULL OR coalesce(w.user_id, '') = u) AND (a IS NULL OR w.actor_id = a) AND (t IS NULL OR w.actor_task_id = t)) AS f (found)
	WHERE said <> found AND EXISTS (SELECT FROM webhook_events_internal.webhooks)
$$;
SQL

sub query
{
	my ($sql) = @_;

	return $node->safe_psql('postgres', $sql);
}

sub wrong
{
	return query('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT * FROM public.wrong(); COMMIT');
}

my $position = q{SELECT counted FROM webhook_events_internal.webhook_counts_positions ORDER BY number DESC LIMIT 1};
my $all_counted = q{SELECT count(*) < 256 FROM webhook_events_internal.webhooks WHERE id > coalesce((} . $position . q{), '')};

# Nothing but what is new is left to be counted by those who ask.
query("SELECT public.add('u', 3000)");
wait_for_sql($node, $all_counted, 't');
is(wrong(), '', 'what was counted is right');
my $own = query(q{SELECT count(*), 0, count(*) FILTER (WHERE actor_id = 'a2') FROM webhook_events_internal.webhooks WHERE user_id = 'u1'});
is(query(<<'SQL'), $own, 'a tenant is told of its own');
CREATE ROLE tenant;
SELECT webhook_events.grant_access('tenant', 'tenant', 'u1') \gset
SET ROLE tenant;
SELECT webhook_events.webhooks_json("limit" => 1) ->> 'total', webhook_events.webhooks_json('u2', "limit" => 1) ->> 'total',
	webhook_events.webhooks_json(actor_id => 'a2', "limit" => 1) ->> 'total';
SQL
query("SELECT public.add_old('u', 700)");
is(wrong(), '', 'so it is with webhooks that are older than those that were counted');
wait_for_sql($node, 'SELECT count(*) < 256 FROM webhook_events_internal.webhook_counts_log', 't');
is(wrong(), '', 'and once their changes were added up');

# Who is at it when a position is announced is waited for, prepared or not.
my $open = $node->background_psql('postgres', on_error_stop => 1);
$open->query_safe("BEGIN; SELECT public.add('v', 5)");
query("BEGIN; SELECT public.add('w', 5); PREPARE TRANSACTION 'added'");
my $before = query($position);
query("SELECT public.add('u', 600)");
wait_for_sql($node, 'SELECT announced > counted FROM webhook_events_internal.webhook_counts_positions ORDER BY number DESC LIMIT 1', 't');
is(wrong(), '', 'what is announced is not counted yet');
query("DELETE FROM webhook_events_internal.webhooks WHERE id = ANY (public.some(20)) OR id IN (SELECT id FROM webhook_events_internal.webhooks ORDER BY id DESC LIMIT 30)");
is(wrong(), '', 'and what is deleted of it is seen');
$open->query_safe('COMMIT');
is(query($position), $before, 'a prepared transaction is waited for');
is(wrong(), '', 'another one that came late is seen');
query("COMMIT PREPARED 'added'");
is(wrong(), '', 'and a prepared one');
wait_for_sql($node, $all_counted, 't');
is(wrong(), '', 'as they are when they are counted');

# A transaction with an old snapshot knows all the same what was counted since.
$open->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1');
query("SELECT public.add('u', 600)");
wait_for_sql($node, $all_counted, 't');
$open->query_safe("SELECT public.add_old('u', 3); DELETE FROM webhook_events_internal.webhooks WHERE id = (public.some(1))[1]; COMMIT");
is(wrong(), '', 'one with an old snapshot changes what it knows nothing of');

# While somebody has locked the table the worker looks at it again later, and waits for nobody.
$open->query_safe('BEGIN; LOCK TABLE webhook_events_internal.webhooks IN SHARE MODE');
my $locked_at = $open->query_safe('SELECT clock_timestamp()');
wait_for_sql($node, "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'webhook_events worker'"
	  . " AND query LIKE 'counting webhooks%' AND state = 'idle' AND state_change > '$locked_at'", 1);
unlike(slurp_file($node->logfile), qr/counting webhooks .* fails/, 'a lock keeps no step of counting waiting');
$open->query_safe('COMMIT');
$open->quit;

# Many at once.
my $dir = PostgreSQL::Test::Utils::tempdir();
my %script = (
	add => "SELECT public.add('u:client_id', 40);\n",
	add_some => "BEGIN;\nSELECT public.add('u:client_id', 7);\nSAVEPOINT s;\nSELECT public.add('v:client_id', 9);\nROLLBACK TO s;\nSELECT public.add('v:client_id', 5);\nCOMMIT;\n",
	add_none => "BEGIN;\nSELECT public.add('v:client_id', 30);\nSELECT public.add_old('u:client_id', 3);\nDELETE FROM webhook_events_internal.webhooks WHERE id = ANY (public.some(5));\nROLLBACK;\n",
	add_old => "BEGIN;\nSELECT public.add_old('u:client_id', 4);\nSAVEPOINT s;\nSELECT public.add_old('u:client_id', 4);\nROLLBACK TO s;\nCOMMIT;\n",
	add_two => "\\set id random(1, 1000000000)\nBEGIN;\nSELECT public.add('u:client_id', 3);\nPREPARE TRANSACTION 'two :id';\nSELECT pg_sleep(0.01);\nCOMMIT PREPARED 'two :id';\n",
	ad_hoc => q{SELECT count(*) FROM webhook_events.create_ad_hoc_webhooks('r1', '[{"requestUrl": "http://127.0.0.1:1/", "eventTypes": ["ACTOR.RUN.FAILED"]}, {"requestUrl": "http://127.0.0.1:1/", "eventTypes": ["ACTOR.RUN.FAILED"]}]', 'u02');} . "\n",
	once => q{\set key random(1, 20)} . "\n" . q{SELECT webhook_events.create_webhook('http://127.0.0.1:1/', '{ACTOR.RUN.FAILED}', user_id => 'v:client_id', idempotency_key => ':key');} . "\n",
	delete => "DELETE FROM webhook_events_internal.webhooks AS w USING (SELECT public.some(15) AS ids OFFSET 0) AS s WHERE w.id = ANY (s.ids);\n",
	replica => "BEGIN;\nSET LOCAL session_replication_role = replica;\nDELETE FROM webhook_events_internal.webhooks AS w USING (SELECT public.some(2) AS ids OFFSET 0) AS s WHERE w.id = ANY (s.ids);\nCOMMIT;\n",
	change => "UPDATE webhook_events_internal.webhooks AS w SET user_id = 'v03', actor_id = 'a2' FROM (SELECT public.some(3) AS ids OFFSET 0) AS s WHERE w.id = ANY (s.ids);\n",
	empty => "\\set r random(1, 15)\nBEGIN;\n\\if :r = 1\nTRUNCATE webhook_events_internal.webhooks;\nSELECT public.add('u:client_id', 300);\n\\endif\nCOMMIT;\n",
);
foreach my $name (keys %script)
{
	$script{$name} =~ s/\\if :r = 1/\\set one :r = 1\n\\if :one/;
	append_to_file("$dir/$name.sql", $script{$name});
}
my $trouble = 0;
foreach my $round (1 .. 4)
{
	my ($output, $errors) = ('', '');
	my @scripts = map { ('-f', "$dir/$_.sql" . ($_ eq 'add' ? '@3' : '')) } sort keys %script;
	my $load = start(
		[ 'pgbench', '-n', '-c', 4, '-t', 60, '--max-tries=100', @scripts, $node->connstr('postgres') ],
		'>', \$output, '2>', \$errors, IPC::Run::timeout($timeout));

	while ($load->pumpable)
	{
		my $wrong = wrong();

		$trouble++ if $wrong ne '';
		diag($wrong) if $wrong ne '';
		query(q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type LIKE 'webhook_events worker%' AND random() < 0.3}) if $round == 2;
		$load->pump_nb;
	}
	ok($load->finish, "round $round: nobody meets an error") or diag($errors);
	$node->stop('immediate') if $round == 3;
	$node->start if $round == 3;
}
is($trouble, 0, 'the numbers were right all the time');
wait_for_sql($node, $all_counted, 't');
is(wrong(), '', 'and are in the end');
cmp_ok(query('SELECT count(*) FROM webhook_events_internal.webhook_counts WHERE webhooks <= 0'), '==', 0, 'no row says nothing');

# Emptied, they begin anew: who is at it is waited for once more.
foreach my $number (1, 2)
{
	query('TRUNCATE webhook_events_internal.webhooks');
	$open = $node->background_psql('postgres', on_error_stop => 1) if $number == 2;
	$open->query_safe("BEGIN; SELECT public.add_old('v', 5)") if $number == 2;
	query("SELECT public.add('u', 600)");
	wait_for_sql($node, 'SELECT count(*) > 0 FROM webhook_events_internal.webhook_counts_positions', 't');
	wait_for_sql($node, $all_counted, 't') if $number == 1;
}
is(wrong(), '', 'while somebody adds some to a table that was emptied');
$open->query_safe('COMMIT');
$open->quit;
is(wrong(), '', 'and after that');
wait_for_sql($node, $all_counted, 't');
is(wrong(), '', 'and when they are counted');
query('TRUNCATE webhook_events_internal.webhooks');
is(query(q{SELECT webhook_events.webhooks_json("limit" => 1) ->> 'total', webhook_events.webhooks_json('u02', "limit" => 1) ->> 'total'}), '0|0', 'of none there are none');
query("SELECT public.add('u', 2000)");
wait_for_sql($node, $all_counted, 't');
is(wrong(), '', 'and then those that are new');

# Rows that are loaded while triggers are disabled are counted afterwards; and what fires
# for replicas does so again, in the table as in the days of the outbox.
my $fires = q{SELECT string_agg(concat_ws(' ', t.tgrelid::regclass, t.tgname, t.tgenabled), ', ' ORDER BY t.tgrelid::regclass::text, t.tgname)
	FROM pg_trigger AS t JOIN pg_class AS c ON c.oid = t.tgrelid
	WHERE c.relnamespace = 'webhook_events_internal'::regnamespace AND t.tgenabled <> 'O'};
my $fired = query($fires);
like($fired, qr/webhooks arrived R.*webhooks counted_by_insert A/, 'some triggers fire for replicas');
query('CREATE TABLE public.saved AS SELECT * FROM webhook_events_internal.webhooks ORDER BY id LIMIT 500');
query('DELETE FROM webhook_events_internal.webhooks AS w USING public.saved AS s WHERE w.id = s.id');
my $tables = q{SELECT c.oid::regclass FROM pg_class AS c
	WHERE c.relnamespace = 'webhook_events_internal'::regnamespace
		AND EXISTS (SELECT FROM pg_trigger AS t WHERE t.tgrelid = c.oid AND t.tgenabled <> 'O')
	ORDER BY c.relispartition DESC};
foreach my $table (split /\n/, query($tables))
{
	query("ALTER TABLE $table DISABLE TRIGGER ALL");
	query("INSERT INTO $table SELECT * FROM public.saved") if $table eq 'webhook_events_internal.webhooks';
	query("ALTER TABLE $table ENABLE TRIGGER ALL");
}
is(query($fires), $fired, 'and do again when all were disabled and enabled');
is(wrong(), '', 'what was loaded meanwhile is counted');
wait_for_sql($node, $all_counted, 't');
is(wrong(), '', 'by the worker as well');
query(q{UPDATE webhook_events_internal.webhooks AS w SET is_enabled = false FROM public.saved AS s WHERE w.id = s.id AND s.id < (SELECT max(id) FROM public.saved)});
is(query('SELECT count(*) FROM webhook_events_internal.webhooks AS w JOIN public.saved AS s ON w.id = s.id WHERE NOT w.is_enabled'), 499, 'what this server says of them counts');
query('DELETE FROM webhook_events_internal.webhooks AS w USING public.saved AS s WHERE w.id = s.id AND NOT w.is_enabled');
is(wrong(), '', 'and those that are deleted are, once');

# The limit of a user: whoever makes many in a transaction counts once, whatever else happens in it.
my $one = q{EXPLAIN (ANALYZE, BUFFERS, TIMING off, COSTS off, FORMAT JSON) SELECT webhook_events.create_webhook('http://127.0.0.1:1/', '{ACTOR.RUN.FAILED}', user_id => 'many')};
my $more = q{SELECT count(webhook_events.create_webhook('http://127.0.0.1:1/', '{ACTOR.RUN.FAILED}', user_id => 'many')) FROM generate_series(1, %d)};
my @read = map { my ($sum) = /"Shared Hit Blocks": (\d+)/ or die; my ($read) = /"Shared Read Blocks": (\d+)/ or die; $sum + $read }
  split /^\]$/m, query("BEGIN; @{[sprintf $more, 10]} \\g /dev/null\n$one;\n@{[sprintf $more, 5000]} \\g /dev/null\nSAVEPOINT s;\n@{[sprintf $more, 5000]} \\g /dev/null\nRELEASE s;\n$one;\nROLLBACK") =~ s/\]\s*\z//r;
is(scalar @read, 2, 'the tenth and the ten thousandth webhook of a user');
cmp_ok($read[1], '<=', 2 * $read[0] + 50, 'read nearly the same') or diag("@read");

# What a dump holds is counted where it is restored.
my $dump = "$dir/dump";
$node->command_ok([ 'pg_dump', '-d', $node->connstr('postgres'), '-f', $dump ], 'dump');
query('CREATE DATABASE copy');
$node->command_ok([ 'psql', '-X', '-q', '-d', $node->connstr('copy'), '-f', $dump ], 'restore');
is($node->safe_psql('copy', 'SELECT * FROM public.wrong()'), '', 'a copy tells the same numbers');
is($node->safe_psql('copy', q{SELECT webhook_events.webhooks_json("limit" => 1) ->> 'total'}), 1501, 'which it has');
$node->stop;
done_testing();
