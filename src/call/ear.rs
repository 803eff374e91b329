//! Our own ear: whether the caller speaks, judged from the loudness of the µ-law bytes alone.
//!
//! It knows nothing of the model's events, so it can tell when the model is deaf, stuck or wrong. It keeps one byte for
//! each frame of the last four seconds, no audio, and neither allocates nor reads a clock.
//!
//! Speech rises and falls with its syllables, and between words it falls to the background. Noise and traffic do not
//! rise and fall like that, tones do not change while they last, and music seldom reaches the background. So a frame
//! is *loud* when it stands out from the background, and loud frames are speech when the last seconds were like speech.

use std::time::{Duration, Instant};

use switchboard_audio::Chunk;

const FRAME: Duration = Duration::from_millis(20);
/// Gaps between the words of a sentence are not longer.
const GAP: Duration = Duration::from_millis(500);
/// A shorter pause does not end a sound.
const PAUSE: Duration = Duration::from_millis(300);
/// Soft passages of music are not longer. Most are longer than a gap between words.
const PASSAGE: Duration = Duration::from_secs(2);
/// A background that is softer than this counts as silence, and nothing as soft is loud: about -52 dBFS.
const FAINTEST: u8 = 11;

/// What the caller's audio sounds like.
#[derive(Debug, Clone, Default)]
pub struct Ear {
    /// The power of the frames that were not judged yet: a few at a time cost less, as the rest of the ear has left the
    /// processor's cache by the next frame.
    waiting: [f32; Self::TOGETHER],
    wait: usize,
    window: Window,
    verdict: Verdict,
    /// The last eight frames, a bit each: whether it was loud.
    loud: u8,
    /// Frames since the last one of speech.
    gap: u8,
    spoken: Spoken,
    first: Option<Instant>,
    last_speech: Option<Instant>,
    last_other: Option<Instant>,
    sound: Option<Sound>,
}

impl Ear {
    /// How many frames are judged together: 60 ms.
    const TOGETHER: usize = 3;
    /// With fewer loud frames among the last eight, it is a click.
    const STANDS_OUT: u8 = 4;

    /// Takes in what the caller sent. Gaps between frames are no silence and no sound.
    pub fn hear(&mut self, chunk: &Chunk, now: Instant) {
        for power in chunk.powers() {
            self.waiting[self.wait] = power;
            self.wait = (self.wait + 1) % Self::TOGETHER;
            if self.wait == 0 {
                self.first.get_or_insert(now);
                self.spoken.advance(now);
                for power in self.waiting {
                    self.frame(power, now);
                }
            }
        }
    }

    /// Whether the caller speaks, or pauses between two words.
    pub fn speaks(&self, now: Instant) -> bool {
        is_within(GAP, self.last_speech, now)
    }

    /// Whether there is sound that is not speech, such as music. Steady noise is background, and no sound.
    pub fn sounds(&self, now: Instant) -> bool {
        !self.speaks(now) && is_within(PASSAGE, self.last_other, now)
    }

    /// The latest sound of any kind. A pause of 300 ms ends one.
    pub fn sound(&self) -> Option<Sound> {
        self.sound
    }

    /// Since when there is only background: neither speech nor another sound. `None` before the first frame.
    pub fn quiet_since(&self, now: Instant) -> Option<Instant> {
        let last = self.last_speech.max(self.last_other);
        if is_within(GAP, last, now) { None } else { last.or(self.first) }
    }

    /// How long the caller spoke in the last `window`, which may be up to 8 s. Gaps between words count, the silence
    /// after the last word does not.
    pub fn speech_within(&self, window: Duration, now: Instant) -> Duration {
        self.spoken.within(window, now)
    }

    fn frame(&mut self, power: f32, now: Instant) {
        let is_loud = self.window.remember(power, &self.verdict);
        if self.window.next.is_multiple_of(Window::JUDGED_EVERY) {
            self.verdict = self.window.judge();
        }
        self.loud = self.loud << 1 | u8::from(is_loud);
        self.gap = self.gap.saturating_add(1);
        if self.loud.count_ones() < u32::from(Self::STANDS_OUT) {
            return;
        }
        let level = loudness(power) / 4;
        let sound = self.sound.filter(|sound| now < sound.last + PAUSE);
        let Sound { began, peak, .. } = sound.unwrap_or(Sound { began: now, last: now, peak: 0 });
        self.sound = Some(Sound { began, last: now, peak: peak.max(level) });
        if self.verdict.is_speech {
            let is_between_words = FRAME * u32::from(self.gap) <= GAP;
            self.spoken.add(if is_between_words { self.gap } else { Self::STANDS_OUT });
            self.gap = 0;
            self.last_speech = Some(now);
        } else {
            self.last_other = Some(now);
        }
    }
}

