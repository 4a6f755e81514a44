//! What any thread converts stamps of cards by.

use arc_swap::ArcSwap;
use chime_discipline::CardLine;
use chime_sys::udp::HardwareStamp;
use chime_sys::{TimestampSource, Timestamped};
use chime_time::{ClockReading, MonoTime, NtpDuration};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// A card's stamp lies at most this far from the kernel's of the same packet, in the direction that packets go: beyond it
/// one of the two is of another packet, or the card's clock is not what we take it for.
const STAMP_APART_MAX: NtpDuration = NtpDuration::from_nanos(20_000_000);

/// And in the other direction, where only the errors of the two are.
const STAMP_BEHIND_MAX: NtpDuration = NtpDuration::from_nanos(20_000);

/// Octets of a frame around those of an NTP packet, without its check sum: Ethernet, IP and UDP.
const HEADER_OCTETS_V4: u32 = 14 + 20 + 8;
const HEADER_OCTETS_V6: u32 = 14 + 40 + 8;

/// Octets of the check sum.
const CHECK_SUM_OCTETS: u32 = 4;

/// One card.
#[derive(Clone, Copy, Debug)]
pub(super) struct Line {
    pub(super) interface: u32,
    pub(super) line: CardLine,
    pub(super) stamps_received: bool,
    pub(super) transmit_compensation: NtpDuration,
    pub(super) receive_compensation: NtpDuration,
    pub(super) link_speed: Option<u32>,
}

/// What a thread that has packets knows of one.
#[derive(Clone, Copy, Debug)]
pub struct Convertible {
    /// The best stamp without the card.
    pub kernel: Timestamped,
    /// The card's.
    pub hardware: Option<HardwareStamp>,
    /// Octets of the datagram.
    pub octets: usize,
    /// Whether it came by IPv6.
    pub ipv6: bool,
}

/// The cards' clocks as they are now; replaced as a whole, never locked.
#[derive(Debug, Default)]
pub struct CardLines {
    lines: ArcSwap<Vec<Line>>,
    active: AtomicBool,
    used: AtomicBool,
}

impl CardLines {
    pub(super) fn set_active(&self, active: bool) {
        self.active.store(active, Relaxed);
    }

    pub(super) fn publish(&self, lines: Vec<Line>) {
        self.lines.store(lines.into());
    }

    /// Whether there are cards that stamp, so that sockets should ask for their stamps.
    #[must_use]
    pub fn is_active(&self) -> bool {
        self.active.load(Relaxed)
    }

    /// Whether stamps were converted since [`Self::take_use`].
    pub(super) fn is_used(&self) -> bool {
        self.used.load(Relaxed)
    }

    pub(super) fn take_use(&self) {
        self.used.store(false, Relaxed);
    }

    /// Whether the card of the interface stamps what is sent, as far as that can be told; 0: an interface not known.
    #[must_use]
    pub fn may_stamp(&self, interface: u32) -> bool {
        let lines = self.lines.load();
        !lines.is_empty() && (interface == 0 || lines.iter().any(|line| line.interface == interface))
    }

    /// When a packet had come in as a whole: by the card if its stamp can be used.
    ///
    /// Cards stamp the beginning of a frame; the time from there to its end depends on the speed of the link, which differs
    /// from that at the other end, so it is added.
    #[must_use]
    pub fn received(&self, packet: &Convertible) -> Timestamped {
        self.received_in(packet).0
    }

    /// The same, and the time from the beginning of the frame to its end, where it is the card's stamp.
    #[must_use]
    pub fn received_in(&self, packet: &Convertible) -> (Timestamped, Option<NtpDuration>) {
        let mut duration = None;
        let received = self.convert(packet, |line, stamp| {
            let octets = match stamp.frame_octets {
                0 => {
                    let headers = if packet.ipv6 { HEADER_OCTETS_V6 } else { HEADER_OCTETS_V4 };
                    u32::try_from(packet.octets).unwrap_or(u32::MAX).saturating_add(headers)
                }
                octets => octets,
            };
            let bits = 8.0 * f64::from(octets.saturating_add(CHECK_SUM_OCTETS));
            let length = line.link_speed.map_or(0.0, |speed| bits / (f64::from(speed) * 1e6));
            let length = NtpDuration::from_secs_f64(length);
            let at = line.line.system_at(stamp.at) + length - line.receive_compensation;
            let waited = packet.kernel.at.system - at;
            let is_used = line.stamps_received && waited >= -STAMP_BEHIND_MAX && waited <= STAMP_APART_MAX;
            duration = is_used.then_some(length);
            is_used.then_some(at)
        });
        (received, duration)
    }

    /// When a packet began to leave: by the card if its stamp can be used.
    #[must_use]
    pub fn transmitted(&self, kernel: Timestamped, hardware: Option<HardwareStamp>) -> Timestamped {
        self.convert(&Convertible { kernel, hardware, octets: 0, ipv6: false }, |line, stamp| {
            let at = line.line.system_at(stamp.at) + line.transmit_compensation;
            // The kernel's may be missing, and then is the time at which we heard of it.
            let waited = (at - kernel.at.system).abs();
            (waited <= STAMP_APART_MAX).then_some(at)
        })
    }

    fn convert(
        &self,
        packet: &Convertible,
        convert: impl FnOnce(&Line, HardwareStamp) -> Option<chime_time::NtpDate>,
    ) -> Timestamped {
        let Some(stamp) = packet.hardware.filter(|_| self.is_active()) else { return packet.kernel };
        self.used.store(true, Relaxed);
        let lines = self.lines.load();
        let line = match stamp.interface {
            // A machine with one card has no doubt.
            0 => lines.first().filter(|_| lines.len() == 1),
            interface => lines.iter().find(|line| line.interface == interface),
        };
        let Some(at) = line.and_then(|line| convert(line, stamp)) else { return packet.kernel };
        Timestamped { at: place(packet.kernel.at, at), source: TimestampSource::Hardware }
    }
}

/// An instant near `reading` on both scales, which run alike.
fn place(reading: ClockReading, at: chime_time::NtpDate) -> ClockReading {
    let nanos = i128::from((at - reading.system).to_nanos()) + i128::from(reading.mono.as_nanos());
    ClockReading { mono: MonoTime::from_nanos(u64::try_from(nanos).unwrap_or(0)), system: at }
}
