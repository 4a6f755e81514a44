//! What happens, in the words of NTPsec's ntpd: the lines that its users and their scripts look for.
//!
//! [`NtpdWords::event`] gives `None` for what ntpd has no words for: then the log has ours.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use chime_discipline::{DisciplineEvent, SourceId};
use chime_engine::{EngineReport, Event, SourceReport};
use chime_wire::KissCode;

use crate::mode6;

/// What begins the lines about associations and the clock, which `protostats` has, too.
pub const PROTOCOL: &str = "PROTO: ";
/// What such a line goes on with when it is about no association.
pub const OF_THE_SYSTEM: &str = "0.0.0.0 ";

/// How many octets of text a certificate can bring into a line.
const NAME_OCTETS_MAX: usize = 200;

/// Bits of the flags that ntpd shows of a source.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SourceFlags {
    /// `iburst`.
    pub iburst: bool,
    /// `prefer`.
    pub prefer: bool,
    /// `noselect`.
    pub no_select: bool,
    /// Given by name and not by address.
    pub named: bool,
    /// `nts`.
    pub nts: bool,
    /// A pool.
    pub pool: bool,
}

impl SourceFlags {
    /// As ntpd prints them while the name is being looked up, in hexadecimal.
    #[must_use]
    pub fn bits(self) -> u32 {
        const CONFIGURED_AND_LOOKED_UP: u32 = 0x2_0001;
        let bit = |is_set, bit| if is_set { bit } else { 0 };
        CONFIGURED_AND_LOOKED_UP
            | bit(self.prefer, 0x20)
            | bit(self.iburst, 0x100)
            | bit(self.no_select, 0x200)
            | bit(self.named, 0x800)
            | bit(self.nts, 0x1000)
    }

    const fn cast(self) -> u8 {
        if self.pool { 8 } else { 1 }
    }
}

/// What key establishment came to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Established {
    /// The subject of the server's certificate.
    pub subject: String,
    /// Its issuer.
    pub issuer: String,
    /// The names that it is for.
    pub names: Vec<String>,
    /// Octets of a cookie.
    pub cookie_octets: usize,
    /// Cookies.
    pub cookies: usize,
    /// The AEAD's number.
    pub aead: u16,
}

/// How a client's key establishment ended.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct KeyServing<'a> {
    /// The client.
    pub peer: SocketAddr,
    /// As rustls calls it, `TLS13_AES_256_GCM_SHA384`; `None`: TLS did not come about.
    pub cipher_suite: Option<&'a str>,
    /// Why there were no keys; `None`: there were.
    pub failure: Option<&'a str>,
    /// How long it took, seconds.
    pub seconds: f64,
    /// Processor time, seconds.
    pub user_seconds: f64,
    /// Processor time of the kernel, seconds.
    pub system_seconds: f64,
}

impl KeyServing<'_> {
    /// Protocol, suite and strength in OpenSSL's words.
    pub(crate) fn cipher(&self) -> Option<String> {
        let suite = self.cipher_suite?;
        let bits = if suite.contains("AES_128") { 128 } else { 256 };
        Some(format!("TLSv1.3:{}({bits})", suite.replace("TLS13_", "TLS_")))
    }

    /// The line of the log. Where TLS fails ntpd says `OK` and the reason in the place of the cipher; here it says `Failed`.
    #[must_use]
    pub fn line(&self) -> String {
        let cipher = self.cipher();
        let reason = self.failure.filter(|_| cipher.is_some());
        format!(
            "NTSs: NTS-KE from {}, {}, Using {}, took {:.3} sec, CPU: {:.3}+{:.3} ms{}{}",
            self.peer,
            if self.failure.is_some() { "Failed" } else { "OK" },
            cipher.as_deref().or(self.failure).unwrap_or("no TLS"),
            self.seconds,
            self.user_seconds * 1e3,
            self.system_seconds * 1e3,
            if reason.is_some() { ", " } else { "" },
            reason.unwrap_or_default(),
        )
    }
}

