//! The shared memory segments of ntpd's driver 28, as gpsd and others write them.
//!
//! The writer is another program, perhaps of another user: the segment is copied at once, and only the copy is looked at.

use crate::{OFFSET_SECONDS_MAX, Reading, ReadingError, i32_at, leap_of, long_at};
use chime_time::{NtpDate, NtpDuration};

/// Key of the segment of unit 0; those of the others follow. `NTP0` in ASCII.
pub const KEY: i32 = 0x4e54_5030;
/// The largest unit: keys that somebody else could mean are left alone.
pub const UNIT_MAX: u16 = 255;

/// Octets of a `time_t`, as programs of this machine have it.
const TIME_OCTETS: usize = size_of::<usize>();

/// Octets of a segment.
pub const OCTETS: usize = layout().end;
/// Where its `count` is, a counter that the writer increments before and after it writes.
pub const COUNT_AT: usize = 4;
/// Where its `valid` is, which the reader clears.
pub const VALID_AT: usize = layout().valid;

/// Where the fields are.
struct Layout {
    clock_seconds: usize,
    clock_micros: usize,
    receive_seconds: usize,
    receive_micros: usize,
    leap: usize,
    valid: usize,
    clock_nanos: usize,
    receive_nanos: usize,
    end: usize,
}

/// As C lays it out: `int mode, count; time_t; int; time_t; int leap, precision, nsamples, valid; unsigned clockNSec,
/// receiveNSec; int dummy[8]`.
const fn layout() -> Layout {
    const fn up(at: usize) -> usize {
        at.next_multiple_of(TIME_OCTETS)
    }
    let clock_seconds = up(8);
    let clock_micros = clock_seconds + TIME_OCTETS;
    let receive_seconds = up(clock_micros + 4);
    let receive_micros = receive_seconds + TIME_OCTETS;
    let leap = receive_micros + 4;
    let valid = leap + 12;
    Layout {
        clock_seconds,
        clock_micros,
        receive_seconds,
        receive_micros,
        leap,
        valid,
        clock_nanos: valid + 4,
        receive_nanos: valid + 8,
        end: up(valid + 12 + 8 * 4),
    }
}

/// Reads a copy of a segment; `count_after` is its counter as it was once the copy was made.
///
/// # Errors
/// When there is no new sample, it was written meanwhile, or it is no time.
pub fn decode(segment: &[u8; OCTETS], count_after: i32) -> Result<Reading, ReadingError> {
    let places = layout();
    let int = |at: usize| i32_at(segment, at).ok_or(ReadingError::Length);
    let long = |at: usize| long_at(segment, at, TIME_OCTETS).ok_or(ReadingError::Length);
    if int(places.valid)? == 0 {
        return Err(ReadingError::NotNew);
    }
    match int(0)? {
        0 => {}
        1 if int(COUNT_AT)? == count_after => {}
        1 => return Err(ReadingError::Torn),
        _ => return Err(ReadingError::Mode),
    }
    let clock = date(long(places.clock_seconds)?, int(places.clock_micros)?, int(places.clock_nanos)?)?;
    let receive =
        date(long(places.receive_seconds)?, int(places.receive_micros)?, int(places.receive_nanos)?)?;
    let offset = clock - receive;
    if offset.abs() >= NtpDuration::from_secs_f64(OFFSET_SECONDS_MAX) {
        return Err(ReadingError::Range);
    }
    Ok(Reading { leap: leap_of(int(places.leap)?)?, ..Reading::time(receive, offset) })
}

/// Nanoseconds count where they agree with the microseconds: old writers leave them alone.
fn date(seconds: i64, micros: i32, nanos: i32) -> Result<NtpDate, ReadingError> {
    let micros =
        u32::try_from(micros).ok().filter(|micros| *micros < 1_000_000).ok_or(ReadingError::Range)?;
    let nanos = u32::try_from(nanos).ok().filter(|nanos| nanos / 1000 == micros).unwrap_or(micros * 1000);
    // Beyond that no clock can be.
    const SECONDS_MAX: i64 = 1 << 40;
    if seconds.checked_abs().is_none_or(|seconds| seconds > SECONDS_MAX) {
        return Err(ReadingError::Range);
    }
    Ok(NtpDate::from_unix(seconds, nanos))
}

