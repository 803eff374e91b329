//! The goodbye, and what leads to it.

use super::*;

#[test]
fn the_goodbye_is_heard_before_the_call_ends() {
    insta::assert_snapshot!(run(after(
        connected_and_greeted(),
        vec![
            started("r1"),
            audio("a", 2000),
            tool("c1", END_CALL),
            tool("c1", END_CALL), // told of twice
            ended("r1", Outcome::Completed),
            At(ms(2060)),
            echo(1),
        ]
    )));
}

#[test]
fn a_goodbye_that_was_not_said_is_asked_for() {
    insta::assert_snapshot!(run(after(
        connected_and_greeted(),
        vec![
            started("r1"),
            tool("c1", END_CALL),
            ended("r1", Outcome::Completed),
            started("r2"),
            audio_in("r2", "b", 1000),
            ended("r2", Outcome::Completed),
            At(ms(1100)),
            echo(1),
        ]
    )));
}

#[test]
fn a_caller_who_speaks_over_the_goodbye_keeps_the_call() {
    insta::assert_snapshot!(run(after(
        connected_and_greeted(),
        vec![
            started("r1"),
            audio("a", 2000),
            tool("c1", END_CALL),
            ended("r1", Outcome::Completed),
            At(ms(1030)),
            speaks(),
            At(ms(2060)),
            echo(1),
            At(ms(12_000)),
            On(Event::SpeechStopped),
        ]
    )));
}

#[test]
fn a_goodbye_that_is_not_heard_ends_in_ten_seconds() {
    insta::assert_snapshot!(run(after(
        connected_and_greeted(),
        vec![
            started("r1"),
            audio("a", 900),
            tool("c1", END_CALL),
            At(ms(11_000)), // its response never ends
        ]
    )));
}

#[test]
fn the_silence_ladder_asks_then_says_goodbye() {
    let mut script = connected();
    // The phone sends frames all the time; here one each second is enough.
    let listening = |script: &mut Vec<When>, from: u64, to: u64| {
        for second in from..=to {
            script.push(At(ms(second * 1_000)));
            script.push(On(Event::CallerAudio(Chunk::from_ulaw(&[0xFF; 160]))));
        }
    };
    listening(&mut script, 1, 31); // half of it passes at 30.03 s
    script.extend([started("r1"), audio("a", 1_000), ended("r1", Outcome::Completed)]);
    script.extend([At(ms(32_060)), echo(1)]); // while it played, nobody was silent
    listening(&mut script, 33, 63);
    script.extend([started("r2"), audio_in("r2", "b", 1_000), ended("r2", Outcome::Completed)]);
    script.extend([At(ms(64_100)), echo(2)]);
    let text = run(script);
    let lines: Vec<&str> = text.lines().filter(|line| !line.contains("AppendToModel")).collect();
    insta::assert_snapshot!(lines.join("\n"));
}

#[test]
fn a_call_that_is_too_long_is_cut_short_politely() {
    let mut plan = plan();
    plan.limits.call = Duration::from_secs(10);
    insta::assert_snapshot!(run_with(
        plan,
        after(
            connected(),
            vec![
                At(ms(9_000)),
                started("r1"),
                audio("a", 8_000),
                At(ms(10_000)), // the answer has 7 s to go
                ended("r1", Outcome::Cancelled),
                started("r2"),
                audio_in("r2", "b", 1_000),
                ended("r2", Outcome::Completed),
                speaks(), // changes nothing now
                On(Event::SpeechStopped),
                started("r3"), // the model answers by itself: nobody may hear it
                audio_in("r3", "c", 1_000),
                ended("r3", Outcome::Cancelled),
                At(ms(11_060)),
                echo(2),
            ]
        )
    ));
}

#[test]
fn draining_says_goodbye() {
    insta::assert_snapshot!(run(after(
        connected(),
        vec![
            On(Event::Draining),
            started("r1"),
            audio("a", 500),
            ended("r1", Outcome::Completed),
            At(ms(560)),
            echo(1),
        ]
    )));
}

#[test]
fn a_goodbye_that_breaks_is_asked_for_once_more() {
    insta::assert_snapshot!(run(after(
        connected(),
        vec![
            On(Event::Draining),
            started("r1"),
            ended("r1", Outcome::Failed),
            started("r2"),
            audio_in("r2", "b", 500),
            ended("r2", Outcome::Completed),
            At(ms(560)),
            echo(1),
        ]
    )));
}

#[test]
fn a_goodbye_before_the_model_is_there_is_said_when_it_is() {
    insta::assert_snapshot!(run(vec![
        On(Event::StreamStarted),
        On(Event::Draining),
        At(ms(500)),
        On(Event::ModelReady),
        started("r1"),
        audio("a", 500),
        ended("r1", Outcome::Completed),
        At(ms(1_100)),
        echo(1),
    ]));
}
