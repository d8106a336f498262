#!/usr/bin/env bash
#
# majors.sh [--chroots] DIRECTORY [SUITE ...]
#	  Runs the test suite on other versions of PostgreSQL, each in a chroot of
#	  the Debian suite that has it: 17 in trixie, 18 in sid, 19 in experimental.
#	  No suite of Debian has 16.
#
# The chroots are made in DIRECTORY and kept there.  The suites run side by side,
# each with a network of its own where that can be had.  Where a chroot can't be
# made (that needs root, debootstrap, and a mirror that can be reached), the suite
# is skipped with a word about it, and that is no failure.  The last line counts.
# With --chroots they are only made.

set -uo pipefail
here=$(cd "$(dirname "$0")/.." && pwd)
only_chroots=
if [ "$1" = --chroots ]; then
	only_chroots=1
	shift
fi
directory=$1
shift
suites=${*:-trixie sid experimental}

# The mirror that this machine uses itself.
mirror()
{
	cat /etc/apt/sources.list /etc/apt/sources.list.d/* 2>/dev/null |
		awk '/^deb /{print $2; exit} /^URIs:/{print $2; exit}'
}

# What an experimental package needs lies in sid.
make_chroot()
{
	local suite=$1 root=$2 base=$1 server=postgresql

	if [ "$suite" = experimental ]; then
		base=sid
		server="-t experimental postgresql-19 postgresql-server-dev-19"
	fi
	debootstrap --variant=minbase "$base" "$root" "$(mirror)" &&
		printf '#!/bin/sh\nexit 101\n' > "$root/usr/sbin/policy-rc.d" &&
		chmod +x "$root/usr/sbin/policy-rc.d" &&
		mount_proc "$root" &&
		{ [ "$suite" = "$base" ] ||
			echo "deb $(mirror) experimental main" > "$root/etc/apt/sources.list.d/experimental.list"; } &&
		chroot "$root" apt-get -o Acquire::Check-Valid-Until=false update &&
		DEBIAN_FRONTEND=noninteractive chroot "$root" apt-get install -y \
			--no-install-recommends gcc make libcurl4-openssl-dev libipc-run-perl \
			libio-socket-ssl-perl openssl libkrb5-dev nginx-light iproute2 &&
		DEBIAN_FRONTEND=noninteractive chroot "$root" apt-get install -y \
			--no-install-recommends $server $([ "$suite" = experimental ] || echo postgresql-server-dev-all)
}

mount_proc()
{
	mountpoint -q "$1/proc" || mount -t proc proc "$1/proc"
}

# Tests of two suites must not take each other's ports.
isolated()
{
	if unshare -n true 2>/dev/null && command -v ip > /dev/null; then
		unshare -n sh -c 'ip link set lo up; exec "$@"' sh "$@"
	else
		"$@"
	fi
}

# Writes what is to be said to SUITE.result, the counted line last.
run_suite()
{
	local suite=$1 root=$directory/$1 log=$directory/$1.log

	if [ ! -e "$root/.complete" ]; then
		if ! make_chroot "$suite" "$root" > "$log" 2>&1; then
			echo "$suite: SKIPPED, no chroot could be made; see $log"
			return
		fi
		touch "$root/.complete"
	fi
	if [ -n "$only_chroots" ]; then
		umount "$root/proc" 2> /dev/null
		echo "$suite: $(chroot "$root" pg_config --version)"
		return
	fi
	mount_proc "$root"
	rm -rf "${root:?}/webhook_events"
	mkdir "$root/webhook_events"
	tar -C "$here" --exclude=./tmp_check --exclude=./.majors --exclude='*.o' \
		--exclude='*.so' --exclude='*.bc' -cf - . | tar -C "$root/webhook_events" -xf -
	echo "$suite: $(chroot "$root" pg_config --version)"
	isolated chroot "$root" env -u MAKEFLAGS -u MAKELEVEL LC_ALL=C.UTF-8 NO_INSTALL=1 \
		/webhook_events/test/twice.sh make -C /webhook_events --no-print-directory with_llvm=no > "$log" 2>&1
	umount "$root/proc"
	if ! grep -E '^[0-9]+ passed, [0-9]+ failed$|^failed: |^passed when' "$log" | sed "s/^/$suite: /"; then
		echo "$suite: the tests did not run; see $log"
		tail -n 5 "$log"
		echo "$suite: 0 passed, 1 failed"
	fi
}

mkdir -p "$directory"
for suite in $suites; do
	if [ "$(id -u)" != 0 ] || ! command -v debootstrap > /dev/null; then
		echo "$suite: SKIPPED, a chroot needs root and debootstrap" > "$directory/$suite.result"
	else
		run_suite "$suite" > "$directory/$suite.result" 2>&1 &
	fi
done
wait
for suite in $suites; do
	cat "$directory/$suite.result"
done | tee "$directory/results"
[ -z "$only_chroots" ] || exit 0
perl -ne '
	if (/: (\d+) passed, (\d+) failed$/) { $passed += $1; $failed += $2; }
	END { printf "%d passed, %d failed\n", $passed, $failed; exit($failed > 0); }' "$directory/results"
