# 036_upgrade.pl
#	  pg_upgrade carries the log and its cursor: the new server goes on where the
#	  old one stopped.

use strict;
use warnings;
use Cwd qw(getcwd);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use WebhookEvents::Node;
use WebhookEvents::Receiver;

my $receiver = WebhookEvents::Receiver->new;
my $old = new_node('old');

create_platform($old);
create_webhook($old, $receiver->url('/ok'), 'ACTOR.RUN.CREATED');
$old->safe_psql('postgres', "INSERT INTO actor_runs (id) SELECT i FROM generate_series(1, 20) AS i");
$receiver->wait_for_requests(20);
wait_for_sql($old, "SELECT count(*) FROM webhook_events.dispatches WHERE status = 'SUCCEEDED'", 20);
# The new server knows the row by which the old one has claimed the outbox, whatever that went through.
$old->safe_psql('postgres', 'BEGIN; SAVEPOINT s; DELETE FROM webhook_events_internal.origins;'
	  . ' SELECT webhook_events_internal.claim_outbox(); COMMIT');
$old->safe_psql('postgres', "VACUUM (FULL, FREEZE) webhook_events_internal.origins");
$old->safe_psql('postgres', "SELECT webhook_events.pause('upgrade')");
$old->safe_psql('postgres', "INSERT INTO actor_runs (id) VALUES ('before')");
$old->stop;

my $new = new_node('new', start => 0);
my $directory = getcwd();
my ($bin) = grep { -x "$_/postgres" } split /:/, $ENV{PATH};

chdir $new->basedir or die $!;
command_ok(
	[
		'pg_upgrade', '-b', $bin, '-B', $bin, '-d', $old->data_dir,
		'-D', $new->data_dir, '-p', $old->port, '-P', $new->port, '-s', $new->host
	],
	'pg_upgrade goes through');
chdir $directory or die $!;

$new->start;
wait_for_sql($new, "SELECT running AND reason LIKE 'paused%' AND events_waiting = 1"
	  . ' FROM webhook_events.status()', 't');
$new->safe_psql('postgres', 'SELECT webhook_events.resume()');
$new->safe_psql('postgres', "INSERT INTO actor_runs (id) VALUES ('after')");
wait_for_sql($new, "SELECT count(*) FROM webhook_events.dispatches WHERE status = 'SUCCEEDED'", 22);
is(scalar $receiver->requests, 22, 'what was delivered is not sent again, and the rest is');

$new->stop;
done_testing();
