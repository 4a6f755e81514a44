//! How unsteady a server's clock is: by how much its answers are wrong that no round trip and no oscillator explain.
//!
//! Of three samples in a row the middle one is on the line of the others, but for what queues and the oscillator can have
//! done. A clock that is set is off that line twice, a path that changes not at all, as the round trips tell. A server that
//! is wrong otherwise with each answer is off it again and again: its samples are worth as much as that, and no more.

use super::first_samples::beyond_line;
use super::{BOTH_WAYS, StoredSample};
use chime_time::NtpDuration;

/// Samples that are judged by: more than half of them must be off.
const SAMPLES_JUDGED: usize = 8;
/// From the median of how much the middle one of three is off to the standard error of each, when all are equally wrong.
const OF_MEDIAN: f64 = 1.2;
/// Standard errors that a sample may be wrong by before the server is said to have been set.
const SIGMAS_EXPLAINED: f64 = 4.0;

/// What the last samples say of their server.
#[derive(Clone, Debug, Default)]
pub(super) struct Unsteadiness {
    /// The last two, as they would be without a doubt about their server.
    last: [Option<StoredSample>; 2],
    /// By how much samples were off, seconds; a ring.
    off: [f64; SAMPLES_JUDGED],
    next: usize,
}

impl Unsteadiness {
    /// Judges a sample, and makes it as vague as its server has been unsteady up to now.
    pub(super) fn judge(&mut self, sample: &mut StoredSample) {
        sample.vagueness = 0.0;
        if let [Some(first), Some(middle)] = self.last {
            self.off[self.next] = beyond_line([&first, &middle, sample]);
            self.next = (self.next + 1) % SAMPLES_JUDGED;
        }
        self.last = [self.last[1], Some(*sample)];
        sample.vagueness = self.seconds();
    }

    /// The standard error of one sample; 0 while most are explained.
    pub(super) fn seconds(&self) -> f64 {
        let mut off = self.off;
        off.sort_by(f64::total_cmp);
        OF_MEDIAN * off[(SAMPLES_JUDGED - 1) / 2]
    }

    /// The clock was stepped forward by `by`.
    pub(super) fn step(&mut self, by: NtpDuration) {
        self.last.iter_mut().flatten().for_each(|sample| sample.measured -= by);
    }
}

impl StoredSample {
    /// How wrong its server's clock can have made it, seconds.
    pub(super) fn unsteady(&self) -> f64 {
        SIGMAS_EXPLAINED * self.vagueness
    }

    /// What each of its directions is uncertain by for that, seconds.
    pub(super) fn vague_floor(&self) -> f64 {
        BOTH_WAYS * self.vagueness
    }
}
