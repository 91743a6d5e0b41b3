#!/usr/bin/env bash
# script.sh PREFIX IMAGE DIRECTORY: what people do with docker and docker compose, on the engine at
# DOCKER_HOST. It prints what they print, with ids and times written as such, so that two engines that
# are one can be compared. DIRECTORY is empty and its own.
set -euo pipefail
prefix=$1 image=$2
cd "$3"
label=dockctl.test=$prefix
export DOCKER_BUILDKIT=0 COMPOSE_PROJECT_NAME=$prefix-project COMPOSE_DOCKER_CLI_BUILD=0 NO_COLOR=1

same() {
    sed -E 's/(sha256:)?[0-9a-f]{64}/ID/g; s/\b[0-9a-f]{12}\b/ID/g; s/[0-9]+(\.[0-9]+)? ?(seconds?|minutes?)( ago)?/SPAN/g;
        s/Less than a second( ago)?/SPAN/g; s/About a minute/SPAN/g'
}
title() { printf '== %s\n' "$*"; }

title version
docker version --format '{{.Server.Version}} {{.Server.APIVersion}} {{.Client.APIVersion}}'

title run
docker run -d --network none --label "$label" --name "$prefix-a" "$image" \
    sh -c 'echo out; echo err >&2; exec sleep 100000' | same
echo "to stdin" | docker run -i --rm --network none --label "$label" "$image" cat
docker run --rm --network none --label "$label" "$image" sh -c 'echo gone; exit 7' || echo "code $?"
docker run --rm --network none --label "$label" "$image" no-such-program 2>&1 | same || true

title list
docker ps --filter "label=$label" --format '{{.Names}} {{.Image}} {{.State}}'
docker ps -a --filter name=no-such-container
docker inspect -f '{{.Name}} {{.Config.Image}} {{.State.Running}}' "$prefix-a"

title logs
docker logs "$prefix-a" 2>err
cat err
docker logs --tail 1 "$prefix-a" 2>&1 | wc -l

title exec
docker exec "$prefix-a" echo hello
printf 'one\ntwo\nthree\n' | docker exec -i "$prefix-a" sh -c 'sort -r; echo end'
head -c 5000000 /dev/zero | docker exec -i "$prefix-a" sha256sum | cut -c1-8
docker exec "$prefix-a" sh -c 'exit 42' || echo "code $?"
docker exec -i "$prefix-a" sh -c 'head -c 3000000 /dev/zero' </dev/null | wc -c

title cp
mkdir tree
echo content >tree/file
ln -s file tree/link
docker cp tree "$prefix-a:/copied"
docker exec "$prefix-a" sh -c 'cat /copied/file; readlink /copied/link'
docker cp "$prefix-a:/copied" back
diff -r tree back && echo the same
head -c 20000000 /dev/urandom >large
docker cp large "$prefix-a:/large"
docker cp "$prefix-a:/large" large-back
cmp large large-back && echo the same
docker cp "$prefix-a:/nowhere" . 2>&1 | same || true
docker cp "$prefix-a:/copied/file" - | tar -tf -

title events
since=$(date +%s)
docker create --network none --label "$label" --name "$prefix-b" "$image" true | same
docker start -a "$prefix-b"
docker wait "$prefix-b"
docker rm "$prefix-b"
docker events --since "$since" --until "$(($(date +%s) + 1))" --filter "label=$label" --filter "container=$prefix-b" \
    --format '{{.Type}} {{.Action}}'

title stats
docker stats --no-stream --format '{{.Name}} {{.PIDs}}' "$prefix-a"

title build
mkdir context
printf 'FROM %s\nARG WHAT\nCOPY file /file\nRUN echo "$WHAT" >>/file\nLABEL a=b\nCMD cat /file\n' "$image" >context/Dockerfile
echo from the context >context/file
head -c 20000000 /dev/urandom >context/large
docker build --network none --build-arg WHAT=built --no-cache --label "$label" -t "$prefix-built" context 2>/dev/null | same
docker run --rm --network none --label "$label" "$prefix-built"
printf 'FROM %s\nRUN false\n' "$image" >context/Dockerfile
docker build --network none --no-cache context 2>&1 | tail -n 1 | same || echo "code $?"
docker image inspect -f '{{.Config.Labels.a}}' "$prefix-built"
docker save "$prefix-built" | docker load
docker rmi "$prefix-built" | same | sort -u

title volumes and networks
docker volume create --label "$label" "$prefix-data"
docker run --rm --network none --label "$label" -v "$prefix-data:/data" "$image" sh -c 'echo kept >/data/x'
docker run --rm --network none --label "$label" -v "$prefix-data:/data:ro" "$image" cat /data/x
docker volume rm "$prefix-data"

title errors
docker start no-such-container 2>&1 || echo "code $?"
docker run --rm --network none "$prefix-no-such:image" 2>&1 | tail -n 1 || true

title compose
cat >docker-compose.yml <<YAML
version: "3.8"
services:
  one:
    image: $image
    init: true
    network_mode: none
    labels: ["$label"]
    volumes: ["data:/data"]
    command: sh -c 'echo up; exec sleep 100000'
  two:
    build: {context: context}
    init: true
    network_mode: none
    labels: ["$label"]
    depends_on: [one]
    command: sh -c 'exec sleep 100000'
volumes:
  data:
YAML
printf 'FROM %s\nCOPY file /file\n' "$image" >context/Dockerfile
compose() { docker-compose --no-ansi "$@" 2>&1 | grep -v 'no-ansi' | same; }
compose build --no-cache
compose up -d | sort
compose ps
compose exec -T two cat /file
echo typed | docker-compose exec -T one sh -c 'cat; echo end'
compose logs --no-color one
compose stop -t 0 two
compose down -v -t 0 --rmi local | sort # in no order: it removes several at once

docker rm -f "$prefix-a" | same
