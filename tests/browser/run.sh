#!/usr/bin/env bash
# The pages in headless Chromium, against the given binary. Before that: what is committed as the page is what its sources
# make, byte for byte.
#   run.sh THALWEG             tests
#   run.sh THALWEG figures     how long a click takes to the dashboard, what that loads and when it is drawn: by hand, with the
#                              binary of `make release` on a machine that has nothing else to do
set -euo pipefail
binary=$(realpath "$1")
cd "$(dirname "$0")"
../../scripts/setup.sh browser
page=../../web/page

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cp -r "$page"/{package.json,package-lock.json,tsconfig.json,build.mjs,src} "$work"
(cd "$work" && npm ci --ignore-scripts --no-audit --no-fund --silent && npm run --silent build)
diff -r "$work/dist" "$page/dist" || {
    echo "web/page/dist is not what web/page/src makes: run npm ci && npm run build in web/page, and commit it" >&2
    exit 1
}

npm ci --ignore-scripts --no-audit --no-fund --silent
if [ "${2:-}" = figures ]; then
    THALWEG=$binary node figures.mjs
    exit
fi
# The two files have a server each, and run at the same time.
THALWEG=$binary node --test demo.test.mjs own.test.mjs