/// Remembers which associations there are.
#[derive(Clone, Debug, Default)]
pub struct NtpdWords {
    sources: BTreeMap<String, SourceFlags>,
    remotes: BTreeMap<SourceId, SocketAddr>,
}

impl NtpdWords {
    /// For sources of these names.
    #[must_use]
    pub fn new(sources: BTreeMap<String, SourceFlags>) -> Self {
        Self { sources, remotes: BTreeMap::new() }
    }

    fn flags(&self, name: &str) -> SourceFlags {
        let added = SourceFlags { named: true, ..SourceFlags::default() };
        self.sources.get(name).copied().unwrap_or(added)
    }

    /// A name is going to be looked up.
    #[must_use]
    pub fn looking_up(&self, name: &str) -> String {
        let flags = self.flags(name);
        format!("DNS: dns_probe: {name}, cast_flags:{}, flags:{:x}", flags.cast(), flags.bits())
    }

    /// Keys are going to be established, at the first of some addresses if it answers.
    #[must_use]
    pub fn connecting(&self, name: &str, address: SocketAddr) -> Vec<String> {
        vec![
            format!("NTSc: connecting to {name}+{} => {address}", address.port()),
            format!("NTSc: set cert host: {name}"),
        ]
    }

    /// Keys were established, after `seconds`.
    #[must_use]
    pub fn established(&self, name: &str, outcome: &Established, seconds: f64) -> Vec<String> {
        let short = |text: &str| -> String { text.chars().take(NAME_OCTETS_MAX).collect() };
        let mut lines = vec![
            "NTSc: Using TLSv1.3".to_owned(),
            format!("NTSc: certificate subject name: {}", short(&outcome.subject)),
            format!("NTSc: certificate issuer name: {}", short(&outcome.issuer)),
        ];
        lines.extend(outcome.names.iter().take(8).map(|name| format!("NTSc: SAN:DNS {}", short(name))));
        lines.extend([
            "NTSc: certificate is valid.".to_owned(),
            format!("NTSc: Good ALPN from {name}"),
            format!(
                "NTSc: Got {} cookies, length {}, aead={}.",
                outcome.cookies, outcome.cookie_octets, outcome.aead
            ),
            format!("NTSc: NTS-KE req to {name} took {seconds:.3} sec, OK"),
        ]);
        lines
    }

    /// The lines about an event; `report` gives the state of everything, where a line needs it.
    pub fn event(&mut self, event: &Event, report: impl Fn() -> EngineReport) -> Option<Vec<String>> {
        Some(match event {
            Event::AssociationAdded { association, name, remote, .. } => {
                self.remotes.insert(*association, *remote);
                let number = mode6::association_number(association.0);
                let flags = self.flags(name);
                // ntpd has the association of a server before it knows the address.
                let shown = if flags.pool { remote.ip().to_canonical().to_string() } else { name.clone() };
                let status = if flags.nts { 0xc011 } else { 0x8011 };
                vec![format!("{PROTOCOL}{shown} {status:04x} 81 mobilize assoc {number}")]
            }
            Event::AssociationRemoved { association, remote, .. } => {
                self.remotes.remove(association);
                let number = mode6::association_number(association.0);
                vec![about(remote, 0x8012, 0x82, &format!("demobilize assoc {number}"))]
            }
            Event::Reachable { association, remote } => {
                vec![about(remote, state(*association, 4, &report()), 0x84, "reachable")]
            }
            Event::Unreachable { association, remote } => {
                vec![about(remote, state(*association, 3, &report()), 0x83, "unreachable")]
            }
            Event::Kiss { association, remote, code } => {
                let is_rate = *code == KissCode::RATE;
                let (number, text) = if is_rate { (7, "rate_exceeded") } else { (8, "access_denied") };
                let status = state(*association, number, &report());
                vec![about(remote, status, 0x80 | number, &format!("{text} {code:?}"))]
            }
            Event::Resolved { name, addresses, .. } => {
                let flags = self.flags(name);
                let mut lines =
                    vec![format!("DNS: dns_check: processing {name}, {}, {:x}", flags.cast(), flags.bits())];
                let taken = if flags.pool { "Pool" } else { "Server" };
                lines.extend(
                    addresses.iter().take(16).map(|address| format!("DNS: {taken} taking: {address}")),
                );
                lines.push(format!("DNS: dns_take_status: {name}=>good, {}", if flags.pool { 8 } else { 0 }));
                lines
            }
            Event::ResolveFailed { name, failure, retry_seconds, .. } => vec![
                format!("DNS: dns_check: DNS error: {failure}"),
                format!("DNS: dns_take_status: {name}=>temp, {}", exponent(*retry_seconds)),
            ],
            // Told with all that is known of it when it comes in.
            Event::KeysEstablished { .. } => Vec::new(),
            Event::EstablishmentFailed { name, failure, retry_seconds, .. } => vec![
                format!("NTSc: {failure}"),
                format!("NTSc: NTS-KE req to {name} failed"),
                format!("DNS: dns_take_status: {name}=>error, {}", exponent(*retry_seconds)),
            ],
            Event::Discipline(event) => return self.discipline(event, report),
            _ => return None,
        })
    }

