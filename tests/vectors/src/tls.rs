//! A TLS client for our key establishment server, with the freedoms that the recorder took.

use crate::harness::Harness;
use crate::pki;
use crate::vector::TlsOptions;
use chime_ke::ServerConfig as KeServerConfig;
use chime_ke::ServerSession;
use chime_nts::record::Records;
use chime_nts::{
    AeadAlgorithm, AeadKey, Cookie, Direction, EXPORTER_LABEL, KeyRing, NtsKeys, exporter_context,
};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, Error, SignatureScheme};
use std::io::{Read, Write};
use std::sync::Arc;

/// How a session with our server went.
pub(crate) struct Session {
    /// Whether the TLS handshake was finished.
    pub(crate) established: bool,
    /// What our server said inside.
    pub(crate) answer: Vec<u8>,
    connection: Option<ClientConnection>,
    ring: KeyRing,
}

impl Session {
    /// The keys that the client exports, as RFC 8915 §5.1 says.
    pub(crate) fn keys(&self, aead: AeadAlgorithm) -> Option<NtsKeys> {
        let connection = self.connection.as_ref()?;
        let key = |direction| {
            let context = exporter_context(aead.id(), direction);
            let octets = vec![0; aead.key_octets()];
            let octets =
                connection.export_keying_material(octets, EXPORTER_LABEL.as_bytes(), Some(&context)).ok()?;
            AeadKey::new(aead, &octets).ok()
        };
        Some(NtsKeys { c2s: key(Direction::ClientToServer)?, s2c: key(Direction::ServerToClient)? })
    }

    /// The keys in a cookie of our server.
    pub(crate) fn open(&self, cookie: &Cookie) -> Option<NtsKeys> {
        self.ring.open_cookie(cookie.as_bytes()).ok()
    }

    /// Types and body lengths of the records in the answer.
    pub(crate) fn records(&self) -> Vec<(u16, usize)> {
        Records::new(&self.answer)
            .map_while(Result::ok)
            .map(|record| (record.record_type, record.body.len()))
            .collect()
    }
}

/// Sends `request` to our server within TLS, as `options` say.
pub(crate) fn ask_our_server(request: &[u8], options: &TlsOptions) -> Result<Session, String> {
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    let config =
        KeServerConfig::new(&provider, vec![pki::chain("server")?]).map_err(|error| error.to_string())?;
    let mut harness = Harness::new(Vec::new());
    let mut server = ServerSession::new(&config);
    if options.is_old() {
        return Ok(greet_with_old_tls(&mut server, harness.ring));
    }
    let mut client = connect(provider, options)?;
    let mut established = pump(&mut client, &mut server, &mut harness);
    let mut answer = Vec::new();
    let mut rest = request;
    for octets in options.chunks.iter().flatten().copied().chain([usize::MAX]) {
        let (chunk, behind) = rest.split_at(octets.min(rest.len()));
        rest = behind;
        established &= client.writer().write_all(chunk).is_ok();
        established &= pump(&mut client, &mut server, &mut harness);
    }
    if options.half_close {
        client.send_close_notify();
    }
    pump(&mut client, &mut server, &mut harness);
    server.read_eof();
    pump(&mut client, &mut server, &mut harness);
    // The end of the connection is an error to rustls when there was no close_notify: what came before it counts.
    let _ = client.reader().read_to_end(&mut answer);
    established &= !client.is_handshaking();
    Ok(Session { established, answer, connection: Some(client), ring: harness.ring })
}

fn connect(provider: CryptoProvider, options: &TlsOptions) -> Result<ClientConnection, String> {
    let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| error.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyCertificate))
        .with_no_client_auth();
    let protocols = options.alpn.clone().unwrap_or_else(|| vec!["ntske/1".to_owned()]);
    config.alpn_protocols = protocols.into_iter().map(String::into_bytes).collect();
    let name = options.sni.clone().unwrap_or_else(|| "nts.test".to_owned());
    let name = ServerName::try_from(name).map_err(|error| error.to_string())?;
    ClientConnection::new(Arc::new(config), name).map_err(|error| error.to_string())
}

/// Carries octets both ways until neither side has any; false when the client gave up.
fn pump(client: &mut ClientConnection, server: &mut ServerSession, harness: &mut Harness) -> bool {
    loop {
        let mut forth = Vec::new();
        while client.wants_write() && client.write_tls(&mut forth).is_ok() {}
        server.read(&forth);
        if let Some(request) = server.take_request() {
            let mut cookie = || {
                let nonce = harness.nonce();
                harness.ring.seal_cookie(&request.keys, nonce)
            };
            let cookies: Vec<Cookie> = std::iter::repeat_with(&mut cookie).take(8).collect();
            server.respond(&cookies, None, None);
        }
        let mut back = Vec::new();
        server.write(&mut back);
        let mut rest = &back[..];
        while !rest.is_empty() {
            if client.read_tls(&mut rest).is_err() || client.process_new_packets().is_err() {
                return false;
            }
        }
        if forth.is_empty() && back.is_empty() {
            return true;
        }
    }
}

/// A hello of TLS 1.2, which rustls does not make here: our server answers with an alert, or nothing.
fn greet_with_old_tls(server: &mut ServerSession, ring: KeyRing) -> Session {
    let mut extensions = vec![0, 10, 0, 4, 0, 2, 0, 23]; // supported groups: P-256
    extensions.extend([0, 13, 0, 6, 0, 4, 4, 3, 8, 4]); // signatures: ECDSA with SHA-256, RSA-PSS with SHA-256
    extensions.extend([0, 16, 0, 10, 0, 8, 7]); // ALPN
    extensions.extend(b"ntske/1");
    let mut hello = vec![3, 3];
    hello.extend([0x77; 32]);
    hello.extend([0, 0, 4, 0xc0, 0x2b, 0xc0, 0x2f, 1, 0, 0]);
    hello.push(u8::try_from(extensions.len()).expect("short"));
    hello.extend(extensions);
    let octets = u8::try_from(hello.len()).expect("short");
    server.read(&[&[22, 3, 1, 0, octets + 4, 1, 0, 0, octets][..], &hello].concat());
    let mut back = Vec::new();
    server.write(&mut back);
    const ALERT: u8 = 21;
    Session {
        established: back.first().is_some_and(|kind| *kind != ALERT),
        answer: Vec::new(),
        connection: None,
        ring,
    }
}

/// The recorder did not look at certificates either.
#[derive(Debug)]
struct AnyCertificate;

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("TLS 1.2".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![
            SignatureScheme::ECDSA_NISTP256_SHA256,
            SignatureScheme::RSA_PSS_SHA256,
            SignatureScheme::ED25519,
        ]
    }
}
