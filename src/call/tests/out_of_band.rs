//! What is said beside a response that waits for a tool of the model's host.

use super::*;

fn beside(id: &str) -> When {
    On(Event::OutOfBandStarted(response(id)))
}

fn hosted(item: &str) -> When {
    On(Event::HostedStarted { item: item.into(), response: Some(response("r1")) })
}

fn hosted_over(item: &str) -> When {
    On(Event::HostedEnded { item: item.into() })
}

/// A response waits for its host's tool; then this happens.
fn play(rest: Vec<When>) -> String {
    run(after(connected(), after(vec![started("r1"), hosted("h1")], rest)))
}

fn count(text: &str, what: &str) -> usize {
    text.matches(what).count()
}

#[test]
fn the_caller_is_told_to_wait_beside_the_response_that_waits() {
    insta::assert_snapshot!(play(vec![
        At(ms(2_000)),
        beside("s1"),
        audio_in("s1", "f", 1_000),
        ended("s1", Outcome::Completed),
        At(ms(3_200)),
        echo(1),
        At(ms(9_000)), // it is said once
        hosted_over("h1"),
        audio("a", 400),
        ended("r1", Outcome::Completed),
        At(ms(9_500)),
    ]));
}

#[test]
fn who_talks_over_it_is_not_talked_to_and_nothing_of_it_is_truncated() {
    insta::assert_snapshot!(play(vec![
        audio("a", 400),
        At(ms(500)),
        echo(1),
        At(ms(2_000)),
        beside("s1"),
        audio_in("s1", "f", 1_000),
        At(ms(2_300)),
        speaks(),
        audio_in("s1", "f", 500), // late
        ended("s1", Outcome::Cancelled),
        ended("r1", Outcome::Cancelled),
        audio_in("s1", "f", 500), // later still
        On(Event::SpeechStopped),
        At(ms(2_600)),
    ]));
}

#[test]
fn the_answer_goes_before_the_rest_of_it() {
    let text = play(vec![
        At(ms(2_000)),
        beside("s1"),
        audio_in("s1", "f", 300),
        hosted_over("h1"),
        audio("a", 400),
        audio_in("s1", "f", 300), // it would stand in the middle of the answer
        audio("a", 400),
        ended("s1", Outcome::Cancelled),
        ended("r1", Outcome::Completed),
    ]);
    assert_eq!(count(&text, r#"CancelResponse(ResponseId("s1"))"#), 1, "{text}");
    assert_eq!((count(&text, "PlayToCaller"), count(&text, "Note(model.late_audio)")), (3, 1), "{text}");
}

#[test]
fn one_that_begins_too_late_is_stopped_at_once() {
    let hung = |what: Vec<When>| {
        let text =
            play(after(after(vec![At(ms(2_000))], what), vec![beside("s1"), audio_in("s1", "f", 300)]));
        assert_eq!(count(&text, "SayOutOfBand(Filler)"), 1, "{text}");
        assert!(text.contains(r#"CancelResponse(ResponseId("s1"))"#), "{text}");
        assert!(!text.contains("PlayToCaller(300ms)"), "{text}");
    };
    hung(vec![hosted_over("h1"), ended("r1", Outcome::Completed)]);
    hung(vec![hosted_over("h1"), audio("a", 400)]);
    hung(vec![speaks()]);
    hung(vec![On(Event::ModelFault(Fault::OutOfBandRefused))]);
}

#[test]
fn it_waits_for_silence_and_for_a_response_that_is_not_given_up() {
    let plays = play(vec![audio("a", 3_000), At(ms(3_000))]);
    assert_eq!(count(&plays, "SayOutOfBand"), 0, "{plays}");
    let talks = play(vec![At(ms(1_000)), speaks(), At(ms(3_000))]);
    assert_eq!(count(&talks, "SayOutOfBand"), 0, "{talks}");
    let given_up = play(vec![At(ms(1_000)), speaks(), On(Event::SpeechStopped), At(ms(3_000))]);
    assert_eq!(count(&given_up, "SayOutOfBand"), 0, "{given_up}");
}

#[test]
fn a_tool_that_ends_while_it_is_said_is_spoken_of() {
    let text = play(vec![
        At(ms(2_000)),
        beside("s1"),
        audio_in("s1", "f", 300),
        hosted_over("h1"),
        ended("r1", Outcome::Completed), // the response ends, and it does not
        At(ms(2_100)),
        audio_in("s1", "f", 300),
        ended("s1", Outcome::Failed),
    ]);
    assert_eq!((count(&text, "AskForResponse"), count(&text, "PlayToCaller")), (1, 2), "{text}");
    assert!(text.contains("2000ms AskForResponse"), "{text}");
}

/// The phone's frames keep coming.
fn wait(from: u64, until: u64) -> Vec<When> {
    let second = |n| [At(Duration::from_secs(n)), On(Event::CallerAudio(Chunk::from_ulaw(&[0xFF; 160])))];
    (from..=until).step_by(4).flat_map(second).collect()
}

#[test]
fn a_response_whose_tool_takes_too_long_is_given_up_and_the_caller_hears_of_it() {
    let text = play(after(
        wait(3, 31),
        vec![ended("r1", Outcome::Cancelled), started("r2"), audio_in("r2", "b", 400)],
    ));
    assert_eq!(count(&text, "SayOutOfBand(Filler)"), 1, "{text}");
    let given_up = "30030ms Note(tool.timeout)\n  30030ms CancelResponse(ResponseId(\"r1\"))\n";
    assert!(text.contains(given_up), "{text}");
    assert!(text.contains("31000ms Say(ToolTimedOut)\n") && text.contains("PlayToCaller(400ms)"), "{text}");
    assert_eq!(count(&text, "End("), 0, "{text}");
}

#[test]
fn a_host_that_does_not_let_go_keeps_the_caller_waiting_for_seconds_only() {
    let text = play(wait(3, 35));
    assert!(text.contains("33030ms Say(ToolTimedOut)"), "{text}");
    assert_eq!(count(&text, "End("), 0, "{text}");
}

#[test]
fn of_two_tools_the_slower_one_is_waited_for() {
    let mut script =
        vec![At(ms(2_000)), beside("s1"), ended("s1", Outcome::Completed), At(ms(9_000)), hosted("h2")];
    script.extend(wait(10, 34));
    script.extend([hosted_over("h2"), audio("a", 400), ended("r1", Outcome::Completed)]);
    let text = play(script);
    assert_eq!(count(&text, "CancelResponse"), 0, "{text}");
    assert!(text.contains("PlayToCaller(400ms)"), "{text}");
    assert_eq!(count(&text, "SayOutOfBand"), 1, "one for both: {text}");
}
