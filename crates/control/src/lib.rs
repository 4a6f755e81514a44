//! The report model and the forms in which it is shown.
//!
//! Owns [`Snapshot`], the one value that the time plane publishes and everything that shows the
//! daemon reads; the texts of [`text`], in the layout that users of chronyc know; the same as
//! comma-separated values ([`csv`]); the summary for people ([`status`]); [`metrics`] in
//! OpenMetrics text; [`check`], a monitoring plug-in's judgement; and the replies to the unmodified
//! tools of others: [`chrony`] to chronyc, [`mode6`] to ntpq, [`ntpd_rs`] to ntp-ctl. It talks to nobody: what
//! carries these texts is in `chime-web`, `chimed` and `chime`.
#![forbid(unsafe_code)]

pub mod check;

pub mod chrony;
pub mod chrony_logs;
pub mod chrony_words;
mod civil;
mod command;
pub mod csv;
mod handling;
pub mod metrics;
pub mod mode6;
pub mod ntpd_rs;
pub mod ntpd_statistics;
pub mod ntpd_words;
mod paint;
mod report;
mod select;
mod snapshot;
pub mod status;
pub mod text;

pub use chime_engine::EngineReport;
pub use civil::CivilDate;
pub use command::Command;
pub use handling::{ControlReport, Handled, Handling};
pub use paint::Paint;
pub use report::{Form, Report};
pub use select::{Names, visible};
pub use snapshot::{
    ClientReport, FastPathReport, KeServerReport, LeapTableReport, ProgramReport, RealTimeClockReport,
    ServerReport, SessionTimes, SmearReport, SmoothingReport, Snapshot, TimestampCounts, UseReport,
};
