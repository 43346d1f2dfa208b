#!/usr/bin/env bash
# Random views of every shape on a real broker, beside DuckDB.
#   shapes.sh THALWEG [arguments of shapes.py]
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
thalweg=$(realpath "$1")
shift
work=$(mktemp -d)
leave() {
    "$here/../servers/kafka.sh" stop "$work/kafka" >/dev/null 2>&1 || true
    rm -rf "$work"
}
trap leave EXIT
bootstrap=$("$here/../servers/kafka.sh" start "$work/kafka" | sed -n 's/^bootstrap=//p')
"$here/environment.sh"
"${VENV:-$here/.venv}/bin/python" "$here/shapes.py" --binary "$thalweg" --kafka "$bootstrap" "$@"
