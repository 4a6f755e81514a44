//! Clock discipline: from samples of many sources to one trusted estimate, and from that to clock commands.
//!
//! Owns the clock filter, selection, cluster and combine algorithms and the clock discipline (RFC 5905 §10, §11):
//! which sources tell the truth, how far off the system clock is, how sure we are, and what to do about it.
//! Knows no packets, sockets or clocks: samples come in as values with the time at which they were taken, and every
//! wish about the clock leaves as a [`ClockCommand`] whose execution is reported back.
//!
//! Start at [`Discipline`], [`Sample`] and [`ClockCommand`].
//!
//! Signs: an *offset* is remote minus local; positive means that our clock is behind. A *frequency* is positive when
//! it speeds our clock up. Statistics are `f64` seconds inside; they enter from [`chime_time::NtpDuration`] in
//! `clock_filter` and leave as one in [`ClockCommand::Step`].
#![forbid(unsafe_code)]

mod card_clock;
mod clock_discipline;
mod clock_filter;
mod cluster;
mod combine;
mod command;
mod command_queue;
mod correction;
mod discipline;
mod election;
mod estimator;
mod event;
mod fallback;
mod history;
mod leap;
mod manual;
mod patience;
mod real_time_clock;
mod reference;
mod sample;
mod selection;
mod settings;
mod source;
mod statistics;

pub use card_clock::{CardClock, CardLine, CardReading, CardSettings, CardVerdict};
pub use command::{ClockCommand, ClockFailure};
pub use discipline::{AbsentSources, Discipline, UpdateSummary};
pub use estimator::saved::SavedEstimate;
pub use event::{DisciplineEvent, Interference, LeapOutcome, StepEvidence, StepRefusal};
pub use leap::{
    KnownLeap, LeapKnowledge, LeapMode, LeapTable, LeapTableError, parse_leap_seconds_list,
    parse_leap_seconds_list_unchecked, parse_tzif, write_leap_seconds_list,
};
pub use manual::{MANUAL_ENTRIES_MAX, ManualCorrection, ManualEntry};
pub use real_time_clock::{
    FirstLook, FirstSetting, RTC_SAMPLES_MAX, RTC_TRIM_SECONDS_MIN, RealTimeClock, RtcEstimate, RtcSummary,
    first_setting, hwclock_keeps_utc,
};
pub use sample::{Leap, Lever, Sample, SampleVerdict, SourceId, SourceOptions};
pub use settings::{
    CorrectionTime, FallbackDrift, LocalReference, PanicThreshold, SavedFrequency, Settings, StepPolicy,
};
pub use statistics::{LeapStatus, PollAdvice, SelectionState, SourceStatistics, SystemState};
