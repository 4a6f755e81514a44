//! When sources are believed and how the clock is moved.

use chime_discipline::{LocalReference, Settings};
use chime_server::{SmearSettings, SmoothingSettings};
use chime_time::{Frequency, Precision};
use std::ops::RangeInclusive;
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
    /// The precision of our clock, as the operator knows it; `None`: it is measured at the start.
    pub precision: Option<Precision>,
    /// By how much our clock is made to run faster until that is known better; `None`: it is measured.
    pub initial_frequency: Option<Frequency>,
    /// Whether steps of the clock are warnings in the log, and not only lines of it.
    pub warns_of_steps: bool,
    /// Clock updates before which the dates of certificates are not looked at; 0: none.
    pub unchecked_certificate_updates: u32,
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
            precision: None,
            initial_frequency: None,
            warns_of_steps: true,
            unchecked_certificate_updates: 0,
            tuning: Settings::default(),
        }
    }
}

impl Synchronization {
    /// What a precision can be, seconds.
    pub const PRECISION_SECONDS: RangeInclusive<f64> = 1e-9..=1.0;

    /// Takes the power of two that is nearest to a precision in seconds, as chronyd does.
    pub fn set_precision(&mut self, seconds: f64) {
        let seconds = seconds.clamp(*Self::PRECISION_SECONDS.start(), *Self::PRECISION_SECONDS.end());
        #[expect(clippy::cast_possible_truncation, reason = "between -30 and 0")]
        let exponent = seconds.log2().round() as i8;
        self.precision = Some(Precision::new(exponent));
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