/// A sound of any kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sound {
    pub began: Instant,
    /// When it was last heard.
    pub last: Instant,
    /// Its loudest moment, in dB above -63 dBFS.
    pub peak: u8,
}

fn is_within(window: Duration, last: Option<Instant>, now: Instant) -> bool {
    last.is_some_and(|last| now.saturating_duration_since(last) < window)
}

/// What the last seconds say about the next frames.
#[derive(Debug, Clone, Copy)]
struct Verdict {
    /// Frames from this level on are loud.
    loud: u8,
    /// A syllable crosses this level.
    middle: u8,
    /// Loud frames are speech.
    is_speech: bool,
}

impl Default for Verdict {
    fn default() -> Self {
        Self { loud: FAINTEST, middle: FAINTEST, is_speech: false }
    }
}

/// The loudness of the last four seconds, and how it changed.
///
/// A level is a step of 1 dB; level 0 is -63 dBFS and below.
#[derive(Debug, Clone)]
struct Window {
    /// The frames as a ring: the level, [`Self::STEADY`] and [`Self::RISE`].
    frames: [u8; Self::FRAMES],
    next: usize,
    /// How many frames have each level.
    levels: [u8; Self::LEVELS],
    power: u64,
    steady: u8,
    rises: u8,
    /// The loudness of the last frame, in quarters of a level.
    last: u8,
    /// It has risen, and not fallen since.
    is_high: bool,
    is_full: bool,
}

impl Default for Window {
    fn default() -> Self {
        Self {
            frames: [0; Self::FRAMES],
            next: 0,
            levels: [0; Self::LEVELS],
            power: 0,
            steady: 0,
            rises: 0,
            last: 0,
            is_high: false,
            is_full: false,
        }
    }
}

impl Window {
    const FRAMES: usize = 200;
    const LEVELS: usize = 64;
    const JUDGED_EVERY: usize = 5;
    /// The level within an entry of the ring.
    const LEVEL: u8 = 0x3F;
    /// A loud frame differs by less than 1 dB from a loud one before it.
    const STEADY: u8 = 0x40;
    /// The loudness has risen from clearly below the middle to clearly above: a syllable begins.
    const RISE: u8 = 0x80;

    /// Takes in a frame and forgets the oldest. Whether the frame is loud.
    fn remember(&mut self, power: f32, verdict: &Verdict) -> bool {
        let fine = loudness(power);
        let level = fine / 4;
        let is_loud = level >= verdict.loud;
        let mut entry = level;
        if is_loud && self.last / 4 >= verdict.loud && fine.abs_diff(self.last) < 4 {
            entry |= Self::STEADY;
        }
        if !self.is_high && is_loud && level > verdict.middle + 2 {
            self.is_high = true;
            entry |= Self::RISE;
        } else if level + 2 < verdict.middle {
            self.is_high = false;
        }
        self.last = fine;

        let oldest = std::mem::replace(&mut self.frames[self.next], entry);
        if self.is_full {
            let level = usize::from(oldest & Self::LEVEL);
            self.levels[level] -= 1;
            self.power -= POWERS[level];
            self.steady -= u8::from(oldest & Self::STEADY != 0);
            self.rises -= u8::from(oldest & Self::RISE != 0);
        }
        self.levels[usize::from(level)] += 1;
        self.power += POWERS[usize::from(level)];
        self.steady += u8::from(entry & Self::STEADY != 0);
        self.rises += u8::from(entry & Self::RISE != 0);
        self.next = (self.next + 1) % Self::FRAMES;
        self.is_full |= self.next == 0;
        is_loud
    }

