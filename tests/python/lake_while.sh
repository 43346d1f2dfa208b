#!/usr/bin/env bash
# Readers of the lake while it is written, compacted and vacuumed by the real server.
#   lake_while.sh THALWEG [SECONDS [JARS]]          with JARS Spark is one of them: see lake_while.py
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
thalweg=$(realpath "$1")
seconds=${2:-25}
"$here/environment.sh"
venv=${VENV:-$here/.venv}
work=$(mktemp -d)
cat >"$work/clicks.sql" <<'SQL'
CREATE STREAM clicks (event_type STRING, event_ts TIMESTAMP(3),
  source_partition INT METADATA FROM 'partition', source_offset BIGINT METADATA FROM 'offset',
  WATERMARK FOR event_ts AS event_ts - INTERVAL '5' SECOND
) WITH (connector = 'generator', rate = 2000, partitions = 4);
CREATE MATERIALIZED VIEW archive AS SELECT event_ts, event_type, source_partition, source_offset FROM clicks;
SQL
"$thalweg" serve "$work/clicks.sql" --data "$work/lake" --flight 127.0.0.1:0 --epoch 100ms --roll 250ms --vacuum 8s \
    >"$work/out" 2>"$work/err" &
server=$!
leave() {
    kill -KILL "$server" 2>/dev/null || true
    rm -rf "$work"
}
trap leave EXIT
failed() {
    echo "$1"
    cat "$work/err"
    exit 1
}

files() { find "$work/lake/tables/archive" -name '*.parquet' -path '*window_date*' 2>/dev/null | wc -l; }
for _ in $(seq 300); do
    [ "$(files)" -lt 4 ] || break
    kill -0 "$server" || failed "the server left:"
    sleep 0.1
done
"$venv/bin/python" "$here/lake_while.py" "$work/lake" "$seconds" ${3:+--spark "$3"} || failed "a reader was wrong"
address=$(sed -n 's/^Flight SQL listens on //p' "$work/out")
ask() { "$thalweg" sql --connect "$address" -o csv -c "$1" | tail -n 1; }
compactions=$(ask "SELECT count(*) FROM system.compactions WHERE \"table\" = 'archive'")
rolls=$(find "$work/lake/tables/archive/_delta_log" -name '*.json' | wc -l)
echo "$compactions compactions, $rolls versions, $(files) files are left"
[ "$compactions" -gt 4 ] || failed "nothing was compacted while they read"
[ $((2 * $(files))) -lt "$rolls" ] || failed "nothing was vacuumed while they read"
