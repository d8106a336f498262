# 054_random_sql.pl
#	  Any argument for any function: an answer or an error, but no crash, no
#	  failed worker and no memory that stays.
#
# RANDOM_SQL is how many calls are made, RANDOM_SEED repeats a run.

use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use WebhookEvents::Node;

my $ncalls = $ENV{RANDOM_SQL} // 4000;
my $seed = $ENV{RANDOM_SEED} // time;
my $node = new_node('random', conf => "log_statement = none\nlog_min_messages = log\nmax_prepared_transactions = 0\n");

create_platform($node);
srand($seed);
$node->safe_psql('postgres', <<'SQL');
CREATE TABLE some_runs (LIKE actor_runs INCLUDING ALL);
CREATE FUNCTION some_resource(actor_runs) RETURNS jsonb LANGUAGE sql AS 'SELECT to_jsonb($1)';
INSERT INTO actor_runs (id, actor_id, user_id, status) VALUES ('r1', 'a', 'u', 'SUCCEEDED');
SELECT webhook_events.create_webhook('http://127.0.0.1:1/', '{ACTOR.RUN.CREATED}', user_id => 'u', do_not_retry => true);
SQL

sub pick { return $_[ int rand @_ ] }

# Values of each type, as SQL; NULL is one of all of them.
my @texts = ("''", "'x'", "'r1'", "'u'", "'http://example.com/'", "'http://127.0.0.1:1/?x'", "'http://[::1'", "'{\"a\": {{resource}}}'", "'{{userId.x.y}}'",
	"'{\"a\": \"{{globals.dateISO}} {{resource.id}}\"}'", "'[{\"eventTypes\": [\"ACTOR.RUN.CREATED\"], \"requestUrl\": \"http://example.com/\"}]'", "'W10='",
	"repeat('x', 17)", "repeat('{', 100000)", "repeat('[', 5000)", "repeat('x', 3000000)", "E'\\t\\r\\n\\x01'", "U&'\\017E\\+01F600'", "'whsec_' || repeat('QUJD', 8)", "'whsec_'",
	"'{\"X\": \"y\"}'", "'%s%n\\\\'", "(SELECT max(id) FROM webhook_events.webhooks)", "(SELECT min(id) FROM webhook_events.events)",
	"(SELECT max(id) FROM webhook_events.dispatches)", "'run'", "'build'", "'send'", "'reader'", "webhook_events_internal.new_id()", "'00000000000000000'", "repeat('z', 17)");
my @json = ("'{}'", "'[]'", "'1'", "'null'", "'\"x\"'", "'{\"isEnabled\": true}'", "'{\"requestUrl\": \"http://example.com/\", \"eventTypes\": [\"ACTOR.RUN.FAILED\"]}'",
	"'{\"id\": \"id\"}'", "'[{\"eventTypes\": [\"ACTOR.RUN.CREATED\"], \"requestUrl\": \"http://example.com/\"}]'", "'{\"condition\": {\"actorId\": \"a\"}}'", "'{\"condition\": [1]}'",
	"(repeat('[', 5000) || repeat(']', 5000))", "'{\"webhook-id\": \"x\", \"webhook-timestamp\": 1, \"webhook-signature\": \"v1,\"}'", "'{\"eventTypes\": [null, 1, {}]}'");
