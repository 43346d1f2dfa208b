#!/usr/bin/env bash
# What is under docker/, each by its own tool: Prometheus' rules and Grafana's questions by promtool, the compose file by the
# reference loader of its specification, Kubernetes' objects by Kubernetes' own types.
set -euo pipefail
cd "$(dirname "$0")"
. ../servers/common.sh
docker=../../docker

# From Debian's package, without installing it: that would start a Prometheus here.
promtool=$cache/bin/promtool
if [ ! -x "$promtool" ]; then
    work=$(mktemp -d)
    chmod 755 "$work"
    trap 'rm -rf "$work"' EXIT
    (cd "$work" && { apt-get download -qq prometheus || { apt-get update -qq && apt-get download -qq prometheus; }; } && dpkg-deb -x prometheus_*.deb .)
    mkdir -p "$cache/bin"
    mv "$work/usr/bin/promtool" "$promtool"
fi

"$promtool" check config "$docker/prometheus/prometheus.yml"
"$promtool" test rules rules_test.yml

# Each question of each panel, as a rule: whatever promtool reads, Grafana can ask.
questions=$(mktemp --suffix .yml)
trap 'rm -rf "$questions" "${work:-}"' EXIT
python3 - "$docker/grafana/dashboards/thalweg.json" >"$questions" <<'END'
import json, sys
panels = json.load(open(sys.argv[1]))["panels"]
asked = [target["expr"] for panel in panels for target in panel["targets"]]
assert len(asked) > 20, asked
rules = [
    {"record": f"question:{number}", "expr": text.replace("$__rate_interval", "1m").replace("$instance", ".*")}
    for number, text in enumerate(asked)
]
json.dump({"groups": [{"name": "questions", "rules": rules}]}, sys.stdout)
END
"$promtool" check rules "$questions"

GOFLAGS=-mod=readonly go run . "$docker"
