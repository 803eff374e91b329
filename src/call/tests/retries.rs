//! Requests that are refused and responses that are cut off or say nothing: what the call retries.

use super::tools::play;
use super::*;
use crate::assistant::plan::TAKE_MESSAGE;

#[test]
fn a_silent_goodbye_is_requested_once_more() {
    let script = || vec![says(), calls("r1", "c1", END_CALL), calls("r2", "c2", END_CALL)];
    let text = play(script());
    assert_eq!((count(&text, "Say(Goodbye"), count(&text, "End(")), (2, 0), "{text}");
    let text = play(vec![All(script()), silent("r3")]);
    assert_eq!(count(&text, "Say(Goodbye"), 2, "{text}");
    assert!(text.ends_with("30ms End(AssistantEnded)\n"), "{text}");
}

#[test]
fn a_refused_request_is_repeated_once_after_a_pause() {
    let refused = || On(Event::ModelFault(Fault::new(About::Request, Failure::default())));
    let asked = || All(vec![press("1#"), refused()]);
    let text = play(vec![asked(), At(ms(1_000))]);
    assert_eq!(count(&text, "AskForResponse"), 1, "{text}");
    let text = play(vec![asked(), At(ms(1_100)), answer("r1", "a", 100), At(ms(2_400))]);
    assert!(text.contains("1030ms AskForResponse") && !text.contains("End("), "{text}");
    let text = play(vec![asked(), At(ms(1_100)), refused(), At(ms(3_000)), At(ms(3_200))]);
    assert!(text.contains("3100ms AskForResponse") && !text.contains("End("), "with growing pauses: {text}");
    let text = play(vec![On(Event::Draining), refused(), At(ms(1_100))]);
    assert!(text.ends_with("1030ms Say(Goodbye(ServerDraining))\n"), "{text}");
    // We asked because the model did not answer by itself.
    let text = play(vec![says(), At(ms(1_600)), refused(), At(ms(2_700))]);
    assert!(text.contains("2600ms AskForResponse\n"), "{text}");
    // The caller has spoken since, and the model answers them instead.
    let text = play(vec![asked(), says(), refused(), started("r1"), At(ms(2_000))]);
    assert!(!text.contains("End("), "{text}");
}

#[test]
fn a_retry_pause_ends_once() {
    let start = Instant::now();
    let mut call = Call::new(Arc::new(plan()));
    let mut out = Vec::new();
    let refused = [
        Event::Digit('1'),
        Event::Digit('#'),
        Event::ModelFault(Fault::new(About::Request, Failure::default())),
    ];
    // Meanwhile another response is discarded, and its end is never reported.
    let discarded = [
        Event::ResponseStarted { response: response("r1"), origin: Origin::Unknown },
        Event::SpeechStarted(ItemId::from("u")),
    ];
    for event in
        [Event::ModelReady { endpoint: 0 }, Event::StreamStarted].into_iter().chain(refused).chain(discarded)
    {
        call.handle(event, start, &mut out);
    }
    while let Some((due, _)) = call.deadline().filter(|(due, _)| *due <= start + ms(5_000)) {
        call.handle_timeout(due, &mut out);
        let next = call.deadline().map(|(next, _)| next);
        assert!(next.is_none_or(|next| next > due), "it is due again at once");
    }
}

#[test]
fn a_refusal_does_not_cancel_the_answer_that_is_due() {
    // The refused request was replaced by the caller's turn, or was a nudge.
    let busy = || On(Event::ModelFault(Fault::new(About::Other, Cause::Conflict)));
    for at in [30, 1_600] {
        let text = play(vec![press("1#"), says(), At(ms(at)), busy(), answer("r1", "a", 400), At(ms(2_400))]);
        assert_eq!(count(&text, "AskForResponse"), if at == 30 { 1 } else { 2 }, "{text}");
        assert_eq!(count(&text, "PlayToCaller(400ms)"), 1, "{text}");
    }
}

#[test]
fn an_answer_after_a_refused_nudge_is_the_only_one() {
    let failed = || On(Event::ModelFault(Fault::new(About::Request, Failure::default())));
    let nudged = || All(vec![says(), At(ms(1_600)), failed()]);
    let answered = || All(vec![answer("r1", "a", 400), At(ms(2_700))]);
    let text = play(vec![nudged(), answered()]);
    assert_eq!(count(&text, "AskForResponse"), 1, "the nudge alone: {text}");
    // Keys that were pressed meanwhile need a response of their own.
    let text = play(vec![nudged(), press("1#"), answered()]);
    assert_eq!(count(&text, "AskForResponse"), 2, "{text}");
}

