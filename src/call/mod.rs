//! One phone call, as a pure state machine: events in, actions out.
//!
//! It owns no socket, task, lock or clock, and does not know the formats of Twilio or OpenAI. The session reports
//! each event with its time, carries out the actions in order, and wakes the call at its deadline.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

/// Declares a closed list: an enum whose variants have stable codes, for logs, metrics and docs.
macro_rules! codes {
    ($(#[$meta:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident = $code:literal,)* }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name {
            $($(#[$doc])* $variant,)*
        }

        impl $name {
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// The stable code in logs, metrics and docs.
            pub fn code(self) -> &'static str {
                match self {
                    $(Self::$variant => $code,)*
                }
            }
        }
    };
}

mod action;
mod backlog;
mod consent;
mod conversation;
mod doubt;
pub mod ear;
mod end;
mod end_reason;
mod event;
mod greeting;
mod hosted;
mod keypad;
mod lost;
mod model;
mod out_of_band;
mod playback;
mod silence;
mod speech;
mod standby;
mod stopwatch;
mod tally;
mod tools;
mod transfer;
mod turns;
mod watch;

#[cfg(test)]
mod properties;
#[cfg(test)]
pub(crate) mod tests;

use std::sync::Arc;
use std::time::{Duration, Instant};

pub use action::{
    Action, Anomaly, Cause, Detour, Line, Note, Recording, Request, Spoken, Stop, Truncation, Turn,
    TurnControl,
};
pub use conversation::heard_words;
pub use end_reason::EndReason;
pub use event::{About, By, Event, Fault, Loss, Lost, Origin, Outcome, Return, TransferFailure, Who, Why};
pub use greeting::initial_turn_control;
pub use tally::Tally;

pub use crate::assistant::plan::END_CALL;
use crate::assistant::plan::{First, Interruptions, Keys, Plan};
use crate::provider::Failure;
use backlog::Backlog;
use consent::Consent;
use conversation::Conversation;
use end::Ending;
use keypad::Keypad;
use lost::LostStream;
use out_of_band::OutOfBand;
use playback::{Playback, Source};
use silence::{SilenceTimer, Step};
use speech::{Speech, What};
use standby::Standby;
use switchboard_audio::Chunk;
use tools::ToolCalls;
use transfer::{Leaving, Parked};
use turns::Floor;
use watch::Watch;

/// How much audio may go to the phone without a mark after it: 200 ms.
const MARK_EVERY: u64 = 1_600;
/// How long the phone may send nothing at all. Twilio sends 50 frames a second, even in silence, but a muted client or a
/// bad network may pause for long and come back.
const CALLER_TIMEOUT: Duration = Duration::from_secs(60);
/// How long our ear must have heard nothing before we end a turn that the model believes to go on.
const TURN_TIMEOUT: Duration = Duration::from_secs(2);
/// A speech that lasts longer is music, or a monologue: the caller counts as silent.
const LONGEST_SPEECH: Duration = Duration::from_secs(60);
/// How often our ear checks whether the model hears a caller who speaks.
const LISTEN_EVERY: Duration = Duration::from_secs(1);
/// How much audio may wait for the phone to play it: 5 min. Twilio itself keeps 10 min.
const MAX_UNPLAYED: u64 = 2_400_000;

/// A call, from the ringing phone to [`Action::End`].
#[derive(Debug)]
pub struct Call {
    plan: Arc<Plan>,
    started: Option<Instant>,
    model_ready: bool,
    /// A session of the model was ready before.
    was_ready: bool,
    /// Which of the plan's endpoints serves the call.
    endpoint: usize,
    standby: Standby,
    turn_control: TurnControl,
    /// What the responses fail with, since the last one that did not.
    failure: Option<Failure>,
    /// A limit of the account is almost used up until then.
    limited: Option<Instant>,
    /// What the assistant is to say.
    speech: Speech,
    /// What is done if nothing is heard of it.
    watch: Watch,
    conversation: Conversation,
    playback: Playback,
    out_of_band: OutOfBand,
    floor: Floor,
    /// A frame of the caller's changed when something is due.
    rearm: bool,
    backlog: Backlog,
    keypad: Keypad,
    silence: SilenceTimer,
    ending: Option<Ending>,
    /// The phone's socket is gone, and the call lives.
    lost: Option<LostStream>,
    last_from_caller: Option<Instant>,
    last_from_model: Option<Instant>,
    tools: ToolCalls,
    consent: Consent,
    leaving: Option<Leaving>,
    parked: Option<Parked>,
    /// The caller has spoken or pressed a key.
    caller_acted: bool,
    tally: Tally,
    ended: bool,
}

/// What a deadline is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Timer {
    /// The call's longest duration.
    Duration,
    /// Nobody speaks, and nothing happens.
    Silence,
    /// A goodbye must be heard by then.
    Goodbye,
    /// The caller has stopped pressing keys.
    Digits,
    /// The phone sends nothing, or its socket is gone.
    Caller,
    /// A cut response is waited for, a request is repeated, or the assistant owes something and is not heard.
    Model,
    /// A second session of the model is opened, or takes over.
    Standby,
    /// Our ear hears something else than the model.
    Ear,
    /// Audio counts as played although no echo came, or has no mark to echo.
    Playback,
    /// A tool takes too long, or the caller should hear that it takes a while.
    Tool,
    /// A parked phone has not come back.
    Parked,
}

