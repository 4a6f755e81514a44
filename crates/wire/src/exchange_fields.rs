//! Two extension fields that chrony's clients ask for and its servers fill: they say more of an exchange than the header can.
//!
//! A request has them empty, so that the answer with them is not longer. Both have 28 octets, the least that a last field may
//! have (RFC 7822 §3).
//!
//! ```text
//! 0x010a  │ correction, 64 bits of 2⁻³² s │ 16 octets: zero                       draft-ietf-ntp-over-ptp, "Network Correction"
//! 0xf323  │ f5 be dd 9a │ root delay, 4.28 │ root dispersion, 4.28 │             experimental, after the drafts of NTPv5
//!         │ receive timestamp on the monotonic scale, 32.32 │ epoch of that scale │
//! ```

use crate::{DecodeError, FieldWriter, Packet, field_type};
use chime_time::{NtpDuration, NtpTimestamp};

/// Octets of either field, its header included.
pub const EXCHANGE_FIELD_OCTETS: usize = 28;
const BODY_OCTETS: usize = 24;
const MAGIC: [u8; 4] = 0xf5be_dd9a_u32.to_be_bytes();
/// Units of 2⁻³² s in 2⁻²⁸ s.
const SHIFT: u32 = 4;

/// How long the request was on its way through network cards and transparent clocks, as the server knows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NetworkCorrection(
    /// Receiving the request took this, together with what transparent clocks held it for; zero: not known. Not negative.
    pub NtpDuration,
);

/// The exchange on a scale of the server's that is not corrected in phase, only in frequency.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct MonotonicReceive {
    /// Round trip to the primary source, finer than the header has it.
    pub root_delay: NtpDuration,
    /// Error bound, finer than the header has it.
    pub root_dispersion: NtpDuration,
    /// When the packet came, on that scale; zero: not known.
    pub receive: NtpTimestamp,
    /// Scales with different numbers have nothing in common.
    pub epoch: u32,
}

/// What of the two a packet has.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ExchangeFields {
    /// The network's part.
    pub correction: Option<NetworkCorrection>,
    /// The scale without corrections.
    pub monotonic: Option<MonotonicReceive>,
}

impl ExchangeFields {
    /// Reads those of a packet; what is not as it should be is not there. They are as authentic as the packet.
    #[must_use]
    pub fn of(packet: &Packet<'_>) -> Self {
        let mut found = Self::default();
        for field in packet.fields().flatten() {
            let Ok(body) = <&[u8; BODY_OCTETS]>::try_from(field.body) else { continue };
            match field.field_type {
                field_type::NTS_AUTHENTICATOR => break,
                field_type::NETWORK_CORRECTION => {
                    found.correction = Some(NetworkCorrection(duration(body, 0)));
                }
                field_type::MONOTONIC_RECEIVE if body[..4] == MAGIC => {
                    found.monotonic = Some(MonotonicReceive::decode(body));
                }
                _ => {}
            }
        }
        found
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.correction.is_none() && self.monotonic.is_none()
    }

    /// Appends them.
    ///
    /// # Errors
    /// [`DecodeError::BufferTooShort`].
    pub fn append(&self, writer: &mut FieldWriter<'_>) -> Result<(), DecodeError> {
        if let Some(NetworkCorrection(correction)) = self.correction {
            let units = u64::try_from(correction.to_bits()).unwrap_or(0);
            let mut body = [0; BODY_OCTETS];
            body[..8].copy_from_slice(&units.to_be_bytes());
            writer.put_field(field_type::NETWORK_CORRECTION, &body, 0)?;
        }
        if let Some(monotonic) = &self.monotonic {
            writer.put_field(field_type::MONOTONIC_RECEIVE, &monotonic.encode(), 0)?;
        }
        Ok(())
    }
}

impl MonotonicReceive {
    fn decode(body: &[u8; BODY_OCTETS]) -> Self {
        let word = |at: usize| u32::from_be_bytes([body[at], body[at + 1], body[at + 2], body[at + 3]]);
        let fine = |at: usize| NtpDuration::from_bits(i64::from(word(at)) << SHIFT);
        Self {
            root_delay: fine(4),
            root_dispersion: fine(8),
            receive: NtpTimestamp::from_bits(u64::from(word(12)) << 32 | u64::from(word(16))),
            epoch: word(20),
        }
    }

    /// Durations are rounded up: no less error is claimed than there is. What is longer than 16 s is 16 s.
    fn encode(&self) -> [u8; BODY_OCTETS] {
        let fine = |duration: NtpDuration| {
            let units = u64::try_from(duration.to_bits()).unwrap_or(0).div_ceil(1 << SHIFT);
            u32::try_from(units).unwrap_or(u32::MAX).to_be_bytes()
        };
        let mut body = [0; BODY_OCTETS];
        body[..4].copy_from_slice(&MAGIC);
        body[4..8].copy_from_slice(&fine(self.root_delay));
        body[8..12].copy_from_slice(&fine(self.root_dispersion));
        body[12..20].copy_from_slice(&self.receive.to_be_bytes());
        body[20..].copy_from_slice(&self.epoch.to_be_bytes());
        body
    }
}

