//! Programs in the kernel: maps, loading, and network interfaces that they are attached to.
//!
//! bpf(2) has no function in libc, so this alone goes past it; nothing here is called unless a fast path is configured,
//! and simulators configure none. All of it dies with its descriptors, and so with the process, however that ends. Making maps
//! and loading takes CAP_BPF, attaching CAP_NET_ADMIN; what has a descriptor is read and written without either.

use crate::descriptor::check;
use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// Kinds of maps; the numbers are those of linux/bpf.h.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum MapKind {
    /// By key.
    Hash = 1,
    /// By number.
    Array = 2,
    /// By number, a value for each processor.
    PerProcessorArray = 6,
    /// By key; when it is full, entries go that were not used for longest.
    RecentHash = 9,
    /// By the longest prefix of a key.
    LongestPrefix = 11,
    /// By number, the descriptors of [`FrameSocket`](crate::frame_socket::FrameSocket)s, each of which leaves when it is
    /// closed.
    Sockets = 17,
}

impl MapKind {
    const fn flags(self) -> u32 {
        const NO_PREALLOCATION: u32 = 1;
        if matches!(self, Self::LongestPrefix) { NO_PREALLOCATION } else { 0 }
    }
}

/// A map that programs and the daemon share.
#[derive(Debug)]
pub struct Map {
    fd: OwnedFd,
    kind: MapKind,
    key_octets: usize,
    value_octets: usize,
}

mod command {
    pub(super) const MAP_CREATE: libc::c_long = 0;
    pub(super) const MAP_LOOKUP: libc::c_long = 1;
    pub(super) const MAP_UPDATE: libc::c_long = 2;
    pub(super) const MAP_DELETE: libc::c_long = 3;
    pub(super) const PROGRAM_LOAD: libc::c_long = 5;
    pub(super) const PROGRAM_TEST_RUN: libc::c_long = 10;
    pub(super) const LINK_CREATE: libc::c_long = 28;
}

/// The start of `union bpf_attr` for each command; what is left out is zero to the kernel.
mod attribute {
    #[repr(C)]
    #[derive(Default)]
    pub(super) struct MapCreate {
        pub(super) kind: u32,
        pub(super) key_octets: u32,
        pub(super) value_octets: u32,
        pub(super) entries_max: u32,
        pub(super) flags: u32,
        pub(super) inner_map: u32,
        pub(super) numa_node: u32,
        pub(super) name: [u8; 16],
    }

    #[repr(C)]
    #[derive(Default)]
    pub(super) struct MapElement {
        pub(super) map: u32,
        pub(super) padding: u32,
        pub(super) key: u64,
        pub(super) value: u64,
        pub(super) flags: u64,
    }

    #[repr(C)]
    #[derive(Default)]
    pub(super) struct ProgramLoad {
        pub(super) kind: u32,
        pub(super) instructions: u32,
        pub(super) code: u64,
        pub(super) licence: u64,
        pub(super) log_level: u32,
        pub(super) log_octets: u32,
        pub(super) log: u64,
        pub(super) kernel_version: u32,
        pub(super) flags: u32,
        pub(super) name: [u8; 16],
        pub(super) interface: u32,
        pub(super) attach_type: u32,
    }

    #[repr(C)]
    #[derive(Default)]
    pub(super) struct ProgramTestRun {
        pub(super) program: u32,
        pub(super) verdict: u32,
        pub(super) octets_in: u32,
        pub(super) octets_out: u32,
        pub(super) frame_in: u64,
        pub(super) frame_out: u64,
        pub(super) repeat: u32,
        pub(super) nanoseconds: u32,
        pub(super) context_octets: u32,
        pub(super) context_octets_out: u32,
        pub(super) context: u64,
        pub(super) context_out: u64,
        pub(super) flags: u32,
        pub(super) processor: u32,
        pub(super) batch: u32,
        pub(super) padding: u32,
    }

    #[repr(C)]
    #[derive(Default)]
    pub(super) struct LinkCreate {
        pub(super) program: u32,
        pub(super) interface: u32,
        pub(super) attach_type: u32,
        pub(super) flags: u32,
    }
}

