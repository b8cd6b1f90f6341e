#!/usr/bin/env bash
# Runs golangci-lint at the pinned version, which is built from its module when it is missing and kept outside the
# checkout: in $MILLRACE_TOOLS/bin, or ~/.cache/millrace/bin. Building takes some minutes, once.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly version=2.12.2
readonly dir=${MILLRACE_TOOLS:-$HOME/.cache/millrace}/bin
readonly linter=$dir/golangci-lint-v$version

is_pinned() { [[ -x $1 ]] && "$1" version 2>/dev/null | grep -Eq "version v?${version//./\\.} "; }

if ! is_pinned "$linter"; then
	mkdir -p "$dir"
	found=
	for candidate in "$dir/golangci-lint" "$(command -v golangci-lint || true)"; do
		if [[ -n $candidate ]] && is_pinned "$candidate"; then
			found=$candidate
			break
		fi
	done
	if [[ -n $found ]]; then
		ln -sf "$found" "$linter"
	else
		echo "lint: building golangci-lint $version into $dir (some minutes, once)" >&2
		scratch=$(mktemp -d "$dir/build.XXXXXX")
		trap 'rm -rf "$scratch"' EXIT
		GOFLAGS= GOBIN=$scratch go install "github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v$version"
		mv "$scratch/golangci-lint" "$linter"
	fi
fi
if (($# == 0)); then
	set -- ./...
fi
# The linter remembers findings with the path of the checkout that it saw them in, and its exclusions go by path: each
# checkout has a memory of its own.
GOLANGCI_LINT_CACHE=$PWD/bin/lint-cache "$linter" run --allow-parallel-runners "$@"
