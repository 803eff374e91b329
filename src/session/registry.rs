//! This process's calls by ticket: those that wait for a stream, those that are live, and the decisions of those that
//! ended.
//!
//! Each ticket lets one stream in. Decisions are remembered for ten minutes, so that the same question gets the same
//! answer; that a call is over, for a day ([`Closed`]). It is a small map behind a lock that is held only briefly.
//! A call that ended holds neither its plan nor its channels: in a rush there are thousands of them.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use tokio::sync::{oneshot, watch};

use super::closed::{Closed, Key};
use super::live::Glance;
use super::rare;
use crate::assistant::plan::{OnFailure, Plan};
use crate::call::Return;
use crate::id::CallSid;
use crate::link::caller::Upgraded;
use crate::link::now;
use crate::phone::PhoneNumber;
use crate::secret::Private;

/// How long a ticket lets a stream in.
pub const TICKET_LIFE: Duration = Duration::from_secs(60);
/// How long the first ticket of a call lets its stream in: the stream begins after the recording notice.
pub fn first_ticket_life(plan: &Plan) -> Duration {
    TICKET_LIFE + plan.notice_takes()
}

/// How long a decision is remembered.
const MEMORY: Duration = Duration::from_secs(600);
/// The most ended calls whose decisions are remembered. The oldest go first.
const MAX_ENDED: usize = 20_000;
/// The most calls that are known to be over: 5 MB.
const MAX_CLOSED: usize = 100_000;

/// The maps do not shrink below this.
const MIN_CAPACITY: usize = 256;

/// Identifies a ticket.
pub type Nonce = [u8; 16];

/// What others tell a session.
#[derive(Debug)]
pub enum Command {
    /// Twilio reports that the call is over.
    CallerHungUp,
    /// Twilio reports that the stream has ended.
    StreamLost,
    /// A request for the stream came, but did not ask for an upgrade.
    NotAnUpgrade,
    /// The person to whom the parked phone was sent took the call.
    Transferred,
    /// The phone comes back by another stream, after it was parked or its stream broke. Boxed, because a channel has room for 32 commands from the start.
    Returned(Box<WayBack>),
    /// The server drains: say goodbye.
    Drain,
    /// The owner ends the call: say goodbye.
    OperatorEnds,
    /// Another machine serves this call, so no stream comes. Holds the sender that would have brought it.
    GivenUp(oneshot::Sender<Upgraded>),
}

/// How a phone comes back into its session.
#[derive(Debug)]
pub struct WayBack {
    pub how: Return,
    /// The new ticket's, which replaces the previous one.
    pub nonce: Nonce,
    pub stream: oneshot::Receiver<Upgraded>,
    /// How long the stream may take to come.
    pub life: Duration,
    pub decision: watch::Sender<Option<Decision>>,
}

/// What follows the stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    HangUp,
    /// Dial a person for `ring`; the session waits for the outcome.
    Dial {
        number: PhoneNumber,
        ring: Duration,
    },
    /// Press these keys; the session waits for the next stream.
    Press(Private),
    /// The stream broke, and the session waits for another one.
    StreamAgain,
    /// The assistant's `on_failure`.
    Sorry,
    /// The stream never started: open another one, with a new ticket.
    Again,
}

impl Decision {
    /// For the log.
    pub fn code(&self) -> &'static str {
        match self {
            Self::HangUp => "hang_up",
            Self::Dial { .. } => "dial",
            Self::Press(_) => "press",
            Self::StreamAgain => "stream_again",
            Self::Sorry => "sorry",
            Self::Again => "again",
        }
    }
}

/// See the module.
#[derive(Debug)]
pub struct Registry(Mutex<Calls>);

#[derive(Debug)]
struct Calls {
    tickets: HashMap<Nonce, Entry>,
    /// The newest ticket of each call.
    newest: HashMap<Key, Nonce>,
    ended: VecDeque<(Instant, Nonce)>,
    /// Calls that ended before.
    closed: Closed,
}