/// A segment as a writer would leave it, for tests: receive time, reference time, leap.
#[must_use]
pub fn encode(mode: i32, count: i32, receive: NtpDate, clock: NtpDate, leap: i32) -> [u8; OCTETS] {
    let places = layout();
    let mut segment = [0; OCTETS];
    let mut put = |at: usize, octets: &[u8]| segment[at..at + octets.len()].copy_from_slice(octets);
    for (at, value) in [(0, mode), (COUNT_AT, count), (places.leap, leap), (places.valid, 1)] {
        put(at, &value.to_ne_bytes());
    }
    for (date, seconds, micros, nanos) in [
        (clock, places.clock_seconds, places.clock_micros, places.clock_nanos),
        (receive, places.receive_seconds, places.receive_micros, places.receive_nanos),
    ] {
        put(seconds, &date.unix_seconds().to_ne_bytes()[..TIME_OCTETS.min(8)]);
        put(micros, &(date.subsec_nanos() / 1000).to_ne_bytes());
        put(nanos, &date.subsec_nanos().to_ne_bytes());
    }
    segment
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ReadingKind;
    use chime_discipline::Leap;
    use proptest::prelude::*;

    fn times() -> (NtpDate, NtpDate) {
        let receive = NtpDate::from_unix(1_795_187_021, 250_000_123);
        (receive, receive + NtpDuration::from_nanos(-1_500_000_456))
    }

    fn put(segment: &mut [u8; OCTETS], at: usize, value: i32) {
        segment[at..at + 4].copy_from_slice(&value.to_ne_bytes());
    }

    #[test]
    #[cfg(target_pointer_width = "64")]
    fn it_is_laid_out_as_ntpd_has_it() {
        assert_eq!((OCTETS, VALID_AT, layout().clock_seconds, layout().receive_nanos), (96, 48, 8, 56));
    }

    #[test]
    fn a_sample_has_nanoseconds_and_its_sign() {
        let (receive, clock) = times();
        for mode in [0, 1] {
            let reading = decode(&encode(mode, 7, receive, clock, 2), 7).expect("it is sound");
            let ReadingKind::Time(offset) = reading.kind else { panic!("a time") };
            assert!((offset.to_nanos() + 1_500_000_456).abs() <= 1, "{offset:?}");
            assert_eq!((reading.at, reading.leap), (receive, Leap::Delete));
        }
    }

    #[test]
    fn writers_without_nanoseconds_are_read_by_their_microseconds() {
        let (receive, clock) = times();
        let mut segment = encode(0, 0, receive, clock, 0);
        put(&mut segment, layout().clock_nanos, 0);
        put(&mut segment, layout().receive_nanos, 0);
        let ReadingKind::Time(offset) = decode(&segment, 0).expect("it is sound").kind else {
            panic!("a time")
        };
        assert!((offset.to_nanos() + 1_500_001_000).abs() <= 1001, "{offset:?}");
    }

    #[test]
    fn what_is_old_or_torn_or_nonsense_is_no_sample() {
        let (receive, clock) = times();
        let good = encode(1, 7, receive, clock, 0);
        assert_eq!(decode(&good, 8), Err(ReadingError::Torn));
        let wrong = |at: usize, value: i32| {
            let mut segment = good;
            put(&mut segment, at, value);
            decode(&segment, 7)
        };
        assert_eq!(wrong(VALID_AT, 0), Err(ReadingError::NotNew));
        assert_eq!(wrong(0, 2), Err(ReadingError::Mode));
        assert_eq!(wrong(layout().leap, 3), Err(ReadingError::Unsynchronized));
        assert_eq!(wrong(layout().leap, -1), Err(ReadingError::Range));
        assert_eq!(wrong(layout().clock_micros, 1_000_000), Err(ReadingError::Range));
        let far = encode(0, 0, receive, NtpDate::from_unix(-1_795_187_021, 0), 0);
        assert_eq!(decode(&far, 0), Err(ReadingError::Range));
    }

    proptest! {
        #[test]
        fn no_segment_makes_it_panic(octets in proptest::collection::vec(any::<u8>(), OCTETS), mode in 0..3_i32, tame: bool) {
            let mut segment: [u8; OCTETS] = octets.try_into().expect("as long");
            put(&mut segment, 0, mode);
            if tame {
                put(&mut segment, layout().clock_micros, 5);
                put(&mut segment, layout().receive_micros, 5);
                put(&mut segment, layout().leap, 0);
            }
            if let Ok(Reading { kind: ReadingKind::Time(offset), .. }) = decode(&segment, 0) {
                prop_assert!(offset.as_secs_f64().abs() <= OFFSET_SECONDS_MAX);
            }
        }
    }
}
