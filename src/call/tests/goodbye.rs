//! Goodbyes, and what leads to them.

use super::silence::times;
use super::*;

#[test]
fn the_goodbye_is_heard_before_the_call_ends() {
    insta::assert_snapshot!(play(vec![
        says(),
        started("r1"),
        audio("a", 2000),
        tool("c1", END_CALL),
        tool("c1", END_CALL), // reported twice
        done("r1"),
        echo_at(2060, 1),
    ]));
}

#[test]
fn a_missing_goodbye_is_requested() {
    insta::assert_snapshot!(play(vec![
        says(),
        calls("r1", "c1", END_CALL),
        answer("r2", "b", 1000),
        echo_at(1100, 1),
    ]));
}

#[test]
fn a_caller_who_speaks_over_the_goodbye_keeps_the_call() {
    insta::assert_snapshot!(play(vec![
        says(),
        ends_call(2000),
        At(ms(1030)),
        speaks(),
        echo_at(2060, 1),
        At(ms(12_000)),
        stops(),
    ]));
}

#[test]
fn an_unheard_goodbye_ends_after_ten_seconds() {
    insta::assert_snapshot!(play(vec![
        says(),
        started("r1"),
        audio("a", 900),
        tool("c1", END_CALL),
        At(ms(11_000)), // its response never ends
    ]));
}

#[test]
fn silence_leads_to_a_question_then_a_goodbye() {
    let text = play(vec![
        wait(3, 31), // half of the limit passes at 30.03 s
        answer("r1", "a", 1_000),
        echo_at(32_060, 1), // playback is not silence
        wait(35, 63),
        answer("r2", "b", 1_000),
        echo_at(64_100, 2),
    ]);
    let lines: Vec<&str> = text.lines().filter(|line| !line.contains("AppendToModel")).collect();
    insta::assert_snapshot!(lines.join("\n"));
}

#[test]
fn a_call_at_its_time_limit_gets_a_goodbye() {
    let mut plan = plan();
    plan.limits.call = Duration::from_secs(10);
    insta::assert_snapshot!(play_with(
        plan,
        vec![
            At(ms(9_000)),
            started("r1"),
            audio("a", 8_000),
            At(ms(10_000)), // the answer has 7 s left
            ended("r1", CANCELLED),
            answer("r2", "b", 1_000),
            speaks(), // changes nothing
            stops(),
            started("r3"), // the model answers by itself: must not be heard
            audio_in("r3", "c", 1_000),
            ended("r3", CANCELLED),
            echo_at(11_060, 2),
        ]
    ));
}

#[test]
fn a_failed_goodbye_is_requested_again() {
    insta::assert_snapshot!(play(vec![
        On(Event::Draining),
        fails("r1"),
        answer("r2", "b", 500),
        echo_at(560, 1),
    ]));
}

#[test]
fn a_goodbye_waits_for_the_model() {
    insta::assert_snapshot!(run(
        plan(),
        vec![
            On(Event::StreamStarted),
            On(Event::Draining),
            At(ms(500)),
            On(Event::ModelReady { endpoint: 0 }),
            answer("r1", "a", 500),
            echo_at(1_100, 1),
        ]
    ));
}

#[test]
fn a_call_that_has_almost_cost_what_it_may_is_asked_to_come_to_an_end() {
    let text = play(vec![says(), answer("r1", "a", 500), On(Event::CostNear), At(ms(1_000)), says()]);
    assert_eq!(times(&text, "TellModel(ComeToAnEnd)"), [30], "{text}");
    assert_eq!(count(&text, "Say("), 0, "nothing is said for it: {text}");
    // Another session of the model learns it, too.
    let turn = Turn::from(&Line::ComeToAnEnd);
    assert!(matches!(turn, Turn::Note(_)));
    let text = play(vec![On(Event::Draining), On(Event::CostNear)]);
    assert_eq!(count(&text, "ComeToAnEnd"), 0, "it ends anyway: {text}");
}

#[test]
fn a_call_that_has_cost_what_it_may_gets_one_goodbye() {
    let reached = || On(Event::CostReached);
    let text =
        play(vec![reached(), At(ms(500)), reached(), answer("r1", "a", 500), reached(), echo_at(1_100, 1)]);
    assert_eq!(times(&text, "Say(Goodbye(LimitCost))"), [30], "{text}");
    assert_eq!(times(&text, "End(LimitCost)"), [1_100], "{text}");
    // A caller who keeps the assistant from ending the call does not keep the call.
    let text = play(vec![says(), ends_call(2_000), At(ms(1_030)), speaks(), reached(), At(ms(12_000))]);
    assert_eq!(count(&text, "Say(Goodbye(LimitCost))"), 1, "{text}");
    assert!(text.ends_with("End(LimitCost)\n"), "{text}");
}

#[test]
fn a_caller_whose_line_broke_hears_the_goodbye_when_it_is_back() {
    let reached = || On(Event::CostReached);
    let back = || All(vec![On(Event::Returning), On(Event::Returned(Return::StreamAgain))]);
    let text = play(vec![
        On(Event::StreamLost),
        reached(),
        At(ms(2_000)),
        back(),
        answer("r1", "a", 500),
        reached(),
    ]);
    assert_eq!(times(&text, "Say(Goodbye(LimitCost))"), [2_000], "{text}");
}

#[test]
fn the_owner_ends_a_call_with_a_goodbye() {
    let text = play(vec![On(Event::OperatorEnds), At(ms(200)), On(Event::OperatorEnds), At(ms(12_000))]);
    assert_eq!(times(&text, "Say(Goodbye(OperatorEnded))").first(), Some(&30), "{text}");
    assert_eq!(times(&text, "End(OperatorEnded)"), [10_030], "{text}");
}
