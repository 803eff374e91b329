//! The clock at the caller's ear: what is due when, in each way in which a model leaves a caller in silence.

use std::f64::consts::TAU;

use super::tools::play as play_with_tools;
use super::*;
use crate::assistant::plan::{Sound, Sounds, Voice};
use switchboard_audio::encode;

const SPEECH: &[u8] = include_bytes!("../../../crates/simulator/src/speech/long.ulaw");

/// When each line that contains this was printed.
pub(super) fn times(text: &str, what: &str) -> Vec<u64> {
    let lines = text.lines().filter(|line| line.contains(what));
    lines.map(|line| line.trim_start().split("ms ").next().unwrap().parse().unwrap()).collect()
}

/// When the first of them was.
pub(super) fn first(text: &str, what: &str) -> Option<u64> {
    times(text, what).first().copied()
}

/// Frames of 20 ms from the phone, one after the other.
fn frames(from: u64, until: u64, ulaw: impl Fn(usize) -> u8) -> When {
    let frame = |at: u64| {
        let start = (at - from) as usize * 8;
        let ulaw: Vec<u8> = (start..start + 160).map(&ulaw).collect();
        [At(ms(at)), On(Event::CallerAudio(Chunk::from_ulaw(&ulaw)))]
    };
    All((from..until).step_by(20).flat_map(frame).collect())
}

/// The phone sends a speech.
pub(super) fn talks(from: u64, until: u64) -> When {
    frames(from, until, |n| SPEECH[n % SPEECH.len()])
}

/// The phone sends digital silence.
pub(super) fn quiet(from: u64, until: u64) -> When {
    frames(from, until, |_| 0xFF)
}

/// The phone sends hold music: a chord with a tremolo.
pub(super) fn music(from: u64, until: u64) -> When {
    frames(from, until, |n| {
        let tone = |hertz: f64| (TAU * hertz * n as f64 / 8_000.0).sin();
        let chord = (tone(262.0) + tone(330.0) + tone(392.0)) / 3.0 * (0.6 + 0.35 * tone(5.0));
        encode((chord * 32_767.0) as i16)
    })
}

/// Audio that nobody hears.
pub(super) fn mute(id: &str, item: &str, ms: usize) -> When {
    let chunk = Chunk::from_ulaw(&vec![0xFF; ms * 8]);
    On(Event::ModelAudio { response: response(id), item: ItemId::from(item), chunk })
}

fn failed(id: &str, failure: impl Into<Failure>) -> When {
    ended(id, Outcome::Failed(failure.into()))
}

pub(super) fn rate_limited(told: u64) -> Failure {
    Failure { retry_after: Some(ms(told)), ..Cause::RateLimit.into() }
}

pub(super) fn fault(about: About, failure: impl Into<Failure>) -> When {
    On(Event::ModelFault(Fault::new(about, failure)))
}

/// A plan with a recorded line of this length.
fn with_line(ms: usize) -> Plan {
    let clip = Arc::new(Clip { ulaw: vec![0x30; ms * 8].into() });
    let line = |text: &str| Sound { text: text.to_owned(), voice: Voice::Recorded(clip.clone()) };
    Plan {
        sounds: Arc::new(Sounds {
            moment: line("One moment, please."),
            cut_off: line("We were cut off."),
            greeting: None,
        }),
        ..plan()
    }
}

#[test]
fn the_steps_of_the_ladder_have_exact_times() {
    let text = play(vec![says(), At(ms(30_000))]);
    assert_eq!(times(&text, "AskForResponse"), [1_530], "{text}");
    assert_eq!(first(&text, "PlayToCaller"), Some(2_530), "{text}");
    assert_eq!(times(&text, "OpenStandby"), [2_530], "one opens already: {text}");
    assert_eq!(times(&text, "End(ModelStalled)"), [20_030], "{text}");
    let mut two = plan();
    two.fallback = vec![Arc::new(plan())];
    let text = play_with(two, vec![says(), At(ms(30_000))]);
    assert_eq!(times(&text, "OpenStandby { endpoint: 0 }"), [2_530], "{text}");
    assert_eq!(times(&text, "OpenStandby { endpoint: 1 }"), [8_030], "{text}");
}

