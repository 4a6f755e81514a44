//! What lies where in the maps that the program and the daemon share.
//!
//! Numbers are in the machine's order, but for what goes into packets as it is.

use core::net::IpAddr;

/// Octets of a key of the services: address, port, number of the interface.
pub const SERVICE_KEY_OCTETS: usize = 20;
/// Octets of a service.
pub const SERVICE_OCTETS: usize = 48;
/// Octets of a key of the clients: address, number of the listener.
pub const CLIENT_KEY_OCTETS: usize = 20;
/// Octets of what is remembered of a client.
pub const CLIENT_OCTETS: usize = 16;
/// Octets of a key of the access list: prefix length, number of the listener, address.
pub const ACCESS_KEY_OCTETS: usize = 24;
/// Octets of the state of the clock.
pub const TIME_SLOT_OCTETS: usize = 80;
/// How many such states there are, taken in turn, so that the one that is written was read last long ago. A power of two.
pub const TIME_SLOTS: u32 = 8;
/// Octets of the counters.
pub const COUNTERS_OCTETS: usize = 48;
/// Receive queues of an interface from which frames are handed over; those of others go to the sockets.
pub const QUEUES_MAX: u32 = 64;

/// Bits of the prefix length before the address: those of the listener's number.
const ACCESS_PREFIX_BASE: u32 = 32;
/// Bits of an IPv6 address before the IPv4 address that it stands for.
const MAPPED_PREFIX: u32 = 96;

/// Fields of a service.
pub(crate) mod service {
    pub(crate) const VERSIONS: i16 = 0;
    pub(crate) const FLAGS: i16 = 4;
    pub(crate) const LISTENER: i16 = 8;
    /// In place of a version: requests with NTS are handed over.
    pub(crate) const NTS: u32 = 8;
    /// Only those in the access list are answered.
    pub(crate) const FLAG_LISTED: u32 = 1;
    /// How often each client is answered has a limit: the four numbers below.
    pub(crate) const FLAG_LIMITED: u32 = 2;
    /// Nanoseconds of credit that an answer costs.
    pub(crate) const COST: i16 = 16;
    /// The most credit that there is.
    pub(crate) const CREDIT_MAX: i16 = 24;
    /// A request beyond the limit is answered all the same when a random number has none of these bits.
    pub(crate) const LEAK: i16 = 32;
    /// Or told so, when it has none of these.
    pub(crate) const KISS: i16 = 40;
    /// The bit that random numbers always have.
    pub(crate) const NEVER: u64 = 1 << 32;
}

/// Fields of a key of the services.
pub(crate) mod service_key {
    pub(crate) const PORT: i16 = 16;
}

/// Fields of what is remembered of a client.
pub(crate) mod client {
    /// When it last asked, by the monotonic clock.
    pub(crate) const LAST: i16 = 0;
    /// Its credit, nanoseconds.
    pub(crate) const CREDIT: i16 = 8;
}

/// Fields of the state of the clock.
pub(crate) mod time_slot {
    pub(crate) const TAI_BASE: i16 = 0;
    pub(crate) const VALID: i16 = 8;
    pub(crate) const TIME_BASE: i16 = 16;
    pub(crate) const RATE: i16 = 24;
    pub(crate) const DISPERSION: i16 = 32;
    pub(crate) const DISPERSION_RATE: i16 = 40;
    pub(crate) const FIRST: i16 = 48;
    pub(crate) const STRATUM: i16 = 49;
    pub(crate) const PRECISION: i16 = 50;
    pub(crate) const ROOT_DELAY: i16 = 52;
    pub(crate) const REFERENCE_ID: i16 = 56;
    pub(crate) const REFERENCE: i16 = 64;
    pub(crate) const MONO_BASE: i16 = 72;
}

/// Fields of the counters.
pub(crate) mod counter {
    pub(crate) const ANSWERED: i16 = 0;
    pub(crate) const OLD_VERSIONS: i16 = 8;
    pub(crate) const STALE: i16 = 16;
    pub(crate) const HANDED_OVER: i16 = 24;
    pub(crate) const KISSED: i16 = 32;
    pub(crate) const LIMITED: i16 = 40;
}

