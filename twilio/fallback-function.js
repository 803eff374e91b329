// What a caller hears when nothing of ours answers. Twilio asks this Function when a call's webhook failed: the
// number's "primary handler fails" address.
//
// Its settings, which README.md explains:
//   FALLBACK_MESSAGE   the sentence; it has a default
//   FALLBACK_NUMBER    who is rung after it, such as +15550100009; without it the call ends there

exports.handler = function (context, event, callback) {
  const answer = new Twilio.twiml.VoiceResponse();
  // The caller has been put through to somebody already, and has hung up or been hung up on.
  if (event.DialCallStatus === 'completed') {
    answer.hangup();
    return callback(null, answer);
  }
  answer.say((context.FALLBACK_MESSAGE || '').replace(UNSPEAKABLE, ' ').trim() || DEFAULT_MESSAGE);
  const number = (context.FALLBACK_NUMBER || '').replace(/#.*/s, '').replace(/[\s\p{Cf}]/gu, ''); // a note after #
  if (number && !NUMBER.test(number)) {
    console.error('Nobody is rung: FALLBACK_NUMBER is no number such as +15550100009.');
  } else if (number && comesBack(event, number)) {
    console.error('Nobody is rung: FALLBACK_NUMBER is who calls, or is called, or has passed this call on to here.');
  } else if (number && !event.DialCallStatus) {
    // Whoever is rung sees the called number: with a caller's that is none, <Dial> fails. No `action`: what comes after
    // the call is the next line, and asks for nothing.
    const own = NUMBER.test(event.To) ? { callerId: event.To } : {};
    answer.dial({ timeout: 30, ...own }, number);
  }
  answer.hangup();
  callback(null, answer);
};

// Whether the call would come back here, again and again. Some networks write ForwardedFrom without the plus. A call
// from the number itself is one of the calls below, passed on to here.
function comesBack(event, number) {
  const digits = (text) => (typeof text === 'string' ? text.replace(/[^0-9]/g, '') : '');
  const ends = [event.From, event.To, event.Called, event.ForwardedFrom].map(digits);
  return ends.includes(digits(number)) || (NUMBER.test(event.To) && event.From === event.To);
}

const DEFAULT_MESSAGE = 'Sorry, we cannot take your call right now. Please call again later.';
const NUMBER = /^\+[1-9][0-9]{6,14}$/;
// No XML can hold these.
const UNSPEAKABLE = /[\p{Cc}\p{Cs}\uFFFE\uFFFF]/gu;