impl Call {
    /// A call that follows `plan`. Nothing happens before [`Event::StreamStarted`].
    pub fn new(plan: Arc<Plan>) -> Self {
        let mut speech = Speech::default();
        if plan.greeting.first == First::Assistant && plan.greeting.clip.is_none() {
            speech.want(What::Greeting);
        }
        let playback = Playback::new(plan.turn_taking.interruptions == Interruptions::Confirmed);
        let mut floor = Floor::default();
        floor.confirms = greeting::confirms_from_the_start(&plan);
        Self {
            failure: None,
            limited: None,
            turn_control: initial_turn_control(&plan),
            silence: SilenceTimer::new(plan.limits.silence),
            plan,
            started: None,
            model_ready: false,
            was_ready: false,
            endpoint: 0,
            standby: Standby::default(),
            speech,
            watch: Watch::default(),
            conversation: Conversation::default(),
            playback,
            floor,
            out_of_band: OutOfBand::default(),
            rearm: false,
            backlog: Backlog::default(),
            keypad: Keypad::default(),
            ending: None,
            lost: None,
            last_from_caller: None,
            last_from_model: None,
            tools: ToolCalls::default(),
            consent: Consent::default(),
            leaving: None,
            parked: None,
            caller_acted: false,
            tally: Tally::default(),
            ended: false,
        }
    }

    /// What is being said at this moment, for a record that outlives the process.
    pub fn under_way(&self, now: Instant) -> Vec<Note> {
        let assistant = self.playback.speaking(now).map(|spoken| {
            let words = spoken.item.as_ref().and_then(|item| self.conversation.words_of(item));
            Note::AssistantSpeaks { words: words.cloned(), spoken }
        });
        let caller = self.floor.speaking.as_ref().map(|(began, item)| Note::CallerSpeaks {
            item: item.clone(),
            began: *began,
            now,
        });
        assistant.into_iter().chain(caller).collect()
    }

    /// How many bytes of audio had left for the phone, and were not heard, when it was last cleared.
    pub fn taken_back(&self) -> u64 {
        self.playback.taken_back()
    }

