//! `smoothing` and `rtcdata`: the time that is served, and the battery-backed clock.

use std::fmt::Write as _;

use super::number::{date, interval, positive_zero};
use crate::Snapshot;
use crate::snapshot::SmoothingView;

/// `chronyc smoothing`.
#[must_use]
pub fn smoothing(snapshot: &Snapshot) -> String {
    let Some(view) = SmoothingView::of(snapshot) else {
        return "The time that is served is not smoothed.\n".to_owned();
    };
    let SmoothingView { offset_seconds, rate_ppm, change_ppm, .. } = view;
    let mut out = String::new();
    let mut line = |label: &str, value: String| {
        let _ = writeln!(out, "{label:<15}: {value}");
    };
    line("Active", format!("{} {}", view.active_word(), view.kind_words()));
    line("Offset", format!("{:+.9} seconds", positive_zero(offset_seconds)));
    line("Frequency", format!("{:+.6} ppm", positive_zero(rate_ppm)));
    line("Wander", format!("{:+.6} ppm per second", positive_zero(change_ppm)));
    line("Last update", format!("{:.1} seconds ago", view.since_update_seconds));
    line("Remaining time", format!("{:.1} seconds", view.remaining_seconds));
    out
}

/// `chronyc rtcdata`.
#[must_use]
pub fn rtcdata(snapshot: &Snapshot) -> String {
    let Some(clock) = &snapshot.program.real_time_clock else {
        return "The real-time clock is not looked at.\n".to_owned();
    };
    let mut out = String::new();
    let mut line = |label: &str, value: String| {
        let _ = writeln!(out, "{label:<19}: {value}");
    };
    line("RTC ref time (UTC)", date(clock.reference_unix_seconds as f64));
    line("Number of samples", clock.samples.to_string());
    line("Number of runs", clock.runs.to_string());
    line("Sample span period", interval(Some(clock.span_seconds as f64)));
    line("RTC is fast by", format!("{:12.6} seconds", positive_zero(clock.fast_seconds)));
    line("RTC gains time at", format!("{:9.3} ppm", positive_zero(clock.rate_ppm)));
    out
}
