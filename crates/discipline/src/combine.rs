//! One estimate from several: the combine algorithm. RFC 5905 §11.2.3.

use crate::clock_filter::FilterEstimate;

/// Samples from which on what a source knows about the frequency is its own.
const SETTLED_SAMPLES: usize = 16;

/// One of the sources to combine; seconds.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Contribution {
    pub(crate) estimate: FilterEstimate,
    /// Distance by which truechimers are ranked; positive.
    pub(crate) distance: f64,
}

/// The combined estimate; seconds, and s per s.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Combined {
    /// Remote minus local; positive means that our clock is behind.
    pub(crate) offset: f64,
    /// Standard error of the offset.
    pub(crate) offset_error: f64,
    /// Frequency that our oscillator lacks.
    pub(crate) frequency: f64,
    /// Standard error of the frequency.
    pub(crate) skew: f64,
    /// Random walk of the frequency, squared, (s per s)² in each second.
    pub(crate) wander_square: f64,
    /// Standard deviation of the samples.
    pub(crate) standard_deviation: f64,
}

/// Combines offsets weighted by the inverse of the distance, as a near source has less asymmetry to hide, and
/// frequencies, which asymmetry does not touch, weighted by the inverse of their variance. `None` without sources.
pub(crate) fn combine(contributions: &[Contribution]) -> Option<Combined> {
    let weight: f64 = contributions.iter().map(|c| 1.0 / c.distance).sum();
    let precision: f64 = contributions.iter().map(|c| 1.0 / variance(c.estimate.skew)).sum();
    if contributions.is_empty() {
        return None;
    }
    let mean = |value: &dyn Fn(&Contribution) -> f64| {
        contributions.iter().map(|c| value(c) / c.distance).sum::<f64>() / weight
    };
    let offset = mean(&|c| c.estimate.offset);
    // Errors of sources that see the same oscillator are not independent, but nearly where queues dominate.
    let certainty: f64 = contributions.iter().map(|c| 1.0 / variance(c.estimate.offset_error)).sum();
    let frequency =
        contributions.iter().map(|c| c.estimate.frequency / variance(c.estimate.skew)).sum::<f64>()
            / precision;
    // What is known of the oscillator beforehand is in all of them, and hardly more than that in young ones.
    let is_young = contributions.iter().any(|c| c.estimate.samples < SETTLED_SAMPLES);
    let best = contributions.iter().map(|c| variance(c.estimate.skew)).fold(f64::INFINITY, f64::min);
    Some(Combined {
        offset,
        offset_error: certainty.sqrt().recip(),
        frequency,
        skew: if is_young { best } else { 1.0 / precision }.sqrt(),
        wander_square: mean(&|c| c.estimate.wander_square),
        standard_deviation: mean(&|c| c.estimate.standard_deviation),
    })
}

/// The square of a standard error, never zero.
fn variance(error: f64) -> f64 {
    (error * error).max(1e-24)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contribution(offset: f64, frequency: f64, skew: f64, distance: f64) -> Contribution {
        let estimate = FilterEstimate {
            offset,
            offset_error: 1e-6,
            frequency,
            skew,
            wander_square: 1e-18,
            standard_deviation: 1e-6,
            unrest: 0.0,
            samples: 64,
            shown: 64,
            runs: 4,
            span: 100.0,
            root_delay: 1e-3,
            root_dispersion: 1e-3,
            doubt: 0.0,
        };
        Contribution { estimate, distance }
    }

    #[test]
    fn near_sources_weigh_more_in_offset_and_sure_ones_in_frequency() {
        let combined =
            combine(&[contribution(0.0, 1e-6, 1e-9, 1e-3), contribution(1e-3, 2e-6, 1e-6, 3e-3)]).unwrap();
        assert!((combined.offset - 0.25e-3).abs() < 1e-9);
        assert!((combined.frequency - 1e-6).abs() < 1e-11);
        assert!(combined.skew < 1e-9 && combined.offset_error < 1e-6);
    }

    #[test]
    fn young_sources_do_not_make_each_other_sure_of_the_frequency() {
        let skew = |samples| {
            let mut one = contribution(0.0, 0.0, 1e-5, 1e-3);
            one.estimate.samples = samples;
            combine(&[one; 4]).unwrap().skew
        };
        assert!((skew(SETTLED_SAMPLES) - 5e-6).abs() < 1e-12);
        assert!((skew(SETTLED_SAMPLES - 1) - 1e-5).abs() < 1e-12, "what they have in common counts once");
    }

    #[test]
    fn one_source_is_itself_and_none_is_nothing() {
        let one = combine(&[contribution(5e-4, 1e-6, 1e-8, 1e-3)]).unwrap();
        assert!((one.offset - 5e-4).abs() < 1e-15);
        assert!(combine(&[]).is_none());
    }
}
