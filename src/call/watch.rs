//! The clock at the caller's ear: whenever the assistant owes something and nothing audible comes, something happens
//! within a known time.
//!
//! | silence | what happens |
//! | --- | --- |
//! | 1.5 s | no response is under way: it is asked for again |
//! | 2.5 s | a prepared line, then the hold tone; if the session shows no sign of life, a standby is opened |
//! | 8 s | the next provider |
//! | 20 s | the call ends with the assistant's `on_failure` |
//!
//! Only speech that the caller can hear stops the clock: no event, no transcript and no digital silence does. While a
//! tool runs, the model owes nothing yet, so that only the sound is due: tools have limits of their own.

use std::time::{Duration, Instant};

use super::action::{Action, Anomaly, Cause, Recording};
use super::end_reason::EndReason;
use super::playback::Source;
use super::speech::What;
use super::stopwatch::Stopwatch;
use super::{Call, count};
use crate::assistant::plan::Hold;
use crate::id::ResponseId;
use crate::provider::{self, Failure};
use switchboard_audio::{BYTES_PER_MS, Chunk, hold};

/// After how much silence what is due and has not begun is asked for again.
const ASK_AGAIN: Duration = Duration::from_millis(1_500);
/// After how much silence the caller hears a sound.
const SOUND: Duration = Duration::from_millis(2_500);
/// What is due after how much silence of the model, in order.
const LADDER: [(Duration, Rung); 3] = [
    (Duration::from_millis(2_500), Rung::SecondSession),
    (Duration::from_secs(8), Rung::NextProvider),
    (Duration::from_secs(20), Rung::GiveUp),
];
/// How long after the assistant's voice its echo may still come back from the phone.
const ECHO: Duration = Duration::from_millis(700);
/// How much of a voice must be heard to break a silence.
const BREAKS_SILENCE_MS: u64 = 100;
/// A model that has sent nothing for this long shows no sign of life.
const SIGN_OF_LIFE: Duration = Duration::from_millis(2_500);
/// How much of the hold tone is queued at a time, and how long before its end the next piece follows.
const TONE_MS: usize = 1_000;
const TONE_AHEAD: Duration = Duration::from_millis(300);
/// A prepared line is not repeated within this time.
const LINE_PAUSE: Duration = Duration::from_secs(20);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rung {
    SecondSession,
    NextProvider,
    GiveUp,
}

/// Who owes the caller something to hear.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Debtor {
    Nobody,
    /// A tool runs, and what follows it.
    Tool,
    Model,
}

#[derive(Debug, Default)]
pub(super) struct Watch {
    /// The silence in which anything is owed.
    silent: Stopwatch,
    /// The end of it, in which the model owes it.
    waiting: Stopwatch,
    /// How many rungs were climbed.
    climbed: usize,
    sound: Option<Sound>,
    /// When the caller had heard all that was said.
    voice_ended: Option<Instant>,
    /// How long it was silent before the voice that plays.
    before: Option<Duration>,
    /// When a prepared line was last played.
    line: Option<Instant>,
    /// The longest silence in which something was owed.
    longest: Duration,
    /// The same, from the end of the last sound of any kind.
    unheard: Stopwatch,
}

/// The sound that ends a silence.
#[derive(Debug)]
struct Sound {
    /// When the last piece of it ends.
    until: Instant,
    /// How many bytes of what follows the line were queued.
    at: u64,
    /// What follows it.
    hold: Hold,
}

impl Watch {
    /// When a sound or a rung is due.
    pub fn deadline(&self) -> Option<Instant> {
        let rung = LADDER.get(self.climbed).and_then(|(after, _)| self.waiting.reaches(*after));
        rung.into_iter().chain(self.sound_due()).min()
    }

    /// When the sound begins, or goes on.
    fn sound_due(&self) -> Option<Instant> {
        match &self.sound {
            Some(Sound { hold: Hold::None, .. }) => None,
            Some(sound) => Some(sound.until - TONE_AHEAD),
            None => self.silent.reaches(SOUND),
        }
    }

    /// Until when what our ear heard may be an echo of the assistant's voice. `None`: it has said nothing.
    pub fn echo_until(&self) -> Option<Instant> {
        self.voice_ended.map(|ended| ended + ECHO)
    }

    /// The longest silence in which the assistant owed something.
    pub fn longest(&self, now: Instant) -> Duration {
        self.longest.max(self.unheard(now))
    }

    /// How long the caller has heard no sound of any kind while something was owed.
    pub fn unheard(&self, now: Instant) -> Duration {
        self.unheard.spent(now)
    }

