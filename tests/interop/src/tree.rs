//! Where things are in the working tree.

use anyhow::{Context, Result, bail, ensure};
use std::path::PathBuf;
use std::process::Command;
pub(crate) use truechimer_test_support::root;

/// Builds the daemon and the command, in the profile of this program.
pub(crate) fn build_own_programs() -> Result<()> {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root()).args(["build", "--quiet", "--package", "chimed", "--package", "chime"]);
    if !cfg!(debug_assertions) {
        command.arg("--release");
    }
    let status = command.status().context("cannot run cargo")?;
    ensure!(status.success(), "our own programs do not build");
    Ok(())
}

/// Builds the tools of ntpd-rs's newest release.
pub(crate) fn build_ntpd_rs_tools() -> Result<()> {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(["build", "--quiet", "--locked", "--manifest-path"]);
    command.arg(root().join("tests/interop/ntpd-rs/Cargo.toml"));
    command.arg("--target-dir").arg(ntpd_rs_tools()?);
    let status = command.status().context("cannot run cargo")?;
    ensure!(status.success(), "the tools of ntpd-rs do not build");
    Ok(())
}

/// A tool of ntpd-rs's newest release.
pub(crate) fn ntpd_rs_tool(name: &str) -> Result<Command> {
    Ok(Command::new(ntpd_rs_tools()?.join("debug").join(name)))
}

/// Where they are built: a place of their own, as their dependencies are.
fn ntpd_rs_tools() -> Result<PathBuf> {
    let own = std::env::current_exe()?;
    let target = own.ancestors().nth(2).context("this program lies in no target directory")?;
    Ok(target.join("ntpd-rs"))
}

/// A program of ours, built beside this one.
pub(crate) fn own_program(name: &str) -> Result<PathBuf> {
    let own = std::env::current_exe()?;
    let path = own.with_file_name(name);
    if !path.is_file() {
        bail!("{} is missing: build it with `cargo build --package {name}`", path.display());
    }
    Ok(path)
}
