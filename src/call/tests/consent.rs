//! Tool calls that need the caller's consent.

use super::*;
use crate::assistant::plan::{AskFirst, Hosted, Job};

fn plan_with_care() -> Plan {
    let mut plan = plan();
    let rule = Rule { ask_first: true, ..Rule::default() };
    let job = || Work::Job(Arc::new(Job::SendSms));
    plan.tools.extend([tool_of("pay", rule.clone(), job()), tool_of("erase", rule, job())]);
    plan.hosted = vec![Hosted {
        label: "crm".to_owned(),
        url: "https://mcp.example.com".to_owned(),
        authorization: None,
        headers: Vec::new(),
        allowed: None,
        ask_first: AskFirst::Of(vec!["erase".to_owned()]),
    }];
    plan
}

const SAME: &str = r#"{"sum":7,"to":{"a":1,"b":2}}"#;
const SAME_REORDERED: &str = r#"{ "to": {"b":2, "a":1}, "sum":7 }"#;
const OTHER: &str = r#"{"sum":700,"to":{"a":1,"b":2}}"#;

/// A silent response calls `pay`.
fn pays(id: &str, call: &str, arguments: &str) -> When {
    All(vec![started(id), tool_in(id, call, "pay", arguments), done(id)])
}

/// A response speaks for 400 ms, until `until`, and calls no tool.
fn asks(id: &str, until: u64, mark: u32) -> When {
    All(vec![answer(id, id, 400), echo_at(until, mark)])
}

/// The first response calls `pay`, and the second asks the caller.
fn question() -> When {
    All(vec![pays("r1", "c1", SAME), asks("r2", 500, 1)])
}

/// How many tools ran, and how often the model was told to ask.
fn play(script: Vec<When>) -> (usize, usize) {
    let text = play_with(plan_with_care(), script);
    (count(&text, "RunTool"), count(&text, "Ask the caller first"))
}

#[test]
fn consent_is_good_for_one_call() {
    assert_eq!(play(vec![question(), says(), pays("r3", "c3", SAME_REORDERED)]), (1, 1));
    assert_eq!(play(vec![question(), press("1#"), pays("r3", "c3", SAME)]), (1, 1));
    let twice = vec![question(), says(), pays("r3", "c3", SAME), pays("r4", "c4", SAME)];
    assert_eq!(play(twice), (1, 2), "the next call needs consent of its own");
}

#[test]
fn nothing_runs_without_a_question_and_an_answer() {
    let pay = |id: &str| tool_in("r1", id, "pay", SAME);
    let erase = All(vec![started("r3"), tool_in("r3", "c3", "erase", SAME), done("r3")]);
    let aloud = All(vec![started("r1"), audio("a", 400), pay("c1"), done("r1"), echo_at(500, 1)]);
    let unheard = vec![started("r2"), audio_in("r2", "b", 400), says(), ended("r2", CANCELLED)];
    for (what, script) in [
        ("twice in a response", vec![started("r1"), pay("c1"), pay("c2")]),
        ("no answer", vec![question(), pays("r3", "c3", SAME)]),
        ("other arguments", vec![question(), says(), pays("r3", "c3", OTHER)]),
        ("another tool", vec![question(), says(), erase]),
        ("an early answer", vec![pays("r1", "c1", SAME), says(), asks("r2", 500, 1), pays("r3", "c3", SAME)]),
        ("no question", vec![pays("r1", "c1", SAME), says(), pays("r2", "c2", SAME)]),
        ("words before the call only", vec![aloud, says(), pays("r2", "c2", SAME)]),
        ("an unheard question", vec![pays("r1", "c1", SAME), All(unheard), pays("r3", "c3", SAME)]),
    ] {
        let (run, asked) = play(script);
        assert_eq!(run, 0, "{what}");
        assert!(asked >= 1, "{what}");
    }
}

#[test]
fn an_answer_counts_only_for_the_question_before_it() {
    // "No." "Okay, I won't. Anything else?" The caller talks on, and the model calls it again.
    let refused = vec![question(), says(), asks("r3", 950, 2), says(), pays("r4", "c4", SAME)];
    assert_eq!(play(refused), (0, 2));
    // "Yes." "One moment." Then the model calls it.
    assert_eq!(play(vec![question(), says(), asks("r3", 950, 2), pays("r4", "c4", SAME)]), (1, 1));
    // A cough at the start of the question is no answer.
    let cough = || {
        let asks = [started("r2"), audio_in("r2", "b", 3_000), At(ms(300)), says()];
        let script = [pays("r1", "c1", SAME)].into_iter().chain(asks);
        All(script.chain([ended("r2", CANCELLED)]).collect())
    };
    assert_eq!(play(vec![cough(), pays("r3", "c3", SAME)]).0, 0);
    // Nor is a second one: the first cut most of the question off.
    assert_eq!(play(vec![cough(), At(ms(600)), says(), pays("r3", "c3", SAME)]), (0, 2));
}

