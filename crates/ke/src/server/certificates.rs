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
    certified: Vec<Arc<CertifiedKey>>,
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

fn certify(
    provider: &CryptoProvider,
    chain: CertifiedChain,
) -> Result<Arc<CertifiedKey>, CertificateProblem> {
    let unusable = |error: &dyn core::fmt::Display| CertificateProblem::Unusable(error.to_string());
    let leaf = chain.certificates.first().ok_or(CertificateProblem::EmptyChain)?;
    EndEntityCert::try_from(leaf).map_err(|error| unusable(&error))?;
    let key = provider.key_provider.load_private_key(chain.key).map_err(|error| unusable(&error))?;
    let certified = CertifiedKey::new(chain.certificates, key);
    match certified.keys_match() {
        Ok(()) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => {
            Ok(Arc::new(certified))
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
        let usable =
            || self.certified.iter().filter(|certified| certified.key.choose_scheme(schemes).is_some());
        if usable().nth(1).is_none() {
            // Whatever the name: reading the certificate for it, with every hello, would change nothing.
            return usable().next().cloned();
        }
        let name = hello.server_name().and_then(|name| ServerName::try_from(name).ok());
        let named = name.and_then(|name| usable().find(|certified| is_for(certified, &name)));
        named.or_else(|| usable().next()).cloned()
    }
}

fn is_for(certified: &CertifiedKey, name: &ServerName<'_>) -> bool {
    let leaf = certified.cert.first().and_then(|leaf| EndEntityCert::try_from(leaf).ok());
    leaf.is_some_and(|leaf| leaf.verify_is_valid_for_subject_name(name).is_ok())
}
