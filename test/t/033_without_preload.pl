# 033_without_preload.pl
#	  Without shared_preload_libraries events are recorded; delivery starts when
#	  the server is restarted with it.  Without enough processes status() says so.

use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use WebhookEvents::Node;
use WebhookEvents::Receiver;

my $receiver = WebhookEvents::Receiver->new;
my $node = PostgreSQL::Test::Cluster->new('main');

$node->init;
$node->start;
my ($status, $out, $err) = $node->psql('postgres', 'CREATE EXTENSION webhook_events');
is($status, 0, 'CREATE EXTENSION works without shared_preload_libraries');
like($err, qr/WARNING:  webhook_events must be loaded at server start.*HINT:  Add webhook_events to shared_preload_libraries/s,
	'with a warning and a hint');
$node->safe_psql('postgres', "CREATE TABLE early_runs (id text, actor_id text, status text)");
$node->safe_psql('postgres', "SELECT webhook_events.attach('early_runs')");
$node->append_conf('postgresql.conf', "webhook_events.allowed_networks = '127.0.0.0/8'");
$node->reload;
create_webhook($node, $receiver->url('/ok'), 'ACTOR.RUN.CREATED');
$node->safe_psql('postgres', "INSERT INTO early_runs VALUES ('1', 'a', 'READY')");
is($node->safe_psql('postgres', 'SELECT running, events_waiting, reason FROM webhook_events.status()'),
	'f|1|webhook_events is not in shared_preload_libraries; add it and restart the server',
	'events are recorded, and status() says why they wait');

$node->append_conf('postgresql.conf', "shared_preload_libraries = 'webhook_events'");
$node->restart;
$receiver->wait_for_requests(1);
wait_for_sql($node, 'SELECT running AND events_waiting = 0 FROM webhook_events.status()', 't');
pass('after a restart with the library they are delivered');

# The logical replication launcher and ours take both places.
$node->append_conf('postgresql.conf', 'max_worker_processes = 2');
$node->restart;
wait_for_sql($node, "SELECT reason LIKE '%no free background worker slot%'"
	  . ' FROM webhook_events.status()', 't');
pass('a lack of processes is named');

$node->stop;
done_testing();
