//! NTS key establishment over TLS 1.3, client and server, without input or output.
//!
//! Owns the meaning of NTS-KE records, the judgement of certificates, and the sessions of both sides: octets of TCP in,
//! octets of TCP out. Reads no clock (the time at which certificates are judged comes in as a value), opens no socket,
//! resolves no name. Start at [`ClientSession`] and [`ServerSession`]; the decisions that need no TLS are pure
//! functions: [`client::read_response`] and [`server::decide`]. Follows RFC 8915 §3 and §4.
#![forbid(unsafe_code)]

mod certificate;
pub mod client;
mod error;
pub mod server;
mod tls;
mod trace;
mod trust;
mod verifier;

pub use certificate::{CertificateInfo, ValidityPeriod};
pub use client::{ClientConfig, ClientRequest, ClientSession, KeOutcome, KeWarning};
pub use error::{KeError, utc};
pub use server::{ServerConfig, ServerSession};
pub use trace::{KeStage, KeTrace, RecordTrace};
pub use trust::{CertificateDates, ClientTrust, InvalidPin, PublicKeyPin, TrustAnchors};