    fn discipline(&self, event: &DisciplineEvent, report: impl Fn() -> EngineReport) -> Option<Vec<String>> {
        let system = |number, text: &str| {
            let status = mode6::clock_status(&report().tracking, number);
            Some(vec![format!("{PROTOCOL}{OF_THE_SYSTEM}{status:04x} {number:02x} {text}")])
        };
        match event {
            DisciplineEvent::Selected(id) => {
                let remote = self.remotes.get(id)?;
                Some(vec![about(remote, state(*id, 10, &report()), 0x8a, "sys_peer")])
            }
            DisciplineEvent::Synchronised => system(5, "clock_sync"),
            DisciplineEvent::LeapSecondAnnounced(_) => system(9, "leap_armed"),
            DisciplineEvent::LeapSecondWithdrawn(_) => system(10, "leap_disarmed"),
            DisciplineEvent::LeapSecondPassed { .. } => system(11, "leap_event"),
            _ => None,
        }
    }

    /// A line that `protostats` has beside those of the log: what ntpd has words for, and the log must say more of.
    #[must_use]
    pub fn beside(&self, event: &Event, report: impl Fn() -> EngineReport) -> Option<String> {
        let Event::Discipline(event) = event else { return None };
        let (number, text) = match event {
            DisciplineEvent::NoMajority { .. }
            | DisciplineEvent::TooFewSources { .. }
            | DisciplineEvent::CannotSynchronise => (8, "no_sys_peer".to_owned()),
            DisciplineEvent::Stepped(evidence) => (12, format!("clock_step {:+.6} s", evidence.by)),
            DisciplineEvent::StepRefused(refusal) => (7, format!("panic_stop {:+.0} s", refusal.by)),
            _ => return None,
        };
        let status = mode6::clock_status(&report().tracking, number);
        Some(format!("{PROTOCOL}{OF_THE_SYSTEM}{status:04x} {number:02x} {text}"))
    }

    /// The daemon starts.
    #[must_use]
    pub fn started(&self, report: &EngineReport) -> String {
        format!("{PROTOCOL}{OF_THE_SYSTEM}{:04x} 06 restart", mode6::clock_status(&report.tracking, 6))
    }
}

fn about(remote: &SocketAddr, status: u16, number: u16, text: &str) -> String {
    format!("{PROTOCOL}{} {status:04x} {number:02x} {text}", remote.ip().to_canonical())
}

/// The status word of an association of which an event is told.
fn state(id: SourceId, number: u16, report: &EngineReport) -> u16 {
    let is_it = |source: &&SourceReport| source.id == id.0;
    let status = report.sources.iter().find(is_it).map_or(0x8010, mode6::source_status);
    status & 0xfff0 | number
}

/// The exponent of a delay, as ntpd has its delays.
#[expect(clippy::cast_possible_truncation, reason = "from 0 to 31")]
fn exponent(seconds: f64) -> i32 {
    seconds.max(1.0).log2().round().min(31.0) as i32
}

