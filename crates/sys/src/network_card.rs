//! Network cards that stamp packets: what they can do, and turning it on.

use crate::descriptor::{check, socket, zeroed};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

/// A network interface.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// Its number.
    pub index: u32,
    /// Whether packets go nowhere by it.
    pub loopback: bool,
}

/// Which received packets a card stamps.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum StampFilter {
    /// None.
    None,
    /// NTP packets.
    Ntp,
    /// PTP event packets.
    Ptp,
    /// All.
    All,
}

impl StampFilter {
    const fn number(self) -> libc::c_uint {
        match self {
            Self::None => libc::HWTSTAMP_FILTER_NONE,
            Self::Ntp => libc::HWTSTAMP_FILTER_NTP_ALL,
            Self::Ptp => libc::HWTSTAMP_FILTER_PTP_V2_L4_EVENT,
            Self::All => libc::HWTSTAMP_FILTER_ALL,
        }
    }

    fn of(number: libc::c_int) -> Self {
        match libc::c_uint::try_from(number) {
            Ok(libc::HWTSTAMP_FILTER_NONE) => Self::None,
            Ok(libc::HWTSTAMP_FILTER_NTP_ALL) => Self::Ntp,
            Ok(libc::HWTSTAMP_FILTER_ALL) => Self::All,
            _ => Self::Ptp,
        }
    }

    /// Whether it stamps NTP packets.
    #[must_use]
    pub const fn stamps_ntp(self) -> bool {
        matches!(self, Self::Ntp | Self::All)
    }
}

/// What a card can do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CardCapabilities {
    /// Whether it stamps packets that it sends.
    pub transmit: bool,
    /// Whether it stamps packets that it receives, of some kind.
    pub receive: bool,
    /// The number of its clock: N of `/dev/ptpN`.
    pub clock: Option<u32>,
    /// Bits of `HWTSTAMP_FILTER_*`.
    filters: u32,
}

impl CardCapabilities {
    /// A card that stamps what it sends and, by those filters, what it receives.
    #[must_use]
    pub fn new(transmit: bool, filters: &[StampFilter], clock: Option<u32>) -> Self {
        let bits = filters.iter().fold(0, |bits, filter| bits | 1 << filter.number());
        Self { transmit, receive: !filters.is_empty(), clock, filters: bits }
    }

    /// Whether it has that filter.
    #[must_use]
    pub const fn has(&self, filter: StampFilter) -> bool {
        self.filters & (1 << filter.number()) != 0
    }
}

/// Which packets a card stamps now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CardSetting {
    /// Whether it stamps packets that it sends.
    pub transmit: bool,
    /// Which of the received ones.
    pub receive: StampFilter,
}

/// The interfaces of this machine.
pub fn interfaces() -> io::Result<Vec<Interface>> {
    let mut found: Vec<Interface> = Vec::new();
    for address in nix::ifaddrs::getifaddrs()? {
        if found.iter().all(|known| known.name != address.interface_name)
            && let Ok(index) = index_of(&address.interface_name)
        {
            let loopback = address.flags.contains(nix::net::if_::InterfaceFlags::IFF_LOOPBACK);
            found.push(Interface { name: address.interface_name, index, loopback });
        }
    }
    Ok(found)
}

/// The number of the interface of that name.
pub fn index_of(name: &str) -> io::Result<u32> {
    let request = interface_request(name, |request| request.ifr_ifru.ifru_ifindex = 0, libc::SIOCGIFINDEX)?;
    // SAFETY: the kernel filled in this member.
    Ok(u32::try_from(unsafe { request.ifr_ifru.ifru_ifindex }).unwrap_or(0))
}

/// `struct ethtool_ts_info` of linux/ethtool.h.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct StampInfo {
    command: u32,
    so_timestamping: u32,
    phc_index: i32,
    tx_types: u32,
    tx_reserved: [u32; 3],
    rx_filters: u32,
    rx_reserved: [u32; 3],
}

/// `ETHTOOL_GET_TS_INFO` of linux/ethtool.h.
const ETHTOOL_GET_TS_INFO: u32 = 0x41;

/// What the card of an interface can do.
pub fn capabilities(name: &str) -> io::Result<CardCapabilities> {
    let mut info = StampInfo { command: ETHTOOL_GET_TS_INFO, ..StampInfo::default() };
    with_data(name, &mut info, libc::SIOCETHTOOL)?;
    let raw = info.so_timestamping & libc::SOF_TIMESTAMPING_RAW_HARDWARE != 0;
    let can = |flag| raw && info.so_timestamping & flag != 0;
    Ok(CardCapabilities {
        transmit: can(libc::SOF_TIMESTAMPING_TX_HARDWARE) && info.tx_types & (1 << libc::HWTSTAMP_TX_ON) != 0,
        receive: can(libc::SOF_TIMESTAMPING_RX_HARDWARE),
        clock: u32::try_from(info.phc_index).ok(),
        filters: info.rx_filters,
    })
}

