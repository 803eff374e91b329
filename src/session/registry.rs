//! Which calls this process has, by ticket: who waits for a stream, who is live, and what was decided for those that
//! ended.
//!
//! It hands out each ticket's stream once, and remembers decisions for ten minutes, so that the same question gets
//! the same answer. All of it is a small map touched for a moment.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use axum::extract::ws::WebSocket;
use tokio::sync::{mpsc, oneshot, watch};

use crate::assistant::plan::Plan;
use crate::call::Return;
use crate::id::CallSid;
use crate::phone::PhoneNumber;
use crate::secret::Private;

/// How long a ticket lets a stream in.
pub const TICKET_LIFE: Duration = Duration::from_secs(60);
/// How long a decision is remembered.
const MEMORY: Duration = Duration::from_secs(600);
/// Ended calls that are remembered at most; the oldest go first.
const MAX_ENDED: usize = 20_000;

/// Tells one ticket from another.
pub type Nonce = [u8; 16];

/// What a session is told from outside.
#[derive(Debug)]
pub enum Command {
    /// Twilio says that the call is over.
    CallerHungUp,
    /// Twilio says that the stream has ended.
    StreamLost,
    /// The parked phone spoke with whom it was sent to, and is done.
    Transferred,
    /// The parked phone comes back by another stream.
    Returned(Way),
    /// The server closes: say goodbye.
    Drain,
    /// Another machine serves this call: no stream comes. With what would have brought it.
    GivenUp(oneshot::Sender<WebSocket>),
}

/// How a parked phone comes back into its session.
#[derive(Debug)]
pub struct Way {
    pub how: Return,
    /// Of the new ticket, which takes the place of the one before.
    pub nonce: Nonce,
    pub stream: oneshot::Receiver<WebSocket>,
    /// How long the stream may take to come.
    pub life: Duration,
    pub decision: watch::Sender<Option<Decision>>,
}

/// What follows the stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    HangUp,
    /// A person is dialled for so long, and the session waits for what comes of it.
    Dial {
        number: PhoneNumber,
        ring: Duration,
    },
    /// These keys are pressed, and the session waits for the next stream.
    Press(Private),
    /// The assistant's `on_failure`.
    Sorry,
    /// The stream never started: once more, with a new ticket.
    Again,
}

impl Decision {
    /// For a line in the log.
    pub fn code(&self) -> &'static str {
        match self {
            Self::HangUp => "hang_up",
            Self::Dial { .. } => "dial",
            Self::Press(_) => "press",
            Self::Sorry => "sorry",
            Self::Again => "again",
        }
    }
}

/// See the module.
#[derive(Debug, Default)]
pub struct Registry(Mutex<Calls>);

#[derive(Debug, Default)]
struct Calls {
    tickets: HashMap<Nonce, Entry>,
    /// The newest ticket of each call.
    newest: HashMap<CallSid, Nonce>,
    ended: VecDeque<(Instant, Nonce)>,
}

/// A call, as others see it.
#[derive(Debug, Clone)]
pub struct Handle {
    pub call: CallSid,
    pub plan: Arc<Plan>,
    /// Whether this stream is the second try already.
    pub retried: bool,
    pub commands: mpsc::Sender<Command>,
    /// Decided before the socket is closed.
    pub decision: watch::Receiver<Option<Decision>>,
    /// Held while its `action` is answered: the same question in flight twice gets the same answer.
    pub asking: Arc<tokio::sync::Mutex<()>>,
}

impl Handle {
    /// Whether the phone was sent to a person, and its session waits for what comes of it.
    pub fn is_dialling(&self) -> bool {
        matches!(*self.decision.borrow(), Some(Decision::Dial { .. }))
    }
}

#[derive(Debug)]
struct Entry {
    handle: Handle,
    ticket: String,
    /// Taken by the one stream that is let in.
    door: Option<oneshot::Sender<WebSocket>>,
    /// From then on it lets nobody in.
    lapses: Instant,
    /// What each question about it was answered with, to answer it so again.
    answers: Answers,
    /// No session belongs to it any more.
    over: bool,
    /// Another machine has it.
    given_up: bool,
    /// Which one.
    taker: Option<String>,
    /// Its call rings once more, at another machine.
    rings_elsewhere: bool,
}

/// A ticket is asked after twice where a `<Dial>` follows its stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Question {
    AfterStream,
    AfterDial,
}

/// The documents that a ticket's questions got.
#[derive(Debug, Clone, Default)]
pub struct Answers {
    after_stream: Option<String>,
    after_dial: Option<String>,
}

impl Answers {
    pub fn to(&self, question: Question) -> Option<&String> {
        match question {
            Question::AfterStream => self.after_stream.as_ref(),
            Question::AfterDial => self.after_dial.as_ref(),
        }
    }

    fn is_any(&self) -> bool {
        self.after_stream.is_some() || self.after_dial.is_some()
    }
}

