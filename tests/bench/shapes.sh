#!/usr/bin/env bash
# What the shapes of views cost beside each other, from a file of clicks: events per CPU-second of each, in one run.
#   shapes.sh THALWEG [clicks]        for figures the binary of `make release`
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
thalweg=$(realpath "$1")
rows=${2:-2000000}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
# A catalogue of the products of the clicks, and of others, ten thousand in all.
"$thalweg" bench --from file --rows "$rows" --sql "$here/tumble.sql" >/dev/null
head -n 200000 bench-clicks.ndjson | grep -o '"product_id":"[^"]*"' | cut -d'"' -f4 | sort -u | sed -n 1,10000p >known
{
    echo product_id,category
    awk '{ print $1 ",c" NR % 50 } END { for (n = NR; n < 10000; n++) print "other-" n ",c" n % 50 }' known
} >bench-products.csv
for round in 1 2 3; do
    for views in "$here"/*.sql; do
        echo "round $round, $(basename "$views" .sql)"
        "$thalweg" bench --from file --rows "$rows" --sql "$views"
    done
done
