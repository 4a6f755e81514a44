//! Programs of Debian's releases, unpacked into `.lab/` of the working tree instead of installed.
//!
//! apt resolves and downloads with a state of its own that knows of no installed package, so what is asked for comes with
//! all its libraries; programs are then run through that release's own dynamic loader. This needs no privilege, starts no
//! service, changes nothing that is installed, and works on any machine that has apt. Start at [`Unpacked`].

use crate::root;
use anyhow::{Context, Result, ensure};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A release of Debian.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Suite {
    /// Debian 12.
    Bookworm,
    /// Debian 13.
    Trixie,
}

impl Suite {
    /// Its name in the archive.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Bookworm => "bookworm",
            Self::Trixie => "trixie",
        }
    }
}

/// Packages of one release, in a folder.
#[derive(Clone, Copy, Debug)]
pub struct Unpacked {
    /// The folder's name in `.lab/`.
    pub folder: &'static str,
    /// Where the packages are from.
    pub suite: Suite,
    /// What is wanted, with all that it depends on. Each is resolved alone, as some conflict with each other.
    pub packages: &'static [&'static str],
    /// How names of packages begin that are unpacked, of all that were downloaded.
    pub unpacked: &'static [&'static str],
}

impl Unpacked {
    fn folder(&self) -> PathBuf {
        lab().join(self.folder)
    }

    /// The root of the unpacked packages.
    #[must_use]
    pub fn root(&self) -> PathBuf {
        self.folder().join("root")
    }

    /// Downloads and unpacks what is missing; says so when it does.
    ///
    /// The mark is written last, and says what was unpacked: a download that was cut off, or that had less, is made again.
    ///
    /// # Errors
    /// When apt cannot get the packages.
    pub fn ensure(&self) -> Result<()> {
        let folder = self.folder();
        let mark = folder.join("complete");
        let packages = self.packages.join(", ");
        if fs::read_to_string(&mark).is_ok_and(|unpacked| unpacked == packages) {
            return Ok(());
        }
        println!("unpacking {packages} of Debian {} into {}", self.suite.name(), folder.display());
        self.make(&folder)
            .with_context(|| format!("cannot get {packages} of Debian {}", self.suite.name()))?;
        fs::write(&mark, packages)?;
        Ok(())
    }

    fn make(&self, folder: &Path) -> Result<()> {
        if folder.exists() {
            fs::remove_dir_all(folder)?;
        }
        let state = folder.join("apt");
        let configuration = write_apt_configuration(self.suite, &state)?;
        apt(&configuration, &["update", "-qq"])?;
        for package in self.packages {
            apt(&configuration, &["install", "-y", "-qq", "--download-only", package])?;
        }
        unpack(&state.join("cache/archives"), &self.root(), self.unpacked)?;
        fs::remove_dir_all(state)?;
        Ok(())
    }

    /// A command that runs a program of these, for example `usr/sbin/chronyd`, with their own libraries. `preload` is a
    /// library to load before all others.
    ///
    /// # Errors
    /// When there is no dynamic loader.
    pub fn command(&self, program: &str, preload: Option<&Path>) -> Result<Command> {
        let root = self.root();
        let mut command = Command::new(loader(&root)?);
        let folders: Vec<String> =
            library_folders(&root).iter().map(|path| path.display().to_string()).collect();
        command.arg("--library-path").arg(folders.join(":"));
        if let Some(library) = preload {
            command.arg("--preload").arg(library);
        }
        command.arg(root.join(program));
        Ok(command)
    }
}

/// The folder for what is downloaded once per machine; git ignores it.
fn lab() -> PathBuf {
    root().join(".lab")
}

fn write_apt_configuration(suite: Suite, apt: &Path) -> Result<PathBuf> {
    for name in ["lists/partial", "cache/archives/partial", "state", "preferences.d", "apt.conf.d"] {
        fs::create_dir_all(apt.join(name))?;
    }
    fs::write(apt.join("status"), "")?;
    let keyring = "/usr/share/keyrings/debian-archive-keyring.gpg";
    let source = format!("deb [signed-by={keyring}] {} {} main\n", mirror()?, suite.name());
    fs::write(apt.join("sources.list"), source)?;
    let dir = apt.display();
    let text = format!(
        "Dir::Etc \"{dir}\";\nDir::Etc::sourcelist \"{dir}/sources.list\";\nDir::Etc::sourceparts \"-\";\n\
         Dir::State \"{dir}/state\";\nDir::State::status \"{dir}/status\";\nDir::State::lists \"{dir}/lists\";\n\
         Dir::Cache \"{dir}/cache\";\nAPT::Install-Recommends \"false\";\nAPT::Sandbox::User \"\";\n\
         Acquire::Languages \"none\";\nAcquire::Retries \"3\";\n"
    );
    let path = apt.join("apt.conf");
    fs::write(&path, text)?;
    Ok(path)
}

