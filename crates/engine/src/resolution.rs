//! The addresses of one name: when to ask for them, and in which order to use them.

use crate::back_off::{BackOff, Waits};
use crate::random::Random;
use crate::{AddressFamily, LookupId};
use chime_time::MonoTime;
use std::net::{IpAddr, Ipv4Addr};

/// The most addresses of one name that are kept: pools give four to eight, anycast services a few dozen.
pub(crate) const ADDRESSES_MAX: usize = 32;
/// How long an address that was found bad is passed over while others are left; seconds.
const AVOIDANCE_SECONDS: f64 = 3600.0;

/// What is known about one configured name.
#[derive(Debug)]
pub(crate) struct Resolution {
    /// The address itself, when the name is a literal: nothing to look up.
    literal: Option<IpAddr>,
    family: AddressFamily,
    ignore: Vec<IpAddr>,
    addresses: Vec<IpAddr>,
    resolved_at: Option<MonoTime>,
    in_flight: Option<LookupId>,
    back_off: BackOff,
    avoided: Vec<(IpAddr, MonoTime)>,
}

impl Resolution {
    pub(crate) fn new(name: &str, family: AddressFamily, ignore: &[IpAddr]) -> Self {
        let literal = parse_literal(name);
        Self {
            literal,
            family,
            ignore: ignore.to_vec(),
            addresses: literal.into_iter().collect(),
            resolved_at: None,
            in_flight: None,
            back_off: BackOff::default(),
            avoided: Vec::new(),
        }
    }

    pub(crate) const fn is_literal(&self) -> bool {
        self.literal.is_some()
    }

    pub(crate) const fn in_flight(&self) -> Option<LookupId> {
        self.in_flight
    }

    /// Whether there are addresses no older than `age_seconds`.
    pub(crate) fn is_fresh(&self, now: MonoTime, age_seconds: f64) -> bool {
        self.is_literal() || self.resolved_at.is_some_and(|at| now.seconds_since(at) <= age_seconds)
    }

    /// When the next lookup is allowed; `None` = now.
    pub(crate) fn not_before(&self, now: MonoTime) -> Option<MonoTime> {
        self.back_off.not_before(now)
    }

    pub(crate) const fn started(&mut self, lookup: LookupId) {
        self.in_flight = Some(lookup);
    }

    /// A lookup gave addresses, in the resolver's order. Gives the usable ones.
    pub(crate) fn succeeded(&mut self, now: MonoTime, addresses: &[IpAddr]) -> &[IpAddr] {
        let mut usable: Vec<IpAddr> = Vec::new();
        for address in addresses.iter().map(IpAddr::to_canonical) {
            let is_wanted = self.family.admits(address) && is_unicast(address);
            if is_wanted && !self.ignore.contains(&address) && !usable.contains(&address) {
                usable.push(address);
            }
        }
        self.in_flight = None;
        self.addresses = families_in_turn(&usable);
        self.addresses.truncate(ADDRESSES_MAX);
        if !self.addresses.is_empty() {
            self.resolved_at = Some(now);
            self.back_off.reset();
        }
        &self.addresses
    }

    /// A lookup failed; gives the wait until the next in seconds. Addresses from before stay good.
    pub(crate) fn failed(&mut self, now: MonoTime, random: &mut Random) -> f64 {
        self.in_flight = None;
        self.back_off.fail(now, Waits::NETWORK, random)
    }

    /// The world changed: ask again at once when asked to, and give bad addresses another chance.
    pub(crate) fn reset(&mut self) {
        self.back_off.reset();
        self.avoided.clear();
        self.resolved_at = None;
    }

    /// Forgets how old the addresses are, so that the next use looks them up again.
    pub(crate) const fn expire(&mut self) {
        self.resolved_at = None;
    }

    /// All usable addresses, families in turn.
    pub(crate) fn addresses(&self) -> &[IpAddr] {
        &self.addresses
    }

    /// Passes an address over for a while.
    pub(crate) fn avoid(&mut self, now: MonoTime, address: IpAddr) {
        self.avoided.retain(|(other, until)| *other != address && *until > now);
        if self.avoided.len() >= ADDRESSES_MAX {
            self.avoided.remove(0);
        }
        self.avoided.push((address, now.add_secs_f64(AVOIDANCE_SECONDS)));
    }

    /// Gives all bad addresses another chance.
    pub(crate) fn forgive(&mut self) {
        self.avoided.clear();
    }

    /// Whether an address is passed over now.
    pub(crate) fn is_avoided(&self, now: MonoTime, address: IpAddr) -> bool {
        self.avoided.iter().any(|(other, until)| *other == address && *until > now)
    }

