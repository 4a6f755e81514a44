//! The 64-bit timestamp of the packet header.

use crate::NtpDuration;
use core::fmt;
use core::ops::{Add, Sub};

/// A 64-bit NTP timestamp: unsigned 32.32 seconds since the start of an era that is not known. RFC 5905 §6.
///
/// It has no order: bits do not order across eras. Differences wrap, and are right whenever the two instants are
/// less than 68 years apart.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct NtpTimestamp(u64);

impl NtpTimestamp {
    /// The value that means "unknown" in a packet. RFC 5905 §7.3.
    pub const ZERO: Self = Self(0);

    /// Makes a timestamp from its 64 bits: seconds in the upper half, fraction in the lower.
    #[must_use]
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// The 64 bits: seconds in the upper half, fraction in the lower.
    #[must_use]
    pub const fn to_bits(self) -> u64 {
        self.0
    }

    /// Reads the eight octets as they stand in a packet.
    #[must_use]
    pub const fn from_be_bytes(octets: [u8; 8]) -> Self {
        Self(u64::from_be_bytes(octets))
    }

    /// The eight octets as they stand in a packet.
    #[must_use]
    pub const fn to_be_bytes(self) -> [u8; 8] {
        self.0.to_be_bytes()
    }

    /// Whether this is the value that means "unknown". RFC 5905 §7.3.
    #[must_use]
    pub const fn is_zero(self) -> bool {
        self.0 == 0
    }

    /// Whether this instant comes before `other`, taking the shorter way around the era.
    ///
    /// ```
    /// use chime_time::NtpTimestamp;
    /// let last_of_era_0 = NtpTimestamp::from_bits(u64::MAX);
    /// let first_of_era_1 = NtpTimestamp::from_bits(0);
    /// assert!(last_of_era_0.is_before(first_of_era_1)); // 7 February 2036 is an ordinary day
    /// ```
    #[must_use]
    pub fn is_before(self, other: Self) -> bool {
        self - other < NtpDuration::ZERO
    }
}

impl Sub for NtpTimestamp {
    type Output = NtpDuration;
    /// The signed distance from `other` to `self`, wrapping over the era.
    fn sub(self, other: Self) -> NtpDuration {
        NtpDuration::from_bits(self.0.wrapping_sub(other.0).cast_signed())
    }
}

impl Add<NtpDuration> for NtpTimestamp {
    type Output = Self;
    fn add(self, duration: NtpDuration) -> Self {
        Self(self.0.wrapping_add(duration.to_bits().cast_unsigned()))
    }
}

impl Sub<NtpDuration> for NtpTimestamp {
    type Output = Self;
    fn sub(self, duration: NtpDuration) -> Self {
        Self(self.0.wrapping_sub(duration.to_bits().cast_unsigned()))
    }
}

impl fmt::Debug for NtpTimestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}.{:08x}", self.0 >> 32, self.0 & 0xffff_ffff)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_over_the_era_is_small() {
        let before = NtpTimestamp::from_bits(u64::MAX);
        let after = NtpTimestamp::from_bits(1);
        assert_eq!((after - before).to_bits(), 2);
        assert_eq!((before - after).to_bits(), -2);
        assert_eq!(before + NtpDuration::from_bits(2), after);
        assert!(!after.is_before(before));
    }
}
