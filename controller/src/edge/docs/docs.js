// The page at /docs: shows openapi.json and tries its calls. The token stays in this page's memory.
"use strict";

let token = "";

function element(name, text = "") {
  const made = document.createElement(name);
  made.textContent = text;
  return made;
}

async function call(path, body, onLine, signal) {
  const headers = { "content-type": "application/json" };
  if (token) headers.authorization = `Bearer ${token}`;
  const answer = await fetch(path, { method: "POST", headers, body, signal });
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    text += value;
    if (text.length > 200000) text = text.slice(-100000);
    onLine(answer.status, text);
  }
  onLine(answer.status, text);
  return { ok: answer.ok, text };
}

// What a request may hold, as a text to begin with.
function example(schemas, reference) {
  const name = reference.$ref?.split("/").pop();
  const fields = schemas[name]?.properties ?? {};
  const told = Object.entries(fields).map(([field, schema]) => `  ${field}: ${schema.description ?? ""}`);
  return told.join("\n");
}

function show(openapi) {
  const schemas = openapi.components.schemas;
  for (const tag of openapi.tags) {
    const section = document.createElement("section");
    section.append(element("h2", tag.name), element("p", tag.description));
    for (const [path, { post }] of Object.entries(openapi.paths)) {
      if (post.tags[0] !== tag.name) continue;
      const details = document.createElement("details");
      details.dataset.find = `${path} ${post.description}`.toLowerCase();
      const summary = document.createElement("summary");
      summary.append(element("code", path.split("/").pop()), ` ${post.summary}`);
      const request = element("textarea", "{}");
      request.setAttribute("aria-label", `request of ${path}`);
      const send = element("button", "Send");
      const stop = element("button", "Stop");
      stop.disabled = true;
      const answer = document.createElement("pre");
      const schema = post.requestBody.content["application/json"].schema;
      send.addEventListener("click", async () => {
        const running = new AbortController();
        stop.disabled = false;
        stop.onclick = () => running.abort();
        try {
          await call(path, request.value, (status, text) => { answer.textContent = `${status}\n${text}`; }, running.signal);
        } catch (error) {
          answer.append(`\n${error.message}`);
        }
        stop.disabled = true;
      });
      details.append(summary, element("p", post.description), element("pre", example(schemas, schema)), request, send, stop, answer);
      section.append(details);
    }
    document.getElementById("calls").append(section);
  }
}

document.getElementById("login").addEventListener("submit", async (event) => {
  event.preventDefault();
  const form = new FormData(event.target);
  const login = { username: form.get("username"), password: form.get("password") };
  const { ok, text } = await call("/dockctl.v1.AuthService/Login", JSON.stringify(login), () => {});
  const answer = JSON.parse(text);
  token = ok ? answer.tokens.accessToken : "";
  document.getElementById("who").textContent = ok ? `logged in as ${answer.user.name}` : answer.message;
});

document.getElementById("find").addEventListener("input", (event) => {
  for (const details of document.querySelectorAll("details")) {
    details.hidden = !details.dataset.find.includes(event.target.value.toLowerCase());
  }
});

fetch("/openapi.json").then((answer) => answer.json()).then(show);
