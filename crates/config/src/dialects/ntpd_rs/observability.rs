//! `[observability]`.

use super::super::native::process::permissions;
use super::super::native::table::TableReader;
use super::super::native::values::{path, socket_address, word};
use crate::{LogLevel, Observability};

/// The sockets of ntpd-rs speak a protocol of their own, so our control socket stays where it is.
pub(super) fn read(table: &mut TableReader<'_, '_, '_, '_>, observability: &mut Observability) {
    let level = word(&[
        ("error", LogLevel::Error),
        ("warn", LogLevel::Warn),
        ("info", LogLevel::Info),
        ("debug", LogLevel::Debug),
        ("trace", LogLevel::Trace),
    ]);
    table.set("log-level", level, &mut observability.log_level);
    let exporter = "it is for ntp-metrics-exporter; the metrics of this daemon are on its control socket";
    for (key, why) in [
        ("log-path", "the log goes to standard error, for the journal"),
        (
            "observation-path",
            "ntp-ctl cannot talk to this daemon; use `chime`, which asks at the control socket",
        ),
        ("log-path-metrics-exporter", exporter),
    ] {
        if table.read(key, path).is_some() {
            table.warn_at(key, format!("`{key}` has no effect: {why}"));
        }
    }
    if table.read("metrics-exporter-listen", socket_address).is_some() {
        table.warn_at(
            "metrics-exporter-listen",
            format!("`metrics-exporter-listen` has no effect: {exporter}"),
        );
    }
    table.ignore(&["ansi-colors"], "the log has no colours");
    // Belongs to `observation-path`, about which all is said.
    let _ = table.read("observation-permissions", permissions);
}
