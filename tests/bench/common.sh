# What the scripts have in common that measure with a broker: a folder to work in, a broker, producers, a server. The caller has
# set `thalweg`.
servers=$(realpath "$(dirname "${BASH_SOURCE[0]}")/../servers")
work=$(mktemp -d)
server= broker= producers=()
leave() {
    [ -z "$server" ] || kill -9 "$server" || true
    for producer in "${producers[@]}"; do kill "$producer" || true; done
    [ -z "$broker" ] || "$servers/kafka.sh" stop "$work/kafka"
    rm -rf "$work"
}
trap leave EXIT
cd "$work"
# Ports that nobody had a moment ago.
free=$((20000 + $$ % 20000))
columns="event_id STRING, event_type STRING, event_ts TIMESTAMP(3), user_id STRING, session_id STRING, product_id STRING,
  price DOUBLE, quantity INT, country STRING, arrived TIMESTAMP METADATA FROM 'timestamp',
  WATERMARK FOR event_ts AS event_ts - INTERVAL '5' SECOND"

begin_broker() { # sets `brokers`
    brokers=$(THALWEG_KAFKA_JAVA_OPTIONS=${THALWEG_KAFKA_JAVA_OPTIONS:--Xmx1g -XX:+UseG1GC} "$servers/kafka.sh" start "$work/kafka" |
        sed -n 's/^bootstrap=//p')
    broker=yes
}
topic() { # name: makes it, of four partitions, with a click in it
    "$thalweg" bench --from kafka --brokers "$brokers" --topic "$1" --rows 1 --file one.ndjson >made.log 2>&1 ||
        { cat made.log >&2; exit 1; }
}
produce() { # topic, events a second: until all is over, as producers do that gather for 2 ms
    topic "$1"
    # It writes until its input ends, which this one does not.
    mkfifo "input-$1"
    "$thalweg" bench --from kafka --produce --brokers "$brokers" --topic "$1" --latency "$2" <>"input-$1" >/dev/null &
    producers+=($!)
}
serve() { # arguments: sets `server` and `flight`
    "$thalweg" serve "$@" --flight 127.0.0.1:0 >out 2>log &
    server=$!
    until grep -qs "Flight SQL listens" out; do sleep 0.1; kill -0 "$server" || { cat log >&2; exit 1; }; done
    flight=$(sed -n 's/^Flight SQL listens on //p' out)
}
leave_server() {
    kill "$server"
    wait "$server" || true
    server=
}
ask() { "$thalweg" sql --connect "$flight" --output csv -c "$1"; }
records() { ask "SELECT sum(records) FROM system.streams" | tail -1; }
used() { awk -v ticks="$(getconf CLK_TCK)" '{ print ($14 + $15) / ticks }' "/proc/$server/stat"; }
