//! Interruptions in two stages: speech over the assistant's voice stops the phone at once, and what was not heard is kept.
//! Then it turns out whether somebody speaks (the rest is dropped, and the model learns what was heard), or whether it
//! was a cough, a "mhm" or the noise of a room (playback goes on where the caller stopped hearing, and the model learns
//! nothing).
//!
//! | what our ear hears | verdict |
//! | --- | --- |
//! | sound with a voice in it for 600 ms | speech, while it lasts |
//! | sound without a voice for 1.2 s | noise, even if it goes on |
//! | nothing, or nothing but the assistant's own echo | noise, after 300 ms of quiet |
//! | a shorter sound without a voice | noise, after 300 ms of quiet |
//! | a shorter sound with a voice | what the transcript says; without one within 700 ms, speech |

use std::time::{Duration, Instant};

use super::action::Action;
use super::ear::Sound;
use super::end::Ending;
use super::{Call, TurnControl};
use crate::id::ItemId;
use switchboard_audio::{BYTES_PER_MS, voiced_ms};

/// Sound that lasts so long is speech, if there is a voice in it.
const LASTS: Duration = Duration::from_millis(600);
/// Without a voice, it is none.
const NO_SPEECH: Duration = Duration::from_millis(1_200);
/// A sound is over after so much quiet.
const OVER: Duration = Duration::from_millis(300);
/// How long the model may take to notice that.
const LONGEST_TURN: Duration = Duration::from_millis(1_000);
/// How long a transcript is awaited that is on its way.
const TRANSCRIPT: Duration = Duration::from_millis(700);
/// How much later than our ear the model may notice the same sound.
const NOTICED: Duration = Duration::from_millis(500);
/// An echo was there for so long before the model noticed it, and is over so soon after the phone was cleared.
const ECHO_BEFORE: Duration = Duration::from_millis(400);
const ECHO_AFTER: Duration = Duration::from_millis(200);
/// With less voice in it, a sound is no speech.
const VOICED_MS: u32 = 40;
/// How much louder than the assistant's echo somebody must be.
const LOUDER_THAN_ECHO: u8 = 6;
/// So much speech within the last second, by our ear, is speech over a noise that goes on.
const SPEAKS: Duration = Duration::from_millis(400);
const LATELY: Duration = Duration::from_secs(1);
/// How much sound from before our ear found it is examined.
const LEAD_IN: Duration = Duration::from_millis(200);
/// "Mhm" asks the assistant to go on only while so much is unheard: 1 s.
const MUCH_UNHEARD: u64 = 1_000 * BYTES_PER_MS as u64;
/// When words are heard is known to within half a second.
const ABOUT_MS: u64 = 500;
/// How long the model takes a turn for if it was a short noise: the noise, and the silence after it.
const SHORT_TURN: Duration = Duration::from_millis(1_200);

/// Something that may be speech, over the assistant's voice.
#[derive(Debug)]
pub(super) struct Doubt {
    item: ItemId,
    began: Instant,
    /// Since when the phone had played without a break.
    played_since: Option<Instant>,
    /// When the model's turn was over.
    stopped: Option<Instant>,
    /// When our ear found that it may be speech, so that a transcript is awaited.
    voice: Option<Instant>,
}

impl Doubt {
    /// Until when a transcript is awaited, if it may be speech. It is on its way once the model's turn is over.
    fn awaits(&self) -> Option<Instant> {
        let voice = self.voice?;
        Some(self.stopped.map_or(voice + LONGEST_TURN, |stopped| stopped.max(voice) + TRANSCRIPT))
    }
}

/// What was found to be noise, until the model has no item of it any more.
#[derive(Debug)]
pub(super) struct Noise {
    item: ItemId,
    began: Instant,
    dismissed: Instant,
    /// Our ear heard nothing, but the model heard it for long: its transcript shows what it was.
    awaits: bool,
}

/// What our ear makes of it so far.
enum Verdict {
    Speech,
    Noise,
    /// The assistant's own voice, so loud.
    Echo(u8),
    /// Speech, unless a transcript says otherwise.
    Voice,
    /// Nothing yet.
    Open,
}

impl Call {
    /// Whether speech stops the assistant's voice.
    pub(super) fn is_interruptible(&self) -> bool {
        self.turn_control == TurnControl::Model || self.floor.confirms
    }

    /// Whether speech over the assistant's voice is to be confirmed.
    fn may_doubt(&self) -> bool {
        self.floor.confirms && self.ending.as_ref().is_none_or(Ending::yields_to_caller)
    }

