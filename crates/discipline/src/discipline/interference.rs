//! What others do to the clock: steps, frequencies, suspension. What was measured before may be worth nothing then.

use super::{Discipline, Trouble};
use crate::patience::Patience;
use crate::source::Source;
use crate::{DisciplineEvent, Interference};
use chime_time::{Frequency, MonoTime, NtpDuration};

/// An adjustment by others that may have moved the clock by more than this many seconds makes the samples worthless.
const ADJUSTMENT_NEGLIGIBLE: f64 = 1e-5;
/// For how long it is remembered that others touched the clock, seconds, and how many times at most.
pub(super) const INTERFERENCES_SECONDS: f64 = 3600.0;
const INTERFERENCES_MAX: usize = 64;

impl Discipline {
    /// Somebody else stepped the clock (positive `by`: forward): all samples are dropped, as nobody knows how exactly
    /// `by` was measured. The frequency is kept.
    pub fn clock_stepped_externally(&mut self, now: MonoTime, by: NtpDuration) {
        self.clock.stepped_by_others(by);
        self.note_interference(now, Interference::Stepped { by: by.as_secs_f64() });
        self.reset(now);
    }

    /// The machine slept: what was measured before says nothing about the clock now. The frequency is kept. The clock is
    /// what the hardware made of the time in between, so that the next correction is like the first one.
    pub fn suspended(&mut self, now: MonoTime, slept: NtpDuration) {
        self.was_synchronized = false;
        self.note_interference(now, Interference::Suspended { slept: slept.as_secs_f64() });
        self.reset(now);
    }

    /// Somebody else changed the clock's frequency to `found`, or began a slew, at some time after `since`. What is known
    /// of the samples is re-based; when that cannot be done well enough, they are dropped. Gives whether they were.
    pub fn clock_adjusted_externally(
        &mut self,
        now: MonoTime,
        found: Frequency,
        slew: f64,
        since: MonoTime,
    ) -> bool {
        self.now = self.now.max(now);
        let (found, now) = (found.as_ratio(), self.now);
        if !found.is_finite() || found.abs() >= 0.5 {
            return false;
        }
        let set_ppm = self.clock.correction.frequency() * 1e6;
        let moved = self.clock.adjusted_by_others(now, found, since) + slew.abs();
        self.note_interference(now, Interference::Adjusted { found_ppm: found * 1e6, set_ppm, slew });
        self.commands.status_due = self.settings.steer;
        if moved > ADJUSTMENT_NEGLIGIBLE {
            self.reset(now);
            return true;
        }
        if !self.commands.has_step() {
            let command = self.clock.plan(now, &self.settings);
            self.command(command);
        }
        false
    }

    fn note_interference(&mut self, now: MonoTime, interference: Interference) {
        if !matches!(interference, Interference::Suspended { .. }) {
            self.interferences += 1;
            self.recent_interferences.retain(|at| now.seconds_since(*at) < INTERFERENCES_SECONDS);
            if self.recent_interferences.len() == INTERFERENCES_MAX {
                self.recent_interferences.pop_front();
            }
            self.recent_interferences.push_back(now);
        }
        self.push_event(DisciplineEvent::Interference(interference));
    }

    pub(super) fn reset(&mut self, now: MonoTime) {
        self.now = self.now.max(now);
        let voters = self.sources.iter().filter(|source| source.reach != 0 && !source.options.no_select);
        self.interrupted |= voters.count() > 1;
        self.sources.iter_mut().for_each(Source::clear);
        self.clock.reset();
        self.joint = None;
        self.reference = None;
        self.adrift_since = self.now;
        self.selected = None;
        self.patience = Patience::Unasked;
        self.young = false;
        self.slews_leap_second = false;
        self.trouble = Trouble::None;
        self.push_event(DisciplineEvent::Reset);
        self.commands.queue.clear();
        let command = self.clock.coast();
        self.command(command);
        self.commands.status_due = self.settings.steer;
        self.dirty = true;
        self.is_synchronized = false;
    }
}
