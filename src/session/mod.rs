//! Sessions, and what they share.
//!
//! [`Switchboard`] knows the roster, the tickets and the calls. A ring becomes a session: one task that connects to the
//! model while the phone still rings, waits for the stream, and then owns the call, both sockets and both outboxes
//! until the goodbye.

mod admission;
mod adopt;
mod after;
mod breaker;
mod clock;
mod closed;
mod form;
mod input;
mod jobs;
mod limits;
mod live;
mod meter;
mod model;
mod operator;
mod others;
mod perform;
mod phone;
mod rare;
mod record;
mod registry;
mod settle;
mod sound;
mod talk;
mod trial;
mod workers;

#[cfg(test)]
pub(crate) mod tests;

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jiff::Timestamp;
use rustls::ClientConfig;
use tokio::sync::{oneshot, watch};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::assistant::language::Words;
use crate::assistant::plan::{Line, OnFailure, Plan, RecordPolicy, Supply};
use crate::assistant::{Assistant, Facts, Roster};
use crate::id::CallSid;
use crate::link::caller::Upgraded;
use crate::observe::metrics;
use crate::phone::Party;
use crate::provider::prices::Prices;
use crate::record::{Answering, Refusal, Sink, What};
use crate::recording::Recordings;
use crate::secret::Secret;
use crate::tool::{Client, Tools};
use crate::wire::ticket::{self, Ticket};
use crate::wire::twilio::webhook::{CallRequest, CallStatus};
use admission::{Admission, Place};
pub use adopt::Adoption;
pub use after::{After, Next};
use breaker::Breakers;
use jobs::Jobs;
pub use limits::{DaysNear, Limits, Ringing, is_blocked};
pub use live::{Glance, Speaker, State};
use meter::Meter;
pub use operator::LiveCall;
pub use others::Others;
use perform::Session;
use record::{Filing, Records};
pub use registry::{Command, Decision, Refused, TICKET_LIFE};
pub use trial::{Trial, Tried};
#[cfg(test)]
use {phone::Phone, talk::Talk};

use registry::{Handle, Known, Nonce, Registry, Stage};
use settle::Notices;
pub use settle::notification_of;
use sound::Sound;
use workers::Workers;

/// How often a draining server checks whether Twilio asked everything.
const ASKED_POLL: Duration = Duration::from_millis(20);
/// Commands that may wait for a session.
const MAX_COMMANDS: usize = 8;

/// Everything that calls share.
pub struct Switchboard {
    roster: watch::Receiver<Arc<Roster>>,
    keys: ticket::Keys,
    machine: String,
    tls: Arc<ClientConfig>,
    admission: Admission,
    limits: Arc<Limits>,
    breakers: Arc<Breakers>,
    registry: Registry,
    workers: Workers,
    sessions: TaskTracker,
    tools: Arc<Tools>,
    /// Jobs that outlive their calls.
    lasting: TaskTracker,
    draining: AtomicBool,
    goodbyes_began: AtomicBool,
    /// Cancelled when no prepared line is captured any more: the server drains, or it never did.
    no_captures: CancellationToken,
    /// Cancelled when the server stops: a form that is not filled in is given up.
    no_forms: CancellationToken,
    records: Records,
    recordings: Option<Recordings>,
    /// See [`Parts::now`].
    now: Option<Timestamp>,
}

/// What a [`Switchboard`] is made from.
pub struct Parts {
    pub roster: watch::Receiver<Arc<Roster>>,
    /// The first seals tickets.
    pub tokens: Vec<Secret>,
    /// This machine's name; empty if there is only one machine.
    pub machine: String,
    pub max_calls: usize,
    /// What the calls of all assistants may cost together in a day of UTC, in dollars.
    pub cost_per_day: Option<f64>,
    /// The names of the providers.
    pub providers: Vec<String>,
    pub tls: Arc<ClientConfig>,
    pub tools: Arc<Tools>,
    /// Where the entries of calls go; `None`: nowhere.
    pub records: Option<Sink>,
    pub prices: Arc<Prices>,
    /// What is kept of rings that no assistant answers.
    pub policy: RecordPolicy,
    /// Records the calls whose assistants say so; `None`: no call is recorded.
    pub recordings: Option<Recordings>,
    /// The time of every call, for a rehearsal; `None`: the clock's.
    pub now: Option<Timestamp>,
    /// Whether prepared lines that are missing are captured at the end of a call.
    pub captures: bool,
    /// A simulated model answers.
    pub simulated: bool,
}