    /// Somebody seems to speak over the assistant's voice: stops it, and waits for what our ear finds. False if nothing is
    /// to be heard, or not all of it was kept.
    pub(super) fn doubt(&mut self, item: &ItemId, now: Instant, out: &mut Vec<Action>) -> bool {
        let answers = self.speech.running().is_some_and(|running| !running.is_cut());
        if !self.may_doubt() || !answers && self.playback.is_voice_over() {
            return false;
        }
        if self.is_only_echo() {
            self.floor.noise = Some(Noise { item: item.clone(), began: now, dismissed: now, awaits: false });
            return true;
        }
        let was_played = !self.playback.is_quiet();
        let played_since = self.playback.plays_since().filter(|_| was_played);
        if !self.playback.suspend(now) {
            return false;
        }
        if was_played {
            self.cleared(now, out);
        }
        let doubt = Doubt { item: item.clone(), began: now, played_since, stopped: None, voice: None };
        self.floor.doubt = Some(doubt);
        self.floor.noise = None;
        self.floor.unnoticed = None;
        true
    }

    /// The model's turn is over. Whether it was in doubt, or noise.
    pub(super) fn doubted_turn_stopped(&mut self, now: Instant, out: &mut Vec<Action>) -> bool {
        if let Some(doubt) = &mut self.floor.doubt {
            doubt.stopped = Some(now);
            return true;
        }
        let Some(noise) = self.floor.noise.take() else { return false };
        let heard = self.floor.ear.sound().is_some_and(|sound| sound.last + NOTICED > noise.began);
        let is_long = now.saturating_duration_since(noise.began) > SHORT_TURN;
        if is_long && !heard && self.transcribes() {
            self.floor.noise = Some(Noise { awaits: true, ..noise });
        } else {
            out.push(Action::DeleteItem(noise.item));
        }
        true
    }

    /// The caller sent sound: what follows noise in the same turn of the model's may be speech.
    pub(super) fn listen_after_noise(&mut self, now: Instant, out: &mut Vec<Action>) -> bool {
        let Some(noise) = self.floor.noise.as_ref().filter(|noise| !noise.awaits) else { return false };
        let is_new = self.floor.ear.sound().is_some_and(|sound| sound.began > noise.dismissed);
        let speaks = noise.dismissed + LATELY <= now && self.floor.ear.speech_within(LATELY, now) >= SPEAKS;
        if !is_new && !speaks || self.is_only_echo() {
            return false;
        }
        let item = noise.item.clone();
        self.floor.noise = None;
        if !self.doubt(&item, now, out) {
            self.begin_turn(item, false, now, out);
        }
        true
    }

    /// A transcript of the caller's came. Whether it is of noise: then nobody said it.
    pub(super) fn is_noise(
        &mut self,
        item: &ItemId,
        words: &str,
        now: Instant,
        out: &mut Vec<Action>,
    ) -> bool {
        if let Some(noise) = self.floor.noise.take_if(|noise| noise.item == *item) {
            if self.says_nothing(words) {
                out.push(Action::DeleteItem(noise.item));
                return true;
            }
            // It was too soft for our ear.
            self.begin_turn(noise.item, false, now, out);
            self.speech_stopped(now, out);
            return false;
        }
        if self.floor.doubt.as_ref().is_none_or(|doubt| doubt.item != *item) {
            return false;
        }
        let is_noise = self.says_nothing(words);
        if is_noise {
            self.dismiss(now, out)
        } else {
            self.confirm(now, out)
        }
        is_noise
    }

    /// Whether these words are none, or only ask the assistant to go on.
    fn says_nothing(&self, words: &str) -> bool {
        let is_empty = !words.contains(char::is_alphanumeric);
        let much = self.playback.suspended().max(self.playback.unplayed()) > MUCH_UNHEARD;
        is_empty || much && self.plan.is_backchannel(words) && !self.has_asked_caller()
    }

    /// Whether the caller may answer a question.
    fn has_asked_caller(&self) -> bool {
        let heard = self.playback.last_heard();
        let asks = heard.is_some_and(|(item, heard_ms)| {
            let words = self.conversation.heard_until(&item, heard_ms + ABOUT_MS);
            words.contains(['?', '？'])
        });
        asks || self.consent.is_asked()
    }

    /// Whether our ear hears nothing that is louder than the assistant's echo.
    fn is_only_echo(&self) -> bool {
        let sound = self.floor.ear.sound();
        let echo = self.floor.echo.filter(|_| !self.playback.is_voice_over());
        echo.is_some_and(|echo| sound.is_some_and(|sound| sound.peak < echo + LOUDER_THAN_ECHO))
    }

    fn transcribes(&self) -> bool {
        self.model_ready && self.plan.at(self.endpoint).transcription.is_some()
    }

    /// When the doubt is to be judged.
    pub(super) fn doubt_due(&self) -> Option<Instant> {
        let doubt = self.floor.doubt.as_ref()?;
        let quiet_since = self.sound_of(doubt).map_or(doubt.began, |sound| sound.last);
        Some(doubt.awaits().unwrap_or(quiet_since + OVER))
    }

