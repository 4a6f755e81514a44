//! The client's side of key establishment.

mod response;
mod session;

pub use response::{KeResponse, KeWarning, read_response};
pub use session::ClientSession;

use crate::tls::prefer_aes_128;
use crate::{CertificateDates, ClientTrust, KeError};
use chime_nts::record::{RecordWriter, record_type};
use chime_nts::{AeadAlgorithm, Cookie, NTP_PROTOCOL_ID, NtsKeys};
use rustls::crypto::CryptoProvider;
use rustls_pki_types::{CertificateDer, ServerName};
use std::sync::Arc;

/// What all sessions of a source share. Cheap to clone.
#[derive(Clone, Debug)]
pub struct ClientConfig {
    provider: Arc<CryptoProvider>,
    trust: Arc<ClientTrust>,
}

impl ClientConfig {
    /// With the cryptography of `provider` and belief in `trust`.
    #[must_use]
    pub fn new(provider: &CryptoProvider, trust: ClientTrust) -> Self {
        Self { provider: prefer_aes_128(provider), trust: Arc::new(trust) }
    }
}

/// What one session asks for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ClientRequest {
    /// The name or address literal of the key establishment server: what its certificate must be for.
    pub server_name: String,
    /// The algorithms to offer, best first; [`AeadAlgorithm::OFFERED`] unless there is a reason.
    pub aeads: Vec<AeadAlgorithm>,
    /// How the dates of certificates are judged.
    pub dates: CertificateDates,
}

impl ClientRequest {
    /// The usual request to a server of that name or address literal.
    #[must_use]
    pub fn new(server_name: impl Into<String>) -> Self {
        Self {
            server_name: server_name.into(),
            aeads: AeadAlgorithm::OFFERED.to_vec(),
            dates: CertificateDates::Check,
        }
    }

    /// The name as TLS wants it: without a trailing dot, brackets or the zone of an address.
    fn tls_name(&self) -> Result<ServerName<'static>, KeError> {
        let name = self.server_name.trim();
        let name = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
        let name = if name.contains(':') { name.split('%').next().unwrap_or(name) } else { name };
        let name = name.strip_suffix('.').unwrap_or(name);
        ServerName::try_from(name.to_owned())
            .map_err(|_| KeError::InvalidServerName(self.server_name.clone()))
    }

    /// The records to send. RFC 8915 §4.
    fn message(&self) -> Vec<u8> {
        let mut writer = RecordWriter::new();
        writer.number(true, record_type::NEXT_PROTOCOL, NTP_PROTOCOL_ID);
        writer.numbers(true, record_type::AEAD_ALGORITHM, self.aeads.iter().map(|aead| aead.id()));
        if self.aeads.contains(&AeadAlgorithm::Aes128GcmSiv) {
            writer.empty(false, record_type::COMPLIANT_GCM_SIV_EXPORT);
        }
        writer.finish()
    }
}

/// What a successful key establishment gives.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KeOutcome {
    /// The keys, exported as RFC 8915 §5.1 says.
    pub keys: NtsKeys,
    /// The keys as chrony before 4.6.1 exports them for AEAD 30: there when that algorithm was chosen and the server did
    /// not say (record 1024) which way it goes. To be tried when the first answer to the other keys is an NTSN.
    pub alternative_keys: Option<NtsKeys>,
    /// The cookies, 1 to 8.
    pub cookies: Vec<Cookie>,
    /// The NTP server to ask, a name without trailing dot or an address literal; `None`: the same host.
    pub ntp_server: Option<String>,
    /// The UDP port to ask; `None`: 123.
    pub ntp_port: Option<u16>,
    /// The begin of the time in which the server's chain is valid; Unix seconds.
    pub certificate_not_before: i64,
    /// The end of that time; Unix seconds.
    pub certificate_not_after: i64,
    /// The certificates that the server sent, its own first.
    pub certificate_chain: Vec<CertificateDer<'static>>,
    /// What was odd, but no reason to refuse.
    pub warnings: Vec<KeWarning>,
}

impl KeOutcome {
    /// Judges afterwards, at a time that is known now (Unix seconds), whether the certificates were valid.
    ///
    /// # Errors
    /// [`KeError::Expired`] or [`KeError::NotYetValid`].
    pub const fn check_certificate_dates(&self, unix_seconds: i64) -> Result<(), KeError> {
        let (not_before, not_after) = (self.certificate_not_before, self.certificate_not_after);
        crate::ValidityPeriod { not_before, not_after }.check(unix_seconds)
    }
}