my %values = (
	text => \@texts,
	json => [ map { "($_)::json" } @json ],
	jsonb => [ map { "($_)::jsonb" } @json ],
	boolean => [qw(true false)],
	integer => [qw(0 1 -1 2147483647 -2147483648)],
	bigint => [qw(0 1 -1 9223372036854775807)],
	'webhook_events.dispatch_status' => [ "'ACTIVE'", "'FAILED'" ],
	'double precision' => [ '0', '1', '-1', "'NaN'::float8", "'Infinity'::float8", '1e-300', '5' ],
	'timestamp with time zone' => [ 'now()', "'-infinity'", "'infinity'", "'epoch'", "now() - interval '1 hour'", "'4713-01-01 BC'", "'294276-12-31'", "now() + interval '1 day'" ],
	interval => [ "'0'", "'1 day'", "'-1 day'", "'100 years'", "'178000000 years'" ],
	date => [ "'today'", "'epoch'", "'infinity'", "'2030-01-01'" ],
	regclass => [ "'actor_runs'", "'some_runs'", "'pg_class'", "'webhook_events.webhooks'", '0' ],
	oid => [ '0', '1', "'actor_runs'::regclass::oid" ],
	bytea => [ "''", "decode(repeat('ff', 16), 'hex')", "decode(repeat('00', 16), 'hex')", "decode('01' || repeat('00', 40), 'hex')", "'\\x00'", "'{}'", "(SELECT tgargs FROM pg_trigger WHERE tgname = 'webhook_events_insert' LIMIT 1)" ],
	xid8 => [ "'0'", "'3'", "'18446744073709551615'" ],
	pg_snapshot => [ "'1:1:'", "'10:20:11,15'", 'pg_current_snapshot()' ],
	regprocedure => [ "'some_resource(actor_runs)'", "'now()'", '0' ],
	regrole => [ "'pg_monitor'" ],
	name => [ "'LATIN1'", "''", "repeat('x', 63)" ],
	'webhook_events.event_type' => [ "'ACTOR.RUN.CREATED'", "'TEST'" ],
	'webhook_events_internal.webhooks' => [ '(SELECT w FROM webhook_events_internal.webhooks AS w ORDER BY id LIMIT 1)', 'webhook_events_internal.new_webhook()' ],
	aclitem => ['(SELECT acl FROM pg_class AS c, unnest(c.relacl) AS acl ORDER BY c.oid LIMIT 1)'],
	'webhook_events_internal.dispatches' => ['(SELECT d FROM webhook_events_internal.dispatches AS d ORDER BY id LIMIT 1)']);

