// node drive.js PAGE SUBJECT yes|no: does in Chromium, without a window, what a person does who logs in. PAGE is the
// controller's /docs, or the page that a device's user is sent to. Prints what the person reads at the end.

import { createHash, X509Certificate } from "node:crypto";
import { readFileSync } from "node:fs";
import { chromium } from "playwright-core";

const [address, subject, answer] = process.argv.slice(2);
const { publicKey } = new X509Certificate(readFileSync(process.env.DOCKCTL_CA_FILE));
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
  const isDocs = new URL(address).pathname === "/docs";
  if (isDocs) {
    await page.click("button:text('Log in with OpenID')");
  } else {
    await page.click("button:text('Continue')");
  }
  await page.fill("[name=login]", subject);
  await page.fill("[name=password]", "any");
  await page.click("button:text('Sign-in')");
  await page.click(answer === "yes" ? "button:text('Continue')" : "a:text('Cancel')");
  if (isDocs) {
    const who = page.locator("#who:not(:text('not logged in'))");
    console.log(await who.textContent());
    const whoAmI = page.locator("details", { has: page.locator("code:text-is('WhoAmI')") });
    await whoAmI.locator("summary").click();
    await whoAmI.getByText("Send").click();
    const told = whoAmI.locator("pre:text-matches('^[0-9]{3}')");
    console.log(await told.textContent());
  } else {
    await page.waitForLoadState();
    console.log(await page.textContent("h1"));
  }
} finally {
  await browser.close();
}
