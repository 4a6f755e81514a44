//! The server's side against scripted clients. RFC 8915 §4.

mod common;

use chime_ke::ServerSession;
use chime_ke::server::KeServerResult;
use common::{certificates, eight_cookies, provider, server_config};
use proptest::prelude::*;
use rustls::pki_types::ServerName;
use rustls::{ClientConnection, RootCertStore};
use std::io::{Read, Write};
use std::sync::Arc;

/// How a scripted client behaves.
struct Client<'a> {
    name: &'static str,
    alpn: &'a [&'a [u8]],
    request: &'a [u8],
    /// The request is sent in TLS records of these many octets.
    record_octets: usize,
    /// Whether it sends a close_notify right behind the request.
    half_close: bool,
}

const GOOD: &[u8] = &[0x80, 1, 0, 2, 0, 0, 0x80, 4, 0, 2, 0, 15, 0x80, 0, 0, 0];

impl Default for Client<'_> {
    fn default() -> Self {
        Self {
            name: "nts.test",
            alpn: &[b"ntske/1"],
            request: GOOD,
            record_octets: 16_384,
            half_close: false,
        }
    }
}

/// What a scripted client gets.
#[derive(Debug)]
struct Got {
    result: Option<KeServerResult>,
    answer: Vec<u8>,
    certificate: Option<Vec<u8>>,
    cipher_suite: Option<rustls::CipherSuite>,
    tickets: u32,
    close_notify: bool,
}

impl Client<'_> {
    fn connect(&self) -> ClientConnection {
        let mut roots = RootCertStore::empty();
        for name in ["ca", "other-ca", "rsa-ca", "self-signed"] {
            roots.add(certificates(name).remove(0)).expect("usable");
        }
        let mut config = rustls::ClientConfig::builder_with_provider(Arc::new(provider()))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("known")
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = self.alpn.iter().map(|protocol| protocol.to_vec()).collect();
        ClientConnection::new(Arc::new(config), ServerName::try_from(self.name).expect("a name"))
            .expect("good")
    }

    fn ask(&self, names: &[&str]) -> Got {
        let mut client = self.connect();
        let mut server = ServerSession::new(&server_config(names));
        let (mut asked, mut answer, mut close_notify) = (false, Vec::new(), false);
        loop {
            if !asked && !client.is_handshaking() {
                asked = true;
                for piece in self.request.chunks(self.record_octets) {
                    client.writer().write_all(piece).expect("room");
                    pass_on(&mut client, &mut server);
                }
                if self.half_close {
                    client.send_close_notify();
                }
            }
            let mut busy = pass_on(&mut client, &mut server);
            let mut octets = Vec::new();
            server.write(&mut octets);
            busy |= !octets.is_empty();
            let mut rest = &octets[..];
            while !rest.is_empty() {
                client.read_tls(&mut rest).expect("room");
                close_notify |= client.process_new_packets().is_ok_and(|state| state.peer_has_closed());
            }
            let _ = client.reader().read_to_end(&mut answer);
            if !busy {
                return Got {
                    result: server.result(),
                    answer,
                    certificate: client.peer_certificates().map(|chain| chain[0].to_vec()),
                    cipher_suite: client.negotiated_cipher_suite().map(|suite| suite.suite()),
                    tickets: client.tls13_tickets_received(),
                    close_notify,
                };
            }
        }
    }
}

/// Passes on what the client has to send, and answers a request; whether there was something.
fn pass_on(client: &mut ClientConnection, server: &mut ServerSession) -> bool {
    let mut octets = Vec::new();
    while client.wants_write() {
        client.write_tls(&mut octets).expect("a Vec takes everything");
    }
    server.read(&octets);
    if server.take_request().is_some() {
        server.respond(&eight_cookies(), None, None);
    }
    !octets.is_empty()
}

#[test]
fn a_good_request_is_answered_and_closed_without_tickets() {
    let got = Client::default().ask(&["server"]);
    assert_eq!(got.result, Some(KeServerResult::Accepted));
    assert_eq!(&got.answer[..12], &GOOD[..12], "NTPv4 and AEAD 15");
    assert_eq!(got.answer.len(), 12 + 8 * 104 + 4);
    assert_eq!(got.tickets, 0);
    assert!(got.close_notify);
    assert_eq!(
        got.cipher_suite,
        Some(rustls::CipherSuite::TLS13_AES_128_GCM_SHA256),
        "whatever the client prefers"
    );
}

#[test]
fn requests_may_be_split_and_followed_by_close_notify() {
    for record_octets in 1..=GOOD.len() {
        for half_close in [false, true] {
            let got = Client { record_octets, half_close, ..Client::default() }.ask(&["server"]);
            assert_eq!(got.result, Some(KeServerResult::Accepted), "{record_octets} {half_close}");
        }
    }
}

#[test]
fn clients_without_our_protocol_do_not_get_through_the_handshake() {
    for alpn in [&[][..], &[&b"h2"[..]]] {
        let got = Client { alpn, ..Client::default() }.ask(&["server"]);
        assert_eq!(got.result, Some(KeServerResult::NoAlpn));
        assert!(got.certificate.is_none() && got.answer.is_empty());
    }
    let got = Client { alpn: &[b"h2", b"ntske/1"], ..Client::default() }.ask(&["server"]);
    assert_eq!(got.result, Some(KeServerResult::Accepted));
}

