#!/usr/bin/env bash
#
# twice.sh MAKE...
#	  Runs "MAKE test", and the files of TAP tests that fail once more, one after
#	  the other, when nothing else runs.  What passes then is named and does not count
#	  as failed: a machine that stands still for minutes looks like a fault.  What the
#	  first run has logged of them is kept in tmp_check/first-run, and its end is shown.
#	  The last line counts as "make test" does.

set -uo pipefail
log=$(mktemp)
trap 'rm -f "$log"' EXIT

"$@" test 2>&1 | tee "$log" | grep -vE '^[0-9]+ passed, [0-9]+ failed$'
counts=$(grep -E '^[0-9]+ passed, [0-9]+ failed$' "$log" | tail -n 1)
read -r passed _ failed _ <<< "${counts:-0 passed, 1 failed}"
files=$(sed -n 's,^failed: test-tap: [^ ]*\(test/t/[0-9a-z_]*\.pl\) .*,\1,p' "$log" | tr '\n' ' ')
others=$(grep '^failed: ' "$log" | grep -cv '^failed: test-tap: [^ ]*test/t/')
if [ "$failed" -gt 0 ] && [ "$others" -eq 0 ] && [ -n "$files" ]; then
	rm -rf tmp_check/first-run
	mkdir -p tmp_check/first-run
	for logs in tmp_check/test-tap.log tmp_check/test-tap/log tmp_check/test-tap/tmp_check/log; do
		[ ! -e "$logs" ] || mv "$logs" "tmp_check/first-run/${logs//\//-}"
	done
	for file in $files; do
		echo "== the end of the log of $file"
		find tmp_check/first-run -name "regress_log_$(basename "$file" .pl)" -exec tail -n 40 {} +
	done
	echo "once more: $files"
	if "$@" test-tap TAP_JOBS=1 PROVE_TESTS="$files"; then
		echo "passed when run once more: $files"
		passed=$((passed + failed))
		failed=0
	fi
fi
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
