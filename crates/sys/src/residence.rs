//! What of the program's files is in memory because it was read once, and need not stay mapped.

use std::io;
use std::ops::Range;

/// Unmaps the pages of the program and of its libraries: those that are still needed come back by themselves, from the
/// system's cache of files, a few dozen faults of less than a microsecond each. Starting takes several megabytes of code and tables that
/// are never looked at again. Gives how many octets of address space were let go; what is locked in memory stays.
///
/// Pages that differ from their file are never touched, nor their neighbours: a mapping counts only if the system says that
/// it has none.
///
/// # Errors
/// When the system does not tell what is mapped.
pub fn let_go_of_program() -> io::Result<usize> {
    let maps = std::fs::read_to_string("/proc/self/smaps")?;
    let mut octets = 0;
    for range in unchanged(&maps) {
        let start = range.start as *mut libc::c_void;
        // SAFETY: the mapping is read-only and all of its pages are as in the file, so that reading them again gives what
        // was there; the system does that without our noticing.
        let result = unsafe { libc::madvise(start, range.len(), libc::MADV_DONTNEED) };
        if result == 0 {
            octets += range.len();
        }
    }
    Ok(octets)
}

/// The mappings of files that cannot be written to and have no page of their own, in the words of proc_pid_smaps(5).
fn unchanged(maps: &str) -> Vec<Range<usize>> {
    let (mut found, mut candidate) = (Vec::new(), None);
    for line in maps.lines() {
        if let Some(range) = mapping(line) {
            candidate = range;
        } else if let Some(size) = line.strip_prefix("Anonymous:") {
            // It stands once in what is said of each mapping.
            let is_unchanged = size.trim() == "0 kB";
            found.extend(candidate.take().filter(|_| is_unchanged));
        }
    }
    found
}

/// Of a line that begins a mapping: its addresses, if it is read-only, private and of a file.
fn mapping(line: &str) -> Option<Option<Range<usize>>> {
    let mut words = line.split_ascii_whitespace();
    let (start, end) = words.next()?.split_once('-')?;
    let address = |text| usize::from_str_radix(text, 16).ok();
    let range = address(start)?..address(end)?;
    let is_read_only = matches!(words.next(), Some("r--p" | "r-xp"));
    let is_of_file = words.nth(2).is_some_and(|inode| inode != "0");
    Some((is_read_only && is_of_file && !range.is_empty()).then_some(range))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAPS: &str = "\
55d0-55e0 r--p 00000000 fe:00 10027433                   /usr/bin/a program
Rss:                 896 kB
Anonymous:             0 kB
VmFlags: rd mr mw me sd
55e0-55f0 r--p 00280000 fe:00 10027433                   /usr/bin/a program
Anonymous:           152 kB
55f0-5600 rw-p 00280000 fe:00 10027433                   /usr/bin/a program
Anonymous:             0 kB
5600-5610 r-xp 00b41000 fe:00 10027433                   /usr/bin/a program
Anonymous:             0 kB
5610-5620 r--p 00000000 00:00 0                          [vvar]
Anonymous:             0 kB
5620-5630 r-xp 00000000 00:00 0
Anonymous:             0 kB
5630-5640 r--s 00000000 00:00 77                         /dev/shm/shared
Anonymous:             0 kB
5640-5650 r-xp 00000000 00:00 77                         /cut
";

    #[test]
    fn only_what_is_as_in_its_file_is_let_go() {
        assert_eq!(unchanged(MAPS), [0x55d0..0x55e0, 0x5600..0x5610]);
        assert_eq!(unchanged("no mapping\nAnonymous: 0 kB\n\n-\n5-x r--p\n"), []);
    }

    #[test]
    fn the_program_goes_on_as_before() {
        let sum = |text: &str| text.bytes().map(usize::from).sum::<usize>();
        let before = sum(MAPS);
        // Where the tests run without /proc there is nothing to be seen.
        if let Ok(octets) = let_go_of_program() {
            assert!(octets > 0);
        }
        assert_eq!(sum(MAPS), before);
    }
}
