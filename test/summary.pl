#!/usr/bin/perl
#
# summary.pl
#	  Counts the results in the logs of pg_regress, pg_isolation_regress and
#	  prove, names every failure, and prints "N passed, N failed".
#
# Usage: summary.pl LOG...
#
# The exit status is 0 only if every log was there, held at least one test and
# no failure.  A driver that died before its first test counts as one failure.

use strict;
use warnings;

my ($passed, $failed) = (0, 0);
my @failures;

foreach my $path (@ARGV)
{
	my ($ok, $not_ok) = (0, 0);
	my ($driver) = $path =~ m{([^/]+)\.log$};

	if (open(my $log, '<', $path))
	{
		my $prove_says;

		while (my $line = <$log>)
		{
			# pg_regress up to 15
			if ($line =~ /^(?:test|\s{5}|\s+)\s*(\S+)\s+\.\.\. (ok|FAILED)/)
			{
				$2 eq 'ok' ? $ok++ : $not_ok++;
				push @failures, "$driver: $1" if $2 ne 'ok';
			}
			# pg_regress from 16 on
			elsif ($line =~ /^(not )?ok \d+\s+[-+] (\S+)/)
			{
				$1 ? $not_ok++ : $ok++;
				push @failures, "$driver: $2" if $1;
			}
			# prove
			elsif ($line =~ /^Files=\d+, Tests=(\d+)/)
			{
				$ok += $1;
			}
			elsif ($line =~ /^Result: (\w+)/)
			{
				$prove_says = $1;
			}
			elsif ($line =~ /^(\S+)\s+\(Wstat: \d+.* Tests: \d+ Failed: (\d+)\)/)
			{
				my $bad = $2 || 1;

				$ok -= $2;
				$not_ok += $bad;
				push @failures, "$driver: $1 ($bad)";
			}
		}
		close $log;
		if (defined $prove_says && $prove_says ne 'PASS' && $not_ok == 0)
		{
			$not_ok++;
			push @failures, "$driver: prove says $prove_says";
		}
	}
	if ($ok + $not_ok == 0)
	{
		$not_ok++;
		push @failures, "$driver: no test ran";
	}
	$passed += $ok;
	$failed += $not_ok;
}

print "failed: $_\n" foreach @failures;
print "$passed passed, $failed failed\n";
exit($failed == 0 ? 0 : 1);
