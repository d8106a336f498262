# 056_owners.pl
#	  What the owner of an attached table makes of it runs with nobody else's rights,
#	  crashes no session and keeps the worker, who serves all, from nothing.

use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use WebhookEvents::Node;
use WebhookEvents::Receiver;

my $receiver = WebhookEvents::Receiver->new;
my $node = new_node('owners', conf => "webhook_events.retry_delay = '1h'\nlog_statement = none\n");
my $url = $receiver->url('/ok');

create_platform($node);

sub query { return $node->safe_psql('postgres', $_[0]); }

# Runs SQL as a role: what it prints, or its error with what follows.
sub as
{
	my ($role, $sql) = @_;
	my ($status, $stdout, $stderr) = $node->psql('postgres', "\\set VERBOSITY verbose\n$sql",
		extra_params => [ '-U', $role ]);

	return $status == 0 && $stderr !~ /ERROR/ ? $stdout : $stderr =~ /ERROR:  (.*)/s ? $1 : $stderr;
}

query(<<'SQL');
CREATE ROLE mallory LOGIN; CREATE ROLE manager LOGIN; CREATE ROLE tenant_a LOGIN; CREATE ROLE boss SUPERUSER LOGIN;
SELECT webhook_events.grant_access('manager', 'manager'), webhook_events.grant_access('tenant_a', 'tenant', 'a');
CREATE SCHEMA mine AUTHORIZATION mallory;
GRANT USAGE ON SCHEMA webhook_events TO mallory;
GRANT EXECUTE ON FUNCTION webhook_events.attach, webhook_events.detach TO mallory;
CREATE TABLE public.seen (who text, code text);
GRANT INSERT, SELECT, DELETE ON public.seen TO PUBLIC;
CREATE FUNCTION public.note(code text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN INSERT INTO public.seen VALUES (current_user, code); END $$;
SQL
my $who = q{SELECT string_agg(DISTINCT who, ' ') FROM seen};

# The key of a partitioned table is read, and what is constant in it called, by whoever puts
# triggers on it.  A function that is stable to the eye calls one that is not.
is(as('mallory', <<'SQL'), '', 'an owner has keys that call functions');
CREATE FUNCTION mine.rise(code text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN PERFORM public.note(code); EXECUTE 'ALTER ROLE mallory SUPERUSER'; EXCEPTION WHEN insufficient_privilege THEN NULL; END $$;
CREATE FUNCTION mine.zero() RETURNS int IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN PERFORM mine.rise('key'); RETURN 0; END $$;
CREATE FUNCTION mine.plus(int, int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN PERFORM mine.rise('operator'); RETURN $1 + $2; END $$;
CREATE OPERATOR mine.+ (LEFTARG = int, RIGHTARG = int, FUNCTION = mine.plus);
CREATE FUNCTION mine.hidden(text) RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT length($1) + mine.zero()';
CREATE TABLE mine.key_runs (id text, actor_id text, status text, user_id text) PARTITION BY LIST ((length(id) + mine.zero()));
CREATE TABLE mine.key_runs_all PARTITION OF mine.key_runs DEFAULT;
CREATE TABLE mine.operator_runs (id text, actor_id text, status text, user_id text) PARTITION BY LIST ((length(id) * (1 OPERATOR(mine.+) 1)));
CREATE TABLE mine.operator_runs_all PARTITION OF mine.operator_runs DEFAULT;
CREATE TABLE mine.inlined_runs (id text, actor_id text, status text, user_id text) PARTITION BY LIST (mine.hidden(id));
CREATE TABLE mine.inlined_runs_all PARTITION OF mine.inlined_runs DEFAULT;
CREATE TABLE mine.below_runs (id text, actor_id text, status text, user_id text) PARTITION BY LIST (actor_id);
CREATE TABLE mine.below_runs_x PARTITION OF mine.below_runs FOR VALUES IN ('x') PARTITION BY LIST ((length(id) + mine.zero()));
CREATE TABLE mine.below_runs_all PARTITION OF mine.below_runs_x DEFAULT;
CREATE FUNCTION mine.one() RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT 1';
CREATE TABLE mine.vouched_runs (id text, actor_id text, status text, user_id text) PARTITION BY LIST ((length(id) + mine.one()));
CREATE TABLE mine.vouched_runs_all PARTITION OF mine.vouched_runs DEFAULT;
CREATE TABLE mine.plain_runs (id text, actor_id text, status text, user_id text) PARTITION BY LIST ((length(id) + abs(-1)));
CREATE TABLE mine.plain_runs_all PARTITION OF mine.plain_runs DEFAULT;
SQL
query('DELETE FROM seen');
foreach my $role (qw(mallory boss))
{
	foreach my $table (qw(key operator inlined below vouched))
	{
		like(as($role, "SELECT webhook_events.attach('mine.${table}_runs', on_replica => true)"),
			qr/^42501: partition key of table "${table}_runs(?:_x)?" calls function mine\.\w+\(.*\), which belongs to no superuser\nDETAIL/, "$role attaches no table whose key does: $table");
	}
}
is(query($who), '', 'none of them was called');
is(query("SELECT rolsuper FROM pg_roles WHERE rolname = 'mallory'"), 'f', 'and nobody has become more');
is(as('mallory', "SELECT webhook_events.attach('mine.plain_runs', on_replica => true)"), '', 'one that calls what PostgreSQL has is attached');
is(as('mallory', "SELECT webhook_events.attach('mine.key_runs_all'); INSERT INTO mine.key_runs VALUES ('k1', 'x', 'READY', 'a')"), '', 'and so is a partition');
is(query("SELECT count(*) FROM webhook_events.events WHERE actor_run_id = 'k1'"), 1, 'which raises its events');
query('ALTER FUNCTION mine.one() OWNER TO boss');
is(as('mallory', "SELECT webhook_events.attach('mine.vouched_runs')"), '', 'a superuser vouches for a function by owning it');

# Who does not own a table is told so, and waits for no lock before.
my $locker = $node->background_psql('postgres', on_error_stop => 1);
$locker->query_safe('BEGIN; LOCK TABLE actor_runs');
like(as('mallory', "SET lock_timeout = '1ms'; SELECT webhook_events.$_('public.actor_runs')"), qr/^42501: must be owner of table actor_runs/, "who does not own a table does not wait to $_ it")
  foreach qw(attach detach);
$locker->query_safe('COMMIT');
$locker->quit;

# PostgreSQL asks who makes a partition for the right to execute its parent's triggers' functions:
# the owner has it, and makes no triggers of another kind with it.
is(as('mallory', <<'SQL'), '', 'an owner makes partitions of what is attached');
CREATE TABLE mine.parted_builds (id text, actor_id text, status text, user_id text) PARTITION BY LIST (actor_id);
DO $$ BEGIN PERFORM webhook_events.attach('mine.parted_builds'); END $$;
CREATE TABLE mine.parted_builds_x PARTITION OF mine.parted_builds FOR VALUES IN ('x');
CREATE TABLE mine.parted_builds_y (LIKE mine.parted_builds);
ALTER TABLE mine.parted_builds ATTACH PARTITION mine.parted_builds_y FOR VALUES IN ('y');
INSERT INTO mine.parted_builds VALUES ('b1', 'x', 'READY', 'a'), ('b2', 'y', 'READY', 'a');
SQL
is(query("SELECT string_agg(actor_build_id, ' ' ORDER BY actor_build_id) FROM webhook_events.events WHERE actor_build_id LIKE 'b_'"), 'b1 b2', 'whose rows raise their events');
query("SELECT webhook_events.grant_access('mallory', 'tenant', 'm'), webhook_events.revoke_access('mallory'); GRANT USAGE ON SCHEMA webhook_events TO mallory; GRANT EXECUTE ON FUNCTION webhook_events.attach, webhook_events.detach TO mallory");
is(as('mallory', "CREATE TABLE mine.parted_builds_z PARTITION OF mine.parted_builds FOR VALUES IN ('z')"), '', 'and after it has lost an access, too');
as('mallory', 'CREATE TABLE mine.own_builds (id text, actor_id text, status text, user_id text); CREATE TABLE mine.own_copy (LIKE mine.own_builds)');
foreach my $argument ('no JSON', '{"columns": {"id": ["status", 1]}}', '')
{
	foreach my $kind ('CREATE TRIGGER t AFTER INSERT ON %s FOR EACH ROW', 'CREATE CONSTRAINT TRIGGER t AFTER UPDATE ON %s DEFERRABLE INITIALLY DEFERRED FOR EACH ROW', 'CREATE TRIGGER t AFTER INSERT ON %s FOR EACH STATEMENT')
	{
		like(as('mallory', sprintf("$kind EXECUTE FUNCTION webhook_events.build_changed(%s)", 'mine.own_builds', $argument ? "'$argument'" : '')), qr/^42501: permission denied for function build_changed/, "no trigger is made by hand: $kind, $argument");
	}
}
like(as('mallory', "CREATE OR REPLACE TRIGGER webhook_events_insert AFTER INSERT ON mine.parted_builds FOR EACH ROW EXECUTE FUNCTION webhook_events.build_changed('x')"), qr/^42501: permission denied for function build_changed/, 'nor replaced');
my $copy = query(q{SELECT encode(tgargs, 'escape') FROM pg_trigger WHERE tgrelid = 'mine.parted_builds'::regclass AND tgname = 'webhook_events_insert'}) =~ s/\\000$//r;
is(as('mallory', "CREATE TRIGGER copied AFTER INSERT ON mine.own_copy FOR EACH ROW EXECUTE FUNCTION webhook_events.build_changed('$copy'); DROP TABLE mine.own_copy"), '', 'a copy of one can be made');
is(query("SELECT count(*) FROM webhook_events.sources WHERE relation = 'mine.own_builds'::regclass"), 0, 'the others left nothing');

# A foreign table as a partition: its rows lie nowhere here.
$node->safe_psql('postgres', 'CREATE EXTENSION postgres_fdw; CREATE SERVER loop FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host \''
	  . $node->host . "', port '" . $node->port . "', dbname 'postgres'); GRANT USAGE ON FOREIGN SERVER loop TO mallory;"
	  . " CREATE USER MAPPING FOR mallory SERVER loop OPTIONS (user 'mallory', password_required 'false')");
is(as('mallory', <<'SQL'), '', 'an owner has a foreign partition');
CREATE TABLE mine.remote (id text, actor_id text, status text, user_id text, finished_at timestamptz);
INSERT INTO mine.remote VALUES ('far', 'x', 'SUCCEEDED', 'a', now() - interval '1 minute');
CREATE TABLE mine.far_runs (id text, actor_id text, status text, user_id text, finished_at timestamptz) PARTITION BY LIST (id);
CREATE TABLE mine.far_runs_here PARTITION OF mine.far_runs FOR VALUES IN ('near');
CREATE FOREIGN TABLE mine.far_runs_there PARTITION OF mine.far_runs FOR VALUES IN ('far') SERVER loop OPTIONS (schema_name 'mine', table_name 'remote');
DO $$ BEGIN PERFORM webhook_events.attach('mine.far_runs'); END $$;
INSERT INTO mine.far_runs VALUES ('near', 'x', 'READY', 'a');
SQL
my $webhook = as('tenant_a', "SELECT id FROM webhook_events.create_webhook('$url', '{ACTOR.RUN.CREATED}')");
like(as('tenant_a', "SELECT webhook_events.test_webhook('$webhook', 'near')"), qr/^\w{17}$/, 'a row that is here is test data');
like(as('tenant_a', "SELECT webhook_events.test_webhook('$webhook', 'far')"), qr/^P0002: no attached table has a run or build "far"\n/, 'one that is elsewhere is not');
like(as('tenant_a', "SELECT webhook_events.explain_run('far')"), qr/^P0002: no attached table has a run or build "far"/, 'nor is it explained');
is(query("SELECT string_agg(problem || ' ' || resource_id, ', ') FROM webhook_events.audit(now() - interval '1 hour') WHERE relation = 'mine.far_runs'::regclass"), 'event is missing far', 'audit() reads it');

# The worker asks attached tables whether runs have ended, of which ad-hoc webhooks were not
# told.  It plans no statement about them: neither policies nor casts, keys, checks, statistics
# and predicates of indexes are evaluated, which could take for ever.
is(as('mallory', <<'SQL'), '', 'an owner makes a table that takes for ever to read');
CREATE FUNCTION mine.stay() RETURNS boolean IMMUTABLE LANGUAGE plpgsql AS $$
BEGIN
	IF current_setting('mine.is_ready', true) = 'yes' THEN RETURN true; END IF;
	PERFORM public.note('stay');
	LOOP
		BEGIN PERFORM pg_sleep(3600); EXCEPTION WHEN query_canceled THEN NULL; END;
	END LOOP;
END $$;
SET mine.is_ready = 'yes';
CREATE TYPE mine.state AS ENUM ('READY', 'SUCCEEDED');
CREATE FUNCTION mine.state_text(mine.state) RETURNS text LANGUAGE plpgsql AS $$ BEGIN PERFORM mine.stay(); RETURN 'READY'; END $$;
CREATE CAST (mine.state AS text) WITH FUNCTION mine.state_text(mine.state) AS ASSIGNMENT;
CREATE DOMAIN mine.name AS text CHECK (mine.stay());
CREATE TABLE mine.slow_runs (id mine.name, actor_id text, status mine.state, user_id text, CHECK (mine.stay()));
CREATE INDEX partial_of_id ON mine.slow_runs (id) WHERE mine.stay();
CREATE INDEX expression_of_id ON mine.slow_runs (id, (mine.stay()));
CREATE STATISTICS mine.of_slow_runs ON (length(actor_id) > 1 AND mine.stay()), user_id FROM mine.slow_runs;
ALTER TABLE mine.slow_runs ENABLE ROW LEVEL SECURITY; ALTER TABLE mine.slow_runs FORCE ROW LEVEL SECURITY;
CREATE POLICY p ON mine.slow_runs USING (mine.stay());
-- These are asked as well.
CREATE TABLE mine.number_runs (id bigint PRIMARY KEY, actor_id text, status text, user_id text);
CREATE TABLE mine.uuid_runs (id uuid PRIMARY KEY, actor_id text, status text, user_id text);
CREATE TABLE mine.char_runs (id char(10), actor_id text, status text, user_id text) PARTITION BY LIST (user_id);
CREATE TABLE mine.char_runs_a PARTITION OF mine.char_runs FOR VALUES IN ('a');
CREATE INDEX ON mine.char_runs (id);
CREATE TABLE mine.bare_runs (id text, actor_id text, status text, user_id text);
DO $$ BEGIN PERFORM webhook_events.attach(('mine.' || t || '_runs')::regclass) FROM unnest('{slow, number, uuid, char, bare}'::text[]) AS t (t); END $$;
INSERT INTO mine.slow_runs VALUES ('slow', 'x', 'SUCCEEDED', 'a');
INSERT INTO mine.number_runs VALUES (7, 'x', 'SUCCEEDED', 'a'), (8, 'x', 'READY', 'a');
INSERT INTO mine.uuid_runs VALUES ('00000000-0000-0000-0000-00000000000a', 'x', 'TIMED-OUT', 'a');
INSERT INTO mine.char_runs VALUES ('padded', 'x', 'ABORTED', 'a');
INSERT INTO mine.bare_runs VALUES ('bare', 'x', 'FAILED', 'a');
SQL
wait_for_end($node);
query('DELETE FROM seen');
my %ends = (slow => 't', 7 => 't', 8 => 'f', '00000000-0000-0000-0000-00000000000a' => 't', padded => 't', bare => 'f', none => 'f');
like(as('tenant_a', "SELECT count(*) FROM webhook_events.create_ad_hoc_webhooks('$_', '[{\"requestUrl\": \"$url\", \"eventTypes\": [\"ACTOR.RUN.FAILED\"]}]'::jsonb)"), qr/^1$/, "an ad-hoc webhook for run $_") foreach sort keys %ends;
wait_for_sql($node, 'SELECT count(*) FROM webhook_events_internal.runs_to_check', 0);
foreach my $run (sort keys %ends)
{
	is(query("SELECT is_retired FROM webhook_events_internal.webhooks WHERE actor_run_id = '$run'"), $ends{$run}, $ends{$run} eq 't' ? "it retires, for run $run has ended" : "it stays for run $run");
}
query("INSERT INTO actor_runs (id, actor_id, user_id) VALUES ('after', 'x', 'a')");
wait_for_end($node);
is(query("SELECT count(*) FROM webhook_events.dispatches AS d JOIN webhook_events.events AS e ON e.id = d.event_id WHERE e.actor_run_id = 'after' AND d.status = 'SUCCEEDED'"), 1, 'and others get their events');
is(query($who), '', 'nothing of the owner\'s was called');

# Who owns a type, and no table, has its casts called by nobody: neither to find a row or what is
# missing, nor to see whether a status has changed.
query('CREATE ROLE typist LOGIN; CREATE SCHEMA types AUTHORIZATION typist; GRANT USAGE ON SCHEMA types TO PUBLIC; DELETE FROM seen');
is(as('typist', <<'SQL'), '', 'somebody owns a type');
CREATE TYPE types.state AS ENUM ('READY', 'SUCCEEDED');
CREATE DOMAIN types.status AS types.state;
CREATE FUNCTION types.text_of(types.state) RETURNS text LANGUAGE plpgsql AS $$ BEGIN PERFORM public.note('cast'); RETURN 'READY'; END $$;
CREATE CAST (types.state AS text) WITH FUNCTION types.text_of(types.state) AS ASSIGNMENT;
SQL
query(q{CREATE TABLE typed_runs (id types.state PRIMARY KEY, actor_id text, status types.state, user_id text, finished_at timestamptz DEFAULT now() - interval '1 minute');
	CREATE TABLE domain_runs (id char(20) PRIMARY KEY, actor_id text, status types.status, user_id text, finished_at timestamptz DEFAULT now() - interval '1 minute');
	DROP TABLE mine.slow_runs;
	SELECT webhook_events.attach('typed_runs'), webhook_events.attach('domain_runs');
	INSERT INTO typed_runs VALUES ('READY', 'x', 'READY', 'a'); INSERT INTO domain_runs VALUES ('domain', 'x', 'READY', 'a');
	UPDATE typed_runs SET status = 'SUCCEEDED'; UPDATE domain_runs SET status = 'SUCCEEDED';
	SET webhook_events.emit = off; INSERT INTO domain_runs VALUES ('unsaid', 'x', 'SUCCEEDED', 'a'); INSERT INTO typed_runs VALUES ('SUCCEEDED', 'x', 'SUCCEEDED', 'a')});
is(query(q{SELECT string_agg(actor_run_id || ' ' || event_type, ', ' ORDER BY id) FROM webhook_events.events WHERE actor_run_id IN ('READY', 'domain') AND event_type <> 'ACTOR.RUN.CREATED'}),
	'READY ACTOR.RUN.SUCCEEDED, domain ACTOR.RUN.SUCCEEDED', 'changes of a status of that type are seen');
is(query(q{SELECT string_agg(relation || ' ' || resource_id, ', ' ORDER BY relation::text) FROM webhook_events.audit(now() - interval '1 hour') WHERE relation::text IN ('typed_runs', 'domain_runs')}),
	'domain_runs unsaid, typed_runs SUCCEEDED', 'and audit() tells what was not said');
like(as('tenant_a', "SELECT webhook_events.test_webhook('$webhook', '$_')"), qr/^\w{17}$/, "run $_ is test data") foreach qw(domain SUCCEEDED padded);
is(query($who), '', 'no cast was called');

# Other extensions run jobs of a role's in background workers: a setting that narrows the role
# narrows these.
query(<<"SQL");
CREATE ROLE narrow LOGIN; GRANT manager TO narrow; ALTER ROLE narrow SET webhook_events.user_id = 'b';
CREATE ROLE wide LOGIN; GRANT manager TO wide;
CREATE FUNCTION public.job() RETURNS void LANGUAGE sql AS \$\$
	SELECT public.note(coalesce((SELECT string_agg(DISTINCT user_id, ' ' ORDER BY user_id) FROM webhook_events.webhooks), 'none')) \$\$;
CREATE FUNCTION public.run_job(role oid) RETURNS void LANGUAGE c STRICT AS 'plans', 'plans_run_job';
SELECT webhook_events.create_webhook('$url', '{ACTOR.RUN.FAILED}', user_id => 'b');
SQL
query("SELECT public.run_job('$_'::regrole)") foreach qw(wide narrow tenant_a);
is(query(q{SELECT string_agg(who || ' sees ' || code, ', ' ORDER BY who) FROM seen}), 'narrow sees b, tenant_a sees a, wide sees a b', 'a job sees what its role does');

is(query('SELECT last_error FROM webhook_events.status()'), '', 'the worker never failed');
$node->stop;
done_testing();
