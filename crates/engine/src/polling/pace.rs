//! Requests when they are worth most: sooner when the clock is less sure than usual, later when it is surer.
//!
//! One answer says much, when it met no queue, and the next one little. As many requests as at even intervals buy more when
//! they follow what the answers said: after a good one the clock can go without for longer, after a bad or a lost one it
//! cannot. The mean interval stays what it is.

/// The time to the next request goes with this power of how sure the clock is.
const EXPONENT: f64 = 2.0;
/// Requests over which the usual error is averaged.
const MEMORY: f64 = 16.0;
/// How fast the mean interval is brought back to what it should be, with each request, and by how much at most (logarithms).
const GAIN: f64 = 0.05;
const LEVEL_MAX: f64 = 2.0;

/// When one association asks, relative to its interval.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Pace {
    /// Multiple of the interval after which the next request leaves.
    pub(super) factor: f64,
    /// Logarithm of the usual error, once there was one.
    usual: Option<f64>,
    /// Logarithm of the error at which the next request leaves after one interval, relative to the usual one.
    level: f64,
}

impl Pace {
    pub(super) const EVEN: Self = Self { factor: 1.0, usual: None, level: 0.0 };

    /// Takes note of how sure the clock will be after an interval. `error`: standard error, positive; `weight`: how much a
    /// single answer can change that, 0 to 1; `bounds`: least and greatest multiple of the interval that is allowed.
    pub(super) fn follow(&mut self, error: f64, weight: f64, bounds: (f64, f64)) {
        let usual = self.usual.unwrap_or_else(|| error.ln());
        self.compare(error, weight, bounds);
        self.usual = Some(usual + (error.ln() - usual) / MEMORY);
    }

    /// The same for an answer that did not come: it is not what is usual.
    pub(super) fn compare(&mut self, error: f64, weight: f64, (least, most): (f64, f64)) {
        let logarithm = error.ln();
        let surer = self.usual.unwrap_or(logarithm) + self.level - logarithm;
        self.factor = (EXPONENT * weight * surer).exp().clamp(least.min(1.0), most.max(1.0));
        self.level = (self.level + GAIN * (1.0 - self.factor)).clamp(-LEVEL_MAX, LEVEL_MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: (f64, f64) = (0.1, 1.2);

    #[test]
    fn a_doubtful_clock_is_compared_sooner_and_a_sure_one_later() {
        let mut pace = Pace::EVEN;
        pace.follow(1e-5, 1.0, BOUNDS);
        assert!((pace.factor - 1.0).abs() < 1e-9, "there is nothing to compare it with");
        pace.follow(2e-5, 1.0, BOUNDS);
        assert!((pace.factor - 0.25).abs() < 1e-9, "{pace:?}");
        pace.follow(5e-6, 1.0, BOUNDS);
        assert!((pace.factor - BOUNDS.1).abs() < 1e-9, "{pace:?}");
        pace.follow(1.0, 1.0, BOUNDS);
        assert!((pace.factor - BOUNDS.0).abs() < 1e-9, "{pace:?}");
        pace.follow(1.0, 0.0, BOUNDS);
        assert!((pace.factor - 1.0).abs() < 1e-9, "a single answer changes nothing");
    }

    #[test]
    fn the_mean_interval_stays() {
        // Errors that come and go by a factor of four, and one that sinks for long.
        for sinking in [1.0, 0.99] {
            let mut pace = Pace::EVEN;
            let (mut sum, mut error) = (0.0, 1e-3);
            for number in 0..600 {
                error *= sinking;
                pace.follow(error * if number % 5 == 0 { 4.0 } else { 1.0 }, 1.0, BOUNDS);
                if number >= 100 {
                    sum += pace.factor;
                }
            }
            assert!((sum / 500.0 - 1.0).abs() < 0.1, "{sinking}: {}", sum / 500.0);
        }
    }

    #[test]
    fn where_there_is_no_choice_there_is_none() {
        let mut pace = Pace::EVEN;
        for number in 0..100 {
            pace.follow(1e-5 * f64::from(1 + number % 7), 1.0, (1.0, 1.0));
            assert!((pace.factor - 1.0).abs() < 1e-12);
        }
    }
}