    /// Whether a sound stands in for speech.
    pub fn sounds(&self) -> bool {
        self.sound.is_some()
    }

    /// The phone's buffer was emptied. If it was noise, the sound goes on as soon as our ear would have noticed a voice.
    pub fn cleared(&mut self, now: Instant) {
        if let Some(sound) = &mut self.sound {
            sound.until = sound.until.min(now + 2 * TONE_AHEAD);
        }
    }

    /// Something new is owed.
    pub fn restart(&mut self) {
        self.silent.restart();
        self.restart_model();
    }

    /// The model owes nothing, or something new.
    pub fn restart_model(&mut self) {
        self.waiting.restart();
        self.climbed = 0;
    }
}

impl Call {
    /// Starts, stops or restarts the clock, as the state demands.
    pub(super) fn watch_silence(&mut self, now: Instant, out: &mut Vec<Action>) {
        let debtor = self.debtor();
        let speaks = !self.playback.is_voice_over();
        if !speaks {
            if self.watch.before.take().is_some() {
                self.watch.voice_ended = Some(now);
            }
        } else if self.watch.before.is_none() {
            self.watch.before = Some(self.watch.silent.spent(now));
        }
        if speaks || debtor == Debtor::Nobody {
            self.watch.restart();
        } else if debtor == Debtor::Tool {
            self.watch.restart_model();
        } else if self.watch.sound.take_if(|sound| sound.hold == Hold::None).is_some() {
            self.watch.silent.restart(); // The silence was wanted, up to here.
        }
        let waits = debtor != Debtor::Nobody && !speaks && !self.caller_speaks(now);
        let from = self.floor.quiet_from.take().filter(|_| waits).unwrap_or(now);
        self.watch.silent.observe(waits, from);
        self.watch.waiting.observe(waits && debtor == Debtor::Model, now);
        if !waits {
            self.watch.sound = None; // What is queued of it plays out.
        }
        let unheard = waits && self.playback.is_quiet();
        let spent = self.watch.unheard(now);
        self.watch.longest = self.watch.longest.max(spent);
        self.gap(spent, !unheard, out);
        if !unheard {
            self.watch.unheard.restart();
        }
        self.watch.unheard.observe(unheard, now);
    }

    /// A voice was cut after this long, which may be too early to break a silence.
    pub(super) fn voice_cut(&mut self, heard_ms: u64, now: Instant) {
        let Some(before) = self.watch.before.take() else { return };
        self.watch.voice_ended = Some(now);
        if heard_ms < BREAKS_SILENCE_MS {
            self.watch.silent = Stopwatch::after(before);
        }
    }

    /// Does what is due.
    pub(super) fn break_silence(&mut self, now: Instant, out: &mut Vec<Action>) {
        if self.ask_again_due().is_some_and(|due| due <= now) {
            self.ask_again(out);
        }
        if self.watch.sound_due().is_some_and(|due| due <= now) {
            match self.watch.sound {
                Some(_) => self.hold(now, out),
                None => self.sound(now, out),
            }
        }
        while let Some((after, rung)) = LADDER.get(self.watch.climbed)
            && self.watch.waiting.reaches(*after).is_some_and(|due| due <= now)
        {
            self.watch.climbed += 1;
            match rung {
                Rung::SecondSession if self.model_ready && !self.shows_life(now) => {
                    self.open_standby(self.endpoint, Cause::Stalled, now, out);
                }
                Rung::NextProvider => self.try_next_endpoint(now, out),
                // A goodbye has a limit of its own.
                Rung::GiveUp if self.ending.is_none() => return self.give_up(now, out),
                Rung::SecondSession | Rung::GiveUp => {}
            }
        }
    }

    fn debtor(&self) -> Debtor {
        let is_connected = self.started.is_some() && !self.is_away();
        let said_last = self.ending.is_some() && self.speech.is_made(What::is_goodbye)
            || self.leaving.is_some()
                && self.model_ready
                && self.speech.is_made(|what| *what == What::Announcement);
        let hosted = self.speech.active().is_some_and(|active| self.tools.hosted.is_running_in(active));
        if !is_connected || said_last {
            Debtor::Nobody
        } else if self.tools.is_busy() && (hosted || self.speech.is_idle()) {
            Debtor::Tool
        } else if self.speech.owes()
            || self.tools.is_pending()
            || self.leaving.is_some()
            || self.ending.is_some()
            || self.floor.unnoticed.is_some()
            || !self.model_ready
        {
            Debtor::Model
        } else {
            Debtor::Nobody
        }
    }

