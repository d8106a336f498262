#!/usr/bin/env bash
#
# setup.sh [--say-only | --checks]
#	  Sees what building and testing need and this machine lacks, with --checks
#	  also what "make check-all" needs beyond that.  As root on Debian or Ubuntu it
#	  installs that, after a line that says so, unless NO_INSTALL=1; else it names
#	  the one command that does.  Root's tests run as another user, who must be able
#	  to read this directory.

set -uo pipefail

pg_config=${PG_CONFIG:-pg_config}
curl_config=${CURL_CONFIG:-curl-config}
user=${TESTUSER:-postgres}
mode=${1:-}
packages=()

lacks()
{
	packages+=("$1")
}

# The newest version of PostgreSQL that the system's packages have.
newest()
{
	apt-cache --names-only search '^postgresql-server-dev-[0-9]+$' 2>/dev/null |
		sed -n 's/^postgresql-server-dev-\([0-9]*\) .*/\1/p' | sort -n | tail -1
}

# The version of clang that the system's packages mean by that name.
clang_version()
{
	apt-cache depends clang 2>/dev/null | sed -n 's/.*Depends: clang-\([0-9]*\)$/\1/p' | head -1
}

# Whether the system's packages have this one, as far as their lists have been fetched.
has_package()
{
	! apt-cache show gcc > /dev/null 2>&1 || apt-cache show "$1" > /dev/null 2>&1
}

# Whether there is one that can build a fuzzer.
has_fuzzer()
{
	echo 'int LLVMFuzzerTestOneInput(void) { return 0; }' |
		"${CLANG:-clang}" -x c -fsanitize=fuzzer,address - -o /dev/null 2>/dev/null
}

has_module()
{
	perl -M"$1" -e 1 2>/dev/null
}

find_lacks()
{
	packages=()
	command -v cc > /dev/null || command -v gcc > /dev/null || lacks gcc
	command -v perl > /dev/null || lacks perl
	if [ ! -f "$("$pg_config" --includedir-server 2>/dev/null)/postgres.h" ]; then
		# What pg_config belongs to, or whatever the packages have.
		local major
		major=$("$pg_config" --version 2>/dev/null | sed -n 's/^PostgreSQL \([0-9]*\).*/\1/p')
		lacks "postgresql-server-dev-${major:-MAJOR}"
	fi
	[ -x "$("$pg_config" --bindir 2>/dev/null)/initdb" ] || lacks "postgresql"
	"$curl_config" --version > /dev/null 2>&1 || lacks libcurl4-openssl-dev
	command -v openssl > /dev/null || lacks openssl
	has_module IPC::Run || lacks libipc-run-perl
	has_module IO::Socket::SSL || lacks libio-socket-ssl-perl
	command -v prove > /dev/null || lacks perl
	if [ "$(id -u)" = 0 ] && ! command -v runuser > /dev/null; then
		lacks util-linux
	fi
	[ "$mode" = --checks ] || return 0
	# Not every release has it; the check is skipped then.
	command -v pg_bsd_indent > /dev/null || ! has_package pg-bsd-indent || lacks pg-bsd-indent
	command -v clang-tidy > /dev/null || lacks clang-tidy
	command -v cppcheck > /dev/null || lacks cppcheck
	if ! has_fuzzer; then
		command -v "${CLANG:-clang}" > /dev/null || lacks clang
		lacks "libclang-rt-CLANG-dev"
	fi
	# Only root can make chroots of other suites; else these are skipped.
	if [ "$(id -u)" = 0 ] && ! command -v debootstrap > /dev/null; then
		lacks debootstrap
	fi
}

here=$(cd "$(dirname "$0")/.." && pwd)
if [ "$(id -u)" = 0 ] && [ "$mode" != --say-only ] && command -v runuser > /dev/null; then
	reader=nobody
	id "$user" > /dev/null 2>&1 && reader=$user
	runuser -u "$reader" -- test -r "$here/Makefile" || {
		echo "setup: user $user, as whom root's tests run, can't read $here; run: mv $here /srv/ && cd /srv/$(basename "$here")" >&2
		exit 1
	}
fi

find_lacks
[ ${#packages[@]} -gt 0 ] || exit 0

if [ "$(id -u)" = 0 ] && command -v apt-get > /dev/null &&
	[ -z "${NO_INSTALL:-}" ] && [ "$mode" != --say-only ]; then
	names=${packages[*]/MAJOR/*}
	echo "setup: installing ${names/CLANG/*} with apt-get (NO_INSTALL=1 refuses)"
	export DEBIAN_FRONTEND=noninteractive
	apt-get update -qq > /dev/null
	packages=("${packages[@]/MAJOR/$(newest)}")
	apt-get install -y -qq --no-install-recommends "${packages[@]/CLANG/$(clang_version)}" > /dev/null ||
		{ echo "setup: apt-get failed" >&2; exit 1; }
	find_lacks
	[ ${#packages[@]} -eq 0 ] && exit 0
	echo "setup: ${packages[*]} still missing" >&2
	exit 1
fi
names=${packages[*]}
if command -v apt-get > /dev/null; then
	major=$(newest)
	clang=$(clang_version)
	names=${names//CLANG/${clang:-14}}
	echo "setup: missing; run: apt-get install --no-install-recommends ${names//MAJOR/${major:-15}}" >&2
else
	echo "setup: missing, by the names of Debian's packages: $(sed 's/MAJOR/15/g; s/CLANG/14/' <<< "$names")" >&2
fi
exit 1