/// What programs have counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counters {
    /// Requests that were answered.
    pub answered: u64,
    /// Requests of those that were answered, told off or dropped that have a version below 4.
    pub old_versions: u64,
    /// Requests that were left to the sockets, as nobody had told the time for too long.
    pub stale: u64,
    /// Requests with NTS that were handed over to the workers, past their sockets.
    pub handed_over: u64,
    /// Requests beyond the rate limit whose senders were told so.
    pub kissed: u64,
    /// Those that were dropped.
    pub limited: u64,
}

impl Counters {
    /// Adds what one processor has counted.
    pub fn add(&mut self, octets: &[u8; COUNTERS_OCTETS]) {
        let number = |at: i16| read(octets, at);
        self.answered += number(counter::ANSWERED);
        self.old_versions += number(counter::OLD_VERSIONS);
        self.stale += number(counter::STALE);
        self.handed_over += number(counter::HANDED_OVER);
        self.kissed += number(counter::KISSED);
        self.limited += number(counter::LIMITED);
    }
}

/// The number of eight octets at `at`.
fn read(octets: &[u8], at: i16) -> u64 {
    let at = usize::from(at.unsigned_abs());
    octets.get(at..at + 8).and_then(|octets| octets.try_into().ok()).map_or(0, u64::from_ne_bytes)
}

/// The sixteen octets of an address, IPv4 as IPv4-mapped IPv6.
pub(crate) fn address_octets(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    }
}

/// The key of a service. `port` is 0 for what is known of an address as a sender.
pub(crate) fn service_key(address: IpAddr, port: u16, interface: u16) -> [u8; SERVICE_KEY_OCTETS] {
    let mut key = [0; SERVICE_KEY_OCTETS];
    key[..16].copy_from_slice(&address_octets(address));
    key[16..18].copy_from_slice(&port.to_be_bytes());
    key[18..].copy_from_slice(&interface.to_ne_bytes());
    key
}

/// The key under which the access list of a listener has a range of addresses.
#[must_use]
pub fn access_key(listener: u32, subnet: &chime_server::Subnet) -> [u8; ACCESS_KEY_OCTETS] {
    let family = if subnet.address().is_ipv4() { MAPPED_PREFIX } else { 0 };
    let prefix = ACCESS_PREFIX_BASE + family + u32::from(subnet.prefix());
    let mut key = [0; ACCESS_KEY_OCTETS];
    key[..4].copy_from_slice(&prefix.to_ne_bytes());
    key[4..8].copy_from_slice(&listener.to_ne_bytes());
    key[8..].copy_from_slice(&address_octets(subnet.address()));
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_of_processors_add_up() {
        let mut octets = [0; COUNTERS_OCTETS];
        for (at, number) in [(0, 5u64), (8, 2), (16, 1), (24, 3), (32, 4), (40, 6)] {
            octets[at..at + 8].copy_from_slice(&number.to_ne_bytes());
        }
        let mut counters = Counters::default();
        counters.add(&octets);
        counters.add(&octets);
        let twice =
            Counters { answered: 10, old_versions: 4, stale: 2, handed_over: 6, kissed: 8, limited: 12 };
        assert_eq!(counters, twice);
    }

    #[test]
    fn ipv4_ranges_are_ranges_of_mapped_addresses() {
        let key = |text: &str| access_key(7, &text.parse().expect("a subnet"));
        assert_eq!(key("10.1.0.0/16")[..4], (32 + 96 + 16u32).to_ne_bytes());
        assert_eq!(key("10.1.0.0/16")[18..22], [0xff, 0xff, 10, 1]);
        assert_eq!(key("2001:db8::/32")[..4], (32 + 32u32).to_ne_bytes());
        assert_eq!(key("2001:db8::/32")[4..12], [7, 0, 0, 0, 0x20, 1, 0x0d, 0xb8]);
    }
}