/// One call of bpf(2).
///
/// # Safety
/// `attributes` must be what `number` takes, and every address in it that of as much memory as stands beside it, alive
/// and, where the kernel writes, borrowed mutably.
unsafe fn bpf<T>(number: libc::c_long, attributes: &mut T) -> io::Result<libc::c_int> {
    // SAFETY: the pointer and the length describe `attributes`; for the rest, the caller's promise.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, number, std::ptr::from_mut(attributes), size_of::<T>()) };
    check(libc::c_int::try_from(result).unwrap_or(-1))
}

/// Takes what a command opened.
fn opened(descriptor: libc::c_int) -> OwnedFd {
    // SAFETY: the kernel has just opened the descriptor, closed on exec, and nobody else owns it.
    unsafe { OwnedFd::from_raw_fd(descriptor) }
}

fn number(fd: &OwnedFd) -> u32 {
    fd.as_raw_fd().cast_unsigned()
}

fn address<T: ?Sized>(of: *const T) -> u64 {
    of.cast::<u8>().addr() as u64
}

/// At most 15 octets of a name, which only people read.
fn short_name(name: &str) -> [u8; 16] {
    let mut short = [0; 16];
    short.iter_mut().zip(name.bytes().take(15)).for_each(|(to, octet)| *to = octet);
    short
}

fn length(octets: usize) -> io::Result<u32> {
    u32::try_from(octets).map_err(io::Error::other)
}

impl Map {
    /// Makes an empty map for `entries_max` entries.
    pub fn new(
        name: &str,
        kind: MapKind,
        (key_octets, value_octets): (usize, usize),
        entries_max: u32,
    ) -> io::Result<Self> {
        let mut attributes = attribute::MapCreate {
            kind: kind as u32,
            key_octets: length(key_octets)?,
            value_octets: length(value_octets)?,
            entries_max,
            flags: kind.flags(),
            name: short_name(name),
            ..attribute::MapCreate::default()
        };
        // SAFETY: there are only numbers in these attributes.
        let fd = unsafe { bpf(command::MAP_CREATE, &mut attributes) }?;
        Ok(Self { fd: opened(fd), kind, key_octets, value_octets })
    }

    /// The descriptor, as it stands in a program.
    #[must_use]
    pub fn descriptor(&self) -> i32 {
        self.fd.as_raw_fd()
    }

