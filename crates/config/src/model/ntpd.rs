//! What only an ntp.conf asks for: its log and its statistics files.

use std::collections::BTreeMap;
use std::path::PathBuf;

/// The files of NTPsec's ntpd.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct NtpdFiles {
    /// `logfile`, or ntpd-rs's `log-path`; `None`: the system's log, or standard error.
    pub log_file: Option<PathBuf>,
    /// `statsdir`; `None`: where ntpd has it without being told, `/var/NTP`.
    pub statistics_directory: Option<PathBuf>,
    /// What happens that the log tells.
    pub events: LoggedEvents,
    /// The statistics that are written, and into which files.
    pub statistics: BTreeMap<NtpdStatistic, StatisticsFile>,
}

/// Which of ntpd's lines about events (`PROTO: `) are in its log; `protostats` has all of them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LoggedEvents {
    /// Those of the clock and the daemon.
    pub system: bool,
    /// Those of associations.
    pub peers: bool,
}

impl Default for LoggedEvents {
    fn default() -> Self {
        Self { system: true, peers: true }
    }
}

/// The files of one kind of statistics.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StatisticsFile {
    /// What their names begin with.
    pub name: String,
    /// When one ends and another begins.
    pub every: FileInterval,
    /// Whether the name without an ending leads to the one that is being written.
    pub link: bool,
}

impl StatisticsFile {
    /// A file a day, and a link to the last one.
    #[must_use]
    pub fn usual(statistic: NtpdStatistic) -> Self {
        Self { name: statistic.word().to_owned(), every: FileInterval::Day, link: true }
    }
}

/// When a new file begins; what its name ends in says which one it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FileInterval {
    /// Never; the name has no ending.
    None,
    /// With each process.
    Pid,
    /// Each day of UTC.
    Day,
    /// Each week, as ntpd counts them.
    Week,
    /// Each month.
    Month,
    /// Each year.
    Year,
    /// Each day that the daemon runs, counted from its start.
    Age,
}

impl FileInterval {
    /// Each with its word in the configuration.
    pub const ALL: [(&'static str, Self); 7] = [
        ("none", Self::None),
        ("pid", Self::Pid),
        ("day", Self::Day),
        ("week", Self::Week),
        ("month", Self::Month),
        ("year", Self::Year),
        ("age", Self::Age),
    ];

    /// The word in the configuration.
    #[must_use]
    pub fn word(self) -> &'static str {
        Self::ALL.iter().find(|(_, interval)| *interval == self).map_or("day", |(word, _)| word)
    }
}

/// A kind of statistics that this daemon writes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum NtpdStatistic {
    /// Each update of the clock.
    Loop,
    /// Each measurement, with the state of its association.
    Peer,
    /// Each answer, with its four timestamps.
    Raw,
    /// What happens to associations and to the clock.
    Proto,
    /// What reference clocks say, in their own words.
    Clock,
    /// What the server did in an hour.
    Sys,
    /// What the process used in an hour.
    Use,
    /// NTS packets and cookies of an hour.
    Nts,
    /// Key establishments of an hour.
    NtsKe,
    /// Each key establishment of the server, which is not in the log then.
    NtsKeLog,
}

impl NtpdStatistic {
    /// Each with its word in the configuration.
    pub const ALL: [(&'static str, Self); 10] = [
        ("loopstats", Self::Loop),
        ("peerstats", Self::Peer),
        ("rawstats", Self::Raw),
        ("protostats", Self::Proto),
        ("clockstats", Self::Clock),
        ("sysstats", Self::Sys),
        ("usestats", Self::Use),
        ("ntsstats", Self::Nts),
        ("ntskestats", Self::NtsKe),
        ("ntskelog", Self::NtsKeLog),
    ];

    /// The word in the configuration.
    #[must_use]
    pub fn word(self) -> &'static str {
        Self::ALL.iter().find(|(_, statistic)| *statistic == self).map_or("", |(word, _)| word)
    }
}
