//! Time as a network time daemon needs it: one type for each kind of time.
//!
//! Owns the timestamp formats of RFC 5905 §6 with their eras, durations, the monotonic scale on which deadlines
//! live, and frequencies. Never reads a clock: every instant is made by the shell or by the simulator.
//! Start at [`NtpTimestamp`] (what is on the wire), [`NtpDate`] (a timestamp whose era is known) and [`MonoTime`].
#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate std;

mod date;
mod duration;
mod frequency;
mod leap;
mod mono;
mod short;
mod timestamp;

pub use date::{ClockReading, NtpDate, UNIX_EPOCH_SECONDS};
pub use duration::{NtpDuration, SECOND_UNITS};
pub use frequency::{Frequency, PollExponent, Precision};
pub use leap::{DAY_SECONDS, LeapSecond, date_of_day, day_of_date, end_of_month};
pub use mono::MonoTime;
pub use short::NtpShort;
pub use timestamp::NtpTimestamp;
