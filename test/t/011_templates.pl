# 011_templates.pl
#	  The template language: known cases, and properties of random ones.

use strict;
use warnings;
use Cwd qw(abs_path);
use File::Basename qw(dirname);
use JSON::PP;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use WebhookEvents::Node;

my @names = qw(userId createdAt eventType eventData resource globals);
my $json = JSON::PP->new->allow_nonref->canonical->ascii;
my $node = new_node('templates');

$node->safe_psql('postgres', <<'SQL');
CREATE EXTENSION webhook_events;
CREATE FUNCTION try_render(template text, variables json[], interpolate boolean) RETURNS text
LANGUAGE plpgsql AS $$
BEGIN
	RETURN 'ok ' || webhook_events_internal.render_template(template, variables, interpolate);
EXCEPTION WHEN OTHERS THEN
	RETURN SQLSTATE || ' ' || SQLERRM;
END $$;
-- Is the result the expected value?
CREATE FUNCTION judge(template text, variables json[], interpolate boolean, expected text)
RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	result text := try_render(template, variables, interpolate);
BEGIN
	IF result LIKE 'ok %' AND substr(result, 4)::jsonb IS NOT DISTINCT FROM expected::jsonb THEN
		RETURN 'as expected';
	END IF;
	RETURN format(E'%s\ninstead of %s\nfrom %s\nwith %s', result, expected, template, variables);
END $$;
-- A result that is not JSON, or an error of another class than bad input.
CREATE FUNCTION misfit(template text, variables json[], interpolate boolean)
RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	result text := try_render(template, variables, interpolate);
BEGIN
	IF result LIKE 'ok %' THEN
		PERFORM substr(result, 4)::json;
	ELSIF result !~ '^22(023|P02) ' THEN
		RETURN result;
	END IF;
	RETURN NULL;
EXCEPTION WHEN OTHERS THEN
	RETURN format('%s: %s gives %s', SQLERRM, template, result);
END $$;
SQL

sub literal
{
	my $text = shift;

	return 'NULL' unless defined $text;
	utf8::encode($text);
	$text =~ s/'/''/g;
	return "'$text'";
}

# The arguments of render_template() for a template and its variables.
sub arguments
{
	my ($template, $values, $interpolate) = @_;
	my $list = join ', ',
	  map { literal(defined $values->{$_} ? $json->encode($values->{$_}) : undef) } @names;

	return literal($template) . ", ARRAY[$list]::json[], " . ($interpolate ? 'true' : 'false');
}

# Known cases.  Where any name is allowed, ours stand for theirs.
my %ours = (foo => 'userId', lol => 'eventType', xyz => 'createdAt',
	arrayField => 'eventData', array => 'globals', other => 'eventType', data => 'userId');

# What we do otherwise on purpose: in longer strings, JSON for what is no string.
my %different = (
	'replaces variables in strings if interpolateStrings=true' => {
		arrayFieldInString => 'This is my array [1,2,3]',
		resourceInString => 'This is my object {"defaultDatasetId":"dataset-123"}'
	});
my $cases = $json->decode(slurp_file(abs_path(dirname(__FILE__)) . '/../data/template_cases.json'));

