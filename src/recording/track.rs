//! The file of one recording.

use std::collections::VecDeque;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use switchboard_audio::{SILENCE, WavEncoding, WavHeader};

use super::{Part, Side};

const FORMAT: WavHeader = WavHeader { encoding: WavEncoding::Ulaw, channels: 2 };
const HEADER: u64 = 58;
/// The bytes of a frame: one of each side.
const FRAME: u64 = 2;
/// The end of a file's name until it is locked: `.ID.wav.new`.
pub(super) const UNNAMED: &str = ".wav.new";
/// How many frames are written at once at most: a second.
const AT_ONCE: u64 = 8_000;

/// Audio of both sides that becomes a file, in order. What is missing is silence.
#[derive(Debug)]
pub struct Track {
    file: File,
    /// How many frames the file has, and how many its header says.
    written: u64,
    headed: u64,
    /// What comes after, for each side: where it begins, and the samples.
    waiting: [VecDeque<(u64, Vec<u8>)>; 2],
}

impl Track {
    /// Creates the file, and its folder if need be, for this user alone. The file is locked until the track is closed:
    /// it gets its name once it is, so that nobody takes it for the recording of a call that is over.
    ///
    /// # Errors
    /// If the disk does not take it. Nothing is left then.
    pub fn create(path: &Path) -> io::Result<Self> {
        if let Some(folder) = path.parent() {
            DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        }
        let unnamed = unnamed(path);
        let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&unnamed)?;
        let named = Self::locked(file).and_then(|track| fs::rename(&unnamed, path).map(|()| track));
        if named.is_err() {
            let _ = fs::remove_file(&unnamed);
        }
        named
    }

    /// An empty recording. It never waits for the lock: all calls would wait for it, too.
    fn locked(file: File) -> io::Result<Self> {
        file.try_lock()?;
        let mut track = Self { file, written: 0, headed: 1, waiting: Default::default() };
        track.write_header()?;
        Ok(track)
    }

    /// Takes a part. Audio for what is written already replaces the silence there.
    ///
    /// # Errors
    /// If the disk does not take that.
    pub fn take(&mut self, part: Part) -> io::Result<()> {
        match part {
            Part::Audio { side, at, chunk } => {
                let mut samples = Vec::with_capacity(chunk.bytes() as usize);
                chunk.decode(|part| samples.extend_from_slice(part));
                let late = (self.written.saturating_sub(at) as usize).min(samples.len());
                let rest = samples.split_off(late);
                if !rest.is_empty() {
                    self.waiting[side as usize].push_back((at + late as u64, rest));
                }
                self.rewrite(side, at, &samples)
            }
            Part::Cut { at } => {
                let waiting = &mut self.waiting[Side::Heard as usize];
                for (from, samples) in waiting.iter_mut() {
                    samples.truncate(at.saturating_sub(*from) as usize);
                }
                waiting.retain(|(_, samples)| !samples.is_empty());
                let mut from = at;
                while from < self.written {
                    let long = (self.written - from).min(AT_ONCE);
                    self.rewrite(Side::Heard, from, &vec![SILENCE; long as usize])?;
                    from += long;
                }
                Ok(())
            }
        }
    }

    /// Writes what belongs before this frame.
    ///
    /// # Errors
    /// If the disk does not take it: it becomes silence, once the disk takes something again.
    pub fn advance(&mut self, to: u64) -> io::Result<()> {
        let result = self.write_until(to.min(u64::from(FORMAT.most_frames())));
        for waiting in &mut self.waiting {
            while waiting.front().is_some_and(|(from, samples)| from + samples.len() as u64 <= to) {
                waiting.pop_front();
            }
        }
        result
    }

    /// Writes the rest, and the header. The file is unlocked then.
    ///
    /// # Errors
    /// If the disk does not take it. What was written before is a valid file.
    pub fn close(mut self, end: u64) -> io::Result<()> {
        self.advance(end)?;
        self.write_header()
    }

    fn write_until(&mut self, to: u64) -> io::Result<()> {
        while self.written < to {
            let long = (to - self.written).min(AT_ONCE);
            let mut block = vec![SILENCE; (long * FRAME) as usize];
            for (side, waiting) in self.waiting.iter().enumerate() {
                for (from, samples) in waiting {
                    overlay(&mut block, side, self.written, *from, samples);
                }
            }
            self.file.write_all_at(&block, HEADER + self.written * FRAME)?;
            self.written += long;
        }
        // Only what is in the file may be in its header. It says so at least once a second.
        if self.written >= self.headed + AT_ONCE { self.write_header() } else { Ok(()) }
    }

    fn write_header(&mut self) -> io::Result<()> {
        if self.headed != self.written {
            self.file.write_all_at(&FORMAT.bytes(self.written as u32), 0)?;
            self.headed = self.written;
        }
        Ok(())
    }

    /// Replaces frames of one side that are written already.
    fn rewrite(&mut self, side: Side, at: u64, samples: &[u8]) -> io::Result<()> {
        if samples.is_empty() {
            return Ok(());
        }
        let mut block = vec![0; samples.len() * FRAME as usize];
        self.file.read_exact_at(&mut block, HEADER + at * FRAME)?;
        overlay(&mut block, side as usize, at, at, samples);
        self.file.write_all_at(&block, HEADER + at * FRAME)
    }
}

