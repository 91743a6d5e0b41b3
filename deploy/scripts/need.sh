#!/usr/bin/env bash
# need.sh build|demo|test|lint: installs from Debian what that purpose needs and the machine lacks, and
# says what it installs. Root or sudo is asked for only when something is missing.
set -euo pipefail
# shellcheck source=deploy/scripts/lib.sh
. "$(dirname "$0")/lib.sh"

# Rows of "purposes command package": the package is installed when the command is missing.
table='
build,demo,test,lint  cc      gcc
build,demo,test,lint  ld      binutils
demo,test        dockerd       docker.io
demo,test        docker        docker.io
demo,test        iptables      iptables
demo,test        busybox       busybox-static
demo,test        curl          curl
demo,test        jq            jq
demo,test        xz            xz-utils
demo,test        tar           tar
demo,test        ip            iproute2
test             ps            procps
test             nft           nftables
test             tc            iproute2
test             strace        strace
test             setpriv       util-linux
test             docker-compose docker-compose
test             script        bsdutils
test             tmux          tmux
test             time          time
test             useradd       passwd
test             docker-registry docker-registry
test,lint        pip3          python3-pip
test,lint        npm           npm
test             chromium      chromium
test             pebble        pebble
test             gnome-keyring-daemon gnome-keyring
test             dbus-daemon   dbus-daemon
test             secret-tool   libsecret-tools
lint             shellcheck    shellcheck
lint             git           git
lint             systemd-analyze systemd
'

purpose=${1:?usage: need.sh build|demo|test|lint}

has() { command -v "$1" >/dev/null || [ -x "/usr/sbin/$1" ] || [ -x "/sbin/$1" ]; }

missing=()
while read -r purposes command package; do
    [ -n "$purposes" ] || continue
    case ",$purposes," in *",$purpose,"*) ;; *) continue ;; esac
    # Only the static busybox can be an image of its own.
    if [ "$command" = busybox ] && has busybox && ldd "$(command -v busybox)" >/dev/null 2>&1; then
        missing+=("$package")
        continue
    fi
    has "$command" || missing+=("$package")
done <<<"$table"

[ -e /etc/ssl/certs/ca-certificates.crt ] || missing+=(ca-certificates)
# The aws-lc build needs the C library's headers.
[ -e /usr/include/stdio.h ] || missing+=(libc6-dev)
# A library that is loaded into the daemons to set their clocks.
if [ "$purpose" = test ] && ! compgen -G '/usr/lib/*/faketime/libfaketimeMT.so.1' >/dev/null; then
    missing+=(libfaketime)
fi
# Without systemd nobody has mounted the control groups.
if [[ $purpose = demo || $purpose = test ]] && ! grep -q ' /sys/fs/cgroup' /proc/mounts; then
    has cgroupfs-mount || missing+=(cgroupfs-mount)
fi

has cargo || die "there is no Rust toolchain: install one with rustup (1.95 or newer), then run this again"

if [ "${#missing[@]}" -gt 0 ]; then
    mapfile -t missing < <(printf '%s\n' "${missing[@]}" | sort -u)
    has apt-get || die "please install: ${missing[*]}"
    say "installing from Debian: ${missing[*]}"
    log=$(mktemp)
    if ! { "${SUDO[@]}" apt-get update \
        && "${SUDO[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "${missing[@]}"; } \
        >"$log" 2>&1 </dev/null; then
        tail -n 20 "$log" >&2
        die "apt-get failed; its whole output is in $log"
    fi
    rm -f "$log"
fi
