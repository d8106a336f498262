# 051_addresses.pl
#	  Where requests may go: what URLs are accepted, and where names lead.

use strict;
use warnings;
use Cwd qw(abs_path);
use Encode qw(decode_utf8);
use File::Basename qw(dirname);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use WebhookEvents::Node;
use WebhookEvents::Receiver;

my $here = abs_path(dirname(__FILE__));
my $directory = PostgreSQL::Test::Utils::tempdir();
my $answers = "$directory/answers";
my $cc = (grep { defined && $_ ne '' } $ENV{CC}, 'cc')[0];

# One receiver where requests may go, one where they may not, on the same port.
my $allowed = WebhookEvents::Receiver->new(listen => ['127.0.0.2']);
my $port = $allowed->port;
my $forbidden = WebhookEvents::Receiver->new(listen => ["127.0.0.1:$port"]);

system_or_bail($cc, '-shared', '-fPIC', '-o', "$directory/resolver.so", "$here/../resolver.c", '-ldl');

# Writes the resolver's answers, one of which changes.
sub resolve_rebinding_to
{
	my ($address) = @_;

	open(my $file, '>', "$answers.new") or die $!;
	print $file "outward.test 127.0.0.2\n", "inward.test 127.0.0.1\n",
	  "both.test 127.0.0.1 127.0.0.2\n", "mapped.test ::ffff:127.0.0.1\n", "six.test ::1\n",
	  "rebinding.test $address\n";
	close $file;
	chmod 0644, "$answers.new";
	rename "$answers.new", $answers or die $!;
	return;
}

resolve_rebinding_to('127.0.0.2');

my $node = new_node('addresses', start => 0, conf => <<'CONF');
webhook_events.allowed_networks = '127.0.0.2'
webhook_events.retry_delay = '10ms'
CONF
{
	local $ENV{LD_PRELOAD} = "$directory/resolver.so";
	local $ENV{TEST_RESOLVER} = $answers;
	$node->start;
}
create_platform($node);

sub query
{
	my ($sql) = @_;

	return $node->safe_psql('postgres', $sql);
}

