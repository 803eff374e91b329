//! What follows a stream: Twilio asks, and the session decides.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedMutexGuard, oneshot, watch};
use tokio::time::timeout;

use super::record::Filing;
use super::registry::{Command, Decision, Handle, Nonce, Question, Stage, TICKET_LIFE, WayBack};
use super::{Ring, Switchboard, client, facts};
use crate::assistant::plan::{OnFailure, Plan};
use crate::call::{EndReason, Return, Tally, TransferFailure};
use crate::observe::ended::CallEnded;
use crate::phone::PhoneNumber;
use crate::secret::Private;
use crate::wire::ticket::Ticket;
use crate::wire::twilio::webhook::{CallRequest, CallStatus, DialStatus};

/// How long a live session may take to decide after its stream ended.
const DECISION_PATIENCE: Duration = Duration::from_millis(1_500);
/// A little more than Twilio takes to press one key, or to wait for a `w`.
pub(super) const ONE_KEY: Duration = Duration::from_millis(500);

/// What follows a stream.
pub enum Next {
    /// Nothing: the call is over.
    Nothing,
    HangUp,
    Sorry(OnFailure),
    /// Open another stream with this ticket.
    Stream {
        ticket: String,
    },
    /// Dial a person for `ring`. Twilio then asks again with the same ticket.
    Dial {
        number: PhoneNumber,
        ring: Duration,
    },
    /// Press these keys, then open another stream with this ticket.
    Press {
        keys: Private,
        ticket: String,
    },
    /// Nothing is known, not even the assistant.
    Unknown,
    /// This process does not know the call. Another machine does, or one that is gone did.
    NotHere {
        /// The other machine that took the call over or issued the ticket, if any.
        machine: Option<String>,
        /// The answer if no machine knows the call, from the assistant in the roster.
        otherwise: Box<Next>,
    },
    /// The server drains before the call began, so it rings again at another machine.
    RingElsewhere,
}

/// What follows a stream, and what it takes to give the same answer again.
pub struct After {
    pub next: Next,
    /// The document that this question got before.
    pub known: Option<String>,
    asked: Option<(Nonce, Question)>,
    /// Makes the same question wait until the answer is remembered.
    _asking: Option<OwnedMutexGuard<()>>,
}

impl After {
    fn new(next: Next) -> Self {
        Self { next, known: None, asked: None, _asking: None }
    }
}

impl Switchboard {
    /// A stream, or the `<Dial>` that followed it, has ended, and Twilio asks what comes next. The same question gets
    /// the same answer.
    pub async fn after_stream(self: &Arc<Self>, ticket: &str, request: &CallRequest) -> After {
        let Some(ticket) = self.keys.open(ticket).ok().filter(|ticket| ticket.call == request.call) else {
            return After::new(Next::Unknown);
        };
        let Some((stage, answers)) = self.registry.find(&ticket.nonce) else {
            let otherwise = self.sorry_by_roster(&ticket, request);
            if !self.is_one_of_several() {
                return After::new(otherwise);
            }
            let machine = self.registry.taker(&ticket.nonce).or_else(|| self.another(&ticket));
            return After::new(Next::NotHere { machine, otherwise: Box::new(otherwise) });
        };
        let question =
            if request.dial_status.is_some() { Question::AfterDial } else { Question::AfterStream };
        let asked = Some((ticket.nonce, question));
        if request.status == CallStatus::Over {
            let spoke = request.dial_status == Some(DialStatus::Completed) && stage.is_dialling();
            let command = if spoke { Command::Transferred } else { Command::CallerHungUp };
            self.command(&ticket.call, command);
            if answers.get(question).is_none() && stage.never_began() {
                let plan = stage.plan();
                self.never_began(&ticket, plan, request, EndReason::CallerHungUp);
            }
            return After { asked, ..After::new(Next::Nothing) };
        }
        let asking = self.registry.asking(&ticket.nonce).lock_owned().await;
        // The session may have ended meanwhile.
        let (stage, answers) = self.registry.find(&ticket.nonce).unwrap_or((stage, answers));
        if let Some(answer) = answers.get(question) {
            return After { known: Some(answer.to_owned()), ..After::new(Next::HangUp) };
        }
        let next = match request.dial_status {
            None => self.after_conversation(&ticket, &stage, request).await,
            Some(status) => self.after_dial(&ticket, &stage, request, status),
        };
        After { next, known: None, asked, _asking: Some(asking) }
    }

    async fn after_conversation(
        self: &Arc<Self>,
        ticket: &Ticket,
        stage: &Stage,
        request: &CallRequest,
    ) -> Next {
        let sorry = || self.sorry(ticket, stage, request);
        let (decision, retried) = match stage {
            Stage::Live(handle) => (decided(handle).await, handle.retried),
            Stage::Over(None) => return Next::HangUp,
            Stage::Over(Some(rest)) => (rest.decision.clone(), rest.retried),
        };
        let plan = stage.plan();
        match (decision, stage, plan) {
            (Decision::HangUp, ..) => Next::HangUp,
            (Decision::Dial { number, ring }, ..) => Next::Dial { number, ring },
            (Decision::Press(keys), Stage::Live(handle), _) => {
                let takes = ONE_KEY * u32::try_from(keys.expose().len()).unwrap_or(u32::MAX);
                match self.call_back(&ticket.nonce, handle, Return::KeysPressed, takes) {
                    Some(ticket) => Next::Press { keys, ticket },
                    None => sorry(),
                }
            }
            (Decision::StreamAgain, Stage::Live(handle), _) => {
                match self.call_back(&ticket.nonce, handle, Return::StreamAgain, Duration::ZERO) {
                    Some(ticket) => Next::Stream { ticket },
                    None => sorry(),
                }
            }
            (Decision::Sorry | Decision::Press(_) | Decision::StreamAgain, ..) => sorry(),
            (Decision::Again, _, Some(plan)) if !retried && !self.is_draining() => {
                match self.open(plan.clone(), request, None) {
                    // The caller has heard the notice.
                    Ring::Stream { ticket, .. } => Next::Stream { ticket },
                    _ => {
                        self.never_began(ticket, Some(plan), request, EndReason::CallerLost);
                        sorry()
                    }
                }
            }
            // Another machine can answer it.
            (Decision::Again, ..) if !retried && self.is_one_of_several() => {
                // Its record is there.
                self.never_began(ticket, None, request, EndReason::ServerDraining);
                self.registry.rings_elsewhere(&ticket.nonce);
                Next::RingElsewhere
            }
            (Decision::Again, ..) => {
                self.never_began(ticket, plan, request, EndReason::CallerLost);
                sorry()
            }
        }
    }

