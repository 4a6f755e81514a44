//! `restrict`: who is answered, and how.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use chime_server::Subnet;

use super::Reader;
use super::line::{Fault, Line, Parsed, Word, unknown};
use crate::{AccessRule, AddressFamily, Diagnostic, NtpqRule, Severity, Terms, TermsRule};

const FLAGS: &[&str] = &[
    "flake",
    "ignore",
    "kod",
    "limited",
    "mssntp",
    "nomodify",
    "nomrulist",
    "nopeer",
    "noquery",
    "noserve",
    "notrap",
    "notrust",
    "ntpport",
    "version",
];
/// What ntpd itself begins with, for both families.
const BUILT_IN: [&str; 2] = ["limited", "noquery"];
/// Flags that turn requests for the time away.
const CLOSED: [&str; 2] = ["ignore", "noserve"];

/// What holds for each network; the longest prefix decides.
pub(super) struct Restrictions {
    networks: BTreeMap<Subnet, BTreeSet<&'static str>>,
}

impl Default for Restrictions {
    fn default() -> Self {
        let flags: BTreeSet<&str> = BUILT_IN.into_iter().collect();
        let both = [Subnet::ALL_V4, Subnet::ALL_V6].map(|subnet| (subnet, flags.clone()));
        Self { networks: both.into_iter().collect() }
    }
}

enum Whom {
    Networks(Vec<Subnet>),
    /// The template for the addresses of sources.
    Sources,
    /// Given by a name: its addresses, or why they are not known.
    Named(Result<Vec<Subnet>, String>),
}

/// One `restrict` line.
pub(super) fn read(reader: &mut Reader<'_>, line: &mut Line<'_>) -> Parsed<()> {
    let (whom, word) = whom(reader, line)?;
    let mut flags = BTreeSet::new();
    let result = read_flags(reader, line, &mut flags);
    if let Some(networks) = known_networks(reader, line, &word, whom) {
        // What holds for one port only cannot be told apart here, and must not hold for all.
        if flags.contains("ntpport") {
            reader.no_effect(line, &word, "a restriction of the port 123 alone cannot be made");
            return result;
        }
        for network in &networks {
            reader.restrictions.networks.entry(*network).or_default().extend(&flags);
        }
        note_useless_kiss(reader, line, &word, &networks);
        if flags.contains("notrust") && networks.iter().all(|network| network.prefix() > 0) {
            let message = "requests from there need authentication, and so do answers of servers that are given by their \
                           address; for those given by name ntpd asks for it, too, and here `nts` or `key` do";
            reader.warn(line, &word, message);
        }
    }
    result
}

/// The networks of a line, if they are known; that a name stands for them is said.
fn known_networks(
    reader: &mut Reader<'_>,
    line: &Line<'_>,
    word: &Word<'_>,
    whom: Whom,
) -> Option<Vec<Subnet>> {
    match whom {
        Whom::Networks(networks) => Some(networks),
        Whom::Sources => None,
        Whom::Named(Ok(hosts)) => {
            let shown: Vec<String> = hosts.iter().map(|host| host.address().to_string()).collect();
            let shown = shown.join(", ");
            let message =
                format!("`{}` is looked up when the configuration is read, and is {shown} now", word.text);
            reader.warn(line, word, &message);
            Some(hosts)
        }
        Whom::Named(Err(reason)) => {
            reader.no_effect(line, word, &format!("its addresses are not known: {reason}"));
            None
        }
    }
}

/// One `unrestrict` line.
pub(super) fn read_removal(reader: &mut Reader<'_>, line: &mut Line<'_>) -> Parsed<()> {
    let (whom, word) = whom(reader, line)?;
    let mut flags = BTreeSet::new();
    let result = read_flags(reader, line, &mut flags);
    if let Some(networks) = known_networks(reader, line, &word, whom) {
        for network in networks {
            let is_default = network.prefix() == 0;
            if flags.is_empty() && !is_default {
                reader.restrictions.networks.remove(&network);
            } else if let Some(own) = reader.restrictions.networks.get_mut(&network) {
                own.retain(|flag| !flags.contains(flag));
            }
        }
    }
    result
}

