//! The judgement of a server's certificate, on top of webpki and behind rustls' interface.
//!
//! Chains, names and purposes are judged by webpki. What is ours: pins, self-signed certificates, dates that are judged
//! later, and errors in words of our own.

use crate::certificate::{CertificateInfo, public_key_info};
use crate::trust::{CertificateDates, ClientTrust};
use crate::{KeError, ValidityPeriod};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature,
    verify_tls13_signature_with_raw_key,
};
use rustls::{CertificateError, DigitallySignedStruct, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, SubjectPublicKeyInfoDer, TrustAnchor, UnixTime};
use std::sync::{Arc, OnceLock};
use webpki::{EndEntityCert, KeyUsage};

/// More certificates than any honest chain has; a bound on the work that a stranger can cause.
const CHAIN_CERTIFICATES_MAX: usize = 16;

/// What the verifier saw and how it judged: written once, during the handshake, and read by the session.
#[derive(Debug)]
pub(crate) struct Verdict {
    /// The certificates that the server sent, its own first.
    pub(crate) chain: Vec<CertificateDer<'static>>,
    /// The time in which everything that was needed is valid, or why the server is refused.
    pub(crate) judgement: Result<ValidityPeriod, KeError>,
}

/// One session's verifier.
#[derive(Debug)]
pub(crate) struct Verifier {
    trust: Arc<ClientTrust>,
    dates: CertificateDates,
    algorithms: WebPkiSupportedAlgorithms,
    verdict: Arc<OnceLock<Verdict>>,
}

impl Verifier {
    pub(crate) fn new(
        trust: Arc<ClientTrust>,
        dates: CertificateDates,
        provider: &CryptoProvider,
        verdict: Arc<OnceLock<Verdict>>,
    ) -> Self {
        Self { trust, dates, algorithms: provider.signature_verification_algorithms, verdict }
    }

    fn judge(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        now: UnixTime,
    ) -> Result<ValidityPeriod, KeError> {
        if intermediates.len() >= CHAIN_CERTIFICATES_MAX {
            return Err(KeError::BadCertificate(format!("more than {CHAIN_CERTIFICATES_MAX} certificates")));
        }
        let info = CertificateInfo::read(end_entity).map_err(KeError::BadCertificate)?;
        if self.trust.is_pinned() {
            return self.judge_pinned(end_entity, &info, now);
        }
        if self.trust.extra_roots.contains(end_entity) && info.self_issued {
            return self.judge_known(end_entity, &info, name, now);
        }
        self.judge_chain(end_entity, &info, intermediates, name, now)
    }

    /// The server must have a pinned certificate or key, whatever else its certificate says.
    fn judge_pinned(
        &self,
        end_entity: &CertificateDer<'_>,
        info: &CertificateInfo,
        now: UnixTime,
    ) -> Result<ValidityPeriod, KeError> {
        let pinned = self.trust.pinned_certificates.iter().any(|pin| pin == end_entity)
            || self.trust.pinned_keys.iter().any(|pin| pin.0 == info.public_key_sha256);
        if !pinned {
            return Err(KeError::PinMismatch { public_key_sha256: info.public_key_hex() });
        }
        self.check_dates(ValidityPeriod::of(info), now)
    }

    /// A self-signed certificate that is itself among the trusted ones.
    fn judge_known(
        &self,
        end_entity: &CertificateDer<'_>,
        info: &CertificateInfo,
        name: &ServerName<'_>,
        now: UnixTime,
    ) -> Result<ValidityPeriod, KeError> {
        let period = self.check_dates(ValidityPeriod::of(info), now)?;
        if !info.allows_server {
            return Err(KeError::WrongPurpose);
        }
        let certificate = EndEntityCert::try_from(end_entity).map_err(|error| refusal(&error, info, name))?;
        certificate.verify_is_valid_for_subject_name(name).map_err(|error| refusal(&error, info, name))?;
        Ok(period)
    }

    /// The ordinary case: a chain to an authority, and a name that matches.
    fn judge_chain(
        &self,
        end_entity: &CertificateDer<'_>,
        info: &CertificateInfo,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        now: UnixTime,
    ) -> Result<ValidityPeriod, KeError> {
        let certificate = EndEntityCert::try_from(end_entity).map_err(|error| refusal(&error, info, name))?;
        let mut result = Err(webpki::Error::UnknownIssuer);
        for time in self.times_to_try(info, intermediates, now) {
            result = self.build_path(&certificate, intermediates, time);
            if result.is_ok() {
                break;
            }
        }
        let period = result.map_err(|error| refusal(&error, info, name))?;
        certificate.verify_is_valid_for_subject_name(name).map_err(|error| refusal(&error, info, name))?;
        Ok(period.intersection(ValidityPeriod::of(info)))
    }

