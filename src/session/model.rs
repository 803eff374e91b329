//! The model's side of a session: connecting, ready, or gone for good. `standby.rs` keeps a second session beside it.

mod form;
mod standby;

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use tokio::time::{sleep, timeout};
use tracing::Span;

use super::Switchboard;
use crate::assistant::plan::Plan;
use crate::call::{Anomaly, Event, Loss, Lost, Note, Outcome, TurnControl, initial_turn_control};
use crate::link;
use crate::link::model::{ModelLink, ModelStep, NotConnected};
use crate::provider::{Cause, Class, Failure};
use standby::Standby;

/// The pause before the second attempt to connect. It doubles up to 2 s.
const RETRY_PAUSE: Duration = Duration::from_millis(250);

/// After so many temporary failures in a row, it is the next endpoint's turn.
const TRIES: u32 = 2;
/// The longest attempt while another endpoint was not tried yet.
const HURRY: Duration = Duration::from_millis(2_500);
/// After an attempt that took longer, the next endpoint is better than the same one again.
const SLOW: Duration = Duration::from_secs(1);
/// How much longer than its call a session may live for the prepared lines.
const CAPTURES: Duration = Duration::from_secs(10);

type Connecting = Pin<Box<dyn Future<Output = Result<ModelLink, NotConnected>> + Send>>;

/// See the module.
pub(super) struct Model {
    plan: Arc<Plan>,
    switchboard: Arc<Switchboard>,
    state: State,
    /// The endpoints that may work, the one in use first.
    endpoints: VecDeque<usize>,
    /// How many of them were never tried: those that follow the first.
    untried: usize,
    /// Temporary failures in a row of the first endpoint.
    failures: u32,
    /// When this attempt began.
    began: tokio::time::Instant,
    attempts: u32,
    /// A session that may take over.
    standby: Option<Box<Standby>>,
    /// Who takes turns.
    turns: TurnControl,
    /// Entered when a model's frame or a new connection is looked at: at the caller's frames it would only cost time.
    span: Span,
    /// The caller had said something to a session that is gone.
    had_words: bool,
    /// Anomalies that are not yet counted.
    pub anomalies: Vec<Anomaly>,
    /// What happened after the call and is not yet filed.
    pub notes: Vec<Note>,
}

enum State {
    Connecting(Connecting),
    Ready(Box<ModelLink>),
    Failed(Lost),
    /// The call knows that it is gone.
    Gone,
}

impl Model {
    pub fn connecting(plan: Arc<Plan>, switchboard: Arc<Switchboard>) -> Self {
        let endpoints = switchboard.breakers.order(&plan);
        let mut model = Self {
            turns: initial_turn_control(&plan),
            plan,
            switchboard,
            state: State::Gone,
            untried: endpoints.len(),
            endpoints,
            failures: 0,
            began: tokio::time::Instant::now(),
            attempts: 0,
            standby: None,
            span: Span::current(),
            had_words: false,
            anomalies: Vec::new(),
            notes: Vec::new(),
        };
        model.attempt(Duration::ZERO);
        model
    }

    /// The endpoint in use.
    pub fn endpoint(&self) -> usize {
        self.endpoints.front().copied().unwrap_or(0)
    }

    pub fn is_ready(&self) -> bool {
        matches!(self.state, State::Ready(_))
    }

    pub fn link(&mut self) -> Option<&mut ModelLink> {
        match &mut self.state {
            State::Ready(link) => Some(link),
            State::Connecting(_) | State::Failed(_) | State::Gone => None,
        }
    }

    pub fn with(&mut self, act: impl FnOnce(&mut ModelLink)) {
        if let Some(link) = self.link() {
            act(link);
        }
    }

    /// While the phone rings: connects, and keeps the session open. Cancel-safe.
    pub async fn settle(&mut self) {
        let lost = poll_fn(|cx| match &mut self.state {
            State::Connecting(_) => self.poll_connect(cx).map(|_| false),
            State::Ready(_) => {
                self.poll_link(cx).map(|step| matches!(step, ModelStep::Event(Event::ModelLost(_))))
            }
            State::Failed(_) | State::Gone => Poll::Pending,
        });
        if lost.await {
            self.began = tokio::time::Instant::now();
            self.again(None);
        }
    }

    /// The next step of the session. The provider's breaker learns from it.
    fn poll_link(&mut self, cx: &mut Context<'_>) -> Poll<ModelStep> {
        let State::Ready(link) = &mut self.state else { return Poll::Pending };
        let step = ready!(link.poll_step(&self.span, cx));
        match &step {
            ModelStep::Event(Event::ResponseEnded { outcome: Outcome::Completed, .. }) => {
                self.switchboard.breakers.answered(&self.plan.at(self.endpoint()).provider.name);
            }
            ModelStep::Event(
                Event::ModelLost(Lost { failure, .. })
                | Event::ResponseEnded { outcome: Outcome::Failed(failure), .. },
            ) => self.switchboard.breakers.failed(self.plan.at(self.endpoint()), failure),
            ModelStep::Event(_) | ModelStep::Anomaly(_) => {}
        }
        Poll::Ready(step)
    }

    /// The next step of the conversation, or the event that a session is ready or lost.
    pub fn poll_step(&mut self, cx: &mut Context<'_>) -> Poll<ModelStep> {
        if self.standby.is_some() { self.poll_both(cx) } else { self.poll_used(cx) }
    }

