//! What a certificate says, read for people and for judgements that come later.

use crate::KeError;
use rustls_pki_types::CertificateDer;
use sha2::{Digest, Sha256};
use std::net::IpAddr;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

/// What one certificate says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CertificateInfo {
    /// The subject, as a distinguished name.
    pub subject: String,
    /// The issuer, as a distinguished name.
    pub issuer: String,
    /// The subject alternative names: host names and IP addresses; others are left out.
    pub names: Vec<String>,
    /// The begin of the validity; Unix seconds.
    pub not_before: i64,
    /// The end of the validity; Unix seconds.
    pub not_after: i64,
    /// Whether issuer and subject are the same.
    pub self_issued: bool,
    /// Whether it may sign other certificates.
    pub is_authority: bool,
    /// Whether the extended key usage allows servers: true also when there is none.
    pub allows_server: bool,
    /// SHA-256 of the subject public key info: what a pin is compared with (RFC 7858 §4.2).
    pub public_key_sha256: [u8; 32],
}

impl CertificateInfo {
    /// Reads a certificate; the text says what is wrong with one that cannot be read.
    ///
    /// # Errors
    /// When `der` is not exactly one X.509 certificate.
    pub fn read(der: &CertificateDer<'_>) -> Result<Self, String> {
        let (rest, certificate) = X509Certificate::from_der(der).map_err(|error| error.to_string())?;
        if !rest.is_empty() {
            return Err("there is something behind the certificate".to_owned());
        }
        Ok(Self::of(&certificate))
    }

    fn of(certificate: &X509Certificate<'_>) -> Self {
        let names = match certificate.subject_alternative_name() {
            Ok(Some(extension)) => extension.value.general_names.iter().filter_map(general_name).collect(),
            _ => Vec::new(),
        };
        let allows_server = match certificate.extended_key_usage() {
            Ok(Some(usage)) => usage.value.any || usage.value.server_auth,
            Ok(None) => true,
            Err(_) => false,
        };
        Self {
            subject: certificate.subject().to_string(),
            issuer: certificate.issuer().to_string(),
            names,
            not_before: certificate.validity().not_before.timestamp(),
            not_after: certificate.validity().not_after.timestamp(),
            self_issued: certificate.issuer().as_raw() == certificate.subject().as_raw(),
            is_authority: certificate.is_ca(),
            allows_server,
            public_key_sha256: Sha256::digest(certificate.public_key().raw).into(),
        }
    }

    /// [`Self::public_key_sha256`] as 64 lower-case hexadecimal digits.
    #[must_use]
    pub fn public_key_hex(&self) -> String {
        hex(&self.public_key_sha256)
    }
}

/// The octets of the subject public key info, which a pin covers and a raw key check needs.
pub(crate) fn public_key_info<'a>(der: &'a CertificateDer<'_>) -> Option<&'a [u8]> {
    X509Certificate::from_der(der).ok().map(|(_, certificate)| certificate.tbs_certificate.subject_pki.raw)
}

fn general_name(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(octets) => {
            let v4 = <[u8; 4]>::try_from(*octets).map(IpAddr::from);
            v4.or_else(|_| <[u8; 16]>::try_from(*octets).map(IpAddr::from))
                .ok()
                .map(|address| address.to_string())
        }
        _ => None,
    }
}

/// Lower-case hexadecimal digits.
pub(crate) fn hex(octets: &[u8]) -> String {
    use core::fmt::Write;
    octets.iter().fold(String::with_capacity(octets.len() * 2), |mut text, octet| {
        let _ = write!(text, "{octet:02x}");
        text
    })
}

/// A span of time in which something is valid, both ends included; Unix seconds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ValidityPeriod {
    /// The first second.
    pub not_before: i64,
    /// The last second.
    pub not_after: i64,
}

impl ValidityPeriod {
    /// All of time.
    pub const ALWAYS: Self = Self { not_before: i64::MIN, not_after: i64::MAX };

    /// The validity of one certificate.
    #[must_use]
    pub const fn of(info: &CertificateInfo) -> Self {
        Self { not_before: info.not_before, not_after: info.not_after }
    }

    /// The time in which both are valid.
    #[must_use]
    pub fn intersection(self, other: Self) -> Self {
        Self {
            not_before: self.not_before.max(other.not_before),
            not_after: self.not_after.min(other.not_after),
        }
    }

    /// Judges a time, given in Unix seconds.
    ///
    /// # Errors
    /// [`KeError::Expired`] or [`KeError::NotYetValid`].
    pub const fn check(self, unix_seconds: i64) -> Result<(), KeError> {
        if unix_seconds > self.not_after {
            Err(KeError::Expired { at: self.not_after })
        } else if unix_seconds < self.not_before {
            Err(KeError::NotYetValid { at: self.not_before })
        } else {
            Ok(())
        }
    }
}
