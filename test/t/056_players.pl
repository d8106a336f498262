# 056_players.pl
#	  Roles with different rights against each other and against the owner: a
#	  table's owner, two tenants, a manager, a reader, a monitor, one who dumps and
#	  a role that nobody bound.  None becomes more than it is.

use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use WebhookEvents::Node;
use WebhookEvents::Receiver;

my $receiver = WebhookEvents::Receiver->new;
my $node = new_node('players', conf => "webhook_events.retry_delay = '1h'\nwebhook_events.max_webhooks_per_user = 5\nlog_statement = none\n");
my $url = $receiver->url('/ok');

create_platform($node);

sub query { return $node->safe_psql('postgres', $_[0]); }

# Runs SQL as a role: what it prints, or its error.
sub as
{
	my ($role, $sql) = @_;
	my ($status, $stdout, $stderr) = $node->psql('postgres', "\\set VERBOSITY verbose\n$sql",
		extra_params => [ '-U', $role ]);

	return $status == 0 && $stderr !~ /ERROR/ ? $stdout : $stderr =~ /ERROR:  (.*)/ ? $1 : $stderr;
}

sub is_super { return query("SELECT rolsuper FROM pg_roles WHERE rolname = '$_[0]'"); }

query(<<'SQL');
CREATE ROLE reader LOGIN; CREATE ROLE manager LOGIN; CREATE ROLE monitor LOGIN; CREATE ROLE dumper LOGIN;
CREATE ROLE tenant_a LOGIN; CREATE ROLE tenant_b LOGIN; CREATE ROLE nobody LOGIN; CREATE ROLE mallory LOGIN;
SELECT webhook_events.grant_access('reader', 'reader');
SELECT webhook_events.grant_access('manager', 'manager');
SELECT webhook_events.grant_access('monitor', 'monitor');
SELECT webhook_events.grant_access('dumper', 'dump');
SELECT webhook_events.grant_access('tenant_a', 'tenant', 'a');
SELECT webhook_events.grant_access('tenant_b', 'tenant', 'b');
-- Mallory owns tables and may attach them, and has webhooks of a user that there is not.
SELECT webhook_events.grant_access('mallory', 'tenant', 'm');
CREATE SCHEMA mine AUTHORIZATION mallory;
GRANT USAGE ON SCHEMA webhook_events TO mallory;
GRANT EXECUTE ON FUNCTION webhook_events.attach, webhook_events.detach TO mallory;
CREATE TABLE public.seen (who text, code text);
GRANT INSERT, SELECT ON public.seen TO PUBLIC;
CREATE FUNCTION public.note(code text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN INSERT INTO public.seen VALUES (current_user, code); END $$;
SQL

my %webhook = map { $_ => as("tenant_$_", "SELECT id FROM webhook_events.create_webhook('$url?$_', '{ACTOR.RUN.CREATED}')") } qw(a b);
like($webhook{$_}, qr/^\w{17}$/, "tenant $_ has a webhook") foreach qw(a b);
query("INSERT INTO actor_runs (id, actor_id, user_id) VALUES ('run-$_', 'shared', '$_')") foreach qw(a b);
wait_for_end($node);
my %dispatch = map { $_ => query("SELECT id FROM webhook_events.dispatches WHERE user_id = '$_'") } qw(a b);

# A role is what current_user says, however it became that.
query(<<'SQL');
CREATE ROLE pooler LOGIN NOINHERIT; GRANT tenant_a, tenant_b, manager TO pooler;
CREATE ROLE chooser LOGIN; GRANT tenant_a, tenant_b TO chooser;
CREATE ROLE lead LOGIN; GRANT manager TO lead;
CREATE ROLE clerk LOGIN; GRANT tenant_a TO clerk;
CREATE ROLE moved LOGIN; GRANT tenant_a TO moved; ALTER ROLE moved SET webhook_events.user_id = 'b';
CREATE ROLE narrow LOGIN; GRANT manager TO narrow; ALTER ROLE narrow SET webhook_events.user_id = 'b';
ALTER ROLE chooser SET webhook_events.user_id = 'b';
CREATE ROLE torn LOGIN; GRANT tenant_a, tenant_b TO torn;
CREATE FUNCTION public.wrapped() RETURNS text LANGUAGE sql SECURITY DEFINER AS 'SELECT string_agg(user_id, $$ $$) FROM webhook_events.webhooks';
ALTER FUNCTION public.wrapped() OWNER TO tenant_a;
SQL
my $users = q{SELECT string_agg(user_id, ' ' ORDER BY user_id) FROM webhook_events.webhooks};
like(as('pooler', $users), qr/^42501: permission denied/, 'a login that inherits nothing sees nothing');
is(as('pooler', "SET ROLE tenant_a; $users"), 'a', 'after SET ROLE it is the tenant');
is(as('pooler', "SET ROLE tenant_a; SET ROLE tenant_b; $users; SET ROLE manager; $users"), "b\na b", 'and after another the other');
is(as('pooler', "BEGIN; SET LOCAL ROLE tenant_b; $users; COMMIT; SELECT current_user"), "b\npooler", 'for a transaction as well');
is(as('pooler', "SET ROLE tenant_a; PREPARE p AS $users; EXECUTE p; SET ROLE tenant_b; EXECUTE p"), "a\nb", 'prepared statements follow');
is(as('clerk', $users), 'a', "a member is its group's tenant");
is(as('lead', $users), 'a b', 'or manager');
is(as('moved', $users), '', 'the setting never widens');
is(as('narrow', $users), 'b', 'it narrows');
is(as('torn', $users), '', 'of two users none is one\'s own');
is(as("chooser", $users), 'b', 'until the setting chooses');
is(as('nobody', 'SELECT public.wrapped()'), 'a', 'a function with the rights of a tenant sees the tenant\'s');
is(as('nobody', "SELECT webhook_events.webhook_secret('$webhook{a}')") =~ /^42501/, 1, 'and nobody else does');
is(as('tenant_a', "SELECT webhook_events.webhook_secret('$webhook{b}')"), qq{42704: webhook "$webhook{b}" does not exist}, "no tenant sees another's secret");
is(query(qq{SET ROLE tenant_a; $users; RESET ROLE; SELECT webhook_events.grant_access('tenant_a', 'tenant', 'b'); SET ROLE tenant_a; $users;
	RESET ROLE; SELECT webhook_events.grant_access('tenant_a', 'tenant', 'a'); SET ROLE tenant_a; $users}), "a\n\nb\n\na", 'a binding that changes counts at once');
query("GRANT SELECT ON webhook_events.webhooks TO nobody; GRANT USAGE ON SCHEMA webhook_events TO nobody; GRANT EXECUTE ON FUNCTION webhook_events.webhook_secret(text) TO nobody");
is(as('nobody', $users), '', 'a role that nobody bound sees nothing, whatever it was granted');
like(as('nobody', "SELECT webhook_events.webhook_secret('$webhook{a}')"), qr/^42704: webhook/, 'in functions either');

# What each may not.
my %refused = (
	reader => [ 'SELECT * FROM webhook_events.webhooks', "SELECT webhook_events.webhook_secret('$webhook{a}')", "SELECT webhook_events.delete_webhook('$webhook{a}')",
		'SELECT webhook_events.pause()', 'SELECT * FROM webhook_events.status()' ],
	monitor => [ 'SELECT * FROM webhook_events.events', 'SELECT * FROM webhook_events.webhooks_masked', 'SELECT webhook_events.pause()' ],
	dumper => [ 'SELECT * FROM webhook_events.webhooks', 'DELETE FROM webhook_events_internal.webhooks', 'BEGIN; LOCK TABLE webhook_events_internal.webhooks IN SHARE MODE',
		"SELECT webhook_events_internal.raise_test('$webhook{a}', 'a', NULL, NULL, NULL, NULL, NULL)" ],
	manager => [ 'SELECT webhook_events.pause()', 'SELECT webhook_events.audit(now())', "SELECT webhook_events.grant_access('manager', 'dump')" ],
	tenant_a => [ 'SELECT * FROM webhook_events.sources', 'SELECT * FROM webhook_events.status()', "SET webhook_events.user_id = 'b'", 'SET webhook_events.emit = off' ]);
foreach my $role (sort keys %refused)
{
	like(as($role, $_), qr/^42501: permission denied/, "$role may not: $_") foreach @{ $refused{$role} };
}
foreach my $role (qw(reader manager monitor tenant_a nobody mallory))
{
	like(as($role, $_), qr/^42501: (?:permission denied|must be owner)/, "$role may not: $_")
	  foreach 'SELECT * FROM webhook_events_internal.webhooks', "INSERT INTO webhook_events_internal.webhooks (request_url, event_types) VALUES ('$url', '{TEST}')",
	  'BEGIN; LOCK TABLE webhook_events_internal.webhooks', 'BEGIN; LOCK TABLE webhook_events.webhooks', 'BEGIN; LOCK TABLE webhook_events.events IN SHARE MODE', 'CREATE TEMP TABLE t (x webhook_events_internal.outbox_default)',
	  "SELECT webhook_events_internal.raise_test('$webhook{a}', 'b', NULL, NULL, NULL, NULL, NULL)", 'SELECT webhook_events_internal.create_days(now()::date, now()::date)',
	  "SELECT webhook_events_internal.sees_all(true)", 'CREATE FUNCTION webhook_events.f() RETURNS int LANGUAGE sql AS $$SELECT 1$$',
	  "UPDATE webhook_events.webhooks SET user_id = 'b'", 'DELETE FROM webhook_events.dispatches';
}
is(as('monitor', 'SELECT running FROM webhook_events.status()'), 't', 'a monitor sees the status');
is(as('reader', "SELECT string_agg(DISTINCT request_url, ' ') FROM webhook_events.webhooks_masked"), $url =~ s{/ok$}{}r, 'a reader no more of a URL than its host');
unlike(as('reader', "SELECT url, error_message FROM webhook_events.calls"), qr{/ok}, 'nor of a call\'s');

# A schema in front of pg_catalog, and attach(): everybody's operators stay out.
is(as('mallory', <<'SQL'), '', 'an owner makes operators');
CREATE FUNCTION mine.rise() RETURNS void LANGUAGE plpgsql AS $$
BEGIN PERFORM public.note('sprung'); EXECUTE 'ALTER ROLE mallory SUPERUSER'; EXCEPTION WHEN insufficient_privilege THEN NULL; END $$;
CREATE FUNCTION mine.plus(date, integer) RETURNS date LANGUAGE plpgsql AS $$ BEGIN PERFORM mine.rise(); RETURN $1; END $$;
CREATE OPERATOR mine.+ (LEFTARG = date, RIGHTARG = integer, FUNCTION = mine.plus);
CREATE FUNCTION mine.same(text, text) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN PERFORM mine.rise(); RETURN true; END $$;
CREATE OPERATOR mine.= (LEFTARG = text, RIGHTARG = text, FUNCTION = mine.same);
CREATE FUNCTION mine.now() RETURNS timestamptz LANGUAGE plpgsql AS $$ BEGIN PERFORM mine.rise(); RETURN pg_catalog.now(); END $$;
CREATE FUNCTION mine.format(text, VARIADIC text[]) RETURNS text LANGUAGE plpgsql AS $$ BEGIN PERFORM mine.rise(); RETURN 'SELECT 1'; END $$;
CREATE TABLE mine.actor_runs (id text, actor_id text, status text, user_id text);
SQL
is(as('mallory', "SET search_path = mine, pg_catalog; SELECT webhook_events.attach('mine.actor_runs')"), '', 'an owner attaches with a path of its own');
is(is_super('mallory'), 'f', 'and becomes no superuser');
is(query('SELECT count(*) FROM seen'), 0, 'for no operator of theirs was called');
is(as('mallory', "SET search_path = mine, pg_catalog; INSERT INTO mine.actor_runs VALUES ('m1', 'x', 'READY', 'a'); UPDATE mine.actor_runs SET status = 'SUCCEEDED'"), '', 'it writes');
is(query("SELECT string_agg(event_type::text, ' ' ORDER BY id) FROM webhook_events.events WHERE actor_run_id = 'm1'"), 'ACTOR.RUN.CREATED ACTOR.RUN.SUCCEEDED', 'and its path hides no change of status');
is(query('SELECT count(*) FROM seen'), 0, 'nor was one in its own writes');
like(as('mallory', "SELECT webhook_events.attach('public.actor_runs')"), qr/^42501: must be owner of table actor_runs/, "another's table is not attached");
is(as('mallory', "SET allow_in_place_tablespaces = on") =~ /^42501/ ? 1 : 0, 1, 'the next is made by a superuser');
$node->safe_psql('postgres', $_) foreach 'SET allow_in_place_tablespaces = on; CREATE TABLESPACE evil LOCATION \'\'', 'GRANT CREATE ON TABLESPACE evil TO mallory',
  "SELECT webhook_events_internal.drop_days('2999-01-01')";
as('mallory', "SET default_tablespace = evil; SELECT webhook_events.attach('mine.actor_runs')");
is(query("SELECT count(*) FROM pg_class WHERE relnamespace = 'webhook_events_internal'::regnamespace AND reltablespace <> 0"), 0, 'no table of ours lies where the caller\'s shall');

# Types, casts, policies and resource functions of an attached table run as its owner, and leave
# nothing for a time when somebody else is current.
is(as('mallory', <<'SQL'), '', 'an owner makes types of its own');
CREATE TYPE mine.state AS ENUM ('READY', 'SUCCEEDED');
CREATE TYPE mine.pair AS (a text);
CREATE FUNCTION mine.state_text(mine.state) RETURNS text LANGUAGE plpgsql AS $$ BEGIN PERFORM public.note('state'); RETURN 'SUCCEEDED'; END $$;
CREATE CAST (mine.state AS text) WITH FUNCTION mine.state_text(mine.state) AS ASSIGNMENT;
CREATE FUNCTION mine.pair_text(mine.pair) RETURNS text LANGUAGE plpgsql AS $$ BEGIN PERFORM public.note('pair'); RETURN 'p'; END $$;
CREATE CAST (mine.pair AS text) WITH FUNCTION mine.pair_text(mine.pair) AS IMPLICIT;
CREATE TABLE mine.later ();
CREATE FUNCTION mine.fire() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM public.note('later'); RETURN NULL; END $$;
CREATE CONSTRAINT TRIGGER later AFTER INSERT ON mine.later DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION mine.fire();
CREATE FUNCTION mine.leave() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	BEGIN INSERT INTO mine.later DEFAULT VALUES; EXCEPTION WHEN OTHERS THEN PERFORM public.note('refused: ' || SQLERRM); END;
	BEGIN EXECUTE 'CREATE TEMP TABLE seen (who text, code text) ON COMMIT DROP'; PERFORM public.note('temp'); EXCEPTION WHEN OTHERS THEN NULL; END;
END $$;
CREATE FUNCTION mine.allows(text) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN PERFORM public.note('policy'), mine.leave(); RETURN true; END $$;
CREATE TABLE mine.typed_runs (id mine.pair, actor_id text, status mine.state, user_id text, finished_at timestamptz DEFAULT now() - interval '1 minute');
ALTER TABLE mine.typed_runs ENABLE ROW LEVEL SECURITY; ALTER TABLE mine.typed_runs FORCE ROW LEVEL SECURITY;
CREATE POLICY p ON mine.typed_runs USING (mine.allows(user_id)) WITH CHECK (true);
CREATE FUNCTION mine.resource(mine.typed_runs) RETURNS json LANGUAGE plpgsql AS $$
DECLARE secret text;
BEGIN
	PERFORM public.note('resource'), mine.leave();
	SELECT coalesce(string_agg(w.secret, ' '), 'none') INTO secret FROM webhook_events.webhooks AS w;
	BEGIN PERFORM webhook_events.create_webhook('https://example.com/', '{ACTOR.RUN.CREATED}', user_id => 'a'); secret := secret || 'forged'; EXCEPTION WHEN OTHERS THEN NULL; END;
	BEGIN EXECUTE 'SET ROLE postgres'; secret := secret || current_user; EXCEPTION WHEN OTHERS THEN NULL; END;
	RETURN json_build_object('got', secret);
END $$;
SELECT webhook_events.attach('mine.typed_runs', resource => 'mine.resource(mine.typed_runs)');
INSERT INTO mine.typed_runs VALUES (ROW('p'), 'x', 'SUCCEEDED', 'a');
SQL
query('DELETE FROM seen');
like(query("SELECT count(*) FROM webhook_events.audit(now() - interval '1 hour')"), qr/^\d+$/, 'a superuser audits');
like(query(q{SELECT string_agg(DISTINCT code || ' by ' || who, ', ' ORDER BY code || ' by ' || who) FROM seen}), qr/^policy by mallory, refused: cannot fire deferred trigger within security-restricted operation by mallory$/, 'policies run as the owner of their table, and casts not at all');
query('DELETE FROM seen');
like(as('manager', "SELECT webhook_events.test_webhook('$webhook{a}', '(p)')"), qr/^\w{17}$/, 'a manager sends a test of the row');
like(query(q{SELECT string_agg(DISTINCT code || ' by ' || who, ', ' ORDER BY code || ' by ' || who) FROM seen}), qr/resource by mallory/, 'and so does its resource function');
unlike(query(q{SELECT string_agg(DISTINCT who, ' ') FROM seen}), qr/postgres|manager/, 'nothing of it ran as anybody else');
like(query("SELECT resource ->> 'got' FROM webhook_events.events WHERE event_type = 'TEST' ORDER BY id DESC LIMIT 1"), qr/^none$/, 'which could read no secret, and make no webhook for another');
is(query('SELECT count(*) FROM pg_roles WHERE rolsuper'), 1, 'there is one superuser as before');

# Columns of awkward names and types, triggers with our names.
is(as('mallory', <<'SQL'), '', 'and odd columns');
CREATE TABLE mine.named_runs (id text, actor_id text, status text, user_id text, r bytea, t bigint, tableoid_ oid);
SELECT webhook_events.attach('mine.named_runs');
INSERT INTO mine.named_runs VALUES ('n1', 'x', 'READY', 'a', '\xffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff', -1, 1);
CREATE TABLE mine.fake_runs (id text, actor_id text, status text, user_id text);
CREATE FUNCTION mine.fake() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
CREATE TRIGGER webhook_events_insert AFTER INSERT ON mine.fake_runs FOR EACH ROW EXECUTE FUNCTION mine.fake('{"columns": [1, 2, 3], "exclude": {"a": 1}, "resource": 7}');
INSERT INTO mine.fake_runs VALUES ('f1', 'x', 'READY', 'a');
SQL
like(as('manager', "SELECT webhook_events.test_webhook('$webhook{a}', 'n1')"), qr/^\w{17}$/, 'a column named r is a column');
is(query("SELECT resource ->> 't' FROM webhook_events.events WHERE event_type = 'TEST' ORDER BY id DESC LIMIT 1"), '-1', 'and so is t');
is(as('manager', "SELECT webhook_events.test_webhook('$webhook{a}', 'f1')"), 'P0002: no attached table has a run or build "f1"', 'a trigger of our name is none of ours');
is(query("SELECT count(*) FROM webhook_events.sources WHERE relation = 'mine.fake_runs'::regclass"), 0, 'nor is its table attached');
like(as('mallory', 'CREATE TRIGGER x AFTER INSERT ON mine.fake_runs FOR EACH ROW EXECUTE FUNCTION webhook_events.run_changed(\'{"columns": []}\')'), qr/^42501: permission denied for function (?:webhook_events\.)?run_changed/, 'and ours are not for everybody');
is(as('tenant_b', "SELECT webhook_events.test_webhook('$webhook{b}', 'n1')"), 'P0002: no attached table has a run or build "n1"', "another's run is no test data");
foreach my $type ('bigint', 'double precision', 'text', 'jsonb')
{
	my $result = { bigint => 'SELECT 1::bigint', 'double precision' => 'SELECT 1.5::float8', text => q{SELECT 'x'::text}, jsonb => q{SELECT '{"x": 1}'::jsonb} }->{$type};

	as('mallory', "DROP FUNCTION mine.resource(mine.typed_runs); CREATE FUNCTION mine.resource(mine.typed_runs) RETURNS $type LANGUAGE sql AS \$\$$result\$\$");
	is(as('mallory', "INSERT INTO mine.typed_runs VALUES (ROW('$type'), 'x', 'SUCCEEDED', 'a')"), '', "a resource function that returns $type now does no harm");
}
as('mallory', 'REVOKE EXECUTE ON FUNCTION mine.resource(mine.typed_runs) FROM PUBLIC, mallory');
like(as('mallory', "SELECT webhook_events.attach('mine.typed_runs', resource => 'mine.resource(mine.typed_runs)')"), qr/^42501: owner of table "typed_runs" may not execute/, 'one that the owner may not call is not attached');
as('mallory', 'DROP TABLE mine.typed_runs CASCADE');

# What the worker pays for is limited, whatever the way.
query("SELECT webhook_events.rotate_secret('$webhook{a}') FROM generate_series(1, 30)");
is(query("SELECT cardinality(old_secrets) <= 10 FROM webhook_events.webhooks WHERE id = '$webhook{a}'"), 't', 'there are few old secrets');
my $many = "SELECT count(webhook_events.create_webhook('$url', '{ACTOR.RUN.FAILED}', is_enabled => false, %s)) FROM generate_series(1, %d)";
like(as('tenant_b', sprintf $many, "description => 'd'", 4), qr/^4$/, 'a user defines as many webhooks as there may be');
like(as('tenant_b', sprintf $many, "description => 'd'", 1), qr/^53400: user "b" has 5 webhooks already/, 'and no more');
like(as('tenant_b', sprintf $many, 'is_ad_hoc => true', 1), qr/^22023: an ad-hoc webhook needs the id of a run/, 'not as ad-hoc ones without a run');
like(as('tenant_b', sprintf $many, "is_ad_hoc => true, actor_run_id => 'r'", 5), qr/^5$/, 'for a run as many again');
like(as('tenant_b', sprintf $many, "is_ad_hoc => true, actor_run_id => 'r'", 1), qr/^53400: user "b" has 5 webhooks for run "r" already/, 'and no more');
like(as('tenant_b', "SELECT webhook_events.update_webhook(id, '{\"isAdHoc\": false}') FROM webhook_events.webhooks WHERE is_ad_hoc LIMIT 1"), qr/^53400: user "b" has 5 webhooks already/, 'nor by a change afterwards');
sql_fails($node, "UPDATE webhook_events_internal.webhooks SET old_secrets = array_fill(secret, ARRAY[20000]), old_secrets_until = array_fill(now(), ARRAY[20000]) WHERE id = '$webhook{a}'",
	qr/54000: webhook has 20000 old secrets, more than 10/, 'nor can the owner make it more');
sql_fails($node, "INSERT INTO webhook_events_internal.webhooks (id, request_url, event_types) VALUES (E'ab\\r\\nX-Evil: 12345', '$url', '{ACTOR.RUN.CREATED}')", qr/22023: "ab.*is not an id/s, 'an id is no header');
sql_fails($node, "SELECT webhook_events_internal.dispatch_id('žžžžžžžžz', '')", qr/22023: "žžžžžžžžz" is not an id/, 'an id is letters and digits');

# Backups by who owns the database; a restored copy knows no bindings.
query('CREATE ROLE keeper LOGIN; GRANT pg_read_all_data TO keeper');
$node->safe_psql('postgres', "SELECT webhook_events.grant_access('keeper', 'dump'); GRANT SELECT ON ALL TABLES IN SCHEMA public, mine TO dumper; GRANT USAGE ON SCHEMA mine TO dumper");
my $dump = "$PostgreSQL::Test::Utils::tmp_check/players.dump";
$node->command_ok([ 'pg_dump', '-U', 'dumper', '-h', $node->host, '-p', $node->port, '-f', $dump, 'postgres' ], 'a role that dumps dumps all');
like(slurp_file($dump), qr/$webhook{a}/, 'the webhooks too');
$node->safe_psql('postgres', 'CREATE DATABASE copy');
$node->command_ok([ 'psql', '-X', '-v', 'ON_ERROR_STOP=1', '-q', '-h', $node->host, '-p', $node->port, '-f', $dump, 'copy' ], 'a superuser restores it');
is($node->safe_psql('copy', 'SELECT count(*) FROM webhook_events.webhooks'), query('SELECT count(*) FROM webhook_events.webhooks'), 'with its webhooks');
my ($status, $stdout, $stderr) = $node->psql('copy', $users, extra_params => [ '-U', 'tenant_a' ]);
is($stdout, '', 'where a tenant sees nothing before it is granted again');
my $lost = $node->safe_psql('copy', "SELECT array_to_string(lost_accesses, ', ') FROM webhook_events.status()");
is($lost, 'dumper, keeper, mallory, manager, reader, tenant_a, tenant_b', 'status() names those');
($status, $stdout, $stderr) = $node->psql('copy', "SELECT webhook_events.resume('skip')");
like($stderr, qr/WARNING:  roles that had an access have none here: \Q$lost\E\n/, 'resume() warns of it');
is($node->safe_psql('copy', "SELECT webhook_events.grant_access('tenant_a', 'tenant', 'a'); SET ROLE tenant_a; $users"), "\na", 'and its own then');

# An extension among others' objects is refused.
$node->safe_psql('postgres', 'CREATE DATABASE shared');
$node->safe_psql('shared', 'CREATE SCHEMA webhook_events; GRANT CREATE ON SCHEMA webhook_events TO mallory');
($status, $stdout, $stderr) = $node->psql('shared', 'CREATE EXTENSION webhook_events');
like($stderr, qr/others can create objects in schema "webhook_events"/, 'not where others can create objects');
$node->safe_psql('shared', 'REVOKE CREATE ON SCHEMA webhook_events FROM mallory; ALTER SCHEMA webhook_events OWNER TO mallory');
($status, $stdout, $stderr) = $node->psql('shared', 'CREATE EXTENSION webhook_events');
like($stderr, qr/schema "webhook_events" belongs to somebody else/, 'nor in a schema of somebody else');

# What a session has, it has as long as its role has it.
query("CREATE ROLE fading LOGIN SUPERUSER; CREATE ROLE leaving LOGIN; GRANT tenant_a, tenant_b TO fading, leaving; ALTER ROLE leaving SET webhook_events.user_id = 'b'");
my %open = map { $_ => $node->background_psql('postgres', extra_params => [ '-U', $_ ]) } qw(fading leaving);
my $others = $users =~ s/FROM/FILTER (WHERE user_id IS DISTINCT FROM 'a' AND user_id IS DISTINCT FROM 'b') FROM/r;
query("SELECT webhook_events.create_webhook('$url', '{ACTOR.RUN.FAILED}', is_enabled => false, user_id => 'c')");
is($open{fading}->query($others), 'c', 'a superuser sees the webhooks of all');
like($open{leaving}->query($users), qr/^b( b)*$/, 'a member those of its group');
query('ALTER ROLE fading NOSUPERUSER');
is($open{fading}->query($others), '', 'and no more when it is none any longer');
query('REVOKE tenant_b FROM leaving');
is($open{leaving}->query($users), '', 'nor when it has left');
query('GRANT tenant_b TO leaving');
like($open{leaving}->query($users), qr/^b( b)*$/, 'and again when it is back');
query("INSERT INTO actor_runs (id, actor_id, user_id) VALUES ('fading-a', 'shared', 'a'), ('fading-c', 'shared', 'c')");
query("CREATE ROLE deputy LOGIN; SELECT webhook_events.grant_access('deputy', 'tenant', 'a'), webhook_events.grant_access('deputy', 'reader')");
$open{deputy} = $node->background_psql('postgres', extra_params => [ '-U', 'deputy' ]);
is($open{deputy}->query('SELECT count(DISTINCT user_id) > 1 FROM webhook_events.events'), 't', 'a reader sees the events of all');
query("SELECT webhook_events.revoke_access('deputy'); SELECT webhook_events.grant_access('deputy', 'tenant', 'a')");
is($open{deputy}->query('SELECT count(DISTINCT user_id) FROM webhook_events.events'), 1, 'until it is one user\'s only');
query("CREATE DATABASE owned; CREATE ROLE first_owner LOGIN; CREATE ROLE next_owner LOGIN; ALTER DATABASE owned OWNER TO first_owner");
$node->safe_psql('owned', "CREATE EXTENSION webhook_events; SELECT webhook_events.grant_access('pg_database_owner', 'manager'), webhook_events.grant_access('first_owner', 'tenant', 'x'), webhook_events.create_webhook('$url', '{ACTOR.RUN.FAILED}', user_id => 'c')");
$open{first_owner} = $node->background_psql('owned', extra_params => [ '-U', 'first_owner' ]);
is($open{first_owner}->query($users), 'c', 'who owns the database has what its owner has');
query('ALTER DATABASE owned OWNER TO next_owner');
is($open{first_owner}->query($users), '', 'until it is another one');
$_->quit foreach values %open;

# What DROP OWNED BY takes does not come back with the next access, nor by a role in between.
query("CREATE ROLE former LOGIN; SELECT webhook_events.grant_access('former', 'manager'); DROP OWNED BY former; GRANT tenant_a TO former");
is(as('former', $users =~ s/string_agg\(/string_agg(DISTINCT /r =~ s/ ORDER BY user_id//r), 'a', 'a role that was dropped from all privileges is no manager any more');
query("REVOKE tenant_a FROM former; SELECT webhook_events.grant_access('former', 'tenant', 'b')");
is(as('former', 'SELECT string_agg(DISTINCT user_id, $$ $$) FROM webhook_events.webhooks'), 'b', 'nor with another access');

# What was given is taken.
query("SELECT webhook_events.revoke_access('tenant_a')");
like(as('tenant_a', $users), qr/^42501: permission denied/, 'revoke_access() leaves nothing');
is(query("SELECT count(*) FROM pg_shdepend WHERE refobjid = 'tenant_a'::regrole AND dbid = (SELECT oid FROM pg_database WHERE datname = 'postgres') AND deptype = 'a'"), 0, 'in no privilege');
is(query('SELECT last_error FROM webhook_events.status()'), '', 'the worker never failed');
$node->stop;
done_testing();
