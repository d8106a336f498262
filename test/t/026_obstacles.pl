# 026_obstacles.pl
#	  What is in the worker's way: locks, bad rows, broken tables, settings.  It goes on
#	  with all else, and sends nothing twice.

use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use WebhookEvents::Node;
use WebhookEvents::Receiver;

my $receiver = WebhookEvents::Receiver->new;
my $node = new_node('obstacles', conf => "webhook_events.retry_delay = '1h'\n");
my $status = 'FROM webhook_events.status()';
my %delivered;

create_platform($node);

sub query
{
	my ($sql) = @_;

	return $node->safe_psql('postgres', $sql);
}

# A session that stays open, for transactions that are left open.
sub open_session
{
	return $node->background_psql('postgres', on_error_stop => 1);
}

# Requests to a path.
sub sent_to
{
	my ($path) = @_;

	return scalar grep { $_->{target} eq $path } $receiver->requests;
}

# Makes runs, and waits until a webhook's dispatches have all succeeded.
sub deliver
{
	my ($actor, $webhook, $count) = @_;

	insert_runs($node, $count, $actor);
	wait_for_delivered($webhook, $count);
	return;
}

# Waits until so many more were delivered to a webhook than the last time.
sub wait_for_delivered
{
	my ($webhook, $more) = @_;

	wait_for_sql($node, "SELECT count(*) FROM webhook_events.dispatches WHERE webhook_id = '$webhook' AND status = 'SUCCEEDED'",
		$delivered{$webhook} += $more);
	return;
}

# A worker that starts anew adds up statistics at once.
sub restart_worker
{
	my $pid = query("SELECT worker_pid $status");

	query("SELECT pg_terminate_backend($pid)");
	wait_for_sql($node, "SELECT running AND worker_pid <> $pid $status", 't');
	return;
}

my $tenant = create_webhook($node, $receiver->url('/ok?tenant'), 'ACTOR.RUN.CREATED', actor_id => "'tenant'");
my $other = create_webhook($node, $receiver->url('/ok?other'), 'ACTOR.RUN.CREATED', actor_id => "'other'");
deliver('tenant', $tenant, 3);
deliver('other', $other, 3);

# Somebody deletes a webhook and does not commit.
restart_worker();
my $session = open_session();
$session->query_safe("BEGIN; SELECT webhook_events.delete_webhook('$tenant')");
deliver('other', $other, 3);
deliver('tenant', $tenant, 3);
pass('a webhook that somebody is about to delete keeps nobody from being called');
$session->query_safe('ROLLBACK');

# Somebody locks what tells of earlier starts, of which the oldest are forgotten.
query("INSERT INTO webhook_events_internal.worker_starts (version, filler) SELECT 'old', '' FROM generate_series(1, 30)");
$session->query_safe('BEGIN; SELECT FROM webhook_events_internal.worker_starts FOR UPDATE');
restart_worker();
deliver('other', $other, 3);
pass('starts that can not be forgotten keep nobody from being called');
$session->query_safe('ROLLBACK');
restart_worker();
deliver('other', $other, 3);
cmp_ok(query('SELECT count(*) FROM webhook_events_internal.worker_starts'), '<=', 21, 'and are forgotten another time');

# Somebody locks a row while its request is under way.
my $held = create_webhook($node, $receiver->url('/hold/row'), 'ACTOR.RUN.CREATED', actor_id => "'held'");
my $row = "FROM webhook_events_internal.dispatches WHERE webhook_id = '$held'";
insert_runs($node, 2, 'held');
wait_for_sql($node, "SELECT count(*) $row", 2);
$session->query_safe("BEGIN; SELECT id $row ORDER BY id LIMIT 1 FOR UPDATE");
$receiver->release('row');
wait_for_sql($node, "SELECT count(*) $row AND status = 'SUCCEEDED'", 1);
deliver('other', $other, 3);
pass('a locked dispatch keeps no other from being recorded');
is(query("SELECT troubles IS NULL $status"), 't', 'and is no trouble');
$session->query_safe('COMMIT');
wait_for_sql($node, "SELECT count(*) $row AND status = 'SUCCEEDED' AND attempts = 1", 2);
is(sent_to('/hold/row'), 2, 'it is recorded later, and was not sent again');

# Somebody locks one that waits to be called again.
my $failing = create_webhook($node, $receiver->url('/status/500?waits'), 'ACTOR.RUN.CREATED', actor_id => "'failing'");
insert_runs($node, 1, 'failing');
wait_for_sql($node, "SELECT count(*) FROM webhook_events.dispatches WHERE webhook_id = '$failing' AND attempts = 1", 1);
$session->query_safe("BEGIN; SELECT id FROM webhook_events_internal.dispatches WHERE webhook_id = '$failing' FOR UPDATE");
query("SELECT webhook_events.delete_webhook('$failing')");
deliver('other', $other, 3);
$session->query_safe('COMMIT');
wait_for_sql($node, "SELECT status, error_message FROM webhook_events.dispatches WHERE webhook_id = '$failing'",
	'FAILED|Webhook was removed.');
