//! Scripts: what happens in a call and when, against the actions that follow.
#![expect(clippy::disallowed_methods, reason = "the first instant of a test must come from somewhere")]

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::assistant::arguments::Arguments;
use crate::assistant::plan::{
    AfterCall, Detection, Dtmf, Greeting as GreetingPlan, Interruptions, Keys, Limits, Line as SpokenLine,
    OnFailure, RecordPolicy, Rule, Tool, TurnTaking, Version, Work,
};
use crate::id::{ItemId, Mark, Piece, ResponseId};
use crate::provider::usage::{Tokens, Transcribed};
use crate::provider::{Cause, Failure, Provider};
use When::*;
use switchboard_audio::Clip;

mod barge_in;
mod consent;
mod doubt;
mod goodbye;
mod greeting;
pub(super) mod inputs;
mod lost;
mod notes;
mod out_of_band;
mod retries;
mod silence;
mod standby;
mod tools;
mod transfer;

/// The model's host heard the caller, and stopped.
pub(super) const CANCELLED: Outcome = Outcome::Cancelled(By::Caller);

/// A line of a script.
pub(super) enum When {
    /// Time passes until this long after the beginning. What is due before then happens first.
    At(Duration),
    On(Event),
    /// The phone's socket takes no audio until `Freed`.
    Stuck,
    Freed,
    All(Vec<When>),
}

pub(super) fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

pub(crate) fn plan() -> Plan {
    Plan {
        assistant: "clinic".to_owned(),
        version: Version::of(b""),
        test: false,
        language: None,
        languages: Vec::new(),
        vocabulary: Vec::new(),
        reader: Default::default(),
        provider: Arc::new(Provider::openai("wss://api.example.com/v1/realtime", None)),
        model: "gpt-realtime-2.1".to_owned(),
        voice: "marin".to_owned(),
        speed: None,
        temperature: None,
        reasoning: None,
        instructions: "You answer the phone.".to_owned(),
        greeting: GreetingPlan { first: First::Caller, say: None, clip: None, interruptible: true },
        turn_taking: TurnTaking {
            detection: Detection::Server { threshold: 0.5, silence: ms(500), prefix: ms(300) },
            interruptions: Interruptions::Immediate,
            keys: Keys::Wait,
            noise_reduction: None,
        },
        dtmf: Default::default(),
        transcription: None,
        tools: vec![tool_of(END_CALL, Rule::default(), Work::EndCall)],
        hosted: Vec::new(),
        limits: Limits {
            call: Duration::from_secs(1_800),
            silence: Duration::from_secs(60),
            // The scripts' ordinary tools are text messages.
            sms: 1_000,
            messages: 5,
            transfers: 3,
            cost: None,
        },
        busy: SpokenLine { say: "All lines are busy.".to_owned(), language: "en-US" },
        busy_dial: None,
        on_failure: OnFailure {
            line: SpokenLine { say: "Sorry.".to_owned(), language: "en-US" },
            dial: None,
        },
        sounds: Arc::default(),
        hold: Default::default(),
        record: RecordPolicy::default(),
        recording_notice: None,
        notify: None,
        after_call: None,
        fallback: Vec::new(),
    }
}

/// A tool that the model may call.
pub(super) fn tool_of(name: &str, rule: Rule, work: Work) -> Tool {
    let (name, parameters) = (name.to_owned(), Default::default());
    Tool { name, description: String::new(), parameters, arguments: None, rule, work }
}

fn greeting(say: &str) -> GreetingPlan {
    GreetingPlan { first: First::Assistant, say: Some(say.to_owned()), clip: None, interruptible: true }
}

fn response(id: &str) -> ResponseId {
    ResponseId::from(id)
}

/// A response begins, and the provider says who asked for it.
fn begun(id: &str, origin: Origin) -> When {
    On(Event::ResponseStarted { response: response(id), origin })
}

fn started(id: &str) -> When {
    begun(id, Origin::Unknown)
}

fn ended(id: &str, outcome: Outcome) -> When {
    On(Event::ResponseEnded { response: response(id), outcome })
}

fn done(id: &str) -> When {
    ended(id, Outcome::Completed)
}

/// Audio of this length for `item`, in response `r1`.
fn audio(item: &str, ms: usize) -> When {
    audio_in("r1", item, ms)
}

fn audio_in(id: &str, item: &str, ms: usize) -> When {
    On(Event::ModelAudio {
        response: response(id),
        item: ItemId::from(item),
        chunk: Chunk::from_ulaw(&vec![0x20; ms * 8]),
    })
}

