//! Namespaces for a whole run: mounts, network, processes and, without root, users.
//!
//! A run re-enters this program as process 1 of a new process namespace. When it ends in any
//! way, the kernel kills what it started and forgets its networks and mounts: nothing is left to
//! clean up. CAP_SYS_TIME is dropped on the way in, so that no peer can touch the machine's
//! clock whatever its configuration says.

use crate::install::run;
use anyhow::{Context, Result};
use nix::unistd::Uid;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Names that scenarios use, the same in every network: `(name, last part of the address)`.
const NODES: &[(&str, u8)] = &[("server", 1), ("client", 2), ("middle", 3), ("source", 4), ("other", 5)];

/// The nodes that `pool.test` stands for.
pub(crate) const POOL: &[u8] = &[1, 4, 5];

/// An address in every network at which nobody answers.
const NOBODY: u8 = 99;

/// Runs `command` of this program in a sandbox; true when it succeeds.
pub(crate) fn reenter(command: &str, arguments: &[String]) -> Result<bool> {
    let mut unshare = Command::new("unshare");
    unshare.args(["--mount", "--net", "--ipc", "--pid", "--fork", "--kill-child", "--mount-proc"]);
    if !Uid::effective().is_root() {
        unshare.args(["--user", "--map-root-user"]);
    }
    unshare.args(["setpriv", "--bounding-set", "-sys_time", "--inh-caps", "-sys_time"]);
    unshare.arg(std::env::current_exe()?).arg(command).args(arguments);
    let status = unshare.status().context("cannot run unshare (package util-linux)")?;
    Ok(status.success())
}

/// The folder for everything that a run writes: a tmpfs, so that socket paths stay short.
pub(crate) fn folder() -> PathBuf {
    PathBuf::from("/run/lab")
}

/// Prepares a fresh sandbox: its own loopback, /run and /var/lib empty, and name resolution by hosts file only.
pub(crate) fn prepare() -> Result<()> {
    run(Command::new("ip").args(["link", "set", "lo", "up"]))?;
    run(Command::new("mount").args(["-t", "tmpfs", "tmpfs", "/run"]))?;
    // What a daemon keeps where it usually does is not for the next run, and not for the machine.
    run(Command::new("mount").args(["-t", "tmpfs", "tmpfs", "/var/lib"]))?;
    fs::create_dir_all(folder())?;
    fs::create_dir_all("/run/netns")?;
    bind("hosts", &hosts())?;
    bind("nsswitch.conf", "hosts: files\n")?;
    if Path::new("/etc/resolv.conf").exists() {
        bind("resolv.conf", "nameserver 127.0.0.1\n")?;
    }
    Ok(())
}

fn bind(name: &str, text: &str) -> Result<()> {
    let path = folder().join(name);
    fs::write(&path, text)?;
    let target = Path::new("/etc").join(name);
    run(Command::new("mount").arg("--bind").arg(&path).arg(&target))
}

/// `NAME.test` has both families, `NAME4.test` and `NAME6.test` one each, and
/// `half-dead.test` is the server with an IPv6 address that leads nowhere, `pool.test` are [`POOL`].
fn hosts() -> String {
    let mut text = String::from("127.0.0.1 localhost\n::1 localhost\n");
    for (name, host) in NODES {
        let (v4, v6) = (crate::network::v4(*host), crate::network::v6(*host));
        // chrony ends the names that it negotiates with a dot, and this file is matched literally.
        text += &format!(
            "{v6} {name}.test {name}6.test {name}6.test.\n{v4} {name}.test {name}4.test {name}4.test.\n"
        );
    }
    for host in POOL {
        text += &format!("{} pool.test\n", crate::network::v4(*host));
    }
    let (v4, dead) = (crate::network::v4(1), crate::network::v6(NOBODY));
    text += &format!("{dead} half-dead.test\n{v4} half-dead.test\n");
    text
}
