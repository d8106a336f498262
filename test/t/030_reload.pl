# 030_reload.pl
#	  Settings that are changed while processes start: PostgreSQL has background workers
#	  ignore SIGHUP for a moment then, and what came before that is forgotten.

use strict;
use warnings;
use Cwd qw(abs_path);
use File::Basename qw(dirname);
use PostgreSQL::Test::Utils;
use Test::More;
use WebhookEvents::Node;
use WebhookEvents::Receiver;

my $directory = PostgreSQL::Test::Utils::tempdir();
my $gate = "$directory/gate";
my $library = "$directory/signals.so";
my $cc = (grep { defined && $_ ne '' } $ENV{CC}, 'cc')[0];

system_or_bail($cc, '-shared', '-fPIC', '-o', $library, abs_path(dirname(__FILE__)) . '/../signals.c', '-ldl');

my $receiver = WebhookEvents::Receiver->new;
my $node = new_node('main', start => 0);

sub start_with_gate
{
	local $ENV{LD_PRELOAD} = $library;
	local $ENV{TEST_SIGNALS} = $gate;

	$node->start;
	return;
}

sub close_gate
{
	unlink glob "$gate.*";
	append_to_file($gate, '');
	return;
}

sub open_gate
{
	unlink $gate or die $!;
	return;
}

# A process of this name has come to the gate since it was closed.
sub wait_at_gate
{
	my ($name) = @_;

	wait_until
	{
		grep { my ($pid) = /(\d+)$/; -e "/proc/$pid/cmdline" && slurp_file("/proc/$pid/cmdline") =~ /\b\Q$name\E\b/ } glob "$gate.*";
	}
	"the $name starts";
	return;
}

# A session that sees a setting began after everybody was told of it.
sub change
{
	my ($setting, $value) = @_;

	$node->append_conf('postgresql.conf', "webhook_events.$setting = '$value'\n");
	$node->reload;
	wait_for_sql($node, "SHOW webhook_events.$setting", $value);
	return;
}

my $status = 'SELECT running, reason FROM webhook_events.status()';

start_with_gate();
create_platform($node);
create_webhook($node, $receiver->url('/ok'), 'ACTOR.RUN.CREATED');
wait_for_sql($node, $status, 't|');

# A worker starts while delivery is switched off.
close_gate();
$node->safe_psql('postgres', 'SELECT pg_terminate_backend(worker_pid) FROM webhook_events.status()');
wait_at_gate('webhook_events worker');
change('delivery', 'off');
$node->safe_psql('postgres', "INSERT INTO actor_runs (id) VALUES ('waits')");
open_gate();
wait_for_sql($node, 'SELECT running AND worker_pid IS NOT NULL FROM webhook_events.status()', 't');
wait_for_sql($node, $status, 't|webhook_events.delivery is off');
pass('a worker that was starting delivers nothing when delivery was switched off');
change('delivery', 'on');
wait_until { $receiver->requests == 1 } 'the event is delivered';

# The launcher starts while the list of databases changes.
$node->stop;
$node->append_conf('postgresql.conf', "webhook_events.databases = 'another'\n");
close_gate();
start_with_gate();
wait_at_gate('webhook_events launcher');
change('databases', '*');
open_gate();
wait_for_sql($node, $status, 't|');
$node->safe_psql('postgres', "INSERT INTO actor_runs (id) VALUES ('delivered')");
wait_until { $receiver->requests == 2 } 'an event is delivered';
pass('a launcher that was starting serves the databases that are named since');

$node->stop;
done_testing();
