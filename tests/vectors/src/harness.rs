//! Our server, with everything that it takes from the world fixed.

use chime_fast::Datagram;
use chime_nts::{CookieKey, KeyRing};
use chime_server::{Arrival, Environment, KeyTable, Policy, Published, Responder, ServerTime, Verdict};
use chime_time::{MonoTime, NtpDate, NtpTimestamp};
use chime_wire::SymmetricKey;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

/// The time at which every request arrives: late in 2026, when the vectors were recorded.
const NOW_UNIX_SECONDS: i64 = 1_795_300_000;
const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

/// Our server, alone in the world.
pub(crate) struct Harness {
    pub(crate) ring: KeyRing,
    responder: Responder,
    world: World,
}

impl Harness {
    /// Answers everybody, knows `keys`, has a fresh key ring.
    pub(crate) fn new(keys: Vec<SymmetricKey>) -> Self {
        let policy = Policy { keys: KeyTable::new(keys), ..Policy::open() };
        let key = CookieKey::new(0x5eed_5eed, [0x42; 32], NtpDate::from_unix(NOW_UNIX_SECONDS - 3600, 0));
        Self {
            ring: KeyRing::new(key),
            responder: Responder::new(Arc::new(policy), [1, 2]),
            world: World { drawn: 0, now: NtpDate::from_unix(NOW_UNIX_SECONDS, 0).timestamp() },
        }
    }

    /// What comes back, if anything; the same past the sockets, where a request of its kind may go that way.
    pub(crate) fn ask(&mut self, request: &[u8]) -> Option<Vec<u8>> {
        let drawn = self.world.drawn;
        let answer = self.respond(request);
        self.world.drawn = drawn;
        let (frame, datagram) = framed(request);
        let by_frame = Datagram::parse(&frame).and_then(|parsed| {
            assert_eq!(parsed, datagram, "the frame is read as it was made");
            let answer = self.respond(&frame[parsed.payload.clone()])?;
            let mut room = [vec![0; parsed.payload.start], answer.clone()].concat();
            let octets = parsed.write_headers(&frame, &mut room, answer.len())?;
            room.truncate(octets);
            let back = Datagram::parse(&room)?;
            assert_eq!((back.from, back.to), (datagram.to, datagram.from), "it goes back");
            Some(room[back.payload].to_vec())
        });
        assert_eq!(by_frame, answer, "past the sockets, answers are the same");
        answer
    }

    fn respond(&mut self, request: &[u8]) -> Option<Vec<u8>> {
        let mono = MonoTime::from_nanos(1_000_000_000_000);
        let time = ServerTime::local(1, -24, mono, self.world.now);
        let arrival = Arrival::new(CLIENT, self.world.now, mono);
        let published = Published { time: &time, keys: Some(&self.ring) };
        // More room than the request has, so that an answer that is too long shows.
        let mut response = vec![0; request.len() + 2048];
        match self.responder.respond(request, &arrival, &published, &mut self.world, &mut response) {
            Verdict::Silence(_) => None,
            Verdict::Respond { octets, .. } => {
                response.truncate(octets);
                Some(response)
            }
        }
    }

    /// A nonce that was not used before.
    pub(crate) fn nonce(&mut self) -> [u8; 16] {
        let mut nonce = [0; 16];
        self.world.fill_random(&mut nonce);
        nonce
    }
}

/// A request as it comes past the sockets.
fn framed(request: &[u8]) -> (Vec<u8>, Datagram) {
    const HEADERS_OCTETS: usize = 42;
    let answered = [[2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2], [8, 0, 0, 0, 0, 0]].concat();
    let mut frame = [vec![0; HEADERS_OCTETS], request.to_vec()].concat();
    let payload = HEADERS_OCTETS..frame.len();
    let (client, server) = (SocketAddr::new(CLIENT, 40_000), SocketAddr::from(([192, 0, 2, 2], 123)));
    let answer = Datagram { from: server, to: client, payload: payload.clone() };
    assert_eq!(answer.write_headers(&answered, &mut frame, request.len()), Some(payload.end));
    (frame, Datagram { from: client, to: server, payload })
}

struct World {
    drawn: u64,
    now: NtpTimestamp,
}

impl Environment for World {
    fn system_time(&mut self) -> NtpTimestamp {
        self.now
    }

    /// Different each time, the same in every run. The mixing is that of splitmix64.
    fn fill_random(&mut self, octets: &mut [u8]) {
        for chunk in octets.chunks_mut(8) {
            self.drawn = self.drawn.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut mixed = self.drawn;
            mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
            let random = (mixed ^ mixed >> 31).to_be_bytes();
            chunk.copy_from_slice(&random[..chunk.len()]);
        }
    }
}
