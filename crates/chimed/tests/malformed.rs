//! What no tool of another daemon sends is counted as what it is by the desks, and does nothing else: no command reaches
//! the time plane, no access list changes, and the next question is answered as before.

use chime_config::Ntpq;
use chime_control::{Handled, Handling, Snapshot};
use chime_server::{AccessRule, KeyTable};
use chimed::chrony_host::{ChronyDesk, Sockets, Ways, Wish};
use chimed::desks::{self, Desk, Handle};
use chimed::mode6_host::{Mode6, Opening};
use chimed::runtime_access::RuntimeAccess;
use chimed::tally::Tally;
use chimed::time_plane::PlaneCommand;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::os::unix::net::UnixDatagram;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

#[path = "../../control/tests/malformed/chrony.rs"]
mod chrony;
#[path = "../../control/tests/malformed/mode6.rs"]
mod mode6;

const PATIENCE: Duration = Duration::from_secs(20);

/// What a desk did beside answering.
#[derive(Debug)]
enum Deed {
    Told(#[expect(dead_code, reason = "shown when the test fails")] PlaneCommand),
    Access(#[expect(dead_code, reason = "shown when the test fails")] Vec<AccessRule>),
}

fn tell(deeds: &Sender<Deed>) -> Box<dyn Fn(PlaneCommand) -> bool + Send> {
    let deeds = deeds.clone();
    Box::new(move |command| deeds.send(Deed::Told(command)).is_ok())
}

fn host(desk: impl Desk + 'static) -> Handle {
    let view = Box::new(|_| Snapshot::default());
    desks::spawn(vec![Box::new(desk)], view).expect("a thread").expect("a desk")
}

/// `before`, and one more of these.
fn and_one(before: &Handled, handling: Handling) -> Handled {
    let counts = Handling::ALL.map(|one| (one, before.of(one) + u64::from(one == handling)));
    counts.into_iter().collect()
}

/// The first answer that comes and is that to a good request.
fn answer_with(
    receive: impl Fn(&mut [u8]) -> std::io::Result<usize>,
    is_good: impl Fn(&[u8]) -> bool,
) -> Vec<u8> {
    let mut room = [0; 1024];
    loop {
        let octets = receive(&mut room).expect("an answer to a good request");
        if is_good(&room[..octets]) {
            return room[..octets].to_vec();
        }
    }
}

/// Sends each kind and then a good request, whose answer says that the kind was dealt with. Gives the number of kinds.
fn ask_all(
    kinds: impl Iterator<Item = (&'static str, Vec<u8>, Handling)>,
    exchange: impl Fn(&[u8]),
    tally: &Tally,
    deeds: &Receiver<Deed>,
) -> usize {
    let mut number = 0;
    for (name, datagram, handling) in kinds {
        let before = tally.read();
        exchange(&datagram);
        let after = and_one(&and_one(&before, handling), Handling::Answered);
        assert_eq!(tally.read(), after, "{name}");
        let deeds: Vec<Deed> = deeds.try_iter().collect();
        assert!(deeds.is_empty(), "{name}: {deeds:?}");
        number += 1;
    }
    number
}

#[test]
fn malformed_commands_of_chronyc_are_counted_and_do_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("chronyd.sock");
    let sockets = Sockets::open(&Wish { path: Some(&path), ..Wish::default() });
    let (sender, deeds) = channel();
    let tally = Arc::new(Tally::default());
    let changed = sender.clone();
    let apply = Box::new(move |rules: &[AccessRule]| changed.send(Deed::Access(rules.to_vec())).is_ok());
    let ways = Ways {
        tell: tell(&sender),
        tally: Arc::clone(&tally),
        ntp_access: Some(RuntimeAccess::new(Vec::new(), apply)),
        clients: None,
        reset_clients: Box::new(|_| ()),
        read_keys: Box::new(|| None),
    };
    let _handle = host(ChronyDesk::new(sockets, ways));
    let client = UnixDatagram::bind(folder.path().join("client")).expect("a path");
    client.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    client.connect(&path).expect("a desk");
    let mut good = vec![6, 1, 0, 0, 0, 33, 0, 0, b'n', b'e', b'x', b't'];
    good.resize(104, 0);
    let first = std::cell::OnceCell::new();
    let exchange = |datagram: &[u8]| {
        client.send(datagram).expect("sent");
        client.send(&good).expect("sent");
        let answer = answer_with(|room| client.recv(room), |answer| &answer[16..20] == b"next");
        assert_eq!(&answer, first.get_or_init(|| answer.clone()), "tracking is as it was");
    };
    let kinds = chrony::all().into_iter().map(|(name, datagram, fate)| (name, datagram, fate.handling()));
    assert!(ask_all(kinds, exchange, &tally, &deeds) >= 37);
}

#[test]
fn malformed_questions_of_ntpq_are_counted_and_do_nothing() {
    let listen = vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 0))];
    let ntpq = Ntpq { listen, control_key: Some(1), ..Ntpq::default() };
    let opening = Opening { ntpq: &ntpq, servers: &[], keys: KeyTable::default() };
    let (desk, _hand_over) = Mode6::open(opening).expect("a socket");
    let (sender, deeds) = channel();
    let tally = desk.tally();
    let desk = desk.connected(Vec::new(), tell(&sender));
    let address = desk.addresses()[0];
    let _handle = host(desk);
    let client = UdpSocket::bind((IpAddr::from(Ipv4Addr::LOCALHOST), 0)).expect("a port");
    client.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    client.connect(address).expect("a desk");
    let good = [0xd6, 2, 0xab, 0xcd, 0, 0, 0, 0, 0, 0, 0, 4, b'l', b'e', b'a', b'p'];
    let first = std::cell::OnceCell::new();
    let exchange = |datagram: &[u8]| {
        client.send(datagram).expect("sent");
        client.send(&good).expect("sent");
        let answer = answer_with(|room| client.recv(room), |answer| answer[2..4] == [0xab, 0xcd]);
        assert_eq!(&answer, first.get_or_init(|| answer.clone()), "the system is as it was");
    };
    let kinds = mode6::all().into_iter().map(|(name, datagram, fate)| (name, datagram, fate.handling()));
    assert!(ask_all(kinds, exchange, &tally, &deeds) >= 37);
}
