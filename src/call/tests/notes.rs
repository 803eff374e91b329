//! What is noted for the record of a call.
#![expect(clippy::disallowed_methods, reason = "the first instant of a test must come from somewhere")]

use super::standby::{gone, ready};
use super::tools::plan_with_tools;
use super::transfer::{line_busy, parked, plan_with_people};
use super::*;

/// The notes of a script after the usual beginning.
fn notes(plan: Plan, script: Vec<When>) -> Vec<Note> {
    let mut run = Run::new(Instant::now(), plan);
    let connected = [On(Event::ModelReady { endpoint: 0 }), On(Event::StreamStarted), At(ms(30)), echo(0)];
    run.play(All(connected.into_iter().chain(script).collect()));
    run.notes
}

/// The tools that ended, with their milliseconds, outcome and result.
fn tools_that_ended(script: Vec<When>) -> Vec<(String, u64, &'static str, Option<String>)> {
    let ended = |note| match note {
        Note::ToolEnded { name, began, ended, outcome, result, .. } => {
            let ms = (ended - began).as_millis() as u64;
            Some((name, ms, outcome, result.map(|result| result.expose().to_owned())))
        }
        _ => None,
    };
    notes(plan_with_tools(), script).into_iter().filter_map(ended).collect()
}

#[test]
fn keys_are_noted_when_they_are_sent() {
    let pressed = |script| {
        let keys = |note| match note {
            Note::Pressed(keys) => Some(keys.expose().to_owned()),
            _ => None,
        };
        notes(plan(), script).into_iter().filter_map(keys).collect::<Vec<_>>()
    };
    assert_eq!(pressed(vec![press("12#"), press("3"), At(ms(4_000))]), ["12", "3"]);
    assert_eq!(pressed(vec![press("12")]), [""; 0], "the line is not complete");
}

