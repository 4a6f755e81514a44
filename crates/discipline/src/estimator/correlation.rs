//! Whether round trips resemble the ones before them.
//!
//! Thirty long round trips in a row are one queue, not thirty witnesses of a longer path. Round trips do not depend on any
//! clock, so that their autocorrelation tells how much an exchange says beyond the one before.

use super::saved::{ReadWords, Words};

/// Exchanges over which the correlation is averaged.
const MEMORY: f64 = 200.0;
/// Exchanges before it is believed.
const EXCHANGES_MIN: u32 = 20;
/// Deviations beyond so many standard deviations count as so many.
const CLIP: f64 = 4.0;
/// Correlation that chance alone may show.
const CHANCE: f64 = 0.2;
/// Correlations above this are not told apart.
const CORRELATION_MAX: f64 = 0.97;
/// Share of an exchange's evidence that always counts.
const SHARE_MIN: f64 = 0.02;

/// The lag-1 autocorrelation of round trips, exponentially forgotten.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Correlation {
    count: u32,
    mean: f64,
    variance: f64,
    covariance: f64,
    /// Deviation of the round trip before.
    last: f64,
}

impl Correlation {
    /// Takes note of a round trip, seconds.
    pub(crate) fn add(&mut self, delay: f64) {
        self.count = self.count.saturating_add(1);
        let weight = 1.0 / f64::from(self.count).min(MEMORY);
        let mut deviation = delay - self.mean;
        if self.count > EXCHANGES_MIN {
            let limit = CLIP * self.variance.sqrt();
            deviation = deviation.clamp(-limit, limit);
        }
        self.mean += weight * deviation;
        self.variance += weight * (deviation * deviation - self.variance);
        self.covariance += weight * (deviation * self.last - self.covariance);
        self.last = deviation;
    }

    /// Every round trip is longer by so many seconds from now on.
    pub(crate) fn shift(&mut self, seconds: f64) {
        self.mean += seconds;
    }

    /// Writes it down.
    pub(super) fn write(&self, words: &mut Words) {
        words.count(self.count);
        [self.mean, self.variance, self.covariance, self.last].into_iter().for_each(|one| words.number(one));
    }

    /// Reads what [`write`](Self::write) wrote. `None` when it is none.
    pub(super) fn read(words: &mut ReadWords<'_>) -> Option<Self> {
        Some(Self {
            count: words.next()?,
            mean: words.number()?,
            variance: words.variance()?,
            covariance: words.number()?,
            last: words.number()?,
        })
    }

    /// Share of an exchange's evidence that is its own, in (0, 1].
    pub(crate) fn share(&self) -> f64 {
        if self.count < EXCHANGES_MIN || self.variance <= 0.0 {
            return 1.0;
        }
        let correlation = (self.covariance / self.variance - CHANCE).clamp(0.0, CORRELATION_MAX);
        ((1.0 - correlation) / (1.0 + correlation)).max(SHARE_MIN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn independent_round_trips_count_in_full_and_slow_queues_do_not() {
        let mut state = 1u32;
        let mut noise = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            f64::from(state >> 8) / f64::from(1u32 << 24)
        };
        let (mut independent, mut slow) = (Correlation::default(), Correlation::default());
        let mut level = 0.0;
        for _ in 0..1000 {
            independent.add(1e-3 + 1e-4 * noise());
            level = 0.95 * level + noise() - 0.5;
            slow.add(1e-3 + 1e-4 * level);
        }
        assert!(independent.share() > 0.99, "{}", independent.share());
        assert!(slow.share() < 0.25, "{}", slow.share());
    }
}
