//! The task that owns a call: its machine, both sockets, both outboxes, its timer.

use std::collections::BTreeMap;
use std::future::pending;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::ws::WebSocket;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Sleep, sleep};

use crate::assistant::plan::{Plan, Work};
use crate::call::{Action, Anomaly, Call, Detour, EndReason, Event, Note, Return, Tally};
use crate::id::CallSid;
use crate::link::caller::{CallerLink, CallerStep, NotStarted, refuse};
use crate::link::model::{ModelLink, ModelStep};
use crate::link::now;
use crate::observe::ended::CallEnded;
use crate::observe::journal::What;
use crate::observe::metrics;

use super::Switchboard;
use super::admission::Place;
use super::jobs::Jobs;
use super::model::Model;
use super::phone::{Back, NotBack, Phone, PhoneStep};
use super::registry::{Command, Decision, Nonce, TICKET_LIFE, Way};

/// How long after the stream's start the model may take to be ready.
pub const MODEL_PATIENCE: Duration = Duration::from_secs(3);
/// One session. See the module.
pub(super) struct Session {
    pub switchboard: Arc<Switchboard>,
    pub plan: Arc<Plan>,
    pub call: CallSid,
    pub nonce: Nonce,
    /// Whether this is the second try for the same call.
    pub retried: bool,
    pub rang: Instant,
    /// Given back when the call is over, before the sockets are closed.
    pub place: Option<Place>,
    pub commands: mpsc::Receiver<Command>,
    pub decision: watch::Sender<Option<Decision>>,
    pub jobs: Jobs,
    pub anomalies: BTreeMap<Anomaly, u64>,
    /// The server said goodbye before the stream came.
    pub sent_home: bool,
    /// What follows is written down for good.
    pub over: bool,
}

impl Session {
    /// From the ring to the end. `stream` brings the phone's socket.
    pub async fn run(mut self, stream: oneshot::Receiver<WebSocket>) {
        let mut model = Model::connecting(self.plan.clone(), self.switchboard.clone());
        let no_figures = Tally::default();
        match self.wait_for_stream(stream, &mut model).await {
            Ok(caller) => self.converse(caller, &mut model).await,
            Err(Absent::HungUp) => self.finish(EndReason::CallerHungUp, Decision::HangUp, &no_figures),
            Err(Absent::GivenUp) => self.given_up(),
            Err(Absent::Lapsed) => self.finish(EndReason::CallerLost, Decision::Sorry, &no_figures),
            Err(Absent::NeverCame) => self.never_started("it never came"),
            Err(Absent::NotStarted(why, socket)) => {
                metrics::refused("stream", why.code());
                match why {
                    NotStarted::AnotherCall | NotStarted::OtherAudio => {
                        self.finish(EndReason::CallerRefused, Decision::Sorry, &no_figures);
                    }
                    NotStarted::Late | NotStarted::Closed => self.never_started(why.code()),
                }
                refuse(*socket).await;
            }
        }
        model.close().await;
    }

    /// Twilio may open another stream, once.
    fn never_started(&mut self, why: &str) {
        if self.retried {
            return self.finish(EndReason::CallerLost, Decision::Sorry, &Tally::default());
        }
        tracing::warn!(why, "The stream did not start");
        self.place = None;
        self.decide(Decision::Again);
    }

    /// The call goes on elsewhere, and is told of there.
    fn given_up(&mut self) {
        tracing::info!("Another machine took the call over");
        self.place = None;
        self.jobs.stop_all();
        self.over = true;
        self.switchboard.registry.ended(&self.nonce);
    }