    /// The next step of the session in use.
    fn poll_used(&mut self, cx: &mut Context<'_>) -> Poll<ModelStep> {
        loop {
            match &mut self.state {
                State::Connecting(_) => {
                    if ready!(self.poll_connect(cx)) {
                        return Poll::Ready(ModelStep::Event(Event::ModelReady {
                            endpoint: self.endpoint(),
                        }));
                    }
                }
                State::Ready(link) => {
                    if let Some(at) = link.take_expiry() {
                        return Poll::Ready(ModelStep::Event(Event::SessionExpires { at }));
                    }
                    return self.poll_link(cx);
                }
                State::Failed(lost) => {
                    let lost = lost.clone();
                    self.state = State::Gone;
                    return Poll::Ready(ModelStep::Event(Event::ModelLost(lost)));
                }
                State::Gone => return Poll::Pending,
            }
        }
    }

    /// Finishes one attempt. `true` if the model is ready.
    fn poll_connect(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        let _entered = self.span.clone().entered();
        let State::Connecting(connecting) = &mut self.state else { return Poll::Ready(false) };
        Poll::Ready(match ready!(connecting.as_mut().poll(cx)) {
            Ok(link) => {
                if link.is_plainer() {
                    self.anomalies.push(Anomaly::ModelPlainerConfiguration);
                }
                if self.attempts > 1 {
                    self.anomalies.push(Anomaly::ModelRetried);
                }
                self.failures = 0;
                self.switchboard.breakers.connected(&self.plan.at(self.endpoint()).provider.name);
                self.state = State::Ready(Box::new(link));
                true
            }
            Err(error) => {
                self.failed(&error);
                false
            }
        })
    }

    /// An attempt has failed: the same endpoint again, the next one, or none.
    fn failed(&mut self, error: &NotConnected) {
        let plan = self.plan.at(self.endpoint());
        let (provider, attempt) = (&plan.provider.name, self.attempts);
        if is_providers_fault(&error.failure()) {
            self.switchboard.breakers.failed(plan, &error.failure());
        }
        let class = error.failure().class().map(Class::code);
        if error.is_temporary() {
            tracing::warn!(provider, %error, class, attempt, "The model cannot be reached; retrying");
            return self.again(error.failure().retry_after);
        }
        tracing::error!(provider, %error, class, "The model cannot be used");
        self.endpoints.pop_front();
        self.failures = 0;
        match self.endpoints.is_empty() {
            true => self.state = State::Failed(error.lost()),
            false => self.attempt(Duration::ZERO),
        }
    }

    /// After a temporary failure: the next endpoint, if this one failed too often or an attempt takes long.
    fn again(&mut self, as_told: Option<Duration>) {
        self.failures += 1;
        let mut pause =
            (RETRY_PAUSE * 2u32.pow(self.attempts.clamp(1, 4) - 1)).max(as_told.unwrap_or_default());
        if self.endpoints.len() > 1 && (self.failures >= TRIES || self.began.elapsed() >= SLOW) {
            self.endpoints.rotate_left(1);
            self.failures = 0;
            pause = RETRY_PAUSE;
        }
        self.attempt(pause);
    }

    /// Connects to the first endpoint: at once if it was never tried, else after a pause.
    fn attempt(&mut self, pause: Duration) {
        let is_new = self.failures == 0 && self.untried > 0;
        if is_new {
            self.untried -= 1;
        }
        let pause = if is_new { Duration::ZERO } else { pause };
        let patience = if self.untried > 0 { HURRY } else { Duration::MAX };
        self.attempts += 1;
        let (plan, tls) = (self.plan.at(self.endpoint()).clone(), self.switchboard.tls.clone());
        self.began = tokio::time::Instant::now() + pause;
        self.state = State::Connecting(Box::pin(async move {
            sleep(pause).await;
            let connected = timeout(patience, ModelLink::connect_patiently(plan, tls)).await;
            connected.unwrap_or(Err(NotConnected::Late { garbage: 0 }))
        }));
    }

    /// When [`Self::overdue`] is next due, in the machine's time.
    pub fn deadline(&self) -> Option<Instant> {
        let used = match &self.state {
            State::Ready(link) => link.alive_deadline(),
            State::Connecting(_) | State::Failed(_) | State::Gone => None,
        };
        used.into_iter().chain(self.standby.as_ref().and_then(|standby| standby.alive_deadline())).min()
    }

    /// The loss of a model that has stopped answering.
    pub fn overdue(&mut self) -> Option<Lost> {
        let State::Ready(link) = &mut self.state else { return None };
        if link.check_alive(link::now()) {
            return None;
        }
        self.had_words |= link.has_words();
        self.switchboard.breakers.failed(self.plan.at(self.endpoint()), &Failure::default());
        self.state = State::Gone;
        Some(Loss::Stalled.into())
    }

    /// After the call: has a healthy model say the prepared lines that its plan lacks.
    pub async fn capture_missing(&mut self) {
        let State::Ready(link) = &mut self.state else { return };
        if link.is_gone() {
            return;
        }
        let Switchboard { no_captures, tools, .. } = &*self.switchboard;
        tokio::select! {
            biased;
            () = no_captures.cancelled() => {}
            // A line that failed is logged.
            _ = timeout(CAPTURES, link.capture_missing(tools.sounds())) => {}
        }
    }

    pub async fn close(mut self) {
        self.drop_standby();
        if let State::Ready(link) = self.state {
            link.close().await;
        }
    }
}

/// Whether nothing but the provider can be the reason. A wrong model or configuration is the file's.
fn is_providers_fault(failure: &Failure) -> bool {
    failure.cause.is_some_and(|cause| !matches!(cause, Cause::Model | Cause::Option | Cause::Expired))
}