is(scalar @{ $cases->{cases} }, 35, 'all cases are here');
foreach my $case (@{ $cases->{cases} })
{
	my $template = $case->{template};
	my $expected = $case->{expected};
	my %values = %{ $case->{context} };
	my $name = "case: $case->{name}";

	%$expected = (%$expected, %{ $different{ $case->{name} } }) if $different{ $case->{name} };
	$expected = $json->encode($expected);
	if (!$case->{allowedVariables})
	{
		s/\{\{(\w+)(?=[.}])/'{{' . ($ours{$1} \/\/ $1)/ge foreach $template, $expected;
		%values = map { ($ours{$_} // $_) => $values{$_} } keys %values;
	}
	elsif (!grep { $_ eq 'eventType' } @{ $case->{allowedVariables} })
	{
		$template =~ s/\{\{eventType/{{notAllowed/g;
	}
	my $arguments = arguments($template, \%values, $case->{interpolateStrings});
	if ($case->{error})
	{
		my $state = $case->{error} eq 'invalid_json' ? '22P02' : '22023';

		like($node->safe_psql('postgres', "SELECT try_render($arguments)"), qr/^$state /, $name);
	}
	else
	{
		is($node->safe_psql('postgres', "SELECT judge($arguments, " . literal($expected) . ')'),
			'as expected', $name);
	}
}

# Random templates are built along with what they must give, so that no second
# implementation has to be trusted.  A failure can be repeated with its seed.
my $seed = $ENV{TEMPLATE_SEED} // time;
srand($seed);

sub pick { return $_[ int rand @_ ] }

my @strings = ('', 'x', '{{userId}}', 'a {{resource.a}} b', "quote\" back\\ line\n tab\t", "\x{17e}lu\x{165} \x{1f600}",
	'}}', '{{', "\\", '"}, {"injected": true', '{{{{userId}}}}', "\x{1}\x{7f}");
my @keys = ('a', 'b', 'c1', '0', '1', '2', '01', 'a-b', "\x{e9}", '_');

sub random_value
{
	my $depth = shift;
	my $kind = $depth > 0 ? int rand 8 : int rand 5;

	return pick(@strings) if $kind < 2;
	return pick(0, 1, -7, 123456789012, 0.5) if $kind == 2;
	return pick(JSON::PP::true, JSON::PP::false) if $kind == 3;
	return undef if $kind == 4;
	return { map { pick(@keys) => random_value($depth - 1) } 0 .. rand 4 } if $kind < 7;
	return [ map { random_value($depth - 1) } 1 .. rand 4 ];
}

# A variable that leads somewhere or nowhere, and its value.  In strings the
# names can hold fewer characters.
sub random_variable
{
	my ($values, $in_string) = @_;
	my $path = pick(@names);
	my $value = $values->{$path};

	while (rand() < 0.6)
	{
		my $key = pick(grep { !$in_string || /^[a-zA-Z0-9]+$/ }
			  (ref $value eq 'HASH' ? keys %$value : ()), @keys);

		$value = ref $value eq 'HASH' ? $value->{$key}
		  : ref $value eq 'ARRAY' && $key =~ /^(?:0|[1-9]\d*)$/ ? $value->[$key]
		  : undef;
		$path .= ".$key";
	}
	return ("{{$path}}", $value);
}

# A string of a template that interpolates, and its value.
sub random_string
{
	my $values = shift;
	my @parts = map {
		rand() < 0.5
		  ? [ random_variable($values, 1) ]
		  : do { my $text = pick('text ', '{ {', 'q"', '{{no-name}}'); [ $text, $text ] }
	} 0 .. rand 3;
	my $template = $json->encode(join '', map { $_->[0] } @parts);

	return ($template, $parts[0][1])
	  if @parts == 1 && $parts[0][0] =~ /^\{\{[a-zA-Z0-9.]+\}\}$/;
	return ($template, join '', map {
			my ($text, $value) = @$_;
			!defined $value || ref $value || $text =~ /^\{\{[a-zA-Z0-9.]+\}\}$/ && !is_string($value)
			  ? $json->encode($value) : $value } @parts);
}

sub is_string
{
	my $value = shift;

	return $json->encode($value) =~ /^"/;
}

# Text of a template and its value.
sub random_template
{
	my ($values, $interpolate, $depth) = @_;
	my $kind = $depth > 0 ? rand : 0;
	my (@parts, %object);

	return random_variable($values, 0) if $kind < 0.35;
	return random_string($values) if $kind < 0.6 && $interpolate;
	if ($kind < 0.7)
	{
		my $value = random_value(0);

		return ($json->encode($value), $value) unless $interpolate && is_string($value);
		return ('null', undef);
	}
	@parts = map { [ $keys[$_], random_template($values, $interpolate, $depth - 1) ] } 0 .. rand 4;
	return ('[' . join(pick(',', " ,\n"), map { $_->[1] } @parts) . ']', [ map { $_->[2] } @parts ])
	  if $kind < 0.8;
	%object = map { $_->[0] => $_->[2] } @parts;
	return ('{' . join(pick(',', " ,\n"), map { $json->encode($_->[0]) . pick(':', ' : ') . $_->[1] } @parts)
		  . '}', \%object);
}

my (@exact, @mutated);
foreach (1 .. 500)
{
	my $interpolate = rand() < 0.5;
	my %values = map { $_ => random_value(3) } @names;
	my ($template, $expected) = random_template(\%values, $interpolate, 3);
	my $mutant = $template;

	push @exact, 'SELECT judge(' . arguments($template, \%values, $interpolate) . ', '
	  . literal($json->encode($expected)) . ')';
	foreach (0 .. rand 3)
	{
		substr($mutant, rand(1 + length $mutant), int rand 3) =
		  pick('{{', '}}', '{', '}', '"', '\\', ',', '[', ']', ':', 'userId', '.', 'x', ' ', "\n", '\\u12', '1e', '');
	}
	push @mutated, 'SELECT misfit(' . arguments($mutant, \%values, $interpolate) . ')';
}
my $results = $node->safe_psql('postgres',
	'SELECT r, count(*) FROM (' . join(' UNION ALL ', @exact) . ') AS t (r) GROUP BY r LIMIT 5');
is($results, 'as expected|500', "500 random templates give what they were made for (seed $seed)");
$results = $node->safe_psql('postgres',
	'SELECT r FROM (' . join(' UNION ALL ', @mutated) . ') AS t (r) WHERE r IS NOT NULL LIMIT 5');
is($results, '', "500 damaged ones give JSON or an error that says so (seed $seed)");

# The largest template and a large resource; the time limit is far from what it
# takes, and from what it would take if it grew with the square.
$results = $node->safe_psql('postgres', <<'SQL');
SET statement_timeout = '60s';
SELECT length(webhook_events_internal.render_template('[' || repeat('{{resource.key99}},', 52000) || '0]',
	ARRAY[NULL, NULL, NULL, NULL, r], false))
FROM (SELECT json_object_agg('key' || n, repeat('x', 50000)) FROM generate_series(0, 98) AS n) AS t (r);
SELECT length(webhook_events_internal.render_template('["' || repeat('{{resource.x}} ', 66000) || '"]',
	ARRAY[NULL, NULL, NULL, NULL, json_build_object('pad', repeat('y', 5000000), 'x', 'abc')], true));
SELECT length(webhook_events_internal.render_template('{"a": {{resource}}, "b": [{{resource}}]}',
	ARRAY[NULL, NULL, NULL, NULL, json_build_object('pad', repeat(E'\\"\u017e', 1000000))], false));
SQL
is($results, join("\n", 1 + 52000 * 5 + 2, 2 + 66000 * 4 + 2, 2 * (length('{"pad" : ""}') + 5000000) + length('{"a": , "b": []}')),
	'templates of a million characters and resources of five megabytes are no effort');

$node->stop;
done_testing();
