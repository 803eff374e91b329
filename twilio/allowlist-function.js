// Who may ring. Twilio asks this Function first, for every call; nothing else of ours has heard of the call yet.
//
// Its settings, which README.md explains:
//   WEBHOOK_URL                   where allowed calls go: the server's public address + /incoming-call
//   ALLOWED_NUMBERS               who may ring: +15550100100, +44*, or * for everybody
//   ALLOWED_NUMBERS_15550100001   the same, for calls to +15550100001 only, and then instead of ALLOWED_NUMBERS
//   REJECT_MESSAGE                what a refused caller hears; without it the phone is never answered
//
// A setting that is missing or makes no sense refuses everybody. The Function's log says which one it was, and
// never who called.

exports.handler = function (context, event, callback) {
  const answer = new Twilio.twiml.VoiceResponse();
  try {
    const webhook = webhookUrl(context.WEBHOOK_URL);
    if (isAllowed(event.From, allowedNumbers(context, event.To))) {
      answer.redirect({ method: 'POST' }, webhook);
      return callback(null, answer);
    }
  } catch (problem) {
    console.error(`Everybody is refused: ${problem.message}`);
  }
  const message = (context.REJECT_MESSAGE || '').replace(UNSPEAKABLE, ' ').trim();
  if (message) {
    answer.say(message);
    answer.hangup();
  } else {
    answer.reject();
  }
  callback(null, answer);
};

const NUMBER = /^\+[1-9][0-9]{6,14}$/;
const PREFIX = /^\+[1-9][0-9]{0,13}\*$/;
// Withheld numbers that look like numbers: "anonymous" and its like, typed on a phone's keys, after + or +1. The
// program has the same list, in src/phone.rs.
const WITHHELD = ['266696687', '8656696', '86282452253', '2562533', '7378742833'];
// No XML can hold these.
const UNSPEAKABLE = /[\p{Cc}\p{Cs}\uFFFE\uFFFF]/gu;

// A withheld number, a SIP address and whatever else is no phone number is let in by * alone.
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

// The list that holds for calls to this number.
function allowedNumbers(context, called) {
  const odd = Object.keys(context).find(
    (name) => name.startsWith('ALLOWED_NUMBERS_') && !NUMBER.test(name.replace('ALLOWED_NUMBERS_', '+'))
  );
  if (odd) {
    throw new Error(`after ALLOWED_NUMBERS_ come the digits of a number, country code first; ${odd} is not so.`);
  }
  const own = typeof called === 'string' && NUMBER.test(called) ? `ALLOWED_NUMBERS_${called.slice(1)}` : '';
  const name = typeof context[own] === 'string' ? own : 'ALLOWED_NUMBERS';
  const entries = (context[name] || '')
    .split(/[\r\n]/)
    .map((line) => line.split('#')[0]) // a comment: from # to the end of the line
    .flatMap((line) => line.split(','))
    .map((entry) => entry.replace(/[\s\p{Cf}]/gu, '')) // spaces, and the invisible signs that copying brings along
    .filter((entry) => entry !== '');
  if (entries.length === 0) throw new Error(`${name} names nobody. Set it to numbers such as +15550100100, or to *.`);
  entries.forEach((entry, at) => {
    if (entry !== '*' && !NUMBER.test(entry) && !PREFIX.test(entry)) {
      throw new Error(`entry ${at + 1} of ${name} is no number such as +15550100100, no prefix such as +44*, and not *.`);
    }
  });
  return entries;
}

// Only an address that can be right: a wrong one would send every caller astray.
function webhookUrl(setting) {
  const text = (setting || '').replace(/\s#.*/s, ''); // a note: from # to the end, after a space
  const url = URL.canParse(text) ? new URL(text) : null;
  const web = url && ['http:', 'https:'].includes(url.protocol);
  const here = web && ['localhost', '127.0.0.1', '[::1]'].includes(url.hostname); // for trying it out
  const there = url && url.protocol === 'https:' && /^[a-z0-9-]+(\.[a-z0-9-]+)+$/.test(url.hostname);
  if (!here && !there) throw new Error('WEBHOOK_URL is no address such as https://phone.example.com/incoming-call.');
  if (!url.pathname.endsWith('/incoming-call') || url.search || url.hash || url.username || url.password) {
    throw new Error('WEBHOOK_URL must end with /incoming-call, and hold no password, no ? and no #.');
  }
  return url.href;
}
