//! The 32-bit format of root delay and root dispersion.

use crate::NtpDuration;
use core::fmt;

/// A span in the short format: unsigned 16.16 seconds. RFC 5905 §6.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct NtpShort(u32);

impl NtpShort {
    /// No time at all.
    pub const ZERO: Self = Self(0);
    /// The largest value: almost 65536 s.
    pub const MAX: Self = Self(u32::MAX);

    /// Makes a value from its 32 bits as they stand in a packet.
    #[must_use]
    pub const fn from_bits(bits: u32) -> Self {
        Self(bits)
    }

    /// The 32 bits as they stand in a packet.
    #[must_use]
    pub const fn to_bits(self) -> u32 {
        self.0
    }

    /// Encodes a span, rounding **up** so that we never advertise less error than we have. Negative becomes zero,
    /// what is too long becomes the largest value.
    #[must_use]
    pub fn from_duration_ceil(duration: NtpDuration) -> Self {
        let units = duration.to_bits().max(0);
        let shorts = (units >> 16) + i64::from(units & 0xffff != 0);
        Self(u32::try_from(shorts).unwrap_or(u32::MAX))
    }

    /// The span; exact.
    #[must_use]
    pub const fn to_duration(self) -> NtpDuration {
        NtpDuration::from_bits((self.0 as i64) << 16)
    }
}

impl fmt::Debug for NtpShort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.6}s", self.to_duration().as_secs_f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encoding_rounds_up_and_never_wraps() {
        assert_eq!(NtpShort::from_duration_ceil(NtpDuration::from_bits(1)).to_bits(), 1);
        assert_eq!(NtpShort::from_duration_ceil(NtpDuration::from_bits(1 << 16)).to_bits(), 1);
        assert_eq!(NtpShort::from_duration_ceil(NtpDuration::from_bits(-1)), NtpShort::ZERO);
        assert_eq!(NtpShort::from_duration_ceil(NtpDuration::from_seconds(70_000)), NtpShort::MAX);
    }
}