#[test]
fn an_interrupted_reply_still_counts_as_a_reply() {
    // "No." "Okay, I w-" "And now -" "Certainly." The caller talks on, and the model calls it again.
    let script = vec![
        question(),
        says(),
        started("r3"),
        audio_in("r3", "c", 3_000),
        At(ms(800)),
        says(),
        ended("r3", CANCELLED),
        answer("r4", "d", 400),
        At(ms(5_000)),
        says(),
        pays("r6", "c6", SAME),
    ];
    assert_eq!(play(script), (0, 2));
}

#[test]
fn the_caller_may_answer_in_the_middle_of_the_question() {
    let script = vec![
        pays("r1", "c1", SAME),
        started("r2"),
        audio_in("r2", "b", 2_000),
        At(ms(1_500)),
        press("1"),
        audio_in("r2", "b", 400), // it goes on after the key
        done("r2"),
        At(ms(4_000)),
        press("#"),
        asks("r3", 5_000, 3), // "One moment."
        pays("r4", "c4", SAME),
    ];
    assert_eq!(play(script), (1, 1));
}

#[test]
fn an_interrupted_response_cannot_run_what_needs_consent() {
    let interrupted = [speaks(), tool_in("r3", "c3", "pay", SAME), ended("r3", CANCELLED)];
    let script = [question(), says(), started("r3")].into_iter().chain(interrupted).collect();
    assert_eq!(play(script).0, 0);
}

#[test]
fn consent_expires() {
    let mut plan = plan_with_care();
    plan.limits.silence = Duration::from_secs(600);
    let runs = |until: u64| {
        let script = vec![question(), wait(5, until), says(), pays("r3", "c3", SAME)];
        play_with(plan.clone(), script).contains("RunTool")
    };
    assert!(runs(117) && !runs(121));
}

#[test]
fn one_yes_covers_what_was_asked_together() {
    let both = |id: &str, a: &str, b: &str| {
        All(vec![started(id), tool_in(id, a, "pay", SAME), tool_in(id, b, "pay", OTHER), done(id)])
    };
    let together = vec![both("r1", "c1", "c2"), asks("r2", 500, 1), says(), both("r3", "c3", "c4")];
    assert_eq!(play(together), (2, 2));
    let separately = [pays("r1", "c1", SAME), pays("r2", "c2", OTHER), asks("r3", 500, 1), says()];
    assert_eq!(play(separately.into_iter().chain([both("r4", "c3", "c4")]).collect()), (1, 3));
}

#[test]
fn dictated_words_are_not_a_question() {
    let asks_nothing = All(vec![started("r2"), ended("r2", Outcome::Cancelled(By::Us))]);
    let are_you_still_there = asks("r3", 31_500, 1);
    let script = vec![pays("r1", "c1", SAME), asks_nothing, wait(3, 31), are_you_still_there, says()];
    assert_eq!(play(script.into_iter().chain([pays("r4", "c2", SAME)]).collect()), (0, 2));
}

#[test]
fn the_oldest_question_is_forgotten() {
    let pay = |response: &str, id: &str, n: usize| tool_in(response, id, "pay", &format!(r#"{{"n":{n}}}"#));
    let mut script = vec![started("r1")];
    script.extend((0..17).map(|n| pay("r1", &format!("c{n}"), n)));
    script.extend([done("r1"), asks("r2", 500, 1), says(), started("r3")]);
    for n in (0..17).rev() {
        let id = format!("d{n}");
        script.extend([pay("r3", &id, n), finished(&id)]);
    }
    assert_eq!(play(script), (16, 18));
}

#[test]
fn hosted_tools_need_the_same_consent() {
    let requests = |in_response: &str, id: &str, tool: &str| {
        On(Event::ApprovalRequested {
            id: id.into(),
            tool: tool.to_owned(),
            arguments: SAME.to_owned().into(),
            response: response(in_response),
        })
    };
    let script = vec![
        started("r1"),
        requests("r1", "a1", "crm/find"), // needs no consent
        requests("r1", "a2", "crm/erase"),
        requests("r1", "a2", "crm/erase"), // reported twice
        requests("r1", "a3", "else/find"), // unknown
        hosted("h1"),
        done("r1"),
        At(ms(100)),
        hosted_ended("h1"),
        answer("r2", "b", 400),
        echo_at(600, 1),
        says(),
        started("r3"),
        requests("r3", "a4", "crm/erase"),
        done("r3"),
        At(ms(700)),
        On(Event::HostedStarted { item: "h2".into(), response: None, tool: None }),
        At(ms(800)),
        hosted_ended("h2"),
    ];
    insta::assert_snapshot!(play_with(plan_with_care(), script));
}
