//! Barge-in: how much the caller heard of the voice that they talk over.

use super::*;

#[test]
fn barge_in_clears_and_truncates_to_what_was_heard() {
    insta::assert_snapshot!(play(vec![
        started("r1"),
        audio("a", 400),
        audio("a", 400),
        echo_at(460, 1), // played at 445, echoed at 460
        At(ms(530)),
        speaks(),
        audio("a", 400), // late: must not be heard
        ended("r1", CANCELLED),
    ]));
}

#[test]
fn each_item_is_truncated_even_to_zero() {
    insta::assert_snapshot!(play(vec![
        started("r1"),
        audio("a", 400),
        audio("b", 400),
        audio("c", 400),
        echo_at(460, 1),
        At(ms(630)),
        speaks(), // 600 ms heard: all of a, half of b, nothing of c
    ]));
}

#[test]
fn a_late_item_of_a_discarded_response_is_truncated_to_zero() {
    insta::assert_snapshot!(play(vec![
        started("r1"),
        audio("a", 400),
        At(ms(230)),
        speaks(),
        audio("b", 200),
        audio("b", 200),
    ]));
}

#[test]
fn a_barge_in_after_the_response_ended_cancels_nothing() {
    insta::assert_snapshot!(play(vec![answer("r1", "a", 4000), At(ms(1030)), speaks()]));
}

#[test]
fn a_provider_that_does_not_interrupt_is_asked_to_cancel() {
    let mut plan = plan();
    let mut provider = Provider::openai("wss://api.example.com", None);
    provider.abilities.interrupts_by_itself = false;
    plan.provider = Arc::new(provider);
    insta::assert_snapshot!(play_with(plan, vec![started("r1"), audio("a", 400), At(ms(130)), speaks()]));
}

#[test]
fn a_fully_heard_item_of_a_running_response_is_truncated() {
    insta::assert_snapshot!(play(vec![
        started("r1"),
        audio("a", 400),
        echo_at(460, 1),
        At(ms(900)),
        speaks(), // all 400 ms were heard, and the response still runs
    ]));
}

#[test]
fn speech_over_silence_does_nothing() {
    insta::assert_snapshot!(play(vec![answer("r1", "a", 400), echo_at(460, 1), At(ms(900)), speaks()]));
}

#[test]
fn playback_starts_a_new_run_after_the_buffer_ran_dry() {
    insta::assert_snapshot!(play(vec![
        started("r1"),
        audio("a", 400),
        echo_at(460, 1),
        At(ms(2000)),
        audio("a", 400), // after 1.5 s of silence
        At(ms(2100)),
        speaks(), // 400 + 100
    ]));
}

#[test]
fn a_late_echo_lowers_the_estimate_and_a_repeated_one_does_not() {
    insta::assert_snapshot!(play(vec![
        started("r1"),
        audio("a", 400),
        audio("a", 800),
        echo_at(500, 1), // 40 ms late
        echo_at(510, 1),
        At(ms(630)),
        speaks(), // by the clock 600 ms, by the echo 400 + 130 + 30
    ]));
}

#[test]
fn queued_audio_has_not_been_heard() {
    insta::assert_snapshot!(play(vec![
        started("r1"),
        Stuck,
        audio("a", 400),
        At(ms(50)),
        On(Event::CallerStalled),
        At(ms(300)),
        Freed,
        At(ms(400)),
        speaks(), // 100 ms after it left
    ]));
}

#[test]
fn a_stalled_socket_stops_the_clock() {
    insta::assert_snapshot!(play(vec![
        started("r1"),
        audio("a", 400),
        Stuck,
        audio("a", 400),
        At(ms(80)),
        On(Event::CallerStalled),
        At(ms(300)),
        speaks(), // 50 ms are certain
    ]));
}

#[test]
fn an_echo_before_its_time_shows_that_our_clock_stood_still() {
    insta::assert_snapshot!(play(vec![
        started("r1"),
        audio("a", 400),
        audio("a", 400),
        echo_at(50, 1),
        At(ms(150)),
        speaks(), // 400 at 50, and 100 since
    ]));
}

#[test]
fn echoes_of_cleared_marks_prove_nothing() {
    insta::assert_snapshot!(play(vec![
        started("r1"),
        audio("a", 400),
        audio("a", 400),
        At(ms(130)),
        speaks(),
        echo_at(160, 1),
        echo(2),
        ended("r1", CANCELLED),
        stops(),
        started("r2"),
        audio_in("r2", "b", 400),
        At(ms(260)),
        speaks(), // 100 ms of b
    ]));
}
