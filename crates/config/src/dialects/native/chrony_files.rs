//! `[chrony]`: the files of chronyd, for whoever comes from there and keeps what reads them.

use std::time::Duration;

use super::table::{Parsed, TableReader, Value};
use super::values::{boolean, fault, integer, list, number, path, text, word};
use crate::{
    ChronyFiles, ChronyLog, DriftRecord, LogChange, MailOnChange, RealTimeClock, TemperatureCompensation,
    TemperatureCurve,
};

pub(super) fn read(table: &mut TableReader<'_, '_, '_, '_>, files: &mut ChronyFiles) {
    const INTERVAL: u64 = 3600;
    files.pid_file = table.read("pid-file", path).or(files.pid_file.take());
    let interval = table.read("drift-file-interval", integer(0..=u64::from(u32::MAX)));
    if let Some(path) = table.read("drift-file", path) {
        let interval = Duration::from_secs(interval.unwrap_or(INTERVAL));
        files.drift_file = Some(DriftRecord { path, interval });
    }
    files.dump_directory = table.read("dump-directory", path).or(files.dump_directory.take());
    files.nts_directory = table.read("nts-directory", path).or(files.nts_directory.take());
    files.logs.directory = table.read("log-directory", path).or(files.logs.directory.take());
    if let Some(kinds) = table.read("logs", list(word(LOGS))) {
        files.logs.kinds = kinds.into_iter().collect();
    }
    table.set("log-banner", integer(0..=u32::MAX), &mut files.logs.banner);
    table.table("real-time-clock", "real-time-clock", |table| {
        read_real_time_clock(table, &mut files.real_time_clock);
    });
    files.temperature = read_temperature(table).or(files.temperature.take());
    table.table("mail-on-change", "mail-on-change", |table| {
        let address = table.require("address", mail_address);
        let threshold = table.require("threshold", number(0.0..=1e9, " seconds"));
        let both = address.zip(threshold);
        files.mail_on_change = both.map(|(address, threshold)| MailOnChange { address, threshold });
    });
    if let Some(seconds) = table.read("log-change", number(0.0..=1e9, " seconds")) {
        files.log_change = LogChange(seconds);
    }
}

fn mail_address(value: &Value<'_>) -> Parsed<String> {
    let address = text(value)?;
    if MailOnChange::is_address(&address) { Ok(address) } else { Err(fault(value, "must be one word")) }
}

/// `real-time-clock`: `rtcfile` and what belongs to it.
fn read_real_time_clock(table: &mut TableReader<'_, '_, '_, '_>, clock: &mut RealTimeClock) {
    clock.file = table.require("file", path).or(clock.file.take());
    table.set("device", path, &mut clock.device);
    table.set("keeps-utc", boolean, &mut clock.keeps_utc);
    clock.adjtime_file = table.read("adjtime-file", path).or(clock.adjtime_file.take());
    let seconds = number(1e-9..=1e9, " seconds");
    clock.trim_threshold = table.read("trim-threshold", seconds).or(clock.trim_threshold);
}

/// `temperature-compensation`: by a polynomial around `t0`, or by points.
fn read_temperature(table: &mut TableReader<'_, '_, '_, '_>) -> Option<TemperatureCompensation> {
    let any = || number(f64::MIN..=f64::MAX, "");
    let mut found = None;
    table.table("temperature-compensation", "temperature-compensation", |table| {
        let sensor = table.require("sensor", path);
        let interval = table.require("interval", number(0.0..=1e9, " seconds"));
        let file = table.read("points-file", path).map(TemperatureCurve::PointsFile);
        let points = table.read("points", list(list(any())));
        let points: Option<Vec<(f64, f64)>> = points
            .and_then(|points| points.iter().map(|point| Some((*point.first()?, *point.get(1)?))).collect());
        let mut read = |key| table.read(key, any());
        let numbers = (read("t0"), read("k0"), read("k1"), read("k2"));
        let quadratic = match numbers {
            (Some(t0), Some(k0), Some(k1), Some(k2)) => Some(TemperatureCurve::Quadratic { t0, k0, k1, k2 }),
            _ => None,
        };
        match file.or(points.map(TemperatureCurve::Points)).or(quadratic) {
            Some(curve) => {
                found = sensor.zip(interval).map(|(sensor, interval)| TemperatureCompensation {
                    sensor,
                    interval: Duration::from_secs_f64(interval),
                    curve,
                });
            }
            None => {
                let message = "needs `points-file`, `points`, or `t0`, `k0`, `k1` and `k2`".to_owned();
                table.error_at("sensor", message, None);
            }
        }
    });
    found
}

const LOGS: &[(&str, ChronyLog)] = &[
    ("measurements", ChronyLog::Measurements),
    ("rawmeasurements", ChronyLog::RawMeasurements),
    ("statistics", ChronyLog::Statistics),
    ("tracking", ChronyLog::Tracking),
    ("rtc", ChronyLog::Rtc),
    ("refclocks", ChronyLog::Refclocks),
    ("tempcomp", ChronyLog::Tempcomp),
    ("selection", ChronyLog::Selection),
];
