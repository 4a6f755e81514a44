//! Dates: timestamps whose era is known.

use crate::{MonoTime, NtpDuration, NtpTimestamp};
use core::fmt;
use core::ops::{Add, Sub};

/// Seconds from 1 January 1900, the start of era 0, to 1 January 1970. RFC 5905 figure 4.
pub const UNIX_EPOCH_SECONDS: i64 = 2_208_988_800;

/// An instant with its era: signed seconds since 1 January 1900 and a fraction of 2⁻³² s. RFC 5905 §6.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct NtpDate {
    seconds: i64,
    fraction: u32,
}

impl NtpDate {
    /// Seconds since 1 January 1900 and the fraction in units of 2⁻³² s.
    #[must_use]
    pub const fn new(seconds: i64, fraction: u32) -> Self {
        Self { seconds, fraction }
    }

    /// From Unix time: seconds since 1 January 1970, and nanoseconds (below 10⁹).
    #[must_use]
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the quotient is below 2^32 because nanos is below 10^9"
    )]
    pub const fn from_unix(seconds: i64, nanos: u32) -> Self {
        Self {
            seconds: seconds.saturating_add(UNIX_EPOCH_SECONDS),
            fraction: (((nanos as u64) << 32) / 1_000_000_000) as u32,
        }
    }

    /// Seconds since 1 January 1970, rounded toward the past.
    #[must_use]
    pub const fn unix_seconds(self) -> i64 {
        self.seconds.saturating_sub(UNIX_EPOCH_SECONDS)
    }

    /// Nanoseconds within the second, rounded to the nearest below 10⁹.
    #[must_use]
    pub const fn subsec_nanos(self) -> u32 {
        let nanos = ((self.fraction as u64 * 1_000_000_000 + (1 << 31)) >> 32) as u32;
        if nanos > 999_999_999 { 999_999_999 } else { nanos }
    }

    /// Unix time as a floating-point number of seconds; for reports only, its resolution is about 0.2 µs.
    #[must_use]
    pub fn unix_seconds_f64(self) -> f64 {
        self.unix_seconds() as f64 + f64::from(self.fraction) / 4_294_967_296.0
    }

    /// The date that `timestamp` means when it is less than 68 years from `pivot`.
    #[must_use]
    pub fn from_timestamp(timestamp: NtpTimestamp, pivot: Self) -> Self {
        pivot + (timestamp - pivot.timestamp())
    }

    /// The timestamp of the wire; the era is lost.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the era is what is cut off")]
    pub const fn timestamp(self) -> NtpTimestamp {
        NtpTimestamp::from_bits(((self.seconds as u32 as u64) << 32) | self.fraction as u64)
    }

    /// The era: 0 until 7 February 2036, 1 after it.
    #[must_use]
    pub const fn era(self) -> i64 {
        self.seconds >> 32
    }
}

impl Sub for NtpDate {
    type Output = NtpDuration;
    /// The signed distance from `other` to `self`, saturating at ±68 years.
    fn sub(self, other: Self) -> NtpDuration {
        let units = (i128::from(self.seconds) - i128::from(other.seconds)) * (1 << 32)
            + i128::from(self.fraction)
            - i128::from(other.fraction);
        let limit = if units < 0 { i64::MIN } else { i64::MAX };
        NtpDuration::from_bits(i64::try_from(units).unwrap_or(limit))
    }
}

impl Add<NtpDuration> for NtpDate {
    type Output = Self;
    #[expect(clippy::cast_possible_truncation, reason = "the low half is meant")]
    fn add(self, duration: NtpDuration) -> Self {
        let sum = i64::from(self.fraction) + (duration.to_bits() & 0xffff_ffff);
        let seconds = self.seconds.saturating_add(duration.to_bits() >> 32).saturating_add(sum >> 32);
        Self { seconds, fraction: sum.cast_unsigned() as u32 }
    }
}

impl Sub<NtpDuration> for NtpDate {
    type Output = Self;
    fn sub(self, duration: NtpDuration) -> Self {
        self + -duration
    }
}

impl fmt::Debug for NtpDate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "unix {}.{:09}", self.unix_seconds(), self.subsec_nanos())
    }
}

/// The system clock and the monotonic clock, read together.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ClockReading {
    /// The monotonic clock.
    pub mono: MonoTime,
    /// The system clock, the one that is steered.
    pub system: NtpDate,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timestamp_is_dated_by_its_pivot() {
        let pivot = NtpDate::from_unix(2_085_978_490, 0); // six seconds before the end of era 0
        let date = NtpDate::from_timestamp(NtpTimestamp::from_bits(5 << 32), pivot);
        assert_eq!((pivot.era(), date.era()), (0, 1));
        assert_eq!((date - pivot), NtpDuration::from_seconds(11));
        assert_eq!(date - NtpDuration::from_seconds(11), pivot);
    }

    #[test]
    fn unix_time_survives_the_round_trip() {
        for (seconds, nanos) in [(0, 0), (-1, 1), (1_795_187_154, 999_999_999), (4_102_444_800, 500_000_000)]
        {
            let date = NtpDate::from_unix(seconds, nanos);
            assert_eq!((date.unix_seconds(), date.subsec_nanos()), (seconds, nanos));
        }
    }
}
