// What a caller hears when the server does not answer. Twilio asks this Function when a call's webhook failed: it is the
// number's "primary handler fails" address.
//
// Settings (README.md explains them):
//   MESSAGE_LANGUAGE   the language of the sentence, such as de-DE; without it English, or your account's voice for yours
//   FALLBACK_MESSAGE   the sentence; it has a default in eight languages
//   FALLBACK_NUMBER    who is called after it, such as +15550100009; without it the call ends there

exports.handler = function (context, event, callback) {
  const answer = new Twilio.twiml.VoiceResponse();
  // The caller has already talked to somebody, and one of them hung up.
  if (event.DialCallStatus === 'completed') {
    answer.hangup();
    return callback(null, answer);
  }
  const language = locale(context.MESSAGE_LANGUAGE);
  const message = (context.FALLBACK_MESSAGE || '').replace(UNSPEAKABLE, ' ').trim();
  if (SPEAKABLE.test(message)) {
    answer.say(language ? { language } : {}, message);
  } else {
    const ours = language && DEFAULT_MESSAGES[language.split('-')[0]];
    answer.say({ language: ours ? language : 'en-US' }, ours || DEFAULT_MESSAGES.en);
  }
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

// The locale in which Twilio speaks. A language alone stands for its first one.
function locale(setting) {
  const written = (setting || '').replace(/#.*/s, '').trim(); // a note after #
  const full = FIRST[written] || written;
  if (!full || /^[a-z]{2,3}-[A-Z]{2}$/.test(full)) return full;
  console.error('Speaking as if it were not set: MESSAGE_LANGUAGE is not a language such as de-DE.');
  return '';
}

const FIRST = { en: 'en-US', de: 'de-DE', fr: 'fr-FR', es: 'es-ES', it: 'it-IT', pt: 'pt-BR', nl: 'nl-NL', pl: 'pl-PL' };
const DEFAULT_MESSAGES = {
  en: 'Sorry, we cannot take your call right now. Please call again later.',
  de: 'Leider können wir Ihren Anruf gerade nicht entgegennehmen. Bitte rufen Sie später noch einmal an.',
  fr: 'Nous ne pouvons pas prendre votre appel pour le moment. Merci de rappeler un peu plus tard.',
  es: 'Lo sentimos, en este momento no podemos atender su llamada. Por favor, vuelva a llamar más tarde.',
  it: 'Siamo spiacenti, al momento non possiamo rispondere alla Sua chiamata. La preghiamo di richiamare più tardi.',
  pt: 'Lamentamos, não podemos atender a sua chamada neste momento. Por favor, ligue novamente mais tarde.',
  nl: 'Wij kunnen uw oproep op dit moment helaas niet beantwoorden. Probeert u het later alstublieft nog eens.',
  pl: 'Przepraszamy, nie możemy teraz odebrać tego połączenia. Prosimy zadzwonić później.',
};
const NUMBER = /^\+[1-9][0-9]{6,14}$/;
// Twilio says nothing at all if a text has neither.
const SPEAKABLE = /[\p{L}\p{N}]/u;
// Characters that XML cannot contain.
const UNSPEAKABLE = /[\p{Cc}\p{Cs}\uFFFE\uFFFF]/gu;
