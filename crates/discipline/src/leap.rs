//! Leap seconds: when there is one, what the clock does about it, and which sources smear it.
//!
//! Deviation from RFC 5905 §7.3, whose leap indicator holds for the rest of the month: it is passed on during the last
//! day only, as other daemons do, because clients of theirs act on it at the next midnight.

mod list;
pub(crate) mod smeared;
mod table;
mod tzif;
mod watch;

pub use list::{parse_leap_seconds_list, parse_leap_seconds_list_unchecked, write_leap_seconds_list};
pub use table::{LeapTable, LeapTableError};
pub use tzif::parse_tzif;
pub use watch::{KnownLeap, LeapKnowledge};
pub(crate) use watch::{LeapAction, LeapFacts, LeapWatch};

/// Who makes the clock pass over a leap second.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum LeapMode {
    /// The kernel: it repeats or leaves out a second at midnight UTC by itself.
    #[default]
    System,
    /// We step the clock at midnight UTC.
    Step,
    /// We slew the clock from midnight UTC on; it is never stepped, and wrong by up to a second meanwhile.
    Slew,
    /// Nobody; the clock follows its sources when they have passed it.
    Ignore,
}
