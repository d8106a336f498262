# 057_tls.pl
#	  TLS and HTTP/2: connections that a server ends after so many requests, or
#	  because it is reloaded; keys that nobody can read; names that are no text.

use strict;
use warnings;
use IO::Socket::INET;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use WebhookEvents::Node;
use WebhookEvents::Receiver;

plan skip_all => 'needs TLS for perl, and openssl' unless WebhookEvents::Receiver::tls_available();

my $patience = 180;
my $directory = PostgreSQL::Test::Utils::tempdir();
my $receiver = WebhookEvents::Receiver->new(tls => 1);
my $plain = WebhookEvents::Receiver->new;
my $node = new_node('tls', conf => <<'CONF');
webhook_events.retry_delay = '100ms'
webhook_events.disable_after = 0
CONF
create_platform($node);

sub query
{
	my ($sql) = @_;

	return $node->safe_psql('postgres', $sql);
}

sub wait_for_all
{
	wait_until {
		query('SELECT dispatches_active = 0 AND in_flight = 0 AND events_waiting = 0 FROM webhook_events.status()') eq 't'
	}
	'all has ended', $patience;
	return;
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

#
# A server that ends each connection after so many requests
#

my ($nginx) = grep { -x } map { "$_/nginx" } split(/:/, $ENV{PATH}), '/usr/sbin';
my $nginx_pid;
my $openssl_pid;

SKIP:
{
	skip 'needs nginx', 17 unless $nginx;

	my @ports = map { PostgreSQL::Test::Cluster::get_free_port() } 1, 2;
	my $port = $ports[0];
	# Older ones would share connections that can't be shared, too.
	my $multiplexes = version->parse(qx(curl-config --version) =~ /(\d+\.\d+\.\d+)/) >= version->parse('8.14.0');
	my $log = sub { return -e "$directory/access.log" ? map { [split] } split /\n/, slurp_file("$directory/access.log") : () };

	append_to_file("$directory/nginx.conf", <<"CONF");
daemon off;
worker_processes 1;
pid $directory/nginx.pid;
error_log $directory/error.log;
events { worker_connections 512; }
http {
	log_format ids '\$http_x_apify_webhook_dispatch_id \$status \$server_protocol \$uri \$connection';
	access_log $directory/access.log ids;
	client_body_temp_path $directory/body;
	proxy_temp_path $directory/proxy;
	fastcgi_temp_path $directory/fastcgi;
	uwsgi_temp_path $directory/uwsgi;
	scgi_temp_path $directory/scgi;
	keepalive_requests 50;
	server {
		listen 127.0.0.1:$port ssl http2;
		ssl_certificate @{[ $receiver->certificate ]};
		ssl_certificate_key @{[ $receiver->key ]};
		location / { return 200 "ok"; }
	}
	server {
		listen 127.0.0.1:$ports[1] ssl http2;
		ssl_certificate @{[ $receiver->certificate ]};
		ssl_certificate_key @{[ $receiver->key ]};
		keepalive_requests 1000000;
		proxy_buffering off;
		location ~ ^/(hold|cut|gzip) { proxy_pass http://127.0.0.1:@{[ $plain->port ]}; }
		location / { return 200 "ok"; }
	}
}
CONF
	$nginx_pid = fork() // die "could not fork: $!";
	if ($nginx_pid == 0)
	{
		open(STDERR, '>', "$directory/nginx.out");
		no warnings 'exec';
		exec $nginx, '-p', $directory, '-c', "$directory/nginx.conf", '-e', "$directory/error.log";
		POSIX::_exit(127);
	}
	wait_until { -s "$directory/nginx.pid" } 'nginx has started', $patience;

	create_webhook($node, "https://127.0.0.1:$port/once", 'ACTOR.RUN.CREATED', actor_id => "'once'",
		ignore_ssl_errors => 'true', do_not_retry => 'true');
	insert_runs($node, 300, 'once') foreach 1 .. 5;
	wait_for_all();
	is(query("SELECT status, attempts, count(*) FROM webhook_events.dispatches GROUP BY 1, 2"),
		'SUCCEEDED|1|1500', 'connections that end after so many requests cost no delivery');
	my %seen;
	$seen{ $_->[0] }++ foreach $log->();
	is(join(' ', scalar(keys %seen), grep { $_ != 1 } values %seen), 1500, 'and each was sent once');

	# What is under way when the server is reloaded may be lost, and is sent again.
	create_webhook($node, "https://127.0.0.1:$port/again", 'ACTOR.RUN.CREATED', actor_id => "'again'",
		ignore_ssl_errors => 'true');
	foreach (1 .. 5)
	{
		insert_runs($node, 200, 'again');
		kill 'HUP', $nginx_pid;
		insert_runs($node, 100, 'again');
	}
	wait_for_all();
	is(query("SELECT status, count(*) FROM webhook_events.dispatches GROUP BY 1"),
		'SUCCEEDED|3000', 'a server that is reloaded costs none');
	# An answer can be lost with its connection after it was logged; then its call has none.
	my %answered;
	$answered{ $_->[0] }++ foreach grep { $_->[1] == 200 } $log->();
	is(join(', ', grep {
		my ($id, $calls, $answers) = split /\|/;
		($answered{$id} // 0) < $answers || ($answered{$id} // 0) > $calls;
	} split /\n/, query('SELECT dispatch_id, count(*), count(*) FILTER (WHERE response_status = 200) FROM webhook_events.calls GROUP BY 1')),
		'', 'and what it answered is what calls say');
	note('spoken: ' . join(' ', map { $_->[2] } ($log->())[ 0, -1 ]) . ', calls without an answer: '
		  . query('SELECT count(*) FROM webhook_events.calls WHERE response_status IS NULL'));

	# One of HTTP/1.1 that has a request under way is left alone by those who begin to speak HTTP/2.
	set(http2 => 'off', request_timeout => '10min');
	create_webhook($node, "https://127.0.0.1:$ports[1]/hold/first", 'ACTOR.RUN.CREATED', actor_id => "'first'",
		ignore_ssl_errors => 'true', do_not_retry => 'true');
	create_webhook($node, "https://127.0.0.1:$ports[1]/later", 'ACTOR.RUN.CREATED', actor_id => "'later'",
		ignore_ssl_errors => 'true', do_not_retry => 'true');
	insert_runs($node, 1, 'first');
	$plain->wait_for_requests(1, path => '/hold/first', timeout => $patience);
	query("ALTER SYSTEM SET webhook_events.http2 = 'on'");
	query('SELECT pg_reload_conf()');
	foreach my $n (1 .. 4)
	{
		insert_runs($node, 1, 'later');
		wait_until { $n == grep { $_->[3] eq '/later' } $log->() } 'it is answered', $patience;
	}
	$plain->release('first');
	wait_for_all();
	is(query(q{SELECT string_agg(DISTINCT e.actor_id || ' ' || d.status || ' ' || d.attempts || ' ' || c.response_body, ', ')
		FROM webhook_events.dispatches AS d JOIN webhook_events.events AS e ON e.id = d.event_id
			JOIN webhook_events.calls AS c ON c.dispatch_id = d.id WHERE e.actor_id IN ('first', 'later')}),
		'first SUCCEEDED 1 ok, later SUCCEEDED 1 ok', 'each has an answer of its own');
	is(join(' ', sort { $a cmp $b } map { $_->[2] } grep { $_->[3] =~ /first|later/ } $log->()),
		'HTTP/1.1 HTTP/2.0 HTTP/2.0 HTTP/2.0 HTTP/2.0', 'by both versions of HTTP');

	# A connection that has a request under way all the time is replaced at its age all the same.
	set(connection_age => '0', http2 => 'on', request_timeout => '10min');
	create_webhook($node, "https://127.0.0.1:$ports[1]/hold/busy", 'ACTOR.RUN.CREATED', actor_id => "'busy'",
		ignore_ssl_errors => 'true', do_not_retry => 'true');
	create_webhook($node, "https://127.0.0.1:$ports[1]/age", 'ACTOR.RUN.CREATED', actor_id => "'age'",
		ignore_ssl_errors => 'true', do_not_retry => 'true');
	my $connections = sub {
		my ($uri) = @_;

		return map { $_->[4] } grep { $_->[3] eq $uri } $log->();
	};
	my $deliver = sub {
		my $count = () = $connections->('/age');

		insert_runs($node, 1, 'age');
		wait_until { $connections->('/age') > $count } 'one more is answered', $patience;
		return;
	};
	insert_runs($node, 1, 'busy');
	$plain->wait_for_requests(1, path => '/hold/busy', timeout => $patience);
	$deliver->() foreach 1 .. 3;
	my ($first) = $connections->('/age');
	is(join(' ', $connections->('/age')), "$first $first $first", 'requests share a connection');
	query("ALTER SYSTEM SET webhook_events.connection_age = '1s'");
	query('SELECT pg_reload_conf()');
	wait_until { $deliver->(); grep { $_ != $first } $connections->('/age') }
	'another connection is made', $patience;
	pass('one that is never idle is replaced at its age');
	$plain->release('busy');
	wait_for_all();
	is(join(' ', $connections->('/hold/busy')) eq $first, $multiplexes, 'and what is under way on one that is shared ends there');
	is(query("SELECT count(*) FROM webhook_events.dispatches WHERE status <> 'SUCCEEDED'"), 0, 'nothing fails');

	# Answers that break off or are compressed, as with HTTP/1.1.
	foreach my $path ('cut/10', 'cut/10?status=500', 'gzip')
	{
		my $webhook = create_webhook($node, "https://127.0.0.1:$ports[1]/$path", 'ACTOR.RUN.CREATED', actor_id => "'$path'",
			ignore_ssl_errors => 'true', do_not_retry => 'true');

		insert_runs($node, 1, $path);
		wait_for_all();
		my ($status, $code, $error, $body) = split /\|/, query('SELECT d.status, c.response_status, c.error_message, c.response_body'
			  . " FROM webhook_events.dispatches AS d JOIN webhook_events.calls AS c ON c.dispatch_id = d.id WHERE d.webhook_id = '$webhook'");
		if ($path eq 'gzip')
		{
			is("$status $code $error $body", 'SUCCEEDED 200  ok', 'a compressed answer is decoded');
			next;
		}
		my $went_well = $path !~ /500/;
		like("$status $code $error", $went_well ? qr/^SUCCEEDED 200 answer broke off: \S/ : qr/^FAILED 500 \S/,
			'an answer that breaks off after ' . ($went_well ? '200 is a delivery, with a note' : '500 is none'));
		like($body // '', qr/^x*$/, 'what came of its body is kept');
	}
	is(join(' ', map { $_->[2] } grep { $_->[3] =~ /gzip|cut/ } $log->()), 'HTTP/2.0 HTTP/2.0 HTTP/2.0', 'all of these by HTTP/2');

	# What HTTP/2's server has refused of one request says nothing of the next one.
	set(connection_age => '5min');
	create_webhook($node, $receiver->url('/ok'), 'ACTOR.RUN.CREATED', actor_id => "'answered'",
		ignore_ssl_errors => 'true');
	my $reset = create_webhook($node, $receiver->url('/reset'), 'ACTOR.RUN.CREATED', actor_id => "'reset'",
		ignore_ssl_errors => 'true', do_not_retry => 'true');
	foreach (1 .. 8)
	{
		insert_runs($node, 300, 'again');
		insert_runs($node, 6, 'reset');
		insert_runs($node, 1, 'answered');
		wait_for_all();
	}
	%seen = ();
	$seen{ $_->[0] }++ foreach $receiver->values_of('x-apify-webhook-dispatch-id');
	my @reset = split /\n/, query("SELECT id FROM webhook_events.dispatches WHERE webhook_id = '$reset'");
	is(join(' ', scalar(@reset), grep { $_ > 1 } map { $seen{$_} // 0 } @reset), 48,
		'one that is reset by a server of HTTP/1.1 is not sent again because of that');

	kill 'TERM', $nginx_pid;
	waitpid $nginx_pid, 0;
	$nginx_pid = undef;
	set(connection_age => '5min', http2 => 'auto', request_timeout => '2min');
}

#
# A key that needs a passphrase
#

system_or_bail('openssl', 'req', '-x509', '-days', '2', '-newkey', 'rsa:2048', '-passout', 'pass:unknown',
	'-subj', '/CN=client', '-keyout', "$directory/client.key", '-out', "$directory/client.crt");
chmod 0644, "$directory/client.key";
set(client_certificate_file => "$directory/client.crt", client_key_file => "$directory/client.key");
create_webhook($node, $receiver->url('/ok'), 'ACTOR.RUN.CREATED', actor_id => "'key'",
	ignore_ssl_errors => 'true', do_not_retry => 'true');
create_webhook($node, $plain->url('/ok'), 'ACTOR.RUN.CREATED', actor_id => "'plain'", do_not_retry => 'true');
insert_runs($node, 1, 'key');
insert_runs($node, 1, 'plain');
wait_for_all();
like(query("SELECT d.error_message FROM webhook_events.dispatches AS d JOIN webhook_events.events AS e ON e.id = d.event_id"
		  . " WHERE e.actor_id = 'key' AND d.status = 'FAILED'"),
	qr/key/i, 'a client key that needs a passphrase fails its calls, which say so');
is(query("SELECT d.status FROM webhook_events.dispatches AS d JOIN webhook_events.events AS e ON e.id = d.event_id"
		  . " WHERE e.actor_id = 'plain'"),
	'SUCCEEDED', 'others go on: nobody is asked for it');

#
# A certificate for another name, so long that what is said of it is cut off within a character
#

my $name = "\xf0\x9f\x98\x80" x 64;
my $port = PostgreSQL::Test::Cluster::get_free_port();
system_or_bail('openssl', 'req', '-x509', '-days', '2', '-newkey', 'rsa:2048', '-nodes', '-utf8',
	'-subj', "/CN=$name", '-keyout', "$directory/name.key", '-out', "$directory/name.crt");
chmod 0644, "$directory/name.crt";
$openssl_pid = fork() // die "could not fork: $!";
if ($openssl_pid == 0)
{
	open(STDIN, '<', '/dev/null');
	open(STDOUT, '>', "$directory/openssl.out");
	open(STDERR, '>&', \*STDOUT);
	no warnings 'exec';
	exec 'openssl', 's_server', '-accept', $port, '-cert', "$directory/name.crt", '-key', "$directory/name.key", '-www';
	POSIX::_exit(127);
}
wait_until { IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $port) } 'a server of TLS has started', $patience;
set(client_certificate_file => '', client_key_file => '', ca_file => "$directory/name.crt");
create_webhook($node, "https://127.0.0.1:$port/", 'ACTOR.RUN.CREATED', actor_id => "'name'", do_not_retry => 'true');
insert_runs($node, 1, 'name');
wait_for_all();
is(query("SELECT d.status, d.error_message ~ '^[ -~]+\$', c.error_message = d.error_message"
		  . " FROM webhook_events.dispatches AS d JOIN webhook_events.events AS e ON e.id = d.event_id"
		  . " JOIN webhook_events.calls AS c ON c.dispatch_id = d.id WHERE e.actor_id = 'name'"),
	'FAILED|t|t', 'what a certificate says of itself is recorded as text, whatever it is');

$node->stop('fast');
done_testing();

END
{
	kill 'TERM', grep { $_ } $nginx_pid, $openssl_pid;
}
