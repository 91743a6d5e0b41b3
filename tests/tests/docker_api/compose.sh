#!/usr/bin/env bash
# compose.sh PREFIX IMAGE DIRECTORY: what people do with the newest docker compose, on the engine at DOCKER_HOST.
# It prints what can be compared between two ways to the same engine. DIRECTORY is empty and its own.
set -euo pipefail
prefix=$1 image=$2
cd "$3"
label=dockctl.test=$prefix
# Without its plugin for BuildKit it builds as docker of old does.
export DOCKER_BUILDKIT=0 NO_COLOR=1

compose() {
    compose-5 -p "$prefix-five" --progress plain "$@" 2>&1 |
        sed -E 's/(sha256:)?[0-9a-f]{12,64}/ID/g; s/[0-9]+(\.[0-9]+)? ?(seconds?|minutes?)( ago)?/SPAN/g;
            s/Less than a second( ago)?/SPAN/g; s/ +$//'
}
title() { printf '== %s\n' "$*"; }

mkdir context
printf 'FROM %s\nCOPY file /file\nLABEL %s\n' "$image" "$label" >context/Dockerfile
echo from the context >context/file
cat >compose.yaml <<YAML
services:
  one:
    image: $image
    init: true
    network_mode: none
    labels: ["$label"]
    volumes: ["data:/data"]
    command: sh -c 'echo up; touch /ready; exec sleep 100000'
    healthcheck: {test: ls /ready, interval: 1s, retries: 100}
  two:
    build: {context: context}
    init: true
    network_mode: none
    labels: ["$label"]
    depends_on: {one: {condition: service_healthy}}
    command: sh -c 'exec sleep 100000'
  task:
    image: $image
    network_mode: none
    labels: ["$label"]
    profiles: [task]
    command: sh -c 'echo task; exit 3'
volumes:
  data:
YAML

title version
compose version
title build
compose build --no-cache | grep -v 'Sending build context' | sort -u
title up
compose up -d --wait | sort -u
compose ps --format '{{.Service}} {{.State}} {{.Health}}' | sort
title exec, logs, run
compose exec -T two cat /file
echo typed | compose exec -T one sh -c 'cat; echo end'
compose logs --no-color one
compose run --rm -T task || echo "code $?"
title cp
compose cp one:/ready ready && ls ready
title stop and down
compose stop -t 0 two
compose ps -a --format '{{.Service}} {{.State}}' | sort
compose down -v -t 0 | sort -u
docker rmi "$prefix-five-two" >/dev/null
