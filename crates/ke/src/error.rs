//! Why a key establishment failed, in words for people and in short names for metrics.

use chime_nts::record::record_type;
use core::fmt;

/// Why a key establishment failed, as the client saw it.
///
/// `Display` says it in plain words; [`KeError::kind`] is short, stable and free of what the peer sent.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum KeError {
    /// No TCP connection; the text is the operating system's.
    #[error("cannot connect: {0}")]
    Connect(String),
    /// Nothing came, or not enough of it, within the time that was allowed.
    #[error("no answer in time")]
    Timeout,
    /// The connection broke before the TLS handshake was over; the text says how.
    #[error("the connection was closed during the TLS handshake{0}")]
    ConnectionLost(String),

    /// The name or address literal of the server cannot be one.
    #[error("'{0}' is neither a host name nor an IP address")]
    InvalidServerName(String),
    /// Neither certificate authorities nor pins are configured, so that no server could be believed.
    #[error("no certificates to trust are configured (no system or other authorities, no pins)")]
    NoTrustAnchors,

    /// The server answered with something that is not TLS.
    #[error("the server does not speak TLS on this port")]
    NotTls,
    /// The server refused TLS 1.3, or chose an older version (RFC 8915 §3 wants 1.3).
    #[error("server only speaks TLS 1.2 or older; NTS needs TLS 1.3")]
    Tls12Only,
    /// The server did not choose the application protocol `ntske/1` (RFC 8915 §4).
    #[error("the server does not offer the protocol ntske/1 on this port (no ALPN)")]
    NoAlpn,
    /// The server ended the handshake with a TLS alert.
    #[error("the server refused the TLS handshake: {0}")]
    TlsAlert(String),
    /// TLS failed in another way.
    #[error("TLS failed: {0}")]
    Tls(String),

    /// No subject alternative name of the certificate matches.
    #[error("the certificate is for {}, not for {expected}", names(presented))]
    WrongHostName {
        /// The name or address that was asked for.
        expected: String,
        /// The subject alternative names of the certificate.
        presented: Vec<String>,
    },
    /// The certificate has no subject alternative names at all; a common name does not count.
    #[error(
        "the certificate has no subject alternative name (its common name does not count), so it is not for {expected}"
    )]
    NoSubjectAlternativeName {
        /// The name or address that was asked for.
        expected: String,
    },
    /// The chain ends at no certificate authority that is trusted.
    #[error("the certificate was issued by an unknown authority ({issuer})")]
    UnknownIssuer {
        /// The issuer that the server's certificate names.
        issuer: String,
    },
    /// The server's certificate is signed by itself and not pinned.
    #[error("the certificate is self-signed and not among those that are trusted")]
    SelfSigned,
    /// A certificate of the chain has expired.
    #[error("the certificate expired on {}", utc(*at))]
    Expired {
        /// The end of its validity; Unix seconds.
        at: i64,
    },
    /// A certificate of the chain is not valid yet.
    #[error("the certificate is not valid before {}", utc(*at))]
    NotYetValid {
        /// The begin of its validity; Unix seconds.
        at: i64,
    },
    /// The extended key usage does not contain server authentication.
    #[error("the certificate is not meant for servers (its extended key usage lacks serverAuth)")]
    WrongPurpose,
    /// Pins are configured and the server's certificate and key are not among them.
    #[error("the server's key is not the pinned one (SHA-256 of its public key: {public_key_sha256})")]
    PinMismatch {
        /// What the server has; 64 hexadecimal digits.
        public_key_sha256: String,
    },
    /// The certificate, or one of its chain, is broken or breaks a rule.
    #[error("the certificate is not acceptable: {0}")]
    BadCertificate(String),

    /// The server sent an Error record (RFC 8915 §4.1.3).
    #[error("the server answered with error {code} ({name})", code = .0, name = error_name(*.0))]
    ServerError(u16),
    /// The server sent a Warning record; no codes are defined (RFC 8915 §4.1.4).
    #[error("the server answered with the unknown warning {0}")]
    ServerWarning(u16),
    /// A critical record of a type that we do not know.
    #[error("the answer has an unknown critical record of type {0}")]
    UnknownCriticalRecord(u16),
    /// A mandatory record is missing.
    #[error("the answer has no {} record", record_type::name(*.0))]
    MissingRecord(u16),
    /// A record that may occur once occurred again.
    #[error("the answer has more than one {} record", record_type::name(*.0))]
    DuplicateRecord(u16),
    /// A record's body or critical bit is not as its type demands.
    #[error("the answer has a malformed {} record", record_type::name(*.0))]
    MalformedRecord(u16),
    /// The server accepted none of the protocols: it does not serve NTPv4 with NTS.
    #[error("the server does not offer NTPv4")]
    NoProtocol,
    /// The server chose a protocol that was not offered.
    #[error("the server chose protocol {0}, which was not offered")]
    ProtocolNotOffered(u16),
    /// The server accepted none of the AEAD algorithms.
    #[error("the server supports none of the AEAD algorithms that were offered")]
    NoAead,
    /// The server chose an AEAD algorithm that was not offered.
    #[error("the server chose AEAD algorithm {0}, which was not offered")]
    AeadNotOffered(u16),
    /// There is no cookie in the answer.
    #[error("the answer has no cookies")]
    NoCookies,
    /// There are cookies in the answer, and none has a length that can be used.
    #[error("the answer has only cookies of unusable lengths (such as {octets} octets)")]
    UnusableCookies {
        /// The length of the first of them.
        octets: usize,
    },
    /// The server negotiated an NTP server whose name is impossible.
    #[error("the answer names an impossible NTP server")]
    InvalidNtpServer,
    /// The connection ended without a single octet of an answer.
    #[error("the server closed the connection without an answer")]
    NoAnswer,
    /// The connection ended before the End of Message record.
    #[error("the answer is cut off: it has no End of Message record")]
    Truncated,
    /// The answer is longer than 64 KiB.
    #[error("the answer is longer than 64 KiB")]
    TooLong,
    /// Something follows the End of Message record (RFC 8915 §4.1.1).
    #[error("the answer goes on after its End of Message record")]
    DataAfterEnd,
}

