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

// An rpc of AuthService; throws what it refuses with.
async function auth(rpc, request) {
  const { ok, text } = await call(`/dockctl.v1.AuthService/${rpc}`, JSON.stringify(request), () => {});
  const answer = JSON.parse(text);
  if (!ok) throw new Error(answer.message);
  return answer;
}

// Shows how a login ends.
async function logIn(login) {
  const who = document.getElementById("who");
  try {
    const { tokens, user } = await login;
    token = tokens.accessToken;
    who.textContent = `logged in as ${user.name}`;
  } catch (error) {
    token = "";
    who.textContent = error.message;
  }
}

document.getElementById("login").addEventListener("submit", (event) => {
  event.preventDefault();
  const form = new FormData(event.target);
  logIn(auth("Login", { username: form.get("username"), password: form.get("password") }));
});

// With the OpenID provider: what only this page knows waits in the session's storage until the browser is back.
const page = `${location.origin}/docs`;
const base64url = (bytes) =>
  btoa(String.fromCharCode(...new Uint8Array(bytes))).replace(/\+/g, "-").replace(/\//g, "_").replace(/=/g, "");
const secret = () => base64url(crypto.getRandomValues(new Uint8Array(32)));

async function toProvider() {
  const login = { state: secret(), codeVerifier: secret() };
  const hash = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(login.codeVerifier));
  const request = { redirectUri: page, state: login.state, codeChallenge: base64url(hash) };
  const { authorizationUrl } = await auth("StartOidcLogin", request);
  sessionStorage.setItem("oidc", JSON.stringify(login));
  location.assign(authorizationUrl);
}

async function fromProvider(back) {
  const login = JSON.parse(sessionStorage.getItem("oidc"));
  sessionStorage.removeItem("oidc");
  if (login?.state !== back.get("state")) throw new Error("this is the answer to another login");
  if (back.has("error")) throw new Error(back.get("error_description") ?? back.get("error"));
  const request = { redirectUri: page, code: back.get("code"), codeVerifier: login.codeVerifier };
  return auth("FinishOidcLogin", request);
}

document.getElementById("oidc").addEventListener("click", () => {
  toProvider().catch((error) => { document.getElementById("who").textContent = error.message; });
});
auth("GetLoginOptions", {}).then(({ oidcIssuer }) => { document.getElementById("oidc").hidden = !oidcIssuer; });
const back = new URLSearchParams(location.search);
if (back.has("state")) {
  history.replaceState(null, "", page);
  logIn(fromProvider(back));
}

document.getElementById("find").addEventListener("input", (event) => {
  for (const details of document.querySelectorAll("details")) {
    details.hidden = !details.dataset.find.includes(event.target.value.toLowerCase());
  }
});

fetch("/openapi.json").then((answer) => answer.json()).then(show);
