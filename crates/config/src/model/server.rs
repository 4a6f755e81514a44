//! What is served: NTP, NTS key establishment, cookie keys.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use chime_nts::AeadAlgorithm;
use chime_server::{AccessRule, RateLimitSettings, Refusal, RequireNts, Subnet, Terms, TermsRule};

use super::Origin;

/// One NTP server socket.
#[derive(Clone, PartialEq, Debug)]
pub struct NtpServer {
    /// Address and UDP port.
    pub listen: SocketAddr,
    /// Network interface the socket is bound to; `None`: all.
    pub interface: Option<String>,
    /// Who is answered; `None`: everybody that the deny list does not name.
    pub allow: Option<AccessNetworks>,
    /// Who is not answered; judged before the allow list.
    pub deny: Option<AccessNetworks>,
    /// Rules as [`chime_server::AccessList::from_rules`] takes them, and nobody is answered without one; instead of the two
    /// lists.
    pub rules: Option<Vec<AccessRule>>,
    /// A rate limit with credit for bursts; instead of the shortest spacing.
    pub rate_limit: Option<RateLimitSettings>,
    /// Entries of the rate limit table; 0: no rate limit.
    pub rate_limit_entries: usize,
    /// Shortest spacing of the requests of one address; zero: no rate limit.
    pub rate_limit_cutoff: Duration,
    /// Whether anything is remembered of clients, for reports and interleaved mode.
    pub client_records: bool,
    /// What happens to requests without NTS.
    pub require_nts: RequireNts,
    /// NTP versions that are answered, in ascending order.
    pub versions: Vec<u8>,
    /// Parts of the network for which other terms hold, by the longest prefix.
    pub terms: Vec<TermsRule>,
    /// The directory of Samba's `ntp_signd` socket, by which answers for members of its domain are signed; `None`: none are.
    pub signing_directory: Option<PathBuf>,
    /// Who else answers plain requests, before they come to the socket.
    pub fast_path: FastPath,
}

/// A way around the sockets.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum FastPath {
    /// None.
    #[default]
    None,
    /// A program in the kernel: in the driver of the network card where that answers reliably, otherwise as
    /// [`Self::XdpGeneric`].
    Xdp,
    /// The same in the driver or not at all.
    XdpDriver,
    /// The same in the kernel for the driver.
    XdpGeneric,
}

/// NTP messages inside PTP messages: what is sent to and comes at this port, by clients, peers and servers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NtpOverPtp {
    /// The UDP port; network cards and transparent clocks know 319. Not 0.
    pub port: u16,
    /// The PTP domain of messages that are sent; those of others are ignored.
    pub domain: u8,
}

impl Default for NtpOverPtp {
    fn default() -> Self {
        Self { port: 319, domain: 123 }
    }
}

impl NtpServer {
    /// A server that answers everybody.
    #[must_use]
    pub fn new(listen: SocketAddr) -> Self {
        Self {
            listen,
            interface: None,
            allow: None,
            deny: None,
            rules: None,
            rate_limit: None,
            rate_limit_entries: 0,
            rate_limit_cutoff: Duration::ZERO,
            client_records: true,
            require_nts: RequireNts::No,
            versions: vec![3, 4],
            terms: Vec::new(),
            signing_directory: None,
            fast_path: FastPath::None,
        }
    }
}

/// Packets that are sent to everybody on a network, without being asked for. RFC 5905 §9, mode 5.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Broadcast {
    /// Where to: a broadcast or multicast address, or that of one host.
    pub to: SocketAddr,
    /// Between two packets; at least a second.
    pub interval: Duration,
    /// The symmetric key of the packets' MACs; `None`: they have none.
    pub key: Option<u32>,
    /// How many routers a multicast packet may pass.
    pub ttl: u8,
    /// Local address of the packets; `None`: routing decides.
    pub local: Option<IpAddr>,
    /// Network interface of the packets; `None`: routing decides.
    pub interface: Option<String>,
}

impl Broadcast {
    /// Every 64 s, to the local network only.
    #[must_use]
    pub fn new(to: SocketAddr) -> Self {
        Self { to, interval: Duration::from_secs(64), key: None, ttl: 1, local: None, interface: None }
    }
}

/// What a word changes in the usual terms.
type TermsChange = fn(&mut Terms);

/// The words for [`Terms`], each with what it changes.
pub(crate) const TERMS_WORDS: [(&str, TermsChange); 6] = [
    ("unlimited", |terms| terms.limited = false),
    ("no-kiss", |terms| terms.kiss = false),
    ("authenticated", |terms| terms.authenticated = true),
    ("newest-version", |terms| terms.newest_only = true),
    ("unsigned", |terms| terms.signed = false),
    ("flaky", |terms| terms.flaky = true),
];

/// A list of networks and what happens to a request that the list turns away.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AccessNetworks {
    /// The networks.
    pub subnets: Vec<Subnet>,
    /// What happens to those turned away.
    pub refusal: Refusal,
}

/// One NTS key establishment socket. RFC 8915 §4.
#[derive(Clone, PartialEq, Debug)]
pub struct NtsKeServer {
    /// Address and TCP port.
    pub listen: SocketAddr,
    /// Certificates, chosen by the name the client asks for; the first is the default.
    pub certificates: Vec<CertificatePair>,
    /// Longest duration of a session.
    pub timeout: Duration,
    /// Sessions at a time.
    pub connections_max: usize,
    /// Announced NTP server; `None`: the same host.
    pub ntp_server: Option<String>,
    /// Announced NTP port; `None`: 123.
    pub ntp_port: Option<u16>,
    /// AEADs that keys are given for; the client's preference decides.
    pub aeads: Vec<AeadAlgorithm>,
    /// How often one address is served; `None`: as often as it comes.
    pub rate_limit: Option<RateLimitSettings>,
    /// Who may establish keys, by rules of the same kind; `None`: the same as may ask the first NTP server.
    pub rules: Option<Vec<AccessRule>>,
    /// Where the server was configured.
    pub origin: Option<Origin>,
}

/// Connections of an NTS-KE server at a time when nothing else is configured: four times as many as ntpd-rs, since in a full
/// house the oldest one without an answer has to go, and the more places there are, the longer that takes. A silent one
/// takes a quarter of a kilobyte.
pub const KE_CONNECTIONS_MAX_DEFAULT: usize = 2048;

/// A certificate chain and its private key, both PEM.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CertificatePair {
    /// The chain, leaf first.
    pub chain: PathBuf,
    /// The private key of the leaf.
    pub key: PathBuf,
}

/// The keys that seal NTS cookies.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KeySet {
    /// Old keys that still open cookies.
    pub stale_keys: usize,
    /// Age at which the current key is replaced.
    pub rotation_interval: Duration,
    /// File; `None`: in the state directory.
    pub storage_path: Option<PathBuf>,
}

impl Default for KeySet {
    /// A new key each day and a week of old ones: a client that polls every 36 hours, the longest
    /// interval there is, still finds its eight cookies good.
    fn default() -> Self {
        Self { stale_keys: 7, rotation_interval: Duration::from_secs(86_400), storage_path: None }
    }
}