/// A whole response that speaks.
fn answer(id: &str, item: &str, ms: usize) -> When {
    All(vec![started(id), audio_in(id, item, ms), done(id)])
}

/// A response that fails before its first word.
fn fails(id: &str) -> When {
    All(vec![started(id), ended(id, Outcome::Failed(Failure::default()))])
}

/// A whole response that says goodbye and ends the call.
fn ends_call(ms: usize) -> When {
    All(vec![started("r1"), audio("a", ms), tool("c1", END_CALL), done("r1")])
}

/// A whole response that says nothing.
fn silent(id: &str) -> When {
    All(vec![started(id), done(id)])
}

fn echo(mark: u32) -> When {
    On(Event::MarkPlayed(Mark(mark)))
}

fn echo_at(at: u64, mark: u32) -> When {
    All(vec![At(ms(at)), echo(mark)])
}

fn speaks() -> When {
    On(Event::SpeechStarted(ItemId::from("u")))
}

fn stops() -> When {
    On(Event::SpeechStopped)
}

/// The caller says something short.
fn says() -> When {
    All(vec![speaks(), stops()])
}

fn press(keys: &str) -> When {
    All(keys.chars().map(|key| On(Event::Digit(key))).collect())
}

/// 20 ms of the caller's audio.
fn frame() -> When {
    On(Event::CallerAudio(Chunk::from_ulaw(&[0xFF; 160])))
}

/// The phone sends a frame every four seconds, which is enough to keep it connected.
fn wait(from: u64, until: u64) -> When {
    All((from..=until).step_by(4).flat_map(|second| [At(Duration::from_secs(second)), frame()]).collect())
}

/// A whole response that only calls a tool.
fn calls(in_response: &str, id: &str, name: &str) -> When {
    All(vec![started(in_response), tool_in(in_response, id, name, "{}"), done(in_response)])
}

/// A tool call in response `r1`.
fn tool(id: &str, name: &str) -> When {
    tool_in("r1", id, name, "{}")
}

fn tool_in(in_response: &str, id: &str, name: &str, arguments: &str) -> When {
    let (name, arguments) = (name.to_owned(), arguments.to_owned().into());
    On(Event::ToolRequested { id: id.into(), name, arguments, response: response(in_response) })
}

fn finished(id: &str) -> When {
    On(Event::ToolFinished { id: id.into(), outcome: "ok", output: "It is here.".to_owned().into() })
}

/// A hosted tool starts in response `r1`.
fn hosted(item: &str) -> When {
    On(Event::HostedStarted { item: item.into(), response: Some(response("r1")), tool: None })
}

fn hosted_ended(item: &str) -> When {
    On(Event::HostedEnded { item: item.into(), failed: false })
}

fn count(text: &str, what: &str) -> usize {
    text.matches(what).count()
}

/// Plays a script that begins at 30 ms, with the model ready and a round trip of 30 ms.
fn play(script: Vec<When>) -> String {
    play_with(plan(), script)
}

fn play_with(plan: Plan, script: Vec<When>) -> String {
    let connected = [On(Event::ModelReady { endpoint: 0 }), On(Event::StreamStarted), At(ms(30)), echo(0)];
    run(plan, connected.into_iter().chain(script).collect())
}

/// Runs a whole script and prints the actions. Audio leaves as soon as it is queued, unless the socket is stuck. Notes
/// about speech are left out.
fn run(plan: Plan, script: Vec<When>) -> String {
    run_from(Instant::now(), plan, script)
}

/// The same from a certain instant.
fn run_from(start: Instant, plan: Plan, script: Vec<When>) -> String {
    let mut run = Run::new(start, plan);
    run.play(All(script));
    run.text
}

struct Run {
    call: Call,
    start: Instant,
    now: Instant,
    /// The pieces that a stuck socket holds.
    stuck: Option<Vec<Piece>>,
    out: Vec<Action>,
    text: String,
    /// All but the anomalies.
    notes: Vec<Note>,
    /// Hears what is played, and echoes it.
    phone: Option<inputs::Phone>,
}

impl Run {
    fn new(start: Instant, plan: Plan) -> Self {
        Self {
            call: Call::new(Arc::new(plan)),
            start,
            now: start,
            stuck: None,
            out: Vec::new(),
            text: String::new(),
            notes: Vec::new(),
            phone: None,
        }
    }

