#!/usr/bin/env bash
# Installs what this machine lacks for building Thalweg (with "tests", for testing it; with "browser", for trying its pages).
# Debian and Ubuntu; does nothing where everything is there.
set -euo pipefail

packages=()
need() { # command, package
    command -v "$1" >/dev/null 2>&1 || packages+=("$2")
}
need cc build-essential
need make build-essential
need pkg-config pkg-config
[ -e /usr/include/openssl/ssl.h ] || packages+=(libssl-dev)
[ -e /usr/include/zlib.h ] || packages+=(zlib1g-dev)
if [ "${1:-}" = tests ]; then
    need java default-jre-headless
    need mvn maven
    need go golang
    need curl curl
    need python3 python3-venv
    python3 -c 'import ensurepip' 2>/dev/null || packages+=(python3-venv)
fi
if [ "${1:-}" = browser ]; then
    need node nodejs
    need npm npm
    need chromium chromium
fi
if ! command -v cargo >/dev/null 2>&1 && [ ! -x "$HOME/.cargo/bin/cargo" ]; then
    packages+=(curl ca-certificates)
fi

if [ ${#packages[@]} -gt 0 ]; then
    echo "installing: ${packages[*]}"
    sudo=()
    [ "$(id -u)" = 0 ] || sudo=(sudo)
    "${sudo[@]}" apt-get update -qq
    DEBIAN_FRONTEND=noninteractive "${sudo[@]}" apt-get install -y -qq --no-install-recommends "${packages[@]}" >/dev/null
fi

if ! command -v cargo >/dev/null 2>&1 && [ ! -x "$HOME/.cargo/bin/cargo" ]; then
    echo "installing the Rust toolchain"
    curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y --profile minimal -c clippy -c rustfmt
fi
