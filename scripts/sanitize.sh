#!/usr/bin/env bash
# The decoder's tests under AddressSanitizer: it loads many bytes at once and makes string arrays unchecked. The stable
# toolchain brings the sanitizer along, but wants to be asked for the flag. What the decoder is built on is left as it
# is, which is quicker; its own code, generics included, checks each load, and every allocation is fenced.
set -euo pipefail
cd "$(dirname "$0")/../engine/decoder"

# A folder of its own, for the variable makes other builds stale.
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$HOME/.cache/thalweg/target}/sanitized
built=$(RUSTC_BOOTSTRAP=thalweg_decoder cargo rustc --locked --lib --profile test \
    --message-format json-render-diagnostics -- -Zsanitizer=address)
tests=$(sed -n 's/.*"executable":"\([^"]*\)".*/\1/p' <<<"$built")
# What a test leaves allocated at its end is no error.
DIFFERENTIAL_RECORDS=${DIFFERENTIAL_RECORDS:-20000} ASAN_OPTIONS=detect_leaks=0 "$tests"
