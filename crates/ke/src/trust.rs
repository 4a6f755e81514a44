//! Whom a client believes.

use crate::certificate::hex;
use rustls_pki_types::{CertificateDer, TrustAnchor};
use std::str::FromStr;
use std::sync::Arc;

/// Certificate authorities, read once and shared by all sources that trust them.
#[derive(Clone, Default, Debug)]
pub struct TrustAnchors {
    anchors: Vec<TrustAnchor<'static>>,
    certificates: Vec<CertificateDer<'static>>,
}

impl TrustAnchors {
    /// Reads certificates; also says how many could not be read and were left out.
    #[must_use]
    pub fn from_certificates(
        certificates: impl IntoIterator<Item = CertificateDer<'static>>,
    ) -> (Self, usize) {
        let mut read = Self::default();
        let mut unusable = 0;
        for certificate in certificates {
            match webpki::anchor_from_trusted_cert(&certificate) {
                Ok(anchor) => {
                    read.anchors.push(anchor.to_owned());
                    read.certificates.push(certificate);
                }
                Err(_) => unusable += 1,
            }
        }
        (read, unusable)
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.anchors.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.anchors.is_empty()
    }

    pub(crate) fn anchors(&self) -> &[TrustAnchor<'static>] {
        &self.anchors
    }

    pub(crate) fn contains(&self, certificate: &CertificateDer<'_>) -> bool {
        self.certificates.iter().any(|own| own == certificate)
    }
}

/// The pin of a public key: SHA-256 of its subject public key info (RFC 7858 §4.2).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct PublicKeyPin(pub [u8; 32]);

impl core::fmt::Debug for PublicKeyPin {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "PublicKeyPin({})", hex(&self.0))
    }
}

/// A pin is neither 64 hexadecimal digits nor 44 characters of base64.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("a pin is the SHA-256 of a public key: 64 hexadecimal digits, or 44 characters of base64")]
pub struct InvalidPin;

impl FromStr for PublicKeyPin {
    type Err = InvalidPin;

    /// Reads hexadecimal digits (colons allowed) or base64, with or without a prefix `sha256:` or `sha256//`.
    fn from_str(text: &str) -> Result<Self, InvalidPin> {
        let text = text.strip_prefix("sha256//").or_else(|| text.strip_prefix("sha256:")).unwrap_or(text);
        let key = |octets: Option<Vec<u8>>| octets.and_then(|octets| octets.try_into().ok());
        key(from_hex(text)).or_else(|| key(from_base64(text))).map(Self).ok_or(InvalidPin)
    }
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digits: Vec<u32> =
        text.chars().filter(|c| *c != ':').map(|c| c.to_digit(16)).collect::<Option<_>>()?;
    let (pairs, rest) = digits.as_chunks::<2>();
    let octet = |pair: &[u32; 2]| u8::try_from(pair[0] * 16 + pair[1]).ok();
    if rest.is_empty() { pairs.iter().map(octet).collect() } else { None }
}

fn from_base64(text: &str) -> Option<Vec<u8>> {
    let text = text.trim_end_matches('=');
    let mut octets = Vec::with_capacity(text.len() * 3 / 4);
    let (mut bits, mut count) = (0u32, 0u32);
    for character in text.bytes() {
        let value = match character {
            b'A'..=b'Z' => character - b'A',
            b'a'..=b'z' => character - b'a' + 26,
            b'0'..=b'9' => character - b'0' + 52,
            b'+' | b'-' => 62,
            b'/' | b'_' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(value);
        count += 6;
        if count >= 8 {
            count -= 8;
            octets.push(u8::try_from(bits >> count).ok()?);
            bits &= (1 << count) - 1;
        }
    }
    Some(octets)
}

/// How the dates of certificates are judged.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum CertificateDates {
    /// A certificate must be valid at the time that is given with the session.
    #[default]
    Check,
    /// Dates do not matter now; the outcome carries them, so that they can be judged when the time is known.
    Ignore,
}

/// Whom a source's client believes.
///
/// With pins (certificates or public keys) the server must have one of them, and nothing else is asked of its
/// certificate but its dates: the pin stands for issuer and name (as RFC 7671 §5.1 has it for DANE-EE). Without pins
/// the chain must end at one of the authorities and a subject alternative name must match.
#[derive(Clone, Debug, Default)]
pub struct ClientTrust {
    /// The system's authorities; `None` when they are not to be used.
    pub system_roots: Option<Arc<TrustAnchors>>,
    /// Further authorities. A self-signed server certificate among them is believed as it is, its name checked.
    pub extra_roots: Arc<TrustAnchors>,
    /// Certificates that the server may have.
    pub pinned_certificates: Vec<CertificateDer<'static>>,
    /// Public keys that the server may have.
    pub pinned_keys: Vec<PublicKeyPin>,
}

impl ClientTrust {
    /// Whether the server must have a pinned certificate or key.
    #[must_use]
    pub fn is_pinned(&self) -> bool {
        !self.pinned_certificates.is_empty() || !self.pinned_keys.is_empty()
    }

    /// Whether no server at all could be believed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let no_system_roots = self.system_roots.as_ref().is_none_or(|roots| roots.is_empty());
        no_system_roots && self.extra_roots.is_empty() && !self.is_pinned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pins_are_read_in_the_usual_spellings() {
        let pin = PublicKeyPin([0xfb; 32]);
        let hexadecimal = "fb".repeat(32);
        assert_eq!(hexadecimal.parse(), Ok(pin));
        assert_eq!(format!("sha256:{}", vec!["FB"; 32].join(":")).parse(), Ok(pin));
        assert_eq!("sha256//+/v7+/v7+/v7+/v7+/v7+/v7+/v7+/v7+/v7+/v7+/s=".parse(), Ok(pin));
        assert_eq!("fb".repeat(31).parse::<PublicKeyPin>(), Err(InvalidPin));
        assert_eq!("not a pin".parse::<PublicKeyPin>(), Err(InvalidPin));
        assert_eq!("".parse::<PublicKeyPin>(), Err(InvalidPin));
    }
}
