//! How many connections there may be, and from whom.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Limits that all workers of a listener share.
#[derive(Debug)]
pub(super) struct Admission {
    per_address_max: usize,
    /// Whoever has a whole prefix of addresses has at most twice as much as one address.
    per_prefix_max: usize,
    connections: AtomicUsize,
    /// Only networks that are connected are in it, so that it is as bounded as the connections.
    by_network: Mutex<HashMap<Network, usize>>,
}

/// Addresses that count together: the first, and how many bits are its network's.
type Network = (IpAddr, u8);

/// The right of one connection to be there; given back when dropped.
#[derive(Debug)]
pub(super) struct Ticket {
    admission: Arc<Admission>,
    network: IpAddr,
}

impl Ticket {
    /// The address, or the network of 64 bits that counts as one.
    pub(super) const fn network(&self) -> IpAddr {
        self.network
    }
}

impl Admission {
    pub(super) fn new(per_address_max: usize) -> Arc<Self> {
        let (connections, by_network) = (AtomicUsize::new(0), Mutex::default());
        let per_prefix_max = per_address_max.saturating_mul(2);
        Arc::new(Self { per_address_max, per_prefix_max, connections, by_network })
    }

    /// How many connections there are.
    pub(super) fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// Whether so many connections have come from this address, or from those around it, that no more are let in.
    fn is_over(&self, by_network: &HashMap<Network, usize>, address: IpAddr) -> bool {
        let [one, prefix] =
            networks_of(address).map(|network| by_network.get(&network).copied().unwrap_or(0));
        one >= self.per_address_max || prefix >= self.per_prefix_max
    }

    /// Lets a connection in, unless there are too many from its address or prefix.
    pub(super) fn admit(self: &Arc<Self>, address: IpAddr) -> Option<Ticket> {
        let mut by_network = self.by_network.lock().unwrap_or_else(PoisonError::into_inner);
        if self.is_over(&by_network, address) {
            return None;
        }
        let networks = networks_of(address);
        for network in networks {
            *by_network.entry(network).or_default() += 1;
        }
        self.connections.fetch_add(1, Ordering::Relaxed);
        Some(Ticket { admission: self.clone(), network: networks[0].0 })
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut by_network = self.admission.by_network.lock().unwrap_or_else(PoisonError::into_inner);
        for network in networks_of(self.network) {
            if let Some(count) = by_network.get_mut(&network) {
                *count -= 1;
                if *count == 0 {
                    by_network.remove(&network);
                }
            }
        }
        self.admission.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What counts as one address (an IPv6 host has a whole network of 64 bits), and what is given to one customer or
/// company at most: 24 bits of IPv4, 48 of IPv6.
fn networks_of(address: IpAddr) -> [Network; 2] {
    match address.to_canonical() {
        IpAddr::V4(v4) => {
            let prefix = Ipv4Addr::from_bits(v4.to_bits() >> 8 << 8);
            [(v4.into(), 32), (prefix.into(), 24)]
        }
        IpAddr::V6(v6) => {
            let network = |bits: u8| Ipv6Addr::from_bits(v6.to_bits() >> (128 - bits) << (128 - bits));
            [(network(64).into(), 64), (network(48).into(), 48)]
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn limits_hold_and_are_given_back() {
        let admission = Admission::new(2);
        let one = admission.admit(address("192.0.2.1")).expect("first");
        let two = admission.admit(address("::ffff:192.0.2.1")).expect("second");
        assert!(admission.admit(address("192.0.2.1")).is_none(), "two from one address");
        let other = admission.admit(address("192.0.2.2")).expect("third");
        drop(one);
        assert_eq!(admission.connections(), 2);
        let again = admission.admit(address("192.0.2.1")).expect("there is room again");
        drop(two);
        drop(other);
        drop(again);
        assert_eq!(admission.connections(), 0);
        assert!(
            admission.by_network.lock().expect("not poisoned").is_empty(),
            "nothing is kept of who has gone"
        );
    }

    #[test]
    fn a_prefix_has_twice_as_much_as_an_address() {
        for (inside, outside) in [("192.0.2", "192.0.3.1"), ("2001:db8:0:", "2001:db8:1::1")] {
            let admission = Admission::new(2);
            let host = |number: usize| {
                let text = if inside.contains(':') {
                    format!("{inside}{number}::1")
                } else {
                    format!("{inside}.{number}")
                };
                address(&text)
            };
            let held: Vec<_> =
                (1..=4).map(|number| admission.admit(host(number)).expect("four hosts")).collect();
            assert!(admission.admit(host(5)).is_none(), "{inside}");
            assert!(admission.admit(address(outside)).is_some(), "{outside}");
            drop(held);
            assert!(admission.admit(host(5)).is_some());
        }
    }

    #[test]
    fn an_ipv6_network_of_64_bits_counts_as_one_address() {
        let admission = Admission::new(1);
        let _one = admission.admit(address("2001:db8::1")).expect("first");
        assert!(admission.admit(address("2001:db8::2")).is_none());
        assert!(admission.admit(address("2001:db8:0:1::1")).is_some());
    }
}
