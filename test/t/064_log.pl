# 064_log.pl
#	  The log: one line, with the database's name, for each thing that an
#	  operator can act on or will look for afterwards, and no line more.

use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);
use WebhookEvents::Node;
use WebhookEvents::Receiver;

my $receiver = WebhookEvents::Receiver->new;
my $node = new_node('log', start => 0, conf => <<'CONF');
log_line_prefix = '%m [%p] %b '
webhook_events.retry_delay = '1h'
webhook_events.disable_after = '1h'
restart_after_crash = on
CONF

sub query
{
	my ($sql, $database) = @_;

	return $node->safe_psql($database // 'postgres', $sql);
}

# How many lines say this; and what is waited for to be said so often.
sub lines
{
	my ($pattern) = @_;

	return scalar(() = slurp_file($node->logfile) =~ /^.*LOG:  $pattern$|^.*WARNING:  $pattern$/mg);
}

sub wait_for_lines
{
	my ($pattern, $count) = @_;

	wait_until { lines($pattern) >= $count } "the log says \"$pattern\" $count times";
	is(lines($pattern), $count, "said: $pattern");
	return;
}

sub started
{
	my ($database) = @_;

	return qq{webhook_events worker of database "$database" has started};
}

sub ended
{
	my ($database, $why) = @_;

	return qq{webhook_events worker of database "$database" has ended: $why};
}

sub wait_for_worker
{
	my ($database, $without) = @_;

	wait_for_sql($node, 'SELECT running AND worker_pid IS NOT NULL AND worker_pid <> ' . ($without // 0)
		  . ' FROM webhook_events.status()', 't', $database);
	return query('SELECT worker_pid FROM webhook_events.status()', $database);
}

my $begin = time;
$node->start;
create_platform($node);
query('CREATE DATABASE other');
create_platform($node, 'other');
my $pid = wait_for_worker('postgres');
wait_for_worker('other');
wait_for_lines(started('postgres'), 1);
wait_for_lines(started('other'), 1);

# Ends of workers, each with its reason.
query("SELECT pg_terminate_backend($pid)");
$pid = wait_for_worker('postgres', $pid);
wait_for_lines(ended('postgres', 'it was asked to'), 1);
wait_for_lines(started('postgres'), 2);
my $moved = 'its database is dropped, copied, renamed or moved';
query('CREATE DATABASE copy TEMPLATE other');
wait_for_worker('other');
wait_for_lines(ended('other', $moved), 1);
wait_for_lines('events in database "copy" were recorded elsewhere, so nothing is delivered', 1);
query('DROP DATABASE copy');
wait_for_lines(ended('copy', $moved), 1);
query('DROP EXTENSION webhook_events CASCADE', 'other');
wait_for_lines(ended('other', 'the extension is gone'), 1);
query("CREATE EXTENSION webhook_events; SELECT webhook_events.attach('actor_runs')", 'other');
wait_for_worker('other');
$node->append_conf('postgresql.conf', "webhook_events.databases = 'postgres, misspelt'");
$node->reload;
wait_for_lines(ended('other', 'webhook_events.databases does not name its database, or that takes no connections'), 1);
is(query('SELECT reason FROM webhook_events.status()', 'other'), 'the database is not in webhook_events.databases', 'status() says the same');
my $misspelt = 'there is no database "misspelt", which webhook_events.databases names';
wait_for_lines($misspelt, 1);
$node->append_conf('postgresql.conf', "webhook_events.databases = '*'");
$node->reload;
wait_for_worker('other');

# One that can't even start is told once for each thing that is in its way.
query('ALTER TABLE webhook_events_internal.pauses RENAME TO hidden; SELECT pg_terminate_backend(worker_pid) FROM webhook_events.status()', 'other');
my $hidden = 'webhook_events worker of database "other" could not start: an error: relation "webhook_events_internal.pauses" does not exist';
wait_for_sql($node, q{SELECT reason ~ '^the worker failed and starts again at .*: relation "webhook_events_internal.pauses" does not exist' FROM webhook_events.status()}, 't', 'other');
wait_until { (() = slurp_file($node->logfile) =~ /ERROR:  relation "webhook_events_internal.pauses" does not exist/g) >= 3 } 'it was tried again';
is(lines($hidden), 1, 'what keeps a worker from starting is said once');
query('ALTER TABLE webhook_events_internal.hidden RENAME TO pauses', 'other');
wait_for_worker('other');

# A pause and a setting that stop delivery, and their ends.
my $goes_on = 'webhooks of database "postgres" are delivered again';
my $starts_before = lines(started('postgres'));
query('SELECT webhook_events.pause()');
wait_for_lines('webhooks of database "postgres" are not delivered: they are paused', 1);
query('SELECT webhook_events.resume()');
wait_for_lines($goes_on, 1);
$node->append_conf('postgresql.conf', 'webhook_events.delivery = off');
$node->reload;
wait_for_lines('webhooks of database "postgres" are not delivered: webhook_events.delivery is off', 1);
$node->append_conf('postgresql.conf', 'webhook_events.delivery = on');
$node->reload;
wait_for_lines($goes_on, 2);
is(lines(started('postgres')), $starts_before, 'by one worker');

# A host begins to rest, answers, and begins anew: within a minute the log says it once.
my $dead = PostgreSQL::Test::Cluster::get_free_port();
my $silent = create_webhook($node, "http://127.0.0.1:$dead/ok", 'ACTOR.RUN.CREATED', actor_id => "'silent'");
my ($rests, $answers) = (qq{host 127.0.0.1:$dead does not answer webhooks of database "postgres" and rests},
	qq{host 127.0.0.1:$dead answers webhooks of database "postgres" again});
insert_runs($node, 20, 'silent');
wait_for_sql($node, 'SELECT resting_hosts FROM webhook_events.status()', 1);
wait_for_lines($rests, 1);
my $awake = WebhookEvents::Receiver->new(listen => "127.0.0.1:$dead");
insert_runs($node, 1, 'silent');
wait_for_sql($node, 'SELECT resting_hosts FROM webhook_events.status()', 0);
wait_for_lines($answers, 1);

# And one that accepts and never answers.
$node->append_conf('postgresql.conf', "webhook_events.request_timeout = '50ms'");
$node->reload;
my $hanging = WebhookEvents::Receiver->new;
my $hung = create_webhook($node, $hanging->url('/hang'), 'ACTOR.RUN.CREATED', actor_id => "'hung'");
insert_runs($node, 20, 'hung');
my ($host) = $hanging->url('') =~ m{//([^/]+)};
wait_for_lines(qq{host $host does not answer webhooks of database "postgres" and rests}, 1);
query("SELECT webhook_events.delete_webhook('$hung')");
$node->append_conf('postgresql.conf', "webhook_events.request_timeout = '1min'");
$node->reload;

# Webhooks that we disable, for both reasons, and what was waiting for them.
sub disabled
{
	my ($webhook) = @_;

	return qq{webhook "$webhook" of database "postgres" was disabled};
}

sub restart_worker
{
	my $old = wait_for_worker('postgres');

	query("SELECT pg_terminate_backend($old)");
	return wait_for_worker('postgres', $old);
}

my $gone = create_webhook($node, $receiver->url('/gone'), 'ACTOR.RUN.CREATED', actor_id => "'gone'");
insert_runs($node, 1, 'gone');
wait_for_lines(disabled($gone), 1);
like(slurp_file($node->logfile), qr/DETAIL:  The endpoint answered 410 Gone\. \d+ dispatches were waiting\.$/m, 'because it is gone, and what was waiting');
my $failing = create_webhook($node, $receiver->url('/status/503'), 'ACTOR.RUN.CREATED', actor_id => "'failing'");
create_webhook($node, $receiver->url('/ok'), 'ACTOR.RUN.CREATED', actor_id => "'good'");
insert_runs($node, 3, 'failing');
wait_for_sql($node, "SELECT count(*) FROM webhook_events.dispatches WHERE webhook_id = '$failing' AND attempts = 1", 3);
restart_worker();
query("UPDATE webhook_events_internal.webhook_stats SET failing_since = now() - interval '9 days' WHERE webhook_id = '$failing'");
restart_worker();
insert_runs($node, 1, 'good');
wait_for_sql($node, "SELECT count(*) FROM webhook_events.deliveries WHERE actor_id = 'good' AND state = 'succeeded'", 1);
$pid = restart_worker();
wait_for_lines(disabled($failing), 1);
like(slurp_file($node->logfile), qr/DETAIL:  All calls have failed since \d{4}-.*; 3 dispatches were waiting\.$/m, 'because it keeps failing');

# Files that can't be used are told when they are news, with each reload and worker; the same
# ones are not.
sub files
{
	my ($problems) = @_;

	return qq{calls over TLS from database "postgres" fail, since files can't be used: $problems};
}

my $directory = PostgreSQL::Test::Utils::tempdir;
append_to_file("$directory/garbage.pem", "no certificate\n");
$node->append_conf('postgresql.conf', "webhook_events.ca_file = '/nonexistent/ca'");
$node->reload;
wait_for_lines(files('webhook_events.ca_file: No such file or directory'), 1);
$node->append_conf('postgresql.conf', "webhook_events.client_key_file = '/nonexistent/key'");
$node->reload;
my $both = files('webhook_events.ca_file: No such file or directory; webhook_events.client_key_file: No such file or directory');
wait_for_lines($both, 1);
$node->append_conf('postgresql.conf', "webhook_events.retry_jitter = 0.1");
$node->reload;
wait_until { (() = slurp_file($node->logfile) =~ /parameter "webhook_events.retry_jitter" changed/g) == 1 } 'settings are read again';
insert_runs($node, 1, 'good');
wait_for_sql($node, "SELECT count(*) FROM webhook_events.deliveries WHERE actor_id = 'good' AND state = 'succeeded'", 2);
is(lines($both), 1, 'what was said before is not said again');
$node->append_conf('postgresql.conf', "webhook_events.ca_file = '$directory/garbage.pem'\nwebhook_events.client_key_file = ''");
$node->reload;
wait_for_lines(files('webhook_events.ca_file: .+'), 3);
is(query('SELECT unreadable_files::text FROM webhook_events.status()'), '{"webhook_events.ca_file: no certificate in it"}', 'also a file that holds none');
$node->append_conf('postgresql.conf', "webhook_events.ca_file = ''");
$node->reload;
wait_for_sql($node, 'SELECT unreadable_files IS NULL FROM webhook_events.status()', 't');

# Maintenance that could not, and can again.
sub look_after_days
{
	my ($outcome) = @_;

	query('SELECT webhook_events_internal.look_after_days()');
	wait_for_sql($node, "SELECT maintenance_error IS $outcome FROM webhook_events.status()", 't');
	return;
}

my $last_day = query("SELECT 'webhook_events_internal.outbox_' || to_char((now() AT TIME ZONE 'UTC')::date + 3, 'YYYYMMDD')");
query("DROP TABLE $last_day; BEGIN; SELECT count(*) FROM webhook_events.events; PREPARE TRANSACTION 'reads'");
look_after_days('NOT NULL');
my $cannot = 'webhook_events will try again to look after the tables of days of database "postgres", after an error while making a table of a day of outbox: .*';
wait_for_lines($cannot, 1);
query("COMMIT PREPARED 'reads'");
look_after_days('NULL');
my $again = 'webhook_events looks after the tables of days of database "postgres" again';
wait_for_lines($again, 1);

# A day that others depend on is emptied and kept; that is said once, and seen.
my $old_day = query("SELECT 'outbox_' || to_char((now() AT TIME ZONE 'UTC')::date - 400, 'YYYYMMDD')");
query("SELECT webhook_events_internal.create_day('outbox', (now() AT TIME ZONE 'UTC')::date - 400); CREATE VIEW keeps AS SELECT id FROM webhook_events_internal.$old_day;"
	  . " INSERT INTO webhook_events_internal.$old_day (id, created_at, xid, event_type) VALUES (webhook_events.id_lower_bound(((now() AT TIME ZONE 'UTC')::date - 400)::timestamp AT TIME ZONE 'UTC') || '00000000', now(), '3', 'ACTOR.RUN.CREATED')");
look_after_days('NOT NULL');
my $kept = qq{webhook_events will try again to look after the tables of days of database "postgres", after an error while dropping a table of a day of outbox: }
  . "table webhook_events_internal.$old_day is kept, and empty, because others depend on it: view public.keeps depends on table webhook_events_internal.$old_day";
wait_for_lines($kept, 1);
is(query('SELECT maintenance_error FROM webhook_events.status()') =~ /is kept, and empty.*view public.keeps/, 1, 'a day that can not be dropped is seen');
is(query('SELECT count(*) FROM keeps'), 0, 'and empty');
my $looked_at = query('SELECT maintenance_at FROM webhook_events.status()');
query('SELECT webhook_events_internal.look_after_days()');
wait_for_sql($node, "SELECT maintenance_at > '$looked_at' AND maintenance_error IS NOT NULL FROM webhook_events.status()", 't');
query('DROP VIEW keeps');
look_after_days('NULL');
is(lines($kept), 1, 'which is said once');
is(query("SELECT to_regclass('webhook_events_internal.$old_day')"), '', 'it goes when nothing depends on it');

# A crash takes all workers; each new one says that it starts.
my $starts = lines(started('postgres'));
kill 'KILL', $pid;
wait_until { (try_psql($node, 'postgres', 'SELECT'))[0] == 0 && wait_for_worker('postgres', $pid) } 'the server is back';
wait_for_worker('other');
wait_for_lines(started('postgres'), $starts + 1);
like(slurp_file($node->logfile), qr/background worker "webhook_events worker" \(PID $pid\) was terminated by signal 9.*\n.*DETAIL:  Failed process was running: .* in database "postgres"$/m,
	'and of the old one the log has what it did last, and where');

# All has an end, and what a worker says has its database's name.
$node->stop;
my $log = slurp_file($node->logfile);
foreach my $database (qw(postgres other))
{
	my $ends = () = $log =~ /webhook_events worker of database "$database" has ended: /g;

	is(lines(started($database)), $ends + 1, "each start of the worker of $database has its end, but for the crash");
}
is(lines($_), 1, "not more than once: $_") foreach $hidden, $answers, disabled($gone), disabled($failing), $both, $cannot, $kept, $misspelt;
cmp_ok(lines($rests), '<=', 1 + (time - $begin) / 60, 'a host that rests is said not more than once in a minute');
is(join("\n", grep { !/database "(?:postgres|other|copy|misspelt)"/ } $log =~ /^.*\] webhook_events \w+ (?:LOG|WARNING):.*$/mg), '',
	'every line of our processes names its database');
done_testing();