/// Where this machine gets its own Debian packages from: the mirror that its administrator chose has all suites.
fn mirror() -> Result<String> {
    let mut files = vec![PathBuf::from("/etc/apt/sources.list")];
    if let Ok(entries) = fs::read_dir("/etc/apt/sources.list.d") {
        files.extend(entries.filter_map(|entry| Some(entry.ok()?.path())));
    }
    let texts = files.iter().filter_map(|path| fs::read_to_string(path).ok());
    texts
        .filter_map(|text| mirror_in(&text))
        .next()
        .context("no mirror of Debian among the sources in /etc/apt: add one, or run this on Debian")
}

/// The first mirror of Debian's main archive that a file of apt's names, in either of its formats.
fn mirror_in(sources: &str) -> Option<String> {
    let lines =
        sources.lines().map(str::trim).filter(|line| line.starts_with("deb ") || line.starts_with("URIs:"));
    let mut words = lines.flat_map(str::split_whitespace);
    words
        .find(|word| word.contains("://") && word.trim_end_matches('/').ends_with("/debian"))
        .map(str::to_owned)
}

fn apt(configuration: &Path, arguments: &[&str]) -> Result<()> {
    let mut command = Command::new("apt-get");
    command.env("APT_CONFIG", configuration).env("DEBIAN_FRONTEND", "noninteractive").args(arguments);
    run(&mut command)
}

/// What is asked for, and none of the rest of a system; nobody here runs Perl.
fn unpack(archives: &Path, root: &Path, wanted: &[&str]) -> Result<()> {
    for name in ["bin", "sbin", "lib", "lib64"] {
        fs::create_dir_all(root.join("usr").join(name))?;
        symlink(Path::new("usr").join(name), root.join(name))?;
    }
    for entry in fs::read_dir(archives)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name.ends_with(".deb")
            && wanted.iter().any(|start| name.starts_with(start))
            && !name.contains("perl")
        {
            run(Command::new("dpkg").arg("-x").arg(&path).arg(root))?;
        }
    }
    Ok(())
}

/// Runs a command to its end; the error has the command and the end of what it printed.
///
/// # Errors
/// When it cannot be started, or fails.
pub fn run(command: &mut Command) -> Result<()> {
    let text = format!("{command:?}");
    let output = command.output().with_context(|| format!("cannot run {text}"))?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{text} failed ({}): {}", output.status, stderr.trim());
    Ok(())
}

/// The suite's own `ld-linux*`.
fn loader(root: &Path) -> Result<PathBuf> {
    let mut folders =
        vec![root.join("lib64"), root.join("lib"), root.join("usr/lib64"), root.join("usr/lib")];
    folders.extend(library_folders(root));
    let found =
        folders.iter().flat_map(|folder| entries(folder)).find(|path| name_of(path).starts_with("ld-linux"));
    found.with_context(|| format!("no dynamic loader below {}", root.display()))
}

/// `lib/x86_64-linux-gnu` or whatever this machine's is called, in both places.
#[must_use]
pub fn library_folders(root: &Path) -> Vec<PathBuf> {
    let places = [root.join("usr/lib"), root.join("lib")];
    places
        .iter()
        .flat_map(|place| entries(place))
        .filter(|path| name_of(path).contains("-linux-gnu"))
        .collect()
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten();
    entries.filter_map(Result::ok).map(|entry| entry.path()).collect()
}

fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mirror_is_read_from_both_formats_and_nothing_else_is_taken_for_one() {
        let old = "# deb http://old.example/debian x\ndeb [arch=amd64] http://mirror.example/debian/ bookworm main\n";
        assert_eq!(mirror_in(old).as_deref(), Some("http://mirror.example/debian/"));
        let new =
            "Types: deb\nURIs: http://s.example/debian-security http://m.example/debian\nSuites: bookworm\n";
        assert_eq!(mirror_in(new).as_deref(), Some("http://m.example/debian"));
        assert_eq!(mirror_in("deb https://packages.example/apt sdk main\n"), None);
    }
}
