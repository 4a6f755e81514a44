//! Which certificate a client gets to see.

use chime_nts::record::ALPN_PROTOCOL;
use rustls::crypto::CryptoProvider;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use std::sync::Arc;
use webpki::EndEntityCert;

/// A certificate chain, the server's own certificate first, and its private key.
#[derive(Debug)]
pub struct CertifiedChain {
    /// The chain.
    pub certificates: Vec<CertificateDer<'static>>,
    /// The private key of the first certificate.
    pub key: PrivateKeyDer<'static>,
}

/// Why a server's certificates cannot be used.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum CertificateProblem {
    /// There is nothing to serve with.
    #[error("no certificate is configured")]
    None,
    /// A chain without certificates.
    #[error("there is no certificate in the chain")]
    EmptyChain,
    /// The certificate or the key cannot be read.
    #[error("the certificate or its key cannot be used: {0}")]
    Unusable(String),
    /// The private key is that of another certificate.
    #[error("the private key does not belong to the certificate")]
    KeyMismatch,
    /// TLS cannot be set up.
    #[error("TLS cannot be set up: {0}")]
    Tls(String),
}

/// Chooses by the name that the client sent (SNI), and by what signatures it can verify.
#[derive(Debug)]
pub(super) struct CertificatesByName {
    certified: Vec<Certified>,
}

#[derive(Debug)]
struct Certified {
    key: Arc<CertifiedKey>,
    /// The DNS names in the certificate: which one may be for a name is told without reading all of them.
    names: Box<[String]>,
}

impl CertificatesByName {
    pub(super) fn new(
        provider: &CryptoProvider,
        chains: Vec<CertifiedChain>,
    ) -> Result<Self, CertificateProblem> {
        let certified =
            chains.into_iter().map(|chain| certify(provider, chain)).collect::<Result<Vec<_>, _>>()?;
        if certified.is_empty() { Err(CertificateProblem::None) } else { Ok(Self { certified }) }
    }
}

fn certify(provider: &CryptoProvider, chain: CertifiedChain) -> Result<Certified, CertificateProblem> {
    let unusable = |error: &dyn core::fmt::Display| CertificateProblem::Unusable(error.to_string());
    let leaf = chain.certificates.first().ok_or(CertificateProblem::EmptyChain)?;
    let leaf = EndEntityCert::try_from(leaf).map_err(|error| unusable(&error))?;
    let names = leaf.valid_dns_names().map(str::to_owned).collect();
    let key = provider.key_provider.load_private_key(chain.key).map_err(|error| unusable(&error))?;
    let certified = CertifiedKey::new(chain.certificates, key);
    match certified.keys_match() {
        Ok(()) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => {
            Ok(Certified { key: Arc::new(certified), names })
        }
        Err(rustls::Error::InconsistentKeys(_)) => Err(CertificateProblem::KeyMismatch),
        Err(error) => Err(unusable(&error)),
    }
}

impl ResolvesServerCert for CertificatesByName {
    /// None for a client that does not offer `ntske/1`: the handshake fails then. RFC 8915 §4.
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        hello.alpn()?.find(|protocol| *protocol == ALPN_PROTOCOL)?;
        let schemes = hello.signature_schemes();
        let usable = || {
            let all = self.certified.iter();
            all.filter(|certified| certified.key.key.choose_scheme(schemes).is_some())
        };
        if usable().nth(1).is_none() {
            // Whatever the name: reading the certificate for it, with every hello, would change nothing.
            return usable().next().map(|certified| certified.key.clone());
        }
        let named = hello.server_name().and_then(|name| usable().find(|certified| certified.is_for(name)));
        named.or_else(|| usable().next()).map(|certified| certified.key.clone())
    }
}

impl Certified {
    fn is_for(&self, name: &str) -> bool {
        self.may_be_for(name) && self.verifies(name)
    }

    /// Whether one of the names is this one, or has an asterisk for its first part.
    fn may_be_for(&self, name: &str) -> bool {
        let asked = name.strip_suffix('.').unwrap_or(name);
        let parent = asked.split_once('.').map(|(_, parent)| parent);
        self.names.iter().any(|known| {
            let wild = known.strip_prefix("*.");
            known.eq_ignore_ascii_case(asked)
                || wild.zip(parent).is_some_and(|(known, parent)| known.eq_ignore_ascii_case(parent))
        })
    }

    fn verifies(&self, name: &str) -> bool {
        let leaf = self.key.cert.first().and_then(|leaf| EndEntityCert::try_from(leaf).ok());
        let name = ServerName::try_from(name).ok();
        leaf.zip(name).is_some_and(|(leaf, name)| leaf.verify_is_valid_for_subject_name(&name).is_ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::crypto::aws_lc_rs;

    #[test]
    fn names_are_told_apart_as_by_who_verifies_them() {
        let provider = aws_lc_rs::default_provider();
        let made = rcgen::generate_simple_self_signed(vec!["A.test".to_owned(), "*.wild.test".to_owned()]);
        let made = made.expect("a certificate");
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).expect("a key");
        let chain = CertifiedChain { certificates: vec![made.cert.der().clone()], key };
        let certified = certify(&provider, chain).expect("usable");
        for (name, is_for) in [
            ("a.test", true),
            ("A.TEST", true),
            ("b.wild.test", true),
            ("wild.test", false),
            ("c.b.wild.test", false),
            ("test", false),
            ("b.test", false),
        ] {
            assert_eq!((certified.may_be_for(name), certified.verifies(name)), (is_for, is_for), "{name}");
        }
    }
}
