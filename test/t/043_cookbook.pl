# 043_cookbook.pl
#	  Every statement of the cookbook does what the page shows.

use strict;
use warnings;
use Cwd qw(abs_path);
use File::Basename qw(dirname);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use WebhookEvents::Node;
use WebhookEvents::Receiver;

my $receiver = WebhookEvents::Receiver->new;
my $node = new_node('cookbook', conf => "webhook_events.retry_delay = '1h'\n");
my $cookbook = slurp_file(abs_path(dirname(__FILE__)) . '/../../src/doc/cookbook.md');
my ($title, $output) = ('the rows');
my $nstatements = 0;

create_platform($node);

# The endpoint that the chapters about failures speak of.
create_webhook($node, $receiver->url('/status/503'), 'ACTOR.RUN.FAILED', description => "'broken'", do_not_retry => 'true');

# What psql prints, without what says only that a statement was run.
sub run_block
{
	my ($sql) = @_;
	my ($stdout, $stderr) = ('', '');
	my $ok = IPC::Run::run([ 'psql', '-X', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr('postgres') ],
		'<', \$sql, '>', \$stdout, '2>', \$stderr);

	is($stderr, '', "$title: no error");
	$stdout =~ s/^(?:BEGIN|COMMIT|INSERT .*|UPDATE .*)\n//mg;
	$stdout =~ s/^ +$//mg;
	$stdout =~ s/[ \n]+$//mg;
	return $stdout;
}

while ($cookbook =~ /^## ([^\n]*)\n|^```(\w*)\n(.*?)^```\n/msg)
{
	my ($heading, $language, $text) = ($1, $2, $3);

	if (defined $heading)
	{
		$title = $heading;
	}
	elsif ($language eq 'sql')
	{
		my $base = $receiver->url('/ok?to=');

		$text =~ s{https://}{$base}g;
		$output = run_block($text);
		wait_for_end($node);
		$nstatements += () = $text =~ /;\n/g;
	}
	else
	{
		$text =~ s/[ \n]+$//mg;
		is($output, $text, "$title: it shows what the page shows");
	}
}
cmp_ok($nstatements, '>', 15, 'there were statements');
is($node->safe_psql('postgres', 'SELECT last_error FROM webhook_events.status()'), '', 'the worker never failed');
$node->stop;
done_testing();
