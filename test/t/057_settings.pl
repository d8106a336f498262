# 057_settings.pl
#	  Settings that anybody may make change what our statements mean as little as
#	  anybody's names do: in one database all are odd, and its language is Turkish, whose
#	  capital I is another letter; every documented function says there what it says in
#	  an ordinary one.

use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use WebhookEvents::Node;
use WebhookEvents::Receiver;

# How literals, names and arrays are read and written, how values look, where tables go,
# how plans are made.
my %odd = (
	standard_conforming_strings => 'off', escape_string_warning => 'off', backslash_quote => 'off', quote_all_identifiers => 'on',
	array_nulls => 'off', transform_null_equals => 'on', check_function_bodies => 'off', row_security => 'off',
	default_table_access_method => 'other', default_transaction_isolation => 'serializable', default_transaction_deferrable => 'on',
	'plpgsql.extra_errors' => 'all', 'plpgsql.extra_warnings' => 'all', 'plpgsql.variable_conflict' => 'use_column', xmlbinary => 'hex', xmloption => 'document',
	DateStyle => 'German, DMY', IntervalStyle => 'sql_standard', TimeZone => 'Asia/Kathmandu', bytea_output => 'escape', extra_float_digits => '-15',
	work_mem => '64kB', enable_indexscan => 'off', enable_indexonlyscan => 'off', enable_bitmapscan => 'off', enable_nestloop => 'off',
	enable_partition_pruning => 'off', join_collapse_limit => '1', from_collapse_limit => '1', geqo_threshold => '2', plan_cache_mode => 'force_custom_plan',
	constraint_exclusion => 'off', cursor_tuple_fraction => '0.001', jit_above_cost => '0', synchronous_commit => 'local', client_min_messages => 'error',
	default_statistics_target => '1', gin_fuzzy_search_limit => '1', lo_compat_privileges => 'on', vacuum_freeze_min_age => '0', search_path => 'nowhere, public');

my $receiver = WebhookEvents::Receiver->new;
my $node = new_node('settings');

# No version that doesn't know one of them is asked for it.
my %known = map { $_ => 1 } split /\n/, $node->safe_psql('postgres', 'SELECT name FROM pg_settings');

delete @odd{ grep { !$known{$_} && !/\./ } keys %odd };
# From 19 on this one can't be odd.
delete $odd{standard_conforming_strings} if $node->safe_psql('postgres', 'SHOW server_version_num') >= 190000;
my $has_icu = $node->safe_psql('postgres', q{SELECT count(*) > 0 FROM pg_collation WHERE collprovider = 'i'}) eq 't';
$node->safe_psql('postgres', 'CREATE DATABASE plain; CREATE DATABASE odd' . ($has_icu ? q{ TEMPLATE template0 LOCALE_PROVIDER icu ICU_LOCALE 'tr'} : ''));
is($node->safe_psql('odd', q{SELECT upper('i') = 'I'}), 'f', 'the language is odd') if $has_icu;
$node->safe_psql('odd', 'CREATE ACCESS METHOD other TYPE TABLE HANDLER heap_tableam_handler');
$node->safe_psql('postgres', "ALTER DATABASE odd SET $_ = " . ($_ eq 'search_path' || $_ eq 'DateStyle' ? $odd{$_} : "'$odd{$_}'")) foreach sort keys %odd;
is($node->safe_psql('odd', "SHOW $_"), $odd{$_}, "$_ is odd") foreach grep { exists $odd{$_} } qw(standard_conforming_strings quote_all_identifiers);

# What a database is asked for, in this order; W is the webhook's id, D that of its
# first dispatch, E that of its event.
my @questions = (
	q{SELECT webhook_events.webhook_json('W')},
	q{SELECT webhook_events.webhooks_json()},
	q{SELECT webhook_events.dispatches_json('W')},
	q{SELECT webhook_events.dispatch_json('D')},
	q{SELECT url FROM webhook_events.calls WHERE dispatch_id = 'D'},
	q{SELECT request_url FROM webhook_events.webhooks_masked WHERE id = 'W'},
	q{SELECT request_url FROM webhook_events.deliveries WHERE id = 'D'},
	q{SELECT event_types, payload_template, headers_template, description FROM webhook_events.webhooks WHERE id = 'W'},
	q{SELECT resource FROM webhook_events.events WHERE id = 'E'},
	q{SELECT body FROM webhook_events.preview('W', 'E')},
	q{SELECT fires, reason, body FROM webhook_events.backtest('W', '-infinity')},
	q{SELECT what, detail FROM webhook_events.explain_run('r1') AS x (at, what, event_id, webhook_id, dispatch_id, detail) WHERE what <> 'waits' ORDER BY event_id COLLATE "C", what},
	q{SELECT webhook_events.test_webhook('W', 'r1') IS NOT NULL},
	q{SELECT problem, relation, resource_id FROM webhook_events.audit()},
	q{SELECT count(*) FROM webhook_events.create_ad_hoc_webhooks('r1', 'bm8gSlNPTg==')},
	q{SELECT columns, exclude, kind FROM webhook_events.sources ORDER BY kind},
	q{SELECT running, reason, troubles, broken_tables, emit_off FROM webhook_events.status()},
	q{SELECT webhook_events.metrics()},
	q{SELECT webhook_events.report()},
	q{SELECT webhook_events.create_ad_hoc_webhooks('[{"requestUrl": "U", "eventTypes": ["ACTOR.RUN.FAILED"]}]', 'r1') IS NOT NULL},
	q{SELECT webhook_events.create_webhook('{"requestUrl": "U", "eventTypes": ["ACTOR.RUN.NOPE"]}')},
	q{SELECT webhook_events.update_webhook('W', '{"isEnabeld": true}')},
	q{SELECT webhook_events.create_webhook('nowhere://x', '{ACTOR.RUN.CREATED}')},
	q{SELECT webhook_events.create_webhook('U', '{ACTOR.RUN.CREATED}', payload_template => '{"a": "{{resource.id}}"}', is_ad_hoc => true)},
	q{SELECT webhook_events.replay('W', '-infinity') > 0},
	q{SELECT webhook_events.redeliver('D')},
	q{SELECT webhook_events.pause('why'), webhook_events.resume()},
	q{SELECT webhook_events.rotate_secret('W') IS NOT NULL},
	q{SELECT webhook_events.detach('public.actor_builds'); SELECT webhook_events.attach('public.actor_builds')});

