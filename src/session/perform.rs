//! The task that owns a call: the state machine, both sockets, both outboxes, the timer.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::{oneshot, watch};
use tokio::time::sleep;
use tracing::{Instrument as _, Span};

use crate::assistant::plan::{Plan, Work};
use crate::call::{Action, Anomaly, Call, Detour, EndReason, Event, Note, Return, Tally};
use crate::id::CallSid;
use crate::link;
use crate::link::caller::{CallerLink, CallerStep, NotStarted, Socket, Upgraded, refuse};
use crate::link::model::{ModelLink, ModelStep};

use crate::observe::ended::CallEnded;
use crate::observe::metrics;

use super::Switchboard;
use super::admission::Place;
use super::clock::Clock;
use super::input::{Input, Inputs, Turns};
use super::jobs::Jobs;
use super::live::State;
use super::meter::Meter;
use super::model::Model;
use super::phone::{Back, Phone, PhoneStep};
use super::rare;
use super::record::Filing;
use super::registry::{Command, Decision, Nonce, WayBack, first_ticket_life};
use super::settle::Pending;
use super::sound::Sound;
use super::talk::{Absent, Over, Talk};

/// How often a broken stream gets a new one in one call. After that, the caller hears `on_failure`.
const MAX_NEW_STREAMS: u32 = 5;

/// See the module.
pub(super) struct Session {
    pub switchboard: Arc<Switchboard>,
    pub span: Span,
    pub plan: Arc<Plan>,
    pub call: CallSid,
    pub nonce: Nonce,
    /// Whether this is the second attempt for the same call.
    pub retried: bool,
    pub rang: Instant,
    /// Dropped when the call is over, before the sockets are closed.
    pub place: Option<Place>,
    pub commands: rare::Receiver<Command>,
    pub decision: watch::Sender<Option<Decision>>,
    pub jobs: Jobs,
    pub filing: Filing,
    pub meter: Meter,
    /// How often the phone's stream broke.
    pub streams_lost: u32,
    pub sound: Sound,
    /// The call is over, its record is not: the messages that it took.
    pub unsettled: Option<Vec<Pending>>,
    pub anomalies: BTreeMap<Anomaly, u64>,
    /// The server says its goodbyes already before the stream comes.
    pub must_say_goodbye: bool,
    /// The decision is final.
    pub over: bool,
}

impl Session {
    /// Runs from the ring to the end. `stream` brings the phone's socket.
    pub async fn run(mut self, stream: oneshot::Receiver<Upgraded>) {
        let span = self.span.clone();
        let mut model = span.in_scope(|| Model::connecting(self.plan.clone(), self.switchboard.clone()));
        let went_well = match self.wait_for_stream(stream, &mut model).instrument(span.clone()).await {
            // Not instrumented: to enter the span at each of the caller's frames would only cost time.
            Ok(caller) => self.converse(caller, &mut model).await,
            Err(absent) => {
                self.absent(absent).instrument(span.clone()).await;
                false
            }
        };
        self.file_form(&mut model).instrument(span.clone()).await;
        // From here on nothing can reach the call.
        drop(self);
        if went_well {
            model.capture_missing().instrument(span.clone()).await;
        }
        model.close().instrument(span).await;
    }

    /// No stream came, or none that started.
    async fn absent(&mut self, absent: Absent) {
        let no_figures = Tally::default();
        match absent {
            Absent::HungUp => self.finish(EndReason::CallerHungUp, Decision::HangUp, &no_figures),
            Absent::OperatorEnded => self.finish(EndReason::OperatorEnded, Decision::HangUp, &no_figures),
            Absent::GivenUp => self.given_up(),
            Absent::Expired => self.finish(EndReason::CallerLost, Decision::Sorry, &no_figures),
            Absent::NeverCame(why) => self.never_started(why),
            Absent::NotStarted(why, socket) => {
                metrics::refused("stream", why.code());
                match why {
                    NotStarted::AnotherCall | NotStarted::OtherAudio => {
                        self.finish(EndReason::CallerRefused, Decision::Sorry, &no_figures);
                    }
                    NotStarted::Late | NotStarted::Closed => self.never_started(why.code()),
                }
                refuse(socket).await;
            }
        }
    }