    fn shows_life(&self, now: Instant) -> bool {
        self.last_from_model.is_some_and(|last| now < last + SIGN_OF_LIFE)
    }

    /// When what is due is asked for again, if it does not begin.
    pub(super) fn ask_again_due(&self) -> Option<Instant> {
        let asked = self.speech.nudge_since().filter(|_| self.model_ready)?;
        Some(self.watch.waiting.reaches(ASK_AGAIN)?.max(asked + ASK_AGAIN))
    }

    fn ask_again(&mut self, out: &mut Vec<Action>) {
        if let Some(what) = self.speech.nudge() {
            count(Anomaly::ModelSlow, out);
            out.push(self.request(what));
        }
    }

    fn give_up(&mut self, now: Instant, out: &mut Vec<Action>) {
        let reason = match (&self.standby.loss, &self.failure) {
            (Some(lost), _) => EndReason::from(lost),
            (None, Some(failure)) => EndReason::from(failure),
            (None, None) if self.was_ready => EndReason::ModelStalled,
            (None, None) => EndReason::ModelUnreachable,
        };
        let failure = self.standby.loss.take().map(|lost| lost.failure).or(self.failure.take());
        let unknown = || match reason {
            EndReason::ModelUnreachable => provider::Cause::Unreachable.into(),
            _ => Failure::default(),
        };
        self.fail(reason, failure.unwrap_or_else(unknown), now, out);
    }

    // ── sound ──

    /// A prepared line, then the hold tone.
    fn sound(&mut self, now: Instant, out: &mut Vec<Action>) {
        // Silence that the model sent must not play first.
        if !self.playback.is_quiet() {
            let active = self.speech.active().cloned();
            let found = self.clear(active.as_ref(), now, out);
            self.was_cut(found, out);
        }
        let was_cut_off = self.was_ready && !self.model_ready;
        let recording = if was_cut_off { Recording::CutOff } else { Recording::Moment };
        let plan = self.plan.at(self.endpoint).clone();
        let sound = match recording {
            Recording::CutOff => &plan.sounds.cut_off,
            Recording::Moment | Recording::Greeting => &plan.sounds.moment,
        };
        let was_just_said = self.watch.line.is_some_and(|line| now < line + LINE_PAUSE);
        let line = sound.clip().filter(|_| !was_just_said && !self.tools.filler_was_said());
        let hold = match self.debtor() {
            Debtor::Tool => self.tools.hold(&self.plan).unwrap_or(&self.plan.hold).clone(),
            Debtor::Model | Debtor::Nobody => Hold::Tone,
        };
        let line_takes = line.map_or(Duration::ZERO, |clip| clip.duration());
        self.watch.sound = Some(Sound { until: now + line_takes, at: 0, hold });
        match line {
            Some(clip) => {
                self.watch.line = Some(now);
                self.play(Source::Recording(recording), Chunk::from_ulaw(&clip.ulaw), out);
                self.mark(now, out);
            }
            None => self.hold(now, out),
        }
    }

    /// One more piece of what the caller hears meanwhile.
    fn hold(&mut self, now: Instant, out: &mut Vec<Action>) {
        let Some(sound) = &mut self.watch.sound else { return };
        let bytes = TONE_MS * BYTES_PER_MS;
        let chunk = match &sound.hold {
            Hold::Tone => hold(sound.at, bytes),
            Hold::Recording(clip) => {
                let from = (sound.at % clip.ulaw.len().max(1) as u64) as usize;
                let ulaw: Vec<u8> = clip.ulaw.iter().copied().cycle().skip(from).take(bytes).collect();
                Chunk::from_ulaw(&ulaw)
            }
            Hold::None => return,
        };
        sound.at += bytes as u64;
        sound.until = sound.until.max(now) + Duration::from_millis(TONE_MS as u64);
        // A phone that takes nothing has enough of it.
        if self.playback.unplayed() <= 2 * bytes as u64 {
            self.play(Source::Tone, chunk, out);
            self.mark(now, out);
        }
    }

    /// Speech comes: it follows at once on what was heard of the tone, or of another response's silence. A line is not cut.
    pub(super) fn stop_sound(&mut self, response: Option<&ResponseId>, now: Instant, out: &mut Vec<Action>) {
        self.watch.sound = None;
        if self.playback.has_no_words(response) {
            let found = self.clear(None, now, out);
            self.was_cut(found, out);
        }
    }
}