/// Address, mask and family, up to the flags.
fn whom<'t>(reader: &Reader<'_>, line: &mut Line<'t>) -> Parsed<(Whom, Word<'t>)> {
    let family = super::association::family(line);
    let word = line.require("an address, a network, `default` or `source`")?;
    let both = |v4, v6| [(v4, Subnet::ALL_V4), (v6, Subnet::ALL_V6)];
    match word.text {
        "default" => {
            let wanted = both(family != AddressFamily::V6, family != AddressFamily::V4);
            let networks = wanted.into_iter().filter(|(wanted, _)| *wanted).map(|(_, network)| network);
            return Ok((Whom::Networks(networks.collect()), word));
        }
        "source" => return Ok((Whom::Sources, word)),
        _ => {}
    }
    let (address, prefix) = word.text.split_once('/').unwrap_or((word.text, ""));
    let Ok(address) = address.trim_matches(['[', ']']).parse::<IpAddr>() else {
        return Ok((Whom::Named(hosts_of(reader, word.text, family)), word));
    };
    let host = Subnet::host(address);
    let mut network = host;
    // A length of 0 or what is no number is overlooked by ntpd, which then takes the address alone.
    if let Ok(prefix @ 1..) = prefix.parse::<u8>() {
        network = Subnet::new(address, prefix).unwrap_or(host);
    }
    if line.peek().is_some_and(|word| word.text == "mask") {
        line.next();
        let mask = line.require("a mask")?;
        let prefix = mask.text.parse().ok().and_then(|mask| prefix_of(address, mask));
        network = prefix
            .and_then(|prefix| Subnet::new(address, prefix).ok())
            .ok_or_else(|| Fault::new(&mask, format!("`{}` is no mask of ones before zeros", mask.text)))?;
    }
    Ok((Whom::Networks(vec![network]), word))
}

/// The addresses of a name, of the families that are meant.
fn hosts_of(reader: &Reader<'_>, name: &str, family: AddressFamily) -> Result<Vec<Subnet>, String> {
    const HOSTS_MAX: usize = 64;
    let is_meant = |address: &IpAddr| match family {
        AddressFamily::Any => true,
        AddressFamily::V4 => address.is_ipv4(),
        AddressFamily::V6 => address.is_ipv6(),
    };
    let addresses = (reader.names)(name)?;
    let hosts: Vec<Subnet> =
        addresses.into_iter().filter(is_meant).take(HOSTS_MAX).map(Subnet::host).collect();
    if hosts.is_empty() { Err("it has none of the family that is meant".to_owned()) } else { Ok(hosts) }
}

/// The length of a mask; `None` when it has holes or belongs to the other family.
fn prefix_of(address: IpAddr, mask: IpAddr) -> Option<u8> {
    let (ones, length) = match (address, mask) {
        (IpAddr::V4(_), IpAddr::V4(mask)) => {
            let bits = mask.to_bits();
            (bits.leading_ones(), bits.count_ones())
        }
        (IpAddr::V6(_), IpAddr::V6(mask)) => {
            let bits = mask.to_bits();
            (bits.leading_ones(), bits.count_ones())
        }
        _ => return None,
    };
    (ones == length).then(|| u8::try_from(ones).ok()).flatten()
}

fn read_flags(
    reader: &mut Reader<'_>,
    line: &mut Line<'_>,
    flags: &mut BTreeSet<&'static str>,
) -> Parsed<()> {
    while let Some(word) = line.next() {
        let flag =
            FLAGS.iter().find(|flag| **flag == word.text).ok_or_else(|| unknown(&word, "flag", FLAGS))?;
        match *flag {
            "nopeer" | "notrap" => {
                reader.no_effect(
                    line,
                    &word,
                    "nobody can become a peer or set a trap without being configured",
                );
            }
            flag => {
                if flag == "mssntp" {
                    reader.signing_place.get_or_insert_with(|| {
                        Diagnostic::new(Severity::Warning, line.text, &word.span(), "", None)
                    });
                }
                flags.insert(flag);
            }
        }
    }
    Ok(())
}