    /// Twilio may open one more stream.
    fn never_started(&mut self, why: &str) {
        tracing::warn!(why, "The stream did not start");
        if self.retried {
            return self.finish(EndReason::CallerLost, Decision::Sorry, &Tally::default());
        }
        self.place = None;
        self.filing.withdrawn();
        self.decide(Decision::Again);
    }

    /// The call goes on at another machine, which also logs its end.
    fn given_up(&mut self) {
        tracing::info!("Another machine took the call over");
        self.place = None;
        self.sound.end();
        self.jobs.stop_all();
        self.filing.given_up();
        self.over = true;
        self.switchboard.registry.ended(&self.nonce);
    }

    /// While the phone rings, the model's session is opened and kept.
    async fn wait_for_stream(
        &mut self,
        stream: oneshot::Receiver<Upgraded>,
        model: &mut Model,
    ) -> Result<Box<CallerLink>, Absent> {
        let expiry = sleep(first_ticket_life(&self.plan));
        tokio::pin!(expiry);
        tokio::pin!(stream);
        let mut absent = "never_came";
        let upgraded = loop {
            tokio::select! {
                // What has come is judged before what is due.
                biased;
                upgraded = &mut stream => break upgraded.map_err(|_| Absent::NeverCame(absent))?,
                command = self.commands.recv() => match command {
                    Command::CallerHungUp => return Err(Absent::HungUp),
                    Command::StreamLost => return Err(Absent::NeverCame(absent)),
                    Command::NotAnUpgrade => absent = "not_an_upgrade",
                    // Issued tickets are honoured: if the stream comes, the caller hears a goodbye.
                    Command::Drain => self.must_say_goodbye = true,
                    Command::OperatorEnds => return Err(Absent::OperatorEnded),
                    Command::GivenUp(_) => return Err(Absent::GivenUp),
                    Command::Transferred | Command::Returned(_) => {}
                },
                () = &mut expiry => return Err(Absent::Expired),
                // Last, because a model may never stop talking.
                () = model.settle() => {}
            }
        };
        let socket = upgraded.open().await.map_err(|_| Absent::NeverCame("broken"))?;
        let mut anomalies = Vec::new();
        let started = {
            let start = CallerLink::start(socket, &self.call, |anomaly| anomalies.push(anomaly));
            tokio::pin!(start);
            loop {
                tokio::select! {
                    started = &mut start => break started,
                    () = model.settle() => {}
                    command = self.commands.recv() => match command {
                        Command::CallerHungUp => return Err(Absent::HungUp),
                        // The socket shows it, too.
                        Command::StreamLost | Command::NotAnUpgrade => {}
                        Command::Drain => self.must_say_goodbye = true,
                        Command::OperatorEnds => return Err(Absent::OperatorEnded),
                        Command::Transferred | Command::Returned(_) | Command::GivenUp(_) => {}
                    },
                }
            }
        };
        for anomaly in anomalies {
            self.count(anomaly);
        }
        started.map(Box::new).map_err(|(why, socket)| Absent::NotStarted(why, Box::new(socket)))
    }

