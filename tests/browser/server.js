// The real program with a folder of its own, a simulated model, and a real browser.

import { spawn } from "node:child_process";
import { mkdtemp, mkdir, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { existsSync } from "node:fs";
import { chromium } from "playwright-core";

export const root = fileURLToPath(new URL("../..", import.meta.url));
export const PASSWORD = "correct horse battery staple";

/** The browser of the system. */
const BROWSER = process.env.CHROMIUM ?? ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"].find(existsSync);

async function freePort() {
  const server = createServer();
  await new Promise((listening) => server.listen(0, "127.0.0.1", listening));
  const { port } = server.address();
  await new Promise((closed) => server.close(closed));
  return port;
}

/** Starts the program with these files. */
export async function serve(files) {
  const folder = await mkdtemp(join(tmpdir(), "switchboard-browser-"));
  for (const [name, text] of Object.entries(files)) {
    await mkdir(join(folder, name, ".."), { recursive: true });
    await writeFile(join(folder, name), text);
  }
  const port = await freePort();
  const program = process.env.SWITCHBOARD ?? join(root, "target/debug/switchboard");
  const child = spawn(program, ["serve", "--console", "--simulate"], {
    cwd: folder,
    env: {
      PATH: process.env.PATH,
      HOST: "127.0.0.1",
      PORT: String(port),
      CONSOLE_PASSWORD: PASSWORD,
      API_TOKEN: "a-token-for-reading",
      STATE_DIR: join(folder, "state"),
      LOG_FORMAT: "json",
    },
    stdio: ["ignore", "pipe", "pipe"],
  });
  const log = [];
  const ready = new Promise((resolve, reject) => {
    const read = (data) => {
      log.push(String(data));
      if (log.join("").includes(`"address"`)) resolve();
    };
    child.stdout.on("data", read);
    child.stderr.on("data", read);
    child.on("exit", () => reject(new Error(`the program ended:\n${log.join("")}`)));
  });
  await ready;
  return {
    url: `http://localhost:${port}`,
    folder,
    log: () => log.join(""),
    write: (name, text) => writeFile(join(folder, name), text),
    async stop() {
      const ended = new Promise((resolve) => child.on("exit", resolve));
      child.removeAllListeners("exit");
      child.on("exit", () => {});
      const over = new Promise((resolve) => child.once("exit", resolve));
      child.kill("SIGKILL");
      await Promise.race([over, ended]);
      await rm(folder, { recursive: true, force: true });
    },
  };
}

/** A browser whose microphone plays this WAV file, once. */
export async function browse(microphone) {
  if (!BROWSER) throw new Error("these tests need Chromium: on Debian, `apt-get install chromium`");
  const sound = microphone ? [`--use-file-for-fake-audio-capture=${microphone}%noloop`] : [];
  return chromium.launch({
    executablePath: BROWSER,
    args: [
      "--no-sandbox",
      "--use-fake-device-for-media-stream",
      "--use-fake-ui-for-media-stream",
      "--autoplay-policy=no-user-gesture-required",
      ...sound,
    ],
  });
}

/** A page that is logged in. */
export async function open(browser, server, options = {}) {
  const context = await browser.newContext({ viewport: { width: 1400, height: 900 }, permissions: ["microphone"], ...options });
  const page = await context.newPage();
  const problems = [];
  page.on("console", (message) => message.type() === "error" && problems.push(`${message.text()} ${message.location().url}`));
  page.on("pageerror", (error) => problems.push(String(error)));
  page.problems = problems;
  await page.goto(`${server.url}/console/`);
  await page.getByLabel("Password").fill(PASSWORD);
  await page.getByRole("button", { name: "Log in" }).click();
  await page.getByRole("heading", { name: "Now", level: 1 }).waitFor();
  return page;
}

/** A WAV file of μ-law clips of the simulator, with silence of so many milliseconds between them. */
export function wav(parts) {
  const samples = [];
  for (const part of parts) {
    if (typeof part === "number") for (let n = 0; n < part * 8; n++) samples.push(0);
    else for (const byte of part) samples.push(linear(byte));
  }
  const data = Buffer.alloc(44 + samples.length * 2);
  data.write("RIFF", 0);
  data.writeUInt32LE(36 + samples.length * 2, 4);
  data.write("WAVEfmt ", 8);
  data.writeUInt32LE(16, 16);
  data.writeUInt16LE(1, 20);
  data.writeUInt16LE(1, 22);
  data.writeUInt32LE(8_000, 24);
  data.writeUInt32LE(16_000, 28);
  data.writeUInt16LE(2, 32);
  data.writeUInt16LE(16, 34);
  data.write("data", 36);
  data.writeUInt32LE(samples.length * 2, 40);
  samples.forEach((sample, at) => data.writeInt16LE(sample, 44 + at * 2));
  return data;
}

function linear(ulaw) {
  const bits = ~ulaw & 0xff;
  const magnitude = ((((bits & 0x0f) << 3) + 0x84) << ((bits & 0x70) >> 4)) - 0x84;
  return bits & 0x80 ? -magnitude : magnitude;
}
