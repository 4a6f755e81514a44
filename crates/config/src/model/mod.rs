//! The model: everything an operator can ask for, in one place and free of any file format.

mod address;
mod chrony;
mod hardware_stamps;
mod ntpd;
mod predecessor;

mod process;
mod reference_clock;
mod server;
mod source;
mod synchronization;
mod tempcomp;

use std::path::PathBuf;

pub use address::parse_address;
pub use chrony::{
    ChronyFiles, ChronyLog, ChronyLogs, DriftRecord, FirstCorrection, LogChange, MailOnChange, RealTimeClock,
};
pub use hardware_stamps::{CardFilter, CardWish, HardwareStamps};
pub use ntpd::{FileInterval, LoggedEvents, NtpdFiles, NtpdStatistic, StatisticsFile};
pub use predecessor::{CookieKeyFile, CookieKeyFormat, DriftFile, Predecessor};
pub(crate) use process::ntpq_variable;
pub use process::{LogLevel, Ntpq, NtpqRule, Observability, Process, Threads};
pub use reference_clock::{ReceiverSentence, ReferenceClock};
pub(crate) use server::TERMS_WORDS;
pub use server::{
    AccessNetworks, Broadcast, CertificatePair, FastPath, KE_CONNECTIONS_MAX_DEFAULT, KeySet, NtpOverPtp,
    NtpServer, NtsKeServer,
};
pub use source::{
    AddressFamily, Authentication, AuthenticationPolicy, ClientSockets, NtpVersion, NtsTrust, Origin,
    PollLimits, Refresh, Source, SourceKind,
};
pub use synchronization::{LeapSeconds, Synchronization};
pub use tempcomp::{TemperatureCompensation, TemperatureCurve};

/// Where the daemon looks for its configuration when no `-c` is given.
pub const DEFAULT_CONFIGURATION_PATH: &str = "/etc/truechimer/truechimer.toml";

/// The directory beside the main file whose `*.toml` files are read after it, in name order.
pub const DROP_IN_DIRECTORY: &str = "conf.d";

/// How a file of symmetric keys is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum KeyFormat {
    /// As chrony has it.
    #[default]
    Chrony,
    /// As NTPsec's ntp.keys.
    Ntpsec,
}

impl KeyFormat {
    /// The name in the configuration.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Chrony => "chrony",
            Self::Ntpsec => "ntpsec",
        }
    }
}

/// A complete configuration: defaults are filled in, and what can be checked without the world is.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Model {
    /// Time sources, in the order in which they were written.
    pub sources: Vec<Source>,
    /// Reference clocks, in the order in which they were written.
    pub reference_clocks: Vec<ReferenceClock>,
    /// Whether unauthenticated answers may ever move the clock.
    pub authentication: AuthenticationPolicy,
    /// Ages at which what is known of sources is asked for again.
    pub refresh: Refresh,
    /// Where requests to sources leave from.
    pub client_sockets: ClientSockets,
    /// Which network cards stamp packets.
    pub hardware_stamps: HardwareStamps,
    /// Symmetric keys; `None`: there are none.
    pub key_file: Option<PathBuf>,
    /// How they are written.
    pub key_format: KeyFormat,
    /// NTP servers, one per listening socket.
    pub servers: Vec<NtpServer>,
    /// Those that are opened as soon as an address of their family is let in while the daemon runs, as chronyd does.
    pub servers_in_waiting: Vec<NtpServer>,
    /// The port that is spoken at over PTP; `None`: none is.
    pub ntp_over_ptp: Option<NtpOverPtp>,
    /// What is sent without being asked for.
    pub broadcasts: Vec<Broadcast>,
    /// NTS key establishment servers, one per listening socket.
    pub nts_ke_servers: Vec<NtsKeServer>,
    /// The keys that seal NTS cookies.
    pub keyset: KeySet,
    /// When the sources are believed and how the clock is moved.
    pub synchronization: Synchronization,
    /// Where leap seconds are known from, and how they are served.
    pub leap_seconds: LeapSeconds,
    /// Logs, the control socket, metrics.
    pub observability: Observability,
    /// The daemon as a process: user, threads, state directory.
    pub process: Process,
    /// What is taken over from the program whose configuration this is.
    pub predecessor: Predecessor,
    /// Files that only a chrony.conf asks for.
    pub chrony: ChronyFiles,
    /// Files that only an ntp.conf asks for.
    pub ntpd: NtpdFiles,
}

