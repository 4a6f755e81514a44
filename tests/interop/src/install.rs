//! The peers, from Debian's archive.

use anyhow::{Context, Result};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
pub(crate) use truechimer_test_support::debian::run;
use truechimer_test_support::debian::{self, Unpacked, library_folders};

/// A Debian release whose peers we test against.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Suite {
    /// Debian 12: chrony 4.3 (AEAD 15 only), NTPsec 1.2.2, gpsd 3.22.
    Bookworm,
    /// Debian 13: chrony 4.6.1 (AEAD 30, record 1024), NTPsec 1.2.3, ntpd-rs 1.4.
    Trixie,
}

/// Libraries, the daemons, and the Python that ntpq is written in.
const UNPACKED: &[&str] = &["lib", "chrony", "ntpsec", "ntpd-rs", "gpsd", "python3", "zlib"];

impl Suite {
    /// chrony and NTPsec conflict as packages, so each is resolved alone.
    const fn peers(self) -> Unpacked {
        let (suite, folder, packages): (_, _, &[&str]) = match self {
            Self::Bookworm => {
                (debian::Suite::Bookworm, "bookworm", &["chrony", "ntpsec", "ntpsec-ntpdig", "gpsd"])
            }
            Self::Trixie => {
                (debian::Suite::Trixie, "trixie", &["chrony", "ntpsec", "ntpsec-ntpdig", "ntpd-rs"])
            }
        };
        Unpacked { folder, suite, packages, unpacked: UNPACKED }
    }

    /// The root of the unpacked packages.
    pub(crate) fn root(self) -> PathBuf {
        self.peers().root()
    }

    /// A command that runs a program of this suite, for example `usr/sbin/chronyd`, with this
    /// suite's own libraries. `preload` is a library to load before all others.
    pub(crate) fn command(self, program: &str, preload: Option<&Path>) -> Result<Command> {
        self.peers().command(program, preload)
    }
}

/// Makes what is missing; says so when it does.
pub(crate) fn all() -> Result<()> {
    for suite in [Suite::Bookworm, Suite::Trixie] {
        suite.peers().ensure()?;
        link_ntpq_library(&suite.root())?;
    }
    Ok(())
}

/// ntpq looks for its library beside its own modules before it looks at the system's.
fn link_ntpq_library(root: &Path) -> Result<()> {
    let name = "libntpc.so";
    let folders = library_folders(root).into_iter().map(|folder| folder.join("ntp"));
    let library = folders.map(|folder| folder.join(name)).find(|path| path.exists());
    let library = library.context("NTPsec's package has no libntpc.so")?;
    let link = root.join("usr/lib/python3/dist-packages/ntp").join(name);
    if !link.exists() {
        symlink(library, link)?;
    }
    Ok(())
}
