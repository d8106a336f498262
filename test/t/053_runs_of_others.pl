# 053_runs_of_others.pl
#	  An ad-hoc webhook that names another user's run: it is as if there were no
#	  such run, whatever becomes of that and whenever the webhook was made.

use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use WebhookEvents::Node;
use WebhookEvents::Receiver;

my $receiver = WebhookEvents::Receiver->new;
my $node = new_node('others', conf => "webhook_events.retry_delay = '1h'\n");
my $url = $receiver->url('/ok');

create_platform($node);

sub query { return $node->safe_psql('postgres', $_[0]); }

sub as
{
	my ($role, $sql) = @_;

	return $node->safe_psql('postgres', $sql, extra_params => [ '-U', $role ]);
}

query(q{CREATE ROLE tenant_a LOGIN; CREATE ROLE tenant_b LOGIN; CREATE ROLE manager LOGIN;
	SELECT webhook_events.grant_access('tenant_a', 'tenant', 'a'), webhook_events.grant_access('tenant_b', 'tenant', 'b'),
		webhook_events.grant_access('manager', 'manager');
	CREATE TABLE other_runs (id text PRIMARY KEY, actor_id text, user_id text, status text);
	SELECT webhook_events.attach('other_runs', 'run')});

# A tenant's ad-hoc webhook for a run; its id.
sub create
{
	my ($user, $run, $path) = @_;
	my $to = defined $path ? $receiver->url($path) : $url;

	return as("tenant_$user", qq{SELECT id FROM webhook_events.create_ad_hoc_webhooks('$run',
		'[{"eventTypes": ["ACTOR.RUN.SUCCEEDED", "ACTOR.RUN.RESURRECTED"], "requestUrl": "$to"}]'::jsonb)});
}

# All that its user is shown of a webhook, but for what every webhook has for itself.
sub seen
{
	my ($user, $id) = @_;

	return as("tenant_$user", qq{SELECT to_jsonb(w) - '{id,secret,created_at,modified_at,created_xid,created_in,begun_at,actor_run_id}'::text[],
		modified_at = created_at FROM webhook_events.webhooks AS w WHERE id = '$id'});
}

sub is_retired { return query("SELECT is_retired FROM webhook_events_internal.webhooks WHERE id = '$_[0]'"); }

sub wait_for_retirement
{
	wait_for_sql($node, "SELECT is_retired FROM webhook_events_internal.webhooks WHERE id = '$_[0]'", 't');
	return;
}

sub end { query("UPDATE actor_runs SET status = 'SUCCEEDED' WHERE id = '$_[0]'"); return; }

# What had ended before this has been seen to then.
my $nruns = 0;

sub settle
{
	my $run = 'settled ' . $nruns++;

	query("INSERT INTO actor_runs (id, actor_id, user_id) VALUES ('$run', 'x', 'a')");
	my $webhook = create('a', $run);
	end($run);
	wait_for_retirement($webhook);
	wait_for_sql($node, 'SELECT count(*) FROM webhook_events_internal.runs_to_check', 0);
	return;
}

# No run has this id, ever: what is shown of such a webhook is what a spy may see.
my $blank = seen('b', create('b', 'no such run'));

like($blank, qr/"run_ended": false.*\|t$/, 'what is shown of a webhook whose run does not exist');

# Made before the end, with the platform's own, which belongs to nobody, beside it.
query("INSERT INTO actor_runs (id, actor_id, user_id) VALUES ('secret', 'x', 'a')");
my $own = create('a', 'secret');
my $spy = create('b', 'secret');
my $platform = query(qq{SELECT id FROM webhook_events.create_webhook('$url', '{ACTOR.RUN.SUCCEEDED}', actor_run_id => 'secret', is_ad_hoc => true)});
settle();
end('secret');
wait_for_retirement($own);
wait_for_retirement($platform);
settle();
is(seen('b', $spy), $blank, 'nobody is told of the end of another\'s run');
is(query('SELECT count(*) FROM webhook_events_internal.ended_runs'), 0, 'nor does the end wait for that webhook');

# Made after it.
my $late = create('b', 'secret');
my $own_late = create('a', 'secret');
wait_for_retirement($own_late);
settle();
is(seen('b', $late), $blank, 'nor who comes after it');
my @errors = map { ($node->psql('postgres', "SELECT webhook_events.explain_run('$_')", extra_params => [ '-U', 'tenant_b' ]))[2] =~ s/"$_"/it/r } 'secret', 'no such run';
is($errors[0], $errors[1], 'explain_run() knows as little of it');

