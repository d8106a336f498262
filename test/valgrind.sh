#!/bin/sh
#
# valgrind.sh BINDIR LOGS COMMAND...
#	  Runs a command while the staged server in BINDIR runs under valgrind, and then
#	  prints what that found where our code is on the stack: reads and writes beside
#	  what was allocated, and decisions on what nobody has set.
#
# What PostgreSQL does by itself is not looked at, nor padding that it writes to
# files.  Memory that it takes from its own
# contexts is only watched where a context takes it from malloc() for this alone, as for
# anything of more than 8 kB.

set -u
bin=$1 logs=$2
shift 2
command -v valgrind > /dev/null || { echo "valgrind.sh: valgrind is not installed" >&2; exit 1; }
rm -rf "$logs"
mkdir -m 777 -p "$logs"

mv "$bin/postgres" "$bin/postgres.real"
trap 'mv -f "$bin/postgres.real" "$bin/postgres"' EXIT
trap 'exit 1' INT TERM
cat > "$bin/postgres" <<END
#!/bin/sh
exec valgrind --quiet --leak-check=no --error-limit=no --num-callers=30 \
	--log-file='$logs/%p.log' '$bin/postgres.real' "\$@"
END
chmod 755 "$bin/postgres"

"$@"
status=$?

# Each finding ends with an empty line.  Ours have one of our files among the first frames;
# further down it has only called what PostgreSQL does anyway.
for log in "$logs"/*.log
do
	sed 's/^==[0-9]*== *$//; s/^==[0-9]*== //' "$log"
	echo
done | perl -00 -e '
	my %source = map { m{(\w+\.c)$} ? ($1 => 1) : () } @ARGV;
	my ($ours, $others, %seen) = (0, 0);

	while (<STDIN>)
	{
		my @frames = /^ +(?:at|by) 0x.*$/mg;

		next if !@frames;
		if (/^Syscall param/ || !grep { defined && /\((\w+\.c):\d+\)$/ && $source{$1} } @frames[0 .. 5])
		{
			$others++;
			next;
		}
		$ours++;
		print if !$seen{s/0x[0-9A-F]+//gr}++;
	}
	printf "valgrind: %d findings in our code, %d elsewhere\n", $ours, $others;
	exit($ours > 0);' "$(dirname "$0")"/../src/*.c "$(dirname "$0")"/../src/*/*.c ||
	status=1
exit $status
