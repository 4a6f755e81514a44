//! How long to wait before the next attempt after failures in a row.

use crate::random::Random;
use chime_time::MonoTime;

/// The first wait, the longest one, and how the waits grow between them: each is twice the one before.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Waits {
    pub(crate) first_seconds: f64,
    pub(crate) longest_seconds: f64,
}

impl Waits {
    /// After network errors: a route may be back any second. 2 s doubling to 17 min.
    pub(crate) const NETWORK: Self = Self { first_seconds: 2.0, longest_seconds: 1024.0 };
    /// After TLS or protocol errors, which only an operator mends, and NTSN: 32 s doubling to 2.3 h.
    pub(crate) const PROTOCOL: Self = Self { first_seconds: 32.0, longest_seconds: 8192.0 };

    /// The wait after `failures` in a row, at least one; seconds.
    pub(crate) fn seconds(self, failures: u32) -> f64 {
        let doublings = failures.saturating_sub(1).min(30);
        (self.first_seconds * f64::from(1u32 << doublings)).min(self.longest_seconds)
    }
}

/// Failures in a row, and until when to wait because of them.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub(crate) struct BackOff {
    failures: u32,
    not_before: Option<MonoTime>,
}

impl BackOff {
    /// Counts a failure; gives the wait in seconds. Jitter of a tenth keeps machines that failed together from coming
    /// back together.
    pub(crate) fn fail(&mut self, now: MonoTime, waits: Waits, random: &mut Random) -> f64 {
        self.failures = self.failures.saturating_add(1);
        let seconds = waits.seconds(self.failures) * random.jitter(0.9, 1.1);
        self.not_before = Some(now.add_secs_f64(seconds));
        seconds
    }

    /// Waits at least this long, without counting a failure.
    pub(crate) fn wait_at_least(&mut self, now: MonoTime, seconds: f64) {
        let until = now.add_secs_f64(seconds);
        self.not_before = Some(self.not_before.map_or(until, |before| before.max(until)));
    }

    /// Forgets everything: it worked, or the world changed.
    pub(crate) fn reset(&mut self) {
        *self = Self::default();
    }

    /// When the next attempt is allowed; `None` = now.
    pub(crate) fn not_before(self, now: MonoTime) -> Option<MonoTime> {
        self.not_before.filter(|at| *at > now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_their_limit() {
        let network: Vec<f64> = (1..=11).map(|failures| Waits::NETWORK.seconds(failures)).collect();
        assert_eq!(network, [2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 1024.0]);
        let protocol: Vec<f64> = (1..=10).map(|failures| Waits::PROTOCOL.seconds(failures)).collect();
        assert_eq!(protocol, [32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 2048.0, 4096.0, 8192.0, 8192.0]);
        assert!(Waits::PROTOCOL.seconds(u32::MAX) <= 8192.0);
    }

    #[test]
    fn a_success_forgets_the_failures() {
        let (now, mut random) = (MonoTime::from_nanos(7), Random::new([0; 32]));
        let mut back_off = BackOff::default();
        let first = back_off.fail(now, Waits::NETWORK, &mut random);
        let second = back_off.fail(now, Waits::NETWORK, &mut random);
        assert!((1.8..2.2).contains(&first) && (3.6..4.4).contains(&second));
        assert_eq!(back_off.not_before(now), Some(now.add_secs_f64(second)));
        assert_eq!(back_off.not_before(now.add_secs_f64(4.5)), None);
        back_off.reset();
        assert_eq!(back_off.not_before(now), None);
    }
}
