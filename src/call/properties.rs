//! The invariants of a call, under random events.
#![expect(clippy::disallowed_methods, reason = "the first instant of a test must come from somewhere")]

mod scenes;
mod silence;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;

use super::model::CUT_TIMEOUT;
use super::tests::{CANCELLED, ms, plan, tool_of};
use super::*;
use crate::assistant::plan::{
    AskFirst, Greeting as GreetingPlan, Hosted, Interruptions, Job, Mailbox, Rule, SEND_DIGITS, TAKE_MESSAGE,
    TRANSFER_CALL, Target, Work,
};
use crate::id::{ApprovalId, ItemId, Mark, Piece, ResponseId, ToolCallId};
use crate::phone::PhoneNumber;
use crate::provider::{Cause, Failure};
use crate::secret::Private;
use switchboard_audio::Clip;

/// One step of a random call. The ids are few, so that they collide, repeat and come late.
#[derive(Debug, Clone)]
enum Step {
    Pass(u64),
    Event(Event),
    /// The socket takes this many queued frames.
    Leave(usize),
}

fn event() -> impl Strategy<Value = Event> {
    let response = || (0..4u8).prop_map(|n| ResponseId::from(format!("r{n}").as_str()));
    let item = || (0..5u8).prop_map(|n| ItemId::from(format!("i{n}").as_str()));
    let chunk = || (0..4_000usize).prop_map(|bytes| Chunk::from_ulaw(&vec![0x20; bytes]));
    let outcome = prop_oneof![
        4 => Just(Outcome::Completed),
        3 => Just(CANCELLED),
        1 => Just(Outcome::Incomplete(Why::TooLong)),
        1 => Just(Outcome::Failed(Failure::default())),
    ];
    let name = || {
        let names = [END_CALL, TRANSFER_CALL, SEND_DIGITS, TAKE_MESSAGE, "slow", "shy", "careful", "other"];
        proptest::sample::select(names.to_vec()).prop_map(str::to_owned)
    };
    let arguments = || {
        let written = ["{}", "", "{\"to\":\"desk\",\"digits\":\"1w\"}", "{\"a\":1}", "[]", "{\"a\""];
        proptest::sample::select(written.to_vec()).prop_map(|text| Private::from(text.to_owned()))
    };
    let tool = || (0..6u8).prop_map(|n| ToolCallId::from(format!("c{n}").as_str()));
    let hosted = || (0..4u8).prop_map(|n| ItemId::from(format!("h{n}").as_str()));
    let approval = (0..4u8).prop_map(|n| ApprovalId::from(format!("a{n}").as_str()));
    let label = proptest::sample::select(vec!["crm/find", "crm/erase", "else/x"]).prop_map(str::to_owned);
    let back = proptest::sample::select(vec![
        Return::KeysPressed,
        Return::TransferFailed(TransferFailure::Busy),
        Return::TransferFailed(TransferFailure::NoAnswer),
    ]);
    prop_oneof![
        3 => chunk().prop_map(Event::CallerAudio),
        6 => (0..40u32).prop_map(|n| Event::MarkPlayed(Mark(n))),
        1 => proptest::sample::select("0123456789*#".chars().collect::<Vec<_>>()).prop_map(Event::Digit),
        2 => Just(Event::ModelReady { endpoint: 0 }),
        6 => (response(), scenes::origin())
            .prop_map(|(response, origin)| Event::ResponseStarted { response, origin }),
        9 => (response(), item(), chunk())
            .prop_map(|(response, item, chunk)| Event::ModelAudio { response, item, chunk }),
        6 => (response(), outcome).prop_map(|(response, outcome)| Event::ResponseEnded { response, outcome }),
        4 => Just(Event::SpeechStarted("u".into())),
        4 => Just(Event::SpeechStopped),
        5 => (tool(), name(), arguments(), response()).prop_map(|(id, name, arguments, response)| {
            Event::ToolRequested { id, name, arguments, response }
        }),
        2 => tool().prop_map(|id| Event::ToolFinished { id, outcome: "ok", output: "done".to_owned().into() }),
        1 => tool().prop_map(Event::ToolWorking),
        1 => (hosted(), proptest::option::of(response()))
            .prop_map(|(item, response)| Event::HostedStarted { item, response, tool: Some("crm/find".to_owned()) }),
        1 => hosted().prop_map(|item| Event::HostedEnded { item, failed: false }),
        1 => (approval, label, arguments(), response()).prop_map(|(id, tool, arguments, response)| {
            Event::ApprovalRequested { id, tool, arguments, response }
        }),
        3 => (0..3u8).prop_map(|n| Event::OutOfBandStarted(out_of_band(n))),
        3 => ((0..3u8), chunk()).prop_map(|(n, chunk)| {
            let item = ItemId::from(format!("out_of_band{n}").as_str());
            Event::ModelAudio { response: out_of_band(n), item, chunk }
        }),
        2 => ((0..3u8), Just(Outcome::Completed))
            .prop_map(|(n, outcome)| Event::ResponseEnded { response: out_of_band(n), outcome }),
        1 => Just(Event::StandbyReady { endpoint: 0 }),
        1 => Just(Event::StandbySpoke),
        1 => Just(Event::StandbyLost(Loss::Unreachable.into())),
        1 => Just(Event::StandbyMute(Outcome::Completed)),
        1 => Just(Event::ModelLost(Loss::Closed.into())),
        1 => Just(Event::ModelFault(Fault::new(About::OutOfBand, Failure::default()))),
        2 => back.prop_map(Event::Returned),
        1 => Just(Event::ModelFault(Fault::new(About::Other, Cause::Conflict))),
        1 => Just(Event::ModelFault(Fault::new(About::Request, Cause::Conflict))),
        1 => Just(Event::ModelFault(Fault::new(About::Request, Failure::default()))),
        1 => Just(Event::ModelWorking),
        1 => Just(Event::CallerStalled),
        1 => Just(Event::CostNear),
        1 => Just(Event::StreamStarted),
    ]
}

