// node follow.js AGENT CONTAINER: logs in, lists containers and follows a log over gRPC-web.

import { readFileSync } from "node:fs";
import { createClient } from "@connectrpc/connect";
import { createGrpcWebTransport } from "@connectrpc/connect-node";
import { AuthService } from "./gen/dockctl/v1/auth_pb.js";
import { ContainerService } from "./gen/dockctl/v1/container_pb.js";

const [agent, container] = process.argv.slice(2);
const { DOCKCTL_URL, DOCKCTL_CA_FILE, DOCKCTL_USERNAME, DOCKCTL_PASSWORD } = process.env;

// An API token of `dockctl tokens create` needs no login.
let token = process.env.DOCKCTL_TOKEN;
const authorize = (next) => (request) => {
  if (token) request.header.set("authorization", `Bearer ${token}`);
  return next(request);
};
const transport = createGrpcWebTransport({
  baseUrl: DOCKCTL_URL,
  httpVersion: "2",
  nodeOptions: { ca: readFileSync(DOCKCTL_CA_FILE) },
  interceptors: [authorize],
});

const auth = createClient(AuthService, transport);
if (!token) {
  const login = await auth.login({ username: DOCKCTL_USERNAME, password: DOCKCTL_PASSWORD });
  token = login.tokens.accessToken;
}
console.log("user", (await auth.whoAmI({})).user.name);

const containers = createClient(ContainerService, transport);
const listed = await containers.listContainers({ all: true });
for (const { agent, name, state } of listed.containers) {
  console.log(`container ${agent}/${name} ${state}`);
}

for await (const batch of containers.streamLogs({ agent, container, follow: true })) {
  for (const { data } of batch.records) process.stdout.write(data);
}
