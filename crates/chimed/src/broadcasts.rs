//! Packets that are sent to everybody on a network, now and then. RFC 5905 §9, mode 5.

use crate::serving::Shared;
use crate::wiring;
use anyhow::Result;
use chime_config::{Broadcast, Model};
use chime_server::{BROADCAST_OCTETS_MAX, write_broadcast};
use chime_sys::clock;
use chime_sys::udp::{UdpOptions, UdpSocket};
use chime_time::MonoTime;
use chime_wire::mac::SymmetricKey;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use tracing::{info, warn};

/// Everything that is broadcast.
#[derive(Debug)]
pub struct Broadcasts {
    entries: Vec<Entry>,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Entry {
    config: Broadcast,
    key: Option<SymmetricKey>,
    local_port: u16,
    dscp: Option<u8>,
    socket: Option<Outlet>,
    due: MonoTime,
    /// Whether the last attempt failed, so that one failure is told once.
    failed: bool,
}

/// Where packets leave from.
#[derive(Debug)]
struct Outlet {
    udp: UdpSocket,
    /// Whether the system knows where to.
    connected: bool,
}

impl Broadcasts {
    /// Begins at once. Packets leave from `local_port`; a broadcast whose key is not among `keys` is told and left out, as
    /// without a MAC nobody who asks for one would believe it.
    #[must_use]
    pub fn new(
        broadcasts: &[Broadcast],
        keys: &[SymmetricKey],
        local_port: u16,
        shared: Arc<Shared>,
        now: MonoTime,
    ) -> Self {
        let entry = |config: &Broadcast| {
            let key = match config.key {
                None => None,
                Some(number) => {
                    let key = keys.iter().find(|key| key.id() == number);
                    if key.is_none() {
                        warn!("nothing is broadcast to {}: there is no key {number}", config.to);
                        return None;
                    }
                    key.cloned()
                }
            };
            let config = config.clone();
            Some(Entry { config, key, local_port, dscp: None, socket: None, due: now, failed: false })
        };
        Self { entries: broadcasts.iter().filter_map(entry).collect(), shared }
    }

    /// What a configuration asks for.
    ///
    /// # Errors
    /// When the key file cannot be read.
    pub fn of(model: &Model, shared: Arc<Shared>, now: MonoTime) -> Result<Self> {
        if model.broadcasts.is_empty() {
            return Ok(Self { entries: Vec::new(), shared });
        }
        let keys = wiring::symmetric_keys(model)?;
        let mut broadcasts = Self::new(&model.broadcasts, &keys, wiring::peer_port(model), shared, now);
        broadcasts.entries.iter_mut().for_each(|entry| entry.dscp = model.process.dscp);
        Ok(broadcasts)
    }

    /// When the next packet is due.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<MonoTime> {
        self.entries.iter().map(|entry| entry.due).min()
    }

    /// Sends what is due.
    pub fn handle_timeout(&mut self, now: MonoTime) {
        let shared = &self.shared;
        for entry in self.entries.iter_mut().filter(|entry| entry.due <= now) {
            entry.due = now.saturating_add(entry.config.interval);
            match entry.send(shared) {
                Ok(()) if std::mem::take(&mut entry.failed) => {
                    info!("broadcasts to {} leave again", entry.config.to)
                }
                Ok(()) => {}
                Err(error) => {
                    entry.socket = None;
                    if !std::mem::replace(&mut entry.failed, true) {
                        warn!("cannot broadcast to {}: {error}", entry.config.to);
                    }
                }
            }
        }
    }
}

impl Entry {
    fn send(&mut self, shared: &Arc<Shared>) -> io::Result<()> {
        let socket = match self.socket.take() {
            Some(socket) => socket,
            None => self.open()?,
        };
        let socket = self.socket.insert(socket);
        let mut buffer = [0; BROADCAST_OCTETS_MAX];
        let now = clock::read_at_last();
        let poll = poll_exponent(self.config.interval.as_secs_f64());
        let instant = (now.system.timestamp(), now.mono);
        let octets = write_broadcast(&shared.time.load(), instant, poll, self.key.as_ref(), &mut buffer)
            .map_err(io::Error::other)?;
        if let Some(octets) = octets {
            if socket.connected {
                socket.udp.send(&buffer[..octets])?;
            } else {
                socket.udp.send_to(&buffer[..octets], self.config.to, None)?;
            }
        }
        Ok(())
    }

