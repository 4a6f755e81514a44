//! Pulses that the kernel has stamped: RFC 2783, by the requests of Linux.

use crate::device;
use crate::ioctl::{exchanges, ioctl, reads, writes};
use chime_time::NtpDate;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

/// The size that Linux has for all arguments: that of a pointer.
const SIZE: usize = size_of::<usize>();
const GET_PARAMS: u64 = reads(b'p', 0xa1, SIZE);
const SET_PARAMS: u64 = writes(b'p', 0xa2, SIZE);
const GET_CAP: u64 = reads(b'p', 0xa3, SIZE);
const FETCH: u64 = exchanges(b'p', 0xa4, SIZE);
const CAPTURE_ASSERT: i32 = 0x01;
const CAPTURE_CLEAR: i32 = 0x02;
const FORMAT_TIMESPEC: i32 = 0x1000;
const API_VERSION: i32 = 1;

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Time {
    seconds: i64,
    nanos: i32,
    flags: u32,
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Params {
    version: i32,
    mode: i32,
    assert_offset: Time,
    clear_offset: Time,
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Fetch {
    assert_sequence: u32,
    clear_sequence: u32,
    assert: Time,
    clear: Time,
    mode: i32,
    /// How long to wait: not at all.
    timeout: Time,
}

/// An open pulse device.
#[derive(Debug)]
pub struct PulseDevice {
    fd: OwnedFd,
    clear: bool,
    last: Option<u32>,
}

impl PulseDevice {
    /// Opens a device and has it stamp the edge of the pulse that `clear` says: the second, usually falling one, or the
    /// first.
    ///
    /// # Errors
    /// When it cannot be opened, or cannot stamp that edge.
    pub fn open(path: &Path, clear: bool) -> io::Result<Self> {
        let fd = device::open(path)?;
        let edge = if clear { CAPTURE_CLEAR } else { CAPTURE_ASSERT };
        let mut capabilities = 0_i32;
        // SAFETY: the request writes one int.
        unsafe { ioctl(fd.as_fd(), GET_CAP, &mut capabilities) }?;
        if capabilities & edge == 0 {
            let name = if clear { "clear" } else { "assert" };
            return Err(io::Error::new(
                io::ErrorKind::Unsupported,
                format!("it does not stamp the {name} edge"),
            ));
        }
        let mut params = Params::default();
        // SAFETY: the request writes one structure of this layout.
        unsafe { ioctl(fd.as_fd(), GET_PARAMS, &mut params) }?;
        params.version = API_VERSION;
        params.mode = params.mode & !(CAPTURE_ASSERT | CAPTURE_CLEAR) | edge | FORMAT_TIMESPEC;
        // SAFETY: the request reads one structure of this layout.
        unsafe { ioctl(fd.as_fd(), SET_PARAMS, &mut params) }?;
        Ok(Self { fd, clear, last: None })
    }

    /// The newest pulse, by the system clock, unless it was fetched before.
    ///
    /// # Errors
    /// When the device is gone.
    pub fn fetch(&mut self) -> io::Result<Option<NtpDate>> {
        let mut fetched = Fetch::default();
        // SAFETY: the request reads the timeout and writes the rest of a structure of this layout.
        unsafe { ioctl(self.fd.as_fd(), FETCH, &mut fetched) }?;
        let (sequence, time) = if self.clear {
            (fetched.clear_sequence, fetched.clear)
        } else {
            (fetched.assert_sequence, fetched.assert)
        };
        let is_new = sequence != 0 && self.last.replace(sequence) != Some(sequence);
        let nanos = u32::try_from(time.nanos).ok().filter(|nanos| *nanos < 1_000_000_000);
        Ok(nanos.filter(|_| is_new).map(|nanos| NtpDate::from_unix(time.seconds, nanos)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_pointer_width = "64")]
    fn structures_are_laid_out_as_the_kernel_has_them() {
        assert_eq!((size_of::<Time>(), size_of::<Params>(), size_of::<Fetch>()), (16, 40, 64));
        assert_eq!(std::mem::offset_of!(Fetch, timeout), 48);
    }

    #[test]
    fn what_is_no_pulse_device_is_refused() {
        assert!(PulseDevice::open(Path::new("/dev/null"), false).is_err());
        assert!(PulseDevice::open(Path::new("/dev/no-such-pulses"), true).is_err());
    }
}