/// A ringing call, as far as it is known here.
#[derive(Debug, PartialEq, Eq)]
pub enum Known {
    /// It waits for its stream with this ticket.
    Waits(String),
    /// It has begun, or is over, and does not ring.
    Begun,
}

/// A live call, as others see it.
#[derive(Debug, Clone)]
pub struct Handle {
    pub call: CallSid,
    pub plan: Arc<Plan>,
    /// Whether this stream is the second attempt.
    pub retried: bool,
    pub commands: rare::Sender<Command>,
    /// Set before the socket is closed.
    pub decision: watch::Receiver<Option<Decision>>,
    /// The call as it is now.
    pub live: watch::Receiver<Glance>,
}

/// What a session left, unless it hung up.
#[derive(Clone)]
pub struct Rest {
    pub decision: Decision,
    pub retried: bool,
    pub on_failure: OnFailure,
    /// Only while a stream may still start with it: a plan keeps its tools' servers running.
    pub plan: Option<Arc<Plan>>,
}

/// The session of a ticket.
#[derive(Debug, Clone)]
pub enum Stage {
    Live(Handle),
    /// The session is over, or goes on with another ticket. `None`: it hung up.
    Over(Option<Arc<Rest>>),
}

impl Handle {
    /// Whether the phone was sent to a person, and the session waits for the outcome.
    pub fn is_dialling(&self) -> bool {
        matches!(*self.decision.borrow(), Some(Decision::Dial { .. }))
    }

    /// What is kept of it once its session is over.
    fn rest(&self, answers: &Answers) -> Option<Arc<Rest>> {
        let decision = self.decision.borrow().clone().unwrap_or(Decision::Sorry);
        if decision == Decision::HangUp {
            return None;
        }
        let may_start = decision == Decision::Again && answers.get(Question::AfterStream).is_none();
        let plan = may_start.then(|| self.plan.clone());
        let on_failure = self.plan.on_failure.clone();
        Some(Arc::new(Rest { decision, retried: self.retried, on_failure, plan }))
    }
}

impl fmt::Debug for Rest {
    /// Without rendered text.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Rest({})", self.decision.code())
    }
}

impl Stage {
    pub fn is_dialling(&self) -> bool {
        matches!(self, Self::Live(handle) if handle.is_dialling())
    }

    /// The call's plan, as long as it is kept.
    pub fn plan(&self) -> Option<&Arc<Plan>> {
        match self {
            Self::Live(handle) => Some(&handle.plan),
            Self::Over(rest) => rest.as_ref()?.plan.as_ref(),
        }
    }

    /// Whether its stream did not start.
    pub fn never_began(&self) -> bool {
        match self {
            Self::Live(handle) => *handle.decision.borrow() == Some(Decision::Again),
            Self::Over(rest) => rest.as_ref().is_some_and(|rest| rest.decision == Decision::Again),
        }
    }
}

/// Thousands of them are of calls that ended, so these hold little.
#[derive(Debug)]
struct Entry {
    call: Key,
    expires: Instant,
    state: State,
    answers: Answers,
    /// Held while a question is answered, so that the same question asked twice at once gets the same answer.
    asking: Option<Arc<tokio::sync::Mutex<()>>>,
    /// Its call rings again at another machine.
    rings_elsewhere: bool,
    /// Its call is a test.
    test: bool,
}

#[derive(Debug)]
enum State {
    Live(Box<Live>),
    /// See [`Stage::Over`].
    Over(Option<Arc<Rest>>),
    /// Another machine has it: which, if it has a name.
    GivenUp(Option<Box<str>>),
}

#[derive(Debug)]
struct Live {
    handle: Handle,
    ticket: String,
    /// Taken by the one stream that is let in.
    stream_tx: Option<oneshot::Sender<Upgraded>>,
    /// It brings a parked phone back, and does not answer a ringing one.
    is_way_back: bool,
}

