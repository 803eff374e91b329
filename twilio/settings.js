// `make deploy-function` runs this first: what of .env is not filled in, or would have the Functions refuse everybody.
// The Functions themselves judge; nothing is sent anywhere.

const { readFileSync } = require('node:fs');

const problems = [];
const settings = {};

// A file as Twilio's tools read it (dotenv 6): no `export`, one line for a setting, quotes only around the whole value.
function read(text) {
  text.split('\n').forEach((line, at) => {
    const found = line.match(/^\s*([\w.-]+)\s*=\s*(.*)?\s*$/);
    if (!found) {
      if (line.trim() && !line.trim().startsWith('#')) problems.push(`line ${at + 1} is no NAME=value, and is not read`);
      return;
    }
    const [, name, value = ''] = found;
    const quote = /^["']/.test(value) ? value[0] : '';
    if (quote && !(value.length > 1 && value.endsWith(quote)) && !name.endsWith('_MESSAGE')) {
      problems.push(`${name}: a quote that begins its value ends it as well, on the same line and with nothing behind it`);
    }
    const lines = quote === '"' && value.length > 1 && value.endsWith('"') ? value.replaceAll('\\n', '\n') : value;
    settings[name] = lines.replace(/(^['"]|['"]$)/g, '').trim();
  });
}

// What a Function complains about in its log.
function complaint(file, event) {
  const said = [];
  const log = console.error;
  console.error = (text) => said.push(text.replace(/^.*?: /, ''));
  try {
    require(file).handler(settings, event, () => {});
  } finally {
    console.error = log;
  }
  return said[0];
}

const NAMES = () => Object.keys(settings).filter((name) => /^(ALLOWED_NUMBERS|FALLBACK_NUMBER)/.test(name));

function judge() {
  const url = settings.WEBHOOK_URL ?? '';
  const where = 'set it to the PUBLIC_URL of your server, and /incoming-call';
  if (/[<>]/.test(url)) {
    problems.push(`WEBHOOK_URL is still the example: ${where}`);
  } else if (!/^https:\/\/[^/?#@\s]+\.[^?#@\s]+\/incoming-call(\s+#.*)?$/.test(url)) {
    problems.push(`WEBHOOK_URL is not https://.../incoming-call: ${where}`);
  }
  settings.ALLOWED_NUMBERS ??= '';
  const withoutNotes = (name) => settings[name].replace(/#.*/g, '');
  NAMES().forEach((name) => {
    const text = withoutNotes(name).replace(/\s/g, '');
    if (text.includes('+1555') || name.includes('_1555')) {
      problems.push(`${name} is still an example: +1555... is the number of nobody`);
    } else if (name.startsWith('ALLOWED') && !/[0-9*]/.test(text)) {
      problems.push(`${name} names nobody: set it to the numbers that may ring, or to * for everybody`);
    }
  });
  if (problems.length > 0) return;
  const called = NAMES().map((name) => ({ To: `+${name.replace(/\D/g, '')}` }));
  const said = called.map((event) => complaint('./allowlist-function.js', event));
  problems.push(...new Set([...said, complaint('./fallback-function.js', {})].filter(Boolean)));
}

class VoiceResponse {
  redirect() {}
  reject() {}
  say() {}
  dial() {}
  hangup() {}
}
global.Twilio = { twiml: { VoiceResponse } };

read(readFileSync(process.argv[2], 'utf8'));
judge();
problems.forEach((problem) => console.error(`make deploy-function: in twilio/.env, ${problem}`));
process.exitCode = problems.length > 0 ? 1 : 0;
module.exports = { settings };
