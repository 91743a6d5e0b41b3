# shellcheck shell=bash
# What the scripts share. Sourced, never run.

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
# shellcheck disable=SC2034  # used by the scripts that source this
TOOLS="$ROOT/.tools/bin"
# shellcheck disable=SC2034
TEST_IMAGE=dockctl/busybox:test

# shellcheck disable=SC2034
SUDO=()
# shellcheck disable=SC2034
[ "$(id -u)" = 0 ] || SUDO=(sudo)

say() { printf '==> %s\n' "$*" >&2; }

die() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

# await SECONDS WHAT COMMAND...: runs COMMAND until it succeeds, ten times a second.
await() {
    local limit=$1 what=$2
    shift 2
    local end=$((SECONDS + limit))
    until "$@" >/dev/null 2>&1; do
        if [ "$SECONDS" -ge "$end" ]; then
            printf 'error: waited %s s in vain for %s\n' "$limit" "$what" >&2
            return 1
        fi
        sleep 0.1
    done
}