/// The answer to a ringing phone.
pub enum Ring {
    /// Say the recording notice, if there is one, then open a stream with this ticket.
    Stream { ticket: String, notice: Option<Line> },
    /// All places are taken, or a limit is reached: say so, and dial if there is somebody.
    Busy(OnFailure),
    /// The assistant's file blocks the caller.
    Blocked,
    /// No assistant answers this number.
    Nobody,
    /// The server takes no new calls.
    Draining,
    /// The call has begun already, or is over: somebody sent Twilio's request again.
    Replayed,
    /// The call is over: this is Twilio's report of that, and not a ring.
    Over,
    /// The call cannot begin, because its plan cannot be made.
    Sorry(OnFailure),
}

impl Switchboard {
    /// # Errors
    /// If the system gives no threads for the sessions.
    pub fn new(parts: Parts) -> io::Result<Self> {
        let no_captures = CancellationToken::new();
        if !parts.captures {
            no_captures.cancel();
        }
        let (workers, lasting) = (Workers::start()?, TaskTracker::new());
        let notices = Notices::new(parts.tools.clone(), lasting.clone(), workers.home().clone());
        let limits = Arc::new(Limits::new(parts.cost_per_day));
        Ok(Self {
            no_captures,
            no_forms: CancellationToken::new(),
            workers,
            breakers: Arc::new(Breakers::new(parts.providers, parts.tls.clone())),
            roster: parts.roster,
            keys: ticket::Keys::new(&parts.tokens),
            machine: parts.machine,
            tls: parts.tls,
            admission: Admission::new(parts.max_calls, limits.clone()),
            registry: Registry::default(),
            sessions: TaskTracker::new(),
            tools: parts.tools,
            lasting,
            draining: AtomicBool::new(false),
            goodbyes_began: AtomicBool::new(false),
            records: Records {
                sink: parts.records,
                prices: parts.prices,
                policy: parts.policy,
                simulated: parts.simulated,
                limits: limits.clone(),
                notices,
            },
            limits,
            recordings: parts.recordings,
            now: parts.now,
        })
    }

    /// A phone rings: makes the plan, takes a place, and begins to connect to the model.
    pub fn ring(self: &Arc<Self>, request: &CallRequest) -> Ring {
        if request.status == CallStatus::Over {
            self.call_is_over(&request.call);
            return Ring::Over;
        }
        match self.registry.known(&request.call) {
            Some(known) => self.known(known, &request.call),
            None if self.is_draining() => {
                metrics::refused("admission", "draining");
                Ring::Draining
            }
            None => {
                let ring = self.new_call(request);
                if !matches!(ring, Ring::Stream { .. }) {
                    self.registry.turned_away(&request.call);
                }
                ring
            }
        }
    }

    fn known(&self, known: Known, call: &CallSid) -> Ring {
        match known {
            Known::Waits(ticket) => {
                let (handle, _) = self.registry.of_call(call);
                Ring::Stream {
                    ticket,
                    notice: handle.and_then(|handle| handle.plan.recording_notice.clone()),
                }
            }
            Known::Begun => {
                metrics::refused("admission", "replayed");
                Ring::Replayed
            }
        }
    }

    fn new_call(self: &Arc<Self>, request: &CallRequest) -> Ring {
        let Some(assistant) = self.roster.borrow().find_party(&request.to).cloned() else {
            tracing::warn!(call = %request.call, called = ?request.to, "No assistant answers this number");
            self.refused(request, Answering::nobody(self.records.policy), Refusal::Nobody);
            return Ring::Nobody;
        };
        if is_blocked(assistant.gate(), &request.from) {
            self.refused(request, Answering::from(&*assistant), Refusal::Blocked);
            return Ring::Blocked;
        }
        let facts = facts(request, self.now);
        let Some(plan) = plan_for(&assistant, &facts, &*self.tools) else {
            self.refused(request, Answering::from(&*assistant), Refusal::Failed);
            return Ring::Sorry(assistant.on_failure(&facts));
        };
        self.open(Arc::new(plan), request, Some(&assistant))
    }

