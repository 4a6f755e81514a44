//! Where things are in the working tree.

use anyhow::{Result, bail};
use std::path::{Path, PathBuf};

/// The root of the working tree.
pub(crate) fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).unwrap_or(here).to_owned()
}

/// The folder for what is downloaded once per machine; git ignores it.
pub(crate) fn lab() -> PathBuf {
    root().join(".lab")
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