#[test]
fn what_the_model_says_by_itself_is_not_what_we_asked_for() {
    let by_itself = || All(vec![press("1#"), begun("r0", Origin::Model), audio_in("r0", "a", 100)]);
    let asked =
        |number| All(vec![begun("r1", Origin::Request(number)), audio_in("r1", "b", 400), done("r1")]);
    // The server keeps our request until its own response is over.
    let text = play(vec![by_itself(), done("r0"), At(ms(500)), asked(1), At(ms(5_000))]);
    assert_eq!(count(&text, "AskForResponse"), 1, "{text}");
    // It refuses our request: the answer to the keys is still owed.
    let refused = On(Event::ModelFault(Fault::new(About::Request, Cause::Conflict)));
    let text = play(vec![by_itself(), refused, done("r0"), At(ms(500)), asked(2), At(ms(5_000))]);
    assert_eq!(count(&text, "AskForResponse"), 2, "{text}");
    assert_eq!(count(&text, "PlayToCaller(400ms)"), 1, "{text}");
    // It forgets it.
    let text = play(vec![by_itself(), done("r0"), echo_at(160, 1), At(ms(2_500)), asked(2), At(ms(5_000))]);
    assert_eq!(count(&text, "AskForResponse"), 2, "{text}");
}

#[test]
fn a_repeated_answer_is_not_taken_for_the_next_one() {
    let twice = vec![says(), At(ms(1_600)), begun("r1", Origin::Model), audio("a", 100), done("r1")];
    let text = play(vec![
        All(twice),
        At(ms(2_000)),
        press("1#"),
        begun("r2", Origin::Request(1)), // what we asked for when the model was slow
        audio_in("r2", "b", 200),
        ended("r2", Outcome::Cancelled(By::Us)),
        begun("r3", Origin::Request(2)),
        audio_in("r3", "c", 400),
        done("r3"),
        At(ms(5_000)),
    ]);
    assert!(text.contains(r#"CancelResponse(ResponseId("r2"))"#), "{text}");
    assert_eq!((count(&text, "PlayToCaller(200ms)"), count(&text, "PlayToCaller(400ms)")), (0, 1), "{text}");
    assert_eq!(count(&text, "AskForResponse"), 2, "{text}");
}

#[test]
fn a_refused_greeting_stays_uninterruptible() {
    for say in [Some("Hello."), None] {
        let mut plan = plan();
        plan.greeting = GreetingPlan { say: say.map(str::to_owned), interruptible: false, ..greeting("") };
        let script = vec![
            On(Event::ModelFault(Fault::new(About::Request, Failure::default()))),
            At(ms(1_100)),
            answer("r1", "a", 400),
            At(ms(1_200)),
            says(),
            echo_at(1_530, 1),
        ];
        let text = play_with(plan, script);
        let asks = |text: &str| count(text, "AskForResponse") + count(text, "Say(Greeting");
        assert_eq!(asks(&text), 3, "greeting, retry, answer: {text}");
        assert!(!text.contains("ClearCaller"), "{text}");
        let (greeting, rest) = text.split_once("PlayToCaller").expect("audio");
        assert!(!greeting.contains("Configure"), "the greeting is not over: {text}");
        assert!(rest.contains("Configure(Model)"), "{text}");
    }
}

#[test]
fn a_caller_who_speaks_before_a_refused_greeting_is_answered_once() {
    let greets = |interruptible| {
        let mut plan = plan();
        plan.greeting = GreetingPlan { say: Some("Hello.".to_owned()), interruptible, ..greeting("") };
        plan
    };
    let speaks_first = || {
        All(vec![
            On(Event::ModelFault(Fault::new(About::Request, Failure::default()))),
            At(ms(200)),
            speaks(),
            At(ms(600)),
            stops(),
        ])
    };
    // The model answers by itself, so the greeting is dropped.
    let text = play_with(greets(true), vec![speaks_first(), answer("r1", "a", 400), At(ms(5_000))]);
    assert_eq!(count(&text, "Say(Greeting"), 1, "{text}");
    // The greeting comes first, then the answer.
    let script =
        vec![speaks_first(), At(ms(1_100)), answer("r1", "a", 400), echo_at(1_600, 1), At(ms(3_000))];
    let text = play_with(greets(false), script);
    assert_eq!(count(&text, "Say(Greeting"), 2, "{text}");
    assert_eq!(count(&text, "AskForResponse"), 1, "{text}");
}

#[test]
fn a_refused_filler_is_not_repeated() {
    let refused = On(Event::ModelFault(Fault::new(About::Request, Failure::default())));
    let text = play(vec![calls("r1", "c1", "look_up"), At(ms(2_000)), refused, At(ms(7_000))]);
    assert_eq!((count(&text, "Say(Filler)"), count(&text, "End(")), (1, 0), "{text}");
}

#[test]
fn the_assistants_long_last_sentence_is_heard_to_its_end() {
    let long = |heard: bool| {
        let mut script = vec![says(), ends_call(15_000), wait(6, 14)];
        script.extend(heard.then(|| echo_at(15_060, 1)));
        script.push(At(ms(28_000)));
        play(script)
    };
    assert!(long(true).ends_with("15060ms End(AssistantEnded)\n"), "{}", long(true));
    // A phone that sends no echo gets the time that its audio plays.
    assert!(long(false).ends_with("17030ms End(AssistantEnded)\n"), "{}", long(false));
}

#[test]
fn a_draining_server_waits_ten_seconds_for_last_words() {
    // Speech does not keep the call while the server shuts down.
    for speaks in [false, true] {
        let mut script = vec![says(), ends_call(30_000)];
        script.extend([At(ms(2_000)), On(Event::Draining)]);
        if speaks {
            script.extend([At(ms(3_000)), On(Event::SpeechStarted("u9".into()))]);
        }
        script.push(wait(6, 14));
        let text = play(script);
        let end = text.lines().last().unwrap_or_default();
        let at: u64 = end.split("ms ").next().and_then(|at| at.trim().parse().ok()).unwrap_or(u64::MAX);
        assert!(end.ends_with("End(AssistantEnded)") && at <= 12_000, "{speaks}: {text}");
    }
}

#[test]
fn a_response_that_is_cut_off_before_its_first_word_is_retried() {
    let cut = |id: &str, what: Vec<When>| {
        All(vec![started(id), All(what), ended(id, Outcome::Incomplete(Why::TooLong))])
    };
    let text = play(vec![cut("r1", vec![])]);
    assert_eq!(count(&text, "AskForResponse"), 1, "{text}");
    let text = play(vec![cut("r1", vec![]), cut("r2", vec![]), At(ms(500))]);
    assert_eq!(count(&text, "AskForResponse"), 1, "after the second time it waits: {text}");
    let text = play(vec![cut("r1", vec![audio("a", 400)])]);
    assert_eq!((count(&text, "AskForResponse"), count(&text, "Say(GoOn(")), (0, 1), "it spoke: {text}");
    let text = play(vec![cut("r1", vec![tool("c1", "look_up")]), At(ms(900)), finished("c1")]);
    assert_eq!((count(&text, "AskForResponse"), count(&text, "model.failed_response")), (1, 1), "{text}");
}

#[test]
fn a_message_requested_after_end_call_is_delivered_first() {
    let text = play(vec![
        says(),
        started("r1"),
        audio("a", 400),
        tool("c1", END_CALL),
        tool("c2", TAKE_MESSAGE),
        done("r1"),
        echo_at(900, 1),
        At(ms(1_400)),
        finished("c2"),
        At(ms(1_500)),
    ]);
    assert_eq!((count(&text, "still being delivered"), count(&text, "End(")), (1, 0), "{text}");
    assert!(text.contains("1400ms AskForResponse"), "the caller hears the result: {text}");
}

#[test]
fn a_status_update_is_dropped_when_the_caller_speaks() {
    let round = |n: usize| calls(&format!("r{n}"), &format!("c{n}"), "unknown");
    let mut script: Vec<When> = (1..7).map(round).collect();
    script.extend([started("r7"), tool_in("r7", "c7", "unknown", "{}"), speaks()]);
    script.push(ended("r7", CANCELLED));
    let text = play(script);
    assert_eq!((count(&text, "AskForResponse"), count(&text, "Say(StatusUpdate)")), (6, 0), "{text}");
}

#[test]
fn a_requested_response_does_not_talk_over_the_caller() {
    let answered =
        |rest: Vec<When>| play(vec![calls("r1", "c1", "look_up"), At(ms(200)), finished("c1"), All(rest)]);
    let text = answered(vec![speaks(), started("r2"), audio_in("r2", "b", 400), ended("r2", CANCELLED)]);
    assert!(text.contains(r#"CancelResponse(ResponseId("r2"))"#), "{text}");
    assert_eq!(count(&text, "PlayToCaller"), 0, "{text}");
    // Its end comes late and the model does not answer by itself, so we ask.
    let late = vec![speaks(), started("r2"), At(ms(400)), stops(), ended("r2", CANCELLED), At(ms(3_500))];
    let text = answered(late);
    assert_eq!(count(&text, "AskForResponse"), 2, "{text}");
    // The model's own answer is not cancelled.
    let text = answered(vec![says(), speaks(), started("r2"), audio_in("r2", "b", 400)]);
    assert_eq!((count(&text, "CancelResponse"), count(&text, "PlayToCaller")), (0, 1), "{text}");
}

#[test]
fn a_goodbye_waits_for_the_response_that_is_due() {
    let text = play(vec![press("1#"), On(Event::Draining), speaks(), At(ms(500))]);
    assert!(text.contains("AskForResponse") && !text.contains("Say("), "one at a time: {text}");
}
