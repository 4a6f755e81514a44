//! What is served where: the entries of the maps that name addresses.

use crate::layout::{SERVICE_KEY_OCTETS, SERVICE_OCTETS, service, service_key};
use chime_server::{Access, AccessList, Policy, RequireNts, Subnet};
use core::fmt;
use core::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::collections::BTreeMap;

/// Entries of the map of services; addresses beyond are served by the sockets.
pub const SERVICES_MAX: usize = 4096;
/// Ranges of addresses of all access lists.
pub const SUBNETS_MAX: usize = 16_384;

/// How a listener answers in the program.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Served {
    /// The versions that are answered: bit 1 for version 1, and so on.
    versions: u32,
    /// Who is answered; `None`: everybody.
    pub allowed: Option<Vec<Subnet>>,
}

/// Why a listener's requests are all left to its sockets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NotServed {
    /// Only sockets limit how often each client is answered.
    RateLimit,
    /// Plain requests get no time.
    NtsRequired,
    /// Nobody is on the access list.
    Nobody,
    /// The access list is longer than [`SUBNETS_MAX`] ranges.
    AccessListTooLong(usize),
}

impl fmt::Display for NotServed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RateLimit => f.write_str("it has a rate limit, which only sockets keep"),
            Self::NtsRequired => f.write_str("require-nts leaves no plain request to answer"),
            Self::Nobody => f.write_str("its access list lets nobody in"),
            Self::AccessListTooLong(ranges) => {
                write!(
                    f,
                    "its access list makes {ranges} ranges of addresses, and {SUBNETS_MAX} is the limit"
                )
            }
        }
    }
}

/// How a listener with such a policy can answer in the program.
///
/// # Errors
/// When it cannot: the sockets answer then.
pub fn judge(policy: &Policy) -> Result<Served, NotServed> {
    // By name, so that whatever a policy gets besides has to be thought of here.
    let Policy {
        access,
        rate_limit,
        require_nts,
        versions,
        nts_nak_limit: _,
        clients_max: _,
        client_records: _,
        keys: _,
    } = policy;
    if rate_limit.is_some() {
        return Err(NotServed::RateLimit);
    }
    if *require_nts != RequireNts::No {
        return Err(NotServed::NtsRequired);
    }
    let versions = (1..=4).filter(|version| versions.contains(*version));
    let versions = versions.fold(0, |bits, version| bits | 1 << version);
    let everybody = *access == AccessList::uniform(Access::Allow);
    let allowed = (!everybody).then(|| access.allowed());
    match allowed.as_ref().map(Vec::len) {
        Some(0) => Err(NotServed::Nobody),
        Some(ranges) if ranges > SUBNETS_MAX => Err(NotServed::AccessListTooLong(ranges)),
        _ => Ok(Served { versions, allowed }),
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
}

/// A socket address that is served, and how.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ListenerRules {
    /// Address and port; the unspecified address is every one of its family.
    pub address: SocketAddr,
    /// The only interface it is served on.
    pub interface: Option<String>,
    /// How the program answers; `None`: not at all.
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

impl ListenerRules {
    fn hears(&self, address: IpAddr, interface: &str) -> bool {
        let ip = self.address.ip();
        let at_address = ip == address || (ip.is_unspecified() && ip.is_ipv4() == address.is_ipv4());
        at_address && self.interface.as_ref().is_none_or(|name| name == interface)
    }
}

/// The addresses that may be asked for at an interface: link-local ones there only, those of loopback nowhere.
fn addresses_at<'a>(here: &'a Interface, all: &'a [Interface]) -> impl Iterator<Item = IpAddr> + 'a {
    let is_local = |address: &IpAddr| match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    all.iter()
        .flat_map(|one| one.addresses.iter().map(move |address| (one, *address)))
        .filter(move |(one, address)| !is_local(address) || one.name == here.name)
        .map(|(_, address)| address)
        .filter(|address| !address.is_loopback())
}

fn entry(listener: u32, served: &Served) -> [u8; SERVICE_OCTETS] {
    let flags = if served.allowed.is_some() { service::FLAG_LISTED } else { 0 };
    let mut octets = [0; SERVICE_OCTETS];
    for (at, value) in
        [(service::VERSIONS, served.versions), (service::FLAGS, flags), (service::LISTENER, listener)]
    {
        let at = usize::from(at.unsigned_abs());
        octets[at..at + 4].copy_from_slice(&value.to_ne_bytes());
    }
    octets
}

#[cfg(test)]
mod tests {
    use super::*;
    use chime_server::{AccessRule, RateLimitSettings, Versions};
    use core::time::Duration;

    fn interface(name: &str, number: Option<u16>, addresses: &[&str]) -> Interface {
        let addresses = addresses.iter().map(|text| text.parse().expect("an address")).collect();
        Interface {
            name: name.to_owned(),
            number,
            addresses,
            broadcasts: vec![Ipv4Addr::new(192, 0, 2, 255)],
        }
    }

    fn listener(address: &str, interface: Option<&str>, fast: bool) -> ListenerRules {
        ListenerRules {
            address: address.parse().expect("an address"),
            interface: interface.map(str::to_owned),
            served: fast.then(|| judge(&Policy::open()).expect("served")),
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
        let limit = RateLimitSettings::from_cutoff(Duration::from_secs(1));
        let limited = Policy { rate_limit: Some(limit), ..Policy::open() };
        assert_eq!(judge(&limited), Err(NotServed::RateLimit));
        let nts = Policy { require_nts: RequireNts::Deny, ..Policy::open() };
        assert_eq!(judge(&nts), Err(NotServed::NtsRequired));
        assert_eq!(judge(&Policy::closed()), Err(NotServed::Nobody));
        let rule = |text: &str| AccessRule { allow: true, all: false, subnet: text.parse().ok() };
        let listed = Policy {
            versions: Versions::only(&[3, 4]),
            ..Policy::new(AccessList::from_rules(&[rule("10.0.0.0/8")]))
        };
        let served = judge(&listed).expect("served");
        assert_eq!((served.versions, served.allowed.map(|list| list.len())), (0b1_1000, Some(1)));
    }
}