#[test]
fn what_nobody_hears_is_no_progress() {
    let words = |who| On(Event::TranscriptGrew { who, item: "a".into(), text: "word ".to_owned().into() });
    for noise in [
        || mute("r1", "a", 20),
        || On(Event::ModelWorking),
        || On(Event::TranscriptGrew { who: Who::Assistant, item: "a".into(), text: "x".to_owned().into() }),
    ] {
        let endless = (100..25_000).step_by(100).flat_map(|at| [At(ms(at)), noise()]);
        let text = play(vec![says(), started("r1"), All(endless.collect()), words(Who::Caller)]);
        assert!(times(&text, "PlayToCaller(7998B)").contains(&2_530), "the hold tone: {text}");
        assert_eq!(times(&text, "OpenStandby"), [8_030], "it lives, but another may speak: {text}");
        assert_eq!(first(&text, "End("), Some(20_030), "{text}");
    }
}

#[test]
fn a_response_that_hangs_after_its_start_gets_a_rival() {
    let text = play(vec![says(), started("r1"), At(ms(5_000)), audio("a", 400), done("r1")]);
    assert_eq!(times(&text, "OpenStandby"), [2_530], "{text}");
    assert_eq!(times(&text, "DropStandby"), [5_000], "it spoke after all: {text}");
    assert_eq!(count(&text, "AskForResponse"), 0, "a response is under way: {text}");
}

#[test]
fn the_hold_tone_ends_in_the_instant_in_which_speech_comes() {
    let text = play(vec![says(), At(ms(4_000)), started("r1"), audio("a", 400)]);
    let (before, after) = text.split_once("ClearCaller").expect("the tone is cleared");
    assert!(before.contains("2530ms PlayToCaller"), "{text}");
    assert!(after.contains("4000ms PlayToCaller(400ms)"), "{text}");
    assert_eq!(first(&text, "ClearCaller"), Some(4_000), "{text}");
    assert!(!text.contains("Truncate"), "nobody said it: {text}");
    // Digital silence does not end it.
    let text = play(vec![says(), At(ms(4_000)), started("r1"), mute("r1", "a", 400)]);
    assert!(!text.contains("ClearCaller"), "{text}");
}

#[test]
fn a_prepared_line_is_cut_by_the_caller_and_not_by_the_model() {
    let waits = || vec![says(), At(ms(2_600)), started("r1"), audio("a", 400)];
    let text = play_with(with_line(900), waits());
    assert!(!text.contains("ClearCaller"), "{text}");
    assert_eq!(first(&text, "PlayToCaller(900ms)"), Some(2_530), "{text}");
    assert_eq!(first(&text, "PlayToCaller(400ms)"), Some(2_600), "{text}");
    // All of it was heard, and the model knows.
    let text = play_with(with_line(900), vec![All(waits()), echo_at(4_000, 2), At(ms(4_100))]);
    assert_eq!(first(&text, "AssistantSaid"), Some(4_000), "{text}");
    // Half of it was heard.
    let text = play_with(with_line(900), vec![says(), At(ms(3_000)), speaks()]);
    assert_eq!(first(&text, "ClearCaller"), Some(3_000), "{text}");
    assert_eq!(first(&text, "TellModel(AssistantSaid"), Some(3_000), "{text}");
}

#[test]
fn the_hold_tone_follows_the_line_and_comes_back_after_the_caller() {
    let text = play_with(with_line(900), vec![says(), At(ms(5_000))]);
    assert_eq!(first(&text, "PlayToCaller(7998B)"), Some(3_130), "shortly before the line ends: {text}");
    // Only our ear hears the caller: the tone pauses for them, and goes on.
    let text = play(vec![says(), quiet(40, 3_000), talks(3_000, 4_500), quiet(4_500, 7_500)]);
    let tones = times(&text, "PlayToCaller(7998B)");
    assert!(!tones.iter().any(|at| (3_700..4_500).contains(at)), "{tones:?}");
    assert!(tones.iter().any(|at| (4_500..5_500).contains(at)), "{tones:?}");
}