    /// Connected, so that it gets nothing of what clients send to the server's port, which it shares.
    fn open(&self) -> io::Result<Outlet> {
        let options = UdpOptions {
            broadcast: true,
            multicast_ttl: self.config.to.ip().is_multicast().then_some(self.config.ttl),
            interface: self.config.interface.clone(),
            dscp: self.dscp,
            ..UdpOptions::default()
        };
        let any = if self.config.to.is_ipv4() {
            IpAddr::V4(Ipv4Addr::UNSPECIFIED)
        } else {
            IpAddr::V6(Ipv6Addr::UNSPECIFIED)
        };
        let local = SocketAddr::new(self.config.local.unwrap_or(any), self.local_port);
        match UdpSocket::connected_from(local, self.config.to, &options) {
            Ok(udp) => Ok(Outlet { udp, connected: true }),
            // Some systems connect to no address that stands for many: then from a port of its own.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                let udp = UdpSocket::bound_to(SocketAddr::new(local.ip(), 0), &options)?;
                Ok(Outlet { udp, connected: false })
            }
            Err(error) => Err(error),
        }
    }
}

/// The poll exponent that comes closest to an interval in seconds.
fn poll_exponent(seconds: f64) -> i8 {
    #[expect(clippy::cast_possible_truncation, reason = "clamped before")]
    let exponent = seconds.max(1.0).log2().round().clamp(0.0, 17.0) as i8;
    exponent
}

#[cfg(test)]
mod tests {
    use super::*;
    use chime_server::ServerTime;
    use chime_time::NtpTimestamp;
    use chime_wire::{Header, Mode};
    use std::net::UdpSocket as StdSocket;
    use std::time::Duration;

    fn broadcast(to: SocketAddr, key: Option<u32>) -> Broadcast {
        Broadcast { interval: Duration::from_secs(64), key, ..Broadcast::new(to) }
    }

    #[test]
    fn packets_leave_at_their_interval_while_there_is_time_to_tell() {
        let listener = StdSocket::bind("127.0.0.1:0").expect("a socket");
        listener.set_read_timeout(Some(Duration::from_millis(500))).expect("a timeout");
        let to = listener.local_addr().expect("an address");
        let shared = Arc::new(Shared::unsynchronized(-20));
        let start = clock::mono_now();
        let mut broadcasts = Broadcasts::new(&[broadcast(to, None)], &[], 0, shared.clone(), start);
        assert_eq!(broadcasts.poll_timeout(), Some(start));
        broadcasts.handle_timeout(start);
        assert!(listener.recv(&mut [0; 64]).is_err(), "there is no time to tell");
        let next = broadcasts.poll_timeout().expect("there is a next one");
        assert!((next.seconds_since(start) - 64.0).abs() < 1e-6);
        shared.time.store(Arc::new(ServerTime::local(3, -20, start, NtpTimestamp::ZERO)));
        broadcasts.handle_timeout(start.add_secs_f64(63.0));
        assert!(listener.recv(&mut [0; 64]).is_err(), "it is not due");
        broadcasts.handle_timeout(next);
        let mut octets = [0; 64];
        assert_eq!(listener.recv(&mut octets).expect("a packet"), 48);
        let header = Header::decode(&octets).expect("a header");
        assert_eq!((header.mode, header.stratum, header.poll), (Mode::Broadcast, 3, 6));
    }

    #[test]
    fn without_its_key_nothing_is_broadcast() {
        let to = "127.0.0.1:9".parse().expect("an address");
        let shared = Arc::new(Shared::unsynchronized(-20));
        let broadcasts = Broadcasts::new(&[broadcast(to, Some(5))], &[], 0, shared, MonoTime::ZERO);
        assert_eq!(broadcasts.poll_timeout(), None);
    }

    #[test]
    fn the_poll_field_is_the_nearest_exponent() {
        assert_eq!([1.0, 60.0, 64.0, 300.0, 0.1].map(poll_exponent), [0, 6, 6, 8, 0]);
    }
}