    /// Takes in what happened at `now`, and appends the actions that follow.
    pub fn handle(&mut self, event: Event, now: Instant, out: &mut Vec<Action>) {
        if self.ended || !self.model_ready && self.was_ready && event.comes_from_the_model() {
            return;
        }
        match event {
            Event::CallerAudio(chunk) => return self.caller_audio(chunk, now, out),
            Event::StreamStarted => self.stream_started(now, out),
            // We closed the socket of a parked phone.
            Event::StreamLost if self.parked.is_some() => {}
            Event::StreamLost => self.stream_lost(now, out),
            Event::MarkPlayed(mark) => {
                self.last_from_caller = Some(now).filter(|_| self.parked.is_none());
                if !self.playback.played(mark, now) {
                    count(Anomaly::CallerUnknownMark, out);
                }
            }
            Event::Digit(digit) => self.digit(digit, now, out),
            Event::CallerHungUp => self.end(EndReason::CallerHungUp, now, out),
            Event::ModelReady { endpoint } => self.model_is_ready(endpoint, now, out),
            Event::ResponseStarted { response, origin } => self.response_started(response, origin, now, out),
            Event::OutOfBandStarted(response) => self.out_of_band_started(response, out),
            Event::ModelAudio { response, item, chunk } => {
                self.model_audio(response, item, chunk, now, out);
            }
            Event::ResponseEnded { response, outcome } => self.response_ended(&response, &outcome, now, out),
            Event::SpeechStarted(item) => self.speech_started(item, now, out),
            Event::SpeechStopped => self.speech_stopped(now, out),
            Event::Transcript { who, item, text } => self.transcribed(who, item, text, now, out),
            Event::TranscriptGrew { who: Who::Assistant, item, text } => {
                self.last_from_model = Some(now);
                self.conversation.assistant_words(&item, text.expose());
            }
            Event::TranscriptGrew { who: Who::Caller, .. } => self.floor.heard_caller = Some(now),
            Event::ToolRequested { id, name, arguments, response } => {
                self.tool_requested(id, &name, &arguments, &response, now, out);
            }
            Event::HostedStarted { item, response, tool } => self.hosted_started(item, response, tool, now),
            Event::HostedEnded { item, failed } => self.hosted_ended(&item, failed, now),
            Event::ApprovalRequested { id, tool, arguments, response } => {
                self.approval_requested(id, &tool, &arguments, &response, now, out);
            }
            Event::ToolWorking(id) => self.tool_working(&id, now),
            Event::ToolFinished { id, outcome, output } => self.tool_finished(&id, outcome, output, now, out),
            Event::Returning => {
                if let Some(parked) = &mut self.parked {
                    parked.returning(now);
                }
                if let Some(lost) = &mut self.lost {
                    lost.returning(now);
                }
            }
            Event::Returned(Return::StreamAgain) => self.stream_again(now, out),
            Event::Returned(back) => self.returned(back, now, out),
            Event::Usage { tokens, standby } => self.response_charged(tokens, standby, out),
            Event::TranscriptUsage { used, standby } => self.transcript_charged(used, standby, out),
            Event::ModelWorking => self.last_from_model = Some(now),
            Event::RateLimited { until } => self.limited = Some(until),
            Event::SessionExpires { at } => self.session_expires(at, now),
            Event::StandbyReady { .. } => self.standby_ready(now, out),
            Event::StandbyLost(lost) => self.standby_lost(lost, now, out),
            Event::StandbySpoke => self.standby_spoke(now, out),
            Event::StandbyMute(outcome) => self.standby_mute(&outcome, now, out),
            Event::ModelFault(fault) => self.model_fault(fault, now, out),
            Event::ModelLost(lost) => self.model_lost(lost, now, out),
            Event::AudioLeft(piece) => {
                if self.playback.left(piece, now) {
                    self.tally.audio_left(self.started, now, out);
                }
            }
            Event::CallerStalled => {
                self.playback.stalled(now);
                count(Anomaly::CallerStalled, out);
            }
            Event::ModelStalled => self.model_lost(Loss::Stalled.into(), now, out),
            Event::CostNear if self.ending.is_some() => {}
            Event::CostNear => self.tell_model(Line::ComeToAnEnd, out),
            // Nobody would hear the goodbye. It is reported again.
            Event::CostReached if self.is_away() => {}
            Event::CostReached => self.say_goodbye(EndReason::LimitCost, now, out),
            Event::Draining => self.draining(now, out),
            Event::OperatorEnds => self.operator_ends(now, out),
        }
        self.settle(now, out);
    }

    /// Does what is due at `now`. Calling it early does no harm.
    pub fn handle_timeout(&mut self, now: Instant, out: &mut Vec<Action>) {
        if self.ended {
            return;
        }
        if let Some(lost) = &self.lost {
            if lost.until <= now {
                self.end(EndReason::CallerLost, now, out);
            }
            return;
        }
        if let Some(parked) = self.parked.as_ref().filter(|parked| parked.until <= now) {
            return self.end(parked.end_reason(), now, out);
        }
        if self.last_from_caller.is_some_and(|last| last + CALLER_TIMEOUT <= now) {
            return self.end(EndReason::CallerLost, now, out);
        }
        if self.keypad.deadline().is_some_and(|due| due <= now) {
            self.send_digits(out);
        }
        if self.duration_due().is_some_and(|due| due <= now) {
            self.say_goodbye(EndReason::LimitDuration, now, out);
        }
        match self.silence.step(now) {
            Some(Step::Check) if self.is_limited(now) => {}
            Some(Step::Check) => {
                let heard =
                    self.floor.ear_heard || self.floor.speaking.is_some() || self.floor.ear.sounds(now);
                self.speech.want(What::Say(Request::CheckCaller { heard }));
            }
            Some(Step::GiveUp) => self.say_goodbye(EndReason::LimitSilence, now, out),
            None => {}
        }
        // No more comes, so that only a mark shows when it is over.
        if self.playback.unmarked_over().is_some_and(|at| at <= now) {
            self.mark(now, out);
        }
        self.tools_due(now, out);
        self.speech.resume(now);
        self.forget_cut_response(now);
        self.listen(now, out);
        self.standby_due(now, out);
        self.settle(now, out);
    }

