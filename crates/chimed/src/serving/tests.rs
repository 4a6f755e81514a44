use super::*;
use arrayvec::ArrayVec;
use chime_nts::{AeadAlgorithm, AeadKey, CookieKey, NtsKeys, verify_nts_response, write_nts_request};
use chime_server::{AccessList, ResponseKind, SilenceReason};
use chime_sys::poll::Readiness;
use chime_time::{MonoTime, NtpDate, NtpTimestamp};
use chime_wire::{FieldWriter, HEADER_OCTETS, Header};
use std::net::UdpSocket as StdSocket;

fn settings(addresses: &[&str], workers: usize, policy: Policy) -> ServingSettings {
    let policy = Arc::new(policy);
    let listener = |address: &&str| Listener {
        address: address.parse().expect("an address"),
        interface: None,
        ptp_domain: None,
        policy: policy.clone(),
        signing_directory: None,
    };
    let listeners = addresses.iter().map(listener).collect();
    ServingSettings {
        listeners,
        workers,
        cpus: Vec::new(),
        busy_poll_micros: None,
        dscp: None,
        share_ports: false,
        seed: [7; 32],
    }
}

fn shared() -> Arc<Shared> {
    let shared = Shared::unsynchronized(-20);
    shared.time.store(Arc::new(ServerTime::local(3, -20, MonoTime::ZERO, NtpTimestamp::ZERO)));
    Arc::new(shared)
}

fn client(address: &str) -> StdSocket {
    let socket = StdSocket::bind(address).expect("a socket");
    socket.set_read_timeout(Some(Duration::from_secs(5))).expect("a timeout");
    socket
}

fn request() -> Vec<u8> {
    let mut octets = vec![0; HEADER_OCTETS];
    octets[0] = 0x23;
    octets[40..48].copy_from_slice(&[9; 8]);
    octets
}

fn ask(client: &StdSocket, server: SocketAddr, request: &[u8]) -> Vec<u8> {
    let mut answer = [0; 2048];
    client.send_to(request, server).expect("sent");
    let (octets, from) = client.recv_from(&mut answer).expect("an answer");
    assert_eq!(from, server, "the answer comes from the address that was asked");
    answer[..octets].to_vec()
}

/// A Samba that signs for key 0x80000003 and refuses all others. It ends its line after each `turns` messages.
fn fake_samba(directory: &std::path::Path, turns: usize) -> std::os::unix::net::UnixListener {
    use std::io::{Read, Write};
    let listener = std::os::unix::net::UnixListener::bind(directory.join("socket")).expect("a socket");
    let accepting = listener.try_clone().expect("a socket");
    std::thread::spawn(move || {
        for mut stream in accepting.incoming().flatten() {
            for _ in 0..turns {
                let mut message = [0; chime_server::SIGNING_MESSAGE_OCTETS];
                if stream.read_exact(&mut message).is_err() {
                    break;
                }
                let knows = message[16..20] == [3, 0, 0, 0x80];
                let operation = if knows { 3_u32 } else { 4 };
                let mut reply = [&[0; 4][..], &operation.to_be_bytes(), &[0; 2], &message[12..14]].concat();
                if knows {
                    reply.extend([&message[20..], &message[16..20], &[0x55; 16]].concat());
                }
                let length = u32::try_from(reply.len()).expect("it is short").to_be_bytes();
                stream.write_all(&[&length[..], &reply].concat()).expect("it is written");
            }
        }
    });
    listener
}