/// An unsigned duration of 2⁻³² s; what is too long for ours is the longest.
fn duration(body: &[u8; BODY_OCTETS], at: usize) -> NtpDuration {
    let mut units = [0; 8];
    units.copy_from_slice(&body[at..at + 8]);
    NtpDuration::from_bits(i64::try_from(u64::from_be_bytes(units)).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::HEADER_OCTETS;
    use proptest::prelude::*;

    const MONOTONIC: MonotonicReceive = MonotonicReceive {
        root_delay: NtpDuration::from_bits(0x10),
        root_dispersion: NtpDuration::from_bits(0x2345_6780),
        receive: NtpTimestamp::from_bits(0xa1a2_a3a4_b1b2_b3b4),
        epoch: 0xc1c2_c3c4,
    };

    fn written(fields: &ExchangeFields, buffer: &mut [u8]) -> usize {
        buffer[..HEADER_OCTETS].fill(0);
        buffer[0] = 0x24;
        let mut writer = FieldWriter::new(buffer, HEADER_OCTETS);
        fields.append(&mut writer).expect("there is room");
        writer.len()
    }

    #[test]
    fn they_are_written_octet_by_octet_as_chrony_has_them() {
        let fields = ExchangeFields {
            correction: Some(NetworkCorrection(NtpDuration::from_bits(0x0102_0304_0506))),
            monotonic: Some(MONOTONIC),
        };
        let mut buffer = [0xee; 120];
        let octets = written(&fields, &mut buffer);
        assert_eq!(octets, HEADER_OCTETS + 2 * EXCHANGE_FIELD_OCTETS);
        let mut wanted = [0; 2 * EXCHANGE_FIELD_OCTETS];
        wanted[..12].copy_from_slice(&[1, 0x0a, 0, 28, 0, 0, 1, 2, 3, 4, 5, 6]);
        wanted[28..].copy_from_slice(&[
            0xf3, 0x23, 0, 28, 0xf5, 0xbe, 0xdd, 0x9a, 0, 0, 0, 1, 0x02, 0x34, 0x56, 0x78, 0xa1, 0xa2, 0xa3,
            0xa4, 0xb1, 0xb2, 0xb3, 0xb4, 0xc1, 0xc2, 0xc3, 0xc4,
        ]);
        assert_eq!(buffer[HEADER_OCTETS..octets], wanted);
        let packet = Packet::parse(&buffer[..octets]).expect("a packet");
        assert_eq!(ExchangeFields::of(&packet), fields);
    }

    #[test]
    fn errors_are_rounded_up_and_end_at_sixteen_seconds() {
        let fine = |units| {
            let root_delay = NtpDuration::from_bits(units);
            MonotonicReceive::decode(&MonotonicReceive { root_delay, ..MONOTONIC }.encode())
                .root_delay
                .to_bits()
        };
        assert_eq!([fine(0), fine(1), fine(16), fine(17), fine(-5)], [0, 16, 16, 32, 0]);
        assert_eq!(fine(i64::MAX), i64::from(u32::MAX) << 4);
    }

    #[test]
    fn another_magic_or_length_is_no_field_of_ours() {
        let mut buffer = [0; 120];
        let octets = written(&ExchangeFields { monotonic: Some(MONOTONIC), correction: None }, &mut buffer);
        buffer[HEADER_OCTETS + 4] ^= 1;
        let packet = Packet::parse(&buffer[..octets]).expect("a packet");
        assert!(ExchangeFields::of(&packet).is_empty());
        let mut writer = FieldWriter::new(&mut buffer, HEADER_OCTETS);
        writer.put_field(field_type::NETWORK_CORRECTION, &[1; 28], 0).expect("there is room");
        let octets = writer.len();
        let packet = Packet::parse(&buffer[..octets]).expect("a packet");
        assert!(ExchangeFields::of(&packet).is_empty());
    }

    proptest! {
        #[test]
        fn no_octets_are_too_much(body: [u8; BODY_OCTETS], correction: bool) {
            let mut buffer = [0; 76];
            buffer[0] = 0x24;
            let mut writer = FieldWriter::new(&mut buffer, HEADER_OCTETS);
            let kind = if correction { field_type::NETWORK_CORRECTION } else { field_type::MONOTONIC_RECEIVE };
            let mut body = body;
            if !correction { body[..4].copy_from_slice(&MAGIC); }
            writer.put_field(kind, &body, 0).expect("there is room");
            let fields = ExchangeFields::of(&Packet::parse(&buffer).expect("a packet"));
            let mut again = [0; 76];
            let octets = written(&fields, &mut again);
            prop_assert_eq!(octets, 76);
            if !correction { prop_assert_eq!(again, buffer); }
        }
    }
}
