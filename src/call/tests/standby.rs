//! A session that is lost, refuses, answers in writing, turns deaf or grows old: another takes over.
#![expect(clippy::disallowed_methods, reason = "the first instant of a test must come from somewhere")]

use super::silence::{first, quiet, talks, times};
use super::tools::{plan_with_tools, play as play_with_tools};
use super::*;

pub(super) fn gone() -> When {
    On(Event::ModelLost(Loss::Closed.into()))
}

pub(super) fn ready(endpoint: usize) -> When {
    On(Event::StandbyReady { endpoint })
}

fn standby_lost(failure: impl Into<Failure>) -> When {
    On(Event::StandbyLost(Lost { loss: Loss::Unreachable, failure: failure.into() }))
}

fn spoke() -> When {
    On(Event::StandbySpoke)
}

fn with_fallbacks(fallbacks: usize) -> Plan {
    Plan { fallback: (0..fallbacks).map(|_| Arc::new(plan())).collect(), ..plan() }
}

fn opened(text: &str) -> Vec<(u64, usize)> {
    let endpoint = |line: &str| line.split("endpoint: ").nth(1).unwrap()[..1].parse().unwrap();
    let lines = text.lines().filter(|line| line.contains("OpenStandby"));
    times(text, "OpenStandby").into_iter().zip(lines.map(endpoint)).collect()
}

/// The caller said this.
fn transcript(who: Who, item: &str, text: &str) -> When {
    On(Event::Transcript { who, item: item.into(), text: text.to_owned().into() })
}

/// Runs a script after the usual beginning. Returns what the standby was filled with last, too.
fn filled(script: Vec<When>) -> (String, Vec<Turn>) {
    let start = Instant::now();
    let mut plan = plan();
    plan.tools = plan_with_tools().tools;
    let mut run = Run::new(start, plan);
    let connected = [On(Event::ModelReady { endpoint: 0 }), On(Event::StreamStarted), At(ms(30)), echo(0)];
    run.play(All(connected.into_iter().chain(script).collect()));
    (run.text, run.call.conversation.replay())
}

#[test]
fn what_the_phone_already_has_plays_on() {
    let text = play(vec![says(), answer("r1", "a", 7_000), At(ms(1_000)), gone(), At(ms(1_200)), ready(0)]);
    assert!(!text.contains("ClearCaller") && !text.contains("End("), "{text}");
    assert_eq!(opened(&text), [(1_000, 0)], "{text}");
    assert_eq!(times(&text, "UseStandby"), [1_200], "{text}");
    assert!(!text.contains("AskForResponse") && !text.contains("Say("), "all of it was said: {text}");
}

#[test]
fn an_answer_that_was_being_made_goes_on_in_the_next_session() {
    let text =
        play(vec![says(), started("r1"), audio("a", 1_000), At(ms(500)), gone(), At(ms(900)), ready(0)]);
    assert!(!text.contains("ClearCaller"), "{text}");
    assert_eq!(times(&text, "Say(GoOn"), [900], "{text}");
    // One that had not begun to speak is asked for again, and so is one that was only expected.
    for begun in [vec![started("r1")], vec![]] {
        let text = play(vec![says(), All(begun), At(ms(500)), gone(), At(ms(900)), ready(0)]);
        assert_eq!(times(&text, "AskForResponse"), [900], "{text}");
    }
}

#[test]
fn the_caller_talks_over_what_an_earlier_session_said() {
    let script = vec![
        says(),
        answer("r1", "a", 4_000),
        transcript(Who::Assistant, "a", "We are open from nine to five on all days of the week."),
        At(ms(1_000)),
        gone(),
        ready(0),
        At(ms(2_030)),
        speaks(),
    ];
    let (text, turns) = filled(script);
    assert_eq!(times(&text, "TellModel(HeardOnly"), [2_030], "{text}");
    assert_eq!(count(&text, "Truncate("), 0, "the new session does not know the item: {text}");
    let said: Vec<_> =
        turns.iter().filter(|turn| matches!(turn, Turn::Assistant(_) | Turn::Note(_))).collect();
    assert_eq!(said, [&Turn::Assistant("We are open from nine to".to_owned().into())], "once");
}

