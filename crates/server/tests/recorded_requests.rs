//! What real servers were asked, and what we make of it. `testdata/requests.txt` says what they did.

mod fixed;

use chime_server::{Arrival, KeyTable, Policy, Published, Responder, ResponseKind, ServerTime, Verdict};
use chime_time::{MonoTime, NtpTimestamp};
use chime_wire::mac::{MacAlgorithm, SymmetricKey};
use chime_wire::{Header, Mode, Packet};
use fixed::Fixed;
use std::sync::Arc;

fn octets(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).expect("hex")).collect()
}

fn golden_keys() -> KeyTable {
    let range = |from: u8, to: u8| (from..=to).collect::<Vec<u8>>();
    let aes256 = octets("603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4");
    let keys = [
        (1, MacAlgorithm::Md5, b"golden-md5-key".to_vec()),
        (2, MacAlgorithm::Sha1, range(0, 0x13)),
        (3, MacAlgorithm::Sha256, range(0x20, 0x3f)),
        (4, MacAlgorithm::Aes128, octets("2b7e151628aed2a6abf7158809cf4f3c")),
        (5, MacAlgorithm::Aes256, aes256),
        (6, MacAlgorithm::Sha384, range(0x50, 0x5f)),
        (7, MacAlgorithm::Sha512, range(0x60, 0x6f)),
    ];
    KeyTable::new(
        keys.iter().map(|(id, kind, key)| SymmetricKey::new(*id, *kind, key).expect("a key")).collect(),
    )
}

fn ask(request: &[u8]) -> Option<(ResponseKind, Vec<u8>)> {
    let mut responder = Responder::new(Arc::new(Policy { keys: golden_keys(), ..Policy::open() }), [1, 2]);
    let received = NtpTimestamp::from_bits(4_000_000_000 << 32);
    let arrival = Arrival::new([192, 0, 2, 1].into(), received, MonoTime::ZERO);
    let time = ServerTime::local(10, -20, MonoTime::ZERO, received);
    let mut response = [0; 2048];
    let published = Published { time: &time, keys: None };
    match responder.respond(request, &arrival, &published, &mut Fixed, &mut response) {
        Verdict::Respond { octets, kind } => Some((kind, response[..octets].to_vec())),
        Verdict::Silence(_) => None,
    }
}

#[test]
fn requests_are_answered_as_chrony_answers_them() {
    let mut checked = 0;
    for line in include_str!("../testdata/requests.txt").lines().filter(|line| !line.starts_with('#')) {
        let words: Vec<&str> = line.split(' ').collect();
        let [name, _peer, verdict, .., request] = words[..] else { panic!("{line}") };
        let request = octets(request);
        let answer = ask(&request);
        match verdict {
            "time" | "mode2" => {
                let (kind, answer) = answer.unwrap_or_else(|| panic!("{name}: silence"));
                let (asked, header) = (Header::decode(&request).unwrap(), Header::decode(&answer).unwrap());
                let mode = if verdict == "time" { Mode::Server } else { Mode::SymmetricPassive };
                assert_eq!(
                    (header.mode, header.version, header.origin),
                    (mode, asked.version, asked.transmit),
                    "{name}"
                );
                assert!(answer.len() <= request.len(), "{name}");
                let mac = Packet::parse(&answer).unwrap().mac().map(|mac| mac.digest.len());
                let digest = if name.starts_with("mac/") { words[3].parse().ok() } else { None };
                assert_eq!(mac, digest, "{name}");
                let expected = if mac.is_some() { ResponseKind::Keyed } else { ResponseKind::Plain };
                assert_eq!(kind, expected, "{name}");
                if let Some(mac) = Packet::parse(&answer).unwrap().mac() {
                    let key = golden_keys().get(mac.key_id).cloned().expect("one of the keys");
                    assert!(key.verify(&answer[..48], mac.digest, header.version), "{name}");
                }
            }
            // Control messages are another responder's business: NTPsec's answers to them are not ours.
            "silence" | "mode6" => assert!(answer.is_none(), "{name}: {answer:?}"),
            other => panic!("{name}: what is {other}?"),
        }
        checked += 1;
    }
    assert!(checked > 60, "{checked}");
}
