//! What the engine wants: datagrams, lookups, key establishments.

use crate::{AddressFamily, EstablishmentId, ExchangeId, LookupId, ReferenceClockId, SourceKey, TxToken};
use chime_nts::AeadAlgorithm;
use chime_time::Frequency;
use std::net::{IpAddr, SocketAddr};

/// A datagram to send from a fresh socket on a random port, connected to `to` (RFC 9109); or from a given port, and then from
/// the socket of that exchange, which stays open.
#[derive(Debug, PartialEq, Eq)]
pub struct Transmit {
    /// Names the exchange, and reports when it left.
    pub token: TxToken,
    /// Where to.
    pub to: SocketAddr,
    /// The request.
    pub octets: Vec<u8>,
    /// Peers in symmetric mode: the local port. Their packets come from there to the same socket, which is to share the port
    /// with the server's sockets.
    pub from_port: Option<u16>,
}

/// Something that takes a while and reports back as [`crate::Input`].
#[derive(Clone, Debug, PartialEq)]
pub enum Request {
    /// Look a name up; answered by [`crate::Input::Resolved`].
    Resolve {
        /// To be named in the answer.
        lookup: LookupId,
        /// A host name.
        name: String,
        /// Which addresses are of use.
        family: AddressFamily,
    },
    /// Establish keys; answered by [`crate::Input::KeFinished`].
    EstablishKeys(EstablishKeys),
    /// Give an establishment up; it is not answered any more.
    CancelEstablishment(EstablishmentId),
    /// Close an exchange's socket.
    CloseExchange(ExchangeId),
    /// Read a reference clock now; answered by [`crate::Input::ReferenceClock`], also when there is nothing new.
    ReadReferenceClock(ReferenceClockId),
    /// Let the clock run faster by this from now on, beside all that is commanded, and do not report it: a reference clock
    /// that runs evenly says that our oscillator does not. Replaces what was asked for before.
    Compensate(Frequency),
    /// Keys or cookies changed: write what [`crate::Engine::set_nts_state_aside`] gives soon.
    SaveState,
}

/// One key establishment. RFC 8915 §4.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EstablishKeys {
    /// To be named in the answer.
    pub establishment: EstablishmentId,
    /// For which source.
    pub source: SourceKey,
    /// Addresses of the server, best first, families in turn: to be raced (RFC 8305).
    pub addresses: Vec<IpAddr>,
    /// The TCP port.
    pub port: u16,
    /// The name or address literal that the certificate must carry.
    pub server_name: String,
    /// AEADs to offer, in order of preference.
    pub aeads: Vec<AeadAlgorithm>,
    /// Which trust store judges the certificate: [`crate::NtsSource::trust`].
    pub trust: u32,
    /// The best time we have; Unix seconds. For TLS's time provider.
    pub unix_now_lower_bound: i64,
    /// Whether the certificate's dates are to be checked against that time. When not, the engine judges them afterwards.
    pub check_dates: bool,
}
