#!/usr/bin/env bash
#
# deb.sh VERSION DIRECTORY
#	  Builds a Debian source package and, for each version of PostgreSQL whose
#	  development files are installed, a binary package in DIRECTORY, and has
#	  lintian look at them.  With TRY=1, as root, it installs each on this
#	  machine, tries it on a server of its own and removes it.

set -euo pipefail
here=$(cd "$(dirname "$0")/../.." && pwd)
version=$1
directory=$2
build=$directory/webhook-events-$version

for tool in dpkg-buildpackage lintian pg_buildext dh; do
	command -v $tool > /dev/null || {
		echo "deb: $tool is missing (Debian: dpkg-dev lintian debhelper postgresql-server-dev-all)" >&2
		exit 1
	}
done
rm -rf "$directory"
mkdir -p "$directory"
"$here/test/package/dist.sh" "$version" "$directory/dist" > /dev/null
tar -C "$directory" -xzf "$directory/dist/webhook_events-$version.tar.gz"
mv "$directory/webhook_events-$version" "$build"
cp -r "$here/test/package/debian" "$build/debian"

cd "$build"
{
	cat debian/copyright.in
	sed -n '5,$p' LICENSE | sed 's/^$/./; s/^/ /'
} > debian/copyright
rm debian/copyright.in
cat > debian/changelog << CHANGELOG
webhook-events ($version) unstable; urgency=medium

  * New upstream version; README.md says what changed.

 -- The maintainers of webhook_events <maintainers@webhook-events.invalid>  $(date -R)
CHANGELOG
pg_buildext updatecontrol > /dev/null
# postgresql-all brings every version of the suite with it; what is here will do.
# What make was told (with_llvm=no) goes on, behind the jobs.
flags=${MAKEFLAGS-}
MAKEFLAGS="-j$(nproc) ${flags##*-- }" dpkg-buildpackage -us -uc -d > "$directory/build.log" 2>&1 ||
	{ tail -40 "$directory/build.log"; exit 1; }
cd "$directory"
lintian --allow-root --fail-on error,warning --suppress-tags initial-upload-closes-no-bugs,no-manual-page *.changes
rm -rf "$build" "$directory/dist"
ls -- *.deb

[ -n "${TRY:-}" ] || exit 0
for package in postgresql-*-webhook-events_*.deb; do
	major=$(sed 's/^postgresql-\([0-9]*\)-.*/\1/' <<< "$package")
	dpkg -i "$package" > /dev/null
	"$here/test/package/try.sh" "$major"
	dpkg -r "postgresql-$major-webhook-events" > /dev/null
	[ ! -e "$(pg_config --pkglibdir)/webhook_events.so" ] || { echo "deb: $package left its library behind" >&2; exit 1; }
	echo "$package: installed, tried, removed"
done
