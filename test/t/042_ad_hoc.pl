# 042_ad_hoc.pl
#	  Webhooks for one run: made with it, retired after it, back with it.

use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use WebhookEvents::Node;
use WebhookEvents::Receiver;

my $receiver = WebhookEvents::Receiver->new;
my $node = new_node('ad_hoc', conf => "webhook_events.retry_delay = '1h'\n");
my $base = $receiver->url('');

create_platform($node);

sub query
{
	my ($sql) = @_;

	return $node->safe_psql('postgres', $sql);
}

# The ad-hoc webhooks of a run: how many are enabled, and why the others aren't.
sub webhooks_of
{
	my ($run) = @_;

	return query("SELECT count(*) FILTER (WHERE is_enabled), string_agg(DISTINCT disabled_reason, ' ')"
		  . " FROM webhook_events.webhooks WHERE actor_run_id = '$run'");
}

sub wait_for_webhooks
{
	my ($run, $expected) = @_;

	wait_for_sql($node, "SELECT count(*) FILTER (WHERE is_enabled) || '|' || coalesce(string_agg(DISTINCT disabled_reason, ' '), '')"
		  . " FROM webhook_events.webhooks WHERE actor_run_id = '$run'", $expected);
	return;
}

# What was sent to a path; requests that are under way at once overtake each other.
sub types_sent
{
	my ($path) = @_;

	return join ' ', sort map { $_->{body} =~ /"eventType": "ACTOR\.RUN\.(\w+)"/ }
	  grep { $_->{target} eq $path } $receiver->requests;
}