#[test]
fn a_tool_that_starts_or_ends_does_not_start_the_silence_anew() {
    // The model thinks for 2 s, then calls a tool; its filler never comes.
    let text = play_with_tools(vec![
        says(),
        started("r1"),
        At(ms(2_000)),
        tool("c1", "look_up"),
        done("r1"),
        At(ms(7_000)),
    ]);
    assert_eq!(first(&text, "PlayToCaller"), Some(2_530), "{text}");
    let text = play_with_tools(vec![calls("r1", "c1", "look_up"), At(ms(4_000))]);
    assert_eq!(first(&text, "Say(Filler)"), Some(1_530), "{text}");
    assert_eq!(first(&text, "PlayToCaller"), Some(2_530), "{text}");
    assert!(!text.contains("OpenStandby"), "the filler had no time yet: {text}");
}

#[test]
fn silence_while_a_tool_runs_is_filled() {
    let script = vec![
        calls("r1", "c1", "look_up"),
        At(ms(1_600)),
        answer("r2", "b", 800),
        echo_at(2_430, 1),
        At(ms(7_000)),
        finished("c1"),
    ];
    let text = play_with_tools(script);
    assert!(times(&text, "PlayToCaller(7998B)").contains(&4_930), "2.5 s after the filler: {text}");
    assert_eq!(first(&text, "AskForResponse"), Some(7_000), "{text}");
}

#[test]
fn a_turn_that_the_model_does_not_end_is_ended_by_our_ear() {
    let script = || vec![quiet(40, 400), speaks(), talks(400, 2_400), quiet(2_400, 5_400)];
    let text = play(script());
    let end = first(&text, "CommitAudio").expect("the turn is ended");
    assert!((4_200..=5_200).contains(&end), "{end}: {text}");
    assert_eq!(first(&text, "AskForResponse"), Some(end), "{text}");
    // Keys that were pressed meanwhile are answered, too.
    let keys = vec![quiet(40, 400), speaks(), press("1#"), quiet(400, 3_000)];
    let text = play(keys);
    assert!(
        text.contains("Pressed") && first(&text, "AskForResponse").is_some_and(|at| at <= 2_500),
        "{text}"
    );
    // Its end is reported late, which asks for nothing.
    let text = play(vec![All(script()), stops(), answer("r1", "a", 400), quiet(5_400, 9_000)]);
    assert_eq!(count(&text, "AskForResponse"), 1, "{text}");
}

#[test]
fn a_model_that_still_waits_for_the_end_of_a_turn_hears_the_next_one() {
    let script = vec![
        quiet(40, 400),
        speaks(),
        quiet(400, 3_000),
        answer("r1", "a", 20_000),
        quiet(3_000, 5_000),
        talks(5_000, 6_500),
        quiet(6_500, 9_500),
    ];
    let text = play(script);
    assert_eq!(count(&text, "CommitAudio"), 2, "{text}");
    let cut = *times(&text, "ClearCaller").last().expect("the caller interrupts");
    assert!((5_000..=5_600).contains(&cut), "{cut}: {text}");
    assert_eq!(count(&text, "AskForResponse"), 2, "{text}");
}

#[test]
fn a_phantom_speech_during_an_answer_is_over_after_two_seconds() {
    let script = vec![
        quiet(40, 400),
        answer("r1", "a", 5_000),
        quiet(400, 1_000),
        speaks(),
        quiet(1_000, 4_000),
        answer("r2", "b", 400),
    ];
    let text = play(script);
    assert_eq!(first(&text, "ClearCaller"), Some(1_000 - 20), "{text}");
    assert!(first(&text, "AskForResponse").is_some_and(|at| at <= 3_500), "{text}");
    assert!(text.contains("PlayToCaller(400ms)"), "{text}");
}

/// A turn of three seconds that only the model hears, and a second later its answer. `stops`: the model finds its end.
fn unheard(from: u64, id: &str, ends: bool) -> When {
    let end = if ends { stops() } else { All(Vec::new()) };
    let answers = answer(id, id, 400);
    All(vec![speaks(), quiet(from, from + 3_000), end, answers, quiet(from + 3_000, from + 4_000)])
}

