#!/usr/bin/env bash
# All tests with the virtual environment $1, in two halves at once: one waits for daemons, the other computes.
# Further arguments go to pytest, which then runs once, on what they select.
set -euo pipefail

pytest=("$1/bin/python" -m pytest)
shift
cd "$(dirname "${BASH_SOURCE[0]}")/.."
if (($#)); then
    exec "${pytest[@]}" "$@"
fi

log=build/tests-of-daemons.log
mkdir -p build
: >"$log"
# A process group of its own, or bash would have it ignore Ctrl-C.
set -m
"${pytest[@]}" tests/acceptance tests/browser tests/faults </dev/null >"$log" 2>&1 &
daemons=$!
trap 'kill -INT -- -$daemons 2>/dev/null || true' EXIT

echo "== tests/unit tests/integration, and beside them tests/acceptance tests/browser tests/faults > $log"
computing_failed=0
"${pytest[@]}" tests/unit tests/integration || computing_failed=$?
if ((computing_failed == 2)); then
    exit 2 # Ctrl-C
fi

echo "== tests/acceptance tests/browser tests/faults"
tail --lines=+1 --follow --pid="$daemons" "$log"
daemons_failed=0
wait "$daemons" || daemons_failed=$?
trap - EXIT
exit "$((computing_failed > daemons_failed ? computing_failed : daemons_failed))"
