//! The interfaces of this machine, and noticing that the network changed: an address, a link or a route came or went.
//!
//! The notice is only a hint, to try again at once what failed before; where the kernel offers no such socket, timers do it later.

use crate::address::socklen;
use crate::descriptor::{check, check_octets, socket, zeroed};
use crate::network_card::with_data;
use nix::net::if_::InterfaceFlags;
use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// An interface of this machine, as it is now.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Interface {
    /// The kernel's number of it.
    pub index: u32,
    /// Its own address on the cable; `None` where there is no such thing.
    pub hardware_address: Option<[u8; 6]>,
    /// Whether it is switched on.
    pub is_up: bool,
    /// Whether it leads nowhere but back.
    pub is_loopback: bool,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// Addresses that mean everybody on its network.
    pub broadcasts: Vec<Ipv4Addr>,
    /// The interface that its frames come in by with a VLAN tag, when it is a VLAN.
    pub vlan_on: Option<String>,
}

/// All interfaces by name.
pub fn interfaces() -> io::Result<BTreeMap<String, Interface>> {
    let mut interfaces = BTreeMap::<String, Interface>::new();
    for entry in nix::ifaddrs::getifaddrs()? {
        let one = interfaces.entry(entry.interface_name).or_default();
        one.is_up |= entry.flags.contains(InterfaceFlags::IFF_UP);
        one.is_loopback |= entry.flags.contains(InterfaceFlags::IFF_LOOPBACK);
        let Some(address) = entry.address else { continue };
        if let Some(link) = address.as_link_addr() {
            one.index = u32::try_from(link.ifindex()).unwrap_or(0);
            one.hardware_address = link.addr();
        } else if let Some(v4) = address.as_sockaddr_in() {
            one.addresses.push(v4.ip().into());
            let has_broadcast = entry.flags.contains(InterfaceFlags::IFF_BROADCAST);
            let broadcast = entry.broadcast.filter(|_| has_broadcast);
            one.broadcasts.extend(broadcast.and_then(|one| Some(one.as_sockaddr_in()?.ip())));
        } else if let Some(v6) = address.as_sockaddr_in6() {
            one.addresses.push(v6.ip().into());
        }
    }
    // Not there when the kernel has no VLANs, or has not needed them yet.
    let vlans = std::fs::read_to_string("/proc/thread-self/net/vlan/config").unwrap_or_default();
    for (name, on) in vlans_of(&vlans) {
        interfaces.entry(name.to_owned()).and_modify(|one| one.vlan_on = Some(on.to_owned()));
    }
    Ok(interfaces)
}

/// VLANs and what they are on, in lines like `eth0.10 | 10 | eth0`; two lines of headings have fewer columns.
fn vlans_of(list: &str) -> impl Iterator<Item = (&str, &str)> {
    list.lines().filter_map(|line| {
        let mut columns = line.split('|').map(str::trim);
        match (columns.next(), columns.next(), columns.next()) {
            (Some(name), Some(_), Some(on)) => Some((name, on)),
            _ => None,
        }
    })
}

/// The name of the driver of an interface, as `ethtool -i` shows it.
pub fn driver_of(interface: &str) -> io::Result<String> {
    const GET_DRIVER_INFORMATION: u32 = 3;
    const NAME: std::ops::Range<usize> = 4..36;
    // `struct ethtool_drvinfo`: the command, four texts of 32 octets, 12 reserved octets, five numbers.
    let mut information = [0u32; 49];
    information[0] = GET_DRIVER_INFORMATION;
    with_data(interface, &mut information, libc::SIOCETHTOOL)?;
    let octets: Vec<u8> = information.iter().flat_map(|word| word.to_ne_bytes()).collect();
    let name = octets[NAME].split(|octet| *octet == 0).next().unwrap_or_default();
    Ok(String::from_utf8_lossy(name).into_owned())
}

/// Messages taken in one go; a storm of them is one change.
const MESSAGES_MAX: usize = 256;

/// A routing socket of the kernel.
#[derive(Debug)]
pub struct NetworkMonitor(OwnedFd);