    fn play(&mut self, line: When) {
        match line {
            At(at) => {
                let until = self.start + at;
                while let Some(due) = self.next().filter(|due| *due <= until) {
                    self.now = self.now.max(due);
                    let at = self.at();
                    match self.phone.as_mut().and_then(|phone| phone.take_echo(at)) {
                        Some(mark) => self.call.handle(Event::MarkPlayed(mark), self.now, &mut self.out),
                        None => self.call.handle_timeout(self.now, &mut self.out),
                    }
                    self.perform();
                }
                self.now = until;
            }
            On(event) => self.call.handle(event, self.now, &mut self.out),
            Stuck => self.stuck = Some(Vec::new()),
            Freed => {
                for piece in self.stuck.take().unwrap_or_default() {
                    self.call.handle(Event::AudioLeft(piece), self.now, &mut self.out);
                }
            }
            All(lines) => lines.into_iter().for_each(|line| self.play(line)),
        }
        self.perform();
    }

    /// When the phone echoes or something is due.
    fn next(&self) -> Option<Instant> {
        let echo = self.phone.as_ref().and_then(|phone| phone.next_echo());
        let echo = echo.map(|at| self.start + ms(at));
        self.call.deadline().map(|(due, _)| due).into_iter().chain(echo).min()
    }

    /// How many milliseconds of the script have passed.
    fn at(&self) -> u64 {
        (self.now - self.start).as_millis() as u64
    }

    fn perform(&mut self) {
        while !self.out.is_empty() {
            for action in std::mem::take(&mut self.out) {
                let at = self.at();
                self.phone.iter_mut().for_each(|phone| phone.take(&action, at));
                let line = match &action {
                    Action::PlayToCaller { piece, chunk } => {
                        match &mut self.stuck {
                            Some(pieces) => pieces.push(*piece),
                            None => self.call.handle(Event::AudioLeft(*piece), self.now, &mut self.out),
                        }
                        format!("PlayToCaller({chunk:?})")
                    }
                    Action::Note(Note::Anomaly(anomaly)) => format!("Note({})", anomaly.code()),
                    Action::Note(note) => {
                        self.notes.push(note.clone());
                        continue;
                    }
                    Action::TruncateItem(cut) => format!("Truncate({} {}ms)", cut.item, cut.audio_end_ms),
                    // Elsewhere it prints as its length only.
                    Action::AnswerTool { id, output } => {
                        format!("AnswerTool {{ id: {id:?}, output: {:?} }}", output.expose())
                    }
                    other => format!("{other:?}"),
                };
                writeln!(self.text, "{at:>7}ms {line}").unwrap();
            }
        }
    }
}

#[test]
fn keys_are_sent_after_a_hash_or_a_pause() {
    insta::assert_snapshot!(play(vec![
        press("1"),
        At(ms(1_000)),
        press("2"),
        At(ms(2_000)),
        press("#"),
        answer("r1", "a", 100),
        echo_at(2_200, 1),
        press("*"),
        At(ms(4_000)),
    ]));
}

#[test]
fn a_failed_response_is_retried_once() {
    insta::assert_snapshot!(play(vec![says(), fails("r1"), fails("r2"),]));
}

#[test]
fn no_credit_ends_the_call_at_once() {
    insta::assert_snapshot!(play(vec![started("r1"), ended("r1", Outcome::Failed(Cause::Credit.into()))]));
}

#[test]
fn a_refused_request_is_repeated_after_the_other_response() {
    insta::assert_snapshot!(play(vec![
        press("1#"),
        On(Event::ModelFault(Fault::new(About::Other, Cause::Conflict))),
        silent("r1"),
    ]));
}

#[test]
fn a_model_that_does_not_answer_is_asked_again_then_abandoned() {
    insta::assert_snapshot!(play(vec![says(), At(ms(9_000))]));
}

#[test]
fn a_response_that_goes_silent_ends_the_call() {
    insta::assert_snapshot!(play(vec![started("r1"), audio("a", 1_000), echo_at(1_060, 1), At(ms(9_000))]));
}

#[test]
fn a_model_that_fills_in_a_form_knows_what_was_heard() {
    for has_form in [true, false] {
        let mut plan = plan();
        let form = Arguments::new(serde_json::Map::new()).unwrap();
        plan.after_call = has_form.then_some(AfterCall { form, summary: false, webhook: None });
        let talk = vec![started("r1"), audio("a", 1_000), At(ms(530)), On(Event::CallerHungUp)];
        let text = play_with(plan, talk);
        assert_eq!(text.contains("Truncate(a 500ms)"), has_form, "{text}");
        assert!(text.ends_with("End(CallerHungUp)\n"), "{text}");
    }
}