/// Twilio asks about a ticket twice if a `<Dial>` follows its stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Question {
    AfterStream,
    AfterDial,
}

/// The documents that answered a ticket's questions.
#[derive(Debug, Clone, Default)]
pub struct Answers([Option<Box<str>>; 2]);

impl Answers {
    pub fn get(&self, question: Question) -> Option<&str> {
        self.0[question as usize].as_deref()
    }

    fn is_empty(&self) -> bool {
        self.0.iter().all(Option::is_none)
    }
}

/// Why a stream is not let in. The answer to a stranger does not show it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    Unknown,
    /// Sealed by us, but unknown here: another machine issued it, or this one before a restart.
    Foreign,
    Used,
    Old,
    /// This machine drains and opens no calls.
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

impl Default for Registry {
    fn default() -> Self {
        let (tickets, newest, ended) = (HashMap::new(), HashMap::new(), VecDeque::new());
        Self(Mutex::new(Calls { tickets, newest, ended, closed: Closed::new(now(), MAX_CLOSED) }))
    }
}

impl Registry {
    /// Enters a call that waits for its stream.
    ///
    /// # Errors
    /// The same call waits already, or is over.
    pub fn enter(
        &self,
        nonce: Nonce,
        ticket: String,
        handle: Handle,
        stream_tx: oneshot::Sender<Upgraded>,
    ) -> Result<(), Known> {
        let mut calls = self.lock();
        let now = now();
        if let Some(waiting) = calls.unused_ticket(&handle.call, now) {
            return Err(Known::Waits(waiting));
        }
        if calls.closed.contains(&handle.call.bytes(), now) {
            return Err(Known::Begun);
        }
        let life = first_ticket_life(&handle.plan);
        let live = Live { handle, ticket, stream_tx: Some(stream_tx), is_way_back: false };
        calls.enter(nonce, live, now, life);
        Ok(())
    }

    /// Enters another ticket of a parked session, valid for `life`. It does not answer a ringing phone.
    pub fn enter_again(
        &self,
        nonce: Nonce,
        ticket: String,
        handle: Handle,
        stream_tx: oneshot::Sender<Upgraded>,
        life: Duration,
    ) {
        let live = Live { handle, ticket, stream_tx: Some(stream_tx), is_way_back: true };
        self.lock().enter(nonce, live, now(), life);
    }

    /// What is known of a call that rings. A webhook that is sent twice gets the same ticket. A call that went to another
    /// machine may ring here again.
    pub fn known(&self, call: &CallSid) -> Option<Known> {
        self.lock().known(call, now())
    }

    /// Closes a call that Twilio reports as over, whichever machine had it.
    pub fn close(&self, call: &CallSid) {
        self.lock().closed.close(call.bytes(), now());
    }

    /// Closes calls that ended this long ago, in a process before this one; the newest come first.
    pub fn close_earlier(&self, calls: impl IntoIterator<Item = (CallSid, Duration)>) {
        let now = now();
        // Not in one go: rings wait for the lock.
        for (call, ago) in calls {
            self.lock().closed.close_earlier(call.bytes(), ago, now);
        }
    }

    /// Closes a call that got no stream, as soon as its webhook cannot be a repetition any more.
    pub fn turned_away(&self, call: &CallSid) {
        self.lock().closed.close(call.bytes(), now() + TICKET_LIFE);
    }

    /// Lets in the stream with this ticket, once and in time.
    ///
    /// # Errors
    /// A refusal does not use the ticket up.
    pub fn admit(&self, nonce: &Nonce) -> Result<oneshot::Sender<Upgraded>, Refused> {
        self.lock().admit(nonce)
    }

