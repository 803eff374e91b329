//! What is refused, cut off or left unsaid, and what the call makes of it.

use super::tools::{count, finished, play};
use super::*;
use crate::assistant::plan::TAKE_MESSAGE;

#[test]
fn a_goodbye_without_a_word_is_asked_for_once_more() {
    let script = || {
        let bye = vec![started("r1"), tool("c1", END_CALL), ended("r1", Outcome::Completed)];
        let again = vec![started("r2"), tool_in("r2", "c2", END_CALL, "{}"), ended("r2", Outcome::Completed)];
        after(after(connected_and_greeted(), bye), again)
    };
    let text = run(script());
    assert_eq!((text.matches("Say(Goodbye").count(), text.matches("End(").count()), (2, 0), "{text}");
    let text = run(after(script(), vec![started("r3"), ended("r3", Outcome::Completed)]));
    assert_eq!(text.matches("Say(Goodbye").count(), 2, "{text}");
    assert!(text.ends_with("30ms End(AssistantEnded)\n"), "{text}");
}

#[test]
fn a_request_that_is_refused_is_made_once_more_after_a_pause() {
    let refused = || On(Event::ModelFault(Fault::RequestFailed));
    let asked = || after(connected(), vec![On(Event::Digit('1')), On(Event::Digit('#')), refused()]);
    let text = run(after(asked(), vec![At(ms(1_000))]));
    assert_eq!(text.matches("AskForResponse").count(), 1, "{text}");
    let text = run(after(
        asked(),
        vec![At(ms(1_100)), started("r1"), ended("r1", Outcome::Completed), At(ms(9_000))],
    ));
    assert!(text.contains("1030ms AskForResponse") && !text.contains("End("), "{text}");
    let text = run(after(asked(), vec![At(ms(1_100)), refused(), At(ms(1_200))]));
    assert!(text.ends_with("1100ms End(ModelRefused)\n"), "{text}");
    let text = run(after(connected(), vec![On(Event::Draining), refused(), At(ms(1_100))]));
    assert!(text.ends_with("1030ms Say(Goodbye(ServerDraining))\n"), "{text}");
    // The model was to answer by itself, and was asked because it did not.
    let slow = vec![speaks(), On(Event::SpeechStopped), At(ms(3_100)), refused(), At(ms(4_200))];
    let text = run(after(connected(), slow));
    assert!(text.ends_with("4100ms AskForResponse\n"), "{text}");
    // What was refused is not waited for any more: the caller has spoken since, and is answered.
    let text = run(after(
        asked(),
        vec![speaks(), On(Event::SpeechStopped), refused(), started("r1"), At(ms(2_000))],
    ));
    assert!(!text.contains("End("), "{text}");
}

#[test]
fn a_pause_that_is_over_is_waited_for_no_more() {
    let start = Instant::now();
    let mut call = Call::new(Arc::new(plan()));
    let mut out = Vec::new();
    let refused = [Event::Digit('1'), Event::Digit('#'), Event::ModelFault(Fault::RequestFailed)];
    // Another response runs meanwhile, and is given up: that it ended is never said.
    let given_up = [Event::ResponseStarted(response("r1")), Event::SpeechStarted(ItemId::from("u"))];
    for event in [Event::ModelReady, Event::StreamStarted].into_iter().chain(refused).chain(given_up) {
        call.handle(event, start, &mut out);
    }
    while let Some((due, _)) = call.deadline().filter(|(due, _)| *due <= start + ms(5_000)) {
        call.handle_timeout(due, &mut out);
        let next = call.deadline().map(|(next, _)| next);
        assert!(next.is_none_or(|next| next > due), "it is due again at once");
    }
}

#[test]
fn an_answer_that_is_due_is_waited_for_though_another_response_is_said_to_run() {
    // What was refused is a request that the caller's turn has made superfluous, or a nudge.
    let busy = || On(Event::ModelFault(Fault::ResponseAlreadyActive));
    let keys = || vec![On(Event::Digit('1')), On(Event::Digit('#'))];
    for already in [vec![busy()], vec![At(ms(3_100)), busy()]] {
        let turn = after(after(connected(), keys()), vec![speaks(), On(Event::SpeechStopped)]);
        let text = run(after(after(turn, already), vec![At(ms(9_000))]));
        assert!(text.ends_with("End(ModelStalled)\n"), "{text}");
    }
}

#[test]
fn an_answer_that_comes_after_a_refused_nudge_is_the_only_one() {
    let nudged = || {
        let refused = On(Event::ModelFault(Fault::RequestFailed));
        after(connected(), vec![speaks(), On(Event::SpeechStopped), At(ms(3_100)), refused])
    };
    let answered = || vec![started("r1"), audio("a", 400), ended("r1", Outcome::Completed), At(ms(9_000))];
    let text = run(after(nudged(), answered()));
    assert_eq!(text.matches("AskForResponse").count(), 1, "the nudge alone: {text}");
    // Keys that were pressed meanwhile are a wish of their own.
    let keys = vec![On(Event::Digit('1')), On(Event::Digit('#'))];
    let text = run(after(after(nudged(), keys), answered()));
    assert_eq!(text.matches("AskForResponse").count(), 2, "{text}");
}

