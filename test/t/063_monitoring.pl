# 063_monitoring.pl
#	  The files for Prometheus with what they are made for: Debian's
#	  prometheus-sql-exporter scrapes the database, Prometheus evaluates the
#	  rules, and every query of the dashboard finds something.

use strict;
use warnings;
use Cwd qw(abs_path);
use File::Basename qw(dirname);
use HTTP::Tiny;
use IO::Socket::INET;
use JSON::PP;
use POSIX ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use WebhookEvents::Node;
use WebhookEvents::Receiver;

foreach my $program (qw(prometheus promtool prometheus-sql-exporter))
{
	plan skip_all => "$program is not installed"
	  unless grep { -x "$_/$program" } split /:/, $ENV{PATH};
}

my $files = abs_path(dirname(__FILE__) . '/../../src/doc/monitoring');
my $directory = PostgreSQL::Test::Utils::tempdir;
my $http = HTTP::Tiny->new(timeout => 20);
my $json = JSON::PP->new->utf8;
my @pids;

# So long a machine that is busy with other things may take.
my $patience = 180;

END
{
	my $status = $?;

	foreach my $pid (@pids)
	{
		kill 'TERM', $pid;
		waitpid $pid, 0;
	}
	$? = $status;
}

sub start
{
	my ($log, @command) = @_;
	my $pid = fork;

	die "could not fork: $!" unless defined $pid;
	if ($pid == 0)
	{
		open STDOUT, '>', "$directory/$log";
		open STDERR, '>&', \*STDOUT;
		exec @command or POSIX::_exit(1);
	}
	push @pids, $pid;
	return;
}

sub write_file
{
	my ($name, $text) = @_;

	open my $file, '>', "$directory/$name" or die $!;
	print $file $text;
	close $file;
	return "$directory/$name";
}

my $receiver = WebhookEvents::Receiver->new;
my $node = new_node('monitoring', conf => "webhook_events.retry_delay = '1s'\nwebhook_events.retry_jitter = 0\nwebhook_events.max_retries = 1\n");
my ($exporter_port, $prometheus_port) = map { PostgreSQL::Test::Cluster::get_free_port() } 1 .. 2;
create_platform($node);
$node->safe_psql('postgres', "CREATE ROLE monitoring LOGIN; SELECT webhook_events.grant_access('monitoring', 'monitor')");
create_webhook($node, $receiver->url('/ok'), 'ACTOR.RUN.CREATED');
insert_runs($node, 3, 'scraper');
wait_for_end($node);

