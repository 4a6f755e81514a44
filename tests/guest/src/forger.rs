//! The man in the middle: forwards key establishment untouched, and answers NTP requests with everything but the truth.

use crate::lab::HOST_ADDRESS;
use anyhow::{Context, Result};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

/// Where the real server is; the forger stands at [`HOST_ADDRESS`].
pub(crate) const HIDDEN_SERVER: Ipv4Addr = Ipv4Addr::LOCALHOST;

/// By how much forged answers are wrong, in seconds.
const LIE_SECONDS: u32 = 1000;

/// Forgeries for one request, each time others: more at once would fill the guest's receive queue, and a flood is not
/// what is tried here.
const FORGERIES_PER_REQUEST: usize = 32;

/// What becomes of the real answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Genuine {
    /// It is held back: the guest sees forgeries only.
    Withheld,
    /// It comes after the forgeries.
    AfterForgeries,
}

/// What the forger did so far.
#[derive(Debug, Default)]
pub(crate) struct Deeds {
    /// Requests that the guest sent.
    pub(crate) requests: AtomicUsize,
    /// Forged answers that it got.
    pub(crate) forgeries: AtomicUsize,
}

/// Starts to forge, for as long as the process lives.
pub(crate) fn start(genuine: Genuine) -> Result<Arc<Deeds>> {
    let keys =
        TcpListener::bind((HOST_ADDRESS, 4460)).context("the forger cannot listen on TCP port 4460")?;
    thread::spawn(move || {
        for connection in keys.incoming().map_while(Result::ok) {
            let _broken = forward(connection);
        }
    });
    let socket = UdpSocket::bind((HOST_ADDRESS, 123)).context("the forger cannot listen on UDP port 123")?;
    let deeds = Arc::new(Deeds::default());
    let counted = Arc::clone(&deeds);
    thread::spawn(move || {
        let mut earlier = None;
        let mut request = [0; 2048];
        while let Ok((octets, from)) = socket.recv_from(&mut request) {
            counted.requests.fetch_add(1, Ordering::Relaxed);
            let _lost = answer(&socket, &request[..octets], from, genuine, &mut earlier, &counted);
        }
    });
    Ok(deeds)
}

/// Copies a connection to the real server and back, untouched.
fn forward(guest: TcpStream) -> io::Result<()> {
    let server = TcpStream::connect((HIDDEN_SERVER, 4460))?;
    for (mut from, mut to) in [(guest.try_clone()?, server.try_clone()?), (server, guest)] {
        thread::spawn(move || {
            let _broken = io::copy(&mut from, &mut to);
            let _gone = to.shutdown(std::net::Shutdown::Write);
        });
    }
    Ok(())
}

fn answer(
    socket: &UdpSocket,
    request: &[u8],
    guest: SocketAddr,
    genuine: Genuine,
    earlier: &mut Option<Vec<u8>>,
    deeds: &Deeds,
) -> io::Result<()> {
    let server = UdpSocket::bind((HIDDEN_SERVER, 0))?;
    server.connect((HIDDEN_SERVER, 123))?;
    server.set_read_timeout(Some(Duration::from_millis(500)))?;
    server.send(request)?;
    let mut response = [0; 2048];
    let octets = server.recv(&mut response)?;
    let response = &response[..octets];
    let all = forgeries(request, response, earlier.as_deref());
    let first = deeds.forgeries.load(Ordering::Relaxed);
    for forged in all.iter().cycle().skip(first % all.len().max(1)).take(FORGERIES_PER_REQUEST.min(all.len()))
    {
        socket.send_to(forged, guest)?;
        deeds.forgeries.fetch_add(1, Ordering::Relaxed);
    }
    if genuine == Genuine::AfterForgeries {
        socket.send_to(response, guest)?;
    }
    *earlier = Some(response.to_vec());
    Ok(())
}

const HEADER_OCTETS: usize = 48;
const UNIQUE_IDENTIFIER: u16 = 0x0104;

