//! One vector, as it stands in a file. Which fields there are depends on its kind.

use crate::hex::Hex;
use chime_nts::{AeadAlgorithm, AeadKey, NtsKeys};
use serde::Deserialize;
use serde_json::Value;

/// A vector of any kind.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Vector {
    pub(crate) id: String,
    pub(crate) kind: String,
    #[serde(default)]
    pub(crate) role: Option<String>,
    #[serde(default)]
    pub(crate) verdict: Option<String>,
    #[serde(default)]
    pub(crate) scenario: Option<String>,
    #[serde(default)]
    pub(crate) aead: Option<u16>,
    #[serde(default)]
    pub(crate) c2s: Option<Hex>,
    #[serde(default)]
    pub(crate) s2c: Option<Hex>,
    #[serde(default)]
    pub(crate) cookies: Option<Vec<Hex>>,
    #[serde(default)]
    pub(crate) cookie_used: Option<Hex>,
    #[serde(default)]
    pub(crate) ke_request: Option<Hex>,
    #[serde(default)]
    pub(crate) ke_response: Option<Hex>,
    #[serde(default)]
    pub(crate) ke_response_records: Option<Vec<RecordSeen>>,
    #[serde(default)]
    pub(crate) client_options: Option<TlsOptions>,
    #[serde(default)]
    pub(crate) ke_sessions: Option<Vec<KeSession>>,
    #[serde(default)]
    pub(crate) ntp_request: Option<Hex>,
    #[serde(default)]
    pub(crate) ntp_response: Option<Hex>,
    #[serde(default)]
    pub(crate) ntp_response_more: Option<Vec<Hex>>,
    #[serde(default)]
    pub(crate) uid: Option<Hex>,
    #[serde(default)]
    pub(crate) verified: Option<Verified>,
    #[serde(default)]
    pub(crate) mac: Option<MacSeen>,
    #[serde(default)]
    pub(crate) request_mac_right: Option<bool>,
    #[serde(default)]
    pub(crate) request_fields: Option<Vec<String>>,
    #[serde(default)]
    pub(crate) request_authenticator_opens: Option<bool>,
    #[serde(default)]
    pub(crate) request_plaintext: Option<Hex>,
    #[serde(default)]
    pub(crate) placeholders: Option<usize>,
    #[serde(default)]
    pub(crate) exchange: Option<Vec<Datagram>>,
    #[serde(default)]
    pub(crate) request: Option<Hex>,
    #[serde(default)]
    pub(crate) reply: Option<Hex>,
    #[serde(default)]
    pub(crate) key: Option<Hex>,
    #[serde(default)]
    pub(crate) ad: Option<Hex>,
    #[serde(default)]
    pub(crate) nonce: Option<Hex>,
    #[serde(default)]
    pub(crate) s2v_components: Option<Vec<Hex>>,
    #[serde(default)]
    pub(crate) plaintext: Option<Hex>,
    #[serde(default)]
    pub(crate) message: Option<Hex>,
    #[serde(default)]
    pub(crate) output: Option<Hex>,
    #[serde(default)]
    pub(crate) must_fail: bool,
}

/// A record of a key establishment as the recorder split it.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct RecordSeen {
    #[serde(rename = "type")]
    pub(crate) record_type: u16,
    pub(crate) critical: bool,
    pub(crate) body: Hex,
}

/// What was special about the recorder's TLS client.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TlsOptions {
    #[serde(default)]
    pub(crate) alpn: Option<Vec<String>>,
    #[serde(default)]
    pub(crate) sni: Option<String>,
    #[serde(default)]
    pub(crate) maxver: Option<String>,
    #[serde(default)]
    pub(crate) minver: Option<String>,
    #[serde(default)]
    pub(crate) half_close: bool,
    #[serde(default)]
    pub(crate) chunks: Option<Vec<usize>>,
}

/// One key establishment of a recorded client.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct KeSession {
    #[serde(default)]
    pub(crate) end: Option<String>,
    #[serde(default)]
    pub(crate) request: Option<Hex>,
    #[serde(default)]
    pub(crate) response: Option<Hex>,
}

/// What the recorder found in an answer.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct Verified {
    #[serde(default)]
    pub(crate) authenticator_opens: Option<bool>,
    #[serde(default)]
    pub(crate) new_cookies: Option<Vec<Hex>>,
    #[serde(default)]
    pub(crate) mac_key_id: Option<u32>,
    #[serde(default)]
    pub(crate) mac_right: Option<bool>,
}

/// A symmetric key and what was made with it.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct MacSeen {
    pub(crate) key_id: u32,
    #[serde(rename = "type")]
    pub(crate) algorithm: Option<String>,
    pub(crate) key: Option<Hex>,
    #[serde(default)]
    pub(crate) covers: Option<Hex>,
    #[serde(default)]
    pub(crate) digest: Option<Hex>,
}

/// A datagram of a command protocol.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Datagram {
    pub(crate) dir: String,
    pub(crate) data: Hex,
}

impl TlsOptions {
    /// Whether the client spoke nothing newer than TLS 1.2.
    pub(crate) fn is_old(&self) -> bool {
        let is_old = |version: &Option<String>| version.as_deref() == Some("TLS1.2");
        is_old(&self.maxver) && (self.minver.is_none() || is_old(&self.minver))
    }
}

impl Vector {
    /// Reads one element of a file.
    pub(crate) fn read(value: &Value) -> Result<Self, String> {
        Self::deserialize(value).map_err(|error| {
            let id = value.get("id").and_then(Value::as_str).unwrap_or("a vector without an id");
            format!("{id}: not of the schema: {error}")
        })
    }

    /// The keys that TLS gave, when there are any.
    pub(crate) fn keys(&self) -> Option<Result<NtsKeys, String>> {
        let (aead, c2s, s2c) = (self.aead?, self.c2s.as_deref()?, self.s2c.as_deref()?);
        Some(keys(aead, c2s, s2c))
    }

    /// Every cookie that the server gave this client.
    pub(crate) fn genuine_cookies(&self) -> impl Iterator<Item = &[u8]> {
        self.cookies.iter().flatten().chain(&self.cookie_used).map(|cookie| &cookie[..])
    }

    /// The verdict; the empty string when there is none.
    pub(crate) fn verdict(&self) -> &str {
        self.verdict.as_deref().unwrap_or_default()
    }
}

/// Two keys for the AEAD with a number.
pub(crate) fn keys(aead: u16, c2s: &[u8], s2c: &[u8]) -> Result<NtsKeys, String> {
    let algorithm = AeadAlgorithm::from_id(aead).ok_or_else(|| format!("AEAD {aead} is not known"))?;
    let key = |octets| AeadKey::new(algorithm, octets).map_err(|error| error.to_string());
    Ok(NtsKeys { c2s: key(c2s)?, s2c: key(s2c)? })
}
