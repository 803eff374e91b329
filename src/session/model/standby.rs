//! A second session of a model beside the one in use: connecting, ready, filled with the conversation, asked. What it
//! says waits until it takes over.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use tracing::{Instrument as _, Span};

use super::{Connecting, Model, State, is_providers_fault};
use crate::assistant::plan::Plan;
use crate::call::{Anomaly, Event, Line, Loss, Lost, Request, Turn, TurnControl, initial_turn_control};
use crate::id::{ItemId, ToolCallId};
use crate::link;
use crate::link::model::{ModelLink, ModelStep};
use crate::provider::Class;
use crate::secret::Private;
use switchboard_audio::{BYTES_PER_MS, Chunk};

/// How much of what it says is kept: 10 s of audio.
const MAX_AUDIO: u64 = 10_000 * BYTES_PER_MS as u64;
/// How many bytes of all that is kept.
const MAX_BYTES: usize = 1024 * 1024;
/// What keeping a step takes besides its words and its audio.
const STEP: usize = 128;
/// How many steps are taken before others get their turn.
const MAX_STEPS: usize = 32;

/// See the module.
pub(super) struct Standby {
    endpoint: usize,
    plan: Arc<Plan>,
    state: Side,
    /// It has the conversation, and gets whatever becomes part of it.
    filled: bool,
    /// The item of the caller's turn under way.
    speaking: Option<ItemId>,
    /// Since it was asked.
    held: Option<Held>,
    /// It is polled before the session in use.
    is_first: bool,
}

enum Side {
    Connecting(Connecting),
    Ready(Box<ModelLink>),
}

/// What it reported since it was asked, for the call that takes it over.
#[derive(Default)]
struct Held {
    steps: VecDeque<ModelStep>,
    audio: u64,
    bytes: usize,
    /// It said or did something.
    spoke: bool,
}

impl Standby {
    fn link(&mut self) -> Option<&mut ModelLink> {
        match &mut self.state {
            Side::Ready(link) => Some(link),
            Side::Connecting(_) => None,
        }
    }

    /// When [`Model::standby_overdue`] is next due, in the machine's time.
    pub fn alive_deadline(&self) -> Option<Instant> {
        match &self.state {
            Side::Ready(link) => link.alive_deadline(),
            Side::Connecting(_) => None,
        }
    }

    /// Its link, if it has the conversation.
    fn filled(&mut self) -> Option<&mut ModelLink> {
        let filled = self.filled;
        self.link().filter(|_| filled)
    }

