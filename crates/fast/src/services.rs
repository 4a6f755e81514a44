//! What is served where: the entries of the maps that name addresses.

use crate::layout::{SERVICE_KEY_OCTETS, SERVICE_OCTETS, service, service_key};
use chime_server::{Access, AccessList, Policy, RateLimitSettings, RequireNts, Subnet};
use core::fmt;
use core::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::collections::BTreeMap;

/// Entries of the map of services; addresses beyond are served by the sockets.
pub const SERVICES_MAX: usize = 4096;
/// Ranges of addresses of all access lists.
pub const SUBNETS_MAX: usize = 16_384;
/// Credit, nanoseconds, that nobody waits for, and to which the program can add any time that passes.
const CREDIT_NANOS_MAX: u64 = 1 << 62;
/// The one version that NTS is defined for. RFC 8915 §5.
const VERSION_NTS: u8 = 4;

/// What the program does for a listener.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Served {
    /// The versions whose plain requests are answered, bit 1 for version 1 and so on; and that of [`service::NTS`].
    versions: u32,
    /// Who is answered; `None`: everybody.
    pub allowed: Option<Vec<Subnet>>,
    /// How often each client is answered a plain request; `None`: always.
    limit: Option<RateLimitSettings>,
}

/// What there is for the program to do at a listener, and what is left to its sockets that one might not expect.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Judgement {
    /// `None`: nothing.
    pub served: Option<Served>,
    /// Why not all, or nothing.
    pub left: Option<NotServed>,
}

/// Why requests of a listener are left to its sockets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NotServed {
    /// Those with NTS: only sockets bring each client to the one worker that limits how often it is answered.
    RateLimit,
    /// All: plain requests get no time, and those with NTS are of a version that is not answered.
    NtsRequired,
    /// Nobody is on the access list.
    Nobody,
    /// For parts of the network other terms hold.
    NetworkTerms,
    /// The access list is longer than [`SUBNETS_MAX`] ranges.
    AccessListTooLong(usize),
}

impl fmt::Display for NotServed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RateLimit => f.write_str(
                "it has a rate limit, which with several threads only sockets keep for requests with NTS",
            ),
            Self::NtsRequired => {
                f.write_str("require-nts and accept-ntp-versions leave no request to answer")
            }
            Self::Nobody => f.write_str("its access list lets nobody in"),
            Self::NetworkTerms => f.write_str("it has network-terms, which only sockets keep"),
            Self::AccessListTooLong(ranges) => {
                write!(
                    f,
                    "its access list makes {ranges} ranges of addresses, and {SUBNETS_MAX} is the limit"
                )
            }
        }
    }
}

/// What the program can do for a listener with such a policy and so many workers, each of which has its own rate limits.
#[must_use]
pub fn judge(policy: &Policy, workers: usize) -> Judgement {
    // By name, so that whatever a policy gets besides has to be thought of here.
    let Policy {
        access,
        rate_limit,
        require_nts,
        versions,
        terms,
        // These are longer than what the program answers.
        signs: _,
        nts_nak_limit: _,
        clients_max: _,
        client_records: _,
        keys: _,
    } = policy;
    let nothing = |why| Judgement { served: None, left: Some(why) };
    if terms.is_some() {
        return nothing(NotServed::NetworkTerms);
    }
    let is_nts = versions.contains(VERSION_NTS);
    let left = (is_nts && rate_limit.is_some() && workers > 1).then_some(NotServed::RateLimit);
    let nts = if is_nts && left.is_none() { 1 << service::NTS } else { 0 };
    let plain = (1..=4).filter(|version| *require_nts == RequireNts::No && versions.contains(*version));
    let bits = plain.fold(nts, |bits, version| bits | 1 << version);
    if bits == 0 {
        return nothing(left.unwrap_or(NotServed::NtsRequired));
    }
    let everybody = *access == AccessList::uniform(Access::Allow);
    let allowed = (!everybody).then(|| access.allowed());
    match allowed.as_ref().map(Vec::len) {
        Some(0) => nothing(NotServed::Nobody),
        Some(ranges) if ranges > SUBNETS_MAX => nothing(NotServed::AccessListTooLong(ranges)),
        _ => Judgement { served: Some(Served { versions: bits, allowed, limit: *rate_limit }), left },
    }
}

