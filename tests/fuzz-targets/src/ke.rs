//! Targets for `chime-ke`.

use chime_ke::client::read_response;
use chime_ke::server::{CertifiedChain, KeDecision, decide, write_refusal, write_response};
use chime_ke::{
    CertificateInfo, ClientConfig, ClientRequest, ClientSession, ClientTrust, PublicKeyPin, ServerConfig,
    ServerSession,
};
use chime_nts::{AeadAlgorithm, Cookie};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::sync::LazyLock;

/// TEST ONLY.
const CERTIFICATE: &[u8] = include_bytes!("../../vectors/pki/server.pem");
const KEY: &[u8] = include_bytes!("../../vectors/pki/server.key.pem");

/// The records of a request: what is accepted can be answered, and our client reads the answer.
pub fn ke_request(octets: &[u8]) {
    let decision = decide(octets, &AeadAlgorithm::OFFERED);
    let KeDecision::Accept(accepted) = decision else {
        if let Some(refusal) = write_refusal(decision) {
            assert!(read_response(&refusal, &AeadAlgorithm::ALL).is_err());
        }
        return;
    };
    let cookies = vec![Cookie::new(&[1; 104]).expect("a good length"); 8];
    let answer = write_response(accepted, &cookies, Some("ntp.example.org"), Some(11123));
    let read = read_response(&answer, &AeadAlgorithm::ALL).expect("our own answer");
    assert_eq!((read.aead, read.cookies.len(), read.ntp_port), (accepted.aead, 8, Some(11123)));
}

/// The records of an answer.
pub fn ke_response(octets: &[u8]) {
    if let Ok(read) = read_response(octets, &AeadAlgorithm::OFFERED) {
        assert!((1..=8).contains(&read.cookies.len()));
        assert!(AeadAlgorithm::OFFERED.contains(&read.aead));
    }
}

/// TLS octets from a client that nobody knows, in pieces.
pub fn ke_server_session(octets: &[u8]) {
    static CONFIG: LazyLock<ServerConfig> = LazyLock::new(|| {
        let certificates = vec![CertificateDer::from_pem_slice(CERTIFICATE).expect("a certificate")];
        let key = PrivateKeyDer::from_pem_slice(KEY).expect("a key");
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        ServerConfig::new(&provider, vec![CertifiedChain { certificates, key }]).expect("they fit")
    });
    let (piece, octets) = crate::first(octets);
    let mut session = ServerSession::new(&CONFIG);
    let mut out = Vec::new();
    for chunk in octets.chunks(usize::from(piece).max(1)) {
        session.read(chunk);
        session.write(&mut out);
        assert!(session.take_request().is_none(), "a request without a handshake");
    }
    session.read_eof();
    session.write(&mut out);
    assert!(out.len() < 16_384 + octets.len(), "an answer of {} octets", out.len());
}

/// TLS octets from a server that nobody knows, in pieces.
pub fn ke_client_session(octets: &[u8]) {
    static CONFIG: LazyLock<ClientConfig> = LazyLock::new(|| {
        let pin = PublicKeyPin([7; 32]);
        let trust = ClientTrust { pinned_keys: vec![pin], ..ClientTrust::default() };
        ClientConfig::new(&rustls::crypto::aws_lc_rs::default_provider(), trust)
    });
    let (piece, octets) = crate::first(octets);
    let request = ClientRequest::new("nts.test");
    let mut session = ClientSession::new(&CONFIG, &request, 1_795_200_000).expect("the name is one");
    let mut out = Vec::new();
    session.write(&mut out);
    for chunk in octets.chunks(usize::from(piece).max(1)) {
        session.read(chunk);
        session.write(&mut out);
    }
    session.read_eof();
    let outcome = session.outcome().expect("an outcome at the end of the connection");
    let error = outcome.expect_err("nobody can answer without our hello");
    assert!(!error.to_string().is_empty() && !error.kind().is_empty());
    let _ = session.trace();
}

/// A certificate, and a pin in text.
pub fn certificate(octets: &[u8]) {
    if let Ok(info) = CertificateInfo::read(&CertificateDer::from(octets)) {
        let _ = format!("{info:?}");
    }
    let _ = String::from_utf8_lossy(octets).parse::<PublicKeyPin>();
}
