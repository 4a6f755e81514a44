//! Time that is sent without being asked for. RFC 5905 §9, mode 5.

use crate::ServerTime;
use chime_time::{MonoTime, NtpTimestamp};
use chime_wire::mac::SymmetricKey;
use chime_wire::{DecodeError, FieldWriter, HEADER_OCTETS, Header, Mode};

/// Room for a header and the longest MAC.
pub const BROADCAST_OCTETS_MAX: usize = HEADER_OCTETS + 4 + 64;

/// Writes one packet for the instant at which the clock shows `system` and the monotonic one `now`; gives its octets. `poll`
/// is the log2 of the interval. `None`: our clock is not to be followed, and so nothing is to be sent.
///
/// # Errors
/// When `buffer` is shorter than [`BROADCAST_OCTETS_MAX`].
pub fn write_broadcast(
    time: &ServerTime,
    (system, now): (NtpTimestamp, MonoTime),
    poll: i8,
    key: Option<&SymmetricKey>,
    buffer: &mut [u8],
) -> Result<Option<usize>, DecodeError> {
    const VERSION: u8 = 4;
    if !time.is_synchronized() {
        return Ok(None);
    }
    let header = Header {
        leap: time.leap,
        version: VERSION,
        mode: Mode::Broadcast,
        stratum: time.stratum,
        poll,
        precision: time.precision,
        root_delay: time.root_delay,
        root_dispersion: time.root_dispersion(now),
        reference_id: time.reference_id,
        reference: time.reference,
        origin: NtpTimestamp::ZERO,
        receive: NtpTimestamp::ZERO,
        transmit: time.corrected(system, now),
    };
    let room = buffer.get_mut(..HEADER_OCTETS).ok_or(DecodeError::HeaderTruncated)?;
    room.copy_from_slice(&header.encode());
    let mut writer = FieldWriter::new(buffer, HEADER_OCTETS);
    if let Some(key) = key {
        key.append_mac(&mut writer, VERSION)?;
    }
    Ok(Some(writer.len()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use chime_time::NtpDuration;
    use chime_wire::Packet;
    use chime_wire::mac::MacAlgorithm;

    fn now() -> (NtpTimestamp, MonoTime) {
        (NtpTimestamp::from_bits(4_000_000_000 << 32), MonoTime::from_nanos(5_000_000_000))
    }

    #[test]
    fn a_broadcast_tells_the_corrected_time_and_answers_nothing() {
        let (system, mono) = now();
        let correction = NtpDuration::from_nanos(250_000_000);
        let time = ServerTime { correction, ..ServerTime::local(3, -20, mono, system) };
        let key = SymmetricKey::new(4, MacAlgorithm::Sha1, b"a secret").expect("a key");
        for key in [None, Some(&key)] {
            let mut buffer = [0; BROADCAST_OCTETS_MAX];
            let octets =
                write_broadcast(&time, now(), 6, key, &mut buffer).expect("there is room").expect("time");
            let packet = Packet::parse(&buffer[..octets]).expect("a packet");
            let header = packet.header;
            assert_eq!(
                (header.mode, header.version, header.stratum, header.poll),
                (Mode::Broadcast, 4, 3, 6)
            );
            assert!(header.origin.is_zero() && header.receive.is_zero());
            assert_eq!(header.transmit, system + correction);
            let covered = &packet.octets()[..packet.fields_end()];
            assert_eq!(packet.mac().map(|mac| mac.key_id), key.map(SymmetricKey::id));
            assert!(packet.mac().is_none_or(|mac| key.is_some_and(|key| key.verify(covered, mac.digest, 4))));
        }
    }

    #[test]
    fn a_clock_that_is_not_synchronised_is_not_told() {
        let mut buffer = [0; BROADCAST_OCTETS_MAX];
        let time = ServerTime::unsynchronized(-20);
        assert_eq!(write_broadcast(&time, now(), 6, None, &mut buffer), Ok(None));
        let local = ServerTime::local(1, -20, now().1, now().0);
        assert!(write_broadcast(&local, now(), 6, None, &mut [0; 40]).is_err());
    }
}
