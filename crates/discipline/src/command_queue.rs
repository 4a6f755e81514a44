//! Commands on their way to the clock.

use crate::{ClockCommand, ClockFailure};
use std::collections::VecDeque;

/// Commands that are to be given, one at a time.
#[derive(Debug, Default)]
pub(crate) struct CommandQueue {
    pub(crate) queue: VecDeque<ClockCommand>,
    pub(crate) in_flight: Option<ClockCommand>,
    /// The status of the clock changed since it was last told.
    pub(crate) status_due: bool,
    /// The last failure of each kind of command.
    failures: [Option<ClockFailure>; 4],
}

impl CommandQueue {
    pub(crate) fn push(&mut self, command: ClockCommand) {
        self.queue.retain(|queued| kind(queued) != kind(&command));
        self.queue.push_back(command);
    }

    pub(crate) fn has_step(&self) -> bool {
        self.queue.iter().chain(&self.in_flight).any(|command| matches!(command, ClockCommand::Step { .. }))
    }

    pub(crate) fn is_new_failure(&mut self, command: &ClockCommand, failure: ClockFailure) -> bool {
        self.failures[kind(command)].replace(failure) != Some(failure)
    }

    pub(crate) fn forget_failure(&mut self, command: &ClockCommand) {
        self.failures[kind(command)] = None;
    }
}

const fn kind(command: &ClockCommand) -> usize {
    match command {
        ClockCommand::Step { .. } => 0,
        ClockCommand::SetFrequency { .. } => 1,
        ClockCommand::SetStatus { .. } => 2,
        ClockCommand::SetTaiOffset { .. } => 3,
    }
}
