//! Where our clock is by the last estimate, and how much haste that deserves.

use crate::correction::ClockPoint;

/// Bounds of the share of the interval between updates that a slew takes by itself.
pub(super) const BALANCED_SHARE: (f64, f64) = (0.125, 0.75);
/// Corrections of more than so many standard errors are urgent.
const URGENT_SIGMAS: f64 = 10.0;
/// How long an urgent correction of more than [`URGENT_OFFSET`] takes at most, seconds, unless the fastest slew is too slow
/// for it: a clock that is known to be wrong is not left so because it is seldom looked at.
const URGENT_SECONDS_MAX: f64 = 1.5;
/// Smaller corrections are not worth the disturbance of the frequency; seconds.
const URGENT_OFFSET: f64 = 0.01;

/// The line on which our clock runs against true time, as estimated at the last update.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Estimate {
    /// The clock at the time of the estimate.
    pub(super) point: ClockPoint,
    /// Remote minus local at that time, seconds.
    pub(super) offset: f64,
    /// Standard error of it, seconds.
    pub(crate) error: f64,
    /// Standard deviation of the samples, seconds.
    pub(super) standard_deviation: f64,
    /// Frequency that the free oscillator lacks, s per s.
    pub(super) frequency: f64,
    /// Random walk of that frequency, squared, (s per s)² in each second.
    pub(super) wander_square: f64,
}

impl Estimate {
    /// Share of the interval between updates that a slew by `remaining` seconds takes, see [`crate::CorrectionTime::Balanced`]: a
    /// quarter where the oscillator's wander in one interval is as large as the estimate is uncertain.
    pub(super) fn balanced_share(&self, interval: f64, remaining: f64) -> f64 {
        if remaining.abs() > URGENT_SIGMAS * self.error {
            let is_large = remaining.abs() > URGENT_OFFSET;
            return if is_large {
                BALANCED_SHARE.0.min(URGENT_SECONDS_MAX / interval)
            } else {
                BALANCED_SHARE.0
            };
        }
        let wander = (self.wander_square * interval * interval * interval).sqrt();
        (0.25 * self.error / wander).clamp(BALANCED_SHARE.0, BALANCED_SHARE.1)
    }

    /// What corrections are usually like, seconds: as uncertain as the estimate is, but no more than single samples scatter.
    /// A young estimate is uncertain because little is known of the frequency, which says nothing of corrections to come.
    pub(super) const fn usual_correction(&self) -> f64 {
        self.error.min(self.standard_deviation)
    }

    /// Remote minus local when the clock is at `point`, seconds.
    pub(crate) fn offset_at(&self, point: ClockPoint) -> f64 {
        self.offset + self.frequency * (point.free - self.point.free)
            - (point.correction - self.point.correction)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::correction::Correction;
    use chime_time::MonoTime;

    #[test]
    fn slews_are_slow_where_queues_dominate_and_quick_where_the_oscillator_does() {
        let at_wander = |wander: f64| Estimate {
            point: Correction::new(MonoTime::ZERO, false, 0.0).at(MonoTime::ZERO),
            offset: 1e-6,
            error: 1e-6,
            standard_deviation: 1e-5,
            frequency: 0.0,
            wander_square: wander * wander,
        };
        assert!((at_wander(1e-10).balanced_share(16.0, 1e-6) - 0.75).abs() < 1e-12);
        assert!((at_wander(1e-7).balanced_share(16.0, 1e-6) - 0.125).abs() < 1e-12);
        assert!((at_wander(1e-6 / 64.0).balanced_share(16.0, 1e-6) - 0.25).abs() < 1e-12);
        assert!((at_wander(1e-10).balanced_share(16.0, 1e-4) - 0.125).abs() < 1e-12, "urgent");
    }
}
