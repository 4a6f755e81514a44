//! Wishes about the clock, one at a time, and what was really done about them.

use super::Discipline;
use crate::{ClockCommand, ClockFailure, DisciplineEvent, Leap, StepEvidence};
use chime_time::MonoTime;

impl Discipline {
    /// The next wish about the clock; the one after it is given once the result of this one was reported to
    /// [`command_applied`](Self::command_applied). May change after any call that takes `&mut self`.
    pub fn poll_command(&mut self) -> Option<ClockCommand> {
        if self.commands.in_flight.is_none() {
            self.commands.in_flight = match self.commands.queue.pop_front() {
                Some(command) => Some(command),
                None => std::mem::take(&mut self.commands.status_due).then(|| self.status(self.now)),
            };
            return self.commands.in_flight;
        }
        None
    }

    /// What the kernel should tell others about the clock at `now`.
    #[must_use]
    pub fn status(&self, now: MonoTime) -> ClockCommand {
        let state = self.system(now);
        let synchronized = state.synchronized;
        ClockCommand::SetStatus {
            synchronized,
            // Losing the sources does not undo what the kernel was asked for.
            leap: match self.leap.armed() {
                Leap::NoWarning if !synchronized => Leap::Unsynchronized,
                armed => armed,
            },
            max_error: state.root_distance(),
            est_error: state.estimated_error + state.system_offset.abs(),
            offset: state.system_offset,
        }
    }

    /// Reports what was done about the last command, as soon as it was done: with the values that the clock really
    /// took, or why not.
    pub fn command_applied(&mut self, now: MonoTime, result: Result<ClockCommand, ClockFailure>) {
        self.now = self.now.max(now);
        let Some(wanted) = self.commands.in_flight.take() else { return };
        match result {
            Ok(applied) => {
                self.commands.forget_failure(&wanted);
                self.note_applied(applied);
            }
            Err(failure) => self.note_failed(wanted, failure),
        }
        self.note_synchronization(self.now);
    }

    fn note_applied(&mut self, applied: ClockCommand) {
        match applied {
            ClockCommand::Step { by } => {
                for source in &mut self.sources {
                    source.filter.step(by);
                    source.history.step(by);
                }
                if let Some(joint) = &mut self.joint {
                    joint.step(by.as_secs_f64());
                }
                self.manual.step(by);
                self.clock.stepped(by);
                if let Some(evidence) = self.step.take() {
                    self.push_event(DisciplineEvent::Stepped(StepEvidence {
                        by: by.as_secs_f64(),
                        ..evidence
                    }));
                }
                let command = self.clock.plan(self.now, &self.settings);
                self.command(command);
                self.commands.status_due = self.settings.steer;
            }
            ClockCommand::SetFrequency { frequency } => {
                self.clock.correction.set_frequency(self.now, frequency.as_ratio());
            }
            ClockCommand::SetStatus { leap, .. } => self.note_kernel_leap(leap),
            ClockCommand::SetTaiOffset { seconds } => {
                // The kernel counts the leap seconds that it makes itself.
                if self.kernel_tai_offset.replace(seconds) != Some(seconds) {
                    self.push_event(DisciplineEvent::TaiOffsetSet(seconds));
                }
            }
        }
    }

    /// Tells what the kernel will make, when that is something else than before.
    fn note_kernel_leap(&mut self, leap: Leap) {
        let leap = if leap == Leap::Unsynchronized { Leap::NoWarning } else { leap };
        if std::mem::replace(&mut self.kernel_leap, leap) != leap {
            self.push_event(DisciplineEvent::KernelLeapSecond(leap));
        }
    }

    fn note_failed(&mut self, command: ClockCommand, failure: ClockFailure) {
        match command {
            ClockCommand::Step { .. } => {
                self.step = None;
                self.can_step &= failure != ClockFailure::Unsupported;
            }
            // Tried again at the next update, not at the end of a slew that never began.
            ClockCommand::SetFrequency { .. } => self.clock.abandon_slew(),
            ClockCommand::SetStatus { .. } | ClockCommand::SetTaiOffset { .. } => {}
        }
        if self.commands.is_new_failure(&command, failure) {
            self.push_event(DisciplineEvent::CommandFailed { command, failure });
        }
    }

    /// Queues a command, in place of one of the same kind that was not fetched yet.
    pub(super) fn command(&mut self, command: ClockCommand) {
        if self.settings.steer {
            self.commands.push(command);
        } else {
            self.clock.abandon_slew();
        }
    }
}
