//! A guest's first file system: an archive that the kernel unpacks into memory (its `buffer-format.rst`: "newc" of cpio).

use anyhow::{Context, Result, ensure};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

const FOLDER: u32 = 0o040_755;
const PROGRAM: u32 = 0o100_755;
const DEVICE: u32 = 0o020_600;

/// `/dev/console`, without which the first process has no standard output.
const CONSOLE: (u32, u32) = (5, 1);

/// An archive that grows.
#[derive(Debug, Default)]
pub(crate) struct Initramfs {
    octets: Vec<u8>,
    /// What is in it: folders, and files by their whole paths.
    names: BTreeSet<String>,
}

impl Initramfs {
    /// An archive with a console, and with folders at these paths.
    pub(crate) fn new(folders: &[&str]) -> Self {
        let mut archive = Self::default();
        for folder in folders {
            archive.folder(folder.trim_start_matches('/'));
        }
        archive.folder("dev");
        archive.entry("dev/console", DEVICE, CONSOLE, &[]);
        archive
    }

    /// Adds a file that everybody may read and run. What is there already stays.
    pub(crate) fn file(&mut self, path: &str, content: &[u8]) {
        let name = path.trim_start_matches('/');
        if !self.names.contains(name) {
            self.folder(name.rsplit_once('/').map_or("", |(folder, _)| folder));
            self.entry(name, PROGRAM, (0, 0), content);
        }
    }

    /// Adds a program of this machine, and the libraries that it is linked with, at their own places.
    pub(crate) fn program(&mut self, path: &str, program: &Path) -> Result<()> {
        self.copy(path, program)?;
        let output = Command::new("ldd").arg(program).output().context("running ldd")?;
        ensure!(output.status.success(), "ldd {} failed: {}", program.display(), output.status);
        for library in libraries(&String::from_utf8_lossy(&output.stdout)) {
            self.copy(library, library.as_ref())?;
        }
        Ok(())
    }

    /// Adds a file of this machine.
    pub(crate) fn copy(&mut self, path: &str, file: &Path) -> Result<()> {
        let content = fs::read(file).with_context(|| format!("reading {}", file.display()))?;
        self.file(path, &content);
        Ok(())
    }

    /// The archive as the kernel takes it.
    pub(crate) fn finish(mut self) -> Vec<u8> {
        self.entry("TRAILER!!!", 0, (0, 0), &[]);
        self.octets
    }

    /// Adds a folder, after those that it is in.
    fn folder(&mut self, name: &str) {
        if !name.is_empty() && !self.names.contains(name) {
            self.folder(name.rsplit_once('/').map_or("", |(folder, _)| folder));
            self.entry(name, FOLDER, (0, 0), &[]);
        }
    }

    fn entry(&mut self, name: &str, mode: u32, (major, minor): (u32, u32), content: &[u8]) {
        let name_octets = name.len() + 1;
        // Number, mode, user, group, links, time, size, device (two), device that it is (two), size of the name, checksum.
        let fields = [self.names.len(), mode as usize, 0, 0, 1, 0, content.len(), 0, 0];
        let fields = fields.into_iter().chain([major as usize, minor as usize, name_octets, 0]);
        self.octets.extend(b"070701");
        for field in fields {
            self.octets.extend(format!("{field:08x}").as_bytes());
        }
        self.octets.extend(name.as_bytes());
        self.octets.push(0);
        self.pad();
        self.octets.extend(content);
        self.pad();
        self.names.insert(name.to_owned());
    }

    /// Names and contents end at whole words.
    fn pad(&mut self) {
        self.octets.resize(self.octets.len().next_multiple_of(4), 0);
    }
}

/// The files that `ldd` names.
fn libraries(told: &str) -> impl Iterator<Item = &str> {
    told.split_whitespace().filter(|word| word.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_those_with_a_path() {
        let told =
            "\tlinux-vdso.so.1 (0x1)\n\tlibc.so.6 => /lib/libc.so.6 (0x2)\n\t/lib64/ld-linux.so.2 (0x3)\n";
        assert_eq!(libraries(told).collect::<Vec<_>>(), ["/lib/libc.so.6", "/lib64/ld-linux.so.2"]);
    }

    #[test]
    fn an_entry_has_its_folders_before_it_and_ends_at_a_whole_word() {
        let mut archive = Initramfs::default();
        archive.file("/a/b/c", b"12345");
        archive.file("/a/b/c", b"again");
        let names: Vec<&str> = archive.names.iter().map(String::as_str).collect();
        assert_eq!(names, ["a", "a/b", "a/b/c"]);
        let octets = archive.finish();
        assert_eq!(octets.len() % 4, 0);
        assert_eq!(octets.windows(6).filter(|word| word == b"070701").count(), 4);
        let start = octets.windows(5).position(|word| word == b"12345").expect("the content");
        let header = start - 6 - 13 * 8 - "a/b/c\0".len();
        assert_eq!(&octets[header..header + 14], b"07070100000002");
        assert_eq!(&octets[header + 54..header + 62], b"00000005", "the size");
        assert_eq!(start % 4, 0);
    }
}
