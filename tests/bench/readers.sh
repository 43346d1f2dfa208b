#!/usr/bin/env bash
# What it costs that queries run in a process of their own, beside --readers 0: small queries, a large answer beside a bare server
# of arrow-flight that has the same batches in memory, dashboards over much open state and what they cost ingest, memory.
#   readers.sh THALWEG LOAD [small | large | dashboards | memory]...
#                                                    for figures the binaries of `make release` and
#                                                    `cargo build --release -p thalweg-load`
# READERS: what is compared. CLIENTS dashboards ask RATE times a second each, over EVENTS clicks that are past. SECONDS_EACH.
set -euo pipefail
thalweg=$(realpath "$1") load=$(realpath "$2")
shift 2
[ $# -gt 0 ] || set -- small large dashboards memory
seconds=${SECONDS_EACH:-15}
source "$(dirname "$0")/common.sh"
columns="event_type STRING, event_ts TIMESTAMP(3), user_id STRING, session_id STRING, product_id STRING, price DOUBLE, quantity INT,
  country STRING, WATERMARK FOR event_ts AS event_ts - INTERVAL '5' SECOND"

afresh() { rm -rf data out && serve views.sql --data data "$@"; }
processes() { echo "$server"; cat /proc/"$server"/task/*/children 2>/dev/null | tr ' ' '\n'; }
resident() { # of all of them, what they share counted once
    for process in $(processes); do awk '/^Pss:/ { print $2 }' "/proc/$process/smaps_rollup"; done |
        awk '{ sum += $1 } END { printf "%d MiB\n", sum / 1024 }'
}
used() { # CPU-seconds of all of them
    for process in $(processes); do awk -v ticks="$(getconf CLK_TCK)" '{ print ($14 + $15) / ticks }' "/proc/$process/stat"; done |
        awk '{ sum += $1 } END { print sum }'
}

small() {
    cat >views.sql <<SQL
CREATE STREAM clicks ($columns) WITH (connector = 'generator', rate = 1000, start = 'now');
CREATE MATERIALIZED VIEW small AS
SELECT window_start, window_end, event_type, country, count(*) AS events, sum(price * quantity) AS revenue
FROM TUMBLE(clicks, event_ts, INTERVAL '1 hour') GROUP BY window_start, window_end, event_type, country;
SQL
    for readers in ${READERS:-0 1 0 1}; do
        afresh --readers "$readers"
        sleep 5
        for sql in "SELECT 1" "SELECT * FROM live.small"; do
            printf 'readers %s, %-26s' "$readers" "$sql:"
            "$load" ask --connect "$flight" --sql "$sql" --seconds "$seconds"
        done
        leave_server
    done
}

large() {
    echo "CREATE STREAM clicks ($columns) WITH (connector = 'generator', rate = 1);" >views.sql
    # A gigabyte: numbers, and a text.
    sql="SELECT value, value * 2 AS twice, value % 1000 AS k, CAST(value AS DOUBLE) / 3 AS third, 'some text of a click' AS t FROM generate_series(1, ${ROWS:-18000000})"
    for readers in ${READERS:-0 1}; do
        afresh --readers "$readers" --query-memory 4GiB
        echo "readers $readers:"
        "$load" fetch --connect "$flight" --sql "$sql"
        [ "$readers" = 0 ] || {
            "$load" bare --connect "$flight" --sql "$sql" --threads 2 >told &
            bare=$!
            producers+=("$bare")
            until grep -qs "listens on" told; do sleep 0.1; kill -0 "$bare"; done
            echo "a bare server, $(cat told):"
            "$load" fetch --connect "$(sed -n 's/^listens on \(.*\); .*/\1/p' told)"
            kill "$bare"
            wait "$bare" || true
        }
        leave_server
    done
}

dashboards() {
    cat >views.sql <<SQL
CREATE STREAM past ($columns) WITH (connector = 'generator', rate = 1000, start = '$(date -u -d "-$((${EVENTS:-2500000} / 1000)) seconds" +%Y-%m-%dT%H:%M:%SZ)');
CREATE MATERIALIZED VIEW large AS
SELECT window_start, window_end, user_id, product_id, count(*) AS events, sum(price * quantity) AS revenue
FROM TUMBLE(past, event_ts, INTERVAL '1 day') GROUP BY window_start, window_end, user_id, product_id;
CREATE STREAM flood ($columns) WITH (connector = 'generator');
CREATE MATERIALIZED VIEW by_second AS
SELECT window_start, window_end, event_type, count(*) AS events
FROM TUMBLE(flood, event_ts, INTERVAL '1 second') GROUP BY window_start, window_end, event_type;
SQL
    sql="SELECT event_count, count(*) FROM (SELECT events AS event_count FROM live.large) AS t GROUP BY event_count ORDER BY 1"
    for readers in ${READERS:-1}; do
        afresh --readers "$readers" --linger 50ms --workers 1
        until [ "$(ask "SELECT CAST(frontier > now() - INTERVAL '20' SECOND AS INT) FROM system.streams WHERE stream = 'past'" | tail -1)" = 1 ]; do sleep 1; done
        sleep 5
        ask "SELECT state_rows, state_bytes FROM system.views WHERE view = 'large'"
        flooded "readers $readers, alone"
        "$load" ask --connect "$flight" --sql "$sql" --clients "${CLIENTS:-100}" --rate "${RATE:-10}" --warm-up 5 --seconds $((seconds + 5)) >told &
        asking=$!
        sleep 7
        flooded "readers $readers, asked"
        wait "$asking"
        cat told
        resident
        leave_server
    done
}
flooded() { # name
    local from to
    records() { ask "SELECT records FROM system.streams WHERE stream = 'flood'" | tail -1; }
    from="$(records) $(date +%s%N) $(used)"
    sleep "$seconds"
    to="$(records) $(date +%s%N) $(used)"
    awk -v from="$from" -v to="$to" -v name="$1" 'BEGIN {
        split(from, a); split(to, b); s = (b[2] - a[2]) / 1e9
        printf "%-20s %9.0f events/s taken in, %.2f cores used\n", name, (b[1] - a[1]) / s, (b[3] - a[3]) / s
    }'
}

memory() {
    for readers in ${READERS:-0 1}; do
        rm -rf data
        began=$(date +%s%N)
        "$thalweg" demo --data data --flight 127.0.0.1:0 --http 127.0.0.1:0 --readers "$readers" >out 2>log &
        server=$!
        until grep -qs "Flight SQL listens" out; do sleep 0.01; kill -0 "$server"; done
        flight=$(sed -n 's/^Flight SQL listens on //p' out)
        listens=$(date +%s%N)
        ask "SELECT 1" >/dev/null
        answered=$(date +%s%N)
        printf 'readers %s: the demo listens after %d ms, its first answer takes %d ms' "$readers" \
            $(((listens - began) / 1000000)) $(((answered - listens) / 1000000))
        sleep 60
        printf '; after a minute %s' "$(resident)"
        for n in 1 2 3 4 5 6 7 8; do ask "SELECT * FROM live.kpis_per_minute" >/dev/null; done
        printf '; asked, %s\n' "$(resident)"
        leave_server
    done
}

for part; do
    echo "== $part"
    "$part"
done