    /// Writes the value of a key, whether or not there was one. Not for maps with a value for each processor.
    pub fn insert(&self, key: &[u8], value: &[u8]) -> io::Result<()> {
        if value.len() != self.value_octets || self.kind == MapKind::PerProcessorArray {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let mut attributes = attribute::MapElement { value: address(value), ..self.element(key)? };
        // SAFETY: key and value have the lengths that the kernel knows of the map; it only reads them.
        unsafe { bpf(command::MAP_UPDATE, &mut attributes) }.map(drop)
    }

    /// Removes a key; that it is not there is no error.
    pub fn remove(&self, key: &[u8]) -> io::Result<()> {
        let mut attributes = self.element(key)?;
        // SAFETY: the key has the length that the kernel knows of the map; it only reads it.
        match unsafe { bpf(command::MAP_DELETE, &mut attributes) } {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            result => result.map(drop),
        }
    }

    /// The values of a key, one for each processor that the machine may have; of other kinds of maps there is one.
    pub fn values(&self, key: &[u8]) -> io::Result<Vec<Vec<u8>>> {
        let (each, count) = match self.kind {
            MapKind::PerProcessorArray => (self.value_octets.next_multiple_of(8), processors()?),
            _ => (self.value_octets, 1),
        };
        let mut octets = vec![0; each * count];
        let mut attributes =
            attribute::MapElement { value: address(octets.as_mut_ptr()), ..self.element(key)? };
        // SAFETY: the key has the length that the kernel knows of the map, and there is room for a value of every processor.
        unsafe { bpf(command::MAP_LOOKUP, &mut attributes) }?;
        Ok(octets.chunks_exact(each).map(|value| value[..self.value_octets].to_vec()).collect())
    }

    fn element(&self, key: &[u8]) -> io::Result<attribute::MapElement> {
        if key.len() != self.key_octets {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        Ok(attribute::MapElement { map: number(&self.fd), key: address(key), ..Default::default() })
    }
}

/// Processors that the kernel may have: it gives values for all of them, whether they are there or not.
fn processors() -> io::Result<usize> {
    let text = std::fs::read_to_string("/sys/devices/system/cpu/possible")?;
    highest(&text)
        .map(|last| last + 1)
        .ok_or_else(|| io::Error::other("the number of processors is not known"))
}

/// The highest number in a list like `0-3,5`.
fn highest(list: &str) -> Option<usize> {
    list.trim().rsplit([',', '-']).next()?.parse().ok()
}

/// Why the kernel does not take a program.
#[derive(Debug, thiserror::Error)]
#[error("{error}{}", if .log.is_empty() { String::new() } else { format!(": {}", .log) })]
pub struct LoadError {
    /// What it says for short.
    pub error: io::Error,
    /// The end of what its verifier has to say.
    pub log: String,
}

/// A program for frames that have just come in.
#[derive(Debug)]
pub struct XdpProgram(OwnedFd);

/// Under what our programs may be used. The helpers that they call are not among those for programs under the GPL only.
const LICENCE: &str = "Apache-2.0 OR MIT";
const PROGRAM_KIND_XDP: u32 = 6;
const ATTACH_TYPE_XDP: u32 = 37;
const ANY_ALIGNMENT: u32 = 1 << 1;
/// Octets that the verifier may fill.
const LOG_OCTETS: usize = 1 << 16;
/// Lines of the log that are worth reading: the last ones.
const LOG_LINES: usize = 4;

impl XdpProgram {
    /// Has the kernel verify and take a program.
    pub fn load(name: &str, code: &[[u8; 8]]) -> Result<Self, LoadError> {
        // Asked for a log, older kernels refuse even a good program when that does not fit.
        load(name, code, &mut []).or_else(|_| {
            let mut log = vec![0; LOG_OCTETS];
            load(name, code, &mut log).map_err(|error| LoadError { error, log: last_lines(&log) })
        })
    }

    /// Has the program make so many frames of this length, as if they had come in at an interface; what it answers goes out
    /// there. Since Linux 5.18; takes the privileges of loading.
    pub fn send(&self, octets: usize, frames: u32, interface: u32) -> io::Result<()> {
        const LIVE_FRAMES: u32 = 1 << 1;
        let frame = vec![0u8; octets];
        // `struct xdp_md`: start, end, metadata, interface, queue, way out.
        let context = [0, length(octets)?, 0, interface, 0, 0];
        let mut attributes = attribute::ProgramTestRun {
            program: number(&self.0),
            octets_in: length(octets)?,
            frame_in: address(frame.as_slice()),
            repeat: frames,
            context_octets: length(size_of_val(&context))?,
            context: address(&raw const context),
            flags: LIVE_FRAMES,
            ..Default::default()
        };
        // SAFETY: a frame and a context are read, both as long as said.
        unsafe { bpf(command::PROGRAM_TEST_RUN, &mut attributes) }.map(drop)
    }

    /// Runs the program on a frame without a network; gives its verdict and the frame as it is then, behind what the program has
    /// put before it. Takes the privileges of loading.
    pub fn test_run(&self, frame: &[u8]) -> io::Result<(u32, Vec<u8>)> {
        const METADATA_OCTETS_MAX: usize = 256;
        let mut out = vec![0u8; frame.len() + METADATA_OCTETS_MAX];
        let mut attributes = attribute::ProgramTestRun {
            program: number(&self.0),
            octets_in: length(frame.len())?,
            octets_out: length(out.len())?,
            frame_in: address(frame),
            frame_out: address(out.as_mut_ptr()),
            repeat: 1,
            ..Default::default()
        };
        // SAFETY: one frame is read and the other written, both as long as said.
        unsafe { bpf(command::PROGRAM_TEST_RUN, &mut attributes) }?;
        out.truncate(attributes.octets_out as usize);
        Ok((attributes.verdict, out))
    }
}

fn load(name: &str, code: &[[u8; 8]], log: &mut [u8]) -> io::Result<XdpProgram> {
    let licence = CString::new(LICENCE)?;
    let mut attributes = attribute::ProgramLoad {
        kind: PROGRAM_KIND_XDP,
        instructions: length(code.len())?,
        code: address(code),
        licence: address(licence.as_ptr()),
        log_level: u32::from(!log.is_empty()),
        log_octets: length(log.len())?,
        log: if log.is_empty() { 0 } else { address(log.as_mut_ptr()) },
        // These processors load and store at any address, which a user-mode kernel on them does not know.
        flags: if cfg!(target_arch = "x86_64") { ANY_ALIGNMENT } else { 0 },
        name: short_name(name),
        attach_type: ATTACH_TYPE_XDP,
        ..Default::default()
    };
    // SAFETY: code and licence are only read, the one as long as said, the other up to its zero; the log, where there is
    // one, is written as far as said.
    unsafe { bpf(command::PROGRAM_LOAD, &mut attributes) }.map(|fd| XdpProgram(opened(fd)))
}

/// The last lines of a log that ends with a zero.
fn last_lines(log: &[u8]) -> String {
    let text = log.split(|octet| *octet == 0).next().unwrap_or_default();
    let text = String::from_utf8_lossy(text);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LOG_LINES)..].join("; ")
}

