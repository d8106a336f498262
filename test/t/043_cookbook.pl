# 043_cookbook.pl
#	  Every statement of the cookbook does what the page shows.

use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use WebhookEvents::Node;
use WebhookEvents::Page;
use WebhookEvents::Receiver;

my $receiver = WebhookEvents::Receiver->new;
my $node = new_node('cookbook', conf => "webhook_events.retry_delay = '1h'\n");

# Other hosts than the page has: one that is down, and one that answers.
sub with_our_hosts
{
	my ($sql) = @_;
	my $broken = $receiver->url('/status/503?to=');
	my $other = $receiver->url('/ok?to=');

	return $sql =~ s{https://broken\.}{$broken}gr =~ s{https://}{$other}gr =~ s{pg_dump -Fc production}{pg_dump -Fc postgres}gr;
}

$node->safe_psql('postgres', 'CREATE DATABASE staging');
cmp_ok(run_page($node, 'postgres', 'cookbook', edit => \&with_our_hosts, after => sub { wait_for_end($node) }),
	'>', 15, 'there were blocks of SQL');
wait_for_sql($node, 'SELECT reason IS NULL AND dispatches_active = 0 FROM webhook_events.status()', 't', 'staging');
is($node->safe_psql('staging', "SELECT string_agg(DISTINCT split_part(split_part(request_url, '//', 2), '.', 1), ' ') FROM webhook_events.webhooks"),
	(split m{//}, $receiver->url('/ok?to=sink'))[1] =~ s/\..*//r, 'the copy in staging has endpoints of its own');
is($node->safe_psql('postgres', 'SELECT last_error FROM webhook_events.status()'), '', 'the worker never failed');
$node->stop;
done_testing();
