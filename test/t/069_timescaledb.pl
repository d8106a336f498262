# 069_timescaledb.pl
#	  Beside TimescaleDB, if the server has it: its hypertables, where nothing is
#	  attached and where our tables are some.

use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use WebhookEvents::Node;

my $node = new_node('main');

if ($node->safe_psql('postgres', "SELECT count(*) FROM pg_available_extensions WHERE name = 'timescaledb'") == 0)
{
	$node->stop;
	plan skip_all => 'there is no TimescaleDB';
}
$node->stop;

sub query { return $node->safe_psql('postgres', 'SET client_min_messages = error; ' . $_[0]); }

sub events
{
	my ($run, $order) = @_;

	return query(qq{SELECT string_agg(actor_run_id || ' ' || split_part(event_type::text, '.', 3), ', ' ORDER BY $order)
		FROM webhook_events.events WHERE actor_run_id LIKE '$run%'});
}

foreach my $order ('timescaledb, webhook_events', 'webhook_events, timescaledb')
{
	my $first = $order =~ /^timescaledb/;
	my $run = $first ? 'a' : 'b';

	$node->append_conf('postgresql.conf', "shared_preload_libraries = '$order'\ntimescaledb.telemetry_level = off\n");
	$node->start;
	if ($first)
	{
		$node->safe_psql('postgres', 'CREATE DATABASE other');
		$node->safe_psql('other', q{SET client_min_messages = error; CREATE EXTENSION timescaledb;
			CREATE TABLE m (at timestamptz NOT NULL, v int); SELECT create_hypertable('m', 'at');
			INSERT INTO m SELECT '2020-01-01'::timestamptz + i * interval '1 day', i FROM generate_series(1, 30) AS i});
		query(q{CREATE EXTENSION timescaledb; CREATE EXTENSION webhook_events;
			CREATE TABLE time_runs (id text, actor_id text, status text, secret text, at timestamptz NOT NULL DEFAULT '2020-01-01');
			SELECT create_hypertable('time_runs', 'at', chunk_time_interval => interval '1 day');
			INSERT INTO time_runs VALUES ('early', 'a', 'READY', 'x', '2019-12-01');
			SELECT webhook_events.attach('time_runs', exclude => '{secret}')});
	}
	is($node->safe_psql('other', 'UPDATE m SET v = v + 1; UPDATE m SET v = v + 1 WHERE v > 5; SELECT count(*) FROM m'), 30,
		"$order: a database that never heard of us");
	query("INSERT INTO time_runs SELECT '$run' || i, 'a', 'READY', 'x', '2020-01-01'::date + i FROM generate_series(1, 3) AS i");
	query("UPDATE time_runs SET status = 'RUNNING' WHERE id LIKE '$run%'");
	query("UPDATE time_runs SET status = 'SUCCEEDED' WHERE id = '${run}2'");
	query("UPDATE time_runs SET actor_id = 'b' WHERE id LIKE '$run%'");
	query('ALTER TABLE time_runs RENAME ' . ($first ? 'secret TO hidden' : 'hidden TO hidden_again'));
	query("UPDATE time_runs SET status = 'FAILED' WHERE id = '${run}3'");
	is(events($run, 'id'), "${run}1 CREATED, ${run}2 CREATED, ${run}3 CREATED, ${run}2 SUCCEEDED, ${run}3 FAILED",
		"$order: a hypertable of runs raises its events, in chunks that are made later too");
	is(query(q{SELECT count(*) FROM webhook_events.events WHERE problem IS NOT NULL OR resource::text ~ 'secret|hidden'}), 0,
		"$order: with the resource of an attached table");
	# Rows that are there are copied into chunks; those of the same transaction that come then are new.
	query("CREATE TABLE moved_runs (id text, actor_id text, status text, at timestamptz NOT NULL); SELECT webhook_events.attach('moved_runs');"
		  . "INSERT INTO moved_runs SELECT '${run}m' || i, 'a', 'SUCCEEDED', '2020-01-01'::date + i % 5 FROM generate_series(1, 300) AS i");
	my $before = query('SELECT count(*) FROM webhook_events.events');
	query(<<"SQL");
BEGIN;
SELECT create_hypertable('moved_runs', 'at', chunk_time_interval => interval '1 day', migrate_data => true);
COPY moved_runs FROM stdin;
${run}n1	a	READY	2020-01-02
${run}n2	a	READY	2021-01-01
\\.
INSERT INTO moved_runs VALUES ('${run}n3', 'a', 'READY', '2022-01-01');
COMMIT;
UPDATE moved_runs SET status = 'FAILED' WHERE id IN ('${run}m7', '${run}n2')
SQL
	is(query("SELECT count(*) - $before FROM webhook_events.events"), 5, "$order: rows of a table that becomes a hypertable raise nothing");
	is(events("${run}n", 'actor_run_id, id'), "${run}n1 CREATED, ${run}n2 CREATED, ${run}n2 FAILED, ${run}n3 CREATED", "$order: those that come then do");
	my ($status, $out, $err) = $node->psql('postgres', q{SELECT webhook_events.detach('moved_runs'); SELECT webhook_events.attach('moved_runs')});

	unlike($err, qr/raise no events/, "$order: nor is it said of chunks that they raise nothing");
	query("SELECT webhook_events.detach('moved_runs'); DROP TABLE moved_runs");
	is(query('SELECT relation FROM webhook_events.sources'), 'time_runs', "$order: chunks are no tables that somebody attached");
	is(query('SELECT broken_tables IS NULL FROM webhook_events.status()'), 't', "$order: and nothing is broken");
	$node->stop;
}

done_testing();
