# 071_shards.pl
#	  What Citus does to attached tables, done by hand: parts of them with their triggers
#	  in other databases, rows that are copied into these, and the catalogs that tell.
#	  (test/scale/citus.pl does it with Citus itself.)

use strict;
use warnings;
use PostgreSQL::Test::Utils;
use Test::More;
use WebhookEvents::Node;
use WebhookEvents::Page qw(page_block);
use WebhookEvents::Receiver;

my $receiver = WebhookEvents::Receiver->new;
my $node = new_node('main');
my $tables = q{CREATE TABLE pg_catalog.pg_dist_partition (logicalrelid regclass);
	CREATE TABLE pg_catalog.pg_dist_placement (shardid bigint, groupid integer);
	CREATE TABLE pg_catalog.pg_dist_local_group (groupid integer)};

sub query
{
	my ($database, $sql) = @_;

	return $node->safe_psql($database, $sql);
}

# The table that is distributed.
create_platform($node);

# Its triggers, for a part of it of this number.
sub triggers
{
	my ($shard) = @_;
	my $list = query('postgres', q{SELECT pg_get_triggerdef(oid) || ';' FROM pg_trigger WHERE tgrelid = 'actor_runs'::regclass AND tgname LIKE 'webhook_events%'});

	return $list =~ s/public\.actor_runs/public.actor_runs_$shard/gr;
}
my $columns = '(status text, id text PRIMARY KEY, stats jsonb, user_id text, actor_id text)';

# A database to which only the schema was restored serves nobody.
query('postgres', 'CREATE DATABASE restored');
query('restored', "CREATE EXTENSION webhook_events; CREATE TABLE actor_runs_102008 $columns");
query('restored', triggers(102008));
query('restored', 'SELECT webhook_events_internal.wake_worker()');
wait_for_sql($node, 'SELECT reason FROM webhook_events.status()',
	'the tables were attached in another database; call webhook_events.resume() to deliver from here', 'restored');
is(query('restored', 'SELECT webhook_events_internal.claim_shards(), (SELECT count(*) FROM webhook_events_internal.origins)'), 'f|0',
	'triggers of another database are not enough');

# A node does, when it has the triggers on a part that lies there.
query('postgres', 'CREATE DATABASE shards');
query('shards', 'CREATE EXTENSION webhook_events');
wait_for_sql($node, 'SELECT reason FROM webhook_events.status()', 'no table is attached yet; call webhook_events.attach()', 'shards');
query('shards', "SET allow_system_table_mods = on; $tables");
query('shards', 'INSERT INTO pg_dist_local_group VALUES (2); INSERT INTO pg_dist_placement VALUES (102008, 2), (102009, 2), (102010, 1)');
query('shards', "CREATE TABLE actor_runs_102010 $columns");
query('shards', triggers(102010));
is(query('shards', 'SELECT webhook_events_internal.claim_shards()'), 'f', 'nor are those on a part that lies elsewhere');
query('shards', "CREATE TABLE actor_runs_102008 $columns");
query('shards', triggers(102008));
wait_for_sql($node, 'SELECT running AND reason IS NULL FROM webhook_events.status()', 't', 'shards');
is(query('shards', "SELECT count(*) FROM webhook_events_internal.missing_days((now() AT TIME ZONE 'UTC')::date, (now() AT TIME ZONE 'UTC')::date)"),
	0, 'a node serves itself, with tables for today');
query('shards', "SELECT webhook_events.create_webhook('" . $receiver->url('/ok') . "', '{ACTOR.RUN.CREATED, ACTOR.RUN.SUCCEEDED}')");
query('shards', "INSERT INTO actor_runs_102008 VALUES ('READY', 'one', '{}', 'u', 'x')");
query('shards', "UPDATE actor_runs_102008 SET stats = '[]'; UPDATE actor_runs_102008 SET status = 'SUCCEEDED'");
wait_until { 2 == grep { $_->{body} =~ /"actorRunId":"one"/ } $receiver->requests } 'its events are delivered';
is(query('shards', "SELECT string_agg(event_type || ' ' || actor_id || ' ' || user_id || ' ' || (resource ->> 'status'), ', ' ORDER BY id) FROM webhook_events.events"),
	'ACTOR.RUN.CREATED x u READY, ACTOR.RUN.SUCCEEDED x u SUCCEEDED', 'by the names of columns, whatever their order');

