// A page that logs in, lists containers, follows a log and opens a terminal in a container. Calls are gRPC-web;
// the terminal, which goes both ways, is a WebSocket.

import { create, fromJson, toJsonString } from "@bufbuild/protobuf";
import { createClient } from "@connectrpc/connect";
import { createGrpcWebTransport } from "@connectrpc/connect-web";
import { Terminal } from "@xterm/xterm";
import "@xterm/xterm/css/xterm.css";
import { AuthService } from "./gen/dockctl/v1/auth_pb.js";
import { ContainerService } from "./gen/dockctl/v1/container_pb.js";
import { ExecRequestSchema, ExecResponseSchema } from "./gen/dockctl/v1/exec_pb.js";

const [form, told, list, log, screen] = ["login", "told", "containers", "log", "terminal"].map(
  (id) => document.getElementById(id),
);
let url, token, auth, containers;

// What fails is told in the page.
const telling = (action) => (event) => {
  event.preventDefault();
  action(event).catch((error) => (told.textContent = error.message));
};

form.addEventListener("submit", telling(async () => {
  const { username, password, ...to } = Object.fromEntries(new FormData(form));
  url = to.url.replace(/\/$/, "");
  const authorize = (next) => (request) => {
    if (token) request.header.set("authorization", `Bearer ${token}`);
    return next(request);
  };
  const transport = createGrpcWebTransport({ baseUrl: url, interceptors: [authorize] });
  auth = createClient(AuthService, transport);
  containers = createClient(ContainerService, transport);
  const login = await auth.login({ username, password });
  token = login.tokens.accessToken;
  told.textContent = `user ${login.user.name}`;
  await show();
}));

async function show() {
  const listed = await containers.listContainers({ all: true });
  list.replaceChildren(...listed.containers.map(({ agent, name, state }) => {
    const item = document.createElement("li");
    item.append(`container ${agent}/${name} ${state} `);
    for (const [word, action] of [["Log", follow], ["Terminal", open]]) {
      const button = document.createElement("button");
      button.textContent = word;
      button.addEventListener("click", telling(() => action(agent, name)));
      item.append(button);
    }
    return item;
  }));
}

async function follow(agent, container) {
  const decoder = new TextDecoder();
  log.textContent = "";
  for await (const { records } of containers.streamLogs({ agent, container, follow: true })) {
    for (const { data } of records) log.append(decoder.decode(data, { stream: true }));
  }
  log.append("[end of the log]\n");
}

async function open(agent, container) {
  screen.replaceChildren();
  const terminal = new Terminal({ rows: 24, cols: 80 });
  terminal.open(screen);
  terminal.focus();

  // A page cannot send its token with a WebSocket: it gets a ticket, which is good for 30 s and once.
  const { ticket } = await auth.createTicket({});
  const address = `${url.replace(/^http/, "ws")}/ws/dockctl.v1.ExecService/Exec?ticket=${ticket}`;
  const socket = new WebSocket(address);
  const send = (message) =>
    socket.send(toJsonString(ExecRequestSchema, create(ExecRequestSchema, message)));

  socket.onopen = () => {
    const size = { rows: terminal.rows, columns: terminal.cols };
    const start = { command: ["sh"], tty: true, interactive: true, size };
    send({ agent, container, input: { case: "start", value: start } });
    const encoder = new TextEncoder();
    terminal.onData((keys) => send({ input: { case: "stdin", value: encoder.encode(keys) } }));
  };
  socket.onmessage = ({ data }) => {
    const message = JSON.parse(data);
    if (message.error) return; // Comes again with the close frame.
    const { output } = fromJson(ExecResponseSchema, message);
    if (output.case === "stdout") terminal.write(output.value);
    if (output.case === "exitCode") terminal.write(`\r\n[exit code ${output.value}]`);
  };
  // 1000 is a good end, else 4000 and the gRPC code.
  socket.onclose = ({ code, reason }) => {
    if (code !== 1000) terminal.write(`\r\n[${code} ${reason}]`);
  };
}
