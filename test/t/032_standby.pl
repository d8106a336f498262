# 032_standby.pl
#	  A standby keeps silent until it is promoted, and then goes on where the
#	  primary stopped.

use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use WebhookEvents::Node;
use WebhookEvents::Receiver;

my $receiver = WebhookEvents::Receiver->new;
my $slow_receiver = WebhookEvents::Receiver->new;
my $primary = new_node('primary', init => { allows_streaming => 1 },
	conf => "webhook_events.retry_delay = '20ms'");

create_platform($primary);
create_webhook($primary, $receiver->url('/ok'), 'ACTOR.RUN.CREATED');
create_webhook($primary, $slow_receiver->url('/hold/primary'), 'ACTOR.RUN.CREATED');

my $standby = PostgreSQL::Test::Cluster->new('standby');
$primary->backup('base');
$standby->init_from_backup($primary, 'base', has_streaming => 1);
$standby->start;

$primary->safe_psql('postgres',
	"INSERT INTO actor_runs (id) SELECT i FROM generate_series(1, 100) AS i");
wait_for_sql($primary, "SELECT count(*) FROM webhook_events.dispatches WHERE status = 'SUCCEEDED'",
	100);
wait_for_sql($primary, 'SELECT dispatches_active FROM webhook_events.status()', 100);
$primary->wait_for_catchup($standby);
is($standby->safe_psql('postgres', 'SELECT running, reason FROM webhook_events.status()'),
	'f|the server is in recovery; delivery starts when it is promoted',
	'a standby has no worker, and says why');
is($standby->safe_psql('postgres', 'SELECT dispatches_active FROM webhook_events.status()'), 100,
	'what waits is there');

$primary->stop('immediate');
$slow_receiver->release('primary');
$standby->promote;
$standby->safe_psql('postgres', "INSERT INTO actor_runs (id) VALUES ('new')");
wait_for_sql($standby, 'SELECT running AND events_waiting = 0 AND dispatches_active = 0'
	  . ' FROM webhook_events.status()', 't');
is($standby->safe_psql('postgres', 'SELECT count(*), count(DISTINCT (event_id, webhook_id)),'
		  . " count(*) FILTER (WHERE status = 'SUCCEEDED') FROM webhook_events.dispatches"),
	'202|202|202', 'the promoted standby delivers all that was left');

my %seen;
$seen{ $_->{headers}{'x-apify-webhook-dispatch-id'} }++ foreach $receiver->requests, $slow_receiver->requests;
is(scalar keys %seen, 202, 'the receivers saw each dispatch');

$standby->stop;
done_testing();
