// The console in a real browser, with the real program and a simulated model.

import assert from "node:assert/strict";
import { mkdirSync } from "node:fs";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { createRequire } from "node:module";
import { PASSWORD, browse, open, root, serve, wav } from "./server.js";

const axe = await readFile(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const images = join(root, "docs/images");
/** Those that are kept. */
const IMAGES = ["assistants", "call", "call-phone", "health", "now"].map((name) => `console-${name}.png`);
const HOSTILE = `<img src=x onerror="alert(1)"><script>alert(2)</script>'"{{ 7 * 7 }}`;

const clinic = (more = "") => `
description: ${JSON.stringify(`The front desk. ${HOSTILE}`)}
numbers: ["+15550100001"]
voice: marin
instructions: You answer the phone of a dental clinic. It is {{ now }}. {{ caller.spoken }}
greeting: { say: "Hello, how can I help you today?" }
call_control: { end_call: true, transfer_to: { desk: { number: "+15550100009" } } }
record: { audio: true }
recording_notice: This call is recorded.
${more}`;

let server;
let browser;

before(async () => {
  server = await serve({
    "assistants/clinic.yaml": clinic(),
    "assistants/pizzeria.yaml": 'numbers: ["+15550100002"]\ninstructions: You take orders.\n',
  });
  // The caller listens to the greeting, speaks, and speaks again while the assistant answers.
  const words = await readFile(join(root, "crates/simulator/src/speech/heard.ulaw"));
  const microphone = join(server.folder, "caller.wav");
  await writeFile(microphone, wav([6_000, words.subarray(0, 1_900 * 8), 4_500, words.subarray(0, 1_900 * 8), 60_000]));
  browser = await browse(microphone);
});

after(async () => {
  await browser?.close();
  await server?.stop();
});

async function record(path = "") {
  const answer = await fetch(`${server.url}/api/calls${path}`, { headers: { Authorization: "Bearer a-token-for-reading" } });
  assert.equal(answer.status, 200);
  return answer.json();
}

/** Nothing that a screen reader or a narrow screen would trip over. */
async function examine(page, name) {
  for (const width of [1_400, 380]) {
    await page.setViewportSize({ width, height: 900 });
    const tooWide = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
    assert.ok(tooWide <= 0, `${name} is ${tooWide} pixels too wide at ${width}`);
    for (const scheme of ["light", "dark"]) {
      await page.emulateMedia({ colorScheme: scheme });
      // Playwright's own channel: the page's policy lets no such script in.
      await page.evaluate(axe);
      const { violations } = await page.evaluate(() => window.axe.run(document, { resultTypes: ["violations"] }));
      const found = violations.map((it) => `${it.id}: ${it.nodes.map((node) => node.html).join(" ")}`);
      assert.deepEqual(found, [], `${name}, ${width} pixels, ${scheme}`);
      if (process.env.UPDATE_IMAGES) {
        mkdirSync(images, { recursive: true });
        const image = `console-${name}${width === 380 ? "-phone" : ""}.png`;
        const used = scheme === (width === 380 ? "dark" : "light") && IMAGES.includes(image);
        if (used) await page.screenshot({ path: join(images, image) });
      }
    }
  }
  await page.setViewportSize({ width: 1_400, height: 900 });
  await page.emulateMedia({ colorScheme: "light" });
}

test("nobody gets in without the password", async () => {
  const context = await browser.newContext();
  const page = await context.newPage();
  for (const path of ["", "calls", "assistants", "messages", "health", "talk"]) {
    await page.goto(`${server.url}/console/${path}`);
    assert.ok(page.url().includes("/console/login"), path);
  }
  await page.getByLabel("Password").fill("a guess");
  await page.getByRole("button", { name: "Log in" }).click();
  await page.getByRole("alert").waitFor();
  await examine(page, "login");
  await context.close();
});

test("an owner talks to an assistant, interrupts it, watches the call, and reads its record", async () => {
  const page = await open(browser, server);
  await page.goto(`${server.url}/console/talk`);
  await page.getByLabel("Assistant").selectOption("clinic");
  await page.getByRole("button", { name: "Call", exact: true }).click();
  await page.getByText("Connected.").waitFor();
  // On another page, the call is seen as it happens.
  const now = await page.context().newPage();
  await now.goto(`${server.url}/console/`);
  const row = now.getByRole("link", { name: "clinic" });
  await row.waitFor();
  await row.click();
  await now.locator(".turn-assistant").getByText("Hello, how can I help you today?").waitFor();
  await examine(now, "now-call");
  // The caller has spoken twice, the second time over the assistant's voice.
  await page.locator("#phone-transcript .turn-caller").nth(1).waitFor({ timeout: 40_000 });
  await page.keyboard.press("5");
  if (process.env.UPDATE_IMAGES) await page.screenshot({ path: join(images, "console-talking.png") });
  await page.getByRole("button", { name: "Hang up" }).click();
  await page.getByText("You hung up.").waitFor();
  await now.getByText(/The call is over/).waitFor();
  await examine(page, "talk");

  const heard = Number(await page.locator("#phone").getAttribute("data-heard-ms"));
  let call;
  for (let tries = 0; tries < 50 && !call?.reason; tries++) {
    const { calls } = await record();
    if (calls[0]) call = await record(`/${calls[0].id}`);
    if (!call?.reason) await new Promise((resolve) => setTimeout(resolve, 200));
  }
  assert.equal(call.reason, "caller.hung_up");
  assert.equal(call.test, true);
  assert.equal(call.simulated, true);
  assert.equal(call.interruptions, 1);
  const spoken = call.turns.filter((turn) => turn.who === "assistant");
  const sum = spoken.reduce((sum, turn) => sum + turn.heard_ms, 0);
  // The record counts until the hang-up, the page until the last mark or clear before it.
  assert.ok(Math.abs(sum - heard) < 600, `the record says ${sum} ms, the phone heard ${heard} ms`);
  const cut = spoken.find((turn) => turn.interrupted);
  assert.ok(cut.heard_ms < cut.sent_ms, JSON.stringify(cut));

  await page.goto(`${server.url}/console/calls`);
  await examine(page, "calls");
  await page.locator(".call-row a").first().click();
  await page.locator("svg.timeline").waitFor();
  assert.ok((await page.locator("svg.timeline .span-assistant").count()) > 0);
  assert.ok((await page.locator(".conversation .unheard").count()) > 0, "what was cut is shown as not heard");
  await examine(page, "call");
  // A click on the timeline plays the recording from there.
  await page.locator("svg.timeline .span-caller").first().click();
  const from = await page.locator("#player").evaluate((player) => player.currentTime);
  assert.ok(from > 3, `${from}`);
  assert.deepEqual(page.problems, []);
  await page.context().close();
});

test("a rejected edit is shown with its place, live", async () => {
  const page = await open(browser, server);
  await page.goto(`${server.url}/console/assistants`);
  await server.write("assistants/pizzeria.yaml", 'numbers: ["+15550100002"]\ninstructions: You take orders.\nvoise: marin\n');
  await page.getByText("pizzeria.yaml").waitFor();
  const shown = await page.locator(".problem").first().innerText();
  assert.match(shown, /pizzeria\.yaml, line 3, column 1/);
  assert.match(shown, /voise/);
  await examine(page, "assistants");
  await server.write("assistants/pizzeria.yaml", 'numbers: ["+15550100002"]\ninstructions: You take orders.\nvoice: marin\n');
  await page.locator(".problem").first().waitFor({ state: "detached" });
  assert.deepEqual(page.problems, []);
  await page.context().close();
});

test("hostile words are only words", async () => {
  const page = await open(browser, server);
  const dialogs = [];
  page.on("dialog", (dialog) => {
    dialogs.push(dialog.message());
    dialog.dismiss();
  });
  await page.goto(`${server.url}/console/assistants`);
  await page.getByText("<script>alert(2)</script>").first().waitFor();
  await page.getByRole("link", { name: "clinic" }).click();
  await page.getByText("You answer the phone of a dental clinic").waitFor();
  await examine(page, "assistant");
  await page.goto(`${server.url}/console/calls`);
  for (const label of ["Words", "Caller's number"]) {
    await page.getByLabel(label).fill(HOSTILE);
    await page.getByRole("button", { name: "Search" }).click();
    await page.waitForLoadState();
    assert.equal(new URL(page.url()).search, "", "nothing is in the address");
  }
  assert.ok((await page.content()).includes("{{ 7 * 7 }}"), "no template runs");
  assert.deepEqual(dialogs, []);
  assert.deepEqual(page.problems.filter((problem) => !problem.includes("400")), []);
  assert.ok(!server.log().includes("onerror"), "no word is in the log");
  await page.context().close();
});

test("every page is whole without JavaScript", async () => {
  const context = await browser.newContext({ javaScriptEnabled: false });
  const page = await context.newPage();
  await page.goto(`${server.url}/console/`);
  await page.getByLabel("Password").fill(PASSWORD);
  await page.getByRole("button", { name: "Log in" }).click();
  for (const name of ["Now", "Calls", "Assistants", "Messages", "Health", "Talk"]) {
    await page.getByRole("link", { name, exact: true }).click();
    await page.getByRole("heading", { name, level: 1 }).waitFor();
  }
  await context.close();
});

test("messages and health are whole", async () => {
  const page = await open(browser, server);
  for (const name of ["messages", "health"]) {
    await page.goto(`${server.url}/console/${name}`);
    await examine(page, name);
  }
  await page.goto(`${server.url}/console/`);
  await examine(page, "now");
  assert.deepEqual(page.problems, []);
  await page.context().close();
});
