# 026_memory.pl
#	  Memory that is not there for one long event: that waits until there is some, and nothing
#	  else does.  It is sent once then, and the worker has not ended.

use strict;
use warnings;
use Cwd qw(abs_path);
use File::Basename qw(dirname);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use WebhookEvents::Node;
use WebhookEvents::Receiver;

my $here = abs_path(dirname(__FILE__));
my $directory = PostgreSQL::Test::Utils::tempdir();
my $cc = (grep { defined && $_ ne '' } $ENV{CC}, 'cc')[0];

system_or_bail($cc, '-shared', '-fPIC', '-o', "$directory/memory.so", "$here/../memory.c");

# From now on no process has a piece as long as this, or only not the one of that number.
my $number = 0;

sub lack
{
	my ($size, $which) = @_;

	open(my $file, '+<:raw', "$directory/memory") or die $!;
	print $file pack 'L!3', $size ? ++$number : 0, $size, $which // 0;
	close $file;
	return;
}

open(my $file, '>:raw', "$directory/memory") or die $!;
print $file "\0" x 4096;
close $file;
chmod 0644, "$directory/memory";

my $receiver = WebhookEvents::Receiver->new;
my $names = WebhookEvents::Receiver->new;
my $dispatch = 'FROM webhook_events.dispatches AS d JOIN webhook_events.events AS e ON e.id = d.event_id WHERE e.actor_run_id';
my $node = new_node('memory', start => 0, conf => "webhook_events.payload_limit = '64MB'\n");
{
	local $ENV{LD_PRELOAD} = "$directory/memory.so";
	local $ENV{TEST_MEMORY} = "$directory/memory";
	$node->start;
}
create_platform($node);

sub query
{
	my ($sql) = @_;

	return $node->safe_psql('postgres', $sql);
}

# How often the dispatch of a run was sent.  Requests with long bodies take minutes to be decoded.
sub sent
{
	my ($run) = @_;
	my $id = query("SELECT d.id $dispatch = '$run'");

	return scalar grep { $_->[0] eq $id } $receiver->values_of('x-apify-webhook-dispatch-id');
}

# A run with so much in it, and before it is looked at, what there is no memory for.
sub add_long
{
	my ($run, $length, @lack) = @_;

	query("SELECT webhook_events.pause('no memory')");
	query("INSERT INTO actor_runs (id, actor_id, meta) SELECT '$run', 'long', to_jsonb(string_agg(md5(i::text), ''))"
		  . " FROM generate_series(1, $length / 32) AS i");
	query("INSERT INTO actor_runs (id, actor_id) VALUES ('$run-short', 'short')");
	lack(@lack);
	query('SELECT webhook_events.resume()');
	return;
}

# So long an event is, and so long a piece is not to be had: nothing else here needs one.
my ($length, $piece) = (4500000, 4000000);
my $long = create_webhook($node, $receiver->url('/ok?long', '127.0.0.1'), 'ACTOR.RUN.CREATED', actor_id => "'long'");
my $short = create_webhook($node, $receiver->url('/ok?short', 'localhost'), 'ACTOR.RUN.CREATED', actor_id => "'short'");

# One for which there is none for a while.
my $pid = query('SELECT worker_pid FROM webhook_events.status()');
add_long('r1', $length, $piece);
wait_for_sql($node, "SELECT d.status $dispatch = 'r1-short'", 'SUCCEEDED');
pass('what came after a long event does not wait for it');
wait_for_sql($node, "SELECT d.status, d.attempts, d.error_message ~ 'out of memory' $dispatch = 'r1'", 'ACTIVE|0|t');
query("INSERT INTO actor_runs (id, actor_id) SELECT 'more' || i, 'short' FROM generate_series(1, 50) AS i");
wait_for_sql($node, "SELECT count(*) $dispatch ~ '^more' AND d.status = 'SUCCEEDED'", 50);
pass('nor does what is new');
is(sent('r1'), 0, 'nothing of it is sent');
lack(0);
wait_for_sql($node, "SELECT d.status, d.attempts, d.error_message IS NULL $dispatch = 'r1'", 'SUCCEEDED|1|t');
is(sent('r1'), 1, 'when there is memory again it is, once');

# It is lacking once, wherever it is needed.
foreach my $which (1 .. 4)
{
	add_long("n$which", $length, $piece, $which);
	wait_for_sql($node, "SELECT d.status, d.attempts $dispatch = 'n$which'", 'SUCCEEDED|1');
	lack(0);
}
is(join(' ', map { sent("n$_") } 1 .. 4), '1 1 1 1', 'a piece that is lacking once does not stop one, nor double it');

# What nobody wants takes no memory.
query("SELECT webhook_events.delete_webhook('$long')");
add_long('r2', $length, $piece);
wait_for_sql($node, "SELECT d.status $dispatch = 'r2-short'", 'SUCCEEDED');
wait_for_end($node);
pass('an event that no webhook wants is not read');
lack(0);

# Nor does a webhook that has nothing of the resource in its body.
create_webhook($node, $names->url('/ok'), 'ACTOR.RUN.CREATED', actor_id => "'long'", payload_template => q{'{"id": {{eventData.actorRunId}}}'});
add_long('r3', $length, $piece);
wait_for_sql($node, "SELECT d.status $dispatch = 'r3'", 'SUCCEEDED');
is(($names->requests)[0]{body}, '{"id": "r3"}', 'nor is one whose resource no body holds');
lack(0);

is(query('SELECT worker_pid FROM webhook_events.status()'), $pid, 'the worker was there all the time');
is(query('SELECT last_error FROM webhook_events.status()'), '', 'and never failed');
$node->stop;
done_testing();