#[test]
fn a_tool_is_noted_with_its_time_and_outcome() {
    let wrong = On(Event::ToolFinished {
        id: "c2".into(),
        outcome: "http_500",
        output: "It did not work.".to_owned().into(),
    });
    let ended = tools_that_ended(vec![
        started("r1"),
        tool("c1", "look_up"),
        tool_in("r1", "c2", "look_up", r#"{"name":"Ada"}"#),
        tool("c3", "no_such_tool"),
        tool_in("r1", "c4", "look_up", "{"),
        done("r1"),
        At(ms(630)),
        finished("c1"),
        finished("c1"),
        At(ms(1_030)),
        wrong,
    ]);
    let result = |text: &str| Some(text.to_owned());
    assert_eq!(
        ended,
        [
            ("no_such_tool".to_owned(), 0, "unknown", None),
            ("look_up".to_owned(), 0, "bad_arguments", None),
            ("look_up".to_owned(), 600, "ok", result("It is here.")),
            ("look_up".to_owned(), 1_000, "http_500", result("It did not work.")),
        ]
    );
}

#[test]
fn a_tool_that_is_stopped_is_noted_too() {
    let late = tools_that_ended(vec![calls("r1", "c1", "look_up"), At(Duration::from_secs(31))]);
    assert!(matches!(&late[..], [(_, ms, "timeout", None)] if *ms >= 1_000), "{late:?}");
    let hung_up = tools_that_ended(vec![
        calls("r1", "c1", "look_up"),
        started("r2"),
        On(Event::HostedStarted {
            item: "h1".into(),
            response: Some(response("r2")),
            tool: Some("crm/find".to_owned()),
        }),
        At(ms(530)),
        On(Event::CallerHungUp),
    ]);
    let names = hung_up.iter().map(|(name, ms, outcome, _)| (name.as_str(), *ms, *outcome));
    assert_eq!(names.collect::<Vec<_>>(), [("crm/find", 500, "cancelled"), ("look_up", 500, "cancelled")]);
}

#[test]
fn a_hosted_tool_is_noted_once_under_its_name() {
    let begins = |tool: Option<&str>| {
        let tool = tool.map(str::to_owned);
        On(Event::HostedStarted { item: "h1".into(), response: Some(response("r1")), tool })
    };
    let ends = |failed| On(Event::HostedEnded { item: "h1".into(), failed });
    let twice = |failed| {
        vec![
            started("r1"),
            begins(None),
            begins(Some("crm/find")),
            At(ms(430)),
            ends(failed),
            ends(failed),
            audio("a", 400),
            done("r1"),
        ]
    };
    assert_eq!(tools_that_ended(twice(false)), [("crm/find".to_owned(), 400, "ok", None)]);
    assert_eq!(tools_that_ended(twice(true)), [("crm/find".to_owned(), 400, "failed", None)]);
    assert_eq!(tools_that_ended(vec![started("r1"), begins(None), ends(false), done("r1")]), [], "no name");
}

#[test]
fn a_transfer_is_noted_when_it_begins_and_when_it_fails() {
    let transfers = |note| match note {
        Note::Transferred { target, outcome } => Some((target, outcome)),
        _ => None,
    };
    let noted = notes(plan_with_people(), vec![parked(), At(ms(9_000)), line_busy()]);
    let noted: Vec<_> = noted.into_iter().filter_map(transfers).collect();
    let desk = || "night desk".to_owned();
    assert_eq!(noted, [(desk(), "sent"), (desk(), "busy")]);
}

#[test]
fn what_is_charged_is_noted_with_its_endpoint() {
    let usage = |standby, audio_out| {
        let tokens = Tokens { audio_out, ..Tokens::default() };
        On(Event::Usage { tokens, standby })
    };
    let used = Transcribed::Seconds { seconds: 3.2 };
    let plan = Plan { fallback: vec![Arc::new(plan())], ..plan() };
    let noted = notes(
        plan,
        vec![
            says(),
            answer("r1", "a", 400),
            usage(false, 1),
            On(Event::TranscriptUsage { used, standby: false }),
            // Nothing comes, so that a second session is asked, and a third one at the other endpoint.
            says(),
            At(ms(3_000)),
            ready(0),
            usage(true, 2),
            usage(true, 3),
            On(Event::TranscriptUsage { used, standby: true }),
            At(ms(9_000)),
            ready(1),
            usage(true, 4),
            On(Event::StandbySpoke),
            usage(false, 5),
            usage(false, 6),
            answer("r2", "b", 400),
            gone(),
            ready(1),
            usage(false, 7),
            usage(false, 8),
        ],
    );
    let used = |note: &Note| match note {
        Note::Used { endpoint, tokens, replayed } => Some((*endpoint, tokens.audio_out, *replayed)),
        _ => None,
    };
    assert_eq!(
        noted.iter().filter_map(used).collect::<Vec<_>>(),
        [
            (0, 1, false),
            (0, 2, true),
            (0, 3, false),
            (1, 4, true),
            (1, 5, false),
            (1, 6, false),
            (1, 7, true),
            (1, 8, false),
        ]
    );
    let transcripts = noted.iter().filter(|note| matches!(note, Note::Transcribed { endpoint: 0, .. }));
    assert_eq!(transcripts.count(), 2);
}

#[test]
fn a_reconnect_is_noted_with_the_silence_that_it_cost() {
    let silences = |script| {
        let silence = |note| match note {
            Note::Reconnected { cause, worked, silence } => Some((cause.code(), worked, silence.as_millis())),
            _ => None,
        };
        notes(plan(), script).into_iter().filter_map(silence).collect::<Vec<_>>()
    };
    // The phone has nothing more to play after 1,030 ms; the new session is there at 1,500 ms, and speaks at 2,000 ms.
    let lost_in_an_answer = vec![
        says(),
        started("r1"),
        audio("a", 1_000),
        gone(),
        echo_at(1_030, 1),
        At(ms(1_500)),
        ready(0),
        At(ms(2_000)),
        answer("r2", "b", 400),
    ];
    let noted = silences(lost_in_an_answer);
    assert!(matches!(noted[..], [("lost", true, 900..=1_000)]), "{noted:?}");
    // Nothing was owed, so that nobody heard anything of it.
    let lost_in_a_pause =
        vec![says(), answer("r1", "a", 400), echo_at(500, 1), At(ms(5_000)), gone(), ready(0)];
    assert_eq!(silences(lost_in_a_pause), [("lost", true, 0)]);
    // The call ends before anything is heard.
    let noted = silences(vec![says(), gone(), At(ms(530)), ready(0), At(ms(1_030)), On(Event::CallerHungUp)]);
    assert!(matches!(noted[..], [("lost", true, 900..=1_000)]), "{noted:?}");
}
