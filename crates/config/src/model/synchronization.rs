//! When sources are believed and how the clock is moved.

use chime_discipline::{LocalReference, Settings};
use chime_server::{SmearSettings, SmoothingSettings};
use std::path::PathBuf;

/// Selection and steering.
#[derive(Clone, PartialEq, Debug)]
pub struct Synchronization {
    /// Sources that must agree; `None`: see [`crate::Model::minimum_agreeing_sources`].
    pub minimum_agreeing_sources: Option<usize>,
    /// Serve our own time while there is nothing to follow.
    pub local_clock: Option<LocalReference>,
    /// Whether the kernel is told that its clock is right while that follows sources: then it copies the time to the
    /// real-time clock every eleven minutes.
    pub marks_kernel: bool,
    /// How the time that is served is smoothed; `None`: it is ours.
    pub smoothing: Option<SmoothingSettings>,
    /// Everything else; use [`crate::Model::discipline_settings`], which has the fields above filled in.
    pub tuning: Settings,
}

impl Default for Synchronization {
    fn default() -> Self {
        Self {
            minimum_agreeing_sources: None,
            local_clock: None,
            marks_kernel: true,
            smoothing: None,
            tuning: Settings::default(),
        }
    }
}

/// Where leap seconds are known from besides the sources, and how they are served. Who makes the clock pass them is in
/// [`Synchronization::tuning`].
#[derive(Clone, PartialEq, Debug, Default)]
pub struct LeapSeconds {
    /// A leap-seconds.list as NIST, IERS and the tz database publish it.
    pub file: Option<PathBuf>,
    /// A time zone that counts leap seconds, such as `right/UTC`; not used while `file` can be.
    pub zone: Option<String>,
    /// How they are smeared for clients; `None`: not at all.
    pub smear: Option<SmearSettings>,
}
