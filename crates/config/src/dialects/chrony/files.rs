//! Directives about files: logs, drift, dumps, the PID file.

use std::path::PathBuf;
use std::time::Duration;

use super::line::{Line, Parsed, unknown};
use super::{Reader, directives::path};
use crate::{ChronyLog, DriftRecord};

/// `log WORD...`; the words of several lines add up. Unlike other words they are in lower case only.
pub(super) fn read_log(reader: &mut Reader<'_>, line: &mut Line<'_>) -> Parsed<()> {
    let words = ChronyLog::ALL.map(ChronyLog::word);
    let mut word = line.require(&format!("one or more of {}", words.join(", ")))?;
    loop {
        let found = ChronyLog::ALL.into_iter().find(|log| log.word() == word.text);
        let log = found.ok_or_else(|| unknown(&word, "word", &words))?;
        reader.model.chrony.logs.kinds.insert(log);
        if log == ChronyLog::Rtc {
            reader.no_effect(
                line,
                &word,
                "the real-time clock is left to the kernel, and there is nothing to log",
            );
        }
        let Some(next) = line.next() else { return Ok(()) };
        word = next;
    }
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

/// A directive whose argument is one path.
pub(super) fn read_path(target: &mut Option<PathBuf>, line: &mut Line<'_>) -> Parsed<()> {
    *target = Some(path(line)?);
    Ok(())
}
