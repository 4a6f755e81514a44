//! Frequencies, and the two logarithms of the packet header.

use core::fmt;

/// A frequency offset in seconds per second; positive speeds our clock up.
#[derive(Clone, Copy, PartialEq, PartialOrd, Default)]
pub struct Frequency(f64);

impl Frequency {
    /// No correction.
    pub const ZERO: Self = Self(0.0);

    /// From seconds per second.
    #[must_use]
    pub const fn from_ratio(ratio: f64) -> Self {
        Self(ratio)
    }

    /// In seconds per second.
    #[must_use]
    pub const fn as_ratio(self) -> f64 {
        self.0
    }

    /// From parts per million.
    #[must_use]
    pub fn from_ppm(ppm: f64) -> Self {
        Self(ppm * 1e-6)
    }

    /// In parts per million.
    #[must_use]
    pub fn as_ppm(self) -> f64 {
        self.0 * 1e6
    }
}

impl fmt::Debug for Frequency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:+.3} ppm", self.as_ppm())
    }
}

/// A poll interval as the logarithm to base 2 of seconds. RFC 5905 §7.3.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct PollExponent(i8);

impl PollExponent {
    /// The shortest interval that any configuration may ask for: 1/128 s.
    pub const LOWEST: i8 = -7;
    /// The longest interval: 2²⁴ s, 194 days.
    pub const HIGHEST: i8 = 24;

    /// Clamps the exponent into the range that is supported.
    #[must_use]
    pub fn new(exponent: i8) -> Self {
        Self(exponent.clamp(Self::LOWEST, Self::HIGHEST))
    }

    /// The logarithm to base 2 of the seconds.
    #[must_use]
    pub const fn exponent(self) -> i8 {
        self.0
    }

    /// The interval in seconds.
    #[must_use]
    pub fn seconds(self) -> f64 {
        exp2(self.0)
    }
}

/// The precision of a clock as the logarithm to base 2 of seconds. RFC 5905 §7.3.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Precision(i8);

impl Precision {
    /// Clamps the exponent to what makes sense: 2⁻³² s (the resolution of a timestamp) to 1 s.
    #[must_use]
    pub fn new(exponent: i8) -> Self {
        Self(exponent.clamp(-32, 0))
    }

    /// The logarithm to base 2 of the seconds.
    #[must_use]
    pub const fn exponent(self) -> i8 {
        self.0
    }

    /// The precision in seconds.
    #[must_use]
    pub fn seconds(self) -> f64 {
        exp2(self.0)
    }
}

/// Two to the power of `exponent`, which core cannot compute with floats.
fn exp2(exponent: i8) -> f64 {
    let magnitude = 2u128.pow(u32::from(exponent.unsigned_abs()).min(127)) as f64;
    if exponent < 0 { 1.0 / magnitude } else { magnitude }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exponents_are_clamped_where_they_are_made() {
        assert_eq!(PollExponent::new(127).exponent(), PollExponent::HIGHEST);
        assert!((PollExponent::new(6).seconds() - 64.0).abs() < f64::EPSILON);
        assert!((PollExponent::new(-3).seconds() - 0.125).abs() < f64::EPSILON);
        assert_eq!(Precision::new(4).exponent(), 0);
        assert!((Frequency::from_ppm(1.5).as_ratio() - 1.5e-6).abs() < 1e-18);
    }
}
