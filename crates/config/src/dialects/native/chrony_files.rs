//! `[chrony]`: the files of chronyd, for whoever comes from there and keeps what reads them.

use std::time::Duration;

use super::table::TableReader;
use super::values::{integer, list, number, path, word};
use crate::{ChronyFiles, ChronyLog, DriftRecord, LogChange};

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
    if let Some(seconds) = table.read("log-change", number(0.0..=1e9, " seconds")) {
        files.log_change = LogChange(seconds);
    }
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
