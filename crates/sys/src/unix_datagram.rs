//! Datagram sockets in the file system, for control protocols.

use crate::descriptor::{check, check_octets, socket, zeroed};
use std::ffi::OsStr;
use std::io;
use std::mem::{offset_of, size_of};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// A bound socket, nonblocking and closed on exec. Its file stays when it is dropped.
#[derive(Debug)]
pub struct UnixDatagram {
    fd: OwnedFd,
}

/// Where the path starts in an address.
const PATH_AT: usize = offset_of!(libc::sockaddr_un, sun_path);

impl UnixDatagram {
    /// Opens a socket at `path`, where nothing may be yet.
    pub fn bound_to(path: &Path) -> io::Result<Self> {
        let (address, octets) = address_of(path)?;
        let fd = socket(libc::AF_UNIX, libc::SOCK_DGRAM, 0)?;
        // SAFETY: the pointer and the length describe the address, alive during the call.
        check(unsafe { libc::bind(fd.as_raw_fd(), (&raw const address).cast(), octets) })?;
        Ok(Self { fd })
    }

    /// Receives one datagram; gives its length and the path of its sender, if that has one. `WouldBlock` when there is
    /// none.
    pub fn recv_from(&self, buffer: &mut [u8]) -> io::Result<(usize, Option<PathBuf>)> {
        let mut part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
        let mut control = [0u64; 32];
        // SAFETY: both are plain old data, for which all zeroes is a valid value.
        let (mut address, mut header): (libc::sockaddr_un, libc::msghdr) = unsafe { (zeroed(), zeroed()) };
        header.msg_name = (&raw mut address).cast();
        header.msg_namelen = crate::address::socklen::<libc::sockaddr_un>();
        header.msg_iov = &raw mut part;
        header.msg_iovlen = 1;
        header.msg_control = control.as_mut_ptr().cast();
        header.msg_controllen = size_of_val(&control) as _;
        // SAFETY: every pointer in the header is to memory of the length beside it, alive during the call.
        let octets = check_octets(unsafe { libc::recvmsg(self.fd.as_raw_fd(), &raw mut header, 0) })?;
        Ok((octets.min(buffer.len()), path_of(&address, header.msg_namelen as usize)))
    }

    /// Sends one datagram to the socket at `path`.
    pub fn send_to(&self, octets: &[u8], path: &Path) -> io::Result<()> {
        let (mut address, length) = address_of(path)?;
        let mut part = libc::iovec { iov_base: octets.as_ptr().cast_mut().cast(), iov_len: octets.len() };
        // SAFETY: msghdr is plain old data, for which all zeroes is a valid value.
        let mut header: libc::msghdr = unsafe { zeroed() };
        header.msg_name = (&raw mut address).cast();
        header.msg_namelen = length;
        header.msg_iov = &raw mut part;
        header.msg_iovlen = 1;
        // SAFETY: every pointer in the header is to memory of the length beside it, alive during the call; it is only read.
        let sent = unsafe { libc::sendmsg(self.fd.as_raw_fd(), &raw const header, libc::MSG_NOSIGNAL) };
        check_octets(sent).map(drop)
    }
}

impl AsFd for UnixDatagram {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn address_of(path: &Path) -> io::Result<(libc::sockaddr_un, libc::socklen_t)> {
    let octets = path.as_os_str().as_bytes();
    // SAFETY: sockaddr_un is plain old data, for which all zeroes is a valid value.
    let mut address: libc::sockaddr_un = unsafe { zeroed() };
    if octets.is_empty() || octets.contains(&0) || octets.len() >= address.sun_path.len() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "the path is too long for a socket, or odd"));
    }
    address.sun_family = libc::sa_family_t::try_from(libc::AF_UNIX).unwrap_or_default();
    for (place, octet) in address.sun_path.iter_mut().zip(octets) {
        *place = octet.cast_signed() as libc::c_char;
    }
    let length = libc::socklen_t::try_from(PATH_AT + octets.len() + 1).map_err(io::Error::other)?;
    Ok((address, length))
}

/// The path in an address of `octets` octets; `None` for those without a name and for abstract ones.
fn path_of(address: &libc::sockaddr_un, octets: usize) -> Option<PathBuf> {
    let room = octets.min(size_of::<libc::sockaddr_un>()).checked_sub(PATH_AT)?;
    let path: Vec<u8> = address.sun_path[..room]
        .iter()
        .map(|octet| u8::from_ne_bytes(octet.to_ne_bytes()))
        .take_while(|octet| *octet != 0)
        .collect();
    (!path.is_empty()).then(|| PathBuf::from(OsStr::from_bytes(&path)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_finds_its_way_back_by_the_path() {
        let folder = std::env::temp_dir().join(format!("chime-sys-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let (one, other) = (folder.join("one"), folder.join("other"));
        let (first, second) =
            (UnixDatagram::bound_to(&one).unwrap(), UnixDatagram::bound_to(&other).unwrap());
        let mut buffer = [0; 16];
        assert_eq!(first.recv_from(&mut buffer).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        second.send_to(b"hello", &one).unwrap();
        let (octets, from) = first.recv_from(&mut buffer).unwrap();
        assert_eq!((&buffer[..octets], from), (&b"hello"[..], Some(other)));
        std::os::unix::net::UnixDatagram::unbound().unwrap().send_to(b"x", &one).unwrap();
        assert_eq!(first.recv_from(&mut buffer).unwrap(), (1, None));
        assert!(UnixDatagram::bound_to(&one).is_err(), "the place is taken");
        assert!(UnixDatagram::bound_to(Path::new(&"x".repeat(200))).is_err());
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
