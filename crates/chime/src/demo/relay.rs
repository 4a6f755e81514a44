//! The man in the middle: passes NTP datagrams on, and forges one answer when told to.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::thread;
use std::time::Duration;

/// By how much the forged answer is wrong.
pub(crate) const FORGED_SECONDS: u32 = 3600;

/// Octets of the largest datagram that is passed on.
const DATAGRAM_OCTETS_MAX: usize = 2048;
/// Where the receive and the transmit timestamp begin; their seconds come first. RFC 5905 §7.3.
const TIMESTAMPS: [usize; 2] = [32, 40];
/// Clients remembered by their origin timestamps; one asks once at a time.
const CLIENTS_MAX: usize = 64;

const HONEST: u8 = 0;
const FORGE_NEXT: u8 = 1;
const FORGED: u8 = 2;

/// A running relay; its thread ends with the process.
#[derive(Debug)]
pub(crate) struct Relay {
    port: u16,
    state: Arc<AtomicU8>,
}

impl Relay {
    /// Passes datagrams on to a server on loopback.
    pub(crate) fn start(server_port: u16) -> io::Result<Self> {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        let port = socket.local_addr()?.port();
        let server = SocketAddr::from((Ipv4Addr::LOCALHOST, server_port));
        let state = Arc::new(AtomicU8::new(HONEST));
        let shared = Arc::clone(&state);
        thread::Builder::new().name("relay".to_owned()).spawn(move || pass_on(&socket, server, &shared))?;
        Ok(Self { port, state })
    }

    /// Where the client is sent.
    pub(crate) const fn port(&self) -> u16 {
        self.port
    }

    /// Forges the next answer.
    pub(crate) fn forge_next(&self) {
        self.state.store(FORGE_NEXT, Ordering::SeqCst);
    }

    /// Whether it was forged.
    pub(crate) fn has_forged(&self) -> bool {
        self.state.load(Ordering::SeqCst) == FORGED
    }
}

/// An answer goes back to the client whose request carried the timestamp that the answer repeats.
fn pass_on(socket: &UdpSocket, server: SocketAddr, state: &AtomicU8) {
    let mut clients: BTreeMap<[u8; 8], SocketAddr> = BTreeMap::new();
    let mut buffer = [0; DATAGRAM_OCTETS_MAX];
    loop {
        let (octets, from) = match socket.recv_from(&mut buffer) {
            Ok(received) => received,
            Err(_) => {
                // A port that answers "nobody here" is reported once per datagram; the server may still be starting.
                thread::sleep(Duration::from_millis(1));
                continue;
            }
        };
        let datagram = &mut buffer[..octets];
        let to = if from == server {
            let Some(client) = field(datagram, 24).and_then(|origin| clients.remove(&origin)) else {
                continue;
            };
            let forges = state.compare_exchange(FORGE_NEXT, FORGED, Ordering::SeqCst, Ordering::SeqCst);
            if forges.is_ok() {
                forge(datagram);
            }
            client
        } else {
            let Some(transmit) = field(datagram, 40) else { continue };
            if clients.len() >= CLIENTS_MAX {
                clients.clear();
            }
            clients.insert(transmit, from);
            server
        };
        // What cannot be sent is lost, as on any network.
        let _ = socket.send_to(datagram, to);
    }
}

/// Moves the server's time, which a client without authentication would believe.
fn forge(datagram: &mut [u8]) {
    for at in TIMESTAMPS {
        let Some(octets) = datagram.get_mut(at..at + 4) else { return };
        let Ok(seconds) = <[u8; 4]>::try_from(&*octets) else { return };
        let moved = u32::from_be_bytes(seconds).wrapping_add(FORGED_SECONDS);
        octets.copy_from_slice(&moved.to_be_bytes());
    }
}

fn field(datagram: &[u8], at: usize) -> Option<[u8; 8]> {
    datagram.get(at..at + 8)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forging_moves_both_timestamps_and_short_datagrams_do_no_harm() {
        let mut datagram = [0_u8; 48];
        forge(&mut datagram);
        assert_eq!(datagram[32..36], FORGED_SECONDS.to_be_bytes());
        assert_eq!(datagram[40..44], FORGED_SECONDS.to_be_bytes());
        forge(&mut datagram[..34]);
        forge(&mut []);
    }

    #[test]
    fn requests_go_to_the_server_and_answers_back_to_who_asked() {
        let server = UdpSocket::bind("127.0.0.1:0").expect("loopback");
        let relay = Relay::start(server.local_addr().expect("bound").port()).expect("it starts");
        let client = UdpSocket::bind("127.0.0.1:0").expect("loopback");
        for socket in [&server, &client] {
            socket.set_read_timeout(Some(Duration::from_secs(5))).expect("it can be set");
        }
        let mut request = [0_u8; 48];
        request[40..48].copy_from_slice(b"transmit");
        let mut answer = [0_u8; 48];
        answer[24..32].copy_from_slice(b"transmit");
        let mut buffer = [0; 64];
        let mut exchange = || {
            client.send_to(&request, ("127.0.0.1", relay.port())).expect("sent");
            let (octets, from) = server.recv_from(&mut buffer).expect("passed on");
            assert_eq!(buffer[..octets], request);
            server.send_to(&answer, from).expect("sent");
            let (octets, _) = client.recv_from(&mut buffer).expect("passed back");
            buffer[..octets].to_vec()
        };
        assert_eq!(exchange(), answer);
        relay.forge_next();
        assert!(!relay.has_forged());
        assert_ne!(exchange(), answer);
        assert!(relay.has_forged());
        assert_eq!(exchange(), answer, "only one answer is forged");
    }
}
