#!/bin/sh
# Runs the Python client tests against a Flight SQL server.
#   run.sh HOST:PORT [--binary THALWEG] [--table SCHEMA.NAME --text COLUMN --number COLUMN]
# $TESTS is one test file; without it all of them run. The virtual environment is made on the first run, in $VENV or beside this script.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
venv=${VENV:-$here/.venv}
if ! [ -f "$venv/.installed" ] || [ "$here/requirements.txt" -nt "$venv/.installed" ]; then
    python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check -r "$here/requirements.txt"
    touch "$venv/.installed"
fi
server=$1
shift
exec "$venv/bin/python" -m pytest -q -p no:cacheprovider "${TESTS:-$here}" --server "$server" "$@"
