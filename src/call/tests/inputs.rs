//! What far ends have done to calls, in the order of the reports: what the phone heard meanwhile.
#![expect(clippy::disallowed_methods, reason = "the first instant of a test must come from somewhere")]

use std::ops::Range;

use proptest::prelude::*;

use super::silence::{fault, music, mute, quiet, rate_limited, talks};
use super::standby::{gone, ready};
use super::tools::plan_with_tools;
use super::*;

/// The longest silence while something is owed: 2.5 s, and what our ear needs to tell a voice from noise.
const BOUND: u64 = 3_000;

/// A phone that plays what comes, echoes each mark at once, and remembers what was heard.
#[derive(Default)]
pub(super) struct Phone {
    /// In milliseconds from the start of the call.
    heard: Vec<Range<u64>>,
    echoes: Vec<(u64, Mark)>,
}

impl Phone {
    fn plays_until(&self, now: u64) -> u64 {
        self.heard.last().map_or(0, |last| last.end).max(now)
    }

    /// Takes in an action of the call's.
    pub fn take(&mut self, action: &Action, now: u64) {
        match action {
            Action::PlayToCaller { chunk, .. } => {
                let from = self.plays_until(now);
                let until = from + chunk.bytes() / 8;
                // Silence takes its time, too.
                self.heard.push(if chunk.is_audible() { from..until } else { until..until });
            }
            Action::MarkForCaller(mark) => self.echoes.push((self.plays_until(now), *mark)),
            Action::ClearCaller => {
                self.heard.retain_mut(|heard| {
                    heard.end = heard.end.min(now);
                    heard.start < heard.end
                });
                self.echoes.iter_mut().for_each(|(due, _)| *due = (*due).min(now));
            }
            _ => {}
        }
    }

    pub fn next_echo(&self) -> Option<u64> {
        self.echoes.iter().map(|(due, _)| *due).min()
    }

    pub fn take_echo(&mut self, now: u64) -> Option<Mark> {
        let at = self.echoes.iter().position(|(due, _)| *due <= now)?;
        Some(self.echoes.remove(at).1)
    }

    /// For how long nothing has been heard.
    fn silence(&self, now: u64) -> u64 {
        let heard = self.heard.iter().filter(|heard| heard.start < heard.end && heard.start <= now);
        now - heard.map(|heard| heard.end.min(now)).max().unwrap_or(0)
    }

    /// The longest time without a sound in `owed`.
    fn longest_silence(&self, owed: Range<u64>) -> u64 {
        let mut from = owed.start;
        let mut longest = 0;
        for heard in self.heard.iter().filter(|heard| heard.start < heard.end && heard.start < owed.end) {
            longest = longest.max(heard.start.saturating_sub(from));
            from = from.max(heard.end);
        }
        longest.max(owed.end.saturating_sub(from))
    }
}

struct Row {
    what: &'static str,
    plan: Plan,
    script: Vec<When>,
    /// When something is owed.
    owed: Range<u64>,
    /// What must come of it, and what must not.
    does: Option<&'static str>,
    never: &'static str,
}

fn row(what: &'static str, owed: Range<u64>, script: Vec<When>) -> Row {
    Row { what, plan: plan(), script, owed, does: None, never: "End(" }
}

/// A turn that the model takes for the caller's, and never ends.
fn never_ends(script: Vec<When>) -> Vec<When> {
    let mut all = vec![quiet(40, 400), speaks()];
    all.extend(script);
    all
}

fn greets() -> Plan {
    Plan { greeting: greeting("Hello!"), ..plan() }
}

fn broken(how: Outcome) -> Vec<When> {
    vec![says(), started("r1"), audio("a", 1_000), ended("r1", how), At(ms(10_000))]
}

/// The same event again and again, for 15 s.
fn endless(first: Vec<When>, event: impl Fn() -> When) -> Vec<When> {
    let rest = (100..15_000).step_by(100).flat_map(|at| [At(ms(at)), event()]);
    first.into_iter().chain(rest).collect()
}