# The exporter, as the role that the file names.
my $config = slurp_file("$files/webhook_events_sql_exporter.yml");
my ($host, $port) = ($node->host, $node->port);
ok($config =~ s{postgres:///postgres\?host=/var/run/postgresql&}{postgres:///postgres?host=$host&port=$port&},
	'the file names a connection');
$config =~ s/interval: 15s/interval: 1s/;
start('exporter.log', 'prometheus-sql-exporter', '-config.file', write_file('exporter.yml', $config),
	'-web.listen-address', "127.0.0.1:$exporter_port");
my $page = '';
wait_until
{
	$page = $http->get("http://127.0.0.1:$exporter_port/metrics")->{content} // '';
	$page =~ /^sql_webhook_events_disk\{/m && $page =~ /^sql_webhook_events_hosts\{/m
}
'the exporter has asked the database', $patience;
foreach my $name ($config =~ /^  - name: (\w+)/mg)
{
	like($page, qr/^sql_$name\{/m, "$name is exported");
}
like($page, qr/^sql_webhook_events_calls\{[^}]*result="2xx"[^}]*\} 3$/m, 'with what was counted');
unlike(slurp_file("$directory/exporter.log"), qr/"level":"error"/, 'and no query fails');

# What metrics() says, as Prometheus itself gets it: read as strictly as OpenMetrics is.
my $openmetrics_port = PostgreSQL::Test::Cluster::get_free_port();
my $server = IO::Socket::INET->new(Listen => 10, LocalAddr => '127.0.0.1', LocalPort => $openmetrics_port, ReuseAddr => 1)
  or die "could not listen: $!";
write_file('metrics', $node->safe_psql('postgres', 'SELECT webhook_events.metrics()'));
my $serving = fork // die "could not fork: $!";
if ($serving == 0)
{
	while (my $client = $server->accept)
	{
		while (defined(my $line = <$client>)) { last if $line =~ /^\r?$/ }
		my $text = slurp_file("$directory/metrics");

		print $client "HTTP/1.1 200 OK\r\nContent-Type: application/openmetrics-text; version=1.0.0; charset=utf-8\r\n"
		  . 'Content-Length: ' . length($text) . "\r\nConnection: close\r\n\r\n$text";
		close $client;
	}
	POSIX::_exit(0);
}
push @pids, $serving;

# The rules; none of them waits here, and little is enough.
my $rules = slurp_file("$files/webhook_events_alerts.yml");
is(system('promtool', 'check', 'rules', "$files/webhook_events_alerts.yml"), 0, 'promtool accepts the rules');
$rules =~ s/for: \d+[mh]/for: 0s/g;
is($rules =~ s/_lag_seconds"\} > \d+/_lag_seconds"} > 0.5/g, 2, 'there are two rules for lags');
is($rules =~ s/> 100e9/> 1e18/, 1, 'and one for the disk');
write_file('rules.yml', $rules);
start('prometheus.log', 'prometheus', '--config.file=' . write_file('prometheus.yml', <<"YML"), "--storage.tsdb.path=$directory/data", "--web.listen-address=127.0.0.1:$prometheus_port");
global: {scrape_interval: 1s, evaluation_interval: 1s}
rule_files: [$directory/rules.yml]
scrape_configs:
- job_name: webhook_events
  static_configs: [{targets: ['127.0.0.1:$exporter_port']}]
- job_name: openmetrics
  static_configs: [{targets: ['127.0.0.1:$openmetrics_port']}]
YML

sub api
{
	my ($path) = @_;
	my $answer = $http->get("http://127.0.0.1:$prometheus_port/api/v1/$path");

	return $answer->{success} ? $json->decode($answer->{content})->{data} : undef;
}

sub state_of
{
	my ($alert) = @_;
	my $data = api('rules') or return '';

	return join ',', map { $_->{state} } grep { $_->{name} eq $alert } map { @{ $_->{rules} } } @{ $data->{groups} };
}

my ($exporter, $prometheus) = @pids[0, -1];

# The value of a query that finds one thing; undef if it finds none or more.
sub value_of
{
	my ($query) = @_;
	my $found = (api('query?query=' . ($query =~ s/([^A-Za-z0-9])/sprintf '%%%02X', ord $1/ger)) // { result => [] })->{result};

	return @$found == 1 ? $found->[0]{value}[1] : undef;
}

wait_until { (value_of('up{job="openmetrics"}') // 0) == 1 } 'Prometheus reads metrics()', $patience;
my %counted = %{ $json->decode($node->safe_psql('postgres', q{SELECT row_to_json(s) FROM webhook_events.stat_delivery AS s})) };
my %said = (
	(map { ("webhook_events_${_}_total" => $counted{$_}) } qw(worker_starts events_routed dispatches retries webhooks_disabled problem_events calls_cut_short left_out)),
	(map { (qq{webhook_events_calls_total{result="$_"}} => $counted{"status_$_"}) } qw(1xx 2xx 3xx 4xx 5xx)),
	(map { (qq{webhook_events_calls_total{result="$_"}} => $counted{"errors_$_"}) } qw(name connection tls timeout not_allowed broken)),
	'webhook_events_dispatches_ended_total{result="succeeded"}' => $counted{succeeded},
	'webhook_events_dispatches_ended_total{result="failed"}' => $counted{given_up},
	'webhook_events_bytes_total{direction="sent"}' => $counted{bytes_sent},
	'webhook_events_bytes_total{direction="received"}' => $counted{bytes_received},
	'webhook_events_delay_seconds_count' => eval { my $sum = 0; $sum += $_ foreach @{ $counted{delay} }; $sum },
	'webhook_events_call_duration_seconds_count' => $counted{calls},
	'webhook_events_delay_seconds_bucket{le="+Inf"}' => $counted{dispatches},
	'webhook_events_running' => undef, 'webhook_events_worker_running' => 1, 'webhook_events_delivering' => 1,
	'webhook_events_dispatches_active' => 0, 'webhook_events_held_dispatches' => 0, 'webhook_events_full_shares' => 0,
	'webhook_events_behind_seconds{queue="routing"}' => 0, 'webhook_events_problems{kind="access"}' => 0);
is(join("\n", map { my $value = value_of($_); defined $said{$_} == defined $value && (!defined $value || $value == $said{$_}) ? () : "$_ " . ($value // 'none') } sort keys %said),
	'', 'every metric is what stat_delivery and status() have');

# A rule is evaluated before there is anything to be seen as well.
wait_until { state_of('WebhookEventsNotDelivering') eq 'inactive' && state_of('WebhookEventsNotSeen') eq 'inactive'
	  && @{ (api('query?query=sql_webhook_events_status') // { result => [] })->{result} } > 0 }
'Prometheus sees the database', $patience;
my @evaluated = map { @{ $_->{rules} } } @{ api('rules')->{groups} };
is(join(', ', map { "$_->{name}: " . ($_->{lastError} // '') } grep { $_->{health} eq 'err' } @evaluated), '', 'every rule can be evaluated');
cmp_ok(scalar @evaluated, '>=', 8, 'all of them');
wait_until { state_of('WebhookEventsBroken') eq 'inactive' } 'nothing is broken', $patience;
$node->safe_psql('postgres', "SELECT webhook_events.pause('a test'); ALTER TABLE actor_runs DISABLE TRIGGER webhook_events_update");
wait_until { state_of('WebhookEventsNotDelivering') eq 'firing' } 'the alert fires', $patience;
pass('a pause fires an alert');
wait_until { state_of('WebhookEventsBroken') eq 'firing' } 'the alert fires', $patience;
pass('and so does a trigger that is disabled');

# So does each of the others when there is a reason.
sub fires
{
	my ($alert, $why) = @_;

	wait_until { state_of($alert) eq 'firing' } "$alert fires", $patience;
	pass("$alert fires: $why");
	return;
}

$node->safe_psql('postgres', 'ALTER TABLE actor_runs ENABLE TRIGGER webhook_events_update');
insert_runs($node, 1, 'waits');
fires('WebhookEventsRoutingLag', 'events wait to be routed');
my $failing = create_webhook($node, $receiver->url('/status/503'), 'ACTOR.RUN.CREATED', actor_id => "'fails'");
$node->safe_psql('postgres', 'SELECT webhook_events.resume()');
insert_runs($node, 300, 'fails');
fires('WebhookEventsMostCallsFail', 'more calls fail than succeed');
$node->safe_psql('postgres', 'SELECT pg_terminate_backend(worker_pid) FROM webhook_events.status()');
fires('WebhookEventsFailing', 'a webhook keeps failing');
my $slow = create_webhook($node, $receiver->url('/ok'), 'ACTOR.RUN.CREATED', actor_id => "'slow'");
$node->safe_psql('postgres', "SELECT webhook_events.set_max_rate('$slow', 0.001)");
insert_runs($node, 3, 'slow');
fires('WebhookEventsDeliveryLag', 'dispatches have been due for long');
my $calls = $node->safe_psql('postgres', q{SELECT 'webhook_events_internal.calls_' || to_char((now() AT TIME ZONE 'UTC')::date, 'YYYYMMDD')});
create_webhook($node, $receiver->url('/status/418'), 'ACTOR.RUN.CREATED', actor_id => "'teapot'", do_not_retry => 'true');
$node->safe_psql('postgres', "CREATE INDEX broken ON $calls ((1 / (response_status - 418)))");
insert_runs($node, 1, 'teapot');
fires('WebhookEventsLeftOut', 'a call could not be recorded');
$node->safe_psql('postgres', 'DROP INDEX webhook_events_internal.broken; ALTER TABLE actor_runs DROP COLUMN user_id');
insert_runs($node, 1, 'lacks');
fires('WebhookEventsIncomplete', 'an event lacks something');

# The dashboard: every query is one, and all but those of rates find something at once.
my $dashboard = $json->decode(slurp_file("$files/webhook_events_grafana.json"));
my (@failed, $queries);
foreach my $target (map { @{ $_->{targets} } } @{ $dashboard->{panels} })
{
	my $query = $target->{expr} =~ s/\$database/.*/gr =~ s/([^A-Za-z0-9])/sprintf '%%%02X', ord $1/ger;
	my $data = api("query?query=$query");

	$queries++;
	push @failed, $target->{expr} unless $data && ($target->{expr} =~ /rate\(/ || @{ $data->{result} } > 0);
}
is_deeply(\@failed, [], "every query of the dashboard is one ($queries)");
is($rules =~ s/> 1e18/> 1/, 1, 'the disk has a limit');
write_file('rules.yml', $rules);
kill 'HUP', $prometheus;
fires('WebhookEventsDisk', 'it is exceeded');
kill 'TERM', $exporter;
fires('WebhookEventsNotSeen', 'the exporter is gone');
done_testing();
