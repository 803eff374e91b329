//! Signals made of numbers, and the clips of the simulated model and the simulated caller.
#![expect(clippy::disallowed_methods, reason = "the first instant of a test must come from somewhere")]

use std::f64::consts::TAU;

use proptest::prelude::*;
use switchboard_audio::{Clip, SILENCE, decode, encode};

use super::*;

const SECOND: usize = 8_000;
const MEMORY: Duration = Duration::from_secs(8);
/// What the ear may take, before a call and for its length.
const _: () = assert!(size_of::<Ear>() <= 512);

/// Recorded at -3 dBFS.
const CLIPS: [(&str, &[u8]); 5] = [
    ("long", include_bytes!("../../../crates/simulator/src/speech/long.ulaw")),
    ("heard", include_bytes!("../../../crates/simulator/src/speech/heard.ulaw")),
    ("pizzeria", include_bytes!("../../../crates/simulator/src/speech/pizzeria.ulaw")),
    ("moment", include_bytes!("../../../crates/simulator/src/speech/moment.ulaw")),
    ("still there", include_bytes!("../../../crates/simulator/src/speech/still-there.ulaw")),
];

/// What the ear said after each frame.
#[derive(Default)]
struct Heard {
    speaks: Vec<bool>,
    sounds: Vec<bool>,
    quiet: Vec<Option<Duration>>,
    most_within: Duration,
}

impl Heard {
    fn of(samples: &[f64]) -> Self {
        let mut ear = Ear::default();
        let mut now = Instant::now();
        let mut heard = Self::default();
        for frame in samples.chunks(160) {
            let ulaw: Vec<u8> = frame.iter().map(|sample| encode((sample * 32_767.0) as i16)).collect();
            now += FRAME;
            ear.hear(&Chunk::from_ulaw(&ulaw), now);
            heard.speaks.push(ear.speaks(now));
            heard.sounds.push(ear.sounds(now));
            heard.quiet.push(ear.quiet_since(now).map(|since| now - since));
            heard.most_within = heard.most_within.max(ear.speech_within(MEMORY, now));
        }
        heard
    }

    fn is_quiet(&self) -> Vec<bool> {
        self.quiet.iter().map(|quiet| quiet.is_some_and(|quiet| quiet >= Duration::from_secs(2))).collect()
    }
}

fn percent(frames: &[bool]) -> usize {
    frames.iter().filter(|frame| **frame).count() * 100 / frames.len()
}

fn speech(ulaw: &[u8]) -> Vec<f64> {
    ulaw.iter().map(|byte| f64::from(decode(*byte)) / 32_768.0).collect()
}

/// The same hiss each time.
fn hiss(samples: usize) -> Vec<f64> {
    let mut state = 1_u32;
    let mut uniform = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        f64::from(state >> 8) / f64::from(1 << 24) - 0.5
    };
    (0..samples).map(|_| (uniform() + uniform()) * 6_f64.sqrt()).collect()
}

/// Noise that is stronger the lower it is, as of engines.
fn rumble(samples: usize) -> Vec<f64> {
    let mut level = 0.0;
    let low = hiss(samples).into_iter().map(|sample| {
        level = level * 0.85 + sample * 0.53;
        level
    });
    low.collect()
}

fn rms(samples: &[f64]) -> f64 {
    (samples.iter().map(|sample| sample * sample).sum::<f64>() / samples.len() as f64).sqrt()
}

fn mix(parts: &[(&[f64], f64)]) -> Vec<f64> {
    let length = parts.iter().map(|(part, _)| part.len()).min().unwrap();
    (0..length)
        .map(|n| parts.iter().map(|(part, gain)| part[n] * gain).sum::<f64>().clamp(-1.0, 1.0))
        .collect()
}

