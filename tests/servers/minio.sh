#!/usr/bin/env bash
# MinIO for tests: a real S3 server, with put-if-absent, on loopback.
#
#   minio.sh install        builds MinIO by Go into ${THALWEG_CACHE:-~/.cache/thalweg}/bin, once; takes minutes
#   minio.sh start DIR      installs if need be, starts with an empty bucket, waits until it serves, prints
#                           endpoint=, bucket=, access_key= and secret_key=, one a line
#   minio.sh stop DIR       stops it; the data stays, and another start goes on with it on the same port
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/common.sh"

version=v0.0.0-20260212201848-7aac2a2c5b7c
binary=$cache/bin/minio
bucket=thalweg
access_key=thalweg-test
secret_key=thalweg-test-secret

install() {
    [ -x "$binary" ] && return
    command -v go >/dev/null || fail "MinIO is built by Go: apt-get install golang-go, or see https://go.dev/dl"
    mkdir -p "$cache/bin"
    exec 9>"$cache/minio.lock"
    flock 9
    if [ ! -x "$binary" ]; then
        # A newer compiler, if MinIO wants one, comes through the module proxy too.
        GOBIN=$cache/bin.part GOTOOLCHAIN=auto go install "github.com/minio/minio@$version" >&2 ||
            fail "Go could not build MinIO $version"
        mv "$cache/bin.part/minio" "$binary"
        rmdir "$cache/bin.part"
    fi
    exec 9>&-
}

serves() {
    local status
    { exec 3<>"/dev/tcp/127.0.0.1/$(cat "$1/ports")"; } 2>/dev/null || return 1
    printf 'GET /minio/health/live HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n' >&3
    read -r -t 5 status <&3 || status=
    exec 3>&-
    [[ $status == *" 200 "* ]]
}

start() {
    local dir=$1
    mkdir -p "$dir"
    dir=$(cd "$dir" && pwd)
    exec 8>"$dir/lock"
    flock 8
    if ! running "$dir" >/dev/null; then
        install
        # A folder in the data is a bucket.
        mkdir -p "$dir/data/$bucket"
        # Another process may take the port between the choice and the bind: then another is chosen.
        for attempt in 1 2 3 4 5; do
            [ -s "$dir/ports" ] || free_port >"$dir/ports"
            : >"$dir/log"
            MINIO_ROOT_USER=$access_key MINIO_ROOT_PASSWORD=$secret_key MINIO_BROWSER=off MINIO_UPDATE=off \
                launch "$dir" "$binary" server --address "127.0.0.1:$(cat "$dir/ports")" "$dir/data"
            await "$dir" 60 serves "$dir" && break
            stop_server "$dir"
            if [ "$attempt" = 5 ] || ! grep -qi "address already in use\|port.*already in use" "$dir/log"; then
                show_log "$dir"
                fail "MinIO did not start. dir=$dir"
            fi
            rm -f "$dir/ports"
        done
    fi
    echo "endpoint=http://127.0.0.1:$(cat "$dir/ports")"
    echo "bucket=$bucket"
    echo "access_key=$access_key"
    echo "secret_key=$secret_key"
}

usage="usage: minio.sh install | start DIR | stop DIR"
case ${1:-} in
    install) install ;;
    start) start "${2:?$usage}" ;;
    stop) if [ -d "${2:?$usage}" ]; then stop_server "$(cd "$2" && pwd)"; fi ;;
    *) fail "$usage" ;;
esac
