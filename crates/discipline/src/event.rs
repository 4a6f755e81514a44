//! What an operator should know about the discipline.

use crate::{ClockCommand, ClockFailure, KnownLeap, Leap, SourceId};
use chime_time::LeapSecond;

/// Something that happened to the selection or to the clock. Each is told once per change, not once per sample.
#[derive(Clone, PartialEq, Debug)]
pub enum DisciplineEvent {
    /// The clock follows this source now.
    Selected(SourceId),
    /// The source disagrees with the majority.
    Falseticker(SourceId),
    /// The source agrees with the majority again.
    Truechimer(SourceId),
    /// No majority of the selectable sources agrees: the clock is left alone.
    NoMajority {
        /// Selectable sources that vote.
        selectable: usize,
    },
    /// Fewer sources agree than the operator asks for, or a required one is missing: the clock is left alone.
    TooFewSources {
        /// Sources that agree.
        agreeing: usize,
        /// Sources that the operator asks for.
        required: usize,
    },
    /// There is no selectable source at all any more.
    CannotSynchronise,
    /// The clock follows the sources: the first time, or again.
    Synchronised,
    /// The clock was stepped, and why.
    Stepped(StepEvidence),
    /// The sources want a correction beyond the panic thresholds: refused. Steering stops until it is smaller.
    StepRefused(StepRefusal),
    /// Corrections are within the thresholds again: steering goes on.
    QuarantineLifted,
    /// A command was not carried out; told again only when the failure changes.
    CommandFailed {
        /// What was wanted.
        command: ClockCommand,
        /// Why not.
        failure: ClockFailure,
    },
    /// Somebody or something else did something to the clock.
    Interference(Interference),
    /// All samples were dropped: the clock was stepped by somebody else, or the machine was suspended.
    Reset,
    /// The frequency of an earlier run cannot be true any more: it is forgotten.
    SavedFrequencyRefuted {
        /// What it was, ppm.
        ppm: f64,
    },
    /// What an earlier run knew of this source cannot be read, or cannot be true: only its last samples are taken over.
    SavedEstimateRefused(SourceId),
    /// Without sources for so long, the clock goes on with a long-term average of its frequency.
    FallbackFrequency {
        /// The average, ppm.
        ppm: f64,
        /// What it is an average over, seconds.
        over: f64,
    },
    /// A leap second became known.
    LeapSecondAnnounced(KnownLeap),
    /// A leap second that was known is not announced any more.
    LeapSecondWithdrawn(KnownLeap),
    /// Most sources announce a leap second that the complete table does not have: the table is believed.
    LeapSecondContradicted(LeapSecond),
    /// A leap second came, and this was done about it.
    LeapSecondPassed {
        /// Which.
        leap: LeapSecond,
        /// What was done.
        outcome: LeapOutcome,
    },
    /// The kernel was told what to make at the end of the day: `NoWarning` when nothing any more.
    KernelLeapSecond(Leap),
    /// The kernel was told the difference of the two time scales: TAI minus UTC, seconds.
    TaiOffsetSet(i32),
    /// This source smears leap seconds, as its packets or its drift say.
    SmearedSource(SourceId),
    /// The clock follows sources that smear leap seconds (or, when false, ones that do not, again).
    FollowsSmeared(bool),
    /// The local reference became active or inactive.
    LocalReference {
        /// Whether our own clock is served now.
        active: bool,
    },
}

/// What was done to the clock, and not by us.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Interference {
    /// It was stepped.
    Stepped {
        /// How far, seconds; positive forward.
        by: f64,
    },
    /// The machine was suspended.
    Suspended {
        /// For how long, seconds, as far as the system clock knows.
        slept: f64,
    },
    /// Its pace was changed, or a slew was begun.
    Adjusted {
        /// The frequency correction that was found, ppm.
        found_ppm: f64,
        /// The one that we had set, ppm.
        set_ppm: f64,
        /// What was to be slewed, seconds; positive forward.
        slew: f64,
    },
}

/// How the clock passes a leap second.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LeapOutcome {
    /// The kernel made it.
    ByKernel,
    /// The kernel was to make it and did not: the clock follows the sources.
    NotByKernel,
    /// The clock is stepped.
    Step,
    /// The clock is slewed.
    Slew,
    /// Nothing is done, as the operator wishes.
    Ignored,
}

/// Why the clock was stepped.
#[derive(Clone, PartialEq, Debug)]
pub struct StepEvidence {
    /// How far, seconds; positive forward.
    pub by: f64,
    /// Standard error of that, seconds.
    pub error: f64,
    /// The sources that were combined: number, offset before the step, root distance; seconds.
    pub sources: Vec<(SourceId, f64, f64)>,
}

/// Why the clock was not corrected.
#[derive(Clone, PartialEq, Debug)]
pub struct StepRefusal {
    /// The correction that was wanted, seconds; positive forward.
    pub by: f64,
    /// Whether the threshold for the time before the first synchronisation applied.
    pub startup: bool,
    /// Whether the sum of the steps, rather than this one, is too great.
    pub accumulated: bool,
    /// What it is beyond, seconds.
    pub limit: f64,
    /// Whether it is one more than the operator allows to be refused: the daemon is to end.
    pub is_last: bool,
}
