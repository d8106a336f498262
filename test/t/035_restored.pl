# 035_restored.pl
#	  A dump that is restored on another server, whose transaction ids are
#	  younger, and what resume() makes of it.

use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use WebhookEvents::Node;
use WebhookEvents::Page;
use WebhookEvents::Receiver;

my $receiver = WebhookEvents::Receiver->new;
my $old = new_node('old', init => { allows_streaming => 'logical' });
my $new = new_node('new');

# The events that were sent since the last call.
my $nseen = 0;

sub sent
{
	my @requests = $receiver->requests;
	my @runs = map { $_->{body} =~ /"actorRunId":"([^"]+)"/ } splice @requests, $nseen;

	$nseen += @runs;
	return join ' ', sort @runs;
}

sub wait_until_done
{
	my ($database) = @_;

	wait_for_sql($new, 'SELECT reason IS NULL AND events_waiting = 0 AND dispatches_active = 0'
		  . ' FROM webhook_events.status()', 't', $database);
	return;
}

sub restore
{
	my ($database) = @_;

	$new->safe_psql('postgres', "CREATE DATABASE $database");
	command_ok([ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-d', $new->connstr($database),
		'-f', $old->basedir . '/dump.sql' ], "the dump is restored as $database");
	$new->safe_psql($database, "INSERT INTO actor_runs (id) VALUES ('own')");
	wait_for_sql($new, "SELECT running AND reason LIKE '%recorded in another database%'"
		  . ' FROM webhook_events.status()', 't', $database);
	return;
}

# One event was delivered, one waits to be routed, and one to be called again.
$old->safe_psql('postgres', q{DO $$
	BEGIN
		FOR i IN 1 .. 5000 LOOP
			PERFORM pg_current_xact_id();
			COMMIT;
		END LOOP;
	END $$});
create_platform($old);
create_webhook($old, $receiver->url('/ok'), 'ACTOR.RUN.CREATED');
$old->safe_psql('postgres', "INSERT INTO actor_runs (id) VALUES ('delivered')");
wait_for_sql($old, 'SELECT status FROM webhook_events.dispatches', 'SUCCEEDED');
wait_for_sql($old, 'SELECT events_waiting FROM webhook_events.status()', 0);
$old->safe_psql('postgres', 'SELECT webhook_events.pause()');
wait_for_sql($old, "SELECT reason LIKE 'paused%' FROM webhook_events.status()", 't');
$old->safe_psql('postgres', "INSERT INTO actor_runs (id) VALUES ('waiting')");
command_ok([ 'pg_dump', '-f', $old->basedir . '/dump.sql', $old->connstr('postgres') ],
	'a database is dumped');
is(sent(), 'delivered', 'before that, one event was delivered');

restore('sending');
foreach my $backlog (qw(skip send))
{
	my ($status, $out, $err) = $new->psql('sending', "BEGIN; SELECT webhook_events.resume('$backlog'); ROLLBACK");
	my $fate = $backlog eq 'skip' ? 'skipped' : 'sent';

	like($err, qr/NOTICE:  2 events that were not routed and 0 dispatches that waited are $fate/, "resume() says what is $fate");
	like($err, qr/NOTICE:  no role has an access in this database/, 'and that accesses are to be granted again');
}
# On a server that was set up in the same way the copy's objects may have the same numbers.
$new->safe_psql('sending', q{UPDATE webhook_events_internal.origins SET outbox = 'webhook_events_internal.outbox'::regclass,
	database = (SELECT oid FROM pg_database WHERE datname = current_database()); SELECT webhook_events_internal.wake_worker()});
$new->safe_psql('sending', "SELECT pg_terminate_backend(worker_pid, 60000) FROM webhook_events.status()");
wait_for_sql($new, "SELECT running AND reason LIKE '%recorded in another database%' FROM webhook_events.status()", 't', 'sending');
$new->safe_psql('sending', 'SELECT webhook_events.resume()');
wait_until_done('sending');
is(sent(), 'own waiting', 'what waited there is sent, and what came since');

# Others get and end transactions while resume() has its own already.
restore('busy');
my $other = "psql -X -q -t -d '" . $new->connstr('postgres')
  . "' -c 'SELECT pg_current_xact_id()'";
