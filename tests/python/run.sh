#!/bin/sh
# Runs the Python client tests against a Flight SQL server.
#   run.sh HOST:PORT [--binary THALWEG] [--table SCHEMA.NAME --text COLUMN --number COLUMN]
# $TESTS is one test file; without it all of them run. The virtual environment is made on the first run, in $VENV or beside this script.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
"$here/environment.sh"
venv=${VENV:-$here/.venv}
server=$1
shift
exec "$venv/bin/python" -m pytest -q -p no:cacheprovider "${TESTS:-$here}" --server "$server" "$@"
