//! Capturing the prepared lines: the model says a sentence exactly, outside the conversation and for nobody to hear.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::spawn_blocking;
use tokio::time::{sleep, sleep_until, timeout};

use super::aside::Broken;
use super::{ModelLink, now};
use crate::assistant::plan::{GREETING, SoundKey};
use crate::call::{Event, Outcome, Who};
use crate::id::ItemId;
use crate::provider::{Cause, Failure};
use crate::secret::Private;
use crate::sound::Store;
use crate::wire::openai::realtime;
use switchboard_audio::{Chunk, Clip};

/// How long one attempt may take.
const ATTEMPT: Duration = Duration::from_secs(4);
/// The same for a greeting.
const GREETING_ATTEMPT: Duration = Duration::from_secs(10);
/// How long a line rests after a failure that may pass.
const AGAIN: Duration = Duration::from_secs(3_600);
/// How often a line is tried.
const ATTEMPTS: usize = 2;
/// How long a model that is busy with another response gets to end it.
const PAUSE: Duration = Duration::from_millis(500);
/// How long a prepared line may be, without the silence around it.
const LENGTH: RangeInclusive<Duration> = Duration::from_millis(300)..=Duration::from_secs(6);
const GREETING_LENGTH: RangeInclusive<Duration> = Duration::from_millis(300)..=Duration::from_secs(15);

/// Why there is no line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotCaptured {
    #[error("the model's session ended")]
    Lost,
    #[error("the model did not finish it in time")]
    Late,
    #[error("the model did not take the request, or did not complete its response")]
    Failed,
    #[error("the model said other words")]
    OtherWords,
    #[error("what the model said is too short or too long")]
    Length,
    #[error("another response keeps the model busy")]
    Busy,
    #[error("a limit of the account is used up")]
    Limited,
}

impl NotCaptured {
    fn of(failure: &Failure) -> Self {
        match failure.cause {
            Some(Cause::RateLimit) => Self::Limited,
            Some(Cause::Conflict) => Self::Busy,
            _ => Self::Failed,
        }
    }

    /// When it may be different; `None`: never, while the line and the model are the same.
    fn again(self) -> Option<Instant> {
        match self {
            Self::OtherWords | Self::Length => None,
            Self::Lost | Self::Late | Self::Failed | Self::Busy | Self::Limited => Some(now() + AGAIN),
        }
    }

    /// For the log.
    pub fn code(self) -> &'static str {
        match self {
            Self::Lost => "lost",
            Self::Late => "late",
            Self::Failed => "failed",
            Self::OtherWords => "other_words",
            Self::Length => "length",
            Self::Busy => "busy",
            Self::Limited => "limited",
        }
    }
}

impl From<Broken> for NotCaptured {
    fn from(broken: Broken) -> Self {
        match broken {
            Broken::Refused(failure) => Self::of(&failure),
            Broken::Lost => Self::Lost,
        }
    }
}

/// A response while it is spoken.
#[derive(Default)]
struct Spoken {
    ulaw: Vec<u8>,
    /// What each of its items says.
    words: Vec<(ItemId, Private)>,
}

impl ModelLink {
    /// Has the model say the lines that the plan lacks, unless somebody else does so now. Each is tried twice, and then
    /// given up, with one warning. Where a limit of the account is almost used up, the rest waits for another session:
    /// calls need what is left. Cancel-safe in that a line is kept whole or not at all.
    ///
    /// # Errors
    /// The reason why the first line that failed did. The others were tried, too, unless the session ended or is limited.
    pub async fn capture_missing(&mut self, store: &Arc<Store>) -> Result<(), NotCaptured> {
        let plan = self.plan.clone();
        let mut outcome = Ok(());
        for (key, name, text) in plan.missing_sounds() {
            let is_limited = self.limited.is_some_and(|until| now() < until);
            let captured = match is_limited {
                true => Err(NotCaptured::Limited),
                false => self.capture_into(store, key, name, text).await,
            };
            outcome = outcome.and(captured);
            if matches!(captured, Err(NotCaptured::Lost | NotCaptured::Limited)) {
                break;
            }
        }
        outcome
    }

    async fn capture_into(
        &mut self,
        store: &Arc<Store>,
        key: SoundKey,
        name: &'static str,
        text: &str,
    ) -> Result<(), NotCaptured> {
        let (of_store, assistant) = (store.clone(), self.plan.assistant.clone());
        // The disk is slow, and this thread has other calls.
        let Ok(Some(claim)) = spawn_blocking(move || of_store.claim(key)).await else { return Ok(()) };
        let mut attempts = 0;
        let clip = loop {
            attempts += 1;
            match self.capture(name, text).await {
                Ok(clip) => break clip,
                Err(why @ (NotCaptured::Lost | NotCaptured::Limited)) => return Err(why),
                Err(why) if attempts == ATTEMPTS => {
                    tracing::warn!(assistant, line = name, why = why.code(), "Gave up on a prepared line");
                    claim.give_up(why.again());
                    return Err(why);
                }
                Err(NotCaptured::Busy) => sleep(PAUSE).await,
                Err(_) => {}
            }
        };
        match spawn_blocking(move || claim.keep(clip)).await {
            Ok(Ok(())) => tracing::debug!(assistant, "Captured a prepared line"),
            Ok(Err(error)) => {
                tracing::warn!(%error, "Cannot write to STATE_DIR; keeping a prepared line in memory");
            }
            // The runtime is shutting down.
            Err(_) => {}
        }
        Ok(())
    }

