//! NTP on the wire: octets to values and back.
//!
//! Owns the packet header (RFC 5905 §7.3), extension fields (RFC 7822), message authentication codes (RFC 5905 §7.3,
//! RFC 8573), kiss codes, NTP inside PTP messages, and the headers of the control protocols (RFC 9327, chrony's). Keeps no state, allocates
//! nothing while it parses, and never panics, whatever the octets.
//! Start at [`Packet`], [`Header`] and [`ExtensionFields`].
#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate std;

pub mod chrony_command;
mod control;
mod error;
mod exchange_fields;
mod extension_field;
mod header;
pub mod keyfile;
pub mod mac;
mod ntp_over_ptp;
mod packet;

pub use control::{CONTROL_HEADER_OCTETS, ControlMessage};
pub use error::DecodeError;
pub use exchange_fields::{EXCHANGE_FIELD_OCTETS, ExchangeFields, MonotonicReceive, NetworkCorrection};
pub use extension_field::{
    EXTENSION_FIELD_HEADER_OCTETS, EXTENSION_FIELD_OCTETS_MIN, ExtensionField, ExtensionFields, FieldWriter,
    field_type,
};
pub use header::{HEADER_OCTETS, Header, KissCode, LeapIndicator, Mode, ReferenceId};
pub use mac::{KeyError, MacAlgorithm, SymmetricKey};
pub use ntp_over_ptp::{PTP_PREFIX_OCTETS_MAX, PtpLayout, PtpMessage, write_ptp_prefix};
pub use packet::{KEY_ID_OCTETS, LAST_FIELD_OCTETS_MIN, Mac, Packet};

/// The longest datagram that is read or written: what fits an Ethernet frame is far less, but a server may be asked
/// for eight long cookies.
pub const DATAGRAM_OCTETS_MAX: usize = 4096;
