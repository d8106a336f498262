# Page.pm
#	  Runs what a page of the documentation shows.

package WebhookEvents::Page;

use strict;
use warnings;

use Cwd qw(abs_path);
use Exporter 'import';
use File::Basename qw(dirname);
use IPC::Run;
use PostgreSQL::Test::Utils;
use Test::More ();

our @EXPORT = qw(page_path page_block run_page);

my $top = abs_path(dirname(__FILE__) . '/../../..');

# The path of README.md, or of a page by its name.
sub page_path
{
	my ($page) = @_;

	return $page eq 'README' ? "$top/README.md" : "$top/src/doc/$page.md";
}

# The only block of a page that has this pattern in it, or what psql's -c gets in a line that does:
# statements that need more servers than run_page() has, for tests that have these.
sub page_block
{
	my ($page, $pattern) = @_;
	my $text = slurp_file(page_path($page));
	my @found = grep { $_ =~ $pattern } $text =~ /^```\w*\n(.*?)^```$/msg, $text =~ /^    psql -c "(.*?)"/mg;

	die @found . " blocks of $page have $pattern" if @found != 1;
	return $found[0];
}

# What psql prints, without what says only that a statement was run.
sub run_sql
{
	my ($node, $database, $sql) = @_;
	my ($stdout, $stderr) = ('', '');

	IPC::Run::run([ 'psql', '-X', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr($database) ],
		'<', \$sql, '>', \$stdout, '2>', \$stderr);
	$stderr =~ s/^psql:<stdin>:\d+: //mg;
	$stdout =~ s/^(?:ALTER|BEGIN|COMMENT|COMMIT|CREATE|DELETE|DROP|GRANT|INSERT|RESET|REVOKE|SET|UPDATE)(?: [A-Z ]+| \d+)*\n//mg;
	$stdout =~ s/^ +$//mg;
	$stdout =~ s/[ \n]+$//mg;
	$stderr =~ s/[ \n]+$//mg;
	return $stderr ne '' && $stdout ne '' ? "$stderr\n$stdout" : "$stderr$stdout";
}

# Runs a shell's commands beside a server; an error of any of them fails a test.
sub run_sh
{
	my ($node, $database, $commands, $title) = @_;
	my ($stdout, $stderr) = ('', '');

	local %ENV = (%ENV, PGHOST => $node->host, PGPORT => $node->port, PGDATABASE => $database);
	IPC::Run::run([ 'bash', '-eu', '-o', 'pipefail', '-c', $commands ], '>', \$stdout, '2>', \$stderr,
		init => sub { chdir PostgreSQL::Test::Utils::tempdir() or die $! });
	Test::More::is($?, 0, "$title: the commands go through") or Test::More::diag($stderr);
	return;
}

# Runs each block of SQL of a page, in order, and compares what psql says with the
# block behind it, if there is one without a language; without one nothing may go
# wrong.  In an expected block "..." stands for anything.  Options: edit (a function
# that gets a block and returns what is run), after (called after each block).  Blocks of
# sh are run as well, in a directory of their own and with this database as their default.
# Returns how many blocks there were.
sub run_page
{
	my ($node, $database, $page, %options) = @_;
	my $text = slurp_file(page_path($page));
	my $title = $page;
	my $output;
	my $nblocks = 0;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	while ($text =~ /^##* ([^\n]*)\n|^```(\w*)\n(.*?)^```\n/msg)
	{
		my ($heading, $language, $block) = ($1, $2, $3);

		if (defined $heading)
		{
			$title = "$page, $heading";
		}
		elsif ($language eq 'sql')
		{
			Test::More::unlike($output // '', qr/^ERROR/m, "$title: no error");
			$output = run_sql($node, $database, $options{edit} ? $options{edit}->($block) : $block);
			$options{after}->() if $options{after};
			$nblocks++;
		}
		elsif ($language eq 'sh')
		{
			run_sh($node, $database, $options{edit} ? $options{edit}->($block) : $block, $title);
		}
		elsif ($language eq '' && defined $output)
		{
			$block =~ s/[ \n]+$//mg;
			my $pattern = join '.*?', map { quotemeta } split /\.\.\./, $block, -1;

			Test::More::like($output, qr/\A$pattern\z/s, "$title: it shows what the page shows");
			$output = undef;
		}
	}
	Test::More::unlike($output // '', qr/^ERROR/m, "$title: no error");
	return $nblocks;
}

1;
