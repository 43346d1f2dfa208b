#!/usr/bin/env bash
# What windows cost of which thousands share each pane, HOP (1 s, 1 h) by a thousand keys: a frontier that jumps over an hour
# of them, a start into such a close, a commit that closes one of them, and a look at all that are open.
#   hop.sh THALWEG [jump | killed | steady]...       for figures the binary of `make release`
# EVENTS of the hour that is jumped over, RATE of the clicks a second, WATCH so many seconds, MEMORY for ingest.
set -euo pipefail
thalweg=$(realpath "$1")
shift
events=${EVENTS:-1000000}
rate=${RATE:-1000}
watch=${WATCH:-60}
memory=${MEMORY:-2GiB}
work=$(mktemp -d)
server=
trap 'test -z "$server" || kill -9 "$server"; rm -rf "$work"' EXIT
cd "$work"

serve() {
    rm -f out
    "$thalweg" serve "$1" --data "$2" --memory "$memory" --flight 127.0.0.1:0 >out 2>>log &
    server=$!
    until grep -qs "listens on" out; do sleep 0.1; kill -0 "$server"; done
    address=$(sed -n 's/^Flight SQL listens on //p' out)
}
leave() { kill "$server"; wait "$server" || true; server=; }
ask() { "$thalweg" sql --connect "$address" --output csv -c "$1"; }
# The CPU-seconds and the largest resident memory of the server so far.
used() {
    awk -v ticks="$(getconf CLK_TCK)" '{ printf "%.1f CPU-seconds, ", ($14 + $15) / ticks }' "/proc/$server/stat"
    awk '/VmHWM/ { printf "%d MiB at most\n", $2 / 1024 }' "/proc/$server/status"
}
# Until that many rows have closed, or the server has ended.
closed() {
    until [ "$(ask "SELECT CAST(history_rows + tail_rows >= $1 AS INT) FROM system.views" 2>/dev/null | tail -1)" = 1 ]; do
        sleep 0.5
        kill -0 "$server" 2>/dev/null || { echo "the server has ended: $(tail -1 log)"; exit 1; }
    done
}

# An hour of events of a thousand keys, and one far behind.
awk -v events="$events" 'BEGIN {
    srand(7)
    for (n = 0; n < events; n++) {
        at = 3600 * n / events
        printf "{\"at\":\"2025-06-01T12:%02d:%06.3fZ\",\"k\":\"key%03d\",\"n\":%d}\n", at / 60, at % 60, 1000 * rand(), n % 100
    }
    print "{\"at\":\"2025-06-02T12:00:00Z\",\"k\":\"last\",\"n\":0}"
}' >hour.ndjson
cat >jump.sql <<'SQL'
CREATE STREAM hour (at TIMESTAMP, k STRING, n INT, WATERMARK FOR at AS at - INTERVAL '5' SECOND)
WITH (connector = 'files', path = 'hour.ndjson');
CREATE MATERIALIZED VIEW v AS
SELECT window_start, window_end, k, count(*) AS events, sum(n) AS n
FROM HOP(hour, at, INTERVAL '1 second', INTERVAL '1 hour') GROUP BY window_start, window_end, k;
SQL

jump() {
    echo "== a frontier that jumps over an hour of $events events"
    serve jump.sql jump
    # The event behind the jump is in 3,600 windows of its own.
    closed 3600000
    ask "SELECT count(*) AS commits, max(close_micros) / 1000 AS longest_close_ms, max(duration_micros) / 1000 AS longest_ms FROM system.checkpoints"
    used
    leave
}

killed() {
    echo "== killed in the middle of that, and started again"
    serve jump.sql killed
    # A commit that takes longer than others is the one.
    until [ -e killed/manifests ] && [ -z "$(find killed/manifests -newermt "$(date -d '-1.8 seconds' '+%F %T.%N')")" ]; do
        sleep 0.05
        [ "$(ask "SELECT count(*) FROM system.views WHERE history_rows + tail_rows > 0" | tail -1)" = 0 ] || { echo "it closed too soon for that"; break; }
    done
    kill -9 "$server" && wait "$server" || true
    serve jump.sql killed
    closed 3600000
    ask "SELECT max(close_micros) / 1000 AS longest_close_ms FROM system.checkpoints"
    used
    leave
}

steady() {
    echo "== $rate clicks a second, an hour of which is past"
    cat >steady.sql <<SQL
CREATE STREAM clicks (event_ts TIMESTAMP(3), session_id STRING, quantity INT,
  WATERMARK FOR event_ts AS event_ts - INTERVAL '5' SECOND)
WITH (connector = 'generator', rate = $rate, start = '$(date -u -d "-3600 seconds" +%Y-%m-%dT%H:%M:%SZ)');
CREATE MATERIALIZED VIEW v AS
SELECT window_start, window_end, substr(session_id, 8, 3) AS k, count(*) AS events, sum(quantity) AS n
FROM HOP(clicks, event_ts, INTERVAL '1 second', INTERVAL '1 hour') GROUP BY window_start, window_end, substr(session_id, 8, 3);
SQL
    serve steady.sql steady
    until [ "$(ask "SELECT CAST(closed_through > now() - INTERVAL '20' SECOND AS INT) FROM system.views" | tail -1)" = 1 ]; do sleep 1; done
    echo "caught up: $(used)"
    sleep "$watch"
    ask "SELECT open_windows, state_rows, state_bytes FROM system.views"
    ask "SELECT count(*) AS commits, approx_percentile_cont(close_micros, 0.5) / 1000 AS close_p50_ms, approx_percentile_cont(close_micros, 0.99) / 1000 AS close_p99_ms,
         approx_percentile_cont(duration_micros, 0.99) / 1000 AS p99_ms FROM (SELECT * FROM system.checkpoints ORDER BY epoch DESC LIMIT $((watch - 5)))"
    used
    for query in "SELECT count(*) AS rows FROM live.v" "SELECT count(*) AS windows FROM live.v WHERE k = '042'"; do
        echo "$query"
        since=$(date +%s%N)
        ask "$query" || true
        echo "$((($(date +%s%N) - since) / 1000000)) ms, $(used)"
    done
    leave
}

for part in ${@:-jump killed steady}; do "$part"; done
