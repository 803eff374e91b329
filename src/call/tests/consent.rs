//! Tool calls that need the caller's consent.

use super::*;
use crate::assistant::plan::{AskFirst, Hosted, Job};

fn plan_with_care() -> Plan {
    let mut plan = plan();
    let rule = Rule { ask_first: true, ..Rule::default() };
    let job = || Work::Job(Arc::new(Job::SendSms));
    plan.tools.extend([tool_of("pay", rule, job()), tool_of("erase", rule, job())]);
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

const THIS: &str = r#"{"sum":7,"to":{"a":1,"b":2}}"#;
const THIS_AGAIN: &str = r#"{ "to": {"b":2, "a":1}, "sum":7 }"#;
const OTHER: &str = r#"{"sum":700,"to":{"a":1,"b":2}}"#;

/// The response calls `pay`, and says nothing.
fn wants(id: &str, call: &str, arguments: &str) -> Vec<When> {
    vec![started(id), tool_in(id, call, "pay", arguments), done(id)]
}

/// The response speaks for 400 ms, until `until`, and calls no tool.
fn asks(id: &str, until: u64, mark: u32) -> Vec<When> {
    vec![started(id), audio_in(id, id, 400), done(id), At(ms(until)), echo(mark)]
}

fn play(parts: Vec<Vec<When>>) -> (usize, usize) {
    let script: Vec<When> = parts.into_iter().flatten().collect();
    let text = play_with(plan_with_care(), script);
    (count(&text, "RunTool"), count(&text, "Ask the caller first"))
}

#[test]
fn consent_is_good_for_one_call() {
    let yes = says;
    let agreed = || vec![wants("r1", "c1", THIS), asks("r2", 500, 1), yes(), wants("r3", "c3", THIS_AGAIN)];
    assert_eq!(play(agreed()), (1, 1));
    let mut again = agreed();
    again.push(wants("r4", "c4", THIS));
    assert_eq!(play(again), (1, 2), "the next call needs consent of its own");
    let by_key = vec![key('1'), key('#')];
    assert_eq!(
        play(vec![wants("r1", "c1", THIS), asks("r2", 500, 1), by_key, wants("r3", "c3", THIS)]),
        (1, 1)
    );
}

#[test]
fn nothing_runs_without_a_question_and_an_answer() {
    let yes = says;
    let twice = vec![started("r1"), tool_in("r1", "c1", "pay", THIS), tool_in("r1", "c2", "pay", THIS)];
    let erase = vec![started("r3"), tool_in("r3", "c3", "erase", THIS), done("r3")];
    let aloud = vec![started("r1"), audio("a", 400), tool_in("r1", "c1", "pay", THIS)];
    let at_once = vec![started("r2"), audio_in("r2", "b", 400), speaks(), stops()];
    for (what, parts) in [
        ("twice in a response", vec![twice]),
        ("no word of the caller", vec![wants("r1", "c1", THIS), asks("r2", 500, 1), wants("r3", "c3", THIS)]),
        (
            "other arguments",
            vec![wants("r1", "c1", THIS), asks("r2", 500, 1), yes(), wants("r3", "c3", OTHER)],
        ),
        ("another tool", vec![wants("r1", "c1", THIS), asks("r2", 500, 1), yes(), erase]),
        (
            "the yes came before the question",
            vec![wants("r1", "c1", THIS), yes(), asks("r2", 500, 1), wants("r3", "c3", THIS)],
        ),
        ("nothing was asked", vec![wants("r1", "c1", THIS), yes(), wants("r2", "c2", THIS)]),
        (
            "what was said, was said before",
            vec![aloud, vec![done("r1"), At(ms(500)), echo(1)], yes(), wants("r2", "c2", THIS)],
        ),
        (
            "nothing of the question was heard",
            vec![
                wants("r1", "c1", THIS),
                at_once,
                vec![ended("r2", Outcome::Cancelled)],
                wants("r3", "c3", THIS),
            ],
        ),
    ] {
        let (run, asked) = play(parts);
        assert_eq!(run, 0, "{what}");
        assert!(asked >= 1, "{what}");
    }
}

#[test]
fn an_answer_counts_only_for_the_question_before_it() {
    let (yes, no) = (says, says);
    // "No." "Okay, I won't. Anything else?" The caller talks on, and the model calls it again.
    let refused = vec![
        wants("r1", "c1", THIS),
        asks("r2", 500, 1),
        no(),
        asks("r3", 950, 2),
        says(),
        wants("r4", "c4", THIS),
    ];
    assert_eq!(play(refused), (0, 2));
    // "Yes." "One moment." Then the model calls it.
    let moment =
        vec![wants("r1", "c1", THIS), asks("r2", 500, 1), yes(), asks("r3", 950, 2), wants("r4", "c4", THIS)];
    assert_eq!(play(moment), (1, 1));
    // A cough at the start of the question is no answer.
    let long = || vec![started("r2"), audio_in("r2", "b", 3_000), At(ms(300)), speaks(), stops()];
    let cough = || vec![wants("r1", "c1", THIS), long(), vec![ended("r2", Outcome::Cancelled)]];
    let mut once = cough();
    once.push(wants("r3", "c3", THIS));
    assert_eq!(play(once).0, 0);
    // Nor is a second one: the first cut most of the question off.
    let mut twice = cough();
    twice.extend([vec![At(ms(600))], says(), wants("r3", "c3", THIS)]);
    assert_eq!(play(twice), (0, 2));
}

#[test]
fn an_interrupted_reply_still_counts_as_a_reply() {
    // "No." "Okay, I w-" "And now -" "Certainly." The caller talks on, and the model calls it again.
    let talked_over = vec![started("r3"), audio_in("r3", "c", 3_000), At(ms(800))];
    let parts = vec![
        wants("r1", "c1", THIS),
        asks("r2", 500, 1),
        says(),
        talked_over,
        says(),
        vec![ended("r3", Outcome::Cancelled), started("r4"), audio_in("r4", "d", 400)],
        vec![done("r4"), At(ms(5_000))],
        says(),
        wants("r6", "c6", THIS),
    ];
    assert_eq!(play(parts), (0, 2));
}

#[test]
fn the_caller_may_answer_in_the_middle_of_the_question() {
    let script = vec![
        wants("r1", "c1", THIS),
        vec![started("r2"), audio_in("r2", "b", 2_000), At(ms(1_500)), key('1')],
        // It goes on after the key, then says that it will do it.
        vec![audio_in("r2", "b", 400), done("r2"), At(ms(4_000))],
        vec![key('#')],
        asks("r3", 5_000, 3),
        wants("r4", "c4", THIS),
    ];
    assert_eq!(play(script), (1, 1));
}

#[test]
fn an_interrupted_response_cannot_run_what_needs_consent() {
    let wait = vec![
        started("r3"),
        speaks(), // "wait, no!"
        tool_in("r3", "c3", "pay", THIS),
        ended("r3", Outcome::Cancelled),
    ];
    assert_eq!(play(vec![wants("r1", "c1", THIS), asks("r2", 500, 1), says(), wait]).0, 0);
}

#[test]
fn consent_expires() {
    let mut plan = plan_with_care();
    plan.limits.silence = Duration::from_secs(600);
    let runs = |until: u64| {
        let parts =
            [wants("r1", "c1", THIS), asks("r2", 500, 1), wait(5, until), says(), wants("r3", "c3", THIS)];
        play_with(plan.clone(), parts.into_iter().flatten().collect()).contains("RunTool")
    };
    assert!(runs(117) && !runs(121));
}

#[test]
fn one_yes_covers_what_was_asked_together() {
    let yes = says;
    let both = |id: &str, a: &str, b: &str| {
        vec![started(id), tool_in(id, a, "pay", THIS), tool_in(id, b, "pay", OTHER), done(id)]
    };
    let together = vec![both("r1", "c1", "c2"), asks("r2", 500, 1), yes(), both("r3", "c3", "c4")];
    assert_eq!(play(together), (2, 2));
    let apart = vec![
        wants("r1", "c1", THIS),
        wants("r2", "c2", OTHER),
        asks("r3", 500, 1),
        yes(),
        both("r4", "c3", "c4"),
    ];
    assert_eq!(play(apart), (1, 3));
}

#[test]
fn dictated_words_are_not_a_question() {
    let script = vec![
        wants("r1", "c1", THIS),
        vec![started("r2"), done("r2")],
        wait(3, 31),
        asks("r3", 31_500, 1), // "Are you still there?"
        says(),
        wants("r4", "c2", THIS),
    ];
    assert_eq!(play(script), (0, 2));
}

#[test]
fn the_oldest_question_is_forgotten() {
    let mut script = vec![started("r1")];
    script.extend((0..17).map(|n| tool_in("r1", &format!("c{n}"), "pay", &format!(r#"{{"n":{n}}}"#))));
    script.push(done("r1"));
    script.extend(asks("r2", 500, 1));
    script.extend(says());
    script.push(started("r3"));
    for n in (0..17).rev() {
        let id = format!("d{n}");
        script.push(tool_in("r3", &id, "pay", &format!(r#"{{"n":{n}}}"#)));
        script.push(finished(&id));
    }
    assert_eq!(play(vec![script]), (16, 18), "the oldest is forgotten");
}

#[test]
fn hosted_tools_need_the_same_consent() {
    let wants = |in_response: &str, id: &str, tool: &str| {
        On(Event::ApprovalRequested {
            id: id.into(),
            tool: tool.to_owned(),
            arguments: THIS.to_owned().into(),
            response: response(in_response),
        })
    };
    let script = vec![
        started("r1"),
        wants("r1", "a1", "crm/find"), // needs no consent
        wants("r1", "a2", "crm/erase"),
        wants("r1", "a2", "crm/erase"), // reported twice
        wants("r1", "a3", "else/find"), // unknown
        On(Event::HostedStarted { item: "h1".into(), response: Some(response("r1")) }),
        done("r1"),
        At(ms(100)),
        On(Event::HostedEnded { item: "h1".into() }),
        started("r2"),
        audio_in("r2", "b", 400),
        done("r2"),
        At(ms(600)),
        echo(1),
        speaks(),
        stops(),
        started("r3"),
        wants("r3", "a4", "crm/erase"),
        done("r3"),
        At(ms(700)),
        On(Event::HostedStarted { item: "h2".into(), response: None }),
        At(ms(800)),
        On(Event::HostedEnded { item: "h2".into() }),
    ];
    insta::assert_snapshot!(play_with(plan_with_care(), script));
}
