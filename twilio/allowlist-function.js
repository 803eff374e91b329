// Decides who may call. Twilio asks this Function first, before the server hears of the call.
//
// Settings (README.md explains them):
//   WEBHOOK_URL                   where allowed calls go: the server's public address + /incoming-call
//   ALLOWED_NUMBERS               who may call: +15550100100, +44*, or * for everybody
//   ALLOWED_NUMBERS_15550100001   replaces ALLOWED_NUMBERS for calls to +15550100001
//   REJECT_MESSAGE                what a refused caller hears; without it the call is never answered
//   MESSAGE_LANGUAGE              the language of that sentence, such as de-DE; without it your account's voice
//
// A missing or invalid setting refuses everybody. The Function's log names the setting, never the caller.

exports.handler = function (context, event, callback) {
  const answer = new Twilio.twiml.VoiceResponse();
  try {
    const webhook = webhookUrl(context.WEBHOOK_URL);
    if (isAllowed(event.From, allowedNumbers(context, event.To))) {
      answer.redirect({ method: 'POST' }, webhook);
      return callback(null, answer);
    }
  } catch (problem) {
    console.error(`Refusing every call: ${problem.message}`);
  }
  const message = (context.REJECT_MESSAGE || '').replace(UNSPEAKABLE, ' ').trim();
  if (SPEAKABLE.test(message)) {
    const language = locale(context.MESSAGE_LANGUAGE);
    answer.say(language ? { language } : {}, message);
    answer.hangup();
  } else {
    answer.reject();
  }
  callback(null, answer);
};

const NUMBER = /^\+[1-9][0-9]{6,14}$/;
const PREFIX = /^\+[1-9][0-9]{0,13}\*$/;
// Withheld numbers that look like numbers: "anonymous" and similar words on a phone's keypad, after + or +1. The server
// has the same list, in src/phone.rs.
const WITHHELD = ['266696687', '8656696', '86282452253', '2562533', '7378742833'];
// Twilio says nothing at all if a text has neither.
const SPEAKABLE = /[\p{L}\p{N}]/u;
// Characters that XML cannot contain.
const UNSPEAKABLE = /[\p{Cc}\p{Cs}\uFFFE\uFFFF]/gu;

// Only * admits a withheld number, a SIP address, or anything else that is not a phone number.
function isAllowed(caller, allowed) {
  if (allowed.includes('*')) return true;
  if (typeof caller !== 'string' || !NUMBER.test(caller) || isWithheld(caller)) return false;
  return allowed.some((entry) =>
    entry.endsWith('*') ? caller.startsWith(entry.slice(0, -1)) : caller === entry
  );
}

function isWithheld(number) {
  return WITHHELD.includes(number.replace(/^\+1?/, ''));
}

// The locale in which Twilio speaks. A language alone stands for its first one.
function locale(setting) {
  const written = (setting || '').replace(/#.*/s, '').trim(); // a note after #
  const full = FIRST[written] || written;
  return /^[a-z]{2,3}-[A-Z]{2}$/.test(full) ? full : ''; // the fallback Function reports a wrong one
}

const FIRST = { en: 'en-US', de: 'de-DE', fr: 'fr-FR', es: 'es-ES', it: 'it-IT', pt: 'pt-BR', nl: 'nl-NL', pl: 'pl-PL' };

// The list for calls to this number.
function allowedNumbers(context, called) {
  const invalid = Object.keys(context).find(
    (name) => name.startsWith('ALLOWED_NUMBERS_') && !NUMBER.test(name.replace('ALLOWED_NUMBERS_', '+'))
  );
  if (invalid) {
    throw new Error(`${invalid} is not a valid name. After ALLOWED_NUMBERS_ write a number's digits, country code first.`);
  }
  const own = typeof called === 'string' && NUMBER.test(called) ? `ALLOWED_NUMBERS_${called.slice(1)}` : '';
  const name = typeof context[own] === 'string' ? own : 'ALLOWED_NUMBERS';
  const entries = (context[name] || '')
    .split(/[\r\n]/)
    .map((line) => line.split('#')[0]) // a note: from # to the end of the line
    .flatMap((line) => line.split(','))
    .map((entry) => entry.replace(/[\s\p{Cf}]/gu, '')) // spaces, and invisible characters that copying brings along
    .filter((entry) => entry !== '');
  if (entries.length === 0) throw new Error(`${name} is empty. Set it to numbers such as +15550100100, or to *.`);
  entries.forEach((entry, at) => {
    if (entry !== '*' && !NUMBER.test(entry) && !PREFIX.test(entry)) {
      throw new Error(`Entry ${at + 1} of ${name} is not a number (+15550100100), a prefix (+44*) or *.`);
    }
  });
  return entries;
}

// Rejects every address that cannot be right: a wrong one would misdirect every caller.
function webhookUrl(setting) {
  const text = (setting || '').replace(/\s#.*/s, ''); // a note: from # to the end, after a space
  const url = URL.canParse(text) ? new URL(text) : null;
  const web = url && ['http:', 'https:'].includes(url.protocol);
  const local = web && ['localhost', '127.0.0.1', '[::1]'].includes(url.hostname); // for trying it out
  const remote = url && url.protocol === 'https:' && /^[a-z0-9-]+(\.[a-z0-9-]+)+$/.test(url.hostname);
  if (!local && !remote) {
    throw new Error('WEBHOOK_URL is not an address such as https://phone.example.com/incoming-call.');
  }
  if (!url.pathname.endsWith('/incoming-call') || url.search || url.hash || url.username || url.password) {
    throw new Error('WEBHOOK_URL must end with /incoming-call and contain no password, no ? and no #.');
  }
  return url.href;
}
