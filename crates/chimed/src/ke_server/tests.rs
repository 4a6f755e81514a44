//! Server and client shells against each other on loopback, and the server against misbehaving clients.

use super::*;
use crate::ke_client::{ESTABLISHMENT_TIMEOUT, KeClients};
use chime_config::{FileInterval, NtpdFiles, NtpdStatistic, StatisticsFile};
use chime_engine::{EstablishKeys, EstablishmentId, Input, KeFailure, SourceKey};
use chime_ke::server::KeServerResult;
use chime_ke::{ClientConfig, ClientTrust, KeOutcome, TrustAnchors};
use chime_nts::{AeadAlgorithm, CookieKey, KeyRing};
use chime_sys::clock::mono_now;
use chime_sys::poll::{PollSet, Readiness};
use chime_sys::tcp::TcpStream;
use chime_time::{MonoTime, NtpDate};
use rustls_pki_types::CertificateDer;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, TcpStream as StdStream};
use std::path::Path;

/// A self-signed certificate for a name, in a folder.
fn write_certificate(folder: &Path, file: &str, name: &str) -> (CertificateFiles, CertificateDer<'static>) {
    let key = rcgen::KeyPair::generate().expect("a key");
    let names = vec![name.to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
    let certificate = rcgen::CertificateParams::new(names).expect("names").self_signed(&key).expect("signed");
    let files = CertificateFiles {
        chain: folder.join(format!("{file}.pem")),
        key: folder.join(format!("{file}.key.pem")),
    };
    std::fs::write(&files.chain, certificate.pem()).expect("written");
    std::fs::write(&files.key, key.serialize_pem()).expect("written");
    (files, certificate.der().clone())
}

fn trusting(certificates: &[CertificateDer<'static>]) -> ClientConfig {
    let (anchors, _) = TrustAnchors::from_certificates(certificates.iter().cloned());
    let trust = ClientTrust { extra_roots: Arc::new(anchors), ..ClientTrust::default() };
    ClientConfig::new(&rustls::crypto::aws_lc_rs::default_provider(), trust)
}

fn shared_with_keys() -> Arc<Shared> {
    let shared = Shared::unsynchronized(-20);
    let ring = KeyRing::new(CookieKey::new(1, [3; 32], NtpDate::from_unix(0, 0)));
    shared.keys.store(Some(Arc::new(ring)));
    Arc::new(shared)
}

/// A server on loopback with one certificate, and a client's trust in it.
struct Lab {
    folder: tempfile::TempDir,
    shared: Arc<Shared>,
    serving: KeServing,
    trust: ClientConfig,
}

impl Lab {
    fn new(change: impl FnOnce(&mut KeListener)) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let (files, certificate) = write_certificate(folder.path(), "server", "nts.test");
        let mut listener = KeListener::new("127.0.0.1:0".parse().expect("an address"), vec![files]);
        change(&mut listener);
        let shared = shared_with_keys();
        let settings = KeServerSettings { listeners: vec![listener], workers: 2 };
        let serving = spawn(&settings, &shared).expect("it starts");
        Self { folder, shared, serving, trust: trusting(&[certificate]) }
    }

    fn port(&self) -> u16 {
        self.serving.addresses()[0].port()
    }

    fn connect(&self) -> StdStream {
        let stream = StdStream::connect(("127.0.0.1", self.port())).expect("it listens");
        stream.set_read_timeout(Some(Duration::from_secs(5))).expect("a timeout");
        stream
    }

    fn establish(&self, name: &str) -> Result<KeOutcome, KeFailure> {
        let addresses = [IpAddr::V4(Ipv4Addr::LOCALHOST)];
        establish(wish(1, name, &addresses, self.port()), &self.trust).1
    }

    /// Waits until the counters are as wanted.
    fn wait_for(&self, reached: impl Fn(&KeServingStats) -> bool) {
        let deadline = mono_now().saturating_add(Duration::from_secs(5));
        while !reached(&self.serving.stats()) {
            assert!(mono_now() < deadline, "{:?}", self.serving.stats());
            std::thread::yield_now();
        }
    }
}

fn wish(number: u64, name: &str, addresses: &[IpAddr], port: u16) -> EstablishKeys {
    EstablishKeys {
        establishment: EstablishmentId(number),
        source: SourceKey(0),
        addresses: addresses.to_vec(),
        port,
        server_name: name.to_owned(),
        aeads: AeadAlgorithm::OFFERED.to_vec(),
        trust: 0,
        unix_now_lower_bound: chime_sys::clock::system_now().unix_seconds(),
        check_dates: true,
    }
}

/// Drives the clients until one is finished.
fn drive(clients: &mut KeClients) -> Option<Input<'static>> {
    let give_up = mono_now().saturating_add(Duration::from_secs(10));
    loop {
        if let Some(finished) = clients.finished() {
            return Some(finished);
        }
        let deadline = clients.poll_timeout()?.min(give_up);
        let mut set = PollSet::new();
        clients.register(&mut set, |socket| socket);
        set.wait(Some(deadline)).expect("poll works");
        let ready: Vec<(usize, Readiness)> = set.ready().collect();
        ready.iter().for_each(|(socket, ready)| clients.handle_ready(*socket, *ready, mono_now()));
        clients.handle_timeout(mono_now());
        assert!(mono_now() < give_up, "nothing happens");
    }
}

