//! Pulses on a pin of a hardware clock of the kernel's PTP subsystem, which stamps them by itself.

use crate::descriptor::{check, check_octets};
use crate::ioctl::{ioctl, writes};
use crate::ptp_clock::PtpClock;
use chime_time::NtpDate;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

const SET_FUNCTION: u64 = writes(b'=', 7, size_of::<Pin>());
const REQUEST_STAMPS: u64 = writes(b'=', 2, size_of::<StampRequest>());
const FUNCTION_NONE: u32 = 0;
const FUNCTION_STAMPS: u32 = 1;
const ENABLE: u32 = 1;
const RISING: u32 = 1 << 1;
const FALLING: u32 = 1 << 2;
/// Stamps that are read at once: as many as the kernel gives in one call.
const STAMPS_MAX: usize = 30;
/// Octets of a stamp: seconds (8), nanoseconds (4), 4 that are reserved, channel (4), and 12 more.
const STAMP_OCTETS: usize = 32;

/// `struct ptp_pin_desc`.
#[repr(C)]
#[derive(Clone, Copy)]
struct Pin {
    name: [u8; 64],
    index: u32,
    function: u32,
    channel: u32,
    reserved: [u32; 5],
}

/// `struct ptp_extts_request`.
#[repr(C)]
#[derive(Clone, Copy)]
struct StampRequest {
    channel: u32,
    flags: u32,
    reserved: [u32; 2],
}

/// Where pulses come in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PulsePin {
    /// The pin that is connected to the channel; `None`: the clock has none that could be.
    pub pin: Option<u32>,
    /// The channel that stamps.
    pub channel: u32,
    /// Whether the falling edge is stamped instead of the rising one.
    pub falling: bool,
}

/// The stamp of a pulse.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PulseStamp {
    /// The hardware clock, in whatever time scale it runs.
    pub at: NtpDate,
    /// The channel that stamped it.
    pub channel: u32,
}

/// A hardware clock that stamps pulses, until it is dropped.
#[derive(Debug)]
pub struct PulseInput {
    clock: PtpClock,
    pin: PulsePin,
}

impl PulseInput {
    /// Has a clock stamp the pulses of a channel. It must be open for writing.
    ///
    /// # Errors
    /// When the pin does not have that function, or the channel does not stamp that edge.
    pub fn new(clock: PtpClock, pin: PulsePin) -> io::Result<Self> {
        set_function(&clock, pin, FUNCTION_STAMPS)?;
        request_stamps(&clock, pin, ENABLE | if pin.falling { FALLING } else { RISING })?;
        Ok(Self { clock, pin })
    }

    /// The clock.
    #[must_use]
    pub const fn clock(&self) -> &PtpClock {
        &self.clock
    }

    /// The stamps that wait, of any channel: before Linux 6.7 all who have the clock open share one queue. Never waits.
    ///
    /// # Errors
    /// When the device is gone.
    pub fn stamps(&self) -> io::Result<Vec<PulseStamp>> {
        let fd = self.clock.as_fd();
        // The device knows no reading without waiting.
        let mut one = libc::pollfd { fd: fd.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: the pointer is to one pollfd, alive during the call.
        check(unsafe { libc::poll(&raw mut one, 1, 0) })?;
        if one.revents == 0 {
            return Ok(Vec::new());
        }
        let mut room = [0_u8; STAMPS_MAX * STAMP_OCTETS];
        // SAFETY: the pointer is to so many octets.
        let read = check_octets(unsafe { libc::read(fd.as_raw_fd(), room.as_mut_ptr().cast(), room.len()) })?;
        Ok(room.get(..read).unwrap_or_default().chunks_exact(STAMP_OCTETS).filter_map(stamp).collect())
    }
}

impl Drop for PulseInput {
    fn drop(&mut self) {
        // Closing the device ends neither.
        let _gone = request_stamps(&self.clock, self.pin, 0);
        let _gone = set_function(&self.clock, self.pin, FUNCTION_NONE);
    }
}

impl AsFd for PulseInput {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.clock.as_fd()
    }
}

fn set_function(clock: &PtpClock, pin: PulsePin, function: u32) -> io::Result<()> {
    let Some(index) = pin.pin else { return Ok(()) };
    let mut description = Pin { name: [0; 64], index, function, channel: pin.channel, reserved: [0; 5] };
    // SAFETY: the request reads one structure of this layout.
    unsafe { ioctl(clock.as_fd(), SET_FUNCTION, &mut description) }.map(drop)
}

fn request_stamps(clock: &PtpClock, pin: PulsePin, flags: u32) -> io::Result<()> {
    let mut request = StampRequest { channel: pin.channel, flags, reserved: [0; 2] };
    // SAFETY: the request reads one structure of this layout.
    unsafe { ioctl(clock.as_fd(), REQUEST_STAMPS, &mut request) }.map(drop)
}

/// One `struct ptp_extts_event`.
fn stamp(octets: &[u8]) -> Option<PulseStamp> {
    let word = |at: usize| Some(u32::from_ne_bytes(octets.get(at..at + 4)?.try_into().ok()?));
    let seconds = i64::from_ne_bytes(octets.get(..8)?.try_into().ok()?);
    let nanos = word(8).filter(|nanos| *nanos < 1_000_000_000)?;
    Some(PulseStamp { at: NtpDate::from_unix(seconds, nanos), channel: word(16)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_those_of_the_kernel_headers() {
        assert_eq!(SET_FUNCTION, 0x4060_3d07, "PTP_PIN_SETFUNC");
        assert_eq!(REQUEST_STAMPS, 0x4010_3d02, "PTP_EXTTS_REQUEST");
    }

    #[test]
    fn stamps_are_read_as_the_kernel_writes_them() {
        let mut octets = [0; STAMP_OCTETS];
        octets[..8].copy_from_slice(&1_800_000_037_i64.to_ne_bytes());
        octets[8..12].copy_from_slice(&250_u32.to_ne_bytes());
        octets[16..20].copy_from_slice(&3_u32.to_ne_bytes());
        let expected = PulseStamp { at: NtpDate::from_unix(1_800_000_037, 250), channel: 3 };
        assert_eq!(stamp(&octets), Some(expected));
        octets[8..12].copy_from_slice(&1_000_000_000_u32.to_ne_bytes());
        assert_eq!(stamp(&octets), None);
        assert_eq!(stamp(&octets[..16]), None);
    }
}
