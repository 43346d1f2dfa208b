#!/usr/bin/env bash
# The whole test suite, in one profile. Nothing here skips itself: what is missing fails.
set -euo pipefail
cd "$(dirname "$0")/.."

say() { printf '\n== %s (%s s)\n' "$1" "$SECONDS"; }

say "format"
cargo fmt --all --check

say "build"
cargo build --workspace --all-targets

say "unit, property and end-to-end tests"
cargo test --workspace

say "clippy"
cargo clippy --workspace --all-targets -- -D warnings

say "done"
