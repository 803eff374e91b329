//! What the ear makes of a recording: `cargo run --example ear -- FILE.wav` (or raw µ-law, `FILE.ulaw`).

use std::time::{Duration, Instant};

use anyhow::Context as _;
use switchboard::call::ear::Ear;
use switchboard_audio::{Chunk, Clip};

fn main() -> anyhow::Result<()> {
    let path = std::env::args().nth(1).context("name a recording: FILE.wav or FILE.ulaw")?;
    let file = std::fs::read(&path).with_context(|| format!("{path} cannot be read"))?;
    let ulaw = if path.ends_with(".ulaw") { file.into() } else { Clip::from_wav(&file)?.ulaw };
    let (mut ear, mut now) = (Ear::default(), Instant::now());
    println!("second  speaks  sounds   quiet  of the last 8 s");
    for (second, ulaw) in ulaw.chunks(8_000).enumerate() {
        let (mut speaks, mut sounds) = (0, 0);
        for frame in ulaw.chunks(160) {
            now += Duration::from_millis(20);
            ear.hear(&Chunk::from_ulaw(frame), now);
            speaks += u32::from(ear.speaks(now)) * 2;
            sounds += u32::from(ear.sounds(now)) * 2;
        }
        let quiet = ear.quiet_since(now).map_or(0.0, |since| (now - since).as_secs_f32());
        let spoken = ear.speech_within(Duration::from_secs(8), now).as_secs_f32();
        println!("{second:6}  {speaks:4} %  {sounds:4} %  {quiet:4.1} s  {spoken:.1} s");
    }
    Ok(())
}
