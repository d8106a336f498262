# 055_wire.pl
#	  What peers do to connections: none of it ends other deliveries, uses up
#	  descriptors, or sends a request that is not in calls.

use strict;
use warnings;
use Cwd qw(abs_path);
use File::Basename qw(dirname);
use IO::Socket::INET;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Socket qw(:all);
use Test::More;
use WebhookEvents::Node;
use WebhookEvents::Receiver;

my $here = abs_path(dirname(__FILE__));
my $directory = PostgreSQL::Test::Utils::tempdir();
my $answers = "$directory/answers";
my $cc = (grep { defined && $_ ne '' } $ENV{CC}, 'cc')[0];

# How long is waited for what must happen: as long as it takes on a busy machine.
my $patience = 120;

# Endpoints that drop packets, without leaving this machine: listeners that
# accept nothing and whose queue is full, so that the kernel drops what comes.
my $ndropping = 64;
my $receiver = WebhookEvents::Receiver->new(listen => ['127.0.0.2']);
my $port = $receiver->port;
my $moved = WebhookEvents::Receiver->new(listen => ["127.0.0.3:$port"]);
my (@listeners, @fillers);

sub drop_packets_to
{
	my ($address) = @_;
	my $listener = IO::Socket::INET->new(LocalAddr => $address, LocalPort => $port,
		Listen => 1, ReuseAddr => 1) or die "could not listen on $address: $!";

	listen($listener, 0) or die $!;
	push @listeners, $listener;
	foreach (1 .. 4)
	{
		socket(my $filler, PF_INET, SOCK_STREAM, 0) or die $!;
		IO::Handle::blocking($filler, 0);
		connect($filler, pack_sockaddr_in($port, inet_aton($address)));
		push @fillers, $filler;
	}
	return;
}

# Does the kernel do so?
sub is_dropping
{
	my ($address) = @_;

	return !IO::Socket::INET->new(PeerAddr => $address, PeerPort => $port, Timeout => 1)
	  && $!{ETIMEDOUT};
}

drop_packets_to("127.0.1.$_") foreach 1 .. $ndropping;
my $drops = is_dropping('127.0.1.1');

system_or_bail($cc, '-shared', '-fPIC', '-o', "$directory/resolver.so", "$here/../resolver.c", '-ldl');

sub resolve
{
	my ($address) = @_;

	open(my $file, '>', "$answers.new") or die $!;
	print $file "moving.test $address\n", map { "two$_.test 127.0.1.$_ 127.0.0.2\n" } 1 .. $ndropping;
	close $file;
	chmod 0644, "$answers.new";
	rename "$answers.new", $answers or die $!;
	return;
}

resolve('127.0.0.2');

# So few descriptors that a hundred lost ones would be missed.
my $node = new_node('wire', start => 0, conf => <<'CONF');
max_files_per_process = 300
webhook_events.connect_timeout = '100ms'
webhook_events.dns_cache_time = 0
webhook_events.retry_delay = '100ms'
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

# Changes settings, and has a new worker, which is certain to know them.
sub set
{
	my (%settings) = @_;
	my $pid = query('SELECT worker_pid FROM webhook_events.status()');

	query("ALTER SYSTEM SET webhook_events.$_ = '$settings{$_}'") foreach sort keys %settings;
	query('SELECT pg_reload_conf()');
	query("SELECT pg_terminate_backend($pid)");
	wait_until { query("SELECT running AND worker_pid <> $pid FROM webhook_events.status()") eq 't' }
	'there is a new worker', $patience;
	return;
}

my $nruns = 0;

# Inserts runs of an Actor, each with its CREATED event.
sub insert
{
	my ($actor, $count) = @_;

	query("INSERT INTO actor_runs (id, actor_id) SELECT 'run' || i, '$actor'"
		  . " FROM generate_series($nruns + 1, $nruns + $count) AS i");
	$nruns += $count;
	return;
}

sub wait_for_outcome
{
	my ($webhook, $outcome) = @_;

	wait_until {
		query("SELECT count(*) FROM webhook_events.dispatches WHERE webhook_id = '$webhook' AND $outcome->[0]")
		  == $outcome->[1]
	}
	"$outcome->[1] dispatches are: $outcome->[0]", $patience;
	return;
}

# The webhook of one path, for an Actor of that name.
my %webhooks;

sub webhook
{
	my ($name, $url, %arguments) = @_;

	return $webhooks{$name} = create_webhook($node, $url, 'ACTOR.RUN.CREATED', actor_id => "'$name'", %arguments);
}