    /// Returns whether the conversation ended without a failure.
    async fn converse(&mut self, caller: Box<CallerLink>, model: &mut Model) -> bool {
        let (mut clock, mut turns) = (Clock::new(), Turns::default());
        let mut skipped = false;
        let mut talk = Talk {
            call: Call::new(self.plan.clone()),
            phone: Phone::OnTheLine(caller),
            model,
            actions: Vec::new(),
        };
        let span = self.span.clone();
        let (now, _) = clock.wake();
        let mut flow = span.in_scope(|| self.begin(&mut talk, now));
        let over = loop {
            if let ControlFlow::Break(over) = flow {
                break over;
            }
            let inputs = Inputs {
                phone: &mut talk.phone,
                model: talk.model,
                jobs: &mut self.jobs,
                commands: &mut self.commands,
                clock: &mut clock,
                turns: &mut turns,
            };
            let input = inputs.next().await;
            let (now, stood_still) = match talk.heard_at(&input) {
                Some(at) => clock.wake_at(at),
                None => clock.wake(),
            };
            flow = match input {
                // The hot path. A frame of the caller's seldom changes what is due.
                Input::Phone(PhoneStep::Caller(CallerStep::Event(event @ Event::CallerAudio(_))))
                    if stood_still.is_none() =>
                {
                    self.sound.take(&event, &mut talk.phone);
                    talk.call.handle(event, now, &mut talk.actions);
                    let flow = self.perform(&mut talk, now);
                    if talk.call.take_rearm() {
                        let (in_call, outside) = talk.deadlines();
                        clock.arm(in_call, outside);
                    }
                    flow
                }
                input => span.in_scope(|| {
                    if let Some(time) = stood_still {
                        talk.stood_still(time);
                        self.filing.stood_still(now, time);
                        self.count(Anomaly::ServerStoodStill);
                    }
                    let flow = match input {
                        // Not twice in a row: on a host that is always late, nothing would ever be judged.
                        Input::Tick if stood_still.is_some() && !skipped => {
                            skipped = true;
                            ControlFlow::Continue(())
                        }
                        Input::Tick => {
                            skipped = false;
                            clock.ticked();
                            self.sound.goes_on();
                            // The timer is early if a deadline has moved, as the phone's does with each of its frames.
                            match talk.is_due(now) || self.meter.is_due(now) {
                                true => self.judge(&mut talk, now),
                                false => ControlFlow::Continue(()),
                            }
                        }
                        input => self.take_in(input, &mut talk, now),
                    };
                    let (in_call, outside) = talk.deadlines();
                    clock.arm(in_call, outside);
                    flow
                }),
            };
        };
        self.part(over, &mut talk).instrument(span).await
    }

    fn begin(&mut self, talk: &mut Talk<'_>, now: Instant) -> ControlFlow<Over> {
        self.filing.started(now);
        if let Some(recordings) = self.switchboard.recordings.as_ref().filter(|_| self.plan.record.audio) {
            self.sound = Sound::recorded(recordings, &self.filing.id);
        }
        if talk.model.is_ready() {
            let endpoint = talk.model.endpoint();
            talk.call.handle(Event::ModelReady { endpoint }, now, &mut talk.actions);
            self.count_all(talk.model);
        }
        talk.call.handle(Event::StreamStarted, now, &mut talk.actions);
        if self.must_say_goodbye {
            talk.call.handle(Event::Draining, now, &mut talk.actions);
        }
        self.perform(talk, now)
    }