#[test]
fn a_lost_stream_is_a_hang_up_only_if_twilio_reports_one() {
    insta::assert_snapshot!(play(vec![
        At(ms(100)),
        On(Event::StreamLost),
        At(ms(600)),
        On(Event::CallerHungUp),
    ]));
    insta::assert_snapshot!(play(vec![
        At(ms(100)),
        On(Event::StreamLost),
        At(ms(12_000)),
        On(Event::CallerHungUp),
    ]));
}

#[test]
fn a_phone_that_sends_nothing_is_lost() {
    let mut patient = plan();
    patient.limits.silence = Duration::from_secs(600);
    insta::assert_snapshot!(play_with(patient, vec![At(ms(70_000))]));
}

#[test]
fn a_lost_model_ends_the_call_but_not_a_complete_goodbye() {
    insta::assert_snapshot!(play(vec![On(Event::ModelLost(Loss::Closed.into()))]));
    insta::assert_snapshot!(play(vec![
        says(),
        ends_call(1_000),
        On(Event::ModelLost(Loss::Closed.into())),
        echo_at(1_060, 1),
    ]));
}

#[test]
fn early_audio_is_bounded() {
    let early = |_| On(Event::CallerAudio(Chunk::from_ulaw(&[0x20; 8_000])));
    let text = run(
        plan(),
        std::iter::once(On(Event::StreamStarted))
            .chain((0..12).map(early))
            .chain([On(Event::ModelReady { endpoint: 0 })])
            .collect(),
    );
    assert_eq!(count(&text, "Note(caller.audio_dropped)"), 2);
    assert_eq!(count(&text, "AppendToModel(1000ms)"), 10);
}

#[test]
fn a_long_delta_is_split_for_the_phone() {
    let text = play(vec![started("r1"), audio("a", 2_500)]);
    assert_eq!(count(&text, "PlayToCaller"), 3);
    assert_eq!(count(&text, "MarkForCaller"), 2, "one at the start, one after the delta\n{text}");
}

#[test]
fn a_response_without_a_start_event_still_counts() {
    let text = play(vec![
        press("1#"), // asks for a response
        audio("a", 400),
        At(ms(230)),
        speaks(),
        audio("a", 400), // late: must not be heard
        ended("r1", CANCELLED),
        audio("a", 400), // later still
        stops(),
        audio_in("r2", "b", 1_000),
        done("r2"),
        echo_at(1_300, 3),
        At(ms(9_000)),
    ]);
    insta::assert_snapshot!(text);
    assert!(!text.contains("End("), "the call goes on");
}

#[test]
fn a_turn_that_overlaps_the_start_of_an_answer_is_answered_next() {
    let mut plan = plan();
    plan.greeting = greeting("Hello!");
    insta::assert_snapshot!(play_with(
        plan,
        vec![
            speaks(), // "Hello?", before the greeting began
            started("r1"),
            audio("a", 1_000),
            At(ms(400)),
            stops(), // the model cannot answer by itself: it is speaking
            done("r1"),
        ]
    ));
}

#[test]
fn a_refused_request_is_repeated_even_if_the_other_response_looked_like_ours() {
    let text = play(vec![
        press("1#"),
        started("r1"),
        On(Event::ModelFault(Fault::new(About::Request, Cause::Conflict))),
        done("r1"),
    ]);
    assert_eq!(count(&text, "AskForResponse"), 2, "{text}");
}

#[test]
fn a_refusal_of_another_request_is_not_retried() {
    let mut plan = plan();
    plan.greeting = greeting("Hello!");
    let text = play_with(
        plan,
        vec![
            started("r1"),
            audio("a", 1_000),
            On(Event::ModelFault(Fault::new(About::Other, Cause::Conflict))),
            done("r1"),
            echo_at(1_060, 1),
        ],
    );
    assert_eq!(count(&text, "Say("), 1, "the greeting is said once:\n{text}");
}

#[test]
fn a_thinking_model_gets_more_time() {
    let text = play(vec![
        says(),
        started("r1"),
        At(ms(6_000)),
        On(Event::ModelWorking),
        At(ms(15_000)),
        audio("a", 400),
    ]);
    assert!(text.contains("PlayToCaller") && !text.contains("End("), "{text}");
}

