# 044_pages.pl
#	  The pages tell the truth: what is generated from the catalog is that of this
#	  version, every example does what its page shows, links lead somewhere.
#
# What was generated is left in PAGES, if that is set, for "make pages".

use strict;
use warnings;
use File::Basename qw(basename dirname);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use WebhookEvents::Node;
use WebhookEvents::Page;
use WebhookEvents::Receiver;

my $receiver = WebhookEvents::Receiver->new;
my $node = new_node('main', conf => "webhook_events.retry_delay = '1h'\n");

# Rows of a query, each a list of columns.
sub rows
{
	my ($sql) = @_;
	my $text = $node->safe_psql('reference', "COPY ($sql) TO STDOUT");

	return map {
		[ map { $_ eq '\N' ? '' : s/\\n/ /gr =~ s/\\([\\|])/$1/gr } split /\t/, $_, -1 ]
	} split /\n/, $text;
}

sub cell { return $_[0] =~ s/\|/\\|/gr; }

sub generate_reference
{
	my $page = <<'END';
# Reference

Everything is in the schema `webhook_events`. This page is made from the comments in
the catalog (`make pages`), so `\df+` and `\d+` say the same.

## Functions

END

	foreach my $row (rows(q{SELECT p.proname, pg_get_function_arguments(p.oid),
		CASE WHEN p.proargmodes && '{o,t}' THEN '' ELSE pg_get_function_result(p.oid) END,
		CASE WHEN p.proargmodes && '{o,t}' THEN (SELECT string_agg(format('%s %s', u.name, format_type(u.type, NULL)), ', ' ORDER BY u.n)
			FROM unnest(p.proargnames, p.proallargtypes, p.proargmodes) WITH ORDINALITY AS u (name, type, mode, n) WHERE u.mode IN ('o', 't')) ELSE '' END,
		obj_description(p.oid, 'pg_proc'), p.proretset
		FROM pg_proc AS p WHERE p.pronamespace = 'webhook_events'::regnamespace
			AND p.prorettype <> 'trigger'::regtype
		ORDER BY p.proname COLLATE "C", p.pronargs, p.oid::regprocedure::text COLLATE "C"}))
	{
		my ($name, $arguments, $result, $columns, $comment, $is_set) = @$row;

		# OUT columns are told as the result.
		$arguments =~ s/(?:, )?OUT .*//;
		$result = $columns ne '' ? ($is_set eq 't' ? 'rows' : 'one row') . ": $columns" : $result;
		s/webhook_events\.//g foreach $arguments, $result;
		$page .= "**$name**($arguments)" . ($result ne 'void' ? " → $result" : '') . "\\\n";
		$page .= ucfirst($comment) . ($comment =~ /[.?!]$/ ? '' : '.') . "\n\n";
	}
	$page .= "## Views\n";
	foreach my $view (rows(q{SELECT c.oid::oid, c.relname, obj_description(c.oid, 'pg_class')
		FROM pg_class AS c WHERE c.relnamespace = 'webhook_events'::regnamespace AND c.relkind = 'v'
		ORDER BY c.relname COLLATE "C"}))
	{
		my ($oid, $name, $comment) = @$view;

		$page .= "\n### $name\n\n" . ucfirst($comment) . ".\n\n| column | type | |\n|---|---|---|\n";
		$page .= join '', map { "| $_->[0] | " . ($_->[1] =~ s/webhook_events\.//gr) . ' | ' . cell($_->[2]) . " |\n" }
		  rows("SELECT attname, format_type(atttypid, atttypmod), col_description(attrelid, attnum)"
			  . " FROM pg_attribute WHERE attrelid = $oid AND attnum > 0 AND NOT attisdropped ORDER BY attnum");
	}
	$page .= "\n## Types\n\n";
	$page .= join '', map { "- `$_->[0]`: $_->[1]. Labels: $_->[2].\n" }
	  rows(q{SELECT t.typname, obj_description(t.oid, 'pg_type'),
		(SELECT string_agg('`' || e.enumlabel || '`', ', ' ORDER BY e.enumsortorder) FROM pg_enum AS e WHERE e.enumtypid = t.oid)
		FROM pg_type AS t WHERE t.typnamespace = 'webhook_events'::regnamespace AND t.typtype = 'e' ORDER BY 1});
	return $page;
}

sub generate_settings
{
	my $page = <<'END';
# Settings

In postgresql.conf, with the prefix `webhook_events.`. This page is made from the
server's own list (`make pages`), so `pg_settings` says the same.

| setting | default | set by | what it does |
|---|---|---|---|
END
	my %context = (sighup => 'reload', user => 'anybody, for a session', superuser => 'superuser, for a session',
		postmaster => 'restart');

	$page .= join '', map {
		my ($name, $default, $context, $short, $extra) = @$_;

		"| `$name` | " . ($default eq '' ? 'none' : "`$default`") . " | $context{$context} | " . cell($short . ($extra eq '' ? '' : " $extra")) . " |\n"
	  }
	  # The default with its unit, as SHOW has it.
	  rows(q{SELECT substr(name, 16), CASE WHEN vartype IN ('integer', 'real') AND unit IS NOT NULL THEN
			CASE unit WHEN 'ms' THEN CASE WHEN boot_val::numeric % 86400000 = 0 AND boot_val <> '0' THEN (boot_val::numeric / 86400000)::int || 'd'
					WHEN boot_val::numeric % 3600000 = 0 AND boot_val <> '0' THEN (boot_val::numeric / 3600000)::int || 'h'
					WHEN boot_val::numeric % 60000 = 0 AND boot_val <> '0' THEN (boot_val::numeric / 60000)::int || 'min'
					WHEN boot_val::numeric % 1000 = 0 AND boot_val <> '0' THEN (boot_val::numeric / 1000)::int || 's' ELSE boot_val || unit END
				WHEN 's' THEN CASE WHEN boot_val::numeric % 86400 = 0 AND boot_val <> '0' THEN (boot_val::numeric / 86400)::int || 'd'
					WHEN boot_val::numeric % 3600 = 0 AND boot_val <> '0' THEN (boot_val::numeric / 3600)::int || 'h'
					WHEN boot_val::numeric % 60 = 0 AND boot_val <> '0' THEN (boot_val::numeric / 60)::int || 'min' ELSE boot_val || unit END
				WHEN 'min' THEN CASE WHEN boot_val::numeric % 1440 = 0 AND boot_val <> '0' THEN (boot_val::numeric / 1440)::int || 'd' ELSE boot_val || unit END
				WHEN 'B' THEN pg_size_pretty(boot_val::bigint) WHEN 'kB' THEN pg_size_pretty(boot_val::bigint * 1024) ELSE boot_val || unit END
			ELSE boot_val END, context, short_desc, extra_desc
		FROM pg_settings WHERE name LIKE 'webhook\_events.%' AND category <> 'Developer Options' ORDER BY name COLLATE "C"});
	return $page;
}

$node->safe_psql('postgres', 'CREATE DATABASE reference');
$node->safe_psql('reference', 'CREATE EXTENSION webhook_events');
my %generated = (reference => generate_reference(), settings => generate_settings());

foreach my $page (sort keys %generated)
{
	append_to_file("$ENV{PAGES}/$page.md", $generated{$page}) if $ENV{PAGES};
	my @is = -e page_path($page) ? split(/^/, slurp_file(page_path($page))) : ();
	my @should_be = split /^/, $generated{$page};
	my %is = map { $_ => 1 } @is;

	is(join('', grep { !$is{$_} } @should_be), '', "$page.md lacks nothing of this version (make pages)");
	ok(join('', @is) eq $generated{$page}, "$page.md is that of this version");
}

my @pages = ('README', map { basename($_, '.md') } sort glob(dirname(page_path('reference')) . '/*.md'));
foreach my $page (@pages)
{
	my $text = slurp_file(page_path($page));
	my @broken = grep { !/^(?:https?:|#)/ && !-e dirname(page_path($page)) . '/' . s/#.*//r } $text =~ /\]\(([^)\s]+)\)/g;

	is("@broken", '', "$page: links lead somewhere");
	# Examples that no test would run are found out by what they start with.
	is(join('', ($text =~ s/^```.*?^```$//msgr) =~ /^((?:    |\t)(?:SELECT|INSERT|UPDATE|DELETE|CREATE|ALTER|GRANT|REVOKE|BEGIN)\b.*\n)/mg),
		'', "$page: no SQL stands outside of a block of SQL");
	# The cookbook has a test of its own.
	next if $page eq 'cookbook' || $text !~ /^```sql$/m;
	(my $database = lc "page_$page") =~ tr/-/_/;
	$node->safe_psql('postgres', "CREATE DATABASE $database");
	create_platform($node, $database) if $page ne 'README';
	my $here = $receiver->url('/');
	run_page($node, $database, $page,
		edit => sub { $_[0] =~ s{http://127\.0\.0\.1:10237/}{$here}gr =~ s{https://}{$receiver->url('/ok?to=')}ger },
		after => sub {
			wait_for_sql($node, 'SELECT events_waiting = 0 AND dispatches_active = 0 AND in_flight = 0'
				  . ' FROM webhook_events.status()', 't', $database)
			  if $node->safe_psql($database, "SELECT count(*) FROM pg_extension WHERE extname = 'webhook_events'");
		});
}

# The requests that pages show have what one really has, in this order.
my @got = grep { $_->{target} eq '/ok' && $_->{body} =~ /ACTOR\.RUN\.CREATED/ } $receiver->requests;
foreach my $page (qw(README tutorial))
{
	my ($shown, $body) = slurp_file(page_path($page)) =~ /^    POST \/ok\n((?:    \S.*\n)+)\n((?:    .*\n)+)/m;
	my @names = $shown =~ /^    ([\w-]+):/mg;
	my %shown = map { $_ => 1 } @names;
	my $request = $got[0];

	is(join(' ', grep { $shown{$_} } @{ $request->{header_names} }), "@names", "$page: the request has these headers");
	is($request->{headers}{ lc $1 }, $2, "$page: $1") while $shown =~ /^    (User-Agent|Content-Type|X-Apify-Request-Origin): (.*)/mg;
	is(join(' ', $request->{body} =~ /^    "(\w+)":/mg), join(' ', $body =~ /^        "(\w+)":/mg), "$page: and this in its body");
	is(join(' ', ($request->{body} =~ /"resource": (\{.*)/)[0] =~ /"(\w+)":/g) =~ s/^(\w+ \w+ \w+).*/$1/r,
		join(' ', ($body =~ /"resource": (\{.*)/)[0] =~ /"(\w+)":/g), "$page: and in its resource");
}

$node->stop;
done_testing();