pass('one that is to end is ended when its lock is gone');

# Somebody locks a webhook whose endpoint is gone.
my $gone = create_webhook($node, $receiver->url('/gone'), 'ACTOR.RUN.CREATED', actor_id => "'gone'");
$session->query_safe("BEGIN; SELECT id FROM webhook_events_internal.webhooks WHERE id = '$gone' FOR UPDATE");
insert_runs($node, 1, 'gone');
wait_for_sql($node, "SELECT status FROM webhook_events.dispatches WHERE webhook_id = '$gone'", 'FAILED');
deliver('other', $other, 3);
$session->query_safe('COMMIT');
wait_for_sql($node, "SELECT is_enabled, disabled_reason FROM webhook_events.webhooks WHERE id = '$gone'",
	'f|The endpoint answered 410 Gone.');
pass('a webhook whose endpoint is gone is disabled when its lock is gone');

# Somebody gives one another URL while the old one is being called.
my $moved = create_webhook($node, $receiver->url('/hold/moved?status=410'), 'ACTOR.RUN.CREATED', actor_id => "'moved'");
insert_runs($node, 1, 'moved');
wait_for_sql($node, "SELECT count(*) FROM webhook_events.dispatches WHERE webhook_id = '$moved'", 1);
query(sprintf q{SELECT webhook_events.update_webhook('%s', '{"requestUrl": "%s"}')}, $moved, $receiver->url('/ok?moved'));
$receiver->release('moved');
wait_for_sql($node, "SELECT status FROM webhook_events.dispatches WHERE webhook_id = '$moved'", 'FAILED');
insert_runs($node, 1, 'moved');
wait_for_sql($node, "SELECT count(*) FROM webhook_events.dispatches WHERE webhook_id = '$moved' AND status = 'SUCCEEDED'", 1);
is(query("SELECT is_enabled FROM webhook_events.webhooks WHERE id = '$moved'"), 't', 'that the old URL is gone says nothing of the new one');

# Somebody locks a whole table of a day: nothing can be recorded, so nothing is sent.
my $pid = query("SELECT worker_pid $status");
my $day = query("SELECT tableoid::regclass $row LIMIT 1");
$receiver->hold('table');
my $table = create_webhook($node, $receiver->url('/hold/table'), 'ACTOR.RUN.CREATED', actor_id => "'table'");
insert_runs($node, 1, 'table');
wait_for_sql($node, "SELECT count(*) FROM webhook_events.dispatches WHERE webhook_id = '$table'", 1);
$session->query_safe("BEGIN; LOCK TABLE $day IN SHARE MODE");
$receiver->release('table');
wait_for_sql($node, "SELECT troubles[1] ~ '^recording what was sent fails since .*: canceling statement due to lock timeout' $status", 't');
insert_runs($node, 3, 'other');
$session->query_safe('COMMIT');
$session->quit;
wait_for_delivered($other, 3);
wait_for_sql($node, "SELECT count(*) FROM webhook_events.dispatches WHERE webhook_id = '$table' AND status = 'SUCCEEDED' AND attempts = 1", 1);
is(sent_to('/hold/table'), 1, 'what could not be recorded was not sent again');
wait_for_sql($node, "SELECT troubles IS NULL AND worker_pid = $pid $status", 't');
pass('the worker was there all the time');
like(slurp_file($node->logfile), qr/recording what was sent of database "postgres" works again/, 'and the log says that it is over');

# Housekeeping that fails.
query('ALTER TABLE webhook_events_internal.webhook_stats ADD CONSTRAINT broken CHECK (total_dispatches < 0) NOT VALID');
restart_worker();
$pid = query("SELECT worker_pid $status");
deliver('other', $other, 3);
wait_for_sql($node, "SELECT troubles[1] ~ '^adding up statistics of webhooks fails since .*broken' $status", 't');
deliver('other', $other, 3);
is(query("SELECT worker_pid $status"), $pid, 'statistics that fail do not end the worker');
query('ALTER TABLE webhook_events_internal.webhook_stats DROP CONSTRAINT broken');
wait_for_sql($node, "SELECT troubles IS NULL $status", 't');
wait_for_sql($node, "SELECT total_dispatches > 0 FROM webhook_events_internal.webhook_stats WHERE webhook_id = '$other'", 't');
pass('and are made up for');

