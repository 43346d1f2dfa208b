#!/bin/sh
# Makes the virtual environment of the Python tests, in $VENV or beside this script, where it is not there or is old.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
venv=${VENV:-$here/.venv}
if ! [ -f "$venv/.installed" ] || [ "$here/requirements.txt" -nt "$venv/.installed" ]; then
    python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check -r "$here/requirements.txt"
    touch "$venv/.installed"
fi
