//! How uncertain the samples of a reference clock are: learnt from how they scatter about a clock that runs evenly.
//!
//! What was averaged for one sample says little of that. A single reading has no scatter at all, of several the outer ones
//! were left out, and what delays one (the driver, a busy processor) delays the next.

/// Samples that the scatter is a mean over.
const SAMPLES: f64 = 32.0;
/// A sample counts for at most so many times the scatter so far, or what readings usually say: one that is off by more tells
/// of something else. One whose readings say more than that is vague, and others are not: a clock jumped while it was read.
const SURPRISE_MAX: f64 = 4.0;
/// From so many samples on their scatter is known better than what readings say of themselves, which is the precision of our
/// clock at least: an average of some may be much better.
const SAMPLES_KNOWN: f64 = 16.0;
/// But what comes in steps may not scatter at all until a step is passed: no sample is better than this share of what its
/// readings say.
const STATED_SHARE: f64 = 1.0 / 32.0;

/// The scatter of the samples of one clock.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct SampleNoise {
    /// How long the last interval between two samples was, and by how much the offset moved in it; seconds.
    last: Option<(f64, f64)>,
    /// Mean of the squares.
    square: f64,
    count: f64,
    /// What the readings of a sample usually say that it is uncertain by, seconds.
    stated: Option<f64>,
    /// So many of the next second differences have a vague sample in them.
    vague: u8,
}

/// Samples in a second difference.
const DIFFERENCE_SAMPLES: u8 = 3;

impl SampleNoise {
    /// Our free oscillator and the clock have moved apart by `moved` in the last `elapsed` seconds; the readings of the sample
    /// say that it is uncertain by `stated`. The standard error of that sample, seconds.
    pub(crate) fn note(&mut self, elapsed: f64, moved: f64, stated: f64) -> f64 {
        self.note_stated(stated);
        if let Some((before, was)) = self.last.replace((elapsed, moved)).filter(|_| self.vague == 0) {
            // Neither an offset nor an even rate is in the second difference, and three errors of samples are.
            let ratio = elapsed / before;
            let difference = moved - ratio * was;
            let square = difference * difference / (1.0 + (1.0 + ratio).powi(2) + ratio * ratio);
            let most = SURPRISE_MAX.powi(2) * self.usual().powi(2);
            self.count = (self.count + 1.0).min(SAMPLES);
            self.square += (square.min(most) - self.square) / self.count;
        }
        self.standard_error(stated)
    }

    fn note_stated(&mut self, stated: f64) {
        let most = SURPRISE_MAX * self.usual();
        self.vague = self.vague.saturating_sub(1);
        if self.stated.is_some() && stated > most {
            self.vague = DIFFERENCE_SAMPLES;
        }
        self.stated = Some(self.stated.map_or(stated, |usual| usual + (stated.min(most) - usual) / SAMPLES));
    }

    /// What a sample is usually uncertain by, seconds.
    fn usual(&self) -> f64 {
        self.square.sqrt().max(self.stated.unwrap_or(0.0))
    }

    /// The intervals do not join any more: what is known of the scatter stays.
    pub(crate) const fn interrupt(&mut self) {
        self.last = None;
    }

    /// The standard error of a sample of which its readings say that it is uncertain by `stated`: at first the greater of what
    /// they say and how samples scatter, then how they scatter, but for one that says that it is vague.
    pub(crate) fn standard_error(&self, stated: f64) -> f64 {
        let is_known = self.count >= SAMPLES_KNOWN && stated <= SURPRISE_MAX * self.usual();
        self.square.sqrt().max(if is_known { stated * STATED_SHARE } else { stated })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Errors of samples, about 1 of standard deviation, the same in each run.
    fn errors(count: usize) -> impl Iterator<Item = f64> {
        let mut state = 1_u32;
        let mut uniform = move || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            f64::from(state) / 2f64.powi(32) - 0.5
        };
        std::iter::from_fn(move || Some((0..12).map(|_| uniform()).sum())).take(count)
    }

    /// What is learnt of samples with such errors, of a clock against which our oscillator loses `rate`.
    fn learnt(interval: impl Fn(usize) -> f64, rate: f64, sigma: f64) -> f64 {
        let mut noise = SampleNoise::default();
        let mut last = 0.0;
        for (number, error) in errors(400).enumerate() {
            let elapsed = interval(number);
            noise.note(elapsed, rate * elapsed + sigma * (error - last), sigma / 10.0);
            last = error;
        }
        noise.standard_error(0.0)
    }

    #[test]
    fn the_scatter_is_learnt_whatever_the_rate_and_the_intervals() {
        for interval in [(|_| 1.0) as fn(usize) -> f64, |_| 16.0, |number| [1.0, 3.0][number % 2]] {
            for rate in [0.0, 1e-4] {
                let learnt = learnt(interval, rate, 1e-6);
                assert!((0.7e-6..1.4e-6).contains(&learnt), "{learnt}");
            }
        }
    }

    #[test]
    fn a_sample_that_says_how_vague_it_is_says_nothing_about_others() {
        let mut noise = SampleNoise::default();
        let like = |number: u32| if number.is_multiple_of(2) { 1e-6 } else { -1e-6 };
        (0..40).for_each(|number| _ = noise.note(1.0, like(number), 1e-7));
        let before = noise.standard_error(0.0);
        noise.note(1.0, 6.0, 4.0);
        noise.note(1.0, 4.0, 1e-7);
        noise.note(1.0, 1e-6, 1e-7);
        let after = noise.standard_error(0.0);
        assert!((after - before).abs() < 0.1 * before, "{before} {after}");
        (0..100).for_each(|number| _ = noise.note(1.0, 10.0 * like(number), 3e-6));
        assert!(noise.standard_error(0.0) > 5.0 * before, "all are that vague now");
    }

    #[test]
    fn samples_are_better_than_their_readings_say_once_many_were_and_never_perfect() {
        let mut noise = SampleNoise::default();
        for number in 0..40 {
            let known = number >= 16;
            let error = noise.note(1.0, if number % 2 == 0 { 1e-9 } else { -1e-9 }, 1e-7);
            assert_eq!(error < 1e-7, known, "{number} {error}");
        }
        (0..400).for_each(|_| _ = noise.note(1.0, 0.0, 1e-7));
        let least = noise.note(1.0, 0.0, 1e-7);
        assert!((3e-9..4e-9).contains(&least), "{least}");
        assert_eq!(noise.note(1.0, 0.0, 1e-3), 1e-3, "it says so");
    }

    #[test]
    fn it_takes_three_samples_and_one_that_is_far_off_changes_little() {
        let mut young = SampleNoise::default();
        (0..3).for_each(|_| _ = young.note(1.0, 0.0, 1e-7));
        assert!(young.note(1.0, 1e5, 1e-7) <= 1e-6, "not even at the start");
        let mut noise = SampleNoise::default();
        assert_eq!(noise.note(1.0, 0.0, 1e-7), 1e-7);
        assert!(noise.note(1.0, 1e-6, 1e-7) > 1e-7);
        (0..40).for_each(|number| {
            noise.note(1.0, if number % 2 == 0 { 1e-6 } else { -1e-6 }, 1e-7);
        });
        let before = noise.standard_error(0.0);
        noise.note(1.0, 1.0, 1e-7);
        noise.interrupt();
        noise.note(1.0, 0.0, 1e-7);
        let after = noise.standard_error(0.0);
        assert!(after < 1.5 * before, "{before} {after}");
    }
}