    /// While the phone rings, the model's session is opened and kept.
    async fn wait_for_stream(
        &mut self,
        stream: oneshot::Receiver<WebSocket>,
        model: &mut Model,
    ) -> Result<CallerLink, Absent> {
        let lapse = sleep(TICKET_LIFE);
        tokio::pin!(lapse);
        tokio::pin!(stream);
        let socket = loop {
            tokio::select! {
                socket = &mut stream => break socket.map_err(|_| Absent::NeverCame)?,
                () = &mut lapse => return Err(Absent::Lapsed),
                () = model.settle() => {}
                Some(command) = self.commands.recv() => match command {
                    Command::CallerHungUp => return Err(Absent::HungUp),
                    Command::StreamLost => return Err(Absent::NeverCame),
                    // A ticket that was given is honoured: the stream may come, and hears a goodbye.
                    Command::Drain => self.sent_home = true,
                    Command::GivenUp(_) => return Err(Absent::GivenUp),
                    Command::Transferred | Command::Returned(_) => {}
                },
            }
        };
        let mut anomalies = Vec::new();
        let started = {
            let start = CallerLink::start(socket, &self.call, |anomaly| anomalies.push(anomaly));
            tokio::pin!(start);
            loop {
                tokio::select! {
                    started = &mut start => break started,
                    () = model.settle() => {}
                    Some(command) = self.commands.recv() => match command {
                        Command::CallerHungUp => return Err(Absent::HungUp),
                        // The socket tells by itself.
                        Command::StreamLost => {}
                        Command::Drain => self.sent_home = true,
                        Command::Transferred | Command::Returned(_) | Command::GivenUp(_) => {}
                    },
                }
            }
        };
        for anomaly in anomalies {
            self.count(anomaly);
        }
        started.map_err(|(why, socket)| Absent::NotStarted(why, Box::new(socket)))
    }

    async fn converse(&mut self, caller: CallerLink, model: &mut Model) {
        let began = now();
        let mut call = Call::new(self.plan.clone());
        let mut phone = Phone::OnTheLine(Box::new(caller));
        let mut actions = Vec::new();
        let mut timer = Timer::new();
        model.patience = Some(began + MODEL_PATIENCE);
        self.switchboard.tell(&self.call, What::Started);
        if model.is_ready() {
            call.handle(Event::ModelReady, began, &mut actions);
            self.count_all(model);
        }
        call.handle(Event::StreamStarted, began, &mut actions);
        if self.sent_home {
            call.handle(Event::Draining, began, &mut actions);
        }
        let mut refused = None;
        let reason = loop {
            if let Some(reason) = self.perform(&mut actions, &mut phone, model, &mut call) {
                break reason;
            }
            let stall = phone.line().and_then(|line| line.stall_deadline());
            let due = call.deadline().map(|(due, _)| due);
            timer.arm([due, stall, model.deadline()].into_iter().flatten().min());
            // Every arm is cancel-safe: a step happens within one poll, the rest are a timer and channels.
            tokio::select! {
                step = phone.step() => match step {
                    PhoneStep::Caller(CallerStep::Event(event)) => call.handle(event, now(), &mut actions),
                    PhoneStep::Caller(CallerStep::Anomaly(anomaly)) => self.count(anomaly),
                    PhoneStep::Back(back) => {
                        if let Err(socket) = self.back(back, &mut phone, &mut call, &mut actions) {
                            refused = socket;
                            break EndReason::CallerLost;
                        }
                    }
                },
                step = model.step() => match step {
                    ModelStep::Event(event) => call.handle(event, now(), &mut actions),
                    ModelStep::Anomaly(anomaly) => self.count(anomaly),
                },
                event = self.jobs.news() => call.handle(event, now(), &mut actions),
                () = timer.fired() => {
                    let now = now();
                    if phone.line().is_some_and(|line| line.has_stalled(now)) {
                        call.handle(Event::CallerStalled, now, &mut actions);
                    }
                    if let Some(loss) = model.overdue(now) {
                        call.handle(Event::ModelLost(loss), now, &mut actions);
                    }
                    call.handle_timeout(now, &mut actions);
                }
                Some(command) = self.commands.recv() => match command {
                    Command::CallerHungUp => call.handle(Event::CallerHungUp, now(), &mut actions),
                    // The stream that was to bring it back is over before it came here.
                    Command::StreamLost if phone.line().is_none() => break EndReason::CallerLost,
                    Command::StreamLost => call.handle(Event::StreamLost, now(), &mut actions),
                    Command::Drain => call.handle(Event::Draining, now(), &mut actions),
                    Command::Transferred => break EndReason::AssistantTransferred,
                    // The phone comes back to another machine.
                    Command::GivenUp(_) => return self.given_up(),
                    Command::Returned(way) => {
                        call.handle(Event::Returning, now(), &mut actions);
                        phone = self.expect_back(way);
                    }
                },
            }
            self.count_all(model);
        };
        if reason == EndReason::AssistantTransferred {
            tracing::info!("Call transferred");
        }
        // A phone that was away heard no goodbye; it may yet come back.
        let unheard = reason == EndReason::ServerDraining && phone.line().is_none();
        let broke = reason.is_failure() || unheard;
        let decision = if broke { Decision::Sorry } else { Decision::HangUp };
        self.finish(reason, decision, call.tally());
        if let Some(line) = phone.let_go() {
            line.close().await;
        }
        if let Some(socket) = refused {
            refuse(*socket).await;
        }
    }

