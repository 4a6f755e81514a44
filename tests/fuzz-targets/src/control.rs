//! Targets for what answers the tools of other daemons.

use chime_control::mode6::{self, Facts, Kernel, Rights};
use chime_control::{Snapshot, chrony};
use chime_engine::SourceReport;
use chime_server::KeyTable;
use chime_time::NtpTimestamp;
use chime_wire::{ControlMessage, MacAlgorithm, SymmetricKey};
use std::net::{Ipv4Addr, SocketAddr};

fn snapshot() -> Snapshot {
    let mut snapshot = Snapshot::default();
    let remote = Some(SocketAddr::from(([192, 0, 2, 1], 123)));
    let named = SourceReport { id: 1, name: "a.example".to_owned(), remote, ..SourceReport::default() };
    let unresolved = SourceReport { id: 0x8000_0100, source: 1, remote: None, ..named.clone() };
    snapshot.engine.sources = vec![named, unresolved];
    snapshot
}

/// A datagram of mode 6: strangers get no answer, and every datagram of another answer is well-formed and belongs to it.
pub fn mode6_answer(octets: &[u8]) {
    let snapshot = snapshot();
    let key = SymmetricKey::new(1, MacAlgorithm::Md5, b"fuzz").expect("a key");
    let keys = KeyTable::new(vec![key]);
    let facts = Facts {
        snapshot: &snapshot,
        now: NtpTimestamp::from_bits(0xeeaa_e6a1_be97_72bd),
        processor: "x",
        system: "Linux/6",
        keys: &keys,
        control_key: Some(1),
        secret: &[0; 16],
        listening: &[],
        restrictions: &[],
        variables: &[],
        kernel: Kernel::default(),
        requests: 0,
        clients_max: 0,
    };
    let from = SocketAddr::from((Ipv4Addr::LOCALHOST, 1024));
    let silent = mode6::respond(octets, from, Rights::NONE, &facts);
    assert!(matches!(silent, mode6::Verdict::Silence(_)), "{silent:?}");
    if let mode6::Verdict::Reply(datagrams) = mode6::respond(octets, from, Rights::ALL, &facts) {
        for datagram in datagrams {
            let message = ControlMessage::decode(&datagram).expect("well-formed");
            assert!(message.is_response && message.opcode == octets[1] & 0x1f);
        }
    }
}

/// A datagram on chrony's command port: no reply is longer than its request, and over UDP nothing is changed.
pub fn chrony_answer(octets: &[u8]) {
    let snapshot = snapshot();
    for permission in
        [chrony::Permission::Reports(chrony::OpenReports::all()), chrony::Permission::Everything]
    {
        match chrony::respond(octets, &snapshot, permission) {
            chrony::Verdict::Silence => {}
            chrony::Verdict::Reply(reply) | chrony::Verdict::ResetClients { reply, .. } => {
                assert!(reply.len() <= octets.len());
            }
            chrony::Verdict::Command { reply, .. } => {
                assert!(permission == chrony::Permission::Everything && reply.len() <= octets.len());
            }
            chrony::Verdict::Wish { replier, .. } => {
                let reply = replier.reply(chrony::Outcome::Done);
                assert!(permission == chrony::Permission::Everything && reply.len() <= octets.len());
            }
        }
    }
}
