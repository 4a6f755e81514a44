//! The median filter: many readings of a reference clock become one sample.
//!
//! What lies far from the median is left out, the rest is averaged. Readings are kept relative to the free oscillator by
//! the caller, who knows how the clock was steered in between.

use chime_time::{MonoTime, NtpDuration};
use std::collections::VecDeque;

/// Share of the readings that are averaged: those that are nearest to the median.
const SHARE: f64 = 0.6;
/// Readings that are needed for a sample, if the filter is that long and there can be as many.
const READINGS_MIN: usize = 4;
/// The longest filter: one reading in each 1/16 s for half an hour.
pub const LENGTH_MAX: usize = 32_768;

/// A reading in the filter.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Stored {
    /// When it was made.
    pub at: MonoTime,
    /// Reference minus local; positive when our clock is behind.
    pub offset: NtpDuration,
    /// Uncertainty that is known of it, seconds.
    pub dispersion: f64,
}

/// What a filter makes of its readings.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Filtered {
    /// The time that it is of.
    pub at: MonoTime,
    /// Reference minus local; positive when our clock is behind.
    pub offset: NtpDuration,
    /// Error bound of the offset: the scatter of what was averaged, but not less than what is known of each; seconds.
    pub dispersion: f64,
    /// Standard error of the offset as an average, seconds.
    pub standard_error: f64,
    /// How many readings were averaged.
    pub readings: usize,
}

/// The readings since the last sample.
#[derive(Clone, Debug)]
pub struct MedianFilter {
    length: usize,
    readings: VecDeque<Stored>,
}

impl MedianFilter {
    /// An empty filter of the last `length` readings; at least 1, at most [`LENGTH_MAX`].
    #[must_use]
    pub fn new(length: usize) -> Self {
        Self { length: length.clamp(1, LENGTH_MAX), readings: VecDeque::new() }
    }

    /// Takes over a reading; the oldest one goes when the filter is full. `false`: it is not newer than the last one.
    pub fn add(&mut self, reading: Stored) -> bool {
        if self.readings.back().is_some_and(|last| reading.at <= last.at) {
            return false;
        }
        if self.readings.len() == self.length {
            self.readings.pop_front();
        }
        self.readings.push_back(reading);
        true
    }

    /// The newest reading.
    #[must_use]
    pub fn last(&self) -> Option<&Stored> {
        self.readings.back()
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.readings.clear();
    }

