//! What the operator asks for: sources, policies and limits, as values.

use chime_discipline::{SavedFrequency, Settings, SourceOptions};
use chime_nts::AeadAlgorithm;
use chime_refclock::pulse::Pulses;
use chime_time::{NtpDuration, PollExponent};
use chime_wire::mac::SymmetricKey;
use chime_wire::{ExchangeFields, MonotonicReceive, NetworkCorrection};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// The port on which NTP servers answer. RFC 5905 §7.2.
pub const NTP_PORT: u16 = 123;
/// The port on which key establishment servers answer. RFC 8915 §6.
pub const NTS_KE_PORT: u16 = 4460;

/// Everything that the engine is told before it starts, or at [`crate::Command::Reconfigure`].
#[derive(Clone, Debug)]
pub struct Config {
    /// The sources, in the order in which reports show them.
    pub sources: Vec<SourceConfig>,
    /// Reference clocks, in the order in which reports show them, before all other sources.
    pub reference_clocks: Vec<ReferenceClockConfig>,
    /// What unauthenticated sources may do.
    pub authentication: AuthenticationPolicy,
    /// Selection, combining and steering.
    pub discipline: Settings,
    /// What an earlier run learnt about the oscillator.
    pub saved_frequency: Option<SavedFrequency>,
    /// Symmetric keys that sources may name by their number.
    pub keys: Arc<Vec<SymmetricKey>>,
    /// Bounds of the true time that are known without any server.
    pub known_time: KnownTime,
    /// How often the names of sources that work are looked up again; seconds, 0 = never.
    pub refresh_seconds: u32,
    /// The greatest age of NTS keys before new ones are established; seconds, 0 = no limit.
    pub nts_refresh_seconds: u32,
    /// Clock updates before which the dates of certificates are not looked at: the operator's exception for a while.
    pub unchecked_dates_updates: u32,
    /// Where this daemon itself answers, so that it does not follow itself; an unspecified address stands for all.
    pub own_servers: Vec<SocketAddr>,
    /// Whether requests say how often they come. It tells strangers how long a clock has been running well.
    pub announce_poll: bool,
    /// Whether reports show twice as many places of a pool as it wants associations, until it has found them.
    pub spare_pool_places: bool,
    /// Requests to different servers leave at least this far apart, so that one does not delay the other; seconds.
    pub poll_separation_seconds: f64,
    /// Addresses of this machine, so that a server that follows us is recognised (RFC 5905 §13, test 7 in chrony's
    /// counting "D"). The addresses that receive answers are added as they become known.
    pub own_addresses: Vec<IpAddr>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            sources: Vec::new(),
            reference_clocks: Vec::new(),
            authentication: AuthenticationPolicy::Mixed,
            discipline: Settings::default(),
            saved_frequency: None,
            keys: Arc::new(Vec::new()),
            known_time: KnownTime::default(),
            refresh_seconds: 1_209_600,
            nts_refresh_seconds: 2_419_200,
            unchecked_dates_updates: 0,
            own_servers: Vec::new(),
            announce_poll: false,
            spare_pool_places: false,
            poll_separation_seconds: 0.0,
            own_addresses: Vec::new(),
        }
    }
}

/// Facts about the true time that do not come from a server: the lower bound with which certificates are judged.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct KnownTime {
    /// When this program was built; Unix seconds. The true time is later.
    pub build_unix_seconds: i64,
    /// The last time at which an earlier run was synchronised, from disk; Unix seconds. The true time is later.
    pub last_good_unix_seconds: Option<i64>,
    /// Whether the system clock can be believed at the start (a neighbour keeps it, or the operator says so).
    pub system_clock_trusted: bool,
}

/// What unauthenticated sources may do. "Authenticated" means NTS or a symmetric key.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AuthenticationPolicy {
    /// No unauthenticated sample ever enters the discipline; such sources are measured for display only.
    Required,
    /// The same as soon as one authenticated source is configured.
    Preferred,
    /// Unauthenticated sources are used, but where both kinds are configured the authenticated ones decide: they are
    /// trusted and required. Use of an unauthenticated source shows in reports and events.
    #[default]
    Mixed,
    /// Authentication plays no part in selection. Use of an unauthenticated source shows all the same.
    Ignored,
}