    /// Enters another machine's ticket, whose stream is here, once.
    pub fn adopt(&self, nonce: Nonce, ticket: String, handle: Handle) -> Result<(), Refused> {
        let mut calls = self.lock();
        if calls.tickets.contains_key(&nonce) {
            return Err(Refused::Used);
        }
        calls.enter(nonce, Live { handle, ticket, stream_tx: None, is_way_back: false }, now(), TICKET_LIFE);
        Ok(())
    }

    /// Uses a ticket up for another machine; its call is then unknown here. A machine that has `served` it already gets
    /// it even if a stream broke off here before it started, or if it did not hear the first answer.
    pub fn give_up(&self, nonce: &Nonce, taker: Option<String>, served: bool) -> Result<(), Refused> {
        let mut calls = self.lock();
        let taker = taker.map(String::into_boxed_str);
        if served && let Some(entry) = calls.tickets.get_mut(nonce) {
            let again = matches!(&entry.state, State::GivenUp(first) if *first == taker);
            if again || entry.never_began() {
                entry.state = State::GivenUp(taker);
                return Ok(());
            }
        }
        let stream_tx = calls.admit(nonce)?;
        if let Some(entry) = calls.tickets.get_mut(nonce)
            && let State::Live(live) = std::mem::replace(&mut entry.state, State::GivenUp(taker))
        {
            let _ = live.handle.commands.try_send(Command::GivenUp(stream_tx));
        }
        Ok(())
    }

    /// The machine that this ticket was given up for.
    pub fn taker(&self, nonce: &Nonce) -> Option<String> {
        match &self.lock().tickets.get(nonce)?.state {
            State::GivenUp(taker) => Some(taker.clone()?.into()),
            State::Live(_) | State::Over(_) => None,
        }
    }

    /// Whether this ticket is one of a test call; `None` if it is not known here.
    pub fn is_test(&self, nonce: &Nonce) -> Option<bool> {
        Some(self.lock().tickets.get(nonce)?.test)
    }

    /// Whether this ticket was here, with or without a session.
    pub fn knows(&self, nonce: &Nonce) -> bool {
        self.lock().tickets.contains_key(nonce)
    }

    /// A ticket's session, and the answers to its earlier questions.
    pub fn find(&self, nonce: &Nonce) -> Option<(Stage, Answers)> {
        let calls = self.lock();
        let entry = calls.tickets.get(nonce)?;
        Some((entry.stage()?, entry.answers.clone()))
    }

    /// What to hold while a question about this ticket is answered.
    pub fn asking(&self, nonce: &Nonce) -> Arc<tokio::sync::Mutex<()>> {
        let mut calls = self.lock();
        let entry = calls.tickets.get_mut(nonce);
        entry.map(|entry| entry.asking.get_or_insert_default().clone()).unwrap_or_default()
    }

    pub fn is_live(&self, nonce: &Nonce) -> bool {
        self.lock().tickets.get(nonce).is_some_and(|entry| entry.live().is_some())
    }

    /// The session of a call in this process, if it is live; and whether the call is known here and has not gone to
    /// another machine.
    pub fn of_call(&self, call: &CallSid) -> (Option<Handle>, bool) {
        let calls = self.lock();
        let Some(entry) = calls.newest(call) else { return (None, false) };
        (entry.live().map(|live| live.handle.clone()), !entry.went_elsewhere())
    }

    pub fn rings_elsewhere(&self, nonce: &Nonce) {
        if let Some(entry) = self.lock().tickets.get_mut(nonce) {
            entry.rings_elsewhere = true;
        }
    }

    /// Remembers the answer to a question.
    pub fn answered(&self, nonce: &Nonce, question: Question, answer: &str) {
        if let Some(entry) = self.lock().tickets.get_mut(nonce) {
            entry.answers.0[question as usize] = Some(answer.into());
            entry.asking = None;
            if let State::Over(Some(rest)) = &mut entry.state {
                Arc::make_mut(rest).plan = None;
            }
        }
    }

