# 066_broken_calls.pl
#	  Each place at which the library calls something that can raise an error does so once in
#	  a session that writes attached tables and calls functions.  What a session remembers
#	  stays whole: nothing crashes, and what was written has its events, and nothing else.

use strict;
use warnings;
use PostgreSQL::Test::Utils;
use Test::More;
use WebhookEvents::Node;

my $rounds = 120;
my $node = new_node('broken', conf => <<'CONF');
shared_preload_libraries = 'webhook_events,calls'
restart_after_crash = off
webhook_events.max_webhooks_per_user = 10000
CONF

sub query { return $node->safe_psql('postgres', $_[0]); }

create_platform($node);
query("CREATE FUNCTION calls_arm(text, text, integer) RETURNS void LANGUAGE c AS 'calls'");
query("CREATE FUNCTION calls_broken() RETURNS integer LANGUAGE c AS 'calls'");

# Whatever fails is tried again in the next round, in the same session.
my $work = '';
foreach my $round (1 .. $rounds)
{
	$work .= <<SQL;
INSERT INTO actor_runs (id, actor_id, user_id) VALUES ('run$round', 'a', 'u');
UPDATE actor_runs SET status = 'RUNNING', options = '{"x": [1, null]}' WHERE status = 'READY';
UPDATE actor_runs SET status = 'SUCCEEDED', finished_at = now(), usage_total_usd = 0.25 WHERE status = 'RUNNING';
INSERT INTO actor_builds (id, actor_id, user_id) VALUES ('build$round', 'a', 'u');
SELECT count(*) FROM webhook_events.create_webhook('http://127.0.0.1:9/', '{ACTOR.RUN.FAILED}', payload_template => '{"a": {{resource.id}}}');
SELECT count(*) FROM webhook_events.create_ad_hoc_webhooks('run$round', '[{"eventTypes": ["ACTOR.RUN.FAILED"], "requestUrl": "http://127.0.0.1:9/"}]');
SELECT count(*) FROM webhook_events.update_webhook((SELECT max(id) FROM webhook_events.webhooks WHERE NOT is_ad_hoc), '{"requestUrl": "http://127.0.0.1:9/$round"}');
SELECT count(*) FROM webhook_events.status();
SELECT length(webhook_events.webhooks_json('u', "limit" => 5)::text);
SQL
	$work .= "ALTER TABLE actor_runs ADD COLUMN more$round integer;\n" if $round % 20 == 7;
	$work .= "SELECT webhook_events.attach('actor_runs');\n" if $round % 20 == 14;
}
query("SELECT calls_arm('session', '53200', 1)");
my ($status, $out, $errors) = $node->psql('postgres', $work, on_error_stop => 0);
query("SELECT calls_arm('', '', 1)");
my $broken = query('SELECT calls_broken()');

is($status, 0, 'the session has come to its end');
cmp_ok($broken, '>=', 40, 'much has failed');
note("$broken places");
is(join(' ', grep { $_ !~ /was broken|the id of a webhook is null/ } $errors =~ /ERROR:  (.*)/g), '', 'for no other reason');
is(query("SELECT count(*) > $rounds / 4 FROM actor_runs"), 't', 'and much has not');
foreach my $test (
	[ 'actor_runs', 'ACTOR.RUN.CREATED', 'true' ],
	[ 'actor_runs', 'ACTOR.RUN.SUCCEEDED', "status = 'SUCCEEDED'" ],
	[ 'actor_builds', 'ACTOR.BUILD.CREATED', 'true' ])
{
	my ($table, $type, $condition) = @$test;
	my $count = query("SELECT count(*) FROM $table WHERE $condition");

	is(query("SELECT count(*), count(DISTINCT coalesce(actor_build_id, actor_run_id)) FROM webhook_events.events WHERE event_type = '$type'"),
		"$count|$count", "each row has its event of $type");
}
is(query("SELECT count(*) FROM webhook_events.audit(now() - interval '1 hour')"), 0, 'audit() finds nothing');
unlike(slurp_file($node->logfile), qr/terminated by signal|PANIC/, 'nothing has crashed');

$node->stop;
done_testing();
