#!/usr/bin/env bash
# fuzz.sh [SECONDS [TARGET...]]: what `make fuzz` runs: each fuzz target (all of them, unless named)
# for that many seconds, 60 unless told. What it has found interesting is kept in fuzz/corpus and is
# where the next run begins; what crashes is kept in fuzz/artifacts. Needs a nightly toolchain.
set -euo pipefail
# shellcheck source=deploy/scripts/lib.sh
. "$(dirname "$0")/lib.sh"
cd "$ROOT"
export PATH="$TOOLS:$PATH"

seconds=${1:-60}
shift || true
cargo +nightly --version >/dev/null 2>&1 ||
    die "fuzzing needs a nightly toolchain: rustup toolchain install nightly"

targets=("$@")
[ "${#targets[@]}" -gt 0 ] || mapfile -t targets < <(cargo +nightly fuzz list)

# The code under test is safe Rust, in which the address sanitizer finds nothing and costs half the speed.
cargo +nightly fuzz build --sanitizer none
failed=()
for target in "${targets[@]}"; do
    say "fuzzing $target for $seconds s"
    mkdir -p "fuzz/corpus/$target"
    seeds=()
    [ ! -d "fuzz/seeds/$target" ] || seeds=("fuzz/seeds/$target")
    cargo +nightly fuzz run --sanitizer none "$target" "fuzz/corpus/$target" "${seeds[@]}" -- \
        -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -print_final_stats=1 -verbosity=0 ||
        failed+=("$target")
done

[ "${#failed[@]}" = 0 ] || die "these crashed, see fuzz/artifacts: ${failed[*]}"
say "nothing crashed"