    /// When [`Self::handle_timeout`] is next due, and what for.
    pub fn deadline(&self) -> Option<(Instant, Timer)> {
        if self.ended {
            return None;
        }
        if let Some(lost) = &self.lost {
            return Some((lost.until, Timer::Caller));
        }
        [
            (self.duration_due(), Timer::Duration),
            (self.silence.deadline(), Timer::Silence),
            (self.ending.as_ref().map(|ending| ending.deadline), Timer::Goodbye),
            (self.keypad.deadline(), Timer::Digits),
            (self.last_from_caller.map(|last| last + CALLER_TIMEOUT), Timer::Caller),
            (self.cut_due(), Timer::Model),
            (self.speech.pause(), Timer::Model),
            (self.watch.deadline(), Timer::Model),
            (self.ask_again_due(), Timer::Model),
            (self.standby.deadline(), Timer::Standby),
            (self.floor.listen, Timer::Ear),
            (self.doubt_due(), Timer::Ear),
            (self.playback.presumed_over(), Timer::Playback),
            (self.playback.unmarked_over(), Timer::Playback),
            (self.tools.deadline(), Timer::Tool),
            (self.parked.as_ref().map(|parked| parked.until), Timer::Parked),
        ]
        .into_iter()
        .filter_map(|(due, timer)| Some((due?, timer)))
        .min()
    }

    /// Whether the last frame of the caller's changed [`Self::deadline`]. Asking resets it.
    pub fn take_rearm(&mut self) -> bool {
        std::mem::take(&mut self.rearm)
    }

    /// The figures of the call so far.
    pub fn tally(&self) -> &Tally {
        &self.tally
    }

    // ── the phone ──

    fn stream_started(&mut self, now: Instant, out: &mut Vec<Action>) {
        if self.started.is_some() {
            return;
        }
        self.started = Some(now);
        self.last_from_caller = Some(now);
        out.push(Action::MarkForCaller(self.playback.mark(now)));
        if self.plan.greeting.first == First::Assistant
            && let Some(clip) = self.plan.greeting.clip.clone()
        {
            self.speech.made(What::Greeting);
            self.play(Source::Recording(Recording::Greeting), Chunk::from_ulaw(&clip.ulaw), out);
            self.playback.voiced();
            self.mark(now, out);
        }
    }

    /// The hot path: nothing is settled unless our ear finds that the caller begins or stops to speak.
    fn caller_audio(&mut self, chunk: Chunk, now: Instant, out: &mut Vec<Action>) {
        if self.parked.is_some() {
            return; // The last frames of a socket that closes.
        }
        self.last_from_caller = Some(now);
        self.floor.ear.hear(&chunk, now);
        let speaks = self.floor.ear.speaks(now);
        let takes_turn = speaks || self.floor.speaking.is_some() || self.floor.doubt.is_some();
        self.conversation.caller_audio(&chunk, takes_turn);
        if self.model_ready {
            out.push(Action::AppendToModel(chunk));
        } else {
            for _ in 0..self.backlog.push_audio(chunk) {
                count(Anomaly::CallerAudioDropped, out);
            }
        }
        let is_judged = match (&self.floor.doubt, &self.floor.noise) {
            (None, None) => false,
            (Some(_), _) => self.judge_doubt(now, out),
            (None, Some(_)) => self.listen_after_noise(now, out),
        };
        if speaks != self.floor.ear_speaks {
            self.ear_changed(speaks, now, out);
            self.settle(now, out);
        } else if is_judged {
            self.rearm = true;
            self.settle(now, out);
        }
    }

    fn digit(&mut self, digit: char, now: Instant, out: &mut Vec<Action>) {
        if self.parked.is_some() {
            return;
        }
        self.last_from_caller = Some(now);
        if self.keypad.is_late_end(digit, &self.plan.dtmf, now) {
            return;
        }
        self.caller_acts(now);
        if self.plan.turn_taking.keys == Keys::Interrupt && self.is_interruptible() && self.ending.is_none() {
            // The model does not hear keys, so it does not stop by itself.
            self.interrupt(false, now, out);
            self.stop_interrupted_tools(now, out);
        }
        if self.keypad.press(digit, &self.plan.dtmf, now) {
            self.send_digits(out);
        }
    }

