//! What the clock does about those that it follows: a slew, a step, or nothing where that would be too much.

use super::{Discipline, UpdateSummary};
use crate::clock_discipline::{ClockDiscipline, Decision};
use crate::combine::Combined;
use crate::election::Choice;
use crate::reference::Reference;
use crate::{DisciplineEvent, StepEvidence, StepRefusal};
use chime_time::MonoTime;

impl Discipline {
    /// Follows the chosen sources when one of them has something new to say.
    pub(super) fn follow(&mut self, now: MonoTime, choice: &Choice) -> UpdateSummary {
        self.note_smeared(Some(choice.smeared));
        let id = self.sources[choice.selected.index].id;
        if self.selected != Some(id) {
            self.selected = Some(id);
            self.push_event(DisciplineEvent::Selected(id));
        }
        let is_fresh = choice.combined.iter().any(|(candidate, _)| self.sources[candidate.index].fresh);
        let is_dubious =
            choice.combined.iter().all(|(candidate, _)| self.sources[candidate.index].filter.is_dubious());
        if (!is_fresh || is_dubious) && self.clock.estimate.is_some() {
            return UpdateSummary::default();
        }
        let Some(combined) = self.combine(now, choice) else { return UpdateSummary::default() };
        let startup = !self.was_synchronized;
        let mut decision = self.clock.decide(combined.offset, startup, &self.settings.step);
        if self.is_rest_of_leap_second(combined.offset)
            || !self.settings.steer
            || (matches!(decision, Decision::Step(_)) && !self.can_step)
        {
            decision = Decision::Slew;
        }
        if let Decision::Refuse { by, accumulated } = decision {
            self.clock.refuse(now, &combined);
            let refusal = self.refusal(by, startup, accumulated);
            self.enter_quarantine(now, refusal);
            return UpdateSummary { updated: false, offset: combined.offset, synchronized: false };
        }
        if self.quarantined.take().is_some() {
            self.push_event(DisciplineEvent::QuarantineLifted);
        }
        self.adopt(now, choice, &combined);
        if let Decision::Step(by) = decision {
            self.step = Some(self.evidence(by, combined.offset_error, choice));
            self.command(ClockDiscipline::step(by));
        } else {
            let command = self.clock.plan(now, &self.settings);
            self.command(command);
        }
        self.commands.status_due = self.settings.steer;
        UpdateSummary { updated: true, offset: combined.offset, synchronized: false }
    }

    fn adopt(&mut self, now: MonoTime, choice: &Choice, combined: &Combined) {
        let source = &self.sources[choice.selected.index];
        let mut reference = Reference::new(now, source, choice, combined, self.reference.as_ref());
        reference.residual_frequency = combined.frequency - self.clock.frequency;
        if !self.settings.steer {
            // The clock stays as wrong as it is known to be: what is new is the difference from that.
            reference.last_offset -= self.clock.offset(now).unwrap_or(0.0);
        }
        self.reference = Some(reference);
        self.clock.adopt(now, combined, source.filter.interval().unwrap_or(0.0), &self.settings);
        if choice.combined.iter().any(|(candidate, _)| !self.sources[candidate.index].filter.is_young()) {
            self.clock.trust_frequency();
        }
        self.fallback.note(now, self.clock.frequency);
    }

    fn evidence(&self, by: f64, error: f64, choice: &Choice) -> StepEvidence {
        let sources = choice
            .combined
            .iter()
            .map(|(candidate, _)| {
                (self.sources[candidate.index].id, candidate.estimate.offset, candidate.root_distance)
            })
            .collect();
        StepEvidence { by, error, sources }
    }

    fn refusal(&mut self, by: f64, startup: bool, accumulated: bool) -> StepRefusal {
        let policy = &self.settings.step;
        let panic = if startup { policy.startup_panic } else { policy.running_panic };
        let limit = if accumulated { policy.accumulated_panic } else { panic.limit_of(by) };
        let is_last = policy.refusals_max.is_some_and(|max| self.refusals >= max);
        self.refusals = self.refusals.saturating_add(1);
        StepRefusal { by, startup, accumulated, limit: limit.unwrap_or(f64::INFINITY), is_last }
    }

    /// A correction beyond the panic thresholds: nothing is done to the clock until it is smaller. What was known of the
    /// clock before is still known, and gets less certain with time, as when there are no sources.
    fn enter_quarantine(&mut self, now: MonoTime, refusal: StepRefusal) {
        let is_counted = self.settings.step.refusals_max.is_some();
        if self.quarantined.is_none() || is_counted {
            self.push_event(DisciplineEvent::StepRefused(refusal));
        }
        if self.quarantined.is_none() {
            self.quarantined = Some(now);
            let command = self.clock.coast();
            self.command(command);
            self.commands.status_due = self.settings.steer;
        }
    }
}
