//! The call: the ring, one TwiML document after another, and the end.

use std::time::Duration;

use super::address::resolve;
use super::options::Fault;
use super::record::{CallEnd, CallRecord, Fetched, PhoneEvent, Said, StreamEnd};
use super::state::Call;
use super::stream;
use super::twiml::{self, Method, Verb};
use super::webhook::{Form, HTTP_FAILED, pairs, timestamp};
use crate::clock::now;

/// No call here needs more documents; a longer one is a loop.
const MAX_DOCUMENTS: usize = 25;
/// Twilio's code for such a loop.
const TOO_MANY_REDIRECTS: u32 = 11_215;

/// What happens after a verb.
enum Next {
    Verb,
    Document { url: String, method: Method, extra: Form },
    End(CallEnd),
}

impl Call {
    /// Runs the call from the first ring to the last callback.
    pub async fn run(mut self) -> CallRecord {
        self.record.started = now();
        self.record.end = self.conduct().await;
        self.record.ended = now();
        if self.options.status_callback {
            let seconds = (self.record.ended - self.record.started).as_secs();
            let mut form = self.form("completed");
            let minutes = seconds.div_ceil(60);
            form.extend(pairs(&[
                ("CallDuration", &seconds.to_string()),
                ("Duration", &minutes.to_string()),
                ("SipResponseCode", "200"),
                ("Timestamp", &timestamp()),
                ("CallbackSource", "call-progress-events"),
                ("SequenceNumber", "0"),
            ]));
            let url = format!("{}/call-status", self.options.public_url);
            self.call_back(url, form);
        }
        // Each has its own timeout.
        while let Some(done) = self.callbacks.join_next().await {
            if let Ok(Some(violation)) = done {
                self.violation(violation.code, violation.what);
            }
        }
        self.record
    }

    async fn conduct(&mut self) -> CallEnd {
        let url = format!("{}/incoming-call", self.options.public_url);
        let mut verbs = match self.fetch(&url, Method::Post, "ringing", Vec::new()).await {
            Ok(verbs) => verbs,
            Err(end) => return end,
        };
        if self.options.faults.contains(&Fault::TwoWebhooks) {
            verbs = match self.fetch(&url, Method::Post, "ringing", Vec::new()).await {
                Ok(verbs) => verbs,
                Err(end) => return end,
            };
        }
        let took = now() - self.record.started;
        self.emit(PhoneEvent::Rang { took });
        let mut base = url;
        for document in 0..MAX_DOCUMENTS {
            let mut follows = None;
            for (place, verb) in verbs.into_iter().enumerate() {
                if self.hung_up {
                    break;
                }
                match self.perform(verb, document == 0 && place == 0, &base).await {
                    Next::Verb => {}
                    Next::End(end) => return end,
                    Next::Document { url, method, extra } => {
                        follows = Some((url, method, extra));
                        break;
                    }
                }
            }
            let Some((url, method, extra)) = follows else {
                return if self.hung_up { CallEnd::CallerHungUp } else { CallEnd::HungUp };
            };
            let status = if self.hung_up { "completed" } else { "in-progress" };
            verbs = match self.fetch(&url, method, status, extra).await {
                // The call is over, so the answer has no effect.
                _ if status == "completed" => return CallEnd::CallerHungUp,
                Ok(verbs) => verbs,
                Err(end) => return end,
            };
            base = url;
        }
        self.violation(TOO_MANY_REDIRECTS, "more than 25 documents in one call");
        CallEnd::Failed(TOO_MANY_REDIRECTS)
    }

    async fn perform(&mut self, verb: Verb, first: bool, base: &str) -> Next {
        match verb {
            Verb::Connect { action, method, stream } => {
                let record = stream::run(self, &stream, base).await;
                let end = record.end.clone();
                let failed = !matches!(end, StreamEnd::CallerHungUp | StreamEnd::ServerClosed { .. });
                self.emit(PhoneEvent::StreamEnded(end.clone()));
                if let Some(url) = stream.status_callback {
                    let event = if failed { "stream-error" } else { "stream-stopped" };
                    let name = stream.name.as_deref();
                    self.stream_status(url, name, &record.stream_sid, event, Some(&end));
                }
                self.record.streams.push(record);
                self.follow(action, method, Vec::new(), base)
            }
            Verb::Say { text, voice, language, times } => {
                for _ in 0..times.min(10) {
                    let said = Said {
                        at: now(),
                        text: text.clone(),
                        voice: voice.clone(),
                        language: language.clone(),
                    };
                    self.record.said.push(said);
                }
                let letters = text.chars().count() * times.min(10) as usize;
                self.emit(PhoneEvent::Said(text));
                let takes = self.options.say_letter * u32::try_from(letters).unwrap_or(u32::MAX);
                if !takes.is_zero() {
                    self.wait(takes).await;
                }
                Next::Verb
            }
            Verb::Play { url } => {
                let said = Said { at: now(), text: url.clone(), voice: None, language: None };
                self.record.said.push(said);
                self.emit(PhoneEvent::Said(url));
                Next::Verb
            }
            Verb::PressKeys { digits, times } => {
                for _ in 0..times.min(10) {
                    self.press_keys(&digits).await;
                }
                Next::Verb
            }
            Verb::Pause { seconds } => {
                self.wait(Duration::from_secs(seconds)).await;
                Next::Verb
            }
            Verb::Hangup => Next::End(CallEnd::HungUp),
            // On a call that has been answered, it only hangs up.
            Verb::Reject { reason } if first => Next::End(CallEnd::Rejected(reason)),
            Verb::Reject { .. } => Next::End(CallEnd::HungUp),
            Verb::Redirect { url, method } => self.follow(Some(url), method, Vec::new(), base),
            Verb::Dial(dial) => {
                let extra = self.dial(&dial).await;
                self.follow(dial.action, dial.method, extra, base)
            }
        }
    }

    /// Continues with the document at `action`, or with the next verb.
    fn follow(&self, action: Option<String>, method: Method, extra: Form, base: &str) -> Next {
        match action {
            None => Next::Verb,
            Some(url) => Next::Document { url: resolve(base, &url), method, extra },
        }
    }

    /// Requests TwiML as Twilio does, and reads the answer.
    async fn fetch(
        &mut self,
        url: &str,
        method: Method,
        status: &str,
        extra: Form,
    ) -> Result<Vec<Verb>, CallEnd> {
        let mut form = self.form(status);
        form.extend(extra);
        let at = now();
        let answer = self.request(url, method, form).send().await;
        let mut fetched =
            Fetched { at, took: now() - at, url: url.to_owned(), status: None, twiml: String::new() };
        let outcome = match answer {
            Err(why) => Err((HTTP_FAILED, why)),
            Ok(answer) => {
                fetched.status = Some(answer.status);
                let shown = &answer.body[..answer.body.len().min(twiml::LONGEST)];
                fetched.twiml = String::from_utf8_lossy(shown).into_owned();
                if (200..300).contains(&answer.status) {
                    twiml::read(answer.content_type.as_deref(), &answer.body)
                        .map_err(|fault| (fault.code, fault.to_string()))
                } else {
                    Err((HTTP_FAILED, format!("the webhook answered with status {}", answer.status)))
                }
            }
        };
        self.record.documents.push(fetched);
        while let Ok(act) = self.acts.try_recv() {
            self.perform_act(act);
        }
        outcome.map_err(|(code, what)| {
            self.violation(code, what);
            CallEnd::Failed(code)
        })
    }
}