    /// Makes one of all readings, and forgets them. `expected`: how many there can be at the most. `precision`: noise of each
    /// reading, seconds. `change`: by how much the offset of a good clock changed from one instant to another, seconds.
    /// `None` when there are too few.
    pub fn take(
        &mut self,
        expected: usize,
        precision: f64,
        change: impl Fn(MonoTime, MonoTime) -> f64,
    ) -> Option<Filtered> {
        if self.readings.len() < READINGS_MIN.min(self.length).min(expected.max(1)) {
            return None;
        }
        let readings: Vec<Stored> = self.readings.drain(..).collect();
        let newest = *readings.last()?;
        // Relative to the newest, so that nothing is lost of offsets of years.
        let mut values: Vec<(f64, Stored)> = readings
            .iter()
            .map(|one| ((one.offset - newest.offset).as_secs_f64() + change(one.at, newest.at), *one))
            .collect();
        values.sort_by(|a, b| a.0.total_cmp(&b.0));
        let median = f64::midpoint(values[(values.len() - 1) / 2].0, values[values.len() / 2].0);
        values.sort_by(|a, b| (a.0 - median).abs().total_cmp(&(b.0 - median).abs()));
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of a length")]
        let kept = (SHARE * values.len() as f64).ceil() as usize;
        values.truncate(kept.max(1));
        let count = values.len() as f64;
        let mean = values.iter().map(|(value, _)| value).sum::<f64>() / count;
        let scatter = values.iter().map(|(value, _)| (value - mean).powi(2)).sum::<f64>() / count;
        let known = values.iter().map(|(_, one)| one.dispersion.powi(2)).sum::<f64>() / count;
        let noise = precision.max(0.0);
        let each = noise.hypot(known.sqrt());
        let age = values.iter().map(|(_, one)| newest.at.seconds_since(one.at)).sum::<f64>() / count;
        let at = newest.at.add_secs_f64(-age);
        let offset = newest.offset + NtpDuration::from_secs_f64(mean - change(at, newest.at));
        Some(Filtered {
            at,
            offset,
            dispersion: scatter.sqrt().max(each),
            standard_error: (scatter.max(noise * noise) / count).sqrt(),
            readings: values.len(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn stored(seconds: f64, offset: f64) -> Stored {
        let at = MonoTime::ZERO.add_secs_f64(1000.0 + seconds);
        Stored { at, offset: NtpDuration::from_secs_f64(offset), dispersion: 0.0 }
    }

    fn filtered(offsets: &[f64]) -> Option<Filtered> {
        let mut filter = MedianFilter::new(64);
        for (offset, second) in offsets.iter().zip(0..) {
            assert!(filter.add(stored(f64::from(second), *offset)));
        }
        filter.take(64, 1e-9, |_, _| 0.0)
    }

    #[test]
    fn what_lies_far_off_does_not_count() {
        let sample = filtered(&[1.0, 1.001, 0.999, 700.0, 1.0, -5.0, 1.0]).expect("seven");
        assert!((sample.offset.as_secs_f64() - 1.0).abs() < 1e-3, "{sample:?}");
        assert!(sample.dispersion < 1e-3 && sample.readings == 5);
    }

    #[test]
    fn a_few_are_too_few_unless_the_filter_is_short() {
        assert_eq!(filtered(&[1.0, 1.0, 1.0]), None);
        assert!(filtered(&[1.0, 1.0, 1.0, 1.0]).is_some());
        let mut slow = MedianFilter::new(64);
        slow.add(stored(0.0, 0.5));
        assert!(slow.take(1, 0.0, |_, _| 0.0).is_some(), "there cannot be more");
        let mut short = MedianFilter::new(1);
        short.add(stored(0.0, 0.5));
        short.add(stored(1.0, 0.25));
        assert_eq!(
            short.take(64, 0.0, |_, _| 0.0).map(|one| one.offset),
            Some(NtpDuration::from_secs_f64(0.25))
        );
        assert_eq!(short.take(64, 0.0, |_, _| 0.0), None, "it was taken");
    }

    #[test]
    fn a_clock_that_was_steered_meanwhile_is_no_scatter() {
        let mut filter = MedianFilter::new(64);
        for second in 0..8 {
            filter.add(stored(f64::from(second), 1e-3 * f64::from(second)));
        }
        let rate = |from: MonoTime, to: MonoTime| 1e-3 * to.seconds_since(from);
        let sample = filter.take(64, 1e-9, rate).expect("eight");
        assert!(sample.dispersion < 1e-8, "{sample:?}");
        let expected = 1e-3 * sample.at.seconds_since(MonoTime::ZERO.add_secs_f64(1000.0));
        assert!((sample.offset.as_secs_f64() - expected).abs() < 1e-8);
    }

    #[test]
    fn a_reading_that_is_not_newer_is_refused_and_old_ones_go() {
        let mut filter = MedianFilter::new(4);
        assert!(
            filter.add(stored(1.0, 9.0)) && !filter.add(stored(1.0, 0.0)) && !filter.add(stored(0.5, 0.0))
        );
        for second in 2..6 {
            filter.add(stored(f64::from(second), 0.25));
        }
        let sample = filter.take(64, 0.0, |_, _| 0.0).expect("four");
        assert_eq!(sample.offset, NtpDuration::from_secs_f64(0.25));
    }

    #[test]
    fn the_known_uncertainty_is_the_least() {
        let mut filter = MedianFilter::new(4);
        for second in 0..4 {
            filter.add(Stored { dispersion: 3e-6, ..stored(f64::from(second), 0.0) });
        }
        let sample = filter.take(64, 4e-6, |_, _| 0.0).expect("four");
        assert!((sample.dispersion - 5e-6).abs() < 1e-12);
        assert!(sample.standard_error < sample.dispersion);
    }

    proptest! {
        #[test]
        fn a_sample_lies_among_its_readings(offsets in proptest::collection::vec(-1e9..1e9, 4..70)) {
            let sample = filtered(&offsets).expect("enough");
            let last = &offsets[offsets.len().saturating_sub(64)..];
            let (low, high) = last.iter().fold((f64::MAX, f64::MIN), |(l, h), x| (l.min(*x), h.max(*x)));
            let offset = sample.offset.as_secs_f64();
            prop_assert!(offset >= low - 1e-3 && offset <= high + 1e-3, "{offset} {low} {high}");
            prop_assert!(sample.dispersion.is_finite() && sample.standard_error <= sample.dispersion);
        }
    }
}
