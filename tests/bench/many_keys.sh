#!/usr/bin/env bash
# A window by more keys than memory has room for: how fast they come in, what lies where, a look at them, a start into them,
# and the close.
#   many_keys.sh THALWEG [keys]                     for figures the binary of `make release`; 100 million without a number
# MEMORY for ingest, SPILL a folder on a fast disk.
set -euo pipefail
thalweg=$(realpath "$1")
keys=${2:-100000000}
memory=${MEMORY:-1GiB}
work=$(mktemp -d -p "${SPILL:-/var/tmp}")
server=
trap 'test -z "$server" || kill -9 "$server"; rm -rf "$work"' EXIT
cd "$work"

cat >keys.sql <<SQL
CREATE STREAM clicks (event_id STRING, event_ts TIMESTAMP(3), quantity INT, WATERMARK FOR event_ts AS event_ts - INTERVAL '5' SECOND)
WITH (connector = 'generator', rows = $keys);
CREATE MATERIALIZED VIEW v AS
SELECT window_start, window_end, event_id, count(*) AS events, sum(quantity) AS n
FROM TUMBLE(clicks, event_ts, INTERVAL '30 days') GROUP BY window_start, window_end, event_id;
SQL
serve() { # more arguments
    rm -f out
    since=$(date +%s%N)
    "$thalweg" serve keys.sql --data data --memory "$memory" --state-max 1TiB --spill-max 1TiB --flight 127.0.0.1:0 "$@" >out 2>>log &
    server=$!
    until grep -qs "listens on" out; do sleep 0.1; kill -0 "$server" || { tail -3 log; exit 1; }; done
    address=$(sed -n 's/^Flight SQL listens on //p' out)
    echo "serves after $((($(date +%s%N) - since) / 1000000)) ms"
}
ask() { "$thalweg" sql --connect "$address" --output csv -c "$1" 2>/dev/null; }
most=0
# Of the memory that is its own, the largest so far; what is mapped is the system's to keep or not.
watch() {
    local own
    own=$(awk '/RssAnon/ { print int($2 / 1024) }' "/proc/$server/status")
    [ "$own" -le "$most" ] || most=$own
}
until_so() { # a condition in SQL over system.views
    until [ "$(ask "SELECT CAST($1 AS INT) FROM system.views" | tail -1)" = 1 ]; do
        kill -0 "$server" 2>/dev/null || { echo "the server has ended: $(tail -1 log)"; exit 1; }
        watch
        sleep 0.2
    done
    watch
}
told() {
    awk -v ticks="$(getconf CLK_TCK)" '{ printf "%.1f CPU-seconds, ", ($14 + $15) / ticks }' "/proc/$server/stat"
    echo "$((($(date +%s%N) - since) / 1000000)) ms, $most MiB of its own at most"
    ask "SELECT state, state_rows, state_bytes / 1048576 AS state_mib, spilled_bytes / 1048576 AS spilled_mib, history_rows + tail_rows AS closed FROM system.views"
}

echo "== half of $keys keys come in, memory=$memory"
serve --read-until "$((keys / 8))"
until_so "state_rows >= $keys / 2 - 1000000 OR state = 'failed'"
sleep 3
told
ask "SELECT count(*) AS commits, approx_percentile_cont(duration_micros, 0.5) / 1000 AS p50_ms, max(duration_micros) / 1000 AS longest_ms FROM system.checkpoints"
echo "== a look at one key"
before=$(date +%s%N)
ask "SELECT count(*) FROM live.v WHERE event_id = 'none'" || echo "it is too much for a query"
echo "$((($(date +%s%N) - before) / 1000000)) ms"
kill -9 "$server" && wait "$server" || true
echo "== killed and started again"
most=0
serve --read-until 1
told
kill -9 "$server" && wait "$server" || true
echo "== the other half comes in, and the window closes"
most=0
serve
until_so "history_rows + tail_rows >= $keys OR state = 'failed'"
told
ask "SELECT max(close_micros) / 1000 AS longest_close_ms FROM system.checkpoints"
du -sm data | awk '{ print $1 " MiB of data" }'
