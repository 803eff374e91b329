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
  const number = (context.FALLBACK_NUMBER || '').replace(/[\s\p{Cf}]/gu, '');
  if (number && !NUMBER.test(number)) {
    console.error('Nobody is rung: FALLBACK_NUMBER is no number such as +15550100009.');
  } else if (number && [event.To, event.Called, event.ForwardedFrom].includes(number)) {
    // The call would come back here, again and again.
    console.error('Nobody is rung: FALLBACK_NUMBER is the number that was called, or that passed the call on to here.');
  } else if (number && !event.DialCallStatus) {
    // No `action`: what comes after the call is the next line, and asks for nothing.
    answer.dial({ timeout: 30 }, number);
  }
  answer.hangup();
  callback(null, answer);
};

const DEFAULT_MESSAGE = 'Sorry, we cannot take your call right now. Please call again later.';
const NUMBER = /^\+[1-9][0-9]{6,14}$/;
// No XML can hold these.
const UNSPEAKABLE = /[\p{Cc}\p{Cs}\uFFFE\uFFFF]/gu;
