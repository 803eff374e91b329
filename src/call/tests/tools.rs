//! Tool calls: ours, and those of the model's host.

use super::*;
use crate::assistant::plan::{Arguments, Hold, Job, Mailbox, TAKE_MESSAGE};

const SECOND: Duration = Duration::from_secs(1);

fn job() -> Work {
    Work::Job(Arc::new(Job::SendSms))
}

fn rule() -> Rule {
    Rule { timeout: 8 * SECOND, filler_after: ms(1_500), ..Rule::default() }
}

pub(super) fn plan_with_tools() -> Plan {
    let mut plan = plan();
    let mailbox = Mailbox { file: Some("messages.jsonl".to_owned()), ..Mailbox::default() };
    plan.tools.extend([
        tool_of("look_up", rule(), job()),
        tool_of("count", Rule { filler_after: ms(700), ..rule() }, job()),
        tool_of("shy", Rule { stop_on_interruption: true, ..rule() }, job()),
        tool_of(TAKE_MESSAGE, rule(), Work::Job(Arc::new(Job::TakeMessage(mailbox)))),
    ]);
    plan
}

pub(super) fn play(rest: Vec<When>) -> String {
    play_with(plan_with_tools(), rest)
}

#[test]
fn a_tool_runs_and_a_response_follows() {
    insta::assert_snapshot!(play(vec![
        started("r1"),
        tool_in("r1", "c1", "look_up", r#"{"order":"A7"}"#),
        tool_in("r1", "c1", "look_up", r#"{"order":"A7"}"#), // reported twice
        done("r1"),
        At(ms(400)),
        finished("c1"),
        finished("c1"), // reported twice
        answer("r2", "b", 400),
    ]));
}

#[test]
fn several_tools_are_one_batch_with_one_response() {
    let text = play(vec![
        started("r1"),
        tool("c1", "look_up"),
        tool("c2", "count"),
        finished("c2"), // before the other, and before the response ends
        tool("c3", "fly"),
        done("r1"),
        At(ms(500)),
        finished("c1"),
        At(ms(600)),
    ]);
    assert_eq!((count(&text, "AskForResponse"), count(&text, "AnswerTool")), (1, 3), "{text}");
    assert!(text.ends_with("500ms AskForResponse\n"), "{text}");
}

#[test]
fn the_next_response_waits_for_the_end_of_the_current_one() {
    let text = play(vec![
        started("r1"),
        tool("c1", "look_up"),
        finished("c1"),
        tool("c2", "look_up"), // the same response makes another call
        done("r1"),
        At(ms(300)),
        finished("c2"),
    ]);
    assert_eq!(count(&text, "AskForResponse"), 1, "{text}");
    assert!(text.contains("300ms AskForResponse"), "{text}");
}

#[test]
fn bad_arguments_are_answered() {
    for bad in ["[]", "7", "{\"a\"", "null", "\"{}\""] {
        let text = play(vec![started("r1"), tool_in("r1", "c1", "look_up", bad), done("r1")]);
        assert!(text.contains("Note(model.bad_arguments)") && !text.contains("RunTool"), "{bad}: {text}");
        assert_eq!((count(&text, "AnswerTool"), count(&text, "AskForResponse")), (1, 1), "{bad}: {text}");
    }
    let text = play(vec![started("r1"), tool_in("r1", "c1", "look_up", "")]);
    assert!(text.contains("RunTool"), "no arguments: {text}");
}

#[test]
fn arguments_that_do_not_fit_the_owners_schema_run_nothing() {
    let schema = serde_json::json!({"type": "object", "additionalProperties": false, "required": ["to"],
        "properties": {"to": {"type": "string", "maxLength": 4}}});
    let mut plan = plan_with_tools();
    for name in ["look_up", TAKE_MESSAGE] {
        let tool = plan.tools.iter_mut().find(|tool| tool.name == name).unwrap();
        tool.arguments = Some(Arguments::new(schema.as_object().unwrap().clone()).unwrap());
    }
    for name in ["look_up", TAKE_MESSAGE] {
        for (arguments, runs) in
            [(r#"{"to":"me"}"#, 1), ("{}", 0), (r#"{"to":"everybody"}"#, 0), (r#"{"to":"me","cc":"you"}"#, 0)]
        {
            let text = play_with(
                plan.clone(),
                vec![started("r1"), tool_in("r1", "c1", name, arguments), done("r1")],
            );
            assert_eq!(count(&text, "RunTool"), runs, "{name}: {arguments}: {text}");
            assert_eq!(count(&text, "Note(model.bad_arguments)"), 1 - runs, "{name}: {arguments}: {text}");
            assert_eq!(count(&text, "AnswerTool"), 1 - runs, "{name}: {arguments}: {text}");
        }
    }
}

#[test]
fn a_tool_that_reaches_people_is_limited_in_each_call() {
    let uses = |name: &'static str| {
        (0..8).flat_map(move |n| {
            let (response, id) = (format!("r{n}"), format!("c{n}"));
            let arguments = format!(r#"{{"n":{n}}}"#);
            [started(&response), tool_in(&response, &id, name, &arguments), done(&response), finished(&id)]
        })
    };
    let http = crate::assistant::plan::HttpCall {
        method: "POST".to_owned(),
        url: "https://example.com/".to_owned(),
        headers: Vec::new(),
        body: None,
        success: Vec::new(),
        answer: None,
        parameters: Default::default(),
        known: minijinja::Value::default(),
    };
    for (name, most) in [("look_up", 3), (TAKE_MESSAGE, 5), ("mail", 2)] {
        let mut plan = plan_with_tools();
        plan.limits.sms = 3;
        let work = Work::Job(Arc::new(Job::Http(http.clone())));
        plan.tools.push(tool_of("mail", Rule { max_per_call: 2, ..rule() }, work));
        let text = play_with(plan, uses(name).collect());
        assert_eq!(count(&text, "RunTool"), most, "{name}: {text}");
        assert_eq!(count(&text, "Note(tool.limit)"), 8 - most, "{name}: {text}");
        assert_eq!(count(&text, "AnswerTool"), 8, "{name}: {text}");
    }
}

#[test]
fn too_many_tools_at_once_are_refused() {
    let mut script = vec![started("r1")];
    script.extend((0..20).map(|n| tool_in("r1", &format!("c{n}"), "look_up", &format!(r#"{{"n":{n}}}"#))));
    let text = play(script);
    assert_eq!((count(&text, "RunTool"), count(&text, "Too many tools run at once")), (16, 4), "{text}");
}

#[test]
fn the_caller_hears_one_filler_per_batch() {
    insta::assert_snapshot!(play(vec![
        started("r1"),
        tool("c1", "look_up"),
        tool("c2", "count"), // has the shorter wait
        done("r1"),
        At(ms(1_000)),
        started("r2"),
        audio_in("r2", "b", 1_000),
        At(ms(1_200)),
        finished("c1"),
        finished("c2"), // during the filler: answered at once, spoken of afterwards
        At(ms(1_500)),
        done("r2"),
        At(ms(2_100)),
    ]));
}

#[test]
fn a_filler_waits_for_silence_and_comes_once() {
    let text = play(vec![
        started("r1"),
        audio("a", 3_000),
        tool("c1", "look_up"),
        done("r1"),
        echo_at(3_100, 1),
        answer("r2", "b", 500),
        echo_at(3_700, 2),
        At(ms(7_000)),
    ]);
    assert_eq!(count(&text, "Say(Filler)"), 1, "{text}");
    assert!(text.contains("3100ms Say(Filler)"), "after the playing audio: {text}");
}

#[test]
fn no_filler_after_the_tool_ended_or_while_the_caller_speaks() {
    let quick = play(vec![
        started("r1"),
        audio("a", 3_000),
        tool("c1", "look_up"),
        done("r1"),
        At(ms(2_000)), // it is due, but audio plays
        finished("c1"),
        answer("r2", "b", 500),
        echo_at(3_100, 1),
        At(ms(4_000)),
    ]);
    assert_eq!(count(&quick, "Say("), 0, "{quick}");
    let talks = play(vec![calls("r1", "c1", "look_up"), At(SECOND), speaks(), At(ms(4_000))]);
    assert_eq!(count(&talks, "Say("), 0, "{talks}");
}

#[test]
fn a_failed_filler_is_not_retried() {
    let text =
        play(vec![calls("r1", "c1", "look_up"), At(2 * SECOND), fails("r2"), At(3 * SECOND), finished("c1")]);
    assert_eq!((count(&text, "Say(Filler)"), count(&text, "AskForResponse")), (1, 1), "{text}");
    assert!(text.contains("3000ms AskForResponse"), "{text}");
}

#[test]
fn a_tool_that_takes_too_long_is_stopped() {
    insta::assert_snapshot!(play(vec![
        calls("r1", "c1", "look_up"),
        At(2 * SECOND),
        silent("r2"),
        At(9 * SECOND),
        silent("r3"),
        finished("c1"),
    ]));
}

#[test]
fn progress_extends_a_tools_time_up_to_a_limit() {
    let mut script = vec![calls("r1", "c1", "look_up")];
    for seconds in (2..40).step_by(6) {
        script.extend([At(seconds * SECOND), On(Event::ToolWorking("c1".into()))]);
        script.push(frame());
        if seconds == 2 {
            script.extend([silent("r2")]);
        }
    }
    let text = play(script);
    assert!(text.contains("32030ms StopTool"), "four timeouts after it began: {text}");
}

#[test]
fn speech_stops_only_the_tools_that_the_plan_stops() {
    insta::assert_snapshot!(play(vec![
        started("r1"),
        audio("a", 2_000),
        tool("c1", "shy"),
        tool("c2", "look_up"),
        At(ms(500)),
        speaks(),
        tool("c3", "shy"), // from the interrupted response
        tool("c4", "look_up"),
        ended("r1", CANCELLED),
        stops(),
        answer("r2", "b", 200),
        At(ms(900)),
        finished("c2"),
        finished("c4"),
    ]));
}

#[test]
fn the_models_own_turn_covers_a_result_that_came_during_speech() {
    let text = play(vec![
        calls("r1", "c1", "look_up"),
        At(ms(200)),
        speaks(),
        At(ms(400)),
        finished("c1"),
        At(ms(600)),
        stops(),
        answer("r2", "b", 200),
        At(ms(900)),
    ]);
    assert_eq!(count(&text, "AskForResponse"), 0, "{text}");
    assert!(text.contains("400ms AnswerTool"), "at once: {text}");
}

#[test]
fn silence_does_not_count_while_a_tool_runs() {
    let mut plan = plan_with_tools();
    plan.limits.silence = 4 * SECOND;
    let script = vec![
        calls("r1", "c1", "look_up"),
        At(2 * SECOND),
        answer("r2", "b", 100),
        echo_at(2_200, 1),
        At(7 * SECOND),
    ];
    let text = play_with(plan, script);
    assert_eq!(count(&text, "Say(CheckCaller)"), 0, "{text}");
}

#[test]
fn the_servers_goodbye_stops_tools_but_not_messages() {
    let text = play(vec![
        started("r1"),
        tool("c1", "look_up"),
        tool("c2", TAKE_MESSAGE),
        done("r1"),
        At(ms(100)),
        On(Event::Draining),
        tool("c3", "look_up"),
        answer("r2", "b", 100),
        echo_at(250, 1),
    ]);
    assert!(text.contains(r#"StopTool(ToolCallId("c1"), Cancelled)"#), "{text}");
    assert!(!text.contains(r#"StopTool(ToolCallId("c2")"#), "the message is delivered: {text}");
    assert_eq!((count(&text, "AnswerTool"), count(&text, "AskForResponse")), (2, 0), "{text}");
    assert!(text.ends_with("End(ServerDraining)\n"), "{text}");
}

#[test]
fn the_end_stops_running_tools() {
    let text = play(vec![started("r1"), tool("c1", "look_up"), On(Event::CallerHungUp), finished("c1")]);
    let end = "HangUp\n     30ms End(CallerHungUp)\n";
    assert!(
        text.ends_with(&format!("30ms StopTool(ToolCallId(\"c1\"), Cancelled)\n     30ms {end}")),
        "{text}"
    );
}

#[test]
fn the_model_cannot_end_a_call_that_has_just_begun() {
    let bye = |after_what: Vec<When>| {
        let mut script = after_what;
        script.extend([ends_call(100)]);
        let text = play(script);
        text.contains("The call has only just begun")
    };
    assert!(bye(vec![At(ms(4_900))]));
    assert!(!bye(vec![At(ms(5_000))]));
    assert!(!bye(vec![At(ms(500)), says()]), "the caller has spoken");
    assert!(!bye(vec![At(ms(500)), press("1")]), "or pressed a key");
}

#[test]
fn a_response_follows_when_a_hosted_tool_and_its_response_have_ended() {
    let newer = play(vec![
        started("r1"),
        hosted("h1"),
        done("r1"),
        At(ms(300)),
        hosted_ended("h1"),
        hosted_ended("h1"),
    ]);
    assert_eq!(count(&newer, "AskForResponse"), 1, "{newer}");
    assert!(newer.contains("300ms AskForResponse"), "{newer}");
    let older =
        play(vec![started("r1"), hosted("h1"), At(ms(300)), hosted_ended("h1"), At(ms(400)), done("r1")]);
    assert_eq!(count(&older, "AskForResponse"), 1, "{older}");
    assert!(older.contains("400ms AskForResponse"), "{older}");
    let spoken = play(vec![
        started("r1"),
        hosted("h1"),
        At(ms(300)),
        hosted_ended("h1"),
        audio("a", 400),
        done("r1"),
        At(ms(900)),
    ]);
    assert_eq!(count(&spoken, "AskForResponse"), 0, "it has spoken since: {spoken}");
}

#[test]
fn a_hosted_tool_outside_any_response_needs_a_response_of_its_own() {
    let outside = || On(Event::HostedStarted { item: "h1".into(), response: None, tool: None });
    let busy = play(vec![
        started("r1"),
        outside(),
        At(ms(300)),
        hosted_ended("h1"),
        audio("a", 400),
        At(ms(400)),
        done("r1"),
        At(ms(900)),
    ]);
    assert_eq!(count(&busy, "AskForResponse"), 1, "{busy}");
    let cut = play(vec![started("r1"), outside(), ended("r1", CANCELLED), At(ms(300)), hosted_ended("h1")]);
    assert!(cut.contains("300ms AskForResponse"), "it outlives the cancelled response: {cut}");
}

#[test]
fn hosted_tools_and_ours_are_one_batch() {
    let text = play(vec![
        started("r1"),
        hosted("h1"),
        hosted("h2"),
        tool("c1", "look_up"),
        done("r1"),
        At(ms(200)),
        hosted_ended("h2"),
        At(ms(300)),
        finished("c1"),
        At(ms(400)),
        hosted_ended("h1"),
    ]);
    assert_eq!(count(&text, "AskForResponse"), 1, "{text}");
    assert!(text.ends_with("400ms AskForResponse\n"), "{text}");
}

#[test]
fn a_hosted_tool_that_never_ends_times_out() {
    let mut script = vec![started("r1"), hosted("h1"), done("r1"), At(2 * SECOND), started("r2")];
    script.extend([audio_in("r2", "b", 100), done("r2"), echo_at(2_200, 1)]);
    for second in (4..32).step_by(4) {
        script.extend([At(second * SECOND), frame()]);
    }
    script.push(At(31 * SECOND));
    let text = play(script);
    assert_eq!((count(&text, "Say(Filler)"), count(&text, "Note(tool.timeout)")), (1, 1), "{text}");
    assert!(text.contains("30030ms Say(ToolTimedOut)"), "{text}");
}

#[test]
fn a_response_that_waits_for_a_hosted_tool_has_not_stalled() {
    let script = vec![started("r1"), hosted("h1"), At(ms(14_000)), hosted_ended("h1"), audio("a", 100)];
    let text = play(script);
    assert!(text.contains("PlayToCaller") && !text.contains("End("), "{text}");
}

#[test]
fn text_that_looks_like_a_tool_call_is_counted() {
    let plan = plan_with_tools();
    for (text, is_call) in [
        (r#"{"name": "look_up", "arguments": {"order": "A7"}}"#, true),
        ("look_up(order=7)", true),
        ("Let me call look_up {\"order\": 7}", true),
        ("<tool_call>x</tool_call>", true),
        ("functions.look_up", true),
        ("I could look_up that for you.", false),
        ("Let us recount (it is quick).", false),
        ("It has many functions. Which one do you want?", false),
        ("Hello, this is the clinic.", false),
    ] {
        let said = Event::Transcript { who: Who::Assistant, item: "a".into(), text: text.to_owned().into() };
        let text = play_with(plan.clone(), vec![On(said)]);
        assert_eq!(count(&text, "Note(model.wrote_call)") == 1, is_call, "{text}");
    }
}

#[test]
fn a_tool_that_already_runs_is_not_started_again() {
    let text = play(vec![
        started("r1"),
        tool_in("r1", "c1", "look_up", r#"{"order":"A7"}"#),
        done("r1"),
        started("r2"),
        tool_in("r2", "c2", "look_up", r#"{"order":"A7"}"#),
        tool_in("r2", "c3", "look_up", r#"{"order":"B8"}"#),
        done("r2"),
    ]);
    assert_eq!((count(&text, "RunTool"), count(&text, "being done already")), (2, 1), "{text}");
}

#[test]
fn the_assistants_goodbye_waits_for_tools_and_messages() {
    let goodbye = |tool_name: &str| {
        play(vec![
            says(),
            started("r1"),
            audio("a", 400),
            tool("c1", tool_name),
            tool("c2", END_CALL),
            done("r1"),
            echo_at(900, 1),
            At(ms(2_000)),
            finished("c1"),
            At(ms(2_100)),
        ])
    };
    let text = goodbye("look_up");
    assert!(text.contains("2000ms End(AssistantEnded)"), "{text}");
    assert_eq!(count(&text, "StopTool"), 0, "{text}");
    let text = goodbye(TAKE_MESSAGE);
    assert_eq!((count(&text, "still being delivered"), count(&text, "End(")), (1, 0), "{text}");
}

#[test]
fn a_model_that_only_calls_tools_must_report_at_last() {
    let round = |n: usize| {
        let (id, call) = (format!("r{n}"), format!("c{n}"));
        vec![started(&id), tool_in(&id, &call, "nothing_like_it", "{}"), done(&id)]
    };
    let text = play((1..10).flat_map(round).collect());
    assert_eq!((count(&text, "AskForResponse"), count(&text, "Say(StatusUpdate)")), (6, 3), "{text}");
}

#[test]
fn a_tool_call_id_may_repeat_in_another_response() {
    let text = play(vec![
        calls("r1", "call_0", "look_up"),
        finished("call_0"),
        started("r2"),
        tool_in("r2", "call_0", "count", "{}"),
        tool_in("r2", "call_0", "count", "{}"), // reported twice
        done("r2"),
        finished("call_0"),
    ]);
    assert_eq!((count(&text, "RunTool"), count(&text, "AnswerTool")), (2, 2), "{text}");
    assert_eq!(count(&text, "AskForResponse"), 2, "{text}");
}

#[test]
fn a_hosted_tool_that_is_reported_early_belongs_to_its_response() {
    let text = play(vec![
        started("r1"),
        On(Event::HostedStarted { item: "h1".into(), response: None, tool: None }),
        hosted("h1"),
        At(ms(300)),
        hosted_ended("h1"),
        audio("a", 400),
        done("r1"),
        At(ms(900)),
    ]);
    assert_eq!(count(&text, "AskForResponse"), 0, "it has spoken since: {text}");
}

#[test]
fn while_a_tool_runs_the_caller_hears_what_the_file_says() {
    let music = Arc::new(Clip { ulaw: (0..6_000_u32).map(|n| (n % 100) as u8).collect::<Vec<_>>().into() });
    let holds = [Hold::Tone, Hold::None, Hold::Recording(music.clone())];
    for (all, own) in holds.iter().flat_map(|all| holds.iter().map(move |own| (all, own))) {
        for own in [None, Some(own.clone())] {
            let mut plan = plan_with_tools();
            plan.hold = all.clone();
            plan.tools.iter_mut().for_each(|tool| tool.rule.hold = own.clone());
            let mut run = Run::new(Instant::now(), plan);
            run.phone = Some(inputs::Phone::default());
            run.play(All(vec![On(Event::ModelReady { endpoint: 0 }), On(Event::StreamStarted)]));
            let filler = answer("filler", "f", 400);
            run.play(All(vec![calls("r1", "c1", "look_up"), At(ms(1_600)), filler, At(ms(9_000))]));
            let before = run.text.len();
            // The first word ends it at once.
            run.play(All(vec![finished("c1"), started("r2"), audio_in("r2", "b", 400)]));
            let expected = own.as_ref().unwrap_or(all);
            let played = count(&run.text[..before], "PlayToCaller(7998B)");
            assert_eq!(played > 3, *expected != Hold::None, "{all:?} {own:?}: {played}");
            assert!(played <= 8, "it is paced: {played}");
            let clears = run.text[before..].find("ClearCaller");
            assert_eq!(clears.is_some(), *expected != Hold::None, "{all:?} {own:?}");
            assert!(clears < run.text[before..].find("PlayToCaller(400ms)"));
        }
    }
}