    /// Has the model say exactly this, once. `name` is the line's.
    ///
    /// # Errors
    /// It did not.
    pub async fn capture(&mut self, name: &str, text: &str) -> Result<Clip, NotCaptured> {
        let (attempt, lengths) = match name {
            GREETING => (GREETING_ATTEMPT, GREETING_LENGTH),
            _ => (ATTEMPT, LENGTH),
        };
        let event = self.next_aside();
        let tongue = self.plan.language.as_ref().map(|language| format!(" in {}", language.name()));
        let instructions = format!(
            "You are the voice of a telephone assistant. Say exactly this{}, word for word, in a calm and friendly \
             tone, and nothing else: \"{text}\"",
            tongue.unwrap_or_default()
        );
        while !self.requests.may_send(now()) {
            sleep_until(self.requests.next().into()).await;
        }
        self.send(realtime::response_create_of_line(&event, &instructions, text));
        let most = 2 * *lengths.end();
        let spoken = timeout(attempt, self.spoken(most)).await.unwrap_or(Err(NotCaptured::Late))?;
        let words: String = spoken.words.iter().map(|(_, words)| letters(words.expose())).collect();
        if words != letters(text) {
            return Err(NotCaptured::OtherWords);
        }
        let clip = Clip { ulaw: spoken.ulaw.into() }.trimmed();
        if lengths.contains(&clip.duration()) { Ok(clip) } else { Err(NotCaptured::Length) }
    }

    /// Collects what the out-of-band response says. It ends one that says too much.
    async fn spoken(&mut self, most: Duration) -> Result<Spoken, NotCaptured> {
        let mut spoken = Spoken::default();
        let outcome = self.follow_aside(|event, own| match event {
            Event::ModelAudio { response, item, chunk } if own == Some(response) => {
                spoken.hear(item, chunk, most)
            }
            Event::Transcript { who: Who::Assistant, item, text } => {
                let own = spoken.words.iter_mut().find(|(heard, _)| heard == item);
                own.into_iter().for_each(|(_, words)| *words = text.clone());
                Ok(())
            }
            _ => Ok(()),
        });
        match outcome.await? {
            Outcome::Completed => Ok(spoken),
            Outcome::Failed(failure) => Err(NotCaptured::of(&failure)),
            Outcome::Incomplete(_) | Outcome::Cancelled(_) => Err(NotCaptured::Failed),
        }
    }
}

impl Spoken {
    fn hear(&mut self, item: &ItemId, chunk: &Chunk, most: Duration) -> Result<(), NotCaptured> {
        if self.words.last().is_none_or(|(last, _)| last != item) {
            self.words.push((item.clone(), Private::from(String::new())));
        }
        chunk.decode(|ulaw| self.ulaw.extend_from_slice(ulaw));
        match switchboard_audio::duration(self.ulaw.len()) > most {
            true => Err(NotCaptured::Length),
            false => Ok(()),
        }
    }
}

/// What a transcript must share with its text: no case, punctuation or spaces.
fn letters(text: &str) -> String {
    text.to_lowercase().chars().filter(|letter| letter.is_alphanumeric()).collect()
}

#[cfg(test)]
mod tests {
    use switchboard_simulator::model::{Fault, ModelOptions, ModelServer, RateLimits, Speech, When};
    use switchboard_simulator::pace::Pace;

    use super::*;
    use crate::assistant::plan::Plan;
    use crate::link::model::tests::plan;
    use crate::link::tls;
    use crate::provider::{Dialect, Provider};
    use crate::secret::Secret;

    const TEXT: &str = "One moment, please.";

    /// A server with these faults, and a session that it has opened.
    async fn session(faults: Vec<Fault>) -> (ModelServer, ModelLink, Option<Arc<Pace>>) {
        session_with(ModelOptions { faults, ..ModelOptions::default() }).await
    }

    async fn session_with(options: ModelOptions) -> (ModelServer, ModelLink, Option<Arc<Pace>>) {
        let pace = Pace::keep();
        let options = ModelOptions { speech: Speech::Stamped, ..options };
        let server = ModelServer::start(options).await.unwrap();
        let provider = Provider::openai(server.url(), Some(Secret::new("sk-simulated")));
        let plan = Plan { provider: Arc::new(provider), temperature: None, ..plan(Dialect::Ga) };
        let tls = tls::client_config(false, None).unwrap();
        let link = ModelLink::connect(Arc::new(plan), tls).await.unwrap();
        (server, link, pace)
    }

