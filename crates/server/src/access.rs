//! Who may ask: access lists as chrony and ntpd-rs have them, compiled into one table of address ranges.

use crate::Subnet;
use crate::ranges::Ranges;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What an address is told.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Access {
    /// It is answered.
    Allow,
    /// It is not.
    Refuse(Refusal),
}

/// How a request that is not welcome is treated.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Refusal {
    /// No answer.
    Ignore,
    /// A kiss-o'-death packet with the code DENY. RFC 5905 §7.4.
    Deny,
}

/// A rule of chrony's `allow` and `deny` directives.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct AccessRule {
    /// Whether the addresses are let in.
    pub allow: bool,
    /// Whether earlier rules for parts of the range are forgotten (`allow all`, `deny all`).
    pub all: bool,
    /// The addresses; `None` is every address of both families.
    pub subnet: Option<Subnet>,
}

/// Decides by address. A look-up is a binary search: it costs the same for one rule and about ten times as much for
/// ten thousand, allocates nothing, and does not depend on what the address is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AccessList {
    v4: Ranges<Access>,
    v6: Ranges<Access>,
}

impl AccessList {
    /// Every address is told the same.
    #[must_use]
    pub fn uniform(access: Access) -> Self {
        Self { v4: Ranges::new(access), v6: Ranges::new(access) }
    }

    /// chrony's semantics: the longest prefix that holds the address wins, where prefixes count as equally long that round up
    /// to the same multiple of four bits, and of those the last one; nobody is let in without a rule. Who is not let in gets
    /// no answer.
    #[must_use]
    pub fn from_rules(rules: &[AccessRule]) -> Self {
        let mut kept: Vec<(Subnet, bool)> = Vec::new();
        for rule in rules {
            let subnets = rule
                .subnet
                .map_or([Some(Subnet::ALL_V4), Some(Subnet::ALL_V6)], |subnet| [Some(subnet), None]);
            for subnet in subnets.into_iter().flatten() {
                kept.retain(|(earlier, _)| *earlier != subnet && !(rule.all && subnet.covers(earlier)));
                kept.push((subnet, rule.allow));
            }
        }
        // Painting from the shortest prefix to the longest leaves the longest on top.
        kept.sort_by_key(|(subnet, _)| level(*subnet));
        let mut list = Self::uniform(Access::Refuse(Refusal::Ignore));
        for (subnet, allow) in kept {
            list.paint(subnet, if allow { Access::Allow } else { Access::Refuse(Refusal::Ignore) });
        }
        list
    }

    /// ntpd-rs's semantics: who is on the deny list is refused; otherwise, if there is an allow list, who is not on it
    /// is refused; everyone else is let in. Each list has its own way of refusing.
    #[must_use]
    pub fn from_lists(deny: Option<(&[Subnet], Refusal)>, allow: Option<(&[Subnet], Refusal)>) -> Self {
        let mut list = Self::uniform(allow.map_or(Access::Allow, |(_, refusal)| Access::Refuse(refusal)));
        for subnet in allow.map_or(&[][..], |(subnets, _)| subnets) {
            list.paint(*subnet, Access::Allow);
        }
        if let Some((subnets, refusal)) = deny {
            for subnet in subnets {
                list.paint(*subnet, Access::Refuse(refusal));
            }
        }
        list
    }

    /// What `address` is told. An IPv4-mapped IPv6 address is judged as the IPv4 address that it stands for.
    #[must_use]
    pub fn check(&self, address: IpAddr) -> Access {
        match address.to_canonical() {
            IpAddr::V4(v4) => self.v4.find(u128::from(v4.to_bits())),
            IpAddr::V6(v6) => self.v6.find(v6.to_bits()),
        }
    }

    /// Whether any address is answered, so that a server is needed at all.
    #[must_use]
    pub fn allows_any(&self) -> bool {
        self.allows_any_of(true) || self.allows_any_of(false)
    }

    /// The same of the addresses of one family, IPv4 or IPv6.
    #[must_use]
    pub fn allows_any_of(&self, is_ipv4: bool) -> bool {
        let ranges = if is_ipv4 { &self.v4 } else { &self.v6 };
        ranges.iter().any(|(_, access)| access == Access::Allow)
    }

    /// The addresses that are answered, as the fewest ranges of the kind that prefixes make; none overlap. For tables that
    /// know prefixes only.
    #[must_use]
    pub fn allowed(&self) -> Vec<Subnet> {
        let v4 = self.v4.allowed(u128::from(u32::MAX)).into_iter().filter_map(|(first, bits)| {
            let address = Ipv4Addr::from_bits(u32::try_from(first).ok()?);
            Subnet::new(address.into(), 32 - bits).ok()
        });
        let v6 = self.v6.allowed(u128::MAX).into_iter();
        let v6 =
            v6.filter_map(|(first, bits)| Subnet::new(Ipv6Addr::from_bits(first).into(), 128 - bits).ok());
        v4.chain(v6).collect()
    }