fn rows() -> Vec<Row> {
    let asks = Some("AskForResponse");
    let words =
        || On(Event::TranscriptGrew { who: Who::Assistant, item: "a".into(), text: "x".to_owned().into() });
    vec![
        Row {
            does: asks,
            ..row(
                "a turn without an end",
                2_400..9_000,
                never_ends(vec![talks(400, 2_400), quiet(2_400, 9_000)]),
            )
        },
        Row { does: asks, ..row("keys in it", 400..9_000, never_ends(vec![press("1#"), quiet(400, 9_000)])) },
        Row {
            does: asks,
            plan: plan_with_tools(),
            ..row(
                "a tool's result in it",
                1_400..9_000,
                vec![
                    quiet(40, 1_000),
                    calls("r1", "c1", "look_up"),
                    speaks(),
                    quiet(1_000, 1_400),
                    finished("c1"),
                    quiet(1_400, 9_000),
                ],
            )
        },
        Row {
            does: asks,
            ..row(
                "a phantom turn during an answer",
                400..9_000,
                vec![
                    quiet(40, 400),
                    answer("r1", "a", 5_000),
                    quiet(400, 1_000),
                    speaks(),
                    quiet(1_000, 9_000),
                ],
            )
        },
        Row {
            plan: Plan { limits: Limits { silence: Duration::from_secs(20), ..plan().limits }, ..plan() },
            does: Some("End(LimitSilence)"),
            never: "heard: false",
            ..row(
                "90 s of music",
                0..0,
                vec![
                    quiet(40, 400),
                    speaks(),
                    music(400, 71_000),
                    answer("r1", "a", 1_000),
                    music(71_000, 95_000),
                    At(ms(110_000)),
                ],
            )
        },
        Row {
            plan: greets(),
            does: Some("Say(Greeting"),
            ..row("an empty greeting", 0..10_000, vec![silent("r1"), At(ms(10_000))])
        },
        Row {
            does: Some("GoOn"),
            ..row("an answer that fails", 30..10_000, broken(Outcome::Failed(Failure::default())))
        },
        Row {
            does: Some("GoOn"),
            ..row("an answer that is cancelled", 30..10_000, broken(Outcome::Cancelled(By::Unknown)))
        },
        row(
            "every response fails for 1.5 s",
            30..3_500,
            vec![
                says(),
                started("r1"),
                ended("r1", Outcome::Failed(rate_limited(1_500))),
                At(ms(1_600)),
                answer("r2", "a", 2_000),
                At(ms(3_500)),
            ],
        ),
        Row {
            does: Some("CommitAudio"),
            ..row(
                "no event comes",
                3_000..9_000,
                vec![quiet(40, 400), talks(400, 3_000), quiet(3_000, 9_000)],
            )
        },
        row("words without sound", 30..15_000, endless(vec![says(), started("r1")], words)),
        row(
            "endless arguments",
            30..15_000,
            endless(vec![says(), started("r1")], || On(Event::ModelWorking)),
        ),
        row("endless silence", 30..15_000, endless(vec![says(), started("r1")], || mute("r1", "a", 20))),
        row(
            "a voice that turns into silence",
            30..6_000,
            vec![says(), started("r1"), audio("a", 100), mute("r1", "a", 2_000), At(ms(6_000))],
        ),
        row(
            "noise when the hold tone begins",
            30..6_000,
            vec![says(), quiet(40, 2_540), At(ms(2_530)), speaks(), quiet(2_540, 6_000)],
        ),
        row(
            "conflict after conflict",
            30..15_000,
            endless(vec![press("1#")], || fault(About::Request, Cause::Conflict)),
        ),
        Row {
            does: Some("UseStandby"),
            never: "ClearCaller",
            ..row(
                "a reset while an answer plays",
                30..7_000,
                vec![
                    says(),
                    answer("r1", "a", 7_000),
                    At(ms(1_000)),
                    gone(),
                    At(ms(1_300)),
                    ready(0),
                    At(ms(9_000)),
                ],
            )
        },
        Row {
            does: Some("OpenStandby"),
            ..row(
                "a half-open socket",
                30..15_000,
                vec![says(), At(ms(8_000)), On(Event::ModelStalled), At(ms(15_000))],
            )
        },
        Row {
            does: Some("OpenStandby"),
            ..row("no sound after the start", 30..15_000, vec![says(), started("r1"), At(ms(15_000))])
        },
        Row {
            plan: plan_with_tools(),
            ..row(
                "a function takes 9 s",
                30..9_000,
                vec![
                    calls("r1", "c1", "look_up"),
                    At(ms(1_600)),
                    answer("r2", "b", 800),
                    On(Event::ToolWorking("c1".into())),
                    At(ms(9_000)),
                    finished("c1"),
                ],
            )
        },
        row("no media for 15 s", 0..0, vec![quiet(40, 1_000), At(ms(16_000)), quiet(16_000, 17_000)]),
        Row {
            does: Some("StreamBroke { unheard: true }"),
            ..row(
                "the phone's stream breaks",
                0..0,
                vec![
                    answer("r1", "a", 4_000),
                    At(ms(1_000)),
                    On(Event::StreamLost),
                    At(ms(5_000)),
                    On(Event::Returning),
                    On(Event::Returned(Return::StreamAgain)),
                ],
            )
        },
    ]
}

