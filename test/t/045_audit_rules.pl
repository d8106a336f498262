# 045_audit_rules.pl
#	  audit() joins events with webhooks in SQL; the worker asks webhook_match(). Both
#	  say the same of thousands of pairs, whatever is in them.

use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use WebhookEvents::Node;

my $node = new_node('audit_rules', conf => "webhook_events.databases = ''\n");

# Few different values, so that many pairs match, and each can be NULL.
$node->safe_psql('postgres', <<'SQL');
CREATE EXTENSION webhook_events;
SELECT webhook_events_internal.create_days((now() AT TIME ZONE 'UTC')::date - 3, (now() AT TIME ZONE 'UTC')::date + 1);
CREATE FUNCTION pick(prefix text, count integer, nulls float) RETURNS text LANGUAGE sql VOLATILE
	AS $$ SELECT CASE WHEN random() >= nulls THEN prefix || floor(random() * count) END $$;
CREATE TABLE round (number integer, since timestamptz, until timestamptz);
SQL

# Webhooks and events of the last two days; transactions of before, within and after
# each webhook's own, on this server and on another one.
sub fill
{
	my ($seed) = @_;

	$node->safe_psql('postgres', <<"SQL");
SELECT setseed($seed);
TRUNCATE webhook_events_internal.outbox, webhook_events_internal.dispatches, webhook_events_internal.cursors, webhook_events_internal.webhooks, round;
SET session_replication_role = replica;
INSERT INTO webhook_events_internal.webhooks (id, user_id, event_types, actor_id, actor_task_id, actor_run_id, request_url,
		is_enabled, is_ad_hoc, created_at, modified_at, created_xid, created_in, begun_at)
	SELECT webhook_events_internal.new_id(), pick('user', 3, 0.5), t.types, pick('actor', 3, 0.5), pick('task', 3, 0.7), r.id,
		'http://127.0.0.1', random() > 0.2, r.id IS NOT NULL AND random() < 0.5, c.at, CASE WHEN random() < 0.7 THEN c.at ELSE c.at + random() * interval '1 day' END,
		(c.xid::text)::xid8, CASE floor(random() * 3) WHEN 0 THEN NULL WHEN 1 THEN ARRAY[1, c.xid - 3, c.xid + 3]
			ELSE ARRAY[(webhook_events_internal.current_place())[1], c.xid - 3, c.xid + 3] END,
		CASE WHEN random() < 0.8 THEN c.at - random() * interval '1 day' END
	FROM generate_series(1, 60) AS n,
		LATERAL (SELECT now() - random() * interval '2 days' + n * interval '0' AS at, 10 + floor(random() * 80)::bigint AS xid) AS c,
		LATERAL (SELECT CASE WHEN n > 0 THEN pick('run', 9, 0.6) END AS id) AS r,
		LATERAL (SELECT array_agg(e) AS types FROM unnest(enum_range(NULL::webhook_events.event_type)) AS e
			WHERE n > 0 AND random() < 0.5 AND e <> 'TEST') AS t
	WHERE t.types IS NOT NULL;
INSERT INTO webhook_events_internal.outbox (id, created_at, xid, event_type, user_id, actor_id, actor_task_id, actor_run_id, actor_build_id)
	SELECT webhook_events.id_lower_bound(c.at) || to_char(n, 'FM00000000'), webhook_events.id_time(webhook_events.id_lower_bound(c.at) || '00000000'),
		(10 + floor(random() * 80))::bigint::text::xid8, t.type, pick('user', 3, 0.2), pick('actor', 3, 0.1), pick('task', 3, 0.4),
		CASE WHEN t.type::text NOT LIKE '%.BUILD.%' THEN pick('run', 9, 0.1) END, CASE WHEN t.type::text LIKE '%.BUILD.%' THEN pick('build', 9, 0) END
	FROM generate_series(1, 300) AS n, LATERAL (SELECT now() - random() * interval '2 days' + n * interval '0' AS at) AS c,
		LATERAL (SELECT e AS type FROM unnest(enum_range(NULL::webhook_events.event_type)) AS e WHERE n > 0 AND e <> 'TEST' ORDER BY random() LIMIT 1) AS t;
INSERT INTO webhook_events_internal.cursors (number, window_from, window_to) SELECT 1, pg_current_snapshot(), pg_current_snapshot();
INSERT INTO round SELECT $seed * 1000, now() - interval '2 days 1 hour', now() + interval '1 minute';
-- What the worker would make of it, but for what audit() says that it can't know.
CREATE TABLE IF NOT EXISTS expected (event_id text, webhook_id text);
TRUNCATE expected;
INSERT INTO expected SELECT e.id, w.id
	FROM webhook_events_internal.outbox AS e CROSS JOIN webhook_events_internal.webhooks AS w
	WHERE w.is_enabled AND (w.modified_at = w.created_at OR w.modified_at <= e.created_at)
		AND webhook_events_internal.refusal(w, e.event_type, e.user_id, e.actor_id, e.actor_task_id, e.actor_run_id, e.created_at, e.xid) IS NULL;
SQL
	return;
}