/// Sixteen people who speak at once.
fn many_voices() -> Vec<f64> {
    let clip: Vec<f64> = CLIPS.iter().flat_map(|(_, ulaw)| speech(ulaw)).collect();
    (0..16 * SECOND)
        .map(|n| (0..16).map(|voice| clip[(n + voice * 9_377) % clip.len()]).sum::<f64>() * 0.06)
        .collect()
}

/// A signal of `seconds` from a function of the time in seconds.
fn signal(seconds: usize, at: impl Fn(f64) -> f64) -> Vec<f64> {
    (0..seconds * SECOND).map(|n| at(n as f64 / SECOND as f64)).collect()
}

fn tone(hertz: f64, t: f64) -> f64 {
    (TAU * hertz * t).sin()
}

/// Notes that begin `rate` times a second and decay within `decay` seconds.
fn notes(rate: f64, decay: f64, t: f64) -> f64 {
    const SCALE: [f64; 6] = [262.0, 330.0, 392.0, 523.0, 440.0, 349.0];
    let current = (t * rate) as usize;
    let sounding = (current.saturating_sub(4)..=current).map(|note| {
        let since = t - note as f64 / rate;
        let hertz = SCALE[note % SCALE.len()];
        (tone(hertz, since) + 0.4 * tone(2.0 * hertz, since)) * (-since / decay).exp()
    });
    sounding.sum::<f64>() * 0.3
}

#[test]
fn speech_is_heard_from_its_first_word_to_its_last() {
    for (name, ulaw) in CLIPS {
        let before = vec![0.0; 2 * SECOND];
        let clip = [before.clone(), speech(ulaw), before].concat();
        let (hiss, rumble) = (hiss(clip.len()), rumble(clip.len()));
        let ten_db_below = 0.5 * rms(&speech(ulaw)) / 10_f64.sqrt();
        for (how, signal, soon) in [
            ("in digital silence", clip.clone(), 200),
            ("on a quiet line", mix(&[(&clip, 1.0), (&hiss, 0.000_5)]), 200),
            ("very softly, at -38 dBFS", mix(&[(&clip, 0.08), (&hiss, 0.000_3)]), 300),
            ("clipped", mix(&[(&clip, 4.0)]), 200),
            ("10 dB above hiss", mix(&[(&clip, 0.5), (&hiss, ten_db_below / rms(&hiss))]), 600),
            ("10 dB above traffic", mix(&[(&clip, 0.5), (&rumble, ten_db_below / rms(&rumble))]), 600),
        ] {
            let heard = Heard::of(&signal);
            let begins = 2 * SECOND / 160;
            let ends = begins + ulaw.len() / 160;
            assert_eq!(percent(&heard.speaks[..begins]), 0, "{name} {how}: before");
            let first = heard.speaks.iter().position(|speaks| *speaks).expect("it is heard");
            assert!((first - begins) * 20 <= soon, "{name} {how}: {} ms", (first - begins) * 20);
            let within = percent(&heard.speaks[first..ends]);
            assert!(within >= 95, "{name} {how}: {within} %");
            assert!(!heard.speaks[ends + 35..].contains(&true), "{name} {how}: after");
            let last = heard.quiet.last().unwrap().unwrap().as_millis();
            assert!((1_800..=2_300).contains(&last), "{name} {how}: quiet for {last} ms");
        }
    }
}

#[test]
fn the_callers_of_a_rehearsal_are_heard() {
    for wav in [
        include_bytes!("../../rehearse/speech/question.wav").as_slice(),
        include_bytes!("../../rehearse/speech/interruption.wav"),
        include_bytes!("../../rehearse/speech/goodbye.wav"),
    ] {
        let before = vec![0.0; SECOND / 2];
        let heard = Heard::of(&[before, speech(&Clip::from_wav(wav).unwrap().ulaw)].concat());
        assert!(percent(&heard.speaks[25..]) >= 85, "{} %", percent(&heard.speaks[25..]));
    }
}

#[test]
fn a_speech_with_pauses_fills_most_of_the_last_seconds() {
    let clip = [speech(CLIPS[0].1), speech(CLIPS[1].1)].concat();
    let heard = Heard::of(&clip);
    assert!(heard.most_within >= Duration::from_secs(6), "{:?}", heard.most_within);
}

