//! Datagrams on chrony's command port that no chronyc sends change nothing, and none gets more octets than it has.

mod kinds;

use chime_control::Snapshot;
use chime_control::chrony::{Permission, Verdict, is_request, respond};
use kinds::Fate;

#[test]
fn malformed_requests_change_nothing() {
    let snapshot = Snapshot::default();
    let kinds = kinds::all();
    assert!(kinds.len() >= 37, "{}", kinds.len());
    for (name, datagram, fate) in kinds {
        assert_eq!(is_request(&datagram), fate != Fate::Ignored, "{name}: whether it is counted");
        match (respond(&datagram, &snapshot, Permission::Everything), fate) {
            (Verdict::Silence, Fate::Ignored) => {}
            (Verdict::Reply(reply), Fate::Refused(status)) => {
                assert_eq!((reply.len(), reply[8], reply[9]), (28, 0, status), "{name}");
                assert!(reply.len() <= datagram.len(), "{name}");
            }
            (verdict, _) => panic!("{name}: {verdict:?}, and should be {fate:?}"),
        }
    }
}