#[test]
fn samba_signs_answers_for_members_of_its_domain_and_nobody_waits_for_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let shared = shared();
    let mut settings = settings(&["127.0.0.1:0"], 1, Policy { signs: true, ..Policy::open() });
    settings.listeners[0].signing_directory = Some(folder.path().to_owned());
    let serving = spawn(&settings, &shared).expect("it starts");
    let server = serving.addresses()[0];
    let member = |key: [u8; 4]| {
        let mut octets = request();
        octets[0] = 0x1b;
        [octets, key.to_vec(), vec![0; 16]].concat()
    };
    let client = client("127.0.0.1:0");
    // There is no Samba yet: others are answered.
    client.send_to(&member([3, 0, 0, 0x80]), server).expect("sent");
    assert_eq!(ask(&client, server, &request()).len(), HEADER_OCTETS);
    let _samba = fake_samba(folder.path(), 2);
    let signed = |answer: &[u8]| answer.ends_with(&[0x55; 16]) && answer.len() == chime_server::SIGNED_OCTETS;
    let deadline = Instant::now() + Duration::from_secs(60);
    client.set_read_timeout(Some(Duration::from_millis(300))).expect("a timeout");
    let mut answers = 0;
    let mut answer = [0; 2048];
    // Its line ends twice meanwhile.
    while answers < 5 && Instant::now() < deadline {
        client.send_to(&member([4, 0, 0, 0x80]), server).expect("sent");
        client.send_to(&member([3, 0, 0, 0x80]), server).expect("sent");
        let Ok((octets, _)) = client.recv_from(&mut answer) else { continue };
        assert!(signed(&answer[..octets]), "of key 4 there is no answer: {:?}", &answer[..octets]);
        assert_eq!(answer[HEADER_OCTETS..HEADER_OCTETS + 4], [3, 0, 0, 0x80]);
        answers += 1;
    }
    assert_eq!(answers, 5);
    assert_eq!(serving.stats().requests.responses(ResponseKind::Plain), 1);
    assert!(serving.stats().requests.responses(ResponseKind::Signed) >= 10);
}

#[test]
fn workers_answer_over_both_families_and_count() {
    let shared = shared();
    let serving = spawn(&settings(&["0.0.0.0:0", "[::]:0"], 2, Policy::open()), &shared).expect("it starts");
    let [v4, v6] = serving.addresses()[..] else { panic!("{:?}", serving.addresses()) };
    for (asked, from) in [("127.0.0.9", "127.0.0.1:0"), ("::1", "[::1]:0")] {
        let port = if asked == "::1" { v6.port() } else { v4.port() };
        for _ in 0..10 {
            let server = SocketAddr::new(asked.parse().expect("an address"), port);
            let before = chime_sys::clock::system_now().timestamp();
            let header = Header::decode(&ask(&client(from), server, &request())).expect("a header");
            let after = chime_sys::clock::system_now().timestamp();
            assert_eq!((header.stratum, header.origin), (3, NtpTimestamp::from_be_bytes([9; 8])));
            assert!(!header.receive.is_before(before) && !header.transmit.is_before(header.receive));
            assert!(!after.is_before(header.transmit));
        }
    }
    let clients = serving.clients(Duration::from_secs(5));
    assert_eq!(clients.iter().map(|client| client.hits).collect::<Vec<_>>(), [10, 10]);
    // A worker counts after it has sent.
    let deadline = Instant::now() + Duration::from_secs(5);
    while serving.stats().requests.responses(ResponseKind::Plain) < 20 && Instant::now() < deadline {
        std::thread::yield_now();
    }
    let stats = serving.stats();
    assert_eq!((stats.requests.received, stats.requests.responses(ResponseKind::Plain)), (20, 20));
    assert_eq!((stats.send_failures, stats.oversized), (0, 0));
    serving.stop();
}

