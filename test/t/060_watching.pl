# 060_watching.pl
#	  What is seen of deliveries while they are under way and afterwards: the
#	  views, the counters, status().

use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use WebhookEvents::Node;
use WebhookEvents::Receiver;

my $receiver = WebhookEvents::Receiver->new;
my $node = new_node('watching', conf => "webhook_events.retry_delay = '1h'\n");
my $dead = PostgreSQL::Test::Cluster::get_free_port();

create_platform($node);

sub query
{
	my ($sql, $database) = @_;

	return $node->safe_psql($database // 'postgres', $sql);
}

# A call that is under way, one that succeeded, one that waits for a retry, and
# one that nobody answered.
my %webhook = (
	held => create_webhook($node, $receiver->url('/hold/on?key=secret'), 'ACTOR.RUN.CREATED', actor_id => "'held'", user_id => "'ada'"),
	good => create_webhook($node, $receiver->url('/ok'), 'ACTOR.RUN.CREATED', actor_id => "'good'"),
	bad => create_webhook($node, $receiver->url('/status/503'), 'ACTOR.RUN.CREATED', actor_id => "'bad'"),
	dead => create_webhook($node, "http://127.0.0.1:$dead/path", 'ACTOR.RUN.CREATED', actor_id => "'dead'"),
	disabled => create_webhook($node, $receiver->url('/ok'), 'ACTOR.RUN.CREATED', actor_id => "'none'", is_enabled => 'false'));
query(q{INSERT INTO actor_runs (id, actor_id, user_id) VALUES ('held', 'held', 'ada')});
insert_runs($node, 1, $_) foreach qw(good bad dead);
wait_for_sql($node, q{SELECT string_agg(state, ', ' ORDER BY actor_id) FROM webhook_events.deliveries},
	'waiting for a retry, waiting for a retry, succeeded, sending');

is(query("SELECT dispatch_id = (SELECT id FROM webhook_events.dispatches WHERE webhook_id = f.webhook_id), webhook_id,"
	  . " host, attempt, age > '0' AND age < now() - '2000-01-01' FROM webhook_events.in_flight AS f"),
	"t|$webhook{held}|" . (split m{/}, $receiver->url(''))[2] . '|1|t', 'a call that is under way is seen');
is(query('CREATE ROLE writer; GRANT pg_write_all_data TO writer; SET ROLE writer;'
	  . ' SELECT (SELECT count(*) FROM webhook_events_internal.live_flights()), (SELECT count(*) FROM webhook_events_internal.live_hosts())'),
	'0|0', 'but not by who reaches the schema and sees nobody\'s rows');
is(query("SELECT request_url, host, user_id, actor_id, attempts, last_status FROM webhook_events.deliveries WHERE webhook_id = '$webhook{held}'"),
	($receiver->url('') =~ s{/ok$}{}r) . '|' . (split m{/}, $receiver->url(''))[2] . '|ada|held|0|',
	'and its delivery, with nothing of the URL that could be secret');
is(query("SELECT attempts, last_status, last_error, last_duration > '0', next_attempt_at > now(), finished_at FROM webhook_events.deliveries WHERE actor_id = 'bad'"),
	'1|503|HTTP status 503|t|t|', 'a failed one has its last call');
like(query("SELECT last_status, last_error FROM webhook_events.deliveries WHERE webhook_id = '$webhook{dead}'"),
	qr/^\|Failed to connect|^\|.*refused/i, 'one without an answer has its error');
is(query("SELECT state, in_flight, calls, failures, silences FROM webhook_events.hosts WHERE host = '127.0.0.1:$dead'"),
	'slow|0|1|1|1', 'hosts are seen');
is(query("SELECT in_flight, calls, failures, p50_ms > 0, p95_ms >= p50_ms FROM webhook_events.hosts WHERE host <> '127.0.0.1:$dead'"),
	'1|2|1|t|t', 'with what was called there, and how long that took');

# Counters; what is under way is none.
my $counters = 'worker_starts, events_routed, dispatches, succeeded, given_up, calls, retries, status_2xx, status_5xx, errors_connection,'
  . ' (SELECT sum(d) FROM unnest(delay) AS d), (SELECT sum(d) FROM unnest(duration) AS d), duration_sum > 0, cardinality(bounds)'
  . ' FROM webhook_events.stat_delivery';
is(query("SELECT $counters"), '1|4|4|1|0|3|0|1|1|1|4|3|t|18', 'what was done is counted');
is(query('SELECT failed_calls, resting_hosts, dispatches_active, in_flight, delivery_lag_seconds > 0 FROM webhook_events.status()'),
	'2|0|3|1|t', 'status() tells of failed calls, and of the delivery that is longest overdue');

# Health.  Statistics are written when the worker ends.  Meanwhile somebody has touched the row of what is under way.
query("UPDATE webhook_events_internal.dispatches SET created_at = created_at WHERE webhook_id = '$webhook{held}'");
$receiver->release('on');
wait_for_sql($node, "SELECT state FROM webhook_events.deliveries WHERE actor_id = 'held'", 'succeeded');
$node->restart;
wait_for_sql($node, 'SELECT running FROM webhook_events.status()', 't');
is(query("SELECT $counters"), '2|4|4|2|0|4|0|2|1|1|4|4|t|18', 'counters outlive the server');
is(query("SELECT is_enabled, disabled_reason, failing_since IS NOT NULL, last_success_at IS NOT NULL, last_failure_at IS NOT NULL, last_error,"
	  . " calls_1h, failures_1h, calls_24h, failures_24h, waiting, oldest_due_at > now() FROM webhook_events.webhook_health WHERE webhook_id = '$webhook{bad}'"),
	't||t|f|t|HTTP status 503|1|1|1|1|1|t', 'a failing webhook');
is(query("SELECT disabled_reason, failing_since, last_success_at IS NOT NULL, last_error, calls_24h, failures_24h, waiting, p50_ms > 0"
	  . " FROM webhook_events.webhook_health WHERE webhook_id = '$webhook{good}'"), '||t||1|0|0|t', 'one that does well');
is(query("SELECT is_enabled, disabled_reason, calls_24h, waiting FROM webhook_events.webhook_health WHERE webhook_id = '$webhook{disabled}'"),
	'f|disabled by a person|0|0', 'and one that is disabled');
query('BEGIN; SELECT webhook_events.stat_reset(); ROLLBACK');
is(query('SELECT calls, stats_reset FROM webhook_events.stat_delivery'), '4|', 'a reset can be rolled back');
query('SELECT webhook_events.stat_reset()');
is(query('SELECT calls, worker_starts, (SELECT sum(d) FROM unnest(duration) AS d), stats_reset IS NOT NULL FROM webhook_events.stat_delivery'),
	'0|0|0|t', 'or begin all anew');
insert_runs($node, 2, 'good');
wait_for_sql($node, 'SELECT calls FROM webhook_events.stat_delivery', 2);
$node->stop('immediate');
$node->start;
wait_for_sql($node, 'SELECT running FROM webhook_events.status()', 't');
cmp_ok(query('SELECT calls FROM webhook_events.stat_delivery'), '<=', 2, 'a crash takes what was counted since the last report at most');

# The log.
my $log = slurp_file($node->logfile);
like($log, qr/webhook_events worker of database "postgres" has started/, 'the log says that a worker starts');
like($log, qr/webhook_events worker of database "postgres" has ended: it was asked to/, 'and ends, and why');
my ($title) = slurp_file('/proc/' . query('SELECT worker_pid FROM webhook_events.status()') . '/cmdline') =~ /([^\0]+)/
  if -r '/proc/self/cmdline';
like($title // 'webhook_events worker postgres', qr/webhook_events worker postgres/, 'the title of its process names the database');
my $offset = -s $node->logfile;
query(q{SELECT webhook_events.create_webhook('http://127.0.0.1:} . $dead . q{', '{ACTOR.RUN.CREATED}', actor_id => 'silent')});
insert_runs($node, 20, 'silent');
$node->wait_for_log(qr/host 127.0.0.1:$dead does not answer webhooks of database "postgres" and rests/, $offset);
pass('a host that begins to rest is told');
is(query("SELECT state FROM webhook_events.hosts WHERE host = '127.0.0.1:$dead'") =~ /^(?:resting|probed)$/, 1, 'and seen');
create_webhook($node, $receiver->url('/gone'), 'ACTOR.RUN.CREATED', actor_id => "'gone'");
insert_runs($node, 1, 'gone');
$node->wait_for_log(qr/webhook "\w{17}" of database "postgres" was disabled\n.*DETAIL:  The endpoint answered 410 Gone/, $offset);
pass('and a webhook that we disable');
is(scalar(() = slurp_file($node->logfile) =~ /webhook "\w{17}" of database "postgres" was disabled/g), 1, 'once');
is(scalar(() = slurp_file($node->logfile) =~ /webhook_events worker of database "postgres" has started/g), 3, 'each start of a worker is one line');
is(query(qq{SELECT string_agg(webhook_events_internal.mask_url(u), ' ' ORDER BY n) FROM unnest('{https://u:p\@h:1/secret?k#f,https://u\@v\@h,HTTPS://h?k=\@x,no url\@secret,""}'::text[]) WITH ORDINALITY AS u (u, n)}),
	'https://h:1 https://h HTTPS://h  ', 'of a URL nothing is shown that can be secret, and nothing of what is none');

# What deliveries shows of the last call stands in the row of what has ended, as a rule, else it is looked for.
my $different = 'SELECT count(*) FILTER (WHERE (v.last_status, v.last_error, v.last_duration) IS DISTINCT FROM'
  . " (c.response_status, coalesce(CASE d.status WHEN 'FAILED' THEN d.error_message END, c.error_message), c.duration)),"
  . " count(*) FILTER (WHERE d.last_status IS NOT NULL) > 2, count(*) FILTER (WHERE d.status <> 'ACTIVE' AND d.last_status IS NULL) > 0"
  . ' FROM webhook_events.deliveries AS v JOIN webhook_events_internal.dispatches AS d USING (id)'
  . ' LEFT JOIN webhook_events_internal.calls AS c ON c.dispatch_id = d.id AND c.attempt = d.attempts';
create_webhook($node, "http://127.0.0.1:$dead/", 'ACTOR.RUN.CREATED', actor_id => "'once'", do_not_retry => 'true');
insert_runs($node, 1, 'once');
wait_for_sql($node, q{SELECT string_agg(DISTINCT state, ', ') FROM webhook_events.deliveries WHERE actor_id IN ('once', 'gone')}, 'failed');
is(query($different), '0|t|t', 'deliveries tells of the last call what calls do, in whichever row it stands');
query('UPDATE webhook_events_internal.dispatches SET last_status = NULL, last_duration = NULL');
is(query($different), '0|f|t', 'and of what had ended before rows told of it');

# A backlog, as it drains.
my $slow = create_webhook($node, $receiver->url("/ok"), "ACTOR.RUN.CREATED", actor_id => "'rated'");
query("SELECT webhook_events.set_max_rate('$slow', 0.001)");
insert_runs($node, 5, "rated");
wait_for_sql($node, q{SELECT delivery_behind_since < now() FROM webhook_events.status()}, "t");
wait_for_sql($node, q{SELECT what, done >= 0, total - done >= 4, since < now() FROM webhook_events.progress WHERE what = 'calling'}, "calling|t|t|t");
pass("a backlog is seen");
wait_for_sql($node, "SELECT count(*) > 0 FROM webhook_events.deliveries WHERE webhook_id = '$slow' AND state = 'held back by the rate'", 't');
pass('and what holds it back');
query("SELECT webhook_events.delete_webhook('$slow')");

# Lanes that are held by a retry, and an address that has all it may take.
my $lane = create_webhook($node, $receiver->url('/status/503'), 'ACTOR.RUN.CREATED', actor_id => "'lane'", ordering => "'webhook'");
insert_runs($node, 4, 'lane');
wait_for_sql($node, q{SELECT held_webhooks, held_dispatches, held_since < now() FROM webhook_events.status()}, '1|3|t');
pass('what waits behind another one is seen');
query("SELECT webhook_events.delete_webhook('$lane')");
wait_for_sql($node, q{SELECT held_webhooks, held_dispatches, held_since FROM webhook_events.status()}, '0|0|');
# Nothing is sent before the worker has seen the settings.
query("ALTER SYSTEM SET webhook_events.$_") foreach 'max_in_flight = 8', 'max_in_flight_per_host = 8', 'delivery = off';
$node->reload;
wait_for_sql($node, 'SELECT reason FROM webhook_events.status()', 'webhook_events.delivery is off');
$receiver->hold('share');
my $full = create_webhook($node, $receiver->url('/hold/share'), 'ACTOR.RUN.CREATED', actor_id => "'share'");
insert_runs($node, 20, 'share');
is(query("SELECT string_agg(DISTINCT state, ', ') FROM webhook_events.deliveries WHERE webhook_id = '$webhook{bad}' AND finished_at IS NULL"), 'no delivery', 'nothing is queued where nothing is delivered');
query('ALTER SYSTEM RESET webhook_events.delivery');
$node->reload;
wait_for_sql($node, q{SELECT array_to_string(full_shares, ',') ~ '^address 127\.0\.0\.1 has all that it may take, \d calls under way, since ' FROM webhook_events.status()}, 't');
wait_for_sql($node, "SELECT string_agg(DISTINCT state, ', ' ORDER BY state) FROM webhook_events.deliveries WHERE webhook_id = '$full'", 'sending, share full');
is(query(q{SELECT state, state_reason FROM webhook_events.hosts WHERE host = '} . (split m{/}, $receiver->url(''))[2] . "'"),
	'share full|its address has all the calls under way that it may have', 'and who has all that it may take');
$receiver->release('share');
wait_for_sql($node, "SELECT count(*) FROM webhook_events.dispatches WHERE webhook_id = '$full' AND status = 'SUCCEEDED'", 20);
wait_for_sql($node, q{SELECT full_shares IS NULL FROM webhook_events.status()}, 't');
query("SELECT webhook_events.delete_webhook('$full')");
query($_) foreach 'ALTER SYSTEM RESET webhook_events.max_in_flight', 'ALTER SYSTEM RESET webhook_events.max_in_flight_per_host';
$node->reload;

# A worker that does not move.
my $stuck = query('SELECT worker_pid FROM webhook_events.status()');
kill 'STOP', $stuck;
wait_for_sql($node, "SELECT reason ~ '^the worker .PID $stuck. has not moved for \\d+ s\$' FROM webhook_events.status()", 't');
kill 'CONT', $stuck;
wait_for_sql($node, 'SELECT running, reason FROM webhook_events.status()', 't|');
pass('a worker that does not move is no worker that runs');

# What status() tells of.
is(query('SELECT broken_tables, emit_off, unreadable_files, subscriptions_down FROM webhook_events.status()'), '|||',
	'nothing is wrong');
query('ALTER TABLE actor_runs DISABLE TRIGGER webhook_events_update; DROP TRIGGER webhook_events_insert ON actor_builds');
is(query('SELECT broken_tables FROM webhook_events.status()'),
	'{"public.actor_builds: trigger for INSERT is missing","public.actor_runs: trigger webhook_events_update is disabled"}',
	'triggers that are not in force');
query('ALTER TABLE actor_runs ENABLE REPLICA TRIGGER webhook_events_update');
is(query('SELECT broken_tables[2] FROM webhook_events.status()'), 'public.actor_runs: trigger webhook_events_update fires for replicas only, and there is no subscription',
	'also those that nobody fires here');
query('ALTER TABLE actor_runs ENABLE TRIGGER webhook_events_update');
query('ALTER DATABASE postgres SET webhook_events.emit = off');
query('CREATE ROLE loader; ALTER ROLE loader IN DATABASE postgres SET webhook_events.emit = off');
is(query('SELECT emit_off FROM webhook_events.status()'), '{"database postgres","database postgres, role loader"}',
	'who raises no events');
query("ALTER SYSTEM SET webhook_events.ca_file = '/nonexistent/ca'");
$node->reload;
wait_for_sql($node, 'SELECT unreadable_files::text FROM webhook_events.status()',
	'{"webhook_events.ca_file: No such file or directory"}');
$node->wait_for_log(qr/calls over TLS from database "postgres" fail, since files can't be used: webhook_events.ca_file: No such file or directory/, $offset);
pass('files that can not be read, in the log as well');
query('CREATE TABLE old_runs () INHERITS (actor_runs)');
wait_for_sql($node, q{SELECT 'public.old_runs: inherits from an attached table and is not attached, so its rows raise no events' = ANY (broken_tables) FROM webhook_events.status()}, 't');
query(q{SELECT webhook_events.attach('old_runs', kind => 'run')});
wait_for_sql($node, q{SELECT array_to_string(broken_tables, ' ') ~ 'old_runs' FROM webhook_events.status()}, 'f');
query('DROP TABLE old_runs; ALTER ROLE loader SET session_replication_role = replica');
is(query('SELECT emit_off FROM webhook_events.status()'),
	'{"database postgres","database postgres, role loader","role loader (session_replication_role)"}', 'whose triggers do not fire');
query("ALTER TABLE actor_runs ENABLE ALWAYS TRIGGER webhook_events_$_") foreach qw(insert update);
query("ALTER TABLE actor_builds ENABLE ALWAYS TRIGGER webhook_events_update");
is(query('SELECT emit_off FROM webhook_events.status()'), '{"database postgres","database postgres, role loader"}', 'unless they fire always');
query('ALTER SYSTEM SET webhook_events.emit = off');
$node->reload;
wait_for_sql($node, q{SELECT 'all databases' = ANY (emit_off) FROM webhook_events.status()}, 't');
query('ALTER SYSTEM RESET webhook_events.emit');
$node->reload;
wait_for_sql($node, q{SELECT 'all databases' = ANY (emit_off) FROM webhook_events.status()}, 'f');
pass('and a configuration that lets nobody raise one');
query("CREATE SUBSCRIPTION sub CONNECTION 'dbname=postgres' PUBLICATION pub WITH (connect = false)");
is(query('SELECT subscriptions_down FROM webhook_events.status()'), '', 'a subscription that is not enabled needs no worker');
query("ALTER SUBSCRIPTION sub SET (slot_name = 'none_such'); ALTER SUBSCRIPTION sub ENABLE");
is(query('SELECT subscriptions_down FROM webhook_events.status()'), '{sub}', 'one that lacks it is told');

# All of that is one row that a new session has at once, however many days there are: it is read
# without a statement that would have to be planned.
query('SELECT count(webhook_events_internal.create_days(now()::date - 60, now()::date + 3))');
my ($buffers) = query('EXPLAIN (ANALYZE, BUFFERS, TIMING OFF, SUMMARY OFF) SELECT * FROM webhook_events.status()') =~ /Buffers: shared hit=(\d+)/;
note("status() touches $buffers buffers in a new session with 64 days");
cmp_ok($buffers, '<=', 1500, 'status() is no work');

# Nobody else sees what is not theirs.
query("ALTER SUBSCRIPTION sub DISABLE; ALTER SUBSCRIPTION sub SET (slot_name = NONE); DROP SUBSCRIPTION sub;"
	  . " CREATE ROLE reader LOGIN; CREATE ROLE tenant LOGIN; SELECT webhook_events.grant_access('reader', 'reader'),"
	  . " webhook_events.grant_access('tenant', 'tenant', 'ada')");
is(query('SET ROLE reader; SELECT count(*) >= 6 FROM webhook_events.deliveries; SELECT count(*) FROM webhook_events.webhook_health;'
	  . ' SELECT count(*) * 0 FROM webhook_events.in_flight; SELECT count(*) >= 0 FROM webhook_events.hosts; SELECT calls >= 0 FROM webhook_events.stat_delivery'),
	"t\n8\n0\nt\nt", 'a reader sees all');
is(query('SET ROLE tenant; SELECT count(*) FROM webhook_events.deliveries; SELECT count(*) FROM webhook_events.webhook_health;'
	  . ' SELECT count(*) FROM webhook_events.in_flight'), "1\n1\n0", 'a tenant what is theirs');
sql_fails($node, "SET ROLE tenant; SELECT * FROM webhook_events.$_", qr/ERROR:  42501/, "and nothing of $_")
  foreach qw(hosts stat_delivery);
done_testing();
