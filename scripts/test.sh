#!/usr/bin/env bash
# The whole test suite, in one profile. Nothing here skips itself: what is missing fails.
set -euo pipefail
cd "$(dirname "$0")/.."

export VENV=${VENV:-$HOME/.cache/thalweg/venv}
say() { printf '\n== %s (%s s)\n' "$1" "$SECONDS"; }

say "format"
cargo fmt --all --check
cargo fmt --manifest-path engine/decoder/Cargo.toml --check

say "build"
cargo build --workspace --all-targets

say "unit, property and end-to-end tests"
cargo test --workspace

say "the decoder under a sanitizer"
scripts/sanitize.sh

say "Python clients, and readers of the lake"
tests/python/real_server.sh "$CARGO_TARGET_DIR/debug/thalweg"
tests/python/lake_while.sh "$CARGO_TARGET_DIR/debug/thalweg"

say "random views of every shape, beside DuckDB"
tests/python/shapes.sh "$CARGO_TARGET_DIR/debug/thalweg" --kills

# By hand until they have been steady for a while: tests/browser/run.sh, the pages in a browser.

say "what others run it with"
tests/deployment/run.sh

say "clippy"
cargo clippy --workspace --all-targets -- -D warnings
cargo clippy --manifest-path engine/decoder/Cargo.toml --locked --all-targets --features fuzz -- -D warnings

say "done"