/// A network interface of this machine.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// Our number of the program that works there; `None`: none does.
    pub number: Option<u16>,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// Its broadcast addresses.
    pub broadcasts: Vec<Ipv4Addr>,
    /// The interface that its frames come in by with a VLAN tag, when it is a VLAN.
    pub vlan_on: Option<String>,
}

/// A socket address that is served, and how.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ListenerRules {
    /// Address and port; the unspecified address is every one of its family.
    pub address: SocketAddr,
    /// The only interface it is served on.
    pub interface: Option<String>,
    /// What the program does; `None`: nothing.
    pub served: Option<Served>,
}

/// Entries of the map of services.
pub type ServiceTable = BTreeMap<[u8; SERVICE_KEY_OCTETS], [u8; SERVICE_OCTETS]>;

/// What is served on all interfaces where a program works; listeners are numbered in their order.
///
/// Each address of the machine is served on each interface, as sockets do. Our own addresses and those of broadcasts are
/// entered as senders, too, with port 0: nobody else sends from there.
#[must_use]
pub fn services(interfaces: &[Interface], listeners: &[ListenerRules]) -> ServiceTable {
    let mut table = ServiceTable::new();
    // A socket that is bound to more hears what others with less do not.
    let mut ordered: Vec<(u32, &ListenerRules)> = (0..).zip(listeners).collect();
    ordered.sort_by_key(|(_, one)| (!one.address.ip().is_unspecified(), one.interface.is_some()));
    for (here, number) in interfaces.iter().filter_map(|one| Some((one, one.number?))) {
        for address in addresses_at(here, interfaces) {
            for (listener, rules) in &ordered {
                let key = service_key(address, rules.address.port(), number);
                match &rules.served {
                    _ if !rules.hears(address, &here.name) => {}
                    Some(served) => drop(table.insert(key, entry(*listener, served))),
                    None => drop(table.remove(&key)),
                }
            }
        }
        let broadcasts = interfaces.iter().flat_map(|one| &one.broadcasts).map(|one| IpAddr::V4(*one));
        for sender in interfaces.iter().flat_map(|one| one.addresses.iter().copied()).chain(broadcasts) {
            table.insert(service_key(sender, 0, number), [0; SERVICE_OCTETS]);
        }
    }
    table
}

/// The number of the listener to which a request with NTS belongs that came in at an interface with this number; `None`:
/// it is not handed over, or not any more.
#[must_use]
pub fn listener_of(table: &ServiceTable, asked: SocketAddr, interface: u16) -> Option<usize> {
    let entry = table.get(&service_key(asked.ip(), asked.port(), interface))?;
    let number = |at: i16| {
        let octets = entry.get(usize::from(at.unsigned_abs())..)?.first_chunk()?;
        Some(u32::from_ne_bytes(*octets))
    };
    let is_nts = number(service::VERSIONS)? >> service::NTS & 1 == 1;
    is_nts.then(|| number(service::LISTENER))?.and_then(|listener| usize::try_from(listener).ok())
}

impl ListenerRules {
    fn hears(&self, address: IpAddr, interface: &str) -> bool {
        let ip = self.address.ip();
        let at_address = ip == address || (ip.is_unspecified() && ip.is_ipv4() == address.is_ipv4());
        at_address && self.interface.as_ref().is_none_or(|name| name == interface)
    }
}

/// The addresses that may be asked for at an interface: link-local ones there only, those of loopback nowhere, and none of its
/// VLANs: cards take tags off before the program sees a frame, and its answer would go out without.
fn addresses_at<'a>(here: &'a Interface, all: &'a [Interface]) -> impl Iterator<Item = IpAddr> + 'a {
    let is_local = |address: &IpAddr| match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    all.iter()
        .filter(|one| one.vlan_on.as_ref() != Some(&here.name))
        .flat_map(|one| one.addresses.iter().map(move |address| (one, *address)))
        .filter(move |(one, address)| !is_local(address) || one.name == here.name)
        .map(|(_, address)| address)
        .filter(|address| !address.is_loopback())
}