sub value
{
	my ($type) = @_;

	return "NULL::$type" if rand() < 0.1;
	return 'ARRAY[' . join(', ', map { value($type =~ s/\[\]$//r) } 0 .. rand 3) . "]::$type" if $type =~ /\[\]$/;
	return "(SELECT t FROM $type AS t LIMIT 1)" if $type =~ /^webhook_events\w*\.\w+$/ && !$values{$type};
	die "no values of type $type\n" unless $values{$type};
	return '(' . pick(@{ $values{$type} }) . ")::$type";
}

# All functions but those that end what is tested, those that make days without end, and
# what PostgreSQL lets nobody call; aggregates over two rows.
my @functions = map { [ split /\|/ ] } split /\n/, $node->safe_psql('postgres', q{
	SELECT concat_ws('|', p.prokind, p.pronamespace::regnamespace || '.' || p.proname, (SELECT string_agg(format_type(t, NULL), '|' ORDER BY n)
		FROM unnest(p.proargtypes) WITH ORDINALITY AS a (t, n)))
	FROM pg_proc AS p WHERE pronamespace IN ('webhook_events'::regnamespace, 'webhook_events_internal'::regnamespace) AND prorettype <> 'trigger'::regtype
		AND 'internal'::regtype <> ALL (p.proargtypes)
		AND proname NOT IN ('create_days', 'missing_days', 'pause', 'resume', 'adopt_copy', 'grant_access', 'revoke_access', 'grant_objects', 'refresh_grants', 'own_table', 'own_objects', 'revoke_all', 'make_doors')});
cmp_ok(scalar @functions, '>', 40, scalar(@functions) . ' functions');
my $script = "SET client_min_messages = fatal; SET statement_timeout = '20s';\n";
foreach my $i (1 .. $ncalls)
{
	my ($kind, $name, @types) = @{ pick(@functions) };
	my $call = "$name(" . join(', ', map { value($_) } @types) . ')';

	$call = "(SELECT $call FROM generate_series(1, 2))" if $kind eq 'a';
	$script .= "\\o /dev/null\nSELECT count(t::text) FROM $call AS t;\n";
	$script .= "\\o\nSELECT sum(total_bytes) FROM pg_backend_memory_contexts;\n"
	  if $i == int($ncalls / 2) || $i == $ncalls;
}
my ($status, $stdout, $stderr) = $node->psql('postgres', $script, on_error_stop => 0, timeout => 600);
is($status, 0, "the session survives $ncalls calls (seed $seed)");
my @sizes = $stdout =~ /^(\d+)$/mg;
is(scalar @sizes, 2, 'its memory was measured');
cmp_ok($sizes[1], '<', $sizes[0] + 8 * 1024 * 1024, "and does not grow: $sizes[0], then $sizes[1] bytes");
like($node->safe_psql('postgres', 'SELECT 1'), qr/^1$/, 'the server is alive');

# The same by roles: none crashes, and none is told what is another's.
$node->safe_psql('postgres', <<'SQL');
CREATE ROLE tenant LOGIN; CREATE ROLE reader LOGIN; CREATE ROLE manager LOGIN; CREATE ROLE monitor LOGIN; CREATE ROLE nobody LOGIN;
SELECT webhook_events.grant_access('tenant', 'tenant', 'u'), webhook_events.grant_access('reader', 'reader'),
	webhook_events.grant_access('manager', 'manager'), webhook_events.grant_access('monitor', 'monitor');
SELECT webhook_events.attach('actor_runs');
SELECT webhook_events.create_webhook('http://127.0.0.1:1/', '{ACTOR.RUN.CREATED}', user_id => 'hidden-user', description => 'hidden-text',
	headers_template => '{"X": "hidden-header"}', do_not_retry => true);
INSERT INTO actor_runs (id, actor_id, user_id, status, status_message) VALUES ('hidden-run', 'a', 'hidden-user', 'SUCCEEDED', 'hidden-text');
SQL
my @hidden = split /\n/, $node->safe_psql('postgres', q{
	SELECT id FROM webhook_events.webhooks WHERE user_id = 'hidden-user'
	UNION ALL SELECT id FROM webhook_events.events WHERE user_id = 'hidden-user'});
cmp_ok(scalar @hidden, '>', 2, 'there is something to hide');
push @texts, map { "'$_'" } @hidden, 'hidden-run';
$values{regrole} = ["'reader'"];
my @doors = grep { $_->[1] =~ /^webhook_events\./ } @functions;
my @views = split /\n/, $node->safe_psql('postgres', q{SELECT oid::regclass FROM pg_class WHERE relnamespace = 'webhook_events'::regnamespace AND relkind = 'v'});
my %never = (tenant => qr/hidden-(?:user|text|header)/, reader => qr/hidden-header/, monitor => qr/hidden-(?:text|header)/, nobody => qr/hidden-(?:user|text|header)/, manager => qr/^$/);
foreach my $role (qw(nobody monitor reader tenant manager))
{
	my $calls = join '', map {
		my ($kind, $name, @types) = @{ pick(@doors) };
		"SELECT left(t::text, 5000) FROM $name(" . join(', ', map { value($_) } @types) . ") AS t LIMIT 20;\n"
	} 1 .. $ncalls / 16;
	my ($role_status, $shown, $said) = $node->psql('postgres', "SET client_min_messages = fatal; SET statement_timeout = '20s';\n$calls"
		  . join('', map { "SELECT left(t::text, 5000) FROM $_ AS t;\n" } @views),
		on_error_stop => 0, timeout => 600, extra_params => [ '-U', $role ]);

	is($role_status, 0, "the session of $role survives");
	unlike($shown, $never{$role}, "and shows nothing that $role may not see") if $role ne 'manager';
	unlike($said, qr/hidden-(?:text|header)/, 'nor do errors');
	$node->safe_psql('postgres', q{SELECT webhook_events.resume()});
}
wait_for_sql($node, 'SELECT running FROM webhook_events.status()', 't');

# What an inner function had locked for a quarter of a second the worker has left for later.
like($node->safe_psql('postgres', 'SELECT last_error FROM webhook_events.status()'), qr/^(?:canceling statement due to lock timeout)?$/, 'the worker never failed');
unlike(slurp_file($node->logfile), qr/PANIC|TRAP|terminated by signal/, 'nothing crashed');
$node->stop;
done_testing();