impl KeError {
    /// A short, stable name for metrics: lower case, no spaces, nothing of what the peer sent.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Connect(_) => "connect",
            Self::Timeout => "timeout",
            Self::ConnectionLost(_) => "connection_lost",
            Self::InvalidServerName(_) => "invalid_server_name",
            Self::NoTrustAnchors => "no_trust_anchors",
            Self::NotTls => "not_tls",
            Self::Tls12Only => "tls12_only",
            Self::NoAlpn => "no_alpn",
            Self::TlsAlert(_) => "tls_alert",
            Self::Tls(_) => "tls",
            Self::WrongHostName { .. } => "wrong_host_name",
            Self::NoSubjectAlternativeName { .. } => "no_subject_alternative_name",
            Self::UnknownIssuer { .. } => "unknown_issuer",
            Self::SelfSigned => "self_signed",
            Self::Expired { .. } => "expired",
            Self::NotYetValid { .. } => "not_yet_valid",
            Self::WrongPurpose => "wrong_purpose",
            Self::PinMismatch { .. } => "pin_mismatch",
            Self::BadCertificate(_) => "bad_certificate",
            _ => self.answer_kind(),
        }
    }

    /// [`Self::kind`] of what is wrong with the records.
    const fn answer_kind(&self) -> &'static str {
        match self {
            Self::ServerError(_) => "server_error",
            Self::ServerWarning(_) => "server_warning",
            Self::UnknownCriticalRecord(_) => "unknown_critical_record",
            Self::MissingRecord(_) => "missing_record",
            Self::DuplicateRecord(_) => "duplicate_record",
            Self::MalformedRecord(_) => "malformed_record",
            Self::NoProtocol => "no_protocol",
            Self::ProtocolNotOffered(_) => "protocol_not_offered",
            Self::NoAead => "no_aead",
            Self::AeadNotOffered(_) => "aead_not_offered",
            Self::NoCookies => "no_cookies",
            Self::UnusableCookies { .. } => "unusable_cookies",
            Self::InvalidNtpServer => "invalid_ntp_server",
            Self::NoAnswer => "no_answer",
            Self::Truncated => "truncated",
            Self::TooLong => "too_long",
            Self::DataAfterEnd => "data_after_end",
            _ => "other",
        }
    }

    /// Whether the network failed rather than TLS or the protocol: such a failure is retried sooner.
    #[must_use]
    pub const fn is_network(&self) -> bool {
        matches!(self, Self::Connect(_) | Self::Timeout | Self::ConnectionLost(_))
    }

    /// Whether the server's certificate was refused.
    #[must_use]
    pub const fn is_certificate(&self) -> bool {
        matches!(
            self,
            Self::WrongHostName { .. }
                | Self::NoSubjectAlternativeName { .. }
                | Self::UnknownIssuer { .. }
                | Self::SelfSigned
                | Self::Expired { .. }
                | Self::NotYetValid { .. }
                | Self::WrongPurpose
                | Self::PinMismatch { .. }
                | Self::BadCertificate(_)
        )
    }
}

