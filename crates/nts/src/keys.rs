//! The keys that both sides take from TLS. RFC 8915 §4.3, §5.1.

use crate::{AeadAlgorithm, AeadKey};

/// The label with which keys are exported from TLS. RFC 8915 §4.3.
pub const EXPORTER_LABEL: &str = "EXPORTER-network-time-security";
/// Octets of the context with which keys are exported.
pub const EXPORTER_CONTEXT_OCTETS: usize = 5;
/// The Next Protocol number of NTPv4. RFC 8915 §7.7.
pub const NTP_PROTOCOL_ID: u16 = 0;

/// Which way packets go that a key protects.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Direction {
    /// From the client to the server.
    ClientToServer,
    /// From the server to the client.
    ServerToClient,
}

/// The context with which the key for one direction is exported from TLS: protocol, AEAD, direction. RFC 8915 §5.1.
///
/// `aead_in_context` is the negotiated AEAD's number, except that chrony before 4.6.1 wrote 15 when 30 was negotiated.
#[must_use]
pub const fn exporter_context(aead_in_context: u16, direction: Direction) -> [u8; EXPORTER_CONTEXT_OCTETS] {
    let (protocol, aead) = (NTP_PROTOCOL_ID.to_be_bytes(), aead_in_context.to_be_bytes());
    let direction = match direction {
        Direction::ClientToServer => 0,
        Direction::ServerToClient => 1,
    };
    [protocol[0], protocol[1], aead[0], aead[1], direction]
}

/// The two keys of one client, of one algorithm.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NtsKeys {
    /// Protects requests.
    pub c2s: AeadKey,
    /// Protects answers.
    pub s2c: AeadKey,
}

impl NtsKeys {
    /// The algorithm of both keys.
    #[must_use]
    pub const fn algorithm(&self) -> AeadAlgorithm {
        self.c2s.algorithm()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_context_is_protocol_aead_and_direction() {
        assert_eq!(exporter_context(15, Direction::ClientToServer), [0, 0, 0, 15, 0]);
        assert_eq!(exporter_context(30, Direction::ServerToClient), [0, 0, 0, 30, 1]);
    }
}