/// The id of an out-of-band response, once it is announced as one.
fn out_of_band(n: u8) -> ResponseId {
    ResponseId::from(format!("s{n}").as_str())
}

fn ending() -> impl Strategy<Value = Event> {
    proptest::sample::select(vec![
        Event::StreamLost,
        Event::CallerHungUp,
        Event::Draining,
        Event::OperatorEnds,
        Event::CostReached,
        Event::ModelStalled,
        Event::ModelLost(Loss::Closed.into()),
    ])
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        12 => event().prop_map(|event| vec![Step::Event(event)]),
        4 => (0..700u64).prop_map(|time| vec![Step::Pass(time)]),
        2 => (0..20_000u64).prop_map(|time| vec![Step::Pass(time)]),
        6 => (1..6usize).prop_map(|count| vec![Step::Leave(count)]),
        1 => scenes::filler(),
        1 => scenes::transfer(),
        1 => scenes::broken(),
    ];
    (
        proptest::collection::vec(step, 0..150),
        proptest::option::of(ending()),
        proptest::collection::vec(event(), 0..5),
    )
        .prop_map(|(steps, ending, late)| {
            let mut steps = steps.concat();
            steps.extend(ending.map(Step::Event));
            steps.extend(late.into_iter().map(Step::Event));
            steps
        })
}

fn plans() -> impl Strategy<Value = Plan> {
    (any::<bool>(), any::<bool>(), any::<bool>(), interruptions(), any::<bool>(), any::<bool>()).prop_map(
        |(assistant_first, clip, interruptible, interruptions, itself, patient)| {
            let mut plan = plan();
            plan.greeting = GreetingPlan {
                first: if assistant_first { First::Assistant } else { First::Caller },
                say: Some("Hello there.".to_owned()),
                clip: clip.then(|| Arc::new(Clip { ulaw: vec![0xFF; 12_345].into() })),
                interruptible,
            };
            plan.turn_taking.interruptions = interruptions;
            plan.limits.call = Duration::from_secs(if patient { 3_600 } else { 90 });
            if patient {
                plan.limits.silence = Duration::from_secs(600);
            }
            plan.tools = tools();
            plan.hosted = servers();
            let mut provider = plan.provider.as_ref().clone();
            provider.abilities.interrupts_by_itself = itself;
            plan.provider = Arc::new(provider);
            plan
        },
    )
}

fn interruptions() -> impl Strategy<Value = Interruptions> {
    use Interruptions::*;
    proptest::sample::select(vec![Immediate, Confirmed, None])
}

/// A hosted server with one tool that needs consent.
fn servers() -> Vec<Hosted> {
    vec![Hosted {
        label: "crm".to_owned(),
        url: "https://mcp.example.com".to_owned(),
        authorization: None,
        headers: Vec::new(),
        allowed: None,
        ask_first: AskFirst::Of(vec!["erase".to_owned()]),
    }]
}