$new->safe_psql('busy', <<"SQL");
BEGIN;
SELECT pg_current_xact_id();
\\! $other
\\! $other
SELECT webhook_events.resume();
COMMIT;
SQL
wait_until_done('busy');
is(sent(), 'own waiting', 'whatever else happens on the server');

restore('skipping');
$new->safe_psql('skipping', "SELECT webhook_events.resume('skip')");
wait_for_sql($new, 'SELECT reason IS NULL FROM webhook_events.status()', 't', 'skipping');
$new->safe_psql('skipping', "INSERT INTO actor_runs (id) VALUES ('later')");
wait_until_done('skipping');
is(sent(), 'later', 'or nothing is sent but what comes later');

# The schema alone, and the platform's rows: nothing was recorded by the other one.
$new->safe_psql('postgres', 'CREATE DATABASE tables');
foreach my $part ([ schema => '--schema-only' ], [ rows => '--data-only', '--table=actor_runs' ])
{
	my ($name, @options) = @$part;
	my $file = $old->basedir . "/$name.sql";

	command_ok([ 'pg_dump', @options, '-f', $file, $old->connstr('postgres') ], "its $name are dumped");
	command_ok([ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-f', $file, '-d', $new->connstr('tables') ], 'and restored');
}
is($new->safe_psql('tables', 'SELECT count(*) FROM webhook_events.events'), 0, 'rows that are restored raise nothing');
$new->safe_psql('tables', "SELECT webhook_events.create_webhook('" . $receiver->url('/ok') . "', '{ACTOR.RUN.CREATED}')");
$new->safe_psql('tables', "INSERT INTO actor_runs (id) VALUES ('own')");
wait_for_sql($new, "SELECT running AND reason LIKE 'the tables were attached in another database%' AND events_waiting = 1"
	  . ' FROM webhook_events.status()', 't', 'tables');
$new->safe_psql('tables', 'SELECT webhook_events.resume()');
wait_until_done('tables');
is(sent(), 'own', 'what was raised since is sent');

my ($status, $out, $err) = $new->psql('skipping', "SELECT webhook_events.resume('skip')");
like($err, qr/delivery is not paused/, 'only what is held can be skipped');

# A move by logical replication: of the platform's tables and the webhooks.
$old->safe_psql('postgres', 'SELECT webhook_events.resume()');
wait_for_end($old);
is(sent(), 'waiting', 'the original delivers what waited');
my ($publication, $subscription) = slurp_file(page_path('operations')) =~ /^    psql -d \w+ -c "(CREATE [^"]*)"/mg;
$old->safe_psql('postgres', $publication);
$new->safe_psql('postgres', 'CREATE DATABASE moved');
command_ok([ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-f', $old->basedir . '/schema.sql', '-d', $new->connstr('moved') ],
	'its schema is restored');
$new->safe_psql('moved', $subscription =~ s/'\.\.\.'/'$$' . $old->connstr('postgres') . '$$'/er);
wait_for_sql($new, q{SELECT count(*) FILTER (WHERE srsubstate = 'r') || ' of ' || count(*) FROM pg_subscription_rel}, '3 of 3', 'moved');
$old->safe_psql('postgres', "INSERT INTO actor_runs (id) VALUES ('before')");
wait_for_end($old);
is(sent(), 'before', 'which goes on until then');
wait_for_sql($new, "SELECT count(*) FROM actor_runs WHERE id = 'before'", 1, 'moved');
is($new->safe_psql('moved', 'SELECT reason FROM webhook_events.status()'),
	'the tables were attached in another database; call webhook_events.resume() to deliver from here', 'while the copy keeps silent');
$old->safe_psql('postgres', "SELECT webhook_events.pause('moved')");
$new->safe_psql('moved', 'DROP SUBSCRIPTION move');
$new->safe_psql('moved', 'SELECT webhook_events.resume()');
$new->safe_psql('moved', "INSERT INTO actor_runs (id) VALUES ('after')");
wait_until_done('moved');
is(sent(), 'after', 'and takes over, without what was delivered');

$old->stop;
$new->stop;
done_testing();