impl NetworkMonitor {
    /// Subscribes to changes of addresses, links and routes. A failure is worth a warning, not an end.
    pub fn open() -> io::Result<Self> {
        let fd = socket(libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_ROUTE)?;
        // SAFETY: sockaddr_nl is plain old data, for which all zeroes is a valid value.
        let mut address: libc::sockaddr_nl = unsafe { zeroed() };
        #[expect(clippy::cast_possible_truncation, reason = "address families are small numbers")]
        {
            address.nl_family = libc::AF_NETLINK as libc::sa_family_t;
        }
        address.nl_groups = (libc::RTMGRP_LINK
            | libc::RTMGRP_IPV4_IFADDR
            | libc::RTMGRP_IPV6_IFADDR
            | libc::RTMGRP_IPV4_ROUTE
            | libc::RTMGRP_IPV6_ROUTE)
            .cast_unsigned();
        // SAFETY: the pointer and the length describe the address, alive during the call.
        check(unsafe {
            libc::bind(fd.as_raw_fd(), (&raw const address).cast(), socklen::<libc::sockaddr_nl>())
        })?;
        Ok(Self(fd))
    }

    /// Takes what waits; true when something changed. An overrun of the queue counts as a change.
    pub fn take_changes(&self) -> bool {
        let mut message = [0u8; 8192];
        let mut changed = false;
        for _ in 0..MESSAGES_MAX {
            // SAFETY: the pointer and the length describe the array.
            let octets =
                unsafe { libc::recv(self.0.as_raw_fd(), message.as_mut_ptr().cast(), message.len(), 0) };
            match check_octets(octets) {
                Ok(octets) => changed |= has_change(&message[..octets.min(message.len())]),
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => changed = true,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => break,
            }
        }
        changed
    }
}

