//! Sessions: who owns what, and for how long.
//!
//! The house knows its roster, its tickets and its calls. A ring becomes a session: one task that connects to the
//! model while the phone still rings, waits for the stream, and then owns the call, both sockets and both outboxes
//! until the goodbye.

mod admission;
mod perform;
mod registry;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::extract::ws::WebSocket;
use rustls::ClientConfig;
use tokio::sync::{OwnedMutexGuard, mpsc, oneshot, watch};
use tokio::time::timeout;
use tokio_util::task::TaskTracker;
use tracing::Instrument as _;

use crate::assistant::plan::{Line, Nothing, OnFailure, Plan};
use crate::assistant::{Assistant, Facts, Roster};
use crate::call::{EndReason, Tally};
use crate::id::CallSid;
use crate::observe::ended::CallEnded;
use crate::observe::journal::{Happening, Journal, What};
use crate::observe::metrics;
use crate::secret::Secret;
use crate::wire::ticket::{self, Ticket};
use crate::wire::twilio::webhook::{CallRequest, CallStatus};
use admission::Admission;
use perform::Session;
pub use registry::{Command, Decision, Refused};
use registry::{Handle, Nonce, Registry};

/// How long a live session may take to decide when its stream is gone.
const DECISION_PATIENCE: Duration = Duration::from_millis(1_500);
/// Commands that may wait for one session.
const MAX_COMMANDS: usize = 8;

/// Everything that calls share.
pub struct House {
    roster: watch::Receiver<Arc<Roster>>,
    keys: ticket::Keys,
    machine: String,
    tls: Arc<ClientConfig>,
    admission: Admission,
    registry: Registry,
    sessions: TaskTracker,
    draining: AtomicBool,
    journal: Option<Journal>,
}

/// What a house is built from.
pub struct HouseParts {
    pub roster: watch::Receiver<Arc<Roster>>,
    /// The first seals tickets.
    pub tokens: Vec<Secret>,
    /// This machine's name; empty where there is only one.
    pub machine: String,
    pub max_calls: usize,
    pub tls: Arc<ClientConfig>,
    pub journal: Option<Journal>,
}

/// What a ringing phone is answered with.
pub enum Ring {
    /// Open a stream with this ticket.
    Stream { ticket: String },
    /// All places are taken.
    Busy(Line),
    /// No assistant answers this number.
    Nobody,
    /// The house takes no new calls.
    Draining,
    /// The call cannot begin, because the assistant's texts cannot be rendered for it: what is said and done instead.
    Sorry(OnFailure),
}

/// What is done when a stream has ended.
pub enum Next {
    /// The call is over already: there is nothing to do.
    Nothing,
    HangUp,
    Sorry(OnFailure),
    /// Another stream, with this ticket.
    Stream {
        ticket: String,
    },
    /// Nothing is known, not even the assistant.
    Unknown,
}

impl House {
    pub fn new(parts: HouseParts) -> Self {
        Self {
            roster: parts.roster,
            keys: ticket::Keys::new(&parts.tokens),
            machine: parts.machine,
            tls: parts.tls,
            admission: Admission::new(parts.max_calls),
            registry: Registry::default(),
            sessions: TaskTracker::new(),
            draining: AtomicBool::new(false),
            journal: parts.journal,
        }
    }

    /// A phone rings. The plan is frozen, the place taken, and the model's socket begins to open.
    pub fn ring(self: &Arc<Self>, request: &CallRequest) -> Ring {
        if let Some(ticket) = self.registry.unused_ticket(&request.call) {
            return Ring::Stream { ticket };
        }
        if self.is_draining() {
            metrics::refused("admission", "draining");
            return Ring::Draining;
        }
        let Some(assistant) = self.roster.borrow().find_party(&request.to).cloned() else {
            metrics::refused("admission", "no_assistant");
            tracing::warn!(call = %request.call, called = ?request.to, "No assistant answers this number");
            return Ring::Nobody;
        };
        let Some(plan) = frozen(&assistant, request) else {
            return Ring::Sorry(assistant.on_failure(&facts(request)));
        };
        self.open(Arc::new(plan), request.call.clone(), false)
    }