fn entry(listener: u32, served: &Served) -> [u8; SERVICE_OCTETS] {
    let listed = if served.allowed.is_some() { service::FLAG_LISTED } else { 0 };
    let limited = if served.limit.is_some() { service::FLAG_LIMITED } else { 0 };
    let mut octets = [0; SERVICE_OCTETS];
    let mut write = |at: i16, value: &[u8]| {
        let at = usize::from(at.unsigned_abs());
        octets[at..at + value.len()].copy_from_slice(value);
    };
    write(service::VERSIONS, &served.versions.to_ne_bytes());
    write(service::FLAGS, &(listed | limited).to_ne_bytes());
    write(service::LISTENER, &listener.to_ne_bytes());
    if let Some(limit) = &served.limit {
        // The eight bits that a responder draws for each decision are those of the random number in their order.
        let mask = |one_in: Option<u8>, shift: u32| {
            let bits = one_in.filter(|one_in| *one_in <= 8).map(|one_in| (1u64 << one_in) - 1);
            bits.map_or(service::NEVER, |bits| bits << shift)
        };
        write(service::COST, &limit.cost_nanos().min(CREDIT_NANOS_MAX).to_ne_bytes());
        write(service::CREDIT_MAX, &limit.credit_nanos_max().min(CREDIT_NANOS_MAX).to_ne_bytes());
        write(service::LEAK, &mask(limit.leak, 0).to_ne_bytes());
        write(service::KISS, &mask(limit.kiss, 8).to_ne_bytes());
    }
    octets
}

#[cfg(test)]
mod tests {
    use super::*;
    use chime_server::{AccessRule, TermsList, Versions};
    use core::time::Duration;

    fn interface(name: &str, number: Option<u16>, addresses: &[&str]) -> Interface {
        let addresses = addresses.iter().map(|text| text.parse().expect("an address")).collect();
        Interface {
            name: name.to_owned(),
            number,
            addresses,
            broadcasts: vec![Ipv4Addr::new(192, 0, 2, 255)],
            vlan_on: None,
        }
    }

    fn listener(address: &str, interface: Option<&str>, fast: bool) -> ListenerRules {
        ListenerRules {
            address: address.parse().expect("an address"),
            interface: interface.map(str::to_owned),
            served: judge(&Policy::open(), 2).served.filter(|_| fast),
        }
    }

    fn is_served(table: &ServiceTable, address: &str, interface: u16) -> bool {
        table.contains_key(&service_key(address.parse().expect("an address"), 123, interface))
    }

    #[test]
    fn every_address_of_the_machine_is_served_but_loopback_and_other_links() {
        let interfaces = [
            interface("lo", None, &["127.0.0.1", "::1"]),
            interface("eth0", Some(0), &["192.0.2.1", "fe80::1", "2001:db8::1"]),
            interface("eth1", Some(1), &["198.51.100.1", "fe80::2"]),
        ];
        let table = services(&interfaces, &[listener("0.0.0.0:123", None, true)]);
        assert!(is_served(&table, "192.0.2.1", 0) && is_served(&table, "192.0.2.1", 1));
        assert!(!is_served(&table, "127.0.0.1", 0) && !is_served(&table, "2001:db8::1", 0));
        let table = services(&interfaces, &[listener("[::]:123", Some("eth1"), true)]);
        assert!(is_served(&table, "2001:db8::1", 1) && !is_served(&table, "2001:db8::1", 0));
        assert!(is_served(&table, "fe80::2", 1) && !is_served(&table, "fe80::1", 1));
        assert!(!is_served(&table, "::1", 1));
    }

    #[test]
    fn addresses_of_vlans_are_left_to_sockets_where_their_tags_may_be_lost() {
        let vlan =
            Interface { vlan_on: Some("eth0".to_owned()), ..interface("eth0.10", Some(2), &["203.0.113.1"]) };
        let interfaces =
            [interface("eth0", Some(0), &["192.0.2.1"]), interface("eth1", Some(1), &["198.51.100.1"]), vlan];
        let table = services(&interfaces, &[listener("0.0.0.0:123", None, true)]);
        assert!(is_served(&table, "192.0.2.1", 0) && !is_served(&table, "203.0.113.1", 0));
        assert!(is_served(&table, "203.0.113.1", 1) && is_served(&table, "203.0.113.1", 2));
    }

