# 057_traps.pl
#	  No name of anybody else's in our statements: a schema in front of pg_catalog
#	  has a trap for every operator and function of common types and for the types
#	  themselves, and the whole regression suite and every function run so.
#
# A trap does what it hides and notes in the log for whom.  The tests' own
# statements step into it as "tester"; ours run as the extension's owner, or as
# the worker's superuser, and must not.

use strict;
use warnings;
use File::Basename qw(dirname);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use WebhookEvents::Node;
use WebhookEvents::Receiver;

my $here = dirname(__FILE__);
my $receiver = WebhookEvents::Receiver->new;
my $node = new_node('traps', conf => "webhook_events.databases = 'functions'\nlog_statement = none\nlog_min_messages = error\nlog_min_error_statement = error\nclient_min_messages = warning\n");

$node->safe_psql('postgres', <<'SQL');
CREATE ROLE owner SUPERUSER LOGIN; CREATE ROLE tester SUPERUSER LOGIN;
CREATE DATABASE regression OWNER tester;
SQL
$node->safe_psql('regression', <<'SQL');
CREATE SCHEMA traps;
GRANT USAGE ON SCHEMA traps TO PUBLIC;
CREATE FUNCTION traps.is_common(types oid[]) RETURNS boolean LANGUAGE sql AS $$
	SELECT bool_and(t = ANY ('{text, "char", name, bool, int2, int4, int8, float8, numeric, oid, regclass, regrole, regprocedure, regtype, regnamespace,
		date, timestamp, timestamptz, interval, json, jsonb, bytea, xid8, pg_snapshot, text[], oid[], int4[], bool[], timestamptz[], jsonb[],
		anyarray, anyelement, anyenum, anycompatible, anycompatiblearray, anynonarray}'::regtype[]::oid[])) FROM unnest(types) AS t
$$;
CREATE FUNCTION traps.spring(what text) RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog AS $$
BEGIN RAISE LOG 'TRAP % for %', what, current_user; END $$;
-- One function for each that it hides, and operators of the same names.
DO $do$
DECLARE
	f record;
	arguments text;
	made integer := 0;
BEGIN
	FOR f IN
		SELECT p.oid, p.proname, p.proargtypes::oid[] AS types, p.prorettype, p.provolatile
		FROM pg_proc AS p
		WHERE p.pronamespace = 'pg_catalog'::regnamespace AND p.prokind = 'f' AND NOT p.proretset AND p.provariadic = 0
			AND p.pronargs BETWEEN 1 AND 4 AND traps.is_common(p.proargtypes::oid[]) AND traps.is_common(ARRAY[p.prorettype])
	LOOP
		arguments := (SELECT string_agg('$' || n, ', ') FROM generate_series(1, cardinality(f.types)) AS n);
		BEGIN
			EXECUTE format('CREATE FUNCTION traps.%I(%s) RETURNS %s LANGUAGE plpgsql SET search_path = pg_catalog AS %L', f.proname,
				(SELECT string_agg(format_type(t, NULL), ', ' ORDER BY n) FROM unnest(f.types) WITH ORDINALITY AS u (t, n)), format_type(f.prorettype, NULL),
				format('BEGIN PERFORM traps.spring(%L); RETURN pg_catalog.%I(%s); END', f.oid::regprocedure, f.proname, arguments));
			made := made + 1;
		EXCEPTION WHEN OTHERS THEN NULL;
		END;
	END LOOP;
	FOR f IN
		SELECT o.oid, o.oprname, o.oprleft, o.oprright, p.proname, p.oid AS code, p.prorettype
		FROM pg_operator AS o JOIN pg_proc AS p ON p.oid = o.oprcode
		WHERE o.oprnamespace = 'pg_catalog'::regnamespace AND o.oprleft <> 0 AND traps.is_common(ARRAY[o.oprleft, o.oprright, o.oprresult])
	LOOP
		BEGIN
			EXECUTE format('CREATE FUNCTION traps.operator_%s(%s, %s) RETURNS %s LANGUAGE plpgsql SET search_path = pg_catalog AS %L', f.oid,
				format_type(f.oprleft, NULL), format_type(f.oprright, NULL), format_type(f.prorettype, NULL),
				format('BEGIN PERFORM traps.spring(%L); RETURN $1 OPERATOR(pg_catalog.%s) $2; END', 'operator ' || f.oid::regoperator, f.oprname));
			EXECUTE format('CREATE OPERATOR traps.%s (LEFTARG = %s, RIGHTARG = %s, FUNCTION = traps.operator_%s)', f.oprname,
				format_type(f.oprleft, NULL), format_type(f.oprright, NULL), f.oid);
			made := made + 1;
		EXCEPTION WHEN OTHERS THEN NULL;
		END;
	END LOOP;
	-- A type of ours that is found here instead would be another type.
	FOREACH arguments IN ARRAY '{text, name, jsonb, json, date, timestamptz, timestamp, interval, regclass, oid, bytea, int4, bool, xid8}'::text[] LOOP
		EXECUTE format('CREATE FUNCTION traps.check_%s(pg_catalog.%1$I) RETURNS boolean LANGUAGE plpgsql SET search_path = pg_catalog AS %L', arguments,
			format('BEGIN PERFORM traps.spring(%L); RETURN true; END', 'type ' || arguments));
		EXECUTE format('CREATE DOMAIN traps.%I AS pg_catalog.%1$I CHECK (traps.check_%1$s(VALUE))', arguments);
		made := made + 1;
	END LOOP;
	RAISE LOG 'made % traps', made;
END
$do$;
SQL
$node->safe_psql('postgres', <<'SQL');
CREATE DATABASE functions TEMPLATE regression;
ALTER DATABASE regression SET search_path = traps, pg_catalog, public;
ALTER DATABASE functions SET search_path = traps, pg_catalog, public;
SQL
my ($made) = slurp_file($node->logfile) =~ /made (\d+) traps/;
cmp_ok($made, '>', 1000, "there are $made traps");

# Runs SQL in front of the traps, whatever it says.
sub run
{
	my ($role, $sql, $database) = @_;
	my ($status, $stdout, $stderr) = $node->psql($database // 'functions', $sql, extra_params => [ '-U', $role ], on_error_stop => 0);

	return $stdout;
}

# All steps into traps, and those of what runs with more rights than the tests.
sub steps { return slurp_file($node->logfile) =~ /LOG:  (TRAP .*)/g; }

sub sprung { return grep { / for (?:owner|postgres)\b/ } steps(); }

# The script that makes the extension is no function: it runs as its owner, too.
foreach my $database (qw(regression functions))
{
	run('owner', 'CREATE EXTENSION webhook_events', $database);
	is(run('tester', q{SELECT count(*) FROM pg_catalog.pg_extension WHERE extname OPERATOR(pg_catalog.=) 'webhook_events'}, $database), 1, "the extension is created in $database");
}
is_deeply([ sprung() ], [], 'without a step into a trap');

# The regression suite.
foreach my $file (sort glob "$here/../sql/*.sql")
{
	run('tester', slurp_file($file), 'regression');
	is_deeply([ sprung() ], [], $file =~ s{.*/}{}r . ' springs none');
}
cmp_ok(scalar(() = steps()), '>', 10000, 'while the tests themselves step into many');

# Every function, by its owner and by those who have an access.
run("tester", "SET search_path = public;\n" . slurp_file("$here/../platform.sql"));
run('tester', q{SELECT webhook_events.attach('public.actor_runs'), webhook_events.attach('public.actor_builds')});
run('tester', q{CREATE ROLE trapped_manager LOGIN; CREATE ROLE trapped_tenant LOGIN; CREATE ROLE trapped_reader LOGIN;
	SELECT webhook_events.grant_access('trapped_manager', 'manager'); SELECT webhook_events.grant_access('trapped_reader', 'reader');
	SELECT webhook_events.grant_access('trapped_tenant', 'tenant', 'u')});
my $url = $receiver->url('/ok');
my $webhook = run('trapped_tenant', "SELECT id FROM webhook_events.create_webhook('$url', '{ACTOR.RUN.CREATED}', payload_template => '{\"a\": {{resource.id}}}')");
like($webhook, qr/^\w{17}$/, 'a tenant defines a webhook');
run('tester', q{INSERT INTO public.actor_runs (id, actor_id, user_id) VALUES ('r1', 'a', 'u'); UPDATE public.actor_runs SET status = 'SUCCEEDED'});
$receiver->wait_for_requests(1);
is(scalar($receiver->requests), 1, 'which is called');
wait_until { run('tester', q{SELECT count(*) FROM webhook_events.dispatches WHERE status::pg_catalog.text OPERATOR(pg_catalog.=) 'SUCCEEDED'}) eq '1' } 'the call is recorded';
my %values = (
	text => [ "'$webhook'", '(SELECT max(id) FROM webhook_events.dispatches)', '(SELECT max(id) FROM webhook_events.events)', "'r1'" ],
	jsonb => [ q('{"isEnabled": true}'), qq('{"requestUrl": "$url", "eventTypes": ["ACTOR.RUN.FAILED"]}'), qq('[{"requestUrl": "$url", "eventTypes": ["ACTOR.RUN.FAILED"]}]') ],
	'timestamp with time zone' => [ "pg_catalog.now() OPERATOR(pg_catalog.-) interval '1 hour'", 'pg_catalog.now()' ],
	regclass => ["'public.actor_runs'"], regrole => ["'trapped_reader'"], boolean => ['true'], interval => ["'1 hour'"], 'double precision' => ['5'], integer => ['3'],
	'webhook_events.event_type[]' => ["'{ACTOR.RUN.CREATED}'"], 'text[]' => ["'{whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw}'"], regprocedure => ['NULL']);
my @functions = map { [ split /\|/, $_, -1 ] } split /\n/, run('postgres', q{SET search_path = pg_catalog;
	SELECT concat_ws('|', p.proname, (SELECT string_agg(format_type(t, NULL), '|' ORDER BY n) FROM unnest(p.proargtypes) WITH ORDINALITY AS a (t, n)))
	FROM pg_proc AS p WHERE p.pronamespace = 'webhook_events'::regnamespace AND p.prorettype <> 'trigger'::regtype
		AND p.proname NOT IN ('delete_webhook', 'detach') ORDER BY p.proname});
cmp_ok(scalar @functions, '>', 25, scalar(@functions) . ' functions');
foreach my $role (qw(tester trapped_manager trapped_tenant trapped_reader))
{
	my $script = '';

	foreach my $turn (0 .. 3)
	{
		foreach my $function (@functions)
		{
			my ($name, @types) = @$function;

			# With all arguments, and with the first only.
			foreach my $list ([ map { my $of = $values{$_} // ['NULL']; '(' . $of->[ $turn % @$of ] . ")::pg_catalog.$_" =~ s/pg_catalog\.(webhook_events)/$1/r =~ s/pg_catalog\.(timestamp with|double)/$1/r } @types ])
			{
				$script .= "SELECT * FROM webhook_events.$name(" . join(', ', @$list) . ");\n";
			}
		}
	}
	$script .= join '', map { "SELECT * FROM webhook_events.$_ LIMIT 1; SELECT count(*) FROM webhook_events.$_;\n" }
	  split /\n/, run('postgres', q{SET search_path = pg_catalog; SELECT relname FROM pg_class WHERE relnamespace = 'webhook_events'::regnamespace AND relkind = 'v' ORDER BY 1});
	run($role, $script);
	is_deeply([ sprung() ], [], "nothing springs when $role calls everything");
}
is(run('tester', q{SELECT last_error FROM webhook_events.status()}), '', 'the worker never failed');
run('owner', q{SELECT 'a' = 'b'::pg_catalog.text});
is(scalar(() = sprung()), 1, 'a step of the owner would have been seen');
$node->stop;
done_testing();
