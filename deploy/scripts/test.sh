#!/usr/bin/env bash
# test.sh [NEXTEST-ARGUMENTS...]: what `make test` runs: every test of the workspace, the end-to-end
# ones with the binaries built just now, then the documentation's examples.
set -euo pipefail
# shellcheck source=deploy/scripts/lib.sh
. "$(dirname "$0")/lib.sh"
cd "$ROOT"
[ "$(id -u)" = 0 ] || die "the end-to-end tests make network namespaces and a second dockerd: run this as root"
export PATH="$TOOLS:$PATH:/usr/sbin:/sbin"

# Thousands of connections, with both ends in one process.
ulimit -n "$(ulimit -Hn)"
say "building"
cargo build --quiet --workspace --bins
profile=default
[ -z "${CI:-}" ] || profile=ci
[ -z "${DOCKCTL_FULL:-}" ] || profile=chaos
say "testing"
cargo nextest run --workspace --profile "$profile" "$@"
[ $# -gt 0 ] || cargo test --quiet --workspace --doc