/// One tool of each kind.
fn tools() -> Vec<crate::assistant::plan::Tool> {
    let job = || Work::Job(Arc::new(Job::SendSms));
    let desk = Target {
        name: "desk".to_owned(),
        number: PhoneNumber::parse("+15550100009").unwrap(),
        ring: Duration::from_secs(20),
    };
    let mailbox = Mailbox { file: Some("messages.jsonl".to_owned()), ..Mailbox::default() };
    vec![
        tool_of(END_CALL, Rule::default(), Work::EndCall),
        tool_of(TRANSFER_CALL, Rule::default(), Work::Transfer(vec![desk])),
        tool_of(SEND_DIGITS, Rule::default(), Work::SendDigits),
        tool_of(TAKE_MESSAGE, Rule::default(), Work::Job(Arc::new(Job::TakeMessage(mailbox)))),
        tool_of("slow", Rule::default(), job()),
        tool_of("shy", Rule { stop_on_interruption: true, ..Rule::default() }, job()),
        tool_of("careful", Rule { ask_first: true, ..Rule::default() }, job()),
    ]
}

/// Plays the steps as a session would, and checks each action as it comes.
#[derive(Default)]
struct World {
    outbox: Vec<(Piece, Option<ItemId>, u64)>,
    marks: Vec<Mark>,
    owner: BTreeMap<Piece, (ItemId, ResponseId)>,
    sent: BTreeMap<ItemId, u64>,
    dead: BTreeSet<ResponseId>,
    /// Responses that ran when the caller began to speak: they may be discarded.
    talked_over: BTreeSet<ResponseId>,
    /// Out-of-band responses.
    out_of_band: BTreeSet<ResponseId>,
    /// Items that only out-of-band responses had.
    out_of_band_items: BTreeSet<ItemId>,
    /// Responses of the conversation.
    in_band: BTreeSet<ResponseId>,
    in_band_items: BTreeSet<ItemId>,
    /// Responses that may be either.
    unclear: BTreeSet<ResponseId>,
    active: Option<ResponseId>,
    last_from_model: Option<Instant>,
    requested: BTreeSet<(ResponseId, ToolCallId)>,
    unanswered: BTreeSet<ToolCallId>,
    running: BTreeSet<ToolCallId>,
    /// Approvals that are not answered yet.
    approvals: BTreeSet<ApprovalId>,
    known_approvals: BTreeSet<ApprovalId>,
    /// A response that we asked for has not started.
    asked: u8,
    /// How often the events justify asking the model to go on, and how often it was asked.
    reasons: usize,
    asks: usize,
    parked: bool,
    over: bool,
    /// Playback may be suspended and go on.
    confirms: bool,
    log: Vec<String>,
}

