//! A network card's clock next to the system clock: what its time stamps mean in our time.
//!
//! The card's clock has an oscillator and an epoch of its own. Now and then both clocks are read together; a line through
//! the last pairs turns any stamp of the card into system time. The line is kept in terms of the system clock *as it
//! runs now*: whoever steps or slews that tells [`CardClock`], which moves what it remembers.
//!
//! Pure: readings come in, a [`CardLine`] comes out, which threads that only convert may copy.

use chime_time::{Frequency, NtpDate, NtpDuration};
use std::collections::VecDeque;

/// Pairs that are ever kept: chrony's limit, 16 by default.
const SAMPLES_LIMIT: usize = 64;

/// More than this between the two clocks' rates is no oscillator's doing, and not a slew of ours either (10 %).
const RATE_MAX: f64 = 0.2;

/// A pair that misses the line by more than this and what a card's clock may change its frequency by in the time was read
/// from a clock that somebody stepped.
const STEP_SECONDS_MIN: f64 = 50e-6;

/// By how much a card's clock may change its frequency between two readings: others may steer it.
const FREQUENCY_CHANGE_MAX: f64 = 1e-3;

/// Pairs that miss their line by more than so many times the precision do not lie on one line.
const MISS_PRECISIONS_MAX: f64 = 3.0;

/// What is known of a card before it is read.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct CardSettings {
    /// Pairs that a line needs at least; at least 2.
    pub samples_min: usize,
    /// Pairs that are kept at most.
    pub samples_max: usize,
    /// How well a pair of readings is one instant, in seconds.
    pub precision: f64,
}

impl Default for CardSettings {
    /// chrony's.
    fn default() -> Self {
        Self { samples_min: 2, samples_max: 16, precision: 100e-9 }
    }
}

/// The card's clock, read between two readings of the system clock. For a reading made by hardware all at once both are
/// the same.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CardReading {
    /// The system clock before.
    pub before: NtpDate,
    /// The card's clock.
    pub card: NtpDate,
    /// The system clock after.
    pub after: NtpDate,
}

/// What readings led to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CardVerdict {
    /// They fit, or there was nothing yet to fit.
    Stored,
    /// Somebody stepped the card's clock: what was known of it is of the past, but for its rate.
    CardStepped,
    /// None of them can be: the system clock went backwards meanwhile.
    Useless,
}

/// System time as a line over the card's time.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct CardLine {
    card: NtpDate,
    system: NtpDate,
    /// System seconds for each second of the card, minus 1.
    rate: f64,
}

impl CardLine {
    /// The time of the system clock when the card's clock showed `card`.
    #[must_use]
    pub fn system_at(&self, card: NtpDate) -> NtpDate {
        let since = card - self.card;
        self.system + since + NtpDuration::from_secs_f64(since.as_secs_f64() * self.rate)
    }

    /// How much faster the system clock runs than the card's, as both run now.
    #[must_use]
    pub const fn rate(&self) -> Frequency {
        Frequency::from_ratio(self.rate)
    }
}

#[derive(Clone, Copy, Debug)]
struct Pair {
    card: NtpDate,
    system: NtpDate,
}

/// The clock of one card.
#[derive(Clone, Debug)]
pub struct CardClock {
    settings: CardSettings,
    pairs: VecDeque<Pair>,
    line: Option<CardLine>,
}

impl CardClock {
    /// A clock that was not read yet.
    #[must_use]
    pub fn new(settings: CardSettings) -> Self {
        let samples_max = settings.samples_max.clamp(2, SAMPLES_LIMIT);
        let samples_min = settings.samples_min.clamp(2, samples_max);
        let settings = CardSettings { samples_min, samples_max, ..settings };
        Self { settings, pairs: VecDeque::with_capacity(samples_max), line: None }
    }

    /// What stamps mean; `None` before there are enough readings.
    #[must_use]
    pub const fn line(&self) -> Option<CardLine> {
        self.line
    }

    /// Pairs that the line is drawn through, or is to be.
    #[must_use]
    pub fn samples(&self) -> usize {
        self.pairs.len()
    }

    /// Takes readings that were made right after each other: the mean of the quickest of them is one pair.
    pub fn add(&mut self, readings: &[CardReading]) -> CardVerdict {
        let Some(pair) = best_of(readings, self.settings.precision) else { return CardVerdict::Useless };
        let mut verdict = CardVerdict::Stored;
        if let (Some(line), Some(last)) = (self.line, self.pairs.back()) {
            let missed = (pair.system - line.system_at(pair.card)).as_secs_f64().abs();
            let passed = (pair.system - last.system).as_secs_f64();
            if passed <= 0.0 || missed > STEP_SECONDS_MIN + FREQUENCY_CHANGE_MAX * passed {
                verdict = CardVerdict::CardStepped;
                self.pairs.clear();
                // Who steps a clock seldom changes its pace.
                self.line = Some(CardLine { card: pair.card, system: pair.system, rate: line.rate });
            }
        }
        if self.pairs.len() == self.settings.samples_max {
            self.pairs.pop_front();
        }
        self.pairs.push_back(pair);
        if verdict == CardVerdict::Stored {
            self.fit();
        }
        verdict
    }

