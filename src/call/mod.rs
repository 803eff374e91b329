//! One phone call, as a pure state machine: events in, actions out.
//!
//! It owns no socket, task, lock or clock, and knows neither Twilio's nor OpenAI's formats. The session feeds it
//! events with the time they happened, carries out its actions in order, and wakes it at its deadline.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

mod action;
mod consent;
mod end;
mod event;
mod greeting;
mod model;
mod out_of_band;
mod playback;
mod responses;
mod silence;
mod tally;
mod tools;
mod transfer;

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub use action::{Action, Anomaly, Detour, Line, Note, Request, Spoken, Stop, Truncation, TurnControl};
pub use end::EndReason;
pub use event::{Event, Fault, Loss, Outcome, Return, TransferFailure, Who};
pub use greeting::initial_turn_control;
pub use tally::Tally;

pub use crate::assistant::plan::END_CALL;
use crate::assistant::plan::{First, Plan};
use crate::id::ItemId;
use consent::Consent;
use end::Ending;
use greeting::Greeting;
use out_of_band::Asides;
use playback::{Playback, Source};
use responses::{Ask, Responses};
use silence::{Quiet, Step};
use switchboard_audio::Chunk;
use tools::Jobs;
use transfer::{Leaving, Parked};

/// How much of the caller's audio is kept while the model is not ready: 10 s.
const EARLY_BYTES: u64 = 80_000;
/// How much audio may go to the phone without a mark behind it: 200 ms.
const MARK_EVERY: u64 = 1_600;
/// How long the phone may send nothing at all. Twilio sends 50 frames a second, silence included.
const CALLER_PATIENCE: Duration = Duration::from_secs(15);
/// How long a running response may send nothing while nothing plays, once it has begun to speak.
const SILENT_RESPONSE: Duration = Duration::from_secs(3);
/// How long it may send nothing before: a model may think.
const THOUGHTFUL_RESPONSE: Duration = Duration::from_secs(10);
/// How much audio may wait for the phone to play it: 5 min. More is dropped; Twilio itself keeps 10.
const MAX_AHEAD: u64 = 2_400_000;
/// How long it may take to learn why the phone's socket is gone.
const LOST_PATIENCE: Duration = Duration::from_secs(1);
/// How long after the last key the keys are one message.
const DIGITS_PAUSE: Duration = Duration::from_millis(1_500);
/// Keys in one message. Nobody types more by hand.
const MAX_DIGITS: usize = 32;
/// Lines kept for a model that is not ready.
const MAX_UNTOLD: usize = 8;

/// See the module.
#[derive(Debug)]
pub struct Call {
    plan: Arc<Plan>,
    started: Option<Instant>,
    model_ready: bool,
    turns_by: TurnControl,
    greeting: Greeting,
    /// A turn of the caller's that is answered after the greeting.
    spoke_before_greeting: bool,
    playback: Playback,
    responses: Responses,
    asides: Asides,
    /// Since when the caller speaks, and the item that will hold it.
    speaking: Option<(Instant, ItemId)>,
    early: VecDeque<Chunk>,
    early_bytes: u64,
    /// Lines for the model from before it was ready.
    untold: Vec<Line>,
    digits: String,
    digits_due: Option<Instant>,
    quiet: Quiet,
    ending: Option<Ending>,
    /// When the phone's socket was lost, until it is known why.
    lost: Option<Instant>,
    last_from_caller: Option<Instant>,
    last_from_model: Option<Instant>,
    jobs: Jobs,
    consent: Consent,
    leaving: Option<Leaving>,
    /// The phone is elsewhere.
    parked: Option<Parked>,
    /// Whether the caller has spoken or pressed a key.
    caller_acted: bool,
    /// Whether anything of the running response has been put out for the phone.
    response_spoke: bool,
    tally: Tally,
    ended: bool,
}

