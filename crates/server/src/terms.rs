//! On which terms parts of the network are served, where these are not everybody's: what ntpd's `restrict` says beside who
//! is let in.

use crate::Subnet;
use crate::ranges::Ranges;
use core::net::IpAddr;

/// The terms on which an address is served that is let in. They take nothing away from the rest of the
/// [`Policy`](crate::Policy): a limit that there is not does not limit anybody.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Terms {
    /// Whether the rate limit holds.
    pub limited: bool,
    /// Whether requests beyond the limit are told so, as often as the limit says; RFC 5905 §7.4 (RATE).
    pub kiss: bool,
    /// Whether a request needs NTS fields or the MAC of a symmetric key.
    pub authenticated: bool,
    /// Whether only version 4 of the protocol is answered.
    pub newest_only: bool,
    /// Whether answers are signed for members of a Windows domain, where the server does that.
    pub signed: bool,
    /// Whether one in ten requests is dropped at random, for tests of clients.
    pub flaky: bool,
}

impl Terms {
    /// Those of everybody who is not mentioned.
    pub const USUAL: Self = Self {
        limited: true,
        kiss: true,
        authenticated: false,
        newest_only: false,
        signed: true,
        flaky: false,
    };
}

/// The terms of a part of the network.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct TermsRule {
    /// The addresses.
    pub subnet: Subnet,
    /// What holds for them.
    pub terms: Terms,
}

/// Terms by address. A look-up is a binary search, as in an [`AccessList`](crate::AccessList).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TermsList {
    v4: Ranges<Terms>,
    v6: Ranges<Terms>,
}

impl TermsList {
    /// The longest prefix that holds an address decides, of equal ones the last; without one it is [`Terms::USUAL`].
    #[must_use]
    pub fn new(rules: &[TermsRule]) -> Self {
        let mut rules = rules.to_vec();
        // Stable, so that the last of equal ones is painted last.
        rules.sort_by_key(|rule| rule.subnet.prefix());
        let mut list = Self { v4: Ranges::new(Terms::USUAL), v6: Ranges::new(Terms::USUAL) };
        for TermsRule { subnet, terms } in rules {
            let (first, last) = subnet.bounds();
            let ranges = if subnet.address().is_ipv4() { &mut list.v4 } else { &mut list.v6 };
            ranges.paint(first, last, terms);
        }
        list
    }

    /// The terms of `address`; an IPv4-mapped IPv6 address is the IPv4 address that it stands for.
    #[must_use]
    pub fn find(&self, address: IpAddr) -> Terms {
        match address.to_canonical() {
            IpAddr::V4(v4) => self.v4.find(u128::from(v4.to_bits())),
            IpAddr::V6(v6) => self.v6.find(v6.to_bits()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_prefix_decides_whatever_the_order() {
        let rule = |subnet: &str, terms| TermsRule { subnet: subnet.parse().expect("a subnet"), terms };
        let unlimited = Terms { limited: false, ..Terms::USUAL };
        let strict = Terms { authenticated: true, newest_only: true, ..Terms::USUAL };
        let list = TermsList::new(&[
            rule("10.1.0.0/16", unlimited),
            rule("10.0.0.0/8", strict),
            rule("::/0", strict),
            rule("::1/128", unlimited),
        ]);
        for (address, terms) in [
            ("10.1.2.3", unlimited),
            ("::ffff:10.1.2.3", unlimited),
            ("10.2.0.0", strict),
            ("11.0.0.0", Terms::USUAL),
            ("9.255.255.255", Terms::USUAL),
            ("::1", unlimited),
            ("::2", strict),
            ("ffff::", strict),
        ] {
            assert_eq!(list.find(address.parse().expect("an address")), terms, "{address}");
        }
    }
}
