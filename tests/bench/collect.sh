#!/usr/bin/env bash
# What takes clicks over HTTP can do on one core: as fast as it goes, and 20,000 a second from 1,000 connections; that at last
# on all cores too, of which the load and the broker keep some busy.
#   collect.sh THALWEG LOAD kafka | away | log       for figures the binaries of `make release` and
#                                                    `cargo build --release -p thalweg-load`
# `kafka` has a broker behind it, `away` kills that for a minute meanwhile, `log` is the server's own log.
# RATE events a second, CONNECTIONS, SECONDS_EACH for each figure, AWAY so many seconds; the server has core 0 until
# the last, the load and the broker have the others.
set -euo pipefail
thalweg=$(realpath "$1") load=$(realpath "$2") what=$3
servers=$(realpath "$(dirname "$0")/../servers")
rate=${RATE:-20000} connections=${CONNECTIONS:-1000} seconds=${SECONDS_EACH:-30} away=${AWAY:-60}
others=1-$(($(nproc) - 1))
work=$(mktemp -d)
server= broker=
leave() {
    [ -z "$server" ] || kill -9 "$server" || true
    [ -z "$broker" ] || "$servers/kafka.sh" stop "$work/kafka"
    rm -rf "$work"
}
trap leave EXIT
cd "$work"
ulimit -n 16384

connector="'log', partitions = 4, size_max = '4GiB'"
if [ "$what" != log ]; then
    bootstrap=$(THALWEG_KAFKA_JAVA_OPTIONS=${THALWEG_KAFKA_JAVA_OPTIONS:--Xmx1g -XX:+UseG1GC} \
        taskset -c "$others" "$servers/kafka.sh" start "$work/kafka" | sed -n 's/^bootstrap=//p')
    broker=yes
    # It makes the topic, with a few clicks that are not read here.
    "$thalweg" bench --from kafka --brokers "$bootstrap" --rows 1000 --file first.ndjson >first.log 2>&1 ||
        { cat first.log >&2; exit 1; }
    connector="'kafka', brokers = '$bootstrap', topic = 'clicks', start = 'latest'"
fi
cat >clicks.sql <<SQL
CREATE STREAM clicks (
  event_id STRING, event_type STRING, event_ts TIMESTAMP(3), user_id STRING, session_id STRING, product_id STRING,
  price DOUBLE, quantity INT, country STRING, device STRUCT<type STRING, os STRING>, utm STRUCT<source STRING>,
  WATERMARK FOR event_ts AS event_ts - INTERVAL '5' SECOND
) WITH (connector = $connector);
CREATE MATERIALIZED VIEW by_type AS SELECT event_type, count(*) AS events FROM clicks GROUP BY event_type;
CREATE ENDPOINT '/api/events' INTO clicks WITH (key = 'user_id');
SQL
taskset -c 0 "$thalweg" serve clicks.sql --data data --flight 127.0.0.1:0 --http 127.0.0.1:0 >out 2>log &
server=$!
until grep -qs "HTTP listens" out; do sleep 0.1; kill -0 "$server" || { cat log >&2; exit 1; }; done
http=$(sed -n 's/^HTTP listens on //p' out)
until curl -fs "$http/health/ready" >/dev/null; do sleep 0.1; done
flight=$(sed -n 's/^Flight SQL listens on //p' out)

used() { awk -v ticks="$(getconf CLK_TCK)" '{ print ($14 + $15) / ticks }' "/proc/$server/stat"; }
bring() { # arguments of the load
    local before after
    before=$(used)
    taskset -c "$others" "$load" events --to "$http/api/events" --connections "$connections" "$@"
    after=$(used)
    awk -v a="$after" -v b="$before" 'BEGIN { printf "the server took %.1f CPU-seconds\n", a - b }'
}
waiting() { curl -fs "$http/metrics" | sed -n 's/^thalweg_spool_records{.*} //p'; }
sent() { curl -fs "$http/metrics" | sed -n 's/^thalweg_collect_events_total{.*outcome="taken"} //p'; }
# All that was answered 202 is in the view; of what was answered 503 some may be.
check() {
    local taken counted
    taken=$(sent)
    for _ in $(seq 600); do
        counted=$("$thalweg" sql --connect "$flight" --output csv -c 'SELECT sum(events) FROM by_type' | tail -1)
        [ "${counted:-0}" -ge "$taken" ] && { echo "$taken taken, $counted counted"; return; }
        sleep 0.1
    done
    echo "$taken taken, and $counted counted" >&2
    return 1
}

if [ "$what" = away ]; then
    echo "== $rate events/s from $connections connections; after 15 s the broker is killed for $away s"
    bring --rate "$rate" --seconds $((away + 40)) --warm-up 5 --each-second --cuts "15,$((15 + away))" >told &
    bringing=$!
    # The load begins half a second after it is started.
    sleep 20.5
    kill -9 "$(cat "$work/kafka/pid")"
    sleep "$away"
    echo "$(waiting) events wait in the spool"
    taskset -c "$others" "$servers/kafka.sh" start "$work/kafka" >/dev/null
    wait "$bringing"
    grep -v "^second" told
    echo "seconds whose longest answer took more than 100 ms:"
    awk '/^second/ && $(NF - 1) > 100 { sub(/p50.*most/, "most"); print }' told
    begun=$(date +%s%N)
    until [ "$(waiting)" = 0 ]; do sleep 0.05; done
    echo "the spool was empty $((($(date +%s%N) - begun) / 1000000)) ms after the last event"
    check
    exit
fi
echo "== as fast as it goes, an event a request, $connections connections"
bring --seconds "$seconds"
echo "== as fast as it goes, 50 events a request, 32 connections"
connections=32 bring --batch 50 --seconds "$seconds"
echo "== $rate events/s, an event a request, $connections connections"
bring --rate "$rate" --seconds "$seconds"
taskset -acp "0-$(($(nproc) - 1))" "$server" >/dev/null
echo "== the same, and the server may have all cores"
bring --rate "$rate" --seconds "$seconds"
check
