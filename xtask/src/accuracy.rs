//! `cargo xtask accuracy`: the error of the clock in steady state, next to recorded figures of other daemons.

use crate::Outcome;
use crate::workspace::{cargo, root};
use anyhow::Context;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Passes its arguments on: `--json`, `--quick`, `--seeds COUNT`, `--world FILE`, `--only CELLS`, `--draw REPORT PICTURE`.
pub(crate) fn run(arguments: &[String]) -> anyhow::Result<Outcome> {
    let folder = std::env::current_dir().context("cannot tell the current folder")?;
    let status = Command::new(cargo())
        .args(["run", "--quiet", "--release", "--package", "chime-sim", "--", "accuracy"])
        .args(with_absolute_paths(arguments, &folder))
        .current_dir(root())
        .status()
        .context("cannot run cargo")?;
    Ok(Outcome::from_failures(usize::from(!status.success())))
}

/// The same arguments, with files named from the root of the file system: the simulator runs elsewhere.
fn with_absolute_paths(arguments: &[String], folder: &Path) -> Vec<PathBuf> {
    let follows = |index: usize, distance: usize, option: &str| {
        index.checked_sub(distance).is_some_and(|place| arguments[place] == option)
    };
    let is_file = |index: usize| {
        follows(index, 1, "--world") || follows(index, 1, "--draw") || follows(index, 2, "--draw")
    };
    arguments
        .iter()
        .enumerate()
        .map(|(index, argument)| if is_file(index) { folder.join(argument) } else { PathBuf::from(argument) })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_world_file_is_found_from_where_the_command_was_given() {
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        let passed =
            with_absolute_paths(&words(&["--json", "--world", "a.toml", "--quick"]), Path::new("/home"));
        assert_eq!(passed, ["--json", "--world", "/home/a.toml", "--quick"].map(PathBuf::from));
        let passed =
            with_absolute_paths(&words(&["--draw", "a.json", "/b.svg", "--quick"]), Path::new("/home"));
        assert_eq!(passed, ["--draw", "/home/a.json", "/b.svg", "--quick"].map(PathBuf::from));
    }
}
