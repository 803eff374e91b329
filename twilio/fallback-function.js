// What a caller hears when the server does not answer. Twilio asks this Function when a call's webhook failed: it is the
// number's "primary handler fails" address.
//
// Settings (README.md explains them):
//   FALLBACK_MESSAGE   the sentence; it has a default
//   FALLBACK_NUMBER    who is called after it, such as +15550100009; without it the call ends there

exports.handler = function (context, event, callback) {
  const answer = new Twilio.twiml.VoiceResponse();
  // The caller has already talked to somebody, and one of them hung up.
  if (event.DialCallStatus === 'completed') {
    answer.hangup();
    return callback(null, answer);
  }
  answer.say((context.FALLBACK_MESSAGE || '').replace(UNSPEAKABLE, ' ').trim() || DEFAULT_MESSAGE);
  const number = (context.FALLBACK_NUMBER || '').replace(/#.*/s, '').replace(/[\s\p{Cf}]/gu, ''); // a note after #
  if (number && !NUMBER.test(number)) {
    console.error('Calling nobody: FALLBACK_NUMBER is not a number such as +15550100009.');
  } else if (number && comesBack(event, number)) {
    console.error('Calling nobody: FALLBACK_NUMBER is the caller, the called number, or the one that forwarded the call.');
  } else if (number && !event.DialCallStatus) {
    // The phone shows the called number. <Dial> would fail with a caller ID that is not a number. There is no `action`:
    // after the call, the next line applies.
    const own = NUMBER.test(event.To) ? { callerId: event.To } : {};
    answer.dial({ timeout: 30, ...own }, number);
  }
  answer.hangup();
  callback(null, answer);
};

// Whether the call would come back here, again and again. Some networks write ForwardedFrom without the plus. A call
// from the called number itself is a call of ours that was forwarded back.
function comesBack(event, number) {
  const digits = (text) => (typeof text === 'string' ? text.replace(/[^0-9]/g, '') : '');
  const ends = [event.From, event.To, event.Called, event.ForwardedFrom].map(digits);
  return ends.includes(digits(number)) || (NUMBER.test(event.To) && event.From === event.To);
}

const DEFAULT_MESSAGE = 'Sorry, we cannot take your call right now. Please call again later.';
const NUMBER = /^\+[1-9][0-9]{6,14}$/;
// Characters that XML cannot contain.
const UNSPEAKABLE = /[\p{Cc}\p{Cs}\uFFFE\uFFFF]/gu;