impl Model {
    /// All NTP servers, those that wait at the end.
    pub fn possible_servers(&self) -> impl Iterator<Item = &NtpServer> + Clone {
        self.servers.iter().chain(&self.servers_in_waiting)
    }

    /// The PTP domain of what is spoken at this port; `None`: it is plain NTP.
    #[must_use]
    pub fn ptp_domain_at(&self, port: u16) -> Option<u8> {
        self.ntp_over_ptp.filter(|ptp| ptp.port == port).map(|ptp| ptp.domain)
    }

    /// Whether a real-time clock is looked at or followed: the kernel is not to set it then.
    #[must_use]
    pub fn uses_real_time_clock(&self) -> bool {
        self.chrony.real_time_clock.file.is_some()
            || self.reference_clocks.iter().any(ReferenceClock::is_real_time_clock)
    }

    /// What the daemon does without a file: five NTS servers of five operators, nothing served.
    ///
    /// Five operators, so that two of them may lie or fail and the clock still follows the truth.
    #[must_use]
    pub fn built_in() -> Self {
        const OPERATORS: [&str; 5] = [
            "time.cloudflare.com",
            "nts.netnod.se",
            "ptbtime1.ptb.de",
            "ntppool1.time.nl",
            "virginia.time.system76.com",
        ];
        let sources = OPERATORS
            .iter()
            .map(|name| Source {
                authentication: Authentication::Nts(NtsTrust::default()),
                ..Source::new(name)
            })
            .collect();
        Self { sources, authentication: AuthenticationPolicy::Required, ..Self::default() }
    }

    /// Whether some of the sources are peers in symmetric mode.
    #[must_use]
    pub fn has_peers(&self) -> bool {
        self.sources.iter().any(|source| source.kind == SourceKind::Peer)
    }

    /// How many associations the sources ask for: a pool counts each of its members, a reference clock for one unless it
    /// tells pulses, which need another source.
    #[must_use]
    pub fn wanted_associations(&self) -> usize {
        self.sources
            .iter()
            .filter(|source| !source.no_select)
            .map(|source| match &source.kind {
                SourceKind::Server | SourceKind::Peer => 1,
                SourceKind::Pool { count, .. } => *count,
            })
            .sum::<usize>()
            + self.reference_clocks.iter().filter(|clock| clock.votes()).count()
    }

    /// How many sources must agree before the clock is touched, at least 1.
    ///
    /// Unless configured: half of the sources, rounded up, and at most 3. A single source still
    /// works (it is what its operator asked for), one of two or three may be away, and with five
    /// an attacker who owns one operator and blocks the others gains nothing. ntpd-rs asks for 3
    /// always, which leaves the common file with one source without time and without an error.
    #[must_use]
    pub fn minimum_agreeing_sources(&self) -> usize {
        const AT_MOST: usize = 3;
        self.synchronization
            .minimum_agreeing_sources
            .unwrap_or_else(|| self.wanted_associations().div_ceil(2).clamp(1, AT_MOST))
    }

    /// Where the cookie keys are kept: as configured, or in the state directory.
    #[must_use]
    pub fn cookie_key_path(&self) -> PathBuf {
        self.keyset.storage_path.clone().unwrap_or_else(|| self.process.state_directory.join("cookie-keys"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_default_is_five_authenticated_sources_and_no_service() {
        let model = Model::built_in();
        assert_eq!(model.sources.len(), 5);
        assert!(model.sources.iter().all(|s| matches!(s.authentication, Authentication::Nts(_))));
        assert_eq!(model.authentication, AuthenticationPolicy::Required);
        assert!(model.servers.is_empty() && model.nts_ke_servers.is_empty());
        assert_eq!(model.minimum_agreeing_sources(), 3);
    }

    #[test]
    fn half_of_the_sources_must_agree_and_never_more_than_three() {
        let with = |n: usize| Model { sources: vec![Source::new("ntp.example.com"); n], ..Model::default() };
        let wanted: Vec<usize> = (0..8).map(|n| with(n).minimum_agreeing_sources()).collect();
        assert_eq!(wanted, [1, 1, 1, 2, 2, 3, 3, 3]);
    }
}