#[test]
fn none_of_what_once_broke_calls_leaves_a_caller_in_silence() {
    for Row { what, plan, script, owed, does, never } in rows() {
        let mut run = Run::new(Instant::now(), plan);
        run.phone = Some(Phone::default());
        run.play(All(vec![On(Event::ModelReady { endpoint: 0 }), On(Event::StreamStarted), At(ms(30))]));
        run.play(All(script));
        let silence = run.phone.unwrap_or_default().longest_silence(owed);
        assert!(silence <= BOUND, "{what}: silence for {silence} ms\n{}", run.text);
        assert!(does.is_none_or(|does| run.text.contains(does)), "{what}: not {does:?}\n{}", run.text);
        assert!(!run.text.contains(never), "{what}: {never}\n{}", run.text);
    }
}

/// Whether the assistant owes the caller something to hear.
pub(in crate::call) fn owes(call: &Call, now: Instant) -> bool {
    let said_last = call.ending.is_some() && call.speech.is_made(What::is_goodbye)
        || call.leaving.is_some() && call.speech.is_made(|what| *what == What::Announcement);
    let is_owed = call.speech.owes()
        || call.tools.is_pending()
        || call.leaving.is_some()
        || call.ending.is_some()
        || !call.model_ready;
    is_owed && !said_last && !call.is_away() && !call.caller_speaks(now)
}

