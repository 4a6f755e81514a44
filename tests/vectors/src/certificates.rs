//! Our client against servers whose certificate or TLS is not as it should be.

use crate::checks::Checks;
use crate::pki;
use chime_ke::server::{CertifiedChain, ServerConfig as KeServerConfig, ServerSession};
use chime_ke::{ClientConfig, ClientRequest, ClientSession, ClientTrust, KeError, TrustAnchors};
use chime_nts::Cookie;
use rustls::{ServerConfig, ServerConnection};
use std::sync::Arc;

/// When the vectors were recorded; Unix seconds.
const NOW: i64 = 1_795_200_000;

/// Our client's session with a server that shows the certificate of the scenario `cert-…`.
pub(crate) fn check(scenario: &str, checks: &mut Checks) {
    let (certificate, host) = match scenario.strip_suffix("-byaddr") {
        Some(certificate) => (certificate, "127.0.0.1"),
        None => (scenario, "nts.test"),
    };
    let Some(chain) = checks.take(pki::chain(certificate)) else { return };
    let got = session(chain, host).map(|outcome| outcome.err().map(|error| error.kind()));
    let Some(got) = checks.take(got) else { return };
    let Some(expected) = checks.take(expected(certificate, host == "127.0.0.1")) else { return };
    checks.equal("our client", &got, &expected);
}

/// Why our client refuses a certificate of the recorder's, if it does. Authorities: `ca` and `rsa-ca`.
fn expected(certificate: &str, by_address: bool) -> Result<Option<&'static str>, String> {
    Ok(match certificate {
        "server" | "ed25519" | "rsa2048-by-ec-ca" | "rsa-server-fullchain" => None,
        "ip-san" if by_address => None,
        "ip-san" | "wrong-host" | "wildcard" => Some("wrong_host_name"),
        "cn-only" => Some("no_subject_alternative_name"),
        "client-eku" => Some("wrong_purpose"),
        "expired" => Some("expired"),
        "not-yet-valid" => Some("not_yet_valid"),
        "self-signed" => Some("self_signed"),
        "untrusted" | "rsa-server" => Some("unknown_issuer"),
        other => return Err(format!("nothing is known about the certificate {other}")),
    })
}

fn client(host: &str) -> Result<ClientSession, String> {
    let authorities = [pki::certificates("ca")?, pki::certificates("rsa-ca")?].concat();
    let (anchors, unusable) = TrustAnchors::from_certificates(authorities);
    assert_eq!(unusable, 0, "the recorder's authorities can be used");
    let trust = ClientTrust { extra_roots: Arc::new(anchors), ..ClientTrust::default() };
    let config = ClientConfig::new(&rustls::crypto::aws_lc_rs::default_provider(), trust);
    ClientSession::new(&config, &ClientRequest::new(host), NOW).map_err(|error| error.to_string())
}

/// Both sides are ours.
fn session(chain: CertifiedChain, host: &str) -> Result<Result<(), KeError>, String> {
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    let config = KeServerConfig::new(&provider, vec![chain]).map_err(|error| error.to_string())?;
    let mut server = ServerSession::new(&config);
    let mut client = client(host)?;
    loop {
        let (mut forth, mut back) = (Vec::new(), Vec::new());
        client.write(&mut forth);
        server.read(&forth);
        if server.take_request().is_some() {
            server.respond(&[Cookie::new(&[7; 104]).expect("a good length")], None, None);
        }
        server.write(&mut back);
        client.read(&back);
        if let Some(outcome) = client.outcome() {
            return Ok(outcome.map(|_| ()));
        }
        if forth.is_empty() && back.is_empty() {
            return Err("the session stands still".to_owned());
        }
    }
}

/// A server that accepts the connection and says nothing, or that is not there: no outcome until the shell gives up.
pub(crate) fn check_silence(checks: &mut Checks) {
    let Some(mut client) = checks.take(client("nts.test")) else { return };
    let mut hello = Vec::new();
    client.write(&mut hello);
    checks
        .that(!hello.is_empty() && client.outcome().is_none(), || "an outcome without an answer".to_owned());
    client.read_eof();
    let outcome = client.outcome();
    let network = matches!(&outcome, Some(Err(error)) if error.is_network());
    checks.that(network, || format!("not a network error: {outcome:?}"));
}

/// A server that knows TLS 1.2 only answers our hello with the alert `protocol_version`.
pub(crate) fn check_old_tls(checks: &mut Checks) {
    let Some(mut client) = checks.take(client("nts.test")) else { return };
    client.read(&[21, 3, 3, 0, 2, 2, 70]);
    checks.equal(
        "our client",
        &client.outcome().map(|outcome| outcome.err()),
        &Some(Some(KeError::Tls12Only)),
    );
}

/// A server that does not choose a protocol in its hello.
pub(crate) fn check_no_alpn(checks: &mut Checks) {
    let Some(mut client) = checks.take(client("nts.test")) else { return };
    let Some(mut server) = checks.take(server_without_alpn()) else { return };
    for _ in 0..8 {
        let (mut forth, mut back) = (Vec::new(), Vec::new());
        client.write(&mut forth);
        let mut rest = &forth[..];
        while !rest.is_empty() && server.read_tls(&mut rest).is_ok() && server.process_new_packets().is_ok() {
        }
        while server.wants_write() && server.write_tls(&mut back).is_ok() {}
        client.read(&back);
    }
    checks.equal("our client", &client.outcome().map(|outcome| outcome.err()), &Some(Some(KeError::NoAlpn)));
}

fn server_without_alpn() -> Result<ServerConnection, String> {
    let chain = pki::chain("server")?;
    let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain.certificates, chain.key))
        .map_err(|error| error.to_string())?;
    ServerConnection::new(Arc::new(config)).map_err(|error| error.to_string())
}
