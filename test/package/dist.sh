#!/usr/bin/env bash
#
# dist.sh VERSION DIRECTORY
#	  Makes DIRECTORY/webhook_events-VERSION.tar.gz: the sources with PGXN's
#	  META.json, which builds where it is unpacked; and, to see that it does,
#	  unpacks and builds it, there and in another directory.

set -euo pipefail
here=$(cd "$(dirname "$0")/../.." && pwd)
version=$1
directory=$2
name=webhook_events-$version

rm -rf "$directory"
mkdir -p "$directory/$name"
cd "$here"
# What is checked in, or, in a tree that isn't git's, what is not built.
if git rev-parse --is-inside-work-tree > /dev/null 2>&1; then
	git ls-files -z
else
	find . \( -name tmp_check -o -name .majors -o -name '*.o' -o -name '*.so' -o -name '*.bc' \) -prune -o -type f -print0
fi | xargs -0 cp --parents -t "$directory/$name"

perl "$here/test/package/meta.pl" "$here/webhook_events.control" "$here/LICENSE" > "$directory/$name/META.json"
tar -C "$directory" --sort=name --owner=0 --group=0 -czf "$directory/$name.tar.gz" "$name"
rm -rf "${directory:?}/$name"

mkdir "$directory/try" "$directory/elsewhere"
tar -C "$directory/try" -xzf "$directory/$name.tar.gz"
make -s -j"$(nproc)" -C "$directory/elsewhere" -f "$directory/try/$name/Makefile" VPATH="$directory/try/$name" with_llvm=no
make -s -C "$directory/elsewhere" -f "$directory/try/$name/Makefile" VPATH="$directory/try/$name" \
	with_llvm=no install DESTDIR="$directory/installed"
make -s -j"$(nproc)" -C "$directory/try/$name" with_llvm=no
for file in webhook_events.so "webhook_events--$version.sql" webhook_events.control; do
	[ -n "$(find "$directory/installed" -name "$file")" ] ||
		{ echo "dist: a build in another directory installs no $file" >&2; exit 1; }
done
rm -rf "$directory/try" "$directory/elsewhere" "$directory/installed"
echo "$directory/$name.tar.gz"