/// One source as the operator configured it.
#[derive(Clone, PartialEq, Debug)]
pub struct SourceConfig {
    /// Host name or address literal, of the key establishment server when `authentication` is NTS.
    pub name: String,
    /// The NTP port; key establishment may negotiate another.
    pub port: u16,
    /// One server, or several of one name.
    pub mode: SourceMode,
    /// How answers prove where they come from.
    pub authentication: Authentication,
    /// Whether polling starts with a burst of [`SourceConfig::iburst_requests`] requests two seconds apart.
    pub iburst: bool,
    /// Requests of the first burst; 1 to 8.
    pub iburst_requests: u8,
    /// The shortest interval between polls.
    pub poll_min: PollExponent,
    /// The longest interval between polls.
    pub poll_max: PollExponent,
    /// The interval at the start; `poll_min` when absent.
    pub poll_initial: Option<PollExponent>,
    /// How the discipline treats the source.
    pub options: SourceOptions,
    /// The NTP version of requests; 3 or 4, and always 4 with NTS.
    pub version: u8,
    /// Which addresses of the name are used.
    pub address_family: AddressFamily,
    /// Samples with a longer round trip are refused; seconds.
    pub max_delay_seconds: f64,
    /// Samples whose round trip is more than this many times the shortest one are refused; 0 = no such test.
    pub max_delay_ratio: f64,
    /// Samples whose round trip exceeds the shortest by more than this many standard deviations are refused; 0 = no
    /// such test.
    pub max_delay_deviation_ratio: f64,
    /// Samples with a longer round trip than this share of the recent ones are refused, in place of the test by the standard
    /// deviation; 0 = no such test.
    pub max_delay_quantile: f64,
    /// The shortest round trip that is possible; seconds, 0 = the shortest that was measured.
    pub min_delay_seconds: f64,
    /// On which way packets wait, where that is known: +0.5, all of what a round trip is longer than the shortest is on the
    /// way back; -0.5, on the way there.
    pub jitter_asymmetry: f64,
    /// Whether each poll is a burst of up to four requests, until one is answered well.
    pub burst: bool,
    /// From this interval on a request goes ahead of the one that counts; `None` = never.
    pub presend_from: Option<PollExponent>,
    /// So many measurements become one; 0 and 1 = each counts.
    pub median_filter: u32,
    /// How many measurements there should be in the time for which the clock can be foretold; at least 1.
    pub poll_target: u32,
    /// Whether polling ends when a request cannot be sent, until [`crate::Command::Online`].
    pub offline_on_failure: bool,
    /// Whether polling starts at once; otherwise with [`crate::Command::Online`].
    pub online: bool,
    /// Whether the server is asked when its answers really left. RFC 9769 §2.
    pub interleaved: bool,
    /// Which fields requests ask for beside.
    pub fields: AskedFields,
}

/// Extension fields that a source is asked for, where it knows them; only in version 4.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct AskedFields {
    /// The receive timestamp on a scale that the server never sets, so that its corrections are not taken for our errors.
    pub monotonic: bool,
    /// How long transparent clocks held our packets; only of use over PTP, with the stamps of network cards.
    pub correction: bool,
}

impl AskedFields {
    /// What a request has of them: the fields, and nothing in them.
    pub(crate) fn empty(self) -> ExchangeFields {
        ExchangeFields {
            correction: self.correction.then_some(NetworkCorrection(NtpDuration::ZERO)),
            monotonic: self.monotonic.then(MonotonicReceive::default),
        }
    }
}

impl SourceConfig {
    /// A server with the usual settings and without authentication.
    #[must_use]
    pub fn server(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            port: NTP_PORT,
            mode: SourceMode::Server,
            authentication: Authentication::None,
            iburst: true,
            iburst_requests: 4,
            poll_min: PollExponent::new(6),
            poll_max: PollExponent::new(10),
            poll_initial: None,
            options: SourceOptions::default(),
            version: 4,
            address_family: AddressFamily::Any,
            max_delay_seconds: 3.0,
            max_delay_ratio: 0.0,
            max_delay_deviation_ratio: 10.0,
            max_delay_quantile: 0.0,
            min_delay_seconds: 0.0,
            jitter_asymmetry: 0.0,
            burst: false,
            presend_from: None,
            median_filter: 0,
            poll_target: POLL_TARGET,
            offline_on_failure: false,
            online: true,
            interleaved: false,
            fields: AskedFields::default(),
        }
    }

    /// An NTS server with the usual settings.
    #[must_use]
    pub fn nts(name: &str) -> Self {
        Self { authentication: Authentication::Nts(NtsSource::default()), ..Self::server(name) }
    }

    /// Whether answers of this source are authenticated.
    #[must_use]
    pub const fn is_authenticated(&self) -> bool {
        !matches!(self.authentication, Authentication::None)
    }

    /// The NTS settings, if this is an NTS source.
    #[must_use]
    pub const fn nts_source(&self) -> Option<&NtsSource> {
        match &self.authentication {
            Authentication::Nts(nts) => Some(nts),
            Authentication::None | Authentication::Key(_) => None,
        }
    }

    /// Whether this is a peer in symmetric mode.
    #[must_use]
    pub const fn is_peer(&self) -> bool {
        matches!(self.mode, SourceMode::Symmetric { .. })
    }

    /// How many associations the source wants.
    #[must_use]
    pub fn wanted(&self) -> usize {
        match &self.mode {
            SourceMode::Server | SourceMode::Symmetric { .. } => 1,
            SourceMode::Pool { count, .. } => usize::from(*count).clamp(1, POOL_ASSOCIATIONS_MAX),
        }
    }
}

/// The usual number of measurements in the time for which the clock can be foretold.
pub const POLL_TARGET: u32 = 8;