#[test]
fn new_time_keys_and_policies_are_used_at_once() {
    let shared = shared();
    let serving = spawn(&settings(&["127.0.0.1:0"], 1, Policy::open()), &shared).expect("it starts");
    let (server, client) = (serving.addresses()[0], client("127.0.0.1:0"));
    shared.time.store(Arc::new(ServerTime::local(9, -20, MonoTime::ZERO, NtpTimestamp::ZERO)));
    assert_eq!(ask(&client, server, &request())[1], 9);

    let ring = KeyRing::new(CookieKey::new(1, [3; 32], NtpDate::from_unix(0, 0)));
    let key = |octet| AeadKey::new(AeadAlgorithm::AesSivCmac256, &[octet; 32]).expect("a key");
    let keys = NtsKeys { c2s: key(1), s2c: key(2) };
    let cookie = ring.seal_cookie(&keys, [5; 16]);
    shared.keys.store(Some(Arc::new(ring)));
    let mut packet = [0; 1024];
    packet[..HEADER_OCTETS].copy_from_slice(&request());
    let mut writer = FieldWriter::new(&mut packet, HEADER_OCTETS);
    write_nts_request(&mut writer, &[4; 32], cookie.as_bytes(), 2, &keys.c2s, &[6; 16])
        .expect("there is room");
    let octets = writer.len();
    let answer = ask(&client, server, &packet[..octets]);
    let mut cookies = ArrayVec::new();
    verify_nts_response(&answer, &[4; 32], &keys.s2c, &mut cookies).expect("it verifies");
    assert_eq!(cookies.len(), 3);

    serving.set_policies(&[Arc::new(Policy::closed())]);
    client.set_read_timeout(Some(Duration::from_millis(100))).expect("a timeout");
    let deadline = Instant::now() + Duration::from_secs(5);
    while serving.stats().requests.silences(SilenceReason::AccessDenied) == 0 && Instant::now() < deadline {
        client.send_to(&request(), server).expect("sent");
        let _old_answer = client.recv(&mut [0; 64]);
    }
    assert!(serving.stats().requests.silences(SilenceReason::AccessDenied) > 0);
}

#[test]
fn a_port_in_use_is_an_error_that_names_it() {
    let taken = client("127.0.0.1:0");
    let address = taken.local_addr().expect("an address");
    for workers in [1, 2] {
        let settings = settings(&[&address.to_string()], workers, Policy::open());
        let error = spawn(&settings, &shared()).expect_err("the port is taken");
        assert!(format!("{error:#}").contains(&address.to_string()), "{error:#}");
    }
}

#[test]
fn a_loop_without_threads_can_serve() {
    let settings =
        settings(&["127.0.0.1:0"], 1, Policy::new(AccessList::uniform(chime_server::Access::Allow)));
    let mut worker = bind(&settings, &shared()).expect("it binds").pop().expect("one worker");
    let (server, client) = (worker.addresses()[0], client("127.0.0.1:0"));
    worker.serve(0);
    worker.serve(7);
    client.send_to(&request(), server).expect("sent");
    client.send_to(&[0x23; 4000], server).expect("sent");
    let deadline = Instant::now() + Duration::from_secs(5);
    while worker.stats().oversized == 0 && Instant::now() < deadline {
        worker.serve(0);
    }
    assert_eq!(client.recv(&mut [0; 64]).expect("an answer"), HEADER_OCTETS);
    assert_eq!((worker.stats().requests.answered(), worker.clients().len()), (1, 1));
}

/// A closed port is free for others at once, and what is known of clients stays.
#[test]
fn ports_are_closed_and_opened_again() {
    for workers in [1, 3] {
        let settings = settings(&["127.0.0.1:0", "127.0.0.2:0"], workers, Policy::open());
        let serving = spawn(&settings, &shared()).expect("it starts");
        let [one, two] = serving.addresses()[..] else { panic!("{:?}", serving.addresses()) };
        let asker = client("127.0.0.1:0");
        assert_eq!(ask(&asker, one, &request()).len(), HEADER_OCTETS);
        serving.keep_open(|address| address == two);
        assert_eq!(serving.addresses(), [two]);
        drop(StdSocket::bind(one).expect("the port is free"));
        assert_eq!(ask(&asker, two, &request()).len(), HEADER_OCTETS);
        serving.keep_open(|_| true);
        assert_eq!(serving.addresses(), [one, two]);
        assert_eq!(ask(&asker, one, &request()).len(), HEADER_OCTETS);
        let hits: u32 = serving.clients(Duration::from_secs(5)).iter().map(|client| client.hits).sum();
        assert_eq!(hits, 3);
        serving.keep_open(|_| false);
        let taken = StdSocket::bind(two).expect("the port is free");
        serving.keep_open(|_| true);
        assert_eq!(serving.addresses(), [one], "the other one is taken by somebody else");
        drop(taken);
        serving.keep_open(|_| true);
        assert_eq!(serving.addresses(), [one, two]);
    }
}