    /// The system clock was stepped; positive = forwards.
    pub fn system_stepped(&mut self, by: NtpDuration) {
        for pair in &mut self.pairs {
            pair.system = pair.system + by;
        }
        if let Some(line) = &mut self.line {
            line.system = line.system + by;
        }
    }

    /// The system clock, which showed `at` when it happened, runs at another frequency now.
    pub fn system_frequency_changed(&mut self, at: NtpDate, from: Frequency, to: Frequency) {
        let change = (1.0 + to.as_ratio()) / (1.0 + from.as_ratio()) - 1.0;
        let moved =
            |system: NtpDate| system + NtpDuration::from_secs_f64((system - at).as_secs_f64() * change);
        for pair in &mut self.pairs {
            pair.system = moved(pair.system);
        }
        if let Some(line) = &mut self.line {
            line.system = moved(line.system);
            line.rate += (1.0 + line.rate) * change;
        }
    }

    /// The system clock moved in a way that nobody can tell: everything starts over.
    pub fn forget(&mut self) {
        self.pairs.clear();
        self.line = None;
    }

    /// Draws the line through as many of the last pairs as lie on one; older ones are of a time when the card's clock
    /// ran otherwise.
    fn fit(&mut self) {
        while self.pairs.len() >= self.settings.samples_min {
            let (line, missed) = fit(&self.pairs);
            let fits = missed <= self.settings.precision * MISS_PRECISIONS_MAX || self.pairs.len() == 2;
            if fits && line.rate.abs() <= RATE_MAX {
                self.line = Some(line);
                return;
            }
            self.pairs.pop_front();
        }
        // After a line there was one is better than none: through the last pair.
        if let (Some(line), Some(last)) = (&mut self.line, self.pairs.back()) {
            (line.card, line.system) = (last.card, last.system);
        }
    }
}

/// The mean of the readings that took the least time, within `precision`.
fn best_of(readings: &[CardReading], precision: f64) -> Option<Pair> {
    let took = |reading: &CardReading| reading.after - reading.before;
    let sound = || readings.iter().filter(|reading| !took(reading).is_negative());
    let least = sound().map(took).min()? + NtpDuration::from_secs_f64(precision);
    let quick = || sound().filter(|reading| took(reading) <= least);
    let middle = |reading: &CardReading| reading.before + took(reading).half();
    let first = *quick().next()?;
    // Means of differences: dates are too large for that.
    let (mut card, mut system, mut count) = (0.0, 0.0, 0.0);
    for reading in quick() {
        card += (reading.card - first.card).as_secs_f64();
        system += (middle(reading) - middle(&first)).as_secs_f64();
        count += 1.0;
    }
    Some(Pair {
        card: first.card + NtpDuration::from_secs_f64(card / count),
        system: middle(&first) + NtpDuration::from_secs_f64(system / count),
    })
}

/// The line of least squares, and by how many seconds the pair that fits it worst misses it.
fn fit(pairs: &VecDeque<Pair>) -> (CardLine, f64) {
    let Some(last) = pairs.back() else { unreachable!("the caller has pairs") };
    let points: Vec<(f64, f64)> = pairs
        .iter()
        .map(|pair| {
            let card = pair.card - last.card;
            (card.as_secs_f64(), (pair.system - last.system - card).as_secs_f64())
        })
        .collect();
    let count = points.len() as f64;
    let mean_x = points.iter().map(|(x, _)| x).sum::<f64>() / count;
    let mean_y = points.iter().map(|(_, y)| y).sum::<f64>() / count;
    let square: f64 = points.iter().map(|(x, _)| (x - mean_x).powi(2)).sum();
    let product: f64 = points.iter().map(|(x, y)| (x - mean_x) * (y - mean_y)).sum();
    let rate = if square > 0.0 { product / square } else { f64::INFINITY };
    let at_last = mean_y - rate * mean_x;
    let missed = points.iter().map(|(x, y)| (y - at_last - rate * x).abs()).fold(0.0, f64::max);
    let system = last.system + NtpDuration::from_secs_f64(if at_last.is_finite() { at_last } else { 0.0 });
    (CardLine { card: last.card, system, rate }, missed)
}

#[cfg(test)]
#[path = "card_clock_tests.rs"]
mod tests;
