#!/usr/bin/env bash
# The binary under AddressSanitizer, for tests against real servers: our own crates and librdkafka's C check each load and
# store, and every allocation of the process is fenced, and not given out again for long after it was freed.
#
#   sanitize-engine.sh build         builds it; prints where it is
#   sanitize-engine.sh [TEST…]       builds it, and runs end-to-end tests with it (default: source_kafka, collect, failures)
#
# The stable toolchain brings the sanitizer along, but wants to be asked for the flag; clang's checks of C call the same
# runtime. Other dependencies are left as they are, but for what of them is compiled into our crates: a mistake of theirs
# is found where it frees twice, or copies or compares behind an end. `make test` does without: it builds for minutes.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
if [ "${1:-}" = --as-rustc ]; then
    shift
    # Checks are added to what is left of loads after optimizing, so little of it is done.
    RUSTC_BOOTSTRAP=1 exec "$@" -Zsanitizer=address -Cforce-frame-pointers=yes -Copt-level=1
fi
cd "$here/.."
command -v clang >/dev/null || { echo "C is compiled by clang: apt-get install clang llvm" >&2; exit 1; }

plain=${CARGO_TARGET_DIR:-$HOME/.cache/thalweg/target}
folder=$plain/sanitized-engine
mkdir -p "$folder"
# Of a path with an argument cargo makes no program.
printf '#!/bin/sh\nexec "%s" --as-rustc "$@"\n' "$here/sanitize-engine.sh" >"$folder/rustc"
chmod +x "$folder/rustc"

CARGO_TARGET_DIR=$folder RUSTC_WORKSPACE_WRAPPER=$folder/rustc CC=clang \
    CFLAGS="-fsanitize=address -fno-omit-frame-pointer -O1 -g" \
    cargo build --locked --workspace --bins
binary=$folder/debug/thalweg
[ "${1:-}" = build ] && { echo "$binary"; exit; }

# What a test leaves allocated at its end is no error: threads of librdkafka outlive it.
export ASAN_OPTIONS="detect_leaks=0:quarantine_size_mb=256:malloc_context_size=30:${ASAN_OPTIONS:-}"
ASAN_SYMBOLIZER_PATH=${ASAN_SYMBOLIZER_PATH:-$(command -v llvm-symbolizer || true)}
export ASAN_SYMBOLIZER_PATH CARGO_TARGET_DIR=$plain
[ $# -gt 0 ] || set -- source_kafka collect failures
for test in "$@"; do
    THALWEG_BINARY=$binary cargo test --locked --workspace --test e2e -- "$test" --test-threads 1
done
