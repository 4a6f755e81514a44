//! What only a chrony.conf asks for: its files on disk and its log files.

use super::TemperatureCompensation;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

/// The files of chronyd.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct ChronyFiles {
    /// `pidfile`; `/`: none. `None`: not said.
    pub pid_file: Option<PathBuf>,
    /// `driftfile`.
    pub drift_file: Option<DriftRecord>,
    /// `dumpdir`: where sample histories are kept over a restart.
    pub dump_directory: Option<PathBuf>,
    /// Whether they are taken from there at the start (`-r`).
    pub read_dumps: bool,
    /// `ntsdumpdir`: where keys and cookies are kept over a restart.
    pub nts_directory: Option<PathBuf>,
    /// `log`, `logdir`, `logbanner`.
    pub logs: ChronyLogs,
    /// `rtcfile` and what belongs to it.
    pub real_time_clock: RealTimeClock,
    /// `tempcomp`.
    pub temperature: Option<TemperatureCompensation>,
    /// `initstepslew`: a correction before anything else. Under the name of chronyd only.
    pub first_correction: Option<FirstCorrection>,
    /// `mailonchange`: who is told of large corrections.
    pub mail_on_change: Option<MailOnChange>,
    /// `logchange`: offsets greater than this are logged; seconds.
    pub log_change: LogChange,
}

/// A mail about corrections of the clock.
#[derive(Clone, PartialEq, Debug)]
pub struct MailOnChange {
    /// To whom, in one word.
    pub address: String,
    /// Larger corrections are told; seconds.
    pub threshold: f64,
}

impl MailOnChange {
    /// Whether it is one word that may stand in the head of a mail.
    #[must_use]
    pub fn is_address(text: &str) -> bool {
        const OCTETS_MAX: usize = 254;
        (1..=OCTETS_MAX).contains(&text.len()) && text.bytes().all(|octet| octet.is_ascii_graphic())
    }
}

/// A correction of the clock by some servers, before the daemon begins with its sources.
#[derive(Clone, PartialEq, Debug)]
pub struct FirstCorrection {
    /// From this offset on the clock is stepped, below it is slewed; seconds.
    pub step_threshold: f64,
    /// Names or addresses of the servers.
    pub servers: Vec<String>,
}

/// The machine's battery-backed clock, where it is looked at rather than left to the kernel.
#[derive(Clone, PartialEq, Debug)]
pub struct RealTimeClock {
    /// Where what is known of it is kept (`rtcfile`); `None`: it is not looked at.
    pub file: Option<PathBuf>,
    /// The device (`rtcdevice`).
    pub device: PathBuf,
    /// Whether it keeps UTC, not local time (`rtconutc`).
    pub keeps_utc: bool,
    /// A file of hwclock(8) that says what it keeps (`hwclockfile`), and that counts where it does.
    pub adjtime_file: Option<PathBuf>,
    /// It is set when it is off by more seconds than this (`rtcautotrim`); `None`: only on request.
    pub trim_threshold: Option<f64>,
}

impl Default for RealTimeClock {
    fn default() -> Self {
        Self {
            file: None,
            device: PathBuf::from("/dev/rtc"),
            keeps_utc: false,
            adjtime_file: None,
            trim_threshold: None,
        }
    }
}

/// The file that keeps the frequency of the clock.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DriftRecord {
    /// Where it is.
    pub path: PathBuf,
    /// How often it is written at most.
    pub interval: Duration,
}

/// Seconds of an offset that is worth a line.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct LogChange(pub f64);

impl Default for LogChange {
    fn default() -> Self {
        Self(1.0)
    }
}

/// Which log files are written, and where.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ChronyLogs {
    /// The directory; `None`: not said, and no file can be written.
    pub directory: Option<PathBuf>,
    /// The files.
    pub kinds: BTreeSet<ChronyLog>,
    /// Entries between two headings; 0: no headings.
    pub banner: u32,
}

impl Default for ChronyLogs {
    fn default() -> Self {
        Self { directory: None, kinds: BTreeSet::new(), banner: 32 }
    }
}

/// A word of the `log` directive.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum ChronyLog {
    /// Every valid answer.
    Measurements,
    /// Every answer, into the same file.
    RawMeasurements,
    /// The state of each source after a sample.
    Statistics,
    /// Each update of the clock.
    Tracking,
    /// The real-time clock.
    Rtc,
    /// Reference clocks.
    Refclocks,
    /// Temperature compensation.
    Tempcomp,
    /// Each selection of sources.
    Selection,
}

impl ChronyLog {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Measurements,
        Self::RawMeasurements,
        Self::Statistics,
        Self::Tracking,
        Self::Rtc,
        Self::Refclocks,
        Self::Tempcomp,
        Self::Selection,
    ];

    /// The word in the configuration.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Measurements => "measurements",
            Self::RawMeasurements => "rawmeasurements",
            Self::Statistics => "statistics",
            Self::Tracking => "tracking",
            Self::Rtc => "rtc",
            Self::Refclocks => "refclocks",
            Self::Tempcomp => "tempcomp",
            Self::Selection => "selection",
        }
    }
}
