//! A server that is right, then lies for a while, then is right again: plain NTP, as nobody can forge the rest.

use crate::lab::HOST_ADDRESS;
use crate::probe::now_nanos;
use anyhow::{Context, Result};
use std::net::UdpSocket;
use std::thread;
use std::time::Instant;

/// When the server lies, in seconds after its first request, and by how much.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lie {
    pub(crate) from: f64,
    pub(crate) until: f64,
    /// Its clock minus the truth, in seconds.
    pub(crate) by: f64,
}

pub(crate) const HEADER_OCTETS: usize = 48;
/// From 1900 to 1970.
pub(crate) const UNIX_SECONDS: i128 = 2_208_988_800;

/// Starts to serve, for as long as the process lives.
pub(crate) fn start(lie: Lie) -> Result<()> {
    let socket = UdpSocket::bind((HOST_ADDRESS, 123)).context("the server cannot listen on UDP port 123")?;
    thread::spawn(move || {
        let mut request = [0; 2048];
        let mut first: Option<Instant> = None;
        while let Ok((octets, from)) = socket.recv_from(&mut request) {
            let received = now_nanos();
            let age = first.get_or_insert_with(Instant::now).elapsed().as_secs_f64();
            let by = if (lie.from..lie.until).contains(&age) { lie.by } else { 0.0 };
            if octets >= HEADER_OCTETS {
                #[expect(clippy::cast_possible_truncation, reason = "some thousand seconds, in nanoseconds")]
                let lie = (by * 1e9) as i128;
                let clock = || now_nanos() + lie;
                let _lost = socket.send_to(&answer(&request, received + lie, 0, clock), from);
            }
        }
    });
    Ok(())
}

/// The answer of a primary server with such a clock, and that leap indicator. RFC 5905 §7.3.
pub(crate) fn answer(
    request: &[u8],
    received: i128,
    leap: u8,
    clock: impl Fn() -> i128,
) -> [u8; HEADER_OCTETS] {
    let mut packet = [0; HEADER_OCTETS];
    // The request's version, mode 4; stratum 1; precision 2⁻²⁰ s; the least dispersion.
    packet[0] = leap << 6 | (request[0] & 0o070) | 4;
    (packet[1], packet[2], packet[3], packet[11]) = (1, request[2], (-20_i8).to_be_bytes()[0], 1);
    packet[12..16].copy_from_slice(b"LOCL");
    packet[16..24].copy_from_slice(&timestamp(received));
    packet[24..32].copy_from_slice(&request[40..48]);
    packet[32..40].copy_from_slice(&timestamp(received));
    packet[40..48].copy_from_slice(&timestamp(clock()));
    packet
}

/// Seconds since 1900 and their 2³²nd parts.
fn timestamp(unix_nanos: i128) -> [u8; 8] {
    let units = (unix_nanos + UNIX_SECONDS * 1_000_000_000) * (1 << 32) / 1_000_000_000;
    u64::try_from(units & i128::from(u64::MAX)).unwrap_or(0).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_has_the_origin_and_the_lie() {
        let mut request = [0; HEADER_OCTETS];
        request[0] = 0o043;
        request[40..48].copy_from_slice(b"transmit");
        let packet = answer(&request, 2_500_000_000, 1, || 3_000_000_000);
        assert_eq!((packet[0], packet[1], &packet[24..32]), (0o144, 1, &b"transmit"[..]));
        assert_eq!(packet[32..40], [0x83, 0xaa, 0x7e, 0x82, 0x80, 0, 0, 0]);
    }
}
