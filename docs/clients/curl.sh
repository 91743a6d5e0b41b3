#!/usr/bin/env bash
# curl.sh AGENT CONTAINER: logs in, lists containers and follows a log, with nothing but curl and jq.
# Every call is a POST of JSON to https://CONTROLLER/dockctl.v1.SERVICE/RPC.
set -euo pipefail
agent=$1 container=$2

# call RPC JSON [CURL-OPTIONS...]. No secret is among the arguments, where every user of this machine sees it.
call() {
    curl --silent --show-error --fail-with-body --cacert "$DOCKCTL_CA_FILE" \
        --header @<(printf 'authorization: Bearer %s\n' "${DOCKCTL_TOKEN:-}") \
        --header 'content-type: application/json' --data @- "${@:3}" "$DOCKCTL_URL/dockctl.v1.$1" <<<"$2"
}

# A refusal is a google.rpc.Status; an error at the end of a stream has one in `error`.
good='(.error // . | .message // empty | error), '

# An API token of `dockctl tokens create` needs no login.
if [ -z "${DOCKCTL_TOKEN:-}" ]; then
    login=$(jq -n '{username: env.DOCKCTL_USERNAME, password: env.DOCKCTL_PASSWORD}')
    DOCKCTL_TOKEN=$(call AuthService/Login "$login" | jq -r "$good .tokens.accessToken")
fi
call AuthService/WhoAmI '{}' | jq -r "$good"'"user \(.user.name)"'

call ContainerService/ListContainers '{"all": true}' |
    jq -r "$good"'.containers[]? | "container \(.agent)/\(.name) \(.state)"'

request=$(jq -n --arg agent "$agent" --arg container "$container" '$ARGS.named + {follow: true}')

# One JSON object a line; `data` is bytes, so base64.
call ContainerService/StreamLogs "$request" --no-buffer |
    jq --unbuffered -rj "$good"'.records[]?.data | @base64d'

# The same as server-sent events, for what reads those: "data: JSON", and "event: end" at the end.
call ContainerService/StreamLogs "$request" --no-buffer --header 'accept: text/event-stream' |
    sed -un 's/^data: //p' | jq --unbuffered -rj "$good"'.records[]?.data | @base64d'
