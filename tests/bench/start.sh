#!/usr/bin/env bash
# How long a start takes on a bucket of MinIO behind which lie many views and days: until queries are answered, until clicks are read
# on, and until a view's history has been counted; after a kill, and once more.
#   start.sh THALWEG [views] [days]                 for figures the binary of `make release`; 100 views, 30 days
set -euo pipefail
thalweg=$(realpath "$1") views=${2:-100} days=${3:-30}
servers=$(realpath "$(dirname "$0")/../servers")
work=$(mktemp -d -p "${BIG:-/var/tmp}")
server= store=
leave() {
    [ -z "$server" ] || kill -9 "$server" || true
    [ -z "$store" ] || "$servers/minio.sh" stop "$work/minio"
    rm -rf "$work"
}
trap leave EXIT
cd "$work"
"$servers/minio.sh" start "$work/minio" >store
store=yes
said() { sed -n "s/^$1=//p" store; }
export AWS_ENDPOINT_URL AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY AWS_REGION=us-east-1 AWS_ALLOW_HTTP=true
AWS_ENDPOINT_URL=$(said endpoint) AWS_ACCESS_KEY_ID=$(said access_key) AWS_SECRET_ACCESS_KEY=$(said secret_key)

{
    echo "CREATE STREAM clicks (event_id STRING, event_type STRING, event_ts TIMESTAMP(3), user_id STRING, product_id STRING,
      price DOUBLE, quantity INT, country STRING, WATERMARK FOR event_ts AS event_ts - INTERVAL '5' SECOND)
    WITH (connector = 'generator', rate = 1, start = '$(date -u -d "-$days days" +%Y-%m-%dT%H:%M:%SZ)');"
    keys=(event_type country product_id user_id "event_type, country")
    for n in $(seq "$views"); do
        key=${keys[$((n % 5))]}
        echo "CREATE MATERIALIZED VIEW v$n AS SELECT window_start, window_end, $key, count(*) AS events, sum(price * quantity) AS revenue
        FROM TUMBLE(clicks, event_ts, INTERVAL '$((5 + n % 7 * 5)) minutes') WHERE quantity <> $n GROUP BY window_start, window_end, $key;"
    done
} >views.sql

ask() { "$thalweg" sql --connect "$flight" --output csv -c "$1" | tail -1; }
ms() { echo $((($(date +%s%N) - since) / 1000000)); }
serve() {
    rm -f out
    since=$(date +%s%N)
    "$thalweg" serve views.sql --data "s3://$(said bucket)/lake" --flight 127.0.0.1:0 --http 127.0.0.1:0 --roll 5s "$@" >out 2>log &
    server=$!
    until grep -qs "Flight SQL listens" out; do sleep 0.02; kill -0 "$server" || { cat log >&2; exit 1; }; done
    flight=$(sed -n 's/^Flight SQL listens on //p' out)
    http=$(sed -n 's/^HTTP listens on //p' out)
}
serve
until [ "$(ask "SELECT CAST(frontier > now() - INTERVAL '1' MINUTE AS INT) FROM system.streams")" = 1 ]; do sleep 1; done
echo "$views views of $days days of a click a second, after $(ms) ms"
# Dates that are over become a file each; for a minute that is waited for.
for _ in $(seq 60); do
    [ "$(ask "SELECT sum(history_files) FROM system.views")" -gt $((2 * views * (days + 1))) ] || break
    sleep 1
done
ask "SELECT 'files of tables: ' || sum(history_files) || ', rows: ' || sum(history_rows) FROM system.views"
for again in 1 2; do
    kill -9 "$server" && wait "$server" || true
    # The bucket still says that somebody has it.
    serve --takeover
    listens=$(ms)
    until curl -fs "$http/health/ready" >/dev/null; do sleep 0.02; done
    ready=$(ms)
    records=$(ask "SELECT records FROM system.streams")
    until [ "$(ask "SELECT records FROM system.streams")" -gt "$records" ]; do sleep 0.05; done
    reads=$(ms)
    ask "SELECT count(*) FROM history.v1" >/dev/null
    echo "killed and started: listens after $listens ms, is ready after $ready, reads after $reads, has counted one view's history after $(ms)"
done