#[test]
fn a_greeting_that_was_refused_at_first_is_not_interrupted_either() {
    for say in [Some("Hello."), None] {
        let mut plan = plan();
        plan.greeting = GreetingPlan { say: say.map(str::to_owned), interruptible: false, ..greeting("") };
        let script = vec![
            On(Event::ModelFault(Fault::RequestFailed)),
            At(ms(1_100)),
            started("r1"),
            audio("a", 400),
            ended("r1", Outcome::Completed),
            At(ms(1_200)),
            speaks(),
            On(Event::SpeechStopped),
            At(ms(1_530)),
            echo(1),
        ];
        let text = run_with(plan, after(connected(), script));
        let asks = |text: &str| text.matches("AskForResponse").count() + text.matches("Say(Greeting").count();
        assert_eq!(asks(&text), 3, "it is asked for twice, and then the caller is answered: {text}");
        assert!(!text.contains("ClearCaller"), "{text}");
        let (greeting, rest) = text.split_once("PlayToCaller").expect("it is played");
        assert!(!greeting.contains("Configure"), "the model takes no turns before it is over: {text}");
        assert!(rest.contains("Configure(Model)"), "{text}");
    }
}

#[test]
fn who_speaks_before_a_refused_greeting_is_answered_once() {
    let greets = |interruptible| {
        let mut plan = plan();
        plan.greeting = GreetingPlan { say: Some("Hello.".to_owned()), interruptible, ..greeting("") };
        plan
    };
    let turn = || vec![At(ms(200)), speaks(), At(ms(600)), On(Event::SpeechStopped)];
    let refused = || On(Event::ModelFault(Fault::RequestFailed));
    let script = |answer: Vec<When>| {
        let mut script = vec![refused()];
        script.extend(turn());
        script.extend(answer);
        after(connected(), script)
    };
    // The model answers by itself, and greets nobody any more.
    let answer = vec![started("r1"), audio("a", 400), ended("r1", Outcome::Completed), At(ms(5_000))];
    let text = run_with(greets(true), script(answer));
    assert_eq!(text.matches("Say(Greeting").count(), 1, "{text}");
    // They are greeted, and then answered.
    let greeted = vec![At(ms(1_100)), started("r1"), audio("a", 400), ended("r1", Outcome::Completed)];
    let text = run_with(greets(false), script(after(greeted, vec![At(ms(1_600)), echo(1), At(ms(5_000))])));
    assert_eq!(text.matches("Say(Greeting").count(), 2, "{text}");
    assert_eq!(text.matches("AskForResponse").count(), 1, "{text}");
}

#[test]
fn a_refused_word_about_waiting_is_not_made_up_for() {
    let mut plan = plan();
    let job = Work::Job(Arc::new(crate::assistant::plan::Job::SendSms));
    plan.tools.push(tool_of("look_up", Rule::default(), job));
    let script = vec![
        started("r1"),
        tool("c1", "look_up"),
        ended("r1", Outcome::Completed),
        At(ms(2_000)),
        On(Event::ModelFault(Fault::RequestFailed)),
        At(ms(9_000)),
    ];
    let text = run_with(plan, after(connected(), script));
    assert_eq!((text.matches("Say(Filler)").count(), text.matches("End(").count()), (1, 0), "{text}");
}

#[test]
fn a_long_last_sentence_is_heard_to_its_end() {
    let long = |heard: bool| {
        let script =
            vec![started("r1"), audio("a", 15_000), tool("c1", END_CALL), ended("r1", Outcome::Completed)];
        let mut script = after(connected_and_greeted(), script);
        for second in [8, 14] {
            script
                .extend([At(Duration::from_secs(second)), On(Event::CallerAudio(Chunk::from_ulaw(&[0xFF])))]);
        }
        if heard {
            script.extend([At(ms(15_060)), echo(1)]);
        }
        script.push(At(ms(28_000)));
        run(script)
    };
    assert!(long(true).ends_with("15060ms End(AssistantEnded)\n"), "{}", long(true));
    // A phone that does not say so is not waited for any longer than its audio plays.
    assert!(long(false).ends_with("17030ms End(AssistantEnded)\n"), "{}", long(false));
}

