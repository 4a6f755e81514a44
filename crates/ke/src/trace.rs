//! A key establishment step by step, for people.

use crate::certificate::CertificateInfo;
use chime_nts::record::{Records, record_type};
use core::fmt;

/// How far a session has come.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub enum KeStage {
    /// The TLS handshake is going on.
    #[default]
    Handshake,
    /// TLS is up, the request is sent, the answer is awaited.
    Answer,
    /// The answer is complete.
    Done,
}

impl fmt::Display for KeStage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Handshake => "TLS handshake",
            Self::Answer => "waiting for the answer",
            Self::Done => "done",
        })
    }
}

/// What a session has seen so far.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct KeTrace {
    /// How far the session has come.
    pub stage: KeStage,
    /// The TLS version, such as `TLS 1.3`.
    pub tls_version: Option<String>,
    /// The cipher suite, such as `TLS13_AES_128_GCM_SHA256`.
    pub cipher_suite: Option<String>,
    /// The key exchange group, such as `X25519MLKEM768`.
    pub key_exchange_group: Option<String>,
    /// The application protocol that the server chose.
    pub alpn: Option<String>,
    /// The certificates that the server sent, its own first; those that cannot be read are left out.
    pub certificates: Vec<CertificateInfo>,
    /// The records sent.
    pub request: Vec<RecordTrace>,
    /// The records received.
    pub response: Vec<RecordTrace>,
}

/// One record.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RecordTrace {
    /// Whether the critical bit is set.
    pub critical: bool,
    /// The type, 0 to 32767.
    pub record_type: u16,
    /// The length of the body; octets.
    pub octets: usize,
    /// What the body says, in words; empty when there is nothing to say. Never a cookie.
    pub content: String,
}

impl RecordTrace {
    /// The records of a message; what is not a whole record is left out.
    #[must_use]
    pub fn list(message: &[u8]) -> Vec<Self> {
        Records::new(message)
            .flatten()
            .map(|record| Self {
                critical: record.critical,
                record_type: record.record_type,
                octets: record.body.len(),
                content: content(record.record_type, record.body),
            })
            .collect()
    }

    /// The name of the record's type.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        record_type::name(self.record_type)
    }
}

fn content(record_type: u16, body: &[u8]) -> String {
    let numbers = || {
        let (pairs, _) = body.as_chunks::<2>();
        pairs.iter().map(|pair| u16::from_be_bytes(*pair))
    };
    let list = |name: fn(u16) -> String| numbers().map(name).collect::<Vec<_>>().join(", ");
    match record_type {
        record_type::NEXT_PROTOCOL => list(protocol_name),
        record_type::AEAD_ALGORITHM => list(aead_name),
        record_type::ERROR | record_type::WARNING | record_type::NTP_PORT => {
            list(|number| number.to_string())
        }
        record_type::NTP_SERVER => body.escape_ascii().to_string(),
        _ => String::new(),
    }
}

fn protocol_name(id: u16) -> String {
    if id == chime_nts::NTP_PROTOCOL_ID { "NTPv4".to_owned() } else { id.to_string() }
}

fn aead_name(id: u16) -> String {
    chime_nts::AeadAlgorithm::from_id(id).map_or_else(|| id.to_string(), |aead| format!("{id} ({aead})"))
}
