//! Keeping pace with a clock that runs evenly and does not know the time: `local` reference clocks.
//!
//! Our oscillator is made as even as that clock is, by a compensation beside all that the discipline commands, which sees a
//! better oscillator and nothing else. A constant difference of rates stays: only other sources know which of the two is right.

/// Share of a difference of rates that is compensated at once: a part of what was measured is from before the last change.
const RATE_SHARE: f64 = 0.7;
/// Shares of the accumulated difference that are taken back with each sample: smaller ones follow more calmly.
const PHASE_SHARE: f64 = 0.25;
/// The largest compensation, s per s: what oscillators of computers are off by at most.
const COMPENSATION_MAX: f64 = 5e-4;

/// The pace of one even clock.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Pace {
    /// What our oscillator lacked when the pace was taken up, s per s.
    rate: Option<f64>,
    /// By how much our oscillator has fallen behind the pace since then, seconds.
    behind: f64,
    compensation: f64,
}

impl Pace {
    /// Our oscillator, compensated as it was, lacked `rate` (s per s) in the last `elapsed` seconds. Gives by how much it is
    /// to be compensated from now on, s per s.
    pub(crate) fn note(&mut self, rate: f64, elapsed: f64) -> f64 {
        let first = *self.rate.get_or_insert(rate);
        let error = rate - first;
        self.behind += error * elapsed;
        let next = self.compensation + RATE_SHARE * error + PHASE_SHARE * self.behind / elapsed;
        if next.is_finite() && next.abs() <= COMPENSATION_MAX {
            self.compensation = next;
        } else {
            // No oscillator does that: the pace is taken up anew.
            (self.rate, self.behind) = (None, 0.0);
        }
        self.compensation
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_oscillator_that_swings_becomes_as_even_as_the_clock() {
        // 100 ppm up and down in 1000 s, on top of a rate that nobody but other sources could correct.
        let mut pace = Pace::default();
        let (interval, mut compensation, mut phase) = (4.0, 0.0, 0.0_f64);
        let (mut rate_worst, mut phase_worst) = (0.0_f64, 0.0_f64);
        for step in 1..1000 {
            let swing = 1e-4 * (std::f64::consts::TAU * f64::from(step) * interval / 1000.0).sin();
            let rate = 3e-5 + swing - compensation;
            compensation = pace.note(rate, interval);
            let first = pace.rate.expect("it was taken up");
            phase += (rate - first) * interval;
            if step > 10 {
                rate_worst = rate_worst.max((rate - first).abs());
                phase_worst = phase_worst.max(phase.abs());
            }
        }
        assert!(rate_worst < 5e-6, "{rate_worst}");
        assert!(phase_worst < 1e-4, "{phase_worst}");
    }

    #[test]
    fn what_no_oscillator_does_changes_nothing() {
        let mut pace = Pace::default();
        assert_eq!(pace.note(1e-5, 4.0), 0.0);
        let before = pace.note(2e-5, 4.0);
        for rate in [1.0, -1.0, f64::NAN, f64::INFINITY] {
            assert_eq!(pace.note(rate, 4.0), before);
        }
        assert!(pace.note(1e-5, 4.0).abs() <= COMPENSATION_MAX);
    }
}