    #[tokio::test]
    async fn a_line_is_captured_outside_the_conversation() {
        let (server, mut link, _pace) = session(Vec::new()).await;
        let clip = link.capture("moment", TEXT).await.unwrap();
        assert!(LENGTH.contains(&clip.duration()), "{clip:?}");
        assert_eq!(server.sessions()[0].responses.len(), 1);
        Box::new(link).close().await;
    }

    #[tokio::test]
    async fn what_is_not_the_line_is_not_kept() {
        let refused = |code| Fault::RefuseResponse { nth: 1, code };
        for (fault, why) in [
            (Fault::TwoItems, NotCaptured::OtherWords),
            (Fault::ResponseIncomplete { nth: 1, reason: "max_output_tokens" }, NotCaptured::Failed),
            (Fault::ResponseFailed { nth: 1, code: "server_error" }, NotCaptured::Failed),
            (refused("invalid_value"), NotCaptured::Failed),
            (refused("conversation_already_has_active_response"), NotCaptured::Busy),
            (refused("rate_limit_exceeded"), NotCaptured::Limited),
            (Fault::ResponseFailed { nth: 1, code: "rate_limit_exceeded" }, NotCaptured::Limited),
            (Fault::Drop(When::Response(1)), NotCaptured::Lost),
        ] {
            let (_server, mut link, _pace) = session(vec![fault.clone()]).await;
            assert_eq!(link.capture("moment", TEXT).await.err(), Some(why), "{fault:?}");
        }
        let (_server, mut link, _pace) = session(Vec::new()).await;
        let long =
            "This is a sentence that takes far longer to say than anybody wants to wait for. ".repeat(4);
        assert_eq!(link.capture("moment", &long).await.err(), Some(NotCaptured::Length));
    }

    #[tokio::test]
    async fn a_response_without_an_end_is_not_waited_for() {
        let (_server, mut link, _pace) = session(vec![Fault::Stall { nth: 1, after: Duration::ZERO }]).await;
        assert_eq!(link.capture("moment", TEXT).await.err(), Some(NotCaptured::Late));
    }

    #[tokio::test]
    async fn a_line_is_tried_twice_and_then_given_up() {
        let failed = |nth| Fault::ResponseFailed { nth, code: "server_error" };
        // Of the two lines, the first fails once, then twice.
        for (faults, responses, kept) in [(vec![failed(1)], 3, 2), (vec![failed(1), failed(2)], 3, 1)] {
            let (server, mut link, _pace) = session(faults).await;
            let store = Arc::new(Store::open(None));
            let outcome = link.capture_missing(&store).await;
            assert_eq!(outcome.is_ok(), kept == 2);
            let plan = link.plan.clone();
            let keys: Vec<SoundKey> = plan.missing_sounds().map(|(key, _, _)| key).collect();
            assert_eq!(keys.iter().filter(|key| store.find(key).is_some()).count(), kept);
            assert_eq!(server.sessions()[0].responses.len(), responses);
            // Nothing is left to ask for.
            link.capture_missing(&store).await.unwrap();
            assert_eq!(server.sessions()[0].responses.len(), responses);
        }
    }

    #[tokio::test]
    async fn captures_leave_what_is_left_of_a_limit_to_calls() {
        let rate_limits =
            RateLimits { remaining: Some(10), reset: Duration::from_secs(60), ..RateLimits::default() };
        let (server, mut link, _pace) =
            session_with(ModelOptions { rate_limits, ..ModelOptions::default() }).await;
        // The limits come after a response, and are read with the next one.
        link.capture("moment", TEXT).await.unwrap();
        link.capture("moment", TEXT).await.unwrap();
        let store = Arc::new(Store::open(None));
        assert_eq!(link.capture_missing(&store).await, Err(NotCaptured::Limited));
        assert_eq!(server.sessions()[0].responses.len(), 2);
        // They were not given up.
        link.limited = None;
        assert_eq!(link.capture_missing(&store).await, Err(NotCaptured::Limited), "after the first of them");
        assert_eq!(server.sessions()[0].responses.len(), 3);
    }

    #[tokio::test]
    async fn a_capture_waits_until_it_may_ask() {
        let (_server, mut link, _pace) = session(Vec::new()).await;
        while link.requests.may_send(now()) {}
        let (began, free) = (now(), link.requests.next());
        link.capture("moment", TEXT).await.unwrap();
        assert!(free > began && now() > free);
        assert!(link.requests.next() > free, "it counts");
    }

    #[tokio::test]
    async fn a_model_that_is_busy_is_asked_again() {
        let busy = Fault::RefuseResponse { nth: 1, code: "conversation_already_has_active_response" };
        let (server, mut link, _pace) = session(vec![busy]).await;
        let store = Arc::new(Store::open(None));
        link.capture_missing(&store).await.unwrap();
        assert_eq!(server.sessions()[0].responses.len(), 2, "both lines");
    }

    #[test]
    fn only_letters_count() {
        assert_eq!(letters("Un instant, s'il vous plaît."), letters("un instant s’il vous plaît"));
        assert_ne!(letters("One moment, please."), letters("One moment, please, sir."));
        assert_eq!(letters("一会儿，请。"), "一会儿请");
    }
}