/// Which packets it stamps now; not every driver tells.
pub fn setting(name: &str) -> io::Result<CardSetting> {
    let mut config = libc::hwtstamp_config { flags: 0, tx_type: 0, rx_filter: 0 };
    with_data(name, &mut config, libc::SIOCGHWTSTAMP)?;
    Ok(setting_of(&config))
}

/// Has it stamp what it sends, and the packets of the filter; gives what it then does, which may be more. Needs
/// `CAP_NET_ADMIN`.
pub fn enable(name: &str, receive: StampFilter) -> io::Result<CardSetting> {
    let mut config = libc::hwtstamp_config {
        flags: 0,
        tx_type: libc::HWTSTAMP_TX_ON.cast_signed(),
        rx_filter: receive.number().cast_signed(),
    };
    with_data(name, &mut config, libc::SIOCSHWTSTAMP)?;
    Ok(setting_of(&config))
}

fn setting_of(config: &libc::hwtstamp_config) -> CardSetting {
    CardSetting { transmit: config.tx_type != 0, receive: StampFilter::of(config.rx_filter) }
}

/// `struct ethtool_cmd` of linux/ethtool.h, up to what we read of it.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct LinkSettings {
    command: u32,
    supported: u32,
    advertising: u32,
    speed: u16,
    single_octets: [u8; 6],
    maxtxpkt: u32,
    maxrxpkt: u32,
    speed_high: u16,
    more_octets: [u8; 2],
    lp_advertising: u32,
    reserved: [u32; 2],
}

/// `ETHTOOL_GSET` of linux/ethtool.h.
const ETHTOOL_GSET: u32 = 1;

/// The speed of an interface's link: Mbit/s; `None` when there is no link, or it has no speed.
#[must_use]
pub fn link_speed(name: &str) -> Option<u32> {
    let mut settings = LinkSettings { command: ETHTOOL_GSET, ..LinkSettings::default() };
    with_data(name, &mut settings, libc::SIOCETHTOOL).ok()?;
    let speed = u32::from(settings.speed_high) << 16 | u32::from(settings.speed);
    // All ones stands for unknown, in the half or in the whole.
    (speed != 0 && speed != u32::from(u16::MAX) && speed != u32::MAX).then_some(speed)
}

/// Asks something about an interface that is answered in `data`, a structure of the kernel's.
pub(crate) fn with_data<T>(name: &str, data: &mut T, command: libc::c_ulong) -> io::Result<()> {
    let pointer = std::ptr::from_mut(data).cast();
    interface_request(name, |request| request.ifr_ifru.ifru_data = pointer, command).map(drop)
}

/// One call of ioctl about an interface.
fn interface_request(
    name: &str,
    fill: impl FnOnce(&mut libc::ifreq),
    command: libc::c_ulong,
) -> io::Result<libc::ifreq> {
    // SAFETY: ifreq is plain old data, for which all zeroes is a valid value.
    let mut request: libc::ifreq = unsafe { zeroed() };
    if name.is_empty() || name.len() >= request.ifr_name.len() || name.contains('\0') {
        return Err(io::Error::from_raw_os_error(libc::ENODEV));
    }
    for (place, octet) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *place = libc::c_char::from_ne_bytes([octet]);
    }
    fill(&mut request);
    let socket = any_socket()?;
    // SAFETY: the request is alive during the call, and what it points to is the structure that the command is defined with.
    check(unsafe { libc::ioctl(socket.as_raw_fd(), command as _, &raw mut request) })?;
    Ok(request)
}

/// A socket to ask through.
fn any_socket() -> io::Result<OwnedFd> {
    socket(libc::AF_INET, libc::SOCK_DGRAM, 0).or_else(|_| socket(libc::AF_INET6, libc::SOCK_DGRAM, 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_interface_has_a_number_and_no_card() {
        let found = interfaces().expect("a list");
        let loopback = found.iter().find(|interface| interface.name == "lo").expect("every machine has it");
        assert!(loopback.loopback);
        assert_eq!(index_of("lo").expect("its number"), loopback.index);
        let can = capabilities("lo");
        assert!(can.is_err() || can.is_ok_and(|can| !can.transmit && !can.receive && can.clock.is_none()));
        assert!(enable("lo", StampFilter::All).is_err());
        assert_eq!(link_speed("lo"), None);
    }

    #[test]
    fn names_that_are_none_are_refused_before_the_kernel_sees_them() {
        for name in ["", "a name that is far too long", "e\0h0", "there-is-none"] {
            assert!(capabilities(name).is_err(), "{name:?}");
            assert!(index_of(name).is_err(), "{name:?}");
        }
    }

    #[test]
    fn filters_are_the_bits_of_the_kernel() {
        let can = CardCapabilities::new(true, &[StampFilter::All, StampFilter::Ntp], Some(0));
        assert_eq!(can.filters, 1 << 1 | 1 << 15);
        assert!(can.has(StampFilter::All) && can.has(StampFilter::Ntp) && !can.has(StampFilter::Ptp));
        for filter in [StampFilter::None, StampFilter::Ntp, StampFilter::Ptp, StampFilter::All] {
            assert_eq!(StampFilter::of(filter.number().cast_signed()), filter);
        }
    }
}
