#!/usr/bin/env bash
# bench-fleet.sh [ARGUMENTS...]: what `make bench-fleet` runs: builds the controller as it is released, then
# puts thousands of simulated agents at it. No Docker engine is needed. Arguments go to dockctl-bench fleet.
set -euo pipefail
# shellcheck source=deploy/scripts/lib.sh
. "$(dirname "$0")/lib.sh"
cd "$ROOT"

deploy/scripts/need.sh build
say "building optimised programs (the first time takes some ten minutes)"
cargo build --release -p dockctl-controller -p dockctl-bench --bins
unset "${!DOCKCTL_@}"
# An agent is a connection, at both of its ends.
ulimit -n "$(ulimit -Hn)"
"${CARGO_TARGET_DIR:-$ROOT/target}/release/dockctl-bench" fleet "$@"