#[test]
fn a_voice_too_soft_for_our_ear_is_answered() {
    // Two turns are ended when our ear has heard nothing for two seconds. From then on, the model's ear counts.
    for (interruptions, asks_again) in
        [(Interruptions::Immediate, 13_500 - 20), (Interruptions::None, 12_000 - 20)]
    {
        let mut plan = plan();
        plan.turn_taking.interruptions = interruptions;
        let script = vec![
            quiet(40, 1_000),
            unheard(1_000, "r1", false),
            unheard(5_000, "r2", false),
            speaks(),
            quiet(9_000, 12_000),
            stops(),
            quiet(12_000, 14_000),
        ];
        let text = play_with(plan, script);
        assert_eq!(count(&text, "CommitAudio"), 2, "{text}");
        assert_eq!(times(&text, "AskForResponse").get(2), Some(&asks_again), "{text}");
    }
}

#[test]
fn a_conversation_with_a_soft_voice_is_no_silence() {
    let mut plan = plan();
    plan.limits.silence = Duration::from_secs(20);
    let turn = |n: u64| unheard(1_000 + n * 4_000, &format!("r{n}"), n > 1);
    let text = play_with(plan, vec![quiet(40, 1_000), All((0..20).map(turn).collect())]);
    assert!(!text.contains("CheckCaller") && !text.contains("End("), "{text}");
}

#[test]
fn a_turn_ends_although_the_phone_sends_nothing_more() {
    let text = play(vec![quiet(40, 400), speaks(), talks(400, 1_400), At(ms(5_000))]);
    assert!(first(&text, "CommitAudio").is_some_and(|at| at <= 4_000), "{text}");
}

#[test]
fn music_counts_as_silence_after_a_minute() {
    let mut plan = plan();
    plan.limits.silence = Duration::from_secs(40);
    let text = play_with(plan, vec![quiet(40, 200), speaks(), music(200, 110_000)]);
    let asked = first(&text, "Say(CheckCaller { heard: true })").expect("the caller is asked");
    assert!((79_000..=84_000).contains(&asked), "{asked}");
    assert!(!text.contains("heard: false"), "{text}");
}

#[test]
fn a_greeting_without_sound_is_asked_for_again() {
    let greets = || Plan { greeting: greeting("Hello!"), ..plan() };
    let text = play_with(greets(), vec![silent("r1"), silent("r2"), At(ms(1_100)), answer("r3", "a", 400)]);
    assert_eq!(times(&text, "Say(Greeting"), [0, 30, 1_030], "{text}");
    let text = play_with(greets(), vec![silent("r1"), At(ms(30_000))]);
    assert_eq!(first(&text, "PlayToCaller"), Some(2_500), "{text}");
    assert!(text.contains("End(ModelStalled)"), "{text}");
}

#[test]
fn an_answer_that_breaks_off_goes_on() {
    let broken = |how: Outcome| vec![says(), started("r1"), audio("a", 1_000), ended("r1", how)];
    for how in [
        Outcome::Failed(Failure::default()),
        Outcome::Incomplete(Why::TooLong),
        Outcome::Incomplete(Why::Unknown),
        Outcome::Cancelled(By::Unknown),
        CANCELLED,
    ] {
        let text = play(broken(how.clone()));
        assert_eq!(times(&text, "Say(GoOn"), [30], "{how:?}: {text}");
    }
    let text = play(broken(Outcome::Completed));
    assert_eq!(count(&text, "Say("), 0, "{text}");
    // After the first time with pauses that grow.
    let again = |id: &str| All(vec![started(id), ended(id, Outcome::Failed(Failure::default()))]);
    let mut script = broken(Outcome::Failed(Failure::default()));
    script.extend([again("r2"), At(ms(1_100)), again("r3"), At(ms(3_200)), again("r4"), At(ms(7_500))]);
    let text = play(script);
    assert_eq!(times(&text, "Say(GoOn"), [30, 1_030, 3_100, 7_200], "{text}");
}

#[test]
fn a_model_that_only_begins_its_answers_is_given_up() {
    let mut script = vec![says()];
    for n in 0..20 {
        let id = format!("r{n}");
        script.extend([started(&id), audio_in(&id, &id, 100), failed(&id, Failure::default())]);
        script.push(At(ms(6_000 * (n + 1))));
    }
    let text = play(script);
    assert!(count(&text, "Say(GoOn") <= 18, "{text}");
    assert!(text.contains("End(ModelFailed)"), "{text}");
}

