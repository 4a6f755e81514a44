//! The brain of a time client: which servers to ask and when, what of their answers to believe, and what follows from it.
//!
//! Owns associations, polling, the authentication policy, NTS cookies, key establishment's back-off and name resolution's
//! timing. Reads no clock, opens no socket, looks up no name: every fact about the world enters as an [`Input`] and every
//! wish leaves as a [`Transmit`], a [`Request`] or a clock command, so that the daemon, the simulator and a replayed
//! incident run the same code. Start at [`Engine`], [`Config`] and [`Input`]. Follows RFC 5905 §8, §9, §13 and
//! RFC 8915 §5.
#![forbid(unsafe_code)]

mod address_rights;
mod addressing;
mod admission;
mod answer;
mod asking;
mod association;
mod back_off;
mod certificate_dates;
mod clock_identity;
mod config;
mod control;
mod delay_window;
mod engine;
mod establishing;
mod event;
mod frequency_transfer;
mod input;
mod interleaved;
mod median_filter;
mod modify;
mod nts_state;
mod output;
mod pace;
mod packet_tests;
mod persistence;
mod policy;
mod polling;
mod random;
mod reference_clock;
mod report;
mod reporting;
mod resolution;
mod sample_history;
mod sample_noise;
mod saving;
mod serving;
mod source;
mod symmetric;
mod timers;

pub use chime_discipline::{LocalReference, SourceOptions};
pub use chime_ke::KeOutcome;
pub use chime_refclock::{Reading, ReadingKind, pulse::Pulses};
pub use clock_identity::ClockIdentity;
pub use config::{
    AddressFamily, AskedFields, Authentication, AuthenticationPolicy, CertificateDatesPolicy, Config,
    KnownTime, NTP_PORT, NTS_KE_PORT, NtsSource, POLL_TARGET, POOL_ASSOCIATIONS_MAX, ReferenceClockConfig,
    SourceConfig, SourceMode,
};
pub use engine::Engine;
pub use event::{DiscardCounters, DiscardReason, Event, RemovalReason, SourceRefusal};
pub use input::{
    Command, EstablishmentId, ExchangeId, Input, KeFailure, LookupId, NetworkPath, ReferenceClockId,
    ResolveFailure, SendFailure, SourceChange, SourceKey, SourceMatch, TimestampSource, Timestamped, Tuning,
    TxToken,
};
pub use output::{EstablishKeys, Request, Transmit};
pub use persistence::{
    SavedAssociation, SavedCertificate, SavedClock, StateError, decode_clock, decode_nts_state, encode_clock,
    encode_nts_state,
};
pub use reference_clock::ReadingRefusal;
pub use report::{
    ActivityReport, AuthenticationMode, AuthenticationReport, BurstReport, DiscardReport, EngineReport,
    EstablishmentReport, LeapReport, LeapSecondReport, LeapSecondsReport, ManualEntryReport, ManualReport,
    NtpReport, RecentReport, SelectionOptionsReport, SelectionReport, SourceKind, SourceReport,
    StatisticsReport, TrackingReport,
};
pub use sample_history::{SampleOwner, SavedSamples};
pub use serving::{best_time, server_time};

#[cfg(test)]
mod tests;
