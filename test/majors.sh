#!/usr/bin/env bash
#
# majors.sh
#	  Runs the test suite on other versions of PostgreSQL, each in a chroot of
#	  the Debian suite that has it: 17 in trixie, 18 in sid.
#
# Usage: majors.sh DIRECTORY [SUITE ...]
#
# The chroots are made in DIRECTORY and kept there.  Where one can't be made
# (that needs root, debootstrap, and a mirror that can be reached), the suite is
# skipped with a word about it, and that is no failure.  The last line counts.

set -uo pipefail
here=$(cd "$(dirname "$0")/.." && pwd)
directory=$1
shift
suites=${*:-trixie sid}

passed=0
failed=0
skipped=()

# The mirror that this machine uses itself.
mirror()
{
	cat /etc/apt/sources.list /etc/apt/sources.list.d/* 2>/dev/null |
		awk '/^deb /{print $2; exit} /^URIs:/{print $2; exit}'
}

make_chroot()
{
	local suite=$1 root=$2

	debootstrap --variant=minbase "$suite" "$root" "$(mirror)" &&
		printf '#!/bin/sh\nexit 101\n' > "$root/usr/sbin/policy-rc.d" &&
		chmod +x "$root/usr/sbin/policy-rc.d" &&
		mount_proc "$root" &&
		chroot "$root" apt-get -o Acquire::Check-Valid-Until=false update &&
		DEBIAN_FRONTEND=noninteractive chroot "$root" apt-get install -y \
			--no-install-recommends postgresql postgresql-server-dev-all gcc \
			make libcurl4-openssl-dev libipc-run-perl libio-socket-ssl-perl \
			openssl libkrb5-dev
}

mount_proc()
{
	mountpoint -q "$1/proc" || mount -t proc proc "$1/proc"
}

run_suite()
{
	local suite=$1 root=$directory/$1 log=$directory/$1.log line

	if [ ! -e "$root/.complete" ]; then
		echo "$suite: making a chroot"
		if ! make_chroot "$suite" "$root" > "$log" 2>&1; then
			skipped+=("$suite")
			echo "$suite: SKIPPED, no chroot could be made; see $log"
			return
		fi
		touch "$root/.complete"
	fi
	mount_proc "$root"
	rm -rf "${root:?}/webhook_events"
	mkdir "$root/webhook_events"
	tar -C "$here" --exclude=./tmp_check --exclude=./.majors --exclude='*.o' \
		--exclude='*.so' -cf - . | tar -C "$root/webhook_events" -xf -
	echo "$suite: $(chroot "$root" pg_config --version)"
	chroot "$root" make -C /webhook_events \
		--no-print-directory with_llvm=no test > "$log" 2>&1
	line=$(tail -1 "$log")
	if [[ $line =~ ^([0-9]+)\ passed,\ ([0-9]+)\ failed$ ]]; then
		passed=$((passed + BASH_REMATCH[1]))
		failed=$((failed + BASH_REMATCH[2]))
		echo "$suite: $line"
	else
		failed=$((failed + 1))
		echo "$suite: the tests did not run; see $log"
	fi
	umount "$root/proc"
}

mkdir -p "$directory"
for suite in $suites; do
	if [ "$(id -u)" != 0 ] || ! command -v debootstrap > /dev/null; then
		skipped+=("$suite")
		echo "$suite: SKIPPED, a chroot needs root and debootstrap"
	else
		run_suite "$suite"
	fi
done
[ ${#skipped[@]} -eq 0 ] || echo "skipped: ${skipped[*]}"
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
