//! The model's side of a session: connecting, ready, or gone for good.

use std::future::pending;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::time::sleep;

use super::Switchboard;
use crate::assistant::plan::Plan;
use crate::call::{Anomaly, Event, Loss};
use crate::link::model::{ModelLink, ModelStep, NotConnected};

/// The pause before the second attempt to connect. It doubles up to 2 s.
const RETRY_PAUSE: Duration = Duration::from_millis(250);

type Connecting = Pin<Box<dyn Future<Output = Result<ModelLink, NotConnected>> + Send>>;

/// See the module.
pub(super) struct Model {
    plan: Arc<Plan>,
    switchboard: Arc<Switchboard>,
    state: State,
    attempts: u32,
    /// When it must be ready; `None` while the phone rings.
    pub patience: Option<Instant>,
    /// Anomalies that are not yet counted.
    pub anomalies: Vec<Anomaly>,
}

enum State {
    Connecting(Connecting),
    Ready(Box<ModelLink>),
    Failed(Loss),
    /// The call knows that it is gone.
    Gone,
}

impl Model {
    pub fn connecting(plan: Arc<Plan>, switchboard: Arc<Switchboard>) -> Self {
        let connect = Box::pin(ModelLink::connect(plan.clone(), switchboard.tls.clone()));
        Self {
            plan,
            switchboard,
            state: State::Connecting(connect),
            attempts: 1,
            patience: None,
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
        match &mut self.state {
            State::Connecting(_) => {
                self.connect().await;
            }
            State::Ready(link) => match link.step().await {
                ModelStep::Event(Event::ModelLost(_)) => self.again(),
                ModelStep::Event(_) | ModelStep::Anomaly(_) => {}
            },
            State::Failed(_) | State::Gone => pending().await,
        }
    }

    /// The next step of the conversation, or the event that the model is ready or lost. Cancel-safe.
    pub async fn step(&mut self) -> ModelStep {
        loop {
            match &mut self.state {
                State::Connecting(_) => {
                    if self.connect().await {
                        return ModelStep::Event(Event::ModelReady);
                    }
                }
                State::Ready(link) => return link.step().await,
                State::Failed(loss) => {
                    let loss = *loss;
                    self.state = State::Gone;
                    return ModelStep::Event(Event::ModelLost(loss));
                }
                State::Gone => pending().await,
            }
        }
    }

    /// Finishes one attempt. `true` if the model is ready.
    async fn connect(&mut self) -> bool {
        let State::Connecting(connecting) = &mut self.state else { return false };
        match connecting.await {
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
                tracing::warn!(%error, attempt = self.attempts, "The model cannot be reached; retrying");
                self.again();
                false
            }
            Err(error) => {
                tracing::error!(provider = self.plan.provider.name, %error, "The model cannot be used");
                self.state = State::Failed(error.loss());
                false
            }
        }
    }

    fn again(&mut self) {
        let pause = RETRY_PAUSE * 2u32.pow(self.attempts.min(4) - 1);
        self.attempts += 1;
        let (plan, tls) = (self.plan.clone(), self.switchboard.tls.clone());
        self.state = State::Connecting(Box::pin(async move {
            sleep(pause).await;
            ModelLink::connect(plan, tls).await
        }));
    }

    pub fn deadline(&self) -> Option<Instant> {
        match &self.state {
            State::Connecting(_) => self.patience,
            State::Ready(link) => link.alive_deadline(),
            State::Failed(_) | State::Gone => None,
        }
    }

    /// The loss of a model that took too long to connect, or has stopped answering.
    pub fn overdue(&mut self, now: Instant) -> Option<Loss> {
        let loss = match &mut self.state {
            State::Connecting(_) => {
                self.patience.is_some_and(|patience| patience <= now).then_some(Loss::Unreachable)
            }
            State::Ready(link) => (!link.check_alive(now)).then_some(Loss::Stalled),
            State::Failed(_) | State::Gone => None,
        }?;
        self.state = State::Gone;
        Some(loss)
    }

    pub async fn close(self) {
        if let State::Ready(link) = self.state {
            link.close().await;
        }
    }
}
