#!/usr/bin/env bash
# Lists the Go files that people write, one a line: gofmt has no say in generated ones.
set -euo pipefail
cd "$(dirname "$0")/.."
find . -name '*.go' -not -path './.*' -not -path './graph/generated/*' -not -name '*_gen.go'
