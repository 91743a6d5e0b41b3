#!/usr/bin/env bash
# bench.sh [ARGUMENTS...]: what `make bench` runs: builds the programs as they are released, then
# measures them against the engine's own socket. Arguments go to dockctl-bench; --help tells them.
set -euo pipefail
# shellcheck source=deploy/scripts/lib.sh
. "$(dirname "$0")/lib.sh"
cd "$ROOT"

deploy/scripts/need.sh test
say "building optimised programs (the first time takes some ten minutes)"
cargo build --release --workspace --bins
deploy/scripts/with-engine.sh "${CARGO_TARGET_DIR:-$ROOT/target}/release/dockctl-bench" "$@"
