//! Whole key establishments, octets in and octets out: both sides of ours, and ours against scripted ones.

mod common;

use chime_ke::client::ClientRequest;
use chime_ke::server::KeServerResult;
use chime_ke::{ClientSession, KeError, KeStage, ServerSession};
use chime_nts::AeadAlgorithm;
use chime_nts::record::RecordWriter;
use common::{
    NOW, Pieces, Script, WHOLE, against, client, client_with, converse, eight_cookies, server_config,
    trusting,
};
use proptest::prelude::*;

/// An answer as a server gives it: protocol, algorithm, more records, cookies, the end.
fn answer(aead: u16, more: &[(bool, u16, &[u8])], cookies: usize) -> Vec<u8> {
    let mut writer = RecordWriter::new();
    writer.number(true, 1, 0).number(true, 4, aead);
    for (critical, record_type, body) in more {
        writer.record(*critical, *record_type, body).expect("short");
    }
    for _ in 0..cookies {
        writer.record(false, 5, &[9; 100]).expect("short");
    }
    writer.finish()
}

fn answered(octets: &[u8]) -> Result<chime_ke::KeOutcome, KeError> {
    against(&mut client("nts.test"), &Script { answer: octets, ..Script::default() })
}

#[test]
fn both_sides_get_the_same_keys() {
    for (aeads, expected) in [
        (vec![AeadAlgorithm::Aes128GcmSiv, AeadAlgorithm::AesSivCmac256], AeadAlgorithm::Aes128GcmSiv),
        (vec![AeadAlgorithm::AesSivCmac256], AeadAlgorithm::AesSivCmac256),
    ] {
        let request = ClientRequest { aeads, ..ClientRequest::new("nts.test") };
        let mut client = client_with(trusting(&["ca"]), &request, NOW);
        let mut server = ServerSession::new(&server_config(&["server"]));
        let mut given = None;
        while !server.is_finished() {
            let mut octets = Vec::new();
            client.write(&mut octets);
            server.read(&octets);
            if let Some(info) = server.take_request() {
                assert!(server.take_request().is_none(), "once only");
                server.respond(&eight_cookies(), Some("ntp.test"), Some(1123));
                given = Some(info);
            }
            octets.clear();
            server.write(&mut octets);
            client.read(&octets);
        }
        let (given, got) = (given.expect("accepted"), client.outcome().expect("done").expect("good"));
        assert_eq!((given.aead, got.keys.algorithm()), (expected, expected));
        assert_eq!(given.keys, got.keys);
        assert_ne!(got.keys.c2s, got.keys.s2c);
        assert_eq!(got.alternative_keys, None, "record 1024 was echoed, or does not matter");
        assert_eq!(got.cookies, eight_cookies());
        assert_eq!((got.ntp_server.as_deref(), got.ntp_port), (Some("ntp.test"), Some(1123)));
        assert_eq!(server.result(), Some(KeServerResult::Accepted));
        assert!(client.outcome().is_none(), "an outcome is given once");
    }
}

#[test]
fn both_key_sets_are_kept_while_it_is_undecided_which_one_the_server_uses() {
    let undecided = answered(&answer(30, &[], 8)).expect("good");
    let other = undecided.alternative_keys.expect("as chrony before 4.6.1 makes them");
    assert_eq!(other.algorithm(), AeadAlgorithm::Aes128GcmSiv);
    assert_ne!(other, undecided.keys);
    assert_eq!(answered(&answer(30, &[(false, 1024, b"")], 8)).expect("good").alternative_keys, None);
    assert_eq!(answered(&answer(15, &[], 8)).expect("good").alternative_keys, None);
}

#[test]
fn reads_of_any_size_do() {
    let config = server_config(&["server"]);
    for size in (1..=70).chain([100, 255, 256, 257, 500, 1000, 1500, 4096]) {
        let mut client = client("nts.test");
        let mut server = ServerSession::new(&config);
        converse(&mut client, &mut server, Pieces { to_client: size, to_server: 71 - size.min(70) });
        client.outcome().expect("done").expect("good");
    }
}

#[test]
fn a_stream_that_ends_early_is_an_error_at_every_octet() {
    let config = server_config(&["server"]);
    let whole = {
        let (mut client, mut server) = (client("nts.test"), ServerSession::new(&config));
        converse(&mut client, &mut server, WHOLE).len()
    };
    // The last TLS record is the close_notify, which is not needed: 5 octets of header, 2 of alert, 17 of cipher.
    let needed = whole - 24;
    for cut in 0..whole {
        let mut client = client("nts.test");
        let mut server = ServerSession::new(&config);
        let outcome = cut_off(&mut client, &mut server, cut);
        // Signatures differ in length by a few octets, so that near the end of the message either may be.
        if cut + 8 < needed {
            assert!(outcome.is_err(), "cut at {cut} of {whole}");
        } else if cut >= needed + 8 {
            assert!(outcome.is_ok(), "cut at {cut} of {whole}: close_notify may be missing");
        }
    }
}