#[test]
fn a_lost_session_is_replaced_at_the_same_endpoint_then_by_the_next() {
    let unreachable = || standby_lost(Cause::Unreachable);
    let text = play_with(
        with_fallbacks(1),
        vec![
            says(),
            gone(),
            unreachable(),
            At(ms(400)),
            unreachable(),
            At(ms(1_000)),
            unreachable(),
            At(ms(3_000)),
        ],
    );
    assert_eq!(opened(&text), [(30, 0), (280, 1), (900, 0), (2_000, 1)], "{text}");
    assert!(!text.contains("End("), "{text}");
    // Nobody answers for 20 s.
    let text = play(vec![says(), gone(), At(ms(30_000))]);
    assert_eq!(times(&text, "End("), [20_030], "{text}");
    assert_eq!(first(&text, "PlayToCaller"), Some(2_530), "{text}");
}

#[test]
fn a_refusal_goes_to_the_next_endpoint_at_once_or_ends_the_call() {
    let refused = || ended("r1", Outcome::Failed(Cause::Credit.into()));
    let script = || vec![says(), started("r1"), refused()];
    let text = play_with(with_fallbacks(1), vec![All(script()), ready(1)]);
    assert_eq!(opened(&text), [(30, 1)], "{text}");
    assert_eq!(times(&text, "AskForResponse"), [30], "what was owed: {text}");
    let text = play_with(with_fallbacks(1), vec![All(script()), standby_lost(Cause::Key), At(ms(100))]);
    assert!(text.contains("End(ModelRefused)"), "{text}");
    let text = play(script());
    assert!(text.contains("30ms End(ModelRefused)"), "{text}");
}

#[test]
fn a_session_that_is_lost_again_and_again_is_asked_for_with_pauses() {
    let mut script = vec![];
    for n in 0..100 {
        script.extend([gone(), ready(0), At(ms(100 * (n + 1)))]);
    }
    let text = play(script);
    let opens = count(&text, "OpenStandby");
    assert!((3..=9).contains(&opens), "{opens} sessions in 10 s: {text}");
}

#[test]
fn a_stalled_session_loses_against_the_one_that_speaks_first() {
    let owed = || vec![says(), At(ms(2_600)), ready(0)];
    let text = play(vec![All(owed()), spoke()]);
    let order = ["OpenStandby", "FillStandby", "AskStandby(None)", "UseStandby"];
    let at: Vec<_> = order.iter().map(|action| text.find(action).expect(action)).collect();
    assert!(at.is_sorted(), "{text}");
    assert_eq!(count(&text, "FillStandby"), 1, "{text}");
    // What it says comes as any audio, and ends the tone.
    let text = play(vec![All(owed()), spoke(), started("r1"), audio("a", 400), done("r1"), At(ms(3_000))]);
    assert!(text.contains("PlayToCaller(400ms)") && text.contains("ClearCaller"), "{text}");
    assert_eq!(times(&text, "AskForResponse"), [1_530], "it is not asked twice: {text}");
    // The session in use speaks first.
    let text = play(vec![All(owed()), answer("r1", "a", 400), spoke()]);
    assert_eq!((count(&text, "DropStandby"), count(&text, "UseStandby")), (1, 0), "{text}");
}