# The table of URLs, under the default rules.
query(<<'SQL');
CREATE FUNCTION judge(url text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	PERFORM webhook_events.create_webhook(url, '{ACTOR.BUILD.CREATED}', is_enabled => false);
	RETURN 'ok';
EXCEPTION WHEN invalid_parameter_value THEN
	RETURN CASE WHEN SQLERRM ~ '^address .* is not allowed$' THEN 'address' ELSE 'malformed' END;
END $$;
SQL
my @urls = map { chomp; [ split /\t/, $_, 2 ] } grep { !/^#/ } split /(?<=\n)/, slurp_file("$here/../data/urls.txt");
my ($expected, @calls) = ('');
foreach my $case (@urls)
{
	my ($verdict, $url) = ($case->[0], $case->[1] // '');
	my %escapes = (t => "\t", n => "\n", r => "\r", '\\' => '\\');

	$url =~ s/\\(?:x([0-9a-f]{2})|(.))/defined $1 ? chr hex $1 : $escapes{$2}/ge;
	(my $quoted = $url) =~ s/'/''/g;
	$quoted =~ s/\\/\\\\/g;
	$quoted =~ s/([\x00-\x1f\x7f])/sprintf '\\x%02x', ord $1/ge;
	push @calls, "SELECT judge(E'$quoted')";
}
my @verdicts = split /\n/, query(join ";\n", @calls);
my @wrong = map { "$urls[$_][0], not $verdicts[$_]: " . ($urls[$_][1] // '') } grep { $verdicts[$_] ne $urls[$_][0] } 0 .. $#urls;
cmp_ok(scalar @urls, '>=', 120, scalar(@urls) . ' URLs');
is(join("\n", @wrong), '', 'are judged as the table says');
query('DELETE FROM webhook_events_internal.webhooks');

# Names, where only the resolver knows.
my $nruns = 0;

sub deliver
{
	my ($url) = @_;
	my $id = create_webhook($node, $url, 'ACTOR.RUN.CREATED', do_not_retry => 'true');

	query("INSERT INTO actor_runs (id, actor_id) VALUES ('run" . ++$nruns . "', 'a')");
	wait_for_end($node);
	my $result = query("SELECT d.status, c.error_message, c.response_body FROM webhook_events.dispatches AS d"
		  . " LEFT JOIN webhook_events.calls AS c ON c.dispatch_id = d.id WHERE d.webhook_id = '$id'");
	query("SELECT webhook_events.delete_webhook('$id')");
	return $result;
}

# Makes the worker forget what it has resolved, and its connections.
sub restart_worker
{
	my $pid = query('SELECT worker_pid FROM webhook_events.status()');

	query("SELECT pg_terminate_backend($pid)");
	wait_for_sql($node, "SELECT running AND worker_pid <> $pid FROM webhook_events.status()", 't');
	return;
}

is(deliver("http://outward.test:$port/ok"), 'SUCCEEDED||ok', 'a name that leads where requests may go');
is(deliver("http://inward.test:$port/ok"), 'FAILED|address 127.0.0.1 is not allowed|', 'one that leads inward is refused');
is(deliver("http://both.test:$port/ok"), 'SUCCEEDED||ok', 'of two addresses the allowed one is used');
like(deliver("http://mapped.test:$port/ok"), qr/^FAILED\|address (?:::ffff:)?127\.0\.0\.1 is not allowed\|$/, 'an address in an address is seen');
is(deliver("http://six.test:$port/ok"), 'FAILED|address ::1 is not allowed|', 'and any family');
restart_worker();
my @results;
foreach (1 .. 4)
{
	resolve_rebinding_to($_ % 2 ? '127.0.0.2' : '127.0.0.1');
	push @results, deliver("http://rebinding.test:$port/ok");
	restart_worker();
}
is(join("\n", @results), join("\n", ('SUCCEEDED||ok', 'FAILED|address 127.0.0.1 is not allowed|') x 2),
	'a name that changes its mind is judged each time');
is(scalar $forbidden->requests, 0, 'nothing has arrived where it may not');
is(scalar $allowed->requests, 4, 'and all where it may');

# A connection that is kept is no way around settings that have changed.
is(deliver("http://outward.test:$port/ok"), 'SUCCEEDED||ok', 'a connection is kept');
query(q{ALTER SYSTEM SET webhook_events.allowed_networks = ''});
$node->reload;
wait_for_sql($node, 'SHOW webhook_events.allowed_networks', '');
is(deliver("http://outward.test:$port/ok"), 'FAILED|address 127.0.0.2 is not allowed|', 'and not used against new settings');
query(q{ALTER SYSTEM RESET webhook_events.allowed_networks});

# Ports.
query(qq{ALTER SYSTEM SET webhook_events.allowed_ports = '443, $port-$port'});
$node->reload;
wait_for_sql($node, 'SHOW webhook_events.allowed_networks', '127.0.0.2');
wait_for_sql($node, 'SHOW webhook_events.allowed_ports', "443, $port-$port");
is(deliver("http://outward.test:$port/ok"), 'SUCCEEDED||ok', 'a port that is allowed');
sql_fails($node, "SELECT webhook_events.create_webhook('http://outward.test:22/', '{ACTOR.RUN.CREATED}')",
	qr/22023: port 22 is not allowed/, 'others are refused');
my $webhook = create_webhook($node, "http://outward.test:$port/ok", 'ACTOR.RUN.CREATED');
query(q{ALTER SYSTEM SET webhook_events.allowed_ports = '443'});
$node->reload;
wait_for_sql($node, 'SHOW webhook_events.allowed_ports', '443');
query("INSERT INTO actor_runs (id, actor_id) VALUES ('later', 'a')");
wait_for_end($node);
is(query("SELECT status, attempts, error_message FROM webhook_events.dispatches WHERE webhook_id = '$webhook'"),
	"FAILED|0|port $port is not allowed", 'at delivery as well');
query("SELECT webhook_events.delete_webhook('$webhook')");
sql_fails($node, "ALTER SYSTEM SET webhook_events.allowed_ports = '$_'",
	qr/22023: invalid value for parameter "webhook_events.allowed_ports"/, "bad ports: $_")
  foreach '0', '65536', '80-', '90-80', '80,', 'http', '80 443';

# A proxy is called instead, wherever names lead.
query(qq{ALTER SYSTEM RESET webhook_events.allowed_ports});
query(qq{ALTER SYSTEM SET webhook_events.proxy = 'http://127.0.0.1:$port'});
$node->reload;
wait_for_sql($node, 'SHOW webhook_events.proxy', "http://127.0.0.1:$port");
wait_for_sql($node, 'SHOW webhook_events.allowed_ports', '');
like(deliver('http://nowhere.example/ok'), qr/^(?:SUCCEEDED|FAILED)\|/, 'a proxy is called');
my ($request) = $forbidden->wait_for_requests(1);
is($request->{target}, 'http://nowhere.example/ok', 'with the whole URL');
sql_fails($node, "SELECT webhook_events.create_webhook('http://10.0.0.1/', '{ACTOR.RUN.CREATED}')",
	qr/22023: address 10\.0\.0\.1 is not allowed/, 'and is no way to addresses that are refused');

is(query('SELECT last_error FROM webhook_events.status()') =~ s/^terminating.*//r, '', 'the worker never failed');
$node->stop;
done_testing();