impl World {
    fn check(&mut self, actions: &[Action], now: Instant, current: Option<&(ItemId, ResponseId)>) {
        self.forget(now);
        for action in actions {
            assert!(!self.over, "{action:?} follows the end");
            self.log.push(format!("{action:?}"));
            if self.parked {
                assert!(!reaches_the_phone(action), "{action:?} while the call is parked");
            }
            if asks_to_go_on(action) {
                self.asks += 1;
                // What does not come is asked for twice.
                assert!(self.asks <= 2 * self.reasons, "asked {} times without a reason", self.asks);
            }
            match action {
                Action::PlayToCaller { piece, chunk } => {
                    if let Some((item, response)) = current {
                        assert!(!self.dead.contains(response), "audio of a discarded response is played");
                        self.owner.insert(*piece, (item.clone(), response.clone()));
                    }
                    self.outbox.push((*piece, current.map(|(item, _)| item.clone()), chunk.bytes()));
                }
                Action::ClearCaller => {
                    self.outbox.clear();
                    self.marks.clear();
                    // Speech that comes clears the hold tone.
                    let sounds = actions.iter().any(|it| matches!(it, Action::PlayToCaller { .. }));
                    if current.is_none() && !sounds && !self.confirms {
                        self.dead.extend(self.active.clone());
                        self.dead.extend(self.out_of_band.iter().cloned());
                    }
                }
                Action::CancelResponse(response) => {
                    self.dead.insert(response.clone());
                    self.forget(now);
                }
                Action::TruncateItem(cut) => {
                    assert!(
                        !self.out_of_band_items.contains(&cut.item),
                        "{cut:?} is not an item of the conversation"
                    );
                    let sent = self.sent.get(&cut.item).copied().unwrap_or_default();
                    assert!(
                        self.confirms || cut.audio_end_ms * 8 <= sent,
                        "{cut:?}, but {sent} bytes were sent"
                    );
                }
                Action::AnswerTool { id, output } => {
                    // A silent announcement is requested once more.
                    self.reasons += 1 + usize::from(output.expose().contains("you connect the caller"));
                    assert!(self.unanswered.remove(id), "no request, or answered twice");
                }
                Action::AnswerApproval { id, .. } => {
                    self.reasons += 1;
                    assert!(self.approvals.remove(id), "no request, or answered twice");
                }
                Action::RunTool { id, .. } => {
                    assert!(self.unanswered.contains(id));
                    assert!(self.running.insert(id.clone()), "{id} runs twice");
                }
                Action::StopTool(id, _) => assert!(self.running.remove(id), "{id} does not run"),
                Action::AskForResponse | Action::Say(_) => {
                    assert!(self.active.is_none(), "asked while {:?} runs", self.active);
                    assert!(self.asked < 2, "asked three times");
                    self.asked += 1;
                }
                Action::SayOutOfBand(_) => assert!(self.asked == 0, "another response is due"),
                Action::UseStandby => {
                    self.reasons += 1; // What was said meanwhile is answered.
                    (self.active, self.asked) = (None, 0);
                    (self.dead, self.talked_over, self.unclear) = Default::default();
                    (self.out_of_band, self.out_of_band_items) = Default::default();
                    (self.in_band, self.in_band_items) = Default::default();
                }
                // A transcript shows that a turn which was over was no noise.
                Action::CommitAudio => self.reasons += 1,
                Action::Park(_) => self.parked = true,
                Action::End(_) => self.over = true,
                Action::MarkForCaller(mark) => self.marks.push(*mark),
                Action::HangUp
                | Action::Configure(_)
                | Action::DeleteItem(_)
                | Action::AppendToModel(_)
                | Action::TellModel(_)
                | Action::OpenStandby { .. }
                | Action::FillStandby(_)
                | Action::AskStandby(_)
                | Action::DropStandby
                | Action::Note(_) => {}
            }
        }
    }

    /// Every request is answered or still open.
    fn compare(&self, call: &Call) {
        if self.over {
            return;
        }
        let running = call.tools.running().cloned();
        let leaving = call.leaving.as_ref().and_then(|leaving| leaving.tool().cloned());
        let parked = call.parked.as_ref().and_then(|parked| parked.tool.clone());
        let ending = call.ending.as_ref().and_then(|ending| ending.tool.clone());
        let open: BTreeSet<_> = running.chain(leaving).chain(parked).chain(ending).collect();
        assert_eq!(open, self.unanswered, "unanswered requests are open");
        assert!(self.approvals.is_empty(), "an approval is answered at once");
    }

    /// The call stops waiting for a discarded response after a while. Any other response has to end, or the call does.
    fn forget(&mut self, now: Instant) {
        let silent = self.last_from_model.is_some_and(|last| now - last >= CUT_TIMEOUT);
        self.active
            .take_if(|active| silent && (self.dead.contains(active) || self.talked_over.contains(active)));
    }

