//! Whether a path became longer, or only its queues.
//!
//! Queues come and go: of many exchanges some meet a short one, so that the shortest round trip of a run is far below
//! their mean. When even the shortest of a run is far above the base delay, and the others are not far above that, the path
//! itself is longer. In slow queues round trips resemble each other, too; there the run has to be longer by as much as
//! an exchange says less.

use super::correlation::Correlation;
use super::{Jitter, SOFTNESS};

/// Exchanges that a run has at least.
const EXCHANGES_MIN: f64 = 10.0;
/// What is needed to believe in a longer path, in natural logarithms of likelihood.
const EVIDENCE_MIN: f64 = 16.0;
/// The shortest round trip of a run exceeds the base delay by at least this share of what their mean does.
const LEAST_SHARE: f64 = 0.5;

/// A run of exchanges that were slower than the path is believed to be, and what was believed before it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rise {
    base: f64,
    margin: f64,
    jitters: [Jitter; SOFTNESS.len()],
    correlation: Correlation,
    count: f64,
    /// The least excess of half a round trip over the base delay, seconds.
    least: f64,
    /// The sum of all.
    sum: f64,
}

impl Rise {
    /// A run that is about to begin. `base`: the base delay of one way; an excess of `margin` is slow; seconds.
    pub(super) const fn new(
        base: f64,
        margin: f64,
        jitters: [Jitter; SOFTNESS.len()],
        correlation: Correlation,
    ) -> Self {
        Self { base, margin, jitters, correlation, count: 0.0, least: f64::INFINITY, sum: 0.0 }
    }

    /// Whether an exchange with this half of a round trip goes on with the run, seconds.
    pub(super) fn is_slow(&self, delay: f64) -> bool {
        delay - self.base > self.margin
    }

    /// Another exchange of the run.
    pub(super) fn add(&mut self, delay: f64) {
        let excess = delay - self.base;
        self.count += 1.0;
        self.least = self.least.min(excess);
        self.sum += excess;
    }

    /// By how much the path of one way became longer, seconds; `None` while it may be a queue.
    pub(super) fn by(&self) -> Option<f64> {
        let mean = self.sum / self.count;
        let share = self.correlation.share();
        // Exponential excesses of a mean that fits best, from the base delay on or from the shortest one on.
        let evidence = self.count * (mean / self.spread()).ln();
        // Where queues were slow before, they are what is likely.
        let is_rise = self.count * share * share >= EXCHANGES_MIN
            && share * evidence >= EVIDENCE_MIN
            && self.least >= LEAST_SHARE * mean;
        is_rise.then_some(self.least)
    }

    /// How far the round trips are above the shortest of them, seconds, on average.
    fn spread(&self) -> f64 {
        let jitter = self.jitters[0].mean();
        (self.sum / self.count - self.least).max(jitter / 4.0)
    }

    /// The queues after it: as before, or longer if the run says so.
    pub(super) fn jitters(&self) -> [Jitter; SOFTNESS.len()] {
        self.jitters.map(|jitter| {
            let factor = (self.spread() / jitter.mean()).max(1.0);
            Jitter { forward: factor * jitter.forward, backward: factor * jitter.backward }
        })
    }

    /// The correlation of round trips after it.
    pub(super) fn correlation(&self) -> Correlation {
        let mut correlation = self.correlation;
        correlation.shift(2.0 * self.least);
        correlation
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::exponential;
    use super::*;

    const JITTER: Jitter = Jitter { forward: 1e-4, backward: 1e-4 };

    /// A run of half round trips over a base delay of 10 ms, and after how many of them the path is said to be longer, by
    /// how much.
    fn found(correlation: Correlation, excesses: impl Iterator<Item = f64>) -> Option<(usize, f64)> {
        let mut rise = Rise::new(1e-2, 4e-4, [JITTER; SOFTNESS.len()], correlation);
        excesses.take_while(|excess| *excess > 4e-4).enumerate().find_map(|(number, excess)| {
            assert!(rise.is_slow(1e-2 + excess));
            rise.add(1e-2 + excess);
            rise.by().map(|by| (number + 1, by))
        })
    }

    /// Mean excesses of both ways, exponential with a mean of 1.
    fn queues(seed: u64) -> impl Iterator<Item = f64> {
        let mut exponential = exponential(seed);
        std::iter::from_fn(move || Some(f64::midpoint(exponential(), exponential())))
    }

    #[test]
    fn a_longer_path_is_found_soon() {
        for seed in 1..=200 {
            let (exchanges, by) =
                found(Correlation::default(), queues(seed).map(|e| 2e-3 + 1e-4 * e)).unwrap();
            assert!(exchanges <= 12 && (2e-3..2.2e-3).contains(&by), "{seed}: {exchanges} {by}");
        }
    }

    #[test]
    fn congestion_is_no_longer_path() {
        let taken = |seed| found(Correlation::default(), queues(seed).take(300).map(|e| 1e-2 * e)).is_some();
        let mistaken = (1..=200).filter(|&seed| taken(seed)).count();
        assert!(mistaken <= 2, "{mistaken} of 200");
    }

    #[test]
    fn where_round_trips_resemble_each_other_more_of_them_are_needed() {
        let mut slow = Correlation::default();
        (0..400).for_each(|number| slow.add(1e-2 + 1e-3 * (f64::from(number) / 20.0).sin()));
        let rise = || queues(1).map(|e| 2e-3 + 1e-4 * e);
        let (usual, _) = found(Correlation::default(), rise()).unwrap();
        let (more, _) = found(slow, rise()).unwrap();
        assert!(more > 3 * usual, "{more} and {usual}");
    }

    #[test]
    fn queues_after_it_keep_their_proportion() {
        let mut rise =
            Rise::new(1e-2, 4e-4, [Jitter { backward: 1e-5, ..JITTER }; 4], Correlation::default());
        queues(1).take(100).for_each(|excess| rise.add(1.2e-2 + 1e-3 * excess));
        let Jitter { forward, backward } = rise.jitters()[0];
        assert!((0.7e-3..1.3e-3).contains(&f64::midpoint(forward, backward)), "{forward} {backward}");
        assert!((forward / backward - 10.0).abs() < 1e-9);
    }
}
