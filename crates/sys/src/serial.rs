//! Serial lines: what a receiver says, octet by octet.

use crate::descriptor::{check, check_octets, zeroed};
use crate::device;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// An open line, nonblocking.
#[derive(Debug)]
pub struct SerialLine {
    fd: OwnedFd,
}

impl SerialLine {
    /// Opens a line for octets as they come: no echo, no line editing, no signals; with a `baud` at that speed. What is no
    /// terminal (a pipe) is taken as it is.
    ///
    /// # Errors
    /// When it cannot be opened, or does not know the speed.
    pub fn open(path: &Path, baud: Option<u32>) -> io::Result<Self> {
        let fd = device::open(path)?;
        // SAFETY: termios is plain old data, for which all zeroes is a valid value.
        let mut settings: libc::termios = unsafe { zeroed() };
        // SAFETY: the pointer is to a structure that the call fills in.
        if check(unsafe { libc::tcgetattr(fd.as_raw_fd(), &raw mut settings) }).is_ok() {
            // SAFETY: the pointer is to settings that were just read.
            unsafe { libc::cfmakeraw(&raw mut settings) };
            settings.c_cflag |= libc::CLOCAL | libc::CREAD;
            if let Some(baud) = baud {
                let speed = speed(baud).ok_or_else(|| {
                    io::Error::new(
                        io::ErrorKind::InvalidInput,
                        format!("{baud} bit/s is no speed of a serial line"),
                    )
                })?;
                // SAFETY: as above.
                check(unsafe { libc::cfsetspeed(&raw mut settings, speed) })?;
            }
            // SAFETY: as above.
            check(unsafe { libc::tcsetattr(fd.as_raw_fd(), libc::TCSANOW, &raw const settings) })?;
        }
        Ok(Self { fd })
    }

    /// What has come; `WouldBlock` when nothing has, 0 octets when the line is gone.
    ///
    /// # Errors
    /// Those of the device.
    pub fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        // SAFETY: the pointer and the length describe the buffer.
        check_octets(unsafe { libc::read(self.fd.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len()) })
    }
}

impl AsFd for SerialLine {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

const fn speed(baud: u32) -> Option<libc::speed_t> {
    Some(match baud {
        1200 => libc::B1200,
        2400 => libc::B2400,
        4800 => libc::B4800,
        9600 => libc::B9600,
        19_200 => libc::B19200,
        38_400 => libc::B38400,
        57_600 => libc::B57600,
        115_200 => libc::B115200,
        230_400 => libc::B230400,
        460_800 => libc::B460800,
        921_600 => libc::B921600,
        _ => return None,
    })
}
