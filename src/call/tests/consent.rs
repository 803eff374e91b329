//! What needs the caller's yes.

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

/// The response wants `pay`, and says nothing.
fn wants(id: &str, call: &str, arguments: &str) -> Vec<When> {
    vec![started(id), tool_in(id, call, "pay", arguments), ended(id, Outcome::Completed)]
}

/// The response speaks for 400 ms, until `until`, and wants nothing.
fn asks(id: &str, until: u64, mark: u32) -> Vec<When> {
    vec![started(id), audio_in(id, id, 400), ended(id, Outcome::Completed), At(ms(until)), echo(mark)]
}

fn play(parts: Vec<Vec<When>>) -> (usize, usize) {
    let script: Vec<When> = parts.into_iter().flatten().collect();
    let text = run_with(plan_with_care(), after(connected(), script));
    (text.matches("RunTool").count(), text.matches("Ask the caller first").count())
}

#[test]
fn what_the_caller_agreed_to_is_run_once() {
    let yes = says;
    let agreed = || vec![wants("r1", "c1", THIS), asks("r2", 500, 1), yes(), wants("r3", "c3", THIS_AGAIN)];
    assert_eq!(play(agreed()), (1, 1));
    let mut again = agreed();
    again.push(wants("r4", "c4", THIS));
    assert_eq!(play(again), (1, 2), "the next use needs a yes of its own");
    let by_key = vec![On(Event::Digit('1')), On(Event::Digit('#'))];
    assert_eq!(
        play(vec![wants("r1", "c1", THIS), asks("r2", 500, 1), by_key, wants("r3", "c3", THIS)]),
        (1, 1)
    );
}

