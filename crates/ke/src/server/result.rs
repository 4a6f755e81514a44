//! How sessions of a server end.

use rustls::{AlertDescription as Alert, Error as TlsError, PeerIncompatible};

/// How a session ended, for counters.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum KeServerResult {
    /// Keys and cookies were given.
    Accepted,
    /// The client offered no protocol that we know.
    NoProtocol,
    /// The client offered no AEAD algorithm that we know.
    NoAead,
    /// Answered with error 0: an unknown critical record.
    UnknownCriticalRecord,
    /// Answered with error 1: a bad request.
    BadRequest,
    /// Answered with error 2: we could not make cookies.
    InternalError,
    /// Not one message of at most 16 KiB: closed without an answer.
    Malformed,
    /// The client did not offer `ntske/1`.
    NoAlpn,
    /// The client does not speak TLS 1.3.
    OldTls,
    /// The client refused our certificate (by a TLS alert).
    CertificateRefused,
    /// TLS failed in another way.
    TlsFailed,
    /// The client went away before it had asked anything.
    Disconnected,
}

impl KeServerResult {
    /// Every result, in the order of declaration.
    pub const ALL: [Self; 12] = [
        Self::Accepted,
        Self::NoProtocol,
        Self::NoAead,
        Self::UnknownCriticalRecord,
        Self::BadRequest,
        Self::InternalError,
        Self::Malformed,
        Self::NoAlpn,
        Self::OldTls,
        Self::CertificateRefused,
        Self::TlsFailed,
        Self::Disconnected,
    ];

    /// A short, stable name for metrics.
    #[must_use]
    pub const fn kind(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::NoProtocol => "no_protocol",
            Self::NoAead => "no_aead",
            Self::UnknownCriticalRecord => "unknown_critical_record",
            Self::BadRequest => "bad_request",
            Self::InternalError => "internal_error",
            Self::Malformed => "malformed",
            Self::NoAlpn => "no_alpn",
            Self::OldTls => "old_tls",
            Self::CertificateRefused => "certificate_refused",
            Self::TlsFailed => "tls_failed",
            Self::Disconnected => "disconnected",
        }
    }

    /// Rustls' error as a result.
    pub(super) const fn of(error: &TlsError) -> Self {
        match error {
            TlsError::NoApplicationProtocol => Self::NoAlpn,
            TlsError::PeerIncompatible(
                PeerIncompatible::SupportedVersionsExtensionRequired
                | PeerIncompatible::Tls12NotOffered
                | PeerIncompatible::Tls12NotOfferedOrEnabled
                | PeerIncompatible::Tls13RequiredForQuic,
            )
            | TlsError::AlertReceived(Alert::ProtocolVersion) => Self::OldTls,
            TlsError::AlertReceived(
                Alert::BadCertificate
                | Alert::UnsupportedCertificate
                | Alert::CertificateRevoked
                | Alert::CertificateExpired
                | Alert::CertificateUnknown
                | Alert::UnknownCA,
            ) => Self::CertificateRefused,
            _ => Self::TlsFailed,
        }
    }
}
