// Runs Twilio's runtime for a test: twilio-run with these settings, on a free port, called over HTTP.

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

/** Starts the runtime, runs `work` with it, and stops it. */
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
    await runtime.waitForLog(/No assets found\n/); // the last line it prints at start
    runtime.logged = '';
    return await work(runtime);
  } finally {
    child.kill('SIGKILL');
    await once(child, 'close');
    rmSync(folder, { recursive: true });
  }
}

/** Calls a Function without a runtime, for settings that no .env can express. Returns the TwiML and the log. */
export function called(file, settings, call) {
  const require = createRequire(import.meta.url);
  globalThis.Twilio = require('twilio');
  const { error } = console;
  let logged = '';
  console.error = (text) => (logged += text);
  try {
    let answer;
    require(`../${file}`).handler(settings, { request: {}, ...call }, (_, twiml) => (answer = twiml.toString()));
    return { twiml: answer.replace(DECLARATION, ''), logged };
  } finally {
    console.error = error;
  }
}

class Runtime {
  /** The Functions' log. */
  logged = '';

  constructor(port, child) {
    this.port = port;
    this.child = child;
    child.stderr.on('data', (text) => (this.logged += text));
  }

  /** Waits until the log matches. */
  async waitForLog(words) {
    const signal = AbortSignal.timeout(20_000);
    while (!words.test(this.logged)) {
      await once(this.child.stderr, 'data', { signal }).catch(() => {
        throw new Error(`${words} is not in the log: ${this.logged}`);
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
    if (!answer.headers.get('content-type').startsWith('text/xml')) throw new Error(`not TwiML: ${text}`);
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