#[test]
fn while_any_provider_answers_the_conversation_survives() {
    // The first hangs, cannot be opened again, and the second refuses: the third answers.
    let text = play_with(
        with_fallbacks(2),
        vec![
            says(),
            At(ms(2_600)),
            standby_lost(Cause::Unreachable),
            At(ms(2_900)),
            standby_lost(Cause::Key),
        ],
    );
    assert_eq!(opened(&text), [(2_530, 0), (2_850, 1), (2_900, 2)], "{text}");
    // One that is asked and says nothing is no better.
    let mute = On(Event::StandbyMute(Outcome::Failed(Failure::default())));
    let text = play_with(with_fallbacks(1), vec![says(), At(ms(2_600)), ready(0), mute, At(ms(3_000))]);
    assert_eq!(opened(&text), [(2_530, 0), (2_850, 1)], "{text}");
    // The call lives on with its session, although no other comes.
    let text =
        play(vec![says(), At(ms(2_600)), standby_lost(Cause::Key), answer("r1", "a", 400), At(ms(3_000))]);
    assert!(!text.contains("End(") && text.contains("PlayToCaller(400ms)"), "{text}");
}

#[test]
fn a_replay_that_is_answered_in_writing_is_replayed_as_one_text() {
    let script = vec![
        transcript(Who::Caller, "u", "Do you sell bread?"),
        says(),
        gone(),
        ready(0),
        silent("r2"),
        At(ms(200)),
        ready(0),
        spoke(),
    ];
    let text = play(script);
    assert_eq!(times(&text, "OpenStandby"), [30, 30], "{text}");
    assert_eq!(times(&text, "AskStandby(Some(SayAloud))"), [200], "{text}");
    let (items, history) = text.split_once("AskForResponse").unwrap();
    assert!(items.contains("FillStandby([Caller("), "{text}");
    assert!(history.contains("FillStandby([History("), "{text}");
    assert_eq!(count(&text, "FillStandby"), 2, "{text}");
    // The session in use speaks aloud after all, so the other one stays silent.
    let text = play(vec![
        says(),
        gone(),
        ready(0),
        silent("r2"),
        answer("r3", "b", 400),
        echo_at(500, 1),
        ready(0),
        spoke(),
    ]);
    assert_eq!(count(&text, "UseStandby"), 1, "{text}");
    // A standby that answers in writing.
    let mute = On(Event::StandbyMute(Outcome::Completed));
    let text = play(vec![says(), At(ms(2_600)), ready(0), mute, ready(0)]);
    assert_eq!((count(&text, "OpenStandby"), count(&text, "AskStandby")), (2, 2), "{text}");
}

#[test]
fn keys_and_results_without_a_session_are_in_the_next_one() {
    let script = vec![
        calls("r1", "c1", "look_up"),
        At(ms(200)),
        gone(),
        press("12#"),
        finished("c1"),
        At(ms(600)),
        ready(0),
    ];
    let (text, turns) = filled(script);
    assert!(text.contains("FillStandby([Tool"), "{text}");
    assert!(turns.contains(&Turn::Note("The caller pressed 1 2.".to_owned().into())), "{turns:?}");
    let answered = |turn: &Turn| matches!(turn, Turn::Tool { output: Some(output), .. } if output.expose() == "It is here.");
    assert_eq!(turns.iter().filter(|turn| answered(turn)).count(), 1, "{turns:?}");
    assert_eq!(times(&text, "AskForResponse"), [600], "once: {text}");
    assert_eq!(count(&text, "TellModel("), 0, "the fill has it: {text}");
}

#[test]
fn a_tool_finishes_into_the_next_session() {
    let text = play_with_tools(vec![
        calls("r1", "c1", "look_up"),
        At(ms(200)),
        gone(),
        At(ms(400)),
        ready(0),
        At(ms(1_000)),
        finished("c1"),
    ]);
    assert_eq!(times(&text, "AskForResponse"), [1_000], "{text}");
    assert_eq!(times(&text, "AnswerTool"), [1_000], "{text}");
    assert_eq!(count(&text, "RunTool"), 1, "{text}");
}

