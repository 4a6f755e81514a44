//! Numbers of requests to devices, as Linux composes them.

use crate::descriptor::check;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

const WRITE: u64 = 1;
const READ: u64 = 2;

/// A request: which way its argument goes, whose it is, its number, and the size of its argument.
const fn request(direction: u64, kind: u8, number: u8, octets: usize) -> u64 {
    direction << 30 | (octets as u64) << 16 | (kind as u64) << 8 | number as u64
}

/// A request without an argument.
pub(crate) const fn plain(kind: u8, number: u8) -> u64 {
    request(0, kind, number, 0)
}

pub(crate) const fn reads(kind: u8, number: u8, octets: usize) -> u64 {
    request(READ, kind, number, octets)
}

pub(crate) const fn writes(kind: u8, number: u8, octets: usize) -> u64 {
    request(WRITE, kind, number, octets)
}

pub(crate) const fn exchanges(kind: u8, number: u8, octets: usize) -> u64 {
    request(READ | WRITE, kind, number, octets)
}

/// Makes a request.
///
/// # Safety
/// `argument` must be what the device takes for this request.
pub(crate) unsafe fn ioctl<T>(fd: BorrowedFd<'_>, request: u64, argument: &mut T) -> io::Result<libc::c_int> {
    // SAFETY: as the caller promises; the pointer is to a value that lives during the call.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), request as _, std::ptr::from_mut(argument)) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_those_of_the_kernel_headers() {
        assert_eq!(reads(b'p', 0xa1, 8), 0x8008_70a1, "PPS_GETPARAMS");
        assert_eq!(exchanges(b'p', 0xa4, 8), 0xc008_70a4, "PPS_FETCH");
        assert_eq!(writes(b'=', 5, 832), 0x4340_3d05, "PTP_SYS_OFFSET");
        assert_eq!(exchanges(b'=', 8, 64), 0xc040_3d08, "PTP_SYS_OFFSET_PRECISE");
        assert_eq!(exchanges(b'=', 9, 1216), 0xc4c0_3d09, "PTP_SYS_OFFSET_EXTENDED");
    }
}
