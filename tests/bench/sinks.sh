#!/usr/bin/env bash
# What sinks do. Rows a second, each once, into a topic, beside the same rows by a plain idempotent producer; and how long it
# takes from an event that comes through Kafka until an address hears of an alert.
#   sinks.sh THALWEG LOAD [topic | address]...       for figures the binaries of `make release` and
#                                                    `cargo build --release -p thalweg-load`
# ROWS into the topic; RATE events a second and SECONDS_EACH for the address.
set -euo pipefail
thalweg=$(realpath "$1") load=$(realpath "$2")
shift 2
[ $# -gt 0 ] || set -- topic address
. "$(dirname "$0")/common.sh"
rows=${ROWS:-1000000} rate=${RATE:-20000} seconds=${SECONDS_EACH:-60}
begin_broker

of_sink() { ask "SELECT rows, state FROM system.sinks WHERE sink = '$1'" | tail -1; }

into_topic() {
    topic out
    topic again
    cat >rows.sql <<SQL
CREATE STREAM clicks (
  event_id STRING, event_type STRING, event_ts TIMESTAMP(3), user_id STRING, product_id STRING, price DOUBLE, quantity INT,
  WATERMARK FOR event_ts AS event_ts - INTERVAL '5' SECOND
) WITH (connector = 'generator', rows = $rows);
CREATE MATERIALIZED VIEW carts AS SELECT * FROM clicks;
SQL
    serve rows.sql --data rows
    until [ "$(ask "SELECT CAST(count(*) = $rows AS INT) FROM history.carts" | tail -1)" = 1 ]; do sleep 1; done
    for round in 1 2 3; do
        local begun before taken
        before=$(used) begun=$(date +%s%N)
        ask "CREATE SINK out INTO KAFKA (brokers = '$brokers', topic = 'out', key = 'user_id', 'properties.compression.codec' = 'lz4')
             AS SELECT * FROM carts" >/dev/null
        until taken=$(of_sink out) && [ "${taken%%,*}" = "$rows" ]; do sleep 0.02; done
        awk -v ns=$(($(date +%s%N) - begun)) -v n="$rows" -v a="$before" -v b="$(used)" -v round="$round" 'BEGIN {
            printf "round %d, a sink, each once: %.0f rows/s, %.1f CPU-seconds of the server for a million\n",
                round, n / ns * 1e9, (b - a) / n * 1e6 }'
        ask "DROP SINK out" >/dev/null
        # The topic holds one more round each time.
        printf 'round %d, a plain idempotent producer: ' "$round"
        "$load" copy --brokers "$brokers" --from out --to again
    done
    leave_server
}

to_address() {
    produce clicks "$rate"
    cat >alerts.sql <<SQL
CREATE STREAM clicks ($columns) WITH (connector = 'kafka', brokers = '$brokers', topic = 'clicks', start = 'latest');
CREATE MATERIALIZED VIEW alerts AS
SELECT window_start, window_end, country, 'purchases' AS rule, count(*) AS purchases, max(arrived) AS newest
FROM TUMBLE(clicks, event_ts, INTERVAL '1 second') WHERE event_type = 'purchase'
GROUP BY window_start, window_end, country HAVING count(*) >= 5;
CREATE SINK closed INTO WEBHOOK (url = 'http://127.0.0.1:$((free + 1))/alerts', snapshot = false) AS SELECT * FROM alerts;
CREATE SINK open INTO WEBHOOK (url = 'http://127.0.0.1:$((free + 2))/alerts', snapshot = false) ON LIVE AS SELECT * FROM alerts;
SQL
    "$load" receive --listen "127.0.0.1:$((free + 1))" --warm-up 20 --seconds "$seconds" >closed &
    "$load" receive --listen "127.0.0.1:$((free + 2))" --warm-up 20 --seconds "$seconds" >open &
    local receiving=$!
    serve alerts.sql --data alerts --webhooks "http://127.0.0.1:$((free + 1))/" --webhooks "http://127.0.0.1:$((free + 2))/"
    wait "$receiving"
    sleep 1
    echo "== alerts that are final"
    cat closed
    echo "== alerts ON LIVE"
    cat open
    leave_server
}

for what in "$@"; do
    case $what in
        topic) into_topic ;;
        address) to_address ;;
        *) echo "there is no $what" >&2; exit 2 ;;
    esac
done
