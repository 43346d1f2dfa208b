#!/usr/bin/env bash
# Apache Flink SQL and Thalweg, one after the other, on the same topic of the same broker on the same machine: the stream
# and the two views of `thalweg bench` (job.sql says them in Flink's words), exactly-once with a checkpoint each second, one
# worker or slot for each core, Parquet files as the result. Prints what each took in time and CPU, and how they compare.
#
#   make bench                         builds the optimized thalweg first
#   scripts/flink/compare.sh           starts a broker of its own, fills a topic, compares, and leaves nothing running
#
#   --brokers HOST:PORT    a broker that runs already; none is started then
#   --topic NAME           read as it is if it holds anything, created and filled if not [default: clicks]
#   --rows N               of a topic that is filled [default: 2000000]
#   --thalweg FILE         the binary [default: the release build]
#   --workers N            Thalweg's workers, and Flink's parallelism [default: one for each core]
#   --runs N               of Flink's job, all on one cluster; the first finds the JVMs cold [default: 3]
#   --memory SIZE          of Flink's TaskManager, as Flink writes it [default: 4g]
#   --columns all|used     with "used" Flink's table lacks the columns that no view reads [default: all, as in the bench]
#   --set KEY=VALUE        an option of Flink, such as state.backend.type=rocksdb; can be repeated
#
# It needs Java 17, Maven, and a Python that PyFlink has a wheel for, such as 3.11; $PYTHON names another than python3.
# Flink comes from PyPI, where PyFlink has nearly all of it, and its connectors from Maven Central, into
# ${THALWEG_CACHE:-~/.cache/thalweg}/flink-VERSION, once; FLINK_VERSION and FLINK_KAFKA_VERSION choose others.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
servers=$here/../../tests/servers
. "$servers/common.sh"

# The newest of both. There is no connector for 2.3 by name; that for 2.2 works with it.
version=${FLINK_VERSION:-2.3.0}
connector=${FLINK_KAFKA_VERSION:-5.0.0-2.2}
home=$cache/flink-$version-$connector

brokers='' topic=clicks rows=2000000 runs=3 memory=4g columns=all
workers=$(nproc)
thalweg=${CARGO_TARGET_DIR:-$HOME/.cache/thalweg/target}/release/thalweg
settings=()
while [ $# -gt 0 ]; do
    case $1 in
        -h | --help) sed -n '2,/^set -/{/^set -/d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}"; exit ;;
        --brokers | --topic | --rows | --thalweg | --workers | --runs | --memory | --columns)
            [ $# -ge 2 ] || fail "$1 wants a value"
            declare "${1#--}=$2" ;;
        --set)
            [ $# -ge 2 ] || fail "--set wants KEY=VALUE"
            settings+=(--set "$2") ;;
        *) fail "there is no option $1; see --help" ;;
    esac
    shift 2
done
for number in rows workers runs; do
    [[ ${!number} =~ ^[1-9][0-9]*$ ]] || fail "--$number wants a number above 0, not ${!number@Q}"
done
[[ $columns = all || $columns = used ]] || fail "--columns wants all or used, not ${columns@Q}"
[ -x "$thalweg" ] || fail "there is no program $thalweg; make bench builds it, or --thalweg names another"
[ -r /proc/self/stat ] || fail "CPU time is read from /proc, as Linux has it"
command -v java >/dev/null || fail "Flink and Kafka need Java 17: apt-get install openjdk-17-jre-headless"

