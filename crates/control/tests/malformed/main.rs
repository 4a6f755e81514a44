//! Datagrams that no tool of another daemon sends change nothing, each is counted as what it is, and none gets more octets
//! than it has.

mod chrony;
mod mode6;

use chime_control::chrony::{Permission, Verdict};
use chime_control::mode6::{Facts, Kernel, Rights};
use chime_control::{Handling, Snapshot};
use chime_server::KeyTable;
use chime_time::NtpTimestamp;
use chime_wire::mac::{MacAlgorithm, SymmetricKey};
use std::net::{Ipv4Addr, SocketAddr};

#[test]
fn malformed_commands_of_chronyc_change_nothing() {
    let snapshot = Snapshot::default();
    let kinds = chrony::all();
    assert!(kinds.len() >= 37, "{}", kinds.len());
    for (name, datagram, fate) in kinds {
        let verdict = chime_control::chrony::respond(&datagram, &snapshot, Permission::Everything);
        let reply = match (verdict, fate) {
            (Verdict::Silence, chrony::Fate::Ignored) => None,
            (Verdict::Reply(reply), chrony::Fate::Refused(status)) => {
                assert_eq!((reply.len(), reply[8], reply[9]), (28, 0, status), "{name}");
                assert!(reply.len() <= datagram.len(), "{name}");
                Some(reply)
            }
            (verdict, _) => panic!("{name}: {verdict:?}, and should be {fate:?}"),
        };
        assert_eq!(chime_control::chrony::handling(&datagram, reply.as_deref()), fate.handling(), "{name}");
    }
}

#[test]
fn malformed_questions_of_ntpq_change_nothing() {
    let snapshot = Snapshot::default();
    let keys = KeyTable::new(vec![SymmetricKey::new(1, MacAlgorithm::Aes128, &[7; 16]).expect("a key")]);
    let facts = Facts {
        snapshot: &snapshot,
        now: NtpTimestamp::from_bits(0xeeaa_e6a1_be97_72bd),
        processor: "x86_64",
        system: "Linux/6.1.0",
        keys: &keys,
        control_key: Some(1),
        secret: &[7; 16],
        listening: &[],
        restrictions: &[],
        variables: &[],
        kernel: Kernel::default(),
        requests: 0,
        clients_max: 0,
    };
    let from = SocketAddr::from((Ipv4Addr::LOCALHOST, 40_082));
    let kinds = mode6::all();
    assert!(kinds.len() >= 37, "{}", kinds.len());
    for (name, datagram, fate) in kinds {
        let verdict = chime_control::mode6::respond(&datagram, from, Rights::ALL, &facts);
        assert_eq!(verdict.handling(), fate.handling(), "{name}: {verdict:?}");
        if let mode6::Fate::Refused(code) = fate {
            let chime_control::mode6::Verdict::Reply(datagrams) = verdict else {
                panic!("{name}: {verdict:?}")
            };
            assert_eq!((datagrams.len(), datagrams[0].len(), datagrams[0][4]), (1, 12, code), "{name}");
        }
        let stranger = chime_control::mode6::respond(&datagram, from, Rights::NONE, &facts);
        assert!(matches!(stranger, chime_control::mode6::Verdict::Silence(_)), "{name}: {stranger:?}");
        assert!(matches!(stranger.handling(), Handling::Malformed | Handling::Restricted), "{name}");
    }
}