/// What ntpd says when it is told to announce a limit that there is not.
fn note_useless_kiss(reader: &mut Reader<'_>, line: &Line<'_>, word: &Word<'_>, networks: &[Subnet]) {
    let has = |network: &Subnet, flag| {
        reader.restrictions.networks.get(network).is_some_and(|flags| flags.contains(flag))
    };
    if networks.iter().any(|network| has(network, "kod") && !has(network, "limited")) {
        reader.warn(line, word, "`kod` does nothing without `limited`, as with ntpd");
    }
}

impl Restrictions {
    /// The flags of each network that gets the time.
    fn served(&self) -> impl Iterator<Item = (&Subnet, &BTreeSet<&'static str>)> {
        self.networks.iter().filter(|(_, flags)| !CLOSED.iter().any(|flag| flags.contains(flag)))
    }

    /// Whether anybody is limited in how often they ask.
    pub(super) fn limits_any(&self) -> bool {
        self.served().any(|(_, flags)| flags.contains("limited"))
    }

    /// Whether anybody beyond the limit is told.
    pub(super) fn kisses_any(&self) -> bool {
        self.served().any(|(_, flags)| flags.contains("limited") && flags.contains("kod"))
    }

    /// Whether anybody's answers are signed by Samba.
    pub(super) fn signs_any(&self) -> bool {
        self.served().any(|(_, flags)| flags.contains("mssntp"))
    }

    /// Whether unauthenticated packets from everybody are dropped, requests and answers.
    pub(super) fn distrusts_all(&self) -> bool {
        let defaults = [Subnet::ALL_V4, Subnet::ALL_V6].into_iter();
        defaults.filter_map(|network| self.networks.get(&network)).any(|flags| flags.contains("notrust"))
    }

    /// Whether unauthenticated packets from an address are dropped.
    pub(super) fn distrusts(&self, address: IpAddr) -> bool {
        let host = Subnet::host(address);
        let holding = self.networks.iter().filter(|(network, _)| network.covers(&host));
        holding
            .max_by_key(|(network, _)| network.prefix())
            .is_some_and(|(_, flags)| flags.contains("notrust"))
    }

    /// The versions that anybody is answered in.
    pub(super) fn versions(&self) -> Vec<u8> {
        let newest_only = self.served().all(|(_, flags)| flags.contains("version"));
        if newest_only { vec![4] } else { vec![1, 2, 3, 4] }
    }

    /// What holds for each network beside what holds for all: nothing when it is the same everywhere.
    pub(super) fn terms(&self) -> Vec<TermsRule> {
        let (limits, kisses, newest_only) = (self.limits_any(), self.kisses_any(), self.versions() == [4]);
        let signs = self.signs_any();
        let rule = |(network, flags): (&Subnet, &BTreeSet<&str>)| {
            let limited = flags.contains("limited") || !limits;
            let terms = Terms {
                limited,
                kiss: flags.contains("kod") || !kisses || !limited,
                authenticated: flags.contains("notrust"),
                newest_only: flags.contains("version") && !newest_only,
                signed: flags.contains("mssntp") || !signs,
                flaky: flags.contains("flake"),
            };
            TermsRule { subnet: *network, terms }
        };
        let rules: Vec<TermsRule> = self.served().map(rule).collect();
        if rules.iter().all(|rule| rule.terms == Terms::USUAL) { Vec::new() } else { rules }
    }

    /// Who may ask with ntpq, by the longest prefix.
    pub(super) fn ntpq_rules(&self) -> Vec<NtpqRule> {
        let rule = |(network, flags): (&Subnet, &BTreeSet<&str>)| NtpqRule {
            subnet: *network,
            query: !flags.contains("noquery") && !flags.contains("ignore"),
            modify: !flags.contains("nomodify"),
            clients: !flags.contains("nomrulist"),
        };
        self.networks.iter().map(rule).collect()
    }

    /// Who gets the time, by the longest prefix.
    pub(super) fn rules(&self) -> Vec<AccessRule> {
        let rule = |(network, flags): (&Subnet, &BTreeSet<&str>)| {
            let closed = CLOSED.iter().any(|flag| flags.contains(flag));
            AccessRule { allow: !closed, all: false, subnet: Some(*network) }
        };
        self.networks.iter().map(rule).collect()
    }
}
