# 034_corners.pl
#	  Databases and statements out of the ordinary.

use strict;
use warnings;
use Cwd qw(abs_path);
use File::Basename qw(dirname);
use PostgreSQL::Test::Utils;
use Test::More;
use WebhookEvents::Node;
use WebhookEvents::Receiver;

my $receiver = WebhookEvents::Receiver->new;
my $node = new_node('main');
my $platform = abs_path(dirname(__FILE__) . '/../platform.sql');

sub make_webhook
{
	my ($database, $path) = @_;

	$node->safe_psql($database, "SELECT webhook_events.create_webhook('"
		  . $receiver->url($path) . "', '{ACTOR.RUN.CREATED}')");
	return;
}

sub requests_of
{
	my $path = shift;

	return grep { $_->{target} eq $path } $receiver->requests;
}

# A database in another encoding
$node->safe_psql('postgres', q{CREATE DATABASE latin
	ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0});
create_platform($node, 'latin');
make_webhook('latin', '/ok?latin');
$node->safe_psql('latin', q{SET client_encoding = 'LATIN1';
	INSERT INTO actor_runs (id, user_id) VALUES ('1', chr(233))});
wait_for_sql($node, "SELECT status FROM webhook_events.dispatches", 'SUCCEEDED', 'latin');
like((requests_of("/ok?latin"))[0]{body}, qr/"userId": "\x{e9}"/,
	'what a LATIN1 database holds is sent in UTF-8');

# A database that does not know what its bytes mean
$node->safe_psql('postgres', q{CREATE DATABASE bytes
	ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0});
create_platform($node, 'bytes');
make_webhook('bytes', '/ok?bytes');
$node->safe_psql('bytes', q{INSERT INTO actor_runs (id, user_id) VALUES ('bad', E'\\xe9'), ('good', E'\\xc3\\xa9')});
wait_for_sql($node, q{SELECT string_agg(d.status::text, ' ' ORDER BY e.actor_run_id) FROM webhook_events.dispatches AS d
	JOIN webhook_events.events AS e ON e.id = d.event_id}, 'FAILED SUCCEEDED', 'bytes');
like($node->safe_psql('bytes', q{SELECT error_message FROM webhook_events.dispatches WHERE status = 'FAILED'}),
	qr/invalid byte sequence for encoding "UTF8"/, 'what can not be UTF-8 is not sent');
like((requests_of("/ok?bytes"))[0]{body}, qr/"userId": "\x{e9}"/, 'what is, is');

# Settings of a database that would harm the worker
$node->safe_psql('postgres', 'CREATE DATABASE harmful');
foreach my $setting ('statement_timeout = 1', 'default_transaction_read_only = on',
	"search_path = ''", 'session_replication_role = replica',
	"default_transaction_isolation = 'serializable'", 'row_security = off')
{
	$node->safe_psql('postgres', "ALTER DATABASE harmful SET $setting");
}
{
	local $ENV{PGOPTIONS} = '-c statement_timeout=0 -c default_transaction_read_only=off'
	  . ' -c search_path=public -c session_replication_role=origin';

	create_platform($node, 'harmful');
	make_webhook('harmful', '/ok?harmful');
	$node->safe_psql('harmful', "INSERT INTO actor_runs (id) VALUES ('1')");
	wait_for_sql($node, 'SELECT status FROM webhook_events.dispatches', 'SUCCEEDED', 'harmful');
}
pass('settings of the database do no harm');

# Copying the database that one is connected to
create_platform($node);
$node->safe_psql('postgres', 'CREATE DATABASE copy TEMPLATE postgres');
pass('the current database can be copied');

# Only who may do it disturbs a worker; the copy's end has had it start again.
wait_for_sql($node, 'SELECT running FROM webhook_events.status()', 't');
my $pid = $node->safe_psql('postgres', 'SELECT worker_pid FROM webhook_events.status()');
my ($status, $out, $err) = $node->psql('copy',
	'CREATE ROLE creator CREATEDB; SET ROLE creator; CREATE DATABASE mine TEMPLATE postgres');
like($err, qr/permission denied to copy/, 'another role can not copy it');
is($node->safe_psql('postgres', 'SELECT worker_pid FROM webhook_events.status()'), $pid,
	'and does not disturb its worker');

# Two-phase commit; nothing is polled for here
make_webhook('postgres', '/ok?prepared');
$node->safe_psql('postgres', q{
	BEGIN;
	INSERT INTO actor_runs (id) VALUES ('prepared');
	PREPARE TRANSACTION 'run';});
$node->safe_psql('postgres', "COMMIT PREPARED 'run'");
wait_until { requests_of('/ok?prepared') == 1 } 'the event of a prepared transaction is sent';
pass('COMMIT PREPARED wakes the worker');

$node->safe_psql('postgres', 'CREATE DATABASE prepared');
$node->safe_psql('prepared', q{
	BEGIN;
	CREATE EXTENSION webhook_events;
	PREPARE TRANSACTION 'extension';});
