//! An address range written as prefix and length.

use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::str::FromStr;

/// A range of addresses of one family: all that share the first bits. Host bits are zero.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Subnet {
    address: IpAddr,
    prefix: u8,
}

/// Why a text or a pair of values is no subnet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SubnetError {
    /// The part before the slash is no address.
    Address,
    /// The prefix length is no number, or longer than the address (32 bits for IPv4, 128 for IPv6).
    Prefix,
}

impl fmt::Display for SubnetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Address => "not an IPv4 or IPv6 address",
            Self::Prefix => "the prefix length is not a number from 0 to 32 (IPv4) or 128 (IPv6)",
        })
    }
}

impl core::error::Error for SubnetError {}

impl Subnet {
    /// All IPv4 addresses.
    pub const ALL_V4: Self = Self { address: IpAddr::V4(Ipv4Addr::UNSPECIFIED), prefix: 0 };
    /// All IPv6 addresses, except those that stand for IPv4 ones.
    pub const ALL_V6: Self = Self { address: IpAddr::V6(Ipv6Addr::UNSPECIFIED), prefix: 0 };

    /// The addresses that share their first `prefix` bits with `address`; its other bits do not matter. A range of
    /// IPv4-mapped addresses (`::ffff:a.b.c.d/96` and longer) becomes the IPv4 range that it stands for.
    ///
    /// # Errors
    /// [`SubnetError::Prefix`] when the prefix is longer than the address.
    pub fn new(address: IpAddr, prefix: u8) -> Result<Self, SubnetError> {
        match address {
            IpAddr::V4(v4) if prefix <= 32 => Ok(Self::v4(v4.to_bits(), prefix)),
            IpAddr::V6(v6) if prefix <= 128 => Ok(match (v6.to_ipv4_mapped(), prefix.checked_sub(96)) {
                (Some(v4), Some(v4_prefix)) => Self::v4(v4.to_bits(), v4_prefix),
                _ => {
                    Self { address: IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & mask_v6(prefix))), prefix }
                }
            }),
            _ => Err(SubnetError::Prefix),
        }
    }

    /// The range of one address.
    #[must_use]
    pub fn host(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(v4) => Self::v4(v4.to_bits(), 32),
            v6 @ IpAddr::V6(_) => Self { address: v6, prefix: 128 },
        }
    }

    fn v4(bits: u32, prefix: u8) -> Self {
        let mask = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
        Self { address: IpAddr::V4(Ipv4Addr::from_bits(bits & mask)), prefix }
    }

    /// The first address of the range.
    #[must_use]
    pub const fn address(&self) -> IpAddr {
        self.address
    }

    /// How many leading bits the addresses share: 0 to 32 for IPv4, 0 to 128 for IPv6.
    #[must_use]
    pub const fn prefix(&self) -> u8 {
        self.prefix
    }

    /// Whether `other` is this range or a part of it.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        self.prefix <= other.prefix && Self::new(other.address, self.prefix) == Ok(*self)
    }

    /// The first and the last address of an IPv4 or IPv6 range, as numbers.
    pub(crate) fn bounds(&self) -> (u128, u128) {
        match self.address {
            IpAddr::V4(v4) => {
                let rest = u32::MAX.checked_shr(u32::from(self.prefix)).unwrap_or(0);
                (u128::from(v4.to_bits()), u128::from(v4.to_bits() | rest))
            }
            IpAddr::V6(v6) => (v6.to_bits(), v6.to_bits() | !mask_v6(self.prefix)),
        }
    }
}

fn mask_v6(prefix: u8) -> u128 {
    u128::MAX.checked_shl(128 - u32::from(prefix)).unwrap_or(0)
}

impl FromStr for Subnet {
    type Err = SubnetError;

    /// Reads `ADDRESS` or `ADDRESS/PREFIX`.
    fn from_str(text: &str) -> Result<Self, SubnetError> {
        let Some((address, prefix)) = text.split_once('/') else {
            return text.parse().map(Self::host).map_err(|_| SubnetError::Address);
        };
        let address = address.parse().map_err(|_| SubnetError::Address)?;
        Self::new(address, prefix.parse().map_err(|_| SubnetError::Prefix)?)
    }
}

impl fmt::Display for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_bits_do_not_matter_and_mapped_ranges_are_ipv4() {
        for (text, shown) in [
            ("192.168.1.1/24", "192.168.1.0/24"),
            ("10.1.2.3", "10.1.2.3/32"),
            ("0.0.0.0/0", "0.0.0.0/0"),
            ("fd00::1/8", "fd00::/8"),
            ("2001:db8::1", "2001:db8::1/128"),
            ("::/0", "::/0"),
            ("::ffff:10.0.0.1/104", "10.0.0.0/8"),
            ("::ffff:10.0.0.1", "10.0.0.1/32"),
        ] {
            assert_eq!(text.parse::<Subnet>().expect(text).to_string(), shown);
        }
    }

    #[test]
    fn impossible_prefixes_and_addresses_are_refused() {
        for text in ["10.0.0.0/33", "::/129", "10.0.0.0/", "10.0.0.0/x", "10.0.0.0/-1"] {
            assert_eq!(text.parse::<Subnet>(), Err(SubnetError::Prefix), "{text}");
        }
        assert_eq!("ten/8".parse::<Subnet>(), Err(SubnetError::Address));
        assert_eq!("".parse::<Subnet>(), Err(SubnetError::Address));
    }

    #[test]
    fn a_range_covers_its_parts_only() {
        let net = |text: &str| text.parse::<Subnet>().expect("a subnet");
        assert!(net("10.0.0.0/8").covers(&net("10.2.0.0/16")));
        assert!(net("10.0.0.0/8").covers(&net("10.0.0.0/8")));
        assert!(!net("10.2.0.0/16").covers(&net("10.0.0.0/8")));
        assert!(!net("::/0").covers(&net("10.0.0.0/8")));
        assert!(net("::/0").covers(&net("fe80::1")));
    }
}