    /// The phone has another ticket: from here on what is decided is decided for that one.
    fn expect_back(&mut self, way: Way) -> Phone {
        let dialled = matches!(*self.decision.borrow(), Some(Decision::Dial { .. }));
        match way.how {
            Return::TransferFailed(why) if dialled => {
                tracing::info!(why = why.code(), "Nobody took the call")
            }
            Return::TransferFailed(why) => tracing::info!(why = why.code(), "Keys not pressed"),
            Return::KeysPressed => tracing::info!("Keys pressed"),
        }
        self.switchboard.registry.ended(&self.nonce);
        self.nonce = way.nonce;
        self.decision = way.decision.clone();
        Phone::coming_back(way, self.call.clone())
    }

    /// The phone is back.
    ///
    /// # Errors
    /// It will not come. The socket of a stream that is to be refused is for later, once what follows is written down.
    fn back(
        &mut self,
        back: Back,
        phone: &mut Phone,
        call: &mut Call,
        actions: &mut Vec<Action>,
    ) -> Result<(), Option<Box<WebSocket>>> {
        let Back { how, anomalies, stream } = back;
        for anomaly in anomalies {
            self.count(anomaly);
        }
        match stream {
            Ok(line) => {
                *phone = Phone::OnTheLine(line);
                call.handle(Event::Returned(how), now(), actions);
                Ok(())
            }
            Err(NotBack::NoStream) => {
                tracing::warn!("The phone did not come back");
                Err(None)
            }
            Err(NotBack::NotStarted(why, socket)) => {
                metrics::refused("stream", why.code());
                tracing::warn!(why = why.code(), "The phone did not come back");
                Err(Some(socket))
            }
        }
    }

    /// Writes down where the phone goes, and closes its socket, which makes Twilio ask.
    fn park(&mut self, away: &Detour, phone: &mut Phone) {
        let decision = match away {
            Detour::Press(keys) => Decision::Press(keys.clone()),
            Detour::Dial { tool, target } => {
                let target = self.plan.tools.get(*tool).and_then(|tool| match &tool.work {
                    Work::Transfer(targets) => targets.get(*target),
                    Work::EndCall | Work::SendDigits | Work::Job(_) => None,
                });
                match target {
                    Some(target) => Decision::Dial { number: target.number.clone(), ring: target.ring },
                    None => {
                        tracing::error!("The call is to be passed on to nobody that the plan knows");
                        Decision::Sorry
                    }
                }
            }
        };
        tracing::info!(away = decision.code(), "Call parked");
        self.decision.send_replace(Some(decision));
        if let Some(line) = phone.let_go() {
            // Its end may take a second, in which the model goes on.
            self.switchboard.sessions.spawn(line.close());
        }
    }

    /// Carries out the actions in order; gives the reason when the call is over.
    fn perform(
        &mut self,
        actions: &mut Vec<Action>,
        phone: &mut Phone,
        model: &mut Model,
        call: &mut Call,
    ) -> Option<EndReason> {
        let mut ended = None;
        let mut follow = Vec::new();
        for action in actions.drain(..) {
            match action {
                Action::PlayToCaller { piece, chunk } => {
                    if let Some(line) = phone.line() {
                        line.play(piece, &chunk);
                    }
                }
                Action::MarkForCaller(mark) => {
                    if let Some(line) = phone.line() {
                        line.mark(mark);
                    }
                }
                Action::ClearCaller => {
                    if let Some(line) = phone.line() {
                        line.clear();
                    }
                }
                Action::Note(note) => self.note(note),
                // The socket is closed by `converse`, after the decision is written.
                Action::HangUp => {}
                Action::End(reason) => ended = Some(reason),
                Action::AppendToModel(chunk) => {
                    if model.link().is_some_and(|link| !link.append(&chunk)) && follow.is_empty() {
                        follow.push(Event::ModelStalled);
                    }
                }
                Action::Configure(turns) => model.with(|link| link.configure(turns)),
                Action::CancelResponse(response) => model.with(|link| link.cancel(&response)),
                Action::TruncateItem(cut) => model.with(|link| link.truncate(&cut)),
                Action::AnswerTool { id, output } => {
                    model.with(|link| link.answer_tool(&id, output.expose()))
                }
                Action::AnswerApproval { id, approve, reason } => {
                    model.with(|link| link.answer_approval(&id, approve, reason));
                }
                Action::RunTool { id, tool, arguments } => {
                    let plan = self.plan.clone();
                    follow.extend(self.jobs.run(id, plan.tools.get(tool), arguments).err());
                }
                Action::StopTool(id, why) => self.jobs.stop(&id, why),
                Action::Park(away) => self.park(&away, phone),
                Action::TellModel(line) => model.with(|link| link.tell(&line)),
                Action::Say(request) => model.with(|link| link.say(&request)),
                Action::SayOutOfBand(request) => model.with(|link| link.say_out_of_band(&request)),
                Action::AskForResponse => model.with(ModelLink::ask),
            }
        }
        if ended.is_some() || follow.is_empty() {
            return ended;
        }
        for event in follow {
            call.handle(event, now(), actions);
        }
        self.perform(actions, phone, model, call)
    }

