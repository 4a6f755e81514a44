//! The system's log, for daemons that have no terminal and no journal to write to.

use std::ffi::{CStr, CString};

/// Says who writes: `ident`, with the process's number, in the facility for daemons.
pub fn open(ident: &'static CStr) {
    // SAFETY: the library keeps the pointer; the string lives for ever.
    unsafe { libc::openlog(ident.as_ptr(), libc::LOG_PID, libc::LOG_DAEMON) };
}

/// Writes one line with a severity from 0 (emergency) to 7 (debug). What is behind a zero octet is cut off.
pub fn write(severity: u8, line: &str) {
    let line = CString::new(line.split('\0').next().unwrap_or_default()).unwrap_or_default();
    // SAFETY: both strings are terminated and live during the call; the format takes exactly one string.
    unsafe { libc::syslog(libc::c_int::from(severity.min(7)), c"%s".as_ptr(), line.as_ptr()) };
}