/// Where a program sits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum XdpMode {
    /// In the driver, before the kernel has made anything of a frame.
    Driver,
    /// In the kernel, for every driver: slower.
    Generic,
}

/// A program at work. It ends with this value, or with the process.
#[derive(Debug)]
pub struct XdpLink(#[expect(dead_code, reason = "what it is good for is to be closed")] OwnedFd);

impl XdpLink {
    /// Attaches a program to the interface with this index. Not where another program is attached already.
    pub fn attach(program: &XdpProgram, interface: u32, mode: XdpMode) -> io::Result<Self> {
        const GENERIC: u32 = 1 << 1;
        const DRIVER: u32 = 1 << 2;
        let mut attributes = attribute::LinkCreate {
            program: number(&program.0),
            interface,
            attach_type: ATTACH_TYPE_XDP,
            flags: if mode == XdpMode::Driver { DRIVER } else { GENERIC },
        };
        // SAFETY: there are only numbers in these attributes.
        unsafe { bpf(command::LINK_CREATE, &mut attributes) }.map(|fd| Self(opened(fd)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_processor_is_found_in_lists() {
        for (text, last) in [("0\n", Some(0)), ("0-3\n", Some(3)), ("0-3,8-11", Some(11)), ("", None)] {
            assert_eq!(highest(text), last, "{text}");
        }
        assert!(processors().expect("Linux tells") >= 1);
    }

    #[test]
    fn of_a_log_the_last_lines_are_kept() {
        assert_eq!(last_lines(b"a\nb\nc\nd\ne\n\0\0x"), "b; c; d; e");
        assert_eq!(last_lines(&[0; 4]), "");
    }

    #[test]
    fn wrong_lengths_are_refused_before_the_kernel_sees_them() {
        let Ok(map) = Map::new("test", MapKind::Hash, (4, 8), 2) else {
            // Without privileges there is no map to be careful with.
            return;
        };
        assert!(map.insert(&[1; 3], &[0; 8]).is_err() && map.insert(&[1; 4], &[0; 7]).is_err());
        map.insert(&[1; 4], &[7; 8]).expect("inserted");
        assert_eq!(map.values(&[1; 4]).expect("there"), [[7; 8]]);
        map.remove(&[1; 4]).expect("removed");
        map.remove(&[1; 4]).expect("still removed");
        assert_eq!(map.values(&[1; 4]).expect_err("gone").kind(), io::ErrorKind::NotFound);
    }
}
