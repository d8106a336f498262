# 061_explain.pl
#	  Why did my webhook not fire?  The story of a run, told by explain_run().

use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use WebhookEvents::Node;
use WebhookEvents::Receiver;

my $receiver = WebhookEvents::Receiver->new;
my $node = new_node('explain', conf => "webhook_events.retry_delay = '1h'\nwebhook_events.payload_limit = '64kB'\n");

create_platform($node);

sub query
{
	my ($sql) = @_;

	return $node->safe_psql('postgres', $sql);
}

# What, by whom, and in which words.
sub story
{
	my ($run, $condition) = @_;

	return query('SELECT what, webhook_id, detail FROM webhook_events.explain_run(' . "'$run') WHERE "
		  . ($condition // 'true'));
}

my $all = create_webhook($node, $receiver->url('/status/503'), 'ACTOR.RUN.CREATED, ACTOR.RUN.FAILED', actor_id => "'web-scraper'");
my $near = create_webhook($node, $receiver->url('/ok'), 'ACTOR.RUN.CREATED', actor_id => "'web-scrapper'");
my $case = create_webhook($node, $receiver->url('/ok'), 'ACTOR.RUN.CREATED', actor_id => "'Web-Scraper'");
my $far = create_webhook($node, $receiver->url('/ok'), 'ACTOR.RUN.CREATED', actor_id => "'web-crawler'");
my $off = create_webhook($node, $receiver->url('/ok'), 'ACTOR.RUN.CREATED', actor_id => "'web-scraper'", is_enabled => 'false');

query(q{INSERT INTO actor_runs (id, actor_id) VALUES ('r1', 'web-scraper')});
wait_for_sql($node, q{SELECT state FROM webhook_events.deliveries WHERE actor_run_id = 'r1'}, 'waiting for a retry');
my $late = create_webhook($node, $receiver->url('/ok'), 'ACTOR.RUN.CREATED', actor_id => "'web-scraper'");
my ($host) = $receiver->url('/ok') =~ m{^(http://[^/]+)};
is(story('r1', "what NOT IN ('call', 'waits')"), join("\n",
		'row||run of public.actor_runs, status READY now',
		'event||ACTOR.RUN.CREATED: status READY',
		(map { "not sent|$_->[0]|$_->[1]" } sort { $a->[0] cmp $b->[0] }
			[ $near, "condition: Actor is web-scrapper, event's is web-scraper" ],
			[ $case, "condition: Actor is Web-Scraper, event's is web-scraper" ],
			[ $off, 'disabled' ],
			[ $late, 'created after the event' ]),
		"dispatch|$all|to $host"), 'a run, its event, who got it and who nearly did');
like(story('r1', "what = 'call'"), qr/^call\|$all\|call 1: HTTP status 503, in \d+ ms$/, 'its calls');
like(story('r1', "what = 'waits'"), qr/^waits\|$all\|it is called again at /, 'and what it waits for');
is(query(q{SELECT count(*) FROM (SELECT at, lag(at) OVER () AS before FROM webhook_events.explain_run('r1')) AS s WHERE at < before}),
	0, 'in the order of time');
query(q{SELECT webhook_events.pause('lunch')});
wait_for_sql($node, 'SELECT reason FROM webhook_events_internal.worker_report()', 'paused');
is(story('r1', "what = 'waits'"), "waits|$all|paused", 'a pause');
query(q{INSERT INTO actor_runs (id, actor_id) VALUES ('r2', 'web-scraper')});
is(story('r2', "what = 'no dispatch' AND webhook_id = '$all'"), "no dispatch|$all|paused", 'keeps events from being routed');
query(q{SELECT webhook_events.resume()});
wait_for_sql($node, q{SELECT state FROM webhook_events.deliveries WHERE actor_run_id = 'r2' AND webhook_id = '} . "$all'", 'waiting for a retry');

# Other near misses: a user or a run by one letter, an Actor's id where a task's belongs.
my $someone = create_webhook($node, $receiver->url('/ok'), 'ACTOR.RUN.CREATED', user_id => "'alicf'");
my $cross = create_webhook($node, $receiver->url('/ok'), 'ACTOR.RUN.CREATED', actor_task_id => "'crossed'");
my $neighbour = create_webhook($node, $receiver->url('/ok'), 'ACTOR.RUN.CREATED', actor_run_id => "'run-one'", is_ad_hoc => 'true');
create_webhook($node, $receiver->url('/ok'), 'ACTOR.RUN.CREATED', actor_run_id => "'another'", is_ad_hoc => 'true');
query(q{INSERT INTO actor_runs (id, actor_id, user_id) VALUES ('run-onf', 'crossed', 'alice')});
wait_for_sql($node, q{SELECT events_waiting FROM webhook_events.status()}, 0);
is(story('run-onf', "what IN ('not sent', 'dispatch')"), join("\n", map { "not sent|$_->[0]|$_->[1]" } sort { $a->[0] cmp $b->[0] }
	  [ $someone, q{user is alicf, event's is alice} ], [ $cross, 'condition: task is crossed, event has none' ],
	  [ $neighbour, q{condition: run is run-one, event's is run-onf} ]), 'nearly its user, nearly its run, and its Actor as a task');

# Why there is no event.
my $without = "what = 'no event'";
query(q{INSERT INTO actor_runs (id, actor_id) VALUES ('r3', 'other'); UPDATE actor_runs SET status = 'PAUSED' WHERE id = 'r3'});
like(story('r3', $without), qr/^no event\|\|status PAUSED is none of the platform's/, 'an unknown status');
query(q{UPDATE actor_runs SET status = 'RUNNING' WHERE id = 'r3'});
like(story('r3', $without), qr/status RUNNING is no end/, 'one that raises nothing');
query(q{SET webhook_events.emit = off; UPDATE actor_runs SET status = 'FAILED' WHERE id = 'r3'});
like(story('r3', $without), qr/emit off, or without triggers, or its events are older than webhook_events.retention$/, 'emit off');
query(q{ALTER DATABASE postgres SET webhook_events.emit = off});
like(story('r3', $without), qr/; raises none now: database postgres$/, 'by a setting of the database');
query(q{ALTER TABLE actor_runs DISABLE TRIGGER webhook_events_update});
like(story('r3', $without), qr/\|public.actor_runs: trigger webhook_events_update is disabled$/, 'a disabled trigger');
is(story('r1', $without), '', 'and nothing where all is told');

query(q{ALTER TABLE actor_runs ENABLE TRIGGER webhook_events_update; ALTER DATABASE postgres RESET webhook_events.emit});
query(q{SET webhook_events.emit = off; INSERT INTO actor_runs (id, actor_id) VALUES ('r4', 'other')});
like(story('r4', $without), qr/\|it was written before the table was attached, with webhook_events.emit off/, 'nor was it created for us, whatever its status');
query(q{INSERT INTO actor_runs (id, actor_id) VALUES ('r5', 'other'); DELETE FROM actor_runs WHERE id = 'r5'});
wait_for_sql($node, q{SELECT events_waiting FROM webhook_events.status()}, 0);
is(story('r5', 'true'), "row||no attached table has it now: it was deleted, or its table detached\nevent||ACTOR.RUN.CREATED: status READY", 'a row that is gone');

# What waits in order waits for what its first one does.
my $lane = create_webhook($node, $receiver->url('/status/503'), 'ACTOR.RUN.CREATED', actor_id => "'lane'", ordering => "'webhook'");
foreach my $number (1 .. 3)
{
	query("INSERT INTO actor_runs (id, actor_id) VALUES ('lane$number', 'lane')");
	wait_for_sql($node, "SELECT state FROM webhook_events.deliveries WHERE actor_run_id = 'lane$number'", $number == 1 ? 'waiting for a retry' : 'waiting for its turn');
}
my $first = query(q{SELECT id FROM webhook_events.deliveries WHERE actor_run_id = 'lane1'});
like(story('lane2', "what = 'waits'"), qr/^waits\|$lane\|one is to come before it; dispatch $first is first, and of that: it is called again at /, 'one behind another');
like(story('lane3', "what = 'waits'"), qr/^waits\|$lane\|2 are to come before it; dispatch $first is first, and of that: it is called again at /, 'or behind two');

# Somebody has locked a row; his transaction is named, not the wait.
my $held = query(q{SELECT id FROM webhook_events.dispatches WHERE event_id = (SELECT id FROM webhook_events.events WHERE actor_run_id = 'r2') AND status = 'ACTIVE' LIMIT 1});
query("BEGIN; SELECT FROM webhook_events_internal.dispatches WHERE id = '$held' FOR UPDATE; PREPARE TRANSACTION 'locks'");
is(query("SELECT detail FROM webhook_events.explain_run('r2') WHERE what = 'waits' AND dispatch_id = '$held'"), 'a prepared transaction has locked its row or changes it', 'a row that is locked');
query("ROLLBACK PREPARED 'locks'");
like(query("SELECT detail FROM webhook_events.explain_run('r2') WHERE what = 'waits' AND dispatch_id = '$held'"), qr/^it is called again at /, 'and is so no more');

# Webhooks that have changed since, and what a person has skipped.
my $other = create_webhook($node, $receiver->url('/ok'), 'ACTOR.RUN.CREATED', actor_id => "'changes'", is_enabled => 'false');
query(q{INSERT INTO actor_runs (id, actor_id) VALUES ('c1', 'changes')});
wait_for_sql($node, q{SELECT events_waiting FROM webhook_events.status()}, 0);
is(story('c1', "what = 'not sent'"), "not sent|$other|disabled", 'a webhook that is disabled');
query("SELECT webhook_events.enable_webhook('$other')");
like(story('c1', "what = 'no dispatch'"), qr/^no dispatch\|$other\|the webhook was changed or enabled at .*, after the event$/, 'and was then, but is not now');
query(q{SELECT webhook_events.pause()});
wait_for_sql($node, 'SELECT reason FROM webhook_events_internal.worker_report()', 'paused');
query(q{INSERT INTO actor_runs (id, actor_id) VALUES ('c2', 'changes')});
query(q{SELECT webhook_events.resume('skip')});
wait_for_sql($node, 'SELECT reason IS NULL AND events_waiting = 0 FROM webhook_events.status()', 't');
is(story('c2', "what = 'no dispatch'"), "no dispatch|$other|it was skipped by resume('skip'), or its dispatch was deleted", 'an event that was skipped');
like(story('r2', "webhook_id = '$all' AND what = 'given up'"), qr/Skipped by resume\(\)/, 'and a dispatch');

is(query(q{SELECT x.reason FROM webhook_events.events AS e, webhook_events.explain_event(e.id) AS x WHERE e.actor_run_id = 'c2'}),
	"event type and condition match; no dispatch: it was skipped by resume('skip'), or its dispatch was deleted", 'explain_event() tells that as well');
is(query(q{SELECT x.reason FROM webhook_events.events AS e, webhook_events.explain_event(e.id) AS x WHERE e.actor_run_id = 'r2' AND x.fires AND x.webhook_id = '} . "$all'"),
	'event type and condition match; given up: Skipped by resume().', 'also what became of a dispatch');
query(q{INSERT INTO actor_runs (id, actor_id) VALUES ('r6', 'web-scraper')});
wait_for_sql($node, "SELECT state FROM webhook_events.deliveries WHERE actor_run_id = 'r6' AND webhook_id = '$all'", 'waiting for a retry');
like(query(q{SELECT x.reason FROM webhook_events.events AS e, webhook_events.explain_event(e.id) AS x WHERE e.actor_run_id = 'r6' AND x.webhook_id = '} . "$all'"),
	qr/^event type and condition match; waits: it is called again at /, 'or why it waits');

# A replay, a rate, a request that can't be made, and one that was sent again.
query(q{INSERT INTO actor_runs (id, actor_id) VALUES ('c3', 'changes')});
wait_for_sql($node, q{SELECT state FROM webhook_events.deliveries WHERE actor_run_id = 'c3'}, 'succeeded');
query("SELECT webhook_events.redeliver((SELECT id FROM webhook_events.deliveries WHERE actor_run_id = 'c3'))");
wait_for_sql($node, q{SELECT string_agg(state, ', ') FROM webhook_events.deliveries WHERE actor_run_id = 'c3'}, 'succeeded, succeeded');
is(story('c3', "what = 'dispatch' ORDER BY detail"), "dispatch|$other|again to $host\ndispatch|$other|to $host", 'what was sent again');
my $rated = create_webhook($node, $receiver->url('/ok'), 'ACTOR.RUN.CREATED', actor_id => "'rated'");
query("SELECT webhook_events.set_max_rate('$rated', 0.001)");
foreach my $number (1 .. 3)
{
	query("INSERT INTO actor_runs (id, actor_id) VALUES ('rated$number', 'rated')");
	wait_for_sql($node, "SELECT state FROM webhook_events.deliveries WHERE actor_run_id = 'rated$number'", $number == 1 ? 'succeeded' : 'held back by the rate');
}
like(story('rated3', "what = 'waits'"), qr/^waits\|$rated\|the webhook gets 0.001 calls a second at most, 1 of this webhook are before it/, 'a rate');
query(q{INSERT INTO actor_runs (id, actor_id, status_message) VALUES ('big', 'changes', repeat('x', 100000))});
wait_for_sql($node, q{SELECT state FROM webhook_events.deliveries WHERE actor_run_id = 'big'}, 'failed');
like(story('big', "what = 'given up'"), qr/\|calls: 0, .*longer than 65536 bytes/, 'a request that is too large');
query(q{ALTER TABLE actor_runs DROP COLUMN user_id; INSERT INTO actor_runs (id, actor_id) VALUES ('lacks', 'web-scraper'); ALTER TABLE actor_runs ADD COLUMN user_id text;
	SELECT webhook_events.attach('actor_runs')});
is(story('lacks', "what = 'event'"), 'event||ACTOR.RUN.CREATED: status READY; column "user_id" is gone', 'an event that lacks something');

# Of very many webhooks a thousand are told of and the rest is counted.
my $crowd = sub { query("SELECT count(webhook_events.create_webhook('" . $receiver->url('/ok') . "', '{ACTOR.RUN.$_[0]}', actor_id => 'crowd')) FROM generate_series(1, $_[1])") };
is($crowd->('CREATED', 1050), 1050, 'many webhooks');
query('SELECT webhook_events.pause()');
wait_for_sql($node, 'SELECT reason FROM webhook_events_internal.worker_report()', 'paused');
query(q{INSERT INTO actor_runs (id, actor_id) VALUES ('crowd1', 'crowd')});
is(query(q{SELECT what, detail, count(DISTINCT webhook_id) FROM webhook_events.explain_run('crowd1') WHERE webhook_id IS NOT NULL GROUP BY 1, 2}),
	'no dispatch|paused|1000', 'a thousand of those that get an event are told of');
query('SELECT webhook_events.resume()');
wait_for_sql($node, q{SELECT count(*) FROM webhook_events.deliveries WHERE actor_run_id = 'crowd1' AND state = 'succeeded'}, 1050);
is(query(q{SELECT what, count(*) FROM webhook_events.explain_run('crowd1') WHERE dispatch_id IS NOT NULL GROUP BY 1 ORDER BY 1}),
	"call|1000\ndelivered|1000\ndispatch|1000", 'and a thousand of its dispatches');
is(query(q{SELECT detail FROM webhook_events.explain_run('crowd1') WHERE what = 'more'}),
	'50 more dispatches: 50 delivered, 0 given up, 0 wait', 'and how many more there are');
is($crowd->('SUCCEEDED', 1050), 1050, 'many that do not get it');
is(query(q{SELECT fires, count(*) FROM webhook_events.explain_event((SELECT id FROM webhook_events.events WHERE actor_run_id = 'crowd1')) WHERE reason ~ 'delivered|event type' GROUP BY 1 ORDER BY 1}),
	"f|1050\nt|1050", 'explain_event() tells of all');

query(q{DROP TRIGGER webhook_events_insert ON actor_runs; INSERT INTO actor_runs (id, actor_id) VALUES ('unseen', 'changes')});
sql_fails($node, q{SELECT * FROM webhook_events.explain_run('unseen')},
	qr/ERROR:  P0002: no attached table has a run or build "unseen".*\nDETAIL:  public\.actor_runs: trigger for INSERT is missing\n/, 'a run of which there is no trace, and what may be why');
query(q{SELECT webhook_events.attach('actor_runs')});
sql_fails($node, q{SELECT * FROM webhook_events.explain_run('nope')}, qr/ERROR:  P0002: no attached table has a run or build "nope"/, 'what is unknown');
query("CREATE ROLE tenant LOGIN; SELECT webhook_events.grant_access('tenant', 'tenant', 'ada')");
sql_fails($node, q{SET ROLE tenant; SELECT * FROM webhook_events.explain_run('r1')}, qr/ERROR:  P0002/, 'or somebody else\'s, is an error');
done_testing();