/// Why a stream is not let in. A stranger is told none of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    Unknown,
    /// Sealed by us, and not known here: another machine issued it, or this one in a former life.
    Foreign,
    Used,
    Old,
    /// This machine closes, and opens no calls.
    Draining,
    /// All places are taken.
    Busy,
}

impl Refused {
    /// The metric's label.
    pub fn code(self) -> &'static str {
        match self {
            Self::Unknown => "ticket_unknown",
            Self::Foreign => "ticket_foreign",
            Self::Used => "ticket_used",
            Self::Old => "ticket_old",
            Self::Draining => "draining",
            Self::Busy => "busy",
        }
    }
}

impl Registry {
    /// Enters a call that waits for its stream; unless one of the same call waits already, whose ticket it gives.
    ///
    /// # Errors
    /// The ticket of the one that waits.
    pub fn enter(
        &self,
        nonce: Nonce,
        ticket: String,
        handle: Handle,
        door: oneshot::Sender<WebSocket>,
    ) -> Result<(), String> {
        let mut calls = self.lock();
        let now = now();
        if let Some(waiting) = calls.unused_ticket(&handle.call, now) {
            return Err(waiting);
        }
        calls.sweep(now);
        calls.newest.insert(handle.call.clone(), nonce);
        calls.tickets.insert(nonce, Entry::new(handle, ticket, door, now + TICKET_LIFE));
        Ok(())
    }

    /// Enters another ticket of a session that is parked, good for `life`. It is the answer to no ringing phone.
    pub fn enter_again(
        &self,
        nonce: Nonce,
        ticket: String,
        handle: Handle,
        door: oneshot::Sender<WebSocket>,
        life: Duration,
    ) {
        let mut calls = self.lock();
        let now = now();
        calls.sweep(now);
        calls.tickets.insert(nonce, Entry::new(handle, ticket, door, now + life));
    }

    /// The ticket of a call that still waits for its stream: a webhook sent twice gets the same answer.
    pub fn unused_ticket(&self, call: &CallSid) -> Option<String> {
        self.lock().unused_ticket(call, now())
    }

    /// Lets the stream in that bears this ticket: once, and in time.
    ///
    /// # Errors
    /// [`Refused`]; nothing is used up by it.
    pub fn admit(&self, nonce: &Nonce) -> Result<oneshot::Sender<WebSocket>, Refused> {
        self.lock().admit(nonce).map(|(_, door)| door)
    }

    /// Enters the ticket of another machine, whose stream is here: once.
    ///
    /// # Errors
    /// [`Refused::Used`].
    pub fn adopt(&self, nonce: Nonce, ticket: String, handle: Handle) -> Result<(), Refused> {
        let mut calls = self.lock();
        let now = now();
        calls.sweep(now);
        if calls.tickets.contains_key(&nonce) {
            return Err(Refused::Used);
        }
        let (door, _) = oneshot::channel();
        let entry = Entry { door: None, ..Entry::new(handle, ticket, door, now + TICKET_LIFE) };
        calls.tickets.insert(nonce, entry);
        Ok(())
    }

    /// Uses a ticket up for another machine: from then on its call is not known here. One that serves it already may
    /// have it also where a stream broke off here before it began, and where it did not hear that it has it.
    ///
    /// # Errors
    /// As [`Self::admit`].
    pub fn give_up(&self, nonce: &Nonce, taker: Option<String>, served: bool) -> Result<(), Refused> {
        let mut calls = self.lock();
        if served && let Some(entry) = calls.tickets.get_mut(nonce) {
            if entry.given_up && entry.taker == taker {
                return Ok(());
            }
            if entry.never_began() {
                entry.is_given_up(taker);
                return Ok(());
            }
        }
        let (entry, door) = calls.admit(nonce)?;
        entry.is_given_up(taker);
        let _ = entry.handle.commands.try_send(Command::GivenUp(door));
        Ok(())
    }

    /// The machine that this ticket was given up for.
    pub fn taker(&self, nonce: &Nonce) -> Option<String> {
        self.lock().tickets.get(nonce)?.taker.clone()
    }

    /// Whether this ticket was here, with its session or without.
    pub fn knows(&self, nonce: &Nonce) -> bool {
        self.lock().tickets.contains_key(nonce)
    }

    /// The call of a ticket, and the answers that its `action` got before.
    pub fn find(&self, nonce: &Nonce) -> Option<(Handle, Answers)> {
        let calls = self.lock();
        let entry = calls.tickets.get(nonce).filter(|entry| !entry.given_up)?;
        Some((entry.handle.clone(), entry.answers.clone()))
    }

    /// Whether a session still belongs to this ticket.
    pub fn is_live(&self, nonce: &Nonce) -> bool {
        self.lock().tickets.get(nonce).is_some_and(|entry| !entry.over)
    }

