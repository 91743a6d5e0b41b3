#!/usr/bin/env bash
# engine.sh start|stop|env [NAME]: a Docker engine for the demo and the tests.
#
# Without NAME: the engine that `docker version` reaches is used as it is; where there is none, a
# dockerd of our own is started. With NAME: always one of our own, apart from every other, without a
# bridge; it plays a second host. `stop` stops only what `start` started. `env` prints the line that
# points DOCKER_HOST at it, nothing where the reachable engine is used.
#
# Data is under target/dockerd; sockets are under /run, since a socket's path may have 107 bytes only.
set -euo pipefail
# shellcheck source=deploy/scripts/lib.sh
. "$(dirname "$0")/lib.sh"

verb=${1:?usage: engine.sh start|stop|env [NAME]}
name=${2:-}

instance="${name:-main}"
data="$ROOT/target/dockerd/$instance"
# One folder for each clone and name.
run="/run/dockctl-$(printf '%s' "$ROOT" | cksum | cut -d' ' -f1)-$instance"
socket="unix://$run/docker.sock"
pidfile="$run/dockerd.pid"
log="$data/dockerd.log"

export PATH="$PATH:/usr/sbin:/sbin"

ours_runs() {
    local pid
    pid=$("${SUDO[@]}" cat "$pidfile" 2>/dev/null) || return 1
    [ "$(cat "/proc/$pid/comm" 2>/dev/null)" = dockerd ]
}

start() {
    if [ -z "$name" ] && ! ours_runs && docker version >/dev/null 2>&1; then
        say "using the Docker engine that is running"
        return
    fi
    if ours_runs && docker -H "$socket" version >/dev/null 2>&1; then
        say "using our own Docker engine ($instance)"
        return
    fi
    if ! grep -q ' /sys/fs/cgroup' /proc/mounts; then
        say "mounting the control groups"
        "${SUDO[@]}" cgroupfs-mount
    fi
    mount_hierarchies
    say "starting a Docker engine of our own ($instance)"
    mkdir -p "$data"
    "${SUDO[@]}" mkdir -p -m 0711 "$run"
    local options=(
        --data-root "$data/data" --exec-root "$run/exec" --pidfile "$pidfile" -H "$socket"
        # A containerd of the system may be shared with another dockerd: keep ours apart in it.
        --containerd-namespace "dockctl-$instance" --containerd-plugins-namespace "dockctl-$instance-plugins"
    )
    # docker0 and its iptables rules exist once on a machine, and dockerd without a bridge removes
    # docker0, which is another engine's: so it gets a network of its own.
    local network=()
    if [ -n "$name" ]; then
        options+=(--bridge none --iptables=false)
        network=(unshare --net)
    fi
    # A session of its own: Ctrl-C in the terminal is for the demo, which stops this in its own order.
    "${SUDO[@]}" setsid "${network[@]}" dockerd "${options[@]}" </dev/null >"$log" 2>&1 &
    if ! await 90 "dockerd to answer" docker -H "$socket" version; then
        tail -n 20 "$log" >&2
        stop
        die "dockerd did not start; its log is $log"
    fi
}

# With control groups of version 1 the engine's shim tells a container's numbers only when every
# hierarchy that /proc/PID/cgroup names is mounted, also one without a controller (name=systemd); a
# bare machine has mounted some of them only, and cgroupfs-mount leaves the named ones out.
mount_hierarchies() {
    [ "$(stat -fc %T /sys/fs/cgroup)" = tmpfs ] || return 0
    local hierarchy at options
    while IFS=: read -r _ hierarchy _; do
        # The line without a name is version 2's.
        [ -n "$hierarchy" ] || continue
        grep -q " /sys/fs/cgroup/[^ ]* cgroup [^ ]*,${hierarchy%%,*}[, ]" /proc/mounts && continue
        at=/sys/fs/cgroup/${hierarchy#name=} options=$hierarchy
        [ "$hierarchy" = "${hierarchy#name=}" ] || options=none,$hierarchy
        "${SUDO[@]}" mkdir -p "$at"
        "${SUDO[@]}" mount -t cgroup -o "$options" cgroup "$at"
    done </proc/self/cgroup
}

stop() {
    ours_runs || return 0
    local pid
    pid=$("${SUDO[@]}" cat "$pidfile")
    say "stopping our own Docker engine ($instance)"
    local left
    left=$(docker -H "$socket" ps -q 2>/dev/null) || left=
    # shellcheck disable=SC2086  # ids are words
    [ -z "$left" ] || docker -H "$socket" kill $left >/dev/null 2>&1 || true
    "${SUDO[@]}" kill -TERM "$pid"
    gone() { ! ours_runs; }
    await 30 "dockerd to end" gone || "${SUDO[@]}" kill -KILL "$pid"
    # A container that died with its engine may leave its network namespace mounted.
    "${SUDO[@]}" umount "$run"/exec/netns/* 2>/dev/null || true
    "${SUDO[@]}" rm -rf "$run"
}

case $verb in
start) start ;;
stop) stop ;;
env)
    if ours_runs; then
        printf 'export DOCKER_HOST=%s\n' "$socket"
    fi
    ;;
*) die "engine.sh knows start, stop and env, not $verb" ;;
esac
