//! What the caller heard of a voice that they talk over.

use super::*;

#[test]
fn barge_in_clears_and_truncates_to_what_was_heard() {
    insta::assert_snapshot!(run(after(
        connected(),
        vec![
            started("r1"),
            audio("a", 400),
            audio("a", 400),
            At(ms(460)),
            echo(1), // played at 445, heard of at 460
            At(ms(530)),
            speaks(),
            audio("a", 400), // late: nobody may hear it
            ended("r1", Outcome::Cancelled),
        ]
    )));
}

#[test]
fn each_item_gets_its_own_truncation_also_to_nothing() {
    insta::assert_snapshot!(run(after(
        connected(),
        vec![
            started("r1"),
            audio("a", 400),
            audio("b", 400),
            audio("c", 400),
            At(ms(460)),
            echo(1),
            At(ms(630)),
            speaks(), // 600 ms heard: all of a, half of b, nothing of c
        ]
    )));
}

#[test]
fn an_item_of_a_dead_response_that_comes_late_is_truncated_to_nothing() {
    insta::assert_snapshot!(run(after(
        connected(),
        vec![started("r1"), audio("a", 400), At(ms(230)), speaks(), audio("b", 200), audio("b", 200),]
    )));
}

#[test]
fn talking_over_a_finished_response_clears_and_truncates_but_cancels_nothing() {
    insta::assert_snapshot!(run(after(
        connected(),
        vec![started("r1"), audio("a", 4000), ended("r1", Outcome::Completed), At(ms(1030)), speaks(),]
    )));
}

#[test]
fn a_provider_that_does_not_interrupt_is_told_to_cancel() {
    let mut plan = plan();
    let mut provider = Provider::openai("wss://api.example.com", None);
    provider.abilities.interrupts_by_itself = false;
    plan.provider = Arc::new(provider);
    insta::assert_snapshot!(run_with(
        plan,
        after(connected(), vec![started("r1"), audio("a", 400), At(ms(130)), speaks(),])
    ));
}

#[test]
fn an_item_heard_to_its_end_may_still_grow() {
    insta::assert_snapshot!(run(after(
        connected(),
        vec![
            started("r1"),
            audio("a", 400),
            At(ms(460)),
            echo(1),
            At(ms(900)),
            speaks(), // all 400 ms were heard, and the response was still running
        ]
    )));
}

#[test]
fn speech_over_silence_does_nothing() {
    insta::assert_snapshot!(run(after(
        connected(),
        vec![
            started("r1"),
            audio("a", 400),
            ended("r1", Outcome::Completed),
            At(ms(460)),
            echo(1),
            At(ms(900)),
            speaks(),
        ]
    )));
}

#[test]
fn a_buffer_that_ran_dry_starts_a_new_run() {
    insta::assert_snapshot!(run(after(
        connected(),
        vec![
            started("r1"),
            audio("a", 400),
            At(ms(460)),
            echo(1),
            At(ms(2000)),
            audio("a", 400), // 1.5 s of nothing in between
            At(ms(2100)),
            speaks(), // 400 + 100
        ]
    )));
}

#[test]
fn a_late_echo_lowers_the_estimate_and_a_double_one_moves_nothing() {
    insta::assert_snapshot!(run(after(
        connected(),
        vec![
            started("r1"),
            audio("a", 400),
            audio("a", 800),
            At(ms(500)),
            echo(1), // 40 ms later than the steady network would have it
            At(ms(510)),
            echo(1),
            At(ms(630)),
            speaks(), // by the clock 600, by the echo 400 + 130 + 30
        ]
    )));
}

#[test]
fn audio_that_waits_has_not_been_heard() {
    insta::assert_snapshot!(run(after(
        connected(),
        vec![
            started("r1"),
            Jams,
            audio("a", 400),
            At(ms(50)),
            On(Event::CallerStalled),
            At(ms(300)),
            Leaves,
            At(ms(400)),
            speaks(), // 100 ms after it left
        ]
    )));
}

#[test]
fn a_stalled_socket_stops_the_clock() {
    insta::assert_snapshot!(run(after(
        connected(),
        vec![
            started("r1"),
            audio("a", 400),
            Jams,
            audio("a", 400),
            At(ms(80)),
            On(Event::CallerStalled),
            At(ms(300)),
            speaks(), // 50 ms are sure, the rest is not
        ]
    )));
}

#[test]
fn marks_echoed_because_of_a_clear_prove_nothing() {
    insta::assert_snapshot!(run(after(
        connected(),
        vec![
            started("r1"),
            audio("a", 400),
            audio("a", 400),
            At(ms(130)),
            speaks(),
            At(ms(160)),
            echo(1),
            echo(2),
            ended("r1", Outcome::Cancelled),
            On(Event::SpeechStopped),
            started("r2"),
            audio_in("r2", "b", 400),
            At(ms(260)),
            speaks(), // 100 ms of b
        ]
    )));
}