#[test]
fn what_is_no_speech_is_not_taken_for_it() {
    let hiss = hiss(16 * SECOND);
    let rumble = rumble(16 * SECOND);
    let beat = |t: f64, seconds: f64, on: f64| if t % seconds < on { 1.0 } else { 0.0 };
    let chord = |t: f64| (tone(262.0, t) + tone(330.0, t) + tone(392.0, t)) / 3.0;
    let swell = |t: f64| (1.0 + 0.8 * (TAU * 0.15 * t).sin()) * (1.0 + 0.5 * (TAU * 0.4 * t).sin());
    let traffic: Vec<f64> =
        rumble.iter().enumerate().map(|(n, sample)| 0.05 * sample * swell(n as f64 / 8_000.0)).collect();
    let (background, sound) = (false, true);
    for (name, signal, is_sound) in [
        ("digital silence", vec![0.0; 16 * SECOND], background),
        ("comfort noise", mix(&[(&hiss, 0.000_5)]), background),
        ("hiss", mix(&[(&hiss, 0.1)]), background),
        ("rumble", mix(&[(&rumble, 0.1)]), background),
        ("a hum", signal(16, |t| 0.1 * tone(50.0, t) + 0.05 * tone(150.0, t)), background),
        ("a tone", signal(16, |t| 0.3 * tone(1_000.0, t)), background),
        ("a dial tone", signal(16, |t| 0.15 * (tone(350.0, t) + tone(440.0, t))), background),
        ("clicks", signal(16, |t| beat(t, 1.0, 0.03) * tone(1_700.0, t)), background),
        ("a chord with a tremolo", signal(16, |t| chord(t) * (0.6 + 0.35 * (TAU * 5.0 * t).sin())), sound),
        ("passing traffic", traffic, sound),
        ("ringing", signal(16, |t| 0.15 * beat(t, 6.0, 2.0) * (tone(440.0, t) + tone(480.0, t))), sound),
        ("busy", signal(16, |t| 0.15 * beat(t, 1.0, 0.5) * (tone(480.0, t) + tone(620.0, t))), sound),
        ("many voices", many_voices(), sound),
        ("a melody with rests", signal(16, |t| beat(t, 4.0, 3.7) * notes(2.0, 0.22, t)), sound),
        ("a melody", signal(16, |t| notes(3.0, 0.2, t)), sound),
        ("a slow melody", signal(16, |t| notes(1.5, 0.5, t)), sound),
        ("a fast melody", signal(16, |t| notes(8.0, 0.06, t)), sound),
        ("an organ", signal(16, |t| notes(2.0, 2.0, t)), background),
    ] {
        let heard = Heard::of(&signal);
        // Music that begins or rests is taken for speech for a moment.
        let most = if is_sound { 25 } else { 0 };
        assert!(percent(&heard.speaks) <= most, "{name}: {} %", percent(&heard.speaks));
        assert!(heard.most_within < Duration::from_secs(4), "{name}: {:?}", heard.most_within);
        let settled = 5 * 50;
        let (quiet, sounds) = (percent(&heard.is_quiet()[settled..]), percent(&heard.sounds[settled..]));
        if is_sound {
            assert!(sounds >= 50 && quiet <= 40, "{name}: sounds {sounds} %, quiet {quiet} %");
        } else {
            assert!(sounds <= 12 && quiet >= 85, "{name}: sounds {sounds} %, quiet {quiet} %");
        }
    }
}

