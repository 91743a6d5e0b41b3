#!/usr/bin/env bash
# images.sh NAME PROGRAMS: builds the images of deploy/docker from this machine's own files, since no
# registry may be reachable: NAME-base has busybox, useradd and the libraries that they and the programs
# in the directory PROGRAMS need; NAME-agent, NAME-controller and NAME-dockctl are built upon it as the
# Dockerfiles say.
set -euo pipefail
name=$1 programs=$2
deploy=$(cd "$(dirname "$0")/../deploy" && pwd)
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
base=$dir/base
mkdir -p "$base"/bin "$base"/usr/sbin "$base"/usr/local/bin "$base"/etc/default "$base"/var/lib "$base"/tmp
ln -s usr/lib "$base"/lib
ln -s usr/lib64 "$base"/lib64
mkdir -p "$base"/usr/lib "$base"/usr/lib64
cp "$(command -v busybox)" "$base"/bin/busybox
for applet in sh cat ls id; do ln -s busybox "$base"/bin/$applet; done
cp /usr/sbin/useradd "$base"/usr/sbin/
for program in "$base"/usr/sbin/useradd "$programs"/dockctl "$programs"/dockctl-agent "$programs"/dockctl-controller; do
    ldd "$program" | grep -o '/lib[^ ]*' | while read -r library; do
        mkdir -p "$base$(dirname "$library")"
        cp -L "$library" "$base$library"
    done
done
cp /etc/login.defs "$base"/etc/
for file in passwd group; do echo 'root:x:0:0:root:/root:/bin/sh' >"$base"/etc/$file; done
echo 'root:x:0:' >"$base"/etc/group
: >"$base"/etc/shadow
: >"$base"/etc/gshadow
tar -C "$base" --owner=0 --group=0 -c . | docker import --change 'ENV PATH=/usr/local/bin:/usr/sbin:/bin' - "$name"-base >/dev/null
mkdir -p "$dir"/context/target/release
for image in agent controller dockctl; do
    program=dockctl-$image
    [ "$image" = dockctl ] && program=dockctl
    strip -o "$dir"/context/target/release/"$program" "$programs/$program"
    cp "$deploy"/docker/Dockerfile.$image "$dir"/context/Dockerfile
    cp "$deploy"/docker/Dockerfile.$image.dockerignore "$dir"/context/.dockerignore
    docker build -q --network none --build-arg BASE="$name"-base -t "$name-$image" "$dir"/context
done
