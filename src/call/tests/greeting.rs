//! The greeting, and who takes turns after it.

use super::silence::talks;
use super::*;

#[test]
fn the_greeting_waits_for_phone_and_model() {
    let mut plan = plan();
    plan.greeting = greeting("Hello!");
    insta::assert_snapshot!(run(
        plan,
        vec![
            On(Event::StreamStarted),
            frame(),
            At(ms(100)),
            On(Event::ModelReady { endpoint: 0 }),
            answer("r1", "a", 400)
        ]
    ));
}

#[test]
fn the_model_learns_which_words_of_a_recorded_greeting_were_heard() {
    let mut plan = plan();
    plan.greeting = greeting("one two three four five six seven eight nine ten");
    plan.greeting.clip = Some(Arc::new(Clip { ulaw: vec![0xFF; 16_000].into() }));
    insta::assert_snapshot!(run(
        plan,
        vec![
            On(Event::StreamStarted),
            At(ms(500)),
            On(Event::ModelReady { endpoint: 0 }),
            At(ms(1000)),
            says(),
            started("r1"),
            audio("a", 400),
        ]
    ));
}

#[test]
fn the_model_learns_of_a_recorded_greeting_when_it_is_ready() {
    let mut plan = plan();
    plan.greeting = greeting("Hello, this is the clinic.");
    plan.greeting.clip = Some(Arc::new(Clip { ulaw: vec![0xFF; 800].into() }));
    insta::assert_snapshot!(run(
        plan,
        vec![
            On(Event::StreamStarted),
            echo_at(30, 0),
            echo_at(130, 1),
            press("5#"),
            At(ms(500)),
            On(Event::ModelReady { endpoint: 0 }),
        ]
    ));
}

#[test]
fn the_model_takes_turns_after_an_uninterruptible_greeting() {
    let mut plan = plan();
    plan.greeting = greeting("Hello!");
    plan.greeting.interruptible = false;
    insta::assert_snapshot!(play_with(
        plan,
        vec![
            answer("r1", "a", 1000),
            At(ms(300)),
            speaks(),
            At(ms(700)),
            stops(), // answered after the greeting
            echo_at(1060, 1),
            started("r2"),
            audio_in("r2", "b", 1000),
            At(ms(1200)),
            speaks(),
        ]
    ));
}

#[test]
fn without_interruptions_the_answer_waits_for_playback() {
    let mut plan = plan();
    plan.turn_taking.interruptions = Interruptions::None;
    insta::assert_snapshot!(play_with(
        plan,
        vec![
            speaks(),
            At(ms(400)),
            stops(),
            answer("r1", "a", 1000),
            At(ms(600)),
            speaks(),
            At(ms(900)),
            stops(),
            echo_at(1430, 1),
        ]
    ));
}

#[test]
fn a_greeting_that_nobody_heard_is_said_again() {
    for interruptions in [Interruptions::Immediate, Interruptions::Confirmed] {
        let mut plan = plan();
        plan.greeting = greeting("Hello!");
        plan.turn_taking.interruptions = interruptions;
        let script = |heard_ms: u64| {
            vec![
                started("r1"),
                audio("a", 2_000),
                At(ms(30 + heard_ms)),
                speaks(),
                ended(
                    "r1",
                    if interruptions == Interruptions::Immediate { CANCELLED } else { Outcome::Completed },
                ),
                talks(30 + heard_ms, 1_500),
                stops(),
                At(ms(2_600)),
                answer("r2", "b", 500),
                wait(4, 8),
            ]
        };
        let text = play_with(plan.clone(), script(0));
        assert_eq!(count(&text, "Say(Greeting(\"Hello!\"))"), 2, "{interruptions:?}: {text}");
        // Then the caller is answered.
        assert!(text.contains("AskForResponse"), "{interruptions:?}: {text}");
        let text = play_with(plan, script(500));
        assert_eq!(count(&text, "Say(Greeting(\"Hello!\"))"), 1, "{interruptions:?}: {text}");
    }
}
