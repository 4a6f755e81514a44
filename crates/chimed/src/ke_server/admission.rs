//! How many connections there may be, and from whom.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Limits that all workers of a listener share.
#[derive(Debug)]
pub(super) struct Admission {
    connections_max: usize,
    per_address_max: usize,
    connections: AtomicUsize,
    /// Only addresses that are connected are in it, so that it is as bounded as the connections.
    by_address: Mutex<HashMap<IpAddr, usize>>,
}

/// The right of one connection to be there; given back when dropped.
#[derive(Debug)]
pub(super) struct Ticket {
    admission: Arc<Admission>,
    address: IpAddr,
}

impl Admission {
    pub(super) fn new(connections_max: usize, per_address_max: usize) -> Arc<Self> {
        let (connections, by_address) = (AtomicUsize::new(0), Mutex::default());
        Arc::new(Self { connections_max, per_address_max, connections, by_address })
    }

    /// How many connections there are.
    pub(super) fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// Whether there are as many as there may be. Several workers may pass this at once; the limit is then exceeded by
    /// as many, which [`Self::admit`] refuses.
    pub(super) fn is_full(&self) -> bool {
        self.connections() >= self.connections_max
    }

    /// Lets a connection in, unless there are too many in all or from this address.
    pub(super) fn admit(self: &Arc<Self>, address: IpAddr) -> Option<Ticket> {
        let address = network_of(address);
        let mut by_address = self.by_address.lock().unwrap_or_else(PoisonError::into_inner);
        let count = by_address.get(&address).copied().unwrap_or(0);
        if count >= self.per_address_max || self.is_full() {
            return None;
        }
        by_address.insert(address, count + 1);
        self.connections.fetch_add(1, Ordering::Relaxed);
        Some(Ticket { admission: self.clone(), address })
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut by_address = self.admission.by_address.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = by_address.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                by_address.remove(&self.address);
            }
        }
        self.admission.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What counts as one address: an IPv6 host has a whole network of 64 bits.
fn network_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64)),
        v4 @ IpAddr::V4(_) => v4,
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
        let admission = Admission::new(3, 2);
        let one = admission.admit(address("192.0.2.1")).expect("first");
        let _two = admission.admit(address("::ffff:192.0.2.1")).expect("second");
        assert!(admission.admit(address("192.0.2.1")).is_none(), "two from one address");
        let _other = admission.admit(address("192.0.2.2")).expect("third");
        assert!(admission.is_full());
        assert!(admission.admit(address("192.0.2.3")).is_none(), "three in all");
        drop(one);
        assert_eq!(admission.connections(), 2);
        admission.admit(address("192.0.2.1")).expect("there is room again");
        assert_eq!(admission.by_address.lock().expect("not poisoned").len(), 2);
    }

    #[test]
    fn an_ipv6_network_of_64_bits_counts_as_one_address() {
        let admission = Admission::new(9, 1);
        let _one = admission.admit(address("2001:db8::1")).expect("first");
        assert!(admission.admit(address("2001:db8::2")).is_none());
        assert!(admission.admit(address("2001:db8:0:1::1")).is_some());
    }
}
