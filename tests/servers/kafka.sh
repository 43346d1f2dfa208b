#!/usr/bin/env bash
# Apache Kafka for tests: one broker that is its own controller (KRaft), on loopback.
#
#   kafka.sh install        fetches Kafka by Maven into ${THALWEG_CACHE:-~/.cache/thalweg}/kafka-VERSION, once
#   kafka.sh start DIR      installs if need be, starts, waits until it serves, prints bootstrap=127.0.0.1:PORT
#   kafka.sh start DIR secure
#                           the same with a second listener, SASL_SSL with SCRAM-SHA-256 and a certificate of its own;
#                           prints also secure=, ca=, user= and password=, one a line
#   kafka.sh stop DIR       stops it; the data stays, and another start goes on with it on the same port
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/common.sh"

version=$(sed -n '/<artifactId>kafka_2.13</,/<version>/s/.*<version>\(.*\)<.*/\1/p' "$here/kafka/pom.xml")
home=$cache/kafka-$version
# A test's broker starts quickly and stays small; for figures a broker that is compiled well can be asked for.
read -ra java_options <<<"${THALWEG_KAFKA_JAVA_OPTIONS:--Xms64m -Xmx320m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -XX:-UsePerfData}"

install() {
    command -v java >/dev/null || fail "Kafka needs Java 17 or later: apt-get install openjdk-17-jre-headless"
    [ -d "$home" ] && return
    command -v mvn >/dev/null || fail "Kafka is fetched by Maven: apt-get install maven"
    mkdir -p "$cache"
    exec 9>"$cache/kafka.lock"
    flock 9
    if [ ! -d "$home" ]; then
        # Maven writes `target` beside its pom, so it gets a copy of it.
        rm -rf "$home.part" && mkdir -p "$home.part"
        cp "$here/kafka/pom.xml" "$home.part/"
        mvn -q -B -f "$home.part/pom.xml" dependency:copy-dependencies -DincludeScope=runtime \
            "-DoutputDirectory=$home.part/libs" >&2 || fail "Maven could not fetch Kafka $version"
        mv "$home.part" "$home"
    fi
    exec 9>&-
}

user=thalweg
password=open-sesame-4711

# A listener of its own for strangers; the other one stays, for the test's own producers.
secure() {
    local dir=$1 port=$2
    rm -f "$dir/broker.p12"
    keytool -genkeypair -alias broker -keyalg RSA -keysize 2048 -validity 3650 -dname CN=localhost -ext bc=ca:true \
        -ext SAN=dns:localhost,ip:127.0.0.1 -storetype PKCS12 -keystore "$dir/broker.p12" -storepass "$password" \
        >>"$dir/log" 2>&1 || { show_log "$dir"; fail "no certificate was made. dir=$dir"; }
    keytool -exportcert -rfc -alias broker -keystore "$dir/broker.p12" -storepass "$password" >"$dir/ca.pem" 2>>"$dir/log"
    sed -i "s,^\(listeners=.*\),\1\,SASL_SSL://127.0.0.1:$port,; s,^\(advertised.listeners=.*\),\1\,SASL_SSL://127.0.0.1:$port," \
        "$dir/server.properties"
    cat >>"$dir/server.properties" <<PROPERTIES
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SASL_SSL:SASL_SSL
ssl.keystore.location=$dir/broker.p12
ssl.keystore.type=PKCS12
ssl.keystore.password=$password
ssl.key.password=$password
sasl.enabled.mechanisms=SCRAM-SHA-256
listener.name.sasl_ssl.scram-sha-256.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
PROPERTIES
}

configure() {
    local dir=$1 broker controller strangers more=()
    broker=$(free_port)
    controller=$(free_port)
    cat >"$dir/server.properties" <<PROPERTIES
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:$controller
listeners=PLAINTEXT://127.0.0.1:$broker,CONTROLLER://127.0.0.1:$controller
advertised.listeners=PLAINTEXT://127.0.0.1:$broker
controller.listener.names=CONTROLLER
log.dirs=$dir/data
num.network.threads=2
num.io.threads=4
auto.create.topics.enable=false
message.max.bytes=20000000
group.initial.rebalance.delay.ms=0
offsets.topic.num.partitions=1
offsets.topic.replication.factor=1
transaction.state.log.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.num.partitions=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
PROPERTIES
    cat >"$dir/log4j2.properties" <<PROPERTIES
status=error
appender.out.type=Console
appender.out.name=out
appender.out.layout.type=PatternLayout
appender.out.layout.pattern=%d %p %m (%c)%n
rootLogger.level=warn
rootLogger.appenderRef.out.ref=out
logger.server.name=kafka.server.KafkaRaftServer
logger.server.level=info
PROPERTIES
    if [ "$2" = secure ]; then
        strangers=$(free_port)
        secure "$dir" "$strangers"
        more=(--add-scram "SCRAM-SHA-256=[name=$user,password=$password]")
    fi
    rm -rf "$dir/data"
    # The cluster's id is a constant: nothing here ever meets another cluster.
    java "${java_options[@]}" -cp "$home/libs/*" kafka.tools.StorageTool format -t dGhhbHdlZy10ZXN0cy0wMQ -c "$dir/server.properties" \
        "${more[@]}" >>"$dir/log" 2>&1 || { show_log "$dir"; fail "the broker's folder could not be formatted. dir=$dir"; }
    echo "$broker ${strangers:-}" >"$dir/ports"
}

serves() {
    # Clients are let in before the line is written.
    grep -q "Kafka Server started" < <(tail -c "+$2" "$1/log") && port_open "$(cut -d' ' -f1 "$1/ports")"
}

start() {
    local dir=$1 kind=$2 broker strangers
    mkdir -p "$dir"
    dir=$(cd "$dir" && pwd)
    exec 8>"$dir/lock"
    flock 8
    if ! running "$dir" >/dev/null; then
        install
        local from
        # Another process may take a port between the choice and the bind: then others are chosen.
        for attempt in 1 2 3 4 5; do
            [ -s "$dir/ports" ] || configure "$dir" "$kind"
            from=$(($(stat -c %s "$dir/log") + 1))
            launch "$dir" java "${java_options[@]}" "-Dlog4j2.configurationFile=$dir/log4j2.properties" \
                -cp "$home/libs/*" kafka.Kafka "$dir/server.properties"
            # Seconds on an idle machine; tests start many servers at once.
            await "$dir" 180 serves "$dir" "$from" && break
            stop_server "$dir"
            if [ "$attempt" = 5 ] || ! tail -c "+$from" "$dir/log" | grep -q "Address already in use\|BindException"; then
                show_log "$dir"
                fail "Kafka did not start. dir=$dir"
            fi
            rm -f "$dir/ports"
        done
    fi
    read -r broker strangers <"$dir/ports"
    echo "bootstrap=127.0.0.1:$broker"
    if [ -n "$strangers" ]; then
        echo "secure=127.0.0.1:$strangers"
        echo "ca=$dir/ca.pem"
        echo "user=$user"
        echo "password=$password"
    fi
}

usage="usage: kafka.sh install | start DIR [secure] | stop DIR"
case ${1:-} in
    install) install ;;
    start) start "${2:?$usage}" "${3:-}" ;;
    stop) if [ -d "${2:?$usage}" ]; then stop_server "$(cd "$2" && pwd)"; fi ;;
    *) fail "$usage" ;;
esac
