# 056_shares.pl
#	  What one address and one user may take of the room for requests.

use strict;
use warnings;
use File::Basename qw(dirname);
use IO::Socket::INET;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use WebhookEvents::Node;
use WebhookEvents::Receiver;

my $patience = 180;
my $receiver = WebhookEvents::Receiver->new(listen => ['127.0.0.2']);
my $directory = PostgreSQL::Test::Utils::tempdir();
my $here = dirname(__FILE__);
my $cc = $ENV{CC} // 'cc';

# Any number of names, all of one address, which may be spelt in two ways.
system_or_bail($cc, '-shared', '-fPIC', '-o', "$directory/resolver.so", "$here/../resolver.c", '-ldl');
append_to_file("$directory/answers", join '', map { "name$_.test " . ($_ % 2 ? '127.0.0.6' : '::ffff:127.0.0.6') . "\n" } 1 .. 40);
chmod 0755, $directory;
chmod 0644, "$directory/answers";
chmod 0755, "$directory/resolver.so";

my $node = new_node('shares', start => 0, conf => <<'CONF');
webhook_events.max_in_flight = 64
webhook_events.max_in_flight_per_host = 8
webhook_events.request_timeout = '1h'
webhook_events.connect_timeout = '1h'
CONF
{
	local $ENV{LD_PRELOAD} = "$directory/resolver.so";
	local $ENV{TEST_RESOLVER} = "$directory/answers";
	$node->start;
}
create_platform($node);

sub query
{
	my ($sql) = @_;

	return $node->safe_psql('postgres', $sql);
}

# Endpoints that accept connections and answer nothing: nobody takes what the
# kernel has queued.
sub silent_endpoint
{
	my ($address) = @_;

	return IO::Socket::INET->new(LocalAddr => $address, Listen => 64)
	  // die "could not listen on $address: $!";
}

sub in_flight_to
{
	my ($pattern) = @_;

	return query("SELECT count(*) FROM webhook_events.in_flight WHERE host ~ '$pattern'");
}

sub delivered
{
	my ($webhook) = @_;

	return query("SELECT count(*) FROM webhook_events.dispatches WHERE webhook_id = '$webhook' AND status = 'SUCCEEDED'");
}

my $healthy = create_webhook($node, $receiver->url('/ok'), 'ACTOR.RUN.CREATED', actor_id => "'healthy'", user_id => "'b'");

sub insert_for
{
	my ($actor, $user, $count) = @_;

	query("INSERT INTO actor_runs (id, actor_id, user_id) SELECT webhook_events_internal.new_id(), '$actor', '$user'"
		  . " FROM generate_series(1, $count)");
	return;
}

# Many ports of one address, of nobody in particular.
my @silent = map { silent_endpoint('127.0.0.5') } 1 .. 20;
create_webhook($node, 'http://127.0.0.5:' . $_->sockport . '/', 'ACTOR.RUN.CREATED',
	actor_id => "'ports'", do_not_retry => 'true')
  foreach @silent;
insert_for('ports', 'a', 8);
wait_until { query("SELECT dispatches_active FROM webhook_events.status()") == 160 } 'all have rows', $patience;
cmp_ok(in_flight_to('^127\.0\.0\.5:'), '>', 0, 'requests to many ports of one address are under way');
cmp_ok(in_flight_to('^127\.0\.0\.5:'), '<=', 32, 'and take no more than half of the room');
insert_for('healthy', 'b', 20);
wait_until { delivered($healthy) == 20 } 'the healthy endpoint gets its own', $patience;
cmp_ok(in_flight_to('^127\.0\.0\.5:'), '>', 0, 'another address has room, while they hang');

# They end; what waited for the address goes on, to its end.
@silent = ();
wait_until { query("SELECT dispatches_active FROM webhook_events.status()") == 0 } 'all have ended', $patience;
is(query("SELECT count(*) FROM webhook_events.dispatches WHERE status = 'FAILED'"), 160, 'nothing is left waiting for the address');

# Many names of one address, which nobody knows before the first requests; and it itself.
@silent = (silent_endpoint('127.0.0.6'));
my $port = $silent[0]->sockport;
create_webhook($node, "http://name$_.test:$port/", 'ACTOR.RUN.CREATED', actor_id => "'names'", do_not_retry => 'true')
  foreach 1 .. 40;
create_webhook($node, "http://$_:$port/", 'ACTOR.RUN.CREATED', actor_id => "'names'", do_not_retry => 'true')
  foreach '127.0.0.6', '[::ffff:127.0.0.6]';
insert_for('names', 'a', 4);
wait_until { query("SELECT dispatches_active FROM webhook_events.status()") == 168 } 'all have rows', $patience;
insert_for('healthy', 'b', 20);
wait_until { delivered($healthy) == 40 } 'the healthy endpoint gets its own beside many names of one address', $patience;
cmp_ok(in_flight_to('^name|127\.0\.0\.6'), '>', 0, 'requests to many names of one address are under way');
cmp_ok(in_flight_to('^name|127\.0\.0\.6'), '<=', 32, 'and take no more than half of the room, before an answer has told');
is(query("SELECT count(*) FROM webhook_events.calls AS c JOIN webhook_events.dispatches AS d ON d.id = c.dispatch_id WHERE d.status = 'ACTIVE'"), 0, 'what found no room was not called');
@silent = ();
wait_until { query("SELECT dispatches_active FROM webhook_events.status()") == 0 } 'all have ended', $patience;
is(query("SELECT count(*), max(attempts) FROM webhook_events.dispatches WHERE status = 'FAILED'"), '328|1', 'nothing is left waiting for the address, and each was called once');

# One user's endpoints at many addresses.
@silent = map { silent_endpoint("127.0.7.$_") } 1 .. 20;
create_webhook($node, 'http://' . $_->sockhost . ':' . $_->sockport . '/', 'ACTOR.RUN.CREATED',
	actor_id => "'addresses'", user_id => "'a'", do_not_retry => 'true')
  foreach @silent;
insert_for('addresses', 'a', 8);
wait_until { query("SELECT dispatches_active FROM webhook_events.status()") == 160 } 'all have rows', $patience;
cmp_ok(in_flight_to('^127\.0\.7\.'), '>', 0, 'requests of one user to many addresses are under way');
cmp_ok(in_flight_to('^127\.0\.7\.'), '<=', 56, 'and leave room to others');
insert_for('healthy', 'b', 20);
wait_until { delivered($healthy) == 60 } 'the other user gets his own', $patience;
cmp_ok(in_flight_to('^127\.0\.7\.'), '>', 0, 'which they use, while those hang');
@silent = ();
wait_until { query("SELECT dispatches_active FROM webhook_events.status()") == 0 } 'all have ended', $patience;
is(query("SELECT count(*) FROM webhook_events.dispatches WHERE status = 'FAILED'"), 488, 'nothing is left waiting for the user');

$node->stop;
done_testing();