install() {
    [ -d "$home" ] && return
    local python=${PYTHON:-python3} lib
    command -v mvn >/dev/null || fail "the connectors are fetched by Maven: apt-get install maven"
    command -v "$python" >/dev/null || fail "there is no $python; \$PYTHON names another"
    "$python" -c 'import ensurepip' 2>/dev/null || fail "$python makes no virtual environments: apt-get install python3-venv"
    mkdir -p "$cache"
    exec 9>"$cache/flink.lock"
    flock 9
    if [ ! -d "$home" ]; then
        echo "installing Flink $version with the Kafka connector $connector into $home" >&2
        rm -rf "$home.part" && mkdir -p "$home.part"
        "$python" -m venv "$home.part/venv"
        # Without what they depend on: that is for Python functions in queries, of which there are none here, and would
        # be most of a gigabyte. PyArrow reads the results.
        "$home.part/venv/bin/pip" install --quiet --disable-pip-version-check --no-deps --only-binary apache-flink \
            "apache-flink==$version" "apache-flink-libraries==$version" pyarrow >&2 ||
            fail "PyFlink $version could not be installed with $("$python" -V); see above, and \$PYTHON names another"
        lib=$(echo "$home.part"/venv/lib/python*/site-packages/pyflink/lib)
        # Maven writes `target` beside its pom, so it gets a copy of it.
        cp "$here/pom.xml" "$home.part/"
        mvn -q -B -f "$home.part/pom.xml" dependency:copy-dependencies -DincludeScope=runtime "-DoutputDirectory=$lib" \
            "-Dflink.version=$version" "-Dflink.kafka.version=$connector" >"$home.part/maven.log" 2>&1 ||
            { cat "$home.part/maven.log" >&2; fail "Maven could not fetch connector $connector and Parquet for $version"; }
        mv "$home.part" "$home"
    fi
    exec 9>&-
}

work=$(mktemp -d)
child=''
leave() {
    # A second signal must not cut the clearing short.
    trap '' INT TERM
    if [ -n "$child" ]; then
        kill "$child" 2>/dev/null || true
        wait "$child" || true
    fi
    "$servers/kafka.sh" stop "$work/kafka"
    rm -rf "$work"
}
trap leave EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# In the background, because only then a signal reaches this script before the end of what runs.
await_child() {
    "$@" &
    child=$!
    local code=0
    wait "$child" || code=$?
    child=''
    return "$code"
}

bench_thalweg() {
    await_child "$thalweg" bench --from kafka --brokers "$brokers" --topic "$topic" --rows "$rows" \
        --file "$work/clicks.ndjson" --workers "$workers" >"$work/thalweg.out" 2>"$work/thalweg.err" ||
        { cat "$work/thalweg.out" "$work/thalweg.err" >&2; fail "thalweg bench failed"; }
}

install
if [ -z "$brokers" ]; then
    # A broker that is compiled well: a slow one would slow both down, and hide what they differ in.
    THALWEG_KAFKA_JAVA_OPTIONS=${THALWEG_KAFKA_JAVA_OPTIONS:--Xms512m -Xmx1g} \
        "$servers/kafka.sh" start "$work/kafka" >"$work/address"
    brokers=$(sed -n 's/^bootstrap=//p' "$work/address")
fi

# The bench fills the topic if need be, and tells how much it holds. Its figures are not used: it has just been a producer.
echo "filling topic $topic with $rows events, unless it holds some" >&2
bench_thalweg
events=$(sed -n 's/^thalweg: \([0-9]*\) events.*/\1/p' "$work/thalweg.out")
[ -n "$events" ] || { cat "$work/thalweg.out" >&2; fail "thalweg bench did not say how many events it read"; }

echo "running Flink on the topic's $events events" >&2
await_child "$home/venv/bin/python" "$here/bench.py" --flink "$(echo "$home"/venv/lib/python*/site-packages/pyflink)" \
    --flink-version "$version" --work "$work/flink" --result "$work/flink.result" \
    --rpc-port "$(free_port)" --rest-port "$(free_port)" --brokers "$brokers" --topic "$topic" --events "$events" \
    --runs "$runs" --workers "$workers" --memory "$memory" --columns "$columns" "${settings[@]}" ||
    fail "Flink was not measured; what it said is above"

echo "running Thalweg on the same" >&2
bench_thalweg
cat "$work/thalweg.out"
ours=$(sed -n 's/^thalweg: .* \([0-9]*\) events per CPU-second.*/\1/p' "$work/thalweg.out")
[ -n "$ours" ] || { cat "$work/thalweg.err" >&2; fail "thalweg bench did not say its events per CPU-second"; }
while read -r theirs what; do
    ratio=$(awk -v ours="$ours" -v theirs="$theirs" 'BEGIN { printf "%.1f", ours / theirs }')
    echo "events per CPU-second: thalweg has $ratio times those of $what"
done <"$work/flink.result"
if grep -q 'not optimized' "$work/thalweg.err"; then
    echo "this thalweg is not an optimized build: its figures and the ratios are no ones to quote"
fi