    /// The instants at which a path is looked for.
    ///
    /// When dates do not matter it is enough that there is one instant at which the whole path is valid. If there is
    /// one, the latest begin of validity of the path's certificates is such an instant.
    fn times_to_try(
        &self,
        info: &CertificateInfo,
        others: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Vec<UnixTime> {
        if self.dates == CertificateDates::Check {
            return vec![now];
        }
        let others = others.iter().filter_map(|other| CertificateInfo::read(other).ok());
        let mut begins: Vec<i64> = others.map(|other| other.not_before.max(info.not_before)).collect();
        begins.push(info.not_before);
        begins.sort_unstable();
        begins.dedup();
        begins.into_iter().map(unix_time).collect()
    }

    /// Looks for a path to an authority: first the source's own, then the system's.
    fn build_path(
        &self,
        certificate: &EndEntityCert<'_>,
        intermediates: &[CertificateDer<'_>],
        time: UnixTime,
    ) -> Result<ValidityPeriod, webpki::Error> {
        let extra = self.trust.extra_roots.anchors();
        let system = self.trust.system_roots.as_ref().map_or(&[][..], |roots| roots.anchors());
        if extra.is_empty() {
            return self.build_path_to(certificate, system, intermediates, time);
        }
        let result = self.build_path_to(certificate, extra, intermediates, time);
        if result.is_ok() || system.is_empty() {
            return result;
        }
        let system_result = self.build_path_to(certificate, system, intermediates, time);
        if system_result.is_ok() || result == Err(webpki::Error::UnknownIssuer) {
            system_result
        } else {
            result
        }
    }

    fn build_path_to(
        &self,
        certificate: &EndEntityCert<'_>,
        anchors: &[TrustAnchor<'_>],
        intermediates: &[CertificateDer<'_>],
        time: UnixTime,
    ) -> Result<ValidityPeriod, webpki::Error> {
        let usage = KeyUsage::server_auth();
        let path = certificate.verify_for_usage(
            self.algorithms.all,
            anchors,
            intermediates,
            time,
            usage,
            None,
            None,
        )?;
        let periods = path
            .intermediate_certificates()
            .filter_map(|intermediate| CertificateInfo::read(&intermediate.der()).ok())
            .map(|info| ValidityPeriod::of(&info));
        Ok(periods.fold(ValidityPeriod::ALWAYS, ValidityPeriod::intersection))
    }

    fn check_dates(&self, period: ValidityPeriod, now: UnixTime) -> Result<ValidityPeriod, KeError> {
        if self.dates == CertificateDates::Check {
            period.check(i64::try_from(now.as_secs()).unwrap_or(i64::MAX))?;
        }
        Ok(period)
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let judgement = self.judge(end_entity, intermediates, server_name, now);
        let answer = judgement.as_ref().map(|_| ServerCertVerified::assertion()).map_err(certificate_error);
        let sent = std::iter::once(end_entity).chain(intermediates.iter().take(CHAIN_CERTIFICATES_MAX));
        let chain = sent.map(|certificate| certificate.clone().into_owned()).collect();
        // A second judgement in one handshake cannot be; if it were, the first stands and this answer counts.
        let _ = self.verdict.set(Verdict { chain, judgement });
        answer
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        // webpki reads only X.509 version 3; a pinned certificate may be older, and its key is all that counts.
        if self.trust.is_pinned()
            && let Some(key) = public_key_info(certificate)
        {
            let key = SubjectPublicKeyInfoDer::from(key);
            return verify_tls13_signature_with_raw_key(message, &key, signature, &self.algorithms);
        }
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// Instants before 1970 do not exist for rustls; certificates of that age have expired anyway.
fn unix_time(seconds: i64) -> UnixTime {
    UnixTime::since_unix_epoch(std::time::Duration::from_secs(u64::try_from(seconds).unwrap_or(0)))
}

/// Webpki's error in our words.
fn refusal(error: &webpki::Error, info: &CertificateInfo, name: &ServerName<'_>) -> KeError {
    use webpki::Error;
    let unix = |time: &UnixTime| i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
    match error {
        Error::CertExpired { not_after, .. } => KeError::Expired { at: unix(not_after) },
        Error::CertNotValidYet { not_before, .. } => KeError::NotYetValid { at: unix(not_before) },
        Error::UnknownIssuer | Error::CaUsedAsEndEntity | Error::InvalidSignatureForPublicKey
            if info.self_issued =>
        {
            KeError::SelfSigned
        }
        Error::UnknownIssuer => KeError::UnknownIssuer { issuer: info.issuer.clone() },
        Error::CaUsedAsEndEntity => {
            KeError::BadCertificate("it is that of a certificate authority".to_owned())
        }
        Error::RequiredEkuNotFoundContext(_) | Error::EmptyEkuExtension => KeError::WrongPurpose,
        Error::CertNotValidForName(_) if info.names.is_empty() => {
            KeError::NoSubjectAlternativeName { expected: name.to_str().into_owned() }
        }
        Error::CertNotValidForName(_) => {
            KeError::WrongHostName { expected: name.to_str().into_owned(), presented: info.names.clone() }
        }
        Error::BadDer | Error::BadDerTime | Error::TrailingData(_) => {
            KeError::BadCertificate("it is garbled".to_owned())
        }
        Error::InvalidCertValidity => KeError::BadCertificate("it ends before it begins".to_owned()),
        // As after an authority was made anew under its old name.
        Error::InvalidSignatureForPublicKey => KeError::UnknownIssuer {
            issuer: format!("{}, of the name but not with the key of a trusted one", info.issuer),
        },
        Error::UnsupportedCertVersion => KeError::BadCertificate("it is not X.509 version 3".to_owned()),
        other => KeError::BadCertificate(other.to_string()),
    }
}

/// The error for rustls, which decides the alert that the server sees.
fn certificate_error(error: &KeError) -> rustls::Error {
    let error = match error {
        KeError::Expired { .. } => CertificateError::Expired,
        KeError::NotYetValid { .. } => CertificateError::NotValidYet,
        KeError::UnknownIssuer { .. } | KeError::SelfSigned | KeError::PinMismatch { .. } => {
            CertificateError::UnknownIssuer
        }
        KeError::WrongHostName { .. } | KeError::NoSubjectAlternativeName { .. } => {
            CertificateError::NotValidForName
        }
        KeError::WrongPurpose => CertificateError::InvalidPurpose,
        _ => CertificateError::BadEncoding,
    };
    rustls::Error::InvalidCertificate(error)
}
