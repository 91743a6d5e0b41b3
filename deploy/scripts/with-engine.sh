#!/usr/bin/env bash
# with-engine.sh COMMAND...: runs COMMAND with a Docker engine that has the test image, and stops the
# engine afterwards if it was started for this. Containers that killed tests left behind are removed.
set -euo pipefail
# shellcheck source=deploy/scripts/lib.sh
. "$(dirname "$0")/lib.sh"
cd "$ROOT"
# A person's own login and settings must not reach the programs under test.
unset "${!DOCKCTL_@}"

clean() {
    local status=$? left
    trap - EXIT
    trap '' INT TERM
    left=$(docker ps -aq --filter label=dockctl.test 2>/dev/null) || left=
    # shellcheck disable=SC2086  # ids are words
    [ -z "$left" ] || docker rm -f $left >/dev/null 2>&1 || true
    deploy/scripts/engine.sh stop || true
    exit "$status"
}
trap clean EXIT
trap 'exit 130' INT TERM

deploy/scripts/engine.sh start
eval "$(deploy/scripts/engine.sh env)"
deploy/scripts/images.sh
"$@"
