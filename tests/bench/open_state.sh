#!/usr/bin/env bash
# What much open state costs: commits over a million open sessions, and the bytes that an interval join keeps of a row.
#   open_state.sh THALWEG [clicks a second]        for figures the binary of `make release`
set -euo pipefail
thalweg=$(realpath "$1")
rate=${2:-5000}
work=$(mktemp -d)
server=
trap 'test -z "$server" || kill "$server"; rm -rf "$work"' EXIT
cd "$work"
columns="event_id STRING, event_type STRING, event_ts TIMESTAMP(3), user_id STRING, product_id STRING, price DOUBLE,
  WATERMARK FOR event_ts AS event_ts - INTERVAL '5' SECOND"

# Starts a server over clicks of which so many seconds are past, with a view; sets `ask`.
serve() {
    local past=$1 view=$2 data=$3
    cat >views.sql <<SQL
CREATE STREAM clicks ($columns)
WITH (connector = 'generator', rate = $rate, start = '$(date -u -d "-$past seconds" +%Y-%m-%dT%H:%M:%SZ)');
$view;
SQL
    "$thalweg" serve views.sql --data "$data" --flight 127.0.0.1:0 >out 2>log &
    server=$!
    until grep -q "listens on" out; do sleep 0.2; kill -0 "$server"; done
    address=$(sed -n 's/^Flight SQL listens on //p' out)
}
ask() { "$thalweg" sql --connect "$address" --output csv -c "$1"; }
leave() { kill "$server"; wait "$server" || true; server=; }

echo "== sessions of one click each, open for an hour"
serve $((1000000 / rate)) "CREATE MATERIALIZED VIEW visits AS
SELECT window_start, window_end, event_id, count(*) AS events
FROM SESSION(clicks PARTITION BY event_id, event_ts, INTERVAL '1 hour') GROUP BY window_start, window_end, event_id" sessions
until [ "$(ask "SELECT CAST(open_windows > 1000000 AS INT) FROM system.views" | tail -1)" = 1 ]; do sleep 1; done
sleep 30
ask "SELECT open_windows, state_bytes, state_bytes / state_rows AS bytes_a_row FROM system.views"
ask "SELECT count(*) AS commits, avg(duration_micros) / 1000 AS mean_ms, max(duration_micros) / 1000 AS longest_ms, max(close_micros) / 1000 AS longest_close_ms
     FROM (SELECT * FROM system.checkpoints ORDER BY epoch DESC LIMIT 25)"
leave

echo "== the same, some ending in each epoch: open for three minutes and more"
serve 240 "CREATE MATERIALIZED VIEW visits AS
SELECT window_start, window_end, event_id, count(*) AS events
FROM SESSION(clicks PARTITION BY event_id, event_ts, INTERVAL '200 seconds') GROUP BY window_start, window_end, event_id" ending
until [ "$(ask "SELECT CAST(history_rows + tail_rows > 100000 AS INT) FROM system.views" | tail -1)" = 1 ]; do sleep 1; done
sleep 30
ask "SELECT open_windows, state_bytes, state_bytes / state_rows AS bytes_a_row FROM system.views"
ask "SELECT count(*) AS commits, avg(duration_micros) / 1000 AS mean_ms, max(duration_micros) / 1000 AS longest_ms, max(close_micros) / 1000 AS longest_close_ms
     FROM (SELECT * FROM system.checkpoints ORDER BY epoch DESC LIMIT 25)"
leave

echo "== product views joined with purchases within 30 minutes"
serve 200 "CREATE MATERIALIZED VIEW led_to AS
SELECT v.event_ts, v.user_id, v.product_id, b.event_ts AS bought_at, b.price
FROM clicks AS v JOIN clicks AS b
ON b.user_id = v.user_id AND b.product_id = v.product_id
AND b.event_ts BETWEEN v.event_ts AND v.event_ts + INTERVAL '30 minutes'
WHERE v.event_type = 'product_view' AND b.event_type = 'purchase'" joined
sleep 30
ask "SELECT state_rows, state_bytes, state_bytes / state_rows AS bytes_a_row FROM system.views"
ask "SELECT count(*) AS commits, avg(duration_micros) / 1000 AS mean_ms, max(duration_micros) / 1000 AS longest_ms FROM
     (SELECT * FROM system.checkpoints ORDER BY epoch DESC LIMIT 25)"
leave
