#!/usr/bin/env bash
#
# indent.sh
#	  Indents the sources as PostgreSQL does; with --check only says which ones
#	  would change, and fails if any would.
#
# Debian's pg-bsd-indent does it, with the options of PostgreSQL's pgindent and
# the names of all types in PostgreSQL's headers, libcurl's and our own.

set -euo pipefail
cd "$(dirname "$0")/.."

indent=$(command -v pg_bsd_indent) || {
	echo "indent: pg_bsd_indent is missing (Debian: pg-bsd-indent)" >&2
	exit 1
}
typedefs=$(mktemp)
work=$(mktemp -d)
trap 'rm -rf "$typedefs" "$work"' EXIT

# Names that a typedef gives: those before its ";", or in "(*name) (".  Headers of
# other extensions, which install theirs among PostgreSQL's, have no say.
find src "$(${PG_CONFIG:-pg_config} --includedir-server)" -path '*/server/extension' -prune -o \
	-name '*.[ch]' -print0 |
	xargs -0 perl -0777 -ne '
		while (/\btypedef\b(?:[^;{}]|(\{(?:[^{}]|(?1))*\}))*?(?:\(\s*\*\s*(\w+)\s*\)[^;]*|\b(\w+)\s*(?:\[[^\]]*\])?\s*);/g)
		{
			print(($2 // $3), "\n");
		}' | grep -vxE 'catalog|cursor|date|interval|text|timestamp' | sort -u > "$typedefs"
printf '%s\n' CURL CURLM CURLU CURLMsg CURLcode CURLMcode CURLUcode CURLUPart \
	curl_socket_t curl_off_t curlsocktype sigset_t size_t ssize_t pid_t \
	int8 int16 int32 int64 uint8 uint16 uint32 uint64 bool >> "$typedefs"

status=0
while IFS= read -r -d '' file; do
	"$indent" -bad -bap -bbb -bc -bl -cli1 -cp33 -cdb -nce -d0 -di12 -nfc1 -i4 \
		-l79 -lp -lpl -nip -npro -sac -tpg -ts4 -U"$typedefs" \
		< "$file" |
		perl -pe 's/^(\w+)[\t ]+\*$/$1 */; s/^\ttext +\* ?(?=\w)/\ttext\t   */; s/,\.(?=\w+ = )/, ./g' > "$work/out.c" || true
	if ! cmp -s "$file" "$work/out.c"; then
		if [ "${1:-}" = --check ]; then
			echo "indent: $file would change" >&2
			status=1
		else
			cp "$work/out.c" "$file"
		fi
	fi
done < <(find src -name '*.[ch]' -print0)
exit $status
