//! The model's side of a session: connecting, ready, or gone for good. `standby.rs` keeps a second session beside it.

mod standby;

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use tokio::time::sleep;
use tracing::Span;

use super::Switchboard;
use crate::assistant::plan::Plan;
use crate::call::{Anomaly, Event, Loss, Lost, TurnControl, initial_turn_control};
use crate::link;
use crate::link::model::{ModelLink, ModelStep, NotConnected};
use crate::provider::{Class, Failure};
use standby::Standby;

/// The pause before the second attempt to connect. It doubles up to 2 s.
const RETRY_PAUSE: Duration = Duration::from_millis(250);

type Connecting = Pin<Box<dyn Future<Output = Result<ModelLink, NotConnected>> + Send>>;

/// See the module.
pub(super) struct Model {
    plan: Arc<Plan>,
    switchboard: Arc<Switchboard>,
    state: State,
    /// A session that may take over.
    standby: Option<Box<Standby>>,
    /// Who takes turns.
    turns: TurnControl,
    attempts: u32,
    /// Why the last attempt failed.
    failure: Failure,
    /// When it must be ready, in the call's time; `None` while the phone rings.
    pub patience: Option<Instant>,
    /// Entered when a model's frame or a new connection is looked at: at the caller's frames it would only cost time.
    span: Span,
    /// Anomalies that are not yet counted.
    pub anomalies: Vec<Anomaly>,
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
        let connect = Box::pin(ModelLink::connect(plan.clone(), switchboard.tls.clone()));
        Self {
            turns: initial_turn_control(&plan),
            plan,
            switchboard,
            state: State::Connecting(connect),
            standby: None,
            attempts: 1,
            failure: Failure::default(),
            patience: None,
            span: Span::current(),
            anomalies: Vec::new(),
        }
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
            State::Ready(link) => link
                .poll_step(&self.span, cx)
                .map(|step| matches!(step, ModelStep::Event(Event::ModelLost(_)))),
            State::Failed(_) | State::Gone => Poll::Pending,
        });
        if lost.await {
            self.again();
        }
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
                        return Poll::Ready(ModelStep::Event(Event::ModelReady));
                    }
                }
                State::Ready(link) => {
                    if let Some(at) = link.take_expiry() {
                        return Poll::Ready(ModelStep::Event(Event::SessionExpires { at }));
                    }
                    return link.poll_step(&self.span, cx);
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
                self.state = State::Ready(Box::new(link));
                true
            }
            Err(error) if error.is_temporary() => {
                self.failure = error.failure();
                let class = self.failure.class().map(Class::code);
                tracing::warn!(%error, class, attempt = self.attempts, "The model cannot be reached; retrying");
                self.again();
                false
            }
            Err(error) => {
                let (provider, class) = (&self.plan.provider.name, error.failure().class().map(Class::code));
                tracing::error!(provider, %error, class, "The model cannot be used");
                self.state = State::Failed(error.lost());
                false
            }
        })
    }

    fn again(&mut self) {
        // At least as long as the provider asks for.
        let asked = self.failure.retry_after.take().unwrap_or_default();
        let pause = (RETRY_PAUSE * 2u32.pow(self.attempts.min(4) - 1)).max(asked);
        self.attempts += 1;
        let (plan, tls) = (self.plan.clone(), self.switchboard.tls.clone());
        self.state = State::Connecting(Box::pin(async move {
            sleep(pause).await;
            ModelLink::connect(plan, tls).await
        }));
    }

    /// When [`Self::overdue`] is next due: in the call's time while it connects, in the machine's once it is ready.
    pub fn deadlines(&self) -> (Option<Instant>, Option<Instant>) {
        let (in_call, outside) = match &self.state {
            State::Connecting(_) => (self.patience, None),
            State::Ready(link) => (None, link.alive_deadline()),
            State::Failed(_) | State::Gone => (None, None),
        };
        let standby = self.standby.as_ref().and_then(|standby| standby.alive_deadline());
        (in_call, outside.into_iter().chain(standby).min())
    }

    /// The loss of a model that took too long to connect, or has stopped answering. `now` is the call's time.
    pub fn overdue(&mut self, now: Instant) -> Option<Lost> {
        let loss = match &mut self.state {
            State::Connecting(_) => {
                let is_over = self.patience.is_some_and(|patience| patience <= now);
                is_over.then(|| Lost { loss: Loss::Unreachable, failure: self.failure.clone() })
            }
            State::Ready(link) => (!link.check_alive(link::now())).then(|| Loss::Stalled.into()),
            State::Failed(_) | State::Gone => None,
        }?;
        self.state = State::Gone;
        Some(loss)
    }

    pub async fn close(mut self) {
        self.drop_standby();
        if let State::Ready(link) = self.state {
            link.close().await;
        }
    }
}