    /// Usable addresses that are not passed over and not `in_use`, families in turn.
    pub(crate) fn candidates(&self, now: MonoTime, in_use: &[IpAddr]) -> Vec<IpAddr> {
        let free = self.addresses.iter().filter(|address| !in_use.contains(address));
        free.copied().filter(|address| !self.is_avoided(now, *address)).collect()
    }
}

/// Whether a server can have this address: not the unspecified one, which is ourselves, nor one of many machines.
fn is_unicast(address: IpAddr) -> bool {
    !address.is_unspecified() && !address.is_multicast() && address != IpAddr::V4(Ipv4Addr::BROADCAST)
}

/// Whether a key establishment server that was reached at `ke_address` may name the NTP server at `address`. RFC 8915 §4.1.7
/// lets it name any; but requests carry what it says (cookies), and are for other machines than ours, unless it is ours.
pub(crate) fn may_name(ke_address: Option<IpAddr>, address: IpAddr) -> bool {
    is_unicast(address) && (!address.is_loopback() || ke_address.is_some_and(|ke| ke.is_loopback()))
}

/// An address literal, in brackets or not.
pub(crate) fn parse_literal(name: &str) -> Option<IpAddr> {
    let bare = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(name);
    bare.parse::<IpAddr>().ok().map(|address| address.to_canonical())
}

/// Orders addresses so that the families take turns, beginning with the resolver's first choice: a dead family then
/// costs one step, not as many as it has addresses. RFC 8305 §4.
pub(crate) fn families_in_turn(addresses: &[IpAddr]) -> Vec<IpAddr> {
    let v6_first = addresses.first().is_some_and(IpAddr::is_ipv6);
    let mut preferred = addresses.iter().filter(|address| address.is_ipv6() == v6_first);
    let mut other = addresses.iter().filter(|address| address.is_ipv6() != v6_first);
    let mut ordered = Vec::with_capacity(addresses.len());
    while ordered.len() < addresses.len() {
        ordered.extend(preferred.next());
        ordered.extend(other.next());
    }
    ordered
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn families_take_turns() {
        let given = [ip("::1"), ip("::2"), ip("::3"), ip("1.0.0.1"), ip("1.0.0.2")];
        let wanted = [ip("::1"), ip("1.0.0.1"), ip("::2"), ip("1.0.0.2"), ip("::3")];
        assert_eq!(families_in_turn(&given), wanted);
        assert_eq!(families_in_turn(&given[3..]), given[3..]);
        assert!(families_in_turn(&[]).is_empty());
    }

    #[test]
    fn ignored_foreign_and_repeated_addresses_are_left_out() {
        let mut resolution = Resolution::new("pool.example", AddressFamily::V4, &[ip("1.0.0.9")]);
        let given = [ip("1.0.0.9"), ip("::1"), ip("1.0.0.1"), ip("1.0.0.1"), ip("::ffff:1.0.0.2")];
        assert_eq!(resolution.succeeded(MonoTime::ZERO, &given), [ip("1.0.0.1"), ip("1.0.0.2")]);
    }

    #[test]
    fn what_no_server_can_have_is_left_out() {
        let mut resolution = Resolution::new("ntp.example", AddressFamily::Any, &[]);
        let given = [
            "0.0.0.0",
            "255.255.255.255",
            "224.0.1.1",
            "::",
            "ff02::101",
            "::ffff:0.0.0.0",
            "127.0.0.1",
            "1.0.0.1",
        ];
        let found = resolution.succeeded(MonoTime::ZERO, &given.map(ip)).to_vec();
        assert_eq!(found, [ip("127.0.0.1"), ip("1.0.0.1")]);
    }

    #[test]
    fn bad_addresses_are_passed_over_for_an_hour() {
        let mut resolution = Resolution::new("pool.example", AddressFamily::Any, &[]);
        resolution.succeeded(MonoTime::ZERO, &[ip("1.0.0.1"), ip("1.0.0.2"), ip("1.0.0.3")]);
        resolution.avoid(MonoTime::ZERO, ip("1.0.0.1"));
        assert_eq!(resolution.candidates(MonoTime::ZERO, &[ip("1.0.0.3")]), [ip("1.0.0.2")]);
        let later = MonoTime::ZERO.add_secs_f64(3601.0);
        assert_eq!(resolution.candidates(later, &[ip("1.0.0.3")]), [ip("1.0.0.1"), ip("1.0.0.2")]);
    }

    #[test]
    fn a_literal_needs_no_lookup() {
        let resolution = Resolution::new("[fd00::1]", AddressFamily::Any, &[]);
        assert_eq!(resolution.addresses(), [ip("fd00::1")]);
        assert!(resolution.is_fresh(MonoTime::from_nanos(u64::MAX), 0.0));
        assert_eq!(parse_literal("ntp.example"), None);
    }
}