$node->safe_psql('prepared', "COMMIT PREPARED 'extension'");
wait_for_sql($node, 'SELECT running FROM webhook_events.status()', 't', 'prepared');
pass('an extension that was created in a prepared transaction gets its worker');

# Skipping while requests are under way
make_webhook('copy', '/hold/skipped');
wait_for_sql($node, q{SELECT reason LIKE '%recorded in another database%'
	FROM webhook_events.status()}, 't', 'copy');
$node->safe_psql('copy', 'SELECT webhook_events.resume()');
wait_for_sql($node, 'SELECT reason IS NULL FROM webhook_events.status()', 't', 'copy');
$node->safe_psql('copy',
	'INSERT INTO actor_runs (id) SELECT i FROM generate_series(1, 100) AS i');
wait_until { requests_of('/hold/skipped') == 16 } 'as many requests as may be are under way';
$node->safe_psql('copy', 'SELECT webhook_events.pause()');
wait_for_sql($node, "SELECT reason LIKE 'paused%' FROM webhook_events.status()", 't', 'copy');
$node->safe_psql('copy', "SELECT webhook_events.resume('skip')");
wait_for_sql($node, 'SELECT reason IS NULL FROM webhook_events.status()', 't', 'copy');
$receiver->release('skipped');
$node->safe_psql('copy', "INSERT INTO actor_runs (id) VALUES ('later')");
wait_for_sql($node, q{SELECT d.status FROM webhook_events.dispatches AS d
	JOIN webhook_events.events AS e ON e.id = d.event_id
	WHERE e.actor_run_id = 'later'}, 'SUCCEEDED', 'copy');
is(scalar requests_of('/hold/skipped'), 17, 'what was in the worker\'s memory is skipped too');
is($node->safe_psql('copy', q{SELECT dispatches_active, last_error IS NULL
	FROM webhook_events.status()}), '0|t', 'and nothing is left behind');

# A row that moves to a partition on another server is no new one.
SKIP:
{
	skip 'there is no postgres_fdw', 1
	  if !$node->safe_psql('postgres', "SELECT count(*) FROM pg_available_extensions WHERE name = 'postgres_fdw'");
	my ($host, $port) = ($node->host, $node->port);

	$node->safe_psql('postgres', 'CREATE DATABASE apart');
	$node->safe_psql('apart', <<"SQL");
CREATE EXTENSION webhook_events;
CREATE EXTENSION postgres_fdw;
CREATE SERVER here FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '$host', port '$port', dbname 'apart');
CREATE USER MAPPING FOR CURRENT_USER SERVER here;
CREATE TABLE apart_runs (id text, actor_id text, status text, p int) PARTITION BY LIST (p);
CREATE TABLE apart_here PARTITION OF apart_runs FOR VALUES IN (0);
CREATE TABLE old_runs (id text, actor_id text, status text, p int);
CREATE FOREIGN TABLE apart_there PARTITION OF apart_runs FOR VALUES IN (1) SERVER here OPTIONS (table_name 'old_runs');
SELECT webhook_events.attach('apart_runs');
INSERT INTO apart_runs VALUES ('same', 'a', 'RUNNING', 0), ('over', 'a', 'RUNNING', 0), ('again', 'a', 'FAILED', 0), ('other', 'a', 'RUNNING', 1);
UPDATE apart_runs SET p = 1, status = CASE id WHEN 'over' THEN 'SUCCEEDED' ELSE 'RUNNING' END WHERE p = 0;
UPDATE apart_runs SET status = 'ABORTED' WHERE id = 'other';
SQL
	is($node->safe_psql('apart', q{SELECT string_agg(actor_run_id || ' ' || split_part(event_type::text, '.', 3), ', ' ORDER BY id) FROM webhook_events.events}),
		'same CREATED, over CREATED, again CREATED, again FAILED, other CREATED, over SUCCEEDED, again RESURRECTED, other ABORTED',
		'rows that move to a partition on another server');
}

# DROP EXTENSION in the middle of work
foreach my $round (1 .. 10)
{
	$node->safe_psql('prepared', slurp_file($platform)) if $round == 1;
	$node->safe_psql('prepared', q{SELECT webhook_events.attach('actor_runs')});
	make_webhook('prepared', '/slow/20');
	$node->safe_psql('prepared', qq{INSERT INTO actor_runs (id)
		SELECT '$round-' || i FROM generate_series(1, 500) AS i});
	wait_for_sql($node, "SELECT count(*) > $round FROM webhook_events.calls", 't', 'prepared');
	$node->safe_psql('prepared', q{
		DROP EXTENSION webhook_events CASCADE;
		CREATE EXTENSION webhook_events;});
}
wait_for_sql($node, 'SELECT running FROM webhook_events.status()', 't', 'prepared');

$node->stop;
my $log = slurp_file($node->logfile);
# To be stopped along with the server is no failure.
unlike($log, qr/(ERROR|FATAL):  (?!permission denied to copy|terminating (?:background worker|connection due to administrator))/,
	'DROP EXTENSION goes through in the middle of work, and no worker fails');
done_testing();
