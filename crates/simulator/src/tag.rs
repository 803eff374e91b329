//! Audio bytes that identify themselves: a tag names the item and millisecond that a phone is playing, a stamp the time
//! when something was sent. A checksum keeps other audio from being mistaken for either.

use std::sync::OnceLock;
use std::time::Instant;

/// Bytes in a tag: one millisecond of mu-law.
pub const TAG_LEN: usize = 8;
/// Bytes in a stamp.
pub const STAMP_LEN: usize = 16;

const TAG_MARK: u8 = 0x5A;
const STAMP_MARK: u8 = 0xA3;

/// The 8 bytes for millisecond `ms` of item number `item`.
pub fn tag(item: u16, ms: u32) -> [u8; TAG_LEN] {
    let [i0, i1] = item.to_be_bytes();
    let [m0, m1, m2, m3] = ms.to_be_bytes();
    let mut bytes = [TAG_MARK, i0, i1, m0, m1, m2, m3, 0];
    bytes[7] = crc8(&bytes[..7]);
    bytes
}

/// The item number and millisecond in a tag; `None` for any other audio.
pub fn untag(bytes: &[u8; TAG_LEN]) -> Option<(u16, u32)> {
    let [mark, i0, i1, m0, m1, m2, m3, check] = *bytes;
    (mark == TAG_MARK && check == crc8(&bytes[..7]))
        .then(|| (u16::from_be_bytes([i0, i1]), u32::from_be_bytes([m0, m1, m2, m3])))
}

/// The 16 bytes for a time (see [`nanos`]) and a sequence number.
pub fn stamp(nanos: u64, sequence: u32) -> [u8; STAMP_LEN] {
    let mut bytes = [0; STAMP_LEN];
    bytes[0] = STAMP_MARK;
    bytes[1] = !STAMP_MARK;
    bytes[2..10].copy_from_slice(&nanos.to_be_bytes());
    bytes[10..14].copy_from_slice(&sequence.to_be_bytes());
    bytes[14] = crc8(&bytes[..14]);
    bytes[15] = !bytes[14];
    bytes
}

/// The time and sequence number in a stamp; `None` for any other audio.
pub fn unstamp(bytes: &[u8; STAMP_LEN]) -> Option<(u64, u32)> {
    let good = bytes[0] == STAMP_MARK
        && bytes[1] == !STAMP_MARK
        && bytes[15] == !bytes[14]
        && bytes[14] == crc8(&bytes[..14]);
    let nanos = bytes[2..10].try_into().ok().map(u64::from_be_bytes)?;
    let sequence = bytes[10..14].try_into().ok().map(u32::from_be_bytes)?;
    good.then_some((nanos, sequence))
}

/// Nanoseconds since the first call in this process: one clock for all stamps.
pub fn nanos() -> u64 {
    static START: OnceLock<Instant> = OnceLock::new();
    let start = *START.get_or_init(Instant::now);
    u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

fn crc8(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0xFF, |crc, byte| {
        (0..8).fold(crc ^ byte, |crc, _| if crc & 0x80 != 0 { (crc << 1) ^ 0x07 } else { crc << 1 })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_and_stamps_survive_a_round_trip() {
        assert_eq!(untag(&tag(513, 70_001)), Some((513, 70_001)));
        assert_eq!(unstamp(&stamp(u64::MAX - 3, 9)), Some((u64::MAX - 3, 9)));
    }

    #[test]
    fn other_audio_is_neither() {
        assert_eq!(untag(&[0xFF; TAG_LEN]), None);
        assert_eq!(unstamp(&[0xFF; STAMP_LEN]), None);
        let mut bent = tag(1, 2);
        bent[4] ^= 1;
        assert_eq!(untag(&bent), None);
    }
}