    fn paint(&mut self, subnet: Subnet, access: Access) {
        let (first, last) = subnet.bounds();
        match subnet.address() {
            IpAddr::V4(_) => self.v4.paint(first, last, access),
            IpAddr::V6(_) => self.v6.paint(first, last, access),
        }
    }
}

/// Rules of one level go by their order: chrony's tables have one for each four bits, and a later rule is written over the
/// earlier ones in it.
fn level(subnet: Subnet) -> u8 {
    subnet.prefix().div_ceil(4)
}

impl Ranges<Access> {
    /// Where ranges of addresses that are let in begin, and how many low bits of the address they leave open; `end` is the
    /// last address there is.
    fn allowed(&self, end: u128) -> Vec<(u128, u8)> {
        let mut ranges = Vec::new();
        // Neighbours that are both let in are one range.
        let mut starts = self.iter().filter(|(start, _)| *start <= end).peekable();
        while let Some((first, access)) = starts.next() {
            if access != Access::Allow {
                continue;
            }
            while starts.next_if(|(_, access)| *access == Access::Allow).is_some() {}
            let last = starts.peek().map_or(end, |(next, _)| next - 1);
            split(first, last, &mut ranges);
        }
        ranges
    }
}

/// Cuts what is from `first` to `last` into parts that begin at a multiple of their length, a power of two, and are as
/// long as they can be: start and log2 of the length.
fn split(mut first: u128, last: u128, parts: &mut Vec<(u128, u8)>) {
    loop {
        // One more than fits when everything is meant: that is the whole of 128 bits.
        let fitting = (last - first).checked_add(1).map_or(128, u128::ilog2);
        let bits = first.trailing_zeros().min(fitting);
        parts.push((first, u8::try_from(bits).unwrap_or(128)));
        let Some(next) = 1u128.checked_shl(bits).and_then(|length| first.checked_add(length)) else { return };
        if next > last {
            return;
        }
        first = next;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rule(text: &str) -> AccessRule {
        let words: Vec<&str> = text.split_whitespace().collect();
        AccessRule {
            allow: words[0] == "allow",
            all: words.contains(&"all"),
            subnet: words.last().and_then(|word| word.parse().ok()),
        }
    }

    fn list(rules: &[&str]) -> AccessList {
        AccessList::from_rules(&rules.iter().map(|text| rule(text)).collect::<Vec<_>>())
    }

    fn allowed(list: &AccessList, address: &str) -> bool {
        list.check(address.parse().expect("an address")) == Access::Allow
    }

    #[test]
    fn nobody_is_let_in_without_a_rule() {
        assert!(!list(&[]).allows_any());
        let one = list(&["allow 10.0.0.0/8"]);
        assert!(one.allows_any_of(true) && !one.allows_any_of(false));
        assert!(!allowed(&list(&[]), "127.0.0.1"));
        assert!(!allowed(&list(&["allow 10.0.0.0/8"]), "11.0.0.0"));
        assert!(allowed(&list(&["allow"]), "192.0.2.1") && allowed(&list(&["allow"]), "2001:db8::1"));
        assert!(!allowed(&list(&["allow 0.0.0.0/0"]), "2001:db8::1"));
    }

    #[test]
    fn the_longest_prefix_wins_whatever_the_order() {
        for rules in [
            ["allow 10.0.0.0/8", "deny 10.1.0.0/16", "allow 10.1.1.0/24"],
            ["allow 10.1.1.0/24", "deny 10.1.0.0/16", "allow 10.0.0.0/8"],
        ] {
            let list = list(&rules);
            assert!(allowed(&list, "10.0.255.255"));
            assert!(!allowed(&list, "10.1.0.0") && !allowed(&list, "10.1.255.255"));
            assert!(allowed(&list, "10.1.1.0") && allowed(&list, "10.1.1.255"));
            assert!(!allowed(&list, "9.255.255.255") && !allowed(&list, "11.0.0.0"));
        }
    }

    #[test]
    fn of_prefixes_in_the_same_four_bits_the_last_wins() {
        let narrow_first = list(&["allow 1.2.3.4", "allow 1.2.3.0/28", "deny 1.2.3.0/27"]);
        assert!(allowed(&narrow_first, "1.2.3.4") && !allowed(&narrow_first, "1.2.3.5"));
        assert!(allowed(&list(&["deny 1.2.3.0/27", "allow 1.2.3.0/28"]), "1.2.3.5"));
        assert!(allowed(&list(&["allow 1.2.3.0/28", "deny 1.2.3.0/24"]), "1.2.3.5"), "longer by a level");
        let v6 = list(&["allow 2001:db8::/64", "deny 2001:db8::/63"]);
        assert!(!allowed(&v6, "2001:db8::2"));
    }

    #[test]
    fn of_equal_prefixes_the_last_wins() {
        assert!(!allowed(&list(&["allow 10.0.0.0/8", "deny 10.0.0.0/8"]), "10.0.0.1"));
        assert!(allowed(&list(&["deny 10.0.0.0/8", "allow 10.0.0.0/8"]), "10.0.0.1"));
    }

    #[test]
    fn all_forgets_the_earlier_rules_of_its_range_only() {
        let list = list(&[
            "deny 10.1.0.0/16",
            "deny 11.0.0.0/8",
            "allow all 10.0.0.0/8",
            "deny 10.2.0.0/16",
            "allow 11.1.0.0/16",
        ]);
        assert!(allowed(&list, "10.1.0.1"));
        assert!(!allowed(&list, "10.2.0.1"));
        assert!(!allowed(&list, "11.0.0.1") && allowed(&list, "11.1.0.1"));
    }

    #[test]
    fn mapped_addresses_are_ipv4_addresses() {
        let list = list(&["allow 10.0.0.0/8", "allow ::/0", "deny ::ffff:10.9.0.0/112"]);
        assert!(allowed(&list, "::ffff:10.0.0.1"));
        assert!(!allowed(&list, "::ffff:10.9.0.1") && !allowed(&list, "10.9.0.1"));
        assert!(!allowed(&list, "::ffff:192.0.2.1"));
    }

    #[test]
    fn the_deny_list_goes_before_the_allow_list() {
        let net = |text: &str| text.parse::<Subnet>().expect("a subnet");
        let deny = [net("10.0.0.0/8"), net("fd00::/16")];
        let allow = [net("10.1.0.0/16"), net("192.168.0.0/16")];
        let list = AccessList::from_lists(Some((&deny, Refusal::Deny)), Some((&allow, Refusal::Ignore)));
        let check = |text: &str| list.check(text.parse().expect("an address"));
        assert_eq!(check("10.1.0.1"), Access::Refuse(Refusal::Deny));
        assert_eq!(check("fd00::1"), Access::Refuse(Refusal::Deny));
        assert_eq!(check("192.168.3.4"), Access::Allow);
        assert_eq!(check("172.16.0.1"), Access::Refuse(Refusal::Ignore));
        assert_eq!(AccessList::from_lists(None, None), AccessList::uniform(Access::Allow));
    }

    #[test]
    fn what_is_let_in_is_cut_into_prefixes() {
        let shown =
            |rules: &[&str]| list(rules).allowed().iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(shown(&["allow"]), ["0.0.0.0/0", "::/0"]);
        assert_eq!(shown(&[]), [""; 0]);
        assert_eq!(shown(&["allow 10.0.0.0/9", "allow 10.128.0.0/9"]), ["10.0.0.0/8"]);
        assert_eq!(
            shown(&["allow 10.0.0.0/30", "deny 10.0.0.1", "allow 2001:db8::/32"]),
            ["10.0.0.0/32", "10.0.0.2/31", "2001:db8::/32"]
        );
        assert_eq!(shown(&["allow 255.255.255.254/31"]), ["255.255.255.254/31"]);
        assert_eq!(shown(&["allow ::/0", "deny ::/1"]), ["8000::/1"]);
    }

    /// Few enough addresses for rules to meet them, and each other.
    fn address() -> impl Strategy<Value = IpAddr> {
        any::<[u8; 2]>().prop_map(|[a, b]| IpAddr::from([a & 3, b, 0, 0]))
    }

    fn rules() -> impl Strategy<Value = Vec<AccessRule>> {
        let rule = (any::<bool>(), address(), 0u8..=32).prop_map(|(allow, address, prefix)| AccessRule {
            allow,
            all: false,
            subnet: Subnet::new(address, prefix).ok(),
        });
        prop::collection::vec(rule, 0..12)
    }

    proptest! {
        #[test]
        fn the_prefixes_hold_exactly_those_who_are_let_in(
            rules in rules(), address in address()
        ) {
            let list = AccessList::from_rules(&rules);
            let holding = list.allowed().iter().filter(|range| range.covers(&Subnet::host(address))).count();
            prop_assert_eq!(holding, usize::from(list.check(address) == Access::Allow));
        }

        /// The table agrees with the definition: among all rules that hold the address, the longest by four bits, then the
        /// last.
        #[test]
        fn the_table_is_a_longest_prefix_match(
            rules in rules(), address in address()
        ) {
            let by_definition = rules
                .iter()
                .filter(|rule| rule.subnet.is_some_and(|subnet| subnet.covers(&Subnet::host(address))))
                .max_by_key(|rule| rule.subnet.map(level))
                .is_some_and(|rule| rule.allow);
            prop_assert_eq!(AccessList::from_rules(&rules).check(address) == Access::Allow, by_definition);
        }
    }
}