    /// A person was dialed. If nobody answered, the phone returns to its conversation.
    fn after_dial(&self, ticket: &Ticket, stage: &Stage, request: &CallRequest, status: DialStatus) -> Next {
        let why = match status {
            DialStatus::Completed => {
                if stage.is_dialling() {
                    self.command(&ticket.call, Command::Transferred);
                }
                return Next::HangUp;
            }
            DialStatus::Busy => TransferFailure::Busy,
            DialStatus::NoAnswer => TransferFailure::NoAnswer,
            DialStatus::Failed => TransferFailure::Unreachable,
        };
        if let Stage::Live(handle) = stage
            && handle.is_dialling()
            && let Some(ticket) =
                self.call_back(&ticket.nonce, handle, Return::TransferFailed(why), Duration::ZERO)
        {
            return Next::Stream { ticket };
        }
        // The conversation is over.
        self.sorry(ticket, stage, request)
    }

    /// The apology of a call's plan. A call that hung up keeps none, and should need none.
    fn sorry(&self, ticket: &Ticket, stage: &Stage, request: &CallRequest) -> Next {
        match stage {
            Stage::Live(handle) => Next::Sorry(handle.plan.on_failure.clone()),
            Stage::Over(Some(rest)) => Next::Sorry(rest.on_failure.clone()),
            Stage::Over(None) => self.sorry_by_roster(ticket, request),
        }
    }

    /// A new ticket for the session of a phone that is away, whose stream comes after `takes` at the earliest. `None` if the
    /// session is over.
    pub(super) fn call_back(
        &self,
        parked: &Nonce,
        handle: &Handle,
        how: Return,
        takes: Duration,
    ) -> Option<String> {
        if !self.registry.is_live(parked) {
            return None;
        }
        let nonce: Nonce = rand::random();
        let ticket = self.seal(handle.call.clone(), &handle.plan, nonce)?;
        let life = TICKET_LIFE + takes;
        let (stream_tx, stream) = oneshot::channel();
        let (decision_tx, decision) = watch::channel(None);
        let again = Handle { decision, ..handle.clone() };
        self.registry.enter_again(nonce, ticket.clone(), again, stream_tx, life);
        let way = WayBack { how, nonce, stream, life, decision: decision_tx };
        if handle.commands.try_send(Command::Returned(Box::new(way))).is_err() {
            // The session ended just now.
            self.registry.ended(&nonce);
            return None;
        }
        Some(ticket)
    }

    /// Logs the end of a call whose stream never started and is not tried again. Its record needs the plan.
    fn never_began(
        &self,
        ticket: &Ticket,
        plan: Option<&Arc<Plan>>,
        request: &CallRequest,
        reason: EndReason,
    ) {
        let (call, assistant, lasted) = (&ticket.call, &ticket.assistant, Duration::ZERO);
        let (tally, anomalies) = (Tally::default(), BTreeMap::new());
        let cost = plan.and_then(|plan| {
            let mut filing = Filing::new(self.records.clone(), plan.clone(), &client(request, plan));
            let (cost, is_settled) = filing.ended(reason, lasted, &tally, false);
            if !is_settled {
                filing.settle(Vec::new());
            }
            cost
        });
        let test = plan.is_some_and(|plan| plan.test);
        CallEnded { call, assistant, test, reason, lasted, tally: &tally, anomalies: &anomalies, cost }
            .emit();
    }

    /// Remembers the document for the answer of [`Self::after_stream`].
    pub fn answered(&self, after: &After, document: &str) {
        if let Some((nonce, question)) = &after.asked {
            self.registry.answered(nonce, *question, document);
        }
    }

    /// The answer for a call that this process does not know, because it was restarted or forgot it.
    fn sorry_by_roster(&self, ticket: &Ticket, request: &CallRequest) -> Next {
        if request.status == CallStatus::Over {
            return Next::Nothing;
        }
        if request.dial_status == Some(DialStatus::Completed) {
            return Next::HangUp;
        }
        let assistant = self.roster.borrow().by_name(&ticket.assistant).cloned();
        assistant
            .map_or(Next::Unknown, |assistant| Next::Sorry(assistant.on_failure(&facts(request, self.now))))
    }
}

/// The session's decision. A live session learns that its stream is lost, and has a moment to decide.
async fn decided(handle: &Handle) -> Decision {
    let mut decision = handle.decision.clone();
    if let Some(decided) = &*decision.borrow_and_update() {
        return decided.clone();
    }
    let _ = handle.commands.try_send(Command::StreamLost);
    match timeout(DECISION_PATIENCE, decision.wait_for(Option::is_some)).await {
        Ok(Ok(decided)) => decided.clone().unwrap_or(Decision::Sorry),
        Ok(Err(_)) | Err(_) => Decision::Sorry,
    }
}
