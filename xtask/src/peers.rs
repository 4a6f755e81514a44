//! `install-peers`: what the interop and guest tests need from the distribution.
//!
//! System packages are installed when something is missing and we may; the peers themselves
//! are unpacked into `.lab/` of the tree by the interop tests' own installer, so that no
//! service of theirs ever starts on this machine.

use crate::Outcome;
use crate::workspace::{cargo, root};
use anyhow::{Context, Result};
use std::path::Path;
use std::process::Command;

/// A program that the tests run, and the Debian package that has it.
struct Tool {
    program: &'static str,
    package: &'static str,
}

const TOOLS: &[Tool] = &[
    Tool { program: "ip", package: "iproute2" },
    Tool { program: "setpriv", package: "util-linux" },
    Tool { program: "nsenter", package: "util-linux" },
    Tool { program: "cc", package: "gcc" },
    Tool { program: "dpkg", package: "dpkg" },
    Tool { program: "linux.uml", package: "user-mode-linux" },
    Tool { program: "insmod", package: "kmod" },
    Tool { program: "python3", package: "python3-minimal" },
];

/// Installs what is missing and says what it did.
pub(crate) fn run(_arguments: &[String]) -> Result<Outcome> {
    install_packages()?;
    let status = Command::new(cargo())
        .current_dir(root())
        .args(["run", "--quiet", "--package", "truechimer-interop", "--", "install"])
        .status()
        .context("cannot run the interop tests' installer")?;
    Ok(Outcome::from_failures(usize::from(!status.success())))
}

/// Missing programs are reported, not fatal: the test that needs one fails and says so.
fn install_packages() -> Result<()> {
    let mut packages: Vec<&str> =
        TOOLS.iter().filter(|tool| !is_installed(tool.program)).map(|tool| tool.package).collect();
    packages.dedup();
    if packages.is_empty() {
        println!("install-peers: every program that the tests need is here");
        return Ok(());
    }
    let Some(prefix) = privilege() else {
        println!("install-peers: not allowed to install {}: please do", packages.join(" "));
        return Ok(());
    };
    println!("install-peers: installing {}", packages.join(" "));
    apt(&prefix, &["update", "-qq"])?;
    let mut arguments = vec!["install", "-y", "-qq", "--no-install-recommends"];
    arguments.extend(packages);
    apt(&prefix, &arguments)
}

fn apt(prefix: &[&str], arguments: &[&str]) -> Result<()> {
    let words: Vec<&str> =
        prefix.iter().copied().chain(["apt-get"]).chain(arguments.iter().copied()).collect();
    let status = Command::new(words[0])
        .args(&words[1..])
        .env("DEBIAN_FRONTEND", "noninteractive")
        .status()
        .with_context(|| format!("cannot run {}", words.join(" ")))?;
    if !status.success() {
        println!("install-peers: `{}` failed ({status})", words.join(" "));
    }
    Ok(())
}

/// The words before a command that needs root: none as root, `sudo -n` where that works.
fn privilege() -> Option<Vec<&'static str>> {
    let prints = |program: &str, arguments: &[&str]| {
        let output = Command::new(program).args(arguments).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    if prints("id", &["-u"]).as_deref() == Some("0") {
        return Some(Vec::new());
    }
    prints("sudo", &["-n", "id", "-u"]).is_some_and(|user| user == "0").then(|| vec!["sudo", "-n"])
}

/// Looks in `PATH`, and where programs for root are that a user's `PATH` may leave out.
fn is_installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let extra = ["/usr/sbin", "/sbin"].map(|folder| Path::new(folder).to_owned());
    std::env::split_paths(&path).chain(extra).any(|folder| folder.join(program).is_file())
}
