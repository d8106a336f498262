# 059_cancelled.pl
#	  Somebody cancels the worker, just when it says something for the log: nothing that it
#	  was about to note is lost, so that nothing is called again, and the worker goes on.

use strict;
use warnings;
use PostgreSQL::Test::Utils;
use Test::More;
use WebhookEvents::Node;
use WebhookEvents::Receiver;

my $receiver = WebhookEvents::Receiver->new;
my $node = new_node('cancelled', conf => <<'CONF');
shared_preload_libraries = 'webhook_events,plans'
plans.cancel_lines = on
webhook_events.retry_delay = '20ms'
webhook_events.max_retries = 50
webhook_events.max_in_flight_per_host = 4
CONF

sub query { return $node->safe_psql('postgres', $_[0]); }

sub lines
{
	my ($pattern) = @_;

	return scalar(() = slurp_file($node->logfile) =~ /LOG:  .*$pattern/g);
}

create_platform($node);

# A host rests when its calls get no answer, and answers again, which are two lines: both are
# said while a call's answer is taken.
my $webhook = create_webhook($node, $receiver->url('/ok'), 'ACTOR.RUN.CREATED');
my $worker = query('SELECT worker_pid FROM webhook_events.status()');
$receiver->stop;
query("INSERT INTO actor_runs (id, actor_id) SELECT 'run-' || i, 'a' FROM generate_series(1, 40) AS i");
wait_until { lines('does not answer webhooks') > 0 } 'the host rests';
$receiver->start;
wait_until { lines('answers webhooks') > 0 } 'and answers again';
wait_for_end($node);
is(query('SELECT worker_pid FROM webhook_events.status()'), $worker, 'the worker went on');
is(query('SELECT count(*) FROM webhook_events.in_flight'), 0, 'and has nothing left that never ends');
is(query("SELECT count(*) FROM webhook_events.dispatches WHERE status = 'SUCCEEDED'"), 40, 'all was delivered');
is(query('SELECT count(*) FROM webhook_events.dispatches AS d WHERE attempts <> (SELECT count(*) FROM webhook_events.calls AS c WHERE c.dispatch_id = d.id)'),
	0, 'each call was recorded');
is(scalar($receiver->requests), 40, 'and nothing was delivered twice');

# One that comes while it works on a transaction ends that, which is tried again.
query("SELECT pg_cancel_backend($worker)") foreach 1 .. 20;
query("INSERT INTO actor_runs (id, actor_id) VALUES ('last', 'a')");
wait_for_end($node);
is(query("SELECT count(*) FROM webhook_events.dispatches WHERE status = 'SUCCEEDED'"), 41, 'it is there after it was cancelled often');

$node->stop;
done_testing();
