#!/usr/bin/env bash
#
# try.sh MAJOR
#	  Tries the installed package on a server of its own: creates the extension,
#	  attaches a table, sees an event recorded and a worker at work, and runs
#	  "make installcheck", with nothing set but the library and with what all
#	  tests need.

set -euo pipefail
here=$(cd "$(dirname "$0")/../.." && pwd)
bin=/usr/lib/postgresql/$1/bin
work=$(mktemp -d)
chmod 777 "$work"
as()
{
	if [ "$(id -u)" = 0 ]; then runuser -u postgres -- "$@"; else "$@"; fi
}
cd "$work"
as "$bin/initdb" -D "$work/data" -A trust > "$work/log"
cat >> "$work/data/postgresql.conf" << CONF
listen_addresses = ''
unix_socket_directories = '$work'
shared_preload_libraries = 'webhook_events'
CONF
as "$bin/pg_ctl" -D "$work/data" -l "$work/server.log" -w start > /dev/null
trap 'as "$bin/pg_ctl" -D "$work/data" -m fast stop > /dev/null; rm -rf "$work"' EXIT
sql()
{
	as "$bin/psql" -XAtq -v ON_ERROR_STOP=1 -h "$work" -d postgres -c "$1"
}
sql "CREATE EXTENSION webhook_events"
sql "CREATE TABLE actor_runs (id text PRIMARY KEY, actor_id text, status text)"
sql "SELECT webhook_events.attach('actor_runs')"
sql "INSERT INTO actor_runs VALUES ('r', 'a', 'READY')"
[ "$(sql "SELECT count(*) FROM webhook_events.events")" = 1 ]
runs=
for _ in $(seq 600); do
	runs=$(sql "SELECT running FROM webhook_events.status()")
	[ "$runs" = t ] && break
	sleep 0.1
done
[ "$runs" = t ] || {
	echo "try: no worker runs: $(sql "SELECT reason FROM webhook_events.status()")" >&2
	exit 1
}
installcheck()
{
	PGHOST=$work PGUSER=postgres make -s -C "$here" --no-print-directory PG_CONFIG="$bin/pg_config" installcheck
}
installcheck
cat "$here/test/regress.conf" >> "$work/data/postgresql.conf"
as "$bin/pg_ctl" -D "$work/data" -l "$work/server.log" -w restart > /dev/null
installcheck
