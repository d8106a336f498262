# 053_tenants.pl
#	  Who may do what: readers, managers, and two tenants of one database who must
#	  not learn of each other.

use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use WebhookEvents::Node;
use WebhookEvents::Receiver;

my $receiver = WebhookEvents::Receiver->new;
my $node = new_node('tenants', conf => "webhook_events.retry_delay = '1h'\nlog_statement = none\n");
my $url = $receiver->url('/ok');

create_platform($node);

sub query
{
	my ($sql) = @_;

	return $node->safe_psql('postgres', $sql);
}

# Runs SQL as a role: what it prints, or its error.
sub as
{
	my ($role, $sql) = @_;
	my ($status, $stdout, $stderr) = $node->psql('postgres', "\\set VERBOSITY verbose\n$sql",
		extra_params => [ '-U', $role ]);

	return $status == 0 && $stderr eq '' ? $stdout : $stderr =~ /ERROR:  (.*)/ ? $1 : $stderr;
}

query(<<'SQL');
CREATE ROLE reader LOGIN; CREATE ROLE manager LOGIN; CREATE ROLE nobody LOGIN;
CREATE ROLE tenant_a LOGIN; CREATE ROLE tenant_b LOGIN;
SELECT webhook_events.grant_access('reader', 'reader');
SELECT webhook_events.grant_access('manager', 'manager');
SELECT webhook_events.grant_access('tenant_a', 'tenant', 'a');
SELECT webhook_events.grant_access('tenant_b', 'tenant', user_id => 'b');
SQL

# Nothing without a grant.
like(as('nobody', "SELECT webhook_events.$_"), qr/^42501: permission denied/, "nobody may use $_")
  foreach "create_webhook('$url', '{ACTOR.RUN.CREATED}')", 'status()', "grant_access('nobody', 'manager')";
like(as('nobody', "SELECT * FROM webhook_events.$_"), qr/^42501: permission denied/, "nobody may read $_")
  foreach qw(webhooks events dispatches calls webhooks_masked sources);