    /// A stream knocks with this ticket. What it gives back takes the stream, once.
    ///
    /// # Errors
    /// [`Refused`], also for what is no ticket of ours.
    pub fn admit(&self, ticket: &str) -> Result<oneshot::Sender<WebSocket>, Refused> {
        let ticket = self.keys.open(ticket).map_err(|_| Refused::Unknown)?;
        self.registry.admit(&ticket.nonce)
    }

    /// A stream has ended, and Twilio asks what comes next. The same question gets the same answer.
    pub async fn after_stream(self: &Arc<Self>, ticket: &str, request: &CallRequest) -> After {
        let Some(ticket) = self.keys.open(ticket).ok().filter(|ticket| ticket.call == request.call) else {
            return After::new(Next::Unknown);
        };
        let Some((handle, answer)) = self.registry.find(&ticket.nonce) else {
            return After::new(self.sorry_by_roster(&ticket, request));
        };
        if request.status == CallStatus::Over {
            let _ = handle.commands.try_send(Command::CallerHungUp);
            if answer.is_none() && *handle.decision.borrow() == Some(Decision::Again) {
                self.never_began(&handle, EndReason::CallerHungUp);
            }
            return After { nonce: Some(ticket.nonce), ..After::new(Next::Nothing) };
        }
        if request.dial_status.is_some() {
            return After::new(Next::HangUp);
        }
        let asking = handle.asking.clone().lock_owned().await;
        if let Some((_, Some(answer))) = self.registry.find(&ticket.nonce) {
            return After { known: Some(answer), ..After::new(Next::HangUp) };
        }
        let next = match decided(&handle).await {
            Decision::HangUp => Next::HangUp,
            Decision::Again if !handle.retried && !self.is_draining() => {
                match self.open(handle.plan.clone(), handle.call.clone(), true) {
                    Ring::Stream { ticket } => Next::Stream { ticket },
                    _ => {
                        self.never_began(&handle, EndReason::CallerLost);
                        Next::Sorry(handle.plan.on_failure.clone())
                    }
                }
            }
            Decision::Again => {
                self.never_began(&handle, EndReason::CallerLost);
                Next::Sorry(handle.plan.on_failure.clone())
            }
            Decision::Sorry => Next::Sorry(handle.plan.on_failure.clone()),
        };
        After { next, known: None, nonce: Some(ticket.nonce), _asking: Some(asking) }
    }

    /// A call whose stream never started, and is not tried again: it ends here.
    fn never_began(&self, handle: &Handle, reason: EndReason) {
        let (call, assistant) = (&handle.call, &handle.plan.assistant);
        let (tally, odd) = (Tally::default(), BTreeMap::new());
        CallEnded { call, assistant, reason, lasted: Duration::ZERO, tally: &tally, odd: &odd }.emit();
        self.tell(call, What::Ended { reason, tally });
    }

    /// Remembers the document that [`Self::after_stream`] led to.
    pub fn answered(&self, after: &After, document: &str) {
        if let Some(nonce) = &after.nonce {
            self.registry.answered(nonce, document);
        }
    }

    /// Twilio says that a call is over.
    pub fn call_is_over(&self, call: &CallSid) {
        for handle in self.registry.of_call(call) {
            let _ = handle.commands.try_send(Command::CallerHungUp);
        }
    }

    /// No new calls from here on.
    pub fn close_door(&self) {
        self.draining.store(true, Ordering::Release);
        self.sessions.close();
    }

    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    /// Waits until every call is over. The door must be closed.
    pub async fn empty(&self) {
        self.sessions.wait().await;
    }

    /// Has every call say goodbye.
    pub fn send_home(&self) {
        for handle in self.registry.live() {
            let _ = handle.commands.try_send(Command::Drain);
        }
    }

    /// Whether no session is left, closing sockets included.
    pub fn is_empty(&self) -> bool {
        self.sessions.is_empty()
    }

    /// How many calls have a place.
    pub fn calls(&self) -> usize {
        self.admission.taken()
    }

    /// How many assistants the roster in force has.
    pub fn assistants(&self) -> usize {
        self.roster.borrow().len()
    }

