//! The data types of the command protocol.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// An address as the protocol has it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Address {
    Unspecified,
    Ip(IpAddr),
    /// A source that has no address yet.
    Id(u32),
}

/// A big-endian word of a request; beyond its end there are zeros.
pub(super) fn word_at(payload: &[u8], at: usize) -> u32 {
    octets_at(payload, at).map_or(0, u32::from_be_bytes)
}

/// A signed big-endian word of a request.
pub(super) fn signed_at(payload: &[u8], at: usize) -> i32 {
    word_at(payload, at).cast_signed()
}

/// A number of a request.
pub(super) fn float_at(payload: &[u8], at: usize) -> f64 {
    let word = word_at(payload, at).cast_signed();
    // Shifts of signed numbers keep the sign.
    let (exponent, coefficient) = (word >> COEFFICIENT_BITS, (word << 7) >> 7);
    f64::from(coefficient) * 2_f64.powi(exponent - COEFFICIENT_BITS)
}

/// An address of a request; beyond its end, and of unknown families, it is unspecified.
pub(super) fn address_at(payload: &[u8], at: usize) -> Address {
    match octets_at::<2>(payload, at + 16).map(u16::from_be_bytes) {
        Some(1) => octets_at::<4>(payload, at)
            .map_or(Address::Unspecified, |octets| Address::Ip(Ipv4Addr::from(octets).into())),
        Some(2) => octets_at::<16>(payload, at)
            .map_or(Address::Unspecified, |octets| Address::Ip(Ipv6Addr::from(octets).into())),
        Some(3) => Address::Id(word_at(payload, at)),
        _ => Address::Unspecified,
    }
}

fn octets_at<const N: usize>(payload: &[u8], at: usize) -> Option<[u8; N]> {
    payload.get(at..)?.first_chunk().copied()
}

/// A payload that grows field by field.
#[derive(Default)]
pub(crate) struct Payload(pub(super) Vec<u8>);

impl Payload {
    pub(super) fn octets(&mut self, octets: &[u8]) -> &mut Self {
        self.0.extend(octets);
        self
    }

    pub(super) fn fill(&mut self, octet: u8, count: usize) -> &mut Self {
        self.0.extend(std::iter::repeat_n(octet, count));
        self
    }

    pub(super) fn half(&mut self, value: u16) -> &mut Self {
        self.octets(&value.to_be_bytes())
    }

    pub(super) fn word(&mut self, value: u32) -> &mut Self {
        self.octets(&value.to_be_bytes())
    }

    /// A counter that had 32 bits in its time.
    pub(super) fn count(&mut self, value: u64) -> &mut Self {
        self.word(u32::try_from(value).unwrap_or(u32::MAX))
    }

    pub(super) fn long(&mut self, value: u64) -> &mut Self {
        self.octets(&value.to_be_bytes())
    }

    pub(super) fn float(&mut self, value: f64) -> &mut Self {
        self.word(float(value))
    }

    /// An age or a span in whole seconds; all ones for never.
    pub(super) fn age(&mut self, seconds: Option<f64>) -> &mut Self {
        self.count(seconds.map_or(u64::from(u32::MAX), crate::text::number::whole_seconds))
    }

    pub(super) fn address(&mut self, address: Address) -> &mut Self {
        match address {
            Address::Unspecified => self.fill(0, 16).half(0),
            Address::Ip(IpAddr::V4(address)) => self.octets(&address.octets()).fill(0, 12).half(1),
            Address::Ip(IpAddr::V6(address)) => self.octets(&address.octets()).half(2),
            Address::Id(id) => self.word(id).fill(0, 12).half(3),
        };
        self.half(0)
    }

    /// An instant, given in Unix seconds.
    pub(super) fn time(&mut self, unix_seconds: f64) -> &mut Self {
        let whole = unix_seconds.floor();
        #[expect(clippy::cast_possible_truncation, reason = "float to integer casts saturate")]
        let seconds = whole as i64;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "float to integer casts saturate, and what is not a number is zero"
        )]
        let nanoseconds = (((unix_seconds - whole) * 1e9) as u32).min(999_999_999);
        self.octets(&seconds.to_be_bytes()).word(nanoseconds)
    }
}

/// Bits of the coefficient of a number, its sign included; the others are the exponent.
const COEFFICIENT_BITS: i32 = 25;
const EXPONENT_MAX: i32 = 63;
const EXPONENT_MIN: i32 = -64;
const COEFFICIENT_MAX: u32 = (1 << 24) - 1;

