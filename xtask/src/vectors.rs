//! `vectors FOLDER`: checks recorded exchanges with real daemons, of the schema that tests/vectors reads.

use crate::Outcome;
use crate::workspace::cargo;
use anyhow::{Context, Result, ensure};
use std::process::Command;

/// Runs the checker, so that this program need not be linked with everything that it checks.
pub(crate) fn run(arguments: &[String]) -> Result<Outcome> {
    ensure!(arguments.len() == 1, "usage: cargo xtask vectors FOLDER");
    let status = Command::new(cargo())
        .args(["run", "--quiet", "--package", "truechimer-vectors", "--"])
        .args(arguments)
        .status()
        .context("cannot run cargo")?;
    Ok(Outcome::from_failures(usize::from(!status.success())))
}
