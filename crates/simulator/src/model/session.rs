//! One session as a machine: client events, audio and the time go in, frames come out.
//!
//! It owns no socket; [`super::connection`] moves its frames.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use super::Dialect;
use super::config::{Config, Detection, Format};
use super::conversation::Conversation;
use super::hosted::HostingState;
use super::log::{Closed, Happened, ModelEvent, SessionLog};
use super::options::{Fault, ModelOptions, When};
use super::refusal::Refusal;
use super::response::{Cause, Response};
use super::script::FollowUps;
use super::vad::{Heard, Vad};
use super::{Shared, dialect, input};

const BASE62: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// Something that will happen by itself.
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
    /// The hosted call that is this item has ended.
    HostedEnds(String),
    /// The tools of the server with this label are known, or not to be had.
    Listed(String),
    Strike(Fault),
    Ping,
    Expire,
}

/// How the connection is to end once the machine wants it to.
pub(super) enum Ending {
    /// Without a close frame.
    Drop,
    Close(u16, String),
}

/// The state of one session.
pub(super) struct Session {
    shared: Arc<Shared>,
    log: Arc<Mutex<SessionLog>>,
    number: usize,
    pub faults: Vec<Fault>,
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
    /// How often the client asked for one.
    pub request_count: usize,
    /// How many turns the caller has taken.
    pub turns: usize,
    /// The id of the turn that is being spoken.
    user_item: Option<String>,
    /// Assistant audio exists.
    pub has_audio: bool,
    pub spoken_items: u16,
    pub stamps: u32,
    pub last_input: u64,
    /// Which arming of the idle timer counts.
    pub idle_armed: u64,
    /// What tools have said since the model last answered or the caller last spoke.
    pub results: Vec<String>,
    pub follow_ups: FollowUps,
    pub hosting: HostingState,
    /// Lines to be synthesised, and responses that wait for one.
    pub wanted_lines: Vec<String>,
    pub starved: BTreeSet<String>,
    schedule: BTreeMap<(Instant, u64), Due>,
    scheduled: u64,
    pub outbox: VecDeque<Message>,
    pub ending: Option<Ending>,
    last_pong: Instant,
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
        let affected = options.faulty_connections.is_none_or(|count| number < count);
        let faults = if affected { options.faults.clone() } else { Vec::new() };
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
            now,
            rng,
            config,
            vad: Vad::default(),
            conversation: Conversation::default(),
            conversation_id,
            responses: Vec::new(),
            response_count: 0,
            request_count: 0,
            turns: 0,
            user_item: None,
            has_audio: false,
            spoken_items: 0,
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
        for fault in self.faults.clone() {
            if let Some(When::After(delay)) = fault.when() {
                self.later(delay, Due::Strike(fault));
            }
        }
        if !self.faults.contains(&Fault::NoCreated) {
            let shown = self.config.session().clone();
            self.emit(json!({"type": "session.created", "session": shown}));
        }
    }

    /// A text frame came.
    pub fn handle_text(&mut self, text: &str, now: Instant, scratch: &mut Vec<u8>) {
        self.now = now;
        // A session that was never created answers nothing.
        if !self.faults.contains(&Fault::NoCreated) {
            input::handle_text(self, text, scratch);
        }
    }

    /// A binary frame came.
    pub fn handle_binary(&mut self, now: Instant) {
        self.now = now;
        self.refuse(&Refusal::new("invalid_event", "Binary messages are not supported.", None), None);
    }

    pub fn handle_pong(&mut self, now: Instant) {
        self.last_pong = now;
    }

    /// Everything that is due by `now` happens.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.now = now;
        while let Some(entry) = self.schedule.first_entry()
            && entry.key().0 <= now
            && self.ending.is_none()
        {
            let due = entry.remove();
            self.happen(due);
        }
    }

    /// `line` has been synthesised.
    pub fn handle_speech(&mut self, line: &str, audio: &Bytes, now: Instant) {
        self.now = now;
        self.supply(line, audio);
    }

    /// When [`Self::handle_timeout`] is next due.
    pub fn deadline(&self) -> Option<Instant> {
        self.schedule.first_key_value().map(|((at, _), _)| *at)
    }

    pub fn options(&self) -> &ModelOptions {
        &self.shared.options
    }

    /// The caller's audio, decoded from base64.
    pub fn handle_audio(&mut self, bytes: &mut [u8]) {
        let now = self.now;
        let keep = self.options().keep_audio;
        let is_first = self.note(|log| {
            log.appends += 1;
            log.audio_bytes += bytes.len() as u64;
            if keep {
                log.audio.extend_from_slice(bytes);
            }
            log.first_append.replace(log.first_append.unwrap_or(now)).is_none()
        });
        if is_first {
            self.tell(Happened::Received("input_audio_buffer.append".to_owned()));
        }
        if self.options().speech == super::Speech::Stamped {
            let latencies = input::take_stamps(bytes);
            self.note(|log| log.latencies.extend(latencies));
        }
        let mut heard = Vec::new();
        self.vad.listen(bytes, self.format, self.detection.as_ref(), &mut heard);
        for what in heard {
            match what {
                Heard::Started { audio_start_ms } => self.speech_started(audio_start_ms),
                Heard::Stopped { audio_end_ms, speech_ms } => self.speech_stopped(audio_end_ms, speech_ms),
            }
        }
        if !self.vad.is_speaking() {
            self.user_item = None;
        }
    }

    /// `session.update`.
    pub fn update(&mut self, update: &Value) -> Result<(), Refusal> {
        self.check_update_faults(update)?;
        let limits = super::config::Limits {
            temperature: self.options().temperature.clone(),
            own_names: self.options().own_names,
            pcm_only: self.options().pcm_only,
            has_audio: self.has_audio,
            responding: !self.responses.is_empty(),
        };
        let known = self.config.session()["tools"].clone();
        self.config.update(update, &limits)?;
        self.detection = self.config.detection();
        self.format = self.config.input_format();
        if self.faults.contains(&Fault::NoUpdated) {
            return Ok(());
        }
        let delay = self.faults.iter().find_map(|fault| match fault {
            Fault::LateUpdated(delay) => Some(*delay),
            _ => None,
        });
        match delay {
            Some(delay) => self.later(delay, Due::Updated),
            None => self.happen(Due::Updated),
        }
        self.list_hosted(&known);
        Ok(())
    }

    /// The buffer becomes an item of the caller's, under `id` where one was allotted.
    pub fn commit(&mut self, id: Option<String>, heard_ms: u64) {
        let id = id.unwrap_or_else(|| self.new_id("item_"));
        let content = json!([{"type": "input_audio", "transcript": null}]);
        let item =
            json!({"id": id, "type": "message", "status": "completed", "role": "user", "content": content});
        let previous = self.conversation.push(item.clone(), None, heard_ms);
        self.emit(
            json!({"type": "input_audio_buffer.committed", "previous_item_id": previous, "item_id": id}),
        );
        self.emit(json!({"type": "conversation.item.added", "previous_item_id": previous, "item": item}));
        self.emit(json!({"type": "conversation.item.done", "previous_item_id": previous, "item": item}));
    }

    /// A turn of the caller's has been committed as `id`: it counts, and is transcribed if the session says so.
    pub fn take_turn(&mut self, id: String, heard_ms: u64) {
        self.turns += 1;
        self.results.clear();
        if self.config.transcriber().is_none() && self.options().dialect != Dialect::Xai {
            return;
        }
        let reply = self.options().script.reply(self.turns);
        let text =
            reply.caller_says.clone().unwrap_or_else(|| format!("This is turn number {}.", self.turns));
        let due = Due::Transcript { item: id, text, heard_ms };
        // Nothing promises when: before the response, within it, or after.
        match self.rng.random_range(0..3) {
            0 => self.happen(due),
            1 => self.later(self.options().think + Duration::from_millis(200), due),
            _ => self.later(self.options().think + Duration::from_millis(1_500), due),
        }
    }

    /// The commit of what is in the buffer, by the client.
    pub fn commit_by_hand(&mut self) -> Result<(), Refusal> {
        let buffered = self.vad.buffered_ms();
        if buffered < 100.0 {
            let message = format!(
                "Error committing input audio buffer: buffer too small. Expected at least 100ms of audio, \
                 but buffer only has {buffered:.2}ms of audio."
            );
            return Err(Refusal::new("input_audio_buffer_commit_empty", message, None));
        }
        self.vad.empty();
        let id = self.user_item.take().unwrap_or_else(|| self.new_id("item_"));
        self.commit(Some(id.clone()), buffered as u64);
        self.take_turn(id, buffered as u64);
        Ok(())
    }

    /// The idle clock starts when the audio of the last response has been played, as far as the server can tell.
    pub fn arm_idle(&mut self, audio_ms: u64) {
        self.idle_armed += 1;
        if let Some(idle) = self.detection.as_ref().and_then(|detection| detection.idle_ms) {
            self.later(Duration::from_millis(audio_ms + idle), Due::Idle(self.idle_armed));
        }
    }

    /// Queues an event, giving it its `event_id`.
    pub fn emit(&mut self, event: Value) {
        let Some(mut event) = dialect::outward(self.options().dialect, event) else { return };
        event["event_id"] = json!(self.new_id("event_"));
        if self.shared.events.receiver_count() > 0 {
            let kind = event["type"].as_str().unwrap_or_default();
            if !kind.ends_with("transcript.delta") {
                self.tell(Happened::Sent(kind.to_owned()));
            }
        }
        self.outbox.push_back(Message::Text(event.to_string().into()));
    }

    /// Queues an `error` about the client's event `event_id`.
    pub fn refuse(&mut self, refusal: &Refusal, event_id: Option<&str>) {
        let code = refusal.code.clone().unwrap_or_default();
        self.note(|log| log.errors.push(code.clone()));
        self.tell(Happened::Refused(code));
        self.emit(refusal.event(event_id));
    }

    /// Writes into the session's log.
    pub fn note<T>(&self, write: impl FnOnce(&mut SessionLog) -> T) -> T {
        write(&mut self.log.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Tells those who follow live.
    pub fn tell(&self, what: Happened) {
        self.shared.tell(ModelEvent { session: self.number, at: self.now, what });
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

    /// A fault strikes.
    pub fn strike(&mut self, fault: &Fault) {
        match fault {
            Fault::Drop(_) => self.ending = Some(Ending::Drop),
            Fault::Close { code, reason, .. } => {
                self.ending = Some(Ending::Close(*code, (*reason).to_owned()))
            }
            Fault::Expire(_) => self.happen(Due::Expire),
            Fault::Garbage(_) => {
                self.outbox.push_back(Message::Text("{\"type\":\"response.output_audio.del".into()));
                self.outbox.push_back(Message::Text("{\"kind\":3}".into()));
                self.outbox.push_back(Message::Text("[]".into()));
                self.outbox.push_back(Message::Binary(Bytes::from_static(&[0, 159, 146, 150])));
            }
            Fault::Huge { bytes, .. } => {
                let filler = "x".repeat(*bytes);
                self.outbox
                    .push_back(Message::Text(format!(r#"{{"type":"huge","filler":"{filler}"}}"#).into()));
            }
            Fault::UnsolicitedError(_) => {
                let message = "The sea is rough today.".to_owned();
                let code = Some("tide_unfavourable".to_owned());
                let refusal =
                    Refusal { kind: "weather_error", code, message, param: None, echoes_event_id: false };
                self.refuse(&refusal, None);
            }
            _ => {}
        }
    }

    /// The connection has ended.
    pub fn closed(&self, how: Closed) {
        self.note(|log| log.closed = Some(how.clone()));
        self.tell(Happened::Closed(how));
    }

    fn speech_started(&mut self, audio_start_ms: u64) {
        let now = self.now;
        self.idle_armed += 1;
        self.note(|log| log.speech_started.push(now));
        let id = self.new_id("item_");
        let event = json!({"type": "input_audio_buffer.speech_started", "audio_start_ms": audio_start_ms,
            "item_id": id});
        self.user_item = Some(id);
        if self.faults.contains(&Fault::DuplicateSpeechStarted) {
            self.emit(event.clone());
        }
        self.emit(event);
        if self.options().interrupts
            && self.detection.as_ref().is_some_and(|detection| detection.interrupts)
            && let Some(active) = self.active().map(str::to_owned)
        {
            self.cancel_response(&active, "turn_detected");
        }
    }

    fn speech_stopped(&mut self, audio_end_ms: u64, speech_ms: u64) {
        let now = self.now;
        self.note(|log| log.speech_stopped.push(now));
        let id = self.user_item.take().unwrap_or_else(|| self.new_id("item_"));
        self.emit(
            json!({"type": "input_audio_buffer.speech_stopped", "audio_end_ms": audio_end_ms, "item_id": id}),
        );
        self.commit(Some(id.clone()), speech_ms);
        self.take_turn(id, speech_ms);
        // With one still running, the automatic response is silently not made.
        if self.detection.as_ref().is_some_and(|detection| detection.creates) && self.active().is_none() {
            self.start_response(Value::Null, Cause::Turn);
        }
    }

    fn happen(&mut self, due: Due) {
        match due {
            Due::Step(id) => self.step_response(&id),
            Due::Send(message) => self.outbox.push_back(message),
            Due::Updated => {
                let now = self.now;
                self.note(|log| log.updated = log.updated.or(Some(now)));
                let shown = self.config.session().clone();
                self.emit(json!({"type": "session.updated", "session": shown}));
                if self.options().anomalies {
                    self.emit(json!({"type": "session.weather", "outlook": {"wind": 3}}));
                }
            }
            Due::RateLimits => {
                let remaining = 40_000u64.saturating_sub(self.last_input);
                self.emit(json!({"type": "rate_limits.updated", "rate_limits":
                    [{"name": "tokens", "limit": 40_000, "remaining": remaining, "reset_seconds": 0.3}]}));
            }
            Due::Transcript { item, text, heard_ms } => self.transcribe(&item, &text, heard_ms),
            Due::Idle(armed) => self.idle(armed),
            Due::HostedEnds(item) => self.end_hosted(&item),
            Due::Listed(label) => self.listed(&label),
            Due::Strike(fault) => self.strike(&fault),
            Due::Ping => {
                if self.now.duration_since(self.last_pong) > self.options().ping * 4 {
                    self.ending = Some(Ending::Close(1011, "keepalive ping timeout".to_owned()));
                    return;
                }
                let payload = self.letters(4);
                self.outbox.push_back(Message::Ping(payload.into()));
                self.later(self.options().ping, Due::Ping);
            }
            Due::Expire => {
                let reason = "Your session hit the maximum duration of 60 minutes.";
                self.refuse(&Refusal::new("session_expired", reason, None), None);
                self.ending = Some(Ending::Close(1001, reason.to_owned()));
            }
        }
    }

    fn transcribe(&mut self, item: &str, text: &str, heard_ms: u64) {
        if self.options().dialect == Dialect::Xai {
            return self.transcribe_by_itself(item, text);
        }
        let transcriber = self.config.transcriber().unwrap_or("whisper-1");
        let streams = transcriber.starts_with("gpt-");
        let by_duration = !transcriber.starts_with("gpt-4o");
        let kind = "conversation.item.input_audio_transcription";
        if streams {
            for word in text.split_inclusive(' ') {
                let obfuscation = self.letters(5);
                self.emit(json!({"type": format!("{kind}.delta"), "item_id": item, "content_index": 0, "delta": word,
                    "obfuscation": obfuscation}));
            }
        }
        let usage = if by_duration {
            json!({"type": "duration", "seconds": heard_ms as f64 / 1_000.0})
        } else {
            let (input, output) = (heard_ms / 100, text.len() as u64 / 4);
            json!({"type": "tokens", "total_tokens": input + output, "input_tokens": input,
                "input_token_details": {"text_tokens": 0, "audio_tokens": input}, "output_tokens": output})
        };
        if let Some(stored) = self.conversation.find_mut(item) {
            stored.value["content"][0]["transcript"] = json!(text);
        }
        self.tell(Happened::CallerSaid(text.to_owned()));
        self.emit(json!({"type": format!("{kind}.completed"), "item_id": item, "content_index": 0,
            "transcript": text, "usage": usage}));
    }

    /// Each telling holds all words so far. Every other turn, from the first, has no last one that says it is whole.
    fn transcribe_by_itself(&mut self, item: &str, text: &str) {
        let kind = "conversation.item.input_audio_transcription";
        let mut so_far = String::new();
        for word in text.split_inclusive(' ') {
            so_far.push_str(word);
            self.emit(json!({"type": format!("{kind}.updated"), "item_id": item, "content_index": 0,
                "transcript": so_far}));
        }
        self.tell(Happened::CallerSaid(text.to_owned()));
        if self.turns.is_multiple_of(2) {
            self.emit(json!({"type": format!("{kind}.completed"), "item_id": item, "content_index": 0,
                "transcript": text}));
        }
    }

    fn idle(&mut self, armed: u64) {
        let detection = self.detection.as_ref().and_then(|detection| detection.idle_ms);
        let Some(idle_ms) = detection.filter(|_| armed == self.idle_armed) else { return };
        if self.vad.is_speaking() || self.active().is_some() {
            return;
        }
        let end = self.vad.clock_ms();
        let id = self.new_id("item_");
        self.emit(json!({"type": "input_audio_buffer.timeout_triggered",
            "audio_start_ms": end.saturating_sub(idle_ms), "audio_end_ms": end, "item_id": id}));
        self.vad.empty();
        self.commit(Some(id), idle_ms);
        self.start_response(Value::Null, Cause::Idle);
    }

    fn check_update_faults(&mut self, update: &Value) -> Result<(), Refusal> {
        if self.faults.contains(&Fault::RefuseUpdates) {
            let message = "The simulated model refuses every update.";
            return Err(Refusal::new("invalid_value", message, "session".to_owned()));
        }
        let once = self.faults.iter().find_map(|fault| match fault {
            Fault::RefuseOptional { once } => Some(*once),
            _ => None,
        });
        let Some(once) = once else { return Ok(()) };
        let optional = [
            ("/audio/input/transcription", "session.audio.input.transcription"),
            ("/audio/input/noise_reduction", "session.audio.input.noise_reduction"),
            ("/audio/output/speed", "session.audio.output.speed"),
            ("/reasoning", "session.reasoning"),
            ("/truncation", "session.truncation"),
        ];
        let present = |at: &str| update.pointer(at).is_some_and(|value| !value.is_null());
        let Some((_, param)) = optional.into_iter().find(|(at, _)| present(at)) else { return Ok(()) };
        if once && self.shared.refused_optional.swap(true, Ordering::Relaxed) {
            return Ok(());
        }
        Err(Refusal::invalid(param, format!("Invalid value for '{param}': not supported by this model.")))
    }
}

fn letters(rng: &mut StdRng, count: usize) -> String {
    (0..count).map(|_| char::from(BASE62[rng.random_range(0..BASE62.len())])).collect()
}
