//! Long-term averages of the frequency, for the time without sources.
//!
//! The last frequency is the best guess for the next minutes. The longer nothing is measured, the less does the
//! temperature of the last minutes say, and the better is an average over as long a time as has to be bridged.

use crate::FallbackDrift;
use chime_time::MonoTime;

/// Averages kept at most; chrony's `fallbackdrift` is used with less than half of that.
const AVERAGES_MAX: u8 = 32;

/// One average.
#[derive(Clone, Copy, PartialEq, Debug)]
struct Average {
    /// The time that it is over, seconds.
    over: f64,
    /// How long it has been learning, seconds; up to `over` it is a plain mean, then old frequencies fade.
    learnt: f64,
    frequency: f64,
}

/// The averages, from the shortest to the longest.
#[derive(Clone, Debug, Default)]
pub(crate) struct Fallback {
    averages: Vec<Average>,
    last_update: Option<MonoTime>,
    /// The average that is in use.
    in_use: Option<usize>,
}

impl Fallback {
    pub(crate) fn new(settings: Option<FallbackDrift>) -> Self {
        let averages = settings.map_or_else(Vec::new, |settings| {
            (settings.min..=settings.max)
                .take(usize::from(AVERAGES_MAX))
                .map(|exponent| Average { over: f64::from(exponent).exp2(), learnt: 0.0, frequency: 0.0 })
                .collect()
        });
        Self { averages, ..Self::default() }
    }

    /// Notes the frequency of a clock update, s per s.
    pub(crate) fn note(&mut self, now: MonoTime, frequency: f64) {
        let elapsed = self.last_update.map_or(0.0, |last| now.seconds_since(last).max(0.0));
        self.last_update = Some(now);
        self.in_use = None;
        if elapsed == 0.0 {
            return;
        }
        for average in &mut self.averages {
            average.learnt += elapsed;
            let weight = elapsed / average.learnt.min(average.over);
            average.frequency += weight.min(1.0) * (frequency - average.frequency);
        }
    }

    /// When the next average takes over, if nothing is measured until then.
    pub(crate) fn deadline(&self) -> Option<MonoTime> {
        let next = self.in_use.map_or(0, |place| place + 1);
        let average = self.averages.iter().skip(next).find(|average| average.is_known())?;
        Some(self.last_update?.add_secs_f64(average.over))
    }

    /// The frequency to go on with, when it changes at `now`, and the time that it is an average over.
    pub(crate) fn take_over(&mut self, now: MonoTime) -> Option<(f64, f64)> {
        let last = self.last_update?;
        let is_due = |one: &Average| one.is_known() && last.add_secs_f64(one.over) <= now;
        let place = self.averages.iter().rposition(is_due)?;
        if self.in_use.is_some_and(|in_use| in_use >= place) {
            return None;
        }
        self.in_use = Some(place);
        Some((self.averages[place].frequency, self.averages[place].over))
    }
}

impl Average {
    /// What has been learning for less than its time is not an average over it.
    fn is_known(&self) -> bool {
        self.learnt >= self.over
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: f64) -> MonoTime {
        MonoTime::ZERO.add_secs_f64(seconds)
    }

    #[test]
    fn the_longer_the_silence_the_longer_the_average() {
        let mut fallback = Fallback::new(Some(FallbackDrift { min: 6, max: 12 }));
        // 5000 s at 1 ppm, then 100 s at 11 ppm.
        for step in 0..500 {
            fallback.note(at(f64::from(step) * 10.0), 1e-6);
        }
        for step in 0..10 {
            fallback.note(at(5_000.0 + f64::from(step) * 10.0), 11e-6);
        }
        let last = 5_090.0;
        assert_eq!(fallback.take_over(at(last + 63.0)), None, "the last frequency is good for a minute");
        assert_eq!(fallback.deadline(), Some(at(last + 64.0)));
        let (short, over) = fallback.take_over(at(last + 64.0)).expect("64 s are over");
        assert!(over == 64.0 && (7e-6..11e-6).contains(&short), "{short:e}");
        assert_eq!(fallback.take_over(at(last + 65.0)), None, "told once");
        assert_eq!(fallback.deadline(), Some(at(last + 128.0)));
        let (long, over) = fallback.take_over(at(last + 5_000.0)).expect("more than an hour is over");
        assert!(over == 4096.0 && (1e-6..1.5e-6).contains(&long), "{long:e}");
        assert_eq!(fallback.deadline(), None);
        fallback.note(at(20_000.0), 1e-6);
        assert!(fallback.deadline().is_some(), "with the next measurement it begins anew");
    }

    #[test]
    fn an_average_over_more_than_was_seen_does_not_exist() {
        let mut fallback = Fallback::new(Some(FallbackDrift { min: 10, max: 16 }));
        fallback.note(at(0.0), 1e-6);
        fallback.note(at(500.0), 1e-6);
        assert_eq!((fallback.deadline(), fallback.take_over(at(1e6))), (None, None));
        let mut none = Fallback::new(None);
        none.note(at(0.0), 1e-6);
        none.note(at(1e6), 1e-6);
        assert_eq!((none.deadline(), none.take_over(at(1e7))), (None, None));
    }
}
