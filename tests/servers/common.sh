# Shared by the scripts that start servers for tests; sourced, not run. It knows nothing of any one server.
#
# A server lives in a folder: `pid`, `log`, `ports` and its data. A folder that was used before keeps its ports and its
# data, so a server can be stopped, or killed, and started again where it was.

cache=${THALWEG_CACHE:-$HOME/.cache/thalweg}

fail() {
    echo "$(basename "$0"): $*" >&2
    exit 1
}

# The id of the folder's server if it runs. A number that the system has given to another process since does not count:
# the folder's path must be in its command line or its environment.
running() {
    local pid entry read
    pid=$(cat "$1/pid" 2>/dev/null) || return 1
    [ -n "$pid" ] || return 1
    for _ in 1 2 3; do
        kill -0 "$pid" 2>/dev/null || return 1
        read=
        # Not by a pipe: who writes into one that `grep -q` has left already fails, and with it what is found.
        { while IFS= read -r -d '' entry; do
            [ "$entry" != "THALWEG_SERVER=$1" ] || { echo "$pid"; return 0; }
            read=yes
        done <"/proc/$pid/environ"; } 2>/dev/null
        # While one program takes the place of another, the process has no environment for a moment.
        [ -z "$read" ] || return 1
        sleep 0.1
    done
    return 1
}

port_open() {
    (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null
}

# A port below the range from which the system gives out its own, so that no client's socket sits on it.
free_port() {
    local port
    for _ in $(seq 100); do
        port=$((10000 + (RANDOM * 32768 + RANDOM) % 20000))
        port_open "$port" || { echo "$port"; return; }
    done
    fail "no free port was found between 10000 and 30000"
}

# Runs `$2…` as the server of folder $1, detached, with its output in `log`. It must not inherit the lock (8) that its
# folder is held by while it starts.
launch() {
    local dir=$1
    shift
    THALWEG_SERVER=$dir setsid "$@" >>"$dir/log" 2>&1 </dev/null 8>&- &
    echo $! >"$dir/pid"
    # Until the new program is in place, the process still has this shell's environment. On a busy machine that takes
    # seconds, and what does not run yet would be taken for dead.
    for _ in $(seq 500); do
        running "$dir" >/dev/null && return
        kill -0 "$(cat "$dir/pid")" 2>/dev/null || return 0
        sleep 0.02
    done
}

# Waits until `$3…` succeeds, for at most $2 seconds; 1 if the server of folder $1 dies or time runs out.
await() {
    local dir=$1 deadline=$((SECONDS + $2))
    shift 2
    while ! "$@"; do
        running "$dir" >/dev/null || return 1
        [ $SECONDS -lt $deadline ] || return 1
        sleep 0.1
    done
}

stop_server() {
    local dir=$1 pid
    pid=$(running "$dir") || { rm -f "$dir/pid"; return 0; }
    kill "$pid"
    for _ in $(seq 200); do
        running "$dir" >/dev/null || { rm -f "$dir/pid"; return 0; }
        sleep 0.1
    done
    echo "$(basename "$0"): the server did not stop within 20 s and is killed. pid=$pid" >&2
    kill -9 "$pid"
    rm -f "$dir/pid"
}

show_log() {
    echo "--- last lines of $1/log" >&2
    tail -n 30 "$1/log" >&2
}
