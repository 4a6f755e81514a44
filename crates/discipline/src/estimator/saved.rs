//! An estimator in words for a file, so that a restart of the daemon forgets nothing about a path.
//!
//! ```text
//! 1 count chosen  correlation correlation correlation  bank bank bank bank
//! correlation: count mean variance covariance last
//! bank: jitter there, back; score; exchanges; models; for each model its place, weight, expected values, factors
//! ```
//!
//! Numbers in the order of the fields, with as many digits as they have; offsets are relative to that of the last
//! exchange. What is read is believed only if an estimator could be so, and agrees with the last samples.

use super::bank::{self, Bank, Moments, OFFSET};
use super::correlation::Correlation;
use super::{Estimator, JITTER_MIN, Jitter, Variant};
use std::fmt::{Display, Write};
use std::str::{FromStr, SplitAsciiWhitespace};

/// The first word.
const VERSION: u32 = 1;
/// A mean queueing delay that no path has, seconds.
const JITTER_LIMIT: f64 = 1e3;
/// Standard errors, of both, by which an estimate and the one that a few of its samples make may differ.
const SIGMAS_MAX: f64 = 8.0;
/// A variance that is as many times that of what the last samples say is not worth having.
const VARIANCES_MAX: f64 = 4.0;

/// What an estimator knows, for the next run: see [`crate::Discipline::saved_estimate`]. Nothing in it has been looked at.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SavedEstimate(
    /// One line of words.
    pub String,
);

impl Estimator {
    /// What it knows, once the first exchanges are over: until then all is in the samples.
    pub(crate) fn saved(&self) -> Option<SavedEstimate> {
        if !self.is_settled() || !self.start.is_empty() {
            return None;
        }
        let mut words = Words(format!("{VERSION} {} {}", self.count, self.chosen));
        [self.correlation, self.ways[0], self.ways[1]].iter().for_each(|one| one.write(&mut words));
        for variant in &self.variants {
            words.number(variant.jitter.forward);
            words.number(variant.jitter.backward);
            words.number(variant.score);
            let mut bank = variant.bank.clone();
            bank.shift(OFFSET, -self.last.offset);
            bank.write(&mut words);
        }
        Some(SavedEstimate(words.0))
    }

    /// This estimator, which saw the last samples of an earlier run, with all that the one knew that saw all of them. `None` when
    /// the words are not of one, or contradict what the last samples say.
    pub(crate) fn restored(&self, saved: &SavedEstimate) -> Option<Self> {
        let mut words = ReadWords::new(&saved.0);
        if words.next::<u32>()? != VERSION {
            return None;
        }
        let mut this = self.clone();
        this.count = words.next()?;
        this.chosen = words.next()?;
        this.correlation = Correlation::read(&mut words)?;
        this.ways = [Correlation::read(&mut words)?, Correlation::read(&mut words)?];
        for variant in &mut this.variants {
            *variant = Variant::read(&mut words, self.last.offset)?;
        }
        (this.start, this.rise, this.changed) = (Vec::new(), None, 0.0);
        let is_possible = this.is_settled() && this.chosen < this.variants.len();
        (words.end_here() && is_possible && this.count >= self.count && this.agrees_with(self))
            .then_some(this)
    }

    /// Whether it knows more than `other`, which has the same last exchange, and nothing that contradicts that.
    fn agrees_with(&self, other: &Self) -> bool {
        let agree = |ours: (f64, f64), theirs: (f64, f64)| {
            let variance = SIGMAS_MAX * SIGMAS_MAX * (ours.1 + theirs.1);
            (ours.0 - theirs.0).powi(2) <= variance && ours.1 <= VARIANCES_MAX * theirs.1
        };
        let frequency = |moments: Moments| (moments.frequency, moments.frequency_variance);
        let (base, asymmetry) = (self.path().base.0, self.path().asymmetry.0);
        // A reference clock has no path: the base delay is nothing, and a little more or less than that.
        let unknown = SIGMAS_MAX * other.path().base.1.max(0.0).sqrt();
        agree(self.measured(), other.measured())
            && agree(frequency(self.moments()), frequency(other.moments()))
            // Round trips that are longer than the path are possible, ones that are much shorter are not.
            && asymmetry.abs() <= base + unknown
            && base <= 2.0 * other.path().base.0 + unknown
    }

    /// Expected value and variance of offset and asymmetry together: what exchanges measure.
    fn measured(&self) -> (f64, f64) {
        let (bank, asymmetry) = (self.bank(), bank::asymmetry(0));
        let variance = bank.covariance(OFFSET, OFFSET)
            + 2.0 * bank.covariance(OFFSET, asymmetry)
            + bank.covariance(asymmetry, asymmetry);
        (bank.mean(OFFSET) + bank.mean(asymmetry), variance.max(0.0))
    }
}

impl Variant {
    fn read(words: &mut ReadWords<'_>, offset: f64) -> Option<Self> {
        let mut mean = || words.number().filter(|mean| (JITTER_MIN..JITTER_LIMIT).contains(mean));
        let jitter = Jitter { forward: mean()?, backward: mean()? };
        let score = words.number().filter(|score| *score <= 0.0)?;
        let mut bank = Bank::read(words)?;
        bank.shift(OFFSET, offset);
        Some(Self { bank, jitter, score })
    }
}

/// Words that are being written.
pub(super) struct Words(String);

impl Words {
    /// A number, with all of its digits.
    pub(super) fn number(&mut self, number: f64) {
        let _infallible = write!(self.0, " {number:e}");
    }

    pub(super) fn count(&mut self, count: impl Display) {
        let _infallible = write!(self.0, " {count}");
    }
}

