#!/usr/bin/env bash
# How soon subscribers hear of an event that comes through Kafka, and what they cost: a view by second, and so many who subscribe
# to it over Flight SQL, its open rows among them.
#   subscribe.sh THALWEG LOAD [SUBSCRIBERS]...       for figures the binaries of `make release` and
#                                                    `cargo build --release -p thalweg-load`
# RATE events a second, SECONDS_EACH for each figure. OPTIONS of the statement, such as "every = '1s'".
set -euo pipefail
thalweg=$(realpath "$1") load=$(realpath "$2")
shift 2
[ $# -gt 0 ] || set -- 1 100 2000
. "$(dirname "$0")/common.sh"
rate=${RATE:-20000} seconds=${SECONDS_EACH:-20}
begin_broker
ulimit -n 16384
produce clicks "$rate"
cat >clicks.sql <<SQL
CREATE STREAM clicks ($columns) WITH (connector = 'kafka', brokers = '$brokers', topic = 'clicks', start = 'latest');
CREATE MATERIALIZED VIEW per_second AS
SELECT window_start, window_end, event_type, count(*) AS events, sum(price * quantity) AS revenue, max(arrived) AS newest
FROM TUMBLE(clicks, event_ts, INTERVAL '1 second') GROUP BY window_start, window_end, event_type;
SQL
serve clicks.sql --data data
ask "SELECT 1" >/dev/null
sleep 10
measure() { # name
    local from to
    from="$(records) $(used) $(date +%s%N)"
    sleep "$seconds"
    to="$(records) $(used) $(date +%s%N)"
    awk -v from="$from" -v to="$to" -v name="$1" 'BEGIN {
        split(from, a); split(to, b); s = (b[3] - a[3]) / 1e9
        printf "%-24s %6.0f events/s read, %5.1f %% of a core\n", name, (b[1] - a[1]) / s, (b[2] - a[2]) / s * 100
    }'
}
measure "without"
for subscribers in "$@"; do
    sql="SUBSCRIBE TO per_second WITH (snapshot = false${OPTIONS:+, $OPTIONS})"
    "$load" subscribe --connect "$flight" --subscribers "$subscribers" --sql "$sql" --warm-up 10 --seconds "$seconds" >told &
    listening=$!
    sleep 10
    measure "with $subscribers"
    wait "$listening"
    cat told
done
measure "without"