    fn take_in(&mut self, input: Input, talk: &mut Talk<'_>, now: Instant) -> ControlFlow<Over> {
        if let Input::Phone(PhoneStep::Caller(CallerStep::Event(event))) = &input {
            self.sound.take(event, &mut talk.phone);
        }
        let Talk { call, phone, model, actions } = talk;
        match input {
            Input::Phone(PhoneStep::Caller(CallerStep::Event(Event::StreamLost))) => {
                call.handle(Event::StreamLost, now, actions);
                self.drop_line(phone);
            }
            Input::Phone(PhoneStep::Caller(CallerStep::Event(event)))
            | Input::Model(ModelStep::Event(event))
            | Input::Job(event) => {
                if matches!(event, Event::ModelLost(_)) {
                    self.filing.is_now(State::Reconnecting);
                }
                call.handle(event, now, actions);
            }
            Input::Phone(PhoneStep::Caller(CallerStep::Anomaly(anomaly)))
            | Input::Model(ModelStep::Anomaly(anomaly)) => self.count(anomaly),
            Input::Phone(PhoneStep::Back(back)) => match self.back(back) {
                Ok((line, how)) => {
                    self.sound.back();
                    self.filing.is_now(State::Talking);
                    *phone = Phone::OnTheLine(line);
                    call.handle(Event::Returned(how), now, actions);
                }
                Err(refused) => return ControlFlow::Break(Over::NotBack(refused)),
            },
            Input::Tick => {}
            Input::Command(command) => match command {
                Command::CallerHungUp => call.handle(Event::CallerHungUp, now, actions),
                // The stream that should bring the phone back ended before it came.
                Command::StreamLost if matches!(phone, Phone::ComingBack(_)) => {
                    return ControlFlow::Break(Over::Ended(EndReason::CallerLost));
                }
                Command::StreamLost => {
                    call.handle(Event::StreamLost, now, actions);
                    self.drop_line(phone);
                    if !self.awaits_new_stream() {
                        return ControlFlow::Break(Over::Ended(EndReason::CallerLost));
                    }
                }
                Command::NotAnUpgrade => {}
                Command::Drain => call.handle(Event::Draining, now, actions),
                Command::OperatorEnds => call.handle(Event::OperatorEnds, now, actions),
                Command::Transferred => {
                    return ControlFlow::Break(Over::Ended(EndReason::AssistantTransferred));
                }
                // The phone came back to another machine.
                Command::GivenUp(_) => return ControlFlow::Break(Over::GivenUp),
                Command::Returned(way) => {
                    call.handle(Event::Returning, now, actions);
                    *phone = self.expect_back(*way);
                }
            },
        }
        self.count_all(model);
        self.filing.silence(talk.call.tally().silence);
        self.perform(talk, now)
    }

    /// Does what is due.
    fn judge(&mut self, talk: &mut Talk<'_>, now: Instant) -> ControlFlow<Over> {
        let Talk { call, phone, model, actions } = talk;
        if let Some(event) = phone.line().and_then(|line| line.overdue(link::now())) {
            let lost = event == Event::StreamLost;
            call.handle(event, now, actions);
            if lost {
                self.drop_line(phone);
            }
        }
        if phone.is_full() {
            model.each(ModelLink::is_not_read);
        }
        if let Some(lost) = model.overdue() {
            call.handle(Event::ModelLost(lost), now, actions);
        }
        if let Some(event) = model.standby_overdue() {
            call.handle(event, now, actions);
        }
        if self.meter.take_due(now) {
            call.under_way(now).into_iter().for_each(|note| self.filing.note(note));
            if let Some(event) = self.meter.read(self.filing.cost()) {
                call.handle(event, now, actions);
            }
        }
        call.handle_timeout(now, actions);
        self.count_all(model);
        self.perform(talk, now)
    }

    /// The conversation is over: decides what follows, and closes the phone's socket.
    async fn part(&mut self, over: Over, talk: &mut Talk<'_>) -> bool {
        let (reason, refused) = match over {
            Over::Ended(reason) => (reason, None),
            Over::NotBack(refused) => (EndReason::CallerLost, refused),
            Over::GivenUp => {
                self.given_up();
                return false;
            }
        };
        if reason == EndReason::AssistantTransferred {
            tracing::info!("Call transferred");
        }
        // A phone that is away heard no goodbye, and may still come back.
        let unheard = reason == EndReason::ServerDraining && talk.phone.line().is_none();
        let broke = reason.is_failure() || unheard;
        let decision = if broke { Decision::Sorry } else { Decision::HangUp };
        self.finish(reason, decision, talk.call.tally());
        if let Some(line) = talk.phone.take_line() {
            line.close().await;
        }
        if let Some(socket) = refused {
            refuse(socket).await;
        }
        !reason.is_failure()
    }

    /// The phone has a new ticket, for which the session decides from here on.
    fn expect_back(&mut self, way: WayBack) -> Phone {
        let dialed = matches!(*self.decision.borrow(), Some(Decision::Dial { .. }));
        match way.how {
            Return::TransferFailed(why) if dialed => {
                tracing::info!(why = why.code(), "Nobody took the call")
            }
            Return::TransferFailed(why) => tracing::info!(why = why.code(), "Keys not pressed"),
            Return::KeysPressed => tracing::info!("Keys pressed"),
            Return::StreamAgain => tracing::info!("Opening another stream"),
        }
        self.switchboard.registry.ended(&self.nonce);
        self.nonce = way.nonce;
        self.decision = way.decision.clone();
        Phone::coming_back(way, self.call.clone())
    }

