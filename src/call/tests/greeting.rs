//! The greeting, and who takes turns after it.

use super::*;
use crate::call::greeting::words_heard;

#[test]
fn the_greeting_is_asked_for_when_phone_and_model_are_there() {
    let mut plan = plan();
    plan.greeting = greeting("Hello!");
    insta::assert_snapshot!(run_with(
        plan,
        vec![
            On(Event::StreamStarted),
            On(Event::CallerAudio(Chunk::from_ulaw(&[0xFF; 160]))),
            At(ms(100)),
            On(Event::ModelReady),
            started("r1"),
            audio("a", 400),
            ended("r1", Outcome::Completed),
        ]
    ));
}

#[test]
fn a_recorded_greeting_plays_at_once_and_is_told_as_far_as_it_was_heard() {
    let mut plan = plan();
    plan.greeting = greeting("one two three four five six seven eight nine ten");
    plan.greeting.clip = Some(Arc::new(Clip { ulaw: vec![0xFF; 16_000].into() }));
    insta::assert_snapshot!(run_with(
        plan,
        vec![
            On(Event::StreamStarted),
            At(ms(500)),
            On(Event::ModelReady),
            At(ms(1000)),
            speaks(),
            On(Event::SpeechStopped),
            started("r1"),
            audio("a", 400),
        ]
    ));
}

#[test]
fn a_recorded_greeting_heard_before_the_model_is_there_is_told_later() {
    let mut plan = plan();
    plan.greeting = greeting("Hello, this is the clinic.");
    plan.greeting.clip = Some(Arc::new(Clip { ulaw: vec![0xFF; 800].into() }));
    insta::assert_snapshot!(run_with(
        plan,
        vec![
            On(Event::StreamStarted),
            At(ms(30)),
            echo(0),
            At(ms(130)),
            echo(1),
            On(Event::Digit('5')),
            On(Event::Digit('#')),
            At(ms(500)),
            On(Event::ModelReady),
        ]
    ));
}

#[test]
fn an_uninterruptible_greeting_is_heard_out_before_the_model_takes_turns() {
    let mut plan = plan();
    plan.greeting = greeting("Hello!");
    plan.greeting.interruptible = false;
    insta::assert_snapshot!(run_with(
        plan,
        after(
            connected(),
            vec![
                started("r1"),
                audio("a", 1000),
                ended("r1", Outcome::Completed),
                At(ms(300)),
                speaks(),
                At(ms(700)),
                On(Event::SpeechStopped), // owed an answer, once the greeting is over
                At(ms(1060)),
                echo(1),
                started("r2"),
                audio_in("r2", "b", 1000),
                At(ms(1200)),
                speaks(),
            ]
        )
    ));
}

#[test]
fn without_interruptions_the_answer_waits_for_speech_and_playback() {
    let mut plan = plan();
    plan.turn_taking.interruptions = false;
    insta::assert_snapshot!(run_with(
        plan,
        after(
            connected(),
            vec![
                speaks(),
                At(ms(400)),
                On(Event::SpeechStopped),
                started("r1"),
                audio("a", 1000),
                ended("r1", Outcome::Completed),
                At(ms(600)),
                speaks(),
                At(ms(900)),
                On(Event::SpeechStopped),
                At(ms(1430)),
                echo(1),
            ]
        )
    ));
}

#[test]
fn only_whole_words_count_as_heard() {
    for (text, share, heard) in [
        ("Hello, this is the clinic.", 1.0, "Hello, this is the clinic."),
        ("Hello, this is the clinic.", 0.5, "Hello, this"),
        ("Hello, this is the clinic.", 0.1, ""),
        ("", 0.5, ""),
        ("Grüße aus Köln an alle", 0.5, "Grüße aus"),
    ] {
        assert_eq!(words_heard(text, share), heard, "{share} of {text:?}");
    }
}
