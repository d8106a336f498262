#!/usr/bin/env bash
#
# coverage.sh DIRECTORY
#	  Builds a copy of the tree that counts its lines, runs the tests on it and
#	  prints how many of the lines they reached, file by file and in all.

set -euo pipefail
here=$(cd "$(dirname "$0")/.." && pwd)
directory=$1

rm -rf "$directory"
mkdir -p "$directory"
tar -C "$here" --exclude=./tmp_check --exclude=./.majors --exclude=./.git --exclude='*.o' \
	--exclude='*.so' --exclude='*.bc' -cf - . | tar -C "$directory" -xf -
chmod -R a+rX "$directory"
cd "$directory"
make -s COVERAGE=1 with_llvm=no
# The server's user writes the counts beside the objects.
find src -type d -exec chmod a+rwx {} +
make -s COVERAGE=1 with_llvm=no test || echo "coverage: some tests failed"
find src -name '*.gcda' -exec chmod a+rw {} +
perl -e '
	my (%lines, %reached);
	foreach my $object (split /\n/, `find src -name "*.gcda"`)
	{
		my ($folder) = $object =~ m{^(.*)/};
		open(my $gcov, "-|", "gcov -t -o $folder $object 2>/dev/null") or die $!;
		my $file;
		while (<$gcov>)
		{
			$file = $1 if /^\s*-:\s*0:Source:(.*)/;
			next unless $file && $file =~ m{^src/.*\.c$};
			next unless /^\s*([#=\d*]+):\s*(\d+):/ && $2 > 0;
			my ($count, $line) = ($1, $2);
			$lines{$file}{$line} = 1;
			$reached{$file}{$line} = 1 if $count =~ /^\d/;
		}
	}
	my ($all, $hit) = (0, 0);
	foreach my $file (sort keys %lines)
	{
		my ($n, $r) = (scalar keys %{ $lines{$file} }, scalar keys %{ $reached{$file} });
		printf "%5.1f %%  %5d lines  %s\n", 100 * $r / $n, $n, $file;
		$all += $n;
		$hit += $r;
	}
	die "coverage: nothing was counted\n" unless $all;
	printf "%5.1f %% of %d lines\n", 100 * $hit / $all, $all;'
