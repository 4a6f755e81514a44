//! The sockets of requests under way: one for each exchange, on a random port (RFC 9109).

use chime_config::ClientSockets;
use chime_engine::{ExchangeId, Input, SendFailure, TimestampSource, Timestamped, Transmit};
use chime_sys::poll::{Interest, PollSet, Readiness};
use chime_sys::udp::{ErrorReport, UdpOptions, UdpSocket, hold_timestamps};
use chime_wire::DATAGRAM_OCTETS_MAX;
use std::collections::BTreeMap;
use std::io;

/// Datagrams and reports read from one socket in one turn of the loop. A flood on one exchange must not hold up the
/// rest; what is left is still there in the next turn.
const READS_PER_TURN_MAX: usize = 16;

/// The open sockets.
#[derive(Debug)]
pub struct Exchanges {
    sockets: BTreeMap<ExchangeId, UdpSocket>,
    /// Never read: while it lives the kernel stamps what arrives, also the first answer to a socket just opened.
    _hold: Option<UdpSocket>,
    options: UdpOptions,
    local: ClientSockets,
    buffer: Box<[u8; DATAGRAM_OCTETS_MAX]>,
}

impl Exchanges {
    /// No sockets yet; they will leave from where `local` says.
    #[must_use]
    pub fn new(local: ClientSockets) -> Self {
        let interface = local.interface.clone();
        Self {
            sockets: BTreeMap::new(),
            _hold: hold_timestamps().ok(),
            options: UdpOptions {
                transmit_timestamps: true,
                packet_info: true,
                interface,
                ..UdpOptions::default()
            },
            local,
            buffer: Box::new([0; DATAGRAM_OCTETS_MAX]),
        }
    }

    /// Opens a socket for the request and sends it; gives the fact to report to the engine.
    pub fn transmit(&mut self, transmit: Transmit) -> Input<'static> {
        let exchange = transmit.token.exchange();
        let local = self.local.address_for(transmit.to);
        let sent = UdpSocket::connected_to(transmit.to, local, &self.options).and_then(|socket| {
            let sent = socket.send(&transmit.octets)?;
            self.sockets.insert(exchange, socket);
            Ok(sent)
        });
        let sent = sent.map(stamped).map_err(|error| send_failure(&error));
        Input::Transmitted { token: transmit.token, sent }
    }

    /// Closes an exchange's socket.
    pub fn close(&mut self, exchange: ExchangeId) {
        self.sockets.remove(&exchange);
    }

    /// Where requests leave from.
    #[must_use]
    pub const fn local(&self) -> &ClientSockets {
        &self.local
    }

    /// Adds every socket to what the loop waits for.
    pub fn register<T: Copy>(&self, set: &mut PollSet<T>, token: impl Fn(ExchangeId) -> T) {
        for (exchange, socket) in &self.sockets {
            set.add(socket, Interest::READ | Interest::ERRORS, token(*exchange));
        }
    }

    /// Reads what an exchange's socket has, and gives each fact to `report`. Transmit stamps come before datagrams:
    /// the engine wants to know when a request left before it looks at the answer.
    pub fn receive(&mut self, exchange: ExchangeId, ready: Readiness, mut report: impl FnMut(Input<'_>)) {
        let Some(socket) = self.sockets.get(&exchange) else { return };
        if ready.errors {
            // One for each wake-up: there is hardly ever more, and simulators answer a second call with a datagram.
            match socket.recv_error() {
                Ok(ErrorReport::Transmitted { sent, .. }) => {
                    report(Input::TransmitTimestamp { exchange, sent: stamped(sent) });
                }
                Ok(ErrorReport::Undeliverable { errno, .. }) => {
                    let failure = send_failure(&io::Error::from_raw_os_error(errno));
                    report(Input::ExchangeFailed { exchange, failure });
                }
                Ok(ErrorReport::Other) | Err(_) => {}
            }
        }
        if ready.readable {
            for _ in 0..READS_PER_TURN_MAX {
                match socket.recv(&mut self.buffer[..]) {
                    // A datagram longer than any answer that we asked for is cut, and then fails its checks.
                    Ok(datagram) => report(Input::Datagram {
                        exchange,
                        from: datagram.from,
                        local: datagram.destination.map(|local| local.address),
                        received: stamped(datagram.received),
                        octets: &self.buffer[..datagram.octets],
                    }),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    Err(error) => {
                        report(Input::ExchangeFailed { exchange, failure: send_failure(&error) });
                        break;
                    }
                }
            }
        }
    }
}

/// The same stamp in the engine's words.
fn stamped(stamp: chime_sys::Timestamped) -> Timestamped {
    let source = match stamp.source {
        chime_sys::TimestampSource::Daemon => TimestampSource::Daemon,
        chime_sys::TimestampSource::Kernel => TimestampSource::Kernel,
        chime_sys::TimestampSource::Hardware => TimestampSource::Hardware,
    };
    Timestamped { at: stamp.at, source }
}

/// The same failure in the engine's words.
fn send_failure(error: &io::Error) -> SendFailure {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => SendFailure::Refused,
        io::ErrorKind::HostUnreachable
        | io::ErrorKind::NetworkUnreachable
        | io::ErrorKind::AddrNotAvailable => SendFailure::Unreachable,
        io::ErrorKind::PermissionDenied => SendFailure::NotPermitted,
        _ => SendFailure::Other(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_told_in_the_words_of_the_engine() {
        let failure = |errno| send_failure(&io::Error::from_raw_os_error(errno));
        assert_eq!(failure(111), SendFailure::Refused);
        assert_eq!(failure(113), SendFailure::Unreachable);
        assert_eq!(failure(101), SendFailure::Unreachable);
        assert_eq!(failure(1), SendFailure::NotPermitted);
        assert!(matches!(failure(5), SendFailure::Other(_)));
    }
}
