#!/usr/bin/env bash
#
# lint.sh FILE ... -- FLAG ...
#	  What clang-tidy and cppcheck see in the sources, with the flags that they
#	  are compiled with.  Fails if either sees anything beside the exceptions in
#	  clang-tidy.yml and cppcheck.txt, which say why each is agreed on.

set -uo pipefail
cd "$(dirname "$0")/../.."

files=()
while [ "$1" != -- ]; do
	files+=("$1")
	shift
done
shift

for tool in clang-tidy cppcheck; do
	command -v $tool > /dev/null || { echo "lint: $tool is missing (Debian: $tool)" >&2; exit 1; }
done

status=0
echo "lint: clang-tidy"
printf '%s\0' "${files[@]}" |
	xargs -0 -P "$(nproc)" -I {} clang-tidy --quiet --config-file=test/lint/clang-tidy.yml {} -- "$@" 2> /dev/null || status=1
echo "lint: cppcheck"
cppcheck --quiet --error-exitcode=1 --enable=warning,performance,portability \
	--inline-suppr --suppressions-list=test/lint/cppcheck.txt --std=c11 \
	-Isrc --suppress='*:/usr/include/*' -j "$(nproc)" "${files[@]}" || status=1
exit $status
