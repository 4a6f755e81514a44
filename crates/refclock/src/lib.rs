//! Reference clocks: from what a driver reads to one sample for the discipline.
//!
//! Owns the formats in which other programs and devices tell the time (shared memory, datagrams of gpsd, NMEA sentences,
//! readings of hardware clocks), all of them octets from outside, and the steps that make a sample of them: a pulse finds
//! its second, a median filter throws away what lies far off. Opens nothing, reads no clock.
//! Start at [`Reading`], [`MedianFilter`] and [`pulse::align`]; drivers are in `sys` and `chimed`, what becomes of the
//! samples is in `engine` and `discipline`.
#![forbid(unsafe_code)]

pub mod calendar;
mod filter;
pub mod nmea;
pub mod phc;
pub mod pulse;
pub mod shm;
pub mod sock;

pub use filter::{Filtered, LENGTH_MAX, MedianFilter, Stored};

use chime_discipline::Leap;
use chime_time::{NtpDate, NtpDuration};

/// One measurement of a reference clock.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Reading {
    /// When it was made, by our system clock.
    pub at: NtpDate,
    /// What it says.
    pub kind: ReadingKind,
    /// By how much it may be off for reasons that the driver knows (how long the reading took, say) and that are no noise;
    /// seconds, not negative.
    pub dispersion: f64,
    /// What the clock says about the leap second at the end of the month.
    pub leap: Leap,
}

/// What a reference clock says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ReadingKind {
    /// The time: reference minus local, positive when our clock is behind.
    Time(NtpDuration),
    /// The same up to whole pulses: another clock says which of them it was.
    Pulse(NtpDuration),
    /// That it is alive, but this reading is of no use.
    Alive,
}

impl Reading {
    /// A reading of the time.
    #[must_use]
    pub const fn time(at: NtpDate, offset: NtpDuration) -> Self {
        Self { at, kind: ReadingKind::Time(offset), dispersion: 0.0, leap: Leap::NoWarning }
    }

    /// A pulse at the beginning of a second, which our clock saw at `at`.
    #[must_use]
    pub fn pulse(at: NtpDate) -> Self {
        let offset = -NtpDuration::from_nanos(i64::from(at.subsec_nanos()));
        Self { kind: ReadingKind::Pulse(offset), ..Self::time(at, offset) }
    }
}

/// Why octets of a driver are no reading.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadingError {
    /// Of another length than the format has.
    #[error("it has the wrong length")]
    Length,
    /// Without the mark of the format.
    #[error("it does not carry the mark of this format")]
    Magic,
    /// Not a number, or beyond what an offset can be.
    #[error("a value is out of range")]
    Range,
    /// There is nothing new.
    #[error("there is no new sample")]
    NotNew,
    /// It changed while it was read.
    #[error("it changed while it was read")]
    Torn,
    /// A way of writing that is not known.
    #[error("its mode is not known")]
    Mode,
    /// The clock says that it does not know the time.
    #[error("the clock says that it is not synchronised")]
    Unsynchronized,
}

/// The largest offset that is believed to be one, seconds: 68 years, half of an era.
const OFFSET_SECONDS_MAX: f64 = 2_147_483_647.0;

/// A leap indicator as SHM and SOCK have it: 0 nothing, 1 a second more, 2 a second less; what else it may be is no time.
const fn leap_of(number: i32) -> Result<Leap, ReadingError> {
    match number {
        0 => Ok(Leap::NoWarning),
        1 => Ok(Leap::Insert),
        2 => Ok(Leap::Delete),
        3 => Err(ReadingError::Unsynchronized),
        _ => Err(ReadingError::Range),
    }
}

/// Four octets at `at`, in this machine's order. The callers have checked the length.
fn i32_at(octets: &[u8], at: usize) -> Option<i32> {
    octets.get(at..at.checked_add(4)?)?.try_into().ok().map(i32::from_ne_bytes)
}

/// A `long` or `time_t` at `at`, in this machine's order, of four or eight octets.
fn long_at(octets: &[u8], at: usize, width: usize) -> Option<i64> {
    match width {
        4 => i32_at(octets, at).map(i64::from),
        _ => octets.get(at..at.checked_add(8)?)?.try_into().ok().map(i64::from_ne_bytes),
    }
}
