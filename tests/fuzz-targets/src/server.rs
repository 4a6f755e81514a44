//! Targets for `chime-server`.

use crate::nts::{is_plain, ring};
use chime_fast::Datagram;
use chime_server::{
    Arrival, Environment, KeyTable, Policy, Published, Responder, ResponseKind, SIGNED_OCTETS,
    SIGNING_REPLY_OCTETS_MAX, ServerTime, Subnet, TransmitTimes, Unsigned, Verdict, signing_key,
};
use chime_time::{MonoTime, NtpTimestamp};
use chime_wire::{HEADER_OCTETS, MacAlgorithm, SymmetricKey};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

/// Random octets that are none, and a clock that stands.
struct Still;

impl Environment for Still {
    fn system_time(&mut self) -> NtpTimestamp {
        NtpTimestamp::from_bits(0xeeaa_e4b5_0000_0000)
    }

    fn fill_random(&mut self, octets: &mut [u8]) {
        octets.fill(0x5c);
    }
}

/// A datagram on the NTP port: the answer is never longer, and never plain time for a packet with an NTS field.
pub fn responder(octets: &[u8]) {
    let key = SymmetricKey::new(1, MacAlgorithm::Md5, b"golden-md5-key").expect("a good key");
    let policy = Policy { keys: KeyTable::new(vec![key]), ..Policy::open() };
    let times = Arc::new(TransmitTimes::new([3, 4]));
    let client = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
    // Whatever the request refers to is known.
    let field = |at: usize| octets.get(at..at + 8).and_then(|field| field.try_into().ok());
    let referred = field(24).map(NtpTimestamp::from_be_bytes);
    if let Some(referred) = referred {
        times.note(times.mark(client, referred), Still.system_time());
    }
    let mut responder = Responder::new(Arc::new(policy), [1, 2]).with_transmit_times(times);
    let now = Still.system_time();
    let mono = MonoTime::from_nanos(1_000_000_000);
    let arrival = Arrival::new(client, now, mono);
    let time = ServerTime::local(1, -20, mono, now);
    let ring = ring();
    let published = Published { time: &time, keys: Some(&ring) };
    let mut response = vec![0; octets.len() + 4096];
    let verdict = responder.respond(octets, &arrival, &published, &mut Still, &mut response);
    if let Verdict::Respond { octets: length, kind } = verdict {
        assert!(length <= octets.len());
        let is_interleaved = responder.counters().interleaved == 1;
        assert!(!is_interleaved || octets[24..32] != [0; 8] && octets[32..40] != octets[40..48]);
        let echoed = if is_interleaved { 32..40 } else { 40..48 };
        assert_eq!(response[24..32], octets[echoed], "the origin timestamp");
        let plain = matches!(kind, ResponseKind::Plain | ResponseKind::Interleaved | ResponseKind::Keyed);
        assert!(!plain || is_plain(octets), "unauthenticated time for NTS fields");
    }
    if let Ok(subnet) = String::from_utf8_lossy(octets).parse::<Subnet>() {
        assert_eq!(subnet.to_string().parse(), Ok(subnet));
    }
}

/// A frame that is handed over past the sockets: what is read of it can be answered, as long as the request and no longer, and
/// the answer goes back.
pub fn frame(octets: &[u8]) {
    let Some(datagram) = Datagram::parse(octets) else { return };
    let payload = datagram.payload.len();
    for length in [payload, payload / 2, 0] {
        let mut answer = vec![0x5c; octets.len()];
        let end = datagram.write_headers(octets, &mut answer, length).expect("there is room");
        assert_eq!(end, octets.len() - payload + length);
        let back = Datagram::parse(&answer[..end]).expect("our headers are good");
        assert_eq!((back.from, back.to), (datagram.to, datagram.from));
        assert_eq!(back.payload, datagram.payload.start..end);
        assert!(answer[back.payload].iter().all(|octet| *octet == 0x5c));
    }
    assert_eq!(datagram.write_headers(octets, &mut [0; 4096], payload + 1), None);
}

/// A reply of Samba's, after an octet with the number of the message that it is to answer: what is sent on is our own answer with
/// a checksum, whatever Samba says. And a request: who wants a signature gets an answer that is no longer.
pub fn signing_reply(octets: &[u8]) {
    if let Some(key) = signing_key(octets) {
        assert!(octets.len() == SIGNED_OCTETS && octets[HEADER_OCTETS..].starts_with(&key));
    }
    let (number, octets) = crate::first(octets);
    let unsigned = Unsigned { header: [0x1c; HEADER_OCTETS], key: [0xe8, 3, 0, 0x80] };
    let Some((length, rest)) = octets.split_first_chunk() else { return };
    let Ok(length) = Unsigned::reply_length(*length) else { return };
    assert!(length < SIGNING_REPLY_OCTETS_MAX);
    let reply = &rest[..length.min(rest.len())];
    if let Ok(signed) = unsigned.signed(number.into(), reply) {
        let (ours, checksum) = signed.split_at(HEADER_OCTETS + unsigned.key.len());
        assert_eq!(ours, [&unsigned.header[..], &unsigned.key].concat());
        assert!(reply.len() == length && reply.ends_with(checksum));
    }
}
