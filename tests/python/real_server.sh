#!/usr/bin/env bash
# Python clients against the real server, and lake readers against what it leaves behind.
#   real_server.sh THALWEG
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
thalweg=$(realpath "$1")
work=$(mktemp -d)
"$thalweg" serve "$here/clicks.sql" --data "$work/lake" --flight 127.0.0.1:0 --epoch 100ms --roll 500ms \
    >"$work/out" 2>"$work/err" &
server=$!
leave() {
    kill -KILL "$server" 2>/dev/null || true
    rm -rf "$work"
}
trap leave EXIT

address() { sed -n 's/^Flight SQL listens on //p' "$work/out"; }
for _ in $(seq 300); do
    [ -n "$(address)" ] && break
    kill -0 "$server" 2>/dev/null || { echo "the server left:"; cat "$work/err"; exit 1; }
    sleep 0.1
done
[ -n "$(address)" ] || { echo "the server did not listen within 30 s:"; cat "$work/err"; exit 1; }

ask() { "$thalweg" sql --connect "$(address)" -o csv -c "$1" | tail -n 1; }
for _ in $(seq 300); do
    [ "$(ask 'SELECT sum(events) FROM history.types_per_second')" = 20000 ] && break
    sleep 0.1
done
[ "$(ask 'SELECT sum(events) FROM public.types_per_second')" = 20000 ] || { echo "rows are missing"; exit 1; }

"$here/run.sh" "$(address)" --binary "$thalweg" --ignore "$here/test_lake.py" \
    --table public.types_per_second --text event_type --number events

kill -TERM "$server"
wait "$server" || { echo "SIGTERM did not end in exit code 0"; cat "$work/err"; exit 1; }
TESTS="$here/test_lake.py" "$here/run.sh" none --lake "$work/lake"
