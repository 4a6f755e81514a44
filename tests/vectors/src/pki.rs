//! The recorder's certificates: TEST ONLY, their private keys are public. They are compiled in, so that any folder of
//! vectors can be checked without them.

use chime_ke::server::CertifiedChain;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

macro_rules! pem {
    ($name:literal) => {
        ($name, include_bytes!(concat!("../pki/", $name, ".pem")).as_slice())
    };
}

const FILES: &[(&str, &[u8])] = &[
    pem!("ca"),
    pem!("client-eku"),
    pem!("client-eku.key"),
    pem!("cn-only"),
    pem!("cn-only.key"),
    pem!("ed25519"),
    pem!("ed25519.key"),
    pem!("expired"),
    pem!("expired.key"),
    pem!("ip-san"),
    pem!("ip-san.key"),
    pem!("not-yet-valid"),
    pem!("not-yet-valid.key"),
    pem!("rsa-ca"),
    pem!("rsa-server"),
    pem!("rsa-server-fullchain"),
    pem!("rsa-server.key"),
    pem!("rsa2048-by-ec-ca"),
    pem!("rsa2048-by-ec-ca.key"),
    pem!("self-signed"),
    pem!("self-signed.key"),
    pem!("server"),
    pem!("server.key"),
    pem!("untrusted"),
    pem!("untrusted.key"),
    pem!("wildcard"),
    pem!("wildcard.key"),
    pem!("wrong-host"),
    pem!("wrong-host.key"),
];

fn file(name: &str) -> Result<&'static [u8], String> {
    let found = FILES.iter().find(|(known, _)| *known == name);
    found.map(|(_, octets)| *octets).ok_or_else(|| format!("there is no certificate {name}.pem"))
}

/// The certificates of a file.
pub(crate) fn certificates(name: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    CertificateDer::pem_slice_iter(file(name)?)
        .collect::<Result<_, _>>()
        .map_err(|error| format!("{name}: {error}"))
}

/// A chain with the key of its first certificate.
pub(crate) fn chain(name: &str) -> Result<CertifiedChain, String> {
    let key = file(&format!("{}.key", name.trim_end_matches("-fullchain")))?;
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|error| format!("{name}.key: {error}"))?;
    Ok(CertifiedChain { certificates: certificates(name)?, key })
}
