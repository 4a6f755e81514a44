//! Signed spans of time.

use core::fmt;
use core::ops::{Add, AddAssign, Div, Mul, Neg, Sub, SubAssign};

/// Units of [`NtpDuration`] in one second: 2³².
pub const SECOND_UNITS: i64 = 1 << 32;

/// A signed span of time in units of 2⁻³² s; arithmetic saturates at ±68 years.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct NtpDuration(i64);

impl NtpDuration {
    /// No time at all.
    pub const ZERO: Self = Self(0);
    /// The longest span: about 68 years.
    pub const MAX: Self = Self(i64::MAX);
    /// The longest span into the past: about 68 years.
    pub const MIN: Self = Self(i64::MIN);

    /// Makes a span from its number of units of 2⁻³² s.
    #[must_use]
    pub const fn from_bits(units: i64) -> Self {
        Self(units)
    }

    /// The number of units of 2⁻³² s.
    #[must_use]
    pub const fn to_bits(self) -> i64 {
        self.0
    }

    /// A whole number of seconds, saturating.
    #[must_use]
    pub const fn from_seconds(seconds: i64) -> Self {
        Self(seconds.saturating_mul(SECOND_UNITS))
    }

    /// A number of nanoseconds, rounded to the nearest unit.
    #[must_use]
    pub const fn from_nanos(nanos: i64) -> Self {
        let seconds = nanos.div_euclid(1_000_000_000);
        let rest = nanos.rem_euclid(1_000_000_000);
        Self(
            seconds
                .saturating_mul(SECOND_UNITS)
                .saturating_add((rest * SECOND_UNITS + 500_000_000) / 1_000_000_000),
        )
    }

    /// The number of nanoseconds, rounded to the nearest; ±68 years fit.
    #[must_use]
    pub const fn to_nanos(self) -> i64 {
        let seconds = self.0 >> 32;
        let fraction = self.0 & 0xffff_ffff;
        seconds * 1_000_000_000 + ((fraction * 1_000_000_000 + (SECOND_UNITS / 2)) >> 32)
    }

    /// From seconds as a floating-point number; saturates, and not-a-number becomes zero.
    #[must_use]
    #[expect(
        clippy::cast_possible_truncation,
        reason = "float to int casts saturate, which is what is documented"
    )]
    pub fn from_secs_f64(seconds: f64) -> Self {
        // A conversion of its own for the rounding: `as` truncates, and `round` is not in core.
        let units = seconds * SECOND_UNITS as f64;
        Self((if units < 0.0 { units - 0.5 } else { units + 0.5 }) as i64)
    }

    /// Seconds as a floating-point number (53 bits of it).
    #[must_use]
    pub fn as_secs_f64(self) -> f64 {
        self.0 as f64 / SECOND_UNITS as f64
    }

    /// The magnitude, saturating.
    #[must_use]
    pub const fn abs(self) -> Self {
        Self(self.0.saturating_abs())
    }

    /// Whether the span is shorter than zero.
    #[must_use]
    pub const fn is_negative(self) -> bool {
        self.0 < 0
    }

    /// Half of the span, rounded toward minus infinity.
    #[must_use]
    pub const fn half(self) -> Self {
        Self(self.0 >> 1)
    }
}

impl Add for NtpDuration {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}
impl Sub for NtpDuration {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}
impl AddAssign for NtpDuration {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}
impl SubAssign for NtpDuration {
    fn sub_assign(&mut self, other: Self) {
        *self = *self - other;
    }
}
impl Neg for NtpDuration {
    type Output = Self;
    fn neg(self) -> Self {
        Self(self.0.saturating_neg())
    }
}
impl Mul<i64> for NtpDuration {
    type Output = Self;
    fn mul(self, factor: i64) -> Self {
        Self(self.0.saturating_mul(factor))
    }
}
impl Div<i64> for NtpDuration {
    type Output = Self;
    /// Divides, rounding toward zero. Panics when `divisor` is zero, as integers do.
    fn div(self, divisor: i64) -> Self {
        Self(self.0.saturating_div(divisor))
    }
}

impl fmt::Debug for NtpDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:+.9}s", self.as_secs_f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nanoseconds_survive_the_round_trip() {
        for nanos in [0, 1, -1, 999_999_999, 1_000_000_000, -1_000_000_001, 86_400_000_000_000] {
            assert_eq!(NtpDuration::from_nanos(nanos).to_nanos(), nanos);
        }
    }

    #[test]
    fn arithmetic_saturates() {
        assert_eq!(NtpDuration::MAX + NtpDuration::from_bits(1), NtpDuration::MAX);
        assert_eq!(-NtpDuration::MIN, NtpDuration::MAX);
        assert_eq!(NtpDuration::from_secs_f64(1e30), NtpDuration::MAX);
        assert_eq!(NtpDuration::from_secs_f64(f64::NAN), NtpDuration::ZERO);
        assert_eq!(NtpDuration::from_secs_f64(-0.5).to_bits(), -(1 << 31));
    }
}