#[test]
fn speech_is_heard_over_noise_that_has_begun_and_after_music() {
    let clip = [speech(CLIPS[0].1), vec![0.0; 2 * SECOND]].concat();
    let quiet = vec![0.0; 8 * SECOND];
    let noise = mix(&[(&hiss(8 * SECOND + clip.len()), 0.02)]);
    let over_noise = mix(&[(&[quiet, clip.clone()].concat(), 0.5), (&noise, 1.0)]);
    let heard = Heard::of(&over_noise);
    assert_eq!(percent(&heard.speaks[..400]), 0);
    assert!(percent(&heard.speaks[415..1_090]) >= 95, "{} %", percent(&heard.speaks[415..1_090]));

    // What was heard before counts for up to four seconds.
    let heard = Heard::of(&[signal(8, |t| notes(3.0, 0.2, t)), clip].concat());
    assert!(percent(&heard.speaks[600..1_090]) >= 90, "{} %", percent(&heard.speaks[600..1_090]));
}

/// An ear that heard the longest clip to its end, and when.
fn after_speech() -> (Ear, Instant) {
    let mut ear = Ear::default();
    let mut now = Instant::now();
    for frame in CLIPS[0].1.chunks(160) {
        now += FRAME;
        ear.hear(&Chunk::from_ulaw(frame), now);
    }
    (ear, now)
}

#[test]
fn time_passes_without_frames() {
    let (mut ear, now) = after_speech();
    assert!(ear.speaks(now));
    assert_eq!(ear.quiet_since(now), None);
    let most = ear.speech_within(MEMORY, now);
    assert!(most > Duration::from_secs(7), "{most:?}");

    let later = now + Duration::from_secs(3);
    assert!(!ear.speaks(later));
    assert!(ear.quiet_since(later).is_some_and(|since| now - since < Duration::from_millis(200)));
    let rest = most - ear.speech_within(MEMORY, later);
    assert!((Duration::from_millis(2_500)..=Duration::from_millis(3_300)).contains(&rest), "{rest:?}");
    assert_eq!(ear.speech_within(Duration::from_secs(2), later), Duration::ZERO);
    assert_eq!(ear.speech_within(MEMORY, now + 2 * MEMORY), Duration::ZERO);

    ear.hear(&Chunk::from_ulaw(&[SILENCE; 160]), now + 2 * MEMORY);
    assert_eq!(ear.speech_within(MEMORY, now + 2 * MEMORY), Duration::ZERO);
}

#[test]
fn frames_that_come_late_and_at_once_count_whole() {
    let mut ear = Ear::default();
    let now = Instant::now();
    let clip = CLIPS[0].1;
    ear.hear(&Chunk::from_ulaw(&clip[..SECOND]), now);
    ear.hear(&Chunk::from_ulaw(&clip[SECOND..2 * SECOND]), now + Duration::from_secs(2));
    let spoken = ear.speech_within(MEMORY, now + Duration::from_secs(2));
    assert!((1_600..=2_000).contains(&spoken.as_millis()), "{spoken:?}");
}

#[test]
fn nothing_is_known_before_the_first_frame() {
    let now = Instant::now();
    let ear = Ear::default();
    assert_eq!((ear.speaks(now), ear.sounds(now), ear.quiet_since(now)), (false, false, None));
    assert_eq!(ear.speech_within(MEMORY, now), Duration::ZERO);
}

proptest! {
    #[test]
    fn any_bytes_at_any_time_are_judged(
        heard in proptest::collection::vec((proptest::collection::vec(any::<u8>(), 0..400), 0_u64..20_000, 1_usize..30), 0..8),
        window in 0_u64..20_000,
    ) {
        let mut ear = Ear::default();
        let start = Instant::now();
        for (ulaw, at, times) in heard {
            // Not in order: a clock that goes back is no panic either.
            let now = start + Duration::from_millis(at);
            for _ in 0..times {
                ear.hear(&Chunk::from_ulaw(&ulaw), now);
            }
            let window = Duration::from_millis(window);
            prop_assert!(!(ear.speaks(now) && ear.sounds(now)));
            prop_assert!(!(ear.speaks(now) && ear.quiet_since(now).is_some()));
            prop_assert!(ear.speech_within(window, now) <= window);
        }
    }
}