my $difference = <<'SQL';
SELECT count(*) FILTER (WHERE a.event_id IS NULL), count(*) FILTER (WHERE b.event_id IS NULL), count(*)
FROM (SELECT m.event_id, m.webhook_id FROM round AS r, webhook_events_internal.missing_dispatches(r.since, r.until) AS m WHERE m.event_id IS NOT NULL) AS a
	FULL JOIN (SELECT e.* FROM expected AS e WHERE NOT EXISTS (SELECT FROM webhook_events_internal.dispatches AS d
		WHERE d.event_id = e.event_id AND d.webhook_id = e.webhook_id)) AS b USING (event_id, webhook_id)
SQL
# Several processes count as one does.
my $together = join ' ', map { "SET $_;" } 'parallel_setup_cost = 0', 'parallel_tuple_cost = 0', 'min_parallel_table_scan_size = 0', 'max_parallel_workers_per_gather = 2';
like($node->safe_psql('postgres', "$together EXPLAIN SELECT webhook_events_internal.made_sums('{a,b,c}', id, event_id, webhook_id) FROM webhook_events_internal.dispatches"),
	qr/Finalize Aggregate.*\n.*Gather.*\n.*\n.*Partial Aggregate/, 'several processes count');
my $pairs = 0;
foreach my $round (1 .. 8)
{
	fill($round / 10);
	my ($missed, $made_up, $wanted) = split /\|/, $node->safe_psql('postgres', $difference);

	$pairs += $node->safe_psql('postgres', 'SELECT (SELECT count(*) FROM webhook_events_internal.outbox) * (SELECT count(*) FROM webhook_events_internal.webhooks)');
	cmp_ok($wanted, '>', 0, "round $round: some pairs match");
	is("$missed $made_up", '0 0', "round $round: audit() wants what the worker would send, and nothing else");

	# Half of them are there, and only the other half is missing.
	$node->safe_psql('postgres', q{INSERT INTO webhook_events_internal.dispatches (id, event_id, webhook_id, event_type, status, created_at, finished_at, attempts)
		SELECT webhook_events_internal.dispatch_id(e.event_id, e.webhook_id), e.event_id, e.webhook_id, 'ACTOR.RUN.CREATED', 'SUCCEEDED', now(), now(), 1
		FROM expected AS e WHERE hashtext(e.event_id || e.webhook_id) % 2 = 0});
	($missed, $made_up) = split /\|/, $node->safe_psql('postgres', $difference);
	is("$missed $made_up", '0 0', "round $round: and misses what is missing of it");
	($missed, $made_up) = split /\|/, $node->safe_psql('postgres', "$together $difference");
	is("$missed $made_up", '0 0', "round $round: in several processes");

	# What was sent again is no instead of what is missing.
	$node->safe_psql('postgres', q{INSERT INTO webhook_events_internal.dispatches (id, event_id, webhook_id, event_type, status, created_at, finished_at, attempts, replay_of)
		SELECT left(id, 9) || right(md5(id), 8), event_id, webhook_id, event_type, status, created_at, finished_at, 1, id
		FROM webhook_events_internal.dispatches WHERE hashtext(id) % 3 = 0});
	($missed, $made_up) = split /\|/, $node->safe_psql('postgres', $difference);
	is("$missed $made_up", '0 0', "round $round: and when some was sent again");
}
note("$pairs pairs of events and webhooks");
cmp_ok($pairs, '>', 50_000, 'so many pairs were compared');
$node->stop;
done_testing();