/// What a deadline is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Timer {
    /// The call's longest duration.
    Duration,
    /// Nobody does anything.
    Silence,
    /// A goodbye that is not heard in time.
    Goodbye,
    /// Keys wait for more keys.
    Digits,
    /// The phone sends nothing, or its socket is gone.
    Caller,
    /// A response is due, or has gone silent.
    Model,
    /// Audio counts as played though no echo came.
    Playback,
    /// A tool takes too long, or so long that the caller is told to wait.
    Tool,
    /// The phone was sent elsewhere, and does not come back.
    Parked,
}

impl Call {
    /// A call that follows `plan` to its end. Nothing happens before [`Event::StreamStarted`].
    pub fn new(plan: Arc<Plan>) -> Self {
        let greeting = match plan.greeting.first {
            First::Assistant => Greeting::Due,
            First::Caller => Greeting::Over,
        };
        Self {
            turns_by: initial_turn_control(&plan),
            quiet: Quiet::new(plan.limits.silence),
            plan,
            started: None,
            model_ready: false,
            greeting,
            spoke_before_greeting: false,
            playback: Playback::default(),
            responses: Responses::default(),
            asides: Asides::default(),
            speaking: None,
            early: VecDeque::new(),
            early_bytes: 0,
            untold: Vec::new(),
            digits: String::new(),
            digits_due: None,
            ending: None,
            lost: None,
            last_from_caller: None,
            last_from_model: None,
            jobs: Jobs::default(),
            consent: Consent::default(),
            leaving: None,
            parked: None,
            caller_acted: false,
            response_spoke: false,
            tally: Tally::default(),
            ended: false,
        }
    }

    /// Takes in what happened at `now`, and appends what is to be done about it.
    pub fn handle(&mut self, event: Event, now: Instant, out: &mut Vec<Action>) {
        if self.ended {
            return;
        }
        match event {
            Event::CallerAudio(chunk) => return self.caller_audio(chunk, now, out),
            Event::StreamStarted => self.stream_started(now, out),
            // A parked phone was sent away by us.
            Event::StreamLost if self.parked.is_some() => {}
            Event::StreamLost => {
                self.lost.get_or_insert(now);
            }
            Event::MarkPlayed(mark) => {
                self.last_from_caller = Some(now).filter(|_| self.parked.is_none());
                if !self.playback.played(mark, now) {
                    odd(Anomaly::CallerUnknownMark, out);
                }
            }
            Event::Digit(digit) => self.digit(digit, now, out),
            Event::CallerHungUp => self.end(EndReason::CallerHungUp, now, out),
            Event::ModelReady => self.model_ready(out),
            Event::ResponseStarted(response) => self.response_started(response, now, out),
            Event::OutOfBandStarted(response) => self.aside_started(response, out),
            Event::ModelAudio { response, item, chunk } => {
                self.model_audio(response, item, chunk, now, out);
            }
            Event::ResponseEnded { response, outcome } => self.response_ended(&response, outcome, now, out),
            Event::SpeechStarted(item) => self.speech_started(item, now, out),
            Event::SpeechStopped => self.speech_stopped(now, out),
            Event::Transcript { who, item, text } => {
                self.last_from_model = Some(now);
                if who == Who::Assistant && tools::looks_like_a_call(text.expose(), &self.plan) {
                    odd(Anomaly::ModelWroteCall, out);
                }
                out.push(Action::Note(Note::Said { who, item, text }));
            }
            Event::ToolRequested { id, name, arguments, response } => {
                self.tool_requested(id, &name, &arguments, &response, now, out);
            }
            Event::HostedStarted { item, response } => self.hosted_started(item, response, now),
            Event::HostedEnded { item } => self.hosted_ended(&item, now),
            Event::ApprovalRequested { id, tool, arguments, response } => {
                self.approval_requested(id, &tool, &arguments, &response, now, out);
            }
            Event::ToolWorking(id) => self.tool_working(&id, now),
            Event::ToolFinished { id, output } => self.tool_finished(id, output, out),
            Event::Returning => {
                if let Some(parked) = &mut self.parked {
                    parked.comes_back(now);
                }
            }
            Event::Returned(back) => self.returned(back, now, out),
            Event::Usage { tokens_in, tokens_out } => self.tally.used(tokens_in, tokens_out),
            Event::ModelWorking => self.last_from_model = Some(now),
            Event::ModelFault(fault) => self.model_fault(fault, now, out),
            Event::ModelLost(loss) => self.model_lost(loss, now, out),
            Event::AudioLeft(piece) => {
                self.playback.left(piece, now);
                self.tally.audio_left(self.started, now, out);
            }
            Event::CallerStalled => {
                self.playback.stalled(now);
                odd(Anomaly::CallerStalled, out);
            }
            Event::ModelStalled => self.end(EndReason::ModelStalled, now, out),
            Event::Draining => match &mut self.parked {
                Some(parked) => parked.house_closes(now),
                None => self.say_goodbye(EndReason::ServerDraining, now, out),
            },
        }
        self.settle(now, out);
    }