/// Words that are being read. `None`: there is no such word.
pub(super) struct ReadWords<'a>(SplitAsciiWhitespace<'a>);

impl<'a> ReadWords<'a> {
    fn new(words: &'a str) -> Self {
        Self(words.split_ascii_whitespace())
    }

    pub(super) fn next<T: FromStr>(&mut self) -> Option<T> {
        self.0.next()?.parse().ok()
    }

    /// A number; not one that is none.
    pub(super) fn number(&mut self) -> Option<f64> {
        self.next().filter(|number: &f64| number.is_finite())
    }

    /// One that is not negative.
    pub(super) fn variance(&mut self) -> Option<f64> {
        self.number().filter(|variance| *variance >= 0.0)
    }

    fn end_here(mut self) -> bool {
        self.0.next().is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{estimate, exchanges};
    use super::*;
    use proptest::prelude::*;

    /// Exchanges that the next run is given again.
    const KEPT: usize = 64;

    /// An estimator that saw `count` exchanges, one that saw the last of them only, and the ones that come.
    fn runs(
        seed: u64,
        count: u32,
        jitter: (f64, f64),
    ) -> (Estimator, Estimator, Vec<super::super::Exchange>) {
        let all = exchanges(seed, count + 50, jitter, (0.02, 3e-5));
        let count = count as usize;
        let (past, coming) = all.split_at(count);
        (estimate(past), estimate(&past[count.saturating_sub(KEPT)..]), coming.to_vec())
    }

    /// The queues are anything from 0.1 µs to 1 ms, there and back. Two of the 24 are refused, where one way's are far longer
    /// than the other's: the last samples alone are of another opinion than what saw more of them. That costs what was known.
    #[test]
    fn one_that_was_restored_predicts_like_the_one_that_was_saved() {
        let mut refused = 0;
        for seed in 0..24_u32 {
            let power = |step: u32| 10f64.powf(-7.0 + f64::from(seed * step % 24) / 6.0);
            let (mut before, replayed, coming) = runs(u64::from(seed), 65 + 22 * seed, (power(1), power(7)));
            let saved = before.saved().expect("it is settled");
            let Some(mut after) = replayed.restored(&saved) else {
                refused += 1;
                continue;
            };
            assert_eq!(after.saved(), Some(saved));
            for exchange in coming {
                before.add(exchange, 1.0);
                after.add(exchange, 1.0);
                let (one, other) = (before.moments(), after.moments());
                let near = |a: f64, b: f64, unit: f64| (a - b).abs() < 1e-3 * unit;
                assert!(near(one.offset, other.offset, one.offset_variance.sqrt()), "{one:?} {other:?}");
                assert!(near(one.frequency, other.frequency, one.frequency_variance.sqrt()));
                assert!(near(one.offset_variance, other.offset_variance, one.offset_variance));
                assert!(near(one.wander_square, other.wander_square, one.wander_square));
            }
        }
        assert!(refused <= 2, "{refused} were refused");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn whatever_else_is_in_its_words_no_estimate_becomes_worse(
            seed in 0u64..20,
            place in 0usize..400,
            word in prop_oneof![
                any::<f64>().prop_map(|number| format!("{number:e}")),
                (-20i32..6).prop_map(|power| format!("1e{power}")),
                any::<u64>().prop_map(|number| number.to_string()),
                Just("nan".to_owned()),
                Just("x y".to_owned()),
            ],
        ) {
            let (before, replayed, coming) = runs(seed, 300, (1e-4, 1e-4));
            let saved = before.saved().expect("it is settled").0;
            let mut words: Vec<&str> = saved.split(' ').collect();
            let place = place % words.len();
            words[place] = &word;
            let Some(mut restored) = replayed.restored(&SavedEstimate(words.join(" "))) else { return Ok(()) };
            for exchange in coming {
                restored.add(exchange, 1.0);
            }
            let moments = restored.moments();
            let error = moments.offset - 0.02 - 3e-5 * restored.point().free;
            prop_assert!(error.abs() < 1e-4 && moments.offset_variance < 1e-8, "{word} at {place}: {moments:?}");
        }
    }

    #[test]
    fn what_is_cut_off_too_long_or_another_ones_is_not_believed() {
        let (before, replayed, _) = runs(1, 300, (1e-4, 1e-4));
        let saved = before.saved().expect("it is settled").0;
        assert!(replayed.restored(&SavedEstimate(saved.clone())).is_some());
        let words: Vec<&str> = saved.split(' ').collect();
        for length in 0..words.len() {
            assert!(replayed.restored(&SavedEstimate(words[..length].join(" "))).is_none(), "{length}");
        }
        let newer = format!("2{}", &saved[1..]);
        for wrong in [saved.clone() + " 0", newer, saved.replace(' ', "  -")] {
            assert!(replayed.restored(&SavedEstimate(wrong)).is_none());
        }
        // Of a server 40 ms away, at another frequency.
        let far: Vec<_> = exchanges(2, 300, (1e-4, 1e-4), (0.02, 4e-5))
            .into_iter()
            .map(|exchange| super::super::Exchange { delay: exchange.delay + 6e-2, ..exchange })
            .collect();
        let far = estimate(&far).saved().expect("it is settled");
        assert!(replayed.restored(&far).is_none());
    }

    #[test]
    fn until_the_first_exchanges_are_over_all_is_in_the_samples() {
        for count in 1..20 {
            let (before, _, _) = runs(1, count, (1e-4, 1e-4));
            assert_eq!(before.saved().is_some(), count > 8, "{count}");
        }
    }
}
