//! `tracking`: the state of our clock.

use std::fmt::Write as _;

use chime_engine::TrackingReport;

use super::number::date;
use super::{Layout, leap_words, reference_id_hex, reference_id_letters};
use crate::{Names, Snapshot};

/// `chronyc tracking`.
#[must_use]
pub fn tracking(snapshot: &Snapshot, layout: Layout) -> String {
    let tracking = &snapshot.engine.tracking;
    let slow = |value: f64| if value > 0.0 { "slow" } else { "fast" };
    let fast = |value: f64| if value > 0.0 { "fast" } else { "slow" };
    let offset = tracking.system_offset_seconds;
    let mut out = String::new();
    let mut line = |label: &str, value: String| {
        let _ = writeln!(out, "{label:<16}: {value}");
    };
    let (id, name) = (tracking.reference_id, reference_name(tracking, layout.names));
    line("Reference ID", format!("{} ({name})", reference_id_hex(id)));
    line("Stratum", tracking.stratum.to_string());
    line("Ref time (UTC)", date(tracking.reference_unix_seconds));
    line("System time", format!("{:.9} seconds {} of NTP time", offset.abs(), slow(offset)));
    line("Last offset", format!("{:+.9} seconds", tracking.last_offset_seconds));
    line("RMS offset", format!("{:.9} seconds", tracking.rms_offset_seconds));
    let ppm = tracking.frequency_ppm;
    line("Frequency", format!("{:.3} ppm {}", ppm.abs(), fast(ppm)));
    line("Residual freq", format!("{:+.3} ppm", tracking.residual_frequency_ppm));
    line("Skew", format!("{:.3} ppm", tracking.skew_ppm));
    line("Root delay", format!("{:.9} seconds", tracking.root_delay_seconds));
    line("Root dispersion", format!("{:.9} seconds", tracking.root_dispersion_seconds));
    line("Update interval", format!("{:.1} seconds", tracking.update_interval_seconds));
    line("Leap status", leap_words(tracking.leap).to_owned());
    out
}

/// What stands in the parentheses: the selected source, or the letters of a stratum 1 clock.
pub(crate) fn reference_name(tracking: &TrackingReport, names: Names) -> String {
    match (names, &tracking.name, tracking.address) {
        (Names::Configured, Some(name), _) => name.clone(),
        (_, _, Some(address)) => address.to_string(),
        // 127.127.1.1 is our own clock and has no letters.
        _ if tracking.stratum == 1 && tracking.reference_id[0] != 127 => {
            reference_id_letters(tracking.reference_id)
        }
        _ => String::new(),
    }
}
