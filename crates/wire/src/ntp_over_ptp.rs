//! NTP messages inside messages of the Precision Time Protocol, so that network cards stamp them that stamp PTP only, and
//! switches that are transparent clocks tell how long they held them. draft-ietf-ntp-over-ptp.
//!
//! ```text
//!   0 │ type          │ version       │ message length                │   1 = Delay_Req, 0 = Sync; 2 or 0x12
//!   4 │ domain        │ minor sdoId   │ flags                         │   123 unless configured; unicast
//!   8 │ correction, 64 bits of 2⁻¹⁶ ns, added up by transparent clocks│
//!  16 │ 4 octets of the message's type, 10 of the port: all zero      │
//!  30 │ sequence identifier           │ control       │ interval      │
//!  34 │ origin timestamp, 10 octets: zero                             │
//!  44 │ TLV type                      │ TLV length                    │   3 (or 0x8000): organization extension
//!  48 │ 00 00 5e 00 00 01: IANA's, NTP                │ 0           0 │   absent in the layout of chrony 4.2 to 4.8,
//!  56 │ NTP message …                                                 │   whose TLV has the type 0x2023
//! ```

use crate::DecodeError;
use chime_time::NtpDuration;

/// Octets around an NTP message at most.
pub const PTP_PREFIX_OCTETS_MAX: usize = PtpLayout::Final.prefix_octets();

/// How the NTP message lies in the PTP message.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum PtpLayout {
    /// In an organization extension of IANA's: the specification, and chrony since 4.9.
    Final,
    /// In a TLV of the experimental type 0x2023: chrony 4.2 to 4.8.
    Experimental,
}

const DELAY_REQ: u8 = 1;
const SYNC: u8 = 0;
const VERSION_2: u8 = 2;
const VERSION_2_1: u8 = 0x12;
const FLAG_UNICAST: u16 = 0x0400;
const TLV_EXPERIMENTAL: u16 = 0x2023;
/// An organization extension, of IEEE 1588-2008 and one of 1588-2019 that is not forwarded.
const TLV_ORGANIZATION: u16 = 0x0003;
const TLV_ORGANIZATION_NOT_FORWARDED: u16 = 0x8000;
const TLV_AT: usize = 44;
const TLV_HEADER_OCTETS: usize = 4;
/// IANA's organization identifier, its subtype for NTP, and two octets that align what follows.
const ORGANIZATION: [u8; 8] = [0, 0, 0x5e, 0, 0, 1, 0, 0];
/// How much of it identifies; the padding may be anything.
const ORGANIZATION_OCTETS: usize = 6;

impl PtpLayout {
    /// Octets before the NTP message.
    #[must_use]
    pub const fn prefix_octets(self) -> usize {
        TLV_AT
            + TLV_HEADER_OCTETS
            + match self {
                Self::Final => ORGANIZATION.len(),
                Self::Experimental => 0,
            }
    }

    /// The other one.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::Final => Self::Experimental,
            Self::Experimental => Self::Final,
        }
    }
}

/// An NTP message that came in a PTP message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PtpMessage<'a> {
    /// How it lay there.
    pub layout: PtpLayout,
    /// The sender's number of the message: answers repeat it for whoever watches, we do not rely on it.
    pub sequence: u16,
    /// How long transparent clocks say that they held it; not authenticated, and of either sign.
    pub correction: NtpDuration,
    /// The NTP message; never empty.
    pub ntp: &'a [u8],
}

impl<'a> PtpMessage<'a> {
    /// Reads the payload of a UDP datagram; only of this PTP domain.
    ///
    /// # Errors
    /// [`DecodeError::HeaderTruncated`] when it is too short, [`DecodeError::Count`] when a length is not that of the datagram,
    /// [`DecodeError::Mode`] when it is another PTP message or one of another domain.
    pub fn parse(octets: &'a [u8], domain: u8) -> Result<Self, DecodeError> {
        let (prefix, _) = octets
            .split_first_chunk::<{ PtpLayout::Experimental.prefix_octets() }>()
            .ok_or(DecodeError::HeaderTruncated)?;
        let word = |at: usize| u16::from_be_bytes([prefix[at], prefix[at + 1]]);
        let is_known = match (prefix[0], prefix[1]) {
            (DELAY_REQ | SYNC, VERSION_2) => true,
            (DELAY_REQ | SYNC, VERSION_2_1) => prefix[5] == 0,
            _ => false,
        };
        if !is_known || prefix[4] != domain || word(6) != FLAG_UNICAST {
            return Err(DecodeError::Mode);
        }
        let layout = match word(TLV_AT) {
            TLV_EXPERIMENTAL => PtpLayout::Experimental,
            TLV_ORGANIZATION | TLV_ORGANIZATION_NOT_FORWARDED => PtpLayout::Final,
            _ => return Err(DecodeError::Mode),
        };
        let value_at = TLV_AT + TLV_HEADER_OCTETS;
        let is_whole = usize::from(word(2)) == octets.len()
            && usize::from(word(TLV_AT + 2)) == octets.len().saturating_sub(value_at);
        if !is_whole {
            return Err(DecodeError::Count);
        }
        if layout == PtpLayout::Final
            && octets.get(value_at..value_at + ORGANIZATION_OCTETS)
                != Some(&ORGANIZATION[..ORGANIZATION_OCTETS])
        {
            return Err(DecodeError::Mode);
        }
        let ntp = octets.get(layout.prefix_octets()..).filter(|ntp| !ntp.is_empty());
        let mut correction = [0; 8];
        correction.copy_from_slice(&prefix[8..16]);
        Ok(Self {
            layout,
            sequence: word(30),
            correction: correction_of(i64::from_be_bytes(correction)),
            ntp: ntp.ok_or(DecodeError::HeaderTruncated)?,
        })
    }
}

