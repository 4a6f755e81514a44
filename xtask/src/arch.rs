//! `arch`: is the house still built as ARCHITECTURE.md says?
//!
//! Two checks: the arrows between the crates ([`layers`]), and what the sources of the pure
//! crates do ([`scan`]). Both are functions from values to complaints, so that their own
//! tests can show them bad samples.

mod layers;
mod scan;

pub(crate) use layers::pure_crates;

use crate::Outcome;
use crate::workspace::{Metadata, root, rust_files};
use anyhow::{Context, Result};
use std::path::Path;

/// Checks the whole workspace and prints one line per complaint.
pub(crate) fn run(_arguments: &[String]) -> Result<Outcome> {
    let complaints = complaints()?;
    for complaint in &complaints {
        eprintln!("arch: {complaint}");
    }
    println!("arch: {} complaints", complaints.len());
    Ok(Outcome::from_failures(complaints.len()))
}

/// Everything that is wrong, in the order of the crates.
fn complaints() -> Result<Vec<String>> {
    let metadata = Metadata::load(false)?;
    let mut complaints = layers::check(&metadata.members().cloned().collect::<Vec<_>>());
    for package in metadata.members() {
        let kind = layers::kind(&package.name);
        complaints.extend(scan_crate(package.folder(), kind)?);
        if kind.is_pure() && !package.folder().join("clippy.toml").exists() {
            complaints
                .push(format!("{}: a pure crate needs a clippy.toml with disallowed-methods", package.name));
        }
    }
    Ok(complaints)
}

/// Scans every source file of one crate. Integration tests and benches are left to do as they
/// please; modules that exist only under `cfg(test)` too.
fn scan_crate(folder: &Path, kind: layers::Kind) -> Result<Vec<String>> {
    let root = root();
    let mut complaints = Vec::new();
    let mut sources = Vec::new();
    for path in rust_files(&folder.join("src"))? {
        let text =
            std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let name = path.strip_prefix(&root).unwrap_or(&path).display().to_string();
        match scan::Source::parse(&name, &text) {
            Ok(source) => sources.push((path, source)),
            Err(error) => complaints.push(format!("{name}: {error}")),
        }
    }
    let test_only: Vec<_> =
        sources.iter().flat_map(|(path, source)| scan::test_module_paths(path, source)).collect();
    for (path, source) in &sources {
        if !test_only.iter().any(|prefix| path.starts_with(prefix) || path == &prefix.with_extension("rs")) {
            complaints.extend(source.complaints(kind));
        }
    }
    if kind.is_pure() {
        let library = sources.iter().find(|(path, _)| path.ends_with("src/lib.rs"));
        complaints.extend(library.into_iter().flat_map(|(_, source)| source.library_complaints(kind)));
    }
    Ok(complaints)
}

#[cfg(test)]
mod tests {
    #[test]
    fn this_workspace_is_built_as_planned() {
        assert_eq!(super::complaints().unwrap(), Vec::<String>::new());
    }
}
