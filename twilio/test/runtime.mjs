// A Twilio runtime of its own for a test: twilio-run with these settings, on a free port, called over HTTP.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const DECLARATION = '<?xml version="1.0" encoding="UTF-8"?>';
const PROJECT = fileURLToPath(new URL('..', import.meta.url));

/** Starts the runtime, lets `work` ask it, and ends it. */
export async function withRuntime(settings, work) {
  const folder = mkdtempSync(join(tmpdir(), 'functions-'));
  const env = join(folder, '.env');
  // Between double quotes, Twilio's reader of .env turns \n into a new line.
  const line = ([name, value]) => `${name}="${value.replaceAll('\n', '\\n')}"\n`;
  writeFileSync(env, Object.entries(settings).map(line).join(''));
  const port = await freePort();
  const script = join(PROJECT, 'node_modules/twilio-run/bin/twilio-run.js');
  const flags = ['start', '--cwd', PROJECT, '--env', env, '--port', String(port), '--no-fork-process', '--no-logs'];
  const child = spawn(process.execPath, [script, ...flags], { stdio: ['ignore', 'ignore', 'pipe'] });
  const runtime = new Runtime(port, child);
  try {
    await runtime.hears(/No assets found\n/); // the last line of its greeting
    runtime.said = '';
    return await work(runtime);
  } finally {
    child.kill('SIGKILL');
    await once(child, 'close');
    rmSync(folder, { recursive: true });
  }
}

/** The same without a runtime, for settings that no .env can hold: the TwiML, and what was logged. */
export function called(file, settings, call) {
  const require = createRequire(import.meta.url);
  globalThis.Twilio = require('twilio');
  const { error } = console;
  let said = '';
  console.error = (text) => (said += text);
  try {
    let answer;
    require(`../${file}`).handler(settings, { request: {}, ...call }, (_, twiml) => (answer = twiml.toString()));
    return { twiml: answer.replace(DECLARATION, ''), said };
  } finally {
    console.error = error;
  }
}

class Runtime {
  /** What the Functions have logged. */
  said = '';

  constructor(port, child) {
    this.port = port;
    this.child = child;
    child.stderr.on('data', (text) => (this.said += text));
  }

  /** Waits for these words in the log. */
  async hears(words) {
    const signal = AbortSignal.timeout(20_000);
    while (!words.test(this.said)) {
      await once(this.child.stderr, 'data', { signal }).catch(() => {
        throw new Error(`${words} is not in the log: ${this.said}`);
      });
    }
  }

  /** The TwiML for a call, POSTed as Twilio does. `call`: an object, a raw body, or with `get` a raw query. */
  async ask(path, { call = {}, get = false, type = 'application/x-www-form-urlencoded' } = {}) {
    const body = typeof call === 'string' ? call : new URLSearchParams(call).toString();
    const url = `http://127.0.0.1:${this.port}${path}`;
    const signal = AbortSignal.timeout(20_000);
    const post = { method: 'POST', body, headers: { 'content-type': type }, signal };
    const answer = get ? await fetch(`${url}?${body}`, { signal }) : await fetch(url, post);
    const text = await answer.text();
    if (answer.status !== 200) throw new Error(`status ${answer.status}: ${text}`);
    if (!answer.headers.get('content-type').startsWith('text/xml')) throw new Error(`no TwiML: ${text}`);
    return text.replace(DECLARATION, '');
  }
}

async function freePort() {
  const server = createServer().listen(0);
  await once(server, 'listening');
  const { port } = server.address();
  server.close();
  await once(server, 'close');
  return port;
}
