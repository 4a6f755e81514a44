//! A client of NTS-KE that trusts anyone: for cookies to measure with, and for full handshakes one after the other.

use crate::measure::{Figure, cpu_nanoseconds};
use crate::sandbox::{SERVER_TALK_ADDRESS, pin_to_load_core};
use crate::servers::Server;
use anyhow::{Context, Result, bail, ensure};
use chime_nts::record::{
    ALPN_PROTOCOL, MessageReader, NTS_KE_PORT, RESPONSE_OCTETS_MAX, RecordWriter, Records, record_type,
};
use chime_nts::{
    AeadAlgorithm, AeadKey, Cookie, Direction, EXPORTER_LABEL, NTP_PROTOCOL_ID, NtsKeys, exporter_context,
};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, IpAddr, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, NamedGroup, SignatureScheme};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Clients at once: enough that the server never waits for one.
const CLIENTS: usize = 16;
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(2);
const START_TIMEOUT: Duration = Duration::from_secs(10);

/// What a key establishment brought.
pub(crate) struct Session {
    pub(crate) keys: NtsKeys,
    pub(crate) cookies: Vec<Cookie>,
}

/// Establishes keys, trying again until the server has started.
pub(crate) fn wait_for(server: &Server, aead: u16) -> Result<Session> {
    let config = configuration(NamedGroup::X25519)?;
    let deadline = Instant::now() + START_TIMEOUT;
    loop {
        match establish(&config, aead) {
            Ok(session) => return Ok(session),
            Err(error) if Instant::now() > deadline => {
                return Err(error.context(format!("{} gives no keys: {}", server.name(), server.log())));
            }
            Err(_) => sleep(Duration::from_millis(50)),
        }
    }
}

/// Establishes keys for `time`, from many clients at once that offer one group only.
pub(crate) fn measure(server: &Server, key_exchange: NamedGroup, time: Duration) -> Result<Figure> {
    wait_for(server, 15)?;
    let config = configuration(key_exchange)?;
    let (stop, done) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        let clients: Vec<_> =
            (0..CLIENTS).map(|_| scope.spawn(|| establish_until(&stop, &done, &config))).collect();
        let counters = || -> Result<_> {
            Ok((done.load(Ordering::Relaxed), cpu_nanoseconds(server.process())?, Instant::now()))
        };
        sleep(Duration::from_millis(300));
        let before = counters();
        sleep(time);
        let after = counters();
        stop.store(true, Ordering::Relaxed);
        for client in clients {
            match client.join() {
                Ok(result) => result?,
                Err(_) => bail!("a client ended by a panic"),
            }
        }
        let (before, after) = (before?, after?);
        let count = (after.0 - before.0) as f64;
        ensure!(count > 0.0, "{} gave no keys under load", server.name());
        Ok(Figure {
            per_second: count / (after.2 - before.2).as_secs_f64(),
            cpu_microseconds: (after.1 - before.1) as f64 / 1000.0 / count,
            offered_per_second: None,
        })
    })
}

fn establish_until(stop: &AtomicBool, done: &AtomicU64, config: &Arc<ClientConfig>) -> Result<()> {
    pin_to_load_core()?;
    let mut failures_in_a_row = 0;
    while !stop.load(Ordering::Relaxed) {
        match establish(config, 15) {
            Ok(_) => {
                done.fetch_add(1, Ordering::Relaxed);
                failures_in_a_row = 0;
            }
            Err(error) => {
                failures_in_a_row += 1;
                ensure!(failures_in_a_row < 20, "key establishments fail: {error:#}");
            }
        }
    }
    Ok(())
}

/// One full handshake, request, answer, and keys.
pub(crate) fn establish(config: &Arc<ClientConfig>, aead: u16) -> Result<Session> {
    let address = SocketAddr::from((SERVER_TALK_ADDRESS, NTS_KE_PORT));
    let mut socket = TcpStream::connect_timeout(&address, CONNECTION_TIMEOUT)?;
    socket.set_read_timeout(Some(CONNECTION_TIMEOUT))?;
    socket.set_nodelay(true)?;
    let name = ServerName::IpAddress(IpAddr::V4(SERVER_TALK_ADDRESS.into()));
    let mut tls = ClientConnection::new(config.clone(), name)?;
    let answer = exchange(&mut tls, &mut socket, &request(aead))?;

    let algorithm = AeadAlgorithm::from_id(aead).context("an unknown AEAD")?;
    let key = |direction| -> Result<AeadKey> {
        let context = exporter_context(aead, direction);
        let octets = vec![0; algorithm.key_octets()];
        let octets = tls.export_keying_material(octets, EXPORTER_LABEL.as_bytes(), Some(&context))?;
        Ok(AeadKey::new(algorithm, &octets)?)
    };
    let keys = NtsKeys { c2s: key(Direction::ClientToServer)?, s2c: key(Direction::ServerToClient)? };
    Ok(Session { keys, cookies: cookies(&answer)? })
}

fn exchange(tls: &mut ClientConnection, socket: &mut TcpStream, request: &[u8]) -> Result<Vec<u8>> {
    let mut stream = rustls::Stream::new(tls, socket);
    stream.write_all(request)?;
    let mut reader = MessageReader::new(RESPONSE_OCTETS_MAX);
    let mut piece = [0; 4096];
    while !reader.is_complete() {
        let octets = stream.read(&mut piece)?;
        ensure!(octets > 0, "the server closed the connection");
        reader.push(&piece[..octets])?;
    }
    Ok(reader.octets().to_vec())
}

fn request(aead: u16) -> Vec<u8> {
    let mut writer = RecordWriter::new();
    writer.number(true, record_type::NEXT_PROTOCOL, NTP_PROTOCOL_ID);
    writer.number(true, record_type::AEAD_ALGORITHM, aead);
    if aead == 30 {
        writer.empty(false, record_type::COMPLIANT_GCM_SIV_EXPORT);
    }
    writer.finish()
}

fn cookies(answer: &[u8]) -> Result<Vec<Cookie>> {
    let mut cookies = Vec::new();
    for record in Records::new(answer) {
        let record = record.map_err(|_| anyhow::anyhow!("a record was cut off"))?;
        match record.record_type {
            record_type::NEW_COOKIE => cookies.push(Cookie::new(record.body)?),
            record_type::ERROR => bail!("the server answers with error {:?}", record.number()),
            _ => {}
        }
    }
    ensure!(!cookies.is_empty(), "the server gave no cookies");
    Ok(cookies)
}

/// No resumption: every handshake is a full one.
pub(crate) fn configuration(key_exchange: NamedGroup) -> Result<Arc<ClientConfig>> {
    let mut provider = rustls::crypto::aws_lc_rs::default_provider();
    provider.kx_groups.retain(|group| group.name() == key_exchange);
    let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(TrustAnyone))
        .with_no_client_auth();
    config.alpn_protocols = vec![ALPN_PROTOCOL.to_vec()];
    config.resumption = rustls::client::Resumption::disabled();
    Ok(Arc::new(config))
}

/// Saves the client the work of verifying, so that the server is what is measured.
#[derive(Debug)]
struct TrustAnyone;

impl ServerCertVerifier for TrustAnyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![
            SignatureScheme::ECDSA_NISTP256_SHA256,
            SignatureScheme::ED25519,
            SignatureScheme::RSA_PSS_SHA256,
        ]
    }
}