# What makes the end of a run wait: a dispatch, somebody who locks the row.
query("INSERT INTO actor_runs (id, actor_id, user_id) VALUES ('waits', 'x', 'a')");
my $waits = create('a', 'waits');
my $held = create('b', 'waits', '/hold/test');
as('tenant_b', "SELECT webhook_events.test_webhook('$held')");
wait_for_sql($node, "SELECT count(*) FROM webhook_events_internal.dispatches WHERE webhook_id = '$held' AND status = 'ACTIVE'", 1);
my $locker = $node->background_psql('postgres', on_error_stop => 1);
$locker->query_safe("BEGIN; SELECT FROM webhook_events_internal.webhooks WHERE id = '$spy' FOR UPDATE");
end('waits');
query("UPDATE actor_runs SET status = 'RUNNING' WHERE id = 'secret'");
wait_for_retirement($waits);
end('secret');
settle();
wait_for_sql($node, 'SELECT count(*) FROM webhook_events_internal.ended_runs', 0);
pass('another\'s end is not kept for it');
$receiver->release('test');
wait_for_sql($node, "SELECT count(*) FROM webhook_events_internal.dispatches WHERE webhook_id = '$held' AND status = 'SUCCEEDED'", 1);
settle();
$locker->query_safe('COMMIT');
$locker->quit;
is(seen('b', $held), $blank =~ s{"request_url": "[^"]*"}{sprintf '"request_url": "%s"', $receiver->url('/hold/test')}er,
	'nor does it retire when its last dispatch has ended');
is(seen('b', $spy), $blank, 'a lock tells as little');

# A run of one's own with the same id, in another table, is another run.
query("INSERT INTO other_runs VALUES ('secret', 'x', 'b', 'READY'); UPDATE actor_runs SET status = 'READY' WHERE id = 'secret'");
settle();
is(is_retired($_), 'f', 'while the run goes on its webhooks are there') foreach $own, $platform;
query("UPDATE other_runs SET status = 'SUCCEEDED'");
wait_for_retirement($spy);
wait_for_retirement($late);
settle();
is(is_retired($own), 'f', 'one\'s own run retires one\'s own webhooks alone');
end('secret');
wait_for_retirement($own);
query("UPDATE actor_runs SET status = 'RUNNING' WHERE id = 'secret'");
wait_for_sql($node, "SELECT is_retired FROM webhook_events_internal.webhooks WHERE id = '$own'", 'f');
settle();
is(is_retired($_), 't', 'and another\'s resurrection brings none of them back') foreach $spy, $late;

# Looked up late: each user's by the user's own row, nobody's when all have ended.
my %made = (a => create('a', 'secret'), b => create('b', 'secret'),
	'' => query(qq{SELECT id FROM webhook_events.create_webhook('$url', '{ACTOR.RUN.SUCCEEDED}', actor_run_id => 'secret', is_ad_hoc => true)}));
wait_for_retirement($made{b});
settle();
is(is_retired($made{$_}), 'f', "that of '$_' has not ended") foreach 'a', '';
query(q{BEGIN; SET LOCAL webhook_events.emit = off; UPDATE actor_runs SET status = 'SUCCEEDED' WHERE id = 'secret'; COMMIT;
	SELECT webhook_events_internal.check_run('secret')});
wait_for_retirement($made{$_}) foreach 'a', '';
pass('until it has');

# Ends that are skipped.
query("INSERT INTO actor_runs (id, actor_id, user_id) VALUES ('skipped', 'x', 'a')");
my $skipped = create('a', 'skipped');
my $not_skipped = create('b', 'skipped');
settle();
query(q{SELECT webhook_events.pause(); UPDATE actor_runs SET status = 'SUCCEEDED' WHERE id = 'skipped'; SELECT webhook_events.resume('skip')});
wait_for_retirement($skipped);
settle();
is(seen('b', $not_skipped), $blank, 'nor of one that is skipped');

# Whose a run is is what its row says when it ends; and a run of nobody's is nobody's.
query("INSERT INTO actor_runs (id, actor_id, user_id) VALUES ('moved', 'x', 'b'), ('nobody''s', 'x', NULL), ('long', 'x', repeat('b', 5000))");
my %other = map { $_ => create('b', $_ =~ s/'/''/r) } 'moved', "nobody's", 'long';
my $nobody = query(qq{SELECT id FROM webhook_events.create_webhook('$url', '{ACTOR.RUN.SUCCEEDED}', actor_run_id => 'long', is_ad_hoc => true)});
settle();
query("UPDATE actor_runs SET user_id = 'a' WHERE id = 'moved'; UPDATE actor_runs SET status = 'SUCCEEDED' WHERE id IN ('moved', 'nobody''s', 'long')");
wait_for_retirement($nobody);
settle();
is(seen('b', $other{$_}), $blank, "nor of run $_, which is not its user's any more") foreach sort keys %other;
my $given = $other{moved};
as('manager', qq{SELECT webhook_events.update_webhook('$given', '{"userId": "a"}')});
wait_for_retirement($given);
as('manager', qq{SELECT webhook_events.update_webhook('$given', '{"userId": "b"}')});
settle();
is(query("SELECT run_ended, run_changed_at IS NULL FROM webhook_events_internal.webhooks WHERE id = '$given'"), 'f|t', 'who is given a webhook is not told what it knew');

is(query('SELECT last_error FROM webhook_events.status()'), '', 'the worker never failed');
$node->stop;
$receiver->stop;
done_testing();