    fn open(self: &Arc<Self>, plan: Arc<Plan>, call: CallSid, retried: bool) -> Ring {
        let Some(place) = self.admission.admit() else {
            metrics::refused("admission", "busy");
            return Ring::Busy(plan.busy.clone());
        };
        let nonce: Nonce = rand::random();
        let sealed = self.keys.seal(&Ticket {
            machine: self.machine.clone(),
            call: call.clone(),
            assistant: plan.assistant.clone(),
            issued: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs(),
            nonce,
        });
        let Some(ticket) = sealed else {
            tracing::error!(call = %call, assistant = plan.assistant, "The assistant's name does not fit a ticket");
            return Ring::Sorry(plan.on_failure.clone());
        };
        let (door, stream) = oneshot::channel();
        let (commands_tx, commands) = mpsc::channel(MAX_COMMANDS);
        let (decision_tx, decision) = watch::channel(None);
        let handle = Handle {
            call: call.clone(),
            plan: plan.clone(),
            retried,
            commands: commands_tx,
            decision,
            asking: Arc::default(),
        };
        if let Err(waiting) = self.registry.enter(nonce, ticket.clone(), handle, door) {
            return Ring::Stream { ticket: waiting };
        }
        self.tell(&call, What::Rang { assistant: plan.assistant.clone() });
        let span = tracing::info_span!("call", call = %call, assistant = plan.assistant);
        let session = Session {
            house: self.clone(),
            plan,
            call,
            nonce,
            retried,
            rang: crate::link::now(),
            place: Some(place),
            commands,
            decision: decision_tx,
            odd: BTreeMap::new(),
            sent_home: false,
        };
        self.sessions.spawn(session.run(stream).instrument(span));
        Ring::Stream { ticket }
    }

    /// For a call that this process knows nothing of (it was restarted, or forgot): the assistant still does.
    fn sorry_by_roster(&self, ticket: &Ticket, request: &CallRequest) -> Next {
        if request.status == CallStatus::Over {
            return Next::Nothing;
        }
        if request.dial_status.is_some() {
            return Next::HangUp;
        }
        let assistant = self.roster.borrow().by_name(&ticket.assistant).cloned();
        assistant.map_or(Next::Unknown, |assistant| Next::Sorry(assistant.on_failure(&facts(request))))
    }

    fn tell(&self, call: &CallSid, what: What) {
        if let Some(journal) = &self.journal {
            let _ = journal.send(Happening { call: call.clone(), at: crate::link::now(), what });
        }
    }
}

/// What follows a stream, and what is needed to give the same answer again.
pub struct After {
    pub next: Next,
    /// The document that this question got before.
    pub known: Option<String>,
    nonce: Option<Nonce>,
    /// Until the answer is remembered, nobody else answers the same question.
    _asking: Option<OwnedMutexGuard<()>>,
}

impl After {
    fn new(next: Next) -> Self {
        Self { next, known: None, nonce: None, _asking: None }
    }
}

/// The session's decision. A live one is told that its stream is lost, and has a moment to decide.
async fn decided(handle: &Handle) -> Decision {
    let mut decision = handle.decision.clone();
    if let Some(decided) = *decision.borrow_and_update() {
        return decided;
    }
    let _ = handle.commands.try_send(Command::StreamLost);
    let decided = timeout(DECISION_PATIENCE, decision.wait_for(Option::is_some)).await;
    match decided {
        Ok(Ok(decided)) => decided.unwrap_or(Decision::Sorry),
        Ok(Err(_)) | Err(_) => Decision::Sorry,
    }
}

fn facts(request: &CallRequest) -> Facts {
    Facts {
        caller: request.from.clone(),
        called: request.to.clone(),
        call: request.call.as_str().to_owned(),
        now: jiff::Timestamp::now(),
    }
}

fn frozen(assistant: &Assistant, request: &CallRequest) -> Option<Plan> {
    match assistant.plan(&facts(request), &Nothing) {
        Ok(plan) => Some(plan),
        Err(error) => {
            tracing::error!(call = %request.call, assistant = assistant.name(), %error, "The plan cannot be made");
            None
        }
    }
}
