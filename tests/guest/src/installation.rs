//! What the scenarios need of the distribution, installed when it is missing and we may.

use anyhow::{Context, Result, ensure};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Programs, and the Debian packages that have them.
const TOOLS: [(&str, &str); 4] =
    [("linux.uml", "user-mode-linux"), ("ip", "iproute2"), ("unshare", "util-linux"), ("insmod", "kmod")];

/// Makes sure that everything is there; says what was installed.
pub(crate) fn ensure_tools() -> Result<()> {
    let missing: Vec<&str> =
        TOOLS.iter().filter(|(program, _)| !is_installed(program)).map(|(_, package)| *package).collect();
    if !missing.is_empty() {
        println!("installing {}", missing.join(" "));
        apt(&["update", "-qq"]);
        apt(&[&["install", "-y", "-qq", "--no-install-recommends"][..], &missing].concat());
    }
    for (program, package) in TOOLS {
        ensure!(is_installed(program), "{program} is missing: install the package {package}");
    }
    ensure!(Path::new("/dev/net/tun").exists(), "/dev/net/tun is missing: the kernel's module tun is needed");
    Ok(())
}

/// A failure shows in what is still missing afterwards.
fn apt(arguments: &[&str]) {
    let root = nix::unistd::geteuid().is_root();
    let mut words = if root { vec![] } else { vec!["sudo", "-n"] };
    words.push("apt-get");
    words.extend(arguments);
    let result = Command::new(words[0]).args(&words[1..]).env("DEBIAN_FRONTEND", "noninteractive").status();
    if !result.is_ok_and(|status| status.success()) {
        println!("`{}` failed", words.join(" "));
    }
}

fn is_installed(program: &str) -> bool {
    find(program).is_ok()
}

/// Looks in `PATH`, and where programs for root are that a user's `PATH` may leave out.
pub(crate) fn find(program: &str) -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let more = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    let mut places = std::env::split_paths(&path).chain(more).map(|folder| folder.join(program));
    places.find(|place| place.is_file()).with_context(|| format!("there is no {program}"))
}