# Rows that are copied into a new part were there before; those that come later are new.
sub count_events { return query('shards', 'SELECT count(*) FROM webhook_events.events'); }

sub copy
{
	my ($shard, @ids) = @_;

	return "COPY actor_runs_$shard (id, actor_id, status) FROM stdin;\n" . join('', map { "$_\tx\tREADY\n" } @ids) . "\\.\n";
}
query('shards', "SET citus.enable_unsafe_triggers = off;\nBEGIN;\nCREATE TABLE actor_runs_102009 $columns;\n" . triggers(102009) . "\n"
	  . copy(102009, 'old-1', 'old-2') . "COMMIT;\n");
is(count_events(), 2, 'rows that are distributed raise nothing');
query('shards', "SET citus.enable_unsafe_triggers = off;\n" . copy(102009, 'new-1'));
is(count_events(), 3, 'what is copied there later does');
query('shards', "BEGIN;\nCREATE TABLE actor_runs_102011 $columns;\n" . triggers(102011) . "\n" . copy(102011, 'new-2') . "COMMIT;\n");
is(count_events(), 4, 'without Citus nothing is taken for a distribution');
query('postgres', "SET citus.enable_unsafe_triggers = off;\nBEGIN;\nCREATE TABLE other_runs (id text, actor_id text, status text);\n"
	  . "SELECT webhook_events.attach('other_runs');\nCOPY other_runs FROM stdin;\nnew-3\tx\tREADY\n\\.\nCOMMIT;\n");
is(query('postgres', "SELECT count(*) FROM webhook_events.events WHERE actor_run_id = 'new-3'"), 1, 'nor is a table that was attached itself');

# audit() looks at the parts, and not for rows of which others have the events.
query('postgres', q{SET webhook_events.emit = off; INSERT INTO actor_runs (id, status, finished_at) VALUES ('elsewhere', 'SUCCEEDED', now())});
is(query('postgres', "SELECT resource_id FROM webhook_events.audit(now() - interval '1 hour', 'infinity')"), 'elsewhere', 'an event is missing');
query('postgres', "SET allow_system_table_mods = on; $tables");
query('postgres', "INSERT INTO pg_dist_partition VALUES ('actor_runs')");
is(query('postgres', "SELECT count(*) FROM webhook_events.audit(now() - interval '1 hour', 'infinity')"), 0, 'unless other nodes have it');

# What the page asks all nodes, with the function of Citus for a single one.
query('postgres', q{CREATE FUNCTION run_command_on_all_nodes(command text, OUT nodeid integer, OUT success boolean, OUT result text) RETURNS SETOF record
	LANGUAGE plpgsql AS $$ BEGIN nodeid := 1; EXECUTE command INTO result; success := true; RETURN NEXT; END $$});
wait_for_sql($node, page_block('scale-out', qr/SELECT row\(running/), "1|t|(t,,0,0)\n1|t|0");
is(query('postgres', page_block('scale-out', qr/json_array_elements_text\(n\.result::json\)/)), 0, 'the statements of the page can be run');

# Where triggers are refused, attach() says what allows them.
query('postgres', q{CREATE FUNCTION refuse() RETURNS event_trigger LANGUAGE plpgsql AS $$
	BEGIN RAISE 'triggers are not supported on distributed tables' USING ERRCODE = 'internal_error'; END $$;
	CREATE EVENT TRIGGER refuse ON ddl_command_start WHEN TAG IN ('CREATE TRIGGER') EXECUTE FUNCTION refuse()});
sql_fails($node, "SET citus.enable_unsafe_triggers = off; SELECT webhook_events.attach('actor_runs')",
	qr/not supported.*HINT:  If the table is distributed: SET citus\.enable_unsafe_triggers = on/s, 'the hint names the setting');
my (undef, undef, $stderr) = $node->psql('postgres', "SELECT webhook_events.attach('actor_runs')");
unlike($stderr, qr/citus/, 'without Citus it does not');

$node->stop;
done_testing();
