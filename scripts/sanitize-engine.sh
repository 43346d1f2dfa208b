#!/usr/bin/env bash
# The whole binary under AddressSanitizer, librdkafka's C and the other C libraries with it, for tests against real servers:
# our `unsafe`, librdkafka's calls back, and whatever else touches a heap that is not its own to touch.
#
#   sanitize-engine.sh build         builds it, which takes as long as a cold build; prints the binary
#   sanitize-engine.sh [TEST…]       builds it, and runs end-to-end tests with it (default: source_kafka, collect, failures)
#
# The stable toolchain brings the sanitizer along, but wants to be asked for the flag. C is compiled by clang, whose checks
# call the same runtime. What a test leaves allocated at its end is no error; librdkafka's own threads outlive it.
set -euo pipefail
cd "$(dirname "$0")/.."
command -v clang >/dev/null || { echo "C is compiled by clang: apt-get install clang" >&2; exit 1; }

target=x86_64-unknown-linux-gnu
plain=${CARGO_TARGET_DIR:-$HOME/.cache/thalweg/target}
folder=$plain/sanitized-engine

build() {
    # For the target alone: what runs while building is left as it is.
    export RUSTC_BOOTSTRAP=1 CARGO_TARGET_DIR=$folder
    export CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUSTFLAGS="-Zsanitizer=address -Cforce-frame-pointers=yes"
    export CC_x86_64_unknown_linux_gnu=clang TARGET_CC=clang CC=clang
    export CFLAGS="-fsanitize=address -fno-omit-frame-pointer -O1 -g"
    cargo build --locked --workspace --bins --target "$target" --profile sanitized \
        --config 'profile.sanitized.inherits="release"' --config 'profile.sanitized.opt-level=1' \
        --config 'profile.sanitized.lto="off"' --config 'profile.sanitized.codegen-units=64' \
        --config 'profile.sanitized.debug="line-tables-only"' --config 'profile.sanitized.strip=false' \
        --config 'profile.sanitized.debug-assertions=true'
}

(build)
binary=$folder/$target/sanitized/thalweg
[ "${1:-}" = build ] && { echo "$binary"; exit; }

# A freed byte is not given out again for a long time, and a stack is told in full.
export ASAN_OPTIONS="detect_leaks=0:quarantine_size_mb=256:malloc_context_size=30:abort_on_error=1:${ASAN_OPTIONS:-}"
export ASAN_SYMBOLIZER_PATH=${ASAN_SYMBOLIZER_PATH:-$(command -v llvm-symbolizer || true)}
[ $# -gt 0 ] || set -- source_kafka collect failures
CARGO_TARGET_DIR=$plain cargo build --locked --workspace --all-targets
for test in "$@"; do
    THALWEG_BINARY=$binary CARGO_TARGET_DIR=$plain cargo test --workspace --test e2e -- "$test" --test-threads 1
done
