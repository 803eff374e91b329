//! A call that leaves for a while.

use super::*;
use crate::assistant::plan::{Job, SEND_DIGITS, TRANSFER_CALL, Target};
use crate::phone::PhoneNumber;

fn plan_with_people() -> Plan {
    let mut plan = plan();
    let target = |name: &str, ring: u64| Target {
        name: name.to_owned(),
        number: PhoneNumber::parse("+15550100009").unwrap(),
        ring: Duration::from_secs(ring),
    };
    let targets = vec![target("reception", 20), target("night desk", 30)];
    plan.tools.extend([
        tool_of(TRANSFER_CALL, Rule::default(), Work::Transfer(targets)),
        tool_of(SEND_DIGITS, Rule::default(), Work::SendDigits),
        tool_of("look_up", Rule::default(), Work::Job(Arc::new(Job::SendSms))),
    ]);
    plan
}

fn play(rest: Vec<When>) -> String {
    run_with(plan_with_people(), after(connected(), rest))
}

fn transfer(id: &str, to: &str) -> When {
    tool_in("r1", id, TRANSFER_CALL, &format!(r#"{{"to":"{to}"}}"#))
}

/// The assistant says that it connects, and the phone is sent away at 560 ms.
fn parked() -> Vec<When> {
    vec![
        started("r1"),
        audio("a", 500),
        transfer("c1", "night desk"),
        ended("r1", Outcome::Completed),
        At(ms(560)),
        echo(1),
    ]
}

fn not_taken() -> When {
    On(Event::Returned(Return::TransferFailed(TransferFailure::Busy)))
}

#[test]
fn a_call_that_nobody_takes_comes_back_and_goes_on() {
    let mut script = parked();
    script.extend([
        On(Event::StreamLost), // our own doing
        On(Event::CallerAudio(Chunk::from_ulaw(&[0xFF; 160]))),
        On(Event::Digit('1')),
        speaks(),
        On(Event::SpeechStopped),
        At(ms(25_000)),
        not_taken(),
        On(Event::CallerAudio(Chunk::from_ulaw(&[0xFF; 160]))),
        At(ms(25_050)),
        echo(2), // the new stream's first
        started("r2"),
        audio_in("r2", "b", 400),
        ended("r2", Outcome::Completed),
        At(ms(25_200)),
        speaks(),
    ]);
    insta::assert_snapshot!(play(script));
}

#[test]
fn a_transfer_without_a_word_is_announced_first() {
    insta::assert_snapshot!(play(vec![
        started("r1"),
        transfer("c1", "reception"),
        ended("r1", Outcome::Completed),
        started("r2"),
        audio_in("r2", "b", 500),
        ended("r2", Outcome::Completed),
        At(ms(560)),
        echo(1),
        At(ms(5_000)),
        On(Event::Returned(Return::TransferFailed(TransferFailure::NoAnswer))),
    ]));
}

#[test]
fn an_announcement_that_breaks_is_made_again() {
    let text = play(vec![
        started("r1"),
        transfer("c1", "reception"),
        ended("r1", Outcome::Completed),
        started("r2"),
        ended("r2", Outcome::Failed),
        At(ms(100)),
    ]);
    assert_eq!(text.matches("AskForResponse").count(), 2, "{text}");
    assert!(!text.contains("Park"), "{text}");
}

#[test]
fn an_announcement_that_breaks_is_made_again_though_a_tool_runs() {
    let text = play(vec![
        started("r1"),
        tool("c0", "look_up"),
        transfer("c1", "reception"),
        ended("r1", Outcome::Completed),
        started("r2"),
        ended("r2", Outcome::Failed),
        At(ms(100)),
        started("r3"),
        audio_in("r3", "b", 500),
        ended("r3", Outcome::Completed),
        At(ms(700)),
        echo(1),
    ]);
    assert_eq!(text.matches("AskForResponse").count(), 2, "{text}");
    assert!(text.contains("700ms Park"), "{text}");
}

#[test]
fn nobody_is_passed_on_to_whom_nobody_knows() {
    for to in ["the moon", "", "Reception"] {
        let text =
            play(vec![started("r1"), audio("a", 100), transfer("c1", to), ended("r1", Outcome::Completed)]);
        assert!(text.contains("one of: reception, night desk"), "{to}: {text}");
        assert!(text.contains("AskForResponse") && !text.contains("Park"), "{to}: {text}");
    }
}

#[test]
fn who_speaks_is_not_passed_on() {
    let before = play(vec![started("r1"), speaks(), transfer("c1", "reception")]);
    assert!(before.contains("The caller is speaking: listen first."), "{before}");
    let meanwhile = play(vec![
        started("r1"),
        audio("a", 2_000),
        transfer("c1", "reception"),
        ended("r1", Outcome::Completed),
        At(ms(500)),
        speaks(),
        On(Event::SpeechStopped),
        started("r2"),
        ended("r2", Outcome::Completed),
        At(ms(3_000)),
    ]);
    assert!(meanwhile.contains("The caller spoke, so they were not passed on"), "{meanwhile}");
    assert!(!meanwhile.contains("Park") && meanwhile.matches("AnswerTool").count() == 1, "{meanwhile}");
}

#[test]
fn one_transfer_at_a_time_and_none_once_the_call_ends() {
    let twice = play(vec![
        started("r1"),
        audio("a", 500),
        transfer("c1", "reception"),
        transfer("c2", "night desk"),
        tool("c3", END_CALL),
        tool_in("r1", "c4", SEND_DIGITS, r#"{"digits":"1"}"#),
    ]);
    assert_eq!(twice.matches("is being passed on already").count(), 3, "{twice}");
    let ending = play(vec![
        On(Event::Digit('1')),
        started("r1"),
        audio("a", 500),
        tool("c3", END_CALL),
        transfer("c1", "reception"),
    ]);
    assert!(ending.contains("The call is already ending."), "{ending}");
}

#[test]
fn a_call_that_stays_away_was_taken() {
    let mut script = parked();
    script.push(At(ms(60_000)));
    let text = play(script);
    assert!(text.ends_with("  40560ms End(AssistantTransferred)\n"), "it rings 30 s, and 10 more: {text}");
}

#[test]
fn whoever_hangs_up_meanwhile_has_hung_up() {
    let mut script = parked();
    script.extend([At(ms(3_000)), On(Event::CallerHungUp)]);
    let text = play(script);
    assert!(text.ends_with("Park(Dial { tool: 1, target: 1 })\n   3000ms End(CallerHungUp)\n"), "{text}");
}

#[test]
fn what_happens_to_a_parked_call_waits_for_its_return() {
    let meanwhile = |event: Event| {
        let mut script = parked();
        script.extend([At(ms(3_000)), On(event), At(ms(9_000)), not_taken()]);
        play(script)
    };
    let draining = meanwhile(Event::Draining);
    assert!(draining.contains("9000ms Say(Goodbye(ServerDraining))"), "{draining}");
    let lost = meanwhile(Event::ModelLost(Loss::Closed));
    assert!(lost.ends_with("9000ms End(ModelLost)\n"), "{lost}");
}

#[test]
fn a_server_that_closes_waits_for_a_parked_call_as_long_as_for_a_goodbye() {
    for comes_back in [false, true] {
        let mut script = parked();
        script.extend([At(ms(3_000)), On(Event::Draining), At(ms(4_000))]);
        script.extend(comes_back.then_some(On(Event::Returning)));
        script.push(At(ms(60_000)));
        let text = play(script);
        assert!(text.ends_with("13000ms End(ServerDraining)\n"), "{text}");
    }
}

#[test]
fn tools_go_on_while_the_call_is_parked() {
    let mut script = vec![started("r1"), tool("c9", "look_up")];
    script.extend(parked().into_iter().skip(1));
    script.extend([
        At(ms(4_000)),
        On(Event::ToolFinished { id: "c9".into(), output: "Found.".to_owned().into() }),
        At(ms(9_000)),
        not_taken(),
    ]);
    let text = play(script);
    assert!(text.contains("4000ms AnswerTool"), "{text}");
    assert_eq!(text.matches("AskForResponse").count(), 1, "{text}");
    assert_eq!(text.matches("Say(").count(), 0, "nobody waits on the line: {text}");
}

#[test]
fn what_is_said_to_a_parked_call_is_heard_by_nobody() {
    let mut script = parked();
    script.extend([started("r2"), audio_in("r2", "b", 400), ended("r2", Outcome::Cancelled), At(ms(9_000))]);
    let text = play(script);
    assert!(text.contains("CancelResponse(ResponseId(\"r2\"))"), "{text}");
    assert!(!text.split("Park").nth(1).unwrap().contains("PlayToCaller"), "{text}");
}

#[test]
fn nothing_is_known_of_the_way_to_a_phone_that_came_back() {
    let mut script = parked();
    script.extend([
        At(ms(9_000)),
        not_taken(),
        At(ms(9_200)),
        echo(2), // 200 ms there and back; before, it was 30
        started("r2"),
        audio_in("r2", "b", 400),
        audio_in("r2", "b", 400),
        At(ms(9_800)),
        echo(3),
        At(ms(9_850)),
        speaks(),
    ]);
    let text = play(script);
    assert!(text.contains("Truncate(b 650ms)"), "{text}");
}

#[test]
fn keys_are_pressed_once_all_is_heard() {
    insta::assert_snapshot!(play(vec![
        started("r1"),
        audio("a", 500),
        tool_in("r1", "c1", SEND_DIGITS, r#"{"digits":"1ww2#"}"#),
        ended("r1", Outcome::Completed),
        At(ms(560)),
        echo(1),
        At(ms(4_000)),
        On(Event::Returned(Return::KeysPressed)),
    ]));
}

#[test]
fn only_keys_can_be_pressed() {
    for (digits, fine) in [
        ("0123456789*#w", true),
        ("", false),
        ("A", false),
        ("1 2", false),
        ("1\"/><Dial>", false),
        (&"1".repeat(32), true),
        (&"1".repeat(33), false),
    ] {
        let arguments = serde_json::json!({ "digits": digits }).to_string();
        let text = play(vec![
            started("r1"),
            tool_in("r1", "c1", SEND_DIGITS, &arguments),
            ended("r1", Outcome::Completed),
        ]);
        assert_eq!(text.contains("Park(Press("), fine, "{digits}: {text}");
        assert_eq!(text.contains("`digits` has to be"), !fine, "{digits}: {text}");
    }
}

#[test]
fn a_phone_that_does_not_come_back_is_lost() {
    let text = play(vec![
        started("r1"),
        tool_in("r1", "c1", SEND_DIGITS, r#"{"digits":"12"}"#),
        ended("r1", Outcome::Completed),
        At(ms(60_000)),
    ]);
    assert!(text.ends_with("  16030ms End(CallerLost)\n"), "{text}");
}

#[test]
fn a_phone_on_its_way_back_is_waited_for() {
    // Nobody answered in the ring's 30 s; Twilio says so late, and the new stream takes its time.
    let mut script = parked();
    script.extend([At(ms(40_000)), On(Event::Returning), At(ms(46_000)), not_taken(), At(ms(46_100))]);
    let text = play(script);
    assert!(!text.contains("End(") && text.contains("AskForResponse"), "{text}");
    // It never comes.
    let mut script = parked();
    script.extend([At(ms(40_000)), On(Event::Returning), At(ms(120_000))]);
    assert!(play(script).contains("End(CallerLost)"));
}

#[test]
fn a_tool_that_still_runs_is_not_asked_about_on_the_way_back() {
    let script = || {
        let wanted = [started("r0"), tool_in("r0", "c0", "look_up", "{}"), ended("r0", Outcome::Completed)];
        let back = [At(ms(5_000)), not_taken(), At(ms(5_500))];
        wanted.into_iter().chain(parked()).chain(back).collect::<Vec<_>>()
    };
    assert_eq!(play(script()).matches("AskForResponse").count(), 0);
    let mut whole = script();
    // Who is back hears that it takes a moment.
    whole.extend([started("r2"), ended("r2", Outcome::Completed)]);
    whole.push(On(Event::ToolFinished { id: "c0".into(), output: "Done.".to_owned().into() }));
    assert_eq!(play(whole).matches("AskForResponse").count(), 1);
}

#[test]
fn an_announcement_without_a_word_is_asked_for_once_more() {
    let play_and = |rest: Vec<When>| {
        let mut script = vec![started("r1"), transfer("c1", "reception"), ended("r1", Outcome::Completed)];
        script.extend([started("r2"), tool_in("r2", "c2", "look_up", "{}"), ended("r2", Outcome::Completed)]);
        let text = play(after(script, rest));
        (text.matches("AskForResponse").count(), text.matches("Park").count())
    };
    assert_eq!(play_and(vec![]), (2, 0));
    assert_eq!(play_and(vec![started("r3"), ended("r3", Outcome::Completed)]), (2, 1));
}

#[test]
fn an_announcement_is_not_taken_back_by_the_refusal_of_a_request_that_a_turn_has_replaced() {
    let mut script = vec![started("r1"), transfer("c1", "reception"), ended("r1", Outcome::Completed)];
    script.extend([started("r2"), ended("r2", Outcome::Completed), On(Event::SpeechStopped), started("r3")]);
    script.extend([On(Event::ModelFault(Fault::RequestRefused)), audio_in("r3", "b", 500)]);
    script.extend([ended("r3", Outcome::Completed), At(ms(600)), echo(1), At(ms(700))]);
    let text = play(script);
    assert!(text.contains("Park(Dial"), "{text}");
}

#[test]
fn who_is_back_is_told_to_wait_once_more() {
    let mut script =
        vec![started("r0"), tool_in("r0", "c0", "look_up", "{}"), ended("r0", Outcome::Completed)];
    script.extend([At(ms(1_600)), started("r9"), audio_in("r9", "w", 400), ended("r9", Outcome::Completed)]);
    script.extend([At(ms(2_050)), echo(1), started("r1"), audio("a", 500), transfer("c1", "night desk")]);
    script.extend([ended("r1", Outcome::Completed), At(ms(2_600)), echo(2), At(ms(5_000)), not_taken()]);
    script.push(At(ms(5_500)));
    let text = play(script);
    assert!(text.contains("2600ms Park") && text.contains("5000ms Say(Filler)"), "{text}");
    assert_eq!(text.matches("Say(Filler)").count(), 2, "{text}");
}
