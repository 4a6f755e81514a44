//! The server's side of key establishment.

mod certificates;
mod decide;
mod result;
mod session;

pub use certificates::{CertificateProblem, CertifiedChain};
pub use decide::{CloseReason, KeAccepted, KeDecision, decide, write_refusal, write_response};
pub use result::KeServerResult;
pub use session::{KeRequestInfo, ServerSession};

use crate::tls::prefer_aes_128;
use certificates::CertificatesByName;
use chime_nts::record::ALPN_PROTOCOL;
use rustls::crypto::CryptoProvider;
use rustls::server::NoServerSessionStorage;
use std::sync::Arc;

/// What all sessions of a server share. Cheap to clone.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    tls: Arc<rustls::ServerConfig>,
}

impl ServerConfig {
    /// Serves with the given certificates, chosen by the name the client asks for; the first is the default.
    ///
    /// TLS 1.3 only, `ntske/1` only, TLS_AES_128_GCM_SHA256 preferred; no session tickets and no early data, so that
    /// nothing is kept from one session to the next.
    ///
    /// # Errors
    /// When a chain or key cannot be used, or there is none.
    pub fn new(
        provider: &CryptoProvider,
        certificates: Vec<CertifiedChain>,
    ) -> Result<Self, CertificateProblem> {
        let provider = prefer_aes_128(provider);
        let resolver = CertificatesByName::new(&provider, certificates)?;
        // The clock is asked for tickets only, of which there are none.
        let time = crate::tls::GivenTime::new(0);
        let mut tls = rustls::ServerConfig::builder_with_details(provider, time)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|error| CertificateProblem::Tls(error.to_string()))?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(resolver));
        tls.alpn_protocols = vec![ALPN_PROTOCOL.to_vec()];
        tls.ignore_client_order = true;
        tls.send_tls13_tickets = 0;
        tls.session_storage = Arc::new(NoServerSessionStorage {});
        tls.max_early_data_size = 0;
        Ok(Self { tls: Arc::new(tls) })
    }
}