/// The meaning of an error code (RFC 8915 §4.1.3).
const fn error_name(code: u16) -> &'static str {
    match code {
        0 => "unrecognized critical record",
        1 => "bad request",
        2 => "internal server error",
        _ => "unknown code",
    }
}

/// A list of names for a sentence; long lists are cut.
fn names(names: &[String]) -> String {
    const NAMES_SHOWN_MAX: usize = 6;
    let mut text = names.iter().take(NAMES_SHOWN_MAX).map(String::as_str).collect::<Vec<_>>().join(", ");
    if names.len() > NAMES_SHOWN_MAX {
        text.push_str(", ...");
    }
    text
}

/// Shows Unix seconds as a date and time of day in UTC.
#[must_use]
pub fn utc(unix_seconds: i64) -> impl fmt::Display {
    struct Utc(i64);
    impl fmt::Display for Utc {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            let (year, month, day) = civil_date(self.0.div_euclid(86_400));
            let second = self.0.rem_euclid(86_400);
            let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
            write!(f, "{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02} UTC")
        }
    }
    Utc(unix_seconds)
}

/// Year, month and day of a day number (0 = 1 January 1970) in the Gregorian calendar.
///
/// Counts in years that begin in March, so that the leap day is the last of its year.
const fn civil_date(day_number: i64) -> (i64, i64, i64) {
    const DAYS_OF_400_YEARS: i64 = 146_097;
    let days = day_number + 719_468; // since 1 March of the year 0
    let cycle = days.div_euclid(DAYS_OF_400_YEARS);
    let day = days.rem_euclid(DAYS_OF_400_YEARS);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day_of_year = day - (365 * year + year / 4 - year / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    let year = cycle * 400 + year + if month <= 2 { 1 } else { 0 };
    (year, month, day_of_year - (153 * march_month + 2) / 5 + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_shown_as_the_calendar_has_them() {
        assert_eq!(utc(0).to_string(), "1970-01-01 00:00:00 UTC");
        assert_eq!(utc(-1).to_string(), "1969-12-31 23:59:59 UTC");
        assert_eq!(utc(951_782_400).to_string(), "2000-02-29 00:00:00 UTC");
        assert_eq!(utc(4_107_542_400).to_string(), "2100-03-01 00:00:00 UTC");
        assert_eq!(utc(1_794_928_153).to_string(), "2026-11-17 15:09:13 UTC");
    }

    #[test]
    fn errors_say_what_an_operator_needs_to_know() {
        let wrong = KeError::WrongHostName {
            expected: "a.test".into(),
            presented: vec!["b.test".into(), "c.test".into()],
        };
        assert_eq!(wrong.to_string(), "the certificate is for b.test, c.test, not for a.test");
        assert!(KeError::Tls12Only.to_string().starts_with("server only speaks TLS 1.2"));
        assert_eq!(KeError::ServerError(1).to_string(), "the server answered with error 1 (bad request)");
        assert_eq!(
            KeError::MissingRecord(4).to_string(),
            "the answer has no AEAD Algorithm Negotiation record"
        );
    }

    #[test]
    fn only_the_network_is_retried_soon() {
        assert!(KeError::Timeout.is_network());
        assert!(!KeError::SelfSigned.is_network());
        assert!(KeError::SelfSigned.is_certificate());
        assert_eq!(KeError::Truncated.kind(), "truncated");
    }
}
