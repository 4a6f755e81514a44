//! Hardware clocks (PTP hardware clocks, clocks of virtual machines' hosts): one reading from several.

use crate::{OFFSET_SECONDS_MAX, Reading, ReadingError};
use chime_time::{NtpDate, NtpDuration};
use std::collections::VecDeque;

/// The hardware clock, read between two readings of the system clock.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bracket {
    /// The system clock before.
    pub before: NtpDate,
    /// The hardware clock.
    pub device: NtpDate,
    /// The system clock after; the same as before when the hardware latches both at once.
    pub after: NtpDate,
}

/// Readings that took up to so much longer than the fastest are as good.
const SLOWER_MAX: f64 = 1.1;

impl Bracket {
    fn took(&self) -> NtpDuration {
        self.after - self.before
    }

    fn middle(&self) -> NtpDate {
        self.before + self.took().half()
    }

    /// Device minus system; positive when our clock is behind.
    fn offset(&self) -> NtpDuration {
        self.device - self.middle()
    }
}

/// Makes one reading of several: those that were fastest, as theirs can be off by least, are averaged.
///
/// # Errors
/// When there are none in which time goes forward, or the clock is 68 years off.
pub fn reading(brackets: &[Bracket]) -> Result<Reading, ReadingError> {
    let forward = || brackets.iter().filter(|one| !one.took().is_negative());
    let fastest = forward().map(Bracket::took).min().ok_or(ReadingError::NotNew)?;
    let limit = NtpDuration::from_secs_f64(fastest.as_secs_f64() * SLOWER_MAX);
    let good: Vec<&Bracket> = forward().filter(|one| one.took() <= limit.max(fastest)).collect();
    let first = *good.first().ok_or(ReadingError::NotNew)?;
    if good.iter().any(|one| one.offset().abs() >= NtpDuration::from_secs_f64(OFFSET_SECONDS_MAX)) {
        return Err(ReadingError::Range);
    }
    // Relative to the first, so that nothing is lost of a clock that is decades off.
    let count = good.len() as f64;
    let mean = |value: &dyn Fn(&Bracket) -> NtpDuration| {
        NtpDuration::from_secs_f64(good.iter().map(|one| value(one).as_secs_f64()).sum::<f64>() / count)
    };
    let at = first.middle() + mean(&|one| one.middle() - first.middle());
    let offset = first.offset() + mean(&|one| one.offset() - first.offset());
    Ok(Reading { dispersion: fastest.as_secs_f64() / 2.0, ..Reading::time(at, offset) })
}

/// Readings of which the typical time is known.
const TIMES_KEPT: usize = 32;
/// A reading that took so much longer than is typical is not used: it was interrupted, and may be off by as much.
const LONGER_MAX: f64 = 1.3;

/// Knows how long readings usually take.
#[derive(Clone, Debug, Default)]
pub struct UsualTime {
    times: VecDeque<f64>,
}

impl UsualTime {
    /// Whether a reading, whose dispersion is half of what it took, took as long as usual; notes it in any case, so that a
    /// device that has become slower is believed again in the end.
    pub fn admits(&mut self, reading: &Reading) -> bool {
        let mut sorted: Vec<f64> = self.times.iter().copied().collect();
        sorted.sort_by(f64::total_cmp);
        let usual = sorted.get(sorted.len() / 2).copied();
        if self.times.len() == TIMES_KEPT {
            self.times.pop_front();
        }
        self.times.push_back(reading.dispersion);
        usual.is_none_or(|usual| reading.dispersion <= usual * LONGER_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ReadingKind;
    use proptest::prelude::*;

    fn bracket(start: i64, took: i64, ahead: i64) -> Bracket {
        let before = NtpDate::from_unix(1_795_187_021, 0) + NtpDuration::from_nanos(start);
        let device = before + NtpDuration::from_nanos(took / 2 + ahead);
        Bracket { before, device, after: before + NtpDuration::from_nanos(took) }
    }

    fn offset(brackets: &[Bracket]) -> i64 {
        match reading(brackets).expect("it is sound").kind {
            ReadingKind::Time(offset) => offset.to_nanos(),
            ReadingKind::Pulse(_) | ReadingKind::Alive => panic!("a time"),
        }
    }

    #[test]
    fn the_fastest_readings_count() {
        let fast = [bracket(0, 1000, 500), bracket(5000, 1050, 510), bracket(9000, 90_000, 40_000)];
        assert!((offset(&fast) - 505).abs() <= 1);
        let one = reading(&fast).expect("it is sound");
        assert!((one.dispersion - 500e-9).abs() < 1e-9);
        assert_eq!(offset(&[bracket(0, 0, -7)]), -7, "both at once");
    }

    #[test]
    fn slow_readings_do_not_count_until_they_are_usual() {
        let mut usual = UsualTime::default();
        let took =
            |dispersion| Reading { dispersion, ..Reading::time(NtpDate::from_unix(0, 0), NtpDuration::ZERO) };
        assert!((0..40).all(|_| usual.admits(&took(1e-6))));
        assert!(usual.admits(&took(1.2e-6)) && !usual.admits(&took(1.4e-6)));
        let refused = (0..40).filter(|_| !usual.admits(&took(5e-6))).count();
        assert!((10..20).contains(&refused), "{refused}");
    }

    #[test]
    fn time_that_goes_backward_is_no_reading() {
        assert_eq!(reading(&[]), Err(ReadingError::NotNew));
        assert_eq!(reading(&[bracket(0, -5, 0)]), Err(ReadingError::NotNew));
        let far = Bracket { device: NtpDate::from_unix(-1_795_187_021, 0), ..bracket(0, 10, 0) };
        assert_eq!(reading(&[far]), Err(ReadingError::Range));
    }

    proptest! {
        #[test]
        fn a_reading_lies_among_its_brackets(all in proptest::collection::vec((0..1_000_000_i64, 0..100_000_i64, -1_000_000..1_000_000_i64), 1..25)) {
            let brackets: Vec<Bracket> = all.iter().map(|one| bracket(one.0, one.1, one.2)).collect();
            let offset = offset(&brackets);
            let low = all.iter().map(|one| one.2).min().expect("one");
            let high = all.iter().map(|one| one.2).max().expect("one");
            prop_assert!(offset >= low - 2 && offset <= high + 2);
        }
    }
}
