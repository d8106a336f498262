# 063_monitoring.pl
#	  The files for Prometheus with what they are made for: Debian's
#	  prometheus-sql-exporter scrapes the database, Prometheus evaluates the
#	  rules, and every query of the dashboard finds something.

use strict;
use warnings;
use Cwd qw(abs_path);
use File::Basename qw(dirname);
use HTTP::Tiny;
use JSON::PP;
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
my $node = new_node('monitoring');
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

# The rules; none of them waits here.
my $rules = slurp_file("$files/webhook_events_alerts.yml");
is(system('promtool', 'check', 'rules', "$files/webhook_events_alerts.yml"), 0, 'promtool accepts the rules');
$rules =~ s/for: \d+[mh]/for: 0s/g;
write_file('rules.yml', $rules);
start('prometheus.log', 'prometheus', '--config.file=' . write_file('prometheus.yml', <<"YML"), "--storage.tsdb.path=$directory/data", "--web.listen-address=127.0.0.1:$prometheus_port");
global: {scrape_interval: 1s, evaluation_interval: 1s}
rule_files: [$directory/rules.yml]
scrape_configs:
- job_name: webhook_events
  static_configs: [{targets: ['127.0.0.1:$exporter_port']}]
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
done_testing();
