#!/usr/bin/env bash
# Get ready for one instance, without looking for its answer: status 0 if it can be run, else the instance is skipped.
# Usage: prepare_instance.sh v1 CATEGORY ONNX VNNLIB
set -euo pipefail

if [[ $# -ne 4 || $1 != v1 ]]; then
    echo "usage: $0 v1 CATEGORY ONNX VNNLIB" >&2
    exit 2
fi

root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/../.." && pwd)
certiprune=${CERTIPRUNE:-$root/.venv/bin/certiprune}

for file in "$3" "$4"; do
    if [[ ! -r $file || -d $file ]]; then
        echo "$0: cannot read $file" >&2
        exit 1
    fi
done
if [[ ! -x $certiprune ]]; then
    echo "$0: $certiprune is not there; run install_tool.sh v1 first" >&2
    exit 1
fi

# Starting it once brings the tool into the disk cache.
"$certiprune" vnnlib --help >/dev/null
cat -- "$3" "$4" >/dev/null
echo "prepared $2: $3 $4"