# In the transaction that makes the run, as the platform's API gives them.
query(qq{BEGIN;
	INSERT INTO actor_runs (id, actor_id, user_id) VALUES ('run', 'a', 'ada');
	SELECT webhook_events.create_ad_hoc_webhooks('run', encode(convert_to(
		'[{"eventTypes": ["ACTOR.RUN.CREATED"], "requestUrl": "$base/ok?created"},
		  {"eventTypes": ["ACTOR.RUN.SUCCEEDED", "ACTOR.RUN.RESURRECTED"], "requestUrl": "$base/ok?ended"}]', 'UTF8'), 'base64'), 'ada');
	COMMIT});
$receiver->wait_for_requests(1, path => '/ok?created');
is(webhooks_of('run'), '2|', 'both are there');
query(q{UPDATE actor_runs SET status = 'RUNNING'});
query(q{UPDATE actor_runs SET status = 'SUCCEEDED'});
$receiver->wait_for_requests(1, path => '/ok?ended');
wait_for_webhooks('run', '0|Its run has ended.');
is(types_sent('/ok?created'), 'CREATED', 'one got the creation');
is(types_sent('/ok?ended'), 'SUCCEEDED', 'the other one the end, and after the end nothing is left active');

# A resurrected run has its webhooks again.
query(q{UPDATE actor_runs SET status = 'RUNNING'});
$receiver->wait_for_requests(2, path => '/ok?ended');
is(webhooks_of('run'), '2|', 'a resurrected run has its webhooks again');
query(q{UPDATE actor_runs SET status = 'FAILED'});
wait_for_webhooks('run', '0|Its run has ended.');
query(q{UPDATE actor_runs SET status = 'READY'; UPDATE actor_runs SET status = 'SUCCEEDED'});
$receiver->wait_for_requests(4, path => '/ok?ended');
wait_for_webhooks('run', '0|Its run has ended.');
is(types_sent('/ok?ended'), 'RESURRECTED RESURRECTED SUCCEEDED SUCCEEDED', 'which get what happens to it');
query(q{BEGIN; UPDATE actor_runs SET status = 'RUNNING'; UPDATE actor_runs SET status = 'ABORTED';
	UPDATE actor_runs SET status = 'RUNNING'; COMMIT});
$receiver->wait_for_requests(6, path => '/ok?ended');
wait_for_webhooks('run', '2|');
pass('the last of several changes in one transaction counts');

# A dispatch that waits keeps its webhook.
query(qq{BEGIN;
	INSERT INTO actor_runs (id, actor_id, user_id) VALUES ('kept', 'a', 'ada');
	SELECT webhook_events.create_ad_hoc_webhooks('kept', '[{"eventTypes": ["ACTOR.RUN.SUCCEEDED"], "requestUrl": "$base/hold/kept"},
		{"eventTypes": ["ACTOR.RUN.SUCCEEDED"], "requestUrl": "$base/flaky/kept/1"},
		{"eventTypes": ["ACTOR.RUN.FAILED"], "requestUrl": "$base/ok?never"}]'::jsonb);
	COMMIT;
	UPDATE actor_runs SET status = 'SUCCEEDED' WHERE id = 'kept'});
wait_for_webhooks('kept', '2|Its run has ended.');
wait_for_sql($node, q{SELECT count(*) FROM webhook_events.dispatches WHERE status = 'ACTIVE'}, 2);
is(webhooks_of('kept'), '2|Its run has ended.', 'webhooks with waiting dispatches stay enabled');
$receiver->release('kept');
wait_for_webhooks('kept', '1|Its run has ended.');
query(q{UPDATE webhook_events_internal.dispatches SET next_attempt_at = now() WHERE status = 'ACTIVE'; SELECT webhook_events_internal.wake_worker()});
wait_for_webhooks('kept', '0|Its run has ended.');
is(query(q{SELECT string_agg(DISTINCT status::text, ' ') FROM webhook_events.dispatches AS d JOIN webhook_events.webhooks AS w
	ON w.id = d.webhook_id WHERE w.actor_run_id = 'kept'}), 'SUCCEEDED', 'until these have ended');
is(types_sent('/ok?never'), '', 'one that can no longer fire retires at once');

# A webhook that somebody has disabled stays so.
query(qq{BEGIN; INSERT INTO actor_runs (id, actor_id) VALUES ('off', 'a');
	SELECT webhook_events.create_ad_hoc_webhooks('off', '[{"eventTypes": ["ACTOR.RUN.RESURRECTED"], "requestUrl": "$base/ok?off"}]'::jsonb); COMMIT;
	SELECT webhook_events.disable_webhook(id) FROM webhook_events.webhooks WHERE actor_run_id = 'off';
	UPDATE actor_runs SET status = 'FAILED' WHERE id = 'off'; UPDATE actor_runs SET status = 'READY' WHERE id = 'off'});
wait_for_sql($node, 'SELECT events_waiting FROM webhook_events.status()', 0);
is(webhooks_of('off'), '0|', 'a disabled one is not enabled by a resurrection');

# An ordinary webhook for one run does not retire, and a retired one can be
# enabled, sent again to and replayed to.
my $ordinary = create_webhook($node, $receiver->url('/ok?ordinary'), 'ACTOR.RUN.SUCCEEDED', actor_run_id => "'run'");
query(q{UPDATE actor_runs SET status = 'SUCCEEDED' WHERE id = 'run'});
$receiver->wait_for_requests(1, path => '/ok?ordinary');
wait_for_webhooks('run', '1|Its run has ended.');
is(query("SELECT is_enabled FROM webhook_events.webhooks WHERE id = '$ordinary'"), 't', 'an ordinary webhook for a run does not retire');
my $retired = query(q{SELECT id FROM webhook_events.webhooks WHERE actor_run_id = 'run' AND request_url LIKE '%created'});
is(query("SELECT webhook_events.replay('$retired', now() - interval '1 hour')"), 1, 'past events can be sent to a retired one');
$receiver->wait_for_requests(2, path => '/ok?created');
wait_for_sql($node, 'SELECT dispatches_active FROM webhook_events.status()', 0);
is(query("SELECT is_enabled, is_retired, disabled_reason FROM webhook_events.enable_webhook('$retired')"), 't|f|', 'and it can be enabled');

# The end of a run is not forgotten while somebody has locked its webhooks, one of them
# or all, whatever becomes of the worker and of the server.
foreach my $lock ("SELECT FROM webhook_events_internal.webhooks WHERE actor_run_id = 'locked row' FOR UPDATE",
	'LOCK TABLE webhook_events_internal.webhooks IN EXCLUSIVE MODE')
{
	my $run = $lock =~ /FOR UPDATE/ ? 'locked row' : 'locked table';
	my $session = $node->background_psql('postgres', on_error_stop => 1);

	query(qq{BEGIN; INSERT INTO actor_runs (id, actor_id) VALUES ('$run', 'a');
		SELECT webhook_events.create_ad_hoc_webhooks('$run', '[{"eventTypes": ["ACTOR.RUN.SUCCEEDED"], "requestUrl": "$base/ok"}]'::jsonb); COMMIT});
	$session->query_safe("BEGIN; $lock");
	query("UPDATE actor_runs SET status = 'SUCCEEDED' WHERE id = '$run'");
	wait_for_sql($node, q{SELECT count(*) FROM webhook_events.dispatches AS d JOIN webhook_events.webhooks AS w ON w.id = d.webhook_id}
		  . qq{ WHERE w.actor_run_id = '$run' AND d.status = 'SUCCEEDED'}, 1);
	wait_for_sql($node, 'SELECT events_waiting FROM webhook_events.status()', 0);
	is(query("SELECT string_agg(run_id, ' ') FROM webhook_events_internal.ended_runs"), $run, "$run: its end waits in a table");
	is(webhooks_of($run), '1|', 'the webhook is as it was');
	$node->stop('immediate');
	eval { $session->quit };
	$node->start;
	wait_for_webhooks($run, '0|Its run has ended.');
	wait_for_sql($node, 'SELECT count(*) FROM webhook_events_internal.ended_runs', 0);
}

# Nor are those that are skipped: a dispatch that waited, and an end that nobody will read.
query(qq{BEGIN; INSERT INTO actor_runs (id, actor_id) VALUES ('skipped', 'a'), ('unread', 'a'), ('lives', 'a');
	SELECT webhook_events.create_ad_hoc_webhooks('skipped', '[{"eventTypes": ["ACTOR.RUN.SUCCEEDED"], "requestUrl": "$base/status/500"}]'::jsonb);
	SELECT webhook_events.create_ad_hoc_webhooks(run, '[{"eventTypes": ["ACTOR.RUN.SUCCEEDED"], "requestUrl": "$base/ok"}]'::jsonb)
	FROM unnest('{unread,lives}'::text[]) AS run; COMMIT;
	UPDATE actor_runs SET status = 'SUCCEEDED' WHERE id = 'skipped'});
wait_for_sql($node, q{SELECT count(*) FROM webhook_events.dispatches WHERE status = 'ACTIVE' AND attempts = 1}, 1);
query(q{SELECT webhook_events.pause();
	UPDATE actor_runs SET status = 'SUCCEEDED' WHERE id IN ('unread', 'lives');
	UPDATE actor_runs SET status = 'RUNNING' WHERE id = 'lives';
	SELECT webhook_events.resume('skip')});
wait_for_webhooks('skipped', '0|Its run has ended.');
wait_for_webhooks('unread', '0|Its run has ended.');
is(webhooks_of('lives'), '1|', 'one whose run was resurrected lives, whatever was skipped');

# One that is made after its run's end was routed retires at once, whatever made it and
# however long ago the end was: of these runs no event is left.
sub wait_until_checked
{
	wait_for_sql($node, 'SELECT count(*) FROM webhook_events_internal.runs_to_check', 0);
	return;
}

sub create_ad_hoc
{
	my ($run) = @_;

	return qq{SELECT webhook_events.create_ad_hoc_webhooks('$run',
		'[{"eventTypes": ["ACTOR.RUN.SUCCEEDED", "ACTOR.RUN.RESURRECTED"], "requestUrl": "$base/ok?late"}]'::jsonb);};
}

query(q{BEGIN; SET LOCAL webhook_events.emit = off;
	INSERT INTO actor_runs (id, actor_id, status) VALUES ('old', 'a', 'TIMED-OUT'), ('older', 'a', 'SUCCEEDED'), ('goes on', 'a', 'RUNNING');
	CREATE TABLE other_runs (id uuid PRIMARY KEY, actor_id text, status text);
	SELECT webhook_events.attach('other_runs', 'run');
	INSERT INTO other_runs VALUES ('00000000-0000-0000-0000-000000000001', 'a', 'FAILED'); COMMIT});
query(create_ad_hoc('old') . create_ad_hoc('goes on') . create_ad_hoc('nobody') . create_ad_hoc('00000000-0000-0000-0000-000000000001')
	  . qq{SELECT webhook_events.create_webhook('$base/ok?late', '{ACTOR.RUN.CREATED}', actor_run_id => 'old', is_ad_hoc => true);
	SELECT webhook_events.create_webhook('{"requestUrl": "$base/ok?late", "eventTypes": ["ACTOR.RUN.FAILED"], "condition": {"actorRunId": "old"}, "isAdHoc": true}'::jsonb);
	SELECT webhook_events.create_webhook('$base/ok?late', '{ACTOR.RUN.RESURRECTED}', actor_run_id => 'older')});
wait_for_webhooks('old', '0|Its run has ended.');
wait_for_webhooks('00000000-0000-0000-0000-000000000001', '0|Its run has ended.');
wait_until_checked();
is(webhooks_of('goes on'), '1|', 'one whose run goes on stays');
is(webhooks_of('nobody'), '1|', 'one whose run is not there yet as well');
is(webhooks_of('older'), '1|', 'and one that is not ad-hoc');
query(q{SELECT webhook_events.update_webhook(id, '{"isAdHoc": true}') FROM webhook_events.webhooks WHERE actor_run_id = 'older'});
wait_for_webhooks('older', '0|Its run has ended.');
query(q{SELECT webhook_events.enable_webhook(id) FROM webhook_events.webhooks WHERE actor_run_id = 'older'});
wait_until_checked();
is(webhooks_of('older'), '1|', 'one that somebody enables again after that stays');
query(q{UPDATE actor_runs SET status = 'RUNNING' WHERE id = 'old'});
$receiver->wait_for_requests(1, path => '/ok?late');
wait_for_webhooks('old', '3|');
is(types_sent('/ok?late'), 'RESURRECTED', 'when its run is resurrected it gets that');
query(q{UPDATE actor_runs SET status = 'SUCCEEDED' WHERE id = 'old'; INSERT INTO actor_runs (id, actor_id) VALUES ('nobody', 'a');
	UPDATE actor_runs SET status = 'SUCCEEDED' WHERE id IN ('nobody', 'goes on')});
$receiver->wait_for_requests(4, path => '/ok?late');
wait_for_webhooks($_, '0|Its run has ended.') foreach 'old', 'nobody', 'goes on';
is(types_sent('/ok?late'), 'RESURRECTED SUCCEEDED SUCCEEDED SUCCEEDED', 'and the next end, as do those that had stayed');

# While it is made the run ends, in a transaction that is seen before or after it.
foreach my $first ('webhook', 'end')
{
	my $run = "ends before the $first";
	my %session = map { $_ => $node->background_psql('postgres', on_error_stop => 1) } 'webhook', 'end';
	my $sent = () = types_sent('/ok?late') =~ /\w+/g;

	query("INSERT INTO actor_runs (id, actor_id) VALUES ('$run', 'a')");
	$session{webhook}->query_safe('BEGIN;' . create_ad_hoc($run));
	$session{end}->query_safe("BEGIN; UPDATE actor_runs SET status = 'SUCCEEDED' WHERE id = '$run'");
	if ($first eq 'webhook')
	{
		$session{webhook}->query_safe('COMMIT');
		wait_until_checked();
		is(webhooks_of($run), '1|', 'one whose run ends in a transaction that is under way stays');
		$session{end}->query_safe('COMMIT');
		$receiver->wait_for_requests($sent + 1, path => '/ok?late');
		pass('until that is seen, and gets it');
	}
	else
	{
		$session{end}->query_safe('COMMIT');
		wait_for_sql($node, 'SELECT events_waiting FROM webhook_events.status()', 0);
		$session{webhook}->query_safe('COMMIT');
	}
	wait_for_webhooks($run, '0|Its run has ended.');
	$_->quit foreach values %session;
}

# Something may wait for it, and its run may be resurrected, in a transaction that had begun before.
{
	my $session = $node->background_psql('postgres', on_error_stop => 1);
	my $sent = () = types_sent('/ok?late') =~ /\w+/g;

	query(q{INSERT INTO actor_runs (id, actor_id) VALUES ('waits', 'a')});
	query(qq{SELECT webhook_events.create_webhook('$base/hold/waits', '{ACTOR.RUN.ABORTED}', actor_run_id => 'waits', is_ad_hoc => true);}
		  . create_ad_hoc('waits') . q{SELECT webhook_events.test_webhook(id) FROM webhook_events.webhooks WHERE request_url LIKE '%/hold/waits'});
	wait_for_sql($node, q{SELECT count(*) FROM webhook_events.dispatches AS d JOIN webhook_events.webhooks AS w ON w.id = d.webhook_id
		WHERE w.actor_run_id = 'waits' AND d.status = 'ACTIVE'}, 1);
	wait_until_checked();
	query(q{BEGIN; SET LOCAL webhook_events.emit = off; UPDATE actor_runs SET status = 'FAILED' WHERE id = 'waits'; COMMIT});
	$session->query_safe(q{BEGIN; UPDATE actor_runs SET status = 'RUNNING' WHERE id = 'waits'});
	query(q{SELECT webhook_events_internal.check_run('waits')});
	wait_for_webhooks('waits', '1|Its run has ended.');
	is(query(q{SELECT count(*) FROM webhook_events_internal.ended_runs WHERE run_id = 'waits'}), 1, 'a late end is kept while a dispatch waits');
	$session->query_safe('COMMIT');
	$session->quit;
	$receiver->wait_for_requests($sent + 1, path => '/ok?late');
	wait_for_webhooks('waits', '2|');
	is(query(q{SELECT count(*) FROM webhook_events_internal.ended_runs WHERE run_id = 'waits'}), 0, 'unless the run was resurrected meanwhile');
	$receiver->release('waits');
	wait_until
	{
		query(q{UPDATE webhook_events_internal.dispatches SET next_attempt_at = now() WHERE status = 'ACTIVE' AND attempts > 0;
			SELECT webhook_events_internal.wake_worker()});
		query('SELECT dispatches_active FROM webhook_events.status()') == 0;
	}
	'all has ended';
	is(webhooks_of('waits'), '2|', 'then nothing retires when that ends');
}

# Where the transaction has made the run itself nobody needs to look.
is(query('BEGIN; ' . q{INSERT INTO actor_runs (id, actor_id) VALUES ('own', 'a');} . create_ad_hoc('own') . create_ad_hoc('own')
	  . q{SELECT 'rows: ' || count(*) FROM webhook_events_internal.runs_to_check; COMMIT}) =~ /^rows: (\d+)$/m ? $1 : '', 0,
	'nobody looks for the end of a run that is made in the same transaction');
is(query('BEGIN; SAVEPOINT s; ' . q{INSERT INTO actor_runs (id, actor_id) VALUES ('undone', 'a'); ROLLBACK TO s;} . create_ad_hoc('undone')
	  . q{SELECT 'rows: ' || count(*) FROM webhook_events_internal.runs_to_check; COMMIT}) =~ /^rows: (\d+)$/m ? $1 : '', 1,
	'but for that of one that was undone');

# Tables that somebody has locked are asked later, and hold nobody up.
{
	my $session = $node->background_psql('postgres', on_error_stop => 1);

	query(q{BEGIN; SET LOCAL webhook_events.emit = off; INSERT INTO actor_runs (id, actor_id, status) VALUES ('hidden', 'a', 'FAILED'); COMMIT});
	wait_until_checked();
	$session->query_safe('BEGIN; LOCK TABLE actor_runs');
	query(create_ad_hoc('hidden'));
	create_webhook($node, $receiver->url('/ok?build'), 'ACTOR.BUILD.CREATED');
	query(q{INSERT INTO actor_builds (id, actor_id) VALUES ('build', 'a')});
	$receiver->wait_for_requests(1, path => '/ok?build');
	is(webhooks_of('hidden'), '1|', 'while the table of runs is locked nothing is decided');
	$session->query_safe('COMMIT');
	$session->quit;
	wait_for_webhooks('hidden', '0|Its run has ended.');
	wait_until_checked();
}

# A webhook that somebody has locked while its run is resurrected gets that, and lives again.
{
	my $session = $node->background_psql('postgres', on_error_stop => 1);
	my $sent = () = types_sent('/ok?late') =~ /\w+/g;

	$session->query_safe("BEGIN; SELECT FROM webhook_events_internal.webhooks WHERE actor_run_id = 'goes on' FOR UPDATE");
	query(q{UPDATE actor_runs SET status = 'RUNNING' WHERE id = 'goes on'});
	$receiver->wait_for_requests($sent + 1, path => '/ok?late');
	like(types_sent('/ok?late'), qr/RESURRECTED RESURRECTED/, 'a locked one gets the resurrection of its run');
	is(webhooks_of('goes on'), '0|Its run has ended.', 'before it is enabled');
	$session->query_safe('COMMIT');
	$session->quit;
	wait_for_webhooks('goes on', '1|');
	wait_until_checked();
}

# Nor is the end of a run for whose webhooks something waits, whoever starts anew.
query(qq{BEGIN; INSERT INTO actor_runs (id, actor_id) VALUES ('survives', 'a');
	SELECT webhook_events.create_ad_hoc_webhooks('survives', '[{"eventTypes": ["ACTOR.RUN.SUCCEEDED"], "requestUrl": "$base/flaky/survives/1"},
		{"eventTypes": ["ACTOR.RUN.FAILED"], "requestUrl": "$base/ok?never"}]'::jsonb); COMMIT;
	UPDATE actor_runs SET status = 'SUCCEEDED' WHERE id = 'survives'});
wait_for_sql($node, q{SELECT count(*) FROM webhook_events.dispatches AS d JOIN webhook_events.webhooks AS w ON w.id = d.webhook_id
	WHERE w.actor_run_id = 'survives' AND d.status = 'ACTIVE' AND d.attempts = 1}, 1);
wait_for_webhooks('survives', '1|Its run has ended.');
is(query(q{SELECT count(*) FROM webhook_events_internal.ended_runs WHERE run_id = 'survives'}), 1, 'the end of a run is kept while a dispatch waits');
$node->stop('immediate');
$node->start;
is(webhooks_of('survives'), '1|Its run has ended.', 'nor does a crash end that');
query(q{UPDATE webhook_events_internal.dispatches SET next_attempt_at = now() WHERE status = 'ACTIVE'; SELECT webhook_events_internal.wake_worker()});
wait_for_webhooks('survives', '0|Its run has ended.');
wait_for_sql($node, 'SELECT count(*) FROM webhook_events_internal.ended_runs', 0);

# Settings that would refuse its URL today are no obstacle to its end.
query(qq{BEGIN; INSERT INTO actor_runs (id, actor_id) VALUES ('refused', 'a');
	SELECT webhook_events.create_ad_hoc_webhooks('refused', '[{"eventTypes": ["ACTOR.RUN.FAILED"], "requestUrl": "$base/ok"}]'::jsonb); COMMIT;
	ALTER SYSTEM SET webhook_events.allowed_networks = '10.0.0.0/8'});
$node->reload;
wait_for_sql($node, 'SHOW webhook_events.allowed_networks', '10.0.0.0/8');
query(q{UPDATE actor_runs SET status = 'FAILED' WHERE id = 'refused'});
wait_for_webhooks('refused', '0|Its run has ended.');
like(query(q{SELECT status, error_message FROM webhook_events.dispatches AS d JOIN webhook_events.webhooks AS w
	ON w.id = d.webhook_id WHERE w.actor_run_id = 'refused'}), qr/^FAILED\|address 127\.0\.0\.1 is not allowed/, 'one whose address was forbidden retires as well');

# After the retention they are gone, along with their statistics.
query(q{SET session_replication_role = replica;
	CREATE TEMP TABLE past AS SELECT id, left(webhook_events.id_lower_bound(now() - interval '40 days'), length(id) - 6) || right(id, 6) AS new
		FROM webhook_events_internal.webhooks WHERE is_ad_hoc;
	UPDATE webhook_events_internal.webhooks AS w SET id = p.new, modified_at = now() - interval '40 days' FROM past AS p WHERE p.id = w.id;
	UPDATE webhook_events_internal.webhook_stats AS s SET webhook_id = p.new FROM past AS p WHERE p.id = s.webhook_id});
$node->restart;
wait_for_sql($node, 'SELECT count(*) FROM webhook_events.webhooks WHERE is_ad_hoc AND NOT is_enabled', 0);
is(query('SELECT string_agg(actor_run_id, $$ $$ ORDER BY actor_run_id COLLATE "C") FROM webhook_events.webhooks WHERE actor_run_id IS NOT NULL'), 'goes on lives older own own run run undone waits waits', 'after the retention retired ones are deleted');
is(query('SELECT count(*) FROM webhook_events_internal.webhook_stats WHERE webhook_id NOT IN (SELECT id FROM webhook_events.webhooks)'), 0, 'with what was counted of them');
is(query('SELECT last_error FROM webhook_events.status()'), '', 'the worker never failed');
$node->stop;
done_testing();
