//! What the discipline wants done to the clock.

use crate::Leap;
use chime_time::{Frequency, NtpDuration};

/// One wish about the system clock. Carried out by the shell, which reports back what was really done.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum ClockCommand {
    /// Move the clock at once.
    Step {
        /// Positive moves the clock forward.
        by: NtpDuration,
    },
    /// Let the clock run at this frequency until told otherwise.
    SetFrequency {
        /// Relative to the free oscillator; the sum of the frequency correction and of the slew that is under way.
        frequency: Frequency,
    },
    /// Tell the kernel the difference of the two time scales.
    SetTaiOffset {
        /// TAI minus UTC, seconds.
        seconds: i32,
    },
    /// Tell the kernel what it should tell others about its clock.
    SetStatus {
        /// Whether the clock follows a source (`STA_UNSYNC` otherwise).
        synchronized: bool,
        /// What the kernel is to make at the end of the UTC day; `Unsynchronized` when nothing is known.
        leap: Leap,
        /// Bound of the error against true time, seconds, not negative.
        max_error: f64,
        /// Expected error, seconds, not negative.
        est_error: f64,
        /// What remains to be corrected, seconds; positive means that the clock is behind.
        offset: f64,
    },
}

/// Why a command was not carried out.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ClockFailure {
    /// The process may not set the clock.
    NotPermitted,
    /// The kernel or the platform cannot do this.
    Unsupported,
    /// Anything else, with the error number of the system.
    System(i32),
}

impl core::fmt::Display for ClockFailure {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::NotPermitted => f.write_str("not permitted to set the clock (CAP_SYS_TIME is missing)"),
            Self::Unsupported => f.write_str("the system cannot do this to its clock"),
            Self::System(number) => write!(f, "system error {number}"),
        }
    }
}
