#!/usr/bin/env bash
# buildkit.sh PREFIX IMAGE DIRECTORY: builds with BuildKit, on the engine at DOCKER_HOST: the engine calls back over
# the build's session for the context and the secrets. It prints what can be compared between two ways to the same
# engine. DIRECTORY is empty and its own.
set -euo pipefail
prefix=$1 image=$2
cd "$3"
label=dockctl.test=$prefix
# Debian's client has BuildKit built in; a newer one, first in the path, may lack its plugin.
client=$(command -v /usr/bin/docker || command -v docker)
build() { DOCKER_BUILDKIT=1 "$client" build --network none --no-cache "$@"; }

mkdir context
echo from the context >context/file
head -c 5000000 /dev/urandom >context/large
echo hidden >secret
# shellcheck disable=SC2016
{
    printf 'FROM %s\nARG WHAT\nCOPY file large /\nLABEL a=b\nCMD cat /file /seen\n' "$image"
    echo 'RUN --mount=type=secret,id=s sha256sum </run/secrets/s >/seen; echo "$WHAT" >>/file'
} >context/Dockerfile
build -q --secret id=s,src=secret --build-arg WHAT=built --label "$label" -t "$prefix-kit" context | sed -E 's/[0-9a-f]{64}/ID/'
docker image inspect -f '{{.Config.Labels.a}}' "$prefix-kit"
docker run --rm --network none --label "$label" "$prefix-kit"
docker create --network none --label "$label" --name "$prefix-kit" "$prefix-kit" >/dev/null
docker cp "$prefix-kit:/large" - | tar -xO | cmp - context/large && echo the same
docker rm "$prefix-kit" >/dev/null
docker rmi "$prefix-kit" >/dev/null

printf 'FROM scratch\nCOPY file /\n' >context/Dockerfile
build --progress plain -t "$prefix-kit" context 2>&1 | grep -o 'COPY file /$' | sort -u
docker rmi "$prefix-kit" | grep -c Deleted

printf 'FROM %s\nRUN exit 9\n' "$image" >context/Dockerfile
build --progress plain context 2>&1 | tail -n 1 || echo "code $?"
