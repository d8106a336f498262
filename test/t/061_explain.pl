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
my $node = new_node('explain', conf => "webhook_events.retry_delay = '1h'\n");

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

# Why there is no event.
my $without = "what = 'no event'";
query(q{INSERT INTO actor_runs (id, actor_id) VALUES ('r3', 'other'); UPDATE actor_runs SET status = 'PAUSED' WHERE id = 'r3'});
like(story('r3', $without), qr/^no event\|\|status PAUSED is none of the platform's/, 'an unknown status');
query(q{UPDATE actor_runs SET status = 'RUNNING' WHERE id = 'r3'});
like(story('r3', $without), qr/status RUNNING is no end/, 'one that raises nothing');
query(q{SET webhook_events.emit = off; UPDATE actor_runs SET status = 'FAILED' WHERE id = 'r3'});
like(story('r3', $without), qr/emit off, or without triggers$/, 'emit off');
query(q{ALTER DATABASE postgres SET webhook_events.emit = off});
like(story('r3', $without), qr/emit is off for database postgres$/, 'by a setting of the database');
query(q{ALTER TABLE actor_runs DISABLE TRIGGER webhook_events_update});
like(story('r3', $without), qr/\|public.actor_runs: trigger webhook_events_update is disabled$/, 'a disabled trigger');
is(story('r1', $without), '', 'and nothing where all is told');

sql_fails($node, q{SELECT * FROM webhook_events.explain_run('nope')}, qr/ERROR:  P0002: no attached table has a run or build "nope"/, 'what is unknown');
query("CREATE ROLE tenant LOGIN; SELECT webhook_events.grant_access('tenant', 'tenant', 'ada')");
sql_fails($node, q{SET ROLE tenant; SELECT * FROM webhook_events.explain_run('r1')}, qr/ERROR:  P0002/, 'or somebody else\'s, is an error');
done_testing();