#[test]
fn nothing_is_run_that_the_caller_was_not_asked_about() {
    let yes = says;
    let twice = vec![started("r1"), tool_in("r1", "c1", "pay", THIS), tool_in("r1", "c2", "pay", THIS)];
    let erase = vec![started("r3"), tool_in("r3", "c3", "erase", THIS), ended("r3", Outcome::Completed)];
    let aloud = vec![started("r1"), audio("a", 400), tool_in("r1", "c1", "pay", THIS)];
    let at_once = vec![started("r2"), audio_in("r2", "b", 400), speaks(), On(Event::SpeechStopped)];
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
            vec![
                aloud,
                vec![ended("r1", Outcome::Completed), At(ms(500)), echo(1)],
                yes(),
                wants("r2", "c2", THIS),
            ],
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
fn an_answer_is_to_the_question_before_it_alone() {
    let (yes, no) = (says, says);
    // "No." "Okay, I won't. Anything else?" Then the caller talks on, and it is wanted again.
    let refused = vec![
        wants("r1", "c1", THIS),
        asks("r2", 500, 1),
        no(),
        asks("r3", 950, 2),
        says(),
        wants("r4", "c4", THIS),
    ];
    assert_eq!(play(refused), (0, 2));
    // Who says yes and is told "One moment", then waits, has said yes.
    let moment =
        vec![wants("r1", "c1", THIS), asks("r2", 500, 1), yes(), asks("r3", 950, 2), wants("r4", "c4", THIS)];
    assert_eq!(play(moment), (1, 1));
    // A cough that begins with the question is no answer to it.
    let long =
        || vec![started("r2"), audio_in("r2", "b", 3_000), At(ms(300)), speaks(), On(Event::SpeechStopped)];
    let cough = || vec![wants("r1", "c1", THIS), long(), vec![ended("r2", Outcome::Cancelled)]];
    let mut once = cough();
    once.push(wants("r3", "c3", THIS));
    assert_eq!(play(once).0, 0);
    // Nor is a second one: most of the question was taken back by the first.
    let mut twice = cough();
    twice.extend([vec![At(ms(600))], says(), wants("r3", "c3", THIS)]);
    assert_eq!(play(twice), (0, 2));
}

#[test]
fn a_reply_that_is_talked_over_was_one() {
    // "No." "Okay, I w-" "And now -" "Certainly." Then the caller talks on, and it is wanted again.
    let talked_over = vec![started("r3"), audio_in("r3", "c", 3_000), At(ms(800))];
    let parts = vec![
        wants("r1", "c1", THIS),
        asks("r2", 500, 1),
        says(),
        talked_over,
        says(),
        vec![ended("r3", Outcome::Cancelled), started("r4"), audio_in("r4", "d", 400)],
        vec![ended("r4", Outcome::Completed), At(ms(5_000))],
        says(),
        wants("r6", "c6", THIS),
    ];
    assert_eq!(play(parts), (0, 2));
}

#[test]
fn a_yes_in_the_middle_of_the_question_is_one() {
    let script = vec![
        wants("r1", "c1", THIS),
        vec![started("r2"), audio_in("r2", "b", 2_000), At(ms(1_500)), On(Event::Digit('1'))],
        // It goes on after the key, then says that it sees to it.
        vec![audio_in("r2", "b", 400), ended("r2", Outcome::Completed), At(ms(4_000))],
        vec![On(Event::Digit('#'))],
        asks("r3", 5_000, 3),
        wants("r4", "c4", THIS),
    ];
    assert_eq!(play(script), (1, 1));
}

#[test]
fn what_needs_a_yes_is_not_run_by_a_response_that_is_talked_over() {
    let wait = vec![
        started("r3"),
        speaks(), // "wait, no!"
        tool_in("r3", "c3", "pay", THIS),
        ended("r3", Outcome::Cancelled),
    ];
    assert_eq!(play(vec![wants("r1", "c1", THIS), asks("r2", 500, 1), says(), wait]).0, 0);
}

#[test]
fn a_question_is_not_answered_minutes_later() {
    let mut plan = plan_with_care();
    plan.limits.silence = Duration::from_secs(600);
    let frames = |until: u64| {
        let on = || On(Event::CallerAudio(Chunk::from_ulaw(&[0xFF; 160])));
        (5..=until).step_by(4).flat_map(move |second| [At(Duration::from_secs(second)), on()]).collect()
    };
    let runs = |until: u64| {
        let parts =
            [wants("r1", "c1", THIS), asks("r2", 500, 1), frames(until), says(), wants("r3", "c3", THIS)];
        run_with(plan.clone(), after(connected(), parts.into_iter().flatten().collect())).contains("RunTool")
    };
    assert!(runs(117) && !runs(121));
}

#[test]
fn one_yes_is_for_what_was_asked_together() {
    let yes = says;
    let both = |id: &str, a: &str, b: &str| {
        vec![
            started(id),
            tool_in(id, a, "pay", THIS),
            tool_in(id, b, "pay", OTHER),
            ended(id, Outcome::Completed),
        ]
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
fn told_words_are_no_question() {
    let script = vec![
        wants("r1", "c1", THIS),
        vec![started("r2"), ended("r2", Outcome::Completed)],
        (1..31)
            .flat_map(|second| {
                let on = Event::CallerAudio(Chunk::from_ulaw(&[0xFF; 160]));
                [At(Duration::from_secs(second)), On(on)]
            })
            .collect(),
        asks("r3", 31_000, 1), // is the caller still there?
        says(),
        wants("r4", "c2", THIS),
    ];
    assert_eq!(play(script), (0, 2));
}

#[test]
fn memory_of_questions_is_bounded() {
    let mut script = vec![started("r1")];
    script.extend((0..17).map(|n| tool_in("r1", &format!("c{n}"), "pay", &format!(r#"{{"n":{n}}}"#))));
    script.push(ended("r1", Outcome::Completed));
    script.extend(asks("r2", 500, 1));
    script.extend(says());
    script.push(started("r3"));
    for n in (0..17).rev() {
        let id = format!("d{n}");
        script.push(tool_in("r3", &id, "pay", &format!(r#"{{"n":{n}}}"#)));
        script.push(On(Event::ToolFinished { id: id.as_str().into(), output: "Done.".to_owned().into() }));
    }
    assert_eq!(play(vec![script]), (16, 18), "the oldest is forgotten");
}

#[test]
fn the_hosts_questions_are_answered_by_the_same_rule() {
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
        wants("r1", "a1", "crm/find"), // needs no yes
        wants("r1", "a2", "crm/erase"),
        wants("r1", "a2", "crm/erase"), // told of twice
        wants("r1", "a3", "else/find"), // nobody knows it
        On(Event::HostedStarted { item: "h1".into(), response: Some(response("r1")) }),
        ended("r1", Outcome::Completed),
        At(ms(100)),
        On(Event::HostedEnded { item: "h1".into() }),
        started("r2"),
        audio_in("r2", "b", 400),
        ended("r2", Outcome::Completed),
        At(ms(600)),
        echo(1),
        speaks(),
        On(Event::SpeechStopped),
        started("r3"),
        wants("r3", "a4", "crm/erase"),
        ended("r3", Outcome::Completed),
        At(ms(700)),
        On(Event::HostedStarted { item: "h2".into(), response: None }),
        At(ms(800)),
        On(Event::HostedEnded { item: "h2".into() }),
    ];
    insta::assert_snapshot!(run_with(plan_with_care(), after(connected(), script)));
}
