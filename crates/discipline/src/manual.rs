//! The time as an operator types it in: for machines without any source.
//!
//! Each entry corrects the clock by what it says; two or more tell how fast the oscillator runs, too.

use crate::correction::ClockPoint;
use chime_time::{MonoTime, NtpDuration};
use std::collections::VecDeque;

/// Entries that are kept.
pub const MANUAL_ENTRIES_MAX: usize = 16;
/// Entries are at least this far apart, seconds: what is typed in is not better than that.
const SEPARATION: f64 = 1.0;

/// One time that was typed in, as reports show it; seconds, positive when the clock was fast.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct ManualEntry {
    /// When.
    pub at: MonoTime,
    /// By how much the clock was fast.
    pub original: f64,
    /// By how much it would have been, had it been corrected then as it is now.
    pub slewed: f64,
    /// By how much that differs from the line through all entries.
    pub residual: f64,
}

/// What an entry came to.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct ManualCorrection {
    /// By how much the clock was fast, seconds.
    pub fast: f64,
    /// By how much faster than thought the clock runs by itself, s per s.
    pub frequency_change: f64,
    /// How much too fast the clock runs by itself, s per s.
    pub frequency: f64,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    at: MonoTime,
    point: ClockPoint,
    /// As it was typed in.
    original: f64,
    /// The same, had no step been made since.
    fast: f64,
}

/// What was typed in so far.
#[derive(Clone, Debug, Default)]
pub(crate) struct Manual {
    entries: VecDeque<Entry>,
}

/// By how much the free oscillator is fast: at one point, and in each second.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ManualLine {
    at: f64,
    fast: f64,
    pub(crate) slope: f64,
}

impl ManualLine {
    fn value(&self, free: f64) -> f64 {
        self.fast + self.slope * (free - self.at)
    }
}

impl Entry {
    /// By how much the free oscillator was fast.
    fn free_fast(&self) -> f64 {
        self.fast - self.point.correction
    }
}

impl Manual {
    /// Takes an entry; `fast`: by how much the clock is fast, seconds. Not if the last one was just before.
    pub(crate) fn enter(&mut self, at: MonoTime, point: ClockPoint, fast: f64) -> bool {
        let is_soon = |last: &Entry| at.seconds_since(last.at) < SEPARATION;
        if !fast.is_finite() || self.entries.back().is_some_and(is_soon) {
            return false;
        }
        if self.entries.len() == MANUAL_ENTRIES_MAX {
            self.entries.pop_front();
        }
        self.entries.push_back(Entry { at, point, original: fast, fast });
        true
    }

    /// The straight line through all entries; level when there is one only. `None` without any.
    pub(crate) fn line(&self) -> Option<ManualLine> {
        let count = self.entries.len() as f64;
        let mean = |value: fn(&Entry) -> f64| self.entries.iter().map(value).sum::<f64>() / count;
        let (at, fast) = (mean(|entry| entry.point.free), mean(Entry::free_fast));
        let sum = |value: &dyn Fn(&Entry) -> f64| self.entries.iter().map(value).sum::<f64>();
        let squares = sum(&|entry| (entry.point.free - at).powi(2));
        let slope = sum(&|entry| (entry.point.free - at) * (entry.free_fast() - fast)) / squares;
        let slope = if slope.is_finite() && self.entries.len() > 1 { slope } else { 0.0 };
        (!self.entries.is_empty()).then_some(ManualLine { at, fast, slope })
    }

    /// How many entries there are.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Forgets one; whether there was one in that place.
    pub(crate) fn delete(&mut self, place: usize) -> bool {
        self.entries.remove(place).is_some()
    }

    /// Forgets all.
    pub(crate) fn clear(&mut self) {
        self.entries.clear();
    }

    /// The clock was stepped forward by `by`.
    pub(crate) fn step(&mut self, by: NtpDuration) {
        for entry in &mut self.entries {
            entry.fast += by.as_secs_f64();
        }
    }

    /// By how much the clock at `clock` is fast by the line through all entries, seconds.
    pub(crate) fn fast_at(&self, clock: ClockPoint) -> Option<f64> {
        self.line().map(|line| line.value(clock.free) + clock.correction)
    }

    /// The entries, oldest first. The clock is at `clock` and runs with a correction of `frequency`, s per s.
    pub(crate) fn report(&self, clock: ClockPoint, frequency: f64) -> Vec<ManualEntry> {
        let line = self.line().unwrap_or_default();
        let entries = self.entries.iter();
        entries
            .map(|entry| {
                let then = clock.correction - frequency * (clock.free - entry.point.free);
                ManualEntry {
                    at: entry.at,
                    original: entry.original,
                    slewed: entry.free_fast() + then,
                    residual: entry.free_fast() - line.value(entry.point.free),
                }
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: f64) -> (MonoTime, ClockPoint) {
        (MonoTime::ZERO.add_secs_f64(seconds), ClockPoint { free: seconds, correction: 0.0 })
    }

    fn enter(manual: &mut Manual, seconds: f64, fast: f64) -> bool {
        let (now, point) = at(seconds);
        manual.enter(now, point, fast)
    }

    #[test]
    fn one_entry_says_nothing_about_the_frequency_and_two_do() {
        let mut manual = Manual::default();
        assert!(manual.line().is_none());
        assert!(enter(&mut manual, 100.0, 0.5));
        assert_eq!(manual.line().expect("an entry").slope, 0.0);
        assert!(!enter(&mut manual, 100.9, 0.5), "too soon");
        assert!(!enter(&mut manual, 200.0, f64::NAN));
        assert!(enter(&mut manual, 1100.0, 0.6));
        assert!((manual.line().expect("entries").slope - 1e-4).abs() < 1e-12);
        assert!((manual.fast_at(at(2100.0).1).expect("entries") - 0.7).abs() < 1e-9);
    }

    #[test]
    fn what_was_corrected_since_is_taken_into_account() {
        let mut manual = Manual::default();
        enter(&mut manual, 0.0, 0.5);
        // It is worked off, and the oscillator gains 100 ppm.
        let point = ClockPoint { free: 1000.0, correction: -0.5 };
        assert!(manual.enter(MonoTime::ZERO.add_secs_f64(1000.0), point, 0.1));
        assert!((manual.line().expect("entries").slope - 1e-4).abs() < 1e-12);
        let corrected = ClockPoint { free: 1000.0, correction: -0.6 };
        let entries = manual.report(corrected, -1e-4);
        assert_eq!((entries[0].original, entries[1].original), (0.5, 0.1));
        assert!(entries.iter().all(|entry| entry.slewed.abs() < 1e-9 && entry.residual.abs() < 1e-9));
        manual.step(NtpDuration::from_secs_f64(-3.0));
        assert!((manual.fast_at(corrected).expect("entries") + 3.0).abs() < 1e-9);
    }

    #[test]
    fn only_the_last_entries_are_kept_and_each_can_be_deleted() {
        let mut manual = Manual::default();
        for entry in 0..20 {
            enter(&mut manual, 10.0 * f64::from(entry), f64::from(entry));
        }
        assert_eq!(manual.len(), MANUAL_ENTRIES_MAX);
        assert!(manual.delete(15) && !manual.delete(15) && manual.delete(0));
        let originals: Vec<f64> =
            manual.report(ClockPoint::default(), 0.0).iter().map(|entry| entry.original).collect();
        assert_eq!((originals.len(), originals[0], originals[13]), (14, 5.0, 18.0));
        manual.clear();
        assert_eq!(manual.len(), 0);
    }
}
