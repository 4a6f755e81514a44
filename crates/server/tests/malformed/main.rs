//! Datagrams that no client sends are counted as what they are, and change nothing else: who asks next is answered as
//! before.

#[path = "../fixed/mod.rs"]
mod fixed;
mod kinds;

use chime_nts::{CookieKey, KeyRing};
use chime_server::{
    Arrival, KeyTable, Policy, Published, Responder, ResponseKind, ServerCounters, ServerTime, SilenceReason,
    Verdict,
};
use chime_time::{MonoTime, NtpDate, NtpTimestamp};
use chime_wire::mac::{MacAlgorithm, SymmetricKey};
use fixed::Fixed;
use kinds::Fate;
use std::sync::Arc;

fn respond(responder: &mut Responder, request: &[u8], keys: &KeyRing) -> (Verdict, Vec<u8>) {
    let received = NtpTimestamp::from_bits(4_000_000_000 << 32);
    let arrival = Arrival::new([192, 0, 2, 1].into(), received, MonoTime::ZERO);
    let time = ServerTime::local(10, -20, MonoTime::ZERO, received);
    let mut response = [0; 2048];
    let published = Published { time: &time, keys: Some(keys) };
    let verdict = responder.respond(request, &arrival, &published, &mut Fixed, &mut response);
    let octets = if let Verdict::Respond { octets, .. } = verdict { octets } else { 0 };
    (verdict, response[..octets].to_vec())
}

/// The counts of `after` that differ from those of `before`, each with by how much.
fn raised(before: &ServerCounters, after: &ServerCounters) -> Vec<(&'static str, u64)> {
    let silences = SilenceReason::ALL
        .iter()
        .map(|reason| (reason.name(), after.silences(*reason) - before.silences(*reason)));
    let responses =
        ResponseKind::ALL.iter().map(|kind| (kind.name(), after.responses(*kind) - before.responses(*kind)));
    let others = [
        ("received", after.received - before.received),
        ("interleaved", after.interleaved - before.interleaved),
        ("cookies made", after.cookies_made - before.cookies_made),
        (
            "cookies opened",
            after.cookies_opened.iter().sum::<u64>() - before.cookies_opened.iter().sum::<u64>(),
        ),
    ];
    silences.chain(responses).chain(others).filter(|(_, count)| *count > 0).collect()
}

#[test]
fn malformed_requests_are_counted_and_change_nothing() {
    let keys = KeyRing::new(CookieKey::new(77, [9; 32], NtpDate::from_unix(1_700_000_000, 0)));
    let key = SymmetricKey::new(1, MacAlgorithm::Md5, b"key").expect("a key");
    let policy = Policy { keys: KeyTable::new(vec![key]), ..Policy::open() };
    let mut good = [0; 48];
    good[0] = 0x23;
    let kinds = kinds::all();
    assert!(kinds.len() >= 37, "{}", kinds.len());
    for (name, datagram, fate) in kinds {
        let mut responder = Responder::new(Arc::new(policy.clone()), [1, 2]);
        let unimpressed = respond(&mut responder, &good, &keys);
        let before = *responder.counters();
        let (verdict, answer) = respond(&mut responder, &datagram, &keys);
        let counted = match fate {
            Fate::Silence(reason) => reason,
            Fate::Nak => ResponseKind::NtsNak.name(),
        };
        let mut wanted = [(counted, 1), ("received", 1)];
        let mut raised = raised(&before, responder.counters());
        wanted.sort_unstable();
        raised.sort_unstable();
        assert_eq!(raised, wanted, "{name}: {verdict:?}");
        assert!(answer.len() <= datagram.len(), "{name}");
        assert_eq!(matches!(fate, Fate::Silence(_)), answer.is_empty(), "{name}");
        assert_eq!(
            respond(&mut responder, &good, &keys),
            unimpressed,
            "{name}: the next is answered as before"
        );
    }
}
