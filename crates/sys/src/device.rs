//! Devices, and what may turn out to be one, by their path.

use crate::descriptor::{check, set_cloexec_and_nonblocking};
use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Opens a device to read and write, nonblocking, and never as our terminal.
pub(crate) fn open(path: &Path) -> io::Result<OwnedFd> {
    let name = CString::new(path.as_os_str().as_bytes()).map_err(io::Error::other)?;
    // By the plain name of the function, which simulators replace.
    // SAFETY: the pointer is to a string with its end, alive during the call.
    let fd = check(unsafe { libc::open(name.as_ptr(), libc::O_RDWR | libc::O_NOCTTY | libc::O_NONBLOCK) })?;
    // SAFETY: the descriptor was just opened and nobody else owns it.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    set_cloexec_and_nonblocking(fd.as_raw_fd());
    Ok(fd)
}

/// Opens whatever is at a path to read it, without waiting: not for the writer of a FIFO, nor for a device to be ready.
///
/// # Errors
/// When it cannot be opened.
pub fn open_at_once(path: &Path) -> io::Result<File> {
    File::options().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path)
}
