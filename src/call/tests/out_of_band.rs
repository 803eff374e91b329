//! The out-of-band response that tells the caller to wait for a hosted tool.

use super::*;

fn out_of_band_started(id: &str) -> When {
    On(Event::OutOfBandStarted(response(id)))
}

/// A response waits for a hosted tool; then this happens.
fn play(rest: Vec<When>) -> String {
    play_with(plan(), vec![started("r1"), hosted("h1"), All(rest)])
}

#[test]
fn the_caller_hears_a_filler_while_the_response_waits() {
    insta::assert_snapshot!(play(vec![
        At(ms(2_000)),
        out_of_band_started("s1"),
        audio_in("s1", "f", 1_000),
        done("s1"),
        echo_at(3_200, 1),
        At(ms(9_000)), // said only once
        hosted_ended("h1"),
        audio("a", 400),
        done("r1"),
        At(ms(9_500)),
    ]));
}

#[test]
fn a_filler_is_interrupted_without_a_truncation() {
    insta::assert_snapshot!(play(vec![
        audio("a", 400),
        echo_at(500, 1),
        At(ms(2_000)),
        out_of_band_started("s1"),
        audio_in("s1", "f", 1_000),
        At(ms(2_300)),
        speaks(),
        audio_in("s1", "f", 500), // late
        ended("s1", CANCELLED),
        ended("r1", CANCELLED),
        audio_in("s1", "f", 500), // later still
        stops(),
        At(ms(2_600)),
    ]));
}

#[test]
fn the_answer_cuts_the_filler_off() {
    let text = play(vec![
        At(ms(2_000)),
        out_of_band_started("s1"),
        audio_in("s1", "f", 300),
        hosted_ended("h1"),
        audio("a", 400),
        audio_in("s1", "f", 300), // would land in the middle of the answer
        audio("a", 400),
        ended("s1", CANCELLED),
        done("r1"),
    ]);
    assert_eq!(count(&text, r#"CancelResponse(ResponseId("s1"))"#), 1, "{text}");
    assert_eq!((count(&text, "PlayToCaller"), count(&text, "Note(model.late_audio)")), (3, 1), "{text}");
}

#[test]
fn a_filler_that_starts_too_late_is_cancelled() {
    let is_stopped = |what: Vec<When>| {
        let text = play(vec![At(ms(2_000)), All(what), out_of_band_started("s1"), audio_in("s1", "f", 300)]);
        assert_eq!(count(&text, "SayOutOfBand(Filler)"), 1, "{text}");
        assert!(text.contains(r#"CancelResponse(ResponseId("s1"))"#), "{text}");
        assert!(!text.contains("PlayToCaller(300ms)"), "{text}");
    };
    is_stopped(vec![hosted_ended("h1"), done("r1")]);
    is_stopped(vec![hosted_ended("h1"), audio("a", 400)]);
    is_stopped(vec![speaks()]);
    is_stopped(vec![On(Event::ModelFault(Fault::new(About::OutOfBand, Failure::default())))]);
}

#[test]
fn a_filler_waits_for_silence_and_a_live_response() {
    let plays = play(vec![audio("a", 3_000), At(ms(3_000))]);
    assert_eq!(count(&plays, "SayOutOfBand"), 0, "{plays}");
    let talks = play(vec![At(ms(1_000)), speaks(), At(ms(3_000))]);
    assert_eq!(count(&talks, "SayOutOfBand"), 0, "{talks}");
    let discarded = play(vec![At(ms(1_000)), says(), At(ms(3_000))]);
    assert_eq!(count(&discarded, "SayOutOfBand"), 0, "{discarded}");
}

#[test]
fn a_tool_that_ends_during_the_filler_gets_a_response() {
    let text = play(vec![
        At(ms(2_000)),
        out_of_band_started("s1"),
        audio_in("s1", "f", 300),
        hosted_ended("h1"),
        done("r1"), // the other one still runs
        At(ms(2_100)),
        audio_in("s1", "f", 300),
        ended("s1", Outcome::Failed(Failure::default())),
    ]);
    assert_eq!((count(&text, "AskForResponse"), count(&text, "PlayToCaller")), (1, 2), "{text}");
    assert!(text.contains("2000ms AskForResponse"), "{text}");
}

#[test]
fn a_response_is_cancelled_when_its_hosted_tool_times_out() {
    let text = play(vec![wait(3, 31), ended("r1", CANCELLED), started("r2"), audio_in("r2", "b", 400)]);
    assert_eq!(count(&text, "SayOutOfBand(Filler)"), 1, "{text}");
    let discarded = "30030ms Note(tool.timeout)\n  30030ms CancelResponse(ResponseId(\"r1\"))\n";
    assert!(text.contains(discarded), "{text}");
    assert!(text.contains("31000ms Say(ToolTimedOut)\n") && text.contains("PlayToCaller(400ms)"), "{text}");
    assert_eq!(count(&text, "End("), 0, "{text}");
}

#[test]
fn a_host_that_ignores_the_cancellation_is_not_waited_for() {
    let text = play(vec![wait(3, 35)]);
    assert!(text.contains("33030ms Say(ToolTimedOut)"), "{text}");
    assert_eq!(count(&text, "End("), 0, "{text}");
}

#[test]
fn the_response_waits_for_the_slower_of_two_tools() {
    let mut script = vec![At(ms(2_000)), out_of_band_started("s1"), done("s1"), At(ms(9_000)), hosted("h2")];
    script.push(wait(10, 34));
    script.extend([hosted_ended("h2"), audio("a", 400), done("r1")]);
    let text = play(script);
    assert_eq!(count(&text, "CancelResponse"), 0, "{text}");
    assert!(text.contains("PlayToCaller(400ms)"), "{text}");
    assert_eq!(count(&text, "SayOutOfBand"), 1, "one for both: {text}");
}
