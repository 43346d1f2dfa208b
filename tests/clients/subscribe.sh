#!/usr/bin/env bash
# SUBSCRIBE by drivers that nobody here wrote: JDBC and ADBC in Go (tests/python has it by ADBC in Python). Each is told batch by
# batch, as it happens, and breaks off after some marks. By hand, for it fetches much: needs a JDK, Maven and Go.
#   tests/clients/subscribe.sh THALWEG
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
thalweg=$(realpath "$1")
cache=${XDG_CACHE_HOME:-$HOME/.cache}/thalweg/clients
work=$(mktemp -d)
mkdir -p "$cache"
cp -r "$here/jdbc" "$here/go" "$work/"

[ -d "$cache/jdbc" ] || mvn -q -B -f "$work/jdbc/pom.xml" dependency:copy-dependencies "-DoutputDirectory=$cache/jdbc"
(cd "$work/go" && go mod tidy >/dev/null 2>&1 && go build -o "$cache/go-client" .)

cat >"$work/clicks.sql" <<'SQL'
CREATE STREAM clicks (event_type STRING, event_ts TIMESTAMP(3), WATERMARK FOR event_ts AS event_ts - INTERVAL '1' SECOND)
WITH (connector = 'generator', rate = 500, start = 'now');
CREATE MATERIALIZED VIEW types_per_second AS
SELECT window_start, event_type, count(*) AS events FROM TUMBLE(clicks, event_ts, INTERVAL '1 second') GROUP BY window_start, event_type;
SQL
"$thalweg" serve "$work/clicks.sql" --data "$work/lake" --flight 127.0.0.1:0 >"$work/out" 2>"$work/err" &
server=$!
leave() { kill -KILL "$server" 2>/dev/null; wait "$server" 2>/dev/null; rm -rf "$work"; }
trap leave EXIT
address() { sed -n 's/^Flight SQL listens on //p' "$work/out"; }
for _ in $(seq 300); do [ -n "$(address)" ] && break; sleep 0.1; done
[ -n "$(address)" ] || { cat "$work/err"; exit 1; }

statement='SUBSCRIBE TO types_per_second'
java --add-opens=java.base/java.nio=ALL-UNNAMED -cp "$cache/jdbc/*" "$work/jdbc/Subscribe.java" "$(address)" "$statement" 50
"$cache/go-client" "$(address)" "$statement" 50
# One without changes is told marks, and can be broken off as well.
"$cache/go-client" "$(address)" "$statement WHERE event_type = 'nothing' WITH (live = false)" 3
left() { "$thalweg" sql --connect "$(address)" -o csv -c "SELECT count(*) FROM system.subscriptions WHERE state = 'running'" | tail -n 1; }
for _ in $(seq 100); do [ "$(left)" = 0 ] && break; sleep 0.1; done
[ "$(left)" = 0 ] || { echo "$(left) subscriptions run on after their clients left"; exit 1; }
echo "all of them were left"
