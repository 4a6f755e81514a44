//! What ntpd tells of each key establishment of its server: a line of the log, or of `ntskelog` where that is asked for.

use super::statistics_files::StatisticsFiles;
use crate::cli::{Habits, Options};
use crate::log_limit::LogLimit;
use chime_config::{Model, NtpdFiles, NtpdStatistic};
use chime_control::ntpd_statistics;
use chime_control::ntpd_words::KeyServing;
use chime_sys::clock;
use chime_time::MonoTime;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tracing::info;

/// Lines at once, and the time to one more: whoever connects again and again does not fill the disk.
const LINES: (u32, Duration) = (200, Duration::from_millis(100));

/// Tells of key establishments; shared by the threads that serve them.
#[derive(Debug)]
pub struct KeyLog(Mutex<Inside>);

#[derive(Debug)]
struct Inside {
    limit: LogLimit,
    files: StatisticsFiles,
    started: MonoTime,
}

impl KeyLog {
    /// As the options and `model` ask for; `None` when they ask for nothing.
    #[must_use]
    pub fn new(model: &Model, options: &Options) -> Option<Self> {
        const KIND: NtpdStatistic = NtpdStatistic::NtsKeLog;
        let wanted = model.ntpd.statistics.get(&KIND);
        if wanted.is_none() && !matches!(options.habits, Habits::Ntpd(_)) {
            return None;
        }
        let statistics = wanted.map(|file| (KIND, file.clone())).into_iter().collect();
        Some(Self::into(NtpdFiles { statistics, ..model.ntpd.clone() }))
    }

    /// Into the file that there is for it, or else into the log.
    pub(crate) fn into(files: NtpdFiles) -> Self {
        let files = StatisticsFiles::new(&files);
        Self(Mutex::new(Inside { limit: LogLimit::new(LINES.0, LINES.1), files, started: clock::mono_now() }))
    }

    /// A key establishment ended.
    pub fn tell(&self, served: &KeyServing<'_>) {
        let (now, unix_seconds) = (clock::mono_now(), clock::system_now().unix_seconds_f64());
        let mut inside = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let admission = inside.limit.admit(now);
        admission.write(|left_out| {
            if !inside.files.wants(NtpdStatistic::NtsKeLog) {
                info!("{}{left_out}", served.line());
                return;
            }
            let age = now.saturating_since(inside.started).as_secs_f64();
            let line = ntpd_statistics::key_serving(unix_seconds, served) + left_out;
            inside.files.write(NtpdStatistic::NtsKeLog, (unix_seconds, age), &line);
        });
    }
}
