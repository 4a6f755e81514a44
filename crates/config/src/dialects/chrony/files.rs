//! Directives about files: logs, drift, dumps, the PID file.

use std::path::PathBuf;
use std::time::Duration;

use super::Reader;
use super::directives::{path, place};
use super::line::{Fault, Line, Parsed, unknown};
use crate::{
    ChronyLog, DriftRecord, FirstCorrection, MailOnChange, TemperatureCompensation, TemperatureCurve,
};

/// `log WORD...`; the words of several lines add up. Unlike other words they are in lower case only.
pub(super) fn read_log(reader: &mut Reader<'_>, line: &mut Line<'_>) -> Parsed<()> {
    let words = ChronyLog::ALL.map(ChronyLog::word);
    let mut word = line.require(&format!("one or more of {}", words.join(", ")))?;
    loop {
        let found = ChronyLog::ALL.into_iter().find(|log| log.word() == word.text);
        let log = found.ok_or_else(|| unknown(&word, "word", &words))?;
        reader.model.chrony.logs.kinds.insert(log);
        let Some(next) = line.next() else { return Ok(()) };
        word = next;
    }
}

/// `initstepslew THRESHOLD HOST...`.
pub(super) fn read_first_correction(reader: &mut Reader<'_>, line: &mut Line<'_>) -> Parsed<()> {
    let step_threshold = line.real_from_zero()?;
    let mut servers = vec![line.require("a host name or an address")?.text.to_owned()];
    while let Some(word) = line.next() {
        servers.push(word.text.to_owned());
    }
    reader.model.chrony.first_correction = Some(FirstCorrection { step_threshold, servers });
    Ok(())
}

/// `rtcfile FILE`, which has no place beside `rtcsync`.
pub(super) fn read_rtc_file(reader: &mut Reader<'_>, line: &mut Line<'_>) -> Parsed<()> {
    reader.model.chrony.real_time_clock.file = Some(path(line)?);
    reader.rtc_file_place = Some(place(line));
    Ok(())
}

/// `rtcautotrim SECONDS`; 0: never.
pub(super) fn read_rtc_trim(reader: &mut Reader<'_>, line: &mut Line<'_>) -> Parsed<()> {
    const SECONDS_MAX: f64 = 1e9;
    let seconds = line.real_from_zero()?.min(SECONDS_MAX);
    line.end()?;
    reader.model.chrony.real_time_clock.trim_threshold = Some(seconds).filter(|seconds| *seconds > 0.0);
    Ok(())
}

/// `driftfile FILE [interval SECONDS]`.
pub(super) fn read_drift_file(reader: &mut Reader<'_>, line: &mut Line<'_>) -> Parsed<()> {
    const INTERVAL_DEFAULT: u32 = 3600;
    let path = PathBuf::from(line.require("a path")?.text);
    let mut seconds = INTERVAL_DEFAULT;
    if let Some(word) = line.next() {
        if word.folded() != "interval" {
            return Err(unknown(&word, "option", &["interval"]));
        }
        seconds = line.integer(&(0..=i32::MAX.unsigned_abs()))?;
    }
    line.end()?;
    let interval = Duration::from_secs(u64::from(seconds));
    reader.model.chrony.drift_file = Some(DriftRecord { path, interval });
    Ok(())
}

/// `tempcomp FILE INTERVAL T0 K0 K1 K2` or `tempcomp FILE INTERVAL POINTS`.
pub(super) fn read_temperature(reader: &mut Reader<'_>, line: &mut Line<'_>) -> Parsed<()> {
    /// The shortest interval: sensors are slow, and reading one may take a while.
    const INTERVAL_MIN: f64 = 0.1;
    const INTERVAL_MAX: f64 = 86_400.0;
    let sensor = PathBuf::from(line.require("a file with a temperature")?.text);
    let seconds = line.real()?.clamp(INTERVAL_MIN, INTERVAL_MAX);
    let first = line.require("a temperature and three coefficients, or a file of points")?;
    let curve = match first.text.parse() {
        Ok(t0) if line.peek().is_some() => {
            TemperatureCurve::Quadratic { t0, k0: line.real()?, k1: line.real()?, k2: line.real()? }
        }
        _ => TemperatureCurve::PointsFile(PathBuf::from(first.text)),
    };
    line.end()?;
    let interval = Duration::from_secs_f64(seconds);
    reader.model.chrony.temperature = Some(TemperatureCompensation { sensor, interval, curve });
    Ok(())
}

/// `mailonchange ADDRESS SECONDS`.
pub(super) fn read_mail(reader: &mut Reader<'_>, line: &mut Line<'_>) -> Parsed<()> {
    let word = line.require("the address of a mail and a threshold in seconds")?;
    let threshold = line.real_from_zero()?;
    line.end()?;
    if !MailOnChange::is_address(word.text) {
        return Err(Fault::new(&word, format!("`{}` is no address for a mail", word.text)));
    }
    reader.model.chrony.mail_on_change = Some(MailOnChange { address: word.text.to_owned(), threshold });
    Ok(())
}

/// A directive whose argument is one path.
pub(super) fn read_path(target: &mut Option<PathBuf>, line: &mut Line<'_>) -> Parsed<()> {
    *target = Some(path(line)?);
    Ok(())
}
