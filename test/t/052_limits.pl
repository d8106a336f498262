# 052_limits.pl
#	  Webhooks that are called too often, and webhooks that are called in vain.

use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use WebhookEvents::Node;
use WebhookEvents::Receiver;

my $receiver = WebhookEvents::Receiver->new;
my $node = new_node('limits', conf => "webhook_events.retry_delay = '1h'\n");

create_platform($node);

sub query
{
	my ($sql) = @_;

	return $node->safe_psql('postgres', $sql);
}

# The most calls of a webhook within one second, and how many there were.
sub rate_of
{
	my ($webhook) = @_;

	return split /\|/, query("WITH c AS (SELECT c.started_at FROM webhook_events.calls AS c"
		  . " JOIN webhook_events.dispatches AS d ON d.id = c.dispatch_id WHERE d.webhook_id = '$webhook')"
		  . " SELECT max(n), count(*) FROM (SELECT (SELECT count(*) FROM c AS o WHERE o.started_at >= c.started_at"
		  . " AND o.started_at < c.started_at + interval '1 second') AS n FROM c) AS t");
}

# Rates.  A bucket holds one second's worth, so that about twice the rate is the
# most that one second can see, and three times when the worker starts anew.
my $limited = create_webhook($node, $receiver->url('/ok?limited'), 'ACTOR.RUN.CREATED', actor_id => "'limited'");
my $free = create_webhook($node, $receiver->url('/ok?free'), 'ACTOR.RUN.CREATED', actor_id => "'free'");
is(query("SELECT max_rate FROM webhook_events.set_max_rate('$limited', 0.5)"), 0.5, 'a rate');
insert_runs($node, 30, 'limited');
insert_runs($node, 200, 'free');
$receiver->wait_for_requests(200, path => '/ok?free');
cmp_ok(scalar(grep { $_->{target} eq '/ok?limited' } $receiver->requests), '<', 30, 'another webhook of the host does not wait');
query("SELECT webhook_events.set_max_rate('$limited', 10)");
wait_for_end($node);
my ($most, $count) = rate_of($limited);
is($count, 30, 'all are called');
cmp_ok($most, '<=', 22, 'not faster than the rate');
is(query("SELECT webhook_events.replay('$limited', now() - interval '1 hour')"), 30, 'a replay');
$node->restart;
wait_for_end($node);
($most, $count) = rate_of($limited);
is($count, 60, 'is sent as well, over a restart');
cmp_ok($most, '<=', 32, 'within the rate');
query("SELECT webhook_events.set_max_rate('$limited', 0.001)");
insert_runs($node, 5, 'limited');
# One of them if there was a token left.
wait_for_sql($node, 'SELECT events_waiting = 0 AND dispatches_active >= 4 FROM webhook_events.status()', 't');
query("SELECT webhook_events.set_max_rate('$limited', NULL)");
wait_for_end($node);
pass('a limit that is lifted is felt at once');
sql_fails($node, "SELECT webhook_events.set_max_rate('$limited', $_)", qr/22023: max_rate \S+ of a webhook is not between/, "refused: $_")
  foreach '0', '-1', "'NaN'", "'Infinity'", '1e-9';
sql_fails($node, "SELECT webhook_events.set_max_rate('nope', 1)", qr/42704: webhook "nope" does not exist/, 'unknown webhooks are errors');

# Failures.
my $failing = create_webhook($node, $receiver->url('/status/500'), 'ACTOR.RUN.CREATED', actor_id => "'failing'");
my $days_ago = "now() - interval '6 days'";

# Has all that the worker knows written down, and starts another one.
sub restart_worker
{
	my $pid = query('SELECT worker_pid FROM webhook_events.status()');

	query("SELECT pg_terminate_backend($pid)");
	wait_for_sql($node, "SELECT running AND worker_pid <> $pid FROM webhook_events.status()", 't');
	return;
}

# Calls a webhook and waits for its end or its retry.
sub call
{
	my ($actor) = @_;
	my $before = query("SELECT count(*) FROM webhook_events.calls");

	insert_runs($node, 1, $actor);
	wait_for_sql($node, "SELECT count(*) > $before FROM webhook_events.calls", 't');
	return;
}

call('failing');
restart_worker();
is(query("SELECT failing_since > now() - interval '1 minute' FROM webhook_events_internal.webhook_stats WHERE webhook_id = '$failing'"),
	't', 'a webhook is known to fail');
query("UPDATE webhook_events_internal.webhook_stats SET failing_since = $days_ago WHERE webhook_id = '$failing'");
restart_worker();
call('failing');
restart_worker();
is(query("SELECT is_enabled FROM webhook_events.webhooks WHERE id = '$failing'"), 't', 'if nothing succeeds it is us');
is(query("SELECT failing_since < now() - interval '5 days' FROM webhook_events_internal.webhook_stats WHERE webhook_id = '$failing'"),
	't', 'it is still known to fail');
call('free');
restart_worker();
like(query("SELECT is_enabled, disabled_reason FROM webhook_events.webhooks WHERE id = '$failing'"),
	qr/^f\|All calls have failed since \d{4}-.*; 2 dispatches were waiting\.$/, 'if others succeed it is disabled, and says why');
wait_for_end($node);
query("SELECT webhook_events.enable_webhook('$failing')");
call('free');
call('failing');
restart_worker();
is(query("SELECT is_enabled, disabled_reason FROM webhook_events.webhooks WHERE id = '$failing'"), 't|', 'enabled again, it has its time again');
query(sprintf q{SELECT webhook_events.update_webhook('%s', '{"requestUrl": "%s"}')}, $failing, $receiver->url('/ok?healed'));
call('failing');
restart_worker();
is(query("SELECT failing_since FROM webhook_events_internal.webhook_stats WHERE webhook_id = '$failing'"), '', 'a success ends it');
is(query('SELECT last_error FROM webhook_events.status()'), '', 'the worker never failed');
$node->stop;
done_testing();
