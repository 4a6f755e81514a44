//! `[observability]`.

use toml::de::DeValue;

use super::super::native::process::permissions;
use super::super::native::table::{TableReader, Value};
use super::super::native::values::{path, socket_address, word};
use crate::{LogLevel, Model, Observability};

/// The observation socket is for the tools of ntpd-rs; our control socket stays where it is.
pub(super) fn read(table: &mut TableReader<'_, '_, '_, '_>, model: &mut Model) {
    let observability = &mut model.observability;
    let level = word(&[
        ("error", LogLevel::Error),
        ("warn", LogLevel::Warn),
        ("info", LogLevel::Info),
        ("debug", LogLevel::Debug),
        ("trace", LogLevel::Trace),
    ]);
    table.set("log-level", level, &mut observability.log_level);
    let exporter = "it is for ntp-metrics-exporter; the metrics of this daemon are on its control socket";
    if let Some(path) = table.read("log-path", path) {
        model.ntpd.log_file = Some(path);
    }
    if table.read("log-path-metrics-exporter", path).is_some() {
        let message = format!("`log-path-metrics-exporter` has no effect: {exporter}");
        table.warn_at("log-path-metrics-exporter", message);
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
    read_permissions(table, observability);
}

/// ntpd-rs takes decimal numbers as they are. What is no mode then, 666 above all, was meant to be octal.
fn read_permissions(table: &mut TableReader<'_, '_, '_, '_>, observability: &mut Observability) {
    const KEY: &str = "observation-permissions";
    let mode = table.read(KEY, |value| match decimal(value) {
        Some(mode @ 0..=MODE_MAX) => Ok((mode, None)),
        Some(digits) => match u32::from_str_radix(&digits.to_string(), 8) {
            Ok(mode @ 0..=MODE_MAX) => Ok((mode, Some(digits))),
            _ => permissions(value).map(|mode| (mode, None)),
        },
        None => permissions(value).map(|mode| (mode, None)),
    });
    let Some((mode, misread)) = mode else { return };
    observability.ntpd_rs_socket_mode = mode;
    if let Some(digits) = misread {
        let message =
            format!("{digits} is read as 0o{digits}; ntpd-rs takes it for a decimal number, 0o{digits:o}");
        table.warn_at(KEY, message);
    }
}

/// All permission bits.
const MODE_MAX: u32 = 0o777;

fn decimal(value: &Value<'_>) -> Option<u32> {
    match value.get_ref() {
        DeValue::Integer(digits) if digits.radix() == 10 => digits.as_str().parse().ok(),
        _ => None,
    }
}
