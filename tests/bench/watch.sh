#!/usr/bin/env bash
# What those cost ingest who watch over server-sent events: events a second from the generator, as fast as they are read, without
# and with so many of them.
#   watch.sh THALWEG LOAD [WATCHERS]...              for figures the binaries of `make release` and
#                                                    `cargo build --release -p thalweg-load`
set -euo pipefail
thalweg=$(realpath "$1") load=$(realpath "$2")
shift 2
[ $# -gt 0 ] || set -- 50 500
seconds=${SECONDS_EACH:-20}
work=$(mktemp -d)
server=
trap '[ -z "$server" ] || kill -9 "$server"; rm -rf "$work"' EXIT
cd "$work"
ulimit -n 16384
cat >clicks.sql <<'SQL'
CREATE STREAM clicks (
  event_type STRING, event_ts TIMESTAMP(3), user_id STRING, session_id STRING, price DOUBLE, quantity INT,
  WATERMARK FOR event_ts AS event_ts - INTERVAL '5' SECOND
) WITH (connector = 'generator', partitions = 4);
CREATE MATERIALIZED VIEW per_minute AS
SELECT window_start, window_end, event_type, count(*) AS events, sum(price * quantity) AS revenue
FROM TUMBLE(clicks, event_ts, INTERVAL '1 minute') GROUP BY window_start, window_end, event_type;
CREATE ENDPOINT '/api/newest' AS
SELECT * FROM per_minute ORDER BY window_start DESC, event_type LIMIT 70;
SQL
"$thalweg" serve clicks.sql --data data --flight 127.0.0.1:0 --http 127.0.0.1:0 >out 2>log &
server=$!
until grep -qs "HTTP listens" out; do sleep 0.1; kill -0 "$server" || { cat log >&2; exit 1; }; done
http=$(sed -n 's/^HTTP listens on //p' out)
until curl -fs "$http/health/ready" >/dev/null; do sleep 0.1; done

now() { # records read, CPU-seconds, nanoseconds
    local records
    records=$(curl -fs "$http/metrics" | sed -n 's/^thalweg_stream_records_total{.*} //p')
    echo "$records $(awk -v ticks="$(getconf CLK_TCK)" '{ print ($14 + $15) / ticks }' "/proc/$server/stat") $(date +%s%N)"
}
measure() {
    local from to
    from=$(now)
    sleep "$seconds"
    to=$(now)
    awk -v from="$from" -v to="$to" -v name="$1" 'BEGIN {
        split(from, a); split(to, b); s = (b[3] - a[3]) / 1e9
        printf "%-14s %9.0f events/s, %.2f cores, %.0f events per CPU-second\n", name, (b[1] - a[1]) / s, (b[2] - a[2]) / s,
            (b[1] - a[1]) / (b[2] - a[2])
    }'
}
sleep 5
measure "without"
for watchers in "$@"; do
    "$load" watch --to "$http/api/newest" --watchers "$watchers" --seconds $((seconds + 4)) >told &
    watching=$!
    sleep 2
    measure "with $watchers"
    wait "$watching"
    cat told
    measure "without"
done
