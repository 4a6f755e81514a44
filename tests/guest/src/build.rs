//! Building what is tested.

use anyhow::{Context, Result, ensure};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The workspace's folder.
pub(crate) fn root() -> Result<PathBuf> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).map(Path::to_owned).context("the workspace's folder")
}

/// Where cargo puts what it builds, and where the scenarios keep their files.
pub(crate) fn target() -> Result<PathBuf> {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| PathBuf::from("target"), PathBuf::from);
    Ok(root()?.join(target))
}

/// Our daemon: the one in `TRUECHIMER_CHIMED`, or the workspace's, built now.
pub(crate) fn chimed() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("TRUECHIMER_CHIMED") {
        return Ok(path.into());
    }
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo)
        .args(["build", "--quiet", "--package", "chimed"])
        .current_dir(root()?)
        .status()
        .context("running cargo")?;
    ensure!(status.success(), "chimed does not build");
    Ok(target()?.join("debug/chimed"))
}
