//! Several machines: a ticket that another one issued, or this one in a former life, and who may serve its stream.
//!
//! What this process knows, the registry knows. A ticket tells the rest: who issued it, and when.

use std::sync::Arc;

use axum::extract::ws::WebSocket;
use tokio::sync::oneshot;
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::admission::Place;
use super::registry::{Refused, TICKET_LIFE};
use super::{Opening, Switchboard, frozen, handle, seconds};
use crate::assistant::Facts;
use crate::assistant::plan::Plan;
use crate::phone::Party;
use crate::tool::Client;
use crate::wire::ticket::Ticket;

/// A stream of another machine's ticket, which may be served here: nothing is used up yet.
pub struct Adoption {
    ticket: Ticket,
    text: String,
    plan: Arc<Plan>,
    place: Place,
    /// A server that closes meanwhile waits for it.
    _session: TaskTrackerToken,
}

impl Switchboard {
    /// The machine that issued a ticket of ours, where it is another one.
    pub fn issuer(&self, ticket: &str) -> Option<String> {
        self.keys.open(ticket).ok().and_then(|ticket| self.another(&ticket))
    }

    /// Another machine, `taker` where it has a name, is to serve this ticket's stream, or has `served` it already, and
    /// asks that it be used up here.
    ///
    /// # Errors
    /// [`Refused`]: it is used or old, or was never here.
    pub fn give_up(&self, ticket: &str, taker: Option<String>, served: bool) -> Result<(), Refused> {
        let ticket = self.keys.open(ticket).map_err(|_| Refused::Unknown)?;
        self.registry.give_up(&ticket.nonce, taker, served)
    }

    /// Whether the stream of a foreign ticket could be served here. The ticket is sealed, so its age is true; that it
    /// was not used where it comes from is for who asks to find out.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn may_adopt(&self, text: &str) -> Result<Adoption, Refused> {
        let ticket = self.keys.open(text).map_err(|_| Refused::Unknown)?;
        if ticket.issued.abs_diff(seconds()) >= TICKET_LIFE.as_secs() {
            return Err(Refused::Old);
        }
        if self.registry.knows(&ticket.nonce) {
            return Err(Refused::Used);
        }
        // In this order: a server that closes from here on is not empty.
        let session = self.sessions.token();
        if self.is_draining() {
            return Err(Refused::Draining);
        }
        let assistant = self.roster.borrow().by_name(&ticket.assistant).cloned().ok_or(Refused::Unknown)?;
        // The ticket bears no numbers, and neither does the stream.
        let facts = Facts {
            caller: Party::Withheld,
            called: Party::Withheld,
            call: ticket.call.as_str().to_owned(),
            now: jiff::Timestamp::now(),
        };
        let plan = frozen(&assistant, &facts, &*self.tools).ok_or(Refused::Unknown)?;
        let place = self.admission.admit().ok_or(Refused::Busy)?;
        Ok(Adoption { ticket, text: text.to_owned(), plan: Arc::new(plan), place, _session: session })
    }

    /// Opens the call, also where the server closes meanwhile: who issued the ticket may have given it up. What it gives
    /// back takes the stream.
    ///
    /// # Errors
    /// [`Refused::Used`]: another stream was quicker.
    pub fn adopt(self: &Arc<Self>, adoption: Adoption) -> Result<oneshot::Sender<WebSocket>, Refused> {
        let Adoption { ticket, text, plan, place, _session } = adoption;
        let (call, nonce) = (ticket.call, ticket.nonce);
        let (handle, commands, decision) = handle(call.clone(), plan.clone(), false);
        self.registry.adopt(nonce, text, handle)?;
        tracing::info!(call = %call, assistant = plan.assistant, "Took over a call of another machine");
        let client = Client {
            call,
            assistant: plan.assistant.clone(),
            caller: Party::Withheld,
            called: Party::Withheld,
        };
        let (door, stream) = oneshot::channel();
        self.begin(Opening { client, plan, nonce, retried: false, place, commands, decision }, stream);
        Ok(door)
    }

    pub(super) fn is_one_of_several(&self) -> bool {
        !self.machine.is_empty()
    }

    pub(super) fn another(&self, ticket: &Ticket) -> Option<String> {
        let name = ticket.machine_name().filter(|name| self.is_one_of_several() && *name != self.machine)?;
        Some(name.to_owned())
    }
}