/// Lets the client see only the first octets of what the server sends.
fn cut_off(client: &mut ClientSession, server: &mut ServerSession, cut: usize) -> Result<(), KeError> {
    let mut left = cut;
    loop {
        let mut octets = Vec::new();
        client.write(&mut octets);
        server.read(&octets);
        if server.take_request().is_some() {
            server.respond(&eight_cookies(), None, None);
        }
        octets.clear();
        server.write(&mut octets);
        let seen = left.min(octets.len());
        client.read(&octets[..seen]);
        left -= seen;
        if left == 0 || octets.is_empty() {
            client.read_eof();
            return client.outcome().expect("done").map(drop);
        }
    }
}

#[test]
fn an_answer_needs_end_of_message_but_no_close_notify() {
    let good = answer(15, &[], 8);
    let without = |octets| Script { answer: octets, close_notify: false, ..Script::default() };
    against(&mut client("nts.test"), &without(&good)).expect("good");
    for close_notify in [false, true] {
        let cut = Script { answer: &good[..good.len() - 4], close_notify, ..Script::default() };
        assert_eq!(against(&mut client("nts.test"), &cut), Err(KeError::Truncated));
        let none = Script { answer: &[], close_notify, ..Script::default() };
        assert_eq!(against(&mut client("nts.test"), &none), Err(KeError::NoAnswer));
    }
}

#[test]
fn answers_may_come_in_any_number_of_tls_records() {
    let good = answer(30, &[(false, 0x2001, &[0; 300])], 8);
    for record_octets in [1, 2, 3, 4, 5, 7, 100, 104] {
        against(&mut client("nts.test"), &Script { answer: &good, record_octets, ..Script::default() })
            .expect("good");
    }
}

#[test]
fn answers_of_up_to_64_kib_are_read() {
    let filling = 64 * 1024 - answer(15, &[], 1).len() - 2 * 4;
    let of = |rest: usize| {
        answer(15, &[(false, 0x2001, &vec![0; filling - 10_000]), (false, 0x2002, &vec![0; rest])], 1)
    };
    assert_eq!(of(10_000).len(), 64 * 1024);
    answered(&of(10_000)).expect("just fits");
    assert_eq!(answered(&of(10_001)), Err(KeError::TooLong));
    let mut endless = client("nts.test");
    let octets = [0x20, 1, 0xff, 0xff].into_iter().chain([0; 65_535]).collect::<Vec<_>>().repeat(3);
    assert_eq!(
        against(&mut endless, &Script { answer: &octets, ..Script::default() }),
        Err(KeError::TooLong)
    );
}

#[test]
fn what_the_server_refuses_is_said_in_its_words() {
    let error = |code| RecordWriter::new().number(true, 2, code).clone().finish();
    assert_eq!(answered(&error(1)), Err(KeError::ServerError(1)));
    assert_eq!(answered(&answer(15, &[], 0)), Err(KeError::NoCookies));
    assert_eq!(answered(&answer(17, &[], 8)), Err(KeError::AeadNotOffered(17)));
    assert_eq!(answered(&[0x80; 80]), Err(KeError::Truncated), "garbage");
}

#[test]
fn a_server_without_our_protocol_is_refused() {
    let good = answer(15, &[], 8);
    for alpn in [&[][..], &[&b"h2"[..]]] {
        let script = Script { alpn, answer: &good, ..Script::default() };
        assert_eq!(against(&mut client("nts.test"), &script), Err(KeError::NoAlpn));
    }
    against(
        &mut client("nts.test"),
        &Script { alpn: &[b"h2", b"ntske/1"], answer: &good, ..Script::default() },
    )
    .expect("among others");
}

/// What a client makes of a server that sends these octets and closes.
fn told(octets: &[u8]) -> KeError {
    let mut client = client("nts.test");
    client.write(&mut Vec::new());
    client.read(octets);
    client.read_eof();
    client.outcome().expect("done").expect_err("refused")
}

/// A TLS 1.2 ServerHello: no supported_versions extension.
fn tls12_server_hello() -> Vec<u8> {
    let mut hello = vec![0x16, 3, 3, 0, 44, 2, 0, 0, 40, 3, 3];
    hello.extend([0x5a; 32]); // random
    hello.extend([0, 0xc0, 0x2b, 0, 0, 0]); // no session id, ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, no compression, none
    hello
}

#[test]
fn a_server_of_tls_1_2_is_called_that() {
    let protocol_version_alert = [0x15, 3, 3, 0, 2, 2, 70];
    assert_eq!(told(&protocol_version_alert), KeError::Tls12Only);
    assert_eq!(told(&tls12_server_hello()), KeError::Tls12Only);
    let handshake_failure_alert = [0x15, 3, 3, 0, 2, 2, 40];
    assert_eq!(told(&handshake_failure_alert), KeError::TlsAlert("HandshakeFailure".to_owned()));
}

