//! A file that lines are appended to, on a disk that may fill up: logs and statistics.
//!
//! What does not fit is lost, and the clock goes on; that it is lost is said once, and again when there is room. A line of
//! which only half was written ends where it ends: the next one does not go on in it.

use std::fmt;
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use tracing::{info, warn};

/// The file, open.
#[derive(Debug)]
pub(crate) struct AppendedFile<W: Write = File> {
    path: PathBuf,
    file: W,
    /// Entries that could not be written since one could.
    lost: u64,
    /// Whether the last line has no end.
    is_torn: bool,
}

/// What is to be said about it.
#[derive(Debug)]
enum News {
    /// An entry was lost, as the first one.
    Full(io::Error),
    /// One was written, after so many were lost.
    WrittenAgain(u64),
}

impl AppendedFile {
    /// Opens a file that everybody may read, or makes it.
    ///
    /// # Errors
    /// When the file cannot be opened.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let file = File::options().append(true).create(true).mode(0o644).open(path)?;
        Ok(Self { path: path.to_owned(), file, lost: 0, is_torn: false })
    }
}

impl<W: Write> AppendedFile<W> {
    /// Appends whole lines.
    pub(crate) fn append(&mut self, lines: fmt::Arguments<'_>) {
        let news = self.try_to_append(&lines.to_string());
        let path = self.path.display();
        match news {
            None => {}
            Some(News::Full(error)) => {
                warn!("{path}: cannot be written: {error}; what does not fit is lost, and the clock goes on");
            }
            Some(News::WrittenAgain(lost)) => info!("{path}: written again; {lost} entries are missing"),
        }
    }

    fn try_to_append(&mut self, lines: &str) -> Option<News> {
        let mut octets = lines.as_bytes();
        let mut ending: &[u8] = if self.is_torn { b"\n" } else { b"" };
        let written = write_all(&mut self.file, &mut ending).and_then(|()| {
            self.is_torn = false;
            write_all(&mut self.file, &mut octets)
        });
        match written {
            Ok(()) => Some(std::mem::take(&mut self.lost)).filter(|lost| *lost > 0).map(News::WrittenAgain),
            Err(error) => {
                let begun = &lines.as_bytes()[..lines.len() - octets.len()];
                self.is_torn |= begun.last().is_some_and(|last| *last != b'\n');
                self.lost += 1;
                (self.lost == 1).then_some(News::Full(error))
            }
        }
    }
}

/// Writes, and takes off `octets` what was written.
fn write_all(file: &mut impl Write, octets: &mut &[u8]) -> io::Result<()> {
    while !octets.is_empty() {
        match file.write(octets) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => *octets = &octets[written..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A disk with room for so many octets.
    struct Disk {
        octets: Vec<u8>,
        room: usize,
    }

    impl Write for Disk {
        fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
            let fitting = octets.len().min(self.room - self.octets.len());
            if fitting == 0 {
                return Err(io::ErrorKind::StorageFull.into());
            }
            self.octets.extend_from_slice(&octets[..fitting]);
            Ok(fitting)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_full_disk_is_told_once_and_its_end_too_and_no_line_runs_into_another() {
        for room in 0..12 {
            let disk = Disk { octets: Vec::new(), room };
            let mut file = AppendedFile { path: PathBuf::new(), file: disk, lost: 0, is_torn: false };
            let first = file.try_to_append("one 1\ntwo 2\n");
            assert!(matches!(first, Some(News::Full(_))), "{room}: {first:?}");
            assert!(file.try_to_append("three 3\n").is_none(), "{room}");
            let before = file.file.octets.clone();
            file.file.room = 100;
            let again = file.try_to_append("four 4\n");
            assert!(matches!(again, Some(News::WrittenAgain(2))), "{room}: {again:?}");
            assert!(file.try_to_append("five 5\n").is_none());
            let text = String::from_utf8(file.file.octets).expect("text");
            assert!(text.as_bytes().starts_with(&before), "{room}: {text}");
            let lines: Vec<_> = text.lines().collect();
            assert!(lines.ends_with(&["four 4", "five 5"]) && !lines.contains(&""), "{room}: {text}");
        }
    }

    #[test]
    fn lines_that_fit_are_whole() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("log");
        AppendedFile::open(&path).expect("it can be made").append(format_args!("{}\n", "one"));
        AppendedFile::open(&path).expect("it is there").append(format_args!("two\n"));
        assert_eq!(std::fs::read_to_string(&path).expect("it is there"), "one\ntwo\n");
    }
}