    /// The session of this ticket is over, or goes on with another ticket. The decision is remembered for a while.
    pub fn ended(&self, nonce: &Nonce) {
        let mut calls = self.lock();
        if let Some(entry) = calls.tickets.get_mut(nonce)
            && let State::Live(live) = &entry.state
        {
            entry.state = State::Over(live.handle.rest(&entry.answers));
        }
        let now = now();
        calls.ended.push_back((now, *nonce));
        calls.sweep(now);
    }

    /// Whether Twilio may still ask what follows a session that ended `recently`.
    pub fn may_be_asked(&self, recently: Duration) -> bool {
        let calls = self.lock();
        let now = now();
        let mut ended = calls.ended.iter().rev().take_while(|(at, _)| *at + recently > now);
        ended.any(|(_, nonce)| {
            let entry = calls.tickets.get(nonce);
            entry.is_some_and(|entry| matches!(entry.state, State::Over(_)) && entry.answers.is_empty())
        })
    }

    /// Every session that has not ended.
    pub fn live(&self) -> Vec<Handle> {
        let calls = self.lock();
        let live = calls.tickets.values().filter_map(Entry::live);
        live.map(|live| live.handle.clone()).collect()
    }

    /// Forgets what is too old, also while no call comes.
    pub fn sweep(&self) {
        self.lock().sweep(now());
    }

    fn lock(&self) -> MutexGuard<'_, Calls> {
        // Even after a panic, the map is consistent between any two statements.
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Entry {
    fn live(&self) -> Option<&Live> {
        match &self.state {
            State::Live(live) => Some(live),
            State::Over(_) | State::GivenUp(_) => None,
        }
    }

    /// Whether its call goes on, or begins again, at another machine.
    fn went_elsewhere(&self) -> bool {
        self.rings_elsewhere || matches!(self.state, State::GivenUp(_))
    }

    /// Whether its stream did not start, and Twilio has not asked what follows.
    fn never_began(&self) -> bool {
        self.answers.is_empty() && self.stage().is_some_and(|stage| stage.never_began())
    }

    /// `None` if another machine has it.
    fn stage(&self) -> Option<Stage> {
        match &self.state {
            State::Live(live) => Some(Stage::Live(live.handle.clone())),
            State::Over(rest) => Some(Stage::Over(rest.clone())),
            State::GivenUp(_) => None,
        }
    }
}

impl Calls {
    fn enter(&mut self, nonce: Nonce, live: Live, now: Instant, life: Duration) {
        self.sweep(now);
        let (call, test) = (live.handle.call.bytes(), live.handle.plan.test);
        self.newest.insert(call, nonce);
        let entry = Entry {
            call,
            expires: now + life,
            state: State::Live(Box::new(live)),
            answers: Answers::default(),
            asking: None,
            rings_elsewhere: false,
            test,
        };
        self.tickets.insert(nonce, entry);
    }

    fn newest(&self, call: &CallSid) -> Option<&Entry> {
        self.tickets.get(self.newest.get(&call.bytes())?)
    }

    fn admit(&mut self, nonce: &Nonce) -> Result<oneshot::Sender<Upgraded>, Refused> {
        let entry = self.tickets.get_mut(nonce).ok_or(Refused::Unknown)?;
        if entry.expires <= now() {
            return Err(Refused::Old);
        }
        match &mut entry.state {
            State::Live(live) if live.handle.decision.borrow().is_none() => {
                live.stream_tx.take().ok_or(Refused::Used)
            }
            State::Live(_) | State::Over(_) | State::GivenUp(_) => Err(Refused::Used),
        }
    }

    fn known(&self, call: &CallSid, now: Instant) -> Option<Known> {
        if let Some(ticket) = self.unused_ticket(call, now) {
            return Some(Known::Waits(ticket));
        }
        let has_begun = self.newest(call).is_some_and(|entry| !entry.went_elsewhere());
        (has_begun || self.closed.contains(&call.bytes(), now)).then_some(Known::Begun)
    }