# One row that can't be written, among others.
my $calls = $day =~ s/dispatches/calls/r;
query("CREATE INDEX broken ON $calls ((1 / (response_status - 418)))");
my $teapot = create_webhook($node, $receiver->url('/status/418'), 'ACTOR.RUN.CREATED', actor_id => "'teapot'");
query(q{INSERT INTO actor_runs (id, actor_id) SELECT webhook_events_internal.new_id(), CASE n WHEN 7 THEN 'teapot' ELSE 'other' END
	FROM generate_series(1, 20) AS n});
wait_for_sql($node, "SELECT status, error_message FROM webhook_events.dispatches WHERE webhook_id = '$teapot'",
	'FAILED|Could not be recorded: division by zero');
wait_for_delivered($other, 19);
query('DROP INDEX webhook_events_internal.broken');
pass('a row that can not be written is set aside, and the others are not');

# What is in the way says so at length.
query("CREATE FUNCTION refuse(status int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS \$\$BEGIN
	IF status = 418 THEN RAISE EXCEPTION '%', repeat(chr(252), 400) USING ERRCODE = 'data_exception'; END IF; RETURN status; END\$\$;
	CREATE INDEX broken ON $calls (refuse(response_status))");
insert_runs($node, 1, 'teapot');
wait_for_sql($node, "SELECT count(*) FROM webhook_events.dispatches WHERE webhook_id = '$teapot' AND status = 'FAILED'", 2);
is(query("SELECT length(convert_from(convert_to(error_message, 'UTF8'), 'UTF8')) > 200 FROM webhook_events.dispatches"
		  . " WHERE webhook_id = '$teapot' ORDER BY id DESC LIMIT 1"),
	't', 'a message that is too long is cut off between characters');
query('DROP INDEX webhook_events_internal.broken; DROP FUNCTION refuse');

# Rows that somebody has changed by hand.
my $again = query("UPDATE webhook_events_internal.dispatches SET status = 'ACTIVE', attempts = 0, next_attempt_at = now()"
	  . " WHERE id = (SELECT min(id) FROM webhook_events_internal.dispatches WHERE webhook_id = '$other') RETURNING id");
query('SELECT webhook_events_internal.wake_worker()');
wait_for_sql($node, "SELECT string_agg(attempt::text, ' ' ORDER BY attempt) FROM webhook_events.calls WHERE dispatch_id = '$again'", '1 2');
wait_for_sql($node, "SELECT status FROM webhook_events.dispatches WHERE id = '$again'", 'SUCCEEDED');
pass('one that is to be called again is called again');

# An event whose id is none of ours, for two webhooks; and one whose id is too long.
my $second = create_webhook($node, $receiver->url('/ok?second'), 'ACTOR.RUN.CREATED', actor_id => "'other'");
foreach my $id ('evt-1', 'an-event-with-a-very-long-id')
{
	query(qq{INSERT INTO webhook_events_internal.outbox (id, created_at, xid, event_type, actor_id, actor_run_id, resource)
		VALUES ('$id', now(), pg_current_xact_id(), 'ACTOR.RUN.CREATED', 'other', '$id', '{}'); SELECT webhook_events_internal.wake_worker()});
	wait_for_delivered($second, 1);
	wait_for_delivered($other, 1);
}
deliver('other', $other, 1);
is(query("SELECT worker_pid = $pid $status"), 't', 'neither ends the worker');

# The id of a run is too long for any index.
my $ordered = create_webhook($node, $receiver->url('/ok?ordered'), 'ACTOR.RUN.CREATED', actor_id => "'ordered'", ordering => "'resource'");
query('ALTER TABLE actor_runs DROP CONSTRAINT actor_runs_pkey');
query(q{INSERT INTO actor_runs (id, actor_id) SELECT string_agg(md5(n::text), ''), 'ordered' FROM generate_series(1, 200) AS n});
wait_for_sql($node, "SELECT count(*) FROM webhook_events.dispatches WHERE webhook_id = '$ordered' AND status = 'SUCCEEDED' AND attempts = 1", 1);
query("SELECT webhook_events.redeliver(id) FROM webhook_events.dispatches WHERE webhook_id = '$ordered'");
wait_for_sql($node, "SELECT count(*) FROM webhook_events.dispatches WHERE webhook_id = '$ordered' AND status = 'SUCCEEDED' AND attempts = 1", 2);
is(query("SELECT count(DISTINCT order_key), max(length(order_key)) FROM webhook_events_internal.dispatches WHERE webhook_id = '$ordered'"),
	'1|21', 'a run with a long id has an order, too');

# Publications need a key for each table that is changed.
query('SET client_min_messages = error; CREATE PUBLICATION everything FOR ALL TABLES');
is(query(q{SELECT string_agg(c.relname, ' ') FROM pg_class AS c WHERE c.relnamespace = 'webhook_events_internal'::regnamespace}
		. q{ AND c.relkind = 'r' AND NOT EXISTS (SELECT FROM pg_index AS i WHERE i.indrelid = c.oid AND i.indisprimary)}),
	'', 'all that have rows have one');
query('SELECT webhook_events.stat_reset() FROM generate_series(1, 2)');
query("SELECT webhook_events.pause('to be seen')");
wait_for_sql($node, "SELECT reason ~ '^paused' $status", 't');
insert_runs($node, 2, 'other');
query('SELECT webhook_events.resume()');
$delivered{$other} += 2;
deliver('other', $other, 1);
query("SELECT webhook_events.disable_webhook('$second'), webhook_events.delete_webhook('$second')");
restart_worker();
deliver('other', $other, 3);
is(query("SELECT troubles IS NULL $status"), 't', 'all of it works with a publication for all tables');
query('DROP PUBLICATION everything');

# A worker that starts has no descriptor left to wait for answers with.
SKIP:
{
	skip 'nobody can take descriptors from a process here', 1 if system("prlimit --pid $$ > /dev/null 2>&1") != 0;
	query("SELECT webhook_events.pause('to be without descriptors')");
	restart_worker();
	wait_for_sql($node, "SELECT reason ~ '^paused' $status", 't');
	$pid = query("SELECT worker_pid $status");
	my $offset = -s $node->logfile;
	system_or_bail('prlimit', '--pid', $pid, '--nofile=3:');
	query('DELETE FROM webhook_events_internal.pauses; SELECT webhook_events_internal.wake_worker()');
	wait_for_sql($node, "SELECT running AND worker_pid <> $pid $status", 't');
	unlike(slurp_file($node->logfile, $offset), qr/was terminated by signal/, 'a worker that lacks descriptors takes nobody along');
	deliver('other', $other, 1);
}

# A worker that was asked to stop takes the time to record; who asks again is obeyed at once.
query(q{CREATE TABLE slow AS SELECT true AS is_slow;
	CREATE FUNCTION sleep_if_slow() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN
		PERFORM pg_sleep(3600) FROM public.slow;
		RETURN NULL;
	END $$;
	CREATE TRIGGER slow AFTER INSERT ON webhook_events_internal.cursors FOR EACH STATEMENT EXECUTE FUNCTION sleep_if_slow()});
$pid = query("SELECT worker_pid $status");
my $sleeps = "SELECT count(*) FROM pg_stat_activity WHERE pid = $pid AND wait_event = 'PgSleep'";
insert_runs($node, 1, 'other');
wait_for_sql($node, $sleeps, 1);
query("DELETE FROM slow; SELECT pg_terminate_backend($pid)");
query('SELECT pg_sleep(1.5)');
is(query($sleeps), 1, 'a worker that records is not ended by who asks it to stop');
query("SELECT pg_terminate_backend($pid)");
wait_for_sql($node, "SELECT running AND worker_pid <> $pid $status", 't');
like(slurp_file($node->logfile), qr/\[$pid\] .*FATAL:  terminating background worker "webhook_events worker"/, 'but by who asks again');
wait_for_delivered($other, 1);
query('DROP TRIGGER slow ON webhook_events_internal.cursors');

# Settings of the database are for sessions.
query(q{CREATE ROLE nobody;
	ALTER DATABASE postgres SET role = 'nobody';
	ALTER DATABASE postgres SET default_transaction_read_only = on;
	ALTER DATABASE postgres SET search_path = nowhere;
	ALTER DATABASE postgres SET statement_timeout = 1;
	ALTER DATABASE postgres SET lock_timeout = 1;
	ALTER DATABASE postgres SET idle_in_transaction_session_timeout = 1;
	ALTER DATABASE postgres SET enable_indexscan = off;
	ALTER DATABASE postgres SET enable_nestloop = off;
	ALTER DATABASE postgres SET session_replication_role = replica});
$node->restart;
my $connection = $node->connstr('postgres') . " options='-c role=none -c default_transaction_read_only=off -c statement_timeout=0"
  . " -c lock_timeout=0 -c session_replication_role=origin -c search_path=public'";
$node->safe_psql('postgres', q{INSERT INTO actor_runs (id, actor_id) VALUES ('with settings', 'other')}, connstr => $connection);
$receiver->wait_for_requests(1, where => sub { ($_->{body} // '') =~ /"with settings"/ });
pass('the settings of the database are not the worker\'s');

$node->stop;
$receiver->stop;
done_testing();