    /// The words for a caller of this party about whom nothing else is known.
    pub fn words(&self, called: &Party) -> &'static Words {
        self.roster.borrow().words(called)
    }

    /// Lets a stream in by its ticket, once. The sender takes the stream.
    pub fn admit(&self, ticket: &str) -> Result<oneshot::Sender<Upgraded>, Refused> {
        let ticket = self.keys.open(ticket).map_err(|_| Refused::Unknown)?;
        self.registry.admit(&ticket.nonce).map_err(|why| match why {
            // With one machine, no other can know the ticket.
            Refused::Unknown if self.is_one_of_several() && ticket.machine_name().is_some() => {
                Refused::Foreign
            }
            why => why,
        })
    }

    /// A request with this ticket did not ask for an upgrade. That uses nothing up, but explains why no stream comes.
    pub fn came_without_upgrade(&self, ticket: &str) {
        let known = self.keys.open(ticket).ok().and_then(|ticket| self.registry.find(&ticket.nonce));
        if let Some((Stage::Live(handle), _)) = known {
            let _ = handle.commands.try_send(Command::NotAnUpgrade);
        }
    }

    /// Tells the session of a call, if it is live.
    fn command(&self, call: &CallSid, command: Command) {
        if let (Some(handle), _) = self.registry.of_call(call) {
            let _ = handle.commands.try_send(command);
        }
    }

    /// Twilio reports that a call is over. Returns whether it was last this process's call.
    pub fn call_is_over(&self, call: &CallSid) -> bool {
        self.registry.close(call);
        self.command(call, Command::CallerHungUp);
        self.registry.of_call(call).1
    }

    /// Calls that ended this long ago, in a process before this one, open nothing either; the newest come first.
    pub fn close_earlier(&self, calls: impl IntoIterator<Item = (CallSid, Duration)>) {
        self.registry.close_earlier(calls);
    }

    pub fn begin_draining(&self) {
        self.draining.store(true, Ordering::Release);
        self.no_captures.cancel();
        self.sessions.close();
    }

    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    /// Cancelled by [`Self::end_forms`].
    pub fn forms_ended(&self) -> CancellationToken {
        self.no_forms.clone()
    }

    /// Gives up the forms that are not filled in. Their calls are over.
    pub fn end_forms(&self) {
        self.no_forms.cancel();
    }

    /// Waits until every call is over. The server must be draining.
    pub async fn empty(&self) {
        self.sessions.wait().await;
    }

    /// Waits until Twilio has asked what follows each stream that ended `recently`.
    pub async fn all_asked(&self, recently: Duration) {
        while self.registry.may_be_asked(recently) {
            sleep(ASKED_POLL).await;
        }
    }

    /// Waits until every job that outlives its call is done.
    pub async fn jobs_done(&self) {
        self.lasting.close();
        self.lasting.wait().await;
    }

    /// Forgets what is too old, also while no call comes.
    pub fn upkeep(&self) {
        self.registry.sweep();
    }

    /// Ends the sessions that are left, in the middle of whatever they do, and their threads.
    pub async fn stop(&self) {
        self.workers.stop().await;
    }

    /// Makes every call say goodbye.
    pub fn say_goodbyes(&self) {
        self.goodbyes_began.store(true, Ordering::Release);
        for handle in self.registry.live() {
            let _ = handle.commands.try_send(Command::Drain);
        }
    }

    /// Whether no session is left, closing sockets included.
    pub fn is_empty(&self) -> bool {
        self.sessions.is_empty()
    }

    pub fn calls(&self) -> usize {
        self.admission.taken()
    }

    /// The name of each provider, and whether it is up.
    pub fn providers(&self) -> BTreeMap<String, bool> {
        self.breakers.standing()
    }

    /// The name of each provider, and whether its account has no credit left.
    pub fn out_of_credit(&self) -> BTreeMap<String, bool> {
        self.breakers.out_of_credit()
    }

    pub fn assistants(&self) -> usize {
        self.roster.borrow().len()
    }

    /// What is counted for the limits.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Forgets what no longer counts, and finds the days whose cost is near its limit. Returns whether anything is
    /// limited, so that others' calls have to be known.
    pub fn look_at_limits(&self, now: Timestamp) -> bool {
        let roster = self.roster.borrow().clone();
        let is_limited =
            self.limits.limits_all() || roster.iter().any(|assistant| limits::counts(assistant.gate()));
        self.limits.forget(is_limited, now);
        let of = |assistant| (Assistant::name(assistant), assistant.gate(), assistant.zone());
        self.limits.look(roster.iter().map(|assistant| of(assistant)), now);
        is_limited
    }

    /// Begins a call if the limits of its `assistant` let it. Without one it rang before, has a record, and was let in.
    fn open(self: &Arc<Self>, plan: Arc<Plan>, request: &CallRequest, assistant: Option<&Assistant>) -> Ring {
        let (call, retried) = (request.call.clone(), assistant.is_none());
        let refused = |why| match assistant {
            Some(_) => self.refused(request, Answering::from(&*plan), why),
            None => count_refusal(why),
        };
        let (call_sid, from) = (request.call.as_str(), Some(&request.from));
        let ringing = Ringing { call: call_sid, assistant: &plan.assistant, caller: from };
        let gate = assistant.map(|assistant| (assistant.gate(), assistant.zone()));
        let now = self.now.unwrap_or_else(Timestamp::now);
        let place = match plan.test {
            true => self.admission.admit_test(),
            false => self.admission.admit(&ringing, gate, now),
        };
        let place = match place {
            Ok(place) => place,
            Err(why) => {
                refused(why);
                return Ring::Busy(OnFailure { line: plan.busy.clone(), dial: plan.busy_dial.clone() });
            }
        };
        let nonce: Nonce = rand::random();
        let Some(ticket) = self.seal(call.clone(), &plan, nonce) else {
            tracing::error!(call = %call, assistant = plan.assistant, "The assistant's name is too long for a ticket");
            refused(Refusal::Failed);
            return Ring::Sorry(plan.on_failure.clone());
        };
        let (stream_tx, stream) = oneshot::channel();
        let live = Glance::new(place.id.clone(), self.records.prices.clone());
        let (handle, channels) = channels(call.clone(), plan.clone(), retried, live);
        if let Err(known) = self.registry.enter(nonce, ticket.clone(), handle, stream_tx) {
            return self.known(known, &call);
        }
        let client = client(request, &plan);
        let notice = plan.recording_notice.clone();
        let opening = Opening { client, plan, nonce, retried, adopted: false, place, channels };
        self.begin(opening, stream);
        Ring::Stream { ticket, notice }
    }

    /// Counts and records a ring that becomes no call.
    fn refused(&self, request: &CallRequest, by: Answering<'_>, why: Refusal) {
        count_refusal(why);
        self.records.refused(request, by, why);
    }

    /// Starts the session of a call in the registry.
    fn begin(self: &Arc<Self>, opening: Opening, stream: oneshot::Receiver<Upgraded>) {
        let Opening { client, plan, nonce, retried, adopted, place, channels } = opening;
        let Channels { commands, decision, live } = channels;
        let call = client.call.clone();
        let span = tracing::info_span!("call", call = %call, assistant = plan.assistant);
        let mut filing = Filing::new(self.records.clone(), plan.clone(), &client).named(place.id.clone());
        filing.watched(live);
        filing.rings();
        if adopted {
            filing.file(What::Adopted);
        }
        let meter = Meter::new(plan.limits.cost);
        let session = Session {
            jobs: Jobs::new(self.clone(), client, filing.id.clone()),
            filing,
            switchboard: self.clone(),
            span,
            plan,
            call,
            nonce,
            retried,
            meter,
            rang: crate::link::now(),
            place: Some(place),
            commands,
            decision,
            streams_lost: 0,
            sound: Sound::default(),
            unsettled: None,
            anomalies: BTreeMap::new(),
            // A call that another machine gives up may come even now.
            must_say_goodbye: self.goodbyes_began.load(Ordering::Acquire),
            over: false,
        };
        self.workers.spawn(&self.sessions, session.run(stream));
    }

    fn seal(&self, call: CallSid, plan: &Plan, nonce: Nonce) -> Option<String> {
        self.keys.seal(&Ticket {
            machine: self.machine.clone(),
            call,
            assistant: plan.assistant.clone(),
            issued: unix_seconds(),
            nonce,
        })
    }
}