    #[test]
    fn a_listener_that_is_bound_to_more_decides() {
        let interfaces = [interface("eth0", Some(3), &["192.0.2.1", "192.0.2.2"])];
        let listeners = [listener("192.0.2.1:123", None, false), listener("0.0.0.0:123", None, true)];
        let table = services(&interfaces, &listeners);
        assert!(!is_served(&table, "192.0.2.1", 3) && is_served(&table, "192.0.2.2", 3));
        let listeners = [listener("0.0.0.0:123", Some("eth0"), false), listener("0.0.0.0:123", None, true)];
        assert!(!is_served(&services(&interfaces, &listeners), "192.0.2.2", 3));
    }

    #[test]
    fn own_and_broadcast_addresses_are_known_as_senders() {
        let interfaces = [interface("eth0", Some(0), &["192.0.2.1"])];
        let table = services(&interfaces, &[]);
        for sender in ["192.0.2.1", "192.0.2.255"] {
            assert!(table.contains_key(&service_key(sender.parse().expect("an address"), 0, 0)), "{sender}");
        }
        assert_eq!(table.len(), 2);
    }

    #[test]
    fn what_only_sockets_do_is_left_to_them() {
        let why = |policy: &Policy, workers| {
            let Judgement { served, left } = judge(policy, workers);
            (served.map(|served| served.versions), left)
        };
        let only_nts = Some(1 << service::NTS);
        assert_eq!(why(&Policy::open(), 2), (Some(0b1_0001_1110), None));
        let limit = RateLimitSettings::from_cutoff(Duration::from_secs(1));
        let limited = Policy { rate_limit: Some(limit), ..Policy::open() };
        assert_eq!(why(&limited, 2), (Some(0b1_1110), Some(NotServed::RateLimit)));
        assert_eq!(why(&limited, 1), (Some(0b1_0001_1110), None));
        let nts = Policy { require_nts: RequireNts::Deny, ..Policy::open() };
        assert_eq!(why(&nts, 2), (only_nts, None));
        let both = Policy { rate_limit: Some(limit), ..nts.clone() };
        assert_eq!((why(&both, 1), why(&both, 2)), ((only_nts, None), (None, Some(NotServed::RateLimit))));
        let terms = Policy { terms: Some(TermsList::new(&[])), ..Policy::open() };
        assert_eq!(why(&terms, 1), (None, Some(NotServed::NetworkTerms)));
        let old = Policy { versions: Versions::only(&[3]), ..nts };
        assert_eq!(why(&old, 2), (None, Some(NotServed::NtsRequired)));
        assert_eq!(why(&Policy::closed(), 2), (None, Some(NotServed::Nobody)));
        let rule = |text: &str| AccessRule { allow: true, all: false, subnet: text.parse().ok() };
        let listed = Policy {
            versions: Versions::only(&[3]),
            ..Policy::new(AccessList::from_rules(&[rule("10.0.0.0/8")]))
        };
        let served = judge(&listed, 1).served.expect("served");
        assert_eq!((served.versions, served.allowed.map(|list| list.len())), (0b1000, Some(1)));
    }

    #[test]
    fn a_request_with_nts_belongs_to_the_listener_that_was_asked() {
        let interfaces = [interface("eth0", Some(3), &["192.0.2.1", "2001:db8::1"])];
        let old = Policy { versions: Versions::only(&[3]), ..Policy::open() };
        let mut listeners = [
            listener("[::]:123", None, true),
            listener("0.0.0.0:123", None, true),
            listener("0.0.0.0:124", None, true),
        ];
        listeners[2].served = judge(&old, 1).served;
        let table = services(&interfaces, &listeners);
        let of = |asked: &str, interface| listener_of(&table, asked.parse().expect("an address"), interface);
        assert_eq!((of("192.0.2.1:123", 3), of("[2001:db8::1]:123", 3)), (Some(1), Some(0)));
        assert_eq!((of("192.0.2.1:123", 2), of("192.0.2.9:123", 3)), (None, None));
        assert_eq!(of("192.0.2.1:124", 3), None, "not of this version");
        assert_eq!(of("192.0.2.1:0", 3), None, "a sender is no service");
    }
}
