#!/usr/bin/env bash
# demo.sh: what `make demo` shows. A fleet of two hosts on this machine: a controller, two agents, two
# Docker engines (the machine's own, or one started for this, and a second private one), a few
# containers, and dockctl at work. All of it is taken down at the end, and on Ctrl-C.
# DEMO_FAST=1 leaves the pauses out.
set -euo pipefail
# shellcheck source=deploy/scripts/lib.sh
. "$(dirname "$0")/lib.sh"
cd "$ROOT"
# Settings of the person's own must not reach the demo's programs.
unset "${!DOCKCTL_@}"

dir=
pids=()

bold=$'\e[1m' dim=$'\e[2m' plain=$'\e[0m'
[ -t 1 ] || bold='' dim='' plain=''

pause() { [ -n "${DEMO_FAST:-}" ] || sleep "${1:-1.5}"; }

tell() {
    printf '\n%s%s%s\n' "$dim" "$*" "$plain"
    pause 1
}

# show COMMAND...: prints the command in bold, then runs it.
show() {
    printf '%s$ %s%s\n' "$bold" "$*" "$plain"
    pause 0.6
    "$@"
    pause
}

# show_for SECONDS COMMAND...: the same for a command that does not end by itself.
show_for() {
    local seconds=$1 status=0
    shift
    printf '%s$ %s%s   %s(for %s s)%s\n' "$bold" "$*" "$plain" "$dim" "$seconds" "$plain"
    timeout --foreground -s INT -k 5 "$seconds" "$@" || status=$?
    # 124: timeout ended it, as it should.
    case $status in 0 | 124 | 130) ;; *) return "$status" ;; esac
    pause
}

on() { # on web-1|web-2 DOCKER-ARGUMENTS...
    local host=$1
    shift
    docker -H "${hosts[$host]}" "$@"
}

clean() {
    local status=$?
    trap - EXIT
    trap '' INT TERM
    [ -n "$dir" ] || exit "$status"
    if [ "$status" != 0 ] && [ "$status" != 130 ]; then
        for log in "$dir"/*.log; do
            printf '\n--- last lines of %s\n' "$(basename "$log")" >&2
            tail -n 15 "$log" >&2
        done
    fi
    say "cleaning up"
    local pid
    for pid in "${pids[@]}"; do kill -TERM "$pid" 2>/dev/null || true; done
    # shellcheck disable=SC2317  # await calls it
    all_gone() {
        for pid in "${pids[@]}"; do ! kill -0 "$pid" 2>/dev/null || return 1; done
    }
    await 10 "the daemons to end" all_gone || for pid in "${pids[@]}"; do kill -KILL "$pid" 2>/dev/null || true; done
    local host left
    for host in "${!hosts[@]}"; do
        left=$(on "$host" ps -aq --filter label=dockctl.demo 2>/dev/null) || left=
        # shellcheck disable=SC2086  # ids are words
        [ -z "$left" ] || on "$host" rm -f $left >/dev/null 2>&1 || true
    done
    deploy/scripts/engine.sh stop web-2 || true
    deploy/scripts/engine.sh stop || true
    rm -rf "$dir"
    exit "$status"
}

deploy/scripts/need.sh demo
say "building (the first time takes some minutes)"
cargo build --quiet -p dockctl-controller -p dockctl-agent -p dockctl --bins
export PATH="${CARGO_TARGET_DIR:-$ROOT/target}/debug:$PATH"

declare -A hosts=()
dir=$(mktemp -d)
trap clean EXIT
trap 'exit 130' INT TERM

deploy/scripts/engine.sh start
deploy/scripts/engine.sh start web-2
# web-1 is whatever `docker` talks to here; the agents are told the address, as a person would.
eval "$(deploy/scripts/engine.sh env)"
hosts[web-1]=${DOCKER_HOST:-unix:///var/run/docker.sock}
eval "$(deploy/scripts/engine.sh env web-2)"
hosts[web-2]=$DOCKER_HOST
unset DOCKER_HOST

for host in web-1 web-2; do
    DOCKER_HOST=${hosts[$host]} deploy/scripts/images.sh
    left=$(on "$host" ps -aq --filter label=dockctl.demo)
    # shellcheck disable=SC2086
    [ -z "$left" ] || on "$host" rm -f $left >/dev/null
done

run_container() { # run_container HOST NAME SHELL-SCRIPT
    on "$1" run -d --init --name "$2" --label dockctl.demo=1 --cpus 0.5 "$TEST_IMAGE" sh -c "$3" >/dev/null
}
say "starting three containers with docker"
# shellcheck disable=SC2016  # the containers' shell expands these
{
    run_container web-1 shop 'i=0; while :; do i=$((i+1)); echo "order $i shipped"; sleep 0.3; done'
    run_container web-1 miner 'while :; do :; done'
    run_container web-2 archive 'echo ready; exec sleep 100000'
}

say "starting a controller and two agents"
setsid dockctl-controller serve --data-dir "$dir/controller" --listen 127.0.0.1:0 --agent-listen 127.0.0.1:0 \
    --metrics-listen 127.0.0.1:0 --ready-json >"$dir/controller.json" 2>"$dir/controller.log" </dev/null &
pids+=($!)
await 60 "the controller to be ready" grep -q ca_fingerprint "$dir/controller.json"
api=$(jq -r .api "$dir/controller.json")
agents=$(jq -r .agents "$dir/controller.json")
fingerprint=$(jq -r .ca_fingerprint "$dir/controller.json")

export DOCKCTL_CONFIG="$dir/dockctl.toml"
printf '%s$ dockctl login https://%s --username admin --password-stdin --ca-fingerprint %.12s…%s\n' "$bold" "$api" "$fingerprint" "$plain"
dockctl login "https://$api" --username admin --password-stdin --ca-fingerprint "$fingerprint" \
    <"$dir/controller/initial-admin-password"

printf '%s$ dockctl agents token create --uses 2 -o json%s\n' "$bold" "$plain"
token=$(dockctl agents token create --uses 2 -o json | jq -r .token)

for host in web-1 web-2; do
    printf '%s$ dockctl-agent join %s --token %.16s… --name %s%s\n' "$bold" "$agents" "$token" "$host" "$plain"
    setsid dockctl-agent join "$agents" --token "$token" --data-dir "$dir/$host" --name "$host" \
        --docker "${hosts[$host]}" --ready-json >"$dir/$host.json" 2>"$dir/$host.log" </dev/null &
    pids+=($!)
done
for host in web-1 web-2; do
    await 60 "$host to join" grep -q '"id"' "$dir/$host.json"
done

tell "Two hosts have dialled in over mTLS. Neither opened a port."
show dockctl agents ls
tell "The containers of the whole fleet, from the inventory that the agents keep current:"
show dockctl ps
tell "The end of a log, then the log as it grows:"
show dockctl logs --tail 5 web-1/shop
show_for 3 dockctl logs -f --tail 0 web-1/shop
tell "What they use:"
show dockctl stats --no-stream
tell "Stop one (its name is unique in the fleet, so the host may be left out), look, start it again:"
began=$(date -u +%Y-%m-%dT%H:%M:%SZ)
show dockctl stop miner
show dockctl ps -a
show dockctl start miner
tell "The engine's own events of that:"
show_for 2 dockctl events --since "$began" --on web-1
show dockctl version
tell "That was the demo. The README says how to set up a fleet that stays."