impl AsFd for NetworkMonitor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Whether one of the messages tells of an address, link or route that came or went.
fn has_change(mut octets: &[u8]) -> bool {
    while let Some((length, kind)) = header(octets) {
        let body = octets.get(size_of::<libc::nlmsghdr>()..length).unwrap_or_default();
        let changes = match kind {
            libc::RTM_NEWADDR => !lives_on(body),
            libc::RTM_NEWLINK => attribute(body, LINK_HEADER_OCTETS, IFLA_WIRELESS).is_none(),
            libc::RTM_DELADDR | libc::RTM_DELLINK | libc::RTM_NEWROUTE | libc::RTM_DELROUTE => true,
            _ => false,
        };
        if changes {
            return true;
        }
        octets = octets.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    false
}

/// `struct ifinfomsg`.
const LINK_HEADER_OCTETS: usize = 16;
/// `struct ifaddrmsg`.
const ADDRESS_HEADER_OCTETS: usize = 8;
/// What a radio has to say, as that it looked around: nothing of the link itself.
const IFLA_WIRELESS: u16 = 11;
/// `struct ifa_cacheinfo`: two lifetimes, and when the address was made and last touched.
const IFA_CACHEINFO: u16 = 6;

/// Whether an address was touched after it was made: its lifetime is another one, as whenever a router advertises its network
/// again (every few minutes or seconds) or a lease is renewed.
fn lives_on(body: &[u8]) -> bool {
    let lifetimes = attribute(body, ADDRESS_HEADER_OCTETS, IFA_CACHEINFO);
    lifetimes.is_some_and(|value| matches!((value.get(8..12), value.get(12..16)), (Some(made), Some(touched)) if made != touched))
}

/// The value of an attribute that follows the header of a message.
fn attribute(body: &[u8], header_octets: usize, wanted: u16) -> Option<&[u8]> {
    let mut rest = body.get(header_octets..)?;
    loop {
        let length = usize::from(u16::from_ne_bytes(rest.get(..2)?.try_into().ok()?));
        let kind = u16::from_ne_bytes(rest.get(2..4)?.try_into().ok()?);
        let value = rest.get(4..length)?;
        if kind == wanted {
            return Some(value);
        }
        rest = rest.get(length.next_multiple_of(4)..)?;
    }
}

/// Length and type of the first message: the start of `nlmsghdr`.
fn header(octets: &[u8]) -> Option<(usize, u16)> {
    let length = u32::from_ne_bytes(octets.get(..4)?.try_into().ok()?) as usize;
    let kind = u16::from_ne_bytes(octets.get(4..6)?.try_into().ok()?);
    (length >= size_of::<libc::nlmsghdr>()).then_some((length, kind))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vlans_are_read_from_the_kernels_list() {
        let list = "VLAN Dev name    | VLAN ID\nName-Type: VLAN_NAME_TYPE_RAW_PLUS_VID_NO_PAD\n\
                    eth0.10        | 10  | eth0\nguests         | 4094  | bond0\n";
        assert!(vlans_of(list).eq([("eth0.10", "eth0"), ("guests", "bond0")]));
        assert_eq!(vlans_of("").count(), 0);
    }

    fn message(kind: impl TryInto<u16>, length: u32) -> Vec<u8> {
        let kind = kind.try_into().unwrap_or(0);
        let mut octets = vec![0; 16];
        octets[..4].copy_from_slice(&length.to_ne_bytes());
        octets[4..6].copy_from_slice(&kind.to_ne_bytes());
        octets
    }

    #[test]
    fn changes_are_told_from_other_messages() {
        let other = message(libc::NLMSG_DONE, 16);
        assert!(has_change(&message(libc::RTM_NEWADDR, 16)));
        assert!(!has_change(&other));
        assert!(has_change(&[other.clone(), message(libc::RTM_DELROUTE, 16)].concat()));
        for length in [0, 15, 17, u32::MAX] {
            assert!(!has_change(&message(libc::NLMSG_NOOP, length)), "{length}");
        }
        assert!(!has_change(&other[..5]));
    }

    /// An attribute: its length, its kind, its value.
    fn encoded(kind: u16, value: &[u8]) -> Vec<u8> {
        let length = u16::try_from(value.len() + 4).unwrap_or(0);
        [&length.to_ne_bytes()[..], &kind.to_ne_bytes(), value].concat()
    }

    fn with(kind: u16, body: &[u8]) -> Vec<u8> {
        [message(kind, u32::try_from(16 + body.len()).unwrap_or(0)), body.to_vec()].concat()
    }

    /// An address of IPv6 as the kernel tells it, with the times at which it was made and last touched.
    fn address_made_and_touched(kind: u16, made: u32, touched: u32) -> Vec<u8> {
        let lifetimes: Vec<u8> = [500, 1000, made, touched].into_iter().flat_map(u32::to_ne_bytes).collect();
        let head = [10, 64, 0, 0, 3, 0, 0, 0];
        with(kind, &[&head[..], &encoded(1, &[0; 16]), &encoded(6, &lifetimes)].concat())
    }

    #[test]
    fn a_router_that_repeats_itself_changes_nothing() {
        // As seen of Linux 6: made, free of duplicates, then advertised again, and again.
        assert!(has_change(&address_made_and_touched(libc::RTM_NEWADDR, 7_108_311, 7_108_311)));
        let again = address_made_and_touched(libc::RTM_NEWADDR, 7_108_311, 7_108_555);
        assert!(!has_change(&again), "an address that lives on is no new one");
        assert!(has_change(&address_made_and_touched(libc::RTM_DELADDR, 7_108_311, 7_108_555)));
        assert!(has_change(&[again.clone(), message(libc::RTM_DELROUTE, 16)].concat()));
        for length in 16..again.len() {
            let mut cut = again[..length].to_vec();
            cut[..4].copy_from_slice(&u32::try_from(length).unwrap_or(0).to_ne_bytes());
            assert!(has_change(&cut), "what is not understood counts: {length}");
        }
    }

    #[test]
    fn what_a_radio_says_of_itself_changes_nothing() {
        let link = |attributes: &[u8]| with(libc::RTM_NEWLINK, &[&[0; 16][..], attributes].concat());
        let name = encoded(3, b"eth\0");
        assert!(has_change(&link(&name)));
        assert!(!has_change(&link(&[name.clone(), encoded(11, &[0; 8])].concat())), "a scan");
        assert!(has_change(&link(&name[..3])), "cut short");
        assert!(has_change(&link(&[0, 0, 11, 0])), "an attribute without end");
    }

    #[test]
    fn loopback_has_its_address() {
        let interfaces = interfaces().expect("interfaces");
        let loopback = interfaces.values().find(|one| one.is_loopback).expect("there is one");
        assert_ne!(loopback.index, 0);
        // In a fresh network namespace it is switched off and has none.
        let address = IpAddr::from([127, 0, 0, 1]);
        assert_eq!(loopback.addresses.contains(&address), loopback.is_up, "{loopback:?}");
    }

    #[test]
    fn what_has_no_driver_has_none() {
        assert!(driver_of("no-such-one").is_err() && driver_of(&"x".repeat(40)).is_err());
    }

    #[test]
    fn looking_for_changes_does_not_wait_for_one() {
        NetworkMonitor::open().unwrap().take_changes();
    }
}