#[cfg(test)]
mod tests {
    use super::*;
    use chime_engine::{KeFailure, SourceKey};

    fn words() -> NtpdWords {
        let nts = SourceFlags { iburst: true, named: true, nts: true, ..SourceFlags::default() };
        NtpdWords::new(BTreeMap::from([("ntp-a.test".to_owned(), nts)]))
    }

    #[test]
    fn lookups_have_the_flags_that_ntpd_shows() {
        assert_eq!(words().looking_up("ntp-a.test"), "DNS: dns_probe: ntp-a.test, cast_flags:1, flags:21901");
        assert_eq!(words().looking_up("other.test"), "DNS: dns_probe: other.test, cast_flags:1, flags:20801");
    }

    #[test]
    fn an_establishment_is_told_as_ntpd_tells_it() {
        let address = "10.77.0.1:4460".parse().expect("an address");
        assert_eq!(
            words().connecting("ntp-a.test", address)[0],
            "NTSc: connecting to ntp-a.test+4460 => 10.77.0.1:4460"
        );
        let outcome = Established {
            subject: "CN=ntp-a.test".into(),
            issuer: "O=Spec Lab, CN=Spec Lab CA".into(),
            names: vec!["ntp-a.test".into()],
            cookie_octets: 104,
            cookies: 8,
            aead: 15,
        };
        let lines = words().established("ntp-a.test", &outcome, 0.019);
        for line in [
            "NTSc: certificate subject name: CN=ntp-a.test",
            "NTSc: SAN:DNS ntp-a.test",
            "NTSc: certificate is valid.",
            "NTSc: Got 8 cookies, length 104, aead=15.",
            "NTSc: NTS-KE req to ntp-a.test took 0.019 sec, OK",
        ] {
            assert!(lines.iter().any(|one| one == line), "{line}: {lines:?}");
        }
        let failure = KeFailure { kind: "tls".into(), text: "no TLS".into(), network: false };
        let event = Event::EstablishmentFailed {
            source: SourceKey(0),
            name: "ntp-a.test".into(),
            failure,
            retry_seconds: 4096.0,
        };
        let lines = words().event(&event, EngineReport::default).expect("ntpd has words for it");
        assert_eq!(lines.last().map(String::as_str), Some("DNS: dns_take_status: ntp-a.test=>error, 12"));
    }

    #[test]
    fn events_have_status_words_that_end_in_their_number() {
        let mut words = words();
        let remote = "[fd77::1]:123".parse().expect("an address");
        let added = Event::AssociationAdded {
            association: SourceId(7),
            source: SourceKey(0),
            name: "ntp-a.test".into(),
            remote,
        };
        assert_eq!(
            words.event(&added, EngineReport::default),
            Some(vec!["PROTO: ntp-a.test c011 81 mobilize assoc 8".to_owned()])
        );
        let report = || EngineReport {
            sources: vec![SourceReport {
                id: 7,
                remote: Some(remote),
                reach: 1,
                state: '*',
                ..SourceReport::default()
            }],
            ..EngineReport::default()
        };
        let reachable = Event::Reachable { association: SourceId(7), remote };
        let lines = words.event(&reachable, report).expect("ntpd has words for it");
        assert_eq!(lines, ["PROTO: fd77::1 9614 84 reachable"]);
        let selected = Event::Discipline(DisciplineEvent::Selected(SourceId(7)));
        assert_eq!(words.event(&selected, report), Some(vec!["PROTO: fd77::1 961a 8a sys_peer".to_owned()]));
        let nobody = Event::Discipline(DisciplineEvent::CannotSynchronise);
        assert_eq!(words.event(&nobody, report), None, "our own words say why");
        assert_eq!(words.beside(&nobody, report).as_deref(), Some("PROTO: 0.0.0.0 c018 08 no_sys_peer"));
        assert_eq!(words.started(&EngineReport::default()), "PROTO: 0.0.0.0 c016 06 restart");
    }
}