#[test]
fn the_certificate_follows_the_name_that_is_asked_for() {
    let shown =
        |name, names: &[&str]| Client { name, ..Client::default() }.ask(names).certificate.expect("shown");
    let leaf = |name| certificates(name)[0].to_vec();
    let names = ["server", "wrong-host", "ip-san"];
    assert_eq!(shown("nts.test", &names), leaf("server"));
    assert_eq!(shown("other.test", &names), leaf("wrong-host"));
    assert_eq!(shown("other.test", &["wrong-host", "server"]), leaf("wrong-host"));
    assert_eq!(shown("127.0.0.1", &names), leaf("server"), "addresses are not named in TLS: the first");
    let unknown = Client { name: "third.test", ..Client::default() }.ask(&names);
    assert_eq!(
        unknown.result,
        Some(KeServerResult::CertificateRefused),
        "the first was shown and did not fit"
    );
}

#[test]
fn refusals_are_answered_and_counted() {
    let ask = |request: &[u8]| Client { request, ..Client::default() }.ask(&["server"]);
    let bad = ask(&[0x80, 0, 0, 0]);
    assert_eq!(
        (bad.result, &bad.answer[..]),
        (Some(KeServerResult::BadRequest), &[0x80, 2, 0, 2, 0, 1, 0x80, 0, 0, 0][..])
    );
    assert!(bad.close_notify);
    let unknown = ask(&[0xa0, 1, 0, 0, 0x80, 0, 0, 0]);
    assert_eq!(unknown.result, Some(KeServerResult::UnknownCriticalRecord));
    let no_aead = ask(&[0x80, 1, 0, 2, 0, 0, 0x80, 4, 0, 2, 0, 17, 0x80, 0, 0, 0]);
    assert_eq!(no_aead.result, Some(KeServerResult::NoAead));
    let no_protocol = ask(&[0x80, 1, 0, 2, 0x80, 1, 0x80, 4, 0, 2, 0, 15, 0x80, 0, 0, 0]);
    assert_eq!(no_protocol.result, Some(KeServerResult::NoProtocol));
    let more = ask(&[GOOD, &[1]].concat());
    assert_eq!((more.result, more.answer.len()), (Some(KeServerResult::Malformed), 0));
}

#[test]
fn a_request_that_is_cut_or_too_long_is_closed_without_an_answer() {
    for length in 0..GOOD.len() {
        let got = Client { request: &GOOD[..length], half_close: true, ..Client::default() }.ask(&["server"]);
        let expected = if length == 0 { KeServerResult::Disconnected } else { KeServerResult::Malformed };
        assert_eq!((got.result, got.answer.len()), (Some(expected), 0), "cut at {length}");
    }
    let long = [0x20, 0, 0x40, 0];
    let got = Client { request: &long, ..Client::default() }.ask(&["server"]);
    assert_eq!(got.result, Some(KeServerResult::Malformed), "a record of 16 KiB is announced");
    let waiting = Client { request: &GOOD[..12], ..Client::default() }.ask(&["server"]);
    assert_eq!(waiting.result, None, "the end may still come");
}

#[test]
fn a_client_that_goes_away_is_no_error_of_ours() {
    let mut session = ServerSession::new(&server_config(&["server"]));
    session.read_eof();
    assert_eq!(session.result(), Some(KeServerResult::Disconnected));
    let mut session = ServerSession::new(&server_config(&["server"]));
    session.read(b"GET / HTTP/1.1\r\n\r\n");
    assert_eq!(session.result(), Some(KeServerResult::TlsFailed));
}

/// A ClientHello of TLS 1.2: no supported_versions extension, but ALPN.
fn tls12_client_hello() -> Vec<u8> {
    let mut body = vec![3, 3];
    body.extend([0x5a; 32]); // random
    body.extend([0, 0, 2, 0xc0, 0x2b, 1, 0]); // no session id, one cipher suite, no compression
    let extensions: &[u8] = &[
        0, 10, 0, 4, 0, 2, 0, 29, // supported_groups: x25519
        0, 13, 0, 4, 0, 2, 4, 3, // signature_algorithms: ecdsa_secp256r1_sha256
        0, 16, 0, 10, 0, 8, 7, b'n', b't', b's', b'k', b'e', b'/', b'1', // ALPN
    ];
    body.extend(u16::try_from(extensions.len()).expect("short").to_be_bytes());
    body.extend(extensions);
    let length = u8::try_from(body.len()).expect("short");
    let mut hello = vec![0x16, 3, 1, 0, length + 4, 1, 0, 0, length];
    hello.extend(body);
    hello
}

#[test]
fn a_client_of_tls_1_2_gets_an_alert_and_a_counter_of_its_own() {
    let mut session = ServerSession::new(&server_config(&["server"]));
    session.read(&tls12_client_hello());
    assert_eq!(session.result(), Some(KeServerResult::OldTls));
    let mut octets = Vec::new();
    session.write(&mut octets);
    assert_eq!(octets, [0x15, 3, 3, 0, 2, 2, 70], "protocol_version");
}

#[test]
fn when_no_cookies_can_be_made_the_client_learns_that_it_is_our_fault() {
    let mut client = common::client("nts.test");
    let mut server = ServerSession::new(&server_config(&["server"]));
    while !server.is_finished() {
        let mut octets = Vec::new();
        client.write(&mut octets);
        server.read(&octets);
        if server.take_request().is_some() {
            server.refuse();
        }
        octets.clear();
        server.write(&mut octets);
        client.read(&octets);
    }
    assert_eq!(server.result(), Some(KeServerResult::InternalError));
    assert_eq!(client.outcome(), Some(Err(chime_ke::KeError::ServerError(2))));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn garbage_never_makes_a_server_panic_or_answer(octets in prop::collection::vec(any::<u8>(), 0..2000)) {
        let mut session = ServerSession::new(&server_config(&["server"]));
        session.read(&octets);
        session.read_eof();
        prop_assert!(session.result().is_some_and(|result| result != KeServerResult::Accepted));
    }
}