    /// Every session of a call, ended ones included; those that another machine has are not. And whether the call is
    /// known here, and has not gone on at another machine.
    pub fn of_call(&self, call: &CallSid) -> (Vec<Handle>, bool) {
        let calls = self.lock();
        let of_call: Vec<_> = calls.tickets.values().filter(|entry| entry.handle.call == *call).collect();
        let left = of_call.iter().any(|entry| entry.given_up || entry.rings_elsewhere);
        let here = of_call.iter().filter(|entry| !entry.given_up);
        (here.map(|entry| entry.handle.clone()).collect(), !of_call.is_empty() && !left)
    }

    /// The call of this ticket is sent to ring once more, at another machine.
    pub fn rings_elsewhere(&self, nonce: &Nonce) {
        if let Some(entry) = self.lock().tickets.get_mut(nonce) {
            entry.rings_elsewhere = true;
        }
    }

    /// Remembers what a question was answered with.
    pub fn answered(&self, nonce: &Nonce, question: Question, answer: &str) {
        if let Some(entry) = self.lock().tickets.get_mut(nonce) {
            let answer = Some(answer.to_owned());
            match question {
                Question::AfterStream => entry.answers.after_stream = answer,
                Question::AfterDial => entry.answers.after_dial = answer,
            }
            entry.let_go();
        }
    }

    /// The session of this ticket is over, or goes on with another one; its decision stays known for a while.
    pub fn ended(&self, nonce: &Nonce) {
        let mut calls = self.lock();
        if let Some(entry) = calls.tickets.get_mut(nonce) {
            entry.door = None;
            entry.over = true;
            entry.let_go();
        }
        let now = now();
        calls.ended.push_back((now, *nonce));
        calls.sweep(now);
    }

    /// Whether a session ended so lately that Twilio may yet ask what follows, and has not.
    pub fn is_to_be_asked(&self, lately: Duration) -> bool {
        let calls = self.lock();
        let now = now();
        let mut ended = calls.ended.iter().rev().take_while(|(at, _)| *at + lately > now);
        ended.any(|(_, nonce)| {
            let entry = calls.tickets.get(nonce).filter(|entry| !entry.given_up);
            entry.is_some_and(|entry| !entry.answers.is_any())
        })
    }

    /// Every session that has not ended.
    pub fn live(&self) -> Vec<Handle> {
        let calls = self.lock();
        let live = calls.tickets.values().filter(|entry| !entry.over);
        live.map(|entry| entry.handle.clone()).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Calls> {
        // Nothing panics while it is held; and were it so, the map is whole between any two statements.
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Entry {
    fn new(handle: Handle, ticket: String, door: oneshot::Sender<WebSocket>, lapses: Instant) -> Self {
        let answers = Answers::default();
        Self {
            handle,
            ticket,
            door: Some(door),
            lapses,
            answers,
            over: false,
            given_up: false,
            taker: None,
            rings_elsewhere: false,
        }
    }

    fn is_given_up(&mut self, taker: Option<String>) {
        self.given_up = true;
        self.taker = taker;
        self.let_go();
    }

    /// Its stream did not start, and Twilio has not asked what follows.
    fn never_began(&self) -> bool {
        let again = matches!(*self.handle.decision.borrow(), Some(Decision::Again));
        again && !self.given_up && !self.answers.is_any()
    }

    /// A plan is kept whole only while a stream may still begin by it: it keeps the servers of its tools in reach.
    fn let_go(&mut self) {
        let again = matches!(*self.handle.decision.borrow(), Some(Decision::Again)) && !self.given_up;
        if self.over && (!again || self.answers.after_stream.is_some()) {
            self.handle.plan = Arc::new(self.handle.plan.remains());
        }
    }
}

impl Calls {
    fn admit(&mut self, nonce: &Nonce) -> Result<(&mut Entry, oneshot::Sender<WebSocket>), Refused> {
        let entry = self.tickets.get_mut(nonce).ok_or(Refused::Unknown)?;
        if entry.lapses <= now() {
            return Err(Refused::Old);
        }
        if entry.handle.decision.borrow().is_some() {
            return Err(Refused::Used);
        }
        let door = entry.door.take().ok_or(Refused::Used)?;
        Ok((entry, door))
    }

    fn unused_ticket(&self, call: &CallSid, now: Instant) -> Option<String> {
        let entry = self.tickets.get(self.newest.get(call)?)?;
        let waits = entry.door.is_some() && entry.handle.decision.borrow().is_none();
        (waits && entry.lapses > now).then(|| entry.ticket.clone())
    }

    fn sweep(&mut self, now: Instant) {
        while let Some((ended, nonce)) = self.ended.front().copied()
            && (ended + MEMORY <= now || self.ended.len() > MAX_ENDED)
        {
            self.ended.pop_front();
            if let Some(entry) = self.tickets.remove(&nonce)
                && self.newest.get(&entry.handle.call) == Some(&nonce)
            {
                self.newest.remove(&entry.handle.call);
            }
        }
    }
}

fn now() -> Instant {
    crate::link::now()
}