    /// Compares the window with speech. The figures separate recorded speech in several languages, with and without
    /// noise, from recorded hold music, tones, traffic and crowds.
    fn judge(&self) -> Verdict {
        let mut frames = 0;
        let below: [u8; Self::LEVELS] = std::array::from_fn(|level| {
            frames += self.levels[level];
            frames - self.levels[level]
        });
        let level_of = |frame: u8| below.iter().filter(|below| **below <= frame).count() as u8 - 1;
        let count_below = |level: u8| u32::from(below[usize::from(level).min(Self::LEVELS - 1)]);
        let background = level_of(frames / 20);
        let top = level_of(frames - 1 - frames / 50);
        let frames = u32::from(frames);

        let soft = FAINTEST.max(top.saturating_sub(20));
        let loud = soft.max(background + 6);
        let middle = background.midpoint(top).max(top.saturating_sub(12));
        let active = frames - count_below(loud);
        // In percent of all frames: near the background, and those or below half the mean power. Music has fewer.
        let pause = soft.max(background + 4);
        let half_mean = loudness(self.power as f32 / frames as f32 / 2.0) / 4;
        let pauses = count_below(pause) * 100 / frames;
        let low = count_below(half_mean.max(pause)) * 100 / frames;
        let is_speech = top >= background + 13
            && pauses >= 18
            && low >= 40
            // Tones are steady.
            && u32::from(self.steady) * 100 < active * 55
            // At least 1.8 syllables in a second of sound: traffic and wind have fewer.
            && u32::from(self.rises) * 500 >= active * 18;
        Verdict { loud, middle, is_speech }
    }
}

/// The power of each level, in the middle of its step.
static POWERS: [u64; Window::LEVELS] = {
    /// 2^(n/6) in 1/1024.
    const SIXTHS: [u64; 6] = [1_024, 1_149, 1_290, 1_448, 1_625, 1_825];
    let mut powers = [0; Window::LEVELS];
    let mut level = 0;
    while level < powers.len() {
        let sixths = 2 * level + 1;
        powers[level] = (SIXTHS[sixths % 6] << (SOFTEST as usize + sixths / 6)) >> 10;
        level += 1;
    }
    powers
};

/// Level 0 begins at this power of two. The greatest possible power is 2^30.
const SOFTEST: u32 = 9;

/// The loudness in quarters of a level. A level is a third of a doubling of power.
fn loudness(power: f32) -> u8 {
    // The bits of a float, read as an integer, are its logarithm to base 2: exact at powers of two, linear between.
    let doublings = power.to_bits().saturating_sub((127 + SOFTEST) << 23);
    ((u64::from(doublings) * 12) >> 23).min(u64::from(u8::MAX)) as u8
}

/// How much speech there was in each quarter of a second of the last eight.
#[derive(Debug, Clone)]
struct Spoken {
    /// Frames of speech, as a ring.
    slots: [u8; Self::SLOTS],
    newest: usize,
    /// When the newest slot ends.
    ends: Option<Instant>,
}

impl Default for Spoken {
    fn default() -> Self {
        Self { slots: [0; Self::SLOTS], newest: 0, ends: None }
    }
}

impl Spoken {
    const SLOT: Duration = Duration::from_millis(250);
    const SLOTS: usize = 33;

    fn advance(&mut self, now: Instant) {
        let ends = self.ends.get_or_insert(now + Self::SLOT);
        for _ in 0..Self::SLOTS {
            if now < *ends {
                return;
            }
            *ends += Self::SLOT;
            self.newest = (self.newest + 1) % Self::SLOTS;
            self.slots[self.newest] = 0;
        }
        *ends = now + Self::SLOT;
    }

    fn add(&mut self, frames: u8) {
        let slot = &mut self.slots[self.newest];
        *slot = slot.saturating_add(frames);
    }

    fn within(&self, window: Duration, now: Instant) -> Duration {
        let Some(ends) = self.ends else { return Duration::ZERO };
        let since_began = (now + Self::SLOT).saturating_duration_since(ends);
        let frames = (0..Self::SLOTS as u32)
            .take_while(|back| since_began + Self::SLOT * *back <= window)
            .map(|back| u32::from(self.slots[(self.newest + Self::SLOTS - back as usize) % Self::SLOTS]))
            .sum::<u32>();
        (FRAME * frames).min(window)
    }
}

#[cfg(test)]
mod tests;