#[test]
fn a_filtered_answer_becomes_an_excuse() {
    for spoken in [0, 400] {
        let filtered = ended("r1", Outcome::Incomplete(Why::Filtered));
        let text = play(vec![says(), started("r1"), audio("a", spoken), filtered]);
        assert_eq!((count(&text, "Say(CannotHelp)"), count(&text, "Say(GoOn")), (1, 0), "{text}");
    }
    // A goodbye stays one.
    let filtered = ended("r1", Outcome::Incomplete(Why::Filtered));
    let text = play(vec![On(Event::Draining), started("r1"), filtered]);
    assert_eq!((count(&text, "Say(Goodbye"), count(&text, "Say(CannotHelp)")), (2, 0), "{text}");
}

#[test]
fn an_answer_in_writing_is_asked_for_aloud() {
    let text = play(vec![says(), silent("r1")]);
    assert_eq!(times(&text, "Say(SayAloud)"), [30], "{text}");
    assert!(!text.contains("OpenStandby"), "nothing was replayed: {text}");
}

#[test]
fn a_provider_that_says_when_to_try_again_is_asked_then() {
    let text =
        play(vec![says(), started("r1"), failed("r1", rate_limited(1_500)), At(ms(1_500)), At(ms(1_800))]);
    assert_eq!(times(&text, "AskForResponse"), [1_530], "not before, and not twice: {text}");
    let text = play(vec![press("1#"), fault(About::Request, rate_limited(1_500)), At(ms(1_800))]);
    assert_eq!(times(&text, "AskForResponse"), [30, 1_530], "{text}");
    // Every response fails for 1.5 s: the call lives.
    let text = play(vec![
        says(),
        started("r1"),
        failed("r1", rate_limited(1_500)),
        At(ms(1_600)),
        answer("r2", "a", 400),
    ]);
    assert!(!text.contains("End(") && text.contains("PlayToCaller(400ms)"), "{text}");
}

#[test]
fn a_request_is_repeated_only_after_its_own_time() {
    let text =
        play(vec![says(), started("r1"), failed("r1", rate_limited(1_400)), At(ms(2_800)), At(ms(3_100))]);
    assert_eq!(times(&text, "AskForResponse"), [1_430, 2_930], "{text}");
}

