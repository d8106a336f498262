#!/usr/bin/env bash
#
# installcheck.sh PG_REGRESS BINDIR TEST ...
#	  Runs the regression tests on the server that PGHOST, PGPORT and PGUSER name,
#	  in a database of its own that is dropped afterwards.  Says what the server
#	  lacks, and skips, rather than fail for that.

set -uo pipefail
here=$(cd "$(dirname "$0")/.." && pwd)
pg_regress=$1
bindir=$2
shift 2

ask()
{
	"$bindir/psql" -XAtq -d "${PGDATABASE:-postgres}" -c "$1" 2>/dev/null
}

skip()
{
	echo "installcheck: skipped: $1"
	exit 0
}

ask 'SELECT 1' > /dev/null || skip "no server answers (PGHOST, PGPORT and PGUSER name it)"
[ "$(ask 'SELECT rolsuper FROM pg_roles WHERE rolname = current_user')" = t ] ||
	skip "\"$(ask 'SELECT current_user')\" is no superuser"
[ -n "$(ask "SELECT 1 FROM pg_available_extensions WHERE name = 'webhook_events'")" ] ||
	skip "the server does not have the extension; run make install"
case ",$(ask 'SHOW shared_preload_libraries')," in
	*webhook_events*) ;;
	*) skip "webhook_events is not in shared_preload_libraries" ;;
esac

# needs_network FILE ADDRESSES NETWORK: whether it calls some that the server does not allow.
needs_network()
{
	grep -qE "$2" "$1" && [[ $(ask 'SHOW webhook_events.allowed_networks') != *$3* ]]
}

# A test that needs a setting of test/regress.conf is left out where it is lacking.
tests=()
for test in "$@"; do
	file=$here/test/sql/$test.sql
	if grep -q 'PREPARE TRANSACTION' "$file" && [ "$(ask 'SHOW max_prepared_transactions')" = 0 ]; then
		echo "installcheck: left out $test: max_prepared_transactions is 0"
	elif needs_network "$file" '\<127\.|localhost' 127.0.0.0/8; then
		echo "installcheck: left out $test: webhook_events.allowed_networks lacks 127.0.0.0/8"
	elif needs_network "$file" 'localhost|\[::1\]' ::1/128; then
		echo "installcheck: left out $test: webhook_events.allowed_networks lacks ::1/128"
	else
		tests+=("$test")
	fi
done
[ ${#tests[@]} -gt 0 ] || skip "no test fits the server's settings"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
ln -s "$here/expected" "$here/test/sql" "$work/"
cd "$work"
status=0
"$pg_regress" --bindir="$bindir" --inputdir="$here/test" --outputdir="$work" \
	--dbname=webhook_events_installcheck "${tests[@]}" || { cat "$work/regression.diffs"; status=1; }
"$bindir/psql" -Xq -d postgres -c 'DROP DATABASE IF EXISTS webhook_events_installcheck'
exit $status
