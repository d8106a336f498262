# 062_report.pl
#	  Metrics for machines, and the report for eyes: complete, escaped, and
#	  the same whether nothing or everything went wrong.

use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use WebhookEvents::Node;
use WebhookEvents::Receiver;

my $receiver = WebhookEvents::Receiver->new;
my $node = new_node('report', conf => "webhook_events.retry_delay = '1h'\n");

create_platform($node);

sub query
{
	my ($sql) = @_;

	return $node->safe_psql('postgres', $sql);
}

# Samples by name and labels; checks the form on the way.
sub metrics
{
	my @lines = split /\n/, query('SELECT webhook_events.metrics()');
	my (%sample, $family, $type, @wrong);

	push @wrong, 'no end' if pop @lines ne '# EOF';
	foreach my $line (@lines)
	{
		if ($line =~ /^# HELP (webhook_events_\w+) \S.*\.$/) { $family = $1; }
		elsif ($line =~ /^# TYPE (\w+) (gauge|counter|histogram)$/ && $1 eq $family) { $type = $2; }
		elsif (my ($name, $suffix, $labels, $value) = $line =~ /^(\w+?)(_total|_bucket|_count|_sum|)((?:\{\w+="(?:[^"\\]|\\.)*"\})?) (-?[0-9.]+)$/)
		{
			my $wanted = { counter => qr/^_total$/, gauge => qr/^$/, histogram => qr/^_(?:bucket|count|sum)$/ }->{$type};

			push @wrong, $line if $name ne $family || $suffix !~ $wanted || exists $sample{"$name$suffix$labels"};
			$sample{"$name$suffix$labels"} = $value;
		}
		else { push @wrong, $line; }
	}
	is_deeply(\@wrong, [], 'metrics are OpenMetrics text');
	return \%sample;
}

# Elements are closed in order, nothing is fetched from elsewhere or run.
sub check_page
{
	my ($page, $name) = @_;
	my %void = map { $_ => 1 } qw(meta line rect path);
	my @open;
	my @wrong;

	while ($page =~ m{<(/?)(\w+)((?:\s[^<>]*)?)>}g)
	{
		my ($end, $element, $attributes) = ($1, $2, $3);

		push @wrong, "$element$attributes" if $attributes =~ /\b(?:on\w+|src|href)=/ || $element =~ /^(?:script|img|link|iframe|b>)$/;
		next if $void{$element};
		if (!$end) { push @open, $element; }
		elsif (@open && $open[-1] eq $element) { pop @open; }
		else { push @wrong, "/$element"; }
	}
	is_deeply([ @wrong, @open ], [], $name);
	return;
}

# Nothing has happened yet.
my $samples = metrics();
is($samples->{webhook_events_worker_running}, 1, 'a worker');
is($samples->{'webhook_events_call_duration_seconds_bucket{le="+Inf"}'}, 0, 'that has called nobody');
my $page = query("SELECT webhook_events.report()");
check_page($page, 'an empty report is a page');
like($page, qr/No call has failed.*Nothing is missing or late/s, 'that says so');

# Markup in every field.
my $backwards = "\xE2\x80\xAE";	# it turns what follows
my $steering = qr/$backwards|\xE2\x80\x8F|\xD8\x9C|\xC2\x9B|[\x01-\x08\x0B\x0C\x0E-\x1F\x7F]/;
my $evil = q{</pre></details></style></svg>"><script>alert(1)</script><img src=x onerror=alert(1)>'&amp;}
  . "$backwards\xE2\x80\x8F\xD8\x9C \xC2\x9B1m\e[31m\x01\x7F\r\nwaits|||delivered";
my $quoted = $node->safe_psql('postgres', "SELECT quote_literal(\$\$$evil\$\$)");
my $webhook = create_webhook($node, $receiver->url('/echo?status=500'), 'ACTOR.RUN.CREATED',
	user_id => $quoted, description => $quoted, payload_template => q('{"run": {{resource}}}'));
query("INSERT INTO actor_runs (id, actor_id, user_id, status_message) VALUES ($quoted, $quoted, $quoted, $quoted)");
wait_for_sql($node, q{SELECT state FROM webhook_events.deliveries}, 'waiting for a retry');
create_webhook($node, $receiver->url('/ok'), 'ACTOR.RUN.CREATED', actor_id => "left($quoted, 200)");
query("CREATE TABLE " . q{"<script>runs"} . ' (id text, actor_id text, user_id text, status text, finished_at timestamptz);'
	  . q{ SELECT webhook_events.attach('"<script>runs"', 'run'); SET webhook_events.emit = off;}
	  . qq{ INSERT INTO "<script>runs" VALUES ($quoted, 'a', NULL, 'FAILED', now())});
query("UPDATE webhook_events_internal.webhooks SET is_enabled = false, disabled_reason = $quoted");
$page = query("SELECT webhook_events.report(now() - interval '1 hour', now() + interval '1 minute')");
check_page($page, 'markup in the data is none in the report');
like($page, qr/&lt;script&gt;alert\(1\)/, 'but is to be read');
unlike($page, $steering, 'no text turns others around, or steers a terminal');
my $story = query("SELECT what, detail FROM webhook_events.explain_run($quoted)");
unlike($story, $steering, 'nor in the story of a run');
is(scalar(split /\n/, $story), query("SELECT count(*) FROM webhook_events.explain_run($quoted)"), 'which has a line for each step');
is(scalar(split /\n/, query('SELECT reason FROM webhook_events.events AS e, webhook_events.explain_event(e.id)')), 2, "as an event's has for each webhook");
like($page, qr/event is missing/, 'along with the audit');
like($page, qr/HTTP status 500/, 'and what failed');
$page = query("SELECT webhook_events.report(now() - interval '1 hour', now() + interval '1 minute', '$webhook')");
check_page($page, 'a report of one webhook');
like(query("SELECT webhook_events.report('-infinity', 'infinity')"), qr/HTTP status 500/, 'and one without limits tells of all there is');
like($page, qr/webhook $webhook, http:.*<b>1<\/b>dispatches made/s, 'counts its own');
$samples = metrics();
is($samples->{'webhook_events_calls_total{result="5xx"}'}, 1, 'a failed call is counted');
is($samples->{'webhook_events_delay_seconds_count'}, 1, 'and its delay');
is($samples->{'webhook_events_host_failures_total{host="' . ($receiver->url('') =~ m{//([^/]+)})[0] . '"}'}, 1, 'by host');
cmp_ok($samples->{'webhook_events_table_bytes{table="events"}'}, '>', 0, 'tables have a size');

# A page names the encoding in which it is written.
query(q{CREATE DATABASE umlauts ENCODING 'LATIN1' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'});
$node->safe_psql('umlauts', 'CREATE EXTENSION webhook_events');
foreach my $encoding ([ LATIN1 => 'iso-8859-1', "\xFC" ], [ UTF8 => 'utf-8', "\xC3\xBC" ])
{
	my ($name, $label, $umlaut) = @$encoding;
	my $text = $node->safe_psql('umlauts', "SET client_encoding = '$name'; SELECT webhook_events_internal.html(chr(252)), webhook_events.report()");

	like($text, qr/^$umlaut\|<!DOCTYPE html>.*<meta charset="$label">/s, "a page in $name says so");
}
is($node->safe_psql('umlauts', q{SELECT encode(convert_to(webhook_events_internal.on_a_line(chr(155) || '31m' || chr(133) || chr(252)), 'LATIN1'), 'hex')}),
	'3f33316d3ffc', 'what steers a terminal is known there as well');
is(query(q{SELECT webhook_events_internal.on_a_line(U&'a\2028b\009bc')}), 'a?b?c', 'as are ends of lines that are not seen');
is(query(q{SELECT string_agg(pg_encoding_to_char(n), ' ' ORDER BY n) FROM generate_series(0, 45) AS n WHERE pg_encoding_to_char(n) <> ''
		AND webhook_events_internal.html_charset(pg_encoding_to_char(n)) = 'utf-8'}),
	'SQL_ASCII EUC_TW UTF8 MULE_INTERNAL JOHAB', 'as it does in each that pages can have');

# Bad input.
sql_fails($node, "SELECT webhook_events.report(now(), now() - interval '1 hour')", qr/22023: report can't start at/, 'an end before the start');
sql_fails($node, 'SELECT webhook_events.report(NULL)', qr/22004/, 'no start');
sql_fails($node, "SELECT webhook_events.report(webhook_id => 'nope')", qr/42704: webhook "nope" does not exist/, 'an unknown webhook');
query("CREATE ROLE reader; CREATE ROLE monitor; CREATE ROLE tenant; SELECT webhook_events.grant_access('reader', 'reader'),"
	  . " webhook_events.grant_access('monitor', 'monitor'), webhook_events.grant_access('tenant', 'tenant', 'ada')");
like(query('SET ROLE reader; SELECT webhook_events.report()'), qr/<\/html>/, 'a reader may have a report');
like(query('SET ROLE monitor; SELECT webhook_events.metrics()'), qr/webhook_events_calls_total\{result="5xx"\} 1\n/, 'a monitor metrics');
sql_fails($node, "SET ROLE tenant; SELECT webhook_events.$_()", qr/42501/, "a tenant no $_") foreach qw(report metrics);
# Those that fail are looked up alone, however many webhooks there are.
sub scans
{
	return (split /\n/, query(q{BEGIN; SELECT length(webhook_events.report());
		SELECT sum(seq_scan + coalesce(idx_scan, 0)) FROM pg_stat_xact_all_tables WHERE relname ~ '^(?:dispatches|calls)_'}))[-1];
}
query(qq{INSERT INTO webhook_events_internal.webhook_stats (webhook_id, total_dispatches, last_dispatch_id, last_status, failing_since) VALUES ('$webhook', 1, 'a', 'ACTIVE', now())
	ON CONFLICT (webhook_id) DO UPDATE SET failing_since = now()});
like(query('SELECT webhook_events.report()'), qr/Failing webhooks.*<td>$webhook/s, 'a webhook that fails is named');
my $few = scans();
query(q{SELECT count(webhook_events.create_webhook('http://127.0.0.1:1/', '{ACTOR.RUN.ABORTED}', actor_id => 'nobody')) FROM generate_series(1, 300)});
cmp_ok(scans(), '<', $few + 100, "and found among 300 as among few ($few scans)");
done_testing();