    /// Updates what the world knows when `event` happens.
    fn before(&mut self, event: &Event, now: Instant) {
        self.forget(now);
        self.reasons += reasons(event);
        match event {
            Event::OutOfBandStarted(response) if !self.in_band.contains(response) => {
                self.out_of_band.insert(response.clone());
            }
            // Part of it came before: the call decides which kind it is.
            Event::OutOfBandStarted(response) => {
                self.unclear.insert(response.clone());
            }
            Event::ModelAudio { response, item, .. } if self.out_of_band.contains(response) => {
                if !self.in_band_items.contains(item) {
                    self.out_of_band_items.insert(item.clone());
                }
                return;
            }
            Event::ResponseEnded { response, .. } if self.out_of_band.contains(response) => return,
            Event::ModelAudio { response, item, .. } => {
                self.in_band.insert(response.clone());
                self.in_band_items.insert(item.clone());
            }
            Event::ResponseEnded { response, .. } => {
                self.in_band.insert(response.clone());
            }
            _ => {}
        }
        let is_in_band = match event {
            Event::ModelAudio { response, .. } | Event::ResponseEnded { response, .. } => {
                !self.unclear.contains(response)
            }
            Event::ResponseStarted { .. }
            | Event::SpeechStarted(_)
            | Event::SpeechStopped
            | Event::ToolRequested { .. }
            | Event::HostedStarted { .. }
            | Event::HostedEnded { .. }
            | Event::ApprovalRequested { .. }
            | Event::ModelWorking => true,
            _ => false,
        };
        if is_in_band {
            self.last_from_model = Some(now);
        }
        match event {
            Event::ResponseStarted { response, .. } => {
                // If this event is late, the response began with the first event about it.
                let is_late = self.in_band.contains(response)
                    || self.requested.iter().any(|(from, _)| from == response);
                if is_late {
                    self.talked_over.insert(response.clone());
                }
                self.active = Some(response.clone());
                self.asked = 0;
            }
            Event::ModelFault(Fault { about: About::OutOfBand, .. }) => {}
            // A response may start without a start event.
            Event::ModelAudio { .. } | Event::ModelFault(_) | Event::SpeechStopped => self.asked = 0,
            Event::ResponseEnded { response, .. } => {
                self.asked = 0;
                self.active.take_if(|active| active == response);
            }
            Event::ToolRequested { id, response, .. } => {
                // If it is open already, it is a repetition.
                if !self.unanswered.contains(id) && self.requested.insert((response.clone(), id.clone())) {
                    self.unanswered.insert(id.clone());
                }
                self.asked = 0;
            }
            Event::ApprovalRequested { id, .. } if self.known_approvals.insert(id.clone()) => {
                self.approvals.insert(id.clone());
            }
            Event::ToolFinished { id, .. } => {
                self.running.remove(id);
            }
            Event::SpeechStarted(_) => {
                // Their turn takes the place of what was asked for.
                self.asked = 0;
                self.talked_over.extend(self.active.clone());
            }
            Event::Returned(_) => self.parked = false,
            _ => {}
        }
    }
}

/// Whether it asks for more than dictated words.
fn asks_to_go_on(action: &Action) -> bool {
    matches!(action, Action::AskForResponse | Action::Say(Request::StatusUpdate | Request::ToolTimedOut))
}

/// How often this event justifies asking the model to go on. Answered tool calls count when they are answered.
fn reasons(event: &Event) -> usize {
    match event {
        // We may ask, and ask again if no answer comes.
        Event::SpeechStopped => 2,
        Event::Digit(_) | Event::Returned(_) | Event::ModelFault(_) | Event::HostedStarted { .. } => 1,
        // It may have said nothing, or not all.
        Event::ResponseEnded { .. } => 1,
        _ => 0,
    }
}

/// Whether it needs a connected phone, or makes the model speak.
fn reaches_the_phone(action: &Action) -> bool {
    matches!(
        action,
        Action::PlayToCaller { .. }
            | Action::MarkForCaller(_)
            | Action::ClearCaller
            | Action::HangUp
            | Action::AppendToModel(_)
            | Action::Say(_)
            | Action::SayOutOfBand(_)
            | Action::AskForResponse
    )
}

fn simulate(plan: Plan, steps: &[Step]) -> (World, Call) {
    let start = Instant::now();
    let mut now = start;
    let confirms = plan.turn_taking.interruptions == Interruptions::Confirmed;
    let mut call = Call::new(Arc::new(plan));
    let mut world = World { confirms, ..World::default() };
    let mut out = Vec::new();
    for step in steps {
        match step {
            Step::Pass(time) => {
                let until = now + ms(*time);
                while let Some((due, _)) = call.deadline().filter(|(due, _)| *due <= until) {
                    now = now.max(due);
                    call.handle_timeout(now, &mut out);
                    world.check(&std::mem::take(&mut out), now, None);
                    world.compare(&call);
                    let still = call.deadline().is_some_and(|(next, _)| next <= due);
                    assert!(
                        !still || call.deadline().is_none(),
                        "this deadline never passes: {:?}",
                        call.deadline()
                    );
                }
                now = until;
            }
            // A session that is gone says nothing.
            Step::Event(event) if call.was_ready && !call.model_ready && event.comes_from_the_model() => {}
            Step::Event(event) => {
                world.before(event, now);
                let current = match event {
                    Event::ModelAudio { response, item, .. } => Some((item.clone(), response.clone())),
                    _ => None,
                };
                call.handle(event.clone(), now, &mut out);
                world.check(&std::mem::take(&mut out), now, current.as_ref());
                world.compare(&call);
            }
            Step::Leave(count) => {
                for _ in 0..*count {
                    if world.outbox.is_empty() || world.over {
                        break;
                    }
                    let (piece, item, bytes) = world.outbox.remove(0);
                    if let Some(item) = item {
                        *world.sent.entry(item).or_default() += bytes;
                    }
                    call.handle(Event::AudioLeft(piece), now, &mut out);
                    world.check(&std::mem::take(&mut out), now, None);
                }
            }
        }
    }
    silence::check(&mut call, &mut world, &mut now);
    // The phone sends nothing more, so every call ends.
    for _ in 0..200 {
        let Some((due, _)) = call.deadline() else { break };
        now = now.max(due);
        call.handle_timeout(now, &mut out);
        world.check(&std::mem::take(&mut out), now, None);
    }
    (world, call)
}

