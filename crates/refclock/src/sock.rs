//! The datagrams that gpsd and others send to a chrony socket, and to ntpd-rs's.
//!
//! ```text
//!   0        8        16       24    28    32     36     40
//!   | sec    | µsec   | offset | pulse | leap | (pad) | magic |      64-bit, and 32-bit with 64-bit time
//!   0   4    8        16   20   24    28      32
//!   | s | µs | offset | pulse | leap | (pad) | magic |               32-bit
//! ```
//! All in the order of the machine; the offset is a double, true minus system time in seconds.

use crate::{OFFSET_SECONDS_MAX, Reading, ReadingError, ReadingKind, i32_at, leap_of, long_at};
use chime_time::{NtpDate, NtpDuration};

/// `SOCK` in ASCII, by which a datagram is known.
pub const MAGIC: i32 = 0x534f_434b;
/// Octets of a datagram whose seconds have eight octets.
pub const OCTETS: usize = 40;
/// Octets of one whose seconds have four.
pub const OCTETS_SHORT: usize = 32;
/// Room for a datagram: one octet more, so that a longer one is seen to be.
pub const ROOM: usize = OCTETS + 1;

/// Reads a datagram. With the pulse flag set only the fraction of the second of its offset counts.
///
/// # Errors
/// When it has another length or magic, a time or an offset that is none, or says that the clock is not synchronised.
pub fn decode(datagram: &[u8]) -> Result<Reading, ReadingError> {
    let width = match datagram.len() {
        OCTETS => 8,
        OCTETS_SHORT => 4,
        _ => return Err(ReadingError::Length),
    };
    let rest = 2 * width;
    let int = |at: usize| i32_at(datagram, rest + at).ok_or(ReadingError::Length);
    if int(20)? != MAGIC {
        return Err(ReadingError::Magic);
    }
    let seconds = long_at(datagram, 0, width).ok_or(ReadingError::Length)?;
    let micros = long_at(datagram, width, width).ok_or(ReadingError::Length)?;
    let micros =
        u32::try_from(micros).ok().filter(|micros| *micros < 1_000_000).ok_or(ReadingError::Range)?;
    let offset = datagram.get(rest..rest + 8).and_then(|octets| octets.try_into().ok());
    let offset = offset.map(f64::from_ne_bytes).ok_or(ReadingError::Length)?;
    if !(offset.is_finite() && offset.abs() < OFFSET_SECONDS_MAX) {
        return Err(ReadingError::Range);
    }
    let leap = leap_of(int(12)?)?;
    let at = NtpDate::from_unix(seconds, micros * 1000);
    let offset = NtpDuration::from_secs_f64(offset);
    let kind = if int(8)? == 0 { ReadingKind::Time(offset) } else { ReadingKind::Pulse(offset) };
    Ok(Reading { kind, leap, ..Reading::time(at, offset) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use chime_discipline::Leap;
    use proptest::prelude::*;

    fn datagram(seconds: i64, micros: i64, offset: f64, pulse: i32, leap: i32, magic: i32) -> Vec<u8> {
        let mut octets = Vec::new();
        octets.extend(seconds.to_ne_bytes());
        octets.extend(micros.to_ne_bytes());
        octets.extend(offset.to_ne_bytes());
        for word in [pulse, leap, 0, magic] {
            octets.extend(word.to_ne_bytes());
        }
        octets
    }

    #[test]
    fn a_sample_of_gpsd_is_read() {
        let octets = datagram(1_795_187_021, 250_000, -0.125, 0, 1, MAGIC);
        let reading = decode(&octets).expect("it is sound");
        assert_eq!(reading.at, NtpDate::from_unix(1_795_187_021, 250_000_000));
        assert_eq!(reading.kind, ReadingKind::Time(NtpDuration::from_secs_f64(-0.125)));
        assert_eq!(reading.leap, Leap::Insert);
    }

    #[test]
    fn a_short_one_of_a_32_bit_program_is_read() {
        let mut octets = Vec::new();
        for word in [1_795_187_021i32, 250_000] {
            octets.extend(word.to_ne_bytes());
        }
        octets.extend(0.5f64.to_ne_bytes());
        for word in [0, 0, 0, MAGIC] {
            octets.extend(word.to_ne_bytes());
        }
        let reading = decode(&octets).expect("it is sound");
        assert_eq!(reading.kind, ReadingKind::Time(NtpDuration::from_secs_f64(0.5)));
    }

    #[test]
    fn a_pulse_is_known_by_its_flag() {
        let reading = decode(&datagram(1_795_187_021, 200_000, -0.25, 1, 0, MAGIC)).expect("it is sound");
        assert_eq!(reading.kind, ReadingKind::Pulse(NtpDuration::from_secs_f64(-0.25)));
    }

    #[test]
    fn what_is_no_sample_is_refused_with_its_reason() {
        let good = datagram(1, 0, 0.0, 0, 0, MAGIC);
        assert_eq!(decode(&good[..39]), Err(ReadingError::Length));
        assert_eq!(decode(&[&good[..], &[0]].concat()), Err(ReadingError::Length));
        assert_eq!(decode(&datagram(1, 0, 0.0, 0, 0, 1)), Err(ReadingError::Magic));
        assert_eq!(decode(&datagram(1, 1_000_000, 0.0, 0, 0, MAGIC)), Err(ReadingError::Range));
        assert_eq!(decode(&datagram(1, -1, 0.0, 0, 0, MAGIC)), Err(ReadingError::Range));
        for offset in [f64::NAN, f64::INFINITY, -1e300, 3e9] {
            assert_eq!(decode(&datagram(1, 0, offset, 0, 0, MAGIC)), Err(ReadingError::Range), "{offset}");
        }
        assert_eq!(decode(&datagram(1, 0, 0.0, 0, 3, MAGIC)), Err(ReadingError::Unsynchronized));
        assert_eq!(decode(&datagram(1, 0, 0.0, 0, 7, MAGIC)), Err(ReadingError::Range));
    }

    proptest! {
        #[test]
        fn no_octets_make_it_panic(octets in proptest::collection::vec(any::<u8>(), 0..64), magic: bool) {
            let mut octets = octets;
            if magic && octets.len() >= 40 {
                octets.truncate(40);
                octets[36..].copy_from_slice(&MAGIC.to_ne_bytes());
            }
            if let Ok(Reading { kind: ReadingKind::Time(offset), .. }) = decode(&octets) {
                prop_assert!(offset.as_secs_f64().abs() <= OFFSET_SECONDS_MAX);
            }
        }
    }
}