#[test]
fn a_stamp_that_nobody_waits_for_does_not_wake_the_loop_for_ever() {
    let settings = settings(&["127.0.0.1:0"], 1, Policy::open());
    let mut worker = bind(&settings, &shared()).expect("it binds").pop().expect("one worker");
    let (server, client) = (worker.addresses()[0], client("127.0.0.1:0"));
    // As after an answer that the system refused: stamps of others may come later, and are not told apart any more.
    let socket = worker.sockets().next().and_then(|(_, socket)| socket.try_clone().ok()).expect("a socket");
    let mut batch = chime_sys::batch::ServerBatch::new(1, 64);
    client.send_to(&request(), server).expect("sent");
    assert_eq!(batch.receive(&socket).expect("the request"), 1);
    batch.answer_stamped(0, HEADER_OCTETS, false);
    assert_eq!(batch.send(&socket), 0);
    assert!(socket.has_report(), "the stamp of the answer");
    worker.handle_ready(0, Readiness { readable: false, writable: false, errors: true });
    assert!(!socket.has_report());
}

#[test]
fn clients_in_interleaved_mode_are_known_to_every_worker() {
    let serving = spawn(&settings(&["127.0.0.1:0"], 4, Policy::open()), &shared()).expect("it starts");
    let server = serving.addresses()[0];
    let mut referred = NtpTimestamp::ZERO;
    let mut interleaved = 0u64;
    let mut last: Option<Header> = None;
    for number in 101..=140u8 {
        let mut octets = request();
        octets[24..32].copy_from_slice(&referred.to_be_bytes());
        octets[32..40].copy_from_slice(&[number; 8]);
        // Another port each time, and so another worker.
        let header = Header::decode(&ask(&client("127.0.0.1:0"), server, &octets)).expect("a header");
        if header.origin == NtpTimestamp::from_be_bytes([number; 8]) {
            interleaved += 1;
            let before = last.expect("an answer before");
            // When that answer left: after its request came, and before this one did.
            assert!(!header.transmit.is_before(before.receive));
            assert!(header.transmit.is_before(header.receive), "{header:?} {before:?}");
            if before.origin == NtpTimestamp::from_be_bytes([9; 8]) {
                assert!(
                    !header.transmit.is_before(before.transmit),
                    "later than the basic answer could know"
                );
            }
        }
        referred = header.receive;
        last = Some(header);
        // The time is noted after the answer is sent.
        std::thread::sleep(Duration::from_millis(2));
    }
    assert!(interleaved >= 30, "{interleaved}");
    let deadline = Instant::now() + Duration::from_secs(5);
    while serving.stats().requests.interleaved < interleaved && Instant::now() < deadline {
        std::thread::yield_now();
    }
    assert_eq!(serving.stats().requests.interleaved, interleaved);
    // The stamps are the kernel's, unless it gives none.
    assert!(serving.stats().transmit_stamps > 0, "{:?}", serving.stats());
}

#[test]
fn workers_are_pinned_in_turn_and_serve_where_they_cannot_be() {
    // The last one is a processor that no machine of ours has.
    let settings = ServingSettings { cpus: vec![0, 1023], ..settings(&["127.0.0.1:0"], 2, Policy::open()) };
    let serving = spawn(&settings, &shared()).expect("it starts");
    let server = serving.addresses()[0];
    for _ in 0..8 {
        // Another port each time, so that both workers answer.
        assert_eq!(ask(&client("127.0.0.1:0"), server, &request()).len(), HEADER_OCTETS);
    }
    serving.stop();
}