    /// Does what is due at `now`. Early calls do no harm.
    pub fn handle_timeout(&mut self, now: Instant, out: &mut Vec<Action>) {
        if self.ended {
            return;
        }
        if let Some(lost) = self.lost {
            if lost + LOST_PATIENCE <= now {
                self.end(EndReason::CallerLost, now, out);
            }
            return;
        }
        if let Some(parked) = self.parked.as_ref().filter(|parked| parked.until <= now) {
            return self.end(parked.ends_as(), now, out);
        }
        if self.last_from_caller.is_some_and(|last| last + CALLER_PATIENCE <= now) {
            return self.end(EndReason::CallerLost, now, out);
        }
        if self.digits_due.is_some_and(|due| due <= now) {
            self.send_digits(out);
        }
        if self.duration_due().is_some_and(|due| due <= now) {
            self.say_goodbye(EndReason::LimitDuration, now, out);
        }
        match self.quiet.step(now) {
            Some(Step::Check) => self.responses.want(Ask::Say(Request::CheckCaller)),
            Some(Step::GiveUp) => self.say_goodbye(EndReason::LimitSilence, now, out),
            None => {}
        }
        self.tools_due(now, out);
        self.watch_model(now, out);
        self.settle(now, out);
    }

    /// When [`Self::handle_timeout`] is next due, and for whose sake.
    pub fn deadline(&self) -> Option<(Instant, Timer)> {
        if self.ended {
            return None;
        }
        if let Some(lost) = self.lost {
            return Some((lost + LOST_PATIENCE, Timer::Caller));
        }
        [
            (self.duration_due(), Timer::Duration),
            (self.quiet.deadline(), Timer::Silence),
            (self.ending.as_ref().map(|ending| ending.deadline), Timer::Goodbye),
            (self.digits_due, Timer::Digits),
            (self.last_from_caller.map(|last| last + CALLER_PATIENCE), Timer::Caller),
            (self.model_due(), Timer::Model),
            (self.playback.presumed_over(), Timer::Playback),
            (self.jobs.deadline(), Timer::Tool),
            (self.parked.as_ref().map(|parked| parked.until), Timer::Parked),
        ]
        .into_iter()
        .filter_map(|(due, timer)| Some((due?, timer)))
        .min()
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
        if self.greeting == Greeting::Due
            && let Some(clip) = self.plan.greeting.clip.clone()
        {
            self.greeting = Greeting::Playing;
            for chunk in Chunk::from_ulaw(&clip.ulaw).pieces() {
                self.play(Source::Clip, chunk, out);
            }
            self.mark(now, out);
        }
    }

    /// The hot path: no timer but the caller's own depends on a frame.
    fn caller_audio(&mut self, chunk: Chunk, now: Instant, out: &mut Vec<Action>) {
        if self.parked.is_some() {
            return; // The last of a socket that closes.
        }
        self.last_from_caller = Some(now);
        if self.model_ready {
            out.push(Action::AppendToModel(chunk));
            return;
        }
        self.early_bytes += chunk.bytes();
        self.early.push_back(chunk);
        while self.early_bytes > EARLY_BYTES
            && let Some(oldest) = self.early.pop_front()
        {
            self.early_bytes -= oldest.bytes();
            odd(Anomaly::CallerAudioDropped, out);
        }
    }