# Delivers one run to it and returns its dispatch with all calls, when the first
# call or the last one has ended.
sub deliver
{
	my ($name, $outcome) = @_;

	insert($name, 1);
	wait_until {
		query("SELECT count(*) FROM webhook_events.dispatches WHERE event_id ="
			  . " (SELECT id FROM webhook_events.events WHERE actor_run_id = 'run$nruns') AND $outcome") == 1
	}
	"the dispatch of $name is: $outcome", $patience;
	return query("SELECT d.status, d.attempts, string_agg(concat_ws(':', c.attempt, c.response_status,"
		  . " c.error_message), ' ' ORDER BY c.attempt) FROM webhook_events.dispatches AS d"
		  . " JOIN webhook_events.calls AS c ON c.dispatch_id = d.id WHERE d.event_id ="
		  . " (SELECT id FROM webhook_events.events WHERE actor_run_id = 'run$nruns') GROUP BY d.id, d.status, d.attempts");
}

# How many requests have come of the last run.
sub arrived
{
	return scalar grep { ($_->{body} // '') =~ /"run$nruns"/ } $receiver->requests;
}

#
# Connections that can't be made
#

SKIP:
{
	skip 'this kernel answers where a queue is full', 8 unless $drops;

	webhook("dropping", "http://127.0.1.$_:$port/", do_not_retry => 'true') foreach 1 .. $ndropping;

	# Where the machine is busy these can miss so short a time as well, but nothing else.
	my $healthy = webhook('healthy', "http://127.0.0.2:$port/ok");
	my $delivered = "SELECT count(*), count(*) FILTER (WHERE d.status = 'SUCCEEDED' AND NOT EXISTS"
	  . " (SELECT FROM webhook_events.calls AS c WHERE c.dispatch_id = d.id"
	  . " AND c.error_message !~* 'timeout|timed out'))"
	  . " FROM webhook_events.dispatches AS d WHERE d.webhook_id = '$healthy'";

	# As many timeouts as endpoints times runs, and deliveries among them.
	insert('dropping', 4), insert('healthy', 25) foreach 1 .. 4;
	wait_until {
		query("SELECT count(*) FROM webhook_events.dispatches WHERE finished_at IS NOT NULL") == 16 * $ndropping + 100
	}
	'all have ended', $patience;
	is(query($delivered), '100|100', 'deliveries go on while a thousand connections are never made');
	is(query("SELECT count(*), count(*) FILTER (WHERE error_message ~* 'timeout|timed out')"
			  . " FROM webhook_events.dispatches WHERE webhook_id <> '$healthy'"),
		join('|', (16 * $ndropping) x 2), 'each of those fails for that reason, and none for want of a descriptor');
	insert('healthy', 50);
	wait_until { query('SELECT dispatches_active = 0 AND in_flight = 0 AND events_waiting = 0 FROM webhook_events.status()') eq 't' }
	'all is delivered', $patience;
	is(query($delivered), '150|150', 'and afterwards');
	is(query("SELECT count(*) FROM webhook_events.calls AS c JOIN webhook_events.dispatches AS d ON d.id = c.dispatch_id"
			  . " WHERE d.webhook_id <> '$healthy' AND c.address ~ '^127\\.0\\.1\\.' AND c.duration > '0'"),
		16 * $ndropping, 'their calls say which address was tried, and how long');

	# Of two addresses one drops packets.
	set(connect_timeout => '10s');
	webhook("two$_", "http://two$_.test:$port/ok", do_not_retry => 'true') foreach 1 .. $ndropping;
	insert("two$_", 1) foreach 1 .. $ndropping;
	wait_until {
		query("SELECT count(*) FROM webhook_events.dispatches AS d JOIN webhook_events.events AS e ON e.id = d.event_id"
			  . " WHERE e.actor_id ~ '^two' AND d.finished_at IS NOT NULL") == $ndropping
	}
	'all of these have ended', $patience;
	is(query("SELECT count(*) FROM webhook_events.dispatches AS d JOIN webhook_events.events AS e ON e.id = d.event_id"
			  . " WHERE e.actor_id ~ '^two' AND d.status = 'SUCCEEDED'"),
		$ndropping, 'where the first address drops packets, the second is used');
	is(query("SELECT DISTINCT address FROM webhook_events.calls AS c JOIN webhook_events.dispatches AS d ON d.id = c.dispatch_id"
			  . " JOIN webhook_events.events AS e ON e.id = d.event_id WHERE e.actor_id ~ '^two' AND d.status = 'SUCCEEDED'"),
		'127.0.0.2', 'and that is what the calls say');
	insert('healthy', 50);
	wait_until { query('SELECT dispatches_active = 0 AND in_flight = 0 AND events_waiting = 0 FROM webhook_events.status()') eq 't' }
	'all is delivered', $patience;
	is(query($delivered), '200|200', 'deliveries go on after addresses that lost');

	# In the kernel's list: remote address, port, and 02 for a connection that is being made.
	my $half_open = sub {
		return grep { /^\s*\d+: \S+ [0-9A-F]{2}01007F:\S+ 02 / } split /\n/, slurp_file('/proc/net/tcp');
	};
	@fillers = ();
	wait_until { !$half_open->() } 'no connection is half open', $patience;
	pass('and none stays half open');
}
set(connect_timeout => '10s', retry_delay => '1h');

#
# Connections that are kept, and die
#

# Several are kept at once, so that there would be some to try in turn.
sub keep_connections
{
	my $name = "kept$nruns";

	webhook($name, "http://127.0.0.2:$port/hold/$name");
	insert($name, 8);
	$receiver->wait_for_requests(8, path => "/hold/$name", timeout => $patience);
	$receiver->release($name);
	wait_for_outcome($webhooks{$name}, [ "status = 'SUCCEEDED'", 8 ]);
	return;
}

webhook('ok', "http://127.0.0.2:$port/ok");
foreach my $end ([ 'close', 'after it was read' ], [ 'reset', 'by a reset' ], [ 'reset-early', 'before it was read' ])
{
	my ($path, $when) = @$end;

	webhook("once-$path", "http://127.0.0.2:$port/$path", do_not_retry => 'true');
	webhook("again-$path", "http://127.0.0.2:$port/$path");
	keep_connections();
	like(deliver("once-$path", "status = 'FAILED'"), qr/^FAILED\|1\|1:Empty reply: connection was closed or reset/,
		"a kept connection that ends $when is one failed call");
	is(arrived(), 1, 'and one request, when the webhook is not to be called again') unless $path eq 'reset-early';

	keep_connections();
	like(deliver("again-$path", "attempts = 2 AND next_attempt_at > now() + '10 min'"), qr/^ACTIVE\|2\|1:\S+ .* 2:\S+/,
		'another one is called again at once, and then as ever');
	is(arrived(), 2, 'with one request for each call') unless $path eq 'reset-early';
}
keep_connections();
like(deliver('ok', "status <> 'ACTIVE'"), qr/^SUCCEEDED\|1\|1:200$/, 'a kept connection is used again');
keep_connections();
$receiver->restart;
is(deliver('ok', "status <> 'ACTIVE'"), 'SUCCEEDED|1|1:200', 'one that has ended meanwhile is not');
is(query("SELECT count(*) FROM webhook_events.calls AS c JOIN webhook_events.dispatches AS d ON d.id = c.dispatch_id"
		  . " JOIN webhook_events.events AS e ON e.id = d.event_id"
		  . " WHERE e.actor_run_id = 'run$nruns' AND c.response_status = 200"),
	arrived(), 'nor is a request made that nobody knows of');

#
# Answers
#

webhook('half', "http://127.0.0.2:$port/half", do_not_retry => 'true');
like(deliver('half', "status <> 'ACTIVE'"), qr/^FAILED\|1\|1:/, 'half a head is a failed call');
webhook('cut', "http://127.0.0.2:$port/cut/10");
like(deliver('cut', "status <> 'ACTIVE'"), qr/^SUCCEEDED\|1\|1:200:answer broke off: \S/,
	'an answer that breaks off after 200 is a delivery, with a note');
is(query("SELECT response_body FROM webhook_events.calls AS c JOIN webhook_events.dispatches AS d ON d.id = c.dispatch_id"
		  . " WHERE d.webhook_id = '$webhooks{cut}'"), 'x' x 10, 'what came of its body is kept');
is(query("SELECT count(*) FROM webhook_events.dispatches WHERE webhook_id = '$webhooks{cut}' AND error_message IS NULL"),
	1, 'its dispatch has no error');
webhook('cut-500', "http://127.0.0.2:$port/cut/10?status=500", do_not_retry => 'true');
like(deliver('cut-500', "status <> 'ACTIVE'"), qr/^FAILED\|1\|1:500:/, 'one that breaks off after 500 has failed');
webhook('gzip', "http://127.0.0.2:$port/gzip");
is(deliver('gzip', "status <> 'ACTIVE'"), 'SUCCEEDED|1|1:200', 'a compressed answer');
is(query("SELECT response_body FROM webhook_events.calls AS c JOIN webhook_events.dispatches AS d ON d.id = c.dispatch_id"
		  . " WHERE d.webhook_id = '$webhooks{gzip}'"), 'ok', 'is decoded');
ok(!(grep { exists $_->{headers}{'accept-encoding'} } $receiver->requests), 'though nobody asks for one');
webhook('bad-gzip', "http://127.0.0.2:$port/gzip?body=no&header.Content-Encoding=br");
like(deliver('bad-gzip', "status <> 'ACTIVE'"), qr/^SUCCEEDED\|1\|1:200/, 'one that can not be decoded is a delivery');
webhook('extension', "http://127.0.0.2:$port/extension");
like(deliver('extension', "status <> 'ACTIVE'"),
	qr/^SUCCEEDED\|1\|1:200:answer broke off: answer has more than \d+ bytes that are not its body$/,
	'a chunk extension without end is cut');
webhook('continues', "http://127.0.0.2:$port/continues", do_not_retry => 'true');
like(deliver('continues', "status <> 'ACTIVE'"), qr/^FAILED\|1\|1:.*answer has more than \d+ bytes that are not its body$/,
	'interim answers without end are');

#
# What an endpoint says unasked, as some do before they close a connection
#

{
	my $listener = IO::Socket::INET->new(LocalAddr => '127.0.0.4', Listen => 8, Timeout => $patience) or die $!;
	my $unasked = "HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n";

	# Takes a connection, and answers the request on it.
	my $serve = sub {
		my $connection = $listener->accept or die "nobody has connected: $!";
		my ($length, $body) = (0);

		while (defined(my $line = <$connection>))
		{
			last if $line eq "\r\n";
			$length = $1 if $line =~ /^content-length: (\d+)/i;
		}
		read $connection, $body, $length;
		print $connection "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
		$connection->flush;
		return $connection;
	};

	webhook('unasked', 'http://127.0.0.4:' . $listener->sockport . '/', do_not_retry => 'true');
	insert('unasked', 1);
	my $connection = $serve->();
	foreach my $ends (0, 1)
	{
		wait_for_outcome($webhooks{unasked}, [ "status = 'SUCCEEDED'", $ends + 1 ]);
		print $connection $unasked;
		$connection->flush;
		$connection->shutdown(1) if $ends;
		insert('unasked', 1);
		$connection = $serve->();
	}
	wait_for_outcome($webhooks{unasked}, [ "status <> 'ACTIVE'", 3 ]);
	is(query("SELECT string_agg(c.response_status::text, ' ') FROM webhook_events.calls AS c JOIN webhook_events.dispatches AS d"
			. " ON d.id = c.dispatch_id WHERE d.webhook_id = '$webhooks{unasked}'"),
		'200 200 200', 'what an endpoint says unasked is no answer to the next request');
}

#
# A name that moves while its connection is busy
#

set(connection_age => '1s');
webhook('moving', "http://moving.test:$port/ok");
is(deliver('moving', "status <> 'ACTIVE'"), 'SUCCEEDED|1|1:200', 'a name is where it is');
resolve('127.0.0.3');
wait_until {
	deliver('moving', "status <> 'ACTIVE'");
	grep { ($_->{body} // '') =~ /"run\d+"/ } $moved->requests;
}
'the name is followed', $patience;
pass('a name that moves is followed, though its connection is busy');

#
# What is written in a template goes out in UTF-8, whatever the database's encoding
#

foreach my $encoding ('LATIN1', 'EUC_JP')
{
	my $database = lc $encoding;
	my $word = $encoding eq 'LATIN1' ? "Z\xc3\xbcrich" : "\xe6\x97\xa5\xe6\x9c\xac";

	local $ENV{PGCLIENTENCODING} = 'UTF8';
	query("CREATE DATABASE $database ENCODING '$encoding' LOCALE 'C' TEMPLATE template0");
	create_platform($node, $database);
	$node->safe_psql($database, "SELECT webhook_events.create_webhook('http://127.0.0.2:$port/ok?$database',"
		  . " '{ACTOR.RUN.CREATED}', payload_template => '{\"$word\": {{eventData.actorId}}}',"
		  . " headers_template => '{\"X-Word\": \"$word\"}')");
	$node->safe_psql($database, "INSERT INTO actor_runs (id, actor_id) VALUES ('run', '$word')");
	my ($request) = $receiver->wait_for_requests(1, path => "/ok?$database", timeout => $patience);

	# Decoded from the log, they are characters.
	utf8::decode(my $characters = $word);
	is($request->{body}, "{\"$characters\": \"$characters\"}", "$encoding: a template's text, and what fills it");
	ok(!exists $request->{body_base64}, 'is UTF-8');
	is($request->{headers}{'x-word'}, $characters, 'and a header');
	my ($status, $stdout, $stderr) = $node->psql($database,
		"SELECT webhook_events.create_webhook('http://127.0.0.2/', '{ACTOR.RUN.CREATED}', payload_template => '{{$word}}')");
	like($stderr, qr/unknown variable "\Q$word\E"/, 'messages show it as it was written');
}

$node->stop;
done_testing();