# Each tenant defines the same webhook, with the same key.
my %webhook;
foreach my $tenant (qw(a b))
{
	$webhook{$tenant} = as("tenant_$tenant", "SELECT id FROM webhook_events.create_webhook('$url?$tenant&token=x', '{ACTOR.RUN.CREATED}',"
		  . " idempotency_key => 'same', headers_template => '{\"X-Tenant\": \"$tenant\"}')");
	like($webhook{$tenant}, qr/^\w{17}$/, "tenant $tenant defines a webhook");
	query("INSERT INTO actor_runs (id, actor_id, user_id) VALUES ('run-$tenant', 'shared', '$tenant')");
}
isnt($webhook{a}, $webhook{b}, 'keys of two tenants are two keys');
wait_for_end($node);
is(join(' ', sort map { $_->{headers}{'x-tenant'} . ':' . ($_->{body} =~ /"actorRunId":"([^"]+)"/)[0] } $receiver->requests),
	'a:run-a b:run-b', 'each gets its own events');

# All that one can see is one's own.
my %own = map { $_ => query("SELECT id FROM webhook_events.events WHERE user_id = '$_'") } qw(a b);
my %dispatch = map { $_ => query("SELECT id FROM webhook_events.dispatches WHERE user_id = '$_'") } qw(a b);
foreach my $tenant (qw(a b))
{
	my $role = "tenant_$tenant";
	my $other = $tenant eq 'a' ? 'b' : 'a';

	is(as($role, "SELECT count(*), min(user_id), max(user_id) FROM webhook_events.$_"), "1|$tenant|$tenant", "$_ of $tenant")
	  foreach qw(webhooks events dispatches webhooks_masked);
	is(as($role, 'SELECT dispatch_id FROM webhook_events.calls'), $dispatch{$tenant}, "calls of $tenant");
	is(as($role, "SELECT count(*) FROM webhook_events.backtest('$webhook{$tenant}', now() - interval '1 hour')"), 1, 'a backtest shows one event');
	is(as($role, "SELECT webhook_id FROM webhook_events.explain_event('$own{$tenant}')"), $webhook{$tenant}, 'an explanation one webhook');

	# What is another's is answered as what is not there.
	my %calls = (
		"update_webhook('%s', '{}')" => 'webhook', "delete_webhook('%s')" => 'webhook',
		"enable_webhook('%s')" => 'webhook', "webhook_secret('%s')" => 'webhook', "rotate_secret('%s')" => 'webhook',
		"set_max_rate('%s', 1)" => 'webhook', "webhook_json('%s')" => 'webhook', "test_webhook('%s')" => 'webhook',
		"preview('%s', '$own{$tenant}')" => 'webhook', "replay('%s', now() - interval '1 hour')" => 'webhook',
		"preview('$webhook{$tenant}', '%s')" => 'event', "explain_event('%s')" => 'event',
		"redeliver('%s')" => 'dispatch', "dispatch_json('%s')" => 'dispatch');
	my %foreign = (webhook => $webhook{$other}, event => $own{$other}, dispatch => $dispatch{$other});
	foreach my $call (sort keys %calls)
	{
		my $kind = $calls{$call};
		my $unknown = as($role, 'SELECT webhook_events.' . sprintf($call, 'x' x 17));
		(my $expected = $unknown) =~ s/x{17}/$foreign{$kind}/;

		like($unknown, qr/^(?:42704|P0002): $kind "x{17}" does not exist/, sprintf "$call does not exist", 'x');
		is(as($role, 'SELECT webhook_events.' . sprintf($call, $foreign{$kind})), $expected, "and another's is the same");
	}
	like(as($role, "SELECT webhook_events.test_webhook('$webhook{$tenant}', 'run-$other')"), qr/^P0002: no attached table has a run or build/, "nor is another's run test data");

	# Nothing can be written in another's name.
	like(as($role, "SELECT webhook_events.create_webhook('$url', '{ACTOR.RUN.CREATED}', user_id => '$other')"), qr/^42501: webhooks of user "$other" are not yours/, "a webhook for another user");
	like(as($role, qq{SELECT webhook_events.create_webhook('{"requestUrl": "$url", "eventTypes": ["ACTOR.RUN.CREATED"], "userId": "$other"}'::jsonb)}), qr/^42501/, 'in JSON as well');
	like(as($role, qq{SELECT webhook_events.update_webhook('$webhook{$tenant}', '{"userId": $_}')}), qr/^42501/, "giving one away to $_") foreach "\"$other\"", 'null';
	is(as($role, qq{SELECT user_id FROM webhook_events.create_ad_hoc_webhooks('run-$other', '[{"requestUrl": "$url?spy", "eventTypes": ["ACTOR.RUN.SUCCEEDED"]}]'::jsonb)}), $tenant, "an ad-hoc webhook for another's run");
	like(as($role, $_), qr/^42501: permission denied/, "refused: $_")
	  foreach "SET webhook_events.user_id = '$other'", "INSERT INTO webhook_events_internal.dispatches (id) VALUES ('x')", 'UPDATE webhook_events_internal.dispatches SET status = $$ACTIVE$$',
	  'SELECT * FROM webhook_events_internal.webhook_stats_log', 'SELECT * FROM webhook_events_internal.cursors', 'SELECT * FROM webhook_events_internal.outbox_default',
	  'SELECT webhook_events.status()', 'SELECT webhook_events.pause()', 'SELECT webhook_events.audit(now())', "INSERT INTO webhook_events_internal.outbox (id) VALUES ('x')",
	  'CREATE TRIGGER t AFTER INSERT ON actor_runs FOR EACH ROW EXECUTE FUNCTION webhook_events.run_changed()';

	# Neither errors of functions that tell what they see, nor plans, nor counts.
	is(as($role, q{CREATE TEMP TABLE seen (t text); CREATE FUNCTION pg_temp.leak(t text) RETURNS boolean LANGUAGE plpgsql COST 0.0001 AS
		$$ BEGIN INSERT INTO seen VALUES (t); RETURN true; END $$;
		SELECT count(*) FROM webhook_events.webhooks WHERE pg_temp.leak(user_id);
		SELECT count(*) FROM webhook_events.webhooks_masked WHERE pg_temp.leak(user_id);
		SELECT count(*) FROM webhook_events.events WHERE pg_temp.leak(user_id);
		SELECT count(*) FROM webhook_events.dispatches WHERE pg_temp.leak(user_id);
		SELECT count(*) FROM (SELECT * FROM webhook_events.events WHERE user_id <> '') AS e WHERE pg_temp.leak(user_id);
		SELECT count(*) FROM webhook_events.events AS e, LATERAL (SELECT WHERE pg_temp.leak(e.user_id)) AS s WHERE user_id <> '';
		SELECT count(*) FROM webhook_events.events AS e, LATERAL pg_temp.leak(e.user_id) AS s (l) WHERE user_id <> '';
		SELECT count(*) FROM webhook_events.events AS e LEFT JOIN (VALUES (1)) AS v (n) ON pg_temp.leak(e.user_id) WHERE user_id <> '';
		SELECT user_id FROM webhook_events.events WHERE user_id <> '' GROUP BY user_id HAVING pg_temp.leak(user_id);
		SELECT count(*) FROM webhook_events.events WHERE user_id <> '' AND (SELECT pg_temp.leak(user_id));
		SELECT pg_temp.leak(user_id) FROM webhook_events.events WHERE user_id <> '' ORDER BY pg_temp.leak(user_id), id DESC LIMIT 1;
		SELECT string_agg(DISTINCT t, ' ') FROM seen}) =~ s/.*\n//sr, $tenant, 'a leaky function sees nothing else');

	# Nor is it told by when a function is called that is told nothing itself.
	my %when = (
		"calls WHERE CASE WHEN response_body > '' THEN %s ELSE false END" => 'a CASE', "calls WHERE url IS NOT NULL AND response_body > '' AND %s" => 'AND',
		"calls WHERE attempt > 0 AND (response_status = 100 OR %s)" => 'OR', 'webhooks WHERE CASE WHEN payload_template IS NULL THEN %s END' => 'NULL',
		'webhooks_masked WHERE NOT (is_enabled AND NOT %s)' => 'NOT', 'events WHERE coalesce(CASE WHEN actor_task_id IS NULL THEN %s END, true)' => 'COALESCE',
		'dispatches WHERE finished_at IS NOT NULL AND %s' => 'AND, of dispatches', 'dispatches AS d JOIN (VALUES (1)) AS v (n) ON finished_at IS NOT NULL AND %s' => 'a join',
		"deliveries WHERE actor_run_id > '' AND CASE WHEN actor_run_id < 'run-z' THEN %s END" => 'a scan of another table', 'webhook_health WHERE CASE WHEN is_enabled THEN %s END' => 'a LATERAL one',
		"(SELECT * FROM webhook_events.calls WHERE response_body <> 'x' OFFSET 0) AS c WHERE CASE WHEN response_body > '' THEN %s END" => 'a query within',
		'(SELECT actor_task_id, min(id) AS id FROM webhook_events.events GROUP BY 1) AS e WHERE CASE WHEN actor_task_id IS NULL THEN %s END' => 'groups');
	foreach my $from (sort { $when{$a} cmp $when{$b} } keys %when)
	{
		my $tells = $when{$from} eq 'NULL' || $when{$from} =~ /LATERAL|join/ ? 'pg_temp.tell()' : '(pg_temp.tell() AND 1 / pg_temp.one() = 1)';
		my $own = $from =~ /^webhook/ ? 2 : 1;
		my $sql = sprintf(($from =~ /^\(/ ? 'FROM ' : 'FROM webhook_events.') . $from, $tells);
		foreach my $mode (qw(force_custom_plan force_generic_plan))
		{
			is(as($role, "CREATE TEMP SEQUENCE told; SET plan_cache_mode = $mode;
				CREATE FUNCTION pg_temp.tell() RETURNS boolean LANGUAGE plpgsql COST 0.0000001 AS \$\$ BEGIN RETURN nextval('pg_temp.told') > 0; END \$\$;
				CREATE FUNCTION pg_temp.one() RETURNS int LANGUAGE plpgsql STABLE COST 0.0000001 AS 'BEGIN RETURN 1; END';
				PREPARE q AS SELECT FROM (SELECT $sql) AS s; EXECUTE q; SELECT currval('pg_temp.told')"), $own, "a function is called for what is one's own, by $when{$from}, $mode");
		}
	}
	like(as($role, "EXPLAIN (COSTS off) SELECT FROM webhook_events.calls WHERE response_body > 'x'"), qr/CASE WHEN .*SubPlan.* THEN \(response_body > 'x'/, 'nor how often another table is asked');
	like(as($role, "EXPLAIN (COSTS off) SELECT FROM webhook_events.calls WHERE dispatch_id = 'x' AND started_at > now() - interval '1 hour'"), qr/Index Cond: \(dispatch_id = 'x'/, 'and an index is used');
	unlike(as($role, 'EXPLAIN (ANALYZE, VERBOSE) SELECT * FROM webhook_events.webhooks'), qr/$foreign{webhook}/, 'nor does EXPLAIN tell ids');
	query("SELECT webhook_events.delete_webhook(id) FROM webhook_events.webhooks WHERE request_url LIKE '%spy'");
}

# Nor by a plan that is kept since somebody saw all: another role, the same one before the session
# was narrowed, or before it lost that right.
query('CREATE ROLE lead; GRANT manager, tenant_a TO lead');
my %kept = ('the role' => [ 'manager', 'SET ROLE tenant_a' ],
	'user_id' => [ 'manager', q{SET webhook_events.user_id = 'a'; SET ROLE manager} ],
	'user_id, local' => [ 'manager', q{BEGIN; SET LOCAL webhook_events.user_id = 'a'; SET LOCAL ROLE manager} ],
	'a membership' => [ 'lead', 'REVOKE manager FROM lead; SET ROLE lead' ]);
foreach my $change (sort keys %kept)
{
	my %column = (events => 'actor_run_id', dispatches => 'webhook_id', calls => 'dispatch_id', webhooks => 'id', deliveries => 'webhook_id');

	foreach my $view (sort keys %column)
	{
		my ($called, $shown) = split /\n/, query(qq{CREATE TEMP SEQUENCE told; GRANT ALL ON SEQUENCE told TO PUBLIC; SET plan_cache_mode = force_generic_plan;
			CREATE FUNCTION pg_temp.tell() RETURNS boolean LANGUAGE plpgsql COST 0.0000001 AS \$\$ BEGIN RETURN nextval('pg_temp.told') > 0; END \$\$;
			PREPARE q AS SELECT count(*) FROM webhook_events.$view WHERE CASE WHEN $column{$view} IS NULL THEN false ELSE pg_temp.tell() END;
			PREPARE called AS SELECT last_value - 1 FROM pg_temp.told;
			SET ROLE $kept{$change}[0]; CREATE TEMP TABLE before AS EXECUTE q; RESET ROLE; SELECT setval('pg_temp.told', 1) \\g /dev/null
			$kept{$change}[1]; CREATE TEMP TABLE shown AS EXECUTE q; EXECUTE called; TABLE shown});

		is($called, $shown, "a plan is not kept over a change of $change, for $view");
	}
	query('GRANT manager TO lead');
}
query("UPDATE actor_runs SET status = 'SUCCEEDED'");
wait_for_end($node);
is(scalar(grep { $_->{target} =~ /spy/ } $receiver->requests), 0, "nobody gets another's events");

# Tenants can do all with what is theirs.
is(as('tenant_a', "SELECT webhook_events.replay('$webhook{a}', now() - interval '1 hour')"), 1, 'a replay');
like(as('tenant_a', "SELECT webhook_events.redeliver('$dispatch{a}')"), qr/^\w{17}$/, 'a redelivery');
like(as('tenant_a', "SELECT webhook_events.test_webhook('$webhook{a}', 'run-a')"), qr/^\w{17}$/, 'a test');
wait_for_end($node);
is(as('tenant_a', "SELECT webhook_events.webhook_json('$webhook{a}') -> 'stats'"), '{"totalDispatches": 4}', 'all of it is counted');
like(as('tenant_a', "SELECT body FROM webhook_events.preview('$webhook{a}', '$own{a}')"), qr/run-a/, 'a preview');
is(as('tenant_a', "SELECT webhook_events.delete_webhook('$webhook{a}')"), '', 'and an end');
is(as('tenant_b', 'SELECT count(*) FROM webhook_events.webhooks'), 1, "which is not another's");

# A webhook that is given to another user takes nothing along of what was the first one's.
my $given = as('tenant_a', "SELECT id FROM webhook_events.create_webhook('" . $receiver->url('/status/503?given') . "', '{ACTOR.RUN.CREATED}')");
query("INSERT INTO actor_runs (id, actor_id, user_id) VALUES ('before-gift', 'shared', 'a')");
wait_for_sql($node, "SELECT count(*) FROM webhook_events.dispatches WHERE webhook_id = '$given' AND attempts = 1", 1);
is(as('manager', qq{SELECT user_id FROM webhook_events.update_webhook('$given', '{"userId": "b"}')}), 'b', 'a manager gives a webhook to another user');
is(as('tenant_b', "SELECT request_url FROM webhook_events.update_webhook('$given', '{\"requestUrl\": \"$url?given\"}')"), "$url?given", 'who takes it elsewhere');
wait_for_sql($node, "SELECT status FROM webhook_events.dispatches WHERE webhook_id = '$given'", 'FAILED');
query("INSERT INTO actor_runs (id, actor_id, user_id) VALUES ('after-gift', 'shared', 'a'), ('after-gift-b', 'shared', 'b')");
wait_for_end($node);
is(join(' ', map { $_->{body} =~ /"actorRunId":"([^"]+)"/ } grep { $_->{target} eq '/ok?given' } $receiver->requests), 'after-gift-b', 'what waited is not sent there');
is(as('tenant_b', "SELECT webhook_events.dispatches_json('$given') #>> '{items,0,eventData,actorRunId}', jsonb_array_length(webhook_events.dispatches_json('$given') -> 'items')"), 'after-gift-b|1', 'nor listed');
query("SELECT webhook_events.delete_webhook('$given')");

# Nor does a test that commits when it is another's by then.
$given = as('tenant_a', "SELECT id FROM webhook_events.create_webhook('$url?tested', '{ACTOR.RUN.CREATED}')");
my $giver = $node->background_psql('postgres', on_error_stop => 1, extra_params => [ '-U', 'tenant_a' ]);
$giver->query_safe("BEGIN; SELECT webhook_events.test_webhook('$given', 'run-a'), webhook_events.test_webhook('$given')");
is(as('manager', qq{SELECT user_id FROM webhook_events.update_webhook('$given', '{"userId": "b"}')}), 'b', 'a webhook is given away while it is tested');
$giver->query_safe('COMMIT');
$giver->quit;
wait_for_end($node);
is(as('tenant_b', "SELECT count(*) FROM webhook_events.dispatches WHERE webhook_id = '$given'"), 0, 'nobody sends in the name of whose it is then');
is(query("SELECT count(*) FROM webhook_events.audit(now() - interval '1 hour') WHERE webhook_id = '$given'"), 0, 'nor misses that');
like(as('manager', "SELECT webhook_events.test_webhook('$given', 'run-b')"), qr/^\w{17}$/, "a manager tests a user's webhook with its run");
is(as('manager', "SELECT webhook_events.test_webhook('$given', 'run-a')"), 'P0002: no attached table has a run or build "run-a"', "not with another's");
query("SELECT webhook_events.delete_webhook('$given')");

# Readers see no templates, no secrets, no credentials; nor do they with grants of a door that
# is not theirs.
query('GRANT SELECT ON webhook_events.webhooks TO reader; GRANT EXECUTE ON FUNCTION webhook_events.delete_webhook, webhook_events.webhook_secret TO reader');
is(as('reader', 'SELECT count(*) FROM webhook_events.webhooks'), 0, 'a reader sees no webhook in full');
like(as('reader', "SELECT webhook_events.$_('$webhook{b}')"), qr/^42704: webhook "\w+" does not exist/, "and can't call $_()") foreach qw(delete_webhook webhook_secret);
query('REVOKE SELECT ON webhook_events.webhooks FROM reader; REVOKE EXECUTE ON FUNCTION webhook_events.delete_webhook, webhook_events.webhook_secret FROM reader');
query("SELECT webhook_events.create_webhook('https://u:p\@example.com/x?key=secret&b=c#d', '{ACTOR.RUN.CREATED}', headers_template => '{\"Authorization\": \"secret\"}')");
is(as('reader', 'SELECT string_agg(request_url, $$ $$ ORDER BY id) FROM webhook_events.webhooks_masked'), $url =~ s{/ok$}{}r . ' https://example.com', 'URLs are masked');
like(as('reader', "SELECT $_ FROM webhook_events.webhooks"), qr/^42501: permission denied/, "$_ is not shown") foreach qw(headers_template secret request_url id);
like(as('reader', "SELECT webhook_events.$_"), qr/^42501: permission denied/, "nor $_")
  foreach "webhook_secret('$webhook{b}')", "preview('$webhook{b}', '$own{b}')", "create_webhook('$url', '{ACTOR.RUN.CREATED}')", "redeliver('$dispatch{b}')";
cmp_ok(as('reader', 'SELECT count(*) FROM webhook_events.events'), '>', 3, 'events are');
query('CREATE ROLE plain LOGIN; GRANT USAGE ON SCHEMA webhook_events TO plain; GRANT SELECT ON webhook_events.dispatches TO plain');
is(as('plain', 'SELECT count(*) FROM webhook_events.dispatches'), 0, 'a grant without an access shows nothing');
is(as('manager', "SELECT count(*) FROM webhook_events.webhooks"), 2, 'a manager sees all webhooks');
like(as('manager', "SELECT id FROM webhook_events.create_webhook('$url', '{ACTOR.RUN.CREATED}', user_id => 'c')"), qr/^\w{17}$/, 'and defines some for anyone');
sql_fails($node, "SELECT webhook_events.grant_access('reader', 'owner')", qr/22023: access "owner" does not exist/, 'other kinds of access do not exist');
is(query('SELECT last_error FROM webhook_events.status()'), '', 'the worker never failed');
$node->stop;
done_testing();
