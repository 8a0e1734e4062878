#!/usr/bin/env bash
# Decide one instance; the answer is written to RESULTS, sat with its witness.
# Usage: run_instance.sh v1 CATEGORY ONNX VNNLIB RESULTS TIMEOUT
set -euo pipefail

if [[ $# -ne 6 || $1 != v1 ]]; then
    echo "usage: $0 v1 CATEGORY ONNX VNNLIB RESULTS TIMEOUT" >&2
    exit 2
fi

root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/../.." && pwd)
certiprune=${CERTIPRUNE:-$root/.venv/bin/certiprune}
onnx=$3 vnnlib=$4 results=$5 timeout=$6

# An answer of an earlier run must not be taken for this one's.
rm -f -- "$results"

status=0
"$certiprune" vnnlib --timeout "$timeout" --result "$results" -- "$onnx" "$vnnlib" || status=$?

# Killed, or not started at all: say so in the file that is read.
if [[ ! -s $results ]]; then
    echo error >"$results"
fi
exit "$status"