#[test]
fn a_goodbye_is_said_by_the_next_session_unless_half_of_it_is_heard() {
    let text =
        play(vec![says(), On(Event::Draining), At(ms(300)), gone(), At(ms(600)), ready(0), At(ms(700))]);
    assert_eq!(times(&text, "Say(Goodbye(ServerDraining))"), [600], "{text}");
    let half = vec![On(Event::Draining), started("r1"), audio("a", 1_000), At(ms(300)), gone()];
    let text = play(vec![All(half), echo_at(1_060, 1)]);
    assert!(!text.contains("OpenStandby"), "{text}");
    assert!(text.contains("1060ms End(ServerDraining)"), "{text}");
    // A goodbye that stalls gets a second session, too.
    let text = play(vec![On(Event::Draining), At(ms(2_600)), ready(0), spoke(), At(ms(2_700))]);
    assert!(
        text.contains("AskStandby(Some(Goodbye(ServerDraining)))") && text.contains("UseStandby"),
        "{text}"
    );
}

#[test]
fn what_the_caller_says_to_no_session_is_answered() {
    // They have finished before the switch.
    let text = play(vec![quiet(40, 200), gone(), talks(200, 1_500), quiet(1_500, 2_400), ready(0)]);
    assert_eq!(count(&text, "AskForResponse"), 1, "{text}");
    assert!(text.contains("FillStandby([CallerAudio("), "{text}");
    // They finish after it, and the new session notices nothing.
    let text = play(vec![quiet(40, 200), gone(), talks(200, 1_500), ready(0), quiet(1_500, 2_600)]);
    assert!(first(&text, "AskForResponse").is_some_and(|at| (1_900..2_200).contains(&at)), "{text}");
    // It notices, and answers by itself.
    let script =
        vec![quiet(40, 200), gone(), talks(200, 1_500), ready(0), speaks(), quiet(1_500, 2_600), stops()];
    assert!(!play(script).contains("AskForResponse"));
    // They were speaking by the model's ear.
    let text = play(vec![speaks(), gone(), ready(0)]);
    assert_eq!(count(&text, "AskForResponse"), 1, "{text}");
}

#[test]
fn a_deaf_session_is_replaced_at_most_once_a_minute() {
    let text = play(vec![quiet(40, 1_000), talks(1_000, 9_000), ready(0), quiet(9_000, 10_000)]);
    let open = first(&text, "OpenStandby").expect("it is deaf");
    assert!((5_500..=8_000).contains(&open), "{open}");
    assert_eq!(count(&text, "UseStandby"), 1, "{text}");
    assert!(first(&text, "AskForResponse").is_some_and(|at| at < 10_000), "they are answered: {text}");
    let text = play(vec![
        talks(40, 8_000),
        ready(0),
        quiet(8_000, 9_000),
        answer("r1", "a", 100),
        echo_at(9_200, 1),
        talks(9_220, 58_000),
        talks(58_000, 75_000),
    ]);
    assert_eq!(count(&text, "OpenStandby"), 2, "{text}");
    // One that notices the caller is not deaf.
    let text = play(vec![quiet(40, 1_000), speaks(), talks(1_000, 9_000)]);
    assert_eq!(count(&text, "OpenStandby"), 0, "{text}");
}

fn expires(second: u64, run_start: Instant) -> Event {
    Event::SessionExpires { at: run_start + Duration::from_secs(second) }
}

