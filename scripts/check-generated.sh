#!/usr/bin/env bash
# Fails when generating the GraphQL code changes a generated file, tracked or not.
set -euo pipefail
cd "$(dirname "$0")/.."

if ! grep -rqs '^//go:generate ' --include='*.go' graph; then
	echo "check-generated: nothing is generated below graph" >&2
	exit 0
fi

# Compared with what lay here before, not with the last commit, so that it also works on changes in progress.
fingerprint() {
	grep -rl '^// Code generated .* DO NOT EDIT' graph | LC_ALL=C sort | while read -r file; do
		printf '%s  %s\n' "$(git hash-object "$file")" "$file"
	done
}
before=$(fingerprint)
go generate ./graph/...
after=$(fingerprint)
if [[ $before != "$after" ]]; then
	echo "check-generated: these files were not fresh; commit what 'make generate' writes:" >&2
	diff <(echo "$before") <(echo "$after") | awk '/^[<>]/ { print "  " $3 }' | sort -u >&2
	exit 1
fi