proptest! {
    /// Nothing follows the end. Truncations stay within what was sent. Discarded audio is not played. Each request gets
    /// one answer. No response is requested while one runs.
    #[test]
    fn the_invariants_hold_for_random_events(plan in plans(), steps in steps()) {
        let (world, call) = simulate(plan, &steps);
        if call.started.is_some() {
            prop_assert!(world.over, "a started call ends");
        }
    }

    /// Equal events at equal times give equal actions.
    #[test]
    fn the_same_events_give_the_same_actions(plan in plans(), steps in steps()) {
        // Notes hold instants, which differ between the runs.
        let actions = |world: World| -> Vec<String> {
            world.log.into_iter().filter(|line| !line.contains("Instant")).collect()
        };
        prop_assert_eq!(actions(simulate(plan.clone(), &steps).0), actions(simulate(plan, &steps).0));
    }
}

/// A long call with an unhelpful phone and model does not grow.
#[test]
fn memory_is_bounded() {
    let start = Instant::now();
    let mut plan = plan();
    (plan.tools, plan.hosted) = (tools(), servers());
    let mut call = Call::new(Arc::new(plan));
    let mut out = Vec::new();
    call.handle(Event::StreamStarted, start, &mut out);
    call.handle(Event::ModelReady { endpoint: 0 }, start, &mut out);
    for n in 0..5_000u32 {
        let now = start + ms(u64::from(n) * 20);
        let id = ResponseId::from(format!("r{n}").as_str());
        let item = ItemId::from(format!("i{n}").as_str());
        let chunk = Chunk::from_ulaw(&[0x20; 1_700]);
        for event in [
            Event::Digit('1'),
            Event::ResponseStarted { response: id.clone(), origin: Origin::Unknown },
            Event::OutOfBandStarted(format!("s{n}").as_str().into()),
            Event::ModelAudio { response: id.clone(), item, chunk: chunk.clone() },
            Event::CallerAudio(chunk),
            Event::ToolRequested {
                id: format!("c{n}").as_str().into(),
                name: "x".into(),
                arguments: "{}".to_owned().into(),
                response: id.clone(),
            },
            Event::ToolRequested {
                id: format!("d{n}").as_str().into(),
                name: if n % 2 == 0 { "slow" } else { "careful" }.into(),
                arguments: format!("{{\"n\":{n}}}").into(),
                response: id.clone(),
            },
            Event::HostedStarted {
                item: format!("h{n}").as_str().into(),
                response: Some(id.clone()),
                tool: None,
            },
            Event::ApprovalRequested {
                id: format!("a{n}").as_str().into(),
                tool: "crm/find".into(),
                arguments: "{}".to_owned().into(),
                response: id.clone(),
            },
        ] {
            call.handle(event, now, &mut out);
        }
        if n % 3 == 0 {
            call.handle(Event::SpeechStarted("u".into()), now, &mut out);
        } else {
            call.handle(Event::ResponseEnded { response: id, outcome: Outcome::Completed }, now, &mut out);
        }
        while !out.is_empty() {
            for action in std::mem::take(&mut out) {
                if let Action::PlayToCaller { piece, .. } = action {
                    call.handle(Event::AudioLeft(piece), now, &mut out);
                }
            }
        }
    }
    assert!(!call.ended, "the call goes on");
    let size = format!("{call:?}").len();
    assert!(size < 200_000, "the call prints as {size} characters");
}