fn establish(
    wish: EstablishKeys,
    config: &ClientConfig,
) -> (Option<SocketAddr>, Result<KeOutcome, KeFailure>) {
    let mut clients = KeClients::default();
    let number = wish.establishment;
    clients.start(wish, config.clone(), mono_now());
    match drive(&mut clients) {
        Some(Input::KeFinished { establishment, address, result }) if establishment == number => {
            (address, result)
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn keys_are_established_and_the_cookies_hold_them() {
    let lab = Lab::new(|_| {});
    for name in ["nts.test", "127.0.0.1"] {
        let outcome = lab.establish(name).expect("good");
        assert_eq!(outcome.keys.algorithm(), AeadAlgorithm::Aes128GcmSiv);
        assert_eq!(outcome.cookies.len(), 8);
        let ring = lab.shared.keys.load_full().expect("keys");
        for cookie in &outcome.cookies {
            assert_eq!(ring.open_cookie(cookie.as_bytes()), Ok(outcome.keys.clone()));
        }
        assert_eq!((outcome.ntp_server, outcome.ntp_port), (None, None));
    }
    lab.wait_for(|stats| stats.count(KeServerResult::Accepted) == 2 && stats.connections == 0);
    assert_eq!(lab.serving.stats().cookies, 16);
    assert!(lab.serving.stats().certificate_not_after.is_some());
    lab.serving.stop();
}

#[test]
fn each_key_establishment_is_told_where_that_is_asked_for() {
    let logs = tempfile::tempdir().expect("a folder");
    let file = StatisticsFile { every: FileInterval::None, ..StatisticsFile::usual(NtpdStatistic::NtsKeLog) };
    let files = NtpdFiles {
        statistics_directory: Some(logs.path().to_owned()),
        statistics: [(NtpdStatistic::NtsKeLog, file)].into(),
        ..NtpdFiles::default()
    };
    let lab = Lab::new(|listener| listener.key_log = Some(Arc::new(KeyLog::into(files))));
    lab.establish("nts.test").expect("good");
    lab.connect().write_all(b"GET / HTTP/1.0\r\n\r\n").expect("sent");
    let text = || std::fs::read_to_string(logs.path().join("ntskelog")).unwrap_or_default();
    let deadline = mono_now().saturating_add(Duration::from_secs(5));
    while text().lines().count() < 2 && mono_now() < deadline {
        std::thread::yield_now();
    }
    let times = lab.serving.stats().times;
    let accepted =
        KeServerResult::ALL.iter().position(|it| *it == KeServerResult::Accepted).expect("it is one");
    let [wall, processor] = times[accepted];
    assert!(wall > 0 && processor > 0 && wall < 60_000_000, "{times:?}");
    let text = text();
    let mut lines: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
    // Two workers had them, of which either may be the first to end.
    lines.sort_by_key(|line| line.get(2) != Some(&"OK"));
    let [good, bad] = &lines[..] else { panic!("{text}") };
    assert_eq!(good[2], "OK");
    assert!(good[6].starts_with("127.0.0.1:") && good[7].starts_with("TLSv1.3:TLS_"), "{text}");
    assert!(
        good[3..6].iter().all(|column| column.parse::<f64>().is_ok_and(|it| (0.0..10_000.0).contains(&it)))
    );
    // Whose time it is, its own or the kernel's, is found out by chance.
    let used: f64 = good[4..6].iter().filter_map(|milliseconds| milliseconds.parse::<f64>().ok()).sum();
    assert!(used > 0.0, "{text}");
    assert_eq!((bad[2], &bad[7..]), ("TLS", &["tls", "failed"][..]), "{text}");
}

#[test]
fn another_server_and_port_are_announced() {
    let lab = Lab::new(|listener| {
        listener.ntp_server = Some("ntp.test".to_owned());
        listener.ntp_port = Some(1123);
    });
    let outcome = lab.establish("nts.test").expect("good");
    assert_eq!((outcome.ntp_server.as_deref(), outcome.ntp_port), (Some("ntp.test"), Some(1123)));
}

#[test]
fn keys_are_given_for_the_algorithms_that_are_served() {
    for (served, chosen) in [
        (&[AeadAlgorithm::Aes128GcmSiv, AeadAlgorithm::AesSivCmac256][..], AeadAlgorithm::Aes128GcmSiv),
        (&[AeadAlgorithm::AesSivCmac256], AeadAlgorithm::AesSivCmac256),
    ] {
        let lab = Lab::new(|listener| listener.aeads = served.to_vec());
        let outcome = lab.establish("nts.test").expect("keys");
        assert_eq!(outcome.keys.algorithm(), chosen);
    }
    let lab = Lab::new(|listener| listener.aeads = vec![AeadAlgorithm::AesSivCmac256]);
    let addresses = [IpAddr::V4(Ipv4Addr::LOCALHOST)];
    let one = EstablishKeys {
        aeads: vec![AeadAlgorithm::Aes128GcmSiv],
        ..wish(1, "nts.test", &addresses, lab.port())
    };
    establish(one, &lab.trust).1.expect_err("the only one that it knows is not served");
}

#[test]
fn without_keys_the_server_says_that_it_is_its_own_fault() {
    let lab = Lab::new(|_| {});
    lab.shared.keys.store(None);
    let failure = lab.establish("nts.test").expect_err("refused");
    assert_eq!((failure.kind.as_str(), failure.network), ("server_error", false));
    lab.wait_for(|stats| stats.count(KeServerResult::InternalError) == 1);
}

#[test]
fn a_client_that_does_not_believe_the_certificate_is_counted() {
    let lab = Lab::new(|_| {});
    let failure = lab.establish("other.test").expect_err("refused");
    assert_eq!(failure.kind, "wrong_host_name");
    lab.wait_for(|stats| stats.count(KeServerResult::CertificateRefused) == 1);
}

#[test]
fn dead_addresses_cost_nothing() {
    let lab = Lab::new(|_| {});
    // Nothing listens there on that port; the last one is ours.
    let addresses = ["::1", "127.0.0.3", "127.0.0.1"].map(|address| address.parse().expect("an address"));
    let (address, outcome) = establish(wish(7, "nts.test", &addresses, lab.port()), &lab.trust);
    outcome.expect("good");
    assert_eq!(address, Some(lab.serving.addresses()[0]));
}

#[test]
fn a_site_that_hangs_up_is_followed_by_the_next_address() {
    let lab = Lab::new(|_| {});
    let listener = std::net::TcpListener::bind(("127.0.0.4", lab.port())).expect("a free port there");
    let hang_up = std::thread::spawn(move || listener.accept().map(drop));
    let addresses = ["127.0.0.4", "127.0.0.1"].map(|address| address.parse().expect("an address"));
    let (address, outcome) = establish(wish(7, "nts.test", &addresses, lab.port()), &lab.trust);
    outcome.expect("good");
    assert_eq!(address, Some(lab.serving.addresses()[0]));
    hang_up.join().expect("no panic").expect("accepted");
}

#[test]
fn what_cannot_work_is_reported_in_kind() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    let closed = closed.expect("a port that was free").port();
    let lab = Lab::new(|_| {});
    let localhost = [IpAddr::V4(Ipv4Addr::LOCALHOST)];
    let refused =
        establish(wish(1, "nts.test", &localhost, closed), &lab.trust).1.expect_err("nobody listens");
    assert_eq!((refused.kind.as_str(), refused.network), ("connect", true));
    let nowhere = establish(wish(1, "nts.test", &[], closed), &lab.trust).1.expect_err("no address");
    assert_eq!(nowhere.kind, "connect");
    let nameless = establish(wish(1, "not a name", &localhost, closed), &lab.trust).1.expect_err("no name");
    assert_eq!(nameless.kind, "invalid_server_name");
    let trustless =
        establish(wish(1, "nts.test", &localhost, closed), &trusting(&[])).1.expect_err("no trust");
    assert_eq!(trustless.kind, "no_trust_anchors");
}

#[test]
fn a_silent_server_is_given_up_in_time_and_a_cancelled_wish_is_not_answered() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("loopback");
    let port = silent.local_addr().expect("bound").port();
    let localhost = [IpAddr::V4(Ipv4Addr::LOCALHOST)];
    let config = Lab::new(|_| {}).trust;
    let mut clients = KeClients::default();
    let start = mono_now();
    clients.start(wish(1, "nts.test", &localhost, port), config.clone(), start);
    clients.start(wish(2, "nts.test", &localhost, port), config, start);
    clients.cancel(EstablishmentId(2));
    let deadline = start.saturating_add(ESTABLISHMENT_TIMEOUT);
    assert_eq!(clients.poll_timeout(), Some(deadline));
    clients.handle_timeout(MonoTime::from_nanos(deadline.as_nanos() - 1));
    assert!(clients.finished().is_none());
    clients.handle_timeout(deadline);
    let Some(Input::KeFinished { establishment, result, .. }) = clients.finished() else {
        panic!("not finished")
    };
    assert_eq!((establishment, result.expect_err("silent").kind.as_str()), (EstablishmentId(1), "timeout"));
    assert!(clients.finished().is_none() && clients.poll_timeout().is_none());
}

#[test]
fn several_establishments_run_side_by_side() {
    let lab = Lab::new(|_| {});
    let localhost = [IpAddr::V4(Ipv4Addr::LOCALHOST)];
    let mut clients = KeClients::default();
    (0..20).for_each(|number| {
        clients.start(wish(number, "nts.test", &localhost, lab.port()), lab.trust.clone(), mono_now())
    });
    for _ in 0..20 {
        let Some(Input::KeFinished { result, .. }) = drive(&mut clients) else { panic!("not finished") };
        result.expect("good");
    }
    lab.wait_for(|stats| stats.count(KeServerResult::Accepted) == 20);
}

#[test]
fn slow_clients_are_cut_and_counted() {
    let lab = Lab::new(|listener| listener.timeout = Duration::from_millis(100));
    let mut silent = lab.connect();
    assert_eq!(silent.read(&mut [0; 10]).expect("closed"), 0);
    lab.wait_for(|stats| stats.timed_out == 1 && stats.connections == 0);
}

#[test]
fn hundreds_of_silent_clients_do_not_keep_others_out() {
    let lab = Lab::new(|listener| {
        listener.connections_max = 400;
        listener.connections_per_address_max = 400;
        listener.timeout = Duration::from_secs(20);
    });
    // Descriptors are what limits the test: each connection has two of them here.
    let silent: Vec<_> = (0..300).map(|_| lab.connect()).collect();
    lab.wait_for(|stats| stats.connections == 300);
    for _ in 0..3 {
        lab.establish("nts.test").expect("served beside them");
    }
    drop(silent);
    lab.wait_for(|stats| stats.connections == 0);
    assert_eq!((lab.serving.stats().timed_out, lab.serving.stats().over_limit), (0, 0));
}

#[test]
fn one_address_cannot_take_all_connections() {
    let lab = Lab::new(|listener| listener.connections_per_address_max = 2);
    let _held = [lab.connect(), lab.connect()];
    lab.wait_for(|stats| stats.connections == 2);
    let mut third = lab.connect();
    assert!(matches!(third.read(&mut [0; 10]), Ok(0) | Err(_)), "closed at once");
    lab.wait_for(|stats| stats.over_limit == 1);
}

#[test]
fn who_comes_is_remembered_where_that_is_wished() {
    for records in [false, true] {
        let lab = Lab::new(|listener| listener.client_records = records);
        lab.establish("nts.test").expect("a session");
        assert_eq!(lab.serving.clients().len(), usize::from(records));
    }
}

#[test]
fn one_address_is_served_as_often_as_the_limit_says() {
    let limit = chime_server::RateLimitSettings {
        interval: Duration::from_secs(3600),
        burst: 2,
        leak: None,
        kiss: None,
    };
    let lab = Lab::new(|listener| listener.rate_limit = Some(limit));
    for _ in 0..2 {
        lab.establish("nts.test").expect("within the limit");
    }
    let mut third = lab.connect();
    assert!(matches!(third.read(&mut [0; 10]), Ok(0) | Err(_)), "closed at once");
    lab.wait_for(|stats| stats.over_limit == 1);
    let [client] = lab.serving.clients()[..] else { panic!("one address: {:?}", lab.serving.clients()) };
    assert_eq!((client.hits, client.drops), (3, 1));
    lab.serving.reset_clients(&[client.address]);
    assert_eq!(lab.serving.clients()[0].hits, 0);
}

#[test]
fn in_a_full_house_a_newcomer_takes_the_place_of_the_oldest_that_has_no_answer() {
    let lab = Lab::new(|listener| {
        listener.connections_max = 8;
        listener.connections_per_address_max = 100;
        listener.timeout = Duration::from_secs(20);
    });
    // The kernel deals connections to the two workers, each of which has room for four: so each has more than enough.
    let mut held: Vec<_> = (0..60).map(|_| lab.connect()).collect();
    lab.wait_for(|stats| stats.evicted == 52 && stats.connections == 8);
    assert_eq!(held[0].read(&mut [0; 10]).expect("closed"), 0, "the oldest has gone");
    for _ in 0..3 {
        lab.establish("nts.test").expect("at once");
    }
    drop(held);
    lab.wait_for(|stats| stats.connections == 0);
    assert_eq!((lab.serving.stats().timed_out, lab.serving.stats().over_limit), (0, 0));
}

/// Thousands that say nothing, or begin to say something, come one after the other and stay: others are served meanwhile, and
/// there are never more than there may be.
#[test]
fn a_flood_of_idle_and_slow_connections_leaves_good_clients_alone() {
    let lab = Lab::new(|listener| {
        listener.connections_max = 128;
        listener.connections_per_address_max = 128;
        listener.timeout = Duration::from_secs(60);
    });
    let server = (Ipv4Addr::LOCALHOST, lab.port()).into();
    let mut held = std::collections::VecDeque::new();
    for number in 0..3_000_usize {
        // From many addresses, or the limit of one of them would be what holds.
        let octet = |number: usize| u8::try_from(number % 250 + 1).expect("below 256");
        let from = Ipv4Addr::new(127, 1, octet(number / 250), octet(number));
        let mut stream = TcpStream::connect(server, Some(from.into()), None).expect("the queue has room");
        if number.is_multiple_of(4) {
            let _closed = stream.write_all(&[0x16, 3, 1, 2]);
        }
        held.push_back(stream);
        if held.len() > 400 {
            held.pop_front();
        }
        if number % 200 == 199 {
            // The queue of the kernel is empty then, too.
            lab.establish("nts.test").expect("served beside them");
            // Each of the two workers counts a newcomer before it lets the oldest go.
            assert!(lab.serving.stats().connections <= 130);
        }
    }
    assert!(lab.serving.stats().evicted > 1_000, "{:?}", lab.serving.stats());
    lab.wait_for(|stats| stats.count(KeServerResult::Accepted) == 15);
    drop(held);
    lab.wait_for(|stats| stats.connections == 0);
}

/// What was left of it would close whoever has its slot next.
#[test]
fn nothing_is_left_of_a_connection_that_ends_in_the_turn_in_which_it_was_answered() {
    let lab = Lab::new(|_| {});
    let desk = lab.serving.desks[0].clone();
    let listener = TcpListener::bind("127.0.0.1:0".parse().expect("an address"), false).expect("loopback");
    let mut client = StdStream::connect(listener.local_addr().expect("bound")).expect("it listens");
    client.write_all(&[0x16, 3, 1]).expect("sent");
    client.shutdown(std::net::Shutdown::Write).expect("shut");
    let (stream, peer) = loop {
        match listener.accept() {
            Ok(accepted) => break accepted,
            Err(_) => std::thread::yield_now(),
        }
    };
    let mut places = places::Places::default();
    let ticket = desk.admission.admit(peer.ip()).expect("there is room");
    let slot = places.add(0, connection::Connection::new((stream, peer), desk, ticket, mono_now()));
    assert!(places.next_deadline().is_some() && places.oldest_unanswered(0) == Some(slot));
    let (readiness, counters) =
        (Readiness { readable: true, writable: false, errors: false }, KeCounters::default());
    while places
        .serve(slot, |connection| connection.handle_ready(readiness, mono_now(), &lab.shared, &counters))
        .is_some()
    {
        std::thread::yield_now();
    }
    assert_eq!((places.next_deadline(), places.oldest_unanswered(0), places.count(0)), (None, None, 0));
}

#[test]
fn the_access_list_counts_and_can_change() {
    let refuse_all = AccessList::uniform(chime_server::Access::Refuse(chime_server::Refusal::Ignore));
    let lab = Lab::new(|listener| listener.access = refuse_all);
    let failure = lab.establish("nts.test").expect_err("refused");
    assert_eq!((failure.kind.as_str(), failure.network), ("connection_lost", true));
    lab.wait_for(|stats| stats.denied == 1);
    lab.serving.set_access([AccessList::uniform(chime_server::Access::Allow)]);
    lab.establish("nts.test").expect("let in");
}

#[test]
fn garbage_of_every_kind_is_closed_and_counted() {
    let lab = Lab::new(|_| {});
    for garbage in [&b"GET / HTTP/1.1\r\nHost: nts.test\r\n\r\n"[..], &[0; 100], &[0xff; 5000], &[0x16, 3, 1]]
    {
        let mut stream = lab.connect();
        stream.write_all(garbage).expect("sent");
        stream.shutdown(std::net::Shutdown::Write).expect("shut");
        let _alert_or_reset = stream.read_to_end(&mut Vec::new());
    }
    lab.wait_for(|stats| stats.results.iter().sum::<u64>() == 4 && stats.connections == 0);
    assert_eq!(lab.serving.stats().count(KeServerResult::Accepted), 0);
    lab.establish("nts.test").expect("still there");
}

#[test]
fn certificates_are_read_again_and_bad_ones_are_not_taken() {
    let lab = Lab::new(|_| {});
    let (_, renewed) = write_certificate(lab.folder.path(), "server", "nts.test");
    lab.establish("nts.test").expect("the old one is still served");
    lab.serving.reload_certificates();
    assert_eq!(lab.establish("nts.test").expect_err("the new one is not trusted").kind, "self_signed");
    std::fs::write(lab.folder.path().join("server.key.pem"), "no key").expect("written");
    lab.serving.reload_certificates();
    let localhost = [IpAddr::V4(Ipv4Addr::LOCALHOST)];
    let (_, outcome) = establish(wish(1, "nts.test", &localhost, lab.port()), &trusting(&[renewed]));
    outcome.expect("the last good one is served");
}

#[test]
fn a_change_of_the_files_is_noticed() {
    let folder = tempfile::tempdir().expect("a folder");
    let (files, _) = write_certificate(folder.path(), "server", "nts.test");
    let certificates = Certificates::read(&[files]).expect("good");
    let first = certificates.not_after();
    certificates.reload_if_changed();
    let key = rcgen::KeyPair::generate().expect("a key");
    let mut params = rcgen::CertificateParams::new(vec!["nts.test".to_owned()]).expect("a name");
    params.not_after = rcgen::date_time_ymd(2090, 1, 1);
    let certificate = params.self_signed(&key).expect("signed");
    std::fs::write(folder.path().join("server.pem"), certificate.pem()).expect("written");
    certificates.reload_if_changed();
    assert_eq!(certificates.not_after(), first, "the key is still that of the old one");
    std::fs::write(folder.path().join("server.key.pem"), key.serialize_pem()).expect("written");
    certificates.reload_if_changed();
    assert_eq!(certificates.not_after(), Some(3_786_912_000));
}

#[test]
fn what_cannot_be_served_is_an_error_that_names_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let (files, _) = write_certificate(folder.path(), "server", "nts.test");
    let spawn_with = |address: &str, files: CertificateFiles| {
        let listener = KeListener::new(address.parse().expect("an address"), vec![files]);
        let settings = KeServerSettings { listeners: vec![listener], workers: 1 };
        spawn(&settings, &shared_with_keys()).map(drop)
    };
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("loopback");
    let address = taken.local_addr().expect("bound").to_string();
    let error = spawn_with(&address, files.clone()).expect_err("taken");
    assert!(format!("{error:#}").contains(&address), "{error:#}");
    let missing = CertificateFiles { chain: folder.path().join("none.pem"), key: files.key.clone() };
    let error = spawn_with("127.0.0.1:0", missing).expect_err("missing");
    assert!(format!("{error:#}").contains("none.pem"), "{error:#}");
    let (other, _) = write_certificate(folder.path(), "other", "nts.test");
    let mixed = CertificateFiles { chain: files.chain, key: other.key };
    let error = spawn_with("127.0.0.1:0", mixed).expect_err("mixed");
    assert!(format!("{error:#}").contains("does not belong"), "{error:#}");
}