    fn digit(&mut self, digit: char, now: Instant, out: &mut Vec<Action>) {
        if self.parked.is_some() {
            return;
        }
        self.last_from_caller = Some(now);
        self.caller_acts(now);
        if digit != '#' || self.digits.is_empty() {
            self.digits.push(digit);
        }
        self.digits_due = Some(now + DIGITS_PAUSE);
        if digit == '#' || self.digits.len() == MAX_DIGITS {
            self.send_digits(out);
        }
    }

    /// They spoke or pressed a key.
    fn caller_acts(&mut self, now: Instant) {
        self.caller_acted = true;
        self.quiet.heard_from_caller();
        self.consent.caller_acts(self.playback.heard(now), self.playback.is_quiet());
    }

    fn send_digits(&mut self, out: &mut Vec<Action>) {
        self.digits_due = None;
        let digits = std::mem::take(&mut self.digits);
        if self.ending.is_none() {
            self.tell(Line::Pressed(digits), out);
            self.responses.want(Ask::Next);
        }
    }

    // ── after every event ──

    /// What follows from the state as it is, whatever event led there.
    fn settle(&mut self, now: Instant, out: &mut Vec<Action>) {
        if self.ended {
            return;
        }
        self.playback.presume(now);
        self.open_if_due();
        for spoken in self.playback.forget_heard([self.responses.active(), self.asides.running()]) {
            if spoken.item.is_none() {
                self.tell_greeting(1.0, out);
            }
            out.push(Action::Note(Note::AssistantSpoke(spoken)));
        }
        self.close_greeting_if_over(out);
        self.end_if_heard(now, out);
        if self.ended {
            return;
        }
        self.leave_if_heard(now, out);
        self.settle_tools(out);
        if self.may_ask()
            && let Some(ask) = self.responses.take_wish(self.speaking.is_some(), now)
        {
            if self.greeting == Greeting::Due {
                self.greeting = Greeting::Asked;
            }
            out.push(match ask {
                Ask::Next => Action::AskForResponse,
                Ask::Say(request) => Action::Say(request),
            });
        }
        let idle = self.started.is_some()
            && self.lost.is_none()
            && self.ending.is_none()
            && self.speaking.is_none()
            && self.digits.is_empty()
            && self.parked.is_none()
            && !self.jobs.is_busy()
            && self.responses.is_idle()
            && self.playback.is_quiet();
        self.quiet.observe(idle, now);
    }

    /// Where the model does not take turns by itself, we ask when nothing is left to hear and nobody speaks.
    fn may_ask(&self) -> bool {
        self.model_ready
            && self.started.is_some()
            && self.parked.is_none()
            && match self.turns_by {
                TurnControl::Model => true,
                TurnControl::Server => self.ending.is_some() || self.playback.is_quiet(),
            }
    }

    fn duration_due(&self) -> Option<Instant> {
        if self.ending.is_some() || self.parked.is_some() {
            None
        } else {
            Some(self.started? + self.plan.limits.call)
        }
    }

    fn play(&mut self, source: Source, chunk: Chunk, out: &mut Vec<Action>) {
        let piece = self.playback.put(source, chunk.bytes());
        out.push(Action::PlayToCaller { piece, chunk });
    }

    fn mark(&mut self, now: Instant, out: &mut Vec<Action>) {
        if self.playback.unmarked() > 0 {
            out.push(Action::MarkForCaller(self.playback.mark(now)));
        }
    }

    fn tell(&mut self, line: Line, out: &mut Vec<Action>) {
        if self.model_ready {
            out.push(Action::TellModel(line));
        } else if self.untold.len() < MAX_UNTOLD {
            self.untold.push(line);
        }
    }
}

fn odd(anomaly: Anomaly, out: &mut Vec<Action>) {
    out.push(Action::Note(Note::Anomaly(anomaly)));
}
