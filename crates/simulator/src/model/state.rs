//! The state of one session, and what all its parts share: ids, the log, the outbox, the schedule.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use super::config::{Config, Detection};
use super::conversation::Conversation;
use super::dialect;
use super::faults::{Fault, Trouble};
use super::format::Format;
use super::hosting::HostingState;
use super::log::{Closed, Happened, ModelEvent, SessionLog};
use super::options::ModelOptions;
use super::parts::Response;
use super::refusal::Refusal;
use super::script::FollowUps;
use super::shared::Shared;
use super::vad::Vad;

const BASE62: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// Something scheduled to happen without the client.
pub(super) enum Due {
    Step(String),
    Send(Message),
    Updated,
    RateLimits,
    Transcript {
        item: String,
        text: String,
        heard_ms: u64,
    },
    Idle(u64),
    /// The hosted call with this item id ends.
    HostedEnds(String),
    /// The listing of the server with this label ends.
    Listed(String),
    Strike(Trouble),
    /// The troubles that strike this long after the start.
    Trouble(Duration),
    /// An endless speech ends after all.
    SpeechEnds(u64),
    Ping,
    Expire,
}

/// How the session asks for the connection to end.
pub(super) enum Ending {
    /// Without a close frame.
    Drop,
    /// With TCP's reset.
    Reset,
    /// Not at all: nothing is read or sent any more.
    HalfOpen,
    Close(u16, String),
}

/// The state of one session.
pub(super) struct Session {
    pub shared: Arc<Shared>,
    log: Arc<Mutex<SessionLog>>,
    number: usize,
    /// Its habits.
    pub faults: Vec<Fault>,
    /// Troubles strike it.
    pub faulty: bool,
    /// No event comes, and none is read.
    pub stalled: bool,
    /// No speech is detected.
    pub deaf: bool,
    /// A speech goes on without the caller, and its number.
    pub endless: Option<u64>,
    pub spent_in_speech: Vec<usize>,
    /// The response that a conflict names.
    pub unknown_response: Option<String>,
    /// The client has put an assistant's words into the conversation.
    pub seeded_words: bool,
    /// The caller's last turn has had no complete answer.
    pub unanswered: bool,
    pub now: Instant,
    pub rng: StdRng,
    pub config: Config,
    pub detection: Option<Detection>,
    pub format: Format,
    pub vad: Vad,
    pub conversation: Conversation,
    pub conversation_id: String,
    pub responses: Vec<Response>,
    pub response_count: usize,
    /// Responses that the client asked for.
    pub request_count: usize,
    /// Requests that forced a function.
    pub forced_count: usize,
    /// Turns that the caller has taken.
    pub turns: usize,
    /// The item id of the turn that is being spoken.
    pub user_item: Option<String>,
    /// The client has been sent assistant audio.
    pub has_audio: bool,
    pub stamps: u32,
    pub last_input: u64,
    /// Number of the latest idle timer; earlier ones are void.
    pub idle_armed: u64,
    /// Tool results since the model last answered or the caller last spoke.
    pub results: Vec<String>,
    pub follow_ups: FollowUps,
    pub hosting: HostingState,
    /// Lines to synthesise, and the responses that wait for one.
    pub wanted_lines: Vec<String>,
    pub starved: BTreeSet<String>,
    pub schedule: BTreeMap<(Instant, u64), Due>,
    scheduled: u64,
    pub outbox: VecDeque<Message>,
    pub ending: Option<Ending>,
    pub last_pong: Instant,
}

impl Session {
    pub fn new(
        shared: Arc<Shared>,
        log: Arc<Mutex<SessionLog>>,
        number: usize,
        model: &str,
        now: Instant,
    ) -> Self {
        let options = &shared.options;
        let faulty = options.is_faulty(number);
        let faults = if faulty { options.faults.clone() } else { Vec::new() };
        let mut rng = StdRng::seed_from_u64(options.seed ^ (number as u64) << 32);
        let epoch = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let id = format!("sess_{}", letters(&mut rng, 21));
        let conversation_id = format!("conv_{}", letters(&mut rng, 21));
        let config = Config::new(&id, model, epoch + options.session_cap.as_secs(), options.dialect);
        let mut session = Self {
            detection: config.detection(),
            format: config.input_format(),
            log,
            number,
            faults,
            faulty,
            stalled: false,
            deaf: false,
            endless: None,
            spent_in_speech: Vec::new(),
            unknown_response: None,
            seeded_words: false,
            unanswered: false,
            now,
            rng,
            config,
            vad: Vad::default(),
            conversation: Conversation::default(),
            conversation_id,
            responses: Vec::new(),
            response_count: 0,
            request_count: 0,
            forced_count: 0,
            turns: 0,
            user_item: None,
            has_audio: false,
            stamps: 0,
            last_input: 0,
            idle_armed: 0,
            results: Vec::new(),
            follow_ups: FollowUps::default(),
            hosting: HostingState::default(),
            wanted_lines: Vec::new(),
            starved: BTreeSet::new(),
            schedule: BTreeMap::new(),
            scheduled: 0,
            outbox: VecDeque::new(),
            ending: None,
            last_pong: now,
            shared,
        };
        session.begin();
        session
    }

