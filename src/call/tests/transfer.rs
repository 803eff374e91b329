//! Transfers and key presses.

use super::*;
use crate::assistant::plan::{Job, SEND_DIGITS, TRANSFER_CALL, Target};
use crate::phone::PhoneNumber;

pub(super) fn plan_with_people() -> Plan {
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
    play_with(plan_with_people(), rest)
}

fn transfer(id: &str, to: &str) -> When {
    tool_in("r1", id, TRANSFER_CALL, &format!(r#"{{"to":"{to}"}}"#))
}

/// A silent response transfers the call to the reception.
fn silent_transfer() -> When {
    All(vec![started("r1"), transfer("c1", "reception"), done("r1")])
}

/// The assistant announces a transfer, and the call is parked at 560 ms.
pub(super) fn parked() -> When {
    All(vec![started("r1"), audio("a", 500), transfer("c1", "night desk"), done("r1"), echo_at(560, 1)])
}

pub(super) fn line_busy() -> When {
    On(Event::Returned(Return::TransferFailed(TransferFailure::Busy)))
}

#[test]
fn a_transfer_counts_when_a_phone_rings() {
    let to_reception =
        |response: &str, id: &str| tool_in(response, id, TRANSFER_CALL, r#"{"to":"reception"}"#);
    // The caller stops this one before it begins.
    let mut script =
        vec![started("r"), to_reception("r", "c"), done("r"), says(), started("s"), done("s"), At(ms(500))];
    for n in 0..5u32 {
        let (response, id, item) = (format!("r{n}"), format!("c{n}"), format!("i{n}"));
        let began = 5_000 * u64::from(n) + 1_000;
        script.extend([
            At(ms(began)),
            started(&response),
            audio_in(&response, &item, 500),
            to_reception(&response, &id),
            done(&response),
            echo_at(began + 600, 2 * n + 1),
            At(ms(began + 3_000)),
            line_busy(),
            echo(2 * n + 2),
        ]);
    }
    let text = play(script);
    assert_eq!((count(&text, "Park(Dial"), count(&text, "tool.limit")), (3, 2), "{text}");
}

#[test]
fn an_unanswered_transfer_comes_back_and_goes_on() {
    insta::assert_snapshot!(play(vec![
        parked(),
        On(Event::StreamLost), // we closed it
        frame(),
        press("1"),
        says(),
        At(ms(25_000)),
        line_busy(),
        frame(),
        echo_at(25_050, 2), // the new stream's first mark
        answer("r2", "b", 400),
        At(ms(25_200)),
        speaks(),
    ]));
}

#[test]
fn a_silent_transfer_is_announced_first() {
    insta::assert_snapshot!(play(vec![
        silent_transfer(),
        answer("r2", "b", 500),
        echo_at(560, 1),
        At(ms(5_000)),
        On(Event::Returned(Return::TransferFailed(TransferFailure::NoAnswer))),
    ]));
}

#[test]
fn a_failed_announcement_is_retried() {
    let text = play(vec![silent_transfer(), fails("r2"), At(ms(100))]);
    assert_eq!(count(&text, "AskForResponse"), 2, "{text}");
    assert!(!text.contains("Park"), "{text}");
}

#[test]
fn a_failed_announcement_is_retried_while_a_tool_runs() {
    let text = play(vec![
        started("r1"),
        tool("c0", "look_up"),
        transfer("c1", "reception"),
        done("r1"),
        fails("r2"),
        At(ms(100)),
        answer("r3", "b", 500),
        echo_at(700, 1),
    ]);
    assert_eq!(count(&text, "AskForResponse"), 2, "{text}");
    assert!(text.contains("700ms Park"), "{text}");
}

#[test]
fn a_transfer_to_an_unknown_target_is_refused() {
    for to in ["the moon", "", "Reception"] {
        let text = play(vec![started("r1"), audio("a", 100), transfer("c1", to), done("r1")]);
        assert!(text.contains("one of: reception, night desk"), "{to}: {text}");
        assert!(text.contains("AskForResponse") && !text.contains("Park"), "{to}: {text}");
    }
}

#[test]
fn a_caller_who_speaks_is_not_transferred() {
    let before = play(vec![started("r1"), speaks(), transfer("c1", "reception")]);
    assert!(before.contains("The caller is speaking: listen first."), "{before}");
    let meanwhile = play(vec![
        started("r1"),
        audio("a", 2_000),
        transfer("c1", "reception"),
        done("r1"),
        At(ms(500)),
        says(),
        silent("r2"),
        At(ms(3_000)),
    ]);
    assert!(meanwhile.contains("The caller spoke, so they were not transferred"), "{meanwhile}");
    assert!(!meanwhile.contains("Park") && count(&meanwhile, "AnswerTool") == 1, "{meanwhile}");
}

#[test]
fn only_one_transfer_at_a_time_and_none_during_the_end() {
    let twice = play(vec![
        started("r1"),
        audio("a", 500),
        transfer("c1", "reception"),
        transfer("c2", "night desk"),
        tool("c3", END_CALL),
        tool_in("r1", "c4", SEND_DIGITS, r#"{"digits":"1"}"#),
    ]);
    assert_eq!(count(&twice, "is being transferred already"), 3, "{twice}");
    let ending = play(vec![
        press("1"),
        started("r1"),
        audio("a", 500),
        tool("c3", END_CALL),
        transfer("c1", "reception"),
    ]);
    assert!(ending.contains("The call is already ending."), "{ending}");
}

#[test]
fn a_call_that_does_not_come_back_was_transferred() {
    let text = play(vec![parked(), At(ms(60_000))]);
    assert!(text.ends_with("  40560ms End(AssistantTransferred)\n"), "30 s of ringing and 10 more: {text}");
}

#[test]
fn a_parked_caller_can_hang_up() {
    let text = play(vec![parked(), At(ms(3_000)), On(Event::CallerHungUp)]);
    assert!(text.ends_with("Park(Dial { tool: 1, target: 1 })\n   3000ms End(CallerHungUp)\n"), "{text}");
}

#[test]
fn a_parked_call_says_goodbye_when_it_returns_and_replaces_a_lost_session() {
    let meanwhile = |event: Event| play(vec![parked(), At(ms(3_000)), On(event), At(ms(9_000)), line_busy()]);
    let draining = meanwhile(Event::Draining);
    assert!(draining.contains("9000ms Say(Goodbye(ServerDraining))"), "{draining}");
    // A parked call has time to get another session.
    let lost = meanwhile(Event::ModelLost(Loss::Closed.into()));
    assert!(lost.contains("3000ms OpenStandby") && !lost.contains("End("), "{lost}");
}

#[test]
fn a_draining_server_waits_ten_seconds_for_a_parked_call() {
    for comes_back in [false, true] {
        let mut script = vec![parked(), At(ms(3_000)), On(Event::Draining), At(ms(4_000))];
        script.extend(comes_back.then_some(On(Event::Returning)));
        script.push(At(ms(60_000)));
        let text = play(script);
        assert!(text.ends_with("13000ms End(ServerDraining)\n"), "{text}");
    }
}

#[test]
fn tools_run_while_the_call_is_parked() {
    let text = play(vec![
        started("r1"),
        tool("c9", "look_up"),
        audio("a", 500),
        transfer("c1", "night desk"),
        done("r1"),
        echo_at(560, 1),
        At(ms(4_000)),
        finished("c9"),
        At(ms(9_000)),
        line_busy(),
    ]);
    assert!(text.contains("4000ms AnswerTool"), "{text}");
    assert_eq!(count(&text, "AskForResponse"), 1, "{text}");
    assert_eq!(count(&text, "Say("), 0, "the caller is not connected: {text}");
}

#[test]
fn a_response_during_parking_is_cancelled() {
    let text =
        play(vec![parked(), started("r2"), audio_in("r2", "b", 400), ended("r2", CANCELLED), At(ms(9_000))]);
    assert!(text.contains("CancelResponse(ResponseId(\"r2\"))"), "{text}");
    assert!(!text.split("Park").nth(1).unwrap().contains("PlayToCaller"), "{text}");
}

#[test]
fn a_returned_phone_has_a_new_round_trip() {
    let text = play(vec![
        parked(),
        At(ms(9_000)),
        line_busy(),
        echo_at(9_200, 2), // a round trip of 200 ms; it was 30 before
        started("r2"),
        audio_in("r2", "b", 400),
        audio_in("r2", "b", 400),
        echo_at(9_800, 3),
        At(ms(9_850)),
        speaks(),
    ]);
    assert!(text.contains("Truncate(b 650ms)"), "{text}");
}

#[test]
fn keys_are_pressed_after_everything_is_heard() {
    insta::assert_snapshot!(play(vec![
        started("r1"),
        audio("a", 500),
        tool_in("r1", "c1", SEND_DIGITS, r#"{"digits":"1ww2#"}"#),
        done("r1"),
        echo_at(560, 1),
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
        let text = play(vec![started("r1"), tool_in("r1", "c1", SEND_DIGITS, &arguments), done("r1")]);
        assert_eq!(text.contains("Park(Press("), fine, "{digits}: {text}");
        assert_eq!(text.contains("`digits` has to be"), !fine, "{digits}: {text}");
    }
}

#[test]
fn a_phone_that_does_not_come_back_is_lost() {
    let text = play(vec![
        started("r1"),
        tool_in("r1", "c1", SEND_DIGITS, r#"{"digits":"12"}"#),
        done("r1"),
        At(ms(60_000)),
    ]);
    assert!(text.ends_with("  16030ms End(CallerLost)\n"), "{text}");
}

#[test]
fn the_call_waits_for_a_returning_phone() {
    // Nobody answered within 30 s. Twilio reports it late, and the new stream takes its time.
    let returning = || All(vec![parked(), At(ms(40_000)), On(Event::Returning)]);
    let text = play(vec![returning(), At(ms(46_000)), line_busy(), At(ms(46_100))]);
    assert!(!text.contains("End(") && text.contains("AskForResponse"), "{text}");
    // The stream never comes.
    assert!(play(vec![returning(), At(ms(120_000))]).contains("End(CallerLost)"));
}

#[test]
fn a_returning_caller_waits_for_the_tool_that_runs() {
    let script =
        || All(vec![calls("r0", "c0", "look_up"), parked(), At(ms(5_000)), line_busy(), At(ms(5_500))]);
    assert_eq!(count(&play(vec![script()]), "AskForResponse"), 0);
    // After the filler, the result is spoken of.
    assert_eq!(count(&play(vec![script(), silent("r2"), finished("c0")]), "AskForResponse"), 1);
}

#[test]
fn a_silent_announcement_is_requested_once_more() {
    let silent_twice = || All(vec![silent_transfer(), calls("r2", "c2", "look_up")]);
    for (script, requests, parked) in
        [(vec![silent_twice()], 2, 0), (vec![silent_twice(), silent("r3")], 2, 1)]
    {
        let text = play(script);
        assert_eq!((count(&text, "AskForResponse"), count(&text, "Park")), (requests, parked), "{text}");
    }
}

#[test]
fn a_refusal_of_an_older_request_keeps_the_announcement() {
    let text = play(vec![
        silent_transfer(),
        silent("r2"),
        stops(),
        started("r3"),
        On(Event::ModelFault(Fault::new(About::Request, Cause::Conflict))),
        audio_in("r3", "b", 500),
        done("r3"),
        echo_at(600, 1),
        At(ms(700)),
    ]);
    assert!(text.contains("Park(Dial"), "{text}");
}

#[test]
fn a_returning_caller_hears_another_filler() {
    let text = play(vec![
        calls("r0", "c0", "look_up"),
        At(ms(1_600)),
        answer("r9", "w", 400),
        echo_at(2_050, 1),
        started("r1"),
        audio("a", 500),
        transfer("c1", "night desk"),
        done("r1"),
        echo_at(2_600, 2),
        At(ms(5_000)),
        line_busy(),
        At(ms(5_500)),
    ]);
    assert!(text.contains("2600ms Park") && text.contains("5000ms Say(Filler)"), "{text}");
    assert_eq!(count(&text, "Say(Filler)"), 2, "{text}");
}
