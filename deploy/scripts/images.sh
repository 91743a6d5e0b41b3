#!/usr/bin/env bash
# images.sh: makes the one image that the demo and the tests run, from the host's static busybox,
# since no registry may be reachable. Does nothing where the engine has it. Heeds DOCKER_HOST.
set -euo pipefail
# shellcheck source=deploy/scripts/lib.sh
. "$(dirname "$0")/lib.sh"

if docker image inspect "$TEST_IMAGE" >/dev/null 2>&1; then
    exit 0
fi

say "making the image $TEST_IMAGE"
busybox=$(command -v busybox) || die "busybox is missing: run deploy/scripts/need.sh demo"
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
mkdir -p "$dir"/{bin,etc,proc,sys,dev,root}
mkdir -m 1777 "$dir/tmp"
chmod 0755 "$dir"
cp "$busybox" "$dir/bin/busybox"
"$busybox" --list | while read -r applet; do
    [ "$applet" = busybox ] || ln -s busybox "$dir/bin/$applet"
done
echo 'root:x:0:0:root:/root:/bin/sh' >"$dir/etc/passwd"
echo 'root:x:0:' >"$dir/etc/group"
tar -C "$dir" --owner=0 --group=0 --numeric-owner -c . \
    | docker import --change 'ENV PATH=/bin' --change 'CMD ["sh"]' - "$TEST_IMAGE" >/dev/null
