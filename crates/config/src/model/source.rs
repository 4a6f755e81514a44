//! Time sources as configured.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use chime_nts::AeadAlgorithm;

/// One configured source: a server, or a pool that becomes several.
#[derive(Clone, PartialEq, Debug)]
pub struct Source {
    /// Host name or address literal (without brackets); with NTS, of the key establishment server.
    pub name: String,
    /// NTP port on the remote side; what an NTS server negotiates goes before it.
    pub port: u16,
    /// One association, or several of one name.
    pub kind: SourceKind,
    /// How answers are authenticated.
    pub authentication: Authentication,
    /// Whether an unauthenticated answer of this source may move the clock.
    pub policy: AuthenticationPolicy,
    /// A quick burst of requests at start.
    pub iburst: bool,
    /// How often the source is asked.
    pub poll: PollLimits,
    /// NTP version of the requests.
    pub version: NtpVersion,
    /// Preferred over the sources without it.
    pub prefer: bool,
    /// Measured and shown, never believed.
    pub no_select: bool,
    /// Can be outvoted by other trusted sources only.
    pub trust: bool,
    /// One such source at least must be selectable before the clock is touched.
    pub require: bool,
    /// Which addresses of the name are used.
    pub address_family: AddressFamily,
    /// Answers with a longer round trip are dropped; seconds, above 0.
    pub max_delay: f64,
    /// Answers whose round trip is more than this many times the shortest are dropped; 0: no such test.
    pub max_delay_ratio: f64,
    /// Answers whose round trip exceeds the shortest by more than this many standard deviations are dropped; 0: no
    /// such test.
    pub max_delay_deviation_ratio: f64,
    /// Answers with a longer round trip than this share of the recent ones are dropped, in place of the test by the standard
    /// deviation; 0: no such test.
    pub max_delay_quantile: f64,
    /// The shortest round trip that is possible; seconds, 0: the shortest that was measured.
    pub min_delay: f64,
    /// On which way packets wait: +0.5, all of what a round trip is longer than the shortest is on the way back; -0.5, on
    /// the way there; 0: not known.
    pub jitter_asymmetry: f64,
    /// Up to four requests in quick succession at each poll, until one is answered well.
    pub burst: bool,
    /// At poll intervals from this exponent on a request goes two seconds ahead of the one that counts.
    pub presend: Option<i8>,
    /// So many measurements become one, near their median; 0 and 1: each counts.
    pub median_filter: u32,
    /// How many measurements there should be in the time for which the clock can be foretold; at least 1.
    pub poll_target: u32,
    /// The source counts as one of this stratum at least.
    pub min_stratum: u8,
    /// Polls for which a source that does not answer any more can still be followed.
    pub max_unreachable_polls: u32,
    /// What is older than so many samples is forgotten little by little; 0: by what the oscillator wanders alone; `None`: as of all
    /// sources.
    pub max_samples: Option<u32>,
    /// Serve the stratum and the reference identifier of the source as ours, when it is followed.
    pub copy_reference: bool,
    /// Do not ask the source any more once a request could not be sent, until it is told to go online.
    pub offline_on_failure: bool,
    /// Whether the source is asked from the start; otherwise when it is told to go online.
    pub online: bool,
    /// Whether the server is asked when its answers really left. RFC 9769 §2.
    pub interleaved: bool,
    /// Whether the server's receive timestamps are asked for on a scale that it never sets (chrony's field F323).
    pub frequency_transfer: bool,
    /// Whether the server is asked how long transparent clocks held our packets (field 10A).
    pub network_correction: bool,
    /// Added to each measured offset; seconds, positive when the source is known to be behind.
    pub offset_correction: f64,
    /// The source smears leap seconds, and is not mixed with those that do not.
    pub smeared: bool,
    /// Where the source was configured.
    pub origin: Option<Origin>,
}

impl Source {
    /// A plain server with every default.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            port: 123,
            kind: SourceKind::Server,
            authentication: Authentication::None,
            policy: AuthenticationPolicy::Mixed,
            iburst: true,
            poll: PollLimits::default(),
            version: NtpVersion::V4,
            prefer: false,
            no_select: false,
            trust: false,
            require: false,
            address_family: AddressFamily::Any,
            max_delay: 3.0,
            max_delay_ratio: 0.0,
            max_delay_deviation_ratio: 10.0,
            max_delay_quantile: 0.0,
            min_delay: 0.0,
            jitter_asymmetry: 0.0,
            burst: false,
            presend: None,
            median_filter: 0,
            poll_target: 8,
            min_stratum: 0,
            max_unreachable_polls: 0,
            max_samples: None,
            copy_reference: false,
            offline_on_failure: false,
            online: true,
            interleaved: false,
            frequency_transfer: false,
            network_correction: false,
            offset_correction: 0.0,
            smeared: false,
            origin: None,
        }
    }

    /// Whether answers of this source are authenticated, by NTS or a symmetric key.
    #[must_use]
    pub fn is_authenticated(&self) -> bool {
        self.authentication != Authentication::None
    }
}