/// Every lie that can be made of a true answer without its keys.
fn forgeries(request: &[u8], response: &[u8], earlier: Option<&[u8]>) -> Vec<Vec<u8>> {
    if response.len() < HEADER_OCTETS {
        return Vec::new();
    }
    let lie = shifted(response);
    let identifier = unique_identifier(response).unwrap_or_default();
    let bare = lie[..HEADER_OCTETS].to_vec();
    let identified = [bare.as_slice(), identifier].concat();
    let mut all = vec![
        // No authenticator, with and without the unique identifier.
        bare.clone(),
        identified.clone(),
        // A changed header under the authenticator of the true one.
        lie.clone(),
        // The request sent back.
        request.to_vec(),
        Vec::new(),
    ];
    // Kiss codes that nobody signed.
    for code in [b"DENY", b"RSTR", b"RATE", b"NTSN"] {
        let mut kiss = identified.clone();
        kiss[1] = 0;
        kiss[12..16].copy_from_slice(code);
        all.push(kiss.clone());
        all.push(kiss[..HEADER_OCTETS].to_vec());
    }
    // Cut off, and with octets to spare.
    for octets in (HEADER_OCTETS..lie.len()).step_by(28) {
        all.push(lie[..octets].to_vec());
        all.push(response[..octets].to_vec());
    }
    all.push([response, &[0; 28]].concat());
    // One bit in every third octet; the header's first octets are wrong enough without.
    for octet in (0..response.len()).step_by(3) {
        let mut flipped = response.to_vec();
        flipped[octet] ^= 0x10;
        all.push(flipped);
    }
    // A true answer to an earlier request: as it was, and pretending to be for this one.
    if let Some(earlier) = earlier {
        all.push(earlier.to_vec());
        let mut replayed = earlier.to_vec();
        replayed[24..32].copy_from_slice(&response[24..32]);
        all.push(replayed);
        all.push([&lie[..HEADER_OCTETS], &earlier[HEADER_OCTETS.min(earlier.len())..]].concat());
    }
    all
}

/// The answer with its reference, receive and transmit times moved.
fn shifted(response: &[u8]) -> Vec<u8> {
    let mut lie = response.to_vec();
    for start in [16, 32, 40] {
        let mut seconds = [0; 4];
        seconds.copy_from_slice(&lie[start..start + 4]);
        let moved = u32::from_be_bytes(seconds).wrapping_add(LIE_SECONDS);
        lie[start..start + 4].copy_from_slice(&moved.to_be_bytes());
    }
    lie
}

/// The unique identifier's extension field, whole.
fn unique_identifier(packet: &[u8]) -> Option<&[u8]> {
    let mut fields = packet.get(HEADER_OCTETS..)?;
    while let [kind_high, kind_low, length_high, length_low, ..] = *fields {
        let length = usize::from(u16::from_be_bytes([length_high, length_low])).max(4);
        let field = fields.get(..length)?;
        if u16::from_be_bytes([kind_high, kind_low]) == UNIQUE_IDENTIFIER {
            return Some(field);
        }
        fields = &fields[length..];
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn response() -> Vec<u8> {
        let mut octets = vec![7; HEADER_OCTETS];
        octets.extend([0x02, 0x04, 0, 8, 9, 9, 9, 9]);
        octets.extend([0x01, 0x04, 0, 8, 1, 2, 3, 4]);
        octets
    }

    #[test]
    fn no_forgery_is_the_truth() {
        let (request, response) = (vec![1; 60], response());
        let all = forgeries(&request, &response, Some(&[5; 64]));
        assert!(all.len() > 30 && all.iter().all(|forged| *forged != response));
    }

    #[test]
    fn lies_keep_the_origin_and_the_identifier() {
        let response = response();
        let lie = shifted(&response);
        assert_eq!(lie[24..32], response[24..32], "the origin timestamp");
        assert_eq!(u32::from_be_bytes(lie[40..44].try_into().unwrap()), 0x0707_0707 + 1000);
        assert_eq!(unique_identifier(&response), Some(&[1, 4, 0, 8, 1, 2, 3, 4][..]));
        assert_eq!(unique_identifier(&response[..52]), None);
    }
}
