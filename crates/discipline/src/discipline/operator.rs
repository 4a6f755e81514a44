//! What an operator can ask of the discipline while it runs.

use super::Discipline;
use crate::clock_discipline::ClockDiscipline;
use crate::fallback::Fallback;
use crate::{Settings, StepEvidence};
use chime_time::MonoTime;

impl Discipline {
    /// Takes other settings from the next update on. What the machine is (its precision, which kernel clock is behind
    /// [`MonoTime`]) does not change while it runs and stays as it was.
    pub fn set_settings(&mut self, settings: Settings) {
        let (precision, mono_is_slewed) = (self.settings.precision, self.settings.mono_is_slewed);
        if settings.fallback != self.settings.fallback {
            self.fallback = Fallback::new(settings.fallback);
        }
        self.settings = Settings { precision, mono_is_slewed, ..settings };
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

    /// Forgets which source is selected, and selects again at once, without favour for the one that was.
    pub fn reselect(&mut self, now: MonoTime) {
        self.selected = None;
        self.dirty = true;
        self.update(now);
    }
}
