# 066_statistics.pl
#	  Statistics are added up in steps, so that nobody waits for all of it: not the
#	  dispatches that come meanwhile, and not who stops the server.

use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use WebhookEvents::Node;
use WebhookEvents::Receiver;

# Webhooks of a step, rows of the log that hold so many, and how many webhooks there are.
my ($step, $rows, $webhooks) = (256, 2000, 2048);

my $receiver = WebhookEvents::Receiver->new;
my $node = new_node('main', conf => "autovacuum = off\n");

create_platform($node);

sub query
{
	my ($sql) = @_;

	return $node->safe_psql('postgres', $sql);
}

# What webhooks have got, added up or not.
my $counted = 'SELECT (SELECT sum(total_dispatches) FROM webhook_events_internal.webhook_stats)'
  . ' + (SELECT coalesce(sum(d), 0) FROM webhook_events_internal.webhook_stats_log, unnest(dispatches) AS d)';
my $logged = 'SELECT count(*) FROM webhook_events_internal.webhook_stats_log';

wait_for_sql($node, 'SELECT running FROM webhook_events.status()', 't');
query(<<"SQL");
SET session_replication_role = replica;
INSERT INTO webhook_events_internal.webhooks (id, event_types, request_url, actor_id)
	SELECT 'hook' || n, '{ACTOR.RUN.FAILED}'::webhook_events.event_type[], 'http://127.0.0.1/', 'nobody' FROM generate_series(0, $webhooks - 1) AS n;
INSERT INTO webhook_events_internal.webhook_stats_log (id, webhook_ids, dispatches, last_dispatch_ids, last_statuses, last_finished_at)
	SELECT to_char(r, 'FM00000'), array_agg('hook' || (r * $step + n) % $webhooks), array_agg(1), array_agg('d'::text),
		array_agg('SUCCEEDED'::webhook_events.dispatch_status), array_agg(now())
	FROM generate_series(1, $rows) AS r, generate_series(1, $step) AS n GROUP BY r;
SQL

# It adds up what it can in its last moments.
$node->stop('fast');
$node->start;
cmp_ok(query($logged), '>', 0, 'who stops the server does not wait until all is added up');

# The rest goes on as soon as there is something new to count.
create_webhook($node, $receiver->url('/ok'), 'ACTOR.RUN.CREATED', actor_id => "'a'");
insert_runs($node, 1, 'a');
$receiver->wait_for_requests(1);
wait_for_sql($node, "SELECT count(*) FROM webhook_events_internal.webhook_stats WHERE webhook_id LIKE 'hook%'", $webhooks);
is(query("SELECT count(*) FROM (SELECT count(*) AS n FROM webhook_events_internal.webhook_stats GROUP BY xmin) AS t WHERE n > $step"),
	0, 'no transaction adds up more than a step');
is(query($counted), $rows * $step + 1, 'nothing is lost or counted twice');
$node->stop('fast');
$node->start;
is(query($counted), $rows * $step + 1, 'not by another stop either');
is(query('SELECT last_error FROM webhook_events.status()'), '', 'the worker never failed');
$node->stop;
done_testing();