#[test]
fn endless_audio_is_dropped_at_the_limit() {
    let mut script = vec![started("r1"), Stuck];
    script.extend((0..400).map(|_| audio("a", 1_000)));
    let text = play(script);
    assert!(text.contains("Note(model.audio_dropped)"));
    assert!(count(&text, "PlayToCaller") < 2 * 303, "five minutes are queued, and no more");
}

#[test]
fn the_tally_counts_turns_times_and_tokens() {
    let start = Instant::now();
    let mut call = Call::new(Arc::new(plan()));
    let mut out = Vec::new();
    let mut at = |time, event| {
        call.handle(event, start + ms(time), &mut out);
        for action in std::mem::take(&mut out) {
            if let Action::PlayToCaller { piece, .. } = action {
                call.handle(Event::AudioLeft(piece), start + ms(time), &mut out);
            }
        }
    };
    at(0, Event::ModelReady { endpoint: 0 });
    at(0, Event::StreamStarted);
    for (turn, latency) in [(1_000, 300), (10_000, 500), (20_000, 900)] {
        let id = format!("r{turn}");
        at(turn, Event::SpeechStarted("u".into()));
        at(turn + 500, Event::SpeechStopped);
        at(turn + 500, Event::ResponseStarted { response: response(&id), origin: Origin::Unknown });
        let chunk = Chunk::from_ulaw(&[0x20; 8_000]);
        at(
            turn + 500 + latency,
            Event::ModelAudio { response: response(&id), item: id.as_str().into(), chunk },
        );
        at(turn + 600 + latency, Event::SpeechStarted("u".into())); // talks over it
        at(turn + 700 + latency, Event::ResponseEnded { response: response(&id), outcome: CANCELLED });
        at(
            turn + 800 + latency,
            Event::Usage {
                tokens: Tokens { audio_in: 10, audio_out: 4, ..Tokens::default() },
                standby: false,
            },
        );
    }
    let tally = call.tally();
    assert_eq!((tally.turns, tally.interruptions), (3, 3));
    assert_eq!(tally.first_word, Some(ms(1_800)));
    assert_eq!((tally.turn_median(), tally.turn_max()), (Some(ms(500)), Some(ms(900))));
    assert_eq!((tally.tokens_in, tally.tokens_out), (30, 12));
}

#[test]
fn a_key_stops_the_voice_as_speech_does() {
    for (keys, stops) in [(Keys::Interrupt, true), (Keys::Wait, false)] {
        let mut plan = plan();
        plan.turn_taking.keys = keys;
        let script =
            vec![started("r1"), audio("a", 3_000), At(ms(530)), press("1#"), ended("r1", Outcome::Completed)];
        let text = play_with(plan.clone(), script);
        assert_eq!(text.contains("Truncate(a 500ms)"), stops, "{text}");
        assert_eq!(text.contains("CancelResponse"), stops, "{text}");
        assert_eq!(text.contains("ClearCaller"), stops, "{text}");
        // The answer is asked for at once, not behind the old one.
        assert!(text.contains("530ms AskForResponse"), "{text}");
        // A greeting that nothing interrupts is not stopped by a key.
        plan.greeting = GreetingPlan { interruptible: false, ..greeting("Hello!") };
        let text = play_with(plan, vec![started("r1"), audio("a", 3_000), At(ms(530)), press("1#")]);
        assert!(!text.contains("ClearCaller"), "{text}");
    }
}

#[test]
fn keys_are_a_code_as_the_file_says() {
    let code = |dtmf: Dtmf, keys: Vec<When>| {
        let text = play_with(Plan { dtmf, ..plan() }, keys);
        let sent = text.lines().filter(|line| line.contains("Pressed"));
        sent.map(|line| line.trim().replace("TellModel(Pressed(", "").replace("))", "")).collect::<Vec<_>>()
    };
    let five = Dtmf { length: 5, ..Dtmf::default() };
    assert_eq!(
        code(five.clone(), vec![At(ms(100)), press("1234567"), At(ms(2_000))]),
        ["100ms \"12345\"", "1600ms \"67\""]
    );
    assert_eq!(code(five, vec![At(ms(100)), press("12345#"), At(ms(2_000))]), ["100ms \"12345\""]);
    let star = Dtmf { end: Some('*'), ..Dtmf::default() };
    assert_eq!(code(star, vec![At(ms(100)), press("1#2*")]), ["100ms \"1#2\""]);
    let patient = Dtmf { end: None, wait: ms(3_000), ..Dtmf::default() };
    assert_eq!(code(patient, vec![At(ms(100)), press("1#"), At(ms(5_000))]), ["3100ms \"1#\""]);
}
