"""follow.py AGENT CONTAINER: logs in, lists containers and follows a log over gRPC."""

import os
import sys
from urllib.parse import urlsplit

import grpc

from dockctl.v1 import auth_pb2, auth_pb2_grpc, container_pb2, container_pb2_grpc

agent, container = sys.argv[1:]
with open(os.environ["DOCKCTL_CA_FILE"], "rb") as file:
    tls = grpc.ssl_channel_credentials(root_certificates=file.read())

with grpc.secure_channel(urlsplit(os.environ["DOCKCTL_URL"]).netloc, tls) as channel:
    auth = auth_pb2_grpc.AuthServiceStub(channel)
    # An API token of `dockctl tokens create` needs no login.
    token = os.environ.get("DOCKCTL_TOKEN")
    if not token:
        login = auth_pb2.LoginRequest(
            username=os.environ["DOCKCTL_USERNAME"], password=os.environ["DOCKCTL_PASSWORD"]
        )
        token = auth.Login(login).tokens.access_token
    metadata = [("authorization", f"Bearer {token}")]
    print("user", auth.WhoAmI(auth_pb2.WhoAmIRequest(), metadata=metadata).user.name)

    containers = container_pb2_grpc.ContainerServiceStub(channel)
    listed = containers.ListContainers(
        container_pb2.ListContainersRequest(all=True), metadata=metadata, timeout=10
    )
    for one in listed.containers:
        print(f"container {one.agent}/{one.name} {one.state}")

    request = container_pb2.StreamLogsRequest(agent=agent, container=container, follow=True)
    try:
        for batch in containers.StreamLogs(request, metadata=metadata):
            for record in batch.records:
                print(record.data.decode(errors="replace"), end="", flush=True)
    except grpc.RpcError as error:
        sys.exit(f"{error.code().name}: {error.details()}")
