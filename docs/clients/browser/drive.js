// node drive.js PAGE AGENT CONTAINER: does in Chromium, without a window, what a person would do in the page.

import { createHash, X509Certificate } from "node:crypto";
import { readFileSync } from "node:fs";
import { chromium } from "playwright-core";

const [address, agent, container] = process.argv.slice(2);
const { DOCKCTL_URL, DOCKCTL_CA_FILE, DOCKCTL_USERNAME, DOCKCTL_PASSWORD } = process.env;

// A person would import the CA; here the browser is told its key.
const { publicKey } = new X509Certificate(readFileSync(DOCKCTL_CA_FILE));
const key = createHash("sha256").update(publicKey.export({ type: "spki", format: "der" }));
const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  args: [`--ignore-certificate-errors-spki-list=${key.digest("base64")}`],
});
try {
  const page = await browser.newPage();
  page.on("pageerror", (error) => console.error(error));
  page.on("console", (message) => console.error(message.text()));
  await page.goto(address);

  await page.fill("[name=url]", DOCKCTL_URL);
  await page.fill("[name=username]", DOCKCTL_USERNAME);
  await page.fill("[name=password]", DOCKCTL_PASSWORD);
  await page.click("text=Log in");
  const item = page.locator("li", { hasText: `container ${agent}/${container} ` });
  await item.waitFor();
  console.log(await page.textContent("#told"));
  for (const line of await page.locator("li").evaluateAll((all) => all.map((li) => li.firstChild.data))) {
    console.log(line.trim());
  }

  await item.getByText("Log").click();
  await item.getByText("Terminal").click();
  const shown = (text) => page.locator(".xterm-rows", { hasText: text }).waitFor();
  await shown("#");
  await page.keyboard.type("stty size; echo $((6 * 7)); exit 3\n");
  await shown("24 80");
  await shown("42");
  await shown("[exit code 3]");
  console.log("terminal 24 80, 42, exit code 3");

  const end = "[end of the log]\n";
  const log = page.locator("#log", { hasText: end });
  await log.waitFor({ timeout: 0 });
  process.stdout.write((await log.textContent()).replace(end, ""));
} finally {
  await browser.close();
}