    /// What the call has to know at once. An error: it cannot be used any more.
    fn poll(&mut self, span: &Span, cx: &mut Context<'_>) -> Poll<Result<ModelStep, Lost>> {
        for _ in 0..MAX_STEPS {
            match &mut self.state {
                Side::Connecting(connecting) => {
                    let _entered = span.enter();
                    match ready!(connecting.as_mut().poll(cx)) {
                        Ok(mut link) => {
                            // Nobody hears it yet, so it must not answer by itself.
                            if initial_turn_control(&self.plan) != TurnControl::Server {
                                link.configure(TurnControl::Server);
                            }
                            self.state = Side::Ready(Box::new(link));
                            let ready = Event::StandbyReady { endpoint: self.endpoint };
                            return Poll::Ready(Ok(ModelStep::Event(ready)));
                        }
                        Err(error) => {
                            let provider = &self.plan.provider.name;
                            let class = error.failure().class().map(Class::code);
                            tracing::warn!(provider, %error, class, "A second session cannot be opened");
                            return Poll::Ready(Err(error.lost()));
                        }
                    }
                }
                Side::Ready(link) => {
                    let step = ready!(link.poll_step(span, cx));
                    if let Some(step) = self.take(step)? {
                        return Poll::Ready(Ok(step));
                    }
                }
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Holds a step. Before it is asked, it only listens, as the session in use does, which reports the same.
    fn take(&mut self, step: ModelStep) -> Result<Option<ModelStep>, Lost> {
        let event = match step {
            ModelStep::Event(Event::ModelLost(lost)) => return Err(lost),
            // It is paid for, whether the session is ever used or not.
            ModelStep::Event(Event::Usage { tokens, .. }) => {
                return Ok(Some(ModelStep::Event(Event::Usage { tokens, standby: true })));
            }
            ModelStep::Event(Event::TranscriptUsage { used, .. }) => {
                return Ok(Some(ModelStep::Event(Event::TranscriptUsage { used, standby: true })));
            }
            ModelStep::Event(event) => event,
            anomaly @ ModelStep::Anomaly(_) => return Ok(Some(anomaly)),
        };
        let Some(held) = &mut self.held else {
            match event {
                Event::SpeechStarted(item) => self.speaking = Some(item),
                Event::SpeechStopped => self.speaking = None,
                _ => {}
            }
            return Ok(None);
        };
        let news = held.news(&event);
        held.push(event);
        if held.audio > MAX_AUDIO || held.bytes > MAX_BYTES {
            tracing::warn!("A second session says more than can wait");
            return Err(Loss::Stalled.into());
        }
        Ok(news.map(ModelStep::Event))
    }

    /// What it reported and nobody has seen.
    fn unreported(&mut self) -> VecDeque<ModelStep> {
        let mut steps = self.held.take().unwrap_or_default().steps;
        if let Some(item) = self.speaking.take() {
            steps.push_front(ModelStep::Event(Event::SpeechStarted(item)));
        }
        steps
    }
}

impl Held {
    /// What an event says about the response that was asked for.
    fn news(&mut self, event: &Event) -> Option<Event> {
        match event {
            _ if self.spoke => None,
            Event::ModelAudio { chunk, .. } if !chunk.is_audible() => None,
            Event::ModelAudio { .. } | Event::ToolRequested { .. } => {
                self.spoke = true;
                Some(Event::StandbySpoke)
            }
            Event::ResponseEnded { outcome, .. } => Some(Event::StandbyMute(outcome.clone())),
            _ => None,
        }
    }

    fn push(&mut self, event: Event) {
        let words = match &event {
            Event::ModelAudio { chunk, .. } => {
                self.audio += chunk.bytes();
                chunk.as_str().len()
            }
            Event::Transcript { text, .. } | Event::TranscriptGrew { text, .. } => text.expose().len(),
            Event::ToolRequested { arguments, .. } | Event::ApprovalRequested { arguments, .. } => {
                arguments.expose().len()
            }
            _ => 0,
        };
        self.bytes += STEP + words;
        self.steps.push_back(ModelStep::Event(event));
    }
}

impl Model {
    /// Opens a second session. It takes the place of one that is there.
    pub fn open_standby(&mut self, endpoint: usize) {
        self.drop_standby();
        let plan = self.plan.at(endpoint).clone();
        let connecting = ModelLink::connect_patiently(plan.clone(), self.switchboard.tls.clone());
        self.standby = Some(Box::new(Standby {
            endpoint,
            plan,
            state: Side::Connecting(Box::pin(connecting)),
            filled: false,
            speaking: None,
            held: None,
            is_first: false,
        }));
    }

    /// Gives it the conversation. From here on, it gets whatever becomes part of it.
    pub fn fill_standby(&mut self, turns: &[Turn]) {
        if let Some(standby) = &mut self.standby
            && let Some(link) = standby.link()
        {
            link.fill(turns);
            standby.filled = true;
        }
    }

    /// Requests a response of it. From here on, its events are held.
    pub fn ask_standby(&mut self, request: Option<&Request>) {
        let Some(standby) = &mut self.standby else { return };
        let Some(link) = standby.link() else { return };
        match request {
            Some(request) => link.say(request),
            None => link.ask(),
        }
        if standby.held.is_none() {
            let mut held = Held::default();
            standby.speaking.take().into_iter().for_each(|item| held.push(Event::SpeechStarted(item)));
            standby.held = Some(held);
        }
        standby.held.iter_mut().for_each(|held| held.spoke = false);
    }

    /// Whether a second session has the conversation.
    pub(super) fn has_filled_standby(&mut self) -> bool {
        self.standby.as_mut().is_some_and(|standby| standby.filled().is_some())
    }

    /// It takes over. The other session is closed without an event.
    pub fn use_standby(&mut self) {
        let Some(mut standby) = self.standby.take() else { return };
        let steps = standby.unreported();
        let Side::Ready(mut link) = standby.state else {
            tracing::error!("A session that is not ready cannot take over");
            return;
        };
        if self.turns != TurnControl::Server {
            link.configure(self.turns);
        }
        link.put_back(steps);
        self.endpoints.retain(|endpoint| *endpoint != standby.endpoint);
        self.endpoints.push_front(standby.endpoint);
        if let State::Ready(old) = std::mem::replace(&mut self.state, State::Ready(link)) {
            self.close_beside(old);
        }
    }

    pub fn drop_standby(&mut self) {
        if let Some(Side::Ready(link)) = self.standby.take().map(|standby| standby.state) {
            self.close_beside(link);
        }
    }

    /// Closing may take a second; the call goes on meanwhile.
    fn close_beside(&self, link: Box<ModelLink>) {
        self.switchboard.sessions.spawn(link.close().instrument(self.span.clone()));
    }

    // ── what becomes part of the conversation ──

    /// Sends the caller's audio. Returns the event that the session in use takes no more.
    pub fn append(&mut self, chunk: &Chunk) -> Option<Event> {
        // One that does not read is found out soon.
        if let Some(link) = self.standby.as_mut().and_then(|standby| standby.filled())
            && !link.is_full()
        {
            link.append(chunk);
        }
        let link = self.link()?;
        if link.is_full() {
            return Some(Event::ModelStalled);
        }
        link.append(chunk);
        None
    }

    pub fn tell(&mut self, line: &Line) {
        self.with(|link| link.tell(line));
        self.with_filled(|link| link.tell(line));
    }

    pub fn answer_tool(&mut self, id: &ToolCallId, output: &Private) {
        self.with(|link| link.answer_tool(id, output.expose()));
        self.with_filled(|link| link.answer_tool(id, output.expose()));
    }

    fn with_filled(&mut self, act: impl FnOnce(&mut ModelLink)) {
        if let Some(link) = self.standby.as_mut().and_then(|standby| standby.filled()) {
            act(link);
        }
    }

    /// Who takes turns in the session in use, and in one that takes over.
    pub fn configure(&mut self, turns: TurnControl) {
        self.turns = turns;
        self.with(|link| link.configure(turns));
    }

    // ── polling ──

    /// The next step of either session.
    pub(super) fn poll_both(&mut self, cx: &mut Context<'_>) -> Poll<ModelStep> {
        let is_first = self.standby.as_mut().is_some_and(|standby| {
            standby.is_first = !standby.is_first;
            standby.is_first
        });
        for is_standbys_turn in [is_first, !is_first] {
            let step = if is_standbys_turn { self.poll_standby(cx) } else { self.poll_used(cx) };
            if step.is_ready() {
                return step;
            }
        }
        Poll::Pending
    }

    fn poll_standby(&mut self, cx: &mut Context<'_>) -> Poll<ModelStep> {
        let Some(standby) = &mut self.standby else { return Poll::Pending };
        Poll::Ready(match ready!(standby.poll(&self.span, cx)) {
            Ok(step) => {
                let is_ready = matches!(step, ModelStep::Event(Event::StandbyReady { .. }));
                if is_ready {
                    self.switchboard.breakers.connected(&standby.plan.provider.name);
                    if standby.link().is_some_and(|link| link.is_plainer()) {
                        self.anomalies.push(Anomaly::ModelPlainerConfiguration);
                    }
                }
                step
            }
            Err(lost) => {
                if is_providers_fault(&lost.failure) {
                    self.switchboard.breakers.failed(&standby.plan, &lost.failure);
                }
                ModelStep::Event(self.standby_lost(lost))
            }
        })
    }

    fn standby_lost(&mut self, lost: Lost) -> Event {
        self.drop_standby();
        Event::StandbyLost(lost)
    }

    /// The event that it has stopped answering.
    pub fn standby_overdue(&mut self) -> Option<Event> {
        let link = self.standby.as_mut()?.link()?;
        (!link.check_alive(link::now())).then(|| self.standby_lost(Loss::Stalled.into()))
    }

    /// Does something with both sessions.
    pub fn each(&mut self, mut act: impl FnMut(&mut ModelLink)) {
        if let Some(link) = self.link() {
            act(link);
        }
        if let Some(link) = self.standby.as_mut().and_then(|standby| standby.link()) {
            act(link);
        }
    }
}
