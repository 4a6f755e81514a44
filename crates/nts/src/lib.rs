//! Network Time Security: AEADs, keys, cookies, and the NTS extension fields of NTP packets.
//!
//! Owns what RFC 8915 says below TLS: the records of key establishment (§4), key derivation (§4.3, §5.1), cookies (§6)
//! and the protection of NTP packets (§5). Knows no TLS, keeps no state per client, reads no clock and draws no random
//! numbers: nonces and fresh keys come in as values. Nothing that a stranger sends makes it panic.
//! Start at [`AeadKey`] and [`NtsKeys`]; a server goes on with [`KeyRing`] and [`request`], a client with [`client`].
#![deny(unsafe_code)]

mod aead;
mod authenticator;
mod batch;
pub mod client;
mod cookie;
mod key_ring;
mod keys;
mod predecessor;
pub mod record;
pub mod request;
mod siv;
mod vector;

pub use aead::{AEAD_TAG_OCTETS, Aead, AeadAlgorithm, AeadError, AeadKey, KeyLength, NONCE_OCTETS_MAX};
pub use batch::{BATCH_REQUESTS_MAX, BatchAnswer, NtsBatch};
pub use client::{NtsResponseError, is_nts_nak, verify_nts_response, write_nts_request};
pub use cookie::{COOKIE_OCTETS_MAX, COOKIE_OCTETS_MIN, COOKIES_MAX, Cookie, CookieLength};
pub use key_ring::{CookieError, CookieKey, KEYS_KEPT_DEFAULT, KEYS_MAX, KeyRing, KeyRingError};
pub use keys::{
    Direction, EXPORTER_CONTEXT_OCTETS, EXPORTER_LABEL, NTP_PROTOCOL_ID, NtsKeys, exporter_context,
};
pub use predecessor::{PREDECESSOR_KEYS_MAX, PredecessorError, PredecessorFormat, PredecessorKeys};
pub use request::{NakReason, NtsRequest, NtsRequestError, NtsSilence, write_nts_nak, write_nts_response};
pub use vector::Arithmetic;
