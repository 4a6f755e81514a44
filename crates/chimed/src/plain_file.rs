//! Reading files that an operator named: whole, no longer than a limit, and without waiting for anybody.
//!
//! Opening a FIFO waits until somebody writes into it, and a device may go on for ever. So only regular files are read;
//! `/dev/null`, which is an empty one; and what a shell hands over as an open descriptor (`/dev/stdin`, `<(...)`).

use chime_sys::poll::{Interest, PollSet};
use chime_sys::{clock, device};
use chime_time::NtpDate;
use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;
use std::time::{Duration, SystemTime};
use zeroize::Zeroizing;

/// The largest file with some lines of numbers in it: far more than any of them has.
pub(crate) const SMALL_OCTETS_MAX: u64 = 64 << 10;

/// The largest file that people write or bundle: configurations, keys, certificates.
pub(crate) const LARGE_OCTETS_MAX: u64 = 4 << 20;

/// `makedev(1, 3)`: the number of `/dev/null`.
const NULL_DEVICE: u64 = 0x103;

/// Where the descriptors of this process have names.
const OWN_DESCRIPTORS: [&str; 3] = ["/dev/stdin", "/dev/fd", "/proc/self/fd"];

/// How long whoever fills a pipe for us may take for all of it.
const WRITER_TIME_MAX: Duration = Duration::from_secs(60);

/// The text of a file of up to `octets_max` octets.
///
/// # Errors
/// When it cannot be read, is longer, is no UTF-8, or is of a kind that could have us wait for ever. A pipe in which nothing
/// was is an error too: what it had was read before, or its writer failed.
pub(crate) fn read_text(path: &Path, octets_max: u64) -> io::Result<String> {
    let octets = read(path, octets_max)?;
    let text = str::from_utf8(&octets).map_err(|error| io::Error::new(ErrorKind::InvalidData, error))?;
    Ok(text.to_owned())
}

/// The same for any octets, which are erased when dropped.
///
/// # Errors
/// As [`read_text`], but for UTF-8.
pub(crate) fn read(path: &Path, octets_max: u64) -> io::Result<Zeroizing<Vec<u8>>> {
    let file = device::open_at_once(path)?;
    let about = file.metadata()?;
    let kind = about.file_type();
    let is_pipe = kind.is_fifo();
    if is_pipe && !OWN_DESCRIPTORS.iter().any(|place| path.starts_with(place)) {
        return Err(io::Error::other(
            "a FIFO is not read, as that could wait for ever; put the text into a file, or hand it over as /dev/stdin",
        ));
    }
    let is_null = kind.is_char_device() && about.rdev() == NULL_DEVICE;
    if !is_pipe && !is_null && !kind.is_file() {
        return Err(io::Error::other(match kind.is_dir() {
            true => "this is a directory",
            false => "this is no regular file",
        }));
    }
    // Room for all of it at once: growing would leave copies of keys in freed memory.
    let expected = about.len().min(octets_max).saturating_add(1);
    let mut octets = Zeroizing::new(Vec::with_capacity(usize::try_from(expected).unwrap_or(0)));
    let reader = Patient { file, deadline: None };
    reader.take(octets_max.saturating_add(1)).read_to_end(&mut octets)?;
    if octets.len() as u64 > octets_max {
        return Err(io::Error::other(format!("too large: more than {octets_max} octets")));
    }
    if is_pipe && octets.is_empty() {
        return Err(io::Error::other("nothing is in the pipe (any more): it can be read only once"));
    }
    Ok(octets)
}

/// When a file was written, if that can be told.
pub(crate) fn written(path: &Path) -> Option<NtpDate> {
    let time = std::fs::metadata(path).and_then(|about| about.modified()).ok()?;
    let since = time.duration_since(SystemTime::UNIX_EPOCH).ok()?;
    Some(NtpDate::from_unix(i64::try_from(since.as_secs()).ok()?, since.subsec_nanos()))
}

/// A pipe whose writer may take its time, up to a limit.
struct Patient {
    file: File,
    deadline: Option<chime_time::MonoTime>,
}

impl Read for Patient {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.file.read(buffer) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                read => return read,
            }
            let now = clock::mono_now();
            let deadline = *self.deadline.get_or_insert(now.saturating_add(WRITER_TIME_MAX));
            if now >= deadline {
                return Err(io::Error::new(ErrorKind::TimedOut, "whoever writes into the pipe does not end"));
            }
            let mut set = PollSet::new();
            set.add(&self.file, Interest::READ, ());
            let _ready_or_not = set.wait(Some(deadline))?;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::stat::Mode;
    use nix::unistd::mkfifo;
    use std::io::Write;
    use std::os::fd::AsRawFd;
    use std::{fs, thread};

    #[test]
    fn a_fifo_is_refused_with_or_without_a_writer() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("fifo");
        mkfifo(&path, Mode::S_IRWXU).expect("a FIFO");
        let refusal = || read_text(&path, 100).expect_err("it is no file").to_string();
        assert!(refusal().contains("FIFO"), "{}", refusal());
        let both = File::options().read(true).write(true).open(&path).expect("this waits for nobody");
        (&both).write_all(b"server a.example\n").expect("there is room");
        assert!(refusal().contains("FIFO"), "{}", refusal());
    }

    #[test]
    fn devices_and_directories_are_refused_and_the_null_device_is_empty() {
        assert_eq!(read_text(Path::new("/dev/null"), 100).expect("it is empty"), "");
        for path in ["/dev/zero", "/dev/full", "/dev"] {
            let refusal = read_text(Path::new(path), 100).expect_err("it is no file").to_string();
            assert!(refusal.starts_with("this is"), "{path}: {refusal}");
        }
    }

    /// As with `<(...)` and `/dev/stdin` of a shell.
    #[test]
    fn a_pipe_that_was_handed_over_is_read_to_its_end_and_only_once() {
        let (reader, mut writer) = io::pipe().expect("a pipe");
        let path = format!("/dev/fd/{}", reader.as_raw_fd());
        let writing = thread::spawn(move || {
            for part in ["server ", "a.example\n"] {
                thread::sleep(Duration::from_millis(20));
                writer.write_all(part.as_bytes()).expect("somebody reads");
            }
        });
        assert_eq!(read_text(Path::new(&path), 100).expect("it ends"), "server a.example\n");
        writing.join().expect("no panic");
        let refusal = read_text(Path::new(&path), 100).expect_err("it was read already").to_string();
        assert!(refusal.contains("only once"), "{refusal}");
    }

    #[test]
    fn what_is_longer_than_the_limit_is_refused_whatever_its_length_was_said_to_be() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("file");
        fs::write(&path, "12345").expect("it can be written");
        assert_eq!(read_text(&path, 5).expect("it is that long"), "12345");
        assert!(read_text(&path, 4).is_err());
        // Files of the kernel say that they are empty.
        assert!(read_text(Path::new("/proc/self/status"), 20).is_err());
        assert!(read_text(Path::new("/proc/self/status"), 1 << 20).is_ok_and(|text| !text.is_empty()));
        fs::write(&path, [0xff]).expect("it can be written");
        assert_eq!(read_text(&path, 5).expect_err("no UTF-8").kind(), ErrorKind::InvalidData);
    }

    #[test]
    fn when_a_file_was_written_is_known_if_it_is_there() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("drift");
        assert_eq!(written(&path), None);
        std::fs::write(&path, "1 1\n").expect("it can be written");
        let age =
            clock::system_now().unix_seconds_f64() - written(&path).expect("it is there").unix_seconds_f64();
        assert!(age.abs() < 60.0, "{age}");
    }
}