/// A reference clock as the operator configured it.
#[derive(Clone, PartialEq, Debug)]
pub struct ReferenceClockConfig {
    /// Its name in reports, and our reference identifier while it is followed: up to four characters, filled up with zeros.
    /// RFC 5905 §7.3.
    pub reference_id: [u8; 4],
    /// Its driver (`shm`, `pps`, ...), for reports.
    pub driver: String,
    /// What the driver reads, for reports: a path or a number.
    pub device: String,
    /// Interval between samples; log2 seconds.
    pub poll: i8,
    /// Interval between readings of the device; log2 seconds, at most [`ReferenceClockConfig::poll`] counts.
    pub driver_poll: i8,
    /// Readings in the median filter.
    pub filter: usize,
    /// How the discipline treats it; its offset correction is added to each reading.
    pub options: SourceOptions,
    /// What it claims as round trip to the primary reference: twice the bound of an unknown asymmetry; seconds.
    pub delay: f64,
    /// What each reading is uncertain by, seconds; `None`: the precision of our clock.
    pub precision: Option<f64>,
    /// Samples with a greater dispersion are not used; seconds, 0 = no limit.
    pub max_dispersion: f64,
    /// Readings that are further from our clock are not used; seconds, 0 = no limit.
    pub max_offset: f64,
    /// Its own stratum; ours is one more.
    pub stratum: u8,
    /// The reference clock that says of which second a pulse is; `None`: our own clock does.
    pub lock: Option<[u8; 4]>,
    /// How pulses come.
    pub pulses: Pulses,
    /// How many pulses may come after the last reading of the clock that it is locked to.
    pub max_lock_pulses: u32,
    /// Whether only the fraction of the second of its readings counts.
    pub pps: bool,
    /// Whether it tells TAI.
    pub tai: bool,
    /// Whether it does not know the time, and only runs evenly: nothing is set by it.
    pub local: bool,
}

impl ReferenceClockConfig {
    /// A reference clock with chrony's defaults: one sample of 64 readings in 16 seconds at most.
    #[must_use]
    pub fn new(reference_id: [u8; 4]) -> Self {
        Self {
            reference_id,
            driver: String::new(),
            device: String::new(),
            poll: 4,
            driver_poll: 0,
            filter: 64,
            options: SourceOptions::default(),
            delay: 1e-9,
            precision: None,
            max_dispersion: 0.0,
            max_offset: 0.0,
            stratum: 0,
            lock: None,
            pulses: Pulses { rate: 1, width: 0.0 },
            max_lock_pulses: 2,
            pps: false,
            tai: false,
            local: false,
        }
    }

    /// The reference identifier as text.
    #[must_use]
    pub fn name(&self) -> String {
        let octets = self.reference_id.iter().take_while(|octet| **octet != 0);
        octets.map(|octet| if octet.is_ascii_graphic() { char::from(*octet) } else { '?' }).collect()
    }
}

/// The most associations that one pool can have: what chrony allows, and more servers than any selection needs.
pub const POOL_ASSOCIATIONS_MAX: usize = 16;

/// One server, or several of one name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SourceMode {
    /// One association, with one of the name's addresses at a time.
    Server,
    /// A peer, in symmetric mode: either may follow the other. RFC 5905 §9.
    Symmetric {
        /// The port from which packets leave and at which the peer's arrive: that of our server.
        local_port: u16,
    },
    /// Several associations with different addresses of one name.
    Pool {
        /// How many; 1 to [`POOL_ASSOCIATIONS_MAX`].
        count: u8,
        /// Addresses that are never used.
        ignore: Vec<IpAddr>,
    },
}

/// How answers prove where they come from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Authentication {
    /// They do not.
    None,
    /// A symmetric key of [`Config::keys`], by its number.
    Key(u32),
    /// Network Time Security, RFC 8915.
    Nts(NtsSource),
}

/// How keys are established with an NTS source.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NtsSource {
    /// The TCP port of the key establishment server.
    pub port: u16,
    /// Which trust store of the shell's judges the certificates.
    pub trust: u32,
    /// AEADs to offer, in order of preference.
    pub aeads: Vec<AeadAlgorithm>,
    /// When the certificate's dates are checked.
    pub certificate_dates: CertificateDatesPolicy,
}

impl Default for NtsSource {
    fn default() -> Self {
        Self {
            port: NTS_KE_PORT,
            trust: 0,
            aeads: vec![AeadAlgorithm::Aes128GcmSiv, AeadAlgorithm::AesSivCmac256],
            certificate_dates: CertificateDatesPolicy::Judged,
        }
    }
}

/// When the dates of certificates are checked.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum CertificateDatesPolicy {
    /// During the handshake when our clock is known to be right; otherwise afterwards, against the measured time and
    /// the lower bound (see `certificate_dates`).
    #[default]
    Judged,
    /// During the handshake, against the system clock, however wrong it is.
    Always,
    /// Never: the operator's explicit exception.
    Never,
}

/// Which addresses of a name are used.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AddressFamily {
    /// Both, raced.
    #[default]
    Any,
    /// IPv4 only.
    V4,
    /// IPv6 only.
    V6,
}

impl AddressFamily {
    /// Whether `address` may be used.
    #[must_use]
    pub const fn admits(self, address: IpAddr) -> bool {
        match self {
            Self::Any => true,
            Self::V4 => address.is_ipv4(),
            Self::V6 => address.is_ipv6(),
        }
    }
}
