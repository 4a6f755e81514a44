//! The reports that are open to everybody who is answered over UDP: `opencommands` of chrony.conf.

use super::code;

/// A report of chronyc that can be opened. What changes anything never can: that takes the Unix socket.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[expect(missing_docs, reason = "each is what chronyc calls its command")]
pub enum OpenReport {
    Activity,
    AuthData,
    Clients,
    Manual,
    NtpData,
    RtcData,
    SelectData,
    ServerStats,
    Smoothing,
    SourceName,
    Sources,
    SourceStats,
    Tracking,
}

impl OpenReport {
    /// All of them with the words for them in chrony.conf, in the order of these.
    pub const NAMED: [(&'static str, Self); 13] = [
        ("activity", Self::Activity),
        ("authdata", Self::AuthData),
        ("clients", Self::Clients),
        ("manual", Self::Manual),
        ("ntpdata", Self::NtpData),
        ("rtcdata", Self::RtcData),
        ("selectdata", Self::SelectData),
        ("serverstats", Self::ServerStats),
        ("smoothing", Self::Smoothing),
        ("sourcename", Self::SourceName),
        ("sources", Self::Sources),
        ("sourcestats", Self::SourceStats),
        ("tracking", Self::Tracking),
    ];

    /// The word for it in chrony.conf.
    #[must_use]
    pub const fn name(self) -> &'static str {
        Self::NAMED[self as usize].0
    }

    /// The report with this name, in small letters.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::NAMED.into_iter().find_map(|(known, report)| (known == name).then_some(report))
    }

    /// The numbers of the commands that chronyc makes it from.
    const fn commands(self) -> &'static [u16] {
        match self {
            Self::Activity => &[code::ACTIVITY],
            Self::AuthData => &[code::N_SOURCES, code::AUTH_DATA],
            Self::Clients => &[code::CLIENT_ACCESSES],
            Self::Manual => &[code::MANUAL_LIST],
            Self::NtpData => &[code::N_SOURCES, code::NTP_DATA],
            Self::RtcData => &[code::RTCREPORT],
            Self::SelectData => &[code::N_SOURCES, code::SELECT_DATA],
            Self::ServerStats => &[code::SERVER_STATS],
            Self::Smoothing => &[code::SMOOTHING],
            Self::SourceName => &[code::NTP_SOURCE_NAME],
            Self::Sources => &[code::N_SOURCES, code::SOURCE_DATA],
            Self::SourceStats => &[code::N_SOURCES, code::SOURCESTATS],
            Self::Tracking => &[code::TRACKING],
        }
    }

    const fn bit(self) -> u16 {
        1 << self as u16
    }
}

/// A set of reports.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OpenReports(u16);

impl OpenReports {
    /// None: `opencommands` without a word.
    pub const NONE: Self = Self(0);

    /// All that can be opened.
    #[must_use]
    pub fn all() -> Self {
        OpenReport::NAMED.into_iter().map(|(_, report)| report).collect()
    }

    /// The reports, in the order of their names.
    pub fn iter(self) -> impl Iterator<Item = OpenReport> {
        OpenReport::NAMED
            .into_iter()
            .map(|(_, report)| report)
            .filter(move |report| self.0 & report.bit() != 0)
    }

    /// Whether one of them is made from the command with this number.
    #[must_use]
    pub fn opens(self, command: u16) -> bool {
        self.iter().any(|report| report.commands().contains(&command))
    }
}

/// What chronyd opens unless configured otherwise.
impl Default for OpenReports {
    fn default() -> Self {
        use OpenReport::{Activity, Manual, RtcData, Smoothing, SourceName, SourceStats, Sources, Tracking};
        [Activity, Manual, RtcData, Smoothing, SourceName, Sources, SourceStats, Tracking]
            .into_iter()
            .collect()
    }
}

impl FromIterator<OpenReport> for OpenReports {
    fn from_iter<I: IntoIterator<Item = OpenReport>>(reports: I) -> Self {
        reports.into_iter().fold(Self::NONE, |set, report| Self(set.0 | report.bit()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_written() {
        for (name, report) in OpenReport::NAMED {
            assert_eq!(report.name(), name);
            assert_eq!(OpenReport::named(report.name()), Some(report));
        }
        assert_eq!(OpenReport::named("makestep"), None);
        assert!(OpenReport::NAMED.is_sorted_by_key(|(_, report)| report.name()));
    }

    #[test]
    fn what_is_not_a_report_is_never_open() {
        // The read-only access checks among them, as with chronyd.
        let reports = [14, 15, 33, 34, 35, 41, 44, 51, 54, 57, 65, 67, 68, 69];
        for command in 0..200 {
            assert_eq!(OpenReports::all().opens(command), reports.contains(&command), "{command}");
            assert!(!OpenReports::NONE.opens(command));
        }
    }

    #[test]
    fn a_list_of_the_sources_needs_their_number() {
        let open: OpenReports = [OpenReport::SelectData].into_iter().collect();
        assert!(open.opens(14) && open.opens(69) && !open.opens(15) && !open.opens(33));
        assert_eq!(open.iter().collect::<Vec<_>>(), [OpenReport::SelectData]);
    }
}
