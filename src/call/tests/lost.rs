//! A stream that breaks and comes back.

use super::*;

fn lost() -> When {
    On(Event::StreamLost)
}

fn back() -> When {
    All(vec![On(Event::Returning), On(Event::Returned(Return::StreamAgain))])
}

#[test]
fn what_was_unheard_when_the_stream_broke_is_said_again() {
    let text = play(vec![answer("r1", "a", 4_000), At(ms(1_030)), lost(), At(ms(1_500)), back()]);
    assert!(text.contains("1030ms Truncate(a 1000ms)"), "{text}");
    assert!(text.contains("1500ms TellModel(StreamBroke { unheard: true })"), "{text}");
    assert!(text.contains("1500ms AskForResponse"), "{text}");
    // The conversation goes on.
    let more = [started("r2"), audio_in("r2", "b", 500)];
    let text = play(
        [answer("r1", "a", 4_000), At(ms(1_030)), lost(), At(ms(1_500)), back()]
            .into_iter()
            .chain(more)
            .collect(),
    );
    assert!(text.trim_end().lines().any(|line| line.contains("1500ms PlayToCaller(500ms)")), "{text}");
}

#[test]
fn a_response_that_runs_when_the_stream_breaks_is_cancelled_and_asked_for_again() {
    let text = play(vec![
        started("r1"),
        audio("a", 400),
        At(ms(200)),
        lost(),
        audio("a", 400),
        ended("r1", CANCELLED),
        At(ms(900)),
        back(),
    ]);
    assert_eq!((count(&text, "PlayToCaller"), count(&text, "CancelResponse")), (1, 1), "{text}");
    assert!(text.contains("900ms AskForResponse"), "{text}");
    // One that begins meanwhile is heard by nobody.
    let text = play(vec![
        speaks(),
        On(Event::SpeechStopped),
        lost(),
        started("r1"),
        audio("a", 400),
        ended("r1", CANCELLED),
        back(),
    ]);
    assert_eq!((count(&text, "PlayToCaller"), count(&text, "CancelResponse")), (0, 1), "{text}");
    assert!(text.contains("StreamBroke { unheard: true }") && text.contains("AskForResponse"), "{text}");
}

#[test]
fn a_stream_that_breaks_in_silence_loses_nothing() {
    let text =
        play(vec![answer("r1", "a", 400), At(ms(460)), echo_at(470, 1), At(ms(1_000)), lost(), back()]);
    assert_eq!(count(&text, "Truncate("), 0, "{text}");
    assert!(text.contains("StreamBroke { unheard: false }"), "{text}");
}

#[test]
fn a_call_whose_stream_broke_waits_for_the_new_one() {
    let text = play(vec![lost(), At(ms(9_000))]);
    assert!(!text.contains("End("), "{text}");
    let text = play(vec![lost(), At(ms(9_000)), On(Event::Returning), At(ms(80_000)), back()]);
    assert!(!text.contains("End(") && text.contains("AskForResponse"), "{text}");
    let text = play(vec![lost(), On(Event::Returning), At(ms(80_000))]);
    assert!(text.contains("End(CallerLost)"), "{text}");
    let text = play(vec![lost(), On(Event::Draining), On(Event::Returning), At(ms(5_000)), back()]);
    assert!(!text.contains("End("), "{text}");
}

#[test]
fn a_goodbye_that_broke_off_is_said_again() {
    let text = play(vec![says(), ends_call(4_000), At(ms(1_000)), lost(), At(ms(2_000)), back()]);
    assert!(text.contains("2000ms Say(Goodbye(AssistantEnded))") && !text.contains("End("), "{text}");
}

#[test]
fn a_greeting_that_was_only_asked_for_is_asked_for_again() {
    let mut script = vec![lost(), started("r1"), ended("r1", CANCELLED), At(ms(500)), back()];
    script.extend([started("r2"), audio_in("r2", "b", 500)]);
    let text = play_with(Plan { greeting: greeting("Hello."), ..plan() }, script);
    assert_eq!(count(&text, "Say(Greeting"), 2, "{text}");
    assert_eq!(count(&text, "AskForResponse"), 0, "{text}");
    assert_eq!(count(&text, "PlayToCaller"), 1, "{text}");
}

#[test]
fn the_owner_ends_a_call_at_once_if_its_phone_is_away() {
    let text = play(vec![lost(), On(Event::OperatorEnds)]);
    assert!(text.ends_with("End(OperatorEnded)\n") && !text.contains("Goodbye"), "{text}");
}