#[test]
fn a_server_that_closes_waits_for_last_words_no_longer_than_for_a_goodbye() {
    // Who speaks meanwhile keeps no call whose server is closing.
    for speaks in [false, true] {
        let mut script = vec![
            started("r1"),
            audio("a", 30_000),
            tool("c1", END_CALL),
            ended("r1", Outcome::Completed),
            At(ms(2_000)),
            On(Event::Draining),
        ];
        if speaks {
            script.extend([At(ms(3_000)), On(Event::SpeechStarted("u9".into()))]);
        }
        for second in [8, 14] {
            script
                .extend([At(Duration::from_secs(second)), On(Event::CallerAudio(Chunk::from_ulaw(&[0xFF])))]);
        }
        let text = run(after(connected_and_greeted(), script));
        let end = text.lines().last().unwrap_or_default();
        let at: u64 = end.split("ms ").next().and_then(|at| at.trim().parse().ok()).unwrap_or(u64::MAX);
        assert!(end.ends_with("End(AssistantEnded)") && at <= 12_000, "{speaks}: {text}");
    }
}

#[test]
fn a_response_that_is_cut_off_before_its_first_word_is_tried_once_more() {
    let cut = |id: &str, what: Vec<When>| {
        let mut script = vec![started(id)];
        script.extend(what);
        script.push(ended(id, Outcome::Incomplete));
        script
    };
    let text = play(cut("r1", vec![]));
    assert_eq!((count(&text, "AskForResponse"), count(&text, "model.failed_response")), (1, 1), "{text}");
    let text = play(after(cut("r1", vec![]), cut("r2", vec![])));
    assert!(text.ends_with("End(ModelRefused)\n"), "{text}");
    let text = play(cut("r1", vec![audio("a", 400)]));
    assert_eq!(count(&text, "AskForResponse"), 0, "it spoke: {text}");
    let text = play(after(cut("r1", vec![tool("c1", "look_up")]), vec![At(ms(900)), finished("c1")]));
    assert_eq!((count(&text, "AskForResponse"), count(&text, "model.failed_response")), (1, 0), "{text}");
}

#[test]
fn a_message_that_is_asked_for_after_the_end_is_delivered_first() {
    let text = play(vec![
        speaks(),
        On(Event::SpeechStopped),
        started("r1"),
        audio("a", 400),
        tool("c1", END_CALL),
        tool("c2", TAKE_MESSAGE),
        ended("r1", Outcome::Completed),
        At(ms(900)),
        echo(1),
        At(ms(1_400)),
        finished("c2"),
        At(ms(1_500)),
    ]);
    assert_eq!((count(&text, "still being delivered"), count(&text, "End(")), (1, 0), "{text}");
    assert!(text.contains("1400ms AskForResponse"), "the caller learns what became of it: {text}");
}

#[test]
fn how_things_stand_is_told_when_the_caller_has_spoken() {
    let round = |n: usize| {
        let (id, call) = (format!("r{n}"), format!("c{n}"));
        vec![started(&id), tool_in(&id, &call, "nothing_like_it", "{}"), ended(&id, Outcome::Completed)]
    };
    let mut script: Vec<When> = (1..7).flat_map(round).collect();
    script.extend([started("r7"), tool_in("r7", "c7", "nothing_like_it", "{}"), speaks()]);
    script.push(ended("r7", Outcome::Cancelled));
    let text = play(script);
    assert_eq!((count(&text, "AskForResponse"), count(&text, "Say(StatusUpdate)")), (6, 0), "{text}");
}

#[test]
fn nobody_talks_to_who_speaks_already() {
    let answered = |rest: Vec<When>| {
        let script = vec![started("r1"), tool("c1", "look_up"), ended("r1", Outcome::Completed), At(ms(200))];
        play(after(script, after(vec![finished("c1")], rest)))
    };
    let begins = vec![speaks(), started("r2"), audio_in("r2", "b", 400), ended("r2", Outcome::Cancelled)];
    let text = answered(begins);
    assert!(text.contains(r#"CancelResponse(ResponseId("r2"))"#), "{text}");
    assert_eq!(count(&text, "PlayToCaller"), 0, "{text}");
    // Its end is told late, and the model does not answer: it is asked all the same.
    let late = vec![
        speaks(),
        started("r2"),
        At(ms(400)),
        On(Event::SpeechStopped),
        ended("r2", Outcome::Cancelled),
        At(ms(3_500)),
    ];
    let text = answered(late);
    assert_eq!(count(&text, "AskForResponse"), 2, "{text}");
    // The model's own answer to them is no such thing.
    let text =
        answered(vec![speaks(), On(Event::SpeechStopped), speaks(), started("r2"), audio_in("r2", "b", 400)]);
    assert_eq!((count(&text, "CancelResponse"), count(&text, "PlayToCaller")), (0, 1), "{text}");
}

#[test]
fn what_was_asked_for_is_waited_for_though_the_server_ends_the_call() {
    let asked =
        vec![On(Event::Digit('1')), On(Event::Digit('#')), On(Event::Draining), speaks(), At(ms(500))];
    let text = run(after(connected(), asked));
    assert!(text.contains("AskForResponse") && !text.contains("Say("), "one at a time: {text}");
}
