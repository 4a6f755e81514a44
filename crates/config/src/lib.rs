//! One configuration model and the dialects read into it.
//!
//! Owns what an operator can ask for ([`Model`]), the native TOML dialect
//! ([`dialects::native`]), chrony.conf ([`dialects::chrony`]), NTPsec's ntp.conf ([`dialects::ntpsec`]), ntpd-rs's ntp.toml
//! ([`dialects::ntpd_rs`]), messages about mistakes in it ([`Diagnostics`]), and the small
//! conversions from the model to the settings of the engine, the discipline and the server.
//! It never reads a file: a dialect takes names and contents, and the shell does the reading.
//!
//! Start at [`dialects::native::parse`], [`Model`] and [`Model::built_in`].
#![forbid(unsafe_code)]

mod convert;
mod diagnostics;
pub mod dialects;
mod explain;
mod model;
mod rewrite;
mod suggest;
mod write;

pub use chime_discipline::{LeapMode, LocalReference, PanicThreshold, StepPolicy};
pub use chime_server::{
    AccessRule, RateLimitSettings, Refusal, RequireNts, SmearPlace, SmearSettings, SmearShape, Subnet, Terms,
    TermsRule,
};
pub use diagnostics::{Diagnostic, Diagnostics, Severity, Text};
pub use dialects::{Dialect, recognise};
pub use explain::{Explanation, explain};
pub use model::{
    AccessNetworks, AddressFamily, Authentication, AuthenticationPolicy, Broadcast, CardFilter, CardWish,
    CertificatePair, ChronyFiles, ChronyLog, ChronyLogs, ClientSockets, CookieKeyFile, CookieKeyFormat,
    DEFAULT_CONFIGURATION_PATH, DROP_IN_DIRECTORY, DriftFile, DriftRecord, FastPath, FileInterval,
    FirstCorrection, HardwareStamps, KE_CONNECTIONS_MAX_DEFAULT, KeyFormat, KeySet, LeapSeconds, LogChange,
    LogLevel, LoggedEvents, MailOnChange, Model, NtpOverPtp, NtpServer, NtpVersion, NtpdFiles, NtpdStatistic,
    Ntpq, NtpqRule, NtsKeServer, NtsTrust, Observability, Origin, PollLimits, Predecessor, Process,
    RealTimeClock, ReceiverSentence, ReferenceClock, Refresh, Source, SourceKind, StatisticsFile,
    Synchronization, TemperatureCompensation, TemperatureCurve, Threads, parse_address,
};
pub use rewrite::{Rewritten, rewrite};
pub use write::{Detail, write};

/// What reading a configuration gives: the model, and what the operator should know about it.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// Everything that was asked for, with the defaults filled in.
    pub model: Model,
    /// Warnings only; a configuration with errors has no model.
    pub warnings: Diagnostics,
}
