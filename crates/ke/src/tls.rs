//! What both sides share of TLS.

use crate::KeError;
use chime_nts::{AeadAlgorithm, AeadKey, Direction, EXPORTER_LABEL, NtsKeys, exporter_context};
use rustls::crypto::CryptoProvider;
use rustls::time_provider::TimeProvider;
use rustls::{CipherSuite, ConnectionCommon};
use rustls_pki_types::UnixTime;
use std::sync::Arc;
use std::time::Duration;
use zeroize::Zeroizing;

/// Tells rustls the time that the shell gave.
#[derive(Debug)]
pub(crate) struct GivenTime(UnixTime);

impl GivenTime {
    /// From Unix seconds; times before 1970 count as 1970.
    pub(crate) fn new(unix_seconds: i64) -> Arc<Self> {
        let seconds = u64::try_from(unix_seconds).unwrap_or(0);
        Arc::new(Self(UnixTime::since_unix_epoch(Duration::from_secs(seconds))))
    }
}

impl TimeProvider for GivenTime {
    fn current_time(&self) -> Option<UnixTime> {
        Some(self.0)
    }
}

/// The provider with TLS_AES_128_GCM_SHA256 in front: it costs a server least and is as strong as the NTS keys.
pub(crate) fn prefer_aes_128(provider: &CryptoProvider) -> Arc<CryptoProvider> {
    let mut provider = provider.clone();
    provider.cipher_suites.sort_by_key(|suite| suite.suite() != CipherSuite::TLS13_AES_128_GCM_SHA256);
    Arc::new(provider)
}

/// Takes the keys out of a finished handshake. RFC 8915 §4.3 and §5.1.
///
/// `aead_in_context` is the negotiated algorithm's number, but for chrony's old way with AEAD 30.
pub(crate) fn export_keys<Data>(
    connection: &ConnectionCommon<Data>,
    aead: AeadAlgorithm,
    aead_in_context: u16,
) -> Result<NtsKeys, KeError> {
    let key = |direction| {
        let octets = Zeroizing::new(vec![0; aead.key_octets()]);
        let context = exporter_context(aead_in_context, direction);
        let octets = connection
            .export_keying_material(octets, EXPORTER_LABEL.as_bytes(), Some(&context))
            .map_err(|error| KeError::Tls(error.to_string()))?;
        AeadKey::new(aead, &octets).map_err(|error| KeError::Tls(error.to_string()))
    };
    Ok(NtsKeys { c2s: key(Direction::ClientToServer)?, s2c: key(Direction::ServerToClient)? })
}
