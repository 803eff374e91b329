// `make deploy-function` runs this first. It reports what is not filled in, and what would make the Functions refuse
// everybody. The Functions themselves are the judges; nothing is sent anywhere.

const { readFileSync } = require('node:fs');

const problems = [];
const settings = {};

// Reads a file as Twilio's tools do (dotenv 6): no `export`, one line per setting, quotes only around the whole value.
function read(text) {
  text.split('\n').forEach((line, at) => {
    const found = line.match(/^\s*([\w.-]+)\s*=\s*(.*)?\s*$/);
    if (!found) {
      if (line.trim() && !line.trim().startsWith('#')) problems.push(`Line ${at + 1} is not NAME=value, and is ignored.`);
      return;
    }
    const [, name, value = ''] = found;
    const quote = /^["']/.test(value) ? value[0] : '';
    if (quote && !(value.length > 1 && value.endsWith(quote)) && !name.endsWith('_MESSAGE')) {
      problems.push(`${name}: close the quote at the end of the same line, with nothing after it.`);
    }
    const lines = quote === '"' && value.length > 1 && value.endsWith('"') ? value.replaceAll('\\n', '\n') : value;
    settings[name] = lines.replace(/(^['"]|['"]$)/g, '').trim();
  });
}

// What a Function logs with these settings, if anything.
function complaint(file, event) {
  const logged = [];
  const log = console.error;
  console.error = (text) => logged.push(text);
  try {
    require(file).handler(settings, event, () => {});
  } finally {
    console.error = log;
  }
  return logged[0];
}

const NAMES = () => Object.keys(settings).filter((name) => /^(ALLOWED_NUMBERS|FALLBACK_NUMBER)/.test(name));

function judge() {
  const url = settings.WEBHOOK_URL ?? '';
  const fix = "Set it to your server's PUBLIC_URL followed by /incoming-call.";
  if (/[<>]/.test(url)) {
    problems.push(`WEBHOOK_URL is still the example. ${fix}`);
  } else if (!/^https:\/\/[^/?#@\s]+\.[^?#@\s]+\/incoming-call(\s+#.*)?$/.test(url)) {
    problems.push(`WEBHOOK_URL is not https://.../incoming-call. ${fix}`);
  }
  settings.ALLOWED_NUMBERS ??= '';
  const withoutNotes = (name) => settings[name].replace(/#.*/g, '');
  NAMES().forEach((name) => {
    const text = withoutNotes(name).replace(/\s/g, '');
    if (text.includes('+1555') || name.includes('_1555')) {
      problems.push(`${name} is still an example: +1555... is nobody's number.`);
    } else if (name.startsWith('ALLOWED') && !/[0-9*]/.test(text)) {
      problems.push(`${name} is empty. Set it to the numbers that may call, or to * for everybody.`);
    }
  });
  if (problems.length > 0) return;
  const called = NAMES().map((name) => ({ To: `+${name.replace(/\D/g, '')}` }));
  const logged = called.map((event) => complaint('./allowlist-function.js', event));
  problems.push(...new Set([...logged, complaint('./fallback-function.js', {})].filter(Boolean)));
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
problems.forEach((problem) => console.error(`make deploy-function: twilio/.env: ${problem}`));
process.exitCode = problems.length > 0 ? 1 : 0;
module.exports = { settings };
