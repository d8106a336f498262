# 023_waiting.pl
#	  What waits costs what there is to read of it; hosts that answer nothing rest.

use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use WebhookEvents::Node;
use WebhookEvents::Receiver;

my $rows = 3000;
my $receiver = WebhookEvents::Receiver->new;
my $other = WebhookEvents::Receiver->new;    # another port is another host
my $node = new_node('waiting', conf => <<'CONF');
webhook_events.retry_delay = '1h'
autovacuum = off
CONF

create_platform($node);

sub query
{
	my ($sql) = @_;

	return $node->safe_psql('postgres', $sql);
}

# Entries of the indexes on dispatches that were read, by status() as well, once the worker has told of
# at least so many rows that it wrote there.
sub entries_read
{
	my ($column, $written) = @_;

	wait_for_sql($node, "SELECT sum($column) >= $written FROM pg_stat_user_tables WHERE relname LIKE 'dispatches\\_%'", 't');
	return query(q{SELECT sum(idx_tup_read) FROM pg_stat_user_indexes WHERE relname LIKE 'dispatches\_%'});
}

# Plans are made while the tables are empty.  From here on status(), which counts
# what waits, is not asked, for its reads would be counted.
my $held = create_webhook($node, $receiver->url('/hold/back'), 'ACTOR.RUN.CREATED', actor_id => "'held'");
create_webhook($node, $other->url('/ok'), 'ACTOR.RUN.CREATED', actor_id => "'ok'");
insert_runs($node, 1, 'held');
wait_for_sql($node, 'SELECT dispatches_active FROM webhook_events.status()', 1);
insert_runs($node, $rows - 1, 'held');
my $before = entries_read('n_tup_ins', $rows);
insert_runs($node, 1, 'ok');
wait_for_sql($node, "SELECT delivered FROM webhook_events_internal.worker_report()", 1);
my $delivered = query("SELECT id FROM webhook_events.dispatches WHERE status = 'SUCCEEDED'");

# A command makes the worker look at the webhook for which they wait, not at them.
query("SELECT webhook_events.redeliver('$delivered')");
wait_for_sql($node, "SELECT delivered FROM webhook_events_internal.worker_report()", 2);
my $after = entries_read('n_tup_ins', $rows + 2);
cmp_ok($after - $before, '<', $rows / 10, 'a sweep does not read all that waits');

# A worker that starts anew finds all of them; sending them costs a few entries each.
query('SELECT pg_terminate_backend(worker_pid) FROM webhook_events.status()');
wait_for_sql($node, q{SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'webhook_events worker'}, 1);
$before = entries_read('n_tup_ins', $rows + 2);
$receiver->release('back');
wait_for_sql($node, 'SELECT delivered FROM webhook_events_internal.worker_report()', $rows + 2);
is(query("SELECT count(*) FROM webhook_events.dispatches WHERE status = 'SUCCEEDED'"), $rows + 2, 'all are delivered');
$after = entries_read('n_tup_upd', $rows);
cmp_ok($after - $before, '<', 30 * $rows, 'and each is found without a look at the others');

# Rows that are not where they were seen, when what became of them is written.
my %row;
foreach my $fate (qw(changed ended moved))
{
	my $webhook = create_webhook($node, $receiver->url("/hold/$fate"), 'ACTOR.RUN.CREATED', actor_id => "'$fate'");

	$row{$fate} = "FROM webhook_events_internal.dispatches WHERE webhook_id = '$webhook'";
	insert_runs($node, 3, $fate);
	wait_for_sql($node, "SELECT count(*) $row{$fate} AND status = 'ACTIVE'", 3);
}
my $places = "SELECT string_agg(ctid::text, ' ' ORDER BY id) $row{moved}" =~ s{webhook_events\.}{webhook_events_internal.}r;
my $before_moving = query($places);
# What the change leaves dead makes room in front of the others, also on a day that has no other rows.
query("UPDATE webhook_events_internal.dispatches SET user_id = 'else' WHERE id IN (SELECT id $row{changed})");
query('VACUUM FULL ' . query("SELECT DISTINCT tableoid::regclass $row{moved}"));
isnt(query($places), $before_moving, 'rows can move while their requests are under way');
# By somebody who knows of the call; otherwise it would count.
query("UPDATE webhook_events_internal.dispatches SET status = 'FAILED', finished_at = now(), next_attempt_at = NULL, attempts = 1,"
	  . " error_message = 'by hand' WHERE id IN (SELECT id $row{ended})");
$receiver->release($_) foreach keys %row;
foreach my $fate (qw(moved changed))
{
	wait_for_sql($node, "SELECT count(*) $row{$fate} AND status = 'SUCCEEDED' AND attempts = 1", 3);
	pass("what became of rows that have $fate is written all the same");
}
is(query("SELECT string_agg(user_id, ' ') $row{changed}"), 'else else else', 'along with the change');
wait_for_sql($node, "SELECT count(*) FROM webhook_events.calls WHERE dispatch_id IN (SELECT id $row{ended})", 3);
is(query("SELECT string_agg(DISTINCT status || ' ' || error_message, ',') $row{ended}"), 'FAILED by hand',
	'and what somebody has ended stays so');

# Nobody answers.
my $refusing = WebhookEvents::Receiver->new;
my $refused = create_webhook($node, $refusing->url('/ok'), 'ACTOR.RUN.CREATED', actor_id => "'refused'");
my $calls = "FROM webhook_events.calls AS c JOIN webhook_events.dispatches AS d ON d.id = c.dispatch_id WHERE d.webhook_id = '$refused'";
$refusing->stop;
insert_runs($node, 300, 'refused');
wait_for_sql($node, qq{SELECT count(*) FILTER (WHERE gap >= interval '90 ms')
	FROM (SELECT c.started_at - lag(c.started_at) OVER (ORDER BY c.started_at) AS gap $calls
		ORDER BY c.started_at DESC LIMIT 3) AS g}, 3);
cmp_ok(query("SELECT count(*) $calls"), '<', 50, 'a host that refuses connections is called one by one, with pauses');
insert_runs($node, 1, 'ok');
wait_for_sql($node, "SELECT count(*) FROM webhook_events.dispatches WHERE status = 'SUCCEEDED'", $rows + 9);
pass('while others are served');
$refusing->start;
wait_for_sql($node, "SELECT count(*) FROM webhook_events.dispatches WHERE status = 'ACTIVE' AND attempts = 0", 0);
is(query("SELECT count(*) > 200 FROM webhook_events.dispatches WHERE webhook_id = '$refused' AND status = 'SUCCEEDED'"),
	't', 'what waited is sent when it is back');

$node->stop;
$receiver->stop;
$other->stop;
$refusing->stop;
done_testing();
