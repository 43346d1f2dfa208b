#!/usr/bin/env bash
# Readers of the lake while it is written, compacted and vacuumed by the real server; and then another engine's OPTIMIZE, which the
# server's own queries have to follow.
#   lake_while.sh THALWEG [SECONDS [JARS]]          with JARS Spark is one of them: see lake_while.py
# VACUUM is how long replaced files stay: 8s, which Spark is too slow for on a busy machine.
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
CREATE MATERIALIZED VIEW totals WITH (snapshot = '1 second') AS
SELECT event_type, count(*) AS events FROM clicks GROUP BY event_type;
SQL
"$thalweg" serve "$work/clicks.sql" --data "$work/lake" --flight 127.0.0.1:0 --epoch 100ms --roll 250ms --vacuum "${VACUUM:-8s}" \
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

files() { find "$work/lake/tables/${1:-archive}" -name '*.parquet' -path '*window_date*' 2>/dev/null | wc -l; }
for _ in $(seq 300); do
    [ "$(files)" -lt 4 ] || break
    kill -0 "$server" || failed "the server left:"
    sleep 0.1
done
"$venv/bin/python" "$here/lake_while.py" "$work/lake" "$seconds" ${3:+--spark "$3"} || failed "a reader was wrong"
address=$(sed -n 's/^Flight SQL listens on //p' "$work/out")
ask() { "$thalweg" sql --connect "$address" -o csv -c "$1" | tail -n 1; }
versions() { find "$work/lake/tables/$1/_delta_log" -name '*.json' | wc -l; }
compactions=$(ask "SELECT count(*) FROM system.compactions WHERE \"table\" = 'archive'")
echo "$compactions compactions, $(versions archive) versions, $(files) files are left; of snapshots $(versions totals), $(files totals)"
[ "$compactions" -gt 4 ] || failed "nothing was compacted while they read"
for table in archive totals; do
    grep -q "deleted files that are none of a table any more table=.*$table" "$work/err" || failed "nothing of $table was vacuumed while they read"
done

optimized=$("$venv/bin/python" "$here/lake_while.py" "$work/lake" 0 --optimize)
echo "another engine has made $optimized"
for _ in $(seq 300); do
    ! grep -q 'another engine has written to a Delta table' "$work/err" || break
    sleep 0.1
done
grep -q 'another engine has written to a Delta table' "$work/err" || failed "the log does not tell of it"
# What it replaced has gone then.
sleep 20
rows=$(ask "SELECT count(*) = count(DISTINCT source_partition * 10000000 + source_offset) AND count(*) > 0 FROM history.archive")
[ "$rows" = true ] || failed "after another engine's OPTIMIZE history is: $rows"