    /// The phone is back, or not: a stream that did not start is refused later, once the decision is written.
    fn back(&mut self, back: Back) -> Result<(Box<CallerLink>, Return), Option<Box<Socket>>> {
        let Back { how, anomalies, stream } = back;
        for anomaly in anomalies {
            self.count(anomaly);
        }
        stream.map(|line| (line, how)).map_err(|refused| {
            let why = refused.as_ref().map(|(why, _)| why.code());
            tracing::warn!(why, "The phone did not come back");
            if let Some(why) = why {
                metrics::refused("stream", why);
            }
            refused.map(|(_, socket)| socket)
        })
    }

    /// Twilio asks what follows the stream of a call that lives: another stream, a few times. False: it broke too often.
    fn awaits_new_stream(&mut self) -> bool {
        if self.decision.borrow().is_some() {
            return true; // The phone was sent elsewhere just now.
        }
        self.streams_lost += 1;
        let again = self.streams_lost <= MAX_NEW_STREAMS;
        if again {
            self.decision.send_replace(Some(Decision::StreamAgain));
        }
        tracing::warn!(lost = self.streams_lost, again, "The phone's stream broke");
        again
    }

    /// Writes down where the phone goes, and closes its socket, so that Twilio asks.
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
                        tracing::error!("The plan lacks the target of a transfer");
                        Decision::Sorry
                    }
                }
            }
        };
        tracing::info!(away = decision.code(), "Call parked");
        self.decision.send_replace(Some(decision));
        self.filing.is_now(State::Away);
        self.sound.away();
        if let Some(line) = phone.take_line() {
            // Closing may take a second; the model goes on meanwhile.
            self.switchboard.sessions.spawn(line.close());
        }
    }

    fn drop_line(&mut self, phone: &mut Phone) {
        self.sound.away();
        self.filing.is_now(State::Reconnecting);
        phone.drop_line();
    }

    /// Carries out the actions in order.
    pub(super) fn perform(&mut self, talk: &mut Talk<'_>, now: Instant) -> ControlFlow<Over> {
        let Talk { call, phone, model, actions } = talk;
        let mut ended = None;
        let mut follow = Vec::new();
        for action in actions.drain(..) {
            match action {
                Action::PlayToCaller { piece, chunk } => {
                    self.sound.queued(piece, &chunk);
                    phone.with(|line| line.play(piece, &chunk));
                }
                Action::MarkForCaller(mark) => phone.with(|line| line.mark(mark)),
                Action::ClearCaller => {
                    self.sound.cleared(call.taken_back());
                    phone.with(CallerLink::clear);
                }
                Action::Note(note) => self.note(note),
                // `converse` closes the socket, after the decision is written.
                Action::HangUp => {}
                Action::End(reason) => ended = Some(reason),
                Action::CommitAudio => model.with(ModelLink::commit),
                Action::AppendToModel(chunk) => follow.extend(model.append(&chunk)),
                Action::Configure(turns) => model.configure(turns),
                Action::CancelResponse(response) => model.with(|link| link.cancel(&response)),
                Action::TruncateItem(cut) => model.with(|link| link.truncate(&cut)),
                Action::DeleteItem(item) => model.with(|link| link.delete(&item)),
                Action::AnswerTool { id, output } => model.answer_tool(&id, &output),
                Action::AnswerApproval { id, approve, reason } => {
                    model.with(|link| link.answer_approval(&id, approve, reason));
                }
                Action::RunTool { id, tool, arguments } => {
                    let plan = self.plan.clone();
                    self.filing.is_now(State::Tool);
                    follow.extend(self.jobs.run(id, plan.tools.get(tool), arguments).err());
                }
                Action::StopTool(id, why) => self.jobs.stop(&id, why),
                Action::Park(away) => self.park(&away, phone),
                Action::TellModel(line) => model.tell(&line),
                Action::Say(request) => model.with(|link| link.say(&request)),
                Action::SayOutOfBand(request) => model.with(|link| link.say_out_of_band(&request)),
                Action::AskForResponse => model.with(ModelLink::ask),
                Action::OpenStandby { endpoint } => model.open_standby(endpoint),
                Action::FillStandby(turns) => model.fill_standby(&turns),
                Action::AskStandby(request) => model.ask_standby(request.as_ref()),
                Action::UseStandby => model.use_standby(),
                Action::DropStandby => model.drop_standby(),
            }
        }
        if let Some(reason) = ended {
            return ControlFlow::Break(Over::Ended(reason));
        }
        if follow.is_empty() {
            return ControlFlow::Continue(());
        }
        for event in follow {
            call.handle(event, now, actions);
        }
        self.perform(talk, now)
    }

    fn note(&mut self, note: Note) {
        match &note {
            Note::Anomaly(anomaly) => return self.count(*anomaly),
            Note::FirstWord(time) if !self.plan.test => metrics::first_word(*time),
            Note::Answered(time) if !self.plan.test => metrics::turn(*time),
            Note::Reconnected { cause, worked, .. } => {
                tracing::info!(cause = cause.code(), worked, "Model session replaced");
                metrics::reconnected(*cause, *worked);
            }
            Note::FirstWord(_)
            | Note::Answered(_)
            | Note::CallerSpoke { .. }
            | Note::AssistantSpoke(_)
            | Note::CallerSpeaks { .. }
            | Note::AssistantSpeaks { .. }
            | Note::Said { .. }
            | Note::Pressed(_)
            | Note::ToolEnded { .. }
            | Note::Transferred { .. }
            | Note::Used { .. }
            | Note::Transcribed { .. } => {}
        }
        self.filing.note(note);
    }

    fn count(&mut self, anomaly: Anomaly) {
        *self.anomalies.entry(anomaly).or_default() += 1;
        metrics::anomaly(anomaly);
        self.filing.note(Note::Anomaly(anomaly));
    }

    fn count_all(&mut self, model: &mut Model) {
        while let Some(anomaly) = model.anomalies.pop() {
            self.count(anomaly);
        }
    }

    /// Writes down the decision, then logs the end. The sockets are still open.
    fn finish(&mut self, reason: EndReason, decision: Decision, tally: &Tally) {
        self.place = None;
        self.sound.end();
        self.jobs.stop_all();
        self.decide(decision);
        let lasted = link::now() - self.rang;
        let assistant = &self.plan.assistant;
        let messages = self.jobs.take_messages();
        let (cost, is_settled) = self.filing.ended(reason, lasted, tally, !messages.is_empty());
        self.unsettled = (!is_settled).then_some(messages);
        let (test, anomalies) = (self.plan.test, &self.anomalies);
        CallEnded { call: &self.call, assistant, test, reason, lasted, tally, anomalies, cost }.emit();
    }

    fn decide(&mut self, decision: Decision) {
        self.over = true;
        // A promised transfer happens, even if the model failed meanwhile.
        let promised = matches!(*self.decision.borrow(), Some(Decision::Dial { .. }));
        if !promised || decision == Decision::HangUp {
            self.decision.send_replace(Some(decision));
        }
        self.switchboard.registry.ended(&self.nonce);
    }
}

impl Drop for Session {
    /// A session that ends undecided (by a panic, or with the process) leaves an apology. No session leaves a ticket
    /// without a session.
    fn drop(&mut self) {
        if !self.over {
            self.finish(EndReason::ServerFault, Decision::Sorry, &Tally::default());
        }
        if let Some(messages) = self.unsettled.take() {
            let span = self.span.clone();
            span.in_scope(|| self.filing.settle(messages));
        }
        // A phone may have been sent back just as the session ended.
        self.commands.close();
        while let Some(command) = self.commands.try_recv() {
            if let Command::Returned(way) = command {
                self.switchboard.registry.ended(&way.nonce);
            }
        }
    }
}