#[test]
fn a_session_is_renewed_in_a_pause_and_at_last_without_one() {
    let start = Instant::now();
    let mut patient = plan();
    patient.limits.silence = Duration::from_secs(3_000);
    patient.limits.call = Duration::from_secs(10_000);
    let begin = |rest: Vec<When>| {
        let script =
            vec![On(Event::ModelReady { endpoint: 0 }), On(Event::StreamStarted), At(ms(30)), echo(0)];
        run_from(start, patient.clone(), script.into_iter().chain(rest).collect())
    };
    let old = |rest: Vec<When>| begin(vec![On(expires(600, start)), wait(4, 300), All(rest)]);
    let text = old(vec![At(ms(301_000)), ready(0)]);
    assert_eq!(times(&text, "OpenStandby"), [300_000], "{text}");
    assert_eq!(times(&text, "UseStandby"), [301_000], "at once, in a pause: {text}");
    // While an answer plays, it waits for the end of it.
    let text =
        old(vec![answer("r1", "a", 5_000), At(ms(301_000)), ready(0), echo_at(305_100, 1), At(ms(306_000))]);
    assert_eq!(times(&text, "UseStandby"), [305_100], "{text}");
    // Nobody pauses: 20 s before the end.
    let text = old(vec![answer("r1", "a", 299_000), ready(0), wait(304, 592)]);
    assert_eq!(times(&text, "UseStandby"), [580_000], "{text}");
    // It fails once.
    let text = old(vec![standby_lost(Cause::Unreachable), wait(304, 340)]);
    assert_eq!(times(&text, "OpenStandby"), [300_000, 330_000], "{text}");
    // The session stalls while the next one waits: that one is asked at once.
    let text = old(vec![speaks(), ready(0), stops(), At(ms(303_000)), spoke()]);
    assert_eq!(count(&text, "OpenStandby"), 1, "{text}");
    assert_eq!(
        (times(&text, "AskStandby"), times(&text, "UseStandby")),
        (vec![302_500], vec![303_000]),
        "{text}"
    );
    // A rival in its place that is not needed does not keep it from being renewed.
    let text = old(vec![says(), At(ms(303_000)), answer("r1", "a", 100), At(ms(303_100))]);
    assert_eq!(count(&text, "OpenStandby"), 2, "{text}");
}

#[test]
fn a_call_of_three_hours_is_renewed_each_hour() {
    let start = Instant::now();
    let mut plan = plan();
    plan.limits.silence = Duration::from_secs(20_000);
    plan.limits.call = Duration::from_secs(20_000);
    let mut script =
        vec![On(Event::ModelReady { endpoint: 0 }), On(Event::StreamStarted), At(ms(30)), echo(0)];
    script.push(On(expires(3_600, start)));
    for minute in 1..180_u64 {
        let id = format!("r{minute}");
        script.push(wait(minute * 60 - 56, minute * 60));
        script.extend([says(), answer(&id, &id, 400)]);
        if minute % 55 == 0 {
            script.extend([
                wait(minute * 60 + 1, minute * 60 + 5),
                ready(0),
                On(expires(minute * 60 + 3_600, start)),
            ]);
        }
    }
    let text = run_from(start, plan, script);
    assert_eq!((count(&text, "OpenStandby"), count(&text, "UseStandby")), (3, 3));
    assert_eq!((count(&text, "PlayToCaller(400ms)"), count(&text, "End(")), (179, 0));
    assert_eq!(count(&text, "PlayToCaller(7998B)"), 0, "no hold tone");
}

#[test]
fn a_phone_that_is_away_comes_back_to_another_session() {
    let lost = || On(Event::StreamLost);
    let back = || All(vec![On(Event::Returning), On(Event::Returned(Return::StreamAgain))]);
    let text = play(vec![says(), lost(), gone(), At(ms(300)), ready(0), At(ms(900)), back()]);
    assert_eq!(times(&text, "AskForResponse"), [900], "{text}");
    let text = play(vec![says(), gone(), lost(), At(ms(300)), back(), At(ms(500)), ready(0)]);
    assert_eq!(times(&text, "AskForResponse"), [500], "{text}");
    assert_eq!(count(&text, "TellModel("), 0, "the fill has it: {text}");
    let text = play(vec![
        says(),
        gone(),
        lost(),
        standby_lost(Cause::Unreachable),
        At(ms(900)),
        back(),
        At(ms(950)),
    ]);
    assert_eq!(opened(&text).len(), 2, "it is opened again: {text}");
}

#[test]
fn a_standby_may_be_the_first_session_of_a_call() {
    let text = run(
        with_fallbacks(1),
        vec![
            On(Event::StreamStarted),
            At(ms(30)),
            echo(0),
            talks(100, 1_500),
            quiet(1_500, 10_500),
            ready(1),
        ],
    );
    assert_eq!(opened(&text).len(), 1, "{text}");
    assert_eq!(count(&text, "UseStandby"), 1, "{text}");
    assert_eq!(count(&text, "AskForResponse"), 1, "{text}");
}
