//! Several measurements made into one, near their median: for paths on which single ones say little.

use chime_discipline::{Lever, Sample};
use chime_time::{MonoTime, NtpDuration};

/// The share of the measurements, those nearest to the median, that is averaged: enough to gain by it, few enough to leave
/// out both tails.
const KEPT: f64 = 0.6;

/// The measurements of one association since the last one that was made of them.
#[derive(Clone, Debug, Default)]
pub(crate) struct MedianFilter {
    samples: Vec<Sample>,
    polls: u32,
}

impl MedianFilter {
    /// A poll is over, with or without a measurement.
    pub(crate) const fn note_poll(&mut self) {
        self.polls = self.polls.saturating_add(1);
    }

    /// Keeps a measurement.
    pub(crate) fn push(&mut self, sample: Sample) {
        self.samples.push(sample);
    }

    /// The source moved its time forward by so much.
    pub(crate) fn source_moved(&mut self, by: NtpDuration) {
        self.samples.iter_mut().for_each(|sample| sample.offset += by);
    }

    /// Forgets everything: the clock was stepped.
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    /// After `wanted` polls: one sample of all that were kept since the last one, in the middle of them. `change` says by how
    /// many seconds an offset is expected to change from one instant to another.
    pub(crate) fn take(&mut self, wanted: u32, change: impl Fn(MonoTime, MonoTime) -> f64) -> Option<Sample> {
        if self.polls < wanted {
            return None;
        }
        self.polls = 0;
        let samples = std::mem::take(&mut self.samples);
        let newest = *samples.last()?;
        let offset_at = |sample: &Sample, at: MonoTime| {
            (sample.offset - newest.offset).as_secs_f64() + change(sample.at, at)
        };
        let mut apart: Vec<(f64, &Sample)> =
            samples.iter().map(|sample| (offset_at(sample, newest.at), sample)).collect();
        apart.sort_by(|a, b| a.0.total_cmp(&b.0));
        let median = apart[apart.len() / 2].0;
        apart.sort_by(|a, b| (a.0 - median).abs().total_cmp(&(b.0 - median).abs()));
        let count = samples.len() as f64;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "at most the number itself"
        )]
        let kept = &apart[..((count * KEPT).ceil() as usize).clamp(1, apart.len())];
        let mean = |value: &dyn Fn(&Sample) -> f64| {
            kept.iter().map(|(_, sample)| value(sample)).sum::<f64>() / kept.len() as f64
        };
        // In the middle of those that count, what is not known of the frequency makes no difference.
        let at = newest.at.add_secs_f64(-mean(&|sample| newest.at.seconds_since(sample.at)));
        let seconds = NtpDuration::from_secs_f64;
        Some(Sample {
            at,
            offset: newest.offset + seconds(mean(&|sample| offset_at(sample, at))),
            delay: seconds(mean(&|sample| sample.delay_at(newest.lever.frequency))),
            lever: Lever { seconds: mean(&|sample| sample.lever.seconds), ..newest.lever },
            dispersion: seconds(mean(&|sample| sample.dispersion.as_secs_f64())),
            ..newest
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chime_discipline::Leap;

    fn sample(at: f64, offset: f64) -> Sample {
        Sample {
            at: MonoTime::ZERO.add_secs_f64(at),
            offset: NtpDuration::from_secs_f64(offset),
            delay: NtpDuration::from_secs_f64(0.01),
            dispersion: NtpDuration::ZERO,
            root_delay: NtpDuration::ZERO,
            root_dispersion: NtpDuration::ZERO,
            stratum: 1,
            leap: Leap::NoWarning,
            reference_id: [0; 4],
            standard_error: 0.0,
            lever: Lever::default(),
        }
    }

    #[test]
    fn what_lies_far_from_the_median_does_not_count() {
        let mut filter = MedianFilter::default();
        for (at, offset) in [(1.0, 0.010), (2.0, 0.012), (3.0, 9.0), (4.0, -5.0), (5.0, 0.011)] {
            assert_eq!(filter.take(5, |_, _| 0.0), None);
            filter.note_poll();
            filter.push(sample(at, offset));
        }
        let one = filter.take(5, |_, _| 0.0).expect("five polls");
        assert!((one.offset.as_secs_f64() - 0.011).abs() < 1e-6);
        assert!(
            (one.at.seconds_since(MonoTime::ZERO) - 8.0 / 3.0).abs() < 1e-6,
            "of the first, second and fifth"
        );
        assert_eq!(filter.take(5, |_, _| 0.0), None, "they are used up");
    }

    #[test]
    fn lost_polls_count_and_an_empty_filter_gives_nothing() {
        let mut filter = MedianFilter::default();
        (0..3).for_each(|_| filter.note_poll());
        assert_eq!(filter.take(3, |_, _| 0.0), None);
        filter.note_poll();
        filter.push(sample(1.0, 0.5));
        (0..2).for_each(|_| filter.note_poll());
        assert!(filter.take(3, |_, _| 0.0).is_some());
    }

    #[test]
    fn offsets_of_a_clock_that_drifts_are_those_of_the_middle() {
        for known in [0.0, 1e-3, -2e-3] {
            let mut filter = MedianFilter::default();
            for at in [0.0, 10.0, 20.0] {
                filter.note_poll();
                filter.push(sample(at, 1e-3 * at));
            }
            let change = |from: MonoTime, to: MonoTime| known * to.seconds_since(from);
            let one = filter.take(3, change).expect("three polls");
            let middle = one.at.seconds_since(MonoTime::ZERO);
            assert!((one.offset.as_secs_f64() - 1e-3 * middle).abs() < 1e-9, "{known} {middle}");
        }
    }
}