    fn note(&mut self, note: Note) {
        match &note {
            Note::Anomaly(anomaly) => return self.count(*anomaly),
            Note::FirstWord(time) => metrics::first_word(*time),
            Note::Answered(time) => metrics::turn(*time),
            Note::CallerSpoke { .. } | Note::AssistantSpoke(_) | Note::Said { .. } => {}
        }
        self.switchboard.tell(&self.call, What::Note(note));
    }

    fn count(&mut self, anomaly: Anomaly) {
        *self.anomalies.entry(anomaly).or_default() += 1;
        metrics::anomaly(anomaly);
        self.switchboard.tell(&self.call, What::Note(Note::Anomaly(anomaly)));
    }

    fn count_all(&mut self, model: &mut Model) {
        while let Some(anomaly) = model.anomalies.pop() {
            self.count(anomaly);
        }
    }

    /// Writes down what follows, then tells of the end. The sockets are still open.
    fn finish(&mut self, reason: EndReason, decision: Decision, tally: &Tally) {
        self.place = None;
        self.jobs.stop_all();
        self.decide(decision);
        let lasted = now() - self.rang;
        let assistant = &self.plan.assistant;
        CallEnded { call: &self.call, assistant, reason, lasted, tally, anomalies: &self.anomalies }.emit();
        self.switchboard.tell(&self.call, What::Ended { reason, tally: tally.clone() });
    }

    fn decide(&mut self, decision: Decision) {
        self.over = true;
        // Who was promised a person gets one, whatever became of the model meanwhile.
        let promised = matches!(*self.decision.borrow(), Some(Decision::Dial { .. }));
        if !promised || decision == Decision::HangUp {
            self.decision.send_replace(Some(decision));
        }
        self.switchboard.registry.ended(&self.nonce);
    }
}

impl Drop for Session {
    /// A session that is torn down undecided (a panic, the end of the program) leaves an apology, and no session leaves
    /// a ticket that nobody waits for.
    fn drop(&mut self) {
        if !self.over {
            self.finish(EndReason::ServerFault, Decision::Sorry, &Tally::default());
        }
        // A phone may have been sent back in the very moment in which the session ended.
        self.commands.close();
        while let Ok(command) = self.commands.try_recv() {
            if let Command::Returned(way) = command {
                self.switchboard.registry.ended(&way.nonce);
            }
        }
    }
}

/// Why there is no stream.
enum Absent {
    HungUp,
    /// Another machine serves the call.
    GivenUp,
    /// Twilio says that the stream is over before it came here.
    NeverCame,
    /// The ticket is too old.
    Lapsed,
    NotStarted(NotStarted, Box<WebSocket>),
}

/// One timer for all deadlines, set anew only when the next one is earlier than what it is set to.
struct Timer {
    sleep: Pin<Box<Sleep>>,
    set_to: Option<Instant>,
}

impl Timer {
    fn new() -> Self {
        Self { sleep: Box::pin(sleep(Duration::ZERO)), set_to: None }
    }

    fn arm(&mut self, due: Option<Instant>) {
        let Some(due) = due else { return };
        if self.set_to.is_none_or(|set_to| due < set_to) {
            self.sleep.as_mut().reset(due.into());
            self.set_to = Some(due);
        }
    }

    /// Cancel-safe. It may fire early, for a deadline that has moved on: the caller looks again.
    async fn fired(&mut self) {
        if self.set_to.is_none() {
            return pending().await;
        }
        self.sleep.as_mut().await;
        self.set_to = None;
    }
}
