//! Targets for `chime-refclock`: what other programs and devices say.

use chime_refclock::{Reading, ReadingKind, nmea, shm, sock};
use chime_time::NtpDate;

/// Any reading is a number that an offset can be.
fn check(reading: &Reading) {
    if let ReadingKind::Time(offset) | ReadingKind::Pulse(offset) = reading.kind {
        assert!(offset.as_secs_f64().abs() <= 2_147_483_648.0);
    }
    assert!(reading.dispersion.is_finite() && reading.dispersion >= 0.0);
}

/// A shared memory segment, torn or not.
pub fn shared_memory(octets: &[u8]) {
    let (count, octets) = crate::first(octets);
    let mut segment = [0; shm::OCTETS];
    for (place, octet) in segment.iter_mut().zip(octets) {
        *place = *octet;
    }
    if let Ok(reading) = shm::decode(&segment, i32::from(count)) {
        check(&reading);
    }
}

/// A datagram to the socket of a reference clock.
pub fn sock_datagram(octets: &[u8]) {
    if let Ok(reading) = sock::decode(octets) {
        check(&reading);
    }
}

/// What comes over a serial line, in pieces of any size.
pub fn nmea_line(octets: &[u8]) {
    let (size, octets) = crate::first(octets);
    let mut receiver = nmea::Receiver::default();
    for (piece, second) in octets.chunks(usize::from(size).max(1)).zip(0..) {
        let told = receiver.push(piece, NtpDate::from_unix(1_795_187_000 + second, 0));
        told.iter().flatten().for_each(check);
    }
}
