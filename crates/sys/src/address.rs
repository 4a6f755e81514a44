//! Socket addresses: std's values to and from what the kernel reads and writes.

use std::io;
use std::mem;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

/// Room for any socket address, with the part of it that is in use.
#[derive(Clone, Copy)]
pub(crate) struct RawAddress {
    pub(crate) storage: libc::sockaddr_storage,
    pub(crate) octets: libc::socklen_t,
}

/// Octets of the storage, as the kernel counts them.
#[expect(clippy::cast_possible_truncation, reason = "128 octets")]
pub(crate) const ADDRESS_OCTETS_MAX: libc::socklen_t =
    mem::size_of::<libc::sockaddr_storage>() as libc::socklen_t;

impl RawAddress {
    /// Empty storage for the kernel to write into.
    pub(crate) fn empty() -> Self {
        // SAFETY: sockaddr_storage is plain old data, for which all zeroes is a valid value (AF_UNSPEC).
        let storage = unsafe { mem::zeroed() };
        Self { storage, octets: ADDRESS_OCTETS_MAX }
    }

    /// The address that the kernel wrote, when it is an IPv4 or IPv6 one.
    pub(crate) fn to_socket_addr(self) -> Option<SocketAddr> {
        read(&self.storage, self.octets as usize)
    }

    /// A pointer to the address for calls that read it.
    pub(crate) fn as_ptr(&self) -> *const libc::sockaddr {
        (&raw const self.storage).cast()
    }

    /// A pointer to the storage for calls that write it.
    pub(crate) fn as_mut_ptr(&mut self) -> *mut libc::sockaddr {
        (&raw mut self.storage).cast()
    }
}

impl From<SocketAddr> for RawAddress {
    fn from(address: SocketAddr) -> Self {
        let mut raw = Self::empty();
        raw.octets = match address {
            SocketAddr::V4(v4) => {
                // SAFETY: sockaddr_storage is larger than sockaddr_in and aligned for every address type.
                unsafe { (&raw mut raw.storage).cast::<libc::sockaddr_in>().write(sockaddr_v4(v4)) };
                socklen::<libc::sockaddr_in>()
            }
            SocketAddr::V6(v6) => {
                // SAFETY: sockaddr_storage is larger than sockaddr_in6 and aligned for every address type.
                unsafe { (&raw mut raw.storage).cast::<libc::sockaddr_in6>().write(sockaddr_v6(v6)) };
                socklen::<libc::sockaddr_in6>()
            }
        };
        raw
    }
}

/// The size of a type as the kernel counts it.
#[expect(clippy::cast_possible_truncation, reason = "used for structures of some dozen octets")]
pub(crate) const fn socklen<T>() -> libc::socklen_t {
    mem::size_of::<T>() as libc::socklen_t
}

/// The address family number of the kernel for `address`.
pub(crate) fn family_of(address: &SocketAddr) -> libc::c_int {
    if address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 }
}

/// The name by which `descriptor` is known, or the one it is connected to: `getsockname` or `getpeername`.
pub(crate) fn name_of(
    descriptor: libc::c_int,
    call: unsafe extern "C" fn(libc::c_int, *mut libc::sockaddr, *mut libc::socklen_t) -> libc::c_int,
) -> io::Result<SocketAddr> {
    let mut raw = RawAddress::empty();
    // SAFETY: the pointers are to storage of the length given, alive during the call.
    if unsafe { call(descriptor, raw.as_mut_ptr(), &raw mut raw.octets) } < 0 {
        return Err(io::Error::last_os_error());
    }
    raw.to_socket_addr().ok_or_else(|| io::Error::from_raw_os_error(libc::EAFNOSUPPORT))
}

fn read(storage: &libc::sockaddr_storage, octets: usize) -> Option<SocketAddr> {
    match libc::c_int::from(storage.ss_family) {
        libc::AF_INET if octets >= mem::size_of::<libc::sockaddr_in>() => {
            // SAFETY: the family says what the storage holds; it is larger than sockaddr_in and aligned for it.
            let raw = unsafe { (&raw const *storage).cast::<libc::sockaddr_in>().read() };
            Some(SocketAddr::V4(SocketAddrV4::new(from_in_addr(raw.sin_addr), u16::from_be(raw.sin_port))))
        }
        libc::AF_INET6 if octets >= mem::size_of::<libc::sockaddr_in6>() => {
            // SAFETY: the family says what the storage holds; it is larger than sockaddr_in6 and aligned for it.
            let raw = unsafe { (&raw const *storage).cast::<libc::sockaddr_in6>().read() };
            let address = Ipv6Addr::from(raw.sin6_addr.s6_addr);
            let port = u16::from_be(raw.sin6_port);
            Some(SocketAddr::V6(SocketAddrV6::new(address, port, raw.sin6_flowinfo, raw.sin6_scope_id)))
        }
        _ => None,
    }
}

/// An IPv4 address as the kernel has it: network order in memory.
pub(crate) fn in_addr(address: Ipv4Addr) -> libc::in_addr {
    libc::in_addr { s_addr: u32::from_ne_bytes(address.octets()) }
}

/// The inverse of [`in_addr`].
pub(crate) fn from_in_addr(address: libc::in_addr) -> Ipv4Addr {
    Ipv4Addr::from(address.s_addr.to_ne_bytes())
}

#[expect(clippy::cast_possible_truncation, reason = "address families are small numbers")]
const AF_INET: libc::sa_family_t = libc::AF_INET as libc::sa_family_t;
#[expect(clippy::cast_possible_truncation, reason = "address families are small numbers")]
const AF_INET6: libc::sa_family_t = libc::AF_INET6 as libc::sa_family_t;

fn sockaddr_v4(address: SocketAddrV4) -> libc::sockaddr_in {
    libc::sockaddr_in {
        sin_family: AF_INET,
        sin_port: address.port().to_be(),
        sin_addr: in_addr(*address.ip()),
        sin_zero: [0; 8],
    }
}

fn sockaddr_v6(address: SocketAddrV6) -> libc::sockaddr_in6 {
    libc::sockaddr_in6 {
        sin6_family: AF_INET6,
        sin6_port: address.port().to_be(),
        sin6_flowinfo: address.flowinfo(),
        sin6_addr: libc::in6_addr { s6_addr: address.ip().octets() },
        sin6_scope_id: address.scope_id(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_survive_the_round_trip() {
        for text in ["192.0.2.1:123", "0.0.0.0:0", "[2001:db8::1]:4460", "[::]:65535", "[fe80::1%3]:123"] {
            let address: SocketAddr = text.parse().unwrap();
            assert_eq!(RawAddress::from(address).to_socket_addr(), Some(address), "{text}");
        }
    }

    #[test]
    fn an_address_of_another_family_or_cut_short_is_none() {
        assert_eq!(RawAddress::empty().to_socket_addr(), None);
        let mut short = RawAddress::from("192.0.2.1:123".parse::<SocketAddr>().unwrap());
        short.octets = 8;
        assert_eq!(short.to_socket_addr(), None);
    }
}