    fn unused_ticket(&self, call: &CallSid, now: Instant) -> Option<String> {
        let entry = self.newest(call)?;
        let live = entry.live()?;
        let waits = !live.is_way_back && live.stream_tx.is_some() && live.handle.decision.borrow().is_none();
        (waits && entry.expires > now).then(|| live.ticket.clone())
    }

    /// Forgets the oldest ended calls, and gives memory back after a rush.
    fn sweep(&mut self, now: Instant) {
        while let Some((ended, nonce)) = self.ended.front().copied()
            && (ended + MEMORY <= now || self.ended.len() > MAX_ENDED)
        {
            self.ended.pop_front();
            let Some(entry) = self.tickets.remove(&nonce) else { continue };
            if !entry.went_elsewhere() {
                self.closed.close(entry.call, now);
            }
            if self.newest.get(&entry.call) == Some(&nonce) {
                self.newest.remove(&entry.call);
            }
        }
        if self.tickets.capacity() > 4 * self.tickets.len().max(MIN_CAPACITY) {
            let room = 2 * self.tickets.len().max(MIN_CAPACITY);
            self.tickets.shrink_to(room);
            self.newest.shrink_to(room);
            self.ended.shrink_to(room);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::tests::{machine, request, switchboard};
    use crate::session::{Ring, Switchboard};

    fn ring(switchboard: &Arc<Switchboard>) -> CallSid {
        let request = request("CallStatus=ringing");
        assert!(matches!(switchboard.ring(&request), Ring::Stream { .. }));
        request.call
    }

    fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    #[tokio::test]
    async fn a_call_that_ended_is_closed_for_a_day_also_once_its_ticket_is_forgotten() {
        let switchboard = switchboard();
        let call = ring(&switchboard);
        let busy = CallSid::parse("CA000000000000000000000000000000bb").unwrap();
        switchboard.registry.turned_away(&busy);
        let mut calls = switchboard.registry.lock();
        let now = now();
        assert_eq!(calls.known(&busy, now + secs(58)), None, "Twilio may fetch the answer again");
        assert_eq!(calls.known(&busy, now + secs(61)), Some(Known::Begun));
        assert!(matches!(calls.known(&call, now), Some(Known::Waits(_))));
        assert_eq!(calls.known(&call, now + TICKET_LIFE), Some(Known::Begun), "its ticket expires just now");
        let nonce = calls.newest[&call.bytes()];
        calls.tickets.get_mut(&nonce).unwrap().state = State::Over(None);
        calls.ended.push_back((now, nonce));
        for after in [599, 600, 86_999] {
            calls.sweep(now + secs(after));
            assert_eq!(calls.tickets.is_empty(), after >= 600);
            assert_eq!(calls.known(&call, now + secs(after)), Some(Known::Begun), "after {after} s");
        }
        assert_eq!(calls.known(&call, now + secs(87_001)), None);
    }

    #[test]
    fn thousands_of_calls_that_ended_hold_little() {
        assert!(size_of::<(Nonce, Entry)>() <= 128, "{} bytes", size_of::<(Nonce, Entry)>());
    }

    #[tokio::test]
    async fn a_call_that_went_elsewhere_is_not_closed_when_its_ticket_is_forgotten() {
        let switchboard = machine("m1");
        let call = ring(&switchboard);
        let mut calls = switchboard.registry.lock();
        let (now, nonce) = (now(), calls.newest[&call.bytes()]);
        calls.tickets.get_mut(&nonce).unwrap().state = State::GivenUp(None);
        calls.ended.push_back((now, nonce));
        assert_eq!(calls.known(&call, now + TICKET_LIFE), None);
        calls.sweep(now + secs(600));
        assert_eq!((calls.known(&call, now + secs(600)), calls.tickets.len()), (None, 0));
    }
}
