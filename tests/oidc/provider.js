// node provider.js ISSUER PEOPLE REDIRECT: a certified OpenID provider with one client, "dockctl". PEOPLE is a JSON
// file, read again for each login: {"subject": {claims…}}. Whoever types a subject and any password is that person.

import { readFileSync } from "node:fs";
import { Provider } from "oidc-provider";

const [issuer, people, redirect] = process.argv.slice(2);
const claims = (subject) => JSON.parse(readFileSync(people, "utf8"))[subject];

const provider = new Provider(issuer, {
  clients: [{
    client_id: "dockctl",
    client_secret: process.env.CLIENT_SECRET,
    redirect_uris: [redirect],
    grant_types: ["authorization_code", "urn:ietf:params:oauth:grant-type:device_code"],
  }],
  claims: { openid: ["sub"], profile: ["preferred_username", "groups"], email: ["email", "email_verified"] },
  features: { deviceFlow: { enabled: true }, devInteractions: { enabled: true } },
  findAccount: (_, subject) =>
    claims(subject) && { accountId: subject, claims: () => ({ sub: subject, ...claims(subject) }) },
});
const { hostname, port } = new URL(issuer);
provider.listen(Number(port), hostname, () => console.log("ready"));
