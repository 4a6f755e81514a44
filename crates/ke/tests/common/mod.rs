//! What the tests of sessions share: a PKI, and a wire without a network.
#![allow(dead_code, reason = "each test file uses its part")]

use chime_ke::client::ClientRequest;
use chime_ke::server::CertifiedChain;
use chime_ke::{
    CertificateDates, ClientConfig, ClientSession, ClientTrust, KeError, KeOutcome, ServerConfig,
    ServerSession, TrustAnchors,
};
use chime_nts::Cookie;
use rustls::crypto::CryptoProvider;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::io::{Read, Write};
use std::path::PathBuf;
use std::sync::Arc;

/// 1 December 2026: within the validity of the test PKI; Unix seconds.
pub(crate) const NOW: i64 = 1_796_083_200;

pub(crate) fn provider() -> CryptoProvider {
    rustls::crypto::aws_lc_rs::default_provider()
}

fn pki(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("testdata/pki").join(name)
}

pub(crate) fn certificates(name: &str) -> Vec<CertificateDer<'static>> {
    let file = CertificateDer::pem_file_iter(pki(&format!("{name}.pem"))).expect("the file is there");
    file.collect::<Result<_, _>>().expect("the file is PEM")
}

pub(crate) fn chain(name: &str) -> CertifiedChain {
    let key = if name == "rsa-server-fullchain" { "rsa-server" } else { name };
    let key = PrivateKeyDer::from_pem_file(pki(&format!("{key}.key.pem"))).expect("the file is PEM");
    CertifiedChain { certificates: certificates(name), key }
}

pub(crate) fn server_config(names: &[&str]) -> ServerConfig {
    ServerConfig::new(&provider(), names.iter().map(|name| chain(name)).collect()).expect("usable")
}

pub(crate) fn anchors(names: &[&str]) -> Arc<TrustAnchors> {
    let (anchors, unusable) =
        TrustAnchors::from_certificates(names.iter().flat_map(|name| certificates(name)));
    assert_eq!(unusable, 0);
    Arc::new(anchors)
}

pub(crate) fn trusting(names: &[&str]) -> ClientTrust {
    ClientTrust { extra_roots: anchors(names), ..ClientTrust::default() }
}

/// A client that trusts the test CA and asks `server_name` at [`NOW`].
pub(crate) fn client(server_name: &str) -> ClientSession {
    client_with(trusting(&["ca"]), &ClientRequest::new(server_name), NOW)
}

pub(crate) fn client_with(trust: ClientTrust, request: &ClientRequest, now: i64) -> ClientSession {
    ClientSession::new(&ClientConfig::new(&provider(), trust), request, now).expect("a good request")
}

pub(crate) fn ignoring_dates(server_name: &str) -> ClientRequest {
    ClientRequest { dates: CertificateDates::Ignore, ..ClientRequest::new(server_name) }
}

pub(crate) fn eight_cookies() -> Vec<Cookie> {
    (0..8).map(|number| Cookie::new(&[number; 100]).expect("a good length")).collect()
}

/// Which way octets go, and how many at once.
#[derive(Clone, Copy)]
pub(crate) struct Pieces {
    pub(crate) to_client: usize,
    pub(crate) to_server: usize,
}

pub(crate) const WHOLE: Pieces = Pieces { to_client: usize::MAX, to_server: usize::MAX };

/// Runs both sides against each other until neither has anything to say; gives the server's octets, too.
pub(crate) fn converse(client: &mut ClientSession, server: &mut ServerSession, pieces: Pieces) -> Vec<u8> {
    let mut all = Vec::new();
    loop {
        let mut to_server = Vec::new();
        client.write(&mut to_server);
        to_server.chunks(pieces.to_server.min(to_server.len().max(1))).for_each(|piece| server.read(piece));
        if server.take_request().is_some() {
            server.respond(&eight_cookies(), None, None);
        }
        let mut to_client = Vec::new();
        server.write(&mut to_client);
        to_client.chunks(pieces.to_client.min(to_client.len().max(1))).for_each(|piece| client.read(piece));
        all.extend_from_slice(&to_client);
        if to_server.is_empty() && to_client.is_empty() {
            if server.is_finished() {
                client.read_eof();
            }
            return all;
        }
    }
}

/// The whole establishment, in one call.
pub(crate) fn establish(mut client: ClientSession, server: &ServerConfig) -> Result<KeOutcome, KeError> {
    let mut server = ServerSession::new(server);
    converse(&mut client, &mut server, WHOLE);
    client.outcome().expect("it ended")
}

/// How a scripted TLS server behaves.
pub(crate) struct Script<'a> {
    pub(crate) alpn: &'a [&'a [u8]],
    /// What it sends when it has got a request, in TLS records of at most `record_octets`.
    pub(crate) answer: &'a [u8],
    pub(crate) record_octets: usize,
    pub(crate) close_notify: bool,
}

impl Default for Script<'_> {
    fn default() -> Self {
        Self { alpn: &[b"ntske/1"], answer: &[], record_octets: 16_384, close_notify: true }
    }
}

/// Runs a client against a server that answers any request with given octets.
pub(crate) fn against(client: &mut ClientSession, script: &Script<'_>) -> Result<KeOutcome, KeError> {
    let CertifiedChain { certificates, key } = chain("server");
    let mut config = rustls::ServerConfig::builder_with_provider(Arc::new(provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("TLS 1.3")
        .with_no_client_auth()
        .with_single_cert(certificates, key)
        .expect("usable");
    config.alpn_protocols = script.alpn.iter().map(|protocol| protocol.to_vec()).collect();
    let mut server = rustls::ServerConnection::new(Arc::new(config)).expect("a good configuration");
    let mut answered = false;
    loop {
        let mut to_server = Vec::new();
        client.write(&mut to_server);
        let mut rest = &to_server[..];
        while !rest.is_empty() {
            server.read_tls(&mut rest).expect("room");
            let _ = server.process_new_packets();
        }
        let mut request = [0; 1000];
        if !answered && server.reader().read(&mut request).is_ok_and(|octets| octets > 0) {
            answered = true;
            for piece in script.answer.chunks(script.record_octets) {
                server.writer().write_all(piece).expect("room");
                deliver(&mut server, client);
            }
            if script.close_notify {
                server.send_close_notify();
            }
        }
        if !deliver(&mut server, client) && to_server.is_empty() {
            client.read_eof();
            return client.outcome().expect("it ended");
        }
    }
}

/// Passes on what the scripted server has to send; whether there was something.
fn deliver(server: &mut rustls::ServerConnection, client: &mut ClientSession) -> bool {
    let mut to_client = Vec::new();
    while server.wants_write() {
        server.write_tls(&mut to_client).expect("a Vec takes everything");
    }
    client.read(&to_client);
    !to_client.is_empty()
}