# What ids, times, durations, ports and names of databases make of an answer.
sub normalise
{
	my ($text) = @_;

	$text =~ s/\b[0-9A-Za-z]{17}\b/ID/g;
	$text =~ s/whsec_[\w+\/=]+/SECRET/g;
	$text =~ s/\b\d{4}-\d\d-\d\d[T ]\d\d:\d\d(?::\d\d(?:\.\d+)?)?(?:Z|[+-]\d\d(?::?\d\d)?)?/TIME/g;
	$text =~ s/\b(?:plain|odd)\b/DATABASE/g;
	$text =~ s/"(\w+)"\."(\w+)"/$1.$2/g;
	$text =~ s/\b\d+(?:\.\d+)?\b/N/g;
	return $text;
}

my %answers;

foreach my $database (qw(plain odd))
{
	create_platform($node, $database);
	my $url = $receiver->url("/ok?$database");
	my $webhook = $node->safe_psql($database, qq{SELECT id FROM webhook_events.create_webhook('$url', '{ACTOR.RUN.CREATED,ACTOR.RUN.SUCCEEDED}', description => 'a "b" / c',
		payload_template => '{"run": {{resource}}, "id": "{{resource.id}} {{userId}}", "type": {{eventType}}}', should_interpolate_strings => true,
		headers_template => '{"x-run": "{{resource.id}}"}')});
	$node->safe_psql($database, q{INSERT INTO actor_runs (id, actor_id, user_id, started_at, usage_total_usd, meta) VALUES ('r1', 'a', 'u', '2026-03-04 05:06:07.89+00', 0.1, '{"n": [1, null, 1.50]}');
		UPDATE actor_runs SET status = 'SUCCEEDED', finished_at = '2026-03-04 06:06:07+00'; INSERT INTO actor_builds (id, actor_id) VALUES ('b1', 'a');
		UPDATE actor_builds SET status = 'SUCCEEDED', finished_at = now()});
	wait_for_sql($node, q{SELECT count(*) FROM webhook_events.dispatches WHERE status = 'SUCCEEDED'}, 2, $database);
	my ($event, $dispatch) = split /\|/, $node->safe_psql($database, q{SELECT e.id, d.id FROM webhook_events.events AS e JOIN webhook_events.dispatches AS d ON d.event_id = e.id WHERE e.event_type = 'ACTOR.RUN.CREATED'});

	foreach my $question (@questions)
	{
		my $sql = $question =~ s/'W'/'$webhook'/gr =~ s/'D'/'$dispatch'/gr =~ s/'E'/'$event'/gr =~ s/(['"])U\1/$1$url$1/gr;
		my ($status, $stdout, $stderr) = $node->psql($database, $sql);

		push @{ $answers{$database} }, normalise("$stdout\n$stderr" =~ s/^psql:.*?: //mgr);
	}
	$answers{"$database sent"} = [ sort map { normalise(join "\n", $_->{target}, $_->{body}, $_->{headers}{'x-run'} // '') } grep { $_->{target} eq "/ok?$database" } $receiver->requests ];
}
foreach my $number (0 .. $#questions)
{
	is_deeply([ split /(?<=[>\n])/, $answers{odd}[$number] ], [ split /(?<=[>\n])/, $answers{plain}[$number] ], $questions[$number] =~ s/webhook_events\.//gr);
}
is_deeply($answers{'odd sent'}, $answers{'plain sent'}, 'the same is sent');
cmp_ok(scalar @{ $answers{'plain sent'} }, '>=', 2, 'and something is');
is($node->safe_psql('odd', q{SELECT count(*) FROM pg_class AS c JOIN pg_am AS m ON m.oid = c.relam WHERE c.relnamespace = 'webhook_events_internal'::regnamespace AND m.amname = 'other'}),
	0, 'our tables are heaps');
is($node->safe_psql('odd', q{SELECT last_error FROM webhook_events.status()}), '', 'and the worker never failed');
$node->stop;
done_testing();