#[test]
fn conflicts_again_and_again_are_bounded() {
    let mut script = vec![press("1#")];
    for n in 0..30 {
        script.extend([fault(About::Request, Cause::Conflict), At(ms(1_040 * (n + 1)))]);
    }
    let text = play(script);
    let asks = count(&text, "AskForResponse");
    assert!((5..=25).contains(&asks), "{asks}: {text}");
    assert_eq!(first(&text, "PlayToCaller"), Some(2_530), "{text}");
    assert_eq!(first(&text, "End("), Some(20_030), "{text}");
    // One that the error names is cancelled.
    let named = Fault { active: Some(response("r9")), ..Fault::new(About::Request, Cause::Conflict) };
    let text = play(vec![press("1#"), On(Event::ModelFault(named))]);
    assert!(text.contains(r#"CancelResponse(ResponseId("r9"))"#), "{text}");
}

#[test]
fn an_unknown_error_ends_nothing() {
    let text = play(vec![
        fault(About::Other, Failure::default()),
        press("1#"),
        fault(About::Request, Failure::default()),
        At(ms(1_100)),
        answer("r1", "a", 400),
        At(ms(1_500)),
    ]);
    assert!(!text.contains("End(") && text.contains("PlayToCaller(400ms)"), "{text}");
}

#[test]
fn the_hold_tone_is_no_goodbye() {
    let hangs = || vec![says(), started("r1"), At(ms(3_000))];
    let text = play(vec![All(hangs()), tool("c1", END_CALL), done("r1"), At(ms(4_400))]);
    assert_eq!(count(&text, "Say(Goodbye"), 1, "{text}");
    assert!(!text.contains("End("), "{text}");
}

#[test]
fn an_out_of_band_filler_takes_the_place_of_the_tone() {
    let out_of_band = On(Event::OutOfBandStarted(response("s1")));
    let text = play(vec![
        says(),
        started("r1"),
        At(ms(2_000)),
        hosted("h1"),
        At(ms(3_600)),
        out_of_band,
        audio_in("s1", "x", 400),
        At(ms(4_000)),
    ]);
    assert_eq!(first(&text, "SayOutOfBand"), Some(3_500), "{text}");
    assert_eq!(first(&text, "ClearCaller"), Some(3_600), "{text}");
    let tones = times(&text, "PlayToCaller(7998B)");
    assert!(tones.iter().all(|at| *at < 3_600), "no tone between its words: {text}");
}

#[test]
fn a_caller_who_speaks_before_the_repeated_request_is_answered_is_not_talked_over() {
    let text = play(vec![says(), At(ms(1_600)), speaks(), started("r1"), audio("a", 400)]);
    assert_eq!((count(&text, "CancelResponse"), count(&text, "PlayToCaller")), (1, 0), "{text}");
}

#[test]
fn an_answer_that_stops_in_mid_sentence_is_silence_from_its_last_sound() {
    let stops =
        vec![says(), started("r1"), audio("a", 1_000), audio("a", 100), At(ms(1_160)), echo(1), echo(2)];
    let text = play(vec![All(stops), At(ms(4_000))]);
    assert_eq!(times(&text, "MarkForCaller(Mark(2))"), [1_130], "{text}");
    assert_eq!(times(&text, "PlayToCaller(7998B)"), [30, 3_660], "{text}");
}

#[test]
fn an_echo_of_the_assistants_voice_is_no_turn() {
    // A loudspeaker: what the assistant says comes back, and the model knows better than to answer it.
    let script = vec![
        quiet(40, 400),
        answer("r1", "a", 9_000),
        talks(400, 9_300),
        echo_at(9_400, 1),
        quiet(9_400, 14_000),
    ];
    let text = play(script);
    let asked = count(&text, "CommitAudio") + count(&text, "AskForResponse") + count(&text, "OpenStandby");
    assert_eq!(asked, 0, "{text}");
    // Whoever answers at once is no echo: it ends soon after the voice.
    let text = play(vec![
        quiet(40, 400),
        answer("r1", "a", 9_000),
        quiet(400, 9_100),
        echo_at(9_100, 1),
        talks(9_400, 11_000),
        quiet(11_000, 15_000),
    ]);
    assert_eq!((count(&text, "CommitAudio"), count(&text, "AskForResponse")), (1, 1), "{text}");
    // The same without a voice is a turn that the model missed.
    let text = play(vec![quiet(40, 2_000), talks(2_000, 4_000), quiet(4_000, 8_000)]);
    assert_eq!((count(&text, "CommitAudio"), count(&text, "AskForResponse")), (1, 1), "{text}");
}

#[test]
fn an_echo_that_comes_back_after_an_interruption_is_no_turn() {
    // The caller interrupts with a word, and what the assistant said last still comes back from their loudspeaker.
    let script = vec![
        quiet(40, 400),
        answer("r1", "a", 9_000),
        talks(400, 2_000),
        speaks(),
        stops(),
        answer("r2", "b", 100),
        quiet(2_000, 2_260),
        talks(2_260, 3_200),
        quiet(3_200, 6_000),
    ];
    let mut run = Run::new(Instant::now(), plan());
    run.play(All(vec![On(Event::ModelReady { endpoint: 0 }), On(Event::StreamStarted), At(ms(30)), echo(0)]));
    run.play(All(script.into_iter().take(4).collect()));
    let cut = run.now;
    assert_eq!(run.call.watch.echo_until(), Some(cut + ms(700)), "its echo may still come: {}", run.text);
}

#[test]
fn what_was_asked_for_twice_is_heard_once() {
    let asked = || vec![press("1#"), At(ms(1_600)), answer("r1", "a", 400), At(ms(1_700))];
    let text = play(vec![All(asked()), answer("r2", "b", 400)]);
    assert_eq!(times(&text, "AskForResponse"), [30, 1_530], "{text}");
    assert_eq!(count(&text, "PlayToCaller(400ms)"), 1, "{text}");
    assert!(text.contains(r#"CancelResponse(ResponseId("r2"))"#), "{text}");
    // The model answers by itself after all, and then as it was asked to.
    let text = play(vec![says(), At(ms(1_600)), answer("r1", "a", 400), answer("r2", "b", 400)]);
    assert_eq!(count(&text, "PlayToCaller(400ms)"), 1, "{text}");
    // The second request was refused, so that what comes next is something else.
    let refused = fault(About::Request, Cause::Conflict);
    let text = play(vec![All(asked()), refused, answer("r2", "b", 400)]);
    assert_eq!(count(&text, "PlayToCaller(400ms)"), 2, "{text}");
    let text = play(vec![All(asked()), says(), answer("r2", "b", 400)]);
    assert_eq!(count(&text, "PlayToCaller(400ms)"), 2, "the answer to the next turn: {text}");
}

#[test]
fn a_filter_that_never_lets_an_answer_through_ends_the_call_for_that_reason() {
    let filtered = |id: &str| All(vec![started(id), ended(id, Outcome::Incomplete(Why::Filtered))]);
    let mut script = vec![says()];
    for n in 0..10 {
        script.extend([filtered(&format!("r{n}")), At(ms(30 + 2_500 * (n + 1)))]);
    }
    let mut run = Run::new(Instant::now(), plan());
    run.play(All(vec![On(Event::ModelReady { endpoint: 0 }), On(Event::StreamStarted), At(ms(30)), echo(0)]));
    run.play(All(script));
    assert!(run.text.contains("End(ModelFailed)"), "{}", run.text);
    let failure = run.call.tally().failure.clone().unwrap_or_default();
    assert_eq!(failure.cause, Some(Cause::Filtered));
    // One answer in between, and the silence after it has another reason.
    let text =
        play(vec![says(), filtered("r1"), answer("r2", "a", 400), echo_at(500, 1), says(), At(ms(25_000))]);
    assert!(text.contains("End(ModelStalled)"), "{text}");
}

#[test]
fn what_the_rules_forbid_is_excused_once() {
    let forbidden = |id: &str| All(vec![started(id), failed(id, Cause::Policy)]);
    let text = play(vec![says(), forbidden("r1"), answer("r2", "a", 400), At(ms(500))]);
    assert_eq!((times(&text, "Say(CannotHelp)"), count(&text, "End(")), (vec![30], 0), "{text}");
    assert!(!text.contains("OpenStandby"), "every provider would answer the same: {text}");
    let text = play(vec![says(), forbidden("r1"), forbidden("r2")]);
    assert!(text.ends_with("30ms End(ModelRefused)\n"), "{text}");
    // The request itself is refused.
    let text =
        play(vec![press("1#"), fault(About::Request, Cause::Policy), answer("r2", "a", 400), At(ms(500))]);
    assert_eq!((count(&text, "Say(CannotHelp)"), count(&text, "End(")), (1, 0), "{text}");
    let text =
        play(vec![press("1#"), fault(About::Request, Cause::Policy), fault(About::Request, Cause::Policy)]);
    assert!(text.ends_with("30ms End(ModelRefused)\n"), "{text}");
    // Something else that we sent: the call goes on.
    let text = play(vec![fault(About::Other, Cause::Policy), At(ms(500))]);
    assert!(!text.contains("End("), "{text}");
}

#[test]
fn near_a_limit_of_the_account_only_what_is_needed_is_asked_for() {
    let start = Instant::now();
    let limited = |seconds: u64, plan: Plan, script: Vec<When>| {
        let until = start + Duration::from_secs(seconds);
        let connected = [
            On(Event::ModelReady { endpoint: 0 }),
            On(Event::StreamStarted),
            On(Event::RateLimited { until }),
            At(ms(30)),
            echo(0),
        ];
        run_from(start, plan, connected.into_iter().chain(script).collect())
    };
    let checks = |seconds| count(&limited(seconds, plan(), vec![wait(3, 40)]), "Say(CheckCaller");
    assert!(checks(60) == 0 && checks(20) > 0);
    // The filler has the time until the sound, if the limit is restored before.
    let filler = |seconds| {
        let plan = super::tools::plan_with_tools();
        first(&limited(seconds, plan, vec![calls("r1", "c1", "look_up"), At(ms(4_000))]), "Say(Filler)")
    };
    assert_eq!((filler(60), filler(1)), (None, Some(1_530)));
    // A failure that does not say for how long: the limits did.
    let text = limited(2, plan(), vec![says(), started("r1"), failed("r1", Cause::RateLimit), At(ms(2_200))]);
    assert_eq!(times(&text, "AskForResponse"), [2_000], "{text}");
}
