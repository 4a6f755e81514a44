//! Raw descriptors: opening them so that every kernel and every simulator agrees, options, flags.

use crate::address::socklen;
use std::io;
use std::mem;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

/// The result of a libc call that returns -1 and sets errno when it fails.
pub(crate) fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// The same for calls that return a number of octets.
pub(crate) fn check_octets(result: isize) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}

/// Opens a socket, closed on exec and nonblocking.
///
/// The flags are part of the type on Linux. Where that is refused (EINVAL), the bare type is asked for and the
/// flags are set afterwards.
pub(crate) fn socket(family: libc::c_int, kind: libc::c_int, protocol: libc::c_int) -> io::Result<OwnedFd> {
    // SAFETY: socket takes plain numbers.
    let fd = unsafe { libc::socket(family, kind | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK, protocol) };
    if fd >= 0 {
        // SAFETY: the descriptor was just opened and nobody else owns it.
        return Ok(unsafe { OwnedFd::from_raw_fd(fd) });
    }
    let error = io::Error::last_os_error();
    if error.raw_os_error() != Some(libc::EINVAL) {
        return Err(error);
    }
    // SAFETY: as above.
    let fd = check(unsafe { libc::socket(family, kind, protocol) })?;
    // SAFETY: the descriptor was just opened and nobody else owns it.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    set_cloexec_and_nonblocking(fd.as_raw_fd());
    Ok(fd)
}

/// Marks a descriptor closed on exec and nonblocking; a refusal is ignored, as simulated descriptors refuse it.
pub(crate) fn set_cloexec_and_nonblocking(fd: RawFd) {
    // SAFETY: fcntl with these commands takes and returns plain numbers.
    unsafe {
        libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC);
        let flags = libc::fcntl(fd, libc::F_GETFL);
        if flags >= 0 {
            libc::fcntl(fd, libc::F_SETFL, flags | libc::O_NONBLOCK);
        }
    }
}

/// Sets a socket option whose value is any plain structure; mostly an int.
pub(crate) fn set_option<T: Copy>(
    fd: &impl AsRawFd,
    level: libc::c_int,
    name: libc::c_int,
    value: T,
) -> io::Result<()> {
    // SAFETY: the pointer and the length describe `value`, alive during the call.
    let result =
        unsafe { libc::setsockopt(fd.as_raw_fd(), level, name, (&raw const value).cast(), socklen::<T>()) };
    check(result).map(drop)
}

/// Binds a socket to the network interface of that name.
pub(crate) fn bind_to_device(fd: &impl AsRawFd, interface: &str) -> io::Result<()> {
    let name = std::ffi::CString::new(interface)?;
    let octets = name.as_bytes_with_nul();
    let length = libc::socklen_t::try_from(octets.len()).map_err(io::Error::other)?;
    // SAFETY: the pointer and the length describe the name, alive during the call.
    let result = unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_BINDTODEVICE,
            octets.as_ptr().cast(),
            length,
        )
    };
    check(result).map(drop)
}

/// The value of a socket option that is an int.
pub(crate) fn int_option(
    fd: &impl AsRawFd,
    level: libc::c_int,
    name: libc::c_int,
) -> io::Result<libc::c_int> {
    let (mut value, mut octets): (libc::c_int, _) = (0, socklen::<libc::c_int>());
    // SAFETY: the pointers are to an int and its length, alive during the call.
    let result =
        unsafe { libc::getsockopt(fd.as_raw_fd(), level, name, (&raw mut value).cast(), &raw mut octets) };
    check(result).map(|_| value)
}

/// The error that waits on a socket (`SO_ERROR`), which reading clears.
pub(crate) fn take_error(fd: &impl AsRawFd) -> io::Result<Option<io::Error>> {
    let error = int_option(fd, libc::SOL_SOCKET, libc::SO_ERROR)?;
    Ok((error != 0).then(|| io::Error::from_raw_os_error(error)))
}

/// A pipe: the end to read from, which blocks, and the end to write to. Both are closed on exec.
pub(crate) fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let mut ends = [0; 2];
    // SAFETY: the pointer is to two ints.
    check(unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) })?;
    // SAFETY: the descriptors were just opened and nobody else owns them.
    Ok(unsafe { (OwnedFd::from_raw_fd(ends[0]), OwnedFd::from_raw_fd(ends[1])) })
}

/// A structure of the kernel interface with every field zero.
///
/// # Safety
/// All zeroes must be a valid value of `T`.
pub(crate) unsafe fn zeroed<T: Copy>() -> T {
    // SAFETY: the caller's promise.
    unsafe { mem::zeroed() }
}