/// What a model does that is wrong in every way.
fn nonsense() -> impl Strategy<Value = Event> {
    let id = || (0..4u8).prop_map(|n| response(&format!("r{n}")));
    let item = || (0..4u8).prop_map(|n| ItemId::from(format!("i{n}").as_str()));
    let origin =
        || prop_oneof![Just(Origin::Unknown), Just(Origin::Model), (1..6u64).prop_map(Origin::Request)];
    let failure = || {
        prop_oneof![
            2 => Just(Failure::default()),
            2 => Just(rate_limited(1_500)),
            1 => Just(Failure::from(Cause::Conflict)),
            1 => Just(Failure::from(Cause::Filtered)),
        ]
    };
    let outcome = || {
        prop_oneof![
            3 => Just(Outcome::Completed),
            1 => Just(Outcome::Cancelled(By::Unknown)),
            1 => Just(Outcome::Cancelled(By::Us)),
            1 => Just(CANCELLED),
            1 => Just(Outcome::Incomplete(Why::TooLong)),
            1 => Just(Outcome::Incomplete(Why::Filtered)),
            2 => failure().prop_map(Outcome::Failed),
        ]
    };
    let about = prop_oneof![Just(About::Request), Just(About::Other), Just(About::OutOfBand)];
    let audio = (id(), item(), 1..1_500usize, any::<bool>()).prop_map(|(response, item, ms, is_audible)| {
        let chunk = Chunk::from_ulaw(&vec![if is_audible { 0x20 } else { 0xFF }; ms * 8]);
        Event::ModelAudio { response, item, chunk }
    });
    prop_oneof![
        6 => (id(), origin()).prop_map(|(response, origin)| Event::ResponseStarted { response, origin }),
        6 => (id(), outcome()).prop_map(|(response, outcome)| Event::ResponseEnded { response, outcome }),
        6 => audio,
        2 => Just(Event::ModelWorking),
        2 => (0..2u8, item()).prop_map(|(who, item)| Event::Transcript {
            who: if who == 0 { Who::Caller } else { Who::Assistant },
            item,
            text: "Words.".to_owned().into(),
        }),
        3 => item().prop_map(Event::SpeechStarted),
        3 => Just(Event::SpeechStopped),
        2 => (about, failure()).prop_map(|(about, failure)| Event::ModelFault(Fault::new(about, failure))),
        1 => Just(Event::ModelLost(Loss::Closed.into())),
        3 => Just(Event::StandbyReady { endpoint: 0 }),
        1 => Just(Event::StandbyLost(Loss::Unreachable.into())),
        1 => Just(Event::StandbySpoke),
        1 => outcome().prop_map(Event::StandbyMute),
        1 => id().prop_map(Event::OutOfBandStarted),
        1 => Just(Event::Digit('#')),
        2 => (0..3u8, id()).prop_map(|(n, response)| Event::ToolRequested {
            id: format!("c{n}").as_str().into(),
            name: "look_up".to_owned(),
            arguments: "{}".to_owned().into(),
            response,
        }),
        2 => (0..3u8).prop_map(|n| Event::ToolFinished {
            id: format!("c{n}").as_str().into(),
            outcome: "ok",
            output: "It is here.".to_owned().into(),
        }),
        1 => (0..2u8).prop_map(|n| Event::HostedStarted {
            item: format!("h{n}").as_str().into(),
            response: None,
            tool: None,
        }),
        1 => (0..2u8).prop_map(|n| Event::HostedEnded { item: format!("h{n}").as_str().into(), failed: false }),
    ]
}

proptest! {
    #[test]
    fn no_silence_is_long_whatever_the_model_does(
        greets in any::<bool>(),
        script in proptest::collection::vec((0..25u64, nonsense()), 1..60),
    ) {
        let greeting = if greets { greeting("Hello!") } else { plan().greeting };
        let mut run = Run::new(Instant::now(), Plan { greeting, ..plan_with_tools() });
        run.phone = Some(Phone::default());
        run.play(All(vec![On(Event::ModelReady { endpoint: 0 }), On(Event::StreamStarted)]));
        let (mut owed_from, mut at) = (0, 0);
        let end = [(40, Event::ModelWorking)];
        for (pause, event) in script.into_iter().chain(end) {
            for _ in 0..pause {
                at += 100;
                run.play(All(vec![At(ms(at)), frame()]));
                if run.call.ended {
                    return Ok(());
                }
                if !owes(&run.call, run.now) {
                    owed_from = at;
                }
                let silence = run.phone.as_ref().map_or(0, |phone| phone.silence(at)).min(at - owed_from);
                prop_assert!(silence <= BOUND, "silence for {silence} ms\n{}\n{:?}", run.text, run.call);
            }
            run.play(On(event));
            if !run.call.ended && !owes(&run.call, run.now) {
                owed_from = at;
            }
        }
    }
}