    /// The sound that the doubt is about.
    fn sound_of(&self, doubt: &Doubt) -> Option<Sound> {
        self.floor.ear.sound().filter(|sound| sound.last + NOTICED > doubt.began)
    }

    /// Judges the doubt, if it is time. Whether there is none any more.
    pub(super) fn judge_doubt(&mut self, now: Instant, out: &mut Vec<Action>) -> bool {
        let Some(doubt) = &self.floor.doubt else { return false };
        match self.verdict(doubt, now) {
            _ if self.playback.has_too_much_suspended() => self.confirm(now, out),
            Verdict::Speech => self.confirm(now, out),
            Verdict::Noise => self.dismiss(now, out),
            Verdict::Echo(level) => {
                self.floor.echo = self.floor.echo.max(Some(level));
                self.dismiss(now, out);
            }
            Verdict::Voice if !self.transcribes() => self.confirm(now, out),
            Verdict::Voice if doubt.awaits().is_some_and(|until| until <= now) => self.confirm(now, out),
            Verdict::Voice => {
                let voice = doubt.voice.or(Some(now));
                self.floor.doubt.iter_mut().for_each(|doubt| doubt.voice = voice);
            }
            Verdict::Open => {}
        }
        self.floor.doubt.is_none()
    }

    fn verdict(&self, doubt: &Doubt, now: Instant) -> Verdict {
        let sound = self.sound_of(doubt);
        if let Some(judged) = doubt.voice {
            let goes_on = sound.is_some_and(|sound| sound.last > judged);
            return if goes_on { Verdict::Speech } else { Verdict::Voice };
        }
        let Some(sound) = sound else {
            return if doubt.began + OVER <= now { Verdict::Noise } else { Verdict::Open };
        };
        // Before that, it may have been the assistant's echo.
        let from = sound.began.max(doubt.began - NOTICED);
        let is_over = sound.last + OVER <= now;
        let lasted = sound.last.saturating_duration_since(from);
        if !is_over && lasted < LASTS {
            return Verdict::Open;
        }
        let span = (now.saturating_duration_since(from) + LEAD_IN).min(LATELY);
        let has_voice = voiced_ms(&self.conversation.latest_audio(span)) >= VOICED_MS;
        match has_voice {
            true if self.is_echo(doubt, sound) => Verdict::Echo(sound.peak),
            true if lasted >= LASTS => Verdict::Speech,
            true => Verdict::Voice,
            false if is_over || lasted >= NO_SPEECH => Verdict::Noise,
            false => Verdict::Open,
        }
    }

    /// Whether the sound came with the assistant's voice, and went with it.
    fn is_echo(&self, doubt: &Doubt, sound: Sound) -> bool {
        let round_trip = self.playback.round_trip();
        let went = sound.last < doubt.began + round_trip + ECHO_AFTER;
        let was_there = sound.began + ECHO_BEFORE < doubt.began;
        let came = doubt
            .played_since
            .is_some_and(|since| (since..since + round_trip + ECHO_BEFORE).contains(&sound.began));
        went && (was_there || came)
    }

    /// Somebody speaks: what was not heard is dropped, and the turn is like any other.
    fn confirm(&mut self, now: Instant, out: &mut Vec<Action>) {
        let Some(doubt) = self.floor.doubt.take() else { return };
        self.begin_turn(doubt.item, false, now, out);
        self.floor.speaking.iter_mut().for_each(|(began, _)| *began = doubt.began);
        if let Some(stopped) = doubt.stopped {
            self.speech_stopped(stopped, out);
        }
    }

    /// It was noise: playback goes on.
    fn dismiss(&mut self, now: Instant, out: &mut Vec<Action>) {
        let Some(doubt) = self.floor.doubt.take() else { return };
        self.conversation.forget_noise();
        self.resume(now, out);
        let noise = Noise { item: doubt.item, began: doubt.began, dismissed: now, awaits: false };
        match doubt.stopped {
            Some(_) => out.push(Action::DeleteItem(noise.item)),
            None => self.floor.noise = Some(noise),
        }
    }

    /// The session is gone, and the item with it: playback goes on. What was in doubt is heard by our ear alone.
    pub(super) fn forget_doubt(&mut self, now: Instant, out: &mut Vec<Action>) {
        self.floor.noise = None;
        if self.floor.doubt.take().is_some() {
            self.resume(now, out);
        }
    }

    /// Plays what was suspended.
    fn resume(&mut self, now: Instant, out: &mut Vec<Action>) {
        for (piece, chunk) in self.playback.resume() {
            out.push(Action::PlayToCaller { piece, chunk });
        }
        self.mark(now, out);
    }
}
