//! Several machines: who serves the stream of a ticket that another machine issued, or this one before a restart.
//!
//! The registry knows only this process's tickets. Of others, the ticket itself shows who issued it, and when.

use std::sync::Arc;

use tokio::sync::oneshot;
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::admission::Place;
use super::limits::Ringing;
use super::live::Glance;
use super::registry::{Refused, first_ticket_life};
use super::{Opening, Switchboard, channels, plan_for, unix_seconds};
use crate::assistant::Facts;
use crate::assistant::plan::{KeptNumbers, Plan};
use crate::link::caller::Upgraded;
use crate::phone::Party;
use crate::tool::Client;
use crate::wire::ticket::Ticket;

/// A stream with a foreign ticket that may be served here. The ticket is not used yet.
pub struct Adoption {
    ticket: Ticket,
    text: String,
    pub(super) plan: Arc<Plan>,
    place: Place,
    /// Makes a server that begins to drain wait.
    _session: TaskTrackerToken,
}

impl Switchboard {
    /// The other machine that issued this ticket, if any.
    pub fn issuer(&self, ticket: &str) -> Option<String> {
        self.keys.open(ticket).ok().and_then(|ticket| self.another(&ticket))
    }

    /// Uses up a ticket for another machine, `taker` if it has a name, that wants to serve its stream or has `served`
    /// it already.
    pub fn give_up(&self, ticket: &str, taker: Option<String>, served: bool) -> Result<(), Refused> {
        let ticket = self.keys.open(ticket).map_err(|_| Refused::Unknown)?;
        self.registry.give_up(&ticket.nonce, taker, served)
    }

    /// Checks that the stream of a foreign ticket may be served here. The seal proves the ticket's age. The issuer must
    /// be asked whether it was used.
    pub fn may_adopt(&self, text: &str) -> Result<Adoption, Refused> {
        let ticket = self.keys.open(text).map_err(|_| Refused::Unknown)?;
        if self.registry.knows(&ticket.nonce) {
            return Err(Refused::Used);
        }
        // The token comes first: a server that begins to drain after it has a session to wait for.
        let session = self.sessions.token();
        if self.is_draining() {
            return Err(Refused::Draining);
        }
        let assistant = self.roster.borrow().by_name(&ticket.assistant).cloned().ok_or(Refused::Unknown)?;
        // Neither the ticket nor the stream has the numbers.
        let facts = Facts {
            caller: Party::Withheld,
            called: Party::Withheld,
            call: ticket.call.as_str().to_owned(),
            now: jiff::Timestamp::now(),
        };
        let mut plan = plan_for(&assistant, &facts, &*self.tools).ok_or(Refused::Unknown)?;
        // So that erasing a caller counts this call among those whose caller is not known.
        plan.record.numbers = KeptNumbers::None;
        if ticket.issued.abs_diff(unix_seconds()) >= first_ticket_life(&plan).as_secs() {
            return Err(Refused::Old);
        }
        // Its assistant let it in where it rang.
        let ringing = Ringing { call: ticket.call.as_str(), assistant: assistant.name(), caller: None };
        let now = jiff::Timestamp::now();
        let place = self.admission.admit(&ringing, None, now).map_err(|_| Refused::Busy)?;
        Ok(Adoption { ticket, text: text.to_owned(), plan: Arc::new(plan), place, _session: session })
    }

    /// Opens the call, even if the server drains meanwhile, because the issuer may have given the ticket up. The sender
    /// takes the stream.
    pub fn adopt(self: &Arc<Self>, adoption: Adoption) -> Result<oneshot::Sender<Upgraded>, Refused> {
        let Adoption { ticket, text, plan, place, _session } = adoption;
        let (call, nonce) = (ticket.call, ticket.nonce);
        let live = Glance::new(place.id.clone(), self.records.prices.clone());
        let (handle, channels) = channels(call.clone(), plan.clone(), false, live);
        self.registry.adopt(nonce, text, handle)?;
        tracing::info!(call = %call, assistant = plan.assistant, "Took over a call of another machine");
        let client = Client {
            call,
            assistant: plan.assistant.clone(),
            caller: Party::Withheld,
            called: Party::Withheld,
            keep: plan.record.keep,
            reader: plan.reader.clone(),
        };
        let (stream_tx, stream) = oneshot::channel();
        let (retried, adopted) = (false, true);
        self.begin(Opening { client, plan, nonce, retried, adopted, place, channels }, stream);
        Ok(stream_tx)
    }

    pub(super) fn is_one_of_several(&self) -> bool {
        !self.machine.is_empty()
    }

    pub(super) fn another(&self, ticket: &Ticket) -> Option<String> {
        let name = ticket.machine_name().filter(|name| self.is_one_of_several() && *name != self.machine)?;
        Some(name.to_owned())
    }
}