#[test]
fn what_is_not_tls_is_called_that() {
    assert_eq!(told(b"HTTP/1.1 400 Bad Request\r\n\r\n"), KeError::NotTls);
    assert_eq!(told(b"SSH-2.0-OpenSSH_10.0\r\n"), KeError::NotTls);
    assert!(matches!(told(b""), KeError::ConnectionLost(_)));
    assert!(matches!(told(&[0x16, 3]), KeError::ConnectionLost(_)));
}

#[test]
fn impossible_names_are_refused_before_anything_is_sent() {
    let config = chime_ke::ClientConfig::new(&common::provider(), trusting(&["ca"]));
    for name in ["", " ", "a b", "nts..test", "http://nts.test", "1.2.3.4.5.", "nts.test:4460"] {
        let session = ClientSession::new(&config, &ClientRequest::new(name), NOW);
        assert_eq!(session.err(), Some(KeError::InvalidServerName(name.to_owned())));
    }
}

#[test]
fn a_trace_tells_the_steps() {
    let mut refused = client("a.test");
    let mut server = ServerSession::new(&server_config(&["server"]));
    converse(&mut refused, &mut server, WHOLE);
    let trace = refused.trace();
    assert_eq!(trace.stage, KeStage::Handshake);
    assert_eq!(trace.certificates[0].names, ["nts.test", "127.0.0.1"], "also of a refused certificate");
    assert!(trace.request.is_empty(), "nothing was asked of a server that is not believed");
    assert_eq!(server.result(), Some(KeServerResult::CertificateRefused));

    let mut good = client("nts.test");
    converse(&mut good, &mut ServerSession::new(&server_config(&["server"])), WHOLE);
    let trace = good.trace();
    assert_eq!(trace.stage, KeStage::Done);
    assert_eq!(trace.tls_version.as_deref(), Some("TLS 1.3"));
    assert_eq!(trace.cipher_suite.as_deref(), Some("TLS13_AES_128_GCM_SHA256"));
    assert_eq!(trace.key_exchange_group.as_deref(), Some("X25519MLKEM768"));
    assert_eq!(trace.alpn.as_deref(), Some("ntske/1"));
    assert_eq!(trace.request[1].content, "30 (AES-128-GCM-SIV), 15 (AES-SIV-CMAC-256)");
    assert_eq!(trace.response.iter().filter(|record| record.name() == "New Cookie").count(), 8);
    assert!(trace.response.iter().all(|record| record.record_type != 5 || record.content.is_empty()));
}

/// The client's first flight has shares for both groups, so that TLS itself settles which one it is: no second attempt, and no
/// way for the network to choose the weaker one (RFC 8446 §4.2.8: the server answers a share that it can use).
#[test]
fn a_server_without_ml_kem_takes_the_other_share_of_the_same_hello() {
    let mut provider = common::provider();
    provider.kx_groups.retain(|group| group.name() == rustls::NamedGroup::X25519);
    let config = chime_ke::ServerConfig::new(&provider, vec![common::chain("server")]).expect("usable");
    let mut good = client("nts.test");
    let mut hello = Vec::new();
    good.write(&mut hello);
    assert!((1_200..2_400).contains(&hello.len()), "two segments, no more: {}", hello.len());
    let mut server = ServerSession::new(&config);
    server.read(&hello);
    let mut answer = Vec::new();
    server.write(&mut answer);
    good.read(&answer);
    assert_eq!(good.stage(), KeStage::Answer, "one round trip was enough");
    assert_eq!(good.trace().key_exchange_group.as_deref(), Some("X25519"));
}

/// Where the types and versions in the headers of TLS records are: what is encrypted has its own type inside, and the
/// version means nothing. RFC 8446 §5.1, §5.2.
fn type_and_version_octets(octets: &[u8]) -> Vec<usize> {
    let (mut at, mut found) = (0, Vec::new());
    while at + 5 <= octets.len() {
        found.extend([at, at + 1, at + 2]);
        at += 5 + usize::from(u16::from_be_bytes([octets[at + 3], octets[at + 4]]));
    }
    found
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn garbage_never_makes_a_client_panic_or_succeed(octets in prop::collection::vec(any::<u8>(), 0..2000)) {
        prop_assert!(!told(&octets).kind().is_empty());
    }

    #[test]
    fn a_flipped_bit_on_the_way_never_gives_an_outcome(at in any::<prop::sample::Index>(), bit in 0u8..8) {
        let mut client = client("nts.test");
        let mut server = ServerSession::new(&server_config(&["server"]));
        let mut octets = Vec::new();
        client.write(&mut octets);
        server.read(&octets);
        octets.clear();
        server.write(&mut octets);
        let at = at.index(octets.len());
        let is_ignored = type_and_version_octets(&octets).contains(&at);
        octets[at] ^= 1 << bit;
        client.read(&octets);
        converse(&mut client, &mut server, WHOLE);
        client.read_eof();
        let outcome = client.outcome().expect("done");
        prop_assert!(outcome.is_err() || is_ignored, "octet {} of {}", at, octets.len());
    }
}