/// The path of a file until it is locked.
fn unnamed(path: &Path) -> PathBuf {
    let id = path.file_stem().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{id}{UNNAMED}"))
}

/// Puts samples that begin at frame `from` into one side of a block that begins at `start`, as far as they belong there.
fn overlay(block: &mut [u8], side: usize, start: u64, from: u64, samples: &[u8]) {
    let skipped = start.saturating_sub(from) as usize;
    let offset = from.saturating_sub(start) as usize;
    let places = block.chunks_exact_mut(FRAME as usize).skip(offset);
    for (frame, sample) in places.zip(samples.get(skipped..).unwrap_or_default()) {
        frame[side] = *sample;
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use switchboard_audio::Chunk;

    use super::*;

    /// Reads a recording by the format's rules, as a player does: the frames that the header says, and that are there.
    pub fn sides(file: &[u8]) -> [Vec<u8>; 2] {
        let number = |at: usize| u32::from_le_bytes(file[at..at + 4].try_into().unwrap());
        assert_eq!((&file[..4], &file[8..12]), (&b"RIFF"[..], &b"WAVE"[..]));
        let (mut at, mut frames) = (12, None);
        loop {
            let (name, length) = (&file[at..at + 4], number(at + 4) as usize);
            let content = &file[at + 8..];
            match name {
                b"fmt " => {
                    // μ-law, 2 channels, 8 kHz, 16,000 bytes a second, 2 bytes a frame, 8 bits, no more.
                    let expected = [7, 0, 2, 0, 0x40, 0x1F, 0, 0, 0x80, 0x3E, 0, 0, 2, 0, 8, 0, 0, 0];
                    assert_eq!(content[..length], expected);
                }
                b"fact" => frames = Some(number(at + 8) as usize),
                b"data" => {
                    assert_eq!(frames, Some(length / 2));
                    let there = &content[..length.min(content.len())];
                    let side = |side: usize| there.chunks_exact(2).map(|frame| frame[side]).collect();
                    return [side(0), side(1)];
                }
                other => panic!("{other:?}"),
            }
            at += 8 + length;
        }
    }

    fn audio(side: Side, at: u64, sample: u8, length: usize) -> Part {
        Part::Audio { side, at, chunk: Chunk::from_ulaw(&vec![sample; length]) }
    }

    #[test]
    fn each_side_has_its_audio_where_it_belongs_and_silence_elsewhere() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("recordings/call.wav");
        let mut track = Track::create(&path).unwrap();
        track.take(audio(Side::Caller, 100, 1, 50)).unwrap();
        track.take(audio(Side::Heard, 120, 2, 1_000)).unwrap();
        track.advance(200).unwrap();
        // Late, and over what is written and what is not.
        track.take(audio(Side::Caller, 190, 3, 20)).unwrap();
        track.take(Part::Cut { at: 180 }).unwrap();
        track.take(audio(Side::Heard, 400, 4, 10_000)).unwrap();
        track.advance(9_000).unwrap();
        track.close(9_000).unwrap();
        let [left, right] = sides(&fs::read(&path).unwrap());
        let expected = |pieces: &[(usize, usize, u8)]| {
            let mut samples = vec![SILENCE; 9_000];
            pieces.iter().for_each(|(from, to, sample)| samples[*from..*to].fill(*sample));
            samples
        };
        assert!(left == expected(&[(100, 150, 1), (190, 210, 3)]));
        assert!(right == expected(&[(120, 180, 2), (400, 9_000, 4)]));
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
    }

    #[test]
    fn a_file_has_its_name_only_once_it_is_locked() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("call.wav");
        fs::write(unnamed(&path), "").unwrap();
        Track::create(&path).unwrap_err();
        assert!(!path.exists(), "it begins under another name");
        fs::remove_file(unnamed(&path)).unwrap();
        let _track = Track::create(&path).unwrap();
        assert!(File::open(&path).unwrap().try_lock().is_err());
        assert!(!unnamed(&path).exists());
    }

    #[test]
    fn a_file_that_cannot_be_named_is_not_left() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("call.wav");
        fs::create_dir(&path).unwrap();
        Track::create(&path).unwrap_err();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_file_that_is_cut_anywhere_can_be_played() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("call.wav");
        let mut track = Track::create(&path).unwrap();
        assert_eq!(sides(&fs::read(&path).unwrap()), [Vec::<u8>::new(), Vec::new()], "from the start");
        for second in 0..5 {
            track.take(audio(Side::Caller, second * 8_000, 1, 8_000)).unwrap();
            track.advance((second + 1) * 8_000).unwrap();
            // What a killed process leaves.
            let [left, right] = sides(&fs::read(&path).unwrap());
            assert_eq!((left.len(), right.len()), ((second as usize + 1) * 8_000, left.len()));
        }
        drop(track);
        let file = fs::read(&path).unwrap();
        for cut in (58..file.len()).step_by(997) {
            assert_eq!(sides(&file[..cut])[0], vec![1; (cut - 58) / 2]);
        }
    }

    #[test]
    fn what_a_full_disk_did_not_take_becomes_silence() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("call.wav");
        let mut track = Track::create(&path).unwrap();
        track.take(audio(Side::Caller, 0, 1, 100)).unwrap();
        track.advance(100).unwrap();
        let full = File::options().read(true).write(true).open("/dev/full").unwrap();
        let disk = std::mem::replace(&mut track.file, full);
        track.take(audio(Side::Caller, 100, 2, 100)).unwrap();
        assert!(track.advance(200).is_err());
        assert!(track.waiting.iter().all(VecDeque::is_empty), "it does not pile up");
        track.file = disk;
        track.take(audio(Side::Caller, 200, 3, 100)).unwrap();
        track.close(300).unwrap();
        let [left, _] = sides(&fs::read(&path).unwrap());
        assert!(left == [[1; 100], [SILENCE; 100], [3; 100]].concat());
    }

    #[test]
    fn memory_does_not_grow_with_the_call() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("call.wav");
        let mut track = Track::create(&path).unwrap();
        let hours = 3 * 60 * 60;
        for second in 0..hours {
            let at = second * 8_000;
            track.take(audio(Side::Caller, at, 1, 100)).unwrap();
            track.take(audio(Side::Heard, at, 2, 100)).unwrap();
            track.advance(at + 50).unwrap();
            let waits: usize = track.waiting.iter().flatten().map(|(_, samples)| samples.len()).sum();
            assert!(waits <= 200, "{waits} bytes wait after {second} s");
        }
        track.close(hours * 8_000).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().len(), 58 + hours * 16_000);
    }
}