/// From 2⁻¹⁶ ns.
fn correction_of(scaled_nanos: i64) -> NtpDuration {
    /// Units of 2⁻³² s in 2⁻¹⁶ s, and nanoseconds in a second.
    const SCALE: (i128, i128) = (1 << 16, 1_000_000_000);
    // |i64| · 2¹⁶ / 10⁹ is far within 64 bits.
    NtpDuration::from_bits(i64::try_from(i128::from(scaled_nanos) * SCALE.0 / SCALE.1).unwrap_or(0))
}

/// Writes what stands before an NTP message of so many octets to the start of `room`; gives where that message goes.
///
/// # Errors
/// [`DecodeError::BufferTooShort`] when both do not fit, or are longer than PTP can say.
pub fn write_ptp_prefix(
    room: &mut [u8],
    layout: PtpLayout,
    domain: u8,
    sequence: u16,
    ntp_octets: usize,
) -> Result<usize, DecodeError> {
    let prefix_octets = layout.prefix_octets();
    let octets = prefix_octets.saturating_add(ntp_octets);
    if octets > room.len() {
        return Err(DecodeError::BufferTooShort);
    }
    let length = u16::try_from(octets).map_err(|_| DecodeError::BufferTooShort)?;
    let value_at = TLV_AT + TLV_HEADER_OCTETS;
    let value_length = u16::try_from(octets - value_at).map_err(|_| DecodeError::BufferTooShort)?;
    let prefix = &mut room[..prefix_octets];
    prefix.fill(0);
    (prefix[0], prefix[1]) = (DELAY_REQ, VERSION_2);
    prefix[2..4].copy_from_slice(&length.to_be_bytes());
    prefix[4] = domain;
    prefix[6..8].copy_from_slice(&FLAG_UNICAST.to_be_bytes());
    prefix[30..32].copy_from_slice(&sequence.to_be_bytes());
    let tlv = match layout {
        PtpLayout::Final => {
            prefix[value_at..].copy_from_slice(&ORGANIZATION);
            TLV_ORGANIZATION
        }
        PtpLayout::Experimental => TLV_EXPERIMENTAL,
    };
    prefix[TLV_AT..TLV_AT + 2].copy_from_slice(&tlv.to_be_bytes());
    prefix[TLV_AT + 2..value_at].copy_from_slice(&value_length.to_be_bytes());
    Ok(prefix_octets)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::vec::Vec;

    fn message(layout: PtpLayout, ntp: &[u8]) -> Vec<u8> {
        let mut octets = std::vec![0xee; layout.prefix_octets() + ntp.len()];
        let at = write_ptp_prefix(&mut octets, layout, 123, 0x1234, ntp.len()).expect("there is room");
        octets[at..].copy_from_slice(ntp);
        octets
    }

    /// As the specification's figures and chrony's packets have it.
    #[test]
    fn both_layouts_octet_by_octet() {
        let head = |length: u8| {
            let mut head = std::vec![1, 2, 0, length, 123, 0, 4, 0];
            head.extend([0; 22]);
            head.extend([0x12, 0x34, 0, 0]);
            head.extend([0; 10]);
            head
        };
        let fin = [&head(57)[..], &[0, 3, 0, 9, 0, 0, 0x5e, 0, 0, 1, 0, 0, 0xaa]].concat();
        assert_eq!(message(PtpLayout::Final, &[0xaa]), fin);
        let experimental = [&head(49)[..], &[0x20, 0x23, 0, 1, 0xaa]].concat();
        assert_eq!(message(PtpLayout::Experimental, &[0xaa]), experimental);
        assert_eq!(PTP_PREFIX_OCTETS_MAX, 56);
    }

    #[test]
    fn what_is_written_is_read() {
        for layout in [PtpLayout::Final, PtpLayout::Experimental] {
            let octets = message(layout, b"request");
            let read = PtpMessage::parse(&octets, 123);
            let correction = NtpDuration::ZERO;
            assert_eq!(read, Ok(PtpMessage { layout, sequence: 0x1234, correction, ntp: b"request" }));
            assert_eq!(PtpMessage::parse(&octets, 124), Err(DecodeError::Mode), "another domain");
            assert_eq!(PtpMessage::parse(&octets[..octets.len() - 1], 123), Err(DecodeError::Count));
            assert_eq!(PtpMessage::parse(&message(layout, b""), 123), Err(DecodeError::HeaderTruncated));
        }
    }

    #[test]
    fn other_messages_of_ptp_are_not_ours() {
        let good = message(PtpLayout::Final, &[1; 48]);
        let with = |changes: &[(usize, u8)]| {
            let mut octets = good.clone();
            changes.iter().for_each(|(at, value)| octets[*at] = *value);
            PtpMessage::parse(&octets, 123).map(|message| message.ntp.len())
        };
        // Sync as well as Delay_Req; version 2.1 with a minor sdoId of 0; the other organization extension; any padding.
        let taken: [&[(usize, u8)]; 5] =
            [&[(0, 0)], &[(1, 0x12)], &[(44, 0x80), (45, 0)], &[(54, 7)], &[(40, 1)]];
        for changes in taken {
            assert_eq!(with(changes), Ok(48), "{changes:?}");
        }
        let refused: [&[(usize, u8)]; 9] = [
            &[(0, 2)],
            &[(0, 0x11)],
            &[(1, 1)],
            &[(1, 0x12), (5, 1)],
            &[(6, 0)],
            &[(7, 2)],
            &[(45, 4)],
            &[(50, 0x5f)],
            &[(53, 0)],
        ];
        for changes in refused {
            assert_eq!(with(changes), Err(DecodeError::Mode), "{changes:?}");
        }
        for changes in [(3, 0), (47, 0), (2, 1)] {
            assert_eq!(with(&[changes]), Err(DecodeError::Count), "{changes:?}");
        }
    }

    #[test]
    fn corrections_are_of_either_sign_and_scale() {
        let with = |scaled: i64| {
            let mut octets = message(PtpLayout::Final, &[1]);
            octets[8..16].copy_from_slice(&scaled.to_be_bytes());
            PtpMessage::parse(&octets, 123).map(|message| message.correction)
        };
        // 1 ms, in nanoseconds of 2⁻¹⁶.
        assert_eq!(with(1_000_000 << 16), Ok(NtpDuration::from_bits(4_294_967)));
        assert_eq!(with(-(1_000_000 << 16)), Ok(NtpDuration::from_bits(-4_294_967)));
        assert!(with(i64::MAX).is_ok_and(|longest| longest > NtpDuration::from_seconds(140_000)));
        assert!(with(i64::MIN).is_ok_and(|shortest| shortest < NtpDuration::from_seconds(-140_000)));
    }

    #[test]
    fn a_message_that_does_not_fit_is_not_written() {
        let mut room = [0; 60];
        assert_eq!(write_ptp_prefix(&mut room, PtpLayout::Final, 1, 0, 4), Ok(56));
        assert_eq!(write_ptp_prefix(&mut room, PtpLayout::Final, 1, 0, 5), Err(DecodeError::BufferTooShort));
        let mut room = std::vec![0; 70_000];
        for octets in [65_480, usize::MAX] {
            let written = write_ptp_prefix(&mut room, PtpLayout::Final, 1, 0, octets);
            assert_eq!(written, Err(DecodeError::BufferTooShort), "{octets}");
        }
    }

    proptest! {
        #[test]
        fn no_octets_are_too_much(octets: Vec<u8>, domain: u8) {
            if let Ok(message) = PtpMessage::parse(&octets, domain) {
                prop_assert!(message.ntp.len() + message.layout.prefix_octets() == octets.len());
            }
        }

        #[test]
        fn damaged_messages_are_read_or_refused(
            ntp in proptest::collection::vec(any::<u8>(), 1..100),
            at in 0usize..56,
            value: u8,
            experimental: bool,
        ) {
            let layout = if experimental { PtpLayout::Experimental } else { PtpLayout::Final };
            let mut octets = message(layout, &ntp);
            let at = at % octets.len();
            octets[at] = value;
            if let Ok(message) = PtpMessage::parse(&octets, 123) {
                prop_assert!(octets.ends_with(message.ntp) && !message.ntp.is_empty());
            }
        }
    }
}
