//! What was done to the clock's frequency, as a function of time.
//!
//! Samples are kept relative to the *free* oscillator: the clock as it would have run had we never slewed it. The
//! regression then sees one straight line, however often the frequency changes, and a sample that was in flight
//! during a change is accounted for exactly. Steps are not part of it: they are taken off the samples themselves.

use chime_time::MonoTime;
use std::collections::VecDeque;

/// Changes remembered: enough for every change made while one exchange is in flight, and during the interval by which
/// samples of interleaved mode and of peers are late, with dozens of sources.
const SEGMENTS_MAX: usize = 256;

/// The free oscillator and our correction at one instant.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub(crate) struct ClockPoint {
    /// What the free oscillator has counted since the start, seconds.
    pub(crate) free: f64,
    /// By how much the frequency corrections have moved the clock forward since the start, seconds.
    pub(crate) correction: f64,
}

/// One frequency, from the instant when it was set.
#[derive(Clone, Copy, Debug)]
struct Segment {
    at: MonoTime,
    point: ClockPoint,
    frequency: f64,
}

/// The record of all frequency corrections.
#[derive(Clone, Debug)]
pub(crate) struct Correction {
    segments: VecDeque<Segment>,
    mono_is_slewed: bool,
}

impl Correction {
    /// Starts with a clock that has been running at `frequency`, s per s. `mono_is_slewed`: see
    /// [`crate::Settings::mono_is_slewed`].
    pub(crate) fn new(now: MonoTime, mono_is_slewed: bool, frequency: f64) -> Self {
        let first = Segment { at: now, point: ClockPoint::default(), frequency };
        Self { segments: VecDeque::from([first]), mono_is_slewed }
    }

    /// Notes that the clock runs at `frequency` from `now` on.
    pub(crate) fn set_frequency(&mut self, now: MonoTime, frequency: f64) {
        assert!(frequency.is_finite() && frequency.abs() < 1.0, "a clock frequency must be a small number");
        let now = now.max(self.last().at);
        let segment = Segment { at: now, point: self.at(now), frequency };
        if self.segments.len() == SEGMENTS_MAX {
            self.segments.pop_front();
        }
        self.segments.push_back(segment);
    }

    /// The frequency that was set last, s per s.
    pub(crate) fn frequency(&self) -> f64 {
        self.last().frequency
    }

    /// Oscillator and correction at `time`; before the first segment, as if that had always been in use.
    pub(crate) fn at(&self, time: MonoTime) -> ClockPoint {
        let segment =
            self.segments.iter().rev().find(|segment| segment.at <= time).unwrap_or(&self.segments[0]);
        let elapsed = time.seconds_since(segment.at);
        // CLOCK_MONOTONIC runs 1 + f times as fast as the oscillator.
        let free = if self.mono_is_slewed { elapsed / (1.0 + segment.frequency) } else { elapsed };
        ClockPoint {
            free: segment.point.free + free,
            correction: segment.point.correction + segment.frequency * free,
        }
    }

    fn last(&self) -> &Segment {
        self.segments.back().expect("there is always at least the first segment")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: f64) -> MonoTime {
        MonoTime::ZERO.add_secs_f64(seconds)
    }

    #[test]
    fn the_correction_is_the_integral_of_the_frequency() {
        let mut correction = Correction::new(at(10.0), false, 0.0);
        correction.set_frequency(at(20.0), 1e-3);
        correction.set_frequency(at(30.0), -1e-3);
        assert!(correction.at(at(15.0)).correction.abs() < 1e-15);
        assert!((correction.at(at(25.0)).correction - 5e-3).abs() < 1e-12);
        assert!((correction.at(at(35.0)).correction - 5e-3).abs() < 1e-12);
        assert!((correction.at(at(35.0)).free - 25.0).abs() < 1e-9);
    }

    #[test]
    fn a_slewed_scale_is_converted_to_oscillator_time() {
        let mut correction = Correction::new(at(0.0), true, 0.0);
        correction.set_frequency(at(0.0), 0.08);
        let point = correction.at(at(1.08));
        assert!((point.free - 1.0).abs() < 1e-9);
        assert!((point.correction - 0.08).abs() < 1e-9);
    }

    #[test]
    fn the_record_is_bounded_and_time_does_not_run_backward() {
        let mut correction = Correction::new(at(0.0), false, 0.0);
        for second in 0..1000 {
            correction.set_frequency(at(f64::from(second)), 1e-6);
        }
        correction.set_frequency(at(5.0), 0.0);
        assert_eq!(correction.segments.len(), SEGMENTS_MAX);
        assert!((correction.at(at(999.0)).correction - 999e-6).abs() < 1e-12);
    }
}
