//! The scale on which deadlines live.

use core::fmt;
use core::time::Duration;

/// An instant on a clock that is never set: nanoseconds since an origin that is not specified.
///
/// Made by the shell or by the simulator only. A step of the system clock does not move it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct MonoTime(u64);

impl MonoTime {
    /// The origin.
    pub const ZERO: Self = Self(0);

    /// Makes an instant from its nanoseconds since the origin.
    #[must_use]
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Nanoseconds since the origin.
    #[must_use]
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// The instant `duration` later, saturating at the end of the scale (584 years).
    #[must_use]
    pub fn saturating_add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)))
    }

    /// The instant that many seconds later (earlier, when negative), saturating at both ends.
    #[must_use]
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "float to int casts saturate, which is what is documented"
    )]
    pub fn add_secs_f64(self, seconds: f64) -> Self {
        let nanos = seconds * 1e9;
        if nanos < 0.0 {
            Self(self.0.saturating_sub((-nanos) as u64))
        } else {
            Self(self.0.saturating_add(nanos as u64))
        }
    }

    /// How long ago `earlier` was; zero when it is later than `self`.
    #[must_use]
    pub const fn saturating_since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// Signed seconds from `other` to `self`.
    #[must_use]
    pub fn seconds_since(self, other: Self) -> f64 {
        self.0.wrapping_sub(other.0).cast_signed() as f64 / 1e9
    }
}

impl fmt::Debug for MonoTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "mono {}.{:09}", self.0 / 1_000_000_000, self.0 % 1_000_000_000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elapsed_time_is_signed_and_never_wraps() {
        let a = MonoTime::from_nanos(5_000_000_000);
        let b = a.add_secs_f64(-1.5);
        assert!((a.seconds_since(b) - 1.5).abs() < 1e-12);
        assert!((b.seconds_since(a) + 1.5).abs() < 1e-12);
        assert_eq!(b.saturating_since(a), Duration::ZERO);
        assert_eq!(a.add_secs_f64(-100.0), MonoTime::ZERO);
    }
}
