# 029_lookups.pl
#	  Looking up what belongs to a run, an Actor, a webhook or a user on days that
#	  are over touches few buffers, however much there is.

use strict;
use warnings;
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
# looked for ten on each, whatever the size.
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
	SELECT lower || to_char(n, 'FM00000000'), now(), '1', 'ACTOR.RUN.CREATED', key, key, key, key, key, to_json(repeat('x', 200))
	FROM day, generate_series(1, $size) AS n, LATERAL (SELECT CASE n % ($size / 10) WHEN 0 THEN 'wanted' ELSE 'other' || n END) AS k (key);
INSERT INTO webhook_events_internal.dispatches (id, event_id, webhook_id, user_id, event_type, status, created_at, finished_at, attempts)
	SELECT o.id, CASE o.id WHEN d.lower || to_char($size, 'FM00000000') THEN 'wanted' || d.number ELSE o.id END, o.actor_id, o.user_id, o.event_type,
		CASE o.actor_id WHEN 'wanted' THEN 'FAILED' ELSE 'SUCCEEDED' END::webhook_events.dispatch_status, now(), now(), 1
	FROM webhook_events_internal.outbox AS o JOIN day AS d ON o.id ^@ d.lower;
SQL
	return;
}

# As the maintenance process does it.
sub index_days
{
	my ($name) = @_;
	my $made = $node->safe_psql($name, 'SELECT count(*) FILTER (WHERE webhook_events_internal.index_day(u.kind, u.day))'
		  . " FROM webhook_events_internal.unindexed_days((now() AT TIME ZONE 'UTC')::date) AS u");

	is($made, $days * 9, "$name: the indexes of each day are made");
	is($node->safe_psql($name, "SELECT count(*) FROM webhook_events_internal.unindexed_days((now() AT TIME ZONE 'UTC')::date)"),
		0, "$name: and all of them");
	return;
}

my $page = 'ORDER BY id DESC LIMIT 50';
my $hour = q{AND id >= (SELECT lower FROM day WHERE number = 3) AND id < (SELECT lower || '~' FROM day WHERE number = 3)};
my $second = q{AND id < (SELECT lower FROM day WHERE number = 4)};
my %lookup = (
	(map { ("events by $_" => [ 'webhook_events.events', "$_ = \$1", 'wanted' ]) }
		  qw(actor_run_id actor_build_id actor_task_id actor_id user_id)),
	(map { ("dispatches by $_" => [ 'webhook_events.dispatches', "$_ = \$1", 'wanted' ]) } qw(webhook_id user_id)),
	'dispatches by event_id' => [ 'webhook_events.dispatches', 'event_id = $1', 'wanted5' ],
	'dispatches that failed' => [ 'webhook_events.dispatches', q{is_failed AND $1 <> ''}, 'wanted' ],
);

# Buffers and rows of each look-up.
sub look_up
{
	my ($database) = @_;
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
	my ($what) = @_;
	my ($small, $large) = map { look_up($_) } qw(small large);

	is(keys %$small, 2 * 3 * keys %lookup, "$what: all is looked up");
	foreach my $name (sort keys %$small)
	{
		my ($before, $after) = ($small->{$name}, $large->{$name});
		my $bar = $name =~ /stretch/ ? 60 : 300;

		is($after->{rows}, $before->{rows}, "$name, $what: the same result");
		cmp_ok($after->{buffers}, '<=', 1.5 * $before->{buffers} + 10, "$name, $what: nearly the same buffers") or diag($after->{plan});
		cmp_ok($after->{buffers}, '<=', $bar, "$name, $what: no more than $bar") or diag($after->{plan});
	}
	return;
}

make_database('small', 1000);
make_database('large', 10000);
index_days($_) foreach qw(small large);
compare('analyzed');
foreach my $database (qw(small large))
{
	# As if nobody had ever analyzed them.
	$node->safe_psql($database, q{DELETE FROM pg_statistic WHERE starelid::regclass::text ~ '_[0-9]{8}$';
		UPDATE pg_class SET reltuples = -1, relpages = 0 WHERE relname ~ '^(outbox|dispatches)_[0-9]{8}$'});
}
compare('not analyzed');

$node->stop;
done_testing();
