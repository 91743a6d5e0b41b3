#!/usr/bin/env bash
# lint.sh: what `make lint` runs. Every check runs, also after one failed; the last line says which did.
set -euo pipefail
# shellcheck source=deploy/scripts/lib.sh
. "$(dirname "$0")/lib.sh"
cd "$ROOT"
export PATH="$TOOLS:$PATH"

failed=()
check() { # check NAME COMMAND...
    say "$1"
    "${@:2}" || failed+=("$1")
}

# The newest release that this commit descends from; before the first one there is nothing to break.
breaking() {
    local tag
    tag=$(git describe --tags --abbrev=0 --match 'v[0-9]*' 2>/dev/null) || return 0
    buf breaking --against ".git#tag=$tag"
}

# The programs are not installed here: any that exists stands for them.
units() {
    local dir unit bad=0
    dir=$(mktemp -d)
    for unit in deploy/systemd/*.service; do
        sed 's#^\(ExecStart=\)/usr/local/bin/[a-z-]*#\1/bin/true#' "$unit" >"$dir/${unit##*/}"
        systemd-analyze verify --man=no "$dir/${unit##*/}" || bad=1
    done
    rm -rf "$dir"
    return "$bad"
}

check "rustfmt" cargo fmt --all --check
check "shellcheck" shellcheck -x deploy/scripts/*.sh docs/clients/*.sh docs/clients/*/*.sh tests/images.sh .ci/run
check "systemd units" units
check "buf lint" buf lint
check "buf breaking" breaking
# Advisories need a database from outside; `cargo deny check advisories` is for a machine that has it.
check "cargo-deny" cargo deny --workspace --log-level error check bans licenses sources
check "clippy" cargo clippy --quiet --workspace --all-targets -- -D warnings

[ "${#failed[@]}" = 0 ] || die "these checks failed: ${failed[*]}"
say "all checks passed"