/// A number as chrony writes it: seven bits of exponent, 25 of coefficient, both in two's complement; rounded as chrony
/// rounds, so that the octets are the same. What is too large is the largest number, what is none is zero.
pub(super) fn float(value: f64) -> u32 {
    let size = value.abs();
    if value.is_nan() || size < 1e-100 {
        return 0;
    }
    // A negative number may have one more.
    let largest = COEFFICIENT_MAX + u32::from(value < 0.0);
    let (exponent, coefficient) =
        if size > 1e100 { (EXPONENT_MAX, largest) } else { normalized(size, largest) };
    let signed = if value < 0.0 { coefficient.wrapping_neg() } else { coefficient };
    (exponent.cast_unsigned() << COEFFICIENT_BITS) | (signed & 0x01ff_ffff)
}

fn normalized(size: f64, largest: u32) -> (i32, u32) {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the exponent of a double is small, and the coefficient has 26 bits at most"
    )]
    let (mut exponent, mut coefficient) = {
        let exponent = (size.ln() / std::f64::consts::LN_2 + 1.0) as i32;
        (exponent, (size * 2_f64.powi(COEFFICIENT_BITS - exponent) + 0.5) as u32)
    };
    while coefficient > largest {
        coefficient >>= 1;
        exponent += 1;
    }
    if exponent > EXPONENT_MAX {
        return (EXPONENT_MAX, largest);
    }
    if exponent < EXPONENT_MIN {
        if exponent + COEFFICIENT_BITS < EXPONENT_MIN {
            return (0, 0);
        }
        coefficient >>= EXPONENT_MIN - exponent;
        exponent = EXPONENT_MIN;
    }
    (exponent, coefficient)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_the_octets_that_chrony_gives_them() {
        let cases = [
            (0.0, 0),
            (-0.0, 0),
            (f64::NAN, 0),
            (1.0, 0x0480_0000),
            (-1.0, 0x0300_0000),
            (0.5, 0x0280_0000),
            (-0.5, 0x0100_0000),
            (0.1, 0xfccc_cccd),
            (-0.1, 0xfd33_3333),
            (std::f64::consts::PI, 0x06c9_0fda),
            (-std::f64::consts::PI, 0x0736_f026),
            (1e-9, 0xc889_705f),
            (-1e-9, 0xc976_8fa1),
            (2000.0, 0x18fa_0000),
            (123.456, 0x10f6_e979),
            (-123.456, 0x1109_1687),
            (1e6, 0x2af4_2400),
            (4_294_967_296.0, 0x4480_0000),
            (1e18, 0x7ade_0b6b),
            (4.7e18, 0x7eff_ffff),
            (f64::INFINITY, 0x7eff_ffff),
            (-1e30, 0x7f00_0000),
            (f64::NEG_INFINITY, 0x7f00_0000),
            (1e-12, 0xb48c_bccc),
            (1e-20, 0x805e_7284),
            (1e-26, 0x8000_0006),
            (1e-27, 0x8000_0000),
            (1e-28, 0),
            (0.999_999_99, 0x0480_0000),
        ];
        for (value, octets) in cases {
            assert_eq!(float(value), octets, "{value}: {:08x}", float(value));
            let read = float_at(&octets.to_be_bytes(), 0);
            let is_near = (read - value).abs() <= value.abs() * 1e-7;
            assert!(
                is_near || value.is_nan() || value.abs() > 4e18 || value.abs() < 1e-19,
                "{value}: {read}"
            );
        }
    }

    #[test]
    fn addresses_are_read_as_they_are_written() {
        for address in [
            Address::Unspecified,
            Address::Id(7),
            Address::Ip(Ipv4Addr::new(192, 0, 2, 1).into()),
            Address::Ip("2001:db8::1".parse().expect("an address")),
        ] {
            let mut payload = Payload::default();
            payload.word(0).address(address);
            assert_eq!((payload.0.len(), address_at(&payload.0, 4)), (24, address));
        }
        assert_eq!(address_at(&[1; 19], 4), Address::Unspecified);
        assert_eq!(word_at(&[1; 3], 0), 0);
    }

    #[test]
    fn strange_times_do_no_harm() {
        let octets = |seconds: f64| {
            let mut payload = Payload::default();
            payload.time(seconds);
            payload.0
        };
        assert_eq!(octets(1_795_187_091.5)[4..], [0x6b, 0, 0x61, 0x93, 0x1d, 0xcd, 0x65, 0]);
        for strange in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -0.5] {
            assert_eq!(octets(strange).len(), 12);
        }
    }
}
