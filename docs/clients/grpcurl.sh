#!/usr/bin/env bash
# grpcurl.sh AGENT CONTAINER: logs in, looks around, lists containers and follows a log with grpcurl.
# It needs jq, and the .proto files for the login; all else it learns from the controller.
set -euo pipefail
agent=$1 container=$2
proto=${DOCKCTL_PROTO:-$(dirname "$0")/../../proto}

address=${DOCKCTL_URL#https://}
grpcurl() { command grpcurl -cacert "$DOCKCTL_CA_FILE" "$@"; }

# Reflection needs a login, so this one call is made with the file that describes it.
if [ -z "${DOCKCTL_TOKEN:-}" ]; then
    login=$(jq -n '{username: env.DOCKCTL_USERNAME, password: env.DOCKCTL_PASSWORD}')
    DOCKCTL_TOKEN=$(grpcurl -import-path "$proto" -proto dockctl/v1/auth.proto -d @ \
        "$address" dockctl.v1.AuthService/Login <<<"$login" | jq -er .tokens.accessToken)
fi
export DOCKCTL_TOKEN
# Goes with reflection and with the call. grpcurl itself puts the token in, so that no list of processes shows it.
# shellcheck disable=SC2016
as=(-expand-headers -H 'authorization: Bearer ${DOCKCTL_TOKEN}')

grpcurl "${as[@]}" "$address" list
grpcurl "${as[@]}" "$address" describe dockctl.v1.ContainerService.StreamLogs

grpcurl "${as[@]}" -d '{"all": true}' "$address" dockctl.v1.ContainerService/ListContainers |
    jq -r '.containers[]? | "container \(.agent)/\(.name) \(.state)"'

request=$(jq -n --arg agent "$agent" --arg container "$container" '$ARGS.named + {follow: true}')
grpcurl "${as[@]}" -d "$request" "$address" dockctl.v1.ContainerService/StreamLogs |
    jq --unbuffered -rj '.records[]?.data | @base64d'
