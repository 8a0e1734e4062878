#!/usr/bin/env bash
# Install certiprune into a virtual environment of its own. Usage: install_tool.sh v1
set -euo pipefail

if [[ $# -ne 1 || $1 != v1 ]]; then
    echo "usage: $0 v1" >&2
    exit 2
fi

root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/../.." && pwd)
python=${PYTHON:-python3}

"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
    echo "certiprune needs Python 3.11 or newer; name one: PYTHON=python3.12 $0 v1" >&2
    exit 2
}
"$python" -m venv "$root/.venv"
"$root/.venv/bin/python" -m pip install --quiet -c "$root/constraints.txt" -e "$root"
"$root/.venv/bin/certiprune" vnnlib --help >/dev/null
echo "certiprune is installed in $root/.venv"