/// What a session is made from.
struct Opening {
    client: Client,
    plan: Arc<Plan>,
    nonce: Nonce,
    retried: bool,
    /// It rang at another machine.
    adopted: bool,
    place: Place,
    channels: Channels,
}

/// The session's ends of its channels.
struct Channels {
    commands: rare::Receiver<Command>,
    decision: watch::Sender<Option<Decision>>,
    live: watch::Sender<Glance>,
}

/// A call's handle, and the session's ends of its channels.
fn channels(call: CallSid, plan: Arc<Plan>, retried: bool, live: Glance) -> (Handle, Channels) {
    let (commands_tx, commands) = rare::channel(MAX_COMMANDS);
    let (decision_tx, decision) = watch::channel(None);
    let (live_tx, live) = watch::channel(live);
    let handle = Handle { call, plan, retried, commands: commands_tx, decision, live };
    (handle, Channels { commands, decision: decision_tx, live: live_tx })
}

fn count_refusal(why: Refusal) {
    if let Some(why) = why.why() {
        metrics::refused("admission", why);
    }
}

fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

fn client(request: &CallRequest, plan: &Plan) -> Client {
    Client {
        call: request.call.clone(),
        assistant: plan.assistant.clone(),
        caller: request.from.clone(),
        called: request.to.clone(),
        keep: plan.record.keep,
        reader: plan.reader.clone(),
    }
}

fn facts(request: &CallRequest, now: Option<Timestamp>) -> Facts {
    Facts {
        caller: request.from.clone(),
        called: request.to.clone(),
        call: request.call.as_str().to_owned(),
        now: now.unwrap_or_else(Timestamp::now),
    }
}

fn plan_for(assistant: &Assistant, facts: &Facts, supply: &dyn Supply) -> Option<Plan> {
    match assistant.plan(facts, supply) {
        Ok(plan) => Some(plan),
        Err(error) => {
            tracing::error!(call = facts.call, assistant = assistant.name(), %error, "The plan cannot be made");
            None
        }
    }
}