/// Where requests leave from; what is absent is the system's choice.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ClientSockets {
    /// Local address of requests over IPv4.
    pub v4: Option<Ipv4Addr>,
    /// Local address of requests over IPv6.
    pub v6: Option<Ipv6Addr>,
    /// Network interface of all requests.
    pub interface: Option<String>,
    /// The UDP port of all NTP requests, with one socket for each family; 0: one random port for all. `None`: a random port
    /// for each request.
    pub port: Option<u16>,
}

impl ClientSockets {
    /// The local address for requests to `remote`, if one is configured.
    #[must_use]
    pub fn address_for(&self, remote: SocketAddr) -> Option<IpAddr> {
        match remote {
            SocketAddr::V4(_) => self.v4.map(IpAddr::V4),
            SocketAddr::V6(_) => self.v6.map(IpAddr::V6),
        }
    }
}

/// Ages at which what is known of sources is asked for again; seconds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Refresh {
    /// The names of sources that work are looked up again; 0: never.
    pub names: u32,
    /// NTS keys are established anew; 0: whatever their age.
    pub nts_keys: u32,
}

impl Default for Refresh {
    /// Two weeks and four weeks, as in chrony.
    fn default() -> Self {
        Self { names: 1_209_600, nts_keys: 2_419_200 }
    }
}

/// File and line that something was configured in.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Origin {
    /// File name as it was given to the parser.
    pub file: String,
    /// Line, from 1.
    pub line: usize,
}

/// Whether a source stands for one association or several.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SourceKind {
    /// One association with one address of the name.
    Server,
    /// A peer, in symmetric mode: either may follow the other. RFC 5905 §9.
    Peer,
    /// Several associations with different addresses of the name.
    Pool {
        /// How many associations are kept, 1 to 16.
        count: usize,
        /// Addresses that are never used.
        ignore: Vec<IpAddr>,
    },
}

/// How the answers of a source are authenticated.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Authentication {
    /// Not at all.
    None,
    /// With the symmetric key of this identifier in the key file. RFC 8573.
    Key(u32),
    /// With Network Time Security. RFC 8915.
    Nts(NtsTrust),
}

impl Authentication {
    /// Whom NTS trusts; `None` without NTS.
    #[must_use]
    pub const fn nts_trust(&self) -> Option<&NtsTrust> {
        match self {
            Self::Nts(trust) => Some(trust),
            Self::None | Self::Key(_) => None,
        }
    }
}

/// Whom a key establishment session trusts, and where it goes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NtsTrust {
    /// TCP port of the key establishment server. RFC 8915 §6.
    pub port: u16,
    /// PEM files with certificate authorities that are trusted too, or directories of such files.
    pub certificate_authorities: Vec<PathBuf>,
    /// Whether the system's certificate authorities are trusted.
    pub system_cas: bool,
    /// PEM files with server certificates that are accepted as they are, self-signed or not.
    pub pinned_certificates: Vec<PathBuf>,
    /// SHA-256 of subject public key infos that are accepted whoever signed them.
    pub pinned_keys: Vec<[u8; 32]>,
    /// AEADs that are offered, best first; of those in [`AeadAlgorithm::OFFERED`].
    pub aeads: Vec<AeadAlgorithm>,
}

impl Default for NtsTrust {
    fn default() -> Self {
        Self {
            port: 4460,
            certificate_authorities: Vec::new(),
            system_cas: true,
            pinned_certificates: Vec::new(),
            pinned_keys: Vec::new(),
            aeads: AeadAlgorithm::OFFERED.to_vec(),
        }
    }
}

/// Whether unauthenticated time is ever believed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum AuthenticationPolicy {
    /// Never: no unauthenticated answer moves the clock.
    Required,
    /// As [`Self::Required`] while there is an authenticated source that may be followed, and as [`Self::Mixed`] otherwise:
    /// sources come and go while the daemon runs.
    Preferred,
    /// Together with authenticated time; shown in every report, metric and check.
    #[default]
    Mixed,
    /// As if there were no authentication: an unauthenticated source has as much to say as an authenticated one.
    Ignored,
}

/// Bounds of the poll interval; exponents of 2, seconds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PollLimits {
    /// Shortest interval.
    pub min: i8,
    /// Longest interval, at least `min`.
    pub max: i8,
    /// First interval, between the two.
    pub initial: i8,
}

impl Default for PollLimits {
    /// 64 s to 1024 s, as in chrony: with the estimator's accuracy nobody's servers need to be asked more often.
    fn default() -> Self {
        Self { min: 6, max: 10, initial: 6 }
    }
}

/// NTP version of requests.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NtpVersion {
    /// Version 3, for old servers.
    V3,
    /// Version 4. RFC 5905.
    V4,
}

impl NtpVersion {
    /// The number in the packet header.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::V3 => 3,
            Self::V4 => 4,
        }
    }
}

/// Which addresses of a name are used.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum AddressFamily {
    /// Whatever answers first.
    #[default]
    Any,
    /// IPv4 only.
    V4,
    /// IPv6 only.
    V6,
}