    fn begin(&mut self) {
        self.later(self.options().session_cap, Due::Expire);
        self.later(self.options().ping, Due::Ping);
        let delays = self.shared.troubles().delays();
        for delay in delays {
            self.later(delay, Due::Trouble(delay));
        }
        if !self.faults.contains(&Fault::NoCreated) {
            let shown = self.config.session().clone();
            self.emit(json!({"type": "session.created", "session": shown}));
        }
    }

    pub fn options(&self) -> &ModelOptions {
        &self.shared.options
    }

    /// What the first fault for which `pick` answers gives.
    pub fn fault<T>(&self, pick: impl Fn(&Fault) -> Option<T>) -> Option<T> {
        self.faults.iter().find_map(pick)
    }

    /// The id of the conversation's running response.
    pub fn active(&self) -> Option<&str> {
        self.responses.iter().find(|response| !response.out_of_band).map(|response| response.id.as_str())
    }

    /// Starts the idle timer. It runs from the time when the last response has been played, as far as the server can
    /// tell.
    pub fn arm_idle(&mut self, audio_ms: u64) {
        self.idle_armed += 1;
        if let Some(idle) = self.detection.as_ref().and_then(|detection| detection.idle_ms) {
            self.later(Duration::from_millis(audio_ms + idle), Due::Idle(self.idle_armed));
        }
    }

    /// Adds an item to the end of the conversation and reports it.
    pub fn add_item(&mut self, item: &Value, heard_ms: u64) {
        let previous = self.conversation.push(item.clone(), None, heard_ms);
        self.emit(json!({"type": "conversation.item.added", "previous_item_id": previous, "item": item}));
    }

    /// Reports an item of the conversation as complete.
    pub fn item_done(&mut self, item: &Value) {
        let previous = self.conversation.before(item["id"].as_str().unwrap_or_default());
        self.emit(json!({"type": "conversation.item.done", "previous_item_id": previous, "item": item}));
    }

    /// Queues an event and gives it its `event_id`.
    pub fn emit(&mut self, event: Value) {
        if self.stalled {
            return;
        }
        let Some(mut event) = dialect::outward(self.options().dialect, event) else { return };
        event["event_id"] = json!(self.new_id("event_"));
        if self.shared.events.receiver_count() > 0 {
            let kind = event["type"].as_str().unwrap_or_default();
            if !kind.ends_with("transcript.delta") {
                self.publish(Happened::Sent(kind.to_owned()));
            }
        }
        self.outbox.push_back(Message::Text(event.to_string().into()));
    }

    /// Queues an `error` about the client's event `event_id`.
    pub fn refuse(&mut self, refusal: &Refusal, event_id: Option<&str>) {
        let code = refusal.code.clone().unwrap_or_default();
        self.note(|log| log.errors.push(code.clone()));
        self.publish(Happened::Refused(code));
        self.emit(refusal.event(event_id));
    }

    /// Writes into the session's log.
    pub fn note<T>(&self, write: impl FnOnce(&mut SessionLog) -> T) -> T {
        write(&mut self.log.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Publishes an event to the live subscribers.
    pub fn publish(&self, what: Happened) {
        self.shared.publish(ModelEvent { session: self.number, at: self.now, what });
    }

    /// Records how the connection ended.
    pub fn closed(&self, how: Closed) {
        self.note(|log| log.closed = Some(how.clone()));
        self.publish(Happened::Closed(how));
    }

    pub fn later(&mut self, delay: Duration, due: Due) {
        self.scheduled += 1;
        self.schedule.insert((self.now + delay, self.scheduled), due);
    }

    pub fn new_id(&mut self, prefix: &str) -> String {
        let letters = self.letters(21);
        format!("{prefix}{letters}")
    }

    pub fn letters(&mut self, count: usize) -> String {
        letters(&mut self.rng, count)
    }

    pub fn obfuscation(&mut self) -> String {
        let length = self.rng.random_range(0..16);
        self.letters(length)
    }
}

fn letters(rng: &mut StdRng, count: usize) -> String {
    (0..count).map(|_| char::from(BASE62[rng.random_range(0..BASE62.len())])).collect()
}
