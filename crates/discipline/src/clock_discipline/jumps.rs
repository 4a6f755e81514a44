//! Sudden changes of the oscillator's frequency: who jumped may jump back, and further.

use chime_time::MonoTime;

/// Standard errors of two estimates of the frequency by which they may differ without a jump.
const JUMP_SIGMAS: f64 = 3.0;
/// Updates of the clock before what the oscillator does is known.
pub(super) const JUMP_UPDATES_MIN: u64 = 16;
/// An oscillator whose frequency jumped may jump by this multiple of that again.
const JUMPS_AGAIN: f64 = 2.0;
/// Seconds after which that is believed of a jump that is e times smaller.
pub(super) const JUMP_MEMORY: f64 = 86_400.0;

/// The greatest jump that is still remembered.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub(super) struct Jumps(Option<Jump>);

#[derive(Clone, Copy, PartialEq, Debug)]
struct Jump {
    /// s per s, positive.
    by: f64,
    at: MonoTime,
}

/// A new estimate of the frequency beside the one before; s per s.
pub(super) struct Change {
    /// By how much they differ.
    pub(super) by: f64,
    /// The standard error of that.
    pub(super) error: f64,
    /// What an oscillator is believed to change by without a jump.
    pub(super) usual: f64,
    /// Updates of the clock so far.
    pub(super) updates: u64,
}

impl Jumps {
    /// Takes note of a frequency that changed by more than it was uncertain by and an oscillator is believed to change.
    pub(super) fn note(&mut self, now: MonoTime, change: &Change) {
        let by = change.by.abs();
        let is_jump = by > JUMP_SIGMAS * change.error + change.usual;
        let is_greatest = JUMPS_AGAIN * by > self.expected(now).max(change.usual);
        if is_jump && change.updates >= JUMP_UPDATES_MIN && is_greatest {
            self.0 = Some(Jump { by, at: now });
        }
    }

    /// By how much the frequency may jump again, s per s.
    pub(super) fn expected(self, now: MonoTime) -> f64 {
        self.0.map_or(0.0, |jump| {
            let age = now.seconds_since(jump.at).max(0.0);
            JUMPS_AGAIN * jump.by * (-age / JUMP_MEMORY).exp()
        })
    }
}