    /// The caller spoke or pressed a key.
    fn caller_acts(&mut self, now: Instant) {
        self.caller_acted = true;
        self.floor.ear_heard = false;
        self.silence.restart();
        self.consent.caller_acts(self.playback.heard(now), self.playback.is_quiet());
    }

    fn send_digits(&mut self, out: &mut Vec<Action>) {
        let digits = self.keypad.take();
        if self.ending.is_none() {
            out.push(Action::Note(Note::Pressed(digits.clone().into())));
            self.tell_model(Line::Pressed(digits), out);
            self.speech.want(What::Answer);
        }
    }

    // ── after every event ──

    /// Does what follows from the state, whichever event led to it.
    fn settle(&mut self, now: Instant, out: &mut Vec<Action>) {
        if self.ended {
            return;
        }
        self.playback.presume(now);
        self.judge_doubt(now, out);
        for spoken in self.playback.forget_heard([self.speech.active(), self.out_of_band.running()]) {
            if let Some(recording) = spoken.recording {
                self.tell_model_recording(recording, 1.0, out);
            }
            self.spoken(spoken, out);
        }
        self.follow_greeting(out);
        self.end_if_heard(now, out);
        if self.ended {
            return;
        }
        self.park_if_heard(now, out);
        self.settle_tools(now, out);
        if self.may_ask()
            && let Some(what) = self.speech.ask(self.is_callers_turn(now), now)
        {
            out.push(self.request(what));
        }
        let idle = self.started.is_some()
            && self.lost.is_none()
            && self.ending.is_none()
            && !self.is_callers_turn(now)
            && !self.caller_speaks(now)
            && self.keypad.deadline().is_none()
            && self.parked.is_none()
            && !self.tools.is_busy()
            && self.speech.is_idle()
            && self.playback.is_quiet();
        self.silence.observe(idle, now);
        self.renew_in_pause(idle && self.floor.speaking.is_none(), now, out);
        self.watch_silence(now, out);
        self.break_silence(now, out);
    }

    /// Whether a response may be requested. If the model does not take turns by itself, playback must end first.
    fn may_ask(&self) -> bool {
        self.model_ready
            && self.started.is_some()
            && !self.is_away()
            && match self.turn_control {
                TurnControl::Model => true,
                TurnControl::Server if self.floor.confirms && self.floor.doubt.is_none() => true,
                TurnControl::Server => self.ending.is_some() || self.playback.is_voice_over(),
            }
    }

    fn request(&self, what: What) -> Action {
        match what {
            What::Answer | What::Announcement => Action::AskForResponse,
            What::Greeting => match self.plan.greeting.say.clone() {
                Some(line) => Action::Say(Request::Greeting(line)),
                None => Action::AskForResponse,
            },
            What::Goodbye(reason) => Action::Say(Request::Goodbye(reason)),
            What::GoOn => Action::Say(Request::GoOn(self.conversation.last_words())),
            What::Say(request) => Action::Say(request),
        }
    }

    /// Whether no phone is connected.
    fn is_away(&self) -> bool {
        self.parked.is_some() || self.lost.is_some()
    }

    fn duration_due(&self) -> Option<Instant> {
        if self.ending.is_some() || self.parked.is_some() {
            None
        } else {
            Some(self.started? + self.plan.limits.call)
        }
    }

    /// Queues audio for the phone, in pieces that it accepts.
    fn play(&mut self, source: Source, chunk: Chunk, out: &mut Vec<Action>) {
        for chunk in chunk.pieces() {
            let piece = self.playback.put(source.clone(), &chunk);
            out.extend(piece.map(|piece| Action::PlayToCaller { piece, chunk }));
        }
    }

    fn mark(&mut self, now: Instant, out: &mut Vec<Action>) {
        if self.playback.unmarked() > 0 {
            out.push(Action::MarkForCaller(self.playback.mark(now)));
        }
    }

    fn tell_model(&mut self, line: Line, out: &mut Vec<Action>) {
        self.conversation.told(&line);
        if self.model_ready {
            out.push(Action::TellModel(line));
        } else {
            self.backlog.push_line(line);
        }
    }
}

fn count(anomaly: Anomaly, out: &mut Vec<Action>) {
    out.push(Action::Note(Note::Anomaly(anomaly)));
}
