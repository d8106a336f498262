#!/usr/bin/env bash
#
# rooms.sh
#	  Checks that code flows one way: a file in src/ includes only files of its
#	  own room and of those before it in the list below.

set -euo pipefail
cd "$(dirname "$0")/.."

rooms="rules server store capture deliver sql"
grep -rnoE '^#include "[a-z]+/[a-z_0-9]+\.h"' --include='*.[ch]' src |
	perl -ne '
		BEGIN { my $i = 0; %place = map { $_ => $i++ } split / /, shift @ARGV; }
		next unless m{^src/(\w+)/.*include "(\w+)/} && exists $place{$2};
		$count++;
		next if exists $place{$1} && $place{$2} <= $place{$1};
		print STDERR "rooms: upwards: $_";
		$up++;
		END { print "rooms: $count includes, none goes up\n" unless $up; exit($up ? 1 : 0); }' "$rooms"
