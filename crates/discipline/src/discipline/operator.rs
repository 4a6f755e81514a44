//! What an operator can ask of the discipline while it runs.

use super::Discipline;
use crate::clock_discipline::ClockDiscipline;
use crate::fallback::Fallback;
use crate::{ManualCorrection, ManualEntry, Settings, StepEvidence};
use chime_time::{Frequency, MonoTime};

/// The longest way that the clock is slewed because an operator says so, seconds: it takes a week.
const SLEW_BY_HAND_MAX: f64 = 50_000.0;

impl Discipline {
    /// Takes other settings from the next update on. What the machine is (its precision, which kernel clock is behind
    /// [`MonoTime`]) does not change while it runs and stays as it was.
    pub fn set_settings(&mut self, settings: Settings) {
        let (precision, mono_is_slewed) = (self.settings.precision, self.settings.mono_is_slewed);
        if settings.fallback != self.settings.fallback {
            self.fallback = Fallback::new(settings.fallback);
        }
        self.settings = Settings { precision, mono_is_slewed, ..settings };
        self.limit_samples();
        self.dirty = true;
        self.commands.status_due = self.settings.steer;
    }

    /// Steps the clock by what remains of the correction, whatever the step policy says. Gives whether a step was
    /// ordered: not without an estimate, nor when the clock is not steered or cannot be stepped.
    pub fn make_step(&mut self, now: MonoTime) -> bool {
        self.now = self.now.max(now);
        if !self.settings.steer || !self.can_step || self.commands.has_step() {
            return false;
        }
        // An operator who asks for it in quarantine believes the sources.
        self.clock.accept_refused();
        let Some(by) = self.clock.offset(self.now) else { return false };
        if self.quarantined.take().is_some() {
            self.push_event(crate::DisciplineEvent::QuarantineLifted);
        }
        let error = self.clock.estimate.as_ref().map_or(0.0, |estimate| estimate.error);
        self.step = Some(StepEvidence { by, error, sources: Vec::new() });
        self.command(ClockDiscipline::step(by));
        true
    }

    /// Takes the time from an operator, who says that the clock is `fast` by so many seconds; positive = our clock is ahead.
    /// The clock is slewed by that, and from the second entry on its frequency is corrected as well; one that is not steered is
    /// known to be off by it. `None` when the last entry was just before.
    pub fn enter_time(&mut self, now: MonoTime, fast: f64) -> Option<ManualCorrection> {
        self.now = self.now.max(now);
        let point = self.clock.correction.at(self.now);
        if !self.manual.enter(self.now, point, fast) {
            return None;
        }
        Some(self.follow_manual(fast))
    }

    /// Forgets one of the times that were typed in, and takes the others as if it had not been; whether there was one in that
    /// place.
    pub fn delete_entered_time(&mut self, now: MonoTime, place: usize) -> bool {
        self.now = self.now.max(now);
        if !self.manual.delete(place) {
            return false;
        }
        let fast = self.manual.fast_at(self.clock.correction.at(self.now));
        self.follow_manual(fast.unwrap_or(0.0));
        true
    }

    /// Forgets all times that were typed in. The clock goes on as it is.
    pub fn forget_entered_times(&mut self) {
        self.manual.clear();
    }

    /// The times that were typed in, oldest first.
    #[must_use]
    pub fn entered_times(&self, now: MonoTime) -> Vec<ManualEntry> {
        self.manual.report(self.clock.correction.at(now), self.clock.frequency)
    }

    /// How many times were typed in.
    #[must_use]
    pub fn entered_count(&self) -> usize {
        self.manual.len()
    }

    fn follow_manual(&mut self, fast: f64) -> ManualCorrection {
        let before = self.clock.frequency;
        let slope = self.manual.line().filter(|_| self.manual.len() > 1).map(|line| line.slope);
        let frequency = slope.map_or(before, |slope| -slope);
        self.set_by_hand(-fast, frequency);
        let change = before - self.clock.frequency;
        ManualCorrection { fast, frequency_change: change, frequency: -self.clock.frequency }
    }

    /// Slews the clock by so many seconds, forward when positive, whatever the sources say: they will object.
    pub fn slew_by_hand(&mut self, now: MonoTime, forward: f64) -> bool {
        self.now = self.now.max(now);
        if !self.settings.steer || !forward.is_finite() || forward.abs() > SLEW_BY_HAND_MAX {
            return false;
        }
        let remaining = self.clock.offset(self.now).unwrap_or(0.0);
        self.set_by_hand(remaining + forward, self.clock.frequency);
        true
    }

    /// Changes the clock's frequency by so much, whatever the sources say.
    pub fn change_frequency_by_hand(&mut self, now: MonoTime, faster: Frequency) -> bool {
        self.now = self.now.max(now);
        if !self.settings.steer || !faster.as_ratio().is_finite() {
            return false;
        }
        let remaining = self.clock.offset(self.now).unwrap_or(0.0);
        self.set_by_hand(remaining, self.clock.frequency + faster.as_ratio());
        true
    }

    fn set_by_hand(&mut self, offset: f64, frequency: f64) {
        self.clock.set_by_hand(self.now, offset, frequency, &self.settings);
        if !self.settings.steer {
            return;
        }
        let command = self.clock.plan(self.now, &self.settings);
        self.command(command);
        self.commands.status_due = true;
    }

    /// Forgets which source is selected, and selects again at once, without favour for the one that was.
    pub fn reselect(&mut self, now: MonoTime) {
        self.selected = None;
        self.dirty = true;
        self.update(now);
    }
}
