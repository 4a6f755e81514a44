//! `[observability]`.

use super::super::native::process::permissions;
use super::super::native::table::TableReader;
use super::super::native::values::{path, socket_address, word};
use crate::{LogLevel, Observability};

/// The observation socket is for the tools of ntpd-rs; our control socket stays where it is.
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
    if let Some(socket) = table.read("observation-path", path) {
        observability.ntpd_rs_socket = Some(socket);
    }
    table.set("observation-permissions", permissions, &mut observability.ntpd_rs_socket_mode);
}
